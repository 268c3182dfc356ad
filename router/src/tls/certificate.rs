//! A certificate with its key, as loaded from two PEM texts: the names it covers, how long it holds. Does no I/O.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, SignatureAlgorithm};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Certificates in one chain at most.
const CHAIN_MAX: usize = 16;
/// Names of one certificate at most; more are left out, which real certificates do not have.
const NAMES_MAX: usize = 1_000;

/// A certificate that can be served.
#[derive(Debug)]
pub struct Certificate {
    /// Chain and key.
    pub key: Arc<CertifiedKey>,
    /// Names it covers, in lower case: DNS names, `*.suffix`, IP addresses as text.
    pub names: Box<[Box<str>]>,
    /// First second of its life, Unix time.
    pub not_before: i64,
    /// Last second of its life, Unix time.
    pub not_after: i64,
    /// Where it stands among the certificates of its listener; the least is the default.
    pub rank: Rank,
}

/// The place of a certificate among others: source in the list, then `default`, then by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// Number of the source as written.
    pub source: u32,
    /// Not the one named `default`.
    pub ordinary: bool,
    /// Stem of its files; empty outside of a directory.
    pub stem: Box<str>,
}

/// Why a pair of files gives no certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The certificate file holds no PEM certificate.
    NoCertificate,
    /// The chain is longer than anyone's.
    ChainTooLong,
    /// The certificate cannot be read.
    BadCertificate(String),
    /// The key file holds no PEM key.
    NoKey,
    /// The key is encrypted.
    EncryptedKey,
    /// The key cannot be used.
    BadKey(String),
    /// The key is not that of the certificate.
    Mismatch,
    /// The certificate covers no name at all.
    NoName,
    /// A file cannot be read.
    Unreadable(String),
}

/// How a certificate stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    /// Nothing is to be said.
    Good,
    /// It ends within [`SOON_S`]; whole days left.
    Ending(i64),
    /// It has ended.
    Expired,
    /// It has not begun.
    Early,
}

/// A certificate that ends within so many seconds is warned of.
pub const SOON_S: i64 = 14 * 24 * 3600;

impl std::fmt::Display for Age {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Age::Good => f.write_str("the certificate is valid"),
            Age::Ending(0) => f.write_str("the certificate expires within a day"),
            Age::Ending(1) => f.write_str("the certificate expires in 1 day"),
            Age::Ending(days) => write!(f, "the certificate expires in {days} days"),
            Age::Expired => f.write_str("the certificate has expired"),
            Age::Early => f.write_str("the certificate is not valid yet"),
        }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Fault::NoCertificate => {
                f.write_str("it holds no certificate in PEM form (`-----BEGIN CERTIFICATE-----`)")
            }
            Fault::ChainTooLong => write!(f, "its chain has more than {CHAIN_MAX} certificates"),
            Fault::BadCertificate(why) => write!(f, "its certificate cannot be read: {why}"),
            Fault::NoKey => {
                f.write_str("the key file holds no private key in PEM form (`-----BEGIN PRIVATE KEY-----`)")
            }
            Fault::EncryptedKey => f.write_str("the key is encrypted; decrypt it with `openssl pkey`"),
            Fault::BadKey(why) => write!(f, "the key cannot be used: {why}"),
            Fault::Mismatch => f.write_str("the key is not the key of the certificate"),
            Fault::NoName => f.write_str(
                "the certificate covers no name: it has neither a subjectAltName nor a common name",
            ),
            Fault::Unreadable(why) => f.write_str(why),
        }
    }
}

impl Certificate {
    /// Makes one of two PEM texts. The first certificate is the one served, the others link it to its authority.
    ///
    /// # Errors
    /// What is wrong with the pair.
    pub fn new(cert: &[u8], key: &[u8], rank: Rank, provider: &CryptoProvider) -> Result<Self, Fault> {
        let made = Self::of_any_name(cert, key, rank, provider)?;
        if made.names.is_empty() { Err(Fault::NoName) } else { Ok(made) }
    }

