//! Writes the request head that goes upstream: fields passed on, fields the platform promises, edits of the route.
//!
//! Forwarding fields from a peer that is not trusted are dropped and set anew. Does not decide where to send.

use std::net::IpAddr;

use ekiden_config::model::{Address, HeaderEdits, Listener};
use ekiden_core::edit;
use ekiden_core::table::RouteEntry;

use crate::clock::Moment;
use crate::exchange::out::{put_decimal, put_field};
use crate::exchange::upgrade::{self, WebSocketKey};
use crate::exchange::{Workspace, forward};
use crate::head::{FieldId, Head, tokens};
use crate::wire::Version;
use crate::wire::body::Framing;
use crate::wire::request::TargetForm;
use crate::worker::Worker;

/// Applies a route's edits to a head: remove, set, add.
pub fn apply_edits(head: &mut Head, edits: &HeaderEdits) {
    for name in &edits.remove {
        head.remove(name.as_bytes());
    }
    for (name, value) in &edits.set {
        head.set(name.as_bytes(), value.as_bytes());
    }
    for (name, value) in &edits.add {
        head.append(name.as_bytes(), value.as_bytes());
    }
}

/// Whether the edits name this field; such fields are also dropped from trailers.
pub fn edits_name(edits: &HeaderEdits, name: &[u8]) -> bool {
    let is = |text: &str| text.as_bytes().eq_ignore_ascii_case(name);
    edits.remove.iter().any(|n| is(n))
        || edits.set.iter().any(|(n, _)| is(n))
        || edits.add.iter().any(|(n, _)| is(n))
}

/// Whether the edits set this field, so that the value in the head is the operator's and not the client's.
fn sets(edits: &HeaderEdits, id: FieldId) -> bool {
    edits.set.iter().any(|(name, _)| FieldId::of(name.as_bytes()) == id)
}

/// The client: the peer, or the first address from the right of `X-Forwarded-For` that is not a trusted proxy.
/// Unreadable entries end the walk at the last readable one.
pub fn client_address(listener: &Listener, head: &Head, peer: Option<IpAddr>) -> Option<IpAddr> {
    // A listener on `[::]` sees IPv4 clients as mapped addresses; networks are written in their own family.
    let peer = peer?.to_canonical();
    if listener.trust.is_empty() || !listener.trusts(peer) {
        return Some(peer);
    }
    let mut client = peer;
    let mut entries: smallvec::SmallVec<[&[u8]; 8]> = smallvec::SmallVec::new();
    for value in head.get_all(b"x-forwarded-for") {
        entries.extend(tokens(value));
    }
    for entry in entries.iter().rev() {
        let Some(address) = std::str::from_utf8(entry).ok().and_then(|text| text.parse::<IpAddr>().ok())
        else {
            break;
        };
        let address = address.to_canonical();
        client = address;
        if !listener.trusts(address) {
            break;
        }
    }
    Some(client)
}

/// Sets the request id of the exchange: the client's when well formed, else a new UUID.
pub fn choose_request_id(worker: &Worker, ws: &mut Workspace) {
    let received = ws.request.head.known(FieldId::XRequestId).filter(|id| well_formed_id(id));
    match received.and_then(|id| std::str::from_utf8(id).ok()) {
        Some(id) => ws.trace.request_id.push_str(id),
        None => worker.random_uuid(&mut ws.trace.request_id),
    }
}

fn well_formed_id(id: &[u8]) -> bool {
    (20..=200).contains(&id.len()) && id.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
}

