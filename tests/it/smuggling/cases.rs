//! What a case is: bytes for one client connection, and what must become of them.
//!
//! Every case carries a second request, `/smuggled-ID`, where a parser that reads the framing differently would find
//! one. The grammars stand in `framing`, `chunks` and `lines`. Sends nothing.

/// What must become of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// The router refuses: no endpoint sees a whole request.
    Refused,
    /// One request with this body; the hidden one is data of it.
    One(Vec<u8>),
    /// Two requests, rightly: the client pipelined the second, and the router says so in a record of its own.
    Two(Vec<u8>),
}

/// One case. `@id` in the bytes is replaced by the number of the case.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) name: String,
    bytes: Vec<u8>,
    pub(super) fate: Fate,
}

/// The request that must not come to life.
pub(super) const HIDDEN: &str = "GET /smuggled-@id HTTP/1.1\r\nHost: a\r\n\r\n";

impl Case {
    pub(super) fn new(name: impl Into<String>, bytes: impl Into<Vec<u8>>, fate: Fate) -> Self {
        Self { name: name.into(), bytes: bytes.into(), fate }
    }

    /// What is sent.
    pub(super) fn bytes(&self, id: usize) -> Vec<u8> {
        numbered(&self.bytes, id)
    }

    /// The body that the endpoint must get.
    pub(super) fn body(&self, id: usize) -> Vec<u8> {
        match &self.fate {
            Fate::Refused => Vec::new(),
            Fate::One(body) | Fate::Two(body) => numbered(body, id),
        }
    }
}

/// Replaces every `@id`. Four digits, so that every length can be known before the number is.
pub(super) fn numbered(bytes: &[u8], id: usize) -> Vec<u8> {
    filled(bytes, b"@id", format!("{id:04}").as_bytes())
}

/// The length that a text has once it is numbered.
pub(super) fn length(text: &[u8]) -> usize {
    numbered(text, 0).len()
}

/// Replaces every `mark` by `value`.
pub(super) fn filled(bytes: &[u8], mark: &[u8], value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = rest.windows(mark.len()).position(|window| window == mark) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(value);
        rest = &rest[at + mark.len()..];
    }
    out.extend_from_slice(rest);
    out
}

/// A head of these field lines (each without CRLF; what stands inside is sent as it is) and what follows it.
pub(super) fn request(line: &str, fields: &[&[u8]], body: &[u8]) -> Vec<u8> {
    let mut out = line.as_bytes().to_vec();
    out.extend_from_slice(b"\r\n");
    for field in fields {
        out.extend_from_slice(field);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body);
    out
}

/// Every case, under a name of its own.
pub(super) fn corpus() -> Vec<Case> {
    let all = [super::framing::cases(), super::chunks::cases(), super::lines::cases()].concat();
    let names: std::collections::BTreeSet<&str> = all.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), all.len(), "two cases of one name");
    assert!((300..10_000).contains(&all.len()), "{} cases", all.len());
    all
}
