//! One neutral value tree with byte spans, read from TOML, YAML or JSON.
//!
//! Knows syntax only: a syntax error ends the file with one finding. Keys keep the order of the text; a key stands
//! once in its table.

mod json;
mod toml;
mod yaml;

use crate::diagnostic::Report;
use crate::source::{Format, Source, Span, TEXT_MAX};

/// Deepest nesting accepted in any format; every reader and everything that walks a tree may recurse.
pub(crate) const DEPTH_MAX: usize = 32;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) value: Value,
}

/// What the three formats have in common.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Table(Vec<Entry>),
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_span: Span,
    pub(crate) node: Node,
}

impl Value {
    /// What it is, for "expected A, found B".
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Value::Null => "nothing (null)",
            Value::Bool(_) => "a boolean",
            Value::Int(_) => "an integer",
            Value::Float(_) => "a number with a fraction",
            Value::Text(_) => "a text",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
        }
    }
}

/// A syntax error on its way into the report.
struct SyntaxError {
    span: Span,
    code: &'static str,
    message: String,
    help: Option<String>,
}

impl SyntaxError {
    fn new(span: Span, message: impl Into<String>) -> Self {
        Self { span, code: "syntax", message: message.into(), help: None }
    }

    fn duplicate(key: &str, span: Span) -> Self {
        let help = "leave one of the two".to_owned();
        Self {
            span,
            code: "duplicate_key",
            message: format!("the key `{key}` stands twice"),
            help: Some(help),
        }
    }

    fn too_deep(span: Span) -> Self {
        Self { span, code: "too_deep", message: format!("nested more than {DEPTH_MAX} deep"), help: None }
    }
}

/// Reads a text; `None` when it is not well formed, after the report has been told.
pub(crate) fn read(source: &Source, report: &mut Report<'_>) -> Option<Node> {
    if source.text.len() > TEXT_MAX {
        report.error(Span::default(), "too_large", format!("the text is larger than {TEXT_MAX} bytes"));
        return None;
    }
    let read = match source.format {
        Format::Toml => toml::read(&source.text),
        Format::Yaml => yaml::read(&source.text),
        Format::Json => json::read(&source.text),
    };
    read.map_err(|error| report.error_maybe(error.span, error.code, error.message, error.help)).ok()
}
