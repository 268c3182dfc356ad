//! The cluster table: ready sets that follow the cells, also across a swap.

use std::sync::Arc;

use ekiden_config::model::Balance;

use super::fixture::{app, cluster_of, endpoint, id, probe, random, table};
use super::{Attempt, ClusterTable, Pick};
use crate::cell::CellRegistry;
use crate::health::Health;

fn probed(count: usize, registry: &mut CellRegistry) -> ClusterTable {
    let endpoints = (0..count).map(|number| endpoint(number, 1)).collect();
    ClusterTable::new(app(), Arc::new(cluster_of(endpoints, Balance::P2c, Some(probe()))), registry)
}

#[test]
fn an_empty_cluster_says_so() {
    let table = table(&[], Balance::P2c);
    assert_eq!(table.pick(Attempt::after(&[]), &mut || 0), Pick::NoEndpoints);
    assert!(!table.first_check_pending());
}

#[test]
fn a_probed_endpoint_gets_nothing_before_its_first_check() {
    let table = probed(2, &mut CellRegistry::new(1));
    assert_eq!(table.pick(Attempt::after(&[]), &mut random(1)), Pick::NoneReady);
    assert!(table.first_check_pending());
    table.endpoints[1].cell.set_health(Health::Ready, "first check passed", 1);
    table.refresh_ready();
    assert_eq!(table.pick(Attempt::after(&[]), &mut random(1)), Pick::Endpoint(1));
    assert!(table.first_check_pending(), "the other one is still starting");
    table.endpoints[0].cell.set_health(Health::Failing, "first check failed", 1);
    table.refresh_ready();
    assert!(!table.first_check_pending());
    assert_eq!(table.ready_count(), 1);
}

#[test]
fn a_draining_or_gone_endpoint_is_not_waited_for() {
    let table = probed(2, &mut CellRegistry::new(1));
    table.endpoints[0].cell.mark_gone();
    table.endpoints[1].cell.set_draining(true, 1);
    table.refresh_ready();
    assert!(!table.first_check_pending());
}

#[test]
fn a_mark_acts_before_the_ready_set_is_refreshed() {
    let table = table(&[1, 1], Balance::P2c);
    table.endpoints[0].cell.mark_gone();
    let mut random = random(2);
    for _ in 0..100 {
        assert_eq!(table.pick(Attempt::after(&[]), &mut random), Pick::Endpoint(1));
    }
    table.endpoints[1].cell.set_draining(true, 1);
    assert_eq!(table.pick(Attempt::after(&[]), &mut random), Pick::NoneReady);
}

#[test]
fn a_check_answered_between_compile_and_swap_is_not_lost() {
    let mut registry = CellRegistry::new(1);
    let old = probed(1, &mut registry);
    let new = probed(2, &mut registry);
    assert!(!new.catch_up(), "nothing happened yet");
    old.endpoints[0].cell.set_health(Health::Ready, "first check passed", 1);
    old.refresh_ready();
    assert_eq!(new.pick(Attempt::after(&[]), &mut random(3)), Pick::NoneReady, "compiled before the answer");
    assert!(new.catch_up());
    assert_eq!(new.pick(Attempt::after(&[]), &mut random(3)), Pick::Endpoint(0));
    assert!(!new.catch_up(), "once is enough");
}

#[test]
fn a_position_is_found_by_id_in_another_table() {
    let table = table(&[1; 50], Balance::P2c);
    for number in [0, 7, 49] {
        assert_eq!(table.position(&id(number)), Some(number as u32));
        assert_eq!(table.endpoint(number as u32).unwrap().endpoint.id, id(number));
    }
    assert_eq!(table.position(&id(50)), None);
    assert!(table.endpoint(50).is_none());
}

#[test]
fn status_names_every_endpoint() {
    let table = probed(3, &mut CellRegistry::new(1));
    let states: Vec<_> = table.status().into_iter().map(|status| (status.id, status.state)).collect();
    assert_eq!(states, [(id(0), "starting"), (id(1), "starting"), (id(2), "starting")]);
}
