//! Short words to write models and requests with.

use super::*;
use std::collections::BTreeMap;

use ekiden_config::model::{
    Action, Address, Auth, Balance, ClusterPolicy, ConnectionLimits, Endpoint, Entrance, Forward, HttpLimits,
    Listener, Owner, PathRegex, RoutePolicy, SplitKey, Tokens, ValueCondition, WeightedCluster,
};
use ekiden_config::names::{AppName, ClusterName, EndpointId, ListenerName, RouteName, TrustName};

use crate::claims::{Claim, Claims, Looker};
use crate::table::Fields;

#[derive(Debug, Clone, Default)]
pub(super) struct Head(pub(super) Vec<(&'static str, &'static str)>);

impl Fields for Head {
    fn each(&self, name: &str, visit: &mut dyn FnMut(&[u8]) -> bool) {
        for (_, value) in self.0.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)) {
            if !visit(value.as_bytes()) {
                return;
            }
        }
    }
}

pub(super) fn app_name(name: &str) -> AppName {
    AppName::new(name).unwrap()
}

pub(super) fn cluster_name(name: &str) -> ClusterName {
    ClusterName::new(name).unwrap()
}

pub(super) fn listener_name(name: &str) -> ListenerName {
    ListenerName::new(name).unwrap()
}

pub(super) fn regex(text: &str) -> Arc<PathRegex> {
    Arc::new(PathRegex { text: Arc::from(text), regex: regex::Regex::new(&format!("^(?:{text})$")).unwrap() })
}

pub(super) fn regex_path(text: &str) -> PathMatch {
    PathMatch::Regex(regex(text))
}

pub(super) fn condition(name: &str, test: ValueTest) -> ValueCondition {
    ValueCondition { name: Arc::from(name), test }
}

/// `a.b`, `*.b` or `` for any.
pub(super) fn host(text: &str) -> HostMatch {
    match text.strip_prefix("*.") {
        Some(suffix) => HostMatch::Wildcard(Arc::from(suffix)),
        None if text.is_empty() => HostMatch::Any,
        None => HostMatch::Exact(Arc::from(text)),
    }
}

/// `/a` is a prefix, `=/a` exact, `~...` an expression.
pub(super) fn path(text: &str) -> PathMatch {
    match (text.strip_prefix('='), text.strip_prefix('~')) {
        (Some(exact), _) => PathMatch::Exact(Arc::from(exact)),
        (None, Some(expression)) => regex_path(expression),
        (None, None) => PathMatch::Prefix(Arc::from(text)),
    }
}

/// A route to cluster `web`; it is named when its app is made.
pub(super) fn route(host: HostMatch, path: PathMatch) -> Route {
    Route {
        name: RouteName::new("r").unwrap(),
        host,
        path,
        action: forward(&[("web", 1)]),
        policy: Arc::new(RoutePolicy::default()),
    }
}

pub(super) fn forward(clusters: &[(&str, u16)]) -> Action {
    let weighted =
        |(name, weight): &(&str, u16)| WeightedCluster { cluster: cluster_name(name), weight: *weight };
    Action::Forward(Forward {
        clusters: clusters.iter().map(weighted).collect(),
        split: SplitKey::Client,
        salt: Arc::from("salt"),
        prefix_rewrite: None,
        host_rewrite: None,
    })
}

/// A route written as `HOST PATH [METHOD,...]`, with `-` for any host.
pub(super) fn rule(text: &str) -> Route {
    let mut words = text.split(' ');
    let at = words.next().unwrap();
    let mut made = route(host(if at == "-" { "" } else { at }), path(words.next().unwrap()));
    made.methods = words.next().map_or(Vec::new(), |list| list.split(',').map(Arc::from).collect());
    made
}

