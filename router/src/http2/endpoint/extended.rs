//! WebSocket on a stream to an endpoint (RFC 8441): the text of an HTTP/1 handshake becomes an extended CONNECT, and its answer
//! the 101 that HTTP/1 would have.
//!
//! The handshake of RFC 6455 ends at the router, which answers the key itself, as section 5 of RFC 8441 has it. Does not move the bytes
//! of a tunnel (`stream` does) and does not decide who may switch (`exchange::upgrade`).

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::SendStream;
use h2::ext::Protocol;
use http::{HeaderMap, Method, Request, Uri, response};

use super::stream::{PIECE_MAX, judge};
use crate::exchange::out::put_field;
use crate::exchange::upgrade;
use crate::head::FieldId;

/// The one protocol that goes this way: what others mean on a stream is not known.
const WEBSOCKET: &str = "websocket";

/// Turns what was read of a handshake into the request of a stream, and gives the answer to its key. None for what is no
/// handshake of WebSocket.
pub(super) fn request(
    protocol: &[u8],
    method: &Method,
    uri: Uri,
    mut fields: HeaderMap,
) -> Option<(Request<()>, Box<str>)> {
    if *method != Method::GET || !protocol.eq_ignore_ascii_case(WEBSOCKET.as_bytes()) {
        return None;
    }
    let key = fields.remove("sec-websocket-key")?;
    let accept = upgrade::accept(key.to_str().ok()?)?;
    let mut request = Request::new(());
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = uri;
    *request.version_mut() = http::Version::HTTP_2;
    *request.headers_mut() = fields;
    request.extensions_mut().insert(Protocol::from_static(WEBSOCKET));
    Some((request, accept.into()))
}

/// Writes the head that says that the stream is a tunnel.
pub(super) fn put_switch(text: &mut Vec<u8>, head: &response::Parts, accept: &str) -> io::Result<()> {
    text.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n");
    put_field(text, b"Upgrade", WEBSOCKET.as_bytes());
    put_field(text, b"Sec-WebSocket-Accept", accept.as_bytes());
    for (name, value) in &head.headers {
        judge(name)?;
        let id = FieldId::of(name.as_str().as_bytes());
        // Neither means anything here (RFC 9110 section 9.3.6, RFC 8441 section 5).
        if id != FieldId::ContentLength && name != "sec-websocket-accept" {
            put_field(text, name.as_str().as_bytes(), value.as_bytes());
        }
    }
    text.extend_from_slice(b"\r\n");
    Ok(())
}

/// Sends bytes of a tunnel, as many as there is room for; gives how many.
pub(super) fn poll_tunnel(
    cx: &mut Context<'_>,
    send: &mut SendStream<Bytes>,
    bytes: &[u8],
) -> Poll<io::Result<usize>> {
    let wanted = bytes.len().min(PIECE_MAX);
    if wanted == 0 {
        return Poll::Ready(Ok(0));
    }
    let room = ready!(poll_room(cx, send, wanted))?;
    let piece = Bytes::copy_from_slice(bytes.get(..room).unwrap_or(&[]));
    send.send_data(piece, false).map_err(io::Error::other)?;
    Poll::Ready(Ok(room))
}

/// Waits for room for some of `wanted` bytes.
pub(super) fn poll_room(
    cx: &mut Context<'_>,
    send: &mut SendStream<Bytes>,
    wanted: usize,
) -> Poll<io::Result<usize>> {
    send.reserve_capacity(wanted);
    loop {
        match ready!(send.poll_capacity(cx)) {
            Some(Ok(0)) => {}
            Some(Ok(room)) => return Poll::Ready(Ok(room.min(wanted))),
            Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
            None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }
}
