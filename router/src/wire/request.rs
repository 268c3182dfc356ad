//! Parses and judges request heads: what is ambiguous or illegal ends in a [`Cause`], never in a guess.
//!
//! The rules are those of RFC 9112 at their strictest; the list stands in the README under "What is refused". Does
//! not match routes and does not touch the body (`body` does).

mod connect;

use std::mem::MaybeUninit;

use ekiden_core::host;
use ekiden_core::outcome::Cause;
use httparse::Status;
use memchr::memchr;

use crate::head::{FieldId, Head, Span, tokens};
use crate::wire::body::Framing;
use crate::wire::words::is_value;
use crate::wire::{Version, decimal, is_token};

/// Most fields a head may have whatever the configuration says; the bound of `HttpLimits::fields`.
pub const FIELDS_MAX: usize = 1000;

/// Form of the request target (RFC 9112 section 3.2); the authority form of CONNECT counts as an asterisk: it has no path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TargetForm {
    /// `/path?query`, also what an absolute target is reduced to.
    #[default]
    Origin,
    /// `*` with OPTIONS, and what CONNECT names.
    Asterisk,
}

/// What the judge needs to know of the listener.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Field lines at most (already held by `scan`).
    pub fields: usize,
    /// Keep fields with `_` in their name.
    pub allow_underscore: bool,
}

/// A request head that has passed every rule. Only [`RequestHead::parse`] and [`RequestHead::take_http2`] fill it.
#[derive(Debug, Default)]
pub struct RequestHead {
    /// Fields, edited in place.
    pub head: Head,
    /// Method and target, kept as text so that they are checked once.
    line: String,
    method: Span,
    target: Span,
    path: Span,
    query: Option<Span>,
    /// Version as received.
    pub version: Version,
    /// Form of the target.
    pub form: TargetForm,
    /// How the body is framed.
    pub framing: Framing,
    /// The client is willing to keep the connection.
    pub keep_alive: bool,
    /// `Upgrade`, nominated by `Connection`, from a 1.1 client.
    pub asks_upgrade: bool,
    /// It is a plain CONNECT: `asks_upgrade` is set too, and the connection serves no other request.
    pub is_connect: bool,
    /// It came as an extended CONNECT of HTTP/2 (RFC 8441).
    pub is_extended: bool,
    /// `Expect: 100-continue` from a 1.1 client.
    pub expect_continue: bool,
    /// Host in lower case without port and final dot; empty for a 1.0 request without Host.
    pub host: String,
    /// Port written in the authority.
    pub port: Option<u16>,
    /// Method is safe (RFC 9110 section 9.2.1).
    pub safe: bool,
    /// Method is idempotent (RFC 9110 section 9.2.2).
    pub idempotent: bool,
    /// Method is HEAD.
    pub is_head: bool,
    /// Field lines as received, with those that were dropped.
    pub field_count: usize,
    scratch: String,
}

impl RequestHead {
    /// Whether its stream is the tunnel that it asks for, and holds no body.
    pub fn is_tunnel(&self) -> bool {
        self.is_extended || self.is_connect
    }

    /// Gives back the memory in which nothing stands that is needed once the head has been judged.
    pub fn slim(&mut self) {
        self.head.slim();
        self.line.shrink_to_fit();
        self.host.shrink_to_fit();
        self.scratch = String::new();
    }

    /// The method as received.
    pub fn method(&self) -> &str {
        self.method.text(&self.line)
    }

    /// Path and query as received, in origin form; `*` for the asterisk form.
    pub fn target(&self) -> &str {
        self.target.text(&self.line)
    }

    /// The path as received, without query; `*` for the asterisk form.
    pub fn raw_path(&self) -> &str {
        self.path.text(&self.line)
    }

    /// Puts asterisks in place of the values of a query parameter: it is a secret. The query stays as long as it was.
    pub fn mask_parameter(&mut self, name: &str) {
        let Some(span) = self.query else { return };
        let query = span.text(&self.line);
        let is = |piece: &str| {
            ekiden_core::query::is_text(piece.split_once('=').map_or(piece, |(raw, _)| raw), name)
        };
        let masked = query.split('&').map(|piece| match piece.split_once('=') {
            Some((raw, value)) if is(piece) => format!("{raw}={}", "*".repeat(value.len())),
            Some(_) | None => piece.to_owned(),
        });
        let masked = masked.collect::<Vec<_>>().join("&");
        if masked.len() == span.len() && self.line.get(span.range()).is_some() {
            self.line.replace_range(span.range(), &masked);
        }
    }

    /// The query without `?`; `None` when the target has no `?`.
    pub fn query(&self) -> Option<&str> {
        self.query.map(|span| span.text(&self.line))
    }

