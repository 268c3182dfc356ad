//! Fields: hop-by-hop ones end here, everything else passes in order and spelling.

use super::serve;
use ekiden_tests::{Echo, Origin, Seen, Served};

#[test]
fn hop_by_hop_and_nominated_request_fields_are_removed() {
    let echo = Echo::start("one");
    let router = serve(echo.origin());
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Hop, Upgrade, HTTP2-Settings\r\nConnection: x-hop-2\r\n\
                   Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\nUpgrade: h2c\r\n\
                   HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\nProxy-Authorization: Basic x\r\nX-Hop: 1\r\nx-hop-2: 2\r\n\
                   X-End: 3\r\n\r\n";
    let seen = Seen::from(router.ask(request));
    // The router's own, for the trailers that it passes on.
    assert_eq!((seen.field("connection"), seen.field("te")), (Some("TE".into()), Some("trailers".into())));
    for name in [
        "keep-alive",
        "proxy-connection",
        "upgrade",
        "http2-settings",
        "proxy-authorization",
        "x-hop",
        "x-hop-2",
    ] {
        assert_eq!(seen.field(name), None, "{name}");
    }
    assert_eq!(seen.field("x-end").as_deref(), Some("3"));
}

#[test]
fn an_upgrade_that_no_route_names_is_never_honoured() {
    let origin = Origin::start(|conn| {
        while let Some(request) = conn.request() {
            assert_eq!(request.get("upgrade"), None);
            conn.answer(&request, "plain");
        }
    });
    let router = serve(&origin);
    for upgrade in ["h2c", "echo", "TLS/1.0", "HTTP/2.0"] {
        let request =
            format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: {upgrade}\r\n\r\n");
        let response = router.ask(&request);
        assert_eq!((response.status, response.text().as_str()), (200, "plain"), "{upgrade}");
    }
}

#[test]
fn hop_by_hop_and_nominated_response_fields_are_removed() {
    let origin = Origin::start(|conn| {
        while conn.request().is_some() {
            conn.send(
                "HTTP/1.1 200 Fine Indeed\r\nConnection: X-Hop\r\nKeep-Alive: timeout=50\r\nProxy-Connection: close\r\nX-Hop: 1\r\n\
                 Upgrade: h2c\r\nTE: x\r\nSet-Cookie: a=1\r\nX-End: 2\r\nSet-Cookie: b=2\r\nContent-Length: 2\r\n\r\nok",
            );
        }
    });
    let router = serve(&origin);
    let response = router.get("/");
    let names: Vec<&str> = response.fields.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["Set-Cookie", "X-End", "Set-Cookie", "Content-Length", "Date"]);
    assert_eq!(response.all("set-cookie"), ["a=1", "b=2"]);
    assert_eq!(response.text(), "ok");
}

#[test]
fn order_spelling_and_values_are_kept() {
    let echo = Echo::start("one");
    let router = serve(echo.origin());
    let fields = [
        "accept: */*",
        "X-A: 1",
        "x-a: 2",
        "COOKIE: a=b; c=d",
        "X-Empty:",
        "X-Utf: \u{e4}\u{f6}",
        "X-List: a, b,,c",
        "Cookie: e=f",
    ];
    let request = format!("GET /p?q HTTP/1.1\r\nHost: Example.COM:81\r\n{}\r\n\r\n", fields.join("\r\n"));
    let seen = Seen::from(router.ask(&request));
    let got: Vec<String> =
        seen.pairs("fields").into_iter().map(|(n, v)| format!("{n}: {v}").trim_end().to_owned()).collect();
    assert_eq!(got[0], "Host: Example.COM:81");
    assert_eq!(got[1..=fields.len()], fields.map(str::to_owned));
}

#[test]
fn underscores_are_dropped_unless_allowed() {
    use ekiden_tests::{InProcess, Setup, web};
    let echo = Echo::start("one");
    for (keys, expected) in [("", None), ("allow_underscore = true", Some("1"))] {
        let router = InProcess::start(Setup::new(web(&[echo.address], "", "")).listener(keys));
        let seen = Seen::from(router.ask("GET / HTTP/1.1\r\nHost: a\r\nX_Some: 1\r\nX-Other: 2\r\n\r\n"));
        assert_eq!(seen.field("x_some").as_deref(), expected, "{keys}");
        assert_eq!(seen.field("x-other").as_deref(), Some("2"));
    }
}

#[test]
fn a_reason_phrase_may_be_odd_or_empty() {
    for line in ["HTTP/1.1 200 ", "HTTP/1.1 200", "HTTP/1.1 299 All's well: really?", "HTTP/1.1 599 x"] {
        let origin = Origin::start(move |conn| {
            while conn.request().is_some() {
                conn.send(format!("{line}\r\nContent-Length: 0\r\n\r\n"));
            }
        });
        let router = serve(&origin);
        let response = router.get("/");
        assert_eq!(response.status.to_string(), line[9..12], "{line:?}");
    }
}

#[test]
fn a_response_without_a_date_gets_one() {
    let origin = Origin::start(|conn| {
        while let Some(request) = conn.request() {
            let date =
                if request.target() == "/dated" { "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n" } else { "" };
            conn.send(format!("HTTP/1.1 200 OK\r\n{date}Content-Length: 0\r\n\r\n"));
        }
    });
    let router = serve(&origin);
    let text = |path: &str| router.get(path).all("date").join("|");
    assert_eq!(text("/dated"), "Sun, 06 Nov 1994 08:49:37 GMT");
    let before = std::time::SystemTime::now() - std::time::Duration::from_secs(2);
    let added = httpdate::parse_http_date(&text("/")).unwrap();
    assert!(added > before && added < std::time::SystemTime::now() + std::time::Duration::from_secs(2));
}

#[test]
fn a_date_that_the_route_takes_away_stays_away() {
    use ekiden_tests::{InProcess, Setup, web};
    let origin = Origin::hello("ok");
    let edits = "response_headers = { remove = [\"date\"] }";
    let router = InProcess::start(Setup::new(web(&[origin.address], "", edits)));
    assert_eq!(router.get("/").all("date"), Vec::<&str>::new());
}

#[test]
fn options_are_passed_on_as_often_as_their_client_says() {
    let echo = Echo::start("one");
    let router = serve(echo.origin());
    let ask =
        |method: &str, hops: &str| router.ask(&format!("{method} /x HTTP/1.1\r\nHost: a\r\n{hops}\r\n"));
    for (hops, left) in [("", None), ("Max-Forwards: 5\r\n", Some("4")), ("max-forwards: 1\r\n", Some("0"))] {
        assert_eq!(Seen::from(ask("OPTIONS", hops)).field("max-forwards").as_deref(), left, "{hops:?}");
    }
    // Methods that the field says nothing about.
    assert_eq!(Seen::from(ask("GET", "Max-Forwards: 0\r\n")).field("max-forwards").as_deref(), Some("0"));
    let requests = echo.requests();
    let response = ask("OPTIONS", "Max-Forwards: 0\r\n");
    assert_eq!((response.status, response.code()), (204, ""));
    assert!(response.get("allow").is_some_and(|methods| methods.contains("OPTIONS")), "{response:?}");
    assert_eq!(echo.requests(), requests, "an endpoint was asked");
}
