//! Findings about the keys of a table: absent, unknown, meant otherwise. Called by the code that `declare` makes.

use super::read::wrong_type;
use super::scalar::shown;
use crate::diagnostic::Report;
use crate::source::Span;
use crate::tree::{Entry, Node, Value};

/// Whether a documented default says that there is none.
pub(super) const fn is_required(default: &str) -> bool {
    matches!(default.as_bytes(), b"required")
}

/// Says that a process file accepts nothing, and how it would.
pub(crate) fn missing_listener(span: Span, report: &mut Report<'_>) {
    let example = "such as:\n  [listener.edge]\n  address = \"127.0.0.1:8080\"";
    report.error_help(span.first(), "missing_listener", "there is no listener", example);
}

/// The entries of a table node.
pub(super) fn entries<'n>(
    node: &'n Node,
    title: &str,
    keys: &[(&str, bool)],
    report: &mut Report<'_>,
) -> Option<&'n [Entry]> {
    let Value::Table(entries) = &node.value else {
        let names = keys.iter().map(|(key, _)| *key).take(4).collect::<Vec<_>>().join(", ");
        wrong_type(node, &format!("a table ({title})"), Some(format!("its keys are {names}...")), report);
        return None;
    };
    Some(entries)
}

/// Reports required keys that are absent; says whether there was one.
pub(super) fn missing(
    node: &Node,
    entries: &[Entry],
    title: &str,
    keys: &[(&str, bool)],
    report: &mut Report<'_>,
) -> bool {
    let absent = |key: &str| !entries.iter().any(|entry| entry.key == key);
    let mut any = false;
    for (key, _) in keys.iter().filter(|(key, required)| *required && absent(key)) {
        any = true;
        // A mistyped key is one finding, not two.
        if entries.iter().any(|entry| meant(&entry.key, keys) == Some(*key)) {
            continue;
        }
        if *key == "listener" {
            missing_listener(node.span, report);
        } else {
            report.error(node.span, "missing_key", format!("{title} needs the key `{key}`"));
        }
    }
    any
}

/// Keys of other products and plurals, with ours.
const OTHER_WORDS: &[(&str, &str)] = &[
    ("backend", "cluster"),
    ("backends", "endpoints"),
    ("bind", "address"),
    ("health", "probe"),
    ("health_check", "probe"),
    ("healthcheck", "probe"),
    ("listen", "address"),
    ("max_fails", "ejection"),
    ("outlier_detection", "ejection"),
    ("path_prefix", "path"),
    ("port", "address"),
    ("servers", "endpoints"),
    ("targets", "endpoints"),
    ("to", "cluster"),
    ("upstream", "cluster"),
    ("upstreams", "endpoints"),
];

/// Reports a key that the table does not have.
pub(super) fn unknown_key(entry: &Entry, title: &str, keys: &[(&str, bool)], report: &mut Report<'_>) {
    let help = match meant(&entry.key, keys) {
        _ if title == super::APP_FILE && super::is_process_key(&entry.key) => {
            "only the process file may hold it; an app file holds route, cluster, listeners, timeout and \
             share_hosts_with"
                .to_owned()
        }
        Some(key) => format!("did you mean `{key}`?"),
        None => format!("known keys: {}", keys.iter().map(|(key, _)| *key).collect::<Vec<_>>().join(", ")),
    };
    let message = format!("unknown key `{}` in {title}", shown(&entry.key));
    report.error_help(entry.key_span, "unknown_key", message, help);
}

/// The key that an unknown key probably stands for; `None` for a known one.
fn meant<'k>(key: &str, keys: &[(&'k str, bool)]) -> Option<&'k str> {
    let known = || keys.iter().map(|(key, _)| *key);
    if known().any(|other| other == key) {
        return None;
    }
    let other = OTHER_WORDS.iter().find(|(theirs, _)| *theirs == key).map(|(_, ours)| *ours);
    other.and_then(|ours| known().find(|key| *key == ours)).or_else(|| nearest(key, known()))
}

/// The candidate that a mistyped text most probably meant, if any is near enough.
pub(crate) fn nearest<'c>(text: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    if text.len() > 64 {
        return None;
    }
    let lower = text.to_lowercase();
    let far = (lower.chars().count() / 3).max(1);
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= far)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
