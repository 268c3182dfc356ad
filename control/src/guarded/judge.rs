//! Judges a change of an app by what the app answered before and after it. Pure.
//!
//! Errors: a test of two proportions (the pooled z of NIST/SEMATECH e-Handbook 7.3.3.1), one-sided, with z of 4 instead of the usual
//! 2.3, because the question is asked again every half second and must not be answered by chance; and at least twice the rate of
//! before, and one point of a hundred more. Slow answers: the same test over the share of answers that took longer than a limit,
//! which is twice the p99 of before and never less than 100 ms; and that share is above 1 %, so that the p99 itself is above it.
//! Below so many answers on either side nothing is judged.

use ekiden_config::doors::AppTraffic;

/// Answers that a rate of errors is judged by, at least, on either side.
const ANSWERS_MIN: u64 = 50;
/// Answers that a p99 is judged by, at least, on either side: two of them are above it.
const P99_ANSWERS_MIN: u64 = 200;
/// Answers that must speak against a change, at least: the normal distribution stands for no fewer.
const AGAINST_MIN: u64 = 5;
/// How many standard deviations apart.
const Z: f64 = 4.0;
/// How many times the rate of errors of before.
const RATIO: f64 = 2.0;
/// How much more at least, as a share of all answers.
const MORE: f64 = 0.01;
/// A p99 up to this is no reason, in microseconds.
const SLOW_US: u64 = 100_000;

/// What comes of a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// The change makes things worse; in words.
    Bad(String),
    /// It does not; in words.
    Good(String),
    /// There is too little to go by; in words.
    TooFew(String),
}

/// Judges what ended since a change by what ended before it.
pub(crate) fn judge(before: &AppTraffic, after: &AppTraffic) -> Judgement {
    let (had, has) = (before.requests, after.requests);
    if had < ANSWERS_MIN || has < ANSWERS_MIN {
        return Judgement::TooFew(format!(
            "{had} requests ended before the change and {has} after it; it takes {ANSWERS_MIN} of each"
        ));
    }
    let words = |rate: f64| format!("{:.1} %", rate * 100.0);
    let (was, is) = (rate(before.errors, had), rate(after.errors, has));
    let errors = format!("errors: {} before, {} of {has} requests after", words(was), words(is));
    let worse = is >= was * RATIO && is - was >= MORE && after.errors >= AGAINST_MIN;
    if worse && apart((before.errors, had), (after.errors, has)) {
        return Judgement::Bad(errors);
    }
    match slow(before, after) {
        Some(why) => Judgement::Bad(why),
        None => Judgement::Good(errors),
    }
}

fn rate(part: u64, all: u64) -> f64 {
    part as f64 / all.max(1) as f64
}

/// Whether the second share is larger, and not by chance.
fn apart(first: (u64, u64), second: (u64, u64)) -> bool {
    let ((a, n), (b, m)) = (first, second);
    let pooled = rate(a + b, n + m);
    let deviation = (pooled * (1.0 - pooled) * (1.0 / n as f64 + 1.0 / m as f64)).sqrt();
    deviation > 0.0 && (rate(b, m) - rate(a, n)) / deviation >= Z
}

/// Why answers are slower now, if they are.
fn slow(before: &AppTraffic, after: &AppTraffic) -> Option<String> {
    let count = |traffic: &AppTraffic| traffic.buckets.iter().sum::<u64>();
    let (had, has) = (count(before), count(after));
    if had < P99_ANSWERS_MIN || has < P99_ANSWERS_MIN {
        return None;
    }
    let p99 = p99_us(before)?;
    let limit = (p99 * 2).max(SLOW_US);
    let at = before.bounds_us.iter().position(|bound| *bound >= limit)?;
    let limit = before.bounds_us.get(at)?;
    let above = |traffic: &AppTraffic| traffic.buckets.iter().skip(at + 1).sum::<u64>();
    let (were, are) = (above(before), above(after));
    let is_slow = rate(are, has) > 0.01 && are >= AGAINST_MIN && apart((were, had), (are, has));
    is_slow.then(|| {
        let ms = |us: u64| us as f64 / 1_000.0;
        format!(
            "p99: at most {} ms before; {:.1} % of {has} requests took more than {} ms after",
            ms(p99),
            rate(are, has) * 100.0,
            ms(*limit)
        )
    })
}

