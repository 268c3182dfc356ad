//! Benchmarks of picks: p2c, peak_ewma and prequal over cells that are touched at random, keys by each algorithm, all of them among 10,
//! 1,000 and 100,000 endpoints, and the building of maps. The whole runs in some two minutes.
//!
//! `cargo bench -p ekiden-benches --bench sharding` measures; with `-- --test` each runs once. What has a bar says so in its name: p2c
//! 60 ns to 1,000 endpoints and 150 ns at 100,000, and peak_ewma and prequal are held to the same (prequal with the report that its
//! pick brings); ring 80 ns and maglev 20 ns at 1,000 for the lookup. How even and how stable placement is, is held by tests of core.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use ekiden_benches::{cluster_table, zoned_table};
use ekiden_config::model::{
    Balance, HotKeyPolicy, KeyPart, KeyPiece, ReplicaPick, ShardAlgorithm, ShardFallback, ShardKind,
    ShardPolicy,
};
use ekiden_core::cell::load::Load;
use ekiden_core::cluster::{Attempt, ClusterTable, Pick};
use ekiden_core::shard::pick::Ask;
use ekiden_core::shard::{Key, ShardMap};

/// The time of all picks.
const NOW_US: u64 = 1_000_000;

const ALGORITHMS: [(&str, ShardAlgorithm); 4] = [
    ("rendezvous", ShardAlgorithm::Rendezvous),
    ("ring", ShardAlgorithm::Ring),
    ("maglev", ShardAlgorithm::Maglev),
    ("ketama", ShardAlgorithm::Ketama),
];

fn words(algorithm: ShardAlgorithm, bound_percent: Option<u32>, hot: bool) -> ShardPolicy {
    ShardPolicy {
        by: vec![KeyPiece::Part(KeyPart::WholePath)],
        fallback: ShardFallback::Balance,
        algorithm,
        kind: ShardKind::Cache,
        replicas: 1,
        replica_pick: ReplicaPick::Primary,
        bound_percent,
        hot_keys: hot.then(HotKeyPolicy::default),
    }
}

fn keys() -> Vec<String> {
    (0..4096).map(|number| format!("/users/{number:08}/profile")).collect()
}

fn picker(c: &mut Criterion, name: &str, table: &ClusterTable) {
    let mut random = fastrand::Rng::with_seed(7);
    c.bench_function(name, |b| {
        b.iter(|| {
            let picked = table.pick(Attempt::after(&[]).at(NOW_US), &mut || random.u64(..));
            // As the router does it: the cell that was chosen is written.
            if let Pick::Endpoint(at) = picked
                && let Some(entry) = table.endpoint(at)
            {
                entry.cell.enter();
                entry.cell.leave();
                table.report(at, Load { requests: at % 3, latency_us: 1_000 + at % 977 }, (NOW_US, NOW_US));
            }
            black_box(picked)
        });
    });
}

/// Something is known of every endpoint, as after some requests.
fn know_latencies(table: &ClusterTable) {
    for (at, entry) in (0..).zip(table.endpoints.iter()) {
        entry.cell.note_latency(1_000 + at % 977, NOW_US);
    }
}

/// Numbers of endpoints.
const COUNTS: [usize; 3] = [10, 1_000, 100_000];

fn pickers(c: &mut Criterion) {
    for count in COUNTS {
        let bar = if count <= 1_000 { "bar 60 ns" } else { "bar 150 ns" };
        picker(c, &format!("pick/p2c/{count}/{bar}"), &cluster_table(count, Balance::P2c, None));
        let timed = cluster_table(count, Balance::PeakEwma, None);
        know_latencies(&timed);
        picker(c, &format!("pick/peak_ewma/{count}/{bar}"), &timed);
        let reporting = cluster_table(count, Balance::Prequal, None);
        know_latencies(&reporting);
        picker(c, &format!("pick/prequal/{count}/{bar}"), &reporting);
    }
    picker(c, "pick/p2c/1000 in two zones", &zoned_table(1_000, Balance::P2c));
    picker(c, "pick/round_robin/1000", &cluster_table(1_000, Balance::RoundRobin, None));
    picker(c, "pick/random/1000", &cluster_table(1_000, Balance::Random, None));
    picker(c, "pick/least_request/10", &cluster_table(10, Balance::LeastRequest, None));
}

/// The lookup alone: a hash that is there already, and its endpoint.
fn lookups(c: &mut Criterion) {
    let texts = keys();
    for (name, algorithm) in ALGORITHMS {
        for count in COUNTS {
            // nginx has no cluster of 100,000, and its points would be 16 million.
            if algorithm == ShardAlgorithm::Ketama && count > 1_000 {
                continue;
            }
            let bar = match (algorithm, count) {
                (ShardAlgorithm::Ring, 1_000) => "/bar 80 ns",
                (ShardAlgorithm::Maglev, 1_000) => "/bar 20 ns",
                _ => "",
            };
            let table = cluster_table(count, Balance::P2c, None);
            let map = ShardMap::new(algorithm, &table.cluster.endpoints);
            let keys: Vec<Key<'_>> = texts.iter().map(|text| Key::new(text.as_bytes())).collect();
            let mut turn = 0;
            c.bench_function(&format!("shard/lookup/{name}/{count}{bar}"), |b| {
                b.iter(|| {
                    turn = (turn + 1) % keys.len();
                    black_box(map.owner(keys[turn]))
                });
            });
        }
    }
}

/// All of a pick: hash of a text of 23 bytes, lookup, readiness, bound, and the count of the key.
fn whole_picks(c: &mut Criterion) {
    let texts = keys();
    for (name, bound, hot) in
        [("plain", None, false), ("bound", Some(125), false), ("bound_and_hot", Some(125), true)]
    {
        let table = cluster_table(10, Balance::P2c, Some(words(ShardAlgorithm::Rendezvous, bound, hot)));
        let (mut turn, mut random) = (0, fastrand::Rng::with_seed(7));
        c.bench_function(&format!("shard/pick/{name}/10"), |b| {
            b.iter(|| {
                turn = (turn + 1) % texts.len();
                let ask = Ask {
                    key: Key::new(texts[turn].as_bytes()),
                    attempt: Attempt::after(&[]),
                    worker: 0,
                    in_flight: &|| 100,
                };
                let shards = table.shards()?;
                Some(black_box(table.pick_shard(shards, &ask, &mut || random.u64(..))))
            });
        });
    }
}

fn builds(c: &mut Criterion) {
    for (name, algorithm) in ALGORITHMS {
        let table = cluster_table(1_000, Balance::P2c, None);
        c.bench_function(&format!("shard/build/{name}/1000"), |b| {
            b.iter_batched(
                || table.cluster.endpoints.clone(),
                |endpoints| ShardMap::new(algorithm, &endpoints),
                BatchSize::LargeInput,
            );
        });
    }
}

criterion_group! {
    name = sharding;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .sample_size(20);
    targets = pickers, lookups, whole_picks, builds
}
criterion_main!(sharding);
