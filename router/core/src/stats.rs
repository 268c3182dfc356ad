//! Counters, gauges and histograms of the data path, sharded by worker.
//!
//! Every shard has one writer, its worker, and any number of readers (telemetry, off the workers). With one writer
//! an addition is a relaxed load and a relaxed store: no read-modify-write instruction, so no locked bus cycle and
//! no cache line taken from another worker. A reader may see a value that is a few requests old, never a torn one.
//! Shards are aligned to 128 bytes (two lines: the adjacent-line prefetcher pairs them), and the shards of a route
//! or cluster are allocated when the first request touches it. Does not format or export anything.

mod shards;
mod tls;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub use shards::{
    AffinityEnd, CLASSES, ClusterCell, ClusterShard, EJECTION_CAUSES, Ejections, FaultKind, GroupShard,
    GrpcShard, MirrorEnd, RouteCell, RouteShard, ShapingShard, WorkerShard, class,
};
pub use tls::{HandshakeFailure, TlsShard};

/// A number that only grows. One writer; see the module for why there is no read-modify-write.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Zero.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds `n`, wrapping at 2^64. Called by the one writer only: a second writer would lose counts.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// The value now. Any thread.
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that goes up and down and never below zero. One writer.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Zero.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds `n`. Called by the one writer only.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Takes `n` away, stopping at zero. Called by the one writer only.
    #[inline]
    pub fn sub(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).saturating_sub(n), Relaxed);
    }

    /// Replaces the value. Called by the one writer only.
    #[inline]
    pub fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    /// The value now. Any thread.
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Upper bounds of the histogram buckets in microseconds, both ends included; a last bucket takes the rest.
pub const BOUNDS_US: [u64; 17] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 75_000, 100_000, 250_000, 500_000, 750_000, 1_000_000,
    2_500_000, 5_000_000, 7_500_000, 10_000_000,
];

/// Buckets of a histogram: one per bound and one above the last.
pub const BUCKETS: usize = BOUNDS_US.len() + 1;

/// A distribution of durations over fixed buckets. One writer.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Counter; BUCKETS],
    sum_us: Counter,
}

/// What a histogram held at one moment. Shards are added up with [`HistogramSnapshot::merge`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HistogramSnapshot {
    /// Counts per bucket, not cumulative; index as in [`BOUNDS_US`], the last is above every bound.
    pub buckets: [u64; BUCKETS],
    /// Sum of all durations in microseconds.
    pub sum_us: u64,
}

impl HistogramSnapshot {
    /// Durations recorded: the sum of the buckets, so that count and buckets always agree.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Adds another shard's snapshot to this one.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(other.buckets) {
            *mine = mine.wrapping_add(theirs);
        }
        self.sum_us = self.sum_us.wrapping_add(other.sum_us);
    }
}

impl Histogram {
    /// Empty.
    pub const fn new() -> Self {
        Self { buckets: [const { Counter::new() }; BUCKETS], sum_us: Counter::new() }
    }

    /// Counts one duration, in microseconds. Called by the one writer, once per request.
    #[inline]
    pub fn record(&self, us: u64) {
        // A linear search: nearly every request ends in the first few buckets.
        let bucket = BOUNDS_US.iter().position(|bound| us <= *bound).unwrap_or(BUCKETS - 1);
        if let Some(counter) = self.buckets.get(bucket) {
            counter.add(1);
        }
        self.sum_us.add(us);
    }

    /// A copy of the counts. Any thread.
    pub fn snapshot(&self) -> HistogramSnapshot {
        let mut out = HistogramSnapshot { sum_us: self.sum_us.value(), ..HistogramSnapshot::default() };
        for (copy, counter) in out.buckets.iter_mut().zip(&self.buckets) {
            *copy = counter.value();
        }
        out
    }
}

#[cfg(test)]
mod tests;
