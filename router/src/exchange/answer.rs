//! The one place where the router makes a response of its own: errors, redirects, fixed responses.
//!
//! Every error carries its code in `X-Router-Error` (with the H-code beside it) and `Proxy-Status` (RFC 9209), and a
//! short body in the form the client accepts. Does not decide outcomes.

use std::fmt::Write;

use ekiden_config::model::Action;
use ekiden_core::outcome::{Cause, Outcome};

use crate::exchange::Workspace;
use crate::exchange::downstream::{Downstream, HeadKind};
use crate::exchange::entrance;
use crate::exchange::response_out::put_connection;
use crate::exchange::{grpc, secure};
use crate::head::FieldId;
use crate::worker::connection::Connection;

/// A response of the router's own.
#[derive(Debug)]
pub struct Answer<'a> {
    /// Status code.
    pub status: u16,
    /// Fields beside those every answer has.
    pub fields: &'a [(&'a str, &'a str)],
    /// Media type of the body.
    pub content_type: &'a str,
    /// The body.
    pub body: &'a str,
}

/// Methods named in `Allow` when the router refuses a method on every route.
pub(super) const ALLOWED_METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// Queues an answer. `keep` says whether the connection stays open.
///
/// # Errors
/// The client has gone.
pub fn write_answer<D: Downstream>(
    connection: &mut Connection<D>,
    ws: &mut Workspace,
    answer: &Answer<'_>,
    keep: bool,
) -> Result<(), Cause> {
    ws.trace.status = answer.status;
    ws.trace.router_made = true;
    let (worker, client) = (&connection.worker, &mut connection.stream);
    let out = &mut ws.client_out;
    client.begin_head(out, answer.status, reason(answer.status).as_bytes());
    client.field(out, b"Date", &worker.clock.http_date());
    secure::own_hsts(worker, ws.session.is_some(), ws.listener.as_deref(), |name, value| {
        client.field(out, name, value);
    });
    for (name, value) in answer.fields {
        client.field(out, name.as_bytes(), value.as_bytes());
    }
    ws.limits.put(|name, value| client.field(out, name, value));
    ws.cors.put(ws.route.as_deref(), |name, value| client.field(out, name, value));
    let bodiless = matches!(answer.status, 204 | 304);
    if !bodiless {
        client.field(out, b"Content-Type", answer.content_type.as_bytes());
    }
    // Clients of gRPC would take it for metadata.
    let is_call = D::IS_STREAM && ws.call.is_some();
    if !bodiless && !is_call {
        client.field(out, b"Content-Length", itoa::Buffer::new().format(answer.body.len()).as_bytes());
    }
    put_connection(out.buffer(), &ws.request, keep);
    let body = if bodiless || ws.request.is_head { "" } else { answer.body };
    let kind = if body.is_empty() { HeadKind::FinalAlone } else { HeadKind::Final };
    ws.trace.bytes_out += client.end_head(out, kind)?;
    out.buffer().extend_from_slice(body.as_bytes());
    Ok(())
}

/// Queues the answer for an outcome. `allow` is the value of `Allow` for a 405.
///
/// # Errors
/// The client has gone.
pub fn write_error<D: Downstream>(
    connection: &mut Connection<D>,
    ws: &mut Workspace,
    outcome: Outcome,
    allow: Option<&str>,
    keep: bool,
) -> Result<(), Cause> {
    write_error_as(connection, ws, outcome, outcome.status(), allow, keep)
}

