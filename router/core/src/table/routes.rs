//! One app's part of a table: its clusters and its route entries, made from the part before where nothing changed.

use std::sync::Arc;

use ekiden_config::doors::Refusal;
use ekiden_config::model::{
    Action, Admission, App, Authorizer, Entrance, Forward, HeaderEdits, HostMatch, LoosePath, MirrorPolicy,
    PathMatch, Route, RoutePolicy, SplitKey, Timeouts, WeightedCluster,
};
use ekiden_config::names::{AppName, RouteName};
use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;

use super::limits::LimitMaker;
use super::{AppTable, RouteEntry, Target};
use crate::cell::CellRegistry;
use crate::cluster::ClusterTable;
use crate::overload::caps::Caps;
use crate::policy::admission::AdmissionSteps;
use crate::policy::entrance::EntranceSteps;
use crate::policy::mirror::MirrorSteps;
use crate::split::Side;

/// The compiled rules of one app, and where its hosts are.
#[derive(Debug, Default)]
pub(super) struct AppRoutes {
    /// Whose they are; none when there is nothing.
    pub(super) app: Option<AppName>,
    /// In file order.
    pub(super) entries: Vec<Arc<RouteEntry>>,
    /// Every position in order of its host, so that the rules of a host are one run.
    by_host: Vec<u32>,
}

/// An app as it is in force.
#[derive(Debug)]
pub(super) struct AppPart {
    pub(super) slot: u32,
    pub(super) table: Arc<AppTable>,
    pub(super) routes: Arc<AppRoutes>,
}

impl AppPart {
    /// Makes the part of an app, reusing the one before. Cost: O(clusters) pointer comparisons, plus the endpoints of
    /// the clusters that changed, plus the routes when they changed. Nothing is touched when the app is refused.
    pub(super) fn new(
        slot: u32,
        app: &Arc<App>,
        before: Option<&Self>,
        registry: &mut CellRegistry,
    ) -> Result<Self, Refusal> {
        let same_slots = before.is_some_and(|part| has_same_slots(&part.table, app));
        let same_routes = before
            .filter(|part| same_slots && Arc::ptr_eq(&part.table.app.routes, &app.routes))
            .map(|part| part.routes.clone());
        if same_routes.is_none() {
            check(app)?;
        }
        let old = before.map(|part| &*part.table);
        let table =
            Arc::new(AppTable { app: app.clone(), clusters: clusters(app, old, same_slots, registry) });
        let routes = same_routes.unwrap_or_else(|| {
            Arc::new(AppRoutes::new(slot, &table, before.map(|part| &*part.routes), registry))
        });
        Ok(Self { slot, table, routes })
    }
}

/// A route whose cluster is missing cannot be compiled. `validate` refuses such an app before; if one comes all the same,
/// it keeps its last good version.
fn check(app: &App) -> Result<(), Refusal> {
    for route in app.routes.iter() {
        let own = forward(route).map(|forward| forward.clusters.iter()).into_iter().flatten();
        let own = own.map(|weighted| &weighted.cluster);
        for cluster in own.chain(route.mirror.as_ref().map(|mirror| &mirror.cluster)) {
            if !app.clusters.contains_key(cluster) {
                return Err(Refusal {
                    part: format!("app:{}", app.name),
                    reason: format!(
                        "route {} forwards to cluster {}, which the app does not have; define it or change the route",
                        route.name, cluster
                    ),
                });
            }
        }
    }
    Ok(())
}

fn forward(route: &Route) -> Option<&Forward> {
    match &route.action {
        Action::Forward(forward) => Some(forward),
        Action::Redirect(_) | Action::Fixed(_) | Action::Maintenance(_) => None,
    }
}

/// Whether each cluster stands in the slot it had before. An app's clusters stand in the order of its names, so the
/// names of the two versions tell; where both have the same cluster, not even those are looked at.
fn has_same_slots(before: &AppTable, app: &App) -> bool {
    before.app.clusters.len() == app.clusters.len()
        && before
            .app
            .clusters
            .iter()
            .zip(&app.clusters)
            .all(|(old, new)| Arc::ptr_eq(old.1, new.1) || old.0 == new.0)
}

/// The clusters of an app: those that did not change are the ones from before.
fn clusters(
    app: &App,
    before: Option<&AppTable>,
    same_slots: bool,
    registry: &mut CellRegistry,
) -> Vec<Arc<ClusterTable>> {
    if let Some(before) = before.filter(|_| same_slots) {
        return replaced(app, before, registry);
    }
    let mut tables = Vec::with_capacity(app.clusters.len());
    for (name, cluster) in &app.clusters {
        tables.push(match before.and_then(|before| before.cluster(name)) {
            Some(old) if Arc::ptr_eq(&old.cluster, cluster) => old.clone(),
            Some(_) | None => Arc::new(ClusterTable::new(app.name.clone(), cluster.clone(), registry)),
        });
    }
    if before.is_some() {
        registry.retain_clusters(&app.name, |name| app.clusters.contains_key(name));
    }
    tables
}

