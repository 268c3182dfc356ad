//! The registry: who keeps a cell from table to table, and who gets a fresh one.

use std::collections::BTreeMap;
use std::sync::Arc;

use ekiden_config::model::{Address, Balance, Endpoint, EndpointTags};
use ekiden_config::names::{AppName, ClusterName, RouteName};
use proptest::prelude::*;

use super::CellRegistry;
use crate::cluster::ClusterTable;
use crate::cluster::fixture::{app, cluster_of, endpoint, id, probe};
use crate::health::Health;

fn compile(endpoints: Vec<Endpoint>, registry: &mut CellRegistry) -> ClusterTable {
    ClusterTable::new(app(), Arc::new(cluster_of(endpoints, Balance::P2c, Some(probe()))), registry)
}

const NONE: [u64; 0] = [];

fn removed(registry: &mut CellRegistry) -> Vec<u64> {
    let mut uids: Vec<_> = registry.take_removed().iter().map(|cell| cell.uid()).collect();
    uids.sort_unstable();
    uids
}

#[test]
fn the_same_incarnation_keeps_its_cell_whatever_its_weight_and_zone() {
    let mut registry = CellRegistry::new(1);
    let old = compile(vec![endpoint(1, 1), endpoint(2, 1)], &mut registry);
    let changed = Endpoint {
        weight: 9,
        tags: EndpointTags { zone: Some("b".into()), ..EndpointTags::default() }.shared(),
        ..endpoint(1, 1)
    };
    let new = compile(vec![endpoint(0, 1), changed, endpoint(2, 1)], &mut registry);
    assert!(Arc::ptr_eq(&old.endpoints[0].cell, &new.endpoints[1].cell));
    assert!(Arc::ptr_eq(&old.endpoints[1].cell, &new.endpoints[2].cell));
    assert!(Arc::ptr_eq(&old.cell, &new.cell));
    assert_eq!(removed(&mut registry), NONE);
}

#[test]
fn another_address_or_release_starts_fresh() {
    let moved = Endpoint { address: Address::Unix("/run/new".into()), ..endpoint(1, 1) };
    let renamed = Endpoint {
        tags: EndpointTags { dns_name: Some("b.test".into()), ..EndpointTags::default() }.shared(),
        ..endpoint(1, 1)
    };
    let released = Endpoint {
        tags: EndpointTags { release: Some("v2".into()), ..EndpointTags::default() }.shared(),
        ..endpoint(1, 1)
    };
    for changed in [moved, renamed, released] {
        let mut registry = CellRegistry::new(1);
        let old = compile(vec![endpoint(1, 1)], &mut registry);
        old.endpoints[0].cell.set_health(Health::Ready, "passed", 1);
        let new = compile(vec![changed], &mut registry);
        assert_ne!(old.endpoints[0].cell.uid(), new.endpoints[0].cell.uid());
        assert_eq!(new.endpoints[0].cell.health(), Health::Starting);
        assert_eq!(removed(&mut registry), [old.endpoints[0].cell.uid()]);
        assert_eq!(removed(&mut registry), NONE, "taken once");
    }
}

#[test]
fn one_that_comes_back_gets_a_fresh_cell() {
    let mut registry = CellRegistry::new(1);
    let first = compile(vec![endpoint(1, 1)], &mut registry);
    compile(vec![], &mut registry);
    registry.take_removed().iter().for_each(|cell| cell.mark_gone());
    let again = compile(vec![endpoint(1, 1)], &mut registry);
    assert!(first.endpoints[0].cell.is_gone());
    assert!(!again.endpoints[0].cell.is_gone());
}

#[test]
fn drain_follows_the_model_both_ways() {
    let mut registry = CellRegistry::new(1);
    registry.set_now(5);
    let table = compile(vec![Endpoint { drain: true, ..endpoint(1, 1) }], &mut registry);
    let cell = table.endpoints[0].cell.clone();
    assert!(cell.is_draining());
    assert_eq!(cell.status().since_unix_ms, 5);
    compile(vec![endpoint(1, 1)], &mut registry);
    assert!(!cell.is_draining());
}

