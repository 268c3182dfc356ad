//! The handshake of one client connection, on its worker, inside its deadline.
//!
//! ```text
//! first bytes -> ClientHello -> name judged -> certificate, keys, Finished -> stream
//!      \-> plain HTTP: given back, to be answered as such
//! ```
//! Until the first byte a connection costs no TLS state. Does not accept and does not serve.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use ekiden_core::stats::{HandshakeFailure, TlsShard};
use rustls::server::{Accepted, Acceptor};
use rustls::{CommonState, Error, HandshakeKind, ProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::clients::Identity;
use super::listener::{Known, TlsListener};
use super::stream::{Session, TlsError, TlsStream};
use crate::stream::Stream;
use crate::worker::Worker;
use crate::worker::connection::Connection;

/// Bytes of one read of a ClientHello; rustls takes no more at a time.
const HELLO_READ: usize = 4 << 10;
/// First byte of a TLS record that holds a handshake message.
const HANDSHAKE_RECORD: u8 = 0x16;
/// The alert `unrecognized_name`, fatal, as a record (RFC 8446 section 6, RFC 6066 section 3).
const UNRECOGNIZED_NAME: &[u8] = &[0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 112];
/// How long a connection that the drain finds silent may still send its ClientHello.
const SETTLE_MS: u64 = 1_000;

/// How a connection on a TLS listener begins.
#[derive(Debug)]
pub enum Begun {
    /// With TLS: the connection's stream is one now.
    Secure,
    /// With these bytes, which are plain HTTP.
    Plain(Box<[u8]>),
    /// Not at all; it has been counted.
    Over,
}

/// Counts a handshake in progress until it is dropped.
struct InProgress<'a>(&'a TlsShard);

impl Drop for InProgress<'_> {
    fn drop(&mut self) {
        self.0.in_progress.sub(1);
    }
}

enum Ended {
    Plain(Box<[u8]>),
    Failed(HandshakeFailure),
}

/// Makes the handshake of a connection that was just accepted.
pub async fn begin(connection: &mut Connection, tls: &Arc<TlsListener>) -> Begun {
    let worker = std::rc::Rc::clone(&connection.worker);
    let shard = &worker.shard.tls;
    if shard.in_progress.value() >= u64::from(tls.settings.max_handshakes) {
        shard.refused.add(1);
        connection.stream.abort();
        return Begun::Over;
    }
    shard.in_progress.add(1);
    let _counted = InProgress(shard);
    let limit_ms = u64::try_from(tls.settings.handshake_deadline.as_millis()).unwrap_or(u64::MAX);
    let over_ms = worker.now_ms().saturating_add(limit_ms);
    let ended = match hello(connection, over_ms).await {
        Ok(accepted) => finish(connection, tls, accepted, over_ms).await,
        Err(ended) => Err(ended),
    };
    match ended {
        Ok(()) => {
            count(&worker, &connection.stream);
            Begun::Secure
        }
        Err(Ended::Plain(bytes)) => {
            shard.failed(HandshakeFailure::NotTls).add(1);
            Begun::Plain(bytes)
        }
        Err(Ended::Failed(failure)) => {
            shard.failed(failure).add(1);
            tracing::debug!(listener = %connection.listener.name, failure = failure.code(), "handshake failed");
            Begun::Over
        }
    }
}

/// Waits for the ClientHello and parses it.
async fn hello(connection: &mut Connection, over_ms: u64) -> Result<Accepted, Ended> {
    let mut acceptor: Option<Acceptor> = None;
    let settle_ms = connection.worker.now_ms().saturating_add(SETTLE_MS);
    bounded(connection, over_ms, settle_ms, |cx, stream| {
        loop {
            let mut space = [0; HELLO_READ];
            let mut read = ReadBuf::new(&mut space);
            match ready!(Pin::new(&mut *stream).poll_read(cx, &mut read)) {
                Ok(()) if !read.filled().is_empty() => {}
                _ => return Poll::Ready(Err(Ended::Failed(HandshakeFailure::Closed))),
            }
            let mut bytes = read.filled();
            if acceptor.is_none() && bytes.first() != Some(&HANDSHAKE_RECORD) {
                return Poll::Ready(Err(not_tls(bytes)));
            }
            let accepting = acceptor.get_or_insert_with(Acceptor::default);
            if accepting.read_tls(&mut bytes).is_err() {
                return Poll::Ready(Err(Ended::Failed(HandshakeFailure::Invalid)));
            }
            match accepting.accept() {
                Ok(Some(accepted)) => return Poll::Ready(Ok(accepted)),
                Ok(None) => {}
                Err((error, mut alert)) => {
                    let mut bytes = Vec::new();
                    let _no_error_to_memory = alert.write_all(&mut bytes);
                    send(stream, &bytes);
                    return Poll::Ready(Err(Ended::Failed(failure_of(&TlsError::Protocol(error)))));
                }
            }
        }
    })
    .await
}

/// A client that speaks plain HTTP gets an answer it understands; anything else gets none.
fn not_tls(bytes: &[u8]) -> Ended {
    match bytes.first() {
        Some(b'A'..=b'Z') => Ended::Plain(bytes.into()),
        _ => Ended::Failed(HandshakeFailure::NotTls),
    }
}

