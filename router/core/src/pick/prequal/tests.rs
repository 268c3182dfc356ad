//! Reports: the one with the least latency is taken, hot ones last, each so many times, none when it is old.

use std::sync::atomic::AtomicU32;

use ekiden_config::model::Balance;
use proptest::prelude::*;

use super::super::ready::{ReadySet, Shared};
use super::super::{Attempt, Pick};
use super::*;
use crate::cluster::EndpointEntry;
use crate::cluster::fixture::{asking, entries, random, table};
use crate::health::Health;

const S: u64 = 1_000_000;

fn load(requests: u32, latency_us: u32) -> Load {
    Load { requests, latency_us }
}

/// Reports of endpoints of which most have requests in hand.
fn busy(endpoints: usize, per_pick: u32) -> Reports {
    let reports = Reports::new(endpoints, per_pick);
    reports.busy.store(1e6f32.to_bits(), Relaxed);
    reports
}

struct Pool {
    endpoints: std::sync::Arc<[EndpointEntry]>,
    ready: ReadySet,
    reports: Reports,
    cursor: AtomicU32,
}

impl Pool {
    fn new(weights: &[u16]) -> Self {
        let endpoints = entries(weights);
        let ready = ReadySet::new(&endpoints, Balance::Prequal, 50);
        Self { endpoints, ready, reports: busy(weights.len(), 0), cursor: AtomicU32::new(0) }
    }

    fn say(&self, index: u32, of: Load, now_us: u64) {
        self.reports.take_in(index, self.endpoints[index as usize].endpoint.weight, of, (now_us, now_us));
    }

    fn pick(&self, tried: &[u32], now_us: u64, bits: &mut dyn FnMut() -> u64) -> Pick {
        let reports = Some(&self.reports);
        let shared = Shared { cursor: &self.cursor, cursors: &[], reports, of_groups: &[], silence: None };
        self.ready.pick(&self.endpoints, Attempt::after(tried).at(now_us), shared, bits)
    }

    fn kept(&self, now_us: u64) -> usize {
        self.reports.slots.iter().filter(|slot| slot.read(ms(now_us)).is_some()).count()
    }
}

/// Random bits for which the pick comes from reports, and of those that are alike from the first.
fn none() -> u64 {
    1 << 63
}

#[test]
fn the_least_latency_among_those_that_are_not_hot() {
    let pool = Pool::new(&[1; 10]);
    // Teaches the threshold what is usual.
    (0..2_000).for_each(|_| pool.say(9, load(3, 50_000), S));
    pool.say(1, load(2, 20_000), S);
    pool.say(2, load(30, 5_000), S);
    pool.say(3, load(2, 10_000), S);
    assert_eq!(pool.pick(&[], S, &mut none), Pick::Endpoint(3));
    assert_eq!(pool.pick(&[], S, &mut none), Pick::Endpoint(1), "the report of 3 is used up");
}

#[test]
fn when_all_are_hot_the_one_with_the_fewest_requests() {
    let pool = Pool::new(&[1; 10]);
    (0..500).for_each(|_| pool.say(9, load(0, 1_000), S));
    pool.reports.slots.iter().for_each(|slot| slot.said.store(0, Relaxed));
    pool.say(1, load(20, 1_000), S);
    pool.say(2, load(10, 9_000), S);
    pool.say(3, load(30, 500), S);
    assert_eq!(pool.pick(&[], S, &mut none), Pick::Endpoint(2));
}

#[test]
fn the_threshold_finds_its_quantile() {
    let reports = Reports::new(10, 0);
    let mut bits = random(3);
    for _ in 0..20_000 {
        reports.learn_threshold((bits() % 20) as i64 * PARTS);
    }
    let mut sum = 0;
    for _ in 0..1_000 {
        reports.learn_threshold((bits() % 20) as i64 * PARTS);
        sum += i64::from(reports.hot_above.load(Relaxed)) / PARTS;
    }
    assert!((17..=20).contains(&(sum / 1_000)), "{}", sum / 1_000);
}

#[test]
fn old_reports_and_single_ones_are_no_choice() {
    let pool = Pool::new(&[1; 4]);
    pool.say(1, load(0, 10), S);
    pool.pick(&[], S, &mut none);
    assert_eq!(pool.kept(S), 1, "one report is no choice, and is not used");
    let pool = Pool::new(&[1; 4]);
    pool.say(1, load(0, 10), S);
    pool.say(2, load(0, 20), S);
    assert_eq!(pool.kept(2 * S), 2);
    assert_eq!(pool.kept(2 * S + 2_000), 0);
    pool.pick(&[], 3 * S, &mut random(1));
}

