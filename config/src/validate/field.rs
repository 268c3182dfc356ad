//! Field names, field values and header edits.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use super::{Fault, Scope};
use crate::fields;
use crate::model::HeaderEdits;
use crate::raw::{RawEdits, Spanned, TextOr, shown};

/// Fields that belong to a connection or to framing: the router writes them itself.
const OWN_FIELDS: &[&str] = &[
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Checks a field name; the result is in lower case.
pub(super) fn name(text: &str) -> Result<Arc<str>, Fault> {
    match HeaderName::from_bytes(text.as_bytes()) {
        Ok(name) => Ok(Arc::from(name.as_str())),
        Err(_) => Err(Fault::new("bad_field_name", format!("`{}` is not a header name", shown(text)))
            .help("letters, digits and - are safe; spaces and colons are not allowed")),
    }
}

/// Checks a field value: no control characters but tab, no blank at either end.
pub(super) fn value(text: &str) -> Result<Arc<str>, Fault> {
    if HeaderValue::from_bytes(text.as_bytes()).is_err() {
        return Err(Fault::new("bad_field_value", "a header value holds a control character"));
    }
    if text.trim_matches([' ', '\t']) != text {
        return Err(Fault::new("bad_field_value", "a header value begins or ends with a blank"));
    }
    Ok(Arc::from(text))
}

fn edited_name(text: &str) -> Result<Arc<str>, Fault> {
    let lower = name(text)?;
    if !OWN_FIELDS.contains(&&*lower) {
        return Ok(lower);
    }
    let fault = Fault::new("protected_field", format!("`{}` cannot be edited", shown(text)));
    Err(match &*lower {
        "host" => fault.help("use `rewrite = { host = \"...\" }`"),
        _ => fault.help("it belongs to the connection or to framing; the router writes it itself"),
    })
}

/// Checks edits of requests: those of fields that the router writes itself would do nothing, and are refused.
pub(super) fn request_edits(scope: &mut Scope<'_, '_>, raw: Option<&RawEdits>) -> HeaderEdits {
    let removed = raw.into_iter().flat_map(|raw| raw.remove.iter().flatten());
    let set = raw.into_iter().flat_map(|raw| raw.set.iter().flat_map(|map| &map.0)).map(|(key, _)| key);
    let added = raw.into_iter().flat_map(|raw| raw.add.iter().flat_map(|map| &map.0)).map(|(key, _)| key);
    for (key, edit) in removed
        .map(|key| (key, "remove"))
        .chain(set.map(|key| (key, "set")))
        .chain(added.map(|key| (key, "add")))
    {
        let _reported = scope.accept(key.span, effective(&key.value, edit));
    }
    edits(scope, raw)
}

/// Whether an edit of a request field changes what goes upstream.
fn effective(text: &str, edit: &str) -> Result<(), Fault> {
    let lower = text.to_ascii_lowercase();
    let name = lower.as_str();
    let fault = || Fault::new("protected_field", format!("`{}` cannot be edited so", shown(text)));
    if fields::WRITTEN.contains(&name) {
        return Err(fault().help("the router writes it itself for every request, whatever the edits say"));
    }
    // A received `Via` goes on as it is, so all edits of it work.
    let idle = match edit {
        "add" => fields::PLATFORM.contains(&name) && name != "via",
        "remove" => {
            name.starts_with("x-forwarded-") && fields::PLATFORM.contains(&name) || name == "x-request-start"
        }
        _ => false,
    };
    // A certificate field of a trusted proxy can be taken away; the others come back from what the router knows.
    if idle && !(edit == "remove" && name == "x-forwarded-client-cert") {
        return Err(fault().help("the router writes or drops it; `set` replaces it"));
    }
    Ok(())
}

/// Checks header edits.
pub(super) fn edits(scope: &mut Scope<'_, '_>, raw: Option<&RawEdits>) -> HeaderEdits {
    let mut edits = HeaderEdits::default();
    let Some(raw) = raw else { return edits };
    for text in raw.remove.iter().flatten() {
        edits.remove.extend(scope.accept(text.span, edited_name(&text.value)));
    }
    for (key, text) in raw.set.iter().flat_map(|map| &map.0) {
        edits.set.extend(pair(scope, key, text));
    }
    for (key, texts) in raw.add.iter().flat_map(|map| &map.0) {
        match texts {
            TextOr::Text(text) => edits.add.extend(pair(scope, key, text)),
            TextOr::Long(texts) => {
                for text in texts {
                    edits.add.extend(pair(scope, key, text));
                }
            }
        }
    }
    edits
}

/// A name, as written, with its value.
fn pair(
    scope: &mut Scope<'_, '_>,
    key: &Spanned<String>,
    text: &Spanned<String>,
) -> Option<(Arc<str>, Arc<str>)> {
    let name = scope.accept(key.span, edited_name(&key.value));
    let value = scope.accept(text.span, value(&text.value));
    name.zip(value).map(|(_, value)| (Arc::from(key.value.as_str()), value))
}
