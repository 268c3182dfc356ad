//! `idle`: resident memory of a proxy with many idle keep-alive client connections, against none.
//! Memory of the kernel for the sockets is not in it; it is the same for every proxy.

use crate::failure::{Fallible, failure};
use crate::figures::thousands;
use crate::fronts::{self, Front, Kind, Origins};
use crate::launch::{self, LOAD_CORE, Launch};
use crate::machine::Machine;
use crate::{peers, results, usage};
use serde_json::json;
use std::fmt::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

/// Most a router of ours may take for 10,000 idle connections, in MB (10^6 bytes).
const BAR_MB: f64 = 15.0;

/// Resident bytes of one proxy.
struct Memory {
    name: String,
    version: String,
    before: u64,
    held: u64,
    after: u64,
}

impl Memory {
    /// MB for 10,000 connections.
    fn mb_per_10k(&self, count: usize) -> f64 {
        self.held.saturating_sub(self.before) as f64 / count as f64 * 10_000.0 / 1e6
    }
}

/// Measures each of `kinds` with `count` connections and publishes the report.
pub(crate) fn run(kinds: &[Kind], count: usize, date: Option<&str>, record: bool) -> Fallible<()> {
    let dir = tempfile::tempdir()?;
    let origin_at = launch::free_address()?;
    let _origin = peers::start_origin(&[origin_at], None, dir.path())?;
    let mut measured = Vec::new();
    let mut failed = Vec::new();
    for kind in kinds {
        let program = match kind.program() {
            Ok(program) => program,
            Err(error) if kind.is_ours() => return Err(error),
            Err(error) => {
                println!("skipping {}: {error}", kind.name());
                continue;
            }
        };
        let mut front = fronts::start(*kind, kind.name(), Origins::plain(origin_at), dir.path())?;
        match measure(&mut front, count, dir.path()) {
            Ok([before, held, after]) => {
                let memory =
                    Memory { name: front.name.clone(), version: kind.version(&program), before, held, after };
                println!("{}: {:.2} MB per 10,000", memory.name, memory.mb_per_10k(count));
                measured.push(memory);
            }
            Err(error) => {
                println!("{} FAILED: {error}", front.name);
                failed.push(format!("{}: {error}", front.name));
            }
        }
    }
    publish(&measured, &failed, count, &Machine::look(date), record)?;
    if failed.is_empty() { Ok(()) } else { Err(failure(failed.join("\n"))) }
}

/// Resident bytes before, while `count` connections are held, and after they are closed.
fn measure(front: &mut Front, count: usize, dir: &Path) -> Fallible<[u64; 3]> {
    println!("{}: warming up, then opening {} connections", front.name, thousands(count as f64));
    let warm_up = Launch::own("drive", LOAD_CORE)?.arg("--to").arg(front.address.to_string());
    warm_up.args(["--connections", "16", "--requests", "2000"]).output(dir, Duration::from_secs(30))?;
    let pid = front.running.pid();
    let before = usage::resident_bytes(pid)?;
    let hold = Launch::own("hold", LOAD_CORE)?.arg("--to").arg(front.address.to_string());
    let mut hold = hold.arg("--count").arg(count.to_string()).start_with(dir, Stdio::piped())?;
    hold.await_line("ready", Duration::from_secs(40))?;
    let held = usage::resident_bytes(pid)?;
    hold.close_input();
    hold.wait(Duration::from_secs(20))?;
    let closed = hold.printed().lines().find_map(|line| line.strip_prefix("closed ")?.parse::<usize>().ok());
    if closed != Some(0) {
        return Err(failure(format!("{closed:?} of the idle connections were closed by the proxy")));
    }
    let after = settled(front)?;
    Ok([before, held, after])
}

/// Memory once the proxy has seen the closes: the lowest of a second of looking.
fn settled(front: &Front) -> Fallible<u64> {
    let mut lowest = u64::MAX;
    for _ in 0..10 {
        std::thread::sleep(Duration::from_millis(100));
        lowest = lowest.min(usage::resident_bytes(front.running.pid())?);
    }
    Ok(lowest)
}

fn publish(
    measured: &[Memory],
    failed: &[String],
    count: usize,
    machine: &Machine,
    record: bool,
) -> Fallible<()> {
    let mb = |bytes: u64| bytes as f64 / 1e6;
    let mut text = format!("{}\n\n", machine.line());
    writeln!(
        text,
        "{} idle keep-alive client connections, each after one request; proportional set size of the process \
         tree, without the kernel's socket memory.\n",
        thousands(count as f64)
    )?;
    writeln!(
        text,
        "| proxy | before MB | held MB | after close MB | MB per 10,000 | |\n|---|---|---|---|---|---|"
    )?;
    for memory in measured {
        let per = memory.mb_per_10k(count);
        let verdict = match (memory.name.as_str(), per <= BAR_MB) {
            ("ekiden", true) => "bar 15: met",
            ("ekiden", false) => "bar 15: missed",
            _ => "",
        };
        let (before, held, after) = (mb(memory.before), mb(memory.held), mb(memory.after));
        let name = format!("{} ({})", memory.name, memory.version);
        writeln!(text, "| {name} | {before:.1} | {held:.1} | {after:.1} | {per:.2} | {verdict} |")?;
    }
    failed.iter().try_for_each(|words| writeln!(text, "\n**Failed**: {}", words.replace('\n', " ")))?;
    println!("\n{text}");
    let rows: Vec<_> = measured
        .iter()
        .map(|memory| {
            json!({ "name": memory.name, "version": memory.version, "before": memory.before, "held": memory.held,
                    "after": memory.after, "mb_per_10000": memory.mb_per_10k(count) })
        })
        .collect();
    let report =
        json!({ "machine": machine.json(), "connections": count, "fronts": rows, "failures": failed });
    results::publish("idle", &report, &text, record)
}
