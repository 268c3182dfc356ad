//! What outlives a table: the live state of an endpoint, and the registry that hands the same cell to every table
//! that holds the same incarnation.
//!
//! Cells hold atomics only, beside one reason text that workers never read. Does not check, pick or connect.

pub mod estimate;
mod evidence;
mod extra;
mod incarnation;
pub mod load;
mod registry;
pub mod seat;
mod slots;

pub use evidence::EvidenceSeen;
pub use incarnation::{ClusterPlace, Incarnation};
pub use registry::CellRegistry;

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ekiden_config::doors::EndpointStatus;
use ekiden_config::model::ReadinessPolicy;
use once_cell::race::OnceBox;

use crate::health::{Health, Transition};
use crate::readiness::{Change, Event, FULL_SHARE, Readiness, State};
use evidence::Counts;
use extra::Extra;

/// Shortest idle limit that a cell learns, in milliseconds. One endpoint that dies while connections are idle must
/// not switch off the pool for good.
pub const IDLE_LIMIT_FLOOR_MS: u32 = 1_000;

// The layout of `flags`. Zero means "may be picked, without a second thought", so that the test is one load and one
// comparison.
const HEALTH: u32 = 0b0011;
const STARTING: u32 = 0b0001;
const FAILING: u32 = 0b0010;
const GONE: u32 = 0b0100;
const DRAINING: u32 = 0b1000;
/// Set aside by evidence.
pub(crate) const EJECTED: u32 = 1 << 4;
/// Has less than its share for a while.
const WARMING: u32 = 1 << 5;
/// Comes back from an ejection.
pub(crate) const TRIAL: u32 = 1 << 6;
/// Takes so many requests at once and no more.
pub(crate) const SLOTTED: u32 = 1 << 7;
/// What keeps an endpoint from every request.
pub(crate) const BARRED: u32 = !(WARMING | TRIAL | SLOTTED);

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

/// The flags that say what the state machine says.
fn flags_of(story: &Readiness) -> u32 {
    let mark = |is: bool, bit: u32| if is { bit } else { 0 };
    bits(story.health())
        | mark(story.is_gone(), GONE)
        | mark(story.is_draining(), DRAINING)
        | mark(story.is_ejected(), EJECTED)
        | mark(story.is_warming(), WARMING)
        | mark(story.is_on_trial(), TRIAL)
}

/// The live state of one incarnation, shared by every table, worker and pool that knows it.
///
/// What workers write comes first, beside the counts of the `Arc`: 32 bytes of which no two cells of an allocator's page have any in
/// the same cache line, as there are 64 between them.
#[derive(Debug)]
#[repr(C)]
pub struct EndpointCell {
    /// What `story` says, for workers; written under its lock only.
    flags: AtomicU32,
    in_flight: AtomicU32,
    evidence: Counts,
    /// How long it keeps idle connections, in milliseconds, and [`CHOSE_HTTP1`].
    habits: AtomicU32,
    uid: u64,
    incarnation: Incarnation,
    /// What most endpoints never need.
    extra: OnceBox<Extra>,
    story: Mutex<Readiness>,
}

// There is one for each endpoint; with the counts of its `Arc` it is a cache line and a half.
const _: () = assert!(size_of::<EndpointCell>() <= 80);

/// Bit of `habits`: it chose HTTP/1 when it was last offered both.
const CHOSE_HTTP1: u32 = 1 << 31;

static NEXT_UID: AtomicU64 = AtomicU64::new(1);

impl EndpointCell {
    /// A fresh cell. Called by the registry; tests may call it directly.
    pub fn new(incarnation: Incarnation, health: Health, reason: &str, now_unix_ms: u64) -> Self {
        Self {
            uid: NEXT_UID.fetch_add(1, Ordering::Relaxed),
            incarnation,
            flags: AtomicU32::new(bits(health)),
            in_flight: AtomicU32::new(0),
            evidence: Counts::default(),
            habits: AtomicU32::new(0),
            extra: OnceBox::new(),
            story: Mutex::new(Readiness::new(health, reason, now_unix_ms)),
        }
    }

