//! The router as one thing: threads started, doors handed out, drain and end.
//!
//! Used by the binary and by tests. Does not parse command lines or files.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ekiden_config::doors::{
    AppTraffic, EndpointStatus, Explanation, Generation, GroupStory, Inspect, Observations, Question,
    ShardStatus, StoreStatus, Unexplained,
};
use ekiden_config::model::{AccessLog, Address, OverloadPolicy, Place};
use ekiden_config::names::{AppName, ClusterName};
use ekiden_core::cell::Incarnation;
use ekiden_core::outcome::{Cause, Phase};
use ekiden_core::shard::hot::HotBoard;
use ekiden_core::stats::{BOUNDS_US, BUCKETS, Counter, class};
use ekiden_core::table::Table;

use crate::aside;
use crate::explain;
use crate::listen::Inherited;
use crate::overload;
use crate::probe::{Hooks, Prober, Target};
use crate::record::Scribe;
use crate::shared::{Shared, retire_all};
use crate::swap::{Swap, SwapStatus, Swapper};
use crate::telemetry::{
    Crowding, DynoMeters, Meter, Readiness, Sources, Status, StatusSource, Telemetry, WorkerState,
};
use crate::tls::watch;
use crate::worker::mailbox::Message;
use crate::worker::thread;

/// Time the log thread has to write what it holds at the end.
const LOG_DRAIN: Duration = Duration::from_secs(2);
/// Descriptors kept for logs, probes, control and telemetry.
const DESCRIPTORS_KEPT: u64 = 256;

/// What a router is started with.
pub struct Options {
    /// Worker threads, at least one.
    pub workers: usize,
    /// The access log.
    pub access_log: AccessLog,
    /// Client connections one worker serves at once; none derives it from the descriptor limit.
    pub max_connections: Option<u32>,
    /// Ceilings from which requests are refused.
    pub overload: OverloadPolicy,
    /// Where it stands among other routers and among endpoints.
    pub place: Place,
    /// Sockets handed over by the service manager.
    pub inherited: Inherited,
    /// Directory that relative paths of certificates go by: that of the process file.
    pub base_dir: PathBuf,
    /// Called when a worker thread has died; the process must end non-zero.
    pub on_fatal: Arc<dyn Fn(String) + Send + Sync>,
}

/// What control tells about itself for `/readyz` and metrics.
#[derive(Debug, Clone, Default)]
pub struct ControlStatus {
    /// Why the table in force is not the one asked for.
    pub stale: Option<String>,
    /// Reloads taken.
    pub reloads_ok: u64,
    /// Reloads refused, in whole or part.
    pub reloads_failed: u64,
    /// Time of the last reload taken, milliseconds since the Unix epoch.
    pub last_reload_unix_ms: u64,
    /// Dynos that control runs; none when it runs none.
    pub dynos: Option<DynoMeters>,
    /// Further metrics of control's.
    pub more: Vec<Meter>,
}

/// A running router.
pub struct Router {
    shared: Arc<Shared>,
    state: Arc<State>,
    swap: Mutex<Option<Swap>>,
    scribe: Option<Scribe>,
    workers: Vec<JoinHandle<()>>,
    _prober: Arc<Mutex<Option<Prober>>>,
    certificates: watch::Asking,
}

struct State {
    shared: Arc<Shared>,
    swap: Arc<Mutex<SwapStatus>>,
    control: Box<dyn Fn() -> ControlStatus + Send + Sync>,
    draining: Arc<AtomicBool>,
}

