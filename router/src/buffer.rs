//! Read buffers and the per-worker store they come from: taken when bytes arrive, given back when drained.
//!
//! An idle connection holds no buffer. Does not parse.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// Size of an ordinary buffer: a head or a small body in one read.
pub const SMALL: usize = 16 << 10;
/// Size of a buffer for large bodies; a read that fills a small one trades up.
pub const LARGE: usize = 128 << 10;
/// Buffers of each size that a worker keeps when not in use.
const KEPT_SMALL: usize = 512;
const KEPT_LARGE: usize = 64;

/// Bytes received and not yet taken: `data[start..end]`.
#[derive(Debug, Default)]
pub struct Buffer {
    data: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// Bytes received and not yet taken.
    pub fn bytes(&self) -> &[u8] {
        self.data.get(self.start..self.end).unwrap_or(&[])
    }

    /// Number of such bytes.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Takes bytes from the front.
    pub fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Whether a read has room without moving or growing.
    pub fn is_full(&self) -> bool {
        self.end == self.data.len()
    }

    /// Size of the storage.
    pub fn capacity(&self) -> usize {
        self.data.len()
    }

    /// Whether there is storage at all.
    pub fn is_attached(&self) -> bool {
        !self.data.is_empty()
    }

    fn compact(&mut self) {
        if self.start > 0 {
            self.data.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
    }

    /// One read into the free space. `Ready(Ok(0))` is end of stream; the caller has made sure there is space.
    pub fn poll_read<S: AsyncRead + Unpin>(&mut self, cx: &mut Context<'_>, stream: &mut S) -> Poll<io::Result<usize>> {
        if self.is_full() {
            self.compact();
        }
        let Some(space) = self.data.get_mut(self.end..) else {
            return Poll::Ready(Ok(0));
        };
        let mut target = ReadBuf::new(space);
        ready!(Pin::new(stream).poll_read(cx, &mut target))?;
        let count = target.filled().len();
        self.end += count;
        Poll::Ready(Ok(count))
    }
}

/// A worker's unused buffers.
#[derive(Debug, Default)]
pub struct Buffers {
    small: RefCell<Vec<Box<[u8]>>>,
    large: RefCell<Vec<Box<[u8]>>>,
}

impl Buffers {
    /// Gives storage to a buffer that has none.
    pub fn attach(&self, buffer: &mut Buffer) {
        if !buffer.is_attached() {
            buffer.data = self.small.borrow_mut().pop().unwrap_or_else(|| vec![0; SMALL].into_boxed_slice());
        }
    }

    /// Trades a small buffer for a large one, keeping its bytes.
    pub fn enlarge(&self, buffer: &mut Buffer) {
        if buffer.capacity() >= LARGE {
            return;
        }
        let mut data = self.large.borrow_mut().pop().unwrap_or_else(|| vec![0; LARGE].into_boxed_slice());
        let length = buffer.len();
        if let Some(target) = data.get_mut(..length) {
            target.copy_from_slice(buffer.bytes());
        }
        let old = std::mem::replace(buffer, Buffer { data, start: 0, end: length });
        self.keep(old.data);
    }

    /// Makes sure a read has space; false when the buffer is at its largest and full.
    pub fn make_room(&self, buffer: &mut Buffer) -> bool {
        self.attach(buffer);
        if buffer.is_full() {
            buffer.compact();
            if buffer.is_full() {
                self.enlarge(buffer);
            }
        }
        !buffer.is_full()
    }

    /// Takes the storage of an empty buffer back; a buffer with bytes keeps it.
    pub fn detach(&self, buffer: &mut Buffer) {
        if buffer.is_empty() && buffer.is_attached() {
            self.keep(std::mem::take(buffer).data);
        }
    }

    /// Takes the storage back whatever it holds.
    pub fn discard(&self, buffer: &mut Buffer) {
        self.keep(std::mem::take(buffer).data);
    }

    fn keep(&self, data: Box<[u8]>) {
        let (store, bound) = match data.len() {
            SMALL => (&self.small, KEPT_SMALL),
            LARGE => (&self.large, KEPT_LARGE),
            _ => return,
        };
        let mut store = store.borrow_mut();
        if store.len() < bound {
            store.push(data);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_growth_and_storage_is_reused() {
        let buffers = Buffers::default();
        let mut buffer = Buffer::default();
        assert!(buffers.make_room(&mut buffer));
        let waker = std::task::Waker::noop();
        let mut cx = Context::from_waker(waker);
        let mut source: &[u8] = &[7; SMALL + 5];
        assert!(matches!(buffer.poll_read(&mut cx, &mut source), Poll::Ready(Ok(SMALL))));
        buffer.consume(1);
        assert!(buffers.make_room(&mut buffer), "compaction made one byte of room");
        assert!(matches!(buffer.poll_read(&mut cx, &mut source), Poll::Ready(Ok(1))));
        assert!(buffers.make_room(&mut buffer));
        assert_eq!((buffer.capacity(), buffer.len()), (LARGE, SMALL));
        buffer.consume(SMALL);
        buffers.detach(&mut buffer);
        assert!(!buffer.is_attached());
        assert_eq!((buffers.small.borrow().len(), buffers.large.borrow().len()), (1, 1));
    }
}
