//! Follows an HTTP/2 connection under its codec: reads the nine bytes of each frame's header as they pass, in both
//! directions, and stops a client that is over a budget before the codec sees more of it.
//!
//! Also holds the few rules that the codec answers with another error than the protocol asks for (`rules`), for which it walks
//! over the payloads of SETTINGS and of field blocks. Decodes nothing, and changes nothing but the type of a
//! client's GOAWAY. Does not close (the connection does, when it sees what was noted).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use ekiden_core::frame_budget::{Budget, FrameCounts, FrameHeader, MALFORMED_MAX, kind};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::buffer::Buffer;
use crate::http2::preface::PREFACE;
use crate::http2::rules::{Rules, code};
use crate::http2::track::{Part, Track};
use crate::worker::Worker;

/// What a connection is to be ended for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Over a budget.
    Over(Budget),
    /// A frame breaks a rule: the code of the error.
    Broken(u32),
}

/// What is known of a connection beside its codec: noted by the follower and the connection, read by both and by streams.
#[derive(Debug, Default)]
pub struct Notes {
    fault: Cell<Option<Fault>>,
    counts: RefCell<FrameCounts>,
    began: Cell<bool>,
    over_budget: Cell<bool>,
    client_leaves: Cell<bool>,
    /// The newest stream that the codec has handed over, and older ones that it has kept to itself.
    taken: Cell<u32>,
    kept: RefCell<VecDeque<u32>>,
    /// Requests that the codec has answered and nobody has counted.
    refused: Cell<u32>,
    /// Bytes of bodies that the codec has and the socket has not taken, more or less: what the codec adds is counted as taken,
    /// and what it drops with a stream is not until it has nothing to send.
    queued: Cell<usize>,
    /// The socket takes nothing.
    blocked: Cell<bool>,
    /// Streams that wait for the socket, each with its turn.
    choked: RefCell<Vec<(Turn, Waker)>>,
    /// How many turns were given out.
    turns: Cell<u64>,
    /// Streams with something to send that wait, for the socket or for a window.
    waiting: Cell<u32>,
    local: Option<SocketAddr>,
}

/// The place of a stream among those that wait for the socket: who has waited longest without sending anything comes first. It is
/// kept until something is sent, however often the stream is woken for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Turn(u64);

/// Most bytes of bodies that wait in the codec for the socket, all streams together. The codec bounds those of each stream, of
/// which there may be hundreds.
const QUEUED_MAX: usize = 64 << 10;
/// Bytes from which streams wait: below, there is room for a piece that is worth its frame.
const QUEUED_ENOUGH: usize = QUEUED_MAX / 2;
/// Streams kept by the codec that are remembered.
const KEPT_MAX: usize = 16;

impl Notes {
    /// Those of a connection that was made to this address.
    pub fn new(local: Option<SocketAddr>) -> Self {
        Self { local, ..Self::default() }
    }

