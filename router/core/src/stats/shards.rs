//! What is counted: the shards of routes, clusters and workers, and the cells that hold a route's or cluster's shards.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64};

use ekiden_config::model::AdaptivePolicy;
use ekiden_config::names::{AppName, ClusterName, RouteName};

use super::tls::TlsShard;
use super::{Counter, Gauge, Histogram};
use crate::cell::seat::Seat;
use crate::evidence::Evidence;
use crate::frame_budget::Budget;
use crate::grpc::GrpcStatus;
use crate::outcome::Cause;
use crate::overload::ShedCounts;
use crate::overload::slots::Gate;
use crate::pick::layout::{Layout, PRIORITIES, ZoneKind};
use crate::policy::entrance::Rulings;
use crate::resilience::adaptive::Adaptive;
use crate::resilience::breaker::BreakerCell;
use crate::resilience::budget::BudgetCell;
use crate::resilience::latency::Latency;
use crate::resilience::{Again, Withheld};

/// Places in a `requests` array: 0 for no status, then 1xx to 5xx.
pub const CLASSES: usize = 6;

/// The place of a status in a `requests` array: 1..=5 by hundreds, 0 for no status or one outside 100..=599.
pub const fn class(status: u16) -> usize {
    match status / 100 {
        1 => 1,
        2 => 2,
        3 => 3,
        4 => 4,
        5 => 5,
        _ => 0,
    }
}

fn count_status(requests: &[Counter; CLASSES], status: u16) {
    if let Some(counter) = requests.get(class(status)) {
        counter.add(1);
    }
}

/// One worker's counts of one route.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct RouteShard {
    /// Ended requests by [`class`] of the status.
    pub requests: [Counter; CLASSES],
    /// From the first byte of the request head to the last byte of the response.
    pub duration: Histogram,
    /// Bytes read from clients: heads and bodies.
    pub bytes_in: Counter,
    /// Bytes written to clients: heads and bodies.
    pub bytes_out: Counter,
    /// Requests matched and not ended.
    pub in_flight: Gauge,
    /// Responses that the router made itself.
    pub router_made: Counter,
}

/// One worker's counts of what a route does to requests beside serving them: few routes do anything.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ShapingShard {
    /// Faults that the route was told to make, by [`FaultKind`].
    pub faults: [Counter; FaultKind::ALL.len()],
    /// What became of copies, by [`MirrorEnd`].
    pub mirrored: [Counter; MirrorEnd::ALL.len()],
}

/// What becomes of the copy of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MirrorEnd {
    /// It was answered; nobody compares.
    Sent,
    /// It was answered alike.
    Same,
    /// It was answered with another status.
    OtherStatus,
    /// It was answered with the same status and another body.
    OtherBody,
    /// It got no whole answer.
    Failed,
    /// It was not sent: as many are on their way as may be.
    Busy,
    /// It was not sent: the body of the request is too large.
    TooLarge,
    /// It was not sent: the request was answered before its body had come.
    Unread,
    /// It was not made: the request is a copy itself.
    Copy,
}

impl MirrorEnd {
    /// All, in the order of the counters.
    pub const ALL: &'static [Self] = &[
        Self::Sent,
        Self::Same,
        Self::OtherStatus,
        Self::OtherBody,
        Self::Failed,
        Self::Busy,
        Self::TooLarge,
        Self::Unread,
        Self::Copy,
    ];

    /// The label.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Same => "same",
            Self::OtherStatus => "other_status",
            Self::OtherBody => "other_body",
            Self::Failed => "failed",
            Self::Busy => "busy",
            Self::TooLarge => "too_large",
            Self::Unread => "unread",
            Self::Copy => "copy",
        }
    }
}

/// What the router does to requests of a route with faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// Held back.
    Delay,
    /// Answered with an error.
    Abort,
}

impl FaultKind {
    /// All, in the order of the counters.
    pub const ALL: &'static [Self] = &[Self::Delay, Self::Abort];

