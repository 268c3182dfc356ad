//! Bodies both ways: lengths, trailers, interim responses, early ends, and what a slow side makes the router hold.

use std::sync::mpsc::channel;

use bytes::Bytes;
use ekiden_tests::http2::{
    END, END_HEADERS, Frame, Frames, PREFACE, ask, ask_with, get_of, kind, read_reply, request, talk,
};
use ekiden_tests::{Conn, Ekiden, End, Origin, Served, Setup, pattern, until_true, web};
use h2::Reason;
use http::{HeaderMap, Request};

use super::{serve, serve_with};

/// A request with a body, idempotent: an idle endpoint connection is used whatever its age.
fn put(path: &str) -> Request<()> {
    Request::put(format!("http://a{path}")).body(()).unwrap()
}

/// An origin that sends back what it got, by length or in chunks.
fn mirror() -> Origin {
    Origin::start(|conn| {
        while let Some(request) = conn.request() {
            let body = request.body;
            if request.line.contains("/chunked") {
                conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n");
                for piece in body.chunks(10_000) {
                    conn.send(format!("{:x}\r\n", piece.len()));
                    conn.send(piece);
                    conn.send("\r\n");
                }
                conn.send("0\r\nx-sum: 7\r\nhost: evil\r\n\r\n");
            } else {
                conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()));
                conn.send(&body);
            }
        }
    })
}

#[test]
fn bodies_of_every_size_come_back() {
    let origin = mirror();
    let router = serve(&origin);
    talk(router.setup().address(), async |client| {
        for size in [0, 1, 100, 16_000, 16_385, 70_000, 1 << 20] {
            let body = pattern(size);
            for path in ["/plain", "/chunked"] {
                for told in [false, true] {
                    let mut request = put(path);
                    if told {
                        request.headers_mut().insert("content-length", size.into());
                    }
                    let reply = ask_with(&client, request, Some(&body), None).await.unwrap();
                    assert_eq!(reply.status, 200);
                    assert!(reply.body == body, "{size} bytes, {path}, length told: {told}");
                }
            }
        }
    });
    assert_eq!(origin.connections(), 1, "the endpoint's connection is kept");
}

#[test]
fn many_streams_share_a_connection() {
    let origin = mirror();
    let router = serve(&origin);
    talk(router.setup().address(), async |client| {
        let body = pattern(50_000);
        let tasks: Vec<_> = (0..100)
            .map(|_| {
                let (client, body) = (client.clone(), body.clone());
                tokio::spawn(async move { ask_with(&client, put("/chunked"), Some(&body), None).await })
            })
            .collect();
        for task in tasks {
            assert!(task.await.unwrap().unwrap().body == body);
        }
    });
}

#[test]
fn trailers_go_both_ways() {
    let origin = mirror();
    let router = serve(&origin);
    talk(router.setup().address(), async |client| {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-check", "1".parse().unwrap());
        trailers.insert("authorization", "x".parse().unwrap());
        let reply = ask_with(&client, put("/chunked"), Some(b"hello"), Some(trailers)).await.unwrap();
        let trailers = reply.trailers.as_ref().unwrap();
        assert_eq!(trailers.get("x-sum").unwrap(), "7");
        assert!(trailers.get("host").is_none(), "what may not trail does not");
        assert_eq!(reply.field("trailer"), "x-sum");
    });
    let text = String::from_utf8(origin.received(1)).unwrap();
    assert!(text.ends_with("hello\r\n0\r\nx-check: 1\r\n\r\n"), "{text}");
}