pub(super) fn cluster(name: &str, ports: &[u16]) -> Arc<Cluster> {
    let endpoint = |port: &u16| {
        Arc::new(Endpoint {
            id: EndpointId::new(&format!("e{port:05}")).unwrap(),
            address: Address::Tcp(([127, 0, 0, 1], *port).into()),
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
        pool_idle: 1,
        pool_idle_timeout: std::time::Duration::from_secs(1),
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
    Arc::new(Cluster {
        name: cluster_name(name),
        policy: Arc::new(policy),
        endpoints: Arc::new(ports.iter().map(endpoint).collect()),
        names: Arc::default(),
    })
}

/// An app with cluster `web` and its routes named `r1`, `r2`, ...
pub(super) fn app(name: &str, routes: Vec<Route>, shares: &[&str]) -> App {
    let named = |(at, route): (usize, Route)| {
        Arc::new(Route { name: RouteName::new(&format!("r{}", at + 1)).unwrap(), ..route })
    };
    App {
        name: app_name(name),
        routes: Arc::new(routes.into_iter().enumerate().map(named).collect()),
        clusters: BTreeMap::from([(cluster_name("web"), cluster("web", &[1]))]),
        share_hosts_with: Arc::new(shares.iter().map(|name| app_name(name)).collect()),
    }
}

pub(super) fn listener(name: &str, role: Role) -> Arc<Listener> {
    Arc::new(Listener {
        name: listener_name(name),
        address: Address::Unix(Arc::from(name)),
        role,
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
    })
}

/// A model with listeners `edge` and `side` (role edge) and `inner` (role inbound).
pub(super) fn model(apps: impl IntoIterator<Item = App>) -> Model {
    let listeners = [("edge", Role::Edge), ("side", Role::Edge), ("inner", Role::Inbound)];
    Model {
        listeners: listeners
            .into_iter()
            .map(|(name, role)| (listener_name(name), listener(name, role)))
            .collect(),
        apps: apps.into_iter().map(|app| (app.name.clone(), Arc::new(app))).collect(),
        trust: Arc::default(),
    }
}

/// Matches a request written as `METHOD HOST PATH[?QUERY]` (with `-` for no host) on the listener `edge`.
pub(super) fn ask(table: &Table, text: &str, head: &Head) -> Said {
    let words: Vec<&str> = text.split(' ').collect();
    let (path, query) = words[2].split_once('?').unwrap_or((words[2], ""));
    let mut scratch = String::new();
    let facts = Facts {
        host: if words[1] == "-" { "" } else { words[1] },
        path,
        loose: crate::path::loose(path, &mut scratch),
        query,
        method: words[0],
        fields: head,
        client_cert: None,
        claims: Shown::Nothing,
    };
    Said::from(table.find(table.listener(&listener_name("edge")).unwrap_or(0), &facts))
}

pub(super) fn check(table: &Table, text: &str, expected: Said) {
    assert_eq!(ask(table, text, &Head::default()), expected, "{text}");
}

/// What a route must be shown that takes tokens of this issuer.
pub(super) fn tokens_of(issuer: &str) -> Arc<Entrance> {
    let tokens = Tokens { issuer: TrustName::new(issuer).unwrap(), claims: Vec::new(), require: Vec::new() };
    let auth = Auth {
        users: None,
        api_keys: None,
        tokens: Some(tokens),
        realm: Arc::from("r"),
        id_header: None,
        hide_credentials: false,
    };
    Arc::new(Entrance { cors: None, auth: Some(Arc::new(auth)), authorizer: None })
}

/// A token that this issuer signed, and what it says.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) issuer: &'static str,
    pub(super) said: &'static [(&'static str, &'static str)],
}

impl Claims for Token {
    fn look(&self, looker: &Looker<'_>, claim: &str, visit: &mut dyn FnMut(&str) -> bool) -> Claim {
        if looker.issuer.as_str() != self.issuer {
            return Claim::NoToken;
        }
        let mut values =
            self.said.iter().filter(|(name, _)| *name == claim).map(|(_, value)| *value).peekable();
        let found = if values.peek().is_some() { Claim::There } else { Claim::Absent };
        let _all_or_some = values.all(visit);
        found
    }
}
