//! One stream to an endpoint, as a connection that carries one request.
//!
//! An exchange holds its request in the text of HTTP/1, which is what a replay can send again over either version. Here that
//! text becomes frames, and the frames of the response become such text, which the one judge of responses then judges:
//!
//! ```text
//! leg.output --text--> head: HEADERS | chunks, length: DATA | trailers: HEADERS(END_STREAM)
//! leg.input  <--text-- HEADERS: 1xx, head | DATA: chunks, or as long as announced | HEADERS: trailers
//! ```
//! What asks for WebSocket becomes an extended CONNECT (`extended`), and the stream bytes both ways. Flow control is that of the
//! exchange: room is given back as the relay takes bytes. Does not retry and does not pool.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Uri, response};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::extended;
use super::pool::Lease;
use crate::exchange::out::{put_chunk_size, put_decimal, put_field};
use crate::head::FieldId;
use crate::wire::body::{Decoder, Frame, Framing};
use crate::wire::chunked::trailer_fields;
use crate::wire::request::FIELDS_MAX;

/// Most bytes handed to the codec at once.
pub(super) const PIECE_MAX: usize = 16 << 10;

/// The request on its way.
enum Sending {
    /// The head has not come whole.
    Head(Vec<u8>),
    /// The head was sent.
    Body { send: SendStream<Bytes>, decoder: Decoder, left: usize },
    /// The head of an extended CONNECT was sent: what follows is the tunnel's.
    Tunnel(SendStream<Bytes>),
    /// END_STREAM was sent.
    Done,
}

/// The response on its way.
enum Receiving {
    /// No request was sent.
    Idle,
    /// The request could not be sent: why, told once.
    Unsent(Option<io::Error>),
    /// Its head has not come.
    Head(Box<ResponseFuture>),
    /// Its head has come.
    Body(RecvStream),
    /// It was the word that the stream is a tunnel.
    Tunnel(RecvStream),
    /// All of it has come.
    Done,
}

/// A stream to an endpoint.
pub struct EndpointStream {
    sender: SendRequest<Bytes>,
    secure: bool,
    sending: Sending,
    receiving: Receiving,
    to_head: bool,
    /// Text of the response that nobody has taken: `text[at..]`, then `piece`, then `tail`.
    text: Vec<u8>,
    at: usize,
    piece: Bytes,
    tail: bool,
    /// The answer to the key of a WebSocket that was asked for.
    accept: Option<Box<str>>,
    lease: Lease,
}

impl std::fmt::Debug for EndpointStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EndpointStream").field("lease", &self.lease).finish_non_exhaustive()
    }
}

/// What a failed stream says of its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// The endpoint has not looked at it (RFC 9113 section 8.7): any request may be sent again.
    Unprocessed,
    /// The endpoint ended it, or the connection is gone.
    Reset,
    /// The endpoint broke the protocol.
    Broken,
}

/// What an error of a stream means; none when it is not one of HTTP/2.
pub fn lost(error: &io::Error) -> Option<Lost> {
    let error = error.get_ref()?.downcast_ref::<h2::Error>()?;
    let refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
    Some(if error.is_remote() && (error.is_go_away() || refused) {
        Lost::Unprocessed
    } else if error.is_io() || error.is_remote() {
        Lost::Reset
    } else {
        Lost::Broken
    })
}

/// The code with which the endpoint reset the stream.
pub fn reset_code(error: &io::Error) -> Option<u32> {
    let error = error.get_ref()?.downcast_ref::<h2::Error>()?;
    if error.is_reset() && error.is_remote() { error.reason().map(u32::from) } else { None }
}

fn unsayable() -> io::Error {
    io::ErrorKind::InvalidInput.into()
}

fn malformed() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

impl EndpointStream {
    /// A stream of a connection, of which nothing has been sent. `secure` says that the connection is one of TLS.
    pub fn new(sender: SendRequest<Bytes>, secure: bool, lease: Lease) -> Self {
        Self {
            sender,
            secure,
            sending: Sending::Head(Vec::new()),
            receiving: Receiving::Idle,
            to_head: false,
            text: Vec::new(),
            at: 0,
            piece: Bytes::new(),
            tail: false,
            accept: None,
            lease,
        }
    }

    /// Whether its connection is one of TLS.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// Whether the endpoint takes an extended CONNECT.
    pub fn takes_extended(&self) -> bool {
        self.sender.is_extended_connect_protocol_enabled()
    }

