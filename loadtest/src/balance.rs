//! `balance`: pickers at work on real sockets. Eight endpoints with slots and drawn service times, one of them four times as slow and
//! one that is down for a second now and then; before them one proxy after the other, under the same open load. Tells the latency that
//! clients see, what failed, and the share of each endpoint. The texts of the proxies are in `fronts/balancing.rs`.
//!
//! The endpoints say in `X-Router-Load` how busy they are, as ambassadors do; `prequal` alone goes by it.

mod endpoint;

use crate::failure::{Fallible, failure};
use crate::figures::{fixed, median, thousands};
use crate::fronts::{self, Picker};
use crate::launch::{LOAD_CORE, Launch};
use crate::machine::Machine;
use crate::results;
use endpoint::Endpoint;
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// Endpoints, requests at once of each, and the mean time of one.
const ENDPOINTS: usize = 8;
const SLOTS: usize = 4;
const SERVICE: Duration = Duration::from_millis(10);
/// The first is so many times slower; the second goes down and comes up.
const SLOWER: u32 = 4;
const DOWN: Duration = Duration::from_secs(1);
const UP: Duration = Duration::from_secs(3);
/// Connections of the load.
const CONNECTIONS: usize = 256;

/// What to do.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    /// Proxies with their pickers.
    pub(crate) pickers: Vec<Picker>,
    /// Rounds over all of them.
    pub(crate) rounds: usize,
    /// Length of one.
    pub(crate) window: Duration,
    /// Load as a part of what the endpoints can serve that are always up.
    pub(crate) load: f64,
    /// Date to report instead of the system's.
    pub(crate) date: Option<String>,
    /// Replace the section of RESULTS.md.
    pub(crate) record: bool,
}

/// What one round came to.
struct Round {
    p50_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
    verified: u64,
    failed: u64,
    reasons: Value,
    /// Part of the answers that each endpoint gave.
    shares: Vec<f64>,
}

/// All rounds of one contestant.
struct Came {
    picker: Picker,
    version: String,
    rounds: Vec<Round>,
}

/// Requests a second that the endpoints can serve that are always up.
fn capacity() -> f64 {
    let one = SLOTS as f64 / SERVICE.as_secs_f64();
    one * (ENDPOINTS as f64 - 2.0) + one / f64::from(SLOWER)
}

/// Runs all rounds and publishes the report.
pub(crate) fn run(wish: &Wish) -> Fallible<()> {
    let dir = tempfile::tempdir()?;
    let (mut all, mut failed) = (Vec::<Came>::new(), Vec::new());
    for picker in &wish.pickers {
        match picker.kind.program() {
            Ok(program) => {
                let version = picker.kind.version(&program);
                all.push(Came { picker: *picker, version, rounds: Vec::new() });
            }
            Err(error) if picker.kind.is_ours() => return Err(error),
            Err(error) => println!("skipping {}: {error}", picker.name()),
        }
    }
    for number in 1..=wish.rounds {
        for came in &mut all {
            println!("round {number} of {}: {}", wish.rounds, came.picker.name());
            match round(came.picker, number, wish, dir.path()) {
                Ok(round) => came.rounds.push(round),
                Err(error) => {
                    println!("{} FAILED: {error}", came.picker.name());
                    failed.push(format!("{}: {error}", came.picker.name()));
                }
            }
        }
    }
    publish(&all, &failed, wish)?;
    if failed.is_empty() { Ok(()) } else { Err(failure(failed.join("\n"))) }
}

