//! Finds the deltas between two Models, and carries pointers over between equal ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Delta;
use crate::model::{App, Cluster, Endpoint, Model, Route};
use crate::shared_map::Difference;

/// The deltas that turn `a` into `b`: `apply(a, diff(a, b)) == b`. Pointer-equal parts cost nothing.
pub fn diff(a: &Model, b: &Model) -> Vec<Delta> {
    let mut deltas = Vec::new();
    let gone = a.listeners.keys().filter(|name| !b.listeners.contains_key(*name));
    deltas.extend(gone.map(|name| Delta::RemoveListener(name.clone())));
    for (name, listener) in &b.listeners {
        if a.listeners.get(name).is_none_or(|old| !same(old, listener)) {
            deltas.push(Delta::PutListener(Arc::clone(listener)));
        }
    }
    if !same(&a.trust, &b.trust) {
        deltas.push(Delta::PutTrust(Arc::clone(&b.trust)));
    }
    let changed = changed_apps(a, b);
    let gone = changed.iter().filter(|(_, is)| is.is_none()).filter_map(|(was, _)| *was);
    deltas.extend(gone.map(|app| Delta::RemoveApp(app.name.clone())));
    for (was, is) in changed {
        match (was, is) {
            (Some(old), Some(app)) => diff_app(old, app, &mut deltas),
            (None, Some(app)) => deltas.push(Delta::PutApp(Arc::clone(app))),
            (_, None) => {}
        }
    }
    deltas
}

/// An app as it was in one Model and as it is in the next; one of the two is always there.
pub type ChangedApp<'m> = Difference<'m, Arc<App>>;

/// The apps that are not the same object in two Models, in the order of their names. What the two share costs next to nothing.
pub fn changed_apps<'m>(before: &'m Model, after: &'m Model) -> Vec<ChangedApp<'m>> {
    before.apps.differences(&after.apps, Arc::ptr_eq)
}

fn diff_app(old: &App, new: &App, deltas: &mut Vec<Delta>) {
    let app = &new.name;
    for (name, cluster) in &new.clusters {
        match old.clusters.get(name) {
            None => deltas.push(Delta::PutCluster { app: app.clone(), cluster: Arc::clone(cluster) }),
            Some(before) if Arc::ptr_eq(before, cluster) => {}
            Some(before) => diff_cluster(new, before, cluster, deltas),
        }
    }
    // New clusters first, then routes, then removals: each prefix of the list leaves a Model that holds together.
    if !same(&old.routes, &new.routes) {
        deltas.push(Delta::PutRoutes { app: app.clone(), routes: Arc::clone(&new.routes) });
    }
    if !same(&old.share_hosts_with, &new.share_hosts_with) {
        let share_hosts_with = Arc::clone(&new.share_hosts_with);
        deltas.push(Delta::PutShare { app: app.clone(), share_hosts_with });
    }
    let gone = old.clusters.keys().filter(|name| !new.clusters.contains_key(*name));
    deltas.extend(gone.map(|name| Delta::RemoveCluster { app: app.clone(), cluster: name.clone() }));
}

fn diff_cluster(app: &App, old: &Cluster, new: &Cluster, deltas: &mut Vec<Delta>) {
    let place = || (app.name.clone(), new.name.clone());
    if !same(&old.policy, &new.policy) {
        let (app, cluster) = place();
        deltas.push(Delta::PutPolicy { app, cluster, policy: Arc::clone(&new.policy) });
    }
    if !same(&old.names, &new.names) {
        let (app, cluster) = place();
        deltas.push(Delta::PutNames { app, cluster, names: Arc::clone(&new.names) });
    }
    if Arc::ptr_eq(&old.endpoints, &new.endpoints) {
        return;
    }
    let before: BTreeMap<_, _> = old.endpoints.iter().map(|endpoint| (&endpoint.id, endpoint)).collect();
    let after: BTreeMap<_, _> = new.endpoints.iter().map(|endpoint| (&endpoint.id, endpoint)).collect();
    for id in before.keys().filter(|id| !after.contains_key(**id)) {
        let (app, cluster) = place();
        deltas.push(Delta::RemoveEndpoint { app, cluster, id: (*id).clone() });
    }
    for (id, endpoint) in after {
        if before.get(id).is_none_or(|old| !same(old, endpoint)) {
            let (app, cluster) = place();
            deltas.push(Delta::PutEndpoint { app, cluster, endpoint: Arc::clone(endpoint) });
        }
    }
}

