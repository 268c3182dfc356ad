//! The down door towards remote routers: a Model becomes changes of objects in the ledger. And what control can say of live state
//! when it has no router in its process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use ekiden_config::diff::{Delta, diff};
use ekiden_config::doors::{EndpointStatus, Generation, Inspect, Publisher, Ticket, Written};
use ekiden_config::model::{App, Cluster, Model};
use ekiden_config::names::{AppName, ClusterName};
use serde_json::Value;

use super::wire::{
    APPS, Down, HOLDS, HOSTS, MAINTENANCE, endpoint_key, endpoint_value, hold_value, line, maintenance_value,
    put_app,
};
use super::{Fleet, Ledger};

/// The one publisher of a control process without a data path.
pub(crate) struct FleetPublisher {
    fleet: Fleet,
    /// What the ledger has.
    live: Arc<Model>,
    told: Written,
    /// What differs from that, until the next publish.
    words: Option<Written>,
}

impl FleetPublisher {
    /// With nothing published.
    pub(crate) fn new(fleet: Fleet) -> Self {
        let live = Arc::new(Model::empty());
        Self { fleet, live, told: Written::default(), words: None }
    }
}

impl Publisher for FleetPublisher {
    fn publish(&mut self, model: Arc<Model>) -> Ticket {
        let ticket = Ticket::new();
        let mut ledger = self.fleet.ledger();
        let generation = ledger.advance();
        let mut touched = BTreeSet::new();
        for delta in diff(&self.live, &model) {
            touched.extend(app_of(&delta).cloned());
            endpoints(&mut ledger, &self.live, &delta);
        }
        if let Some(new) = self.words.take() {
            words(&mut ledger, (&self.told, &new), &mut touched);
            self.told = new;
        }
        let generation = ledger.generation().max(generation);
        drop(ledger);
        self.live = model;
        ticket.assign(Generation(generation));
        // Where everybody gets everything, nobody asks what it was.
        let touched = (!self.fleet.0.subscriptions.is_empty()).then(|| Arc::new(touched));
        self.fleet.roster().published((generation, touched), ticket.clone(), Instant::now());
        self.fleet.0.newest.send_replace(generation);
        ticket
    }

    fn barrier(&self, apps: &[AppName]) -> Option<Ticket> {
        let apps = if self.fleet.0.subscriptions.is_empty() { &[] } else { apps };
        Some(self.fleet.roster().barrier(apps))
    }

    fn wants_words(&self) -> bool {
        true
    }

    fn written(&mut self, words: Written) -> bool {
        self.words = Some(words).filter(|words| *words != self.told);
        self.words.is_some()
    }
}

/// The app that a delta is of.
fn app_of(delta: &Delta) -> Option<&AppName> {
    match delta {
        Delta::PutApp(app) => Some(&app.name),
        Delta::RemoveApp(app)
        | Delta::PutCluster { app, .. }
        | Delta::RemoveCluster { app, .. }
        | Delta::PutEndpoint { app, .. }
        | Delta::RemoveEndpoint { app, .. }
        | Delta::PutRoutes { app, .. }
        | Delta::PutShare { app, .. }
        | Delta::PutPolicy { app, .. }
        | Delta::PutNames { app, .. } => Some(app),
        Delta::PutListener(_) | Delta::RemoveListener(_) | Delta::PutTrust(_) => None,
    }
}

/// What a delta means for objects of endpoints. All other parts of an app travel as its words.
fn endpoints(ledger: &mut Ledger, before: &Model, delta: &Delta) {
    match delta {
        Delta::PutApp(app) => {
            if let Some(old) = before.apps.get(&app.name) {
                drop_app(ledger, old);
            }
            app.clusters.values().for_each(|cluster| put_cluster(ledger, &app.name, cluster));
        }
        Delta::RemoveApp(name) => {
            if let Some(old) = before.apps.get(name) {
                drop_app(ledger, old);
            }
        }
        Delta::PutCluster { app, cluster } => put_cluster(ledger, app, cluster),
        Delta::RemoveCluster { app, cluster } => {
            let old = before.apps.get(app).and_then(|app| app.clusters.get(cluster));
            if let Some(old) = old {
                drop_cluster(ledger, app, old);
            }
        }
        Delta::PutEndpoint { app, cluster, endpoint } => {
            let key = endpoint_key(app, cluster, &endpoint.id);
            let put = line(&Down::Put(key.clone(), endpoint_value(endpoint)));
            ledger.put(&key, put);
        }
        Delta::RemoveEndpoint { app, cluster, id } => dropped(ledger, endpoint_key(app, cluster, id)),
        Delta::PutListener(_)
        | Delta::RemoveListener(_)
        | Delta::PutTrust(_)
        | Delta::PutRoutes { .. }
        | Delta::PutShare { .. }
        | Delta::PutPolicy { .. }
        | Delta::PutNames { .. } => {}
    }
}

