//! One app: its clusters, then its routes, and the hosts it names.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::admission::{self, Written};
use super::entrance;
use super::route::{Shared, route};
use super::{Scope, World, cluster, connect, grpc, limit, overload, raw as raw_route, timeout};
use crate::diagnostic::Report;
use crate::model::{App, RouteLimits, Timeouts};
use crate::names::{AppName, ClusterName};
use crate::raw::{
    Map, Off, RawApp, RawCaps, RawCluster, RawLimit, RawProcess, RawRoute, RawTimeout, Spanned,
};
use crate::source::Span;

/// What forms an app, from the process file or from a file of its own.
pub(crate) struct AppParts<'a> {
    clusters: Option<&'a Map<RawCluster>>,
    routes: &'a [RawRoute],
    listeners: Option<&'a [Spanned<String>]>,
    timeout: Option<&'a RawTimeout>,
    share_hosts_with: &'a [Spanned<String>],
    admission: Written<'a>,
    body_limit: Option<u64>,
    entrance: entrance::Written<'a>,
    limits: Option<&'a Vec<RawLimit>>,
    caps: Option<&'a RawCaps>,
}

/// The keys of an app stand on the process file and on a file of the apps directory alike.
macro_rules! app_parts {
    ($($raw:ident),*) => {$(
        impl<'a> From<&'a $raw> for AppParts<'a> {
            fn from(raw: &'a $raw) -> Self {
                Self {
                    clusters: raw.cluster.as_ref(),
                    routes: raw.route.as_deref().unwrap_or_default(),
                    listeners: raw.listeners.as_deref(),
                    timeout: raw.timeout.as_ref(),
                    share_hosts_with: raw.share_hosts_with.as_deref().unwrap_or_default(),
                    admission: Written {
                        allow: raw.allow.as_ref(),
                        deny: raw.deny.as_ref(),
                        denied_headers: raw.denied_headers,
                        head_limit: raw.head_limit,
                        fields_limit: raw.fields_limit,
                    },
                    body_limit: raw.body_limit.map(|limit| limit.0),
                    entrance: entrance::Written { cors: raw.cors.as_ref(), auth: raw.auth.as_ref(), authorizer: raw.authorizer.as_ref() },
                    limits: raw.limit.as_ref(),
                    caps: raw.caps.as_ref(),
                }
            }
        }
    )*};
}

app_parts!(RawProcess, RawApp);

/// An app that is valid by itself.
#[derive(Debug)]
pub(crate) struct CheckedApp {
    pub(crate) app: App,
    /// Where each route's host stands, in the order of the routes.
    pub(crate) places: Vec<Span>,
}

/// Reads an app. The result is whole only when the report has no error.
pub(crate) fn app(name: AppName, parts: &AppParts<'_>, world: &World, report: &mut Report<'_>) -> CheckedApp {
    let mut scope = Scope { report, world, patterns: 0 };
    let listeners = parts.listeners.map(|names| scope.listeners(names));
    let timeouts = timeout::over(&mut scope, Timeouts::default(), parts.timeout);
    let (clusters, known) = clusters(&mut scope, &name, parts);
    let (names, seen) = (BTreeMap::new(), BTreeMap::new());
    let admission = admission::over(&mut scope, None, &parts.admission);
    let body_limit = parts.body_limit;
    let limits = limit::list(&mut scope, parts.limits, ("app", Some(&name)));
    let rate_limits =
        (!limits.is_empty()).then(|| Arc::new(RouteLimits { app: Arc::new(limits), route: Vec::new() }));
    let caps = overload::caps(parts.caps);
    let entrance = entrance::over(&mut scope, (&name, &known), None, &parts.entrance);
    let mut shared = Shared {
        listeners,
        timeouts,
        admission,
        body_limit,
        rate_limits,
        entrance,
        app: name.clone(),
        caps,
        clusters: known,
        names,
        policies: Vec::new(),
        seen,
    };
    let mut routes = Vec::with_capacity(parts.routes.len());
    let mut places = Vec::with_capacity(parts.routes.len());
    for (index, raw) in parts.routes.iter().enumerate() {
        if let Some(route) = route(&mut scope, raw, index + 1, &mut shared) {
            raw_route::carries_raw(&mut scope, raw, &route, &clusters);
            connect::leads(&mut scope, raw, &route, &clusters);
            grpc::speaks_http2(&mut scope, raw, &route, &clusters);
            let place = match &raw.authorizer {
                Some(Off::Set(asked)) => asked.grpc.as_ref().map_or(asked.span, |flag| flag.span),
                Some(Off::Off) | None => raw.span,
            };
            grpc::authorizer_speaks_http2(&mut scope, place, &route, &clusters);
            routes.push(Arc::new(route));
            places.push(raw.host.as_ref().map_or(raw.span, |host| host.span));
        }
    }
    routes.shrink_to_fit();
    let share_hosts_with = Arc::new(share(&mut scope, &name, parts));
    CheckedApp { app: App { name, routes: Arc::new(routes), clusters, share_hosts_with }, places }
}

type Clusters = BTreeMap<ClusterName, Arc<crate::model::Cluster>>;

/// The clusters, and the names of all written ones: a route to a cluster that has an error of its own is no
/// second error.
fn clusters(
    scope: &mut Scope<'_, '_>,
    app: &AppName,
    parts: &AppParts<'_>,
) -> (Clusters, BTreeSet<ClusterName>) {
    let mut clusters = BTreeMap::new();
    let mut known = BTreeSet::new();
    for (key, raw) in parts.clusters.iter().flat_map(|map| &map.0) {
        let Some(name) = scope.name(key, ClusterName::new) else { continue };
        known.insert(name.clone());
        if let Some(mut cluster) = cluster::cluster(scope, app, key, name.clone(), raw) {
            // Most clusters of an app have the same policy.
            let last: Option<&Arc<crate::model::Cluster>> = clusters.values().next_back();
            if let Some(last) = last.filter(|last| last.policy == cluster.policy) {
                cluster.policy = Arc::clone(&last.policy);
            }
            clusters.insert(name, Arc::new(cluster));
        }
    }
    (clusters, known)
}

fn share(scope: &mut Scope<'_, '_>, name: &AppName, parts: &AppParts<'_>) -> Vec<AppName> {
    let mut apps = Vec::new();
    for text in parts.share_hosts_with {
        let Some(other) = scope.name(text, AppName::new) else { continue };
        if other == *name || !scope.world.apps.contains(&other) {
            let message = format!("there is no other app `{other}`");
            let help = "app files are named after their app; the line has no effect until there is one";
            scope.report.warning(text.span, "unknown_app", message, help);
        }
        if !apps.contains(&other) {
            apps.push(other);
        }
    }
    apps.sort();
    apps
}
