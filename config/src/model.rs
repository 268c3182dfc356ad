//! The Model: the validated, immutable words that both planes share. Types with invariants and no serde.
//!
//! Made only by `validate` and by `diff::apply`; parts that did not change between two Models are pointer-equal
//! (`Arc::ptr_eq`), which is what lets the router rebuild only what changed. Holds no secret, no key material and
//! no live state.

mod admission;
mod affinity;
mod client_cert;
mod entrance;
mod etcd;
mod faults;
mod fleet;
mod limit;
mod mirror;
mod overload;
mod place;
mod protocol;
mod proxy;
mod readiness;
mod resilience;
mod shard;
mod tls;
mod trust;
mod upgrade;

pub use admission::{Admission, DeniedHeaders, FieldPattern, MediaRange};
pub use affinity::{AffinityCookie, AffinityPolicy, Carrier, SameSite};
pub use client_cert::{CertCondition, CertField};
pub use entrance::{
    ApiKeys, Auth, Authorizer, AuthorizerBody, CLAIM_ISSUERS_MAX, Cors, Entrance, OriginPattern, Origins,
    Tokens,
};
pub use etcd::{Discovery, Etcd, EtcdMember};
pub use faults::{FaultAbort, FaultDelay, FaultPolicy};
pub use fleet::{Fleet, Subscription};
pub use limit::{Cost, Group, KeyPart, Limit, LimitFields, LimitUnit, MissingKey, RouteLimits};
pub use mirror::MirrorPolicy;
pub use overload::{AppCaps, HoldPolicy, OverloadPolicy, Priority, SlotPolicy};
pub use place::{AdaptivePolicy, PRIORITY_MAX, Place};
pub use protocol::ListenerProtocol;
pub use proxy::{ProxySources, ProxyVersion};
pub use readiness::{EjectionPolicy, ReadinessPolicy};
pub use resilience::{BreakerPolicy, HedgePolicy, Replay, RetryBudget, RetryPolicy, StatusRange};
pub use shard::{HotKeyPolicy, KeyPiece, ReplicaPick, ShardAlgorithm, ShardFallback, ShardKind, ShardPolicy};
pub use tls::{CertificateSource, ClientAuth, ClientAuthMode, ListenerTls, TlsVersion, UnknownName};
pub use trust::{
    AuthoritySource, ClusterTls, Credential, IdentitySource, KeyPair, KeySource, Roots, San, SecretFile,
    StoreAddress, StoreSource, TokenAlgorithm, TokenIssuer, TrustSources, Verify, may_use,
};
pub use upgrade::Upgrades;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::SharedMap;
use crate::names::{AppName, ClusterName, EndpointId, ListenerName, RouteName, TrustName};

/// Everything a router needs to serve: what control publishes and the router compiles.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// Addresses to accept on, by name.
    pub listeners: BTreeMap<ListenerName, Arc<Listener>>,
    /// Owners of routes and clusters, by name.
    pub apps: SharedMap<AppName, Arc<App>>,
    /// Authorities and identities that the process gives to apps.
    pub trust: Arc<TrustSources>,
}

/// A place to listen on or to connect to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// An IPv4 or IPv6 address with its port.
    Tcp(SocketAddr),
    /// A unix stream socket by absolute path.
    Unix(Arc<str>),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => write!(f, "{address}"),
            Address::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

/// What a listener is for; sets defaults (DESIGN section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Role {
    /// Faces people: the edge of a platform. Routes without `listeners` apply here.
    #[default]
    Edge,
    /// Ambassador: traffic that arrives for the pod's own app.
    Inbound,
    /// Ambassador: traffic that the pod's own app sends.
    Outbound,
}

