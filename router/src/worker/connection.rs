//! A client connection: idle, one exchange after the other, then closed.
//!
//! Idle it holds its socket and its slot in the wheel, nothing else; a workspace is taken when bytes have been reported.
//! Does not know what an exchange does.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use ekiden_config::model::ListenerProtocol;
use ekiden_core::outcome::Cause;
use ekiden_core::table::ListenerTable;
use tokio::io::AsyncWrite;

use crate::buffer::Buffer;
use crate::exchange::downstream::Downstream;
use crate::exchange::request_out::choose_request_id;
use crate::exchange::{After, Workspace, raw, run, trace};
use crate::http2;
use crate::http2::preface::{self, Told};
use crate::stream::Stream;
use crate::tls::handshake::{self, Begun};
use crate::tls::{HTTP2, TlsListener};
use crate::wheel::Deadline;
use crate::wire::proxy::Origin;
use crate::worker::proxied::{self, NoHeader};
use crate::worker::{ListenerRef, OpenConnection, Worker, connection_limits};

/// How long and how much of a client's unread bytes are swallowed after the last response, so that it can read that
/// response before a reset (RFC 9112 section 9.6).
const LINGER_MS: u64 = 2_000;
const LINGER_BYTES: usize = 1 << 20;
/// How long a connection that is about to close waits for a request that is already on its way.
const SETTLE_MS: u64 = 1_000;

/// The client's side as an exchange sees it: a connection, or a stream of one.
pub struct Connection<D = Stream> {
    /// Its worker.
    pub worker: Rc<Worker>,
    /// The listener that accepted it.
    pub listener: Rc<ListenerRef>,
    /// What carries the request and its response.
    pub stream: D,
    /// The client's address.
    pub peer: Option<SocketAddr>,
    /// Its slot in the wheel.
    pub deadline: Deadline,
}

/// A client connection from its first byte to its last.
pub struct Kept {
    connection: Connection,
    keepalive_ms: u64,
    /// When the wait for a request ends; set when it begins, and 0 before. What wakes it without being one (a piece of a TLS
    /// record) does not prolong it.
    over_ms: u64,
    served: bool,
    /// None once it is known to be plain HTTP/1.
    beginning: Option<Box<Beginning>>,
    open: OpenConnection,
}

/// What a connection may begin with that is not a request of HTTP/1: a handshake, or HTTP/2.
struct Beginning {
    /// A header of the PROXY protocol comes first.
    proxied: bool,
    /// HTTP/2 may come in clear text.
    h2c: bool,
    /// What comes is no HTTP.
    raw: bool,
    /// TLS of the listener, until the handshake takes it.
    tls: Option<Arc<TlsListener>>,
    /// What has been read already.
    first: Option<Buffer>,
}

impl Beginning {
    /// Whether something comes before the first request.
    fn comes_first(&self) -> bool {
        self.proxied || self.raw || self.tls.is_some()
    }

    /// That of a connection of which these bytes have been read, and which is plain HTTP/1.
    fn after(first: Buffer) -> Self {
        Self { proxied: false, h2c: false, raw: false, tls: None, first: Some(first) }
    }
}

/// A workspace in use. Dropped with an exchange open (the task panicked or was ended), it leaves the record.
pub struct Busy {
    worker: Rc<Worker>,
    ws: Option<Box<Workspace>>,
}

impl Busy {
    /// Takes a workspace for requests of this client.
    pub fn new<D: Downstream>(connection: &Connection<D>) -> Self {
        let mut ws = connection.worker.take_workspace();
        ws.listener = Some(Rc::clone(&connection.listener));
        ws.peer = connection.peer;
        ws.session = connection.stream.session().cloned();
        Self { worker: Rc::clone(&connection.worker), ws: Some(ws) }
    }

    /// The workspace; there is one until the drop.
    pub fn workspace(&mut self) -> Option<&mut Workspace> {
        self.ws.as_deref_mut()
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let Some(mut ws) = self.ws.take() else { return };
        if ws.trace.is_open() {
            let cause = if std::thread::panicking() {
                self.worker.shard.panics.add(1);
                Cause::Panicked
            } else {
                Cause::Dropped
            };
            trace::end(&self.worker, &mut ws, cause);
        }
        ws.leg.cut();
        ws.leg.output.clear();
        ws.client_out.clear();
        ws.mirror = None;
        ws.listener = None;
        ws.session = None;
        let buffers = &self.worker.buffers;
        buffers.discard(&mut ws.client_in);
        buffers.discard(&mut ws.leg.input);
        self.worker.give_workspace(ws);
    }
}

