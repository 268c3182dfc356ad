//! Who signs tokens: where the keys are, and which algorithms may stand together. Does not read or ask for keys.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::process::file_path;
use super::{Fault, Scope};
use crate::model::{KeySource, TokenAlgorithm, TokenIssuer};
use crate::names::{AppName, TrustName};
use crate::raw::{Off, RawIssuer, Spanned, shown};

const LEEWAY: Duration = Duration::from_secs(30);

/// Reads an issuer; none when something in it was refused.
pub(super) fn issuer(
    scope: &mut Scope<'_, '_>,
    raw: &RawIssuer,
    apps: Vec<AppName>,
    authorities: &BTreeMap<TrustName, Vec<AppName>>,
) -> Option<TokenIssuer> {
    let before = scope.report.errors();
    let keys = keys(scope, raw, authorities);
    let mut algorithms: Vec<TokenAlgorithm> = Vec::new();
    for word in raw.algorithms.iter().flatten() {
        let algorithm = word.value.0;
        if algorithms.iter().any(|other| other.is_shared() != algorithm.is_shared()) {
            // A public key must never be taken for a shared secret.
            let message = "algorithms with shared and with public keys stand together";
            scope.report.error_help(word.span, "conflict", message, "write an issuer for each kind");
        }
        if algorithm.is_shared() && raw.jwks_url.is_some() {
            let message = "a shared secret does not come from a URL";
            scope.report.error_help(word.span, "conflict", message, "put it in a file: `jwks_file`");
        }
        if !algorithms.contains(&algorithm) {
            algorithms.push(algorithm);
        }
    }
    let audience = match &raw.audience {
        Some(Off::Set(texts)) => Some(texts.iter().map(|text| Arc::from(text.value.as_str())).collect()),
        Some(Off::Off) | None => None,
    };
    if !raw.clean || scope.report.errors() > before {
        return None;
    }
    let issuer = Arc::from(raw.issuer.as_ref()?.value.as_str());
    Some(TokenIssuer {
        keys: keys?,
        issuer,
        audience,
        algorithms,
        leeway: raw.leeway.unwrap_or(LEEWAY),
        apps,
    })
}

fn keys(
    scope: &mut Scope<'_, '_>,
    raw: &RawIssuer,
    authorities: &BTreeMap<TrustName, Vec<AppName>>,
) -> Option<KeySource> {
    match (&raw.jwks_file, &raw.jwks_url) {
        (Some(file), None) => {
            if let Some(ca) = &raw.ca {
                let message = "`ca` without `jwks_url` does nothing";
                scope.report.error_help(ca.span, "no_meaning", message, "leave it out");
            }
            file_path(scope, file).map(KeySource::File)
        }
        (None, Some(url)) => {
            let ca = match &raw.ca {
                Some(text) => Some(authority(scope, text, authorities)?),
                None => None,
            };
            let url = scope.accept(url.span, address(&url.value))?;
            Some(KeySource::Url { url, ca })
        }
        (Some(_), Some(_)) | (None, None) => {
            let message = "the keys are in one place";
            scope.report.error_help(raw.span, "one_of", message, "write one of `jwks_file` and `jwks_url`");
            None
        }
    }
}

fn authority(
    scope: &mut Scope<'_, '_>,
    text: &Spanned<String>,
    known: &BTreeMap<TrustName, Vec<AppName>>,
) -> Option<TrustName> {
    if let Some((name, _)) = known.get_key_value(text.value.as_str()) {
        return Some(name.clone());
    }
    scope.unknown("unknown_ca", "CA", text, known.keys().map(TrustName::as_str));
    None
}

fn address(text: &str) -> Result<Arc<str>, Fault> {
    let bad = || Fault::new("bad_url", format!("`{}` is not a URL to ask for keys", shown(text)));
    let help = "such as \"https://login.example.com/.well-known/jwks.json\", without user and fragment";
    let uri: http::Uri = text.parse().map_err(|_| bad().help(help))?;
    let is_known = matches!(uri.scheme_str(), Some("http" | "https"));
    let host = uri
        .authority()
        .filter(|authority| !authority.as_str().contains('@'))
        .map(|authority| authority.host());
    if !is_known || host.is_none_or(str::is_empty) || text.contains('#') {
        return Err(bad().help(help));
    }
    Ok(Arc::from(text))
}
