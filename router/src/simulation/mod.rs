//! A simulation of exchanges: the worker's own code over real sockets, with scripted clients, endpoints and an authorizer, a clock that
//! it makes itself and faults between any two polls, all in an order that a seed fixes. Clients and
//! endpoints speak HTTP/1 and HTTP/2, some of the clients over TLS; the authorizer is asked by HTTP/1 and by gRPC.
//!
//! Of each run it holds: every exchange and every handshake ends in exactly one outcome, whatever was taken is given back (permits,
//! counts, places, slots, buffers, tasks), no client gets what is another's, no endpoint a request that nobody sent or that the
//! authorizer has not let in, and without faults nobody waits for ever. `EKIDEN_SEED` repeats one run and tells its steps, `EKIDEN_SEEDS` makes more. Does not simulate the network:
//! bytes go through the kernel, and their order in time is the script's.

mod client;
mod endpoint;
mod http2_endpoint;
pub(crate) mod ledger;
mod message;
mod secure;
mod socket;
mod streams;
mod verdicts;
mod words;
mod world;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ekiden_core::outcome::Cause;
use tokio::runtime::{Builder, LocalOptions};

use world::{Fault, Report, World};

/// Runs that are always made: enough for what must have been met.
const SEEDS_LEAST: u64 = 300;
/// Runs that are made while there is time.
const SEEDS: u64 = 4_000;
/// Time for runs beyond the least.
const TIME: Duration = Duration::from_secs(12);

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

fn run(seed: u64, told: bool) -> Result<Report, String> {
    let runtime =
        Builder::new_current_thread().enable_io().enable_time().build_local(LocalOptions::default()).unwrap();
    ledger::begin();
    runtime.block_on(async {
        tokio::time::pause();
        World::new(seed, told).run().await
    })
}

#[test]
fn every_exchange_ends_once_and_gives_back_what_it_took() {
    if let Some(seed) = number("EKIDEN_SEED") {
        let report = run(seed, true).unwrap_or_else(|wrong| panic!("EKIDEN_SEED={seed}: {wrong}"));
        println!("{report:?}");
        return;
    }
    let asked = number("EKIDEN_SEEDS");
    let began = Instant::now();
    let (mut exchanges, mut runs) = (0, 0);
    let mut faults = BTreeMap::<Fault, u64>::new();
    let mut ends = BTreeMap::<String, u64>::new();
    let mut causes = Vec::<Cause>::new();
    let mut turns = BTreeMap::<String, u64>::new();
    for seed in 0..asked.unwrap_or(SEEDS) {
        if asked.is_none() && seed >= SEEDS_LEAST && began.elapsed() > TIME {
            break;
        }
        let report = run(seed, false).unwrap_or_else(|wrong| {
            panic!("EKIDEN_SEED={seed} repeats it: {wrong}");
        });
        runs += 1;
        exchanges += report.exchanges;
        report.faults.into_iter().for_each(|(fault, count)| *faults.entry(fault).or_default() += count);
        report.turns.into_iter().for_each(|(turn, count)| *turns.entry(turn).or_default() += count);
        for (cause, phase) in report.ends {
            *ends.entry(format!("{} in {phase:?}", cause.code())).or_default() += 1;
            if !causes.contains(&cause) {
                causes.push(cause);
            }
        }
    }
    println!(
        "{runs} runs, {exchanges} exchanges in {:?}\nfaults: {faults:?}\nturns: {turns:?}\nends: {ends:#?}",
        began.elapsed()
    );
    if asked.is_some_and(|asked| asked < SEEDS_LEAST) {
        return;
    }
    for fault in Fault::ALL {
        assert!(faults.contains_key(&fault), "{fault:?} was never made");
    }
    for cause in MET {
        assert!(causes.contains(cause), "no exchange ended with {}", cause.code());
    }
    for turn in TAKEN {
        assert!(turns.get(*turn).is_some_and(|count| *count > 0), "there was none: {turn}");
    }
}

/// Ends that the runs must have brought about: without them they would show little.
const MET: &[Cause] = &[
    Cause::Complete,
    Cause::ClientGone,
    Cause::Dropped,
    Cause::NoRoute,
    Cause::ConnectRefused,
    Cause::ClosedWithoutResponse,
    Cause::UpstreamReset,
    Cause::FirstByteTimeout,
    Cause::RateLimited,
    Cause::AuthorizerRefused,
    Cause::AuthorizerFailed,
    Cause::PlainOnTls,
];

/// What handshakes and questions must have come to, likewise.
const TAKEN: &[&str] = &[
    "handshake full 1.2",
    "handshake full 1.3",
    "handshake resumed 1.2",
    "handshake resumed 1.3",
    "handshake refused",
    "handshake closed",
    "handshake timeout",
    "handshake not_tls",
    "handshake peer_alert",
    "handshake invalid",
    "handshake drained",
    "authorizer allowed",
    "authorizer refused",
    "authorizer failed",
    "endpoint of HTTP/2 answered",
    "authorizer of gRPC answered",
];