/// One proxy before fresh endpoints.
fn round(picker: Picker, number: usize, wish: &Wish, dir: &Path) -> Fallible<Round> {
    let mut endpoints = Vec::with_capacity(ENDPOINTS);
    for place in 0..ENDPOINTS {
        let mean = if place == 0 { SERVICE * SLOWER } else { SERVICE };
        endpoints.push(endpoint::start(SLOTS, mean)?);
    }
    let addresses: Vec<_> = endpoints.iter().map(|endpoint| endpoint.address).collect();
    let front = fronts::start_balancing(picker, number, &addresses, dir)?;
    let before: Vec<u64> = endpoints.iter().map(Endpoint::answered).collect();
    let rate = capacity() * wish.load;
    let drive = Launch::own("drive", LOAD_CORE)?.arg("--to").arg(front.address.to_string());
    let drive = drive.arg("--connections").arg(CONNECTIONS.to_string()).arg("--rate").arg(rate.to_string());
    let drive = drive.arg("--seconds").arg(wish.window.as_secs_f64().to_string());
    let mut drive = drive.start(dir)?;
    let began = Instant::now();
    // Long enough for the figures; the last turn ends with the load.
    while began.elapsed() < wish.window {
        thread::sleep(UP.min(wish.window / 3));
        if let Some(flapping) = endpoints.get_mut(1) {
            flapping.down();
            thread::sleep(DOWN.min(wish.window / 6));
            flapping.up()?;
        }
        drive.alive().or_else(|error| if began.elapsed() < wish.window { Err(error) } else { Ok(()) })?;
    }
    drive.wait(Duration::from_secs(60))?;
    let printed = drive.printed();
    let report: Value = serde_json::from_str(printed.lines().last().unwrap_or(""))
        .map_err(|error| failure(format!("the load said {printed:?}: {error}")))?;
    let number = |key: &str| report.get(key).and_then(Value::as_u64).unwrap_or(0);
    let ms = |key: &str| report.get(key).and_then(Value::as_f64).unwrap_or(f64::NAN) / 1e3;
    let answered: Vec<f64> = endpoints
        .iter()
        .zip(before)
        .map(|(endpoint, before)| (endpoint.answered() - before) as f64)
        .collect();
    let sum: f64 = answered.iter().sum::<f64>().max(1.0);
    Ok(Round {
        p50_ms: ms("p50_us"),
        p99_ms: ms("p99_us"),
        p999_ms: ms("p999_us"),
        verified: number("verified"),
        failed: number("failed"),
        reasons: report.get("reasons").cloned().unwrap_or(Value::Null),
        shares: answered.iter().map(|count| count / sum).collect(),
    })
}

fn publish(all: &[Came], failed: &[String], wish: &Wish) -> Fallible<()> {
    let machine = Machine::look(wish.date.as_deref());
    let mut text = format!("{}\n\n", machine.line());
    writeln!(
        text,
        "{ENDPOINTS} endpoints of {SLOTS} slots and {} ms a request (exponential); the first is {SLOWER} times slower, the second is down for {} s \
         after every {} s. {} GETs a second over {CONNECTIONS} connections, {:.0} % of what the others can serve; {} rounds of {} s, medians.\n",
        SERVICE.as_millis(),
        DOWN.as_secs_f64(),
        UP.as_secs_f64(),
        thousands(capacity() * wish.load),
        wish.load * 100.0,
        wish.rounds,
        wish.window.as_secs_f64(),
    )?;
    writeln!(
        text,
        "| proxy | picker | p50, ms | p99, ms | p99.9, ms | failed | slow, share | flapping, share | others, least to most |\n\
         |---|---|---|---|---|---|---|---|---|"
    )?;
    for came in all {
        let middle = |of: &dyn Fn(&Round) -> f64| median(&came.rounds.iter().map(of).collect::<Vec<_>>());
        let share = |place: usize| {
            fixed(100.0 * middle(&|round| round.shares.get(place).copied().unwrap_or(f64::NAN)), 1)
        };
        let others = |round: &Round| round.shares.iter().skip(2).copied().collect::<Vec<_>>();
        let least = middle(&|round| others(round).into_iter().fold(1.0, f64::min));
        let most = middle(&|round| others(round).into_iter().fold(0.0, f64::max));
        let (failed, asked) = came.rounds.iter().fold((0, 0), |(failed, asked), round| {
            (failed + round.failed, asked + round.failed + round.verified)
        });
        writeln!(
            text,
            "| {} ({}) | {} | {} | {} | {} | {failed} of {} | {} % | {} % | {} to {} % |",
            came.picker.kind.name(),
            came.version,
            came.picker.words,
            fixed(middle(&|round| round.p50_ms), 1),
            fixed(middle(&|round| round.p99_ms), 1),
            fixed(middle(&|round| round.p999_ms), 1),
            thousands(asked as f64),
            share(0),
            share(1),
            fixed(least * 100.0, 1),
            fixed(most * 100.0, 1),
        )?;
    }
    failed.iter().try_for_each(|words| writeln!(text, "\n**Failed**: {}", words.replace('\n', " ")))?;
    println!("\n{text}");
    let round = |round: &Round| {
        json!({ "p50_ms": round.p50_ms, "p99_ms": round.p99_ms, "p999_ms": round.p999_ms, "verified": round.verified,
                "failed": round.failed, "reasons": round.reasons, "shares": round.shares })
    };
    let rows: Vec<_> = all
        .iter()
        .map(|came| {
            json!({ "proxy": came.picker.kind.name(), "picker": came.picker.words, "version": came.version,
                    "rounds": came.rounds.iter().map(round).collect::<Vec<_>>() })
        })
        .collect();
    let report = json!({ "machine": machine.json(), "rate": capacity() * wish.load, "load": wish.load,
                         "window_s": wish.window.as_secs_f64(), "fronts": rows, "failures": failed });
    results::publish("balance", &report, &text, wish.record)
}
