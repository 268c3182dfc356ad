//! The writer: puts endpoints into the table through the API, one after the other, and remembers what it was told of each.

use crate::failure::{Fallible, failure};
use crate::http1;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Pause between two writes, and longest wait for an answer.
const PAUSE: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the API may take to come back and tell what there is.
const BACK_WITHIN: Duration = Duration::from_secs(20);

/// What became of the writes.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// Answered with 200, 201 or 202.
    pub(super) acknowledged: usize,
    /// Answered otherwise, by status.
    pub(super) refusals: BTreeMap<u16, usize>,
    /// Acknowledged, and not there.
    pub(super) lost: Vec<String>,
    /// Refused, and there all the same.
    pub(super) ghosts: Vec<String>,
}

impl Written {
    /// Refusals in words.
    pub(super) fn refused(&self) -> String {
        let words: Vec<String> =
            self.refusals.iter().map(|(status, count)| format!("{count} x {status}")).collect();
        if words.is_empty() { "0".to_owned() } else { words.join(", ") }
    }
}

/// A writer at work.
#[derive(Debug)]
pub(super) struct Writer {
    api: SocketAddr,
    cluster: String,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    refused: Arc<AtomicU64>,
    thread: JoinHandle<BTreeMap<String, Option<u16>>>,
}

impl Writer {
    /// Begins to write into a cluster (`/v1/apps/APP/clusters/CLUSTER`).
    pub(super) fn start(api: SocketAddr, cluster: &str) -> Self {
        let (stop, acknowledged) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let refused = Arc::<AtomicU64>::default();
        let (told, path) = (Arc::clone(&stop), cluster.to_owned());
        let (taken, not) = (Arc::clone(&acknowledged), Arc::clone(&refused));
        let thread = thread::spawn(move || write(api, &path, &told, (&taken, &not)));
        Self { api, cluster: cluster.to_owned(), stop, acknowledged, refused, thread }
    }

    /// Writes acknowledged so far.
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Acquire)
    }

    /// Writes refused so far.
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Acquire)
    }

    /// Ends; `look` is called between the last write and the look at what is there.
    pub(super) fn stop(self, look: impl FnOnce() -> Fallible<()>) -> Fallible<Written> {
        self.stop.store(true, Ordering::Release);
        let told = self.thread.join().map_err(|_| failure("the writer panicked"))?;
        look()?;
        let there = there(self.api, &self.cluster)?;
        let mut written = Written::default();
        for (id, status) in told {
            match status {
                Some(200..=202) => {
                    written.acknowledged += 1;
                    if !there.contains(&id) {
                        written.lost.push(id);
                    }
                }
                Some(status) => {
                    *written.refusals.entry(status).or_default() += 1;
                    if there.contains(&id) {
                        written.ghosts.push(id);
                    }
                }
                // Cut off: it may be there or not.
                None => {}
            }
        }
        Ok(written)
    }
}

fn write(
    api: SocketAddr,
    cluster: &str,
    stop: &AtomicBool,
    (acknowledged, refused): (&AtomicU64, &AtomicU64),
) -> BTreeMap<String, Option<u16>> {
    let mut told = BTreeMap::new();
    for number in 0.. {
        if stop.load(Ordering::Acquire) {
            break;
        }
        let id = format!("w{number}");
        let body = json!({ "address": format!("127.0.0.1:{}", 1 + number % 60_000) }).to_string();
        let target = format!("{cluster}/endpoints/{id}");
        let answer = http1::exchange(api, "PUT", &target, Some(&body), PATIENCE);
        let status = answer.ok().map(|answer| answer.status);
        match status {
            Some(200..=202) => drop(acknowledged.fetch_add(1, Ordering::AcqRel)),
            Some(_) => drop(refused.fetch_add(1, Ordering::AcqRel)),
            None => {}
        }
        told.insert(id, status);
        thread::sleep(PAUSE);
    }
    told
}

/// Ids of the endpoints that there are.
fn there(api: SocketAddr, cluster: &str) -> Fallible<BTreeSet<String>> {
    let until = Instant::now() + BACK_WITHIN;
    loop {
        let answer = http1::exchange(api, "GET", &format!("{cluster}/endpoints"), None, PATIENCE);
        match answer {
            Ok(answer) if answer.status == 200 => {
                let value: Value = serde_json::from_slice(&answer.body)?;
                let list = value.get("endpoints").unwrap_or(&value).as_array().cloned().unwrap_or_default();
                let id = |one: &Value| one.get("id").and_then(Value::as_str).map(str::to_owned);
                return Ok(list.iter().filter_map(id).collect());
            }
            Ok(answer) if Instant::now() > until => {
                return Err(failure(format!("the API says {} when asked for endpoints", answer.status)));
            }
            Err(error) if Instant::now() > until => return Err(error.during("asking for endpoints")),
            _ => thread::sleep(PAUSE),
        }
    }
}
