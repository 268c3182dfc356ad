//! Frames of the journal file: where one entry ends, and whether it is whole.
//!
//! ```text
//! file  = "EKIJRNL2" frame*            ("EKIJRNL1" before there were revisions; see `legacy`)
//! frame = length (u32, little endian) | crc32 of length and payload (u32, little endian) | payload
//! ```
//! Pure: bytes in, slices out. What a payload means is `entry`'s business.

/// First bytes of every journal file.
pub(super) const HEADER: &[u8; 8] = b"EKIJRNL2";
/// First bytes of a journal of the format before.
pub(super) const HEADER_1: &[u8; 8] = b"EKIJRNL1";
/// Length and checksum before each payload, in bytes.
const PREFIX: usize = 8;
/// Longest payload, in bytes; a longer length field is never ours. Below what four bytes of text read as a length, so that
/// looking for frames in what a torn write left costs little.
pub(super) const PAYLOAD_MAX: usize = 64 << 20;

/// What follows the last whole frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tail {
    /// Nothing: the file ends with a whole frame.
    Clean,
    /// The start of a write that never finished; nothing in it was acknowledged.
    Torn,
    /// Damage with whole frames behind it, or a file that is not a journal.
    Damaged,
}

/// A journal file cut into payloads.
#[derive(Debug)]
pub(super) struct Split<'a> {
    /// The file has the format before this one.
    pub(super) legacy: bool,
    /// Payloads of the whole frames, in order.
    pub(super) payloads: Vec<&'a [u8]>,
    /// Offsets at which each payload's frame begins.
    pub(super) starts: Vec<usize>,
    /// Bytes from the start of the file to the end of the last whole frame.
    pub(super) whole: usize,
    /// What comes after.
    pub(super) tail: Tail,
}

fn checksum(length: [u8; 4], payload: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&length);
    crc.update(payload);
    crc.finalize()
}

/// The digit of a format that this version does not know: a journal of another version.
pub(super) fn foreign(file: &[u8]) -> Option<char> {
    let digit = char::from(*file.strip_prefix(b"EKIJRNL")?.first()?);
    let ours = file.starts_with(HEADER) || file.starts_with(HEADER_1);
    (digit.is_ascii_digit() && !ours).then_some(digit)
}

/// Appends one frame. The caller keeps `payload` within [`PAYLOAD_MAX`].
pub(super) fn push(out: &mut Vec<u8>, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes();
    out.extend_from_slice(&length);
    out.extend_from_slice(&checksum(length, payload).to_le_bytes());
    out.extend_from_slice(payload);
}

/// Bytes that a payload takes in the file.
#[cfg(test)]
pub(super) fn size(payload: &[u8]) -> u64 {
    (PREFIX + payload.len()) as u64
}

/// The payload of the frame at the start of `bytes`, if a whole one begins there.
fn first(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let size = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    if size == 0 || size > PAYLOAD_MAX {
        return None;
    }
    let payload = rest.get(..size)?;
    (checksum(*length, payload) == u32::from_le_bytes(*crc)).then_some(payload)
}

/// Cuts a file into frames and judges what is left at its end.
pub(super) fn split(file: &[u8]) -> Split<'_> {
    let legacy = file.starts_with(HEADER_1);
    let mut found = Split { legacy, payloads: Vec::new(), starts: Vec::new(), whole: 0, tail: Tail::Clean };
    let header = if legacy { HEADER_1 } else { HEADER };
    let Some(mut rest) = file.strip_prefix(header.as_slice()) else {
        found.tail = match file {
            [] => Tail::Clean,
            some if HEADER.starts_with(some) => Tail::Torn,
            _ => Tail::Damaged,
        };
        return found;
    };
    found.whole = HEADER.len();
    while let Some(payload) = first(rest) {
        found.payloads.push(payload);
        found.starts.push(found.whole);
        found.whole += PREFIX + payload.len();
        rest = rest.get(PREFIX + payload.len()..).unwrap_or_default();
    }
    if !rest.is_empty() {
        // A torn write has nothing whole behind it; damage in the middle usually has.
        let resumes = (1..rest.len()).any(|at| rest.get(at..).and_then(first).is_some());
        found.tail = if resumes { Tail::Damaged } else { Tail::Torn };
    }
    found
}
