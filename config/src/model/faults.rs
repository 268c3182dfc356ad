//! Faults of a route: words only. The router makes them, for tests of what stands in front of it.

use std::time::Duration;

/// What is done to a share of a route's requests instead of serving them well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FaultPolicy {
    /// Requests that are held back before they are served.
    pub delay: Option<FaultDelay>,
    /// Requests that are answered with an error.
    pub abort: Option<FaultAbort>,
}

/// Requests that are held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultDelay {
    /// How many of 10,000. 1..=10_000.
    pub share: u32,
    /// For how long. 1 ms..=1 min.
    pub time: Duration,
}

/// Requests that are answered with an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultAbort {
    /// How many of 10,000. 1..=10_000.
    pub share: u32,
    /// The status of the answer. 400..=599.
    pub status: u16,
}