/// Appends the head to the leg's output. `address` stands in for a missing Host.
pub fn write_request(
    worker: &Worker,
    ws: &mut Workspace,
    listener: &Listener,
    entry: &RouteEntry,
    address: &Address,
    started: Moment,
) {
    let trusted = ws.peer.is_some_and(|peer| listener.trusts(peer.ip().to_canonical()));
    let edits = &entry.route.request_headers;
    apply_edits(&mut ws.request.head, edits);
    let rewritten_host = edit::rewritten_host(&entry.route);
    let request = &ws.request;
    let out = ws.leg.output.buffer();
    out.extend_from_slice(request.method().as_bytes());
    out.push(b' ');
    match request.form {
        TargetForm::Asterisk => out.push(b'*'),
        TargetForm::Origin => {
            out.extend_from_slice(ws.path.as_bytes());
            if let Some(query) = request.query() {
                out.push(b'?');
                out.extend_from_slice(query.as_bytes());
            }
        }
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let (mut host_written, mut takes_trailers) = (false, false);
    for (id, name, value) in request.head.iter() {
        let pass = match id {
            FieldId::Te => {
                takes_trailers |= tokens(value).any(|token| token.eq_ignore_ascii_case(b"trailers"));
                false
            }
            FieldId::Host => {
                host_written = rewritten_host.is_none();
                host_written
            }
            FieldId::Expect => request.expect_continue,
            FieldId::XRequestId | FieldId::XForwardedFor => false,
            FieldId::Via => true,
            FieldId::XRequestDeadline => !entry.route.timeouts.deadline,
            // What is no copy must not be taken for one: an app that does not send mail for copies would send none.
            FieldId::XMirror => trusted || ws.trace.is_question || sets(edits, id),
            FieldId::Trailer => request.framing == Framing::Chunked,
            _ if id.is_hop_by_hop() => false,
            _ if id.is_forwarding() => trusted || sets(edits, id),
            _ => true,
        };
        if pass {
            put_field(out, name, value);
        }
    }
    if !host_written {
        match rewritten_host {
            Some(host) => put_field(out, b"Host", host.as_bytes()),
            None if !request.host.is_empty() => put_authority(out, &request.host, request.port),
            None => put_field(out, b"Host", address.to_string().as_bytes()),
        }
    }
    if request.framing == Framing::Chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    // Trailers are passed on, so that an endpoint may send them to a client that keeps them; codings are not.
    if let Some(protocol) = ws.upgrade.and_then(|place| entry.route.upgrades.protocol(place)) {
        upgrade::put_request(out, protocol);
        if request.is_extended {
            let key = WebSocketKey::new([worker.random(), worker.random()]);
            put_field(out, b"Sec-WebSocket-Key", key.text().as_bytes());
            ws.websocket_key = Some(key);
        }
    } else if takes_trailers && request.version != Version::Http10 {
        out.extend_from_slice(b"TE: trailers\r\nConnection: TE\r\n");
    }
    put_field(out, b"X-Request-Id", ws.trace.request_id.as_bytes());
    write_forwarding(worker, ws, listener, edits, trusted, started);
    if entry.route.timeouts.deadline {
        forward::write_deadline(ws, worker.turn_ms());
    }
    ws.leg.output.buffer().extend_from_slice(b"\r\n");
}

fn put_authority(out: &mut Vec<u8>, host: &str, port: Option<u16>) {
    out.extend_from_slice(b"Host: ");
    out.extend_from_slice(host.as_bytes());
    if let Some(port) = port {
        out.push(b':');
        put_decimal(out, u64::from(port));
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the client address as text; `unknown` for a peer without one (RFC 7239 section 6.2).
fn put_peer(out: &mut String, peer: Option<std::net::SocketAddr>) {
    match peer.map(|peer| peer.ip().to_canonical()) {
        Some(IpAddr::V4(address)) => {
            // By hand: the standard formatter costs several times this, on every request.
            let mut number = itoa::Buffer::new();
            for (index, octet) in address.octets().into_iter().enumerate() {
                if index > 0 {
                    out.push('.');
                }
                out.push_str(number.format(octet));
            }
        }
        Some(IpAddr::V6(address)) => out.push_str(&address.to_string()),
        None => out.push_str("unknown"),
    }
}

fn write_forwarding(
    worker: &Worker,
    ws: &mut Workspace,
    listener: &Listener,
    edits: &HeaderEdits,
    trusted: bool,
    started: Moment,
) {
    let head = &ws.request.head;
    ws.scratch.clear();
    put_peer(&mut ws.scratch, ws.peer);
    let peer = ws.scratch.as_str();
    let chain = &mut ws.trace.forwarded_for;
    if trusted {
        for value in head.get_all(b"x-forwarded-for") {
            chain.push_str(std::str::from_utf8(value).unwrap_or("unknown"));
            chain.push_str(", ");
        }
        chain.push_str(peer);
    }
    let out = ws.leg.output.buffer();
    // The record knows the peer: what would say the same again is not kept for it.
    put_field(out, b"X-Forwarded-For", if trusted { chain.as_bytes() } else { peer.as_bytes() });
    let keep = |id| (trusted && head.has(id)) || sets(edits, id);
    if !keep(FieldId::XForwardedProto) {
        let proto: &[u8] = if ws.session.is_some() {
            b"X-Forwarded-Proto: https\r\n"
        } else {
            b"X-Forwarded-Proto: http\r\n"
        };
        out.extend_from_slice(proto);
    }
    if !keep(FieldId::XForwardedPort)
        && let Address::Tcp(address) = &listener.address
    {
        out.extend_from_slice(b"X-Forwarded-Port: ");
        put_decimal(out, u64::from(address.port()));
        out.extend_from_slice(b"\r\n");
    }
    if let Some(client) = ws.session.as_ref().and_then(|session| session.client.as_ref()) {
        if !keep(FieldId::ClientCert) {
            put_field(out, b"Client-Cert", client.client_cert.as_bytes());
        }
        if !keep(FieldId::XForwardedClientCert) {
            put_field(out, b"X-Forwarded-Client-Cert", client.forwarded.as_bytes());
        }
    }
    if !keep(FieldId::XForwardedHost)
        && let Some(host) = head.known(FieldId::Host)
    {
        put_field(out, b"X-Forwarded-Host", host);
    }
    if !keep(FieldId::XRequestStart) {
        out.extend_from_slice(b"X-Request-Start: ");
        put_decimal(out, worker.clock.unix_us(started) / 1_000);
        out.extend_from_slice(b"\r\n");
    }
    if listener.forwarded && !keep(FieldId::Forwarded) {
        write_forwarded(out, peer, head.known(FieldId::Host), ws.session.is_some());
    }
    if let Some(pseudonym) = &listener.via {
        let version: &[u8] = match ws.request.version {
            Version::Http10 => b"1.0 ",
            Version::Http11 => b"1.1 ",
            Version::Http2 => b"2.0 ",
        };
        out.extend_from_slice(b"Via: ");
        out.extend_from_slice(version);
        out.extend_from_slice(pseudonym.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

/// `Forwarded` (RFC 7239): IPv6 addresses in quotes and brackets, the host quoted.
fn write_forwarded(out: &mut Vec<u8>, peer: &str, host: Option<&[u8]>, secure: bool) {
    out.extend_from_slice(b"Forwarded: for=");
    if peer.contains(':') {
        out.extend_from_slice(b"\"[");
        out.extend_from_slice(peer.as_bytes());
        out.extend_from_slice(b"]\"");
    } else {
        out.extend_from_slice(peer.as_bytes());
    }
    if let Some(host) = host {
        out.extend_from_slice(b";host=\"");
        out.extend_from_slice(host);
        out.push(b'"');
    }
    out.extend_from_slice(if secure { b";proto=https\r\n".as_slice() } else { b";proto=http\r\n" });
}
