//! Certificates of clients: what they are verified with, and what is told of them to endpoints. Does not ask for them
//! (`listener`) and does not write heads.

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest;
use data_encoding::{BASE64, HEXLOWER};
use ekiden_config::model::{ClientAuth, ClientAuthMode};
use ekiden_core::client_cert::ClientCert;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use x509_parser::extensions::GeneralName;
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::prelude::{FromDer, X509Certificate, X509Name};

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

/// Who a client proved to be, in the forms that endpoints are told and that routes look at.
#[derive(Debug)]
pub struct Identity {
    /// Value of `Client-Cert` (RFC 9440): the certificate as a byte sequence.
    pub client_cert: Box<str>,
    /// Value of `X-Forwarded-Client-Cert`: hash, subject, names.
    pub forwarded: Box<str>,
    /// What conditions and keys look at.
    pub cert: ClientCert,
}

impl Identity {
    /// That of a verified certificate; none when its text cannot be read: its owner is nobody, and not a client without one.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let hash = digest::digest(&digest::SHA256, certificate);
        let mut cert = ClientCert {
            subject: subject(parsed.subject()).into(),
            fingerprint: HEXLOWER.encode(hash.as_ref()).into(),
            ..ClientCert::default()
        };
        let mut forwarded = format!("Hash={}", cert.fingerprint);
        put_quoted(&mut forwarded, "Subject", &cert.subject);
        let (mut room, mut is_cut) = (TOLD_MAX, false);
        let mut keep = |names: &mut Vec<Box<str>>, name: String| match room.checked_sub(name.len()) {
            Some(left) => {
                room = left;
                names.push(name.into());
            }
            None => is_cut = true,
        };
        let alternatives = parsed.subject_alternative_name().ok().flatten();
        for name in alternatives.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::URI(uri) => {
                    put_quoted(&mut forwarded, "URI", uri);
                    keep(&mut cert.uris, (*uri).to_owned());
                }
                GeneralName::DNSName(name) => {
                    put_quoted(&mut forwarded, "DNS", name);
                    keep(&mut cert.dns, name.to_ascii_lowercase());
                }
                _ => {}
            }
        }
        cert.is_cut = is_cut;
        let client_cert = format!(":{}:", BASE64.encode(certificate));
        Some(Self { client_cert: client_cert.into(), forwarded: forwarded.into(), cert })
    }
}

/// A subject as text, such as `CN=anna, O=Example`, in the order of the certificate. What separates its parts is escaped in values
/// as RFC 4514 says, so that no value reads as a part of its own.
fn subject(name: &X509Name<'_>) -> String {
    let mut text = String::new();
    for relative in name.iter_rdn() {
        let mut between = if text.is_empty() { "" } else { ", " };
        for attribute in relative.iter() {
            let kind = attribute.attr_type();
            let word = oid2abbrev(kind, oid_registry()).map_or_else(|_| kind.to_id_string(), str::to_owned);
            let _ = write!(text, "{between}{word}=");
            match attribute.as_str() {
                Ok(value) => put_escaped(&mut text, value),
                Err(_) => {
                    let _ = write!(text, "#{}", HEXLOWER.encode(attribute.as_slice()));
                }
            }
            between = " + ";
        }
    }
    text
}

fn put_escaped(out: &mut String, value: &str) {
    for (at, char) in value.char_indices() {
        let is_outer = at == 0 || at + char.len_utf8() == value.len();
        let special = matches!(char, '"' | '+' | ',' | ';' | '<' | '>' | '\\' | '=');
        if special || (char == '#' && at == 0) || (char == ' ' && is_outer) {
            out.push('\\');
        }
        out.push(char);
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

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn identity(name: &[(DnType, &str)], names: &[&str]) -> Identity {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in name {
            params.distinguished_name.push(kind.clone(), *value);
        }
        let san = |name: &&str| match name.contains("://") {
            true => SanType::URI((*name).try_into().unwrap()),
            false => SanType::DnsName((*name).try_into().unwrap()),
        };
        params.subject_alt_names = names.iter().map(san).collect();
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        Identity::of(made.der()).unwrap()
    }

    /// No value reads as a part of its own.
    #[test]
    fn subjects_are_told_apart() {
        let both = [(DnType::OrganizationName, "x"), (DnType::CommonName, "anna")];
        let sly = [(DnType::OrganizationName, "x, CN=anna")];
        assert_eq!(&*identity(&both, &[]).cert.subject, "O=x, CN=anna");
        assert_eq!(&*identity(&sly, &[]).cert.subject, "O=x\\, CN\\=anna");
        let odd = [(DnType::CommonName, "#a\"+;<>\\ ")];
        assert_eq!(&*identity(&odd, &[]).cert.subject, "CN=\\#a\\\"\\+\\;\\<\\>\\\\\\ ");
        assert!(identity(&sly, &[]).forwarded.ends_with(";Subject=\"O=x\\\\, CN\\\\=anna\""));
    }

    #[test]
    fn names_are_kept_within_a_bound() {
        let one = identity(&[], &["A.test", "spiffe://a.test/One"]);
        assert_eq!((one.cert.dns.len(), one.cert.uris.len()), (1, 1));
        assert_eq!((&*one.cert.dns[0], &*one.cert.uris[0]), ("a.test", "spiffe://a.test/One"));
        assert_eq!(one.cert.fingerprint.len(), 64);
        let names: Vec<String> = (0..200).map(|number| format!("{number}.{}.test", "x".repeat(50))).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert!(!one.cert.is_cut && identity(&[], &names).cert.is_cut);
        let kept: usize = identity(&[], &names).cert.dns.iter().map(|name| name.len()).sum();
        assert!((TOLD_MAX - 100..=TOLD_MAX).contains(&kept), "{kept}");
    }
}
