//! How requests are shared out: zones by spare capacity, priorities by health, and what no share may break.

use std::sync::Arc;

use ekiden_config::model::{Balance, Endpoint, EndpointTags, Place};
use proptest::prelude::*;

use super::super::layout::Layout;
use super::*;
use crate::cell::CellRegistry;
use crate::cluster::ClusterTable;
use crate::cluster::fixture::{app, cluster_of, endpoint, random};
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

fn place(zone: &str) -> Place {
    Place { zone: Some(zone.into()), ..Place::default() }
}

fn at(number: usize, zone: &str, priority: u8) -> Endpoint {
    let zone = (!zone.is_empty()).then(|| Arc::from(zone));
    let tags = EndpointTags { zone, ..EndpointTags::default() }.shared();
    Endpoint { tags, priority, ..endpoint(number, 1) }
}

fn table(endpoints: Vec<Endpoint>, balance: Balance, subset: Option<u32>, place: &Place) -> ClusterTable {
    let mut registry = CellRegistry::new(1);
    registry.set_place(place);
    let mut cluster = cluster_of(endpoints, balance, None);
    Arc::get_mut(&mut cluster.policy).unwrap().subset = subset;
    ClusterTable::new(app(), Arc::new(cluster), &mut registry)
}

/// Three zones of three each.
fn zones(balance: Balance, own: &str) -> ClusterTable {
    let all = (0..9).map(|number| at(number, ["a", "b", "c"][number / 3], 0)).collect();
    table(all, balance, None, &place(own))
}

fn set(table: &ClusterTable, index: usize, health: Health) {
    table.endpoints[index].cell.set_health(health, "test", 1);
    table.refresh_ready();
}

/// How many of `count` picks each endpoint gets.
fn picks(table: &ClusterTable, count: usize, tried: &[u32]) -> Vec<usize> {
    let mut random = random(11);
    let mut got = vec![0; table.endpoints.len()];
    for _ in 0..count {
        match table.pick(Attempt::after(tried), &mut random) {
            Pick::Endpoint(index) => got[index as usize] += 1,
            other => panic!("{other:?}"),
        }
    }
    got
}

fn part(got: &[usize], range: std::ops::Range<usize>) -> f64 {
    got[range].iter().sum::<usize>() as f64 / got.iter().sum::<usize>() as f64
}

fn near(is: f64, wanted: f64) {
    assert!((is - wanted).abs() < 0.02, "{is} is not {wanted}");
}

/// Who gets no requests is not asked for its load: not who is outside the subset, in a zone that is passed over, or standing by.
#[test]
fn only_those_with_a_share_are_asked() {
    let drawn = |table: &ClusterTable| {
        let mut random = random(5);
        let mut got = vec![0; table.endpoints.len()];
        (0..2_000).for_each(|_| got[table.draw_ready(&mut random).unwrap() as usize] += 1);
        got
    };
    let all = (0..40).map(|number| at(number, "", 0)).collect();
    let subset = table(all, Balance::Prequal, Some(5), &place("a"));
    let got = drawn(&subset);
    let layout = subset.layout().unwrap();
    assert!((0..40u32).all(|index| (got[index as usize] > 0) == layout.holds(index)), "{got:?}");
    let zone = zones(Balance::Prequal, "b");
    assert_eq!(part(&drawn(&zone), 3..6), 1.0);
    let all = (0..6).map(|number| at(number, "", (number / 3) as u8)).collect();
    let standby = table(all, Balance::Prequal, None, &Place::default());
    assert_eq!(part(&drawn(&standby), 0..3), 1.0);
    (0..3).for_each(|index| set(&standby, index, Health::Failing));
    assert_eq!(part(&drawn(&standby), 3..6), 1.0);
}

/// A ready set that is built anew goes on with the turn of the one before.
#[test]
fn round_robin_goes_on_when_the_set_is_rebuilt() {
    let table = zones(Balance::RoundRobin, "b");
    let mut got = [0; 9];
    for _ in 0..30 {
        (0..9).zip(picks(&table, 1, &[])).for_each(|(at, count)| got[at] += count);
        table.refresh_ready();
    }
    assert_eq!(got, [0, 0, 0, 10, 10, 10, 0, 0, 0]);
}

