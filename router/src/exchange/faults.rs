//! Faults on their way: holds a request back, or answers it with an error, where its route says so. Which ones is core's word
//! (`core::policy::faults`). For tests; a route without `faults` never comes here.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use ekiden_core::outcome::Cause;
use ekiden_core::policy::faults;
use ekiden_core::stats::FaultKind;
use ekiden_core::table::RouteEntry;

use crate::exchange::answer::{Answer, write_answer};
use crate::exchange::downstream::Downstream;
use crate::exchange::run::{flush, may_keep, refuse};
use crate::exchange::{After, Workspace, trace};
use crate::worker::connection::Connection;

/// Does to a request what is drawn for it.
///
/// # Errors
/// It has been answered, or its client has gone; the record has been written.
pub async fn inject<D: Downstream>(
    connection: &mut Connection<D>,
    ws: &mut Workspace,
    entry: &Arc<RouteEntry>,
) -> Result<(), After> {
    let Some(policy) = &entry.route.faults else { return Ok(()) };
    let worker = Rc::clone(&connection.worker);
    let fault = faults::draw(policy, &mut || worker.random());
    let shard = entry.cell.shaping(worker.id);
    if let Some(time) = fault.delay {
        shard.faulted(FaultKind::Delay);
        if let Err(cause) = hold_back(connection, ws, time).await {
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

/// Waits, and watches the client meanwhile.
async fn hold_back<D: Downstream>(
    connection: &mut Connection<D>,
    ws: &mut Workspace,
    time: Duration,
) -> Result<(), Cause> {
    let worker = Rc::clone(&connection.worker);
    let over_ms = worker.now_ms().saturating_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    let mut half_closed = false;
    poll_fn(|cx| {
        if worker.is_forced() {
            return Poll::Ready(Err(Cause::Drained));
        }
        connection.stream.poll_watch(cx, &worker.buffers, &mut ws.client_in, &mut half_closed)?;
        if worker.now_ms() >= over_ms {
            return Poll::Ready(Ok(()));
        }
        connection.deadline.set(over_ms, cx.waker());
        Poll::Pending
    })
    .await
}

async fn abort<D: Downstream>(connection: &mut Connection<D>, ws: &mut Workspace, status: u16) -> After {
    let worker = Rc::clone(&connection.worker);
    let keep = may_keep(&worker, ws);
    let outcome = Cause::FaultInjected.at(ws.trace.phase);
    let error = outcome.proxy_status().unwrap_or("proxy_internal_error");
    let proxy_status = format!("ekiden; error={error}; details=\"{}\"", outcome.code());
    let fields = [
        ("X-Router-Error", outcome.code()),
        ("Proxy-Status", proxy_status.as_str()),
        ("Cache-Control", "no-store"),
    ];
    let body = format!("{status}: {} ({})\n", outcome.words(), outcome.code());
    let content_type = "text/plain; charset=utf-8";
    let answer = Answer { status, fields: &fields, content_type, body: &body };
    let written = match write_answer(connection, ws, &answer, keep) {
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
