//! Who is believed on the link: both sides show a certificate that the other's authority vouches for, over TLS 1.3. The name in a
//! router's certificate is its name in the fleet.
//!
//! Reads the files anew when they have changed, so that a renewed certificate needs no restart.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ekiden_config::model::{Fleet, San, TrustSources};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use x509_parser::extensions::GeneralName;

/// What is negotiated: HTTP/2 and nothing else.
const ALPN: &[u8] = b"h2";

/// The files of one side.
#[derive(Debug, Clone)]
pub(super) struct Files {
    cert: PathBuf,
    key: PathBuf,
    ca: PathBuf,
}

/// What tells one version of the files from another.
type Marks = [Option<(u64, i64, i64, u64)>; 3];

impl Files {
    /// As the process file names them; none when the link is plain. Relative paths go by `base`.
    pub(super) fn of(fleet: &Fleet, trust: &TrustSources, base: &Path) -> Option<Self> {
        let pair = &trust.identities.get(fleet.identity.as_ref()?)?.pair;
        let ca = &trust.authorities.get(fleet.ca.as_ref()?)?.file;
        Some(Self { cert: base.join(&pair.cert), key: base.join(&pair.key), ca: base.join(ca) })
    }

    fn marks(&self) -> Marks {
        [&self.cert, &self.key, &self.ca].map(|path| {
            let meta = fs::metadata(path).ok()?;
            Some((meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.size()))
        })
    }

    fn chain(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
        let chain = certificates(&self.cert)?;
        Ok((chain, private_key(&self.key)?))
    }

    fn roots(&self) -> Result<RootCertStore, String> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.ca)? {
            roots.add(certificate).map_err(|error| format!("{}: {error}", self.ca.display()))?;
        }
        Ok(roots)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// The key in a PEM file.
pub(crate) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let text = read(path)?;
    PrivateKeyDer::from_pem_slice(&text)
        .map_err(|error| format!("{}: no private key: {error}", path.display()))
}

/// The certificates in a PEM file; at least one.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = read(path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let all = all.map_err(|error| format!("{}: {error}", path.display()))?;
    if all.is_empty() {
        return Err(format!("{} holds no certificate", path.display()));
    }
    Ok(all)
}

/// One side's TLS settings, made again when its files have changed.
#[derive(Debug)]
pub(super) struct Settings<T> {
    files: Files,
    made: Option<(Marks, Arc<T>)>,
}

impl<T> Settings<T> {
    /// Of these files, not read yet.
    pub(super) fn new(files: Files) -> Self {
        Self { files, made: None }
    }

    /// Blocking, for the time of reading three small files when they have changed. Files that cannot be used leave the settings before
    /// them in force, loudly.
    fn renewed(&mut self, make: impl Fn(&Files) -> Result<T, String>) -> Result<Arc<T>, String> {
        let marks = self.files.marks();
        if let Some((known, settings)) = &self.made
            && *known == marks
        {
            return Ok(Arc::clone(settings));
        }
        match (make(&self.files), &mut self.made) {
            (Ok(settings), made) => {
                let settings = Arc::new(settings);
                *made = Some((marks, Arc::clone(&settings)));
                Ok(settings)
            }
            (Err(error), Some((known, settings))) => {
                tracing::error!(%error, "the certificates of the link cannot be read; those before them are used on");
                *known = marks;
                Ok(Arc::clone(settings))
            }
            (Err(error), None) => Err(error),
        }
    }
}

impl Settings<ServerConfig> {
    /// Control's side: a router must show a certificate.
    pub(super) fn server(&mut self) -> Result<Arc<ServerConfig>, String> {
        self.renewed(|files| {
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(files.roots()?), Arc::clone(&provider));
            let verifier = verifier.build().map_err(|error| error.to_string())?;
            let (chain, key) = files.chain()?;
            let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13]);
            let builder = builder.map_err(|error| error.to_string())?.with_client_cert_verifier(verifier);
            let mut settings = builder.with_single_cert(chain, key).map_err(|error| error.to_string())?;
            settings.alpn_protocols = vec![ALPN.to_vec()];
            Ok(settings)
        })
    }
}

impl Settings<ClientConfig> {
    /// A router's side.
    pub(super) fn client(&mut self) -> Result<Arc<ClientConfig>, String> {
        self.renewed(|files| {
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let (chain, key) = files.chain()?;
            let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13]);
            let builder = builder.map_err(|error| error.to_string())?.with_root_certificates(files.roots()?);
            let mut settings =
                builder.with_client_auth_cert(chain, key).map_err(|error| error.to_string())?;
            settings.alpn_protocols = vec![ALPN.to_vec()];
            Ok(settings)
        })
    }
}

/// The name of a router by its certificate: its first name, URIs before hosts, if the list allows one of them.
pub(super) fn identity(certificate: &CertificateDer<'_>, allowed: &[San]) -> Result<String, String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate)
        .map_err(|error| format!("its certificate cannot be read: {error}"))?;
    let names = parsed.subject_alternative_name().ok().flatten();
    let mut found: Vec<San> = Vec::new();
    for name in names.into_iter().flat_map(|names| &names.value.general_names) {
        match name {
            GeneralName::URI(uri) => found.push(San::Uri(Arc::from(*uri))),
            GeneralName::DNSName(host) => found.push(San::Dns(Arc::from(host.to_ascii_lowercase()))),
            _ => {}
        }
    }
    found.sort_by_key(|name| matches!(name, San::Dns(_)));
    let Some(first) = found.first() else {
        return Err("its certificate names neither a URI nor a host".to_owned());
    };
    let text = match first {
        San::Uri(text) | San::Dns(text) => text.to_string(),
    };
    if !allowed.is_empty() && !found.iter().any(|name| allowed.contains(name)) {
        return Err(format!("{text} is not among `fleet.routers`"));
    }
    Ok(text)
}
