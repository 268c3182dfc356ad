//! The running binary as its operator sees it: API, files, start, DNS, and what it says of itself.

mod api;
mod apps;
mod command;
mod dns;
mod files;
mod full_disk;
mod guarded;
mod hold;
mod keys;
mod maintenance;
mod readme;
mod schema;
mod sources;
mod start;
pub(crate) mod stuck;
mod telemetry;

use ekiden_tests::{Ekiden, Response, Served, Setup, Stamped, web};

/// One endpoint of the file, started and serving.
fn one() -> (Stamped, Ekiden) {
    let origin = Stamped::start("file");
    let router = Ekiden::start(Setup::new(web(&[origin.address], EVEN, "")).top("drain_grace = \"0s\""));
    (origin, router)
}

/// Status and code of a problem document.
fn problem(answer: &Response) -> (u16, String) {
    assert_eq!(
        answer.get("content-type"),
        Some("application/problem+json"),
        "programs cannot read it: {answer:?}"
    );
    let document = answer.json();
    assert_eq!(document["status"], answer.status, "{document}");
    assert!(
        document["detail"].as_str().is_some_and(|text| text.len() > 10),
        "says nothing to people: {document}"
    );
    (answer.status, document["code"].as_str().unwrap_or("").to_owned())
}

fn generation(answer: &Response) -> u64 {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["generation"].as_u64().unwrap_or_else(|| panic!("no generation in {answer:?}"))
}

/// So that every endpoint that may serve does: by latency one that a busy machine makes look slow may get nothing for a while.
const EVEN: &str = "balance = \"p2c\"";

/// Names of the origins that answer a number of requests, each once. Where several are expected, the cluster is [`EVEN`].
fn who(router: &Ekiden, path: &str, requests: usize) -> Vec<String> {
    let mut client = router.client();
    let mut names: Vec<String> = (0..requests).map(|_| client.get("a", path).text()).collect();
    names.sort();
    names.dedup();
    names
}
