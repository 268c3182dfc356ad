//! Carries one request up a leg and its response down, both directions in one poll.
//!
//! ```text
//! client_in  --decode-->  leg.output --write--> endpoint          request side:  Sending -> Sent | Broken
//! client     <--write--   client_out + direct <--decode-- leg.input   response side: Head -> Body -> Done
//! ```
//! The response may begin, and end, before the request has been sent. Backpressure is the absence of reading. Whether
//! a failure is answered, replayed or cuts the client is the driver's to decide (`forward`).

mod room;
mod web;

use std::task::{Context, Poll};

use ekiden_config::model::{HeaderEdits, Listener, Route};
use ekiden_core::outcome::{Cause, Phase};

use crate::exchange::Workspace;
use crate::exchange::downstream::{Downstream, HeadKind};
use crate::exchange::out::{Out, put_chunk_size, put_field};
use crate::exchange::request_out::edits_name;
use crate::exchange::response_out::{self, Coding, ResponseOut, Shape};
use crate::exchange::{affinity, evidence, grpc, load, upgrade};
use crate::head::FieldId;
use crate::wheel::Deadline;
use crate::wire::Version;
use crate::wire::body::{Decoder, Frame, Framing};
use crate::wire::chunked::trailer_fields;
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
        if D::IS_STREAM || self.is_client_slow() {
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

    // ---- request side -----------------------------------------------------------------------------------------

    fn poll_request<D: Downstream>(
        &mut self,
        cx: &mut Context<'_>,
        sides: &mut Sides<'_, D>,
    ) -> Poll<Result<(), Cause>> {
        loop {
            if sides.ws.leg.output.pending() > 0 || sides.ws.leg.held() > 0 {
                if sides.ws.leg.is_barred() {
                    return Poll::Ready(Err(Cause::EndpointGone));
                }
                self.request_wait = Wait::EndpointWrite;
                match sides.ws.leg.poll_send(cx) {
                    Poll::Ready(Ok(())) => self.bound_replay(sides),
                    Poll::Ready(Err(_)) => {
                        self.request = RequestSide::Broken;
                        return Poll::Ready(Ok(()));
                    }
                    Poll::Pending => return Poll::Pending,
                }
            }
            if self.request_decoder.is_done() {
                self.request = RequestSide::Sent;
                sides.ws.trace.sent_at = Some(sides.worker.clock.turn());
                sides.ws.trace.phase = sides.ws.trace.phase.max(Phase::Wait);
                return Poll::Ready(Ok(()));
            }
            if self.decode_request(sides)? {
                continue;
            }
            self.request_wait = Wait::ClientBody;
            if !sides.worker.buffers.make_room(&mut sides.ws.client_in) {
                return Poll::Ready(Err(Cause::ChunkMalformed));
            }
            match sides.client.poll_read(cx, &mut sides.ws.client_in) {
                Poll::Ready(Ok(0)) => self.end_of_request(sides)?,
                Poll::Ready(Ok(_)) => {
                    // A stream comes in frames that a small buffer holds, and there may be hundreds of them.
                    if !D::IS_STREAM && sides.ws.client_in.is_full() {
                        sides.worker.buffers.enlarge(&mut sides.ws.client_in);
                    }
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Err(sides.client.loss())),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// The client sends no more: the end of a stream's body, and of its trailers. HTTP/1 tells the end otherwise.
    fn end_of_request<D: Downstream>(&mut self, sides: &mut Sides<'_, D>) -> Result<(), Cause> {
        if !D::IS_STREAM || !self.request_decoder.end_of_stream() {
            return Err(Cause::BodyTruncated);
        }
        if let Some(web) = &sides.ws.web {
            web.request_end()?;
        }
        if self.request_chunked {
            let trailers = sides.client.take_trailers().unwrap_or_default();
            self.put_request_trailers(
                sides,
                trailers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes())),
            )?;
        }
        Ok(())
    }

    /// Appends the last chunk and the trailers that are passed on.
    fn put_request_trailers<'t, D>(
        &self,
        sides: &mut Sides<'_, D>,
        trailers: impl Iterator<Item = (&'t [u8], &'t [u8])>,
    ) -> Result<(), Cause> {
        let steps = sides.ws.route.as_ref().and_then(|entry| entry.admission.as_ref());
        let filter = steps.and_then(|steps| steps.fields());
        let out = sides.ws.leg.output.buffer();
        out.extend_from_slice(b"0\r\n");
        for (name, value) in trailers {
            if may_trail(name)?
                && !edits_name(&sides.route.request_headers, name)
                && !sides
                    .ws
                    .route
                    .as_ref()
                    .is_some_and(|entry| entry.entrance.as_ref().is_some_and(|steps| steps.sets(name)))
                && filter.is_none_or(|filter| filter.takes(name))
            {
                put_field(out, name, value);
            }
        }
        out.extend_from_slice(b"\r\n");
        Ok(())
    }

    /// Lets go of written bytes that a replay can no longer need or hold.
    fn bound_replay<D: Downstream>(&mut self, sides: &mut Sides<'_, D>) {
        let output = &mut sides.ws.leg.output;
        if (sides.ws.leg.answered && !self.judges) || output.held() > self.replay_max as usize {
            self.replayable = false;
            output.release_sent();
        }
    }

    /// Decodes request frames into the leg's output; true when bytes were queued or the body ended.
    fn decode_request<D: Downstream>(&mut self, sides: &mut Sides<'_, D>) -> Result<bool, Cause> {
        if sides.ws.web.is_some() {
            return self.decode_web_request(sides);
        }
        let mut produced = false;
        while sides.ws.leg.output.pending() < QUEUE_MAX {
            let ws = &mut *sides.ws;
            let bytes = ws.client_in.bytes();
            let out = ws.leg.output.buffer();
            match self.request_decoder.next(bytes)? {
                Frame::Data { skip, take } => {
                    ws.trace.bytes_in += (skip + take) as u64;
                    self.request_body_bytes += take as u64;
                    if self.body_limit.is_some_and(|limit| self.request_body_bytes > limit) {
                        return Err(Cause::BodyTooLarge);
                    }
                    if self.request_chunked {
                        put_chunk_size(out, take);
                    }
                    let piece = bytes.get(skip..skip + take).unwrap_or(&[]);
                    if let Some(copy) = &mut ws.mirror {
                        copy.take_body(piece);
                    }
                    out.extend_from_slice(piece);
                    if self.request_chunked {
                        out.extend_from_slice(b"\r\n");
                    }
                    ws.client_in.consume(skip + take);
                    produced = true;
                }
                Frame::Trailers { skip, take } => {
                    let section = std::mem::take(&mut ws.client_in);
                    let bytes = section.bytes().get(skip..skip + take).unwrap_or(&[]);
                    let put = self.put_request_trailers(sides, trailer_fields(bytes));
                    sides.ws.client_in = section;
                    sides.ws.client_in.consume(skip + take);
                    put?;
                    return Ok(true);
                }
                Frame::End { skip } => {
                    if self.request_chunked {
                        out.extend_from_slice(b"0\r\n\r\n");
                    }
                    ws.client_in.consume(skip);
                    return Ok(true);
                }
                Frame::More { skip } => {
                    ws.client_in.consume(skip);
                    return Ok(produced);
                }
            }
            if self.request_decoder.is_done() {
                return Ok(true);
            }
        }
        Ok(true)
    }

    // ---- response side ----------------------------------------------------------------------------------------

    fn poll_response<D: Downstream>(
        &mut self,
        cx: &mut Context<'_>,
        sides: &mut Sides<'_, D>,
    ) -> Poll<Result<(), Cause>> {
        loop {
            if D::IS_STREAM && self.waited {
                self.top_up(cx, sides);
            }
            while sides.ws.client_out.pending() > 0 || self.direct > 0 {
                match self.poll_write_client(cx, sides) {
                    Poll::Ready(result) => result?,
                    Poll::Pending => {
                        self.waited = D::IS_STREAM;
                        self.response_wait = Wait::ClientWrite;
                        return Poll::Pending;
                    }
                }
            }
            if let Some(cause) = self.late.take() {
                return Poll::Ready(Err(cause));
            }
            sides.ws.client_out.clear();
            match sides.client.poll_flush(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Err(sides.client.loss())),
                Poll::Pending => {
                    self.response_wait = Wait::ClientWrite;
                    return Poll::Pending;
                }
            }
            if self.response == ResponseSide::Done {
                if self.switched {
                    return Poll::Ready(Ok(()));
                }
                return Poll::Ready(sides.client.finish());
            }
            if self.advance_response(sides)? {
                continue;
            }
            if sides.ws.leg.closed {
                self.end_of_upstream(sides)?;
                continue;
            }
            self.response_wait = Wait::EndpointRead;
            let first = !sides.ws.leg.answered;
            let received = if D::IS_STREAM {
                self.poll_receive_some(cx, sides)
            } else {
                sides.ws.leg.poll_receive(cx, &sides.worker.buffers)
            };
            match received {
                Poll::Ready(Ok(_)) => {
                    if first && sides.ws.leg.answered {
                        sides.ws.trace.first_byte_at = Some(sides.worker.clock.turn());
                    }
                }
                Poll::Ready(Err(error)) => {
                    let leg = &sides.ws.leg;
                    let cause = leg.loss(Some(&error));
                    return Poll::Ready(Err(cause));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn poll_write_client<D: Downstream>(
        &mut self,
        cx: &mut Context<'_>,
        sides: &mut Sides<'_, D>,
    ) -> Poll<Result<(), Cause>> {
        let ws = &mut *sides.ws;
        let direct = ws.leg.input.bytes().get(..self.direct).unwrap_or(&[]);
        let last = self.response == ResponseSide::Done;
        match sides.client.poll_write(cx, &mut ws.client_out, direct, last) {
            Poll::Ready(Ok(written)) => {
                ws.trace.bytes_out += written.total as u64;
                self.head_written = self.head_queued;
                ws.leg.input.consume(written.direct);
                self.direct -= written.direct;
                if self.direct == 0 && ws.client_out.pending() == 0 {
                    ws.client_out.clear();
                    if std::mem::take(&mut self.direct_tail) {
                        ws.client_out.buffer().extend_from_slice(b"\r\n");
                    }
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(_)) => Poll::Ready(Err(sides.client.loss())),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Turns received bytes into bytes for the client; true when something was queued or the state moved.
    fn advance_response<D: Downstream>(&mut self, sides: &mut Sides<'_, D>) -> Result<bool, Cause> {
        match self.response {
            ResponseSide::Head => {
                let ws = &mut *sides.ws;
                if ws.leg.input.is_empty() || !ws.leg.take_head(&mut ws.response, ws.request.is_head)? {
                    return Ok(false);
                }
                self.take_response_head(sides)?;
                Ok(true)
            }
            ResponseSide::Judged => {
                self.take_response_head(sides)?;
                Ok(true)
            }
            ResponseSide::Body => self.decode_response(sides),
            ResponseSide::Done => Ok(true),
        }
    }

    fn take_response_head<D: Downstream>(&mut self, sides: &mut Sides<'_, D>) -> Result<(), Cause> {
        if sides.ws.response.is_informational() {
            return self.take_informational(sides);
        }
        if self.judges && self.asks_driver(sides) {
            self.response = ResponseSide::Judged;
            return Err(Cause::StatusRetried);
        }
        if D::IS_STREAM && sides.ws.request.is_extended && sides.ws.response.status < 300 {
            // To its client it would say that the stream is a tunnel.
            return Err(Cause::ResponseMalformed);
        }
        let ws = &mut *sides.ws;
        if let (Some(seconds), Some(home)) = (ws.response.idle_limit, ws.leg.home()) {
            home.cell.learn_idle_limit(seconds.saturating_mul(1_000));
        }
        self.continue_at_ms = None;
        // An endpoint that answers early may not read the rest, and then the connection cannot go on: say so now, as it
        // is too late once the response has ended.
        self.keep_client &= !(sides.worker.is_leaving() || self.is_early());
        if sides.ws.upgrade.is_some() {
            self.refuse_early_bytes(sides);
        }
        let keep = self.keep_client && !self.is_last(sides);
        let ws = &mut *sides.ws;
        if ws.call.is_some() {
            grpc::take_head(ws);
        }
        if ws.tries.held.adaptive.is_some() {
            evidence::begun(ws);
        }
        let peer_router = ws.leg.home().is_some_and(|home| home.peer_router);
        let is_reported = ws.leg.home().is_some_and(|home| home.report_load);
        let load = if is_reported { load::beside(sides.worker, ws) } else { None };
        let endpoint_http2 = ws.leg.is_http2();
        self.response_decoder = Decoder::new(ws.response.framing);
        if ws.limits.is_charged() {
            let now_ns = sides.worker.clock.turn_ns();
            ws.limits.charge(&mut ws.response.head, now_ns);
        }
        ws.limits.append_to(&mut ws.response.head);
        if ws.cors.is_on() {
            ws.cors.replace_in(ws.route.as_deref(), &mut ws.response.head);
        }
        if ws.affinity.is_some() {
            affinity::put(sides.worker, ws, sides.listener);
        }
        let with = ResponseOut {
            request: &ws.request,
            listener: sides.listener,
            edits: &sides.route.response_headers,
            peer_router,
            load,
            endpoint_http2,
            is_call: ws.call.is_some(),
            keep,
            clock: &sides.worker.clock,
        };
        let (shape, sent) =
            response_out::write_response(sides.client, &mut ws.client_out, &mut ws.response, &with)?;
        self.shape = shape;
        ws.trace.bytes_out += sent;
        ws.trace.status = ws.response.status;
        ws.trace.phase = Phase::Relay;
        self.head_queued = true;
        self.head_written |= D::IS_STREAM;
        self.response = if self.response_decoder.is_done() { ResponseSide::Done } else { ResponseSide::Body };
        if self.response == ResponseSide::Body {
            self.decode_response(sides)?;
        }
        Ok(())
    }

    /// Whether the endpoint answers before it has all of the request.
    fn is_early(&self) -> bool {
        match self.request {
            RequestSide::Sending => !self.request_decoder.is_done(),
            RequestSide::Broken => true,
            RequestSide::Sent => false,
        }
    }

    /// Whether the driver is asked before the final head is passed on.
    #[cold]
    fn asks_driver<D>(&self, sides: &Sides<'_, D>) -> bool {
        let takes = sides.route.retry.as_ref().is_some_and(|policy| policy.takes(sides.ws.response.status));
        takes && self.informational == 0
    }

    fn take_informational<D: Downstream>(&mut self, sides: &mut Sides<'_, D>) -> Result<(), Cause> {
        let ws = &mut *sides.ws;
        self.informational += 1;
        if ws.response.status == 101 {
            return self.take_switch(sides);
        }
        if self.informational > INFORMATIONAL_MAX {
            return Err(Cause::ResponseMalformed);
        }
        let continues = ws.response.status == 100;
        // The wait for a 100 stands until the client has one.
        let wanted = !continues || self.continue_at_ms.take().is_some();
        if wanted && ws.request.version != Version::Http10 {
            ws.trace.bytes_out +=
                response_out::write_informational(sides.client, &mut ws.client_out, &ws.response)?;
        }
        Ok(())
    }

    /// The endpoint does not switch. What the client has sent behind its request was meant for the other protocol: it is no
    /// request, and the connection ends. What comes once the client has the response may be one.
    #[cold]
    fn refuse_early_bytes<D: Downstream>(&mut self, sides: &Sides<'_, D>) {
        self.early_bytes = !sides.ws.client_in.is_empty() || sides.client.has_unread();
        self.keep_client &= !self.early_bytes;
    }

    /// The endpoint switches protocols: only to the one that was asked for, and only after all of the request.
    #[cold]
    fn take_switch<D: Downstream>(&mut self, sides: &mut Sides<'_, D>) -> Result<(), Cause> {
        let ws = &mut *sides.ws;
        let asked = ws.upgrade.and_then(|place| sides.route.upgrades.protocol(place));
        let Some(protocol) = asked.filter(|_| self.request == RequestSide::Sent) else {
            return Err(Cause::ResponseMalformed);
        };
        let answered = ws.websocket_key.as_ref().is_none_or(|key| key.is_answered(&ws.response));
        if !upgrade::confirms(&ws.response, protocol) || !answered || D::IS_STREAM != ws.request.is_extended {
            return Err(Cause::ResponseMalformed);
        }
        if ws.limits.is_charged() {
            let now_ns = sides.worker.clock.turn_ns();
            ws.limits.charge(&mut ws.response.head, now_ns);
        }
        if ws.affinity.is_some() {
            affinity::put(sides.worker, ws, sides.listener);
        }
        let peer_router = ws.leg.home().is_some_and(|home| home.peer_router);
        let with = (&sides.route.response_headers, peer_router);
        let (client, out) = (&mut *sides.client, &mut ws.client_out);
        let (status, sent) = if D::IS_STREAM {
            let sent = upgrade::write_stream_switch(client, out, &mut ws.response, with)?;
            (upgrade::STREAM_SWITCH, sent)
        } else {
            (ws.response.status, upgrade::write_switch(client, out, &mut ws.response, with, protocol)?)
        };
        ws.trace.bytes_out += sent;
        ws.trace.status = status;
        ws.trace.phase = Phase::Relay;
        self.continue_at_ms = None;
        self.head_queued = true;
        self.switched = true;
        self.response = ResponseSide::Done;
        Ok(())
    }

    fn decode_response<D: Downstream>(&mut self, sides: &mut Sides<'_, D>) -> Result<bool, Cause> {
        let ws = &mut *sides.ws;
        if ws.web.as_ref().is_some_and(|web| web.is_turned()) {
            return self.decode_web_response(sides);
        }
        let chunked = self.shape.coding == Coding::Chunked;
        let edits = &sides.route.response_headers;
        let mut produced = false;
        loop {
            let bytes = ws.leg.input.bytes();
            let frame = self.response_decoder.next(bytes).map_err(|_| Cause::ResponseMalformed)?;
            let out = ws.client_out.buffer();
            match frame {
                Frame::Data { skip, take } => {
                    if let Some(copy) = &mut ws.mirror {
                        copy.take_answer(bytes.get(skip..skip + take).unwrap_or(&[]));
                    }
                    if chunked {
                        put_chunk_size(out, take);
                    }
                    produced = true;
                    if take > COPY_MAX {
                        ws.leg.input.consume(skip);
                        self.direct = take;
                        self.direct_tail = chunked;
                        self.settle_response();
                        return Ok(true);
                    }
                    out.extend_from_slice(bytes.get(skip..skip + take).unwrap_or(&[]));
                    if chunked {
                        out.extend_from_slice(b"\r\n");
                    }
                    ws.leg.input.consume(skip + take);
                }
                Frame::Trailers { skip, take } => {
                    let section = bytes.get(skip..skip + take).unwrap_or(&[]);
                    if let Some(call) = &mut ws.call {
                        call.note_trailers(section);
                    }
                    if self.shape.coding != Coding::Plain {
                        put_trailers(sides.client, &mut ws.client_out, section, edits)?;
                    }
                    ws.leg.input.consume(skip + take);
                }
                Frame::End { skip } => {
                    if chunked {
                        out.extend_from_slice(b"0\r\n\r\n");
                    }
                    ws.leg.input.consume(skip);
                }
                Frame::More { skip } => {
                    ws.leg.input.consume(skip);
                    return Ok(produced);
                }
            }
            self.settle_response();
            if self.response == ResponseSide::Done {
                return Ok(true);
            }
        }
    }

    fn settle_response(&mut self) {
        if self.response_decoder.is_done() {
            self.response = ResponseSide::Done;
        }
    }

    /// The endpoint closed: the proper end of a close-delimited body, a loss otherwise.
    fn end_of_upstream<D: Downstream>(&mut self, sides: &mut Sides<'_, D>) -> Result<(), Cause> {
        if self.response == ResponseSide::Head {
            return Err(sides.ws.leg.loss(None));
        }
        if !self.response_decoder.end_of_stream() {
            return Err(Cause::UpstreamTruncated);
        }
        if self.shape.coding == Coding::Chunked {
            sides.ws.client_out.buffer().extend_from_slice(b"0\r\n\r\n");
        }
        self.response = ResponseSide::Done;
        Ok(())
    }

    // ---- client watch and deadlines ---------------------------------------------------------------------------

    /// Watches the client while it has nothing to send for this request.
    fn poll_client<D: Downstream>(
        &mut self,
        cx: &mut Context<'_>,
        sides: &mut Sides<'_, D>,
    ) -> Result<(), Cause> {
        if !D::IS_STREAM && self.request != RequestSide::Sent {
            return Ok(());
        }
        if sides.client.is_unwatched() && sides.worker.turn_ms() < self.progress_ms + WATCH_AFTER_MS {
            return Ok(());
        }
        let (buffers, client_in) = (&sides.worker.buffers, &mut sides.ws.client_in);
        sides.client.poll_watch(cx, buffers, client_in, &mut self.client_closed)
    }

    /// Whether the client has closed its side and no pipelined request of its own stands before the close.
    fn is_last<D: Downstream>(&self, sides: &Sides<'_, D>) -> bool {
        self.client_closed && sides.ws.client_in.is_empty()
    }

    /// The deadline that counts now, and what missing it means.
    fn deadline<D: Downstream>(&self, sides: &mut Sides<'_, D>, now_ms: u64) -> (u64, Cause) {
        let timeouts = &sides.route.timeouts;
        let after = |wait: std::time::Duration| self.progress_ms + milliseconds(wait);
        let (body_pace, read_pace) = (&mut sides.ws.body_pace, &mut sides.ws.read_pace);
        body_pace.rest(now_ms);
        read_pace.rest(now_ms);
        let waits = match (self.request, self.response) {
            (_, ResponseSide::Body | ResponseSide::Done) => match self.response_wait {
                Wait::ClientWrite => {
                    let idle_ms = milliseconds(timeouts.idle);
                    let sent = sides.ws.trace.bytes_out.saturating_sub(sides.client.held() as u64);
                    let slow = sides
                        .listener
                        .limits
                        .min_response_rate
                        .map(|rate| (read_pace.wait(now_ms, sent, rate, idle_ms), Cause::ClientTooSlow));
                    sooner((after(timeouts.idle), Cause::ClientIdle), slow)
                }
                // An endpoint that waits for the rest of the request is not the one that is late.
                Wait::EndpointRead
                    if self.request == RequestSide::Sending && self.request_wait == Wait::ClientBody =>
                {
                    (after(timeouts.idle), Cause::ClientIdle)
                }
                Wait::ClientBody | Wait::EndpointWrite | Wait::EndpointRead => {
                    (after(timeouts.idle), Cause::UpstreamIdle)
                }
            },
            (RequestSide::Sending, ResponseSide::Head | ResponseSide::Judged) => match self.request_wait {
                Wait::ClientBody => {
                    let limits = &sides.listener.limits;
                    let idle_ms = milliseconds(limits.body_idle);
                    // Calls of gRPC are as slow as their events are rare, and hold a stream and no connection.
                    let is_stream = sides.ws.call.is_some() && sides.ws.leg.is_http2();
                    let slow = limits.min_body_rate.filter(|_| !is_stream).map(|rate| {
                        (body_pace.wait(now_ms, sides.ws.trace.bytes_in, rate, idle_ms), Cause::BodyTooSlow)
                    });
                    sooner((after(limits.body_idle), Cause::BodyTimeout), slow)
                }
                Wait::EndpointWrite | Wait::EndpointRead | Wait::ClientWrite => {
                    (after(timeouts.idle), Cause::SendTimeout)
                }
            },
            (RequestSide::Sent | RequestSide::Broken, ResponseSide::Head | ResponseSide::Judged) => {
                (self.progress_ms + self.first_byte_ms, Cause::FirstByteTimeout)
            }
        };
        match sides.total_ms {
            Some(total) if total < waits.0 => {
                let by_client = sides.ws.tries.by_client;
                (total, if by_client { Cause::DeadlineExceeded } else { Cause::TotalTimeout })
            }
            _ => waits,
        }
    }

    fn poll_deadline<D: Downstream>(
        &mut self,
        cx: &mut Context<'_>,
        sides: &mut Sides<'_, D>,
        now_ms: u64,
    ) -> Poll<Result<Finish, Failure>> {
        let (deadline_ms, cause) = self.deadline(sides, now_ms);
        if now_ms >= deadline_ms {
            return Poll::Ready(Err(self.failure(sides, cause)));
        }
        let mut wake_ms = deadline_ms.min(sides.ws.tries.hedge_at_ms);
        if let Some(at_ms) = self.continue_at_ms {
            if now_ms >= at_ms {
                self.continue_at_ms = None;
                let out = &mut sides.ws.client_out;
                sides.client.begin_head(out, 100, b"Continue");
                if let Err(cause) = sides.client.end_head(out, HeadKind::Informational) {
                    return Poll::Ready(Err(self.failure(sides, cause)));
                }
                cx.waker().wake_by_ref();
            } else {
                wake_ms = wake_ms.min(at_ms);
            }
        }
        if sides.client.is_unwatched() && self.request == RequestSide::Sent {
            wake_ms = wake_ms.min(self.progress_ms + WATCH_AFTER_MS);
        }
        sides.deadline.set(wake_ms, cx.waker());
        Poll::Pending
    }
}

fn milliseconds(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX / 2)
}

/// The sooner of a deadline and another one, the first when they are equal.
fn sooner(first: (u64, Cause), other: Option<(u64, Cause)>) -> (u64, Cause) {
    other.filter(|other| other.0 < first.0).unwrap_or(first)
}

/// Passes the trailers of a response on, without those that may not stand there.
fn put_trailers<D: Downstream>(
    client: &mut D,
    out: &mut Out,
    section: &[u8],
    edits: &HeaderEdits,
) -> Result<(), Cause> {
    client.trailers(out, |put| {
        for (name, value) in trailer_fields(section) {
            if may_trail_down(name)? && !edits_name(edits, name) {
                put(name, value);
            }
        }
        Ok(())
    })
}

/// Whether a trailer of a response is passed on. Metadata of gRPC may have `_` in their names.
fn may_trail_down(name: &[u8]) -> Result<bool, Cause> {
    is_end_to_end(name).map_err(|_| Cause::ResponseMalformed)
}

/// Whether a trailer of a request is passed on.
fn may_trail(name: &[u8]) -> Result<bool, Cause> {
    Ok(is_end_to_end(name)? && !name.contains(&b'_'))
}

/// Whether a trailer is for the other end. Framing fields end the exchange; identity and forwarding fields are dropped.
fn is_end_to_end(name: &[u8]) -> Result<bool, Cause> {
    let id = FieldId::of(name);
    match id {
        FieldId::ContentLength | FieldId::TransferEncoding => Err(Cause::TrailerMalformed),
        // It announces trailers, and comes too late for that.
        FieldId::Trailer
        | FieldId::Host
        | FieldId::Authorization
        | FieldId::Cookie
        | FieldId::SetCookie
        | FieldId::XRouterError
        | FieldId::XRouterLoad => Ok(false),
        _ => Ok(!id.is_forwarding() && !id.is_hop_by_hop()),
    }
}
