//! Runs the corpus of HTTP/2 against one endpoint of HTTP/1, one connection a case, each followed by a clean request of
//! HTTP/1, which takes the pooled upstream connection that the case has used.
//!
//! Judges by what the client got, the router's records, the endpoint's log and the answer to the clean request.

use std::collections::BTreeMap;

use ekiden_tests::http2::{END, Frames, kind};
use ekiden_tests::{InProcess, Served, Setup, until, web};
use serde_json::Value;

use super::endpoints::{Endpoint, Kind};
use super::http2_cases::{Case, Fate, corpus};
use super::lane::{Row, compare, number};

/// HPACK's one byte for `:status: 200`, which stands first.
const OK: u8 = 0x88;

/// Good requests that an endpoint may refuse all the same.
const BY_ENDPOINT: &[&str] = &["method OPTIONS", "method DELETE", "method PATCH"];

/// How one case ended for its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The endpoint's answer to this very request.
    Answered,
    /// Something else: an error of the stream or of the connection, or a response that is no answer of ours.
    Not,
}

/// Sends a case and reads to the end of its stream.
fn exchange(router: &InProcess, id: usize, case: &Case, what: &str) -> End {
    let mut client = Frames::bare(router.setup().address());
    client.bytes(&case.bytes(id));
    let (mut body, mut ok) = (Vec::new(), false);
    while let Some(frame) = client.receive() {
        match frame.kind {
            kind::HEADERS if frame.stream == 1 => ok |= frame.payload.first() == Some(&OK),
            kind::DATA if frame.stream == 1 => body.extend_from_slice(&frame.payload),
            kind::RST_STREAM | kind::GOAWAY => return End::Not,
            _ => continue,
        }
        if frame.flags & END != 0 {
            break;
        }
    }
    if !ok {
        return End::Not;
    }
    let text = String::from_utf8_lossy(&body).into_owned();
    if text.is_empty() && case.name == "method HEAD" {
        return End::Answered;
    }
    let answered = text.split_once(' ').and_then(|(_, target)| number(target));
    assert_eq!(answered, Some(("case", id)), "{what}: the answer is another request's: {text:?}");
    End::Answered
}

/// The router's records of the cases by number: each one's code. None has one of a request that nobody sent.
fn codes(router: &InProcess, cases: usize) -> BTreeMap<usize, String> {
    let last = format!("/clean-{:04}", cases - 1);
    let lines = until("the last record", || {
        let lines = router.log_lines(1);
        lines.iter().any(|line| line.contains(&last)).then_some(lines)
    });
    let mut of = BTreeMap::new();
    for line in lines {
        let record: Value = serde_json::from_str(&line).unwrap();
        match record["path"].as_str().and_then(number) {
            Some(("case", id)) => {
                let before = of.insert(id, record["code"].as_str().unwrap_or("").to_owned());
                assert_eq!(before, None, "case {id}: two records");
            }
            Some(("clean", _)) | None => {}
            Some(_) => panic!("a record of a request that nobody sent: {line}"),
        }
    }
    of
}

/// The whole corpus against one endpoint; prints what became of it.
pub(super) fn run(kind: Kind) {
    let cases = corpus();
    let endpoint = Endpoint::start(kind);
    let router = InProcess::start(Setup::new(web(&[endpoint.address], "", "")).listener("h2c = true"));
    let mut ends = Vec::new();
    for (id, case) in cases.iter().enumerate() {
        let what = format!("{kind:?}, case {id}: {}", case.name);
        ends.push(exchange(&router, id, case, &what));
        let response = router.get(&format!("/clean-{id:04}"));
        assert_eq!(response.status, 200, "{what}: the next client got {response:?}");
        let text = response.text();
        assert_eq!(text, format!("GET /clean-{id:04}"), "{what}: the next client got another's answer");
    }
    let codes = codes(&router, cases.len());
    let (mut served, mut refused) = (0, 0);
    let rows = cases.iter().zip(&ends).enumerate().map(|(id, (case, end))| {
        let what = format!("{kind:?}, case {id}: {}", case.name);
        let by_endpoint = *end == End::Not && codes.get(&id).is_some_and(|code| code == "complete");
        match case.fate {
            Fate::Refused => {
                assert_eq!((*end, by_endpoint), (End::Not, false), "{what}: not refused by the router")
            }
            Fate::One(_) if by_endpoint => {
                assert!(BY_ENDPOINT.contains(&case.name.as_str()), "{what}: the endpoint refused it");
            }
            Fate::One(_) => assert_eq!(*end, End::Answered, "{what}: refused as {:?}", codes.get(&id)),
            Fate::Either(_) => {}
        }
        let answered = *end == End::Answered;
        served += usize::from(answered);
        refused += usize::from(!answered);
        let wanted = if answered { vec![("case", case.body(id))] } else { Vec::new() };
        Row { name: &case.name, wanted, broken: !answered && case.has_body() }
    });
    let rows: Vec<Row<'_>> = rows.collect();
    compare(&endpoint, &rows);
    eprintln!("{kind:?}: {} cases of HTTP/2, {served} served, {refused} refused", cases.len());
}
