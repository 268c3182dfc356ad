//! Picks by key: readiness, stores, bounds, replicas, ramps, and that no pick goes where none may.

use std::sync::Arc;

use ekiden_config::model::{
    Balance, KeyPart, KeyPiece, ReplicaPick, ShardAlgorithm, ShardFallback, ShardKind, ShardPolicy,
};
use proptest::prelude::*;

use super::{Ask, Key};
use crate::cell::CellRegistry;
use crate::cluster::fixture::{app, cluster_of, endpoint, probe, random};
use crate::cluster::{Attempt, ClusterTable, Pick};
use crate::health::Health;
use crate::readiness::Event;

const ALGORITHMS: [ShardAlgorithm; 4] =
    [ShardAlgorithm::Rendezvous, ShardAlgorithm::Ring, ShardAlgorithm::Maglev, ShardAlgorithm::Ketama];

pub(crate) fn policy(kind: ShardKind) -> ShardPolicy {
    ShardPolicy {
        by: vec![KeyPiece::Part(KeyPart::WholePath)],
        fallback: ShardFallback::Refuse,
        algorithm: ShardAlgorithm::Rendezvous,
        kind,
        replicas: 1,
        replica_pick: ReplicaPick::Primary,
        bound_percent: None,
        hot_keys: None,
    }
}

pub(crate) fn sharded(weights: &[u16], words: ShardPolicy) -> ClusterTable {
    table(weights, words, false)
}

fn table(weights: &[u16], words: ShardPolicy, is_probed: bool) -> ClusterTable {
    let endpoints = weights.iter().enumerate().map(|(number, weight)| endpoint(number, *weight)).collect();
    let mut cluster = cluster_of(endpoints, Balance::P2c, is_probed.then(probe));
    let mut policy = (*cluster.policy).clone();
    policy.shard = Some(Arc::new(words));
    cluster.policy = Arc::new(policy);
    ClusterTable::new(app(), Arc::new(cluster), &mut CellRegistry::new(2))
}

fn ask(table: &ClusterTable, key: &str, tried: &[u32]) -> Pick {
    ask_with(table, key, Attempt::after(tried))
}

fn ask_with(table: &ClusterTable, key: &str, attempt: Attempt<'_>) -> Pick {
    let in_flight = || table.endpoints.iter().map(|entry| u64::from(entry.cell.in_flight())).sum();
    let ask = Ask { key: Key::new(key.as_bytes()), attempt, worker: 0, in_flight: &in_flight };
    table.pick_shard(table.shards().unwrap(), &ask, &mut random(7))
}

fn owner(table: &ClusterTable, key: &str) -> u32 {
    table.shards().unwrap().map.owner(Key::new(key.as_bytes())).unwrap()
}

/// The key's first so many in order.
fn order(table: &ClusterTable, key: &str, count: usize) -> Vec<u32> {
    table.shards().unwrap().map.replicas(Key::new(key.as_bytes()), count).to_vec()
}

fn cell(table: &ClusterTable, at: u32) -> &crate::cell::EndpointCell {
    &table.endpoints[at as usize].cell
}

#[test]
fn a_cache_falls_through_the_order_of_its_key_and_a_store_does_not() {
    for algorithm in ALGORITHMS {
        let words = |kind| ShardPolicy { algorithm, ..policy(kind) };
        let (cache, store) =
            (sharded(&[1; 5], words(ShardKind::Cache)), sharded(&[1; 5], words(ShardKind::Store)));
        let order = order(&cache, "a", 5);
        for (place, at) in order.iter().enumerate() {
            assert_eq!(ask(&cache, "a", &[]), Pick::Endpoint(*at), "{algorithm:?} {place}");
            assert_eq!(ask(&cache, "a", &order[..place]), Pick::Endpoint(*at), "tried ones are passed over");
            cell(&cache, *at).on(Event::Eject("test"), 1);
        }
        assert_eq!(ask(&cache, "a", &[]), Pick::NoneReady);
        cache.refresh_ready();
        assert_eq!(ask(&cache, "a", &[]), Pick::Endpoint(order[0]), "panic: all are served again");
        assert_eq!(ask(&cache, "a", &order), Pick::Exhausted);

        assert_eq!(ask(&store, "a", &[]), Pick::Endpoint(order[0]));
        assert_eq!(ask(&store, "a", &[order[0]]), Pick::Endpoint(order[0]), "tried again, nowhere else");
        cell(&store, order[0]).on(Event::Eject("test"), 1);
        store.refresh_ready();
        assert_eq!(ask(&store, "a", &[]), Pick::ShardDown);
        for at in &order {
            cell(&store, *at).on(Event::Eject("test"), 1);
        }
        store.refresh_ready();
        assert!(!store.is_panic());
        assert_eq!(ask(&store, "a", &[]), Pick::ShardDown, "no panic");
    }
}

