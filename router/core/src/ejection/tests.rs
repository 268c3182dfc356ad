//! The judge over clusters whose endpoints meet what a test says.

use std::time::Duration;

use ekiden_config::model::{Balance, EjectionPolicy, ReadinessPolicy};
use proptest::prelude::*;

use super::*;
use crate::cell::CellRegistry;
use crate::cluster::fixture::{app, cluster_of, endpoint};
use crate::evidence::Evidence::{Connect, Reset, Status, Timeout};
use crate::health::Health;

const UNIX_MS: u64 = 1_800_000_000_000;

struct Bench {
    table: ClusterTable,
    judge: Judge,
    now_ms: u64,
}

impl Bench {
    fn new(count: usize, change: impl Fn(&mut EjectionPolicy)) -> Self {
        let endpoints = (0..count).map(|number| endpoint(number, 1)).collect();
        let mut cluster = cluster_of(endpoints, Balance::P2c, None);
        let mut ejection = EjectionPolicy::default();
        change(&mut ejection);
        let policy = Arc::make_mut(&mut cluster.policy);
        policy.readiness = ReadinessPolicy { ejection: Some(ejection), ..ReadinessPolicy::default() };
        let table = ClusterTable::new(app(), Arc::new(cluster), &mut CellRegistry::new(1));
        Self { table, judge: Judge::default(), now_ms: 100_000 }
    }

    fn cell(&self, at: usize) -> &EndpointCell {
        &self.table.endpoints[at].cell
    }

    fn good(&self, at: usize, count: usize) {
        (0..count).for_each(|_| self.cell(at).note_served());
    }

    /// Failures, and the judge told of them as a worker would.
    fn bad(&mut self, at: usize, count: usize, kind: Evidence) -> Vec<String> {
        let told = (0..count).fold(false, |told, _| self.cell(at).note_evidence(kind) || told);
        if told { self.look() } else { Vec::new() }
    }

    /// The judge looks; reasons of new ejections, with the endpoint.
    fn look(&mut self) -> Vec<String> {
        let now = Now { ms: self.now_ms, unix_ms: UNIX_MS + self.now_ms };
        let ejected = self.judge.judge(&self.table, now);
        self.table.refresh_ready();
        ejected
            .into_iter()
            .map(|one| format!("{}: {}", one.cell.incarnation().id(), one.change.reason))
            .collect()
    }

    fn wait(&mut self, ms: u64) {
        self.now_ms += ms;
    }

    fn ejected(&self) -> Vec<usize> {
        (0..self.table.endpoints.len()).filter(|at| self.cell(*at).standing() == State::Ejected).collect()
    }
}

#[test]
fn failed_connects_in_a_row_eject_one_of_two() {
    let mut bench = Bench::new(2, |_| {});
    assert!(bench.bad(0, 4, Connect).is_empty());
    assert_eq!(
        bench.bad(0, 1, Connect),
        ["e000000: 5 failures in a row, the last: no connection could be made"]
    );
    assert_eq!(bench.cell(0).status().state, "ejected");
    assert_eq!(bench.table.ready_count(), 1);
    assert_eq!(bench.table.cell.ejections.by_cause[Connect as usize].value(), 1);
    assert!(bench.bad(1, 50, Connect).is_empty(), "never the last one");
    assert_eq!(bench.ejected(), [0]);
    assert_eq!(bench.table.cell.ejections.withheld_last.value(), 1, "counted once, not once per look");
}

#[test]
fn the_length_of_a_streak_is_a_key() {
    for (consecutive, failures, is_ejected) in [(Some(1), 1, true), (Some(3), 2, false), (None, 1000, false)]
    {
        let mut bench =
            Bench::new(2, |policy| (policy.consecutive, policy.min_requests) = (consecutive, 100_000));
        bench.bad(0, failures, Connect);
        assert_eq!(bench.cell(0).is_ejected(), is_ejected, "{consecutive:?}");
    }
}

