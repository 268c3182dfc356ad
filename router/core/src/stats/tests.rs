//! Counters, histograms and shards.

use std::mem::size_of;

use ekiden_config::names::{ClusterName, RouteName};

use super::{
    BOUNDS_US, BUCKETS, ClusterCell, Counter, Gauge, Histogram, RouteCell, RouteShard, WorkerShard, class,
};
use crate::cluster::fixture::app;
use crate::outcome::Cause;

#[test]
fn a_counter_adds_and_a_gauge_stops_at_zero() {
    let counter = Counter::new();
    counter.add(2);
    counter.add(3);
    assert_eq!(counter.value(), 5);
    let gauge = Gauge::new();
    gauge.add(2);
    gauge.sub(1);
    assert_eq!(gauge.value(), 1);
    gauge.sub(5);
    assert_eq!(gauge.value(), 0);
    gauge.set(9);
    assert_eq!(gauge.value(), 9);
}

#[test]
fn a_duration_falls_into_the_first_bucket_that_holds_it() {
    assert!(BOUNDS_US.windows(2).all(|pair| pair[0] < pair[1]));
    for (at, bound) in BOUNDS_US.into_iter().enumerate() {
        let histogram = Histogram::new();
        histogram.record(bound);
        histogram.record(bound + 1);
        let snapshot = histogram.snapshot();
        assert_eq!(snapshot.buckets[at], 1, "{bound} belongs to its own bucket");
        assert_eq!(snapshot.buckets[at + 1], 1, "one more to the next");
        assert_eq!((snapshot.count(), snapshot.sum_us), (2, 2 * bound + 1));
    }
    let histogram = Histogram::new();
    histogram.record(0);
    histogram.record(u64::MAX / 2);
    assert_eq!((histogram.snapshot().buckets[0], histogram.snapshot().buckets[BUCKETS - 1]), (1, 1));
}

#[test]
fn snapshots_add_up() {
    let (a, b) = (Histogram::new(), Histogram::new());
    a.record(400);
    b.record(400);
    b.record(20_000_000);
    let mut sum = a.snapshot();
    sum.merge(&b.snapshot());
    assert_eq!((sum.buckets[0], sum.buckets[BUCKETS - 1]), (2, 1));
    assert_eq!((sum.count(), sum.sum_us), (3, 20_000_800));
}

#[test]
fn classes() {
    let known = [(100, 1), (200, 2), (304, 3), (499, 4), (599, 5)];
    let unknown = [(0, 0), (99, 0), (600, 0), (999, 0)];
    for (status, place) in known.into_iter().chain(unknown) {
        assert_eq!(class(status), place, "{status}");
    }
}

#[test]
fn an_unused_route_costs_less_than_100_bytes() {
    let counts = 2 * size_of::<usize>();
    assert!(size_of::<RouteCell>() + counts < 100, "{}", size_of::<RouteCell>() + counts);
    let cell = RouteCell::new(app(), RouteName::new("r").unwrap(), 4);
    assert!(cell.shards().is_empty());
}

#[test]
fn each_worker_has_its_shard_on_lines_of_its_own() {
    let cell = RouteCell::new(app(), RouteName::new("r").unwrap(), 3);
    for worker in 0..3 {
        cell.shard(worker).ended(200);
        cell.shard(worker).bytes_in.add(worker as u64);
    }
    cell.shard(3).ended(200);
    assert_eq!(cell.shards().len(), 3, "a worker that does not exist writes elsewhere");
    let seen: Vec<_> =
        cell.shards().iter().map(|shard| (shard.requests[2].value(), shard.bytes_in.value())).collect();
    assert_eq!(seen, [(1, 0), (1, 1), (1, 2)]);
    assert_eq!(align_of::<RouteShard>(), 128);
    assert_eq!(size_of::<RouteShard>(), 256);
}

#[test]
fn a_cluster_counts_by_class() {
    let cell = ClusterCell::new(app(), ClusterName::new("web").unwrap(), 1);
    assert!(cell.shards().is_empty());
    for status in [200, 204, 502, 0] {
        cell.shard(0).ended(status);
    }
    let counts: Vec<_> = cell.shards()[0].requests.iter().map(Counter::value).collect();
    assert_eq!(counts, [1, 0, 2, 0, 0, 1]);
}

#[test]
fn a_worker_counts_every_cause() {
    let shard = WorkerShard::new();
    for cause in Cause::ALL {
        shard.ended(*cause);
    }
    shard.ended(Cause::Complete);
    assert!(shard.outcomes.iter().skip(1).all(|counter| counter.value() == 1));
    assert_eq!(shard.outcomes[Cause::Complete.index()].value(), 2);
    assert_eq!(shard.requests.value(), Cause::COUNT as u64 + 1);
}
