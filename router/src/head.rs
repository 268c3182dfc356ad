//! The message head: one buffer plus a linear list of fields that point into it; order and spelling kept.
//!
//! Shared by requests and responses and by every protocol version. Edits append to the buffer and mark old fields
//! dead, so a head is parsed, edited and written without allocating once its buffers have grown. Does not parse
//! (see `wire`) and does not judge (see `wire::request`, `wire::response`).

use memchr::memchr;

use crate::wire::words::is_name;

/// Names the router treats specially; everything else is `Other`. One byte a field instead of a string compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is the field name it stands for")]
pub enum FieldId {
    Accept,
    Authorization,
    ClientCert,
    ClientCertChain,
    Connection,
    ContentLength,
    ContentType,
    Cookie,
    Date,
    Expect,
    Forwarded,
    Host,
    Http2Settings,
    KeepAlive,
    ProxyAuthenticate,
    ProxyAuthorization,
    ProxyConnection,
    ProxyStatus,
    SetCookie,
    Te,
    Trailer,
    TransferEncoding,
    Upgrade,
    UserAgent,
    Via,
    XForwardedClientCert,
    XForwardedFor,
    XForwardedHost,
    XForwardedPort,
    XForwardedProto,
    XMirror,
    XRequestDeadline,
    XRequestId,
    XRequestStart,
    XRouterError,
    XRouterLoad,
    Other,
}

const KNOWN: &[(&str, FieldId)] = &[
    ("accept", FieldId::Accept),
    ("authorization", FieldId::Authorization),
    ("client-cert", FieldId::ClientCert),
    ("client-cert-chain", FieldId::ClientCertChain),
    ("connection", FieldId::Connection),
    ("content-length", FieldId::ContentLength),
    ("content-type", FieldId::ContentType),
    ("cookie", FieldId::Cookie),
    ("date", FieldId::Date),
    ("expect", FieldId::Expect),
    ("forwarded", FieldId::Forwarded),
    ("host", FieldId::Host),
    ("http2-settings", FieldId::Http2Settings),
    ("keep-alive", FieldId::KeepAlive),
    ("proxy-authenticate", FieldId::ProxyAuthenticate),
    ("proxy-authorization", FieldId::ProxyAuthorization),
    ("proxy-connection", FieldId::ProxyConnection),
    ("proxy-status", FieldId::ProxyStatus),
    ("set-cookie", FieldId::SetCookie),
    ("te", FieldId::Te),
    ("trailer", FieldId::Trailer),
    ("transfer-encoding", FieldId::TransferEncoding),
    ("upgrade", FieldId::Upgrade),
    ("user-agent", FieldId::UserAgent),
    ("via", FieldId::Via),
    ("x-forwarded-client-cert", FieldId::XForwardedClientCert),
    ("x-forwarded-for", FieldId::XForwardedFor),
    ("x-forwarded-host", FieldId::XForwardedHost),
    ("x-forwarded-port", FieldId::XForwardedPort),
    ("x-forwarded-proto", FieldId::XForwardedProto),
    ("x-mirror", FieldId::XMirror),
    ("x-request-deadline", FieldId::XRequestDeadline),
    ("x-request-id", FieldId::XRequestId),
    ("x-request-start", FieldId::XRequestStart),
    ("x-router-error", FieldId::XRouterError),
    ("x-router-load", FieldId::XRouterLoad),
];

