//! `peers`: CPU time per verified response of each proxy, rounds interleaved, and what comes with it.
//! It starts everything, runs the rounds and hands the figures to `peers/report.rs`; it judges nothing itself.

mod report;

use crate::failure::{Fallible, failure};
use crate::figures::{fixed, thousands};
use crate::fronts::{self, Front, Kind};
use crate::launch::{self, LOAD_CORE, Launch, Running};
use crate::machine::Machine;
use crate::trace::{self, Calls, Counter};
use crate::usage::CpuTime;
use crate::wrk::{self, Load};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// One kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Case {
    /// Name on the command line and in reports.
    pub(crate) name: &'static str,
    /// Words in reports.
    pub(crate) title: &'static str,
    /// Path at the origin.
    pub(crate) path: &'static str,
    /// A new connection for every request.
    pub(crate) close: bool,
    /// Over TLS from wrk to the proxy, with a P-256 certificate; proxies that cannot are left out. wrk resumes sessions.
    pub(crate) tls: bool,
}

/// All cases.
pub(crate) const CASES: [Case; 8] = [
    Case {
        name: "small",
        title: "small keep-alive requests (22 bytes)",
        path: "/",
        close: false,
        tls: false,
    },
    Case { name: "1k", title: "bodies of 1 KiB", path: "/1k", close: false, tls: false },
    Case { name: "10k", title: "bodies of 10 KiB", path: "/10k", close: false, tls: false },
    Case { name: "1m", title: "bodies of 1 MiB", path: "/1m", close: false, tls: false },
    Case {
        name: "conn",
        title: "a new connection for each small request",
        path: "/",
        close: true,
        tls: false,
    },
    Case { name: "tls", title: "small keep-alive requests over TLS", path: "/", close: false, tls: true },
    Case { name: "tls-1m", title: "bodies of 1 MiB over TLS", path: "/1m", close: false, tls: true },
    Case {
        name: "tls-resumed",
        title: "a new connection with a resumed TLS session for each small request",
        path: "/",
        close: true,
        tls: true,
    },
];

/// What was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    /// Rounds, 1..=100.
    pub(crate) rounds: usize,
    /// Length of a measured window.
    pub(crate) window: Duration,
    /// Length of the discarded warm-up before it.
    pub(crate) warm_up: Duration,
    /// Connections at a time.
    pub(crate) connections: usize,
    /// Proxies.
    pub(crate) kinds: Vec<Kind>,
    /// Cases.
    pub(crate) cases: Vec<Case>,
    /// Requests of the system call count; 0 leaves it out.
    pub(crate) traced: u64,
    /// Date to report instead of the system's.
    pub(crate) date: Option<String>,
    /// Replace the section of RESULTS.md.
    pub(crate) record: bool,
}

/// One measured window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Window {
    /// Verified answers.
    pub(crate) requests: u64,
    /// Verified answers a second.
    pub(crate) rate: f64,
    /// CPU time of the proxy per answer in microseconds.
    pub(crate) cpu_us: f64,
    /// User share of it.
    pub(crate) user_share: f64,
    /// How busy the proxy's core was with it, 0 to 1.
    pub(crate) busy: f64,
}

/// Everything measured: `windows[case][front][round]`, none for a failed one.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) machine: Machine,
    /// Names, kinds and versions of the fronts, in order.
    pub(crate) fronts: Vec<(String, Kind, String)>,
    pub(crate) cases: Vec<Case>,
    pub(crate) windows: Vec<Vec<Vec<Option<Window>>>>,
    /// System calls by front, each counted in none to two ways.
    pub(crate) calls: Vec<Vec<(Counter, Calls)>>,
    pub(crate) failures: Vec<String>,
}

/// Runs the whole comparison; a failed round is told at once and makes the run fail at its end.
pub(crate) fn run(wish: &Wish) -> Fallible<()> {
    let dir = tempfile::tempdir()?;
    let origin_at = launch::free_address()?;
    let _origin = start_origin(&[origin_at], dir.path())?;
    let fronts = start_fronts(&wish.kinds, origin_at, dir.path())?;
    let mut measured = Measured {
        machine: Machine::look(wish.date.as_deref()),
        fronts: fronts.iter().map(described).collect::<Fallible<_>>()?,
        cases: wish.cases.clone(),
        windows: vec![vec![Vec::new(); fronts.len()]; wish.cases.len()],
        calls: vec![Vec::new(); fronts.len()],
        failures: Vec::new(),
    };
    for round in 0..wish.rounds {
        run_round(wish, round, &fronts, &mut measured, dir.path());
    }
    if wish.traced > 0 {
        count_calls(wish.traced, &fronts, &mut measured, dir.path());
    }
    report::publish(&measured, wish.record)?;
    if measured.failures.is_empty() {
        return Ok(());
    }
    Err(failure(format!(
        "{} measurements failed:\n  {}",
        measured.failures.len(),
        measured.failures.join("\n  ")
    )))
}

