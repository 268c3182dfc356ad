//! `instructions`: user instructions per request of ekiden with access log and metrics against without, counted
//! by callgrind. Two run lengths are subtracted, so start-up and end cancel. Callgrind sees no kernel work and
//! keeps one thread running at a time; times mean nothing under it and none are reported.

use crate::failure::{Fallible, failure};
use crate::figures::thousands;
use crate::fronts::{self, Front, Kind, Origins};
use crate::launch::{self, LOAD_CORE, Launch, ROUTER_CORE};
use crate::machine::Machine;
use crate::{peers, results};
use rustix::process::Signal;
use serde_json::json;
use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// Highest allowed cost of access log and metrics, as a share of a request's instructions.
const BAR: f64 = 0.05;
/// Connections of the load.
const CONNECTIONS: &str = "16";

/// What to count.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    /// Path at the origin.
    pub(crate) path: String,
    /// Requests of the difference, 100..=1,000,000.
    pub(crate) requests: u64,
    /// Date to report instead of the system's.
    pub(crate) date: Option<String>,
    /// Replace the section of RESULTS.md.
    pub(crate) record: bool,
    /// Only see whether it works.
    pub(crate) smoke: bool,
}

/// Instructions per request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Count {
    /// Of the busiest thread: the worker.
    pub(crate) worker: f64,
    /// Of all threads.
    pub(crate) process: f64,
}

/// Counts both variants and publishes the report.
pub(crate) fn run(wish: &Wish) -> Fallible<()> {
    let (off, on) = compare(wish, Kind::Ekiden, Kind::EkidenLogged)?;
    publish(wish, off, on)
}

/// Instructions per request of two kinds of ekiden.
pub(crate) fn compare(wish: &Wish, one: Kind, other: Kind) -> Fallible<(Count, Count)> {
    let valgrind = launch::find_program("valgrind");
    let valgrind = valgrind.ok_or_else(|| failure("valgrind is not installed (apt install valgrind)"))?;
    let dir = tempfile::tempdir()?;
    let origin_at = launch::free_address()?;
    let _origin = peers::start_origin(&[origin_at], None, dir.path())?;
    let one = per_request(one, wish, &valgrind, origin_at, dir.path())?;
    let other = per_request(other, wish, &valgrind, origin_at, dir.path())?;
    Ok((one, other))
}

fn per_request(kind: Kind, wish: &Wish, valgrind: &Path, origin: SocketAddr, dir: &Path) -> Fallible<Count> {
    let few = counted(kind, wish, wish.requests / 4, valgrind, origin, &dir.join("few"))?;
    let many = counted(kind, wish, wish.requests / 4 + wish.requests, valgrind, origin, &dir.join("many"))?;
    let per = |more: u64, less: u64| more.saturating_sub(less) as f64 / wish.requests as f64;
    // The worker is the busiest thread of either run. Threads are not matched one by one: how many there are for blocking work
    // differs from run to run.
    let busiest = |threads: &[u64]| threads.iter().copied().max().unwrap_or(0);
    let count = Count {
        worker: per(busiest(&many), busiest(&few)),
        process: per(many.iter().sum(), few.iter().sum()),
    };
    let (worker, process) = (thousands(count.worker), thousands(count.process));
    println!("{}: {worker} instructions per request on the worker, {process} in the process", kind.name());
    Ok(count)
}

/// Instructions of each thread, in order of their start, over one life of the router with `requests` requests.
fn counted(
    kind: Kind,
    wish: &Wish,
    requests: u64,
    valgrind: &Path,
    origin: SocketAddr,
    dir: &Path,
) -> Fallible<Vec<u64>> {
    println!("{}: {} requests under callgrind", kind.name(), thousands(requests as f64));
    let address = launch::free_address()?;
    let dir = dir.join(kind.name());
    fs::create_dir_all(&dir)?;
    let wanted =
        fronts::launch(kind, kind.name(), &kind.program()?, address, None, Origins::plain(origin), &dir)?;
    let launch = Launch::new(kind.name(), valgrind, ROUTER_CORE)
        .args(["--tool=callgrind", "--separate-threads=yes", "--quiet"])
        .arg(format!("--callgrind-out-file={}", dir.join("counts").display()))
        .arg(&wanted.program)
        .args(wanted.args);
    let mut front =
        Front { kind, name: kind.name().to_owned(), address, secure: None, running: launch.start(&dir)? };
    front.await_ready(&wish.path, Duration::from_secs(60))?;
    let drive = Launch::own("drive", LOAD_CORE)?.arg("--to").arg(address.to_string());
    let drive = drive.args(["--path", &wish.path, "--connections", CONNECTIONS, "--requests"]);
    drive.arg(requests.to_string()).output(&dir, Duration::from_secs(300))?;
    front.running.signal(Signal::TERM);
    if front.running.ended_within(Duration::from_secs(90))?.is_none() {
        return Err(failure("the router did not end within 90 s of SIGTERM"));
    }
    totals(&dir)
}

/// The `totals:` of each file `counts-NN`, or of the only file `counts`.
fn totals(dir: &Path) -> Fallible<Vec<u64>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("counts") {
            continue;
        }
        let text = fs::read_to_string(entry.path())?;
        let total = text.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse::<u64>().ok());
        if let Some(total) = total {
            found.push((name, total));
        }
    }
    found.sort();
    if found.is_empty() {
        return Err(failure("callgrind wrote no counts"));
    }
    Ok(found.into_iter().map(|(_, total)| total).collect())
}

fn publish(wish: &Wish, off: Count, on: Count) -> Fallible<()> {
    let machine = Machine::look(wish.date.as_deref());
    let cost = on.worker / off.worker - 1.0;
    let whole = on.process / off.process - 1.0;
    let verdict = if cost <= BAR { "met" } else { "missed" };
    let mut text = format!("{}\n\n", machine.line());
    writeln!(text, "User instructions per request of `{}`, keep-alive, by callgrind.\n", wish.path)?;
    writeln!(text, "| | off | access log and metrics on | cost | bar |\n|---|---|---|---|---|")?;
    let row = |off: f64, on: f64| format!("{} | {}", thousands(off), thousands(on));
    let worker = row(off.worker, on.worker);
    writeln!(text, "| worker | {worker} | {:.1} % | <= {:.0} %: {verdict} |", cost * 100.0, BAR * 100.0)?;
    writeln!(text, "| whole process | {} | {:.1} % | |", row(off.process, on.process), whole * 100.0)?;
    println!("\n{text}");
    let count = |count: Count| json!({ "worker": count.worker, "process": count.process });
    let report = json!({ "machine": machine.json(), "path": wish.path, "requests": wish.requests,
        "off": count(off), "on": count(on), "cost_worker": cost, "cost_process": whole, "bar": BAR });
    results::publish("instructions", &report, &text, wish.record)
}
