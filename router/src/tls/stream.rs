//! TLS over a socket, as a byte stream: what is read is decrypted, what is written is encrypted.
//!
//! Drives `rustls` itself, for two reasons. It reads the socket in pieces of up to [`SCRATCH`] bytes where the ready-made
//! adapter reads 4 KiB, and it says what has been taken and not yet been sent ([`TlsStream::held`]), which the deadlines of
//! slow readers need. Does not make handshakes (`handshake`) and does not choose certificates.

use std::cell::{Cell, RefCell};
use std::io::{self, BufRead, IoSlice, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use rustls::{ClientConnection, Connection, ServerConnection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::clients::Identity;
use super::upstream::Trust;
use crate::stream::Stream;

/// Bytes of one read from the socket at most. One such buffer a thread: an idle connection holds none.
const SCRATCH: usize = 32 << 10;
/// Bytes read at least, so that a record's head never comes alone.
const READ_LEAST: usize = 4 << 10;

thread_local! {
    static CIPHERTEXT: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into_boxed_slice());
}

/// What a handshake agreed on, for the log and for the rules of authorities.
#[derive(Debug)]
pub struct Session {
    /// The listener's name in the handshake's table.
    pub listener: ekiden_config::names::ListenerName,
    /// The host that the client named, in lower case.
    pub name: Option<Box<str>>,
    /// TLS 1.3, else 1.2.
    pub is_13: bool,
    /// Number of the cipher suite (IANA).
    pub cipher: u16,
    /// The protocol negotiated by ALPN; what decides the codec.
    pub alpn: Option<Box<[u8]>>,
    /// Who the client proved to be.
    pub client: Option<Identity>,
}

/// A TLS connection, with a client or with an endpoint.
pub struct TlsStream {
    io: Stream,
    tls: Connection,
    /// Decrypted bytes that nobody has taken.
    ready: usize,
    /// Bytes from the socket that wait until those have been taken: rustls holds one record of them and no more.
    stash: Vec<u8>,
    /// The peer said that it sends no more, or closed.
    ended: bool,
    /// Bytes taken since everything had been sent, and ciphertext of them that has been sent.
    taken: usize,
    sent: usize,
    closing: bool,
    /// The close is to be a reset: nothing says that the end is an orderly one.
    aborted: Cell<bool>,
    /// What the handshake agreed on; none before its end.
    session: Option<Arc<Session>>,
    /// What the endpoint was believed by; none on a connection with a client.
    trust: Option<Arc<Trust>>,
}

impl std::fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsStream").field("session", &self.session).finish_non_exhaustive()
    }
}

/// Why a handshake or a connection cannot go on.
#[derive(Debug)]
pub enum TlsError {
    /// The socket failed, or the client closed it.
    Io(io::Error),
    /// The protocol was not kept; an alert has been sent where one is due.
    Protocol(rustls::Error),
}

impl From<io::Error> for TlsError {
    fn from(error: io::Error) -> Self {
        TlsError::Io(error)
    }
}

impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> Self {
        match error {
            TlsError::Io(error) => error,
            TlsError::Protocol(error) => io::Error::new(io::ErrorKind::InvalidData, error),
        }
    }
}

impl TlsStream {
    /// A stream with a client, whose handshake has begun. `io` is a plain socket.
    pub fn new(io: Stream, tls: ServerConnection) -> Self {
        Self::begun(io, tls.into(), None)
    }

    /// A stream with an endpoint, whose handshake is to begin. `io` is a plain socket.
    pub fn to_endpoint(io: Stream, tls: ClientConnection, trust: Arc<Trust>) -> Self {
        Self::begun(io, tls.into(), Some(trust))
    }

    fn begun(io: Stream, tls: Connection, trust: Option<Arc<Trust>>) -> Self {
        Self {
            io,
            tls,
            ready: 0,
            stash: Vec::new(),
            ended: false,
            taken: 0,
            sent: 0,
            closing: false,
            aborted: Cell::new(false),
            session: None,
            trust,
        }
    }

    /// What the endpoint was believed by; none on a connection with a client.
    pub fn trust(&self) -> Option<&Arc<Trust>> {
        self.trust.as_ref()
    }

    /// Whether the trust that the endpoint was believed by is in force no more.
    pub fn is_retired(&self) -> bool {
        self.trust.as_ref().is_some_and(|trust| trust.is_retired())
    }

    /// The socket.
    pub fn io(&self) -> &Stream {
        &self.io
    }

    /// The socket, for who reads what nobody decrypts any more.
    pub fn io_mut(&mut self) -> &mut Stream {
        &mut self.io
    }

    /// Makes the close to come a reset, without the word that the end is an orderly one.
    pub fn abort(&self) {
        self.aborted.set(true);
        self.io.abort();
    }

    /// What rustls knows of the connection.
    pub fn connection(&self) -> &Connection {
        &self.tls
    }

    /// The host that the client named in its handshake; none with an endpoint.
    pub fn named(&self) -> Option<&str> {
        match &self.tls {
            Connection::Server(server) => server.server_name(),
            Connection::Client(_) => None,
        }
    }

    /// What the handshake agreed on.
    pub fn session(&self) -> Option<&Arc<Session>> {
        self.session.as_ref()
    }

    /// Notes what the handshake agreed on.
    pub fn agree(&mut self, session: Session) {
        self.session = Some(Arc::new(session));
    }

