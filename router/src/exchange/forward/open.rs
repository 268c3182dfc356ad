//! Opens a connection to an endpoint and finds what is spoken on it, within the time that there is. Does not choose the endpoint and
//! does not try another.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ekiden_config::model::Protocol;
use ekiden_core::cluster::{ClusterTable, EndpointEntry};
use ekiden_core::outcome::Cause;
use ekiden_core::resilience::breaker::Connected;
use ekiden_core::stats::ClusterShard;

use crate::http2::endpoint::{Share, Wanted, connection};
use crate::stream::Stream;
use crate::tls::stream::TlsError;
use crate::tls::upstream::connect::speaks_http2;
use crate::tls::upstream::{self, OpenError, Secure};
use crate::worker::Worker;

/// How long a connection with many streams may go without word that what it sent has arrived: a path that drops everything
/// is known by nothing else, and each request would meet it.
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// What comes of opening a connection: it, and its place in the breaker where it has one of its own.
pub(super) type Opened = Result<(Stream, Option<Connected>), Cause>;

/// How long one endpoint may take.
pub(super) struct Patience {
    /// For a connection.
    pub(super) one: Duration,
    /// For all that is tried, from the beginning.
    pub(super) all: Duration,
    /// One of them had less than its time, and so proves nothing by it.
    pub(super) was_short: Cell<bool>,
}

impl Patience {
    pub(super) fn new(one: Duration, all: Duration) -> Self {
        Self { one, all, was_short: Cell::new(false) }
    }

    /// The time of a connection that is begun so much later: as long as one that is begun at once, while there is time.
    pub(super) fn after(&self, waited: Duration) -> Duration {
        let left = self.all.saturating_sub(waited);
        self.was_short.set(left < self.one);
        left.min(self.one)
    }
}

/// What a connection is opened with.
#[derive(Default)]
pub(super) struct With<'a> {
    /// What it begins with.
    pub(super) header: Option<&'a [u8]>,
    /// Its place in the breaker.
    pub(super) connected: Option<Connected>,
    /// Nothing but HTTP/1 is offered.
    pub(super) http1_only: bool,
}

impl With<'_> {
    /// One that begins with nothing.
    pub(super) fn of(connected: Option<Connected>) -> Self {
        Self { connected, ..Self::default() }
    }
}

/// Connects, sends what the connection is to begin with, and finds what is spoken on it. Where the connection is one that many
/// `share`, one that is being opened will do.
pub(super) async fn connect(
    worker: &Worker,
    cluster: &ClusterTable,
    endpoint: &EndpointEntry,
    patience: &Patience,
    with: With<'_>,
    shares: bool,
) -> Opened {
    if !shares {
        return open(worker, cluster, endpoint, patience.one, with).await;
    }
    let began_ms = worker.now_ms();
    let secure = cluster.cluster.policy.tls.is_some();
    let share = worker.http2_pool.share(endpoint.cell.uid(), || worker.turn_ms(), secure);
    match tokio::time::timeout(patience.one, share).await {
        Err(_) => Err(Cause::ConnectTimeout),
        Ok(Share::Failed(cause)) => Err(cause),
        Ok(Share::Alone) => {
            let waited = Duration::from_millis(worker.now_ms().saturating_sub(began_ms));
            open(worker, cluster, endpoint, patience.after(waited), with).await
        }
        Ok(Share::Stream(stream)) => {
            cluster.cell.shard(worker.id).http2_streams.add(1);
            Ok((Stream::Http2(Box::new(stream)), None))
        }
        Ok(Share::Open(opener)) => {
            let waited = Duration::from_millis(worker.now_ms().saturating_sub(began_ms));
            let opened = open(worker, cluster, endpoint, patience.after(waited), with).await;
            match &opened {
                Err(cause) => opener.fail(*cause),
                Ok((Stream::Http2(_), _)) => drop(opener),
                Ok(_) => opener.found_http1(),
            }
            opened
        }
    }
}

