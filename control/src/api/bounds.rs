//! How often one may ask: each holder of a token on an account of its own, and all that are not let in on one together.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::who::TOKENS_MAX;
use crate::problem::Problem;

/// Accounts: each token has one for reads and one for changes.
const HOLDERS_MAX: usize = 2 * TOKENS_MAX;

/// A rate: so many a second, and so many at once.
#[derive(Debug, Clone, Copy)]
struct Rate {
    per_s: f64,
    burst: f64,
}

const READS: Rate = Rate { per_s: 1000.0, burst: 5000.0 };
const WRITES: Rate = Rate { per_s: 500.0, burst: 2000.0 };
/// All that are not let in, together.
const STRANGERS: Rate = Rate { per_s: 10.0, burst: 200.0 };

#[derive(Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    fn full(rate: Rate, now: Instant) -> Self {
        Self { left: rate.burst, at: now }
    }

    fn take(&mut self, rate: Rate, now: Instant) -> Result<(), Problem> {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + since * rate.per_s).min(rate.burst);
        self.at = now;
        if self.left < 1.0 {
            let detail = format!("more than {} requests a second; try again in a second", rate.per_s);
            return Err(Problem::new(429, "too_many_requests", detail));
        }
        self.left -= 1.0;
        Ok(())
    }
}

/// Requests of each holder of a token, and of those who are none.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    holders: Mutex<HashMap<(String, bool), Bucket>>,
    strangers: Mutex<Option<Bucket>>,
}

impl Rates {
    /// Takes one request of a holder, or refuses it.
    pub(super) fn take(&self, holder: &str, writes: bool, now: Instant) -> Result<(), Problem> {
        let rate = if writes { WRITES } else { READS };
        let mut all = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= HOLDERS_MAX && !all.contains_key(&(holder.to_owned(), writes)) {
            // Renewed token files leave old names behind.
            all.clear();
        }
        all.entry((holder.to_owned(), writes)).or_insert_with(|| Bucket::full(rate, now)).take(rate, now)
    }

    /// Takes one request of somebody who is not let in, or says that there are too many of them.
    pub(super) fn take_stranger(&self, now: Instant) -> Result<(), Problem> {
        let mut bucket = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        bucket.get_or_insert_with(|| Bucket::full(STRANGERS, now)).take(STRANGERS, now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_and_then_the_rate() {
        let (rates, now) = (Rates::default(), Instant::now());
        let taken = |now| (0..10_000).filter(|_| rates.take("ci", true, now).is_ok()).count();
        assert_eq!(taken(now), 2000);
        assert_eq!(taken(now + Duration::from_secs(1)), 500);
        assert!(rates.take("ann", true, now).is_ok(), "another holder has an account of its own");
        assert!(rates.take("ci", false, now).is_ok(), "reads have one of their own");
        let strangers = |now| (0..10_000).filter(|_| rates.take_stranger(now).is_ok()).count();
        assert_eq!(strangers(now), 200);
        assert_eq!(strangers(now + Duration::from_secs(1)), 10);
    }
}
