//! What is wrong with the files that listeners, authorities, identities, clusters and credentials name, before anything is served: for
//! `ekiden check`. Serves nothing.

use std::path::Path;
use std::sync::Arc;

use ekiden_config::model::{
    CertificateSource, Credential, KeyPair, KeySource, ListenerTls, Model, Roots, Verify,
};
use ekiden_config::names::ListenerName;

use super::certificate::Age;
use super::clients;
use super::files::{self, Pair};
use super::hub::shared_secrets;
use super::tickets::unix_s;
use super::upstream::files::{authorities, identity, web};
use crate::entrance::keys::Keys;
use crate::entrance::tokens::KeySet;
use crate::entrance::users::Users;

/// A file that cannot be used, or not for long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFault {
    /// What it belongs to, such as "listener `edge`".
    pub about: String,
    /// Stable code.
    pub code: &'static str,
    /// The path as the configuration has it.
    pub written: String,
    /// What is wrong, with the file.
    pub reason: String,
    /// It can be used now: a warning.
    pub usable: bool,
}

/// Looks at every certificate and every file of ticket keys that a Model names. Relative paths go by `base`.
pub fn check(model: &Model, base: &Path) -> Vec<FileFault> {
    let mut faults = Vec::new();
    for (name, listener) in &model.listeners {
        if let Some(settings) = &listener.tls {
            check_listener(name, settings, base, &mut faults);
        }
    }
    check_endpoints(model, base, &mut faults);
    check_credentials(model, base, &mut faults);
    faults
}

/// What clusters believe and show to endpoints, each file once.
fn check_endpoints(model: &Model, base: &Path, faults: &mut Vec<FileFault>) {
    for (name, source) in &model.trust.authorities {
        check_authorities(format!("ca `{name}`"), &source.file, base, faults);
    }
    for (name, source) in &model.trust.identities {
        check_identity(format!("identity `{name}`"), &source.pair, base, faults);
    }
    let mut asks_web = None;
    for app in model.apps.values() {
        for (name, cluster) in &app.clusters {
            let Some(tls) = &cluster.policy.tls else { continue };
            let about = || format!("cluster `{name}`");
            match &tls.roots {
                Roots::File(path) => check_authorities(about(), path, base, faults),
                Roots::Web if tls.verify == Verify::Full => asks_web = asks_web.or(Some(name)),
                Roots::Web | Roots::Named(_) => {}
            }
            if let Some(Credential::Files(pair)) = &tls.identity {
                check_identity(about(), pair, base, faults);
            }
        }
    }
    // The machine that checks need not be the one that serves.
    if let Some((name, reason)) = asks_web.and_then(|name| web().err().map(|reason| (name, reason))) {
        let (about, written) = (format!("cluster `{name}`"), name.to_string());
        faults.push(FileFault { about, code: "no_web_authorities", written, reason, usable: true });
    }
}

/// Files of users, of keys of programs and of keys of issuers.
fn check_credentials(model: &Model, base: &Path, faults: &mut Vec<FileFault>) {
    let mut tell = |about: String, file: &Path, read: &dyn Fn(&[u8]) -> Result<(), String>| {
        let path = base.join(file);
        let bytes = files::read(&path).map_err(|fault| fault.to_string());
        if let Err(reason) =
            bytes.and_then(|bytes| read(&bytes).map_err(|why| format!("{}: {why}", path.display())))
        {
            let written = file.display().to_string();
            faults.push(FileFault { about, code: "credentials_unusable", written, reason, usable: false });
        }
    };
    for (name, source) in &model.trust.users {
        tell(format!("users `{name}`"), &source.file, &|bytes| Users::read(bytes, Vec::new()).map(drop));
    }
    for (name, source) in &model.trust.api_keys {
        tell(format!("api_keys `{name}`"), &source.file, &|bytes| Keys::read(bytes, Vec::new()).map(drop));
    }
    for (name, issuer) in &model.trust.issuers {
        if let KeySource::File(file) = &issuer.keys {
            tell(format!("jwt `{name}`"), file, &|bytes| KeySet::read(bytes, issuer).map(drop));
        }
    }
}

