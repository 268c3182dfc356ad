//! A leg: one upstream connection with its buffers, as seen by the driver of an exchange.
//!
//! Knows how to send what is queued and how to read a response head; the driver decides what to send and what to
//! do with frames. Several legs can be polled in one task; see the two-leg driver in the tests. Does not pick, connect,
//! pool or retry.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use ekiden_config::model::ClusterPolicy;
use ekiden_core::cell::EndpointCell;
use ekiden_core::outcome::Cause;
use ekiden_core::overload::caps::InUse;
use ekiden_core::resilience::breaker::Connected;
use ekiden_core::stats::ClusterCell;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

use crate::buffer::{Buffer, Buffers, SMALL, TINY};
use crate::exchange::out::Out;
use crate::http2::endpoint;
use crate::http2::endpoint::stream::Lost;
use crate::stream::Stream;
use crate::tls::upstream;
use crate::wire::response::{RESPONSE_BOUNDS, ResponseHead};
use crate::wire::scan::{Found, Scan};

/// Where a leg leads: set when it is attached.
#[derive(Debug)]
pub struct Home {
    /// The incarnation; its in-flight count is held while the leg is attached.
    pub cell: Arc<EndpointCell>,
    /// Counts of its cluster.
    pub stats: Arc<ClusterCell>,
    /// Idle connections kept for the incarnation.
    pub pool_most: u32,
    /// Idle limit, milliseconds.
    pub pool_limit_ms: u64,
    /// The cluster's endpoints are routers: keep their error fields.
    pub peer_router: bool,
    /// Its load is told to clients.
    pub report_load: bool,
    /// Requests that were there when this one came, where that is kept.
    pub others: u32,
    /// The worker that counts.
    pub worker: usize,
    /// The connection's place in its app's account, where the app has caps.
    pub in_use: Option<InUse>,
    /// Its place in the breaker of the cluster, where that bounds connections.
    pub connected: Option<Connected>,
}

impl Home {
    /// Counts the request in at the endpoint; it is counted out when the home is dropped. `None` when every slot of the
    /// endpoint is taken. A table without slots bounds nothing, although a newer one may have set them already: its requests
    /// have no line to stand in.
    pub fn enter(
        cell: &Arc<EndpointCell>,
        stats: &Arc<ClusterCell>,
        policy: &ClusterPolicy,
        worker: usize,
    ) -> Option<Self> {
        let bounded = policy.slots.is_some()
            || policy.breaker.is_some_and(|breaker| breaker.endpoint_requests.is_some());
        if !bounded {
            cell.enter();
        } else if !cell.try_enter() {
            return None;
        }
        Some(Self::given(Arc::clone(cell), stats, policy, worker))
    }

    /// For a request that has been counted in.
    pub fn given(
        cell: Arc<EndpointCell>,
        stats: &Arc<ClusterCell>,
        policy: &ClusterPolicy,
        worker: usize,
    ) -> Self {
        Self {
            others: if policy.report_load { cell.in_flight().saturating_sub(1) } else { 0 },
            report_load: policy.report_load,
            cell,
            stats: Arc::clone(stats),
            // A connection that told of one client serves no other.
            pool_most: if policy.send_proxy.is_some() { 0 } else { policy.pool_idle },
            pool_limit_ms: u64::try_from(policy.pool_idle_timeout.as_millis()).unwrap_or(u64::MAX),
            peer_router: policy.peer_router,
            worker,
            in_use: None,
            connected: None,
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if self.cell.is_slotted() {
            return self.stats.gate.release(&self.cell);
        }
        self.cell.leave();
    }
}

/// One upstream connection of an exchange.
#[derive(Debug, Default)]
pub struct Leg {
    stream: Option<Stream>,
    home: Option<Home>,
    /// Bytes received and not yet taken.
    pub input: Buffer,
    /// The last read left no space in it.
    filled: bool,
    /// Bytes to send.
    pub output: Out,
    scan: Scan,
    /// The connection came from the pool.
    pub reused: bool,
    /// A byte of the response has arrived.
    pub answered: bool,
    /// The endpoint closed its side.
    pub closed: bool,
    /// The endpoint has not looked at the request: any may be sent again.
    pub unprocessed: bool,
    /// The code with which the endpoint reset the stream.
    pub reset_code: Option<u32>,
    /// Bytes written on this connection.
    pub bytes_up: u64,
    /// Bytes read on this connection.
    pub bytes_down: u64,
}

impl Leg {
    /// Takes a connection on. Counts the request in at the endpoint until the leg is detached or dropped.
    pub fn attach(&mut self, stream: Stream, home: Home, reused: bool) {
        self.stream = Some(stream);
        self.home = Some(home);
        self.scan = Scan::default();
        self.reused = reused;
        self.answered = false;
        self.filled = false;
        self.closed = false;
        self.unprocessed = false;
        self.reset_code = None;
        self.bytes_up = 0;
        self.bytes_down = 0;
    }

