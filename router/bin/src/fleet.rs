//! `ekiden control` and `ekiden router`: one plane each, the other one elsewhere.

use std::process::ExitCode;
use std::sync::atomic::AtomicU64;
use std::time::{SystemTime, UNIX_EPOCH};

use ekiden_control::{
    AddressFlag, Control, FleetMeters, LinkStatus, LoadedRouter, Options, PROPAGATION_BOUNDS_US, RemoteRouter,
};
use ekiden_router::aside;
use ekiden_router::listen::Inherited;
use ekiden_router::telemetry::{Meter, Reading, Telemetry, serve_alone};
use ekiden_router::{ControlStatus, Router};
use sd_notify::NotifyState;

use crate::cli::{RunControl, RunRouter};
use crate::run::{end, forget_start, listen_to_signals, notify, shown};
use crate::signals::Asked;
use crate::start::{Failed, failed, first_table, launch, not_started, told};
use crate::{descriptors, exit, logging};

/// Runs control for routers elsewhere until the process is told to end.
pub(crate) fn control(arguments: &RunControl) -> ExitCode {
    logging::install();
    descriptors::raise_limit();
    let options = Options {
        file: arguments.file.clone(),
        telemetry: arguments.telemetry.clone().unwrap_or(AddressFlag::FromFile),
        control: arguments.control.clone().unwrap_or(AddressFlag::FromFile),
        run_dir: arguments.run_dir.clone(),
        strict: arguments.strict,
        resolver: arguments.resolver,
        alone: true,
        ..Options::default()
    };
    let loaded = match ekiden_control::load(options) {
        Ok(loaded) => loaded,
        Err(refused) => {
            logging::say(refused);
            return exit::invalid();
        }
    };
    for diagnostic in loaded.diagnostics() {
        logging::say(format_args!("{diagnostic}\n"));
    }
    let settings = loaded.settings().clone();
    let model = loaded.model();
    let announcement = format!(
        "ekiden {} control: {} routes to {} endpoints, for routers elsewhere\n  telemetry             {}  /metrics /readyz\n  \
         control               {}  /v1/routers",
        env!("CARGO_PKG_VERSION"),
        model.route_count(),
        model.endpoint_count(),
        shown(&settings.telemetry),
        shown(&settings.control),
    );
    let (runtime, mut signals) = match listen_to_signals() {
        Ok(listening) => listening,
        Err(error) => return say(failed(format!("signals cannot be listened to: {error}"), exit::system())),
    };
    let control = match Control::start_alone(loaded, stuck) {
        Ok(control) => control,
        Err(error) => return say(not_started(error)),
    };
    let (reader, fleet, last_ok) = (control.status_reader(), control.fleet_reader(), AtomicU64::new(0));
    let status = move || {
        let mut status = told(&reader, &last_ok);
        status.more.extend(fleet.read().iter().flat_map(fleet_meters));
        status
    };
    let telemetry = settings.telemetry.map(|address| serve_alone(address, status)).transpose();
    let telemetry = match telemetry {
        Ok(telemetry) => telemetry,
        Err(error) => return say(failed(format!("telemetry could not start: {error}"), exit::system())),
    };
    logging::say(announcement);
    notify(&[NotifyState::Ready, NotifyState::Status("serving routers")]);
    while runtime.block_on(signals.next()) == Asked::Reload {
        tracing::info!("SIGHUP: reloading the configuration");
        control.reload();
    }
    notify(&[NotifyState::Stopping]);
    control.stop();
    drop(telemetry);
    ExitCode::SUCCESS
}

/// Ends a process that holds the lead and does nothing. Its routers serve on; whoever starts it again, or another control, leads then.
fn stuck() {
    tracing::error!("control's loop is stuck: this process ends");
    std::process::exit(exit::FATAL);
}

/// Serves what control elsewhere says until the process is told to end.
pub(crate) fn router(arguments: &RunRouter) -> ExitCode {
    // First of all, while no other thread and no other descriptor is there.
    let inherited = Inherited::from_environment();
    logging::install();
    descriptors::raise_limit();
    let options = Options {
        file: arguments.file.clone(),
        telemetry: arguments.telemetry.clone().unwrap_or(AddressFlag::FromFile),
        control: arguments.api.clone().unwrap_or(AddressFlag::FromFile),
        run_dir: arguments.run_dir.clone(),
        strict: arguments.strict,
        resolver: None,
        ..Options::default()
    };
    let loaded = match ekiden_control::load_router(options) {
        Ok(loaded) => loaded,
        Err(refused) => {
            logging::say(refused);
            return exit::invalid();
        }
    };
    for diagnostic in loaded.diagnostics() {
        logging::say(format_args!("{diagnostic}\n"));
    }
    let announcement = announcement(&loaded, arguments);
    let (grace, timeout) = (loaded.process().drain_grace, loaded.process().drain_timeout);
    let (runtime, mut signals) = match listen_to_signals() {
        Ok(listening) => listening,
        Err(error) => return say(failed(format!("signals cannot be listened to: {error}"), exit::system())),
    };
    let (router, remote, telemetry) = match start(loaded, arguments, inherited) {
        Ok(running) => running,
        Err(failed) => return say(failed),
    };
    logging::say(announcement);
    notify(&[NotifyState::Ready, NotifyState::Status("serving")]);
    forget_start(&runtime);
    while runtime.block_on(signals.next()) == Asked::Reload {
        tracing::info!("SIGHUP: reloading the process file and certificates, and reopening the access log");
        router.reopen_log();
        router.reload_certificates();
        remote.reload();
    }
    end(router, (runtime, signals), grace, timeout, |_| {
        remote.stop();
        drop(telemetry);
    });
    ExitCode::SUCCESS
}

