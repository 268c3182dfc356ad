//! What an exchange says and counts when it is refused because there is too much work, and what it holds meanwhile.
//!
//! Core decides (`core::overload`); the answer is made in `answer`, as for every outcome. Does not wait (`forward::slots` does).

use std::sync::Arc;

use ekiden_config::model::Priority;
use ekiden_core::outcome::Cause;
use ekiden_core::overload::Shed;
use ekiden_core::overload::caps::Cap;
use ekiden_core::table::RouteEntry;

use crate::exchange::Workspace;
use crate::exchange::downstream::Downstream;
use crate::worker::Worker;

/// Lets a request in as far as the worker's strain and the app's caps go. One comparison and one test where neither is set.
///
/// # Errors
/// Why not; it has been counted, and the workspace says what is short.
#[inline]
pub fn let_in(worker: &Worker, ws: &mut Workspace, entry: &RouteEntry) -> Result<(), Cause> {
    if let Some(why) = worker.strain.sheds(entry.route.priority) {
        return Err(shed(worker, ws, entry.route.priority, why));
    }
    if let Some(caps) = &entry.caps {
        match caps.enter() {
            Ok(permit) => ws.permit = Some(permit),
            Err(cap) => return Err(capped(ws, cap)),
        }
    }
    Ok(())
}

/// Counts a request that is refused, and notes why.
#[cold]
pub fn shed(worker: &Worker, ws: &mut Workspace, priority: Priority, why: Shed) -> Cause {
    if let Some(count) = worker.shard.shed.of(priority, why) {
        count.add(1);
    }
    ws.limits.named = Some(Arc::from(format!("{}:{}", why.word(), priority.word())));
    Cause::Overloaded
}

/// Notes the cap that refuses a request. It has been counted there.
#[cold]
pub fn capped(ws: &mut Workspace, cap: Cap) -> Cause {
    ws.limits.named = Some(Arc::from(cap.word()));
    Cause::AppLimited
}

/// Tells the app's account what is held for this request now, with `piped` bytes in pipes. Called after each poll of the relay,
/// where the app has caps.
pub fn hold<D: Downstream>(client: &D, ws: &mut Workspace, piped: usize) {
    let Some(permit) = ws.permit.as_mut().filter(|permit| permit.counts_bytes()) else { return };
    let bytes = piped
        + ws.client_in.capacity()
        + ws.leg.input.capacity()
        + ws.client_out.pending()
        + ws.leg.output.held()
        + client.held()
        + ws.leg.held();
    permit.hold(bytes as u64);
}
