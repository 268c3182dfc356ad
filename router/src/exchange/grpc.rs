//! The gRPC call that an exchange carries: its deadline, how it ended, and how the router ends it.
//!
//! What a status means and which outcome gives which is core's to say (`core::grpc`). Calls are known by the
//! `Content-Type` of the request: of HTTP/2, and of HTTP/1 where the route turns gRPC-web into gRPC. Does not relay.

use ekiden_core::evidence::Evidence;
use ekiden_core::grpc::{GrpcStatus, Kind, status, timeout};
use ekiden_core::outcome::{Cause, Outcome};

use crate::exchange::answer::{Answer, write_answer};
use crate::exchange::downstream::Downstream;
use crate::exchange::leg::Leg;
use crate::exchange::web::Web;
use crate::exchange::{Workspace, run};
use crate::head::FieldId;
use crate::wire::Version;
use crate::wire::chunked::trailer_fields;
use crate::worker::Worker;
use crate::worker::connection::Connection;

const STATUS: &[u8] = b"grpc-status";
const TIMEOUT: &[u8] = b"grpc-timeout";

/// What is known of a call.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// The form in which the client speaks it.
    pub kind: Kind,
    /// When the client gives up, in microseconds of the worker's clock; none without a `grpc-timeout`.
    deadline_us: Option<u64>,
    /// There is a `grpc-timeout`, and it cannot be read.
    is_malformed: bool,
    /// What the endpoint said last.
    said: Option<GrpcStatus>,
}

impl Call {
    fn new(kind: Kind) -> Self {
        Self { kind, deadline_us: None, is_malformed: false, said: None }
    }

    /// The wheel's time at which the client gives up.
    pub fn deadline_ms(&self) -> Option<u64> {
        self.deadline_us.map(|us| us.div_ceil(1_000))
    }

    /// Whether the client set a deadline.
    pub fn has_deadline(&self) -> bool {
        self.deadline_us.is_some()
    }

    /// Takes the status out of a section of trailers.
    pub fn note_trailers(&mut self, section: &[u8]) {
        for (name, value) in trailer_fields(section) {
            if name.eq_ignore_ascii_case(STATUS) {
                self.said = Some(GrpcStatus::read(value));
            }
        }
    }
}

/// Finds out whether the request is a call. Called when its route is known, for requests of HTTP/2 and where the route turns
/// gRPC-web.
pub fn begin(ws: &mut Workspace, turns_web: bool) {
    let Some(content_type) = ws.request.head.known(FieldId::ContentType) else { return };
    let Some((kind, messages)) = Kind::of(content_type) else { return };
    let mut call = Call::new(kind);
    let started_us = ws.trace.started.map_or(0, |started| started.us());
    let mut values = ws.request.head.get_all(TIMEOUT);
    if let Some(value) = values.next() {
        call.deadline_us = timeout::read(value).map(|us| started_us.saturating_add(us));
        call.is_malformed = call.deadline_us.is_none() || values.next().is_some();
    }
    if turns_web && kind.is_web() {
        ws.web = Some(Box::new(Web::new(kind, messages, &ws.request)));
    }
    ws.call = Some(call);
}

/// Whether there is time left to begin with, as far as the client says it.
///
/// # Errors
/// There is none, or it is not said as it should be.
#[inline]
pub fn in_time(worker: &Worker, ws: &Workspace) -> Result<(), Cause> {
    match &ws.call {
        Some(call) if call.is_malformed => Err(Cause::GrpcTimeoutMalformed),
        Some(call) if call.deadline_us.is_some_and(|us| us <= worker.clock.turn().us()) => {
            Err(Cause::DeadlineExceeded)
        }
        Some(_) | None => Ok(()),
    }
}

/// The sooner of the route's deadline and the client's.
#[inline]
pub fn sooner(total_ms: Option<u64>, call: Option<&Call>) -> Option<u64> {
    match call.and_then(Call::deadline_ms) {
        Some(deadline_ms) => Some(total_ms.map_or(deadline_ms, |total_ms| total_ms.min(deadline_ms))),
        None => total_ms,
    }
}

