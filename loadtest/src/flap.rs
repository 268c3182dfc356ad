//! `flap`: one of three endpoints fails and is well again under load, in front of it one proxy after the other. It is killed and
//! started again, or it answers 503 for a while. Counts the requests that clients saw fail, and the time until the endpoint carries
//! its share again. The texts of the proxies are in `fronts/flapping.rs`.

mod endpoint;

use crate::failure::{Fallible, failure};
use crate::figures::{fixed, median, thousands};
use crate::fronts::{self, Kind};
use crate::launch::{LOAD_CORE, Launch};
use crate::machine::Machine;
use crate::results;
use endpoint::Endpoint;
use serde_json::json;
use std::collections::VecDeque;
use std::fmt::Write;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// The bar for us: seconds until the endpoint has its share again.
const BAR_S: f64 = 2.0;
/// Part of an even share that counts as having it.
const SHARE: f64 = 0.8;
/// Time between two looks at the counts, and looks that a share is taken over.
const LOOK: Duration = Duration::from_millis(50);
const LOOKS: usize = 8;

/// How the endpoint fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Its process is killed.
    Killed,
    /// It answers every request with 503.
    Busy,
}

impl Fault {
    const ALL: [Fault; 2] = [Fault::Killed, Fault::Busy];

    /// The word in tables and names.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Fault::Killed => "killed",
            Fault::Busy => "503",
        }
    }
}

/// What to do.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    /// Proxies.
    pub(crate) kinds: Vec<Kind>,
    /// Times that the endpoint is killed.
    pub(crate) rounds: u32,
    /// How long it is down each time.
    pub(crate) down: Duration,
    /// How long it is up each time.
    pub(crate) up: Duration,
    /// Requests a second.
    pub(crate) rate: f64,
    /// Date to report instead of the system's.
    pub(crate) date: Option<String>,
    /// Replace the section of RESULTS.md.
    pub(crate) record: bool,
}

/// What one proxy came to.
struct Came {
    fault: Fault,
    name: String,
    version: String,
    verified: u64,
    failed: u64,
    reasons: String,
    /// Seconds from the start of the endpoint to its share, per round; none when it did not get it while it was up.
    back_s: Vec<Option<f64>>,
}

/// Runs the script with every proxy and publishes the report.
pub(crate) fn run(wish: &Wish) -> Fallible<()> {
    let dir = tempfile::tempdir()?;
    let (mut all, mut failed) = (Vec::new(), Vec::new());
    for kind in &wish.kinds {
        let program = match kind.program() {
            Ok(program) => program,
            Err(error) if kind.is_ours() => return Err(error),
            Err(error) => {
                println!("skipping {}: {error}", kind.name());
                continue;
            }
        };
        for fault in Fault::ALL {
            let what = format!("{}, {}", kind.name(), fault.word());
            match script(*kind, fault, kind.version(&program), wish, dir.path()) {
                Ok(came) => {
                    println!("{what}: {} of {} requests failed", came.failed, came.verified + came.failed);
                    all.push(came);
                }
                Err(error) => {
                    println!("{what} FAILED: {error}");
                    failed.push(format!("{what}: {error}"));
                }
            }
        }
    }
    publish(&all, &failed, wish)?;
    if failed.is_empty() { Ok(()) } else { Err(failure(failed.join("\n"))) }
}

fn script(kind: Kind, fault: Fault, version: String, wish: &Wish, dir: &Path) -> Fallible<Came> {
    let mut endpoints = [endpoint::start()?, endpoint::start()?, endpoint::start()?];
    let front = fronts::start_before(kind, fault, &endpoints.each_ref().map(|one| one.address), dir)?;
    // A second before the first kill, and one after the last round.
    let seconds = (wish.down + wish.up).as_secs_f64() * f64::from(wish.rounds) + 2.0;
    let drive = Launch::own("drive", LOAD_CORE)?.arg("--to").arg(front.address.to_string());
    let drive = drive.args(["--connections", "32", "--warm-up", "0", "--rate"]).arg(wish.rate.to_string());
    let mut drive = drive.arg("--seconds").arg(seconds.to_string()).start(dir)?;
    thread::sleep(Duration::from_secs(1));
    let mut back_s = Vec::new();
    for round in 1..=wish.rounds {
        println!("{}, {}: round {round} of {}", kind.name(), fault.word(), wish.rounds);
        let [flapping, ..] = &mut endpoints;
        match fault {
            Fault::Killed => flapping.down(),
            Fault::Busy => flapping.serve().set_busy(true),
        }
        thread::sleep(wish.down);
        match fault {
            Fault::Killed => flapping.up()?,
            Fault::Busy => flapping.serve().set_busy(false),
        }
        back_s.push(await_share(&endpoints, wish.up));
        drive.alive()?;
    }
    drive.wait(Duration::from_secs(60))?;
    let printed = drive.printed();
    let report: serde_json::Value = serde_json::from_str(printed.lines().last().unwrap_or(""))
        .map_err(|error| failure(format!("the load said {printed:?}: {error}")))?;
    let number = |key: &str| report.get(key).and_then(serde_json::Value::as_u64).unwrap_or(0);
    let reasons = report.get("reasons").map_or_else(String::new, ToString::to_string);
    let (verified, failed) = (number("verified"), number("failed"));
    Ok(Came { fault, name: kind.name().to_owned(), version, verified, failed, reasons, back_s })
}