/// Counts system calls by each way that is installed; it is a failure when neither is.
fn count_calls(requests: u64, fronts: &[Front], measured: &mut Measured, dir: &Path) {
    let installed = |by: &Counter| launch::find_program(by.name()).is_some();
    let ways: Vec<Counter> = [Counter::Perf, Counter::Strace].into_iter().filter(installed).collect();
    if ways.is_empty() {
        measured.fail("neither perf nor strace is installed: no system calls counted".to_owned());
    }
    for (index, front) in fronts.iter().enumerate().filter(|(_, front)| !front.name.ends_with(AGAIN)) {
        for by in &ways {
            println!("counting system calls of {} with {}", front.name, by.name());
            match trace::calls_per_request(front, *by, requests, dir) {
                Ok(calls) => measured.calls[index].push((*by, calls)),
                Err(error) => measured.fail(format!("{} of {}: {error}", by.name(), front.name)),
            }
        }
    }
}

/// Ending of the second of two equal fronts, there to show the spread of A against A.
pub(crate) const AGAIN: &str = "-again";

fn described(front: &Front) -> Fallible<(String, Kind, String)> {
    Ok((front.name.clone(), front.kind, front.kind.version(&front.kind.program()?)))
}

/// Starts the origin in a process of its own.
pub(crate) fn start_origin(addresses: &[SocketAddr], dir: &Path) -> Fallible<Running> {
    let mut launch = Launch::own("origin", LOAD_CORE)?;
    for address in addresses {
        launch = launch.arg("--listen").arg(address.to_string());
    }
    let mut origin = launch.start(dir)?;
    let front = |address| -> Fallible<()> {
        let answer = crate::http1::exchange(address, "GET", "/", None, Duration::from_secs(5))?;
        if answer.status == 200 { Ok(()) } else { Err(failure("the origin does not answer")) }
    };
    for _ in 0..200 {
        origin.alive()?;
        if addresses.iter().all(|address| front(*address).is_ok()) {
            return Ok(origin);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(failure("the origin is not ready after 4 s"))
}

/// Starts what is there of the wished kinds, and the first of them twice. Our own must be there.
fn start_fronts(kinds: &[Kind], origin: SocketAddr, dir: &Path) -> Fallible<Vec<Front>> {
    let mut fronts = Vec::new();
    for kind in kinds {
        if let Err(error) = kind.program() {
            if kind.is_ours() {
                return Err(error);
            }
            println!("skipping {}: {error}", kind.name());
            continue;
        }
        fronts.push(fronts::start(*kind, kind.name(), origin, dir)?);
        if fronts.len() == 1 && *kind != Kind::Null {
            fronts.push(fronts::start(*kind, &format!("{}{AGAIN}", kind.name()), origin, dir)?);
        }
    }
    if fronts.is_empty() {
        return Err(failure("none of the wished proxies is installed"));
    }
    Ok(fronts)
}

/// One round: every case, every front; the order of the fronts turns from round to round.
fn run_round(wish: &Wish, round: usize, fronts: &[Front], measured: &mut Measured, dir: &Path) {
    for (case_index, case) in wish.cases.iter().enumerate() {
        for place in 0..fronts.len() {
            let index = (place + round) % fronts.len();
            let front = &fronts[index];
            if case.tls && front.secure.is_none() {
                continue;
            }
            let says = format!("round {}/{} {} {}", round + 1, wish.rounds, case.name, front.name);
            let window = match window(wish, *case, front, dir) {
                Ok(window) => {
                    let rate = thousands(window.rate);
                    println!("{says} {rate} req/s {} us", fixed(window.cpu_us, 2));
                    Some(window)
                }
                Err(error) => {
                    println!("{says} FAILED: {error}");
                    measured.fail(format!("{says}: {error}"));
                    None
                }
            };
            measured.windows[case_index][index].push(window);
        }
    }
}

fn window(wish: &Wish, case: Case, front: &Front, dir: &Path) -> Fallible<Window> {
    front.check(case.path)?;
    let body_len = crate::origin::body_len(case.path).unwrap_or(0);
    let (path, close, connections) = (case.path, case.close, wish.connections);
    let to = front.secure.filter(|_| case.tls).unwrap_or(front.address);
    let load = Load { to, path, body_len, close, tls: case.tls, connections, time: wish.warm_up };
    if !wish.warm_up.is_zero() {
        wrk::run(&load, dir)?;
    }
    let before = CpuTime::of_tree(front.running.pid())?;
    let counted = wrk::run(&Load { time: wish.window, ..load }, dir)?;
    let spent = before.until(&CpuTime::of_tree(front.running.pid())?);
    let micros = spent.nanos as f64 / 1_000.0;
    Ok(Window {
        requests: counted.requests,
        rate: counted.requests as f64 / counted.seconds,
        cpu_us: micros / counted.requests as f64,
        user_share: spent.user_share,
        busy: micros / 1e6 / counted.seconds,
    })
}

impl Measured {
    fn fail(&mut self, what: String) {
        self.failures.push(what);
    }

    /// CPU per request of one front in each round of a case.
    pub(crate) fn cpu(&self, case: usize, front: usize) -> Vec<Option<f64>> {
        self.windows[case][front].iter().map(|window| window.map(|window| window.cpu_us)).collect()
    }
}