impl FieldId {
    /// The id of a field name, in any case of letters. A length switch first, so that most names cost one branch.
    pub fn of(name: &[u8]) -> FieldId {
        use FieldId::*;
        let candidates: &[(&str, FieldId)] = match name.len() {
            2 => &[("te", Te)],
            3 => &[("via", Via)],
            4 => &[("host", Host), ("date", Date)],
            6 => &[("accept", Accept), ("cookie", Cookie), ("expect", Expect)],
            7 => &[("trailer", Trailer), ("upgrade", Upgrade)],
            8 => &[("x-mirror", XMirror)],
            9 => &[("forwarded", Forwarded)],
            10 => &[
                ("connection", Connection),
                ("user-agent", UserAgent),
                ("set-cookie", SetCookie),
                ("keep-alive", KeepAlive),
            ],
            11 => &[("client-cert", ClientCert)],
            12 => {
                &[("content-type", ContentType), ("x-request-id", XRequestId), ("proxy-status", ProxyStatus)]
            }
            13 => &[("authorization", Authorization), ("x-router-load", XRouterLoad)],
            14 => &[
                ("content-length", ContentLength),
                ("x-router-error", XRouterError),
                ("http2-settings", Http2Settings),
            ],
            15 => &[("x-forwarded-for", XForwardedFor), ("x-request-start", XRequestStart)],
            16 => &[
                ("x-forwarded-host", XForwardedHost),
                ("x-forwarded-port", XForwardedPort),
                ("proxy-connection", ProxyConnection),
            ],
            17 => &[
                ("client-cert-chain", ClientCertChain),
                ("transfer-encoding", TransferEncoding),
                ("x-forwarded-proto", XForwardedProto),
            ],
            18 => &[("proxy-authenticate", ProxyAuthenticate), ("x-request-deadline", XRequestDeadline)],
            19 => &[("proxy-authorization", ProxyAuthorization)],
            23 => &[("x-forwarded-client-cert", XForwardedClientCert)],
            _ => return Other,
        };
        candidates.iter().find(|(text, _)| is_name(name, text.as_bytes())).map_or(Other, |(_, id)| *id)
    }

    /// The lower-case name of a known id; empty for `Other`.
    pub fn name(self) -> &'static str {
        KNOWN.iter().find(|(_, id)| *id == self).map_or("", |(text, _)| text)
    }

    /// Fields that tell where a request came from or who sent it: the platform sets them, clients do not.
    pub fn is_forwarding(self) -> bool {
        use FieldId::*;
        matches!(
            self,
            XForwardedFor
                | XForwardedProto
                | XForwardedPort
                | XForwardedHost
                | XRequestId
                | XRequestStart
                | Forwarded
                | Via
                | ClientCert
                | ClientCertChain
                | XForwardedClientCert
        )
    }

    /// Fields that end at the next hop whatever `Connection` says (RFC 9110 section 7.6.1 and practice).
    pub fn is_hop_by_hop(self) -> bool {
        use FieldId::*;
        matches!(
            self,
            Connection
                | KeepAlive
                | ProxyConnection
                | ProxyAuthenticate
                | ProxyAuthorization
                | Te
                | TransferEncoding
                | Upgrade
                | Http2Settings
        )
    }

    /// Fields that no policy takes away: they belong to the connection, to framing, to the target or to the platform.
    /// The sets of `ekiden_config::fields`.
    pub fn is_kept_by_policy(self) -> bool {
        use FieldId::*;
        self.is_hop_by_hop()
            || self.is_forwarding()
            || matches!(self, Host | ContentLength | Expect | Trailer)
    }

    /// Fields a `Connection` field may not nominate: dropping them would change meaning or identity.
    pub fn is_protected(self) -> bool {
        use FieldId::*;
        self.is_forwarding()
            || matches!(self, Host | ContentLength | TransferEncoding | Authorization | Cookie)
    }
}

/// A half-open range of a head's buffer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// The bytes of the span in `buffer`; empty when out of bounds.
    pub fn of(self, buffer: &[u8]) -> &[u8] {
        buffer.get(self.start as usize..self.end as usize).unwrap_or(&[])
    }

    /// The text of the span in `text`; empty when out of bounds.
    pub fn text(self, text: &str) -> &str {
        text.get(self.start as usize..self.end as usize).unwrap_or("")
    }

    /// The span of what is appended to `text` by `append`.
    pub fn appended(text: &mut String, append: &str) -> Span {
        let start = text.len() as u32;
        text.push_str(append);
        Span { start, end: text.len() as u32 }
    }

    /// Where it stands.
    pub fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }

    /// Length in bytes.
    pub fn len(self) -> usize {
        self.end.saturating_sub(self.start) as usize
    }

    /// The first `count` bytes of the span.
    pub fn first(self, count: usize) -> Span {
        Span { start: self.start, end: self.end.min(self.start + count as u32) }
    }

    /// What follows the first `count` bytes of the span.
    pub fn after(self, count: usize) -> Span {
        Span { start: self.end.min(self.start + count as u32), end: self.end }
    }

    /// From the start of this span to the end of another one stored right after it.
    pub fn to(self, end: Span) -> Span {
        Span { start: self.start, end: end.end }
    }

    /// Whether the span is empty.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// One field line.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    name: Span,
    value: Span,
    /// What it is.
    pub id: FieldId,
    live: bool,
}