    /// The label.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Delay => "delay",
            Self::Abort => "abort",
        }
    }
}

/// One worker's counts of the gRPC calls of one route.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct GrpcShard {
    /// Ended calls by [`GrpcStatus::number`].
    pub ended: [Counter; GrpcStatus::ALL.len()],
}

impl RouteShard {
    const fn new() -> Self {
        Self {
            requests: [const { Counter::new() }; CLASSES],
            duration: Histogram::new(),
            bytes_in: Counter::new(),
            bytes_out: Counter::new(),
            in_flight: Gauge::new(),
            router_made: Counter::new(),
        }
    }

    /// Counts one ended request by its status. Called by the worker when it records the exchange.
    #[inline]
    pub fn ended(&self, status: u16) {
        count_status(&self.requests, status);
    }
}

impl ShapingShard {
    const fn new() -> Self {
        Self {
            faults: [const { Counter::new() }; FaultKind::ALL.len()],
            mirrored: [const { Counter::new() }; MirrorEnd::ALL.len()],
        }
    }

    /// Counts a copy.
    pub fn mirrored(&self, end: MirrorEnd) {
        if let Some(counter) = self.mirrored.get(end as usize) {
            counter.add(1);
        }
    }

    /// Counts a fault.
    pub fn faulted(&self, kind: FaultKind) {
        if let Some(counter) = self.faults.get(kind as usize) {
            counter.add(1);
        }
    }
}

/// One worker's counts of one cluster.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ClusterShard {
    /// Ended requests by [`class`] of the status.
    pub requests: [Counter; CLASSES],
    /// Requests sent to an endpoint or waiting for one, not ended.
    pub in_flight: Gauge,
    /// Tries to have a connection to an endpoint, new or from the pool.
    pub attempts: Counter,
    /// Attempts after the first of a request because a connect failed.
    pub retries: Counter,
    /// Requests sent a second time because a connection died before the first response byte.
    pub replays: Counter,
    /// Requests sent again by the rules of a route, by [`Again`].
    pub again: [Counter; Again::ALL.len()],
    /// Requests sent to a second endpoint while the first was silent, and of those the ones that the second answered.
    pub hedges: Counter,
    /// See [`ClusterShard::hedges`].
    pub hedges_won: Counter,
    /// Responses of a cluster with affinity, by [`AffinityEnd`].
    pub affinity: [Counter; AffinityEnd::ALL.len()],
    /// Requests not sent again although the rules said so, by [`Withheld`].
    pub withheld: [Counter; Withheld::ALL.len()],
    /// Connections opened.
    pub connects: Counter,
    /// Connects that failed or took too long.
    pub connect_failures: Counter,
    /// Requests sent on a connection from the pool.
    pub reused: Counter,
    /// Pooled connections found closed when taken out.
    pub stale: Counter,
    /// Upstream connections open, idle ones included.
    pub connections: Gauge,
    /// Upstream connections idle in the pool.
    pub idle: Gauge,
    /// TLS handshakes with endpoints that were completed: full ones, and resumed ones.
    pub tls_full: Counter,
    /// See [`ClusterShard::tls_full`].
    pub tls_resumed: Counter,
    /// TLS handshakes with endpoints that failed: certificate not believed, refused by the endpoint, anything else.
    pub tls_failures: [Counter; 3],
    /// Streams of HTTP/2 begun.
    pub http2_streams: Counter,
    /// Streams that the endpoint did not look at: refused, or beyond its GOAWAY.
    pub http2_unprocessed: Counter,
    /// Reports of load that endpoints made.
    pub load_reports: Counter,
    /// Questions of routers for the load of its endpoints that were answered.
    pub load_answers: Counter,
    /// From the start of a connect to its success.
    pub connect: Histogram,
    /// From the request fully sent to the first response byte.
    pub first_byte: Histogram,
    /// Requests waiting for a first check or a slot.
    pub queued: Gauge,
    /// Requests refused because the queue was full.
    pub queue_refused: Counter,
    /// Requests that left the queue because their time was up.
    pub queue_timeouts: Counter,
    /// Time in the line for a slot, of requests that left it with one.
    pub queue: Histogram,
    /// Bytes written to endpoints.
    pub bytes_up: Counter,
    /// Bytes read from endpoints.
    pub bytes_down: Counter,
}

