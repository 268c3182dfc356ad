//! What a run knows of the exchanges that it does not see: how many began and how each ended, and the time that it makes.
//!
//! One thread is one run. `exchange::trace` tells it, and `clock` asks it, in test builds alone.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use ekiden_core::outcome::{Cause, Phase};

thread_local! {
    static NOW: Cell<Option<Duration>> = const { Cell::new(None) };
    static BEGUN: Cell<u64> = const { Cell::new(0) };
    static OVERWRITTEN: Cell<u64> = const { Cell::new(0) };
    static ENDED: RefCell<Vec<(Cause, Phase)>> = const { RefCell::new(Vec::new()) };
}

/// The time since the epoch of the clocks; none on a thread that runs no simulation.
pub(crate) fn now() -> Option<Duration> {
    NOW.get()
}

/// An exchange begins; `open` says that the one before in its workspace has not ended.
pub(crate) fn begun(open: bool) {
    BEGUN.set(BEGUN.get() + 1);
    OVERWRITTEN.set(OVERWRITTEN.get() + u64::from(open));
}

/// An exchange ends.
pub(crate) fn ended(cause: Cause, phase: Phase) {
    ENDED.with_borrow_mut(|ended| ended.push((cause, phase)));
}

/// Begins a run.
pub(super) fn begin() {
    NOW.set(Some(Duration::from_secs(1)));
    BEGUN.set(0);
    OVERWRITTEN.set(0);
    ENDED.take();
}

/// Lets time pass.
pub(super) fn pass(time: Duration) {
    NOW.set(NOW.get().map(|now| now + time));
}

/// Ends a run: exchanges begun, those of them that another one took the place of, and the ends.
pub(super) fn end() -> (u64, u64, Vec<(Cause, Phase)>) {
    NOW.set(None);
    (BEGUN.get(), OVERWRITTEN.get(), ENDED.take())
}
