//! A client connection: idle, one exchange after the other, then closed.
//!
//! Idle it holds its socket and its slot in the wheel, nothing else; a workspace is taken when bytes have been reported.
//! Does not know what an exchange does.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use ekiden_core::outcome::Cause;
use tokio::io::AsyncWrite;

use crate::exchange::{After, Workspace, run, trace};
use crate::stream::Stream;
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
    served: bool,
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
pub fn serve(connection: Connection) -> impl Future<Output = ()> {
    let worker = Rc::clone(&connection.worker);
    let mut connection = Some(connection);
    async move {
        let mut seat = None;
        while let Some(open) = &mut connection {
            open.serve().await;
            // Closed before the task waits, and not when there is another.
            drop(connection.take());
            connection = worker.seats.next(&mut seat).await;
        }
    }
}

impl Connection {
    /// A connection that has been accepted. Called by `accept`, and by tests that drive an exchange by hand.
    pub fn new(
        worker: Rc<Worker>,
        listener: Rc<ListenerRef>,
        stream: Stream,
        peer: Option<SocketAddr>,
        open: OpenConnection,
    ) -> Self {
        let deadline = worker.wheel.slot();
        worker.clock.read();
        let keepalive_ms = worker.with_table(|table| {
            let settings = listener.settings(table);
            settings.map_or(60_000, |s| {
                u64::try_from(s.listener.limits.keepalive_idle.as_millis()).unwrap_or(60_000)
            })
        });
        Self { worker, listener, stream, peer, deadline, keepalive_ms, served: false, _open: open }
    }

    /// Serves it to its end.
    async fn serve(&mut self) {
        while let Idle::Readable = self.idle().await {
            self.deadline.set_busy(true);
            let after = self.busy().await;
            self.deadline.set_busy(false);
            self.served |= after != After::Idle;
            match after {
                After::Idle | After::Keep => {}
                After::Close => return,
                After::Linger => return Box::pin(self.linger()).await,
                After::Abort => return self.abort(),
            }
        }
    }

    /// Waits for bytes with nothing held. Before it gives up, because of its age or of a drain, it looks into the kernel:
    /// a request that has arrived and not been reported yet is served, and a connection that was let in a moment ago
    /// may still send its first.
    async fn idle(&mut self) -> Idle {
        let over_ms = self.worker.turn_ms() + self.keepalive_ms;
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

    /// Closes with a reset, so that a body that is delimited by the close cannot be taken for complete.
    fn abort(&self) {
        if let Stream::Tcp(stream) = &self.stream {
            let _: io::Result<()> =
                socket2::SockRef::from(stream).set_linger(Some(std::time::Duration::ZERO));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Arc;

    use ekiden_core::stats::WorkerShard;

    use super::*;
    use crate::record::Recorder;
    use crate::shared::Shared;

    fn future_size<A, F>(_: fn(A) -> F) -> usize {
        size_of::<F>()
    }

    /// Ten thousand idle connections must fit in 15 MB; the task is the largest part of one.
    #[test]
    fn an_idle_connection_is_small() {
        let size = future_size(serve);
        assert!(size <= 800, "the connection task holds {size} bytes");
    }
    /// What ends the task does not matter: the request is counted once, and whether it was a fault of ours.
    #[test]
    fn a_dropped_exchange_leaves_its_outcome() {
        let (shared, _retired) = Shared::new(1);
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
}
