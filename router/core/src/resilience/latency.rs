//! The latency of a route as a hedge needs it: one percentile, from a histogram of bounded size that all workers share.
//!
//! Eight buckets for each power of two of microseconds, so that the percentile is at most an eighth too high. Counts are halved as
//! they grow: the last thousand or so samples decide. Counts that are lost between two threads move an estimate by nothing
//! that matters.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Buckets for each power of two.
const PER_OCTAVE: u32 = 8;
/// The last bucket takes what is longer, two minutes and more.
const BUCKETS: usize = 200;
/// Samples from which on there is a percentile.
const SAMPLES_MIN: u32 = 64;
/// Samples at which counts are halved.
const SAMPLES_MAX: u32 = 2048;
/// Samples between two looks at the whole.
const LOOK_EVERY: u32 = 32;

/// See the module.
#[derive(Debug)]
pub struct Latency {
    buckets: [AtomicU32; BUCKETS],
    samples: AtomicU32,
    /// The percentile as of the last look, in microseconds; 0 means too few samples.
    percentile_us: AtomicU32,
}

impl Default for Latency {
    fn default() -> Self {
        Self {
            buckets: [const { AtomicU32::new(0) }; BUCKETS],
            samples: AtomicU32::new(0),
            percentile_us: AtomicU32::new(0),
        }
    }
}

fn bucket(us: u64) -> usize {
    let us = us.clamp(1, u64::from(u32::MAX)) as u32;
    let octave = us.ilog2();
    if octave < 3 {
        return us as usize;
    }
    let within = (us >> (octave - 3)) & (PER_OCTAVE - 1);
    ((octave - 2) * PER_OCTAVE + within) as usize
}

/// The longest time of a bucket.
fn longest(bucket: usize) -> u32 {
    let bucket = u32::try_from(bucket).unwrap_or(u32::MAX);
    if bucket < PER_OCTAVE {
        return bucket;
    }
    let (octave, within) = (bucket / PER_OCTAVE + 2, bucket % PER_OCTAVE);
    let end = u64::from(PER_OCTAVE + within + 1) << (octave - 3);
    u32::try_from(end - 1).unwrap_or(u32::MAX)
}

impl Latency {
    /// Counts one sample. The percentile is looked up now and then.
    pub fn record(&self, us: u64, percentile: u8) {
        if let Some(count) = self.buckets.get(bucket(us).min(BUCKETS - 1)) {
            count.fetch_add(1, Relaxed);
        }
        let samples = self.samples.fetch_add(1, Relaxed) + 1;
        if samples >= SAMPLES_MIN && samples.is_multiple_of(LOOK_EVERY) {
            self.percentile_us.store(self.look(percentile), Relaxed);
        }
        if samples == SAMPLES_MAX {
            self.samples.store(SAMPLES_MAX / 2, Relaxed);
            for count in &self.buckets {
                count.fetch_sub(count.load(Relaxed).div_ceil(2), Relaxed);
            }
        }
    }

    /// The percentile of the last samples, in microseconds; none while there are too few.
    pub fn percentile_us(&self) -> Option<u32> {
        Some(self.percentile_us.load(Relaxed)).filter(|us| *us > 0)
    }

    fn look(&self, percentile: u8) -> u32 {
        let counts = || self.buckets.iter().map(|count| u64::from(count.load(Relaxed)));
        let below = (counts().sum::<u64>() * u64::from(percentile)).div_ceil(100);
        let mut sum = 0;
        let at = counts().position(|count| {
            sum += count;
            sum >= below
        });
        at.map_or(0, longest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_time_has_a_bucket_whose_end_is_near() {
        let mut before = 0;
        for us in
            (1..5_000u64).chain((13..32).flat_map(|bits| [(1 << bits) - 1, 1 << bits, (1 << bits) + 12_345]))
        {
            let at = bucket(us);
            let end = u64::from(longest(at));
            assert!(end >= us && end <= us + us / 8, "{us} in {at}, which ends at {end}");
            assert!(at >= before || us >= 5_000, "{us}");
            before = at;
        }
        assert!(bucket(120_000_000) < BUCKETS - 1, "two minutes have a bucket of their own");
    }

    #[test]
    fn there_is_none_before_there_are_samples() {
        let latency = Latency::default();
        (0..SAMPLES_MIN - 1).for_each(|_| latency.record(1_000, 95));
        assert_eq!(latency.percentile_us(), None);
        latency.record(1_000, 95);
        assert!(latency.percentile_us().is_some_and(|us| (1_000..=1_125).contains(&us)));
    }

    #[test]
    fn what_is_long_ago_is_forgotten() {
        let latency = Latency::default();
        (0..100_000).for_each(|_| latency.record(1_000, 95));
        assert!(latency.percentile_us().is_some_and(|us| us <= 1_125));
        (0..SAMPLES_MAX).for_each(|_| latency.record(80_000, 95));
        assert!(latency.percentile_us().is_some_and(|us| us >= 80_000));
        (0..8 * SAMPLES_MAX).for_each(|_| latency.record(1_000, 95));
        assert!(latency.percentile_us().is_some_and(|us| us <= 1_125));
    }

    proptest! {
        /// At most an eighth above the percentile of the sorted list, never below it.
        #[test]
        fn the_percentile_is_that_of_a_list(
            mut times in proptest::collection::vec(1u64..10_000_000, 64..1000), percentile in 50u8..=99,
        ) {
            times.truncate(times.len() / LOOK_EVERY as usize * LOOK_EVERY as usize);
            let latency = Latency::default();
            times.iter().for_each(|us| latency.record(*us, percentile));
            times.sort_unstable();
            let at = (times.len() * usize::from(percentile)).div_ceil(100) - 1;
            let found = u64::from(latency.percentile_us().unwrap());
            prop_assert!(found >= times[at] && found <= times[at] + times[at] / 8, "{found} for {}", times[at]);
        }
    }
}
