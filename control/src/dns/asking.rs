//! Asks names again and again: one small task per name, each waiting for its own TTL.
//!
//! Reports to the control loop over its bounded event queue; the loop decides what an answer means.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time;

use super::names::next_ask;
use super::{Answer, Resolve, ResolveError};
use crate::placement::discovered::is_keys;

/// Most questions under way at once.
const QUESTIONS_MAX: usize = 64;
/// Longest wait for one answer; the resolver's own bounds are shorter.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// An answer on its way to the control loop.
#[derive(Debug)]
pub(crate) struct Told {
    /// The name asked.
    pub(crate) name: Arc<str>,
    /// What came back.
    pub(crate) answer: Result<Answer, ResolveError>,
}

/// The tasks, by name. Dropping it ends them all.
pub(crate) struct Asking {
    resolve: Arc<dyn Resolve>,
    told: mpsc::Sender<Told>,
    permits: Arc<Semaphore>,
    tasks: BTreeMap<Arc<str>, JoinHandle<()>>,
}

impl Asking {
    /// No names yet; answers go to `told`.
    pub(crate) fn new(resolve: Arc<dyn Resolve>, told: mpsc::Sender<Told>) -> Self {
        Self { resolve, told, permits: Arc::new(Semaphore::new(QUESTIONS_MAX)), tasks: BTreeMap::new() }
    }

    /// Asks for exactly these names from now on; names asked already go on undisturbed.
    pub(crate) fn follow(&mut self, names: &BTreeSet<Arc<str>>) {
        self.tasks.retain(|name, task| {
            let wanted = names.contains(name);
            if !wanted {
                task.abort();
            }
            wanted
        });
        for name in names.iter().filter(|name| !is_keys(name)) {
            if !self.tasks.contains_key(name) {
                let question = ask(
                    Arc::clone(name),
                    Arc::clone(&self.resolve),
                    self.told.clone(),
                    Arc::clone(&self.permits),
                );
                self.tasks.insert(Arc::clone(name), tokio::spawn(question));
            }
        }
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        for task in self.tasks.values() {
            task.abort();
        }
    }
}

async fn ask(name: Arc<str>, resolve: Arc<dyn Resolve>, told: mpsc::Sender<Told>, permits: Arc<Semaphore>) {
    let mut failures = 0;
    loop {
        let Ok(permit) = permits.acquire().await else { return };
        let answer = match time::timeout(ANSWER_MAX, resolve.resolve(Arc::clone(&name))).await {
            Ok(answer) => answer,
            Err(_) => Err(ResolveError::Failed(format!("no answer within {} s", ANSWER_MAX.as_secs()))),
        };
        drop(permit);
        failures = if answer.as_ref().is_ok_and(|answer| !answer.is_empty()) { 0 } else { failures + 1 };
        let pause = next_ask(&answer, failures);
        if told.send(Told { name: Arc::clone(&name), answer }).await.is_err() {
            return;
        }
        time::sleep(pause).await;
    }
}
