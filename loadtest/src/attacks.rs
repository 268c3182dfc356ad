//! `attacks`: what each attack does to normal traffic, and what it takes of the router, at the router's default bounds.
//!
//! ```text
//! (i)  normal traffic -> router      attack -> sink        p99 of normal traffic
//! (ii) normal traffic -> router      attack -> router      p99 of normal traffic; memory of the router
//! (iii)                              attack -> router      CPU of the router by byte, or by connection
//! (iv)                               honest -> router      the same, of honest traffic of the attack's class
//! ```
//! The sink, the attackers and the load share a core; the router has its own, and is a new one for each attack and round. What
//! floods attackers has an origin of its own: normal traffic waits for the router, not behind what the sink need not make.
//! It starts everything and hands the figures to `attacks/report.rs`; it judges nothing itself.

pub(crate) mod crowd;
mod honest;
mod report;
mod strength;

use crate::failure::{Fallible, failure};
use crate::figures::fixed;
use crate::fronts::{self, Front, Kind, Origins};
use crate::launch::{self, LOAD_CORE, Launch, Running};
use crate::machine::Machine;
use crate::usage::{self, CpuTime};
use crate::{http1, peers};
use ekiden_loadtest::hostile::{Attack, Class, Tally, requests};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use strength::Strength;

/// Connections of normal traffic.
const NORMAL: &str = "32";
/// Longest wait for a child to be ready or to end.
const PATIENCE: Duration = Duration::from_secs(30);
/// What a connection may hold whatever it was sent, and each stream.
const ALLOWANCE: (u64, u64) = (64 << 10, 4 << 10);
/// Between two looks at the router's memory.
const LOOK: Duration = Duration::from_millis(100);

/// What was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    /// Rounds, 1..=100.
    pub(crate) rounds: usize,
    /// Length of a measured window.
    pub(crate) window: Duration,
    /// Length of its discarded start.
    pub(crate) warm_up: Duration,
    /// Requests a second of normal traffic.
    pub(crate) rate: f64,
    /// Attacks.
    pub(crate) attacks: Vec<Attack>,
    /// A crowd of a few.
    pub(crate) smoke: bool,
    /// Date to report instead of the system's.
    pub(crate) date: Option<String>,
    /// Replace the section of RESULTS.md.
    pub(crate) record: bool,
}

/// CPU of the router and what it was spent on.
#[derive(Debug, Clone, Copy)]
struct Cost {
    nanos: u64,
    done: Tally,
}

impl Cost {
    /// Nanoseconds by byte or by connection.
    fn per_unit(&self, class: Class) -> f64 {
        let units = match class {
            Class::Heads | Class::Bodies | Class::Frames => self.done.sent,
            Class::Responses => self.done.read,
            Class::Connections => self.done.opened,
        };
        self.nanos as f64 / units as f64
    }
}

/// What the router held during an attack beyond what it held before, when that was the most beyond what its connections may hold.
#[derive(Debug, Clone, Copy, Default)]
struct Held {
    /// Growth of its anonymous memory.
    process: u64,
    /// Growth of what waits in its sockets.
    kernel: u64,
    /// Connections that it had more, of clients and to endpoints: also those that wait for the other side's close.
    connections: u64,
    /// Bytes it was sent on the connections that were open at the end.
    unanswered: u64,
}

impl Held {
    /// Bytes beyond what its connections and so many streams may hold whatever they were sent; less than none below that.
    fn over(&self, streams: u64) -> i128 {
        let allowed = ALLOWANCE.0 * self.connections + ALLOWANCE.1 * streams;
        i128::from(self.process + self.kernel) - i128::from(allowed)
    }
}

/// One attack in one round.
#[derive(Debug, Clone, Copy)]
struct Round {
    /// p99 of normal traffic in microseconds, with the attack aimed at the sink.
    sink_us: f64,
    /// The same, with the attack aimed at the router.
    router_us: f64,
    hostile: Cost,
    honest: Cost,
    held: Held,
}

/// Everything measured of one attack.
#[derive(Debug)]
struct Measured {
    attack: Attack,
    strength: Strength,
    rounds: Vec<Round>,
}