    /// Gives the connection and its home back.
    pub fn detach(&mut self) -> Option<(Stream, Home)> {
        self.forget_counts();
        Some((self.stream.take()?, self.home.take()?))
    }

    /// Closes the connection, keeps the buffers.
    pub fn cut(&mut self) {
        // Connections that are shared are counted by their pool.
        if let Some(stream) = self.stream.take()
            && !matches!(stream, Stream::Http2(_))
            && let Some(home) = &self.home
        {
            home.stats.shard(home.worker).connections.sub(1);
        }
        self.home = None;
        self.forget_counts();
    }

    /// A connection's bytes are counted once: a next exchange that never attaches one has none.
    fn forget_counts(&mut self) {
        self.bytes_up = 0;
        self.bytes_down = 0;
    }

    /// Whether a stream of HTTP/2 is attached.
    pub fn is_http2(&self) -> bool {
        matches!(self.stream, Some(Stream::Http2(_)))
    }

    /// The endpoint did not answer: a connection that is shared begins no other stream.
    pub fn retire_connection(&self) {
        if let Some(Stream::Http2(stream)) = &self.stream {
            stream.retire_connection();
        }
    }

    /// The endpoint's socket, where it is one of plain TCP.
    pub fn plain_socket(&self) -> Option<&TcpStream> {
        self.stream.as_ref()?.plain_socket()
    }

    /// Whether a connection is attached.
    pub fn is_attached(&self) -> bool {
        self.stream.is_some()
    }

    /// Where the leg leads.
    pub fn home(&self) -> Option<&Home> {
        self.home.as_ref()
    }

    /// Whether nothing has been written and the endpoint was removed: the request must not begin there.
    pub fn is_barred(&self) -> bool {
        self.bytes_up == 0 && self.home.as_ref().is_some_and(|home| home.cell.is_gone())
    }

    /// Sends what is queued, then is ready.
    pub fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(stream) = self.stream.as_mut() else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        while self.output.pending() > 0 {
            let written = ready!(self.output.poll_write(cx, stream, &[]))?;
            self.bytes_up += written.total as u64;
        }
        if stream.held() > 0 { Pin::new(stream).poll_flush(cx) } else { Poll::Ready(Ok(())) }
    }

    /// Bytes that were taken for sending and are not in the socket yet: TLS holds some.
    #[inline]
    pub fn held(&self) -> usize {
        self.stream.as_ref().map_or(0, Stream::held)
    }

    /// Writes what is queued, followed by `direct`; ready with how much of `direct` went out, once anything did.
    pub fn poll_pass(&mut self, cx: &mut Context<'_>, direct: &[u8]) -> Poll<io::Result<usize>> {
        let Some(stream) = self.stream.as_mut() else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        let written = ready!(self.output.poll_write(cx, stream, direct))?;
        self.bytes_up += written.total as u64;
        if self.output.pending() == 0 {
            self.output.clear();
        }
        Poll::Ready(Ok(written.direct))
    }

