//! The prober on tables that change.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};

use arc_swap::ArcSwap;
use ekiden_config::SharedMap;
use ekiden_config::doors::Generation;
use ekiden_config::doors::Observations;
use ekiden_config::model::{
    App, Balance, Cluster, ClusterPolicy, Endpoint, Model, Owner, ProbeKind, ProbePolicy,
};
use ekiden_config::names::{AppName, ClusterName, EndpointId};
use ekiden_core::cluster::{ClusterTable, Pick};
use ekiden_core::table::{Compiler, Table};

use super::*;
use crate::probe::{Checking, Factory, FakeProbe, Hooks, Probe, Prober, Target, embedded};

fn policy(path: &str) -> ProbePolicy {
    ProbePolicy {
        kind: ProbeKind::Http {
            path: path.into(),
            host: None,
            status: (200, 299),
            body: None,
            send_proxy: None,
        },
        interval: Duration::from_millis(20),
        timeout: Duration::from_secs(5),
        rise: 2,
        fall: 2,
    }
}

fn cluster(name: &str, probe: Option<&ProbePolicy>, endpoints: &[(&str, Address)]) -> Arc<Cluster> {
    let mut endpoints: Vec<_> = endpoints
        .iter()
        .map(|(id, address)| {
            Arc::new(Endpoint {
                id: EndpointId::new(id).unwrap(),
                address: address.clone(),
                weight: 1,
                priority: 0,
                drain: false,
                tags: None,
                owner: Owner::File,
            })
        })
        .collect();
    endpoints.sort_by(|a, b| a.id.cmp(&b.id));
    Arc::new(Cluster {
        name: ClusterName::new(name).unwrap(),
        policy: Arc::new(ClusterPolicy {
            balance: Balance::P2c,
            probe: probe.cloned(),
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
        }),
        endpoints: Arc::new(endpoints),
        names: Arc::default(),
    })
}

fn model(clusters: &[Arc<Cluster>]) -> Arc<Model> {
    let app = App {
        name: AppName::default_app(),
        routes: Arc::default(),
        clusters: clusters.iter().map(|cluster| (cluster.name.clone(), cluster.clone())).collect(),
        share_hosts_with: Arc::default(),
    };
    Arc::new(Model {
        listeners: BTreeMap::new(),
        apps: SharedMap::from([(AppName::default_app(), Arc::new(app))]),
        trust: Arc::default(),
    })
}

/// A prober with its tables, and the changes it told of.
struct Bench {
    compiler: Compiler,
    current: Arc<ArcSwap<Table>>,
    prober: Prober,
    changes: Receiver<String>,
    generation: u64,
}

impl Bench {
    fn start(factory: Factory, own: Option<Address>) -> Self {
        let current = Arc::new(ArcSwap::from_pointee(Table::empty()));
        let (told, changes) = channel();
        let hooks = Hooks {
            table: {
                let current = current.clone();
                Arc::new(move || current.load_full())
            },
            on_change: Arc::new(move |_, cluster| {
                let _ = told.send(cluster.to_string());
            }),
            suspects: Arc::default(),
            observations: Observations::default(),
            hot: Arc::default(),
            started: std::time::Instant::now(),
            is_own: Arc::new(move |address| Some(address) == own.as_ref()),
            target: Arc::new(|incarnation| Ok(Target::plain(incarnation.address().clone()))),
        };
        let prober = Prober::start_with(hooks, 7, factory).unwrap();
        Self { compiler: Compiler::new(1), current, prober, changes, generation: 0 }
    }

    fn publish(&mut self, clusters: &[Arc<Cluster>]) {
        self.generation += 1;
        let compiled = self.compiler.compile(&model(clusters), Generation(self.generation));
        compiled.removed.iter().for_each(|cell| cell.mark_gone());
        self.current.store(compiled.table.clone());
        self.prober.retable(compiled.table);
    }

    fn cluster(&self, name: &str) -> Arc<ClusterTable> {
        let table = self.current.load();
        table.cluster_named(&AppName::default_app(), &ClusterName::new(name).unwrap()).unwrap().clone()
    }

