//! What the process says of itself to machines: `/metrics`, `/livez` and `/readyz`, read-only, on an address and a
//! thread of their own. Nothing here runs on a worker; workers write atomics, this reads them. Counts nothing itself
//! but the series it had to leave out.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ekiden_core::stats::{HistogramSnapshot, WorkerShard};
use ekiden_core::table::Table;

use crate::record::LogMeters;
use crate::tls::{CertificateState, IdentityState};

mod alone;
mod collect;
mod connection_limits;
mod dynos;
mod family;
mod grpc;
mod health;
mod http2;
mod limits;
mod outside;
mod overload;
mod process;
mod publishing;
mod readiness;
mod resilience;
mod server;
mod shards;
mod spread;
mod stores;
#[cfg(test)]
mod tests;
mod tls;

pub use alone::serve_alone;
pub use dynos::DynoMeters;
pub use health::{BEAT_MAX, FIRST_CHECKS_MAX};
pub use server::Telemetry;

/// Most label sets of one metric family in one scrape; the rest is left out and counted in
/// `ekiden_series_dropped_total`. The walk is in the order of the table, so that it is the same ones in each scrape.
pub const SERIES_MAX: usize = 20_000;

/// The state of publishing, as told by the swap.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Status {
    /// Why the table in force is not the one that the configuration asks for; none when it is.
    pub stale: Option<String>,
    /// Generation in force; 0 before the first.
    pub generation: u64,
    /// When it came into force, milliseconds since the Unix epoch; 0 before the first.
    pub applied_unix_ms: u64,
    /// From publish to the last worker's acknowledgement, of the last swap, in microseconds.
    pub apply_last_us: u64,
    /// The same over all swaps.
    pub applies: HistogramSnapshot,
    /// Reloads of the configuration that were taken.
    pub reloads_ok: u64,
    /// Reloads that were refused, in whole or in part.
    pub reloads_failed: u64,
    /// Time of the last reload that was taken, milliseconds since the Unix epoch; 0 before the first.
    pub last_reload_unix_ms: u64,
    /// Dynos that control runs; none when it runs none.
    pub dynos: Option<DynoMeters>,
    /// Workers that have not taken the newest generation within the time they have for it.
    pub pending_workers: Vec<usize>,
    /// Metrics of control's, which this crate does not know.
    pub more: Vec<Meter>,
}

/// A metric that is told from outside: one sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Meter {
    /// Its name; samples of one name stand together.
    pub name: &'static str,
    /// What it is.
    pub help: &'static str,
    /// Label names with their values. Bounded by who tells it.
    pub labels: Vec<(&'static str, String)>,
    /// Its value.
    pub value: Reading,
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Reading {
    /// Of a counter.
    Count(u64),
    /// Of a gauge.
    Level(f64),
    /// Of a histogram of durations in microseconds: upper bounds, counts of each bucket (one more than bounds), and the sum.
    Durations(&'static [u64], Vec<u64>, u64),
}

/// Tells the state of publishing. Called on the telemetry thread, once a scrape; may lock, must not wait.
pub trait StatusSource: Send + Sync {
    /// The state now.
    fn status(&self) -> Status;
}

/// What one worker last said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerState {
    /// Generation of the table it serves; 0 before the first.
    pub generation: u64,
    /// Whether it accepts on every listener of that table; else which not, and why.
    pub accepting: Result<(), String>,
    /// Time since it last ran a tick.
    pub beat_age: Duration,
}

/// Tells whether the process can serve. Called on the telemetry thread for each `/readyz` and `/livez`; reads what
/// the workers wrote, so that readiness is judged on them; must not wait for them.
pub trait Readiness: Send + Sync {
    /// One entry per worker; empty while they start.
    fn workers(&self) -> Vec<WorkerState>;
    /// Whether the process has been told to end.
    fn draining(&self) -> bool;
}

/// Everything telemetry reads.
#[derive(Clone)]
pub struct Sources {
    /// The table in force.
    pub table: Arc<dyn Fn() -> Arc<Table> + Send + Sync>,
    /// The shard of each worker.
    pub workers: Vec<Arc<WorkerShard>>,
    /// The state of publishing.
    pub status: Arc<dyn StatusSource>,
    /// The state of the workers.
    pub readiness: Arc<dyn Readiness>,
    /// What the table of clients could not hold.
    pub crowding: Arc<dyn Fn() -> Crowding + Send + Sync>,
    /// The certificates of TLS listeners.
    pub certificates: Arc<dyn Fn() -> Arc<Vec<CertificateState>> + Send + Sync>,
    /// What endpoints are shown.
    pub identities: Arc<dyn Fn() -> Arc<Vec<IdentityState>> + Send + Sync>,
    /// Memory and open files.
    pub ceilings: Arc<dyn Fn() -> [Nearness; 2] + Send + Sync>,
    /// Stores of shared limits.
    pub stores: Arc<dyn Fn() -> Vec<Arc<crate::store::Store>> + Send + Sync>,
    /// Counts of the access log.
    pub log: Arc<LogMeters>,
    /// When the process started; first checks have [`FIRST_CHECKS_MAX`] from then on.
    pub started: Instant,
}

/// How near the process is to one of its ceilings.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nearness {
    /// What is used.
    pub used: u64,
    /// The ceiling; 0 where there is none.
    pub ceiling: u64,
    /// How many priorities are refused.
    pub level: u8,
}

/// New connections whose client had no place of its own in the table of clients.
#[derive(Debug, Clone, Copy, Default)]
pub struct Crowding {
    /// It took over the place of a client that had nothing open.
    pub taken_over: u64,
    /// It shared one.
    pub shared: u64,
}

/// What the telemetry thread keeps between two requests.
struct State {
    sources: Sources,
    /// Set once every first check has been answered or its time is over; a later endpoint does not unset it.
    settled: AtomicBool,
    series_max: usize,
    /// Series left out so far, by family.
    left_out: Mutex<BTreeMap<&'static str, u64>>,
}

impl State {
    fn new(sources: Sources, series_max: usize) -> Self {
        Self { sources, settled: false.into(), series_max, left_out: Mutex::default() }
    }
}
