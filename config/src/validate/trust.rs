//! TLS with endpoints: what goes together, which authority and identity are meant, and whether the app may use them. Does
//! not read the files they name.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::process::file_path;
use super::{Fault, Scope, World, host};
use crate::model::{
    AuthoritySource, ClusterTls, Credential, IdentitySource, KeyPair, Roots, San, SecretFile, TrustSources,
    Verify,
};
use crate::names::{AppName, TrustName};
use crate::raw::{FlagOr, RawClusterTls, RawProcess, Spanned, shown};
use crate::source::Span;

/// Authorities and identities of the process file. `world` gets their names, also of those that have errors of their own.
pub(super) fn sources(scope: &mut Scope<'_, '_>, raw: &RawProcess, world: &mut World) -> TrustSources {
    let mut sources = TrustSources::default();
    for (key, raw) in raw.ca.iter().flat_map(|map| &map.0) {
        let Some(name) = scope.name(key, TrustName::new) else { continue };
        let apps = apps(scope, raw.apps.as_deref());
        world.authorities.insert(name.clone(), apps.clone());
        if let Some(file) = raw.file.as_ref().and_then(|text| file_path(scope, text)) {
            sources.authorities.insert(name, AuthoritySource { file, apps });
        }
    }
    for (key, raw) in raw.identity.iter().flat_map(|map| &map.0) {
        let Some(name) = scope.name(key, TrustName::new) else { continue };
        let apps = apps(scope, raw.apps.as_deref());
        world.identities.insert(name.clone(), apps.clone());
        let cert = raw.cert.as_ref().and_then(|text| file_path(scope, text));
        let key = raw.key.as_ref().and_then(|text| file_path(scope, text));
        if let (Some(cert), Some(key)) = (cert, key) {
            sources.identities.insert(name, IdentitySource { pair: KeyPair { cert, key }, apps });
        }
    }
    for (key, raw) in raw.users.iter().flat_map(|map| &map.0) {
        let given = secret_file(scope, key, raw.file.as_ref(), raw.apps.as_deref(), &mut world.users);
        sources.users.extend(given);
    }
    for (key, raw) in raw.api_keys.iter().flat_map(|map| &map.0) {
        let given = secret_file(scope, key, raw.file.as_ref(), raw.apps.as_deref(), &mut world.api_keys);
        sources.api_keys.extend(given);
    }
    for (key, raw) in raw.affinity_key.iter().flat_map(|map| &map.0) {
        let given = secret_file(scope, key, raw.file.as_ref(), raw.apps.as_deref(), &mut world.affinity_keys);
        sources.affinity_keys.extend(given);
    }
    for (key, raw) in raw.jwt.iter().flat_map(|map| &map.0) {
        let Some(name) = scope.name(key, TrustName::new) else { continue };
        let apps = apps(scope, raw.apps.as_deref());
        world.issuers.insert(name.clone(), apps.clone());
        let issuer = super::token::issuer(scope, raw, apps, &world.authorities);
        sources.issuers.extend(issuer.map(|issuer| (name, issuer)));
    }
    // A name that is none was reported when the names were read.
    for (key, raw) in raw.store.iter().flat_map(|map| &map.0) {
        let Ok(name) = TrustName::new(&key.value) else { continue };
        let apps = apps(scope, raw.apps.as_deref());
        let store = super::store::store(scope, raw, apps);
        sources.stores.extend(store.map(|store| (name, store)));
    }
    sources
}

/// A file of credentials; `known` gets its name, also when it has errors of its own.
fn secret_file(
    scope: &mut Scope<'_, '_>,
    key: &Spanned<String>,
    file: Option<&Spanned<String>>,
    written: Option<&[Spanned<String>]>,
    known: &mut BTreeMap<TrustName, Vec<AppName>>,
) -> Option<(TrustName, SecretFile)> {
    let name = scope.name(key, TrustName::new)?;
    let apps = apps(scope, written);
    known.insert(name.clone(), apps.clone());
    let file = file_path(scope, file?)?;
    Some((name, SecretFile { file, apps }))
}

pub(super) fn apps(scope: &mut Scope<'_, '_>, written: Option<&[Spanned<String>]>) -> Vec<AppName> {
    let mut apps: Vec<AppName> = Vec::new();
    for text in written.unwrap_or_default() {
        if let Some(app) = scope.name(text, AppName::new)
            && !apps.contains(&app)
        {
            apps.push(app);
        }
    }
    apps.sort();
    apps
}

/// TLS of a cluster; none when it is plain, or when what is written was refused.
pub(super) fn cluster(
    scope: &mut Scope<'_, '_>,
    app: &AppName,
    written: Option<&FlagOr<RawClusterTls>>,
) -> Option<Arc<ClusterTls>> {
    let plain =
        ClusterTls { verify: Verify::Full, roots: Roots::Web, name: None, san: Vec::new(), identity: None };
    let raw = match written? {
        FlagOr::Flag(false) => return None,
        FlagOr::Flag(true) => return Some(Arc::new(plain)),
        FlagOr::Long(raw) => raw,
    };
    let verify = raw.verify.as_ref().map(|word| word.value.0).unwrap_or_default();
    if let (Verify::InsecureNone, Some(word)) = (verify, &raw.verify) {
        unverified(scope, raw, word.span);
    }
    let roots = match &raw.ca {
        None => Some(Roots::Web),
        Some(text) => roots(scope, app, text),
    };
    let name = raw.name.as_ref().and_then(|text| scope.accept(text.span, server_name(&text.value)));
    let san =
        raw.san.iter().flat_map(|list| &list.0).filter_map(|text| scope.accept(text.span, san(&text.value)));
    let san: Vec<San> = san.collect();
    let identity = identity(scope, app, raw);
    Some(Arc::new(ClusterTls { verify, roots: roots?, name, san, identity }))
}

