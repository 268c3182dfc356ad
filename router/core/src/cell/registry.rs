//! Hands out cells: the same incarnation, route or cluster keeps its cell from table to table.
//!
//! Owned by the compiler and used on its thread only; workers see cells, never the registry. It knows the endpoints
//! of each cluster as of the last compile; an incarnation that is not in the next one leaves the registry and is
//! returned, to be marked gone. Should it come back later, it gets a fresh cell.

use std::cmp::Ordering;
use std::sync::Arc;

use ekiden_config::model::{Cluster, ClusterPolicy, Endpoint, Place, ShardFallback};
use ekiden_config::names::{AppName, ClusterName, RouteName};
use rustc_hash::FxHashMap;

use super::{ClusterPlace, EndpointCell, Incarnation};
use crate::cluster::EndpointEntry;
use crate::health::{self, Health};
use crate::overload::caps::AppUsage;
use crate::overload::hold::HoldGate;
use crate::pick::layout::Stand;
use crate::pick::subset::Seat;
use crate::policy::limit::Maker;
use crate::readiness::Event;
use crate::shard::hot::{HotBoard, HotKeys};
use crate::shard::{self, ShardMap, Shards};
use crate::stats::{ClusterCell, RouteCell};

#[derive(Debug)]
struct ClusterPart {
    cell: Arc<ClusterCell>,
    /// Its names, which its endpoints share.
    place: Arc<ClusterPlace>,
    endpoints: Arc<[EndpointEntry]>,
    /// The policy of the last compile; none before the first.
    policy: Option<Arc<ClusterPolicy>>,
    /// The shards of the last compile.
    shards: Option<Shards>,
}

#[derive(Debug, Default)]
struct AppPart {
    clusters: FxHashMap<ClusterName, ClusterPart>,
    routes: FxHashMap<RouteName, Arc<RouteCell>>,
    /// There once a route of the app had caps.
    usage: Option<Arc<AppUsage>>,
    /// There once the app was held.
    hold: Option<Arc<HoldGate>>,
}

/// All cells of the tables that this compiler makes.
#[derive(Debug)]
pub struct CellRegistry {
    workers: usize,
    now_unix_ms: u64,
    seed: [u64; 2],
    apps: FxHashMap<AppName, AppPart>,
    removed: Vec<Arc<EndpointCell>>,
    released: Vec<Arc<HoldGate>>,
    hot: Arc<HotBoard>,
    stand: Stand,
}

impl CellRegistry {
    /// An empty registry for a process with `workers` workers.
    pub fn new(workers: usize) -> Self {
        Self {
            workers: workers.max(1),
            now_unix_ms: 0,
            seed: [0; 2],
            apps: FxHashMap::default(),
            removed: Vec::new(),
            released: Vec::new(),
            hot: Arc::default(),
            stand: Stand::default(),
        }
    }

    /// The clusters that are watched for hot keys.
    pub fn hot_board(&self) -> &Arc<HotBoard> {
        &self.hot
    }

    /// The time that new cells and drain marks carry, in milliseconds since the Unix epoch. Set before each compile.
    pub fn set_now(&mut self, unix_ms: u64) {
        self.now_unix_ms = unix_ms;
    }

    /// The secret of the hashes of limits' keys. Set once, before the first compile.
    pub fn set_seed(&mut self, seed: [u64; 2]) {
        self.seed = seed;
    }

    /// Where this router stands. Set once, before the first compile.
    pub fn set_place(&mut self, place: &Place) {
        self.stand = Stand {
            zone: place.zone.clone(),
            zone_share: place.zone_share.map(|percent| f64::from(percent) / 100.0),
            seat: Seat::of(&place.instance),
        };
    }

    /// Where this router stands.
    pub(crate) fn stand(&self) -> &Stand {
        &self.stand
    }

    /// What makes the limits of a table.
    pub(crate) fn limit_maker(&self) -> Maker {
        Maker { workers: self.workers, seed: self.seed }
    }

    /// The cell of a route.
    pub fn route(&mut self, app: &AppName, route: &RouteName) -> Arc<RouteCell> {
        let workers = self.workers;
        let part = self.apps.entry(app.clone()).or_default();
        let cell = part.routes.entry(route.clone());
        cell.or_insert_with(|| Arc::new(RouteCell::new(app.clone(), route.clone(), workers))).clone()
    }

    /// What an app uses, for its caps.
    pub(crate) fn usage(&mut self, app: &AppName) -> Arc<AppUsage> {
        let part = self.apps.entry(app.clone()).or_default();
        part.usage.get_or_insert_with(|| Arc::new(AppUsage::new(app.clone()))).clone()
    }

