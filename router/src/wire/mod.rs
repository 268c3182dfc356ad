//! The HTTP/1 codec: bytes to heads and frames and back; `http2` brings heads of HTTP/2 before the same judge. Strict: what
//! is ambiguous is refused, never guessed.
//!
//! `scan` finds the end of a head and holds its bounds, `request` and `response` parse and judge heads, `chunked`
//! decodes chunked bodies, `body` is the one decoder over the three framings, `words` compares names and judges values.
//! Does not do I/O.

pub mod body;
pub mod chunked;
pub mod http2;
pub mod proxy;
pub mod request;
pub mod response;
pub mod scan;
pub mod words;

/// The versions spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
    /// HTTP/2.
    Http2,
}

/// Whether a byte may stand in a token (RFC 9110 section 5.6.2).
pub fn is_token_byte(byte: u8) -> bool {
    matches!(
        byte,
        b'!' | b'#'
            | b'$'
            | b'%'
            | b'&'
            | b'\''
            | b'*'
            | b'+'
            | b'-'
            | b'.'
            | b'^'
            | b'_'
            | b'`'
            | b'|'
            | b'~'
    ) || byte.is_ascii_alphanumeric()
}

/// Whether bytes are a token: at least one, all token bytes.
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().copied().all(is_token_byte)
}

/// Whether a byte may stand in a field value: tab, space, visible, obs-text.
pub fn is_value_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// A decimal length: digits only, no sign, no blank, no overflow of `u64`.
pub fn decimal(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() || bytes.len() > 19 || !bytes.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(bytes.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}
