//! Rendezvous: of one random number for each shard and key, the highest wins.
//!
//! D. Thaler and C. Ravishankar, "Using Name-Based Mappings to Increase Hit Rates" (1998); with weights by C. Schindelhauer
//! and G. Schomaker (2005): the least `-ln(u) / weight`. Removing a shard moves its keys only, and a weight that changes moves
//! keys to or from its shard only. A lookup looks at all shards.

use smallvec::SmallVec;

use super::{REPLICAS_MAX, Shard};
use crate::stable::{minus_ln, mix};

/// All shards, in the order of ids.
#[derive(Debug)]
pub(super) struct Rendezvous {
    shards: Box<[Shard]>,
    /// All weights are equal, so that integers can be compared in place of logarithms.
    is_even: bool,
}

impl Rendezvous {
    pub(super) fn new(shards: Box<[Shard]>) -> Self {
        let first = shards.first().map(|shard| shard.weight);
        Self { is_even: shards.iter().all(|shard| Some(shard.weight) == first), shards }
    }

    pub(super) fn len(&self) -> usize {
        self.shards.len()
    }

    /// The accepted shard with the least cost; asks only about shards that would win.
    #[inline]
    pub(super) fn best(&self, key: u64, accept: &mut dyn FnMut(u32) -> bool) -> Option<u32> {
        if self.is_even { self.best_even(key, accept) } else { self.best_weighted(key, accept) }
    }

    fn best_even(&self, key: u64, accept: &mut dyn FnMut(u32) -> bool) -> Option<u32> {
        let mut best: Option<(u64, u32)> = None;
        for (at, shard) in (0u32..).zip(&self.shards) {
            let score = mix(key ^ shard.seed);
            if best.is_none_or(|(most, _)| score > most) && accept(at) {
                best = Some((score, at));
            }
        }
        best.map(|(_, at)| at)
    }

    fn best_weighted(&self, key: u64, accept: &mut dyn FnMut(u32) -> bool) -> Option<u32> {
        let mut best: Option<(f64, u32)> = None;
        for (at, shard) in (0u32..).zip(&self.shards) {
            let (random, weight) = (mix(key ^ shard.seed), f64::from(shard.weight));
            if best.is_some_and(|(least, _)| cannot_beat(random, least * weight)) {
                continue;
            }
            let cost = minus_ln(random) / weight;
            if best.is_none_or(|(least, _)| cost < least) && accept(at) {
                best = Some((cost, at));
            }
        }
        best.map(|(_, at)| at)
    }

    /// The first so many in the key's order.
    pub(super) fn top(&self, key: u64, count: usize) -> impl Iterator<Item = u32> + use<> {
        // Costs as bits: of positive floats these are ordered as the floats are.
        let mut top: SmallVec<[(u64, u32); REPLICAS_MAX]> = SmallVec::new();
        for (at, shard) in (0u32..).zip(&self.shards) {
            let random = mix(key ^ shard.seed);
            let cost =
                if self.is_even { !random } else { (minus_ln(random) / f64::from(shard.weight)).to_bits() };
            if top.len() == count && top.last().is_none_or(|(most, _)| cost >= *most) {
                continue;
            }
            let place = top.partition_point(|(other, _)| *other <= cost);
            if top.len() == count {
                top.pop();
            }
            top.insert(place, (cost, at));
        }
        top.into_iter().map(|(_, at)| at)
    }
}

/// Whether `-ln(u)` is above the bound for sure, because `1 - u`, which is below it, is. Spares nearly all logarithms.
#[inline]
fn cannot_beat(random: u64, bound: f64) -> bool {
    const TWO_TO_52: f64 = 4_503_599_627_370_496.0;
    // Taken a little smaller than it is, for what the logarithm may be rounded by.
    const SURE: f64 = 1.0 - 1e-9;
    let u = ((random >> 12) as f64 + 0.5) / TWO_TO_52;
    (1.0 - u) * SURE > bound
}
