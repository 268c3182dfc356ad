//! What a bad endpoint does: a malformed or missing response is a 502 or 504 with its code, a body that does not end
//! is never given a false end, and the connection is not used again.

use std::time::{Duration, Instant};

use ekiden_tests::{Conn, InProcess, Lost, Origin, Served, Setup, web};

/// An origin that is bad to requests of `/bad` and good to others. A request tells by its target which row it wants.
fn origin(bad: impl Fn(&mut Conn) + Send + Sync + 'static) -> Origin {
    Origin::start(move |conn| {
        while let Some(request) = conn.request() {
            if request.target().starts_with("/bad") {
                return bad(conn);
            }
            conn.answer(&request, "good");
        }
    })
}

fn serve(origin: &Origin, route: &str) -> InProcess {
    InProcess::start(Setup::new(web(&[origin.address], "", route)))
}

/// The next request is served, on a connection of its own.
fn not_reused(origin: &Origin, router: &InProcess, what: &str) {
    let before = origin.connections();
    assert_eq!(router.get("/good").text(), "good", "{what}");
    assert_eq!(origin.connections(), before + 1, "{what}: the connection was used again");
}

/// Response bytes, which the origin sends and then waits; status and code.
const HEADS: &[(&str, &str)] = &[
    ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc", "response_malformed"),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc", "response_malformed"),
    ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", "response_malformed"),
    ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\ncontent-length: 4\r\n\r\nabc", "response_malformed"),
    ("HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\n\r\nabc", "response_malformed"),
    ("HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nabc", "response_malformed"),
    ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "response_malformed"),
    ("HTTP/1.1 200 OK\r\nContent-Length: 0x3\r\n\r\nabc", "response_malformed"),
    ("HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n", "response_malformed"),
    ("HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\n", "response_malformed"),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "response_malformed"),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "response_malformed"),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", "response_malformed"),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        "response_malformed",
    ),
    ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "response_malformed"),
    ("HTTP/2.0 200 OK\r\n\r\n", "response_malformed"),
    ("HTTP/1.2 200 OK\r\n\r\n", "response_malformed"),
    ("http/1.1 200 OK\r\n\r\n", "response_malformed"),
    ("HTTP/1.1 20 OK\r\n\r\n", "response_malformed"),
    ("HTTP/1.1 2000 OK\r\n\r\n", "response_malformed"),
    ("HTTP/1.1 abc OK\r\n\r\n", "response_malformed"),
    ("HTTP/1.1 099 OK\r\n\r\n", "response_malformed"),
    ("HTTP/1.1 600 OK\r\n\r\n", "response_malformed"),
    ("HTTP/1.1  200 OK\r\n\r\n", "response_malformed"),
    ("SSH-2.0-OpenSSH_9.2\r\n\r\n", "response_malformed"),
    ("\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "response_malformed"),
    ("HTTP/1.1 200 OK\nContent-Length: 0\n\n", "response_malformed"),
    ("HTTP/1.1 200 OK\r\nA: b\nContent-Length: 0\r\n\r\n", "response_malformed"),
    ("HTTP/1.1 200 OK\r\nA: b\rc\r\nContent-Length: 0\r\n\r\n", "response_malformed"),
    ("HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 0\r\n\r\n", "response_malformed"),
    ("HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n", "response_malformed"),
    ("HTTP/1.1 200 OK\r\nnocolon\r\n\r\n", "response_malformed"),
    ("HTTP/1.1 200 OK\r\n: v\r\n\r\n", "response_malformed"),
    ("HTTP/1.1 200 OK\r\nA B: v\r\n\r\n", "response_malformed"),
    ("HTTP/1.1 200 OK\r\nA: b\x00c\r\n\r\n", "response_malformed"),
    ("HTTP/1.1 200 OK\r\nA: b\x7f\r\n\r\n", "response_malformed"),
    ("HTTP/1.1 200 OK\r\nConnection: content-length\r\nContent-Length: 3\r\n\r\nabc", "response_malformed"),
    ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "response_malformed"),
];

#[test]
fn malformed_heads() {
    for (bytes, code) in HEADS {
        for split in [false, true] {
            let origin = origin(move |conn| {
                if split {
                    let _gone = bytes.bytes().all(|byte| conn.send([byte]));
                } else {
                    conn.send(bytes);
                }
                conn.until_closed();
            });
            let router = serve(&origin, "");
            let what = format!("{bytes:?} split {split}");
            let mut client = router.client();
            let response = client.get("a", "/bad");
            assert_eq!((response.status, response.code()), (502, *code), "{what}");
            assert_eq!(origin.connections(), 1, "{what}: it was tried again");
            origin.ended(1);
            assert_eq!(client.get("a", "/good").text(), "good", "{what}: the client's connection goes on");
            assert_eq!(origin.connections(), 2, "{what}: the connection was used again");
        }
    }
}