/// The clusters from before with those in place that changed; what did not change is not looked into.
fn replaced(app: &App, before: &AppTable, registry: &mut CellRegistry) -> Vec<Arc<ClusterTable>> {
    let mut tables = before.clusters.clone();
    for ((old, new), table) in before.app.clusters.values().zip(app.clusters.values()).zip(&mut tables) {
        if !Arc::ptr_eq(old, new) {
            *table = Arc::new(ClusterTable::new(app.name.clone(), new.clone(), registry));
        }
    }
    tables
}

impl AppRoutes {
    fn new(slot: u32, table: &AppTable, before: Option<&Self>, registry: &mut CellRegistry) -> Self {
        let app = &table.app;
        // By address: the entries hold their routes, so an address means one route.
        let old: FxHashMap<*const Route, &Arc<RouteEntry>> =
            before.iter().flat_map(|routes| &routes.entries).map(|e| (Arc::as_ptr(&e.route), e)).collect();
        // Routes that add nothing to their app's words share them, and so the steps made of them.
        let mut steps: FxHashMap<*const Admission, Arc<AdmissionSteps>> = FxHashMap::default();
        let mut entrances: FxHashMap<*const Entrance, Arc<EntranceSteps>> = FxHashMap::default();
        let before_entries = before.map_or(&[][..], |routes| &routes.entries);
        let mut limits = LimitMaker::new(&app.name, before_entries, registry.limit_maker());
        let hold = registry.hold(&app.name, app.routes.iter().any(|route| route.hold.is_some()));
        let mut entries = Vec::with_capacity(app.routes.len());
        for route in app.routes.iter() {
            let target = target(route, table);
            let entry = match old.get(&Arc::as_ptr(route)) {
                Some(entry) if entry.target == target && entry.app == slot => (*entry).clone(),
                Some(_) | None => Arc::new(RouteEntry {
                    route: route.clone(),
                    app: slot,
                    app_name: app.name.clone(),
                    names: [app.name.as_str(), route.name.as_str()].concat().into_boxed_str(),
                    cell: registry.route(&app.name, &route.name),
                    target,
                    admission: route.admission.as_ref().map(|words| {
                        let made = || Arc::new(AdmissionSteps::new(words));
                        steps.entry(Arc::as_ptr(words)).or_insert_with(made).clone()
                    }),
                    entrance: route.entrance.as_ref().map(|words| {
                        let made = || {
                            let question = words
                                .authorizer
                                .as_ref()
                                .map(|asked| question(route, asked, table, (slot, registry)));
                            Arc::new(EntranceSteps::new(words, question))
                        };
                        entrances.entry(Arc::as_ptr(words)).or_insert_with(made).clone()
                    }),
                    mirror: route.mirror.as_ref().map(|words| mirror(route, words, table, (slot, registry))),
                    limits: route.rate_limits.as_ref().map(|words| limits.make(&route.name, words)),
                    caps: route.caps.map(|most| Arc::new(Caps { most, usage: registry.usage(&app.name) })),
                    hold: hold.clone(),
                }),
            };
            entries.push(entry);
        }
        let mut by_host: Vec<u32> = (0..).zip(&entries).map(|(at, _)| at).collect();
        by_host.sort_by_key(|at| app.routes.get(*at as usize).map(|route| &route.host));
        if before.is_some() {
            let names: FxHashSet<&RouteName> = app.routes.iter().map(|route| &route.name).collect();
            registry.retain_routes(&app.name, |name| names.contains(name));
        }
        Self { app: Some(app.name.clone()), entries, by_host }
    }

    /// The rules on a host in file order, with their positions.
    pub(super) fn on_host(&self, host: &HostMatch) -> impl Iterator<Item = (usize, &Arc<RouteEntry>)> {
        let start = self.by_host.partition_point(|at| self.host(*at).is_some_and(|name| name < host));
        let run = self.by_host.get(start..).unwrap_or(&[]);
        let run = run.iter().take_while(move |at| self.host(**at) == Some(host));
        run.filter_map(|at| Some((*at as usize, self.entries.get(*at as usize)?)))
    }

    /// Every host once, in order.
    pub(super) fn hosts(&self) -> impl Iterator<Item = &HostMatch> {
        let runs = self.by_host.chunk_by(|a, b| self.host(*a) == self.host(*b));
        runs.filter_map(|run| self.host(*run.first()?))
    }

    fn host(&self, at: u32) -> Option<&HostMatch> {
        self.entries.get(at as usize).map(|entry| &entry.route.host)
    }

    /// Whether both have the same entries, in the same order, on a host.
    pub(super) fn same_on_host(&self, other: &Self, host: &HostMatch) -> bool {
        let mine = self.on_host(host).map(|(_, entry)| Arc::as_ptr(entry));
        mine.eq(other.on_host(host).map(|(_, entry)| Arc::as_ptr(entry)))
    }
}

