//! Whose word counts: of the runtimes of control that a process has had, only that of the newest term.
//!
//! A runtime that is stuck cannot be ended, since nothing ends a thread from outside. Its term is made void instead: what it does
//! when it goes on, seconds or hours later, comes to nothing at each of its doors. [`Door`] is the one to the workers; the journal is
//! closed, its socket and its files ask [`Tenure::counts`]. Knows no runtime.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ekiden_config::doors::{Publisher, Ticket, Verdict, Written};
use ekiden_config::model::Model;
use ekiden_config::names::AppName;

use crate::status::StatusCell;

/// The first term of a process.
const FIRST: u64 = 1;

#[derive(Debug)]
struct Reign {
    current: AtomicU64,
    /// Held over what must not fall between two terms; never over anything that waits.
    doing: Mutex<()>,
    /// Held over a write to a file that all terms have; the disk may keep it for long.
    writing: Mutex<()>,
}

/// The term of one runtime. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Tenure {
    mine: u64,
    reign: Arc<Reign>,
}

impl Default for Tenure {
    /// The first term, of a process of its own.
    fn default() -> Self {
        let reign = Reign { current: AtomicU64::new(FIRST), doing: Mutex::new(()), writing: Mutex::new(()) };
        Self { mine: FIRST, reign: Arc::new(reign) }
    }
}

fn held(mutex: &Mutex<()>) -> MutexGuard<'_, ()> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tenure {
    /// Its number, for people.
    pub(crate) fn number(&self) -> u64 {
        self.mine
    }

    /// Makes this term void. When it returns, nothing is under way in [`Tenure::act`] any more.
    pub(crate) fn end(&self) {
        let _alone = held(&self.reign.doing);
        if self.counts() {
            self.reign.current.store(self.mine + 1, Ordering::Release);
        }
    }

    /// The term that counts now.
    pub(crate) fn newest(&self) -> Self {
        Self { mine: self.reign.current.load(Ordering::Acquire), reign: Arc::clone(&self.reign) }
    }

    /// Whether it counts at this moment.
    pub(crate) fn counts(&self) -> bool {
        self.reign.current.load(Ordering::Acquire) == self.mine
    }

    /// Does something that does not wait, if this term counts, and before another one begins.
    pub(crate) fn act<T>(&self, act: impl FnOnce() -> T) -> Option<T> {
        let _alone = held(&self.reign.doing);
        self.counts().then(act)
    }

    /// Writes to a file that a later term writes to as well, if this term counts: the later one's write comes after it.
    pub(crate) fn write<T>(&self, write: impl FnOnce() -> T) -> Option<T> {
        let _alone = held(&self.reign.writing);
        self.counts().then(write)
    }
}

/// The publisher, shared by the terms of a process; one of them uses it.
pub(crate) type SharedPublisher = Arc<Mutex<Box<dyn Publisher>>>;

/// The door of one term to the workers. Closed once the term is void: what is published then is rejected, and counted.
pub(crate) struct Door {
    publisher: SharedPublisher,
    tenure: Tenure,
    /// That of the process: it hears of what comes too late.
    status: StatusCell,
}

impl Door {
    /// Of this term.
    pub(crate) fn new(publisher: SharedPublisher, tenure: Tenure, status: StatusCell) -> Self {
        Self { publisher, tenure, status }
    }

    fn open<T>(&self, act: impl FnOnce(&mut dyn Publisher) -> T) -> Option<T> {
        self.tenure.act(|| {
            let mut publisher = self.publisher.lock().unwrap_or_else(PoisonError::into_inner);
            act(&mut **publisher)
        })
    }
}

impl Publisher for Door {
    fn publish(&mut self, model: Arc<Model>) -> Ticket {
        if let Some(ticket) = self.open(|publisher| publisher.publish(model)) {
            return ticket;
        }
        let term = self.tenure.number();
        let reason = format!("term {term} of control is void: it was stuck, and another one is in its place");
        tracing::error!(term, "a table of a void term is refused; the workers keep theirs");
        self.status.update(|status| status.void_publishes += 1);
        let ticket = Ticket::new();
        ticket.end(Verdict::Rejected { reason });
        ticket
    }

    fn barrier(&self, apps: &[AppName]) -> Option<Ticket> {
        self.open(|publisher| publisher.barrier(apps)).flatten()
    }

    fn wants_words(&self) -> bool {
        self.open(|publisher| publisher.wants_words()).unwrap_or(false)
    }

    fn written(&mut self, words: Written) -> bool {
        self.open(|publisher| publisher.written(words)).unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ekiden_config::doors::Generation;

    use super::*;

    /// Counts what comes through.
    struct Workers(u64);

    impl Publisher for Workers {
        fn publish(&mut self, _: Arc<Model>) -> Ticket {
            self.0 += 1;
            let ticket = Ticket::new();
            ticket.end(Verdict::Applied { generation: Generation(self.0), refused: Vec::new() });
            ticket
        }
    }

    fn end(ticket: &Ticket) -> Option<u64> {
        match ticket.wait(Duration::ZERO).unwrap() {
            Verdict::Applied { generation, .. } => Some(generation.0),
            Verdict::Rejected { .. } => None,
        }
    }

    #[test]
    fn what_a_void_term_publishes_is_refused_and_counted() {
        let (publisher, status): (SharedPublisher, _) =
            (Arc::new(Mutex::new(Box::new(Workers(0)))), StatusCell::default());
        let first = Tenure::default();
        let mut old = Door::new(Arc::clone(&publisher), first.clone(), status.clone());
        let publish = |door: &mut Door| end(&door.publish(Arc::new(Model::empty())));
        assert_eq!(publish(&mut old), Some(1));
        first.end();
        first.end();
        let second = first.newest();
        assert_eq!((first.counts(), second.counts(), second.number()), (false, true, 2));
        let mut new = Door::new(publisher, second.clone(), status.clone());
        assert_eq!((publish(&mut old), publish(&mut new), publish(&mut old)), (None, Some(2), None));
        assert_eq!(status.read().void_publishes, 2);
        assert_eq!((first.write(|| ()), second.write(|| ()), first.act(|| ())), (None, Some(()), None));
    }
}
