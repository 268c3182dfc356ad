//! Files of authorities and identities as they were read last: what is in force, and what is wrong with what is there now.
//!
//! A file that cannot be used keeps what was read of it before. Does not know which cluster uses what.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ekiden_config::model::KeyPair;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::CertifiedKey;

use crate::tls::certificate::{Age, Certificate, Rank};
use crate::tls::files::{self, Mark, Marks, Pair};
use crate::tls::tickets::unix_s;

/// Authorities of one file.
#[derive(Debug)]
pub struct AuthorityFile {
    path: PathBuf,
    mark: Option<Mark>,
    text: Vec<u8>,
    /// What is believed; none when the file could never be used.
    pub roots: Option<Arc<RootCertStore>>,
    /// What is wrong with the file as it is now.
    pub fault: Option<String>,
}

impl AuthorityFile {
    /// Reads a file for the first time.
    pub fn new(path: PathBuf) -> Self {
        let mut file = Self { path, mark: None, text: Vec::new(), roots: None, fault: None };
        file.refresh(true);
        file
    }

    /// Reads the file again if it changed, or in any case. True when something else is believed now.
    pub fn refresh(&mut self, always: bool) -> bool {
        let mark = files::mark(&self.path);
        if !always && mark == self.mark {
            return false;
        }
        self.mark = mark;
        match authorities(&self.path) {
            Ok((text, roots)) => {
                self.fault = None;
                let changed = self.roots.is_none() || text != self.text;
                if changed {
                    (self.text, self.roots) = (text, Some(Arc::new(roots)));
                }
                changed
            }
            Err(reason) => {
                self.fault = Some(reason);
                false
            }
        }
    }
}

/// Reads the authorities of a PEM file.
///
/// # Errors
/// The file with what is wrong with it.
pub fn authorities(path: &Path) -> Result<(Vec<u8>, RootCertStore), String> {
    let (text, shown) = (files::read(path).map_err(|fault| fault.to_string())?, path.display());
    let mut roots = RootCertStore::empty();
    for one in CertificateDer::pem_slice_iter(&text) {
        let one = one.map_err(|error| format!("{shown}: an authority cannot be read: {error}"))?;
        roots.add(one).map_err(|error| format!("{shown}: an authority cannot be used: {error}"))?;
    }
    if roots.is_empty() {
        return Err(format!("{shown}: it holds no authority in PEM form (`-----BEGIN CERTIFICATE-----`)"));
    }
    Ok((text, roots))
}

/// The authorities of the web, as the system has them.
///
/// # Errors
/// It has none.
pub fn web() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (_, unusable) = roots.add_parsable_certificates(found.certs);
    if unusable > 0 {
        tracing::debug!(unusable, "some authorities of the system cannot be used");
    }
    if !roots.is_empty() {
        return Ok(roots);
    }
    let why: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
    let why = if why.is_empty() { "none was found".to_owned() } else { why.join("; ") };
    Err(format!(
        "the system has no authorities of the web ({why}): install them (`ca-certificates`), or name a file with `ca`"
    ))
}

/// One identity.
#[derive(Debug)]
pub struct IdentityFile {
    /// Its files.
    pub pair: Pair,
    marks: Marks,
    /// What is shown; none when the files could never be used.
    pub key: Option<Arc<CertifiedKey>>,
    /// Last second of what is shown.
    pub not_after: Option<i64>,
    /// What is wrong with the files as they are now.
    pub fault: Option<String>,
}

impl IdentityFile {
    /// Reads a pair for the first time.
    pub fn new(base: &Path, pair: &KeyPair, provider: &CryptoProvider) -> Self {
        let pair = Pair { cert: base.join(&pair.cert), key: base.join(&pair.key) };
        let mut file = Self { pair, marks: (None, None), key: None, not_after: None, fault: None };
        file.refresh(true, provider);
        file
    }

    /// Reads the files again if they changed, or in any case. True when something else is shown now.
    pub fn refresh(&mut self, always: bool, provider: &CryptoProvider) -> bool {
        let marks = files::marks(&self.pair);
        if !always && marks == self.marks {
            return false;
        }
        self.marks = marks;
        let shown = self.pair.cert.display().to_string();
        match identity(&self.pair, provider) {
            Ok(new) if self.not_after.is_some_and(|old| old > unix_s()) && new.not_after <= unix_s() => {
                self.fault = Some(format!("{shown}: the certificate has expired"));
                false
            }
            Ok(new) => {
                self.fault = None;
                if self.key.as_ref().is_some_and(|old| old.cert == new.key.cert) {
                    return false;
                }
                match new.age(unix_s()) {
                    Age::Good => {}
                    age => tracing::warn!(file = %shown, "identity for endpoints: {age}"),
                }
                (self.key, self.not_after) = (Some(new.key), Some(new.not_after));
                true
            }
            Err(reason) => {
                self.fault = Some(reason);
                false
            }
        }
    }

    /// The files with their versions now.
    pub fn look(&self) -> [(PathBuf, Option<Mark>); 2] {
        let marks = files::marks(&self.pair);
        [(self.pair.cert.clone(), marks.0), (self.pair.key.clone(), marks.1)]
    }
}

/// Reads an identity.
///
/// # Errors
/// The file with what is wrong with it.
pub fn identity(pair: &Pair, provider: &CryptoProvider) -> Result<Certificate, String> {
    let read = || {
        let (cert, key) = (files::read(&pair.cert)?, files::read(&pair.key)?);
        let rank = Rank { source: 0, ordinary: false, stem: "".into() };
        // Endpoints judge the names; one of SPIFFE has a URI and no host.
        Certificate::of_any_name(&cert, &key, rank, provider)
    };
    read().map_err(|fault| format!("{}: {fault}", pair.cert.display()))
}