#[test]
fn a_store_waits_for_the_first_check_of_its_own_shard_only() {
    let table = table(&[1; 4], policy(ShardKind::Store), true);
    let own = owner(&table, "a");
    for entry in table.endpoints.iter() {
        entry.cell.set_health(Health::Ready, "test", 1);
    }
    table.refresh_ready();
    assert_eq!(ask(&table, "a", &[]), Pick::Endpoint(own));
    cell(&table, own).set_health(Health::Starting, "test", 2);
    assert_eq!(ask(&table, "a", &[]), Pick::ShardStarting);
    cell(&table, own).set_health(Health::Failing, "test", 3);
    assert_eq!(ask(&table, "a", &[]), Pick::ShardDown);
}

#[test]
fn replicas_serve_a_key_first_the_primary_or_the_less_busy_of_two() {
    for kind in [ShardKind::Cache, ShardKind::Store] {
        let words = |replica_pick| ShardPolicy { replicas: 3, replica_pick, ..policy(kind) };
        let table = sharded(&[1; 8], words(ReplicaPick::Primary));
        let order = order(&table, "a", 4);
        assert_eq!(ask(&table, "a", &[]), Pick::Endpoint(order[0]));
        assert_eq!(ask(&table, "a", &order[..1]), Pick::Endpoint(order[1]));
        cell(&table, order[0]).mark_gone();
        assert_eq!(ask(&table, "a", &[]), Pick::Endpoint(order[1]));
        cell(&table, order[1]).mark_gone();
        cell(&table, order[2]).mark_gone();
        let beyond = if kind == ShardKind::Cache { Pick::Endpoint(order[3]) } else { Pick::ShardDown };
        assert_eq!(ask(&table, "a", &[]), beyond);

        let table = sharded(&[1; 8], words(ReplicaPick::P2c));
        for _ in 0..5 {
            cell(&table, order[0]).enter();
            cell(&table, order[1]).enter();
        }
        let mut seen = [0; 8];
        for seed in 0..200 {
            let in_flight = || 0;
            let ask =
                Ask { key: Key::new(b"a"), attempt: Attempt::after(&[]), worker: 0, in_flight: &in_flight };
            let Pick::Endpoint(at) = table.pick_shard(table.shards().unwrap(), &ask, &mut random(seed))
            else {
                panic!("nobody")
            };
            seen[at as usize] += 1;
        }
        assert!(seen[order[2] as usize] > 100, "the idle one gets two pairs of three: {seen:?}");
        assert_eq!(seen.iter().sum::<i32>(), order[..3].iter().map(|at| seen[*at as usize]).sum::<i32>());
    }
}

#[test]
fn a_key_moves_to_a_warming_endpoint_once() {
    let words = policy(ShardKind::Cache);
    let table = sharded(&[1; 4], words);
    let cold = 2;
    cell(&table, cold).on(Event::Eject("test"), 1000);
    cell(&table, cold).on(Event::Trial(Ok(())), 2000);
    table.refresh_ready();
    let keys: Vec<String> =
        (0..400).map(|n| format!("k{n}")).filter(|key| owner(&table, key) == cold).collect();
    let mut there = 0;
    for after_ms in [0, 250, 500, 900, 1000] {
        cell(&table, cold).on(Event::Time, 2000 + after_ms);
        let served: Vec<bool> =
            keys.iter().map(|key| ask(&table, key, &[]) == Pick::Endpoint(cold)).collect();
        let again: Vec<bool> = keys.iter().map(|key| ask(&table, key, &[]) == Pick::Endpoint(cold)).collect();
        assert_eq!(served, again, "by key, not by chance");
        let count = served.iter().filter(|one| **one).count();
        assert!(count >= there, "none goes back");
        there = count;
    }
    assert_eq!(there, keys.len());
    // What may not be sent twice is kept from one that comes back from an ejection.
    cell(&table, cold).on(Event::Eject("test"), 5000);
    cell(&table, cold).on(Event::Trial(Ok(())), 7000);
    cell(&table, cold).on(Event::Time, 7900);
    table.refresh_ready();
    let once = Attempt { may_repeat: false, ..Attempt::after(&[]) };
    assert!(keys.iter().all(|key| ask_with(&table, key, once) != Pick::Endpoint(cold)));
}

#[test]
fn what_is_above_the_bound_goes_elsewhere_and_to_all_others_alike() {
    for algorithm in ALGORITHMS {
        let words = ShardPolicy { bound_percent: Some(125), algorithm, ..policy(ShardKind::Cache) };
        let table = sharded(&[1; 10], words);
        let mut seen = [0u32; 10];
        // One key, and nothing ends.
        for _ in 0..100 {
            let Pick::Endpoint(at) = ask(&table, "a", &[]) else { panic!("nobody") };
            cell(&table, at).enter();
            seen[at as usize] += 1;
        }
        let most = *seen.iter().max().unwrap();
        assert_eq!((seen[owner(&table, "a") as usize], most), (13, 13), "{algorithm:?}: {seen:?}");
        // Idle again, it is the owner's.
        for entry in table.endpoints.iter() {
            (0..20).for_each(|_| entry.cell.leave());
        }
        assert_eq!(ask(&table, "a", &[]), Pick::Endpoint(owner(&table, "a")));
    }
}

