//! What the end of an attempt says of its endpoint, and who is told.
//!
//! Called where an attempt's end is known (`forward`). Which ends are evidence is core's to say; who is ejected is decided
//! off the workers.

use std::sync::Arc;
use std::time::Duration;

use ekiden_core::cell::EndpointCell;
use ekiden_core::cell::load::Load;
use ekiden_core::cluster::ClusterTable;
use ekiden_core::evidence::Evidence;
use ekiden_core::outcome::{Cause, Outcome};

use crate::exchange::leg::Home;
use crate::exchange::{Workspace, grpc};
use crate::head::{FieldId, Head};
use crate::worker::Worker;

/// An attempt ended without a complete response. `aged` says that the connection came from the pool and died before a byte
/// of the response: it may have died of age, which is nobody's fault.
pub fn failed(worker: &Worker, cell: &Arc<EndpointCell>, outcome: Outcome, aged: bool) {
    cell.note_failure();
    let kind = Evidence::of_failure(outcome).filter(|_| !aged);
    tell(worker, cell, kind, None);
}

/// An attempt ended with a complete response.
#[inline]
pub fn answered(worker: &Worker, cluster: &ClusterTable, ws: &Workspace) {
    let Some(home) = ws.leg.home() else { return };
    if ws.response.status < 500 && ws.call.is_none() {
        if !home.cell.is_quiet() {
            served(worker, cluster, ws, home);
        }
    } else {
        answered_perhaps_badly(worker, cluster, ws, home);
    }
}

/// The final response head is there: its time is noted at the limit that follows latency, and its place there given back. What is
/// counted is what is measured: a stream may be open for days. A failure is quick or slow for its own reasons, and not noted.
#[cold]
pub fn begun(ws: &mut Workspace) {
    let Some(admitted) = ws.tries.held.adaptive.take() else { return };
    let Some(home) = ws.leg.home() else { return };
    let peer = peer_cause(&ws.response.head, home);
    let said = ws.call.as_ref().and_then(|call| grpc::evidence_at_head(call, peer));
    let failed = said.or_else(|| Evidence::of_status(ws.response.status, peer));
    if let (None, Some(began), Some(first_byte)) = (failed, ws.leg_began(), ws.trace.first_byte_at)
        && first_byte >= began
    {
        admitted.note(first_byte.us_since(began), first_byte.us());
    }
}

/// A request was given up before a byte of its answer, by its client or because another leg was sooner: the time that it had
/// is the least that the endpoint would have needed.
#[cold]
pub fn given_up(worker: &Worker, ws: &Workspace) {
    let Some(home) = ws.leg.home().filter(|home| home.cell.is_timed()) else { return };
    if let Some(began) = ws.leg_began() {
        let now = worker.clock.turn();
        home.cell.note_patience(now.us_since(began), now.us());
    }
}

fn served(worker: &Worker, cluster: &ClusterTable, ws: &Workspace, home: &Home) {
    home.cell.note_served();
    if home.cell.is_timed() {
        note_time(worker, cluster, ws, home);
    }
}

/// Notes how long the endpoint took to begin its answer, and what it says of its load. An answer that began before all of the
/// request was sent says nothing: the client may have been slow.
fn note_time(worker: &Worker, cluster: &ClusterTable, ws: &Workspace, home: &Home) {
    let (Some(began), Some(first_byte)) = (ws.leg_began(), ws.trace.first_byte_at) else { return };
    if first_byte < began {
        return;
    }
    let (took_us, at_us) = (first_byte.us_since(began), first_byte.us());
    home.cell.note_latency(took_us, at_us);
    if home.report_load {
        home.cell.note_load(home.others, took_us, at_us);
    }
    if cluster.takes_reports()
        && let Some(text) = ws.response.head.known(FieldId::XRouterLoad)
        && let Some(load) = Load::parse(text)
        && let Some(index) = cluster.position(home.cell.incarnation().id())
        // Of another table: the id may be another endpoint's by now.
        && cluster.endpoint(index).is_some_and(|entry| entry.cell.uid() == home.cell.uid())
    {
        cluster.report(index, load, (at_us, worker.clock.turn().us()));
        cluster.cell.shard(home.worker).load_reports.add(1);
    }
}

#[cold]
fn answered_perhaps_badly(worker: &Worker, cluster: &ClusterTable, ws: &Workspace, home: &Home) {
    let peer = peer_cause(&ws.response.head, home);
    let kind = match &ws.call {
        Some(call) => grpc::evidence(ws, call, peer),
        None => Evidence::of_status(ws.response.status, peer),
    };
    match kind {
        Some(kind) => {
            home.cell.note_failed_status(ws.response.status);
            let unix_us = worker.clock.unix_us_now();
            let wait = if home.cell.is_timed() { retry_after(&ws.response.head, unix_us) } else { None };
            tell(worker, &home.cell, Some(kind), wait);
        }
        None => served(worker, cluster, ws, home),
    }
}

/// The code that an endpoint, itself a router, gave its own outcome.
fn peer_cause(head: &Head, home: &Home) -> Option<Cause> {
    let code = head.known(FieldId::XRouterError).filter(|_| home.peer_router);
    let code = code.and_then(|value| std::str::from_utf8(value).ok()).unwrap_or("");
    Cause::from_code(code.split(' ').next().unwrap_or(""))
}

/// How long an endpoint wants to be left alone: seconds, or a date (RFC 9110 section 10.2.3).
pub fn retry_after(head: &Head, unix_us: u64) -> Option<Duration> {
    let text = std::str::from_utf8(head.get(b"retry-after")?).ok()?.trim();
    if let Ok(seconds) = text.parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()));
    }
    let at = httpdate::parse_http_date(text).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(at.saturating_sub(Duration::from_micros(unix_us)))
}

fn tell(worker: &Worker, cell: &Arc<EndpointCell>, kind: Option<Evidence>, retry_after: Option<Duration>) {
    let Some(kind) = kind else { return };
    if cell.is_timed() {
        cell.note_failing(retry_after, worker.clock.turn().us());
    }
    if cell.note_evidence(kind) {
        worker.shared.suspects.report(cell, &worker.shard);
    }
}
