//! apply(diff(a, b), a) == b, what stays pointer-equal, and what a change of one endpoint costs.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::SharedMap;
use crate::model::*;
use crate::names::{RouteName, TrustName};

fn endpoint(id: &str, port: u16, owner: Owner) -> Arc<Endpoint> {
    Arc::new(Endpoint {
        id: EndpointId::new(id).unwrap(),
        address: Address::Tcp(([10, 0, 0, 1], port).into()),
        weight: 1,
        priority: 0,
        drain: false,
        tags: None,
        owner,
    })
}

fn policy(queue: u32) -> Arc<ClusterPolicy> {
    Arc::new(ClusterPolicy {
        balance: Balance::P2c,
        probe: None,
        pool_idle: 128,
        pool_idle_timeout: std::time::Duration::from_secs(60),
        peer_router: false,
        report_load: false,
        subset: None,
        adaptive: None,
        probe_load: None,
        send_proxy: None,
        queue,
        slots: None,
        retry_budget: None,
        breaker: None,
        readiness: crate::model::ReadinessPolicy::default(),
        tls: None,
        protocol: Default::default(),
        shard: None,
        affinity: None,
    })
}

fn cluster(name: &str, queue: u32, endpoints: Vec<Arc<Endpoint>>, names: Vec<DnsEndpoint>) -> Arc<Cluster> {
    Arc::new(Cluster {
        name: ClusterName::new(name).unwrap(),
        policy: policy(queue),
        endpoints: Arc::new(endpoints),
        names: Arc::new(names),
    })
}

fn route(index: usize, path: &str, to: &ClusterName) -> Arc<Route> {
    Arc::new(Route {
        name: RouteName::new(&format!("route-{index}")).unwrap(),
        host: HostMatch::Any,
        path: PathMatch::Prefix(path.into()),
        action: Action::Forward(Forward {
            clusters: vec![WeightedCluster { cluster: to.clone(), weight: 1 }],
            split: SplitKey::Client,
            salt: "s".into(),
            prefix_rewrite: None,
            host_rewrite: None,
        }),
        policy: Arc::new(RoutePolicy::default()),
    })
}

fn listener(name: &str, port: u16) -> Arc<Listener> {
    Arc::new(Listener {
        name: ListenerName::new(name).unwrap(),
        address: Address::Tcp(([127, 0, 0, 1], port).into()),
        role: Role::Edge,
        trust: vec![],
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
    })
}

type ClusterSeed = (u32, BTreeMap<u8, u16>, bool);
type AppSeed = (BTreeMap<u8, ClusterSeed>, Vec<u8>, bool);

fn make_app(name: &str, (clusters, routes, share): AppSeed) -> Arc<App> {
    let clusters: BTreeMap<_, _> = clusters
        .into_iter()
        .map(|(name, (queue, endpoints, dns))| {
            let endpoints =
                endpoints.iter().map(|(id, port)| endpoint(&format!("e{id}"), *port, Owner::File));
            let dns = DnsEndpoint {
                id: None,
                name: "n".into(),
                port: 1,
                weight: u16::from(dns) + 1,
                zone: None,
                priority: 0,
            };
            let cluster = cluster(&format!("c{name}"), queue, endpoints.collect(), vec![dns]);
            (cluster.name.clone(), cluster)
        })
        .collect();
    let names: Vec<_> = clusters.keys().cloned().collect();
    let routes = routes.iter().enumerate().filter_map(|(index, path)| {
        let to = names.get(usize::from(*path) % names.len().max(1))?;
        Some(route(index, &format!("/{path}"), to))
    });
    Arc::new(App {
        name: AppName::new(name).unwrap(),
        routes: Arc::new(routes.collect()),
        clusters,
        share_hosts_with: Arc::new(if share { vec![AppName::default_app()] } else { vec![] }),
    })
}

fn sources(seed: &BTreeMap<u8, u8>) -> TrustSources {
    let one = |(name, file): (&u8, &u8)| {
        let source = AuthoritySource { file: format!("{file}.pem").into(), apps: Vec::new() };
        (TrustName::new(&format!("t{name}")).unwrap(), source)
    };
    TrustSources { authorities: seed.iter().map(one).collect(), ..TrustSources::default() }
}