impl Router {
    /// Starts workers, log thread, prober and swapper. Nothing is served before the first publish.
    ///
    /// # Errors
    /// When a thread, a runtime or the access log cannot be made.
    pub fn start(options: Options) -> io::Result<Self> {
        let workers = options.workers.max(1);
        let (shared, retired) = Shared::new(workers, options.base_dir);
        let (recorders, scribe) = Scribe::start(&options.access_log, workers)?;
        let prober: Arc<Mutex<Option<Prober>>> = Arc::default();
        let for_tables = Arc::clone(&prober);
        let on_table = Box::new(move |table: &Arc<Table>| {
            if let Some(prober) = for_tables.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
                prober.retable(Arc::clone(table));
            }
        });
        let (swapper, swap, publishes) =
            Swapper::new(Arc::clone(&shared), (options.inherited, &options.place), on_table);
        let (status, hot) = (swapper.status(), swapper.hot_board());
        spawn("ekiden-swap", move || {
            aside::give_way();
            swapper.run(publishes);
        })?;
        spawn("ekiden-retire", move || {
            aside::give_way();
            retire_all(&retired);
        })?;
        let (certificates, asked) = watch::door();
        let (hub, trusts, keyring) =
            (Arc::clone(&shared.tls), Arc::clone(&shared.trusts), Arc::clone(&shared.keyring));
        spawn("ekiden-certs", move || {
            aside::give_way();
            watch::run(&hub, &trusts, &keyring, &asked);
        })?;
        *prober.lock().unwrap_or_else(PoisonError::into_inner) = Some(start_prober(&shared, hot)?);
        shared.ceilings.configure(options.overload);
        if shared.ceilings.are_set() {
            let (watched, files_most) = (Arc::downgrade(&shared), descriptor_limit());
            spawn("ekiden-overload", move || {
                aside::give_way();
                overload::watch(&watched, files_most);
            })?;
        }
        let bound = connection_bound(options.max_connections, workers);
        shared.know_clients(bound.saturating_mul(workers as u64));
        let mut threads = Vec::with_capacity(workers);
        for (id, recorder) in recorders.into_iter().enumerate() {
            let start = thread::Start { id, shared: Arc::clone(&shared), recorder, max_connections: bound };
            let on_fatal = Arc::clone(&options.on_fatal);
            threads.push(spawn(&format!("ekiden-worker-{id}"), move || {
                match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| thread::run(start))) {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => on_fatal(format!("worker {id} cannot run: {error}")),
                    Err(_) => on_fatal(format!("worker {id} panicked")),
                }
            })?);
        }
        let state = State {
            shared: Arc::clone(&shared),
            swap: status,
            control: Box::new(ControlStatus::default),
            draining: Arc::default(),
        };
        Ok(Self {
            shared,
            state: Arc::new(state),
            swap: Mutex::new(Some(swap)),
            scribe: Some(scribe),
            workers: threads,
            _prober: prober,
            certificates,
        })
    }

    /// The down door; the first call gets it.
    pub fn publisher(&self) -> Option<Swap> {
        self.swap.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The aside door.
    pub fn inspect(&self) -> Arc<dyn Inspect> {
        Arc::clone(&self.state) as Arc<dyn Inspect>
    }

    /// The up door.
    pub fn observations(&self) -> Observations {
        self.shared.observations.clone()
    }

    /// Tells which addresses control and telemetry are served on.
    pub fn set_own_addresses(&self, addresses: Vec<Address>) {
        self.shared.set_own_addresses(addresses);
    }

    /// Serves metrics and readiness on an address. `control` is asked at each scrape.
    ///
    /// # Errors
    /// When its thread cannot be made; a busy address is retried and no error.
    pub fn serve_telemetry(
        &self,
        address: Address,
        control: impl Fn() -> ControlStatus + Send + Sync + 'static,
    ) -> io::Result<Telemetry> {
        let state = Arc::new(State {
            shared: Arc::clone(&self.shared),
            swap: Arc::clone(&self.state.swap),
            control: Box::new(control),
            draining: Arc::clone(&self.state.draining),
        });
        let (for_table, for_clients) = (Arc::clone(&self.shared), Arc::clone(&self.shared));
        let Some(scribe) = self.scribe.as_ref() else {
            return Err(io::Error::other("the router has stopped"));
        };
        Telemetry::start(
            address,
            Sources {
                table: Arc::new(move || for_table.table.load_full()),
                workers: self.shared.places.iter().map(|place| Arc::clone(&place.shard)).collect(),
                status: Arc::clone(&state) as Arc<dyn StatusSource>,
                readiness: state,
                crowding: Arc::new(move || {
                    let clients = &for_clients.known_clients().clients;
                    Crowding { taken_over: clients.taken_over(), shared: clients.sharing() }
                }),
                certificates: {
                    let hub = Arc::clone(&self.shared.tls);
                    Arc::new(move || hub.report())
                },
                identities: {
                    let trusts = Arc::clone(&self.shared.trusts);
                    Arc::new(move || trusts.report())
                },
                ceilings: {
                    let shared = Arc::clone(&self.shared);
                    Arc::new(move || shared.ceilings.nearness())
                },
                stores: {
                    let shared = Arc::clone(&self.shared);
                    Arc::new(move || shared.stores.all())
                },
                log: scribe.meters(),
                started: self.shared.started,
            },
        )
    }

    /// Opens the access log again by its path. Called on SIGHUP.
    pub fn reopen_log(&self) -> bool {
        self.scribe.as_ref().is_none_or(|scribe| scribe.reopen(LOG_DRAIN))
    }

    /// Reads certificates and ticket keys again. Called on SIGHUP; done a moment later.
    pub fn reload_certificates(&self) {
        // Only a watch that has panicked is not there to be asked; the files it loaded go on serving.
        let _ends_with_the_router = self.certificates.send(watch::Ask::Reload);
    }

    /// Step one of an end: `/readyz` says so, and responses tell their clients to come back on a new connection, so that
    /// few are left when idle ones are closed.
    pub fn announce_drain(&self) {
        self.state.draining.store(true, Ordering::Release);
        self.shared.tell(|| Message::Leave);
    }

    /// Goes on accepting for a while after the announcement, so that balancers can look at `/readyz` first.
    pub fn await_grace(&self, grace: Duration, interrupted: impl Fn() -> bool) {
        let end = Instant::now() + grace;
        while Instant::now() < end && !interrupted() {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Step two: accept what is queued, close the listeners, end idle connections, finish the rest.
    pub fn drain(&self) {
        self.announce_drain();
        self.shared.tell(|| Message::CloseListeners);
        self.shared.tell(|| Message::Drain);
    }

    /// Client connections open now, over all workers.
    pub fn connections(&self) -> u64 {
        self.shared.places.iter().map(|place| place.shard.open.value()).sum()
    }

    /// Sockets that accept, over all workers.
    fn accepting(&self) -> u64 {
        (0..self.shared.places.len()).map(|id| self.shared.pulse(id).1).sum()
    }

    /// Waits until no client connection is open and no listener accepts; false when the time is over first or
    /// `interrupted` says so.
    pub fn await_idle(&self, within: Duration, interrupted: impl Fn() -> bool) -> bool {
        let deadline = Instant::now() + within;
        while Instant::now() < deadline && !interrupted() {
            // In this order: what a socket that still accepts lets in would be missed in the other.
            if self.accepting() == 0 && self.connections() == 0 {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }

    /// Last step: ends what is left, stops the workers and writes the log out.
    pub fn stop(mut self) {
        self.shared.tell(|| Message::CloseListeners);
        self.shared.tell(|| Message::Force);
        self.await_idle(Duration::from_secs(1), || false);
        self.shared.tell(|| Message::Stop);
        for worker in self.workers.drain(..) {
            // A worker that panicked has been reported by `on_fatal`.
            let _reported = worker.join();
        }
        if let Some(scribe) = self.scribe.take() {
            scribe.stop(LOG_DRAIN);
        }
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run)
}

fn start_prober(shared: &Arc<Shared>, hot: Arc<HotBoard>) -> io::Result<Prober> {
    let (for_table, for_change, for_own) = (Arc::clone(shared), Arc::clone(shared), Arc::clone(shared));
    let for_target = Arc::clone(shared);
    let hooks = Hooks {
        table: Arc::new(move || for_table.table.load_full()),
        on_change: Arc::new(move |_, _| for_change.tell(|| Message::Readiness)),
        is_own: Arc::new(move |address| for_own.is_own(address)),
        suspects: Arc::clone(&shared.suspects),
        observations: shared.observations.clone(),
        target: Arc::new(move |incarnation| target(&for_target, incarnation)),
        hot,
        started: shared.started,
    };
    Prober::start(hooks, fastrand::u64(..))
}

/// How an endpoint is connected to for a check: as the table in force says.
fn target(shared: &Shared, incarnation: &Incarnation) -> Result<Target, String> {
    let ((app, cluster), address) = (incarnation.place(), incarnation.address());
    let table = shared.table.load();
    let policy = table.cluster_named(app, cluster).map(|table| &table.cluster.policy);
    let protocol = policy.map(|policy| policy.protocol).unwrap_or_default();
    if policy.is_none_or(|policy| policy.tls.is_none()) {
        return Ok(Target { address: address.clone(), secure: None, protocol });
    }
    let place = (app.clone(), cluster.clone());
    let secure = shared.trusts.of(&place, address, incarnation.dns_name());
    let secure = secure.ok_or_else(|| Cause::TlsUnavailable.at(Phase::Connect).words().to_owned())?;
    Ok(Target { address: address.clone(), secure: Some(secure), protocol })
}

/// Connections of one worker: as configured, else what the descriptors suffice for.
fn connection_bound(configured: Option<u32>, workers: usize) -> u64 {
    let limit = descriptor_limit();
    let affordable = affordable_connections(limit, workers);
    let Some(configured) = configured.map(u64::from) else { return affordable };
    if configured > affordable {
        tracing::warn!(
            max_connections = configured,
            workers,
            descriptors = limit,
            affordable,
            "max_connections is more than the open files suffice for: a busy connection costs two; raise the limit of open \
             files (ulimit -n, LimitNOFILE=), or lower max_connections"
        );
    }
    configured
}

/// A busy connection costs two descriptors; the rest of the process needs some too.
fn affordable_connections(limit: u64, workers: usize) -> u64 {
    let kept = DESCRIPTORS_KEPT.min(limit / 2);
    ((limit - kept) / 2 / workers as u64).max(1)
}

#[expect(unsafe_code, reason = "getrlimit has no safe form in std")]
fn descriptor_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live, writable rlimit for the whole call.
    let failed = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0;
    if failed { 1024 } else { limit.rlim_cur }
}

impl Inspect for State {
    fn generation(&self) -> Generation {
        self.shared.generation()
    }

    fn endpoints(&self, app: &AppName, cluster: &ClusterName) -> Option<Vec<EndpointStatus>> {
        self.shared.table.load().cluster_named(app, cluster).map(|cluster| cluster.status())
    }

    fn stores(&self) -> Vec<StoreStatus> {
        self.shared.stores.all().iter().map(|store| store.status()).collect()
    }

    fn traffic(&self) -> Option<BTreeMap<AppName, AppTraffic>> {
        let mut apps: BTreeMap<AppName, AppTraffic> = BTreeMap::new();
        let table = self.shared.table.load();
        for entry in table.routes() {
            let shards = entry.cell.shards();
            if shards.is_empty() {
                continue;
            }
            let app = apps.entry(entry.app_name.clone()).or_insert_with(|| AppTraffic {
                buckets: vec![0; BUCKETS],
                bounds_us: BOUNDS_US.to_vec(),
                ..AppTraffic::default()
            });
            for shard in shards {
                app.requests += shard.requests.iter().map(Counter::value).sum::<u64>();
                app.errors += shard.requests.get(class(500)).map_or(0, Counter::value);
                let durations = shard.duration.snapshot();
                app.buckets.iter_mut().zip(durations.buckets).for_each(|(sum, count)| *sum += count);
            }
        }
        Some(apps)
    }

    fn shards(&self, app: &AppName, cluster: &ClusterName) -> Option<ShardStatus> {
        let table = self.shared.table.load();
        table.cluster_named(app, cluster)?.shards().map(|shards| shards.status())
    }

    fn groups(&self, app: &AppName, cluster: &ClusterName) -> Vec<GroupStory> {
        let table = self.shared.table.load();
        table.cluster_named(app, cluster).map_or_else(Vec::new, |cluster| cluster.groups())
    }

    fn explain(&self, question: &Question) -> Result<Explanation, Unexplained> {
        explain::explain(&self.shared.table.load_full(), &self.shared.keyring, question)
    }
}

impl StatusSource for State {
    fn status(&self) -> Status {
        let swap = self.swap.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let control = (self.control)();
        Status {
            stale: control.stale,
            generation: swap.generation,
            applied_unix_ms: swap.applied_unix_ms,
            apply_last_us: swap.apply_last_us,
            applies: swap.applies,
            reloads_ok: control.reloads_ok,
            reloads_failed: control.reloads_failed,
            last_reload_unix_ms: control.last_reload_unix_ms,
            dynos: control.dynos,
            more: control.more,
            pending_workers: swap.late,
        }
    }
}

impl Readiness for State {
    fn workers(&self) -> Vec<WorkerState> {
        let now_ms = u64::try_from(self.shared.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let wanted = self.shared.table.load().listeners.len() as u64;
        (0..self.shared.places.len())
            .map(|id| {
                let (beat_ms, accepting) = self.shared.pulse(id);
                let generation = self.shared.places.get(id).map_or(0, |place| place.shard.generation.value());
                let accepting = if accepting >= wanted {
                    Ok(())
                } else {
                    Err(format!("accepts on {accepting} of {wanted} listeners"))
                };
                WorkerState {
                    generation,
                    accepting,
                    beat_age: Duration::from_millis(now_ms.saturating_sub(beat_ms)),
                }
            })
            .collect()
    }

    fn draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
}
