//! Rules of frames that the codec holds, but answers with another error than the protocol asks for (RFC 9113 sections 4, 5.1
//! and 6): sizes, values of settings, overflowing windows, frames on streams that the client has closed, torn field blocks.
//!
//! Sees frames under the codec; a frame that breaks none of these goes on to it and to all its other rules.

use ekiden_core::frame_budget::{FrameHeader, kind};

use crate::http2::block::BlockWalk;

/// Error codes (RFC 9113 section 7).
pub mod code {
    #![expect(missing_docs, reason = "each is the code it is named after")]
    pub const PROTOCOL_ERROR: u32 = 1;
    pub const FLOW_CONTROL_ERROR: u32 = 3;
    pub const STREAM_CLOSED: u32 = 5;
    pub const FRAME_SIZE_ERROR: u32 = 6;
    pub const COMPRESSION_ERROR: u32 = 9;
}

/// Streams remembered after the client has closed them.
const CLOSED_MAX: usize = 64;
/// END_STREAM, and ACK.
const FIRST_FLAG: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;
/// SETTINGS_INITIAL_WINDOW_SIZE, and the largest window there is.
const INITIAL_WINDOW: u16 = 4;
const WINDOW_MAX: u32 = 0x7fff_ffff;

/// What of a payload is looked at.
#[derive(Debug, Clone, Copy)]
enum Payload {
    Unseen,
    /// A setting is six bytes.
    Settings {
        held: [u8; 6],
        length: usize,
    },
    /// An increment is four bytes.
    Window {
        held: [u8; 4],
        length: usize,
    },
    /// A field block: bytes in front of it, its own, and whether the number of bytes behind it stands in front.
    Block {
        before: u32,
        left: u32,
        padded: bool,
    },
}

/// The rules, as far as one connection has come.
#[derive(Debug)]
pub struct Rules {
    closed: [u32; CLOSED_MAX],
    closed_at: usize,
    /// The highest stream the client has opened.
    opened: u32,
    payload: Payload,
    walk: BlockWalk,
    /// The block under way: its stream, whether it is of trailers, and whether this frame ends it.
    stream: u32,
    trailers: bool,
    ends: bool,
    /// Between a HEADERS frame and the end of its block nothing else may stand, which the codec holds.
    in_block: bool,
    /// The stream whose window was enlarged last, by how much in a row, and the data sent to the client in all.
    window_stream: u32,
    window_sum: u64,
    sent: u64,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            closed: [0; CLOSED_MAX],
            closed_at: 0,
            opened: 0,
            payload: Payload::Unseen,
            walk: BlockWalk::default(),
            stream: 0,
            trailers: false,
            ends: false,
            in_block: false,
            window_stream: 0,
            window_sum: 0,
            sent: 0,
        }
    }
}

impl Rules {
    /// Judges a frame by its header.
    ///
    /// # Errors
    /// The code that the connection ends with.
    pub fn begin(&mut self, frame: FrameHeader, stream: u32) -> Result<(), u32> {
        let fits = match frame.kind {
            kind::PRIORITY => frame.length == 5,
            kind::RST_STREAM | kind::WINDOW_UPDATE => frame.length == 4,
            kind::PING => frame.length == 8,
            kind::SETTINGS if frame.flags & FIRST_FLAG != 0 => frame.length == 0,
            kind::SETTINGS => frame.length.is_multiple_of(6),
            kind::GOAWAY => frame.length >= 8,
            _ => true,
        };
        if !fits {
            return Err(code::FRAME_SIZE_ERROR);
        }
        self.payload = Payload::Unseen;
        match frame.kind {
            kind::CONTINUATION if self.in_block && stream == self.stream => {
                self.ends = frame.flags & END_HEADERS != 0;
                self.in_block = !self.ends;
                self.payload = Payload::Block { before: 0, left: frame.length, padded: false };
            }
            _ if self.in_block => {}
            // The follower hides it from the codec.
            kind::GOAWAY if stream != 0 => return Err(code::PROTOCOL_ERROR),
            // The codec waits for the rest of the block before it refuses it (section 8.4).
            kind::PUSH_PROMISE => return Err(code::PROTOCOL_ERROR),
            kind::SETTINGS => self.payload = Payload::Settings { held: [0; 6], length: 0 },
            kind::HEADERS | kind::DATA => {
                if stream <= self.opened && self.closed.contains(&stream) && stream != 0 {
                    return Err(code::STREAM_CLOSED);
                }
                if frame.flags & FIRST_FLAG != 0 {
                    self.close(stream);
                }
                if frame.kind == kind::HEADERS {
                    self.begin_block(frame, stream);
                }
            }
            kind::WINDOW_UPDATE if stream != 0 => {
                if stream != self.window_stream {
                    (self.window_stream, self.window_sum) = (stream, 0);
                }
                self.payload = Payload::Window { held: [0; 4], length: 0 };
            }
            kind::RST_STREAM if stream <= self.opened => self.close(stream),
            _ => {}
        }
        Ok(())
    }

