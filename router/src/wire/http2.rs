//! Brings a request head of HTTP/2 before the judge of HTTP/1, so that no request passes in one version that would not
//! pass in the other, and none can become two (RFC 9113 sections 8.1.1, 8.2 and 8.3).
//!
//! Pseudo-header fields become request line and `Host`, cookie crumbs become one field, and what only HTTP/2 forbids is
//! refused here. Does not decode HPACK and does not keep streams.

use ekiden_core::host;
use ekiden_core::outcome::Cause;
use http::HeaderMap;
use http::header::{self, HeaderName};

use crate::head::FieldId;
use crate::wire::body::Framing;
use crate::wire::request::{RequestHead, Rules};
use crate::wire::scan::Bounds;
use crate::wire::{Version, is_token};

/// A head as the codec gives it: pseudo-header fields, fields, and whether anything follows.
#[derive(Debug, Clone, Copy)]
pub struct Http2Head<'a> {
    /// `:method`.
    pub method: &'a str,
    /// `:scheme`; none where the codec does not tell it.
    pub scheme: Option<&'a str>,
    /// `:authority`.
    pub authority: Option<&'a str>,
    /// `:path`; empty when absent.
    pub path: &'a str,
    /// `:protocol` of an extended CONNECT (RFC 8441).
    pub protocol: Option<&'a str>,
    /// The other fields.
    pub fields: &'a HeaderMap,
    /// The request ended with its head.
    pub ended: bool,
}

/// The one protocol that an extended CONNECT may ask for.
const WEBSOCKET: &str = "websocket";
/// Bytes of a request line beside method and target, and of the empty line at the end of a head.
const LINE_EXTRA: usize = "  HTTP/1.1\r\n\r\n".len();

/// Whether a fault makes the message malformed in the sense of RFC 9113 section 8.1.1, for which the stream is reset;
/// other faults are answered.
pub fn is_malformed(cause: Cause) -> bool {
    matches!(
        cause,
        Cause::FieldMalformed
            | Cause::FieldValueIllegal
            | Cause::LengthInvalid
            | Cause::LengthRepeated
            | Cause::MethodMalformed
            | Cause::TargetMalformed
            | Cause::HostIllegal
            | Cause::AuthorityMismatch
    )
}

/// Whether a trailer of a request may come in: the rules of fields.
pub fn is_legal_trailer(name: &HeaderName, value: &[u8]) -> bool {
    judge_field(FieldId::of(name.as_str().as_bytes()), name, value).is_ok()
}

impl RequestHead {
    /// Judges a head of HTTP/2 by the rules of its own version, then by those of all. Gives the bytes that it would have
    /// as text, which is what bounds and records speak of. On a refusal method and target stay readable for the record.
    ///
    /// # Errors
    /// The first fault; see [`is_malformed`].
    pub fn take_http2(&mut self, from: &Http2Head<'_>, bounds: &Bounds, rules: Rules) -> Result<u64, Cause> {
        self.clear();
        self.version = Version::Http2;
        let judged = match from.protocol {
            None => self.judge_http2(from, bounds, rules),
            Some(protocol) => self.judge_extended(from, protocol, bounds, rules),
        };
        judged.inspect_err(|_| self.note_line(from.method, from.path))
    }

    /// An extended CONNECT is the request that a client of HTTP/1 would make: a `GET` that asks for the protocol. Its stream is
    /// the tunnel, and holds no body.
    #[cold]
    fn judge_extended(
        &mut self,
        from: &Http2Head<'_>,
        protocol: &str,
        bounds: &Bounds,
        rules: Rules,
    ) -> Result<u64, Cause> {
        // RFC 8441 section 4: scheme, authority and path stand in it, other than in a plain one.
        if from.method != "CONNECT" || from.scheme.is_none() || from.authority.is_none() || from.path == "*" {
            return Err(Cause::TargetMalformed);
        }
        if protocol != WEBSOCKET {
            return Err(Cause::MethodRefused);
        }
        let same = Http2Head { method: "GET", protocol: None, ended: true, ..*from };
        let bytes = self.judge_http2(&same, bounds, rules)?;
        if self.framing != Framing::None || self.head.has(FieldId::ContentLength) {
            return Err(Cause::LengthInvalid);
        }
        self.is_extended = true;
        self.asks_upgrade = true;
        self.head.append(b"upgrade", WEBSOCKET.as_bytes());
        // Belongs to the handshake of HTTP/1, which the router makes with the endpoint.
        self.head.remove(b"sec-websocket-key");
        Ok(bytes)
    }

