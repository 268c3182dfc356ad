//! `peers`: CPU time per verified response of each proxy, rounds interleaved, and what comes with it.
//! It starts everything, runs the rounds and hands the figures to `peers/report.rs`; it judges nothing itself.

mod report;

use crate::failure::{Fallible, failure};
use crate::figures::{fixed, thousands};
use crate::fronts::{self, Front, Kind, Origins};
use crate::launch::{self, LOAD_CORE, Launch, Running};
use crate::machine::Machine;
use crate::trace::{self, Calls, Counter};
use crate::usage::CpuTime;
use crate::wrk::{self, Load};
use crate::{h2load, handshakes, origin};
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
    /// What asks, and how.
    pub(crate) traffic: Traffic,
}

/// What drives the load of a case. TLS is with a P-256 certificate, and proxies that cannot are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Traffic {
    /// wrk on connections that are kept.
    Kept,
    /// wrk with a new connection for every request.
    New,
    /// wrk over TLS on connections that are kept.
    Secure,
    /// wrk over TLS with a new connection for every request; it resumes sessions.
    Resumed,
    /// openssl, a full handshake for every request.
    Handshakes,
    /// h2load over TLS, so many streams at a time on each connection.
    Streams(usize),
    /// The same, and HTTP/2 to the origin too; peers that cannot are left out.
    Streams2(usize),
    /// The same with unary calls of gRPC.
    Calls(usize),
}

impl Case {
    const fn new(name: &'static str, path: &'static str, traffic: Traffic, title: &'static str) -> Self {
        Self { name, title, path, traffic }
    }
}

/// All cases.
pub(crate) const CASES: [Case; 13] = [
    Case::new("small", "/", Traffic::Kept, "small keep-alive requests (22 bytes)"),
    Case::new("1k", "/1k", Traffic::Kept, "bodies of 1 KiB"),
    Case::new("10k", "/10k", Traffic::Kept, "bodies of 10 KiB"),
    Case::new("1m", "/1m", Traffic::Kept, "bodies of 1 MiB"),
    Case::new("conn", "/", Traffic::New, "a new connection for each small request"),
    Case::new("tls", "/", Traffic::Secure, "small keep-alive requests over TLS"),
    Case::new("tls-1m", "/1m", Traffic::Secure, "bodies of 1 MiB over TLS"),
    Case::new(
        "tls-resumed",
        "/",
        Traffic::Resumed,
        "a new connection with a resumed TLS session for each small request",
    ),
    Case::new(
        "tls-full",
        "/",
        Traffic::Handshakes,
        "a new connection with a full TLS handshake for each small request, one at a time",
    ),
    Case::new("h2-32", "/", Traffic::Streams(32), "small requests by HTTP/2 over TLS, 32 streams at a time"),
    Case::new("h2-1", "/", Traffic::Streams(1), "small requests by HTTP/2 over TLS, one stream at a time"),
    Case::new(
        "h2-h2",
        "/h2",
        Traffic::Streams2(32),
        "small requests by HTTP/2 over TLS to HTTP/2 in clear text, 32 streams at a time",
    ),
    Case::new(
        "grpc",
        origin::http2::CALL,
        Traffic::Calls(32),
        "unary gRPC calls over TLS to clear text, 32 streams at a time",
    ),
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
    let http2_at = launch::free_address()?;
    let _origin = start_origin(&[origin_at], Some(http2_at), dir.path())?;
    let origins = Origins { plain: origin_at, http2: Some(http2_at), floods: None };
    let fronts = start_fronts(&wish.kinds, origins, dir.path())?;
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

/// Starts the origin in a process of its own; it speaks HTTP/2 on `http2`.
pub(crate) fn start_origin(
    addresses: &[SocketAddr],
    http2: Option<SocketAddr>,
    dir: &Path,
) -> Fallible<Running> {
    let mut launch = Launch::own("origin", LOAD_CORE)?;
    for address in addresses {
        launch = launch.arg("--listen").arg(address.to_string());
    }
    if let Some(address) = http2 {
        launch = launch.arg("--http2").arg(address.to_string());
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
fn start_fronts(kinds: &[Kind], origin: Origins, dir: &Path) -> Fallible<Vec<Front>> {
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
            let lacks_tls = case.traffic.is_secure() && front.secure.is_none();
            if lacks_tls || !front.kind.carries(case.traffic) {
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
    // What is no page is held by its driver.
    if !matches!(case.traffic, Traffic::Calls(_)) {
        front.check(case.path)?;
    }
    let body_len = origin::body_len(case.path).unwrap_or(0);
    let to = front.secure.filter(|_| case.traffic.is_secure()).unwrap_or(front.address);
    let drive = |time| drive(case, to, body_len, wish.connections, time, dir);
    if !wish.warm_up.is_zero() && case.traffic != Traffic::Handshakes {
        drive(wish.warm_up)?;
    }
    let before = CpuTime::of_tree(front.running.pid())?;
    let (requests, seconds) = drive(wish.window)?;
    let spent = before.until(&CpuTime::of_tree(front.running.pid())?);
    let micros = spent.nanos as f64 / 1_000.0;
    Ok(Window {
        requests,
        rate: requests as f64 / seconds,
        cpu_us: micros / requests as f64,
        user_share: spent.user_share,
        busy: micros / 1e6 / seconds,
    })
}

/// Drives one case for a while; gives the verified answers and the seconds.
fn drive(
    case: Case,
    to: SocketAddr,
    body_len: usize,
    connections: usize,
    time: Duration,
    dir: &Path,
) -> Fallible<(u64, f64)> {
    let path = case.path;
    let (close, tls) = match case.traffic {
        Traffic::Kept => (false, false),
        Traffic::New => (true, false),
        Traffic::Secure => (false, true),
        Traffic::Resumed => (true, true),
        Traffic::Handshakes => return handshakes::run(to, path, body_len, time, dir),
        Traffic::Streams(streams) | Traffic::Streams2(streams) => {
            return h2load::run(to, path, (connections, streams), None, time, dir);
        }
        Traffic::Calls(streams) => {
            let message = origin::http2::message();
            return h2load::run(to, path, (connections, streams), Some(&message), time, dir);
        }
    };
    let counted = wrk::run(&Load { to, path, body_len, close, tls, connections, time }, dir)?;
    Ok((counted.requests, counted.seconds))
}

impl Traffic {
    /// Over TLS.
    fn is_secure(self) -> bool {
        !matches!(self, Self::Kept | Self::New)
    }
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
