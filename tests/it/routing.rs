//! Matching and actions over the wire. The matcher itself has its tables in core; here it is seen that the engine asks
//! it the right question and does what it says.

use std::collections::BTreeMap;

use ekiden_tests::{Echo, InProcess, Response, Seen, Served, Setup, cluster};

fn fixed(rules: &[(&str, &str)]) -> InProcess {
    let routes: Vec<String> = rules
        .iter()
        .map(|(name, keys)| format!("[[route]]\n{keys}\nrespond = {{ body = \"{name}\" }}\n"))
        .collect();
    InProcess::start(Setup::new(routes.join("\n")))
}

fn ask(router: &InProcess, line: &str, fields: &str) -> Response {
    router.ask(&format!("{line} HTTP/1.1\r\n{fields}\r\n"))
}

/// Request line, fields, expected body or status.
fn check(router: &InProcess, rows: &[(&str, &str, &str)]) {
    for (line, fields, expected) in rows {
        let response = ask(router, line, fields);
        let what = format!("{line} {fields:?}: {response:?}");
        match expected.parse::<u16>() {
            Ok(status) => assert_eq!(response.status, status, "{what}"),
            Err(_) => assert_eq!((response.status, response.text().as_str()), (200, *expected), "{what}"),
        }
    }
}

#[test]
fn hosts() {
    let router = fixed(&[
        ("any", ""),
        ("exact", "host = \"a.example\""),
        ("wild", "host = \"*.example\""),
        ("deep", "host = \"*.b.example\""),
        ("ip", "host = \"127.0.0.1\""),
        ("under-exact", "host = \"only.example\"\npath = \"/x\""),
    ]);
    check(
        &router,
        &[
            ("GET /", "Host: a.example\r\n", "exact"),
            ("GET /", "Host: A.EXAMPLE:8080\r\n", "exact"),
            ("GET /", "Host: a.example.\r\n", "exact"),
            ("GET http://A.example/", "Host: a.Example\r\n", "exact"),
            ("GET /", "Host: c.example\r\n", "wild"),
            ("GET /", "Host: x.b.example\r\n", "deep"),
            ("GET /", "Host: example\r\n", "any"),
            ("GET /", "Host: 127.0.0.1\r\n", "ip"),
            ("GET /x", "Host: only.example\r\n", "under-exact"),
            // The most specific host decides; there is no falling back to a wider one.
            ("GET /y", "Host: only.example\r\n", "404"),
        ],
    );
    assert_eq!(router.ask("GET / HTTP/1.0\r\n\r\n").text(), "any");
}

#[test]
fn paths() {
    let router = fixed(&[
        ("root", ""),
        ("exact", "path = { exact = \"/a\" }"),
        ("prefix", "path = \"/a\""),
        ("longer", "path = \"/a/b\""),
        ("regex", "path = { regex = \"/r/[0-9]+\" }"),
        ("tilde", "path = { exact = \"/~x\" }"),
    ]);
    check(
        &router,
        &[
            ("GET /", "Host: h\r\n", "root"),
            ("GET /a", "Host: h\r\n", "exact"),
            ("GET /a?q=/a/b", "Host: h\r\n", "exact"),
            ("GET /a/", "Host: h\r\n", "prefix"),
            ("GET /ab", "Host: h\r\n", "root"),
            ("GET /a/b", "Host: h\r\n", "longer"),
            ("GET /a/bc", "Host: h\r\n", "prefix"),
            ("GET /a/c/../b/x", "Host: h\r\n", "longer"),
            ("GET /a/c/%2e%2e/b/x", "Host: h\r\n", "longer"),
            ("GET /r/12", "Host: h\r\n", "regex"),
            ("GET /r/12x", "Host: h\r\n", "root"),
            ("GET /%7Ex", "Host: h\r\n", "tilde"),
            ("GET /%61/%62", "Host: h\r\n", "longer"),
            // Read loosely, these select another rule.
            ("GET /a%2Fb", "Host: h\r\n", "400"),
            ("GET //a/b", "Host: h\r\n", "400"),
            ("GET /a;x/b", "Host: h\r\n", "400"),
            ("GET /q//z", "Host: h\r\n", "root"),
        ],
    );
    assert_eq!(ask(&router, "GET /a%2fb", "Host: h\r\n").code(), "path_ambiguous");
    let merging = InProcess::start(
        Setup::new("[[route]]\npath = \"/a/b\"\nrespond = { body = \"in\" }\n")
            .listener("merge_slashes = true"),
    );
    assert_eq!(ask(&merging, "GET //a///b", "Host: h\r\n").text(), "in");
}