fn check_authorities(about: String, path: &Path, base: &Path, faults: &mut Vec<FileFault>) {
    if let Err(reason) = authorities(&base.join(path)) {
        let written = path.display().to_string();
        faults.push(FileFault { about, code: "ca_unusable", written, reason, usable: false });
    }
}

fn check_identity(about: String, pair: &KeyPair, base: &Path, faults: &mut Vec<FileFault>) {
    let files = Pair { cert: base.join(&pair.cert), key: base.join(&pair.key) };
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let (code, reason, usable) = match identity(&files, &provider) {
        Err(reason) => ("identity_unusable", reason, false),
        Ok(certificate) => match certificate.age(unix_s()) {
            Age::Good => return,
            age @ Age::Ending(_) => {
                ("certificate_expires_soon", format!("{}: {age}", files.cert.display()), true)
            }
            age @ Age::Expired => ("certificate_expired", format!("{}: {age}", files.cert.display()), false),
            age @ Age::Early => {
                ("certificate_not_valid_yet", format!("{}: {age}", files.cert.display()), false)
            }
        },
    };
    faults.push(FileFault { about, code, written: pair.cert.display().to_string(), reason, usable });
}

fn check_listener(name: &ListenerName, settings: &ListenerTls, base: &Path, faults: &mut Vec<FileFault>) {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let mut tell = |code, written: String, reason: String, usable| {
        faults.push(FileFault { about: format!("listener `{name}`"), code, written, reason, usable });
    };
    let (pairs, failed) = files::pairs(base, settings);
    for (source, reason) in &failed {
        tell("certificate_unusable", written(settings, *source), reason.clone(), false);
    }
    for (number, source) in (0_u32..).zip(&settings.certificates) {
        let found = pairs.keys().any(|rank| rank.source == number);
        if !found && !failed.iter().any(|(source, _)| *source == number) {
            let CertificateSource::Directory(dir) = source else { continue };
            let reason = format!("{}: no certificate with its key is in it", base.join(dir).display());
            tell("certificate_unusable", written(settings, number), reason, false);
        }
    }
    for (rank, pair) in pairs {
        let (written, file) = (written(settings, rank.source), pair.cert.display());
        match files::load(&pair, rank, &provider) {
            Err(fault) => tell("certificate_unusable", written, format!("{file}: {fault}"), false),
            Ok(certificate) => {
                let age = certificate.age(unix_s());
                let (code, usable) = match age {
                    Age::Good => continue,
                    Age::Ending(_) => ("certificate_expires_soon", true),
                    Age::Expired => ("certificate_expired", false),
                    Age::Early => ("certificate_not_valid_yet", false),
                };
                tell(code, written, format!("{file}: {age}"), usable);
            }
        }
    }
    if let Some(auth) = &settings.client_auth
        && let Err(reason) = clients::load(base, auth, &Arc::new(provider))
    {
        let named =
            auth.crl.as_ref().filter(|crl| reason.contains(&*crl.to_string_lossy())).unwrap_or(&auth.ca);
        tell("client_trust_unusable", named.display().to_string(), reason, false);
    }
    if let Some(path) = &settings.ticket_keys
        && let Err(reason) = shared_secrets(&base.join(path))
    {
        tell("ticket_keys_unusable", path.display().to_string(), reason, false);
    }
}

/// A source as the configuration has it.
fn written(settings: &ListenerTls, source: u32) -> String {
    match settings.certificates.get(source as usize) {
        Some(CertificateSource::Pair { cert, .. }) => cert.display().to_string(),
        Some(CertificateSource::Directory(dir)) => dir.display().to_string(),
        None => String::new(),
    }
}
