//! Carries one request up a leg and its response down, both directions in one poll.
//!
//! ```text
//! client_in  --decode-->  leg.output --write--> endpoint          request side:  Sending -> Sent | Broken
//! client     <--write--   client_out + direct <--decode-- leg.input   response side: Head -> Body -> Done
//! ```
//! The response may begin, and end, before the request has been sent. Backpressure is the absence of reading. Whether
//! a failure is answered, replayed or cuts the client is the driver's to decide (`forward`).

mod request;
mod response;
mod room;
mod trailers;
mod wait;
mod web;

use std::task::{Context, Poll};

use ekiden_config::model::{Listener, Route};
use ekiden_core::outcome::Cause;

use self::wait::milliseconds;
use crate::exchange::Workspace;
use crate::exchange::downstream::Downstream;
use crate::exchange::response_out::{Coding, Shape};
use crate::wheel::Deadline;
use crate::wire::body::{Decoder, Framing};
use crate::worker::Worker;

/// Bytes of a request kept for a replay where the route does not say, head included.
const REPLAY_MAX: u32 = 64 << 10;
/// Request bytes queued before more are decoded.
const QUEUE_MAX: usize = 64 << 10;
/// Data of at most this size is copied next to its framing; larger data is written from where it was read.
const COPY_MAX: usize = 4 << 10;
/// Informational responses passed on for one request; an endpoint that sends more is out of order.
const INFORMATIONAL_MAX: u8 = 16;
/// How long an endpoint may leave `Expect: 100-continue` unanswered before the router sends the 100 itself, so that
/// clients which wait for it get exactly one (curl waits as long before it sends anyway).
const CONTINUE_WAIT_MS: u64 = 1_000;
/// How long an endpoint may be silent before a client that nobody watches yet is watched: most answer sooner.
const WATCH_AFTER_MS: u64 = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RequestSide {
    /// Body bytes are still to come or to be written.
    Sending,
    /// Everything has been written.
    Sent,
    /// The endpoint takes no more; its response may still be readable.
    Broken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ResponseSide {
    Head,
    /// The final head is there, and the driver decides what becomes of it.
    Judged,
    Body,
    Done,
}

/// What a blocked relay waits for; decides which deadline counts and what missing it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// Request body bytes from the client.
    ClientBody,
    /// The endpoint to take request bytes.
    EndpointWrite,
    /// A response byte.
    EndpointRead,
    /// The client to take response bytes.
    ClientWrite,
}

/// The relay of one attempt.
#[derive(Debug)]
pub struct Relay {
    request: RequestSide,
    request_decoder: Decoder,
    request_chunked: bool,
    request_body_bytes: u64,
    body_limit: Option<u64>,
    replayable: bool,
    replay_max: u32,
    /// Statuses of this route may call for another try: the driver is asked before anything is passed on.
    judges: bool,
    response: ResponseSide,
    response_decoder: Decoder,
    shape: Shape,
    direct: usize,
    direct_tail: bool,
    informational: u8,
    continue_at_ms: Option<u64>,
    head_queued: bool,
    head_written: bool,
    keep_client: bool,
    client_closed: bool,
    switched: bool,
    early_bytes: bool,
    woken: bool,
    /// What is queued for the client had to wait.
    waited: bool,
    /// What the response ends of, once all that is queued is on its way.
    late: Option<Cause>,
    /// Longest wait of this try for the first byte.
    first_byte_ms: u64,
    progress_ms: u64,
    request_wait: Wait,
    response_wait: Wait,
}

/// How a relay ended short of a complete response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// Why.
    pub cause: Cause,
    /// Part of the final response head may have reached the client: no other answer is possible.
    pub begun: bool,
    /// The response has begun, and the client has taken all that there was of it: trailers can still say why it ends.
    pub at_rest: bool,
    /// The request may be sent again: all of it is held and the method or what was written allows it.
    pub replayable: bool,
}

