//! An honest client of an attack's class: a whole request in the attack's own pieces, its answer read and checked, again
//! and again. What it costs the router is what the attack's cost is compared with.

use crate::failure::{Fallible, failure};
use crate::http1;
use crate::turn;
use ekiden_loadtest::hostile::{Attack, Class, Tally, honest_requests, requests};
use rustix::net::sockopt::set_socket_linger;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Pieces of a body.
const PIECES: usize = 100;
/// Bytes of the large response.
const LARGE: &str = "/1m";

/// Types and flags of frames (RFC 9113 section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;

/// What it sends, and in which pieces.
#[derive(Debug)]
struct Message {
    /// In order; the last ends the request.
    pieces: Vec<Vec<u8>>,
    /// A connection for each.
    renews: bool,
    /// Answers that are to come in HTTP/2; none in HTTP/1.
    streams: usize,
}

/// One honest client.
#[derive(Debug)]
pub(super) struct Honest {
    to: SocketAddr,
    message: Message,
    stream: TcpStream,
    /// Pieces sent of the request at hand.
    sent: usize,
    head: Vec<u8>,
    /// Bytes of the answer's body still to come; none while its head is.
    left: Option<usize>,
    /// Answers in HTTP/2 that have ended.
    ended: usize,
}

impl Honest {
    /// Connects, and sends the head when bodies are what is compared, as the attack does.
    pub(super) fn open(attack: &Attack, to: SocketAddr) -> Fallible<Self> {
        let stream = turn::connect(to)?;
        let mut this =
            Self { to, message: message(attack), stream, sent: 0, head: Vec::new(), left: None, ended: 0 };
        if attack.class == Class::Bodies {
            this.turn(&mut [], &mut Tally::default())?;
        }
        Ok(this)
    }

    /// Sends the next piece, or reads of the answer when all are sent.
    pub(super) fn turn(&mut self, buffer: &mut [u8], tally: &mut Tally) -> Fallible<()> {
        if let Some(piece) = self.message.pieces.get(self.sent) {
            let count = self.stream.write(piece)?;
            if count < piece.len() {
                return Err(failure("short write of an honest request"));
            }
            tally.sent += count as u64;
            self.sent += 1;
            return Ok(());
        }
        let count = match self.stream.read(buffer) {
            Ok(0) => return Err(failure("an honest client was cut")),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        tally.read += count as u64;
        let bytes = &buffer[..count];
        let is_whole = if self.message.streams > 0 { self.take_frames(bytes)? } else { self.take(bytes)? };
        if is_whole {
            (self.sent, self.left, self.ended) = (0, None, 0);
            if self.message.renews {
                set_socket_linger(&self.stream, Some(Duration::ZERO))?;
                self.stream = turn::connect(self.to)?;
                tally.opened += 1;
            }
        }
        Ok(())
    }

    /// Takes bytes of answers in HTTP/2; true when all have ended.
    fn take_frames(&mut self, bytes: &[u8]) -> Fallible<bool> {
        self.head.extend_from_slice(bytes);
        while let Some(&[a, b, c, kind, flags]) = self.head.first_chunk::<5>() {
            let length = 9 + (usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c));
            if self.head.len() < length {
                break;
            }
            match kind {
                DATA | HEADERS => self.ended += usize::from(flags & END_STREAM),
                RST_STREAM | GOAWAY => return Err(failure("an honest client was cut")),
                _ => {}
            }
            self.head.drain(..length);
        }
        let is_whole = self.ended == self.message.streams;
        if is_whole {
            self.head.clear();
        }
        Ok(is_whole)
    }

    /// Takes bytes of the answer; true when it is whole.
    fn take(&mut self, bytes: &[u8]) -> Fallible<bool> {
        let body = match self.left {
            Some(left) => left.checked_sub(bytes.len()),
            None => {
                self.head.extend_from_slice(bytes);
                let Some(head) = http1::head(&self.head)? else { return Ok(false) };
                if head.status != 200 {
                    return Err(failure(format!("an honest client got status {}", head.status)));
                }
                let got = self.head.len() - head.head_len;
                self.head.clear();
                head.body_len.and_then(|len| len.checked_sub(got))
            }
        };
        let left = body.ok_or_else(|| failure("an honest client got more than one answer"))?;
        self.left = Some(left);
        Ok(left == 0)
    }
}

/// The honest request beside an attack.
fn message(attack: &Attack) -> Message {
    if attack.http2 && attack.class == Class::Connections {
        let streams = requests(attack).max(1);
        return Message { pieces: vec![honest_requests(streams)], renews: true, streams };
    }
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes();
    let (pieces, renews) = match attack.class {
        Class::Connections => (vec![get("/")], true),
        Class::Responses => (vec![get(LARGE)], false),
        // In the pieces of the attack, each of which is a packet.
        Class::Heads if !attack.drip.is_empty() => {
            (get("/").chunks(attack.drip.len()).map(<[u8]>::to_vec).collect(), false)
        }
        Class::Heads => (vec![get("/")], false),
        Class::Bodies => (upload(attack), false),
        // Not by this client: see `crowd`.
        Class::Frames => (Vec::new(), false),
    };
    Message { pieces, renews, streams: 0 }
}

fn upload(attack: &Attack) -> Vec<Vec<u8>> {
    let is_chunked = attack.first.windows(7).any(|words| words == b"chunked");
    let framing = if is_chunked {
        "Transfer-Encoding: chunked".to_owned()
    } else {
        format!("Content-Length: {}", attack.drip.len() * PIECES)
    };
    let mut pieces = vec![format!("POST /upload HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n").into_bytes()];
    pieces.extend(std::iter::repeat_n(attack.drip.to_vec(), PIECES));
    if is_chunked {
        pieces.push(b"0\r\n\r\n".to_vec());
    }
    pieces
}
