//! Each step: what passes and what is refused, with one code in the response, the access log and the metric, and nothing
//! of a refused request sent upstream.

use ekiden_tests::{Echo, Ekiden, InProcess, Response, Seen, Served, Setup, until_true, web};

fn serve(echo: &Echo, route: &str) -> InProcess {
    InProcess::start(Setup::new(web(&[echo.address], "", route)))
}

fn said(response: &Response) -> (u16, &str) {
    (response.status, response.code())
}

const JSON: &str = "Content-Type: application/json\r\n";

fn post(fields: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn every_code_is_the_same_in_response_log_and_metric() {
    let echo = Echo::start("one");
    let route = "name = \"guarded\"\nhost = \"a\"\nbody_limit = 10\nhead_limit = 400\nfields_limit = 6\n\
        denied_headers = \"refuse\"\n\
        allow = { methods = [\"GET\", \"POST\"], content_types = [\"application/json\"], hosts = [\"a\"] }\n\
        deny = { headers = [\"x-debug-*\"] }\n\
        [[route]]\nname = \"closed\"\nhost = \"b\"\ncluster = \"web\"\ndeny = { clients = [\"127.0.0.0/8\"] }\n\
        [[route]]\nname = \"any\"\ncluster = \"web\"\nallow = { hosts = [\"c\"] }\n";
    let router = Ekiden::start(Setup::new(web(&[echo.address], "", route)));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(6));
    let large = format!("GET / HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n", "x".repeat(400));
    let rows: &[(&str, u16, &str, &str)] = &[
        ("GET / HTTP/1.1\r\nHost: b\r\n\r\n", 403, "client_denied", "closed"),
        ("GET / HTTP/1.1\r\nHost: d\r\n\r\n", 421, "host_denied", "any"),
        ("DELETE / HTTP/1.1\r\nHost: a\r\n\r\n", 405, "method_denied", "guarded"),
        (&large, 431, "head_too_large", "guarded"),
        (&many, 431, "too_many_fields", "guarded"),
        (&post("Content-Type: text/html\r\n", "x"), 415, "content_type_denied", "guarded"),
        ("GET / HTTP/1.1\r\nHost: a\r\nX-Debug-Level: 1\r\n\r\n", 403, "field_denied", "guarded"),
        (&post(JSON, "01234567890"), 413, "body_too_large", "guarded"),
    ];
    for (request, status, code, _) in rows {
        let response = router.ask(request);
        assert_eq!(said(&response), (*status, *code), "{request}");
        assert!(response.get("proxy-status").unwrap().contains("http_request"), "{response:?}");
        assert_eq!(response.get("allow"), (*status == 405).then_some("GET, POST, HEAD"), "{request}");
    }
    assert_eq!(echo.connections(), 0, "a refused request opened an upstream connection");
    for (record, (request, status, code, route)) in router.records(rows.len()).iter().zip(rows) {
        assert_eq!(
            (&record["status"], &record["code"], &record["route"], &record["app"]),
            (&(*status).into(), &(*code).into(), &(*route).into(), &"default".into()),
            "{request}: {record}"
        );
    }
    for (_, _, code, route) in rows {
        until_true(code, || {
            router.metric("ekiden_outcomes_total", &[&format!("code=\"{code}\"")]) == 1.0
                && router.metric("ekiden_router_responses_total", &[&format!("route=\"{route}\"")]) >= 1.0
        });
    }
    until_true("no request in flight", || router.metric("ekiden_requests_in_flight", &[]) == 0.0);
    // What passes does so on the same connection as a refusal without a body.
    let mut client = router.client();
    assert_eq!(client.ask("DELETE / HTTP/1.1\r\nHost: a\r\n\r\n").status, 405);
    assert_eq!(client.ask(post(JSON, "0123456789")).status, 200);
}