/// How a complete response leaves the two connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finish {
    /// The client connection can serve another request.
    pub keep_client: bool,
    /// Client bytes of this request are unread.
    pub request_unread: bool,
    /// The upstream connection can be pooled.
    pub keep_upstream: bool,
    /// The endpoint has switched protocols: both connections carry a tunnel from here on.
    pub switched: bool,
}

/// What the relay needs and does not own.
pub struct Sides<'a, D> {
    /// The worker: clock, buffers, drain state.
    pub worker: &'a Worker,
    /// The client's side.
    pub client: &'a mut D,
    /// Buffers, heads and the leg.
    pub ws: &'a mut Workspace,
    /// The listener.
    pub listener: &'a Listener,
    /// The matched route.
    pub route: &'a Route,
    /// Deadline of the whole exchange.
    pub total_ms: Option<u64>,
    /// The connection's slot in the wheel.
    pub deadline: &'a Deadline,
}

impl Relay {
    /// A relay whose head has been queued on the leg. `body_bytes` of the body may already stand in `client_in`.
    pub fn new<D: Downstream>(ws: &Workspace, route: &Route, body_limit: Option<u64>, now_ms: u64) -> Self {
        let framing = ws.request.framing;
        let first_byte = route.timeouts.first_byte;
        let (replay_max, judges, first_byte) = match &route.retry {
            None => (REPLAY_MAX, false, first_byte),
            Some(policy) => {
                let first_byte = policy.per_try.map_or(first_byte, |per_try| per_try.min(first_byte));
                (policy.buffer, !policy.statuses.is_empty(), first_byte)
            }
        };
        // A stream brings no chunks: its body lasts until it ends.
        let came = ws.web.as_ref().map_or(framing, |web| web.received());
        let received = if D::IS_STREAM && came == Framing::Chunked { Framing::Close } else { came };
        Self {
            request: RequestSide::Sending,
            request_decoder: Decoder::new(received),
            request_chunked: framing == Framing::Chunked,
            request_body_bytes: 0,
            body_limit,
            replayable: true,
            replay_max,
            judges,
            response: ResponseSide::Head,
            response_decoder: Decoder::Done,
            shape: Shape { coding: Coding::Plain, until_close: false },
            direct: 0,
            direct_tail: false,
            informational: 0,
            continue_at_ms: ws.request.expect_continue.then(|| now_ms + CONTINUE_WAIT_MS),
            head_queued: false,
            head_written: false,
            keep_client: ws.request.keep_alive,
            client_closed: false,
            switched: false,
            early_bytes: false,
            woken: false,
            waited: false,
            late: None,
            first_byte_ms: milliseconds(first_byte),
            progress_ms: now_ms,
            request_wait: Wait::EndpointWrite,
            response_wait: Wait::EndpointRead,
        }
    }

    /// Begins again on a new connection with the bytes held.
    pub fn restart(&mut self, ws: &mut Workspace, now_ms: u64) {
        ws.leg.output.rewind();
        self.request = RequestSide::Sending;
        self.response = ResponseSide::Head;
        self.woken = false;
        self.progress_ms = now_ms;
    }

    /// The response that the driver was asked about is the one for the client. Polled again, this goes on with it.
    pub fn keep_answer(&mut self) {
        self.judges = false;
    }

    /// Whether all of the request was sent and is held, and nothing of a response is there: a second endpoint may get it.
    pub fn is_waiting(&self) -> bool {
        self.request == RequestSide::Sent && self.response == ResponseSide::Head && self.replayable
    }

    /// Whether the request was larger than what is kept of it.
    pub fn has_let_go(&self) -> bool {
        !self.replayable
    }

