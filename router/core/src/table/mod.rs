//! The table: the compiled snapshot that workers match against. Immutable once made; parts that did not change are
//! shared with the table before.
//!
//! Matching follows DESIGN section 3: listener, host, path, conditions, ties. Making a table is [`compile`]'s work;
//! picking an endpoint is the cluster's.

mod changes;
mod compile;
mod conditions;
mod explain;
mod hosts;
mod limits;
mod listeners;
mod methods;
#[cfg(test)]
mod naive;
pub mod order;
mod paths;
mod routes;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use ekiden_config::doors::Generation;
use ekiden_config::model::{self, LoosePath};
use ekiden_config::names::{AppName, ClusterName, ListenerName};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

pub use self::compile::{Compiled, Compiler};
use self::hosts::HostIndex;
pub use self::methods::Allow;
use self::paths::Selection;
use self::routes::AppRoutes;
use crate::client_cert::ClientCert;
use crate::cluster::ClusterTable;
use crate::connection_limits::ListenerCell;
use crate::overload::caps::Caps;
use crate::overload::hold::HoldGate;
use crate::policy::admission::AdmissionSteps;
use crate::policy::entrance::EntranceSteps;
use crate::policy::limit::{Limiters, RouteLimiters};
use crate::policy::mirror::MirrorSteps;
use crate::split::Side;
use crate::stats::RouteCell;

/// The header fields of a request, as matching sees them.
pub trait Fields {
    /// Visits the values of the fields of this name (given in lower case, compared without case) in order, until
    /// `visit` returns false. Must not allocate.
    fn each(&self, name: &str, visit: &mut dyn FnMut(&[u8]) -> bool);
}

/// What is known of a request when it is matched.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// As [`crate::host::host_of`] gives it; empty when the request has none.
    pub host: &'a str,
    /// In normal form: [`crate::path::normalize`]; or `*`, which only the prefix `/` matches.
    pub path: &'a str,
    /// [`crate::path::loose`] of the path.
    pub loose: Option<&'a str>,
    /// Without its `?`; empty when there is none.
    pub query: &'a str,
    /// The method token, in its case.
    pub method: &'a str,
    /// The header fields.
    pub fields: &'a dyn Fields,
    /// The certificate that the client showed.
    pub client_cert: Option<&'a ClientCert>,
}

/// What a table says about a request.
#[derive(Debug, Clone, Copy)]
pub enum Match<'t> {
    /// This rule takes it. An exchange that outlives the table clones the `Arc`.
    Route(&'t Arc<RouteEntry>),
    /// No rule takes it: 404.
    NotFound,
    /// Rules would take it but for the method: 405 with this `Allow`.
    MethodNotAllowed(Allow<'t>),
    /// The loose form of the path selects another rule, or a rule where the normal form selects none or the other way
    /// round; or no one loose form stands for all readings ([`crate::path::has_many_readings`]): 400.
    Ambiguous,
}

/// A compiled rule. Lives as long as some table or exchange holds it.
#[derive(Debug)]
pub struct RouteEntry {
    /// The rule as validated.
    pub route: Arc<model::Route>,
    /// Slot of its app, for [`Table::cluster`] on the table it was found in.
    pub app: u32,
    /// Its app.
    pub app_name: AppName,
    /// Its app's name and its own, one behind the other: what a record takes of it, in one piece.
    pub names: Box<str>,
    /// Its counters, which outlive tables.
    pub cell: Arc<RouteCell>,
    /// What it leads to.
    pub target: Target,
    /// What it lets in, shared with the routes that have the same words; none means everything.
    pub admission: Option<Arc<AdmissionSteps>>,
    /// What a request must show, shared with the routes that have the same words; none means nothing.
    pub entrance: Option<Arc<EntranceSteps>>,
    /// What is copied of its requests; none means nothing.
    pub mirror: Option<Arc<MirrorSteps>>,
    /// Rates of requests; none means no bound.
    pub limits: Option<Arc<RouteLimiters>>,
    /// What its app may use; none means no bound.
    pub caps: Option<Arc<Caps>>,
    /// Where its requests wait while its app is held, as the route says; there once the app was held.
    pub hold: Option<Arc<HoldGate>>,
}

/// What a rule leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Clusters of the same app with weights; [`crate::split::side`] chooses. Names are distinct.
    Clusters(SmallVec<[Side; 1]>),
    /// The redirect of the route's action.
    Redirect,
    /// The fixed response of the route's action, or the app is in maintenance.
    Fixed,
}

