//! Smooth weighted round robin: the order, the shares, the bounds.

use std::sync::atomic::Ordering;

use ekiden_config::model::Balance;
use proptest::prelude::*;

use super::super::ready::Member;
use super::super::{Attempt, Pick};
use super::{Order, TURNS_MAX};
use crate::cluster::ClusterTable;
use crate::cluster::fixture::table;

fn picks(table: &ClusterTable, count: usize) -> Vec<u32> {
    let pick = |_| match table.pick(Attempt::after(&[]), &mut || panic!("round robin draws no random bits")) {
        Pick::Endpoint(index) => index,
        other => panic!("{other:?}"),
    };
    (0..count).map(pick).collect()
}

fn letters(table: &ClusterTable, count: usize) -> String {
    picks(table, count).into_iter().map(|index| char::from(b'a' + index as u8)).collect()
}

fn members(weights: &[u16]) -> Vec<Member> {
    weights.iter().zip(0..).map(|(weight, index)| Member { index, weight: u32::from(*weight) }).collect()
}

#[test]
fn orders_in_a_table() {
    for (weights, order) in [
        (&[5, 1, 1][..], "aabacaaaabacaa"),
        (&[50, 10, 10], "aabacaaaabacaa"),
        (&[1, 1, 1], "abcabc"),
        (&[7, 7], "abab"),
        (&[2, 1], "abaaba"),
        (&[3], "aaa"),
    ] {
        assert_eq!(letters(&table(weights, Balance::RoundRobin), order.len()), order, "{weights:?}");
    }
}

#[test]
fn all_workers_share_the_cursor_and_it_outlives_the_ready_set() {
    let table = table(&[1, 1, 1], Balance::RoundRobin);
    assert_eq!(letters(&table, 2), "ab");
    table.refresh_ready();
    assert_eq!(letters(&table, 2), "ca");
    assert_eq!(table.cell.cursor.load(Ordering::Relaxed), 4);
}

#[test]
fn the_cursor_may_wrap() {
    let table = table(&[5, 1, 1], Balance::RoundRobin);
    table.cell.cursor.store(u32::MAX - 3, Ordering::Relaxed);
    assert_eq!(picks(&table, 10).len(), 10);
}

#[test]
fn one_that_is_not_ready_is_stepped_over() {
    let table = table(&[1, 1, 1], Balance::RoundRobin);
    table.endpoints[1].cell.mark_gone();
    assert_eq!(letters(&table, 4), "acac");
}

#[test]
fn long_orders_are_not_written_out_and_keep_the_weights() {
    let weights: Vec<u16> = (0..50).map(|at| 1 + at * 19).collect();
    assert!(weights.iter().map(|weight| u64::from(*weight)).sum::<u64>() > TURNS_MAX);
    assert!(matches!(Order::new(&members(&weights)), Order::Sums(_)));
    let table = table(&weights, Balance::RoundRobin);
    let mut counts = vec![0f64; weights.len()];
    let turns = 100_000;
    for index in picks(&table, turns) {
        counts[index as usize] += 1.0;
    }
    let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
    for (count, weight) in counts.iter().zip(&weights) {
        let (share, expected) = (count / turns as f64, f64::from(*weight) / total);
        assert!((share - expected).abs() < 0.0005, "weight {weight}: {share} {expected}");
    }
}

#[test]
fn equal_weights_need_no_order_however_many() {
    assert!(matches!(Order::new(&members(&vec![1000; 100_000])), Order::Plain));
}

proptest! {
    /// Within one round every member has exactly its weight in turns, and no order is longer than the bound.
    #[test]
    fn a_round_is_exact(weights in prop::collection::vec(1u16..=60, 1..40)) {
        let members = members(&weights);
        match Order::new(&members) {
            Order::Plain => prop_assert!(weights.iter().all(|weight| *weight == weights[0])),
            Order::Turns(turns) => {
                prop_assert!(turns.len() as u64 <= TURNS_MAX);
                let mut counts = vec![0u64; weights.len()];
                turns.iter().for_each(|at| counts[*at as usize] += 1);
                for (count, weight) in counts.iter().zip(&weights) {
                    prop_assert_eq!(count * u64::from(weights[0]), counts[0] * u64::from(*weight));
                }
            }
            Order::Sums(_) => prop_assert!(false, "these fit"),
        }
    }
}