#[test]
fn a_new_probe_keeps_live_health_and_a_removed_one_makes_ready() {
    let mut registry = CellRegistry::new(1);
    let unprobed = |registry: &mut CellRegistry| {
        let cluster = cluster_of(vec![endpoint(1, 1)], Balance::P2c, None);
        ClusterTable::new(app(), Arc::new(cluster), registry)
    };
    let cell = unprobed(&mut registry).endpoints[0].cell.clone();
    assert_eq!(cell.health(), Health::Ready);
    let probed = compile(vec![endpoint(1, 1)], &mut registry);
    assert_eq!(probed.endpoints[0].cell.health(), Health::Ready, "it serves on while it is checked");
    cell.set_health(Health::Failing, "3 checks in a row failed", 9);
    registry.set_now(12);
    let table = unprobed(&mut registry);
    assert_eq!((cell.health(), cell.reason().1), (Health::Ready, 12));
    assert_eq!(table.ready_count(), 1);
}

#[test]
fn what_is_not_retained_is_removed() {
    let mut registry = CellRegistry::new(1);
    let other = AppName::new("other").unwrap();
    let mine = compile(vec![endpoint(1, 1), endpoint(2, 1)], &mut registry);
    let cluster = Arc::new(cluster_of(vec![endpoint(1, 1)], Balance::P2c, None));
    let theirs = ClusterTable::new(other.clone(), cluster, &mut registry);
    assert_ne!(mine.endpoints[0].cell.uid(), theirs.endpoints[0].cell.uid(), "apps share no cell");

    registry.retain_apps(|name| *name != other);
    assert_eq!(removed(&mut registry), [theirs.endpoints[0].cell.uid()]);
    registry.retain_clusters(&app(), |name| name.as_str() != "web");
    assert_eq!(removed(&mut registry).len(), 2);
    registry.retain_clusters(&other, |_: &ClusterName| false);
    assert_eq!(removed(&mut registry), NONE);
}

#[test]
fn routes_keep_their_cell_until_they_are_not_retained() {
    let mut registry = CellRegistry::new(2);
    let name = RouteName::new("route-1").unwrap();
    let first = registry.route(&app(), &name);
    assert!(Arc::ptr_eq(&first, &registry.route(&app(), &name)));
    registry.retain_routes(&app(), |kept| *kept == name);
    assert!(Arc::ptr_eq(&first, &registry.route(&app(), &name)));
    registry.retain_routes(&app(), |_| false);
    assert!(!Arc::ptr_eq(&first, &registry.route(&app(), &name)));
}

/// What an endpoint list looks like to the property: id number to version of the address.
fn lists() -> impl Strategy<Value = Vec<BTreeMap<usize, u8>>> {
    prop::collection::vec(prop::collection::btree_map(0usize..12, 0u8..2, 0..12), 1..6)
}

proptest! {
    /// Over any chain of tables: kept if and only if id and address are the same as in the table before; removed
    /// and kept together are exactly what was there.
    #[test]
    fn cells_follow_incarnations(lists in lists()) {
        let mut registry = CellRegistry::new(1);
        let mut before: BTreeMap<(usize, u8), u64> = BTreeMap::new();
        for list in lists {
            let endpoints = list.iter().map(|(number, version)| Endpoint {
                address: Address::Unix(format!("/run/{version}").into()),
                ..endpoint(*number, 1)
            });
            let table = compile(endpoints.collect(), &mut registry);
            let gone = removed(&mut registry);
            let mut now = BTreeMap::new();
            for (entry, (number, version)) in table.endpoints.iter().zip(&list) {
                prop_assert_eq!(entry.cell.incarnation().id(), &id(*number));
                prop_assert_eq!(entry.cell.incarnation().address(), &entry.endpoint.address);
                now.insert((*number, *version), entry.cell.uid());
            }
            let mut expected_gone = Vec::new();
            for (incarnation, uid) in &before {
                match now.get(incarnation) {
                    Some(kept) => prop_assert_eq!(kept, uid),
                    None => expected_gone.push(*uid),
                }
            }
            expected_gone.sort_unstable();
            prop_assert_eq!(gone, expected_gone);
            before = now;
        }
    }
}

/// Guards against quadratic work: each of these would take minutes if a change cost the square of the cluster.
#[test]
fn a_change_in_a_large_cluster_is_linear() {
    let mut registry = CellRegistry::new(1);
    let large: Vec<_> = (0..100_000).map(|number| endpoint(number, 1)).collect();
    let old = compile(large.clone(), &mut registry);
    let new = compile(large.into_iter().skip(1).collect(), &mut registry);
    assert_eq!(new.endpoints.len(), 99_999);
    assert_eq!(removed(&mut registry), [old.endpoints[0].cell.uid()]);
    compile(vec![], &mut registry);
    assert_eq!(removed(&mut registry).len(), 99_999);
}
