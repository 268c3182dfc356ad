//! What an ambassador says of the endpoint beside it: requests in hand, and how long the next may take.
//!
//! An endpoint is taken to be as quick as it is alone until it has more in hand than it works on at once, and from there on to answer
//! one after another: both are kept over some time. How it does at this moment, beside a busy neighbour or with a cold cache, is
//! the number of answers that were due of late against those that came. Does not send: the field is written and read by the router.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::EndpointCell;
use super::estimate::{kept, since, tick, ticks};

/// Time after which a sample of what an endpoint is like counts for a third.
const MEMORY: Duration = Duration::from_secs(20);
/// The same for how it does at this moment.
const PACE_MEMORY: Duration = Duration::from_millis(700);
/// Answers that are added to those that were due and to those that came: so few are chance.
const CHANCE: f32 = 8.0;
/// Older samples say nothing of now.
const OLD: Duration = Duration::from_secs(60);
/// Most that one sample counts for, as a part: 1 of so many. Few samples are chance, however old the one before.
const SAMPLES: u32 = 32;

/// How busy an endpoint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Requests it has in hand.
    pub requests: u32,
    /// How long one that comes now may wait for the beginning of its answer, in microseconds; 0 while nothing is known.
    pub latency_us: u32,
}

impl Load {
    /// Reads the text of a field, `requests=3, latency_us=1500`; what is not known is passed over, what is no number makes it none.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let mut load = Self::default();
        let mut is_known = false;
        for member in text.split(|byte| *byte == b',').take(8) {
            let (name, value) = std::str::from_utf8(member).ok()?.trim().split_once('=')?;
            let number = || value.parse::<u32>().ok();
            match name {
                "requests" => (load.requests, is_known) = (number()?, true),
                "latency_us" => load.latency_us = number()?,
                _ => {}
            }
        }
        is_known.then_some(load)
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "requests={}, latency_us={}", self.requests, self.latency_us)
    }
}

/// An average in which a sample counts by the time since the last one, the first ones evenly, and none for more than an eighth. In
/// one word, zero while there is none: its moment, and its value with the number of samples, up to [`SAMPLES`], in the low byte.
#[derive(Debug, Default)]
struct Steady(AtomicU64);

#[derive(Debug, Clone, Copy)]
struct Known {
    tick: u32,
    value: f32,
    samples: u32,
}

impl Steady {
    fn read(&self) -> Option<Known> {
        let word = self.0.load(Relaxed);
        let low = word as u32;
        let known =
            Known { tick: (word >> 32) as u32, value: f32::from_bits(low & !0xFF), samples: low & 0xFF };
        (word != 0).then_some(known)
    }

    /// What is not older than that.
    fn fresh(&self, now_us: u64, old: Duration) -> Option<f32> {
        let known = self.read()?;
        (since(tick(now_us), known.tick) as f32 <= ticks(old)).then_some(known.value)
    }

    fn note(&self, sample: f32, now_us: u64, memory: Duration) {
        let now = tick(now_us);
        let last = self.read().unwrap_or(Known { tick: now, value: sample, samples: 0 });
        let age = since(now, last.tick);
        let even = 1.0 / (last.samples + 1) as f32;
        let by_time = 1.0 - kept(age.max(1), ticks(memory));
        let part = if last.samples < SAMPLES { even } else { by_time.min(1.0 / SAMPLES as f32) };
        let value = last.value + (sample - last.value) * part;
        let samples = (last.samples + 1).min(SAMPLES);
        let word = u64::from(last.tick.wrapping_add(age)) << 32;
        self.0.store(word | u64::from(value.to_bits() & !0xFF) | u64::from(samples), Relaxed);
    }
}