    /// Waits for the next change of a cluster.
    fn changed(&self, name: &str) {
        while self.changes.recv_timeout(LONG).expect("a change") != name {}
    }

    /// Waits until the cluster has this many ready endpoints.
    fn until_ready(&self, name: &str, count: usize) {
        while self.cluster(name).ready_count() != count {
            self.changed(name);
        }
    }

    fn reason(&self, name: &str) -> String {
        self.cluster(name).endpoints[0].cell.reason().0
    }
}

fn pick(cluster: &ClusterTable) -> Pick {
    cluster.pick(ekiden_core::cluster::Attempt::after(&[]), &mut || 0)
}

#[test]
fn the_first_success_admits_and_rise_and_fall_rule_after() {
    let origin = Origin::start(UNAVAILABLE);
    let mut bench = Bench::start(embedded(), None);
    bench.publish(&[cluster("web", Some(&policy("/up")), &[("a", origin.address())])]);
    assert!(!matches!(pick(&bench.cluster("web")), Pick::Endpoint(_)), "nothing before the first check");
    bench.changed("web");
    assert!(!bench.cluster("web").first_check_pending());
    assert!(bench.reason("web").contains("GET /up answered 503"), "{}", bench.reason("web"));
    origin.answer(OK);
    bench.until_ready("web", 1);
    assert!(matches!(pick(&bench.cluster("web")), Pick::Endpoint(0)));
    assert!(bench.reason("web").contains("2 checks in a row passed"), "{}", bench.reason("web"));
    origin.answer(UNAVAILABLE);
    bench.until_ready("web", 0);
    assert_eq!(bench.reason("web"), "2 checks in a row failed: GET /up answered 503");
    bench.prober.stop();
}

#[test]
fn many_are_admitted_and_never_too_many_checked_at_once() {
    struct Counting {
        now: AtomicUsize,
        most: AtomicUsize,
    }
    impl Probe for Counting {
        fn check<'a>(&'a self, _: &'a Target) -> Checking<'a> {
            Box::pin(async {
                let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
                self.most.fetch_max(now, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(300)).await;
                self.now.fetch_sub(1, Ordering::Relaxed);
                Ok(())
            })
        }
    }
    let counting = Arc::new(Counting { now: AtomicUsize::new(0), most: AtomicUsize::new(0) });
    let mut bench = Bench::start(
        Arc::new({
            let counting = counting.clone();
            move |_| counting.clone() as Arc<dyn Probe>
        }),
        None,
    );
    let ids: Vec<String> = (0..3000).map(|n| format!("e{n}")).collect();
    let address = |n: usize| Address::Tcp(([127, 0, 0, 1], n as u16 + 1).into());
    let endpoints: Vec<_> = ids.iter().enumerate().map(|(n, id)| (id.as_str(), address(n))).collect();
    let mut slow = policy("/");
    slow.interval = Duration::from_secs(3600);
    bench.publish(&[cluster("web", Some(&slow), &endpoints)]);
    bench.until_ready("web", 3000);
    let most = counting.most.load(Ordering::Relaxed);
    assert!(most <= crate::probe::shared::CHECKS_MAX && most > 100, "{most}");
    bench.prober.stop();
}

/// A factory whose probe flips its answer with each check, so that every check is a change, and counts checks by port.
fn flipping(counts: Arc<Mutex<BTreeMap<Address, usize>>>) -> Factory {
    let probe: Arc<dyn Probe> = Arc::new(FakeProbe::new(move |address| {
        let mut counts = counts.lock().unwrap();
        let count = counts.entry(address.clone()).or_default();
        *count += 1;
        Some(if *count % 2 == 1 { Ok(()) } else { Err("even".to_owned()) })
    }));
    Arc::new(move |_| probe.clone())
}

