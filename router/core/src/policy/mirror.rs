//! Which of a route's requests are copied, and how many copies may be on their way. Pure: randomness is an argument.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use ekiden_config::model::MirrorPolicy;

use crate::table::RouteEntry;

/// The mirror of a route, compiled.
#[derive(Debug)]
pub struct MirrorSteps {
    /// As validated.
    pub words: Arc<MirrorPolicy>,
    /// The route that copies go by: edits and rewrites of their own route, nothing else of it.
    pub entry: Arc<RouteEntry>,
    in_flight: AtomicU32,
    /// Bytes of requests that are served now and may be copied then.
    held: AtomicU64,
}

/// Bytes of a head that a copy is reckoned with, beside its body.
const HEAD_BYTES: u64 = 16 << 10;

impl MirrorSteps {
    /// Makes them. Called when a table is compiled.
    pub fn new(words: Arc<MirrorPolicy>, entry: Arc<RouteEntry>) -> Self {
        Self { words, entry, in_flight: AtomicU32::new(0), held: AtomicU64::new(0) }
    }

    /// Whether a request is among those that are copied; `random` is 64 fresh random bits.
    pub fn is_drawn(&self, random: u64) -> bool {
        super::faults::is_hit(self.words.share, random)
    }

    /// Takes a place among the copies on their way; none when there are as many as may be.
    pub fn begin(this: &Arc<Self>) -> Option<Copying> {
        // Counted before it is looked at, so that workers together never take more.
        if this.in_flight.fetch_add(1, Ordering::Relaxed) >= this.words.in_flight {
            this.in_flight.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Copying(Arc::clone(this)))
    }

    /// Keeps these bytes of a request until it is known whether it is copied; none when as many are kept as copies on their way
    /// may have.
    pub fn hold(this: &Arc<Self>, bytes: usize) -> Option<Held> {
        let mut held = Held { steps: Arc::clone(this), bytes: 0 };
        held.more(bytes).then_some(held)
    }

    /// Bytes that are kept at most.
    fn held_max(&self) -> u64 {
        u64::from(self.words.in_flight.max(1)) * (u64::from(self.words.body) + HEAD_BYTES)
    }

    /// Copies on their way.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }
}

/// Bytes that are kept of one request; given back when dropped.
#[derive(Debug)]
pub struct Held {
    steps: Arc<MirrorSteps>,
    bytes: u64,
}

impl Held {
    /// Keeps more of it; false when that would be too many: then nothing of it is kept any more.
    pub fn more(&mut self, bytes: usize) -> bool {
        let bytes = bytes as u64;
        let before = self.steps.held.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        let has_room = before + bytes <= self.steps.held_max();
        if !has_room {
            self.give_back();
        }
        has_room
    }

    /// Nothing of it is kept any more.
    pub fn give_back(&mut self) {
        self.steps.held.fetch_sub(std::mem::take(&mut self.bytes), Ordering::Relaxed);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// A place among the copies on their way; given back when dropped.
#[derive(Debug)]
pub struct Copying(Arc<MirrorSteps>);

impl Drop for Copying {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