impl ClusterShard {
    const fn new() -> Self {
        Self {
            requests: [const { Counter::new() }; CLASSES],
            in_flight: Gauge::new(),
            attempts: Counter::new(),
            retries: Counter::new(),
            replays: Counter::new(),
            again: [const { Counter::new() }; Again::ALL.len()],
            hedges: Counter::new(),
            hedges_won: Counter::new(),
            affinity: [const { Counter::new() }; AffinityEnd::ALL.len()],
            withheld: [const { Counter::new() }; Withheld::ALL.len()],
            connects: Counter::new(),
            connect_failures: Counter::new(),
            reused: Counter::new(),
            stale: Counter::new(),
            connections: Gauge::new(),
            idle: Gauge::new(),
            tls_full: Counter::new(),
            tls_resumed: Counter::new(),
            tls_failures: [const { Counter::new() }; 3],
            http2_streams: Counter::new(),
            http2_unprocessed: Counter::new(),
            load_reports: Counter::new(),
            load_answers: Counter::new(),
            connect: Histogram::new(),
            first_byte: Histogram::new(),
            queued: Gauge::new(),
            queue_refused: Counter::new(),
            queue_timeouts: Counter::new(),
            queue: Histogram::new(),
            bytes_up: Counter::new(),
            bytes_down: Counter::new(),
        }
    }

    /// Counts one ended request by its status. Called by the worker when it records the exchange.
    #[inline]
    pub fn ended(&self, status: u16) {
        count_status(&self.requests, status);
    }

    /// Counts a response of a cluster with affinity.
    pub fn affinity_ended(&self, end: AffinityEnd) {
        if let Some(counter) = self.affinity.get(end as usize) {
            counter.add(1);
        }
    }
}

/// How a request to a cluster with affinity found its endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AffinityEnd {
    /// The endpoint of its mark answered.
    Kept,
    /// Another one answered this once: the client keeps its mark.
    Lent,
    /// Another one answered, and the client has a new mark.
    Moved,
    /// It had no mark, and has one now.
    Begun,
    /// Its mark was none of ours or its time was over, and it has another one now.
    Refused,
}

impl AffinityEnd {
    /// All, in the order of the counters.
    pub const ALL: &'static [Self] = &[Self::Kept, Self::Lent, Self::Moved, Self::Begun, Self::Refused];

    /// The label.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Lent => "lent",
            Self::Moved => "moved",
            Self::Begun => "begun",
            Self::Refused => "refused",
        }
    }
}

