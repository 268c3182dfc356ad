//! Models of stated sizes for the benchmarks, and what checks of rate limits are measured by ([`checks`]). Holds no benchmark itself.

pub mod checks;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ekiden_config::model::{
    Action, Address, App, Balance, Cluster, ClusterPolicy, ConnectionLimits, Endpoint, EndpointTags, Forward,
    HostMatch, HttpLimits, Listener, Model, Owner, PathMatch, Place, Role, Route, RoutePolicy, ShardPolicy,
    SplitKey, WeightedCluster,
};
use ekiden_config::names::{AppName, ClusterName, EndpointId, ListenerName, RouteName};
use ekiden_core::cell::CellRegistry;
use ekiden_core::claims::Shown;
use ekiden_core::cluster::ClusterTable;
use ekiden_core::table::{Facts, Fields, Table};

/// How large a model is.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Number of apps.
    pub apps: usize,
    /// Routes of each app, dealt out over its hosts.
    pub routes: usize,
    /// Hosts of each app: `app-N.example.com`, numbered over all apps.
    pub hosts_per_app: usize,
    /// Clusters of each app; routes take turns.
    pub clusters: usize,
    /// Endpoints of each cluster.
    pub endpoints: usize,
}

/// A request without header fields.
#[derive(Debug, Clone, Copy)]
pub struct NoFields;

impl Fields for NoFields {
    fn each(&self, _: &str, _: &mut dyn FnMut(&[u8]) -> bool) {}
}

/// A GET request with a path in normal form.
pub fn facts<'a>(host: &'a str, path: &'a str, fields: &'a NoFields) -> Facts<'a> {
    Facts {
        host,
        path,
        loose: None,
        query: "",
        method: "GET",
        fields,
        client_cert: None,
        claims: Shown::Nothing,
    }
}

/// The index of the only listener.
pub fn listener_of(table: &Table) -> u32 {
    let name = table.listeners.first().map(|table| table.listener.name.clone());
    name.and_then(|name| table.listener(&name)).unwrap_or(0)
}

/// Makes a model with one edge listener.
pub fn model(shape: &Shape) -> Model {
    let name = ListenerName::new("edge").expect("a name");
    let listener = Listener {
        name: name.clone(),
        address: Address::Unix(Arc::from("/edge")),
        role: Role::Edge,
        trust: Vec::new(),
        limits: HttpLimits::default(),
        connections: ConnectionLimits::default(),
        h2c: false,
        allow_underscore: false,
        merge_slashes: false,
        tls: None,
        redirect_https: None,
        accept_proxy: None,
        protocol: Default::default(),
        forwarded: false,
        via: None,
        admission: None,
        rate_limits: None,
    };
    let apps = (0..shape.apps).map(|number| app(shape, number));
    Model {
        listeners: BTreeMap::from([(name, Arc::new(listener))]),
        apps: apps.map(|app| (app.name.clone(), Arc::new(app))).collect(),
        trust: Arc::default(),
    }
}

/// The same model with another address for one endpoint of one cluster; all else is pointer-equal.
pub fn with_endpoint_changed(model: &Model) -> Model {
    let mut changed = model.clone();
    let (name, app) = model.apps.iter().nth(model.apps.len() / 2).expect("an app");
    let (cluster_name, cluster) = app.clusters.iter().nth(app.clusters.len() / 2).expect("a cluster");
    let mut endpoints = (*cluster.endpoints).clone();
    let first = endpoints.first_mut().expect("an endpoint");
    *first = Arc::new(Endpoint { address: Address::Tcp(([10, 9, 9, 9], 999).into()), ..(**first).clone() });
    let mut app = (**app).clone();
    app.clusters.insert(
        cluster_name.clone(),
        Arc::new(Cluster { endpoints: Arc::new(endpoints), ..(**cluster).clone() }),
    );
    changed.apps.insert(name.clone(), Arc::new(app));
    changed
}

fn app(shape: &Shape, number: usize) -> App {
    let route = |at: usize| {
        let host = number * shape.hosts_per_app + at % shape.hosts_per_app;
        Arc::new(route(at, host, at / shape.hosts_per_app, at % shape.clusters))
    };
    App {
        name: AppName::new(&format!("app-{number}")).expect("a name"),
        routes: Arc::new((0..shape.routes).map(route).collect()),
        clusters: (0..shape.clusters)
            .map(|at| (cluster_name(at), Arc::new(cluster(shape, number, at))))
            .collect(),
        share_hosts_with: Arc::default(),
    }
}

