//! Where frames of HTTP/2 begin and end in a stream of bytes that comes in any pieces (RFC 9113 section 4.1). Judges nothing.

use ekiden_core::frame_budget::{FrameHeader, kind};

/// Bytes of a frame's header.
const HEADER: usize = 9;
/// The bits of a stream's number; the highest one is reserved.
const STREAM_MASK: u32 = 0x7fff_ffff;
/// Where the type of a frame stands in its header.
const TYPE_AT: usize = 3;
/// A type that no specification gives a meaning.
const NO_TYPE: u8 = 0xfe;

/// Where one direction stands between frames.
#[derive(Debug, Clone, Copy)]
pub struct Track {
    /// Bytes of the preface or of a payload still to pass.
    skip: u64,
    header: [u8; HEADER],
    held: usize,
    /// What is skipped is a payload, not the preface.
    in_frame: bool,
}

impl Track {
    /// One that begins with so many bytes that are no frame.
    pub fn new(skip: usize) -> Self {
        Self { skip: skip as u64, header: [0; HEADER], held: 0, in_frame: false }
    }

    /// Walks over the next bytes; `see` gets each header as it is complete, then what has come of the payload, then its end,
    /// and may end the walk.
    ///
    /// # Errors
    /// What `see` ends it with.
    pub fn walk<E>(
        &mut self,
        mut bytes: &[u8],
        mut see: impl FnMut(Part<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skip = bytes.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
                self.skip -= skip as u64;
                if self.in_frame {
                    see(Part::Payload(bytes.get(..skip).unwrap_or(&[])))?;
                    if self.skip == 0 {
                        see(Part::End)?;
                    }
                }
                bytes = bytes.get(skip..).unwrap_or(&[]);
                continue;
            }
            let take = bytes.len().min(HEADER - self.held);
            if let (Some(to), Some(from)) =
                (self.header.get_mut(self.held..self.held + take), bytes.get(..take))
            {
                to.copy_from_slice(from);
            }
            self.held += take;
            bytes = bytes.get(take..).unwrap_or(&[]);
            if self.held == HEADER {
                self.held = 0;
                self.in_frame = true;
                let [a, b, c, kind, flags, stream @ ..] = self.header;
                let length = u32::from_be_bytes([0, a, b, c]);
                self.skip = u64::from(length);
                let stream = u32::from_be_bytes(stream) & STREAM_MASK;
                see(Part::Header(FrameHeader { length, kind, flags }, stream))?;
                if length == 0 {
                    see(Part::End)?;
                }
            }
        }
        Ok(())
    }

    /// Makes every GOAWAY in the next bytes a frame without meaning. A client's GOAWAY is about streams that a server would
    /// begin, of which there are none, and the codec would close at once, with answers to the client still to come.
    pub fn hide_goaway(mut self, bytes: &mut [u8]) {
        let mut at = 0;
        while let Some(byte) = bytes.get_mut(at) {
            if self.skip > 0 {
                let skip = (bytes.len() - at).min(usize::try_from(self.skip).unwrap_or(usize::MAX));
                self.skip -= skip as u64;
                at += skip;
                continue;
            }
            if self.held == TYPE_AT && *byte == kind::GOAWAY {
                *byte = NO_TYPE;
            }
            if let Some(place) = self.header.get_mut(self.held) {
                *place = *byte;
            }
            (self.held, at) = (self.held + 1, at + 1);
            if self.held == HEADER {
                let [a, b, c, ..] = self.header;
                (self.held, self.skip) = (0, u64::from(u32::from_be_bytes([0, a, b, c])));
            }
        }
    }
}

/// A piece of a frame.
#[derive(Debug, Clone, Copy)]
pub enum Part<'a> {
    /// Its header, and the stream it is on.
    Header(FrameHeader, u32),
    /// What has come of its payload.
    Payload(&'a [u8]),
    /// It is whole.
    End,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http2::preface::PREFACE;

    #[test]
    fn a_goaway_is_hidden_however_the_bytes_come() {
        let goaway = [0, 0, 8, kind::GOAWAY, 0, 0, 0, 0, 0, 7, 7, 7, 7, 7, 7, 7, 7];
        let ping = [0, 0, 8, kind::PING, 0, 0, 0, 0, 0, 7, 7, 7, 7, 7, 7, 7, 7];
        let bytes = [&PREFACE[..], &ping, &goaway, &ping].concat();
        let mut expected = bytes.clone();
        expected[PREFACE.len() + ping.len() + TYPE_AT] = NO_TYPE;
        for step in [1, 2, 3, 4, 9, 17, 1_000] {
            let (mut track, mut out) = (Track::new(PREFACE.len()), Vec::new());
            for piece in bytes.chunks(step) {
                let mut piece = piece.to_vec();
                let before = track;
                let walked: Result<(), ()> = track.walk(&piece, |_| Ok(()));
                before.hide_goaway(&mut piece);
                out.extend(piece);
                assert_eq!(walked, Ok(()));
            }
            assert_eq!(out, expected, "in pieces of {step}");
        }
    }

    #[test]
    fn headers_are_found_however_the_bytes_come() {
        let mut bytes = PREFACE.to_vec();
        bytes.extend_from_slice(&[0, 0, 0, kind::SETTINGS, 0, 0, 0, 0, 0]);
        bytes.extend_from_slice(&[0, 0, 8, kind::PING, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
        bytes.extend_from_slice(&[0, 1, 0, kind::DATA, 1, 0, 0, 0, 1]);
        bytes.extend_from_slice(&[9; 256]);
        bytes.extend_from_slice(&[0, 0, 0, kind::SETTINGS, 1, 0, 0, 0, 0]);
        for step in [1, 2, 7, 9, 100, 1_000] {
            let (mut track, mut seen) = (Track::new(PREFACE.len()), Vec::new());
            let (mut payload, mut ends) = (0, 0);
            for piece in bytes.chunks(step) {
                let walked: Result<(), ()> = track.walk(piece, |part| {
                    match part {
                        Part::Header(frame, stream) => {
                            seen.push((frame.kind, frame.flags, frame.length, stream))
                        }
                        Part::Payload(bytes) => payload += bytes.len(),
                        Part::End => ends += 1,
                    }
                    Ok(())
                });
                assert_eq!(walked, Ok(()));
            }
            assert_eq!(
                seen,
                [
                    (kind::SETTINGS, 0, 0, 0),
                    (kind::PING, 0, 8, 0),
                    (kind::DATA, 1, 256, 1),
                    (kind::SETTINGS, 1, 0, 0)
                ],
                "in pieces of {step}"
            );
            assert_eq!((payload, ends), (264, 4), "in pieces of {step}");
        }
    }
}
