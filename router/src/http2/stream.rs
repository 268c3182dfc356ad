//! One stream of an HTTP/2 connection as the client's side of an exchange.
//!
//! Bytes are copied once in each direction, so that what a slow side holds is bounded here: a frame on the way in, the send
//! buffer of the codec on the way out. Window is given back as the relay takes bytes. Does not judge heads.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes, BytesMut};
use ekiden_core::outcome::Cause;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use crate::buffer::{Buffer, Buffers};
use crate::exchange::downstream::{Downstream, HeadKind};
use crate::exchange::out::{Out, Written};
use crate::http2::follower::{Notes, Turn};
use crate::tls::Session;
use crate::wire::http2::is_legal_trailer;

/// Most bytes handed to the codec at once.
const PIECE_MAX: usize = 64 << 10;
/// Other streams that may wait for their client before what is received for any is received in small pieces: one that somebody
/// has paused is no crowd.
const CROWD_MIN: u32 = 1;

/// Fields of a usual response: room for them is made at once.
const USUAL_FIELDS: usize = 12;

/// A stream.
pub struct ClientStream {
    body: RecvStream,
    respond: SendResponse<Bytes>,
    /// There once the final head has been sent.
    send: Option<SendStream<Bytes>>,
    status: StatusCode,
    fields: HeaderMap,
    /// A field of the head cannot be said in HTTP/2.
    unsayable: bool,
    /// Received and not yet taken.
    piece: Bytes,
    /// What is left of the length that the head gave; none where it gave none.
    left: Option<u64>,
    body_ended: bool,
    /// A tunnel: data and nothing else.
    is_tunnel: bool,
    trailers_in: Option<Box<HeaderMap>>,
    trailers_out: Option<Box<HeaderMap>>,
    /// END_STREAM has been sent.
    ended: bool,
    /// It waits for the client, and is counted in the notes.
    waits: bool,
    /// Its turn at the socket, while it waits for that and has sent nothing since.
    turn: Option<Turn>,
    notes: Rc<Notes>,
    session: Option<Arc<Session>>,
}

fn lost(error: h2::Error) -> io::Error {
    error.into_io().unwrap_or_else(|| io::ErrorKind::ConnectionReset.into())
}

fn gone() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

impl ClientStream {
    /// A stream whose request has been taken from the codec.
    pub fn new(
        body: RecvStream,
        respond: SendResponse<Bytes>,
        notes: Rc<Notes>,
        session: Option<Arc<Session>>,
    ) -> Self {
        Self {
            body,
            respond,
            send: None,
            status: StatusCode::OK,
            fields: HeaderMap::new(),
            unsayable: false,
            piece: Bytes::new(),
            left: None,
            body_ended: false,
            is_tunnel: false,
            trailers_in: None,
            trailers_out: None,
            ended: false,
            waits: false,
            turn: None,
            notes,
            session,
        }
    }

    /// Whether the request ended with its head.
    pub fn has_no_body(&self) -> bool {
        self.body.is_end_stream()
    }

