//! Chooses an endpoint for a key: the map's order, passed through readiness, the bound on loads and the spread of hot keys.
//!
//! A cache falls through its key's order; a store never leaves the replicas of its key. No lock and no allocation.

use std::cell::OnceCell;

use ekiden_config::model::{ReplicaPick, ShardKind};

use super::{Key, Replicas, Shards};
use crate::cell::{BARRED, TRIAL};
use crate::cluster::{Attempt, EndpointEntry, Pick};
use crate::pick::p2c::below;
use crate::pick::ready::ReadySet;
use crate::stable::mix;

/// One attempt of a request with a key.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    /// Its key.
    pub key: Key<'a>,
    /// What was tried.
    pub attempt: Attempt<'a>,
    /// Number of the worker.
    pub worker: usize,
    /// Gives the other requests that the cluster has in flight. Asked only when a shard is busy and loads are bounded.
    pub in_flight: &'a dyn Fn() -> u64,
}

/// Who may get the attempt.
#[derive(Clone, Copy)]
struct Door<'a> {
    endpoints: &'a [EndpointEntry],
    tried: &'a [u32],
    barred: u32,
    /// A warming endpoint takes the key when this is within its share; so a key moves to it once, not request by request.
    grain: u32,
}

impl Door<'_> {
    #[inline]
    fn takes(&self, at: u32) -> bool {
        !self.tried.contains(&at)
            && self.endpoints.get(at as usize).is_some_and(|entry| entry.cell.takes(self.barred, self.grain))
    }

    fn in_flight(&self, at: u32) -> u64 {
        self.endpoints.get(at as usize).map_or(0, |entry| u64::from(entry.cell.in_flight()))
    }

    fn weight(&self, at: u32) -> u64 {
        self.endpoints.get(at as usize).map_or(1, |entry| u64::from(entry.endpoint.weight.max(1)))
    }

    /// The one with fewer requests in flight per weight; a tie goes to `a`.
    fn less_loaded(&self, a: u32, b: u32) -> u32 {
        if self.in_flight(b) * self.weight(a) < self.in_flight(a) * self.weight(b) { b } else { a }
    }
}

/// What keeps a shard from more than its share.
struct Bound<'a> {
    percent: u64,
    /// Weights of the ready endpoints together.
    weights: u64,
    total: OnceCell<u64>,
    in_flight: &'a dyn Fn() -> u64,
}

impl Bound<'_> {
    /// Whether one more request would be more than `ceil(factor x (total + 1) x weight / weights)`. V. Mirrokni et al.,
    /// "Consistent Hashing with Bounded Loads" (2016). There is always a shard under it, since the bounds of all add up to more
    /// than the total.
    fn is_over(&self, door: &Door<'_>, at: u32) -> bool {
        let now = door.in_flight(at);
        // The bound is never below one.
        if now == 0 {
            return false;
        }
        let total = *self.total.get_or_init(self.in_flight);
        let parts = self.percent * (total + 1) * door.weight(at);
        now + 1 > parts.div_ceil(100 * self.weights.max(1))
    }
}

/// Chooses an endpoint for a key; see [`crate::cluster::ClusterTable::pick_shard`].
pub(crate) fn pick(
    shards: &Shards,
    endpoints: &[EndpointEntry],
    ready: &ReadySet,
    ask: &Ask<'_>,
    random: &mut dyn FnMut() -> u64,
) -> Pick {
    let spread = spread(shards, ask);
    spread_pick(shards, endpoints, ready, (ask, spread), random)
}

/// As [`pick`]; the key is not counted as asked for. For people.
pub(crate) fn peek(
    shards: &Shards,
    endpoints: &[EndpointEntry],
    ready: &ReadySet,
    ask: &Ask<'_>,
    random: &mut dyn FnMut() -> u64,
) -> Pick {
    let replicas = usize::from(shards.words.replicas.max(1));
    let hot = shards.hot.as_ref().and_then(|hot| hot.spread_of(ask.key.hash()));
    spread_pick(shards, endpoints, ready, (ask, hot.map_or(replicas, |spread| spread.max(replicas))), random)
}

#[inline]
fn spread_pick(
    shards: &Shards,
    endpoints: &[EndpointEntry],
    ready: &ReadySet,
    (ask, spread): (&Ask<'_>, usize),
    random: &mut dyn FnMut() -> u64,
) -> Pick {
    match shards.words.kind {
        ShardKind::Cache => Cache { shards, endpoints, ready, ask, spread }.pick(random),
        ShardKind::Store => store(shards, endpoints, ask, random),
    }
}

/// Endpoints that serve the key now: its replicas, or in a cache more while it is hot. Counts the request.
fn spread(shards: &Shards, ask: &Ask<'_>) -> usize {
    let replicas = usize::from(shards.words.replicas.max(1));
    let Some(hot) = &shards.hot else { return replicas };
    if ask.attempt.tried.is_empty() {
        hot.note(ask.worker, ask.key.hash());
    }
    hot.spread(ask.key).map_or(replicas, |spread| spread.max(replicas))
}

/// One pick of a cache.
struct Cache<'a> {
    shards: &'a Shards,
    endpoints: &'a [EndpointEntry],
    ready: &'a ReadySet,
    ask: &'a Ask<'a>,
    spread: usize,
}

