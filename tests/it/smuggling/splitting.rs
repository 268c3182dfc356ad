//! The same question for responses: an endpoint whose response can be read in two ways, with a second response where
//! the other reading ends. No client may get that second one, neither the one who asked nor the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ekiden_tests::{Client, InProcess, Lost, Origin, Response, Served, Setup, until_true, web};

/// The response that nobody may get.
const LEAK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nLEAKED";

/// A response after which the upstream connection may be used again, to show that the others end it.
const PLAIN: &[(&str, &str, &str)] = &[
    ("length", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"),
    ("chunks", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
    ("trailers", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nA: b\r\n\r\n"),
    ("no content", "GET", "HTTP/1.1 204 No Content\r\n\r\n"),
    ("not modified", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n"),
    ("to HEAD", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"),
    ("to HEAD, chunked", "HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    (
        "after 103",
        "GET",
        "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
    ),
];

/// Heads after `HTTP/1.1 200 OK`, with what comes of the body under one reading; [`LEAK`] follows.
const FRAMING: &[(&str, &str)] = &[
    ("length and chunked", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("chunked and length", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
    ("chunked and length of zero", "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n"),
    ("two lengths", "Content-Length: 3\r\nContent-Length: 0\r\n\r\nabc"),
    ("two lengths, zero first", "Content-Length: 0\r\nContent-Length: 3\r\n\r\nabc"),
    ("two equal lengths", "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc"),
    ("list of lengths", "Content-Length: 3, 3\r\n\r\nabc"),
    ("length plus", "Content-Length: +3\r\n\r\nabc"),
    ("length minus", "Content-Length: -3\r\n\r\nabc"),
    ("length hexadecimal", "Content-Length: 0x3\r\n\r\nabc"),
    ("length empty", "Content-Length:\r\n\r\n"),
    ("length over 64 bits", "Content-Length: 18446744073709551619\r\n\r\nabc"),
    ("length with vertical tab", "Content-Length: \x0b3\r\n\r\nabc"),
    ("length folded", "Content-Length:\r\n 3\r\n\r\nabc"),
    ("length, space before colon", "Content-Length : 3\r\n\r\nabc"),
    ("coding unknown", "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    ("coding identity", "Transfer-Encoding: identity\r\n\r\n0\r\n\r\n"),
    ("coding listed twice", "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    ("coding twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("coding then identity", "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
    ("coding with vertical tab", "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
    ("coding folded", "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"),
    ("coding, space before colon", "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
    ("value with bare CR", "X: a\rContent-Length: 0\r\nContent-Length: 3\r\n\r\nabc"),
    ("value with bare LF", "X: a\nContent-Length: 0\r\nContent-Length: 3\r\n\r\nabc"),
    ("value with CR, CR LF", "X: a\r\r\nContent-Length: 3\r\n\r\nabc"),
    ("value with bare LFs, empty line", "X: a\n\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"),
    ("value with NUL", "X: a\0\r\nContent-Length: 3\r\n\r\nabc"),
    ("name with NUL", "X\0: a\r\nContent-Length: 3\r\n\r\nabc"),
    ("line without colon", "X\r\nContent-Length: 3\r\n\r\nabc"),
    ("chunk size prefix", "Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n"),
    ("chunk size plus", "Transfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n"),
    ("chunk size minus", "Transfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n"),
    ("chunk size space", "Transfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n0\r\n\r\n"),
    ("chunk size over 64 bits", "Transfer-Encoding: chunked\r\n\r\n10000000000000003\r\nabc\r\n0\r\n\r\n"),
    ("chunk size ends with LF", "Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n"),
    ("chunk ends with LF", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\n0\r\n\r\n"),
    ("chunk ends with nothing", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc0\r\n\r\n"),
    ("chunk too short", "Transfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n"),
    ("extension with LF", "Transfer-Encoding: chunked\r\n\r\n3;a\nb\r\nabc\r\n0\r\n\r\n"),
    ("trailer Content-Length", "Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 0\r\n\r\n"),
    ("trailer without colon", "Transfer-Encoding: chunked\r\n\r\n0\r\nHTTP/1.1 200 OK\r\n\r\n"),
    ("trailer folded", "Transfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n c\r\n\r\n"),
];

/// Whole responses with what does not belong to them; [`LEAK`] follows.
const WHOLE: &[(&str, &str, &str)] = &[
    ("204 with a length and a body", "GET", "HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\nabc"),
    (
        "204 with chunks",
        "GET",
        "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ),
    ("304 with a body", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\nabc"),
    ("304 with chunks", "GET", "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("205 with a body", "GET", "HTTP/1.1 205 Reset Content\r\nContent-Length: 3\r\n\r\nabc"),
    ("HEAD with a body", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"),
    ("HEAD with chunks", "HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("103 with a body", "GET", "HTTP/1.1 103 Early Hints\r\nContent-Length: 3\r\n\r\nabc"),
    (
        "101 that nobody asked for",
        "GET",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
    ),
    ("HTTP/1.0 with chunks", "GET", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    (
        "HTTP/1.0 kept alive with length",
        "GET",
        "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nabc",
    ),
    ("version unknown", "GET", "HTTP/1.2 200 OK\r\nContent-Length: 3\r\n\r\nabc"),
    ("length, then bytes before the next", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcd"),
    ("length, then an empty line", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc\r\n"),
    ("length of zero", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ("no length", "GET", "HTTP/1.1 200 OK\r\n\r\nabc"),
    ("closes, with a length", "GET", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc"),
];

/// One response: the second response comes at once, once the client has the first, or never.
struct Row {
    name: String,
    method: &'static str,
    bytes: String,
    late: &'static str,
    reused: bool,
}

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    let mut row =
        |name: String, method, bytes, late, reused| rows.push(Row { name, method, bytes, late, reused });
    for (name, method, bytes) in PLAIN {
        row(format!("plain: {name}"), *method, (*bytes).to_owned(), "", true);
        row(format!("plain: {name}, then another"), *method, format!("{bytes}{LEAK}"), "", false);
        row(format!("plain: {name}, another later"), *method, (*bytes).to_owned(), LEAK, false);
    }
    for (name, bytes) in FRAMING {
        row(format!("framing: {name}"), "GET", format!("HTTP/1.1 200 OK\r\n{bytes}{LEAK}"), "", false);
    }
    for (name, method, bytes) in WHOLE {
        row(format!("whole: {name}"), *method, format!("{bytes}{LEAK}"), "", false);
    }
    rows
}

/// How far the row in hand is: the client has its response; the endpoint has sent everything.
#[derive(Default)]
struct Steps {
    answered: AtomicUsize,
    sent: AtomicUsize,
}

/// Sends the row of a `/bad-N` target; answers others with their own line.
fn origin(rows: Arc<[Row]>, steps: Arc<Steps>) -> Origin {
    Origin::start(move |conn| {
        while let Some(request) = conn.request() {
            let number = request.target().strip_prefix("/bad-").and_then(|text| text.parse::<usize>().ok());
            let Some(number) = number else {
                conn.answer(&request, &request.line);
                continue;
            };
            let row = &rows[number];
            conn.send(&row.bytes);
            if !row.late.is_empty() {
                until_true("the client's response", || steps.answered.load(Ordering::SeqCst) > number);
                conn.send(row.late);
            }
            steps.sent.store(number + 1, Ordering::SeqCst);
            // The end, for a response that ends with the connection.
            if row.bytes.contains("200 OK\r\n\r\nabc") || row.bytes.contains("Connection: close") {
                return;
            }
        }
    })
}

/// The final response, or why there is none.
fn last(client: &mut Client, method: &str) -> Result<Response, Lost> {
    loop {
        let response = client.read(method == "HEAD")?;
        if response.status >= 200 {
            return Ok(response);
        }
    }
}

#[test]
fn a_second_response_reaches_nobody() {
    let (rows, steps) = (Arc::<[Row]>::from(rows()), Arc::new(Steps::default()));
    let origin = origin(Arc::clone(&rows), Arc::clone(&steps));
    let router = InProcess::start(Setup::new(web(&[origin.address], "", "")));
    let (mut refused, mut served, mut cut) = (0, 0, 0);
    for (number, row) in rows.iter().enumerate() {
        let name = &row.name;
        let mut client = router.client();
        client.send(format!("{} /bad-{number} HTTP/1.1\r\nHost: a\r\n\r\n", row.method));
        let first = last(&mut client, row.method);
        steps.answered.store(number + 1, Ordering::SeqCst);
        until_true("the endpoint's bytes", || steps.sent.load(Ordering::SeqCst) > number);
        let before = origin.connections();
        match &first {
            Ok(response) if response.code().is_empty() => {
                served += 1;
                assert!(!name.starts_with("framing: "), "{name}: one reading was guessed: {response:?}");
                // What ends with the connection holds everything up to it; no reader sees a second response there.
                assert!(response.says_close() || response.text() != "LEAKED", "{name}: {response:?}");
            }
            Ok(response) => {
                refused += 1;
                assert_eq!(response.status, 502, "{name}: {response:?}");
            }
            Err(Lost::Truncated(_)) => cut += 1,
            Err(lost) => panic!("{name}: {lost:?}"),
        }
        // The next request on this client connection, where it is still open, and the next client's.
        if first.as_ref().is_ok_and(|response| !response.says_close()) {
            client.send(format!("GET /next-{number} HTTP/1.1\r\nHost: a\r\n\r\n"));
            match last(&mut client, "GET") {
                Ok(next) => assert_eq!(next.text(), format!("GET /next-{number} HTTP/1.1"), "{name}"),
                Err(lost) => panic!("{name}: the next request of this client: {lost:?}"),
            }
        }
        let clean = router.get(&format!("/clean-{number}"));
        assert_eq!((clean.status, clean.text()), (200, format!("GET /clean-{number} HTTP/1.1")), "{name}");
        assert_eq!(origin.connections() == before, row.reused, "{name}: reuse of the upstream connection");
    }
    eprintln!("{} responses: {refused} refused, {served} served, {cut} cut", rows.len());
}
