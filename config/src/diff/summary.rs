//! One line that says what a list of deltas does, for the output of reload and for the log.

use std::fmt::Write;

use super::Delta;
use crate::model::{Model, Route};

/// Most steps named in a summary; the rest is counted.
const NAMED_MAX: usize = 8;

/// Says what `deltas` do to `before`: `+endpoint shop/web/10.0.0.1:80, ~routes shop (12 -> 13), -cluster shop/old`.
/// `+` adds, `~` changes, `-` removes; `no change` when there is nothing.
pub fn summary(before: &Model, deltas: &[Delta]) -> String {
    if deltas.is_empty() {
        return "no change".to_owned();
    }
    let mut text = String::new();
    for delta in deltas.iter().take(NAMED_MAX) {
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(&words(before, delta));
    }
    if deltas.len() > NAMED_MAX {
        // Writing to a String does not fail.
        let _ = write!(text, " and {} more", deltas.len() - NAMED_MAX);
    }
    text
}

fn words(before: &Model, delta: &Delta) -> String {
    let sign = |exists: bool| if exists { '~' } else { '+' };
    let app_of = |name| before.apps.get(name);
    match delta {
        Delta::PutListener(listener) => {
            let exists = before.listeners.contains_key(&listener.name);
            format!("{}listener {} ({})", sign(exists), listener.name, listener.address)
        }
        Delta::RemoveListener(name) => format!("-listener {name}"),
        Delta::PutTrust(_) => "~trust".to_owned(),
        Delta::PutApp(app) => {
            let exists = before.apps.contains_key(&app.name);
            let (routes, clusters) = (app.routes.len(), app.clusters.len());
            format!("{}app {} ({routes} routes, {clusters} clusters)", sign(exists), app.name)
        }
        Delta::RemoveApp(name) => format!("-app {name}"),
        Delta::PutRoutes { app, routes } => {
            let old: &[_] = app_of(app).map_or(&[], |app| app.routes.as_slice());
            format!("~routes {app} ({})", route_words(old, routes))
        }
        Delta::PutShare { app, .. } => format!("~share_hosts_with {app}"),
        Delta::PutCluster { app, cluster } => {
            let exists = app_of(app).is_some_and(|app| app.clusters.contains_key(&cluster.name));
            format!("{}cluster {app}/{} ({} endpoints)", sign(exists), cluster.name, cluster.endpoints.len())
        }
        Delta::RemoveCluster { app, cluster } => format!("-cluster {app}/{cluster}"),
        Delta::PutPolicy { app, cluster, .. } => format!("~policy {app}/{cluster}"),
        Delta::PutNames { app, cluster, .. } => format!("~names {app}/{cluster}"),
        Delta::PutEndpoint { app, cluster, endpoint } => {
            let cluster_before = app_of(app).and_then(|app| app.clusters.get(cluster));
            let exists = cluster_before
                .is_some_and(|old| old.endpoints.binary_search_by(|e| e.id.cmp(&endpoint.id)).is_ok());
            format!("{}endpoint {app}/{cluster}/{}", sign(exists), endpoint.id)
        }
        Delta::RemoveEndpoint { app, cluster, id } => format!("-endpoint {app}/{cluster}/{id}"),
    }
}

fn route_words(old: &[std::sync::Arc<Route>], new: &[std::sync::Arc<Route>]) -> String {
    let by_name: std::collections::BTreeMap<_, _> = old.iter().map(|route| (&route.name, route)).collect();
    let added = new.iter().filter(|route| !by_name.contains_key(&route.name)).count();
    let kept = new.len() - added;
    let changed =
        new.iter().filter(|route| by_name.get(&route.name).is_some_and(|old| *old != *route)).count();
    let removed = old.len().saturating_sub(kept);
    if added + changed + removed == 0 {
        return "order".to_owned();
    }
    format!("+{added} ~{changed} -{removed}")
}
