//! What listeners, apps and routes let in: lists of networks, hosts, methods, media types and field names.
//!
//! Merges key by key: what is written wins over what stands below it, and `off` clears it.

use std::sync::Arc;

use super::{Fault, Scope, condition, field, host, network};
use crate::fields;
use crate::model::{Admission, FieldPattern, MediaRange};
use crate::raw::{
    Bytes, DeniedWord, Off, RawAllow, RawDeny, RawListenerAllow, RawListenerDeny, Spanned, shown,
};

type Texts = Option<Off<Vec<Spanned<String>>>>;

/// What is written of it on an app or a route.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Written<'a> {
    pub(super) allow: Option<&'a RawAllow>,
    pub(super) deny: Option<&'a RawDeny>,
    pub(super) denied_headers: Option<DeniedWord>,
    pub(super) head_limit: Option<Bytes>,
    pub(super) fields_limit: Option<u64>,
}

impl Written<'_> {
    fn is_nothing(&self) -> bool {
        self.allow.is_none()
            && self.deny.is_none()
            && self.denied_headers.is_none()
            && self.head_limit.is_none()
            && self.fields_limit.is_none()
    }
}

/// Lays what is written over what stands below. Shares what is below when nothing is written.
pub(super) fn over(
    scope: &mut Scope<'_, '_>,
    below: Option<&Arc<Admission>>,
    written: &Written<'_>,
) -> Option<Arc<Admission>> {
    if written.is_nothing() {
        return below.cloned();
    }
    let mut made = below.map(|below| (**below).clone()).unwrap_or_default();
    if let Some(allow) = written.allow {
        list(scope, &mut made.allow_clients, &allow.clients, network);
        list(scope, &mut made.allow_hosts, &allow.hosts, host::host);
        list(scope, &mut made.allow_methods, &allow.methods, condition::method);
        list(scope, &mut made.allow_content_types, &allow.content_types, media);
        list(scope, &mut made.allow_headers, &allow.headers, pattern);
    }
    if let Some(deny) = written.deny {
        list(scope, &mut made.deny_clients, &deny.clients, network);
        list(scope, &mut made.deny_hosts, &deny.hosts, host::host);
        list(scope, &mut made.deny_headers, &deny.headers, pattern);
    }
    if let Some(word) = written.denied_headers {
        made.denied_headers = word.0;
    }
    if let Some(size) = written.head_limit {
        made.head_limit = u32::try_from(size.0).ok();
    }
    if let Some(count) = written.fields_limit {
        made.fields_limit = u16::try_from(count).ok();
    }
    (made != Admission::default()).then(|| Arc::new(made))
}

/// What a listener serves.
pub(super) fn listener(
    scope: &mut Scope<'_, '_>,
    allow: Option<&RawListenerAllow>,
    deny: Option<&RawListenerDeny>,
) -> Option<Arc<Admission>> {
    let mut made = Admission::default();
    if let Some(allow) = allow {
        list(scope, &mut made.allow_clients, &allow.clients, network);
        list(scope, &mut made.allow_hosts, &allow.hosts, host::host);
    }
    if let Some(deny) = deny {
        list(scope, &mut made.deny_clients, &deny.clients, network);
        list(scope, &mut made.deny_hosts, &deny.hosts, host::host);
    }
    (made != Admission::default()).then(|| Arc::new(made))
}

/// Replaces a list by what is written. A faulty item is a finding, and with one the whole file is not taken: a list that
/// lost its items is never in force.
fn list<T: PartialEq>(
    scope: &mut Scope<'_, '_>,
    into: &mut Vec<T>,
    written: &Texts,
    check: fn(&str) -> Result<T, Fault>,
) {
    let texts = match written {
        None => return,
        Some(Off::Off) => &[][..],
        Some(Off::Set(texts)) => texts,
    };
    into.clear();
    for text in texts {
        let item = scope.accept(text.span, check(&text.value));
        into.extend(item.filter(|item| !into.contains(item)));
    }
}

/// `type/subtype` or `type/*`.
fn media(text: &str) -> Result<MediaRange, Fault> {
    let bad = |help: &str| {
        Fault::new("bad_media_type", format!("`{}` is not a media type", shown(text))).help(help)
    };
    if text.contains(';') {
        return Err(bad("leave parameters out: they are not looked at"));
    }
    let Some((kind, subtype)) = text.split_once('/') else {
        return Err(bad("write \"application/json\" or \"image/*\""));
    };
    // A media type's parts are made of the same characters as field names, but for `*`.
    let token = |part: &str| !part.contains('*') && field::name(part).is_ok();
    if kind == "*" {
        return Err(bad("leave the key out, or write \"off\", for every type"));
    }
    if !token(kind) || !(subtype == "*" || token(subtype)) {
        return Err(bad("write \"application/json\" or \"image/*\""));
    }
    let subtype = (subtype != "*").then(|| Arc::from(subtype.to_ascii_lowercase()));
    Ok(MediaRange { kind: Arc::from(kind.to_ascii_lowercase()), subtype })
}

/// A field name or `prefix*`. Names that the connection, framing or the platform needs are refused; a prefix may cover
/// some of them and never touches them.
fn pattern(text: &str) -> Result<FieldPattern, Fault> {
    let (name, prefix) = match text.strip_suffix('*') {
        Some(name) => (name, true),
        None => (text, false),
    };
    if name.is_empty() || name.contains('*') {
        let fault = Fault::new("bad_field_name", format!("`{}` is not a header name", shown(text)));
        return Err(fault.help("a name, or what names begin with and one `*` behind it: \"x-debug-*\""));
    }
    let name = field::name(name)?.replace('_', "-");
    if !prefix && (fields::OWN.contains(&&*name) || fields::PLATFORM.contains(&&*name)) {
        let message = format!("`{}` can be neither allowed nor denied", shown(text));
        return Err(Fault::new("protected_field", message).help(
            "it belongs to the connection, to framing or to the platform; the router writes it itself",
        ));
    }
    Ok(FieldPattern { name: Arc::from(name), prefix })
}