/// One worker's counts of itself. Made by the router at start, one per worker.
#[derive(Debug)]
#[repr(align(128))]
pub struct WorkerShard {
    /// Ended requests by cause; the place is [`Cause::index`].
    pub outcomes: [Counter; Cause::COUNT],
    /// Requests ended.
    pub requests: Counter,
    /// Client connections accepted.
    pub accepted: Counter,
    /// Client connections closed.
    pub closed: Counter,
    /// Client connections open.
    pub open: Gauge,
    /// Times that accepting paused because descriptors or memory had run out.
    pub accept_starved: Counter,
    /// Times that accepting paused because the worker served as many connections as it may.
    pub accept_full: Counter,
    /// Connections closed because nothing came for the idle time.
    pub idle_closed: Counter,
    /// Client connections that began HTTP/2.
    pub http2_connections: Counter,
    /// Client connections that speak HTTP/2, open.
    pub http2_open: Gauge,
    /// Requests taken on HTTP/2 streams.
    pub streams: Counter,
    /// Such requests not ended.
    pub streams_open: Gauge,
    /// RST_STREAM sent: streams that ended in an error, or whose request was not read to its end.
    pub streams_reset: Counter,
    /// HTTP/2 connections told to calm down, by [`Budget::index`].
    pub calmed: [Counter; Budget::ALL.len()],
    /// HTTP/2 connections ended for another error of the client.
    pub http2_faults: Counter,
    /// Tunnels begun: a protocol was switched to.
    pub tunnels: Counter,
    /// Bytes of tunnels that went through the kernel alone.
    pub spliced: Counter,
    /// Tunnels open.
    pub tunnels_open: Gauge,
    /// Access log records dropped because the queue was full.
    pub log_drops: Counter,
    /// Parts of old tables dropped on the worker because the queue to the writer was full.
    pub part_drops: Counter,
    /// Endpoints whose evidence could not be reported because the queue to the judge was full.
    pub evidence_drops: Counter,
    /// How far the worker's event loop is behind, as a level.
    pub lag_level: Gauge,
    /// Requests refused because there is too much work, by priority and reason.
    pub shed: ShedCounts,
    /// What steps before routes decided.
    pub rulings: Rulings,
    /// Tokens whose signatures were verified.
    pub tokens_verified: Counter,
    /// Panics caught.
    pub panics: Counter,
    /// Generation of the table this worker has taken.
    pub generation: Gauge,
    /// TLS handshakes with clients.
    pub tls: TlsShard,
}

impl Default for WorkerShard {
    fn default() -> Self {
        Self::new()
    }
}

impl WorkerShard {
    /// All zero.
    pub const fn new() -> Self {
        Self {
            outcomes: [const { Counter::new() }; Cause::COUNT],
            requests: Counter::new(),
            accepted: Counter::new(),
            closed: Counter::new(),
            open: Gauge::new(),
            accept_starved: Counter::new(),
            accept_full: Counter::new(),
            idle_closed: Counter::new(),
            http2_connections: Counter::new(),
            http2_open: Gauge::new(),
            streams: Counter::new(),
            streams_open: Gauge::new(),
            streams_reset: Counter::new(),
            calmed: [const { Counter::new() }; Budget::ALL.len()],
            http2_faults: Counter::new(),
            tunnels: Counter::new(),
            spliced: Counter::new(),
            tunnels_open: Gauge::new(),
            log_drops: Counter::new(),
            part_drops: Counter::new(),
            evidence_drops: Counter::new(),
            lag_level: Gauge::new(),
            shed: ShedCounts::new(),
            rulings: Rulings::new(),
            tokens_verified: Counter::new(),
            panics: Counter::new(),
            generation: Gauge::new(),
            tls: TlsShard::new(),
        }
    }

    /// Counts one ended request by its cause.
    #[inline]
    pub fn ended(&self, cause: Cause) {
        self.requests.add(1);
        if let Some(counter) = self.outcomes.get(cause.index()) {
            counter.add(1);
        }
    }
}

/// Where a worker number outside the range counts; nobody reads it. Only a bug of the router comes here.
static SPARE_ROUTE: RouteShard = RouteShard::new();
static SPARE_SHAPING: ShapingShard = ShapingShard::new();
static SPARE_CLUSTER: ClusterShard = ClusterShard::new();

/// Those of all workers. Behind one more pointer, since most routes have none.
#[derive(Debug)]
struct GrpcShards(Box<[GrpcShard]>);

/// Those of all workers.
#[derive(Debug)]
struct ShapingShards(Box<[ShapingShard]>);

/// Counts of one route over all tables that hold it. Handed out by the registry; unused it costs no shard.
#[derive(Debug)]
pub struct RouteCell {
    /// The app that owns the route.
    pub app: AppName,
    /// The route.
    pub route: RouteName,
    workers: u16,
    shards: OnceLock<Box<[RouteShard]>>,
    more: OnceLock<Box<RouteMore>>,
}

/// What few routes have.
#[derive(Debug, Default)]
struct RouteMore {
    latency: OnceLock<Latency>,
    grpc: OnceLock<GrpcShards>,
    shaping: OnceLock<ShapingShards>,
}

