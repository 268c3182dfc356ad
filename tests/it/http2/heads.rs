//! Heads: what goes on to the endpoint, what is refused and how, and that both protocols are told apart on one port.

use ekiden_tests::http2::{END, END_HEADERS, Frames, ask, fields, get, get_of, kind, request, talk};
use ekiden_tests::{Client, Echo, InProcess, Origin, Served, Setup, web};
use http::Request;

use super::{serve, serve_with};

const PROTOCOL_ERROR: u32 = 1;

#[test]
fn a_request_reaches_an_endpoint_of_http1() {
    let origin = Origin::hello("hi");
    let router = serve(&origin);
    talk(router.setup().address(), async |client| {
        let request = Request::get("http://Example.com/a/../b%7e?q=1")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .header("te", "trailers")
            .header("x-one", "1")
            .header("x-forwarded-for", "6.6.6.6")
            .body(())
            .unwrap();
        let reply = ask(&client, request).await.unwrap();
        assert_eq!((reply.status, reply.text().as_str()), (200, "hi"));
        assert_eq!(reply.field("content-length"), "2");
    });
    let text = String::from_utf8(origin.received(1)).unwrap();
    let lines: Vec<&str> = text.split("\r\n").collect();
    assert_eq!(lines[0], "GET /b~?q=1 HTTP/1.1");
    let expected = [
        "host: Example.com",
        "cookie: a=1; b=2",
        "x-one: 1",
        "X-Forwarded-For: 127.0.0.1",
        "TE: trailers",
        "Connection: TE",
    ];
    for line in expected {
        assert!(lines.contains(&line), "{line}: {text}");
    }
    let record = router.records(1).remove(0);
    assert_eq!((&record["protocol"], &record["status"]), (&"http2.0".into(), &200.into()));
    assert_eq!(record["code"], "complete");
}

/// RFC 9113 section 8.1.1: a malformed request is a stream error. The endpoint sees nothing of it, the connection goes on.
#[test]
fn malformed_requests_are_reset() {
    let echo = Echo::start("a");
    let router = InProcess::start(Setup::new(web(&[echo.address], "", "")).listener("h2c = true"));
    let a: &[(&str, &[u8])] =
        &[(":method", b"GET"), (":scheme", b"http"), (":authority", b"a"), (":path", b"/")];
    let with = |more: &[(&'static str, &'static [u8])]| fields(&[a, more].concat());
    let rows: Vec<(&str, Vec<u8>)> = vec![
        ("leading space", with(&[("x", b" y")])),
        ("trailing tab", with(&[("x", b"y\t")])),
        ("connection", with(&[("connection", b"close")])),
        ("transfer-encoding", with(&[("transfer-encoding", b"chunked")])),
        ("upgrade", with(&[("upgrade", b"h2c")])),
        ("keep-alive", with(&[("keep-alive", b"timeout=1")])),
        ("proxy-connection", with(&[("proxy-connection", b"keep-alive")])),
        ("te gzip", with(&[("te", b"gzip")])),
        ("quote in a name", with(&[("x\"y", b"z")])),
        ("host differs", with(&[("host", b"b")])),
        ("length beside an end", with(&[("content-length", b"3")])),
        ("length twice", with(&[("content-length", b"0"), ("content-length", b"0")])),
        ("length no number", with(&[("content-length", b"+0")])),
        ("path without slash", fields(&[a[0], a[1], a[2], (":path", b"x")])),
        ("path empty", fields(&[a[0], a[1], a[2], (":path", b"")])),
        ("path absent", fields(&a[..3])),
        ("method absent", fields(&a[1..])),
        ("scheme absent", fields(&[a[0], a[2], a[3]])),
        ("path twice", with(&[(":path", b"/")])),
        ("pseudo behind field", fields(&[a[0], a[1], a[2], ("x", b"y"), a[3]])),
        ("status in a request", with(&[(":status", b"200")])),
        ("userinfo", fields(&[a[0], a[1], (":authority", b"u@a"), a[3]])),
        ("space in path", fields(&[a[0], a[1], a[2], (":path", b"/ HTTP/1.1")])),
    ];
    let mut client = Frames::connect(router.setup().address());
    for (number, (name, section)) in rows.iter().enumerate() {
        let stream = u32::try_from(number * 2 + 1).unwrap();
        client.send(kind::HEADERS, END | END_HEADERS, stream, section);
        let reset = client.first(kind::RST_STREAM);
        assert_eq!((reset.stream, reset.error()), (stream, Some(PROTOCOL_ERROR)), "{name}");
    }
    let last = u32::try_from(rows.len() * 2 + 1).unwrap();
    client.send(kind::HEADERS, END | END_HEADERS, last, &get(&[]));
    assert_eq!(client.first(kind::HEADERS).stream, last, "the connection goes on");
    assert_eq!(echo.requests(), 1);
    // What the codec lets through is on record.
    let record = router.records(1).remove(0);
    assert_eq!((&record["code"], &record["status"]), (&"field_value_illegal".into(), &400.into()));
    assert_eq!((&record["method"], &record["path"]), (&"GET".into(), &"/".into()));
}

