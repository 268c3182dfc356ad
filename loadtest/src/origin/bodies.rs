//! What the origin does with bodies: takes one and answers, takes without an end, or gives without an end.
//! Chunked bodies are taken by their last bytes, which the load generator's pieces never hold before.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;

/// Bytes written at once by a flood.
static PIECE: [u8; 64 << 10] = [b'x'; 64 << 10];
/// End of a chunked body without trailers.
const LAST: &[u8] = b"0\r\n\r\n";

/// What a connection is at, beside answering heads.
#[derive(Debug, Default)]
pub(super) enum Body {
    /// No body is on its way.
    #[default]
    None,
    /// So many bytes are still to come.
    Sized(usize),
    /// Chunked: the last bytes that came.
    Chunked(Vec<u8>),
    /// Everything that comes is thrown away.
    Sink,
    /// As a sink, and bytes go out while there is room.
    Flood,
}

impl Body {
    /// What follows the head of a request; `/upload`, `/sink` and `/flood` differ from other paths.
    pub(super) fn after(path: &[u8], head: &[u8]) -> Self {
        match path {
            b"/sink" => Self::Sink,
            b"/flood" => Self::Flood,
            b"/upload" => {
                let text = String::from_utf8_lossy(head).to_ascii_lowercase();
                let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
                match length.and_then(|length| length.trim().parse().ok()) {
                    Some(length) => Self::Sized(length),
                    None => Self::Chunked(Vec::new()),
                }
            }
            _ => Self::None,
        }
    }

    /// Takes body bytes: how many are of it, and whether an answer is due.
    pub(super) fn take(&mut self, bytes: &[u8]) -> (usize, bool) {
        let (used, is_whole) = match self {
            Self::None => (0, false),
            Self::Sink | Self::Flood => (bytes.len(), false),
            Self::Sized(left) => {
                let used = bytes.len().min(*left);
                *left -= used;
                (used, *left == 0)
            }
            Self::Chunked(last) => {
                last.extend_from_slice(&bytes[bytes.len().saturating_sub(LAST.len())..]);
                last.drain(..last.len().saturating_sub(LAST.len()));
                (bytes.len(), last.as_slice() == LAST)
            }
        };
        if is_whole {
            *self = Self::None;
        }
        (used, is_whole)
    }
}

/// Writes until the socket takes no more; false when it is broken.
pub(super) fn flood(stream: &mut TcpStream) -> bool {
    loop {
        // How much was taken does not matter: every byte is alike.
        if let Err(error) = stream.write(&PIECE).map(drop) {
            return error.kind() == ErrorKind::WouldBlock;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_end_where_they_should() {
        let head = b"POST /upload HTTP/1.1\r\nContent-Length: 5\r\n\r\n";
        let mut body = Body::after(b"/upload", head);
        assert_eq!((body.take(b"abc"), body.take(b"defg")), ((3, false), (2, true)));
        let mut body =
            Body::after(b"/upload", b"POST /upload HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n");
        let pieces: [&[u8]; 4] = [b"1\r\nx\r\n", b"1\r\nx\r\n0\r", b"\n\r", b"\n"];
        let whole: Vec<bool> = pieces.iter().map(|piece| body.take(piece).1).collect();
        assert_eq!(whole, [false, false, false, true]);
        let mut sink = Body::after(b"/sink", head);
        assert_eq!(sink.take(b"0\r\n\r\n"), (5, false));
    }
}
