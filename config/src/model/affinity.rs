//! Affinity of a cluster: words only. The router makes and reads the marks that clients carry.

use std::sync::Arc;
use std::time::Duration;

use crate::names::TrustName;

/// How a client comes back to the endpoint that served it first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AffinityPolicy {
    /// What carries the mark.
    pub carrier: Carrier,
    /// An entry of [`super::TrustSources::affinity_keys`]; none means a key that the process makes for itself.
    pub key: Option<TrustName>,
    /// How long a mark holds; none means as long as the client keeps it. At least 1 s.
    pub lifetime: Option<Duration>,
}

/// What carries a mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Carrier {
    /// A cookie, which browsers keep by themselves.
    Cookie(AffinityCookie),
    /// A field of responses that the client sends in its requests, for programs. In lower case.
    Header(Arc<str>),
}

/// The cookie. Always `HttpOnly`, and for the host alone that sets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AffinityCookie {
    /// Its name, a token.
    pub name: Arc<str>,
    /// Below which path it is sent.
    pub path: Arc<str>,
    /// Whether it goes along when another site leads here.
    pub same_site: SameSite,
    /// Sent over TLS only; none means where the client that gets it came over TLS.
    pub secure: Option<bool>,
}

/// When a cookie goes along with what another site asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SameSite {
    /// When a link is followed.
    #[default]
    Lax,
    /// Never.
    Strict,
    /// Always. Only with `Secure`.
    None,
}

impl SameSite {
    /// As the attribute has it.
    pub const fn word(self) -> &'static str {
        match self {
            SameSite::Lax => "Lax",
            SameSite::Strict => "Strict",
            SameSite::None => "None",
        }
    }
}