/// Opens a connection within a time.
pub(super) async fn open(
    worker: &Worker,
    cluster: &ClusterTable,
    endpoint: &EndpointEntry,
    limit: Duration,
    with: With<'_>,
) -> Opened {
    let address = &endpoint.endpoint.address;
    if worker.shared.is_own(address) {
        return Err(Cause::SelfAddress);
    }
    let secure = match cluster.cluster.policy.tls {
        None => None,
        Some(_) => {
            let place = (cluster.app.clone(), cluster.cluster.name.clone());
            let found =
                worker.shared.trusts.of(&place, address, endpoint.endpoint.dns_name().map(|name| &**name));
            Some(found.ok_or(Cause::TlsUnavailable)?)
        }
    };
    let speaking = speak(worker, cluster, endpoint, secure.as_ref(), with);
    let opened = tokio::time::timeout(limit, speaking).await;
    let Some(secure) = secure else {
        return match opened {
            Ok(Ok(opened)) => Ok(opened),
            Ok(Err(error)) => Err(open_cause(&error)),
            Err(_) => Err(Cause::ConnectTimeout),
        };
    };
    let shard = cluster.cell.shard(worker.id);
    match opened {
        Ok(Ok(opened)) => Ok(opened),
        Ok(Err(error)) => {
            let cause = open_cause(&error);
            if let OpenError::Tls(error) = &error {
                count_tls_failure(shard, cause);
                if secure.trust.may_tell(worker.now_ms()) {
                    let (app, cluster) = (&cluster.app, &cluster.cluster.name);
                    let (endpoint, why) = (&endpoint.endpoint.id, upstream::connect::words(error));
                    tracing::warn!(%app, %cluster, %endpoint, code = cause.code(), "no TLS with endpoint: {why}");
                }
            }
            Err(cause)
        }
        Err(_) => Err(Cause::ConnectTimeout),
    }
}

/// Opens a connection and finds what is spoken on it.
async fn speak(
    worker: &Worker,
    cluster: &ClusterTable,
    endpoint: &EndpointEntry,
    secure: Option<&Secure>,
    with: With<'_>,
) -> Result<(Stream, Option<Connected>), OpenError> {
    let stream = upstream::open(&endpoint.endpoint.address, secure, with.header, with.http1_only).await?;
    let connected = with.connected;
    let policy = &cluster.cluster.policy;
    if let Some(resumed) = upstream::connect::resumed(&stream) {
        let shard = cluster.cell.shard(worker.id);
        if resumed { &shard.tls_resumed } else { &shard.tls_full }.add(1);
    }
    let is_http2 = !with.http1_only && speaks_http2(policy.protocol, &stream);
    if policy.protocol == Protocol::Auto && !with.http1_only {
        endpoint.cell.note_choice(!is_http2);
    }
    if !is_http2 {
        return Ok((stream, connected));
    }
    stream.bound_silence(SILENCE_MAX);
    // Boxed: who opens a connection of HTTP/1 would have room for its codec, and hundreds may at once.
    let begun = Box::pin(connection::begin(stream)).await.map_err(OpenError::Http2)?;
    let wanted = Wanted {
        cell: &endpoint.cell,
        stats: &cluster.cell,
        trust: secure.map(|secure| Arc::clone(&secure.trust)),
        limit_ms: u64::try_from(policy.pool_idle_timeout.as_millis()).unwrap_or(u64::MAX),
        now_ms: worker.now_ms(),
        random: worker.random(),
    };
    cluster.cell.shard(worker.id).http2_streams.add(1);
    // Many requests use it: it is in use while it is open.
    Ok((Stream::Http2(Box::new(worker.http2_pool.keep(begun, &wanted, connected))), None))
}

/// Counts a failed handshake; the places are those of `ClusterShard::tls_failures`.
fn count_tls_failure(shard: &ClusterShard, cause: Cause) {
    let place = match cause {
        Cause::TlsCertificateInvalid => 0,
        Cause::TlsAlert => 1,
        _ => 2,
    };
    if let Some(counter) = shard.tls_failures.get(place) {
        counter.add(1);
    }
}

fn open_cause(error: &OpenError) -> Cause {
    match error {
        OpenError::Connect(error) => connect_cause(error),
        OpenError::Http2(_) => Cause::Http2Failed,
        OpenError::Tls(TlsError::Io(_)) => Cause::TlsFailed,
        OpenError::Tls(TlsError::Protocol(error)) => upstream::connect::cause_of(error),
    }
}

fn connect_cause(error: &io::Error) -> Cause {
    if let Some(libc::EMFILE | libc::ENFILE | libc::EADDRNOTAVAIL | libc::ENOBUFS) = error.raw_os_error() {
        return Cause::SocketsExhausted;
    }
    match error.kind() {
        // A unix socket nobody listens on, or whose file is not there yet, is a refusal.
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Cause::ConnectRefused,
        io::ErrorKind::TimedOut => Cause::ConnectTimeout,
        _ => Cause::ConnectFailed,
    }
}