/// Start-line texts and fields of one message, over one buffer.
#[derive(Debug, Default)]
pub struct Head {
    buffer: Vec<u8>,
    fields: Vec<Field>,
}

impl Head {
    /// Forgets everything, keeps the allocations.
    pub fn clear(&mut self) {
        self.buffer.clear();
        self.fields.clear();
    }

    /// Gives back the memory in which nothing stands.
    pub fn slim(&mut self) {
        self.buffer.shrink_to_fit();
        self.fields.shrink_to_fit();
    }

    /// Appends text and returns where it stands. Heads are bounded far below 4 GiB by `HttpLimits`.
    pub fn store(&mut self, text: &[u8]) -> Span {
        let start = self.buffer.len() as u32;
        self.buffer.extend_from_slice(text);
        Span { start, end: self.buffer.len() as u32 }
    }

    /// The bytes of a span stored in this head.
    pub fn bytes(&self, span: Span) -> &[u8] {
        span.of(&self.buffer)
    }

    /// The text of a span, empty if it is not UTF-8 (request lines are checked to be ASCII).
    pub fn text(&self, span: Span) -> &str {
        std::str::from_utf8(self.bytes(span)).unwrap_or("")
    }

    /// Appends a field without looking at the others. Returns its id.
    pub fn append(&mut self, name: &[u8], value: &[u8]) -> FieldId {
        let id = FieldId::of(name);
        let name = self.store(name);
        let value = self.store(value);
        self.fields.push(Field { name, value, id, live: true });
        id
    }

    /// Removes every field of this name and appends one.
    pub fn set(&mut self, name: &[u8], value: &[u8]) {
        self.remove(name);
        self.append(name, value);
    }

    /// Removes every field of this name (any case of letters).
    pub fn remove(&mut self, name: &[u8]) {
        let id = FieldId::of(name);
        let buffer = &self.buffer;
        for field in &mut self.fields {
            if field.id == id && (id != FieldId::Other || field.name.of(buffer).eq_ignore_ascii_case(name)) {
                field.live = false;
            }
        }
    }

    /// Keeps only the fields for which `keep` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(FieldId, &[u8]) -> bool) {
        for field in &mut self.fields {
            if field.live && !keep(field.id, field.name.of(&self.buffer)) {
                field.live = false;
            }
        }
    }

    /// The first value of a field.
    pub fn get<'a>(&'a self, name: &'a [u8]) -> Option<&'a [u8]> {
        self.get_all(name).next()
    }

    /// Every value of a field, in order.
    pub fn get_all<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let id = FieldId::of(name);
        self.fields
            .iter()
            .filter(move |field| {
                field.live
                    && field.id == id
                    && (id != FieldId::Other || field.name.of(&self.buffer).eq_ignore_ascii_case(name))
            })
            .map(|field| field.value.of(&self.buffer))
    }

    /// The first value of a known field.
    pub fn known(&self, id: FieldId) -> Option<&[u8]> {
        self.fields
            .iter()
            .find(|field| field.live && field.id == id)
            .map(|field| field.value.of(&self.buffer))
    }

    /// Live fields in order: id, name as received, value.
    pub fn iter(&self) -> impl Iterator<Item = (FieldId, &[u8], &[u8])> {
        self.fields
            .iter()
            .filter(|field| field.live)
            .map(|field| (field.id, field.name.of(&self.buffer), field.value.of(&self.buffer)))
    }

    /// Whether any live field has this id.
    pub fn has(&self, id: FieldId) -> bool {
        self.fields.iter().any(|field| field.live && field.id == id)
    }

    /// Removes every field that a token of the `Connection` fields names. `refuse` is asked first for each token;
    /// it returns true when the nomination must not happen, which ends the walk with `Err`.
    pub fn drop_nominated(&mut self, mut refuse: impl FnMut(FieldId) -> bool) -> Result<(), Nomination> {
        let mut at = 0;
        while let Some(field) = self.fields.get(at).copied() {
            at += 1;
            if field.id != FieldId::Connection || !field.live {
                continue;
            }
            let mut rest = field.value;
            while !rest.is_empty() {
                let bytes = rest.of(&self.buffer);
                let comma = memchr(b',', bytes).unwrap_or(bytes.len());
                let token = trimmed(Span { start: rest.start, end: rest.start + comma as u32 }, &self.buffer);
                rest.start = (rest.start + comma as u32 + 1).min(rest.end);
                if token.is_empty() {
                    continue;
                }
                let name = token.of(&self.buffer);
                if is_connection_option(name) {
                    continue;
                }
                let id = FieldId::of(name);
                if refuse(id) {
                    return Err(Nomination(id));
                }
                let buffer = &self.buffer;
                for other in &mut self.fields {
                    if other.id == id
                        && (id != FieldId::Other || other.name.of(buffer).eq_ignore_ascii_case(name))
                    {
                        other.live = false;
                    }
                }
            }
        }
        Ok(())
    }
}

