//! What an ambassador says of the endpoint beside it: requests in hand, and how long the next may take.
//!
//! Latency is kept by the requests that were there when one came, because that is what the next one meets. Does not send: the
//! field is written and read by the router.

use std::fmt;
use std::time::Duration;

use super::EndpointCell;
use super::estimate::Average;

/// Time after which a sample counts for a third. Short: an ambassador sees every request of its endpoint.
const MEMORY: Duration = Duration::from_secs(2);
/// Older samples say nothing of now.
const OLD: Duration = Duration::from_secs(10);
/// By requests in hand: 0, 1, 2, 3, 4, then doubling from 5 on.
const STEPS: usize = 12;

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

/// Latency by the requests in hand.
#[derive(Debug, Default)]
pub struct LoadBook {
    steps: [Average; STEPS],
}

fn step(others: u32) -> usize {
    match others {
        0..=4 => others as usize,
        _ => (others.saturating_sub(1).ilog2() as usize + 3).min(STEPS - 1),
    }
}

/// Fewest requests of a step.
fn first(step: usize) -> u32 {
    match step {
        0..=4 => step as u32,
        _ => (1 << (step - 3)) + 1,
    }
}

impl LoadBook {
    /// Counts one answer that took so long and began with so many others in hand.
    pub fn note(&self, others: u32, us: u64, now_us: u64) {
        if let Some(average) = self.steps.get(step(others)) {
            average.note(us, now_us, MEMORY, MEMORY);
        }
    }

    /// How long one may take that comes while there are so many; 0 while nothing is known. What was seen with fewer in hand
    /// is scaled, as if they were served one after another; what was seen with more is taken as it is.
    pub fn expected_us(&self, others: u32, now_us: u64) -> u32 {
        let at = step(others);
        let fresh = |place: usize| {
            let seen = self.steps.get(place)?.read()?;
            (seen.age(now_us) < OLD).then(|| (place, seen.value()))
        };
        let below = (0..=at).rev().find_map(fresh);
        let seen = below.or_else(|| (at + 1..STEPS).find_map(fresh));
        seen.map_or(0, |(place, us)| {
            let scale = (f64::from(others) + 1.0) / (f64::from(first(place)) + 1.0);
            let scale = if place < at { scale } else { 1.0 };
            (f64::from(us) * scale) as u32
        })
    }
}

impl EndpointCell {
    /// Keeps latency by requests in hand from now on, where that is to be reported. Called when a table is compiled. Once
    /// kept, it is kept on: nothing is written where no report is made.
    pub fn set_reported(&self, on: bool) {
        if on {
            self.load.get_or_init(Box::default);
        }
    }

    /// Counts one answer that began with so many others in hand.
    pub fn note_load(&self, others: u32, us: u64, now_us: u64) {
        if let Some(book) = self.load.get() {
            book.note(others, us, now_us);
        }
    }

    /// What is said of it to routers in front, beside one request that is being answered.
    pub fn load(&self, now_us: u64) -> Load {
        let requests = self.in_flight().saturating_sub(1);
        let latency_us = self.load.get().map_or(0, |book| book.expected_us(requests, now_us));
        Load { requests, latency_us }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::cell;
    use super::*;
    use crate::health::Health;

    const S: u64 = 1_000_000;

    #[test]
    fn what_is_days_old_says_nothing() {
        for hours in [39, 77, 115] {
            let book = LoadBook::default();
            book.note(0, 90_000, S);
            assert_eq!(book.expected_us(0, S + hours * 3_600 * S), 0, "{hours} h");
        }
    }

    #[test]
    fn steps_are_dense() {
        let mut before = 0;
        for others in 0..10_000 {
            let at = step(others);
            assert!(at == before || at == before + 1, "{others}");
            assert!(first(at) <= others, "{others} in {at}");
            before = at;
        }
        assert_eq!(step(u32::MAX), STEPS - 1);
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

    #[test]
    fn latency_is_kept_by_what_was_in_hand() {
        let book = LoadBook::default();
        assert_eq!(book.expected_us(3, S), 0);
        book.note(0, 10_000, S);
        assert_eq!((book.expected_us(0, S), book.expected_us(3, S)), (10_000, 40_000));
        book.note(3, 15_000, S);
        assert_eq!((book.expected_us(0, S), book.expected_us(3, S)), (10_000, 15_000));
        assert_eq!(book.expected_us(0, 5 * S), 10_000);
        assert_eq!(book.expected_us(0, 20 * S), 0, "what is old says nothing");
        book.note(9, 90_000, 20 * S);
        assert_eq!(book.expected_us(0, 20 * S), 90_000, "no less is known");
    }

    #[test]
    fn a_cell_tells_of_the_others() {
        let cell = cell(Health::Ready);
        assert_eq!(cell.load(S), Load::default());
        cell.set_reported(true);
        (0..3).for_each(|_| cell.enter());
        cell.note_load(2, 5_000, S);
        assert_eq!(cell.load(S), Load { requests: 2, latency_us: 5_000 });
    }
}
