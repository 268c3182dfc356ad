//! What the end of an attempt says of its endpoint, and who is told.
//!
//! Called where an attempt's end is known (`forward`). Which ends are evidence is core's to say; who is ejected is decided
//! off the workers.

use std::sync::Arc;

use ekiden_core::cell::EndpointCell;
use ekiden_core::evidence::Evidence;
use ekiden_core::outcome::{Cause, Outcome};

use crate::exchange::leg::Home;
use crate::exchange::{Workspace, grpc};
use crate::head::FieldId;
use crate::worker::Worker;

/// An attempt ended without a complete response. `aged` says that the connection came from the pool and died before a byte
/// of the response: it may have died of age, which is nobody's fault.
pub fn failed(worker: &Worker, cell: &Arc<EndpointCell>, outcome: Outcome, aged: bool) {
    cell.note_failure();
    let kind = Evidence::of_failure(outcome).filter(|_| !aged);
    tell(worker, cell, kind);
}

/// An attempt ended with a complete response.
#[inline]
pub fn answered(worker: &Worker, ws: &Workspace) {
    let Some(home) = ws.leg.home() else { return };
    if ws.response.status < 500 && ws.call.is_none() {
        home.cell.note_served();
    } else {
        answered_perhaps_badly(worker, ws, home);
    }
}

#[cold]
fn answered_perhaps_badly(worker: &Worker, ws: &Workspace, home: &Home) {
    let code = ws.response.head.known(FieldId::XRouterError).filter(|_| home.peer_router);
    let code = code.and_then(|value| std::str::from_utf8(value).ok()).unwrap_or("");
    let peer = Cause::from_code(code.split(' ').next().unwrap_or(""));
    let kind = match &ws.call {
        Some(call) => grpc::evidence(ws, call, peer),
        None => Evidence::of_status(ws.response.status, peer),
    };
    match kind {
        Some(kind) => tell(worker, &home.cell, Some(kind)),
        None => home.cell.note_served(),
    }
}

fn tell(worker: &Worker, cell: &Arc<EndpointCell>, kind: Option<Evidence>) {
    if kind.is_some_and(|kind| cell.note_evidence(kind)) {
        worker.shared.suspects.report(cell, &worker.shard);
    }
}
