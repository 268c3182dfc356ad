//! Joins the planes: a router, control above it, telemetry beside it. Shared by `run` and `demo`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ekiden_config::doors::{Ticket, Verdict};
use ekiden_config::model::{Place, Process};
use ekiden_control::{Control, DynoCounts, Election, Loaded, StartError, StatusReader};
use ekiden_router::aside;
use ekiden_router::listen::Inherited;
use ekiden_router::telemetry::{Meter, Reading, Telemetry};
use ekiden_router::{ControlStatus, DynoMeters, Options, Router};

use crate::exit;
use crate::{guarded, sources};

/// Longest wait for the first table to be taken by the workers.
const FIRST_TABLE: Duration = Duration::from_secs(10);

/// The running whole.
pub(crate) struct Running {
    /// The data plane.
    pub router: Router,
    /// The control plane.
    pub control: Control,
    /// Metrics and readiness, unless off.
    pub telemetry: Option<Telemetry>,
}

/// Why nothing runs: a text for people and the exit code.
#[derive(Debug)]
pub(crate) struct Failed {
    /// What went wrong and what to do.
    pub reason: String,
    /// How the process ends.
    pub code: ExitCode,
}

pub(crate) fn failed(reason: impl Into<String>, code: ExitCode) -> Failed {
    Failed { reason: reason.into(), code }
}

/// Starts everything and waits until the first table serves.
pub(crate) fn start(loaded: Loaded, workers: Option<u16>, inherited: Inherited) -> Result<Running, Failed> {
    let router = launch(loaded.process(), loaded.base_dir().to_owned(), workers, inherited)?;
    // Dynos do not give way: they inherit what the thread has that forks them.
    let mut loaded = loaded;
    loaded
        .start_dyno_thread()
        .map_err(|error| failed(format!("no thread for dynos: {error}"), exit::system()))?;
    // Control and telemetry are started from here and give way too.
    aside::give_way();
    router.set_own_addresses(loaded.own_addresses());
    let with_dynos = loaded.has_procfile();
    let telemetry_address = loaded.settings().telemetry.clone();
    let Some(publisher) = router.publisher() else {
        return Err(failed("the router gave no publisher", exit::system()));
    };
    let started = Control::start(loaded, Box::new(publisher), router.inspect(), router.observations());
    let control = started.map_err(not_started)?;
    first_table(control.first())?;
    let reader = control.status_reader();
    let last_ok = AtomicU64::new(0);
    let dyno_counts = control.dyno_counts();
    let status = move || {
        let mut status = told(&reader, &last_ok);
        status.dynos = with_dynos.then(|| meters(dyno_counts()));
        status.more.extend(term_meters(&reader));
        status
    };
    let telemetry = telemetry_address
        .map(|address| router.serve_telemetry(address, status))
        .transpose()
        .map_err(|error| failed(format!("telemetry could not start: {error}"), exit::system()))?;
    Ok(Running { router, control, telemetry })
}

/// A router without a name written is known by its dyno, else by its machine.
fn named(place: Place) -> Place {
    if !place.instance.is_empty() {
        return place;
    }
    let dyno = std::env::var("DYNO").ok().filter(|name| !name.is_empty());
    let machine = || std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    Place { instance: Arc::from(dyno.unwrap_or_else(machine).trim()), ..place }
}

/// Starts the data path. Who calls it gives way to its workers then, with all that it starts.
pub(crate) fn launch(
    process: &Process,
    base_dir: PathBuf,
    workers: Option<u16>,
    inherited: Inherited,
) -> Result<Router, Failed> {
    let process = process.clone();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = workers.or(process.workers).map_or(cores, usize::from);
    let router = Router::start(Options {
        workers,
        access_log: process.access_log,
        max_connections: process.max_connections,
        overload: process.overload,
        place: named(process.place),
        inherited,
        base_dir,
        on_fatal: Arc::new(|reason| {
            tracing::error!("{reason}");
            std::process::exit(exit::FATAL);
        }),
    })
    .map_err(|error| failed(format!("the router could not start: {error}"), exit::system()))?;
    Ok(router)
}

