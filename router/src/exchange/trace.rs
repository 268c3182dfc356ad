//! What an exchange notes on its way for the record: times, counts, names. Written once, at its end.
//!
//! Every exchange that has received a byte leaves exactly one record; the guard of the workspace writes it when the
//! future is dropped. Does not format (see `record`).

use std::sync::Arc;

use ekiden_config::names::EndpointId;
use ekiden_core::grpc::GrpcStatus;
use ekiden_core::outcome::{Cause, Outcome, Phase};
use ekiden_core::stats::ClusterCell;

use crate::clock::Moment;
use crate::exchange::tries::Held;
use crate::exchange::{Workspace, grpc};
use crate::record::{Access, NONE_US, Protocol, RouteNames, TlsAccess};
use crate::wire::Version;
use crate::worker::Worker;

/// Notes of one exchange.
#[derive(Debug, Default)]
pub struct Trace {
    /// When the first byte of the head was seen; none when no exchange is open.
    pub started: Option<Moment>,
    /// How far it came.
    pub phase: Phase,
    /// Generation of the table that matched.
    pub generation: u64,
    /// Status sent to the client, 0 before.
    pub status: u16,
    /// Cluster it was forwarded to.
    pub cluster: Option<Arc<ClusterCell>>,
    /// Endpoint of the last attempt.
    pub endpoint: Option<EndpointId>,
    /// Connections tried.
    pub attempts: u8,
    /// Why the last attempt but one ended.
    pub retry_cause: Option<Cause>,
    /// Wait for a first check or a slot.
    pub queue_us: Option<u32>,
    /// Connect time of the last attempt.
    pub connect_us: Option<u32>,
    /// When the leg was attached.
    pub leg_started: Option<Moment>,
    /// When the request was fully sent.
    pub sent_at: Option<Moment>,
    /// When the first response byte came.
    pub first_byte_at: Option<Moment>,
    /// Time to the end of the 101, when protocols were switched: what counts as the duration of the request.
    pub switched_us: Option<u64>,
    /// What a connection carries that is not HTTP.
    pub protocol: Option<Protocol>,
    /// Bytes from the client, head and body.
    pub bytes_in: u64,
    /// Bytes to the client.
    pub bytes_out: u64,
    /// Request id sent upstream.
    pub request_id: String,
    /// `X-Forwarded-For` sent upstream; empty when it is the peer alone.
    pub forwarded_for: String,
    /// The route's in-flight gauge was raised.
    pub counted_in: bool,
    /// The response was made by the router.
    pub router_made: bool,
    /// It is a question to an authorizer, or of a router for the load: no request of a client, and leaves no record.
    pub is_question: bool,
}

impl Trace {
    /// Begins a record.
    pub fn begin(&mut self, now: Moment) {
        #[cfg(test)]
        crate::simulation::ledger::begun(self.is_open());
        let (request_id, forwarded_for) =
            (std::mem::take(&mut self.request_id), std::mem::take(&mut self.forwarded_for));
        *self = Trace { started: Some(now), request_id, forwarded_for, ..Trace::default() };
        self.phase = Phase::Head;
        self.request_id.clear();
        self.forwarded_for.clear();
    }

    /// Whether an exchange has begun and not ended.
    pub fn is_open(&self) -> bool {
        self.started.is_some()
    }
}

fn micros(from: Option<Moment>, to: Option<Moment>) -> u32 {
    match (from, to) {
        (Some(from), Some(to)) => to.us_since(from).min(u64::from(NONE_US - 1)) as u32,
        _ => NONE_US,
    }
}

