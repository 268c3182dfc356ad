//! The wait of a request whose app is held: until the app is released, the time is over, or the client is gone.
//!
//! Core keeps the line (`core::overload::hold`). Where the request goes then is looked up again.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use ekiden_config::model::Listener;
use ekiden_core::cluster::ClusterTable;
use ekiden_core::outcome::{Cause, Phase};
use ekiden_core::table::{RouteEntry, Table};

use crate::exchange::Workspace;
use crate::exchange::downstream::Downstream;
use crate::exchange::run::{self, Decision};
use crate::worker::connection::Connection;

/// Waits, if the route's app is held.
///
/// # Errors
/// Why it waits no more.
pub async fn wait<D: Downstream>(
    connection: &mut Connection<D>,
    ws: &mut Workspace,
    entry: &RouteEntry,
) -> Result<(), Cause> {
    let (Some(policy), Some(gate)) = (&entry.route.hold, &entry.hold) else { return Ok(()) };
    let worker = std::rc::Rc::clone(&connection.worker);
    let before = std::mem::replace(&mut ws.trace.phase, Phase::Queue);
    let Some(mut ticket) = Arc::clone(gate).join(policy.max) else { return Err(Cause::HoldFull) };
    let began = worker.clock.read();
    let wait_ms = u64::try_from(policy.wait.as_millis()).unwrap_or(u64::MAX);
    let over_ms = began.ms().saturating_add(wait_ms);
    let mut half_closed = false;
    let result = poll_fn(|cx| {
        if worker.is_forced() {
            return Poll::Ready(Err(Cause::Drained));
        }
        // A client that has left gives its place up; one that has only finished sending waits on.
        let client = &mut connection.stream;
        client.poll_watch(cx, &worker.buffers, &mut ws.client_in, &mut half_closed)?;
        if ticket.may_go(cx.waker()) {
            return Poll::Ready(Ok(()));
        }
        if worker.now_ms() >= over_ms {
            return Poll::Ready(Err(Cause::HoldTimeout));
        }
        connection.deadline.set(over_ms, cx.waker());
        Poll::Pending
    })
    .await;
    drop(ticket);
    let waited = u32::try_from(worker.clock.read().us_since(began)).unwrap_or(u32::MAX - 1);
    ws.trace.queue_us = Some(ws.trace.queue_us.unwrap_or(0).saturating_add(waited));
    result?;
    ws.trace.phase = before;
    // The table that released it may not be this worker's yet.
    if worker.is_behind() {
        worker.take_table();
    }
    Ok(())
}

/// Where a request goes that has waited. Its route may lead somewhere else by now, or nowhere: a hold that maintenance took the
/// place of lets nobody through to the app.
pub fn again<D: Downstream>(
    connection: &Connection<D>,
    ws: &mut Workspace,
    listener: &Listener,
    entry: &Arc<RouteEntry>,
    cluster: &ClusterTable,
) -> Decision {
    let decision = connection.worker.with_table(|table: &Table| {
        let Some(now) = table.route_again(entry) else { return Decision::Refuse(Cause::ClusterGone, None) };
        if now.target != entry.target {
            return run::choose(table, now, connection, ws, listener);
        }
        match table.cluster_named(&cluster.app, &cluster.cluster.name) {
            Some(cluster) => Decision::Forward(Arc::clone(entry), Arc::clone(cluster)),
            None => Decision::Refuse(Cause::ClusterGone, None),
        }
    });
    if let Decision::Forward(now, _) | Decision::Act(now) = &decision
        // It is counted out where it was counted in.
        && Arc::ptr_eq(&now.cell, &entry.cell)
    {
        ws.route = Some(Arc::clone(now));
    }
    decision
}
