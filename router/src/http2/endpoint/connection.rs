//! A connection to an endpoint that speaks HTTP/2: sets every bound of the codec, waits for the endpoint's settings, and
//! drives the connection in a task of its own.
//!
//! Does not connect sockets and does not keep connections (`pool` does).

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, Connection, SendRequest};

use crate::stream::Stream;

/// Response bytes of one stream that an endpoint may send ahead of the client: what a client that does not read holds here,
/// beside the buffers that any exchange has.
pub const STREAM_WINDOW: u32 = 128 << 10;
/// Streams of one connection at most, whatever its endpoint takes.
pub const STREAMS_MAX: u32 = 256;
/// Response bytes of all streams of a connection that an endpoint may send ahead: the windows of all its streams, so that
/// clients which do not read never keep the others of the connection waiting.
const CONNECTION_WINDOW: u32 = STREAMS_MAX * STREAM_WINDOW;
/// Memory for small DATA frames that wait for clients, as the codec counts it: of some 100 streams with events of 40 bytes
/// whose clients do not read. Beyond it the connection ends.
const SMALL_FRAMES: usize = 2 * CONNECTION_WINDOW as usize;
/// Largest frame taken.
const FRAME_MAX: u32 = 16 << 10;
/// Size of the table of known fields, in bytes: the protocol's own.
const HEADER_TABLE: u32 = 4 << 10;
/// Largest list of fields of a response: the bound of `wire::response`.
const HEADER_LIST: u32 = 64 << 10;
/// Request bytes of one stream that the codec holds for an endpoint that does not read.
const SEND_BUFFER: usize = 64 << 10;
/// Streams that we reset and still know, so that frames on their way to them are no fault; and for how long.
const RESET_KNOWN: usize = 256;
const RESET_KNOWN_FOR: Duration = Duration::from_secs(5);
/// Streams that faults of the endpoint may make the codec reset over the life of a connection.
const FAULTY_STREAMS: usize = 1_000;

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        // None before the endpoint has said how many it takes.
        .initial_max_send_streams(0)
        .max_concurrent_streams(0)
        .max_header_list_size(HEADER_LIST)
        .header_table_size(HEADER_TABLE)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_MAX)
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_reset_streams(RESET_KNOWN)
        .reset_stream_duration(RESET_KNOWN_FOR)
        .max_local_error_reset_streams(Some(FAULTY_STREAMS))
        .data_frame_budget(SMALL_FRAMES);
    builder
}

/// A connection past its handshake, which is still to be driven.
pub struct Begun {
    /// Begins streams.
    pub sender: SendRequest<Bytes>,
    /// To be polled for as long as the connection lasts.
    pub driver: Connection<Stream, Bytes>,
}

/// Speaks first, and waits until the endpoint has said how many streams it takes: from then on it is known to speak HTTP/2.
///
/// # Errors
/// It does not, or the connection was lost.
pub async fn begin(stream: Stream) -> Result<Begun, h2::Error> {
    let (sender, mut driver) = builder().handshake::<_, Bytes>(stream).await?;
    poll_fn(|cx| match Pin::new(&mut driver).poll(cx) {
        Poll::Ready(Ok(())) => Poll::Ready(Err(h2::Reason::NO_ERROR.into())),
        Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        Poll::Pending if sender.current_max_send_streams() > 0 => Poll::Ready(Ok(())),
        Poll::Pending => Poll::Pending,
    })
    .await?;
    Ok(Begun { sender, driver })
}
