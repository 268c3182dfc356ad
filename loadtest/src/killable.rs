//! An endpoint that can be killed and started again on its port: refuses connects and has reset all connections while it is down. A
//! thread per connection; nobody measures its speed. What it answers, and when, is its owner's.

use crate::failure::Fallible;
use crate::launch;
use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long the port may stay taken.
const BIND_WITHIN: Duration = Duration::from_secs(5);

/// What an endpoint does with requests.
pub(crate) trait Serve: Send + Sync + 'static {
    /// Answers one request, and says whether it was answered well. May take its time.
    fn answer(&self) -> (Cow<'_, [u8]>, bool);
}

/// The endpoint.
#[derive(Debug)]
pub(crate) struct Endpoint<S> {
    /// Where it listens while it is up.
    pub(crate) address: SocketAddr,
    state: Arc<State<S>>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct State<S> {
    serve: S,
    answered: AtomicU64,
    is_down: AtomicBool,
    /// Connections that are open.
    streams: Mutex<HashMap<u64, TcpStream>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S: Serve> Endpoint<S> {
    /// Starts one on a free address.
    pub(crate) fn start(serve: S) -> Fallible<Self> {
        let (answered, is_down, streams) = (AtomicU64::new(0), AtomicBool::new(true), Mutex::default());
        let state = Arc::new(State { serve, answered, is_down, streams });
        let mut this = Self { address: launch::free_address()?, state, accepting: None };
        this.up()?;
        Ok(this)
    }

    /// What it does with requests.
    pub(crate) fn serve(&self) -> &S {
        &self.state.serve
    }

    /// Requests answered well so far.
    pub(crate) fn answered(&self) -> u64 {
        self.state.answered.load(Ordering::Acquire)
    }

    /// Begins to listen.
    pub(crate) fn up(&mut self) -> Fallible<()> {
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
}

impl<S> Endpoint<S> {
    /// Stops listening and resets every connection.
    pub(crate) fn down(&mut self) {
        if self.state.is_down.swap(true, Ordering::AcqRel) {
            return;
        }
        let _wakes_the_accept = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _panicked = accepting.join();
        }
        for (_, stream) in locked(&self.state.streams).drain() {
            let _gone = rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
            let _wakes_its_thread = stream.shutdown(Shutdown::Read);
        }
    }
}

impl<S> Drop for Endpoint<S> {
    fn drop(&mut self) {
        self.down();
    }
}

fn accept<S: Serve>(listener: &TcpListener, state: &Arc<State<S>>) {
    for (number, stream) in (0..).zip(listener.incoming().flatten()) {
        if state.is_down.load(Ordering::Acquire) {
            return;
        }
        if let Ok(copy) = stream.try_clone() {
            locked(&state.streams).insert(number, copy);
        }
        let state = Arc::clone(state);
        thread::spawn(move || {
            state.serve_all(stream);
            locked(&state.streams).remove(&number);
        });
    }
}

impl<S: Serve> State<S> {
    /// Answers requests without a body, which is what the load sends.
    fn serve_all(&self, mut stream: TcpStream) {
        let _slower_without = stream.set_nodelay(true);
        let (mut held, mut piece) = (Vec::new(), vec![0; 16 << 10]);
        while let Ok(count @ 1..) = stream.read(&mut piece) {
            held.extend_from_slice(piece.get(..count).unwrap_or(&[]));
            while let Some(end) = held.windows(4).position(|four| four == b"\r\n\r\n") {
                held.drain(..end + 4);
                let (answer, is_good) = self.serve.answer();
                if self.is_down.load(Ordering::Acquire) || stream.write_all(&answer).is_err() {
                    return;
                }
                self.answered.fetch_add(u64::from(is_good), Ordering::AcqRel);
            }
        }
    }
}