    /// As [`Certificate::new`], for one that need not cover a host.
    ///
    /// # Errors
    /// What is wrong with the pair.
    pub fn of_any_name(
        cert: &[u8],
        key: &[u8],
        rank: Rank,
        provider: &CryptoProvider,
    ) -> Result<Self, Fault> {
        let mut chain = Vec::new();
        for one in CertificateDer::pem_slice_iter(cert) {
            chain.push(one.map_err(|error| Fault::BadCertificate(error.to_string()))?);
            if chain.len() > CHAIN_MAX {
                return Err(Fault::ChainTooLong);
            }
        }
        chain.shrink_to_fit();
        let Some(first) = chain.first() else { return Err(Fault::NoCertificate) };
        let (names, not_before, not_after) = read(first)?;
        let key = read_key(key)?;
        let key = match CertifiedKey::from_der(chain, key, provider) {
            Ok(key) => key,
            Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => return Err(Fault::Mismatch),
            Err(Error::InvalidCertificate(why)) => return Err(Fault::BadCertificate(format!("{why:?}"))),
            Err(error) => return Err(Fault::BadKey(error.to_string())),
        };
        Ok(Self { key: Arc::new(key), names, not_before, not_after, rank })
    }

    /// How it stands in its life.
    pub fn age(&self, now_s: i64) -> Age {
        let left_s = self.not_after.saturating_sub(now_s);
        if left_s <= 0 {
            Age::Expired
        } else if self.not_before > now_s {
            Age::Early
        } else if left_s < SOON_S {
            Age::Ending(left_s / (24 * 3600))
        } else {
            Age::Good
        }
    }

    /// Whether clients should get it before one of another kind: elliptic curves cost a fraction of RSA.
    pub fn is_preferred(&self) -> bool {
        self.key.key.algorithm() != SignatureAlgorithm::RSA
    }

    /// Whether it covers a host in lower case.
    pub fn covers(&self, host: &str) -> bool {
        let wildcard = host.find('.').filter(|dot| *dot > 0).and_then(|dot| host.get(dot..));
        self.names.iter().any(|name| match name.strip_prefix('*') {
            Some(suffix) => wildcard == Some(suffix) && !is_address(host),
            None => **name == *host,
        })
    }
}

fn is_address(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok()
}

fn read_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, Fault> {
    match PrivateKeyDer::from_pem_slice(text) {
        Ok(key) => Ok(key),
        Err(rustls::pki_types::pem::Error::NoItemsFound) => {
            let encrypted = memchr::memmem::find(text, b"ENCRYPTED PRIVATE KEY").is_some();
            Err(if encrypted { Fault::EncryptedKey } else { Fault::NoKey })
        }
        Err(error) => Err(Fault::BadKey(error.to_string())),
    }
}

type Facts = (Box<[Box<str>]>, i64, i64);

fn read(der: &CertificateDer<'_>) -> Result<Facts, Fault> {
    let bad = |why: String| Fault::BadCertificate(why);
    let (_, certificate) = X509Certificate::from_der(der).map_err(|error| bad(error.to_string()))?;
    let alternatives = certificate.subject_alternative_name().map_err(|error| bad(error.to_string()))?;
    let mut names: Vec<Box<str>> = Vec::new();
    match alternatives {
        Some(alternatives) => {
            let found = alternatives.value.general_names.iter().filter_map(alternative);
            names.extend(found.take(NAMES_MAX));
        }
        None => {
            let common = certificate.subject().iter_common_name();
            names.extend(common.filter_map(|name| name.as_str().ok()).filter_map(dns_name));
        }
    }
    names.dedup();
    let validity = certificate.validity();
    Ok((names.into_boxed_slice(), validity.not_before.timestamp(), validity.not_after.timestamp()))
}

fn alternative(name: &GeneralName<'_>) -> Option<Box<str>> {
    match name {
        GeneralName::DNSName(name) => dns_name(name),
        GeneralName::IPAddress(octets) => {
            let address = match octets.len() {
                4 => IpAddr::from(<[u8; 4]>::try_from(*octets).ok()?),
                16 => IpAddr::from(<[u8; 16]>::try_from(*octets).ok()?),
                _ => return None,
            };
            Some(address.to_string().into())
        }
        _ => None,
    }
}

/// A name as it is looked up: lower case, without a final dot, a `*` only as the whole first label.
fn dns_name(name: &str) -> Option<Box<str>> {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let plain = name.strip_prefix("*.").unwrap_or(&name);
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (!plain.is_empty() && plain.bytes().all(good)).then(|| name.into())
}
