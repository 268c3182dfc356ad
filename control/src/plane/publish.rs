//! From what is in force to what is published: merging clusters, finding out whether anything changed, publishing.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use ekiden_config::diff::changed_apps;
use ekiden_config::document::app_document;
use ekiden_config::doors::{Ticket, Verdict, Written};
use ekiden_config::model::{Address, App, Cluster, Model};
use ekiden_config::names::{AppName, ClusterName};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::timeout;

use super::Plane;
use crate::api::Tokens;
use crate::desired::ApiApps;
use crate::dns::asking::Told;
use crate::fleet::without_endpoints;
use crate::last_good::Unsaved;
use crate::overlay::{ClusterKey, Dormancy, Dormant, merge};
use crate::own::Own;
use crate::rundir;
use crate::settings::{has_side_listener, settings};
use crate::sources::Texts;
use crate::status::{NameStatus, StatusCell};
use crate::store::Standing;

/// How long workers may take before the log says so.
const SLOW: Duration = Duration::from_secs(1);

/// What the API's readers see; replaced whole with each publish.
#[derive(Debug, Clone)]
pub(crate) struct View {
    /// What is published.
    pub(crate) live: Arc<Model>,
    /// What is written but not served.
    pub(crate) dormant: BTreeMap<ClusterKey, Arc<[Dormant]>>,
    /// The texts in force.
    pub(crate) texts: Texts,
    /// Apps owned by the API.
    pub(crate) apps: Arc<ApiApps>,
}

/// Shared place of the newest [`View`].
#[derive(Debug, Clone)]
pub(crate) struct ViewCell(Arc<Mutex<Arc<View>>>);

impl ViewCell {
    /// Nothing published yet.
    pub(crate) fn new() -> Self {
        let view = View {
            live: Arc::new(Model::empty()),
            dormant: BTreeMap::new(),
            texts: Texts::Files(Arc::default()),
            apps: Arc::default(),
        };
        Self(Arc::new(Mutex::new(Arc::new(view))))
    }

    /// The newest view.
    pub(crate) fn read(&self) -> Arc<View> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts another one there.
    pub(crate) fn replace(&self, view: View) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(view);
    }
}

impl Plane {
    /// Merges every cluster anew on top of the files and publishes if anything differs. After a reload.
    pub(super) fn settle_all(&mut self) -> bool {
        let base = Arc::clone(&self.accepted.built.model);
        let before = std::mem::take(&mut self.dormant);
        let mut apps = base.apps.clone();
        for (name, app) in &base.apps {
            let merged = self.merge_app(app);
            if !Arc::ptr_eq(&merged, app) {
                apps.insert(name.clone(), merged);
            }
        }
        let orphans: Vec<ClusterKey> = self
            .overlay
            .parts()
            .map(|(place, _)| place)
            .filter(|place| !has(&base, place))
            .cloned()
            .collect();
        for place in orphans {
            self.orphan(&place);
        }
        self.report_own(&before);
        let (listeners, trust) = (base.listeners.clone(), Arc::clone(&base.trust));
        self.publish_if_changed(Model { listeners, apps, trust })
    }

    /// Merges the touched clusters only and publishes if anything differs.
    pub(super) fn settle(&mut self, touched: &BTreeSet<ClusterKey>) -> bool {
        if touched.is_empty() {
            return false;
        }
        let base = Arc::clone(&self.accepted.built.model);
        let before = self.dormant.clone();
        let mut apps = self.live.apps.clone();
        for place in touched {
            let Some(cluster) = find(&base, &place.app, &place.cluster) else {
                self.orphan(place);
                continue;
            };
            let merged = self.merge_cluster(place, cluster);
            if let Some(app) = apps.get_mut(&place.app)
                && app.clusters.get(&place.cluster).is_none_or(|old| !Arc::ptr_eq(old, &merged))
            {
                let mut clusters = app.clusters.clone();
                clusters.insert(place.cluster.clone(), merged);
                *app = Arc::new(with_clusters(app, clusters));
            }
        }
        self.report_own(&before);
        let (listeners, trust) = (self.live.listeners.clone(), Arc::clone(&self.live.trust));
        self.publish_if_changed(Model { listeners, apps, trust })
    }

