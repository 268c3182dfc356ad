//! Mirrors of a route: words only. The router sends the copies.

use std::time::Duration;

use crate::names::ClusterName;

/// What is copied to another cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorPolicy {
    /// Who gets the copies: a cluster of the same app, none of the route's own.
    pub cluster: ClusterName,
    /// How many requests of 10,000. 1..=10_000.
    pub share: u32,
    /// Largest body that is copied, in bytes; a request with a larger one is not copied.
    pub body: u32,
    /// Copies on their way at most, over all workers; more requests are not copied.
    pub in_flight: u32,
    /// Longest time of one copy.
    pub timeout: Duration,
    /// Statuses and bodies of both answers are compared.
    pub diff: bool,
}
