//! A cluster as workers see it: endpoints with their cells, and the ready set that picks are drawn from.
//!
//! A table's endpoints never change; only the ready set is replaced, off the workers, when readiness does. Does not
//! connect, check or wait.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use ekiden_config::doors::EndpointStatus;
use ekiden_config::model::{Balance, Cluster, Endpoint, ShardKind};
use ekiden_config::names::{AppName, EndpointId};

use crate::cell::load::Load;
use crate::cell::{CellRegistry, EndpointCell, TRIAL};
use crate::cluster::marks::Marks;
use crate::pick::layout::Layout;
use crate::pick::prequal::Reports;
use crate::pick::ready::{ReadySet, Shared};
use crate::pick::silence::Silence;
use crate::readiness::State;
use crate::shard::Shards;
use crate::shard::pick::{self as shard_pick, Ask};
use crate::stats::ClusterCell;

pub mod explain;
pub mod marks;

pub use crate::pick::{Attempt, Pick};

/// Endpoints that are looked at for the load of a cluster: an ambassador has one, or a few.
const LOADS_SEEN: usize = 32;

/// An endpoint of a cluster with its live state.
#[derive(Debug, Clone)]
pub struct EndpointEntry {
    /// What the model says of it.
    pub endpoint: Arc<Endpoint>,
    /// What is known of it now.
    pub cell: Arc<EndpointCell>,
}

/// A cluster of one table.
#[derive(Debug)]
pub struct ClusterTable {
    /// The app that owns it.
    pub app: AppName,
    /// What the model says of it.
    pub cluster: Arc<Cluster>,
    /// Its endpoints in the order of the model, which is by id. An index into it is good for this table only.
    pub endpoints: Arc<[EndpointEntry]>,
    /// Its counts and its round robin cursor, which outlive the table.
    pub cell: Arc<ClusterCell>,
    /// Where keys belong; none where no key decides.
    shards: Option<Shards>,
    /// What endpoints say of their load; none where the picker does not ask.
    reports: Option<Box<Reports>>,
    /// The same of each group; empty where the picker does not ask, or there are no groups.
    of_groups: Box<[Reports]>,
    /// Who says nothing of it; none where the picker does not ask.
    silence: Option<Box<Silence>>,
    /// The turn of round robin in each group; outlives the ready sets.
    cursors: Box<[AtomicU32]>,
    /// How its endpoints are grouped; none where they are all alike to this router.
    layout: Option<Box<Layout>>,
    /// What clients carry of its endpoints; none where they carry nothing.
    marks: Option<Marks>,
    ready: ArcSwap<ReadySet>,
    /// Held while a ready set is built and stored, so that an older view never replaces a newer one; holds the
    /// value of the cell's `readiness` count that the set in force was built at. Never locked on a worker.
    built_at: Mutex<u64>,
}

/// What becomes of an attempt at the endpoint that a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Affine {
    /// It gets it.
    Takes,
    /// It is ready, and cannot take this one now: its slots are taken, or it comes back from an ejection.
    Busy,
    /// It was tried.
    Tried,
    /// It is not ready, or not there.
    Away,
}

impl ClusterTable {
    /// Compiles a cluster. Takes over the cells of the incarnations that the registry knows and sets their drain
    /// marks; what is not in `cluster` any more goes to [`CellRegistry::take_removed`]. O(endpoints), no hashing.
    /// Called by the compiler, once per changed cluster.
    pub fn new(app: AppName, cluster: Arc<Cluster>, registry: &mut CellRegistry) -> Self {
        let (cell, endpoints) = registry.cluster(&app, &cluster);
        let built_at = cell.readiness.load(Ordering::SeqCst);
        let shards = registry.shards(&app, &cluster);
        let layout = Layout::new(&cluster, registry.stand()).map(Box::new);
        let ready = ready_set(&endpoints, &cluster, shards.as_ref(), layout.as_deref());
        let groups = layout.as_ref().filter(|_| cluster.policy.balance == Balance::Prequal);
        let per_pick = cluster.policy.probe_load.as_ref().map_or(0, |probes| probes.per_request_percent);
        let of_groups = groups.map_or_else(Box::default, |layout| {
            let members = (0..).zip(layout.groups()).map(|(group, _)| layout.members(group));
            members.map(|members| Reports::new(members.len(), per_pick)).collect()
        });
        let is_told = cluster.policy.balance == Balance::Prequal;
        let reports = is_told.then(|| Box::new(Reports::new(endpoints.len(), per_pick)));
        let silence = is_told.then(|| Box::new(Silence::new(endpoints.len())));
        let count = layout.as_ref().map_or(0, |layout| layout.groups().len());
        let cursors = (0..count).map(|_| AtomicU32::new(0)).collect();
        let marks = cluster.policy.affinity.as_ref().map(|_| Marks::new(&endpoints));
        Self {
            marks,
            app,
            cluster,
            endpoints,
            cell,
            shards,
            reports,
            of_groups,
            silence,
            cursors,
            layout,
            ready: ArcSwap::from_pointee(ready),
            built_at: Mutex::new(built_at),
        }
    }

