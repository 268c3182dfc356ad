//! How long an endpoint takes to begin its answers, and how much of what it got of late has failed: two averages that forget
//! with time, whatever the rate of requests.
//!
//! Each is one word, its value beside its moment. Written by workers at the end of an attempt, read by picks. Two workers that
//! write at the same moment lose one sample, which moves an average by nothing that matters. Does not measure time and does not
//! choose.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::EndpointCell;

/// Time after which a sample of latency counts for a third.
pub const MEMORY: Duration = Duration::from_secs(10);
/// The same while latency rises: what becomes slow is known at once.
const MEMORY_RISING: Duration = Duration::from_secs(2);
/// One answer raises what is known at most to so many times as much: the first answer of a cold endpoint, or one pause in a
/// thousand answers, must not keep requests away for a minute.
const RISE_MOST: f32 = 4.0;
/// Time after which a failure counts for a third.
pub const FAILURE_MEMORY: Duration = Duration::from_secs(1);
/// What an endpoint where everything fails is taken to need for an answer: a fast failure must not draw requests.
pub const PENALTY: Duration = Duration::from_secs(5);
/// Longest `Retry-After` that is honoured.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// Microseconds of a tick, as a power of two. All ticks, after which they begin again, are 76 hours.
const TICK_BITS: u32 = 6;
/// How far ahead of now a moment can be: a wait that was asked for, and another worker's clock that was read a moment later.
/// Every other distance is an age.
const LEAD: u32 = ((RETRY_AFTER_MAX.as_micros() + 1_000_000) >> TICK_BITS) as u32;
/// Nothing is left of a failure after this many ticks, ten minutes: its word goes, before the ticks begin again.
const FAILURE_GONE: u32 = (600_000_000 >> TICK_BITS) as u32;

/// An average and its moment, in one word; zero means none.
#[derive(Debug, Default)]
pub(crate) struct Average(AtomicU64);

/// What an average was at its moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Reading {
    tick: u32,
    value: f32,
}

pub(super) fn tick(now_us: u64) -> u32 {
    (now_us >> TICK_BITS) as u32
}

pub(super) fn ticks(time: Duration) -> f32 {
    (time.as_micros() >> TICK_BITS) as f32
}

/// Ticks from `then` to `now`; 0 when `then` is later.
pub(super) fn since(now: u32, then: u32) -> u32 {
    if then.wrapping_sub(now) <= LEAD { 0 } else { now.wrapping_sub(then) }
}

/// What is left of a sample after so many ticks: `e^-x` as `(1 + x/16)^-16`.
#[inline]
pub(super) fn kept(age: u32, memory: f32) -> f32 {
    let base = 1.0 + age as f32 / (16.0 * memory);
    let two = base * base;
    let four = two * two;
    let eight = four * four;
    1.0 / (eight * eight)
}

impl Average {
    #[inline]
    pub(crate) fn read(&self) -> Option<Reading> {
        let word = self.0.load(Relaxed);
        (word != 0).then(|| Reading { tick: (word >> 32) as u32, value: f32::from_bits(word as u32) })
    }

    /// As `read`; what is older than so many ticks is none from now on. Successes do not write such an average, so that it would
    /// be fresh again each time the ticks begin again.
    #[inline]
    fn read_within(&self, age: u32, now_us: u64) -> Option<Reading> {
        let reading = self.read()?;
        if since(tick(now_us), reading.tick) <= age {
            return Some(reading);
        }
        self.clear_if(reading);
        None
    }

    /// Clears it, unless another worker has written it since.
    #[cold]
    fn clear_if(&self, reading: Reading) {
        let _lost = self.0.compare_exchange(reading.word(), 0, Relaxed, Relaxed);
    }

    fn write(&self, reading: Reading) {
        self.0.store(reading.word(), Relaxed);
    }

    pub(crate) fn clear(&self) {
        self.0.store(0, Relaxed);
    }

    /// Counts a sample of latency, by the time since the last one; it makes at most so many times as much of what is known.
    fn note(&self, sample_us: u64, now_us: u64, rise_most: f32) {
        // Never zero, which would say "none", and in no time nobody answers.
        let sample = (sample_us as f32).clamp(1.0, 1e10);
        let now = tick(now_us);
        let Some(last) = self.read() else { return self.write(Reading { tick: now, value: sample }) };
        let age = since(now, last.tick).max(1);
        let memory = if sample > last.value { MEMORY_RISING } else { MEMORY };
        let keep = kept(age, ticks(memory));
        let value = (last.value * keep + sample * (1.0 - keep)).min(last.value * rise_most);
        self.write(Reading { tick: last.tick.wrapping_add(since(now, last.tick)), value });
    }
}

