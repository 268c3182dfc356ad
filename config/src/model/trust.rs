//! TLS with endpoints, in words: what a cluster believes and shows, and what the process gives to which app. Paths and
//! names, never a key. The router reads the files; nothing here does.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::names::{AppName, TrustName};

/// Authorities and identities that the process gives to apps, by name. Relative paths go by the directory of the process file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrustSources {
    /// Authorities (`[ca.NAME]`).
    pub authorities: BTreeMap<TrustName, AuthoritySource>,
    /// Identities (`[identity.NAME]`).
    pub identities: BTreeMap<TrustName, IdentitySource>,
}

/// Authorities that endpoints may be believed by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthoritySource {
    /// PEM file with their certificates.
    pub file: PathBuf,
    /// The apps that may use them, beside `default`.
    pub apps: Vec<AppName>,
}

/// A certificate that endpoints may be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentitySource {
    /// Its files.
    pub pair: KeyPair,
    /// The apps that may show it, beside `default`.
    pub apps: Vec<AppName>,
}

/// A chain and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPair {
    /// PEM file with the certificate and what links it to its authority.
    pub cert: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
}

/// TLS with the endpoints of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterTls {
    /// Whether certificates of endpoints are verified.
    pub verify: Verify,
    /// Who is believed.
    pub roots: Roots,
    /// The name that endpoints are asked for and must have: a host in lower case, or an address without brackets. None
    /// means the DNS name of the endpoint as written, else its address.
    pub name: Option<Arc<str>>,
    /// Names of which a certificate must have one, in place of `name`. Empty means `name`.
    pub san: Vec<San>,
    /// What endpoints are shown; none means that they are shown nothing.
    pub identity: Option<Credential>,
}

/// Whether certificates of endpoints are verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verify {
    /// Chain, life and name.
    #[default]
    Full,
    /// Nothing: whoever answers at the address is believed.
    InsecureNone,
}

/// Whose certificates are believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roots {
    /// The authorities of the web, as the system has them.
    Web,
    /// An entry of [`TrustSources::authorities`].
    Named(TrustName),
    /// A PEM file. Only in the app `default`.
    File(PathBuf),
}

/// Where what endpoints are shown comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// An entry of [`TrustSources::identities`].
    Named(TrustName),
    /// Two files. Only in the app `default`.
    Files(KeyPair),
}

/// A name that the certificate of an endpoint may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum San {
    /// A host in lower case.
    Dns(Arc<str>),
    /// A URI, compared byte by byte (SPIFFE ID section 2).
    Uri(Arc<str>),
}

/// Whether an app may use an entry that lists these apps. The process file may use all that it holds.
pub fn may_use(app: &AppName, apps: &[AppName]) -> bool {
    *app == AppName::default_app() || apps.contains(app)
}
