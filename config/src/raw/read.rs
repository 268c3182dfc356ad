//! Reads nodes of the tree into typed values; what does not fit becomes a finding and `None`.

use std::time::Duration;

use super::quantity::{Bytes, duration_words, parse_duration, parse_size, size_words};
use super::shape::Shape;
use crate::diagnostic::Report;
use crate::source::Span;
use crate::tree::{Entry, Node, Value};

/// Inclusive bounds: of a number, of a text's bytes, of a list's length.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bound {
    pub(crate) min: u64,
    pub(crate) max: u64,
}

/// A type that can be read from a node.
pub(crate) trait Raw: Sized {
    /// Bounds when the declaration names none.
    const BOUND: Bound = Bound { min: 0, max: u64::MAX };
    /// What may be written.
    fn shape(bound: Bound) -> Shape;
    /// Reads; on failure tells the report and gives `None`.
    fn read(node: &Node, bound: Bound, report: &mut Report<'_>) -> Option<Self>;
}

/// A value with its place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Spanned<T> {
    pub(crate) value: T,
    pub(crate) span: Span,
}

impl<T: Raw> Raw for Spanned<T> {
    const BOUND: Bound = T::BOUND;

    fn shape(bound: Bound) -> Shape {
        T::shape(bound)
    }

    fn read(node: &Node, bound: Bound, report: &mut Report<'_>) -> Option<Self> {
        T::read(node, bound, report).map(|value| Self { value, span: node.span })
    }
}

/// Tells that a value has the wrong type.
fn wrong_type(node: &Node, wanted: &str, help: Option<String>, report: &mut Report<'_>) {
    let message = format!("expected {wanted}, found {}", node.value.kind());
    report.error_maybe(node.span, "wrong_type", message, help);
}

fn in_bound(number: u64, bound: Bound) -> bool {
    (bound.min..=bound.max).contains(&number)
}

/// Longest text where the declaration names no bound, in bytes.
pub(crate) const TEXT_BOUND: Bound = Bound { min: 1, max: 8192 };

impl Raw for String {
    const BOUND: Bound = TEXT_BOUND;

    fn shape(bound: Bound) -> Shape {
        Shape::Text { min: bound.min, max: bound.max }
    }

    fn read(node: &Node, bound: Bound, report: &mut Report<'_>) -> Option<Self> {
        let text = match &node.value {
            Value::Text(text) => text,
            Value::Int(_) | Value::Float(_) | Value::Bool(_) => {
                wrong_type(node, "a text", Some("put it in quotes".to_owned()), report);
                return None;
            }
            Value::Null | Value::List(_) | Value::Table(_) => {
                wrong_type(node, "a text", None, report);
                return None;
            }
        };
        if text.is_empty() && bound.min > 0 {
            report.error_help(node.span, "empty_text", "the text is empty", "leave the key out, or write something");
            return None;
        }
        if !in_bound(text.len() as u64, bound) {
            let message = format!("the text has {} bytes; at most {} are allowed", text.len(), bound.max);
            report.error(node.span, "text_too_long", message);
            return None;
        }
        Some(text.clone())
    }
}

impl Raw for bool {
    fn shape(_: Bound) -> Shape {
        Shape::Flag
    }

    fn read(node: &Node, _: Bound, report: &mut Report<'_>) -> Option<Self> {
        let Value::Bool(flag) = node.value else {
            wrong_type(node, "`true` or `false`", None, report);
            return None;
        };
        Some(flag)
    }
}

impl Raw for u64 {
    fn shape(bound: Bound) -> Shape {
        Shape::Count { min: bound.min, max: bound.max }
    }

    fn read(node: &Node, bound: Bound, report: &mut Report<'_>) -> Option<Self> {
        let Value::Int(number) = node.value else {
            let text_number = matches!(&node.value, Value::Text(text) if text.parse::<u64>().is_ok());
            let help = text_number.then(|| "write it without quotes".to_owned());
            wrong_type(node, "an integer", help, report);
            return None;
        };
        match u64::try_from(number).ok().filter(|number| in_bound(*number, bound)) {
            Some(number) => Some(number),
            None => {
                let message = format!("{number} is out of range: {} to {} is allowed", bound.min, bound.max);
                report.error(node.span, "out_of_range", message);
                None
            }
        }
    }
}

impl Raw for Duration {
    const BOUND: Bound = Bound { min: 1, max: 24 * 3_600_000 };

    fn shape(bound: Bound) -> Shape {
        Shape::Duration { min: bound.min, max: bound.max }
    }