fn models() -> impl Strategy<Value = Arc<Model>> {
    let endpoints = proptest::collection::btree_map(0..6u8, 1..3u16, 0..5);
    let clusters = proptest::collection::btree_map(0..4u8, (0..2u32, endpoints, any::<bool>()), 0..4);
    let app = (clusters, proptest::collection::vec(0..5u8, 0..5), any::<bool>());
    let apps = proptest::collection::btree_map(0..3u8, app, 0..3);
    let listeners = proptest::collection::btree_map(0..3u8, 1..3u16, 0..3);
    let trust = proptest::collection::btree_map(0..3u8, 0..3u8, 0..3);
    (listeners, apps, trust).prop_map(|(listeners, apps, trust)| {
        let listeners = listeners.iter().map(|(name, port)| listener(&format!("l{name}"), *port));
        let apps = apps.into_iter().map(|(name, seed)| make_app(&format!("a{name}"), seed));
        Arc::new(Model {
            listeners: listeners.map(|listener| (listener.name.clone(), listener)).collect(),
            apps: apps.map(|app| (app.name.clone(), app)).collect(),
            trust: Arc::new(sources(&trust)),
        })
    })
}

proptest! {
    #[test]
    fn diff_then_apply_is_the_other(a in models(), b in models()) {
        let deltas = diff(&a, &b);
        prop_assert_eq!(deltas.is_empty(), a == b);
        let applied = apply(&a, &deltas).unwrap();
        prop_assert_eq!(&applied, &b);
        prop_assert!(!summary(&a, &deltas).is_empty());
        // Every prefix of the list leaves a Model that holds together.
        for end in 0..deltas.len() {
            prop_assert!(apply(&a, &deltas[..end]).is_ok());
        }
        // One by one is as good as all at once.
        let mut step = Arc::clone(&a);
        for delta in &deltas {
            step = apply(&step, std::slice::from_ref(delta)).unwrap();
        }
        prop_assert_eq!(&step, &b);
    }

    #[test]
    fn equal_parts_stay_pointer_equal(a in models(), b in models()) {
        let applied = apply(&a, &diff(&a, &b)).unwrap();
        let reused = reuse(Model::clone(&b), &a);
        for after in [&*applied, &reused] {
            prop_assert_eq!(after, &*b);
            for (name, listener) in &after.listeners {
                if let Some(old) = a.listeners.get(name).filter(|old| *old == listener) {
                    prop_assert!(Arc::ptr_eq(old, listener));
                }
            }
            for (name, app) in &after.apps {
                let Some(old) = a.apps.get(name) else { continue };
                prop_assert_eq!(Arc::ptr_eq(old, app), old == app);
                prop_assert_eq!(Arc::ptr_eq(&old.routes, &app.routes), old.routes == app.routes);
                for (name, cluster) in &app.clusters {
                    let Some(old) = old.clusters.get(name) else { continue };
                    prop_assert_eq!(Arc::ptr_eq(old, cluster), old == cluster);
                    prop_assert_eq!(Arc::ptr_eq(&old.policy, &cluster.policy), old.policy == cluster.policy);
                    for endpoint in cluster.endpoints.iter() {
                        if let Some(old) = old.endpoints.iter().find(|old| *old == endpoint) {
                            prop_assert!(Arc::ptr_eq(old, endpoint));
                        }
                    }
                }
            }
        }
    }
}

fn put(app: &str, cluster: &str, id: &str, port: u16) -> Delta {
    Delta::PutEndpoint {
        app: AppName::new(app).unwrap(),
        cluster: ClusterName::new(cluster).unwrap(),
        endpoint: endpoint(id, port, Owner::Api),
    }
}

fn one_app() -> Arc<Model> {
    let web = cluster("web", 1, vec![endpoint("b", 1, Owner::File)], vec![]);
    let app = App {
        name: AppName::new("a").unwrap(),
        routes: Arc::new(vec![route(1, "/", &web.name)]),
        clusters: BTreeMap::from([(web.name.clone(), web)]),
        share_hosts_with: Arc::new(vec![]),
    };
    Arc::new(Model {
        listeners: BTreeMap::new(),
        apps: SharedMap::from([(app.name.clone(), Arc::new(app))]),
        trust: Default::default(),
    })
}

fn ids(model: &Model) -> Vec<String> {
    model.apps.get("a").unwrap().clusters["web"]
        .endpoints
        .iter()
        .map(|endpoint| endpoint.id.to_string())
        .collect()
}

