//! Bytes on their way out: one growing buffer with a mark of what has been written.
//!
//! Upstream it doubles as the replay store: what was written stays until it is let go. Does not encode.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

/// Capacity above which an emptied buffer gives its memory back.
const KEEP: usize = 64 << 10;

/// Bytes queued, and how many of them have been written.
#[derive(Debug, Default)]
pub struct Out {
    bytes: Vec<u8>,
    sent: usize,
}

impl Out {
    /// The buffer to append to.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Bytes queued and not yet written.
    pub fn pending(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// All bytes held, written or not.
    pub fn all(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes queued and not yet written.
    pub fn unsent(&self) -> &[u8] {
        self.bytes.get(self.sent..).unwrap_or(&[])
    }

    /// Notes that so many of [`Out::unsent`] went out otherwise than by [`Out::poll_write`].
    pub fn note_sent(&mut self, count: usize) {
        self.sent = (self.sent + count).min(self.bytes.len());
    }

    /// Bytes written since the last [`Out::clear`] and still held.
    pub fn sent(&self) -> usize {
        self.sent
    }

    /// Bytes held, written or not.
    pub fn held(&self) -> usize {
        self.bytes.len()
    }

    /// Begins again from the first byte held. Called for a replay.
    pub fn rewind(&mut self) {
        self.sent = 0;
    }

    /// Lets go of what was written.
    pub fn release_sent(&mut self) {
        if self.sent == self.bytes.len() {
            self.bytes.clear();
        } else {
            self.bytes.drain(..self.sent);
        }
        self.sent = 0;
    }

    /// Forgets everything; keeps a moderate allocation.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.sent = 0;
        if self.bytes.capacity() > KEEP {
            self.bytes.shrink_to(KEEP);
        }
    }

    /// Gives back the memory in which nothing stands that is still to be written.
    pub fn slim(&mut self) {
        self.release_sent();
        self.bytes.shrink_to_fit();
    }

    /// Writes what is pending followed by `direct` in one call; returns how much of `direct` went out. Ready when at
    /// least one byte was written.
    pub fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        direct: &[u8],
    ) -> Poll<io::Result<Written>> {
        let pending = self.bytes.get(self.sent..).unwrap_or(&[]);
        let count = if direct.is_empty() {
            ready!(Pin::new(stream).poll_write(cx, pending))?
        } else if pending.is_empty() {
            ready!(Pin::new(stream).poll_write(cx, direct))?
        } else {
            let parts = [IoSlice::new(pending), IoSlice::new(direct)];
            ready!(Pin::new(stream).poll_write_vectored(cx, &parts))?
        };
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        let buffered = count.min(pending.len());
        self.sent += buffered;
        Poll::Ready(Ok(Written { total: count, direct: count - buffered }))
    }
}

/// How much one write took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// All bytes.
    pub total: usize,
    /// Of them from the direct slice.
    pub direct: usize,
}

/// Appends a number in decimal.
pub fn put_decimal(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends a chunk-size line.
pub fn put_chunk_size(out: &mut Vec<u8>, size: usize) {
    let mut started = false;
    for shift in (0..16).rev() {
        let digit = (size >> (shift * 4)) & 0xf;
        if digit != 0 || started || shift == 0 {
            started = true;
            out.push(b"0123456789abcdef".get(digit).copied().unwrap_or(b'0'));
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends `name: value CRLF`.
pub fn put_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunk_sizes_are_plain_hex() {
        for (size, text) in
            [(0, "0\r\n"), (9, "9\r\n"), (16, "10\r\n"), (255, "ff\r\n"), (1 << 20, "100000\r\n")]
        {
            let mut out = Vec::new();
            put_chunk_size(&mut out, size);
            assert_eq!(out, text.as_bytes());
        }
    }

    #[test]
    fn a_rewound_queue_gives_the_same_bytes_again() {
        let mut out = Out::default();
        out.buffer().extend_from_slice(b"head");
        let mut sink = Vec::new();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(out.poll_write(&mut cx, &mut sink, b"body").is_ready());
        assert_eq!((sink.as_slice(), out.pending(), out.sent()), (&b"headbody"[..], 0, 4));
        out.rewind();
        assert!(out.poll_write(&mut cx, &mut sink, b"").is_ready());
        assert_eq!(sink, b"headbodyhead");
    }
}
