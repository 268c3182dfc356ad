//! Tests of the telemetry server over real sockets, and of the text it gives.

mod exposition;
mod serving;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ekiden_config::SharedMap;
use ekiden_config::doors::Generation;
use ekiden_config::model::{
    Action, Address, App, Balance, Cluster, ClusterPolicy, Endpoint, FixedResponse, HostMatch, Model, Owner,
    PathMatch, ProbeKind, ProbePolicy, Route, RoutePolicy,
};
use ekiden_config::names::{AppName, ClusterName, EndpointId, RouteName};
use ekiden_core::stats::{RouteCell, WorkerShard};
use ekiden_core::table::{Compiler, Table};

use super::*;
use crate::record::{Recorder, Scribe};

/// Long enough for any machine; nothing waits for it unless it is broken.
const LONG: Duration = Duration::from_secs(20);

/// A table of one app with one cluster `web` of this many endpoints, with or without a probe.
fn table(endpoints: usize, probed: bool) -> Arc<Table> {
    let endpoint = |n: usize| {
        Arc::new(Endpoint {
            id: EndpointId::new(&format!("web.{n}")).unwrap(),
            address: Address::Unix(format!("/web.{n}").into()),
            weight: 1,
            priority: 0,
            drain: false,
            tags: None,
            owner: Owner::File,
        })
    };
    let probe = ProbePolicy { kind: ProbeKind::Tcp, interval: LONG, timeout: LONG, rise: 1, fall: 1 };
    let policy = ClusterPolicy {
        balance: Balance::P2c,
        probe: probed.then_some(probe),
        pool_idle: 1,
        pool_idle_timeout: LONG,
        peer_router: false,
        report_load: false,
        subset: None,
        adaptive: None,
        probe_load: None,
        send_proxy: None,
        queue: 1,
        slots: None,
        retry_budget: None,
        breaker: None,
        readiness: ekiden_config::model::ReadinessPolicy::default(),
        tls: None,
        protocol: Default::default(),
        shard: None,
        affinity: None,
    };
    let name = ClusterName::new("web").unwrap();
    let cluster = Cluster {
        name: name.clone(),
        policy: Arc::new(policy),
        endpoints: Arc::new((0..endpoints).map(endpoint).collect()),
        names: Arc::default(),
    };
    let routes = ["home", "unused"].map(|name| Arc::new(route(name)));
    let app = App {
        name: AppName::default_app(),
        routes: Arc::new(routes.to_vec()),
        clusters: BTreeMap::from([(name, Arc::new(cluster))]),
        share_hosts_with: Arc::default(),
    };
    let model = Model {
        listeners: BTreeMap::new(),
        apps: SharedMap::from([(AppName::default_app(), Arc::new(app))]),
        trust: Default::default(),
    };
    Compiler::new(2).compile(&Arc::new(model), Generation(3)).table
}

/// A route that answers by itself.
fn route(name: &str) -> Route {
    Route {
        name: RouteName::new(name).unwrap(),
        host: HostMatch::Any,
        path: PathMatch::Exact(format!("/{name}").into()),
        action: Action::Fixed(FixedResponse {
            status: 200,
            content_type: "text/plain".into(),
            body: "".into(),
        }),
        policy: Arc::new(RoutePolicy { attempts: 1, ..RoutePolicy::default() }),
    }
}

/// The rest of the process, as a test wants it to look.
#[derive(Debug, Clone, Default)]
struct Rest {
    status: Status,
    workers: Vec<WorkerState>,
    draining: bool,
}

#[derive(Default)]
struct World(Mutex<Rest>);

impl StatusSource for World {
    fn status(&self) -> Status {
        self.0.lock().unwrap().status.clone()
    }
}

impl Readiness for World {
    fn workers(&self) -> Vec<WorkerState> {
        self.0.lock().unwrap().workers.clone()
    }

    fn draining(&self) -> bool {
        self.0.lock().unwrap().draining
    }
}

fn worker() -> WorkerState {
    WorkerState { generation: 3, accepting: Ok(()), beat_age: Duration::ZERO }
}

/// Sources over a table with two workers, what the rest says, and the counts of the route `home`.
fn sources(table: Arc<Table>) -> (Sources, Arc<World>, Arc<RouteCell>) {
    let world = Arc::new(World::default());
    world.0.lock().unwrap().workers = vec![worker(), worker()];
    let home = table.routes().map(|entry| &entry.cell).find(|cell| cell.route.as_str() == "home");
    let home = home.unwrap().clone();
    let log = ekiden_config::model::AccessLog {
        format: ekiden_config::model::LogFormat::Json,
        to: ekiden_config::model::LogTarget::Off,
    };
    let (_, scribe): (Vec<Recorder>, _) = Scribe::start(&log, 2).unwrap();
    let sources = Sources {
        table: Arc::new(move || table.clone()),
        workers: vec![Arc::new(WorkerShard::new()), Arc::new(WorkerShard::new())],
        status: world.clone(),
        readiness: world.clone(),
        crowding: Arc::new(super::Crowding::default),
        certificates: Arc::new(Arc::default),
        identities: Arc::new(Arc::default),
        ceilings: Arc::new(Default::default),
        stores: Arc::new(Vec::new),
        log: scribe.meters(),
        started: Instant::now(),
    };
    (sources, world, home)
}
