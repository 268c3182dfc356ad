//! Reads nodes of the tree into typed values; what does not fit becomes a finding and `None`.

use super::scalar::{TEXT_BOUND, shown};
use super::shape::Shape;
use super::table::nearest;
use crate::diagnostic::Report;
use crate::source::Span;
use crate::tree::{Node, Value};

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
pub(super) fn wrong_type(node: &Node, wanted: &str, help: Option<String>, report: &mut Report<'_>) {
    let message = format!("expected {wanted}, found {}", node.value.kind());
    report.error_maybe(node.span, "wrong_type", message, help);
}

pub(super) fn in_bound(number: u64, bound: Bound) -> bool {
    (bound.min..=bound.max).contains(&number)
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
            report.error_help(
                node.span,
                "empty_list",
                "the list is empty",
                "leave the key out, or name something",
            );
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

/// A number as the short form of something longer.
#[derive(Debug, Clone)]
pub(crate) enum CountOr<T> {
    /// The short form.
    Count(Spanned<u64>),
    /// The long form.
    Long(T),
}

impl<T: Raw> Raw for CountOr<T> {
    fn shape(bound: Bound) -> Shape {
        Shape::Either(vec![u64::shape(bound), T::shape(T::BOUND)])
    }

    fn read(node: &Node, bound: Bound, report: &mut Report<'_>) -> Option<Self> {
        match &node.value {
            Value::Table(_) => T::read(node, T::BOUND, report).map(CountOr::Long),
            _ => Spanned::read(node, bound, report).map(CountOr::Count),
        }
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

/// One thing, or a list of such things.
#[derive(Debug, Clone)]
pub(crate) struct OneOrMany<T>(pub(crate) Vec<T>);

impl<T: Raw> Raw for OneOrMany<T> {
    const BOUND: Bound = LIST_BOUND;

    fn shape(bound: Bound) -> Shape {
        Shape::Either(vec![T::shape(T::BOUND), Vec::<T>::shape(bound)])
    }

    fn read(node: &Node, bound: Bound, report: &mut Report<'_>) -> Option<Self> {
        match &node.value {
            Value::List(_) => Vec::read(node, bound, report).map(OneOrMany),
            Value::Table(_)
            | Value::Null
            | Value::Bool(_)
            | Value::Int(_)
            | Value::Float(_)
            | Value::Text(_) => T::read(node, T::BOUND, report).map(|one| OneOrMany(vec![one])),
        }
    }
}

/// Yes or no as the short form of something longer.
#[derive(Debug, Clone)]
pub(crate) enum FlagOr<T> {
    /// The short form.
    Flag(bool),
    /// The long form.
    Long(T),
}

impl<T: Raw> Raw for FlagOr<T> {
    const BOUND: Bound = T::BOUND;

    fn shape(bound: Bound) -> Shape {
        Shape::Either(vec![bool::shape(bound), T::shape(bound)])
    }

    fn read(node: &Node, bound: Bound, report: &mut Report<'_>) -> Option<Self> {
        match &node.value {
            Value::Bool(flag) => Some(FlagOr::Flag(*flag)),
            Value::Table(_) => T::read(node, bound, report).map(FlagOr::Long),
            Value::Text(_) | Value::Null | Value::Int(_) | Value::Float(_) | Value::List(_) => {
                wrong_type(node, "`true`, `false` or a table", None, report);
                None
            }
        }
    }
}

/// A port, or whether the usual one is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PortOrFlag {
    /// The port.
    Port(u16),
    /// Yes or no.
    Flag(bool),
}

impl Raw for PortOrFlag {
    fn shape(bound: Bound) -> Shape {
        Shape::Either(vec![bool::shape(bound), u64::shape(bound)])
    }

    fn read(node: &Node, bound: Bound, report: &mut Report<'_>) -> Option<Self> {
        match &node.value {
            Value::Int(_) => u16::try_from(u64::read(node, bound, report)?).ok().map(PortOrFlag::Port),
            Value::Bool(flag) => Some(PortOrFlag::Flag(*flag)),
            Value::Text(_) | Value::Null | Value::Float(_) | Value::List(_) | Value::Table(_) => {
                wrong_type(node, "`true`, `false` or a port", None, report);
                None
            }
        }
    }
}
