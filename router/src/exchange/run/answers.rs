//! Answers that need no endpoint: errors of the router's own, redirects and backends, and how they get to the client. What they say is
//! made in `answer`.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use ekiden_config::model::Action;
use ekiden_core::edit;
use ekiden_core::outcome::{Blame, Cause, Phase};
use ekiden_core::table::RouteEntry;

use crate::exchange::answer::{self, Answer, write_answer, write_error};
use crate::exchange::backend::{Backend, Fixed, Reply};
use crate::exchange::downstream::{Downstream, HeadKind};
use crate::exchange::out::put_chunk_size;
use crate::exchange::response_out::put_connection;
use crate::exchange::{After, Workspace, forward, secure, trace};
use crate::wire::Version;
use crate::wire::body::Framing;
use crate::worker::Worker;
use crate::worker::connection::Connection;

/// Whether the connection can go on after an answer that did not read the body.
pub fn may_keep(worker: &Worker, ws: &Workspace) -> bool {
    // Behind a request for another protocol come bytes of that protocol, which are no request; some may be on their way.
    let is_switching = ws.upgrade.is_some() || ws.request.asks_upgrade && !ws.client_in.is_empty();
    ws.request.keep_alive && ws.request.framing == Framing::None && !is_switching && !worker.is_leaving()
}

/// Ends the exchange with an error of the router's own.
pub async fn refuse<D: Downstream>(
    connection: &mut Connection<D>,
    ws: &mut Workspace,
    cause: Cause,
    allow: Option<String>,
) -> After {
    let worker = std::rc::Rc::clone(&connection.worker);
    ws.mirror = None;
    let outcome = cause.at(ws.trace.phase);
    if forward::is_client_gone(cause) {
        trace::end(&worker, ws, cause);
        return After::Close;
    }
    let head_fault = ws.trace.phase <= Phase::Head;
    let keep = !head_fault
        && may_keep(&worker, ws)
        && !(outcome.blame() == Blame::Client && outcome.status() == 400);
    let written = match write_error(connection, ws, outcome, allow.as_deref(), keep) {
        Ok(()) => flush(connection, ws, true).await,
        Err(cause) => Err(cause),
    };
    trace::end(&worker, ws, written.err().unwrap_or(cause));
    match (written, keep) {
        (Ok(()), true) => After::Keep,
        (Ok(()), false) => After::Linger,
        (Err(_), _) => After::Close,
    }
}

/// Redirects and backends: responses that need no endpoint.
pub(super) async fn act<D: Downstream>(
    connection: &mut Connection<D>,
    ws: &mut Workspace,
    entry: &Arc<RouteEntry>,
) -> After {
    let worker = std::rc::Rc::clone(&connection.worker);
    let keep = may_keep(&worker, ws);
    let cause = match &entry.route.action {
        Action::Redirect(redirect) => {
            let location = edit::redirect_location(redirect, &entry.route.path, &redirect_request(ws));
            let fields = [("Location", location.as_str())];
            let body = format!("See {location}\n");
            let found = Answer {
                status: redirect.status,
                fields: &fields,
                content_type: "text/plain; charset=utf-8",
                body: &body,
            };
            send_answer(connection, ws, &found, keep).await
        }
        Action::Fixed(fixed) => {
            let reply = Fixed(fixed).start(&ws.request);
            answer_from_backend(connection, ws, reply, keep).await
        }
        Action::Maintenance(_) => return refuse(connection, ws, Cause::Maintenance, None).await,
        Action::Forward(_) => Cause::ClusterGone,
    };
    end_answered(&worker, ws, cause, keep)
}

/// Writes an answer of the router's own and sees it on its way; gives how that ended.
pub async fn send_answer<D: Downstream>(
    connection: &mut Connection<D>,
    ws: &mut Workspace,
    found: &Answer<'_>,
    keep: bool,
) -> Cause {
    match write_answer(connection, ws, found, keep) {
        Ok(()) => flush(connection, ws, true).await.err().unwrap_or(Cause::Complete),
        Err(cause) => cause,
    }
}

/// Ends an exchange that the router has answered itself; gives what becomes of the connection.
pub fn end_answered(worker: &Worker, ws: &mut Workspace, cause: Cause, keep: bool) -> After {
    trace::end(worker, ws, cause);
    match (cause, keep) {
        (Cause::Complete, true) => After::Keep,
        (Cause::Complete, false) => After::Linger,
        _ => After::Close,
    }
}

fn redirect_request(ws: &Workspace) -> edit::RedirectRequest<'_> {
    edit::RedirectRequest {
        scheme: if ws.session.is_some() { "https" } else { "http" },
        host: &ws.request.host,
        port: ws.request.port,
        path: &ws.path,
        query: ws.request.query().unwrap_or(""),
    }
}

