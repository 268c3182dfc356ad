//! Certificates made by the test, and TLS clients that trust them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{fs, io};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, RevokedCertParams, RsaKeySize, SanType, SerialNumber,
};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ProtocolVersion, RootCertStore, SupportedProtocolVersion, version};

use crate::Client;

static SERIALS: AtomicU64 = AtomicU64::new(1);

/// An authority that tests trust.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate.
    pub pem: String,
}

/// A certificate and its key, as PEM.
#[derive(Debug, Clone)]
pub struct Made {
    /// The chain.
    pub cert: String,
    /// The key.
    pub key: String,
    /// Its number at the authority.
    pub serial: u64,
}

/// What kind of key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// P-256.
    Ecdsa,
    /// 2048 bits.
    Rsa,
}

/// When a certificate holds, in days from today.
#[derive(Debug, Clone, Copy)]
pub struct Life(pub i64, pub i64);

impl Default for Life {
    fn default() -> Self {
        Life(-1, 365)
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority {
    /// A new one.
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(rcgen::DnType::CommonName, "Test authority");
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for these names.
    pub fn make(&self, names: &[&str]) -> Made {
        self.make_as(names, Kind::Ecdsa, Life::default())
    }

    /// A certificate of a kind and life.
    pub fn make_as(&self, names: &[&str], kind: Kind, life: Life) -> Made {
        let key = match kind {
            Kind::Ecdsa => KeyPair::generate().unwrap(),
            Kind::Rsa => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap(),
        };
        self.make_with(names, &key, life)
    }

    /// A certificate for a key that is there.
    pub fn make_with(&self, names: &[&str], key: &KeyPair, life: Life) -> Made {
        // What has a scheme is a URI.
        let (uris, names): (Vec<_>, Vec<_>) = names.iter().copied().partition(|name| name.contains("://"));
        let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.subject_alt_names.extend(uris.into_iter().map(|uri| SanType::URI(uri.try_into().unwrap())));
        let date = |offset| {
            let (year, month, day) = civil(today() + offset);
            rcgen::date_time_ymd(year, month, day)
        };
        (params.not_before, params.not_after) = (date(life.0), date(life.1));
        let serial = SERIALS.fetch_add(1, Ordering::Relaxed);
        params.serial_number = Some(SerialNumber::from(serial));
        // Strict verifiers ask for it.
        params.use_authority_key_identifier_extension = true;
        let cert = params.signed_by(key, &self.issuer).unwrap();
        Made { cert: cert.pem(), key: key.serialize_pem(), serial }
    }

    /// A revocation list with these certificates.
    pub fn revoke(&self, revoked: &[&Made]) -> String {
        let date = |offset| {
            let (year, month, day) = civil(today() + offset);
            rcgen::date_time_ymd(year, month, day)
        };
        let one = |made: &&Made| RevokedCertParams {
            serial_number: SerialNumber::from(made.serial),
            revocation_time: date(-1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date(-1),
            next_update: date(30),
            crl_number: SerialNumber::from(SERIALS.fetch_add(1, Ordering::Relaxed)),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(one).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    /// A client configuration that trusts this authority alone.
    pub fn trusting(&self) -> Trusting {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        Trusting { roots: Arc::new(roots), provider: rustls::crypto::aws_lc_rs::default_provider() }
    }
}

impl Made {
    /// Writes `STEM.pem` and `STEM.key` into a directory, each replaced in one step.
    pub fn write(&self, dir: &Path, stem: &str) -> (PathBuf, PathBuf) {
        let (cert, key) = (dir.join(format!("{stem}.pem")), dir.join(format!("{stem}.key")));
        for (path, text) in [(&key, &self.key), (&cert, &self.cert)] {
            let fresh = path.with_extension("fresh");
            fs::write(&fresh, text).unwrap();
            fs::rename(fresh, path).unwrap();
        }
        (cert, key)
    }
}

/// Clients of one trust; settings as public fields of what [`Trusting::config`] gives.
#[derive(Debug, Clone)]
pub struct Trusting {
    roots: Arc<RootCertStore>,
    /// Algorithms offered.
    pub provider: CryptoProvider,
}

impl Trusting {
    /// A configuration that speaks these versions.
    pub fn config(&self, versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
        let config = ClientConfig::builder_with_provider(Arc::new(self.provider.clone()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(Arc::clone(&self.roots))
            .with_no_client_auth();
        Arc::new(config)
    }

    /// A configuration that speaks one version.
    pub fn only(&self, version: ProtocolVersion) -> Arc<ClientConfig> {
        match version {
            ProtocolVersion::TLSv1_2 => self.config(&[&version::TLS12]),
            _ => self.config(&[&version::TLS13]),
        }
    }

    /// A configuration of one version that shows a certificate.
    pub fn showing(&self, version: ProtocolVersion, made: &Made) -> Arc<ClientConfig> {
        let versions: &[_] =
            if version == ProtocolVersion::TLSv1_2 { &[&version::TLS12] } else { &[&version::TLS13] };
        let chain = CertificateDer::pem_slice_iter(made.cert.as_bytes()).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(made.key.as_bytes()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(self.provider.clone()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(Arc::clone(&self.roots))
            .with_client_auth_cert(chain, key)
            .unwrap();
        Arc::new(config)
    }

    /// A connection that names a host, with every version offered.
    ///
    /// # Errors
    /// The handshake failed.
    pub fn connect(&self, address: SocketAddr, name: &str) -> io::Result<Client> {
        let config = self.config(&[&version::TLS13, &version::TLS12]);
        Client::secure(address, ServerName::try_from(name.to_owned()).unwrap(), &config)
    }
}

/// Days since the Unix epoch.
pub fn today() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(now.as_secs() / 86_400).unwrap()
}

/// Year, month and day of a number of days since the Unix epoch (Howard Hinnant's `civil_from_days`).
fn civil(days: i64) -> (i32, u8, u8) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let date = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (i32::try_from(year).unwrap(), u8::try_from(month).unwrap(), u8::try_from(date).unwrap())
}
