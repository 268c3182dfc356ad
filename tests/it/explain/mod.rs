//! `GET /v1/explain` and `ekiden explain` over the real binary: what they say of a request is what becomes of it.

use std::process::Command;

use ekiden_tests::{Client, Echo, Ekiden, Seen, Served, Setup, Stamped, binary, finished, until_true, web};
use serde_json::Value;

/// Percent-encoded.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// Asks with these parameters.
fn explain(router: &Ekiden, parameters: &[(&str, &str)]) -> Value {
    let query: Vec<String> =
        parameters.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    let answer = router.control("GET", &format!("/v1/explain?{}", query.join("&")), "");
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// The rule of this name.
fn rule<'v>(told: &'v Value, name: &str) -> &'v Value {
    let rules = told["rules"].as_array().unwrap();
    rules.iter().find(|rule| rule["route"] == name).unwrap_or_else(|| panic!("no {name} in {told}"))
}

/// The conditions of a rule that fail.
fn failing(rule: &Value) -> Vec<&str> {
    let checks = rule["checks"].as_array().unwrap().iter();
    checks.filter(|check| check["holds"] == false).map(|check| check["of"].as_str().unwrap()).collect()
}

/// A router with an origin for each cluster, whose answers are their names.
struct Shop {
    web: Stamped,
    _admin: Stamped,
    router: Ekiden,
}

fn shop() -> Shop {
    let (web, admin) = (Stamped::start("web"), Stamped::start("admin"));
    let text = format!(
        r#"
[cluster.web]
endpoints = [{{ id = "w1", address = "{}" }}]
[cluster.admin]
endpoints = [{{ id = "a1", address = "{}" }}]
slots = 4
breaker = {{ requests = 9 }}
[[route]]
name = "admin"
host = "shop.test"
path = "/admin"
methods = ["GET"]
headers = {{ x-role = "boss" }}
query = {{ debug = {{ present = true }} }}
cookies = {{ seen = {{ present = true }} }}
cluster = "admin"
retry = {{ on = ["connect", "503"], attempts = 2 }}
hedge = {{ percentile = 90 }}
priority = "high"
[[route]]
name = "closed"
host = "shop.test"
path = "/closed"
deny = {{ clients = ["203.0.113.0/24"] }}
cluster = "web"
[[route]]
name = "all"
host = "shop.test"
cluster = "web"
[[route]]
name = "wide"
host = "*.test"
cluster = "web"
[[route]]
name = "other"
host = "other.example"
cluster = "web"
"#,
        web.address, admin.address
    );
    let router = Ekiden::start(Setup::new(text));
    Shop { web, _admin: admin, router }
}

/// What a client is answered.
fn asked(router: &Ekiden, head: &str) -> (u16, String) {
    let mut client: Client = router.client();
    let answer = client.ask(format!("{head}\r\n\r\n"));
    (answer.status, if answer.status == 200 { answer.text() } else { answer.code().to_owned() })
}

