//! Credentials: which files are meant, and whether the app may use them. Does not read the files.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Fault, Scope, field};
use crate::fields;
use crate::model::{ApiKeys, Auth, Tokens};
use crate::names::{AppName, TrustName};
use crate::raw::{RawAuth, Spanned, TextOr, shown};

/// Where a key of a program stands unless it is written.
const KEY_HEADER: &str = "x-api-key";
const REALM: &str = "restricted";

/// Reads the words; none when something in them was refused.
pub(super) fn auth(scope: &mut Scope<'_, '_>, app: &AppName, raw: &RawAuth) -> Option<Auth> {
    let before = scope.report.errors();
    let world = scope.world;
    let users =
        raw.users.as_ref().and_then(|text| named(scope, app, (text, "users", "file of users"), &world.users));
    let api_keys = api_keys(scope, app, raw);
    let tokens = tokens(scope, app, raw);
    let realm = match &raw.realm {
        Some(text) => scope.accept(text.span, realm(&text.value)),
        None => Some(Arc::from(REALM)),
    };
    let id_header = raw.id_header.as_ref().and_then(|text| scope.accept(text.span, set_field(&text.value)));
    if raw.users.is_none() && raw.api_keys.is_none() && raw.jwt.is_none() {
        let help = "write `users`, `api_keys` or `jwt`, or `auth = \"off\"`";
        scope.report.error_help(
            raw.span,
            "missing_key",
            "`auth` says of no credentials that they are taken",
            help,
        );
    }
    if !raw.clean || scope.report.errors() > before {
        return None;
    }
    Some(Auth {
        users,
        api_keys,
        tokens,
        realm: realm?,
        id_header,
        hide_credentials: raw.hide_credentials.unwrap_or(false),
    })
}

fn api_keys(scope: &mut Scope<'_, '_>, app: &AppName, raw: &RawAuth) -> Option<ApiKeys> {
    let world = scope.world;
    let Some(text) = &raw.api_keys else {
        for (key, text) in [("api_key_header", &raw.api_key_header), ("api_key_query", &raw.api_key_query)] {
            if let Some(text) = text {
                let message = format!("`{key}` without `api_keys` does nothing");
                scope.report.error_help(text.span, "no_meaning", message, "write `api_keys` too");
            }
        }
        return None;
    };
    let keys = named(scope, app, (text, "api_keys", "file of API keys"), &world.api_keys);
    let header = match &raw.api_key_header {
        Some(text) => scope.accept(text.span, key_field(&text.value)),
        None => Some(Arc::from(KEY_HEADER)),
    };
    let query = raw.api_key_query.as_ref().map(|text| Arc::from(text.value.as_str()));
    Some(ApiKeys { keys: keys?, header: header?, query })
}

fn tokens(scope: &mut Scope<'_, '_>, app: &AppName, raw: &RawAuth) -> Option<Tokens> {
    let world = scope.world;
    let Some(text) = &raw.jwt else {
        let stray =
            [("claims", raw.claims.as_ref().map(|_| ())), ("require", raw.require.as_ref().map(|_| ()))];
        for (key, _) in stray.into_iter().filter(|(_, is_written)| is_written.is_some()) {
            let message = format!("`{key}` without `jwt` does nothing");
            scope.report.error_help(raw.span, "no_meaning", message, "write `jwt` too");
        }
        return None;
    };
    let issuer = named(scope, app, (text, "jwt", "issuer of tokens"), &world.issuers);
    let mut claims: Vec<(Arc<str>, Arc<str>)> = Vec::new();
    for (name, claim) in raw.claims.iter().flat_map(|map| &map.0) {
        let Some(field) = scope.accept(name.span, set_field(&name.value)) else { continue };
        claims.push((field, Arc::from(claim.value.as_str())));
    }
    let mut require: Vec<(Arc<str>, Vec<Arc<str>>)> = Vec::new();
    for (claim, values) in raw.require.iter().flat_map(|map| &map.0) {
        let texts = match values {
            TextOr::Text(text) => vec![Arc::from(text.value.as_str())],
            TextOr::Long(texts) => texts.iter().map(|text| Arc::from(text.value.as_str())).collect(),
        };
        if texts.is_empty() {
            scope.report.error_help(
                claim.span,
                "empty_list",
                "no value would do",
                "name the values, or leave the claim out",
            );
        }
        require.push((Arc::from(claim.value.as_str()), texts));
    }
    Some(Tokens { issuer: issuer?, claims, require })
}

/// An entry of the process file that the app may use.
pub(super) fn named(
    scope: &mut Scope<'_, '_>,
    app: &AppName,
    (text, key, what): (&Spanned<String>, &str, &str),
    known: &BTreeMap<TrustName, Vec<AppName>>,
) -> Option<TrustName> {
    if scope.world.is_open()
        && let Ok(name) = TrustName::new(&text.value)
    {
        return Some(name);
    }
    let Some((name, apps)) = known.get_key_value(text.value.as_str()) else {
        let message = format!("there is no {what} `{}`", shown(&text.value));
        let help = format!(
            "give it a name in the process file, as [{key}.NAME] with `apps`, and write the name here"
        );
        scope.report.error_help(text.span, "unknown_secret", message, help);
        return None;
    };
    if scope.world.may_use(app, apps) {
        return Some(name.clone());
    }
    let message = format!("the app `{app}` may not use the {what} `{name}`");
    let help = format!("add \"{app}\" to `apps` of [{key}.{name}] in the process file");
    scope.report.error_help(text.span, "secret_denied", message, help);
    None
}

/// A request field that a step sets; those of the connection, of framing and of the platform are not its own to set.
pub(super) fn set_field(text: &str) -> Result<Arc<str>, Fault> {
    let name = field::name(text)?.replace('_', "-");
    let others = ["authorization", "cookie", "origin"];
    if fields::OWN.contains(&&*name) || fields::PLATFORM.contains(&&*name) || others.contains(&&*name) {
        let fault = Fault::new("protected_field", format!("`{}` cannot be set so", shown(text)));
        return Err(fault.help("choose a field of your own, such as \"X-User\""));
    }
    Ok(Arc::from(text))
}

/// A request field that a client puts its key into.
fn key_field(text: &str) -> Result<Arc<str>, Fault> {
    let name = field::name(text)?;
    if name.contains('_') || fields::OWN.contains(&&*name) || fields::PLATFORM.contains(&&*name) {
        let fault = Fault::new("protected_field", format!("`{}` cannot hold a key", shown(text)));
        return Err(
            fault.help("choose a field of your own, such as \"X-API-Key\"; `_` is dropped by listeners")
        );
    }
    Ok(name)
}

/// What stands in a quoted string of a challenge.
fn realm(text: &str) -> Result<Arc<str>, Fault> {
    if text.bytes().all(|b| matches!(b, 0x20..=0x7e) && b != b'"' && b != b'\\') {
        return Ok(Arc::from(text));
    }
    Err(Fault::new("bad_text", "a realm is plain ASCII without quotes and backslashes"))
}