    fn begin_block(&mut self, frame: FrameHeader, stream: u32) {
        self.trailers = stream <= self.opened;
        self.opened = self.opened.max(stream);
        self.stream = stream;
        self.ends = frame.flags & END_HEADERS != 0;
        self.in_block = !self.ends;
        self.walk = BlockWalk::default();
        let padded = frame.flags & PADDED != 0;
        let before = u32::from(padded) + if frame.flags & PRIORITY != 0 { 5 } else { 0 };
        // A frame too short for what it announces is the codec's to refuse.
        self.payload = match frame.length.checked_sub(before) {
            Some(left) => Payload::Block { before, left, padded },
            None => Payload::Unseen,
        };
    }

    fn close(&mut self, stream: u32) {
        if let Some(place) = self.closed.get_mut(self.closed_at) {
            *place = stream;
        }
        self.closed_at = (self.closed_at + 1) % CLOSED_MAX;
    }

    /// Looks at the next bytes of the payload of the frame that [`Rules::begin`] was told of.
    ///
    /// # Errors
    /// The code that the connection ends with.
    pub fn payload(&mut self, bytes: &[u8]) -> Result<(), u32> {
        match &mut self.payload {
            Payload::Unseen => Ok(()),
            Payload::Settings { held, length } => settings(held, length, bytes),
            Payload::Window { held, length } => {
                for (place, byte) in held.iter_mut().skip(*length).zip(bytes) {
                    *place = *byte;
                    *length += 1;
                }
                Ok(())
            }
            Payload::Block { .. } => self.block(bytes),
        }
    }

    fn block(&mut self, mut bytes: &[u8]) -> Result<(), u32> {
        while let Payload::Block { before, left, padded } = &mut self.payload
            && let Some((&first, rest)) = bytes.split_first()
        {
            if std::mem::take(padded) {
                *before -= 1;
                bytes = rest;
                match left.checked_sub(u32::from(first)) {
                    Some(less) => *left = less,
                    None => self.payload = Payload::Unseen,
                }
            } else if *before > 0 {
                *before -= 1;
                bytes = rest;
            } else {
                let take = bytes.len().min(*left as usize);
                *left -= take as u32;
                let block = bytes.get(..take).unwrap_or(&[]);
                return self.walk.walk(block).map_err(|_| code::COMPRESSION_ERROR);
            }
        }
        Ok(())
    }

    /// The frame has ended.
    ///
    /// # Errors
    /// The code that the connection ends with.
    pub fn end(&mut self) -> Result<(), u32> {
        match std::mem::replace(&mut self.payload, Payload::Unseen) {
            Payload::Unseen | Payload::Settings { .. } => Ok(()),
            Payload::Window { held, .. } => {
                self.window_sum += u64::from(u32::from_be_bytes(held) & WINDOW_MAX);
                // More than this overflows the window wherever it began, also when the codec has done with the stream.
                let most = u64::from(WINDOW_MAX) + self.sent;
                if self.window_sum > most { Err(code::FLOW_CONTROL_ERROR) } else { Ok(()) }
            }
            Payload::Block { .. } if !self.ends => Ok(()),
            Payload::Block { .. } => match self.walk.end() {
                Err(_) => Err(code::COMPRESSION_ERROR),
                // Malformed, and the codec would drop it (section 8.1).
                Ok(true) if self.trailers => Err(code::PROTOCOL_ERROR),
                Ok(_) => Ok(()),
            },
        }
    }

    /// A frame goes to the client.
    pub fn note_sent(&mut self, frame: FrameHeader) {
        if frame.kind == kind::DATA {
            self.sent += u64::from(frame.length);
        }
    }
}

