//! The accounts of one limit: governor's GCRA over a table of fixed capacity, shared by all workers.
//!
//! Set-associative: the accounts that a key may have are the [`WAYS`] of one set, named by its keyed hash. An account is
//! two atomics: who it belongs to, and when it will be even (the theoretical arrival time, in nanoseconds of one monotonic
//! clock). A key without an account takes over the one of its set that is even soonest, *with what it owes* (as Space-Saving
//! does: Metwally, Agrawal and El Abbadi, 2005), and only when its request passes. So
//!
//! * an idle account, which is even, is free to take and means nothing: eviction needs no sweep;
//! * memory is the capacity, whatever clients send; keys that do not fit share the accounts that are used least;
//! * a key that was put out never comes back to a fresh allowance: while it was away, every account of its set owes at
//!   least as much as its own did. Heavy keys owe most, and go last.
//!
//! Workers that meet a new key at the same moment may lose one request of it each. Does not read a clock and does not know
//! requests.

use std::cell::Cell;
use std::num::NonZeroU32;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use ekiden_config::model::Rate;
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::{Quota, RateLimiter};

/// Accounts of a set.
pub(super) const WAYS: usize = 8;

/// Names in one cache line, times in the next: a known key reads both, and writes only the second.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Set {
    owners: [AtomicU64; WAYS],
    times: [AtomicU64; WAYS],
}

/// The rate of a limit in governor's words.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    quota: Quota,
    interval_ns: u64,
    burst: u32,
}

impl Pace {
    /// Of a rate. One request at the full rate takes whole nanoseconds, rounded down: at most 0.1 % above the rate, and exact
    /// for rates that divide a billion.
    pub(super) fn new(rate: &Rate) -> Self {
        let per_ns = u64::try_from(rate.per.as_nanos()).unwrap_or(u64::MAX);
        let interval_ns = (per_ns / u64::from(rate.count.max(1))).max(1);
        let burst = NonZeroU32::new(rate.burst).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::with_period(Duration::from_nanos(interval_ns))
            .unwrap_or_else(|| Quota::per_second(NonZeroU32::MIN))
            .allow_burst(burst);
        Self { quota, interval_ns, burst: burst.get() }
    }

    /// Time in which an empty allowance fills, in nanoseconds.
    pub(super) fn window_ns(&self) -> u64 {
        self.interval_ns.saturating_mul(u64::from(self.burst))
    }

    /// What an account that is even at `even_ns` may still take at once.
    pub(super) fn left(&self, even_ns: u64, now_ns: u64) -> u64 {
        let owed = even_ns.saturating_sub(now_ns);
        self.window_ns().saturating_sub(owed) / self.interval_ns
    }

    /// Time until an account that is even at `even_ns` may take `cost`, if nothing else came, in nanoseconds.
    pub(super) fn wait_ns(&self, even_ns: u64, cost: u32, now_ns: u64) -> u64 {
        let owed = even_ns.max(now_ns).saturating_add(self.interval_ns.saturating_mul(u64::from(cost)));
        owed.saturating_sub(now_ns.saturating_add(self.window_ns()))
    }

    /// One part of so many, of rate and burst: at least one request at once, whatever it costs.
    pub(super) fn share(&self, parts: u32, cost: NonZeroU32) -> Self {
        let parts = parts.max(1);
        let interval_ns = self.interval_ns.saturating_mul(u64::from(parts));
        let burst = NonZeroU32::new(self.burst / parts).map_or(cost, |burst| burst.max(cost));
        let quota = Quota::with_period(Duration::from_nanos(interval_ns))
            .unwrap_or_else(|| Quota::per_second(NonZeroU32::MIN))
            .allow_burst(burst);
        Self { quota, interval_ns, burst: burst.get() }
    }

    /// Time of one unit, in nanoseconds.
    pub(super) fn interval_ns(&self) -> u64 {
        self.interval_ns
    }

    /// Units that may be taken at once.
    pub(super) fn burst(&self) -> u32 {
        self.burst
    }

    /// Time until an account that is even at `even_ns` may take one more than now, in nanoseconds; none when it may take all.
    pub(super) fn next_ns(&self, even_ns: u64, now_ns: u64) -> Option<u64> {
        let owed = even_ns.checked_sub(now_ns).filter(|owed| *owed > 0)?;
        Some(match owed % self.interval_ns {
            0 => self.interval_ns,
            part => part,
        })
    }
}