#[test]
fn a_removed_endpoint_is_never_checked_again() {
    let counts = Arc::default();
    let mut bench = Bench::start(flipping(Arc::clone(&counts)), None);
    let (a, b) = (Address::Unix("/a".into()), Address::Unix("/b".into()));
    let mut quick = policy("/");
    (quick.rise, quick.fall) = (1, 1);
    let old = cluster("old", Some(&quick), &[("a", a.clone())]);
    bench.publish(&[old]);
    bench.changed("old");
    let removed = bench.cluster("old").endpoints[0].cell.clone();
    bench.publish(&[cluster("new", Some(&quick), &[("b", b)])]);
    assert!(removed.is_gone());
    // A change of the new cluster says that the prober follows the new table; five more are five intervals.
    bench.changed("new");
    let count = || counts.lock().unwrap()[&a];
    let before = count();
    (0..5).for_each(|_| bench.changed("new"));
    assert_eq!(count(), before);
    bench.prober.stop();
}

#[test]
fn another_policy_keeps_health_and_asks_the_new_way() {
    let origin = Origin::start(OK);
    let mut bench = Bench::start(embedded(), None);
    let endpoints = [("a", origin.address())];
    bench.publish(&[cluster("web", Some(&policy("/old")), &endpoints)]);
    bench.until_ready("web", 1);
    let cell = bench.cluster("web").endpoints[0].cell.clone();
    origin.answer(UNAVAILABLE);
    let mut patient = policy("/new");
    patient.fall = 200;
    bench.publish(&[cluster("web", Some(&patient), &endpoints)]);
    let deadline = std::time::Instant::now() + LONG;
    while !origin.requests().last().unwrap().starts_with("GET /new ") {
        assert!(std::time::Instant::now() < deadline);
        std::thread::park_timeout(Duration::from_millis(5));
    }
    assert!(Arc::ptr_eq(&cell, &bench.cluster("web").endpoints[0].cell));
    assert!(cell.may_pick(), "still ready under the new policy");
    assert_eq!(bench.cluster("web").ready_count(), 1);
    // Without a probe it is ready, whatever the checks would say, and no check follows.
    bench.publish(&[cluster("web", None, &endpoints), cluster("other", Some(&policy("/o")), &endpoints)]);
    bench.changed("other");
    assert!(cell.may_pick());
    bench.prober.stop();
}

#[test]
fn reasons_for_silence_panic_and_own_addresses() {
    let own = Origin::start(OK);
    let mut short = policy("/");
    short.timeout = Duration::from_millis(30);
    let inner = embedded();
    let mut bench = Bench::start(
        Arc::new(move |kind| match kind {
            ProbeKind::Http { path, .. } if &**path == "/silent" => Arc::new(FakeProbe::new(|_| None)),
            ProbeKind::Http { path, .. } if &**path == "/panic" => {
                Arc::new(FakeProbe::new(|_| std::panic::resume_unwind(Box::new("told to"))))
            }
            kind => inner(kind),
        }),
        Some(own.address()),
    );
    let with_path = |path: &str| {
        let ProbeKind::Http { host, status, body, .. } = short.kind.clone() else { unreachable!() };
        ProbePolicy {
            kind: ProbeKind::Http { path: path.into(), host, status, body, send_proxy: None },
            ..short.clone()
        }
    };
    let elsewhere = Address::Unix("/nowhere".into());
    bench.publish(&[
        cluster("own", Some(&short), &[("a", own.address())]),
        cluster("panic", Some(&with_path("/panic")), &[("a", elsewhere.clone())]),
        cluster("silent", Some(&with_path("/silent")), &[("a", elsewhere.clone())]),
        cluster("missing", Some(&short), &[("a", elsewhere)]),
    ]);
    let own_words = format!("{} is this router's own control or telemetry address", own.address);
    for (name, words) in [
        ("own", own_words.as_str()),
        ("panic", "the probe panicked"),
        ("silent", "no answer within 30 ms"),
        ("missing", "no such socket"),
    ] {
        while bench.cluster(name).first_check_pending() {
            bench.changes.recv_timeout(LONG).expect("a change");
        }
        assert_eq!(bench.reason(name), format!("first check failed: {words}"));
    }
    assert!(own.requests().is_empty(), "an own address is not connected to");
    bench.prober.stop();
}
