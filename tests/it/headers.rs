//! The fields the platform promises, to endpoints and to clients.

use ekiden_tests::{Echo, InProcess, Origin, Response, Seen, Served, Setup, cluster, web};

fn serve(echo: &Echo, listener: &str) -> InProcess {
    InProcess::start(Setup::new(web(&[echo.address], "", "")).listener(listener))
}

fn ask(router: &InProcess, fields: &str) -> Seen {
    Seen::from(router.ask(&format!("GET /x HTTP/1.1\r\nHost: a.example\r\n{fields}\r\n")))
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.char_indices().all(|(at, c)| match at {
            8 | 13 | 18 | 23 => c == '-',
            14 => c == '4',
            19 => matches!(c, '8' | '9' | 'a' | 'b'),
            _ => matches!(c, '0'..='9' | 'a'..='f'),
        })
}

#[test]
fn a_request_id_is_kept_when_well_formed() {
    let echo = Echo::start("one");
    let long = "a".repeat(200);
    let rows: &[(&str, bool)] = &[
        ("", false),
        ("01234567890123456789", true),
        ("0123456789012345678", false),
        ("ABC-def-0123456789-xyz", true),
        (&long, true),
        (&"a".repeat(201), false),
        ("0123456789012345678_", false),
        ("0123456789 0123456789", false),
        ("0123456789.0123456789", false),
        ("01234567890123456789,", false),
        ("0123456789012345678\u{e4}", false),
    ];
    for listener in ["", "trust = [\"127.0.0.0/8\"]"] {
        let router = serve(&echo, listener);
        for (id, kept) in rows {
            let field = if id.is_empty() { String::new() } else { format!("X-Request-Id: {id}\r\n") };
            let all = ask(&router, &field).all("x-request-id");
            assert_eq!(all.len(), 1, "{id:?}: {all:?}");
            if *kept { assert_eq!(all[0], *id) } else { assert!(is_uuid(&all[0]), "{id:?}: {all:?}") }
        }
        let one = ask(&router, "").all("x-request-id");
        assert_ne!(one, ask(&router, "").all("x-request-id"), "each request has its own");
    }
}

const FORGED: &str = "X-Forwarded-For: 9.9.9.9\r\nX-Forwarded-For: 8.8.8.8\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 443\r\n\
    X-Forwarded-Host: evil\r\nX-Request-Start: 1\r\nForwarded: for=9.9.9.9\r\nClient-Cert: :x:\r\n\
    X-Forwarded-Client-Cert: Hash=x\r\nVia: 1.0 before\r\n";

fn unix_ms() -> u64 {
    u64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap()
}

#[test]
fn nobody_is_trusted_by_default() {
    let echo = Echo::start("one");
    for role in ["edge", "inbound", "outbound"] {
        let text = format!("{}\nlisteners = [\"edge\"]\n", web(&[echo.address], "", ""));
        let router = InProcess::start(Setup::new(text).listener(&format!("role = \"{role}\"")));
        for fields in ["", FORGED] {
            let before = unix_ms();
            let seen = ask(&router, fields);
            let what = format!("{role} {fields:?}");
            let port = router.address().port().to_string();
            for (name, value) in [
                ("x-forwarded-for", "127.0.0.1"),
                ("x-forwarded-proto", "http"),
                ("x-forwarded-port", port.as_str()),
                ("x-forwarded-host", "a.example"),
            ] {
                assert_eq!(seen.all(name), [value], "{what}: {name}");
            }
            let start: u64 =
                seen.field("x-request-start").unwrap().parse().unwrap_or_else(|_| panic!("{what}"));
            assert!(
                (before.saturating_sub(5)..=unix_ms() + 5).contains(&start),
                "{what}: {start} is milliseconds of now"
            );
            for name in ["forwarded", "client-cert", "x-forwarded-client-cert"] {
                assert_eq!(seen.field(name), None, "{what}: {name}");
            }
            let via = (!fields.is_empty()).then_some("1.0 before");
            assert_eq!(seen.field("via").as_deref(), via, "{what}: a received Via is kept");
        }
    }
}

