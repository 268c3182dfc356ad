//! `idle`: resident memory of a proxy with many idle keep-alive client connections, against none: HTTP/1, the same over TLS,
//! HTTP/2 over TLS. And what is left of it once they are closed. Before all that, what a router beside an app takes while nothing
//! happens.
//! Memory of the kernel for the sockets is not in it; it is the same for every proxy.

use crate::failure::{Fallible, failure};
use crate::figures::thousands;
use crate::fronts::{self, Front, Kind, Origins};
use crate::hold::Speaks;
use crate::launch::{self, LOAD_CORE, Launch, ROUTER_CORE};
use crate::machine::Machine;
use crate::{peers, results, usage};
use serde_json::json;
use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

/// Most a router of ours may take for 10,000 idle connections, in MB (10^6 bytes).
fn bar_mb(speaks: Speaks) -> f64 {
    match speaks {
        Speaks::Plain => 15.0,
        Speaks::Tls => 150.0,
        Speaks::Http2 => 250.0,
    }
}

/// Most that a router beside an app may take while nothing happens, in MB, shared pages counted whole.
const AMBASSADOR_BAR_MB: f64 = 10.0;
/// Looks at it, a tenth of a second apart: it lets go of what only its start needed after five seconds.
const AMBASSADOR_LOOKS: usize = 80;

/// Resident bytes of a router beside an app: all of it, with shared pages divided among those who share them, and what is its own.
struct Ambassador {
    all: u64,
    divided: u64,
    anonymous: u64,
}

/// Starts one by a file as `config/examples/ambassador.toml`, sends it one request, and leaves it alone.
fn ambassador(origin: SocketAddr, dir: &Path) -> Fallible<Ambassador> {
    let (inbound, outbound, telemetry) =
        (launch::free_address()?, launch::free_address()?, launch::free_address()?);
    let dir = dir.join("ambassador");
    fs::create_dir_all(&dir)?;
    let file = dir.join("ambassador.toml");
    let listener = |name: &str, address: SocketAddr, role: &str| {
        format!("[listener.{name}]\naddress = \"{address}\"\nrole = \"{role}\"\n\n")
    };
    let cluster = |name: &str, listener: &str| {
        format!(
            "[cluster.{name}]\nendpoints = [\"{origin}\"]\n\n[[route]]\nlisteners = [\"{listener}\"]\ncluster = \"{name}\"\n\n"
        )
    };
    let listeners = [listener("in", inbound, "inbound"), listener("out", outbound, "outbound")].concat();
    fs::write(&file, [listeners, cluster("app", "in"), cluster("billing", "out")].concat())?;
    let launch = Launch::new("ambassador", fronts::ekiden_program()?, ROUTER_CORE);
    let control = format!("unix:{}", dir.join("control.sock").display());
    let launch = fronts::ekiden(launch, &file, &dir, 1, &telemetry.to_string(), &control);
    let running = launch.start(&dir)?;
    let name = "ambassador".to_owned();
    let mut front = Front { kind: Kind::Ekiden, name, address: inbound, secure: None, running };
    front.await_ready("/", Duration::from_secs(20))?;
    let pid = front.running.pid();
    let mut least = Ambassador { all: u64::MAX, divided: 0, anonymous: 0 };
    for _ in 0..AMBASSADOR_LOOKS {
        std::thread::sleep(Duration::from_millis(100));
        let all = usage::all_bytes(pid)?;
        if all < least.all {
            let (divided, anonymous) = (usage::resident_bytes(pid)?, usage::anonymous_bytes(pid)?);
            least = Ambassador { all, divided, anonymous };
        }
    }
    Ok(least)
}

