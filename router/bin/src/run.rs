//! `ekiden run`: load, start, serve until told to end, drain.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ekiden_control::{AddressFlag, Loaded, Options};
use ekiden_router::listen::Inherited;
use sd_notify::NotifyState;
use tokio::runtime::{Builder, Runtime};

use crate::cli::Run;
use crate::signals::{Asked, Signals};
use crate::start::{Running, start};
use crate::{descriptors, exit, logging, procfile};

/// Time after which every thread has started.
const STARTED_AFTER: Duration = Duration::from_secs(5);

/// Serves a configuration until the process is told to end.
pub(crate) fn run(arguments: &Run) -> ExitCode {
    // First of all, while no other thread and no other descriptor is there.
    let inherited = Inherited::from_environment();
    logging::install();
    let descriptors = descriptors::raise_limit();
    let options = match options(arguments, descriptors) {
        Ok(options) => options,
        Err(why) => {
            logging::say(format_args!("error: {why}"));
            return exit::usage();
        }
    };
    let with_procfile = options.procfile.is_some();
    let loaded = match ekiden_control::load(options) {
        Ok(loaded) => loaded,
        Err(refused) => {
            logging::say(refused);
            return exit::invalid();
        }
    };
    // A cluster that waits for dynos is meant to be empty.
    let meant = |found: &&ekiden_config::Diagnostic| !(with_procfile && found.code == "empty_cluster");
    for diagnostic in loaded.diagnostics().iter().filter(meant) {
        logging::say(format_args!("{diagnostic}\n"));
    }
    let announcement = announcement(&loaded);
    let (timeout, grace) = (loaded.process().drain_timeout, loaded.process().drain_grace);
    // Before anyone is told that this process serves: a SIGHUP that nobody listens to would end it.
    let (runtime, signals) = match listen_to_signals() {
        Ok(listening) => listening,
        Err(error) => {
            logging::say(format_args!("error: signals cannot be listened to: {error}"));
            return exit::system();
        }
    };
    let running = match start(loaded, arguments.workers, inherited) {
        Ok(running) => running,
        Err(failed) => {
            logging::say(format_args!("error: {}", failed.reason));
            return failed.code;
        }
    };
    logging::say(announcement);
    notify(&[NotifyState::Ready, NotifyState::Status("serving")]);
    forget_start(&runtime);
    serve(running, (runtime, signals), grace, timeout)
}

/// Lets go of what only the start needed, once every thread has started.
pub(crate) fn forget_start(runtime: &Runtime) {
    runtime.spawn(async {
        tokio::time::sleep(STARTED_AFTER).await;
        // What reading files has left behind on this thread goes too.
        ekiden_router::memory::give_back();
        ekiden_router::memory::forget_start();
    });
}

pub(crate) fn listen_to_signals() -> io::Result<(Runtime, Signals)> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let signals = runtime.block_on(async { Signals::listen() })?;
    Ok((runtime, signals))
}

fn options(arguments: &Run, descriptors: Option<u64>) -> Result<Options, String> {
    let options = Options {
        telemetry: arguments.telemetry.clone().unwrap_or(AddressFlag::FromFile),
        control: arguments.control.clone().unwrap_or(AddressFlag::FromFile),
        run_dir: arguments.run_dir.clone(),
        strict: arguments.strict,
        resolver: arguments.resolver,
        ..Options::default()
    };
    procfile::with_file(options, arguments, descriptors)
}

/// What a person wants to see first: what serves, where, and where to look.
fn announcement(loaded: &Loaded) -> String {
    let model = loaded.model();
    let mut lines = vec![format!(
        "ekiden {} serves {} routes to {} endpoints",
        env!("CARGO_PKG_VERSION"),
        model.route_count(),
        model.endpoint_count()
    )];
    for listener in model.listeners.values() {
        lines.push(format!("  listener {:<12} {}", listener.name.as_str(), listener.address));
    }
    let settings = loaded.settings();
    lines.push(format!("  telemetry             {}  /metrics /readyz /livez", shown(&settings.telemetry)));
    lines.push(format!("  control               {}  /v1/table", shown(&settings.control)));
    if let Some(dir) = &settings.run_dir {
        lines.push(format!("  state                 {}", dir.display()));
    }
    if let Some(reason) = loaded.stale() {
        lines.push(format!("  STALE: the last good table serves, because {reason}"));
    }
    lines.join("\n")
}

/// An address as it may be opened.
pub(crate) fn shown(address: &Option<ekiden_config::model::Address>) -> String {
    match address {
        Some(ekiden_config::model::Address::Tcp(address)) => format!("http://{address}"),
        Some(unix) => unix.to_string(),
        None => "off".to_owned(),
    }
}

/// Tells the service manager; without one this does nothing.
pub(crate) fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}

fn serve(
    running: Running,
    (runtime, mut signals): (Runtime, Signals),
    grace: Duration,
    timeout: Duration,
) -> ExitCode {
    let Running { router, mut control, telemetry } = running;
    while runtime.block_on(signals.next()) == Asked::Reload {
        tracing::info!("SIGHUP: reloading the configuration and certificates, and reopening the access log");
        router.reopen_log();
        router.reload_certificates();
        control.reload();
    }
    end(router, (runtime, signals), grace, timeout, |interrupted| {
        control.end_dynos(interrupted);
        control.stop();
        drop(telemetry);
    });
    ExitCode::SUCCESS
}

/// Ends the data path in order: announce, drain, then what stands above it, then the workers.
pub(crate) fn end(
    router: ekiden_router::Router,
    (runtime, mut signals): (Runtime, Signals),
    grace: Duration,
    timeout: Duration,
    stop_above: impl FnOnce(&dyn Fn() -> bool),
) {
    tracing::info!("ending: finishing what is in flight");
    notify(&[NotifyState::Stopping, NotifyState::Status("draining")]);
    router.announce_drain();
    let now = Arc::new(AtomicBool::new(false));
    let again = Arc::clone(&now);
    // Ends with the process: it only waits for the second signal.
    std::thread::spawn(move || {
        runtime.block_on(async {
            while signals.next().await != Asked::End {}
            again.store(true, Ordering::Release);
        });
    });
    let interrupted = || now.load(Ordering::Acquire);
    router.await_grace(grace, interrupted);
    router.drain();
    if !router.await_idle(timeout, interrupted) && router.connections() > 0 {
        tracing::warn!(connections = router.connections(), "ending with requests in flight");
    }
    stop_above(&interrupted);
    router.stop();
}