/// One bound address with its protocol rules.
#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    /// Its name in configuration, logs and metrics.
    pub name: ListenerName,
    /// Where it binds. Port 0 is refused by `validate`.
    pub address: Address,
    /// What it is for.
    pub role: Role,
    /// What its connections carry.
    pub protocol: ListenerProtocol,
    /// Proxies whose forwarding fields are believed. Empty by default, in every role.
    pub trust: Vec<IpNet>,
    /// Bounds on what a client may send.
    pub limits: HttpLimits,
    /// Bounds on connections, by client and in all.
    pub connections: ConnectionLimits,
    /// Also take HTTP/2 in clear text from clients that begin with its preface.
    pub h2c: bool,
    /// Accept `_` in field names instead of dropping such fields. A field that would equal a forwarding field is
    /// refused either way.
    pub allow_underscore: bool,
    /// Read `//` in paths as `/`, for matching and forwarding.
    pub merge_slashes: bool,
    /// Also send `Forwarded` (RFC 7239) upstream.
    pub forwarded: bool,
    /// Pseudonym for `Via` in both directions; none means that no `Via` is added.
    pub via: Option<Arc<str>>,
    /// Clients and hosts it serves, judged before a route is looked for. None means everything.
    pub admission: Option<Arc<Admission>>,
    /// Rates of requests, judged before a route is looked for. None means no bound.
    pub rate_limits: Option<Arc<Vec<Limit>>>,
    /// TLS, or none for a plain listener.
    pub tls: Option<Arc<ListenerTls>>,
    /// Port of `https` that every request is sent to, but those of ACME. Only on a plain listener.
    pub redirect_https: Option<u16>,
    /// Who begins connections with a header of the PROXY protocol. None means nobody.
    pub accept_proxy: Option<Arc<ProxySources>>,
}

/// Bounds on one client's requests. All sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpLimits {
    /// Request line without its CRLF (414 beyond). Default 8 KiB.
    pub request_line: u32,
    /// One field line without its CRLF (431 beyond). Default 16 KiB.
    pub field: u32,
    /// Whole head with all its CRLFs (431 beyond). Default 64 KiB.
    pub head: u32,
    /// Number of fields (431 beyond). Default 100, at most 1000.
    pub fields: u16,
    /// From the first byte of a head to its last. Default 10 s.
    pub head_deadline: Duration,
    /// Idle time between requests of a connection. Default 60 s.
    pub keepalive_idle: Duration,
    /// Longest silence inside a request body. Default 55 s.
    pub body_idle: Duration,
    /// Largest request body (413 beyond). Default none.
    pub body: Option<u64>,
    /// Slowest request body, in bytes per second of waiting for the client (408 below). Default 100; none means no bound.
    pub min_body_rate: Option<u32>,
    /// Slowest reader of a response, in bytes per second of waiting for the client. Default 100; none means no bound.
    pub min_response_rate: Option<u32>,
}

/// Bounds on the connections of a listener. Unix peers and addresses inside `trust` are exempt from all of them. A client is
/// an address, in IPv6 a network of 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConnectionLimits {
    /// Open connections of one client.
    pub per_client: ClientConnections,
    /// New connections of one client. Default none.
    pub client_rate: Option<Rate>,
    /// New connections of all clients together. Default none.
    pub rate: Option<Rate>,
}

/// Most open connections of one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientConnections {
    /// Half of what the process takes; a client on loopback is exempt, for it may be a proxy of the same host.
    #[default]
    Half,
    /// This many, loopback included.
    AtMost(u32),
    /// No bound.
    Unbounded,
}

/// So many in a time, and so many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many in `per`. 1..=1_000_000.
    pub count: u32,
    /// One second, minute or hour.
    pub per: Duration,
    /// How many may come at once. 1..=1_000_000.
    pub burst: u32,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            request_line: 8 << 10,
            field: 16 << 10,
            head: 64 << 10,
            fields: 100,
            head_deadline: Duration::from_secs(10),
            keepalive_idle: Duration::from_secs(60),
            body_idle: Duration::from_secs(55),
            body: None,
            min_body_rate: Some(100),
            min_response_rate: Some(100),
        }
    }
}