/// Resident bytes of one proxy.
struct Memory {
    name: String,
    speaks: Speaks,
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
pub(crate) fn run(
    kinds: &[Kind],
    speaks: &[Speaks],
    count: usize,
    date: Option<&str>,
    record: bool,
) -> Fallible<()> {
    let dir = tempfile::tempdir()?;
    let origin_at = launch::free_address()?;
    let _origin = peers::start_origin(&[origin_at], None, dir.path())?;
    let mut measured = Vec::new();
    let mut failed = Vec::new();
    let is_ours = kinds.iter().any(|kind| kind.is_ours());
    let beside = is_ours.then(|| ambassador(origin_at, dir.path())).transpose()?;
    for kind in kinds {
        let program = match kind.program() {
            Ok(program) => program,
            Err(error) if kind.is_ours() => return Err(error),
            Err(error) => {
                println!("skipping {}: {error}", kind.name());
                continue;
            }
        };
        for &speaks in speaks.iter().filter(|speaks| **speaks == Speaks::Plain || kind.speaks_tls()) {
            // A new one each time: what an earlier crowd left would hide in the next.
            let name = format!("{}-{}", kind.name(), speaks.name());
            let mut front = fronts::start(*kind, &name, Origins::plain(origin_at), dir.path())?;
            match measure(&mut front, speaks, count, dir.path()) {
                Ok([before, held, after]) => {
                    let version = kind.version(&program);
                    let memory =
                        Memory { name: kind.name().to_owned(), speaks, version, before, held, after };
                    println!("{name}: {:.2} MB per 10,000", memory.mb_per_10k(count));
                    measured.push(memory);
                }
                Err(error) => {
                    println!("{name} FAILED: {error}");
                    failed.push(format!("{name}: {error}"));
                }
            }
        }
    }
    publish((&measured, beside.as_ref()), &failed, count, &Machine::look(date), record)?;
    if failed.is_empty() { Ok(()) } else { Err(failure(failed.join("\n"))) }
}

/// Resident bytes before, while `count` connections are held, and after they are closed.
fn measure(front: &mut Front, speaks: Speaks, count: usize, dir: &Path) -> Fallible<[u64; 3]> {
    println!("{}: warming up, then opening {} connections", front.name, thousands(count as f64));
    let warm_up = Launch::own("drive", LOAD_CORE)?.arg("--to").arg(front.address.to_string());
    warm_up.args(["--connections", "16", "--requests", "2000"]).output(dir, Duration::from_secs(30))?;
    let pid = front.running.pid();
    let before = usage::resident_bytes(pid)?;
    let to = match (speaks, front.secure) {
        (Speaks::Plain, _) => front.address,
        (_, Some(secure)) => secure,
        (_, None) => return Err(failure("it has no listener with TLS")),
    };
    let hold = Launch::own("hold", LOAD_CORE)?.arg("--to").arg(to.to_string());
    let hold = hold.args(["--speaks", speaks.name(), "--count", &count.to_string()]);
    let mut hold = hold.start_with(dir, Stdio::piped())?;
    hold.await_line("ready", Duration::from_secs(60))?;
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

/// Memory once the proxy has seen the closes: the lowest of some seconds of looking.
fn settled(front: &Front) -> Fallible<u64> {
    let mut lowest = u64::MAX;
    for _ in 0..40 {
        std::thread::sleep(Duration::from_millis(100));
        lowest = lowest.min(usage::resident_bytes(front.running.pid())?);
    }
    Ok(lowest)
}

fn publish(
    (measured, beside): (&[Memory], Option<&Ambassador>),
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
         tree, without the kernel's socket memory. After close: the lowest of four seconds.\n",
        thousands(count as f64)
    )?;
    writeln!(
        text,
        "| proxy | connections | before MB | held MB | after close MB | MB per 10,000 | |\n|---|---|---|---|---|---|---|"
    )?;
    for memory in measured {
        let per = memory.mb_per_10k(count);
        let bar = bar_mb(memory.speaks);
        let verdict = match (memory.name.as_str(), per <= bar) {
            ("ekiden", true) => format!("bar {bar}: met"),
            ("ekiden", false) => format!("bar {bar}: missed"),
            _ => String::new(),
        };
        let (before, held, after) = (mb(memory.before), mb(memory.held), mb(memory.after));
        let name = format!("{} ({})", memory.name, memory.version);
        let speaks = memory.speaks.name();
        writeln!(
            text,
            "| {name} | {speaks} | {before:.1} | {held:.1} | {after:.1} | {per:.2} | {verdict} |"
        )?;
    }
    if let Some(Ambassador { all, divided, anonymous }) = beside {
        let verdict = if mb(*all) <= AMBASSADOR_BAR_MB { "met" } else { "missed" };
        writeln!(
            text,
            "\nA router beside an app (one worker, inbound and outbound listener, telemetry, API), after one request, idle: {:.1} MB resident \
             ({:.1} with shared pages divided, {:.1} anonymous); bar {AMBASSADOR_BAR_MB}: {verdict}.",
            mb(*all),
            mb(*divided),
            mb(*anonymous)
        )?;
    }
    failed.iter().try_for_each(|words| writeln!(text, "\n**Failed**: {}", words.replace('\n', " ")))?;
    println!("\n{text}");
    let rows: Vec<_> = measured
        .iter()
        .map(|memory| {
            json!({ "name": memory.name, "speaks": memory.speaks.name(), "version": memory.version, "before": memory.before, "held": memory.held,
                    "after": memory.after, "mb_per_10000": memory.mb_per_10k(count) })
        })
        .collect();
    let beside = beside
        .map(|beside| json!({ "all": beside.all, "divided": beside.divided, "anonymous": beside.anonymous }));
    let report = json!({ "machine": machine.json(), "connections": count, "fronts": rows, "failures": failed,
        "ambassador": beside });
    results::publish("idle", &report, &text, record)
}
