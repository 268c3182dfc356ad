//! Keys of a route: what it matches and what becomes of the request. Only declared here; read by `declare`, judged by `validate`.

use std::time::Duration;

use super::{DAY, HOUR, LIMITS, NAME, RawAllow, RawAuth, RawAuthorizer, RawCors, RawDeny, RawLimit};
use crate::model::{DeniedHeaders, LoosePath, Priority, Replay};
use crate::raw::declare::tables;
use crate::raw::quantity::{Bytes, Factor};
use crate::raw::read::{FlagOr, Map, Off, Spanned, TextOr, Word};
use crate::raw::retry::RetryOn;

tables! {
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
}
