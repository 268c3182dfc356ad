//! Opens a connection to an endpoint, with TLS where its cluster has it. No deadline of its own: who calls it has one over
//! connect and handshake together.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;

use ekiden_config::model::{Address, Protocol};
use ekiden_core::outcome::Cause;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, Error, HandshakeKind};
use tokio::io::AsyncWriteExt;

use super::trust::Trust;
use crate::stream::Stream;
use crate::tls::stream::{TlsError, TlsStream};
use crate::tls::{HTTP1, HTTP2};

/// With which trust an endpoint is connected to, and what it is asked for.
#[derive(Debug, Clone)]
pub struct Secure {
    /// The trust of its cluster.
    pub trust: Arc<Trust>,
    /// The name.
    pub name: ServerName<'static>,
}

/// Why there is no connection.
#[derive(Debug)]
pub enum OpenError {
    /// The socket could not be connected.
    Connect(io::Error),
    /// TLS could not be had on it.
    Tls(TlsError),
    /// The endpoint does not speak HTTP/2.
    Http2(h2::Error),
}

/// What an error of TLS with an endpoint means.
pub fn cause_of(error: &Error) -> Cause {
    match error {
        Error::InvalidCertificate(_) | Error::NoCertificatesPresented | Error::UnsupportedNameType => {
            Cause::TlsCertificateInvalid
        }
        Error::AlertReceived(_) => Cause::TlsAlert,
        _ => Cause::TlsFailed,
    }
}

/// The error of TLS inside an error of a stream.
pub fn inside(error: &io::Error) -> Option<&Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref::<Error>())
}

/// What went wrong, for people.
pub fn words(error: &TlsError) -> String {
    match error {
        TlsError::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            "the endpoint closed the connection inside the TLS handshake".to_owned()
        }
        TlsError::Io(error) => format!("the connection failed inside the TLS handshake: {error}"),
        TlsError::Protocol(error) => error.to_string(),
    }
}

/// Connects, sends `header` (of the PROXY protocol), and makes the handshake where `secure` asks for it; with `http1_only` it offers
/// nothing but HTTP/1. Cancel-safe: dropping the future closes the socket.
///
/// # Errors
/// No connection, or no TLS on it.
pub async fn open(
    address: &Address,
    secure: Option<&Secure>,
    header: Option<&[u8]>,
    http1_only: bool,
) -> Result<Stream, OpenError> {
    let mut socket = Stream::connect(address).await.map_err(OpenError::Connect)?;
    if let Some(header) = header {
        socket.write_all(header).await.map_err(OpenError::Connect)?;
    }
    let Some(secure) = secure else { return Ok(socket) };
    let config = Arc::clone(secure.trust.config());
    let name = secure.name.clone();
    let begun = if http1_only {
        ClientConnection::new_with_alpn(config, name, vec![HTTP1.to_vec()])
    } else {
        ClientConnection::new(config, name)
    };
    let connection = begun.map_err(|error| OpenError::Tls(TlsError::Protocol(error)))?;
    let mut stream = Box::new(TlsStream::to_endpoint(socket, connection, Arc::clone(&secure.trust)));
    poll_fn(|cx| stream.poll_handshake(cx)).await.map_err(OpenError::Tls)?;
    Ok(Stream::Tls(stream))
}

/// Whether HTTP/2 is to be spoken on a connection.
pub fn speaks_http2(protocol: Protocol, stream: &Stream) -> bool {
    match (protocol, stream) {
        (Protocol::Http1, _) => false,
        (Protocol::Http2, _) => true,
        (Protocol::Auto, Stream::Tls(stream)) => stream.connection().alpn_protocol() == Some(HTTP2),
        (
            Protocol::Auto,
            Stream::Fresh(_) | Stream::Tcp(_) | Stream::Unix(_) | Stream::Http2(_) | Stream::Taken,
        ) => false,
    }
}

/// Whether a session was resumed; none on a plain stream.
pub fn resumed(stream: &Stream) -> Option<bool> {
    match stream {
        Stream::Tls(stream) => Some(stream.connection().handshake_kind() == Some(HandshakeKind::Resumed)),
        Stream::Fresh(_) | Stream::Tcp(_) | Stream::Unix(_) | Stream::Http2(_) | Stream::Taken => None,
    }
}
