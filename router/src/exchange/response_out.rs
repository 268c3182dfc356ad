//! Writes the response head that goes downstream: framing for the client's version, fields passed on, route edits.
//!
//! Does not relay bodies and does not make responses of the router's own (`answer` does).

use std::io::{Cursor, Write};

use ekiden_config::model::{HeaderEdits, Listener};
use ekiden_core::cell::load::Load;
use ekiden_core::outcome::Cause;

use crate::clock::Clock;
use crate::exchange::downstream::{Downstream, HeadKind};
use crate::exchange::out::Out;
use crate::exchange::request_out::{apply_edits, edits_name};
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
    /// In the frames of a stream, which tell their end: no coding of ours, and trailers where the endpoint sends them.
    Frames,
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
            (Framing::Chunked | Framing::Close, Version::Http2) => {
                Shape { coding: Coding::Frames, until_close: false }
            }
        }
    }
}

/// Passes an informational response on: end-to-end fields only.
///
/// # Errors
/// The client has gone.
pub fn write_informational<D: Downstream>(
    client: &mut D,
    out: &mut Out,
    response: &ResponseHead,
) -> Result<u64, Cause> {
    client.begin_head(out, response.status, response.reason());
    for (id, name, value) in response.head.iter() {
        if !id.is_hop_by_hop() && !matches!(id, FieldId::ContentLength | FieldId::XRouterLoad) {
            client.field(out, name, value);
        }
    }
    client.end_head(out, HeadKind::Informational)
}

/// What the final head needs to know beside the response.
#[derive(Debug)]
pub struct ResponseOut<'a> {
    /// The request.
    pub request: &'a RequestHead,
    /// The listener.
    pub listener: &'a Listener,
    /// The route's edits.
    pub edits: &'a HeaderEdits,
    /// The endpoint is a router: its error field is passed on.
    pub peer_router: bool,
    /// What the client is told of the endpoint's load, where it is.
    pub load: Option<Load>,
    /// The endpoint spoke HTTP/2.
    pub endpoint_http2: bool,
    /// The request is a call of gRPC.
    pub is_call: bool,
    /// The client connection stays open.
    pub keep: bool,
    /// What time it is, for responses that do not say.
    pub clock: &'a Clock,
}

/// Writes the final head; gives how the body goes, and the bytes of the head that are on their way already.
///
/// # Errors
/// The client has gone, or a field of the endpoint cannot be said in the client's protocol.
pub fn write_response<D: Downstream>(
    client: &mut D,
    out: &mut Out,
    response: &mut ResponseHead,
    with: &ResponseOut<'_>,
) -> Result<(Shape, u64), Cause> {
    let shape = match (response.length, with.request.version) {
        // The length says where the body ends, and leaves no room for trailers.
        (Some(_), Version::Http10 | Version::Http11) => Shape { coding: Coding::Plain, until_close: false },
        _ => Shape::of(response.framing, with.request.version),
    };
    let bodiless = response.framing == Framing::None;
    apply_edits(&mut response.head, with.edits);
    client.begin_head(out, response.status, response.reason());
    let mut dated = false;
    for (id, name, value) in response.head.iter() {
        let pass = match id {
            FieldId::Date => {
                dated = true;
                true
            }
            FieldId::XRouterError => with.peer_router,
            // It was for this router.
            FieldId::XRouterLoad => false,
            // A length cannot stand beside a body that 204 does not have (RFC 9110 section 8.6).
            // Clients of gRPC would take it for metadata.
            FieldId::ContentLength => {
                response.status != 204 && !(with.is_call && with.request.version == Version::Http2)
            }
            FieldId::Trailer => shape.coding != Coding::Plain,
            _ => !id.is_hop_by_hop(),
        };
        if pass {
            client.field(out, name, value);
        }
    }
    // RFC 9110 section 6.6.1: who has a clock and passes on a response without a date adds one. A client of gRPC would take
    // it for metadata.
    if !dated && !with.is_call && !edits_name(with.edits, b"date") {
        client.field(out, b"Date", &with.clock.http_date());
    }
    if shape.coding == Coding::Chunked && !bodiless {
        client.field(out, b"Transfer-Encoding", b"chunked");
    }
    secure::hsts(with.listener, &response.head, |name, value| client.field(out, name, value));
    if let Some(pseudonym) = &with.listener.via {
        // What is named is the version in which the endpoint spoke.
        let version: &[u8] = match response.version {
            _ if with.endpoint_http2 => b"2.0 ",
            Version::Http10 => b"1.0 ",
            Version::Http11 | Version::Http2 => b"1.1 ",
        };
        let mut via = smallvec::SmallVec::<[u8; 72]>::from_slice(version);
        via.extend_from_slice(pseudonym.as_bytes());
        client.field(out, b"Via", &via);
    }
    if let Some(load) = with.load {
        put_load(client, out, load);
    }
    put_connection(out.buffer(), with.request, with.keep && !shape.until_close);
    let kind = if bodiless { HeadKind::FinalAlone } else { HeadKind::Final };
    let sent = client.end_head(out, kind)?;
    Ok((shape, sent))
}

/// Writes the field that tells a router in front how busy the endpoint is.
#[cold]
fn put_load<D: Downstream>(client: &mut D, out: &mut Out, load: Load) {
    // Room for two numbers of ten digits: a text that is cut is never sent.
    let mut text = Cursor::new([0_u8; 48]);
    if write!(text, "{load}").is_ok() {
        let end = usize::try_from(text.position()).unwrap_or(0);
        client.field(out, b"X-Router-Load", text.get_ref().get(..end).unwrap_or(b""));
    }
}

/// Appends the `Connection` field that tells the client what will happen, where the version does not say it.
pub fn put_connection(out: &mut Vec<u8>, request: &RequestHead, keep: bool) {
    match (keep, request.version) {
        // A stream ends by itself.
        (_, Version::Http2) => {}
        (false, _) => out.extend_from_slice(b"Connection: close\r\n"),
        (true, Version::Http10) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
        (true, Version::Http11) => {}
    }
}
