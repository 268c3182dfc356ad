//! Which of a route's requests are copied, and how many copies may be on their way. Pure: randomness is an argument.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

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
}

impl MirrorSteps {
    /// Makes them. Called when a table is compiled.
    pub fn new(words: Arc<MirrorPolicy>, entry: Arc<RouteEntry>) -> Self {
        Self { words, entry, in_flight: AtomicU32::new(0) }
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

    /// Copies on their way.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
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