/// An app: routes and clusters that are accepted or refused together.
#[derive(Debug, Clone, PartialEq)]
pub struct App {
    /// Its name; `default` for the top level of the process file.
    pub name: AppName,
    /// Routes in file order. Behind one `Arc` so that endpoint changes keep it pointer-equal.
    pub routes: Arc<Vec<Arc<Route>>>,
    /// Clusters by name.
    pub clusters: BTreeMap<ClusterName, Arc<Cluster>>,
    /// Other apps that may have routes on hosts this app owns.
    pub share_hosts_with: Arc<Vec<AppName>>,
}

/// A rule: a condition and what to do.
///
/// What most routes of an app have alike is its policy, which they share; it is read through the route itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// Name for logs and metrics: as written, else `route-N` by position in its file (from 1).
    pub name: RouteName,
    /// The host condition.
    pub host: HostMatch,
    /// The path condition.
    pub path: PathMatch,
    /// What to do with a request that matches.
    pub action: Action,
    /// Everything else.
    pub policy: Arc<RoutePolicy>,
}

impl Deref for Route {
    type Target = RoutePolicy;

    fn deref(&self) -> &RoutePolicy {
        &self.policy
    }
}

impl DerefMut for Route {
    fn deref_mut(&mut self) -> &mut RoutePolicy {
        Arc::make_mut(&mut self.policy)
    }
}

/// What a route has beside its name, host, path and action.
#[derive(Debug, Clone, PartialEq)]
pub struct RoutePolicy {
    /// Listeners it applies to; none means every listener of role edge. Already merged with the app's own setting.
    pub listeners: Option<Vec<ListenerName>>,
    /// Methods accepted, as written (case-sensitive tokens); empty means all.
    pub methods: Vec<Arc<str>>,
    /// Header conditions; all must hold.
    pub headers: Vec<ValueCondition>,
    /// Query parameter conditions; all must hold.
    pub query: Vec<ValueCondition>,
    /// Cookie conditions; all must hold.
    pub cookies: Vec<ValueCondition>,
    /// Conditions on the client's certificate; all must hold.
    pub client_cert: Vec<CertCondition>,
    /// Conditions on claims of the token that the issuer in `entrance` signed, which is there then; all must hold.
    pub claims: Vec<ValueCondition>,
    /// Edits of the request head before it is sent upstream.
    pub request_headers: HeaderEdits,
    /// Edits of the response head before it is sent downstream.
    pub response_headers: HeaderEdits,
    /// Deadlines of an exchange on this route.
    pub timeouts: Timeouts,
    /// Connect attempts in all, each to another endpoint. 1..=10, default 3.
    pub attempts: u8,
    /// When and how requests are sent again. None means the built-in rules: after a failed connect, and once after a connection
    /// that was lost before a response, where that is safe.
    pub retry: Option<Arc<RetryPolicy>>,
    /// When a second endpoint gets a request too. None means never.
    pub hedge: Option<HedgePolicy>,
    /// What is copied to another cluster. None means nothing.
    pub mirror: Option<Arc<MirrorPolicy>>,
    /// What is done to a share of its requests, for tests. None means nothing.
    pub faults: Option<Arc<FaultPolicy>>,
    /// Whether a path whose loose form selects another rule is allowed (DESIGN section 3).
    pub loose_path: LoosePath,
    /// Largest request body on this route (413 beyond); none means the listener's bound. Already merged with the app's.
    pub body_limit: Option<u64>,
    /// What it lets in, judged after the match. Already merged with the app's own setting, and shared by the routes that
    /// add nothing to it. None means everything.
    pub admission: Option<Arc<Admission>>,
    /// What a request must show before it is served. Already merged with the app's own setting, and shared by the routes that add
    /// nothing to it. None means nothing.
    pub entrance: Option<Arc<Entrance>>,
    /// Rates of requests, the app's first; shared by the routes that have none of their own. None means no bound.
    pub rate_limits: Option<Arc<RouteLimits>>,
    /// Protocols that a client may switch to. Means nothing without a forward.
    pub upgrades: Upgrades,
    /// Ports that a client may name with CONNECT to get a tunnel, in order; empty means none. Then every cluster speaks HTTP/1.
    pub connect: Vec<u16>,
    /// Requests in gRPC-web become calls of gRPC. Then every cluster speaks HTTP/2. Means nothing without a forward.
    pub grpc_web: bool,
    /// How important its requests are.
    pub priority: Priority,
    /// What its app may use at a time, all routes together. None means no bound.
    pub caps: Option<AppCaps>,
    /// Its requests wait before they are forwarded. In no file: control puts it there while the app is held.
    pub hold: Option<HoldPolicy>,
}