    /// The address that the client connected to.
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.local
    }

    /// What the connection is to be ended for.
    pub fn fault(&self) -> Option<Fault> {
        self.fault.get()
    }

    /// Whether the client has said that it goes away.
    pub fn client_leaves(&self) -> bool {
        self.client_leaves.get()
    }

    /// Notes that the connection is ended because it is over a budget.
    pub fn set_over_budget(&self) {
        self.over_budget.set(true);
    }

    /// Whether it is: the cause of the exchanges that end with it.
    pub fn is_over_budget(&self) -> bool {
        self.over_budget.get()
    }

    /// Whether the client is inside a header block.
    pub fn in_head(&self) -> bool {
        self.counts.borrow().in_head()
    }

    /// Notes a stream that the codec has handed over; it does so in their order.
    pub fn take(&self, stream: u32) {
        let last = self.taken.replace(stream);
        let mut next = if last == 0 { 1 } else { last.saturating_add(2) };
        if next < stream {
            let mut kept = self.kept.borrow_mut();
            next = next.max(stream.saturating_sub(2 * KEPT_MAX as u32)) | 1;
            kept.extend((next..stream).step_by(2));
            let over = kept.len().saturating_sub(KEPT_MAX);
            kept.drain(..over);
        }
    }

    /// How many requests the codec has answered by itself since the last call: their lists of fields were over the bound.
    pub fn take_refused(&self) -> u32 {
        self.refused.take()
    }

    /// Notes a request that is malformed, or that the codec has refused: of too many the connection is ended.
    pub fn note_malformed(&self, now_ms: u64) {
        if let Err(budget) = self.counts.borrow_mut().note_malformed(now_ms)
            && self.fault.get().is_none()
        {
            self.fault.set(Some(Fault::Over(budget)));
        }
    }

    /// Sees a head on its way to the client. The codec answers nothing but what it does not hand over.
    fn send_head(&self, stream: u32) {
        let ours = stream <= self.taken.get() && !self.kept.borrow().contains(&stream);
        if !ours {
            self.refused.set(self.refused.get() + 1);
        }
    }

    /// Notes bytes of a body that the codec has taken.
    pub fn queue(&self, bytes: usize) {
        self.queued.set(self.queued.get() + bytes);
    }

    /// Whether the codec is to get no more now: the socket takes nothing, or enough waits for it.
    pub fn is_choked(&self) -> bool {
        self.blocked.get() || self.queued.get() >= QUEUED_ENOUGH
    }

    /// How many bytes the codec may get now.
    pub fn free(&self) -> usize {
        QUEUED_MAX.saturating_sub(self.queued.get())
    }

    /// Notes that one more stream waits for the client, or one less.
    pub fn count_waiting(&self, waits: bool) {
        let waiting = self.waiting.get();
        self.waiting.set(if waits { waiting + 1 } else { waiting.saturating_sub(1) });
    }

    /// How many streams wait for the client.
    pub fn waiting(&self) -> u32 {
        self.waiting.get()
    }

    /// Has the task woken when the socket takes something, in its turn: one that it has already, or the last.
    pub fn wait_for_socket(&self, turn: &mut Option<Turn>, cx: &Context<'_>) {
        let turn = *turn.get_or_insert_with(|| {
            self.turns.set(self.turns.get() + 1);
            Turn(self.turns.get())
        });
        let mut choked = self.choked.borrow_mut();
        if !choked.iter().any(|(_, waker)| waker.will_wake(cx.waker())) {
            choked.push((turn, cx.waker().clone()));
        }
    }

    /// Notes whether the socket has taken something. Who waits for it is woken when the codec has done with it for now.
    fn note_taken(&self, written: &Poll<io::Result<usize>>) {
        self.blocked.set(written.is_pending());
        if let Poll::Ready(Ok(bytes)) = written {
            self.queued.set(self.queued.get().saturating_sub(*bytes));
        }
    }

    /// The codec has sent what it could: unless the socket takes nothing, nothing of any body waits in it.
    pub fn settle(&self) {
        if !self.blocked.get() {
            self.queued.set(0);
            self.wake_choked();
        }
    }

    fn wake_choked(&self) {
        if self.is_choked() || self.choked.borrow().is_empty() {
            return;
        }
        let mut turns = self.choked.take();
        // Who is woken first may take all the room there is.
        turns.sort_unstable_by_key(|(turn, _)| *turn);
        turns.into_iter().for_each(|(_, waker)| waker.wake());
    }

    fn receive(&self, frame: FrameHeader, now_ms: u64) -> Result<(), Fault> {
        if !self.began.replace(true) && (frame.kind != kind::SETTINGS || frame.flags & 1 != 0) {
            // RFC 9113 section 3.4.
            return Err(Fault::Broken(code::PROTOCOL_ERROR));
        }
        if frame.kind == kind::GOAWAY {
            self.client_leaves.set(true);
        }
        self.counts.borrow_mut().receive(frame, now_ms).map_err(Fault::Over)
    }
}

/// A byte stream with a follower on it.
pub struct Follower<'a, S> {
    io: &'a mut S,
    /// What was read to tell the protocol; passes first.
    first: Buffer,
    worker: Rc<Worker>,
    notes: Rc<Notes>,
    rules: Rules,
    received: Track,
    sent: Track,
}

impl<'a, S> Follower<'a, S> {
    /// Follows a connection from its first byte; `first` holds what has been read of it.
    pub fn new(io: &'a mut S, first: Buffer, worker: Rc<Worker>, notes: Rc<Notes>) -> Self {
        let (received, sent) = (Track::new(PREFACE.len()), Track::new(0));
        Self { io, first, worker, notes, rules: Rules::default(), received, sent }
    }

    fn see(&mut self, bytes: &[u8]) -> Result<(), ()> {
        let (notes, rules, now_ms) = (&self.notes, &mut self.rules, self.worker.turn_ms());
        let see = |part: Part<'_>| match part {
            Part::Header(frame, stream) => {
                notes.receive(frame, now_ms)?;
                rules.begin(frame, stream).map_err(Fault::Broken)
            }
            Part::Payload(bytes) => rules.payload(bytes).map_err(Fault::Broken),
            Part::End => rules.end().map_err(Fault::Broken),
        };
        self.received.walk(bytes, see).map_err(|fault| notes.fault.set(Some(fault)))
    }

    fn see_sent(&mut self, bytes: &[u8]) {
        let (notes, rules, shard) = (&self.notes, &mut self.rules, &self.worker.shard);
        let seen: Result<(), std::convert::Infallible> = self.sent.walk(bytes, |part| {
            if let Part::Header(frame, stream) = part {
                if frame.kind == kind::HEADERS {
                    notes.send_head(stream);
                }
                shard.streams_reset.add(u64::from(frame.kind == kind::RST_STREAM));
                notes.counts.borrow_mut().send(frame);
                rules.note_sent(frame);
            }
            Ok(())
        });
        let Ok(()) = seen;
    }
}

