//! What happens when an endpoint fails a request: sending it again, and how much of that a cluster takes; what it may have in
//! hand at all.
//! Words only; the router's core decides by them.

use std::time::Duration;

/// When a request is sent again, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// After a failed connect.
    pub connect: bool,
    /// After the connection was lost before the first byte of a response.
    pub reset: bool,
    /// After a response with one of these statuses.
    pub statuses: Vec<StatusRange>,
    /// Times that a request is sent at most, the first one included. 1..=10, default 3.
    pub attempts: u8,
    /// Longest wait of one try for the first byte of a response; a try that waits longer is given up. None means that no
    /// try is.
    pub per_try: Option<Duration>,
    /// Longest wait before the first retry; doubles with each. Zero means no wait.
    pub backoff: Duration,
    /// Longest wait of all.
    pub backoff_max: Duration,
    /// Bytes of a request kept so that it can be sent again, head included.
    pub buffer: u32,
    /// Which requests may be sent twice.
    pub replay: Replay,
}

impl RetryPolicy {
    /// Whether a response with this status is one to try again for.
    pub fn takes(&self, status: u16) -> bool {
        self.statuses.iter().any(|range| (range.low..=range.high).contains(&status))
    }
}

/// Statuses from one to another, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusRange {
    /// The lowest.
    pub low: u16,
    /// The highest.
    pub high: u16,
}

/// Which requests may reach an endpoint twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Replay {
    /// Those whose method is idempotent (RFC 9110 section 9.2.2).
    #[default]
    Idempotent,
    /// Those too that carry `Idempotency-Key`, but never after a response.
    IdempotencyKey,
    /// All.
    Any,
}

/// How many requests of a cluster are sent again, retries and hedges together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryBudget {
    /// Of a hundred requests. 1..=100, default 20.
    pub percent: u8,
    /// A second, however few requests there are. 0..=100_000, default 10.
    pub floor: u32,
    /// Time that is looked back on. 1 s..=1 min, default 10 s.
    pub window: Duration,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { percent: 20, floor: 10, window: Duration::from_secs(10) }
    }
}

/// What a cluster may have in hand, over all workers; what is more is refused at once. None means no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BreakerPolicy {
    /// Requests at the cluster, not ended.
    pub requests: Option<u32>,
    /// Of them those that have no connection yet.
    pub pending: Option<u32>,
    /// Connections that carry a request; those that carry many count while they are open.
    pub connections: Option<u32>,
    /// Requests at one endpoint.
    pub endpoint_requests: Option<u32>,
    /// Such connections of one endpoint.
    pub endpoint_connections: Option<u32>,
}

/// When a request is sent to a second endpoint while the first is silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HedgePolicy {
    /// Of the route's own latencies: a request that takes longer is sent again. 50..=99, default 95.
    pub percentile: u8,
    /// Never sooner than this. Default 10 ms.
    pub min: Duration,
}
