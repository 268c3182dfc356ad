//! The steps that say whether a request is let in, compiled from a listener's or a route's [`Admission`].
//!
//! Judges what is known once the head is read. Answers nothing, removes nothing and counts no body bytes: the router does.
//! Passing allocates nothing and takes no lock. Order: client, host, method, size of the head, fields, body type.

use std::net::IpAddr;
use std::sync::Arc;

use ekiden_config::model::{Admission, DeniedHeaders, FieldPattern, HostMatch, MediaRange};

use super::nets::NetSet;
use crate::outcome::Cause;
use crate::table::Fields;

/// What is known of a request when it is judged.
#[derive(Clone, Copy)]
pub struct Applicant<'a> {
    /// The client; none over a unix socket without a trusted proxy. It is in no network.
    pub client: Option<IpAddr>,
    /// As [`crate::host::host_of`] gives it; empty when the request has none.
    pub host: &'a str,
    /// The method token, in its case.
    pub method: &'a str,
    /// Whether a body follows.
    pub has_body: bool,
    /// Bytes of the head as received.
    pub head_bytes: u64,
    /// Field lines as received.
    pub field_count: usize,
    /// The header fields.
    pub fields: &'a dyn Fields,
}

/// The compiled steps of a listener or a route. A list that is not written is `None` or empty, and its step passes.
#[derive(Debug)]
pub struct AdmissionSteps {
    allow_clients: Option<NetSet>,
    deny_clients: Option<NetSet>,
    allow_hosts: Option<HostSet>,
    deny_hosts: Option<HostSet>,
    methods: Vec<Arc<str>>,
    allow_line: String,
    content_types: Vec<MediaRange>,
    fields: Option<FieldFilter>,
    head_limit: Option<u32>,
    fields_limit: Option<u16>,
}

impl AdmissionSteps {
    /// Makes the steps. Cost: the lengths of the lists, sorted.
    pub fn new(words: &Admission) -> Self {
        let mut methods = words.allow_methods.clone();
        let has = |methods: &[Arc<str>], name: &str| methods.iter().any(|method| **method == *name);
        if has(&methods, "GET") && !has(&methods, "HEAD") {
            // As everywhere: a rule that takes GET takes HEAD (RFC 9110 section 9.1).
            methods.push(Arc::from("HEAD"));
        }
        Self {
            allow_clients: NetSet::allowed(words),
            deny_clients: NetSet::denied(words),
            allow_hosts: HostSet::of(&words.allow_hosts),
            deny_hosts: HostSet::of(&words.deny_hosts),
            allow_line: methods.join(", "),
            methods,
            content_types: words.allow_content_types.clone(),
            fields: FieldFilter::of(words),
            head_limit: words.head_limit,
            fields_limit: words.fields_limit,
        }
    }

    /// Whether the client's address matters, so that it is looked for only then.
    pub fn asks_client(&self) -> bool {
        self.allow_clients.is_some() || self.deny_clients.is_some()
    }

    /// Lets a request in, or says why not. The fields are [`AdmissionSteps::fields`]'s to judge.
    pub fn judge(&self, request: &Applicant<'_>) -> Result<(), Cause> {
        let among = |set: &NetSet| request.client.is_some_and(|client| set.has(client));
        if self.deny_clients.as_ref().is_some_and(among)
            || self.allow_clients.as_ref().is_some_and(|set| !among(set))
        {
            return Err(Cause::ClientDenied);
        }
        let named = |set: &HostSet| set.has(request.host);
        if self.deny_hosts.as_ref().is_some_and(named)
            || self.allow_hosts.as_ref().is_some_and(|set| !named(set))
        {
            return Err(Cause::HostDenied);
        }
        if !self.methods.is_empty() && !self.methods.iter().any(|method| **method == *request.method) {
            return Err(Cause::MethodDenied);
        }
        if self.head_limit.is_some_and(|limit| request.head_bytes > u64::from(limit)) {
            return Err(Cause::HeadTooLarge);
        }
        if self.fields_limit.is_some_and(|limit| request.field_count > usize::from(limit)) {
            return Err(Cause::TooManyFields);
        }
        if request.has_body && !self.content_types.is_empty() && !self.takes_type(request.fields) {
            return Err(Cause::ContentTypeDenied);
        }
        Ok(())
    }

    /// The value of `Allow` for [`Cause::MethodDenied`].
    pub fn allow_line(&self) -> &str {
        &self.allow_line
    }

