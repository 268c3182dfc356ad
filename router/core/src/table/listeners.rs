//! The host index of each listener, made from the one before: only the hosts that a change touched are made anew.

use std::collections::BTreeMap;
use std::sync::Arc;

use ekiden_config::model::{App, HostMatch, Listener, ListenerProtocol, Model, Role, Route};
use ekiden_config::names::AppName;
use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;

use super::hosts::HostIndex;
use super::order::{RuleOrder, owner_of};
use super::paths::HostPaths;
use super::routes::{AppPart, AppRoutes};
use super::{ListenerTable, RouteEntry};
use crate::policy::admission::AdmissionSteps;
use crate::policy::limit::{LimitPlace, Limiters, Maker};

/// Whether a route applies to a listener: by name when it names any, else to every HTTP listener of role edge.
pub(super) fn applies(route: &Route, listener: &Listener) -> bool {
    match &route.listeners {
        Some(names) => names.contains(&listener.name),
        None => listener.role == Role::Edge && listener.protocol == ListenerProtocol::Http,
    }
}

/// Which apps have routes on which hosts.
#[derive(Debug, Default)]
pub(super) struct Claims(FxHashMap<HostMatch, SmallVec<[AppName; 1]>>);

impl Claims {
    /// Notes that an app's routes changed; gives the hosts to make anew. `all` when the order on every host of the app may
    /// have changed though its entries did not.
    pub(super) fn update(
        &mut self,
        app: &AppName,
        before: &AppRoutes,
        after: &AppRoutes,
        all: bool,
        touched: &mut FxHashSet<HostMatch>,
    ) {
        for host in before.hosts() {
            if all || !before.same_on_host(after, host) {
                touched.insert(host.clone());
            }
            if after.on_host(host).next().is_none() {
                self.remove(host, app);
            }
        }
        for host in after.hosts() {
            let claimants = self.0.entry(host.clone()).or_default();
            if !claimants.contains(app) {
                claimants.push(app.clone());
                touched.insert(host.clone());
            }
        }
    }

    fn remove(&mut self, host: &HostMatch, app: &AppName) {
        if let Some(claimants) = self.0.get_mut(host) {
            claimants.retain(|name| name != app);
            if claimants.is_empty() {
                self.0.remove(host);
            }
        }
    }

    /// The rules of a host on a listener, sorted.
    fn paths(
        &self,
        host: &HostMatch,
        listener: &Listener,
        apps: &BTreeMap<AppName, AppPart>,
    ) -> Option<HostPaths> {
        let claimants = self.0.get(host)?;
        let parts: SmallVec<[&AppPart; 4]> = claimants.iter().filter_map(|name| apps.get(name)).collect();
        let models: SmallVec<[&App; 4]> = parts.iter().map(|part| &*part.table.app).collect();
        let owner = owner_of(&models);
        let mut rules: Vec<(RuleOrder, &Arc<RouteEntry>)> = Vec::new();
        for part in &parts {
            for (position, entry) in part.routes.on_host(host) {
                if applies(&entry.route, listener) {
                    let order = RuleOrder::new(&entry.app_name, position, &entry.route, owner);
                    rules.push((order, entry));
                }
            }
        }
        rules.sort_by(|(a, _), (b, _)| a.cmp(b));
        let entries: Vec<Arc<RouteEntry>> = rules.into_iter().map(|(_, entry)| entry.clone()).collect();
        HostPaths::new(&entries)
    }
}

/// Whether the routes that name no listener apply to both alike.
fn same_routes(old: &Listener, new: &Listener) -> bool {
    (old.role, old.protocol) == (new.role, new.protocol)
}

/// The listeners of a table. A listener that is new or changed its role is made from every host; otherwise only from
/// the touched ones, and shared as it is when there are none.
///
/// Cost of a touched host: its rules, plus a copy of its shard (1/256 of the listener's hosts) when it is the first
/// one of that shard.
pub(super) fn listener_tables(
    model: &Model,
    before: &[Arc<ListenerTable>],
    claims: &Claims,
    touched: &FxHashSet<HostMatch>,
    apps: &BTreeMap<AppName, AppPart>,
    maker: Maker,
) -> Vec<Arc<ListenerTable>> {
    let table = |listener: &Arc<Listener>| {
        let old = before.iter().find(|old| old.listener.name == listener.name);
        let hosts = match old.filter(|old| same_routes(&old.listener, listener)) {
            Some(old) if touched.is_empty() => {
                if Arc::ptr_eq(&old.listener, listener) {
                    return old.clone();
                }
                old.hosts.clone()
            }
            Some(old) => {
                let mut hosts = (*old.hosts).clone();
                touched.iter().for_each(|host| hosts.put(host, claims.paths(host, listener, apps)));
                Arc::new(hosts)
            }
            None => {
                let mut hosts = HostIndex::new();
                claims.0.keys().for_each(|host| hosts.put(host, claims.paths(host, listener, apps)));
                Arc::new(hosts)
            }
        };
        let admission = match (&listener.admission, old) {
            (Some(words), Some(old))
                if old.listener.admission.as_ref().is_some_and(|was| Arc::ptr_eq(was, words)) =>
            {
                old.admission.clone()
            }
            (Some(words), _) => Some(Arc::new(AdmissionSteps::new(words))),
            (None, _) => None,
        };
        let cell = old.map_or_else(Arc::default, |old| old.cell.clone());
        let limits = limits(listener, old, maker);
        Arc::new(ListenerTable { listener: listener.clone(), cell, admission, limits, hosts })
    };
    model.listeners.values().map(table).collect()
}

/// The limits of a listener, with what they counted before.
fn limits(listener: &Listener, old: Option<&Arc<ListenerTable>>, maker: Maker) -> Option<Arc<Limiters>> {
    let words = listener.rate_limits.as_ref()?;
    let place = LimitPlace { listener: Some(listener.name.clone()), ..LimitPlace::default() };
    let old = old.and_then(|old| old.limits.as_deref());
    Some(Arc::new(Limiters::new(words, &place, old, maker)))
}