#[test]
fn which_route_takes_it_and_why_the_others_do_not() {
    let Shop { web, router, _admin } = shop();
    let before = web.requests();
    let told = explain(&router, &[("url", "http://shop.test/admin/x?a=1"), ("header", "X-Role: clerk")]);
    assert_eq!((&told["verdict"]["kind"], &told["verdict"]["route"]), (&"route".into(), &"all".into()));
    assert_eq!(told["request"]["path"], "/admin/x");
    assert_eq!(told["listener"]["name"], "edge");
    let admin = rule(&told, "admin");
    assert_eq!(admin["standing"], "fails");
    assert_eq!(failing(admin), ["header", "query", "cookie"], "path and method hold: {admin}");
    assert_eq!(failing(rule(&told, "closed")), ["path"]);
    assert_eq!(rule(&told, "all")["standing"], "taken");
    assert_eq!(rule(&told, "wide")["standing"], "other_host", "a more specific host decides");
    assert_eq!(failing(rule(&told, "other")), ["host"]);
    assert_eq!(web.requests(), before, "an explanation sent a request");
    assert_eq!(asked(&router, "GET /admin/x?a=1 HTTP/1.1\r\nHost: shop.test\r\nX-Role: clerk").1, "web");

    let whole = [
        ("url", "http://SHOP.test:80/x/../admin?debug"),
        ("header", "X-Role: boss"),
        ("header", "Cookie: seen=1"),
    ];
    let told = explain(&router, &whole);
    assert_eq!(told["verdict"]["route"], "admin", "{told}");
    assert_eq!(rule(&told, "all")["standing"], "behind");
    assert_eq!(
        (&told["destination"]["endpoint"], &told["destination"]["picker"]),
        (&"a1".into(), &"peak_ewma".into())
    );
    let head = "GET /x/../admin?debug HTTP/1.1\r\nHost: SHOP.test:80\r\nX-Role: boss\r\nCookie: seen=1";
    assert_eq!(asked(&router, head).1, "admin");
    let policies = &told["policies"];
    assert_eq!((&policies["priority"], &policies["retry"]["attempts"]), (&"high".into(), &2.into()));
    assert_eq!(policies["hedge"]["percentile"], 90);
    assert_eq!(policies["cluster"]["breaker"]["requests"], 9);
    assert_eq!(policies["cluster"]["slots"]["per_endpoint"], 4);
    let told = explain(&router, &[&whole[..], &[("method", "POST")]].concat());
    assert_eq!(failing(rule(&told, "admin")), ["method"]);
    // The table shows the same words.
    let table = router.table();
    let routes = table["apps"][0]["routes"].as_array().unwrap();
    let admin = routes.iter().find(|route| route["name"] == "admin").unwrap();
    assert_eq!((&admin["hedge"], &admin["retry"]), (&policies["hedge"], &policies["retry"]));
    assert_eq!(table["apps"][0]["clusters"][0]["breaker"]["requests"], 9);
}

#[test]
fn refusals_are_those_of_the_router() {
    let Shop { router, .. } = shop();
    // Parameters, and what a client sends.
    let rows: &[(&[(&str, &str)], &str)] = &[
        (&[("url", "http://nobody.invalid/")], "GET / HTTP/1.1\r\nHost: nobody.invalid"),
        (&[("url", "http://shop.test/a%00")], "GET /a%00 HTTP/1.1\r\nHost: shop.test"),
        (&[("url", "http://shop.test/x%2F..;/closed")], "GET /x%2F..;/closed HTTP/1.1\r\nHost: shop.test"),
        (&[("url", "http://shop.test//closed")], "GET //closed HTTP/1.1\r\nHost: shop.test"),
        (&[("url", "http://shop.test/"), ("method", "TRACE")], "TRACE / HTTP/1.1\r\nHost: shop.test"),
        (&[("url", "http://sh_%op/")], "GET / HTTP/1.1\r\nHost: sh_%op"),
        (
            &[("url", "http://shop.test/"), ("header", "Content-Length: x")],
            "GET / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: x",
        ),
    ];
    for (parameters, head) in rows {
        let told = explain(&router, parameters);
        assert_eq!(told["verdict"]["kind"], "refused", "{told}");
        let (status, code) = asked(&router, head);
        assert_eq!(
            (&told["verdict"]["status"], &told["verdict"]["code"]),
            (&status.into(), &code.into()),
            "{head}"
        );
    }
    let told = explain(&router, &[("url", "http://shop.test//closed")]);
    assert_eq!(told["loose_path"]["route"]["route"], "closed", "{told}");
    // A client that the route denies, and one that it does not.
    let closed = ("url", "http://shop.test/closed");
    let told = explain(&router, &[closed, ("client", "203.0.113.9")]);
    assert_eq!(
        (&told["verdict"]["code"], &told["verdict"]["route"]),
        (&"client_denied".into(), &"closed".into()),
        "{told}"
    );
    assert_eq!(explain(&router, &[closed, ("client", "198.51.100.1")])["verdict"]["kind"], "route");
}

