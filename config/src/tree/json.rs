//! Strict JSON (RFC 8259) into the tree: a small recursive reader that keeps spans.

use super::{DEPTH_MAX, Entry, Node, SyntaxError, Value};
use crate::source::Span;

pub(super) fn read(text: &str) -> Result<Node, SyntaxError> {
    let mut reader = Reader { text, at: 0 };
    reader.blank();
    let node = reader.value(0)?;
    reader.blank();
    if reader.at < text.len() {
        return Err(reader.unexpected("the end of the text"));
    }
    Ok(node)
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Reader<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn unexpected(&self, wanted: &str) -> SyntaxError {
        let found = self.rest().chars().next();
        let width = found.map_or(0, char::len_utf8);
        let found =
            found.map_or_else(|| "the end of the text".to_owned(), |c| format!("`{}`", c.escape_default()));
        SyntaxError::new(Span::new(self.at, self.at + width), format!("expected {wanted}, found {found}"))
    }

    fn take(&mut self, byte: u8, wanted: &str) -> Result<(), SyntaxError> {
        if self.peek() != Some(byte) {
            return Err(self.unexpected(wanted));
        }
        self.at += 1;
        Ok(())
    }

    fn value(&mut self, depth: usize) -> Result<Node, SyntaxError> {
        let start = self.at;
        if depth > DEPTH_MAX {
            return Err(SyntaxError::too_deep(Span::new(start, start + 1)));
        }
        let value = match self.peek() {
            Some(b'{') => self.table(depth)?,
            Some(b'[') => self.list(depth)?,
            Some(b'"') => Value::Text(self.text()?),
            Some(b'-' | b'0'..=b'9') => self.number()?,
            _ => self.word()?,
        };
        Ok(Node { span: Span::new(start, self.at), value })
    }

    fn word(&mut self) -> Result<Value, SyntaxError> {
        let words = [("true", Value::Bool(true)), ("false", Value::Bool(false)), ("null", Value::Null)];
        for (word, value) in words {
            if self.rest().starts_with(word) {
                self.at += word.len();
                return Ok(value);
            }
        }
        Err(self.unexpected("a value"))
    }

    fn list(&mut self, depth: usize) -> Result<Value, SyntaxError> {
        self.at += 1;
        let mut items = Vec::new();
        self.blank();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Value::List(items));
        }
        loop {
            self.blank();
            items.push(self.value(depth + 1)?);
            self.blank();
            if self.peek() == Some(b',') {
                self.at += 1;
                continue;
            }
            self.take(b']', "`,` or `]`")?;
            return Ok(Value::List(items));
        }
    }

    fn table(&mut self, depth: usize) -> Result<Value, SyntaxError> {
        self.at += 1;
        let mut entries: Vec<Entry> = Vec::new();
        let mut seen = std::collections::BTreeSet::new();
        self.blank();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Value::Table(entries));
        }
        loop {
            self.blank();
            let start = self.at;
            if self.peek() != Some(b'"') {
                return Err(self.unexpected("a key in double quotes"));
            }
            let key = self.text()?;
            let key_span = Span::new(start, self.at);
            if !seen.insert(key.clone()) {
                return Err(SyntaxError::duplicate(&key, key_span));
            }
            self.blank();
            self.take(b':', "`:`")?;
            self.blank();
            entries.push(Entry { key, key_span, node: self.value(depth + 1)? });
            self.blank();
            if self.peek() == Some(b',') {
                self.at += 1;
                continue;
            }
            self.take(b'}', "`,` or `}`")?;
            return Ok(Value::Table(entries));
        }
    }

    fn digits(&mut self) -> usize {
        let count = self.rest().bytes().take_while(u8::is_ascii_digit).count();
        self.at += count;
        count
    }

    fn number(&mut self) -> Result<Value, SyntaxError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let leading_zero = self.peek() == Some(b'0');
        let whole = self.digits();
        if whole == 0 || (leading_zero && whole > 1) {
            return Err(SyntaxError::new(Span::new(start, self.at), "not a number"));
        }
        let mut float = false;
        if self.peek() == Some(b'.') {
            self.at += 1;
            float = true;
            if self.digits() == 0 {
                return Err(self.unexpected("a digit"));
            }
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            float = true;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if self.digits() == 0 {
                return Err(self.unexpected("a digit"));
            }
        }
        let text = self.text.get(start..self.at).unwrap_or("");
        let value =
            if float { text.parse().ok().map(Value::Float) } else { text.parse().ok().map(Value::Int) };
        value.ok_or_else(|| SyntaxError::new(Span::new(start, self.at), "the number is too large"))
    }

    fn text(&mut self) -> Result<String, SyntaxError> {
        let start = self.at;
        self.at += 1;
        let mut text = String::new();
        loop {
            let rest = self.rest();
            let Some(c) = rest.chars().next() else {
                return Err(SyntaxError::new(Span::new(start, self.at), "the text has no closing quote"));
            };
            self.at += c.len_utf8();
            match c {
                '"' => return Ok(text),
                '\\' => text.push(self.escape()?),
                c if c < ' ' => {
                    let span = Span::new(self.at - 1, self.at);
                    return Err(SyntaxError::new(
                        span,
                        "a control character stands in a text; write it as \\u00XX",
                    ));
                }
                c => text.push(c),
            }
        }
    }

    fn escape(&mut self) -> Result<char, SyntaxError> {
        let start = self.at - 1;
        let byte = self.peek();
        let c = match byte {
            Some(b @ (b'"' | b'\\' | b'/')) => char::from(b),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(start),
            _ => return Err(self.unexpected("one of \" \\ / b f n r t u after a backslash")),
        };
        self.at += 1;
        Ok(c)
    }

    /// The four digits after `\u`, and a second escape when the first is half of a pair.
    fn unicode(&mut self, start: usize) -> Result<char, SyntaxError> {
        let first = self.four(start)?;
        if !(0xd800..0xdc00).contains(&first) {
            return char::from_u32(first).ok_or_else(|| self.bad_escape(start));
        }
        if !self.rest().starts_with("\\u") {
            return Err(self.bad_escape(start));
        }
        self.at += 1;
        let second = self.four(start)?;
        let low =
            second.checked_sub(0xdc00).filter(|low| *low < 0x400).ok_or_else(|| self.bad_escape(start))?;
        char::from_u32(0x10000 + ((first - 0xd800) << 10) + low).ok_or_else(|| self.bad_escape(start))
    }

    fn four(&mut self, start: usize) -> Result<u32, SyntaxError> {
        let digits =
            self.text.get(self.at + 1..self.at + 5).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
        let number =
            digits.and_then(|d| u32::from_str_radix(d, 16).ok()).ok_or_else(|| self.bad_escape(start))?;
        self.at += 5;
        Ok(number)
    }

    fn bad_escape(&self, start: usize) -> SyntaxError {
        SyntaxError::new(
            Span::new(start, self.at),
            "not a character: \\u needs four hexadecimal digits, pairs whole",
        )
    }
}