/// Runs all attacks; a failed one is told at once and makes the run fail at its end.
pub(crate) fn run(wish: &Wish) -> Fallible<()> {
    let machine = Machine::look(wish.date.as_deref());
    let dir = tempfile::tempdir()?;
    let (origin_at, floods_at) = (launch::free_address()?, launch::free_address()?);
    let _origin = peers::start_origin(&[origin_at], None, dir.path())?;
    let _floods = peers::start_origin(&[floods_at], None, dir.path())?;
    let origins = Origins { floods: Some(floods_at), ..Origins::plain(origin_at) };
    let measure = |attack: &Attack| Measured {
        attack: attack.clone(),
        strength: strength::of(attack, wish.smoke),
        rounds: Vec::new(),
    };
    let mut measured: Vec<Measured> = wish.attacks.iter().map(measure).collect();
    let mut failures = Vec::new();
    for number in 0..wish.rounds {
        for one in &mut measured {
            let says = format!("round {}/{} {}", number + 1, wish.rounds, one.attack.name);
            let place = dir.path().join(format!("{number}-{}", one.attack.name.replace(' ', "-")));
            match round(wish, &one.attack, one.strength, origins, &place) {
                Ok(round) => {
                    println!("{says}: p99 {} us, {} us", fixed(round.sink_us, 0), fixed(round.router_us, 0));
                    one.rounds.push(round);
                }
                Err(error) => {
                    println!("{says} FAILED: {error}");
                    failures.push(format!("{says}: {error}"));
                }
            }
        }
    }
    report::publish(wish, &machine, &measured, &failures)?;
    if failures.is_empty() { Ok(()) } else { Err(failure(failures.join("\n"))) }
}

/// The four windows of one attack, with a router and a sink of their own.
fn round(wish: &Wish, attack: &Attack, strength: Strength, origins: Origins, dir: &Path) -> Fallible<Round> {
    std::fs::create_dir_all(dir)?;
    let kind = if attack.http2 { Kind::EkidenH2c } else { Kind::Ekiden };
    let mut front = fronts::start(kind, "ekiden", origins, dir)?;
    let sink_at = launch::free_address()?;
    let mut sink = Launch::own("sink", LOAD_CORE)?.arg("--listen").arg(sink_at.to_string()).start(dir)?;
    await_sink(&mut sink, sink_at)?;
    let warm_up = Launch::own("drive", LOAD_CORE)?.arg("--to").arg(front.address.to_string());
    warm_up.args(["--connections", NORMAL, "--requests", "2000"]).output(dir, PATIENCE)?;
    let windows = Windows { wish, attack, strength, front: &front, dir };
    let (sink_us, ..) = windows.beside(sink_at, origins)?;
    sink.alive()?;
    let (router_us, held) = windows.beside(front.address, origins)?;
    let (hostile, honest) = (windows.alone(false)?, windows.alone(true)?);
    front.running.alive()?;
    Ok(Round { sink_us, router_us, hostile, honest, held })
}

