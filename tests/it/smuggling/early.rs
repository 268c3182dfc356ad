//! An endpoint that answers before it has the whole request body: what is still to come of that body must not be read as
//! a request, so the upstream connection serves nobody else.

use ekiden_tests::{Client, InProcess, Origin, Served, Setup, web};

use super::cases::HIDDEN;

/// Answers every head at once and reads no body; what comes instead of a next head is written down all the same.
fn origin() -> Origin {
    Origin::start(|conn| {
        while let Some(request) = conn.head() {
            conn.answer(&request, &request.line);
        }
    })
}

/// Sends a head and part of its body, and reads the answer that came early.
fn begin(router: &InProcess, method: &str, framing: &str, part: &str) -> Client {
    let mut client = router.client();
    client.send(format!("{method} /early HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n{part}"));
    let early = client.read(false).unwrap_or_else(|lost| panic!("{method} {framing}: {lost:?}"));
    assert_eq!(early.text(), format!("{method} /early HTTP/1.1"), "{method} {framing}");
    client
}

#[test]
fn a_connection_with_half_a_body_serves_nobody_else() {
    let length = HIDDEN.len() + 5;
    let chunk = format!("{length:x}\r\nhello");
    for method in ["GET", "POST", "PUT", "DELETE", "OPTIONS"] {
        for (framing, part) in [
            (format!("Content-Length: {length}"), "hello"),
            (format!("Content-Length: {length}"), ""),
            ("Transfer-Encoding: chunked".to_owned(), chunk.as_str()),
            ("Transfer-Encoding: chunked".to_owned(), "5\r\nhello\r\n"),
            ("Transfer-Encoding: chunked".to_owned(), ""),
        ] {
            let what = format!("{method}, {framing}, {part:?}");
            let origin = origin();
            let router = InProcess::start(Setup::new(web(&[origin.address], "", "")));
            let mut client = begin(&router, method, &framing, part);
            for turn in 0..2 {
                assert_eq!(
                    router.get(&format!("/clean-{turn}")).text(),
                    format!("GET /clean-{turn} HTTP/1.1"),
                    "{what}"
                );
            }
            assert_eq!(
                origin.connections(),
                2,
                "{what}: one for the early answer, one for both clean requests"
            );
            // The rest of the body looks like a request.
            client.send(HIDDEN);
            client.finish();
            assert_eq!(router.get("/clean-2").text(), "GET /clean-2 HTTP/1.1", "{what}");
            let clean = String::from_utf8_lossy(&origin.received(2)).into_owned();
            assert_eq!(clean.matches(" HTTP/1.1\r\n").count(), 3, "{what}: {clean:?}");
            assert!(!clean.contains("smuggled"), "{what}: {clean:?}");
        }
    }
}