/// What was taken from an account, to be given back when another limit refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taken {
    /// The account's number.
    pub(super) at: u32,
    /// What was taken.
    pub(super) cost: u32,
    /// Time of one unit by which it was taken.
    unit_ns: u64,
    /// When the account will be even.
    pub(super) even_ns: u64,
    /// The account is another key's, which still owed something.
    pub(super) crowded: bool,
    /// The account was not this key's before.
    pub(super) is_new: bool,
    /// Not taken from the account but from a lease beside it.
    pub(super) is_leased: bool,
}

impl Taken {
    /// From a lease: the account's time is what it was.
    pub(super) fn leased(at: u32, cost: u32, even_ns: u64) -> Self {
        Self { at, cost, unit_ns: 0, even_ns, crowded: false, is_new: false, is_leased: true }
    }
}

/// What an account does not give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused {
    /// Time until this request would pass, if nothing else came.
    pub(super) wait_ns: u64,
    /// When the account will be even.
    pub(super) even_ns: u64,
    /// The account's number; none where the key has none of its own.
    pub(super) at: Option<u32>,
}

/// Windows that an account may owe at most by charges afterwards.
pub(super) const CHARGED_WINDOWS: u64 = 10;

/// Most sets that the first request makes, on its worker: 1 MiB. More are made with the table, off the workers.
const SETS_LATE: u64 = 1 << 13;

/// The accounts of one limit. Unused, those of a small one take no memory.
#[derive(Debug)]
pub(super) struct Accounts {
    sets: OnceLock<Box<[Set]>>,
    /// Sets less one: a power of two.
    mask: u64,
}

impl Accounts {
    /// For so many keys at a time, rounded up to a power of two, at least one set.
    pub(super) fn new(keys: u32) -> Self {
        let sets = u64::from(keys).div_ceil(WAYS as u64).next_power_of_two();
        let made = Self { sets: OnceLock::new(), mask: sets - 1 };
        if sets > SETS_LATE {
            made.sets();
        }
        made
    }

    /// Takes `cost` from the account of a key.
    ///
    /// # Errors
    /// When it has not so much.
    pub(super) fn take(
        &self,
        key: u64,
        cost: NonZeroU32,
        pace: &Pace,
        now_ns: u64,
    ) -> Result<Taken, Refused> {
        // Never zero, which is nobody.
        let visit = Visit::new(self, key.max(1));
        let limiter: RateLimiter<u64, &Visit<'_>, Reading, NoOpMiddleware<Nanos>> =
            RateLimiter::new(pace.quota, &visit, Reading { next: Cell::new(0), now_ns });
        match limiter.check_key_n(&visit.key, cost) {
            Ok(Ok(())) => Ok(Taken {
                at: visit.at,
                cost: cost.get(),
                unit_ns: pace.interval_ns,
                even_ns: visit.even.get(),
                crowded: visit.crowded(now_ns),
                is_new: !visit.ours,
                is_leased: false,
            }),
            Ok(Err(until)) => {
                let wait_ns = until.earliest_possible().as_u64().saturating_sub(now_ns);
                Err(Refused { wait_ns, even_ns: visit.even.get(), at: visit.own_at() })
            }
            // `validate` takes no cost above the burst, and a share is never less than the cost.
            Err(_) => {
                let even_ns = if visit.ours { visit.time() } else { 0 };
                Err(Refused { wait_ns: pace.window_ns(), even_ns, at: visit.own_at() })
            }
        }
    }

    /// Undoes a [`Accounts::take`]. Called at once, on the same worker.
    pub(super) fn give_back(&self, taken: &Taken) {
        if let Some((_, time)) = self.words(taken.at) {
            let owed = taken.unit_ns.saturating_mul(u64::from(taken.cost));
            // The thread of a store may have settled the account meanwhile: then there may be less to give back, never less than
            // nothing.
            let _always_some = time.fetch_update(Relaxed, Relaxed, |time| Some(time.saturating_sub(owed)));
        }
    }

    /// Accounts that owe something now. Walks all of them: for telemetry.
    pub(super) fn in_use(&self, now_ns: u64) -> u64 {
        let sets = self.sets.get().map_or(&[][..], |sets| sets);
        let owing = |set: &Set| set.times.iter().filter(|time| time.load(Relaxed) > now_ns).count() as u64;
        sets.iter().map(owing).sum()
    }

    /// The account of a key, if it has one: its number, and when it will be even.
    pub(super) fn find(&self, key: u64) -> Option<(u32, u64)> {
        let visit = Visit::new(self, key);
        visit.ours.then(|| (visit.at, visit.time()))
    }

    /// Whose an account is, and when it will be even.
    pub(super) fn at(&self, at: u32) -> Option<(u64, u64)> {
        self.words(at).map(|(owner, time)| (owner.load(Relaxed), time.load(Relaxed)))
    }

