//! Decodes the chunked coding (RFC 9112 section 7.1), strictly, over a buffer that the caller owns.
//!
//! Refuses signs, prefixes, blanks and overflow in sizes, bare CR or LF, long extensions and malformed trailers.
//! Chunk extensions are checked against their grammar and a bound, and dropped. Does not do I/O.

use ekiden_core::outcome::Cause;
use memchr::memchr;

use crate::wire::{is_token, is_token_byte, is_value_byte};

/// Longest chunk-size line with extensions, without CRLF. Extensions carry nothing we pass on; a long one is a
/// flood (RFC 9112 section 7.1.1 asks for a bound).
pub const CHUNK_LINE_MAX: usize = 256;
/// Longest trailer section.
pub const TRAILERS_MAX: usize = 16 << 10;
/// Most trailer fields.
pub const TRAILER_FIELDS_MAX: usize = 100;
/// Hex digits of a size: 60 bits, so that sums of sizes do not overflow.
const SIZE_DIGITS_MAX: usize = 15;

/// Where the decoder stands.
#[derive(Debug, Clone, Copy, Default)]
enum State {
    /// Before a chunk-size line.
    #[default]
    Size,
    /// Inside chunk data; bytes left, at least one.
    Data(u64),
    /// Before the CRLF after chunk data.
    DataEnd,
    /// After the last chunk: trailer lines up to the empty line.
    Trailers,
}

/// A chunked decoder.
#[derive(Debug, Clone, Copy, Default)]
pub struct Chunked {
    state: State,
}

/// What was found after the skipped framing bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// This many data bytes follow and are here.
    Data(usize),
    /// This many bytes are the trailer section, empty line included; the body has ended.
    Trailers(usize),
    /// The body has ended without trailers (the final CRLF is skipped).
    End,
    /// More bytes are needed.
    More,
}

impl Chunked {
    /// How many of the next bytes are data of a chunk for sure.
    pub fn inside(&self) -> u64 {
        match self.state {
            State::Data(left) => left,
            State::Size | State::DataEnd | State::Trailers => 0,
        }
    }

    /// Next event and how many framing bytes precede it.
    pub fn next(&mut self, bytes: &[u8]) -> Result<(usize, Event), Cause> {
        let mut at = 0;
        loop {
            let rest = bytes.get(at..).unwrap_or(&[]);
            match self.state {
                State::Size => match size_line(rest)? {
                    None => return Ok((at, Event::More)),
                    Some((length, size)) => {
                        at += length;
                        self.state = if size == 0 { State::Trailers } else { State::Data(size) };
                    }
                },
                State::Data(left) => {
                    let take = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    if take == 0 {
                        return Ok((at, Event::More));
                    }
                    let left = left - take as u64;
                    self.state = if left == 0 { State::DataEnd } else { State::Data(left) };
                    return Ok((at, Event::Data(take)));
                }
                State::DataEnd => match (rest.first(), rest.get(1)) {
                    (Some(b'\r'), Some(b'\n')) => {
                        at += 2;
                        self.state = State::Size;
                    }
                    (None, _) | (Some(b'\r'), None) => return Ok((at, Event::More)),
                    _ => return Err(Cause::ChunkMalformed),
                },
                State::Trailers => {
                    return Ok(match trailer_section(rest)? {
                        None => (at, Event::More),
                        Some(2) => (at + 2, Event::End),
                        Some(length) => (at, Event::Trailers(length)),
                    });
                }
            }
        }
    }
}

/// Parses `size [;ext] CRLF`: length with CRLF, and the size. `None` when incomplete.
fn size_line(bytes: &[u8]) -> Result<Option<(usize, u64)>, Cause> {
    let window = bytes.get(..CHUNK_LINE_MAX + 2).unwrap_or(bytes);
    let line_end = memchr(b'\n', window);
    let line = match line_end {
        Some(end) => bytes.get(..end).and_then(|l| l.strip_suffix(b"\r")).ok_or(Cause::ChunkMalformed)?,
        None if bytes.len() > CHUNK_LINE_MAX + 1 => return Err(Cause::ChunkMalformed),
        None => bytes,
    };
    let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    if digits > SIZE_DIGITS_MAX {
        return Err(Cause::ChunkMalformed);
    }
    let extension = line.get(digits..).unwrap_or(&[]);
    if line_end.is_none() {
        // Refuse early what no further byte can mend; a lone CR may still become CRLF.
        let pending = extension.strip_suffix(b"\r").unwrap_or(extension);
        let begun =
            matches!(pending.first(), None | Some(b';')) && pending.iter().copied().all(is_value_byte);
        let hopeless = (digits == 0 && !extension.is_empty()) || !begun;
        return if hopeless { Err(Cause::ChunkMalformed) } else { Ok(None) };
    }
    if digits == 0 || !extensions_legal(extension) {
        return Err(Cause::ChunkMalformed);
    }
    let size = line.iter().take(digits).fold(0_u64, |sum, digit| (sum << 4) | u64::from(hex(*digit)));
    Ok(line_end.map(|end| (end + 1, size)))
}