    fn merge_app(&mut self, base: &Arc<App>) -> Arc<App> {
        let mut changed = Vec::new();
        for (name, cluster) in &base.clusters {
            let place = ClusterKey { app: base.name.clone(), cluster: name.clone() };
            let merged = self.merge_cluster(&place, cluster);
            if !Arc::ptr_eq(&merged, cluster) {
                changed.push((name.clone(), merged));
            }
        }
        let routes = self.routes_of(base);
        if changed.is_empty() && Arc::ptr_eq(&routes, &base.routes) {
            return Arc::clone(base);
        }
        let mut clusters = base.clusters.clone();
        clusters.extend(changed);
        let merged = App { routes, ..with_clusters(base, clusters) };
        match self.live.apps.get(&base.name) {
            Some(old) if same_app(old, &merged) => Arc::clone(old),
            _ => Arc::new(merged),
        }
    }

    fn merge_cluster(&mut self, place: &ClusterKey, base: &Arc<Cluster>) -> Arc<Cluster> {
        let groups = base.policy.shard.is_none();
        let mut dns =
            if base.names.is_empty() { Vec::new() } else { self.names.expand(place, &base.names, groups) };
        dns.extend(self.discovered.expand(&base.names));
        dns.extend(self.placed_in(place));
        let old = find(&self.live, &place.app, &place.cluster);
        let own = &self.own;
        let merged = merge(base, dns, self.overlay.part(place), old, &|endpoint| own.holds(endpoint));
        if merged.dormant.is_empty() {
            self.dormant.remove(place);
        } else {
            self.dormant.insert(place.clone(), Arc::from(merged.dormant));
        }
        merged.cluster
    }

    /// Notes the API endpoints of a cluster that no file has.
    fn orphan(&mut self, place: &ClusterKey) {
        let part = self.overlay.part(place);
        let endpoints = part.into_iter().flat_map(|part| part.endpoints.values());
        let dormant: Vec<Dormant> = endpoints
            .filter(|(_, standing)| *standing != Standing::Starting)
            .map(|(endpoint, _)| Dormant { endpoint: Arc::clone(endpoint), why: Dormancy::NoCluster })
            .collect();
        if dormant.is_empty() {
            self.dormant.remove(place);
        } else {
            self.dormant.insert(place.clone(), Arc::from(dormant));
        }
    }

    /// Says loudly which endpoints were newly left out for being this process's own address.
    fn report_own(&self, before: &BTreeMap<ClusterKey, Arc<[Dormant]>>) {
        for (place, dormant) in &self.dormant {
            for one in dormant.iter().filter(|one| one.why == Dormancy::OwnAddress) {
                if before.get(place).is_none_or(|old| !old.contains(one)) {
                    let (app, cluster) = (&place.app, &place.cluster);
                    let (id, address) = (&one.endpoint.id, &one.endpoint.address);
                    tracing::error!(%app, %cluster, %id, %address, "endpoint dropped: {}", one.why.words());
                }
            }
        }
    }

    fn publish_if_changed(&mut self, model: Model) -> bool {
        let differs = !same_model(&self.live, &model);
        if differs {
            self.live = Arc::new(model);
            self.publish_always();
        } else {
            self.show();
        }
        differs
    }

    /// Hands the live Model over and follows its ticket.
    pub(super) fn publish_always(&mut self) {
        self.ticket = self.publisher.publish(Arc::clone(&self.live));
        // The follower may be gone when the process ends.
        let _ = self.outlets.tickets.send(self.ticket.clone());
        self.status.update(|status| status.publishes += 1);
        self.show();
    }

    /// The ticket of what is in force of these apps, of everything without any: where a change repeats what others made before it,
    /// it is taken when those are. The newest publish alone may be about another app, or of another term.
    pub(super) fn in_force(&self, apps: &[AppName]) -> Ticket {
        self.publisher.barrier(apps).unwrap_or_else(|| self.ticket.clone())
    }

    /// Makes the newest state visible to the API's readers.
    fn show(&self) {
        self.view.replace(View {
            live: Arc::clone(&self.live),
            dormant: self.dormant.clone(),
            texts: Texts::Files(Arc::clone(&self.accepted.sources)),
            apps: Arc::clone(&self.apps),
        });
        let revision = self.store.as_ref().map_or(0, |store| store.revision());
        let names = self.names.known().filter(|(name, _)| self.clusters_of.contains_key(*name));
        let dns = names.map(|(name, known)| {
            let services = known.services.iter().map(|service| service.address.to_string());
            let addresses = known.addresses.iter().map(ToString::to_string).chain(services).collect();
            let (error, since) = known.failing.clone().unzip();
            (name.to_string(), NameStatus { addresses, error, failing_since_unix_ms: since })
        });
        self.status.update(|status| {
            status.dns = dns.collect();
            status.api_apps = self.apps.len();
            status.store_revision = revision;
            status.api_endpoints = self.overlay.endpoint_count();
            status.drain_marks = self.overlay.mark_count();
        });
    }