/// Judges the name and makes the rest of the handshake.
async fn finish(
    connection: &mut Connection,
    tls: &Arc<TlsListener>,
    accepted: Accepted,
    over_ms: u64,
) -> Result<(), Ended> {
    let judged = tls.judge(accepted.client_hello().server_name());
    if judged == Known::Refused {
        send(&mut connection.stream, UNRECOGNIZED_NAME);
        return Err(Ended::Failed(HandshakeFailure::UnknownName));
    }
    let handshake = match accepted.into_connection(Arc::clone(&tls.config)) {
        Ok(handshake) => handshake,
        Err((error, mut alert)) => {
            let mut bytes = Vec::new();
            let _no_error_to_memory = alert.write_all(&mut bytes);
            send(&mut connection.stream, &bytes);
            return Err(Ended::Failed(failure_of(&TlsError::Protocol(error))));
        }
    };
    let socket = std::mem::replace(&mut connection.stream, Stream::Taken);
    connection.stream = Stream::Tls(Box::new(TlsStream::new(socket, handshake)));
    bounded(connection, over_ms, u64::MAX, |cx, stream| {
        let Stream::Tls(stream) = stream else { return Poll::Ready(Ok(())) };
        stream.poll_handshake(cx).map_err(|error| Ended::Failed(failure_of(&error)))
    })
    .await?;
    let name = connection.listener.name.clone();
    if let Stream::Tls(stream) = &mut connection.stream {
        let tls = stream.connection();
        let shown = tls.peer_certificates().and_then(|chain| chain.first());
        let client = shown.and_then(Identity::of);
        if shown.is_some() && client.is_none() {
            return Err(Ended::Failed(HandshakeFailure::ClientCertificate));
        }
        let session = Session {
            listener: name,
            name: stream.named().map(Into::into),
            is_13: tls.protocol_version() == Some(ProtocolVersion::TLSv1_3),
            cipher: tls.negotiated_cipher_suite().map_or(0, |suite| u16::from(suite.suite())),
            alpn: tls.alpn_protocol().map(Into::into),
            client,
        };
        stream.agree(session);
    }
    Ok(())
}

/// Polls a step of the handshake until it is done, out of time, or the process ends. `settle_ms` is until when a drain
/// waits for it.
async fn bounded<T>(
    connection: &mut Connection,
    over_ms: u64,
    settle_ms: u64,
    mut step: impl FnMut(&mut Context<'_>, &mut Stream) -> Poll<Result<T, Ended>>,
) -> Result<T, Ended> {
    poll_fn(|cx| {
        if let Poll::Ready(done) = step(cx, &mut connection.stream) {
            return Poll::Ready(done);
        }
        let (worker, now_ms) = (&connection.worker, connection.worker.now_ms());
        if worker.is_forced() || (worker.is_draining() && now_ms >= settle_ms) {
            return Poll::Ready(Err(Ended::Failed(HandshakeFailure::Drained)));
        }
        if now_ms >= over_ms {
            return Poll::Ready(Err(Ended::Failed(HandshakeFailure::Timeout)));
        }
        let wake_ms = if worker.is_draining() { over_ms.min(settle_ms) } else { over_ms };
        connection.deadline.set(wake_ms, cx.waker());
        Poll::Pending
    })
    .await
}

/// Tells a client that nobody is known by the name it asks for.
pub fn refuse_name(stream: &mut Stream) {
    send(stream, UNRECOGNIZED_NAME);
}

/// Sends an alert if it goes at once; a client that does not read gets none.
fn send(stream: &mut Stream, bytes: &[u8]) {
    let mut cx = Context::from_waker(Waker::noop());
    let _best_effort: Poll<io::Result<usize>> = Pin::new(stream).poll_write(&mut cx, bytes);
}

fn count(worker: &Worker, stream: &Stream) {
    let Stream::Tls(stream) = stream else { return };
    let (shard, tls): (_, &CommonState) = (&worker.shard.tls, stream.connection());
    let resumed = tls.handshake_kind() == Some(HandshakeKind::Resumed);
    let is_13 = tls.protocol_version() == Some(ProtocolVersion::TLSv1_3);
    let counter = match (resumed, is_13) {
        (false, false) => &shard.full_12,
        (false, true) => &shard.full_13,
        (true, false) => &shard.resumed_12,
        (true, true) => &shard.resumed_13,
    };
    counter.add(1);
}

fn failure_of(error: &TlsError) -> HandshakeFailure {
    match error {
        TlsError::Io(_) => HandshakeFailure::Closed,
        TlsError::Protocol(Error::PeerIncompatible(_) | Error::NoApplicationProtocol) => {
            HandshakeFailure::Incompatible
        }
        TlsError::Protocol(Error::AlertReceived(_)) => HandshakeFailure::PeerAlert,
        TlsError::Protocol(Error::NoCertificatesPresented | Error::InvalidCertificate(_)) => {
            HandshakeFailure::ClientCertificate
        }
        TlsError::Protocol(_) => HandshakeFailure::Invalid,
    }
}
