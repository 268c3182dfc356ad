//! Runs the checks: one task per incarnation whose cluster has a probe, all on one thread of their own. Follows the
//! table: what is new is checked at once, what changed policy is armed anew with its health kept, what left is never
//! checked again.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use ekiden_config::doors::Observations;
use ekiden_config::model::{Address, ProbePolicy};
use ekiden_config::names::{AppName, ClusterName};
use ekiden_core::cell::{EndpointCell, Incarnation};
use ekiden_core::cluster::{ClusterTable, EndpointEntry};
use ekiden_core::health::{Health, ProbeState, Transition};
use ekiden_core::readiness::{Change, State};
use ekiden_core::shard::hot::HotBoard;
use ekiden_core::table::Table;
use rustc_hash::{FxHashMap, FxHashSet};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::refresh::Stale;
use super::shared::Shared;
use super::{Factory, Probe, Suspects, Target, embedded, hot, judge, load, ramp};

/// First checks that start at once when a table brings many; the next as many follow every [`WAVE_GAP`].
const WAVE: u32 = 64;
const WAVE_GAP: Duration = Duration::from_millis(5);

/// Told of a cluster whose ready set was refreshed.
pub type OnChange = dyn Fn(&AppName, &ClusterName) + Send + Sync;

/// Says how an endpoint is connected to now; an error is the reason why it cannot be, for people.
pub type Targets = dyn Fn(&Incarnation) -> Result<Target, String> + Send + Sync;

/// What the prober needs of the router.
#[derive(Clone)]
pub struct Hooks {
    /// The table in force.
    pub table: Arc<dyn Fn() -> Arc<Table> + Send + Sync>,
    /// Called on the probe thread after the ready set of a cluster was refreshed; must not block. Wakes the requests
    /// that wait for a first check.
    pub on_change: Arc<OnChange>,
    /// Where workers report endpoints that evidence speaks against.
    pub suspects: Arc<Suspects>,
    /// Where changes of state are told to control.
    pub observations: Observations,
    /// Whether an address is this process's own control or telemetry address; such a one is never connected to.
    pub is_own: Arc<dyn Fn(&Address) -> bool + Send + Sync>,
    /// How an endpoint is connected to now.
    pub target: Arc<Targets>,
    /// The clusters that are watched for hot keys.
    pub hot: Arc<HotBoard>,
    /// When the clock of the workers began.
    pub started: std::time::Instant,
}

/// Holds the probe thread. Dropping it ends the thread and every check under way.
#[derive(Debug)]
pub struct Prober {
    tables: Option<watch::Sender<Arc<Table>>>,
    thread: Option<JoinHandle<()>>,
}

impl Prober {
    /// Starts the thread with the embedded probes, on the table in force. `seed` decides the jitter of the intervals.
    pub fn start(hooks: Hooks, seed: u64) -> io::Result<Self> {
        Self::start_with(hooks, seed, embedded())
    }

