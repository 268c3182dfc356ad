//! The bound against a simulated endpoint: so many servers, a line before them, and clients who ask without end.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use super::*;
use crate::cluster::fixture::random;

/// One endpoint and the open stream of its clients, event by event; time in microseconds.
struct World {
    adaptive: Adaptive,
    policy: AdaptivePolicy,
    now_us: u64,
    servers: usize,
    service_us: f64,
    busy: usize,
    line: VecDeque<u64>,
    /// End of service, and when the request came.
    ends: BinaryHeap<Reverse<(u64, u64)>>,
    next_us: u64,
    random: Box<dyn FnMut() -> u64>,
}

impl World {
    fn new(policy: AdaptivePolicy, servers: usize, service_us: f64) -> Self {
        Self {
            adaptive: Adaptive::new(&policy),
            policy,
            now_us: 1_000,
            servers,
            service_us,
            busy: 0,
            line: VecDeque::new(),
            ends: BinaryHeap::new(),
            next_us: 1_000,
            random: Box::new(random(7)),
        }
    }

    fn drawn(&mut self, mean: f64) -> u64 {
        let u = ((self.random)() >> 11) as f64 / (1u64 << 53) as f64;
        (-(1.0 - u).ln() * mean).max(1.0) as u64
    }

    fn serve(&mut self) {
        while self.busy < self.servers
            && let Some(came) = self.line.pop_front()
        {
            self.busy += 1;
            let end = self.now_us + self.drawn(self.service_us);
            self.ends.push(Reverse((end, came)));
        }
    }

    /// Runs for a while at so many requests a second, and gives the limits after each tenth of a second.
    fn run(&mut self, rate: f64, seconds: f64) -> Vec<u32> {
        let until = self.now_us + (seconds * 1e6) as u64;
        let (mut limits, mut look) = (Vec::new(), self.now_us + 100_000);
        self.next_us = self.next_us.max(self.now_us);
        loop {
            let end = self.ends.peek().map_or(u64::MAX, |Reverse((end, _))| *end);
            let next = end.min(self.next_us);
            if next > until {
                self.now_us = until;
                return limits;
            }
            self.now_us = next;
            while look <= next {
                limits.push(self.adaptive.limit());
                look += 100_000;
            }
            if end <= self.next_us {
                let Some(Reverse((_, came))) = self.ends.pop() else { return limits };
                self.busy -= 1;
                self.adaptive.leave();
                self.adaptive.note(&self.policy, next - came, next);
            } else {
                self.next_us = next + self.drawn(1e6 / rate);
                if self.adaptive.enter(&self.policy, next) {
                    self.line.push_back(next);
                }
            }
            self.serve();
        }
    }
}

fn mean(limits: &[u32]) -> f64 {
    limits.iter().map(|limit| f64::from(*limit)).sum::<f64>() / limits.len().max(1) as f64
}

fn policy() -> AdaptivePolicy {
    AdaptivePolicy { min: 4, ..AdaptivePolicy::default() }
}

/// Twice as many requests as can be served: the limit rests between what the endpoint works on at a time and twice that, whether it
/// began below or above.
#[test]
fn the_limit_finds_the_knee() {
    for servers in [8, 32, 100, 300] {
        let service_us = 20_000.0;
        let mut world = World::new(policy(), servers, service_us);
        let rate = 2.0 * servers as f64 / (service_us / 1e6);
        world.run(rate, 20.0);
        let limits = world.run(rate, 40.0);
        let (mean, knee) = (mean(&limits), servers as f64);
        assert!(mean >= knee && mean <= 2.2 * knee, "{servers} servers: {mean}");
        assert!(world.adaptive.refused() > 0);
    }
}

/// Where nobody is refused the limit stays out of the way.
#[test]
fn a_cluster_with_room_to_spare_refuses_nothing() {
    let mut world = World::new(policy(), 50, 10_000.0);
    // 25 in flight on average.
    world.run(2_500.0, 5.0);
    let before = world.adaptive.refused();
    let limits = world.run(2_500.0, 60.0);
    let refused = world.adaptive.refused() - before;
    assert!(refused < 1_500, "{refused} of 150,000");
    assert!(mean(&limits) > 35.0, "{}", mean(&limits));
}

