//! What outlives a table: the live state of an endpoint, and the registry that hands the same cell to every table
//! that holds the same incarnation.
//!
//! Cells hold atomics only, beside one reason text that workers never read. Does not check, pick or connect.

mod registry;

pub use registry::CellRegistry;

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ekiden_config::doors::EndpointStatus;
use ekiden_config::model::Address;
use ekiden_config::names::{AppName, ClusterName, EndpointId};

use crate::health::{Health, Transition};

/// What makes an endpoint the same one: the same id at another address, or of another release, is a new endpoint
/// that starts fresh and shares no connection with the old one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Incarnation {
    /// The app that owns the cluster.
    pub app: AppName,
    /// The cluster.
    pub cluster: ClusterName,
    /// The endpoint's id in the cluster.
    pub id: EndpointId,
    /// Where it is.
    pub address: Address,
    /// Its release tag.
    pub release: Option<Arc<str>>,
}

/// Shortest idle limit that a cell learns, in milliseconds. One endpoint that dies while connections are idle must
/// not switch off the pool for good.
pub const IDLE_LIMIT_FLOOR_MS: u32 = 1_000;

// The layout of `flags`. Zero means "may be picked", so that the test is one load and one comparison.
const HEALTH: u32 = 0b0011;
const STARTING: u32 = 0b0001;
const FAILING: u32 = 0b0010;
const GONE: u32 = 0b0100;
const DRAINING: u32 = 0b1000;

const fn bits(health: Health) -> u32 {
    match health {
        Health::Starting => STARTING,
        Health::Ready => 0,
        Health::Failing => FAILING,
    }
}

const fn health(flags: u32) -> Health {
    match flags & HEALTH {
        STARTING => Health::Starting,
        FAILING => Health::Failing,
        _ => Health::Ready,
    }
}

/// Why the cell is as it is; written by probe and compile threads, read by telemetry and the API.
#[derive(Debug)]
struct Story {
    reason: String,
    since_unix_ms: u64,
    drain_since_unix_ms: u64,
}

/// The live state of one incarnation, shared by every table, worker and pool that knows it.
#[derive(Debug)]
pub struct EndpointCell {
    uid: u64,
    incarnation: Incarnation,
    flags: AtomicU32,
    in_flight: AtomicU32,
    idle_limit_ms: AtomicU32,
    transitions: AtomicU32,
    failures: AtomicU64,
    story: Mutex<Story>,
}

static NEXT_UID: AtomicU64 = AtomicU64::new(1);

impl EndpointCell {
    /// A fresh cell. Called by the registry; tests may call it directly.
    pub fn new(incarnation: Incarnation, health: Health, reason: &str, now_unix_ms: u64) -> Self {
        Self {
            uid: NEXT_UID.fetch_add(1, Ordering::Relaxed),
            incarnation,
            flags: AtomicU32::new(bits(health)),
            in_flight: AtomicU32::new(0),
            idle_limit_ms: AtomicU32::new(0),
            transitions: AtomicU32::new(0),
            failures: AtomicU64::new(0),
            story: Mutex::new(Story {
                reason: reason.to_owned(),
                since_unix_ms: now_unix_ms,
                drain_since_unix_ms: now_unix_ms,
            }),
        }
    }

    /// A number no other cell of this process has or had. Pools key by it.
    #[inline]
    pub fn uid(&self) -> u64 {
        self.uid
    }

    /// Which endpoint this is.
    pub fn incarnation(&self) -> &Incarnation {
        &self.incarnation
    }

    /// Whether a new request may go here now: ready, not gone, not draining. One atomic load; the last check of
    /// every pick, pool checkout and head write.
    #[inline]
    pub fn may_pick(&self) -> bool {
        self.flags.load(Ordering::Acquire) == 0
    }

    /// What the checks say, whatever the marks.
    pub fn health(&self) -> Health {
        health(self.flags.load(Ordering::Acquire))
    }

    /// Whether its first check is outstanding and its answer could still admit it.
    pub fn first_check_pending(&self) -> bool {
        self.flags.load(Ordering::Acquire) == STARTING
    }

    /// Whether it was removed from the model.
    #[inline]
    pub fn is_gone(&self) -> bool {
        self.flags.load(Ordering::Acquire) & GONE != 0
    }

    /// Marks it removed, for ever: a later endpoint with the same words gets a cell of its own. Called for every
    /// cell in [`CellRegistry::take_removed`] before the apply is acknowledged.
    pub fn mark_gone(&self) {
        self.flags.fetch_or(GONE, Ordering::AcqRel);
    }

