//! Who is taken: the sooner of two, by weights where nothing tells them apart; failures and waits are dear for a while.

use std::sync::atomic::AtomicU32;
use std::time::Duration;

use ekiden_config::model::Balance;
use proptest::prelude::*;

use super::super::ready::ReadySet;
use super::super::{Attempt, Pick};
use super::{ALIKE, GROUND_US};
use crate::cluster::EndpointEntry;
use crate::cluster::fixture::{entries, random};
use crate::health::Health;

const S: u64 = 1_000_000;

/// Endpoints with these weights and latencies, the latter as of one second.
fn timed(of: &[(u16, u64)]) -> (std::sync::Arc<[EndpointEntry]>, ReadySet) {
    let weights: Vec<u16> = of.iter().map(|one| one.0).collect();
    let endpoints = entries(&weights);
    for (entry, (_, us)) in endpoints.iter().zip(of).filter(|(_, (_, us))| *us > 0) {
        entry.cell.note_latency(*us, S);
    }
    let ready = ReadySet::new(&endpoints, Balance::PeakEwma, 50);
    (endpoints, ready)
}

fn shares(ready: &ReadySet, endpoints: &[EndpointEntry], now_us: u64, picks: u32) -> Vec<u32> {
    let (cursor, mut bits, mut got) = (AtomicU32::new(0), random(5), vec![0; endpoints.len()]);
    for _ in 0..picks {
        let attempt = Attempt::after(&[]).at(now_us);
        let Pick::Endpoint(at) = ready.pick(endpoints, attempt, &cursor, &mut bits) else { panic!("nobody") };
        got[at as usize] += 1;
    }
    got
}

#[test]
fn of_two_the_sooner_is_taken() {
    let (endpoints, ready) = timed(&[(1, 10_000), (1, 40_000)]);
    assert_eq!(shares(&ready, &endpoints, S, 100), [100, 0]);
    (0..2).for_each(|_| endpoints[0].cell.enter());
    let got = shares(&ready, &endpoints, S, 100);
    assert!(got[0] > 30 && got[1] > 30, "three times 10 ms and 40 ms are alike: {got:?}");
    (0..2).for_each(|_| endpoints[0].cell.enter());
    assert_eq!(shares(&ready, &endpoints, S, 100), [0, 100]);
}

#[test]
fn equal_latencies_leave_the_weights() {
    let (endpoints, ready) = timed(&[(6, 7_000), (3, 7_000), (1, 7_000)]);
    let got = shares(&ready, &endpoints, S, 30_000);
    for (got, want) in got.iter().zip([18_000u32, 9_000, 3_000]) {
        assert!(got.abs_diff(want) < 500, "{got} for {want}");
    }
}

/// Estimates of the same latency are never quite the same: that must not decide.
#[test]
fn latencies_that_are_alike_leave_the_weights() {
    for (heavy, light) in [(7_000, 6_000), (6_000, 7_000), (200, 400), (400, 200), (70_000, 60_000)] {
        let (endpoints, ready) = timed(&[(9, heavy), (1, light)]);
        let got = shares(&ready, &endpoints, S, 30_000);
        assert!(got[1].abs_diff(3_000) < 500, "{heavy} {light}: {got:?}");
    }
}

/// A cold endpoint needs 2 s for its first answer and then as long as the others: it has its share again in some seconds.
#[test]
fn one_slow_answer_is_not_held_against_an_endpoint_for_long() {
    let (endpoints, ready) = timed(&[(1, 10_000), (1, 10_000), (1, 10_000)]);
    endpoints[0].cell.note_latency(2_000_000, 2 * S);
    assert_eq!(endpoints[0].cell.latency_us(), Some(20_000), "twice as much at most");
    for second in 3..6 {
        endpoints[1..].iter().for_each(|entry| entry.cell.note_latency(10_000, second * S));
    }
    assert!(shares(&ready, &endpoints, 5 * S, 3_000)[0] > 900);
}

