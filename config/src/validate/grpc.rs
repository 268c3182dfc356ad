//! What gRPC needs of a cluster: that it speaks HTTP/2. For routes with `grpc_web`, and for probes of the kind `grpc`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Scope, host};
use crate::model::{Action, Cluster, ProbeKind, Protocol, Route};
use crate::names::ClusterName;
use crate::raw::{RawProbe, RawRoute, Spanned};
use crate::source::Span;

/// A call that comes as gRPC-web goes on as gRPC, which is HTTP/2.
pub(super) fn speaks_http2(
    scope: &mut Scope<'_, '_>,
    raw: &RawRoute,
    route: &Route,
    clusters: &BTreeMap<ClusterName, Arc<Cluster>>,
) {
    let (true, Some(flag), Action::Forward(forward)) = (route.grpc_web, &raw.grpc_web, &route.action) else {
        return;
    };
    let speaks_http1 = |name: &&ClusterName| {
        clusters.get(*name).is_some_and(|cluster| cluster.policy.protocol == Protocol::Http1)
    };
    if let Some(name) = forward.clusters.iter().map(|side| &side.cluster).find(speaks_http1) {
        let message = format!("gRPC-web becomes gRPC, and the cluster `{name}` does not speak HTTP/2");
        let help = format!("write `protocol = \"h2\"` in [cluster.{name}]");
        scope.report.error_help(flag.span, "needs_http2", message, help);
    }
}

/// An authorizer that is asked by a call is asked over HTTP/2.
pub(super) fn authorizer_speaks_http2(
    scope: &mut Scope<'_, '_>,
    place: Span,
    route: &Route,
    clusters: &BTreeMap<ClusterName, Arc<Cluster>>,
) {
    let asked = route.entrance.as_ref().and_then(|steps| steps.authorizer.as_ref());
    let Some(asked) = asked.filter(|asked| asked.grpc) else { return };
    let is_http1 = |cluster: &Arc<Cluster>| cluster.policy.protocol == Protocol::Http1;
    if clusters.get(&asked.cluster).is_some_and(is_http1) {
        let name = &asked.cluster;
        let message =
            format!("the authorizer is asked by gRPC, and the cluster `{name}` does not speak HTTP/2");
        let help = format!("write `protocol = \"h2\"` in [cluster.{name}]");
        scope.report.error_help(place, "needs_http2", message, help);
    }
}

/// Reads a probe of the kind `grpc`.
pub(super) fn probe(
    scope: &mut Scope<'_, '_>,
    raw: &RawProbe,
    service: &Spanned<String>,
    protocol: Protocol,
) -> Option<ProbeKind> {
    let http_only = [
        ("status", raw.status.as_ref().map(|status| status.span)),
        ("body", raw.body.as_ref().map(|text| text.span)),
    ];
    for (key, span) in http_only.into_iter().filter_map(|(key, span)| span.map(|span| (key, span))) {
        scope.report.error(span, "no_meaning", format!("`{key}` has no meaning in a gRPC probe"));
    }
    if protocol == Protocol::Http1 {
        let message = "a gRPC probe speaks HTTP/2, and the cluster does not";
        scope.report.error_help(
            service.span,
            "needs_http2",
            message,
            "write `protocol = \"h2\"` in the cluster",
        );
    }
    if service.value.chars().any(char::is_control) {
        scope.report.error(service.span, "bad_text", "the text holds a control character");
    }
    let host = match &raw.host {
        Some(text) => Some(scope.accept(text.span, host::authority(&text.value))?),
        None => None,
    };
    Some(ProbeKind::Grpc { service: Arc::from(service.value.as_str()), host })
}
