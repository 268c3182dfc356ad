//! Switching protocols (RFC 9110 section 7.8): what a client asks for, what of it is passed on, and the endpoint's 101.
//!
//! A protocol is passed on only when the route names it, and a tunnel begins only after the endpoint has said 101 to that
//! protocol. Does not carry the tunnel's bytes (`tunnel` does).

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use data_encoding::BASE64;
use ekiden_config::model::{HeaderEdits, Upgrades};
use ekiden_core::outcome::Cause;

use crate::exchange::downstream::{Downstream, HeadKind};
use crate::exchange::out::{Out, put_field};
use crate::exchange::request_out::apply_edits;
use crate::head::{FieldId, Head, tokens};
use crate::wire::body::Framing;
use crate::wire::request::RequestHead;
use crate::wire::response::ResponseHead;

/// The protocol whose frames the router can follow.
const WEBSOCKET: &str = "websocket";
/// The status with which a stream of HTTP/2 becomes a tunnel.
pub const STREAM_SWITCH: u16 = 200;

/// What the answer to a key is made with (RFC 6455 section 1.3).
const ACCEPT_SALT: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The key of a WebSocket handshake of the router's own, in base64.
#[derive(Debug)]
pub struct WebSocketKey(String);

impl WebSocketKey {
    /// A key of 16 random bytes.
    pub fn new(random: [u64; 2]) -> Self {
        Self(BASE64.encode(random.map(u64::to_le_bytes).as_flattened()))
    }

    /// As it is sent.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Whether an endpoint's `Sec-WebSocket-Accept` is the answer to it.
    pub fn is_answered(&self, response: &ResponseHead) -> bool {
        let expected = answer(self.text());
        let mut accepted = response.head.get_all(b"sec-websocket-accept");
        accepted.next() == Some(expected.as_bytes()) && accepted.next().is_none()
    }
}

/// Bytes of a key (RFC 6455 section 4.1).
const KEY_BYTES: usize = 16;

fn answer(key: &str) -> String {
    BASE64.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, [key, ACCEPT_SALT].concat().as_bytes()).as_ref())
}

/// The answer to a client's key; none for a text that is no key.
pub fn accept(key: &str) -> Option<String> {
    let bytes = BASE64.decode(key.as_bytes()).ok()?;
    (bytes.len() == KEY_BYTES).then(|| answer(key))
}

/// Whether a request brings a key of WebSocket, or comes from where none is needed.
pub fn has_key(request: &RequestHead) -> bool {
    let mut keys = request.head.get_all(b"sec-websocket-key");
    let key = keys.next().and_then(|key| std::str::from_utf8(key).ok());
    request.is_extended || key.is_some_and(|key| accept(key).is_some()) && keys.next().is_none()
}

/// Whether this is the protocol of RFC 6455.
pub fn is_websocket(protocol: &str) -> bool {
    protocol.eq_ignore_ascii_case(WEBSOCKET)
}

/// The place in the route's list of the first protocol that the client names and the route knows. A WebSocket that does not
/// begin as RFC 6455 section 4.1 says is none.
pub fn choose(request: &RequestHead, upgrades: &Upgrades) -> Option<u8> {
    let websocket = request.method() == "GET" && request.framing == Framing::None;
    let named = |value| tokens(value).filter_map(|protocol| upgrades.find(protocol));
    let fit =
        |place: &u8| websocket || !upgrades.protocol(*place).is_some_and(|protocol| is_websocket(protocol));
    request.head.get_all(b"upgrade").flat_map(named).find(fit)
}

/// Appends the fields that ask the endpoint for a protocol.
pub fn put_request(out: &mut Vec<u8>, protocol: &str) {
    out.extend_from_slice(b"Connection: Upgrade\r\n");
    put_field(out, b"Upgrade", protocol.as_bytes());
}

/// Whether a 101 switches to this protocol and to nothing else, and announces no body.
pub fn confirms(response: &ResponseHead, protocol: &str) -> bool {
    let head = &response.head;
    let says_upgrade = |value| tokens(value).any(|token: &[u8]| token.eq_ignore_ascii_case(b"upgrade"));
    let mut named = head.get_all(b"upgrade").flat_map(tokens);
    head.get_all(b"connection").any(says_upgrade)
        && named.next().is_some_and(|name| name.eq_ignore_ascii_case(protocol.as_bytes()))
        && named.next().is_none()
        && !head.has(FieldId::TransferEncoding)
        && !announces_body(head)
}

/// Some servers write a length of 0 beside a 101; any other would be bytes of nobody knows whose.
fn announces_body(head: &Head) -> bool {
    head.get_all(b"content-length").any(|length| length != b"0")
}

/// Says to a client of HTTP/2 that its stream is a tunnel (RFC 8441 section 5); gives the bytes that are on their way.
///
/// # Errors
/// The client has gone, or a field cannot be said.
pub fn write_stream_switch<D: Downstream>(
    client: &mut D,
    out: &mut Out,
    response: &mut ResponseHead,
    (edits, peer_router): (&HeaderEdits, bool),
) -> Result<u64, Cause> {
    apply_edits(&mut response.head, edits);
    response.head.remove(b"sec-websocket-accept");
    client.begin_head(out, STREAM_SWITCH, b"");
    put_fields(client, out, response, peer_router);
    client.end_head(out, HeadKind::Final)
}

fn put_fields<D: Downstream>(client: &mut D, out: &mut Out, response: &ResponseHead, peer_router: bool) {
    for (id, name, value) in response.head.iter() {
        let pass = match id {
            FieldId::XRouterError => peer_router,
            FieldId::ContentLength | FieldId::Trailer => false,
            _ => !id.is_hop_by_hop(),
        };
        if pass {
            client.field(out, name, value);
        }
    }
}

/// Writes the 101 to the client; gives the bytes that are on their way already.
///
/// # Errors
/// The client has gone.
pub fn write_switch<D: Downstream>(
    client: &mut D,
    out: &mut Out,
    response: &mut ResponseHead,
    (edits, peer_router): (&HeaderEdits, bool),
    protocol: &str,
) -> Result<u64, Cause> {
    apply_edits(&mut response.head, edits);
    client.begin_head(out, response.status, response.reason());
    put_fields(client, out, response, peer_router);
    client.field(out, b"Connection", b"Upgrade");
    client.field(out, b"Upgrade", protocol.as_bytes());
    client.end_head(out, HeadKind::Informational)
}
