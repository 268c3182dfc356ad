//! Averages over time: rate plays no part, failures fade, and a wait that was asked for is kept.

use std::time::Duration;

use proptest::prelude::*;

use super::super::tests::cell;
use super::*;
use crate::health::Health;
use crate::readiness::Event;

const S: u64 = 1_000_000;

fn penalty_us(cell: &EndpointCell, now_us: u64) -> f32 {
    cell.expected_us(now_us).1
}

#[test]
fn what_is_left_is_close_to_the_exponential() {
    for (age, memory, expected) in
        [(0, 100.0, 1.0), (10, 100.0, 0.905), (100, 100.0, 0.368), (300, 100.0, 0.05)]
    {
        let found = kept(age, memory);
        assert!((found - expected).abs() < 0.04, "{age}: {found} for {expected}");
    }
    assert!(kept(u32::MAX, 1.0) < 1e-9);
}

/// The same latencies at ten times the rate give the same estimate.
#[test]
fn the_rate_plays_no_part() {
    let at = |per_second: u64| {
        let cell = cell(Health::Ready);
        for turn in 0..18 * per_second {
            // Ten seconds of 10 ms, and then of 4 ms.
            let us = if turn < 10 * per_second { 10_000 } else { 4_000 };
            cell.note_latency(us, S + turn * S / per_second);
        }
        cell.latency_us().unwrap() as f32
    };
    let (slow, fast) = (at(10), at(1000));
    assert!((slow / fast - 1.0).abs() < 0.1, "{slow} {fast}");
    // Two memories have passed: a seventh of the difference is left.
    assert!((4_500.0..5_300.0).contains(&slow), "{slow}");
}

#[test]
fn what_becomes_slow_is_known_sooner_than_what_becomes_fast() {
    let after_2s = |before: u64, then: u64| {
        let cell = cell(Health::Ready);
        cell.note_latency(before, S);
        (1..=200u64).for_each(|turn| cell.note_latency(then, S + turn * S / 100));
        cell.latency_us().unwrap()
    };
    let (slow, fast) = (after_2s(10_000, 100_000), after_2s(100_000, 10_000));
    assert!(slow > 60_000, "{slow}");
    assert!((50_000..75_000).contains(&fast), "{fast}");
}

#[test]
fn one_that_is_not_asked_fades() {
    let cell = cell(Health::Ready);
    cell.note_latency(80_000, S);
    let (now, later) = (cell.expected_us(S).0.unwrap(), cell.expected_us(13 * S).0.unwrap());
    assert!((79_999.0..=80_001.0).contains(&now) && later < 8_000.0, "{now} {later}");
}

#[test]
fn a_failure_weighs_and_is_over_in_seconds() {
    let cell = cell(Health::Ready);
    cell.note_latency(1_000, S);
    for turn in 1..=100 {
        cell.note_failing(None, S + turn * 10_000);
    }
    let now = S + 100 * 10_000;
    assert!(penalty_us(&cell, now) > 2_000_000.0, "{}", penalty_us(&cell, now));
    assert!(penalty_us(&cell, now + S / 5) > 300_000.0);
    // Less than a quarter of what is added to every latency: it decides no more.
    assert!(penalty_us(&cell, now + 1_400_000) < 250.0, "{}", penalty_us(&cell, now + 1_400_000));
    let rare = super::super::tests::cell(Health::Ready);
    for turn in 0..1_000u64 {
        let now = S + turn * 10_000;
        rare.note_latency(1_000, now);
        if turn % 100 == 50 {
            rare.note_failing(None, now + 10_000);
            assert!(
                penalty_us(&rare, now + 10_000) < 100_000.0,
                "one in a hundred weighs as one in a hundred"
            );
        }
    }
    assert!(penalty_us(&rare, 11 * S) < 2_000.0);
}

