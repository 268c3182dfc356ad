//! Accepting: one task per listening socket of a worker.
//!
//! Stops at the connection bound until there is room and pauses when descriptors run out. On its way out it accepts what
//! the kernel has queued, so that no client that was let in is reset. Does not read.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use mio::net::TcpListener;
use socket2::SockFilter;
use tokio::io::unix::AsyncFd;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;

use crate::listen::{self, Socket};
use crate::stream::Stream;
use crate::worker::connection::{Kept, serve};
use crate::worker::connection_limits;
use crate::worker::{ListenerRef, Worker};

/// Pause after an accept failed for want of descriptors or memory.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
/// Least time between two log lines about such pauses.
const TELL_MS: u64 = 1_000;

/// How long a socket that closes waits for handshakes that have begun: longer than a round trip in a network of one site.
const UNDER_WAY: Duration = Duration::from_millis(20);

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

/// Sockets are accepted without telling the runtime of them (see [`Stream::Fresh`]).
enum Listening {
    Tcp(AsyncFd<TcpListener>),
    /// TCP, and open elsewhere too: closing it here resets nobody.
    Inherited(AsyncFd<TcpListener>),
    Unix(UnixListener),
}

impl Listening {
    fn new(socket: Socket) -> io::Result<Self> {
        Ok(match socket {
            Socket::Tcp(socket) => Listening::Tcp(listen::watched(socket)?),
            Socket::Inherited(socket) => Listening::Inherited(listen::watched(socket)?),
            Socket::Unix(socket) => Listening::Unix(UnixListener::from_std(socket)?),
        })
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Stream, Option<SocketAddr>)>> {
        match self {
            Listening::Tcp(socket) | Listening::Inherited(socket) => loop {
                let mut ready = ready!(socket.poll_read_ready(cx))?;
                if let Ok(result) = ready.try_io(|socket| accept_tcp(socket.get_ref())) {
                    return Poll::Ready(result);
                }
            },
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
    drain(&worker, &listener, socket).await;
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
///
/// What completes its handshake between the last accept and the close would be reset. So nobody new gets in first, and
/// whoever is on the way is waited for.
async fn drain(worker: &Rc<Worker>, listener: &Rc<ListenerRef>, socket: Listening) {
    let done = match socket {
        Listening::Tcp(socket) => {
            let socket = socket.into_inner();
            let refused = refuse_new(&socket);
            accept_all(worker, listener, || accept_tcp(&socket));
            tokio::time::sleep(UNDER_WAY).await;
            accept_all(worker, listener, || accept_tcp(&socket));
            refused
        }
        Listening::Inherited(socket) => {
            let socket = socket.into_inner();
            accept_all(worker, listener, || accept_tcp(&socket));
            Ok(())
        }
        Listening::Unix(socket) => socket.into_std().map(|socket| {
            accept_all(worker, listener, || {
                let (stream, _) = socket.accept()?;
                stream.set_nonblocking(true)?;
                Ok((Stream::Unix(UnixStream::from_std(stream)?), None))
            });
        }),
    };
    if let Err(error) = done {
        tracing::warn!(listener = %listener.name, %error, "connections may be left in the queue of the kernel");
    }
}

fn accept_tcp(socket: &TcpListener) -> io::Result<(Stream, Option<SocketAddr>)> {
    let (stream, peer) = socket.accept()?;
    Ok((Stream::fresh(stream.into()), Some(peer)))
}

/// Has the kernel drop what would begin a connection with this socket: a packet with SYN (RFC 9293 section 3.1, in byte 13 of
/// the header). Its sender asks again in a second and is refused then, if nobody else listens. The last packet of a
/// handshake that has begun still gets in. The program is for the classic packet filter (socket(7), SO_ATTACH_FILTER).
fn refuse_new(socket: &impl AsFd) -> io::Result<()> {
    const LOAD_BYTE: u16 = 0x30;
    const JUMP_IF_BITS: u16 = 0x45;
    const RETURN: u16 = 0x06;
    const SYN: u32 = 0x02;
    socket2::SockRef::from(socket).attach_filter(&[
        SockFilter::new(LOAD_BYTE, 0, 0, 13),
        SockFilter::new(JUMP_IF_BITS, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ])
}

fn accept_all(
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What is queued is accepted; who comes later neither gets in nor is reset.
    #[test]
    fn a_socket_that_closes_lets_nobody_new_in() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let queued = std::net::TcpStream::connect(address).unwrap();
        refuse_new(&socket).unwrap();
        let late = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(100));
        assert_eq!(late.err().map(|error| error.kind()), Some(io::ErrorKind::TimedOut));
        let (_, peer) = socket.accept().unwrap();
        assert_eq!(peer, queued.local_addr().unwrap());
        drop(socket);
        let refused = std::net::TcpStream::connect(address);
        assert_eq!(refused.err().map(|error| error.kind()), Some(io::ErrorKind::ConnectionRefused));
    }
}
