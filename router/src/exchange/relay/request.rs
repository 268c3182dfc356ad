//! The request side of a relay: bytes of the client through the decoder to the endpoint. Does not judge the response.

use std::task::{Context, Poll};

use ekiden_core::outcome::{Cause, Phase};

use super::trailers::may_trail;
use super::{QUEUE_MAX, Relay, RequestSide, Sides, Wait};
use crate::exchange::downstream::Downstream;
use crate::exchange::out::{put_chunk_size, put_field};
use crate::exchange::request_out::edits_name;
use crate::wire::body::Frame;
use crate::wire::chunked::trailer_fields;

impl Relay {
    pub(super) fn poll_request<D: Downstream>(
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
}