/// Looks for `up` long; gives the seconds until the first endpoint had its share over the last looks.
fn await_share(endpoints: &[Endpoint; 3], up: Duration) -> Option<f64> {
    let began = Instant::now();
    let counts = || endpoints.each_ref().map(Endpoint::answered);
    let mut looks = VecDeque::from([counts()]);
    let mut back_s = None;
    while began.elapsed() < up {
        thread::sleep(LOOK);
        let now = counts();
        looks.push_back(now);
        if looks.len() > LOOKS + 1 {
            looks.pop_front();
        }
        let (Some(before), true) = (looks.front(), looks.len() > LOOKS) else { continue };
        let served = now
            .map(|count| count as f64)
            .iter()
            .zip(before)
            .map(|(now, then)| now - *then as f64)
            .collect::<Vec<_>>();
        let sum: f64 = served.iter().sum();
        let own = served.first().copied().unwrap_or(0.0);
        if back_s.is_none() && sum > 0.0 && own / sum >= SHARE / 3.0 {
            back_s = Some(began.elapsed().as_secs_f64());
        }
    }
    back_s
}

fn publish(all: &[Came], failed: &[String], wish: &Wish) -> Fallible<()> {
    let machine = Machine::look(wish.date.as_deref());
    let mut text = format!("{}\n\n", machine.line());
    writeln!(
        text,
        "Three endpoints, {} GETs a second over 32 connections; one endpoint fails {} times, {} s long, and is well {} s: killed and \
         started again, or answering 503. Back is the time until it has {:.0} % of an even share over {} ms.\n",
        thousands(wish.rate),
        wish.rounds,
        wish.down.as_secs_f64(),
        wish.up.as_secs_f64(),
        SHARE * 100.0,
        LOOK.as_millis() * LOOKS as u128
    )?;
    writeln!(
        text,
        "| fault | proxy | requests | failed | back, median s | back, worst s | |\n|---|---|---|---|---|---|---|"
    )?;
    for came in all {
        let never = came.back_s.iter().filter(|back| back.is_none()).count();
        let seen: Vec<f64> = came.back_s.iter().copied().flatten().collect();
        let worst = seen.iter().copied().fold(0.0, f64::max);
        let shown = |number: f64| if seen.is_empty() { "-".to_owned() } else { fixed(number, 2) };
        let worst_words = if never > 0 { format!("{never} times not at all") } else { shown(worst) };
        let verdict = match (came.name.as_str(), came.failed == 0 && never == 0 && worst <= BAR_S) {
            ("ekiden", true) => "bar 0 failed, 2 s: met",
            ("ekiden", false) => "bar 0 failed, 2 s: missed",
            _ => "",
        };
        writeln!(
            text,
            "| {} | {} ({}) | {} | {} | {} | {worst_words} | {verdict} |",
            came.fault.word(),
            came.name,
            came.version,
            thousands((came.verified + came.failed) as f64),
            thousands(came.failed as f64),
            shown(median(&seen)),
        )?;
    }
    failed.iter().try_for_each(|words| writeln!(text, "\n**Failed**: {}", words.replace('\n', " ")))?;
    println!("\n{text}");
    let rows: Vec<_> = all
        .iter()
        .map(|came| {
            json!({ "fault": came.fault.word(), "name": came.name, "version": came.version, "verified": came.verified, "failed": came.failed,
                    "reasons": came.reasons, "back_s": came.back_s })
        })
        .collect();
    let report = json!({ "machine": machine.json(), "rounds": wish.rounds, "down_s": wish.down.as_secs_f64(),
                         "up_s": wish.up.as_secs_f64(), "rate": wish.rate, "fronts": rows, "failures": failed });
    results::publish("flap", &report, &text, wish.record)
}