    /// Says that nothing more comes, while the endpoint may still send.
    pub fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.stream.as_mut() {
            Some(stream) => Pin::new(stream).poll_shutdown(cx),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    /// Makes the close to come a reset: the endpoint cannot take what it got for complete.
    pub fn abort(&self) {
        if let Some(stream) = &self.stream {
            stream.abort();
        }
    }

    /// One read; zero bytes mean the endpoint closed. Grows the buffer when the last read filled it.
    pub fn poll_receive(&mut self, cx: &mut Context<'_>, buffers: &Buffers) -> Poll<io::Result<usize>> {
        let Some(stream) = self.stream.as_mut() else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        if self.filled {
            buffers.enlarge(&mut self.input);
        }
        if !buffers.make_room(&mut self.input) {
            return Poll::Ready(Err(io::ErrorKind::OutOfMemory.into()));
        }
        let read = ready!(self.input.poll_read(cx, stream));
        let read = self.note_received(read);
        self.filled = self.input.is_full();
        Poll::Ready(read)
    }

    /// The same for at most `most` bytes, in no larger storage than they may need: the rest stays in the endpoint's socket. The
    /// next `inside` bytes are of a body for sure (see [`short_of_brim`]).
    pub fn poll_receive_some(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &Buffers,
        (most, inside): (usize, u64),
    ) -> Poll<io::Result<usize>> {
        let Some(stream) = self.stream.as_mut() else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        // A large one only where the last read had all it asked for.
        buffers.prepare(&mut self.input, if self.filled { most } else { most.min(SMALL) });
        if !buffers.make_room(&mut self.input) {
            return Poll::Ready(Err(io::ErrorKind::OutOfMemory.into()));
        }
        let asked = short_of_brim(most.min(self.input.capacity() - self.input.len()), inside);
        let read = ready!(self.input.poll_read_some(cx, stream, asked));
        self.filled = read.as_ref().is_ok_and(|count| *count >= asked);
        Poll::Ready(self.note_received(read))
    }

    #[inline]
    fn note_received(&mut self, read: io::Result<usize>) -> io::Result<usize> {
        match &read {
            Ok(count) => {
                self.answered |= *count > 0;
                self.closed |= *count == 0;
                self.bytes_down += *count as u64;
            }
            Err(error) => {
                self.unprocessed = endpoint::stream::lost(error) == Some(Lost::Unprocessed);
                self.reset_code = endpoint::stream::reset_code(error);
            }
        }
        read
    }

    /// Parses the next head if it is complete in the input: true when `head` was filled and its bytes taken.
    pub fn take_head(&mut self, head: &mut ResponseHead, to_head: bool) -> Result<bool, Cause> {
        let found = self.scan.look(self.input.bytes(), &RESPONSE_BOUNDS).map_err(response_fault)?;
        let Found::Head(length) = found else { return Ok(false) };
        let bytes = self.input.bytes().get(..length).unwrap_or(&[]);
        head.parse_of(bytes, to_head, matches!(self.stream, Some(Stream::Http2(_))))?;
        self.input.consume(length);
        self.scan = Scan::default();
        Ok(true)
    }

    /// The next response head, informational or final: sends, receives, parses.
    pub fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &Buffers,
        head: &mut ResponseHead,
        to_head: bool,
    ) -> Poll<Result<(), Cause>> {
        loop {
            if self.take_head(head, to_head)? {
                return Poll::Ready(Ok(()));
            }
            match ready!(self.poll_receive(cx, buffers)) {
                Ok(0) => return Poll::Ready(Err(self.loss(None))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Err(self.loss(Some(&error)))),
            }
        }
    }

