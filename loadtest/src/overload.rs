//! `overload`: ten times as much as the endpoints can serve, before them one proxy after the other; and a quiet app beside one
//! that is flooded so.
//!
//! ```text
//! quiet    half of the capacity                       p99; CPU per served request
//! flooded  ten times the capacity                     goodput, p99 of what was served, CPU per refusal
//! alone    the quiet app by itself                    its p99
//! beside   the quiet app, and ten times the capacity  its p99
//! ```
//! Capacity is that of the endpoints: slots by service time. The texts of the proxies are in `fronts/crowded.rs`.

pub(crate) mod endpoint;
mod report;

use crate::failure::{Fallible, failure};
use crate::fronts::{self, Crowded, Front, Kind};
use crate::launch::{self, LOAD_CORE, Launch, Running};
use crate::usage::CpuTime;
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// Endpoints of the crowded app, requests at once of each, and the time that one takes.
const ENDPOINTS: usize = 4;
const SLOTS: usize = 4;
const SERVICE: Duration = Duration::from_millis(20);
/// Requests that may wait in the proxy.
const QUEUE: usize = 256;
/// Connections of the flood: more than wait and are served.
const CONNECTIONS: usize = 600;
/// Offered load, as a multiple of the capacity.
const TIMES: f64 = 10.0;
/// Requests a second of the quiet app.
const QUIET: f64 = 400.0;
const PATIENCE: Duration = Duration::from_secs(30);

/// What was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    /// Proxies.
    pub(crate) kinds: Vec<Kind>,
    /// Rounds, 1..=100.
    pub(crate) rounds: usize,
    /// Length of a measured window.
    pub(crate) window: Duration,
    /// Length of its discarded start.
    pub(crate) warm_up: Duration,
    /// A tiny run.
    pub(crate) smoke: bool,
    /// Date to report instead of the system's.
    pub(crate) date: Option<String>,
    /// Replace the section of RESULTS.md.
    pub(crate) record: bool,
}

/// Requests a second that the endpoints can serve.
pub(crate) fn capacity() -> f64 {
    (ENDPOINTS * SLOTS) as f64 / SERVICE.as_secs_f64()
}

/// What one window came to.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    /// Served a second within the window.
    goodput: f64,
    p99_us: f64,
    /// Over the whole run, its discarded start included.
    served: u64,
    refused: u64,
    failed: u64,
    /// CPU of the proxy over the whole run, and the run's length.
    cpu_ns: u64,
    took: Duration,
}

/// What one proxy came to in one round.
#[derive(Debug, Clone, Copy, Default)]
struct Round {
    quiet: Seen,
    flooded: Seen,
    alone: Seen,
    beside: Seen,
}

impl Round {
    /// CPU of one refusal: what the flooded run took beyond what its served requests did, in nanoseconds.
    fn refusal_ns(&self) -> f64 {
        let served_ns = self.quiet.cpu_ns as f64 / self.quiet.served.max(1) as f64;
        let spent = self.flooded.cpu_ns as f64 - served_ns * self.flooded.served as f64;
        spent / self.flooded.refused.max(1) as f64
    }

    /// Share of a core that the proxy took while it was flooded.
    fn core_share(&self) -> f64 {
        self.flooded.cpu_ns as f64 / self.flooded.took.as_nanos().max(1) as f64
    }
}

/// What one proxy came to.
#[derive(Debug)]
struct Came {
    name: String,
    version: String,
    rounds: Vec<Round>,
}

