//! Lets a request try an ejected endpoint, where it can be sent again for whatever that endpoint answered last.
//!
//! Who is to be tried is the probe thread's to say (`probe::tries`); what came of it is told by the evidence of the request,
//! as of any other.

use super::Forward;
use crate::exchange::Workspace;
use crate::wire::body::Framing;

/// The endpoint that this request tries, as an index into the cluster's table. One load where nobody is to be tried.
#[inline]
pub(super) fn pick(forward: &Forward<'_>, ws: &Workspace) -> Option<u32> {
    if forward.cluster.cell.seat.is_empty() { None } else { take(forward, ws) }
}

/// Takes the offer if the request is one that no client would see fail there: its first attempt, without a body that might
/// have gone when it is to be sent again, on a route that asks again for the status that the endpoint gave last.
#[cold]
fn take(forward: &Forward<'_>, ws: &Workspace) -> Option<u32> {
    let policy = forward.entry.route.retry.as_ref()?;
    let is_first = ws.tried.is_empty() && ws.tries.resends == 0 && policy.attempts > 1;
    let is_plain = ws.request.framing == Framing::None && ws.call.is_none() && ws.upgrade.is_none();
    if !is_first || !is_plain || !ws.tries.after_status || forward.worker.is_forced() {
        return None;
    }
    let seat = &forward.cluster.cell.seat;
    let offer = seat.offered()?;
    let cell = &forward.cluster.endpoint(offer.index())?.cell;
    let may = offer.is_of(cell.uid())
        && cell.is_ejected()
        && !cell.is_gone()
        && !cell.is_draining()
        && policy.takes(cell.failed_status());
    (may && seat.take(offer)).then_some(offer.index())
}
