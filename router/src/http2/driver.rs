//! Drives the codec of one connection and ends it in order.
//!
//! The end comes in two steps (RFC 9113 section 6.8): a GOAWAY that takes every stream on its way, then, a round trip
//! later, one with the last stream. A client that is over a budget gets GOAWAY(ENHANCE_YOUR_CALM). Does not count frames
//! and does not see bytes.

use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use ekiden_config::model::HttpLimits;
use ekiden_core::frame_budget::Budget;
use h2::{Reason, server};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::http2::connection::{Accepted, CONNECTION_WINDOW, milliseconds};
use crate::http2::follower::{Fault, Follower, Notes};
use crate::http2::streams::{self, Streams};

/// How long a connection that is ending waits for requests on their way, and for its last frames to be written.
const SETTLE_MS: u64 = 1_000;

/// A connection past its handshake.
pub struct Driver<'a, S> {
    accepted: Accepted<'a>,
    notes: Rc<Notes>,
    streams: Rc<Streams>,
    codec: server::Connection<Follower<'a, S>, Bytes>,
    keepalive_ms: u64,
    head_ms: u64,
    /// Since when the client is inside a header block.
    head_since_ms: Option<u64>,
    /// Until when requests on their way are waited for.
    settle_ms: Option<u64>,
    /// The first GOAWAY has been sent.
    told_leaving: bool,
    /// The last GOAWAY has been sent: until when it may take to be written.
    over_ms: Option<u64>,
    end_counted: bool,
    /// The connection has its whole window. Told with the first request: between its settings and their acknowledgement a client
    /// need not expect anything else, and a silent one needs none.
    is_widened: bool,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Driver<'a, S> {
    /// Drives a connection whose handshake is over.
    pub fn new(
        accepted: Accepted<'a>,
        notes: Rc<Notes>,
        codec: server::Connection<Follower<'a, S>, Bytes>,
        limits: &HttpLimits,
    ) -> Self {
        let streams = Streams::new(accepted.worker.turn_ms());
        Self {
            accepted,
            notes,
            streams,
            codec,
            keepalive_ms: milliseconds(limits.keepalive_idle),
            head_ms: milliseconds(limits.head_deadline),
            head_since_ms: None,
            settle_ms: None,
            told_leaving: false,
            over_ms: None,
            end_counted: false,
            is_widened: false,
        }
    }

    /// Ready when the connection is over: true when the client may still be sending, so that a close would overtake the last
    /// frames.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        self.accepted.worker.clock.read();
        loop {
            let next = pin!(self.codec.accept()).poll(cx);
            for _ in 0..self.notes.take_refused() {
                streams::refused(&self.accepted);
                self.notes.note_malformed(self.accepted.worker.turn_ms());
            }
            match next {
                Poll::Ready(Some(Ok(taken))) => {
                    if !std::mem::replace(&mut self.is_widened, true) {
                        self.codec.set_target_window_size(CONNECTION_WINDOW);
                    }
                    streams::start(&self.accepted, &self.streams, &self.notes, taken)
                }
                Poll::Ready(Some(Err(error))) => {
                    self.note_end(&error);
                    return Poll::Ready(!error.is_io());
                }
                Poll::Ready(None) => return Poll::Ready(true),
                Poll::Pending => {
                    self.notes.settle();
                    match self.poll_end(cx) {
                        Step::Wait => return Poll::Pending,
                        Step::Again => {}
                        Step::Over => return Poll::Ready(true),
                    }
                }
            }
        }
    }

    /// Counts what the codec ended the connection for.
    fn note_end(&mut self, error: &h2::Error) {
        if std::mem::replace(&mut self.end_counted, true) || error.is_io() || error.is_remote() {
            return;
        }
        match error.reason() {
            Some(Reason::ENHANCE_YOUR_CALM) => self.count_calmed(Budget::Codec),
            Some(Reason::NO_ERROR) | None => {}
            Some(reason) => {
                self.accepted.worker.shard.http2_faults.add(1);
                tracing::debug!(listener = %self.accepted.listener.name, %reason, "HTTP/2 connection ended");
            }
        }
    }

    fn count_calmed(&self, budget: Budget) {
        self.notes.set_over_budget();
        if let Some(counter) = self.accepted.worker.shard.calmed.get(budget.index()) {
            counter.add(1);
        }
        if self.accepted.listener.may_tell(self.accepted.worker.turn_ms()) {
            tracing::warn!(
                listener = %self.accepted.listener.name,
                budget = budget.code(),
                client = self.accepted.peer.map(|peer| tracing::field::display(peer.ip())),
                "HTTP/2 connection is over a budget and was ended"
            );
        }
    }

    /// Looks whether the connection is to end, and sets the deadline at which to look again.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Step {
        let worker = self.accepted.worker;
        let now_ms = worker.turn_ms();
        if let Some(over_ms) = self.over_ms {
            if now_ms >= over_ms || worker.is_forced() {
                return Step::Over;
            }
            self.accepted.deadline.set(over_ms, cx.waker());
            return Step::Wait;
        }
        if let Some(fault) = self.notes.fault() {
            self.end_counted = true;
            match fault {
                Fault::Over(budget) => {
                    self.count_calmed(budget);
                    return self.end(Reason::ENHANCE_YOUR_CALM, now_ms);
                }
                Fault::Broken(code) => {
                    worker.shard.http2_faults.add(1);
                    return self.end(Reason::from(code), now_ms);
                }
            }
        }
        let idle_since_ms = self.streams.idle_since_ms();
        let idle = idle_since_ms.is_some();
        if worker.is_forced() && idle {
            return self.end(Reason::NO_ERROR, now_ms);
        }
        let head_over_ms = self.head_over_ms(now_ms);
        if now_ms >= head_over_ms {
            worker.shard.http2_faults.add(1);
            return self.end(Reason::ENHANCE_YOUR_CALM, now_ms);
        }
        let idle_over_ms = idle_since_ms.map_or(u64::MAX, |since_ms| since_ms + self.keepalive_ms);
        let timed_out = now_ms >= idle_over_ms;
        if (worker.is_leaving() || timed_out) && !std::mem::replace(&mut self.told_leaving, true) {
            worker.shard.idle_closed.add(u64::from(timed_out));
            self.codec.graceful_shutdown();
            return Step::Again;
        }
        let mut wake_ms = idle_over_ms.min(head_over_ms);
        if idle && (worker.is_draining() || timed_out || self.notes.client_leaves()) {
            // The codec ends by itself when the client has answered; one that does not is not waited for longer.
            let settle_ms = *self.settle_ms.get_or_insert(now_ms + SETTLE_MS);
            if now_ms >= settle_ms {
                return self.end(Reason::NO_ERROR, now_ms);
            }
            wake_ms = settle_ms.min(head_over_ms);
        }
        let wake_ms = wake_ms.min(now_ms + self.keepalive_ms);
        self.accepted.deadline.set(wake_ms, cx.waker());
        self.streams.set_waker(cx.waker());
        Step::Wait
    }

    /// When a header block that has begun takes too long.
    fn head_over_ms(&mut self, now_ms: u64) -> u64 {
        if !self.notes.in_head() {
            self.head_since_ms = None;
            return u64::MAX;
        }
        *self.head_since_ms.get_or_insert(now_ms) + self.head_ms
    }

    /// Sends the last GOAWAY.
    fn end(&mut self, reason: Reason, now_ms: u64) -> Step {
        self.codec.abrupt_shutdown(reason);
        self.over_ms = Some(now_ms + SETTLE_MS);
        Step::Again
    }
}

/// What becomes of a connection that has nothing to do.
enum Step {
    Wait,
    Again,
    Over,
}
