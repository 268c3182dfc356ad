//! Writes the response head that goes downstream: framing for the client's version, fields passed on, route edits.
//!
//! Does not relay bodies and does not make responses of the router's own (`answer` does).

use ekiden_config::model::{HeaderEdits, Listener};

use crate::exchange::out::{Out, put_decimal, put_field};
use crate::exchange::request_out::apply_edits;
use crate::exchange::secure;
use crate::head::FieldId;
use crate::wire::Version;
use crate::wire::body::Framing;
use crate::wire::request::RequestHead;
use crate::wire::response::ResponseHead;

/// How the body goes to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// As it is: by length, or until close, or nothing.
    Plain,
    /// In chunks.
    Chunked,
}

/// The client side of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// How the body is coded.
    pub coding: Coding,
    /// The connection ends with the body.
    pub until_close: bool,
}

impl Shape {
    /// What a client of this version gets for an upstream framing.
    pub fn of(framing: Framing, version: Version) -> Self {
        match (framing, version) {
            (Framing::None | Framing::Length(_), _) => Shape { coding: Coding::Plain, until_close: false },
            (Framing::Chunked | Framing::Close, Version::Http11) => {
                Shape { coding: Coding::Chunked, until_close: false }
            }
            (Framing::Chunked | Framing::Close, Version::Http10) => {
                Shape { coding: Coding::Plain, until_close: true }
            }
        }
    }
}

fn put_status_line(out: &mut Vec<u8>, status: u16, reason: &[u8]) {
    out.extend_from_slice(b"HTTP/1.1 ");
    put_decimal(out, u64::from(status));
    out.push(b' ');
    out.extend_from_slice(reason);
    out.extend_from_slice(b"\r\n");
}

/// Appends an informational response: end-to-end fields only.
pub fn write_informational(out: &mut Out, response: &ResponseHead) {
    let out = out.buffer();
    put_status_line(out, response.status, response.reason());
    for (id, name, value) in response.head.iter() {
        if !id.is_hop_by_hop() && id != FieldId::ContentLength {
            put_field(out, name, value);
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the final head. `keep` says whether the client connection stays open.
pub fn write_response(
    out: &mut Out,
    response: &mut ResponseHead,
    request: &RequestHead,
    listener: &Listener,
    edits: &HeaderEdits,
    peer_router: bool,
    keep: bool,
) -> Shape {
    let shape = Shape::of(response.framing, request.version);
    let bodiless = response.framing == Framing::None;
    apply_edits(&mut response.head, edits);
    let out = out.buffer();
    put_status_line(out, response.status, response.reason());
    for (id, name, value) in response.head.iter() {
        let pass = match id {
            FieldId::XRouterError => peer_router,
            // A length cannot stand beside a body that 204 does not have (RFC 9110 section 8.6).
            FieldId::ContentLength => response.status != 204,
            FieldId::Trailer => shape.coding == Coding::Chunked,
            _ => !id.is_hop_by_hop(),
        };
        if pass {
            put_field(out, name, value);
        }
    }
    if shape.coding == Coding::Chunked && !bodiless {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    secure::put_hsts(out, listener, &response.head);
    if let Some(pseudonym) = &listener.via {
        out.extend_from_slice(b"Via: 1.1 ");
        out.extend_from_slice(pseudonym.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    put_connection(out, request, keep && !shape.until_close);
    out.extend_from_slice(b"\r\n");
    shape
}

/// Appends the `Connection` field that tells the client what will happen, where the version does not say it.
pub fn put_connection(out: &mut Vec<u8>, request: &RequestHead, keep: bool) {
    match (keep, request.version) {
        (false, _) => out.extend_from_slice(b"Connection: close\r\n"),
        (true, Version::Http10) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
        (true, Version::Http11) => {}
    }
}
