//! Runs the corpus against one endpoint, one case after another, each followed by a clean request on a new client
//! connection, which takes the pooled upstream connection that the case has used.
//!
//! Judges by four witnesses: what the client got, the router's records, the endpoint's log, the answer to the clean
//! request.

use std::collections::BTreeMap;

use ekiden_tests::{Client, InProcess, Lost, Response, Served, Setup, until, web};
use serde_json::Value;

use super::cases::{Case, Fate, corpus};
use super::endpoints::{Endpoint, Kind, Seen};

/// How one case ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// Refused at the head: nothing went upstream.
    RefusedHead,
    /// Refused in the body: the upstream connection was cut.
    RefusedBody,
    /// The endpoint saw the same single request.
    Same,
    /// It saw the two requests that the client had pipelined.
    SameTwo,
    /// The endpoint refused the request itself.
    ByEndpoint,
}

/// Good requests that an endpoint may refuse all the same: not every server knows every method, or takes half a handshake
/// of WebSocket.
const BY_ENDPOINT: &[&str] = &[
    "line: lower case method",
    "line: method with a dash",
    "switch: WebSocket",
    "switch: WebSocket of a wrong version",
    "switch: WebSocket among others",
];

/// Everything that answers one client connection. Informational responses are left out.
fn exchange(client: &mut Client, bytes: &[u8], what: &str) -> Vec<Response> {
    client.send(bytes);
    client.finish();
    let mut responses = Vec::new();
    loop {
        let to_head = responses.is_empty() && bytes.starts_with(b"HEAD ");
        match client.read(to_head) {
            Ok(response) if response.status < 200 => {}
            Ok(response) => responses.push(response),
            Err(Lost::Closed) => return responses,
            Err(lost) => panic!("{what}: {lost:?} after {responses:?}"),
        }
    }
}

/// The case whose number a target holds.
pub(super) fn number(target: &str) -> Option<(&str, usize)> {
    let rest = target.strip_prefix('/')?;
    let (kind, rest) = rest.split_once('-')?;
    Some((kind, rest.get(..4)?.parse().ok()?))
}

/// A run over one endpoint.
struct Lane<'a> {
    endpoint: &'a Endpoint,
    router: InProcess,
}

impl Lane<'_> {
    /// One case and its clean request. Every refusal counts as one of the head until the records are read.
    fn run(&self, id: usize, case: &Case) -> Verdict {
        let what = format!("{:?}, case {id}: {}", self.endpoint.kind, case.name);
        let responses = exchange(&mut self.router.client(), &case.bytes(id), &what);
        let router_made = responses.iter().filter(|response| !response.code().is_empty()).count();
        let verdict = match (&case.fate, responses.as_slice()) {
            (Fate::Refused, [one]) => {
                assert_eq!(router_made, 1, "{what}: not refused: {one:?}");
                assert!((400..=501).contains(&one.status), "{what}: {one:?}");
                assert!(one.says_close(), "{what}: the connection stays open: {one:?}");
                Verdict::RefusedHead
            }
            (Fate::One(_), [one]) => self.served(one, "case", id, Verdict::Same, &what),
            (Fate::Two(_), [one, two]) => {
                assert_eq!(
                    self.served(two, "smuggled", id, Verdict::SameTwo, &what),
                    Verdict::SameTwo,
                    "{what}"
                );
                self.served(one, "case", id, Verdict::SameTwo, &what)
            }
            _ => panic!("{what}: {} responses: {responses:#?}", responses.len()),
        };
        // The router's port of the upstream connection that the case has used, where it must be used again.
        let good = matches!(verdict, Verdict::Same | Verdict::SameTwo);
        self.clean(id, responses.last().filter(|_| good).and_then(|last| last.get("x-peer")), &what);
        verdict
    }

    /// A response of the endpoint to this very request, or its refusal.
    fn served(&self, response: &Response, kind: &str, id: usize, served: Verdict, what: &str) -> Verdict {
        assert_eq!(response.code(), "", "{what}: the router refused: {response:?}");
        if (400..=501).contains(&response.status) {
            return Verdict::ByEndpoint;
        }
        let text = response.text();
        assert_eq!(response.status, 200, "{what}: {response:?}");
        if text.is_empty() && kind == "case" && what.contains(": HEAD, ") {
            return served;
        }
        let answered = text.split_once(' ').and_then(|(_, target)| number(target));
        assert_eq!(answered, Some((kind, id)), "{what}: the answer is another request's: {text:?}");
        served
    }

    /// The next client gets its own answer, on the connection that was pooled.
    fn clean(&self, id: usize, peer: Option<&str>, what: &str) {
        let response = self.router.get(&format!("/clean-{id:04}"));
        assert_eq!(response.status, 200, "{what}: the next client got {response:?}");
        let text = response.text();
        assert_eq!(text, format!("GET /clean-{id:04}"), "{what}: the next client got another's answer");
        assert!(response.get("x-peer").is_some(), "{what}: no X-Peer in {response:?}");
        if peer.is_some() {
            assert_eq!(response.get("x-peer"), peer, "{what}: a good request cost its upstream connection");
        }
    }

    /// What the endpoint saw of each case is what the case says.
    fn compare(&self, cases: &[Case], verdicts: &[Verdict]) {
        let rows = cases.iter().zip(verdicts).enumerate().map(|(id, (case, verdict))| {
            let mut wanted = Vec::new();
            if matches!(verdict, Verdict::Same | Verdict::SameTwo) {
                wanted.push(("case", case.body(id)));
            }
            if matches!(case.fate, Fate::Two(_)) {
                wanted.push(("smuggled", Vec::new()));
            }
            Row { name: &case.name, wanted, broken: *verdict == Verdict::RefusedBody }
        });
        compare(self.endpoint, &rows.collect::<Vec<_>>());
    }

    /// The router has a record of the second request where the client pipelined it, and nowhere else. Tells refusals
    /// that came once the head was upstream from those that came before.
    fn records(&self, cases: &[Case], verdicts: &mut [Verdict]) {
        let last = format!("/clean-{:04}", cases.len() - 1);
        let lines = until("the last record", || {
            let lines = self.router.log_lines(1);
            lines.iter().any(|line| line.contains(&last)).then_some(lines)
        });
        let mut of: BTreeMap<(String, usize), Vec<Value>> = BTreeMap::new();
        for line in lines {
            let record: Value = serde_json::from_str(&line).unwrap();
            if let Some((word, id)) = record["path"].as_str().and_then(number) {
                of.entry((word.to_owned(), id)).or_default().push(record);
            }
        }
        for (id, (case, verdict)) in cases.iter().zip(verdicts).enumerate() {
            let mut take = |word: &str| of.remove(&(word.to_owned(), id)).unwrap_or_default();
            let second = usize::from(matches!(case.fate, Fate::Two(_)));
            assert_eq!(take("smuggled").len(), second, "case {id}: {}", case.name);
            assert_eq!(take("clean").len(), 1, "case {id}: {}", case.name);
            let went_out = take("case").iter().any(|record| record["attempts"].as_u64() > Some(0));
            if *verdict == Verdict::RefusedHead && went_out {
                *verdict = Verdict::RefusedBody;
            }
        }
    }
}

