//! A bound on the requests of a cluster in flight that follows latency: it finds how many the endpoints can work on at a time, and
//! what is more is refused instead of waiting at them.
//!
//! The gradient of Envoy's adaptive concurrency filter (after Netflix's concurrency-limits): with the latency without a queue `base`
//! and that of now `short`, `limit = limit x tolerance x base / short + sqrt(limit)`, at most doubled and at least halved at a time.
//! Where a queue forms, `short` grows with the limit, so there is one point of rest, a little above what the endpoints can do at
//! a time. The limit grows only while at least half of it is in use. What `base` is must be looked at now and then, since endpoints
//! change and a standing queue looks like slowness: for a look the limit is halved, which empties the queue, until enough
//! requests that were sent since have been answered. Envoy goes down to 3 requests for that; half costs good traffic less, and
//! is enough, as the limit rests far below twice what leaves no queue.
//!
//! Shared by all workers without a lock: sums are added to, and whoever ends a window takes it. Pure: time is an argument.

use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};

use ekiden_config::model::AdaptivePolicy;

use crate::stats::ClusterCell;

/// Shortest window, in microseconds.
const WINDOW_US: u64 = 100_000;
/// Answers that a window needs.
const SAMPLES_MIN: u64 = 50;
/// Answers that a look needs: what it finds holds for long, and where few are in flight the first to end are the short ones.
const LOOK_SAMPLES_MIN: u64 = 200;
/// The first limit, as far as the policy allows.
const FIRST: u32 = 64;
/// The first look comes after so many microseconds, when the first latencies have been seen.
const FIRST_LOOK_US: u64 = 2_000_000;
/// A look that refuses requests is given up after twice the time that it should take, within these bounds, in microseconds: what was
/// sent before may hang and never be answered.
const PATIENCE_US: (f64, f64) = (1_000_000.0, 30_000_000.0);

/// What is going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Phase {
    /// Nothing is known.
    New = 0,
    /// The limit follows latency.
    Follows = 1,
    /// The limit is halved, and what was sent before is not answered yet.
    Drains = 2,
    /// The limit is halved, and latency is that without a queue.
    Looks = 3,
}

impl Phase {
    const fn of(number: u32) -> Self {
        match number {
            1 => Phase::Follows,
            2 => Phase::Drains,
            3 => Phase::Looks,
            _ => Phase::New,
        }
    }
}

/// The bound of one cluster. Outlives tables.
#[derive(Debug)]
pub struct Adaptive {
    in_flight: AtomicU32,
    /// What is let in now: the limit, or half of it during a look.
    open: AtomicU32,
    limit: AtomicU32,
    refused: AtomicU64,
    // The window.
    sum_us: AtomicU64,
    count: AtomicU64,
    most: AtomicU32,
    ends_at_us: AtomicU64,
    closing: AtomicBool,
    // Written by who closes a window, and only read by others.
    phase: AtomicU32,
    base_us: AtomicU64,
    look_at_us: AtomicU64,
    /// When a look is given up where it refuses requests.
    look_over_us: AtomicU64,
}

impl Adaptive {
    /// A bound that knows nothing yet.
    pub fn new(policy: &AdaptivePolicy) -> Self {
        let first = FIRST.clamp(policy.min, policy.max.max(policy.min));
        Self {
            in_flight: AtomicU32::new(0),
            open: AtomicU32::new(first),
            limit: AtomicU32::new(first),
            refused: AtomicU64::new(0),
            sum_us: AtomicU64::new(0),
            count: AtomicU64::new(0),
            most: AtomicU32::new(0),
            ends_at_us: AtomicU64::new(0),
            closing: AtomicBool::new(false),
            phase: AtomicU32::new(Phase::New as u32),
            base_us: AtomicU64::new(0),
            look_at_us: AtomicU64::new(0),
            look_over_us: AtomicU64::new(0),
        }
    }