#[test]
fn responses_without_a_body_end_with_their_head() {
    let origin = Origin::start(|conn| {
        while let Some(request) = conn.request() {
            conn.send(match request.target() {
                "/204" => "HTTP/1.1 204 No Content\r\nX: y\r\n\r\n",
                "/304" => "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nContent-Length: 9\r\n\r\n",
                "/empty" => "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
                _ => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\nKeep-Alive: timeout=9\r\n\r\n",
            });
        }
    });
    let router = serve(&origin);
    let mut frames = Frames::connect(router.setup().address());
    for (number, (method, path)) in
        [("GET", "/204"), ("GET", "/304"), ("GET", "/empty"), ("HEAD", "/x")].into_iter().enumerate()
    {
        let stream = u32::try_from(number * 2 + 1).unwrap();
        let section = ekiden_tests::http2::fields(&[
            (":method", method.as_bytes()),
            (":scheme", b"http"),
            (":authority", b"a"),
            (":path", path.as_bytes()),
        ]);
        frames.send(kind::HEADERS, 1 | END_HEADERS, stream, &section);
        let head = frames.first(kind::HEADERS);
        assert_eq!((head.stream, head.flags & 1), (stream, 1), "{method} {path}");
    }
    talk(router.setup().address(), async |client| {
        let request = Request::head("http://a/x").body(()).unwrap();
        let reply = ask(&client, request).await.unwrap();
        assert_eq!((reply.status, reply.field("content-length")), (200, "5"));
        assert!(reply.fields.get("connection").is_none() && reply.fields.get("keep-alive").is_none());
        assert_eq!(ask(&client, get_of("a", "/304")).await.unwrap().field("etag"), "\"a\"");
    });
}

#[test]
fn interim_responses_are_passed_on_and_stood_in_for() {
    let origin = Origin::start(|conn| {
        while let Some(mut request) = conn.head() {
            if request.target() == "/hints" {
                conn.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
            }
            if request.target() == "/asked" {
                conn.send("HTTP/1.1 100 Continue\r\n\r\n");
            }
            conn.body(&mut request);
            conn.answer(&request, "done");
        }
    });
    let router = serve(&origin);
    // An endpoint that is silent about the 100 is stood in for.
    for path in ["/hints", "/asked", "/silent"] {
        let mut frames = Frames::connect(router.setup().address());
        let mut list: Vec<(&str, &[u8])> = vec![
            (":method", b"POST"),
            (":scheme", b"http"),
            (":authority", b"a"),
            (":path", path.as_bytes()),
            ("content-length", b"2"),
        ];
        if path != "/hints" {
            list.push(("expect", b"100-continue"));
        }
        let section = ekiden_tests::http2::fields(&list);
        frames.send(kind::HEADERS, END_HEADERS, 1, &section);
        assert_eq!(frames.first(kind::HEADERS).flags & 1, 0, "{path}");
        frames.send(kind::DATA, 1, 1, b"ok");
        frames.first(kind::HEADERS);
        let data = frames.first(kind::DATA);
        assert_eq!((data.payload.as_slice(), data.flags & 1), (&b"done"[..], 1), "{path}");
    }
}

#[test]
fn an_early_response_ends_the_stream_and_not_the_connection() {
    let origin = Origin::start(|conn| {
        let request = conn.head().unwrap();
        conn.answer(&request, "early");
        conn.until_closed();
    });
    let router = serve(&origin);
    let mut frames = Frames::connect(router.setup().address());
    frames.send(kind::HEADERS, END_HEADERS, 1, &request("POST", &[]));
    frames.send(kind::DATA, 0, 1, &[b'x'; 100]);
    let all = frames.until(kind::RST_STREAM);
    assert!(all.iter().any(|frame| frame.kind == kind::DATA && frame.payload == b"early"), "{all:?}");
    assert_eq!(all.last().unwrap().error(), Some(0), "NO_ERROR: the response is whole");
    assert_eq!(origin.ended(1), End::Fin, "an endpoint that is in the middle of a request is not kept");
    frames.send(kind::HEADERS, 1 | END_HEADERS, 3, &request("GET", &[]));
    assert_eq!(frames.first(kind::HEADERS).stream, 3);
}

