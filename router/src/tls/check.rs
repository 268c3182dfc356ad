//! What is wrong with the files that listeners name, before anything is served: for `ekiden check`. Serves nothing.

use std::path::Path;
use std::sync::Arc;

use ekiden_config::model::{CertificateSource, ListenerTls, Model};
use ekiden_config::names::ListenerName;

use super::certificate::Age;
use super::clients;
use super::files;
use super::hub::shared_secrets;
use super::tickets::unix_s;

/// A file of a listener that cannot be used, or not for long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFault {
    /// The listener.
    pub listener: ListenerName,
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
    faults
}

fn check_listener(name: &ListenerName, settings: &ListenerTls, base: &Path, faults: &mut Vec<FileFault>) {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let mut tell = |code, written: String, reason: String, usable| {
        faults.push(FileFault { listener: name.clone(), code, written, reason, usable });
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