    /// Where requests of an app wait, once it was held. One that is held no more is noted for [`CellRegistry::take_released`].
    pub(crate) fn hold(&mut self, app: &AppName, is_held: bool) -> Option<Arc<HoldGate>> {
        let part = self.apps.entry(app.clone()).or_default();
        if is_held {
            let gate = part.hold.get_or_insert_with(|| Arc::new(HoldGate::new(app.clone())));
            gate.close();
        } else {
            self.released.extend(part.hold.clone());
        }
        part.hold.clone()
    }

    /// The lines that may go on once the table is in force.
    pub fn take_released(&mut self) -> Vec<Arc<HoldGate>> {
        std::mem::take(&mut self.released)
    }

    /// Endpoints with their cells, and the cell of the cluster. Endpoints that were there before and are not any
    /// more are noted for [`CellRegistry::take_removed`]: call this only for a cluster that will be published.
    ///
    /// Both lists are sorted by id, so one walk over both finds every cell: O(old + new), no hashing, and a pointer
    /// comparison for each endpoint that did not change.
    pub(crate) fn cluster(
        &mut self,
        app: &AppName,
        cluster: &Cluster,
    ) -> (Arc<ClusterCell>, Arc<[EndpointEntry]>) {
        let (workers, now) = (self.workers, self.now_unix_ms);
        let part = self.apps.entry(app.clone()).or_default();
        let part = part.clusters.entry(cluster.name.clone()).or_insert_with(|| ClusterPart {
            cell: Arc::new(ClusterCell::new(app.clone(), cluster.name.clone(), workers)),
            place: Arc::new(ClusterPlace::new(app.clone(), cluster.name.clone())),
            endpoints: Arc::from([]),
            policy: None,
            shards: None,
        });
        let last = part.policy.replace(Arc::clone(&cluster.policy));
        let is_served = last.is_some();
        let is_changed = last.is_some_and(|last| last.readiness != cluster.policy.readiness);
        let place = &part.place;
        let mut walk = Walk { place, cluster, now, is_served, is_changed, removed: &mut self.removed };
        let joined = walk.join(&part.endpoints);
        part.endpoints = joined;
        (part.cell.clone(), part.endpoints.clone())
    }

    /// Where the keys of a cluster belong. The map is the one from before while ids, weights and algorithm are the same, whatever
    /// the addresses; counts of keys go on while their words are. Called once a compile of the cluster, after
    /// [`CellRegistry::cluster`].
    pub(crate) fn shards(&mut self, app: &AppName, cluster: &Cluster) -> Option<Shards> {
        let part = self.apps.get_mut(app)?.clusters.get_mut(&cluster.name)?;
        let before = part.shards.take();
        let words = cluster.policy.shard.as_ref()?;
        let digest = shard::digest(words.algorithm, &cluster.endpoints);
        let same = before.as_ref().filter(|before| before.map.digest() == digest);
        let map = same.map_or_else(
            || Arc::new(ShardMap::new(words.algorithm, &cluster.endpoints)),
            |before| before.map.clone(),
        );
        let hot = words.hot_keys.map(|policy| {
            let before = before.as_ref().and_then(|before| before.hot.clone());
            before.filter(|hot| hot.goes_by(policy)).unwrap_or_else(|| {
                let hot = Arc::new(HotKeys::new(policy, self.workers));
                self.hot.add(&hot);
                hot
            })
        });
        part.shards = Some(Shards { words: words.clone(), map, hot });
        part.shards.clone()
    }

    /// Forgets the apps that are not kept, with all their clusters and routes. Called once a compile.
    pub fn retain_apps(&mut self, keep: impl Fn(&AppName) -> bool) {
        let (removed, released) = (&mut self.removed, &mut self.released);
        self.apps.retain(|name, part| {
            let kept = keep(name);
            if !kept {
                released.extend(part.hold.take());
                part.clusters.values().for_each(|cluster| forget(cluster, removed));
            }
            kept
        });
    }

    /// Forgets the clusters of an app that are not kept. Called for each app that changed.
    pub fn retain_clusters(&mut self, app: &AppName, keep: impl Fn(&ClusterName) -> bool) {
        let removed = &mut self.removed;
        let Some(part) = self.apps.get_mut(app) else { return };
        part.clusters.retain(|name, cluster| {
            let kept = keep(name);
            if !kept {
                forget(cluster, removed);
            }
            kept
        });
    }

