//! What a listener or a route lets in: words only. The router's core makes steps of them; nothing here judges.

use std::sync::Arc;

use ipnet::IpNet;

use super::HostMatch;

/// Who and what may pass. An empty list of `allow_*` lets in everything; a `deny_*` wins over an `allow_*`.
///
/// A listener has clients and hosts only; the rest belongs to routes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Admission {
    /// Client addresses served (403 for others). IPv4 networks stand in their own family, never mapped.
    pub allow_clients: Vec<IpNet>,
    /// Client addresses not served (403).
    pub deny_clients: Vec<IpNet>,
    /// Hosts served (421 for others), never [`HostMatch::Any`].
    pub allow_hosts: Vec<HostMatch>,
    /// Hosts not served (421), never [`HostMatch::Any`].
    pub deny_hosts: Vec<HostMatch>,
    /// Methods served (405 for others); GET brings HEAD with it.
    pub allow_methods: Vec<Arc<str>>,
    /// Media types of request bodies (415 for others and for bodies without a type).
    pub allow_content_types: Vec<MediaRange>,
    /// Request fields passed on.
    pub allow_headers: Vec<FieldPattern>,
    /// Request fields not passed on.
    pub deny_headers: Vec<FieldPattern>,
    /// What happens to a field that is not passed on.
    pub denied_headers: DeniedHeaders,
    /// Largest request head in bytes (431 beyond).
    pub head_limit: Option<u32>,
    /// Number of request fields (431 beyond).
    pub fields_limit: Option<u16>,
}

/// `type/subtype` or `type/*`, in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaRange {
    /// What stands before the slash.
    pub kind: Arc<str>,
    /// What stands behind it; none for `*`.
    pub subtype: Option<Arc<str>>,
}

/// A field name, or all names that begin so; in lower case, with `-` for `_`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldPattern {
    /// The name, or what names begin with. Not empty.
    pub name: Arc<str>,
    /// Names that begin so.
    pub prefix: bool,
}

/// What happens to a request field that is not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeniedHeaders {
    /// It is taken away, and the request goes on.
    #[default]
    Remove,
    /// The request is refused (403).
    Refuse,
}
