//! An origin that does what a test says, connection by connection, and writes down every byte it gets.
//!
//! Blocking threads: one accepts, one per connection runs the test's closure. Does not judge.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::DEADLINE;

/// How the router's side of a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// FIN.
    Fin,
    /// RST.
    Reset,
}

#[derive(Debug, Default, Clone)]
struct Record {
    received: Vec<u8>,
    ended: Option<End>,
    over: bool,
}

#[derive(Debug, Default)]
struct Log {
    records: Mutex<Vec<Record>>,
    changed: Condvar,
}

impl Log {
    fn with<T>(&self, look: impl FnOnce(&mut Vec<Record>) -> T) -> T {
        let result = look(&mut self.records.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
        result
    }

    fn wait<T>(&self, what: &str, mut ask: impl FnMut(&[Record]) -> Option<T>) -> T {
        let end = Instant::now() + DEADLINE;
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(answer) = ask(&records) {
                return answer;
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the origin waited in vain for {what}: {records:?}");
            records = self.changed.wait_timeout(records, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// An origin on a loopback port.
#[derive(Debug)]
pub struct Origin {
    /// Where it listens.
    pub address: SocketAddr,
    log: Arc<Log>,
    stop: Arc<AtomicBool>,
}

impl Origin {
    /// Starts one; `serve` runs once per connection, and the connection closes when it returns.
    pub fn start(serve: impl Fn(&mut Conn) + Send + Sync + 'static) -> Self {
        Self::on("127.0.0.1:0", serve)
    }

    /// Starts one on a given address.
    pub fn on(address: &str, serve: impl Fn(&mut Conn) + Send + Sync + 'static) -> Self {
        let listener =
            TcpListener::bind(address).unwrap_or_else(|error| panic!("origin on {address}: {error}"));
        // More may come at once than the 128 that the standard library lets wait.
        socket2::SockRef::from(&listener).listen(4_096).unwrap();
        let address = listener.local_addr().unwrap();
        let (log, stop, serve) =
            (Arc::new(Log::default()), Arc::new(AtomicBool::new(false)), Arc::new(serve));
        let (for_accept, for_stop) = (Arc::clone(&log), Arc::clone(&stop));
        thread::spawn(move || {
            for stream in listener.incoming() {
                if for_stop.load(Ordering::Acquire) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let number = for_accept.with(|records| {
                    records.push(Record::default());
                    records.len()
                });
                let (serve, log) = (Arc::clone(&serve), Arc::clone(&for_accept));
                thread::spawn(move || {
                    let mut conn = Conn::new(stream, number, Arc::clone(&log));
                    serve(&mut conn);
                    drop(conn);
                    log.with(|records| records[number - 1].over = true);
                });
            }
        });
        Self { address, log, stop }
    }

    /// An origin that answers every request with 200 and this body.
    pub fn hello(body: &'static str) -> Self {
        Self::start(move |conn| {
            while let Some(request) = conn.request() {
                conn.answer(&request, body)
            }
        })
    }

    /// Connections taken so far.
    pub fn connections(&self) -> usize {
        self.log.with(|records| records.len())
    }

    /// Bytes received on a connection (from 1).
    pub fn received(&self, number: usize) -> Vec<u8> {
        self.log
            .with(|records| records.get(number - 1).map(|record| record.received.clone()).unwrap_or_default())
    }

    /// Waits until the router's side of a connection has ended and the script has seen it.
    pub fn ended(&self, number: usize) -> End {
        self.log.wait(&format!("the end of connection {number}"), |records| records.get(number - 1)?.ended)
    }

    /// Whether the router's side of a connection has ended, as far as the script has seen.
    pub fn is_ended(&self, number: usize) -> bool {
        self.log.with(|records| records.get(number - 1).is_some_and(|record| record.ended.is_some()))
    }

    /// Waits until the script of a connection is over.
    pub fn over(&self, number: usize) {
        self.log.wait(&format!("the script of connection {number}"), |records| {
            records.get(number - 1).filter(|record| record.over).map(|_| ())
        });
    }

    /// Waits until this many connections have been taken.
    pub fn wait_connections(&self, count: usize) {
        self.log.wait(&format!("{count} connections"), |records| (records.len() >= count).then_some(()));
    }

    /// Waits until a connection has received at least this many bytes.
    pub fn wait_received(&self, number: usize, count: usize) {
        self.log.wait(&format!("{count} bytes on connection {number}"), |records| {
            records.get(number - 1).filter(|record| record.received.len() >= count).map(|_| ())
        });
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let _wakes_the_accept = TcpStream::connect(self.address);
    }
}

/// A request as the origin got it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Request line.
    pub line: String,
    /// Fields in order, as written.
    pub fields: Vec<(String, String)>,
    /// Body without framing.
    pub body: Vec<u8>,
    /// Trailers of a chunked body.
    pub trailers: Vec<(String, String)>,
}

impl Received {
    /// The method.
    pub fn method(&self) -> &str {
        self.line.split(' ').next().unwrap_or("")
    }

    /// The target.
    pub fn target(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or("")
    }

    /// The first value of a field.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).into_iter().next()
    }

    /// Every value of a field.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect()
    }
}

/// One connection of an origin, from inside its script.
#[derive(Debug)]
pub struct Conn {
    /// From 1, in the order of accepting.
    pub number: usize,
    stream: TcpStream,
    held: Vec<u8>,
    log: Arc<Log>,
}

impl Conn {
    fn new(stream: TcpStream, number: usize, log: Arc<Log>) -> Self {
        stream.set_nodelay(true).unwrap();
        // Longer than the client's, so that idle pooled connections of a slow test do not end by themselves.
        stream.set_read_timeout(Some(DEADLINE * 4)).unwrap();
        Self { number, stream, held: Vec::new(), log }
    }

    fn note(&self, change: impl FnOnce(&mut Record)) {
        self.log.with(|records| change(&mut records[self.number - 1]));
    }

    fn fill(&mut self) -> bool {
        let mut piece = vec![0; 64 << 10];
        match self.stream.read(&mut piece) {
            Ok(0) => self.note(|record| record.ended = Some(End::Fin)),
            Ok(count) => {
                self.held.extend_from_slice(&piece[..count]);
                self.note(|record| record.received.extend_from_slice(&piece[..count]));
                return true;
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => self.note(|record| record.ended = Some(End::Reset)),
        }
        false
    }

    fn line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.held.windows(2).position(|window| window == b"\r\n") {
                let line: Vec<u8> = self.held.drain(..at + 2).collect();
                return Some(String::from_utf8_lossy(&line[..at]).into_owned());
            }
            if !self.fill() {
                return None;
            }
        }
    }

    fn fields(&mut self) -> Option<Vec<(String, String)>> {
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Some(fields);
            }
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            fields.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    /// The next request head; none when the router closes.
    pub fn head(&mut self) -> Option<Received> {
        let line = self.line()?;
        Some(Received { line, fields: self.fields()?, body: Vec::new(), trailers: Vec::new() })
    }

    /// One line, without its CRLF; none when the router closes before its end.
    pub fn line_of_text(&mut self) -> Option<String> {
        self.line()
    }

    /// The next request with its body; none when the router closes before its end.
    pub fn request(&mut self) -> Option<Received> {
        let mut request = self.head()?;
        self.body(&mut request)?;
        Some(request)
    }

    /// Reads the body of a request whose head has been read.
    pub fn body(&mut self, request: &mut Received) -> Option<()> {
        if request.get("transfer-encoding").is_some() {
            loop {
                let size = usize::from_str_radix(&self.line()?, 16).ok()?;
                if size == 0 {
                    break;
                }
                request.body.extend(self.exactly(size)?);
                self.exactly(2)?;
            }
            request.trailers = self.fields()?;
        } else if let Some(length) = request.get("content-length").and_then(|text| text.parse().ok()) {
            request.body = self.exactly(length)?;
        }
        Some(())
    }

    /// Exactly this many bytes.
    pub fn exactly(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.held.len() < length {
            if !self.fill() {
                return None;
            }
        }
        Some(self.held.drain(..length).collect())
    }

    /// Sends bytes; false when the router has gone.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// 200 with this body, or its length for HEAD.
    pub fn answer(&mut self, request: &Received, body: &str) {
        let body_sent = if request.method() == "HEAD" { "" } else { body };
        self.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body_sent}", body.len()));
    }

    /// Reads until the router ends the connection.
    pub fn until_closed(&mut self) {
        while self.fill() {}
    }

    /// Ends our sending side.
    pub fn finish(&mut self) {
        let _gone = self.stream.shutdown(Shutdown::Write);
    }

    /// Closes with a reset when the script returns.
    pub fn reset(&mut self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
}