/// Ends the exchange: counts it and hands its record to the log. Ignored when it has ended already.
pub fn end(worker: &Worker, ws: &mut Workspace, cause: Cause) {
    let Some(started) = ws.trace.started.take() else { return };
    let now = worker.clock.turn();
    let outcome = cause.at(ws.trace.phase);
    #[cfg(test)]
    crate::simulation::ledger::ended(cause, ws.trace.phase);
    let total_us = now.us_since(started);
    let status = if ws.trace.status != 0 { ws.trace.status } else { outcome.status() };
    let grpc_status = if ws.call.is_some() { grpc::end(worker, ws, outcome, status) } else { None };
    count(worker, ws, cause, status, total_us);
    if !ws.trace.is_question && worker.recorder.borrow().is_on() {
        record(worker, ws, (outcome, grpc_status), status, started, now, total_us);
    }
    ws.route = None;
    ws.limits.end();
    ws.entrance.clear();
    ws.permit = None;
    ws.tries.held = Held::default();
    ws.tries.hedge = None;
    ws.trace.cluster = None;
    ws.trace.endpoint = None;
}

fn count(worker: &Worker, ws: &Workspace, cause: Cause, status: u16, total_us: u64) {
    let trace = &ws.trace;
    if !trace.is_question {
        worker.shard.ended(cause);
    }
    if let Some(route) = &ws.route {
        let shard = route.cell.shard(worker.id);
        shard.ended(status);
        shard.duration.record(trace.switched_us.unwrap_or(total_us));
        shard.bytes_in.add(trace.bytes_in);
        shard.bytes_out.add(trace.bytes_out);
        shard.router_made.add(u64::from(trace.router_made));
        if trace.counted_in {
            shard.in_flight.sub(1);
        }
    }
    if let Some(cluster) = &trace.cluster {
        let shard = cluster.shard(worker.id);
        shard.ended(status);
        shard.in_flight.sub(1);
        let first_byte = micros(trace.sent_at.or(trace.leg_started), trace.first_byte_at);
        if first_byte != NONE_US {
            shard.first_byte.record(u64::from(first_byte));
        }
    }
}

fn record(
    worker: &Worker,
    ws: &Workspace,
    (outcome, grpc_status): (Outcome, Option<GrpcStatus>),
    status: u16,
    started: Moment,
    now: Moment,
    total_us: u64,
) {
    let trace = &ws.trace;
    let route = ws.route.as_deref();
    let user_agent = ws.request.head.known(crate::head::FieldId::UserAgent).unwrap_or(b"");
    worker.recorder.borrow_mut().record(&Access {
        outcome,
        status,
        grpc_status,
        method: ws.request.method(),
        target: ws.request.target(),
        host: &ws.request.host,
        request_id: &trace.request_id,
        forwarded_for: &trace.forwarded_for,
        client: ws.peer,
        listener: ws.listener.as_ref().map_or("", |listener| listener.name.as_str()),
        route: route.map_or(RouteNames::default(), |entry| {
            RouteNames::new(&entry.names, entry.app_name.as_str().len())
        }),
        cluster: trace.cluster.as_ref().map_or("", |cluster| cluster.cluster.as_str()),
        endpoint: trace.endpoint.as_ref().map_or(&[], |id| id.as_bytes()),
        attempts: trace.attempts,
        retry_cause: trace.retry_cause,
        limit: ws.limits.named.as_deref().unwrap_or(""),
        started_unix_us: worker.clock.unix_us(started),
        queue_us: trace.queue_us.unwrap_or(NONE_US),
        connect_us: trace.connect_us.unwrap_or(NONE_US),
        first_byte_us: micros(trace.sent_at.or(trace.leg_started), trace.first_byte_at),
        service_us: micros(trace.leg_started, trace.leg_started.map(|_| now)),
        total_us,
        bytes_in: trace.bytes_in,
        bytes_out: trace.bytes_out,
        protocol: trace.protocol.unwrap_or(match ws.request.version {
            Version::Http10 => Protocol::Http10,
            Version::Http11 => Protocol::Http11,
            Version::Http2 => Protocol::Http2,
        }),
        tls: ws.session.as_ref().map(|session| TlsAccess {
            is_13: session.is_13,
            cipher: session.cipher,
            name: session.name.as_deref().unwrap_or(""),
        }),
        generation: trace.generation,
        user_agent,
    });
}
