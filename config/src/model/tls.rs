//! What a listener says about TLS: paths and rules, never a key. The router reads the files; nothing here does.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// TLS on a listener. Paths are as written; a relative one goes by the directory of the process file.
#[derive(Debug, Clone, PartialEq)]
pub struct ListenerTls {
    /// Where its certificates are; the first one found is the default. Not empty.
    pub certificates: Vec<CertificateSource>,
    /// What a client gets that asks for a name no certificate covers.
    pub unknown_name: UnknownName,
    /// The oldest version spoken.
    pub min_version: TlsVersion,
    /// File with the keys of session tickets, shared between routers; none means keys of the process's own.
    pub ticket_keys: Option<PathBuf>,
    /// From accept to the end of the handshake. Default 10 s.
    pub handshake_deadline: Duration,
    /// Handshakes in progress on one worker, above which new connections are reset. Default 4096.
    pub max_handshakes: u32,
    /// Certificates of clients; none means that they are not asked for any.
    pub client_auth: Option<ClientAuth>,
    /// Value of `Strict-Transport-Security` on every response.
    pub hsts: Option<Arc<str>>,
}

/// Where certificates come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateSource {
    /// A chain and its key.
    Pair {
        /// PEM file with the certificate and what links it to its authority.
        cert: PathBuf,
        /// PEM file with the private key.
        key: PathBuf,
    },
    /// A directory: `NAME.pem` or `NAME.crt`, each beside `NAME.key`. `default` comes first, the others by name.
    Directory(PathBuf),
}

/// What a client gets that asks for a name no certificate covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnknownName {
    /// The default certificate.
    #[default]
    Default,
    /// The alert `unrecognized_name`.
    Refuse,
}

/// How clients prove who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientAuth {
    /// Whether they must.
    pub mode: ClientAuthMode,
    /// PEM file with the authorities that are believed.
    pub ca: PathBuf,
    /// PEM file with the revocation lists of all authorities in the chains.
    pub crl: Option<PathBuf>,
}

/// Whether clients must have a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuthMode {
    /// They are not asked.
    None,
    /// One that is shown is verified.
    Optional,
    /// A handshake without one fails.
    Required,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum TlsVersion {
    /// RFC 5246.
    #[default]
    Tls12,
    /// RFC 8446.
    Tls13,
}
