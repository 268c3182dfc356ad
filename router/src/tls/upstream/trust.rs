//! What the connections of one cluster are made with: settings of handshakes, their sessions, the name asked for.
//!
//! Never changed: another one takes its place, and this one is retired. Does not load files (`trusts` does) and does not
//! connect.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ekiden_config::model::{Address, ClusterTls, Verify};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, SignatureScheme};

use super::verify::{Demand, Verifier};

/// Server names whose sessions are kept for resumption, per trust. Endpoints behind one name share its sessions.
const SESSIONS: usize = 64;
/// Least time between two lines of log about failed handshakes of one trust, in milliseconds.
const TOLD_EVERY_MS: u64 = 1_000;

/// TLS of one cluster with its endpoints.
pub struct Trust {
    config: Arc<ClientConfig>,
    name: Option<ServerName<'static>>,
    /// The certificate is judged by other means than the name asked for.
    needs_no_name: bool,
    retired: AtomicBool,
    told_ms: AtomicU64,
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trust")
            .field("name", &self.name)
            .field("retired", &self.retired)
            .finish_non_exhaustive()
    }
}

impl Trust {
    /// What these words mean with these authorities and this identity.
    ///
    /// # Errors
    /// The provider has nothing for the settings, or the name is none.
    pub fn new(
        words: &ClusterTls,
        roots: Option<Arc<RootCertStore>>,
        identity: Option<Arc<CertifiedKey>>,
        alpn: &[&[u8]],
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, String> {
        let demand = match (words.verify, roots) {
            (Verify::InsecureNone, _) => Demand::Nothing,
            (Verify::Full, None) => return Err("there is no authority to believe".to_owned()),
            (Verify::Full, Some(roots)) if words.san.is_empty() => Demand::Name(roots),
            (Verify::Full, Some(roots)) => Demand::AnyOf(roots, words.san.clone()),
        };
        let needs_no_name = !matches!(demand, Demand::Name(_));
        let verifier = Arc::new(Verifier::new(demand, Arc::clone(provider)));
        let builder = ClientConfig::builder_with_provider(Arc::clone(provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS cannot be set up: {error}"))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match identity {
            Some(key) => builder.with_client_cert_resolver(Arc::new(Shown(key))),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        let name = match &words.name {
            Some(name) => Some(
                ServerName::try_from(name.to_string())
                    .map_err(|_| format!("`{name}` is not a name that TLS can ask for"))?,
            ),
            None => None,
        };
        Ok(Self {
            config: Arc::new(config),
            name,
            needs_no_name,
            retired: AtomicBool::new(false),
            told_ms: AtomicU64::new(0),
        })
    }

    /// Settings of handshakes.
    pub fn config(&self) -> &Arc<ClientConfig> {
        &self.config
    }

    /// The name that an endpoint is asked for: as configured, else the DNS name of the endpoint, else its address. None for
    /// one that has none of these and must have a name.
    pub fn server_name(&self, address: &Address, dns_name: Option<&str>) -> Option<ServerName<'static>> {
        if let Some(name) = &self.name {
            return Some(name.clone());
        }
        if let Some(name) = dns_name {
            return ServerName::try_from(name.to_owned()).ok();
        }
        match address {
            Address::Tcp(address) => Some(ServerName::from(address.ip().to_canonical())),
            // An address is asked for without being named.
            Address::Unix(_) if self.needs_no_name => {
                Some(ServerName::from(IpAddr::V4(Ipv4Addr::UNSPECIFIED)))
            }
            Address::Unix(_) => None,
        }
    }

    /// Whether another trust has taken its place: its connections are not used for another request.
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// Another trust takes its place.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    /// Whether a failed handshake may be told in the log now; so that a broken endpoint does not fill it.
    pub fn may_tell(&self, now_ms: u64) -> bool {
        let told_ms = self.told_ms.load(Ordering::Relaxed);
        let due = told_ms == 0 || now_ms >= told_ms.saturating_add(TOLD_EVERY_MS);
        // One past, so that a worker whose clock stands at zero has told something too.
        due && self
            .told_ms
            .compare_exchange(told_ms, now_ms.max(1), Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }
}

/// The one certificate that is shown.
#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        // Endpoints that take no signature of this key get no certificate, and say themselves what they miss.
        self.0.key.choose_scheme(schemes).map(|_| Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}