fn cluster_name(at: usize) -> ClusterName {
    ClusterName::new(&format!("cluster-{at}")).expect("a name")
}

/// The first route of a host takes everything, the others a section each.
fn route(at: usize, host: usize, on_host: usize, cluster: usize) -> Route {
    let path = if on_host == 0 { "/".to_owned() } else { format!("/section-{on_host}") };
    let methods = if on_host % 5 == 4 { vec![Arc::from("GET"), Arc::from("POST")] } else { Vec::new() };
    Route {
        name: RouteName::new(&format!("route-{}", at + 1)).expect("a name"),
        host: HostMatch::Exact(Arc::from(format!("app-{host}.example.com"))),
        path: PathMatch::Prefix(Arc::from(path)),
        action: Action::Forward(Forward {
            clusters: vec![WeightedCluster { cluster: cluster_name(cluster), weight: 1 }],
            split: SplitKey::Client,
            salt: Arc::from("salt"),
            prefix_rewrite: None,
            host_rewrite: None,
        }),
        policy: Arc::new(RoutePolicy { methods, ..RoutePolicy::default() }),
    }
}

/// A cluster of so many endpoints, all ready.
pub fn cluster_table(endpoints: usize, balance: Balance, shard: Option<ShardPolicy>) -> ClusterTable {
    let shape = Shape { apps: 1, routes: 1, hosts_per_app: 1, clusters: 1, endpoints };
    let mut cluster = cluster(&shape, 0, 0);
    cluster.policy =
        Arc::new(ClusterPolicy { balance, shard: shard.map(Arc::new), ..(*cluster.policy).clone() });
    let app = AppName::new("app").expect("a name");
    ClusterTable::new(app, Arc::new(cluster), &mut CellRegistry::new(1))
}

/// The same in two zones, of which the router's own spills to the other.
pub fn zoned_table(endpoints: usize, balance: Balance) -> ClusterTable {
    let shape = Shape { apps: 1, routes: 1, hosts_per_app: 1, clusters: 1, endpoints };
    let mut cluster = cluster(&shape, 0, 0);
    cluster.policy = Arc::new(ClusterPolicy { balance, ..(*cluster.policy).clone() });
    let zoned = cluster.endpoints.iter().enumerate().map(|(number, endpoint)| {
        let zone = if number % 3 == 0 { "own" } else { "other" };
        Arc::new(Endpoint {
            tags: EndpointTags { zone: Some(zone.into()), ..EndpointTags::default() }.shared(),
            ..(**endpoint).clone()
        })
    });
    cluster.endpoints = Arc::new(zoned.collect());
    let mut registry = CellRegistry::new(1);
    registry.set_place(&Place { zone: Some("own".into()), ..Place::default() });
    let app = AppName::new("app").expect("a name");
    ClusterTable::new(app, Arc::new(cluster), &mut registry)
}

fn cluster(shape: &Shape, app: usize, at: usize) -> Cluster {
    let endpoint = |number: usize| {
        let port = 1024 + (app * 7 + at * 3 + number) % 60_000;
        Arc::new(Endpoint {
            id: EndpointId::new(&format!("endpoint-{number:06}")).expect("an id"),
            address: Address::Tcp(([10, 0, 0, 1], u16::try_from(port).unwrap_or(1024)).into()),
            weight: 1,
            priority: 0,
            drain: false,
            tags: None,
            owner: Owner::File,
        })
    };
    let policy = ClusterPolicy {
        balance: Balance::P2c,
        probe: None,
        pool_idle: 128,
        pool_idle_timeout: Duration::from_secs(60),
        peer_router: false,
        report_load: false,
        subset: None,
        adaptive: None,
        probe_load: None,
        send_proxy: None,
        queue: 1024,
        slots: None,
        retry_budget: None,
        breaker: None,
        readiness: ekiden_config::model::ReadinessPolicy::default(),
        tls: None,
        protocol: Default::default(),
        shard: None,
        affinity: None,
    };
    Cluster {
        name: cluster_name(at),
        policy: Arc::new(policy),
        endpoints: Arc::new((0..shape.endpoints).map(endpoint).collect()),
        names: Arc::default(),
    }
}