#[test]
fn a_listed_proxy_is_believed_and_appended_to() {
    let echo = Echo::start("one");
    let router = serve(&echo, "trust = [\"127.0.0.1/32\", \"10.0.0.0/8\"]");
    let seen = ask(&router, FORGED);
    assert_eq!(seen.field("x-forwarded-for").as_deref(), Some("9.9.9.9, 8.8.8.8, 127.0.0.1"));
    for (name, value) in [
        ("x-forwarded-proto", "https"),
        ("x-forwarded-port", "443"),
        ("x-forwarded-host", "evil"),
        ("x-request-start", "1"),
        ("forwarded", "for=9.9.9.9"),
        ("client-cert", ":x:"),
        ("x-forwarded-client-cert", "Hash=x"),
        ("via", "1.0 before"),
    ] {
        assert_eq!(seen.all(name), [value], "{name}");
    }
    // What the proxy did not say is said by the router.
    let seen = ask(&router, "X-Forwarded-For: 1.2.3.4\r\n");
    assert_eq!(seen.field("x-forwarded-for").as_deref(), Some("1.2.3.4, 127.0.0.1"));
    assert_eq!(seen.field("x-forwarded-proto").as_deref(), Some("http"));
    assert_eq!(ask(&router, "").field("x-forwarded-for").as_deref(), Some("127.0.0.1"));
    let other = serve(&echo, "trust = [\"10.0.0.0/8\"]");
    assert_eq!(
        ask(&other, FORGED).field("x-forwarded-for").as_deref(),
        Some("127.0.0.1"),
        "a proxy that is not listed"
    );
}

#[test]
fn forwarded_and_via_are_optional() {
    let echo = Echo::start("one");
    let router = serve(&echo, "forwarded = true\nvia = \"ekiden-1\"");
    let mut client = router.client();
    let response = client
        .ask("GET / HTTP/1.1\r\nHost: a.example:81\r\nVia: 1.0 before\r\nForwarded: for=9.9.9.9\r\n\r\n");
    assert_eq!(response.get("via"), Some("1.1 ekiden-1"));
    let seen = Seen::from(response);
    assert_eq!(seen.all("via"), ["1.0 before", "1.1 ekiden-1"]);
    assert_eq!(seen.all("forwarded"), ["for=127.0.0.1;host=\"a.example:81\";proto=http"]);
    let old = Seen::from(router.ask("GET / HTTP/1.0\r\nHost: a\r\n\r\n"));
    assert_eq!(old.all("via"), ["1.0 ekiden-1"]);
    let plain = serve(&echo, "").get("/");
    assert_eq!(plain.get("via"), None);
}

#[test]
fn an_endpoint_learns_that_trailers_are_welcome() {
    let echo = Echo::start("one");
    let router = serve(&echo, "");
    for (fields, told) in [
        ("", false),
        ("TE: trailers\r\nConnection: TE\r\n", true),
        ("TE: gzip\r\nTE: deflate, Trailers\r\nConnection: TE\r\n", true),
        ("TE: trailers\r\n", true),
        ("TE: gzip\r\nConnection: TE\r\n", false),
        ("TE: xtrailers\r\nConnection: TE\r\n", false),
    ] {
        let seen = ask(&router, fields);
        let expected = |value: &str| if told { vec![value.to_owned()] } else { Vec::new() };
        assert_eq!(
            (seen.all("te"), seen.all("connection")),
            (expected("trailers"), expected("TE")),
            "{fields:?}"
        );
    }
    let old = router.ask("GET / HTTP/1.0\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\n\r\n");
    assert_eq!(Seen::from(old).all("te"), [""; 0], "a client of HTTP/1.0 gets no trailers");
}