fn settings(held: &mut [u8; 6], length: &mut usize, bytes: &[u8]) -> Result<(), u32> {
    for byte in bytes {
        if let Some(place) = held.get_mut(*length) {
            *place = *byte;
        }
        *length += 1;
        if *length == held.len() {
            *length = 0;
            let [a, b, c, d, e, f] = *held;
            let (name, value) = (u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, f]));
            if name == INITIAL_WINDOW && value > WINDOW_MAX {
                return Err(code::FLOW_CONTROL_ERROR);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of one piece: type, flags, stream, payload.
    fn feed(rules: &mut Rules, (kind, flags, stream, payload): (u8, u8, u32, &[u8])) -> Result<(), u32> {
        rules.begin(FrameHeader { length: payload.len() as u32, kind, flags }, stream)?;
        for byte in payload {
            rules.payload(&[*byte])?;
        }
        rules.end()
    }

    /// Type, flags, payload, judgement.
    type Row<'a> = (u8, u8, &'a [u8], Result<(), u32>);

    #[test]
    fn sizes_and_settings() {
        let rows: &[Row<'_>] = &[
            (kind::PING, 0, &[0; 8], Ok(())),
            (kind::PING, 0, &[0; 6], Err(code::FRAME_SIZE_ERROR)),
            (kind::GOAWAY, 0, &[0; 8], Ok(())),
            (kind::GOAWAY, 0, &[0; 7], Err(code::FRAME_SIZE_ERROR)),
            (kind::PUSH_PROMISE, 0, &[0, 0, 0, 2], Err(code::PROTOCOL_ERROR)),
            (kind::PRIORITY, 0, &[0; 4], Err(code::FRAME_SIZE_ERROR)),
            (kind::RST_STREAM, 0, &[0; 3], Err(code::FRAME_SIZE_ERROR)),
            (kind::WINDOW_UPDATE, 0, &[0; 3], Err(code::FRAME_SIZE_ERROR)),
            (kind::SETTINGS, 0, &[0; 12], Ok(())),
            (kind::SETTINGS, 0, &[0; 3], Err(code::FRAME_SIZE_ERROR)),
            (kind::SETTINGS, 1, &[0; 6], Err(code::FRAME_SIZE_ERROR)),
            (kind::SETTINGS, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff], Ok(())),
            (kind::SETTINGS, 0, &[0, 1, 0, 0, 0, 0, 0, 4, 0x80, 0, 0, 0], Err(code::FLOW_CONTROL_ERROR)),
        ];
        for (kind, flags, payload, expected) in rows {
            let got = feed(&mut Rules::default(), (*kind, *flags, 0, payload));
            assert_eq!(got, *expected, "{kind} {flags} {payload:?}");
        }
    }

    #[test]
    fn streams_that_the_client_closed_stay_closed() {
        for closing in [(kind::HEADERS, 5, 1, &[0x82][..]), (kind::RST_STREAM, 0, 1, &[0; 4])] {
            for late in [(kind::HEADERS, 5, 1, &[0x82][..]), (kind::DATA, 0, 1, b"x")] {
                let mut rules = Rules::default();
                if closing.0 == kind::RST_STREAM {
                    assert_eq!(feed(&mut rules, (kind::HEADERS, 4, 1, &[0x82])), Ok(()));
                }
                assert_eq!(feed(&mut rules, closing), Ok(()));
                assert_eq!(feed(&mut rules, (kind::HEADERS, 5, 3, &[0x82])), Ok(()), "another stream");
                assert_eq!(feed(&mut rules, late), Err(code::STREAM_CLOSED));
            }
        }
    }

    #[test]
    fn blocks_in_pieces_and_padding() {
        let torn = Err(code::COMPRESSION_ERROR);
        let mut rules = Rules::default();
        assert_eq!(feed(&mut rules, (kind::HEADERS, 5, 1, b"\x40")), torn);
        let mut rules = Rules::default();
        assert_eq!(feed(&mut rules, (kind::HEADERS, 1, 1, b"\x40\x01")), Ok(()));
        assert_eq!(feed(&mut rules, (kind::CONTINUATION, 0, 1, b"a\x01")), Ok(()));
        assert_eq!(feed(&mut rules, (kind::CONTINUATION, 4, 1, b"b")), Ok(()));
        let mut rules = Rules::default();
        assert_eq!(feed(&mut rules, (kind::HEADERS, 1, 1, b"\x40")), Ok(()));
        assert_eq!(
            feed(&mut rules, (kind::DATA, 0, 1, b"x")),
            Ok(()),
            "inside a block: the codec's to refuse"
        );
        let mut rules = Rules::default();
        let padded = [2, 0, 0, 0, 0, 1, 0x82, 0x40, 0x40];
        assert_eq!(feed(&mut rules, (kind::HEADERS, 4 | PADDED | PRIORITY, 1, &padded)), Ok(()));
        let trails = feed(&mut rules, (kind::HEADERS, 5, 1, &[0x83]));
        assert_eq!(trails, Err(code::PROTOCOL_ERROR), "a pseudo-header trails");
        let mut rules = Rules::default();
        assert_eq!(
            feed(&mut rules, (kind::HEADERS, 5 | PADDED, 1, &[200, 0x40])),
            Ok(()),
            "the codec's to refuse"
        );
    }

    #[test]
    fn windows_do_not_overflow() {
        let most = [0x7f, 0xff, 0xff, 0xff];
        let mut rules = Rules::default();
        for stream in [1, 3, 1] {
            assert_eq!(
                feed(&mut rules, (kind::WINDOW_UPDATE, 0, stream, &most)),
                Ok(()),
                "each may be at zero"
            );
        }
        assert_eq!(
            feed(&mut rules, (kind::WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])),
            Err(code::FLOW_CONTROL_ERROR)
        );
        let mut rules = Rules::default();
        rules.note_sent(FrameHeader { length: 1, kind: kind::DATA, flags: 0 });
        assert_eq!(feed(&mut rules, (kind::WINDOW_UPDATE, 0, 1, &most)), Ok(()));
        assert_eq!(feed(&mut rules, (kind::WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])), Ok(()), "one was used");
        assert_eq!(
            feed(&mut rules, (kind::WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])),
            Err(code::FLOW_CONTROL_ERROR)
        );
    }
}
