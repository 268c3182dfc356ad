//! The certificates of a listener by name: exact, then wildcard. Immutable; a change makes a new one that shares all
//! but the parts of the names it touches. Does not read files.

use std::hash::BuildHasher;
use std::sync::Arc;

use rustc_hash::{FxBuildHasher, FxHashMap};
use rustls::SignatureScheme;
use smallvec::SmallVec;

use super::certificate::Certificate;

/// Parts of the index. With 10,000 names, adding one copies some forty entries.
const SHARDS: usize = 256;

/// The certificates that cover a name: elliptic curves before RSA, then by rank.
#[derive(Debug, Clone, Default)]
pub struct Slot(SmallVec<[Arc<Certificate>; 1]>);

impl Slot {
    /// The best that the client can verify; without one the best of all, so that the handshake ends with the alert
    /// that says so.
    pub fn choose(&self, schemes: &[SignatureScheme]) -> Option<&Arc<Certificate>> {
        let fits = |certificate: &&Arc<Certificate>| certificate.key.key.choose_scheme(schemes).is_some();
        self.0.iter().find(fits).or(self.0.first())
    }

    /// Whether one of them covers a host.
    pub fn covers(&self, host: &str) -> bool {
        self.0.iter().any(|certificate| certificate.covers(host))
    }

    /// All of them, the best first.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Certificate>> {
        self.0.iter()
    }

    fn put(&mut self, certificate: &Arc<Certificate>) {
        // A certificate may name a host twice.
        self.take(certificate);
        self.0.push(Arc::clone(certificate));
        self.0.sort_by(|a, b| b.is_preferred().cmp(&a.is_preferred()).then_with(|| a.rank.cmp(&b.rank)));
    }

    fn take(&mut self, certificate: &Arc<Certificate>) {
        self.0.retain(|held| !Arc::ptr_eq(held, certificate));
    }
}

/// An index of certificates.
#[derive(Debug, Clone)]
pub struct Index {
    /// By name; a wildcard by its suffix with the dot.
    shards: Vec<Arc<FxHashMap<Box<str>, Slot>>>,
    default: Arc<Slot>,
    /// How many certificates.
    pub count: usize,
}

impl Default for Index {
    fn default() -> Self {
        Self { shards: vec![Arc::default(); SHARDS], default: Arc::default(), count: 0 }
    }
}

impl Index {
    /// This one without some certificates and with others. `first` is the default certificate of the outcome.
    #[must_use]
    pub fn changed(
        &self,
        removed: &[Arc<Certificate>],
        added: &[Arc<Certificate>],
        first: Option<&Arc<Certificate>>,
    ) -> Self {
        let mut index = self.clone();
        for (certificate, name) in names_of(removed) {
            index.edit(name, |shard| {
                let Some(slot) = shard.get_mut(name) else { return };
                slot.take(certificate);
                if slot.0.is_empty() {
                    shard.remove(name);
                }
            });
        }
        for (certificate, name) in names_of(added) {
            index.edit(name, |shard| shard.entry(name.into()).or_default().put(certificate));
        }
        index.count = (index.count + added.len()).saturating_sub(removed.len());
        index.default = Arc::new(first.map(|first| index.beside(first)).unwrap_or_default());
        index
    }

    /// The default certificate with those of another kind for the same names.
    fn beside(&self, first: &Arc<Certificate>) -> Slot {
        let mut slot = Slot::default();
        let siblings = first.names.first().and_then(|name| self.exact(key_of(name)));
        for certificate in siblings.into_iter().flat_map(Slot::iter) {
            if certificate.is_preferred() != first.is_preferred() && certificate.names == first.names {
                slot.put(certificate);
            }
        }
        slot.put(first);
        slot
    }

    /// What clients get that name no host, or one that nothing covers.
    pub fn default_slot(&self) -> &Arc<Slot> {
        &self.default
    }

    /// The certificates of a host in lower case.
    pub fn find(&self, host: &str) -> Option<&Slot> {
        if let Some(slot) = self.exact(host) {
            return Some(slot);
        }
        let dot = host.find('.').filter(|dot| *dot > 0)?;
        self.exact(host.get(dot..)?).filter(|_| host.parse::<std::net::IpAddr>().is_err())
    }

    fn exact(&self, key: &str) -> Option<&Slot> {
        self.shards.get(place_of(key))?.get(key)
    }

    fn edit(&mut self, key: &str, change: impl FnOnce(&mut FxHashMap<Box<str>, Slot>)) {
        if let Some(shard) = self.shards.get_mut(place_of(key)) {
            change(Arc::make_mut(shard));
        }
    }
}

fn names_of(certificates: &[Arc<Certificate>]) -> impl Iterator<Item = (&Arc<Certificate>, &str)> {
    certificates.iter().flat_map(|one| one.names.iter().map(move |name| (one, key_of(name))))
}

/// Under what a name stands: `*.suffix` under `.suffix`.
fn key_of(name: &str) -> &str {
    name.strip_prefix('*').unwrap_or(name)
}

fn place_of(key: &str) -> usize {
    // The upper bits: the lower ones choose the bucket inside the shard.
    (FxBuildHasher.hash_one(key) >> 48) as usize % SHARDS
}