#[test]
fn a_refused_body_is_answered_and_the_rest_not_read() {
    let origin = Origin::hello("hi");
    let router = serve_with(&origin, "[listener.edge.limits]\nbody = 10\n");
    talk(router.setup().address(), async |client| {
        for told in [false, true] {
            let mut request = put("/");
            if told {
                request.headers_mut().insert("content-length", 100_000.into());
            }
            let reply = ask_with(&client, request, Some(&pattern(100_000)), None).await.unwrap();
            assert_eq!((reply.status, reply.code()), (413, "body_too_large"), "length told: {told}");
        }
        assert_eq!(ask(&client, get_of("a", "/")).await.unwrap().status, 200);
    });
}

#[test]
fn a_client_that_resets_frees_its_endpoint() {
    let origin = Origin::start(|conn| {
        let mut request = conn.head().unwrap();
        conn.body(&mut request);
        conn.until_closed();
    });
    let router = serve(&origin);
    let mut frames = Frames::connect(router.setup().address());
    // In the body, then while the endpoint thinks.
    for (stream, number, whole) in [(1, 1, false), (3, 2, true)] {
        frames.send(kind::HEADERS, END_HEADERS | u8::from(whole), stream, &request("POST", &[]));
        if !whole {
            frames.send(kind::DATA, 0, stream, b"part");
        }
        origin.wait_connections(number);
        origin.wait_received(number, 60);
        frames.send(kind::RST_STREAM, 0, stream, &8_u32.to_be_bytes());
        origin.ended(number);
    }
    for record in router.records(2) {
        assert_eq!((&record["code"], &record["status"]), (&"client_gone".into(), &499.into()));
    }
}

#[test]
fn a_response_cut_short_is_never_taken_for_whole() {
    let rows: &[(&str, bool)] = &[
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", false),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", false),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nx\r\n", false),
        ("HTTP/1.1 200 OK\r\n\r\nuntil the close", true),
    ];
    for (text, whole) in rows {
        let origin = Origin::start(move |conn: &mut Conn| {
            conn.request();
            conn.send(text);
        });
        let router = serve(&origin);
        talk(router.setup().address(), async |client| {
            let ended = ask(&client, get_of("a", "/")).await;
            match ended {
                Ok(reply) => assert!(*whole && reply.status == 200, "{text:?}"),
                Err(error) => assert_eq!((*whole, error.reason()), (false, Some(Reason::INTERNAL_ERROR))),
            }
        });
    }
}

/// Content-Length against DATA (RFC 9113 section 8.1.1): the endpoint never gets a request that looks whole.
#[test]
fn a_length_that_does_not_hold_is_a_stream_error() {
    for (length, sent, end) in [("5", "1234", true), ("3", "1234", false), ("0", "1", true)] {
        let (heard, whole) = channel();
        let origin = Origin::start(move |conn| {
            if let Some(request) = conn.request() {
                heard.send(request.body.clone()).unwrap();
                conn.answer(&request, "no");
            }
        });
        let router = serve(&origin);
        let mut frames = Frames::connect(router.setup().address());
        let section = request("POST", &[("content-length", length.as_bytes())]);
        frames.send(kind::HEADERS, END_HEADERS, 1, &section);
        frames.send(kind::DATA, u8::from(end), 1, sent.as_bytes());
        let (kind, code) = frames.first_error().unwrap();
        assert_eq!((kind, code), (kind::RST_STREAM, 1), "{length} told, {sent} sent");
        drop((frames, router, origin));
        for body in whole {
            assert_eq!(body.len().to_string(), length, "no more than was told");
        }
    }
}