    fn read(node: &Node, bound: Bound, report: &mut Report<'_>) -> Option<Self> {
        let text = match &node.value {
            Value::Text(text) => text,
            Value::Int(number) => {
                let help = format!("a duration has a unit: \"{number}s\" or \"{number}ms\"");
                wrong_type(node, "a duration", Some(help), report);
                return None;
            }
            Value::Null | Value::Bool(_) | Value::Float(_) | Value::List(_) | Value::Table(_) => {
                wrong_type(node, "a duration such as \"5s\"", None, report);
                return None;
            }
        };
        let Some(duration) = parse_duration(text) else {
            let help = "whole numbers with ms, s, m or h, such as \"500ms\", \"5s\" or \"1m30s\"";
            report.error_help(node.span, "bad_duration", format!("`{}` is not a duration", shown(text)), help);
            return None;
        };
        let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        if !in_bound(ms, bound) {
            let (min, max) = (duration_words(bound.min), duration_words(bound.max));
            let message = format!("`{text}` is out of range: {min} to {max} is allowed");
            report.error(node.span, "out_of_range", message);
            return None;
        }
        Some(duration)
    }
}

impl Raw for Bytes {
    fn shape(bound: Bound) -> Shape {
        Shape::Size { min: bound.min, max: bound.max }
    }

    fn read(node: &Node, bound: Bound, report: &mut Report<'_>) -> Option<Self> {
        let (bytes, written) = match &node.value {
            Value::Int(number) => (u64::try_from(*number).ok(), number.to_string()),
            Value::Text(text) => (parse_size(text), shown(text)),
            Value::Null | Value::Bool(_) | Value::Float(_) | Value::List(_) | Value::Table(_) => {
                wrong_type(node, "a size such as \"64KiB\"", None, report);
                return None;
            }
        };
        let Some(bytes) = bytes else {
            let help = "bytes as an integer, or a text with B, KB, MB, GB, KiB, MiB or GiB, such as \"64KiB\"";
            report.error_help(node.span, "bad_size", format!("`{written}` is not a size"), help);
            return None;
        };
        if !in_bound(bytes, bound) {
            let (min, max) = (size_words(bound.min), size_words(bound.max));
            let message = format!("`{written}` is out of range: {min} to {max} is allowed");
            report.error(node.span, "out_of_range", message);
            return None;
        }
        Some(Bytes(bytes))
    }
}

/// A text of the file as shown in a message: short, without control characters.
pub(crate) fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(80).flat_map(char::escape_debug).collect();
    if text.chars().count() > 80 {
        shown.push_str("...");
    }
    shown
}

/// A type whose values are written as words.
pub(crate) trait Words: Copy + 'static {
    /// Every word with its value.
    const WORDS: &'static [(&'static str, Self)];
}

/// One of the words of a type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Word<T>(pub(crate) T);

impl<T: Words> Raw for Word<T> {
    fn shape(_: Bound) -> Shape {
        Shape::Words(T::WORDS.iter().map(|(word, _)| *word).collect())
    }

    fn read(node: &Node, _: Bound, report: &mut Report<'_>) -> Option<Self> {
        let words = || T::WORDS.iter().map(|(word, _)| *word);
        let all = words().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
        let Value::Text(text) = &node.value else {
            wrong_type(node, &format!("one of {all}"), None, report);
            return None;
        };
        if let Some((_, value)) = T::WORDS.iter().find(|(word, _)| word == text) {
            return Some(Word(*value));
        }
        let help = match nearest(text, words()) {
            Some(word) => format!("did you mean \"{word}\"? One of {all}"),
            None => format!("one of {all}"),
        };
        report.error_help(node.span, "unknown_value", format!("unknown value `{}`", shown(text)), help);
        None
    }
}

/// A value or the word `off`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Off<T> {
    /// The word.
    Off,
    /// The value.
    Set(T),
}

impl<T: Raw> Raw for Off<T> {
    const BOUND: Bound = T::BOUND;

    fn shape(bound: Bound) -> Shape {
        Shape::Either(vec![Shape::Words(vec!["off"]), T::shape(bound)])
    }

    fn read(node: &Node, bound: Bound, report: &mut Report<'_>) -> Option<Self> {
        match &node.value {
            Value::Text(text) if text == "off" => Some(Off::Off),
            _ => T::read(node, bound, report).map(Off::Set),
        }
    }
}

/// Longest list or table where the declaration names no bound.
pub(crate) const LIST_BOUND: Bound = Bound { min: 0, max: 1_000_000 };

impl<T: Raw> Raw for Vec<T> {
    const BOUND: Bound = LIST_BOUND;