    /// Says when an account will be even.
    pub(super) fn set_even(&self, at: u32, even_ns: u64) {
        if let Some((_, time)) = self.words(at) {
            time.store(even_ns, Relaxed);
        }
    }

    /// Takes afterwards from the account that a key had, as long as it is the key's, whatever is left.
    pub(super) fn charge(&self, at: u32, key: u64, units: u32, pace: &Pace, now_ns: u64) -> bool {
        let Some((owner, time)) = self.words(at).filter(|(owner, _)| owner.load(Relaxed) == key) else {
            return false;
        };
        let owed = pace.interval_ns.saturating_mul(u64::from(units));
        // No more than what fills in ten times the time of a whole allowance: a wrong number is no ban.
        let most = now_ns.saturating_add(pace.window_ns().saturating_mul(CHARGED_WINDOWS));
        let later = |even: u64| Some(even.max(now_ns).saturating_add(owed).min(most.max(even)));
        let _charged = time.fetch_update(Relaxed, Relaxed, later);
        owner.load(Relaxed) == key
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.sets().len() * WAYS
    }

    fn words(&self, at: u32) -> Option<(&AtomicU64, &AtomicU64)> {
        let (set, way) = (self.sets().get(at as usize / WAYS)?, at as usize % WAYS);
        Some((set.owners.get(way)?, set.times.get(way)?))
    }

    fn sets(&self) -> &[Set] {
        self.sets.get_or_init(|| (0..=self.mask).map(|_| Set::default()).collect())
    }
}

/// The time of the worker's turn as governor's clock. A limiter asks when it is made, for the beginning of its time, and
/// once more when it judges: our time begins at zero, whoever asks first.
struct Reading {
    next: Cell<u64>,
    now_ns: u64,
}

impl Clock for Reading {
    type Instant = Nanos;

    #[inline]
    fn now(&self) -> Nanos {
        Nanos::from(self.next.replace(self.now_ns))
    }
}

/// One look of one key at its set: governor's store for the time of one judgement.
struct Visit<'a> {
    set: &'a Set,
    way: usize,
    /// The account's number in the whole table.
    at: u32,
    key: u64,
    ours: bool,
    /// What the account owed before, as a time.
    before: Cell<u64>,
    even: Cell<u64>,
}

/// What every key meets where there are no sets; a table has at least one.
static NO_SET: Set =
    Set { owners: [const { AtomicU64::new(0) }; WAYS], times: [const { AtomicU64::new(0) }; WAYS] };

impl<'a> Visit<'a> {
    #[inline]
    fn new(accounts: &'a Accounts, key: u64) -> Self {
        let number = key & accounts.mask;
        let set = accounts.sets().get(number as usize).unwrap_or(&NO_SET);
        let held = set.owners.iter().position(|owner| owner.load(Relaxed) == key);
        let way = held.unwrap_or_else(|| soonest(set));
        let at = number as u32 * WAYS as u32 + way as u32;
        Self { set, way, at, key, ours: held.is_some(), before: Cell::new(0), even: Cell::new(0) }
    }

    /// The account's number, where it is the key's own.
    fn own_at(&self) -> Option<u32> {
        self.ours.then_some(self.at)
    }

    /// When the account will be even.
    fn time(&self) -> u64 {
        self.set.times.get(self.way).map_or(0, |time| time.load(Relaxed))
    }

    fn crowded(&self, now_ns: u64) -> bool {
        !self.ours && self.before.get() > now_ns
    }
}

/// The account that is even soonest.
fn soonest(set: &Set) -> usize {
    let times = set.times.iter().map(|time| time.load(Relaxed)).enumerate();
    times.min_by_key(|(_, time)| *time).map_or(0, |(way, _)| way)
}

impl StateStore for &Visit<'_> {
    type Key = u64;

    #[inline]
    fn measure_and_replace<T, F, E>(&self, key: &u64, judge: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let (Some(owner), Some(time)) = (self.set.owners.get(self.way), self.set.times.get(self.way)) else {
            return judge(None).map(|(passed, _)| passed);
        };
        let mut before = time.load(Relaxed);
        loop {
            self.before.set(before);
            self.even.set(before);
            let (passed, even) = judge(Some(Nanos::from(before)))?;
            let even = even.as_u64();
            // Each turn of the loop means that another worker took something.
            match time.compare_exchange_weak(before, even, Relaxed, Relaxed) {
                Ok(_) => {
                    if !self.ours {
                        owner.store(*key, Relaxed);
                    }
                    self.even.set(even);
                    return Ok(passed);
                }
                Err(other) => before = other,
            }
        }
    }
}

#[cfg(test)]
mod tests;
