//! gRPC-web ("gRPC Web"): base64 in both directions, in pieces of any size, and trailers as the last frame of the body.
//!
//! Messages are carried as they are: their frames are those of gRPC. Does not know HTTP.

/// The flag of the frame that holds trailers.
const TRAILERS: u8 = 0x80;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// What is not base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotBase64;

/// Reads base64 that comes in pieces. Clients may send several texts behind one another, each padded.
#[derive(Debug, Clone, Copy, Default)]
pub struct Decoder {
    bits: u32,
    /// Letters of the group that has begun, 0..=3.
    letters: u8,
    /// Signs of padding in that group.
    padding: u8,
}

impl Decoder {
    /// Decodes the next piece and appends it to `out`. Holds at most three letters.
    ///
    /// # Errors
    /// A byte that cannot stand where it does.
    pub fn feed(&mut self, text: &[u8], out: &mut Vec<u8>) -> Result<(), NotBase64> {
        out.reserve(text.len() / 4 * 3 + 3);
        for byte in text {
            if *byte == b'=' {
                self.padding += 1;
                if self.letters < 2 || self.letters + self.padding > 4 {
                    return Err(NotBase64);
                }
            } else {
                let six = letter(*byte).ok_or(NotBase64)?;
                if self.padding > 0 {
                    return Err(NotBase64);
                }
                self.bits = self.bits << 6 | six;
                self.letters += 1;
            }
            if self.letters + self.padding == 4 {
                self.end_group(out)?;
            }
        }
        Ok(())
    }

    fn end_group(&mut self, out: &mut Vec<u8>) -> Result<(), NotBase64> {
        let [_, one, two, three] = (self.bits << (6 * self.padding)).to_be_bytes();
        match self.padding {
            0 => out.extend_from_slice(&[one, two, three]),
            // Bits that stand for nothing must be zero: else two texts would say the same.
            1 if three == 0 => out.extend_from_slice(&[one, two]),
            2 if two == 0 && three == 0 => out.push(one),
            _ => return Err(NotBase64),
        }
        *self = Self::default();
        Ok(())
    }

    /// Whether the text may end here.
    pub const fn is_whole(&self) -> bool {
        self.letters == 0
    }
}

fn letter(byte: u8) -> Option<u32> {
    Some(u32::from(match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    }))
}

/// Appends bytes as base64, padded: what has arrived can be shown at once, and clients read such texts one after another.
pub fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    out.reserve(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let at = |place: usize| u32::from(group.get(place).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            let six = bits >> (18 - 6 * place) & 0x3f;
            let letter =
                if place > group.len() { b'=' } else { ALPHABET.get(six as usize).copied().unwrap_or(b'=') };
            out.push(letter);
        }
    }
}

/// The frame that holds trailers, while it is made.
#[derive(Debug, Default)]
pub struct TrailerFrame(Vec<u8>);

impl TrailerFrame {
    /// Adds a field, its name in lower case.
    pub fn field(&mut self, name: &[u8], value: &[u8]) {
        self.0.extend(name.iter().map(u8::to_ascii_lowercase));
        self.0.extend_from_slice(b": ");
        self.0.extend_from_slice(value);
        self.0.extend_from_slice(b"\r\n");
    }

    /// Whether nothing was added.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The whole frame. Sections of trailers are bounded far below 4 GiB.
    pub fn finish(self) -> Vec<u8> {
        let mut frame = vec![TRAILERS];
        frame.extend_from_slice(&u32::try_from(self.0.len()).unwrap_or(u32::MAX).to_be_bytes());
        frame.extend_from_slice(&self.0);
        frame
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(pieces: &[&[u8]]) -> Result<(Vec<u8>, bool), NotBase64> {
        let (mut decoder, mut out) = (Decoder::default(), Vec::new());
        for piece in pieces {
            decoder.feed(piece, &mut out)?;
        }
        Ok((out, decoder.is_whole()))
    }

    #[test]
    fn texts_of_the_standard() {
        // RFC 4648 section 10.
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            let mut out = Vec::new();
            encode(bytes.as_bytes(), &mut out);
            assert_eq!(out, text.as_bytes());
            assert_eq!(decode(&[text.as_bytes()]), Ok((bytes.as_bytes().to_vec(), true)));
        }
        assert_eq!(decode(&[b"Zg==Zm8=Zm9v"]), Ok((b"ffofoo".to_vec(), true)), "several texts");
        assert_eq!(decode(&[b"Zm9vY"]), Ok((b"foo".to_vec(), false)), "torn");
        assert_eq!(decode(&[b"Zg="]), Ok((vec![], false)), "torn in its padding");
    }

    #[test]
    fn what_is_no_base64() {
        for text in ["=", "Z=", "Z===", "Zg=a", "Zg===", "Zm9v\n", "Zm 9", "Zh==", "Zm9=", "Z-_a", "\u{e9}"] {
            assert_eq!(decode(&[text.as_bytes()]), Err(NotBase64), "{text:?}");
        }
    }

    #[test]
    fn a_frame_of_trailers() {
        let mut frame = TrailerFrame::default();
        assert!(frame.is_empty());
        frame.field(b"Grpc-Status", b"0");
        frame.field(b"x", b"Y");
        assert_eq!(frame.finish(), b"\x80\0\0\0\x16grpc-status: 0\r\nx: Y\r\n");
    }

    proptest! {
        /// However a text is cut, on the way in and on the way out, it says the same.
        #[test]
        fn pieces_do_not_matter(bytes in prop::collection::vec(any::<u8>(), 0..200), cuts in prop::collection::vec(0_usize..300, 0..8)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.sort_unstable();
            let (mut text, mut from) = (Vec::new(), 0);
            for cut in cuts.iter().copied().chain([bytes.len()]) {
                encode(&bytes[from..cut], &mut text);
                from = cut;
            }
            prop_assert_eq!(decode(&[&text]), Ok((bytes.clone(), true)));
            let ones: Vec<&[u8]> = text.chunks(1).collect();
            prop_assert_eq!(decode(&ones), Ok((bytes.clone(), true)));
            for at in 0..text.len() {
                prop_assert_eq!(decode(&[&text[..at], &text[at..]]), Ok((bytes.clone(), true)));
            }
        }

        /// Any bytes are taken or refused, whole or in pieces alike; what is taken says what it would say again.
        #[test]
        fn any_text_is_judged_alike(text in prop::collection::vec(prop::sample::select(b"AZaz09+/=\n".to_vec()), 0..24)) {
            let whole = decode(&[&text]);
            let ones: Vec<&[u8]> = text.chunks(1).collect();
            prop_assert_eq!(decode(&ones), whole.clone());
            if let Ok((bytes, true)) = whole {
                let mut again = Vec::new();
                encode(&bytes, &mut again);
                prop_assert_eq!(decode(&[&again]), Ok((bytes, true)));
            }
        }
    }
}