    /// Chooses an endpoint that is ready now and was not tried.
    /// No lock and no allocation; called by workers for each attempt. `random` gives 64 fresh random bits and is
    /// not called when one endpoint only is ready, nor by round robin unless weights are too many for a sequence or
    /// an endpoint is warming.
    pub fn pick(&self, attempt: Attempt<'_>, random: &mut dyn FnMut() -> u64) -> Pick {
        if self.endpoints.is_empty() {
            return Pick::NoEndpoints;
        }
        let shared = Shared {
            cursor: &self.cell.cursor,
            cursors: &self.cursors,
            reports: self.reports.as_deref(),
            of_groups: &self.of_groups,
            silence: self.silence.as_deref(),
        };
        self.ready.load().pick(&self.endpoints, attempt, shared, random)
    }

    /// Whether picks go by what endpoints say of their load.
    #[inline]
    pub fn takes_reports(&self) -> bool {
        self.reports.is_some()
    }

    /// An endpoint has answered a request, or was asked for its load, and said nothing of it. Called by workers and the prober.
    pub fn said_nothing(&self, index: u32, now_us: u64) {
        if let Some(silence) = &self.silence {
            silence.missed(index, now_us);
        }
    }

    /// Takes in what an endpoint said of its load: when it was said, and now. Called by workers and the prober.
    pub fn report(&self, index: u32, load: Load, (at_us, now_us): (u64, u64)) {
        if let Some(silence) = &self.silence {
            silence.heard(index, now_us);
        }
        // What is not in the subset was asked for want of others, and is not asked again for what it says.
        if self.layout.as_ref().is_some_and(|layout| !layout.holds(index)) {
            return;
        }
        let group =
            self.layout.as_ref().and_then(|layout| self.of_groups.get(layout.group_of(index) as usize));
        let reports = group.or(self.reports.as_deref());
        if let (Some(reports), Some(entry)) = (reports, self.endpoints.get(index as usize)) {
            // It has what this router has sent there, whatever it says: the answered request aside, which may still count.
            let known = entry.cell.in_flight().saturating_sub(1);
            let load = Load { requests: load.requests.max(known), ..load };
            reports.take_in(index, entry.endpoint.weight, load, (at_us, now_us));
        }
    }

    /// How many endpoints are to be asked for their load now, at most so many: as many as picks have brought since the last call.
    pub fn take_load_probes(&self, most: u32) -> u32 {
        let all = self.of_groups.iter().chain(self.reports.as_deref());
        all.fold(0, |owed, reports| owed + reports.take_owed(most - owed))
    }

    /// An endpoint to ask for its load, drawn from those that are ready as requests are shared out: by group and weight.
    pub fn draw_ready(&self, random: &mut dyn FnMut() -> u64) -> Option<u32> {
        self.ready.load().drawn(random)
    }

    /// The load of the endpoint that would be the first to answer one more request, as it is now; none when no endpoint may get
    /// one. One of which nothing is known comes after those that have answered. Looks at some tens of them at most.
    pub fn load(&self, now_us: u64) -> Option<Load> {
        let line = self.line_each();
        let ready = self.endpoints.iter().take(LOADS_SEEN).filter(|entry| entry.cell.may_pick());
        let loads = ready.map(|entry| entry.cell.load((0, line), now_us));
        loads.min_by_key(|load| (load.latency_us == 0, load.latency_us, load.requests))
    }

    /// Requests that wait in the line for slots, as a part of each ready endpoint: whoever comes now comes after them.
    pub fn line_each(&self) -> u32 {
        match self.cell.gate.waiting() {
            0 => 0,
            waiting => waiting.div_ceil(u32::try_from(self.ready_count().max(1)).unwrap_or(u32::MAX)),
        }
    }

    /// Where keys belong; none where no key decides.
    #[inline]
    pub fn shards(&self) -> Option<&Shards> {
        self.shards.as_ref()
    }

    /// How the endpoints are grouped; none where they are all alike to this router.
    #[inline]
    pub fn layout(&self) -> Option<&Layout> {
        self.layout.as_deref()
    }

    /// Counts an attempt at an endpoint by its group. Costs one branch where there are no groups.
    #[inline]
    pub fn note_attempt(&self, index: u32, worker: usize) {
        if let Some(layout) = &self.layout {
            self.cell.note_group(layout, index, worker);
        }
    }

    /// What clients carry of the endpoints; none where they carry nothing.
    #[inline]
    pub fn marks(&self) -> Option<&Marks> {
        self.marks.as_ref()
    }

