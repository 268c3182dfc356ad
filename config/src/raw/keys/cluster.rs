//! Keys of a cluster: endpoints, how they are reached, judged and chosen. Only declared here; read by `declare`, judged by `validate`.

use std::time::Duration;

use super::{DAY, HOUR, NAME};
use crate::model::{
    Balance, Protocol, ProxyVersion, ReplicaPick, SameSite, ShardAlgorithm, ShardKind, Verify,
};
use crate::raw::declare::tables;
use crate::raw::quantity::Factor;
use crate::raw::read::{CountOr, FlagOr, Off, OneOrMany, Spanned, TextOr, Word};
use crate::raw::scalar::Status;

tables! {
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

    /// Questions for the load of endpoints, over HTTP/1.1, on connections that are kept. Only with `balance = "prequal"`.
    RawProbeLoad as "a load probe" {
        /// Endpoints that are asked for each request, drawn by weight; 3 in the paper.
        per_request: Factor = "3" in 1, 1_600;
        /// Endpoints that are asked at once, at most; what goes beyond is left out.
        at_once: u64 = "8" in 1, 64;
        /// Host field of the question.
        host: Spanned<String> = "the endpoint's address" in 1, 256;
    }
}