    /// Requests that it lets in at a time; half of that during a look.
    pub fn limit(&self) -> u32 {
        self.limit.load(Relaxed)
    }

    /// Requests in flight that it counts.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// Requests that it has refused.
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// The latency without a queue, as last seen, in microseconds; 0 while nothing is known.
    pub fn base_us(&self) -> u64 {
        self.base_us.load(Relaxed)
    }

    fn enter(&self, policy: &AdaptivePolicy, now_us: u64) -> bool {
        let is_in = self.take_place(policy) || (self.give_up_look(policy, now_us) && self.take_place(policy));
        if !is_in {
            self.refused.fetch_add(1, Relaxed);
        }
        is_in
    }

    fn take_place(&self, policy: &AdaptivePolicy) -> bool {
        // The policy may have changed since the last window, and the next one may need what it lets in.
        let open = self.open.load(Relaxed).clamp(policy.min, policy.max.max(policy.min));
        let taken = self.in_flight.fetch_update(Relaxed, Relaxed, |now| (now < open).then(|| now + 1));
        let most = taken.map_or(open, |before| before + 1);
        if most > self.most.load(Relaxed) {
            self.most.fetch_max(most, Relaxed);
        }
        taken.is_ok()
    }

    /// Ends a look that has refused requests for too long, without a result; whether it did.
    #[cold]
    fn give_up_look(&self, policy: &AdaptivePolicy, now_us: u64) -> bool {
        let is_over = || {
            matches!(Phase::of(self.phase.load(Relaxed)), Phase::Drains | Phase::Looks)
                && now_us >= self.look_over_us.load(Relaxed)
                // At the least limit nothing is gained by it.
                && self.open.load(Relaxed) < self.limit()
        };
        if !is_over() || self.closing.swap(true, AcqRel) {
            return false;
        }
        let is_given_up = is_over();
        if is_given_up {
            self.sum_us.store(0, Relaxed);
            self.count.store(0, Relaxed);
            self.look_at_us.store(now_us.saturating_add(look_us(policy)), Relaxed);
            self.open.store(self.limit(), Relaxed);
            self.phase.store(Phase::Follows as u32, Relaxed);
            self.ends_at_us.store(now_us.saturating_add(WINDOW_US), Release);
        }
        self.closing.store(false, Release);
        is_given_up
    }

    fn leave(&self) {
        self.in_flight.fetch_sub(1, Relaxed);
    }

    /// Notes how long an endpoint took to begin an answer, at a time of the workers' clock. Whoever comes first after the end of a
    /// window draws the conclusion.
    pub fn note(&self, policy: &AdaptivePolicy, took_us: u64, now_us: u64) {
        let ends_at_us = self.ends_at_us.load(Acquire);
        // What was sent before the queue was let run empty tells of the queue.
        let is_look = Phase::of(self.phase.load(Relaxed)) == Phase::Looks;
        if is_look && now_us.saturating_sub(took_us) + WINDOW_US < ends_at_us {
            return;
        }
        self.sum_us.fetch_add(took_us, Relaxed);
        let count = self.count.fetch_add(1, Relaxed) + 1;
        if count < if is_look { LOOK_SAMPLES_MIN } else { SAMPLES_MIN } || now_us < ends_at_us {
            return;
        }
        if self.closing.swap(true, AcqRel) {
            return;
        }
        if self.ends_at_us.load(Acquire) == ends_at_us {
            self.close(policy, now_us);
        }
        self.closing.store(false, Release);
    }

