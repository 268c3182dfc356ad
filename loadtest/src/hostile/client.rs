//! One hostile connection: opened, then taken on turn by turn. It never waits; a connection that was cut is opened anew.

use super::Attack;
use rustix::net::sockopt::{set_socket_linger, set_socket_recv_buffer_size};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// What a crowd has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Connections opened.
    pub opened: u64,
    /// Connections that the other side ended.
    pub cut: u64,
    /// Bytes written.
    pub sent: u64,
    /// Bytes read.
    pub read: u64,
}

/// One hostile client and its connection.
#[derive(Debug)]
pub struct Hostile<'a> {
    attack: &'a Attack,
    from: Ipv4Addr,
    to: SocketAddr,
    stream: TcpStream,
    sent: u64,
    turns: u64,
}

impl<'a> Hostile<'a> {
    /// Connects from an address of this machine and sends the beginning.
    ///
    /// # Errors
    /// The socket's, except that of a connection that is cut at once.
    pub fn open(attack: &'a Attack, from: Ipv4Addr, to: SocketAddr, tally: &mut Tally) -> io::Result<Self> {
        let stream = connect(attack, from, to)?;
        let mut this = Self { attack, from, to, stream, sent: 0, turns: 0 };
        this.begin(tally)?;
        Ok(this)
    }

    /// Bytes sent on the connection that is open now; none of these attacks asks for an answer to be read.
    pub fn unanswered(&self) -> u64 {
        self.sent
    }

    /// One turn: goes on where the attack does, and comes anew when it was cut.
    ///
    /// # Errors
    /// Of opening a connection; those of an open one are what is hoped for.
    pub fn turn(&mut self, buffer: &mut [u8], tally: &mut Tally) -> io::Result<()> {
        if !self.attack.renews && self.go_on(buffer, tally) {
            return Ok(());
        }
        if !self.attack.renews {
            tally.cut += 1;
        }
        self.leave();
        self.stream = connect(self.attack, self.from, self.to)?;
        self.begin(tally)
    }

    fn begin(&mut self, tally: &mut Tally) -> io::Result<()> {
        tally.opened += 1;
        (self.sent, self.turns) = (0, 0);
        // Small enough for a socket's buffer, so that a blocking write does not block.
        if self.stream.write_all(&self.attack.first).is_ok() {
            self.sent = self.attack.first.len() as u64;
            tally.sent += self.sent;
        }
        if self.attack.half_closed {
            let _cut_already = self.stream.shutdown(Shutdown::Write);
        }
        self.stream.set_nonblocking(true)
    }

    /// Reads and drips; false when the connection has ended.
    fn go_on(&mut self, buffer: &mut [u8], tally: &mut Tally) -> bool {
        if !matches!(self.stream.take_error(), Ok(None)) {
            return false;
        }
        let most = self.attack.reads.min(buffer.len());
        if most > 0 {
            match self.stream.read(&mut buffer[..most]) {
                Ok(0) => return false,
                Ok(count) => tally.read += count as u64,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return false,
            }
        }
        let made = self.attack.frames.map(|frames| frames(self.turns));
        self.turns += 1;
        let bytes = made.as_deref().unwrap_or(self.attack.drip);
        if bytes.is_empty() {
            return true;
        }
        match self.stream.write(bytes) {
            Ok(count) => {
                self.sent += count as u64;
                tally.sent += count as u64;
                true
            }
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        }
    }

    /// Ends with a reset, which leaves no port of ours waiting.
    fn leave(&self) {
        let _ended_already = set_socket_linger(&self.stream, Some(Duration::ZERO));
    }
}

fn connect(attack: &Attack, from: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket =
        rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    if let Some(window) = attack.window {
        // Before the handshake, which tells the other side.
        set_socket_recv_buffer_size(&socket, window)?;
    }
    rustix::net::bind(&socket, &SocketAddr::from((from, 0)))?;
    rustix::net::connect(&socket, &to)?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    Ok(stream)
}
