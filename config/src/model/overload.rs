//! What happens when there is more work than can be done: slots and their queue, priorities, caps of apps, ceilings of the
//! process. Words only; the router's core decides by them.

use std::time::Duration;

/// How important the requests of a route are. Where some must be refused, the least important are first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum Priority {
    /// Refused first.
    Low,
    /// What is not written.
    #[default]
    Normal,
    /// Refused after the usual ones.
    High,
    /// Refused last.
    Critical,
}

impl Priority {
    /// Every priority, the least important first; the place of each is its number.
    pub const ALL: [Priority; 4] = [Priority::Low, Priority::Normal, Priority::High, Priority::Critical];

    /// The word in configuration, logs and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Priority::Low => "low",
            Priority::Normal => "normal",
            Priority::High => "high",
            Priority::Critical => "critical",
        }
    }
}

/// Requests that an endpoint gets at once, and how long others wait for a free slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotPolicy {
    /// Requests at once per endpoint, over all workers. 1..=1_000_000.
    pub count: u32,
    /// Longest wait for a slot; none means the connect timeout of the route.
    pub wait: Option<Duration>,
    /// Wait from which requests are refused once the queue has not been empty for `interval`; none means never. Default
    /// 100 ms.
    pub target: Option<Duration>,
    /// How long the queue must not have been empty for that. Default 1 s.
    pub interval: Duration,
}

/// What one app may use of the router at a time. None means no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AppCaps {
    /// Requests matched and not ended.
    pub in_flight: Option<u32>,
    /// Connections to endpoints in use.
    pub connections: Option<u32>,
    /// Bytes held for its requests in buffers; more requests are refused beyond it.
    pub buffered: Option<u64>,
}

/// Ceilings of the process. None means that nothing is refused for it, which is the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OverloadPolicy {
    /// Resident memory, in bytes.
    pub memory: Option<u64>,
    /// Open files, in percent of what the process may open.
    pub descriptors: Option<u8>,
    /// Delay of a worker's event loop that has lasted.
    pub lag: Option<Duration>,
}

/// How requests of an app wait while it is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HoldPolicy {
    /// Requests that may wait at a time, over all workers.
    pub max: u32,
    /// How long one waits at most.
    pub wait: Duration,
}
