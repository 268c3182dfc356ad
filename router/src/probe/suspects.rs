//! The way of evidence from workers to the judge: a bounded queue of endpoints, each in it once at most.
//!
//! Without a lock on the worker's side, and touched only when something failed. Does not count and does not judge.

use std::sync::{Arc, Mutex, PoisonError};

use ekiden_core::cell::EndpointCell;
use ekiden_core::stats::WorkerShard;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Endpoints that may wait for the judge; one that finds no room is told of by its next failure.
pub(super) const SUSPECTS_MAX: usize = 4096;

/// Both ends of the queue.
#[derive(Debug)]
pub struct Suspects {
    reports: Sender<Arc<EndpointCell>>,
    arrivals: Mutex<Option<Receiver<Arc<EndpointCell>>>>,
}

impl Default for Suspects {
    fn default() -> Self {
        let (reports, arrivals) = channel(SUSPECTS_MAX);
        Self { reports, arrivals: Mutex::new(Some(arrivals)) }
    }
}

impl Suspects {
    /// Reports an endpoint whose counts have news. Called by workers after [`EndpointCell::note_evidence`] said so.
    #[cold]
    pub fn report(&self, cell: &Arc<EndpointCell>, shard: &WorkerShard) {
        if self.reports.try_send(Arc::clone(cell)).is_err() {
            cell.keep_news();
            shard.evidence_drops.add(1);
        }
    }

    /// The judge's end; the first call gets it.
    pub(super) fn arrivals(&self) -> Option<Receiver<Arc<EndpointCell>>> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
