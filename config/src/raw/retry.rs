//! What a request is sent again for, as written: `connect`, `reset`, a status, or a range of statuses.

use super::read::{Bound, Raw};
use super::scalar::{Status, shown};
use super::shape::Shape;
use crate::diagnostic::Report;
use crate::tree::{Node, Value};

/// One condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RetryOn {
    /// `connect`.
    Connect,
    /// `reset`.
    Reset,
    /// Statuses, the lowest and the highest.
    Status(u16, u16),
}

/// The words, with what they stand for.
const WORDS: [(&str, RetryOn); 4] = [
    ("connect", RetryOn::Connect),
    ("reset", RetryOn::Reset),
    ("4xx", RetryOn::Status(400, 499)),
    ("5xx", RetryOn::Status(500, 599)),
];

impl Raw for RetryOn {
    fn shape(bound: Bound) -> Shape {
        Shape::Either(vec![Shape::Words(WORDS.iter().map(|(word, _)| *word).collect()), Status::shape(bound)])
    }

    fn read(node: &Node, bound: Bound, report: &mut Report<'_>) -> Option<Self> {
        if let Value::Text(text) = &node.value {
            if let Some((_, on)) = WORDS.iter().find(|(word, _)| word == text) {
                return Some(*on);
            }
            if !text.starts_with(|first: char| first.is_ascii_digit()) {
                let message = format!("unknown condition `{}`", shown(text));
                let help =
                    "one of \"connect\", \"reset\", \"4xx\", \"5xx\", a status such as 503, or \"500-599\"";
                report.error_help(node.span, "unknown_value", message, help);
                return None;
            }
        }
        let Status(low, high) = Status::read(node, bound, report)?;
        if low < 400 {
            let help = "a request is sent again after statuses from 400 on";
            report.error_help(node.span, "bad_status", "the status is no error", help);
            return None;
        }
        Some(RetryOn::Status(low, high))
    }
}
