//! Cells: marks, counts and what they tell people.

use std::sync::Arc;

use ekiden_config::names::ClusterName;

use super::{ClusterPlace, EndpointCell, IDLE_LIMIT_FLOOR_MS, Incarnation};
use crate::cluster::fixture::{app, endpoint};
use crate::health::{Health, Transition};

pub(super) fn cell(health: Health) -> EndpointCell {
    let place = ClusterPlace::new(app(), ClusterName::new("web").unwrap());
    let incarnation = Incarnation::new(Arc::new(place), Arc::new(endpoint(1, 1)));
    EndpointCell::new(incarnation, health, "made for a test", 10)
}

#[test]
fn only_ready_without_marks_may_be_picked() {
    for health in [Health::Starting, Health::Ready, Health::Failing] {
        for gone in [false, true] {
            for draining in [false, true] {
                let cell = cell(health);
                if gone {
                    cell.mark_gone();
                }
                cell.set_draining(draining, 11);
                assert_eq!(cell.health(), health);
                assert_eq!((cell.is_gone(), cell.is_draining()), (gone, draining));
                assert_eq!(cell.may_pick(), health == Health::Ready && !gone && !draining);
                assert_eq!(cell.first_check_pending(), health == Health::Starting && !gone && !draining);
            }
        }
    }
}

#[test]
fn health_changes_keep_the_marks_and_carry_reason_and_time() {
    let cell = cell(Health::Starting);
    cell.set_draining(true, 11);
    let change = Transition {
        from: Health::Starting,
        to: Health::Failing,
        reason: "first check failed: refused".to_owned(),
        at_unix_ms: 20,
    };
    assert!(cell.apply(&change));
    assert!(!cell.apply(&change), "the same health again is no change");
    assert_eq!(cell.transitions(), 1);
    assert!(cell.is_draining());
    assert_eq!(cell.reason(), ("first check failed: refused".to_owned(), 20));
    assert!(cell.set_health(Health::Ready, "2 checks in a row passed", 30));
    assert!(!cell.may_pick(), "still draining");
    assert!(cell.set_draining(false, 40));
    assert!(!cell.set_draining(false, 50));
    assert!(cell.may_pick());
}

#[test]
fn status_puts_gone_before_draining_before_health() {
    let cell = cell(Health::Ready);
    cell.enter();
    let status = cell.status();
    assert_eq!((status.state, status.reason.as_str()), ("ready", "made for a test"));
    assert_eq!((status.since_unix_ms, status.in_flight), (10, 1));
    cell.set_draining(true, 77);
    let status = cell.status();
    assert_eq!((status.state, status.since_unix_ms), ("draining", 77));
    assert!(status.reason.contains("its checks say ready"), "{}", status.reason);
    cell.mark_gone();
    assert_eq!(cell.status().state, "gone");
}

#[test]
fn in_flight_never_goes_below_zero() {
    let cell = cell(Health::Ready);
    cell.leave();
    assert_eq!(cell.in_flight(), 0);
    cell.enter();
    cell.enter();
    cell.leave();
    assert_eq!(cell.in_flight(), 1);
}

#[test]
fn the_shortest_idle_limit_is_learned_down_to_the_floor() {
    let cell = cell(Health::Ready);
    assert_eq!(cell.idle_limit_ms(), 0);
    for (seen, known) in [(5_000, 5_000), (60_000, 5_000), (2_000, 2_000), (3, IDLE_LIMIT_FLOOR_MS)] {
        cell.learn_idle_limit(seen);
        assert_eq!(cell.idle_limit_ms(), known);
        // What it speaks is kept beside, and neither disturbs the other.
        cell.note_choice(seen == 2_000);
        assert_eq!((cell.chose_http1(), cell.idle_limit_ms()), (seen == 2_000, known));
    }
    cell.note_choice(true);
    cell.learn_idle_limit(u32::MAX);
    assert!(cell.chose_http1() && cell.idle_limit_ms() == IDLE_LIMIT_FLOOR_MS);
}

#[test]
fn failures_are_counted_and_uids_are_unique() {
    let (a, b) = (cell(Health::Ready), cell(Health::Ready));
    a.note_failure();
    a.note_failure();
    assert_eq!((a.failures(), b.failures()), (2, 0));
    assert_ne!(a.uid(), b.uid());
    assert_eq!(a.incarnation(), b.incarnation());
}

#[test]
fn two_threads_counting_lose_nothing() {
    let cell = cell(Health::Ready);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..10_000 {
                    cell.enter();
                    cell.enter();
                    cell.leave();
                }
            });
        }
    });
    assert_eq!(cell.in_flight(), 20_000);
}
