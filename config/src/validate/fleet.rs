//! `[fleet]`: what goes together, which authority and identity are meant. Does not read the files they name.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::process::bind_address;
use super::trust::{san, server_name};
use super::{Scope, World};
use crate::model::{Address, Fleet, Subscription};
use crate::names::{AppName, TrustName};
use crate::raw::{RawFleet, RawSubscription, Spanned, shown};

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
    let subscriptions = raw.subscription.iter().flatten();
    let subscriptions: Vec<Subscription> =
        subscriptions.filter_map(|one| subscription(scope, one, raw.identity.is_some())).collect();
    let insecure = raw.insecure.unwrap_or(false);
    Fleet { listen, identity, ca, server_name, routers, name, insecure, subscriptions }
}

/// Which routers get which apps. Apps need not be there yet.
fn subscription(scope: &mut Scope<'_, '_>, raw: &RawSubscription, secure: bool) -> Option<Subscription> {
    if !secure {
        // On a plain link anybody can say any name.
        let message = "a subscription needs `identity` and `ca`: a plain link does not show who a router is";
        scope.report.error_help(raw.span, "missing_key", message, "write both, or leave it out");
        return None;
    }
    let mut routers = Vec::new();
    for text in raw.routers.iter().flatten() {
        let plain = text.value.strip_suffix('*').unwrap_or(&text.value);
        if plain.contains('*') || plain.chars().any(|c| c.is_whitespace() || c.is_control()) {
            let message = format!("`{}` is no name of routers", shown(&text.value));
            let help = "such as \"spiffe://example.org/pod/shop-*\": a `*` stands at the end";
            scope.report.error_help(text.span, "bad_name", message, help);
        } else {
            routers.push(Arc::from(text.value.as_str()));
        }
    }
    let (mut apps, mut everything) = (BTreeSet::new(), false);
    for text in raw.apps.iter().flatten() {
        if text.value == "*" {
            everything = true;
        } else {
            apps.extend(scope.name(text, AppName::new));
        }
    }
    raw.clean.then_some(Subscription { routers, apps, everything })
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
