//! The byte streams the router carries, one type for both directions: TCP and unix sockets, TLS over them, and a stream of
//! HTTP/2 to an endpoint. An accepted TCP socket is read and written by hand until there is something to wait for.
//!
//! Does not pool, time out or parse.

use std::io::{self, Read, Write};
use std::mem;
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use ekiden_config::model::Address;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::http2::endpoint::EndpointStream;
use crate::tls::{Session, TlsStream};

/// System calls a fresh socket makes before the runtime is told of it: a client that keeps it busy must not keep the worker
/// from the others, which the runtime sees to.
const FRESH_CALLS: u8 = 4;

/// A connected stream.
#[derive(Debug)]
pub enum Stream {
    /// TCP, accepted a moment ago. Many a connection carries one request that is there already and one response that fits:
    /// the runtime, which needs two system calls and a registration for each socket it watches, is told of it when there is
    /// something to wait for.
    Fresh(Fresh),
    /// TCP, with Nagle's algorithm off.
    Tcp(TcpStream),
    /// A unix stream socket.
    Unix(UnixStream),
    /// TLS over one of the others.
    Tls(Box<TlsStream>),
    /// A stream of HTTP/2 to an endpoint, in the text of HTTP/1.
    Http2(Box<EndpointStream>),
    /// Nothing: what was here is being made into something else.
    Taken,
}

/// A socket of which the runtime does not know.
#[derive(Debug)]
pub struct Fresh {
    socket: std::net::TcpStream,
    calls_left: u8,
}

impl Stream {
    /// A socket that has been accepted and does not block.
    pub fn fresh(socket: std::net::TcpStream) -> Self {
        Stream::Fresh(Fresh { socket, calls_left: FRESH_CALLS })
    }

    /// Whether the runtime does not know of it: nothing would be reported.
    #[inline]
    pub fn is_fresh(&self) -> bool {
        matches!(self, Stream::Fresh(_))
    }

    /// Tells the runtime of a fresh socket, so that it can be waited for; nothing on others.
    ///
    /// # Errors
    /// The runtime cannot watch it. It is closed then.
    pub fn register(&mut self) -> io::Result<()> {
        if !self.is_fresh() {
            return Ok(());
        }
        if let Stream::Fresh(fresh) = mem::replace(self, Stream::Taken) {
            *self = Stream::Tcp(TcpStream::from_std(fresh.socket)?);
            self.assume_silent();
        }
        Ok(())
    }