/// What an endpoint must have seen of one case, besides the clean request that follows.
pub(super) struct Row<'a> {
    pub(super) name: &'a str,
    /// First words of the targets, with the bodies.
    pub(super) wanted: Vec<(&'static str, Vec<u8>)>,
    /// The case was refused in its body, after its head had gone out.
    pub(super) broken: bool,
}

/// Waits for the last clean request, then compares the endpoint's log with what each case says.
pub(super) fn compare(endpoint: &Endpoint, rows: &[Row<'_>]) {
    let last = format!("/clean-{:04}", rows.len() - 1);
    let kind = endpoint.kind;
    let seen = until("the last clean request in the endpoint's log", || {
        let seen = endpoint.seen();
        seen.iter().any(|one| one.target == last).then_some(seen)
    });
    let mut by_case: BTreeMap<usize, Vec<(&str, &Seen)>> = BTreeMap::new();
    for one in &seen {
        let (word, id) =
            number(&one.target).unwrap_or_else(|| panic!("{kind:?}: a request that nobody sent: {one:?}"));
        by_case.entry(id).or_default().push((word, one));
    }
    for (id, row) in rows.iter().enumerate() {
        let what = format!("{kind:?}, case {id}: {}", row.name);
        let mut wanted = row.wanted.clone();
        wanted.push(("clean", Vec::new()));
        let broken = row.broken && !kind.tells_broken_bodies();
        let got: Vec<(&str, Vec<u8>)> = by_case
            .remove(&id)
            .unwrap_or_default()
            .iter()
            .filter(|(word, _)| !broken || *word != "case")
            .map(|(word, one)| (*word, one.body.clone()))
            .collect();
        assert_eq!(got, wanted, "{what}: the endpoint saw something else");
    }
    assert!(by_case.is_empty(), "{kind:?}: requests of no case: {by_case:?}");
}

/// The whole corpus against one endpoint; prints what became of it.
pub(super) fn run(kind: Kind) {
    let cases = corpus();
    let endpoint = Endpoint::start(kind);
    let router = InProcess::start(Setup::new(web(&[endpoint.address], "", "")));
    let lane = Lane { endpoint: &endpoint, router };
    let mut verdicts: Vec<Verdict> = cases.iter().enumerate().map(|(id, case)| lane.run(id, case)).collect();
    lane.records(&cases, &mut verdicts);
    lane.compare(&cases, &verdicts);
    let mut counts: BTreeMap<Verdict, usize> = BTreeMap::new();
    for (case, verdict) in cases.iter().zip(&verdicts) {
        *counts.entry(*verdict).or_default() += 1;
        let known = *verdict != Verdict::ByEndpoint || BY_ENDPOINT.contains(&case.name.as_str());
        assert!(known, "{kind:?} itself refused: {}", case.name);
    }
    eprintln!("{kind:?}: {} cases, {counts:?}", cases.len());
}