    /// Gives no more streams of this connection out: the endpoint did not answer on it.
    pub fn retire_connection(&self) {
        self.lease.retire();
    }

    /// Takes text of the request; gives how much.
    fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut taken = 0;
        loop {
            let rest = bytes.get(taken..).unwrap_or(&[]);
            let step = match &mut self.sending {
                Sending::Done => return Poll::Ready(Ok(bytes.len())),
                Sending::Head(head) => {
                    let before = head.len();
                    head.extend_from_slice(rest);
                    let from = before.saturating_sub(3);
                    let found = memchr::memmem::find(head.get(from..).unwrap_or(&[]), b"\r\n\r\n");
                    let Some(length) = found.map(|at| from + at + 4) else {
                        return Poll::Ready(Ok(bytes.len()));
                    };
                    match self.sender.poll_ready(cx) {
                        Poll::Ready(Ok(())) => {}
                        Poll::Ready(Err(error)) => {
                            return Poll::Ready(Err(self.unsent(io::Error::other(error))));
                        }
                        Poll::Pending => {
                            head.truncate(before);
                            return Poll::Pending;
                        }
                    }
                    head.truncate(length);
                    let head = std::mem::take(head);
                    if let Err(error) = self.send_head(&head) {
                        return Poll::Ready(Err(self.unsent(error)));
                    }
                    Poll::Ready(length - before)
                }
                Sending::Body { send, decoder, left } => match poll_body(cx, send, decoder, left, rest) {
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Ready(Ok((count, ended))) => {
                        if ended {
                            self.sending = Sending::Done;
                        }
                        if count == 0 && !ended {
                            // The exchange hands chunks over whole.
                            return Poll::Ready(Err(malformed()));
                        }
                        Poll::Ready(count)
                    }
                    Poll::Pending => Poll::Pending,
                },
                Sending::Tunnel(send) => match extended::poll_tunnel(cx, send, rest) {
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Ready(Ok(count)) => Poll::Ready(count),
                    Poll::Pending => Poll::Pending,
                },
            };
            match step {
                Poll::Ready(count) => taken += count,
                Poll::Pending if taken > 0 => return Poll::Ready(Ok(taken)),
                Poll::Pending => return Poll::Pending,
            }
            if taken >= bytes.len() {
                return Poll::Ready(Ok(taken));
            }
        }
    }

    /// Who reads the response is told why there is none.
    fn unsent(&mut self, error: io::Error) -> io::Error {
        self.receiving = Receiving::Unsent(Some(error));
        io::ErrorKind::BrokenPipe.into()
    }

    /// Sends the head, and knows from it how the body is framed. The text is our own and was
    /// judged; what remains are targets that HTTP/2 has no room for.
    fn send_head(&mut self, text: &[u8]) -> io::Result<()> {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut parsed = httparse::Request::new(&mut fields);
        if !parsed.parse(text).is_ok_and(|status| status.is_complete()) {
            return Err(unsayable());
        }
        let (Some(method), Some(path)) = (parsed.method, parsed.path) else { return Err(unsayable()) };
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| unsayable())?;
        let (mut map, mut host, mut framing) =
            (HeaderMap::with_capacity(parsed.headers.len()), None, Framing::None);
        let mut asked = None;
        for field in parsed.headers.iter() {
            match FieldId::of(field.name.as_bytes()) {
                FieldId::Host => {
                    host = Some(field.value);
                    continue;
                }
                FieldId::TransferEncoding => {
                    framing = Framing::Chunked;
                    continue;
                }
                FieldId::Upgrade => {
                    asked = Some(field.value);
                    continue;
                }
                FieldId::Connection | FieldId::KeepAlive | FieldId::ProxyConnection => continue,
                FieldId::ContentLength => {
                    let length = std::str::from_utf8(field.value).ok().and_then(|text| text.parse().ok());
                    framing = Framing::of_length(length.ok_or_else(unsayable)?);
                }
                _ => {}
            }
            let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| unsayable())?;
            map.append(name, HeaderValue::from_bytes(field.value).map_err(|_| unsayable())?);
        }
        let authority = host.and_then(|host| std::str::from_utf8(host).ok()).ok_or_else(unsayable)?;
        let scheme = if self.secure { "https" } else { "http" };
        let uri = Uri::builder().scheme(scheme).authority(authority).path_and_query(path);
        if let Some(protocol) = asked {
            let extended = extended::request(protocol, &method, uri.build().map_err(|_| unsayable())?, map);
            let (request, accept) = extended.ok_or_else(unsayable)?;
            let (response, send) = self.sender.send_request(request, false).map_err(io::Error::other)?;
            self.accept = Some(accept);
            self.receiving = Receiving::Head(Box::new(response));
            self.sending = Sending::Tunnel(send);
            return Ok(());
        }
        let mut request = Request::new(());
        self.to_head = method == Method::HEAD;
        *request.method_mut() = method;
        *request.uri_mut() = uri.build().map_err(|_| unsayable())?;
        *request.version_mut() = http::Version::HTTP_2;
        *request.headers_mut() = map;
        let ended = framing == Framing::None;
        let (response, send) = self.sender.send_request(request, ended).map_err(io::Error::other)?;
        self.receiving = Receiving::Head(Box::new(response));
        self.sending = if ended {
            Sending::Done
        } else {
            Sending::Body { send, decoder: Decoder::new(framing), left: 0 }
        };
        Ok(())
    }

    /// Makes more text of the response; false at its end.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        self.text.clear();
        self.at = 0;
        match &mut self.receiving {
            Receiving::Idle => Poll::Pending,
            Receiving::Unsent(error) => Poll::Ready(Err(error.take().unwrap_or_else(malformed))),
            Receiving::Done => Poll::Ready(Ok(false)),
            Receiving::Head(response) => {
                match response.poll_informational(cx) {
                    Poll::Ready(Some(Ok(head))) => {
                        let (parts, ()) = head.into_parts();
                        put_head(&mut self.text, &parts)?;
                        self.text.extend_from_slice(b"\r\n");
                        return Poll::Ready(Ok(true));
                    }
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(io::Error::other(error))),
                    Poll::Ready(None) | Poll::Pending => {}
                }
                let (parts, body) =
                    ready!(Pin::new(&mut **response).poll(cx)).map_err(io::Error::other)?.into_parts();
                self.begin_response(&parts, body)?;
                Poll::Ready(Ok(true))
            }
            Receiving::Tunnel(body) => match ready!(body.poll_data(cx)) {
                Some(piece) => {
                    self.piece = piece.map_err(io::Error::other)?;
                    Poll::Ready(Ok(true))
                }
                None => {
                    // RFC 9113 section 8.5: a tunnel carries data and nothing else.
                    if ready!(body.poll_trailers(cx)).map_err(io::Error::other)?.is_some() {
                        return Poll::Ready(Err(malformed()));
                    }
                    self.receiving = Receiving::Done;
                    Poll::Ready(Ok(false))
                }
            },
            Receiving::Body(body) => {
                match ready!(body.poll_data(cx)) {
                    Some(Ok(piece)) => {
                        if !piece.is_empty() {
                            put_chunk_size(&mut self.text, piece.len());
                            self.tail = true;
                        }
                        self.piece = piece;
                    }
                    Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                    None => {
                        let trailers = ready!(body.poll_trailers(cx)).map_err(io::Error::other)?;
                        self.text.extend_from_slice(b"0\r\n");
                        for (name, value) in trailers.iter().flatten() {
                            judge(name)?;
                            put_field(&mut self.text, name.as_str().as_bytes(), value.as_bytes());
                        }
                        self.text.extend_from_slice(b"\r\n");
                        self.receiving = Receiving::Done;
                    }
                }
                Poll::Ready(Ok(true))
            }
        }
    }

    /// Writes the final head, and knows from it what follows.
    fn begin_response(&mut self, parts: &response::Parts, body: RecvStream) -> io::Result<()> {
        if let Some(accept) = self.accept.take() {
            if parts.status.is_success() {
                extended::put_switch(&mut self.text, parts, &accept)?;
                self.receiving = Receiving::Tunnel(body);
                return Ok(());
            }
            self.end()?;
        }
        put_head(&mut self.text, parts)?;
        let bodiless = self.to_head || matches!(parts.status.as_u16(), 204 | 304);
        let announced = parts.headers.contains_key(CONTENT_LENGTH);
        // What ends with its head has nothing, trailers neither: the client is told so at once.
        let empty = body.is_end_stream();
        // Trailers may follow whatever was announced, and the codec holds the body to its length.
        let chunked = !bodiless && !empty;
        if chunked {
            self.text.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        } else if empty && !bodiless && !announced {
            self.text.extend_from_slice(b"Content-Length: 0\r\n");
        }
        self.text.extend_from_slice(b"\r\n");
        self.receiving = if bodiless || empty { Receiving::Done } else { Receiving::Body(body) };
        Ok(())
    }

    /// Says that nothing more comes in a tunnel.
    fn end(&mut self) -> io::Result<()> {
        match std::mem::replace(&mut self.sending, Sending::Done) {
            Sending::Tunnel(mut send) => send.send_data(Bytes::new(), true).map_err(io::Error::other),
            other => {
                self.sending = other;
                Ok(())
            }
        }
    }

    /// Moves what is there into `target`, and gives room back for what was taken.
    fn take(&mut self, target: &mut ReadBuf<'_>) -> io::Result<()> {
        let text = self.text.get(self.at..).unwrap_or(&[]);
        let count = text.len().min(target.remaining());
        target.put_slice(text.get(..count).unwrap_or(&[]));
        self.at += count;
        if self.at < self.text.len() {
            return Ok(());
        }
        let count = self.piece.len().min(target.remaining());
        if count > 0 {
            target.put_slice(&self.piece.split_to(count));
            if let Receiving::Body(body) | Receiving::Tunnel(body) = &mut self.receiving {
                body.flow_control().release_capacity(count).map_err(io::Error::other)?;
            }
        }
        if self.piece.is_empty() && std::mem::take(&mut self.tail) {
            // The line end after a chunk.
            self.text.clear();
            self.text.extend_from_slice(b"\r\n");
            self.at = 0;
            return self.take(target);
        }
        Ok(())
    }
}

