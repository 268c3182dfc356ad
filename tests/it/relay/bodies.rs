//! Bodies in every framing, both ways, small and large, with and without trailers.

use super::{serve, serve_with};
use ekiden_tests::{Echo, Lost, Origin, Seen, Served, hash, pattern, until_true};

fn chunked(body: &[u8], size: usize, trailers: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in body.chunks(size) {
        out.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(format!("0\r\n{trailers}\r\n").as_bytes());
    out
}

#[test]
fn request_bodies() {
    let echo = Echo::start("one");
    let router = serve(echo.origin());
    for size in [0, 1, 2, 100, 4095, 4096, 4097, 16_383, 16_384, 16_385, 100_000, 300_000] {
        let body = pattern(size);
        let mut client = router.client();
        for method in ["POST", "PUT", "GET", "DELETE", "PATCH"] {
            let head = format!("{method} /x HTTP/1.1\r\nHost: a\r\n");
            let by_length =
                [head.as_bytes(), format!("Content-Length: {size}\r\n\r\n").as_bytes(), &body].concat();
            let seen = Seen::from(client.ask(by_length));
            let what = format!("{method} {size}");
            assert_eq!(
                (seen.number("body_length"), seen.text("body_hash")),
                (size as u64, hash(&body).to_string()),
                "{what}"
            );
            assert_eq!(seen.field("content-length"), Some(size.to_string()), "{what}");
            assert_eq!(seen.field("transfer-encoding"), None, "{what}");
            for piece in [1.max(size / 3), 5000] {
                let text =
                    [head.as_bytes(), b"Transfer-Encoding: chunked\r\n\r\n", &chunked(&body, piece, "")]
                        .concat();
                let seen = Seen::from(client.ask(text));
                let what = format!("{method} {size} in chunks of {piece}");
                assert_eq!(seen.text("body_hash"), hash(&body).to_string(), "{what}");
                assert_eq!(seen.field("transfer-encoding").as_deref(), Some("chunked"), "{what}");
                assert_eq!(seen.field("content-length"), None, "{what}");
            }
        }
    }
}

#[test]
fn a_request_without_a_body_gets_no_framing() {
    let echo = Echo::start("one");
    let router = serve(echo.origin());
    for method in ["GET", "DELETE", "POST", "OPTIONS"] {
        let seen = Seen::from(router.ask(&format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n")));
        assert_eq!((seen.field("content-length"), seen.field("transfer-encoding")), (None, None), "{method}");
    }
}

/// An origin that sends a body of `?SIZE` by length, `?SIZE,CHUNK` in chunks, `?SIZE,0` until close.
fn sender() -> Origin {
    Origin::start(|conn| {
        while let Some(request) = conn.request() {
            let query = request.target().split_once('?').map_or("", |(_, query)| query).to_owned();
            let mut numbers = query.split(',').map(|text| text.parse::<usize>().unwrap());
            let (body, chunk) = (pattern(numbers.next().unwrap()), numbers.next());
            let (head, bytes) = match chunk {
                None => (format!("Content-Length: {}", body.len()), body),
                Some(0) => ("X: y".to_owned(), body),
                Some(size) => ("Transfer-Encoding: chunked".to_owned(), chunked(&body, size, "")),
            };
            conn.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n"));
            if request.method() != "HEAD" {
                conn.send(bytes);
            }
            if chunk == Some(0) {
                return;
            }
        }
    })
}

#[test]
fn response_bodies() {
    let origin = sender();
    let router = serve(&origin);
    for size in [0, 1, 2, 4095, 4096, 4097, 16_384, 16_385, 65_536, 131_072, 131_073, 300_000] {
        let body = pattern(size);
        let mut client = router.client();
        for shape in ["", ",1000000", ",5000", ",4097", ",0"] {
            let what = format!("{size}{shape}");
            let response = client.get("a", &format!("/x?{size}{shape}"));
            assert_eq!((response.status, response.body == body), (200, true), "{what}");
            let coded = response.get("transfer-encoding").is_some();
            assert_eq!(coded, !shape.is_empty(), "{what}: {:?}", response.fields);
            assert!(!response.says_close(), "{what}: the client's connection goes on");
            let old = router.ask(&format!("GET /x?{size}{shape} HTTP/1.0\r\n\r\n"));
            assert_eq!((old.body == body, old.get("transfer-encoding")), (true, None), "{what} to 1.0");
        }
    }
}

#[test]
fn small_chunks_are_relayed_as_they_come() {
    let (go, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let origin = Origin::start(move |conn| {
        let mut request = conn.head().unwrap();
        conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for n in 0..10 {
            gate.lock().unwrap().recv().unwrap();
            conn.send(format!("2\r\n{n}\n\r\n"));
        }
        conn.send("0\r\n\r\n");
        conn.body(&mut request);
    });
    let router = serve(&origin);
    let mut client = router.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.head().unwrap().status, 200, "the head does not wait for the body");
    for n in 0..10 {
        go.send(()).unwrap();
        assert_eq!(client.exactly(7).unwrap(), format!("2\r\n{n}\n\r\n").as_bytes());
    }
    assert_eq!(client.exactly(5).unwrap(), b"0\r\n\r\n");
}

#[test]
fn request_pieces_are_relayed_as_they_come() {
    let origin = Origin::start(|conn| {
        let request = conn.request().unwrap();
        conn.answer(&request, "done");
    });
    let router = serve(&origin);
    let mut client = router.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for n in 1..=5 {
        client.send("3\r\nabc\r\n");
        until_true("the piece", || {
            origin.connections() == 1 && origin.received(1).ends_with(&b"3\r\nabc\r\n".repeat(n))
        });
    }
    client.send("0\r\n\r\n");
    assert_eq!(client.response().text(), "done");
}

#[test]
fn large_bodies_both_ways() {
    let size = 10 << 20;
    let body = pattern(size);
    let echo = Echo::start("one");
    let router = serve(echo.origin());
    for framed in [
        [format!("Content-Length: {size}\r\n\r\n").as_bytes(), &body].concat(),
        [&b"Transfer-Encoding: chunked\r\n\r\n"[..], &chunked(&body, 77_777, "")].concat(),
    ] {
        let mut client = router.client();
        let mut socket = client.socket().try_clone().unwrap();
        let feeder = std::thread::spawn(move || {
            let bytes = [b"POST /x HTTP/1.1\r\nHost: a\r\n", framed.as_slice()].concat();
            std::io::Write::write_all(&mut socket, &bytes).unwrap();
        });
        let seen = Seen::from(client.response());
        assert_eq!(
            (seen.number("body_length"), seen.text("body_hash")),
            (size as u64, hash(&body).to_string())
        );
        feeder.join().unwrap();
        assert_eq!(client.get("a", "/after").status, 200);
    }
    let origin = sender();
    let router = serve(&origin);
    let mut client = router.client();
    for shape in ["", ",77777", ",0"] {
        let response = client.get("a", &format!("/x?{size}{shape}"));
        assert!(response.body == body, "{shape}: {} bytes differ", response.body.len());
    }
}

#[test]
fn responses_without_a_body() {
    let heads: &[(&str, &str, Option<&str>)] = &[
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 1000", Some("1000")),
        ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", None),
        ("HEAD", "HTTP/1.1 404 Not Found\r\nContent-Length: 9", Some("9")),
        ("HEAD", "HTTP/1.1 200 OK", None),
        ("GET", "HTTP/1.1 204 No Content", None),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\nETag: \"x\"", Some("1000")),
        ("GET", "HTTP/1.1 304 Not Modified", None),
        ("POST", "HTTP/1.1 204 No Content\r\nX: y", None),
    ];
    for (method, head, length) in heads {
        let origin = Origin::start(move |conn| {
            while conn.request().is_some() {
                conn.send(format!("{head}\r\n\r\n"));
            }
        });
        let router = serve(&origin);
        let mut client = router.client();
        for _ in 0..2 {
            let what = format!("{method} {head:?}");
            client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"));
            let response = client.read(true).unwrap();
            assert_eq!(response.status.to_string(), head[9..12], "{what}");
            assert_eq!(response.get("content-length"), *length, "{what}");
            assert!(client.is_quiet(std::time::Duration::from_millis(10)), "{what}: bytes follow");
            assert_eq!(origin.connections(), 1, "{what}: both connections go on");
        }
    }
}

#[test]
fn a_204_that_announces_a_body_spoils_its_connection() {
    let origin = Origin::start(|conn| {
        while conn.request().is_some() {
            conn.send("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello");
        }
    });
    let router = serve(&origin);
    let mut client = router.client();
    for number in 1..=2 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let response = client.read(true).unwrap();
        assert_eq!((response.status, response.get("content-length")), (204, None));
        assert!(client.is_quiet(std::time::Duration::from_millis(10)));
        assert_eq!(origin.connections(), number);
    }
}

#[test]
fn request_trailers() {
    let echo = Echo::start("one");
    let router = serve_with(
        echo.origin(),
        "request_headers = { set = { X-Set = \"1\" }, remove = [\"X-Gone\"], add = { X-Added = \"2\" } }",
    );
    let trailers = "X-Sum: 42\r\nHost: evil\r\nAuthorization: Basic x\r\nCookie: a=b\r\nX-Forwarded-For: 1.2.3.4\r\n\
                    X-Request-Id: 0123456789012345678901\r\nForwarded: for=1.2.3.4\r\nVia: x\r\nClient-Cert: x\r\n\
                    X-Set: 9\r\nx-gone: 9\r\nX-ADDED: 9\r\nTrailer: Last\r\nConnection: close\r\nTE: x\r\nLast: one\r\n";
    for split in [false, true] {
        let mut client = router.client();
        let text = [
            &b"POST / HTTP/1.1\r\nHost: a\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n"[..],
            &chunked(b"hello", 2, trailers),
        ]
        .concat();
        if split {
            client.send_split(&text)
        } else {
            client.send(&text)
        }
        let seen = Seen::from(client.response());
        let passed: Vec<String> =
            seen.pairs("trailers").into_iter().map(|(n, v)| format!("{n}: {v}")).collect();
        assert_eq!(passed, ["X-Sum: 42", "Last: one"]);
        assert_eq!(seen.text("body"), "hello");
        assert_eq!(seen.field("trailer").as_deref(), Some("X-Sum"));
        assert_eq!(client.get("a", "/after").status, 200);
    }
}

#[test]
fn response_trailers() {
    let trailers = "X-Sum: 42\r\nHost: evil\r\nSet-Cookie: a=b\r\nX-Router-Error: no\r\nX-Forwarded-For: 1.2.3.4\r\nX-Set: 9\r\n\
                    X-Gone: 9\r\nTrailer: Last\r\nConnection: close\r\nLast: one\r\n";
    let origin = Origin::start(move |conn| {
        while conn.request().is_some() {
            conn.send("HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n");
            conn.send(chunked(b"hello", 2, trailers));
        }
    });
    let router = serve_with(&origin, "response_headers = { set = { X-Set = \"1\" }, remove = [\"X-Gone\"] }");
    let mut client = router.client();
    let response = client.get("a", "/");
    let passed: Vec<String> = response.trailers.iter().map(|(n, v)| format!("{n}: {v}")).collect();
    assert_eq!(passed, ["X-Sum: 42", "Last: one"]);
    assert_eq!((response.text().as_str(), response.get("trailer")), ("hello", Some("X-Sum")));
    let old = router.ask("GET / HTTP/1.0\r\n\r\n");
    assert_eq!((old.text().as_str(), old.get("trailer")), ("hello", None), "1.0 has no trailers");
    assert_eq!(origin.connections(), 1);
}

#[test]
fn an_answer_before_the_end_of_the_request_is_passed_on() {
    for (status, rest_is_read) in
        [("200 OK", true), ("413 Content Too Large", false), ("401 Unauthorized", true)]
    {
        let origin = Origin::start(move |conn| {
            let mut request = conn.head().unwrap();
            conn.send(format!("HTTP/1.1 {status}\r\nContent-Length: 5\r\n\r\nearly"));
            if rest_is_read {
                conn.body(&mut request);
            }
            conn.until_closed();
        });
        let router = serve(&origin);
        let mut client = router.client();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nabc");
        let response = client.response();
        assert_eq!(
            (response.status.to_string().as_str(), response.text().as_str()),
            (&status[..3], "early"),
            "{status}"
        );
        // The client may go on sending and must not lose the answer by it, nor be taken to begin a request.
        client.send(vec![b'x'; 100_000]);
        client.finish();
        assert_eq!(client.rest(), b"", "{status}");
        assert_eq!(origin.connections(), 1);
    }
}

#[test]
fn both_directions_stream_at_once() {
    let origin = Origin::start(|conn| {
        conn.head();
        conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for _ in 0..10 {
            let piece = conn.exactly(8).unwrap();
            assert_eq!(piece, b"3\r\nabc\r\n");
            conn.send("3\r\nxyz\r\n");
        }
        conn.send("0\r\n\r\n");
        conn.until_closed();
    });
    let router = serve(&origin);
    let mut client = router.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(client.head().unwrap().status, 200);
    for n in 0..10 {
        client.send("3\r\nabc\r\n");
        assert_eq!(client.exactly(8), Ok(b"3\r\nxyz\r\n".to_vec()), "{n}");
    }
    assert_eq!(client.exactly(5), Ok(b"0\r\n\r\n".to_vec()));
    assert_ne!(
        client.head(),
        Err(Lost::Silent),
        "a request that was not read to its end ends the connection"
    );
}
