//! What checks of rate limits are measured by: ours as the router does it, governor's own keyed store, and a map behind a mutex.
//! Measures nothing itself.

use std::cell::Cell;
use std::collections::HashMap;
use std::hash::RandomState;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::sync::{Barrier, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ekiden_config::model::{Cost, KeyPart, Limit, LimitFields, LimitUnit, MissingKey, Rate};
use ekiden_core::policy::limit::{LimitPlace, Limiters, Maker, Takes, Turn, take_of_client};
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::HashMapStateStore;
use governor::state::{InMemoryState, NotKeyed, StateStore};
use governor::{Quota, RateLimiter};

/// Keys of a measurement with many.
pub const KEYS: usize = 10_000;
/// Time between two checks of one thread, in nanoseconds: long enough that all pass, of two threads too.
pub const STEP_NS: u64 = 4_000;

/// One limit by client, of a rate that all checks pass.
pub fn limiters(workers: usize) -> Limiters {
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
    Limiters::new(&[limit], &LimitPlace::default(), None, Maker { workers, seed: [7, 9] })
}

fn quota() -> Quota {
    let burst = NonZeroU32::new(1000).expect("not zero");
    Quota::with_period(Duration::from_micros(1)).expect("not zero").allow_burst(burst)
}

/// The client of a number.
pub fn client(number: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + u32::try_from(number).unwrap_or(0)))
}

/// Clients in no order, as they come.
pub fn clients() -> Vec<IpAddr> {
    let mut random = fastrand::Rng::with_seed(7);
    (0..1 << 16).map(|_| client(random.usize(..KEYS))).collect()
}

/// As the router does it: the request's client asked for, the verdict counted.
pub fn check(limits: &Limiters, client: IpAddr, worker: usize, now_ns: u64) -> bool {
    let mut takes = Takes::new();
    take_of_client(limits.list(), Some(client), Turn { worker, now_ns }, &mut takes).is_ok()
}

/// A clock that each check moves on.
#[derive(Debug, Default)]
pub struct Steps(Cell<u64>);

impl Steps {
    /// One that stands at a time.
    pub fn at(now_ns: u64) -> Self {
        Self(Cell::new(now_ns))
    }
}

impl Clock for Steps {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.set(self.0.get() + STEP_NS);
        Nanos::from(self.0.get())
    }
}

/// Governor's store as a map behind a mutex of the standard library.
#[derive(Debug, Default)]
pub struct MutexMap(Mutex<HashMap<IpAddr, u64>>);

impl StateStore for &MutexMap {
    type Key = IpAddr;

    fn measure_and_replace<T, F, E>(&self, key: &IpAddr, judge: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (passed, even) = judge(map.get(key).copied().map(Nanos::from))?;
        map.insert(*key, even.as_u64());
        Ok(passed)
    }
}

/// Governor over a store.
pub type Bare<S> = RateLimiter<IpAddr, S, Steps, NoOpMiddleware<Nanos>>;

/// Governor with its own keyed store.
pub fn governor() -> Bare<HashMapStateStore<IpAddr, RandomState>> {
    RateLimiter::new(quota(), HashMapStateStore::default(), Steps::default())
}

/// Governor over the map, at a time.
pub fn mutex(map: &MutexMap, now_ns: u64) -> Bare<&MutexMap> {
    RateLimiter::new(quota(), map, Steps::at(now_ns))
}

/// A check of governor's state of one key, at a time.
pub fn check_bare(state: &InMemoryState, now_ns: u64) -> bool {
    let judged = |before: Option<Nanos>| -> Result<((), Nanos), ()> {
        let next = before.map_or(0, Nanos::as_u64).max(now_ns) + 1_000;
        if next <= now_ns + 1_000_000 { Ok(((), Nanos::from(next))) } else { Err(()) }
    };
    state.measure_and_replace(&NotKeyed::NonKey, judged).is_ok()
}

/// Time of `count` checks by each of so many threads at once, begun together. A check gets its thread and its time.
pub fn together(threads: usize, count: u64, check: impl Fn(usize, u64) -> bool + Sync) -> Duration {
    let start = Barrier::new(threads + 1);
    thread::scope(|scope| {
        for worker in 0..threads {
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