    /// Tells a publisher that hands Models on as words what the apps of the next one are made of; whether that differs.
    pub(super) fn tell_words(&mut self) -> bool {
        if !self.publisher.wants_words() {
            return false;
        }
        let accepted = Arc::clone(&self.accepted);
        let mut words = BTreeMap::new();
        for name in accepted.built.model.apps.keys() {
            if accepted.refused.contains(name)
                && let Some(text) = self.words.get(name)
            {
                words.insert(name.clone(), Arc::clone(text));
                continue;
            }
            let source = match self.apps.get(name) {
                Some(app) => Some(&app.source),
                None if *name == AppName::default_app() => Some(&accepted.sources.main),
                None => accepted.sources.app(name),
            };
            let mut document = source.and_then(app_document).filter(|document| *document != json!({}));
            document.iter_mut().filter_map(Value::as_object_mut).for_each(without_endpoints);
            words.extend(document.map(|document| (name.clone(), Arc::from(document.to_string()))));
        }
        self.words = words;
        self.tell_again()
    }

    /// As [`Plane::tell_words`], where the apps are those it was told and what is said beside may be new.
    pub(super) fn tell_again(&mut self) -> bool {
        if !self.publisher.wants_words() {
            return false;
        }
        let built = &self.accepted.built;
        let is_there = |app: &AppName| built.model.apps.contains_key(app);
        let closed = self.closed.iter().filter(|(app, _)| is_there(app));
        let held = self.held.iter().filter(|(app, _)| is_there(app));
        let written = Written {
            apps: self.words.clone(),
            hosts: built.hosts.clone(),
            maintenance: closed.map(|(app, closed)| (app.clone(), closed.page.clone())).collect(),
            holds: held.map(|(app, held)| (app.clone(), held.policy)).collect(),
        };
        self.publisher.written(written)
    }

    /// Hands what is in force to the writer of the last good table.
    pub(super) fn save(&self) {
        let unsaved = Unsaved {
            path: rundir::absolute(&self.options.file),
            accepted: Arc::clone(&self.accepted),
            names: self.names.clone(),
            keys: self.discovered.known().map(|(name, known)| (Arc::clone(name), known)).collect(),
        };
        self.outlets.last_good.send_replace(Some(unsaved));
    }

    /// Finds out which clusters hold which names, asks for exactly those, and forgets the others.
    pub(super) fn index_names(&mut self) {
        let base = &self.accepted.built.model;
        let mut index: BTreeMap<Arc<str>, BTreeSet<ClusterKey>> = BTreeMap::new();
        for app in base.apps.values() {
            for cluster in app.clusters.values() {
                for name in cluster.names.iter() {
                    let place = ClusterKey { app: app.name.clone(), cluster: cluster.name.clone() };
                    index.entry(Arc::clone(&name.name)).or_default().insert(place);
                }
            }
        }
        let names: BTreeSet<Arc<str>> = index.keys().cloned().collect();
        self.names.retain(&names, |place, id| {
            let cluster = find(base, &place.app, &place.cluster);
            cluster.is_some_and(|cluster| cluster.names.iter().any(|name| name.id.as_ref() == Some(id)))
        });
        self.discovered.retain(|name| names.contains(name));
        self.asking.follow(&names);
        self.discovering.follow(&names);
        self.clusters_of = index;
    }

    /// Takes a DNS answer in, says loudly what went wrong, and names the clusters it touches.
    pub(super) fn absorb(&mut self, told: Told) -> BTreeSet<ClusterKey> {
        let name = told.name;
        let Some(places) = self.clusters_of.get(&name) else { return BTreeSet::new() };
        let (rules, now_ms) = (self.rules(), crate::clock::unix_ms());
        let absorbed = self.names.absorb(&name, told.answer, rules, now_ms);
        if let Some(error) = &absorbed.failed {
            tracing::error!(%name, %error, "DNS: the last addresses are kept");
        }
        if let Some(count) = absorbed.held {
            tracing::error!(source = %format!("dns:{name}"), count, "the source takes away too many endpoints at once: they are kept; `ekiden confirm` lets them go");
        }
        if absorbed.recovered {
            tracing::info!(%name, "DNS: the name answers again");
        }
        let places = places.clone();
        self.take_confirmed(&Arc::from(format!("dns:{name}")));
        if absorbed.changed {
            self.save();
            return places;
        }
        if absorbed.failed.is_some() || absorbed.recovered {
            self.show();
        }
        BTreeSet::new()
    }

