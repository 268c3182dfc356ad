//! Properties shared by the fuzz targets: each takes what a peer could send and panics when a promise is broken.
//!
//! Pure; no sockets, no files. The targets in `targets/` only hand libFuzzer's bytes over.

use ekiden_core::outcome::Cause;
use ekiden_router::exchange::out::put_chunk_size;
use ekiden_router::head::Head;
use ekiden_router::wire::body::{Decoder, Frame, Framing};
use ekiden_router::wire::scan::{Bounds, Found, Scan};
use ekiden_router::wire::{is_token, is_value_byte};

/// Bounds small enough that short inputs reach every one of them.
pub const TIGHT: Bounds = Bounds { first_line: 48, field: 32, head: 160, fields: 6 };

/// The end of the head in `data` as found with the whole of it at hand, having checked that a peer who sends byte by
/// byte gets the same verdict.
///
/// Which of several bounds is named first may depend on how much has arrived; that it is refused may not.
pub fn scanned(data: &[u8], bounds: &Bounds) -> Result<Found, Cause> {
    let whole = Scan::default().look(data, bounds);
    let mut scan = Scan::default();
    let mut piecewise = Ok(Found::More);
    for end in 1..=data.len() {
        piecewise = scan.look(&data[..end], bounds);
        if piecewise != Ok(Found::More) {
            break;
        }
    }
    let within_bounds = data.len() < bounds.first_line.min(bounds.field).min(bounds.head);
    match (whole, piecewise) {
        (Err(_), Err(_)) if !within_bounds => {}
        (whole, piecewise) => assert_eq!(whole, piecewise, "at once and byte by byte"),
    }
    if let Ok(Found::Head(length)) = whole {
        assert!(data[..length].ends_with(b"\r\n\r\n") && length <= bounds.head);
    }
    whole
}

/// What holds for every head that was accepted, on either side: names are tokens, values hold no control bytes, and
/// the framing fields are not contradictory.
pub fn assert_clean(head: &Head) {
    for (_, name, value) in head.iter() {
        assert!(is_token(name), "name {name:?}");
        assert!(value.iter().copied().all(is_value_byte), "value {value:?}");
        assert_eq!(value, value.trim_ascii(), "blanks around a value");
    }
    let lengths = head.get_all(b"content-length").count();
    let codings = head.get_all(b"transfer-encoding").count();
    assert!(lengths + codings <= 1, "{lengths} lengths and {codings} codings");
}

/// Writes a start line and the fields of a head as they would stand on the wire.
pub fn written(start: &str, head: &Head) -> Vec<u8> {
    let mut text = start.as_bytes().to_vec();
    text.extend_from_slice(b"\r\n");
    for (_, name, value) in head.iter() {
        text.extend_from_slice(name);
        text.extend_from_slice(b": ");
        text.extend_from_slice(value);
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"\r\n");
    text
}

/// A decoded body, or as much of one as there was.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// The data.
    pub data: Vec<u8>,
    /// The trailer section with its empty line; empty without trailers.
    pub trailers: Vec<u8>,
    /// Bytes of the input that belong to the body; none while it has not ended.
    pub used: Option<usize>,
    /// Why it was refused.
    pub fault: Option<Cause>,
}

/// Decodes chunked bytes that arrive in pieces of `step`.
pub fn decoded(bytes: &[u8], step: usize) -> Decoded {
    let mut decoder = Decoder::new(Framing::Chunked);
    let mut result = Decoded::default();
    let (mut from, mut to) = (0, 0);
    while to < bytes.len() {
        to = (to + step).min(bytes.len());
        loop {
            let arrived = &bytes[from..to];
            match decoder.next(arrived) {
                Err(fault) => {
                    result.fault = Some(fault);
                    return result;
                }
                Ok(Frame::More { skip }) => {
                    from += skip;
                    break;
                }
                Ok(Frame::Data { skip, take }) => {
                    assert!(take > 0 && skip + take <= arrived.len());
                    result.data.extend_from_slice(&arrived[skip..skip + take]);
                    from += skip + take;
                }
                Ok(Frame::Trailers { skip, take }) => {
                    result.trailers.extend_from_slice(&arrived[skip..skip + take]);
                    from += skip + take;
                }
                Ok(Frame::End { skip }) => from += skip,
            }
            if decoder.is_done() {
                result.used = Some(from);
                return result;
            }
        }
    }
    assert!(!decoder.end_of_stream(), "a chunked body without its last chunk is no whole body");
    result
}

/// Encodes data in chunks of `size` bytes with the trailer section given.
pub fn encoded(data: &[u8], trailers: &[u8], size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for chunk in data.chunks(size) {
        put_chunk_size(&mut out, chunk.len());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n");
    out.extend_from_slice(if trailers.is_empty() { b"\r\n" } else { trailers });
    out
}
