//! The byte streams the router carries: TCP and unix sockets, and TLS over them, one type for both directions.
//!
//! Does not pool, time out or parse.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use ekiden_config::model::Address;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::tls::{Session, TlsStream};

/// A connected stream.
#[derive(Debug)]
pub enum Stream {
    /// TCP, with Nagle's algorithm off.
    Tcp(TcpStream),
    /// A unix stream socket.
    Unix(UnixStream),
    /// TLS over one of the others.
    Tls(Box<TlsStream>),
    /// Nothing: what was here is being made into something else.
    Taken,
}

impl Stream {
    /// Connects to an address. Cancel-safe: dropping the future closes the socket. No deadline of its own.
    pub async fn connect(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(*address).await?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            Address::Unix(path) => Ok(Stream::Unix(UnixStream::connect(&**path).await?)),
        }
    }

    /// Ready when bytes, the end of the stream or an error have been reported; costs no system call.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Tcp(stream) => stream.poll_read_ready(cx),
            Stream::Unix(stream) => stream.poll_read_ready(cx),
            Stream::Tls(stream) => stream.poll_readable(cx),
            Stream::Taken => Poll::Ready(Ok(())),
        }
    }

    /// Forgets the readability that the runtime assumes of a new stream. The first poll then waits for a report, which
    /// comes at once when bytes are there, where it would otherwise make a read that mostly finds nothing.
    pub fn assume_silent(&self) {
        let nothing = || Err::<(), _>(io::Error::from(io::ErrorKind::WouldBlock));
        // Clearing the flag is the only effect wanted of a read that never happens.
        let _would_block = match self {
            Stream::Tcp(stream) => stream.try_io(Interest::READABLE, nothing),
            Stream::Unix(stream) => stream.try_io(Interest::READABLE, nothing),
            Stream::Tls(stream) => return stream.io().assume_silent(),
            Stream::Taken => Ok(()),
        };
    }

    /// Makes the close a reset: the peer cannot take what it got for complete, and nothing stays in the kernel.
    pub fn abort(&self) {
        match self {
            Stream::Tcp(stream) => {
                let _closes_all_the_same: io::Result<()> =
                    socket2::SockRef::from(stream).set_linger(Some(std::time::Duration::ZERO));
            }
            Stream::Tls(stream) => stream.io().abort(),
            Stream::Unix(_) | Stream::Taken => {}
        }
    }

    /// Closes with a reset.
    pub fn reset(self) {
        self.abort();
    }

    /// Before an orderly close: over TLS, says that nothing more comes. Costs nothing on a plain socket.
    pub fn say_goodbye(&mut self) {
        if let Stream::Tls(stream) = self {
            stream.say_goodbye();
        }
    }

    /// Bytes that were taken for sending and are not in the socket yet. None on a plain socket.
    #[inline]
    pub fn held(&self) -> usize {
        match self {
            Stream::Tls(stream) => stream.held(),
            Stream::Tcp(_) | Stream::Unix(_) | Stream::Taken => 0,
        }
    }

    /// Our address of the connection; none on a unix socket. Costs a system call.
    pub fn local_address(&self) -> Option<SocketAddr> {
        match self {
            Stream::Tcp(stream) => stream.local_addr().ok(),
            Stream::Tls(stream) => stream.io().local_address(),
            Stream::Unix(_) | Stream::Taken => None,
        }
    }

    /// The TLS session; none on a plain socket.
    pub fn session(&self) -> Option<&Rc<Session>> {
        match self {
            Stream::Tls(stream) => stream.session(),
            Stream::Tcp(_) | Stream::Unix(_) | Stream::Taken => None,
        }
    }

    /// Whether an idle stream has been reported readable, which for an idle upstream connection means that it is
    /// closed or out of step. No system call.
    pub fn reported_readable(&self) -> bool {
        self.poll_readable(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    /// Looks with a system call whether the peer has closed or sent bytes nobody asked for. Not through the runtime's
    /// `try_io`, which makes no call while nothing is reported: what has not been reported yet is what this is for.
    pub fn peeked_dead(&self) -> bool {
        let mut byte = [std::mem::MaybeUninit::uninit(); 1];
        let peeked = match self {
            Stream::Tcp(stream) => socket2::SockRef::from(stream).peek(&mut byte),
            Stream::Unix(stream) => socket2::SockRef::from(stream).peek(&mut byte),
            Stream::Tls(stream) => return stream.io().peeked_dead(),
            Stream::Taken => Ok(0),
        };
        match peeked {
            Ok(_) => true,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Tls(stream) => Pin::new(&mut **stream).poll_read(cx, buffer),
            Stream::Taken => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(&mut **stream).poll_write(cx, bytes),
            Stream::Taken => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Stream::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Stream::Tls(stream) => Pin::new(&mut **stream).poll_write_vectored(cx, parts),
            Stream::Taken => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// A plain socket holds nothing back.
    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tls(stream) => Pin::new(&mut **stream).poll_flush(cx),
            Stream::Tcp(_) | Stream::Unix(_) | Stream::Taken => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
            Stream::Taken => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// The close is in the kernel and the event loop has not turned since: only a system call can see it.
    #[tokio::test]
    async fn a_peek_sees_what_has_not_been_reported() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap());
        let (ours, theirs) = tokio::join!(Stream::connect(&address), listener.accept());
        let (ours, (theirs, _)) = (ours.unwrap(), theirs.unwrap());
        assert!(!ours.peeked_dead());
        drop(theirs);
        assert!(!ours.reported_readable());
        assert!(ours.peeked_dead());
    }
}
