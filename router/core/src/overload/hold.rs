//! The hold of an app: its requests wait in one line until it is released, and then go on in the order in which they came.
//!
//! Shared by all workers. Taken by those that wait, by who releases, and by each that goes on and calls the next: never by
//! requests of apps that are not held. A place is given up when it is dropped. Pure.
//!
//! ```text
//! join --closed--> waits --open, and first in line--> goes on, and calls the next
//!   |                |
//!   +-- full         +-- dropped (its time is over, or its client is gone): the next moves up
//! ```

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use ekiden_config::names::AppName;

/// How a request left the line, or did not get into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum HoldEnd {
    /// It went on.
    Released,
    /// Its time was over, its client left, or the process ended.
    Left,
    /// As many waited as may.
    Full,
}

impl HoldEnd {
    /// All, in the order of the counts.
    pub const ALL: [HoldEnd; 3] = [HoldEnd::Released, HoldEnd::Left, HoldEnd::Full];

    /// The label.
    pub const fn word(self) -> &'static str {
        match self {
            HoldEnd::Released => "released",
            HoldEnd::Left => "left",
            HoldEnd::Full => "full",
        }
    }
}

#[derive(Debug, Default)]
struct Line {
    closed: bool,
    next: u64,
    waiting: BTreeMap<u64, Waker>,
}

impl Line {
    /// Who may go on.
    fn first(&self) -> Option<&Waker> {
        self.waiting.first_key_value().filter(|_| !self.closed).map(|(_, waker)| waker)
    }
}

/// The line of an app. Outlives tables.
#[derive(Debug)]
pub struct HoldGate {
    /// The app.
    pub app: AppName,
    line: Mutex<Line>,
    ended: [AtomicU64; HoldEnd::ALL.len()],
}