#[test]
fn conditions() {
    let router = fixed(&[
        ("plain", "path = \"/c\""),
        ("get", "path = \"/m\"\nmethods = [\"GET\", \"HEAD\"]"),
        ("header", "path = \"/c\"\nheaders = { X-Kind = \"beta\" }"),
        ("query", "path = \"/q\"\nquery = { v = { regex = \"[0-9]+\" } }"),
        ("cookie", "path = \"/k\"\ncookies = { user = { present = true } }"),
    ]);
    check(
        &router,
        &[
            ("GET /c", "Host: h\r\nX-Kind: beta\r\n", "header"),
            ("GET /c", "Host: h\r\nx-kind: other\r\nX-KIND: beta\r\n", "header"),
            ("GET /c", "Host: h\r\nX-Kind: Beta\r\n", "plain"),
            ("GET /c", "Host: h\r\n", "plain"),
            ("GET /m", "Host: h\r\n", "get"),
            ("POST /m", "Host: h\r\n", "405"),
            ("GET /q?v=12", "Host: h\r\n", "query"),
            ("GET /q?x=1&v=7&y", "Host: h\r\n", "query"),
            ("GET /q?v=a", "Host: h\r\n", "404"),
            ("GET /k", "Host: h\r\nCookie: a=b; user=7\r\n", "cookie"),
            ("GET /k", "Host: h\r\nCookie: a=b\r\nCookie: user=\r\n", "cookie"),
            ("GET /k", "Host: h\r\nCookie: a=user\r\n", "404"),
        ],
    );
    let refused = ask(&router, "DELETE /m", "Host: h\r\n");
    assert_eq!((refused.code(), refused.get("allow")), ("method_not_allowed", Some("GET, HEAD")));
}

