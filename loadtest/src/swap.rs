//! `swap`: open-loop latency through ekiden while its table is swapped ten times a second, against quiet windows
//! of the same rate, and the time until the control API acknowledges each change. The table holds 10,000 routes
//! and 100,000 endpoints; one endpoint of the cluster that carries the traffic moves between two addresses.

mod table;

use crate::failure::{Fallible, failure};
use crate::figures::{Spread, thousands};
use crate::fronts::{self, Front, Kind};
use crate::launch::{self, LOAD_CORE, Launch};
use crate::machine::Machine;
use crate::{http1, peers, results, usage};
use serde_json::{Value, json};
use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

/// Highest allowed ratio of the p99 while swapping to the quiet one.
const RATIO_BAR: f64 = 1.25;
/// Longest allowed time until a change is acknowledged, in milliseconds.
const ACK_BAR_MS: f64 = 50.0;
/// Share of the highest closed-loop rate that is driven: below the knee.
const SHARE: f64 = 0.3;
/// Discarded start of each window.
const WARM_UP: Duration = Duration::from_millis(500);

/// What to measure.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    /// Triples of windows: quiet, swapping, quiet again.
    pub(crate) windows: usize,
    /// Length of a window.
    pub(crate) window: Duration,
    /// Requests a second; none: a share of what a calibration finds.
    pub(crate) rate: Option<f64>,
    /// Keep-alive connections.
    pub(crate) connections: usize,
    /// Changes a second.
    pub(crate) swaps: f64,
    /// Worker threads of the router.
    pub(crate) workers: usize,
    /// Cores of the router.
    pub(crate) cores: Vec<usize>,
    /// A table of 100 routes instead of 10,000.
    pub(crate) smoke: bool,
    /// Date to report instead of the system's.
    pub(crate) date: Option<String>,
    /// Replace the section of RESULTS.md.
    pub(crate) record: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Window {
    Quiet,
    Swapping,
    QuietAgain,
}

/// What the windows gave.
#[derive(Debug, Default)]
struct Measured {
    /// p99 in microseconds: quiet, swapping, quiet again, per triple.
    p99: [Vec<f64>; 3],
    /// Reports of the load generator, in the same order.
    reports: [Vec<Value>; 3],
    /// Acknowledgement times in milliseconds.
    acks: Vec<f64>,
    failed: u64,
    reasons: Vec<String>,
    rate: f64,
}

/// Runs all windows and publishes the report; one failed request fails the run.
pub(crate) fn run(wish: &Wish) -> Fallible<()> {
    let dir = tempfile::tempdir()?;
    let origins = [launch::free_address()?, launch::free_address()?];
    let _origin = peers::start_origin(&origins, None, dir.path())?;
    let control = launch::free_address()?;
    let front = start(wish, origins[0], control, dir.path())?;
    let rate = match wish.rate {
        Some(rate) => rate,
        None => open_rate(&front, wish.connections, table::HOST, dir.path())?,
    };
    let mut measured = Measured { rate, ..Measured::default() };
    println!("driving {} requests a second open loop", thousands(measured.rate));
    let mut swaps = Swaps { control, origins, next: 0, generation: 0 };
    for triple in 0..wish.windows {
        let mut order = [Window::Quiet, Window::Swapping, Window::QuietAgain];
        order.rotate_left(triple % 3);
        for window in order {
            run_window(wish, window, &front, &mut swaps, &mut measured, dir.path())?;
            let p99 = measured.p99[window as usize].last().copied().unwrap_or(f64::NAN);
            println!("window {}/{} {window:?}: p99 {p99:.0} us", triple + 1, wish.windows);
        }
    }
    let resident = usage::resident_bytes(front.running.pid())?;
    publish(wish, &measured, resident)?;
    if measured.failed == 0 {
        return Ok(());
    }
    Err(failure(format!("{} requests failed: {}", measured.failed, measured.reasons.join("; "))))
}

fn start(wish: &Wish, origin: SocketAddr, control: SocketAddr, dir: &Path) -> Fallible<Front> {
    let address = launch::free_address()?;
    let file = dir.join("big.toml");
    fs::write(&file, table::text(address, origin, if wish.smoke { 100 } else { table::ROUTES }))?;
    let mut launch = Launch::new("ekiden", fronts::ekiden_program()?, 0);
    launch.cores.clone_from(&wish.cores);
    let launch = fronts::ekiden(launch, &file, dir, wish.workers, "off", &control.to_string());
    let started = Instant::now();
    let running = launch.start(dir)?;
    let mut front = Front { kind: Kind::Ekiden, name: "ekiden".to_owned(), address, secure: None, running };
    front.await_ready("/", Duration::from_secs(60))?;
    println!("ekiden serves the big table after {:.1} s", started.elapsed().as_secs_f64());
    Ok(front)
}