/// What took too long may have done so because the client had no more time.
pub fn judge_late(worker: &Worker, ws: &Workspace, cause: Cause) -> Cause {
    let timed_out = matches!(cause, Cause::TotalTimeout | Cause::ConnectTimeout | Cause::QueueTimeout);
    let deadline_ms = ws.call.as_ref().and_then(Call::deadline_ms);
    if timed_out && deadline_ms.is_some_and(|at_ms| at_ms <= worker.now_ms()) {
        return Cause::DeadlineExceeded;
    }
    cause
}

/// Makes the request's head one for the endpoint: the time that is left, and gRPC in place of gRPC-web.
#[cold]
pub fn prepare(worker: &Worker, ws: &mut Workspace, total_ms: Option<u64>) {
    if let Some(web) = &ws.web {
        web.prepare(&mut ws.request);
    }
    if let Some(left) = left(worker, ws, total_ms) {
        ws.request.head.set(TIMEOUT, left.as_bytes());
    }
}

/// The time that is left, as `grpc-timeout` says it.
fn left(worker: &Worker, ws: &Workspace, total_ms: Option<u64>) -> Option<String> {
    let call = ws.call.as_ref()?;
    let total_us = total_ms.map(|total_ms| total_ms.saturating_mul(1_000));
    let over_us = match (call.deadline_us, total_us) {
        (Some(own), Some(total)) => own.min(total),
        (Some(only), None) | (None, Some(only)) => only,
        (None, None) => return None,
    };
    // Zero is what some servers take for no deadline at all.
    Some(timeout::write(over_us.saturating_sub(worker.clock.turn().us()).max(1)))
}

/// The head is to be sent once more, and less time is left.
#[cold]
pub fn refresh(worker: &Worker, ws: &mut Workspace, total_ms: Option<u64>) {
    let Some(left) = left(worker, ws, total_ms) else { return };
    let out = ws.leg.output.buffer();
    let head_end = memchr::memmem::find(out, b"\r\n\r\n").unwrap_or(out.len());
    let head = out.get(..head_end).unwrap_or(&[]);
    let Some(at) = memchr::memmem::find(head, b"\r\ngrpc-timeout: ") else { return };
    let from = at + b"\r\ngrpc-timeout: ".len();
    let length = memchr::memchr(b'\r', out.get(from..).unwrap_or(&[])).unwrap_or(0);
    out.splice(from..from + length, left.bytes());
    // The other deadline may stand behind it, and be written anew next.
    if let Some((start, end)) = &mut ws.tries.deadline_field
        && *start > from
    {
        let moved = |place: usize| (place + left.len()).saturating_sub(length);
        (*start, *end) = (moved(*start), moved(*end));
    }
}

/// A response's head has come: the status stands in it when there is nothing else, and gRPC-web has it turned.
#[cold]
pub fn take_head(ws: &mut Workspace) {
    if let Some(web) = &mut ws.web {
        web.turn(&mut ws.response);
    }
    let said = ws.response.head.get(STATUS).map(GrpcStatus::read);
    if let Some(call) = &mut ws.call {
        call.said = said;
    }
}

/// What a complete response of the endpoint says against it; `peer` is the code that an endpoint, itself a router, gave.
pub fn evidence(ws: &Workspace, call: &Call, peer: Option<Cause>) -> Option<Evidence> {
    match (call.said, ws.response.status) {
        (Some(said), _) => Evidence::of_grpc(said, call.has_deadline(), peer),
        // It answers calls, and not to their end. What is no server of gRPC is not judged as one: a client chooses what it calls
        // its request.
        (None, 200) if answers_calls(ws) && (ws.web.is_some() || !call.kind.is_web()) => {
            Evidence::of_grpc(GrpcStatus::Unknown, call.has_deadline(), peer)
        }
        (None, status) => Evidence::of_status(status, peer),
    }
}

/// What the head of a response says against the endpoint, where it says how the call ended.
pub fn evidence_at_head(call: &Call, peer: Option<Cause>) -> Option<Evidence> {
    Evidence::of_grpc(call.said?, call.has_deadline(), peer)
}