    /// Parses and judges one complete head (`bytes` ends with the empty line). On a refusal the parts parsed so
    /// far stay readable for the record.
    pub fn parse(&mut self, bytes: &[u8], rules: Rules) -> Result<(), Cause> {
        self.clear();
        let mut storage = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; FIELDS_MAX];
        let slots = storage.get_mut(..rules.fields.min(FIELDS_MAX)).unwrap_or_default();
        let mut request = httparse::Request::new(&mut []);
        let parsed = request.parse_with_uninit_headers(bytes, slots);
        match parsed {
            Ok(Status::Complete(used)) if used == bytes.len() => {}
            Ok(_) => return Err(diagnose(bytes)),
            Err(httparse::Error::TooManyHeaders) => return Err(Cause::TooManyFields),
            Err(_) => return Err(diagnose(bytes)),
        }
        let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version)
        else {
            return Err(Cause::RequestLineMalformed);
        };
        let version = if version == 0 { Version::Http10 } else { Version::Http11 };
        let count = request.headers.len();
        let lines = request.headers.iter().map(|header| (header.name, header.value.trim_ascii()));
        self.judge(version, method, target, (count, lines), rules)
    }

    /// Keeps method and target of a head that was refused before they were judged, for the record.
    pub(super) fn note_line(&mut self, method: &str, target: &str) {
        if self.line.is_empty() {
            self.method = Span::appended(&mut self.line, method);
            self.target = Span::appended(&mut self.line, target);
        }
    }

    /// Judges a head that has been taken apart, by every rule of the file. The one judge of all versions.
    pub(super) fn judge<'a>(
        &mut self,
        version: Version,
        method: &str,
        target: &str,
        (count, lines): (usize, impl Iterator<Item = (&'a str, &'a [u8])>),
        rules: Rules,
    ) -> Result<(), Cause> {
        self.method = Span::appended(&mut self.line, method);
        self.version = version;
        if let Err(cause) = self.judge_method(method) {
            return if method == "CONNECT" {
                self.judge_connect(target, (count, lines), rules)
            } else {
                Err(cause)
            };
        }
        self.field_count = count;
        let fields = Fields::collect(&mut self.head, lines, rules)?;
        self.judge_target(method, target)?;
        self.judge_host(target, &fields)?;
        self.judge_framing(&fields)?;
        self.judge_connection()?;
        self.judge_expect()
    }

    /// Forgets the last request. Called before a new head is read, so that a refusal shows nothing of it.
    pub fn clear(&mut self) {
        self.head.clear();
        self.line.clear();
        self.host.clear();
        self.method = Span::default();
        self.target = Span::default();
        self.path = Span::default();
        self.query = None;
        self.port = None;
        self.version = Version::Http11;
        self.form = TargetForm::Origin;
        self.is_head = false;
        self.field_count = 0;
        self.framing = Framing::None;
        self.keep_alive = false;
        self.expect_continue = false;
        self.asks_upgrade = false;
        self.is_extended = false;
        self.is_connect = false;
        self.safe = false;
        self.idempotent = false;
    }

    fn judge_method(&mut self, method: &str) -> Result<(), Cause> {
        self.is_head = method == "HEAD";
        self.safe = matches!(method, "GET" | "HEAD" | "OPTIONS");
        self.idempotent = self.safe || matches!(method, "PUT" | "DELETE");
        match method {
            "CONNECT" | "TRACE" => Err(Cause::MethodRefused),
            _ if method.len() > METHOD_MAX || !is_token(method.as_bytes()) => Err(Cause::MethodMalformed),
            _ => Ok(()),
        }
    }

    fn judge_target(&mut self, method: &str, target: &str) -> Result<(), Cause> {
        if !target.bytes().all(|b| (0x21..=0x7e).contains(&b) && b != b'#') {
            return Err(Cause::TargetMalformed);
        }
        if target == "*" {
            return if method == "OPTIONS" { self.asterisk() } else { Err(Cause::TargetMalformed) };
        }
        let origin = if target.starts_with('/') { target } else { split_absolute(target)?.1 };
        if origin.is_empty() && method == "OPTIONS" {
            // RFC 9112 section 3.2.4: the last proxy sends `*` for an absolute OPTIONS target without a path.
            return self.asterisk();
        }
        if origin.starts_with('/') {
            self.target = Span::appended(&mut self.line, origin);
        } else {
            let slash = Span::appended(&mut self.line, "/");
            self.target = slash.to(Span::appended(&mut self.line, origin));
        }
        match memchr(b'?', self.target().as_bytes()) {
            Some(at) => {
                self.path = self.target.first(at);
                self.query = Some(self.target.after(at + 1));
            }
            None => self.path = self.target,
        }
        Ok(())
    }

    fn asterisk(&mut self) -> Result<(), Cause> {
        self.target = Span::appended(&mut self.line, "*");
        self.path = self.target;
        self.form = TargetForm::Asterisk;
        Ok(())
    }

    fn judge_host(&mut self, target: &str, fields: &Fields) -> Result<(), Cause> {
        match (fields.hosts, self.version) {
            (0, Version::Http11 | Version::Http2) => return Err(Cause::HostMissing),
            (0 | 1, _) => {}
            _ => return Err(Cause::HostRepeated),
        }
        let mut written = None;
        if let Some(value) = self.head.known(FieldId::Host) {
            let authority = host::host_of(value, &mut self.scratch).map_err(|_| Cause::HostIllegal)?;
            self.host.push_str(authority.host);
            self.port = authority.port;
            written = Some(authority.port);
        }
        if target.starts_with('/') || target == "*" {
            return Ok(());
        }
        let (authority, _) = split_absolute(target)?;
        let authority =
            host::host_of(authority.as_bytes(), &mut self.scratch).map_err(|_| Cause::HostIllegal)?;
        // A port that is the scheme's own says no more than its absence.
        let default_port = if target.as_bytes().get(4) == Some(&b':') { 80 } else { 443 };
        match written {
            Some(port) => {
                let written = host::Authority { host: &self.host, port };
                let same = written.same_as(&authority, default_port);
                if same { Ok(()) } else { Err(Cause::AuthorityMismatch) }
            }
            None => {
                self.host.push_str(authority.host);
                self.port = authority.port;
                Ok(())
            }
        }
    }

    fn judge_framing(&mut self, fields: &Fields) -> Result<(), Cause> {
        if fields.lengths > 0 && fields.codings > 0 {
            return Err(Cause::FramingConflict);
        }
        if fields.codings > 0 {
            if self.version == Version::Http10 {
                return Err(Cause::TransferEncodingInOldVersion);
            }
            let value = self.head.known(FieldId::TransferEncoding).unwrap_or(b"");
            judge_transfer_encoding(value, fields.codings)?;
            self.framing = Framing::Chunked;
        } else if fields.lengths > 0 {
            let value = self.head.known(FieldId::ContentLength).unwrap_or(b"");
            if fields.lengths > 1 || value.contains(&b',') {
                return Err(Cause::LengthRepeated);
            }
            self.framing = Framing::of_length(decimal(value).ok_or(Cause::LengthInvalid)?);
        }
        Ok(())
    }

    fn judge_connection(&mut self) -> Result<(), Cause> {
        if !self.head.has(FieldId::Connection) {
            self.keep_alive = self.version != Version::Http10;
            return Ok(());
        }
        let (mut close, mut keep, mut upgrade) = (false, false, false);
        for value in self.head.get_all(b"connection") {
            for token in tokens(value) {
                close |= token.eq_ignore_ascii_case(b"close");
                keep |= token.eq_ignore_ascii_case(b"keep-alive");
                upgrade |= token.eq_ignore_ascii_case(b"upgrade");
            }
        }
        self.keep_alive = !close && (self.version != Version::Http10 || keep);
        // RFC 9110 section 7.8: a server ignores the field in a request of HTTP/1.0.
        self.asks_upgrade = upgrade && self.version == Version::Http11 && self.head.has(FieldId::Upgrade);
        self.head.drop_nominated(FieldId::is_protected).map_err(|_| Cause::ConnectionNomination)
    }

    fn judge_expect(&mut self) -> Result<(), Cause> {
        if !self.head.has(FieldId::Expect) {
            return Ok(());
        }
        let mut count = 0;
        for value in self.head.get_all(b"expect") {
            count += 1;
            if count > 1 || !value.eq_ignore_ascii_case(b"100-continue") {
                return Err(Cause::ExpectUnknown);
            }
        }
        self.expect_continue = count == 1 && self.version != Version::Http10 && self.framing != Framing::None;
        Ok(())
    }
}