    /// Whether the client has taken the request back, or the connection has ended.
    pub fn is_reset(&mut self) -> bool {
        self.respond.poll_reset(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    /// Holds the client to a length: the bytes that make the body complete are given out once the stream has ended, so that no
    /// endpoint sees a whole request where the client goes on and the request is refused (RFC 9113 section 8.1.1).
    pub fn expect_length(&mut self, bytes: u64) {
        self.left = Some(bytes);
    }

    /// Holds the client to what a tunnel may carry: frames other than DATA are an error of the stream (RFC 9113 section 8.5).
    pub fn expect_tunnel(&mut self) {
        self.is_tunnel = true;
    }

    /// Ready when the stream has ended with nothing more in it.
    ///
    /// # Errors
    /// There is more, or the client has gone.
    pub fn poll_whole(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.body_ended {
            match ready!(self.body.poll_data(cx)) {
                Some(Ok(piece)) if piece.is_empty() => {}
                Some(Ok(_)) => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
                Some(Err(error)) => return Poll::Ready(Err(lost(error))),
                None => return self.poll_end(cx),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Ends the stream in an error.
    pub fn reset(&mut self, reason: Reason) {
        match &mut self.send {
            Some(send) => send.send_reset(reason),
            None => self.respond.send_reset(reason),
        }
    }

    /// Takes what the client still sends after its response, and drops it. Ready when the request has ended or the client is
    /// gone, or when more than `left` bytes have come.
    pub fn poll_swallow(&mut self, cx: &mut Context<'_>, left: &mut usize) -> Poll<()> {
        loop {
            let count = std::mem::take(&mut self.piece).len();
            if self.body.flow_control().release_capacity(count).is_err() || count > *left {
                return Poll::Ready(());
            }
            *left -= count;
            match if self.body_ended { None } else { ready!(self.body.poll_data(cx)) } {
                Some(Ok(piece)) => self.piece = piece,
                Some(Err(_)) => return Poll::Ready(()),
                None => return self.poll_end(cx).map(|_malformed_is_reset| ()),
            }
        }
    }

    /// Notes whether there is something to send that waits for the client.
    fn set_waits(&mut self, waits: bool) {
        if std::mem::replace(&mut self.waits, waits) != waits {
            self.notes.count_waiting(waits);
        }
    }

    /// The end of the body: takes the trailers, once.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.body_ended {
            return Poll::Ready(Ok(()));
        }
        self.trailers_in = ready!(self.body.poll_trailers(cx)).map_err(lost)?.map(Box::new);
        self.body_ended = true;
        let Some(trailers) = &self.trailers_in else { return Poll::Ready(Ok(())) };
        let mut fields = trailers.iter();
        let legal = !self.is_tunnel && fields.all(|(name, value)| is_legal_trailer(name, value.as_bytes()));
        if !legal {
            // Malformed as a head with such a field would be, and no end of a tunnel.
            self.reset(Reason::PROTOCOL_ERROR);
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for ClientStream {
    fn drop(&mut self) {
        self.set_waits(false);
    }
}

impl Downstream for ClientStream {
    const IS_STREAM: bool = true;

    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut Buffer) -> Poll<io::Result<usize>> {
        while self.piece.is_empty() {
            match if self.body_ended { None } else { ready!(self.body.poll_data(cx)) } {
                Some(piece) => self.piece = piece.map_err(lost)?,
                None => return self.poll_end(cx).map_ok(|()| 0),
            }
        }
        if self.left == Some(self.piece.len() as u64) {
            ready!(self.poll_whole(cx))?;
        }
        let count = buffer.put(&self.piece);
        self.piece.advance(count);
        self.left = self.left.map(|left| left.saturating_sub(count as u64));
        self.body.flow_control().release_capacity(count).map_err(lost)?;
        Poll::Ready(Ok(count))
    }

    fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.trailers_in.take().map(|trailers| *trailers)
    }

    fn loss(&self) -> Cause {
        if self.notes.is_over_budget() { Cause::Http2OverBudget } else { Cause::ClientGone }
    }

    fn poll_watch(
        &mut self,
        cx: &mut Context<'_>,
        _: &Buffers,
        _: &mut Buffer,
        _: &mut bool,
    ) -> Result<(), Cause> {
        let reset = match &mut self.send {
            Some(send) => send.poll_reset(cx),
            None => self.respond.poll_reset(cx),
        };
        if reset.is_ready() { Err(self.loss()) } else { Ok(()) }
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Out,
        direct: &[u8],
        last: bool,
    ) -> Poll<io::Result<Written>> {
        let Some(send) = self.send.as_mut() else { return Poll::Ready(Err(gone())) };
        let pending = out.unsent();
        let wanted = pending.len() + direct.len();
        if self.notes.is_choked() {
            self.notes.wait_for_socket(&mut self.turn, cx);
            // The end of the stream or of its connection is heard of by this alone.
            let ended = send.poll_reset(cx);
            self.set_waits(true);
            return ended.map(|_| Err(gone()));
        }
        let asked = wanted.min(PIECE_MAX).min(self.notes.free());
        send.reserve_capacity(asked);
        while send.capacity() == 0 {
            match send.poll_capacity(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(lost(error))),
                Poll::Ready(None) => return Poll::Ready(Err(gone())),
                Poll::Pending => {
                    if !last {
                        // In turn with other streams, and for a piece that is worth it: more will be there by then.
                        send.reserve_capacity(PIECE_MAX);
                    }
                    self.set_waits(true);
                    return Poll::Pending;
                }
            }
        }
        let count = send.capacity().min(asked);
        let buffered = count.min(pending.len());
        let mut bytes = BytesMut::with_capacity(count);
        bytes.extend_from_slice(pending.get(..buffered).unwrap_or(&[]));
        bytes.extend_from_slice(direct.get(..count - buffered).unwrap_or(&[]));
        self.ended = last && count == wanted && self.trailers_out.is_none();
        send.send_data(bytes.freeze(), self.ended).map_err(lost)?;
        self.set_waits(false);
        self.turn = None;
        self.notes.queue(count);
        out.note_sent(buffered);
        Poll::Ready(Ok(Written { total: count, direct: count - buffered }))
    }

    fn room(&mut self, cx: &mut Context<'_>, most: usize) -> usize {
        let Some(send) = self.send.as_mut() else { return most };
        let mut room = 0;
        if self.notes.is_choked() {
            self.notes.wait_for_socket(&mut self.turn, cx);
        } else {
            let most = most.min(self.notes.free());
            send.reserve_capacity(most);
            room = send.capacity().min(most);
            while room == 0 && matches!(send.poll_capacity(cx), Poll::Ready(Some(Ok(_)))) {
                room = send.capacity().min(most);
            }
        }
        self.set_waits(room == 0);
        room
    }

    /// One byte stays asked for: the task is woken when a window that was closed opens.
    fn return_room(&mut self) {
        if let Some(send) = self.send.as_mut() {
            send.reserve_capacity(1);
        }
    }

    fn is_crowded(&self) -> bool {
        self.notes.waiting() > u32::from(self.waits) + CROWD_MIN || self.notes.is_choked()
    }

    /// The codec sends by itself.
    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn held(&self) -> usize {
        0
    }

    fn local_address(&self) -> Option<SocketAddr> {
        self.notes.local_address()
    }

    fn session(&self) -> Option<&Arc<Session>> {
        self.session.as_ref()
    }

    fn begin_head(&mut self, _: &mut Out, status: u16, _: &[u8]) {
        self.fields.clear();
        self.fields.reserve(USUAL_FIELDS);
        self.unsayable = false;
        match StatusCode::from_u16(status) {
            Ok(status) => self.status = status,
            Err(_) => self.unsayable = true,
        }
    }

    fn field(&mut self, _: &mut Out, name: &[u8], value: &[u8]) {
        self.unsayable |= !add(&mut self.fields, name, value);
    }

    fn end_head(&mut self, _: &mut Out, kind: HeadKind) -> Result<u64, Cause> {
        let mut response = Response::new(());
        *response.status_mut() = self.status;
        *response.headers_mut() = std::mem::take(&mut self.fields);
        if self.unsayable {
            return Err(Cause::ResponseMalformed);
        }
        let fields = response.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
        let bytes = ":status: 200\r\n\r\n".len() + fields.sum::<usize>();
        let sent = match kind {
            HeadKind::Informational => self.respond.send_informational(response),
            HeadKind::Final | HeadKind::FinalAlone => {
                self.ended = kind == HeadKind::FinalAlone;
                self.respond.send_response(response, self.ended).map(|send| self.send = Some(send))
            }
        };
        let loss = self.loss();
        sent.map(|()| bytes as u64).map_err(|_| loss)
    }

    fn trailers(
        &mut self,
        _: &mut Out,
        each: impl FnOnce(&mut dyn FnMut(&[u8], &[u8])) -> Result<(), Cause>,
    ) -> Result<(), Cause> {
        let (mut trailers, mut sayable) = (HeaderMap::new(), true);
        each(&mut |name, value| sayable &= add(&mut trailers, name, value))?;
        if !sayable {
            return Err(Cause::ResponseMalformed);
        }
        self.trailers_out = Some(trailers).filter(|trailers| !trailers.is_empty()).map(Box::new);
        Ok(())
    }

    fn poll_end(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.finish().map_err(|_| gone()))
    }

    fn finish(&mut self) -> Result<(), Cause> {
        if std::mem::replace(&mut self.ended, true) {
            return Ok(());
        }
        let loss = self.loss();
        let Some(send) = self.send.as_mut() else { return Err(loss) };
        let sent = match self.trailers_out.take() {
            Some(trailers) => send.send_trailers(*trailers),
            None => send.send_data(Bytes::new(), true),
        };
        sent.map_err(|_| loss)
    }
}

/// Adds a field, its name in lower case; false when it is none.
fn add(fields: &mut HeaderMap, name: &[u8], value: &[u8]) -> bool {
    let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) else {
        return false;
    };
    fields.try_append(name, value).is_ok()
}