/// The question to an authorizer, as the route that carries it: no edits, no other steps, one deadline for all.
fn question(
    route: &Arc<Route>,
    asked: &Authorizer,
    table: &AppTable,
    (slot, registry): (u32, &mut CellRegistry),
) -> Arc<RouteEntry> {
    let whole = asked.timeout;
    let defaults = Timeouts::default();
    let forward = Forward {
        clusters: vec![WeightedCluster { cluster: asked.cluster.clone(), weight: 1 }],
        split: SplitKey::default(),
        salt: Arc::from(""),
        prefix_rewrite: None,
        host_rewrite: None,
    };
    let policy = RoutePolicy {
        listeners: None,
        methods: Vec::new(),
        headers: Vec::new(),
        query: Vec::new(),
        cookies: Vec::new(),
        client_cert: Vec::new(),
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        timeouts: Timeouts {
            connect: whole.min(defaults.connect),
            connect_try: whole.min(defaults.connect_try),
            first_byte: whole,
            idle: whole,
            total: Some(whole),
            ..defaults
        },
        loose_path: LoosePath::Allow,
        // Bounded by what is shown; the listener's limit is about clients, who would choose by it that nothing is asked.
        body_limit: Some(u64::MAX),
        admission: None,
        entrance: None,
        rate_limits: None,
        caps: None,
        hold: None,
        // Its own way, and not the route's: what questions take says nothing of requests.
        retry: None,
        hedge: None,
        mirror: None,
        faults: None,
        ..RoutePolicy::clone(&route.policy)
    };
    let words = Route {
        name: route.name.clone(),
        host: HostMatch::Any,
        path: PathMatch::Prefix(Arc::from("/")),
        action: Action::Forward(forward),
        policy: Arc::new(policy),
    };
    let app = &table.app.name;
    Arc::new(RouteEntry {
        target: target(&words, table),
        route: Arc::new(words),
        app: slot,
        app_name: app.clone(),
        names: Box::from(""),
        // Nothing is counted there: a question is no request of a client.
        cell: registry.route(app, &route.name),
        admission: None,
        entrance: None,
        mirror: None,
        limits: None,
        caps: None,
        hold: None,
    })
}

/// The mirror of a route: copies go by its edits and rewrites, and by nothing else of it.
fn mirror(
    route: &Arc<Route>,
    words: &Arc<MirrorPolicy>,
    table: &AppTable,
    place: (u32, &mut CellRegistry),
) -> Arc<MirrorSteps> {
    let own = forward(route);
    let asked = Authorizer {
        cluster: words.cluster.clone(),
        path: Arc::from("/"),
        body: None,
        timeout: words.timeout,
        fail_open: false,
        grpc: false,
        headers: None,
        returns: Vec::new(),
    };
    let plain = question(route, &asked, table, place);
    let to = Forward {
        clusters: vec![WeightedCluster { cluster: words.cluster.clone(), weight: 1 }],
        split: SplitKey::default(),
        salt: Arc::from(""),
        prefix_rewrite: own.and_then(|own| own.prefix_rewrite.clone()),
        host_rewrite: own.and_then(|own| own.host_rewrite.clone()),
    };
    let mut copied =
        Route { action: Action::Forward(to), path: route.path.clone(), ..(*plain.route).clone() };
    copied.request_headers = route.request_headers.clone();
    let entry = RouteEntry {
        target: target(&copied, table),
        route: Arc::new(copied),
        app: plain.app,
        app_name: plain.app_name.clone(),
        names: Box::from(""),
        cell: Arc::clone(&plain.cell),
        admission: None,
        entrance: None,
        mirror: None,
        limits: None,
        caps: None,
        hold: None,
    };
    Arc::new(MirrorSteps::new(Arc::clone(words), Arc::new(entry)))
}

/// What a route leads to; a cluster named twice counts once, with both weights.
fn target(route: &Route, table: &AppTable) -> Target {
    let forward = match &route.action {
        Action::Forward(forward) => forward,
        Action::Redirect(_) => return Target::Redirect,
        Action::Fixed(_) | Action::Maintenance(_) => return Target::Fixed,
    };
    let mut sides: SmallVec<[Side; 1]> = SmallVec::new();
    for weighted in &forward.clusters {
        let weight = u32::from(weighted.weight);
        if let Some(side) = sides.iter_mut().find(|side| side.cluster == weighted.cluster) {
            side.weight = side.weight.saturating_add(weight);
            continue;
        }
        let slot = table.clusters.binary_search_by(|table| table.cluster.name.cmp(&weighted.cluster));
        if let Some(slot) = slot.ok().and_then(|at| u32::try_from(at).ok()) {
            sides.push(Side::new(slot, weight, weighted.cluster.clone()));
        }
    }
    Target::Clusters(sides)
}