#[test]
fn heads_that_are_too_large() {
    let rows = [
        format!("HTTP/1.1 200 {}\r\n\r\n", "x".repeat(9 << 10)),
        format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "x".repeat(33 << 10)),
        format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(257)),
        format!("HTTP/1.1 200 OK\r\n{}\r\n", format!("A: {}\r\n", "x".repeat(1000)).repeat(70)),
        format!("HTTP/1.1 200 OK\r\nA: {}", "x".repeat(70 << 10)),
    ];
    for bytes in rows {
        let what = bytes[..40.min(bytes.len())].to_owned();
        let origin = origin(move |conn| {
            conn.send(&bytes);
            conn.until_closed();
        });
        let router = serve(&origin, "");
        let response = router.get("/bad");
        assert_eq!((response.status, response.code()), (502, "response_too_large"), "{what}");
        not_reused(&origin, &router, &what);
    }
}

#[test]
fn many_informational_responses_end_the_exchange() {
    let origin = origin(|conn| while conn.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n") {});
    let router = serve(&origin, "");
    let mut client = router.client();
    client.send("GET /bad HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut hints = 0;
    let last = loop {
        let response = client.response();
        if response.status != 103 {
            break response;
        }
        hints += 1;
        assert!(hints <= 100, "they are passed on without bound");
    };
    assert_eq!((last.status, last.code()), (502, "response_malformed"));
    not_reused(&origin, &router, "hints");
}

/// How a connection ends without a whole response.
#[derive(Debug, Clone, Copy)]
enum How {
    Fin,
    Reset,
}

fn leave(conn: &mut Conn, how: How) {
    if let How::Reset = how {
        conn.reset();
    }
}

#[test]
fn a_post_on_a_fresh_connection_that_dies_is_not_sent_again() {
    let rows = [
        (How::Fin, "", "closed_without_response"),
        (How::Reset, "", "upstream_reset"),
        (How::Fin, "HTTP/1.1 200", "upstream_truncated"),
        (How::Fin, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n", "upstream_truncated"),
    ];
    for (how, bytes, code) in rows {
        let origin = origin(move |conn| {
            conn.send(bytes);
            leave(conn, how);
        });
        let router = serve(&origin, "");
        let what = format!("{how:?} {bytes:?}");
        let response = router.ask("POST /bad HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
        assert_eq!((response.status, response.code()), (502, code), "{what}");
        assert_eq!(origin.connections(), 1, "{what}: the request was sent again");
        not_reused(&origin, &router, &what);
    }
}

#[test]
fn a_partial_head_is_never_tried_again() {
    let origin = origin(|conn| {
        conn.send("HTTP/1.1 200 OK\r\nA: b");
    });
    let router = serve(&origin, "");
    let response = router.get("/bad");
    assert_eq!((response.status, response.code()), (502, "upstream_truncated"));
    assert_eq!(origin.connections(), 1);
}

/// Bytes of a response whose body does not end, what the client may have of it, how the endpoint leaves.
const BODIES: &[(&str, &[u8], How, &str)] = &[
    ("Content-Length: 10\r\n\r\nabc", b"abc", How::Fin, "upstream_truncated"),
    ("Content-Length: 10\r\n\r\n", b"", How::Fin, "upstream_truncated"),
    ("Content-Length: 10\r\n\r\nabc", b"abc", How::Reset, "upstream_reset"),
    ("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", b"abc", How::Fin, "upstream_truncated"),
    ("Transfer-Encoding: chunked\r\n\r\n5\r\nabc", b"abc", How::Fin, "upstream_truncated"),
    ("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n", b"abc", How::Fin, "upstream_truncated"),
    ("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nA: b\r\n", b"abc", How::Fin, "upstream_truncated"),
    ("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", b"abc", How::Reset, "upstream_reset"),
    ("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nx\r\n", b"abc", How::Fin, "response_malformed"),
    ("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n-1\r\n", b"abc", How::Fin, "response_malformed"),
    ("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\nabc\r\n", b"abc", How::Fin, "response_malformed"),
    ("Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n", b"abc", How::Fin, "response_malformed"),
    (
        "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nContent-Length: 3\r\n\r\n",
        b"abc",
        How::Fin,
        "response_malformed",
    ),
    (
        "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nbad trailer\r\n\r\n",
        b"abc",
        How::Fin,
        "response_malformed",
    ),
];

#[test]
fn a_body_that_does_not_end_gets_no_false_end() {
    for (bytes, had, how, code) in BODIES {
        // A 1.0 client gets no trailers: to it this body is whole.
        let only_trailers = bytes.contains("0\r\nContent-Length");
        for version in if only_trailers { &["1.1"][..] } else { &["1.1", "1.0"] } {
            let origin = origin(move |conn| {
                let (head, body) = bytes.split_once("\r\n\r\n").unwrap();
                conn.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n"));
                conn.send(body);
                leave(conn, *how);
            });
            let router = serve(&origin, "");
            let what = format!("{bytes:?} {how:?} to {version}");
            let mut client = router.client();
            client.send(format!("GET /bad HTTP/{version}\r\nHost: a\r\n\r\n"));
            match client.read(false) {
                Err(Lost::Truncated(body)) => {
                    assert!(had.starts_with(&body) || body.starts_with(b"HTTP/"), "{what}: {body:?}")
                }
                // A reset that came with the head leaves nothing to the client; so does a fault before a byte was sent.
                Err(Lost::Closed) => {}
                Ok(response) => {
                    assert_eq!((response.status, response.code()), (502, *code), "{what}: {response:?}")
                }
                Err(other) => panic!("{what}: {other:?}"),
            }
            assert_eq!(router.records(1)[0]["code"], *code, "{what}");
            not_reused(&origin, &router, &what);
        }
    }
}

#[test]
fn a_pause_is_a_timeout_with_the_code_of_its_place() {
    let cases: &[(&str, &str, &str, u16, &str)] = &[
        ("first_byte = \"150ms\"", "", "GET", 504, "first_byte_timeout"),
        ("first_byte = \"150ms\"", "", "POST", 504, "first_byte_timeout"),
        ("first_byte = \"150ms\"", "HTTP/1.1 200 OK\r\nA:", "GET", 504, "first_byte_timeout"),
        ("total = \"150ms\"", "", "GET", 504, "total_timeout"),
        ("idle = \"150ms\"", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", "GET", 0, "upstream_idle"),
        (
            "total = \"150ms\"",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
            "GET",
            0,
            "total_timeout",
        ),
    ];
    for (timeout, bytes, method, status, code) in cases {
        let origin = origin(move |conn| {
            conn.send(bytes);
            conn.until_closed();
        });
        let router = serve(&origin, &format!("timeout = {{ {timeout} }}"));
        let what = format!("{timeout} {bytes:?} {method}");
        let began = Instant::now();
        let mut client = router.client();
        let length = if *method == "POST" { "Content-Length: 3\r\n\r\nabc" } else { "\r\n" };
        client.send(format!("{method} /bad HTTP/1.1\r\nHost: a\r\n{length}"));
        match client.read(false) {
            Ok(response) => assert_eq!((response.status, response.code()), (*status, *code), "{what}"),
            Err(Lost::Truncated(body)) => assert!(*status == 0 && body == b"abc", "{what}: {body:?}"),
            Err(other) => panic!("{what}: {other:?}"),
        }
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(140) && took < Duration::from_secs(5), "{what}: {took:?}");
        assert_eq!(router.records(1)[0]["code"], *code, "{what}");
        origin.ended(1);
        assert_eq!(origin.connections(), 1, "{what}: it was tried again");
        not_reused(&origin, &router, &what);
    }
}

#[test]
fn an_endpoint_that_reads_nothing_is_a_send_timeout() {
    let (release, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let origin = Origin::start(move |conn| {
        conn.head();
        // Reads nothing until the test is over: the sender is dropped then.
        let _released = wait.lock().unwrap().recv();
    });
    let router = serve(&origin, "timeout = { idle = \"300ms\" }");
    let mut client = router.client();
    client.send("POST /bad HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n");
    let socket = client.socket().try_clone().unwrap();
    let feeder = std::thread::spawn(move || {
        let mut socket = socket;
        let piece = vec![b'x'; 1 << 20];
        while std::io::Write::write_all(&mut socket, &piece).is_ok() {}
    });
    let response = client.response();
    assert_eq!((response.status, response.code()), (504, "send_timeout"));
    drop(client);
    feeder.join().unwrap();
    drop(release);
}

#[test]
fn bytes_behind_a_response_spoil_its_connection() {
    for (head, extra) in
        [("GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), ("GET", "x"), ("HEAD", "body of a HEAD")]
    {
        let origin = origin(move |conn| {
            let body = if head == "HEAD" { "" } else { "ok" };
            conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{body}{extra}"));
            conn.until_closed();
        });
        let router = serve(&origin, "");
        let what = format!("{head} {extra:?}");
        let mut client = router.client();
        let response = client.ask(format!("{head} /bad HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(response.status, 200, "{what}");
        assert_eq!(
            client.get("a", "/good").text(),
            "good",
            "{what}: the next answer is not made of left-over bytes"
        );
        assert_eq!(origin.connections(), 2, "{what}");
    }
}