/// Runs all rounds and publishes the report.
pub(crate) fn run(wish: &Wish) -> Fallible<()> {
    let dir = tempfile::tempdir()?;
    let mut all = Vec::new();
    let (mut endpoints, quiet) = endpoints(dir.path())?;
    for kind in &wish.kinds {
        match kind.program() {
            Ok(program) => {
                let (name, version) = (kind.name().to_owned(), kind.version(&program));
                all.push((*kind, Came { name, version, rounds: Vec::new() }));
            }
            Err(error) if kind.is_ours() => return Err(error),
            Err(error) => println!("skipping {}: {error}", kind.name()),
        }
    }
    for round in 1..=wish.rounds {
        for (kind, came) in &mut all {
            println!("round {round} of {}: {}", wish.rounds, came.name);
            endpoints.0.alive()?;
            let before = Crowded { endpoints: &endpoints.1, slots: SLOTS, queue: QUEUE, quiet: quiet.1 };
            let front = fronts::start_crowded(*kind, before, dir.path())?;
            came.rounds.push(measure(&front, wish, dir.path())?);
        }
    }
    let all: Vec<Came> = all.into_iter().map(|(_, came)| came).collect();
    report::publish(&all, wish)
}

/// The endpoints of the crowded app, and the one of the quiet app, each in a process of its own on the load's core.
type Started = ((Running, Vec<SocketAddr>), (Running, SocketAddr));

fn endpoints(dir: &Path) -> Fallible<Started> {
    let addresses: Vec<SocketAddr> =
        (0..ENDPOINTS).map(|_| launch::free_address()).collect::<Fallible<_>>()?;
    let mut crowded = Launch::own("slow-origin", LOAD_CORE)?.args([
        "--slots",
        &SLOTS.to_string(),
        "--service-ms",
        &SERVICE.as_millis().to_string(),
    ]);
    for address in &addresses {
        crowded = crowded.arg("--listen").arg(address.to_string());
    }
    let quiet = launch::free_address()?;
    let origin = Launch::own("origin", LOAD_CORE)?.arg("--listen").arg(quiet.to_string());
    Ok(((crowded.start(dir)?, addresses), (origin.start(dir)?, quiet)))
}

fn measure(front: &Front, wish: &Wish, dir: &Path) -> Fallible<Round> {
    let (flood, calm) = (("crowded", capacity() * TIMES, CONNECTIONS), ("quiet", QUIET, 32));
    let quiet = window(front, wish, dir, &[("crowded", capacity() / 2.0, 64)])?;
    let flooded = window(front, wish, dir, &[flood])?;
    let alone = window(front, wish, dir, &[calm])?;
    let beside = window(front, wish, dir, &[calm, flood])?;
    Ok(Round { quiet, flooded, alone, beside })
}

/// One window of loads (host, rate, connections) at the same time; the first is the one that is looked at.
fn window(front: &Front, wish: &Wish, dir: &Path, loads: &[(&str, f64, usize)]) -> Fallible<Seen> {
    let pid = front.running.pid();
    let (before, began) = (CpuTime::of_tree(pid)?, Instant::now());
    let mut drives = Vec::new();
    for (host, rate, connections) in loads {
        // A name of its own for its log.
        let mut launch = Launch::own("drive", LOAD_CORE)?;
        launch.name = format!("drive-{host}");
        let launch = launch
            .args(["--to", &front.address.to_string(), "--host", host, "--refusals"])
            .args(["--rate", &rate.to_string(), "--connections", &connections.to_string()])
            .args(["--warm-up", &wish.warm_up.as_secs_f64().to_string()])
            .args(["--seconds", &wish.window.as_secs_f64().to_string()]);
        drives.push(launch.start(dir)?);
    }
    let mut first = None;
    for drive in &mut drives {
        drive.wait(wish.warm_up + wish.window + PATIENCE)?;
        let printed = drive.printed();
        let said: Value = serde_json::from_str(printed.lines().last().unwrap_or_default())?;
        first.get_or_insert(said);
    }
    let (spent, took) = (before.until(&CpuTime::of_tree(pid)?), began.elapsed());
    let said = first.ok_or_else(|| failure("no load"))?;
    let count = |key: &str| said[key].as_u64().unwrap_or(0);
    // Nothing is in flight when the next window begins.
    thread::sleep(SERVICE * 4);
    Ok(Seen {
        goodput: count("recorded") as f64 / wish.window.as_secs_f64(),
        p99_us: said["p99_us"].as_f64().unwrap_or(f64::NAN),
        served: count("verified"),
        refused: count("refused"),
        failed: count("failed"),
        cpu_ns: spent.nanos,
        took,
    })
}
