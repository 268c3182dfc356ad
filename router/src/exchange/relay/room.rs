//! What the relay receives for a client of which this is one of many streams: as much as it takes, and next to nothing beyond
//! that, so that the rest stays in the endpoint's socket.
//!
//! A client may have hundreds of streams and read none of them. Of HTTP/1 it has one response at a time, which may fill a large
//! buffer. Decodes nothing.

use std::io;
use std::task::{Context, Poll};

use super::{Relay, ResponseSide, Sides, Wait};
use crate::buffer::{LARGE, TINY};
use crate::exchange::downstream::Downstream;

impl Relay {
    /// Receives for a client of which this is one of many streams: no more than it takes, and the smallest read beyond that.
    pub(super) fn poll_receive_some<D: Downstream>(
        &mut self,
        cx: &mut Context<'_>,
        sides: &mut Sides<'_, D>,
    ) -> Poll<io::Result<usize>> {
        if self.response != ResponseSide::Body {
            // What comes with the head has no place to go while others wait for theirs.
            let most = if sides.client.is_crowded() { TINY } else { LARGE };
            return sides.ws.leg.poll_receive_some(cx, &sides.worker.buffers, (most, 0));
        }
        let room = sides.client.room(cx, LARGE);
        if room == 0 && self.response_decoder.inside() > 0 {
            self.response_wait = Wait::ClientWrite;
            return Poll::Pending;
        }
        let inside = self.response_decoder.inside();
        let received =
            sides.ws.leg.poll_receive_some(cx, &sides.worker.buffers, (fitting(inside, room), inside));
        if received.is_pending() {
            sides.client.return_room();
        }
        received
    }

    /// The little that had to wait for the client goes out with what comes behind it: a frame of its own would cost as much as
    /// a large one. What goes wrong meanwhile is told once that little is on its way.
    pub(super) fn top_up<D: Downstream>(&mut self, cx: &mut Context<'_>, sides: &mut Sides<'_, D>) {
        let little = sides.ws.client_out.pending();
        let is_little = self.direct == 0 && little <= TINY;
        let waited = std::mem::take(&mut self.waited);
        let in_body = self.response == ResponseSide::Body && self.late.is_none();
        if !(waited && is_little && in_body && sides.ws.leg.input.is_empty()) {
            return;
        }
        let room = sides.client.room(cx, LARGE).saturating_sub(little);
        if room <= TINY {
            return;
        }
        let inside = self.response_decoder.inside();
        let most = (fitting(inside, room), inside);
        self.late = match sides.ws.leg.poll_receive_some(cx, &sides.worker.buffers, most) {
            Poll::Ready(Ok(1..)) => self.decode_response(sides).err(),
            // It is told once, and a reset is no end of a body that lasts until the close.
            Poll::Ready(Err(error)) => Some(sides.ws.leg.loss(Some(&error))),
            Poll::Ready(Ok(0)) | Poll::Pending => None,
        };
    }

    /// What waits holds no storage that it does not need, where there may be hundreds.
    pub(super) fn rest<D: Downstream>(&self, sides: &mut Sides<'_, D>) {
        let (buffers, ws) = (&sides.worker.buffers, &mut *sides.ws);
        buffers.rest(&mut ws.leg.input);
        buffers.rest(&mut ws.client_in);
        if self.head_queued && sides.client.is_crowded() {
            ws.slim();
        }
    }
}

/// How much to receive of a body for so much room, when so many of the next bytes are `inside` of it for sure. The end of a body
/// and its trailers need none, and are known once they are there; framing needs none either. A read that may bring the end asks
/// for more than that, so that it is not filled to the brim (see [`crate::exchange::leg::short_of_brim`]).
fn fitting(inside: u64, room: usize) -> usize {
    let inside = usize::try_from(inside).unwrap_or(usize::MAX);
    let most = room.max(TINY);
    if inside > most { most } else { room + TINY }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::SMALL;
    use crate::exchange::leg::short_of_brim;

    #[test]
    fn a_read_fits_the_room_and_no_last_one_is_filled_to_the_brim() {
        let sizes = [0, 1, 99, TINY - 1, TINY, TINY + 1, 16 << 10, LARGE - TINY, LARGE - 1, LARGE];
        for room in sizes {
            for inside in sizes.into_iter().chain([LARGE + 1, 1 << 20]) {
                let most = fitting(inside as u64, room);
                assert!(most > 0 && most <= room + TINY, "{room} {inside}: {most}");
                // Without room nothing is received that is known to need it.
                for storage in [SMALL, LARGE] {
                    let asked = short_of_brim(most.min(storage), inside as u64);
                    assert!(asked > 0);
                    assert!(room == 0 || asked != inside, "{inside} bytes, room for {room} in {storage}");
                }
            }
        }
    }
}