impl Default for RoutePolicy {
    /// A route of which nothing is written but where it leads.
    fn default() -> Self {
        Self {
            listeners: None,
            methods: Vec::new(),
            headers: Vec::new(),
            query: Vec::new(),
            cookies: Vec::new(),
            client_cert: Vec::new(),
            claims: Vec::new(),
            request_headers: HeaderEdits::default(),
            response_headers: HeaderEdits::default(),
            timeouts: Timeouts::default(),
            attempts: 3,
            retry: None,
            hedge: None,
            mirror: None,
            faults: None,
            loose_path: LoosePath::default(),
            body_limit: None,
            admission: None,
            entrance: None,
            rate_limits: None,
            upgrades: Upgrades::default(),
            connect: Vec::new(),
            grpc_web: false,
            priority: Priority::default(),
            caps: None,
            hold: None,
        }
    }
}

/// The host condition of a route. Stored in lower case, without port and final dot; IPv6 literals keep brackets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostMatch {
    /// Exactly this host.
    Exact(Arc<str>),
    /// `*.suffix`: one or more labels before the suffix; the text is the suffix without `*.`.
    Wildcard(Arc<str>),
    /// Any host.
    Any,
}

/// The path condition of a route, in the normal form of DESIGN section 3.
#[derive(Debug, Clone)]
pub enum PathMatch {
    /// The path and everything below it, by whole segments. `/` matches everything. Without a final `/` unless `/`.
    Prefix(Arc<str>),
    /// Exactly this path.
    Exact(Arc<str>),
    /// A regular expression anchored at both ends, bounded in size by `validate`.
    Regex(Arc<PathRegex>),
}

/// A compiled path expression with the text it was written as.
#[derive(Debug)]
pub struct PathRegex {
    /// As written, for errors, ties and equality.
    pub text: Arc<str>,
    /// Compiled with anchors and a size limit.
    pub regex: regex::Regex,
}

impl PartialEq for PathMatch {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (PathMatch::Prefix(a), PathMatch::Prefix(b)) | (PathMatch::Exact(a), PathMatch::Exact(b)) => {
                a == b
            }
            (PathMatch::Regex(a), PathMatch::Regex(b)) => a.text == b.text,
            (PathMatch::Prefix(_), PathMatch::Exact(_) | PathMatch::Regex(_))
            | (PathMatch::Exact(_), PathMatch::Prefix(_) | PathMatch::Regex(_))
            | (PathMatch::Regex(_), PathMatch::Prefix(_) | PathMatch::Exact(_)) => false,
        }
    }
}

/// One condition on a named value (header, query parameter, cookie).
#[derive(Debug, Clone, PartialEq)]
pub struct ValueCondition {
    /// Field name in lower case, or parameter or cookie name as is.
    pub name: Arc<str>,
    /// What the value must be.
    pub test: ValueTest,
}

/// What a named value must be.
#[derive(Debug, Clone)]
pub enum ValueTest {
    /// It is there, whatever its value.
    Present,
    /// It is not there.
    Absent,
    /// One of its values equals this text.
    Equals(Arc<str>),
    /// One of its values matches the expression (anchored at both ends).
    Regex(Arc<PathRegex>),
}

impl PartialEq for ValueTest {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (ValueTest::Present, ValueTest::Present) | (ValueTest::Absent, ValueTest::Absent) => true,
            (ValueTest::Equals(a), ValueTest::Equals(b)) => a == b,
            (ValueTest::Regex(a), ValueTest::Regex(b)) => a.text == b.text,
            _ => false,
        }
    }
}

