//! The end of a connection that a script holds: real, not blocking, and read and written by hand. Under TLS too (see `secure`).

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use socket2::SockRef;

use super::secure::Secure;

#[derive(Debug)]
pub(super) enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
    /// TLS over one of the others.
    Secure(Box<Secure>),
}

/// What a read came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Got {
    Bytes,
    Nothing,
    /// The other side sends no more, or the connection is lost.
    End,
}

impl Socket {
    /// Reads up to `most` bytes behind `into`.
    pub(super) fn read(&mut self, into: &mut Vec<u8>, most: usize) -> Got {
        let mut piece = vec![0; most];
        let read = match self {
            Socket::Unix(socket) => socket.read(&mut piece),
            Socket::Tcp(socket) => socket.read(&mut piece),
            Socket::Secure(socket) => return socket.read(into, most),
        };
        match read {
            Ok(0) => Got::End,
            Ok(count) => {
                into.extend(piece.iter().take(count));
                Got::Bytes
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Got::Nothing,
            Err(_) => Got::End,
        }
    }

    /// Writes what the socket takes; none when it is lost.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Option<usize> {
        let wrote = match self {
            Socket::Unix(socket) => socket.write(bytes),
            Socket::Tcp(socket) => socket.write(bytes),
            Socket::Secure(socket) => return socket.write(bytes),
        };
        match wrote {
            Ok(count) => Some(count),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Some(0),
            Err(_) => None,
        }
    }

    /// Says that nothing more comes.
    pub(super) fn half_close(&mut self) {
        let _lost_already = match self {
            Socket::Unix(socket) => socket.shutdown(Shutdown::Write),
            Socket::Tcp(socket) => socket.shutdown(Shutdown::Write),
            Socket::Secure(socket) => {
                socket.half_close();
                Ok(())
            }
        };
    }

    /// Closes with a reset, where the socket has one.
    pub(super) fn reset(self) {
        match self {
            Socket::Unix(_) => {}
            Socket::Tcp(socket) => {
                let _closes_all_the_same = SockRef::from(&socket).set_linger(Some(Duration::ZERO));
            }
            Socket::Secure(socket) => socket.reset(),
        }
    }

    /// The TLS of it.
    pub(super) fn secure(&mut self) -> Option<&mut Secure> {
        match self {
            Socket::Secure(socket) => Some(socket),
            Socket::Unix(_) | Socket::Tcp(_) => None,
        }
    }
}
