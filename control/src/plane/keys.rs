//! What keys of an etcd say, taken in: which clusters it touches, what people are told of it.

use std::collections::BTreeSet;

use ekiden_config::address::KEYS;

use super::Plane;
use super::placed::SOURCES_MAX;
use crate::clock::unix_ms;
use crate::overlay::ClusterKey;
use crate::placement::discovered::Followed;
use crate::placement::removals::Rules;

impl Plane {
    /// Takes the keys of a prefix in, says loudly what is wrong with them, and names the clusters that they touch.
    pub(super) fn absorb_keys(&mut self, followed: Followed) -> BTreeSet<ClusterKey> {
        let source = followed.name.clone();
        let Some(places) = self.clusters_of.get(&source).cloned() else { return BTreeSet::new() };
        let (rules, now_ms) = (self.rules(), unix_ms());
        let absorbed = self.discovered.absorb(followed, rules, now_ms);
        if let Some(error) = &absorbed.failed {
            tracing::error!(%source, %error, "etcd cannot be asked for endpoints: the last ones are kept");
        }
        for (key, why) in &absorbed.refused {
            tracing::error!(%source, %key, %why, "the value of a key is refused: what it said before stays");
        }
        if let Some(count) = absorbed.held {
            tracing::error!(%source, count, "the source takes away too many endpoints at once: they are kept; `ekiden confirm` lets them go");
        }
        if absorbed.recovered {
            tracing::info!(%source, "etcd answers again");
        }
        if absorbed.written {
            self.save();
        }
        self.take_confirmed(&source);
        if absorbed.changed { places } else { BTreeSet::new() }
    }

    /// Tells how they are.
    pub(super) fn show_keys(&self) {
        let keys: Vec<_> = self.discovered.statuses().take(SOURCES_MAX).collect();
        let before = self.status.read();
        let known = before.sources.range(KEYS.to_owned()..).take_while(|(name, _)| name.starts_with(KEYS));
        if known
            .map(|(name, status)| (&**name, status))
            .eq(keys.iter().map(|(name, status)| (&***name, status)))
        {
            return;
        }
        drop(before);
        self.status.update(|status| {
            status.sources.retain(|name, _| !name.starts_with(KEYS));
            status.sources.extend(keys.into_iter().map(|(name, status)| (name.to_string(), status)));
        });
    }

    /// Lets go what was held for its time; answers with the clusters that it touches.
    pub(super) fn release_keys(&mut self, rules: Rules, now_ms: u64) -> Vec<ClusterKey> {
        let released = self.discovered.release(rules, now_ms);
        let mut touched = Vec::new();
        for source in released {
            tracing::warn!(%source, "the time of what was held is over: it goes");
            touched.extend(self.clusters_of.get(&source).into_iter().flatten().cloned());
        }
        touched
    }
}
