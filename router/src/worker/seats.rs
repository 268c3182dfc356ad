//! Tasks whose work has ended, kept for the work to come: client connections, and the streams of those that carry many.
//!
//! A task is an allocation that the allocator has to align, a place in the runtime's list and a copy of its future:
//! together some 2 % of what a connection with one request costs. Does not accept, serve or count anything.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use crate::buffer::Spares;

/// Where one task waits.
pub struct Seat<W> {
    next: Cell<Option<W>>,
    given_up: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl<W> Default for Seat<W> {
    fn default() -> Self {
        Self { next: Cell::new(None), given_up: Cell::new(false), waker: RefCell::default() }
    }
}

impl<W> Seat<W> {
    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

/// A waiting task. Dropped, it wakes the task, which ends unless it finds work on its seat.
struct Waiting<W>(Rc<Seat<W>>);

impl<W> Drop for Waiting<W> {
    fn drop(&mut self) {
        self.0.given_up.set(true);
        self.0.wake();
    }
}

/// The waiting tasks of one kind of a worker.
pub struct Seats<W>(Spares<Waiting<W>>);

impl<W> Seats<W> {
    /// None yet; at most `most` wait, each with the memory of its idle task.
    pub fn new(most: usize) -> Self {
        Self(Spares::new(most))
    }

    /// Hands work to a waiting task, or back when none waits.
    pub fn hand_over(&self, work: W) -> Option<W> {
        let Some(waiting) = self.0.take() else { return Some(work) };
        waiting.0.next.set(Some(work));
        None
    }

    /// Waits for more work; none when the task is to end. `seat` is the task's own and made when it first
    /// waits.
    pub async fn next(&self, seat: &mut Option<Rc<Seat<W>>>) -> Option<W> {
        let seat = seat.get_or_insert_default();
        seat.given_up.set(false);
        let mut waits = false;
        poll_fn(|cx| {
            if let Some(work) = seat.next.take() {
                return Poll::Ready(Some(work));
            }
            if seat.given_up.get() {
                return Poll::Ready(None);
            }
            if !std::mem::replace(&mut waits, true) {
                // One waker for the life of the task, which is always polled by its own.
                seat.waker.borrow_mut().get_or_insert_with(|| cx.waker().clone());
                self.0.give(Waiting(Rc::clone(seat)));
            }
            Poll::Pending
        })
        .await
    }

    /// Lets half of the tasks that nobody needed since the last call end; returns how many.
    pub fn trim(&self) -> usize {
        self.0.trim()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::Context;

    /// Polls once; the outer `None` is "still waiting".
    fn poll(future: std::pin::Pin<&mut impl Future<Output = Option<()>>>) -> Option<bool> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(work) => Some(work.is_some()),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_task_that_nobody_needs_ends_and_no_more_wait_than_are_kept() {
        const KEPT: usize = 8;
        let seats = Seats::<()>::new(KEPT);
        let mut seat = None;
        let mut waiting = pin!(seats.next(&mut seat));
        assert_eq!(poll(waiting.as_mut()), None);
        assert_eq!(seats.trim(), 0, "it has not waited for a second yet");
        assert_eq!(poll(waiting.as_mut()), None);
        assert_eq!(seats.trim(), 1);
        assert_eq!(poll(waiting.as_mut()), Some(false));

        let mut all: Vec<_> = (0..=KEPT).map(|_| Box::pin(async { seats.next(&mut None).await })).collect();
        let ended = all.iter_mut().filter_map(|one| poll(one.as_mut())).count();
        assert_eq!(ended, 0, "the one too many is woken, not polled again by itself");
        let ended: Vec<bool> = all.iter_mut().filter_map(|one| poll(one.as_mut())).collect();
        assert_eq!(ended, [false], "one more than are kept");
    }
}
