//! The pick as a whole, with any marks, any set of tried ones and a ready set of any age.

use std::sync::atomic::AtomicU32;

use ekiden_config::model::Balance;
use proptest::prelude::*;

use super::super::Pick;
use super::ReadySet;
use crate::cluster::fixture::{entries, random};
use crate::health::Health;

/// What happens to an endpoint, and whether before or after the ready set is built.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Stays,
    Fails,
    Starts,
    Drains,
    Goes,
}

fn fates() -> impl Strategy<Value = Vec<(u16, Fate, bool, bool)>> {
    let fate = prop_oneof![
        3 => Just(Fate::Stays),
        1 => Just(Fate::Fails),
        1 => Just(Fate::Starts),
        1 => Just(Fate::Drains),
        1 => Just(Fate::Goes),
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
        balance in prop_oneof![Just(Balance::P2c), Just(Balance::RoundRobin)],
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
                }
            }
        };
        strike(true);
        let ready = ReadySet::new(&endpoints, balance);
        strike(false);
        let tried: Vec<u32> = (0u32..).zip(&fates).filter(|(_, fate)| fate.3).map(|(at, _)| at).collect();
        let living: Vec<u32> = (0u32..).zip(endpoints.iter()).filter(|(_, e)| e.cell.may_pick()).map(|(at, _)| at).collect();
        let cursor = AtomicU32::new(turn);
        let mut bits = random(seed);
        for _ in 0..20 {
            match ready.pick(&endpoints, &tried, &cursor, &mut bits) {
                Pick::Endpoint(at) => prop_assert!(living.contains(&at) && !tried.contains(&at)),
                Pick::Exhausted => prop_assert!(!living.is_empty() && living.iter().all(|at| tried.contains(at))),
                Pick::NoneReady => prop_assert!(living.is_empty()),
                Pick::NoEndpoints => prop_assert!(false, "that is for the cluster to say"),
            }
        }
    }
}

#[test]
fn one_ready_endpoint_needs_no_random_bits() {
    for balance in [Balance::P2c, Balance::RoundRobin] {
        let endpoints = entries(&[1, 1, 1]);
        endpoints[0].cell.mark_gone();
        endpoints[2].cell.set_draining(true, 1);
        let ready = ReadySet::new(&endpoints, balance);
        let cursor = AtomicU32::new(5);
        let mut none = || panic!("no random bits are needed");
        assert_eq!(ready.len(), 1);
        assert_eq!(ready.pick(&endpoints, &[], &cursor, &mut none), Pick::Endpoint(1));
        assert_eq!(ready.pick(&endpoints, &[1], &cursor, &mut none), Pick::Exhausted);
        endpoints[1].cell.mark_gone();
        assert_eq!(ready.pick(&endpoints, &[], &cursor, &mut none), Pick::NoneReady);
        assert_eq!(cursor.into_inner(), 5, "and no turn is used up");
    }
}

#[test]
fn every_one_is_tried_once_and_then_it_is_over() {
    for balance in [Balance::P2c, Balance::RoundRobin] {
        let endpoints = entries(&[1, 5, 1, 900]);
        let ready = ReadySet::new(&endpoints, balance);
        let (cursor, mut bits, mut tried) = (AtomicU32::new(0), random(3), Vec::new());
        while let Pick::Endpoint(at) = ready.pick(&endpoints, &tried, &cursor, &mut bits) {
            assert!(!tried.contains(&at));
            tried.push(at);
        }
        assert_eq!(tried.len(), 4);
        assert_eq!(ready.pick(&endpoints, &tried, &cursor, &mut bits), Pick::Exhausted);
    }
}

#[test]
fn a_stale_set_of_many_is_scanned_to_its_one_living_member() {
    for balance in [Balance::P2c, Balance::RoundRobin] {
        let endpoints = entries(&[1; 5000]);
        let ready = ReadySet::new(&endpoints, balance);
        for entry in endpoints.iter().take(4321).chain(endpoints.iter().skip(4322)) {
            entry.cell.mark_gone();
        }
        let cursor = AtomicU32::new(0);
        assert_eq!(ready.pick(&endpoints, &[], &cursor, &mut random(1)), Pick::Endpoint(4321));
    }
}
