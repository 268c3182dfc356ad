//! The origin behind every proxy: answers GET for a few fixed bodies as cheaply as it can.
//! HTTP/1.1 with keep-alive, pipelining and `Connection: close`; one thread, epoll. Request bodies are taken at `/upload`
//! and `/sink` only. It is no example of a careful server: only proxies under test talk to it.

mod bodies;
pub(crate) mod http2;

use crate::failure::Fallible;
use crate::turn::{self, Turn, Wake};
use bodies::Body;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

/// Body of the small case.
pub(crate) const SMALL: &[u8] = b"hello from the origin\n";
/// Most bytes of unfinished requests kept for a connection.
const LONGEST_HEAD: usize = 64 * 1024;

/// Head of an answer that goes on for as long as anybody reads.
const ENDLESS: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n";

/// Length of the body at `path`; none where the origin answers 404.
pub(crate) fn body_len(path: &str) -> Option<usize> {
    match path {
        "/" | "/0" | "/healthz" | "/h2" => Some(SMALL.len()),
        "/1k" => Some(1 << 10),
        "/10k" => Some(10 << 10),
        "/1m" => Some(1 << 20),
        _ => None,
    }
}

/// The body at `path`: letters in a fixed order, so that a shifted or cut one is noticed.
pub(crate) fn body(path: &str) -> Option<Vec<u8>> {
    let len = body_len(path)?;
    Some(if len == SMALL.len() { SMALL.to_vec() } else { (b'a'..=b'z').cycle().take(len).collect() })
}

/// Serves on all `addresses`, and HTTP/2 on `http2`, until the process is ended.
pub(crate) fn serve(addresses: &[SocketAddr], http2: Option<SocketAddr>) -> Fallible<()> {
    if let Some(address) = http2 {
        http2::start(address)?;
    }
    let listeners: Vec<TcpListener> =
        addresses.iter().map(|at| turn::listen(*at)).collect::<Fallible<_>>()?;
    let mut turn = Turn::new()?;
    for (token, listener) in listeners.iter().enumerate() {
        turn.watch_listener(listener, token as u64)?;
    }
    let pages = Pages::new();
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut free = Vec::new();
    let mut wakes = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        turn.wait(None, &mut wakes)?;
        for wake in &wakes {
            let token = usize::try_from(wake.token).unwrap_or(usize::MAX);
            if let Some(listener) = listeners.get(token) {
                if let Some(stream) = turn::accept(listener)? {
                    let slot = free.pop().unwrap_or(connections.len());
                    if slot == connections.len() {
                        connections.push(None);
                    }
                    turn.watch(&stream, (listeners.len() + slot) as u64)?;
                    connections[slot] = Some(Connection::new(stream));
                }
                continue;
            }
            let slot = token - listeners.len();
            let Some(connection) = connections.get_mut(slot).and_then(Option::as_mut) else { continue };
            if !connection.turn(*wake, &pages, &mut buffer) {
                connections[slot] = None;
                free.push(slot);
            }
        }
    }
}

/// Whole responses, made once.
struct Pages {
    pages: Vec<(&'static str, Vec<u8>, Vec<u8>)>,
    missing: Vec<u8>,
}

impl Pages {
    fn new() -> Self {
        let page = |path: &'static str| {
            let body = body(path).unwrap_or_default();
            (path, response("200 OK", "", &body), response("200 OK", "Connection: close\r\n", &body))
        };
        let missing = response("404 Not Found", "Connection: close\r\n", b"no such page\n");
        Self { pages: ["/", "/0", "/1k", "/10k", "/1m", "/healthz"].map(page).into(), missing }
    }

    fn find(&self, path: &[u8], close: bool) -> Option<&[u8]> {
        let (_, kept, closed) = self.pages.iter().find(|(known, ..)| known.as_bytes() == path)?;
        Some(if close { closed } else { kept })
    }
}

