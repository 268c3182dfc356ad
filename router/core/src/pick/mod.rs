//! Chooses an endpoint: draw, check, redraw, scan.
//!
//! A draw may hit an endpoint that stopped being ready after the ready set was built. One atomic load of its cell
//! catches that; after two redraws the whole ready set is scanned, so that a pick fails only when nothing is left.
//! Pure: the random source is an argument. Does not count requests in; that is the worker's, with the cell.

pub mod p2c;
pub mod ready;
pub mod round_robin;

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
}

/// Draws before the scan: the first and two redraws.
const DRAWS: usize = 3;