/// What is said twice cannot both be meant; and nobody is to switch verification off without being told.
fn unverified(scope: &mut Scope<'_, '_>, raw: &RawClusterTls, span: Span) {
    let san = raw.san.as_ref().and_then(|list| list.0.first());
    for (key, span) in [("ca", raw.ca.as_ref().map(|text| text.span)), ("san", san.map(|text| text.span))] {
        if let Some(span) = span {
            let message = format!("`{key}` means nothing where endpoints are not verified");
            scope.report.error_help(span, "conflict", message, "leave out `verify`, or this key");
        }
    }
    let message =
        "the certificates of these endpoints are not verified: whoever answers at the address is believed";
    let help = "name the authority with `ca`, and leave `verify` out";
    scope.report.warning(span, "tls_unverified", message, help);
}

/// A name that stands in the process file; else, in the process file itself, a path.
fn roots(scope: &mut Scope<'_, '_>, app: &AppName, text: &Spanned<String>) -> Option<Roots> {
    let entry = (text, "ca", "CA", "unknown_ca", "ca_denied");
    match named(scope, app, entry, &scope.world.authorities)? {
        Named::Entry(name) => Some(Roots::Named(name)),
        Named::Path(path) => Some(Roots::File(path)),
    }
}

fn identity(scope: &mut Scope<'_, '_>, app: &AppName, raw: &RawClusterTls) -> Option<Credential> {
    let files = [("cert", &raw.cert), ("key", &raw.key)];
    if let Some(text) = &raw.identity {
        for (key, file) in files {
            if let Some(file) = file {
                let message = format!("`identity` and `{key}` in one table");
                scope.report.error_help(file.span, "conflict", message, "write one of the two");
            }
        }
        let entry = (text, "identity", "identity", "unknown_identity", "identity_denied");
        return match named(scope, app, entry, &scope.world.identities)? {
            Named::Entry(name) => Some(Credential::Named(name)),
            Named::Path(_) => {
                let message = format!("there is no identity `{}`", shown(&text.value));
                let help = "an identity is a name of the process file; files are written as `cert` and `key`";
                scope.report.error_help(text.span, "unknown_identity", message, help);
                None
            }
        };
    }
    if !scope.world.may_hold_paths(app) {
        for (key, file) in files {
            if let Some(file) = file {
                let message = format!("`{key}` is a path, and an app file may not hold any");
                scope.report.error_help(file.span, "path_in_app", message, APP_HELP);
            }
        }
        return None;
    }
    match (&raw.cert, &raw.key) {
        (None, None) => None,
        (Some(cert), Some(key)) => {
            let (cert, key) = (file_path(scope, cert), file_path(scope, key));
            Some(Credential::Files(KeyPair { cert: cert?, key: key? }))
        }
        (Some(_), None) | (None, Some(_)) => {
            let message = "a certificate needs `cert` and `key`, and one of them is missing";
            scope.report.error_help(raw.span, "missing_key", message, "write both");
            None
        }
    }
}

const APP_HELP: &str = "give it a name in the process file, as [ca.NAME] or [identity.NAME] with `apps`, and write the name here";

enum Named {
    Entry(TrustName),
    Path(PathBuf),
}

/// What a text names: an entry that the app may use, or a path. `entry` is the text, the key, what it is, and the codes of
/// findings.
fn named(
    scope: &mut Scope<'_, '_>,
    app: &AppName,
    (text, key, what, unknown, denied): (&Spanned<String>, &str, &str, &'static str, &'static str),
    known: &BTreeMap<TrustName, Vec<AppName>>,
) -> Option<Named> {
    if scope.world.is_open()
        && let Ok(name) = TrustName::new(&text.value)
    {
        return Some(Named::Entry(name));
    }
    if let Some((name, apps)) = known.get_key_value(text.value.as_str()) {
        if scope.world.may_use(app, apps) {
            return Some(Named::Entry(name.clone()));
        }
        let message = format!("the app `{app}` may not use the {what} `{name}`");
        let help = format!("add \"{app}\" to `apps` of [{key}.{name}] in the process file");
        scope.report.error_help(text.span, denied, message, help);
        return None;
    }
    if text.value.contains(['/', '.']) {
        if scope.world.may_hold_paths(app) {
            return file_path(scope, text).map(Named::Path);
        }
        let message = format!("`{}` is a path, and an app file may not hold any", shown(&text.value));
        scope.report.error_help(text.span, "path_in_app", message, APP_HELP);
        return None;
    }
    scope.unknown(unknown, what, text, known.keys().map(TrustName::as_str));
    None
}

/// A host or an address; brackets of IPv6 are taken off, as certificates know none.
pub(super) fn server_name(text: &str) -> Result<Arc<str>, Fault> {
    let host = host::plain(text, text)?;
    Ok(Arc::from(host.trim_start_matches('[').trim_end_matches(']')))
}

pub(super) fn san(text: &str) -> Result<San, Fault> {
    let bad = |help: &str| {
        Fault::new("bad_san", format!("`{}` is not a name of a certificate", shown(text))).help(help)
    };
    if !text.contains("://") {
        let name = server_name(text)
            .map_err(|_| bad("a DNS name, or a URI such as \"spiffe://example.org/app\""))?;
        if name.parse::<std::net::IpAddr>().is_ok() {
            return Err(bad("an address is verified with `name`"));
        }
        return Ok(San::Dns(name));
    }
    let good = |b: u8| {
        b.is_ascii_graphic() && !matches!(b, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}')
    };
    if text.bytes().all(good) {
        Ok(San::Uri(Arc::from(text)))
    } else {
        Err(bad("a URI has no such character"))
    }
}