#[test]
fn a_zone_that_is_well_keeps_everything() {
    for balance in ALL {
        let got = picks(&zones(balance, "b"), 3_000, &[]);
        assert_eq!((part(&got, 3..6), got.iter().sum::<usize>()), (1.0, 3_000), "{balance:?}");
        assert!(got[3..6].iter().all(|count| *count > 700), "{balance:?}: {got:?}");
    }
}

/// Of nine endpoints one fails: each of the others should have an eighth of all, and the zones bring in a third each.
#[test]
fn what_a_zone_cannot_take_spills_to_those_with_room_and_comes_back() {
    for balance in ALL {
        let table = zones(balance, "a");
        set(&table, 0, Health::Failing);
        let got = picks(&table, 20_000, &[]);
        near(part(&got, 0..3), 0.75);
        near(part(&got, 3..6), 0.125);
        near(part(&got, 6..9), 0.125);
        assert_eq!(got[0], 0);
        // Zone b has nothing to spare now: all of it goes to c.
        set(&table, 3, Health::Failing);
        let got = picks(&table, 20_000, &[]);
        near(part(&got, 0..3), 6.0 / 7.0);
        assert_eq!(part(&got, 3..6), 0.0, "{balance:?}");
        set(&table, 0, Health::Ready);
        set(&table, 3, Health::Ready);
        assert_eq!(part(&picks(&table, 1_000, &[]), 0..3), 1.0, "{balance:?}");
    }
}

#[test]
fn a_zone_without_an_endpoint_left_uses_the_others() {
    let table = zones(Balance::P2c, "a");
    (0..3).for_each(|index| set(&table, index, Health::Failing));
    let got = picks(&table, 10_000, &[]);
    assert_eq!(part(&got, 0..3), 0.0);
    near(part(&got, 3..6), 0.5);
}

/// A retry goes to another zone when its own has been tried through.
#[test]
fn an_attempt_never_ends_while_another_zone_has_an_endpoint() {
    for balance in ALL {
        let got = picks(&zones(balance, "a"), 500, &[0, 1, 2]);
        assert_eq!(part(&got, 0..3), 0.0, "{balance:?}");
    }
}

#[test]
fn a_written_share_of_the_requests_counts() {
    // Half of all requests come in by zone a, which has a third of the endpoints.
    let own = Place { zone_share: Some(50), ..place("a") };
    let all = (0..9).map(|number| at(number, ["a", "b", "c"][number / 3], 0)).collect();
    let got = picks(&table(all, Balance::P2c, None, &own), 20_000, &[]);
    near(part(&got, 0..3), 2.0 / 3.0);
    near(part(&got, 3..6), 1.0 / 6.0);
}

/// A warming endpoint brings its share back bit by bit.
#[test]
fn shares_come_back_with_the_ramp() {
    let table = zones(Balance::P2c, "a");
    let cell = &table.endpoints[0].cell;
    cell.on(Event::Eject("test"), 1_000);
    table.refresh_ready();
    near(part(&picks(&table, 20_000, &[]), 0..3), 0.75);
    cell.on(Event::Trial(Ok(())), 2_000);
    let mut last = 0.75;
    for now in [2_250, 2_500, 2_750] {
        cell.on(Event::Time, now);
        table.refresh_ready();
        let share = table.group_shares()[0];
        assert!(share > last && share < 1.0, "{share} after {last}");
        last = share;
    }
    cell.on(Event::Time, 3_100);
    table.refresh_ready();
    assert_eq!(table.group_shares()[0], 1.0);
}

/// The shares of Envoy's documentation for two priorities.
#[test]
fn the_next_priority_takes_what_the_first_cannot() {
    for (healthy, first) in [(100, 1.0), (72, 1.0), (71, 0.994), (50, 0.7), (25, 0.35), (0, 0.0)] {
        let all = (0..200).map(|number| at(number, "", u8::from(number >= 100))).collect();
        let table = table(all, Balance::P2c, None, &Place::default());
        for entry in &table.endpoints[healthy..100] {
            entry.cell.set_health(Health::Failing, "test", 1);
        }
        table.refresh_ready();
        let shares = table.group_shares();
        assert!((shares[0] - first).abs() < 1e-9 && (shares[0] + shares[1] - 1.0).abs() < 1e-9, "{shares:?}");
        assert!(!table.is_panic());
    }
}

