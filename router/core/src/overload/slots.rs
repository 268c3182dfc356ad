//! Slots of endpoints, shared by all workers: a request that ends gives its slot to the next in the line of its cluster.
//!
//! The slots in use are the requests in flight of the cell. While nobody waits, taking and giving one back is one atomic
//! operation each. The lock is taken by those that wait and by who gives a slot to them, for a step of the line. A slot is
//! handed over and never free in between, so that no newcomer overtakes the line. Who joins looks for a free slot after it
//! stands in line, and who frees one looks at the line after it is free: one of the two sees the other.

use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use ekiden_config::model::Priority;

use super::line::{Due, Line, Look, Place, Rules, Verdict, Wakers};
use crate::cell::EndpointCell;
use crate::cluster::{Attempt, ClusterTable, Pick};
use crate::stats::ClusterCell;

/// Endpoints that one search gives away at most: the next one goes on.
const SEARCH_MAX: usize = 64;

/// The line of a cluster, which outlives tables.
#[derive(Debug, Default)]
pub struct Gate {
    waiting: AtomicU32,
    line: Mutex<Line<Waker, Arc<EndpointCell>>>,
}

impl Gate {
    /// Requests that wait. Any thread.
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Works on the line; what `work` wants woken is woken when the lock is free.
    fn with<T>(&self, work: impl FnOnce(&mut Line<Waker, Arc<EndpointCell>>) -> (T, Wakers<Waker>)) -> T {
        let mut line: MutexGuard<'_, _> = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        let (result, wakers) = work(&mut line);
        self.waiting.store(line.len(), Ordering::SeqCst);
        drop(line);
        wakers.into_iter().for_each(Waker::wake);
        result
    }

    /// Counts a request out of an endpoint: its slot goes to the next in line, if there is one. Called once for each that was
    /// counted in.
    pub fn release(&self, cell: &Arc<EndpointCell>) {
        if self.waiting() > 0 && cell.may_hand_over() && self.hand(cell) {
            return;
        }
        cell.leave();
        fence(Ordering::SeqCst);
        if self.waiting() > 0 {
            self.tell_to_search();
        }
    }

    /// Wakes all in line: readiness or the table has changed.
    pub fn wake_all(&self) {
        if self.waiting() > 0 {
            self.with(|line| ((), line.all().cloned().collect()));
        }
    }

    /// Tells the next in line that a slot may be free.
    fn tell_to_search(&self) {
        self.with(|line| ((), line.search().into_iter().collect()));
    }

    /// Gives a slot that has been taken to the next in line; false when nobody there may have it.
    fn hand(&self, cell: &Arc<EndpointCell>) -> bool {
        self.with(|line| match line.admit(cell.uid(), Arc::clone(cell)) {
            Ok(wakers) => (true, wakers),
            Err(_nobody) => (false, Wakers::new()),
        })
    }
}

/// A place in a cluster's line. Dropped, it is given up, and with it the slot that it was given and did not take.
#[derive(Debug)]
pub struct Ticket {
    cell: Arc<ClusterCell>,
    place: Option<Place>,
    /// Until when it is good.
    pub due: Due,
}

impl Ticket {
    /// Takes a place in the line of a cluster; `None` when it is full. The caller has [`ClusterTable::admit_waiting`] look for
    /// free slots after that, and before it waits.
    pub fn join(
        cell: &Arc<ClusterCell>,
        priority: Priority,
        avoid: &[u64],
        rules: &Rules,
        now_us: u64,
    ) -> Option<Self> {
        let joined = cell.gate.with(|line| match line.join(priority, avoid, rules, now_us) {
            Some((place, due, displaced)) => (Some((place, due)), displaced),
            None => (None, Wakers::new()),
        });
        let (place, due) = joined?;
        Some(Self { cell: Arc::clone(cell), place: Some(place), due })
    }

    /// What has come of it. After [`Look::Settled`] it is used up, and the slot, if there is one, the caller's.
    pub fn look(&mut self, waker: &Waker) -> Look<Arc<EndpointCell>> {
        let Some(place) = self.place else { return Look::Settled(Verdict::Displaced) };
        let look = self.cell.gate.with(|line| (line.look(place, waker), Wakers::new()));
        if matches!(look, Look::Settled(_)) {
            self.place = None;
        }
        look
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let Some(place) = self.place.take() else { return };
        let gate = &self.cell.gate;
        let (slot, was_told) = gate.with(|line| (line.leave(place), Wakers::new()));
        if let Some(slot) = slot {
            gate.release(&slot);
        } else if was_told {
            gate.tell_to_search();
        }
    }
}

impl ClusterTable {
    /// Whether an endpoint that was not tried would take a request if it had a slot free. O(endpoints); called before a wait.
    pub fn is_full(&self, tried: &[u32]) -> bool {
        let is_panic = self.is_panic();
        (0u32..).zip(self.endpoints.iter()).any(|(index, entry)| {
            !tried.contains(&index) && entry.cell.is_slotted() && entry.cell.is_open(is_panic)
        })
    }

    /// Gives free slots to those in line. `attempt` is what the caller, who stands in line, asks for. Called by who has just
    /// joined, and when readiness or the table has changed.
    pub fn admit_waiting(&self, attempt: Attempt<'_>, random: &mut dyn FnMut() -> u64) {
        fence(Ordering::SeqCst);
        let gate = &self.cell.gate;
        for _ in 0..SEARCH_MAX {
            if gate.waiting() == 0 {
                return;
            }
            let Pick::Endpoint(index) = self.pick(attempt, random) else { return };
            let Some(entry) = self.endpoint(index) else { return };
            // Lost to a newcomer that came before the line was there: look again.
            if !entry.cell.try_enter() {
                continue;
            }
            if !gate.hand(&entry.cell) {
                return gate.release(&entry.cell);
            }
        }
        gate.tell_to_search();
    }
}

#[cfg(test)]
mod tests;