/// The load generator at a front, without a pace yet.
pub(crate) fn drive(front: &Front, connections: usize, host: &str) -> Fallible<Launch> {
    let launch = Launch::own("drive", LOAD_CORE)?.arg("--to").arg(front.address.to_string());
    Ok(launch.args(["--host", host, "--path", "/1k", "--connections", &connections.to_string()]))
}

/// A rate that a front is far from its limit with: a share of what it carries closed loop.
pub(crate) fn open_rate(front: &Front, connections: usize, host: &str, dir: &Path) -> Fallible<f64> {
    let said = drive(front, connections, host)?
        .args(["--closed-for", "1.5"])
        .output(dir, Duration::from_secs(30))?;
    let report: Value = serde_json::from_str(&said)?;
    let rate = report["verified"].as_f64().unwrap_or(0.0) / report["elapsed_s"].as_f64().unwrap_or(f64::NAN);
    println!("closed loop: {} requests a second", thousands(rate));
    if rate.is_finite() && rate >= 100.0 {
        Ok(rate * SHARE)
    } else {
        Err(failure("calibration found no rate"))
    }
}

/// One window: the load in its own process; in a swapping window a thread on the load's core sends the changes.
fn run_window(
    wish: &Wish,
    window: Window,
    front: &Front,
    swaps: &mut Swaps,
    measured: &mut Measured,
    dir: &Path,
) -> Fallible<()> {
    let (warm_up, seconds) = (WARM_UP.as_secs_f64().to_string(), wish.window.as_secs_f64().to_string());
    let launch = drive(front, wish.connections, table::HOST)?.args(["--rate", &measured.rate.to_string()]);
    let launch = launch.args(["--warm-up", &warm_up, "--seconds", &seconds]);
    let limit = WARM_UP + wish.window + Duration::from_secs(30);
    let swapping = (window == Window::Swapping).then_some(WARM_UP + wish.window);
    // The children must be started by this thread, whose end would end them; so the changes get the other one.
    let (said, acks) = std::thread::scope(|scope| {
        let changes = swapping.map(|time| scope.spawn(move || paced(wish.swaps, time, || swaps.change())));
        let said = launch.output(dir, limit);
        (said, changes.map(std::thread::ScopedJoinHandle::join))
    });
    if let Some(acks) = acks {
        measured.acks.extend(acks.map_err(|_| failure("the thread of the changes panicked"))??);
    }
    let report: Value = serde_json::from_str(&said?)?;
    measured.failed += report["failed"].as_u64().unwrap_or(1);
    if let Some(reasons) = report["reasons"].as_array() {
        measured.reasons.extend(reasons.iter().filter_map(Value::as_str).map(str::to_owned));
    }
    measured.p99[window as usize].push(report["p99_us"].as_f64().unwrap_or(f64::NAN));
    measured.reports[window as usize].push(report);
    Ok(())
}

/// Makes `per_second` changes a second for `time`, on the load's core; gives each acknowledgement time in milliseconds.
pub(crate) fn paced(
    per_second: f64,
    time: Duration,
    mut change: impl FnMut() -> Fallible<f64>,
) -> Fallible<Vec<f64>> {
    launch::stay_on_load_core()?;
    let started = Instant::now();
    let count = (time.as_secs_f64() * per_second) as u32;
    let mut acks = Vec::new();
    for number in 0..count {
        let due = started + Duration::from_secs_f64(f64::from(number) / per_second);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        acks.push(change()?);
    }
    Ok(acks)
}

/// The changes: one endpoint of the API in the busy cluster, moved from one address to the other and back.
#[derive(Debug)]
struct Swaps {
    control: SocketAddr,
    origins: [SocketAddr; 2],
    next: usize,
    generation: u64,
}

