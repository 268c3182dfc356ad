//! Counts over the last so long, in ten buckets: exact at the edges of buckets, and without decay, so that a burst is
//! seen as what it was (linkerd's breaker gave up a decayed average for that reason).
//!
//! Pure: time is an argument, in milliseconds of a clock that never goes back.

/// Buckets of a window.
const BUCKETS: usize = 10;

/// Requests that went well and that failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) good: u64,
    pub(super) bad: u64,
}

impl Tally {
    pub(super) fn all(self) -> u64 {
        self.good.saturating_add(self.bad)
    }

    /// Adds another one.
    pub(super) fn and(self, other: Self) -> Self {
        Self { good: self.good.saturating_add(other.good), bad: self.bad.saturating_add(other.bad) }
    }

    /// Share of requests that went well; 1 without any.
    pub(super) fn success_rate(self) -> f64 {
        if self.all() == 0 { 1.0 } else { self.good as f64 / self.all() as f64 }
    }
}

/// A window.
#[derive(Debug, Clone, Default)]
pub(super) struct Window {
    buckets: [Tally; BUCKETS],
    /// Number of the newest bucket since the beginning of time.
    newest: u64,
}

impl Window {
    /// Adds counts at a time.
    pub(super) fn add(&mut self, counts: Tally, now_ms: u64, bucket_ms: u64) {
        self.turn(now_ms, bucket_ms);
        if let Some(bucket) = self.buckets.get_mut((self.newest % BUCKETS as u64) as usize) {
            *bucket = bucket.and(counts);
        }
    }

    /// What the window holds at a time: the running bucket and the nine before it.
    pub(super) fn total(&mut self, now_ms: u64, bucket_ms: u64) -> Tally {
        self.turn(now_ms, bucket_ms);
        self.buckets.iter().fold(Tally::default(), |sum, bucket| sum.and(*bucket))
    }

    fn turn(&mut self, now_ms: u64, bucket_ms: u64) {
        let newest = now_ms / bucket_ms.max(1);
        let passed = newest.saturating_sub(self.newest).min(BUCKETS as u64);
        for back in 0..passed {
            if let Some(bucket) = self.buckets.get_mut(((newest - back) % BUCKETS as u64) as usize) {
                *bucket = Tally::default();
            }
        }
        self.newest = self.newest.max(newest);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_older_than_the_window_is_forgotten() {
        let mut window = Window::default();
        window.add(Tally { good: 1, bad: 2 }, 500, 1000);
        window.add(Tally { good: 10, bad: 20 }, 1500, 1000);
        assert_eq!(window.total(9_999, 1000), Tally { good: 11, bad: 22 });
        assert_eq!(window.total(10_000, 1000), Tally { good: 10, bad: 20 });
        assert_eq!(window.total(11_000, 1000), Tally::default());
        assert_eq!(Tally::default().success_rate(), 1.0);
    }

    proptest! {
        /// As a list of all counts says.
        #[test]
        fn agrees_with_a_list(steps in prop::collection::vec((0u64..4000, 0u64..5, 0u64..5), 1..80)) {
            let (mut window, mut list, mut now) = (Window::default(), Vec::new(), 0);
            for (wait, good, bad) in steps {
                now += wait;
                window.add(Tally { good, bad }, now, 1000);
                list.push((now / 1000, Tally { good, bad }));
                let want = list.iter().filter(|(at, _)| now / 1000 - at < 10).fold(Tally::default(), |sum, (_, one)| sum.and(*one));
                prop_assert_eq!(window.total(now, 1000), want);
            }
        }
    }
}