/// What is known of an endpoint's pace.
#[derive(Debug, Default)]
pub struct LoadBook {
    /// Latency of a request that came when no other was in hand.
    alone: Steady,
    /// Time from one answer to the next, while there was more than one request in hand.
    each: Steady,
    /// Answers that were due of late, and answers that came, as floats that fade.
    due_and_came: AtomicU64,
    /// When the last one came, microseconds.
    last_us: AtomicU64,
}

impl LoadBook {
    /// Counts one answer: others that were in hand when its request came, how long it took, and how many requests were in hand when it
    /// ended, itself included. Workers that count at the same moment lose a sample.
    pub fn note(&self, others: u32, us: u64, in_hand: u32, now_us: u64) {
        let last_us = self.last_us.swap(now_us, Relaxed);
        let began_us = last_us.max(now_us.saturating_sub(us));
        let each = now_us.saturating_sub(began_us) as f32;
        if let Some(usual) = self.usual(in_hand.saturating_sub(1), now_us) {
            let (due, came) = self.faded(last_us, now_us);
            let (due, came) = (due + each * in_hand.max(1) as f32 / usual, came + 1.0);
            self.due_and_came.store(u64::from(due.to_bits()) << 32 | u64::from(came.to_bits()), Relaxed);
        }
        if in_hand > 1 {
            self.each.note(each.clamp(1.0, 1e10), now_us, MEMORY);
        }
        if others == 0 {
            self.alone.note((us as f32).clamp(1.0, 1e10), now_us, MEMORY);
        }
    }

    /// How long one may take that comes while there are so many; 0 while nothing is known.
    pub fn expected_us(&self, others: u32, now_us: u64) -> u32 {
        let (due, came) = self.faded(self.last_us.load(Relaxed), now_us);
        let pace = (due + CHANCE) / (came + CHANCE);
        self.usual(others, now_us).map_or(0, |us| (us * pace).max(1.0) as u32)
    }

    /// How long one usually takes that comes while there are so many.
    fn usual(&self, others: u32, now_us: u64) -> Option<f32> {
        let count = others as f32 + 1.0;
        match (self.alone.fresh(now_us, OLD), self.each.fresh(now_us, OLD)) {
            (Some(alone), Some(each)) => Some(alone.max(each * count)),
            // Until more is known: one after another.
            (Some(one), None) | (None, Some(one)) => Some(one * count),
            (None, None) => None,
        }
    }

    /// Answers that were due of late, and answers that came.
    fn faded(&self, last_us: u64, now_us: u64) -> (f32, f32) {
        let word = self.due_and_came.load(Relaxed);
        let keep = kept(since(tick(now_us), tick(last_us)), ticks(PACE_MEMORY));
        (f32::from_bits((word >> 32) as u32) * keep, f32::from_bits(word as u32) * keep)
    }
}

impl EndpointCell {
    /// Keeps latency by requests in hand from now on, where that is to be reported. Called when a table is compiled. Once
    /// kept, it is kept on: nothing is written where no report is made.
    pub fn set_reported(&self, on: bool) {
        if on {
            self.extra().load.get_or_init(Box::default);
        }
    }

    /// Counts one answer whose request came with so many others in hand. To be called while its own is.
    pub fn note_load(&self, others: u32, us: u64, now_us: u64) {
        if let Some(book) = self.book() {
            book.note(others, us, self.in_flight(), now_us);
        }
    }

    fn book(&self) -> Option<&LoadBook> {
        self.extra_seen().and_then(|extra| extra.load.get())
    }

