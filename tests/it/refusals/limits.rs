//! Bounds of a request in bytes, fields and time, each at its exact edge.

use std::time::{Duration, Instant};

use super::{nothing_reached, origin, refused, serve};
use ekiden_tests::{Lost, Served};

fn line(length: usize) -> String {
    let fixed = "GET / HTTP/1.1".len();
    format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(length - fixed))
}

fn field(length: usize) -> String {
    format!("GET /good HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(length - 3))
}

/// A head of exactly so many bytes, of fields below their own bound.
fn head(length: usize) -> String {
    let mut text = "GET /good HTTP/1.1\r\nHost: a\r\n".to_owned();
    while text.len() + 2 < length {
        let left = length - 2 - text.len();
        // At least `X: ` and CRLF must be left for the last field.
        let take = if left > 12_000 { 10_000 } else { left };
        text.push_str(&format!("X: {}\r\n", "x".repeat(take - 5)));
    }
    text + "\r\n"
}

fn fields(count: usize) -> String {
    format!("GET /good HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(count - 1))
}

#[test]
fn sizes_at_their_edges() {
    let rows: &[(&str, String, u16, &str)] = &[
        ("field of 16384", field(16 << 10), 200, ""),
        ("field of 16385", field((16 << 10) + 1), 431, "field_too_large"),
        ("head of 65536", head(64 << 10), 200, ""),
        ("head of 65537", head((64 << 10) + 1), 431, "head_too_large"),
        ("100 fields", fields(100), 200, ""),
        ("101 fields", fields(101), 431, "too_many_fields"),
        ("1000 fields", fields(1000), 431, "too_many_fields"),
        ("line of 8193", line((8 << 10) + 1), 414, "request_line_too_long"),
        ("line without end", format!("GET /{}", "x".repeat(8200)), 414, "request_line_too_long"),
        ("method without end", "x".repeat(8200), 400, "request_line_malformed"),
        ("field without end", format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(17_000)), 431, "field_too_large"),
    ];
    let origin = origin();
    let router = serve(&origin, "");
    for (what, text, status, code) in rows {
        if *status == 200 {
            let mut client = router.client();
            assert_eq!(client.ask(text).status, 200, "{what}");
        } else {
            let response = refused(&router, text.as_bytes(), false, what);
            assert_eq!((response.status, response.code()), (*status, *code), "{what}");
        }
    }
    let echo = ekiden_tests::Echo::start("one");
    let router = serve(echo.origin(), "");
    assert_eq!(router.ask(&line(8 << 10)).status, 200, "line of 8192");
}

#[test]
fn the_listener_sets_the_bounds() {
    let origin = origin();
    let router = serve(&origin, "limits = { request_line = 64, field = 70, head = 256, fields = 3 }");
    let rows: &[(String, u16, &str)] = &[
        (line(65), 414, "request_line_too_long"),
        (field(71), 431, "field_too_large"),
        (
            format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", format!("X: {}\r\n", "x".repeat(60)).repeat(4)),
            431,
            "too_many_fields",
        ),
        (fields(4), 431, "too_many_fields"),
    ];
    for (text, status, code) in rows {
        for split in [false, true] {
            let response = refused(&router, text.as_bytes(), split, text);
            assert_eq!((response.status, response.code()), (*status, *code), "{text:?} split {split}");
        }
    }
    nothing_reached(&origin, &router, "bounds");
}

#[test]
fn a_head_has_a_deadline_from_its_first_byte() {
    let origin = origin();
    let router = serve(&origin, "limits = { head_deadline = \"300ms\" }");
    let mut client = router.client();
    let began = Instant::now();
    client.send("G");
    // More bytes do not make it longer.
    while began.elapsed() < Duration::from_millis(200) {
        client.send("E");
        assert!(client.is_quiet(Duration::from_millis(20)));
    }
    let response = client.response();
    let took = began.elapsed();
    assert_eq!((response.status, response.code()), (408, "head_timeout"));
    assert!(response.says_close());
    assert!(took >= Duration::from_millis(290) && took < Duration::from_secs(3), "{took:?}");
    client.finish();
    assert_eq!(client.rest(), b"");
    nothing_reached(&origin, &router, "head deadline");
}

#[test]
fn the_second_head_has_the_same_deadline() {
    let origin = origin();
    let router = serve(&origin, "limits = { head_deadline = \"200ms\" }");
    let mut client = router.client();
    client.send("GET /good HTTP/1.1\r\nHost: a\r\n\r\nGET /go");
    assert_eq!(client.response().text(), "good");
    let second = client.response();
    assert_eq!((second.status, second.code()), (408, "head_timeout"));
}

#[test]
fn an_idle_connection_closes_without_a_word() {
    let origin = origin();
    let router = serve(&origin, "limits = { keepalive_idle = \"200ms\" }");
    let began = Instant::now();
    assert_eq!(router.client().read(false), Err(Lost::Closed), "never a byte");
    assert!(began.elapsed() < Duration::from_secs(5), "closed late: never a byte: {:?}", began.elapsed());
    let mut served = router.client();
    for _ in 0..3 {
        assert_eq!(served.get("a", "/good").text(), "good");
    }
    assert_eq!(served.rest(), b"", "idle after a response");
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "closed late: idle after a response: {:?}",
        began.elapsed()
    );
    let mut pipelined = router.client();
    pipelined.send("GET /good HTTP/1.1\r\nHost: a\r\n\r\nGET /good HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((pipelined.response().status, pipelined.response().status), (200, 200));
    assert_eq!(pipelined.rest(), b"", "idle after two responses");
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "closed late: idle after two responses: {:?}",
        began.elapsed()
    );
}

#[test]
fn bodies_have_a_bound() {
    let origin = origin();
    let router = serve(&origin, "limits = { body = 10 }");
    let what = "Content-Length over the bound";
    let response =
        refused(&router, b"POST /good HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n", false, what);
    assert_eq!((response.status, response.code()), (413, "body_too_large"));
    nothing_reached(&origin, &router, what);
    assert_eq!(
        router.ask("POST /good HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n0123456789").status,
        200
    );

    let chunked = "POST /good HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(router.ask(&format!("{chunked}4\r\nabcd\r\n6\r\nefghij\r\n0\r\n\r\n")).status, 200);
    for body in ["b\r\n01234567890\r\n0\r\n\r\n", "4\r\nabcd\r\n7\r\nefghijk\r\n0\r\n\r\n"] {
        for split in [false, true] {
            let response = refused(&router, format!("{chunked}{body}").as_bytes(), split, body);
            assert_eq!((response.status, response.code()), (413, "body_too_large"), "{body:?} split {split}");
        }
    }
    for number in 1..=origin.connections() {
        let sent = String::from_utf8_lossy(&origin.received(number)).into_owned();
        assert!(!sent.contains("efghijk") && !sent.contains("01234567890"), "{sent:?}");
    }
}

#[test]
fn a_silent_body_times_out() {
    let origin = origin();
    let router = serve(&origin, "limits = { body_idle = \"200ms\" }");
    for (head, part) in [
        ("Content-Length: 5", "ab"),
        ("Transfer-Encoding: chunked", "2\r\nab\r\n"),
        ("Content-Length: 5", ""),
    ] {
        let mut client = router.client();
        let response = client.ask(format!("POST /bad HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n{part}"));
        assert_eq!((response.status, response.code()), (408, "body_timeout"), "{head} {part:?}");
        client.finish();
        assert_eq!(client.rest(), b"");
        origin.ended(origin.connections());
    }
}