/// What a route does.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Send to an endpoint of a cluster.
    Forward(Forward),
    /// Answer with a redirect.
    Redirect(Redirect),
    /// Answer with a fixed response.
    Fixed(FixedResponse),
    /// The app is in maintenance: answer with 503, and with this page to those who take HTML. In no file: control puts it in the
    /// place of every action of the app.
    Maintenance(Option<Arc<str>>),
}

/// Where and how to forward.
#[derive(Debug, Clone, PartialEq)]
pub struct Forward {
    /// One or more clusters with weights; the sum is at least 1. A single cluster has weight 1.
    pub clusters: Vec<WeightedCluster>,
    /// What decides the side of a split; stable while weights ramp.
    pub split: SplitKey,
    /// Hashed with the key so that two routes split independently; the route's name unless written.
    pub salt: Arc<str>,
    /// Replace the matched prefix by this path before forwarding. Only with a prefix path.
    pub prefix_rewrite: Option<Arc<str>>,
    /// Replace Host by this text before forwarding.
    pub host_rewrite: Option<Arc<str>>,
}

/// One side of a split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightedCluster {
    /// The cluster, inside the same app.
    pub cluster: ClusterName,
    /// Its share of the sum. 0..=65535.
    pub weight: u16,
}

/// What the side of a weighted split is derived from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum SplitKey {
    /// The client address.
    #[default]
    Client,
    /// A request header; requests without it are decided by the client address.
    Header(Arc<str>),
    /// A cookie; requests without it are decided by the client address.
    Cookie(Arc<str>),
}

/// A redirect. Absent parts are taken from the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308. Default 308.
    pub status: u16,
    /// `http` or `https`.
    pub scheme: Option<Arc<str>>,
    /// Host, with port if wanted.
    pub host: Option<Arc<str>>,
    /// Whole new path.
    pub path: Option<Arc<str>>,
    /// Replace the matched prefix only.
    pub prefix: Option<Arc<str>>,
    /// Drop the query string.
    pub strip_query: bool,
}

/// A fixed response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FixedResponse {
    /// 200..=599.
    pub status: u16,
    /// Media type of the body. Default `text/plain; charset=utf-8`.
    pub content_type: Arc<str>,
    /// At most 64 KiB.
    pub body: Arc<str>,
}

/// Header edits, applied in this order: remove, set, add. Names in lower case; values are checked field values.
/// `validate` refuses hop-by-hop and framing fields.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeaderEdits {
    /// Fields taken away.
    pub remove: Vec<Arc<str>>,
    /// Fields replaced (name as written, value).
    pub set: Vec<(Arc<str>, Arc<str>)>,
    /// Fields appended (name as written, value).
    pub add: Vec<(Arc<str>, Arc<str>)>,
}

/// Deadlines of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// All connect attempts and waits for readiness together. Default 5 s.
    pub connect: Duration,
    /// One connect attempt. Default 1 s; never more than `connect`.
    pub connect_try: Duration,
    /// From the request fully sent to the first response byte. Default 30 s.
    pub first_byte: Duration,
    /// Longest silence after the first response byte. Default 55 s.
    pub idle: Duration,
    /// The whole exchange. Default none.
    pub total: Option<Duration>,
    /// Longest silence of a tunnel, in both directions together. Default 10 min.
    pub tunnel: Duration,
    /// `X-Request-Deadline` is taken from clients and told to endpoints.
    pub deadline: bool,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            connect_try: Duration::from_secs(1),
            first_byte: Duration::from_secs(30),
            idle: Duration::from_secs(55),
            total: None,
            tunnel: Duration::from_secs(600),
            deadline: false,
        }
    }
}

/// Whether a path may select one rule in normal form and another in loose form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LoosePath {
    /// Refuse with 400 (default).
    #[default]
    Refuse,
    /// The rule of the normal form wins.
    Allow,
}