#[test]
fn the_bound_gives_way_where_all_below_it_were_tried() {
    let words = ShardPolicy { bound_percent: Some(125), ..policy(ShardKind::Cache) };
    let table = sharded(&[1; 2], words);
    let order = order(&table, "a", 2);
    (0..10).for_each(|_| cell(&table, order[0]).enter());
    assert_eq!(ask(&table, "a", &[]), Pick::Endpoint(order[1]));
    assert_eq!(ask(&table, "a", &[order[1]]), Pick::Endpoint(order[0]));
}

#[derive(Debug, Clone, Copy)]
enum Fate {
    Stays,
    Fails,
    Drains,
    Goes,
    Ejected,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// A pick never goes to an endpoint that may not get it, whatever happened before or after the ready set was built; a cache
    /// has one while one is ready; a store has one of its replicas or none.
    #[test]
    fn no_pick_of_an_unready_endpoint(
        fates in prop::collection::vec((1u16..=9, prop::sample::select(vec![
            Fate::Stays, Fate::Stays, Fate::Fails, Fate::Drains, Fate::Goes, Fate::Ejected,
        ]), any::<bool>(), prop::bool::weighted(0.2)), 1..20),
        algorithm in prop::sample::select(&ALGORITHMS[..]),
        is_store: bool,
        replicas in 1u8..=4,
        replica_pick in prop::sample::select(vec![ReplicaPick::Primary, ReplicaPick::P2c]),
        bound_percent in prop::option::of(101u32..300),
        keys in prop::collection::vec(any::<u16>(), 1..20),
    ) {
        let kind = if is_store { ShardKind::Store } else { ShardKind::Cache };
        let bound_percent = bound_percent.filter(|_| !is_store);
        let words = ShardPolicy { algorithm, replicas, replica_pick, bound_percent, ..policy(kind) };
        let weights: Vec<u16> = fates.iter().map(|fate| fate.0).collect();
        let table = sharded(&weights, words);
        for early in [true, false] {
            for (entry, (_, fate, before, _)) in table.endpoints.iter().zip(&fates) {
                match fate {
                    _ if *before != early => {}
                    Fate::Stays => {}
                    Fate::Fails => { entry.cell.set_health(Health::Failing, "test", 1); }
                    Fate::Drains => { entry.cell.set_draining(true, 1); }
                    Fate::Goes => entry.cell.mark_gone(),
                    Fate::Ejected => { entry.cell.on(Event::Eject("test"), 1); }
                }
            }
            if early {
                table.refresh_ready();
            }
        }
        let tried: Vec<u32> = (0u32..).zip(&fates).filter(|(_, fate)| fate.3).map(|(at, _)| at).collect();
        let barred = if is_store { crate::cell::BARRED } else { table.ready_barred() };
        let open = |at: u32| cell(&table, at).takes(barred, 0);
        let any_open = (0..weights.len() as u32).any(open);
        for key in keys {
            let key = key.to_string();
            let own = order(&table, &key, usize::from(replicas));
            match ask(&table, &key, &tried) {
                Pick::Endpoint(at) => {
                    prop_assert!(open(at));
                    prop_assert!(is_store || !tried.contains(&at));
                    prop_assert!(!is_store || own.contains(&at));
                }
                Pick::ShardDown => prop_assert!(is_store && !own.iter().any(|at| open(*at))),
                Pick::Exhausted => {
                    prop_assert!(!is_store && any_open);
                    prop_assert!((0..weights.len() as u32).all(|at| !open(at) || tried.contains(&at)));
                }
                Pick::NoneReady => prop_assert!(!is_store && !any_open),
                Pick::NoEndpoints | Pick::ShardStarting => prop_assert!(false),
            }
        }
    }

    /// At each pick, no shard has more in flight than its bound, whatever the keys and whatever ends in between.
    #[test]
    fn loads_stay_within_the_bound(
        weights in prop::collection::vec(1u16..=5, 1..12),
        percent in 101u32..300,
        replicas in 1u8..=3,
        algorithm in prop::sample::select(&ALGORITHMS[..]),
        steps in prop::collection::vec((0u8..6, any::<u8>()), 1..150),
    ) {
        let words = ShardPolicy { bound_percent: Some(percent), algorithm, replicas, ..policy(ShardKind::Cache) };
        let table = sharded(&weights, words);
        let sum: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        let mut flying: Vec<u32> = Vec::new();
        for (key, ends) in steps {
            if ends < 100 && !flying.is_empty() {
                let at = flying.swap_remove(usize::from(ends) % flying.len());
                cell(&table, at).leave();
            }
            let total = flying.len() as u64;
            let Pick::Endpoint(at) = ask(&table, &key.to_string(), &[]) else { panic!("nobody") };
            cell(&table, at).enter();
            flying.push(at);
            let most = (u64::from(percent) * (total + 1) * u64::from(weights[at as usize])).div_ceil(100 * sum);
            prop_assert!(u64::from(cell(&table, at).in_flight()) <= most);
        }
    }
}