enum Idle {
    Readable,
    Over,
}

/// Serves a client connection to its end, then those that it is handed. Spawned by `accept`.
///
/// A block and not an `async fn`: what it captures is stored once, where the arguments of an `async fn` are stored
/// twice in every idle task.
pub fn serve(kept: Kept) -> impl Future<Output = ()> {
    let worker = Rc::clone(&kept.connection.worker);
    let mut kept = Some(kept);
    async move {
        let mut seat = None;
        while let Some(open) = &mut kept {
            open.serve().await;
            // Closed before the task waits, and not when there is another.
            drop(kept.take());
            kept = worker.seats.next(&mut seat).await;
        }
    }
}

impl<D> Connection<D> {
    /// The client's side of exchanges to come. Called for each connection and stream, and by tests that drive an
    /// exchange by hand.
    pub fn new(worker: Rc<Worker>, listener: Rc<ListenerRef>, stream: D, peer: Option<SocketAddr>) -> Self {
        let deadline = worker.wheel.slot();
        Self { worker, listener, stream, peer, deadline }
    }
}

impl Kept {
    /// A connection that has been accepted. Called by `accept`.
    pub fn new(
        worker: Rc<Worker>,
        listener: Rc<ListenerRef>,
        mut stream: Stream,
        peer: Option<SocketAddr>,
        open: OpenConnection,
    ) -> Self {
        worker.clock.read();
        let (mut keepalive_ms, mut h2c, mut secure) = (60_000, false, false);
        let (mut proxied, mut raw) = (false, false);
        worker.with_table(|table| {
            if let Some(settings) = listener.settings(table) {
                let listener = &settings.listener;
                keepalive_ms = u64::try_from(listener.limits.keepalive_idle.as_millis()).unwrap_or(60_000);
                (h2c, secure) = (listener.h2c, listener.tls.is_some());
                raw = listener.protocol != ListenerProtocol::Http;
                proxied = listener.accept_proxy.as_ref().is_some_and(|sources| sources.takes(peer));
            }
        });
        let tls = if secure { worker.shared.tls.listeners.load().get(&listener.name).cloned() } else { None };
        let beginning = (h2c || proxied || raw || tls.is_some())
            .then(|| Box::new(Beginning { proxied, h2c, raw, tls, first: None }));
        if beginning.is_some() {
            // What begins with a handshake has to wait. A socket that cannot be watched reads as closed.
            let _closed = stream.register();
        }
        let connection = Connection::new(worker, listener, stream, peer);
        Self { connection, keepalive_ms, over_ms: 0, served: false, beginning, open }
    }

    /// Serves it to its end.
    async fn serve(&mut self) {
        if self.beginning.as_ref().is_some_and(|beginning| beginning.comes_first()) {
            // Boxed: an idle task has no room for what only its beginning needs.
            match Box::pin(self.begin()).await {
                After::Keep | After::Idle => {}
                After::Close if self.connection.stream.say_goodbye() => return,
                After::Close | After::Linger => return Box::pin(self.linger()).await,
                After::Abort => return self.connection.stream.abort(),
            }
        }
        while let Idle::Readable = self.idle().await {
            self.connection.deadline.set_busy(true);
            let after = match &self.beginning {
                None => self.busy().await,
                Some(_) => Box::pin(self.tell_apart()).await,
            };
            self.connection.deadline.set_busy(false);
            if after != After::Idle {
                self.served = true;
                self.over_ms = 0;
            }
            if matches!(after, After::Idle | After::Keep) && self.connection.stream.register().is_err() {
                return;
            }
            match after {
                After::Idle | After::Keep => {}
                After::Close if self.connection.stream.say_goodbye() => return,
                After::Close | After::Linger => return Box::pin(self.linger()).await,
                After::Abort => return self.connection.stream.abort(),
            }
        }
        if !self.connection.stream.say_goodbye() {
            Box::pin(self.linger()).await;
        }
    }

