//! Whether an event loop is behind: the least delay of its ticks within a window, against a limit.
//!
//! The least and not the mean, as RFC 8289 does for queues: a burst delays some ticks, an overload delays all of them. Pure: the
//! delays are arguments.

use super::level::Level;

/// What is looked at together, in microseconds.
const WINDOW_US: u64 = 100_000;
/// Multiples of the limit at which levels begin.
const BEGINS: [u64; 4] = [1, 2, 4, 8];

/// The delay of one event loop.
#[derive(Debug, Default)]
pub struct Lag {
    over_us: u64,
    least_us: Option<u64>,
    level: Level,
}

impl Lag {
    /// Takes the delay of one tick and gives the level. It changes when a window is over.
    pub fn tick(&mut self, now_us: u64, delay_us: u64, limit_us: u64) -> Level {
        self.least_us = Some(self.least_us.map_or(delay_us, |least| least.min(delay_us)));
        if now_us >= self.over_us {
            // The first tick only begins a window.
            let least_us = if self.over_us == 0 { 0 } else { self.least_us.unwrap_or(0) };
            let begun = BEGINS.iter().filter(|times| least_us >= limit_us.saturating_mul(**times));
            self.level = Level::new(u8::try_from(begun.count()).unwrap_or(u8::MAX));
            self.over_us = now_us.saturating_add(WINDOW_US);
            self.least_us = None;
        }
        self.level
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs ticks of these delays, in milliseconds, and gives the level after the last.
    fn level(delays: &[u64]) -> u8 {
        let (mut lag, mut now_us, mut level) = (Lag::default(), 1, Level::NONE);
        for delay_ms in delays {
            now_us += 10_000 + delay_ms * 1_000;
            level = lag.tick(now_us, delay_ms * 1_000, 20_000);
        }
        level.number()
    }

    #[test]
    fn only_a_delay_that_lasts_counts() {
        for (delays, want) in [
            (&[0; 50][..], 0),
            (&[0, 0, 500, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 0),
            (&[500, 0, 500, 0, 500, 0, 500, 0], 0),
            (&[19; 50], 0),
            (&[20; 50], 1),
            (&[45; 50], 2),
            (&[80; 50], 3),
            (&[500; 50], 4),
            (&[500, 500, 500, 500, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 0),
        ] {
            assert_eq!(level(delays), want, "{delays:?}");
        }
    }

    #[test]
    fn without_a_limit_passed_once_nothing_is_said_by_the_first_tick() {
        assert_eq!(Lag::default().tick(5_000_000, 4_000_000, 1), Level::NONE);
    }
}
