//! The wait before a request is sent again: full jitter under a bound that doubles, and what an endpoint asks for.

use std::time::Duration;

use ekiden_config::model::RetryPolicy;

/// How long to wait before retry number `nth`, counted from 1. `asked` is what the endpoint that is to be tried again wants,
/// `left` the time there is. `None` when the wait would take all of it.
pub fn wait(
    policy: &RetryPolicy,
    nth: u8,
    asked: Option<Duration>,
    left: Duration,
    random: u64,
) -> Option<Duration> {
    let doublings = u32::from(nth.saturating_sub(1)).min(16);
    let most = policy.backoff.saturating_mul(1 << doublings).min(policy.backoff_max);
    let most_us = u64::try_from(most.as_micros()).unwrap_or(u64::MAX - 1);
    let drawn = Duration::from_micros(random % (most_us + 1));
    let wait = asked.unwrap_or_default().saturating_add(drawn);
    (wait < left).then_some(wait)
}

#[cfg(test)]
mod tests {
    use ekiden_config::model::Replay;
    use proptest::prelude::*;

    use super::*;

    fn policy(backoff_ms: u64, max_ms: u64) -> RetryPolicy {
        RetryPolicy {
            connect: true,
            reset: true,
            statuses: Vec::new(),
            attempts: 3,
            per_try: None,
            backoff: Duration::from_millis(backoff_ms),
            backoff_max: Duration::from_millis(max_ms),
            buffer: 0,
            replay: Replay::Idempotent,
        }
    }

    proptest! {
        #[test]
        fn a_wait_is_within_its_bounds(
            base in 0u64..5_000, most in 0u64..20_000, nth in any::<u8>(), random: u64,
            asked in proptest::option::of(0u64..10_000), left in 0u64..20_000,
        ) {
            let asked = asked.map(Duration::from_millis);
            let left = Duration::from_millis(left);
            if let Some(wait) = wait(&policy(base, most), nth, asked, left, random) {
                prop_assert!(wait < left, "it leaves time for the try");
                prop_assert!(wait >= asked.unwrap_or_default());
                let drawn = wait - asked.unwrap_or_default();
                prop_assert!(drawn <= Duration::from_millis(most));
                prop_assert!(nth != 1 || drawn <= Duration::from_millis(base));
            } else {
                prop_assert!(asked.unwrap_or_default() + Duration::from_millis(most) >= left);
            }
        }
    }

    #[test]
    fn the_bound_doubles_and_the_draw_is_even() {
        let policy = policy(100, 350);
        let longest = |nth| (0..=400_000).map(|random| wait(&policy, nth, None, Duration::MAX, random)).max();
        for (nth, ms) in [(1, 100), (2, 200), (3, 350), (4, 350), (255, 350)] {
            assert_eq!(longest(nth), Some(Some(Duration::from_millis(ms))), "{nth}");
        }
        let below_half = (0..=100_000).filter(|random| {
            wait(&policy, 1, None, Duration::MAX, *random)
                .is_some_and(|wait| wait < Duration::from_millis(50))
        });
        assert_eq!(below_half.count(), 50_000);
    }

    #[test]
    fn without_backoff_only_what_is_asked_for_is_waited() {
        let policy = policy(0, 0);
        assert_eq!(wait(&policy, 7, None, Duration::from_millis(1), 99), Some(Duration::ZERO));
        let asked = Some(Duration::from_secs(1));
        assert_eq!(wait(&policy, 1, asked, Duration::from_secs(2), 99), asked);
        assert_eq!(wait(&policy, 1, asked, Duration::from_secs(1), 99), None);
    }
}