    /// What comes before requests, or in their place: a header of the PROXY protocol, then a handshake, or no HTTP at all.
    async fn begin(&mut self) -> After {
        if self.beginning.as_ref().is_some_and(|beginning| beginning.proxied) {
            match self.begin_proxied().await {
                After::Keep => {}
                after => return after,
            }
        }
        if self.beginning.as_ref().is_some_and(|beginning| beginning.raw) {
            return self.serve_raw().await;
        }
        match self.beginning.as_mut().and_then(|beginning| beginning.tls.take()) {
            Some(tls) => self.begin_secure(tls).await,
            None => After::Keep,
        }
    }

    /// Reads the header of the PROXY protocol: the client that it names is the client from here on.
    async fn begin_proxied(&mut self) -> After {
        let settings = self.connection.worker.with_table(|table| self.connection.listener.settings(table));
        let Some(settings) = settings else { return After::Close };
        let wait = settings.listener.limits.head_deadline;
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        match proxied::read(&mut self.connection, wait_ms).await {
            Ok(Origin::Socket) => {}
            Ok(Origin::Client(client)) => {
                let Connection { worker, listener, .. } = &self.connection;
                let Some(permit) = connection_limits::enter_proxied(worker, listener, client.ip()) else {
                    return After::Abort;
                };
                self.open.hold(permit);
                self.connection.peer = Some(client);
            }
            Err(NoHeader::Silent) => return After::Close,
            Err(NoHeader::Refused(cause)) => return self.refuse_proxied(&settings, cause).await,
        }
        match &mut self.beginning {
            Some(beginning) if beginning.h2c || beginning.raw || beginning.tls.is_some() => {
                beginning.proxied = false;
            }
            beginning => *beginning = None,
        }
        After::Keep
    }

    /// Serves a connection that carries no HTTP, to its end.
    async fn serve_raw(&mut self) -> After {
        let settings = self.connection.worker.with_table(|table| self.connection.listener.settings(table));
        let Some(settings) = settings else { return After::Close };
        let mut busy = Busy::new(&self.connection);
        let Some(ws) = busy.workspace() else { return After::Close };
        self.connection.deadline.set_busy(true);
        raw::serve(&mut self.connection, ws, &settings).await
    }

    /// Leaves a record of a connection without a header, and says so where the peer understands it.
    async fn refuse_proxied(&mut self, settings: &ListenerTable, cause: Cause) -> After {
        let mut busy = Busy::new(&self.connection);
        let Some(ws) = busy.workspace() else { return After::Close };
        ws.begin();
        ws.trace.begin(self.connection.worker.clock.read());
        if settings.listener.tls.is_none() && settings.listener.protocol == ListenerProtocol::Http {
            return run::serve_head(&mut self.connection, ws, settings, Err(cause)).await;
        }
        choose_request_id(&self.connection.worker, ws);
        trace::end(&self.connection.worker, ws, cause);
        After::Abort
    }

    /// Makes the handshake, and serves what does not go on as HTTP/1: HTTP/2 by ALPN, plain HTTP on the TLS port.
    async fn begin_secure(&mut self, tls: Arc<TlsListener>) -> After {
        // What is negotiated decides, not what the bytes look like.
        self.beginning = None;
        match handshake::begin(&mut self.connection, &tls).await {
            Begun::Secure => {
                let session = self.connection.stream.session();
                if session.and_then(|session| session.alpn.as_deref()) == Some(HTTP2) {
                    return self.serve_http2(Buffer::default()).await;
                }
                After::Keep
            }
            Begun::Plain(bytes) => {
                let mut first = Buffer::default();
                self.connection.worker.buffers.attach(&mut first);
                first.put(&bytes);
                self.connection.deadline.set_busy(true);
                self.beginning = Some(Box::new(Beginning::after(first)));
                match self.busy().await {
                    After::Linger => After::Linger,
                    _ => After::Close,
                }
            }
            Begun::Over => After::Close,
        }
    }

