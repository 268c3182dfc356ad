//! The retry budget of a cluster: how many requests may be sent again, of those that came in the last seconds.
//!
//! Counts of a sliding window in ten buckets, shared by all workers. A bucket is one word, so that a count never lands in a
//! bucket that has moved on. Who asks is counted first and then looks: of several that ask at once some may be turned away that
//! could have been let in, and never more are let in than may be.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ekiden_config::model::RetryBudget;

const BUCKETS: usize = 10;
/// Bits of a word that count; the others say to which time the bucket belongs.
const COUNT_BITS: u32 = 32;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;

/// Events of the last ten ticks.
#[derive(Debug, Default)]
struct Window {
    buckets: [AtomicU64; BUCKETS],
}

fn tick_of(word: u64) -> u64 {
    word >> COUNT_BITS
}

impl Window {
    /// Counts one event.
    fn add(&self, tick: u64) {
        let Some(bucket) = self.buckets.get(tick as usize % BUCKETS) else { return };
        let one_more = |word: u64| {
            let count = if tick_of(word) == tick { word & COUNT_MAX } else { 0 };
            Some(tick << COUNT_BITS | (count + 1).min(COUNT_MAX))
        };
        let _always = bucket.fetch_update(Relaxed, Relaxed, one_more);
    }

    /// Takes one event back, unless its bucket has moved on.
    fn take_back(&self, tick: u64) {
        let Some(bucket) = self.buckets.get(tick as usize % BUCKETS) else { return };
        let one_less = |word: u64| (tick_of(word) == tick && word & COUNT_MAX > 0).then(|| word - 1);
        let _gone_with_its_bucket = bucket.fetch_update(Relaxed, Relaxed, one_less);
    }

    fn sum(&self, tick: u64) -> u64 {
        let live = |word: &u64| tick.wrapping_sub(tick_of(*word)) & COUNT_MAX < BUCKETS as u64;
        self.buckets.iter().map(|bucket| bucket.load(Relaxed)).filter(live).map(|word| word & COUNT_MAX).sum()
    }
}

/// The counts of a cluster, which outlive tables.
#[derive(Debug, Default)]
pub struct BudgetCell {
    requests: Window,
    retries: Window,
}

fn tick(policy: RetryBudget, now_ms: u64) -> u64 {
    let bucket_ms = u64::try_from(policy.window.as_millis() / BUCKETS as u128).unwrap_or(u64::MAX);
    // Begins at one: a bucket that nothing was counted in belongs to tick nought.
    (now_ms / bucket_ms.max(1) + BUCKETS as u64) & COUNT_MAX
}

impl BudgetCell {
    /// Counts a request, once for each.
    pub fn note_request(&self, policy: RetryBudget, now_ms: u64) {
        self.requests.add(tick(policy, now_ms));
    }

    /// Takes a retry from the budget; false when it is out.
    pub fn take(&self, policy: RetryBudget, now_ms: u64) -> bool {
        let tick = tick(policy, now_ms);
        self.retries.add(tick);
        let within = self.retries.sum(tick) <= self.most(policy, tick);
        if !within {
            self.retries.take_back(tick);
        }
        within
    }

    /// How many more retries there are now.
    pub fn left(&self, policy: RetryBudget, now_ms: u64) -> u64 {
        let tick = tick(policy, now_ms);
        self.most(policy, tick).saturating_sub(self.retries.sum(tick))
    }

    fn most(&self, policy: RetryBudget, tick: u64) -> u64 {
        let share = self.requests.sum(tick) * u64::from(policy.percent) / 100;
        let window_ms = u64::try_from(policy.window.as_millis()).unwrap_or(u64::MAX);
        share.saturating_add(u64::from(policy.floor).saturating_mul(window_ms) / 1_000)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Arc;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn policy(percent: u8, floor: u32) -> RetryBudget {
        RetryBudget { percent, floor, window: Duration::from_secs(10) }
    }

    #[test]
    fn a_fifth_of_the_requests_and_the_floor() {
        let (cell, policy) = (BudgetCell::default(), policy(20, 1));
        (0..100).for_each(|_| cell.note_request(policy, 500));
        let let_in = (0..100).filter(|_| cell.take(policy, 600)).count();
        assert_eq!((let_in, cell.left(policy, 600)), (30, 0));
        assert!(!cell.take(policy, 9_900), "they still count");
        assert_eq!((0..100).filter(|_| cell.take(policy, 10_000)).count(), 10, "the floor is left");
    }

    #[test]
    fn an_empty_cell_has_the_floor_at_any_time() {
        for now_ms in [0, 1, 999, 1_000, 123_456_789, u64::MAX] {
            assert_eq!(BudgetCell::default().left(policy(20, 3), now_ms), 30, "{now_ms}");
        }
        assert!(!BudgetCell::default().take(policy(100, 0), 5));
    }

    proptest! {
        /// Never more are let in than a naive list of events allows, and with one worker never fewer.
        #[test]
        fn the_budget_is_that_of_a_list(
            percent in 1u8..=100, floor in 0u32..4,
            steps in proptest::collection::vec((0u64..1_500, any::<bool>()), 1..300),
        ) {
            let (cell, policy) = (BudgetCell::default(), policy(percent, floor));
            let (mut now, mut requests, mut retries) = (0, VecDeque::new(), VecDeque::new());
            for (pause, is_request) in steps {
                now += pause;
                let tick = now / 1_000;
                for list in [&mut requests, &mut retries] {
                    while list.front().is_some_and(|first: &u64| first + 10 <= tick) {
                        list.pop_front();
                    }
                }
                if is_request {
                    cell.note_request(policy, now);
                    requests.push_back(tick);
                    continue;
                }
                let most = requests.len() * usize::from(percent) / 100 + floor as usize * 10;
                let may = retries.len() < most;
                prop_assert_eq!(cell.left(policy, now), most.saturating_sub(retries.len()) as u64);
                prop_assert_eq!(cell.take(policy, now), may);
                if may {
                    retries.push_back(tick);
                }
            }
        }
    }

    #[test]
    fn many_threads_never_take_more() {
        let (cell, policy) = (Arc::new(BudgetCell::default()), policy(50, 1));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let cell = Arc::clone(&cell);
                std::thread::spawn(move || {
                    (0..500).for_each(|_| cell.note_request(policy, 0));
                    (0..500).filter(|_| cell.take(policy, 0)).count()
                })
            })
            .collect();
        let let_in: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert!(let_in <= 1_010, "{let_in}");
        while cell.take(policy, 0) {}
        assert_eq!(cell.left(policy, 0), 0);
    }
}
