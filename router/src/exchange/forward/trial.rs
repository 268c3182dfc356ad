//! Lets a request try an ejected endpoint, where it can be sent again for whatever that endpoint answered while it failed.
//!
//! Who is to be tried is the probe thread's to say (`probe::tries`), and is told what came of it.

use std::cell::Cell;
use std::sync::Arc;

use ekiden_core::cell::seat::Tried;
use ekiden_core::readiness::State;
use ekiden_core::stats::ClusterCell;

use super::Forward;
use crate::exchange::Workspace;
use crate::wire::body::Framing;

/// A request that tries an endpoint. Tells once what came of it: at the latest when it is dropped, that nothing is known.
#[derive(Debug)]
pub struct Trial {
    cluster: Arc<ClusterCell>,
    uid: u64,
    told: Cell<bool>,
}

impl Trial {
    /// What came of an attempt at the endpoint whose cell has this number; others are none of its business.
    pub fn tell(&self, uid: u64, tried: Tried) {
        if uid == self.uid && !self.told.replace(true) {
            self.cluster.seat.tell(uid, tried);
        }
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        self.tell(self.uid, Tried::Lost);
    }
}

/// The endpoint that this request tries, as an index into the cluster's table. One load where nobody is to be tried.
#[inline]
pub(super) fn pick(forward: &Forward<'_>, ws: &mut Workspace) -> Option<u32> {
    if forward.cluster.cell.seat.is_empty() { None } else { take(forward, ws) }
}

/// Takes the offer if the request is one that its client would not see fail there: its first attempt, without a body that might
/// have gone when it is to be sent again, on a route that asks again for lost connections and for every status that the endpoint
/// failed with, while the budget of the cluster has something left. An endpoint that other requests would not get if it were well
/// is not tried: one that its checks refuse, or whose slots are in use; and none where a key, a mark, a zone or a priority has a say.
#[cold]
fn take(forward: &Forward<'_>, ws: &mut Workspace) -> Option<u32> {
    let policy = forward.entry.route.retry.as_ref()?;
    let is_first = ws.tried.is_empty() && ws.tries.resends == 0 && policy.attempts > 1;
    let is_plain = ws.request.framing == Framing::None && ws.call.is_none() && ws.upgrade.is_none();
    let is_kept = ws.trace.bytes_in <= u64::from(policy.buffer);
    if !is_first || !is_plain || !is_kept || !ws.tries.after_status || forward.worker.is_forced() {
        return None;
    }
    let table = &forward.cluster;
    let is_drawn = table.shards().is_none() && table.marks().is_none() && table.layout().is_none();
    if !policy.connect || !policy.reset || !is_drawn {
        return None;
    }
    let cluster = &table.cell;
    if let Some(budget) = forward.cluster.cluster.policy.retry_budget
        && cluster.budget.left(budget, forward.worker.turn_ms()) == 0
    {
        return None;
    }
    let offer = cluster.seat.offered()?;
    let cell = &forward.cluster.endpoint(offer.index())?.cell;
    let may = offer.is_of(cell.uid())
        && cell.standing() == State::Ejected
        && (!cell.is_slotted() || cell.in_flight() == 0)
        && cell.failed_with(|status| policy.takes(status));
    if !may || !cluster.seat.take(offer) {
        return None;
    }
    let trial = Trial { cluster: Arc::clone(cluster), uid: cell.uid(), told: Cell::new(false) };
    ws.tries.held.trial = Some(trial);
    Some(offer.index())
}