/// Sends a piece of the body: how much of the text was taken, and whether the stream was ended.
fn poll_body(
    cx: &mut Context<'_>,
    send: &mut SendStream<Bytes>,
    decoder: &mut Decoder,
    left: &mut usize,
    bytes: &[u8],
) -> Poll<io::Result<(usize, bool)>> {
    if *left == 0 {
        match decoder.next(bytes).map_err(|_| malformed())? {
            Frame::Data { skip, take } => {
                *left = take;
                if skip > 0 {
                    return Poll::Ready(Ok((skip, false)));
                }
            }
            Frame::Trailers { skip, take } => {
                let mut trailers = HeaderMap::new();
                for (name, value) in trailer_fields(bytes.get(skip..skip + take).unwrap_or(&[])) {
                    let name = HeaderName::from_bytes(name).map_err(|_| malformed())?;
                    trailers.append(name, HeaderValue::from_bytes(value).map_err(|_| malformed())?);
                }
                send.send_trailers(trailers).map_err(io::Error::other)?;
                return Poll::Ready(Ok((skip + take, true)));
            }
            Frame::End { skip } => {
                send.send_data(Bytes::new(), true).map_err(io::Error::other)?;
                return Poll::Ready(Ok((skip, true)));
            }
            Frame::More { skip } => return Poll::Ready(Ok((skip, false))),
        }
    }
    let wanted = (*left).min(bytes.len()).min(PIECE_MAX);
    let room = ready!(extended::poll_room(cx, send, wanted))?;
    *left -= room;
    let ended = *left == 0 && decoder.is_done();
    let piece = Bytes::copy_from_slice(bytes.get(..room).unwrap_or(&[]));
    send.send_data(piece, ended).map_err(io::Error::other)?;
    Poll::Ready(Ok((room, ended)))
}

/// Writes status line and fields.
fn put_head(text: &mut Vec<u8>, head: &response::Parts) -> io::Result<()> {
    text.extend_from_slice(b"HTTP/1.1 ");
    put_decimal(text, u64::from(head.status.as_u16()));
    text.extend_from_slice(b" \r\n");
    for (name, value) in &head.headers {
        judge(name)?;
        put_field(text, name.as_str().as_bytes(), value.as_bytes());
    }
    Ok(())
}

/// Fields of a connection mean something in the text, and nothing in HTTP/2 (RFC 9113 section 8.2.2).
pub(super) fn judge(name: &HeaderName) -> io::Result<()> {
    match FieldId::of(name.as_str().as_bytes()) {
        FieldId::Connection
        | FieldId::KeepAlive
        | FieldId::ProxyConnection
        | FieldId::TransferEncoding
        | FieldId::Upgrade => Err(malformed()),
        _ => Ok(()),
    }
}

impl AsyncRead for EndpointStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        target: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = target.filled().len();
        loop {
            this.take(target)?;
            if target.filled().len() > before || target.remaining() == 0 || !ready!(this.poll_more(cx))? {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for EndpointStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().poll_send(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Of use in a tunnel: a request tells its end by itself.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.get_mut().end())
    }
}