#[test]
fn bad_questions_are_told_so() {
    let Shop { router, .. } = shop();
    for (query, status, code) in [
        ("", 400, "bad_parameter"),
        ("?url=ftp://x/", 400, "bad_question"),
        ("?url=/%20", 400, "bad_question"),
        ("?url=http://user@x/", 400, "bad_question"),
        ("?url=/&header=nocolon", 400, "bad_parameter"),
        ("?url=/&header=a:b%0D%0Ac:d", 400, "bad_parameter"),
        ("?url=/&method=A%20B", 400, "bad_parameter"),
        ("?url=/&client=nobody", 400, "bad_parameter"),
        ("?url=/&listener=nobody", 404, "unknown_listener"),
        ("?url=/&listener=a%20b", 400, "bad_parameter"),
        ("?url=/&hearder=a:b", 400, "unknown_parameter"),
    ] {
        let answer = router.control("GET", &format!("/v1/explain{query}"), "");
        let document = answer.json();
        assert_eq!((answer.status, document["code"].as_str()), (status, Some(code)), "{query}: {document}");
    }
    let many: String = (0..=100).map(|n| format!("&header=a:{n}")).collect();
    let answer = router.control("GET", &format!("/v1/explain?url=/{many}"), "");
    assert_eq!(answer.json()["code"], "bad_parameter");
}

#[test]
fn a_key_its_place_and_its_endpoints() {
    let echoes: Vec<Echo> = ["one", "two", "three"].into_iter().map(Echo::start).collect();
    let endpoints: Vec<String> = ["one", "two", "three"]
        .iter()
        .zip(&echoes)
        .map(|(id, echo)| format!("{{ id = \"{id}\", address = \"{}\" }}", echo.address))
        .collect();
    let text = format!(
        "[cluster.web]\nendpoints = [{}]\nshard = {{ by = \"header:x-key\", algorithm = \"ring\", bound = \"off\" }}\n\
         [[route]]\ncluster = \"web\"\n",
        endpoints.join(", ")
    );
    let router = Ekiden::start(Setup::new(text));
    let mut client = router.client();
    for key in ["ann", "bob", "eve", "joe"] {
        let header = format!("x-key: {key}");
        let told = explain(&router, &[("url", "/"), ("header", &header)]);
        let to = &told["destination"];
        let served = client.ask(format!("GET / HTTP/1.1\r\nHost: a\r\n{header}\r\n\r\n"));
        let served = Seen(served.json()).text("origin");
        assert_eq!(to["endpoint"], served.as_str(), "{told}");
        assert_eq!((&to["key"]["text"], &to["key"]["order"][0]), (&key.into(), &served.as_str().into()));
        assert_eq!((&to["key"]["algorithm"], &to["key"]["replicas"]), (&"ring".into(), &1.into()));
        assert!((0.0..1.0).contains(&to["key"]["position"].as_f64().unwrap()), "{to}");
    }
    let told = explain(&router, &[("url", "/")]);
    assert_eq!((&told["destination"]["key"], &told["destination"]["endpoint"]), (&Value::Null, &Value::Null));
    // The owner drains: the next in the key's order gets it, and the endpoint says why it does not.
    let header = ("header", "x-key: ann");
    let order = explain(&router, &[("url", "/"), header])["destination"]["key"]["order"].clone();
    let owner = order[0].as_str().unwrap().to_owned();
    router.control("PUT", &Ekiden::endpoint_path("web", &owner), "{\"drain\":true}");
    let told = explain(&router, &[("url", "/"), header]);
    assert_eq!(told["destination"]["endpoint"], order[1], "{told}");
    let endpoints = told["destination"]["endpoints"].as_array().unwrap();
    let drained = endpoints.iter().find(|one| one["id"] == owner.as_str()).unwrap();
    assert_eq!(
        (&drained["state"], &drained["eligible"], &drained["share"]),
        (&"draining".into(), &false.into(), &0.0.into())
    );
    assert!(!drained["reason"].as_str().unwrap().is_empty());
}