#[test]
fn body_limits_count_what_comes() {
    let echo = Echo::start("one");
    let setup = Setup::new(web(
        &[echo.address],
        "",
        "path = \"/\"\n[[route]]\npath = \"/wide\"\ncluster = \"web\"\nbody_limit = 20",
    ));
    let router = InProcess::start(setup.top("body_limit = 10").listener("limits = { body = 15 }"));
    let chunked = |path: &str, length: usize| {
        let (one, two) = (length / 2, length - length / 2);
        format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{one:x}\r\n{}\r\n{two:x}\r\n{}\r\n0\r\n\r\n",
            "x".repeat(one),
            "x".repeat(two)
        )
    };
    for (path, bound) in [("/", 10), ("/wide", 20)] {
        let sized = |length: usize| {
            format!(
                "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{}",
                "x".repeat(length)
            )
        };
        for request in [chunked(path, bound), sized(bound)] {
            assert_eq!(router.ask(&request).status, 200, "{request}");
        }
        for request in [chunked(path, bound + 1), sized(bound + 1)] {
            assert_eq!(said(&router.ask(&request)), (413, "body_too_large"), "{request}");
        }
    }
}

#[test]
fn a_refused_body_is_not_asked_for() {
    let echo = Echo::start("one");
    let router = serve(&echo, "body_limit = 10\nallow = { content_types = [\"image/*\"] }");
    for (fields, want) in [
        ("Content-Type: image/png\r\nContent-Length: 11\r\n", (413, "body_too_large")),
        ("Content-Type: text/html\r\nContent-Length: 5\r\n", (415, "content_type_denied")),
        ("Transfer-Encoding: chunked\r\n", (415, "content_type_denied")),
        // Which of two an endpoint would take is anybody's guess.
        (
            "Content-Type: text/html\r\nContent-Type: image/png\r\nContent-Length: 5\r\n",
            (415, "content_type_denied"),
        ),
        ("Content-Type: image/png; q=1, text/html\r\nContent-Length: 5\r\n", (415, "content_type_denied")),
    ] {
        let response =
            router.ask(&format!("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n{fields}\r\n"));
        assert_eq!(said(&response), want, "{fields}");
        assert!(response.says_close(), "the body may still come: {fields}");
    }
    assert_eq!(router.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").status, 200);
    assert_eq!(router.ask(&post("content-type: IMAGE/PNG; q=1\r\n", "x")).status, 200);
}

#[test]
fn a_listener_serves_its_hosts_and_clients_whatever_the_route() {
    let echo = Echo::start("one");
    let text = web(&[echo.address], "", "");
    let setup = Setup::new(text.as_str())
        .listener("allow = { hosts = [\"a\", \"*.b\"] }\ndeny = { hosts = [\"x.b\"] }");
    let router = InProcess::start(setup);
    for (host, served) in [
        ("a", true),
        ("A.", true),
        ("a:81", true),
        ("y.b", true),
        ("b", false),
        ("x.b", false),
        ("X.B.", false),
        ("127.0.0.1", false),
    ] {
        let response = router.client().get(host, "/");
        let want = if served { (200, "") } else { (421, "host_denied") };
        assert_eq!(said(&response), want, "{host}");
    }
    // Without a Host there is no name that could be on the list.
    assert_eq!(said(&router.ask("GET / HTTP/1.0\r\n\r\n")), (421, "host_denied"));
    assert_eq!(said(&router.ask("GET http://c/ HTTP/1.0\r\n\r\n")), (421, "host_denied"));

    let setup = Setup::new(text).listener("trust = [\"127.0.0.1\"]\nallow = { clients = [\"192.0.2.0/24\", \"2001:db8::/32\"] }\ndeny = { clients = [\"192.0.2.9\"] }");
    let router = InProcess::start(setup);
    for (forwarded, served) in [
        ("", false),
        ("X-Forwarded-For: 192.0.2.7\r\n", true),
        ("X-Forwarded-For: 2001:db8::7\r\n", true),
        ("X-Forwarded-For: ::ffff:192.0.2.7\r\n", true),
        ("X-Forwarded-For: ::ffff:192.0.2.9\r\n", false),
        ("X-Forwarded-For: 192.0.2.9\r\n", false),
        ("X-Forwarded-For: 192.0.2.7, 198.51.100.1\r\n", false),
        ("X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-For: 198.51.100.1\r\n", false),
    ] {
        let response = router.ask(&format!("GET / HTTP/1.1\r\nHost: a\r\n{forwarded}\r\n"));
        let want = if served { (200, "") } else { (403, "client_denied") };
        assert_eq!(said(&response), want, "{forwarded:?}");
    }
}

#[test]
fn a_client_that_is_not_trusted_cannot_forge_its_address() {
    let echo = Echo::start("one");
    let router = serve(&echo, "allow = { clients = [\"192.0.2.0/24\"] }");
    for forged in
        ["", "X-Forwarded-For: 192.0.2.7\r\n", "Forwarded: for=192.0.2.7\r\n", "X-Real-IP: 192.0.2.7\r\n"]
    {
        let response = router.ask(&format!("GET / HTTP/1.1\r\nHost: a\r\n{forged}\r\n"));
        assert_eq!(said(&response), (403, "client_denied"), "{forged:?}");
    }
}

#[test]
fn denied_fields_are_taken_away_from_heads_and_trailers() {
    let echo = Echo::start("one");
    let route = "deny = { headers = [\"x-secret\", \"x-internal-*\", \"x-f*\", \"te*\"] }\nrequest_headers = { set = { X-Secret = \"ours\" } }";
    let setup = Setup::new(web(&[echo.address], "", route)).listener("allow_underscore = true");
    let router = InProcess::start(setup);
    let fields = "x-secret: 1\r\nX_SECRET: 2\r\nX-Internal-Id: 3\r\nx_internal_id: 4\r\nX-Fine: 5\r\nX-Stays: 6\r\nAccept: text/plain\r\n";
    let body = "1\r\nx\r\n0\r\nX-Internal-Id: 7\r\nx_secret: 8\r\nX-Sum: 9\r\n\r\n";
    let seen = Seen::from(
        router
            .ask(&format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}Transfer-Encoding: chunked\r\n\r\n{body}")),
    );
    assert_eq!(seen.field("x-secret").as_deref(), Some("ours"), "edits of the operator come after");
    for gone in ["x_secret", "x-internal-id", "x_internal_id", "x-fine"] {
        assert_eq!(seen.field(gone), None, "{gone}");
    }
    // A prefix that covers fields of the platform or of framing never touches them.
    for (kept, value) in [
        ("x-stays", "6"),
        ("accept", "text/plain"),
        ("x-forwarded-for", "127.0.0.1"),
        ("host", "a"),
        ("transfer-encoding", "chunked"),
    ] {
        assert_eq!(seen.field(kept).as_deref(), Some(value), "{kept}");
    }
    let trailers: Vec<String> =
        seen.pairs("trailers").into_iter().map(|(name, _)| name.to_lowercase()).collect();
    assert_eq!(trailers, ["x-sum"]);
}

#[test]
fn only_allowed_fields_pass_and_the_message_stays_whole() {
    let echo = Echo::start("one");
    let router = serve(&echo, "allow = { headers = [\"accept*\", \"content-type\"] }");
    let fields = "Accept-Language: de\r\nCookie: a=b\r\nX-Any: 1\r\nContent-Type: text/plain\r\nX-Request-Id: 01234567890123456789\r\n";
    let seen = Seen::from(router.ask(&post(fields, "body")));
    assert_eq!((seen.field("cookie"), seen.field("x-any")), (None, None));
    for (kept, value) in [
        ("accept-language", "de"),
        ("content-type", "text/plain"),
        ("content-length", "4"),
        ("host", "a"),
        ("x-request-id", "01234567890123456789"),
        ("x-forwarded-for", "127.0.0.1"),
    ] {
        assert_eq!(seen.field(kept).as_deref(), Some(value), "{kept}");
    }
    assert_eq!(seen.text("body"), "body");
}

#[test]
fn redirects_and_fixed_responses_are_guarded_too() {
    let echo = Echo::start("one");
    let router = serve(
        &echo,
        "[[route]]\npath = \"/fixed\"\nrespond = { body = \"in\" }\nallow = { methods = [\"GET\"] }\n\
         [[route]]\npath = \"/moved\"\nredirect = { path = \"/\" }\nallow = { clients = [\"192.0.2.1\"] }\n",
    );
    assert_eq!(router.get("/fixed").text(), "in");
    assert_eq!(said(&router.ask("PUT /fixed HTTP/1.1\r\nHost: a\r\n\r\n")), (405, "method_denied"));
    assert_eq!(said(&router.get("/moved")), (403, "client_denied"));
}
