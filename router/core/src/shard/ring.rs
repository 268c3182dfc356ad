//! A ring: each shard has many points on it, and a key belongs to the shard of the next point.
//!
//! D. Karger et al., "Consistent Hashing and Random Trees" (1997). `hashring` puts the points in order; a key's point is then
//! found through an index over the first bits of the hash, in one or two steps.

use std::hash::{BuildHasher, Hash, Hasher};

use hashring::{DefaultHashBuilder, HashRing};

use super::{POINTS_MAX, Shard};

/// Points of a shard for one unit of weight: shares of 100 shards then differ by some 8 %.
const POINTS: u64 = 160;

/// The ring, as flat arrays.
#[derive(Debug)]
pub(super) struct Ring {
    points: Box<[u64]>,
    /// The shard of each point.
    owners: Box<[u32]>,
    /// For each value of the first bits of a hash, the first point that is not before it.
    index: Box<[u32]>,
    shift: u32,
}

/// A point on its way through `hashring`: its place is the crate's own hash of these words, SipHash-2-4 with a key of zeroes.
#[derive(Debug, Clone, Copy)]
struct Point {
    seed: u64,
    turn: u64,
    owner: u32,
}

impl Hash for Point {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // In one order of octets on every platform.
        state.write(&self.seed.to_le_bytes());
        state.write(&self.turn.to_le_bytes());
    }
}

impl Ring {
    pub(super) fn new(shards: &[Shard]) -> Self {
        let halvings = halvings(shards);
        let mut ring = HashRing::new();
        let all = (0u32..).zip(shards);
        ring.batch_add(
            all.flat_map(|(owner, shard)| {
                (1..=count(shard, halvings)).map(move |turn| Point { seed: shard.seed, turn, owner })
            })
            .collect(),
        );
        let ordered: Vec<Point> = ring.into_iter().collect();
        let points: Box<[u64]> = ordered.iter().map(|point| DefaultHashBuilder.hash_one(point)).collect();
        let bits = points.len().max(2).next_power_of_two().trailing_zeros();
        let shift = u64::BITS - bits;
        let mut at = 0;
        let first = |start: u64| {
            while points.get(at).is_some_and(|point| *point < start << shift) {
                at += 1;
            }
            at as u32
        };
        let index = (0..1u64 << bits).map(first).collect();
        Self { owners: ordered.iter().map(|point| point.owner).collect(), index, shift, points }
    }

    /// The shards of the points from a hash on, once round.
    #[inline]
    pub(super) fn from(&self, hash: u64) -> impl Iterator<Item = u32> {
        let mut at = self.index.get((hash >> self.shift) as usize).map_or(0, |first| *first as usize);
        while self.points.get(at).is_some_and(|point| *point < hash) {
            at += 1;
        }
        let (before, behind) = self.owners.split_at_checked(at).unwrap_or((&[], &self.owners));
        behind.iter().chain(before).copied()
    }
}

/// How often the points of a unit are halved so that all shards together stay within the bound. In steps of two, so that a
/// change of one weight hardly ever moves the points of the others.
fn halvings(shards: &[Shard]) -> u32 {
    let total = |halvings| shards.iter().map(|shard| count(shard, halvings)).sum::<u64>();
    (0..u64::BITS).find(|halvings| total(*halvings) <= POINTS_MAX).unwrap_or(u64::BITS - 1)
}

fn count(shard: &Shard, halvings: u32) -> u64 {
    ((u64::from(shard.weight) * POINTS) >> halvings).max(1)
}
