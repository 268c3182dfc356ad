//! An honest client of an attack's class: a whole request in the attack's own pieces, its answer read and checked, again
//! and again. What it costs the router is what the attack's cost is compared with.

use crate::failure::{Fallible, failure};
use crate::http1;
use crate::turn;
use ekiden_loadtest::hostile::{Attack, Class, Tally};
use rustix::net::sockopt::set_socket_linger;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Pieces of a body.
const PIECES: usize = 100;
/// Bytes of the large response.
const LARGE: &str = "/1m";

/// What it sends, and in which pieces.
#[derive(Debug)]
struct Message {
    /// In order; the last ends the request.
    pieces: Vec<Vec<u8>>,
    /// A connection for each request.
    renews: bool,
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
}

impl Honest {
    /// Connects, and sends the head when bodies are what is compared, as the attack does.
    pub(super) fn open(attack: &Attack, to: SocketAddr) -> Fallible<Self> {
        let stream = turn::connect(to)?;
        let mut this = Self { to, message: message(attack), stream, sent: 0, head: Vec::new(), left: None };
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
        if self.take(&buffer[..count])? {
            (self.sent, self.left) = (0, None);
            if self.message.renews {
                set_socket_linger(&self.stream, Some(Duration::ZERO))?;
                self.stream = turn::connect(self.to)?;
                tally.opened += 1;
            }
        }
        Ok(())
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
    Message { pieces, renews }
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