/// The upper bound of the bucket that holds the 99th percentile; none when it is above all bounds.
fn p99_us(traffic: &AppTraffic) -> Option<u64> {
    let all: u64 = traffic.buckets.iter().sum();
    let mut seen = 0;
    for (count, bound) in traffic.buckets.iter().zip(&traffic.bounds_us) {
        seen += count;
        if seen as f64 >= all as f64 * 0.99 {
            return Some(*bound);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// So many requests with so many errors, of which so many took 10 ms, 100 ms, 1 s and longer.
    fn traffic(errors: u64, buckets: [u64; 4]) -> AppTraffic {
        let requests = buckets.iter().sum();
        AppTraffic {
            requests,
            errors,
            buckets: buckets.to_vec(),
            bounds_us: vec![10_000, 100_000, 1_000_000],
        }
    }

    fn fast(errors: u64, requests: u64) -> AppTraffic {
        traffic(errors, [requests, 0, 0, 0])
    }

    #[test]
    fn a_change_is_bad_when_errors_rise_clearly_and_never_by_a_few_requests() {
        // Errors and requests before, and after.
        let rows = [
            ((0, 1_000), (100, 100), "bad"),
            ((0, 1_000), (5, 50), "bad"),
            ((0, 1_000), (4, 50), "good"),
            ((10, 1_000), (12, 1_000), "good"),
            ((10, 1_000), (19, 1_000), "good"),
            ((10, 1_000), (60, 1_000), "bad"),
            ((500, 1_000), (600, 1_000), "good"),
            ((1_000, 1_000), (1_000, 1_000), "good"),
            ((100, 1_000), (0, 1_000), "good"),
            ((0, 100_000), (500, 100_000), "good"),
            ((0, 1_000), (49, 49), "few"),
            ((0, 49), (1_000, 1_000), "few"),
            ((0, 0), (0, 0), "few"),
        ];
        for ((errors, had), (more, has), want) in rows {
            let judged = match judge(&fast(errors, had), &fast(more, has)) {
                Judgement::Bad(_) => "bad",
                Judgement::Good(_) => "good",
                Judgement::TooFew(_) => "few",
            };
            assert_eq!(judged, want, "{errors} of {had}, then {more} of {has}");
        }
    }

    #[test]
    fn a_change_is_bad_when_the_p99_rises_clearly() {
        let rows = [
            ([990, 10, 0, 0], [500, 0, 500, 0], true),
            ([990, 10, 0, 0], [980, 0, 20, 0], true),
            ([990, 10, 0, 0], [500, 500, 0, 0], false),
            ([990, 10, 0, 0], [991, 0, 9, 0], false),
            ([100, 0, 0, 0], [0, 0, 500, 0], false),
            ([500, 0, 0, 500], [0, 0, 0, 500], false),
            ([500, 0, 500, 0], [0, 0, 500, 0], false),
        ];
        for (was, is, bad) in rows {
            let judged = judge(&traffic(0, was), &traffic(0, is));
            assert_eq!(matches!(judged, Judgement::Bad(_)), bad, "{was:?} then {is:?}: {judged:?}");
        }
    }

    proptest! {
        /// An app that goes on as before is never rolled back for its errors.
        #[test]
        fn the_same_is_never_bad(errors in 0_u64..500, requests in 500_u64..5_000, times in 1_u64..4) {
            let judged = judge(&fast(errors, requests), &fast(errors * times / times, requests));
            prop_assert!(matches!(judged, Judgement::Good(_)));
        }

        /// The more errors, the worse: what is bad with some is bad with more.
        #[test]
        fn more_errors_are_never_better(had in 50_u64..5_000, errors in 0_u64..50, has in 50_u64..5_000, more in 0_u64..50) {
            let bad = |errors_after| matches!(judge(&fast(errors, had), &fast(errors_after, has)), Judgement::Bad(_));
            if bad(more.min(has)) {
                prop_assert!(bad((more + 1).min(has)));
            }
        }
    }
}
