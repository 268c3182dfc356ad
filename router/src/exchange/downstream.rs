//! The client's side of an exchange: the few operations in which a connection that carries one request at a time differs
//! from a stream of one that carries many.
//!
//! The exchange is written once over this trait and compiled once for each kind, so that HTTP/1 pays nothing for the
//! others. Heads are judged, and decisions made, before or above it. Does not frame HTTP/1 bodies (the relay does).

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ekiden_core::outcome::Cause;
use http::HeaderMap;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

use crate::buffer::{Buffer, Buffers};
use crate::exchange::out::{Out, Written, put_decimal, put_field};
use crate::stream::Stream;
use crate::tls::Session;

/// What a head announces, for a sender that must say at once whether anything follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadKind {
    /// 1xx: another head follows.
    Informational,
    /// The final head, and a body after it.
    Final,
    /// The final head, and nothing after it.
    FinalAlone,
}

/// The client's side of one exchange.
pub trait Downstream {
    /// The request is a stream of its own: its end is told and not counted, what is sent carries no framing of HTTP/1, and
    /// its end is not the end of the connection.
    const IS_STREAM: bool;

    /// One read of request bytes into the free space of `buffer`; 0 is the end of what the client sends.
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut Buffer) -> Poll<io::Result<usize>>;

    /// Trailers of the request; of use after [`Downstream::poll_read`] has given 0, and given once.
    fn take_trailers(&mut self) -> Option<HeaderMap>;

    /// Why a client is gone whose reads or writes fail.
    fn loss(&self) -> Cause;

    /// Whether the client has sent something that nobody has read, or has closed. Costs a system call.
    fn has_unread(&self) -> bool {
        false
    }

    /// Whether the first [`Downstream::poll_watch`] costs more than one look: a wait that is over soon goes without.
    #[inline]
    fn is_unwatched(&self) -> bool {
        false
    }

    /// Watches a client that has nothing to send for this request. `closed` is set when it has closed its side and no more.
    /// Costs no system call while nothing is reported.
    ///
    /// # Errors
    /// It has gone.
    fn poll_watch(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &Buffers,
        buffer: &mut Buffer,
        closed: &mut bool,
    ) -> Result<(), Cause>;

    /// Writes what is pending in `out` followed by `direct`, as far as the client takes it; ready when at least one byte
    /// went out. `last` says that nothing but trailers comes after these bytes.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Out,
        direct: &[u8],
        last: bool,
    ) -> Poll<io::Result<Written>>;

    /// How many bytes of a body, `most` of them at most, the client takes now, as far as that is known before there are any; the
    /// task is woken when there are more than none. They are held for this response until [`Downstream::return_room`] or the next
    /// write.
    #[inline]
    fn room(&mut self, _: &mut Context<'_>, most: usize) -> usize {
        most
    }

    /// Gives back what [`Downstream::room`] has found: nothing is there to be sent, and others may have something.
    #[inline]
    fn return_room(&mut self) {}

    /// Whether more than one other response of the connection waits for its client: what comes ahead of it is to be small.
    #[inline]
    fn is_crowded(&self) -> bool {
        false
    }

    /// Sends what was taken by [`Downstream::poll_write`] and held back. Ready at once where nothing is.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Bytes that were taken for sending and are not in the socket yet, as far as they are known.
    fn held(&self) -> usize;

    /// The address that the client connected to, as its socket says; none on a unix socket.
    fn local_address(&self) -> Option<SocketAddr>;

    /// The socket, where it carries the bytes of this exchange as they are.
    fn plain_socket(&self) -> Option<&TcpStream> {
        None
    }

    /// The TLS session of the connection; none on a plain one.
    fn session(&self) -> Option<&Arc<Session>>;

    /// Begins a head.
    fn begin_head(&mut self, out: &mut Out, status: u16, reason: &[u8]);

    /// Adds a field to the head or to the trailers that have been begun.
    fn field(&mut self, out: &mut Out, name: &[u8], value: &[u8]);

    /// Ends a head; gives the bytes that are on their way already and will not be seen by [`Downstream::poll_write`].
    ///
    /// # Errors
    /// The client has gone, or a field cannot be said in its protocol.
    fn end_head(&mut self, out: &mut Out, kind: HeadKind) -> Result<u64, Cause>;

    /// Ends the body with the fields that `each` adds, perhaps none. Not called for a body that has a length or lasts until
    /// the close.
    ///
    /// # Errors
    /// That of `each`, or a field that cannot be said.
    fn trailers(
        &mut self,
        out: &mut Out,
        each: impl FnOnce(&mut dyn FnMut(&[u8], &[u8])) -> Result<(), Cause>,
    ) -> Result<(), Cause>;

    /// Says that nothing more comes, while the client may still send. Called at the end of a tunnel's way down.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// The response has been written, all of it.
    ///
    /// # Errors
    /// The client has gone.
    fn finish(&mut self) -> Result<(), Cause>;
}