#[test]
fn priorities_that_are_all_ill_share_in_proportion() {
    let all = (0..20).map(|number| at(number, "", u8::from(number >= 10))).collect();
    let table = table(all, Balance::P2c, None, &Place::default());
    // 20 % of the first and 40 % of the second: 28 and 56 of 84.
    for index in (2..10).chain(14..20) {
        table.endpoints[index].cell.set_health(Health::Failing, "test", 1);
    }
    table.refresh_ready();
    let shares = table.group_shares();
    assert!((shares[0] - 1.0 / 3.0).abs() < 1e-9, "{shares:?}");
}

/// Ejected endpoints stay out while the next priority can take everything, and are served when it cannot.
#[test]
fn a_standby_that_suffices_keeps_panic_away() {
    let all = (0..6).map(|number| at(number, "", u8::from(number >= 4))).collect();
    let table = table(all, Balance::P2c, None, &Place::default());
    for entry in &table.endpoints[..4] {
        entry.cell.on(Event::Eject("test"), 1_000);
    }
    table.refresh_ready();
    assert!(!table.is_panic());
    assert_eq!(part(&picks(&table, 100, &[]), 4..6), 1.0);
    for entry in &table.endpoints[4..] {
        entry.cell.on(Event::Eject("test"), 1_000);
    }
    table.refresh_ready();
    assert!(table.is_panic());
    assert_eq!(picks(&table, 600, &[]).iter().sum::<usize>(), 600);
}

#[test]
fn zones_count_within_each_priority() {
    let all = (0..8).map(|number| at(number, ["a", "b"][number % 2], u8::from(number >= 4))).collect();
    let table = table(all, Balance::P2c, None, &place("a"));
    let kinds: Vec<_> = table.groups().iter().map(|group| (group.priority, group.kind)).collect();
    assert_eq!(kinds, [(0, Some("local")), (0, Some("spilled")), (1, Some("local")), (1, Some("spilled"))]);
    (0..4).for_each(|index| set(&table, index, Health::Failing));
    let got = picks(&table, 400, &[]);
    assert_eq!(got[4] + got[6], 400, "{got:?}");
}

#[test]
fn what_makes_no_difference_makes_no_groups() {
    let own = |endpoints: Vec<Endpoint>, subset, place: &Place| {
        table(endpoints, Balance::P2c, subset, place).layout().is_some()
    };
    let plain = || (0..4).map(|number| at(number, "a", 0)).collect::<Vec<_>>();
    assert!(!own(plain(), None, &Place::default()));
    assert!(!own(plain(), None, &place("a")), "all are local");
    assert!(!own(plain(), None, &place("b")), "none is local");
    assert!(!own(plain(), Some(4), &Place::default()), "all are in the subset");
    assert!(own(plain(), Some(2), &Place::default()));
    let mixed: Vec<_> = (0..4).map(|number| at(number, ["a", ""][number % 2], 0)).collect();
    assert!(own(mixed, None, &place("a")));
}

/// Picks stay in the subset while it has one that is ready, whatever is tried of the others; then any will do.
#[test]
fn picks_leave_the_subset_only_when_nothing_of_it_is_ready() {
    for balance in ALL {
        let place = Place { instance: "web.3".into(), ..Place::default() };
        let all: Vec<_> = (0..64).map(|number| at(number, "", 0)).collect();
        let table = table(all, balance, Some(8), &place);
        let layout = table.layout().unwrap();
        let held: Vec<u32> = (0..64).filter(|index| layout.holds(*index)).collect();
        assert_eq!(held.len(), 8);
        for left in (0..held.len()).rev() {
            let got = picks(&table, 500, &[]);
            let inside: usize = held.iter().map(|index| got[*index as usize]).sum();
            assert_eq!(inside, 500, "{balance:?}, {left}");
            set(&table, held[left] as usize, Health::Failing);
        }
        let got = picks(&table, 2_000, &[]);
        assert!(got.iter().filter(|count| **count > 0).count() >= 50, "{balance:?}: {got:?}");
        assert!(held.iter().all(|index| got[*index as usize] == 0));
    }
}

/// A request that cannot be sent twice is no trial, also where the one on trial is all that its zone has.
#[test]
fn what_cannot_be_sent_twice_goes_to_another_zone() {
    for balance in ALL {
        let all = (0..3).map(|number| at(number, ["a", "b", "b"][number], 0)).collect();
        let table = table(all, balance, None, &place("a"));
        let cell = &table.endpoints[0].cell;
        cell.on(Event::Eject("test"), 1_000);
        cell.on(Event::Trial(Ok(())), 2_000);
        table.refresh_ready();
        let mut random = random(5);
        let once = Attempt { may_repeat: false, ..Attempt::after(&[]) };
        let mut own = 0;
        for _ in 0..300 {
            assert_ne!(table.pick(once, &mut random), Pick::Endpoint(0), "{balance:?}");
            own += usize::from(table.pick(Attempt::after(&[]), &mut random) == Pick::Endpoint(0));
        }
        assert!(own > 5, "{balance:?}: {own}");
        assert_eq!(table.pick(Attempt { tried: &[1, 2], ..once }, &mut random), Pick::Endpoint(0));
    }
}