/// Nothing is measured where there is nothing to choose.
#[test]
fn one_endpoint_alone_is_not_timed() {
    let is_timed = |count: usize| -> Vec<bool> {
        let table = crate::cluster::fixture::table(&vec![1; count], Balance::PeakEwma);
        table.endpoints.iter().map(|entry| entry.cell.is_timed()).collect()
    };
    assert_eq!((is_timed(1), is_timed(2)), (vec![false], vec![true, true]));
}

#[test]
fn requests_count_by_weight() {
    let (endpoints, ready) = timed(&[(10, 7_000), (1, 7_000)]);
    (0..5).for_each(|_| endpoints[0].cell.enter());
    endpoints[1].cell.enter();
    let light = shares(&ready, &endpoints, S, 20_000)[1];
    // Five of ten are less than one of one: the light one is left with the pairs that hold it alone, 1 in 121.
    assert!(light < 400, "{light}");
}

#[test]
fn while_nothing_is_known_requests_in_flight_decide() {
    let (endpoints, ready) = timed(&[(1, 0), (1, 0)]);
    endpoints[0].cell.enter();
    assert_eq!(shares(&ready, &endpoints, S, 100), [0, 100]);
}

#[test]
fn a_new_endpoint_begins_with_the_median_of_the_others() {
    for (known, median) in
        [(vec![3_000], 3_000), (vec![2_000, 5_000], 2_000), (vec![9_000, 1_000, 4_000], 4_000)]
    {
        let mut of: Vec<(u16, u64)> = known.iter().map(|us| (1, *us)).collect();
        of.extend([(1, 0), (1, 0)]);
        let (endpoints, _) = timed(&of);
        for entry in endpoints.iter().skip(known.len()) {
            assert_eq!(entry.cell.latency_us(), Some(median), "{known:?}");
        }
        let found: Vec<_> =
            endpoints.iter().filter_map(|entry| entry.cell.latency_us()).take(known.len()).collect();
        assert_eq!(found, known, "those that are known stay");
    }
    let (endpoints, _) = timed(&[(1, 0), (1, 0)]);
    assert!(endpoints.iter().all(|entry| entry.cell.latency_us().is_none()));
}

#[test]
fn other_pickers_seed_nothing() {
    let (endpoints, _) = timed(&[(1, 0), (1, 0)]);
    endpoints[0].cell.note_latency(5_000, S);
    ReadySet::new(&endpoints, Balance::P2c, 50);
    assert_eq!(endpoints[1].cell.latency_us(), None);
}

#[test]
fn fast_failures_draw_nothing_and_are_over_in_seconds() {
    let (endpoints, ready) = timed(&[(1, 1_000), (1, 50_000), (1, 50_000)]);
    for turn in 0..20 {
        endpoints[0].cell.note_failing(None, S + turn * 5_000);
    }
    assert_eq!(shares(&ready, &endpoints, S + 100_000, 1_000)[0], 0);
    assert!(shares(&ready, &endpoints, 8 * S, 1_000)[0] > 600, "the fastest takes every pair that holds it");
}

#[test]
fn an_endpoint_that_asks_to_be_left_alone_is() {
    let (endpoints, ready) = timed(&[(1, 1_000), (1, 50_000)]);
    endpoints[0].cell.note_failing(Some(Duration::from_secs(5)), S);
    assert_eq!(shares(&ready, &endpoints, 6 * S - 1, 100)[0], 0);
    assert_eq!(shares(&ready, &endpoints, 20 * S, 100)[0], 100);
    endpoints[1].cell.note_failing(Some(Duration::from_secs(60)), 20 * S);
    endpoints[0].cell.note_failing(Some(Duration::from_secs(60)), 20 * S);
    assert_eq!(
        shares(&ready, &endpoints, 21 * S, 100).iter().sum::<u32>(),
        100,
        "both: one of them all the same"
    );
}