/// Why control did not start, and how the process ends.
pub(crate) fn not_started(error: StartError) -> Failed {
    let code = match &error {
        StartError::InUse(_) | StartError::RunDir(_) => exit::run_dir(),
        StartError::NoThread(_) => exit::system(),
        StartError::Link(_) => exit::invalid(),
    };
    failed(error.to_string(), code)
}

/// Waits until the first table serves, whole where a start depends on it.
pub(crate) fn first_table(ticket: &Ticket) -> Result<(), Failed> {
    match ticket.wait(FIRST_TABLE) {
        Some(Verdict::Applied { refused, .. }) => {
            for (kind, code) in [("certificates:", exit::invalid()), ("listener:", exit::address())] {
                let reasons: Vec<String> = refused
                    .iter()
                    .filter_map(|refusal| Some((refusal.part.strip_prefix(kind)?, &refusal.reason)))
                    .map(|(listener, reason)| format!("listener `{listener}`: {reason}"))
                    .collect();
                if !reasons.is_empty() {
                    return Err(failed(reasons.join("\n"), code));
                }
            }
        }
        Some(Verdict::Rejected { reason }) => return Err(failed(reason, exit::system())),
        None => return Err(failed("the workers did not take the first table within 10 s", exit::system())),
    }
    Ok(())
}

/// What telemetry is told of control.
pub(crate) fn told(reader: &StatusReader, last_ok: &AtomicU64) -> ControlStatus {
    let status = reader.read();
    if let Some(reload) = status.last_reload.as_ref().filter(|reload| reload.ok) {
        last_ok.store(reload.unix_ms, Ordering::Relaxed);
    }
    let stopped = || (!status.running).then(|| "control has stopped; see the log".to_owned());
    ControlStatus {
        stale: status.stale_reason.clone().or_else(stopped),
        reloads_ok: status.reloads.accepted,
        reloads_failed: status.reloads.partial + status.reloads.refused,
        last_reload_unix_ms: last_ok.load(Ordering::Relaxed),
        dynos: None,
        more: {
            let mut more = sources::meters(&status.sources);
            more.extend(guarded::meters(&status.guards));
            more.extend(
                status.election.iter().flat_map(|election| election_meters(election, status.store_reads)),
            );
            more
        },
    }
}

/// Metrics of a control that is begun anew in its process when it is stuck.
fn term_meters(reader: &StatusReader) -> Vec<Meter> {
    let status = reader.read();
    let count = |name, help, value| Meter { name, help, labels: Vec::new(), value: Reading::Count(value) };
    vec![
        count(
            "ekiden_control_restarts_total",
            "Times that control was stuck and a fresh runtime took its place.",
            status.control_restarts,
        ),
        count(
            "ekiden_control_void_publishes_total",
            "Tables of a void term of control, none of which was taken.",
            status.void_publishes,
        ),
    ]
}

/// Metrics of a control that shares its store.
fn election_meters(election: &Election, store_reads: u64) -> Vec<Meter> {
    let meter = |name, help, value| Meter { name, help, labels: Vec::new(), value: Reading::Level(value) };
    vec![
        meter(
            "ekiden_control_leads",
            "1 while this process leads those that share its store.",
            f64::from(u8::from(election.leads)),
        ),
        meter(
            "ekiden_control_term",
            "Term under which this process leads; 0 while it does not.",
            election.term as f64,
        ),
        Meter {
            value: Reading::Count(store_reads),
            ..meter(
                "ekiden_control_store_reads_total",
                "Times that all of the shared store was read and built; most changes of others are taken in one by one.",
                0.0,
            )
        },
    ]
}

/// What control counts of dynos, in the router's words.
fn meters(counts: DynoCounts) -> DynoMeters {
    let DynoCounts { dynos, restarts, rollouts_done, rollouts_failed, late, lines_dropped } = counts;
    let counts = dynos.into_iter().map(|one| (one.kind, one.state, one.count)).collect();
    DynoMeters { counts, restarts, rollouts_done, rollouts_failed, late, lines_dropped }
}
