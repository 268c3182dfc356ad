//! Rate limits of listeners, apps and routes: words only. The router's core counts by them; nothing here does.

use std::sync::Arc;

use ipnet::IpNet;

use super::{CertField, Rate};
use crate::names::TrustName;

/// So many requests of one key in a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// Its name in logs, metrics and `RateLimit` fields; unique in its list.
    pub name: Arc<str>,
    /// What is counted.
    pub unit: LimitUnit,
    /// How many, and how many at once. Of requests at a time, `count` and `burst` are how many, and there is no time.
    pub rate: Rate,
    /// What requests are told apart by; empty means that all share one account.
    pub key: Vec<KeyPart>,
    /// What happens to a request that lacks a part of the key.
    pub missing: MissingKey,
    /// What a request takes.
    pub cost: Cost,
    /// Clients that are not counted. IPv4 networks stand in their own family, never mapped.
    pub except: Vec<IpNet>,
    /// Counts and logs, and refuses nothing.
    pub shadow: bool,
    /// Which responses say how much is left.
    pub fields: LimitFields,
    /// Keys that are told apart at the same time. 1..=16_777_216; 1..=262_144 where routers share it.
    pub keys: u32,
    /// The store through which routers share it: an entry of `TrustSources::stores`. Rates alone.
    pub shared: Option<TrustName>,
}

/// What a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LimitUnit {
    /// Requests in a time.
    #[default]
    Rate,
    /// Requests at a time, from their heads to the ends of their responses.
    AtATime,
}

/// One part of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyPart {
    /// The client's address, in IPv6 its network of 64 bits.
    Client,
    /// The name of the group that the client's address is in, the most specific network first.
    Group(Arc<[Group]>),
    /// The first value of a request header; the name in lower case.
    Header(Arc<str>),
    /// The first value of a cookie.
    Cookie(Arc<str>),
    /// The first value of a query parameter, decoded.
    Query(Arc<str>),
    /// A segment of the path in normal form, from 1.
    Path(u8),
    /// The host of the request, in lower case, without port.
    Host,
    /// The whole path in normal form.
    WholePath,
    /// The whole query as it came, empty when there is none.
    WholeQuery,
    /// The id of the API key that the route knows. Of limits of apps and routes alone.
    ApiKey,
    /// The first value of a part of the client's certificate.
    ClientCert(CertField),
}

/// Client addresses that count as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: Arc<str>,
    /// Its networks. IPv4 stands in its own family, never mapped.
    pub nets: Vec<IpNet>,
}

/// What happens to a request that lacks a part of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MissingKey {
    /// The absence counts as a value: all requests without it share an account.
    #[default]
    Share,
    /// The request is not counted.
    Skip,
}

/// What a request takes. At most the burst; 0 means that it is not counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cost {
    /// By method, as written.
    pub methods: Vec<(Arc<str>, u32)>,
    /// A request header that says it, in lower case; wins over the method where its value is a number.
    pub header: Option<Arc<str>>,
    /// A response header that says what the request cost in the end, in lower case; what that is more is taken afterwards, up to
    /// `most`. It is not passed on.
    pub response: Option<Arc<str>>,
    /// Bounds of what the header says: a number beyond them is taken for the nearest.
    pub least: u32,
    /// See `least`.
    pub most: u32,
    /// Where nothing else says it.
    pub otherwise: u32,
}

impl Default for Cost {
    fn default() -> Self {
        Self { methods: Vec::new(), header: None, response: None, least: 1, most: 1, otherwise: 1 }
    }
}

/// Which responses carry `RateLimit` and `RateLimit-Policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LimitFields {
    /// Those that this limit refuses.
    #[default]
    Refused,
    /// All that it counts.
    Always,
    /// None.
    Never,
}

/// The limits that a route's requests meet, beside those of their listener.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RouteLimits {
    /// Those of the app: one account for all of its routes.
    pub app: Arc<Vec<Limit>>,
    /// Its own.
    pub route: Vec<Limit>,
}
