//! Tasks of client connections that have ended, kept for the connections to come.
//!
//! A task is an allocation that the allocator has to align, a place in the runtime's list and a copy of its future:
//! together some 2 % of what a connection with one request costs. Does not accept, serve or count connections.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use crate::buffer::Spares;
use crate::worker::connection::Kept;

/// Tasks kept at most; each holds the memory of an idle connection.
const KEPT: usize = 64;

/// Where one task waits.
#[derive(Default)]
pub struct Seat {
    next: Cell<Option<Kept>>,
    given_up: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Seat {
    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

/// A waiting task. Dropped, it wakes the task, which ends unless it finds a connection on its seat.
struct Waiting(Rc<Seat>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.given_up.set(true);
        self.0.wake();
    }
}

/// The waiting tasks of a worker.
pub struct Seats(Spares<Waiting>);

impl Default for Seats {
    fn default() -> Self {
        Self(Spares::new(KEPT))
    }
}

impl Seats {
    /// Hands a connection to a waiting task, or back when none waits. Called by `accept`.
    pub fn hand_over(&self, connection: Kept) -> Option<Kept> {
        let Some(waiting) = self.0.take() else { return Some(connection) };
        waiting.0.next.set(Some(connection));
        None
    }

    /// Waits for another connection; none when the task is to end. `seat` is the task's own and made when it first
    /// waits.
    pub async fn next(&self, seat: &mut Option<Rc<Seat>>) -> Option<Kept> {
        let seat = seat.get_or_insert_default();
        seat.given_up.set(false);
        let mut waits = false;
        poll_fn(|cx| {
            if let Some(connection) = seat.next.take() {
                return Poll::Ready(Some(connection));
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
    fn poll(future: std::pin::Pin<&mut impl Future<Output = Option<Kept>>>) -> Option<bool> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(connection) => Some(connection.is_some()),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_task_that_nobody_needs_ends_and_no_more_wait_than_are_kept() {
        let seats = Seats::default();
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
