//! CORS: preflights answered by the router, and fields on responses of endpoint and router alike.

use ekiden_tests::{Client, Echo, Ekiden, Origin, Response, Served, Setup, cluster, until_true, web};

use super::{ask, serve};

const LISTED: &str = "cors = { origins = [\"https://a.example\", \"https://*.b.example\"], methods = [\"PUT\"], \
                      headers = [\"X-One\", \"authorization\"], expose = [\"X-Two\"], credentials = true, max_age = \"10m\" }";

fn preflight(client: &mut Client, target: &str, origin: &str, method: &str, more: &str) -> Response {
    let fields = format!("Origin: {origin}\r\nAccess-Control-Request-Method: {method}\r\n{more}");
    ask(client, &format!("OPTIONS {target}"), &fields)
}

#[test]
fn preflights_are_answered_by_the_router() {
    let echo = Echo::start("one");
    let router = serve(&echo, &format!("methods = [\"GET\", \"PUT\"]\n{LISTED}"), "");
    let mut client = router.client();
    let headers = "Access-Control-Request-Headers: x-one\r\n";
    for origin in ["https://a.example", "https://x.b.example", "https://y.x.b.example"] {
        let response = preflight(&mut client, "/", origin, "PUT", headers);
        assert_eq!((response.status, response.body.len()), (204, 0), "{origin}");
        for (name, value) in [
            ("access-control-allow-origin", origin),
            ("access-control-allow-credentials", "true"),
            ("access-control-allow-methods", "GET, HEAD, POST, PUT"),
            ("access-control-allow-headers", "x-one, authorization"),
            ("access-control-max-age", "600"),
            ("vary", "Origin"),
        ] {
            assert_eq!(response.all(name), [value], "{origin}: {name}");
        }
        assert_eq!(response.get("access-control-expose-headers"), None);
    }
    for origin in
        ["https://c.example", "http://a.example", "https://a.example:8443", "https://b.example", "null"]
    {
        let response = preflight(&mut client, "/", origin, "PUT", headers);
        assert_eq!((response.status, response.code()), (403, "cors_denied"), "{origin}");
        assert_eq!(response.get("access-control-allow-origin"), None, "{origin}");
        assert_eq!(response.all("vary"), ["Origin"], "{origin}");
    }
    assert_eq!(echo.requests(), 0, "no endpoint is asked");
    until_true("the counts", || {
        let of = |result: &str| router.metric("ekiden_entrance_total", &["step=\"preflight\"", result]);
        (of("result=\"allowed\""), of("result=\"refused\"")) == (3.0, 5.0)
    });
    let records = router.records(8);
    assert_eq!((&records[0]["code"], &records[0]["status"]), (&"complete".into(), &204.into()));
    assert_eq!(records[7]["code"], "cors_denied");
}

#[test]
fn a_preflight_is_judged_as_the_request_it_asks_about() {
    let echo = Echo::start("one");
    // Two routes on one path: the method that is asked for decides whose words count.
    let routes = "methods = [\"GET\"]\n\
         [[route]]\ncluster = \"web\"\nmethods = [\"PUT\"]\nallow = { methods = [\"PUT\"] }\nlimit = [{ rate = \"2/h\" }]\n\
         cors = { origins = [\"*\"], methods = [\"PUT\"] }\n\
         [[route]]\ncluster = \"web\"\npath = \"/closed\"\nmethods = [\"PUT\"]\ndeny = { clients = [\"127.0.0.0/8\"] }\n\
         cors = { origins = [\"*\"] }\n";
    let router = serve(&echo, routes, "");
    let mut client = router.client();
    let response = preflight(&mut client, "/", "https://a.example", "PUT", "");
    assert_eq!((response.status, response.get("access-control-allow-origin")), (204, Some("*")));
    assert_eq!((response.get("vary"), response.get("access-control-allow-credentials")), (None, None));
    // The route of GET has no CORS, and takes no OPTIONS.
    let response = preflight(&mut client, "/", "https://a.example", "GET", "");
    assert_eq!((response.status, response.code()), (405, "method_not_allowed"));
    // What the route does not let in gets no permission, and says so to the page.
    let response = preflight(&mut client, "/closed", "https://a.example", "PUT", "");
    assert_eq!((response.status, response.code()), (403, "client_denied"));
    assert_eq!(response.get("access-control-allow-origin"), Some("*"));
    // It counts at the limits of the route.
    assert_eq!(preflight(&mut client, "/", "https://a.example", "PUT", "").status, 204);
    assert_eq!(preflight(&mut client, "/", "https://a.example", "PUT", "").code(), "rate_limited");
    assert_eq!(echo.requests(), 0);
}

