//! When an endpoint is set aside by evidence, how it returns, and how a new one begins: words only. The router's core
//! judges.

use std::time::Duration;

/// How evidence and time decide about the endpoints of a cluster, beside its checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadinessPolicy {
    /// Setting aside by what requests have met; none when switched off.
    pub ejection: Option<EjectionPolicy>,
    /// Ejected endpoints are served all the same while fewer than this percentage of the endpoints is ready; 0 means never.
    /// Default 50.
    pub panic_threshold: u8,
    /// Time over which an endpoint that is new or passes its checks again comes to its full share; zero means at once, which
    /// is the default.
    pub slow_start: Duration,
}

impl Default for ReadinessPolicy {
    fn default() -> Self {
        Self { ejection: Some(EjectionPolicy::default()), panic_threshold: 50, slow_start: Duration::ZERO }
    }
}

/// Passive ejection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EjectionPolicy {
    /// Failures in a row that eject; none when they do not. Default 5.
    pub consecutive: Option<u16>,
    /// Ejected is whose success rate is below this percentage of that of the cluster's other endpoints; none when it is not
    /// compared. Default 80.
    pub success_rate: Option<u8>,
    /// Requests in the window that both sides of the comparison need. Default 50.
    pub min_requests: u32,
    /// What is compared: the last so long. Default 10 s.
    pub window: Duration,
    /// Percentage of the endpoints that may be ejected at a time; at least one always may. Default 50.
    pub max_percent: u8,
    /// Shortest ejection of an endpoint that passed its checks and failed requests again after its return; doubles with each
    /// further time. Default 1 s.
    pub base: Duration,
    /// Longest such ejection. Default 60 s.
    pub max: Duration,
}

impl Default for EjectionPolicy {
    fn default() -> Self {
        Self {
            consecutive: Some(5),
            success_rate: Some(80),
            min_requests: 50,
            window: Duration::from_secs(10),
            max_percent: 50,
            base: Duration::from_secs(1),
            max: Duration::from_secs(60),
        }
    }
}