/// A named group of endpoints under one policy.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// Its name inside the app.
    pub name: ClusterName,
    /// Everything but the endpoints; shared between Models that differ in endpoints only.
    pub policy: Arc<ClusterPolicy>,
    /// Endpoints with resolved addresses, sorted by id. Empty is allowed.
    pub endpoints: Arc<Vec<Arc<Endpoint>>>,
    /// DNS names that control resolves into `endpoints`.
    pub names: Arc<Vec<DnsEndpoint>>,
}

/// How a cluster is balanced, probed and connected to.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterPolicy {
    /// The picker.
    pub balance: Balance,
    /// Active check; without one an endpoint is ready at once.
    pub probe: Option<ProbePolicy>,
    /// Idle upstream connections kept per worker and endpoint. Default 128.
    pub pool_idle: u32,
    /// Longest idle time of a pooled connection; the endpoint's own, when learned, wins if shorter. Default 60 s.
    pub pool_idle_timeout: Duration,
    /// The endpoints are Ekiden routers: keep their `X-Router-Error`.
    pub peer_router: bool,
    /// Tell clients in `X-Router-Load` how busy the endpoint is that answered.
    pub report_load: bool,
    /// How endpoints are asked for their load, where the picker goes by it; none means that they are not asked.
    pub probe_load: Option<LoadProbes>,
    /// Requests that may wait: for the first check of an endpoint per worker, for a slot over all workers. Default 1024.
    pub queue: u32,
    /// Requests at once per endpoint; none means no bound.
    pub slots: Option<SlotPolicy>,
    /// How many requests are sent again, of routes that say when; none means any number.
    pub retry_budget: Option<RetryBudget>,
    /// What it and its endpoints may have in hand; none means no bound.
    pub breaker: Option<BreakerPolicy>,
    /// Ejection, panic and slow start.
    pub readiness: ReadinessPolicy,
    /// Endpoints of each group that one router sends to, at least; none means all. Never with `shard`.
    pub subset: Option<u32>,
    /// Requests at once, as latency says; none means that it has no say.
    pub adaptive: Option<AdaptivePolicy>,
    /// Version of the PROXY protocol that connections to endpoints begin with. With one, each carries one request.
    pub send_proxy: Option<ProxyVersion>,
    /// A key that decides which endpoint serves a request; none means that `balance` alone does.
    pub shard: Option<Arc<ShardPolicy>>,
    /// How clients come back to the endpoint that served them first; none means that they need not. Never with `shard`.
    pub affinity: Option<Arc<AffinityPolicy>>,
    /// TLS with the endpoints; none means plain connections.
    pub tls: Option<Arc<ClusterTls>>,
    /// What is spoken with the endpoints.
    pub protocol: Protocol,
}

/// What is spoken with endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2, also in clear text (with prior knowledge).
    Http2,
    /// What the endpoint chooses in its TLS handshake (ALPN). Only with TLS.
    Auto,
}

/// Which picker chooses an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Balance {
    /// Power of two choices by requests in flight per weight.
    P2c,
    /// Smooth weighted round robin.
    RoundRobin,
    /// The least requests in flight per weight of all.
    LeastRequest,
    /// At random, in proportion to weight.
    Random,
    /// Power of two choices by requests in flight and latency.
    #[default]
    PeakEwma,
    /// By what endpoints report of their load.
    Prequal,
}

impl Balance {
    /// Whether it goes by how long endpoints take to answer.
    pub const fn is_timed(self) -> bool {
        match self {
            Balance::PeakEwma | Balance::Prequal => true,
            Balance::P2c | Balance::RoundRobin | Balance::LeastRequest | Balance::Random => false,
        }
    }
}

/// Path at which an ambassador tells the load of its app.
pub const LOAD_PATH: &str = "/.well-known/router-load";

/// How endpoints are asked for their load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadProbes {
    /// Host field; the endpoint's address unless written.
    pub host: Option<Arc<str>>,
    /// Endpoints asked for each request, in hundredths. Default 300.
    pub per_request_percent: u32,
    /// Endpoints asked at once. Default 8.
    pub at_once: u32,
}

