//! What a route does: forward, redirect or answer.

use std::sync::Arc;

use super::{Fault, Scope, field, host, path};
use crate::model::{Action, FixedResponse, Forward, PathMatch, Redirect, SplitKey, WeightedCluster};
use crate::names::{ClusterName, RouteName};
use crate::raw::{Off, RawRedirect, RawRespond, RawRoute, RawSide, RawSplit, Spanned, TextOr, shown};

/// What an action may refer to.
pub(super) struct Around<'a> {
    /// Clusters written in the app, also those that have errors of their own.
    pub(super) clusters: &'a std::collections::BTreeSet<ClusterName>,
    /// The route's name.
    pub(super) name: &'a RouteName,
    /// The route's path, when it could be read.
    pub(super) path: Option<&'a PathMatch>,
}

/// Reads the action of a route. `None` after a finding.
pub(super) fn action(scope: &mut Scope<'_, '_>, raw: &RawRoute, around: &Around<'_>) -> Option<Action> {
    match (&raw.cluster, &raw.clusters, &raw.redirect, &raw.respond) {
        (Some(name), None, None, None) => {
            let cluster = cluster_name(scope, name, around);
            let clusters = cluster.map(|cluster| vec![WeightedCluster { cluster, weight: 1 }]);
            forward(scope, raw, around, clusters)
        }
        (None, Some(sides), None, None) => {
            let clusters = weighted(scope, raw, sides, around);
            forward(scope, raw, around, clusters)
        }
        (None, None, Some(written), None) => {
            only_forward(scope, raw);
            redirect(scope, written, around).map(Action::Redirect)
        }
        (None, None, None, Some(written)) => {
            only_forward(scope, raw);
            respond(scope, written).map(Action::Fixed)
        }
        _ => {
            if raw.clean {
                let message = "a route has exactly one of `cluster`, `clusters`, `redirect` and `respond`";
                scope.report.error(raw.span, "one_of", message);
            }
            None
        }
    }
}

/// Keys that mean nothing without a cluster are refused rather than ignored.
fn only_forward(scope: &mut Scope<'_, '_>, raw: &RawRoute) {
    let split = raw.split.as_ref().map(|split| match split {
        TextOr::Text(text) => text.span,
        TextOr::Long(split) => split.span,
    });
    let upgrades = raw.upgrades.as_ref().map(|written| match written {
        Off::Off => raw.span,
        Off::Set(list) => list.first().map_or(raw.span, |text| text.span),
    });
    let spans = [
        ("rewrite", raw.rewrite.as_ref().map(|rewrite| rewrite.span)),
        ("split", split),
        ("salt", raw.salt.as_ref().map(|salt| salt.span)),
        ("request_headers", raw.request_headers.as_ref().map(|edits| edits.span)),
        ("upgrades", upgrades),
        ("grpc_web", raw.grpc_web.as_ref().map(|flag| flag.span)),
    ];
    for (key, span) in spans.into_iter().filter_map(|(key, span)| span.map(|span| (key, span))) {
        let message = format!("`{key}` has no meaning without `cluster` or `clusters`");
        scope.report.error_help(span, "no_meaning", message, "leave it out");
    }
}

fn cluster_name(
    scope: &mut Scope<'_, '_>,
    text: &Spanned<String>,
    around: &Around<'_>,
) -> Option<ClusterName> {
    let found = around.clusters.get(text.value.as_str()).cloned();
    if found.is_none() {
        let known = around.clusters.iter().map(ClusterName::as_str);
        scope.unknown("unknown_cluster", "cluster", text, known);
    }
    found
}

fn weighted(
    scope: &mut Scope<'_, '_>,
    raw: &RawRoute,
    sides: &[RawSide],
    around: &Around<'_>,
) -> Option<Vec<WeightedCluster>> {
    let mut clusters: Vec<WeightedCluster> = Vec::with_capacity(sides.len());
    let mut whole = true;
    for side in sides {
        let Some(name) = side.name.as_ref().filter(|_| side.clean) else {
            whole = false;
            continue;
        };
        let weight = side.weight.as_ref().map_or(1, |weight| weight.value);
        let cluster = cluster_name(scope, name, around);
        let Some((cluster, weight)) = cluster.zip(u16::try_from(weight).ok()) else {
            whole = false;
            continue;
        };
        if clusters.iter().any(|other| other.cluster == cluster) {
            let message = format!("the cluster `{cluster}` stands twice in one split");
            scope.report.error_help(name.span, "duplicate_cluster", message, "add up the two weights");
        }
        clusters.push(WeightedCluster { cluster, weight });
    }
    if whole && raw.clean && clusters.iter().all(|side| side.weight == 0) {
        let span = sides.first().map_or(raw.span, |side| side.span);
        scope.report.error_help(span, "weights_sum_zero", "all weights are 0", "give one of them at least 1");
        return None;
    }
    whole.then_some(clusters)
}

