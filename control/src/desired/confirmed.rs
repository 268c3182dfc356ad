//! What people have confirmed of sources that each control process follows by itself: DNS and keys of etcds. Stored for those that
//! follow the leader, which withhold the same and would have it again once they lead.
//!
//! A confirmation is about what it names, and counts for as long as that would be withheld: a process may hear of the removal later
//! than of the confirmation, and one by one. Each of what it names goes by it once. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::words;
use crate::store::{Object, Revision};

/// Where they are.
pub(crate) const CONFIRMED: &str = "confirmed/";

/// How much later than the confirmation a removal may be heard of that it is about, in milliseconds: clocks differ, and so does when
/// each process asks.
const LATE_MAX_MS: u64 = 60_000;

/// One of them, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ConfirmedWords {
    /// When a person said so, in milliseconds since the Unix epoch; where that is not written down, nothing goes by it.
    #[serde(default)]
    pub(crate) at_unix_ms: u64,
    /// Until when it counts, in milliseconds since the Unix epoch.
    pub(crate) until_unix_ms: u64,
    /// What may go, as the API names what is held.
    pub(crate) gone: BTreeSet<String>,
}

impl ConfirmedWords {
    /// Whether it still counts.
    pub(crate) fn counts(&self, now_ms: u64) -> bool {
        now_ms < self.until_unix_ms
    }

    /// Whether it is about what is held since then: what was taken away later nobody has looked at.
    fn knew_of(&self, since_ms: u64) -> bool {
        since_ms <= self.at_unix_ms.saturating_add(LATE_MAX_MS)
    }
}

/// What has gone here by confirmations that were written down, by source: it comes back by its source alone, and when that takes it
/// away once more, a person is to look once more.
#[derive(Debug, Default)]
pub(crate) struct Taken(BTreeMap<Arc<str>, (Revision, BTreeSet<String>)>);

impl Taken {
    /// Whether all that is held of a source, since then, and that is something, may go by the confirmation of this revision.
    pub(crate) fn may_go(
        &self,
        (source, held, since_ms): (&str, &[String], u64),
        (revision, words): (Revision, &ConfirmedWords),
        now_ms: u64,
    ) -> bool {
        let taken = self.0.get(source).filter(|(known, _)| *known == revision).map(|(_, ids)| ids);
        let is_new = |one: &String| !taken.is_some_and(|ids| ids.contains(one));
        words.counts(now_ms)
            && words.knew_of(since_ms)
            && !held.is_empty()
            && held.iter().all(|one| words.gone.contains(one) && is_new(one))
    }

    /// Notes what goes by it.
    pub(crate) fn note(
        &mut self,
        source: &Arc<str>,
        revision: Revision,
        ids: impl IntoIterator<Item = String>,
    ) {
        let taken = self.0.entry(Arc::clone(source)).or_default();
        if taken.0 != revision {
            *taken = (revision, BTreeSet::new());
        }
        taken.1.extend(ids);
    }

    /// Forgets those that are written down no longer.
    pub(crate) fn retain(&mut self, is_there: impl Fn(&str) -> bool) {
        self.0.retain(|source, _| is_there(source));
    }
}

/// The key of a source's.
pub(crate) fn confirmed_key(source: &str) -> Arc<str> {
    Arc::from(format!("{CONFIRMED}{source}"))
}

/// The source of a key; none when it is of something else.
pub(crate) fn confirmed_source(key: &str) -> Option<Arc<str>> {
    key.strip_prefix(CONFIRMED).filter(|source| !source.is_empty()).map(Arc::from)
}

/// What an object says; none, loudly, when it cannot be read.
pub(crate) fn confirmed(object: &Object) -> Option<ConfirmedWords> {
    match words(object) {
        Ok(words) => Some(words),
        Err(error) => {
            tracing::error!(%error, "a confirmation of the store cannot be read");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "dns:web.test";

    fn texts(ids: &[&str]) -> Vec<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    fn words() -> ConfirmedWords {
        let gone = texts(&["a", "b", "c", "d", "e"]).into_iter().collect();
        ConfirmedWords { at_unix_ms: 1_000, until_unix_ms: 300_000, gone }
    }

    #[test]
    fn what_is_confirmed_goes_also_in_pieces_and_each_of_it_once() {
        let (source, words) = (Arc::from(SOURCE), words());
        let mut taken = Taken::default();
        let may_go = |taken: &Taken, held: &[&str], revision| {
            taken.may_go((SOURCE, &texts(held), 900), (revision, &words), 1_000)
        };
        assert!(may_go(&taken, &["a", "b"], 7));
        taken.note(&source, 7, texts(&["a", "b"]));
        assert!(may_go(&taken, &["c", "d", "e"], 7), "the rest of it waits though it is confirmed");
        taken.note(&source, 7, texts(&["c", "d"]));
        assert!(may_go(&taken, &["e"], 7));
        for again in [&["a"][..], &["b", "e"], &["d"]] {
            assert!(!may_go(&taken, again, 7), "{again:?} came back, and goes unasked");
        }
        // A person has looked once more.
        assert!(may_go(&taken, &["a", "e"], 8));
        taken.note(&source, 8, texts(&["a"]));
        assert!(!may_go(&taken, &["a"], 8) && may_go(&taken, &["b"], 8));
        taken.retain(|source| source == SOURCE);
        assert!(!may_go(&taken, &["a"], 8));
        taken.retain(|_| false);
        assert!(taken.0.is_empty());
    }

    #[test]
    fn a_confirmation_is_about_what_it_names_and_for_a_while() {
        let words = words();
        let held_since = |held: &[&str], since_ms, now_ms| {
            Taken::default().may_go((SOURCE, &texts(held), since_ms), (7, &words), now_ms)
        };
        let may_go = |held: &[&str], now_ms| held_since(held, 1, now_ms);
        assert!(may_go(&["a"], 1_000) && may_go(&["b", "a"], 1_000));
        assert!(!may_go(&["a", "f"], 1_000) && !may_go(&[], 1_000));
        assert!(may_go(&["a"], 299_999) && !may_go(&["a"], 300_000));
        // Somebody may hear of it a little later; what is taken away after that is another matter.
        assert!(held_since(&["a"], 61_000, 61_000) && !held_since(&["a"], 61_001, 61_001));
        let old = r#"{"until_unix_ms":300000,"gone":["a"]}"#;
        let old: ConfirmedWords = serde_json::from_str(old).unwrap();
        assert!(!Taken::default().may_go((SOURCE, &texts(&["a"]), 100_000), (7, &old), 100_000));
        let key = confirmed_key("dns:srv:_http._tcp.web.test");
        assert_eq!(confirmed_source(&key).as_deref(), Some("dns:srv:_http._tcp.web.test"));
        assert_eq!((confirmed_source("apps/shop"), confirmed_source("confirmed/")), (None, None));
    }
}
