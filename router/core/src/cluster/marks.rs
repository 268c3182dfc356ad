//! Numbers that stand for endpoints in what clients carry: of their ids, the same in every process and release, whatever order and
//! weight they have.

use super::EndpointEntry;
use crate::stable;

/// The endpoints of a cluster by their numbers.
#[derive(Debug)]
pub struct Marks(Box<[(u64, u32)]>);

impl Marks {
    /// Makes them. O(endpoints), sorted; off the workers.
    pub(super) fn new(endpoints: &[EndpointEntry]) -> Self {
        let mut all: Vec<(u64, u32)> =
            (0..).zip(endpoints).map(|(at, entry)| (mark(entry.endpoint.id.as_str()), at)).collect();
        all.sort_unstable();
        Self(all.into())
    }

    /// The place of the endpoint with this number.
    pub fn find(&self, mark: u64) -> Option<u32> {
        let at = self.0.binary_search_by_key(&mark, |one| one.0).ok()?;
        self.0.get(at).map(|one| one.1)
    }
}

/// The number of an id. A promise: clients hold it for as long as they like.
pub fn mark(id: &str) -> u64 {
    stable::hash(b"affinity", id.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_never_change() {
        assert_eq!(mark("web.1"), 3_372_973_083_091_467_159);
    }
}