fn response(status: &str, more: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\nServer: origin\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n{more}\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

struct Connection {
    stream: TcpStream,
    /// Start of a request whose end has not come; empty nearly always.
    begun: Vec<u8>,
    /// Answers the socket did not take yet.
    waiting: Vec<u8>,
    /// Close once `waiting` is written.
    closing: bool,
    body: Body,
}

impl Connection {
    fn new(stream: TcpStream) -> Self {
        Self { stream, begun: Vec::new(), waiting: Vec::new(), closing: false, body: Body::None }
    }

    /// Reads and answers what is there; false when the connection is to be dropped.
    fn turn(&mut self, wake: Wake, pages: &Pages, buffer: &mut [u8]) -> bool {
        if wake.writable && !self.waiting.is_empty() && !self.flush() {
            return false;
        }
        if wake.readable && !self.read(wake.ended, pages, buffer) {
            return false;
        }
        if matches!(self.body, Body::Flood) && self.waiting.is_empty() && !bodies::flood(&mut self.stream) {
            return false;
        }
        !(self.closing && self.waiting.is_empty())
    }

    /// Answers what can be read; false at the end and on errors.
    fn read(&mut self, to_the_end: bool, pages: &Pages, buffer: &mut [u8]) -> bool {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return false,
                Ok(count) => {
                    if !self.answer(&buffer[..count], pages) {
                        return false;
                    }
                    // A short read emptied the socket; what comes later is a new edge.
                    if count < buffer.len() && !to_the_end {
                        return true;
                    }
                }
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
    }

    fn answer(&mut self, bytes: &[u8], pages: &Pages) -> bool {
        if self.begun.is_empty() {
            let used = self.answer_all(bytes, pages);
            self.begun.extend_from_slice(&bytes[used..]);
        } else {
            let mut begun = std::mem::take(&mut self.begun);
            begun.extend_from_slice(bytes);
            let used = self.answer_all(&begun, pages);
            begun.drain(..used);
            self.begun = begun;
        }
        self.begun.len() <= LONGEST_HEAD
    }

    /// Answers every whole request in `bytes` and says how many bytes they took.
    fn answer_all(&mut self, bytes: &[u8], pages: &Pages) -> usize {
        let mut used = 0;
        loop {
            let (taken, is_whole) = self.body.take(&bytes[used..]);
            used += taken;
            if is_whole {
                self.send(pages.find(b"/", false).unwrap_or(&pages.missing));
            }
            let Some(len) = head_len(&bytes[used..]) else { break };
            let head = &bytes[used..used + len];
            used += len;
            let path = head.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
            self.body = Body::after(path, head);
            if matches!(self.body, Body::Flood) {
                self.send(ENDLESS);
            }
            if !matches!(self.body, Body::None) {
                continue;
            }
            let page = pages.find(path, asks_close(head));
            self.closing = page.is_none() || asks_close(head);
            self.send(page.unwrap_or(&pages.missing));
            if self.closing {
                break;
            }
        }
        used
    }

    fn send(&mut self, bytes: &[u8]) {
        let mut done = 0;
        if self.waiting.is_empty() {
            // An error shows again at the next read.
            done = self.stream.write(bytes).unwrap_or(0);
        }
        self.waiting.extend_from_slice(&bytes[done..]);
    }

    fn flush(&mut self) -> bool {
        while !self.waiting.is_empty() {
            match self.stream.write(&self.waiting) {
                Ok(count) => drop(self.waiting.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            }
        }
        true
    }
}

/// Length of the first whole head of `bytes`.
fn head_len(bytes: &[u8]) -> Option<usize> {
    // Most reads hold exactly one request.
    if bytes.ends_with(b"\r\n\r\n") && bytes.iter().filter(|byte| **byte == b'\r').count() < 3 {
        return Some(bytes.len());
    }
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

fn asks_close(head: &[u8]) -> bool {
    const FIELD: &[u8] = b"\nconnection: close\r";
    head.windows(FIELD.len()).any(|part| part[0] == b'\n' && part.eq_ignore_ascii_case(FIELD))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    fn started() -> SocketAddr {
        let address = crate::launch::free_address().unwrap();
        std::thread::spawn(move || serve(&[address], None));
        for _ in 0..200 {
            if TcpStream::connect(address).is_ok() {
                return address;
            }
            std::thread::yield_now();
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        panic!("origin does not listen");
    }

    #[test]
    fn pipelined_and_split_requests_are_answered_in_order() {
        let mut stream = TcpStream::connect(started()).unwrap();
        stream.write_all(b"GET /1k HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHo").unwrap();
        stream.write_all(b"st: a\r\nConnection: close\r\n\r\nGET /1k HTTP/1.1\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 2, "{text}");
        assert!(text.contains("Content-Length: 1024\r\n\r\nabc"));
        assert!(text.ends_with("Connection: close\r\n\r\nhello from the origin\n"));
    }

    #[test]
    fn a_large_body_arrives_whole() {
        let mut stream = TcpStream::connect(started()).unwrap();
        stream.write_all(b"GET /1m HTTP/1.1\r\nConnection: close\r\n\r\n").unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        assert!(bytes.ends_with(&body("/1m").unwrap()));
    }

    #[test]
    fn unknown_paths_get_404() {
        let mut stream = TcpStream::connect(started()).unwrap();
        stream.write_all(b"GET /nowhere HTTP/1.1\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.1 404 "));
    }
}
