//! Streams of a connection: a request's head is judged as it comes, and what is not malformed gets a task and an exchange.
//!
//! Counts what is open, so that the connection knows when it is idle. Does not drive the codec.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use ekiden_config::model::Listener;
use ekiden_core::outcome::Cause;
use ekiden_core::table::ListenerTable;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::Request;

use crate::exchange::downstream::Downstream;
use crate::exchange::request_out::choose_request_id;
use crate::exchange::{After, Workspace, run, trace};
use crate::http2::connection::Accepted;
use crate::http2::follower::Notes;
use crate::http2::stream::ClientStream;
use crate::wire::body::Framing;
use crate::wire::http2::{Http2Head, is_malformed};
use crate::worker::Worker;
use crate::worker::connection::{Busy, Connection};

/// How long, and for how much, a stream whose response was early waits for the end of its request.
const LINGER_MS: u64 = 1_000;
const LINGER_BYTES: usize = 64 << 10;

/// Streams under way.
#[derive(Debug, Default)]
pub struct Streams {
    open: Cell<u32>,
    idle_since_ms: Cell<u64>,
    waker: RefCell<Option<Waker>>,
}

impl Streams {
    /// None yet.
    pub fn new(now_ms: u64) -> Rc<Self> {
        let streams = Self::default();
        streams.idle_since_ms.set(now_ms);
        Rc::new(streams)
    }

    /// Since when none is open; none while one is.
    pub fn idle_since_ms(&self) -> Option<u64> {
        (self.open.get() == 0).then(|| self.idle_since_ms.get())
    }

    /// Whom to wake when none is open any more.
    pub fn set_waker(&self, waker: &Waker) {
        let mut held = self.waker.borrow_mut();
        if !held.as_ref().is_some_and(|held| held.will_wake(waker)) {
            *held = Some(waker.clone());
        }
    }

    /// Wakes the connection to look at them.
    fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }
}

/// A stream under way, counted while this lives.
struct OpenStream {
    worker: Rc<Worker>,
    streams: Rc<Streams>,
}

impl OpenStream {
    fn new(worker: &Rc<Worker>, streams: &Rc<Streams>) -> Self {
        streams.open.set(streams.open.get() + 1);
        worker.shard.streams.add(1);
        worker.shard.streams_open.add(1);
        Self { worker: Rc::clone(worker), streams: Rc::clone(streams) }
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.worker.shard.streams_open.sub(1);
        let open = self.streams.open.get() - 1;
        self.streams.open.set(open);
        if open == 0 {
            self.streams.idle_since_ms.set(self.worker.turn_ms());
            self.streams.wake();
        }
    }
}

/// Leaves the record of a request that the codec has refused with 431: its list of fields was over the bound, and nothing is
/// known of it.
pub fn refused(accepted: &Accepted<'_>) {
    let worker = accepted.worker;
    let mut ws = worker.take_workspace();
    ws.listener = Some(Rc::clone(accepted.listener));
    ws.peer = accepted.peer;
    ws.session = accepted.session.clone();
    ws.begin();
    ws.trace.begin(worker.clock.turn());
    ws.trace.router_made = true;
    choose_request_id(worker, &mut ws);
    worker.shard.streams.add(1);
    trace::end(worker, &mut ws, Cause::HeadTooLarge);
    ws.listener = None;
    ws.session = None;
    worker.give_workspace(ws);
}

/// Judges a request's head and starts its exchange. A malformed one ends here: it is a stream error and nothing else
/// (RFC 9113 section 8.1.1).
pub fn start(
    accepted: &Accepted<'_>,
    streams: &Rc<Streams>,
    notes: &Rc<Notes>,
    (request, respond): (Request<RecvStream>, SendResponse<Bytes>),
) {
    let (head, body) = request.into_parts();
    let (worker, listener) = (accepted.worker, accepted.listener);
    notes.take(respond.stream_id().into());
    let open = OpenStream::new(worker, streams);
    let stream = ClientStream::new(body, respond, Rc::clone(notes), accepted.session.clone());
    let mut connection = Connection::new(Rc::clone(worker), Rc::clone(listener), stream, accepted.peer);
    let Some(settings) = worker.with_table(|table| listener.settings(table)) else { return };
    let mut busy = Busy::new(&connection);
    let Some(ws) = busy.workspace() else { return };
    ws.begin();
    ws.trace.begin(worker.clock.turn());
    let judged = take_head(ws, &head, connection.stream.has_no_body(), &settings.listener);
    if let Err(cause) = judged
        && is_malformed(cause)
    {
        choose_request_id(worker, ws);
        connection.stream.reset(Reason::PROTOCOL_ERROR);
        trace::end(worker, ws, cause);
        notes.note_malformed(worker.turn_ms());
        return;
    }
    connection.deadline.set_busy(true);
    let work = StreamWork { connection, busy: Some(busy), settings, judged, _open: open };
    if let Some(work) = worker.stream_seats.hand_over(work) {
        tokio::task::spawn_local(serve(Rc::clone(worker), work));
    }
}

