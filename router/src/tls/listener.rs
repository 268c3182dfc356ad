//! What a worker needs of a TLS listener: the settings of handshakes and the certificates. Does not load or watch.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use ekiden_config::model::{ListenerTls, TlsVersion, UnknownName};
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, ServerConfig};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};

use super::ALPN;
use super::clients::ClientTrust;
use super::store::{Index, Slot};
use super::tickets::Tickets;

/// The certificates of a listener. Stored by the hub alone; read without a lock.
pub type Certificates = Arc<ArcSwap<Index>>;

/// TLS of one listener, as workers use it.
#[derive(Debug)]
pub struct TlsListener {
    /// Its settings as validated.
    pub settings: Arc<ListenerTls>,
    /// Settings of handshakes.
    pub config: Arc<ServerConfig>,
    certificates: Certificates,
}

/// What a name in a handshake leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// There is a certificate for it, or it gets the default one.
    Served,
    /// It is refused.
    Refused,
}

impl TlsListener {
    /// TLS with these settings and certificates.
    ///
    /// # Errors
    /// The provider has nothing for the settings.
    pub fn new(
        settings: &Arc<ListenerTls>,
        certificates: &Certificates,
        tickets: Arc<Tickets>,
        clients: Option<&ClientTrust>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, rustls::Error> {
        let versions: &[_] = match settings.min_version {
            TlsVersion::Tls12 => &[&TLS13, &TLS12],
            TlsVersion::Tls13 => &[&TLS13],
        };
        let resolver = Resolver { certificates: Arc::clone(certificates), unknown: settings.unknown_name };
        let builder =
            ServerConfig::builder_with_provider(Arc::clone(provider)).with_protocol_versions(versions)?;
        let builder = match clients {
            Some(trust) => builder.with_client_cert_verifier(Arc::clone(&trust.verifier)),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = ALPN.iter().map(|protocol| protocol.to_vec()).collect();
        // Sessions live in tickets alone: nothing to lock, nothing to bound.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = tickets;
        Ok(Self {
            settings: Arc::clone(settings),
            config: Arc::new(config),
            certificates: Arc::clone(certificates),
        })
    }

    /// The certificates now.
    pub fn index(&self) -> Guard<Arc<Index>> {
        self.certificates.load()
    }

    /// What becomes of a handshake that names this host, or none.
    pub fn judge(&self, name: Option<&str>) -> Known {
        let refused = self.settings.unknown_name == UnknownName::Refuse
            && name.is_some_and(|name| self.index().find(name).is_none());
        if refused { Known::Refused } else { Known::Served }
    }
}

/// The certificates for the name of a handshake.
pub fn slot_for<'a>(index: &'a Index, name: Option<&str>) -> &'a Slot {
    name.and_then(|name| index.find(name)).unwrap_or_else(|| index.default_slot())
}

#[derive(Debug)]
struct Resolver {
    certificates: Certificates,
    unknown: UnknownName,
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let index = self.certificates.load();
        let slot = match hello.server_name() {
            Some(name) if self.unknown == UnknownName::Refuse => index.find(name)?,
            name => slot_for(&index, name),
        };
        slot.choose(hello.signature_schemes()).map(|certificate| Arc::clone(&certificate.key))
    }
}
