//! Clusters for tests: endpoints `e0`, `e1` ... of cluster `web` in app `shop`, told apart by port.

use std::sync::Arc;
use std::time::Duration;

use ekiden_config::model::{
    Address, Balance, Cluster, ClusterPolicy, Endpoint, LoadProbes, Owner, ProbeKind, ProbePolicy,
};
use ekiden_config::names::{AppName, ClusterName, EndpointId};

use super::{ClusterTable, EndpointEntry};
use crate::cell::CellRegistry;

pub(crate) fn app() -> AppName {
    AppName::new("shop").unwrap()
}

/// Numbered so that the order of ids is the order of numbers.
pub(crate) fn id(number: usize) -> EndpointId {
    EndpointId::new(&format!("e{number:06}")).unwrap()
}

pub(crate) fn endpoint(number: usize, weight: u16) -> Endpoint {
    let port = u16::try_from(1 + number % 60_000).unwrap();
    Endpoint {
        id: id(number),
        address: Address::Tcp(([127, 0, 0, 1], port).into()),
        weight,
        priority: 0,
        drain: false,
        tags: None,
        owner: Owner::File,
    }
}

pub(crate) fn probe() -> ProbePolicy {
    ProbePolicy {
        kind: ProbeKind::Tcp,
        interval: Duration::from_secs(2),
        timeout: Duration::from_secs(1),
        rise: 2,
        fall: 3,
    }
}

pub(crate) fn cluster_of(endpoints: Vec<Endpoint>, balance: Balance, probe: Option<ProbePolicy>) -> Cluster {
    Cluster {
        name: ClusterName::new("web").unwrap(),
        policy: Arc::new(ClusterPolicy {
            balance,
            probe,
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
        }),
        endpoints: Arc::new(endpoints.into_iter().map(Arc::new).collect()),
        names: Arc::new(Vec::new()),
    }
}

/// One ready endpoint per weight.
pub(crate) fn table(weights: &[u16], balance: Balance) -> ClusterTable {
    let endpoints = weights.iter().enumerate().map(|(number, weight)| endpoint(number, *weight)).collect();
    let cluster = Arc::new(cluster_of(endpoints, balance, None));
    ClusterTable::new(app(), cluster, &mut CellRegistry::new(1))
}

/// The same by `prequal`, with so many hundredths of endpoints asked for each request.
pub(crate) fn asking(weights: &[u16], per_request_percent: u32) -> ClusterTable {
    let endpoints = weights.iter().enumerate().map(|(number, weight)| endpoint(number, *weight)).collect();
    let mut cluster = cluster_of(endpoints, Balance::Prequal, None);
    let policy = Arc::make_mut(&mut cluster.policy);
    policy.probe_load = Some(LoadProbes { host: None, per_request_percent, at_once: 8 });
    ClusterTable::new(app(), Arc::new(cluster), &mut CellRegistry::new(1))
}

pub(crate) fn entries(weights: &[u16]) -> Arc<[EndpointEntry]> {
    table(weights, Balance::P2c).endpoints.clone()
}

/// SplitMix64 (G. L. Steele et al., 2014): random bits that are the same in every run.
pub(crate) fn random(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}
