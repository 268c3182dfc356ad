//! Connections of HTTP/2 that are being opened: requests that could share one wait for it, so that a burst on an endpoint that has
//! none opens a few and not one each.
//!
//! Of one worker, as the pool is. Bounded by the requests under way, each of which has its own deadline. Does not connect.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use ekiden_core::outcome::Cause;
use rustc_hash::FxHashMap;
use tokio::sync::Notify;

use super::pool::Http2Pool;
use super::stream::EndpointStream;

/// Requests that wait for one connection, where nothing is known of how many streams the endpoint takes.
const WAITERS_EACH: u32 = 100;

/// What is under way to one endpoint.
#[derive(Debug, Default)]
struct Opening {
    openers: Cell<u32>,
    waiting: Cell<u32>,
    /// How many have failed, and why the last one did.
    failures: Cell<u64>,
    last: Cell<Option<Cause>>,
    /// How many turned out to carry one request at a time.
    unshared: Cell<u64>,
    changed: Notify,
}

/// All that is under way, by the numbers of incarnations.
#[derive(Debug, Default)]
pub struct Openings(RefCell<FxHashMap<u64, Rc<Opening>>>);

/// What a request that needs a stream does next.
pub enum Share<'a> {
    /// Uses this one.
    Stream(EndpointStream),
    /// Opens a connection.
    Open(Opener<'a>),
    /// Fails as the connection did that it waited for.
    Failed(Cause),
    /// Opens one for itself: the one that it waited for cannot be shared.
    Alone,
}

/// Opens a connection, for others too; they look again when this is dropped.
pub struct Opener<'a> {
    openings: &'a Openings,
    uid: u64,
    opening: Rc<Opening>,
}

impl Opener<'_> {
    /// The endpoint chose HTTP/1: those who wait for it need one each.
    pub fn found_http1(self) {
        self.opening.unshared.set(self.opening.unshared.get().wrapping_add(1));
    }

    /// The connection could not be opened: those who wait for it need not find out one by one.
    pub fn fail(self, cause: Cause) {
        self.opening.failures.set(self.opening.failures.get().wrapping_add(1));
        self.opening.last.set(Some(cause));
    }
}

impl Drop for Opener<'_> {
    fn drop(&mut self) {
        self.opening.openers.set(self.opening.openers.get().saturating_sub(1));
        self.opening.changed.notify_waiters();
        self.openings.forget(self.uid, &self.opening);
    }
}

/// Counts a request that waits.
struct Waiting<'a> {
    openings: &'a Openings,
    uid: u64,
    opening: &'a Rc<Opening>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.opening.waiting.set(self.opening.waiting.get().saturating_sub(1));
        self.openings.forget(self.uid, self.opening);
    }
}

impl Openings {
    /// Lets go of what nobody opens or waits for.
    fn forget(&self, uid: u64, opening: &Opening) {
        if opening.openers.get() == 0 && opening.waiting.get() == 0 {
            self.0.borrow_mut().remove(&uid);
        }
    }

    fn of(&self, uid: u64) -> Rc<Opening> {
        Rc::clone(self.0.borrow_mut().entry(uid).or_default())
    }
}

impl Http2Pool {
    /// A stream on a connection to this incarnation, after a wait for one that is being opened; or the right to open one. Without a
    /// deadline of its own. Cancel-safe.
    pub async fn share(&self, uid: u64, now_ms: impl Fn() -> u64, secure: bool) -> Share<'_> {
        let openings = self.openings();
        loop {
            if let Some(stream) = self.take(uid, now_ms(), secure) {
                return Share::Stream(stream);
            }
            let opening = openings.of(uid);
            let each = self.streams_each(uid).unwrap_or(WAITERS_EACH).max(1);
            // The opener itself takes one of the streams.
            if opening.waiting.get() >= opening.openers.get().saturating_mul(each - 1) {
                opening.openers.set(opening.openers.get() + 1);
                return Share::Open(Opener { openings, uid, opening });
            }
            let (failures, unshared) = (opening.failures.get(), opening.unshared.get());
            opening.waiting.set(opening.waiting.get() + 1);
            let waiting = Waiting { openings, uid, opening: &opening };
            opening.changed.notified().await;
            drop(waiting);
            if opening.unshared.get() != unshared {
                return Share::Alone;
            }
            if opening.failures.get() != failures
                && let Some(cause) = opening.last.get()
            {
                return Share::Failed(cause);
            }
        }
    }
}