fn say(failed: Failed) -> ExitCode {
    logging::say(format_args!("error: {}", failed.reason));
    failed.code
}

fn announcement(loaded: &LoadedRouter, arguments: &RunRouter) -> String {
    let mut lines = vec![match loaded.model() {
        Some(model) => format!(
            "ekiden {} router: {} routes to {} endpoints, as control said last",
            env!("CARGO_PKG_VERSION"),
            model.route_count(),
            model.endpoint_count()
        ),
        None => format!("ekiden {} router: waits for control", env!("CARGO_PKG_VERSION")),
    }];
    for (name, address) in loaded.listeners() {
        lines.push(format!("  listener {name:<12} {address}"));
    }
    let urls: Vec<String> = arguments.control.iter().map(ToString::to_string).collect();
    lines.push(format!("  control               {}", urls.join(", ")));
    lines.push(format!(
        "  telemetry             {}  /metrics /readyz /livez",
        shown(&loaded.settings().telemetry)
    ));
    lines
        .push(format!("  api                   {}  /v1/table /v1/status", shown(&loaded.settings().control)));
    if let Some(reason) = loaded.stale() {
        lines.push(format!("  STALE: {reason}"));
    }
    lines.join("\n")
}

type Running = (Router, RemoteRouter, Option<Telemetry>);

fn start(loaded: LoadedRouter, arguments: &RunRouter, inherited: Inherited) -> Result<Running, Failed> {
    let router = launch(loaded.process(), loaded.base_dir(), arguments.workers, inherited)?;
    // What is started from here gives way to the workers.
    aside::give_way();
    router.set_own_addresses(loaded.own_addresses());
    let address = loaded.settings().telemetry.clone();
    let Some(publisher) = router.publisher() else {
        return Err(failed("the router gave no publisher", exit::system()));
    };
    let urls = arguments.control.clone();
    let remote =
        RemoteRouter::start(loaded, urls, Box::new(publisher), router.inspect(), router.observations());
    let remote = remote.map_err(not_started)?;
    if let Some(ticket) = remote.first() {
        first_table(ticket)?;
    }
    let (reader, last_ok) = (remote.status_reader(), AtomicU64::new(0));
    let status = move || ControlStatus { more: link_meters(&reader.read().link), ..told(&reader, &last_ok) };
    let telemetry = address.map(|address| router.serve_telemetry(address, status)).transpose();
    let telemetry =
        telemetry.map_err(|error| failed(format!("telemetry could not start: {error}"), exit::system()))?;
    Ok((router, remote, telemetry))
}

pub(crate) fn meter(name: &'static str, help: &'static str, value: Reading) -> Meter {
    Meter { name, help, labels: Vec::new(), value }
}

/// Metrics of a router's link.
fn link_meters(link: &LinkStatus) -> Vec<Meter> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let mut meters = vec![
        meter(
            "ekiden_link_connected",
            "1 while control is there.",
            Reading::Level(f64::from(u8::from(link.connected))),
        ),
        meter(
            "ekiden_link_generation",
            "Generation of control that this router has.",
            Reading::Level(link.generation as f64),
        ),
        meter(
            "ekiden_link_term",
            "Term of the control that the generation is of.",
            Reading::Level(link.term as f64),
        ),
        meter("ekiden_link_failures_total", "Links that failed or ended.", Reading::Count(link.failures)),
    ];
    if link.heard_unix_ms > 0 {
        let age = (now - link.heard_unix_ms as f64 / 1e3).max(0.0);
        meters.push(meter(
            "ekiden_link_heard_age_seconds",
            "Time since control was heard last: how old the table may be.",
            Reading::Level(age),
        ));
    }
    for (kind, count) in [("snapshot", link.snapshots), ("delta", link.links.saturating_sub(link.snapshots))]
    {
        meters.push(Meter {
            labels: vec![("begun_with", kind.to_owned())],
            ..meter("ekiden_link_links_total", "Links by what they began with.", Reading::Count(count))
        });
    }
    meters
}

/// Metrics of control for routers elsewhere.
fn fleet_meters(meters: &FleetMeters) -> Vec<Meter> {
    let level = |value: u64| Reading::Level(value as f64);
    let mut all = vec![
        meter("ekiden_fleet_generation", "The newest generation.", level(meters.generation)),
        meter("ekiden_fleet_objects", "Objects of the newest generation.", level(meters.objects)),
        meter(
            "ekiden_fleet_routers_behind",
            "Connected routers that do not have the newest generation.",
            level(meters.behind),
        ),
        meter("ekiden_fleet_refusals", "Parts that connected routers refuse.", level(meters.refused)),
        meter(
            "ekiden_fleet_turned_away_total",
            "Links of routers that were not let in.",
            Reading::Count(meters.turned_away),
        ),
        meter(
            "ekiden_fleet_propagation_seconds",
            "From a publish to the workers of each connected router.",
            Reading::Durations(
                &PROPAGATION_BOUNDS_US,
                meters.propagation.buckets.to_vec(),
                meters.propagation.sum_us,
            ),
        ),
    ];
    for (state, count) in [("connected", meters.connected), ("gone", meters.gone)] {
        all.push(Meter {
            labels: vec![("state", state.to_owned())],
            ..meter("ekiden_fleet_routers", "Routers by state.", level(count))
        });
    }
    for (kind, count) in [("snapshot", meters.snapshots), ("delta", meters.deltas)] {
        all.push(Meter {
            labels: vec![("begun_with", kind.to_owned())],
            ..meter(
                "ekiden_fleet_links_total",
                "Links of routers by what they began with.",
                Reading::Count(count),
            )
        });
    }
    all
}