impl Cache<'_> {
    fn pick(&self, random: &mut dyn FnMut() -> u64) -> Pick {
        let attempt = self.ask.attempt;
        let barred = self.ready.barred();
        let door = Door { endpoints: self.endpoints, tried: attempt.tried, barred, grain: 0 };
        let bound = self.shards.words.bound_percent.map(|percent| Bound {
            percent: u64::from(percent),
            weights: self.ready.weight(),
            total: OnceCell::new(),
            in_flight: self.ask.in_flight,
        });
        let bound = bound.as_ref();
        if self.ready.is_warming() {
            let barred = if attempt.may_repeat { barred } else { barred | TRIAL };
            let warm = Door { barred, grain: grain(self.ask.key), ..door };
            if let Some(at) = self.choose(&warm, bound, random) {
                return Pick::Endpoint(at);
            }
        }
        // Where all that is left is above the bound, because the others were tried, the bound gives way.
        let chosen = self.choose(&door, bound, random).or_else(|| self.choose(&door, None, random));
        match chosen {
            Some(at) => Pick::Endpoint(at),
            None => {
                let all = Door { tried: &[], ..door };
                let any = (0u32..).zip(self.endpoints).any(|(at, _)| all.takes(at));
                if any { Pick::Exhausted } else { Pick::NoneReady }
            }
        }
    }

    /// The first of the key's order, or one of its replicas, that may get it and is not above the bound.
    fn choose(
        &self,
        door: &Door<'_>,
        bound: Option<&Bound<'_>>,
        random: &mut dyn FnMut() -> u64,
    ) -> Option<u32> {
        let (map, key) = (&self.shards.map, self.ask.key);
        let is_over = |at: u32| bound.is_some_and(|bound| bound.is_over(door, at));
        if self.spread > 1 {
            let mut open = map.replicas(key, self.spread);
            open.retain(|at| door.takes(*at) && !is_over(*at));
            let is_hot = self.spread > usize::from(self.shards.words.replicas);
            if let Some(at) = one_of(&open, is_hot || self.asks_two(), door, random) {
                return Some(at);
            }
        }
        match map.first(key, &mut |at| door.takes(at)) {
            Some(at) if !is_over(at) => Some(at),
            Some(_) => map.overflow(key, &mut |at| door.takes(at) && !is_over(at)),
            None => None,
        }
    }

    fn asks_two(&self) -> bool {
        self.shards.words.replica_pick == ReplicaPick::P2c
    }
}

/// One of the replicas: the first, or the less loaded of two.
fn one_of(open: &Replicas, asks_two: bool, door: &Door<'_>, random: &mut dyn FnMut() -> u64) -> Option<u32> {
    let first = *open.first()?;
    if !asks_two || open.len() == 1 {
        return Some(first);
    }
    let bits = random();
    let a = below(open.len(), (bits >> 32) as u32);
    let b = below(open.len() - 1, bits as u32);
    let b = if b >= a { b + 1 } else { b };
    Some(door.less_loaded(*open.get(a)?, *open.get(b)?))
}

/// A store stays with the replicas of the key, whatever their state: first those that were not tried, then again those that
/// were.
fn store(
    shards: &Shards,
    endpoints: &[EndpointEntry],
    ask: &Ask<'_>,
    random: &mut dyn FnMut() -> u64,
) -> Pick {
    let all = shards.map.replicas(ask.key, usize::from(shards.words.replicas.max(1)));
    let asks_two = shards.words.replica_pick == ReplicaPick::P2c;
    for tried in [ask.attempt.tried, &[]] {
        let door = Door { endpoints, tried, barred: BARRED, grain: 0 };
        let mut open = all.clone();
        open.retain(|at| door.takes(*at));
        if let Some(at) = one_of(&open, asks_two, &door, random) {
            return Pick::Endpoint(at);
        }
    }
    let mut entries = all.iter().filter_map(|at| endpoints.get(*at as usize));
    if entries.any(|entry| entry.cell.first_check_pending()) { Pick::ShardStarting } else { Pick::ShardDown }
}

/// Where a key stands in the ramp of a warming endpoint: never 0, which would stand for any request.
fn grain(key: Key<'_>) -> u32 {
    (mix(key.hash() ^ 0x7261_6d70) >> 32) as u32 | 1
}

#[cfg(test)]
pub(crate) mod tests;