/// Whether this is `*( ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )` (RFC 9112 section 7.1.1). Blanks
/// between the size and the first `;` are refused: where the size ends has been read in two ways too often.
fn extensions_legal(mut rest: &[u8]) -> bool {
    while let Some(extension) = rest.strip_prefix(b";") {
        let (name, after) = token(without_blanks(extension));
        if name.is_empty() {
            return false;
        }
        rest = after;
        if let Some(value) = without_blanks(after).strip_prefix(b"=") {
            let value = without_blanks(value);
            rest = match value.strip_prefix(b"\"") {
                Some(quoted) => match after_quoted(quoted) {
                    Some(after) => after,
                    None => return false,
                },
                None => match token(value) {
                    ([], _) => return false,
                    (_, after) => after,
                },
            };
        }
        if !rest.is_empty() && without_blanks(rest).starts_with(b";") {
            rest = without_blanks(rest);
        }
    }
    rest.is_empty()
}

fn without_blanks(bytes: &[u8]) -> &[u8] {
    let blanks = bytes.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
    bytes.get(blanks..).unwrap_or(&[])
}

/// Splits the token off that stands in front; empty when there is none.
fn token(bytes: &[u8]) -> (&[u8], &[u8]) {
    let length = bytes.iter().take_while(|b| is_token_byte(**b)).count();
    bytes.split_at_checked(length).unwrap_or((bytes, &[]))
}

/// What follows the closing quote of a quoted string (RFC 9110 section 5.6.4); none when it is not closed or not legal.
fn after_quoted(mut bytes: &[u8]) -> Option<&[u8]> {
    loop {
        bytes = match bytes {
            [b'"', rest @ ..] => return Some(rest),
            [b'\\', escaped, rest @ ..] if is_value_byte(*escaped) => rest,
            [plain, rest @ ..] if *plain != b'\\' && is_value_byte(*plain) => rest,
            _ => return None,
        };
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit.wrapping_sub(b'A').wrapping_add(10),
    }
}

/// Length of a complete trailer section with its empty line, `None` when incomplete. Checks every line.
fn trailer_section(bytes: &[u8]) -> Result<Option<usize>, Cause> {
    let mut at = 0;
    let mut lines = 0;
    loop {
        let rest = bytes.get(at..).unwrap_or(&[]);
        let Some(end) = memchr(b'\n', rest) else {
            let bounded = bytes.len() < TRAILERS_MAX;
            return if bounded { Ok(None) } else { Err(Cause::TrailerMalformed) };
        };
        let line = rest.get(..end).and_then(|l| l.strip_suffix(b"\r")).ok_or(Cause::TrailerMalformed)?;
        at += end + 1;
        if at > TRAILERS_MAX {
            return Err(Cause::TrailerMalformed);
        }
        if line.is_empty() {
            return Ok(Some(at));
        }
        lines += 1;
        if lines > TRAILER_FIELDS_MAX || split_field(line).is_none() {
            return Err(Cause::TrailerMalformed);
        }
    }
}

/// Splits a field line into name and trimmed value; `None` when it is not a legal field line.
pub fn split_field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr(b':', line)?;
    let (name, value) = (line.get(..colon)?, line.get(colon + 1..)?);
    (is_token(name) && value.iter().copied().all(is_value_byte)).then(|| (name, value.trim_ascii()))
}

