//! An endpoint that speaks TLS: answers every request with what the handshake was like.
//!
//! Blocking threads, one per connection. For what real servers do not tell, or cannot be made to do.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    HandshakeKind, ProtocolVersion, RootCertStore, ServerConfig, ServerConnection, StreamOwned, version,
};

use crate::{Authority, Made};

/// A connection with the router.
pub type SecureConn = StreamOwned<ServerConnection, TcpStream>;

/// A running endpoint.
#[derive(Debug)]
pub struct SecureOrigin {
    /// Where it listens.
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

/// Settings of an endpoint that has this certificate and asks clients for one of `clients`, if any.
pub fn server_config(
    made: &Made,
    clients: Option<&Authority>,
    version: Option<ProtocolVersion>,
) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions: &[_] = match version {
        None => &[&version::TLS13, &version::TLS12],
        Some(ProtocolVersion::TLSv1_2) => &[&version::TLS12],
        Some(_) => &[&version::TLS13],
    };
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions).unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let chain = CertificateDer::pem_slice_iter(made.cert.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(made.key.as_bytes()).unwrap();
    builder.with_single_cert(chain, key).unwrap()
}

impl SecureOrigin {
    /// An endpoint that answers with `name=SNI peer=BYTES kind=KIND connection=NUMBER` and keeps its connections.
    pub fn start(config: ServerConfig) -> Self {
        Self::with(config, |stream, number| {
            while head(stream).is_some() {
                let tls = &stream.conn;
                let peer = tls.peer_certificates().map_or(0, |chain| chain[0].len());
                let kind = match tls.handshake_kind() {
                    Some(HandshakeKind::Resumed) => "resumed",
                    _ => "full",
                };
                let name = tls.server_name().unwrap_or("-").to_owned();
                let body = format!("name={name} peer={peer} kind={kind} connection={number}");
                let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                if stream.write_all(text.as_bytes()).is_err() {
                    return;
                }
            }
        })
    }

    /// An endpoint that does this on each connection, which has a number from 1; then the socket closes.
    pub fn with(
        config: ServerConfig,
        serve: impl Fn(&mut SecureConn, usize) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, stop) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (count, stopped, config, serve) =
            (Arc::clone(&connections), Arc::clone(&stop), Arc::new(config), Arc::new(serve));
        thread::spawn(move || {
            for socket in listener.incoming() {
                if stopped.load(Ordering::Acquire) {
                    return;
                }
                let Ok(socket) = socket else { continue };
                let number = count.fetch_add(1, Ordering::AcqRel) + 1;
                let (config, serve) = (Arc::clone(&config), Arc::clone(&serve));
                thread::spawn(move || {
                    let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), socket);
                    serve(&mut stream, number);
                });
            }
        });
        Self { address, connections, stop }
    }

    /// Connections taken so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Acquire)
    }
}

impl Drop for SecureOrigin {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let _wakes_the_acceptor = TcpStream::connect(self.address);
    }
}

/// Reads a request head; none when the connection ends.
pub fn head(stream: &mut SecureConn) -> Option<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return None,
        }
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}