    /// Whether the endpoint that a client asks for gets its attempt. No lock and no allocation.
    pub fn affine(&self, at: u32, attempt: Attempt<'_>) -> Affine {
        let Some(entry) = self.endpoint(at) else { return Affine::Away };
        if attempt.tried.contains(&at) {
            return Affine::Tried;
        }
        let barred = self.ready.load().barred();
        let kept_from = if attempt.may_repeat { barred } else { barred | TRIAL };
        // Its own client is no share of new load: it does not wait for the endpoint to warm up.
        match (entry.cell.takes_now(kept_from, 0), entry.cell.takes(barred, 0)) {
            (true, _) => Affine::Takes,
            (false, true) => Affine::Busy,
            (false, false) => Affine::Away,
        }
    }

    /// Chooses an endpoint for a key, by the `shards` of this table: its own, a replica, or with a cache the next that is ready.
    /// No lock and no allocation; called by workers for each attempt. `random` is called for keys with several replicas.
    pub fn pick_shard(&self, shards: &Shards, ask: &Ask<'_>, random: &mut dyn FnMut() -> u64) -> Pick {
        if self.endpoints.is_empty() {
            return Pick::NoEndpoints;
        }
        shard_pick::pick(shards, &self.endpoints, &self.ready.load(), ask, random)
    }

    /// Rebuilds the ready set from the cells. To be called after any change of readiness, drain or gone mark in a
    /// cell, on the cluster of the table in force; off the workers. O(endpoints): a runner of many checks notes the
    /// changed clusters and refreshes each once per round.
    pub fn refresh_ready(&self) {
        // The count grows before the cells are read: see `catch_up`.
        let count = self.cell.readiness.fetch_add(1, Ordering::SeqCst) + 1;
        self.rebuild(count);
    }

    /// Rebuilds the ready set when a refresh ran, on any table of this cluster, after this one was built. The
    /// publisher calls it on each new cluster right after the swap: a check that was answered between compile and
    /// swap refreshed the old table, and the new one would not know. Returns whether it rebuilt.
    pub fn catch_up(&self) -> bool {
        let count = self.cell.readiness.load(Ordering::SeqCst);
        let stale = *self.built_at.lock().unwrap_or_else(PoisonError::into_inner) != count;
        if stale {
            self.rebuild(count);
        }
        stale
    }

    fn rebuild(&self, count: u64) {
        let mut built_at = self.built_at.lock().unwrap_or_else(PoisonError::into_inner);
        let layout = self.layout.as_deref();
        let ready = ready_set(&self.endpoints, &self.cluster, self.shards.as_ref(), layout);
        self.ready.store(Arc::new(ready));
        *built_at = (*built_at).max(count);
    }

    /// Endpoints that the ready set holds; at most a moment behind the cells.
    pub fn ready_count(&self) -> usize {
        self.ready.load().len()
    }

    #[cfg(test)]
    pub(crate) fn ready_barred(&self) -> u32 {
        self.ready.load().barred()
    }

    /// Whether ejected endpoints are served, because too few others are ready.
    pub fn is_panic(&self) -> bool {
        self.ready.load().is_panic()
    }

    /// Whether an endpoint that is neither gone nor draining has its first check outstanding, so that a request
    /// that finds nothing ready had better wait. As of the last refresh; no scan, for workers.
    pub fn first_check_pending(&self) -> bool {
        self.ready.load().first_check_pending()
    }

    /// The index of an endpoint by its id: finds in another table of the same cluster what was tried in this one.
    pub fn position(&self, id: &EndpointId) -> Option<u32> {
        let index = self.endpoints.binary_search_by(|entry| entry.endpoint.id.cmp(id)).ok()?;
        u32::try_from(index).ok()
    }

    /// The endpoint at an index that [`ClusterTable::pick`] gave.
    #[inline]
    pub fn endpoint(&self, index: u32) -> Option<&EndpointEntry> {
        self.endpoints.get(index as usize)
    }

    /// Live state of every endpoint, for people and the API. Locks cells: not for workers.
    pub fn status(&self) -> Vec<EndpointStatus> {
        let is_panic = self.is_panic();
        let served = |entry: &EndpointEntry| {
            let mut status = entry.cell.status();
            if is_panic && status.state == State::Ejected.word() {
                status.reason.push_str("; served all the same, because too few others are ready");
            }
            status
        };
        self.endpoints.iter().map(served).collect()
    }
}

fn ready_set(
    endpoints: &[EndpointEntry],
    cluster: &Cluster,
    shards: Option<&Shards>,
    layout: Option<&Layout>,
) -> ReadySet {
    let policy = &cluster.policy;
    let panic_threshold = policy.readiness.panic_threshold;
    let ready = match &policy.shard {
        // An ejected shard of a store is not served by others, so there is nothing to panic about.
        Some(words) if words.kind == ShardKind::Store => ReadySet::strict(endpoints, policy.balance),
        Some(_) | None => match layout {
            Some(layout) => ReadySet::laid_out(endpoints, policy.balance, panic_threshold, layout),
            None => ReadySet::new(endpoints, policy.balance, panic_threshold),
        },
    };
    if let Some(hot) = shards.and_then(|shards| shards.hot.as_ref()) {
        hot.set_ready(ready.len());
    }
    ready
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