fn forward(
    scope: &mut Scope<'_, '_>,
    raw: &RawRoute,
    around: &Around<'_>,
    clusters: Option<Vec<WeightedCluster>>,
) -> Option<Action> {
    let split = split(scope, raw.split.as_ref());
    let rewrite = raw.rewrite.as_ref();
    let prefix = rewrite.and_then(|rewrite| rewrite.prefix.as_ref());
    let prefix_rewrite = prefix.and_then(|text| new_prefix(scope, text, around));
    let host = rewrite.and_then(|rewrite| rewrite.host.as_ref());
    let host_rewrite = host.and_then(|text| scope.accept(text.span, host::authority(&text.value)));
    let salt = raw.salt.as_ref().map(|salt| Arc::from(salt.value.as_str()));
    Some(Action::Forward(Forward {
        clusters: clusters?,
        split: split?,
        salt: salt.unwrap_or_else(|| around.name.text()),
        prefix_rewrite,
        host_rewrite,
    }))
}

fn split(scope: &mut Scope<'_, '_>, raw: Option<&TextOr<RawSplit>>) -> Option<SplitKey> {
    match raw {
        None => Some(SplitKey::Client),
        Some(TextOr::Text(text)) if text.value == "client" => Some(SplitKey::Client),
        Some(TextOr::Text(text)) => {
            let message = format!("unknown value `{}`", shown(&text.value));
            let help = "write \"client\", { header = \"...\" } or { cookie = \"...\" }";
            scope.report.error_help(text.span, "unknown_value", message, help);
            None
        }
        Some(TextOr::Long(raw)) => match (&raw.header, &raw.cookie) {
            (Some(text), None) => scope.accept(text.span, field::name(&text.value)).map(SplitKey::Header),
            (None, Some(text)) => Some(SplitKey::Cookie(Arc::from(text.value.as_str()))),
            _ => {
                if raw.clean {
                    scope.report.error(
                        raw.span,
                        "one_of",
                        "a split has exactly one of `header` and `cookie`",
                    );
                }
                None
            }
        },
    }
}

/// A text that replaces the matched prefix; needs a prefix to replace.
fn new_prefix(scope: &mut Scope<'_, '_>, text: &Spanned<String>, around: &Around<'_>) -> Option<Arc<str>> {
    if let Some(PathMatch::Exact(_) | PathMatch::Regex(_)) = around.path {
        let message = "a prefix can be replaced only where the path is a prefix";
        scope.report.error_help(
            text.span,
            "needs_prefix",
            message,
            "write the route's `path` as a plain text",
        );
    }
    scope.accept(text.span, path::prefix(&text.value))
}

fn redirect(scope: &mut Scope<'_, '_>, raw: &RawRedirect, around: &Around<'_>) -> Option<Redirect> {
    let before = scope.report.errors();
    let status = raw.status.as_ref().map_or(308, |status| status.value);
    if let Some(status) = raw.status.as_ref().filter(|status| matches!(status.value, 304..=306)) {
        let help = "308 and 307 keep the method; 301, 302 and 303 do not promise to";
        scope.report.error_help(status.span, "bad_status", "not a redirect: 301, 302, 303, 307 or 308", help);
    }
    let scheme = raw.scheme.as_ref().and_then(|text| {
        let known = matches!(text.value.as_str(), "http" | "https");
        let fault = || {
            Fault::new("unknown_value", format!("unknown value `{}`", shown(&text.value)))
                .help("one of \"http\", \"https\"")
        };
        scope.accept(text.span, if known { Ok(Arc::from(text.value.as_str())) } else { Err(fault()) })
    });
    let host = raw.host.as_ref().and_then(|text| scope.accept(text.span, host::authority(&text.value)));
    let path = raw.path.as_ref().and_then(|text| scope.accept(text.span, path::literal(&text.value)));
    let prefix = raw.prefix.as_ref().and_then(|text| new_prefix(scope, text, around));
    if let (Some(_), Some(prefix)) = (&raw.path, &raw.prefix) {
        scope.report.error(prefix.span, "one_of", "a redirect has at most one of `path` and `prefix`");
    }
    if raw.clean && raw.scheme.is_none() && raw.host.is_none() && raw.path.is_none() && raw.prefix.is_none() {
        let help = "write at least one of `scheme`, `host`, `path` and `prefix`";
        scope.report.error_help(
            raw.span,
            "redirect_to_itself",
            "the redirect leads to the same URL again",
            help,
        );
    }
    let strip_query = raw.strip_query.unwrap_or(false);
    let status = u16::try_from(status).ok()?;
    (raw.clean && scope.report.errors() == before).then_some(Redirect {
        status,
        scheme,
        host,
        path,
        prefix,
        strip_query,
    })
}

fn respond(scope: &mut Scope<'_, '_>, raw: &RawRespond) -> Option<FixedResponse> {
    let status = raw.status.as_ref().map_or(200, |status| status.value);
    let body = raw.body.as_ref().map_or("", |body| &body.value);
    if let (204 | 205 | 304, Some(body)) = (status, raw.body.as_ref().filter(|body| !body.value.is_empty())) {
        scope.report.error(body.span, "no_meaning", format!("a response {status} has no body"));
    }
    let content_type = match &raw.content_type {
        Some(text) => scope.accept(text.span, field::value(&text.value))?,
        None => Arc::from("text/plain; charset=utf-8"),
    };
    Some(FixedResponse { status: u16::try_from(status).ok()?, content_type, body: Arc::from(body) })
}
