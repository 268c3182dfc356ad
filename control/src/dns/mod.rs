//! DNS names of clusters: who answers ([`Resolve`]), what an answer means ([`names`]) and when to ask again
//! ([`asking`]).
//!
//! Opens sockets to name servers only. Nothing here waits on a request, and no request waits on it.

pub(crate) mod asking;
pub(crate) mod names;
pub(crate) mod system;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Most addresses taken of one name; more are cut off, smallest kept.
pub const RECORDS_MAX: usize = 1000;

/// What a name resolved to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The addresses, in any order; their order means nothing. None of a service.
    pub addresses: Vec<IpAddr>,
    /// The targets of a service (SRV, RFC 2782), each with an address of its own; in any order. None of another name.
    pub services: Vec<Service>,
    /// How long they hold. Control asks again after this, at least 1 s and at most 5 min later.
    pub ttl: Duration,
    /// An address family that could not be asked, while the other answered: its last addresses are kept.
    pub unknown: Option<Family>,
}

impl Answer {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.services.is_empty()
    }
}

/// A target of a service, at one of its addresses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Service {
    /// The lower, the more preferred.
    pub priority: u16,
    /// The target, lower case, without final dot.
    pub target: Arc<str>,
    /// Its address with the port of the service.
    pub address: SocketAddr,
    /// Its share among those of the same priority.
    pub weight: u16,
}

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// A records.
    V4,
    /// AAAA records.
    V6,
}

impl Family {
    /// Whether an address belongs to it.
    pub fn holds(self, address: &IpAddr) -> bool {
        match self {
            Family::V4 => address.is_ipv4(),
            Family::V6 => address.is_ipv6(),
        }
    }
}

/// Why a name has no answer. Each keeps the last addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResolveError {
    /// The name does not exist.
    NoSuchName,
    /// The name exists and has no address.
    NoAddress,
    /// No server answered, or not in a way that can be used; the text says how.
    Failed(String),
}

impl std::fmt::Display for ResolveError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ResolveError::NoSuchName => f.write_str("the name does not exist (NXDOMAIN)"),
            ResolveError::NoAddress => f.write_str("the name has no address"),
            ResolveError::Failed(how) => write!(f, "no usable answer: {how}"),
        }
    }
}

impl std::error::Error for ResolveError {}

/// A question under way.
pub type Resolving = Pin<Box<dyn Future<Output = Result<Answer, ResolveError>> + Send>>;

/// Answers names. Contract: called on control's thread, inside its runtime; must not block; may be dropped at any
/// await; ends by itself within 30 s. Embedded implementation: the system's resolver; tests hold a fake.
pub trait Resolve: Send + Sync {
    /// Asks for all addresses of a name, IPv4 and IPv6; of a name behind [`SERVICE`](ekiden_config::address::SERVICE), for its services
    /// and their addresses.
    fn resolve(&self, name: Arc<str>) -> Resolving;
}
