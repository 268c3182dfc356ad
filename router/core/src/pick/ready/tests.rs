//! The pick as a whole, with any marks, any set of tried ones and a ready set of any age.

use std::sync::atomic::AtomicU32;

use ekiden_config::model::Balance;
use proptest::prelude::*;

use super::super::{Attempt, Pick};
use super::ReadySet;
use crate::cluster::EndpointEntry;
use crate::cluster::fixture::{entries, random};
use crate::health::Health;
use crate::readiness::Event;

const ALL: [Balance; 6] = [
    Balance::P2c,
    Balance::RoundRobin,
    Balance::LeastRequest,
    Balance::Random,
    Balance::PeakEwma,
    Balance::Prequal,
];

/// What happens to an endpoint, and whether before or after the ready set is built.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Stays,
    Fails,
    Starts,
    Drains,
    Goes,
    Ejected,
    Returns,
}

fn fates() -> impl Strategy<Value = Vec<(u16, Fate, bool, bool)>> {
    let fate = prop_oneof![
        3 => Just(Fate::Stays),
        1 => Just(Fate::Fails),
        1 => Just(Fate::Starts),
        1 => Just(Fate::Drains),
        1 => Just(Fate::Goes),
        1 => Just(Fate::Ejected),
        1 => Just(Fate::Returns),
    ];
    // weight, fate, before the build, tried
    prop::collection::vec((1u16..=1000, fate, any::<bool>(), prop::bool::weighted(0.3)), 0..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Never one that is gone, draining, not ready or tried; always one when there is one.
    #[test]
    fn picks_what_is_eligible_and_nothing_else(
        fates in fates(),
        equal in any::<bool>(),
        balance in prop::sample::select(&ALL[..]),
        panic_threshold in 0u8..=100,
        may_repeat: bool,
        seed: u64,
        turn: u32,
    ) {
        let weights: Vec<u16> = fates.iter().map(|fate| if equal { 1 } else { fate.0 }).collect();
        let endpoints = entries(&weights);
        let strike = |early: bool| {
            for (entry, (_, fate, before, _)) in endpoints.iter().zip(&fates) {
                match fate {
                    _ if *before != early => {}
                    Fate::Stays => {}
                    Fate::Fails => { entry.cell.set_health(Health::Failing, "test", 1); }
                    Fate::Starts => { entry.cell.set_health(Health::Starting, "test", 1); }
                    Fate::Drains => { entry.cell.set_draining(true, 1); }
                    Fate::Goes => entry.cell.mark_gone(),
                    Fate::Ejected => { entry.cell.on(Event::Eject("test"), 1); }
                    Fate::Returns => {
                        entry.cell.on(Event::Eject("test"), 1);
                        entry.cell.on(Event::Trial(Ok(())), 2);
                    }
                }
            }
        };
        strike(true);
        let ready = ReadySet::new(&endpoints, balance, panic_threshold);
        strike(false);
        let tried: Vec<u32> = (0u32..).zip(&fates).filter(|(_, fate)| fate.3).map(|(at, _)| at).collect();
        let living: Vec<u32> = (0u32..).zip(endpoints.iter()).filter(|(_, e)| e.cell.takes(ready.barred, 0)).map(|(at, _)| at).collect();
        let any_standing = endpoints.iter().any(|e| e.cell.may_pick());
        prop_assert!(!living.is_empty() || !any_standing || !ready.is_panic());
        let attempt = Attempt { may_repeat, ..Attempt::after(&tried) };
        let cursor = AtomicU32::new(turn);
        let mut bits = random(seed);
        for _ in 0..20 {
            match ready.pick(&endpoints, attempt, &cursor, &mut bits) {
                Pick::Endpoint(at) => prop_assert!(living.contains(&at) && !tried.contains(&at)),
                Pick::Exhausted => prop_assert!(!living.is_empty() && living.iter().all(|at| tried.contains(at))),
                Pick::NoneReady => prop_assert!(living.is_empty()),
                Pick::NoEndpoints | Pick::ShardDown | Pick::ShardStarting => {
                    prop_assert!(false, "that is for the cluster to say")
                }
            }
        }
    }
}

#[test]
fn one_ready_endpoint_needs_no_random_bits() {
    for balance in ALL {
        let endpoints = entries(&[1, 1, 1]);
        endpoints[0].cell.mark_gone();
        endpoints[2].cell.set_draining(true, 1);
        let ready = ReadySet::new(&endpoints, balance, 50);
        let cursor = AtomicU32::new(5);
        let mut none = || panic!("no random bits are needed");
        assert_eq!(ready.len(), 1);
        assert_eq!(ready.pick(&endpoints, Attempt::after(&[]), &cursor, &mut none), Pick::Endpoint(1));
        assert_eq!(ready.pick(&endpoints, Attempt::after(&[1]), &cursor, &mut none), Pick::Exhausted);
        endpoints[1].cell.mark_gone();
        assert_eq!(ready.pick(&endpoints, Attempt::after(&[]), &cursor, &mut none), Pick::NoneReady);
        assert_eq!(cursor.into_inner(), 5, "and no turn is used up");
    }
}

#[test]
fn every_one_is_tried_once_and_then_it_is_over() {
    for balance in ALL {
        let endpoints = entries(&[1, 5, 1, 900]);
        let ready = ReadySet::new(&endpoints, balance, 50);
        let (cursor, mut bits, mut tried) = (AtomicU32::new(0), random(3), Vec::new());
        while let Pick::Endpoint(at) = ready.pick(&endpoints, Attempt::after(&tried), &cursor, &mut bits) {
            assert!(!tried.contains(&at));
            tried.push(at);
        }
        assert_eq!(tried.len(), 4);
        assert_eq!(ready.pick(&endpoints, Attempt::after(&tried), &cursor, &mut bits), Pick::Exhausted);
    }
}

#[test]
fn a_stale_set_of_many_is_scanned_to_its_one_living_member() {
    for balance in ALL {
        let endpoints = entries(&[1; 5000]);
        let ready = ReadySet::new(&endpoints, balance, 50);
        for entry in endpoints.iter().take(4321).chain(endpoints.iter().skip(4322)) {
            entry.cell.mark_gone();
        }
        let cursor = AtomicU32::new(0);
        assert_eq!(
            ready.pick(&endpoints, Attempt::after(&[]), &cursor, &mut random(1)),
            Pick::Endpoint(4321)
        );
    }
}

/// Picks of each endpoint in so many requests.
fn shares(ready: &ReadySet, endpoints: &[EndpointEntry], may_repeat: bool, requests: u32) -> Vec<u32> {
    let (cursor, mut bits, mut picks) = (AtomicU32::new(0), random(11), vec![0; endpoints.len()]);
    for _ in 0..requests {
        let attempt = Attempt { may_repeat, ..Attempt::after(&[]) };
        let Pick::Endpoint(at) = ready.pick(endpoints, attempt, &cursor, &mut bits) else { panic!("nobody") };
        picks[at as usize] += 1;
    }
    picks
}

#[test]
fn a_warming_endpoint_gets_a_part_of_its_share_from_every_picker() {
    for balance in ALL {
        let endpoints = entries(&[1, 1, 1]);
        endpoints[0].cell.on(Event::Eject("test"), 1000);
        endpoints[0].cell.on(Event::Trial(Ok(())), 2000);
        let ready = ReadySet::new(&endpoints, balance, 50);
        for (after_ms, percent) in [(0, 10), (250, 25), (500, 50), (900, 90), (1000, 100)] {
            endpoints[0].cell.on(Event::Time, 2000 + after_ms);
            let got = shares(&ready, &endpoints, true, 30_000)[0];
            // Of one in three draws, that part; of the turns that are not passed over, that part of a weight.
            let want = match balance {
                Balance::P2c
                | Balance::LeastRequest
                | Balance::Random
                | Balance::PeakEwma
                | Balance::Prequal => 10_000 * percent / 100,
                Balance::RoundRobin => 30_000 * percent / (200 + percent),
            };
            assert!(got.abs_diff(want) < 600, "{balance:?} after {after_ms} ms: {got}, not {want}");
        }
    }
}

#[test]
fn what_cannot_be_sent_twice_goes_elsewhere_while_there_are_others() {
    for balance in ALL {
        let endpoints = entries(&[1, 1, 1]);
        endpoints[0].cell.on(Event::Eject("test"), 1000);
        endpoints[0].cell.on(Event::Trial(Ok(())), 2000);
        endpoints[0].cell.on(Event::Time, 2900);
        let ready = ReadySet::new(&endpoints, balance, 50);
        assert_eq!(shares(&ready, &endpoints, false, 1000)[0], 0);
        assert!(shares(&ready, &endpoints, true, 1000)[0] > 200);
        endpoints[1].cell.mark_gone();
        endpoints[2].cell.mark_gone();
        assert_eq!(shares(&ready, &endpoints, false, 10)[0], 10, "there is no other");
    }
}

#[test]
fn a_cluster_that_is_all_new_is_spread_evenly() {
    for balance in ALL {
        let endpoints = entries(&[1, 1, 1, 1]);
        for entry in endpoints.iter() {
            entry.cell.on(Event::Eject("test"), 1000);
            entry.cell.on(Event::Trial(Ok(())), 2000);
        }
        let picks = shares(&ReadySet::new(&endpoints, balance, 50), &endpoints, true, 8000);
        assert!(picks.iter().all(|got| got.abs_diff(2000) < 300), "{balance:?}: {picks:?}");
    }
}

#[test]
fn ejected_endpoints_serve_when_too_few_others_are_ready() {
    // endpoints, ejected, failing, threshold; members
    for (all, ejected, failing, threshold, members) in [
        (2, 1, 0, 50, 1),
        (2, 2, 0, 50, 2),
        (2, 2, 0, 0, 2),
        (3, 1, 0, 50, 2),
        (3, 2, 0, 50, 3),
        (3, 2, 0, 0, 1),
        (3, 1, 1, 50, 2),
        (3, 1, 2, 0, 1),
        (10, 5, 0, 50, 5),
        (10, 5, 1, 50, 9),
        (3, 1, 0, 100, 3),
    ] {
        let endpoints = entries(&vec![1; all]);
        for entry in endpoints.iter().take(ejected) {
            entry.cell.on(Event::Eject("test"), 1);
        }
        for entry in endpoints.iter().skip(ejected).take(failing) {
            entry.cell.set_health(Health::Failing, "test", 1);
        }
        let ready = ReadySet::new(&endpoints, Balance::P2c, threshold);
        let what = format!("{ejected} ejected, {failing} failing of {all}, {threshold} %");
        assert_eq!(ready.len(), members, "{what}");
        assert_eq!(ready.is_panic(), members + failing == all && ejected > 0, "{what}");
        let served = shares(&ready, &endpoints, true, 1000).iter().filter(|got| **got > 0).count();
        assert_eq!(served, members, "{what}");
    }
}

#[test]
fn an_idle_cluster_follows_its_weights_with_every_picker() {
    for balance in ALL {
        let endpoints = entries(&[6, 3, 1]);
        let picks = shares(&ReadySet::new(&endpoints, balance, 50), &endpoints, true, 30_000);
        for (got, want) in picks.iter().zip([18_000u32, 9_000, 3_000]) {
            assert!(got.abs_diff(want) < 500, "{balance:?}: {picks:?}");
        }
    }
}

#[test]
fn least_request_finds_the_one_idle_endpoint_and_goes_by_weight() {
    let endpoints = entries(&[1; 40]);
    for entry in endpoints.iter().take(29).chain(endpoints.iter().skip(30)) {
        entry.cell.enter();
    }
    let ready = ReadySet::new(&endpoints, Balance::LeastRequest, 50);
    assert_eq!(shares(&ready, &endpoints, true, 100)[29], 100);
    let endpoints = entries(&[1, 4]);
    (0..2).for_each(|_| endpoints[0].cell.enter());
    (0..7).for_each(|_| endpoints[1].cell.enter());
    let ready = ReadySet::new(&endpoints, Balance::LeastRequest, 50);
    assert_eq!(shares(&ready, &endpoints, true, 100), [0, 100], "7 of 4 are less than 2 of 1");
}
