//! Host names of requests: a strict reading of `Host` fields and of the authority of absolute-form targets.
//!
//! Gives one text per host (lower case, no port, no final dot, canonical IPv6), so that hosts compare by bytes.
//! Resolves nothing and knows no routes.

use std::fmt::{self, Write as _};
use std::net::Ipv6Addr;

/// Longest host accepted, in bytes, without port and final dot: the bound of DNS (RFC 1035 section 3.1).
pub const HOST_MAX: usize = 253;

/// A host as it was asked for. Two authorities are the same when they are equal; a port that was not written is
/// `None`, also when the other side wrote the default port, so use [`Authority::same_as`] to compare across forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authority<'a> {
    /// Lower case, without port and without one final dot; IPv6 literals canonical and in brackets. Not empty.
    pub host: &'a str,
    /// As written, 1..=65535.
    pub port: Option<u16>,
}

impl Authority<'_> {
    /// Whether both name the same host and port, where an absent port means `default_port`. Called by the router to
    /// compare an absolute-form target with `Host`.
    pub fn same_as(&self, other: &Authority<'_>, default_port: u16) -> bool {
        self.host == other.host && self.port.unwrap_or(default_port) == other.port.unwrap_or(default_port)
    }
}

/// Why a text is not an authority. Each is answered with 400 by the router.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HostError {
    /// No host.
    Empty,
    /// Longer than [`HOST_MAX`].
    TooLong,
    /// A byte outside letters, digits, `-`, `.`, `_` and `~`: userinfo, comma, path, percent, space, non-ASCII.
    BadByte,
    /// Two dots in a row, or a dot in front.
    EmptyLabel,
    /// A port that is not a decimal number of 1 to 65535 without leading zeros.
    BadPort,
    /// Brackets that do not hold an IPv6 address, or something other than a port behind them.
    BadLiteral,
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HostError::Empty => "the host is empty",
            HostError::TooLong => "the host is longer than 253 bytes",
            HostError::BadByte => "the host holds a byte that hosts may not",
            HostError::EmptyLabel => "the host holds an empty label",
            HostError::BadPort => "the port is not a number of 1 to 65535",
            HostError::BadLiteral => "the brackets do not hold an IPv6 address",
        })
    }
}

impl std::error::Error for HostError {}

/// What a byte is in a host.
#[derive(Clone, Copy)]
enum HostByte {
    Bad,
    Plain,
    Upper,
    Dot,
    Colon,
}

/// One look-up a byte instead of five comparisons: this runs for every request.
#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which checks it")]
static HOST_BYTES: [HostByte; 256] = {
    let mut table = [HostByte::Bad; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match byte as u8 {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' => HostByte::Plain,
            b'A'..=b'Z' => HostByte::Upper,
            b'.' => HostByte::Dot,
            b':' => HostByte::Colon,
            _ => HostByte::Bad,
        };
        byte += 1;
    }
    table
};

/// Reads an authority strictly: a name or IPv4 address of letters, digits, `-`, `.`, `_`, `~`, or a bracketed IPv6
/// address, then optionally `:` and a port. Everything else is refused, percent-encoding too. Called by the router
/// for the `Host` field, `:authority` and absolute-form targets.
///
/// A name that is in lower case already is borrowed from `field`; otherwise `scratch` is overwritten (its capacity
/// is reused).
pub fn host_of<'a>(field: &'a [u8], scratch: &'a mut String) -> Result<Authority<'a>, HostError> {
    if let Some(inside) = field.strip_prefix(b"[") {
        return literal(inside, scratch);
    }
    let mut upper = false;
    let mut label = 0_usize;
    let mut end = field.len();
    for (at, &byte) in field.iter().enumerate() {
        match HOST_BYTES.get(usize::from(byte)).copied().unwrap_or(HostByte::Bad) {
            HostByte::Plain => {}
            HostByte::Upper => upper = true,
            HostByte::Dot if at == label => return Err(HostError::EmptyLabel),
            HostByte::Dot => label = at + 1,
            HostByte::Colon => {
                end = at;
                break;
            }
            HostByte::Bad => return Err(HostError::BadByte),
        }
    }
    let (name, after) = field.split_at_checked(end).ok_or(HostError::Empty)?;
    let name = name.strip_suffix(b".").unwrap_or(name);
    if name.is_empty() {
        return Err(HostError::Empty);
    }
    if name.len() > HOST_MAX {
        return Err(HostError::TooLong);
    }
    let port = port_of(after)?;
    // Only ASCII came through the loop.
    let name = std::str::from_utf8(name).map_err(|_| HostError::BadByte)?;
    if !upper {
        return Ok(Authority { host: name, port });
    }
    scratch.clear();
    scratch.push_str(name);
    scratch.make_ascii_lowercase();
    Ok(Authority { host: scratch, port })
}

/// Reads what follows the opening bracket of an IPv6 literal. Zone ids are refused, as RFC 9110 has none.
fn literal<'a>(inside: &'a [u8], scratch: &'a mut String) -> Result<Authority<'a>, HostError> {
    let close = inside.iter().position(|&byte| byte == b']').ok_or(HostError::BadLiteral)?;
    let (address, after) = inside.split_at_checked(close).ok_or(HostError::BadLiteral)?;
    let address: Ipv6Addr =
        std::str::from_utf8(address).ok().and_then(|text| text.parse().ok()).ok_or(HostError::BadLiteral)?;
    let after = after.strip_prefix(b"]").unwrap_or(after);
    if after.first().is_some_and(|&byte| byte != b':') {
        return Err(HostError::BadLiteral);
    }
    let port = port_of(after)?;
    scratch.clear();
    // Writing to a String does not fail.
    let _ = write!(scratch, "[{address}]");
    Ok(Authority { host: scratch, port })
}

