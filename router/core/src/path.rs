//! Paths of requests: the normal form that is matched and forwarded, and the loose form that finds paths which
//! another server might read differently (DESIGN section 3, "Matching").
//!
//! Pure functions over text. Does not split off the query (the caller does, at the first `?`) and does not match.

use std::fmt;

/// Why a path has no normal form. Each is answered with 400 by the router.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PathError {
    /// It holds `%00`.
    Nul,
    /// It holds a raw `\`.
    Backslash,
    /// Its `..` segments climb above the root.
    AboveRoot,
    /// A `%` that is not followed by two hexadecimal digits.
    BadEscape,
    /// It does not begin with `/`.
    NotAbsolute,
    /// A control byte, a space, a byte from 0x80 on, `?` or `#`.
    BadByte,
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PathError::Nul => "the path holds %00",
            PathError::Backslash => "the path holds a raw backslash",
            PathError::AboveRoot => "the path climbs above the root",
            PathError::BadEscape => "the path holds a % without two hexadecimal digits",
            PathError::NotAbsolute => "the path does not begin with /",
            PathError::BadByte => "the path holds a control byte, a space, ?, # or a byte outside ASCII",
        })
    }
}

impl std::error::Error for PathError {}

/// What a byte means to [`normalize`].
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Dot,
    Slash,
    Percent,
    Backslash,
    Bad,
}

fn kind(byte: u8) -> Kind {
    match byte {
        b'/' => Kind::Slash,
        b'.' => Kind::Dot,
        b'%' => Kind::Percent,
        b'\\' => Kind::Backslash,
        b'?' | b'#' => Kind::Bad,
        0x21..=0x7e => Kind::Plain,
        _ => Kind::Bad,
    }
}

fn hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

fn unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// The octet of an escape whose `%` stands at `at`.
fn escaped(bytes: &[u8], at: usize) -> Result<u8, PathError> {
    let high = bytes.get(at + 1).copied().and_then(hex).ok_or(PathError::BadEscape)?;
    let low = bytes.get(at + 2).copied().and_then(hex).ok_or(PathError::BadEscape)?;
    match high << 4 | low {
        0 => Err(PathError::Nul),
        octet => Ok(octet),
    }
}

/// Whether the path is in normal form already; false also where only the slow pass can tell (a segment that begins
/// with a dot, an escape that must change).
fn is_normal(bytes: &[u8], merge_slashes: bool) -> Result<bool, PathError> {
    let mut after_slash = false;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match kind(byte) {
            Kind::Plain => after_slash = false,
            Kind::Slash if after_slash && merge_slashes => return Ok(false),
            Kind::Slash => after_slash = true,
            Kind::Dot if after_slash => return Ok(false),
            Kind::Dot => {}
            Kind::Percent => {
                let octet = escaped(bytes, at)?;
                let lower = bytes.get(at + 1..at + 3).is_some_and(|h| h.iter().any(u8::is_ascii_lowercase));
                if lower || unreserved(octet) {
                    return Ok(false);
                }
                after_slash = false;
                at += 2;
            }
            Kind::Backslash => return Err(PathError::Backslash),
            Kind::Bad => return Err(PathError::BadByte),
        }
        at += 1;
    }
    Ok(true)
}

/// Brings a path into normal form: dot segments (also encoded) resolved as RFC 3986 section 5.2.4 does with empty
/// segments kept, unreserved octets decoded, hexadecimal digits in upper case, and `//` kept unless `merge_slashes`.
/// `%2F` and `%5C` stay encoded and separate nothing. Called by the router once per request, before [`loose`].
///
/// A path in normal form is returned as it is, after one pass and without a copy; otherwise `scratch` is
/// overwritten (its capacity is reused). The result begins with `/`, holds no dot segment and is never longer than
/// the input; normalizing it again changes nothing. A path that climbs above the root is refused rather than
/// clamped, since what is behind us may clamp or may not.
pub fn normalize<'a>(
    raw_path: &'a str,
    merge_slashes: bool,
    scratch: &'a mut String,
) -> Result<&'a str, PathError> {
    let Some(below_root) = raw_path.strip_prefix('/') else {
        return Err(PathError::NotAbsolute);
    };
    if is_normal(raw_path.as_bytes(), merge_slashes)? {
        return Ok(raw_path);
    }
    scratch.clear();
    scratch.reserve(raw_path.len());
    let mut segments = below_root.split('/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        let start = scratch.len();
        scratch.push('/');
        push_segment(segment, scratch)?;
        if !settle(scratch, start, last, merge_slashes) {
            return Err(PathError::AboveRoot);
        }
    }
    Ok(scratch)
}