/// Reports of endpoints that stood in for the subset bring them no requests once it is back.
#[test]
fn reports_lead_to_the_subset_only() {
    let place = Place { instance: "web.3".into(), ..Place::default() };
    let all: Vec<_> = (0..64).map(|number| at(number, "", 0)).collect();
    let table = table(all, Balance::Prequal, Some(8), &place);
    let layout = table.layout().unwrap();
    let load = crate::cell::load::Load { requests: 0, latency_us: 1 };
    for index in (0..64).filter(|index| !layout.holds(*index)) {
        table.report(index, load, (1_000, 1_000));
    }
    let mut random = random(5);
    for _ in 0..100 {
        let Pick::Endpoint(index) = table.pick(Attempt::after(&[]).at(1_000), &mut random) else { panic!() };
        assert!(layout.holds(index));
    }
}

fn layout_of(own: &str, weights: &[Vec<u16>], place: &Place) -> (Layout, Vec<EndpointEntry>) {
    let mut endpoints = Vec::new();
    for (zone, weights) in weights.iter().enumerate() {
        for weight in weights {
            endpoints.push(Endpoint { weight: *weight, ..at(endpoints.len(), &format!("z{zone}"), 0) });
        }
    }
    let place = Place { zone: Some(own.into()), ..place.clone() };
    let table = table(endpoints, Balance::P2c, None, &place);
    let mut registry = CellRegistry::new(1);
    registry.set_place(&place);
    (Layout::new(&table.cluster, registry.stand()).unwrap(), table.endpoints.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// When the routers of every zone share out what they bring in, every endpoint has the same load per weight.
    #[test]
    fn all_routers_together_load_all_endpoints_alike(
        weights in prop::collection::vec(prop::collection::vec(1u16..100, 1..6), 2..6),
    ) {
        let zones = weights.len();
        let total: f64 = weights.iter().flatten().map(|weight| f64::from(*weight)).sum();
        let mut loads = vec![0.0; zones];
        for own in 0..zones {
            let (layout, entries) = layout_of(&format!("z{own}"), &weights, &Place::default());
            let shares = shares(&layout, &capacities(&entries, &layout, BARRED));
            prop_assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            shares.iter().enumerate().for_each(|(zone, share)| loads[zone] += share / zones as f64);
        }
        for (zone, load) in loads.iter().enumerate() {
            let capacity: f64 = weights[zone].iter().map(|weight| f64::from(*weight)).sum();
            prop_assert!((load - capacity / total).abs() < 1e-5, "zone {} of {:?}: {}", zone, weights, load);
        }
    }

    /// Never one that is not ready; always one when there is one, whatever its priority and zone and whether it is in the subset.
    #[test]
    fn groups_hide_no_endpoint_that_is_ready(
        fates in prop::collection::vec((0u8..3, 0usize..3, 0u8..3, any::<bool>()), 1..30),
        balance in prop::sample::select(&ALL[..]),
        subset in prop::option::of(1u32..10),
    ) {
        let all = fates.iter().enumerate().map(|(number, (priority, zone, ..))| {
            at(number, ["", "a", "b"][*zone], *priority)
        });
        let table = table(all.collect(), balance, subset, &Place { instance: "e-1".into(), ..place("a") });
        let mut open = Vec::new();
        let mut tried = Vec::new();
        for (index, (_, _, fate, is_tried)) in fates.iter().enumerate() {
            match fate {
                0 => {
                    table.endpoints[index].cell.set_health(Health::Failing, "test", 1);
                }
                1 if *is_tried => tried.push(index as u32),
                _ => open.push(index as u32),
            }
        }
        table.refresh_ready();
        let mut random = random(3);
        for _ in 0..20 {
            match table.pick(Attempt::after(&tried), &mut random) {
                Pick::Endpoint(index) => prop_assert!(open.contains(&index)),
                other => prop_assert!(open.is_empty(), "{:?}", other),
            }
        }
    }
}