fn resident(id: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = text.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

/// What one stream may make the router hold: a frame, and what is queued for the endpoint, on the way up, beside the window of
/// the connection.
const HELD_UP: u64 = (64 + 128 + 64) << 10;
/// The same on the way down: next to nothing of the response, beside what the connection holds of all.
const HELD_DOWN: u64 = 16 << 10;
const STREAMS: usize = 40;
/// Bytes of a body: far more than a stream may hold.
const LARGE: usize = 2 << 20;

/// An origin whose bodies are large, and a router in front of it.
fn large() -> (Origin, Ekiden) {
    let origin = Origin::start(|conn| {
        while conn.request().is_some() {
            conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n"));
            conn.send(pattern(LARGE));
        }
    });
    let router = Ekiden::start(Setup::new(web(&[origin.address], "", "")).listener("h2c = true"));
    (origin, router)
}

#[test]
fn a_reader_without_window_holds_no_more_than_is_stated() {
    let (_origin, router) = large();
    let before = resident(router.id());
    talk(router.setup().address(), async |client| {
        let mut open = Vec::new();
        for _ in 0..STREAMS {
            let mut client = client.clone().ready().await.unwrap();
            open.push(client.send_request(get_of("a", "/"), true).unwrap().0.await.unwrap());
        }
        assert!(resident(router.id()).saturating_sub(before) < STREAMS as u64 * HELD_DOWN + (8 << 20));
        // All at once: they share the window of the connection.
        let reads: Vec<_> = open.into_iter().map(|response| tokio::spawn(read_reply(response))).collect();
        for read in reads {
            assert_eq!(read.await.unwrap().unwrap().body.len(), LARGE);
        }
    });
}

/// Window for everything, and a socket that is not read.
#[test]
fn a_reader_that_does_not_read_holds_no_more_than_is_stated() {
    let (origin, router) = large();
    let before = resident(router.id());
    let mut frames = Frames::bare(router.setup().address());
    frames.bytes(PREFACE);
    frames.send(kind::SETTINGS, 0, 0, &[0, 4, 0x40, 0, 0, 0]);
    frames.send(kind::WINDOW_UPDATE, 0, 0, &[0x40, 0, 0, 0]);
    for number in 0..STREAMS {
        let stream = u32::try_from(number * 2 + 1).unwrap();
        frames.send(kind::HEADERS, 1 | END_HEADERS, stream, &request("GET", &[]));
    }
    origin.wait_connections(STREAMS);
    for number in 1..=STREAMS {
        origin.wait_received(number, 20);
    }
    // What the kernel takes of it varies; what the router holds does not grow any more once it is full.
    let held = || resident(router.id()).saturating_sub(before);
    let mut last = held();
    until_true("a standstill", || std::mem::replace(&mut last, held()) == last);
    assert!(last < STREAMS as u64 * HELD_DOWN + (8 << 20), "{last}");
    // Read after all, each is whole.
    let (mut bytes, mut ended) = (0, 0);
    while ended < STREAMS {
        let frame = frames.receive().expect("a frame");
        if frame.kind == kind::DATA {
            bytes += frame.payload.len();
            ended += usize::from(frame.flags & END != 0);
        }
    }
    assert_eq!(bytes, STREAMS * LARGE);
}

/// The body and the last frame of a stream, whatever comes for others between.
fn body_of(frames: &mut Frames, stream: u32) -> (Vec<u8>, Frame) {
    let mut body = Vec::new();
    loop {
        let frame = frames.receive().expect("a frame");
        if frame.stream == stream {
            body.extend_from_slice(if frame.kind == kind::DATA { &frame.payload } else { &[] });
            if frame.flags & END != 0 {
                return (body, frame);
            }
        }
    }
}

/// An origin that is told by the path how large its body is, and in chunks of which size it comes; none where that is zero.
fn sized() -> Origin {
    Origin::start(|conn| {
        while let Some(request) = conn.request() {
            let (size, chunked) = request.target()[1..].split_once('/').unwrap();
            let (size, chunk): (usize, usize) = (size.parse().unwrap(), chunked.parse().unwrap());
            let body = pattern(size);
            let padding = "p".repeat(size % 5_000);
            if chunk == 0 {
                conn.send(format!("HTTP/1.1 200 OK\r\nX-Pad: {padding}\r\nContent-Length: {size}\r\n\r\n"));
                conn.send(body);
                continue;
            }
            let head = format!("HTTP/1.1 200 OK\r\nX-Pad: {padding}\r\nTransfer-Encoding: chunked\r\n\r\n");
            let pieces = body.chunks(chunk).flat_map(|piece| {
                [format!("{:x};e=x{padding:.200}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat()
            });
            let trailers = format!("0\r\nx-sum: {padding}\r\n\r\n");
            conn.send([head.into_bytes(), pieces.collect(), trailers.into_bytes()].concat());
        }
    })
}

/// A `GET` of a path.
fn ask_path(path: &str) -> Vec<u8> {
    ekiden_tests::http2::fields(&[
        (":method", b"GET"),
        (":scheme", b"http"),
        (":authority", b"a"),
        (":path", path.as_bytes()),
    ])
}

/// What comes beside a stream that waits is received in small pieces: heads, chunks and trailers of every size are whole.
#[test]
fn streams_beside_one_that_waits_are_whole() {
    let origin = sized();
    let router = serve(&origin);
    let mut frames = Frames::bare(router.setup().address());
    frames.bytes(PREFACE);
    frames.send(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 100]);
    frames.send(kind::WINDOW_UPDATE, 0, 0, &[0x40, 0, 0, 0]);
    // One that is paused is no crowd; two are.
    for stream in [1, 3] {
        frames.send(kind::HEADERS, END | END_HEADERS, stream, &ask_path("/100000/0"));
        assert_eq!(frames.first(kind::DATA).payload.len(), 100);
    }
    let sizes = [0, 1, 100, 700, 1_023, 1_024, 1_025, 16_383, 16_384, 16_385, 65_536, 300_007];
    let rows = sizes.into_iter().flat_map(|size| [0, 1_000, 20_000].map(|chunk| (size, chunk)));
    let mut stream = 3;
    for (size, chunk) in rows {
        stream += 2;
        frames.send(kind::HEADERS, END | END_HEADERS, stream, &ask_path(&format!("/{size}/{chunk}")));
        frames.send(kind::WINDOW_UPDATE, 0, stream, &[0x40, 0, 0, 0]);
        let (body, last) = body_of(&mut frames, stream);
        assert!(body == pattern(size), "{size} bytes in chunks of {chunk}: {}", body.len());
        assert_eq!(last.kind, if chunk == 0 && size > 0 { kind::DATA } else { kind::HEADERS });
    }
    for stream in [1, 3] {
        frames.send(kind::WINDOW_UPDATE, 0, stream, &[0x40, 0, 0, 0]);
        assert_eq!(body_of(&mut frames, stream).0.len(), 100_000 - 100);
    }
}

/// The head comes by itself, and the body is as long as the buffer that takes it: the connection to the endpoint is used again.
#[test]
fn a_body_of_a_buffers_size_costs_no_connection() {
    let (told, heads) = std::sync::mpsc::channel::<()>();
    let heads = std::sync::Mutex::new(heads);
    let origin = Origin::start(move |conn| {
        while conn.request().is_some() {
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 16384\r\n\r\n");
            heads.lock().unwrap().recv().unwrap();
            conn.send([b'x'; 16 << 10]);
        }
    });
    let router = serve(&origin);
    let mut frames = Frames::bare(router.setup().address());
    frames.bytes(PREFACE);
    frames.send(kind::SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]);
    frames.send(kind::WINDOW_UPDATE, 0, 0, &[0x40, 0, 0, 0]);
    for stream in (1..20).step_by(2) {
        frames.send(kind::HEADERS, END | END_HEADERS, stream, &ask_path("/"));
        assert_eq!(frames.first(kind::HEADERS).stream, stream);
        told.send(()).unwrap();
        assert_eq!(body_of(&mut frames, stream).0.len(), 16 << 10);
    }
    assert_eq!(origin.connections(), 1);
}

/// Each of them could fill the connection by itself. How much of it each gets is its endpoint's matter too: none gets nothing.
#[test]
fn streams_without_an_end_all_go_on() {
    let origin = Origin::start(|conn| {
        if conn.request().is_some() {
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n");
            while conn.send([b'x'; 256 << 10]) {}
        }
    });
    let router = serve(&origin);
    let mut frames = Frames::bare(router.setup().address());
    frames.bytes(PREFACE);
    frames.send(kind::SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]);
    frames.send(kind::WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0, 0]);
    for stream in [1, 3, 5] {
        frames.send(kind::HEADERS, END | END_HEADERS, stream, &ask_path("/"));
        while frames.first(kind::DATA).stream != stream {}
    }
    // First goes what was on its way before the last of them began.
    let (mut got, mut all) = ([0; 3], 0);
    while got.iter().any(|bytes| *bytes < 256 << 10) {
        let data = frames.first(kind::DATA);
        all += data.payload.len();
        if all > 16 << 20 {
            got[data.stream as usize / 2] += data.payload.len();
        }
        assert!(all < 512 << 20, "{got:?}");
    }
}