impl RouteCell {
    /// A cell without counts for `workers` workers. Called by the registry.
    pub fn new(app: AppName, route: RouteName, workers: usize) -> Self {
        Self { app, route, workers: bounded(workers), shards: OnceLock::new(), more: OnceLock::new() }
    }

    /// Counts one ended gRPC call. The first call of all allocates. Called by the worker when it records the exchange.
    pub fn ended_grpc(&self, worker: usize, status: GrpcStatus) {
        let shards = self
            .more
            .get_or_init(Box::default)
            .grpc
            .get_or_init(|| GrpcShards((0..self.workers).map(|_| GrpcShard::default()).collect()));
        let counter = shards.0.get(worker).and_then(|shard| shard.ended.get(usize::from(status.number())));
        if let Some(counter) = counter {
            counter.add(1);
        }
    }

    /// All shards of gRPC, none while no call was counted. Called by telemetry.
    pub fn grpc_shards(&self) -> &[GrpcShard] {
        self.more.get().and_then(|more| more.grpc.get()).map_or(&[], |shards| &shards.0)
    }

    /// The shard of mirrors and faults that worker number `worker` writes. The first call of all allocates.
    pub fn shaping(&self, worker: usize) -> &ShapingShard {
        let made = || ShapingShards((0..self.workers).map(|_| ShapingShard::new()).collect());
        let shards = self.more.get_or_init(Box::default).shaping.get_or_init(made);
        shards.0.get(worker).unwrap_or(&SPARE_SHAPING)
    }

    /// All of them, none while nothing was counted. Called by telemetry.
    pub fn shaping_shards(&self) -> &[ShapingShard] {
        self.more.get().and_then(|more| more.shaping.get()).map_or(&[], |shards| &shards.0)
    }

    /// The shard that worker number `worker` writes. The first call of all allocates.
    #[inline]
    pub fn shard(&self, worker: usize) -> &RouteShard {
        let shards = self.shards.get_or_init(|| (0..self.workers).map(|_| RouteShard::new()).collect());
        shards.get(worker).unwrap_or(&SPARE_ROUTE)
    }

    /// The latency that hedges go by. The first call of all allocates.
    pub fn latency(&self) -> &Latency {
        self.more.get_or_init(Box::default).latency.get_or_init(Latency::default)
    }

    /// All shards, none while nothing was counted. Called by telemetry.
    pub fn shards(&self) -> &[RouteShard] {
        self.shards.get().map_or(&[], |shards| shards)
    }
}

/// Counts and shared cursors of one cluster over all tables that hold it. Handed out by the registry.
#[derive(Debug)]
pub struct ClusterCell {
    /// The app that owns the cluster.
    pub app: AppName,
    /// The cluster.
    pub cluster: ClusterName,
    /// Where round robin stands; shared by all workers, so this one is a read-modify-write.
    pub cursor: AtomicU32,
    /// Grows with each rebuild of a ready set of the cluster; see [`crate::cluster::ClusterTable::catch_up`].
    pub(crate) readiness: AtomicU64,
    /// Ejections; written by the judge alone.
    pub ejections: Ejections,
    /// Questions for the load of its endpoints; written by the probe thread alone.
    pub load_probes: LoadProbeCounts,
    /// The ejected endpoint that a request shall try.
    pub seat: Seat,
    /// The line for slots of its endpoints.
    pub gate: Gate,
    /// What its retry budget has counted.
    pub budget: BudgetCell,
    /// What its breaker has counted.
    pub breaker: BreakerCell,
    /// The bound that follows its latency; there once it has one.
    adaptive: OnceLock<Box<Adaptive>>,
    workers: u16,
    shards: OnceLock<Box<[ClusterShard]>>,
    groups: OnceLock<Box<[GroupShard]>>,
}