impl Reading {
    fn word(self) -> u64 {
        u64::from(self.tick) << 32 | u64::from(self.value.to_bits())
    }

    /// The value as of now, had there been samples of zero since.
    #[inline]
    pub(crate) fn faded(self, now_us: u64, memory: Duration) -> f32 {
        self.value * kept(since(tick(now_us), self.tick), ticks(memory))
    }
}

/// What is known of how an endpoint answers.
#[derive(Debug, Default)]
pub(super) struct Estimate {
    latency: Average,
    /// The share of requests that fail, by time.
    failing: Average,
}

impl EndpointCell {
    /// Counts how long the endpoint took to begin an answer. Called by workers, for endpoints that are
    /// [timed](EndpointCell::is_timed).
    pub fn note_latency(&self, us: u64, now_us: u64) {
        self.extra().estimate.latency.note(us, now_us, RISE_MOST);
    }

    /// Counts an answer that was waited for in vain so long: it counts where it is more than was expected.
    pub fn note_patience(&self, us: u64, now_us: u64) {
        let latency = &self.extra().estimate.latency;
        if latency.read().is_none_or(|known| (us as f32) > known.value) {
            // No chance, but the least that it would have needed.
            latency.note(us, now_us, f32::INFINITY);
        }
    }

    /// Counts a request that failed here. `retry_after` is the time for which the endpoint asked to be left alone.
    pub fn note_failing(&self, retry_after: Option<Duration>, now_us: u64) {
        let estimate = &self.extra().estimate;
        let now = tick(now_us);
        if let Some(wait) = retry_after {
            let wait_us = u64::try_from(wait.min(RETRY_AFTER_MAX).as_micros()).unwrap_or(0);
            return estimate.failing.write(Reading { tick: tick(now_us + wait_us), value: 1.0 });
        }
        let failing = estimate.failing.read_within(FAILURE_GONE, now_us);
        if failing.is_some_and(|last| last.tick != now && since(now, last.tick) == 0) {
            return;
        }
        let ages = [estimate.latency.read(), failing];
        let age = ages.into_iter().flatten().map(|last| since(now, last.tick)).min().unwrap_or(u32::MAX);
        let keep = kept(age.max(1), ticks(FAILURE_MEMORY));
        let share = failing.map_or(0.0, |last| last.faded(now_us, FAILURE_MEMORY));
        estimate.failing.write(Reading { tick: now, value: share * keep + 1.0 - keep });
    }

    #[inline]
    fn estimate(&self) -> Option<&Estimate> {
        self.extra_seen().map(|extra| &extra.estimate)
    }

    /// How long it is taken to need for an answer, in microseconds, and what failures add to that. The first is none while
    /// nothing is known.
    #[inline]
    pub(crate) fn expected_us(&self, now_us: u64) -> (Option<f32>, f32) {
        let Some(estimate) = self.estimate() else { return (None, 0.0) };
        let latency = estimate.latency.read().map(|known| known.faded(now_us, MEMORY));
        let failing = estimate.failing.read_within(FAILURE_GONE, now_us);
        let penalty =
            failing.map_or(0.0, |share| share.faded(now_us, FAILURE_MEMORY) * PENALTY.as_micros() as f32);
        (latency, penalty)
    }

    /// What is known of its latency, as it was when it was last counted.
    pub(crate) fn latency(&self) -> Option<(f32, u32)> {
        self.estimate()?.latency.read().map(|known| (known.value, known.tick))
    }

    /// How long it takes to begin an answer, in microseconds, as it was when it was last counted; none while nothing is known.
    pub fn latency_us(&self) -> Option<u64> {
        self.estimate()?.latency.read().map(|known| known.value as u64)
    }

    /// Begins with this latency where none is known.
    pub(crate) fn seed(&self, (value, tick): (f32, u32)) {
        let latency = &self.extra().estimate.latency;
        if latency.read().is_none() {
            latency.write(Reading { tick, value });
        }
    }

    /// Knows nothing any more: it comes back from an ejection, or is not timed from now on.
    pub(super) fn forget_estimate(&self) {
        if let Some(estimate) = self.estimate() {
            estimate.latency.clear();
            estimate.failing.clear();
        }
    }
}

#[cfg(test)]
mod tests;
