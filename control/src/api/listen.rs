//! The API's listening socket: TCP, or a unix socket that is never reachable with a mode other than 0600.
//!
//! It may outlive the runtime that serves it: [`Sockets`] keeps a second hold on it, which the next one takes over with the
//! connections that wait.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::net::TcpListener as StdTcpListener;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ekiden_config::model::Address;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::tenure::Tenure;

/// A bound socket. A unix socket's file goes away with it, but for one whose term is void: another one serves there.
pub(crate) struct Listening {
    address: Address,
    socket: Socket,
    sockets: Option<(Sockets, Tenure)>,
}

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A socket without a runtime.
#[derive(Debug)]
enum Bare {
    Tcp(StdTcpListener),
    Unix(StdUnixListener),
}

#[derive(Debug)]
struct Kept {
    wanted: Address,
    bound: Address,
    bare: Bare,
}

/// The socket that is served, for those that serve it one after the other.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sockets(Arc<Mutex<Option<Kept>>>);

impl Sockets {
    fn kept(&self) -> MutexGuard<'_, Option<Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An accepted connection.
pub(crate) enum Accepting {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a unix socket.
    Unix(UnixStream),
}

impl Bare {
    fn bind(address: &Address) -> io::Result<(Address, Self)> {
        match address {
            Address::Tcp(wanted) => {
                let listener = StdTcpListener::bind(wanted)?;
                listener.set_nonblocking(true)?;
                Ok((Address::Tcp(listener.local_addr()?), Bare::Tcp(listener)))
            }
            Address::Unix(path) => {
                let path = Path::new(&**path);
                let listener = bind_unix(path)?;
                listener.set_nonblocking(true)?;
                Ok((Address::Unix(Arc::from(path.to_string_lossy().as_ref())), Bare::Unix(listener)))
            }
        }
    }

    fn again(&self) -> io::Result<Self> {
        Ok(match self {
            Bare::Tcp(listener) => Bare::Tcp(listener.try_clone()?),
            Bare::Unix(listener) => Bare::Unix(listener.try_clone()?),
        })
    }

    fn registered(self) -> io::Result<Socket> {
        Ok(match self {
            Bare::Tcp(listener) => Socket::Tcp(TcpListener::from_std(listener)?),
            Bare::Unix(listener) => Socket::Unix(UnixListener::from_std(listener)?),
        })
    }
}

impl Listening {
    /// Binds. A unix socket left behind by a dead process is replaced; one that answers is busy.
    pub(crate) fn bind(address: &Address) -> io::Result<Self> {
        let (address, bare) = Bare::bind(address)?;
        Ok(Self { address, socket: bare.registered()?, sockets: None })
    }

    /// As [`Listening::bind`], for a crowd that comes at once: so many may wait to be accepted, as far as the system allows. Who finds no
    /// place would have its connection reset, or have to try again.
    pub(crate) fn bind_for(address: &Address, crowd: i32) -> io::Result<Self> {
        let this = Self::bind(address)?;
        match &this.socket {
            Socket::Tcp(listener) => rustix::net::listen(listener, crowd)?,
            Socket::Unix(listener) => rustix::net::listen(listener, crowd)?,
        }
        Ok(this)
    }

    /// As [`Listening::bind`], or takes over what an earlier term of this process has bound there.
    pub(crate) fn take(wanted: &Address, sockets: &Sockets, tenure: &Tenure) -> io::Result<Self> {
        let mut kept = sockets.kept();
        let same = kept.take().filter(|kept| kept.wanted == *wanted);
        let now = match same {
            Some(kept) => kept,
            None => {
                let (bound, bare) = Bare::bind(wanted)?;
                Kept { wanted: wanted.clone(), bound, bare }
            }
        };
        let (address, socket) = (now.bound.clone(), now.bare.again()?.registered()?);
        *kept = Some(now);
        Ok(Self { address, socket, sockets: Some((sockets.clone(), tenure.clone())) })
    }

