//! Telemetry of a process without a data path: what control tells, and the process itself.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ekiden_config::doors::Generation;
use ekiden_config::model::Address;
use ekiden_core::table::Table;

use super::{Crowding, Nearness, Readiness, Sources, Status, StatusSource, Telemetry, WorkerState};
use crate::record::LogMeters;
use crate::router::ControlStatus;

struct Alone<F> {
    control: F,
}

impl<F: Fn() -> ControlStatus + Send + Sync> StatusSource for Alone<F> {
    fn status(&self) -> Status {
        let ControlStatus { stale, reloads_ok, reloads_failed, last_reload_unix_ms, dynos, more } =
            (self.control)();
        Status { stale, reloads_ok, reloads_failed, last_reload_unix_ms, dynos, more, ..Status::default() }
    }
}

impl<F: Fn() -> ControlStatus + Send + Sync> Readiness for Alone<F> {
    /// There is none to wait for: one that serves at once stands for them.
    fn workers(&self) -> Vec<WorkerState> {
        vec![WorkerState { generation: 1, accepting: Ok(()), beat_age: Duration::ZERO }]
    }

    fn draining(&self) -> bool {
        false
    }
}

/// Serves `/metrics`, `/livez` and `/readyz` of a process without a data path. `control` is asked at each scrape.
///
/// # Errors
/// When its thread cannot be made; a busy address is retried and no error.
pub fn serve_alone(
    address: Address,
    control: impl Fn() -> ControlStatus + Send + Sync + 'static,
) -> io::Result<Telemetry> {
    let alone = Arc::new(Alone { control });
    // One that is there: nobody waits for a first one.
    let mut table = Table::empty();
    table.generation = Generation(1);
    let table = Arc::new(table);
    let sources = Sources {
        table: Arc::new(move || Arc::clone(&table)),
        workers: Vec::new(),
        status: Arc::clone(&alone) as Arc<dyn StatusSource>,
        readiness: alone,
        crowding: Arc::new(Crowding::default),
        certificates: Arc::new(Arc::default),
        identities: Arc::new(Arc::default),
        stores: Arc::new(Vec::new),
        ceilings: Arc::new(|| [Nearness::default(); 2]),
        log: Arc::new(LogMeters::default()),
        started: Instant::now(),
    };
    Telemetry::start(address, sources)
}
