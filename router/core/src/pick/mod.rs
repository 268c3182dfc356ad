//! Chooses an endpoint: draw, check, redraw, scan.
//!
//! A draw may hit an endpoint that stopped being ready after the ready set was built. One atomic load of its cell
//! catches that; after two redraws the whole ready set is scanned, so that a pick fails only when nothing is left.
//! Pure: the random source is an argument. Does not count requests in; that is the worker's, with the cell.

pub mod layout;
pub mod least_request;
pub mod p2c;
pub mod parts;
pub mod peak_ewma;
pub mod prequal;
pub mod ready;
pub mod round_robin;
pub mod silence;
pub mod subset;

/// What a pick gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick {
    /// The index of an endpoint in [`crate::cluster::ClusterTable::endpoints`].
    Endpoint(u32),
    /// The cluster has endpoints, and none of them may get a request now.
    NoneReady,
    /// The cluster has no endpoints.
    NoEndpoints,
    /// Every endpoint that may get a request now was tried.
    Exhausted,
    /// The endpoints of the key, which no other may stand in for, may not get a request now.
    ShardDown,
    /// As [`Pick::ShardDown`], and one of them awaits its first check.
    ShardStarting,
}

/// What one attempt of a request asks for.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    /// Endpoints that were tried, as indexes into [`crate::cluster::ClusterTable::endpoints`].
    pub tried: &'a [u32],
    /// The request may be sent twice. One that may not is kept from endpoints that just come back from an ejection while
    /// there are others.
    pub may_repeat: bool,
    /// Microseconds of the worker's clock. Pickers that go by latency look at it.
    pub now_us: u64,
}

impl<'a> Attempt<'a> {
    /// An attempt of a request that may be sent twice.
    pub fn after(tried: &'a [u32]) -> Self {
        Self { tried, may_repeat: true, now_us: 0 }
    }

    /// The same at this moment.
    pub fn at(self, now_us: u64) -> Self {
        Self { now_us, ..self }
    }
}

/// Draws before the scan: the first and two redraws.
const DRAWS: usize = 3;
