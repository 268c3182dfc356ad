//! Accepting: one task per listening socket of a worker.
//!
//! Stops at the connection bound until there is room and pauses when descriptors run out. On its way out it accepts what
//! the kernel has queued, so that no client that was let in is reset. Does not read.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Notify;

use crate::listen::Socket;
use crate::stream::Stream;
use crate::worker::connection::{Kept, serve};
use crate::worker::connection_limits;
use crate::worker::{ListenerRef, Worker};

/// Pause after an accept failed for want of descriptors or memory.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
/// Least time between two log lines about such pauses.
const TELL_MS: u64 = 1_000;

/// Tells an accept task to finish.
#[derive(Debug, Default)]
pub struct Closing {
    closed: Cell<bool>,
    notify: Notify,
}

impl Closing {
    /// Accept what is queued, then close.
    pub fn close(&self) {
        self.closed.set(true);
        self.notify.notify_one();
    }
}

enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listening {
    fn new(socket: Socket) -> io::Result<Self> {
        Ok(match socket {
            Socket::Tcp(socket) => Listening::Tcp(TcpListener::from_std(socket)?),
            Socket::Unix(socket) => Listening::Unix(UnixListener::from_std(socket)?),
        })
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Stream, Option<SocketAddr>)>> {
        match self {
            Listening::Tcp(socket) => {
                socket.poll_accept(cx).map(|r| r.map(|(stream, peer)| (Stream::Tcp(stream), Some(peer))))
            }
            Listening::Unix(socket) => {
                socket.poll_accept(cx).map(|r| r.map(|(stream, _)| (Stream::Unix(stream), None)))
            }
        }
    }
}

/// Accepts on a socket until told to close. Ends at once when the runtime cannot take the socket.
pub async fn accept(worker: Rc<Worker>, listener: Rc<ListenerRef>, socket: Socket, closing: Rc<Closing>) {
    let socket = match Listening::new(socket) {
        Ok(socket) => socket,
        Err(error) => {
            tracing::error!(listener = %listener.name, %error, "cannot accept on this listener");
            return;
        }
    };
    worker.accepting().set(worker.accepting().get() + 1);
    worker.shared.beat(worker.id, worker.accepting().get());
    let mut told_ms = None;
    while !closing.closed.get() {
        if !has_room(&worker) {
            worker.shard.accept_full.add(1);
            await_room(&worker, &closing).await;
            continue;
        }
        tokio::select! {
            biased;
            () = closing.notify.notified() => {}
            error = poll_fn(|cx| poll_accept_some(cx, &worker, &listener, &socket)) => if let Some(error) = error {
                pause(&worker, &listener, &error, &mut told_ms).await;
            },
        }
    }
    drain(&worker, &listener, socket);
    worker.accepting().set(worker.accepting().get().saturating_sub(1));
    worker.shared.beat(worker.id, worker.accepting().get());
}

fn start(worker: &Rc<Worker>, listener: &Rc<ListenerRef>, stream: Stream, peer: Option<SocketAddr>) {
    let Some((stream, permit)) = connection_limits::enter(worker, listener, stream, peer) else { return };
    stream.assume_silent();
    let open = worker.open_connection().with(permit);
    let connection = Kept::new(Rc::clone(worker), Rc::clone(listener), stream, peer, open);
    if let Some(connection) = worker.seats.hand_over(connection) {
        tokio::task::spawn_local(serve(connection));
    }
}

/// Accepts what is queued, as far as there is room. Ready when there is none left, or with the error of an accept.
fn poll_accept_some(
    cx: &mut Context<'_>,
    worker: &Rc<Worker>,
    listener: &Rc<ListenerRef>,
    socket: &Listening,
) -> Poll<Option<io::Error>> {
    while has_room(worker) {
        match socket.poll_accept(cx) {
            Poll::Ready(Ok((stream, peer))) => start(worker, listener, stream, peer),
            Poll::Ready(Err(error)) => return Poll::Ready(Some(error)),
            Poll::Pending => return Poll::Pending,
        }
    }
    Poll::Ready(None)
}

fn has_room(worker: &Worker) -> bool {
    worker.open_connections() < worker.max_connections
}

/// Waits until there is room below the connection bound, or the socket is to close.
async fn await_room(worker: &Worker, closing: &Closing) {
    let room = poll_fn(|cx| {
        if has_room(worker) {
            return Poll::Ready(());
        }
        worker.await_room(cx.waker());
        Poll::Pending
    });
    tokio::select! {
        () = room => {}
        () = closing.notify.notified() => {}
    }
}

/// Waits after an error that the next accept would meet too: want of descriptors or memory. `told_ms` is when that was
/// last logged.
async fn pause(worker: &Worker, listener: &ListenerRef, error: &io::Error, told_ms: &mut Option<u64>) {
    if is_transient(error) {
        return;
    }
    worker.shard.accept_starved.add(1);
    let now_ms = worker.now_ms();
    if told_ms.is_none_or(|told| now_ms.saturating_sub(told) >= TELL_MS) {
        *told_ms = Some(now_ms);
        tracing::warn!(
            listener = %listener.name,
            %error,
            pauses = worker.shard.accept_starved.value(),
            "accept failed; pausing, open connections go on"
        );
    }
    tokio::time::sleep(EXHAUSTED_PAUSE).await;
}

/// Accepts to the end of the kernel's queue, then the socket closes. Not through the runtime, which pauses a task that
/// accepts many and makes no call while nothing is reported.
fn drain(worker: &Rc<Worker>, listener: &Rc<ListenerRef>, socket: Listening) {
    let accept_all = match socket {
        Listening::Tcp(socket) => socket.into_std().map(|socket| {
            drain_with(worker, listener, || {
                let (stream, peer) = socket.accept()?;
                stream.set_nonblocking(true)?;
                Ok((Stream::Tcp(TcpStream::from_std(stream)?), Some(peer)))
            });
        }),
        Listening::Unix(socket) => socket.into_std().map(|socket| {
            drain_with(worker, listener, || {
                let (stream, _) = socket.accept()?;
                stream.set_nonblocking(true)?;
                Ok((Stream::Unix(UnixStream::from_std(stream)?), None))
            });
        }),
    };
    if let Err(error) = accept_all {
        tracing::warn!(listener = %listener.name, %error, "connections may be left in the queue of the kernel");
    }
}

fn drain_with(
    worker: &Rc<Worker>,
    listener: &Rc<ListenerRef>,
    mut next: impl FnMut() -> io::Result<(Stream, Option<SocketAddr>)>,
) {
    loop {
        match next() {
            Ok((stream, peer)) => start(worker, listener, stream, peer),
            Err(error) if is_transient(&error) => {}
            Err(_) => return,
        }
    }
}

/// The peer gave up before we came to it, or a signal came: no fault of ours, and the next may be fine.
fn is_transient(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}
