//! Frames of WebSocket (RFC 6455 section 5.2), as far as one who passes them on must know them: where each ends, and
//! whether a Close went by. Also the Close frames that a router writes itself.
//!
//! Follows headers only: payload is counted, never looked at. Judges nothing: what is no WebSocket just has no
//! boundaries one could rely on.

/// Status code of a Close by one that goes away (RFC 6455 section 7.4.1).
const GOING_AWAY: [u8; 2] = 1001_u16.to_be_bytes();
/// FIN and the opcode of Close.
const CLOSE: u8 = 0x88;
const OPCODE_CLOSE: u8 = 0x8;
/// Longest header up to and with the length: two bytes and a length of eight.
const HEADER_MAX: usize = 10;
/// Length of a masking key.
const KEY: u64 = 4;

/// Where one direction of a connection stands.
#[derive(Debug, Default)]
pub struct Frames {
    header: [u8; HEADER_MAX],
    /// Bytes of the header seen; 0 between frames and inside a payload.
    held: usize,
    /// Bytes of masking key and payload to come.
    left: u64,
    is_close: bool,
    closed: bool,
}

impl Frames {
    /// Takes the next bytes of the direction.
    pub fn follow(&mut self, mut bytes: &[u8]) {
        while let Some((first, rest)) = bytes.split_first() {
            if self.left > 0 {
                let passed = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                self.left -= passed as u64;
                bytes = bytes.get(passed..).unwrap_or(&[]);
                self.end_if_whole();
                continue;
            }
            if let Some(place) = self.header.get_mut(self.held) {
                *place = *first;
            }
            self.held += 1;
            bytes = rest;
            if let Some(length) = self.length() {
                let [opcode, second, ..] = self.header;
                self.is_close = opcode & 0x0f == OPCODE_CLOSE;
                self.left = length.saturating_add(if second & 0x80 == 0 { 0 } else { KEY });
                self.held = 0;
                self.end_if_whole();
            }
        }
    }

    /// The length of the payload, once the header tells it.
    fn length(&self) -> Option<u64> {
        let [_, second, a, b, c, d, e, f, g, h] = self.header;
        match (second & 0x7f, self.held) {
            (_, 0 | 1) => None,
            (126, held) => (held >= 4).then(|| u64::from(u16::from_be_bytes([a, b]))),
            (127, held) => (held >= HEADER_MAX).then(|| u64::from_be_bytes([a, b, c, d, e, f, g, h])),
            (short, _) => Some(u64::from(short)),
        }
    }

    fn end_if_whole(&mut self) {
        self.closed |= self.left == 0 && self.is_close;
    }

    /// Whether the next byte begins a frame.
    pub fn is_between(&self) -> bool {
        self.held == 0 && self.left == 0
    }

    /// Whether a whole Close has gone by: nothing may follow it.
    pub fn is_closed(&self) -> bool {
        self.closed
    }
}

/// The Close of one that goes away, as a server sends it.
pub const fn going_away() -> [u8; 4] {
    let [high, low] = GOING_AWAY;
    [CLOSE, 2, high, low]
}

/// The same as a client sends it, masked with a key (RFC 6455 section 5.3); the key is to be unpredictable.
pub const fn going_away_masked(key: [u8; 4]) -> [u8; 8] {
    let ([high, low], [a, b, c, d]) = (GOING_AWAY, key);
    [CLOSE, 0x82, a, b, c, d, high ^ a, low ^ b]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame with this much payload, masked or not.
    fn frame(opcode: u8, length: usize, masked: bool) -> Vec<u8> {
        let bit = if masked { 0x80 } else { 0 };
        let mut bytes = vec![0x80 | opcode];
        match length {
            0..=125 => bytes.push(bit | length as u8),
            126..=65_535 => {
                bytes.push(bit | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
            _ => {
                bytes.push(bit | 127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        if masked {
            bytes.extend([0x88; 4]);
        }
        // A payload that reads like the header of a Close.
        bytes.extend(std::iter::repeat_n(0x88, length));
        bytes
    }

    #[test]
    fn boundaries_are_where_frames_end_however_the_bytes_are_cut() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            for masked in [false, true] {
                let one = frame(0x2, length, masked);
                for piece in [1, 2, 3, 7, 4096, one.len()] {
                    let mut frames = Frames::default();
                    let mut passed = 0;
                    for bytes in one.chunks(piece.max(1)) {
                        assert_eq!(frames.is_between(), passed == 0, "{length} {masked} {piece}: {passed}");
                        frames.follow(bytes);
                        passed += bytes.len();
                    }
                    assert!(frames.is_between() && !frames.is_closed(), "{length} {masked} {piece}");
                }
            }
        }
    }

    #[test]
    fn several_frames_may_come_at_once_and_a_close_is_seen_when_it_is_whole() {
        let mut frames = Frames::default();
        let mut bytes = [frame(1, 5, true), frame(9, 0, true), frame(0, 200, true)].concat();
        let close = going_away_masked([1, 2, 3, 4]);
        bytes.extend(&close[..7]);
        frames.follow(&bytes);
        assert!(!frames.is_between() && !frames.is_closed());
        frames.follow(&close[7..]);
        assert!(frames.is_between() && frames.is_closed());
        let mut empty = Frames::default();
        empty.follow(&[0x88, 0]);
        assert!(empty.is_closed());
    }

    #[test]
    fn a_length_out_of_all_bounds_never_ends() {
        let mut frames = Frames::default();
        frames.follow(&[0x82, 0xff, 255, 255, 255, 255, 255, 255, 255, 255]);
        frames.follow(&[0; 1000]);
        assert!(!frames.is_between());
    }

    #[test]
    fn what_goes_away_says_1001() {
        assert_eq!(going_away(), [0x88, 0x02, 0x03, 0xe9]);
        let [_, _, a, b, c, d, high, low] = going_away_masked([9, 8, 7, 6]);
        assert_eq!(([a, b, c, d], [high ^ 9, low ^ 8]), ([9, 8, 7, 6], [0x03, 0xe9]));
    }
}
