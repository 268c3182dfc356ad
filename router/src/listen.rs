//! The one place that makes listening sockets.
//!
//! Inherited sockets (`LISTEN_FDS`) are taken first. The first socket of an address is bound without `SO_REUSEPORT`, so
//! that a second process gets an error instead of half of the connections; the further sockets, one per worker, share the
//! port. Does not accept.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use ekiden_config::model::Address;
use socket2::{Domain, Protocol, SockAddr, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::buffer::LARGE;

/// Connections the kernel queues for one socket before it refuses.
const BACKLOG: i32 = 4096;

/// Bytes of a response that the kernel takes beyond what it may send at the moment. Without a bound they are megabytes for
/// each client that does not read, and a slow reader makes no progress that could be seen for as long as they last. As much
/// as one read of a large body brings, so that one write takes all of it when nothing waits.
const UNSENT_MAX: u32 = LARGE as u32;

/// A listening socket, not yet bound to a runtime.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Tcp(std::net::TcpListener),
    /// TCP, handed over by the service manager, which holds it too: it listens on when this process closes it.
    Inherited(std::net::TcpListener),
    /// Unix stream.
    Unix(std::os::unix::net::UnixListener),
}

/// Sockets handed over by the service manager, taken by address.
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: Mutex<Vec<socket2::Socket>>,
}

/// First descriptor of the socket activation protocol (sd_listen_fds(3)).
const FIRST_INHERITED: i32 = 3;

impl Inherited {
    /// Takes the sockets of `LISTEN_FDS` when `LISTEN_PID` is this process. Called once, before any thread starts.
    pub fn from_environment() -> Self {
        let variable = |name| std::env::var(name).ok().and_then(|text| text.parse::<i32>().ok());
        let ours = variable("LISTEN_PID").is_some_and(|pid| u32::try_from(pid) == Ok(std::process::id()));
        let count = if ours { variable("LISTEN_FDS").unwrap_or(0).clamp(0, 64) } else { 0 };
        let sockets = (FIRST_INHERITED..FIRST_INHERITED + count).filter_map(adopt).collect();
        Self { sockets: Mutex::new(sockets) }
    }

    fn take(&self, address: &Address) -> Option<socket2::Socket> {
        let mut sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        let at = sockets.iter().position(|socket| is_bound_to(socket, address))?;
        Some(sockets.swap_remove(at))
    }
}

#[expect(unsafe_code, reason = "a descriptor number from the environment can be owned in no other way")]
fn adopt(number: i32) -> Option<socket2::Socket> {
    // SAFETY: the service manager passes these descriptors to this process alone (LISTEN_PID was checked) and nothing
    // else in the process knows their numbers; each is adopted once, before any thread starts. That it is open is
    // checked first, so that the OwnedFd is valid.
    let owned = unsafe {
        if libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) != 0 {
            return None;
        }
        OwnedFd::from_raw_fd(number)
    };
    Some(socket2::Socket::from(owned))
}

fn is_bound_to(socket: &socket2::Socket, address: &Address) -> bool {
    let Ok(bound) = socket.local_addr() else { return false };
    match address {
        Address::Tcp(wanted) => bound.as_socket() == Some(*wanted),
        Address::Unix(path) => bound.as_pathname().is_some_and(|p| p.as_os_str() == &**path),
    }
}

/// Makes one listening socket per worker for an address.
///
/// # Errors
/// The error of the first bind when the address is taken or not ours; nothing stays bound then.
pub fn listen(address: &Address, workers: usize, inherited: &Inherited) -> io::Result<Vec<Socket>> {
    match address {
        Address::Tcp(tcp) => {
            // Each with whether the service manager has it too.
            let first = match inherited.take(address) {
                Some(socket) => (socket, true),
                None => (bind(SockAddr::from(*tcp), false)?, false),
            };
            let mut sockets = vec![first];
            for _ in 1..workers {
                let shared = sockets.first().map(|(socket, _)| socket.set_reuse_port(true)).transpose();
                match shared.and_then(|_| bind(SockAddr::from(*tcp), true)) {
                    Ok(socket) => sockets.push((socket, false)),
                    // An inherited socket may belong to another user: share it instead.
                    Err(_) => match sockets.first() {
                        Some((socket, kept)) => {
                            let clone = (socket.try_clone()?, *kept);
                            sockets.push(clone);
                        }
                        None => break,
                    },
                }
            }
            for (socket, _) in &sockets {
                prepare(socket)?;
                // Accepted sockets inherit both: no system call for each connection.
                socket.set_tcp_nodelay(true)?;
                socket.set_tcp_notsent_lowat(UNSENT_MAX)?;
            }
            let kinds = sockets.into_iter().map(|(socket, kept)| match kept {
                true => Socket::Inherited(socket.into()),
                false => Socket::Tcp(socket.into()),
            });
            Ok(kinds.collect())
        }
        Address::Unix(path) => {
            let first = match inherited.take(address) {
                Some(socket) => socket,
                None => bind_unix(path)?,
            };
            prepare(&first)?;
            let mut sockets = Vec::with_capacity(workers);
            for _ in 0..workers {
                sockets.push(Socket::Unix(first.try_clone()?.into()));
            }
            Ok(sockets)
        }
    }
}