/// An active check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbePolicy {
    /// What is sent and expected.
    pub kind: ProbeKind,
    /// Time between checks. Default 2 s; 100 ms..=1 h.
    pub interval: Duration,
    /// Longest wait for one check. Default 1 s.
    pub timeout: Duration,
    /// Successes in a row that admit an endpoint which had failed. Default 2. The first check of all admits by one.
    pub rise: u8,
    /// Failures in a row that set a ready endpoint aside. Default 3.
    pub fall: u8,
}

/// What a probe does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeKind {
    /// `GET path`; passes on a status in range and, if set, a body that holds the text.
    Http {
        /// Path and query.
        path: Arc<str>,
        /// Host field; the endpoint's address unless written.
        host: Option<Arc<str>>,
        /// Lowest and highest passing status. Default 200..=299.
        status: (u16, u16),
        /// Text that must be found in the first 64 KiB of the body.
        body: Option<Arc<str>>,
        /// That of the cluster.
        send_proxy: Option<ProxyVersion>,
    },
    /// A TCP connect.
    Tcp,
    /// A call of `grpc.health.v1.Health/Check`; passes on SERVING.
    Grpc {
        /// The service that is asked for; empty for the whole server.
        service: Arc<str>,
        /// `:authority`; the endpoint's address unless written.
        host: Option<Arc<str>>,
    },
}

/// One address of a cluster with a stable id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Unique in the cluster.
    pub id: EndpointId,
    /// Where to connect. Two endpoints may share an address.
    pub address: Address,
    /// Texts that it may have beside; none when it has none of them.
    pub tags: Option<Arc<EndpointTags>>,
    /// Relative share. 1..=1000, default 1.
    pub weight: u16,
    /// The group it belongs to: the next one gets what the healthy part of those before cannot take. 0..=7, default 0.
    pub priority: u8,
    /// Gets no new picks, keeps what it has.
    pub drain: bool,
    /// Who wrote it.
    pub owner: Owner,
}

// There may be a million.
const _: () = assert!(size_of::<Endpoint>() <= 72);

/// Texts of an endpoint. Most endpoints of a cluster have the same, and then share them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndpointTags {
    /// The DNS name that the address was resolved from, lower case, without final dot: what TLS asks for by default.
    pub dns_name: Option<Arc<str>>,
    /// Failure domain, free text.
    pub zone: Option<Arc<str>>,
    /// Opaque release tag; part of the incarnation.
    pub release: Option<Arc<str>>,
}

impl EndpointTags {
    /// As an endpoint has them: none when there is no text.
    pub fn shared(self) -> Option<Arc<Self>> {
        (self != Self::default()).then(|| Arc::new(self))
    }

    /// Those of a neighbour, where they are the same.
    pub fn reuse(tags: &mut Option<Arc<Self>>, beside: Option<&Endpoint>) {
        if let Some(known) =
            beside.and_then(|one| one.tags.as_ref()).filter(|known| tags.as_ref() == Some(known))
        {
            *tags = Some(Arc::clone(known));
        }
    }
}

impl Endpoint {
    /// The DNS name that the address was resolved from.
    pub fn dns_name(&self) -> Option<&Arc<str>> {
        self.tags.as_ref()?.dns_name.as_ref()
    }

    /// Failure domain.
    pub fn zone(&self) -> Option<&Arc<str>> {
        self.tags.as_ref()?.zone.as_ref()
    }

    /// Release tag.
    pub fn release(&self) -> Option<&Arc<str>> {
        self.tags.as_ref()?.release.as_ref()
    }
}

/// Who owns an endpoint; only its owner may change it (drain excepted).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Owner {
    /// A configuration file (`file:`).
    #[default]
    File,
    /// The HTTP API (`api:`).
    Api,
    /// A placement source such as DNS (`source:`).
    Source,
}

