//! Requests at a time of each key: a table of fixed capacity, shared by all workers.
//!
//! Set-associative like `accounts`, with a count in place of a time. A key without an entry takes one that is empty; where its
//! set has none, it joins one of another key, always the same, with what that counts: memory is the capacity, whatever clients
//! send. The entry stays that of its owner. A key that joined one gets an entry of its own once there is one: until the requests end
//! that it has in the other, it has up to twice its places, and never more. Does not know requests; who took a place gives it back
//! (see [`super::Hold`]).

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use super::accounts::WAYS;

#[derive(Debug, Default)]
#[repr(align(128))]
struct Set {
    owners: [AtomicU64; WAYS],
    counts: [AtomicU32; WAYS],
}

/// The places of one limit. Unused, they take no memory.
#[derive(Debug)]
pub(super) struct Places {
    sets: OnceLock<Box<[Set]>>,
    /// Sets less one: a power of two.
    mask: u64,
}

/// A place that a request has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Its number.
    pub(super) at: u32,
    /// Places that the key has left.
    pub(super) left: u32,
    /// It is one of another key, which has requests.
    pub(super) crowded: bool,
}

impl Places {
    /// For so many keys at a time, rounded up to a power of two, at least one set.
    pub(super) fn new(keys: u32) -> Self {
        let sets = u64::from(keys).div_ceil(WAYS as u64).next_power_of_two();
        Self { sets: OnceLock::new(), mask: sets - 1 }
    }

    /// A place for a request of a key; none when the key has as many as it may.
    pub(super) fn enter(&self, key: u64, most: u32) -> Option<Place> {
        // Never zero, which is nobody.
        let key = key.max(1);
        let number = key & self.mask;
        let set = self.sets().get(number as usize)?;
        let held = set.owners.iter().position(|owner| owner.load(Relaxed) == key);
        let way = held.or_else(|| empty(set)).unwrap_or((key >> 32) as usize % WAYS);
        let (owner, count) = (set.owners.get(way)?, set.counts.get(way)?);
        let before =
            count.fetch_update(Relaxed, Relaxed, |count| (count < most).then_some(count + 1)).ok()?;
        // Of an entry with requests the owner stays: it would find another one for those that it has not asked yet.
        if held.is_none() && before == 0 {
            owner.store(key, Relaxed);
        }
        let at = number as u32 * WAYS as u32 + way as u32;
        Some(Place { at, left: most - before - 1, crowded: held.is_none() && before > 0 })
    }

    /// Gives a place back.
    pub(super) fn leave(&self, at: u32) {
        let set = self.sets().get(at as usize / WAYS);
        if let Some(count) = set.and_then(|set| set.counts.get(at as usize % WAYS)) {
            count.fetch_sub(1, Relaxed);
        }
    }

    /// Keys with requests now. Walks all of them: for telemetry.
    pub(super) fn in_use(&self) -> u64 {
        let sets = self.sets.get().map_or(&[][..], |sets| sets);
        let busy = |set: &Set| set.counts.iter().filter(|count| count.load(Relaxed) > 0).count() as u64;
        sets.iter().map(busy).sum()
    }

    fn sets(&self) -> &[Set] {
        self.sets.get_or_init(|| (0..=self.mask).map(|_| Set::default()).collect())
    }
}

fn empty(set: &Set) -> Option<usize> {
    set.counts.iter().position(|count| count.load(Relaxed) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_so_many_places_and_gets_them_back() {
        let places = Places::new(64);
        let entered: Vec<Place> = (0..5).filter_map(|_| places.enter(7, 3)).collect();
        assert_eq!(entered.iter().map(|place| place.left).collect::<Vec<_>>(), [2, 1, 0]);
        assert!(places.enter(8, 3).is_some(), "another key has its own");
        assert_eq!(places.in_use(), 2);
        places.leave(entered[0].at);
        assert!(places.enter(7, 3).is_some());
        assert!(places.enter(7, 3).is_none());
    }

    #[test]
    fn keys_that_do_not_fit_share_and_none_gets_more() {
        let places = Places::new(1);
        // Eight entries, each with one request: the ninth key joins one of them.
        for key in 1..=8 {
            assert_eq!(places.enter(key, 2).map(|place| place.crowded), Some(false), "{key}");
        }
        let ninth = places.enter(9, 2).unwrap();
        assert!(ninth.crowded && ninth.left == 0);
        assert!(places.enter(9, 2).is_none(), "it joins one entry and no other");
        // The one whose entry it joined has not got a fresh one for it.
        let owner = u64::from(ninth.at) + 1;
        assert!(
            places.enter(owner, 2).is_none(),
            "{owner} has one request, and the ninth the other of its two places"
        );
        // However many keys come, eight entries of two places are all there is.
        let more = (100..200_u64).filter(|key| places.enter(key << 32, 2).is_some()).count();
        assert_eq!(more, 7);
        assert_eq!(places.in_use(), 8);
    }
}