    /// What is said of it to routers in front, beside so many requests that do not count.
    pub fn load(&self, beside: u32, now_us: u64) -> Load {
        let requests = self.in_flight().saturating_sub(beside);
        let latency_us = self.book().map_or(0, |book| book.expected_us(requests, now_us));
        Load { requests, latency_us }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::cell;
    use super::*;
    use crate::health::Health;

    const S: u64 = 1_000_000;

    /// So many answers of this time, one after the other, from this moment on; gives the moment of the last.
    fn serve(book: &LoadBook, count: u64, us: u64, from_us: u64) -> u64 {
        (1..=count).for_each(|turn| book.note(0, us, 1, from_us + turn * us));
        from_us + count * us
    }

    #[test]
    fn what_is_days_old_says_nothing() {
        for hours in [1, 39, 77, 115] {
            let book = LoadBook::default();
            book.note(0, 90_000, 1, S);
            assert_eq!(book.expected_us(0, S + hours * 3_600 * S), 0, "{hours} h");
        }
    }

    #[test]
    fn fields_are_read_and_written() {
        let load = Load { requests: 3, latency_us: 1_500 };
        assert_eq!(load.to_string(), "requests=3, latency_us=1500");
        assert_eq!(Load::parse(load.to_string().as_bytes()), Some(load));
        assert_eq!(Load::parse(b" requests=7,  new=x "), Some(Load { requests: 7, latency_us: 0 }));
        for text in [
            "",
            "requests",
            "requests=",
            "requests=-1",
            "requests=x",
            "latency_us=5",
            "requests=1,latency_us=1e3",
            "\u{e9}",
        ] {
            assert_eq!(Load::parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(Load::parse(b"requests=99999999999"), None);
        assert_eq!(Load::parse(&[0xff, b'=']), None);
    }

    fn near(found: u32, expected: u32) {
        assert!(found.abs_diff(expected) < expected / 10, "{found} for {expected}");
    }

    #[test]
    fn what_serves_one_after_another_takes_longer_with_more_in_hand() {
        let book = LoadBook::default();
        assert_eq!(book.expected_us(3, S), 0);
        // Four in hand at all times, 10 ms each.
        (1..=400u64).for_each(|turn| book.note(3, 40_000, 4, S + turn * 10_000));
        let now = 5 * S;
        near(book.expected_us(0, now), 10_000);
        near(book.expected_us(3, now), 40_000);
        near(book.expected_us(9, now), 100_000);
    }

    #[test]
    fn what_serves_many_at_once_takes_no_longer() {
        let book = LoadBook::default();
        // Alone: 10 ms. Then four at once, each 10 ms, an answer every 2.5 ms.
        let now = serve(&book, 100, 10_000, S);
        (1..=4_000u64).for_each(|turn| book.note(3, 10_000, 4, now + turn * 2_500));
        let now = now + 10 * S;
        near(book.expected_us(0, now), 10_000);
        near(book.expected_us(1, now), 10_000);
    }

    /// A neighbour that halves the speed is known within a second, and forgotten when it says nothing of now.
    #[test]
    fn the_pace_of_the_moment_counts() {
        let book = LoadBook::default();
        let now = serve(&book, 1_000, 10_000, S);
        near(book.expected_us(0, now), 10_000);
        let now = serve(&book, 50, 20_000, now);
        let slow = book.expected_us(0, now);
        assert!((15_000..21_000).contains(&slow), "{slow}");
        let later = book.expected_us(0, now + 10 * S);
        assert!(later < 12_000, "{later}");
        // What was idle for a while was not slow.
        let now = serve(&book, 1_000, 10_000, now + 30 * S);
        near(book.expected_us(0, now), 10_000);
    }

    #[test]
    fn one_lucky_answer_makes_no_quick_endpoint() {
        let book = LoadBook::default();
        let now = serve(&book, 64, 80_000, S) + 8 * S;
        book.note(0, 1_000, 1, now);
        let after = book.expected_us(0, now);
        assert!(after > 60_000, "{after}");
    }

    #[test]
    fn a_cell_tells_of_the_others() {
        let cell = cell(Health::Ready);
        assert_eq!(cell.load(0, S), Load::default());
        cell.set_reported(true);
        (0..3).for_each(|_| cell.enter());
        cell.note_load(2, 5_000, S);
        assert_eq!((cell.load(1, S).requests, cell.load(0, S).requests), (2, 3));
        assert!(cell.load(1, S).latency_us > 0);
    }
}
