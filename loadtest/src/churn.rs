//! `churn`: a large table that changes a hundred times a second under traffic, in one process and with the router apart from
//! control; and one control process with a thousand routers. Times until changes are acknowledged, what control costs, memory.

mod links;
mod report;
mod tables;

use crate::failure::{Fallible, failure};
use crate::figures::thousands;
use crate::fronts::{self, Front, Kind};
use crate::launch::{self, LOAD_CORE, Launch, ROUTER_CORE, Running};
use crate::{http1, peers, swap, usage};
use links::Links;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};
use tables::Size;

/// Discarded start of each window.
const WARM_UP: Duration = Duration::from_millis(500);
/// Connections of the traffic.
const CONNECTIONS: usize = 16;
/// Longest time until a large table is served.
const START_MAX: Duration = Duration::from_secs(120);
/// The table of the thousand routers: each gets all of it when it comes.
const SMALL: Size = Size { apps: 10, endpoints: 10 };

/// What to measure.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    /// Routes of the large table.
    pub(crate) routes: usize,
    /// Endpoints of the large table.
    pub(crate) endpoints: usize,
    /// Changes a second.
    pub(crate) rate: f64,
    /// How long it changes in one process; the quiet windows and the router apart take a quarter of it each.
    pub(crate) window: Duration,
    /// Simulated routers.
    pub(crate) routers: usize,
    /// Changes that they get.
    pub(crate) spread_changes: usize,
    /// Date to report instead of the system's.
    pub(crate) date: Option<String>,
    /// Replace the section of RESULTS.md.
    pub(crate) record: bool,
}

/// A window of traffic.
#[derive(Debug, Clone, Default)]
struct Window {
    p99_us: f64,
    failed: u64,
    reasons: String,
    /// Milliseconds until each change was acknowledged.
    acks_ms: Vec<f64>,
    /// Part of a core that the threads of control took.
    control_share: f64,
}

/// One process with both planes.
#[derive(Debug, Default)]
struct Whole {
    start_s: f64,
    resident: u64,
    rate: f64,
    /// Quiet, changing, quiet again.
    windows: [Window; 3],
}

/// Control and router apart.
#[derive(Debug, Default)]
struct Apart {
    start_s: f64,
    /// From the publish of the first table until the worker had it.
    build_s: f64,
    router_empty: u64,
    router_full: u64,
    control: u64,
    window: Window,
}

impl Apart {
    /// Bytes that the router has more with the table than without.
    fn memory(&self) -> f64 {
        self.router_full.saturating_sub(self.router_empty) as f64
    }
}

/// One control and many routers.
#[derive(Debug, Default)]
struct Spread {
    routers: usize,
    open_s: f64,
    /// Milliseconds from the request to the commit, per change and router.
    took_ms: Vec<f64>,
    /// The same to the answer, by when every router has said that it has it.
    acks_ms: Vec<f64>,
}

/// Runs all three parts and publishes the report; one failed request fails the run.
pub(crate) fn run(wish: &Wish) -> Fallible<()> {
    let size = Size::of(wish.routes, wish.endpoints);
    let dir = tempfile::tempdir()?;
    tables::write_apps(dir.path(), size)?;
    let (routes, endpoints) = (thousands(size.routes() as f64), thousands(size.all_endpoints() as f64));
    println!("{routes} routes, {endpoints} endpoints in {} apps", size.apps);
    let origin = launch::free_address()?;
    let _origin = peers::start_origin(&[origin], None, dir.path())?;
    let whole = run_whole(wish, size, origin, dir.path())?;
    let apart = run_apart(wish, size, origin, dir.path(), whole.rate)?;
    let small = tempfile::tempdir()?;
    tables::write_apps(small.path(), SMALL)?;
    let spread = run_spread(wish, origin, small.path())?;
    report::publish(wish, size, &whole, &apart, &spread)?;
    let windows = whole.windows.iter().chain([&apart.window]);
    let failed: Vec<String> =
        windows.filter(|window| window.failed > 0).map(|w| format!("{} ({})", w.failed, w.reasons)).collect();
    if failed.is_empty() { Ok(()) } else { Err(failure(format!("requests failed: {}", failed.join("; ")))) }
}

fn front(running: Running, address: SocketAddr) -> Front {
    Front { kind: Kind::Ekiden, name: "ekiden".to_owned(), address, secure: None, running }
}

