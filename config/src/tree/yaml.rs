//! YAML 1.2 into the tree, by the events of `granit-parser`.
//!
//! One document, core-schema scalars. Anchors, aliases and tags are refused: a file of a few bytes must not become
//! a tree of many megabytes, and a key must mean the same in all three formats.

use granit_parser::{Event, Parser, ScalarStyle, ScanError, StrInput};

use super::{DEPTH_MAX, Entry, Node, SyntaxError, Value};
use crate::source::Span;

pub(super) fn read(text: &str) -> Result<Node, SyntaxError> {
    let mut reader = Reader { parser: Parser::new_from_str(text), len: text.len() };
    let mut root = None;
    while let Some((event, span)) = reader.next()? {
        match event {
            Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            Event::DocumentStart(..) if root.is_none() => {
                if let Some((event, span)) = reader.next()? {
                    root = Some(reader.node(event, span, 0)?);
                }
            }
            _ => return Err(refused(span, "more than one document in the file")),
        }
    }
    Ok(root.unwrap_or(Node { span: Span::default(), value: Value::Table(Vec::new()) }))
}

struct Reader<'t> {
    parser: Parser<'t, StrInput<'t>>,
    len: usize,
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Result<Option<(Event<'t>, Span)>, SyntaxError> {
        match self.parser.next_event() {
            None => Ok(None),
            Some(Ok((event, span))) => {
                let range = span.byte_range().unwrap_or(0..0);
                Ok(Some((event, Span::new(range.start, range.end))))
            }
            Some(Err(error)) => Err(explain(&error, self.len)),
        }
    }

    fn must(&mut self) -> Result<(Event<'t>, Span), SyntaxError> {
        let end = Span::new(self.len, self.len);
        self.next()?.ok_or_else(|| SyntaxError::new(end, "the text ends too early"))
    }

    fn node(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Node, SyntaxError> {
        if depth > DEPTH_MAX {
            return Err(SyntaxError::too_deep(span));
        }
        match event {
            Event::Scalar(text, style, 0, None) => Ok(Node { span, value: scalar(&text, style) }),
            Event::SequenceStart(_, 0, None) => self.list(span, depth),
            Event::MappingStart(_, 0, None) => self.table(span, depth),
            Event::Alias(_) | Event::UnresolvedAlias(_) | Event::Anchor(..) => {
                Err(refused(span, "anchors and aliases"))
            }
            Event::Scalar(..) | Event::SequenceStart(..) | Event::MappingStart(..) => {
                Err(refused(span, "anchors and tags"))
            }
            _ => Err(SyntaxError::new(span, "expected a value")),
        }
    }

    fn list(&mut self, start: Span, depth: usize) -> Result<Node, SyntaxError> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.must()?;
            if event == Event::SequenceEnd {
                return Ok(Node { span: Span::new(start.start, span.end), value: Value::List(items) });
            }
            items.push(self.node(event, span, depth + 1)?);
        }
    }

    fn table(&mut self, start: Span, depth: usize) -> Result<Node, SyntaxError> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut seen = std::collections::BTreeSet::new();
        loop {
            let (event, key_span) = self.must()?;
            let key = match event {
                Event::MappingEnd => {
                    let span = Span::new(start.start, key_span.end);
                    return Ok(Node { span, value: Value::Table(entries) });
                }
                Event::Scalar(key, _, 0, None) => key.into_owned(),
                Event::Alias(_) => return Err(refused(key_span, "anchors and aliases")),
                _ => return Err(SyntaxError::new(key_span, "a key must be a plain text")),
            };
            if !seen.insert(key.clone()) {
                return Err(SyntaxError::duplicate(&key, key_span));
            }
            let (event, span) = self.must()?;
            entries.push(Entry { key, key_span, node: self.node(event, span, depth + 1)? });
        }
    }
}

/// The core schema, without the spellings of YAML 1.1 (`yes`, `on`, `012`).
fn scalar(text: &str, style: ScalarStyle) -> Value {
    if style != ScalarStyle::Plain {
        return Value::Text(text.to_owned());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Value::Text(text.to_owned());
    }
    if digits.bytes().all(|b| b.is_ascii_digit())
        && let Ok(number) = text.parse()
    {
        return Value::Int(number);
    }
    let float = digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    match text.parse() {
        Ok(number) if float => Value::Float(number),
        _ => Value::Text(text.to_owned()),
    }
}

fn refused(span: Span, what: &str) -> SyntaxError {
    SyntaxError {
        span,
        code: "unsupported_yaml",
        message: format!("{what}: not supported here"),
        help: Some("write the values out, in one document".to_owned()),
    }
}

fn explain(error: &ScanError, len: usize) -> SyntaxError {
    let at = error.marker().byte_offset().unwrap_or(len).min(len);
    SyntaxError::new(Span::new(at, (at + 1).min(len)), error.kind().to_string())
}
