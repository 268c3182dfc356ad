//! What was answered to a request that is sent again with the same `Idempotency-Key`: bounded in number, bytes and time, in
//! memory only.
//!
//! When there is no more room, the holder of a token who takes most of it loses its oldest answer: nobody pushes out another
//! who keeps less. A request under way is never forgotten; one that ends without an answer frees its key.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH};
use serde_json::{Map, Value, json};

use super::reply::{Answer, Reply};
use crate::problem::Problem;
use crate::store::Revision;

/// Keys at once.
const KEYS_MAX: usize = 10_000;
/// Bytes of all answers that are kept.
const BYTES_MAX: usize = 64 << 20;
/// Longest answer that is kept whole, in bytes; of a longer one only its plain members are.
const WHOLE_MAX: usize = 256 << 10;
/// How long answers are kept.
const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);
/// Longest key, in bytes.
const KEY_MAX: usize = 255;
/// What a kept answer takes beside its text and its key, about, in bytes.
const AROUND: usize = 512;

/// An answer as it is kept: one text instead of a tree of values.
#[derive(Debug)]
enum Text {
    Reply {
        status: u16,
        value: Box<str>,
        headers: Vec<(HeaderName, HeaderValue)>,
        revision: Option<Revision>,
    },
    Problem {
        plain: Box<Problem>,
        more: Box<str>,
    },
}

#[derive(Debug)]
enum Kept {
    UnderWay,
    Done(Text, usize),
}

/// The keys of one holder.
#[derive(Debug, Default)]
struct Holder {
    by_key: HashMap<Arc<str>, (u64, Kept)>,
    /// Those that are done, oldest first.
    done: VecDeque<(Instant, Arc<str>)>,
    bytes: usize,
}

impl Holder {
    /// Forgets the oldest answer; what that gives back.
    fn forget_one(&mut self) -> usize {
        let Some((_, key)) = self.done.pop_front() else { return 0 };
        match self.by_key.remove(&key) {
            Some((_, Kept::Done(_, size))) => {
                self.bytes -= size;
                size
            }
            Some((_, Kept::UnderWay)) | None => 0,
        }
    }
}

#[derive(Debug, Default)]
struct Answers {
    holders: HashMap<String, Holder>,
    keys: usize,
    bytes: usize,
}

impl Answers {
    fn forget_old(&mut self, now: Instant) {
        for holder in self.holders.values_mut() {
            while holder.done.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) > KEPT_FOR) {
                self.bytes -= holder.forget_one();
                self.keys -= 1;
            }
        }
        self.holders.retain(|_, holder| !holder.by_key.is_empty());
    }

    /// Forgets one answer of the holder who takes most; whether there was one.
    fn forget_one(&mut self, by: impl Fn(&Holder) -> usize) -> bool {
        let with_answers = self.holders.values_mut().filter(|holder| !holder.done.is_empty());
        let Some(most) = with_answers.max_by_key(|holder| by(holder)) else { return false };
        self.bytes -= most.forget_one();
        self.keys -= 1;
        true
    }
}

/// Answers by `Idempotency-Key`.
#[derive(Debug, Default, Clone)]
pub(crate) struct Idempotency(Arc<Mutex<Answers>>);

/// What to do with a request that has a key.
pub(super) enum Before {
    /// Do it, and tell what came of it.
    Go(Key),
    /// It was done: this was the answer.
    Done(Box<Answer>),
}

/// A request under way. Dropped without an answer (a panic, or the end of the process) it lets the key be used again.
pub(super) struct Key {
    all: Idempotency,
    holder: String,
    key: Arc<str>,
}

impl Drop for Key {
    fn drop(&mut self) {
        let mut answers = self.all.answers();
        let Some(holder) = answers.holders.get_mut(&self.holder) else { return };
        if matches!(holder.by_key.get(&self.key), Some((_, Kept::UnderWay))) {
            holder.by_key.remove(&self.key);
            answers.keys -= 1;
        }
    }
}

/// Sums a request up: all that decides what it does.
pub(super) fn fingerprint(method: &str, target: &str, headers: &HeaderMap, body: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (method, target, body).hash(&mut hasher);
    for name in [CONTENT_TYPE, IF_MATCH, IF_NONE_MATCH] {
        let values: Vec<&[u8]> = headers.get_all(&name).iter().map(HeaderValue::as_bytes).collect();
        values.hash(&mut hasher);
    }
    hasher.finish()
}

