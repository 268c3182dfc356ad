//! An HTTP/2 client connection: sets every bound of the codec, makes the handshake, then drives it to its end.
//!
//! The entry for any byte stream that has been found to speak HTTP/2. One task for the connection and one for each stream,
//! all on its worker. Does not tell protocols apart.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use ekiden_config::model::HttpLimits;
use ekiden_core::frame_budget::STREAMS_MAX;
use h2::server;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::buffer::Buffer;
use crate::http2::driver::Driver;
use crate::http2::follower::{Follower, Notes};
use crate::tls::Session;
use crate::wheel::Deadline;
use crate::worker::{ListenerRef, Worker};

/// Request bytes of one stream that a client may send ahead of the endpoint.
const STREAM_WINDOW: u32 = 256 << 10;
/// Request bytes of all streams of a connection that a client may send ahead, once it has made a request; 64 KiB before.
pub(super) const CONNECTION_WINDOW: u32 = 1 << 20;
/// Largest frame taken; the smallest bound there is, so that one stream cannot keep the others waiting.
const FRAME_MAX: u32 = 16 << 10;
/// Size of the table of known fields, in bytes: the protocol's own.
const HEADER_TABLE: u32 = 4 << 10;
/// Response bytes of one stream that the codec holds for a client that does not read.
const SEND_BUFFER: usize = 64 << 10;
/// Streams that faults of the client may make the codec reset over the life of a connection ("made you reset"); requests
/// beyond the bound on open ones are among them.
const FAULTY_STREAMS: usize = 500;
/// Streams reset by the client before they were taken; the budget of resets ends the connection sooner.
const UNTAKEN_RESETS: usize = 2 * STREAMS_MAX as usize;
/// Streams that we reset and still know, so that frames on their way to them are no fault; and for how long.
const RESET_KNOWN: usize = 50;
const RESET_KNOWN_FOR: Duration = Duration::from_secs(1);
/// Memory for small DATA frames that wait for an endpoint, as the codec counts it.
const SMALL_FRAMES: usize = CONNECTION_WINDOW as usize / 2;

/// Whose connection it is.
pub struct Accepted<'a> {
    /// Its worker.
    pub worker: &'a Rc<Worker>,
    /// The listener that accepted it.
    pub listener: &'a Rc<ListenerRef>,
    /// The client's address.
    pub peer: Option<SocketAddr>,
    /// The address it connected to.
    pub local: Option<SocketAddr>,
    /// Its TLS session; none on a plain one.
    pub session: Option<Arc<Session>>,
    /// Its slot in the wheel.
    pub deadline: &'a Deadline,
}

/// An open HTTP/2 connection, counted while this lives.
struct OpenHttp2<'a>(&'a Worker);

impl<'a> OpenHttp2<'a> {
    fn new(worker: &'a Worker) -> Self {
        worker.shard.http2_connections.add(1);
        worker.shard.http2_open.add(1);
        Self(worker)
    }
}

impl Drop for OpenHttp2<'_> {
    fn drop(&mut self) {
        self.0.shard.http2_open.sub(1);
    }
}

/// A time in the unit of the wheel.
pub fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX / 2)
}

fn builder(limits: &HttpLimits) -> server::Builder {
    let mut builder = server::Builder::new();
    builder
        .max_concurrent_streams(STREAMS_MAX)
        .enable_connect_protocol()
        .max_header_list_size(limits.head)
        .header_table_size(HEADER_TABLE)
        .initial_window_size(STREAM_WINDOW)
        .max_frame_size(FRAME_MAX)
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_reset_streams(RESET_KNOWN)
        .reset_stream_duration(RESET_KNOWN_FOR)
        .max_pending_accept_reset_streams(UNTAKEN_RESETS)
        .max_local_error_reset_streams(Some(FAULTY_STREAMS))
        .data_frame_budget(SMALL_FRAMES);
    builder
}

/// Serves a connection that has been found to speak HTTP/2, to its end. `first` holds what has been read of it. True when
/// the client may still be sending, so that a close would overtake the last frames.
pub async fn serve<S>(accepted: Accepted<'_>, io: &mut S, first: Buffer) -> bool
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let worker = accepted.worker;
    let _open = OpenHttp2::new(worker);
    let settings = worker.with_table(|table| accepted.listener.settings(table));
    let Some(settings) = settings else { return false };
    let limits = &settings.listener.limits;
    let notes = Rc::new(Notes::new(accepted.local));
    let follower = Follower::new(io, first, Rc::clone(worker), Rc::clone(&notes));
    let over_ms = worker.now_ms() + milliseconds(limits.head_deadline);
    let mut handshake = pin!(builder(limits).handshake::<_, Bytes>(follower));
    let codec = poll_fn(|cx| {
        if let Poll::Ready(done) = handshake.as_mut().poll(cx) {
            return Poll::Ready(done.ok());
        }
        if worker.is_forced() || worker.now_ms() >= over_ms {
            return Poll::Ready(None);
        }
        accepted.deadline.set(over_ms, cx.waker());
        Poll::Pending
    })
    .await;
    let Some(codec) = codec else {
        worker.shard.http2_faults.add(1);
        return true;
    };
    let mut driver = Driver::new(accepted, notes, codec, limits);
    poll_fn(|cx| driver.poll(cx)).await
}