#[test]
fn what_knows_no_latency_is_taken_to_be_usual() {
    let pool = Pool::new(&[1; 4]);
    pool.say(1, load(0, 0), S);
    assert_eq!(pool.kept(S), 0, "nothing is usual yet");
    pool.say(2, load(0, 10_000), S);
    pool.say(3, load(0, 30_000), S);
    assert_eq!(pool.pick(&[], S, &mut none), Pick::Endpoint(2));
    pool.say(0, load(0, 0), S);
    assert_eq!(pool.kept(S), 2);
    assert_eq!(pool.pick(&[], S, &mut none), Pick::Endpoint(0), "as the last one that was picked");
}

/// Guesses of latency are made from what is usual: used for long, they do not lead it away.
#[test]
fn guesses_change_nothing_of_what_is_usual() {
    let pool = Pool::new(&[1; 10]);
    pool.reports.usual.store(1_000f32.to_bits(), Relaxed);
    let mut random = random(3);
    for turn in 0..5_000 {
        let now_us = S + turn * 1_000;
        pool.say(1, load(u32::MAX, 0), now_us);
        pool.say(2, load(1, 0), now_us);
        assert!(matches!(pool.pick(&[], now_us, &mut random), Pick::Endpoint(_)));
    }
    assert_eq!(pool.reports.usual(), 1_000.0);
    pool.say(1, load(0, u32::MAX), 10 * S);
    pool.say(2, load(0, u32::MAX), 10 * S);
    pool.pick(&[], 10 * S, &mut random);
    assert!(pool.reports.usual() <= LATENCY_MAX);
}

#[test]
fn of_two_alike_the_newer_is_the_better() {
    let pool = Pool::new(&[1; 4]);
    pool.say(1, load(0, 10_000), S);
    pool.say(2, load(0, 10_000), S);
    pool.pick(&[], S, &mut none);
    pool.say(1, load(0, 10_000), S);
    pool.say(2, load(0, 12_000), S + 50_000);
    assert_eq!(pool.pick(&[], S + 50_000, &mut none), Pick::Endpoint(2));
}

/// The paper's numbers: 3 endpoints asked for each pick, of a hundred and of very many.
#[test]
fn reports_are_used_as_often_as_the_paper_says() {
    assert_eq!(uses(100, 0), 1.0);
    assert!((uses(100, 300) - 2.0 / (0.84 * 3.0 - 1.0)).abs() < 1e-6);
    assert_eq!(uses(1_000_000, 1_600), 1.0);
    assert_eq!((uses(16, 300), uses(0, 300), uses(100, 100)), (USES_MAX, USES_MAX, USES_MAX));
}

#[test]
fn a_report_that_is_used_again_counts_the_request() {
    let pool = Pool { reports: busy(10, 300), ..Pool::new(&[1; 10]) };
    pool.say(1, load(0, 10_000), S);
    pool.say(2, load(0, 18_000), S);
    let picks: Vec<Pick> = (0..4).map(|_| pool.pick(&[], S, &mut none)).collect();
    let of = |at: u32| picks.iter().filter(|pick| **pick == Pick::Endpoint(at)).count();
    // 10 ms, then 20 ms with the first request, against 18 ms.
    assert_eq!((picks[0], picks[1]), (Pick::Endpoint(1), Pick::Endpoint(2)));
    assert_eq!((of(1), of(2)), (2, 2));
}

/// So many questions for each pick, no more than asked for, and none that are late.
#[test]
fn picks_bring_questions() {
    let table = asking(&[1; 40], 150);
    let mut bits = random(8);
    assert_eq!(table.take_load_probes(8), 0);
    for _ in 0..3 {
        table.pick(Attempt::after(&[]).at(S), &mut bits);
    }
    assert_eq!(table.take_load_probes(8), 4);
    table.pick(Attempt::after(&[]).at(S), &mut bits);
    assert_eq!(table.take_load_probes(8), 2, "the half that was left counts");
    for _ in 0..1_000 {
        table.pick(Attempt::after(&[]).at(S), &mut bits);
    }
    assert_eq!(table.take_load_probes(8), 8);
    assert_eq!(table.take_load_probes(8), 0, "what could not be asked is forgotten");
    assert!(table.draw_ready(&mut bits).is_some_and(|at| at < 40));
    let silent = crate::cluster::fixture::table(&[1, 1], Balance::Prequal);
    silent.pick(Attempt::after(&[]).at(S), &mut bits);
    assert_eq!(silent.take_load_probes(8), 0);
}

