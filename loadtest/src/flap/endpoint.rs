//! An endpoint that can be killed and started again on its port: refuses connects and has reset all connections while
//! it is down. Or it is up and busy: it answers 503. A thread per connection; nobody measures its speed.

use crate::failure::{Fallible, failure};
use crate::{launch, origin};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What it answers while it is busy.
const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
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

#[derive(Debug, Default)]
struct State {
    answer: Vec<u8>,
    answered: AtomicU64,
    down: AtomicBool,
    busy: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
}

fn locked(streams: &Mutex<Vec<TcpStream>>) -> MutexGuard<'_, Vec<TcpStream>> {
    streams.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Endpoint {
    /// Starts one on a free address; it answers every request as the origin answers `/`.
    pub(super) fn start() -> Fallible<Self> {
        let body = origin::body("/").ok_or_else(|| failure("the origin has no /"))?;
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        let answer = [head.as_bytes(), &body[..]].concat();
        let state = Arc::new(State { answer, ..State::default() });
        let mut this = Self { address: launch::free_address()?, state, accepting: None };
        this.up()?;
        Ok(this)
    }

    /// Answers 503 from now on, or does no more.
    pub(super) fn set_busy(&self, busy: bool) {
        self.state.busy.store(busy, Ordering::Release);
    }

    /// Requests answered well so far.
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
        self.state.down.store(false, Ordering::Release);
        let state = Arc::clone(&self.state);
        self.accepting = Some(thread::spawn(move || accept(&listener, &state)));
        Ok(())
    }

    /// Stops listening and resets every connection.
    pub(super) fn down(&mut self) {
        self.state.down.store(true, Ordering::Release);
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
        if state.down.load(Ordering::Acquire) {
            return;
        }
        if let Ok(copy) = stream.try_clone() {
            locked(&state.streams).push(copy);
        }
        let state = Arc::clone(state);
        thread::spawn(move || serve(stream, &state));
    }
}

/// Answers requests without a body, which is what the load sends.
fn serve(mut stream: TcpStream, state: &State) {
    let _slower_without = stream.set_nodelay(true);
    let (mut held, mut piece) = (Vec::new(), vec![0; 16 << 10]);
    while let Ok(count @ 1..) = stream.read(&mut piece) {
        held.extend_from_slice(piece.get(..count).unwrap_or(&[]));
        while let Some(end) = held.windows(4).position(|four| four == b"\r\n\r\n") {
            held.drain(..end + 4);
            if state.down.load(Ordering::Acquire) {
                return;
            }
            let busy = state.busy.load(Ordering::Acquire);
            state.answered.fetch_add(u64::from(!busy), Ordering::AcqRel);
            if stream.write_all(if busy { BUSY } else { &state.answer }).is_err() {
                return;
            }
        }
    }
}