    /// Ends a window. One caller at a time.
    fn close(&self, policy: &AdaptivePolicy, now_us: u64) {
        let (sum_us, count) = (self.sum_us.swap(0, Relaxed), self.count.swap(0, Relaxed));
        let most = self.most.swap(self.in_flight(), Relaxed);
        let short = sum_us as f64 / count.max(1) as f64;
        let limit = self.limit();
        let phase = Phase::of(self.phase.load(Relaxed));
        let look_us = look_us(policy);
        let next = match phase {
            Phase::New => {
                self.base_us.store((short as u64).max(1), Relaxed);
                self.look_at_us.store(now_us.saturating_add(FIRST_LOOK_US.min(look_us)), Relaxed);
                Phase::Follows
            }
            // At the least limit too: what the latency without a queue is may be what keeps it there.
            Phase::Follows if now_us >= self.look_at_us.load(Relaxed) => {
                self.look_over_us
                    .store(now_us.saturating_add(patience_us(short, half(policy, limit))), Relaxed);
                Phase::Drains
            }
            Phase::Follows => Phase::Follows,
            Phase::Drains if self.in_flight() <= half(policy, limit) => Phase::Looks,
            Phase::Drains => Phase::Drains,
            Phase::Looks => {
                self.base_us.store((short as u64).max(1), Relaxed);
                self.look_at_us.store(now_us.saturating_add(look_us), Relaxed);
                Phase::Follows
            }
        };
        let limit = match (phase, next) {
            (Phase::Follows, Phase::Follows) => self.follow(policy, short, most),
            _ => limit.clamp(policy.min, policy.max.max(policy.min)),
        };
        self.limit.store(limit, Relaxed);
        let is_look = matches!(next, Phase::Drains | Phase::Looks);
        self.open.store(if is_look { half(policy, limit) } else { limit }, Relaxed);
        self.phase.store(next as u32, Relaxed);
        self.ends_at_us.store(now_us.saturating_add(WINDOW_US), Release);
    }

    /// The limit that follows from a window.
    fn follow(&self, policy: &AdaptivePolicy, short: f64, most: u32) -> u32 {
        let limit = f64::from(self.limit());
        let base = self.base_us.load(Relaxed) as f64;
        let tolerance = f64::from(policy.tolerance_percent) / 100.0;
        let gradient = (tolerance * base / short.max(1.0)).clamp(0.5, 2.0);
        let wanted = limit * gradient + limit.sqrt();
        let next =
            if wanted > limit && u64::from(most) * 2 < u64::from(self.limit()) { limit } else { wanted };
        (next.round() as u32).clamp(policy.min, policy.max.max(policy.min))
    }
}

/// How long a look may refuse requests where answers take so long and so many are let in: a queue has to run empty, and both
/// phases need their answers.
fn patience_us(short: f64, open: u32) -> u64 {
    let turns = 2.0 + (SAMPLES_MIN + LOOK_SAMPLES_MIN) as f64 / f64::from(open.max(1));
    (short * turns * 2.0).clamp(PATIENCE_US.0, PATIENCE_US.1) as u64
}

fn look_us(policy: &AdaptivePolicy) -> u64 {
    u64::try_from(policy.look.as_micros()).unwrap_or(u64::MAX)
}

fn half(policy: &AdaptivePolicy, limit: u32) -> u32 {
    (limit / 2).max(policy.min).max(1)
}

/// A request that the bound counts. Given back when it is dropped.
#[derive(Debug)]
pub struct Admitted {
    cell: Arc<ClusterCell>,
    policy: AdaptivePolicy,
}

impl Admitted {
    /// Lets a request in, at a time of the workers' clock; none when there are as many as may be, which is counted.
    pub fn take(cell: &Arc<ClusterCell>, policy: &AdaptivePolicy, now_us: u64) -> Option<Self> {
        let is_in = cell.adaptive(policy).enter(policy, now_us);
        is_in.then(|| Self { cell: Arc::clone(cell), policy: *policy })
    }

    /// Notes how long its endpoint took to begin the answer, as [`Adaptive::note`] does.
    pub fn note(&self, took_us: u64, now_us: u64) {
        self.cell.adaptive(&self.policy).note(&self.policy, took_us, now_us);
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        if let Some(adaptive) = self.cell.adaptive_seen() {
            adaptive.leave();
        }
    }
}

#[cfg(test)]
mod tests;