#[test]
fn what_may_be_the_requests_doing_needs_others_who_serve() {
    for kind in [Reset, Timeout, Status] {
        let mut bench = Bench::new(2, |_| {});
        assert!(bench.bad(0, 5, kind).is_empty(), "{kind:?}: nobody has served anything since");
        bench.bad(1, 5, kind);
        assert!(bench.ejected().is_empty(), "{kind:?}: all do the same");
        bench.good(1, 3);
        bench.wait(1000);
        assert_eq!(bench.look().len(), 1, "{kind:?}: the other serves again, and this one has failed since");
        assert_eq!(bench.ejected(), [0]);
    }
}

#[test]
fn a_streak_of_statuses_that_all_have_their_share_of_ejects_nobody() {
    let mut bench = Bench::new(3, |_| {});
    let mut bits = crate::cluster::fixture::random(7);
    // Half of all requests fail wherever they go; one in thousands of streaks is long.
    for _ in 0..20_000 {
        let draw = bits();
        let at = (draw % 3) as usize;
        if draw >> 63 == 0 {
            bench.bad(at, 1, Status);
        } else {
            bench.good(at, 1);
        }
        bench.wait(1);
        // The first few counts are chance.
        if bench.now_ms < 100_300 {
            bench.cell(at).take_news();
        }
    }
    assert_eq!(bench.ejected(), [0usize; 0]);
}

#[test]
fn a_success_rate_far_below_the_others_ejects() {
    // failures per hundred of the endpoint, of the others; whether it is ejected
    for (own, others, is_ejected) in
        [(30, 0, true), (10, 0, false), (50, 40, false), (90, 40, true), (100, 100, false)]
    {
        let mut bench = Bench::new(3, |policy| policy.consecutive = None);
        for _ in 0..5 {
            for at in 0..3 {
                let failures = if at == 0 { own } else { others };
                for number in 0..100 {
                    // Spread out.
                    if number * failures / 100 != (number + 1) * failures / 100 {
                        bench.bad(at, 1, Status);
                    } else {
                        bench.good(at, 1);
                    }
                }
            }
            bench.wait(1000);
            bench.look();
        }
        assert_eq!(bench.cell(0).is_ejected(), is_ejected, "{own} % against {others} %");
        assert!(!bench.cell(1).is_ejected() && !bench.cell(2).is_ejected());
        let by_rate = bench.table.cell.ejections.by_cause[SUCCESS_RATE].value();
        assert_eq!(by_rate, u64::from(is_ejected));
    }
}

#[test]
fn a_rate_needs_requests_and_looks_back_no_further_than_the_window() {
    let mut bench = Bench::new(2, |policy| policy.consecutive = None);
    bench.bad(0, 20, Status);
    bench.good(1, 100);
    assert!(bench.look().is_empty(), "20 requests are not enough");
    bench.wait(10_000);
    bench.good(0, 50);
    bench.good(1, 50);
    assert!(bench.look().is_empty(), "the failures are forgotten");
    assert!(bench.judge.is_quiet(&EjectionPolicy::default(), bench.now_ms));
    bench.judge.rest();
    bench.good(1, 1);
    assert_eq!(bench.cell(1).evidence().good, 150, "and nobody looks any more");
}

#[test]
fn a_share_may_be_ejected_and_one_always() {
    for (count, max_percent, most) in
        [(2, 1, 1), (3, 50, 1), (3, 100, 2), (10, 50, 5), (10, 25, 2), (10, 100, 9)]
    {
        let mut bench = Bench::new(count, |policy| policy.max_percent = max_percent);
        for at in 0..count {
            bench.bad(at, 5, Connect);
        }
        assert_eq!(bench.ejected().len(), most, "{max_percent} % of {count}");
        let counts = &bench.table.cell.ejections;
        assert_eq!(counts.withheld_last.value() + counts.withheld_max.value(), (count - most) as u64);
        // Who comes back makes room for another.
        bench.wait(250);
        bench.cell(0).on(Event::Trial(Ok(())), UNIX_MS + bench.now_ms);
        bench.look();
        assert_eq!(bench.ejected().len(), most);
        assert!(!bench.ejected().contains(&0));
    }
}

