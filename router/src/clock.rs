//! A worker's time: moments counted from its start, and the time of day they stand for, corrected once a second.
//!
//! One reading of one clock serves everything that a poll does. All workers count from the same moment. Does not wait.

use std::cell::Cell;
use std::io::Write;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A moment of a worker's life: microseconds since the clock began. Arithmetic on it is one instruction, where
/// `Instant` takes dozens, and a request does it ten times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Moment(u64);

impl Moment {
    /// Milliseconds since the clock began: the wheel's unit.
    pub fn ms(self) -> u64 {
        self.0 / 1_000
    }

    /// Microseconds since the clock began, the same for all workers.
    pub fn us(self) -> u64 {
        self.0
    }

    /// Microseconds from an earlier moment to this one; 0 when it is not earlier.
    pub fn us_since(self, earlier: Moment) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A worker's clock: moments, and the time of day they stand for.
#[derive(Debug)]
pub struct Clock {
    epoch: Instant,
    /// Time of day of the epoch, microseconds since 1970.
    epoch_unix_us: Cell<u64>,
    turn: Cell<Moment>,
    turn_ns: Cell<u64>,
    /// The last date that was written, and the second since 1970 that it stands for.
    date: Cell<(u64, [u8; DATE_LENGTH])>,
}

/// Bytes of an IMF-fixdate.
const DATE_LENGTH: usize = 29;

fn unix_us() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_micros()).unwrap_or(u64::MAX))
}

impl Clock {
    /// A clock that counts from a moment which all workers share, so that what they write down compares.
    pub fn since(epoch: Instant) -> Self {
        let clock = Self {
            epoch,
            epoch_unix_us: Cell::default(),
            turn: Cell::default(),
            turn_ns: Cell::default(),
            date: Cell::new((u64::MAX, [b' '; DATE_LENGTH])),
        };
        clock.correct();
        clock
    }

    /// Reads the time of day again. Called once a second, so that steps of the wall clock are followed.
    pub fn correct(&self) {
        self.epoch_unix_us.set(unix_us().saturating_sub(self.read().0));
    }

    /// Reads the monotonic clock, and keeps the reading for the rest of this turn.
    pub fn read(&self) -> Moment {
        let since = self.elapsed();
        let now = Moment(since.as_secs() * 1_000_000 + u64::from(since.subsec_micros()));
        self.turn.set(now);
        self.turn_ns.set(since.as_secs() * 1_000_000_000 + u64::from(since.subsec_nanos()));
        now
    }

    #[cfg(not(test))]
    fn elapsed(&self) -> Duration {
        self.epoch.elapsed()
    }

    #[cfg(test)]
    fn elapsed(&self) -> Duration {
        crate::simulation::ledger::now().unwrap_or_else(|| self.epoch.elapsed())
    }

    /// The reading of this turn: the last [`Clock::read`]. Each poll of a task reads once, when it has been woken; what it
    /// does before it waits again takes microseconds, and a reading costs as much as parsing a field.
    pub fn turn(&self) -> Moment {
        self.turn.get()
    }

    /// The reading of this turn in nanoseconds, for rates.
    pub fn turn_ns(&self) -> u64 {
        self.turn_ns.get()
    }

    /// Microseconds since the Unix epoch at a moment.
    pub fn unix_us(&self, at: Moment) -> u64 {
        self.epoch_unix_us.get().saturating_add(at.0)
    }

    /// Microseconds since the Unix epoch in this turn.
    pub fn unix_us_now(&self) -> u64 {
        self.unix_us(self.turn())
    }

    /// The value of a `Date` field (RFC 9110 section 5.6.7) for this turn. Written once a second, without an allocation.
    pub fn http_date(&self) -> [u8; DATE_LENGTH] {
        let second = self.unix_us_now() / 1_000_000;
        let (written, text) = self.date.get();
        if written == second {
            return text;
        }
        let mut fresh = [b' '; DATE_LENGTH];
        let date = httpdate::HttpDate::from(UNIX_EPOCH + Duration::from_secs(second));
        // Every year that this clock can show has four digits, so that the text fits.
        let _ = write!(fresh.as_mut_slice(), "{date}");
        self.date.set((second, fresh));
        fresh
    }
}