    /// What the loss of the connection before the end of a head means.
    pub fn loss(&self, error: Option<&io::Error>) -> Cause {
        // Over TLS an endpoint may refuse the router's certificate when the handshake is over for the router.
        if let Some(error) = error.and_then(upstream::connect::inside) {
            return upstream::connect::cause_of(error);
        }
        match error.and_then(endpoint::stream::lost) {
            Some(Lost::Unprocessed | Lost::Reset) => return Cause::UpstreamReset,
            Some(Lost::Broken) => return Cause::ResponseMalformed,
            None => {}
        }
        match error.map(io::Error::kind) {
            // HTTP/2 has no room for this target.
            Some(io::ErrorKind::InvalidInput) => return Cause::TargetMalformed,
            Some(io::ErrorKind::InvalidData) => return Cause::ResponseMalformed,
            _ => {}
        }
        // A close that TLS was not told of is no less a close.
        let error = error.filter(|error| error.kind() != io::ErrorKind::UnexpectedEof);
        match (self.answered, error) {
            (false, None) => Cause::ClosedWithoutResponse,
            (false, Some(_)) | (true, Some(_)) => Cause::UpstreamReset,
            (true, None) => Cause::UpstreamTruncated,
        }
    }
}

/// How much of `space` bytes to read when the next `inside` bytes are of a body for sure, and may be its last: not all of them in a
/// read that is filled to the brim. That leaves the socket readable for all that is known, and the pool takes it for dead.
pub(super) fn short_of_brim(space: usize, inside: u64) -> usize {
    if space as u64 == inside && space > TINY { space - TINY } else { space }
}

/// Bounds and line endings of a response are the endpoint's fault, not the client's.
fn response_fault(cause: Cause) -> Cause {
    match cause {
        Cause::RequestLineTooLong | Cause::FieldTooLarge | Cause::HeadTooLarge | Cause::TooManyFields => {
            Cause::ResponseTooLarge
        }
        _ => Cause::ResponseMalformed,
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;
    use std::sync::mpsc::channel;
    use std::task::Waker;

    use rcgen::{CertificateParams, KeyPair};
    use rustls::pki_types::PrivateKeyDer;
    use rustls::{
        ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    };

    use super::*;
    use crate::tls::TlsStream;

    const PIECE: usize = 48 << 10;

    /// Both ends of a session; which of them begins does not matter to what is tested.
    fn session() -> (ServerConnection, ClientConnection) {
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(vec!["a.test".to_owned()]).unwrap().self_signed(&key).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).unwrap();
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
            .unwrap();
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = "a.test".try_into().unwrap();
        (
            ServerConnection::new(Arc::new(server)).unwrap(),
            ClientConnection::new(Arc::new(client), name).unwrap(),
        )
    }

    /// A request that ends while the socket is full must not count as sent: nothing would send its end.
    #[tokio::test]
    async fn a_send_is_over_when_nothing_is_held() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let (server, client) = session();
        let (go, wait) = channel::<usize>();
        let peer = std::thread::spawn(move || {
            let mut peer = StreamOwned::new(client, theirs);
            peer.conn.complete_io(&mut peer.sock).unwrap();
            let mut body = vec![0; wait.recv().unwrap()];
            peer.read_exact(&mut body).is_ok()
        });
        let ours = tokio::net::UnixStream::from_std(ours).unwrap();
        let mut tls = TlsStream::new(Stream::Unix(ours), server);
        assert!(poll_fn(|cx| tls.poll_handshake(cx)).await.is_ok());
        let mut leg = Leg { stream: Some(Stream::Tls(Box::new(tls))), ..Leg::default() };
        let mut total = 0;
        loop {
            leg.output.clear();
            leg.output.buffer().extend_from_slice(&[7; PIECE]);
            total += PIECE;
            match leg.poll_send(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(sent) => assert_eq!((sent.is_ok(), leg.held()), (true, 0), "after {total} bytes"),
                Poll::Pending => break,
            }
        }
        go.send(total).unwrap();
        assert!(poll_fn(|cx| leg.poll_send(cx)).await.is_ok());
        assert!(peer.join().unwrap(), "the peer waits for the end of what was sent");
    }
}