#[test]
fn fixed_responses() {
    let router = InProcess::start(Setup::new(
        "[[route]]\npath = \"/teapot\"\nrespond = { status = 418, body = \"short\", content_type = \"text/x\" }\n\
         [[route]]\npath = \"/none\"\nrespond = { status = 204 }\n",
    ));
    let mut client = router.client();
    for _ in 0..2 {
        let response = client.get("a", "/teapot");
        assert_eq!(
            (response.status, response.text().as_str(), response.get("content-type")),
            (418, "short", Some("text/x"))
        );
        assert_eq!((response.code(), response.says_close()), ("", false));
        assert!(response.get("date").is_some());
    }
    client.send("HEAD /teapot HTTP/1.1\r\nHost: a\r\n\r\nGET /none HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = client.read(true).unwrap();
    assert_eq!((head.status, head.get("content-length")), (418, Some("5")));
    let none = client.response();
    assert_eq!((none.status, none.get("content-length"), none.body.len()), (204, None, 0));
    let old = router.ask("GET /teapot HTTP/1.0\r\n\r\n");
    assert!(old.says_close() && old.text() == "short");
}

#[test]
fn redirects() {
    let rows: &[(&str, &str, u16, &str)] = &[
        ("redirect = { scheme = \"https\" }", "GET /x/y?z=1", 308, "https://h.example/x/y?z=1"),
        ("redirect = { host = \"new.example\", status = 301 }", "GET /x?z", 301, "http://new.example/x?z"),
        ("redirect = { path = \"/else\", status = 302 }", "GET /x?z", 302, "http://h.example/else?z"),
        (
            "redirect = { path = \"/else\", strip_query = true, status = 303 }",
            "GET /x?z",
            303,
            "http://h.example/else",
        ),
        (
            "path = \"/old\"\nredirect = { prefix = \"/new\", status = 307 }",
            "GET /old/a?z",
            307,
            "http://h.example/new/a?z",
        ),
    ];
    for (keys, line, status, location) in rows {
        let router = InProcess::start(Setup::new(format!("[[route]]\n{keys}\n")));
        let mut client = router.client();
        let response = client.ask(format!("{line} HTTP/1.1\r\nHost: h.example\r\n\r\n"));
        assert_eq!(response.status, *status, "{keys}");
        let got = response.get("location").unwrap();
        let relative = location.strip_prefix("http://h.example").unwrap_or(location);
        assert!(got == *location || got == relative, "{keys}: {got} is not {location}");
        assert!(!response.says_close(), "{keys}");
        assert_eq!(
            client.ask(format!("{line} HTTP/1.1\r\nHost: h.example\r\n\r\n")).status,
            *status,
            "{keys}"
        );
    }
    let router = InProcess::start(Setup::new("[[route]]\nredirect = { scheme = \"https\" }\n"));
    let split = router.ask("GET /a%0d%0aX:%20y HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!((split.status, split.get("x")), (308, None), "an encoded line end stays encoded");
}

#[test]
fn rewrites() {
    let echo = Echo::start("one");
    let rows: &[(&str, &str, &str, &str)] = &[
        (
            "path = \"/api\"\nrewrite = { prefix = \"/v1\" }",
            "GET /api/x?y=/api",
            "GET /v1/x?y=/api HTTP/1.1",
            "h",
        ),
        ("path = \"/api\"\nrewrite = { prefix = \"/\" }", "GET /api/x", "GET /x HTTP/1.1", "h"),
        ("path = \"/api\"\nrewrite = { prefix = \"/\" }", "GET /api", "GET / HTTP/1.1", "h"),
        ("rewrite = { host = \"inner.example\" }", "GET /x", "GET /x HTTP/1.1", "inner.example"),
    ];
    for (keys, line, sent, host) in rows {
        let text = format!("{}\n[[route]]\n{keys}\ncluster = \"web\"\n", cluster("web", &[echo.address], ""));
        let router = InProcess::start(Setup::new(text));
        let seen = Seen::from(ask(&router, line, "Host: h\r\n"));
        assert_eq!(
            (seen.text("line").as_str(), seen.all("host")),
            (*sent, vec![(*host).to_owned()]),
            "{keys}"
        );
        assert_eq!(seen.field("x-forwarded-host").as_deref(), Some("h"), "{keys}: what the client asked for");
    }
}

/// Which side each of a number of users comes to.
fn sides(router: &InProcess, users: usize) -> BTreeMap<usize, String> {
    let mut client = router.client();
    (0..users)
        .map(|user| {
            let seen =
                Seen::from(client.ask(format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: u=user-{user}\r\n\r\n")));
            (user, seen.text("origin"))
        })
        .collect()
}

#[test]
fn a_split_keeps_users_on_their_side_while_it_grows() {
    let (old, new) = (Echo::start("old"), Echo::start("new"));
    let text = |weight: u32| {
        format!(
            "{}\n{}\n[[route]]\nsplit = {{ cookie = \"u\" }}\nclusters = [{{ name = \"old\", weight = {} }}, {{ name = \"new\", weight = {weight} }}]\n",
            cluster("old", &[old.address], ""),
            cluster("new", &[new.address], ""),
            100 - weight
        )
    };
    let mut router = InProcess::start(Setup::new(text(0)));
    let mut before = sides(&router, 300);
    assert!(before.values().all(|side| side == "old"));
    for weight in [10, 20, 50, 100] {
        router.publish(&text(weight));
        let now = sides(&router, 300);
        assert_eq!(now, sides(&router, 300), "the same user comes to the same side");
        for (user, side) in &before {
            assert!(side == "old" || now[user] == "new", "user {user} was moved back at {weight} %");
        }
        let share = now.values().filter(|side| *side == "new").count() * 100 / 300;
        assert!(share.abs_diff(weight as usize) <= 8, "{weight} % gave {share} %");
        before = now;
    }
}

#[test]
fn a_route_with_its_own_listener_serves_there_only() {
    let port = ekiden_tests::free_port();
    let router = InProcess::start(Setup::new(format!(
        "[listener.inner]\naddress = \"127.0.0.1:{port}\"\nrole = \"inbound\"\n\
         [[route]]\nrespond = {{ body = \"edge\" }}\n[[route]]\nlisteners = [\"inner\"]\nrespond = {{ body = \"inner\" }}\n"
    )));
    assert_eq!(router.get("/").text(), "edge");
    let inner = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    assert_eq!(ekiden_tests::Client::connect(inner).get("a", "/").text(), "inner");
}
