//! How often one may ask, and what was answered to a request that is sent again: both bounded, both in memory.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::reply::Answer;
use crate::problem::Problem;

/// Holders of tokens whose requests are counted apart; there are at most as many tokens.
const HOLDERS_MAX: usize = 1024;
/// Answers kept for requests that are sent again.
const ANSWERS_MAX: usize = 10_000;
/// How long they are kept.
const ANSWERS_FOR: Duration = Duration::from_secs(24 * 3600);
/// Longest idempotency key, in bytes.
const KEY_MAX: usize = 255;

/// A rate: so many a second, and so many at once.
#[derive(Debug, Clone, Copy)]
struct Rate {
    per_s: f64,
    burst: f64,
}

const READS: Rate = Rate { per_s: 1000.0, burst: 5000.0 };
const WRITES: Rate = Rate { per_s: 500.0, burst: 2000.0 };

#[derive(Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

/// Requests of each holder of a token.
#[derive(Debug, Default)]
pub(crate) struct Rates(Mutex<HashMap<(String, bool), Bucket>>);

impl Rates {
    /// Takes one request of a holder, or refuses it.
    pub(super) fn take(&self, holder: &str, writes: bool, now: Instant) -> Result<(), Problem> {
        let rate = if writes { WRITES } else { READS };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= HOLDERS_MAX {
            // Renewed token files leave old names behind.
            all.clear();
        }
        let bucket =
            all.entry((holder.to_owned(), writes)).or_insert_with(|| Bucket { left: rate.burst, at: now });
        let since = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.left = (bucket.left + since * rate.per_s).min(rate.burst);
        bucket.at = now;
        if bucket.left < 1.0 {
            let detail = format!("more than {} requests a second; try again in a second", rate.per_s);
            return Err(Problem::new(429, "too_many_requests", detail));
        }
        bucket.left -= 1.0;
        Ok(())
    }
}

/// What came of a key.
#[derive(Debug)]
enum Kept {
    UnderWay,
    Done(Answer),
}

#[derive(Debug, Default)]
struct Answers {
    by_key: BTreeMap<(String, String), (u64, Kept)>,
    order: VecDeque<(Instant, (String, String))>,
}

/// Answers by `Idempotency-Key`.
#[derive(Debug, Default)]
pub(crate) struct Idempotency(Mutex<Answers>);

/// What to do with a request that has a key.
pub(super) enum Before {
    /// Do it, and tell what came of it.
    Go(Key),
    /// It was done: this was the answer.
    Done(Box<Answer>),
}

/// A request under way. Dropped without an answer (the client went away, or a panic) it lets the key be used again.
pub(super) struct Key {
    id: (String, String),
}

/// Sums a request up.
pub(super) fn fingerprint(method: &str, target: &str, body: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (method, target, body).hash(&mut hasher);
    hasher.finish()
}

impl Idempotency {
    /// Looks a key up and notes it.
    pub(super) fn begin(&self, holder: &str, key: &str, print: u64, now: Instant) -> Result<Before, Problem> {
        if key.is_empty() || key.len() > KEY_MAX || !key.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
            let detail = format!("Idempotency-Key has 1 to {KEY_MAX} visible ASCII characters");
            return Err(Problem::new(400, "bad_idempotency_key", detail));
        }
        let id = (holder.to_owned(), key.to_owned());
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((at, _)) = answers.order.front()
            && (answers.order.len() >= ANSWERS_MAX || now.saturating_duration_since(*at) > ANSWERS_FOR)
        {
            if let Some((_, old)) = answers.order.pop_front() {
                answers.by_key.remove(&old);
            }
        }
        match answers.by_key.get(&id) {
            Some((known, _)) if *known != print => Err(Problem::new(
                422,
                "idempotency_key_reused",
                "this Idempotency-Key was sent with another request; take a new one",
            )),
            Some((_, Kept::UnderWay)) => Err(Problem::new(
                409,
                "idempotency_under_way",
                "a request with this Idempotency-Key is under way; ask again for its answer",
            )),
            Some((_, Kept::Done(answer))) => Ok(Before::Done(Box::new(answer.clone()))),
            None => {
                answers.by_key.insert(id.clone(), (print, Kept::UnderWay));
                answers.order.push_back((now, id.clone()));
                Ok(Before::Go(Key { id }))
            }
        }
    }

    /// Keeps an answer. Those that say that it may work another time are not kept.
    pub(super) fn end(&self, key: Key, answer: &Answer) {
        let again =
            matches!(answer, Err(problem) if problem.status >= 500 || matches!(problem.status, 409 | 429));
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if again {
            answers.by_key.remove(&key.id);
            answers.order.retain(|(_, id)| *id != key.id);
        } else if let Some((_, kept)) = answers.by_key.get_mut(&key.id) {
            *kept = Kept::Done(answer.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::reply::Reply;

    #[test]
    fn a_burst_and_then_the_rate() {
        let (rates, now) = (Rates::default(), Instant::now());
        let taken = |now| (0..10_000).filter(|_| rates.take("ci", true, now).is_ok()).count();
        assert_eq!(taken(now), 2000);
        assert_eq!(taken(now + Duration::from_secs(1)), 500);
        assert!(rates.take("ann", true, now).is_ok(), "another holder has an account of its own");
        assert!(rates.take("ci", false, now).is_ok(), "reads have one of their own");
    }

    #[test]
    fn the_same_key_gets_the_same_answer_once() {
        let (all, now) = (Idempotency::default(), Instant::now());
        let Ok(Before::Go(key)) = all.begin("ci", "k", 1, now) else { panic!("known") };
        assert_eq!(all.begin("ci", "k", 1, now).err().unwrap().code, "idempotency_under_way");
        assert_eq!(all.begin("ci", "k", 2, now).err().unwrap().code, "idempotency_key_reused");
        all.end(key, &Ok(Reply::ok(json!({ "n": 1 }))));
        let Ok(Before::Done(answer)) = all.begin("ci", "k", 1, now) else { panic!("not known") };
        assert_eq!(answer.unwrap().value, json!({ "n": 1 }));
        let Ok(Before::Go(key)) = all.begin("ann", "k", 1, now) else { panic!("another's key") };
        all.end(key, &Err(Problem::new(503, "storage_failed", "no")));
        assert!(
            matches!(all.begin("ann", "k", 1, now), Ok(Before::Go(_))),
            "what may work later is tried again"
        );
        let later = now + ANSWERS_FOR + Duration::from_secs(1);
        assert!(matches!(all.begin("ci", "k", 1, later), Ok(Before::Go(_))));
    }
}