/// A listener with the rules that apply to it.
#[derive(Debug)]
pub struct ListenerTable {
    /// The listener as validated.
    pub listener: Arc<model::Listener>,
    /// What it refused; kept from table to table.
    pub cell: Arc<ListenerCell>,
    /// Whom it serves, judged before a rule is looked for; none means everyone.
    pub admission: Option<Arc<AdmissionSteps>>,
    /// Rates of requests, judged before a rule is looked for; none means no bound.
    pub limits: Option<Arc<Limiters>>,
    hosts: Arc<HostIndex>,
}

/// An app with its clusters.
#[derive(Debug)]
pub struct AppTable {
    /// The app as validated: its last good version.
    pub app: Arc<model::App>,
    /// Sorted by name; a cluster's slot is its index. Slots shift when clusters come or go, and the app's route
    /// entries are made anew then.
    pub clusters: Vec<Arc<ClusterTable>>,
}

impl AppTable {
    /// The cluster of this name.
    pub fn cluster(&self, name: &ClusterName) -> Option<&Arc<ClusterTable>> {
        let at = self.clusters.binary_search_by(|table| table.cluster.name.cmp(name)).ok()?;
        self.clusters.get(at)
    }
}

/// One generation of everything that workers match against.
#[derive(Debug)]
pub struct Table {
    /// Its number.
    pub generation: Generation,
    /// Sorted by name. An index holds for this table only; see [`Table::listener`].
    pub listeners: Vec<Arc<ListenerTable>>,
    apps: Vec<Option<Arc<AppTable>>>,
    slots: Arc<FxHashMap<AppName, u32>>,
    /// In the order of the apps' names.
    routes: Arc<[Arc<AppRoutes>]>,
}

impl Table {
    /// A table without listeners and apps, generation 0: what serves before the first publish.
    pub fn empty() -> Self {
        Self {
            generation: Generation(0),
            listeners: Vec::new(),
            apps: Vec::new(),
            slots: Arc::default(),
            routes: Arc::default(),
        }
    }

    /// The index of a listener, for [`Table::find`]. Looked up once per worker and table, not per request.
    pub fn listener(&self, name: &ListenerName) -> Option<u32> {
        let at = self.listeners.binary_search_by(|table| table.listener.name.cmp(name)).ok()?;
        u32::try_from(at).ok()
    }