fn await_sink(sink: &mut Running, at: SocketAddr) -> Fallible<()> {
    let until = Instant::now() + PATIENCE;
    while std::net::TcpStream::connect(at).is_err() {
        sink.alive()?;
        if Instant::now() > until {
            return Err(failure("the sink is not ready"));
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// What the windows of one round share.
struct Windows<'a> {
    wish: &'a Wish,
    attack: &'a Attack,
    strength: Strength,
    front: &'a Front,
    dir: &'a Path,
}

impl Windows<'_> {
    fn crowd(&self, to: SocketAddr, honest: bool) -> Fallible<Running> {
        let Strength { connections, rate } = self.strength;
        let launch = Launch::own("attack", LOAD_CORE)?.arg("--to").arg(to.to_string());
        let launch = launch.args(["--name", self.attack.name, "--connections", &connections.to_string()]);
        let launch = launch.args(["--rate", &rate.to_string()]);
        let launch = if honest { launch.arg("--honest") } else { launch };
        let mut crowd = launch.start_with(self.dir, Stdio::piped())?;
        crowd.await_line("ready", PATIENCE)?;
        Ok(crowd)
    }

    /// p99 of normal traffic beside an attack, and what the router held more than before.
    fn beside(&self, to: SocketAddr, origins: Origins) -> Fallible<(f64, Held)> {
        let pid = self.front.running.pid();
        let ports: Vec<u16> =
            [Some(origins.plain), origins.floods].iter().flatten().map(SocketAddr::port).collect();
        let sockets = || usage::sockets(self.front.address.port(), &ports);
        let (process, before) = (usage::anonymous_bytes(pid)?, sockets()?);
        let streams = (requests(self.attack) * self.strength.connections) as u64;
        let mut crowd = self.crowd(to, false)?;
        let wish = self.wish;
        let drive = Launch::own("drive", LOAD_CORE)?.arg("--to").arg(self.front.address.to_string());
        let drive = drive.args(["--path", "/1k", "--connections", NORMAL, "--rate", &wish.rate.to_string()]);
        let drive = drive.args(["--warm-up", &wish.warm_up.as_secs_f64().to_string(), "--seconds"]);
        let mut drive = drive.arg(wish.window.as_secs_f64().to_string()).start(self.dir)?;
        let over = AtomicBool::new(false);
        // Children are started by this thread, with its affinity; so another one looks, from the load's core: reading
        // the kernel's tables takes milliseconds.
        let (ended, looked) = thread::scope(|scope| {
            let looks = scope.spawn(|| -> Fallible<Held> {
                launch::stay_on_load_core()?;
                let mut most: Option<Held> = None;
                while !over.load(Ordering::Acquire) {
                    let now = sockets()?;
                    let held = Held {
                        process: usage::anonymous_bytes(pid)?.saturating_sub(process),
                        kernel: now.queued.saturating_sub(before.queued),
                        connections: now.held.saturating_sub(before.held),
                        unanswered: 0,
                    };
                    if most.is_none_or(|most| held.over(streams) > most.over(streams)) {
                        most = Some(held);
                    }
                    thread::sleep(LOOK);
                }
                Ok(most.unwrap_or_default())
            });
            let ended = drive.wait(wish.warm_up + wish.window + PATIENCE);
            over.store(true, Ordering::Release);
            (ended, looks.join())
        });
        ended?;
        let mut held = looked.map_err(|_| failure("the thread that looks at memory panicked"))??;
        let said: Value = serde_json::from_str(&drive.printed())?;
        if said["failed"].as_u64() != Some(0) {
            return Err(failure(format!("normal traffic failed beside the attack: {said}")));
        }
        held.unanswered = finish(&mut crowd)?["unanswered"].as_u64().unwrap_or(0);
        self.settle()?;
        Ok((said["p99_us"].as_f64().unwrap_or(f64::NAN), held))
    }

    /// CPU of the router for the attack alone, or for honest traffic of its class: by byte while the connections stand, by
    /// connection from the first open to the last close.
    fn alone(&self, honest: bool) -> Fallible<Cost> {
        let pid = self.front.running.pid();
        let before_open = CpuTime::of_tree(pid)?;
        let mut crowd = self.crowd(self.front.address, honest)?;
        let opened = CpuTime::of_tree(pid)?;
        thread::sleep(self.wish.warm_up + self.wish.window);
        let turned = CpuTime::of_tree(pid)?;
        let said = finish(&mut crowd)?;
        self.settle()?;
        let spent = match self.attack.class {
            Class::Connections => before_open.until(&CpuTime::of_tree(pid)?),
            Class::Heads | Class::Bodies | Class::Responses | Class::Frames => opened.until(&turned),
        };
        let count = |key: &str| said[key].as_u64().unwrap_or(0);
        let done =
            Tally { opened: count("opened"), cut: count("cut"), sent: count("sent"), read: count("read") };
        Ok(Cost { nanos: spent.nanos, done })
    }

    /// Lets the router see the closes, and shows that it still serves.
    fn settle(&self) -> Fallible<()> {
        thread::sleep(Duration::from_millis(if self.wish.smoke { 20 } else { 300 }));
        let answer = http1::exchange(self.front.address, "GET", "/", None, PATIENCE)?;
        if answer.status == 200 { Ok(()) } else { Err(failure("the router does not serve after the attack")) }
    }
}

/// Ends a crowd; gives its report.
fn finish(crowd: &mut Running) -> Fallible<Value> {
    crowd.close_input();
    crowd.wait(PATIENCE)?;
    let printed = crowd.printed();
    Ok(serde_json::from_str(printed.lines().last().unwrap_or_default())?)
}
