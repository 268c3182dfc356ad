//! Finds the end of a head in a growing buffer and holds its bounds, looking at each byte once.
//!
//! Refuses bare CR or LF here, because a parser that sees only a finished head could not tell a client that a line
//! ended wrong before the client stopped sending. Does not look inside lines.

use ekiden_core::outcome::Cause;
use memchr::memchr;

/// Bounds on a head, in bytes and lines.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// First line without its CRLF.
    pub first_line: usize,
    /// One field line without its CRLF.
    pub field: usize,
    /// The whole head with every CRLF.
    pub head: usize,
    /// Field lines.
    pub fields: usize,
}

/// Progress through one head. `start` again for the next head.
#[derive(Debug, Default, Clone, Copy)]
pub struct Scan {
    line_start: usize,
    lines: usize,
}

/// What a look at the buffer found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// The head ends after this many bytes.
    Head(usize),
    /// More bytes are needed.
    More,
}

impl Scan {
    /// Looks at the bytes received so far (always from the head's first byte). Called after each read.
    pub fn look(&mut self, bytes: &[u8], bounds: &Bounds) -> Result<Found, Cause> {
        loop {
            let rest = bytes.get(self.line_start..).unwrap_or(&[]);
            let bound = if self.lines == 0 { bounds.first_line } else { bounds.field };
            let window = rest.get(..bound + 2).unwrap_or(rest);
            let Some(length) = memchr(b'\n', window) else {
                return self.without_line_end(rest, bound, bytes.len(), bounds);
            };
            if length == 0 || rest.get(length - 1) != Some(&b'\r') {
                return Err(Cause::LineEndingMalformed);
            }
            let end = self.line_start + length + 1;
            if end > bounds.head {
                return Err(Cause::HeadTooLarge);
            }
            if length == 1 {
                return if self.lines == 0 { Err(Cause::RequestLineMalformed) } else { Ok(Found::Head(end)) };
            }
            self.lines += 1;
            if self.lines > bounds.fields + 1 {
                return Err(Cause::TooManyFields);
            }
            self.line_start = end;
        }
    }

    fn without_line_end(
        &self,
        rest: &[u8],
        bound: usize,
        total: usize,
        bounds: &Bounds,
    ) -> Result<Found, Cause> {
        if total >= bounds.head {
            return Err(Cause::HeadTooLarge);
        }
        // One byte past the bound may be the CR of a line of exactly the bound.
        if rest.len() > bound + 1 || (rest.len() == bound + 1 && rest.last() != Some(&b'\r')) {
            return Err(match self.lines {
                // No method is that long: what is there is not a request line whose target is too long.
                0 if !rest.contains(&b' ') => Cause::RequestLineMalformed,
                0 => Cause::RequestLineTooLong,
                _ => Cause::FieldTooLarge,
            });
        }
        Ok(Found::More)
    }

    /// Whether no line has ended yet.
    pub fn in_first_line(&self) -> bool {
        self.lines == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { first_line: 20, field: 10, head: 60, fields: 3 };

    fn whole(text: &str) -> Result<Found, Cause> {
        Scan::default().look(text.as_bytes(), &BOUNDS)
    }

    #[test]
    fn finds_the_end_and_holds_every_bound() {
        let rows: &[(&str, Result<Found, Cause>)] = &[
            ("GET / HTTP/1.1\r\nA: b\r\n\r\nrest", Ok(Found::Head(24))),
            ("GET / HTTP/1.1\r\nA: b\r\n\r", Ok(Found::More)),
            ("GET / HTTP/1.1\nA: b\r\n\r\n", Err(Cause::LineEndingMalformed)),
            ("GET / HTTP/1.1\r\nA: b\n\r\n", Err(Cause::LineEndingMalformed)),
            ("GET / HTTP/1.1\r\n\n", Err(Cause::LineEndingMalformed)),
            ("12345678901234567890\r\n\r\n", Ok(Found::Head(24))),
            ("A 3456789012345678901\r\n", Err(Cause::RequestLineTooLong)),
            ("A 3456789012345678901", Err(Cause::RequestLineTooLong)),
            ("123456789012345678901", Err(Cause::RequestLineMalformed)),
            ("12345678901234567890\r", Ok(Found::More)),
            ("G\r\n12345678901\r\n", Err(Cause::FieldTooLarge)),
            ("G\r\n1234567890\r\n\r\n", Ok(Found::Head(17))),
            ("G\r\n1\r\n2\r\n3\r\n\r\n", Ok(Found::Head(14))),
            ("G\r\n1\r\n2\r\n3\r\n4\r\n\r\n", Err(Cause::TooManyFields)),
            ("1234567890123456789\r\n1234567890\r\n1234567890\r\n1234567890\r\n\r\n", Ok(Found::Head(59))),
            ("12345678901234567890\r\n1234567890\r\n1234567890\r\n1234567890\r\n\r\n", Ok(Found::Head(60))),
            ("\r\n", Err(Cause::RequestLineMalformed)),
        ];
        for (text, expected) in rows {
            assert_eq!(whole(text), *expected, "{text:?}");
        }
        let tight = Bounds { head: 59, ..BOUNDS };
        let text = b"12345678901234567890\r\n1234567890\r\n1234567890\r\n1234567890\r\n\r\n";
        assert_eq!(Scan::default().look(text, &tight), Err(Cause::HeadTooLarge));
    }

    #[test]
    fn byte_by_byte_equals_at_once() {
        for text in [
            "GET / HTTP/1.1\r\nA: b\r\n\r\n",
            "G\r\n1234567890\r\n1\n",
            "123456789012345678901\r\n",
            "G\r\n12345678901\r\n",
        ] {
            let mut scan = Scan::default();
            let mut last = Ok(Found::More);
            for end in 1..=text.len() {
                last = scan.look(&text.as_bytes()[..end], &BOUNDS);
                if last != Ok(Found::More) {
                    break;
                }
            }
            assert_eq!(last, whole(text), "{text:?}");
        }
    }
}
