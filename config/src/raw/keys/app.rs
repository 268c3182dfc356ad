//! Keys of an app, and caps. Only declared here; read by `declare`, judged by `validate`.

use super::{
    LIMITS, RawAllow, RawAuth, RawAuthorizer, RawCluster, RawCors, RawDeny, RawLimit, RawRoute, RawTimeout,
};
use crate::model::DeniedHeaders;
use crate::raw::declare::tables;
use crate::raw::quantity::Bytes;
use crate::raw::read::{Map, Off, Spanned, Word};

tables! {
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

    /// What one app may use at a time, over all workers; 503 with `app_limited` beyond.
    RawCaps as "caps" {
        /// Requests matched and not ended.
        in_flight: Off<u64> = "\"off\"" in 1, 10_000_000;
        /// Connections to endpoints in use.
        connections: Off<u64> = "\"off\"" in 1, 10_000_000;
        /// Buffers that the router holds for its requests; a request in flight holds 32 KiB or more.
        buffered: Off<Bytes> = "\"off\"" in 65_536, 1 << 44;
    }
}