    /// One read or write on a fresh socket. `None` when it would have to wait or has made as many as it may; the runtime knows
    /// of the socket then. Not in line: a connection with many requests comes here for its first.
    #[inline(never)]
    fn call_fresh(
        &mut self,
        mut call: impl FnMut(&std::net::TcpStream) -> io::Result<usize>,
    ) -> io::Result<Option<usize>> {
        if let Stream::Fresh(Fresh { socket, calls_left }) = self
            && *calls_left > 0
        {
            *calls_left -= 1;
            loop {
                match call(socket) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    result => return result.map(Some),
                }
            }
        }
        self.register().map(|()| None)
    }

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

    /// Ready when bytes, the end of the stream or an error have been reported; costs no system call. A fresh socket is taken
    /// for readable: a read tells.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Fresh(_) => Poll::Ready(Ok(())),
            Stream::Tcp(stream) => stream.poll_read_ready(cx),
            Stream::Unix(stream) => stream.poll_read_ready(cx),
            Stream::Tls(stream) => stream.poll_readable(cx),
            Stream::Http2(_) | Stream::Taken => Poll::Ready(Ok(())),
        }
    }

    /// The socket of plain TCP that the runtime knows of.
    pub fn plain_socket(&self) -> Option<&TcpStream> {
        match self {
            Stream::Tcp(stream) => Some(stream),
            Stream::Fresh(_) | Stream::Unix(_) | Stream::Tls(_) | Stream::Http2(_) | Stream::Taken => None,
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
            Stream::Fresh(_) | Stream::Http2(_) | Stream::Taken => Ok(()),
        };
    }

    /// Makes the close a reset: the peer cannot take what it got for complete, and nothing stays in the kernel.
    pub fn abort(&self) {
        let socket = match self {
            Stream::Fresh(fresh) => socket2::SockRef::from(&fresh.socket),
            Stream::Tcp(stream) => socket2::SockRef::from(stream),
            Stream::Tls(stream) => return stream.abort(),
            Stream::Unix(_) | Stream::Http2(_) | Stream::Taken => return,
        };
        let _closes_all_the_same: io::Result<()> = socket.set_linger(Some(std::time::Duration::ZERO));
    }

    /// Has the kernel end the connection when what was sent is not acknowledged for so long (tcp(7), TCP_USER_TIMEOUT).
    pub fn bound_silence(&self, most: std::time::Duration) {
        match self {
            Stream::Tcp(stream) => {
                let _goes_on_without = socket2::SockRef::from(stream).set_tcp_user_timeout(Some(most));
            }
            Stream::Tls(stream) => stream.io().bound_silence(most),
            Stream::Fresh(_) | Stream::Unix(_) | Stream::Http2(_) | Stream::Taken => {}
        }
    }

    /// Closes with a reset.
    pub fn reset(self) {
        self.abort();
    }

    /// Before an orderly close: over TLS, says that nothing more comes. Costs nothing on a plain socket. False when it is worth a wait.
    pub fn say_goodbye(&mut self) -> bool {
        match self {
            Stream::Tls(stream) => stream.say_goodbye(),
            _ => true,
        }
    }

    /// Bytes that were taken for sending and are not in the socket yet. None on a plain socket.
    #[inline]
    pub fn held(&self) -> usize {
        match self {
            Stream::Tls(stream) => stream.held(),
            Stream::Fresh(_) | Stream::Tcp(_) | Stream::Unix(_) | Stream::Http2(_) | Stream::Taken => 0,
        }
    }

    /// Whether a kept connection may not carry another request: it is not of the kind that is asked for now, or what its
    /// endpoint was believed by is in force no more.
    #[inline]
    pub fn is_unsuited(&self, secure: bool) -> bool {
        match self {
            Stream::Fresh(_) | Stream::Tcp(_) | Stream::Unix(_) | Stream::Taken => secure,
            Stream::Tls(stream) => !secure || stream.is_retired(),
            // It has carried its request.
            Stream::Http2(_) => true,
        }
    }

    /// Whether it carries no further request, though it is alive: what the endpoint was believed by is in force no more, or it
    /// is a stream, which carries one. Never on a plain socket.
    #[inline]
    pub fn is_retired(&self) -> bool {
        match self {
            Stream::Fresh(_) | Stream::Tcp(_) | Stream::Unix(_) | Stream::Taken => false,
            Stream::Tls(stream) => stream.is_retired(),
            Stream::Http2(_) => true,
        }
    }

    /// Our address of the connection; none on a unix socket. Costs a system call.
    pub fn local_address(&self) -> Option<SocketAddr> {
        match self {
            Stream::Fresh(fresh) => fresh.socket.local_addr().ok(),
            Stream::Tcp(stream) => stream.local_addr().ok(),
            Stream::Tls(stream) => stream.io().local_address(),
            Stream::Unix(_) | Stream::Http2(_) | Stream::Taken => None,
        }
    }

    /// The socket, with what TLS makes of its bytes left out.
    pub fn beneath(&mut self) -> &mut Self {
        match self {
            Stream::Tls(stream) => stream.io_mut(),
            other => other,
        }
    }

    /// The TLS session; none on a plain socket.
    pub fn session(&self) -> Option<&Arc<Session>> {
        match self {
            Stream::Tls(stream) => stream.session(),
            Stream::Fresh(_) | Stream::Tcp(_) | Stream::Unix(_) | Stream::Http2(_) | Stream::Taken => None,
        }
    }

    /// Whether an idle stream has been reported readable, which for an idle upstream connection means that it is
    /// closed or out of step. No system call.
    pub fn reported_readable(&self) -> bool {
        self.poll_readable(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    /// Whether there are bytes that nobody has read, decrypted or not, or the peer has closed. A system call.
    pub fn has_unread(&self) -> bool {
        match self {
            Stream::Tls(stream) => stream.has_unread(),
            Stream::Http2(_) => false,
            Stream::Fresh(_) | Stream::Tcp(_) | Stream::Unix(_) | Stream::Taken => self.peeked_dead(),
        }
    }

    /// Looks with a system call whether the peer has closed or sent bytes nobody asked for. Not through the runtime's
    /// `try_io`, which makes no call while nothing is reported: what has not been reported yet is what this is for.
    pub fn peeked_dead(&self) -> bool {
        let mut byte = [std::mem::MaybeUninit::uninit(); 1];
        let peeked = match self {
            Stream::Fresh(fresh) => socket2::SockRef::from(&fresh.socket).peek(&mut byte),
            Stream::Tcp(stream) => socket2::SockRef::from(stream).peek(&mut byte),
            Stream::Unix(stream) => socket2::SockRef::from(stream).peek(&mut byte),
            Stream::Tls(stream) => return stream.io().peeked_dead(),
            Stream::Http2(_) | Stream::Taken => Ok(0),
        };
        match peeked {
            Ok(_) => true,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }
}

impl AsyncRead for Stream {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        if stream.is_fresh() {
            let read = stream.call_fresh(|mut socket| socket.read(buffer.initialize_unfilled()));
            if let Some(read) = read? {
                buffer.advance(read);
                return Poll::Ready(Ok(()));
            }
        }
        match stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Tls(stream) => Pin::new(&mut **stream).poll_read(cx, buffer),
            Stream::Http2(stream) => Pin::new(&mut **stream).poll_read(cx, buffer),
            Stream::Fresh(_) | Stream::Taken => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Stream {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let stream = self.get_mut();
        if stream.is_fresh()
            && let Some(written) = stream.call_fresh(|mut socket| socket.write(bytes))?
        {
            return Poll::Ready(Ok(written));
        }
        match stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(&mut **stream).poll_write(cx, bytes),
            Stream::Http2(stream) => Pin::new(&mut **stream).poll_write(cx, bytes),
            Stream::Fresh(_) | Stream::Taken => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream = self.get_mut();
        if stream.is_fresh()
            && let Some(written) = stream.call_fresh(|mut socket| socket.write_vectored(parts))?
        {
            return Poll::Ready(Ok(written));
        }
        match stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Stream::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Stream::Tls(stream) => Pin::new(&mut **stream).poll_write_vectored(cx, parts),
            Stream::Http2(stream) => {
                let first = parts.iter().find(|part| !part.is_empty());
                Pin::new(&mut **stream).poll_write(cx, first.map_or(&[], |part| part))
            }
            Stream::Fresh(_) | Stream::Taken => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
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
            Stream::Fresh(_) | Stream::Tcp(_) | Stream::Unix(_) | Stream::Http2(_) | Stream::Taken => {
                Poll::Ready(Ok(()))
            }
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Fresh(fresh) => Poll::Ready(fresh.socket.shutdown(Shutdown::Write)),
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
            Stream::Http2(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
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
