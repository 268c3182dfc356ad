//! One record as one JSON object on one line. Keys and units are documented at [`push_line`]; does no I/O.

use super::text::{push_json, push_ms, push_number, push_time};
use super::{Access, NONE_US, TlsAccess, push_forwarded_for};

fn key(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn texts(out: &mut Vec<u8>, pairs: &[(&str, &str)]) {
    for (name, text) in pairs {
        key(out, name);
        push_json(out, text);
    }
}

fn numbers(out: &mut Vec<u8>, pairs: &[(&str, u64)]) {
    for (name, number) in pairs {
        key(out, name);
        push_number(out, *number);
    }
}

/// Appends the line with its line end.
///
/// Always there, in this order: `ts` (RFC 3339, UTC, arrival), `at` (`info`, `warning`, `error`), `code` (stable code
/// of the outcome), `phase`, then `h_code` only when one fits, `method`, `path` (with query), `host`, `request_id`,
/// `fwd`, `client` (address and port, or `unix`), `listener`, `app`, `route`, `cluster`, `dyno` (endpoint id),
/// `attempts`, then `retry_cause`, `limit` (which refused it; with another `code`, a shadow that would have), `queue_ms`,
/// `connect_ms`, `first_byte_ms`, `service_ms` only when they happened, `total_ms`, `status`, `bytes` (to the client), `bytes_in`, then `grpc_status` only of calls, `protocol`, `tls`, then
/// `tls_version`, `tls_cipher`, `sni` only over TLS, `generation`, `user_agent`.
/// Times are milliseconds with three decimals. Texts that are empty mean "none".
pub(super) fn push_line(out: &mut Vec<u8>, access: &Access<'_>) {
    out.extend_from_slice(b"{\"ts\":\"");
    push_time(out, access.started_unix_us);
    out.push(b'"');
    texts(
        out,
        &[
            ("at", super::level(access.outcome)),
            ("code", access.outcome.code()),
            ("phase", access.outcome.phase.word()),
        ],
    );
    if let Some(code) = access.outcome.h_code() {
        texts(out, &[("h_code", code)]);
    }
    texts(
        out,
        &[
            ("method", access.method),
            ("path", access.target),
            ("host", access.host),
            ("request_id", access.request_id),
        ],
    );
    key(out, "fwd");
    push_forwarded_for(out, access);
    key(out, "client");
    push_client(out, access);
    texts(
        out,
        &[
            ("listener", access.listener),
            ("app", access.route.app()),
            ("route", access.route.route()),
            ("cluster", access.cluster),
            ("dyno", access.dyno()),
        ],
    );
    numbers(out, &[("attempts", u64::from(access.attempts))]);
    if let Some(cause) = access.retry_cause {
        texts(out, &[("retry_cause", cause.code())]);
    }
    if !access.limit.is_empty() {
        texts(out, &[("limit", access.limit)]);
    }
    for (name, us) in [
        ("queue_ms", access.queue_us),
        ("connect_ms", access.connect_us),
        ("first_byte_ms", access.first_byte_us),
        ("service_ms", access.service_us),
    ] {
        if us != NONE_US {
            key(out, name);
            push_ms(out, u64::from(us));
        }
    }
    key(out, "total_ms");
    push_ms(out, access.total_us);
    numbers(
        out,
        &[("status", u64::from(access.status)), ("bytes", access.bytes_out), ("bytes_in", access.bytes_in)],
    );
    push_grpc(out, access);
    texts(out, &[("protocol", access.protocol.name())]);
    out.extend_from_slice(if access.tls.is_some() { b",\"tls\":true" } else { b",\"tls\":false" });
    if let Some(tls) = &access.tls {
        push_tls(out, tls);
    }
    numbers(out, &[("generation", access.generation)]);
    texts(out, &[("user_agent", &String::from_utf8_lossy(access.user_agent))]);
    out.extend_from_slice(b"}\n");
}

fn push_grpc(out: &mut Vec<u8>, access: &Access<'_>) {
    if let Some(status) = access.grpc_status {
        numbers(out, &[("grpc_status", u64::from(status.number()))]);
    }
}

fn push_tls(out: &mut Vec<u8>, tls: &TlsAccess<'_>) {
    texts(out, &[("tls_version", tls.version())]);
    key(out, "tls_cipher");
    let [first, rest] = tls.cipher_name();
    // Names of this library; nothing in them needs escaping.
    for piece in ["\"", first, rest, "\""] {
        out.extend_from_slice(piece.as_bytes());
    }
    texts(out, &[("sni", tls.name)]);
}

/// The peer's address between quotes; its display form needs no escaping.
fn push_client(out: &mut Vec<u8>, access: &Access<'_>) {
    use std::io::Write;
    let _ = match access.client {
        Some(client) => write!(out, "\"{client}\""),
        None => out.write_all(b"\"unix\""),
    };
}