/// Appends a segment with its escapes in normal form.
fn push_segment(segment: &str, out: &mut String) -> Result<(), PathError> {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |nibble: u8| char::from(DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0'));
    let bytes = segment.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match kind(byte) {
            Kind::Plain | Kind::Dot | Kind::Slash => out.push(char::from(byte)),
            Kind::Percent => {
                let octet = escaped(bytes, at)?;
                if unreserved(octet) {
                    out.push(char::from(octet));
                } else {
                    out.push('%');
                    out.push(digit(octet >> 4));
                    out.push(digit(octet & 15));
                }
                at += 2;
            }
            Kind::Backslash => return Err(PathError::Backslash),
            Kind::Bad => return Err(PathError::BadByte),
        }
        at += 1;
    }
    Ok(())
}

/// Decides about the segment just appended, whose `/` stands at `start`: keeps it, drops it (`.`, or empty when
/// merging), or drops it with the one before (`..`). False when there is none before.
fn settle(out: &mut String, start: usize, last: bool, merge_slashes: bool) -> bool {
    match out.get(start + 1..) {
        Some(".") => out.truncate(start),
        Some("..") => {
            if start == 0 {
                return false;
            }
            out.truncate(start);
            out.truncate(out.rfind('/').unwrap_or(0));
        }
        Some("") if merge_slashes && !last => out.truncate(start),
        Some(_) | None => return true,
    }
    if last {
        out.push('/');
    }
    true
}

/// Whether a path in normal form may be read differently elsewhere: it holds `//`, `%2F`, `%5C` or `;`.
fn is_suspect(bytes: &[u8]) -> bool {
    let mut before = 0;
    bytes.iter().enumerate().any(|(at, &byte)| {
        let doubled = byte == b'/' && before == b'/';
        before = byte;
        match byte {
            b';' => true,
            b'%' => matches!(bytes.get(at + 1..at + 3), Some(b"2F" | b"5C")),
            _ => doubled,
        }
    })
}

/// The loose form of a path in normal form: `%2F` and `%5C` read as `/`, each segment cut at its first `;`, dot
/// segments resolved again (clamped at the root, as servers that read paths so do), slashes merged. `None` when the
/// path holds none of `//`, `%2F`, `%5C` and `;`. Only for matching a second time, never forwarded. Called by the
/// router once per request; writes into `scratch`.
pub fn loose<'a>(normal: &str, scratch: &'a mut String) -> Option<&'a str> {
    if !is_suspect(normal.as_bytes()) {
        return None;
    }
    scratch.clear();
    scratch.reserve(normal.len());
    let mut rest = normal.strip_prefix('/').unwrap_or(normal);
    loop {
        let (segment, after) = next_loose_segment(rest);
        let start = scratch.len();
        scratch.push('/');
        scratch.push_str(segment.split(';').next().unwrap_or(""));
        if !settle(scratch, start, after.is_none(), true) {
            scratch.clear();
            if after.is_none() {
                scratch.push('/');
            }
        }
        match after {
            Some(after) => rest = after,
            None => return Some(scratch),
        }
    }
}

/// Whether one loose form cannot stand for the readings of a path in normal form: it has a segment `..` in its loose form
/// only (of `/a%2F..;/b` some servers make `/a/..;/b` and others `/b`), or an encoded slash behind a `;` in one segment (of
/// `/;%2Fx/a` some make `/a` and others `/x/a`). Only for paths that have a loose form.
pub fn has_many_readings(normal: &str) -> bool {
    let behind = |segment: &str| {
        segment.split_once(';').is_some_and(|(_, after)| after.contains("%2F") || after.contains("%5C"))
    };
    let mut rest = Some(normal);
    while let Some(path) = rest {
        let (segment, after) = next_loose_segment(path);
        if segment.split(';').next() == Some("..") {
            return true;
        }
        rest = after;
    }
    normal.split('/').any(behind)
}

/// Cuts at the first `/`, `%2F` or `%5C`; the second part is `None` at the end of the path.
fn next_loose_segment(path: &str) -> (&str, Option<&str>) {
    let mut from = 0;
    while let Some(found) = path.get(from..).and_then(|rest| rest.find(['/', '%'])) {
        let at = from + found;
        let tail = path.get(at..).unwrap_or("");
        let after =
            tail.strip_prefix('/').or_else(|| tail.strip_prefix("%2F")).or_else(|| tail.strip_prefix("%5C"));
        if after.is_some() {
            return (path.get(..at).unwrap_or(""), after);
        }
        from = at + 1;
    }
    (path, None)
}

#[cfg(test)]
mod tests;
