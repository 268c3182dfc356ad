//! The hosts of one listener: exact hosts and wildcard suffixes in shards, so that a change of one app's routes copies
//! only the shards that its hosts fall into.
//!
//! The maps are filled from configuration and only read with what clients send, so the hash need not withstand
//! chosen keys.

use std::hash::BuildHasher as _;
use std::sync::Arc;

use ekiden_config::model::HostMatch;
use hashbrown::HashTable;
use rustc_hash::FxBuildHasher;
use smallvec::SmallVec;

use super::paths::HostPaths;

/// Shards of a host index. At 100,000 hosts a shard holds about 400, some 25 KB to copy.
const SHARDS: usize = 256;

/// A host or suffix with its rules. Short names stand in the entry, which saves a cache miss per lookup.
#[derive(Debug, Clone)]
struct HostEntry {
    name: SmallVec<[u8; 32]>,
    paths: HostPaths,
}

#[derive(Debug, Clone, Default)]
struct Shard {
    exact: HashTable<HostEntry>,
    wildcards: HashTable<HostEntry>,
}

/// All hosts of one listener. Cheap to clone: shards are shared until changed.
#[derive(Debug, Clone)]
pub(super) struct HostIndex {
    shards: Vec<Arc<Shard>>,
    any: Option<HostPaths>,
    /// Most labels of a wildcard suffix that was ever put here.
    suffix_labels: usize,
}

fn hash(name: &str) -> u64 {
    FxBuildHasher.hash_one(name.as_bytes())
}

fn entry_hash(entry: &HostEntry) -> u64 {
    FxBuildHasher.hash_one(&*entry.name)
}

/// Which shard a hash falls into, by bits that the tables inside do not start from.
fn shard_of(hash: u64) -> usize {
    (hash >> 32) as usize % SHARDS
}

fn labels(name: &str) -> usize {
    name.split('.').count()
}

impl HostIndex {
    pub(super) fn new() -> Self {
        let empty = Arc::new(Shard::default());
        Self { shards: vec![empty; SHARDS], any: None, suffix_labels: 0 }
    }

    /// Sets or takes away the rules of one host. Copies its shard when another index shares it.
    pub(super) fn put(&mut self, host: &HostMatch, paths: Option<HostPaths>) {
        let (name, wildcard) = match host {
            HostMatch::Any => {
                self.any = paths;
                return;
            }
            HostMatch::Exact(name) => (name, false),
            HostMatch::Wildcard(suffix) => (suffix, true),
        };
        let hash = hash(name);
        let Some(shard) = self.shards.get_mut(shard_of(hash)) else { return };
        let shard = Arc::make_mut(shard);
        let table = if wildcard { &mut shard.wildcards } else { &mut shard.exact };
        let found = table.find_entry(hash, |entry| *entry.name == *name.as_bytes());
        match (found, paths) {
            (Ok(mut found), Some(paths)) => found.get_mut().paths = paths,
            (Ok(found), None) => drop(found.remove()),
            (Err(absent), Some(paths)) => {
                let entry = HostEntry { name: SmallVec::from_slice(name.as_bytes()), paths };
                absent.into_table().insert_unique(hash, entry, entry_hash);
                if wildcard {
                    self.suffix_labels = self.suffix_labels.max(labels(name));
                }
            }
            (Err(_), None) => {}
        }
    }

    /// The rules of the most specific host that has any: exact, then the longest suffix, then any host.
    pub(super) fn lookup(&self, host: &str) -> Option<&HostPaths> {
        let hash = hash(host);
        let shard = self.shards.get(shard_of(hash))?;
        let found = shard.exact.find(hash, |entry| *entry.name == *host.as_bytes());
        match found {
            Some(entry) => Some(&entry.paths),
            None => self.wildcard(host).map(|entry| &entry.paths).or(self.any.as_ref()),
        }
    }

    /// The rules of every host that fits, the most specific first: that one decides, and no other is asked. Not for workers.
    pub(super) fn fitting(&self, host: &str) -> Vec<&HostPaths> {
        let mut all = Vec::new();
        let hash = hash(host);
        let shard = self.shards.get(shard_of(hash));
        all.extend(shard.and_then(|shard| shard.exact.find(hash, |entry| *entry.name == *host.as_bytes())));
        let mut rest = host;
        // A shorter suffix of the host is a suffix of the one that was found.
        while let Some(entry) = self.wildcard(rest) {
            all.push(entry);
            rest = std::str::from_utf8(&entry.name).unwrap_or("");
        }
        all.into_iter().map(|entry| &entry.paths).chain(self.any.as_ref()).collect()
    }

    /// The longest suffix that a wildcard names. Suffixes with more labels than any wildcard has are not looked up, so
    /// the work is bounded by configuration, not by the request.
    #[inline]
    fn wildcard(&self, host: &str) -> Option<&HostEntry> {
        if self.suffix_labels == 0 {
            return None;
        }
        let mut skip = labels(host).saturating_sub(self.suffix_labels + 1);
        let mut rest = host;
        while let Some(dot) = rest.find('.') {
            let suffix = rest.get(dot + 1..)?;
            // A suffix needs at least one byte in front of its dot.
            let has_label = host.len() > suffix.len() + 1;
            if skip > 0 {
                skip -= 1;
            } else if has_label {
                let hash = hash(suffix);
                let shard = self.shards.get(shard_of(hash))?;
                if let Some(entry) = shard.wildcards.find(hash, |entry| *entry.name == *suffix.as_bytes()) {
                    return Some(entry);
                }
            }
            rest = suffix;
        }
        None
    }
}
