//! Idle upstream connections of one worker, by incarnation: last in, first out. A connection whose trust is retired is closed.
//!
//! Knows connections, not HTTP. A connection is checked when it is taken out: first what the event loop has already
//! reported, without a system call, then a peek if it idled long. Does not open connections.

use std::cell::RefCell;
use std::sync::Arc;

use ekiden_core::cell::EndpointCell;
use ekiden_core::stats::ClusterCell;
use rustc_hash::FxHashMap;

use crate::stream::Stream;

/// Idle time after which a connection is looked at with a system call before reuse, and past which methods that
/// must not be sent twice open a new connection instead.
pub const FRESH_MS: u64 = 1_000;
/// Shortest margin kept between our idle limit and the endpoint's own.
const MARGIN_MS: u64 = 500;

#[derive(Debug)]
struct Idle {
    stream: Stream,
    since_ms: u64,
}

#[derive(Debug)]
struct Shelf {
    cell: Arc<EndpointCell>,
    stats: Arc<ClusterCell>,
    limit_ms: u64,
    idle: Vec<Idle>,
}

impl Shelf {
    /// Our idle limit: the policy's, or below the endpoint's own when that is known and shorter.
    fn effective_limit_ms(&self) -> u64 {
        match u64::from(self.cell.idle_limit_ms()) {
            0 => self.limit_ms,
            learned => self.limit_ms.min(learned.saturating_sub(MARGIN_MS.max(learned / 10))),
        }
    }
}

/// The pool of one worker.
#[derive(Debug)]
pub struct Pool {
    worker: usize,
    shelves: RefCell<FxHashMap<u64, Shelf>>,
}

/// What a connection needs to be taken back.
#[derive(Debug)]
pub struct Return<'a> {
    /// The incarnation it belongs to.
    pub cell: &'a Arc<EndpointCell>,
    /// Counts of its cluster.
    pub stats: &'a Arc<ClusterCell>,
    /// Most idle connections kept for it.
    pub most: u32,
    /// Longest idle time, milliseconds.
    pub limit_ms: u64,
}

impl Pool {
    /// An empty pool.
    pub fn new(worker: usize) -> Self {
        Self { worker, shelves: RefCell::default() }
    }

    /// Takes the most recently used live connection of an incarnation, one of TLS if `secure` says so. `fresh_only` asks for
    /// one idle for less than [`FRESH_MS`].
    pub fn take(&self, uid: u64, now_ms: u64, fresh_only: bool, secure: bool) -> Option<Stream> {
        let mut shelves = self.shelves.borrow_mut();
        let shelf = shelves.get_mut(&uid)?;
        let limit_ms = shelf.effective_limit_ms();
        let stats = shelf.stats.shard(self.worker);
        loop {
            let age_ms = now_ms.saturating_sub(shelf.idle.last()?.since_ms);
            if fresh_only && age_ms >= FRESH_MS {
                return None;
            }
            let idle = shelf.idle.pop()?;
            stats.idle.sub(1);
            let dead = age_ms >= limit_ms
                || idle.stream.is_unsuited(secure)
                || idle.stream.reported_readable()
                || (age_ms >= FRESH_MS && idle.stream.peeked_dead());
            if !dead {
                stats.reused.add(1);
                return Some(idle.stream);
            }
            stats.stale.add(1);
            stats.connections.sub(1);
        }
    }

    /// Puts an idle connection back, unless its endpoint is leaving or its shelf is full.
    pub fn put(&self, stream: Stream, home: Return<'_>, now_ms: u64) {
        let stats = home.stats.shard(self.worker);
        if home.cell.is_gone() || home.cell.is_draining() || stream.is_retired() {
            // Connections that are shared are counted by their pool.
            stats.connections.sub(u64::from(!matches!(stream, Stream::Http2(_))));
            return;
        }
        let mut shelves = self.shelves.borrow_mut();
        let shelf = shelves.entry(home.cell.uid()).or_insert_with(|| Shelf {
            cell: Arc::clone(home.cell),
            stats: Arc::clone(home.stats),
            limit_ms: home.limit_ms,
            idle: Vec::new(),
        });
        shelf.limit_ms = home.limit_ms;
        if shelf.idle.len() >= home.most as usize {
            stats.connections.sub(1);
            return;
        }
        shelf.idle.push(Idle { stream, since_ms: now_ms });
        stats.idle.add(1);
    }

    /// Closes what has idled too long, what its endpoint has closed (and learns from that) and what belongs to
    /// endpoints that are leaving. Called every second and after each swap.
    pub fn sweep(&self, now_ms: u64) {
        self.shelves.borrow_mut().retain(|_, shelf| {
            let leaving = shelf.cell.is_gone() || shelf.cell.is_draining();
            let limit_ms = shelf.effective_limit_ms();
            let before = shelf.idle.len();
            let cell = &shelf.cell;
            shelf.idle.retain(|idle| {
                let age_ms = now_ms.saturating_sub(idle.since_ms);
                if idle.stream.is_retired() {
                    return false;
                }
                if !leaving && age_ms < limit_ms && idle.stream.reported_readable() {
                    // Seen at most one sweep late: its own limit is no longer than this.
                    if age_ms > 2 * FRESH_MS {
                        cell.learn_idle_limit(u32::try_from(age_ms).unwrap_or(u32::MAX));
                    }
                    return false;
                }
                !leaving && age_ms < limit_ms
            });
            let closed = (before - shelf.idle.len()) as u64;
            let stats = shelf.stats.shard(self.worker);
            stats.idle.sub(closed);
            stats.connections.sub(closed);
            // An empty shelf stays, so that a busy endpoint's connections are taken back without allocating.
            !leaving
        });
    }

    /// Idle connections held.
    pub fn len(&self) -> usize {
        self.shelves.borrow().values().map(|shelf| shelf.idle.len()).sum()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
