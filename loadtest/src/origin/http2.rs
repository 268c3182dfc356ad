//! The origin that speaks HTTP/2 with prior knowledge: the small body for every GET, and for calls of gRPC the same as the one
//! message. On a thread of its own, on the codec that everybody uses. It is no example of a careful server.

use crate::failure::Fallible;
use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request, Response};
use std::net::SocketAddr;

/// Path of the calls.
pub(crate) const CALL: &str = "/bench.Echo/Unary";

/// Streams of one connection at a time.
const STREAMS_MAX: u32 = 1_000;
/// Window of a connection and of its streams.
const WINDOW: u32 = 1 << 20;

/// A message as it stands in the body of a call: the small body, behind flag and length.
pub(crate) fn message() -> Vec<u8> {
    let length = u32::try_from(super::SMALL.len()).unwrap_or(0).to_be_bytes();
    [&[0][..], &length, super::SMALL].concat()
}

/// Serves on an address until the process is ended; returns when it listens.
pub(super) fn start(address: SocketAddr) -> Fallible<()> {
    let listener = crate::turn::listen(address)?;
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(connection(stream));
            }
        });
    });
    Ok(())
}

async fn connection(stream: tokio::net::TcpStream) {
    let _slower_without = stream.set_nodelay(true);
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(STREAMS_MAX).initial_window_size(WINDOW);
    builder.initial_connection_window_size(WINDOW * 4);
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else { return };
    let message = Bytes::from(message());
    while let Some(Ok((request, respond))) = connection.accept().await {
        if request.method() == http::Method::GET {
            let _gone = page(respond);
        } else {
            tokio::spawn(call(request, respond, message.clone()));
        }
    }
}

fn page(mut respond: SendResponse<Bytes>) -> Result<(), h2::Error> {
    let mut head = Response::new(());
    head.headers_mut().insert("server", HeaderValue::from_static("origin"));
    head.headers_mut().insert("content-length", HeaderValue::from(super::SMALL.len()));
    respond.send_response(head, false)?.send_data(Bytes::from_static(super::SMALL), true)
}

async fn call(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    message: Bytes,
) -> Result<(), h2::Error> {
    let mut body = request.into_body();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
    }
    let mut head = Response::new(());
    head.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    let mut send = respond.send_response(head, false)?;
    send.send_data(message, false)?;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    send.send_trailers(trailers)
}
