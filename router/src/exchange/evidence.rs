//! What the end of an attempt says of its endpoint, and who is told.
//!
//! Called where an attempt's end is known (`forward`). Which ends are evidence is core's to say; who is ejected is decided
//! off the workers.

use std::sync::Arc;
use std::time::Duration;

use ekiden_core::cell::EndpointCell;
use ekiden_core::cell::load::Load;
use ekiden_core::cell::seat::Tried;
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
    if let Some((took_us, at_us)) = well_begun(ws, home) {
        admitted.note(took_us, at_us);
    }
}

/// The final response head is there: its time is noted at the endpoint whose load is told, while it is news. A body may take days.
pub fn note_pace(ws: &Workspace, home: &Home) {
    if let Some((took_us, at_us)) = well_begun(ws, home) {
        home.cell.note_load(home.others, took_us, at_us);
    }
}

/// How long the endpoint took to begin its answer, and when it did; none where the head says that it failed, or where it came before
/// all of the request was sent.
fn well_begun(ws: &Workspace, home: &Home) -> Option<(u64, u64)> {
    let peer = peer_cause(&ws.response.head, home);
    let said = ws.call.as_ref().and_then(|call| grpc::evidence_at_head(call, peer));
    if said.or_else(|| Evidence::of_status(ws.response.status, peer)).is_some() {
        return None;
    }
    let (began, first_byte) = (ws.leg_began()?, ws.trace.first_byte_at?);
    (first_byte >= began).then(|| (first_byte.us_since(began), first_byte.us()))
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

/// Tells what came of a request that tries its endpoint.
#[inline]
fn tried(ws: &Workspace, home: &Home, how: Tried) {
    if let Some(trial) = &ws.tries.held.trial {
        trial.tell(home.cell.uid(), how);
    }
}

fn served(worker: &Worker, cluster: &ClusterTable, ws: &Workspace, home: &Home) {
    tried(ws, home, Tried::Well);
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
    // A refusal (429, 401) may take no time, and says nothing of what an answer would take, unless it is slow too.
    if ws.response.status < 400 || home.cell.latency_us().is_some_and(|known| took_us > known) {
        home.cell.note_latency(took_us, at_us);
    }
    if cluster.takes_reports() {
        take_report(worker, cluster, ws, (home, at_us));
    }
}

/// What an endpoint says of its load, or that it says nothing.
fn take_report(worker: &Worker, cluster: &ClusterTable, ws: &Workspace, (home, at_us): (&Home, u64)) {
    let Some(index) = cluster.position(home.cell.incarnation().id()) else { return };
    // Of another table: the id may be another endpoint's by now.
    if cluster.endpoint(index).is_none_or(|entry| entry.cell.uid() != home.cell.uid()) {
        return;
    }
    let now_us = worker.clock.turn().us();
    match ws.response.head.known(FieldId::XRouterLoad).and_then(Load::parse) {
        Some(load) => {
            cluster.report(index, load, (at_us, now_us));
            cluster.cell.shard(home.worker).load_reports.add(1);
        }
        None => cluster.said_nothing(index, now_us),
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
            tried(ws, home, Tried::Badly);
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
