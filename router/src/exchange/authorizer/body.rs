//! The body of a request as the service sees it: read ahead up to a bound, without being taken from the client's buffer, so that the
//! relay finds it there as it came.
//!
//! What counts as body is what the relay's own decoder says. The client's time is that of every body. Does not send it.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};

use ekiden_config::model::{AuthorizerBody, HttpLimits, Listener};
use ekiden_core::outcome::Cause;

use crate::buffer::Buffer;
use crate::exchange::downstream::{Downstream, HeadKind};
use crate::exchange::run::flush;
use crate::exchange::{Workspace, overload};
use crate::wire::Version;
use crate::wire::body::{Decoder, Frame, Framing};
use crate::worker::Worker;
use crate::worker::connection::Connection;

/// What the service is shown.
#[derive(Debug)]
pub(super) struct Shown {
    /// The body, or its beginning.
    pub(super) bytes: Vec<u8>,
    /// There is more, which is not shown.
    pub(super) is_partial: bool,
}

impl Shown {
    /// The value of the field that says whether it is only the beginning.
    pub(super) fn partial(&self) -> &'static str {
        if self.is_partial { "true" } else { "false" }
    }
}

/// How far the reading has come.
struct Ahead<'w> {
    words: &'w AuthorizerBody,
    decoder: Decoder,
    /// Bytes of the client's buffer that have been looked at.
    at: usize,
    shown: Shown,
}

/// Reads the body ahead. None when the request has none, or becomes a tunnel.
///
/// # Errors
/// It is too large and is not to be cut, it is malformed, or the client has left or is too slow.
pub(super) async fn read<D: Downstream>(
    connection: &mut Connection<D>,
    ws: &mut Workspace,
    listener: &Listener,
    words: &AuthorizerBody,
) -> Result<Option<Shown>, Cause> {
    if ws.request.framing == Framing::None || ws.request.is_tunnel() {
        return Ok(None);
    }
    if let Framing::Length(length) = ws.request.framing
        && length > u64::from(words.max)
        && !words.partial
    {
        return Err(Cause::BodyTooLarge);
    }
    let framing = if D::IS_STREAM { Framing::Close } else { ws.request.framing };
    let shown = Shown { bytes: Vec::new(), is_partial: false };
    let mut ahead = Ahead { words, decoder: Decoder::new(framing), at: 0, shown };
    if ahead.look(&ws.client_in)? {
        return Ok(Some(ahead.shown));
    }
    if std::mem::take(&mut ws.request.expect_continue) && ws.request.version != Version::Http10 {
        // The client waits to be asked for its body. Who asked is not the endpoint, which need not ask again.
        let (client, out) = (&mut connection.stream, &mut ws.client_out);
        client.begin_head(out, 100, b"Continue");
        ws.trace.bytes_out += client.end_head(out, HeadKind::Informational)?;
        flush(connection, ws, false).await?;
    }
    let worker = Rc::clone(&connection.worker);
    let limits = &listener.limits;
    let mut over_ms = worker.now_ms() + idle_ms(limits);
    poll_fn(|cx| ahead.poll(cx, &worker, connection, ws, limits, &mut over_ms)).await?;
    ws.body_pace.rest(worker.now_ms());
    Ok(Some(ahead.shown))
}

fn idle_ms(limits: &HttpLimits) -> u64 {
    u64::try_from(limits.body_idle.as_millis()).unwrap_or(u64::MAX)
}

impl Ahead<'_> {
    fn poll<D: Downstream>(
        &mut self,
        cx: &mut Context<'_>,
        worker: &Worker,
        connection: &mut Connection<D>,
        ws: &mut Workspace,
        limits: &HttpLimits,
        over_ms: &mut u64,
    ) -> Poll<Result<(), Cause>> {
        loop {
            // Frames of a few bytes may fill the buffer before there is as much of the body.
            if !worker.buffers.make_room(&mut ws.client_in) {
                return Poll::Ready(self.cut());
            }
            match connection.stream.poll_read(cx, &mut ws.client_in) {
                Poll::Ready(Ok(0)) => {
                    let whole = D::IS_STREAM && self.decoder.end_of_stream();
                    return Poll::Ready(if whole { Ok(()) } else { Err(Cause::BodyTruncated) });
                }
                Poll::Ready(Ok(_)) => {
                    *over_ms = worker.now_ms() + idle_ms(limits);
                    if ws.permit.is_some() {
                        overload::hold(&connection.stream, ws, self.shown.bytes.len());
                    }
                    if self.look(&ws.client_in)? {
                        return Poll::Ready(Ok(()));
                    }
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Err(connection.stream.loss())),
                Poll::Pending => {
                    let now_ms = worker.now_ms();
                    let came = ws.trace.bytes_in + ws.client_in.len() as u64;
                    // Calls of gRPC are as slow as their events are rare, here as in the relay.
                    let rate = limits.min_body_rate.filter(|_| ws.call.is_none());
                    let slow = rate.map(|rate| ws.body_pace.wait(now_ms, came, rate, idle_ms(limits)));
                    let slow_ms = slow.unwrap_or(u64::MAX);
                    if worker.is_forced() {
                        return Poll::Ready(Err(Cause::Drained));
                    }
                    if now_ms >= slow_ms.min(*over_ms) {
                        let idle = *over_ms <= slow_ms;
                        return Poll::Ready(Err(if idle { Cause::BodyTimeout } else { Cause::BodyTooSlow }));
                    }
                    connection.deadline.set(slow_ms.min(*over_ms), cx.waker());
                    return Poll::Pending;
                }
            }
        }
    }

    /// Looks at what has come. True when nothing more is wanted.
    fn look(&mut self, buffer: &Buffer) -> Result<bool, Cause> {
        loop {
            let rest = buffer.bytes().get(self.at..).unwrap_or(&[]);
            match self.decoder.next(rest)? {
                Frame::Data { skip, take } => {
                    let data = rest.get(skip..skip + take).unwrap_or(&[]);
                    let room = (self.words.max as usize).saturating_sub(self.shown.bytes.len());
                    self.shown.bytes.extend_from_slice(data.get(..room.min(take)).unwrap_or(&[]));
                    self.at += skip + take;
                    if take > room {
                        return self.cut().map(|()| true);
                    }
                    if self.decoder.is_done() {
                        return Ok(true);
                    }
                }
                Frame::End { .. } | Frame::Trailers { .. } => return Ok(true),
                Frame::More { skip } => {
                    self.at += skip;
                    return Ok(false);
                }
            }
        }
    }

    /// There is more than is shown.
    fn cut(&mut self) -> Result<(), Cause> {
        self.shown.is_partial = true;
        if self.words.partial { Ok(()) } else { Err(Cause::BodyTooLarge) }
    }
}
