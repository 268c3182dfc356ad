//! The deadline of a request across hops: taken from `X-Request-Deadline`, told to endpoints with what has passed taken off, and
//! anew with each try.
//!
//! Core says how long it is (`core::resilience::deadline`); the relay and the waits end at it.

use ekiden_config::model::{Listener, Timeouts};
use ekiden_core::outcome::Cause;
use ekiden_core::resilience::deadline;

use super::after_ms;
use crate::clock::Moment;
use crate::exchange::Workspace;
use crate::exchange::out::put_decimal;
use crate::exchange::tries::Tries;

/// Sets when the request is over. Called where the route takes deadlines.
///
/// # Errors
/// There is no time left.
#[cold]
pub(super) fn enter(
    ws: &mut Workspace,
    listener: &Listener,
    timeouts: &Timeouts,
    (started, now): (Moment, Moment),
) -> Result<(), Cause> {
    let trusted = ws.peer.is_some_and(|peer| listener.trusts(peer.ip().to_canonical()));
    let asked = deadline::asked(ws.request.head.get_all(b"x-request-deadline"));
    let Some((time, by_client)) = deadline::total(timeouts.total, asked, trusted) else { return Ok(()) };
    let at_ms = after_ms(started, time);
    (ws.tries.total_ms, ws.tries.by_client) = (Some(at_ms), by_client);
    if by_client && now.ms() >= at_ms { Err(Cause::DeadlineExceeded) } else { Ok(()) }
}

/// What a wait that ended for want of time came to: the deadline of the client, when that is over.
#[cold]
pub(super) fn over(ws: &Workspace, cause: Cause, now_ms: u64) -> Cause {
    let is_over = ws.tries.by_client && ws.tries.total_ms.is_some_and(|at_ms| now_ms >= at_ms);
    match cause {
        Cause::ConnectTimeout | Cause::QueueTimeout if is_over => Cause::DeadlineExceeded,
        other => other,
    }
}

/// Writes what is left at the end of the head that is being made, if there is an end.
#[cold]
pub(in crate::exchange) fn write(ws: &mut Workspace, now_ms: u64) {
    let Some(at_ms) = ws.tries.total_ms else { return };
    let out = ws.leg.output.buffer();
    out.extend_from_slice(b"X-Request-Deadline: ");
    let start = out.len();
    put_decimal(out, at_ms.saturating_sub(now_ms));
    ws.tries.deadline_field = Some((start, out.len()));
    out.extend_from_slice(b"\r\n");
}

/// Writes anew what is left, for a head that is sent again.
#[cold]
pub(super) fn rewrite(ws: &mut Workspace, now_ms: u64) {
    let end = rewrite_in(ws.leg.output.buffer(), &ws.tries, now_ms);
    if let (Some((_, place)), Some(end)) = (&mut ws.tries.deadline_field, end) {
        *place = end;
    }
}

/// The same in a copy of the head; gives where the number ends now.
pub(super) fn rewrite_in(out: &mut Vec<u8>, tries: &Tries, now_ms: u64) -> Option<usize> {
    let (at_ms, (start, end)) = tries.total_ms.zip(tries.deadline_field)?;
    let mut number = itoa::Buffer::new();
    let left = number.format(at_ms.saturating_sub(now_ms)).as_bytes();
    out.get(start..end)?;
    out.splice(start..end, left.iter().copied());
    Some(start + left.len())
}