#[test]
fn what_is_no_preflight_goes_to_the_endpoint() {
    let echo = Echo::start("one");
    let router = serve(&echo, LISTED, "");
    let mut client = router.client();
    for fields in [
        "",
        "Origin: https://a.example\r\n",
        "Access-Control-Request-Method: PUT\r\n",
        "Origin: https://a.example\r\nOrigin: https://a.example\r\nAccess-Control-Request-Method: PUT\r\n",
        "Origin: https://a.example\r\nAccess-Control-Request-Method: P T\r\n",
    ] {
        assert_eq!(ask(&mut client, "OPTIONS /", fields).status, 200, "{fields}");
    }
    assert_eq!(echo.requests(), 5);
}

#[test]
fn the_fields_of_the_endpoint_are_replaced() {
    let origin = Origin::start(|conn| {
        while let Some(request) = conn.request() {
            let vary =
                if request.target() == "/vary" { "Vary: accept, origin\r\n" } else { "Vary: Accept\r\n" };
            conn.send(format!(
                "HTTP/1.1 200 OK\r\n{vary}access-control-allow-origin: *\r\nAccess-Control-Allow-Credentials: true\r\n\
                 Access-Control-Expose-Headers: X-Three\r\nX-Two: 2\r\nContent-Length: 0\r\n\r\n"
            ));
        }
    });
    let routes = format!(
        "{LISTED}\nrequest_headers = {{ remove = [\"Origin\"] }}\n[[route]]\npath = \"/plain\"\ncluster = \"web\"\n\
         [[route]]\npath = \"/any\"\ncluster = \"web\"\ncors = {{ origins = [\"*\"] }}\n"
    );
    let router = Ekiden::start(Setup::new(web(&[origin.address], "", &routes)));
    let mut client = router.client();
    let response = ask(&mut client, "GET /", "Origin: https://a.example\r\n");
    assert_eq!(response.all("access-control-allow-origin"), ["https://a.example"]);
    assert_eq!(response.all("access-control-allow-credentials"), ["true"]);
    assert_eq!(response.all("access-control-expose-headers"), ["x-two"]);
    assert_eq!(response.all("vary"), ["Accept", "Origin"]);
    // No permission, and caches are told that another origin may have one.
    for fields in ["Origin: https://c.example\r\n", ""] {
        let response = ask(&mut client, "GET /", fields);
        assert_eq!(response.status, 200);
        assert_eq!(response.all("vary"), ["Accept", "Origin"], "{fields}");
        for name in [
            "access-control-allow-origin",
            "access-control-allow-credentials",
            "access-control-expose-headers",
        ] {
            assert_eq!(response.get(name), None, "{fields}: {name}");
        }
    }
    assert_eq!(ask(&mut client, "GET /vary", "").all("vary"), ["accept, origin"]);
    // What is said to everyone is said to all: a cache keeps one response for pages and others.
    for fields in ["", "Origin: https://c.example\r\n"] {
        let response = ask(&mut client, "GET /any", fields);
        assert_eq!(
            (response.all("access-control-allow-origin"), response.all("vary")),
            (vec!["*"], vec!["Accept"]),
            "{fields}"
        );
    }
    // Without CORS the endpoint's own fields stand.
    let response = ask(&mut client, "GET /plain", "Origin: https://c.example\r\n");
    assert_eq!(response.all("access-control-allow-origin"), ["*"]);
}

#[test]
fn responses_of_the_router_can_be_read_too() {
    let echo = Echo::start("one");
    let text = format!(
        "{}[[route]]\npath = \"/limited\"\ncluster = \"web\"\nlimit = [{{ rate = \"1/h\" }}]\n\
         [[route]]\npath = \"/fixed\"\nrespond = {{ body = \"x\" }}\n\
         [[route]]\npath = \"/moved\"\nredirect = {{ path = \"/x\" }}\n\
         [[route]]\npath = \"/empty\"\ncluster = \"empty\"\n[[route]]\npath = \"/none\"\nrespond = {{}}\ncors = \"off\"\n",
        cluster("web", &[echo.address], "") + &cluster("empty", &[], "")
    );
    let router = Ekiden::start(Setup::new(text).top("cors = { origins = [\"https://a.example\"] }"));
    let mut client = router.client();
    assert_eq!(ask(&mut client, "GET /limited", "").status, 200);
    for (target, status) in [("/limited", 429), ("/fixed", 200), ("/moved", 308), ("/empty", 503)] {
        let response = ask(&mut client, &format!("GET {target}"), "Origin: https://a.example\r\n");
        assert_eq!(response.status, status, "{target}");
        assert_eq!(response.all("access-control-allow-origin"), ["https://a.example"], "{target}");
        assert_eq!(response.all("vary"), ["Origin"], "{target}");
    }
    let response = ask(&mut client, "GET /none", "Origin: https://a.example\r\n");
    assert_eq!((response.get("access-control-allow-origin"), response.get("vary")), (None, None));
}
