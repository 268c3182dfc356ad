//! Who may have which host, over all apps of one publish.
//!
//! A host stays with its recorded owner while the accepted version of the owner names it; free hosts go to
//! `default` first, then by app name. An app that wants another's host is refused whole and keeps its previous
//! version, and that again keeps what the previous version names, so the rulings are repeated until no further
//! app is refused: at most once per app, in practice once or twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::HostOwners;
use crate::model::{App, HostMatch, Role, Route};
use crate::names::{AppName, ListenerName};

/// An app with what it wants and what it has.
pub(crate) struct Claimant<'a> {
    pub(crate) name: AppName,
    /// Its new version; `None` when that is not valid.
    pub(crate) wanted: Option<&'a App>,
    /// The version that serves now.
    pub(crate) previous: Option<&'a Arc<App>>,
}

/// A route on a host that belongs to another app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Conflict {
    /// Index of the route in the wanted version.
    pub(crate) route: usize,
    key: String,
    owner: AppName,
}

impl Conflict {
    pub(crate) fn message(&self) -> String {
        match self.key.strip_prefix("*@") {
            Some(listener) => {
                format!("routes without a host on listener `{listener}` belong to app `{}`", self.owner)
            }
            None => format!("the host `{}` belongs to app `{}`", self.key, self.owner),
        }
    }

    pub(crate) fn help(&self) -> String {
        format!("app `{}` can allow it by naming this app in `share_hosts_with`", self.owner)
    }
}

/// What becomes of an app.
#[derive(Debug, Default)]
pub(crate) struct Ruling {
    /// The wanted version is taken.
    pub(crate) accepted: bool,
    /// Why not.
    pub(crate) conflicts: Vec<Conflict>,
    /// What serves instead: the previous version, without routes that the owner of their host no longer shares.
    pub(crate) kept: Option<Arc<App>>,
}

/// The rulings, in the order of the claimants, and the new record.
pub(crate) struct Settled {
    pub(crate) rulings: Vec<Ruling>,
    pub(crate) owners: HostOwners,
}

/// Decides for all apps at once. Claimants stand in the order of precedence.
pub(crate) fn settle(
    recorded: &HostOwners,
    claimants: &[Claimant<'_>],
    listeners: &BTreeMap<ListenerName, Role>,
) -> Settled {
    let edge: Vec<&ListenerName> =
        listeners.iter().filter(|(_, role)| **role == Role::Edge).map(|(name, _)| name).collect();
    let mut rulings: Vec<Ruling> =
        claimants.iter().map(|app| Ruling { accepted: app.wanted.is_some(), ..Ruling::default() }).collect();
    loop {
        let mut round = Round::new(recorded, claimants, &rulings, &edge);
        let refused = round.run();
        if refused.is_empty() {
            let owners = std::mem::take(&mut round.owners);
            let kept = claimants.iter().zip(&rulings).map(|(app, ruling)| match app.previous {
                Some(previous) if !ruling.accepted => Some(round.allowed(&owners, previous)),
                Some(_) | None => None,
            });
            let kept: Vec<_> = kept.collect();
            for (ruling, kept) in rulings.iter_mut().zip(kept) {
                ruling.kept = kept;
            }
            return Settled { rulings, owners };
        }
        for (index, conflicts) in refused {
            if let Some(ruling) = rulings.get_mut(index) {
                ruling.accepted = false;
                ruling.conflicts = conflicts;
            }
        }
    }
}

/// One pass under an assumption about which apps are accepted.
struct Round<'a> {
    /// The version of each app that would serve, in order, and whether it is a wanted one.
    versions: Vec<(&'a AppName, Option<&'a App>, bool)>,
    by_name: BTreeMap<&'a AppName, Option<&'a App>>,
    edge: &'a [&'a ListenerName],
    owners: HostOwners,
}

