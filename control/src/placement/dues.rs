//! When parts are to be looked at again: by place, so that a word of one source costs what it touches, and the first of all.
//!
//! Pure. Does not look at parts.

use std::collections::{BTreeMap, BTreeSet};

use crate::overlay::ClusterKey;

/// Times by place, in milliseconds since the Unix epoch.
#[derive(Debug, Default)]
pub(crate) struct Dues {
    of: BTreeMap<ClusterKey, u64>,
    order: BTreeSet<(u64, ClusterKey)>,
}

impl Dues {
    /// Notes when a place is due; none says never.
    pub(crate) fn set(&mut self, place: &ClusterKey, at_ms: Option<u64>) {
        if self.of.get(place) == at_ms.as_ref() {
            return;
        }
        if let Some(before) = self.of.remove(place) {
            self.order.remove(&(before, place.clone()));
        }
        if let Some(at_ms) = at_ms {
            self.of.insert(place.clone(), at_ms);
            self.order.insert((at_ms, place.clone()));
        }
    }

    /// The first.
    pub(crate) fn first(&self) -> Option<u64> {
        self.order.first().map(|(at_ms, _)| *at_ms)
    }
}

#[cfg(test)]
mod tests {
    use ekiden_config::names::{AppName, ClusterName};

    use super::*;

    #[test]
    fn the_first_of_all_is_known_whatever_changes() {
        let place = |app: &str| ClusterKey {
            app: AppName::new(app).unwrap(),
            cluster: ClusterName::new("web").unwrap(),
        };
        let mut dues = Dues::default();
        assert_eq!(dues.first(), None);
        for (app, at_ms, first) in [
            ("a", Some(7), Some(7)),
            ("b", Some(5), Some(5)),
            ("b", Some(5), Some(5)),
            ("b", Some(9), Some(7)),
            ("a", None, Some(9)),
            ("c", None, Some(9)),
            ("b", None, None),
        ] {
            dues.set(&place(app), at_ms);
            assert_eq!(dues.first(), first, "{app} {at_ms:?}");
            assert_eq!(dues.of.len(), dues.order.len());
        }
    }
}
