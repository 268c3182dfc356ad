//! Benchmarks of rate limits: nanoseconds per check with many keys and with one key from two threads, beside governor alone
//! and a map behind a mutex. The whole runs under a minute.
//!
//! `cargo bench -p ekiden-benches --bench limits` measures; with `-- --test` each runs once.

use std::cell::Cell;
use std::collections::HashMap;
use std::hash::RandomState;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use ekiden_benches::NoFields;
use ekiden_config::model::{Cost, KeyPart, Limit, LimitFields, LimitUnit, MissingKey, Rate};
use ekiden_core::policy::limit::{Asked, LimitPlace, Limiters, Maker, Takes, Turn, take};
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::HashMapStateStore;
use governor::state::{InMemoryState, NotKeyed, StateStore};
use governor::{Quota, RateLimiter};

const KEYS: usize = 10_000;
/// Time between two checks of one thread: long enough that all pass, of two threads too.
const STEP_NS: u64 = 4_000;

fn limiters() -> Limiters {
    let limit = Limit {
        name: "bench".into(),
        unit: LimitUnit::Rate,
        rate: Rate { count: 1_000_000, per: Duration::from_secs(1), burst: 1000 },
        key: vec![KeyPart::Client],
        missing: MissingKey::Share,
        cost: Cost::default(),
        except: Vec::new(),
        shadow: false,
        fields: LimitFields::Refused,
        keys: 65_536,
        shared: None,
    };
    Limiters::new(&[limit], &LimitPlace::default(), None, Maker { workers: 2, seed: [7, 9] })
}

fn quota() -> Quota {
    let burst = NonZeroU32::new(1000).expect("not zero");
    Quota::with_period(Duration::from_micros(1)).expect("not zero").allow_burst(burst)
}

fn client(number: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + u32::try_from(number).unwrap_or(0)))
}

/// Clients in no order, as they come.
fn clients() -> Vec<IpAddr> {
    let mut random = fastrand::Rng::with_seed(7);
    (0..1 << 16).map(|_| client(random.usize(..KEYS))).collect()
}

/// As the router does it: the request asked for its key, the verdict counted.
fn check(limits: &Limiters, client: IpAddr, worker: usize, now_ns: u64) -> bool {
    let asked = Asked {
        client: Some(client),
        host: "a",
        method: "GET",
        path: "/",
        query: "",
        fields: &NoFields,
        api_key: None,
        client_cert: None,
    };
    let mut takes = Takes::new();
    take(limits.list(), &asked, Turn { worker, now_ns }, &mut takes).is_ok()
}

/// A clock that each check moves on.
#[derive(Default)]
struct Steps(Cell<u64>);

impl Clock for Steps {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.set(self.0.get() + STEP_NS);
        Nanos::from(self.0.get())
    }
}

/// Governor's store as a map behind a mutex of the standard library.
#[derive(Default)]
struct MutexMap(Mutex<HashMap<IpAddr, u64>>);

impl StateStore for &MutexMap {
    type Key = IpAddr;

    fn measure_and_replace<T, F, E>(&self, key: &IpAddr, judge: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut map = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (passed, even) = judge(map.get(key).copied().map(Nanos::from))?;
        map.insert(*key, even.as_u64());
        Ok(passed)
    }
}

type Bare<S> = RateLimiter<IpAddr, S, Steps, NoOpMiddleware<Nanos>>;

fn many_keys(c: &mut Criterion) {
    let (clients, limits) = (clients(), limiters());
    let mut group = c.benchmark_group("limit/10000_keys");
    let (mut turn, mut now_ns) = (0, 0);
    group.bench_function("ekiden", |b| {
        b.iter(|| {
            (turn, now_ns) = ((turn + 1) % clients.len(), now_ns + STEP_NS);
            black_box(check(&limits, clients[turn], 0, now_ns))
        });
    });
    let governor: Bare<HashMapStateStore<IpAddr, RandomState>> =
        RateLimiter::new(quota(), HashMapStateStore::default(), Steps::default());
    group.bench_function("governor_keyed", |b| {
        b.iter(|| {
            turn = (turn + 1) % clients.len();
            black_box(governor.check_key(&clients[turn]).is_ok())
        });
    });
    let map = MutexMap::default();
    let mutex: Bare<&MutexMap> = RateLimiter::new(quota(), &map, Steps::default());
    group.bench_function("mutex_map", |b| {
        b.iter(|| {
            turn = (turn + 1) % clients.len();
            black_box(mutex.check_key(&clients[turn]).is_ok())
        });
    });
    group.finish();
}

/// Time of `count` checks by each of two threads at once, begun together.
fn together(count: u64, check: impl Fn(usize, u64) -> bool + Sync) -> Duration {
    let start = Barrier::new(3);
    thread::scope(|scope| {
        for worker in 0..2 {
            let (start, check) = (&start, &check);
            scope.spawn(move || {
                start.wait();
                for step in 1..=count {
                    black_box(check(worker, step * STEP_NS));
                }
            });
        }
        start.wait();
        Instant::now()
    })
    .elapsed()
}

fn one_key_from_two_threads(c: &mut Criterion) {
    let mut group = c.benchmark_group("limit/one_key_2_threads");
    let limits = limiters();
    // Each measurement goes on where the one before ended.
    let base = Cell::new(0);
    let advance = |count: u64| base.replace(base.get() + count * STEP_NS);
    group.bench_function("ekiden", |b| {
        b.iter_custom(|count| {
            let from = advance(count);
            together(count, |worker, now| check(&limits, client(1), worker, from + now))
        });
    });
    let state = InMemoryState::default();
    group.bench_function("governor_direct", |b| {
        b.iter_custom(|count| {
            let from = advance(count);
            together(count, |_, now| {
                let clock = Steps(Cell::new(from + now));
                let judged = |before: Option<Nanos>| -> Result<((), Nanos), ()> {
                    let (even, now) = (before.map_or(0, Nanos::as_u64), clock.now().as_u64());
                    let next = even.max(now) + 1_000;
                    if next <= now + 1_000_000 { Ok(((), Nanos::from(next))) } else { Err(()) }
                };
                state.measure_and_replace(&NotKeyed::NonKey, judged).is_ok()
            })
        });
    });
    let map = MutexMap::default();
    group.bench_function("mutex_map", |b| {
        b.iter_custom(|count| {
            let from = advance(count);
            together(count, |_, now| {
                let limiter: Bare<&MutexMap> = RateLimiter::new(quota(), &map, Steps(Cell::new(from + now)));
                limiter.check_key(&client(1)).is_ok()
            })
        });
    });
    group.finish();
}

/// A flood of keys that never come again: what an attacker makes a check cost.
fn keys_that_never_return(c: &mut Criterion) {
    let limits = limiters();
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
