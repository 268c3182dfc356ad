//! Reads the head of one request of HTTP/1, within its bounds and its time. Does not match it to a route.

use std::future::poll_fn;
use std::task::{Context, Poll};

use ekiden_config::model::Listener;
use ekiden_core::outcome::Cause;

use crate::exchange::Workspace;
use crate::wire::request::Rules;
use crate::wire::scan::{Bounds, Found, Scan};
use crate::worker::connection::Connection;

/// Why there is no head.
pub(super) enum NoHead {
    /// Nothing has come: the connection was taken for readable too early.
    NotYet,
    /// The client closed without having sent a byte.
    Silent,
    /// The head was refused, or never ended.
    Refused(Cause),
}

/// What a listener takes of a head.
pub fn head_rules(listener: &Listener) -> (Bounds, Rules) {
    let limits = &listener.limits;
    let bounds = Bounds {
        first_line: limits.request_line as usize,
        field: limits.field as usize,
        head: limits.head as usize,
        fields: usize::from(limits.fields),
    };
    (bounds, Rules { fields: usize::from(limits.fields), allow_underscore: listener.allow_underscore })
}

pub(super) async fn read_head(
    connection: &mut Connection,
    ws: &mut Workspace,
    listener: &Listener,
) -> Result<(), NoHead> {
    let (bounds, rules) = head_rules(listener);
    let head_ms = u64::try_from(listener.limits.head_deadline.as_millis()).unwrap_or(u64::MAX);
    let mut scan = Scan::default();
    let mut over_ms = None;
    let mut skipped = false;
    ws.begin();
    poll_fn(|cx| {
        poll_head(cx, connection, ws, &mut scan, &bounds, rules, head_ms, &mut over_ms, &mut skipped)
    })
    .await
}

/// How a request begins whose answer has no body.
const HEAD: &[u8] = b"HEAD ";

/// A head that is refused, as far as it has come: the answer to a HEAD has no body, whatever is wrong with it.
#[cold]
fn refused_head(ws: &mut Workspace, cause: Cause) -> NoHead {
    let bytes = ws.client_in.bytes();
    let known = bytes.get(..HEAD.len()).unwrap_or(bytes);
    // What may still become one is taken for one: the connection ends anyway.
    ws.request.is_head = HEAD.starts_with(known);
    NoHead::Refused(cause)
}

#[expect(clippy::too_many_arguments, reason = "the captured state of one poll_fn")]
fn poll_head(
    cx: &mut Context<'_>,
    connection: &mut Connection,
    ws: &mut Workspace,
    scan: &mut Scan,
    bounds: &Bounds,
    rules: Rules,
    head_ms: u64,
    over_ms: &mut Option<u64>,
    skipped: &mut bool,
) -> Poll<Result<(), NoHead>> {
    let worker = &connection.worker;
    loop {
        if !ws.client_in.is_empty() {
            if !ws.trace.is_open() {
                // One empty line before a request line is forgiven (RFC 9112 section 2.2), in one piece or two.
                if !*skipped && matches!(ws.client_in.bytes(), [b'\r', b'\n', ..]) {
                    *skipped = true;
                    ws.client_in.consume(2);
                    continue;
                }
                if *skipped || ws.client_in.bytes() != b"\r" {
                    let now = worker.clock.turn();
                    ws.trace.begin(now);
                    *over_ms = Some(now.ms() + head_ms);
                }
            }
            match scan.look(ws.client_in.bytes(), bounds) {
                Err(cause) => return Poll::Ready(Err(refused_head(ws, cause))),
                Ok(Found::Head(length)) => {
                    let bytes = ws.client_in.bytes().get(..length).unwrap_or(&[]);
                    let judged = ws.request.parse(bytes, rules).map_err(|cause| refused_head(ws, cause));
                    ws.trace.bytes_in = length as u64;
                    ws.client_in.consume(length);
                    return Poll::Ready(judged);
                }
                Ok(Found::More) => {}
            }
        }
        if !worker.buffers.make_room(&mut ws.client_in) {
            return Poll::Ready(Err(refused_head(ws, Cause::HeadTooLarge)));
        }
        match ws.client_in.poll_read(cx, &mut connection.stream) {
            Poll::Ready(Ok(count)) if count > 0 => {}
            Poll::Ready(_) if ws.trace.is_open() => {
                return Poll::Ready(Err(NoHead::Refused(Cause::ClientGone)));
            }
            Poll::Ready(_) => return Poll::Ready(Err(NoHead::Silent)),
            Poll::Pending if !ws.trace.is_open() && ws.client_in.is_empty() && !*skipped => {
                return Poll::Ready(Err(NoHead::NotYet));
            }
            Poll::Pending => {
                let now_ms = worker.now_ms();
                let at_ms = *over_ms.get_or_insert(now_ms + head_ms);
                if worker.is_forced() {
                    return Poll::Ready(Err(refused_head(ws, Cause::Drained)));
                }
                if now_ms >= at_ms {
                    // A lone CR is not a head that could be answered.
                    let open = ws.trace.is_open();
                    return Poll::Ready(Err(if open {
                        refused_head(ws, Cause::HeadTimeout)
                    } else {
                        NoHead::Silent
                    }));
                }
                connection.deadline.set(at_ms, cx.waker());
                return Poll::Pending;
            }
        }
    }
}