fn run_whole(wish: &Wish, size: Size, origin: SocketAddr, dir: &Path) -> Fallible<Whole> {
    let (address, control) = (launch::free_address()?, launch::free_address()?);
    let file = tables::write_process(dir, address, origin)?;
    let launch = Launch::new("ekiden", fronts::ekiden_program()?, ROUTER_CORE);
    let started = Instant::now();
    let running = fronts::ekiden(launch, &file, dir, 1, "off", &control.to_string()).start(dir)?;
    let mut front = front(running, address);
    front.await_ready("/", START_MAX)?;
    let start_s = started.elapsed().as_secs_f64();
    let rate = swap::open_rate(&front, CONNECTIONS, "any.test", dir)?;
    println!("one process: ready after {start_s:.1} s; driving {} requests a second", thousands(rate));
    let resident = usage::resident_bytes(front.running.pid())?;
    let mut changes = Changes { control: kept(control), size, next: 0 };
    let mut windows = [Window::default(), Window::default(), Window::default()];
    for (place, (window, time)) in
        windows.iter_mut().zip([4, 1, 4].map(|part| wish.window / part)).enumerate()
    {
        let per_second = if place == 1 { wish.rate } else { 0.0 };
        *window = run_window(&front, front.running.pid(), (rate, time), &mut changes, per_second, dir)?;
        println!("one process, {} changes a second: p99 {:.0} us", per_second, window.p99_us);
    }
    Ok(Whole { start_s, resident, rate, windows })
}