/// The end of a response and its trailers need no window: they are not held back by a closed one.
#[test]
fn what_needs_no_window_passes_a_closed_one() {
    let origin = Origin::start(|conn| {
        while let Some(request) = conn.request() {
            match request.target() {
                "/trailers" => {
                    conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                    conn.send("0\r\nx-sum: 7\r\n\r\n");
                }
                "/close" => {
                    conn.send("HTTP/1.1 200 OK\r\n\r\n");
                    return;
                }
                _ => {
                    conn.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
                }
            }
        }
    });
    let router = serve(&origin);
    let mut frames = Frames::bare(router.setup().address());
    frames.bytes(PREFACE);
    frames.send(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    for (stream, path) in (1..).step_by(2).zip(["/waits", "/trailers", "/close"]) {
        frames.send(kind::HEADERS, END | END_HEADERS, stream, &ask_path(path));
        assert_eq!(frames.first(kind::HEADERS).stream, stream);
        if stream > 1 {
            assert_eq!(body_of(&mut frames, stream).0, b"", "{path}");
        }
    }
    frames.send(kind::WINDOW_UPDATE, 0, 1, &[0, 0, 0, 9]);
    assert_eq!(body_of(&mut frames, 1).0, b"hello");
}

#[test]
fn a_slow_endpoint_holds_no_more_than_is_stated() {
    let (go, wait) = channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let origin = Origin::start(move |conn| {
        let mut request = conn.head().unwrap();
        let _all_go_when_the_sender_is_gone = wait.lock().unwrap().recv();
        conn.body(&mut request);
        conn.answer(&request, "done");
        conn.until_closed();
    });
    let router = Ekiden::start(Setup::new(web(&[origin.address], "", "")).listener("h2c = true"));
    let before = resident(router.id());
    talk(router.setup().address(), async |client| {
        let mut sends = Vec::new();
        for _ in 0..STREAMS {
            let mut client = client.clone().ready().await.unwrap();
            let (response, mut send) = client.send_request(put("/"), false).unwrap();
            send.send_data(Bytes::from(pattern(LARGE)), true).unwrap();
            sends.push((response, send));
        }
        while origin.connections() < STREAMS {
            tokio::task::yield_now().await;
        }
        let bound = STREAMS as u64 * HELD_UP + (1 << 20) + (8 << 20);
        assert!(resident(router.id()).saturating_sub(before) < bound);
        drop(go);
        for (response, _) in sends {
            assert_eq!(read_reply(response.await.unwrap()).await.unwrap().text(), "done");
        }
    });
    until_true("no stream is left", || router.metric("ekiden_http2_streams", &[]) == 0.0);
}
