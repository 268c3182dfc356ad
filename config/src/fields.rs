//! Field names that configuration may not touch. The router has the same sets as ids; a test there holds them equal.

/// Fields that belong to a connection, to framing or to the target: the router writes or drops them itself.
pub const OWN: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Fields that tell where a request came from: the platform sets them, clients do not.
pub const PLATFORM: &[&str] = &[
    "client-cert",
    "client-cert-chain",
    "forwarded",
    "via",
    "x-forwarded-client-cert",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-request-id",
    "x-request-start",
];

/// Platform fields that the router always writes from what it knows, whatever the head holds.
pub(crate) const WRITTEN: &[&str] = &["x-request-id", "x-forwarded-for"];