/// As [`write_error`], with another status than the outcome's own.
///
/// # Errors
/// The client has gone.
pub fn write_error_as<D: Downstream>(
    connection: &mut Connection<D>,
    ws: &mut Workspace,
    outcome: Outcome,
    status: u16,
    allow: Option<&str>,
    keep: bool,
) -> Result<(), Cause> {
    let mut code = String::from(outcome.code());
    if let Some(h_code) = outcome.h_code() {
        let _ = write!(code, " {h_code}");
    }
    let proxy_status = match outcome.proxy_status() {
        Some(error) => format!("ekiden; error={error}; details=\"{}\"", outcome.code()),
        None => format!("ekiden; details=\"{}\"", outcome.code()),
    };
    let retry_after = outcome.retry_after().map(|seconds| seconds.to_string());
    let mut fields = vec![
        ("X-Router-Error", code.as_str()),
        ("Proxy-Status", &proxy_status),
        ("Cache-Control", "no-store"),
    ];
    if let Some(seconds) = &retry_after {
        fields.push(("Retry-After", seconds));
    }
    if status == 405 {
        fields.push(("Allow", allow.unwrap_or(ALLOWED_METHODS)));
    }
    let challenges =
        if status == 401 { entrance::challenges(ws.route.as_deref(), &ws.entrance) } else { Vec::new() };
    fields.extend(challenges.iter().map(|challenge| ("WWW-Authenticate", challenge.as_str())));
    if !ws.trace.request_id.is_empty() {
        fields.push(("X-Request-Id", &ws.trace.request_id));
    }
    let fields: Vec<(String, String)> =
        fields.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    let fields: Vec<(&str, &str)> = fields.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    if let Some(kind) = grpc::kind(ws) {
        return grpc::write_error(connection, ws, outcome, (kind, &fields), keep);
    }
    let accept = ws.request.head.known(FieldId::Accept).unwrap_or(b"");
    let limit = ws.limits.named.as_deref().filter(|_| status == 429);
    let (content_type, body) = match maintenance_page(ws, outcome) {
        Some(page) if mentions(accept, b"text/html") => ("text/html; charset=utf-8", page.to_owned()),
        Some(_) | None => error_body(outcome, status, accept, &ws.trace.request_id, limit),
    };
    write_answer(connection, ws, &Answer { status, fields: &fields, content_type, body: &body }, keep)
}

/// The page of an app in maintenance, when it is that which answers and has one.
fn maintenance_page(ws: &Workspace, outcome: Outcome) -> Option<&str> {
    let route = ws.route.as_deref().filter(|_| outcome.cause == Cause::Maintenance)?;
    match &route.route.action {
        Action::Maintenance(page) => page.as_deref(),
        Action::Forward(_) | Action::Redirect(_) | Action::Fixed(_) => None,
    }
}

/// The type of problem that draft-ietf-httpapi-ratelimit-headers registers.
const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";

/// The body of an error; `limit` is the rate limit that refused the request.
fn error_body(
    outcome: Outcome,
    status: u16,
    accept: &[u8],
    request_id: &str,
    limit: Option<&str>,
) -> (&'static str, String) {
    let (title, words, code) = (reason(status), outcome.words(), outcome.code());
    let h_code = outcome.h_code().unwrap_or("");
    if mentions(accept, b"text/html") {
        let body = format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{status} {title}</title>\
             <style>body{{font:16px/1.5 system-ui,sans-serif;max-width:36em;margin:15vh auto;padding:0 1em}}\
             code{{color:#666}}</style><h1>{status} {title}</h1><p>{words}</p><p><code>{code} {h_code} {request_id}</code></p></html>\n"
        );
        return ("text/html; charset=utf-8", body);
    }
    if mentions(accept, b"json") {
        let mut problem = serde_json::json!({
            "type": if limit.is_some() { QUOTA_EXCEEDED } else { "about:blank" }, "title": title, "status": status, "detail": words,
            "code": code, "h_code": outcome.h_code(), "request_id": request_id,
        });
        if let (Some(members), Some(limit)) = (problem.as_object_mut(), limit) {
            members.insert("violated-policies".to_owned(), serde_json::json!([limit]));
        }
        return ("application/problem+json", format!("{problem}\n"));
    }
    ("text/plain; charset=utf-8", format!("{status} {title}: {words} ({code})\n"))
}

fn mentions(accept: &[u8], media: &[u8]) -> bool {
    memchr::memmem::find(&accept.to_ascii_lowercase(), media).is_some()
}

/// The registered reason phrase of a status the router may send.
pub fn reason(status: u16) -> &'static str {
    if status == 499 {
        return "Client Closed Request";
    }
    http::StatusCode::from_u16(status).ok().and_then(|code| code.canonical_reason()).unwrap_or("Unknown")
}