fn take_head(
    ws: &mut Workspace,
    head: &http::request::Parts,
    ended: bool,
    listener: &Listener,
) -> Result<(), Cause> {
    let (bounds, rules) = run::head_rules(listener);
    let from = Http2Head {
        method: head.method.as_str(),
        scheme: head.uri.scheme_str(),
        authority: head.uri.authority().map(http::uri::Authority::as_str),
        path: head.uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str),
        protocol: head.extensions.get::<h2::ext::Protocol>().map(h2::ext::Protocol::as_str),
        fields: &head.headers,
        ended,
    };
    ws.trace.bytes_in = ws.request.take_http2(&from, &bounds, rules)?;
    Ok(())
}

/// A request that a task is to serve: its head stands in the workspace.
pub struct StreamWork {
    connection: Connection<ClientStream>,
    busy: Option<Busy>,
    settings: Arc<ListenerTable>,
    judged: Result<(), Cause>,
    _open: OpenStream,
}

impl StreamWork {
    /// Serves it. The record has been written when this ends.
    async fn serve(&mut self) {
        let Self { connection, busy, settings, judged, .. } = self;
        let Some(ws) = busy.as_mut().and_then(Busy::workspace) else { return };
        if connection.stream.is_reset() {
            // Rapid reset: no endpoint is asked for what is not wanted any more.
            choose_request_id(&connection.worker, ws);
            trace::end(&connection.worker, ws, connection.stream.loss());
            return;
        }
        // RFC 9113 section 8.5, RFC 8441 section 5: what stands for the reset of a connection.
        let failed = match (ws.request.is_connect, ws.request.is_tunnel()) {
            (true, _) => Reason::CONNECT_ERROR,
            (false, true) => Reason::CANCEL,
            (false, false) => Reason::INTERNAL_ERROR,
        };
        match ws.request.framing {
            Framing::Length(bytes) => connection.stream.expect_length(bytes),
            _ if ws.request.is_tunnel() => connection.stream.expect_tunnel(),
            Framing::None if judged.is_ok() && !connection.stream.has_no_body() => {
                *judged = Box::pin(end(connection, settings.listener.limits.body_idle)).await;
            }
            _ => {}
        }
        let after = run::serve_head(connection, ws, settings, *judged).await;
        *busy = None;
        if after == After::Abort {
            connection.stream.reset(failed);
        } else if !connection.stream.has_no_body() {
            Box::pin(linger(connection)).await;
        }
    }
}

/// Serves one stream, then those that it is handed. A block and not an `async fn`, as the task of a connection is.
fn serve(worker: Rc<Worker>, work: StreamWork) -> impl Future<Output = ()> {
    let mut work = Some(work);
    async move {
        let mut seat = None;
        while let Some(under_way) = &mut work {
            under_way.serve().await;
            // Ended before the task waits, and not when there is another.
            drop(work.take());
            work = worker.stream_seats.next(&mut seat).await;
        }
    }
}

/// Waits for the end of a request that has a length of zero and has not ended with its head.
///
/// # Errors
/// It does not end in time, or there is more.
async fn end(connection: &mut Connection<ClientStream>, most: Duration) -> Result<(), Cause> {
    let worker = Rc::clone(&connection.worker);
    let over_ms = worker.turn_ms().saturating_add(u64::try_from(most.as_millis()).unwrap_or(u64::MAX));
    poll_fn(|cx| match connection.stream.poll_whole(cx) {
        Poll::Ready(ended) => Poll::Ready(ended.map_err(|_| Cause::LengthInvalid)),
        Poll::Pending if worker.now_ms() >= over_ms => Poll::Ready(Err(Cause::BodyTimeout)),
        Poll::Pending => {
            connection.deadline.set(over_ms, cx.waker());
            Poll::Pending
        }
    })
    .await
}

/// The response came before the end of the request: waits a moment for that end, so that a client which is about to finish
/// is not told to stop, and one that breaks the protocol is told so. Then the stream is reset with NO_ERROR.
async fn linger(connection: &mut Connection<ClientStream>) {
    connection.deadline.set_busy(false);
    let worker = Rc::clone(&connection.worker);
    let over_ms = worker.turn_ms() + LINGER_MS;
    let mut left = LINGER_BYTES;
    poll_fn(|cx| {
        if connection.stream.poll_swallow(cx, &mut left).is_ready()
            || worker.is_draining()
            || worker.now_ms() >= over_ms
        {
            return Poll::Ready(());
        }
        connection.deadline.set(over_ms, cx.waker());
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn future_size<A, B, F>(_: fn(A, B) -> F) -> usize {
        size_of::<F>()
    }

    /// Each stream under way has one, and a worker keeps some.
    #[test]
    fn the_task_of_a_stream_is_small() {
        let size = future_size(serve);
        assert!(size <= 1_300, "the task of a stream holds {size} bytes");
    }
}