fn error(router: &InProcess, fields: &str) -> Response {
    router.ask(&format!("GET /none HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))
}

#[test]
fn errors_come_in_the_form_the_client_accepts() {
    let router = InProcess::start(Setup::new(
        "[[route]]\npath = { exact = \"/there\" }\nrespond = { body = \"x\" }\n",
    ));
    let rows: &[(&str, &str, &str)] = &[
        ("", "text/plain; charset=utf-8", "404 Not Found"),
        ("Accept: */*\r\n", "text/plain; charset=utf-8", "404 Not Found"),
        ("Accept: image/png\r\n", "text/plain; charset=utf-8", "404 Not Found"),
        (
            "Accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8\r\n",
            "text/html; charset=utf-8",
            "<!doctype html>",
        ),
        ("Accept: application/json\r\n", "application/problem+json", "{"),
        ("accept: Application/Problem+JSON\r\n", "application/problem+json", "{"),
    ];
    for (fields, media, begins) in rows {
        let id = "0123456789-0123456789";
        let response = error(&router, &format!("{fields}X-Request-Id: {id}\r\n"));
        assert_eq!((response.status, response.get("content-type")), (404, Some(*media)), "{fields:?}");
        assert!(
            response.text().starts_with(begins) && response.text().len() < 2000,
            "{fields:?}: {}",
            response.text()
        );
        assert_eq!(response.code(), "no_route", "{fields:?}");
        assert_eq!(response.get("x-request-id"), Some(id), "{fields:?}");
        let status = response.get("proxy-status").unwrap();
        assert!(status.starts_with("ekiden; error=destination_not_found"), "{fields:?}: {status}");
        if *media == "application/problem+json" {
            let problem = response.json();
            assert_eq!(
                (&problem["status"], &problem["code"]),
                (&404.into(), &"no_route".into()),
                "{problem}"
            );
            assert_eq!(problem["request_id"], id);
        }
        assert!(response.text().contains("no_route"), "{fields:?}: the code stands in the body");
    }
    let to_head = router.client().ask("HEAD /none HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((to_head.status, to_head.code()), (404, "no_route"));
    assert!(to_head.get("content-length").is_some_and(|length| length != "0"));
}

#[test]
fn what_a_client_sends_is_not_in_an_error_page() {
    let router = InProcess::start(Setup::new("[[route]]\nhost = \"b\"\nrespond = { body = \"x\" }\n"));
    let request = "GET /<script>alert(1)</script>?<b> HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\nX-Request-Id: <i>0123456789012345678</i>\r\n\r\n";
    let text = router.ask(request).text();
    for word in ["script", "<b>", "<i>"] {
        assert!(!text.contains(word), "{word}: {text}");
    }
}

#[test]
fn an_error_keeps_the_connection_where_that_is_safe() {
    let router = InProcess::start(Setup::new(
        "[[route]]\npath = { exact = \"/there\" }\nmethods = [\"GET\"]\nrespond = { body = \"x\" }\n[[route]]\npath = \"/down\"\ncluster = \"empty\"\n[cluster.empty]\n",
    ));
    let mut client = router.client();
    for (request, status, code) in [
        ("GET /none HTTP/1.1\r\nHost: a\r\n\r\n", 404, "no_route"),
        ("POST /there HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 405, "method_not_allowed"),
        ("GET /down HTTP/1.1\r\nHost: a\r\n\r\n", 503, "no_endpoints"),
        ("GET /there HTTP/1.1\r\nHost: a\r\n\r\n", 200, ""),
    ] {
        let response = client.ask(request);
        assert_eq!(
            (response.status, response.code(), response.says_close()),
            (status, code, false),
            "{request:?}"
        );
        assert_eq!(response.get("allow").is_some(), status == 405, "{request:?}");
        assert_eq!(response.get("retry-after").is_some(), status == 503, "{request:?}");
    }
    // A body that was not read would be taken for the next request.
    let response = client.ask(
        "POST /none HTTP/1.1\r\nHost: a\r\nContent-Length: 30\r\n\r\nGET /there HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    assert_eq!((response.status, response.says_close()), (404, true));
    client.finish();
    assert_eq!(client.rest(), b"");
}

#[test]
fn the_h_code_stands_beside_the_code() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let router = InProcess::start(Setup::new(format!(
        "{}\n{}\n[[route]]\npath = \"/refused\"\ncluster = \"refused\"\n[[route]]\npath = \"/empty\"\ncluster = \"empty\"\n",
        cluster("refused", &[closed], ""),
        "[cluster.empty]"
    )));
    let refused = router.get("/refused");
    assert_eq!((refused.status, refused.get("x-router-error")), (503, Some("connect_refused H21")));
    assert!(refused.get("proxy-status").unwrap().contains("error=connection_refused"));
    assert_eq!(refused.get("retry-after"), Some("5"));
    let empty = router.get("/empty");
    assert_eq!((empty.status, empty.get("x-router-error")), (503, Some("no_endpoints H14")));
    let malformed = router.ask("GET / HTTP/9.9\r\nHost: a\r\n\r\n");
    assert_eq!(malformed.get("x-router-error"), Some("version_unsupported H26"));
}

#[test]
fn only_a_peer_router_may_send_x_router_error() {
    let origin = Origin::start(|conn| {
        while conn.request().is_some() {
            conn.send("HTTP/1.1 503 No\r\nX-Router-Error: forged H10\r\nProxy-Status: other; error=x\r\nContent-Length: 2\r\n\r\nno");
        }
    });
    for (keys, expected) in [("", None), ("peer_router = true", Some("forged H10"))] {
        let router = InProcess::start(Setup::new(web(&[origin.address], keys, "")));
        let response = router.get("/");
        assert_eq!((response.status, response.get("x-router-error")), (503, expected), "{keys}");
        assert_eq!(response.get("retry-after"), None, "the endpoint's response is the endpoint's");
    }
}

#[test]
fn a_route_edits_both_heads() {
    let echo = Echo::start("one");
    let route = "request_headers = { remove = [\"X-Gone\"], set = { X-Set = \"1\" }, add = { X-Add = [\"2\", \"3\"] } }\n\
                 response_headers = { remove = [\"Content-Type\"], set = { X-Frame-Options = \"DENY\" }, add = { X-Add = \"4\" } }\n";
    let router = InProcess::start(Setup::new(web(&[echo.address], "", route)));
    let response =
        router.ask("GET / HTTP/1.1\r\nHost: a\r\nX-Gone: 9\r\nx-set: 9\r\nX-Set: 8\r\nX-Add: 1\r\n\r\n");
    assert_eq!((response.get("content-type"), response.get("x-frame-options")), (None, Some("DENY")));
    assert_eq!(response.get("x-add"), Some("4"));
    let seen = Seen::from(response);
    assert_eq!((seen.field("x-gone"), seen.all("x-set")), (None, vec!["1".to_owned()]));
    assert_eq!(seen.all("x-add"), ["1", "2", "3"]);
}

#[test]
fn the_access_log_says_what_happened() {
    let echo = Echo::start("one");
    let router = serve(&echo, "");
    let id = "0123456789-0123456789";
    router
        .ask(&format!("GET /x?y HTTP/1.1\r\nHost: A:81\r\nX-Request-Id: {id}\r\nUser-Agent: t\"est\r\n\r\n"));
    router.ask("GET / HTTP/1.1\r\n\r\n");
    let records = router.records(2);
    let served = &records[0];
    for (key, value) in [
        ("code", "complete"),
        ("method", "GET"),
        ("path", "/x?y"),
        ("host", "a"),
        ("request_id", id),
        ("fwd", "127.0.0.1"),
        ("app", "default"),
        ("cluster", "web"),
        ("dyno", &echo.address.to_string()),
        ("user_agent", "t\"est"),
        ("listener", "edge"),
    ] {
        assert_eq!(served[key], value, "{key}: {served}");
    }
    assert_eq!((served["status"].as_u64(), served["attempts"].as_u64()), (Some(200), Some(1)));
    assert!(served["bytes"].as_u64() > Some(100) && served["total_ms"].as_f64() > Some(0.0), "{served}");
    assert_eq!((&records[1]["code"], &records[1]["status"]), (&"host_missing".into(), &400.into()));

    let router = InProcess::start(Setup::new(web(&[echo.address], "", "")).log_format("logfmt"));
    router.ask("GET /x?y HTTP/1.1\r\nHost: a\r\n\r\n");
    let line = &router.log_lines(1)[0];
    for part in [
        "at=info",
        "method=GET",
        "path=\"/x?y\"",
        "host=a",
        "fwd=\"127.0.0.1\"",
        "connect=",
        "service=",
        "status=200",
        "bytes=",
        "protocol=",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert!(line.contains(&format!("dyno={}", echo.address)), "{line}");
}

#[test]
fn via_tells_the_version_in_which_the_endpoint_spoke() {
    let origin = Origin::start(|conn| {
        let _ = conn.request();
        conn.send("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n");
    });
    let router = InProcess::start(Setup::new(web(&[origin.address], "", "")).listener("via = \"ekiden-1\""));
    assert_eq!(router.get("/").get("via"), Some("1.0 ekiden-1"));
}