fn answers_calls(ws: &Workspace) -> bool {
    ws.response.head.get(b"content-type").and_then(Kind::of).is_some()
}

/// How the call ended for its client; none when that is not known. Ends the call, and counts it at its route.
#[cold]
pub fn end(worker: &Worker, ws: &mut Workspace, outcome: Outcome, status: u16) -> Option<GrpcStatus> {
    let (call, web) = (ws.call.take()?, ws.web.take());
    let ended = match (outcome.cause, call.said, status) {
        (Cause::Complete, Some(said), _) => said,
        // It stands in the body.
        (Cause::Complete, None, 200) if call.kind.is_web() && web.is_none() => return None,
        (Cause::Complete, None, status) => GrpcStatus::of_http(status),
        (_, _, _) => of_failure(&ws.leg, outcome),
    };
    if let Some(route) = &ws.route {
        route.cell.ended_grpc(worker.id, ended);
    }
    Some(ended)
}

/// The status of a call that the router ends.
fn of_failure(leg: &Leg, outcome: Outcome) -> GrpcStatus {
    match leg.reset_code {
        // The endpoint's own word, which clients know how to read.
        Some(code) if outcome.cause == Cause::UpstreamReset => GrpcStatus::of_reset(code),
        _ => GrpcStatus::of_outcome(outcome),
    }
}

/// Whether an error is to be told in the words of gRPC. Off the plain path.
pub fn kind(ws: &mut Workspace) -> Option<Kind> {
    if ws.call.is_none() {
        let content_type = ws.request.head.known(FieldId::ContentType)?;
        // gRPC itself is not spoken over HTTP/1.
        let found = Kind::of(content_type).map(|(kind, _)| kind);
        let kind = found.filter(|kind| kind.is_web() || ws.request.version == Version::Http2)?;
        ws.call = Some(Call::new(kind));
    }
    ws.call.as_ref().map(|call| call.kind)
}

/// Queues the answer for an outcome: a head that says all ("trailers-only"). `fields` are those of any error.
///
/// # Errors
/// The client has gone.
pub fn write_error<D: Downstream>(
    connection: &mut Connection<D>,
    ws: &mut Workspace,
    outcome: Outcome,
    (kind, fields): (Kind, &[(&str, &str)]),
    keep: bool,
) -> Result<(), Cause> {
    let number = of_failure(&ws.leg, outcome).number().to_string();
    let message = status::message(outcome);
    let fields = [fields, &[("grpc-status", &*number), ("grpc-message", &*message)]].concat();
    let answer = Answer { status: 200, fields: &fields, content_type: kind.media_type(), body: "" };
    write_answer(connection, ws, &answer, keep)?;
    // Records speak of what happened.
    ws.trace.status = outcome.status();
    Ok(())
}

/// Ends a call whose response has begun with trailers that say why, in place of a reset that says nothing. Only where the
/// client has taken all that was sent to it. False when that cannot be done.
pub async fn end_in_trailers<D: Downstream>(
    connection: &mut Connection<D>,
    ws: &mut Workspace,
    outcome: Outcome,
) -> bool {
    let number = of_failure(&ws.leg, outcome).number().to_string();
    let message = status::message(outcome);
    let fields = [(STATUS, number.as_bytes()), (b"grpc-message", message.as_bytes())];
    ws.client_out.clear();
    match &ws.web {
        Some(web) if web.is_turned() => web.put_trailers(ws.client_out.buffer(), fields.into_iter()),
        Some(_) => return false,
        // Whose trailers stand in the body, which is the endpoint's.
        None if ws.call.is_some_and(|call| call.kind.is_web()) => return false,
        None if !D::IS_STREAM => return false,
        None => {
            let put = connection.stream.trailers(&mut ws.client_out, |put| {
                fields.iter().for_each(|(name, value)| put(name, value));
                Ok(())
            });
            if put.is_err() {
                return false;
            }
        }
    }
    run::flush(connection, ws, true).await.is_ok()
}