/// Walks the field lines of a section that [`Chunked`] has accepted.
pub fn trailer_fields(section: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    section.split(|b| *b == b'\n').filter_map(|line| split_field(line.strip_suffix(b"\r").unwrap_or(line)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Data, trailers, bytes left over.
    type Decoded = (Vec<u8>, Vec<u8>, usize);

    /// Decodes a whole text, at once or in steps.
    fn decode(text: &[u8], step: usize) -> Result<Option<Decoded>, Cause> {
        let (mut chunked, mut data, mut from, mut to) = (Chunked::default(), Vec::new(), 0, 0);
        while to < text.len() {
            to = (to + step).min(text.len());
            loop {
                let (skip, event) = chunked.next(&text[from..to])?;
                from += skip;
                match event {
                    Event::Data(take) => {
                        data.extend_from_slice(&text[from..from + take]);
                        from += take;
                    }
                    Event::Trailers(take) => {
                        return Ok(Some((data, text[from..from + take].to_vec(), text.len() - from - take)));
                    }
                    Event::End => return Ok(Some((data, Vec::new(), text.len() - from))),
                    Event::More => break,
                }
            }
        }
        Ok(None)
    }

    #[test]
    fn legal_bodies() {
        let rows: &[(&str, &str, &str)] = &[
            ("0\r\n\r\n", "", ""),
            ("3\r\nabc\r\n0\r\n\r\n", "abc", ""),
            ("3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nA: b\r\n\r\n", "abcde", "A: b\r\n\r\n"),
            ("3;x\r\nabc\r\n0;y;z=1\r\n\r\n", "abc", ""),
            ("3; x = \"a\\\";b \u{e4}\" ;y\r\nabc\r\n0\r\n\r\n", "abc", ""),
            ("00003\r\nabc\r\n000\r\n\r\n", "abc", ""),
            ("A\r\n0123456789\r\n0\r\n\r\n", "0123456789", ""),
        ];
        for (text, data, trailers) in rows {
            for step in [1, 2, 3, 1000] {
                let got = decode(text.as_bytes(), step);
                assert_eq!(
                    got,
                    Ok(Some((data.as_bytes().to_vec(), trailers.as_bytes().to_vec(), 0))),
                    "{text:?} by {step}"
                );
            }
        }
        assert_eq!(decode(b"0\r\n\r\nGET", 1000), Ok(Some((vec![], vec![], 3))));
    }

    #[test]
    fn illegal_bodies() {
        let long = format!("1;{}\r\n", "x".repeat(300));
        let rows: &[(&str, Cause)] = &[
            ("-1\r\n", Cause::ChunkMalformed),
            ("+1\r\n", Cause::ChunkMalformed),
            ("0x1\r\n", Cause::ChunkMalformed),
            (" 1\r\n", Cause::ChunkMalformed),
            ("1 \r\na\r\n", Cause::ChunkMalformed),
            ("1 ;x\r\na\r\n", Cause::ChunkMalformed),
            ("\r\n", Cause::ChunkMalformed),
            (";x\r\n", Cause::ChunkMalformed),
            ("1\na\r\n", Cause::ChunkMalformed),
            ("1\ra\r\n", Cause::ChunkMalformed),
            ("1;a\rb\r\na\r\n", Cause::ChunkMalformed),
            ("1;a\x00\r\na\r\n", Cause::ChunkMalformed),
            ("1;\r\na\r\n", Cause::ChunkMalformed),
            ("1;;a\r\na\r\n", Cause::ChunkMalformed),
            ("1;a;\r\na\r\n", Cause::ChunkMalformed),
            ("1;a[=x\r\na\r\n", Cause::ChunkMalformed),
            ("1;a=\r\na\r\n", Cause::ChunkMalformed),
            ("1;=x\r\na\r\n", Cause::ChunkMalformed),
            ("1;a b\r\na\r\n", Cause::ChunkMalformed),
            ("1;a \r\na\r\n", Cause::ChunkMalformed),
            ("1;a=\"x\r\na\r\n", Cause::ChunkMalformed),
            ("1;a=\"x\\\r\na\r\n", Cause::ChunkMalformed),
            ("1;a=\"x\"y\r\na\r\n", Cause::ChunkMalformed),
            ("1\r\nab\r\n", Cause::ChunkMalformed),
            ("1\r\na\n", Cause::ChunkMalformed),
            ("1\r\na\rx", Cause::ChunkMalformed),
            ("ffffffffffffffffff\r\n", Cause::ChunkMalformed),
            ("10000000000000000\r\n", Cause::ChunkMalformed),
            (&long, Cause::ChunkMalformed),
            ("0\r\nA : b\r\n\r\n", Cause::TrailerMalformed),
            ("0\r\nA\r\n\r\n", Cause::TrailerMalformed),
            ("0\r\n b: c\r\n\r\n", Cause::TrailerMalformed),
            ("0\r\nA: b\n\r\n", Cause::TrailerMalformed),
            ("0\r\nA: b\x01\r\n\r\n", Cause::TrailerMalformed),
            ("0\r\nA: b\rc\r\n\r\n", Cause::TrailerMalformed),
        ];
        for (text, cause) in rows {
            for step in [1, 7, 1000] {
                assert_eq!(decode(text.as_bytes(), step), Err(*cause), "{text:?} by {step}");
            }
        }
    }
}