/// What breaks the compression of the whole connection, or cannot be told from it by the codec, ends the connection.
#[test]
fn bytes_that_no_field_may_hold_never_pass() {
    let echo = Echo::start("a");
    let router = InProcess::start(Setup::new(web(&[echo.address], "", "")).listener("h2c = true"));
    let rows: &[(&str, &str, &[u8])] = &[
        ("cr in a value", "x", b"y\rz"),
        ("lf in a value", "x", b"y\nz"),
        ("crlf and a field", "x", b"y\r\nA: b"),
        ("nul in a value", "x", b"y\0z"),
        ("control in a value", "x", b"y\x01z"),
        ("upper case", "X", b"y"),
        ("space in a name", "x y", b"z"),
        ("colon in a name", "x:y", b"z"),
        ("crlf in a name", "x\r\ny", b"z"),
        ("nul in a name", "x\0", b"z"),
        ("empty name", "", b"z"),
        ("unknown pseudo", ":x", b"z"),
    ];
    for (name, field, value) in rows {
        let mut client = Frames::connect(router.setup().address());
        client.send(kind::HEADERS, END | END_HEADERS, 1, &get(&[(field, value)]));
        let error = client.first_error();
        assert!(error.is_some_and(|(_, code)| code != 0), "{name}: {error:?}");
    }
    assert_eq!(echo.requests(), 0);
}

#[test]
fn other_faults_are_answered_with_their_code() {
    let origin = Origin::hello("hi");
    let router = serve_with(&origin, "[listener.edge.limits]\nfields = 20\nrequest_line = \"1KiB\"\n");
    let address = router.setup().address();
    talk(address, async |client| {
        let long = "x".repeat(2_000);
        let mut many = Request::get("http://a/");
        for number in 0..30 {
            many = many.header(format!("x-{number}"), "1");
        }
        let rows = [
            (Request::trace("http://a/").body(()).unwrap(), 405, "method_refused"),
            (get_of("a", "/%00"), 400, "path_illegal"),
            (get_of("a", "/../.."), 400, "path_illegal"),
            (get_of("a", &format!("/{long}")), 414, "request_line_too_long"),
            (many.body(()).unwrap(), 431, "too_many_fields"),
            (
                Request::get("http://a/").header("x_forwarded_for", "1").body(()).unwrap(),
                400,
                "underscore_field",
            ),
            (Request::connect("a:80").body(()).unwrap(), 405, "method_refused"),
        ];
        for (request, status, code) in rows {
            let shown = format!("{request:?}");
            let reply = ask(&client, request).await.unwrap();
            assert_eq!((reply.status, reply.code()), (status, code), "{shown}");
            assert!(reply.field("connection").is_empty());
        }
        assert_eq!(ask(&client, get_of("a", "/")).await.unwrap().status, 200, "the connection goes on");
    });
    assert_eq!(origin.connections(), 1);
    let codes: Vec<String> = router.records(8).iter().map(|record| record["code"].to_string()).collect();
    assert!(codes.iter().any(|code| code.contains("too_many_fields")), "{codes:?}");
}

