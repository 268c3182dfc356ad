//! Listeners that carry other protocols than HTTP, and routes on them: what has no meaning there is refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Scope;
use crate::model::{Action, Cluster, ListenerProtocol, Protocol, Route};
use crate::names::{ClusterName, ListenerName};
use crate::raw::{Off, RawListener, RawRoute};

/// Keys of a listener that belong to HTTP.
pub(super) fn listener(scope: &mut Scope<'_, '_>, raw: &RawListener) -> ListenerProtocol {
    let Some(written) = &raw.protocol else { return ListenerProtocol::Http };
    let protocol = written.value.0;
    if protocol == ListenerProtocol::Http {
        return protocol;
    }
    let keys = [
        ("tls", raw.tls.is_some()),
        ("h2c", raw.h2c == Some(true)),
        ("redirect_https", raw.redirect_https.is_some()),
        ("via", raw.via.is_some()),
        ("forwarded", raw.forwarded == Some(true)),
        ("merge_slashes", raw.merge_slashes == Some(true)),
        ("allow_underscore", raw.allow_underscore == Some(true)),
    ];
    for (key, _) in keys.into_iter().filter(|(_, is_written)| *is_written) {
        let message = format!("`{key}` has no meaning on a listener of protocol `{}`", protocol.word());
        scope.report.error_help(written.span, "no_meaning", message, "leave it out");
    }
    protocol
}

/// Conditions and edits of a route that belong to HTTP.
pub(super) fn route(scope: &mut Scope<'_, '_>, raw: &RawRoute, listeners: Option<&[ListenerName]>) {
    let of = |name: &ListenerName| scope.world.protocols.get(name).copied().unwrap_or_default();
    let protocols: Vec<ListenerProtocol> = listeners.unwrap_or_default().iter().map(of).collect();
    let Some(other) = protocols.iter().copied().find(|protocol| *protocol != ListenerProtocol::Http) else {
        return;
    };
    if protocols.contains(&ListenerProtocol::Http) {
        let message = "the route applies to listeners of HTTP and of other protocols";
        scope.report.error_help(raw.span, "mixed_listeners", message, "write a route for each");
        return;
    }
    let nameless = protocols.contains(&ListenerProtocol::Tcp);
    let keys = [
        ("host", nameless && raw.host.is_some()),
        ("path", raw.path.is_some()),
        ("methods", raw.methods.is_some()),
        ("headers", raw.headers.is_some()),
        ("query", raw.query.is_some()),
        ("cookies", raw.cookies.is_some()),
        ("client_cert", raw.client_cert.is_some()),
        ("claims", raw.claims.is_some()),
        ("redirect", raw.redirect.is_some()),
        ("respond", raw.respond.is_some()),
        ("rewrite", raw.rewrite.is_some()),
        ("request_headers", raw.request_headers.is_some()),
        ("response_headers", raw.response_headers.is_some()),
        ("upgrades", raw.upgrades.is_some()),
        ("connect", raw.connect.is_some()),
        ("grpc_web", raw.grpc_web.is_some()),
        ("body_limit", raw.body_limit.is_some()),
        ("faults", raw.faults.is_some()),
        ("mirror", raw.mirror.is_some()),
        // `off` has one: it takes away what the app says, which bytes that are no HTTP could never show.
        ("cors", matches!(raw.cors, Some(Off::Set(_)))),
        ("auth", matches!(raw.auth, Some(Off::Set(_)))),
        ("authorizer", matches!(raw.authorizer, Some(Off::Set(_)))),
        ("head_limit", raw.head_limit.is_some()),
        ("fields_limit", raw.fields_limit.is_some()),
    ];
    for (key, _) in keys.into_iter().filter(|(_, is_written)| *is_written) {
        let message = format!("`{key}` has no meaning on a listener of protocol `{}`", other.word());
        scope.report.error_help(raw.span, "no_meaning", message, "leave it out");
    }
}

/// Bytes that are no HTTP cannot be a stream of HTTP/2.
pub(super) fn carries_raw(
    scope: &mut Scope<'_, '_>,
    raw: &RawRoute,
    route: &Route,
    clusters: &BTreeMap<ClusterName, Arc<Cluster>>,
) {
    let is_raw =
        |name: &ListenerName| scope.world.protocols.get(name).is_some_and(|p| *p != ListenerProtocol::Http);
    let Action::Forward(forward) = &route.action else { return };
    if !route.listeners.iter().flatten().any(is_raw) {
        return;
    }
    if route.entrance.as_ref().is_some_and(|steps| steps.auth.is_some() || steps.authorizer.is_some()) {
        let message = "the app asks for credentials, which bytes that are no HTTP cannot show";
        let help = "open the route: `auth = \"off\"` and `authorizer = \"off\"`";
        scope.report.error_help(raw.span, "no_meaning", message, help);
    }
    let speaks_http2 = |name: &&ClusterName| {
        clusters.get(*name).is_some_and(|cluster| cluster.policy.protocol != Protocol::Http1)
    };
    let Some(name) = forward.clusters.iter().map(|side| &side.cluster).find(speaks_http2) else { return };
    let message = format!("the route carries bytes that are no HTTP, and the cluster `{name}` speaks HTTP/2");
    scope.report.error_help(
        raw.span,
        "no_meaning",
        message,
        "leave out `protocol` of the cluster, or make one without",
    );
}