/// Ticks begin again after 76 hours. Neither half of that circle makes an old word a fresh one.
#[test]
fn what_has_faded_does_not_come_back() {
    const HOUR: u64 = 3_600 * S;
    for hours in [1, 39, 75, 77, 115, 153, 1_000] {
        let at = S + hours * HOUR;
        let cell = cell(Health::Ready);
        cell.note_latency(900_000, S);
        let (latency, _) = cell.expected_us(at);
        assert!(latency.unwrap() < 1.0, "{hours} h: {latency:?}");
        (0..300).for_each(|turn| cell.note_latency(1_000, at + turn * S / 10));
        let learnt = cell.latency_us().unwrap();
        assert!(learnt < 60_000, "{hours} h: {learnt}: it learns anew");
    }
    let cell = cell(Health::Ready);
    cell.note_failing(None, S);
    assert!(penalty_us(&cell, S) > 4_000_000.0);
    // Picks look at it all the time, also as the ticks begin again.
    for seconds in (30..200 * 3_600).step_by(30) {
        let penalty = penalty_us(&cell, S + seconds * S);
        assert!(penalty < 1_000.0, "{seconds} s: {penalty}");
    }
    let cell = super::super::tests::cell(Health::Ready);
    cell.note_failing(None, S);
    cell.note_failing(None, S + 39 * HOUR);
    assert!(penalty_us(&cell, S + 39 * HOUR) > 4_000_000.0, "and a new failure counts");
}

#[test]
fn the_wait_that_an_endpoint_asks_for_is_kept() {
    let cell = cell(Health::Ready);
    cell.note_failing(Some(Duration::from_secs(7)), S);
    for at in [1, 4, 8] {
        assert!(penalty_us(&cell, at * S) > 4_999_000.0, "{at}");
    }
    cell.note_failing(None, 2 * S);
    assert!(penalty_us(&cell, 8 * S) > 4_999_000.0, "another failure does not shorten it");
    assert!(penalty_us(&cell, 30 * S) < 1_000.0);
    cell.note_failing(Some(Duration::MAX), 40 * S);
    assert!(
        penalty_us(&cell, 99 * S) > 4_999_000.0 && penalty_us(&cell, 130 * S) < 1_000.0,
        "a minute at most"
    );
}

#[test]
fn a_wait_in_vain_counts_where_it_is_long() {
    let cell = cell(Health::Ready);
    cell.note_latency(10_000, S);
    cell.note_patience(5_000, 3 * S);
    assert_eq!(cell.latency_us(), Some(10_000));
    cell.note_patience(900_000, 5 * S);
    assert!(cell.latency_us().unwrap() > 400_000);
}

#[test]
fn one_that_comes_back_from_an_ejection_is_new() {
    let cell = cell(Health::Ready);
    cell.note_latency(900_000, S);
    cell.note_failing(None, S);
    cell.on(Event::Eject("test"), 1_000);
    cell.on(Event::Trial(Ok(())), 2_000);
    assert_eq!(cell.expected_us(2 * S), (None, 0.0));
    cell.seed((5_000.0, 0));
    cell.seed((9_000.0, 0));
    assert_eq!(cell.latency_us(), Some(5_000), "the first seed stays");
}

proptest! {
    /// Whatever comes, an estimate lies among its samples and is a number.
    #[test]
    fn an_estimate_lies_among_its_samples(
        samples in prop::collection::vec((0u64..u64::MAX, 0u64..200_000_000), 1..50), start in 0u64..1 << 48,
    ) {
        let cell = cell(Health::Ready);
        let mut now = start;
        for (us, gap) in &samples {
            now += gap;
            cell.note_latency(*us, now);
        }
        let clamped = |us: u64| (us as f32).clamp(1.0, 1e10);
        let least = samples.iter().map(|sample| clamped(sample.0)).fold(f32::MAX, f32::min);
        let most = samples.iter().map(|sample| clamped(sample.0)).fold(0.0, f32::max);
        let (found, _) = cell.latency().unwrap();
        prop_assert!(found >= least * 0.999 && found <= most * 1.001, "{} of {}..{}", found, least, most);
        prop_assert!(cell.expected_us(now).0.unwrap().is_finite());
    }
}
