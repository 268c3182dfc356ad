//! Shard maps: which endpoint of a cluster a key belongs to, and which are next in its order.
//!
//! A map is made of ids, weights and an algorithm (of addresses for `ketama`), off the workers, and never changes; all
//! routers with the same words have the same one, which [`ShardMap::digest`] tells. It knows nothing of readiness: who may
//! get a request is said by the caller, see [`pick`]. Lookups lock nothing and allocate nothing. Hashes and seeds are fixed for
//! ever (golden vectors pin them): a change would move every key.

pub mod hot;
mod ketama;
mod maglev;
pub mod pick;
mod rendezvous;
pub mod request;
mod ring;
pub mod survey;

use std::sync::Arc;

use ekiden_config::doors::{KeyStatus, ShardStatus};
use ekiden_config::model::{Endpoint, ShardAlgorithm, ShardKind, ShardPolicy};
use smallvec::SmallVec;

use self::hot::HotKeys;
use self::ketama::Ketama;
use self::maglev::Maglev;
use self::rendezvous::Rendezvous;
use self::ring::Ring;
use crate::stable;

/// Endpoints that serve one key at most.
pub const REPLICAS_MAX: usize = 64;
/// Endpoints that serve one key, as indexes of the cluster's endpoints. Never more than fit without heap.
pub type Replicas = SmallVec<[u32; REPLICAS_MAX]>;

/// Points of one ring at most.
pub const POINTS_MAX: u64 = 1 << 20;
/// Points of a ring that are walked for one key before all shards are searched.
const WALK_MAX: usize = 1024;

/// A shard key with its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key<'a> {
    text: &'a [u8],
    hash: u64,
}

impl<'a> Key<'a> {
    /// Hashes a text.
    pub fn new(text: &'a [u8]) -> Self {
        Self { text, hash: stable::hash(b"key", text) }
    }

    /// A text with the hash that [`Key::new`] gave it.
    pub fn again(text: &'a [u8], hash: u64) -> Self {
        Self { text, hash }
    }

    /// The text.
    pub fn text(&self) -> &'a [u8] {
        self.text
    }

    /// Its hash: what stands for the key where its text must not be shown.
    pub fn hash(&self) -> u64 {
        self.hash
    }
}

/// One shard: an endpoint as the map sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shard {
    seed: u64,
    weight: u32,
}

#[derive(Debug)]
enum Placing {
    Rendezvous,
    Ring(Ring),
    Maglev(Maglev),
    Ketama(Ketama),
}

/// Where keys belong.
#[derive(Debug)]
pub struct ShardMap {
    all: Rendezvous,
    placing: Placing,
    digest: u64,
}

impl ShardMap {
    /// Builds a map of the endpoints, which stand in the order of their ids. Off the workers: O(endpoints) for `rendezvous`, the
    /// points or slots of a table for the others.
    pub fn new(algorithm: ShardAlgorithm, endpoints: &[Arc<Endpoint>]) -> Self {
        let shards: Box<[Shard]> = endpoints
            .iter()
            .map(|endpoint| Shard {
                seed: stable::hash(b"shard", endpoint.id.as_str().as_bytes()),
                weight: u32::from(endpoint.weight.max(1)),
            })
            .collect();
        let placing = match algorithm {
            ShardAlgorithm::Rendezvous => Placing::Rendezvous,
            ShardAlgorithm::Ring => Placing::Ring(Ring::new(&shards)),
            ShardAlgorithm::Maglev => Placing::Maglev(Maglev::new(&shards)),
            ShardAlgorithm::Ketama => Placing::Ketama(Ketama::new(endpoints)),
        };
        Self { all: Rendezvous::new(shards), placing, digest: digest(algorithm, endpoints) }
    }

    /// A number that tells whether two routers place every key alike: of the algorithm, ids and weights (for `ketama`
    /// addresses), in the order of ids.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// Shards in the map.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where a key falls on the ring, from 0 to 1 (on nginx's by the number of its point); none where keys have no place.
    pub fn position(&self, key: Key<'_>) -> Option<f64> {
        match &self.placing {
            Placing::Ring(_) => Some((key.hash >> 11) as f64 / (1u64 << 53) as f64),
            Placing::Ketama(ring) => ring.place(key.text),
            Placing::Rendezvous | Placing::Maglev(_) => None,
        }
    }

