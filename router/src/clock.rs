//! Wall-clock time from monotonic instants: one pair of readings, corrected once a second.
//!
//! Saves the second clock reading per request that a time of day would cost. Does not wait.

use std::cell::Cell;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A worker's idea of the time of day.
#[derive(Debug)]
pub struct Clock {
    pair: Cell<(Instant, u64)>,
    turn: Cell<Instant>,
}

fn system_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_micros()).unwrap_or(u64::MAX))
}

impl Default for Clock {
    fn default() -> Self {
        let now = Instant::now();
        Self { pair: Cell::new((now, system_us())), turn: Cell::new(now) }
    }
}

impl Clock {
    /// Reads both clocks again. Called once a second, so that steps of the wall clock are followed.
    pub fn correct(&self) {
        self.pair.set((Instant::now(), system_us()));
    }

    /// Reads the monotonic clock, and keeps the reading for the rest of this turn.
    pub fn read(&self) -> Instant {
        let now = Instant::now();
        self.turn.set(now);
        now
    }

    /// The reading of this turn: the last [`Clock::read`]. Each poll of a task reads once, when it has been woken; what it
    /// does before it waits again takes microseconds, and a reading costs as much as parsing a field.
    pub fn turn(&self) -> Instant {
        self.turn.get()
    }

    /// Microseconds since the Unix epoch at an instant.
    pub fn unix_us(&self, at: Instant) -> u64 {
        let (base, base_us) = self.pair.get();
        match at.checked_duration_since(base) {
            Some(after) => base_us.saturating_add(u64::try_from(after.as_micros()).unwrap_or(u64::MAX)),
            None => base_us.saturating_sub(u64::try_from(base.duration_since(at).as_micros()).unwrap_or(u64::MAX)),
        }
    }

    /// Microseconds since the Unix epoch in this turn.
    pub fn unix_us_now(&self) -> u64 {
        self.unix_us(self.turn())
    }
}

/// Appends a `Date` field line (RFC 9110 section 5.6.7) for seconds since the Unix epoch.
pub fn put_http_date(out: &mut Vec<u8>, unix_seconds: u64) {
    let time = UNIX_EPOCH + std::time::Duration::from_secs(unix_seconds);
    out.extend_from_slice(b"Date: ");
    out.extend_from_slice(httpdate::fmt_http_date(time).as_bytes());
    out.extend_from_slice(b"\r\n");
}