/// A listening socket that is accepted from by hand: the runtime's own registers every socket that it accepts. Called by a
/// worker, in its runtime.
///
/// # Errors
/// The runtime cannot watch it.
#[expect(unsafe_code, reason = "the runtime cannot know that a descriptor stays open")]
pub fn watched(socket: std::net::TcpListener) -> io::Result<AsyncFd<mio::net::TcpListener>> {
    let socket = mio::net::TcpListener::from_std(socket);
    // SAFETY: the listener owns its descriptor, which is open until the listener is dropped, gives the same one each time it
    // is asked, and moves into what is made here.
    let watched = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
    watched.map_err(Into::into)
}

fn prepare(socket: &socket2::Socket) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    socket.listen(BACKLOG)
}

fn bind(address: SockAddr, share: bool) -> io::Result<socket2::Socket> {
    let socket =
        socket2::Socket::new(address.domain(), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if share {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(false).or_else(|_| socket.set_only_v6(true))?;
    }
    socket.bind(&address)?;
    Ok(socket)
}

/// Binds a unix socket; a socket file that nobody answers on is a leftover and is replaced.
fn bind_unix(path: &str) -> io::Result<socket2::Socket> {
    let address = SockAddr::unix(path)?;
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
    match socket.bind(&address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(error);
            }
            std::fs::remove_file(path)?;
            socket.bind(&address)?;
        }
        other => other?,
    }
    Ok(socket)
}

/// Whether an address is one of this machine's: a socket can be bound to it. Called off the plain path.
pub fn is_local(address: std::net::IpAddr) -> bool {
    std::net::UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn free_address() -> Address {
        let probe = TcpListener::bind("127.0.0.1:0").unwrap();
        Address::Tcp(probe.local_addr().unwrap())
    }

    #[test]
    fn workers_share_a_port_and_a_second_owner_is_refused() {
        let address = free_address();
        let inherited = Inherited::default();
        let ours = listen(&address, 3, &inherited).unwrap();
        assert_eq!(ours.len(), 3);
        let second = listen(&address, 3, &inherited);
        assert_eq!(second.err().map(|e| e.kind()), Some(io::ErrorKind::AddrInUse));
        drop(ours);
        assert!(listen(&address, 1, &inherited).is_ok());
    }

    /// A client that does not read has the kernel hold little for it, without a call for each connection.
    #[test]
    fn accepted_sockets_inherit_what_the_listener_is_set_to() {
        let address = free_address();
        let Address::Tcp(at) = address else { unreachable!() };
        let sockets = listen(&address, 1, &Inherited::default()).unwrap();
        let Some(Socket::Tcp(listener)) = sockets.first() else { unreachable!() };
        listener.set_nonblocking(false).unwrap();
        let _client = std::net::TcpStream::connect(at).unwrap();
        let (stream, _) = listener.accept().unwrap();
        let stream = socket2::SockRef::from(&stream);
        assert_eq!(stream.tcp_notsent_lowat().unwrap(), UNSENT_MAX);
        assert!(stream.tcp_nodelay().unwrap());
    }

    #[test]
    fn a_stale_unix_socket_is_replaced_and_a_live_one_is_not() {
        let path = std::env::temp_dir().join(format!("ekiden-listen-{}", std::process::id()));
        let address = Address::Unix(path.to_str().unwrap().into());
        let inherited = Inherited::default();
        let live = listen(&address, 2, &inherited).unwrap();
        assert!(listen(&address, 1, &inherited).is_err());
        drop(live);
        assert!(listen(&address, 1, &inherited).is_ok());
        std::fs::remove_file(path).unwrap();
    }
}
