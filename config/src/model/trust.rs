//! What the process gives to which app, in words: authorities and identities for TLS with endpoints, files of credentials; and
//! what a cluster believes and shows. Paths and
//! names, never a key. The router reads the files; nothing here does.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::names::{AppName, TrustName};

/// Authorities and identities that the process gives to apps, by name. Relative paths go by the directory of the process file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrustSources {
    /// Authorities (`[ca.NAME]`).
    pub authorities: BTreeMap<TrustName, AuthoritySource>,
    /// Identities (`[identity.NAME]`).
    pub identities: BTreeMap<TrustName, IdentitySource>,
    /// Users with hashes of their passwords (`[users.NAME]`).
    pub users: BTreeMap<TrustName, SecretFile>,
    /// Hashes of keys of programs (`[api_keys.NAME]`).
    pub api_keys: BTreeMap<TrustName, SecretFile>,
    /// Keys of the marks that clients carry (`[affinity_key.NAME]`).
    pub affinity_keys: BTreeMap<TrustName, SecretFile>,
    /// Who signs tokens (`[jwt.NAME]`).
    pub issuers: BTreeMap<TrustName, TokenIssuer>,
    /// Stores through which routers share limits (`[store.NAME]`).
    pub stores: BTreeMap<TrustName, StoreSource>,
}

/// A Redis that routers share limits through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSource {
    /// Where it is.
    pub address: StoreAddress,
    /// Number of its database.
    pub database: u32,
    /// Who asks; none means the default user.
    pub user: Option<Arc<str>>,
    /// The file with the password.
    pub password_file: Option<PathBuf>,
    /// Routers that share it, as long as the store has not said how many there are.
    pub routers: u32,
    /// The apps whose limits may name it, beside `default`.
    pub apps: Vec<AppName>,
}

/// Where a store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreAddress {
    /// A host, which may be a name, and a port.
    Tcp(Arc<str>, u16),
    /// A unix socket.
    Unix(PathBuf),
}

/// Who signs tokens, and what tokens must say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenIssuer {
    /// Where its keys are.
    pub keys: KeySource,
    /// What `iss` must be.
    pub issuer: Arc<str>,
    /// What `aud` must be one of, or hold; none means that it is not looked at.
    pub audience: Option<Vec<Arc<str>>>,
    /// Algorithms that are taken, all with public keys or all with shared ones. Not empty.
    pub algorithms: Vec<TokenAlgorithm>,
    /// How far clocks may differ.
    pub leeway: Duration,
    /// The apps whose routes may use it, beside `default`.
    pub apps: Vec<AppName>,
}

/// Where a set of keys (RFC 7517) is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A file.
    File(PathBuf),
    /// Asked for in the background.
    Url {
        /// `http` or `https`.
        url: Arc<str>,
        /// Authorities that its server is believed by; none means those of the web.
        ca: Option<TrustName>,
    },
}

/// How a token is signed (RFC 7518, RFC 8037). `none` is not among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenAlgorithm {
    /// RSA with PKCS #1 padding.
    Rs256,
    /// With SHA-384.
    Rs384,
    /// With SHA-512.
    Rs512,
    /// RSA with PSS padding.
    Ps256,
    /// With SHA-384.
    Ps384,
    /// With SHA-512.
    Ps512,
    /// ECDSA on P-256.
    Es256,
    /// ECDSA on P-384.
    Es384,
    /// Ed25519.
    EdDsa,
    /// A shared secret with SHA-256.
    Hs256,
    /// With SHA-384.
    Hs384,
    /// With SHA-512.
    Hs512,
}

impl TokenAlgorithm {
    /// All, with the words that tokens use.
    pub const WORDS: &'static [(&'static str, Self)] = &[
        ("RS256", Self::Rs256),
        ("RS384", Self::Rs384),
        ("RS512", Self::Rs512),
        ("PS256", Self::Ps256),
        ("PS384", Self::Ps384),
        ("PS512", Self::Ps512),
        ("ES256", Self::Es256),
        ("ES384", Self::Es384),
        ("EdDSA", Self::EdDsa),
        ("HS256", Self::Hs256),
        ("HS384", Self::Hs384),
        ("HS512", Self::Hs512),
    ];

    /// Whether who verifies could sign as well.
    pub fn is_shared(self) -> bool {
        matches!(self, Self::Hs256 | Self::Hs384 | Self::Hs512)
    }
}

/// A file of credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretFile {
    /// Where it is.
    pub file: PathBuf,
    /// The apps whose routes may use it, beside `default`.
    pub apps: Vec<AppName>,
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