/// Seconds that the last table took from its publish to the last worker, by the router's own metric.
fn last_apply(telemetry: SocketAddr) -> Fallible<f64> {
    let until = Instant::now() + START_MAX;
    let answer = loop {
        // It listens a little later than it serves.
        match http1::exchange(telemetry, "GET", "/metrics", None, Duration::from_secs(20)) {
            Ok(answer) => break answer,
            Err(error) if Instant::now() >= until => return Err(error.during("waiting for metrics")),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    let text = String::from_utf8_lossy(&answer.body);
    let value = text.lines().find_map(|line| line.strip_prefix("ekiden_table_apply_last_seconds "));
    let value = value.and_then(|value| value.trim().parse().ok());
    value.ok_or_else(|| failure("the router does not tell how long its table took"))
}

fn run_apart(wish: &Wish, size: Size, origin: SocketAddr, dir: &Path, rate: f64) -> Fallible<Apart> {
    let (address, telemetry) = (launch::free_address()?, launch::free_address()?);
    let (link, api) = (launch::free_address()?, launch::free_address()?);
    let (control_file, router_file) =
        (tables::write_control(dir, link, origin)?, tables::write_router(dir, address)?);
    let router = Launch::new("router", fronts::ekiden_program()?, ROUTER_CORE);
    let router = router.arg("router").arg(&router_file).args([
        "--workers",
        "1",
        "--telemetry",
        &telemetry.to_string(),
    ]);
    let url = format!("http://{link}");
    let router = router.args(["--api", "off", "--control", &url]).arg("--run-dir").arg(dir.join("router"));
    let mut front = front(router.start(dir)?, address);
    std::thread::sleep(Duration::from_millis(500));
    front.running.alive()?;
    let router_empty = usage::anonymous_bytes(front.running.pid())?;
    let started = Instant::now();
    let control = start_control(&control_file, api, dir)?;
    front.await_ready("/", START_MAX)?;
    let start_s = started.elapsed().as_secs_f64();
    println!("router apart: ready after {start_s:.1} s");
    let router_full = usage::anonymous_bytes(front.running.pid())?;
    let build_s = last_apply(telemetry)?;
    let mut changes = Changes { control: kept(api), size, next: 1_000_000 };
    let pace = (rate, wish.window / 4);
    let window = run_window(&front, control.pid(), pace, &mut changes, wish.rate, dir)?;
    println!("router apart, {} changes a second: p99 {:.0} us", wish.rate, window.p99_us);
    let control = usage::anonymous_bytes(control.pid())?;
    Ok(Apart { start_s, build_s, router_empty, router_full, control, window })
}

fn start_control(file: &Path, api: SocketAddr, dir: &Path) -> Fallible<Running> {
    let control = Launch::new("control", fronts::ekiden_program()?, LOAD_CORE);
    let control =
        control.arg("control").arg(file).args(["--telemetry", "off", "--control", &api.to_string()]);
    control.arg("--run-dir").arg(dir.join("control")).start(dir)
}

fn run_spread(wish: &Wish, origin: SocketAddr, dir: &Path) -> Fallible<Spread> {
    let (link, api) = (launch::free_address()?, launch::free_address()?);
    let file = tables::write_control(dir, link, origin)?;
    let mut control = Launch::new("control", fronts::ekiden_program()?, ROUTER_CORE)
        .arg("control")
        .arg(&file)
        .args(["--telemetry", "off", "--control", &api.to_string(), "--run-dir"])
        .arg(dir.join("control"))
        .start(dir)?;
    await_api(&mut control, api)?;
    let opened = Instant::now();
    let links = Links::open(link, wish.routers, START_MAX)?;
    let open_s = opened.elapsed().as_secs_f64();
    println!("{} routers have the table after {open_s:.1} s", wish.routers);
    let mut changes = Changes { control: kept(api), size: SMALL, next: 0 };
    let mut spread = Spread { routers: wish.routers, open_s, ..Spread::default() };
    for _ in 0..wish.spread_changes {
        let asked = Instant::now();
        spread.acks_ms.push(changes.change()?);
        let taken = links.wait(wish.routers, Duration::from_secs(20))?;
        let generation = taken.first().map(|taken| taken.generation);
        if taken.iter().any(|taken| Some(taken.generation) != generation) {
            return Err(failure("one change came as two generations"));
        }
        let took = taken.iter().map(|taken| taken.at.duration_since(asked).as_secs_f64() * 1_000.0);
        spread.took_ms.extend(took);
    }
    Ok(spread)
}

fn await_api(control: &mut Running, api: SocketAddr) -> Fallible<()> {
    let until = Instant::now() + START_MAX;
    loop {
        control.alive()?;
        match http1::exchange(api, "GET", "/v1/status", None, Duration::from_secs(5)) {
            Ok(answer) if answer.status == 200 => return Ok(()),
            Ok(_) | Err(_) if Instant::now() < until => std::thread::sleep(Duration::from_millis(20)),
            Ok(answer) => return Err(failure(format!("control answers {}", answer.status))),
            Err(error) => return Err(error.during("waiting for control")),
        }
    }
}

/// Traffic at a rate for a time, while a thread makes `per_second` changes a second, perhaps none.
fn run_window(
    front: &Front,
    control_pid: u32,
    (rate, time): (f64, Duration),
    changes: &mut Changes,
    per_second: f64,
    dir: &Path,
) -> Fallible<Window> {
    let (warm_up, seconds) = (WARM_UP.as_secs_f64().to_string(), time.as_secs_f64().to_string());
    let launch = swap::drive(front, CONNECTIONS, "any.test")?.args(["--rate", &rate.to_string()]);
    let launch = launch.args(["--warm-up", &warm_up, "--seconds", &seconds]);
    let before = usage::control_nanos(control_pid)?;
    let began = Instant::now();
    // The children must be started by this thread, whose end would end them; so the changes get the other one.
    let (said, acks) = std::thread::scope(|scope| {
        let changes = scope.spawn(move || swap::paced(per_second, WARM_UP + time, || changes.change()));
        let said = launch.output(dir, WARM_UP + time + Duration::from_secs(30));
        (said, changes.join())
    });
    let spent = usage::control_nanos(control_pid)?.saturating_sub(before);
    let control_share = spent as f64 / began.elapsed().as_nanos() as f64;
    let acks_ms = acks.map_err(|_| failure("the thread of the changes panicked"))??;
    let report: Value = serde_json::from_str(&said?)?;
    let reasons =
        report["reasons"].as_array().map(|all| all.iter().filter_map(Value::as_str).collect::<Vec<_>>());
    Ok(Window {
        p99_us: report["p99_us"].as_f64().unwrap_or(f64::NAN),
        failed: report["failed"].as_u64().unwrap_or(1),
        reasons: reasons.unwrap_or_default().join("; "),
        acks_ms,
        control_share,
    })
}

fn kept(api: SocketAddr) -> http1::Kept {
    http1::Kept::new(api, Duration::from_secs(20))
}

/// The changes: an endpoint put somewhere else each time, all on one connection, as who makes a hundred a second does.
#[derive(Debug)]
struct Changes {
    control: http1::Kept,
    size: Size,
    next: usize,
}

impl Changes {
    /// One change, until every worker of every router has it; in milliseconds.
    fn change(&mut self) -> Fallible<f64> {
        let target = self.size.place(self.next);
        let [.., middle, low] = self.next.to_be_bytes();
        self.next += 1;
        let body = json!({ "address": format!("10.255.{middle}.{low}:81") }).to_string();
        let started = Instant::now();
        let answer = self.control.exchange("PUT", &target, Some(&body))?;
        if answer.status == 200 {
            return Ok(started.elapsed().as_secs_f64() * 1_000.0);
        }
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        Err(failure(format!("PUT {target}: status {}, {text}", answer.status)))
    }
}