#[test]
fn who_does_not_serve_is_neither_ejected_nor_counted_as_ready() {
    let mut bench = Bench::new(4, |policy| policy.max_percent = 100);
    bench.cell(1).set_draining(true, 1);
    bench.cell(2).set_health(Health::Failing, "test", 1);
    bench.cell(3).mark_gone();
    for at in 0..4 {
        assert!(bench.bad(at, 10, Connect).is_empty(), "{at}");
    }
    assert!(bench.cell(0).may_pick(), "it is the last");
}

#[test]
fn what_was_known_is_kept_when_the_table_changes() {
    let mut registry = CellRegistry::new(1);
    let make = |registry: &mut CellRegistry, count: usize| {
        let endpoints = (0..count).map(|number| endpoint(number, 1)).collect();
        ClusterTable::new(app(), Arc::new(cluster_of(endpoints, Balance::P2c, None)), registry)
    };
    let now = |ms| Now { ms, unix_ms: UNIX_MS + ms };
    let (old, mut judge) = (make(&mut registry, 2), Judge::default());
    for _ in 0..5 {
        old.endpoints[0].cell.note_evidence(Status);
    }
    assert!(judge.judge(&old, now(1)).is_empty());
    let new = make(&mut registry, 3);
    new.endpoints[1].cell.note_served();
    assert_eq!(judge.judge(&new, now(2)).len(), 1, "five failures before, a success of another after");
    assert!(make(&mut registry, 3).endpoints[0].cell.is_ejected(), "and the ejection outlives tables");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever happens: while checks and control admit anybody, somebody is served, and no more are ejected than may be.
    #[test]
    fn somebody_is_always_served(
        count in 1usize..8,
        max_percent in 1u8..=100,
        steps in prop::collection::vec((0usize..8, 0u8..9, 0u64..600), 1..120),
    ) {
        let mut bench = Bench::new(count, |policy| {
            (policy.max_percent, policy.consecutive, policy.window) = (max_percent, Some(2), Duration::from_secs(2));
        });
        for (at, what, wait) in steps {
            bench.wait(wait);
            let (at, at_ms) = (at % count, UNIX_MS + bench.now_ms);
            match what {
                0..=2 => { bench.bad(at, 2, Connect); }
                3 => { bench.bad(at, 3, Status); }
                4 => bench.good(at, 5),
                5 => { bench.cell(at).set_draining(wait % 2 == 0, at_ms); }
                6 => {
                    let health = if wait % 2 == 0 { Health::Failing } else { Health::Ready };
                    bench.cell(at).set_health(health, "test", at_ms);
                }
                7 => { bench.cell(at).on(Event::Trial(Ok(())), at_ms); }
                _ => { bench.cell(at).on(Event::Time, at_ms); }
            }
            let ready_before = bench.table.endpoints.iter().filter(|entry| entry.cell.may_pick()).count();
            let ejected_before = bench.ejected().len();
            bench.look();
            let ready = bench.table.endpoints.iter().filter(|entry| entry.cell.may_pick()).count();
            prop_assert!(ready_before == 0 || ready > 0, "the judge ejected the last one");
            let most = (count * usize::from(max_percent) / 100).max(1);
            prop_assert!(bench.ejected().len() <= most.max(ejected_before));
            let admitted = bench.table.endpoints.iter().filter(|entry| {
                matches!(entry.cell.standing(), State::Ready | State::Warming | State::Ejected)
            }).count();
            prop_assert_eq!(bench.table.ready_count() == 0, admitted == 0, "an ejection left nobody");
        }
    }
}