/// Longest method accepted (Heroku's bound).
const METHOD_MAX: usize = 127;

/// Counts of the fields that decide framing and host.
#[derive(Debug, Default)]
struct Fields {
    hosts: usize,
    lengths: usize,
    codings: usize,
}

impl Fields {
    fn collect<'a>(
        head: &mut Head,
        lines: impl Iterator<Item = (&'a str, &'a [u8])>,
        rules: Rules,
    ) -> Result<Fields, Cause> {
        let mut counts = Fields::default();
        for (name, value) in lines {
            if name.is_empty() {
                return Err(Cause::FieldMalformed);
            }
            if !is_value(value) {
                return Err(Cause::FieldValueIllegal);
            }
            if name.contains('_') && !underscore_allowed(name, rules)? {
                continue;
            }
            match head.append(name.as_bytes(), value) {
                FieldId::Host => counts.hosts += 1,
                FieldId::ContentLength => counts.lengths += 1,
                FieldId::TransferEncoding => counts.codings += 1,
                _ => {}
            }
        }
        Ok(counts)
    }
}

/// A name with `_` reads like one with `-` in CGI-style servers: refused where that would forge identity or
/// framing, dropped otherwise unless the listener allows it.
fn underscore_allowed(name: &str, rules: Rules) -> Result<bool, Cause> {
    let mut dashed = [0_u8; 32];
    if let Some(text) = dashed.get_mut(..name.len()) {
        for (to, from) in text.iter_mut().zip(name.bytes()) {
            *to = if from == b'_' { b'-' } else { from };
        }
        let id = FieldId::of(text);
        if id.is_forwarding() || matches!(id, FieldId::ContentLength | FieldId::TransferEncoding) {
            return Err(Cause::UnderscoreField);
        }
    }
    Ok(rules.allow_underscore)
}

