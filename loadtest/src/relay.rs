//! The null relay: bytes from each client connection to one connection of its own to the origin, and back.
//! Four system calls a request (recv, send, recv, send) and a shared wait; it does not look at the bytes, pools
//! nothing and checks nothing. It is the honest lower limit of what a proxy with sockets and epoll can cost.

use crate::failure::Fallible;
use crate::turn::{self, Turn, Wake};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

/// Bytes read at once; shared by all connections.
const BUFFER: usize = 64 * 1024;
/// Token of the listener.
const LISTENER: u64 = u64::MAX;

/// Relays from `address` to `origin` until the process is ended.
pub(crate) fn serve(address: SocketAddr, origin: SocketAddr) -> Fallible<()> {
    let listener = turn::listen(address)?;
    let mut turn = Turn::new()?;
    turn.watch_listener(&listener, LISTENER)?;
    let mut pairs: Vec<Option<Pair>> = Vec::new();
    let mut free = Vec::new();
    let mut wakes = Vec::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        turn.wait(None, &mut wakes)?;
        for wake in &wakes {
            if wake.token == LISTENER {
                if let Some(client) = turn::accept(&listener)? {
                    let slot = free.pop().unwrap_or(pairs.len());
                    if slot == pairs.len() {
                        pairs.push(None);
                    }
                    pairs[slot] = Pair::open(client, origin, slot, &turn);
                    if pairs[slot].is_none() {
                        free.push(slot);
                    }
                }
                continue;
            }
            let slot = usize::try_from(wake.token >> 1).unwrap_or(usize::MAX);
            let Some(pair) = pairs.get_mut(slot).and_then(Option::as_mut) else { continue };
            if !pair.turn(*wake, &mut buffer) {
                pairs[slot] = None;
                free.push(slot);
            }
        }
    }
}

/// A client connection and its upstream; side 0 is the client.
struct Pair {
    sides: [Side; 2],
}

struct Side {
    stream: TcpStream,
    /// Bytes read from the other side that this one did not take yet. While there are any, the other is not read.
    waiting: Vec<u8>,
    /// A wake came while it could not be read.
    unread: bool,
    /// This side has ended: what waits for the other is still delivered.
    ended: bool,
}

impl Side {
    fn new(stream: TcpStream) -> Self {
        Self { stream, waiting: Vec::new(), unread: false, ended: false }
    }

    /// Writes what waits; false on a broken connection.
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

impl Pair {
    /// Opens the upstream and watches both; none when the origin cannot be reached (the client is closed).
    fn open(client: TcpStream, origin: SocketAddr, slot: usize, turn: &Turn) -> Option<Self> {
        let upstream = turn::connect(origin).ok()?;
        turn.watch(&client, (slot as u64) << 1).ok()?;
        turn.watch(&upstream, ((slot as u64) << 1) | 1).ok()?;
        Some(Self { sides: [Side::new(client), Side::new(upstream)] })
    }

    /// Moves what can be moved; false when the pair is to be closed.
    fn turn(&mut self, wake: Wake, buffer: &mut [u8]) -> bool {
        let side = usize::from(wake.token & 1 == 1);
        let mut again = false;
        if wake.writable && !self.sides[side].waiting.is_empty() {
            if !self.sides[side].flush() {
                return false;
            }
            again = self.sides[side].waiting.is_empty() && self.sides[1 - side].unread;
        }
        if again && !self.copy(1 - side, true, buffer) {
            return false;
        }
        if wake.readable && !self.copy(side, wake.ended, buffer) {
            return false;
        }
        // An ended side closes the pair once the other has all of its bytes.
        !(0..2).any(|side| self.sides[side].ended && self.sides[1 - side].waiting.is_empty())
    }

    /// Reads from `from` and writes to the other side, until a short read or a full socket; false when broken.
    fn copy(&mut self, from: usize, to_the_end: bool, buffer: &mut [u8]) -> bool {
        let [first, second] = &mut self.sides;
        let (from, to) = if from == 0 { (first, second) } else { (second, first) };
        from.unread = false;
        loop {
            if !to.waiting.is_empty() {
                from.unread = true;
                return true;
            }
            let count = match from.stream.read(buffer) {
                Ok(0) => {
                    from.ended = true;
                    return true;
                }
                Ok(count) => count,
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            };
            let done = match to.stream.write(&buffer[..count]) {
                Ok(done) => done,
                Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                Err(_) => return false,
            };
            to.waiting.extend_from_slice(&buffer[done..count]);
            if count < buffer.len() && !to_the_end {
                return true;
            }
        }
    }
}
