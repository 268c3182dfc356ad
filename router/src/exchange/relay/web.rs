//! The relay of a call of gRPC-web: what `relay` does with frames, through the codec. Everything is copied.

use ekiden_core::outcome::Cause;

use super::trailers::may_trail_down;
use super::{QUEUE_MAX, Relay, ResponseSide, Sides};
use crate::exchange::downstream::Downstream;
use crate::exchange::request_out::edits_name;
use crate::wire::body::Frame;
use crate::wire::chunked::trailer_fields;

impl Relay {
    /// As `decode_request`. Trailers of the request have no meaning in gRPC.
    #[cold]
    pub(super) fn decode_web_request<D: Downstream>(
        &mut self,
        sides: &mut Sides<'_, D>,
    ) -> Result<bool, Cause> {
        let mut produced = false;
        while sides.ws.leg.output.pending() < QUEUE_MAX {
            let ws = &mut *sides.ws;
            let Some(web) = &mut ws.web else { return Ok(false) };
            let bytes = ws.client_in.bytes();
            let out = ws.leg.output.buffer();
            let taken = match self.request_decoder.next(bytes)? {
                Frame::Data { skip, take } => {
                    ws.trace.bytes_in += (skip + take) as u64;
                    self.request_body_bytes += take as u64;
                    if self.body_limit.is_some_and(|limit| self.request_body_bytes > limit) {
                        return Err(Cause::BodyTooLarge);
                    }
                    let piece = bytes.get(skip..skip + take).unwrap_or(&[]);
                    web.request_piece(piece, self.request_chunked, out)?;
                    produced = true;
                    skip + take
                }
                Frame::Trailers { skip, take } => skip + take,
                Frame::End { skip } => skip,
                Frame::More { skip } => {
                    ws.client_in.consume(skip);
                    return Ok(produced);
                }
            };
            ws.client_in.consume(taken);
            if self.request_decoder.is_done() {
                web.request_end()?;
                if self.request_chunked {
                    out.extend_from_slice(b"0\r\n\r\n");
                }
                return Ok(true);
            }
        }
        Ok(true)
    }

    /// As `decode_response`.
    #[cold]
    pub(super) fn decode_web_response<D: Downstream>(
        &mut self,
        sides: &mut Sides<'_, D>,
    ) -> Result<bool, Cause> {
        let ws = &mut *sides.ws;
        let Some(web) = &ws.web else { return Ok(false) };
        let edits = &sides.route.response_headers;
        let mut produced = false;
        while ws.client_out.pending() < QUEUE_MAX {
            let bytes = ws.leg.input.bytes();
            let out = ws.client_out.buffer();
            let frame = self.response_decoder.next(bytes).map_err(|_| Cause::ResponseMalformed)?;
            let taken = match frame {
                Frame::Data { skip, take } => {
                    web.put(bytes.get(skip..skip + take).unwrap_or(&[]), out);
                    produced = true;
                    skip + take
                }
                Frame::Trailers { skip, take } => {
                    let section = bytes.get(skip..skip + take).unwrap_or(&[]);
                    if let Some(call) = &mut ws.call {
                        call.note_trailers(section);
                    }
                    for (name, _) in trailer_fields(section) {
                        may_trail_down(name)?;
                    }
                    let passed = trailer_fields(section)
                        .filter(|(name, _)| may_trail_down(name) == Ok(true) && !edits_name(edits, name));
                    web.put_trailers(out, passed);
                    skip + take
                }
                Frame::End { skip } => {
                    web.put_trailers(out, std::iter::empty());
                    skip
                }
                Frame::More { skip } => {
                    ws.leg.input.consume(skip);
                    return Ok(produced);
                }
            };
            ws.leg.input.consume(taken);
            self.settle_response();
            if self.response == ResponseSide::Done {
                return Ok(true);
            }
        }
        Ok(true)
    }
}
