//! gRPC-web: what a browser sends and gets, byte by byte, over both versions of HTTP, binary and text.

use ekiden_core::grpc::web::{Decoder, encode};
use ekiden_tests::{Client, Ekiden, Response, Served, http2, pattern, until};

use super::{Server, framed, idle, request, router};

const BINARY: &str = "application/grpc-web+proto";
const TEXT: &str = "application/grpc-web-text+proto";

fn start() -> (Server, Ekiden) {
    let server = Server::start();
    let router = router(&server, "grpc_web = true");
    (server, router)
}

/// A call over HTTP/1.1, the body in one piece.
fn ask(client: &mut Client, method: &str, content_type: &str, body: &[u8]) -> Response {
    let head = format!(
        "POST /t.Test/{method} HTTP/1.1\r\nHost: a\r\nContent-Type: {content_type}\r\nX-Grpc-Web: 1\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    client.send([head.as_bytes(), body].concat());
    client.response()
}

fn base64(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode(bytes, &mut out);
    out
}

fn plain(text: &[u8]) -> Vec<u8> {
    let (mut decoder, mut out) = (Decoder::default(), Vec::new());
    decoder.feed(text, &mut out).unwrap();
    assert!(decoder.is_whole());
    out
}

/// The messages of a body, and the fields of its last frame.
fn take_apart(mut body: &[u8]) -> (Vec<Vec<u8>>, Vec<String>) {
    let (mut messages, mut trailers) = (Vec::new(), Vec::new());
    while !body.is_empty() {
        assert!(trailers.is_empty(), "nothing stands behind the trailers");
        let length = u32::from_be_bytes(body[1..5].try_into().unwrap()) as usize;
        let (frame, rest) = body[5..].split_at(length);
        match body[0] {
            0 => messages.push(frame.to_vec()),
            0x80 => {
                let text = String::from_utf8(frame.to_vec()).unwrap();
                assert!(text.ends_with("\r\n"));
                trailers = text.lines().map(str::to_owned).collect();
            }
            flag => panic!("a frame with the flag {flag:#x}"),
        }
        body = rest;
    }
    (messages, trailers)
}

#[test]
fn binary_over_http1() {
    let (server, router) = start();
    let mut client = Client::connect(router.address());
    for message in [&b""[..], b"abc", &pattern(1 << 20)] {
        let reply = ask(&mut client, "Unary", BINARY, &framed(message));
        assert_eq!((reply.status, reply.get("content-type")), (200, Some(BINARY)));
        assert_eq!(reply.get("x-first"), Some("1"), "metadata before the messages are fields of the head");
        assert!(reply.trailers.is_empty());
        let (messages, trailers) = take_apart(&reply.body);
        assert_eq!(messages, [message.to_vec()]);
        assert!(trailers.contains(&"grpc-status: 0".to_owned()), "{trailers:?}");
        assert!(trailers.contains(&"x-last: b".to_owned()) && trailers.contains(&"x_under: u".to_owned()));
        assert!(
            trailers.contains(&"x-last-bin: AP8".to_owned())
                || trailers.contains(&"x-last-bin: AP8=".to_owned())
        );
    }
    // The endpoint sees gRPC and nothing of the web.
    let reply = ask(&mut client, "Fields", "application/grpc-web+json", &framed(b""));
    assert_eq!(reply.get("content-type"), Some("application/grpc-web+json"));
    let seen = String::from_utf8(take_apart(&reply.body).0.remove(0)).unwrap();
    assert!(!seen.contains("x-grpc-web"), "{seen}");
    // Many messages, and chunks cut anywhere.
    client.send("POST /t.Test/Down HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc-web\r\nTransfer-Encoding: chunked\r\n\r\n");
    for byte in framed(b"300") {
        client.send([b"1\r\n".as_slice(), &[byte], b"\r\n"].concat());
    }
    client.send("0\r\n\r\n");
    let (messages, trailers) = take_apart(&client.response().body);
    assert_eq!(messages.len(), 300);
    assert!(trailers.contains(&"grpc-status: 0".to_owned()));
    assert_eq!(server.count("ready"), 1);
    let record = until("a record", || router.records(0).into_iter().next());
    assert_eq!((&record["protocol"], &record["grpc_status"]), (&"http1.1".into(), &0.into()));
    super::wait_counted(&router, "OK", 5.0);
}

#[test]
fn text_over_http1() {
    let (_server, router) = start();
    let mut client = Client::connect(router.address());
    for message in [&b""[..], b"a", b"ab", b"abc", &pattern(100_000)] {
        let reply = ask(&mut client, "Unary", TEXT, &base64(&framed(message)));
        assert_eq!((reply.status, reply.get("content-type")), (200, Some(TEXT)));
        let (messages, trailers) = take_apart(&plain(&reply.body));
        assert_eq!(messages, [message.to_vec()]);
        assert!(trailers.contains(&"grpc-status: 0".to_owned()), "{trailers:?}");
    }
    // Cut at any byte, in two texts or in one.
    let bytes = framed(b"abcdef");
    let texts = [base64(&bytes), [base64(&bytes[..4]), base64(&bytes[4..])].concat()];
    for text in texts {
        for at in 1..text.len() {
            let (one, two) = text.split_at(at);
            client.send(format!(
                "POST /t.Test/Unary HTTP/1.1\r\nHost: a\r\nContent-Type: {TEXT}\r\nTransfer-Encoding: chunked\r\n\r\n"
            ));
            for piece in [one, two] {
                client.send([format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat());
            }
            client.send("0\r\n\r\n");
            let reply = client.response();
            let (messages, _) = take_apart(&plain(&reply.body));
            assert_eq!(messages, [b"abcdef".to_vec()], "cut at {at}");
            // The server may answer before it has seen the end of the request; then the connection ends.
            if reply.says_close() {
                client = Client::connect(router.address());
            }
        }
    }
}

/// The request's form and the response's may differ: `Accept` says which.
#[test]
fn accept_chooses_the_form_of_the_response() {
    let (_server, router) = start();
    let mut client = Client::connect(router.address());
    let body = framed(b"abc");
    client.send(format!(
        "POST /t.Test/Unary HTTP/1.1\r\nHost: a\r\nContent-Type: {BINARY}\r\nAccept: {TEXT}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    ));
    client.send(&body);
    let reply = client.response();
    assert_eq!(reply.get("content-type"), Some(TEXT));
    assert_eq!(take_apart(&plain(&reply.body)).0, [b"abc".to_vec()]);
}

#[test]
fn over_http2() {
    let (_server, router) = start();
    http2::talk(router.address(), async |send| {
        for (content_type, body) in [(BINARY, framed(b"abc")), (TEXT, base64(&framed(b"abc")))] {
            let request = request("Unary", &[("content-type", content_type)]);
            let reply = http2::ask_with(&send, request, Some(&body), None).await.unwrap();
            assert_eq!((reply.status, reply.field("content-type")), (200, content_type));
            assert!(reply.trailers.is_none(), "they stand in the body");
            let body = if content_type == TEXT { plain(&reply.body) } else { reply.body };
            let (messages, trailers) = take_apart(&body);
            assert_eq!(messages, [b"abc".to_vec()]);
            assert!(trailers.contains(&"grpc-status: 0".to_owned()));
        }
        // gRPC itself goes by the same route.
        let reply = http2::ask_with(&send, request("Unary", &[]), Some(&framed(b"abc")), None).await.unwrap();
        assert_eq!(
            (reply.body, reply.trailers.unwrap()["grpc-status"].clone()),
            (framed(b"abc"), "0".parse().unwrap())
        );
    });
}

/// A status without a message stands in the head, one behind messages in the last frame.
#[test]
fn statuses() {
    let (_server, router) = start();
    let mut client = Client::connect(router.address());
    for (content_type, encode) in [(BINARY, false), (TEXT, true)] {
        let form = |bytes: Vec<u8>| if encode { base64(&bytes) } else { bytes };
        let alone = ask(&mut client, "Status", content_type, &form(framed(b"7")));
        assert_eq!((alone.status, alone.get("content-type")), (200, Some(content_type)));
        let body = if encode { plain(&alone.body) } else { alone.body.clone() };
        let (messages, trailers) = take_apart(&body);
        let said = trailers.contains(&"grpc-status: 7".to_owned()) || alone.get("grpc-status") == Some("7");
        assert!(messages.is_empty() && said, "{alone:?}");
        let late = ask(&mut client, "LateStatus", content_type, &form(framed(b"7")));
        let body = if encode { plain(&late.body) } else { late.body };
        let (messages, trailers) = take_apart(&body);
        assert_eq!(messages, [b"one".to_vec()]);
        assert!(trailers.contains(&"grpc-status: 7".to_owned()), "{trailers:?}");
    }
    super::wait_counted(&router, "PERMISSION_DENIED", 4.0);
}

/// A message comes when it is there, and not with the next; a deadline ends what has begun in its last frame.
#[test]
fn a_stream_and_its_deadline() {
    let (server, router) = start();
    let mut client = Client::connect(router.address());
    let body = base64(&framed(b""));
    client.send(format!(
        "POST /t.Test/Hold HTTP/1.1\r\nHost: a\r\nContent-Type: {TEXT}\r\nGrpc-Timeout: 2S\r\nContent-Length: {}\r\n\r\n",
        body.len()
    ));
    client.send(&body);
    let reply = client.response();
    let (messages, trailers) = take_apart(&plain(&reply.body));
    assert_eq!(messages, [b"begun".to_vec()]);
    assert!(trailers.contains(&"grpc-status: 4".to_owned()), "{trailers:?}");
    server.wait("ended", 1);
    idle(&router);
}

/// What is no base64 is the client's fault, and reaches nobody.
#[test]
fn malformed_texts() {
    let (server, router) = start();
    for body in [&b"AAAA\nAAA"[..], b"AAAAAAMAYWJj=", b"AAAAAA", b"Z", b"===="] {
        let mut client = Client::connect(router.address());
        let refused = ask(&mut client, "Silent", TEXT, body);
        assert_eq!((refused.status, refused.code()), (200, "grpc_web_malformed"), "{body:?}: {refused:?}");
        assert_eq!(refused.get("grpc-status"), Some("13"));
    }
    assert_eq!(router.metric("ekiden_endpoint_ready", &["web"]), 1.0);
    assert_eq!(router.metric("ekiden_outcomes_total", &["grpc_web_malformed"]), 5.0);
    let records = until("five records", || Some(router.records(0)).filter(|records| records.len() == 5));
    assert!(records.iter().all(|record| record["code"] == "grpc_web_malformed" && record["status"] == 400));
    assert_eq!(server.count("called"), 0);
}

/// Off by default: then it is a body like any other, for endpoints that speak gRPC-web themselves.
#[test]
fn off_by_default() {
    let server = Server::start();
    let router = router(&server, "");
    let mut client = Client::connect(router.address());
    let body = framed(b"abc");
    client.send(format!(
        "POST /t.Test/Unary HTTP/1.1\r\nHost: a\r\nContent-Type: {BINARY}\r\nTE: trailers\r\nConnection: TE\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    ));
    client.send(&body);
    let reply = client.response();
    assert_eq!((reply.get("content-type"), &reply.body), (Some("application/grpc"), &body));
    assert!(reply.trailers.iter().any(|(name, value)| name == "grpc-status" && value == "0"), "{reply:?}");
}
