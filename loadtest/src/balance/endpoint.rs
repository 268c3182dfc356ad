//! What an endpoint answers that serves so many requests at once, each for a drawn time; more wait inside. It says in
//! `X-Router-Load` how busy it is.

use crate::failure::{Fallible, failure};
use crate::killable::{self, Serve};
use crate::origin;
use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The endpoint.
pub(super) type Endpoint = killable::Endpoint<Throttled>;

/// Serves so many at once.
#[derive(Debug)]
pub(super) struct Throttled {
    body: Vec<u8>,
    mean: Duration,
    free: Mutex<usize>,
    freed: Condvar,
    in_hand: AtomicUsize,
    /// Average of the last times in microseconds, from the request's coming.
    took_us: AtomicU64,
    draws: AtomicU64,
}

/// Starts one on a free address.
pub(super) fn start(slots: usize, mean: Duration) -> Fallible<Endpoint> {
    let body = origin::body("/").ok_or_else(|| failure("the origin has no /"))?.to_vec();
    Endpoint::start(Throttled {
        body,
        mean,
        free: Mutex::new(slots),
        freed: Condvar::new(),
        in_hand: AtomicUsize::new(0),
        took_us: AtomicU64::new(0),
        draws: AtomicU64::new(1),
    })
}

impl Serve for Throttled {
    fn answer(&self) -> (Cow<'_, [u8]>, bool) {
        let (in_hand, took_us) = self.work();
        let load = format!("X-Router-Load: requests={in_hand}, latency_us={took_us}");
        let head = format!("HTTP/1.1 200 OK\r\n{load}\r\nContent-Length: {}\r\n\r\n", self.body.len());
        (Cow::Owned([head.as_bytes(), &self.body].concat()), true)
    }
}

impl Throttled {
    fn free(&self) -> MutexGuard<'_, usize> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a slot and then for the time of one request; gives what is in hand after it, and what one takes.
    fn work(&self) -> (usize, u64) {
        let began = Instant::now();
        self.in_hand.fetch_add(1, Ordering::AcqRel);
        let free = self.freed.wait_while(self.free(), |free| *free == 0);
        *free.unwrap_or_else(PoisonError::into_inner) -= 1;
        thread::sleep(self.drawn());
        *self.free() += 1;
        self.freed.notify_one();
        let took_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let before = self.took_us.load(Ordering::Relaxed);
        let average = if before == 0 { took_us } else { (before * 7 + took_us) / 8 };
        self.took_us.store(average, Ordering::Relaxed);
        (self.in_hand.fetch_sub(1, Ordering::AcqRel).saturating_sub(1), average)
    }

    /// Exponential: what is drawn is the same in every run, in the order of requests.
    fn drawn(&self) -> Duration {
        let mut z = self.draws.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let u = ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64;
        self.mean.mul_f64(-(1.0 - u).ln())
    }
}
