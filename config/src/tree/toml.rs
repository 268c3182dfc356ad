//! TOML into the tree, by `toml-span`.

use toml_span::value::{Key, Table, ValueInner};
use toml_span::{Error, ErrorKind};

use super::{DEPTH_MAX, Entry, Node, SyntaxError, Value};
use crate::source::Span;

pub(super) fn read(text: &str) -> Result<Node, SyntaxError> {
    let mut root = toml_span::parse(text).map_err(|error| explain(text, &error))?;
    node(&mut root, 0)
}

fn node(value: &mut toml_span::Value<'_>, depth: usize) -> Result<Node, SyntaxError> {
    let span = Span::new(value.span.start, value.span.end);
    if depth > DEPTH_MAX {
        return Err(SyntaxError::too_deep(span));
    }
    let value = match value.take() {
        ValueInner::String(text) => Value::Text(text.into_owned()),
        ValueInner::Integer(number) => Value::Int(number),
        ValueInner::Float(number) => Value::Float(number),
        ValueInner::Boolean(flag) => Value::Bool(flag),
        ValueInner::Array(mut items) => {
            Value::List(items.iter_mut().map(|item| node(item, depth + 1)).collect::<Result<_, _>>()?)
        }
        ValueInner::Table(table) => Value::Table(entries(table, depth)?),
    };
    Ok(Node { span, value })
}

fn entries(table: Table<'_>, depth: usize) -> Result<Vec<Entry>, SyntaxError> {
    let entry = |(key, mut value): (Key<'_>, toml_span::Value<'_>)| {
        let key_span = Span::new(key.span.start, key.span.end);
        Ok(Entry { key: key.name.into_owned(), key_span, node: node(&mut value, depth + 1)? })
    };
    let mut entries: Vec<Entry> = table.into_iter().map(entry).collect::<Result<_, SyntaxError>>()?;
    entries.sort_by_key(|entry| entry.key_span.start);
    Ok(entries)
}

fn explain(text: &str, error: &Error) -> SyntaxError {
    let span = Span::new(error.span.start, error.span.end.min(text.len()));
    let line_of = |at: usize| text.get(..at).map_or(1, |before| before.matches('\n').count() + 1);
    let mut found = SyntaxError::new(span, error.to_string());
    match &error.kind {
        ErrorKind::DuplicateKey { key, first } => {
            found = SyntaxError::duplicate(key, span);
            found.help =
                Some(format!("it stands first in line {}; leave one of the two", line_of(first.start)));
        }
        ErrorKind::DuplicateTable { name, first } => {
            found = SyntaxError::duplicate(name, span);
            found.help = Some(format!("the table begins in line {}; join the two", line_of(first.start)));
        }
        ErrorKind::InvalidNumber => {
            found.help = Some("texts stand in quotes, and so do durations, sizes and dates".to_owned());
        }
        ErrorKind::UnquotedString => found.help = Some("texts stand in quotes".to_owned()),
        ErrorKind::UnexpectedEof
        | ErrorKind::ExceededDepthLimit
        | ErrorKind::InvalidCharInString(_)
        | ErrorKind::InvalidEscape(_)
        | ErrorKind::InvalidHexEscape(_)
        | ErrorKind::InvalidEscapeValue(_)
        | ErrorKind::Unexpected(_)
        | ErrorKind::UnterminatedString
        | ErrorKind::OutOfRange(_)
        | ErrorKind::Wanted { .. }
        | ErrorKind::RedefineAsArray
        | ErrorKind::MultilineStringKey
        | ErrorKind::Custom(_)
        | ErrorKind::DottedKeyInvalidType { .. }
        | ErrorKind::UnexpectedKeys { .. }
        | ErrorKind::MissingField(_)
        | ErrorKind::Deprecated { .. }
        | ErrorKind::UnexpectedValue { .. } => {}
    }
    found
}