    /// Waits for bytes with nothing held. Before it gives up, because of its age or of a drain, it looks into the kernel:
    /// a request that has arrived and not been reported yet is served, and a connection that was let in a moment ago
    /// may still send its first.
    async fn idle(&mut self) -> Idle {
        if self.connection.stream.is_fresh() {
            // Others first: a client needs a moment from its handshake to its request, and a read that comes too early costs
            // more than the registration that it would save.
            tokio::task::yield_now().await;
        }
        if self.over_ms == 0 {
            self.over_ms = self.connection.worker.turn_ms() + self.keepalive_ms;
        }
        let over_ms = self.over_ms;
        let mut settle_ms = None;
        let mut woken = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut woken, true) {
                self.connection.worker.clock.read();
            }
            if let Poll::Ready(result) = self.connection.stream.poll_readable(cx) {
                return Poll::Ready(if result.is_ok() { Idle::Readable } else { Idle::Over });
            }
            let now_ms = self.connection.worker.turn_ms();
            let draining = self.connection.worker.is_draining();
            if !draining && now_ms < over_ms {
                self.connection.deadline.set(over_ms, cx.waker());
                return Poll::Pending;
            }
            let settle_ms = *settle_ms.get_or_insert(now_ms + SETTLE_MS);
            let expected = (draining && !self.served) || self.connection.stream.peeked_dead();
            if !expected || self.connection.worker.is_forced() || now_ms >= settle_ms {
                self.connection.worker.shard.idle_closed.add(u64::from(!draining));
                return Poll::Ready(Idle::Over);
            }
            self.connection.deadline.set(settle_ms, cx.waker());
            Poll::Pending
        })
        .await
    }

    /// The first bytes of a connection that may speak HTTP/2 or HTTP/1: serves the one to its end, or the first requests of
    /// the other.
    async fn tell_apart(&mut self) -> After {
        let wait_ms = self.connection.worker.with_table(|table| {
            let settings = self.connection.listener.settings(table);
            settings.map_or(0, |s| u64::try_from(s.listener.limits.head_deadline.as_millis()).unwrap_or(0))
        });
        match preface::tell(&mut self.connection, wait_ms).await {
            Told::Silent => After::Close,
            Told::Http1(first) => {
                self.beginning = Some(Box::new(Beginning::after(first)));
                self.busy().await
            }
            Told::Http2(first) => self.serve_http2(first).await,
        }
    }

    /// Serves a connection that speaks HTTP/2 to its end. `first` is what has been read already.
    async fn serve_http2(&mut self, first: Buffer) -> After {
        let session = self.connection.stream.session().cloned();
        let Connection { worker, listener, stream, peer, deadline } = &mut self.connection;
        deadline.set_busy(false);
        let local = stream.local_address();
        let accepted =
            http2::connection::Accepted { worker, listener, peer: *peer, local, session, deadline };
        match http2::connection::serve(accepted, stream, first).await {
            true => After::Linger,
            false => After::Close,
        }
    }

    /// Runs exchanges until nothing of the client's is left over.
    async fn busy(&mut self) -> After {
        let mut busy = Busy::new(&self.connection);
        let Some(ws) = busy.workspace() else { return After::Close };
        if let Some(beginning) = self.beginning.take() {
            ws.client_in = beginning.first.unwrap_or_default();
        }
        loop {
            let after = run::exchange(&mut self.connection, ws).await;
            if after != After::Keep || ws.client_in.is_empty() {
                return after;
            }
        }
    }

    /// Ends our side, then swallows what the client still sends. Over TLS it is not decrypted: nobody reads it, and what is wrong with it
    /// could not be answered any more.
    async fn linger(&mut self) {
        let over_ms = self.connection.worker.now_ms() + LINGER_MS;
        let worker = Rc::clone(&self.connection.worker);
        let mut buffer = Buffer::default();
        let mut swallowed = 0;
        let (mut shut, mut reads) = (false, true);
        worker.buffers.attach(&mut buffer);
        poll_fn(|cx| {
            if !shut {
                shut = Pin::new(&mut self.connection.stream).poll_shutdown(cx).is_ready();
            }
            while reads && let Poll::Ready(read) = buffer.poll_read(cx, self.connection.stream.beneath()) {
                let Ok(count) = read else { return Poll::Ready(()) };
                buffer.consume(count);
                swallowed += count;
                // A client that has ended its side may still read what ours ends with.
                reads = count > 0 && swallowed <= LINGER_BYTES;
            }
            if shut && !reads {
                return Poll::Ready(());
            }
            if worker.is_forced() || worker.now_ms() >= over_ms {
                return Poll::Ready(());
            }
            self.connection.deadline.set(over_ms, cx.waker());
            Poll::Pending
        })
        .await;
        worker.buffers.discard(&mut buffer);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read};
    use std::net::Shutdown;
    use std::os::unix::net::UnixStream;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Arc;
    use std::sync::mpsc::{Sender, channel};
    use std::task::{Context, Waker};
    use std::thread::JoinHandle;

    use ekiden_config::names::ListenerName;
    use ekiden_core::stats::WorkerShard;
    use rcgen::{CertificateParams, KeyPair};
    use rustls::pki_types::PrivateKeyDer;
    use rustls::{
        ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    };

    use super::*;
    use crate::record::Recorder;
    use crate::shared::Shared;
    use crate::tls::TlsStream;

    fn future_size<A, F>(_: fn(A) -> F) -> usize {
        size_of::<F>()
    }

    /// Both ends of a session over a socket that takes little, ours without the handshake made.
    fn secure_pair() -> (TlsStream, StreamOwned<ClientConnection, UnixStream>) {
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(vec!["a.test".to_owned()]).unwrap().self_signed(&key).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let ours = Stream::Unix(tokio::net::UnixStream::from_std(ours).unwrap());
        let server = ServerConnection::new(Arc::new(server)).unwrap();
        let client = ClientConnection::new(Arc::new(client), "a.test".try_into().unwrap()).unwrap();
        (TlsStream::new(ours, server), StreamOwned::new(client, theirs))
    }

    /// A session whose socket has taken so many pieces at most, and is to take no more; how many it took; who reads them when told, and
    /// then says how the connection ended.
    async fn filled(
        most: usize,
        before: fn(&mut UnixStream),
    ) -> (TlsStream, usize, Sender<()>, JoinHandle<Option<io::Result<usize>>>) {
        const PIECE: usize = 16 << 10;
        let (mut tls, mut theirs) = secure_pair();
        let (go, wait) = channel();
        let peer = std::thread::spawn(move || {
            theirs.conn.complete_io(&mut theirs.sock).unwrap();
            wait.recv().ok()?;
            before(&mut theirs.sock);
            wait.recv().ok()?;
            // An end without the word that nothing more comes is an error here.
            Some(theirs.read_to_end(&mut Vec::new()))
        });
        assert!(poll_fn(|cx| tls.poll_handshake(cx)).await.is_ok());
        go.send(()).unwrap();
        let (mut cx, mut pieces) = (Context::from_waker(Waker::noop()), 0);
        while pieces < most && Pin::new(&mut tls).poll_flush(&mut cx).is_ready() {
            assert!(Pin::new(&mut tls).poll_write(&mut cx, &[7; PIECE]).is_ready());
            pieces += 1;
        }
        (tls, pieces, go, peer)
    }

    /// The last response has filled the socket, so that the word that nothing more comes does not fit behind it: the close waits for
    /// room, or the client could not tell the end from a cut.
    #[tokio::test]
    async fn a_close_over_tls_waits_until_it_can_be_told() {
        told_at_the_end_of(|_| {}).await;
    }

    /// Also a client that has ended its side reads the end of ours.
    #[tokio::test]
    async fn a_close_over_tls_is_told_to_one_who_is_not_read_any_more() {
        told_at_the_end_of(|theirs| theirs.shutdown(Shutdown::Write).unwrap()).await;
    }

    /// `before` is what the client does before it reads.
    async fn told_at_the_end_of(before: fn(&mut UnixStream)) {
        let (_, too_many, ..) = filled(usize::MAX, |_| {}).await;
        let (tls, _, go, peer) = filled(too_many - 1, before).await;
        assert_eq!(tls.held(), 0, "all of it is in the socket");
        let (shared, _retired) = Shared::new(1, std::path::PathBuf::new());
        let worker = Worker::new(0, shared, Arc::new(WorkerShard::new()), Recorder::off(), 100);
        let listener = ListenerRef::new(ListenerName::new("edge").unwrap());
        let open = worker.open_connection();
        let mut kept = Kept::new(worker, listener, Stream::Tls(Box::new(tls)), None, open);
        (kept.keepalive_ms, kept.served) = (0, true);
        let mut serving = Box::pin(kept.serve());
        let waits = poll_fn(|cx| Poll::Ready(serving.as_mut().poll(cx).is_pending())).await;
        assert!(waits, "the client has not been told");
        go.send(()).unwrap();
        serving.await;
        assert!(peer.join().unwrap().unwrap().is_ok());
    }

    /// Ten thousand idle connections must fit in 15 MB; the task is the largest part of one.
    #[test]
    fn an_idle_connection_is_small() {
        let size = future_size(serve);
        assert!(size <= 736, "the connection task holds {size} bytes");
    }

    /// What ends the task does not matter: the request is counted once, and whether it was a fault of ours.
    #[test]
    fn a_dropped_exchange_leaves_its_outcome() {
        let (shared, _retired) = Shared::new(1, std::path::PathBuf::new());
        let worker = Worker::new(0, shared, Arc::new(WorkerShard::new()), Recorder::off(), 100);
        let begun = || {
            let mut ws = worker.take_workspace();
            ws.trace.begin(worker.clock.read());
            Busy { worker: Rc::clone(&worker), ws: Some(ws) }
        };
        let counted = || {
            let outcome = |cause: Cause| worker.shard.outcomes[cause.index()].value();
            (outcome(Cause::Dropped), outcome(Cause::Panicked), worker.shard.panics.value())
        };
        drop(begun());
        assert_eq!(counted(), (1, 0, 0));
        let fault = catch_unwind(AssertUnwindSafe(|| {
            let _busy = begun();
            panic!("a fault of ours");
        }));
        assert!(fault.is_err());
        assert_eq!(counted(), (1, 1, 1));
    }

    /// A panic gives back what its request held: the slot, for which another one stands in line, and its app's account.
    #[test]
    fn a_panic_gives_back_what_the_request_held() {
        use ekiden_config::model::{Address, AppCaps, Endpoint, Owner, Priority};
        use ekiden_config::names::{AppName, ClusterName, EndpointId};
        use ekiden_core::cell::{ClusterPlace, EndpointCell, Incarnation};
        use ekiden_core::health::Health;
        use ekiden_core::overload::caps::{AppUsage, Caps};
        use ekiden_core::overload::line::{Look, Rules, Verdict};
        use ekiden_core::overload::slots::Ticket;
        use ekiden_core::stats::ClusterCell;

        use crate::exchange::leg::Home;

        let (shared, _retired) = Shared::new(1, std::path::PathBuf::new());
        let worker = Worker::new(0, shared, Arc::new(WorkerShard::new()), Recorder::off(), 100);
        let (app, cluster) = (AppName::default_app(), ClusterName::new("web").unwrap());
        let endpoint = Endpoint {
            id: EndpointId::new("one").unwrap(),
            address: Address::Unix(Arc::from("/one")),
            tags: None,
            weight: 1,
            priority: 0,
            drain: false,
            owner: Owner::File,
        };
        let place = Arc::new(ClusterPlace::new(app.clone(), cluster.clone()));
        let incarnation = Incarnation::new(place, Arc::new(endpoint));
        let cell = Arc::new(EndpointCell::new(incarnation, Health::Ready, "", 0));
        cell.set_slots(1);
        let stats = Arc::new(ClusterCell::new(app.clone(), cluster, 1));
        let most = AppCaps { in_flight: Some(1), connections: Some(1), buffered: Some(1 << 20) };
        let caps = Caps { most, usage: Arc::new(AppUsage::new(app)) };
        let rules = Rules { max: 1, wait_us: 1_000_000, target_us: None, interval_us: 1 };

        assert!(cell.try_enter());
        let mut waiting = Ticket::join(&stats, Priority::Normal, &[], &rules, 0).unwrap();
        let fault = catch_unwind(AssertUnwindSafe(|| {
            let mut ws = worker.take_workspace();
            ws.trace.begin(worker.clock.read());
            ws.permit = Some(caps.enter().unwrap());
            let home = Home {
                cell: Arc::clone(&cell),
                stats: Arc::clone(&stats),
                pool_most: 1,
                pool_limit_ms: 1,
                peer_router: false,
                report_load: false,
                others: 0,
                worker: 0,
                in_use: Some(caps.connect().unwrap()),
                connected: None,
            };
            ws.leg.attach(Stream::Taken, home, false);
            let _busy = Busy { worker: Rc::clone(&worker), ws: Some(ws) };
            panic!("a fault of ours");
        }));
        assert!(fault.is_err());
        let look = waiting.look(std::task::Waker::noop());
        assert!(matches!(look, Look::Settled(Verdict::Admitted(given)) if Arc::ptr_eq(&given, &cell)));
        assert_eq!((cell.in_flight(), caps.usage.in_flight(), caps.usage.connections()), (1, 0, 0));
    }
}
