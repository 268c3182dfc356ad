//! One decoder over the framings of HTTP/1 bodies: none, length, chunked, until close.
//!
//! Turns received bytes into frames without copying; the caller owns the buffer. Does not do I/O and does not bound
//! the size of a body (the exchange does).

use ekiden_core::outcome::Cause;

use crate::wire::chunked::{Chunked, Event};

/// How a body is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Framing {
    /// No body.
    #[default]
    None,
    /// Exactly this many bytes, at least one.
    Length(u64),
    /// Chunked coding, perhaps with trailers.
    Chunked,
    /// Until the peer closes (responses only).
    Close,
}

impl Framing {
    /// A length of zero is no body.
    pub fn of_length(length: u64) -> Self {
        if length == 0 { Framing::None } else { Framing::Length(length) }
    }
}

/// One step of decoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// Data: skip this many framing bytes, then take this many data bytes.
    Data {
        /// Framing bytes before the data.
        skip: usize,
        /// Data bytes.
        take: usize,
    },
    /// A complete trailer section of this many bytes (field lines and the empty line) after skipping framing bytes.
    Trailers {
        /// Framing bytes before the section.
        skip: usize,
        /// Bytes of the section.
        take: usize,
    },
    /// The body is complete; skip this many framing bytes.
    End {
        /// Framing bytes to skip.
        skip: usize,
    },
    /// More bytes are needed; skip this many framing bytes first.
    More {
        /// Framing bytes to skip.
        skip: usize,
    },
}

/// Decoder state of one body.
#[derive(Debug, Clone, Copy)]
pub enum Decoder {
    /// Finished, or never had a body.
    Done,
    /// Bytes left.
    Length(u64),
    /// Inside a chunked body.
    Chunked(Chunked),
    /// Until close.
    Close,
}

impl Decoder {
    /// A decoder for a framing.
    pub fn new(framing: Framing) -> Self {
        match framing {
            Framing::None => Decoder::Done,
            Framing::Length(length) => Decoder::Length(length),
            Framing::Chunked => Decoder::Chunked(Chunked::default()),
            Framing::Close => Decoder::Close,
        }
    }

    /// Whether the body has ended.
    pub fn is_done(&self) -> bool {
        matches!(self, Decoder::Done)
    }

    /// Bytes certainly still to come, to size buffers.
    pub fn remaining(&self) -> Option<u64> {
        match self {
            Decoder::Done => Some(0),
            Decoder::Length(left) => Some(*left),
            Decoder::Chunked(_) | Decoder::Close => None,
        }
    }

    /// How many of the next bytes are data of the body for sure, and nothing of its framing or beyond its end.
    pub fn inside(&self) -> u64 {
        match self {
            Decoder::Length(left) => *left,
            Decoder::Chunked(chunked) => chunked.inside(),
            Decoder::Done | Decoder::Close => 0,
        }
    }

    /// Decodes the next frame from the bytes received and not yet taken.
    pub fn next(&mut self, bytes: &[u8]) -> Result<Frame, Cause> {
        match self {
            Decoder::Done => Ok(Frame::End { skip: 0 }),
            Decoder::Length(left) => {
                let take = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                if take == 0 {
                    return Ok(Frame::More { skip: 0 });
                }
                *left -= take as u64;
                if *left == 0 {
                    *self = Decoder::Done;
                }
                Ok(Frame::Data { skip: 0, take })
            }
            Decoder::Chunked(chunked) => {
                let (skip, event) = chunked.next(bytes)?;
                Ok(match event {
                    Event::Data(take) => Frame::Data { skip, take },
                    Event::More => Frame::More { skip },
                    Event::Trailers(take) => {
                        *self = Decoder::Done;
                        Frame::Trailers { skip, take }
                    }
                    Event::End => {
                        *self = Decoder::Done;
                        Frame::End { skip }
                    }
                })
            }
            Decoder::Close if bytes.is_empty() => Ok(Frame::More { skip: 0 }),
            Decoder::Close => Ok(Frame::Data { skip: 0, take: bytes.len() }),
        }
    }

    /// The peer closed: whether that ends the body properly.
    pub fn end_of_stream(&mut self) -> bool {
        match self {
            Decoder::Done => true,
            Decoder::Close => {
                *self = Decoder::Done;
                true
            }
            Decoder::Length(_) | Decoder::Chunked(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_inside_of_a_body_is_data() {
        let rows: &[(Framing, &[u8], u64)] = &[
            (Framing::None, b"", 0),
            (Framing::Length(5), b"", 5),
            (Framing::Length(5), b"1234", 1),
            (Framing::Length(5), b"12345", 0),
            (Framing::Chunked, b"", 0),
            (Framing::Chunked, b"5\r\n", 5),
            (Framing::Chunked, b"5\r\n1234", 1),
            (Framing::Chunked, b"5\r\n12345", 0),
            (Framing::Chunked, b"1\r\n1\r\n", 0),
            (Framing::Close, b"1234", 0),
        ];
        for (framing, bytes, inside) in rows {
            let mut decoder = Decoder::new(*framing);
            let mut at = 0;
            while at < bytes.len()
                && let Ok(Frame::Data { skip, take }) = decoder.next(&bytes[at..])
            {
                at += skip + take;
            }
            assert_eq!(decoder.inside(), *inside, "{framing:?} after {bytes:?}");
        }
    }
}
