//! Which endpoints say nothing of their load, although they have answered since: `prequal` knows them by what the router itself
//! sees, and gives them their part.
//!
//! One word for each endpoint, written once a second at most. Does not choose, and does not ask.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// What was said longer ago than so many seconds is of another time.
const PATIENCE_S: u32 = 3;
/// The word of an endpoint that is silent. Others: when it was heard last in seconds, 0 for never.
const SILENT: u32 = u32::MAX;

/// What is known of the endpoints of a table.
#[derive(Debug)]
pub struct Silence {
    words: Box<[AtomicU32]>,
    /// How many are silent.
    count: AtomicU32,
}

fn seconds(now_us: u64) -> u32 {
    // 1 at least, and never the word of the silent.
    (now_us / 1_000_000) as u32 % (SILENT - 1) + 1
}

impl Silence {
    /// Nothing is known yet of so many endpoints.
    pub(crate) fn new(endpoints: usize) -> Self {
        Self { words: (0..endpoints).map(|_| AtomicU32::new(0)).collect(), count: AtomicU32::new(0) }
    }

    /// An endpoint has said how busy it is.
    #[inline]
    pub(crate) fn heard(&self, index: u32, now_us: u64) {
        let Some(word) = self.words.get(index as usize) else { return };
        let now = seconds(now_us);
        if word.load(Relaxed) != now && word.swap(now, Relaxed) == SILENT {
            self.count.fetch_sub(1, Relaxed);
        }
    }

    /// An endpoint has answered a request or was asked, and said nothing: it is silent, unless it has spoken of late.
    pub(crate) fn missed(&self, index: u32, now_us: u64) {
        let Some(word) = self.words.get(index as usize) else { return };
        let last = word.load(Relaxed);
        let is_late = last == 0 || seconds(now_us).wrapping_sub(last) > PATIENCE_S;
        if last != SILENT && is_late && word.compare_exchange(last, SILENT, Relaxed, Relaxed).is_ok() {
            self.count.fetch_add(1, Relaxed);
        }
    }

    /// Whether some endpoint is silent.
    #[inline]
    pub(super) fn is_any(&self) -> bool {
        self.count.load(Relaxed) > 0
    }

    /// Whether this one is.
    #[inline]
    pub(super) fn is_silent(&self, index: u32) -> bool {
        self.words.get(index as usize).is_some_and(|word| word.load(Relaxed) == SILENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000;

    #[test]
    fn who_has_spoken_of_late_is_not_silent_for_one_answer() {
        let silence = Silence::new(2);
        silence.heard(0, 10 * S);
        silence.missed(0, 12 * S);
        assert!(!silence.is_any());
        silence.missed(0, 14 * S);
        silence.missed(0, 15 * S);
        assert!(silence.is_any() && silence.is_silent(0) && !silence.is_silent(1));
        silence.missed(1, 0);
        assert!(silence.is_silent(1), "it has never spoken");
        silence.heard(0, 16 * S);
        silence.heard(1, 16 * S);
        assert!(!silence.is_any() && !silence.is_silent(0));
        silence.heard(7, S);
        silence.missed(7, S);
        assert!(!silence.is_any(), "there is none of that number");
    }
}
