//! The deadline wheel of a worker: a deadline is a field, not an armed timer.
//!
//! Each connection has a slot; moving a deadline later writes one cell. The slot stands in the bucket of its
//! earliest deadline so far; when that comes due, the wheel looks at the field and either wakes the task or moves the slot.
//! Buckets are 10 ms wide, so a task may be woken up to 10 ms late, never early by its own check. A design after
//! Varghese and Lauck's hashed timing wheel (1987). Does not decide what a missed deadline means.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

/// Width of a bucket.
pub const TICK: Duration = Duration::from_millis(10);
const TICK_MS: u64 = 10;
/// Buckets in the wheel: 82 s in one turn, longer deadlines go round again.
const BUCKETS: usize = 8192;
/// No deadline.
const NEVER: u64 = u64::MAX;
/// Tasks woken before others have their turn. Hundreds can come due in one bucket (what waits in a line that is full, streams
/// that a client has let stand), and whoever comes meanwhile is not to wait behind all of them.
const AT_ONCE: usize = 8;
/// Slots are made so many at a time and kept: each on its own, between what a connection holds, would keep a page of the heap
/// from being given back when a crowd has left.
const BLOCK: usize = 64;

type Block = Rc<[Slot; BLOCK]>;

#[derive(Debug)]
struct Slot {
    deadline_ms: Cell<u64>,
    scheduled_ms: Cell<u64>,
    busy: Cell<bool>,
    generation: Cell<u32>,
    waker: RefCell<Option<Waker>>,
}

impl Slot {
    fn unused() -> Self {
        Self {
            deadline_ms: Cell::new(NEVER),
            scheduled_ms: Cell::new(NEVER),
            busy: Cell::new(false),
            generation: Cell::new(0),
            waker: RefCell::new(None),
        }
    }
}

/// Where a slot of a number stands in its block.
fn place(index: u32) -> usize {
    index as usize % BLOCK
}

/// A slot standing in a bucket. Stale when the slot was freed or is scheduled for another time since.
#[derive(Debug, Clone, Copy)]
struct Entry {
    index: u32,
    generation: u32,
    at_ms: u64,
}

/// The wheel of one worker.
#[derive(Debug)]
pub struct Wheel {
    blocks: RefCell<Vec<Block>>,
    free: RefCell<Vec<u32>>,
    buckets: RefCell<Vec<Vec<Entry>>>,
    turned_ms: Cell<u64>,
    /// What has come due and has not been looked at.
    due: RefCell<VecDeque<Entry>>,
}

/// A connection's slot; freed when dropped.
#[derive(Debug)]
pub struct Deadline {
    wheel: Rc<Wheel>,
    index: u32,
    block: Block,
}

impl Wheel {
    /// An empty wheel at time 0. Times are milliseconds of the worker's clock.
    pub fn new() -> Rc<Self> {
        Rc::new(Self {
            blocks: RefCell::default(),
            free: RefCell::default(),
            buckets: RefCell::new(vec![Vec::new(); BUCKETS]),
            turned_ms: Cell::new(0),
            due: RefCell::default(),
        })
    }

    /// A slot without a deadline. Called once a connection.
    pub fn slot(self: &Rc<Self>) -> Deadline {
        let (mut blocks, mut free) = (self.blocks.borrow_mut(), self.free.borrow_mut());
        let reused = free.pop().and_then(|i| blocks.get(i as usize / BLOCK).map(|b| (i, Rc::clone(b))));
        let (index, block) = reused.unwrap_or_else(|| {
            let first = (blocks.len() * BLOCK) as u32;
            let block: Block = Rc::new(std::array::from_fn(|_| Slot::unused()));
            blocks.push(Rc::clone(&block));
            free.extend((first + 1..first + BLOCK as u32).rev());
            (first, block)
        });
        Deadline { wheel: Rc::clone(self), index, block }
    }

    fn schedule(&self, index: u32, slot: &Slot, at_ms: u64) {
        slot.scheduled_ms.set(at_ms);
        self.enter(Entry { index, generation: slot.generation.get(), at_ms });
    }

    fn enter(&self, entry: Entry) {
        // The bucket after the one that holds the instant, so that the wheel never looks too early.
        let tick = (entry.at_ms.max(self.turned_ms.get()) / TICK_MS + 1) as usize % BUCKETS;
        if let Some(bucket) = self.buckets.borrow_mut().get_mut(tick) {
            bucket.push(entry);
        }
    }

    /// Turns to a time and wakes the first tasks whose deadlines have come; tells whether there are more. Called every tick by
    /// the worker.
    pub fn turn(&self, now_ms: u64) -> bool {
        let first = self.turned_ms.get() / TICK_MS + 1;
        let last = now_ms / TICK_MS;
        let mut due = self.due.borrow_mut();
        for tick in first..=last.min(first + BUCKETS as u64) {
            if let Some(bucket) = self.buckets.borrow_mut().get_mut(tick as usize % BUCKETS) {
                due.extend(bucket.drain(..));
            }
        }
        drop(due);
        self.turned_ms.set(now_ms);
        self.wake_some()
    }