/// A DNS name among a cluster's endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsEndpoint {
    /// With an id the name is one endpoint; without, each record is an endpoint `NAME/ADDRESS`.
    pub id: Option<EndpointId>,
    /// The name to resolve, lower case, without final dot; a service with [`crate::address::SERVICE`] in front. Or keys to follow, as
    /// [`crate::address::Target::Keys`] has them.
    pub name: Arc<str>,
    /// Port of every endpoint made from it; 0 of a service, whose records say ports.
    pub port: u16,
    /// Weight of every endpoint made from it; of a service the records say it.
    pub weight: u16,
    /// Zone of every endpoint made from it.
    pub zone: Option<Arc<str>>,
    /// Priority of every endpoint made from it.
    pub priority: u8,
}

/// Settings of the process that are not part of the table. Read once at start; a change needs a restart and is
/// reported by reload.
#[derive(Debug, Clone, PartialEq)]
pub struct Process {
    /// Where metrics and readiness are served; none means off. Default `127.0.0.1:9901`.
    pub telemetry: Option<Address>,
    /// Where the control API is served. See [`ControlAddress`].
    pub control: ControlAddress,
    /// File that holds the bearer token of the control API.
    pub control_token_file: Option<PathBuf>,
    /// Host names, beside loopback, under which the control API answers.
    pub control_hosts: Vec<Arc<str>>,
    /// What sources of placements may take away at once.
    pub removals: Removals,
    /// Silence of control's loop after which it is stuck. Default 30 s.
    pub control_stuck_after: Duration,
    /// Where state is kept; none means the default place derived from the file's path.
    pub run_dir: Option<PathBuf>,
    /// Worker threads; none means one per core. 1..=256.
    pub workers: Option<u16>,
    /// Longest time to finish work after SIGTERM. Default 30 s.
    pub drain_timeout: Duration,
    /// How long to keep accepting after SIGTERM. Default 1 s.
    pub drain_grace: Duration,
    /// The access log.
    pub access_log: AccessLog,
    /// Connections one worker accepts at most. Default derived from the descriptor limit.
    pub max_connections: Option<u32>,
    /// Ceilings from which requests are refused.
    pub overload: OverloadPolicy,
    /// The link between control and routers.
    pub fleet: Fleet,
    /// Where it stands among other routers and among endpoints.
    pub place: Place,
    /// The store that control shares with others; none means the journal of the run directory.
    pub etcd: Option<Etcd>,
    /// Etcds that hold endpoints, by name.
    pub discoveries: BTreeMap<TrustName, Discovery>,
}

/// What sources of placements may take away at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removals {
    /// Percent of what is in force, 1..=100. Default 50.
    pub share: u8,
    /// How long the rest is kept unless it is confirmed. Default 5 min.
    pub hold: Duration,
}

impl Default for Removals {
    fn default() -> Self {
        Self { share: 50, hold: Duration::from_secs(300) }
    }
}

/// Where the control API is served.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ControlAddress {
    /// `127.0.0.1:9902`, or a unix socket in the run directory when there is an inbound or outbound listener.
    #[default]
    Default,
    /// As written.
    At(Address),
    /// Not served.
    Off,
}

/// The access log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLog {
    /// Line format.
    pub format: LogFormat,
    /// Where lines go.
    pub to: LogTarget,
}

/// Line format of the access log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// Heroku router logfmt.
    Logfmt,
}

/// Where the access log goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum LogTarget {
    /// Standard output.
    #[default]
    Stdout,
    /// Appended to a file; reopened on SIGHUP.
    File(PathBuf),
    /// Nowhere.
    Off,
}

impl Model {
    /// A Model without listeners and apps: what serves before the first publish.
    pub fn empty() -> Self {
        Self { listeners: BTreeMap::new(), apps: SharedMap::new(), trust: Arc::default() }
    }

    /// Number of endpoints in all clusters.
    pub fn endpoint_count(&self) -> usize {
        self.apps.values().flat_map(|app| app.clusters.values()).map(|cluster| cluster.endpoints.len()).sum()
    }

    /// Number of routes in all apps.
    pub fn route_count(&self) -> usize {
        self.apps.values().map(|app| app.routes.len()).sum()
    }
}

impl Listener {
    /// Whether the peer's forwarding fields are believed.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.trust.iter().any(|net| net.contains(&peer))
    }
}