/// One worker's counts of attempts by the group of their endpoint.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct GroupShard {
    /// By zone; the place is the number of [`ZoneKind`].
    pub zones: [Counter; ZoneKind::ALL.len()],
    /// By priority.
    pub priorities: [Counter; PRIORITIES],
}

/// Places in [`Ejections::by_cause`]: the kinds of evidence, then the comparison of success rates.
pub const EJECTION_CAUSES: usize = Evidence::ALL.len() + 1;

/// What the judge did with the endpoints of a cluster. One writer: the judge.
#[derive(Debug, Default)]
pub struct Ejections {
    /// Endpoints ejected, by cause.
    pub by_cause: [Counter; EJECTION_CAUSES],
    /// Endpoints not ejected because no other was ready.
    pub withheld_last: Counter,
    /// Endpoints not ejected because as many were as may be.
    pub withheld_max: Counter,
    /// Ejections that ended.
    pub ended: Counter,
    /// Requests of clients that tried an ejected endpoint, and went well.
    pub tried_well: Counter,
    /// Those that failed there.
    pub tried_badly: Counter,
}

/// What became of questions for the load of endpoints. One writer: the probe thread.
#[derive(Debug, Default)]
pub struct LoadProbeCounts {
    /// Answered with a load.
    pub answered: Counter,
    /// Not answered in time, or with something else.
    pub failed: Counter,
}

impl ClusterCell {
    /// A cell without counts for `workers` workers. Called by the registry.
    pub fn new(app: AppName, cluster: ClusterName, workers: usize) -> Self {
        Self {
            app,
            cluster,
            cursor: AtomicU32::new(0),
            readiness: AtomicU64::new(0),
            ejections: Ejections::default(),
            load_probes: LoadProbeCounts::default(),
            seat: Seat::default(),
            gate: Gate::default(),
            budget: BudgetCell::default(),
            breaker: BreakerCell::default(),
            adaptive: OnceLock::new(),
            workers: bounded(workers),
            shards: OnceLock::new(),
            groups: OnceLock::new(),
        }
    }

    /// Counts an attempt by the group of its endpoint. The first call of all allocates.
    pub(crate) fn note_group(&self, layout: &Layout, endpoint: u32, worker: usize) {
        let shards = self.groups.get_or_init(|| (0..self.workers).map(|_| GroupShard::default()).collect());
        let group = layout.groups().get(layout.group_of(endpoint) as usize);
        let (Some(shard), Some(group)) = (shards.get(worker), group) else { return };
        if let Some(count) = group.kind.and_then(|kind| shard.zones.get(kind as usize)) {
            count.add(1);
        }
        if let Some(count) = shard.priorities.get(usize::from(group.priority)) {
            count.add(1);
        }
    }

    /// All counts by group, none while nothing was counted. Called by telemetry.
    pub fn groups(&self) -> &[GroupShard] {
        self.groups.get().map_or(&[], |shards| shards)
    }

    /// The bound that follows its latency. The first call of all allocates.
    #[inline]
    pub fn adaptive(&self, policy: &AdaptivePolicy) -> &Adaptive {
        self.adaptive.get_or_init(|| Box::new(Adaptive::new(policy)))
    }

    /// The same, where there is one.
    pub fn adaptive_seen(&self) -> Option<&Adaptive> {
        self.adaptive.get().map(|adaptive| &**adaptive)
    }

    /// The shard that worker number `worker` writes. The first call of all allocates.
    #[inline]
    pub fn shard(&self, worker: usize) -> &ClusterShard {
        let shards = self.shards.get_or_init(|| (0..self.workers).map(|_| ClusterShard::new()).collect());
        shards.get(worker).unwrap_or(&SPARE_CLUSTER)
    }

    /// All shards, none while nothing was counted. Called by telemetry.
    pub fn shards(&self) -> &[ClusterShard] {
        self.shards.get().map_or(&[], |shards| shards)
    }
}

fn bounded(workers: usize) -> u16 {
    u16::try_from(workers.max(1)).unwrap_or(u16::MAX)
}
