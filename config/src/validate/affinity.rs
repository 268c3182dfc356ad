//! Affinity of a cluster: what carries the mark, whose key signs it, and what does not go together.

use std::sync::Arc;

use super::auth::named;
use super::{Fault, Scope, field};
use crate::fields;
use crate::model::{AffinityCookie, AffinityPolicy, Carrier, SameSite};
use crate::names::AppName;
use crate::raw::{Off, RawAffinity, RawCluster, Spanned, shown};

/// Reads how clients come back. `None` after a finding.
pub(super) fn affinity(
    scope: &mut Scope<'_, '_>,
    app: &AppName,
    cluster: &RawCluster,
    raw: &RawAffinity,
) -> Option<Arc<AffinityPolicy>> {
    let before = scope.report.errors();
    if cluster.shard.is_some() {
        let message = "with `shard` the key decides which endpoint serves a request, and with `affinity` the client's mark";
        scope.report.error_help(raw.span, "conflict", message, "leave one of them out");
    }
    let carrier = carrier(scope, raw);
    let world = scope.world;
    let key = match &raw.key {
        Some(text) => Some(named(scope, app, (text, "affinity_key", "affinity key"), &world.affinity_keys)?),
        None => None,
    };
    if !raw.clean || scope.report.errors() > before {
        return None;
    }
    let lifetime = match raw.lifetime {
        Some(Off::Set(time)) => Some(time),
        Some(Off::Off) | None => None,
    };
    Some(Arc::new(AffinityPolicy { carrier: carrier?, key, lifetime }))
}

fn carrier(scope: &mut Scope<'_, '_>, raw: &RawAffinity) -> Option<Carrier> {
    match (&raw.cookie, &raw.header) {
        (Some(name), None) => cookie(scope, raw, name).map(Carrier::Cookie),
        (None, Some(name)) => {
            let words = [
                ("path", raw.path.as_ref().map(|text| text.span)),
                ("same_site", raw.same_site.as_ref().map(|word| word.span)),
                ("secure", raw.secure.as_ref().map(|flag| flag.span)),
            ];
            for (key, span) in words.into_iter().filter_map(|(key, span)| Some((key, span?))) {
                let message = format!("`{key}` is of cookies, and means nothing with `header`");
                scope.report.error_help(span, "no_meaning", message, "leave it out");
            }
            scope.accept(name.span, header(&name.value)).map(Carrier::Header)
        }
        (Some(_), Some(_)) | (None, None) => {
            if raw.clean {
                let message = "affinity has exactly one of `cookie` and `header`";
                let help = "such as { cookie = \"server\" }";
                scope.report.error_help(raw.span, "one_of", message, help);
            }
            None
        }
    }
}

fn cookie(scope: &mut Scope<'_, '_>, raw: &RawAffinity, name: &Spanned<String>) -> Option<AffinityCookie> {
    let same_site = raw.same_site.as_ref().map(|word| word.value.0).unwrap_or_default();
    let secure = raw.secure.as_ref().map(|flag| flag.value);
    if let (SameSite::None, false, Some(word)) = (same_site, secure == Some(true), &raw.same_site) {
        let message = "browsers refuse a cookie with `SameSite=None` that is not `Secure`";
        scope.report.error_help(word.span, "needs_secure", message, "write `secure = true` too");
    }
    let path = match &raw.path {
        Some(text) => scope.accept(text.span, path(&text.value))?,
        None => Arc::from("/"),
    };
    let name_text = scope.accept(name.span, cookie_name(&name.value))?;
    if name_text.starts_with("__Host-") && (&*path != "/" || secure != Some(true)) {
        let message = "browsers refuse a cookie named `__Host-...` without `Secure` and the path `/`";
        scope.report.error_help(name.span, "needs_secure", message, "write `secure = true`, and no `path`");
    } else if name_text.starts_with("__Secure-") && secure != Some(true) {
        let message = "browsers refuse a cookie named `__Secure-...` without `Secure`";
        scope.report.error_help(name.span, "needs_secure", message, "write `secure = true`");
    }
    Some(AffinityCookie { name: name_text, path, same_site, secure })
}

/// A token (RFC 6265 section 4.1.1).
fn cookie_name(text: &str) -> Result<Arc<str>, Fault> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if text.bytes().all(token) {
        return Ok(Arc::from(text));
    }
    Err(Fault::new("bad_cookie", format!("`{}` is no name of a cookie", shown(text)))
        .help("letters, digits, - and _ are safe; no blanks, no = and no ;"))
}

/// What may stand in `Path=`.
fn path(text: &str) -> Result<Arc<str>, Fault> {
    if text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';') {
        return Ok(Arc::from(text));
    }
    Err(Fault::new("bad_path", format!("`{}` is no path of a cookie", shown(text)))
        .help("begin with `/`; visible ASCII without `;`"))
}

/// A field of both requests and responses, which the router writes and takes away.
fn header(text: &str) -> Result<Arc<str>, Fault> {
    let name = field::name(text)?;
    let others = ["authorization", "cookie", "set-cookie", "origin"];
    if name.contains('_')
        || fields::OWN.contains(&&*name)
        || fields::PLATFORM.contains(&&*name)
        || others.contains(&&*name)
    {
        let fault = Fault::new("protected_field", format!("`{}` cannot hold a mark", shown(text)));
        return Err(fault.help("choose a field of your own, such as \"X-Affinity\""));
    }
    Ok(name)
}