impl<S> Drop for Follower<'_, S> {
    fn drop(&mut self) {
        self.worker.buffers.discard(&mut self.first);
        // Nothing is sent any more: who waits for that is to hear it from the codec.
        self.notes.blocked.set(false);
        self.notes.settle();
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Follower<'_, S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.notes.fault.get().is_some() || u64::from(this.notes.refused.get()) > MALFORMED_MAX {
            // The connection ends it; nothing more is read, so nobody is to be woken for it. It counts what the codec has answered
            // once that has nothing to do.
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        if this.first.is_attached() {
            let count = this.first.len().min(buffer.remaining());
            buffer.put_slice(this.first.bytes().get(..count).unwrap_or(&[]));
            this.first.consume(count);
            if this.first.is_empty() {
                this.worker.buffers.discard(&mut this.first);
            }
        } else {
            ready!(Pin::new(&mut *this.io).poll_read(cx, buffer))?;
        }
        let track = this.received;
        let read = buffer.filled_mut().get_mut(before..).unwrap_or_default();
        let seen = this.see(read);
        if memchr::memchr(kind::GOAWAY, read).is_some() {
            track.hide_goaway(read);
        }
        if seen.is_err() {
            buffer.set_filled(before);
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Follower<'_, S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut *this.io).poll_write(cx, bytes);
        this.notes.note_taken(&written);
        let count = ready!(written)?;
        this.see_sent(bytes.get(..count).unwrap_or(&[]));
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut *this.io).poll_write_vectored(cx, parts);
        this.notes.note_taken(&written);
        let count = ready!(written)?;
        let mut left = count;
        for part in parts {
            let seen = part.get(..left.min(part.len())).unwrap_or(&[]);
            this.see_sent(seen);
            left -= seen.len();
        }
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut *this.io).poll_flush(cx);
        // TLS takes a whole frame and holds it back.
        this.notes.blocked.set(flushed.is_pending());
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.get_mut().io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::task::Wake;

    use super::*;

    struct Called(usize, Arc<Mutex<Vec<usize>>>);

    impl Wake for Called {
        fn wake(self: Arc<Self>) {
            self.1.lock().unwrap().push(self.0);
        }
    }

    /// The first that is woken takes all the room, and waits again at once, after its endpoint has sent more while the others
    /// are woken for nothing, or after one more of them has had a turn.
    #[test]
    fn streams_that_wait_for_the_socket_are_woken_in_turns() {
        for away in 0..3 {
            let (notes, called) = (Notes::default(), Arc::new(Mutex::new(Vec::new())));
            let mut turns = [None; 3];
            let mut waits = |notes: &Notes, one: usize, sent: bool| {
                let waker = Waker::from(Arc::new(Called(one, Arc::clone(&called))));
                turns[one] = turns[one].filter(|_| !sent);
                notes.wait_for_socket(&mut turns[one], &Context::from_waker(&waker));
            };
            (0..3).for_each(|one| waits(&notes, one, true));
            let (mut first, mut out) = (Vec::new(), VecDeque::new());
            for _ in 0..9 {
                notes.settle();
                let woken = std::mem::take(&mut *called.lock().unwrap());
                out.push_back(woken[0]);
                first.push(woken[0]);
                // Whoever comes back does so before those who were woken with it.
                if out.len() > away {
                    waits(&notes, out.pop_front().unwrap(), true);
                }
                woken[1..].iter().for_each(|one| waits(&notes, *one, false));
            }
            assert_eq!(first, [0, 1, 2, 0, 1, 2, 0, 1, 2], "{away}");
        }
    }

    /// A connection that lives for long and sends a few now and then is not ended; one that sends too many at once is.
    #[test]
    fn malformed_requests_end_a_connection_by_their_rate() {
        let notes = Notes::default();
        for second in 0..1_000 {
            (0..10).for_each(|_| notes.note_malformed(second * 1_000));
            assert_eq!(notes.fault(), None, "after {second} seconds");
        }
        (0..=MALFORMED_MAX).for_each(|_| notes.note_malformed(1_000_000));
        assert_eq!(notes.fault(), Some(Fault::Over(Budget::Malformed)));
    }

    #[test]
    fn streams_wait_while_there_is_no_room_for_a_good_piece() {
        let notes = Notes::default();
        notes.queue(QUEUED_ENOUGH - 1);
        assert_eq!((notes.is_choked(), notes.free()), (false, QUEUED_ENOUGH + 1));
        notes.queue(notes.free());
        assert_eq!((notes.is_choked(), notes.free()), (true, 0));
        notes.note_taken(&Poll::Ready(Ok(QUEUED_ENOUGH)));
        assert!(notes.is_choked());
        notes.note_taken(&Poll::Ready(Ok(1)));
        assert!(!notes.is_choked());
    }

    #[test]
    fn a_head_that_nobody_here_sent_is_a_refusal() {
        let late = Notes::default();
        late.take(3);
        late.send_head(1);
        assert_eq!(late.take_refused(), 1, "the first of all");
        let notes = Notes::default();
        for stream in [1, 5, 7, 101] {
            notes.take(stream);
            notes.send_head(stream);
        }
        assert_eq!(notes.take_refused(), 0);
        // Passed over, not come to yet, and so long ago that it is forgotten.
        for (stream, refused) in [(99, 1), (71, 1), (103, 1), (3, 0), (5, 0), (101, 0)] {
            notes.send_head(stream);
            assert_eq!(notes.take_refused(), refused, "{stream}");
        }
    }
}