    /// Forgets the routes of an app that are not kept. Called for each app whose routes changed.
    pub fn retain_routes(&mut self, app: &AppName, keep: impl Fn(&RouteName) -> bool) {
        if let Some(part) = self.apps.get_mut(app) {
            part.routes.retain(|name, _| keep(name));
        }
    }

    /// The cells that left the registry since the last call. They are to be marked gone before the table without
    /// them is published.
    pub fn take_removed(&mut self) -> Vec<Arc<EndpointCell>> {
        std::mem::take(&mut self.removed)
    }
}

fn forget(cluster: &ClusterPart, removed: &mut Vec<Arc<EndpointCell>>) {
    removed.extend(cluster.endpoints.iter().map(|entry| entry.cell.clone()));
}

/// One walk over the old and the new endpoints of a cluster.
struct Walk<'a> {
    place: &'a Arc<ClusterPlace>,
    cluster: &'a Cluster,
    now: u64,
    /// The cluster was there before: what is new joins it.
    is_served: bool,
    /// Its readiness policy is another one.
    is_changed: bool,
    removed: &'a mut Vec<Arc<EndpointCell>>,
}

impl Walk<'_> {
    fn join(&mut self, old: &[EndpointEntry]) -> Arc<[EndpointEntry]> {
        let mut old = old.iter().peekable();
        let mut entries = Vec::with_capacity(self.cluster.endpoints.len());
        for endpoint in self.cluster.endpoints.iter() {
            let mut cell = None;
            while let Some(entry) = old.peek() {
                match order(entry, endpoint) {
                    Ordering::Less => self.removed.push(entry.cell.clone()),
                    Ordering::Equal => cell = self.kept(entry, endpoint),
                    Ordering::Greater => break,
                }
                old.next();
                if cell.is_some() {
                    break;
                }
            }
            let cell = cell.unwrap_or_else(|| self.fresh(endpoint));
            cell.set_draining(endpoint.drain, self.now);
            let slots = self.cluster.policy.slots.as_ref().map(|slots| slots.count);
            let breaker = self.cluster.policy.breaker.and_then(|breaker| breaker.endpoint_requests);
            cell.set_slots(slots.or(breaker).unwrap_or(0));
            // Of one endpoint alone there is nothing to choose, nor where a key always decides.
            let policy = &self.cluster.policy;
            let picks = policy.shard.as_ref().is_none_or(|shard| shard.fallback == ShardFallback::Balance);
            let is_timed = policy.balance.is_timed() && picks && self.cluster.endpoints.len() > 1;
            cell.set_timed(is_timed || policy.report_load || policy.adaptive.is_some());
            cell.set_reported(self.cluster.policy.report_load);
            entries.push(EndpointEntry { endpoint: endpoint.clone(), cell });
        }
        self.removed.extend(old.map(|entry| entry.cell.clone()));
        entries.into()
    }

    /// The old cell, when the incarnation is the same; else notes it as removed.
    fn kept(&mut self, old: &EndpointEntry, new: &Arc<Endpoint>) -> Option<Arc<EndpointCell>> {
        if !Arc::ptr_eq(&old.endpoint, new) && !old.cell.incarnation().is(new) {
            self.removed.push(old.cell.clone());
            return None;
        }
        // Without a probe an endpoint is ready; nothing would ever end a failing or starting state.
        if self.cluster.policy.probe.is_none() {
            let (health, reason) = health::first(None);
            old.cell.set_health(health, reason, self.now);
        }
        if self.is_changed {
            old.cell.set_policy(&self.cluster.policy.readiness, self.now);
        }
        Some(old.cell.clone())
    }

    fn fresh(&self, endpoint: &Arc<Endpoint>) -> Arc<EndpointCell> {
        let (health, reason): (Health, &str) = health::first(self.cluster.policy.probe.as_ref());
        let incarnation = Incarnation::new(Arc::clone(self.place), Arc::clone(endpoint));
        let cell = EndpointCell::new(incarnation, health, reason, self.now);
        cell.set_policy(&self.cluster.policy.readiness, self.now);
        if self.is_served && health == Health::Ready {
            cell.on(Event::Joined, self.now);
        }
        Arc::new(cell)
    }
}

fn order(old: &EndpointEntry, new: &Arc<Endpoint>) -> Ordering {
    if Arc::ptr_eq(&old.endpoint, new) { Ordering::Equal } else { old.endpoint.id.cmp(&new.id) }
}

#[cfg(test)]
mod tests;
