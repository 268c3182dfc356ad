//! Read buffers and the per-worker store they come from: taken when bytes arrive, given back when drained.
//!
//! An idle connection holds no buffer. Does not parse.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// Size of the smallest buffer: what is received ahead of a client that takes nothing, of whose streams there may be hundreds.
pub const TINY: usize = 512;
/// Size of an ordinary buffer: a head or a small body in one read.
pub const SMALL: usize = 16 << 10;
/// Size of a buffer for large bodies; a read that fills a small one trades up. As much as a connection may hold of what its
/// client does not read: the allocator writes all of it to make it zero.
pub const LARGE: usize = 64 << 10;
/// Buffers of each size that a worker keeps when not in use.
const KEPT_TINY: usize = 512;
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

    /// Appends as much of `bytes` as there is space for; returns how much.
    pub fn put(&mut self, bytes: &[u8]) -> usize {
        if self.data.len() - self.end < bytes.len() {
            self.compact();
        }
        let count = bytes.len().min(self.data.len() - self.end);
        if let (Some(to), Some(from)) = (self.data.get_mut(self.end..self.end + count), bytes.get(..count)) {
            to.copy_from_slice(from);
        }
        self.end += count;
        count
    }

    fn compact(&mut self) {
        if self.start > 0 {
            self.data.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
    }

    /// One read into the free space. `Ready(Ok(0))` is end of stream; the caller has made sure there is space.
    pub fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<io::Result<usize>> {
        if self.is_full() {
            self.compact();
        }
        let end = self.data.len();
        self.poll_read_to(cx, stream, end)
    }

    /// The same for at most `most` bytes, at least one.
    pub fn poll_read_some<S: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        if self.is_full() {
            self.compact();
        }
        let end = self.data.len().min(self.end.saturating_add(most));
        self.poll_read_to(cx, stream, end)
    }

    #[inline]
    fn poll_read_to<S: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        end: usize,
    ) -> Poll<io::Result<usize>> {
        let Some(space) = self.data.get_mut(self.end..end) else {
            return Poll::Ready(Ok(0));
        };
        let mut target = ReadBuf::new(space);
        ready!(Pin::new(stream).poll_read(cx, &mut target))?;
        let count = target.filled().len();
        self.end += count;
        Poll::Ready(Ok(count))
    }
}

/// Spare things that are used again, and given up when nobody has needed them for a while.
#[derive(Debug)]
pub struct Spares<T> {
    kept: RefCell<Vec<T>>,
    least: Cell<usize>,
    most: usize,
}

impl<T> Spares<T> {
    /// None yet; at most `most` are kept.
    pub const fn new(most: usize) -> Self {
        Self { kept: RefCell::new(Vec::new()), least: Cell::new(0), most }
    }

    /// One of them.
    pub fn take(&self) -> Option<T> {
        let mut kept = self.kept.borrow_mut();
        let one = kept.pop();
        self.least.set(self.least.get().min(kept.len()));
        one
    }

    /// Keeps one more, or drops it when there are enough.
    pub fn give(&self, one: T) {
        let mut kept = self.kept.borrow_mut();
        if kept.len() < self.most {
            kept.push(one);
        }
    }

    /// Drops half of those that were never needed since the last call; returns how many. Called every second, so that
    /// memory comes back within seconds of a burst and steady traffic never allocates.
    pub fn trim(&self) -> usize {
        let mut kept = self.kept.borrow_mut();
        let unneeded = self.least.replace(kept.len());
        let dropped = unneeded.div_ceil(2).min(kept.len());
        let left = kept.len() - dropped;
        kept.truncate(left);
        self.least.set(left);
        dropped
    }
}

/// A worker's unused buffers.
#[derive(Debug)]
pub struct Buffers {
    tiny: Spares<Box<[u8]>>,
    small: Spares<Box<[u8]>>,
    large: Spares<Box<[u8]>>,
}

impl Default for Buffers {
    fn default() -> Self {
        Self { tiny: Spares::new(KEPT_TINY), small: Spares::new(KEPT_SMALL), large: Spares::new(KEPT_LARGE) }
    }
}

impl Buffers {
    /// Gives unneeded buffers up; returns how many bytes.
    pub fn trim(&self) -> usize {
        self.tiny.trim() * TINY + self.small.trim() * SMALL + self.large.trim() * LARGE
    }