    /// Whether the response that is given up has come to its end: its connection can carry another request.
    pub fn is_answer_whole(&self, ws: &Workspace) -> bool {
        let is_whole = match ws.response.framing {
            Framing::None => ws.leg.input.is_empty(),
            Framing::Length(length) => ws.leg.input.bytes().len() as u64 == length,
            Framing::Chunked | Framing::Close => false,
        };
        is_whole && self.request == RequestSide::Sent && ws.response.keep_alive && !ws.leg.closed
    }

    /// Drives both directions as far as they go. Ready once the response has been written, or on a failure.
    pub fn poll<D: Downstream>(
        &mut self,
        cx: &mut Context<'_>,
        sides: &mut Sides<'_, D>,
    ) -> Poll<Result<Finish, Failure>> {
        if std::mem::replace(&mut self.woken, true) {
            sides.worker.clock.read();
        }
        let moved = (
            sides.ws.trace.bytes_in,
            sides.ws.leg.bytes_up,
            sides.ws.leg.bytes_down,
            sides.ws.trace.bytes_out,
            sides.client.held() + sides.ws.leg.held(),
        );
        if sides.worker.is_forced() {
            return Poll::Ready(Err(self.failure(sides, Cause::Drained)));
        }
        if self.request == RequestSide::Sending
            && let Poll::Ready(Err(cause)) = self.poll_request(cx, sides)
        {
            return Poll::Ready(Err(self.failure(sides, cause)));
        }
        match self.poll_response(cx, sides) {
            Poll::Ready(Ok(())) => return Poll::Ready(Ok(self.finish(sides))),
            Poll::Ready(Err(cause)) => return Poll::Ready(Err(self.failure(sides, cause))),
            Poll::Pending => {}
        }
        if (D::IS_STREAM || self.request != RequestSide::Sending)
            && let Err(cause) = self.poll_client(cx, sides)
        {
            return Poll::Ready(Err(self.failure(sides, cause)));
        }
        let now_ms = sides.worker.turn_ms();
        let after = (
            sides.ws.trace.bytes_in,
            sides.ws.leg.bytes_up,
            sides.ws.leg.bytes_down,
            sides.ws.trace.bytes_out,
            sides.client.held() + sides.ws.leg.held(),
        );
        if moved != after {
            self.progress_ms = now_ms;
        }
        if D::IS_STREAM {
            self.rest(sides);
        }
        self.poll_deadline(cx, sides, now_ms)
    }

    fn failure<D: Downstream>(&self, sides: &Sides<'_, D>, cause: Cause) -> Failure {
        let judged = cause == Cause::StatusRetried;
        let unanswered = (!sides.ws.leg.answered || judged) && !self.head_queued;
        let unwritten = sides.ws.leg.bytes_up == 0;
        Failure {
            cause,
            begun: self.begun(sides, cause),
            at_rest: self.response == ResponseSide::Body
                && self.head_written
                && self.direct == 0
                && sides.ws.client_out.pending() == 0,
            replayable: unanswered
                && self.replayable
                && (sides.ws.request.idempotent || unwritten || sides.ws.leg.unprocessed),
        }
    }

    /// Whether the client may hold part of a message that another answer would garble: bytes of the final head, or a
    /// torn informational one. One that does not read would not read another answer either.
    fn begun<D: Downstream>(&self, sides: &Sides<'_, D>, cause: Cause) -> bool {
        let out = &sides.ws.client_out;
        let torn = out.sent() > 0 && out.pending() > 0;
        self.head_written || torn || matches!(cause, Cause::ClientIdle | Cause::ClientTooSlow)
    }

    fn finish<D: Downstream>(&self, sides: &Sides<'_, D>) -> Finish {
        let request_whole = self.request == RequestSide::Sent;
        Finish {
            keep_client: self.keep_client && request_whole && !self.is_last(sides) && !self.shape.until_close,
            request_unread: !request_whole || self.early_bytes,
            keep_upstream: request_whole
                && sides.ws.response.keep_alive
                && !sides.ws.leg.closed
                && sides.ws.leg.input.is_empty(),
            switched: self.switched,
        }
    }
}