    /// As [`Prober::start`], with probes of the caller's.
    pub fn start_with(hooks: Hooks, seed: u64, factory: Factory) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let (tables, mut news) = watch::channel((hooks.table)());
        news.mark_changed();
        let thread = std::thread::Builder::new().name("ekiden-probe".into()).spawn(move || {
            runtime.block_on(follow(news, hooks, seed, factory));
        })?;
        Ok(Self { tables: Some(tables), thread: Some(thread) })
    }

    /// Follows another table. Returns at once; a table that was not looked at yet is skipped. Called on each swap,
    /// after the table is in force.
    pub fn retable(&self, table: Arc<Table>) {
        if let Some(tables) = &self.tables {
            tables.send_replace(table);
        }
    }

    /// Ends every check and the thread.
    pub fn stop(mut self) {
        self.tables = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn follow(mut tables: watch::Receiver<Arc<Table>>, hooks: Hooks, seed: u64, factory: Factory) {
    let stale = Arc::new(Stale::default());
    let refresher = tokio::spawn({
        let (stale, hooks) = (stale.clone(), hooks.clone());
        async move { stale.run(&hooks).await }
    });
    let ticking = tokio::spawn(hot::run(Arc::clone(&hooks.hot)));
    let shared = Arc::new(Shared::new(hooks, seed, stale, factory));
    let judging = tokio::spawn(judge::run(Arc::clone(&shared)));
    let mut rounds = Rounds {
        shared,
        table: Arc::new(Table::empty()),
        tasks: FxHashMap::default(),
        asking: FxHashMap::default(),
    };
    while tables.changed().await.is_ok() {
        let table = tables.borrow_and_update().clone();
        rounds.retable(table);
    }
    judging.abort();
    ticking.abort();
    refresher.abort();
}

/// One endpoint's running task.
struct Task {
    handle: AbortHandle,
    policy: ProbePolicy,
}

/// The tasks of the table followed last, by the uid of the cell.
struct Rounds {
    shared: Arc<Shared>,
    table: Arc<Table>,
    tasks: FxHashMap<u64, Task>,
    /// The clusters whose endpoints are asked for their load. Their tasks end by themselves.
    asking: FxHashMap<(AppName, ClusterName), AbortHandle>,
}

impl Rounds {
    /// Arms and ends tasks for what differs from the last table; unchanged parts are pointer-equal and cost nothing.
    fn retable(&mut self, next: Arc<Table>) {
        let last = std::mem::replace(&mut self.table, next.clone());
        let mut armed = 0;
        next.changed_clusters(&last, |before, after| match after {
            Some(after) => self.cluster(before.map(|table| &**table), after, &mut armed),
            None => before.into_iter().for_each(|before| self.end_all(before)),
        });
    }

    fn cluster(&mut self, before: Option<&ClusterTable>, after: &ClusterTable, armed: &mut u32) {
        if let Some(before) = before.filter(|before| before.cluster.policy.probe.is_some()) {
            let kept: FxHashSet<u64> = after.endpoints.iter().map(|entry| entry.cell.uid()).collect();
            for entry in before.endpoints.iter().filter(|entry| !kept.contains(&entry.cell.uid())) {
                self.end(entry);
            }
        }
        match &after.cluster.policy.probe {
            None => self.end_all(after),
            Some(policy) => self.arm_all(after, policy, armed),
        }
        if after.cluster.policy.probe_load.is_some() {
            self.ask_for_load(after);
        }
        self.warm(before, after);
        // A check answered between compile and swap changed a cell this table may not have seen.
        after.catch_up();
    }

    fn arm_all(&mut self, cluster: &ClusterTable, policy: &ProbePolicy, armed: &mut u32) {
        let mut probe: Option<Arc<dyn Probe>> = None;
        for entry in cluster.endpoints.iter() {
            let uid = entry.cell.uid();
            if self.tasks.get(&uid).is_some_and(|task| task.policy == *policy) {
                continue;
            }
            self.end(entry);
            let probe = probe.get_or_insert_with(|| (self.shared.factory)(&policy.kind)).clone();
            let watch = Watch {
                cell: entry.cell.clone(),
                probe,
                policy: policy.clone(),
                shared: self.shared.clone(),
                random: fastrand::Rng::with_seed(self.shared.seed ^ uid),
            };
            let handle = tokio::spawn(watch.run(WAVE_GAP * (*armed / WAVE))).abort_handle();
            self.tasks.insert(uid, Task { handle, policy: policy.clone() });
            *armed = armed.saturating_add(1);
        }
    }

    /// Has the endpoints asked for their load, unless they are.
    fn ask_for_load(&mut self, cluster: &ClusterTable) {
        self.asking.retain(|_, task| !task.is_finished());
        let place = (cluster.app.clone(), cluster.cluster.name.clone());
        self.asking.entry(place).or_insert_with_key(|(app, name)| {
            tokio::spawn(load::run(Arc::clone(&self.shared), app.clone(), name.clone())).abort_handle()
        });
    }

    /// Brings endpoints that are new in a cluster to their full share, where that takes time.
    fn warm(&self, before: Option<&ClusterTable>, after: &ClusterTable) {
        let span = after.cluster.policy.readiness.slow_start;
        if span.is_zero() {
            return;
        }
        let known: FxHashSet<u64> = before
            .into_iter()
            .flat_map(|table| table.endpoints.iter())
            .map(|entry| entry.cell.uid())
            .collect();
        for entry in after.endpoints.iter() {
            if entry.cell.is_warming() && !known.contains(&entry.cell.uid()) {
                tokio::spawn(ramp::run(Arc::clone(&self.shared), Arc::clone(&entry.cell), span));
            }
        }
    }

    fn end_all(&mut self, cluster: &ClusterTable) {
        if !self.tasks.is_empty() {
            cluster.endpoints.iter().for_each(|entry| self.end(entry));
        }
    }

    fn end(&mut self, entry: &EndpointEntry) {
        if let Some(task) = self.tasks.remove(&entry.cell.uid()) {
            task.handle.abort();
        }
    }
}

/// The checks of one endpoint.
struct Watch {
    cell: Arc<EndpointCell>,
    probe: Arc<dyn Probe>,
    policy: ProbePolicy,
    shared: Arc<Shared>,
    random: fastrand::Rng,
}

impl Watch {
    async fn run(mut self, delay: Duration) {
        let (reason, since) = self.cell.reason();
        let mut state = ProbeState::resume(Some(&self.policy), self.cell.health(), reason, since);
        let mut next = Instant::now() + delay;
        loop {
            tokio::time::sleep_until(next).await;
            let Some(permit) = self.shared.permit().await else { return };
            next = Instant::now() + self.policy.interval.mul_f64(0.9 + 0.2 * self.random.f64());
            // The removal is marked before it is acknowledged, and this task hears of it a moment later.
            if self.cell.is_gone() {
                return;
            }
            let verdict = self.shared.check(&*self.probe, &self.cell, self.policy.timeout).await;
            drop(permit);
            if let Some(transition) = state.verdict(verdict, self.shared.clock.now().unix_ms) {
                self.changed(&transition);
            }
        }
    }

    fn changed(&self, transition: &Transition) {
        if !self.cell.apply(transition) || self.cell.is_gone() {
            return;
        }
        let state = |health: Health| match health {
            Health::Starting => State::Starting,
            Health::Ready => State::Ready,
            Health::Failing => State::Failing,
        };
        let (from, to) = (state(transition.from), state(transition.to));
        self.shared.changed(&self.cell, &Change { from, to, reason: transition.reason.clone() });
        if transition.to == Health::Ready && self.cell.is_warming() {
            let (app, cluster) = self.cell.incarnation().place();
            let table = (self.shared.hooks.table)();
            let span =
                table.cluster_named(app, cluster).map(|table| table.cluster.policy.readiness.slow_start);
            tokio::spawn(ramp::run(
                Arc::clone(&self.shared),
                Arc::clone(&self.cell),
                span.unwrap_or_default(),
            ));
        }
    }
}
