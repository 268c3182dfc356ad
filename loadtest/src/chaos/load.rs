//! The clients: a few connections, one request after the other on each, and for every request exactly one of four ends. A thread
//! each; nobody measures their speed.

use crate::http1;
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Connections of one load.
pub(super) const CONNECTIONS: usize = 8;
/// Longest wait for an answer: longer than any fault, and than what the router allows an endpoint.
const PATIENCE: Duration = Duration::from_secs(20);
/// Pause of a connection between two requests, and before a connect that was refused is tried again.
const PAUSE: Duration = Duration::from_millis(3);
const RETRY: Duration = Duration::from_millis(20);

/// How requests ended.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    /// Answers by status.
    pub(super) statuses: BTreeMap<u16, u64>,
    /// The connection was closed or reset before the answer was whole.
    pub(super) cut: u64,
    /// Nothing came.
    pub(super) silent: u64,
    /// Connects that were refused: no request was sent.
    pub(super) refused: u64,
}

impl Tally {
    /// Answers with a status.
    pub(super) fn of(&self, status: u16) -> u64 {
        self.statuses.get(&status).copied().unwrap_or(0)
    }

    /// Answers of any status.
    pub(super) fn answered(&self) -> u64 {
        self.statuses.values().sum()
    }

    /// Answers with another status than 200, in words.
    pub(super) fn others(&self) -> String {
        let others = self.statuses.iter().filter(|(status, _)| **status != 200);
        let words: Vec<String> = others.map(|(status, count)| format!("{count} x {status}")).collect();
        if words.is_empty() { "0".to_owned() } else { words.join(", ") }
    }

    /// Both together.
    pub(super) fn add(&mut self, other: &Self) {
        for (status, count) in &other.statuses {
            *self.statuses.entry(*status).or_default() += count;
        }
        self.cut += other.cut;
        self.silent += other.silent;
        self.refused += other.refused;
    }
}

/// Clients at work.
#[derive(Debug)]
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    good: Arc<AtomicU64>,
    bad: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Tally>>,
}

impl Load {
    /// Begins with so many connections that ask for `/` of a host.
    pub(super) fn start(to: SocketAddr, host: &str, connections: usize) -> Self {
        let (stop, good) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let bad = Arc::<AtomicU64>::default();
        let client = |_| {
            let (stop, good, bad) = (Arc::clone(&stop), Arc::clone(&good), Arc::clone(&bad));
            let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
            thread::spawn(move || ask(to, request.as_bytes(), &stop, (&good, &bad)))
        };
        let clients = (0..connections).map(client).collect();
        Self { stop, good, bad, clients }
    }

    /// Answers with 200 so far.
    pub(super) fn good(&self) -> u64 {
        self.good.load(Ordering::Acquire)
    }

    /// Answers with another status so far.
    pub(super) fn bad(&self) -> u64 {
        self.bad.load(Ordering::Acquire)
    }

    /// Lets every request come to its end.
    pub(super) fn stop(self) -> Tally {
        self.stop.store(true, Ordering::Release);
        let mut all = Tally::default();
        for client in self.clients {
            match client.join() {
                Ok(tally) => all.add(&tally),
                Err(_) => all.silent += 1,
            }
        }
        all
    }
}

fn ask(to: SocketAddr, request: &[u8], stop: &AtomicBool, (good, bad): (&AtomicU64, &AtomicU64)) -> Tally {
    let mut tally = Tally::default();
    let mut connection = None;
    while !stop.load(Ordering::Acquire) {
        let Some(mut stream) = connection.take().or_else(|| connect(to)) else {
            tally.refused += 1;
            thread::sleep(RETRY);
            continue;
        };
        match exchange(&mut stream, request) {
            Ok((status, close)) => {
                *tally.statuses.entry(status).or_default() += 1;
                if status == 200 { good } else { bad }.fetch_add(1, Ordering::AcqRel);
                connection = (!close).then_some(stream);
            }
            Err(ErrorKind::WouldBlock | ErrorKind::TimedOut) => tally.silent += 1,
            Err(_) => tally.cut += 1,
        }
        thread::sleep(PAUSE);
    }
    tally
}

fn connect(to: SocketAddr) -> Option<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.set_nodelay(true).ok()?;
    Some(stream)
}

/// One request; gives the status and whether the connection ends with it.
fn exchange(stream: &mut TcpStream, request: &[u8]) -> Result<(u16, bool), ErrorKind> {
    stream.write_all(request).map_err(|error| error.kind())?;
    let (mut held, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let head = http1::head(&held).map_err(|_| ErrorKind::InvalidData)?;
        if let Some(head) = head
            && held.len() >= head.head_len + head.body_len.unwrap_or(0)
        {
            return Ok((head.status, head.close));
        }
        match stream.read(&mut piece) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof),
            Ok(count) => held.extend_from_slice(piece.get(..count).unwrap_or(&[])),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.kind()),
        }
    }
}