    /// The shard a key belongs to. None in an empty map only.
    pub fn owner(&self, key: Key<'_>) -> Option<u32> {
        self.first(key, &mut |_| true)
    }

    /// The first shard in the key's order that is accepted. `accept` must give the same answer for the same shard and may be
    /// asked about any of them, some more than once.
    #[inline]
    pub fn first(&self, key: Key<'_>, accept: &mut dyn FnMut(u32) -> bool) -> Option<u32> {
        let found = match &self.placing {
            Placing::Rendezvous => None,
            Placing::Ring(ring) => ring.from(key.hash).take(WALK_MAX).find(|at| accept(*at)),
            Placing::Maglev(table) => table.owner(key.hash).filter(|at| accept(*at)),
            Placing::Ketama(ring) => ring.from(key.text).take(WALK_MAX).find(|at| accept(*at)),
        };
        found.or_else(|| self.overflow(key, accept))
    }

    /// As [`ShardMap::first`], in the order of rendezvous whatever the algorithm: what one shard has too much of goes to all
    /// others evenly, where a ring would give all of it to the next.
    pub fn overflow(&self, key: Key<'_>, accept: &mut dyn FnMut(u32) -> bool) -> Option<u32> {
        self.all.best(key.hash, accept)
    }

    /// The first `count` shards of the key's order, distinct, the owner first.
    /// At most [`REPLICAS_MAX`].
    pub fn replicas(&self, key: Key<'_>, count: usize) -> Replicas {
        let count = count.min(REPLICAS_MAX);
        let mut chosen = Replicas::new();
        let add = |chosen: &mut Replicas, at: u32| {
            if chosen.len() < count && !chosen.contains(&at) {
                chosen.push(at);
            }
            chosen.len() < count
        };
        let _ended_early = match &self.placing {
            Placing::Rendezvous => true,
            Placing::Ring(ring) => ring.from(key.hash).take(WALK_MAX).all(|at| add(&mut chosen, at)),
            Placing::Maglev(table) => table.owner(key.hash).is_none_or(|at| add(&mut chosen, at)),
            Placing::Ketama(ring) => ring.from(key.text).take(WALK_MAX).all(|at| add(&mut chosen, at)),
        };
        if chosen.len() < count {
            // As many more as there may be in both.
            for at in self.all.top(key.hash, count) {
                add(&mut chosen, at);
            }
        }
        chosen
    }
}

/// The shards of a cluster: map, words, and who watches for hot keys.
#[derive(Debug, Clone)]
pub struct Shards {
    /// As validated.
    pub words: Arc<ShardPolicy>,
    /// Where keys belong; shared by tables whose endpoints differ in what the map does not look at.
    pub map: Arc<ShardMap>,
    /// Counts of keys, which outlive tables.
    pub hot: Option<Arc<HotKeys>>,
}

impl Shards {
    /// For people and the API. Not for workers.
    pub fn status(&self) -> ShardStatus {
        let ranking = self.hot.as_ref().map(|hot| hot.ranking());
        let keys = ranking.iter().flat_map(|ranking| &ranking.keys).map(|key| KeyStatus {
            hash: key.hash,
            text: key.text.get().map(|text| text.to_string()),
            share_ppm: key.share_ppm,
            hot: key.spread.is_some(),
            spread: key.spread.filter(|_| self.words.kind == ShardKind::Cache),
        });
        ShardStatus { digest: self.map.digest(), keys: keys.collect() }
    }
}

/// FNV-1a over all that decides where keys are, mixed.
pub(crate) fn digest(algorithm: ShardAlgorithm, endpoints: &[Arc<Endpoint>]) -> u64 {
    let mut digest = stable::hash(b"map", algorithm.word().as_bytes());
    for endpoint in endpoints {
        let name = match algorithm {
            ShardAlgorithm::Ketama => stable::hash(b"address", endpoint.address.to_string().as_bytes()),
            ShardAlgorithm::Rendezvous | ShardAlgorithm::Ring | ShardAlgorithm::Maglev => {
                stable::hash(b"shard", endpoint.id.as_str().as_bytes())
            }
        };
        let weight = u64::from(endpoint.weight.max(1));
        digest = stable::mix(digest.rotate_left(1) ^ stable::mix(name ^ weight));
    }
    digest
}

#[cfg(test)]
mod tests;
