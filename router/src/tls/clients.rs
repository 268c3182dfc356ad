//! Certificates of clients: what they are verified with, and what is told of them to endpoints. Does not ask for them
//! (`listener`) and does not write heads.

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest;
use data_encoding::{BASE64, HEXLOWER};
use ekiden_config::model::{ClientAuth, ClientAuthMode};
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::files::{self, Mark};

/// Longest subject and list of names told to endpoints, in bytes; more is left out.
const TOLD_MAX: usize = 4 << 10;

/// What clients are verified with.
#[derive(Debug)]
pub struct ClientTrust {
    /// Verifies chains against authorities and revocation lists.
    pub verifier: Arc<dyn ClientCertVerifier>,
    /// A text that changes with the files; sessions of another one are not resumed.
    pub digest: String,
}

/// The versions of the files now.
pub fn marks(base: &Path, settings: &ClientAuth) -> (Option<Mark>, Option<Mark>) {
    let crl = settings.crl.as_ref().and_then(|crl| files::mark(&base.join(crl)));
    (files::mark(&base.join(&settings.ca)), crl)
}

/// Reads authorities and revocation lists.
///
/// # Errors
/// A file that cannot be used, with the reason.
pub fn load(
    base: &Path,
    settings: &ClientAuth,
    provider: &Arc<CryptoProvider>,
) -> Result<ClientTrust, String> {
    let path = base.join(&settings.ca);
    let (ca, shown) = (files::read(&path).map_err(|fault| fault.to_string())?, path.display());
    let mut roots = RootCertStore::empty();
    for one in CertificateDer::pem_slice_iter(&ca) {
        let one = one.map_err(|error| format!("{shown}: an authority cannot be read: {error}"))?;
        roots.add(one).map_err(|error| format!("{shown}: an authority cannot be used: {error}"))?;
    }
    if roots.is_empty() {
        return Err(format!("{shown}: it holds no authority in PEM form"));
    }
    let mut hash = digest::Context::new(&digest::SHA256);
    hash.update(&ca);
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    if let Some(path) = settings.crl.as_ref().map(|crl| base.join(crl)) {
        let (text, shown) = (files::read(&path).map_err(|fault| fault.to_string())?, path.display());
        let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&text).collect();
        let lists = lists.map_err(|error| format!("{shown}: a revocation list cannot be read: {error}"))?;
        if lists.is_empty() {
            return Err(format!("{shown}: it holds no revocation list in PEM form"));
        }
        builder = builder.with_crls(lists);
        hash.update(b"\0");
        hash.update(&text);
    }
    if settings.mode == ClientAuthMode::Optional {
        builder = builder.allow_unauthenticated();
    }
    let verifier = builder.build().map_err(|error| format!("{shown}: {error}"))?;
    Ok(ClientTrust { verifier, digest: HEXLOWER.encode(hash.finish().as_ref()) })
}

/// Who a client proved to be, in the forms that endpoints are told.
#[derive(Debug)]
pub struct Identity {
    /// Value of `Client-Cert` (RFC 9440): the certificate as a byte sequence.
    pub client_cert: Box<str>,
    /// Value of `X-Forwarded-Client-Cert`: hash, subject, names.
    pub forwarded: Box<str>,
    /// What limits know it by: its first URI, else its first DNS name, else its subject.
    pub name: Box<str>,
}

impl Identity {
    /// That of a verified certificate; none when its text cannot be read, which verification has excluded.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let hash = digest::digest(&digest::SHA256, certificate);
        let mut forwarded = format!("Hash={}", HEXLOWER.encode(hash.as_ref()));
        put_quoted(&mut forwarded, "Subject", &parsed.subject().to_string());
        let alternatives = parsed.subject_alternative_name().ok().flatten();
        let (mut uri, mut dns) = (None, None);
        for name in alternatives.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::URI(name) => {
                    put_quoted(&mut forwarded, "URI", name);
                    uri.get_or_insert(*name);
                }
                GeneralName::DNSName(name) => {
                    put_quoted(&mut forwarded, "DNS", name);
                    dns.get_or_insert(*name);
                }
                _ => {}
            }
        }
        let client_cert = format!(":{}:", BASE64.encode(certificate));
        let name = uri.or(dns).map_or_else(|| parsed.subject().to_string(), str::to_owned);
        Some(Self { client_cert: client_cert.into(), forwarded: forwarded.into(), name: name.into() })
    }
}

/// Appends `;Key="value"`. What could end the quotes is escaped; what may not stand in a field, or is not ASCII, is
/// percent-encoded.
fn put_quoted(out: &mut String, key: &str, value: &str) {
    if out.len() + value.len() > TOLD_MAX {
        return;
    }
    let _ = write!(out, ";{key}=\"");
    for byte in value.bytes() {
        match byte {
            b'"' | b'\\' => {
                out.push('\\');
                out.push(char::from(byte));
            }
            b'%' | ..=0x1f | 0x7f.. => {
                let _ = write!(out, "%{byte:02X}");
            }
            _ => out.push(char::from(byte)),
        }
    }
    out.push('"');
}
