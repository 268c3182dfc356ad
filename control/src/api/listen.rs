//! The API's listening socket: TCP, or a unix socket that is never reachable with a mode other than 0600.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ekiden_config::model::Address;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// A bound socket. A unix socket's file goes away with it.
pub(crate) struct Listening {
    address: Address,
    socket: Socket,
}

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

/// An accepted connection.
pub(crate) enum Accepting {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a unix socket.
    Unix(UnixStream),
}

impl Listening {
    /// Binds. A unix socket left behind by a dead process is replaced; one that answers is busy.
    pub(crate) fn bind(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp(wanted) => {
                let listener = std::net::TcpListener::bind(wanted)?;
                listener.set_nonblocking(true)?;
                let address = Address::Tcp(listener.local_addr()?);
                Ok(Self { address, socket: Socket::Tcp(TcpListener::from_std(listener)?) })
            }
            Address::Unix(path) => {
                let path = Path::new(&**path);
                let listener = bind_unix(path)?;
                let address = Address::Unix(Arc::from(path.to_string_lossy().as_ref()));
                Ok(Self { address, socket: Socket::Unix(listener, path.to_owned()) })
            }
        }
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
            Socket::Unix(listener, _) => Ok(Accepting::Unix(listener.accept().await?.0)),
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Socket::Unix(_, path) = &self.socket {
            let _ = fs::remove_file(path);
        }
    }
}

/// Binds inside a directory of mode 0700 beside the wanted path, sets mode 0600, and only then moves the socket to
/// its path: at no moment can another user connect.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
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

fn bind_at(path: &Path) -> io::Result<UnixListener> {
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}
