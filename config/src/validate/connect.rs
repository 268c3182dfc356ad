//! Ports of a route's `connect`: what a tunnel by CONNECT may name, and what has no meaning beside it. Whether a request asks for one is
//! the router's to see.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Scope;
use crate::model::{Action, Cluster, Protocol, Route};
use crate::names::ClusterName;
use crate::raw::RawRoute;

/// Reads the ports; one that stands twice is kept once.
pub(super) fn ports(scope: &mut Scope<'_, '_>, raw: &RawRoute) -> Vec<u16> {
    let mut ports: Vec<u16> = Vec::new();
    for written in raw.connect.iter().flatten() {
        match u16::try_from(written.value) {
            Ok(port) if port > 0 => ports.push(port),
            Ok(_) | Err(_) => {
                let message = format!("{} is no port", written.value);
                scope.report.error_help(written.span, "bad_port", message, "ports are 1 to 65535");
            }
        }
    }
    ports.sort_unstable();
    ports.dedup();
    if raw.connect.is_some() {
        beside(scope, raw);
    }
    ports
}

/// A CONNECT names a host and a port, and becomes a tunnel: other conditions never hold, and other actions answer no such request.
fn beside(scope: &mut Scope<'_, '_>, raw: &RawRoute) {
    let span = raw.connect.iter().flatten().next().map_or(raw.span, |port| port.span);
    let keys = [
        ("path", raw.path.is_some()),
        ("query", raw.query.is_some()),
        ("redirect", raw.redirect.is_some()),
        ("respond", raw.respond.is_some()),
    ];
    for (key, _) in keys.into_iter().filter(|(_, is_written)| *is_written) {
        let message = format!("`connect` has no meaning beside `{key}`: a CONNECT names a host and a port");
        scope.report.error_help(span, "no_meaning", message, "write a route for each");
    }
    if raw.methods.as_ref().is_some_and(|methods| methods.iter().all(|method| method.value != "CONNECT")) {
        let message = "the route allows CONNECT, and its `methods` do not list it";
        scope.report.error_help(span, "no_meaning", message, "add \"CONNECT\" to `methods`");
    }
}

/// The bytes of a tunnel cannot be a stream of HTTP/2.
pub(super) fn leads(
    scope: &mut Scope<'_, '_>,
    raw: &RawRoute,
    route: &Route,
    clusters: &BTreeMap<ClusterName, Arc<Cluster>>,
) {
    let Action::Forward(forward) = &route.action else { return };
    if route.connect.is_empty() {
        return;
    }
    let speaks_http2 = |name: &&ClusterName| {
        clusters.get(*name).is_some_and(|cluster| cluster.policy.protocol != Protocol::Http1)
    };
    if let Some(name) = forward.clusters.iter().map(|side| &side.cluster).find(speaks_http2) {
        let message = format!("the route carries tunnels, and the cluster `{name}` speaks HTTP/2");
        let help = "leave out `protocol` of the cluster, or make one without";
        scope.report.error_help(raw.span, "no_meaning", message, help);
    }
}
