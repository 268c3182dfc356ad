//! Benchmarks of rate limits: nanoseconds per check with many keys and with one key from two threads, beside governor alone
//! and a map behind a mutex. The whole runs under a minute.
//!
//! `cargo bench -p ekiden-benches --bench limits` measures; with `-- --test` each runs once. `loadtest limits` records the same.

use std::cell::Cell;
use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use ekiden_benches::checks::{
    MutexMap, STEP_NS, check, check_bare, client, clients, governor, limiters, mutex, together,
};
use governor::state::InMemoryState;

fn many_keys(c: &mut Criterion) {
    let (clients, limits) = (clients(), limiters(2));
    let mut group = c.benchmark_group("limit/10000_keys");
    let (mut turn, mut now_ns) = (0, 0);
    group.bench_function("ekiden", |b| {
        b.iter(|| {
            (turn, now_ns) = ((turn + 1) % clients.len(), now_ns + STEP_NS);
            black_box(check(&limits, clients[turn], 0, now_ns))
        });
    });
    let bare = governor();
    group.bench_function("governor_keyed", |b| {
        b.iter(|| {
            turn = (turn + 1) % clients.len();
            black_box(bare.check_key(&clients[turn]).is_ok())
        });
    });
    let map = MutexMap::default();
    let locked = mutex(&map, 0);
    group.bench_function("mutex_map", |b| {
        b.iter(|| {
            turn = (turn + 1) % clients.len();
            black_box(locked.check_key(&clients[turn]).is_ok())
        });
    });
    group.finish();
}

fn one_key_from_two_threads(c: &mut Criterion) {
    let mut group = c.benchmark_group("limit/one_key_2_threads");
    let limits = limiters(2);
    // Each measurement goes on where the one before ended.
    let base = Cell::new(0);
    let advance = |count: u64| base.replace(base.get() + count * STEP_NS);
    group.bench_function("ekiden", |b| {
        b.iter_custom(|count| {
            let from = advance(count);
            together(2, count, |worker, now| check(&limits, client(1), worker, from + now))
        });
    });
    let state = InMemoryState::default();
    group.bench_function("governor_direct", |b| {
        b.iter_custom(|count| {
            let from = advance(count);
            together(2, count, |_, now| check_bare(&state, from + now))
        });
    });
    let map = MutexMap::default();
    group.bench_function("mutex_map", |b| {
        b.iter_custom(|count| {
            let from = advance(count);
            together(2, count, |_, now| mutex(&map, from + now).check_key(&client(1)).is_ok())
        });
    });
    group.finish();
}

/// A flood of keys that never come again: what an attacker makes a check cost.
fn keys_that_never_return(c: &mut Criterion) {
    let limits = limiters(2);
    let mut number = 0;
    c.bench_function("limit/every_key_new", |b| {
        b.iter(|| {
            number += 1;
            black_box(check(&limits, client(number), 0, 1_000))
        });
    });
}

criterion_group! {
    name = limits;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_millis(1500))
        .sample_size(30);
    targets = many_keys, one_key_from_two_threads, keys_that_never_return
}
criterion_main!(limits);