impl Idempotency {
    fn answers(&self) -> MutexGuard<'_, Answers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks a key up and notes it.
    pub(super) fn begin(&self, holder: &str, key: &str, print: u64, now: Instant) -> Result<Before, Problem> {
        if key.is_empty() || key.len() > KEY_MAX || !key.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
            let detail = format!("Idempotency-Key has 1 to {KEY_MAX} visible ASCII characters");
            return Err(Problem::new(400, "bad_idempotency_key", detail));
        }
        let mut answers = self.answers();
        answers.forget_old(now);
        match answers.holders.get(holder).and_then(|holder| holder.by_key.get(key)) {
            Some((known, _)) if *known != print => {
                return Err(Problem::new(
                    422,
                    "idempotency_key_reused",
                    "this Idempotency-Key was sent with another request; take a new one",
                ));
            }
            Some((_, Kept::UnderWay)) => {
                return Err(Problem::new(
                    409,
                    "idempotency_under_way",
                    "a request with this Idempotency-Key is under way; ask again for its answer",
                ));
            }
            Some((_, Kept::Done(text, _))) => return Ok(Before::Done(Box::new(text.answer()))),
            None => {}
        }
        if answers.keys >= KEYS_MAX && !answers.forget_one(|holder| holder.by_key.len()) {
            let detail = format!("{KEYS_MAX} requests with an Idempotency-Key are under way; try again");
            return Err(Problem::new(503, "too_many_under_way", detail));
        }
        let key: Arc<str> = Arc::from(key);
        let mine = answers.holders.entry(holder.to_owned()).or_default();
        mine.by_key.insert(Arc::clone(&key), (print, Kept::UnderWay));
        answers.keys += 1;
        Ok(Before::Go(Key { all: self.clone(), holder: holder.to_owned(), key }))
    }
}

impl Key {
    /// Keeps an answer. Those that say that it may work another time are not kept.
    pub(super) fn end(self, answer: &Answer, now: Instant) {
        if matches!(answer, Err(problem) if problem.status >= 500 || matches!(problem.status, 409 | 429)) {
            return;
        }
        // Written before the lock is taken.
        let (text, length) = Text::of(answer);
        let size = length + self.key.len() + AROUND;
        let mut answers = self.all.answers();
        let Some(holder) = answers.holders.get_mut(&self.holder) else { return };
        let Some((_, kept)) = holder.by_key.get_mut(&self.key) else { return };
        *kept = Kept::Done(text, size);
        holder.done.push_back((now, Arc::clone(&self.key)));
        holder.bytes += size;
        answers.bytes += size;
        while answers.bytes > BYTES_MAX && answers.forget_one(|holder| holder.bytes) {}
    }
}

/// A document as a text; of a long one the plain members.
fn shortened(value: &Value) -> String {
    let text = value.to_string();
    if text.len() <= WHOLE_MAX {
        return text;
    }
    let members = value.as_object().into_iter().flatten();
    let plain = members.filter(|(_, value)| !value.is_array() && !value.is_object());
    let mut plain: Map<String, Value> = plain.map(|(name, value)| (name.clone(), value.clone())).collect();
    plain.insert("shortened".to_owned(), json!(true));
    let text = Value::Object(plain).to_string();
    if text.len() <= WHOLE_MAX { text } else { json!({ "shortened": true }).to_string() }
}

impl Text {
    /// The text, and how long it is.
    fn of(answer: &Answer) -> (Self, usize) {
        match answer {
            Ok(Reply { status, value, headers, revision }) => {
                let value = shortened(value).into_boxed_str();
                let length = value.len();
                let headers = headers.clone();
                (Text::Reply { status: *status, value, headers, revision: *revision }, length)
            }
            Err(problem) => {
                let more = shortened(&Value::Object(problem.more.clone())).into_boxed_str();
                let mut plain = Problem { more: Map::new(), ..problem.clone() };
                if plain.detail.len() > WHOLE_MAX {
                    plain.detail = "the words of this refusal were too long to keep".to_owned();
                }
                let length = more.len() + plain.detail.len() + plain.pointer.as_ref().map_or(0, String::len);
                (Text::Problem { plain: Box::new(plain), more }, length)
            }
        }
    }

