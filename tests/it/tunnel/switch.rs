//! What is upgraded, and what is not: nothing without a 101 from the endpoint to what the client asked for and the route
//! names.

use ekiden_tests::{InProcess, Lost, Origin, Served, Setup, web};

use super::{ASK, SWITCH, ask, echo, record, serve, switched, switching, tunnel};

#[test]
fn an_endpoint_is_asked_and_its_101_passed_on() {
    let origin = Origin::start(|conn| {
        let head = conn.head().unwrap();
        assert_eq!(head.all("upgrade"), ["websocket"]);
        assert_eq!(head.all("connection"), ["Upgrade"]);
        assert_eq!(head.get("sec-websocket-key"), Some("dGhlIHNhbXBsZSBub25jZQ=="));
        // The first bytes of the tunnel stand in the same segment.
        conn.send(SWITCH.replace("\r\n\r\n", "\r\nKeep-Alive: timeout=5\r\nX-End: 1\r\n\r\nfirst"));
        echo(conn);
    });
    let router = serve(&origin, "response_headers = { set = { X-Route = \"2\" } }");
    let mut client = router.client();
    client.send(ask("/chat"));
    let head = switched(&mut client);
    assert_eq!(head.status, 101);
    assert_eq!((head.get("upgrade"), head.get("connection")), (Some("websocket"), Some("Upgrade")));
    assert_eq!(head.get("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(
        (head.get("x-end"), head.get("x-route"), head.get("keep-alive")),
        (Some("1"), Some("2"), None)
    );
    assert_eq!(client.exactly(5).unwrap(), b"first");
    client.send("hello");
    assert_eq!(client.exactly(5).unwrap(), b"hello");
    client.finish();
    assert!(client.rest().is_empty());
    assert_eq!(record(&router), ("complete".to_owned(), 101));
}

/// The endpoint takes its time; what the client sent meanwhile is neither lost nor taken for a request.
#[test]
fn early_bytes_wait_for_the_101() {
    let origin = Origin::start(|conn| {
        let head = conn.head().unwrap();
        assert_eq!(head.target(), "/");
        // Whatever the router had sent by now would stand before this.
        conn.send("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n");
        conn.send(SWITCH);
        echo(conn);
    });
    let router = serve(&origin, "");
    let mut client = router.client();
    let early = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    client.send([ask("/"), early.to_owned()].concat());
    assert_eq!(switched(&mut client).status, 103);
    assert_eq!(switched(&mut client).status, 101);
    assert_eq!(client.exactly(early.len()).unwrap(), early.as_bytes());
    drop(client);
    origin.over(1);
    assert_eq!((origin.connections(), router.records(1).len()), (1, 1));
}

/// What stands behind an upgrade that was refused was meant for another protocol: it is no request.
#[test]
fn early_bytes_are_no_request_when_the_endpoint_refuses() {
    let origin = Origin::hello("plain");
    let router = serve(&origin, "");
    let mut client = router.client();
    client.send([ask("/"), "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()].concat());
    let response = client.response();
    assert_eq!((response.status, response.text().as_str()), (200, "plain"));
    assert!(client.rest().is_empty() && !client.was_reset());
    let received = String::from_utf8(origin.received(1)).unwrap();
    assert!(!received.contains("smuggled") && origin.connections() == 1, "{received}");
    assert_eq!(router.records(1).len(), 1);
}

/// The same where the router refuses by itself.
#[test]
fn early_bytes_are_no_request_when_the_router_refuses() {
    let origin = Origin::hello("plain");
    let router = serve(
        &origin,
        "[[route]]\npath = \"/closed\"\ncluster = \"web\"\ndeny = { clients = [\"127.0.0.0/8\"] }",
    );
    let mut client = router.client();
    client.send([ask("/closed"), "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()].concat());
    assert_eq!(client.response().status, 403);
    assert!(client.rest().is_empty());
    assert_eq!((origin.connections(), router.records(1).len()), (0, 1));
}

/// The same bytes, sent apart from the head and seen by nobody when the endpoint refuses at once.
#[test]
fn early_bytes_in_the_kernel_are_no_request_either() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let origin = Origin::start(move |conn| {
        while let Some(request) = conn.head() {
            let _sent = wait.lock().unwrap().recv();
            conn.answer(&request, "plain");
        }
    });
    let router = serve(&origin, "");
    let mut client = router.client();
    client.send(ask("/"));
    origin.wait_received(1, 10);
    // On loopback it is in the router's socket when this returns.
    client.send("GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
    go.send(()).unwrap();
    assert_eq!(client.response().text(), "plain");
    drop(go);
    assert!(client.rest().is_empty());
    assert_eq!(router.records(1).len(), 1);
}

#[test]
fn a_refused_upgrade_is_an_ordinary_response() {
    let origin = Origin::start(|conn| {
        while let Some(request) = conn.head() {
            match request.target() {
                "/401" => conn.send("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno"),
                "/426" => {
                    conn.send("HTTP/1.1 426 Upgrade Required\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
                }
                _ => conn.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
            };
        }
    });
    let router = serve(&origin, "");
    let mut client = router.client();
    for (target, status) in [("/401", 401), ("/426", 426), ("/", 200)] {
        let response = client.ask(ask(target));
        assert!(response.status == status && !response.says_close(), "{response:?}");
    }
    assert_eq!(client.get("a", "/").status, 200);
    assert_eq!(origin.connections(), 1, "the connection to the endpoint is pooled as ever");
}

/// Each is a 502, and the endpoint's connection is not used again.
#[test]
fn a_101_that_was_not_asked_for_is_malformed() {
    let rows = [
        ("to something else", ASK, SWITCH.replace("Upgrade: websocket", "Upgrade: echo")),
        ("to two protocols", ASK, SWITCH.replace("Upgrade: websocket", "Upgrade: websocket, echo")),
        ("without Upgrade", ASK, SWITCH.replace("Upgrade: websocket\r\n", "")),
        ("without Connection", ASK, SWITCH.replace("Connection: Upgrade\r\n", "")),
        ("with a length", ASK, SWITCH.replace("\r\n\r\n", "\r\nContent-Length: 5\r\n\r\nhello")),
        ("with a coding", ASK, SWITCH.replace("\r\n\r\n", "\r\nTransfer-Encoding: chunked\r\n\r\n")),
        ("unasked", "", SWITCH.to_owned()),
        ("to h2c", "Connection: Upgrade\r\nUpgrade: h2c\r\n", SWITCH.replace("websocket", "h2c")),
        ("not nominated", "Upgrade: websocket\r\n", SWITCH.to_owned()),
    ];
    for (name, fields, answer) in rows {
        let origin = Origin::start(move |conn| {
            if conn.head().is_some() {
                conn.send(&answer);
                conn.until_closed();
            }
        });
        let router = serve(&origin, "");
        let response = router.ask(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        assert_eq!((response.status, response.code()), (502, "response_malformed"), "{name}");
        origin.over(1);
        assert_eq!(record(&router), ("response_malformed".to_owned(), 502), "{name}");
    }
}

/// The endpoint answers before it has the body: what follows would not be the tunnel's.
#[test]
fn a_101_before_the_end_of_the_request_is_malformed() {
    let origin = Origin::start(|conn| {
        if conn.head().is_some() {
            conn.send(SWITCH.replace("websocket", "exec"));
            conn.until_closed();
        }
    });
    let router = serve(&origin, "upgrades = [\"exec\"]");
    let mut client = router.client();
    client.send(
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: exec\r\nContent-Length: 5\r\n\r\nhe",
    );
    assert_eq!(client.response().code(), "response_malformed");
}

/// The origin sees `Upgrade` where it is passed on, and answers with what it saw.
#[test]
fn only_what_the_route_names_is_passed_on() {
    let origin = Origin::start(|conn| {
        while let Some(request) = conn.request() {
            let seen = format!("{:?}", request.all("upgrade"));
            conn.answer(&request, &seen);
        }
    });
    let config = [
        web(&[origin.address], "", ""),
        "[[route]]\npath = \"/off\"\ncluster = \"web\"\nupgrades = \"off\"\n".to_owned(),
        "[[route]]\npath = \"/list\"\ncluster = \"web\"\nupgrades = [\"SPDY/3.1\", \"tcp\"]\n".to_owned(),
    ];
    let router = InProcess::start(Setup::new(config.concat()));
    let rows = [
        ("GET", "/", "1.1", "websocket", "[\"websocket\"]"),
        ("GET", "/", "1.1", "WebSocket", "[\"websocket\"]"),
        ("GET", "/", "1.1", "h2c, websocket", "[\"websocket\"]"),
        ("GET", "/", "1.0", "websocket", "[]"),
        ("POST", "/", "1.1", "websocket", "[]"),
        ("GET", "/", "1.1", "websocket/13", "[]"),
        ("GET", "/", "1.1", "h2c", "[]"),
        ("GET", "/", "1.1", "TLS/1.0", "[]"),
        ("GET", "/off", "1.1", "websocket", "[]"),
        ("GET", "/list", "1.1", "websocket", "[]"),
        ("POST", "/list", "1.1", "spdy/3.1", "[\"SPDY/3.1\"]"),
        ("GET", "/list", "1.1", "websocket, tcp", "[\"tcp\"]"),
    ];
    for (method, target, version, protocol, seen) in rows {
        let length = if method == "POST" { "Content-Length: 0\r\n" } else { "" };
        let response = router.ask(&format!(
            "{method} {target} HTTP/{version}\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n{length}\r\n"
        ));
        assert_eq!(response.text(), seen, "{method} {target} HTTP/{version} {protocol}");
    }
}

/// A request that switches may have a body, all of which goes first; the tunnel begins behind it.
#[test]
fn a_body_goes_before_the_tunnel() {
    let origin = Origin::start(|conn| {
        let request = conn.request().unwrap();
        assert_eq!(request.body, b"{}");
        conn.send(SWITCH.replace("websocket", "tcp"));
        echo(conn);
    });
    let router = serve(&origin, "upgrades = [\"tcp\"]");
    let mut client = router.client();
    let head =
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 2\r\n\r\n";
    client.send([head, "{}", "raw"].concat());
    assert_eq!(switched(&mut client).status, 101);
    assert_eq!(client.exactly(3).unwrap(), b"raw");
}

/// The connection died of age in the pool: the request is sent again, once, as any other of its method.
#[test]
fn a_lost_pooled_connection_is_replaced() {
    let origin = Origin::start(|conn| {
        let request = conn.head().unwrap();
        if conn.number == 1 {
            conn.answer(&request, "first");
            let _the_upgrade = conn.head();
            return;
        }
        conn.send(SWITCH);
        echo(conn);
    });
    let router = serve(&origin, "");
    assert_eq!(router.get("/").text(), "first");
    let mut client = tunnel(&router);
    client.send("x");
    assert_eq!(client.exactly(1).unwrap(), b"x");
    assert_eq!(origin.connections(), 2);
}

#[test]
fn neither_connection_is_used_again() {
    let origin = switching(|conn| {
        conn.exactly(3);
    });
    let router = serve(&origin, "");
    let mut client = tunnel(&router);
    client.send("bye");
    assert_eq!(client.read(false), Err(Lost::Closed));
    let mut other = tunnel(&router);
    other.send("bye");
    assert_eq!(other.read(false), Err(Lost::Closed));
    assert_eq!(origin.connections(), 2);
}
