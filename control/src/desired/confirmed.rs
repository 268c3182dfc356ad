//! What people have confirmed of sources that each control process follows by itself: DNS and keys of etcds. Stored for those that
//! follow the leader, which withhold the same and would have it again once they lead.
//!
//! A confirmation is about what it names, and counts for as long as that would be withheld: a process may hear of the removal later
//! than of the confirmation. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::words;
use crate::store::Object;

/// Where they are.
pub(crate) const CONFIRMED: &str = "confirmed/";

/// One of them, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ConfirmedWords {
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

    /// Whether it is about all of this, and this is something.
    pub(crate) fn covers(&self, held: &[String]) -> bool {
        !held.is_empty() && held.iter().all(|one| self.gone.contains(one))
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

    #[test]
    fn a_confirmation_is_about_what_it_names_and_for_a_while() {
        let words = ConfirmedWords { until_unix_ms: 10, gone: ["a", "b"].map(str::to_owned).into() };
        let held = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        assert!(words.covers(&held(&["a"])) && words.covers(&held(&["b", "a"])));
        assert!(!words.covers(&held(&["a", "c"])) && !words.covers(&[]));
        assert!(words.counts(9) && !words.counts(10));
        let key = confirmed_key("dns:srv:_http._tcp.web.test");
        assert_eq!(confirmed_source(&key).as_deref(), Some("dns:srv:_http._tcp.web.test"));
        assert_eq!((confirmed_source("apps/shop"), confirmed_source("confirmed/")), (None, None));
    }
}
