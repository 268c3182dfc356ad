//! The slots of an endpoint: a bound on its requests in flight, and the pick's question whether one is free.
//!
//! The line of those who wait is the cluster's (see `overload::slots`).

use std::sync::atomic::Ordering;

use super::{BARRED, EJECTED, EndpointCell, SLOTTED, WARMING};

impl EndpointCell {
    /// Takes this many requests at once from now on; 0 means no bound. What is in flight beyond it goes on. Called when a
    /// table is compiled.
    pub fn set_slots(&self, count: u32) {
        if self.most() == count {
            return;
        }
        let story = self.story();
        self.extra().slots.store(count, Ordering::Relaxed);
        self.flags.store(super::flags_of(&story) | self.slotted(), Ordering::Release);
    }

    /// Most requests at once; 0 means no bound.
    #[inline]
    fn most(&self) -> u32 {
        self.extra_seen().map_or(0, |extra| extra.slots.load(Ordering::Relaxed))
    }

    /// The flag that goes with the slots.
    pub(super) fn slotted(&self) -> u32 {
        if self.most() > 0 { SLOTTED } else { 0 }
    }

    /// Most requests at once; none means no bound.
    pub fn slots(&self) -> Option<u32> {
        Some(self.most()).filter(|count| *count > 0)
    }

    /// Whether it has a bound on requests at once. One load.
    #[inline]
    pub fn is_slotted(&self) -> bool {
        self.flags.load(Ordering::Relaxed) & SLOTTED != 0
    }

    /// As [`EndpointCell::takes`], and there is a free slot. One load for an endpoint that is plainly ready and has no bound.
    #[inline]
    pub(crate) fn takes_now(&self, barred: u32, grain: u32) -> bool {
        let flags = self.flags.load(Ordering::Acquire);
        flags == 0
            || (flags & barred == 0
                && (flags & WARMING == 0 || grain <= self.share())
                && (flags & SLOTTED == 0 || self.in_flight() < self.most()))
    }

    /// Counts a request in unless every slot is taken. Without slots it always does.
    #[inline]
    pub fn try_enter(&self) -> bool {
        if !self.is_slotted() {
            self.enter();
            return true;
        }
        let most = self.most();
        let one_more = |now: u32| (now < most).then(|| now + 1);
        self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }

    /// Whether new requests may come, slots aside; with `is_panic` while it is ejected too.
    pub fn is_open(&self, is_panic: bool) -> bool {
        let barred = if is_panic { BARRED & !EJECTED } else { BARRED };
        self.flags.load(Ordering::Acquire) & barred == 0
    }

    /// Whether the slot of a request that ends may go straight to another one: the endpoint may be picked, and has not more
    /// in flight than it should since its slots were made fewer.
    pub fn may_hand_over(&self) -> bool {
        self.may_pick() && self.slots().is_some_and(|most| self.in_flight() <= most)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cluster::fixture::entries;

    #[test]
    fn a_bound_holds_and_goes() {
        let cell = entries(&[1])[0].cell.clone();
        assert!(!cell.is_slotted() && cell.takes_now(BARRED, 0));
        cell.set_slots(2);
        assert!(cell.may_pick() && cell.try_enter() && cell.try_enter());
        assert!(!cell.try_enter() && !cell.takes_now(BARRED, 0) && cell.takes(BARRED, 0));
        assert!(cell.may_hand_over() && cell.is_open(false));
        cell.set_slots(1);
        assert!(!cell.may_hand_over(), "one too many is in flight");
        cell.leave();
        assert!(cell.may_hand_over() && !cell.try_enter());
        cell.set_slots(0);
        assert!(cell.try_enter() && !cell.is_slotted());
        assert_eq!((cell.in_flight(), cell.slots()), (2, None));
    }

    #[test]
    fn marks_and_slots_do_not_disturb_each_other() {
        let cell = entries(&[1])[0].cell.clone();
        cell.set_slots(1);
        cell.set_draining(true, 0);
        assert!(cell.is_slotted() && !cell.may_pick() && !cell.is_open(false));
        cell.set_draining(false, 0);
        assert!(cell.is_slotted() && cell.may_pick());
        cell.mark_gone();
        assert!(cell.is_slotted() && cell.is_gone() && !cell.may_hand_over());
    }

    #[test]
    fn many_threads_never_take_more() {
        let cell = entries(&[1])[0].cell.clone();
        cell.set_slots(3);
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let cell = Arc::clone(&cell);
                std::thread::spawn(move || {
                    for _ in 0..10_000 {
                        if cell.try_enter() {
                            assert!(cell.in_flight() <= 3);
                            cell.leave();
                        }
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(cell.in_flight(), 0);
    }
}
