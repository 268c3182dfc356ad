//! Every key that can be written, with its documentation, default and bounds. The only list of keys.

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::time::Duration;

use super::declare::tables;
use super::quantity::{Bytes, Factor, RawRate};
use super::read::{CountOr, FlagOr, Map, Off, OneOrMany, PortOrFlag, Raw, Spanned, TextOr, Word, Words};
use super::retry::RetryOn;
use super::scalar::Status;
use super::shape::Shape;
use crate::model::{
    Balance, ClientAuthMode, DeniedHeaders, LimitFields, ListenerProtocol, LogFormat, LoosePath, MissingKey,
    Priority, Protocol, ProxyVersion, Replay, ReplicaPick, Role, SameSite, ShardAlgorithm, ShardKind,
    TlsVersion, TokenAlgorithm, UnknownName, Verify,
};

/// What is written for `denied_headers`.
pub(crate) type DeniedWord = Word<DeniedHeaders>;

/// What a question without an answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailWord {
    /// The request is refused.
    Closed,
    /// It goes on.
    Open,
}

/// What becomes of a request whose body is longer than the authorizer may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OverWord {
    /// It is refused.
    Refuse,
    /// The beginning is shown.
    Partial,
}

/// Title of an app file in errors.
pub(crate) const APP_FILE: &str = "an app file";

const NAME: u64 = 128;
/// Networks in one list.
const NETS: u64 = 1000;
/// Limits in one list.
const LIMITS: u64 = 8;
/// Most of a rate, a burst or a cost.
const RATE: u64 = 1_000_000;
const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;

impl Words for Role {
    const WORDS: &'static [(&'static str, Self)] =
        &[("edge", Role::Edge), ("inbound", Role::Inbound), ("outbound", Role::Outbound)];
}

impl Words for ListenerProtocol {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("http", ListenerProtocol::Http),
        ("tcp", ListenerProtocol::Tcp),
        ("tls-passthrough", ListenerProtocol::TlsPassthrough),
    ];
}

impl Words for UnknownName {
    const WORDS: &'static [(&'static str, Self)] =
        &[("default", UnknownName::Default), ("refuse", UnknownName::Refuse)];
}

impl Words for ClientAuthMode {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("none", ClientAuthMode::None),
        ("optional", ClientAuthMode::Optional),
        ("required", ClientAuthMode::Required),
    ];
}

impl Words for Verify {
    const WORDS: &'static [(&'static str, Self)] =
        &[("full", Verify::Full), ("insecure_none", Verify::InsecureNone)];
}

impl Words for Protocol {
    const WORDS: &'static [(&'static str, Self)] =
        &[("http1", Protocol::Http1), ("h2", Protocol::Http2), ("auto", Protocol::Auto)];
}

impl Words for FailWord {
    const WORDS: &'static [(&'static str, Self)] = &[("closed", FailWord::Closed), ("open", FailWord::Open)];
}

impl Words for OverWord {
    const WORDS: &'static [(&'static str, Self)] =
        &[("refuse", OverWord::Refuse), ("partial", OverWord::Partial)];
}

impl Words for TokenAlgorithm {
    const WORDS: &'static [(&'static str, Self)] = TokenAlgorithm::WORDS;
}

impl Words for TlsVersion {
    const WORDS: &'static [(&'static str, Self)] = &[("1.2", TlsVersion::Tls12), ("1.3", TlsVersion::Tls13)];
}

impl Words for Balance {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("p2c", Balance::P2c),
        ("round_robin", Balance::RoundRobin),
        ("least_request", Balance::LeastRequest),
        ("random", Balance::Random),
        ("peak_ewma", Balance::PeakEwma),
        ("prequal", Balance::Prequal),
    ];
}

impl Words for ShardAlgorithm {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("rendezvous", ShardAlgorithm::Rendezvous),
        ("ring", ShardAlgorithm::Ring),
        ("maglev", ShardAlgorithm::Maglev),
        ("ketama", ShardAlgorithm::Ketama),
    ];
}

impl Words for SameSite {
    const WORDS: &'static [(&'static str, Self)] =
        &[("lax", SameSite::Lax), ("strict", SameSite::Strict), ("none", SameSite::None)];
}

impl Words for ShardKind {
    const WORDS: &'static [(&'static str, Self)] =
        &[("cache", ShardKind::Cache), ("store", ShardKind::Store)];
}

impl Words for ReplicaPick {
    const WORDS: &'static [(&'static str, Self)] =
        &[("primary", ReplicaPick::Primary), ("p2c", ReplicaPick::P2c)];
}

impl Words for Replay {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("idempotent", Replay::Idempotent),
        ("idempotency-key", Replay::IdempotencyKey),
        ("any", Replay::Any),
    ];
}

impl Words for ProxyVersion {
    const WORDS: &'static [(&'static str, Self)] = &[("v1", ProxyVersion::V1), ("v2", ProxyVersion::V2)];
}

impl Words for LoosePath {
    const WORDS: &'static [(&'static str, Self)] =
        &[("refuse", LoosePath::Refuse), ("allow", LoosePath::Allow)];
}

impl Words for DeniedHeaders {
    const WORDS: &'static [(&'static str, Self)] =
        &[("remove", DeniedHeaders::Remove), ("refuse", DeniedHeaders::Refuse)];
}

impl Words for MissingKey {
    const WORDS: &'static [(&'static str, Self)] =
        &[("share", MissingKey::Share), ("skip", MissingKey::Skip)];
}

impl Words for LimitFields {
    const WORDS: &'static [(&'static str, Self)] =
        &[("refused", LimitFields::Refused), ("always", LimitFields::Always), ("never", LimitFields::Never)];
}

impl Words for Priority {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("critical", Priority::Critical),
        ("high", Priority::High),
        ("normal", Priority::Normal),
        ("low", Priority::Low),
    ];
}

impl Words for LogFormat {
    const WORDS: &'static [(&'static str, Self)] =
        &[("json", LogFormat::Json), ("logfmt", LogFormat::Logfmt)];
}

/// Whether a key belongs to the process file.
pub(crate) fn is_process_key(key: &str) -> bool {
    match RawProcess::shape(RawProcess::BOUND) {
        Shape::Table(table) => table.keys.iter().any(|known| known.key == key),
        _ => false,
    }
}

/// Whether a key belongs to an app, in whatever file it stands.
pub(crate) fn is_app_key(key: &str) -> bool {
    /// The shape of an app is large, and documents of many apps are looked at key by key.
    static KEYS: LazyLock<BTreeSet<&'static str>> = LazyLock::new(|| match RawApp::shape(RawApp::BOUND) {
        Shape::Table(table) => table.keys.iter().map(|known| known.key).collect(),
        _ => BTreeSet::new(),
    });
    KEYS.contains(key)
}