    fn shape(bound: Bound) -> Shape {
        Shape::List { of: Box::new(T::shape(T::BOUND)), min: bound.min, max: bound.max }
    }

    fn read(node: &Node, bound: Bound, report: &mut Report<'_>) -> Option<Self> {
        let Value::List(items) = &node.value else {
            wrong_type(node, "a list", Some("put it in `[` and `]`".to_owned()), report);
            return None;
        };
        if (items.len() as u64) < bound.min {
            report.error_help(node.span, "empty_list", "the list is empty", "leave the key out, or name something");
            return None;
        }
        if items.len() as u64 > bound.max {
            let message = format!("the list has {} items; at most {} are allowed", items.len(), bound.max);
            report.error(node.span, "list_too_long", message);
            return None;
        }
        Some(items.iter().filter_map(|item| T::read(item, T::BOUND, report)).collect())
    }
}

/// A table whose keys are names, in the order of the text.
#[derive(Debug, Clone)]
pub(crate) struct Map<T>(pub(crate) Vec<(Spanned<String>, T)>);

impl<T: Raw> Raw for Map<T> {
    const BOUND: Bound = LIST_BOUND;

    fn shape(_: Bound) -> Shape {
        Shape::Map(Box::new(T::shape(T::BOUND)))
    }

    fn read(node: &Node, bound: Bound, report: &mut Report<'_>) -> Option<Self> {
        let Value::Table(entries) = &node.value else {
            wrong_type(node, "a table of names", None, report);
            return None;
        };
        if entries.len() as u64 > bound.max {
            let message = format!("the table has {} keys; at most {} are allowed", entries.len(), bound.max);
            report.error(node.span, "list_too_long", message);
            return None;
        }
        let mut map = Vec::with_capacity(entries.len());
        for entry in entries {
            let key = Spanned { value: entry.key.clone(), span: entry.key_span };
            if let Some(value) = T::read(&entry.node, T::BOUND, report) {
                map.push((key, value));
            }
        }
        Some(Map(map))
    }
}

/// A text as the short form of something longer.
#[derive(Debug, Clone)]
pub(crate) enum TextOr<T> {
    /// The short form.
    Text(Spanned<String>),
    /// The long form.
    Long(T),
}

impl<T: Raw> Raw for TextOr<T> {
    const BOUND: Bound = TEXT_BOUND;

    fn shape(bound: Bound) -> Shape {
        Shape::Either(vec![String::shape(bound), T::shape(T::BOUND)])
    }

    fn read(node: &Node, bound: Bound, report: &mut Report<'_>) -> Option<Self> {
        match &node.value {
            Value::Table(_) | Value::List(_) => T::read(node, T::BOUND, report).map(TextOr::Long),
            Value::Text(_) | Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => {
                Spanned::read(node, bound, report).map(TextOr::Text)
            }
        }
    }
}

/// A range of statuses: `200`, `"200-299"` or `[200, 399]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status(pub(crate) u16, pub(crate) u16);

impl Raw for Status {
    fn shape(_: Bound) -> Shape {
        Shape::Status
    }

    fn read(node: &Node, _: Bound, report: &mut Report<'_>) -> Option<Self> {
        let ends = match &node.value {
            Value::Int(status) => Some((*status, *status)),
            Value::Text(text) => match text.split_once('-') {
                Some((low, high)) => low.trim().parse().ok().zip(high.trim().parse().ok()),
                None => text.parse().ok().map(|status: i64| (status, status)),
            },
            Value::List(ends) => match ends.as_slice() {
                [Node { value: Value::Int(low), .. }, Node { value: Value::Int(high), .. }] => Some((*low, *high)),
                _ => None,
            },
            Value::Null | Value::Bool(_) | Value::Float(_) | Value::Table(_) => None,
        };
        let bounded = |status: i64| u16::try_from(status).ok().filter(|status| (100..=599).contains(status));
        let range = ends.and_then(|(low, high)| bounded(low).zip(bounded(high))).filter(|(low, high)| low <= high);
        if range.is_none() {
            let help = "write 200, \"200-299\" or [200, 399], each from 100 to 599, the lower first";
            report.error_help(node.span, "bad_status", "not a range of statuses", help);
        }
        range.map(|(low, high)| Status(low, high))
    }
}

/// Whether a documented default says that there is none.
pub(super) const fn is_required(default: &str) -> bool {
    matches!(default.as_bytes(), b"required")
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
            let example = "such as:\n  [listener.edge]\n  address = \"127.0.0.1:8080\"";
            report.error_help(node.span.first(), "missing_listener", "there is no listener", example);
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