impl<'a> Round<'a> {
    fn new(
        recorded: &HostOwners,
        claimants: &'a [Claimant<'a>],
        rulings: &[Ruling],
        edge: &'a [&'a ListenerName],
    ) -> Self {
        let version = |(app, ruling): (&'a Claimant<'a>, &Ruling)| {
            let version = if ruling.accepted { app.wanted } else { app.previous.map(|app| &**app) };
            (&app.name, version, ruling.accepted)
        };
        let versions: Vec<_> = claimants.iter().zip(rulings).map(version).collect();
        let by_name = versions.iter().map(|(name, version, _)| (*name, *version)).collect();
        let mut round = Self { versions, by_name, edge, owners: recorded.clone() };
        round.release();
        round
    }

    /// Ends ownership of hosts that the owner's version no longer names. An app whose file is there but of which
    /// no version could ever be read (refused at a fresh start) keeps all it had.
    fn release(&mut self) {
        let mut named: BTreeMap<&AppName, BTreeSet<String>> = BTreeMap::new();
        for (name, version, _) in &self.versions {
            if let Some(app) = version {
                let keys = app.routes.iter().flat_map(|route| keys(route, self.edge)).collect();
                named.insert(name, keys);
            }
        }
        let by_name = &self.by_name;
        self.owners.retain(|host, owner| match by_name.get(owner) {
            None => false,
            Some(None) => true,
            Some(Some(_)) => named.get(owner).is_some_and(|keys| keys.contains(host)),
        });
    }

    /// Lets every app claim in order; gives the wanted versions that cannot be taken.
    fn run(&mut self) -> Vec<(usize, Vec<Conflict>)> {
        let mut refused = Vec::new();
        for (index, (name, version, wanted)) in self.versions.clone().into_iter().enumerate() {
            let Some(app) = version else { continue };
            let conflicts = self.conflicts(&self.owners, app);
            if wanted && !conflicts.is_empty() {
                refused.push((index, conflicts));
                continue;
            }
            for key in app.routes.iter().flat_map(|route| keys(route, self.edge)) {
                if self.owners.owner(&key).is_none_or(|owner| owner == name) {
                    self.owners.claim(&key, name);
                }
            }
        }
        refused
    }

    fn conflicts(&self, owners: &HostOwners, app: &App) -> Vec<Conflict> {
        let mut conflicts = Vec::new();
        for (index, route) in app.routes.iter().enumerate() {
            for key in keys(route, self.edge) {
                match owners.owner(&key) {
                    Some(owner) if *owner != app.name && !self.shares(owner, &app.name) => {
                        conflicts.push(Conflict { route: index, owner: owner.clone(), key });
                    }
                    Some(_) | None => {}
                }
            }
        }
        conflicts
    }

    fn shares(&self, owner: &AppName, with: &AppName) -> bool {
        self.by_name.get(owner).copied().flatten().is_some_and(|app| app.share_hosts_with.contains(with))
    }

    /// The previous version of a refused app, without what it may no longer have. Without this a withdrawn
    /// `share_hosts_with` would have no effect on an app that does not change.
    fn allowed(&self, owners: &HostOwners, previous: &Arc<App>) -> Arc<App> {
        let conflicts: BTreeSet<usize> =
            self.conflicts(owners, previous).into_iter().map(|conflict| conflict.route).collect();
        if conflicts.is_empty() {
            return Arc::clone(previous);
        }
        let routes = previous.routes.iter().enumerate().filter(|(index, _)| !conflicts.contains(index));
        let routes = routes.map(|(_, route)| Arc::clone(route)).collect();
        Arc::new(App { routes: Arc::new(routes), ..App::clone(previous) })
    }
}

/// The keys under which a route's host is recorded. Routes without a host are told apart by listener, so that an
/// ambassador may have one app for each direction.
fn keys(route: &Route, edge: &[&ListenerName]) -> Vec<String> {
    match (&route.host, &route.listeners) {
        (HostMatch::Exact(host), _) => vec![host.to_string()],
        (HostMatch::Wildcard(suffix), _) => vec![format!("*.{suffix}")],
        (HostMatch::Any, Some(listeners)) => listeners.iter().map(|name| format!("*@{name}")).collect(),
        (HostMatch::Any, None) => edge.iter().map(|name| format!("*@{name}")).collect(),
    }
}