#[test]
fn endpoints_stay_sorted_and_the_last_word_counts() {
    let (a, web) = (AppName::new("a").unwrap(), ClusterName::new("web").unwrap());
    let remove = |id: &str| Delta::RemoveEndpoint {
        app: a.clone(),
        cluster: web.clone(),
        id: EndpointId::new(id).unwrap(),
    };
    let model = one_app();
    for (deltas, want) in [
        (vec![put("a", "web", "c", 1), put("a", "web", "a", 1)], vec!["a", "b", "c"]),
        (vec![put("a", "web", "c", 1), remove("c"), remove("b")], vec![]),
        (vec![remove("b"), put("a", "web", "b", 2)], vec!["b"]),
        (vec![remove("nobody")], vec!["b"]),
    ] {
        assert_eq!(ids(&apply(&model, &deltas).unwrap()), want);
    }
    let replaced = apply(&model, &[put("a", "web", "b", 2)]).unwrap();
    assert_eq!(
        replaced.apps.get("a").unwrap().clusters["web"].endpoints[0].address,
        Address::Tcp(([10, 0, 0, 1], 2).into())
    );
    assert_eq!(ids(&model), ["b"], "the given Model is as it was");
}

#[test]
fn what_does_not_fit() {
    let (a, web) = (AppName::new("a").unwrap(), ClusterName::new("web").unwrap());
    let model = one_app();
    let errors = [
        (put("x", "web", "e", 1), ApplyError::UnknownApp(AppName::new("x").unwrap())),
        (put("a", "x", "e", 1), ApplyError::UnknownCluster(a.clone(), ClusterName::new("x").unwrap())),
        (
            Delta::RemoveCluster { app: a.clone(), cluster: web.clone() },
            ApplyError::ClusterInUse(a.clone(), web.clone()),
        ),
    ];
    for (delta, error) in errors {
        assert_eq!(apply(&model, &[put("a", "web", "e", 1), delta]), Err(error));
    }
    let unused = [
        Delta::PutRoutes { app: a.clone(), routes: Arc::new(vec![]) },
        Delta::RemoveCluster { app: a, cluster: web },
    ];
    assert!(apply(&model, &unused).is_ok());
    assert!(Arc::ptr_eq(&apply(&model, &[]).unwrap(), &model));
}

#[test]
fn summaries() {
    let model = one_app();
    let many: Vec<_> = (0..12).map(|i| put("a", "web", &format!("e{i}"), 1)).collect();
    assert_eq!(summary(&model, &[]), "no change");
    assert_eq!(summary(&model, &[put("a", "web", "b", 2)]), "~endpoint a/web/b");
    assert!(summary(&model, &many).ends_with("+endpoint a/web/e7 and 4 more"));
    let web = ClusterName::new("web").unwrap();
    let routes = Arc::new(vec![route(1, "/x", &web), route(2, "/", &web)]);
    let a = AppName::new("a").unwrap();
    assert_eq!(summary(&model, &[Delta::PutRoutes { app: a, routes }]), "~routes a (+1 ~1 -0)");
}

/// One endpoint into an app of many clusters copies the app's own nodes and one cluster's list, nothing else. What
/// that costs in time is a matter for a bench: 0.3 ms at 10,000 clusters and 100,000 endpoints in a release build.
#[test]
fn one_endpoint_copies_one_cluster() {
    let clusters = (0..2000).map(|i| {
        let endpoints = (0..10).map(|e| endpoint(&format!("e{e}"), e + 1, Owner::File)).collect();
        let cluster = cluster(&format!("c{i:05}"), 1, endpoints, vec![]);
        (cluster.name.clone(), cluster)
    });
    let app = App {
        name: AppName::new("a").unwrap(),
        routes: Arc::new(vec![]),
        clusters: clusters.collect(),
        share_hosts_with: Arc::new(vec![]),
    };
    let model = Model {
        listeners: BTreeMap::new(),
        apps: SharedMap::from([(app.name.clone(), Arc::new(app))]),
        trust: Default::default(),
    };
    let before = Arc::new(model);
    let after = apply(&before, &[put("a", "c00500", "new", 1)]).unwrap();
    assert_eq!(after.endpoint_count(), before.endpoint_count() + 1);
    assert_eq!(diff(&before, &after).len(), 1);
    let (old, new) = (before.apps.get("a").unwrap(), after.apps.get("a").unwrap());
    assert!(Arc::ptr_eq(&old.routes, &new.routes));
    let copied: Vec<_> =
        old.clusters.iter().filter(|(name, old)| !Arc::ptr_eq(old, &new.clusters[*name])).collect();
    assert_eq!(copied.len(), 1);
    let (old, new) = (copied[0].1, &new.clusters["c00500"]);
    assert!(Arc::ptr_eq(&old.policy, &new.policy) && Arc::ptr_eq(&old.names, &new.names));
    assert!(old.endpoints.iter().all(|old| new.endpoints.iter().any(|new| Arc::ptr_eq(old, new))));
}
