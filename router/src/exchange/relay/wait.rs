//! What a relay that is blocked waits for: a client that may leave, and the deadline that counts. Moves no bytes of a body.

use std::task::{Context, Poll};

use ekiden_core::outcome::Cause;

use super::{Failure, Finish, Relay, RequestSide, ResponseSide, Sides, WATCH_AFTER_MS, Wait};
use crate::exchange::downstream::{Downstream, HeadKind};

impl Relay {
    /// Watches the client while it has nothing to send for this request.
    pub(super) fn poll_client<D: Downstream>(
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
    pub(super) fn is_last<D: Downstream>(&self, sides: &Sides<'_, D>) -> bool {
        self.client_closed && sides.ws.client_in.is_empty()
    }

    /// The deadline that counts now, and what missing it means.
    pub(super) fn deadline<D: Downstream>(&self, sides: &mut Sides<'_, D>, now_ms: u64) -> (u64, Cause) {
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

    pub(super) fn poll_deadline<D: Downstream>(
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

pub(super) fn milliseconds(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX / 2)
}

/// The sooner of a deadline and another one, the first when they are equal.
fn sooner(first: (u64, Cause), other: Option<(u64, Cause)>) -> (u64, Cause) {
    other.filter(|other| other.0 < first.0).unwrap_or(first)
}
