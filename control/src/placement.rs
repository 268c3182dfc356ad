//! The way of placements from a source to the control loop: what runs where, whole for one cluster, in memory alone.
//!
//! A source says what is there now and is asked nothing; what it said last counts until it says something else, so that one
//! which is silent or gone freezes its part. Its endpoints stand under those of the files and over those of the API (see
//! [`crate::overlay`]). The Procfile's dynos are such a source.

use std::sync::Arc;

use ekiden_config::doors::Ticket;
use ekiden_config::model::Endpoint;
use tokio::sync::oneshot;

use crate::overlay::ClusterKey;

/// Words of a source that may wait for the loop; a source waits then.
pub(crate) const PLACED_MAX: usize = 64;

/// All endpoints that a source has for a cluster; replaces what it said before.
#[derive(Debug)]
pub(crate) struct Placed {
    /// Where.
    pub(crate) place: ClusterKey,
    /// Sorted by id.
    pub(crate) endpoints: Vec<Arc<Endpoint>>,
    /// Gets the ticket of the table that has them.
    pub(crate) reply: oneshot::Sender<Ticket>,
}
