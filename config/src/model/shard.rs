//! Sharding of a cluster: words only. The router's core builds the maps and picks by them; nothing here does.

use std::sync::Arc;

use super::KeyPart;

/// How the requests of a cluster are dealt out by a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardPolicy {
    /// What is hashed: the text that these pieces give, one behind the other. Never empty.
    pub by: Vec<KeyPiece>,
    /// What happens to a request that lacks a part of the key.
    pub fallback: ShardFallback,
    /// How a key finds its shard.
    pub algorithm: ShardAlgorithm,
    /// Whether a key may be served elsewhere.
    pub kind: ShardKind,
    /// Endpoints that serve one key. 1..=16.
    pub replicas: u8,
    /// Which of them is asked.
    pub replica_pick: ReplicaPick,
    /// Most requests in flight at a shard, in percent of its fair share; none means no bound. 101..=1000. Never with a store.
    pub bound_percent: Option<u32>,
    /// Keys that are asked for much more than others; none means that nobody looks.
    pub hot_keys: Option<HotKeyPolicy>,
}

/// A piece of a key's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyPiece {
    /// As written between the braces of a template.
    Text(Arc<str>),
    /// A part of the request.
    Part(KeyPart),
}

/// What happens to a request without a shard key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShardFallback {
    /// It goes where `balance` says. Never with a store.
    Balance,
    /// It is refused with 400.
    Refuse,
    /// Another key; a request without that one too is refused by a store and goes where `balance` says by a cache.
    Key(Vec<KeyPiece>),
}

/// How a key finds its shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ShardAlgorithm {
    /// The highest of one random number for each shard and key.
    #[default]
    Rendezvous,
    /// The next of many points on a ring.
    Ring,
    /// A table that the shards filled in turns.
    Maglev,
    /// nginx's `hash ... consistent`: a ring of addresses.
    Ketama,
}

impl ShardAlgorithm {
    /// As it is written.
    pub const fn word(self) -> &'static str {
        match self {
            ShardAlgorithm::Rendezvous => "rendezvous",
            ShardAlgorithm::Ring => "ring",
            ShardAlgorithm::Maglev => "maglev",
            ShardAlgorithm::Ketama => "ketama",
        }
    }
}

/// What stands behind the endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ShardKind {
    /// Copies: any endpoint can serve any key, at the cost of a miss.
    #[default]
    Cache,
    /// The only place of its keys: another endpoint would give a wrong answer.
    Store,
}

impl ShardKind {
    /// As it is written.
    pub const fn word(self) -> &'static str {
        match self {
            ShardKind::Cache => "cache",
            ShardKind::Store => "store",
        }
    }
}

/// Which replica of a shard is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReplicaPick {
    /// The first in the key's order that is ready.
    #[default]
    Primary,
    /// The less busy of two of them.
    P2c,
}

/// When a key counts as hot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HotKeyPolicy {
    /// Its requests, in percent of those of an average shard. 10..=1000.
    pub threshold_percent: u32,
    /// Show the text of hot keys, not their hash alone.
    pub show: bool,
}

impl Default for HotKeyPolicy {
    fn default() -> Self {
        Self { threshold_percent: 50, show: false }
    }
}
