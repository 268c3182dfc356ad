//! Faults on their way: holds a request back, or answers it with an error, where its route says so. Which ones is core's word
//! (`core::policy::faults`). For tests; a route without `faults` never comes here.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use ekiden_config::model::Listener;
use ekiden_core::outcome::Cause;
use ekiden_core::policy::faults;
use ekiden_core::stats::FaultKind;
use ekiden_core::table::RouteEntry;

use crate::exchange::answer::write_error_as;
use crate::exchange::downstream::Downstream;
use crate::exchange::run::{flush, may_keep, refuse};
use crate::exchange::{After, Workspace, forward, trace};
use crate::worker::connection::Connection;

/// Does to a request what is drawn for it.
///
/// # Errors
/// It has been answered, or its client has gone; the record has been written.
pub async fn inject<D: Downstream>(
    connection: &mut Connection<D>,
    ws: &mut Workspace,
    listener: &Listener,
    entry: &Arc<RouteEntry>,
) -> Result<(), After> {
    let Some(policy) = &entry.route.faults else { return Ok(()) };
    let worker = Rc::clone(&connection.worker);
    let fault = faults::draw(policy, &mut || worker.random());
    let shard = entry.cell.shaping(worker.id);
    if let Some(time) = fault.delay {
        shard.faulted(FaultKind::Delay);
        let over_ms = match forward::ends_at(&worker, ws, listener, entry) {
            Ok(over_ms) => over_ms,
            Err(cause) => return Err(refuse(connection, ws, cause, None).await),
        };
        if let Err(cause) = hold_back(connection, ws, time, over_ms).await {
            return Err(refuse(connection, ws, cause, None).await);
        }
    }
    match fault.abort {
        None => Ok(()),
        Some(status) => {
            shard.faulted(FaultKind::Abort);
            // A call ends with a status of gRPC, which has no numbers of HTTP.
            if ws.call.is_some() {
                return Err(refuse(connection, ws, Cause::FaultInjected, None).await);
            }
            Err(abort(connection, ws, status).await)
        }
    }
}

/// Waits, at most until the request is over, and watches the client meanwhile.
async fn hold_back<D: Downstream>(
    connection: &mut Connection<D>,
    ws: &mut Workspace,
    time: Duration,
    ends_at_ms: Option<u64>,
) -> Result<(), Cause> {
    let worker = Rc::clone(&connection.worker);
    let held_ms = worker.now_ms().saturating_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    let over_ms = ends_at_ms.map_or(held_ms, |ends_at_ms| ends_at_ms.min(held_ms));
    let mut half_closed = false;
    poll_fn(|cx| {
        if worker.is_forced() {
            return Poll::Ready(Err(Cause::Drained));
        }
        connection.stream.poll_watch(cx, &worker.buffers, &mut ws.client_in, &mut half_closed)?;
        if worker.now_ms() >= over_ms {
            let is_late = over_ms < held_ms;
            return Poll::Ready(if is_late { Err(forward::late(&worker, ws)) } else { Ok(()) });
        }
        connection.deadline.set(over_ms, cx.waker());
        Poll::Pending
    })
    .await
}

async fn abort<D: Downstream>(connection: &mut Connection<D>, ws: &mut Workspace, status: u16) -> After {
    let worker = Rc::clone(&connection.worker);
    let keep = may_keep(&worker, ws);
    // As an error of the router's own with this status: clients that are tested with it meet such.
    let outcome = Cause::FaultInjected.at(ws.trace.phase);
    let written = match write_error_as(connection, ws, outcome, status, None, keep) {
        Ok(()) => flush(connection, ws, true).await,
        Err(cause) => Err(cause),
    };
    trace::end(&worker, ws, written.err().unwrap_or(Cause::FaultInjected));
    match (written, keep) {
        (Ok(()), true) => After::Keep,
        (Ok(()), false) => After::Linger,
        (Err(_), _) => After::Close,
    }
}