impl Swaps {
    fn change(&mut self) -> Fallible<f64> {
        self.next = 1 - self.next;
        let body = json!({ "address": self.origins[self.next].to_string() }).to_string();
        let target = "/v1/apps/default/clusters/big/endpoints/moving";
        let started = Instant::now();
        let answer = http1::exchange(self.control, "PUT", target, Some(&body), Duration::from_secs(10))?;
        let millis = started.elapsed().as_secs_f64() * 1_000.0;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let generation =
            serde_json::from_str::<Value>(&text).ok().and_then(|value| value["generation"].as_u64());
        match generation {
            Some(generation) if answer.status == 200 && generation > self.generation => {
                self.generation = generation;
                Ok(millis)
            }
            _ => Err(failure(format!("PUT {target}: status {}, {text}", answer.status))),
        }
    }
}

fn publish(wish: &Wish, measured: &Measured, resident: u64) -> Fallible<()> {
    let machine = Machine::look(wish.date.as_deref());
    let [quiet, swapping, again] = &measured.p99;
    let per =
        |of: &[f64], to: &[f64]| Spread::of(&of.iter().zip(to).map(|(of, to)| of / to).collect::<Vec<_>>());
    let (ratio, noise, acks) = (per(swapping, quiet), per(again, quiet), sorted(&measured.acks));
    let mut text = format!("{}\n\n", machine.line());
    let routes = if wish.smoke { 100 } else { table::ROUTES };
    writeln!(
        text,
        "{} routes, {} endpoints; {} requests a second open loop over {} connections, 1 KiB bodies; {} workers; \
         {} changes a second; {} triples of {:.1} s windows. Failed requests: {}. Resident: {:.0} MB.\n",
        thousands(routes as f64),
        thousands(routes as f64 * 10.0),
        thousands(measured.rate),
        wish.connections,
        wish.workers,
        wish.swaps,
        wish.windows,
        wish.window.as_secs_f64(),
        measured.failed,
        resident as f64 / 1e6,
    )?;
    writeln!(text, "| figure | median | min..max | 95 % interval | bar |\n|---|---|---|---|---|")?;
    write_spread(&mut text, "p99 quiet, us", Spread::of(quiet), 0, "")?;
    write_spread(&mut text, "p99 swapping, us", Spread::of(swapping), 0, "")?;
    let verdict = ratio.map_or("not measured", |ratio| verdict(ratio, noise));
    write_spread(&mut text, "p99 swapping / quiet", ratio, 3, &format!("<= {RATIO_BAR}: {verdict}"))?;
    write_spread(&mut text, "p99 quiet again / quiet (A against A)", noise, 3, "")?;
    let [p50, p99, max] = [0.5, 0.99, 1.0].map(|quantile| at(&acks, quantile));
    let met = if max <= ACK_BAR_MS { "met" } else { "missed" };
    writeln!(
        text,
        "\nAcknowledgement of {} changes of one endpoint: p50 {p50:.2} ms, p99 {p99:.2} ms, longest {max:.2} ms \
         (bar <= {ACK_BAR_MS} ms: {met}).",
        acks.len()
    )?;
    println!("\n{text}");
    let report = json!({
        "machine": machine.json(), "routes": routes, "rate": measured.rate, "connections": wish.connections,
        "workers": wish.workers, "failed": measured.failed, "reasons": measured.reasons, "resident": resident,
        "quiet": measured.reports[0], "swapping": measured.reports[1], "quiet_again": measured.reports[2],
        "ratio": ratio.map(|spread| spread.json()), "a_against_a": noise.map(|spread| spread.json()),
        "ack_ms": { "count": acks.len(), "p50": p50, "p99": p99, "max": max }, "ack_bar_ms": ACK_BAR_MS,
        "ratio_bar": RATIO_BAR, "verdict": verdict,
    });
    results::publish("swap", &report, &text, wish.record)
}

/// A ratio within the spread of A against A counts as met inside it.
fn verdict(ratio: Spread, noise: Option<Spread>) -> &'static str {
    match noise {
        _ if ratio.median <= RATIO_BAR => "met",
        Some(noise) if ratio.median <= noise.max => "met inside the spread of A against A",
        _ => "missed",
    }
}

fn write_spread(
    text: &mut String,
    name: &str,
    of: Option<Spread>,
    places: usize,
    bar: &str,
) -> std::fmt::Result {
    let Some(Spread { median, min, max, low, high }) = of else {
        return writeln!(text, "| {name} | - | - | - | {bar} |");
    };
    writeln!(
        text,
        "| {name} | {median:.places$} | {min:.places$}..{max:.places$} | {low:.places$}..{high:.places$} | {bar} |"
    )
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

fn at(sorted: &[f64], quantile: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * quantile).ceil() as usize).copied().unwrap_or(f64::NAN)
}
