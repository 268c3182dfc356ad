//! Keys of a process as a whole: what it is, what it tells, what it sheds. Only declared here; read by `declare`, judged by `validate`.

use std::time::Duration;

use super::{
    HOUR, LIMITS, NAME, RawAffinityKey, RawAllow, RawApiKeys, RawAuth, RawAuthorizer, RawCa, RawCaps,
    RawCluster, RawControl, RawCors, RawDeny, RawDiscovery, RawEtcd, RawFleet, RawIdentity, RawIssuer,
    RawLimit, RawListener, RawRoute, RawStore, RawTimeout, RawUsers,
};
use crate::model::{DeniedHeaders, LogFormat};
use crate::raw::declare::tables;
use crate::raw::quantity::Bytes;
use crate::raw::read::{Map, Off, Spanned, Word};

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

    /// Where metrics and readiness are served. Needs a restart.
    RawTelemetry as "[telemetry]" {
        /// `IP:PORT`, `unix:/path` or `off`.
        address: Spanned<String> = "\"127.0.0.1:9901\"" in 1, 256;
    }

    /// The access log. Needs a restart.
    RawAccessLog as "[access_log]" {
        /// `json`, or `logfmt` as the Heroku router writes it.
        format: Word<LogFormat> = "\"json\"";
        /// `stdout`, `off`, or the path of a file, which holds a `/`; a relative one goes by the working directory.
        to: Spanned<String> = "\"stdout\"" in 1, 4096;
    }
}
