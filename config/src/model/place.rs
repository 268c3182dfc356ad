//! Where a router stands among others, and a bound that is found by latency. Words only; the router's core decides by them.

use std::sync::Arc;
use std::time::Duration;

/// Highest number of a priority group.
pub const PRIORITY_MAX: u8 = 7;

/// Where a router stands among other routers and among endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    /// Its zone: endpoints of the same one come first. None means that zones do not count.
    pub zone: Option<Arc<str>>,
    /// Requests of all routers that come in by those of its zone, in percent. 1..=100; none means as many as in any other zone.
    pub zone_share: Option<u8>,
    /// Its name among routers like it; decides which endpoints of a subset it has.
    pub instance: Arc<str>,
}

/// A bound on requests in flight that follows latency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdaptivePolicy {
    /// Never below. 1..=1_000_000, default 8.
    pub min: u32,
    /// Never above. Not below `min`, default 1000.
    pub max: u32,
    /// Latency at the bound, in percent of that without a queue. 101..=1000, default 125.
    pub tolerance_percent: u16,
    /// Time between two looks at the latency without a queue. 1 s..=1 h, default 30 s.
    pub look: Duration,
}

impl Default for AdaptivePolicy {
    fn default() -> Self {
        Self { min: 8, max: 1_000, tolerance_percent: 125, look: Duration::from_secs(30) }
    }
}