/// A `Connection` field named a field that it may not take away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nomination(pub FieldId);

fn is_connection_option(name: &[u8]) -> bool {
    [&b"close"[..], b"keep-alive", b"upgrade", b"te", b"connection"]
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known))
}

fn trimmed(mut span: Span, buffer: &[u8]) -> Span {
    let blank = |at: u32| buffer.get(at as usize).is_some_and(|b| *b == b' ' || *b == b'\t');
    while span.start < span.end && blank(span.start) {
        span.start += 1;
    }
    while span.start < span.end && blank(span.end - 1) {
        span.end -= 1;
    }
    span
}

/// Splits a list value at commas and trims blanks; quoted strings are not special (used for token lists only).
pub fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|b| *b == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_is_found_in_any_case() {
        for (name, id) in KNOWN {
            assert_eq!(FieldId::of(name.as_bytes()), *id, "{name}");
            assert_eq!(FieldId::of(name.to_ascii_uppercase().as_bytes()), *id, "{name}");
            assert_eq!(id.name(), *name);
        }
        assert_eq!(FieldId::of(b"x-forwarded-fox"), FieldId::Other);
        assert_eq!(FieldId::of(b""), FieldId::Other);
    }

    #[test]
    fn fields_that_configuration_may_not_touch_are_those_that_no_policy_takes_away() {
        use ekiden_config::fields::{OWN, PLATFORM};
        for (name, id) in KNOWN {
            let listed = OWN.contains(name) || PLATFORM.contains(name);
            assert_eq!(id.is_kept_by_policy(), listed, "{name}");
            assert_eq!(id.is_forwarding(), PLATFORM.contains(name), "{name}");
        }
        for name in OWN.iter().chain(PLATFORM) {
            assert_ne!(FieldId::of(name.as_bytes()), FieldId::Other, "{name}");
        }
    }

    #[test]
    fn edits_keep_order_and_spelling() {
        let mut head = Head::default();
        head.append(b"Host", b"a");
        head.append(b"X-One", b"1");
        head.append(b"x-ONE", b"2");
        head.append(b"Y", b"3");
        assert_eq!(head.get_all(b"x-one").collect::<Vec<_>>(), [&b"1"[..], b"2"]);
        head.set(b"X-One", b"9");
        head.remove(b"y");
        let all: Vec<_> = head.iter().map(|(_, n, v)| (n.to_vec(), v.to_vec())).collect();
        assert_eq!(all, [(b"Host".to_vec(), b"a".to_vec()), (b"X-One".to_vec(), b"9".to_vec())]);
    }

    #[test]
    fn nominated_fields_go_and_protected_ones_refuse() {
        let mut head = Head::default();
        head.append(b"Connection", b"close, X-Hop ,, keep-alive");
        head.append(b"x-hop", b"1");
        head.append(b"X-Stay", b"1");
        assert_eq!(head.drop_nominated(FieldId::is_protected), Ok(()));
        assert!(head.get(b"X-Hop").is_none());
        assert!(head.get(b"x-stay").is_some());
        for bad in [
            "Host",
            "content-length",
            "Transfer-Encoding",
            "cookie",
            "authorization",
            "x-forwarded-for",
            "via",
        ] {
            let mut head = Head::default();
            head.append(b"Connection", format!("close,{bad}").as_bytes());
            assert!(head.drop_nominated(FieldId::is_protected).is_err(), "{bad}");
        }
    }
}
