//! Texts, flags, numbers, durations, sizes and statuses from nodes of the tree.

use std::time::Duration;

use super::quantity::{
    Bytes, Factor, RawRate, duration_words, factor_words, parse_duration, parse_rate, parse_size, size_words,
};
use super::read::{Bound, Raw, in_bound, wrong_type};
use super::shape::Shape;
use crate::diagnostic::Report;
use crate::tree::{Node, Value};

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
            report.error_help(
                node.span,
                "empty_text",
                "the text is empty",
                "leave the key out, or write something",
            );
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
            report.error_help(
                node.span,
                "bad_duration",
                format!("`{}` is not a duration", shown(text)),
                help,
            );
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
            let help =
                "bytes as an integer, or a text with B, KB, MB, GB, KiB, MiB or GiB, such as \"64KiB\"";
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

impl Raw for RawRate {
    fn shape(bound: Bound) -> Shape {
        Shape::Rate { min: bound.min, max: bound.max }
    }

    fn read(node: &Node, bound: Bound, report: &mut Report<'_>) -> Option<Self> {
        let text = match &node.value {
            Value::Text(text) => text,
            Value::Int(number) => {
                let help = format!("a rate has a unit: \"{number}/s\", \"{number}/m\" or \"{number}/h\"");
                wrong_type(node, "a rate", Some(help), report);
                return None;
            }
            Value::Null | Value::Bool(_) | Value::Float(_) | Value::List(_) | Value::Table(_) => {
                wrong_type(node, "a rate such as \"100/s\"", None, report);
                return None;
            }
        };
        let Some(rate) = parse_rate(text) else {
            let help = "a whole number per s, m or h, such as \"100/s\" or \"30/m\"";
            report.error_help(node.span, "bad_rate", format!("`{}` is not a rate", shown(text)), help);
            return None;
        };
        if !in_bound(rate.count, bound) {
            let message = format!("`{text}` is out of range: {} to {} is allowed", bound.min, bound.max);
            report.error(node.span, "out_of_range", message);
            return None;
        }
        Some(rate)
    }
}

impl Raw for Factor {
    fn shape(bound: Bound) -> Shape {
        Shape::Factor { min: bound.min, max: bound.max }
    }

    fn read(node: &Node, bound: Bound, report: &mut Report<'_>) -> Option<Self> {
        let number = match node.value {
            Value::Float(number) => number,
            Value::Int(number) => number as f64,
            Value::Null | Value::Bool(_) | Value::Text(_) | Value::List(_) | Value::Table(_) => {
                wrong_type(node, "a factor such as 1.25", None, report);
                return None;
            }
        };
        // Saturates, and a NaN becomes 0: both are out of range.
        let hundredths = (number * 100.0).round() as u64;
        match u32::try_from(hundredths).ok().filter(|_| in_bound(hundredths, bound)) {
            Some(hundredths) => Some(Factor(hundredths)),
            None => {
                let (min, max) = (factor_words(bound.min), factor_words(bound.max));
                let message = format!("{number} is out of range: {min} to {max} is allowed");
                report.error(node.span, "out_of_range", message);
                None
            }
        }
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
                [Node { value: Value::Int(low), .. }, Node { value: Value::Int(high), .. }] => {
                    Some((*low, *high))
                }
                _ => None,
            },
            Value::Null | Value::Bool(_) | Value::Float(_) | Value::Table(_) => None,
        };
        let bounded = |status: i64| u16::try_from(status).ok().filter(|status| (100..=599).contains(status));
        let range =
            ends.and_then(|(low, high)| bounded(low).zip(bounded(high))).filter(|(low, high)| low <= high);
        if range.is_none() {
            let help = "write 200, \"200-299\" or [200, 399], each from 100 to 599, the lower first";
            report.error_help(node.span, "bad_status", "not a range of statuses", help);
        }
        range.map(|(low, high)| Status(low, high))
    }
}