    /// Ready when decrypted bytes are there, or when the socket has been reported readable.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.ready > 0 || self.ended || !self.stash.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.io.poll_readable(cx)
    }

    /// Whether there are bytes that nobody has taken, or the client has ended. A system call.
    pub fn has_unread(&self) -> bool {
        self.ready > 0 || self.ended || !self.stash.is_empty() || self.io.peeked_dead()
    }

    /// Bytes that were taken for sending and are not in the socket yet; close to it, for they are counted unencrypted.
    pub fn held(&self) -> usize {
        if self.tls.wants_write() { self.taken.saturating_sub(self.sent).max(1) } else { 0 }
    }

    /// Goes on with the handshake. Ready once it is over; what the client is still owed goes with the next write.
    pub fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TlsError>> {
        loop {
            let sent = self.poll_send(cx)?;
            if !self.tls.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            // A client that does not read does not get further either way.
            ready!(sent);
            ready!(self.poll_receive(cx, &mut ReadBuf::new(&mut [])))?;
            if self.ended && self.tls.is_handshaking() {
                return Poll::Ready(Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()));
            }
        }
    }

    /// Says that nothing more comes and tries once to send it. For an orderly close; costs a write. False when that alone is left to be
    /// sent: without it the peer cannot tell the end from a cut. Who has not taken what came before it is owed nothing.
    pub fn say_goodbye(&mut self) -> bool {
        let is_owed = !self.tls.wants_write();
        self.close_notify();
        let sent = self.poll_send(&mut Context::from_waker(Waker::noop()));
        sent.is_ready() || !is_owed
    }

    fn close_notify(&mut self) {
        if !std::mem::replace(&mut self.closing, true) {
            self.tls.send_close_notify();
        }
    }

    /// Sends ciphertext until none is left.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut Socket { io: &mut self.io, cx }) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        (self.taken, self.sent) = (0, 0);
        Poll::Ready(Ok(()))
    }

    /// One read from the socket; what it gives goes into `target` as far as there is room, the rest waits.
    ///
    /// At most as much is read as there is room for, so that what waits is little.
    fn poll_receive(&mut self, cx: &mut Context<'_>, target: &mut ReadBuf<'_>) -> Poll<Result<(), TlsError>> {
        if !self.stash.is_empty() {
            let stash = std::mem::take(&mut self.stash);
            return Poll::Ready(self.decrypt(&stash, target));
        }
        CIPHERTEXT.with_borrow_mut(|scratch| {
            let most = target.remaining().clamp(READ_LEAST, SCRATCH);
            let Some(space) = scratch.get_mut(..most) else { return Poll::Pending };
            let mut read = ReadBuf::new(space);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut read))?;
            let bytes = read.filled();
            if bytes.is_empty() && self.trust.is_some() {
                // An endpoint that has something to say says when that ends: what lasts until the close may have been cut
                // short by anyone on the way (RFC 9112 section 9.8).
                return Poll::Ready(Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()));
            }
            self.ended |= bytes.is_empty();
            Poll::Ready(self.decrypt(bytes, target))
        })
    }

    /// Decrypts until there is no room for more.
    fn decrypt(&mut self, mut bytes: &[u8], target: &mut ReadBuf<'_>) -> Result<(), TlsError> {
        while !bytes.is_empty() && !self.ended {
            if self.ready > 0 && target.remaining() == 0 {
                self.stash = bytes.to_vec();
                return Ok(());
            }
            self.tls.read_tls(&mut bytes)?;
            match self.tls.process_new_packets() {
                Ok(state) => {
                    self.ready = state.plaintext_bytes_to_read();
                    self.ended |= state.peer_has_closed();
                }
                Err(error) => {
                    // The alert that says so, if it goes at once.
                    let _best_effort = self.poll_send(&mut Context::from_waker(Waker::noop()));
                    return Err(TlsError::Protocol(error));
                }
            }
            self.take(target)?;
        }
        Ok(())
    }

    /// Moves decrypted bytes into `target`.
    fn take(&mut self, target: &mut ReadBuf<'_>) -> io::Result<()> {
        while self.ready > 0 && target.remaining() > 0 {
            // By chunks: the target's spare room is not zeroed first, so pages that nothing is read into are never touched.
            let mut reader = self.tls.reader();
            let chunk = reader.fill_buf()?;
            let count = chunk.len().min(target.remaining());
            if count == 0 {
                break;
            }
            target.put_slice(chunk.get(..count).unwrap_or_default());
            reader.consume(count);
            self.ready = self.ready.saturating_sub(count);
        }
        Ok(())
    }

    /// Encrypts and sends; ready with what was taken. Takes nothing while earlier bytes are held.
    fn poll_encrypt(&mut self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        ready!(self.poll_send(cx))?;
        let count = self.tls.writer().write_vectored(parts)?;
        self.taken += count;
        if let Poll::Ready(sent) = self.poll_send(cx) {
            sent?;
        }
        Poll::Ready(Ok(count))
    }
}

/// An endpoint is told that nothing more comes, however its connection ends: some keep no session otherwise.
impl Drop for TlsStream {
    fn drop(&mut self) {
        if self.trust.is_some() && !self.aborted.get() && !self.tls.is_handshaking() {
            let _best_effort = self.say_goodbye();
        }
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        target: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = target.filled().len();
        loop {
            this.take(target)?;
            if target.filled().len() > before || this.ended || target.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            ready!(this.poll_receive(cx, target))?;
        }
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().poll_encrypt(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_encrypt(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_send(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.close_notify();
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.io).poll_shutdown(cx)
    }
}

/// The socket as rustls writes to it: would block where it is not ready, and then wakes the task.
struct Socket<'a, 'c> {
    io: &'a mut Stream,
    cx: &'a mut Context<'c>,
}

impl Socket<'_, '_> {
    fn now(result: Poll<io::Result<usize>>) -> io::Result<usize> {
        match result {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Write for Socket<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Self::now(Pin::new(&mut *self.io).poll_write(self.cx, bytes))
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        Self::now(Pin::new(&mut *self.io).poll_write_vectored(self.cx, parts))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