#[test]
fn a_slow_endpoint_is_tried_again_when_what_is_known_of_it_is_old() {
    let (endpoints, ready) = timed(&[(1, 10_000), (1, 60_000)]);
    endpoints[0].cell.note_latency(10_000, 20 * S);
    assert_eq!(shares(&ready, &endpoints, 20 * S, 100)[1], 100);
}

/// Closed loop over endpoints of which one is four times as slow: it gets a fraction of what the others get.
#[test]
fn a_slow_endpoint_gets_less() {
    let (endpoints, ready) = timed(&[(1, 0); 4]);
    let (cursor, mut bits, mut counts) = (AtomicU32::new(0), random(3), [0u32; 4]);
    let mut ends: Vec<(u64, usize, u64)> = Vec::new();
    let mut now = S;
    for _ in 0..20_000 {
        now += 1_000;
        ends.retain(|(end, at, took)| {
            let is_over = *end <= now;
            if is_over {
                endpoints[*at].cell.leave();
                endpoints[*at].cell.note_latency(*took, *end);
            }
            !is_over
        });
        let Pick::Endpoint(at) = ready.pick(&endpoints, Attempt::after(&[]).at(now), &cursor, &mut bits)
        else {
            panic!("nobody")
        };
        let at = at as usize;
        endpoints[at].cell.enter();
        counts[at] += 1;
        let took = if at == 2 { 40_000 } else { 10_000 };
        ends.push((now + took, at, took));
    }
    let others = (counts[0] + counts[1] + counts[3]) / 3;
    assert!(counts[2] * 2 < others && counts[2] > 0, "{counts:?}");
}

proptest! {
    /// Of two that may be picked, never the one of which is known that it is clearly later; one that may not be picked, never.
    #[test]
    fn never_the_later_and_never_one_that_is_not_ready(
        latencies in prop::array::uniform2(1u64..1_000_000),
        loads in prop::array::uniform2(0u32..20),
        is_gone in prop::option::of(0usize..2),
        seed: u64,
    ) {
        let (endpoints, ready) = timed(&[(1, latencies[0]), (1, latencies[1])]);
        for (entry, load) in endpoints.iter().zip(loads) {
            (0..load).for_each(|_| entry.cell.enter());
        }
        if let Some(at) = is_gone {
            endpoints[at].cell.set_health(Health::Failing, "test", 1);
        }
        let picked = ready.pick(&endpoints, Attempt::after(&[]).at(S), &AtomicU32::new(0), &mut random(seed));
        let Pick::Endpoint(at) = picked else { return Err(TestCaseError::fail("nobody")) };
        let at = at as usize;
        let cost = |at: usize| (latencies[at] as f32 + GROUND_US) * (loads[at] + 1) as f32;
        match is_gone {
            Some(gone) => prop_assert!(at != gone),
            None => prop_assert!(cost(at) <= cost(1 - at) * ALIKE * 1.000_1),
        }
    }
}

/// What is picked by fixed random bits stays what it is from version to version.
#[test]
fn golden_picks() {
    let (endpoints, ready) = timed(&[(1, 9_000), (2, 3_000), (1, 5_000), (3, 7_000), (1, 0), (1, 4_000)]);
    let (cursor, mut bits) = (AtomicU32::new(0), random(2026));
    let picks: Vec<u32> = (0..24)
        .map(|turn| {
            let picked =
                ready.pick(&endpoints, Attempt::after(&[]).at(S + turn * 50_000), &cursor, &mut bits);
            let Pick::Endpoint(at) = picked else { panic!("nobody") };
            endpoints[at as usize].cell.enter();
            at
        })
        .collect();
    assert_eq!(picks, [5, 3, 4, 5, 1, 3, 1, 3, 1, 1, 3, 4, 2, 1, 5, 2, 2, 4, 3, 5, 3, 1, 1, 5]);
}