    fn answer(&self) -> Answer {
        // They were values before they were texts.
        let read = |text: &str| serde_json::from_str::<Value>(text).unwrap_or(Value::Null);
        match self {
            Text::Reply { status, value, headers, revision } => Ok(Reply {
                status: *status,
                value: read(value),
                headers: headers.clone(),
                revision: *revision,
            }),
            Text::Problem { plain, more } => {
                let more = read(more).as_object().cloned().unwrap_or_default();
                Err(Problem { more, ..Problem::clone(plain) })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn go(all: &Idempotency, holder: &str, key: &str, now: Instant) -> Key {
        match all.begin(holder, key, 1, now) {
            Ok(Before::Go(key)) => key,
            Ok(Before::Done(_)) => panic!("{key} is known"),
            Err(problem) => panic!("{problem:?}"),
        }
    }

    #[test]
    fn the_same_key_gets_the_same_answer_once() {
        let (all, now) = (Idempotency::default(), Instant::now());
        let key = go(&all, "ci", "k", now);
        assert_eq!(all.begin("ci", "k", 1, now).err().unwrap().code, "idempotency_under_way");
        assert_eq!(all.begin("ci", "k", 2, now).err().unwrap().code, "idempotency_key_reused");
        key.end(&Ok(Reply::ok(json!({ "n": 1 }))), now);
        let Ok(Before::Done(answer)) = all.begin("ci", "k", 1, now) else { panic!("not known") };
        assert_eq!(answer.unwrap().value, json!({ "n": 1 }));
        go(&all, "ann", "k", now).end(&Err(Problem::new(503, "storage_failed", "no")), now);
        // What may work later is tried again, and what panicked too.
        drop(go(&all, "ann", "k", now));
        let key = go(&all, "ann", "k", now);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _key = key;
            panic!("as an operation might");
        }));
        assert!(panicked.is_err());
        let mut refused = Problem::at(422, "bad_value", "/a", "no");
        refused.more.insert("errors".to_owned(), json!([1]));
        go(&all, "ann", "k", now).end(&Err(refused.clone()), now);
        let Ok(Before::Done(answer)) = all.begin("ann", "k", 1, now) else { panic!("not known") };
        assert_eq!(answer.unwrap_err(), refused);
        let later = now + KEPT_FOR + Duration::from_secs(1);
        drop(go(&all, "ci", "k", later));
    }

    #[test]
    fn bytes_are_bounded_and_who_takes_most_gives_back() {
        let (all, now) = (Idempotency::default(), Instant::now());
        go(&all, "ann", "mine", now).end(&Ok(Reply::ok(json!({ "n": 1 }))), now);
        let under_way = go(&all, "ci", "under way", now);
        let text = "x".repeat(WHOLE_MAX - 100);
        for n in 0..BYTES_MAX / WHOLE_MAX + 50 {
            go(&all, "ci", &n.to_string(), now).end(&Ok(Reply::ok(json!({ "text": text }))), now);
        }
        assert!(all.answers().bytes <= BYTES_MAX);
        assert!(matches!(all.begin("ann", "mine", 1, now), Ok(Before::Done(_))), "another's flood");
        assert_eq!(all.begin("ci", "under way", 1, now).err().unwrap().code, "idempotency_under_way");
        drop(under_way);
        drop(go(&all, "ci", "0", now));
        // Long lists are not kept, what came of it is.
        let long = json!({ "revision": 7, "changes": vec![text; 3] });
        go(&all, "ci", "long", now).end(&Ok(Reply::ok(long)), now);
        let Ok(Before::Done(answer)) = all.begin("ci", "long", 1, now) else { panic!("not known") };
        assert_eq!(answer.unwrap().value, json!({ "revision": 7, "shortened": true }));
    }

    #[test]
    fn keys_are_bounded_and_what_is_under_way_is_never_forgotten() {
        let (all, now) = (Idempotency::default(), Instant::now());
        let mut under_way: Vec<Key> = (0..KEYS_MAX).map(|n| go(&all, "ci", &n.to_string(), now)).collect();
        assert_eq!(all.begin("ann", "k", 1, now).err().unwrap().code, "too_many_under_way");
        under_way.pop().unwrap().end(&Ok(Reply::ok(json!({}))), now);
        drop(go(&all, "ann", "k", now));
        assert_eq!(all.begin("ci", "0", 1, now).err().unwrap().code, "idempotency_under_way");
        drop(under_way);
        assert_eq!(all.answers().keys, 0);
    }

    #[test]
    fn conditions_and_the_type_are_part_of_a_request() {
        let with = |name: HeaderName, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            fingerprint("PUT", "/", &headers, b"{}")
        };
        let prints = [
            with(IF_MATCH, "\"1\""),
            with(IF_MATCH, "\"2\""),
            with(IF_NONE_MATCH, "*"),
            with(CONTENT_TYPE, "application/json"),
            with(CONTENT_TYPE, "application/toml"),
        ];
        for (at, one) in prints.iter().enumerate() {
            assert!(!prints[..at].contains(one), "{at}");
        }
    }
}
