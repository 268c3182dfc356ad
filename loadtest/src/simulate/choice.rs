//! Who chooses: the product's own clusters with their cells, one set for each router, or an oracle that sees everything.

use super::engine::Nanos;
use super::world::{Park, Server};
use ekiden_config::model::{
    Address, Balance, Cluster, ClusterPolicy, Endpoint, LoadProbes, Owner, ReadinessPolicy, SlotPolicy,
};
use ekiden_config::names::{AppName, ClusterName, EndpointId};
use ekiden_core::cell::CellRegistry;
use ekiden_core::cell::load::Load;
use ekiden_core::cluster::{Attempt, ClusterTable, Pick};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

/// Endpoints that a router asks for their load at once, as by default.
const AT_ONCE: u32 = 8;

/// A way to choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Picker {
    P2c,
    PeakEwma,
    Prequal,
    /// The same, with endpoints that are asked in the background.
    Probing,
    LeastRequest,
    RoundRobin,
    Random,
    /// `p2c` with one slot for each endpoint: what finds none waits at the router.
    Slotted,
    /// Round robin by true speed, the noise aside.
    TrueSpeed,
    /// The least requests and this one by the speed of the moment, over all routers.
    Oracle,
}

impl Picker {
    pub(crate) const ALL: [Self; 9] = [
        Self::P2c,
        Self::PeakEwma,
        Self::Prequal,
        Self::Probing,
        Self::LeastRequest,
        Self::RoundRobin,
        Self::Random,
        Self::TrueSpeed,
        Self::Oracle,
    ];

    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::P2c => "p2c",
            Self::PeakEwma => "peak_ewma",
            Self::Prequal => "prequal",
            Self::Probing => "prequal, asking",
            Self::LeastRequest => "least_request",
            Self::RoundRobin => "round_robin",
            Self::Random => "random",
            Self::Slotted => "p2c with slots",
            Self::TrueSpeed => "round_robin by true speed",
            Self::Oracle => "oracle",
        }
    }

    const fn balance(self) -> Balance {
        match self {
            Self::P2c | Self::Slotted | Self::Oracle => Balance::P2c,
            Self::PeakEwma => Balance::PeakEwma,
            Self::Prequal | Self::Probing => Balance::Prequal,
            Self::LeastRequest => Balance::LeastRequest,
            Self::RoundRobin | Self::TrueSpeed => Balance::RoundRobin,
            Self::Random => Balance::Random,
        }
    }
}

/// The routers, which know nothing of each other.
#[derive(Debug)]
pub(crate) struct Routers {
    picker: Picker,
    tables: Vec<ClusterTable>,
}

fn cluster(picker: Picker, park: &Park) -> Option<Cluster> {
    let policy = ClusterPolicy {
        affinity: None,
        balance: picker.balance(),
        probe: None,
        pool_idle: 128,
        pool_idle_timeout: Duration::from_secs(60),
        peer_router: false,
        report_load: false,
        subset: None,
        adaptive: None,
        probe_load: (picker == Picker::Probing).then_some(LoadProbes {
            host: None,
            per_request_percent: 300,
            at_once: AT_ONCE,
        }),
        send_proxy: None,
        queue: 1024,
        slots: (picker == Picker::Slotted).then_some(SlotPolicy {
            count: 1,
            wait: None,
            target: None,
            interval: Duration::from_secs(1),
        }),
        retry_budget: None,
        breaker: None,
        readiness: ReadinessPolicy::default(),
        tls: None,
        protocol: Default::default(),
        shard: None,
    };
    let endpoint = |at: usize| {
        let weight = if picker == Picker::TrueSpeed { (park.speed(at) * 4.0) as u16 } else { 1 };
        Some(Arc::new(Endpoint {
            id: EndpointId::new(&format!("e{at:06}")).ok()?,
            address: Address::Tcp((Ipv4Addr::LOCALHOST, 1 + u16::try_from(at).ok()?).into()),
            weight,
            priority: 0,
            drain: false,
            tags: None,
            owner: Owner::File,
        }))
    };
    Some(Cluster {
        name: ClusterName::new("web").ok()?,
        policy: Arc::new(policy),
        endpoints: Arc::new((0..park.endpoints).map(endpoint).collect::<Option<_>>()?),
        names: Arc::default(),
    })
}

impl Routers {
    /// So many routers before the same endpoints.
    pub(crate) fn new(picker: Picker, park: &Park, count: usize, random: &mut fastrand::Rng) -> Option<Self> {
        let cluster = Arc::new(cluster(picker, park)?);
        let app = AppName::new("app").ok()?;
        let table = |_| {
            let table = ClusterTable::new(app.clone(), Arc::clone(&cluster), &mut CellRegistry::new(1));
            // Routers do not begin with the same endpoint.
            table.cell.cursor.store(random.u32(..), std::sync::atomic::Ordering::Relaxed);
            table
        };
        Some(Self { picker, tables: (0..count).map(table).collect() })
    }

    /// Chooses for one router; none when every slot is taken.
    pub(crate) fn choose(
        &self,
        router: usize,
        servers: &[Server],
        now: Nanos,
        random: &mut fastrand::Rng,
    ) -> Option<usize> {
        if self.picker == Picker::Oracle {
            let start = random.usize(..servers.len());
            let (head, tail) = servers.split_at(start);
            let cost = |server: &Server| (server.len() + 1) as f64 / server.speed();
            let turned = (start..).zip(tail).chain((0..).zip(head));
            return turned.min_by(|a, b| cost(a.1).total_cmp(&cost(b.1))).map(|(at, _)| at);
        }
        let table = self.tables.get(router)?;
        match table.pick(Attempt::after(&[]).at(now / 1_000), &mut || random.u64(..)) {
            Pick::Endpoint(index) => {
                table.endpoint(index)?.cell.enter();
                Some(index as usize)
            }
            _ => None,
        }
    }

    /// The slot of a request that has ended goes to one that waited at the same router.
    pub(crate) fn hand_over(&self, router: usize, server: usize) {
        let index = u32::try_from(server).unwrap_or(u32::MAX);
        if let Some(entry) = self.tables.get(router).and_then(|table| table.endpoint(index)) {
            entry.cell.enter();
        }
    }

    /// Endpoints that a router asks for their load now.
    pub(crate) fn probes(&self, router: usize, random: &mut fastrand::Rng) -> impl Iterator<Item = usize> {
        let table = self.tables.get(router).filter(|_| self.picker == Picker::Probing);
        let count = table.map_or(0, |table| table.take_load_probes(AT_ONCE));
        (0..count).filter_map(move |_| Some(table?.draw_ready(&mut || random.u64(..))? as usize))
    }

    /// An endpoint has said how busy it is.
    pub(crate) fn told(&self, router: usize, server: usize, load: Load, now: Nanos) {
        if let (Some(table), Ok(index)) = (self.tables.get(router), u32::try_from(server)) {
            table.report(index, load, (now / 1_000, now / 1_000));
        }
    }

    /// An answer came to a router: notes what the router notes.
    pub(crate) fn answered(&self, router: usize, server: usize, took: Nanos, load: Load, now: Nanos) {
        let index = u32::try_from(server).unwrap_or(u32::MAX);
        let Some(table) = self.tables.get(router) else { return };
        let Some(entry) = table.endpoint(index).filter(|_| self.picker != Picker::Oracle) else { return };
        entry.cell.leave();
        entry.cell.note_served();
        if entry.cell.is_timed() {
            entry.cell.note_latency(took / 1_000, now / 1_000);
        }
        if table.takes_reports() {
            table.report(index, load, (now / 1_000, now / 1_000));
        }
    }
}
