//! CORS: origins as browsers write them, and what may not stand together by the Fetch standard.

use std::sync::Arc;

use super::{Fault, Scope, condition, field, host};
use crate::model::{Cors, OriginPattern, Origins};
use crate::raw::{RawCors, Spanned, shown};

const ORIGIN_HELP: &str = "write \"https://example.com\", with a port where it is not the default one, or \"https://*.example.com\"";

/// Reads the words; none when something in them was refused.
pub(super) fn cors(scope: &mut Scope<'_, '_>, raw: &RawCors) -> Option<Cors> {
    let before = scope.report.errors();
    let credentials = raw.credentials.unwrap_or(false);
    let origins = origins(scope, raw, credentials);
    let methods = names(scope, raw.methods.as_deref(), condition::method);
    let headers = names(scope, raw.headers.as_deref(), field::name);
    let expose = names(scope, raw.expose.as_deref(), field::name);
    if credentials && let Some(star) = raw.expose.iter().flatten().find(|text| text.value == "*") {
        let message = "beside credentials `*` is the name of a field and not all of them";
        scope.report.error_help(star.span, "cors_star", message, "name the fields that pages may read");
    }
    if !raw.clean || scope.report.errors() > before {
        return None;
    }
    Some(Cors { origins: origins?, methods, headers, expose, credentials, max_age: raw.max_age })
}

fn origins(scope: &mut Scope<'_, '_>, raw: &RawCors, credentials: bool) -> Option<Origins> {
    let texts = raw.origins.as_deref()?;
    if let Some(star) = texts.iter().find(|text| text.value == "*") {
        if texts.len() > 1 {
            let message = "`*` is every origin, and others stand beside it";
            scope.report.error_help(star.span, "conflict", message, "leave `*` alone, or out");
        } else if credentials {
            let message = "credentials for every origin would let any page act as its visitor";
            scope.report.error_help(star.span, "cors_star", message, "name the origins");
        }
        return Some(Origins::Any);
    }
    let mut made: Vec<OriginPattern> = Vec::with_capacity(texts.len());
    for text in texts {
        let pattern = scope.accept(text.span, origin(&text.value));
        made.extend(pattern.filter(|pattern| !made.contains(pattern)));
    }
    Some(Origins::Listed(made))
}

/// An origin, brought into the form in which browsers write it.
fn origin(text: &str) -> Result<OriginPattern, Fault> {
    let bad = |help: &str| Fault::new("bad_origin", format!("`{}` is not an origin", shown(text))).help(help);
    if text == "null" {
        return Err(bad("every sandboxed page and every file has the origin `null`: it names nobody"));
    }
    let (scheme, rest) = text.split_once("://").ok_or_else(|| bad(ORIGIN_HELP))?;
    let default_port = match scheme {
        "https" => "443",
        "http" => "80",
        _ => return Err(bad("the scheme is http or https, in lower case")),
    };
    if rest.contains(['/', '?', '#', '@']) {
        return Err(bad("an origin has scheme, host and port only: no path, and no `/` at its end"));
    }
    // The last colon of a bracketed address belongs to a port only behind the bracket.
    let (name, port) = match rest.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (rest, None),
    };
    let port = match port {
        None => String::new(),
        Some(port) if port == default_port => String::new(),
        Some(port) => match port.parse::<u16>() {
            Ok(number @ 1..) if !port.starts_with(['0', '+']) => format!(":{number}"),
            _ => return Err(bad("a port is a number from 1 to 65535")),
        },
    };
    if let Some(suffix) = name.strip_prefix("*.") {
        let suffix = host::plain(suffix, suffix).map_err(|_| bad(ORIGIN_HELP))?.to_string();
        let labels = suffix.split('.').count();
        if labels < 2 || suffix.parse::<std::net::IpAddr>().is_ok() || suffix.starts_with('[') {
            return Err(bad(
                "a `*` stands before a domain with at least one dot: anybody can have a name under a top level",
            ));
        }
        let suffix = Arc::from(format!(".{suffix}{port}"));
        return Ok(OriginPattern::Subdomains { scheme: Arc::from(format!("{scheme}://")), suffix });
    }
    let host = host::plain(name, name).map_err(|_| bad(ORIGIN_HELP))?;
    Ok(OriginPattern::Exact(Arc::from(format!("{scheme}://{host}{port}"))))
}

/// Names, or `*` alone. Each counts once.
fn names(
    scope: &mut Scope<'_, '_>,
    texts: Option<&[Spanned<String>]>,
    check: fn(&str) -> Result<Arc<str>, Fault>,
) -> Vec<Arc<str>> {
    let texts = texts.unwrap_or_default();
    // `*` covers every field but this one.
    let may_stay =
        |text: &Spanned<String>| text.value == "*" || text.value.eq_ignore_ascii_case("authorization");
    if let Some(star) = texts.iter().find(|text| text.value == "*")
        && !texts.iter().all(may_stay)
    {
        let message = "`*` is all of them, and others stand beside it";
        scope.report.error_help(star.span, "conflict", message, "leave `*` alone, or out");
    }
    let mut made: Vec<Arc<str>> = Vec::with_capacity(texts.len());
    for text in texts {
        let name = if text.value == "*" {
            Some(Arc::from("*"))
        } else {
            scope.accept(text.span, check(&text.value))
        };
        made.extend(name.filter(|name| !made.contains(name)));
    }
    made
}
