//! Messages on their way to an HTTP/2 endpoint and back, from clients of both versions.

use ekiden_tests::{Client, Ekiden, Lost, Served, http2, pattern, until_true};
use http::{HeaderMap, Request, StatusCode};

use super::{Endpoint, get, router};

#[test]
fn from_http1() {
    let endpoint = Endpoint::start(100);
    let router = router(&endpoint, "");
    let mut client = Client::connect(router.address());
    let plain = client.get("A.test:81", "/x?y=1");
    assert_eq!((plain.status, plain.text()), (200, String::new()));
    assert_eq!((plain.get("x-authority"), plain.get("x-scheme")), (Some("A.test:81"), Some("http")));
    for body in [pattern(3), pattern(100_000), pattern(1 << 20)] {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
        client.send([head.as_bytes(), &body].concat());
        let echoed = client.response();
        assert!(echoed.status == 200 && echoed.body == body, "{} of {}", echoed.body.len(), body.len());
    }
    // Chunks and trailers, both ways.
    client.send(
        "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    client.send("3\r\nabc\r\n2\r\nde\r\n0\r\nX-End: here\r\n\r\n");
    let echoed = client.response();
    assert_eq!((echoed.text().as_str(), echoed.get("x-trailer")), ("abcde", Some("here")));
    assert_eq!(echoed.get("x-te"), Some("trailers"));
    assert!(
        echoed.trailers.iter().any(|(name, value)| name == "x-sum" && value == "5"),
        "{:?}",
        echoed.trailers
    );
    // What has no body.
    let asked = |client: &mut Client, method: &str, path: &str, to_head: bool| {
        client.send(format!("{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        client.read(to_head).unwrap()
    };
    let head = asked(&mut client, "HEAD", "/head", true);
    assert_eq!((head.status, head.get("content-length")), (200, Some("5")));
    assert_eq!(asked(&mut client, "GET", "/none", false).status, 204);
    let same = asked(&mut client, "GET", "/same", false);
    assert_eq!((same.status, same.get("etag")), (304, Some("a")));
    let only = asked(&mut client, "GET", "/only", false);
    assert_eq!((only.get("grpc-status"), only.get("content-length")), (Some("5"), Some("0")));
    client.send("GET /interim HTTP/1.1\r\nHost: a\r\n\r\n");
    let early = client.head().unwrap();
    assert_eq!((early.status, early.get("link")), (103, Some("</a>")));
    assert_eq!(client.response().text(), "after");
    assert_eq!(endpoint.events("connection").len(), 1, "one connection for all of it");
}

#[test]
fn from_http2() {
    let endpoint = Endpoint::start(100);
    let router = router(&endpoint, "");
    http2::talk(router.address(), async |mut send| {
        let mut request = Request::post("http://a/").body(()).unwrap();
        request.headers_mut().insert("te", "trailers".parse().unwrap());
        let (response, mut body) = send.send_request(request, false).unwrap();
        body.send_data("abc".into(), false).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-end", "here".parse().unwrap());
        body.send_trailers(trailers).unwrap();
        let (head, mut body) = response.await.unwrap().into_parts();
        assert_eq!((head.status, &head.headers["x-trailer"]), (StatusCode::OK, &"here".parse().unwrap()));
        let mut text = Vec::new();
        while let Some(piece) = body.data().await {
            let piece = piece.unwrap();
            body.flow_control().release_capacity(piece.len()).unwrap();
            text.extend_from_slice(&piece);
        }
        assert_eq!(text, b"abc");
        assert_eq!(body.trailers().await.unwrap().unwrap()["x-sum"], "3");
        // Trailers only: a head that ends the stream, for clients of gRPC.
        let (response, _) = send.send_request(http2::get_of("a", "/only"), true).unwrap();
        let response = response.await.unwrap();
        assert!(response.body().is_end_stream());
        assert_eq!(response.headers()["grpc-status"], "5");
    });
}

/// Trailers of a response that has announced its length: clients of HTTP/2 get both, clients of HTTP/1 the length.
#[test]
fn a_length_and_trailers() {
    let endpoint = Endpoint::start(100);
    let router = router(&endpoint, "");
    http2::talk(router.address(), async |send| {
        for (path, length, body) in [("/announced", "5", "whole"), ("/empty", "0", "")] {
            let reply = http2::ask(&send, http2::get_of("a", path)).await.unwrap();
            assert_eq!((reply.field("content-length"), reply.text().as_str()), (length, body));
            let trailers = reply.trailers.expect("trailers");
            assert_eq!(trailers["x-sum"], length);
            assert!(length == "0" || trailers.contains_key("x_sum"), "{trailers:?}");
        }
    });
    let mut client = Client::connect(router.address());
    for (path, length, body) in [("/announced", "5", "whole"), ("/empty", "0", "")] {
        let reply = client.get("a", path);
        assert_eq!((reply.get("content-length"), reply.text().as_str()), (Some(length), body));
        assert_eq!(reply.get("transfer-encoding"), None);
        assert!(reply.trailers.is_empty());
    }
}

/// What an endpoint does wrong, or leaves unfinished, is not taken for whole.
#[test]
fn what_is_cut_short() {
    let endpoint = Endpoint::start(100);
    let router = router(&endpoint, "");
    for path in ["/reset", "/wrong"] {
        let mut client = Client::connect(router.address());
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        // The head may be there, or an answer of the router's own when nothing was on its way yet.
        match client.read(false) {
            Err(Lost::Truncated(_)) => {}
            Err(lost) => panic!("{path}: {lost:?}"),
            Ok(response) => assert_eq!(response.status, 502, "{path}: {}", response.text()),
        }
    }
    let reset = http2::talk(router.address(), async |mut send| {
        let (response, _) = send.send_request(http2::get_of("a", "/reset"), true).unwrap();
        match response.await {
            Ok(response) if response.status() == 502 => true,
            Ok(response) => {
                let mut body = response.into_body();
                loop {
                    match body.data().await {
                        Some(Ok(_)) => {}
                        Some(Err(error)) => break error.is_reset(),
                        None => break false,
                    }
                }
            }
            Err(error) => error.is_reset(),
        }
    });
    assert!(reset, "a part is shown as the whole");
}

/// A client that leaves ends its stream and no other.
#[test]
fn a_client_that_leaves() {
    let endpoint = Endpoint::start(100);
    let router = router(&endpoint, "");
    let mut client = Client::connect(router.address());
    client.send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n");
    endpoint.wait("stream", 1);
    client.reset();
    let resets = endpoint.wait("reset", 1);
    assert_eq!(resets, ["1 1 8"], "CANCEL");
    assert_eq!(get(&router, "/").status, 200);
    assert_eq!(endpoint.events("connection").len(), 1);
}

/// A client that does not read holds a stated number of bytes, and nobody else's stream.
#[test]
fn a_client_that_does_not_read() {
    let endpoint = Endpoint::start(100);
    let router = router(&endpoint, "");
    let mut slow = Client::connect(router.address());
    slow.send("GET /big HTTP/1.1\r\nHost: a\r\n\r\n");
    endpoint.wait("blocked", 1);
    let sent = |events: Vec<String>| {
        let last = |line: &String| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap();
        events.iter().map(last).max().unwrap()
    };
    // The others have room; by then the slow one has none.
    let others = |router: &Ekiden| (0..50).for_each(|_| assert_eq!(get(router, "/").status, 200));
    others(&router);
    let before = sent(endpoint.events("blocked"));
    // The stream's window, the relay's buffer and what the kernel takes for the client.
    assert!(before <= 3 << 20, "{before} bytes are on their way to a client that does not read");
    // Then it reads, and gets all.
    assert_eq!(slow.response().body.len(), 8 << 20);
    until_true("an idle endpoint", || router.metric("ekiden_cluster_requests_in_flight", &["web"]) < 0.5);
}
