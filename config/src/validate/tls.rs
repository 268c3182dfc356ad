//! TLS of a listener: what goes together, paths, the value of HSTS. Does not read the files it names.

use std::sync::Arc;
use std::time::Duration;

use super::process::file_path;
use super::{Fault, Scope};
use crate::model::{CertificateSource, ClientAuth, ClientAuthMode, ListenerTls};
use crate::raw::{PortOrFlag, RawCertificate, RawClientAuth, RawListener, shown};
use crate::source::Span;

/// From accept to the end of a handshake, where the file does not say.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// Handshakes in progress on one worker, where the file does not say.
const MAX_HANDSHAKES: u32 = 4096;
/// Port of `https`.
const HTTPS: u16 = 443;

/// TLS of a listener; none when it is plain, or when what is written was refused.
pub(super) fn listener(scope: &mut Scope<'_, '_>, raw: &RawListener) -> Option<Arc<ListenerTls>> {
    let Some(written) = &raw.tls else {
        refuse_without_tls(scope, raw);
        return None;
    };
    let certificates: Vec<_> =
        written.0.iter().filter_map(|certificate| source(scope, certificate)).collect();
    let hsts = raw.hsts.as_ref().and_then(|text| scope.accept(text.span, hsts(&text.value)));
    let client_auth = raw.client_auth.as_ref().and_then(|auth| client_auth(scope, auth));
    let limits = raw.limits.as_ref();
    (!certificates.is_empty()).then(|| {
        Arc::new(ListenerTls {
            certificates,
            unknown_name: raw.unknown_name.as_ref().map(|word| word.value.0).unwrap_or_default(),
            min_version: raw.min_tls_version.as_ref().map(|word| word.value.0).unwrap_or_default(),
            ticket_keys: raw.ticket_keys.as_ref().and_then(|text| file_path(scope, text)),
            handshake_deadline: limits
                .and_then(|limits| limits.handshake_deadline)
                .unwrap_or(HANDSHAKE_DEADLINE),
            max_handshakes: raw
                .max_handshakes
                .as_ref()
                .map_or(MAX_HANDSHAKES, |count| u32::try_from(count.value).unwrap_or(u32::MAX)),
            client_auth,
            hsts,
        })
    })
}

/// A key that means nothing on a plain listener is a mistake: most likely `tls` was forgotten.
fn refuse_without_tls(scope: &mut Scope<'_, '_>, raw: &RawListener) {
    let written: [(&str, Option<Span>); 6] = [
        ("unknown_name", raw.unknown_name.as_ref().map(|value| value.span)),
        ("min_tls_version", raw.min_tls_version.as_ref().map(|value| value.span)),
        ("ticket_keys", raw.ticket_keys.as_ref().map(|value| value.span)),
        ("max_handshakes", raw.max_handshakes.as_ref().map(|value| value.span)),
        ("client_auth", raw.client_auth.as_ref().map(|value| value.span)),
        ("hsts", raw.hsts.as_ref().map(|value| value.span)),
    ];
    for (key, span) in written {
        if let Some(span) = span {
            let message = format!("`{key}` means nothing without `tls`");
            let help = "add `tls = { cert = \"site.pem\", key = \"site.key\" }`, or leave the key out";
            scope.report.error_help(span, "needs_tls", message, help);
        }
    }
}

fn client_auth(scope: &mut Scope<'_, '_>, raw: &RawClientAuth) -> Option<ClientAuth> {
    let mode = raw.mode?.0;
    let ca = raw.ca.as_ref().and_then(|text| file_path(scope, text));
    let crl = raw.crl.as_ref().and_then(|text| file_path(scope, text));
    if mode == ClientAuthMode::None {
        return None;
    }
    if raw.ca.is_none() {
        let message = "certificates of clients are verified, and no authority is named";
        scope.report.error_help(
            raw.span,
            "missing_key",
            message,
            "write `ca`, a PEM file with the authorities",
        );
    }
    Some(ClientAuth { mode, ca: ca?, crl })
}

fn source(scope: &mut Scope<'_, '_>, raw: &RawCertificate) -> Option<CertificateSource> {
    let help = "write `cert` and `key`, or `dir`";
    match (&raw.cert, &raw.key, &raw.dir) {
        (Some(cert), Some(key), None) => {
            let (cert, key) = (file_path(scope, cert), file_path(scope, key));
            Some(CertificateSource::Pair { cert: cert?, key: key? })
        }
        (None, None, Some(dir)) => file_path(scope, dir).map(CertificateSource::Directory),
        (Some(_), None, None) => {
            scope.report.error_help(raw.span, "missing_key", "a certificate without its `key`", help);
            None
        }
        (None, Some(_), None) => {
            scope.report.error_help(raw.span, "missing_key", "a key without its `cert`", help);
            None
        }
        (None, None, None) => {
            if raw.clean {
                scope.report.error_help(raw.span, "missing_key", "no certificate is named", help);
            }
            None
        }
        (_, _, Some(_)) => {
            let message = "`dir` and a single certificate in one table";
            scope.report.error_help(raw.span, "conflict", message, "write them as two items of a list");
            None
        }
    }
}

/// The port that requests of a plain listener are sent to.
pub(super) fn redirect(scope: &mut Scope<'_, '_>, raw: &RawListener) -> Option<u16> {
    let written = raw.redirect_https.as_ref()?;
    let port = match written.value {
        PortOrFlag::Port(port) => port,
        PortOrFlag::Flag(true) => HTTPS,
        PortOrFlag::Flag(false) => return None,
    };
    if raw.tls.is_some() {
        let message = "a TLS listener cannot send its requests to `https`";
        let help = "write it on the plain listener beside it";
        scope.report.error_help(written.span, "conflict", message, help);
        return None;
    }
    Some(port)
}

/// RFC 6797 section 6.1: `max-age` once, `includeSubDomains` and `preload` at most once, nothing else.
fn hsts(text: &str) -> Result<Arc<str>, Fault> {
    let bad = || {
        Fault::new("bad_hsts", format!("`{}` is not a value of Strict-Transport-Security", shown(text)))
            .help("such as \"max-age=31536000\" or \"max-age=31536000; includeSubDomains; preload\"")
    };
    let mut seen = [false; 3];
    for directive in text.split(';').map(str::trim) {
        let (name, value) = match directive.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (directive, None),
        };
        let digits =
            |value: &str| !value.is_empty() && value.len() <= 10 && value.bytes().all(|b| b.is_ascii_digit());
        let at = match (name.to_ascii_lowercase().as_str(), value) {
            ("max-age", Some(value)) if digits(value) => 0,
            ("includesubdomains", None) => 1,
            ("preload", None) => 2,
            _ => return Err(bad()),
        };
        match seen.get_mut(at) {
            Some(first) if !*first => *first = true,
            _ => return Err(bad()),
        }
    }
    if seen.first() == Some(&true) { Ok(Arc::from(text)) } else { Err(bad()) }
}