    fn judge_http2(&mut self, from: &Http2Head<'_>, bounds: &Bounds, rules: Rules) -> Result<u64, Cause> {
        let path = match (from.path, from.method) {
            // Where to is all that CONNECT has (section 8.5).
            (path, "CONNECT") => match from.authority {
                Some(authority) if path.is_empty() && from.scheme.is_none() => authority,
                _ => return Err(Cause::TargetMalformed),
            },
            ("*", _) => from.path,
            (path, _) if path.starts_with('/') => path,
            _ => return Err(Cause::TargetMalformed),
        };
        if from.scheme.is_some_and(|scheme| !matches!(scheme, "http" | "https")) {
            return Err(Cause::SchemeUnsupported);
        }
        if from.method.len() + path.len() + " HTTP/1.1".len() + 1 > bounds.first_line {
            return Err(Cause::RequestLineTooLong);
        }
        let taken = Taken::of(from, bounds)?;
        if taken.text_bytes > bounds.head {
            return Err(Cause::HeadTooLarge);
        }
        if taken.count > bounds.fields {
            return Err(Cause::TooManyFields);
        }
        let one_host = judge_authority(from, &taken)?;
        let authority = from.authority.map(|authority| ("host", authority.as_bytes()));
        let crumbs = taken.cookie.as_ref().map(|cookie| ("cookie", cookie.as_slice()));
        let others = from
            .fields
            .iter()
            .filter(|(name, _)| {
                let said_above = crumbs.is_some() && *name == header::COOKIE;
                !(said_above || one_host && *name == header::HOST)
            })
            .map(|(name, value)| (name.as_str(), value.as_bytes()));
        let lines = authority.into_iter().chain(others).chain(crumbs);
        self.judge(Version::Http2, from.method, path, (taken.count, lines), rules)?;
        match (self.framing, from.ended) {
            (Framing::Length(_), true) => return Err(Cause::LengthInvalid),
            // What has no length and has not ended goes on in chunks.
            (Framing::None, false) if !self.is_connect && !self.head.has(FieldId::ContentLength) => {
                self.framing = Framing::Chunked;
            }
            _ => {}
        }
        self.expect_continue = self.head.has(FieldId::Expect) && self.framing != Framing::None;
        Ok(taken.text_bytes as u64)
    }
}

/// What one walk over the fields finds.
#[derive(Debug, Default)]
struct Taken<'a> {
    text_bytes: usize,
    count: usize,
    cookie: Option<Vec<u8>>,
    host: Option<&'a [u8]>,
    hosts: usize,
}

impl<'a> Taken<'a> {
    fn of(from: &Http2Head<'a>, bounds: &Bounds) -> Result<Self, Cause> {
        let line = from.method.len() + from.path.len() + LINE_EXTRA;
        let host = from.authority.map_or(0, |authority| authority.len() + "host: \r\n".len());
        let mut taken =
            Self { text_bytes: line + host, count: usize::from(from.authority.is_some()), ..Self::default() };
        for (name, value) in from.fields {
            let (id, text) = (FieldId::of(name.as_str().as_bytes()), value.as_bytes());
            judge_field(id, name, text)?;
            let length = name.as_str().len() + text.len() + ": ".len();
            taken.text_bytes += length + "\r\n".len();
            if length > bounds.field {
                return Err(Cause::FieldTooLarge);
            }
            match id {
                FieldId::Cookie => taken.add_crumb(text, bounds)?,
                FieldId::Host => {
                    taken.hosts += 1;
                    taken.host = Some(text);
                    taken.count += 1;
                }
                _ => taken.count += 1,
            }
        }
        Ok(taken)
    }

    /// Crumbs are pieces of one field (section 8.2.3), with its bound.
    fn add_crumb(&mut self, text: &[u8], bounds: &Bounds) -> Result<(), Cause> {
        match &mut self.cookie {
            // An empty crumb adds nothing: behind a separator it would leave a blank at the end.
            Some(_) if text.is_empty() => {}
            Some(cookie) => {
                if !cookie.is_empty() {
                    cookie.extend_from_slice(b"; ");
                }
                cookie.extend_from_slice(text);
                if cookie.len() + "cookie: ".len() > bounds.field {
                    return Err(Cause::FieldTooLarge);
                }
            }
            None => {
                self.count += 1;
                self.cookie = Some(text.to_vec());
            }
        }
        Ok(())
    }
}

/// `:authority` and `Host` must agree (section 8.3.1); true when `:authority` stands for both.
fn judge_authority(from: &Http2Head<'_>, taken: &Taken<'_>) -> Result<bool, Cause> {
    let (Some(authority), Some(host), 1) = (from.authority, taken.host, taken.hosts) else {
        return Ok(false);
    };
    if host == authority.as_bytes() {
        return Ok(true);
    }
    let (mut ours, mut theirs) = (String::new(), String::new());
    let ours = host::host_of(authority.as_bytes(), &mut ours).map_err(|_| Cause::HostIllegal)?;
    let theirs = host::host_of(host, &mut theirs).map_err(|_| Cause::HostIllegal)?;
    let default_port = if from.scheme == Some("https") { 443 } else { 80 };
    if ours.same_as(&theirs, default_port) { Ok(true) } else { Err(Cause::AuthorityMismatch) }
}

/// What HTTP/2 forbids in a field (sections 8.2.1 and 8.2.2). Names are in lower case by their type, which takes `"` though
/// no token holds it.
fn judge_field(id: FieldId, name: &HeaderName, value: &[u8]) -> Result<(), Cause> {
    let of_connection = match id {
        FieldId::Connection
        | FieldId::KeepAlive
        | FieldId::ProxyConnection
        | FieldId::TransferEncoding
        | FieldId::Upgrade => true,
        FieldId::Te => value != b"trailers",
        _ => false,
    };
    if of_connection || !is_token(name.as_str().as_bytes()) {
        return Err(Cause::FieldMalformed);
    }
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if blank(value.first()) || blank(value.last()) {
        return Err(Cause::FieldValueIllegal);
    }
    Ok(())
}

#[cfg(test)]
#[path = "http2_tests.rs"]
mod tests;