    /// The real address.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// The next connection. Safe to drop and call again.
    pub(crate) async fn accept(&mut self) -> io::Result<Accepting> {
        match &self.socket {
            Socket::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Answers are small and written whole.
                let _ = stream.set_nodelay(true);
                Ok(Accepting::Tcp(stream))
            }
            Socket::Unix(listener) => Ok(Accepting::Unix(listener.accept().await?.0)),
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let remove = || {
            if let Address::Unix(path) = &self.address {
                let _ = fs::remove_file(Path::new(&**path));
            }
        };
        match &self.sockets {
            None => remove(),
            Some((sockets, tenure)) => {
                let mut kept = sockets.kept();
                if tenure.counts() {
                    *kept = None;
                    remove();
                }
            }
        }
    }
}

/// Binds inside a directory of mode 0700 beside the wanted path, sets mode 0600, and only then moves the socket to
/// its path: at no moment can another user connect.
fn bind_unix(path: &Path) -> io::Result<StdUnixListener> {
    if let Ok(meta) = fs::symlink_metadata(path) {
        if !meta.file_type().is_socket() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the path exists and is no socket"));
        }
        if StdUnixStream::connect(path).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process serves this socket"));
        }
    }
    let shelter = path.with_file_name(format!(".e{}", std::process::id()));
    DirBuilder::new().recursive(true).mode(0o700).create(&shelter)?;
    let inside = shelter.join("s");
    let bound = bind_at(&inside).and_then(|listener| fs::rename(&inside, path).map(|()| listener));
    let _ = fs::remove_file(&inside);
    let _ = fs::remove_dir(&shelter);
    bound
}

fn bind_at(path: &Path) -> io::Result<StdUnixListener> {
    let listener = StdUnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream as StdTcpStream;
    use std::time::{Duration, Instant};

    use super::*;

    #[tokio::test]
    async fn a_socket_passes_from_a_void_term_to_the_next_with_those_who_wait() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let wanted = Address::Unix(Arc::from(path.to_string_lossy().as_ref()));
        let (sockets, first) = (Sockets::default(), Tenure::default());
        let stuck = Listening::take(&wanted, &sockets, &first).unwrap();
        let waits = StdUnixStream::connect(&path).unwrap();
        first.end();
        let mut next = Listening::take(&wanted, &sockets, &first.newest()).unwrap();
        assert!(matches!(next.accept().await.unwrap(), Accepting::Unix(_)), "who waits is left behind");
        drop(stuck);
        StdUnixStream::connect(&path).unwrap();
        drop((next, waits));
        assert!(!path.exists(), "the last one leaves nothing behind");
        // Nobody holds it any more: another process may have it.
        let tcp = Address::Tcp("127.0.0.1:0".parse().unwrap());
        let one = Listening::take(&tcp, &sockets, &first.newest()).unwrap();
        let bound = one.address().clone();
        drop(one);
        Listening::bind(&bound).unwrap();
    }

    #[tokio::test]
    async fn a_crowd_waits_to_be_accepted_and_nobody_of_it_is_sent_away() {
        const CROWD: usize = 400;
        let anywhere = Address::Tcp("127.0.0.1:0".parse().unwrap());
        let mut listening = Listening::bind_for(&anywhere, 1_000).unwrap();
        let &Address::Tcp(address) = listening.address() else { panic!("TCP") };
        let come = |_| StdTcpStream::connect_timeout(&address, Duration::from_secs(20)).unwrap();
        let crowd: Vec<StdTcpStream> = (0..CROWD).map(come).collect();
        // Those that wait are connections of the system's already (proc(5): 01 is established), before anybody is accepted.
        let here = format!(":{:04X}", address.port());
        let is_ours = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().take(4).collect();
            words.len() == 4 && words[1].ends_with(&here) && words[3] == "01"
        };
        let wait =
            || fs::read_to_string("/proc/net/tcp").unwrap().lines().filter(|line| is_ours(line)).count();
        let until = Instant::now() + Duration::from_secs(20);
        while wait() < CROWD {
            assert!(Instant::now() < until, "{} of {CROWD}", wait());
        }
        for _ in 0..CROWD {
            listening.accept().await.unwrap();
        }
        drop(crowd);
    }
}
