//! An independent judge, `http_desync_guardian`, looks at every head that the router sends upstream for the corpus:
//! none is Severe, and Ambiguous ones are so for a listed reason. The requests that its authors call Severe are refused.

use std::collections::BTreeMap;

use ekiden_tests::{InProcess, Origin, Served, Setup, web};
use http_desync_guardian::request_analyzer::{HttpRequestData, RequestAnalysisResult};
use http_desync_guardian::{ClassificationReason as Reason, RequestSafetyTier as Tier};

use super::cases::{Fate, corpus};

/// Why a forwarded request may be Ambiguous, and why it does no harm.
///
/// RFC 9110 section 9.3.1 gives the content of a GET no meaning, but RFC 9112 section 6 frames it like any other. Every
/// endpoint of this module takes the same bytes as its body: the cases `GET, length ...` and `GET, coding ...`, whose
/// hidden request stands in that body, with an endpoint's log as witness. The connection is reused after the
/// whole body only, which the clean request after each case shows.
const AMBIGUOUS: &[Reason] =
    &[Reason::UndefinedContentLengthSemantics, Reason::UndefinedTransferEncodingSemantics];

fn judge(request: &[u8]) -> RequestAnalysisResult {
    HttpRequestData::analyze_raw_request(request)
}

/// Answers everything with 200.
fn origin() -> Origin {
    Origin::start(|conn| {
        while let Some(mut request) = conn.head() {
            if request.get("expect").is_some() {
                conn.send("HTTP/1.1 100 Continue\r\n\r\n");
            }
            if conn.body(&mut request).is_none() {
                return;
            }
            conn.answer(&request, "served");
        }
    })
}

/// The heads in the bytes of one upstream connection. The framing of what the router writes is plain: one
/// Content-Length, or one `Transfer-Encoding: chunked`, as it spells it.
fn heads(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut heads = Vec::new();
    while let Some(end) = find(bytes, b"\r\n\r\n") {
        let (head, rest) = bytes.split_at(end + 4);
        heads.push(head);
        let text = String::from_utf8_lossy(head).to_lowercase();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
        let used = match length {
            Some(length) => length.trim().parse().unwrap(),
            None if text.contains("\r\ntransfer-encoding: chunked\r\n") => chunks(rest),
            None => 0,
        };
        bytes = rest.get(used..).unwrap_or(&[]);
    }
    heads
}

/// Length of a chunked body; all there is when it was cut.
fn chunks(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(end) = find(&bytes[at..], b"\r\n") {
        let line = std::str::from_utf8(&bytes[at..at + end]).unwrap();
        let size =
            usize::from_str_radix(line, 16).unwrap_or_else(|_| panic!("the router wrote size {line:?}"));
        at += end + 2;
        if size == 0 {
            let trailers = &bytes[at..];
            let none = trailers.starts_with(b"\r\n").then_some(2);
            return none
                .or_else(|| find(trailers, b"\r\n\r\n").map(|end| end + 4))
                .map_or(bytes.len(), |end| at + end);
        }
        at = (at + size + 2).min(bytes.len());
    }
    bytes.len()
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

#[test]
fn an_independent_judge_finds_nothing_severe_in_what_is_forwarded() {
    let (origin, cases) = (origin(), corpus());
    let router = InProcess::start(Setup::new(web(&[origin.address], "", "")));
    for (id, case) in cases.iter().enumerate() {
        let mut client = router.client();
        client.send(case.bytes(id));
        client.finish();
        client.rest();
    }
    let mut tiers: BTreeMap<String, usize> = BTreeMap::new();
    let mut count = 0;
    for connection in 1..=origin.connections() {
        let bytes = origin.received(connection);
        for head in heads(&bytes) {
            let result = judge(head);
            let shown = String::from_utf8_lossy(head).into_owned();
            assert!(result.tier != Tier::Severe, "{:?} {:?}: {shown}", result.reason, result.message);
            let listed = result.tier != Tier::Ambiguous || AMBIGUOUS.contains(&result.reason);
            assert!(listed, "{:?} {:?}: {shown}", result.reason, result.message);
            *tiers.entry(format!("{:?} {:?}", result.tier, result.reason)).or_default() += 1;
            count += 1;
        }
    }
    let served: usize = cases
        .iter()
        .map(|case| match case.fate {
            Fate::Refused => 0,
            Fate::One(_) => 1,
            Fate::Two(_) => 2,
        })
        .sum();
    assert!(count >= served, "{count} heads of {served}: the capture has lost some");
    eprintln!("{count} forwarded heads: {tiers:?}");
}

/// Name and bytes of each line of `severe.txt`.
fn vectors() -> Vec<(&'static str, Vec<u8>)> {
    let lines = include_str!("severe.txt").lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, text) = line.split_once(" => ").unwrap();
            let mut bytes = Vec::new();
            let mut rest = text.bytes();
            while let Some(byte) = rest.next() {
                bytes.push(match (byte, byte == b'\\') {
                    (_, false) => byte,
                    _ => match rest.next().unwrap() {
                        b'r' => b'\r',
                        b'n' => b'\n',
                        b't' => b'\t',
                        b'x' => {
                            let digits = [rest.next().unwrap(), rest.next().unwrap()];
                            u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
                        }
                        other => other,
                    },
                });
            }
            (name, bytes)
        })
        .collect()
}

#[test]
fn what_the_judge_calls_severe_is_refused() {
    let origin = origin();
    let router = InProcess::start(Setup::new(web(&[origin.address], "", "")));
    let vectors = vectors();
    assert!(vectors.len() > 50, "{} vectors", vectors.len());
    let mut severe = 0;
    for (name, vector) in &vectors {
        let end = find(vector, b"\r\n").unwrap() + 2;
        // Most vectors name no host, which alone would be a reason to refuse.
        let host: &[u8] =
            if find(&vector.to_ascii_lowercase(), b"\r\nhost:").is_some() { b"" } else { b"Host: a\r\n" };
        let bytes = [&vector[..end], host, &vector[end..], b"\r\n\r\n"].concat();
        severe += usize::from(judge(&bytes).tier == Tier::Severe);
        let mut client = router.client();
        client.send(&bytes);
        let response = client.read(false).unwrap_or_else(|lost| panic!("{name}: {lost:?}"));
        assert!((400..=501).contains(&response.status), "{name}: {response:?}");
        assert!(!response.code().is_empty() && response.says_close(), "{name}: {response:?}");
    }
    assert_eq!(origin.connections(), 0, "a refused request opened an upstream connection");
    // A judge that has gone quiet would find nothing severe in what is forwarded either.
    assert!(severe * 10 >= vectors.len() * 8, "the judge calls {severe} of {} severe", vectors.len());
    eprintln!("{} severe vectors refused; the judge calls {severe} of them severe as sent", vectors.len());
}
