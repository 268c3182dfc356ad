//! What differs between two Models, as a list that turns the one into the other.
//!
//! [`diff`] compares pointers first, so its cost is what changed plus one step per app and cluster of a changed
//! app; [`apply`] keeps every untouched part pointer-equal. Neither validates: endpoints from an API are checked
//! by control before they come here.

use std::sync::Arc;

use crate::model::{
    App, Cluster, ClusterPolicy, DnsEndpoint, Endpoint, Listener, Process, Route, TrustSources,
};
use crate::names::{AppName, ClusterName, EndpointId, ListenerName};

mod apply;
mod compare;
mod summary;
#[cfg(test)]
mod tests;

pub use apply::{ApplyError, apply};
pub use compare::{ChangedApp, changed_apps, diff, reuse};
pub use summary::summary;

/// One step from a Model to another.
#[derive(Debug, Clone, PartialEq)]
pub enum Delta {
    /// Adds a listener or replaces the one of its name.
    PutListener(Arc<Listener>),
    /// Takes a listener away; nothing happens when there is none.
    RemoveListener(ListenerName),
    /// Replaces the authorities and identities of the process.
    PutTrust(Arc<TrustSources>),
    /// Adds an app or replaces it whole.
    PutApp(Arc<App>),
    /// Takes an app away; nothing happens when there is none.
    RemoveApp(AppName),
    /// Replaces all routes of an app.
    PutRoutes {
        /// The app; must exist.
        app: AppName,
        /// Its new routes.
        routes: Arc<Vec<Arc<Route>>>,
    },
    /// Replaces the list of apps that may use this app's hosts.
    PutShare {
        /// The app; must exist.
        app: AppName,
        /// The apps it shares with.
        share_hosts_with: Arc<Vec<AppName>>,
    },
    /// Adds a cluster or replaces it whole.
    PutCluster {
        /// The app; must exist.
        app: AppName,
        /// The cluster.
        cluster: Arc<Cluster>,
    },
    /// Takes a cluster away; nothing happens when there is none. No route of the app may name it afterwards.
    RemoveCluster {
        /// The app; must exist.
        app: AppName,
        /// The cluster's name.
        cluster: ClusterName,
    },
    /// Replaces everything of a cluster but its endpoints.
    PutPolicy {
        /// The app; must exist.
        app: AppName,
        /// The cluster; must exist.
        cluster: ClusterName,
        /// Its new policy.
        policy: Arc<ClusterPolicy>,
    },
    /// Replaces the DNS names of a cluster.
    PutNames {
        /// The app; must exist.
        app: AppName,
        /// The cluster; must exist.
        cluster: ClusterName,
        /// Its new names.
        names: Arc<Vec<DnsEndpoint>>,
    },
    /// Adds an endpoint or replaces the one of its id.
    PutEndpoint {
        /// The app; must exist.
        app: AppName,
        /// The cluster; must exist.
        cluster: ClusterName,
        /// The endpoint.
        endpoint: Arc<Endpoint>,
    },
    /// Takes an endpoint away; nothing happens when there is none.
    RemoveEndpoint {
        /// The app; must exist.
        app: AppName,
        /// The cluster; must exist.
        cluster: ClusterName,
        /// The endpoint's id.
        id: EndpointId,
    },
}

/// Keys of the process file that changed and take effect only after a restart, as written in the file. Called by
/// control after a reload, to report them.
pub fn restart_needed(old: &Process, new: &Process) -> Vec<&'static str> {
    let changed = [
        ("telemetry.address", old.telemetry != new.telemetry),
        ("control.address", old.control != new.control),
        ("control.token_file", old.control_token_file != new.control_token_file),
        ("control.hosts", old.control_hosts != new.control_hosts),
        ("control.removals", old.removals != new.removals),
        ("control.stuck_after", old.control_stuck_after != new.control_stuck_after),
        ("run_dir", old.run_dir != new.run_dir),
        ("workers", old.workers != new.workers),
        ("drain_timeout", old.drain_timeout != new.drain_timeout),
        ("drain_grace", old.drain_grace != new.drain_grace),
        ("access_log.format", old.access_log.format != new.access_log.format),
        ("access_log.to", old.access_log.to != new.access_log.to),
        ("max_connections", old.max_connections != new.max_connections),
        ("overload", old.overload != new.overload),
        ("fleet", old.fleet != new.fleet),
        ("zone", old.place.zone != new.place.zone),
        ("zone_share", old.place.zone_share != new.place.zone_share),
        ("instance", old.place.instance != new.place.instance),
        ("etcd", old.etcd != new.etcd),
        ("discovery", old.discoveries != new.discoveries),
    ];
    changed.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
}