/// Reads `` (none), `:` (none either: RFC 3986 section 3.2.3) or `:PORT`.
fn port_of(after: &[u8]) -> Result<Option<u16>, HostError> {
    let digits = after.strip_prefix(b":").unwrap_or_default();
    if digits.is_empty() {
        return Ok(None);
    }
    if digits.len() > 5 || digits.first().is_none_or(|&first| first == b'0') {
        return Err(HostError::BadPort);
    }
    let mut port = 0_u32;
    for &byte in digits {
        if !byte.is_ascii_digit() {
            return Err(HostError::BadPort);
        }
        port = port * 10 + u32::from(byte - b'0');
    }
    u16::try_from(port).map(Some).map_err(|_| HostError::BadPort)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(field: &[u8]) -> Result<(String, Option<u16>), HostError> {
        let mut scratch = String::from("left over");
        host_of(field, &mut scratch).map(|authority| (authority.host.to_owned(), authority.port))
    }

    #[test]
    fn accepted_hosts() {
        let table: &[(&[u8], &str, Option<u16>)] = &[
            (b"example.com", "example.com", None),
            (b"EXAMPLE.Com", "example.com", None),
            (b"example.com.", "example.com", None),
            (b"Example.com.:80", "example.com", Some(80)),
            (b"localhost:65535", "localhost", Some(65535)),
            (b"a:", "a", None),
            (b"[::1]:", "[::1]", None),
            (b"a_b-c~1.x", "a_b-c~1.x", None),
            (b"127.0.0.1:1", "127.0.0.1", Some(1)),
            (b"[::1]", "[::1]", None),
            (b"[2001:DB8:0:0::1]:8080", "[2001:db8::1]", Some(8080)),
            (b"[::FFFF:1.2.3.4]", "[::ffff:1.2.3.4]", None),
        ];
        for (field, host, port) in table {
            assert_eq!(read(field), Ok(((*host).to_owned(), *port)), "{}", field.escape_ascii());
        }
    }

    #[test]
    fn refused_hosts() {
        let long = [b'a'; 254];
        let table: &[(&[u8], HostError)] = &[
            (b"", HostError::Empty),
            (b":80", HostError::Empty),
            (b".", HostError::EmptyLabel),
            (b".a", HostError::EmptyLabel),
            (b"a..", HostError::EmptyLabel),
            (b"a..b", HostError::EmptyLabel),
            (b"user@a", HostError::BadByte),
            (b"a,b", HostError::BadByte),
            (b"a, b", HostError::BadByte),
            (b"a/b", HostError::BadByte),
            (b"a?b", HostError::BadByte),
            (b"a b", HostError::BadByte),
            (b" a", HostError::BadByte),
            (b"a\t", HostError::BadByte),
            (b"a%41", HostError::BadByte),
            (b"a\0", HostError::BadByte),
            (b"\xc3\xa4", HostError::BadByte),
            (b"*", HostError::BadByte),
            (b"a:0", HostError::BadPort),
            (b"a:080", HostError::BadPort),
            (b"a:65536", HostError::BadPort),
            (b"a:99999999999", HostError::BadPort),
            (b"a:+8", HostError::BadPort),
            (b"a:80:80", HostError::BadPort),
            (b"user:pass@a", HostError::BadPort),
            (b"::1", HostError::Empty),
            (b"[::1", HostError::BadLiteral),
            (b"[]", HostError::BadLiteral),
            (b"[1.2.3.4]", HostError::BadLiteral),
            (b"[v1.a]", HostError::BadLiteral),
            (b"[fe80::1%eth0]", HostError::BadLiteral),
            (b"[::1]80", HostError::BadLiteral),
            (b"[::1].", HostError::BadLiteral),
            (b":", HostError::Empty),
            (b"a::", HostError::BadPort),
            (&long, HostError::TooLong),
        ];
        for (field, error) in table {
            assert_eq!(read(field), Err(*error), "{}", field.escape_ascii());
        }
    }

    #[test]
    fn a_lower_case_name_is_borrowed() {
        let field = b"a.example:80";
        let mut scratch = String::new();
        let authority = host_of(field, &mut scratch).unwrap();
        assert!(std::ptr::eq(field.as_ptr(), authority.host.as_ptr()));
    }

    #[test]
    fn same_host_and_port() {
        let plain = Authority { host: "a", port: None };
        let written = Authority { host: "a", port: Some(80) };
        assert!(plain.same_as(&written, 80));
        assert!(!plain.same_as(&written, 443));
        assert!(!plain.same_as(&Authority { host: "b", port: None }, 80));
    }

    proptest! {
        #[test]
        fn reading_again_changes_nothing(field in "[A-Za-z0-9.:_\\[\\]-]{0,20}") {
            if let Ok((host, _)) = read(field.as_bytes()) {
                prop_assert!(!host.is_empty() && !host.ends_with('.'));
                prop_assert_eq!(read(host.as_bytes()), Ok((host, None)));
            }
        }
    }
}