    /// Goes by this policy from now on; without ejection an ejection ends. Called when a table is compiled, for cells that
    /// are new and for all cells of a cluster whose policy changed.
    pub fn set_policy(&self, policy: &ReadinessPolicy, now_unix_ms: u64) {
        self.story().set_policy(policy);
        self.count_by(policy.ejection.as_ref());
        if policy.ejection.is_none() {
            self.on(Event::Lift("ejection was switched off"), now_unix_ms);
        }
    }

    /// Takes an event, makes it visible to workers, and returns the change of state, if any. The caller refreshes the ready
    /// set of the cluster after a change ([`crate::cluster::ClusterTable::refresh_ready`]). Locks: not for workers.
    pub fn on(&self, event: Event<'_>, now_unix_ms: u64) -> Option<Change> {
        self.take(&mut self.story(), event, now_unix_ms)
    }

    /// State and flags change under one lock, so that they cannot come apart.
    fn take(&self, story: &mut Readiness, event: Event<'_>, now_unix_ms: u64) -> Option<Change> {
        let was_ejected = story.is_ejected();
        let change = story.on(event, now_unix_ms);
        if story.is_warming() {
            self.extra().ramp.store(story.ramp(), Ordering::Relaxed);
        }
        if was_ejected && !story.is_ejected() {
            self.forget_evidence();
            self.forget_estimate();
        }
        self.flags.store(flags_of(story) | self.slotted(), Ordering::Release);
        change
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

    /// Whether a new request may go here now: ready or warming, not ejected, not gone, not draining. One atomic load.
    #[inline]
    pub fn may_pick(&self) -> bool {
        self.flags.load(Ordering::Acquire) & BARRED == 0
    }

    /// Whether an attempt may go here: none of `barred` is true of it, and `grain` (0 for any attempt, else evenly drawn)
    /// is within its share. One load for an endpoint that is plainly ready.
    #[inline]
    pub(crate) fn takes(&self, barred: u32, grain: u32) -> bool {
        let flags = self.flags.load(Ordering::Acquire);
        flags == 0 || (flags & barred == 0 && (flags & WARMING == 0 || grain <= self.share()))
    }

    /// Part of its share that it gets while it is warming, of [`FULL_SHARE`].
    pub(super) fn share(&self) -> u32 {
        self.extra_seen().map_or(FULL_SHARE, |extra| extra.ramp.load(Ordering::Relaxed))
    }

    /// The state as workers see it. No lock.
    pub fn standing(&self) -> State {
        let flags = self.flags.load(Ordering::Acquire);
        match flags {
            _ if flags & GONE != 0 => State::Gone,
            _ if flags & DRAINING != 0 => State::Draining,
            _ if flags & HEALTH == STARTING => State::Starting,
            _ if flags & HEALTH == FAILING => State::Failing,
            _ if flags & EJECTED != 0 => State::Ejected,
            _ if flags & WARMING != 0 => State::Warming,
            _ => State::Ready,
        }
    }

    /// Requests that have to go well in a row before they end its ejection. Locks: not for workers.
    pub fn trial_requests(&self) -> u32 {
        self.story().trial_requests()
    }

    /// Whether it is set aside by evidence.
    pub fn is_ejected(&self) -> bool {
        self.flags.load(Ordering::Acquire) & EJECTED != 0
    }

    /// Whether it has less than its share for a while.
    pub fn is_warming(&self) -> bool {
        self.flags.load(Ordering::Acquire) & WARMING != 0
    }

    /// The part of its share that it gets, 0 to 1.
    pub fn ramp(&self) -> f64 {
        match self.is_warming() {
            true => f64::from(self.share()) / f64::from(FULL_SHARE),
            false => 1.0,
        }
    }

    /// What the checks say, whatever the marks.
    pub fn health(&self) -> Health {
        health(self.flags.load(Ordering::Acquire))
    }

    /// Whether its first check is outstanding and its answer could still admit it.
    pub fn first_check_pending(&self) -> bool {
        self.flags.load(Ordering::Acquire) & !SLOTTED == STARTING
    }

    /// Whether it was removed from the model.
    #[inline]
    pub fn is_gone(&self) -> bool {
        self.flags.load(Ordering::Acquire) & GONE != 0
    }

    /// Marks it removed, for ever: a later endpoint with the same words gets a cell of its own. Called for every
    /// cell in [`CellRegistry::take_removed`] before the apply is acknowledged.
    pub fn mark_gone(&self) {
        self.on(Event::Gone, 0);
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
        self.on(Event::Drain(on), now_unix_ms);
        true
    }

    /// Takes a change of health and returns whether it changed anything. Called by the probe runner, which then
    /// refreshes the ready set of the cluster ([`crate::cluster::ClusterTable::refresh_ready`]).
    pub fn apply(&self, transition: &Transition) -> bool {
        self.set_health(transition.to, &transition.reason, transition.at_unix_ms)
    }

    /// Sets health with its reason and time; the same health again changes nothing.
    pub fn set_health(&self, to: Health, reason: &str, now_unix_ms: u64) -> bool {
        let mut story = self.story();
        if story.health() == to {
            return false;
        }
        self.take(&mut story, Event::Checked(to, reason), now_unix_ms);
        true
    }

    /// Why its checks say what they say, and since when in milliseconds since the Unix epoch. Locks: not for workers.
    pub fn reason(&self) -> (String, u64) {
        let story = self.story();
        let (reason, since) = story.health_story();
        (reason.to_owned(), since)
    }

    /// Changes of health so far. Locks: not for workers.
    pub fn transitions(&self) -> u32 {
        self.story().transitions()
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

    /// Connections that carry a request, where they are bounded (see [`crate::resilience::breaker`]).
    pub(crate) fn connections(&self) -> &AtomicU32 {
        &self.extra().connections
    }

    /// Failed connects and connections lost before a response, over all workers.
    pub fn failures(&self) -> u64 {
        self.extra_seen().map_or(0, |extra| extra.failures.load(Ordering::Relaxed))
    }

    /// Counts a failed connect or a connection lost before a response. Never called for a client that went away.
    pub fn note_failure(&self) {
        self.extra().failures.fetch_add(1, Ordering::Relaxed);
    }

    /// How long the endpoint keeps an idle connection, in milliseconds; 0 while unknown.
    #[inline]
    pub fn idle_limit_ms(&self) -> u32 {
        self.habits.load(Ordering::Relaxed) & !CHOSE_HTTP1
    }

    /// Learns how long the endpoint keeps an idle connection, from a `Keep-Alive` field or from a close that was
    /// observed after `ms` of silence. The shortest seen wins, down to [`IDLE_LIMIT_FLOOR_MS`].
    pub fn learn_idle_limit(&self, ms: u32) {
        let ms = ms.clamp(IDLE_LIMIT_FLOOR_MS, !CHOSE_HTTP1);
        let known = self.idle_limit_ms();
        if known == 0 || ms < known {
            // A lost race between workers is learned again at the next response; a stale value can only be one of
            // two that were both observed.
            let learned = |habits: u32| Some(habits & CHOSE_HTTP1 | ms);
            let _always = self.habits.fetch_update(Ordering::Relaxed, Ordering::Relaxed, learned);
        }
    }

    /// Whether the endpoint chose HTTP/1 when it was last offered HTTP/2 too: its connections are then not waited for by
    /// others.
    pub fn chose_http1(&self) -> bool {
        self.habits.load(Ordering::Relaxed) & CHOSE_HTTP1 != 0
    }

    /// Notes what it chose.
    pub fn note_choice(&self, http1: bool) {
        match http1 {
            _ if self.chose_http1() == http1 => 0,
            true => self.habits.fetch_or(CHOSE_HTTP1, Ordering::Relaxed),
            false => self.habits.fetch_and(!CHOSE_HTTP1, Ordering::Relaxed),
        };
    }

    /// Live state for people and the API. Locks: not for workers.
    pub fn status(&self) -> EndpointStatus {
        let story = self.story();
        EndpointStatus {
            id: self.incarnation.id().clone(),
            state: story.state().word(),
            reason: story.reason(),
            since_unix_ms: story.since(),
            in_flight: self.in_flight(),
        }
    }

    fn story(&self) -> MutexGuard<'_, Readiness> {
        self.story.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