fn dropped(ledger: &mut Ledger, key: String) {
    let gone = line(&Down::Drop(key.clone()));
    ledger.drop(&key, gone);
}

fn put_cluster(ledger: &mut Ledger, app: &AppName, cluster: &Cluster) {
    for endpoint in cluster.endpoints.iter() {
        let key = endpoint_key(app, &cluster.name, &endpoint.id);
        let put = line(&Down::Put(key.clone(), endpoint_value(endpoint)));
        ledger.put(&key, put);
    }
}

fn drop_cluster(ledger: &mut Ledger, app: &AppName, cluster: &Cluster) {
    for endpoint in cluster.endpoints.iter() {
        dropped(ledger, endpoint_key(app, &cluster.name, &endpoint.id));
    }
}

fn drop_app(ledger: &mut Ledger, app: &App) {
    app.clusters.values().for_each(|cluster| drop_cluster(ledger, &app.name, cluster));
}

fn words(ledger: &mut Ledger, (old, new): (&Written, &Written), touched: &mut BTreeSet<AppName>) {
    for name in old.apps.keys().filter(|name| !new.apps.contains_key(*name)) {
        touched.insert(name.clone());
        dropped(ledger, format!("{APPS}{name}"));
    }
    for (name, text) in new.apps.iter().filter(|(name, text)| old.apps.get(*name) != Some(text)) {
        touched.insert(name.clone());
        let key = format!("{APPS}{name}");
        let put = put_app(&key, text);
        ledger.put(&key, put);
    }
    beside(ledger, MAINTENANCE, (&old.maintenance, &new.maintenance), touched, |page| {
        maintenance_value(page.as_deref())
    });
    beside(ledger, HOLDS, (&old.holds, &new.holds), touched, |policy| hold_value(*policy));
    if old.hosts != new.hosts {
        hosts(ledger, (old, new), touched);
    }
}

/// Owners of hosts. The ledger has one object for each host of an app, and routers one for each host: a host that moves is dropped in a
/// generation of its own, before it is put again, so that whoever has either app ends with what is so.
fn hosts(ledger: &mut Ledger, (old, new): (&Written, &Written), touched: &mut BTreeSet<AppName>) {
    let now: BTreeSet<(&str, &str)> = new.hosts.iter().map(|(host, app)| (host, app.as_str())).collect();
    let still: BTreeSet<&str> = now.iter().map(|(host, _)| *host).collect();
    let mut moved = false;
    for (host, app) in old.hosts.iter().filter(|(host, app)| !now.contains(&(*host, app.as_str()))) {
        touched.insert(app.clone());
        moved |= still.contains(host);
        let gone = line(&Down::Drop(format!("{HOSTS}{host}")));
        ledger.drop(&format!("{HOSTS}{app}/{host}"), gone);
    }
    if moved {
        ledger.advance();
    }
    let before: BTreeSet<(&str, &str)> = old.hosts.iter().map(|(host, app)| (host, app.as_str())).collect();
    for (host, app) in new.hosts.iter().filter(|(host, app)| !before.contains(&(*host, app.as_str()))) {
        touched.insert(app.clone());
        let put = line(&Down::Put(format!("{HOSTS}{host}"), app.as_str().into()));
        ledger.put(&format!("{HOSTS}{app}/{host}"), put);
    }
}

/// What control says of apps beside their documents: an object for each.
fn beside<T: PartialEq>(
    ledger: &mut Ledger,
    kind: &str,
    (old, new): (&BTreeMap<AppName, T>, &BTreeMap<AppName, T>),
    touched: &mut BTreeSet<AppName>,
    value: impl Fn(&T) -> Value,
) {
    for app in old.keys().filter(|app| !new.contains_key(*app)) {
        touched.insert(app.clone());
        dropped(ledger, format!("{kind}{app}"));
    }
    for (app, word) in new.iter().filter(|(app, word)| old.get(*app) != Some(word)) {
        touched.insert(app.clone());
        let key = format!("{kind}{app}");
        let put = line(&Down::Put(key.clone(), value(word)));
        ledger.put(&key, put);
    }
}

/// The aside door of control alone: it knows what routers have, not what their endpoints are like.
#[derive(Debug)]
pub(crate) struct FleetInspect(pub(crate) Fleet);

impl Inspect for FleetInspect {
    fn generation(&self) -> Generation {
        let newest = self.0.ledger().generation();
        Generation(self.0.roster().least(newest))
    }

    fn endpoints(&self, _: &AppName, _: &ClusterName) -> Option<Vec<EndpointStatus>> {
        None
    }
}
