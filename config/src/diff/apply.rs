//! Applies deltas to a Model and keeps what they do not touch pointer-equal.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::Delta;
use crate::model::{Action, App, Cluster, Endpoint, Listener, Model};
use crate::names::{AppName, ClusterName, EndpointId};

/// Why deltas do not fit a Model. Nothing was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApplyError {
    /// A delta names an app that is not there.
    UnknownApp(AppName),
    /// A delta names a cluster that is not there.
    UnknownCluster(AppName, ClusterName),
    /// After all deltas a route of the app would name a cluster that is not there.
    ClusterInUse(AppName, ClusterName),
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ApplyError::UnknownApp(app) => write!(f, "there is no app `{app}`"),
            ApplyError::UnknownCluster(app, cluster) => write!(f, "app `{app}` has no cluster `{cluster}`"),
            ApplyError::ClusterInUse(app, cluster) => {
                write!(f, "a route of app `{app}` names cluster `{cluster}`, which would be gone")
            }
        }
    }
}

impl std::error::Error for ApplyError {}

/// Changes of one cluster's endpoints in one batch: the last word for each id.
type EndpointEdits = BTreeMap<EndpointId, Option<Arc<Endpoint>>>;

/// An app being changed. Its own nodes are copied once for a whole batch.
struct Draft {
    app: App,
    edits: BTreeMap<ClusterName, EndpointEdits>,
    /// Routes were replaced or a cluster removed, so that names must be checked again.
    recheck: bool,
}

/// Applies deltas in order. A batch costs what it touches: a changed app costs its number of clusters once, a
/// changed cluster its number of endpoints once. Errors leave the given Model as it was. Called by control for
/// API changes, DNS answers and overlays.
pub fn apply(model: &Arc<Model>, deltas: &[Delta]) -> Result<Arc<Model>, ApplyError> {
    if deltas.is_empty() {
        return Ok(Arc::clone(model));
    }
    let mut work = Work { model: Model::clone(model), drafts: BTreeMap::new() };
    for delta in deltas {
        work.step(delta)?;
    }
    work.finish().map(Arc::new)
}

struct Work {
    model: Model,
    drafts: BTreeMap<AppName, Draft>,
}

impl Work {
    fn step(&mut self, delta: &Delta) -> Result<(), ApplyError> {
        match delta {
            Delta::PutListener(listener) => self.put_listener(listener),
            Delta::RemoveListener(name) => {
                self.model.listeners.remove(name);
            }
            Delta::PutTrust(trust) => self.model.trust = Arc::clone(trust),
            Delta::PutApp(app) => {
                self.drafts.remove(&app.name);
                self.model.apps.insert(app.name.clone(), Arc::clone(app));
            }
            Delta::RemoveApp(name) => {
                self.drafts.remove(name);
                self.model.apps.remove(name);
            }
            Delta::PutRoutes { app, routes } => {
                let draft = self.draft(app)?;
                draft.app.routes = Arc::clone(routes);
                draft.recheck = true;
            }
            Delta::PutShare { app, share_hosts_with } => {
                self.draft(app)?.app.share_hosts_with = Arc::clone(share_hosts_with);
            }
            Delta::PutCluster { app, cluster } => {
                let draft = self.draft(app)?;
                draft.edits.remove(&cluster.name);
                draft.app.clusters.insert(cluster.name.clone(), Arc::clone(cluster));
            }
            Delta::RemoveCluster { app, cluster } => {
                let draft = self.draft(app)?;
                draft.edits.remove(cluster);
                draft.recheck |= draft.app.clusters.remove(cluster).is_some();
            }
            Delta::PutPolicy { app, cluster, policy } => {
                self.cluster(app, cluster)?.policy = Arc::clone(policy);
            }
            Delta::PutNames { app, cluster, names } => self.cluster(app, cluster)?.names = Arc::clone(names),
            Delta::PutEndpoint { app, cluster, endpoint } => {
                self.edits(app, cluster)?.insert(endpoint.id.clone(), Some(Arc::clone(endpoint)));
            }
            Delta::RemoveEndpoint { app, cluster, id } => {
                self.edits(app, cluster)?.insert(id.clone(), None);
            }
        }
        Ok(())
    }

    fn put_listener(&mut self, listener: &Arc<Listener>) {
        self.model.listeners.insert(listener.name.clone(), Arc::clone(listener));
    }

    fn draft(&mut self, name: &AppName) -> Result<&mut Draft, ApplyError> {
        let app = self.model.apps.get(name).ok_or_else(|| ApplyError::UnknownApp(name.clone()))?;
        Ok(self.drafts.entry(name.clone()).or_insert_with(|| Draft {
            app: App::clone(app),
            edits: BTreeMap::new(),
            recheck: false,
        }))
    }

    fn cluster(&mut self, app: &AppName, cluster: &ClusterName) -> Result<&mut Cluster, ApplyError> {
        let unknown = || ApplyError::UnknownCluster(app.clone(), cluster.clone());
        // The copy shares endpoints and names, so it is a few counters.
        self.draft(app)?.app.clusters.get_mut(cluster).map(Arc::make_mut).ok_or_else(unknown)
    }

    fn edits(&mut self, app: &AppName, cluster: &ClusterName) -> Result<&mut EndpointEdits, ApplyError> {
        let draft = self.draft(app)?;
        if !draft.app.clusters.contains_key(cluster) {
            return Err(ApplyError::UnknownCluster(app.clone(), cluster.clone()));
        }
        Ok(draft.edits.entry(cluster.clone()).or_default())
    }

    fn finish(mut self) -> Result<Model, ApplyError> {
        for (name, mut draft) in self.drafts {
            for (cluster, edits) in draft.edits {
                if let Some(cluster) = draft.app.clusters.get_mut(&cluster) {
                    merge(cluster, edits);
                }
            }
            if draft.recheck {
                check_routes(&draft.app)?;
            }
            self.model.apps.insert(name, Arc::new(draft.app));
        }
        Ok(self.model)
    }
}

/// Merges edits into the sorted endpoints: one pass, whatever the number of edits.
fn merge(cluster: &mut Arc<Cluster>, edits: EndpointEdits) {
    let old = &cluster.endpoints;
    let mut merged = Vec::with_capacity(old.len() + edits.len());
    let mut rest = old.iter().peekable();
    for (id, edit) in edits {
        while let Some(endpoint) = rest.next_if(|endpoint| endpoint.id < id) {
            merged.push(Arc::clone(endpoint));
        }
        rest.next_if(|endpoint| endpoint.id == id);
        merged.extend(edit);
    }
    merged.extend(rest.map(Arc::clone));
    Arc::make_mut(cluster).endpoints = Arc::new(merged);
}

fn check_routes(app: &App) -> Result<(), ApplyError> {
    for route in app.routes.iter() {
        let Action::Forward(forward) = &route.action else { continue };
        if let Some(missing) = forward.clusters.iter().find(|side| !app.clusters.contains_key(&side.cluster))
        {
            return Err(ApplyError::ClusterInUse(app.name.clone(), missing.cluster.clone()));
        }
    }
    Ok(())
}