tables! {
    /// The process file. Its top-level routes and clusters form the app `default`.
    RawProcess as "the process file" {
        /// Addresses to accept on, by name. At least one.
        listener: Map<RawListener> = "required" in 0, 256;
        /// Groups of endpoints, by name.
        cluster: Map<RawCluster> = "none" in 0, 100_000;
        /// Authorities of endpoints that clusters name as `tls.ca`, by name.
        ca: Map<RawCa> = "none" in 0, 10_000;
        /// Certificates that clusters show to their endpoints as `tls.identity`, by name.
        identity: Map<RawIdentity> = "none" in 0, 10_000;
        /// Users and hashes of their passwords, that routes name as `auth.users`, by name.
        users: Map<RawUsers> = "none" in 0, 10_000;
        /// Hashes of keys of programs, that routes name as `auth.api_keys`, by name.
        api_keys: Map<RawApiKeys> = "none" in 0, 10_000;
        /// Keys that sign the marks of `affinity`, that clusters name as `affinity.key`, by name.
        affinity_key: Map<RawAffinityKey> = "none" in 0, 10_000;
        /// Who signs tokens, that routes name as `auth.jwt`, by name.
        jwt: Map<RawIssuer> = "none" in 0, 1000;
        /// Stores through which routers share limits, that limits name as `shared`, by name.
        store: Map<RawStore> = "none" in 0, 16;
        /// Rules, in order; order decides only between rules that are equally specific.
        route: Vec<RawRoute> = "none" in 0, 100_000;
        /// Listeners of the top-level routes that name none themselves.
        listeners: Vec<Spanned<String>> = "every listener of role edge" in 1, 256;
        /// Deadlines of the top-level routes where they set none themselves.
        timeout: RawTimeout = "see the keys";
        /// What the top-level routes let in where they say nothing of their own, key by key.
        allow: RawAllow = "everything";
        /// What the top-level routes keep out where they say nothing of their own, key by key.
        deny: RawDeny = "nothing";
        /// What happens to a request field that `allow` or `deny` keeps out, where a top-level route does not say: `remove` or `refuse` (403).
        denied_headers: Word<DeniedHeaders> = "\"remove\"";
        /// Largest request body, in bytes, where the top-level routes set none themselves; 413 beyond.
        body_limit: Bytes = "that of the listener" in 0, 1 << 40;
        /// Largest request head, in bytes, where the top-level routes set none themselves; 431 beyond. Below that of the listener.
        head_limit: Bytes = "that of the listener" in 256, 16 << 20;
        /// Number of request fields, where the top-level routes set none themselves; 431 beyond. Below that of the listener.
        fields_limit: u64 = "that of the listener" in 1, 1000;
        /// Rates of requests that all routes of this file share (one account): all must pass, those of listener and route too. 429 beyond.
        limit: Vec<RawLimit> = "none" in 1, LIMITS;
        /// What all routes of this file together may use at a time; 503 beyond.
        caps: RawCaps = "no bound";
        /// Pages of other origins that may read responses of the top-level routes that say nothing of it (CORS), or `off`. The router answers their preflights.
        cors: Off<RawCors> = "off";
        /// Credentials of which a request must have one, or `off`; 401 without.
        auth: Off<RawAuth> = "off";
        /// A service that is asked whether a request is let in, or `off`; after all other steps.
        authorizer: Off<RawAuthorizer> = "off";
        /// Other apps that may have routes on the hosts of the app `default`.
        share_hosts_with: Vec<Spanned<String>> = "none" in 0, 10_000;
        /// Directory with one file per app, named by its stem; relative to this file.
        apps: Spanned<String> = "none" in 1, 4096;
        /// Where metrics and readiness are served.
        telemetry: RawTelemetry = "see the keys";
        /// Where and how the control API is served.
        control: RawControl = "see the keys";
        /// The link between `ekiden control` and its routers. Needs a restart.
        fleet: RawFleet = "see the keys";
        /// An etcd in which `ekiden control` and `ekiden run` keep what was asked of their API, shared with others of which one leads; without
        /// it a journal in `run_dir`. Needs a restart.
        etcd: RawEtcd = "none";
        /// Etcds that hold endpoints, which clusters name as `etcd:NAME/PREFIX/`, by name. Needs a restart.
        discovery: Map<RawDiscovery> = "none" in 0, 16;
        /// Directory for state; a relative path goes by this file's directory. Needs a restart.
        run_dir: Spanned<String> = "a directory of the user's state directory, named by a hash of this file's path" in 1, 4096;
        /// Worker threads. Needs a restart.
        workers: Spanned<u64> = "one per core" in 1, 256;
        /// Longest time to finish requests after SIGTERM. Needs a restart.
        drain_timeout: Duration = "\"30s\"" in 0, HOUR;
        /// How long to go on accepting after SIGTERM, while `/readyz` already says 503. Needs a restart.
        drain_grace: Duration = "\"1s\"" in 0, HOUR;
        /// The zone that this router stands in: clusters with endpoints there are sent to there first. Needs a restart.
        zone: Spanned<String> = "none" in 1, NAME;
        /// Requests of all routers together that come in by those of this zone, in percent: what it keeps at most for its own
        /// endpoints goes by that. Needs a restart.
        zone_share: u64 = "the same for every zone of the cluster" in 1, 100;
        /// Name of this router among others like it, for `subset`: one that ends in `.N` or `-N` counts as the Nth of its kind.
        /// Needs a restart.
        instance: Spanned<String> = "`DYNO` of the environment, else the name of the machine" in 1, NAME;
        /// The access log.
        access_log: RawAccessLog = "see the keys";
        /// Connections accepted at most by one worker. Needs a restart.
        max_connections: Spanned<u64> = "derived from the limit of open files" in 1, 10_000_000;
        /// Ceilings of the process from which requests are refused, the least important first. Needs a restart.
        overload: RawOverload = "off";
    }

    /// Ceilings of the process. At 80 % of one, routes of priority `low` get 503; at 90 % those of priority `normal` too, at 95 % `high`,
    /// at 100 % all. Metrics, readiness and the API go on.
    RawOverload as "[overload]" {
        /// Resident memory.
        memory: Off<Bytes> = "\"off\"" in 1 << 20, 1 << 44;
        /// Open files, in percent of the limit of open files.
        descriptors: Off<u64> = "\"off\"" in 1, 100;
        /// Delay of a worker's event loop that lasts 100 ms or more: `low` is refused from this on, `normal` from twice, `high` from
        /// four times, all from eight times as much.
        lag: Off<Duration> = "\"off\"" in 1, 60_000;
    }

    /// What one app may use at a time, over all workers; 503 with `app_limited` beyond.
    RawCaps as "caps" {
        /// Requests matched and not ended.
        in_flight: Off<u64> = "\"off\"" in 1, 10_000_000;
        /// Connections to endpoints in use.
        connections: Off<u64> = "\"off\"" in 1, 10_000_000;
        /// Buffers that the router holds for its requests; a request in flight holds 32 KiB or more.
        buffered: Off<Bytes> = "\"off\"" in 65_536, 1 << 44;
    }

    /// A file of the apps directory: one app, named by the file's stem.
    RawApp as "an app file" {
        /// Groups of endpoints, by name; names are the app's own.
        cluster: Map<RawCluster> = "none" in 0, 100_000;
        /// Rules, in order.
        route: Vec<RawRoute> = "none" in 0, 100_000;
        /// Listeners of the routes that name none themselves.
        listeners: Vec<Spanned<String>> = "every listener of role edge" in 1, 256;
        /// Deadlines of the routes where they set none themselves.
        timeout: RawTimeout = "see the keys";
        /// What the routes let in where they say nothing of their own, key by key.
        allow: RawAllow = "everything";
        /// What the routes keep out where they say nothing of their own, key by key.
        deny: RawDeny = "nothing";
        /// What happens to a request field that `allow` or `deny` keeps out, where a route does not say: `remove` or `refuse` (403).
        denied_headers: Word<DeniedHeaders> = "\"remove\"";
        /// Largest request body, in bytes, where the routes set none themselves; 413 beyond.
        body_limit: Bytes = "that of the listener" in 0, 1 << 40;
        /// Largest request head, in bytes, where the routes set none themselves; 431 beyond. Below that of the listener.
        head_limit: Bytes = "that of the listener" in 256, 16 << 20;
        /// Number of request fields, where the routes set none themselves; 431 beyond. Below that of the listener.
        fields_limit: u64 = "that of the listener" in 1, 1000;
        /// Rates of requests that all routes of this file share (one account): all must pass, those of listener and route too. 429 beyond.
        limit: Vec<RawLimit> = "none" in 1, LIMITS;
        /// What all routes of this file together may use at a time; 503 beyond.
        caps: RawCaps = "no bound";
        /// Pages of other origins that may read responses of the routes that say nothing of it (CORS), or `off`. The router answers their preflights.
        cors: Off<RawCors> = "off";
        /// Credentials of which a request must have one, or `off`; 401 without.
        auth: Off<RawAuth> = "off";
        /// A service that is asked whether a request is let in, or `off`; after all other steps.
        authorizer: Off<RawAuthorizer> = "off";
        /// Other apps that may have routes on hosts that this app owns.
        share_hosts_with: Vec<Spanned<String>> = "none" in 0, 10_000;
    }

    /// A bound address with its protocol rules. Changes apply without a restart.
    RawListener as "[listener.NAME]" {
        /// Where to bind: `IP:PORT`, `[IPv6]:PORT` or `unix:/path`.
        address: Spanned<String> = "required" in 1, 256;
        /// What it is for: `edge` faces people, `inbound` and `outbound` stand beside an app in its pod.
        role: Spanned<Word<Role>> = "\"edge\"";
        /// What its connections carry: `http`; `tcp`, any bytes; or `tls-passthrough`, TLS that the endpoint ends, routed by the host of
        /// the ClientHello. Routes apply to the last two only when they name them, and have no conditions but `host` with
        /// `tls-passthrough`.
        protocol: Spanned<Word<ListenerProtocol>> = "\"http\"";
        /// Addresses and networks (CIDR) of proxies whose forwarding fields are believed.
        trust: Vec<Spanned<String>> = "nobody" in 0, 1000;
        /// Bounds on what a client may send.
        limits: RawLimits = "see the keys";
        /// Also take HTTP/2 in clear text from clients that begin with it (prior knowledge), on the same port as HTTP/1.
        h2c: bool = "false";
        /// Accept `_` in field names; otherwise such fields are dropped.
        allow_underscore: bool = "false";
        /// Read `//` in paths as `/`, for matching and forwarding.
        merge_slashes: bool = "false";
        /// Also send `Forwarded` (RFC 7239) upstream.
        forwarded: bool = "false";
        /// Name under which `Via` is added in both directions.
        via: Spanned<String> = "no `Via`" in 1, 64;
        /// Open connections of one client address (IPv6: one /64) at most, over all workers; more are reset. Unix peers and
        /// addresses inside `trust` are exempt, and loopback too unless a number is written.
        max_connections_per_client: Off<u64> = "half of what the process takes" in 1, 10_000_000;
        /// New connections of one client address (IPv6: one /64) at most, over all workers; more are reset. Unix peers and
        /// addresses inside `trust` are exempt.
        connection_rate_per_client: Off<RawRate> = "\"off\"" in 1, 1_000_000;
        /// New connections of one client address that may come at once.
        connection_burst_per_client: Spanned<u64> = "the number of the rate" in 1, 1_000_000;
        /// New connections of all clients together at most, over all workers; more are reset. Unix peers and addresses inside
        /// `trust` are exempt.
        connection_rate: Off<RawRate> = "\"off\"" in 1, 1_000_000;
        /// New connections of all clients together that may come at once.
        connection_burst: Spanned<u64> = "the number of the rate" in 1, 1_000_000;
        /// Clients and hosts it serves, whatever the route.
        allow: RawListenerAllow = "everything";
        /// Clients and hosts it does not serve, whatever the route.
        deny: RawListenerDeny = "nothing";
        /// Rates of requests, whatever the route, also of those that match none: all must pass. 429 beyond.
        limit: Vec<RawLimit> = "none" in 1, LIMITS;
        /// Serve TLS with these certificates: one table or a list of them. The first certificate is the default: it answers
        /// clients that name no host. Files are watched.
        tls: OneOrMany<RawCertificate> = "plain" in 1, 10_000;
        /// What a client gets that asks for a name no certificate covers: `default` is the default certificate, `refuse` the
        /// alert `unrecognized_name`.
        unknown_name: Spanned<Word<UnknownName>> = "\"default\"";
        /// The oldest version of TLS spoken: `1.2` or `1.3`.
        min_tls_version: Spanned<Word<TlsVersion>> = "\"1.2\"";
        /// File with the keys of TLS session tickets, for routers that resume each other's sessions: one key a line, each 32
        /// bytes in base64 or hexadecimal (`openssl rand -base64 32`). The first one makes tickets, all open them. Relative to
        /// this file; watched.
        ticket_keys: Spanned<String> = "made by the process, a new one every 6 hours" in 1, 4096;
        /// Certificates of clients. Only with `tls`.
        client_auth: RawClientAuth = "not asked for";
        /// TLS handshakes in progress on one worker at most, those of all its listeners; more connections are reset.
        max_handshakes: Spanned<u64> = "4096" in 1, 1_000_000;
        /// Send `Strict-Transport-Security` with this value on every response that has none, such as `"max-age=31536000; includeSubDomains"`. Only with `tls`.
        hsts: Spanned<String> = "none" in 1, 256;
        /// Answer every request with 308 to `https` on this port; `true` means 443. Paths below `/.well-known/acme-challenge/`
        /// go to the routes. Not with `tls`.
        redirect_https: Spanned<PortOrFlag> = "false" in 1, 65_535;
        /// Addresses and networks (CIDR) that begin each connection with a header of the PROXY protocol, version 1 or 2, or the
        /// word `unix` for peers of a unix socket. The client that it names counts everywhere: for `allow`, limits, `trust`,
        /// `X-Forwarded-For` and the log. From them a connection without a header is refused; all others are clients themselves.
        accept_proxy: Vec<Spanned<String>> = "nobody" in 1, NETS;
    }

    /// A certificate of a listener: either `cert` and `key`, or `dir`. Paths are relative to this file.
    RawCertificate as "[listener.NAME.tls]" {
        /// PEM file with the certificate, followed by what links it to its authority.
        cert: Spanned<String> = "none" in 1, 4096;
        /// PEM file with the private key of `cert`.
        key: Spanned<String> = "none" in 1, 4096;
        /// Directory with `NAME.pem` or `NAME.crt` and `NAME.key` of each certificate. `default` comes first, the others by name.
        dir: Spanned<String> = "none" in 1, 4096;
    }

    /// How clients of a TLS listener prove who they are. Paths are relative to this file; the files are watched.
    RawClientAuth as "[listener.NAME.client_auth]" {
        /// `none`: not asked. `optional`: a certificate that is shown is verified. `required`: no handshake without one. Endpoints
        /// are told in `Client-Cert` and `X-Forwarded-Client-Cert`.
        mode: Word<ClientAuthMode> = "required" in 1, 16;
        /// PEM file with the authorities that are believed. Not with the mode `none`.
        ca: Spanned<String> = "none" in 1, 4096;
        /// PEM file with the revocation lists, one for each authority in the chains. Any change ends resumption.
        crl: Spanned<String> = "no revocation" in 1, 4096;
    }

    /// Bounds on one client's requests.
    RawLimits as "[listener.NAME.limits]" {
        /// Request line without its line end, in bytes; 414 beyond.
        request_line: Bytes = "\"8KiB\"" in 64, 1 << 20;
        /// One field line without its line end, in bytes; 431 beyond.
        field: Bytes = "\"16KiB\"" in 64, 1 << 20;
        /// The whole head, in bytes; 431 beyond.
        head: Bytes = "\"64KiB\"" in 256, 16 << 20;
        /// Number of fields; 431 beyond.
        fields: u64 = "100" in 1, 1000;
        /// From the first byte of a head to its last.
        head_deadline: Duration = "\"10s\"" in 10, HOUR;
        /// From accept to the end of the TLS handshake.
        handshake_deadline: Duration = "\"10s\"" in 10, HOUR;
        /// Idle time between the requests of a connection.
        keepalive_idle: Duration = "\"60s\"" in 10, DAY;
        /// Longest silence inside a request body.
        body_idle: Duration = "\"55s\"" in 10, DAY;
        /// Largest request body, in bytes; 413 beyond.
        body: Off<Bytes> = "\"off\"" in 0, 1 << 40;
        /// Slowest request body, in bytes per second of waiting for the client, averaged over `body_idle`; 408 below.
        min_body_rate: Off<Bytes> = "\"100B\"" in 1, 1 << 30;
        /// Slowest reader of a response, in bytes per second of waiting for the client, averaged over the idle timeout of the
        /// route; the connection is reset below.
        min_response_rate: Off<Bytes> = "\"100B\"" in 1, 1 << 30;
    }

    /// A group of endpoints under one policy.
    RawCluster as "[cluster.NAME]" {
        /// Where requests go: `IP:PORT`, `[IPv6]:PORT`, `unix:/path`, `name:PORT`, `srv:NAME`, `etcd:NAME/PREFIX/`, or tables.
        endpoints: Vec<TextOr<RawEndpoint>> = "none" in 0, 200_000;
        /// How an endpoint is chosen: `p2c` takes the less busy of two drawn at random, `round_robin` goes round, `least_request`
        /// takes the least busy of all, `random` draws; all by weight. `peak_ewma` takes the one of two from which an answer is
        /// expected sooner, by latency and requests in flight; `prequal` goes by what endpoints say of their load in
        /// `X-Router-Load`, and as `peak_ewma` while they say nothing. `p2c` suits endpoints that are all alike.
        balance: Word<Balance> = "\"peak_ewma\"";
        /// Active check of every endpoint; without one an endpoint is ready at once.
        probe: RawProbe = "none";
        /// Idle connections kept per worker and endpoint.
        pool_idle: u64 = "1024" in 0, 65_535;
        /// Longest idle time of a kept connection; the endpoint's own wins when it is known and shorter.
        pool_idle_timeout: Duration = "\"60s\"" in 1, DAY;
        /// The endpoints are Ekiden routers: their `X-Router-Error` is passed on.
        peer_router: bool = "false";
        /// Say in `X-Router-Load` of each response how many requests its endpoint has in hand and how long the next may take. For
        /// an ambassador beside its app, behind routers that balance by `prequal`, which take the field away again.
        report_load: bool = "false";
        /// Ask endpoints for their load in the background too, with `GET /.well-known/router-load`, which an ambassador with
        /// `report_load` answers itself: so that `prequal` knows of endpoints that it sends nothing. `true` goes by the defaults of
        /// the keys. No request waits for it.
        probe_load: Spanned<FlagOr<RawProbeLoad>> = "false";
        /// Requests that an endpoint gets at once, over all workers; more wait in the `queue`. 1 suits a program that serves one
        /// request at a time.
        slots: Off<u64> = "\"off\"" in 1, 1_000_000;
        /// Requests that may wait: a number, or a table.
        queue: CountOr<RawQueue> = "1024" in 0, 1_000_000;
        /// How many requests are sent again, of routes with `retry` or `hedge`; when it is out, clients get the answer that
        /// there is. `off` sets no bound.
        retry_budget: Off<RawRetryBudget> = "see the keys";
        /// Most that the cluster and each of its endpoints may have in hand; what is more gets 503 with `breaker_open` at once.
        /// `true` sets the bounds that the keys have by default, a table others.
        breaker: FlagOr<RawBreaker> = "false";
        /// When an endpoint is set aside because requests fail there; `off` never does that.
        ejection: Off<RawEjection> = "see the keys";
        /// Serve ejected endpoints too while fewer than this percentage of the cluster is ready; `off` does so only when nothing
        /// else is.
        panic_threshold: Off<u64> = "50" in 1, 100;
        /// Time over which a new endpoint, or one that passes its checks again, comes to its full share.
        slow_start: Off<Duration> = "\"off\"" in 1, HOUR;
        /// Endpoints that this router sends to, at least; other routers send to others, so that each endpoint has about as many
        /// routers. For very many endpoints beside very many routers: see `instance`. Of endpoints with priorities or zones so many
        /// of each group. Not with `shard`.
        subset: Spanned<Off<u64>> = "\"off\"" in 1, 100_000;
        /// Bound the requests in flight by how latency answers to them; what is more gets 503 with `adaptive_limit` at once. `true`
        /// takes the keys as they are by default, a table others.
        adaptive_limit: FlagOr<RawAdaptive> = "false";
        /// Connect with TLS: `true` believes the authorities of the web, a table says more.
        tls: FlagOr<RawClusterTls> = "false";
        /// What is spoken with the endpoints: `http1`; `h2`, in clear text too (prior knowledge); or `auto`, which leaves the
        /// choice to the endpoint's TLS handshake (ALPN) and needs `tls`. Active checks speak it too.
        protocol: Spanned<Word<Protocol>> = "\"http1\"";
        /// Begin each connection to an endpoint with a header of the PROXY protocol: `v1`, or `v2`, which adds host and protocol of
        /// the TLS handshake and the request id. Such a connection carries one request. HTTP checks send a header too, as the
        /// router's own.
        send_proxy: Word<ProxyVersion> = "none";
        /// A key that decides which endpoint serves a request, so that the same key comes to the same one. `balance` then speaks
        /// only for requests without a key.
        shard: RawShard = "none";
        /// A mark that clients carry, so that they come back to the endpoint that served them first while that takes requests.
        /// Not with `shard`.
        affinity: RawAffinity = "none";
    }

    /// Affinity: a signed mark of the endpoint that served a client. It tells nobody which endpoint that is. Endpoints are known by
    /// their ids: weights, addresses and restarts change nothing. Exactly one of `cookie` and `header`.
    RawAffinity as "an affinity" {
        /// Name of a cookie that carries the mark: `HttpOnly`, for this host alone. Endpoints do not see it.
        cookie: Spanned<String> = "none" in 1, 64;
        /// Response field that carries the mark, for clients that keep no cookies: they send it back in their requests. Endpoints do
        /// not see it.
        header: Spanned<String> = "none" in 1, NAME;
        /// Whose key signs it: a name of `[affinity_key.NAME]`. With it marks hold over restarts, and on all routers that have the key.
        key: Spanned<String> = "a key that the process makes for itself" in 1, NAME;
        /// How long a mark holds, whatever the client does: `Max-Age` of the cookie.
        lifetime: Off<Duration> = "\"off\": as long as the client keeps it" in 1000, 400 * DAY;
        /// Below which path the cookie is sent.
        path: Spanned<String> = "\"/\"" in 1, 256;
        /// Whether the cookie goes along when another site leads here: `lax` (when a link is followed), `strict` (never) or `none`
        /// (always; needs `secure = true`).
        same_site: Spanned<Word<SameSite>> = "\"lax\"";
        /// The cookie is sent over TLS only (`Secure`).
        secure: Spanned<bool> = "whether the client that gets it came over TLS, here or at a proxy of `trust`";
    }

    /// TLS with the endpoints of a cluster. Active checks use it too.
    RawClusterTls as "[cluster.NAME.tls]" {
        /// Who is believed: a name of `[ca.NAME]`; in the process file also the path of a PEM file, which holds a `/` or a `.`.
        ca: Spanned<String> = "the authorities of the web, as the system has them" in 1, 4096;
        /// The name that endpoints are asked for (SNI) and must have in their certificate: a host or an address.
        name: Spanned<String> = "the DNS name of the endpoint as written, else its address" in 1, 300;
        /// Names of which the certificate must have one, in place of `name`: DNS names, or URIs such as `spiffe://example.org/app`.
        san: OneOrMany<Spanned<String>> = "`name`" in 1, 64;
        /// What endpoints are shown: a name of `[identity.NAME]`.
        identity: Spanned<String> = "none" in 1, NAME;
        /// PEM file with the certificate that endpoints are shown, and what links it to its authority. Only in the process file.
        cert: Spanned<String> = "none" in 1, 4096;
        /// PEM file with the private key of `cert`. Only in the process file.
        key: Spanned<String> = "none" in 1, 4096;
        /// `full`: chain, life and name are verified. `insecure_none`: nothing is, and whoever answers at the address is
        /// believed; told in every start and check.
        verify: Spanned<Word<Verify>> = "\"full\"";
    }

    /// Authorities that endpoints of some apps may be believed by. The file is watched.
    RawCa as "[ca.NAME]" {
        /// PEM file with their certificates; relative to this file.
        file: Spanned<String> = "required" in 1, 4096;
        /// Apps that may use them; clusters of this file always may.
        apps: Vec<Spanned<String>> = "none" in 0, 100_000;
    }

    /// A certificate that endpoints of some apps may be shown. The files are watched.
    RawIdentity as "[identity.NAME]" {
        /// PEM file with the certificate, followed by what links it to its authority; relative to this file.
        cert: Spanned<String> = "required" in 1, 4096;
        /// PEM file with the private key of `cert`.
        key: Spanned<String> = "required" in 1, 4096;
        /// Apps that may show it; clusters of this file always may.
        apps: Vec<Spanned<String>> = "none" in 0, 100_000;
    }

    /// Users that routes of some apps may let in. The file is watched; one that cannot be used keeps the one before.
    RawUsers as "[users.NAME]" {
        /// File with `name:hash` lines, as `htpasswd -B` writes them: bcrypt or argon2; relative to this file.
        file: Spanned<String> = "required" in 1, 4096;
        /// Apps whose routes may name it; routes of this file always may.
        apps: Vec<Spanned<String>> = "none" in 0, 100_000;
    }

    /// Keys of programs that routes of some apps may let in. The file is watched; one that cannot be used keeps the one before.
    RawApiKeys as "[api_keys.NAME]" {
        /// File with `id:hash` lines, where the hash is the SHA-256 of a random key in hexadecimal; relative to this file.
        file: Spanned<String> = "required" in 1, 4096;
        /// Apps whose routes may name it; routes of this file always may.
        apps: Vec<Spanned<String>> = "none" in 0, 100_000;
    }

    /// A key of the marks of `affinity`. The file is watched; one that cannot be used keeps the one before.
    RawAffinityKey as "[affinity_key.NAME]" {
        /// File with one key a line, each 32 bytes in base64 or hexadecimal (`openssl rand -base64 32`): the first signs, all are
        /// believed; relative to this file.
        file: Spanned<String> = "required" in 1, 4096;
        /// Apps whose clusters may name it; clusters of this file always may.
        apps: Vec<Spanned<String>> = "none" in 0, 100_000;
    }

    /// Who signs JSON Web Tokens (RFC 7519) that routes of some apps may let in, and what they must say. `exp` must be there, `nbf`
    /// counts where it is.
    RawIssuer as "[jwt.NAME]" {
        /// File with its keys (JWKS, RFC 7517); relative to this file; watched.
        jwks_file: Spanned<String> = "none" in 1, 4096;
        /// Where its keys are asked for, `https://...`: in the background every 10 minutes, and for an unknown `kid`, at most every 30 s.
        jwks_url: Spanned<String> = "none" in 1, 2048;
        /// Authorities that the server of `jwks_url` is believed by: a name of `[ca.NAME]`.
        ca: Spanned<String> = "the authorities of the web, as the system has them" in 1, NAME;
        /// What `iss` must be.
        issuer: Spanned<String> = "required" in 1, 1024;
        /// What `aud` must be one of, or hold; `off` takes tokens that were made for others.
        audience: Off<Vec<Spanned<String>>> = "required" in 1, 64;
        /// Algorithms that are taken: `RS256`, `RS384`, `RS512`, `PS256`, `PS384`, `PS512`, `ES256`, `ES384`, `EdDSA`; or `HS256`, `HS384`,
        /// `HS512`, from a file and with none of the others.
        algorithms: Vec<Spanned<Word<TokenAlgorithm>>> = "required" in 1, 12;
        /// How far clocks may differ.
        leeway: Duration = "\"30s\"" in 0, 600_000;
        /// Apps whose routes may name it; routes of this file always may.
        apps: Vec<Spanned<String>> = "none" in 0, 100_000;
    }

    /// A Redis through which routers share limits. It is asked in the background; no request waits for it. Without it each router
    /// goes on with its share of the rate.
    RawStore as "[store.NAME]" {
        /// Where it is: `redis://HOST`, `redis://HOST:PORT/DATABASE` or `unix:/path`. User and password have keys of their own.
        redis: Spanned<String> = "required" in 1, 512;
        /// User that asks (ACL of Redis 6).
        user: Spanned<String> = "the default user" in 1, NAME;
        /// File that holds the password, relative to this file; read at each connect.
        password_file: Spanned<String> = "no password" in 1, 4096;
        /// Routers that share it, as long as the store has not said how many there are: without it, each lets in this part.
        routers: u64 = "1" in 1, 10_000;
        /// Apps whose limits may name it; limits of this file always may.
        apps: Vec<Spanned<String>> = "none" in 0, 100_000;
    }

    /// Sharding: requests of one key go to one endpoint. Shards are named by the ids of endpoints, so that a new address moves no
    /// key (but with `ketama`). Every router with the same words and endpoints places every key alike.
    RawShard as "a shard" {
        /// What is hashed: `path` or `path:N` (a segment, from 1), `host`, `client` (the address; in IPv6 its /64), `query` or
        /// `query:NAME`, `header:NAME`, `cookie:NAME`, `client_cert:PART` (`subject`, `uri`, `dns` or `fingerprint`), or a template with
        /// several in braces: `"{host}{path}"`.
        by: Spanned<String> = "required" in 1, 512;
        /// What happens to a request that lacks a part of the key: `balance` (it goes where `balance` says; not in a store),
        /// `refuse` (400), or another key such as `client`.
        fallback: Spanned<String> = "`balance` in a cache, `refuse` in a store" in 1, 512;
        /// `rendezvous` is the most even and moves the fewest keys, and takes time with the number of endpoints; `maglev` is the
        /// fastest from some hundred endpoints on, and moves up to twice as many keys when one is removed; `ring` is the common
        /// one, less even; `ketama` is nginx's `hash ... consistent`, by address: IP endpoints only.
        algorithm: Spanned<Word<ShardAlgorithm>> = "\"rendezvous\"";
        /// What the endpoints are: in a `cache` a key is served by the next endpoint of its order when its own is not ready, or too
        /// busy; in a `store` never: its requests fail with `shard_unavailable`.
        kind: Spanned<Word<ShardKind>> = "\"cache\"";
        /// Endpoints that serve each key: its own and the next of its order.
        replicas: u64 = "1" in 1, 16;
        /// Which of the replicas is asked: `primary` (the first that is ready) or `p2c` (the less busy of two of them).
        replica_pick: Word<ReplicaPick> = "\"primary\"";
        /// Most requests in flight at an endpoint, as a factor of its fair share; what is more goes to the next of the key's order.
        /// Not in a store.
        bound: Spanned<Off<Factor>> = "1.25 in a cache" in 101, 1000;
        /// Look for keys that are asked for much more than others, show them, and in a cache spread them over more endpoints while
        /// they are.
        hot_keys: Off<RawHotKeys> = "see the keys";
    }

    /// Hot keys of a sharded cluster.
    RawHotKeys as "hot keys" {
        /// Requests of one key, in percent of those of an average endpoint, from which on it is hot. It is hot no more below half of
        /// that.
        threshold: u64 = "50" in 10, 1000;
        /// Show the text of hot keys in the API. Without it only their hashes are shown, since keys may be names or secrets.
        show_keys: bool = "false";
    }

    /// Where requests wait, in its long form. `wait`, `target` and `interval` are for `slots`.
    RawQueue as "a queue" {
        /// Requests that may wait: for the first check of an endpoint per worker, for a slot over all workers. A newcomer takes the place
        /// of one with a lower priority; else 503 with `queue_full`.
        max: u64 = "1024" in 0, 1_000_000;
        /// Longest wait for a slot; 503 with `queue_timeout` beyond.
        wait: Spanned<Duration> = "the route's `timeout.connect`" in 1, HOUR;
        /// Once the queue has not been empty for `interval`, requests that have waited this long get 503 with `overloaded`, and the
        /// newest of each priority is served first.
        target: Off<Duration> = "\"100ms\"" in 1, HOUR;
        /// How long the queue may be in use before `target` counts.
        interval: Spanned<Duration> = "\"1s\"" in 10, HOUR;
    }

    /// Breakers: bounds on what is in hand, over all workers. Nothing waits for them.
    RawBreaker as "a breaker" {
        /// Requests at the cluster, not ended.
        requests: Off<u64> = "4096" in 1, 1_000_000;
        /// Of them those that have no connection yet: they wait for a first check or a slot, or connect.
        pending: Off<u64> = "1024" in 1, 1_000_000;
        /// Connections that carry a request; those of HTTP/2 while they are open. Idle ones of HTTP/1 have `pool_idle`.
        connections: Off<u64> = "4096" in 1, 1_000_000;
        /// Requests at one endpoint; others get what is more. With `slots` requests wait instead.
        endpoint_requests: Off<u64> = "\"off\"" in 1, 1_000_000;
        /// Such connections of one endpoint; others get what is more.
        endpoint_connections: Off<u64> = "\"off\"" in 1, 1_000_000;
    }

    /// A bound on a cluster's requests in flight that is found, not written: it grows while answers come as fast as from an idle
    /// cluster, and falls as they do not.
    RawAdaptive as "an adaptive limit" {
        /// It never falls below.
        min: Spanned<u64> = "8" in 1, 1_000_000;
        /// It never grows above.
        max: Spanned<u64> = "1000" in 1, 1_000_000;
        /// How much slower than an idle cluster answers may be.
        tolerance: Factor = "1.25" in 101, 1000;
        /// How often it looks how fast the cluster is without a queue, by letting in half for a moment.
        look: Duration = "\"30s\"" in 1000, HOUR;
    }

    /// The share of a cluster's requests that is sent again, over all workers. Failed connects cost no endpoint anything and are
    /// not counted.
    RawRetryBudget as "a retry budget" {
        /// Of a hundred requests of routes with `retry` or `hedge`.
        percent: u64 = "20" in 1, 100;
        /// A second, however few requests there are.
        floor: u64 = "10" in 0, 100_000;
        /// Time that is looked back on, in ten buckets.
        window: Duration = "\"10s\"" in 1000, 60_000;
    }

    /// Ejection by evidence: what connects and requests met. While an endpoint is ejected, the probe of the cluster, else a
    /// connect, runs every 250 ms; the first success ends the ejection.
    RawEjection as "an ejection" {
        /// Failures in a row that eject: connects, lost connections, timeouts, malformed responses, statuses from 500 on except
        /// 501 and 505, and statuses of gRPC that are failures.
        consecutive: Off<u64> = "5" in 1, 1000;
        /// Percentage of the success rate of the cluster's other endpoints below which an endpoint is ejected.
        success_rate: Off<u64> = "80" in 1, 100;
        /// Requests in the window that a comparison of success rates needs on both sides.
        min_requests: u64 = "50" in 1, 1_000_000;
        /// Time that is looked back on, in ten buckets.
        window: Duration = "\"10s\"" in 1000, HOUR;
        /// Percentage of the endpoints ejected at most at a time. One always may be; the last ready one never is.
        max_percent: u64 = "50" in 1, 100;
        /// Shortest ejection of an endpoint that passes checks and fails requests again and again; doubles each time.
        base: Spanned<Duration> = "\"1s\"" in 1, HOUR;
        /// Longest such ejection.
        max: Spanned<Duration> = "\"60s\"" in 1, DAY;
    }

    /// One address of a cluster, in its long form.
    RawEndpoint as "an endpoint" {
        /// Stable name inside the cluster.
        id: Spanned<String> = "the address as written" in 1, NAME;
        /// Where to connect: `IP:PORT`, `[IPv6]:PORT`, `unix:/path`, `name:PORT`, `srv:NAME` for a service in DNS (SRV), or
        /// `etcd:NAME/PREFIX/` for the keys behind a prefix in the etcd of `[discovery.NAME]`.
        address: Spanned<String> = "required" in 1, 512;
        /// Share of requests relative to the other endpoints.
        weight: u64 = "1" in 1, 1000;
        /// Failure domain, free text. Routers with the same `zone` send here first.
        zone: Spanned<String> = "none" in 1, NAME;
        /// The group it belongs to: group 0 gets all while 71.4 % of it are ready; what it cannot take goes to group 1, and so on.
        priority: u64 = "0" in 0, 7;
        /// Gets no new requests and keeps what it has. Not with a DNS name.
        drain: bool = "false";
        /// Release tag; an endpoint of another release starts with fresh state. Not with a DNS name.
        release: Spanned<String> = "none" in 1, NAME;
    }

    /// Questions for the load of endpoints, over HTTP/1.1, on connections that are kept. Only with `balance = "prequal"`.
    RawProbeLoad as "a load probe" {
        /// Endpoints that are asked for each request, drawn by weight; 3 in the paper.
        per_request: Factor = "3" in 1, 1_600;
        /// Endpoints that are asked at once, at most; what goes beyond is left out.
        at_once: u64 = "8" in 1, 64;
        /// Host field of the question.
        host: Spanned<String> = "the endpoint's address" in 1, 256;
    }

    /// An active check. One of `path`, `tcp = true` and `grpc`.
    RawProbe as "a probe" {
        /// `GET` this path and query.
        path: Spanned<String> = "none" in 1, 4096;
        /// Connect only.
        tcp: Spanned<bool> = "false";
        /// Ask `grpc.health.v1.Health/Check` for the state of this service, which must be SERVING; `""` asks for the whole server.
        /// The cluster's `protocol` must be `h2` or `auto`.
        grpc: Spanned<String> = "none" in 0, 1024;
        /// Host field of the check.
        host: Spanned<String> = "the endpoint's address" in 1, 256;
        /// Statuses that pass: `200`, `"200-299"` or `[200, 399]`.
        status: Spanned<Status> = "\"200-299\"";
        /// Text that must stand in the first 64 KiB of the body.
        body: Spanned<String> = "none" in 1, 1024;
        /// Time between checks.
        interval: Duration = "\"2s\"" in 100, HOUR;
        /// Longest wait for one check.
        timeout: Duration = "\"1s\"" in 10, HOUR;
        /// Successes in a row that admit an endpoint which had failed; the first check of all admits by one.
        rise: u64 = "2" in 1, 100;
        /// Failures in a row that set a ready endpoint aside.
        fall: u64 = "3" in 1, 100;
    }

    /// A rule: a condition and what to do. Exactly one of cluster, clusters, redirect and respond.
    RawRoute as "[[route]]" {
        /// Name for logs and metrics.
        name: Spanned<String> = "`route-N` by its position, from 1" in 1, NAME;
        /// Listeners it applies to.
        listeners: Vec<Spanned<String>> = "those of the app" in 1, 256;
        /// Host: `example.com`, `*.example.com`, or an address.
        host: Spanned<String> = "any host" in 1, 300;
        /// Path: a text is a prefix by whole segments; or a table with one of exact, prefix and regex.
        path: TextOr<RawPath> = "\"/\"" in 1, 4096;
        /// Methods, upper case.
        methods: Vec<Spanned<String>> = "all" in 1, 64;
        /// Header conditions by name, all to hold: a text the value equals, or a table.
        headers: Map<TextOr<RawTest>> = "none" in 0, 32;
        /// Conditions on query parameters, all to hold.
        query: Map<TextOr<RawTest>> = "none" in 0, 32;
        /// Conditions on cookies, all to hold.
        cookies: Map<TextOr<RawTest>> = "none" in 0, 32;
        /// Conditions on the certificate that the client showed to this listener (`client_auth`), all to hold: `subject` (as text,
        /// `CN=anna, O=Example`), `uri` and `dns` (alternative names; one that passes suffices), `fingerprint` (SHA-256 in
        /// hexadecimal). `fingerprint = { present = false }` holds without a certificate.
        client_cert: Map<TextOr<RawTest>> = "none" in 0, 4;
        /// Conditions on claims of the token (`Authorization: Bearer`) that the issuer of `auth.jwt` signed, all to hold; a claim is a
        /// name, or names with `.` between them, and of a list one value that passes suffices. Without a good token none holds:
        /// the next route is looked at. `jwt` must stand in the `auth` of the route or its app.
        claims: Map<TextOr<RawTest>> = "none" in 0, 16;
        /// Cluster to send to.
        cluster: Spanned<String> = "none" in 1, NAME;
        /// Clusters to split between.
        clusters: Vec<RawSide> = "none" in 1, 64;
        /// Answer with a redirect.
        redirect: RawRedirect = "none";
        /// Answer with a fixed response.
        respond: RawRespond = "none";
        /// Changes of the request's target before it is sent upstream.
        rewrite: RawRewrite = "none";
        /// What keeps a user on one side of a split: `client` (its address), or a table with header or cookie.
        split: TextOr<RawSplit> = "\"client\"" in 1, 64;
        /// Hashed with the split key; routes with the same salt split alike.
        salt: Spanned<String> = "the route's name" in 1, NAME;
        /// Edits of the request head before it is sent upstream.
        request_headers: RawEdits = "none";
        /// Edits of the response head before it is sent downstream.
        response_headers: RawEdits = "none";
        /// Deadlines of an exchange.
        timeout: RawTimeout = "that of the app";
        /// Connect attempts at most, each to another endpoint.
        attempts: u64 = "3" in 1, 10;
        /// When and how a request is sent again. Without it: after a failed connect to another endpoint, and once after a
        /// connection that was lost before a response, where that is safe.
        retry: RawRetry = "none";
        /// Send a request whose answer has not begun when most others have to a second endpoint too, and take the first answer.
        hedge: FlagOr<RawHedge> = "false";
        /// Send copies of requests to another cluster, whose answers nobody gets.
        mirror: RawMirror = "none";
        /// Make a share of the requests wait or fail, for tests of what calls this route.
        faults: RawFaults = "none";
        /// What to do when the path, read loosely (`%2F`, `//`, `;`), would select another rule: `refuse` or `allow`.
        loose_path: Word<LoosePath> = "\"refuse\"";
        /// Largest request body, in bytes; 413 beyond.
        body_limit: Bytes = "that of the app, else of the listener" in 0, 1 << 40;
        /// Largest request head, in bytes as received; 431 beyond. Below that of the listener, which is judged first.
        head_limit: Bytes = "that of the app, else of the listener" in 256, 16 << 20;
        /// Number of request fields; 431 beyond. Below that of the listener, which is judged first.
        fields_limit: u64 = "that of the app, else of the listener" in 1, 1000;
        /// What it lets in. A key here replaces the same key of the app.
        allow: RawAllow = "that of the app";
        /// What it keeps out, also when `allow` names it. A key here replaces the same key of the app.
        deny: RawDeny = "that of the app";
        /// What happens to a request field that `allow` or `deny` keeps out: `remove` it, or `refuse` the request (403).
        denied_headers: Word<DeniedHeaders> = "that of the app, else \"remove\"";
        /// Rates of requests of this route, beside those of its app and listener: all must pass. 429 beyond.
        limit: Vec<RawLimit> = "none" in 1, LIMITS;
        /// Pages of other origins that may read responses of this route (CORS), or `off`. The router answers their preflights.
        cors: Off<RawCors> = "that of the app";
        /// Credentials of which a request must have one, or `off`; 401 without.
        auth: Off<RawAuth> = "that of the app";
        /// A service that is asked whether a request is let in, or `off`; after all other steps.
        authorizer: Off<RawAuthorizer> = "that of the app";
        /// Protocols that a client may switch to with `Upgrade`, by name or `NAME/VERSION`; the field is dropped for all others,
        /// and the request served as plain HTTP. `h2c` is never passed on. `off` passes none on.
        upgrades: Off<Vec<Spanned<String>>> = "[\"websocket\"]" in 1, 16;
        /// Ports that a client may ask for a tunnel to with CONNECT, on the `host` of this route. The tunnel leads to an endpoint of the
        /// cluster, whatever the name stands for elsewhere; its bytes are not looked at. Not beside `path`.
        connect: Vec<Spanned<u64>> = "none: CONNECT is refused" in 1, 64;
        /// Turn gRPC-web, binary and text, into gRPC and back, so that browsers can call services of gRPC. Clusters must speak
        /// HTTP/2 (`protocol`).
        grpc_web: Spanned<bool> = "false";
        /// Who is refused first and waits longest when there is too much work: `low`, then `normal`, `high`, `critical`.
        priority: Word<Priority> = "\"normal\"";
    }

    /// When and how a request is sent again, to an endpoint that has not been tried while there is one. Never once a byte of a
    /// response has gone to the client. The `retry_budget` of the cluster bounds it.
    RawRetry as "a retry" {
        /// What for: `connect` (no connection was made; goes on at once, and `attempts` of the route counts it), `reset` (the
        /// connection was lost before the first byte of a response), and statuses from 400 on: 503, `"502-504"`, `"5xx"`.
        on: Vec<RetryOn> = "[\"connect\", \"reset\"]" in 1, 16;
        /// Times that a request is sent at most, the first one included.
        attempts: u64 = "3" in 1, 10;
        /// Longest wait of one try for the first byte of its response, from the request sent on; then it is sent again. The last
        /// try gets 504.
        per_try: Duration = "none: no try is given up before `timeout.first_byte`" in 1, DAY;
        /// Longest wait before the first retry, doubled for each further one; the wait is drawn evenly from nothing up to it
        /// (full jitter). `off` waits only as long as a `Retry-After` says, of the endpoint that is to be tried again.
        backoff: Off<Duration> = "\"25ms\"" in 1, HOUR;
        /// Longest such wait.
        backoff_max: Spanned<Duration> = "ten times `backoff`" in 1, HOUR;
        /// Bytes of a request kept for that, head included; what is larger is sent once.
        buffer: Bytes = "\"64KiB\"" in 1024, 64 << 20;
        /// Which requests may reach an endpoint twice: `idempotent` (by their method: GET, HEAD, OPTIONS, PUT, DELETE),
        /// `idempotency-key` (those too that carry this field, but never after a status), or `any`.
        replay: Word<Replay> = "\"idempotent\"";
    }

    /// A second try while the first goes on: only of methods that are idempotent (and what `retry.replay` adds), once for a
    /// request, within the `retry_budget` of the cluster. The other endpoint's answer is dropped, and is no failure.
    RawHedge as "a hedge" {
        /// Of the route's own latencies up to the first byte of a response: the time after which a second endpoint is asked. Known
        /// from 64 requests on.
        percentile: u64 = "95" in 50, 99;
        /// Never sooner than this.
        min: Duration = "\"10ms\"" in 1, HOUR;
    }

    /// Copies of requests, sent once the client has its whole response: they neither delay nor fail it. They carry `X-Mirror: true`, the
    /// edits and rewrites of the route, and nothing else of it. Requests that switch protocols and calls of gRPC are not copied.
    RawMirror as "a mirror" {
        /// Who gets them: a cluster of the same app that the route does not forward to.
        cluster: Spanned<String> = "required" in 1, NAME;
        /// How many of a hundred requests.
        percent: Factor = "100" in 1, 10_000;
        /// Largest body that is copied; a request with a larger one is not.
        body: Bytes = "\"64KiB\"" in 0, 16 << 20;
        /// Copies on their way at most, over all workers; what is more is not copied.
        in_flight: u64 = "64" in 1, 100_000;
        /// Longest time of a copy.
        timeout: Duration = "\"10s\"" in 10, HOUR;
        /// Compare both answers, by status and body, and count what differs.
        diff: bool = "false";
    }

    /// Faults that the router makes, after a request has been let in and before it is served. Each is drawn for itself; an endpoint hears
    /// nothing of a request that is aborted.
    RawFaults as "faults" {
        /// Hold requests back.
        delay: RawFaultDelay = "none";
        /// Answer requests with an error, `fault_injected` in `X-Router-Error`.
        abort: RawFaultAbort = "none";
    }

    /// Requests that are held back.
    RawFaultDelay as "a delay" {
        /// How many of a hundred.
        percent: Factor = "required" in 1, 10_000;
        /// For how long.
        time: Duration = "required" in 1, 60_000;
    }

    /// Requests that are answered with an error.
    RawFaultAbort as "an abort" {
        /// How many of a hundred.
        percent: Factor = "required" in 1, 10_000;
        /// The status of the answer. A call of gRPC ends with UNAVAILABLE.
        status: u64 = "503" in 400, 599;
    }

    /// Cross-origin resource sharing, as the Fetch standard has it. Fields of CORS that the endpoint sends are replaced. A preflight is
    /// answered by the route that would serve the method it asks for.
    RawCors as "cors" {
        /// Origins, `https://example.com` with a port where it is not the default one, or `https://*.example.com` for all subdomains (the
        /// host itself is none of them); or `*` alone for every origin, without `credentials`.
        origins: Vec<Spanned<String>> = "required" in 1, 1000;
        /// Methods allowed beside GET, HEAD and POST, which need no permission; or `*` alone.
        methods: Vec<Spanned<String>> = "none" in 0, 64;
        /// Request fields allowed beside those that need no permission; or `*` alone, which without `credentials` does not cover
        /// `Authorization`.
        headers: Vec<Spanned<String>> = "none" in 0, 256;
        /// Response fields that pages may read beside those that need no permission; or `*` alone, without `credentials`.
        expose: Vec<Spanned<String>> = "none" in 0, 256;
        /// Pages may send cookies and other credentials.
        credentials: bool = "false";
        /// How long a browser may keep the answer to a preflight.
        max_age: Duration = "5 s, by the browser's own rule" in 0, DAY;
    }

    /// Credentials that let a request in: at least one kind, and the kind that a request shows decides. Limits count it before.
    RawAuth as "auth" {
        /// Names and passwords (Basic, RFC 7617): a name of `[users.NAME]`.
        users: Spanned<String> = "none" in 1, NAME;
        /// Keys of programs: a name of `[api_keys.NAME]`.
        api_keys: Spanned<String> = "none" in 1, NAME;
        /// Signed tokens (`Authorization: Bearer`): a name of `[jwt.NAME]`.
        jwt: Spanned<String> = "none" in 1, NAME;
        /// Request fields that tell the endpoint what the token says: `{ X-User = "sub", X-Role = "realm.role" }`. A claim is a name, or
        /// names with `.` between them; texts, numbers, flags and lists of them are told. A client's own field is taken away.
        claims: Map<Spanned<String>> = "none" in 0, 32;
        /// Claims that must have, or hold, a value or one of a list; 403 otherwise.
        require: Map<TextOr<Vec<Spanned<String>>>> = "none" in 0, 32;
        /// Request field that holds the key of a program.
        api_key_header: Spanned<String> = "\"x-api-key\"" in 1, NAME;
        /// Query parameter that is looked at when the field is not there. Its value becomes asterisks before anything is logged or sent
        /// on by this route; a field is safer, since others log queries.
        api_key_query: Spanned<String> = "none" in 1, NAME;
        /// What clients are told that they are to log in to.
        realm: Spanned<String> = "\"restricted\"" in 1, 128;
        /// Request field that tells the endpoint who it is: the user, the id of the key, or the `sub` of the token. A client's own is taken away.
        id_header: Spanned<String> = "none" in 1, NAME;
        /// Take the credentials away before the request is sent on.
        hide_credentials: bool = "false";
    }

    /// A service that is asked by a GET without a body, or with `body` by a POST: 2xx lets the request in, any other answer below 500 is given to the client.
    /// It gets the fields of the request, those that endpoints get of the client, and `X-Forwarded-Method` and `X-Forwarded-Uri`.
    /// With `grpc` it is asked by a call instead.
    RawAuthorizer as "authorizer" {
        /// Who is asked: a cluster of the same app.
        cluster: Spanned<String> = "required" in 1, NAME;
        /// Path and query of the question. Not with `grpc`.
        path: Spanned<String> = "\"/\"" in 1, 4096;
        /// Ask by the call `envoy.service.auth.v3.Authorization/Check` (Envoy's `ext_authz`). The cluster must speak HTTP/2.
        grpc: Spanned<bool> = "false";
        /// Show the service the body of requests that have one.
        body: RawAuthorizerBody = "none";
        /// Longest wait for an answer, connecting included.
        timeout: Duration = "\"1s\"" in 1, HOUR;
        /// What happens when there is no answer, or one of 5xx: `closed` refuses the request (503), `open` lets it in.
        fail: Word<FailWord> = "\"closed\"";
        /// Request fields that go along.
        headers: Vec<Spanned<String>> = "all that go to endpoints" in 0, 256;
        /// Fields of an answer of 2xx that go to the endpoint with the request. A client's own are taken away, also where the answer
        /// lacks them.
        returns: Vec<Spanned<String>> = "none" in 0, 64;
    }

    /// What an authorizer sees of a body. It is read before the question is asked, and not from tunnels. The question is a POST then, and
    /// `X-Envoy-Auth-Partial-Body` says whether there is more; in a call the body stands in `body` as text and in `raw_body` as it is.
    RawAuthorizerBody as "authorizer.body" {
        /// Bytes at most.
        max: Bytes = "\"8KiB\"" in 1, 32 << 10;
        /// What becomes of a request with a longer one, or one in so small pieces that they fill 64 KiB: `refuse` answers 413, `partial`
        /// shows the beginning.
        over: Word<OverWord> = "\"refuse\"";
    }

    /// A rate of requests, or requests at a time, counted over all workers. What one limit refuses takes nothing from the others.
    RawLimit as "a limit" {
        /// Name in logs, metrics and `RateLimit` fields. Under it the accounts go on from table to table, while rate, burst, key,
        /// groups and keys stay as they are.
        name: Spanned<String> = "`listener-limit-N`, `app-limit-N` or `route-limit-N` by its position, from 1" in 1, NAME;
        /// Requests in a time: `"100/s"`, `"30/m"`, `"5/h"`. One of `rate` and `concurrency` is needed.
        rate: RawRate = "none" in 1, RATE;
        /// Requests at a time, each from its head to the end of its response.
        concurrency: Spanned<u64> = "none" in 1, RATE;
        /// Requests that may come at once.
        burst: Spanned<u64> = "the number of the rate" in 1, RATE;
        /// What requests are told apart by: `client` (the address, in IPv6 its /64), `group` (of `groups`), `header:NAME`, `cookie:NAME`,
        /// `query:NAME` or `query`, `path:N` (the segment, from 1) or `path`, `host`, `api_key` (the id of the key that `auth` knows; on apps
        /// and routes), `client_cert:PART` (`subject`, `uri`, `dns` or `fingerprint`, the first one of the client's certificate), or
        /// several in braces: `"{client}:{header:x-user}"`.
        key: Spanned<String> = "none: all requests share one account" in 1, 512;
        /// What happens to a request that lacks a part of the key: `share` (those without it share an account) or `skip` (it is not counted).
        missing: Word<MissingKey> = "\"share\"";
        /// Groups of client addresses and networks (CIDR) by name, for the key `group`; the most specific network decides.
        groups: Map<Vec<Spanned<String>>> = "none" in 0, 256;
        /// Clients that are not counted, addresses and networks (CIDR).
        except: Vec<Spanned<String>> = "nobody" in 0, NETS;
        /// What a request takes; at most the burst, and with 0 it is not counted.
        cost: CountOr<RawCost> = "1" in 0, RATE;
        /// Count and log what would be refused, and refuse nothing.
        shadow: bool = "false";
        /// Which responses carry `RateLimit` and `RateLimit-Policy`: `refused` ones, `always`, or `never`. A 429 has `Retry-After` in any case.
        headers: Word<LimitFields> = "\"refused\"";
        /// Keys told apart at the same time, rounded up to a power of two, 16 bytes each. Beyond it, new keys join the account that is used least.
        keys: u64 = "16384" in 1, 1 << 24;
        /// Count together with the other routers that name this store: a name of `[store.NAME]`. Keys are at most 262144 then.
        shared: Spanned<String> = "none: each router counts alone" in 1, NAME;
    }

    /// What a request takes from a limit, in its long form.
    RawCost as "a cost" {
        /// By method, upper case.
        methods: Map<Spanned<u64>> = "none" in 0, 64;
        /// A request header that says it, as a whole number; wins over `methods`. Clients can write it: the bounds hold.
        header: Spanned<String> = "none" in 1, NAME;
        /// A response header of the endpoint that says what the request cost in the end, as a whole number: what that is more than was
        /// taken is taken afterwards, up to `most`, whatever is left. It is not passed on.
        response: Spanned<String> = "none" in 1, NAME;
        /// Least that the header may say; less is taken for this.
        least: Spanned<u64> = "1" in 0, RATE;
        /// Most that a header may say; more is taken for this. Needed with `header` and `response`.
        most: Spanned<u64> = "none" in 1, RATE;
        /// Where neither says it.
        otherwise: Spanned<u64> = "1" in 0, RATE;
    }

    /// What is let in; a key that is left out, or `off`, lets in everything. What a route matched is judged, so that a
    /// refusal has its own code instead of a 404.
    RawAllow as "allow" {
        /// Client addresses and networks (CIDR); others get 403. The client is found as for `X-Forwarded-For`, see `trust`.
        clients: Off<Vec<Spanned<String>>> = "off" in 1, NETS;
        /// Hosts, `example.com` or `*.example.com`; others, and requests without Host, get 421.
        hosts: Off<Vec<Spanned<String>>> = "off" in 1, 256;
        /// Methods, upper case; others get 405 with `Allow`. GET brings HEAD with it.
        methods: Off<Vec<Spanned<String>>> = "off" in 1, 64;
        /// Media types of request bodies, `type/subtype` or `type/*`; others, and bodies without a type, get 415.
        /// Parameters and case do not matter.
        content_types: Off<Vec<Spanned<String>>> = "off" in 1, 64;
        /// Request fields that are passed on, by name or `prefix*`; see `denied_headers` for the others.
        headers: Off<Vec<Spanned<String>>> = "off" in 1, 256;
    }

    /// What is kept out; a key that is left out, or `off`, keeps out nothing.
    RawDeny as "deny" {
        /// Client addresses and networks (CIDR); they get 403.
        clients: Off<Vec<Spanned<String>>> = "off" in 1, NETS;
        /// Hosts, `example.com` or `*.example.com`; they get 421.
        hosts: Off<Vec<Spanned<String>>> = "off" in 1, 256;
        /// Request fields that are not passed on, by name or `prefix*`, with `-` or `_`; see `denied_headers`.
        headers: Off<Vec<Spanned<String>>> = "off" in 1, 256;
    }

    /// What a listener serves; judged before a route is looked for.
    RawListenerAllow as "[listener.NAME.allow]" {
        /// Client addresses and networks (CIDR); others get 403.
        clients: Off<Vec<Spanned<String>>> = "off" in 1, NETS;
        /// Hosts, `example.com` or `*.example.com`; others, and requests without Host, get 421.
        hosts: Off<Vec<Spanned<String>>> = "off" in 1, 256;
    }

    /// What a listener does not serve; judged before a route is looked for.
    RawListenerDeny as "[listener.NAME.deny]" {
        /// Client addresses and networks (CIDR); they get 403.
        clients: Off<Vec<Spanned<String>>> = "off" in 1, NETS;
        /// Hosts, `example.com` or `*.example.com`; they get 421.
        hosts: Off<Vec<Spanned<String>>> = "off" in 1, 256;
    }

    /// A path condition in its long form; one of the keys.
    RawPath as "a path" {
        /// This path and everything below it, by whole segments.
        prefix: Spanned<String> = "none" in 1, 4096;
        /// Exactly this path.
        exact: Spanned<String> = "none" in 1, 4096;
        /// Regular expression that the whole path matches.
        regex: Spanned<String> = "none" in 1, 1024;
    }

    /// A condition on a value in its long form; one of the keys.
    RawTest as "a condition" {
        /// A value equals this text.
        equals: Spanned<String> = "none" in 0, 4096;
        /// A value matches this regular expression, whole.
        regex: Spanned<String> = "none" in 1, 1024;
        /// It is there (`true`) or not (`false`).
        present: bool = "none";
    }

    /// One side of a split.
    RawSide as "an item of clusters" {
        /// The cluster.
        name: Spanned<String> = "required" in 1, NAME;
        /// Its share of the sum of all weights.
        weight: Spanned<u64> = "1" in 0, 65_535;
    }

    /// What keeps a user on one side of a split; one of the keys. Requests without it go by client address.
    RawSplit as "a split" {
        /// A request header.
        header: Spanned<String> = "none" in 1, NAME;
        /// A cookie.
        cookie: Spanned<String> = "none" in 1, NAME;
    }

    /// A redirect; absent parts are those of the request. At least one of scheme, host, path and prefix.
    RawRedirect as "a redirect" {
        /// 301, 302, 303, 307 or 308.
        status: Spanned<u64> = "308" in 301, 308;
        /// `http` or `https`.
        scheme: Spanned<String> = "that of the request" in 1, 8;
        /// Host, with port if wanted.
        host: Spanned<String> = "that of the request" in 1, 300;
        /// The whole new path.
        path: Spanned<String> = "that of the request" in 1, 4096;
        /// What replaces the matched prefix. Only with a prefix path.
        prefix: Spanned<String> = "none" in 1, 4096;
        /// Drop the query string.
        strip_query: bool = "false";
    }

    /// A fixed response.
    RawRespond as "a response" {
        /// Status, 200 to 599.
        status: Spanned<u64> = "200" in 200, 599;
        /// Body, at most 64 KiB.
        body: Spanned<String> = "empty" in 0, 65_536;
        /// Media type of the body.
        content_type: Spanned<String> = "\"text/plain; charset=utf-8\"" in 1, 256;
    }

    /// Changes of a request's target.
    RawRewrite as "a rewrite" {
        /// What replaces the matched prefix. Only with a prefix path.
        prefix: Spanned<String> = "none" in 1, 4096;
        /// What replaces Host.
        host: Spanned<String> = "none" in 1, 300;
    }

    /// Header edits, done in the order remove, set, add. Hop-by-hop and framing fields and Host are refused; so are edits of
    /// request fields that the router writes itself (`X-Request-Id`, `X-Forwarded-For`), and all but `set` of the other
    /// forwarding fields.
    RawEdits as "header edits" {
        /// Fields to take away.
        remove: Vec<Spanned<String>> = "none" in 0, 64;
        /// Fields to replace, with their value.
        set: Map<Spanned<String>> = "none" in 0, 64;
        /// Fields to append, with a value or a list of values.
        add: Map<TextOr<Vec<Spanned<String>>>> = "none" in 0, 64;
    }

    /// Deadlines of an exchange.
    RawTimeout as "a timeout" {
        /// All connect attempts together, with the wait for a ready endpoint.
        connect: Spanned<Duration> = "\"5s\"" in 1, HOUR;
        /// One connect attempt; at most `connect`.
        connect_try: Spanned<Duration> = "\"1s\"" in 1, HOUR;
        /// From the request sent to the first byte of the response.
        first_byte: Spanned<Duration> = "\"30s\"" in 1, DAY;
        /// Longest silence after that.
        idle: Spanned<Duration> = "\"55s\"" in 1, DAY;
        /// The whole exchange.
        total: Off<Duration> = "\"off\"" in 1, DAY;
        /// Longest silence of a tunnel (WebSocket, other upgrades), in both directions together. `idle` and `total` end where a
        /// tunnel begins.
        tunnel: Spanned<Duration> = "\"10m\"" in 1, DAY;
        /// Take the time that is left from `X-Request-Deadline` (whole milliseconds) and tell endpoints in the same field what is
        /// left of it, or of `total`, at each try; 504 with `deadline_exceeded` when nothing is. It can only shorten `total`, but in
        /// place of it counts what a peer in the listener's `trust` says.
        deadline: bool = "false";
    }

    /// Where metrics and readiness are served. Needs a restart.
    RawTelemetry as "[telemetry]" {
        /// `IP:PORT`, `unix:/path` or `off`.
        address: Spanned<String> = "\"127.0.0.1:9901\"" in 1, 256;
    }

    /// Where and how the control API is served. Needs a restart.
    RawControl as "[control]" {
        /// `IP:PORT`, `unix:/path` or `off`. With a listener of role inbound or outbound the default is a unix
        /// socket in the run directory.
        address: Spanned<String> = "\"127.0.0.1:9902\"" in 1, 256;
        /// File that holds the bearer token of the API, or lines of `ROLE NAME TOKEN` with the roles `read`, `deploy` and `admin`; relative to
        /// this file.
        token_file: Spanned<String> = "no token" in 1, 4096;
        /// Host names, beside loopback, under which the API answers.
        hosts: Vec<Spanned<String>> = "none" in 0, 64;
        /// What DNS, and what is pushed, may take away at once. More is kept until `ekiden confirm` or for a while.
        removals: RawRemovals = "see the keys";
        /// Silence of control's loop after which it is stuck: `ekiden run` puts a fresh one in its place beside workers that serve
        /// on, and `ekiden control` ends so that another one may lead.
        stuck_after: Duration = "\"30s\"" in 2_000, HOUR;
    }

    /// What sources of placements may take away at once. Needs a restart.
    RawRemovals as "removals" {
        /// Percent of a source's endpoints that may go at once, or one by one within a minute; one may always go. 100 keeps nothing.
        share: u64 = "50" in 1, 100;
        /// How long more than that is kept.
        hold: Duration = "\"5m\"" in 1_000, DAY;
    }

    /// The link between `ekiden control` and its routers, in the file of either; `ekiden run` does not look at it. Needs a restart.
    RawFleet as "[fleet]" {
        /// Control: where routers connect, `IP:PORT` or `unix:/path`.
        listen: Spanned<String> = "\"127.0.0.1:9903\"" in 1, 256;
        /// The certificate that this side shows the other one: an `[identity.NAME]` of this file. Without one the link is plain.
        identity: Spanned<String> = "none" in 1, NAME;
        /// Who vouches for the other side: a `[ca.NAME]` of this file. Goes with `identity`.
        ca: Spanned<String> = "none" in 1, NAME;
        /// Router: the name that the certificate of control must have.
        server_name: Spanned<String> = "the host of `--control`" in 1, 255;
        /// Control: names (DNS or URI) of certificates that routers may show, such as \"spiffe://example.org/router/edge-1\".
        routers: Vec<Spanned<String>> = "every name that `ca` vouches for" in 1, 10_000;
        /// Router: its name in the fleet, where the link is plain; over TLS it has that of its certificate.
        name: Spanned<String> = "the name of the machine" in 1, NAME;
        /// A plain link may leave the machine: everybody on the way can read and change what is sent.
        insecure: bool = "false";
        /// Control: which routers get which apps; with any, a router that none names is not let in. Needs `identity` and `ca`.
        subscription: Vec<RawSubscription> = "all routers get all apps" in 1, 10_000;
    }

    /// Apps for some routers: their documents, endpoints and hosts, and nothing of others. Needs a restart.
    RawSubscription as "[[fleet.subscription]]" {
        /// Names of certificates (DNS or URI); one that ends in `*` stands for all that begin so.
        routers: Vec<Spanned<String>> = "required" in 1, 10_000;
        /// Names of apps, or `"*"` for all. A router that several name gets the apps of all of them.
        apps: Vec<Spanned<String>> = "required" in 1, 10_000;
    }

    /// Where control keeps what was asked of it, when several processes share it. Not with a Procfile. Needs a restart.
    RawEtcd as "[etcd]" {
        /// Members, such as \"https://10.0.0.5:2379\"; they are tried in turn.
        endpoints: Vec<Spanned<String>> = "required" in 1, 16;
        /// What all keys begin with. Processes of one prefix share all they are told, and one of them leads.
        prefix: Spanned<String> = "\"/ekiden\"" in 2, 256;
        /// Who vouches for etcd: a `[ca.NAME]` of this file. `https` needs it.
        ca: Spanned<String> = "none" in 1, NAME;
        /// The certificate that is shown to etcd: an `[identity.NAME]` of this file.
        identity: Spanned<String> = "none" in 1, NAME;
        /// A user of etcd. A certificate with a common name is then refused by etcd's gateway: `identity` needs one without.
        user: Spanned<String> = "none" in 1, 256;
        /// File with the password; relative to this file. Goes with `user`.
        password_file: Spanned<String> = "none" in 1, 4096;
        /// How long a leader that is not heard of leads: another one follows it after this time. It says so three times in it.
        lease: Duration = "\"10s\"" in 2_000, 60_000;
        /// Name of this process among those that may lead.
        name: Spanned<String> = "the name of the machine and the process id" in 1, NAME;
        /// Where the API of this process is for others, as told to clients of those that do not lead; such as \"https://control-1.internal\".
        api: Spanned<String> = "where it is served" in 1, 512;
        /// `http` may leave the machine: everybody on the way can read and change what is stored.
        insecure: bool = "false";
    }

    /// An etcd that holds endpoints, one a key, which control follows; apart from that of `[etcd]`. Needs a restart.
    RawDiscovery as "[discovery.NAME]" {
        /// Members, such as \"https://10.0.0.5:2379\"; they are tried in turn.
        endpoints: Vec<Spanned<String>> = "required" in 1, 16;
        /// Who vouches for it: a `[ca.NAME]` of this file. `https` needs it.
        ca: Spanned<String> = "none" in 1, NAME;
        /// The certificate that is shown to it: an `[identity.NAME]` of this file.
        identity: Spanned<String> = "none" in 1, NAME;
        /// A user of it.
        user: Spanned<String> = "none" in 1, 256;
        /// File with the password; relative to this file. Goes with `user`.
        password_file: Spanned<String> = "none" in 1, 4096;
        /// `http` may leave the machine: everybody on the way can read and change what endpoints there are.
        insecure: bool = "false";
        /// Apps whose clusters may name it; clusters of this file always may.
        apps: Vec<Spanned<String>> = "none" in 0, 100_000;
    }

    /// The access log. Needs a restart.
    RawAccessLog as "[access_log]" {
        /// `json`, or `logfmt` as the Heroku router writes it.
        format: Word<LogFormat> = "\"json\"";
        /// `stdout`, `off`, or the path of a file, which holds a `/`; a relative one goes by the working directory.
        to: Spanned<String> = "\"stdout\"" in 1, 4096;
    }
}