/// The endpoint loses three quarters of its servers: the limit follows within a few seconds, and comes back with them.
#[test]
fn the_limit_falls_when_the_endpoint_slows_and_rises_again() {
    let mut world = World::new(policy(), 64, 20_000.0);
    let rate = 5_000.0;
    world.run(rate, 20.0);
    let before = mean(&world.run(rate, 20.0));
    world.servers = 16;
    world.run(rate, 5.0);
    let slow = mean(&world.run(rate, 20.0));
    world.servers = 64;
    world.run(rate, 5.0);
    let after = mean(&world.run(rate, 20.0));
    assert!(slow < before / 2.0, "{before}, then {slow}");
    assert!(slow >= 12.0, "{slow}");
    assert!(after > before * 0.7, "{before}, {slow}, then {after}");
}

/// Under steady load the limit rests: no window leads far from the mean.
#[test]
fn the_limit_does_not_flap() {
    let mut world = World::new(policy(), 64, 20_000.0);
    world.run(6_000.0, 20.0);
    let limits = world.run(6_000.0, 60.0);
    let mean = mean(&limits);
    let far = limits.iter().filter(|limit| (f64::from(**limit) - mean).abs() > mean * 0.35).count();
    assert!(far * 20 < limits.len(), "{far} of {} are far from {mean}", limits.len());
}

/// The app takes three times as long as before, without a queue, and the limit falls to its least: it finds out and comes back.
#[test]
fn the_limit_comes_back_from_its_least() {
    let policy = AdaptivePolicy::default();
    let mut world = World::new(policy, 200, 10_000.0);
    // 60 in flight on average, then 180.
    world.run(6_000.0, 10.0);
    world.service_us = 30_000.0;
    let limits = world.run(6_000.0, 10.0);
    assert!(limits.contains(&policy.min), "it is no test where the limit does not fall: {limits:?}");
    // What one look finds of so few requests is not exact; the next ones see more of them.
    world.run(6_000.0, policy.look.as_secs_f64() * 3.0);
    let limits = world.run(6_000.0, 10.0);
    assert!(mean(&limits) > 100.0, "{limits:?}");
}

/// Requests that are never answered keep a look from its end: it is given up, and what the limit leaves room for is let in.
#[test]
fn a_look_is_given_up_where_nothing_is_answered() {
    let policy = AdaptivePolicy::default();
    let adaptive = Adaptive::new(&policy);
    let mut now_us = 1_000;
    while Phase::of(adaptive.phase.load(Relaxed)) != Phase::Drains {
        now_us += 2_000;
        adaptive.note(&policy, 5_000, now_us);
    }
    while adaptive.enter(&policy, now_us) {}
    let limit = adaptive.limit();
    assert_eq!(adaptive.in_flight(), limit / 2, "a look halves the limit");
    assert!(!adaptive.enter(&policy, now_us + 900_000));
    assert!(adaptive.enter(&policy, now_us + 1_100_000));
    assert_eq!((adaptive.limit(), adaptive.refused()), (limit, 2));
    assert_eq!(Phase::of(adaptive.phase.load(Relaxed)), Phase::Follows);
}

#[test]
fn the_policy_bounds_it() {
    let narrow = AdaptivePolicy { min: 10, max: 12, ..AdaptivePolicy::default() };
    let mut world = World::new(narrow, 100, 10_000.0);
    let limits = world.run(20_000.0, 10.0);
    assert!(limits.iter().all(|limit| (10..=12).contains(limit)), "{limits:?}");
    let mut world = World::new(narrow, 1, 10_000.0);
    let limits = world.run(2_000.0, 10.0);
    assert!(limits.iter().all(|limit| (10..=12).contains(limit)), "{limits:?}");
}

/// What is let in is given back whatever becomes of it, and never more than the limit is in.
#[test]
fn a_guard_gives_back() {
    use ekiden_config::names::{AppName, ClusterName};
    let cell = Arc::new(ClusterCell::new(AppName::new("shop").unwrap(), ClusterName::new("web").unwrap(), 1));
    let policy =
        AdaptivePolicy { min: 2, max: 2, look: Duration::from_secs(30), ..AdaptivePolicy::default() };
    let (one, two) = (Admitted::take(&cell, &policy, 1), Admitted::take(&cell, &policy, 1));
    assert!(one.is_some() && two.is_some());
    assert!(Admitted::take(&cell, &policy, 1).is_none());
    assert_eq!((cell.adaptive(&policy).in_flight(), cell.adaptive(&policy).refused()), (2, 1));
    drop(one);
    assert!(Admitted::take(&cell, &policy, 1).is_some());
}