    /// Which request fields are passed on; none when all are.
    pub fn fields(&self) -> Option<&FieldFilter> {
        self.fields.as_ref()
    }

    /// Exactly one Content-Type, and one that is listed: two could be read differently by the endpoint.
    fn takes_type(&self, fields: &dyn Fields) -> bool {
        let (mut count, mut good) = (0_u32, false);
        fields.each("content-type", &mut |value| {
            count += 1;
            good = self.content_types.iter().any(|range| in_range(range, value));
            count < 2
        });
        count == 1 && good
    }
}

/// Whether a Content-Type value is in a range, whatever its parameters.
fn in_range(range: &MediaRange, value: &[u8]) -> bool {
    let end = value.iter().position(|b| *b == b';').unwrap_or(value.len());
    let Some((essence, parameters)) = value.split_at_checked(end) else { return false };
    let essence = essence.trim_ascii();
    let Some(slash) = essence.iter().position(|b| *b == b'/') else { return false };
    let (Some(kind), Some(subtype)) = (essence.get(..slash), essence.get(slash + 1..)) else { return false };
    let listed = match &range.subtype {
        Some(wanted) => subtype.eq_ignore_ascii_case(wanted.as_bytes()),
        None => !subtype.is_empty() && subtype.iter().copied().all(is_type_byte),
    };
    listed && kind.eq_ignore_ascii_case(range.kind.as_bytes()) && is_single(parameters)
}

/// The bytes of a media type's name (RFC 6838 section 4.2).
fn is_type_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte)
}

/// Whether parameters hold no comma outside of quotes: one would begin another media type for a reader of lists.
fn is_single(parameters: &[u8]) -> bool {
    let (mut quoted, mut escaped) = (false, false);
    for byte in parameters {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => return false,
            _ => {}
        }
    }
    !quoted
}

/// Hosts, exact and by suffix, each sorted.
#[derive(Debug)]
struct HostSet {
    exact: Vec<Arc<str>>,
    suffixes: Vec<Arc<str>>,
}

impl HostSet {
    fn of(hosts: &[HostMatch]) -> Option<Self> {
        if hosts.is_empty() {
            return None;
        }
        let mut set = Self { exact: Vec::new(), suffixes: Vec::new() };
        for host in hosts {
            match host {
                HostMatch::Exact(name) => set.exact.push(name.clone()),
                HostMatch::Wildcard(suffix) => set.suffixes.push(suffix.clone()),
                // `validate` takes none.
                HostMatch::Any => {}
            }
        }
        set.exact.sort_unstable();
        set.suffixes.sort_unstable();
        Some(set)
    }

    fn has(&self, host: &str) -> bool {
        let find = |list: &[Arc<str>], name: &str| list.binary_search_by(|known| (**known).cmp(name)).is_ok();
        if find(&self.exact, host) {
            return true;
        }
        let mut rest = host;
        while let Some((_, below)) = rest.split_once('.').filter(|_| !self.suffixes.is_empty()) {
            if find(&self.suffixes, below) {
                return true;
            }
            rest = below;
        }
        false
    }
}

/// Which request fields are passed on. Knows no protected fields: the router never asks about them.
#[derive(Debug)]
pub struct FieldFilter {
    allow: Vec<FieldPattern>,
    deny: Vec<FieldPattern>,
    mode: DeniedHeaders,
}

impl FieldFilter {
    fn of(words: &Admission) -> Option<Self> {
        let (allow, deny) = (words.allow_headers.clone(), words.deny_headers.clone());
        (!allow.is_empty() || !deny.is_empty()).then_some(Self { allow, deny, mode: words.denied_headers })
    }

    /// Whether a field of this name is passed on. `_` reads as `-`, as servers behind CGI-like doors read it.
    pub fn takes(&self, name: &[u8]) -> bool {
        let listed = |list: &[FieldPattern]| list.iter().any(|pattern| fits(pattern, name));
        !listed(&self.deny) && (self.allow.is_empty() || listed(&self.allow))
    }

    /// Whether one field that is not passed on refuses the request.
    pub fn refuses(&self) -> bool {
        self.mode == DeniedHeaders::Refuse
    }
}

fn fits(pattern: &FieldPattern, name: &[u8]) -> bool {
    let wanted = pattern.name.as_bytes();
    let Some(head) = name.get(..wanted.len()) else { return false };
    let folded = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    (pattern.prefix || name.len() == wanted.len())
        && head.iter().zip(wanted).all(|(byte, wanted)| folded(*byte) == *wanted)
}

#[cfg(test)]
mod tests;
