//! `/livez` and `/readyz`: sub-checks over what the workers last said, and their text form.

use std::fmt::Write;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::State;

/// A worker that has not ticked for this long is taken for dead.
pub const BEAT_MAX: Duration = Duration::from_secs(10);
/// After this time from the start, first checks that are still outstanding no longer hold up readiness.
pub const FIRST_CHECKS_MAX: Duration = Duration::from_secs(5);
/// Clusters named in one line at most.
const NAMED_MAX: usize = 5;

/// One sub-check: its name and what it says, an error being the reason it fails.
type Check = (&'static str, Result<String, String>);

/// Status and body of `/livez`: whether the workers run at all. A process that fails it is to be restarted.
pub(super) fn live(state: &State, verbose: bool) -> (u16, String) {
    answer("live", vec![("workers", beats(state))], None, verbose)
}

/// Status and body of `/readyz`: whether traffic may be sent here. A stale table does not make it fail.
pub(super) fn ready(state: &State, verbose: bool) -> (u16, String) {
    let draining = match state.sources.readiness.draining() {
        true => Err("the process has been told to end".to_owned()),
        false => Ok("not draining".to_owned()),
    };
    let checks = vec![
        ("workers", beats(state)),
        ("table", table(state)),
        ("listeners", listeners(state)),
        ("first_checks", first_checks(state)),
        ("draining", draining),
    ];
    answer("ready", checks, state.sources.status.status().stale, verbose)
}

fn answer(word: &str, checks: Vec<Check>, stale: Option<String>, verbose: bool) -> (u16, String) {
    let failed = checks.iter().any(|(_, result)| result.is_err());
    let mut body = match (failed, stale) {
        (true, _) => format!("not {word}\n"),
        (false, Some(reason)) => format!("stale table: {reason}\n"),
        (false, None) => format!("{word}\n"),
    };
    for (name, result) in checks {
        let _ = match result {
            Err(reason) => writeln!(body, "[-] {name}: {reason}"),
            Ok(words) if verbose => writeln!(body, "[+] {name}: {words}"),
            Ok(_) => Ok(()),
        };
    }
    (if failed { 503 } else { 200 }, body)
}

fn beats(state: &State) -> Result<String, String> {
    let workers = state.sources.readiness.workers();
    match workers.iter().enumerate().max_by_key(|(_, worker)| worker.beat_age) {
        Some((number, worker)) if worker.beat_age > BEAT_MAX => {
            Err(format!("worker {number} has not ticked for {} s", worker.beat_age.as_secs()))
        }
        Some(_) | None => Ok(format!("{} running", workers.len())),
    }
}

fn table(state: &State) -> Result<String, String> {
    let workers = state.sources.readiness.workers();
    match workers.iter().map(|worker| worker.generation).min() {
        None => Err("no worker has started".to_owned()),
        Some(0) => Err("no table has been installed".to_owned()),
        Some(generation) => Ok(format!("generation {generation}")),
    }
}

fn listeners(state: &State) -> Result<String, String> {
    for (number, worker) in state.sources.readiness.workers().into_iter().enumerate() {
        worker.accepting.map_err(|reason| format!("worker {number}: {reason}"))?;
    }
    Ok("accepting".to_owned())
}

/// Fails while a first check is outstanding, in the first seconds of the process only: later endpoints come and go
/// without making a router that serves unready.
fn first_checks(state: &State) -> Result<String, String> {
    if state.settled.load(Ordering::Relaxed) {
        return Ok("answered, or their time is over".to_owned());
    }
    let table = (state.sources.table)();
    let mut waiting = table.all_clusters().filter(|cluster| cluster.first_check_pending()).peekable();
    if state.sources.started.elapsed() >= FIRST_CHECKS_MAX
        || (waiting.peek().is_none() && table.generation.0 > 0)
    {
        state.settled.store(true, Ordering::Relaxed);
        return Ok("answered, or their time is over".to_owned());
    }
    let named: Vec<String> = waiting
        .by_ref()
        .take(NAMED_MAX)
        .map(|cluster| format!("{}/{}", cluster.app, cluster.cluster.name))
        .collect();
    if named.is_empty() {
        return Err("waiting for the first table".to_owned());
    }
    Err(format!("waiting for {}{}", named.join(", "), if waiting.next().is_some() { ", ..." } else { "" }))
}
