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

use ekiden_core::outcome::Cause;
use tokio::io::AsyncWrite;

use crate::exchange::{After, Workspace, run, trace};
use crate::stream::Stream;
use crate::tls::TlsListener;
use crate::tls::handshake::{self, Begun};
use crate::wheel::Deadline;
use crate::worker::{ListenerRef, OpenConnection, Worker};

/// How long and how much of a client's unread bytes are swallowed after the last response, so that it can read that
/// response before a reset (RFC 9112 section 9.6).
const LINGER_MS: u64 = 2_000;
const LINGER_BYTES: usize = 1 << 20;
/// How long a connection that is about to close waits for a request that is already on its way.
const SETTLE_MS: u64 = 1_000;

/// A client connection.
pub struct Connection {
    /// Its worker.
    pub worker: Rc<Worker>,
    /// The listener that accepted it.
    pub listener: Rc<ListenerRef>,
    /// The socket.
    pub stream: Stream,
    /// The client's address.
    pub peer: Option<SocketAddr>,
    /// Its slot in the wheel.
    pub deadline: Deadline,
    keepalive_ms: u64,
    /// When the wait for a request ends; set when it begins. What wakes it without being one (a piece of a TLS record) does
    /// not prolong it.
    over_ms: Option<u64>,
    served: bool,
    /// TLS of the listener, until the handshake takes it.
    tls: Option<Arc<TlsListener>>,
    _open: OpenConnection,
}

/// A workspace in use. Dropped with an exchange open (the task panicked or was ended), it leaves the record.
struct Busy {
    worker: Rc<Worker>,
    ws: Option<Box<Workspace>>,
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

/// Serves one client connection to its end. Spawned by `accept`.
///
/// A block and not an `async fn`: what it captures is stored once, where the arguments of an `async fn` are stored
/// twice in every idle task.
pub fn serve(
    worker: Rc<Worker>,
    listener: Rc<ListenerRef>,
    stream: Stream,
    peer: Option<SocketAddr>,
    open: OpenConnection,
) -> impl Future<Output = ()> {
    let mut connection = Connection::new(worker, listener, stream, peer, open);
    async move {
        if let Some(tls) = connection.tls.take() {
            // Boxed: an idle task has no room for what only its beginning needs.
            match Box::pin(handshake::begin(&mut connection, &tls)).await {
                // The negotiated protocol ([`crate::tls::Session::alpn`]) decides the codec here; there is one so far.
                Begun::Secure => {}
                Begun::Plain(bytes) => return Box::pin(connection.answer_plain(&bytes)).await,
                Begun::Over => return,
            }
        }
        while let Idle::Readable = connection.idle().await {
            connection.deadline.set_busy(true);
            let after = connection.busy().await;
            connection.deadline.set_busy(false);
            if after != After::Idle {
                connection.served = true;
                connection.over_ms = None;
            }
            match after {
                After::Idle | After::Keep => {}
                After::Close => return connection.stream.say_goodbye(),
                After::Linger => return Box::pin(connection.linger()).await,
                After::Abort => return connection.stream.abort(),
            }
        }
        connection.stream.say_goodbye();
    }
}

impl Connection {
    /// A connection that has been accepted. Called by [`serve`], and by tests that drive an exchange by hand.
    pub fn new(
        worker: Rc<Worker>,
        listener: Rc<ListenerRef>,
        stream: Stream,
        peer: Option<SocketAddr>,
        open: OpenConnection,
    ) -> Self {
        let deadline = worker.wheel.slot();
        worker.clock.read();
        let settings = worker.with_table(|table| listener.settings(table));
        let keepalive_ms = settings.as_ref().map_or(60_000, |s| {
            u64::try_from(s.listener.limits.keepalive_idle.as_millis()).unwrap_or(60_000)
        });
        let secure = settings.is_some_and(|settings| settings.listener.tls.is_some());
        let tls = if secure { worker.shared.tls.listeners.load().get(&listener.name).cloned() } else { None };
        Self {
            worker,
            listener,
            stream,
            peer,
            deadline,
            keepalive_ms,
            over_ms: None,
            served: false,
            tls,
            _open: open,
        }
    }

