//! The seat of a cluster: an ejected endpoint that one request of a client, which can be sent again, shall try.
//!
//! The probe thread offers an endpoint, a worker takes it; one at a time for each cluster. Empty, it costs a worker one load
//! of a word that hardly ever changes. Does not say which requests may try, nor what came of it.

use std::sync::atomic::{AtomicU64, Ordering};

/// Times are counted in so many bits.
const TIMES: u64 = (1 << 30) - 1;

/// See the module. An endpoint is named by its place in a table and by the low half of its cell's number: the place may be
/// another's in the next table, and an offer is not worth a search.
#[derive(Debug, Default)]
pub struct Seat {
    offer: AtomicU64,
    /// What came of the last try: whose it was, how often one ended, and how.
    told: AtomicU64,
}

/// What came of a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tried {
    /// The endpoint answered, and well.
    Well,
    /// It failed.
    Badly,
    /// Nobody knows: the client left, or the endpoint was not reached.
    Lost,
}

/// An endpoint that is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    index: u32,
    uid: u32,
}

impl Offer {
    /// The endpoint at this place in a table, whose cell has this number.
    pub fn new(index: u32, uid: u64) -> Self {
        Self { index, uid: (uid & u64::from(u32::MAX)) as u32 }
    }

    /// Its place in the table that it was offered from.
    pub fn index(self) -> u32 {
        self.index
    }

    /// Whether the cell of this number is meant.
    pub fn is_of(self, uid: u64) -> bool {
        Self::new(self.index, uid) == self
    }

    /// Never zero: an empty seat is.
    fn word(self) -> u64 {
        (u64::from(self.index) + 1) << 32 | u64::from(self.uid)
    }
}

impl Seat {
    /// Offers an endpoint; false when another one is offered. Called by the probe thread.
    pub fn offer(&self, offer: Offer) -> bool {
        self.offer.compare_exchange(0, offer.word(), Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Whether nobody is offered. One load; called by workers for each pick.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.offer.load(Ordering::Relaxed) == 0
    }

    /// Who is offered.
    pub fn offered(&self) -> Option<Offer> {
        let word = self.offer.load(Ordering::Acquire);
        let index = u32::try_from(word >> 32).ok()?.checked_sub(1)?;
        Some(Offer { index, uid: (word & u64::from(u32::MAX)) as u32 })
    }

    /// Takes this offer, or takes it back; false when it is not there any more, so that one request tries at a time.
    pub fn take(&self, offer: Offer) -> bool {
        self.offer.compare_exchange(offer.word(), 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Tells what came of the try of the endpoint whose cell has this number. Called by the worker that took it.
    pub fn tell(&self, uid: u64, tried: Tried) {
        let times = (self.told.load(Ordering::Relaxed) >> 2).wrapping_add(1) & TIMES;
        let how = match tried {
            Tried::Lost => 0,
            Tried::Well => 1,
            Tried::Badly => 2,
        };
        self.told.store((uid & u64::from(u32::MAX)) << 32 | times << 2 | how, Ordering::Release);
    }

    /// The last word, to be compared with the next one.
    pub fn last_told(&self) -> u64 {
        self.told.load(Ordering::Acquire)
    }

    /// What came of a try of this cell since the word `before`; none when nothing was told of it.
    pub fn told_since(&self, before: u64, uid: u64) -> Option<Tried> {
        let word = self.last_told();
        if word == before || word >> 32 != uid & u64::from(u32::MAX) {
            return None;
        }
        Some(match word & 3 {
            1 => Tried::Well,
            2 => Tried::Badly,
            _ => Tried::Lost,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_of_a_try_is_told_of_whom_it_was() {
        let (seat, uid) = (Seat::default(), 9 << 32 | 5);
        let mut before = seat.last_told();
        for tried in [Tried::Well, Tried::Well, Tried::Lost, Tried::Badly] {
            assert_eq!(seat.told_since(before, uid), None);
            seat.tell(uid, tried);
            assert_eq!((seat.told_since(before, uid), seat.told_since(before, 6)), (Some(tried), None));
            before = seat.last_told();
        }
    }

    #[test]
    fn one_is_offered_and_taken_once() {
        let seat = Seat::default();
        assert_eq!((seat.is_empty(), seat.offered()), (true, None));
        let (one, other) = (Offer::new(0, u64::MAX), Offer::new(7, 1 << 40 | 5));
        assert!(seat.offer(one) && !seat.offer(other), "one at a time");
        assert_eq!((seat.is_empty(), seat.offered()), (false, Some(one)));
        assert!(!seat.take(other) && seat.take(one) && !seat.take(one));
        assert!(seat.is_empty() && seat.offer(other));
        let seen = seat.offered().unwrap();
        assert_eq!(seen.index(), 7);
        assert!(
            seen.is_of(1 << 40 | 5) && !seen.is_of(6),
            "a cell of another number at its place is another endpoint"
        );
    }
}
