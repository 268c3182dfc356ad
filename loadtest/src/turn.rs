//! One epoll instance and its turns, shared by origin, null relay and load generator: listen, accept, watch, wait.
//! Edge-triggered, single-threaded, no timers of its own, and no knowledge of HTTP.

use crate::failure::Fallible;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// Events taken by one wait at most.
const EVENTS: usize = 256;
/// Connections a listener lets wait for accept.
const BACKLOG: i32 = 4096;

/// What is to be done for one watched descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wake {
    /// Number given when it was watched.
    pub(crate) token: u64,
    /// Bytes, an end or an error may be read.
    pub(crate) readable: bool,
    /// Bytes may be written again.
    pub(crate) writable: bool,
    /// The peer has ended its side: read on until the end.
    pub(crate) ended: bool,
}

/// An epoll instance with room for the events of one turn.
pub(crate) struct Turn {
    epoll: OwnedFd,
    events: Vec<Event>,
}

impl Turn {
    /// A new instance.
    pub(crate) fn new() -> Fallible<Self> {
        Ok(Self { epoll: epoll::create(CreateFlags::CLOEXEC)?, events: Vec::with_capacity(EVENTS) })
    }

    /// Watches a connection for both directions, edge-triggered, until it is closed.
    pub(crate) fn watch(&self, source: impl AsFd, token: u64) -> Fallible<()> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        Ok(epoll::add(&self.epoll, source, EventData::new_u64(token), flags)?)
    }

    /// Watches a listener, level-triggered, so that one accept a wake is enough.
    pub(crate) fn watch_listener(&self, source: impl AsFd, token: u64) -> Fallible<()> {
        Ok(epoll::add(&self.epoll, source, EventData::new_u64(token), EventFlags::IN)?)
    }

    /// Waits for events, at most `limit` (none: forever), and appends them to `wakes` after clearing it.
    pub(crate) fn wait(&mut self, limit: Option<Duration>, wakes: &mut Vec<Wake>) -> Fallible<()> {
        wakes.clear();
        self.events.clear();
        let limit = limit.map(|limit| Timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        });
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), limit.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        wakes.extend(self.events.iter().map(|event| {
            let flags = event.flags;
            let ended = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
            Wake {
                token: event.data.u64(),
                readable: ended || flags.contains(EventFlags::IN),
                writable: flags.contains(EventFlags::OUT),
                ended,
            }
        }));
        Ok(())
    }
}

/// Listens on `address` with a long backlog; non-blocking.
pub(crate) fn listen(address: SocketAddr) -> Fallible<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

/// The next waiting connection, non-blocking and without Nagle's delay; none when there is none.
pub(crate) fn accept(listener: &TcpListener) -> Fallible<Option<TcpStream>> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    match rustix::net::accept_with(listener, flags) {
        Ok(socket) => {
            let stream = TcpStream::from(socket);
            stream.set_nodelay(true)?;
            Ok(Some(stream))
        }
        Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A connection to `address`, opened while blocking (loopback answers at once), then non-blocking.
pub(crate) fn connect(address: SocketAddr) -> Fallible<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}