    /// Answers plain HTTP on a TLS listener: the request in `bytes` is read and refused.
    async fn answer_plain(&mut self, bytes: &[u8]) {
        let mut busy = Busy { worker: Rc::clone(&self.worker), ws: Some(self.worker.take_workspace()) };
        let Some(ws) = busy.ws.as_deref_mut() else { return };
        ws.listener = Some(Rc::clone(&self.listener));
        ws.peer = self.peer;
        ws.session = None;
        self.worker.buffers.attach(&mut ws.client_in);
        let mut source = bytes;
        let held = poll_fn(|cx| Poll::Ready(ws.client_in.poll_read(cx, &mut source).is_ready())).await;
        if held {
            self.deadline.set_busy(true);
            if run::exchange(self, ws).await == After::Linger {
                self.linger().await;
            }
        }
    }

    /// Waits for bytes with nothing held. Before it gives up, because of its age or of a drain, it looks into the kernel:
    /// a request that has arrived and not been reported yet is served, and a connection that was let in a moment ago
    /// may still send its first.
    async fn idle(&mut self) -> Idle {
        let over_ms = *self.over_ms.get_or_insert(self.worker.turn_ms() + self.keepalive_ms);
        let mut settle_ms = None;
        let mut woken = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut woken, true) {
                self.worker.clock.read();
            }
            if let Poll::Ready(result) = self.stream.poll_readable(cx) {
                return Poll::Ready(if result.is_ok() { Idle::Readable } else { Idle::Over });
            }
            let now_ms = self.worker.turn_ms();
            let draining = self.worker.is_draining();
            if !draining && now_ms < over_ms {
                self.deadline.set(over_ms, cx.waker());
                return Poll::Pending;
            }
            let settle_ms = *settle_ms.get_or_insert(now_ms + SETTLE_MS);
            let expected = (draining && !self.served) || self.stream.peeked_dead();
            if !expected || self.worker.is_forced() || now_ms >= settle_ms {
                self.worker.shard.idle_closed.add(u64::from(!draining));
                return Poll::Ready(Idle::Over);
            }
            self.deadline.set(settle_ms, cx.waker());
            Poll::Pending
        })
        .await
    }

    /// Runs exchanges until nothing of the client's is left over.
    async fn busy(&mut self) -> After {
        let mut busy = Busy { worker: Rc::clone(&self.worker), ws: Some(self.worker.take_workspace()) };
        let Some(ws) = busy.ws.as_deref_mut() else { return After::Close };
        ws.listener = Some(Rc::clone(&self.listener));
        ws.peer = self.peer;
        ws.session = self.stream.session().cloned();
        loop {
            let after = run::exchange(self, ws).await;
            if after != After::Keep || ws.client_in.is_empty() {
                return after;
            }
        }
    }

    /// Ends our side, then swallows what the client still sends.
    async fn linger(&mut self) {
        let over_ms = self.worker.now_ms() + LINGER_MS;
        let worker = Rc::clone(&self.worker);
        let mut buffer = crate::buffer::Buffer::default();
        let mut swallowed = 0;
        let mut shut = false;
        worker.buffers.attach(&mut buffer);
        poll_fn(|cx| {
            if !shut {
                shut = Pin::new(&mut self.stream).poll_shutdown(cx).is_ready();
            }
            while let Poll::Ready(read) = buffer.poll_read(cx, &mut self.stream) {
                let count: usize = read.unwrap_or(0);
                buffer.consume(count);
                swallowed += count;
                if count == 0 || swallowed > LINGER_BYTES {
                    return Poll::Ready(());
                }
            }
            if worker.is_forced() || worker.now_ms() >= over_ms {
                return Poll::Ready(());
            }
            self.deadline.set(over_ms, cx.waker());
            Poll::Pending
        })
        .await;
        worker.buffers.discard(&mut buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn future_size<A, B, C, D, E, F>(_: fn(A, B, C, D, E) -> F) -> usize {
        size_of::<F>()
    }

    /// Ten thousand idle connections must fit in 15 MB; the task is the largest part of one.
    #[test]
    fn an_idle_connection_is_small() {
        let size = future_size(serve);
        assert!(size <= 800, "the connection task holds {size} bytes");
    }
}
