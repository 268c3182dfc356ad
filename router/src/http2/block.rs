//! Walks over field blocks (RFC 7541 section 6) without decoding them: whether a block ends where a representation ends, and
//! whether it names pseudo-header fields.
//!
//! For what the codec does not tell apart: it answers a torn block with PROTOCOL_ERROR where the protocol asks for
//! COMPRESSION_ERROR, and drops pseudo-header fields from trailers. Keeps no table and decodes no Huffman code, so that
//! references to the dynamic table are taken for granted (the codec checks them).

/// A block breaks the rules of compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Torn;

/// Fields of the static table that are pseudo-header fields: the first ones.
const PSEUDO_LAST: u32 = 14;
/// The largest index there can be: the static table, and a dynamic one of 4 KiB in entries of 32 bytes.
const INDEX_MAX: u32 = 61 + 128;
/// What `:` begins with in Huffman code, in the upper seven bits of a byte.
const HUFFMAN_COLON: u8 = 0x5c;
/// Seven bits a byte: beyond these an integer does not fit.
const SHIFT_MAX: u8 = 21;

/// What an integer stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Integer {
    Indexed,
    /// Index of a literal's name, 0 for a name that follows.
    Name,
    TableSize,
    Length {
        is_name: bool,
        huffman: bool,
    },
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Representation,
    More {
        of: Integer,
        value: u32,
        shift: u8,
    },
    Length {
        is_name: bool,
    },
    Text {
        left: u32,
        is_name: bool,
        /// None of it has come, and this is how its first byte is written.
        begins: Option<Coding>,
    },
}

/// How a text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Plain,
    Huffman,
}

/// A walk over one block.
#[derive(Debug, Clone, Copy, Default)]
pub struct BlockWalk {
    state: State,
    has_pseudo: bool,
}

impl BlockWalk {
    /// Walks over the next bytes.
    ///
    /// # Errors
    /// [`Torn`].
    pub fn walk(&mut self, mut bytes: &[u8]) -> Result<(), Torn> {
        while let Some((&byte, rest)) = bytes.split_first() {
            bytes = match self.state {
                State::Text { left, is_name, begins } => {
                    // A name that stands in the block tells itself by its first byte.
                    self.has_pseudo |= is_name
                        && match begins {
                            Some(Coding::Plain) => byte == b':',
                            Some(Coding::Huffman) => byte >> 1 == HUFFMAN_COLON,
                            None => false,
                        };
                    let take = bytes.len().min(left as usize);
                    let left = left - take as u32;
                    self.state = match left {
                        0 => after_text(is_name),
                        _ => State::Text { left, is_name, begins: None },
                    };
                    bytes.get(take..).unwrap_or(&[])
                }
                State::Representation => {
                    self.representation(byte)?;
                    rest
                }
                State::Length { is_name } => {
                    let of = Integer::Length { is_name, huffman: byte & 0x80 != 0 };
                    self.prefix(of, byte, 0x7f)?;
                    rest
                }
                State::More { of, value, shift } => {
                    let value = value.saturating_add(u32::from(byte & 0x7f) << shift);
                    if byte & 0x80 == 0 {
                        self.complete(of, value)?;
                    } else if shift >= SHIFT_MAX {
                        return Err(Torn);
                    } else {
                        self.state = State::More { of, value, shift: shift + 7 };
                    }
                    rest
                }
            };
        }
        Ok(())
    }

    /// The block has ended; true when it held a pseudo-header field.
    ///
    /// # Errors
    /// [`Torn`] when it ended inside a field.
    pub fn end(&self) -> Result<bool, Torn> {
        if self.state == State::Representation { Ok(self.has_pseudo) } else { Err(Torn) }
    }

    fn representation(&mut self, byte: u8) -> Result<(), Torn> {
        match byte {
            0x80.. => self.prefix(Integer::Indexed, byte, 0x7f),
            0x40.. => self.prefix(Integer::Name, byte, 0x3f),
            0x20.. => self.prefix(Integer::TableSize, byte, 0x1f),
            _ => self.prefix(Integer::Name, byte, 0x0f),
        }
    }

    fn prefix(&mut self, of: Integer, byte: u8, mask: u8) -> Result<(), Torn> {
        if byte & mask == mask {
            self.state = State::More { of, value: u32::from(mask), shift: 0 };
            return Ok(());
        }
        self.complete(of, u32::from(byte & mask))
    }

    fn complete(&mut self, of: Integer, value: u32) -> Result<(), Torn> {
        self.state = match of {
            Integer::Indexed if value == 0 || value > INDEX_MAX => return Err(Torn),
            Integer::Name if value > INDEX_MAX => return Err(Torn),
            Integer::Indexed => {
                self.has_pseudo |= value <= PSEUDO_LAST;
                State::Representation
            }
            Integer::Name => {
                self.has_pseudo |= (1..=PSEUDO_LAST).contains(&value);
                State::Length { is_name: value == 0 }
            }
            Integer::TableSize => State::Representation,
            Integer::Length { is_name, .. } if value == 0 => after_text(is_name),
            Integer::Length { is_name, huffman } => {
                let begins = Some(if huffman { Coding::Huffman } else { Coding::Plain });
                State::Text { left: value, is_name, begins }
            }
        };
        Ok(())
    }
}

fn after_text(is_name: bool) -> State {
    if is_name { State::Length { is_name: false } } else { State::Representation }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(bytes: &[u8], step: usize) -> Result<bool, Torn> {
        let mut walk = BlockWalk::default();
        for piece in bytes.chunks(step) {
            walk.walk(piece)?;
        }
        walk.end()
    }

    #[test]
    fn blocks() {
        // Examples of RFC 7541 appendix C, and torn ones.
        let rows: &[(&[u8], Result<bool, Torn>)] = &[
            (b"\x40\x0acustom-key\x0dcustom-header", Ok(false)),
            (b"\x04\x0c/sample/path", Ok(true)),
            (b"\x10\x08password\x06secret", Ok(false)),
            (b"\x82", Ok(true)),
            (b"\x82\x86\x84\x41\x0fwww.example.com", Ok(true)),
            (b"\x82\x86\x84\xbe\x58\x08no-cache", Ok(true)),
            (b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff", Ok(true)),
            (b"\x3f\xe1\x1f\x90", Ok(false)),
            (b"\x40\x00\x00", Ok(false)),
            (b"", Ok(false)),
            (b"\x40", Err(Torn)),
            (b"\x40\x01", Err(Torn)),
            (b"\x40\x01a", Err(Torn)),
            (b"\x40\x01a\x05abc", Err(Torn)),
            (b"\x7f", Err(Torn)),
            (b"\x80", Err(Torn)),
            (b"\xff\xff\xff\xff\xff\xff\x01", Err(Torn)),
            (b"\xff\x7f", Err(Torn)),
        ];
        for (bytes, expected) in rows {
            for step in [1, 2, 3, 100] {
                assert_eq!(whole(bytes, step), *expected, "{bytes:?} by {step}");
            }
        }
        // A name in letters, also one that is torn from its length.
        for step in [1, 2, 3, 100] {
            assert_eq!(whole(b"\x00\x07:method\x03GET", step), Ok(true), "by {step}");
            assert_eq!(whole(b"\x00\x85\xb9\x49\x53\x39\xe4\x03GET", step), Ok(true), "by {step}");
            assert_eq!(whole(b"\x00\x07\x3amethod\x01a\x00\x02x:\x01a", step), Ok(true), "by {step}");
            assert_eq!(whole(b"\x00\x02x:\x02:a", step), Ok(false), "by {step}");
        }
    }
}
