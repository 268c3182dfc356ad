//! TLS for connections that are held: any certificate is taken, none of the sessions is kept.
//! Does not measure; the handshake blocks.

use crate::failure::{Fallible, failure};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

/// A connection with TLS.
pub(super) type SecureStream = StreamOwned<ClientConnection, TcpStream>;

/// The only protocols that are offered.
pub(super) const HTTP2: &[u8] = b"h2";
pub(super) const HTTP1: &[u8] = b"http/1.1";

/// `GET /` of `localhost` as the first request of a connection: preface, settings, a head without a table (RFC 7541).
const ASK: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x0e\x01\x05\0\0\0\x01\x82\x87\x01\x09localhost\x84";
/// Types of frames, and the flag that ends a stream.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const END_STREAM: u8 = 1;

/// Who is connected to does not matter here; what it costs does.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// The settings of all connections that offer this protocol.
pub(super) fn config(protocol: &[u8]) -> Fallible<Arc<ClientConfig>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder
        .with_safe_default_protocol_versions()
        .map_err(|error| failure(error.to_string()))?
        .dangerous();
    let mut config =
        builder.with_custom_certificate_verifier(Arc::new(Anyone(provider))).with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// Makes TLS of a connection; the handshake is made by the first write.
pub(super) fn begin(config: &Arc<ClientConfig>, stream: TcpStream) -> Fallible<SecureStream> {
    let name = ServerName::try_from("localhost").map_err(|error| failure(error.to_string()))?;
    Ok(StreamOwned::new(
        ClientConnection::new(Arc::clone(config), name).map_err(|error| failure(error.to_string()))?,
        stream,
    ))
}

/// One request of HTTP/2, its answer read to its end.
pub(super) fn ask_http2(stream: &mut SecureStream) -> Fallible<()> {
    stream.write_all(ASK)?;
    stream.flush()?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        let mut payload =
            vec![0; usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2])];
        stream.read_exact(&mut payload)?;
        let is_answer = matches!(head[3], DATA | HEADERS) && head[8] == 1;
        // The byte for status 200 stands first (RFC 7541 appendix A).
        if is_answer && head[3] == HEADERS && payload.first() != Some(&0x88) {
            return Err(failure("not a 200 on HTTP/2"));
        }
        if is_answer && head[4] & END_STREAM != 0 {
            return Ok(());
        }
    }
}