    /// The rule that takes a request on a listener. No lock and no allocation, except inside the regex crate on a
    /// thread's first use of an expression. Cost: one hash of the host, one walk down the path, and the expressions and
    /// conditions of that host's rules.
    pub fn find(&self, listener: u32, facts: &Facts<'_>) -> Match<'_> {
        let Some(paths) =
            self.listeners.get(listener as usize).and_then(|table| table.hosts.lookup(facts.host))
        else {
            return Match::NotFound;
        };
        let first = paths.select(facts.path, facts);
        match facts.loose {
            Some(_) if refuses_many_readings(&first, facts.path) => Match::Ambiguous,
            Some(loose) => judge(first, paths.select(loose, facts)),
            None => first.into(),
        }
    }

    /// The app in a slot, which [`RouteEntry::app`] names.
    pub fn app(&self, slot: u32) -> Option<&Arc<AppTable>> {
        self.apps.get(slot as usize)?.as_ref()
    }

    /// The app of this name.
    pub fn app_named(&self, name: &AppName) -> Option<&Arc<AppTable>> {
        self.app(*self.slots.get(name)?)
    }

    /// All apps, in no particular order.
    pub fn apps(&self) -> impl Iterator<Item = &Arc<AppTable>> {
        self.apps.iter().flatten()
    }

    /// The cluster in a slot of an app's slot. Only for entries found in this table: slots may name something else in
    /// another; see [`Table::cluster_again`].
    pub fn cluster(&self, app: u32, slot: u32) -> Option<&Arc<ClusterTable>> {
        self.app(app)?.clusters.get(slot as usize)
    }

    /// The cluster of this name.
    pub fn cluster_named(&self, app: &AppName, cluster: &ClusterName) -> Option<&Arc<ClusterTable>> {
        self.app_named(app)?.cluster(cluster)
    }

    /// The cluster that `slot` meant in the table where `entry` was found, in this (perhaps later) table: by slot when
    /// the names agree, else by name. What an exchange calls after a wait. `None` when it is gone.
    pub fn cluster_again(&self, entry: &RouteEntry, slot: u32) -> Option<&Arc<ClusterTable>> {
        let Target::Clusters(sides) = &entry.target else {
            return None;
        };
        let name = &sides.iter().find(|side| side.slot == slot)?.cluster;
        match self.cluster(entry.app, slot) {
            Some(table) if table.app == entry.app_name && table.cluster.name == *name => Some(table),
            Some(_) | None => self.cluster_named(&entry.app_name, name),
        }
    }

    /// The rule of the same app and name as one that was found in an earlier table. What an exchange calls after it was held.
    /// `None` when it is gone.
    pub fn route_again(&self, entry: &RouteEntry) -> Option<&Arc<RouteEntry>> {
        // In order of the apps' names.
        let at =
            self.routes.binary_search_by(|routes| routes.app.as_ref().cmp(&Some(&entry.app_name))).ok()?;
        self.routes.get(at)?.entries.iter().find(|one| one.route.name == entry.route.name)
    }

    /// All rules of all apps: what metrics walk.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<RouteEntry>> {
        self.routes.iter().flat_map(|routes| &routes.entries)
    }

    /// All clusters of all apps: what is probed and shown.
    pub fn all_clusters(&self) -> impl Iterator<Item = &Arc<ClusterTable>> {
        self.apps().flat_map(|app| &app.clusters)
    }
}

impl<'t> From<Selection<'t>> for Match<'t> {
    fn from(selection: Selection<'t>) -> Self {
        match selection {
            Selection::Rule(entry) => Match::Route(entry),
            Selection::NotFound => Match::NotFound,
            Selection::MethodNotAllowed(allow) => Match::MethodNotAllowed(allow),
        }
    }
}

/// Whether a rule was selected for a path that servers may read in several ways, and does not allow loose paths.
fn refuses_many_readings(first: &Selection<'_>, path: &str) -> bool {
    match first {
        Selection::Rule(entry) => {
            entry.route.loose_path == LoosePath::Refuse && crate::path::has_many_readings(path)
        }
        Selection::NotFound | Selection::MethodNotAllowed(_) => false,
    }
}

/// Weighs the selection of the normal form against that of the loose form.
fn judge<'t>(normal: Selection<'t>, loose: Selection<'t>) -> Match<'t> {
    match (normal, loose) {
        (Selection::Rule(entry), Selection::Rule(other)) if Arc::ptr_eq(entry, other) => Match::Route(entry),
        (Selection::Rule(entry), _) => match entry.route.loose_path {
            LoosePath::Allow => Match::Route(entry),
            LoosePath::Refuse => Match::Ambiguous,
        },
        (Selection::NotFound | Selection::MethodNotAllowed(_), Selection::Rule(_)) => Match::Ambiguous,
        (Selection::NotFound | Selection::MethodNotAllowed(_), _) => normal.into(),
    }
}
