//! Nanoseconds of a check alone: of many keys by one thread, and of one key by all at once, beside governor's own and a map behind a
//! mutex. Without sockets and without a router.

use std::hint::black_box;
use std::time::Instant;

use ekiden_benches::checks::{
    KEYS, MutexMap, STEP_NS, check, check_bare, client, clients, governor, limiters, mutex, together,
};
use governor::state::InMemoryState;

/// Highest allowed time of a check of one of many keys, in nanoseconds.
pub(super) const KEYED: f64 = 60.0;
/// The same of one key that all threads check at once.
pub(super) const CONTENDED: f64 = 150.0;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    /// Rounds over all of them, whose medians count.
    pub(super) rounds: usize,
    /// Checks of each thread in a round.
    pub(super) count: u64,
}

/// Nanoseconds per check.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) ours: f64,
    pub(super) governor: f64,
    pub(super) mutex: f64,
}

/// What was measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measured {
    /// Of many keys.
    pub(super) keyed: Times,
    /// Of one key by all threads at once.
    pub(super) contended: Times,
    /// How many of them.
    pub(super) threads: usize,
}

/// How many keys there are.
pub(super) const fn keys() -> usize {
    KEYS
}

/// Measures both, in turns.
pub(super) fn measure(size: Size) -> Measured {
    let threads = std::thread::available_parallelism().map_or(2, usize::from).max(2);
    Measured { keyed: keyed(size), contended: contended(size, threads), threads }
}

fn keyed(size: Size) -> Times {
    let (clients, limits, bare, map) = (clients(), limiters(1), governor(), MutexMap::default());
    let locked = mutex(&map, 0);
    let mut now_ns = 0;
    let mut all = [Vec::new(), Vec::new(), Vec::new()];
    // The first round fills the stores, and does not count.
    for round in 0..=size.rounds {
        let ours = each(size.count, &clients, |client| {
            now_ns += STEP_NS;
            check(&limits, client, 0, now_ns)
        });
        let theirs = each(size.count, &clients, |client| bare.check_key(&client).is_ok());
        let mutexed = each(size.count, &clients, |client| locked.check_key(&client).is_ok());
        if round > 0 {
            all.iter_mut().zip([ours, theirs, mutexed]).for_each(|(all, one)| all.push(one));
        }
    }
    times(all)
}

fn each(count: u64, clients: &[std::net::IpAddr], mut check: impl FnMut(std::net::IpAddr) -> bool) -> f64 {
    let began = Instant::now();
    for client in clients.iter().cycle().take(usize::try_from(count).unwrap_or(usize::MAX)) {
        black_box(check(*client));
    }
    began.elapsed().as_nanos() as f64 / count as f64
}

fn contended(size: Size, threads: usize) -> Times {
    let (limits, state, map) = (limiters(threads), InMemoryState::default(), MutexMap::default());
    let mut all = [Vec::new(), Vec::new(), Vec::new()];
    for round in 0..=size.rounds {
        // Each round goes on where the one before ended.
        let from = round as u64 * size.count * STEP_NS;
        let one = client(1);
        let taken = [
            together(threads, size.count, |worker, now| check(&limits, one, worker, from + now)),
            together(threads, size.count, |_, now| check_bare(&state, from + now)),
            together(threads, size.count, |_, now| mutex(&map, from + now).check_key(&one).is_ok()),
        ];
        if round > 0 {
            let per_check = taken.map(|time| time.as_nanos() as f64 / size.count as f64);
            all.iter_mut().zip(per_check).for_each(|(all, one)| all.push(one));
        }
    }
    times(all)
}

fn times(all: [Vec<f64>; 3]) -> Times {
    let [ours, governor, mutex] = all.map(|mut all| {
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied().unwrap_or(0.0)
    });
    Times { ours, governor, mutex }
}
