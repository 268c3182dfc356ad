//! The response side of a relay: heads, bodies and trailers of the endpoint to the client. Whether a failure is answered is not
//! decided here.

use std::task::{Context, Poll};

use ekiden_core::outcome::{Cause, Phase};

use super::trailers::put_trailers;
use super::{COPY_MAX, INFORMATIONAL_MAX, Relay, RequestSide, ResponseSide, Sides, Wait};
use crate::exchange::downstream::Downstream;
use crate::exchange::out::put_chunk_size;
use crate::exchange::response_out::{self, Coding, ResponseOut};
use crate::exchange::{affinity, evidence, grpc, load, upgrade};
use crate::wire::Version;
use crate::wire::body::{Decoder, Frame};

impl Relay {
    pub(super) fn poll_response<D: Downstream>(
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

    pub(super) fn decode_response<D: Downstream>(&mut self, sides: &mut Sides<'_, D>) -> Result<bool, Cause> {
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

    pub(super) fn settle_response(&mut self) {
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
}
