//! Keep-alive, pipelining, versions, ends of connections.

use std::time::Duration;

use super::serve;
use ekiden_tests::{Echo, End, Lost, Origin, Seen, Served};

#[test]
fn both_sides_are_kept_alive() {
    let echo = Echo::start("one");
    let router = serve(echo.origin());
    let mut client = router.client();
    for turn in 1..=20 {
        let response = client.get("a", "/x");
        assert!(!response.says_close());
        let seen = Seen::from(response);
        assert_eq!((seen.number("connection"), seen.number("turn")), (1, turn));
    }
    let mut other = router.client();
    assert_eq!(
        Seen::from(other.get("a", "/x")).number("connection"),
        1,
        "one upstream connection serves both clients"
    );
    assert_eq!(echo.connections(), 1);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let echo = Echo::start("one");
    let router = serve(echo.origin());
    let mut text = String::new();
    for n in 0..50 {
        match n % 4 {
            0 => text.push_str(&format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n")),
            1 => text.push_str(&format!("POST /{n} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")),
            2 => text.push_str(&format!(
                "POST /{n} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n\r\n"
            )),
            _ => text.push_str(&format!("GET /{n}?chunked HTTP/1.1\r\nHost: a\r\n\r\n")),
        }
    }
    for split in [false, true] {
        let mut client = router.client();
        if split {
            client.send_split(text.as_bytes())
        } else {
            client.send(&text)
        }
        for n in 0..50 {
            let seen = Seen::from(client.response());
            assert!(
                seen.text("line").contains(&format!(" /{n}")),
                "{n} split {split}: {}",
                seen.text("line")
            );
            let body = if matches!(n % 4, 1 | 2) { "hello" } else { "" };
            assert_eq!(seen.text("body"), body, "{n}");
        }
        assert!(client.is_quiet(Duration::from_millis(20)));
    }
}

#[test]
fn a_client_that_says_close_is_closed() {
    let echo = Echo::start("one");
    let router = serve(echo.origin());
    for value in ["close", "Close", "keep-alive, close", "x, CLOSE"] {
        let mut client = router.client();
        let response = client.ask(format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: {value}\r\n\r\n"));
        assert!(response.says_close(), "{value}");
        assert_eq!(client.rest(), b"", "{value}");
    }
    assert_eq!(echo.connections(), 1, "the upstream connection does not close with the client's");
}

#[test]
fn an_endpoint_that_says_close_is_not_used_again() {
    for head in
        ["HTTP/1.1 200 OK\r\nConnection: close", "HTTP/1.1 200 OK\r\nConnection: x, Close", "HTTP/1.0 200 OK"]
    {
        let origin = Origin::start(move |conn| {
            conn.request();
            conn.send(format!("{head}\r\nContent-Length: 2\r\n\r\nok"));
            conn.until_closed();
        });
        let router = serve(&origin);
        let mut client = router.client();
        for number in 1..=3 {
            let response = client.get("a", "/");
            assert_eq!((response.status, response.says_close()), (200, false), "{head}");
            assert_eq!(origin.connections(), number, "{head}");
            origin.ended(number);
        }
    }
    let origin = Origin::start(|conn| {
        while conn.request().is_some() {
            conn.send("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let router = serve(&origin);
    for _ in 0..3 {
        assert_eq!(router.get("/").text(), "ok");
    }
    assert_eq!(origin.connections(), 1, "a 1.0 endpoint may keep alive");
}

#[test]
fn clients_of_1_0() {
    let echo = Echo::start("one");
    let router = serve(echo.origin());
    let mut client = router.client();
    let response = client.ask("GET /x HTTP/1.0\r\n\r\n");
    assert!(response.says_close());
    let seen = Seen::from(response);
    assert_eq!(seen.text("line"), "GET /x HTTP/1.1");
    assert_eq!(
        seen.field("host"),
        Some(echo.address.to_string()),
        "a missing Host is the endpoint's address"
    );
    assert_eq!(client.rest(), b"");

    let mut client = router.client();
    for _ in 0..3 {
        let response = client.ask("GET /x HTTP/1.0\r\nHost: a\r\nConnection: Keep-Alive\r\n\r\n");
        assert_eq!(response.get("connection"), Some("keep-alive"));
        assert_eq!(Seen::from(response).field("host").as_deref(), Some("a"));
    }
    // What has no length ends with the connection, whatever was asked for.
    let response = client.ask("GET /x?chunked HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n");
    assert!(response.says_close() && response.get("transfer-encoding").is_none());
    assert_eq!(Seen::from(response).number("body_length"), 0);
    let posted = router.ask("POST /x HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc");
    assert_eq!(Seen::from(posted).text("body"), "abc");
}

#[test]
fn a_fin_after_a_complete_request_is_served() {
    let origin = Origin::hello("served");
    let router = serve(&origin);
    for request in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ] {
        let mut client = router.client();
        client.send(request);
        client.finish();
        assert_eq!(client.response().text(), "served", "{request:?}");
        assert_eq!(client.rest(), b"");
    }
    let records = router.records(3);
    assert!(records.iter().all(|record| record["code"] == "complete"), "{records:?}");
}

#[test]
fn a_fin_while_the_endpoint_works_is_served() {
    let (go, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let origin = Origin::start(move |conn| {
        let request = conn.request().unwrap();
        gate.lock().unwrap().recv().unwrap();
        conn.answer(&request, "served");
    });
    let router = serve(&origin);
    let mut client = router.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    origin.wait_received(1, 20);
    client.finish();
    assert!(client.is_quiet(Duration::from_millis(30)));
    go.send(()).unwrap();
    assert_eq!(client.response().text(), "served");
    assert_eq!(client.rest(), b"");
}

#[test]
fn a_reset_ends_the_upstream_request() {
    let origin = Origin::start(|conn| {
        conn.request();
        conn.until_closed();
    });
    let router = serve(&origin);
    for (number, request) in
        ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"]
            .iter()
            .enumerate()
    {
        let mut client = router.client();
        client.send(request);
        origin.wait_received(number + 1, 20);
        client.reset();
        let end = origin.ended(number + 1);
        assert!(matches!(end, End::Fin | End::Reset));
        assert_eq!(router.records(number + 1)[number]["code"], "client_gone", "{request:?}");
    }
    assert_eq!(origin.connections(), 2, "nobody tries again for a client that is gone");
}

#[test]
fn a_reset_inside_a_response_ends_the_upstream_request() {
    let origin = Origin::start(|conn| {
        conn.request();
        conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
        // The router notices by itself, or at the latest by its next write.
        while conn.send("3\r\nabc\r\n") {}
    });
    let router = serve(&origin);
    let mut client = router.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.head().unwrap().status, 200);
    client.reset();
    origin.over(1);
    assert_eq!(router.records(1)[0]["code"], "client_gone");
}

#[test]
fn a_client_that_leaves_inside_a_head_is_no_error_of_others() {
    let echo = Echo::start("one");
    let router = serve(echo.origin());
    let mut client = router.client();
    client.send("GET / HTTP/1.1\r\nHo");
    client.finish();
    assert_eq!(client.read(false), Err(Lost::Closed));
    assert_eq!(echo.connections(), 0);
    assert_eq!(router.records(1)[0]["code"], "client_gone");
}

#[test]
fn pipelined_bytes_wait_while_a_request_is_served() {
    let (go, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let origin = Origin::start(move |conn| {
        while let Some(request) = conn.request() {
            if request.target() == "/1" {
                gate.lock().unwrap().recv().unwrap();
            }
            conn.answer(&request, if request.target() == "/1" { "one" } else { "two" });
        }
    });
    let router = serve(&origin);
    let mut client = router.client();
    client.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\n");
    origin.wait_received(1, 20);
    // More than one read buffer of further requests, sent while the first is being served.
    let second = format!("GET /2 HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(8000));
    let socket = client.socket().try_clone().unwrap();
    let all = second.repeat(40);
    let feeder =
        std::thread::spawn(move || std::io::Write::write_all(&mut (&socket), all.as_bytes()).unwrap());
    assert!(client.is_quiet(Duration::from_millis(30)));
    go.send(()).unwrap();
    assert_eq!(client.response().text(), "one");
    for n in 0..40 {
        assert_eq!(client.response().text(), "two", "{n}");
    }
    feeder.join().unwrap();
}