/// Streams a backend's reply to the client.
pub async fn answer_from_backend<D: Downstream>(
    connection: &mut Connection<D>,
    ws: &mut Workspace,
    reply: Reply,
    keep: bool,
) -> Cause {
    let Reply { status, fields, mut body } = reply;
    let length = body.as_ref().map_or(Some(0), |body| body.length());
    let chunked = length.is_none() && ws.request.version == Version::Http11;
    ws.trace.status = status;
    ws.trace.router_made = true;
    let head_only = ws.request.is_head || matches!(status, 204 | 304);
    let (client, out) = (&mut connection.stream, &mut ws.client_out);
    client.begin_head(out, status, answer::reason(status).as_bytes());
    client.field(out, b"Date", &connection.worker.clock.http_date());
    secure::own_hsts(&connection.worker, ws.session.is_some(), ws.listener.as_deref(), |name, value| {
        client.field(out, name, value);
    });
    for (name, value) in &fields {
        client.field(out, name.as_bytes(), value.as_bytes());
    }
    match length {
        Some(length) if status != 204 => {
            client.field(out, b"Content-Length", length.to_string().as_bytes());
        }
        None if chunked => client.field(out, b"Transfer-Encoding", b"chunked"),
        _ => {}
    }
    ws.limits.put(|name, value| client.field(out, name, value));
    ws.cors.put(ws.route.as_deref(), |name, value| client.field(out, name, value));
    put_connection(out.buffer(), &ws.request, keep && (chunked || length.is_some()));
    let alone = head_only || length == Some(0);
    match client.end_head(out, if alone { HeadKind::FinalAlone } else { HeadKind::Final }) {
        Ok(sent) => ws.trace.bytes_out += sent,
        Err(cause) => return cause,
    }
    let mut piece = Vec::new();
    while let Some(source) = body.as_mut().filter(|_| !head_only) {
        piece.clear();
        let more = poll_fn(|cx| source.poll_piece(cx, &mut piece)).await;
        let out = ws.client_out.buffer();
        if chunked && !piece.is_empty() {
            put_chunk_size(out, piece.len());
        }
        out.extend_from_slice(&piece);
        if chunked && !piece.is_empty() {
            out.extend_from_slice(b"\r\n");
        }
        match more {
            Ok(true) => {}
            Ok(false) => {
                out.extend_from_slice(if chunked { b"0\r\n\r\n" } else { b"" });
                break;
            }
            Err(_) => return Cause::BackendFailed,
        }
        if let Err(cause) = flush(connection, ws, false).await {
            return cause;
        }
    }
    flush(connection, ws, true).await.err().unwrap_or(Cause::Complete)
}

/// Writes what is queued for the client. `last` says that the response ends with it.
///
/// # Errors
/// The client went away, or took nothing for the idle time, or too little.
pub async fn flush<D: Downstream>(
    connection: &mut Connection<D>,
    ws: &mut Workspace,
    last: bool,
) -> Result<(), Cause> {
    let idle_ms = ws.route.as_ref().map_or(FLUSH_IDLE_MS, |entry| {
        u64::try_from(entry.route.timeouts.idle.as_millis()).unwrap_or(FLUSH_IDLE_MS)
    });
    let mut over_ms = connection.worker.now_ms() + idle_ms;
    let mut held = 0;
    poll_fn(|cx| {
        if connection.stream.held() < held {
            held = connection.stream.held();
            over_ms = connection.worker.now_ms() + idle_ms;
        }
        loop {
            let done = ws.client_out.pending() == 0;
            let wrote = if done {
                connection.stream.poll_flush(cx).map_ok(|()| 0)
            } else {
                let client = &mut connection.stream;
                client.poll_write(cx, &mut ws.client_out, &[], last).map_ok(|written| written.total)
            };
            match wrote {
                Poll::Ready(Ok(_)) if done => break,
                Poll::Ready(Ok(written)) => {
                    ws.trace.bytes_out += written as u64;
                    over_ms = connection.worker.now_ms() + idle_ms;
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Err(connection.stream.loss())),
                Poll::Pending => {
                    held = connection.stream.held();
                    let now_ms = connection.worker.now_ms();
                    let slow_ms = slow_at(connection, ws, now_ms, idle_ms);
                    if connection.worker.is_forced() {
                        return Poll::Ready(Err(Cause::ClientGone));
                    }
                    if now_ms >= over_ms.min(slow_ms) {
                        let idle = over_ms <= slow_ms;
                        return Poll::Ready(Err(if idle { Cause::ClientIdle } else { Cause::ClientTooSlow }));
                    }
                    connection.deadline.set(over_ms.min(slow_ms), cx.waker());
                    return Poll::Pending;
                }
            }
        }
        ws.client_out.clear();
        Poll::Ready(if last { connection.stream.finish() } else { Ok(()) })
    })
    .await
}

/// When a client that does not take an answer of the router's own is too slow. Off the plain path.
fn slow_at<D: Downstream>(connection: &Connection<D>, ws: &mut Workspace, now_ms: u64, idle_ms: u64) -> u64 {
    let settings = connection.worker.with_table(|table| connection.listener.settings(table));
    match settings.and_then(|settings| settings.listener.limits.min_response_rate) {
        Some(rate) => {
            let sent = ws.trace.bytes_out.saturating_sub(connection.stream.held() as u64);
            ws.read_pace.wait(now_ms, sent, rate, idle_ms)
        }
        None => u64::MAX,
    }
}

/// Idle time of a client that reads an answer no route speaks for.
const FLUSH_IDLE_MS: u64 = 55_000;
