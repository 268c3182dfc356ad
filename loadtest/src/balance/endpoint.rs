//! An endpoint that serves so many requests at once, each for a drawn time; more wait inside. It can go down, which resets its
//! connections, and come up again on its port, and it says in `X-Router-Load` how busy it is. A thread per connection; nobody
//! measures its speed.

use crate::failure::{Fallible, failure};
use crate::{launch, origin};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long the port may stay taken.
const BIND_WITHIN: Duration = Duration::from_secs(5);

/// The endpoint.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// Where it listens while it is up.
    pub(super) address: SocketAddr,
    state: Arc<State>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct State {
    body: Vec<u8>,
    mean: Duration,
    free: Mutex<usize>,
    freed: Condvar,
    in_hand: AtomicUsize,
    /// Average of the last times in microseconds, from the request's coming.
    took_us: AtomicU64,
    draws: AtomicU64,
    answered: AtomicU64,
    is_down: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Endpoint {
    /// Starts one on a free address.
    pub(super) fn start(slots: usize, mean: Duration) -> Fallible<Self> {
        let body = origin::body("/").ok_or_else(|| failure("the origin has no /"))?.to_vec();
        let state = Arc::new(State {
            body,
            mean,
            free: Mutex::new(slots),
            freed: Condvar::new(),
            in_hand: AtomicUsize::new(0),
            took_us: AtomicU64::new(0),
            draws: AtomicU64::new(1),
            answered: AtomicU64::new(0),
            is_down: AtomicBool::new(true),
            streams: Mutex::default(),
        });
        let mut this = Self { address: launch::free_address()?, state, accepting: None };
        this.up()?;
        Ok(this)
    }

    /// Requests answered so far.
    pub(super) fn answered(&self) -> u64 {
        self.state.answered.load(Ordering::Acquire)
    }

    /// Begins to listen.
    pub(super) fn up(&mut self) -> Fallible<()> {
        let until = Instant::now() + BIND_WITHIN;
        let listener = loop {
            match TcpListener::bind(self.address) {
                Ok(listener) => break listener,
                Err(error) if Instant::now() > until => return Err(error.into()),
                Err(_) => thread::sleep(Duration::from_millis(1)),
            }
        };
        self.state.is_down.store(false, Ordering::Release);
        let state = Arc::clone(&self.state);
        self.accepting = Some(thread::spawn(move || accept(&listener, &state)));
        Ok(())
    }

    /// Stops listening and resets every connection.
    pub(super) fn down(&mut self) {
        if self.state.is_down.swap(true, Ordering::AcqRel) {
            return;
        }
        let _wakes_the_accept = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _panicked = accepting.join();
        }
        for stream in locked(&self.state.streams).drain(..) {
            let _gone = rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
            let _wakes_its_thread = stream.shutdown(Shutdown::Read);
        }
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.down();
    }
}

fn accept(listener: &TcpListener, state: &Arc<State>) {
    for stream in listener.incoming().flatten() {
        if state.is_down.load(Ordering::Acquire) {
            return;
        }
        if let Ok(copy) = stream.try_clone() {
            locked(&state.streams).push(copy);
        }
        let state = Arc::clone(state);
        thread::spawn(move || state.serve(stream));
    }
}

impl State {
    /// Answers requests without a body, which is what the load sends.
    fn serve(&self, mut stream: TcpStream) {
        let _slower_without = stream.set_nodelay(true);
        let (mut held, mut piece) = (Vec::new(), [0; 4096]);
        while let Ok(count @ 1..) = stream.read(&mut piece) {
            held.extend_from_slice(piece.get(..count).unwrap_or(&[]));
            while let Some(end) = held.windows(4).position(|four| four == b"\r\n\r\n") {
                held.drain(..end + 4);
                let load = self.work();
                if self.is_down.load(Ordering::Acquire) || stream.write_all(&self.answer(load)).is_err() {
                    return;
                }
                self.answered.fetch_add(1, Ordering::AcqRel);
            }
        }
    }

    /// Waits for a slot and then for the time of one request; gives what is in hand after it, and what one takes.
    fn work(&self) -> (usize, u64) {
        let began = Instant::now();
        self.in_hand.fetch_add(1, Ordering::AcqRel);
        let free = locked(&self.free);
        let mut free = self.freed.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        drop(free);
        thread::sleep(self.drawn());
        *locked(&self.free) += 1;
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

    fn answer(&self, (in_hand, took_us): (usize, u64)) -> Vec<u8> {
        let load = format!("X-Router-Load: requests={in_hand}, latency_us={took_us}");
        let head = format!("HTTP/1.1 200 OK\r\n{load}\r\nContent-Length: {}\r\n\r\n", self.body.len());
        [head.as_bytes(), &self.body].concat()
    }
}