/// A list beyond the bound is answered with 431, one far beyond it ends the connection.
#[test]
fn header_lists_have_a_bound() {
    let origin = Origin::hello("hi");
    let router = serve(&origin);
    let mut client = Frames::connect(router.setup().address());
    let value = [b'v'; 8_000];
    let section = get(&[("a", &value), ("b", &value)]);
    let block = |client: &mut Frames, stream: u32, pieces: &[Vec<u8>]| {
        for (number, piece) in pieces.iter().enumerate() {
            let kind = if number == 0 { kind::HEADERS } else { kind::CONTINUATION };
            let last = number + 1 == pieces.len();
            let flags = if number == 0 { END } else { 0 } | if last { END_HEADERS } else { 0 };
            client.send(kind, flags, stream, piece);
        }
    };
    block(&mut client, 1, &[section.clone(), fields(&[("c", &value), ("d", &value)])]);
    assert_eq!(client.first(kind::HEADERS).stream, 1, "32 kB pass");
    let more: Vec<Vec<u8>> = (0..4).map(|_| fields(&[("c", &value), ("d", &value)])).collect();
    block(&mut client, 3, &[&[section], more.as_slice()].concat());
    let answer = client.first(kind::HEADERS);
    assert_eq!(answer.stream, 3);
    client.send(kind::HEADERS, END | END_HEADERS, 5, &get(&[]));
    let frames = client.until(kind::DATA);
    assert!(frames.iter().any(|frame| frame.stream == 5), "the connection goes on: {frames:?}");
    assert_eq!(origin.connections(), 1);
    // The codec answers it by itself; it is counted all the same.
    let records = router.records(3);
    let codes: Vec<_> = records.iter().map(|record| (&record["code"], &record["status"])).collect();
    assert_eq!(
        codes.iter().filter(|(code, status)| *code == "head_too_large" && *status == 431).count(),
        1,
        "{codes:?}"
    );
    assert_eq!(codes.iter().filter(|(code, _)| *code == "complete").count(), 2, "{codes:?}");
}

#[test]
fn both_protocols_are_told_apart_on_one_port() {
    let origin = Origin::hello("hi");
    let router = serve(&origin);
    let address = router.setup().address();
    let mut old = Client::connect(address);
    // Its first letters are those of the preface.
    for request in ["P", "ROPFIND / HTTP/1.1\r\nHost: a\r\n\r\n"] {
        old.send(request);
    }
    assert_eq!(old.response().status, 200);
    assert_eq!(old.get("a", "/").status, 200, "and it is kept");
    let mut split = Frames::bare(address);
    for byte in ekiden_tests::http2::PREFACE {
        split.bytes(&[*byte]);
    }
    split.send(kind::SETTINGS, 0, 0, &[]);
    split.send(kind::HEADERS, END | END_HEADERS, 1, &get(&[]));
    assert_eq!(split.first(kind::HEADERS).stream, 1);
    let plain = InProcess::start(Setup::new(web(&[origin.address], "", "")));
    let mut refused = Client::connect(plain.setup().address());
    refused.send(ekiden_tests::http2::PREFACE);
    assert_eq!(refused.response().code(), "http2_preface", "not where the listener does not say so");
}

#[test]
fn a_client_that_does_not_tell_its_protocol_is_not_waited_for() {
    let origin = Origin::hello("hi");
    let router = serve_with(&origin, "[listener.edge.limits]\nhead_deadline = \"300ms\"\n");
    let address = router.setup().address();
    let mut client = Client::connect(address);
    client.send("PRI");
    assert_eq!(client.response().code(), "head_timeout");
    let mut frames = Frames::bare(address);
    frames.bytes(b"PRI * HTTP/2.0\r\n\r\n");
    while frames.receive().is_some() {}
    // A header block that does not end.
    let mut frames = Frames::connect(address);
    frames.send(kind::HEADERS, END, 1, &request("GET", &[]));
    assert_eq!(frames.first(kind::GOAWAY).error(), Some(11));
}