impl HoldGate {
    /// Nobody waits, and nobody has to. Called by the registry.
    pub fn new(app: AppName) -> Self {
        Self { app, line: Mutex::default(), ended: Default::default() }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, end: HoldEnd) {
        if let Some(count) = self.ended.get(end as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Who comes from now on waits. Called when a table with the hold is made.
    pub fn close(&self) {
        self.line().closed = true;
    }

    /// The line goes on, one after the other. Called when a table without the hold is in force.
    pub fn open(&self) {
        let first = {
            let mut line = self.line();
            line.closed = false;
            line.first().cloned()
        };
        if let Some(first) = first {
            first.wake();
        }
    }

    /// Requests that wait.
    pub fn waiting(&self) -> usize {
        self.line().waiting.len()
    }

    /// Requests that ended their wait so.
    pub fn ended(&self, end: HoldEnd) -> u64 {
        self.ended.get(end as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Takes a place at the end of the line; none when `most` wait.
    pub fn join(self: &Arc<Self>, most: u32) -> Option<HoldTicket> {
        let mut line = self.line();
        if line.waiting.len() >= usize::try_from(most).unwrap_or(usize::MAX) {
            drop(line);
            self.count(HoldEnd::Full);
            return None;
        }
        let number = line.next;
        line.next += 1;
        line.waiting.insert(number, Waker::noop().clone());
        drop(line);
        Some(HoldTicket { gate: Arc::clone(self), number, is_done: false })
    }
}

/// A place in the line.
#[derive(Debug)]
pub struct HoldTicket {
    gate: Arc<HoldGate>,
    number: u64,
    is_done: bool,
}

impl HoldTicket {
    /// Whether it is this one's turn; if not, the waker is woken when it may be. After `true` the place is given up.
    pub fn may_go(&mut self, waker: &Waker) -> bool {
        if self.is_done {
            return true;
        }
        let next = {
            let mut line = self.gate.line();
            let is_first = line.waiting.first_key_value().is_some_and(|(first, _)| *first == self.number);
            if line.closed || !is_first {
                line.waiting.insert(self.number, waker.clone());
                return false;
            }
            line.waiting.remove(&self.number);
            line.first().cloned()
        };
        self.is_done = true;
        self.gate.count(HoldEnd::Released);
        if let Some(next) = next {
            next.wake();
        }
        true
    }
}

impl Drop for HoldTicket {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        let next = {
            let mut line = self.gate.line();
            line.waiting.remove(&self.number);
            line.first().cloned()
        };
        self.gate.count(HoldEnd::Left);
        if let Some(next) = next {
            next.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use proptest::prelude::*;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn gate() -> Arc<HoldGate> {
        Arc::new(HoldGate::new(AppName::new("shop").unwrap()))
    }

    #[test]
    fn nobody_waits_where_nothing_is_held() {
        let gate = gate();
        assert!(gate.join(1).unwrap().may_go(Waker::noop()));
        gate.close();
        let mut waits = gate.join(1).unwrap();
        assert!(!waits.may_go(Waker::noop()));
        assert!(gate.join(1).is_none(), "it is full");
        gate.open();
        assert!(waits.may_go(Waker::noop()) && waits.may_go(Waker::noop()));
        let counts = HoldEnd::ALL.map(|end| gate.ended(end));
        assert_eq!((counts, gate.waiting()), ([2, 0, 1], 0));
    }

    #[test]
    fn the_next_is_called_by_who_goes_on_and_by_who_leaves() {
        let gate = gate();
        gate.close();
        let woken: Vec<Arc<Woken>> = (0..3).map(|_| Arc::default()).collect();
        let waker = |at: usize| Waker::from(Arc::clone(&woken[at]));
        let mut tickets: Vec<Option<HoldTicket>> = (0..3).map(|_| gate.join(9)).collect();
        for (at, ticket) in tickets.iter_mut().enumerate() {
            assert!(!ticket.as_mut().unwrap().may_go(&waker(at)));
        }
        let calls = || woken.iter().map(|one| one.0.load(Ordering::Relaxed)).collect::<Vec<_>>();
        gate.open();
        assert_eq!(calls(), [1, 0, 0]);
        assert!(!tickets[1].as_mut().unwrap().may_go(&waker(1)), "it is not its turn");
        drop(tickets[0].take());
        assert_eq!(calls(), [1, 1, 0]);
        assert!(tickets[1].as_mut().unwrap().may_go(&waker(1)));
        assert_eq!(calls(), [1, 1, 1]);
        drop(tickets);
        assert_eq!(gate.ended(HoldEnd::Left), 2);
    }

    proptest! {
        /// Whatever comes, leaves and is looked at in whatever order: those that go on do so in the order in which they came, and once it
        /// is open whoever is first was called.
        #[test]
        fn they_go_on_in_the_order_in_which_they_came(steps in prop::collection::vec((0_u8..5, 0_usize..20), 1..120)) {
            let gate = gate();
            gate.close();
            let mut waiting: Vec<(u64, HoldTicket, Arc<Woken>)> = Vec::new();
            let mut gone = Vec::new();
            let mut came = 0;
            let mut closed = true;
            for (what, at) in steps {
                match what {
                    0 | 1 => {
                        let mut ticket = gate.join(u32::MAX).unwrap();
                        let woken = Arc::<Woken>::default();
                        came += 1;
                        if ticket.may_go(&Waker::from(Arc::clone(&woken))) {
                            gone.push(came);
                        } else {
                            waiting.push((came, ticket, woken));
                        }
                    }
                    2 if !waiting.is_empty() => drop(waiting.remove(at % waiting.len())),
                    3 if !waiting.is_empty() => {
                        let at = at % waiting.len();
                        let (number, mut ticket, woken) = waiting.remove(at);
                        if ticket.may_go(&Waker::from(Arc::clone(&woken))) {
                            gone.push(number);
                        } else {
                            waiting.insert(at, (number, ticket, woken));
                        }
                    }
                    4 => {
                        closed = at % 2 == 0;
                        if closed { gate.close() } else { gate.open() }
                    }
                    _ => {}
                }
                if let (false, Some((_, _, woken))) = (closed, waiting.first()) {
                    prop_assert!(woken.0.load(Ordering::Relaxed) > 0, "the first is not called");
                }
            }
            gate.open();
            for (number, mut ticket, _) in waiting {
                prop_assert!(ticket.may_go(Waker::noop()));
                gone.push(number);
            }
            prop_assert!(gone.is_sorted());
        }
    }
}
