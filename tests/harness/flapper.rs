//! An origin that can go down and come up again on its port, as a process does that is killed and started, and that
//! answers with the status it is told.
//!
//! Down, it refuses connects and has reset every connection. Knows bodies with a length only. Counts and does not judge.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::live::request_length;
use crate::{free_port, until};

/// Time it takes for `/slow`.
const SLOW: Duration = Duration::from_millis(200);

/// The origin.
#[derive(Debug)]
pub struct Flapper {
    /// Where it listens while it is up.
    pub address: SocketAddr,
    state: Arc<State>,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct State {
    status: AtomicU16,
    check_status: AtomicU16,
    extra: Mutex<String>,
    requests: AtomicU64,
    checks: AtomicU64,
    is_down: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Flapper {
    /// Starts one that is up and answers 200.
    pub fn start() -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let state = Arc::new(State::default());
        state.status.store(200, Ordering::Release);
        state.check_status.store(200, Ordering::Release);
        state.is_down.store(true, Ordering::Release);
        let this = Self { address, state, accepting: Mutex::new(None) };
        this.up();
        this
    }

    /// Begins to listen. Does nothing while it is up.
    ///
    /// # Panics
    /// When somebody else has taken the port.
    pub fn up(&self) {
        if !self.state.is_down.swap(false, Ordering::AcqRel) {
            return;
        }
        let listener = until("the port of the flapper", || TcpListener::bind(self.address).ok());
        let state = Arc::clone(&self.state);
        *locked(&self.accepting) = Some(thread::spawn(move || accept(&listener, &state)));
    }

    /// Stops listening and resets every connection. Does nothing while it is down.
    pub fn down(&self) {
        if self.state.is_down.swap(true, Ordering::AcqRel) {
            return;
        }
        let _wakes_the_accept = TcpStream::connect(self.address);
        if let Some(accepting) = locked(&self.accepting).take() {
            let _panicked = accepting.join();
        }
        for stream in locked(&self.state.streams).drain(..) {
            let _gone = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            let _wakes_its_thread = stream.shutdown(Shutdown::Read);
        }
    }

    /// Answers requests with this status from now on.
    pub fn set_status(&self, status: u16) {
        self.state.status.store(status, Ordering::Release);
    }

    /// Answers checks (`/healthz`) with this status from now on.
    pub fn set_check_status(&self, status: u16) {
        self.state.check_status.store(status, Ordering::Release);
    }

    /// Sends these field lines, each ended by CRLF, with every answer from now on.
    pub fn set_fields(&self, lines: &str) {
        lines.clone_into(&mut locked(&self.state.extra));
    }

    /// Requests answered so far, checks aside.
    pub fn requests(&self) -> u64 {
        self.state.requests.load(Ordering::Acquire)
    }

    /// Checks answered so far.
    pub fn checks(&self) -> u64 {
        self.state.checks.load(Ordering::Acquire)
    }
}

impl Drop for Flapper {
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
        thread::spawn(move || serve(stream, &state));
    }
}

fn serve(mut stream: TcpStream, state: &State) {
    let _slower_without = stream.set_nodelay(true);
    let mut held = Vec::new();
    let mut piece = vec![0; 16 << 10];
    while let Ok(count @ 1..) = stream.read(&mut piece) {
        held.extend_from_slice(&piece[..count]);
        while let Some(length) = request_length(&held) {
            let request: Vec<u8> = held.drain(..length).collect();
            let (counter, status) = if request.starts_with(b"GET /healthz ") {
                (&state.checks, &state.check_status)
            } else {
                (&state.requests, &state.status)
            };
            counter.fetch_add(1, Ordering::AcqRel);
            if request.starts_with(b"GET /slow") {
                thread::sleep(SLOW);
            }
            if state.is_down.load(Ordering::Acquire) {
                return;
            }
            let status = status.load(Ordering::Acquire);
            let extra = locked(&state.extra).clone();
            let answer = format!("HTTP/1.1 {status} Word\r\n{extra}Content-Length: 2\r\n\r\nok");
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}
