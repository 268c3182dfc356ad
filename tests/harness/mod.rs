//! What the parts of the harness share: the deadline, waiting, and bytes to send.

pub(crate) mod client;
pub(crate) mod echo;
pub(crate) mod etcd;
pub(crate) mod flapper;
pub mod http2;
pub(crate) mod origin;
pub(crate) mod ports;
pub(crate) mod process;
pub(crate) mod redis;
pub(crate) mod router;
pub(crate) mod secure_origin;
pub(crate) mod setup;
pub(crate) mod tls;

use std::hash::Hasher;
use std::thread;
use std::time::{Duration, Instant};

/// Longest wait for anything. Missing it fails the test; nothing is expected to come near it.
pub const DEADLINE: Duration = Duration::from_secs(15);

/// Polls until the question has an answer.
///
/// # Panics
/// When [`DEADLINE`] is missed.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "gave up waiting for {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Polls until the question is answered with yes.
pub fn until_true(what: &str, mut ask: impl FnMut() -> bool) {
    until(what, || ask().then_some(()));
}

/// Bytes that are different at every place of a period which is no power of two, so that a lost, doubled or moved
/// piece is seen.
pub fn pattern(length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| u8::try_from(at % 251).unwrap_or(0) ^ u8::try_from((at / 251) % 241).unwrap_or(0))
        .collect()
}

/// A hash of bytes, the same in every process of one build.
pub fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = std::collections::hash_map::DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}