#[test]
fn a_later_report_replaces_the_earlier_and_the_oldest_goes() {
    let pool = Pool::new(&[1; 100]);
    (0..5).for_each(|turn| pool.say(7, load(turn, 1_000), S));
    assert_eq!(pool.kept(S), 1);
    for index in 10..60u32 {
        pool.say(index, load(1, 1_000 + index), S + u64::from(index) * 10_000);
    }
    assert_eq!(pool.kept(S + 600_000), REPORTS);
    let Pick::Endpoint(at) = pool.pick(&[], S + 600_000, &mut none) else { panic!("nobody") };
    assert!((44..60).contains(&at), "{at} is one of the last sixteen");
}

/// The end of a long response tells of its beginning.
#[test]
fn one_that_comes_late_replaces_nothing_that_is_newer() {
    let full = || {
        let pool = Pool::new(&[1; 40]);
        (1..=REPORTS as u32).for_each(|index| pool.say(index, load(1, 1_000), 20 * S));
        pool
    };
    for (index, at) in [(30, 10 * S), (3, 10 * S), (30, 20 * S - 500_000), (3, 20 * S - 500_000)] {
        let pool = full();
        let threshold = pool.reports.hot_above.load(Relaxed);
        pool.reports.take_in(index, 1, load(9_000, 10), (at, 20 * S));
        assert_eq!(pool.kept(20 * S), REPORTS, "{index} at {at}");
        let all_old = pool.reports.slots.iter().all(|slot| slot.read(ms(20 * S)).unwrap().requests == 1);
        assert!(all_old, "{index} at {at}");
        let is_same = pool.reports.hot_above.load(Relaxed) == threshold;
        assert!(is_same || at > 10 * S, "nobody learns from what is over");
    }
    let pool = Pool::new(&[1; 40]);
    pool.reports.take_in(3, 1, load(1, 10), (10 * S, 20 * S));
    assert_eq!(pool.reports.slots[0].said.load(Relaxed), 0);
}

#[test]
fn those_that_were_tried_or_are_gone_are_passed_over() {
    let pool = Pool::new(&[1; 6]);
    for index in 1..6 {
        pool.say(index, load(0, index * 1_000), S);
    }
    pool.endpoints[1].cell.mark_gone();
    assert_eq!(pool.pick(&[2], S, &mut none), Pick::Endpoint(3));
}

#[test]
fn only_a_cluster_of_this_picker_takes_reports() {
    for balance in [Balance::P2c, Balance::PeakEwma] {
        let table = table(&[1, 1], balance);
        table.report(0, load(1, 1), (S, S));
        assert!(!table.takes_reports());
    }
    let table = table(&[1, 1, 1], Balance::Prequal);
    assert!(table.takes_reports());
    table.report(0, load(5, 9_000), (S, S));
    table.report(1, load(0, 1_000), (S, S));
    table.report(77, load(0, 1), (S, S));
    assert_eq!(table.pick(Attempt::after(&[]).at(S), &mut none), Pick::Endpoint(1));
}

proptest! {
    /// Whatever is reported, a pick is one that may be picked, and there is one while there is one.
    #[test]
    fn never_one_that_is_not_ready(
        reports in prop::collection::vec((0u32..40, any::<u32>(), any::<u32>(), 0u64..3_000_000), 0..60),
        marks in prop::collection::vec(prop::option::of(0u8..3), 12),
        tried in prop::collection::vec(0u32..12, 0..6),
        seed: u64,
    ) {
        let pool = Pool::new(&[1, 5, 1, 1000, 1, 1, 7, 1, 1, 1, 1, 1]);
        for (entry, mark) in pool.endpoints.iter().zip(&marks) {
            match mark {
                None => {}
                Some(0) => { entry.cell.set_health(Health::Failing, "test", 1); }
                Some(1) => { entry.cell.set_draining(true, 1); }
                Some(_) => entry.cell.mark_gone(),
            }
        }
        let mut bits = random(seed);
        let mut now = S;
        for (index, requests, latency_us, gap) in reports {
            now += gap;
            pool.reports.take_in(index, 1, load(requests, latency_us), (now, now));
            let living = (0u32..12).filter(|at| marks[*at as usize].is_none() && !tried.contains(at)).count();
            match pool.pick(&tried, now, &mut bits) {
                Pick::Endpoint(at) => prop_assert!(marks[at as usize].is_none() && !tried.contains(&at)),
                _ => prop_assert_eq!(living, 0),
            }
        }
    }
}
