//! One record as one line of the Heroku router's logfmt, in its order, so that the parsers people have keep working.
//! Does no I/O.

use super::text::{push_json, push_logfmt, push_number};
use super::{Access, NONE_US, push_forwarded_for};

fn key(out: &mut Vec<u8>, name: &str) {
    out.push(b' ');
    out.extend_from_slice(name.as_bytes());
    out.push(b'=');
}

fn push_whole_ms(out: &mut Vec<u8>, name: &str, us: u32) {
    key(out, name);
    if us != NONE_US {
        push_number(out, (u64::from(us) + 500) / 1000);
        out.extend_from_slice(b"ms");
    }
}

/// Appends the line with its line end: `at= [code= desc=] method= path="" host= request_id= fwd="" dyno= connect=
/// service= status= bytes= protocol= [tls_version= tls_cipher= sni=] [error=] [limit=]
/// [grpc_status=]`. `code` is the H-code, there only when one fits; `error` is the stable
/// code of the outcome. A value that was never reached is empty. Times are whole milliseconds, rounded.
pub(super) fn push_line(out: &mut Vec<u8>, access: &Access<'_>) {
    let level = super::level(access.outcome);
    let failed = level != super::INFO;
    out.extend_from_slice(b"at=");
    out.extend_from_slice(level.as_bytes());
    let h_code = access.outcome.h_code();
    if let Some(code) = h_code {
        key(out, "code");
        push_logfmt(out, code);
    }
    if failed || h_code.is_some() {
        key(out, "desc");
        push_json(out, h_code.and_then(h_words).unwrap_or(access.outcome.words()));
    }
    key(out, "method");
    push_logfmt(out, access.method);
    key(out, "path");
    push_json(out, access.target);
    key(out, "host");
    push_logfmt(out, access.host);
    key(out, "request_id");
    push_logfmt(out, access.request_id);
    key(out, "fwd");
    push_forwarded_for(out, access);
    key(out, "dyno");
    push_logfmt(out, access.dyno());
    push_whole_ms(out, "connect", access.connect_us);
    push_whole_ms(out, "service", access.service_us);
    for (name, number) in [("status", u64::from(access.status)), ("bytes", access.bytes_out)] {
        key(out, name);
        push_number(out, number);
    }
    key(out, "protocol");
    out.extend_from_slice(access.protocol.name().as_bytes());
    if let Some(tls) = &access.tls {
        key(out, "tls_version");
        push_logfmt(out, tls.version());
        key(out, "tls_cipher");
        tls.cipher_name().iter().for_each(|piece| out.extend_from_slice(piece.as_bytes()));
        key(out, "sni");
        push_logfmt(out, tls.name);
    }
    if failed {
        key(out, "error");
        push_logfmt(out, access.outcome.code());
    }
    if !access.limit.is_empty() {
        key(out, "limit");
        push_logfmt(out, access.limit);
    }
    if let Some(status) = access.grpc_status {
        key(out, "grpc_status");
        push_number(out, u64::from(status.number()));
    }
    out.push(b'\n');
}

/// The words Heroku's router log has for its codes, where parsers and people may look for them.
fn h_words(code: &str) -> Option<&'static str> {
    Some(match code {
        "H10" => "App crashed",
        "H11" => "Backlog too deep",
        "H12" => "Request timeout",
        "H13" => "Connection closed without response",
        "H14" => "No web processes running",
        "H15" => "Idle connection",
        "H17" => "Poorly formatted HTTP response",
        "H18" => "Server Request Interrupted",
        "H19" => "Backend connection timeout",
        "H20" => "App boot timeout",
        "H21" => "Backend connection refused",
        "H22" => "Connection limit reached",
        "H24" => "Forced close",
        "H25" => "HTTP Restriction",
        "H26" => "Request Error",
        "H27" => "Client Request Interrupted",
        "H28" => "Client Connection Idle",
        "H31" => "Misdirected Request",
        "H80" => "Maintenance mode",
        "H81" => "Blank app",
        "H99" => "Platform error",
        _ => return None,
    })
}
