//! `[fleet]`: what goes together, which authority and identity are meant. Does not read the files they name.

use std::sync::Arc;

use super::process::bind_address;
use super::trust::{san, server_name};
use super::{Scope, World};
use crate::model::{Address, Fleet};
use crate::names::{AppName, TrustName};
use crate::raw::{RawFleet, Spanned};

/// Reads the table. `world` knows the entries of the file.
pub(super) fn fleet(scope: &mut Scope<'_, '_>, raw: Option<&RawFleet>, world: &World) -> Fleet {
    let Some(raw) = raw else { return Fleet::default() };
    let identity = raw.identity.as_ref();
    let identity = identity
        .and_then(|text| entry(scope, text, ("identity", "unknown_identity"), world.identities.keys()));
    let ca = raw.ca.as_ref();
    let ca = ca.and_then(|text| entry(scope, text, ("CA", "unknown_ca"), world.authorities.keys()));
    if raw.identity.is_some() != raw.ca.is_some() {
        let message = "a link with TLS needs `identity` and `ca`, and one of them is missing";
        scope.report.error_help(
            raw.span,
            "missing_key",
            message,
            "both sides show a certificate: write both",
        );
    }
    if let (Some(routers), None, None) = (&raw.routers, &raw.identity, &raw.ca) {
        // On a plain link anybody can say any name.
        let message = "`routers` needs `identity` and `ca`: a plain link does not show who a router is";
        let span = routers.first().map_or(raw.span, |first| first.span);
        scope.report.error_help(span, "missing_key", message, "write both, or leave `routers` out");
    }
    let listen = raw.listen.as_ref().and_then(|text| {
        let address = bind_address(scope, text)?;
        let outside = matches!(&address, Address::Tcp(tcp) if !tcp.ip().is_loopback());
        if outside && raw.identity.is_none() && raw.insecure != Some(true) {
            let message = "a plain link may not leave this machine";
            let help = "write `identity` and `ca`, or `insecure = true` if the network is to be trusted";
            scope.report.error_help(text.span, "fleet_plain", message, help);
        }
        Some(address)
    });
    let routers = raw.routers.iter().flatten();
    let routers = routers.filter_map(|text| scope.accept(text.span, san(&text.value))).collect();
    let name = raw.server_name.as_ref();
    let server_name = name.and_then(|text| scope.accept(text.span, server_name(&text.value)));
    // The alphabet of apps will do for names of routers.
    let name = raw.name.as_ref().and_then(|text| scope.name(text, AppName::new));
    let name = name.map(|name| Arc::from(name.as_str()));
    Fleet { listen, identity, ca, server_name, routers, name, insecure: raw.insecure.unwrap_or(false) }
}

/// The entry that a name means.
pub(super) fn entry<'w>(
    scope: &mut Scope<'_, '_>,
    text: &Spanned<String>,
    (what, code): (&str, &'static str),
    mut known: impl Iterator<Item = &'w TrustName> + Clone,
) -> Option<TrustName> {
    if let Some(name) = known.clone().find(|name| name.as_str() == text.value) {
        return Some(name.clone());
    }
    scope.unknown(code, what, text, known.by_ref().map(TrustName::as_str).collect::<Vec<_>>().into_iter());
    None
}