/// Equal, looking at the pointers first.
pub(crate) fn same<T: PartialEq>(a: &Arc<T>, b: &Arc<T>) -> bool {
    Arc::ptr_eq(a, b) || a == b
}

/// Replaces every part of `new` that equals its counterpart in `old` by that counterpart, so that equal parts are
/// pointer-equal. Called by `build`, and by control after it put its overlay back on a built Model.
pub fn reuse(mut new: Model, old: &Model) -> Model {
    for (name, listener) in &mut new.listeners {
        keep(listener, old.listeners.get(name));
    }
    keep(&mut new.trust, Some(&old.trust));
    // On the old map, so that what did not change is shared with it.
    let mut apps = old.apps.clone();
    for name in old.apps.keys().filter(|name| !new.apps.contains_key(*name)) {
        apps.remove(name);
    }
    for (name, app) in &new.apps {
        let mut app = Arc::clone(app);
        let known = old.apps.get(name);
        if let Some(old) = known {
            reuse_app(&mut app, old);
        }
        if known.is_none_or(|old| !Arc::ptr_eq(old, &app)) {
            apps.insert(name.clone(), app);
        }
    }
    new.apps = apps;
    new
}

/// As [`reuse`], for one app.
pub(crate) fn reuse_app(app: &mut Arc<App>, old: &Arc<App>) {
    if Arc::ptr_eq(app, old) {
        return;
    }
    if same(app, old) {
        *app = Arc::clone(old);
        return;
    }
    let app = Arc::make_mut(app);
    keep(&mut app.share_hosts_with, Some(&old.share_hosts_with));
    if same(&app.routes, &old.routes) {
        app.routes = Arc::clone(&old.routes);
    } else {
        app.routes = Arc::new(reuse_routes(&app.routes, &old.routes));
    }
    for (name, cluster) in &mut app.clusters {
        if let Some(old) = old.clusters.get(name) {
            reuse_cluster(cluster, old);
        }
    }
}

fn reuse_routes(new: &[Arc<Route>], old: &[Arc<Route>]) -> Vec<Arc<Route>> {
    let by_name: BTreeMap<_, _> = old.iter().map(|route| (&route.name, route)).collect();
    let kept = |route: &Arc<Route>| by_name.get(&route.name).filter(|old| **old == route).copied();
    new.iter().map(|route| Arc::clone(kept(route).unwrap_or(route))).collect()
}

fn reuse_cluster(cluster: &mut Arc<Cluster>, old: &Arc<Cluster>) {
    if same(cluster, old) {
        *cluster = Arc::clone(old);
        return;
    }
    let cluster = Arc::make_mut(cluster);
    keep(&mut cluster.policy, Some(&old.policy));
    keep(&mut cluster.names, Some(&old.names));
    if same(&cluster.endpoints, &old.endpoints) {
        cluster.endpoints = Arc::clone(&old.endpoints);
        return;
    }
    let find = |endpoint: &Arc<Endpoint>| {
        let at = old.endpoints.binary_search_by(|old| old.id.cmp(&endpoint.id)).ok()?;
        old.endpoints.get(at).filter(|old| *old == endpoint)
    };
    let endpoints = cluster.endpoints.iter().map(|new| Arc::clone(find(new).unwrap_or(new))).collect();
    cluster.endpoints = Arc::new(endpoints);
}

fn keep<T: PartialEq>(new: &mut Arc<T>, old: Option<&Arc<T>>) {
    if let Some(old) = old
        && same(new, old)
    {
        *new = Arc::clone(old);
    }
}