    /// Wakes the next tasks whose deadlines have come; tells whether there are more. Called by the worker after it has looked
    /// at its sockets.
    pub fn wake_some(&self) -> bool {
        let mut left = AT_ONCE;
        while left > 0 {
            let Some(entry) = self.due.borrow_mut().pop_front() else { return false };
            let block = self.blocks.borrow().get(entry.index as usize / BLOCK).cloned();
            if let Some(slot) = block.as_ref().and_then(|block| block.get(place(entry.index))) {
                left -= usize::from(self.look(entry, slot));
            }
        }
        !self.due.borrow().is_empty()
    }

    /// Whether a task was woken.
    fn look(&self, entry: Entry, slot: &Slot) -> bool {
        if slot.generation.get() != entry.generation || slot.scheduled_ms.get() != entry.at_ms {
            return false;
        }
        let now_ms = self.turned_ms.get();
        let deadline = slot.deadline_ms.get();
        if entry.at_ms > now_ms {
            // More than one turn of the wheel away.
            self.enter(entry);
        } else if deadline <= now_ms {
            slot.scheduled_ms.set(NEVER);
            let waker = slot.waker.borrow();
            if let Some(waker) = waker.as_ref() {
                waker.wake_by_ref();
            }
            return waker.is_some();
        } else if deadline == NEVER {
            slot.scheduled_ms.set(NEVER);
        } else {
            self.schedule(entry.index, slot, deadline);
        }
        false
    }

    /// Wakes every task (`all`) or those inside an exchange. Called on drain and when old tables must be let go.
    pub fn wake(&self, all: bool) {
        for slot in self.blocks.borrow().iter().flat_map(|block| block.iter()) {
            if (all || slot.busy.get())
                && let Some(waker) = slot.waker.borrow().as_ref()
            {
                waker.wake_by_ref();
            }
        }
    }

    /// Slots in use.
    pub fn in_use(&self) -> usize {
        self.blocks.borrow().len() * BLOCK - self.free.borrow().len()
    }
}

impl Deadline {
    /// Sets the deadline and whom to wake. Cheap when it moves later.
    pub fn set(&self, at_ms: u64, waker: &Waker) {
        let Some(slot) = self.block.get(place(self.index)) else { return };
        slot.deadline_ms.set(at_ms);
        let mut held = slot.waker.borrow_mut();
        if !held.as_ref().is_some_and(|w| w.will_wake(waker)) {
            *held = Some(waker.clone());
        }
        if at_ms < slot.scheduled_ms.get() {
            self.wheel.schedule(self.index, slot, at_ms);
        }
    }

    /// Marks whether the connection is inside an exchange.
    pub fn set_busy(&self, busy: bool) {
        if let Some(slot) = self.block.get(place(self.index)) {
            slot.busy.set(busy);
        }
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        let Some(slot) = self.block.get(place(self.index)) else { return };
        slot.generation.set(slot.generation.get().wrapping_add(1));
        slot.deadline_ms.set(NEVER);
        slot.scheduled_ms.set(NEVER);
        slot.busy.set(false);
        slot.waker.replace(None);
        self.wheel.free.borrow_mut().push(self.index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::Wake;

    #[derive(Default)]
    struct Count(AtomicU32);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn wakes_at_the_deadline_and_not_before() {
        let wheel = Wheel::new();
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let slot = wheel.slot();
        slot.set(500, &waker);
        slot.set(60_000, &waker);
        slot.set(1_000, &waker);
        let mut ms = 0;
        while ms < 1_000 {
            wheel.turn(ms);
            assert_eq!(count.0.load(Ordering::Relaxed), 0, "woken at {ms}");
            ms += 7;
        }
        wheel.turn(1_010);
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        // Longer than one turn of the wheel.
        slot.set(1_010 + 200_000, &waker);
        for ms in (1_010..201_000).step_by(1_000) {
            wheel.turn(ms);
        }
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        wheel.turn(201_020);
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn many_that_come_due_together_are_woken_a_few_at_a_time() {
        let wheel = Wheel::new();
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut slots: Vec<Deadline> = (0..3 * AT_ONCE).map(|_| wheel.slot()).collect();
        for slot in &slots {
            slot.set(50, &waker);
        }
        // One whose deadline has moved, and one that has left, take nobody's place.
        slots[0].set(5_000, &waker);
        slots.pop();
        assert!(wheel.turn(500));
        assert_eq!(count.0.load(Ordering::Relaxed), AT_ONCE as u32);
        // Time goes on meanwhile, and nothing is lost or woken twice.
        assert!(wheel.turn(510));
        assert_eq!(count.0.load(Ordering::Relaxed), 2 * AT_ONCE as u32);
        assert!(!wheel.wake_some());
        assert_eq!(count.0.load(Ordering::Relaxed), slots.len() as u32 - 1);
        assert!(!wheel.turn(520));
        assert!(!wheel.turn(6_000));
        assert_eq!(count.0.load(Ordering::Relaxed), slots.len() as u32);
    }

    #[test]
    fn a_dropped_slot_wakes_nobody_and_is_reused() {
        let wheel = Wheel::new();
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let slot = wheel.slot();
        slot.set(50, &waker);
        drop(slot);
        let slot = wheel.slot();
        assert_eq!((slot.index, wheel.in_use()), (0, 1));
        wheel.turn(500);
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
    }
}