#[test]
fn an_endpoint_that_fails_is_told_with_its_reason() {
    let origin = Stamped::start("web");
    let probe = "probe = { path = \"/healthz\", interval = \"100ms\", fall = 1 }";
    let router = Ekiden::start(Setup::new(web(&[origin.address], probe, "")));
    let url = ("url", "/");
    until_true("the endpoint to be ready", || {
        explain(&router, &[url])["destination"]["reason"] == "the only one that may get it"
    });
    origin.set_sick(true);
    until_true("the endpoint to be told as failing", || {
        explain(&router, &[url])["destination"]["endpoints"][0]["state"] == "failing"
    });
    let told = explain(&router, &[url]);
    let to = &told["destination"];
    assert_eq!((&to["endpoint"], &to["reason"]), (&Value::Null, &"no endpoint is ready".into()), "{told}");
    assert!(to["endpoints"][0]["reason"].as_str().is_some_and(|reason| reason.contains("503")), "{told}");
    assert_eq!(asked(&router, "GET / HTTP/1.1\r\nHost: a"), (503, "none_ready".to_owned()));
}

#[test]
fn the_command_says_it_in_lines() {
    let Shop { router, .. } = shop();
    let control = router.control.to_string();
    let run = |arguments: &[&str]| {
        let output =
            finished(Command::new(binary()).arg("explain").args(arguments).args(["--control", &control]));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, said, errors) =
        run(&["http://shop.test/admin", "-H", "X-Role: boss", "-X", "POST", "--client", "192.0.2.1"]);
    assert_eq!((code, errors.as_str()), (Some(0), ""), "{said}");
    for line in [
        "POST http://shop.test/admin\n  default/all: the route takes it\n",
        "  listener edge: the first of role edge without TLS\n",
        "  matched as host shop.test, path /admin\n",
        "* default/all     takes it\n",
        "  default/admin   not so: method: GET, HEAD; query: debug is there; cookie: seen is there\n",
        "  default/wide    not so: host: *.test\n",
        "  priority           normal\n",
        "cluster web, by peak_ewma\n  endpoint w1: the only one that may get it\n",
    ] {
        assert!(said.contains(line), "{line:?} in\n{said}");
    }
    let (code, said, _) = run(&["http://nobody.invalid/"]);
    assert_eq!(code, Some(0));
    assert!(said.contains("refused: 404 no_route: "), "{said}");
    let (code, said, _) = run(&["http://shop.test/", "--json"]);
    let document: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &document["verdict"]["route"]), (Some(0), &"all".into()));
    let (code, _, errors) = run(&["shop.test"]);
    assert_eq!(code, Some(6), "{errors}");
    assert!(errors.contains("write http://HOST/PATH"), "{errors}");
}

/// Fields that a route takes away decide nothing, in an explanation as on the way of a request.
#[test]
fn fields_that_are_taken_away_decide_nothing() {
    let echoes: Vec<Echo> = ["one", "two", "three"].into_iter().map(Echo::start).collect();
    let endpoints: Vec<String> = ["one", "two", "three"]
        .iter()
        .zip(&echoes)
        .map(|(id, echo)| format!("{{ id = \"{id}\", address = \"{}\" }}", echo.address))
        .collect();
    let text = format!(
        "[cluster.web]\nendpoints = [{}]\nshard = {{ by = \"header:x-key\", fallback = \"path\", bound = \"off\" }}\n\
         [[route]]\nname = \"plain\"\npath = \"/plain\"\ncluster = \"web\"\n\
         [[route]]\nname = \"denied\"\npath = \"/denied\"\ndeny = {{ headers = [\"x-key\"] }}\ncluster = \"web\"\n\
         [[route]]\nname = \"all\"\ncluster = \"web\"\n",
        endpoints.join(", ")
    );
    let router = Ekiden::start(Setup::new(text));
    let mut client = router.client();
    let key = ("header", "X-Key: ann");
    let told = explain(&router, &[("url", "/plain"), key]);
    assert_eq!(told["destination"]["key"]["text"], "ann", "{told}");
    let told = explain(&router, &[("url", "/denied"), key]);
    assert_eq!(told["destination"]["key"]["text"], "/denied", "{told}");
    let served = client.ask("GET /denied HTTP/1.1\r\nHost: a\r\nX-Key: ann\r\n\r\n");
    assert_eq!(told["destination"]["endpoint"], Seen(served.json()).text("origin"), "{told}");
}