    /// Storage of one of the three sizes.
    fn storage(&self, size: usize) -> Box<[u8]> {
        let spare = match size {
            TINY => self.tiny.take(),
            SMALL => self.small.take(),
            _ => self.large.take(),
        };
        spare.unwrap_or_else(|| vec![0; size].into_boxed_slice())
    }

    /// Trades the storage of a buffer for one of this size, keeping its bytes, which have room there.
    fn trade(&self, buffer: &mut Buffer, size: usize) {
        let mut data = self.storage(size);
        let length = buffer.len();
        if let Some(target) = data.get_mut(..length) {
            target.copy_from_slice(buffer.bytes());
        }
        let old = std::mem::replace(buffer, Buffer { data, start: 0, end: length });
        self.keep(old.data);
    }

    /// Gives storage to a buffer that has none.
    pub fn attach(&self, buffer: &mut Buffer) {
        if !buffer.is_attached() {
            buffer.data = self.small.take().unwrap_or_else(|| vec![0; SMALL].into_boxed_slice());
        }
    }

    /// Trades a small buffer for a large one, keeping its bytes.
    pub fn enlarge(&self, buffer: &mut Buffer) {
        if buffer.capacity() >= LARGE {
            return;
        }
        self.trade(buffer, LARGE);
    }

    /// Makes storage of `most` bytes of a buffer whose next read is to bring no more than that; it may have more.
    pub fn prepare(&self, buffer: &mut Buffer, most: usize) {
        let size = match most {
            0..=TINY => TINY,
            _ if most <= SMALL => SMALL,
            _ => LARGE,
        };
        if buffer.capacity() < size {
            self.trade(buffer, size);
        }
    }

    /// Takes storage back that a buffer does not need while nothing comes: all of it from an empty one, and a larger one where
    /// the smallest would do.
    pub fn rest(&self, buffer: &mut Buffer) {
        if buffer.is_empty() {
            self.detach(buffer);
        } else if buffer.capacity() > TINY && buffer.len() <= TINY {
            self.trade(buffer, TINY);
        }
    }

    /// Makes sure a read has space; false when the buffer is at its largest and full.
    pub fn make_room(&self, buffer: &mut Buffer) -> bool {
        self.attach(buffer);
        if buffer.is_full() {
            buffer.compact();
            if buffer.is_full() {
                let size = if buffer.capacity() < SMALL { SMALL } else { LARGE };
                self.prepare(buffer, size);
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
        match data.len() {
            TINY => self.tiny.give(data),
            SMALL => self.small.give(data),
            LARGE => self.large.give(data),
            _ => {}
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
        assert_eq!((buffers.small.kept.borrow().len(), buffers.large.kept.borrow().len()), (1, 1));
    }

    #[test]
    fn a_buffer_that_rests_holds_no_more_than_it_needs() {
        let buffers = Buffers::default();
        let mut buffer = Buffer::default();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let bytes: Vec<u8> = (0..=255).cycle().take(LARGE).collect();
        let mut source: &[u8] = &bytes;
        buffers.prepare(&mut buffer, LARGE);
        assert!(matches!(buffer.poll_read_some(&mut cx, &mut source, TINY + 9), Poll::Ready(Ok(521))));
        buffers.rest(&mut buffer);
        assert_eq!(buffer.capacity(), LARGE, "it does not fit into less");
        buffer.consume(9);
        buffers.rest(&mut buffer);
        assert_eq!((buffer.capacity(), buffer.bytes()), (TINY, &bytes[9..TINY + 9]));
        assert!(buffers.make_room(&mut buffer));
        assert_eq!(buffer.capacity(), SMALL, "what fills the smallest needs no large one yet");
        buffer.consume(TINY);
        buffers.rest(&mut buffer);
        assert!(!buffer.is_attached());
        let kept = [&buffers.tiny, &buffers.small, &buffers.large].map(|spares| spares.kept.borrow().len());
        assert_eq!(kept, [1, 1, 1]);
    }

    #[test]
    fn spares_that_nobody_needs_are_given_up_and_needed_ones_stay() {
        let spares = Spares::new(100);
        for number in 0..64 {
            spares.give(number);
        }
        spares.trim();
        for _ in 0..20 {
            // Ten are in use at a time.
            let used: Vec<_> = (0..10).map(|_| spares.take().unwrap()).collect();
            used.into_iter().for_each(|one| spares.give(one));
            spares.trim();
        }
        assert_eq!(spares.kept.borrow().len(), 10);
    }
}
