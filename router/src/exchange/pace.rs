//! How long a client may keep the router waiting: each byte buys time, never more than the idle timeout.
//!
//! A client that is silent for the idle timeout is cut, and so is one that drips: its bytes buy less time than it takes.
//! Only time spent waiting for the client counts. Does not read a clock or arm a deadline.

/// The time a client has left, in milliseconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pace {
    /// None until the first wait: the whole idle timeout.
    left_ms: Option<u64>,
    bytes: u64,
    since_ms: Option<u64>,
}

impl Pace {
    /// The router waits for the client, which has moved `bytes` in all. Gives the time at which it is too slow for
    /// `rate` bytes per second. Called at every turn of the wait.
    pub fn wait(&mut self, now_ms: u64, bytes: u64, rate: u32, idle_ms: u64) -> u64 {
        self.rest(now_ms);
        let gained_ms = bytes.saturating_sub(self.bytes).saturating_mul(1_000) / u64::from(rate.max(1));
        let left_ms = self.left_ms.unwrap_or(idle_ms).saturating_add(gained_ms).min(idle_ms);
        *self = Self { left_ms: Some(left_ms), bytes, since_ms: Some(now_ms) };
        now_ms.saturating_add(left_ms)
    }

    /// The router waits for something else: the client's time stands still.
    #[inline]
    pub fn rest(&mut self, now_ms: u64) {
        if let Some(since_ms) = self.since_ms.take() {
            let spent_ms = now_ms.saturating_sub(since_ms);
            self.left_ms = self.left_ms.map(|left_ms| left_ms.saturating_sub(spent_ms));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_cut_at_the_idle_timeout() {
        let mut pace = Pace::default();
        assert_eq!(pace.wait(1_000, 0, 100, 500), 1_500);
        assert_eq!(pace.wait(1_400, 0, 100, 500), 1_500);
    }

    #[test]
    fn a_byte_buys_its_time_and_no_more_than_the_timeout() {
        let mut pace = Pace::default();
        pace.wait(0, 0, 100, 500);
        assert_eq!(pace.wait(400, 1, 100, 500), 510, "one byte at 100/s is 10 ms");
        assert_eq!(pace.wait(400, 1, 100, 500), 510, "the same byte twice");
        assert_eq!(pace.wait(410, 1_000_000, 100, 500), 910);
    }

    #[test]
    fn a_client_at_the_rate_is_never_cut_and_one_below_is() {
        for (bytes_each, cut) in [(10, false), (11, false), (9, true)] {
            let mut pace = Pace::default();
            let mut over_ms = u64::MAX;
            // So many bytes each 100 ms, at a rate of 100 a second, for a thousand seconds.
            let late = (0..10_000_u64).any(|turn| {
                let late = turn * 100 >= over_ms;
                over_ms = pace.wait(turn * 100, turn * bytes_each, 100, 500);
                late
            });
            assert_eq!(late, cut, "{bytes_each} bytes each 100 ms");
        }
    }

    #[test]
    fn waiting_for_another_costs_nothing() {
        let mut pace = Pace::default();
        pace.wait(0, 0, 100, 500);
        pace.rest(300);
        pace.rest(9_000);
        assert_eq!(pace.wait(10_000, 0, 100, 500), 10_200);
    }
}
