//! Conditions of a route on path, methods and named values.

use std::sync::{Arc, LazyLock};

use http::Method;

use super::{Fault, Scope, field, path, pattern};
use crate::model::{PathMatch, ValueCondition, ValueTest};
use crate::raw::{Map, RawPath, RawTest, Spanned, TextOr, shown};

/// The path of routes that name none: one text for all of them.
static ROOT: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from("/"));

/// Methods that people write in lower case by mistake.
const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"];

/// Reads a path condition; absent means everything.
pub(super) fn path_match(scope: &mut Scope<'_, '_>, raw: Option<&TextOr<RawPath>>) -> Option<PathMatch> {
    let raw = match raw {
        None => return Some(PathMatch::Prefix(Arc::clone(&ROOT))),
        Some(TextOr::Text(text)) => {
            return scope.accept(text.span, path::prefix(&text.value)).map(PathMatch::Prefix);
        }
        Some(TextOr::Long(raw)) => raw,
    };
    match (&raw.prefix, &raw.exact, &raw.regex) {
        (Some(text), None, None) => scope.accept(text.span, path::prefix(&text.value)).map(PathMatch::Prefix),
        (None, Some(text), None) => scope.accept(text.span, path::literal(&text.value)).map(PathMatch::Exact),
        (None, None, Some(text)) => pattern::pattern(scope, text).map(PathMatch::Regex),
        _ => {
            if raw.clean {
                let message = "a path has exactly one of `prefix`, `exact` and `regex`";
                scope.report.error(raw.span, "one_of", message);
            }
            None
        }
    }
}

/// Reads methods: tokens as written.
pub(super) fn methods(scope: &mut Scope<'_, '_>, raw: &[Spanned<String>]) -> Vec<Arc<str>> {
    let mut methods: Vec<Arc<str>> = Vec::with_capacity(raw.len());
    for text in raw {
        let checked = scope.accept(text.span, method(&text.value));
        methods.extend(checked.filter(|method| !methods.contains(method)));
    }
    methods
}

/// Reads one method: a token as written.
pub(super) fn method(text: &str) -> Result<Arc<str>, Fault> {
    let bad = || Fault::new("bad_method", format!("`{}` is not a method", shown(text)));
    if Method::from_bytes(text.as_bytes()).is_err() || text.len() > 32 {
        return Err(bad().help("at most 32 letters, such as GET"));
    }
    let upper = text.to_ascii_uppercase();
    if upper != text && METHODS.contains(&upper.as_str()) {
        return Err(bad().help(format!("methods are case-sensitive; did you mean \"{upper}\"?")));
    }
    Ok(Arc::from(text))
}

/// Reads header conditions; names in lower case.
pub(super) fn headers(scope: &mut Scope<'_, '_>, raw: Option<&Map<TextOr<RawTest>>>) -> Vec<ValueCondition> {
    values(scope, raw, field::name)
}

/// Reads conditions on query parameters or cookies; names as written.
pub(super) fn plain(scope: &mut Scope<'_, '_>, raw: Option<&Map<TextOr<RawTest>>>) -> Vec<ValueCondition> {
    values(scope, raw, |text| {
        if text.is_empty() || text.len() > 1024 || text.chars().any(char::is_control) {
            return Err(Fault::new("bad_name", "a name is empty, too long, or holds a control character"));
        }
        Ok(Arc::from(text))
    })
}

fn values(
    scope: &mut Scope<'_, '_>,
    raw: Option<&Map<TextOr<RawTest>>>,
    name: fn(&str) -> Result<Arc<str>, Fault>,
) -> Vec<ValueCondition> {
    let mut conditions = Vec::new();
    for (key, raw) in raw.iter().flat_map(|map| &map.0) {
        let name = scope.accept(key.span, name(&key.value));
        let test = test(scope, raw);
        conditions.extend(name.zip(test).map(|(name, test)| ValueCondition { name, test }));
    }
    // One order for all formats and for equality: JSON tools reorder keys.
    conditions.sort_by(|a, b| a.name.cmp(&b.name));
    conditions
}

/// Reads one test: a text that a value equals, or a table.
pub(super) fn test(scope: &mut Scope<'_, '_>, raw: &TextOr<RawTest>) -> Option<ValueTest> {
    let raw = match raw {
        TextOr::Text(text) => return Some(ValueTest::Equals(Arc::from(text.value.as_str()))),
        TextOr::Long(raw) => raw,
    };
    match (&raw.equals, &raw.regex, raw.present) {
        (Some(text), None, None) => Some(ValueTest::Equals(Arc::from(text.value.as_str()))),
        (None, Some(text), None) => pattern::pattern(scope, text).map(ValueTest::Regex),
        (None, None, Some(true)) => Some(ValueTest::Present),
        (None, None, Some(false)) => Some(ValueTest::Absent),
        _ => {
            if raw.clean {
                let message = "a condition has exactly one of `equals`, `regex` and `present`";
                scope.report.error(raw.span, "one_of", message);
            }
            None
        }
    }
}