    /// Whether it gets no new picks and keeps what it has.
    #[inline]
    pub fn is_draining(&self) -> bool {
        self.flags.load(Ordering::Acquire) & DRAINING != 0
    }

    /// Sets or clears the drain mark and returns whether that changed it. Called when a table is compiled.
    pub fn set_draining(&self, on: bool, now_unix_ms: u64) -> bool {
        if self.is_draining() == on {
            return false;
        }
        if on {
            self.flags.fetch_or(DRAINING, Ordering::AcqRel);
            self.story().drain_since_unix_ms = now_unix_ms;
        } else {
            self.flags.fetch_and(!DRAINING, Ordering::AcqRel);
        }
        true
    }

    /// Takes a change of health and returns whether it changed anything. Called by the probe runner, which then
    /// refreshes the ready set of the cluster ([`crate::cluster::ClusterTable::refresh_ready`]).
    pub fn apply(&self, transition: &Transition) -> bool {
        self.set_health(transition.to, &transition.reason, transition.at_unix_ms)
    }

    /// Sets health with its reason and time; the same health again changes nothing.
    pub fn set_health(&self, to: Health, reason: &str, now_unix_ms: u64) -> bool {
        // Reason and flag change under one lock, so that two writers cannot leave one's reason with the other's flag.
        let mut story = self.story();
        let flags = self.flags.load(Ordering::Acquire);
        if health(flags) == to {
            return false;
        }
        // Two steps would show a third state between them; one exchange of the differing bits does not.
        self.flags.fetch_xor((flags ^ bits(to)) & HEALTH, Ordering::AcqRel);
        self.transitions.fetch_add(1, Ordering::Relaxed);
        reason.clone_into(&mut story.reason);
        story.since_unix_ms = now_unix_ms;
        true
    }

    /// Why it has the health it has, and since when in milliseconds since the Unix epoch. Locks: not for workers.
    pub fn reason(&self) -> (String, u64) {
        let story = self.story();
        (story.reason.clone(), story.since_unix_ms)
    }

    /// Changes of health so far.
    pub fn transitions(&self) -> u32 {
        self.transitions.load(Ordering::Relaxed)
    }

    /// Requests it is serving over all workers, counted until the last byte.
    #[inline]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Counts a request in. Called by the worker right after the pick, so that other workers see it.
    #[inline]
    pub fn enter(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a request out. Never goes below zero: a leave too many is given back.
    #[inline]
    pub fn leave(&self) {
        if self.in_flight.fetch_sub(1, Ordering::Relaxed) == 0 {
            self.in_flight.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Failed connects and connections lost before a response, over all workers.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Counts a failed connect or a connection lost before a response. Never called for a client that went away.
    pub fn note_failure(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// How long the endpoint keeps an idle connection, in milliseconds; 0 while unknown.
    #[inline]
    pub fn idle_limit_ms(&self) -> u32 {
        self.idle_limit_ms.load(Ordering::Relaxed)
    }

    /// Learns how long the endpoint keeps an idle connection, from a `Keep-Alive` field or from a close that was
    /// observed after `ms` of silence. The shortest seen wins, down to [`IDLE_LIMIT_FLOOR_MS`].
    pub fn learn_idle_limit(&self, ms: u32) {
        let ms = ms.max(IDLE_LIMIT_FLOOR_MS);
        let known = self.idle_limit_ms.load(Ordering::Relaxed);
        if known == 0 || ms < known {
            // A lost race between workers is learned again at the next response; a stale store can only be one of
            // two values that were both observed.
            self.idle_limit_ms.store(ms, Ordering::Relaxed);
        }
    }

    /// Live state for people and the API. Locks: not for workers.
    pub fn status(&self) -> EndpointStatus {
        let flags = self.flags.load(Ordering::Acquire);
        let story = self.story();
        let checks = health(flags).word();
        let (state, reason, since_unix_ms) = if flags & GONE != 0 {
            ("gone", "removed from the configuration".to_owned(), story.since_unix_ms)
        } else if flags & DRAINING != 0 {
            let reason = format!("marked as draining; its checks say {checks}: {}", story.reason);
            ("draining", reason, story.drain_since_unix_ms)
        } else {
            (checks, story.reason.clone(), story.since_unix_ms)
        };
        EndpointStatus {
            id: self.incarnation.id.clone(),
            state,
            reason,
            since_unix_ms,
            in_flight: self.in_flight(),
        }
    }

    fn story(&self) -> MutexGuard<'_, Story> {
        self.story.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
