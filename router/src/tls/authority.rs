//! Whether a request may ask for its host on the TLS connection it came on (RFC 9110 section 7.4, 421).
//!
//! A browser that knows a certificate for several hosts sends requests for all of them on one connection. That is right as long
//! as the certificate it was shown covers the host, and a way around the settings of another host when it does not. Does
//! not match routes.

use ekiden_config::model::UnknownName;
use ekiden_core::outcome::Cause;

use super::listener::{TlsListener, slot_for};
use super::stream::Session;
use crate::worker::Worker;

/// Judges the host of a request (lower case, without port) on a listener that has TLS.
///
/// # Errors
/// The connection is plain, or the host belongs elsewhere.
pub fn judge(worker: &Worker, session: Option<&Session>, host: &str) -> Result<(), Cause> {
    let Some(session) = session else { return Err(Cause::PlainOnTls) };
    // The usual case: the client asks for what it named.
    if session.name.as_deref() == Some(host) || host.is_empty() {
        return Ok(());
    }
    let listeners = worker.shared.tls.listeners.load();
    let Some(own) = listeners.get(&session.listener) else { return Ok(()) };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if belongs(own, session, host) {
        return Ok(());
    }
    let elsewhere = own.index().find(host).is_some()
        || listeners.values().any(|listener| listener.index().find(host).is_some());
    if elsewhere || own.settings.unknown_name == UnknownName::Refuse {
        return Err(Cause::Misdirected);
    }
    Ok(())
}

/// Whether what was served for the handshake covers the host.
fn belongs(listener: &TlsListener, session: &Session, host: &str) -> bool {
    slot_for(&listener.index(), session.name.as_deref()).covers(host)
}
