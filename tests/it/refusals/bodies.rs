//! Faults of a request body: the upstream connection is cut without a final chunk and never used again, and the
//! client is told when no response has begun.

use super::{origin, refused, serve};
use ekiden_tests::{Origin, Served};

/// The bytes after the head of a chunked request, and the code.
const CHUNKED: &[(&[u8], &str)] = &[
    (b"-1\r\n", "chunk_malformed"),
    (b"+1\r\na\r\n0\r\n\r\n", "chunk_malformed"),
    (b"0x1\r\na\r\n0\r\n\r\n", "chunk_malformed"),
    (b" 1\r\na\r\n0\r\n\r\n", "chunk_malformed"),
    (b"1 \r\na\r\n0\r\n\r\n", "chunk_malformed"),
    (b"1\t\r\na\r\n0\r\n\r\n", "chunk_malformed"),
    (b"1 ;x\r\na\r\n0\r\n\r\n", "chunk_malformed"),
    (b"g\r\n", "chunk_malformed"),
    (b"\r\n", "chunk_malformed"),
    (b";x\r\n", "chunk_malformed"),
    (b"1_0\r\n", "chunk_malformed"),
    (b"fffffffffffffffff\r\n", "chunk_malformed"),
    (b"ffffffffffffffff\r\n", "chunk_malformed"),
    (b"00000000000000000000000000000001\r\na\r\n0\r\n\r\n", "chunk_malformed"),
    (b"1\na\r\n0\r\n\r\n", "chunk_malformed"),
    (b"1\ra\r\n0\r\n\r\n", "chunk_malformed"),
    (b"1\r\r\na\r\n0\r\n\r\n", "chunk_malformed"),
    (b"1;a\rb\r\na\r\n0\r\n\r\n", "chunk_malformed"),
    (b"1;a\nb\r\na\r\n0\r\n\r\n", "chunk_malformed"),
    (b"1;a\x00\r\na\r\n0\r\n\r\n", "chunk_malformed"),
    (b"3\r\nabcd\r\n0\r\n\r\n", "chunk_malformed"),
    (b"3\r\nabc0\r\n\r\n", "chunk_malformed"),
    (b"3\r\nabc\n0\r\n\r\n", "chunk_malformed"),
    (b"3\r\nabc\r0\r\n\r\n", "chunk_malformed"),
    (b"3\r\nabc\r\n\r\n0\r\n\r\n", "chunk_malformed"),
    (b"1\r\na\r\n0\n\r\n", "chunk_malformed"),
    (b"1\r\na\r\n0\r\n\n", "trailer_malformed"),
    (b"1\r\na\r\n0\r\nnocolon\r\n\r\n", "trailer_malformed"),
    (b"1\r\na\r\n0\r\n: v\r\n\r\n", "trailer_malformed"),
    (b"1\r\na\r\n0\r\nA : v\r\n\r\n", "trailer_malformed"),
    (b"1\r\na\r\n0\r\nA: v\n\r\n", "trailer_malformed"),
    (b"1\r\na\r\n0\r\nA: v\r\n w\r\n\r\n", "trailer_malformed"),
    (b"1\r\na\r\n0\r\nA: \x00\r\n\r\n", "trailer_malformed"),
    (b"1\r\na\r\n0\r\nA: b\rc\r\n\r\n", "trailer_malformed"),
    (b"1\r\na\r\n0\r\nContent-Length: 3\r\n\r\n", "trailer_malformed"),
    (b"1\r\na\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n", "trailer_malformed"),
];

/// What the origin got of a body does not look like all of it.
fn not_ended(origin: &Origin, number: usize, what: &str) {
    let sent = String::from_utf8_lossy(&origin.received(number)).into_owned();
    let body = sent.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    assert!(!body.ends_with("0\r\n\r\n"), "{what}: the body ended properly upstream: {sent:?}");
}

/// A refused body on a connection of its own, then a good request, which must come on another connection.
fn check(body: &[u8], split: bool, head: &str, code: &str, status: u16) {
    let origin = origin();
    let router = serve(&origin, "");
    let what = format!("{:?}{}", String::from_utf8_lossy(body), if split { " byte by byte" } else { "" });
    let bytes = [head.as_bytes(), body].concat();
    let response = refused(&router, &bytes, split, &what);
    assert_eq!((response.status, response.code()), (status, code), "{what}");
    assert_eq!(router.get("/good").status, 200, "{what}");
    let connections = origin.connections();
    for number in 1..connections {
        origin.ended(number);
        not_ended(&origin, number, &what);
    }
    let last = String::from_utf8_lossy(&origin.received(connections)).into_owned();
    assert!(last.starts_with("GET /good "), "{what}: the connection was used again: {last:?}");
}

const HEAD: &str = "POST /bad HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

#[test]
fn chunked_at_once() {
    for (body, code) in CHUNKED {
        check(body, false, HEAD, code, 400);
    }
}

#[test]
fn chunked_byte_by_byte() {
    for (body, code) in CHUNKED {
        check(body, true, HEAD, code, 400);
    }
}

#[test]
fn chunked_after_a_good_chunk() {
    for (body, code) in CHUNKED.iter().step_by(3) {
        let body = [b"5\r\nhello\r\n", *body].concat();
        check(&body, false, HEAD, code, 400);
    }
}

#[test]
fn long_extensions_and_trailers() {
    let extension = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(300));
    let name_less = format!("1;{}", "x".repeat(300));
    let trailers = format!("1\r\na\r\n0\r\n{}\r\n", "A: b\r\n".repeat(101));
    let long = format!("1\r\na\r\n0\r\nA: {}", "x".repeat(17 << 10));
    for (body, code) in [
        (&extension, "chunk_malformed"),
        (&name_less, "chunk_malformed"),
        (&trailers, "trailer_malformed"),
        (&long, "trailer_malformed"),
    ] {
        check(body.as_bytes(), false, HEAD, code, 400);
    }
}

#[test]
fn a_body_that_ends_early() {
    let length = "POST /bad HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n";
    for (head, body) in [
        (length, &b""[..]),
        (length, b"abc"),
        (HEAD, b""),
        (HEAD, b"5\r\nab"),
        (HEAD, b"2\r\nab\r\n"),
        (HEAD, b"0\r\n"),
    ] {
        let origin = origin();
        let router = serve(&origin, "");
        let mut client = router.client();
        client.send([head.as_bytes(), body].concat());
        client.finish();
        let what = format!("{head:?} {:?}", String::from_utf8_lossy(body));
        let response = client.read(false).unwrap_or_else(|lost| panic!("{what}: {lost:?}"));
        assert_eq!((response.status, response.code()), (400, "body_truncated"), "{what}");
        assert_eq!(client.rest(), b"", "{what}");
        if origin.connections() > 0 {
            origin.ended(1);
            not_ended(&origin, 1, &what);
        }
    }
}

#[test]
fn a_fault_after_the_response_has_begun_cuts_it() {
    let origin = ekiden_tests::Origin::start(|conn| {
        conn.head();
        conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
        conn.until_closed();
    });
    let router = serve(&origin, "");
    let mut client = router.client();
    client.send(HEAD);
    assert_eq!(client.head().unwrap().status, 200);
    assert_eq!(client.exactly(8), Ok(b"3\r\nabc\r\n".to_vec()));
    client.send("x\r\n");
    assert_eq!(client.rest(), b"", "no final chunk and no second response");
    origin.ended(1);
    not_ended(&origin, 1, "after the response has begun");
    assert_eq!(router.records(1)[0]["code"], "chunk_malformed");
}
