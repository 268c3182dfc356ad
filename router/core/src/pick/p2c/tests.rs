//! Power of two choices: balance, weights and preference for the less loaded.

use ekiden_config::model::Balance;
use proptest::prelude::*;

use super::super::ready::Member;
use super::super::{Attempt, Pick};
use super::{Draw, below, drawn};
use crate::cluster::ClusterTable;
use crate::cluster::fixture::{random, table};

fn picked(table: &ClusterTable, random: &mut dyn FnMut() -> u64) -> usize {
    match table.pick(Attempt::after(&[]), random) {
        Pick::Endpoint(index) => index as usize,
        other => panic!("{other:?}"),
    }
}

/// Keeps `slots` requests in flight, ends a random one at each turn, and counts picks.
fn simulate(table: &ClusterTable, slots: usize, turns: usize) -> Vec<f64> {
    let mut bits = random(42);
    let mut busy: Vec<usize> = Vec::new();
    let mut counts = vec![0u32; table.endpoints.len()];
    for _ in 0..turns {
        if busy.len() > slots {
            let ended = busy.swap_remove(below(busy.len(), bits() as u32));
            table.endpoints[ended].cell.leave();
        }
        let at = picked(table, &mut bits);
        table.endpoints[at].cell.enter();
        busy.push(at);
        counts[at] += 1;
    }
    counts.into_iter().map(|count| f64::from(count) / turns as f64).collect()
}

#[test]
fn an_idle_cluster_is_balanced() {
    let table = table(&[1; 10], Balance::P2c);
    let mut bits = random(7);
    let mut counts = [0f64; 10];
    for _ in 0..100_000 {
        counts[picked(&table, &mut bits)] += 1.0;
    }
    // Chi-square with 9 degrees of freedom: above 27.9 once in a thousand seeds; this seed is fixed.
    let chi: f64 = counts.iter().map(|count| (count - 10_000.0).powi(2) / 10_000.0).sum();
    assert!(chi < 27.9, "{chi} {counts:?}");
}

#[test]
fn weights_hold_within_two_percent_of_all_requests() {
    for weights in [vec![9, 1], vec![5, 1, 1], vec![1, 2, 3, 4], vec![1000, 500, 1], vec![3; 7]] {
        let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
        for slots in [0, 10, 100] {
            let table = table(&weights, Balance::P2c);
            let shares = simulate(&table, slots, 200_000);
            for (weight, share) in weights.iter().zip(&shares) {
                let expected = f64::from(*weight) / total;
                assert!((share - expected).abs() < 0.02, "{weights:?} slots {slots}: {shares:?}");
            }
        }
    }
}

#[test]
fn the_less_loaded_of_two_is_always_taken() {
    let table = table(&[1, 1], Balance::P2c);
    table.endpoints[0].cell.enter();
    let mut bits = random(9);
    assert!((0..1000).all(|_| picked(&table, &mut bits) == 1));
    table.endpoints[1].cell.enter();
    table.endpoints[1].cell.enter();
    assert!((0..1000).all(|_| picked(&table, &mut bits) == 0));
}

#[test]
fn the_most_loaded_of_many_gets_nothing() {
    let table = table(&[1; 20], Balance::P2c);
    table.endpoints[4].cell.enter();
    let mut bits = random(10);
    assert!(
        (0..10_000).all(|_| picked(&table, &mut bits) != 4),
        "two different ones are drawn, the other wins"
    );
}

#[test]
fn load_is_compared_per_weight() {
    let table = table(&[10, 1], Balance::P2c);
    (0..5).for_each(|_| table.endpoints[0].cell.enter());
    table.endpoints[1].cell.enter();
    let mut bits = random(11);
    let light = (0..20_000).filter(|_| picked(&table, &mut bits) == 1).count();
    // 5 / 10 is less than 1 / 1: the light one is left with the pairs that hold it alone, 1 in 121.
    assert!(light < 400, "{light}");
}

#[test]
fn in_flight_stays_even_under_load() {
    let table = table(&[1; 10], Balance::P2c);
    simulate(&table, 500, 50_000);
    let loads: Vec<_> = table.endpoints.iter().map(|entry| entry.cell.in_flight()).collect();
    let (least, most) = (loads.iter().min().unwrap(), loads.iter().max().unwrap());
    // Random picks would spread by about 22 (three standard deviations of 7 to either side).
    assert!(most - least <= 10, "{loads:?}");
}

proptest! {
    /// The alias table gives every member its exact share, up to 2^-32 per column.
    #[test]
    fn alias_columns_add_up_to_the_weights(weights in prop::collection::vec(1u32..=1000, 2..200)) {
        let members: Vec<_> =
            weights.iter().enumerate().map(|(at, weight)| Member { index: at as u32, weight: *weight }).collect();
        let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
        let Draw::Alias(columns) = Draw::new(&members) else {
            prop_assert!(weights.iter().all(|weight| *weight == weights[0]));
            return Ok(());
        };
        prop_assert_eq!(columns.len(), members.len());
        let mut shares = vec![0f64; members.len()];
        for (at, column) in columns.iter().enumerate() {
            let keep = if column.other as usize == at { 1.0 } else { f64::from(column.keep) / 2f64.powi(32) };
            shares[at] += keep;
            shares[column.other as usize] += 1.0 - keep;
        }
        for (share, weight) in shares.iter().zip(&weights) {
            let (share, expected) = (share / members.len() as f64, f64::from(*weight) / total);
            prop_assert!((share - expected).abs() < 1e-7, "{share} {expected}");
        }
    }

    #[test]
    fn draws_stay_inside(weights in prop::collection::vec(1u32..=1000, 2..50), bits: u64) {
        let members: Vec<_> =
            weights.iter().enumerate().map(|(at, weight)| Member { index: at as u32, weight: *weight }).collect();
        prop_assert!(below(members.len(), bits as u32) < members.len());
        if let Draw::Alias(columns) = Draw::new(&members) {
            prop_assert!(drawn(&columns, bits) < members.len());
        }
    }
}