/// HTTP/1: one request at a time, all of it text in `out`.
impl Downstream for Stream {
    const IS_STREAM: bool = false;

    #[inline]
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut Buffer) -> Poll<io::Result<usize>> {
        buffer.poll_read(cx, self)
    }

    #[inline]
    fn take_trailers(&mut self) -> Option<HeaderMap> {
        None
    }

    #[inline]
    fn loss(&self) -> Cause {
        Cause::ClientGone
    }

    fn has_unread(&self) -> bool {
        Stream::has_unread(self)
    }

    #[inline]
    fn is_unwatched(&self) -> bool {
        self.is_fresh()
    }

    /// Pipelined bytes are kept, a close after a complete request is remembered.
    #[inline]
    fn poll_watch(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &Buffers,
        buffer: &mut Buffer,
        closed: &mut bool,
    ) -> Result<(), Cause> {
        // A fresh one that is watched from now on has to be reported.
        if self.register().is_err() {
            return Err(self.loss());
        }
        buffers.attach(buffer);
        while !*closed && !buffer.is_full() {
            match buffer.poll_read(cx, self) {
                Poll::Ready(Ok(0)) => *closed = true,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => return Err(self.loss()),
                Poll::Pending => return Ok(()),
            }
        }
        Ok(())
    }

    #[inline]
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Out,
        direct: &[u8],
        _: bool,
    ) -> Poll<io::Result<Written>> {
        out.poll_write(cx, self, direct)
    }

    #[inline]
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(self), cx)
    }

    #[inline]
    fn held(&self) -> usize {
        Stream::held(self)
    }

    fn local_address(&self) -> Option<SocketAddr> {
        Stream::local_address(self)
    }

    fn plain_socket(&self) -> Option<&TcpStream> {
        Stream::plain_socket(self)
    }

    #[inline]
    fn session(&self) -> Option<&Arc<Session>> {
        Stream::session(self)
    }

    #[inline]
    fn begin_head(&mut self, out: &mut Out, status: u16, reason: &[u8]) {
        let out = out.buffer();
        out.extend_from_slice(b"HTTP/1.1 ");
        put_decimal(out, u64::from(status));
        out.push(b' ');
        out.extend_from_slice(reason);
        out.extend_from_slice(b"\r\n");
    }

    #[inline]
    fn field(&mut self, out: &mut Out, name: &[u8], value: &[u8]) {
        put_field(out.buffer(), name, value);
    }

    #[inline]
    fn end_head(&mut self, out: &mut Out, _: HeadKind) -> Result<u64, Cause> {
        out.buffer().extend_from_slice(b"\r\n");
        Ok(0)
    }

    #[inline]
    fn trailers(
        &mut self,
        out: &mut Out,
        each: impl FnOnce(&mut dyn FnMut(&[u8], &[u8])) -> Result<(), Cause>,
    ) -> Result<(), Cause> {
        let out = out.buffer();
        out.extend_from_slice(b"0\r\n");
        each(&mut |name, value| put_field(out, name, value))?;
        out.extend_from_slice(b"\r\n");
        Ok(())
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_shutdown(Pin::new(self), cx)
    }

    #[inline]
    fn finish(&mut self) -> Result<(), Cause> {
        Ok(())
    }
}
