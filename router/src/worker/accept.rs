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

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Notify;

use crate::listen::Socket;
use crate::stream::Stream;
use crate::worker::connection::serve;
use crate::worker::{ListenerRef, Worker};

/// Pause after an accept failed for want of descriptors or memory.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

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
    while !closing.closed.get() {
        await_room(&worker, &closing).await;
        tokio::select! {
            biased;
            () = closing.notify.notified() => {}
            accepted = poll_fn(|cx| socket.poll_accept(cx)) => match accepted {
                Ok((stream, peer)) => start(&worker, &listener, stream, peer),
                Err(error) => pause(&listener, &error).await,
            },
        }
    }
    worker.accepting().set(worker.accepting().get().saturating_sub(1));
    drain(&worker, &listener, &socket).await;
}

fn start(worker: &Rc<Worker>, listener: &Rc<ListenerRef>, stream: Stream, peer: Option<SocketAddr>) {
    let open = worker.open_connection();
    tokio::task::spawn_local(serve(Rc::clone(worker), Rc::clone(listener), stream, peer, open));
}

async fn await_room(worker: &Worker, closing: &Closing) {
    poll_fn(|cx| {
        if worker.open_connections() < worker.max_connections || worker.is_draining() || closing.closed.get()
        {
            return Poll::Ready(());
        }
        worker.await_room(cx.waker());
        Poll::Pending
    })
    .await;
}

async fn pause(listener: &ListenerRef, error: &io::Error) {
    // The peer gave up before we came to it, which is no fault of ours; anything else is want of resources.
    if !matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
        tracing::warn!(listener = %listener.name, %error, "accept failed; pausing");
        tokio::time::sleep(EXHAUSTED_PAUSE).await;
    }
}

/// Accepts to the end of the kernel's queue, then the socket closes.
async fn drain(worker: &Rc<Worker>, listener: &Rc<ListenerRef>, socket: &Listening) {
    poll_fn(|cx| {
        loop {
            match socket.poll_accept(cx) {
                Poll::Ready(Ok((stream, peer))) => start(worker, listener, stream, peer),
                Poll::Ready(Err(_)) | Poll::Pending => return Poll::Ready(()),
            }
        }
    })
    .await;
}
