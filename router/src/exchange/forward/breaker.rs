//! The breaker and the adaptive limit of a cluster: what an exchange holds of it, and what is done when a bound is met.
//!
//! Core counts (`core::resilience::breaker`, `adaptive`). A bound of one endpoint sends a request to another, for a few of them; a bound of
//! the cluster ends it. Nothing waits.

use std::sync::Arc;

use ekiden_config::model::{AdaptivePolicy, BreakerPolicy};
use ekiden_core::cluster::{ClusterTable, EndpointEntry};
use ekiden_core::outcome::Cause;
use ekiden_core::resilience::adaptive::Admitted;
use ekiden_core::resilience::breaker::{Bound, Connected, Permit};

use super::{Forward, Step};
use crate::exchange::Workspace;
use crate::exchange::leg::Home;

/// Endpoints at their bound that one request goes past.
const SKIPS_MAX: u8 = 16;

/// Counts a request in.
///
/// # Errors
/// The bound is met.
#[cold]
pub(super) fn enter(
    policy: &BreakerPolicy,
    cluster: &ClusterTable,
    ws: &mut Workspace,
) -> Result<Option<Permit>, Cause> {
    Permit::take(&cluster.cell, Bound::Requests, policy.requests).map_err(|bound| refuse(ws, bound))
}

/// Counts a request in at the bound that follows latency.
///
/// # Errors
/// The bound is met.
#[cold]
pub(super) fn admit(policy: &AdaptivePolicy, cluster: &ClusterTable, now_us: u64) -> Result<Admitted, Cause> {
    Admitted::take(&cluster.cell, policy, now_us).ok_or(Cause::AdaptiveLimit)
}

/// Takes a connection of an endpoint into use.
///
/// # Errors
/// The bound that is met.
pub(super) fn take_connection(
    policy: &BreakerPolicy,
    cluster: &ClusterTable,
    endpoint: &EndpointEntry,
    home: &mut Home,
) -> Result<(), Bound> {
    home.connected = Some(Connected::take(policy, &cluster.cell, &endpoint.cell)?);
    Ok(())
}

/// Says which bound is met.
#[cold]
pub(super) fn refuse(ws: &mut Workspace, bound: Bound) -> Cause {
    ws.limits.named = Some(Arc::from(format!("breaker_{}", bound.word())));
    Cause::BreakerOpen
}

impl Forward<'_> {
    /// Counts in a request that has no connection yet.
    pub(super) fn pend(&self, ws: &mut Workspace) -> Result<Option<Permit>, Cause> {
        let Some(policy) = &self.cluster.cluster.policy.breaker else { return Ok(None) };
        Permit::take(&self.cluster.cell, Bound::Pending, policy.pending).map_err(|bound| refuse(ws, bound))
    }

    /// The step when the cluster or an endpoint has as many connections as it may have.
    #[cold]
    pub(super) fn at_connections(
        &mut self,
        ws: &mut Workspace,
        (index, uid): (u32, u64),
        bound: Bound,
    ) -> Step {
        match bound {
            Bound::EndpointConnections => self.skip(ws, (index, uid), bound),
            bound => Step::Failed(refuse(ws, bound)),
        }
    }

    /// Goes past an endpoint that is at its bound.
    fn skip(&mut self, ws: &mut Workspace, (index, uid): (u32, u64), bound: Bound) -> Step {
        let cause = refuse(ws, bound);
        if ws.tries.skips >= SKIPS_MAX {
            return Step::Failed(cause);
        }
        ws.tries.skips += 1;
        self.last = Some(cause);
        self.avoid(ws, index, uid);
        Step::Skip
    }

    /// The step when an endpoint has as many requests as it may have: its line, where it has slots.
    #[cold]
    pub(super) fn at_bound(&mut self, ws: &mut Workspace, (index, uid): (u32, u64)) -> Step {
        if self.cluster.cluster.policy.slots.is_some() {
            return Step::Queue;
        }
        self.cluster.cell.breaker.note_refused(Bound::EndpointRequests);
        self.skip(ws, (index, uid), Bound::EndpointRequests)
    }

    /// Why nothing can be picked, when it is that every endpoint has as many requests as it may have.
    #[cold]
    pub(super) fn breaks(&self, ws: &mut Workspace) -> Option<Cause> {
        self.cluster.cluster.policy.breaker?.endpoint_requests?;
        if !self.cluster.is_full(&ws.tried) {
            return None;
        }
        self.cluster.cell.breaker.note_refused(Bound::EndpointRequests);
        Some(refuse(ws, Bound::EndpointRequests))
    }
}