    /// The API is bound somewhere: that address is our own from now on.
    pub(super) fn bound(&mut self, bound: Option<Address>) {
        let mut own = self.own_wanted();
        own.0.extend(bound);
        own.0.sort();
        own.0.dedup();
        if own != self.own {
            self.own = own;
            self.settle_all();
        }
    }

    fn own_wanted(&self) -> Own {
        let built = &self.accepted.built;
        let wanted = settings(&self.options, &self.started_with, &built.model);
        Own(wanted.telemetry.into_iter().chain(wanted.control).collect())
    }

    /// Tells the API server what holds after a change of the files: where to serve, whom to answer.
    pub(super) fn tell_api(&mut self) {
        let built = &self.accepted.built;
        let wanted = settings(&self.options, &self.started_with, &built.model);
        let token = Tokens::read(&self.options.file, self.started_with.control_token_file.as_deref());
        let beside_app = has_side_listener(&built.model);
        self.outlets.api.send_modify(|api| api.renew(wanted.control, token, beside_app));
    }
}

/// The app with other clusters. Does not copy the ones it has, as `..App::clone(app)` would.
fn with_clusters(app: &App, clusters: BTreeMap<ClusterName, Arc<Cluster>>) -> App {
    App {
        name: app.name.clone(),
        routes: Arc::clone(&app.routes),
        clusters,
        share_hosts_with: Arc::clone(&app.share_hosts_with),
    }
}

fn find<'m>(model: &'m Model, app: &AppName, cluster: &ClusterName) -> Option<&'m Arc<Cluster>> {
    model.apps.get(app)?.clusters.get(cluster)
}

fn has(model: &Model, place: &ClusterKey) -> bool {
    find(model, &place.app, &place.cluster).is_some()
}

fn same_app(old: &App, new: &App) -> bool {
    Arc::ptr_eq(&old.routes, &new.routes)
        && Arc::ptr_eq(&old.share_hosts_with, &new.share_hosts_with)
        && same_parts(&old.clusters, &new.clusters)
}

fn same_model(old: &Model, new: &Model) -> bool {
    Arc::ptr_eq(&old.trust, &new.trust)
        && same_parts(&old.listeners, &new.listeners)
        && changed_apps(old, new).is_empty()
}

/// Parts know their names: the same object has the same.
fn same_parts<K, V>(old: &BTreeMap<K, Arc<V>>, new: &BTreeMap<K, Arc<V>>) -> bool {
    old.len() == new.len() && old.values().zip(new.values()).all(|(a, b)| Arc::ptr_eq(a, b))
}

/// Waits for the verdict of a ticket.
pub(crate) async fn verdict(ticket: &Ticket) -> Verdict {
    poll_fn(|context| match ticket.poll(context.waker()) {
        Some(verdict) => Poll::Ready(verdict),
        None => Poll::Pending,
    })
    .await
}

/// Follows the newest ticket and says loudly how it ended. One task for all publishes: a newer ticket replaces an
/// older one, whose end it carries.
pub(crate) async fn follow(mut tickets: watch::Receiver<Ticket>, status: StatusCell) {
    while tickets.changed().await.is_ok() {
        let ticket = tickets.borrow_and_update().clone();
        let mut waited = false;
        let ended = loop {
            tokio::select! {
                ended = timeout(SLOW, verdict(&ticket)) => match ended {
                    Ok(ended) => break Some(ended),
                    Err(_) if !waited => {
                        waited = true;
                        tracing::warn!(generation = ?ticket.generation(), "not every worker has taken the table yet");
                    }
                    Err(_) => {}
                },
                newer = tickets.changed() => {
                    tickets.mark_changed();
                    if newer.is_err() {
                        return;
                    }
                    break None;
                }
            }
        };
        if let Some(ended) = ended {
            note(&status, ended);
        }
    }
}

fn note(status: &StatusCell, ended: Verdict) {
    let refused_parts: Vec<String> = match &ended {
        Verdict::Applied { refused, .. } => {
            refused.iter().map(|r| format!("{}: {}", r.part, r.reason)).collect()
        }
        Verdict::Rejected { reason } => vec![format!("table: {reason}")],
    };
    for part in &refused_parts {
        tracing::error!(%part, "the router refused a part of the table; its last version serves on");
    }
    status.update(|status| {
        if let Verdict::Applied { generation, .. } = &ended {
            status.generation = generation.0;
        }
        status.refused_parts = refused_parts;
    });
}