/// Splits `http://authority/rest` into authority and rest (which may be empty or begin with `?`).
fn split_absolute(target: &str) -> Result<(&str, &str), Cause> {
    let Some((scheme, rest)) = target.split_once("://") else {
        return Err(Cause::TargetMalformed);
    };
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        let named = scheme.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
        return Err(if named { Cause::SchemeUnsupported } else { Cause::TargetMalformed });
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, origin) = rest.split_at(end);
    Ok((authority, origin))
}

/// Exactly one `chunked` passes. Another coding is 501, and 400 when it follows `chunked`: where such a body ends cannot
/// be known (RFC 9112 section 6.3). Anything else is 400.
fn judge_transfer_encoding(value: &[u8], count: usize) -> Result<(), Cause> {
    if count == 1 && value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let (mut others, mut chunked) = (false, false);
    for token in value.split(|b| *b == b',').map(<[u8]>::trim_ascii) {
        let name = token.split(|b| *b == b';').next().unwrap_or(b"").trim_ascii();
        if !is_token(name) {
            return Err(Cause::TransferEncodingInvalid);
        }
        if chunked {
            return Err(Cause::TransferEncodingInvalid);
        }
        chunked = name.eq_ignore_ascii_case(b"chunked");
        others |= !chunked;
    }
    Err(if others && count == 1 {
        Cause::TransferEncodingUnsupported
    } else {
        Cause::TransferEncodingInvalid
    })
}

/// Names the fault in a head the parser refused. Off the plain path: walks the lines again.
fn diagnose(bytes: &[u8]) -> Cause {
    let mut lines = bytes.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let first = lines.next().unwrap_or(b"");
    if first == b"PRI * HTTP/2.0" {
        return Cause::Http2Preface;
    }
    if let Some(cause) = diagnose_request_line(first) {
        return cause;
    }
    for line in lines {
        if let Some(cause) = diagnose_field(line) {
            return cause;
        }
    }
    Cause::RequestLineMalformed
}

fn diagnose_request_line(line: &[u8]) -> Option<Cause> {
    if line.contains(&b'\r') {
        return Some(Cause::LineEndingMalformed);
    }
    let parts: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
    let [method, target, version] = parts.as_slice() else {
        return Some(Cause::RequestLineMalformed);
    };
    if !is_token(method) {
        return Some(if method.is_empty() { Cause::RequestLineMalformed } else { Cause::MethodMalformed });
    }
    if target.is_empty() {
        return Some(Cause::RequestLineMalformed);
    }
    if !matches!(*version, b"HTTP/1.1" | b"HTTP/1.0") {
        return Some(Cause::VersionUnsupported);
    }
    target.iter().any(|b| !(0x21..=0x7e).contains(b)).then_some(Cause::TargetMalformed)
}

fn diagnose_field(line: &[u8]) -> Option<Cause> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Some(Cause::FieldFolded);
    }
    if line.is_empty() {
        return None;
    }
    let Some(colon) = line.iter().position(|b| *b == b':') else {
        return Some(if line.contains(&b'\r') { Cause::LineEndingMalformed } else { Cause::FieldMalformed });
    };
    let (name, value) = line.split_at(colon);
    if !is_token(name) {
        return Some(if name.contains(&b'\r') { Cause::LineEndingMalformed } else { Cause::FieldMalformed });
    }
    if value.contains(&b'\r') {
        return Some(Cause::LineEndingMalformed);
    }
    (!is_value(value)).then_some(Cause::FieldValueIllegal)
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
