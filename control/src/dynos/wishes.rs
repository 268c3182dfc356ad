//! What is asked of the supervisor: the formation and the newest release, as the store has them; what it records there itself.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::guard::Looked;
use super::release;
use super::supervisor::Supervisor;
use crate::clock::unix_ms;
use crate::desired::{
    FormationWords, RELEASES, ReleaseWords, formation_key, numbered_key, numbered_prefix, words, write,
};
use crate::guarded::is_closed;
use crate::store::{Revision, StoreError, Txn, Write};

/// Tries to find a number for a release that nobody else takes meanwhile.
const TRIES_MAX: usize = 100;

impl Supervisor {
    /// Finds out which release runs and how many dynos there should be.
    pub(super) async fn begin(&mut self) {
        if self.newest().is_none() {
            self.record("the first start").await;
        }
        let newest = self.newest().unwrap_or((1, "v1".to_owned()));
        let seen = newest.0;
        let (number, name) = self.newest_good().unwrap_or(newest);
        self.seen = seen;
        match release::read(&self.duties.run, number, &name) {
            Ok(release) => {
                self.current = Rc::new(release);
                self.watch_first(number, &name, None);
            }
            // It was read a moment ago; the next release reads it again.
            Err(unusable) => {
                tracing::error!("no dyno is started: {}", unusable.words());
                self.watch_first(number, &name, Some(unusable.words()));
            }
        }
        let asked = &self.duties.run.formation.0;
        let key = formation_key(self.app());
        let before = self.duties.above.store.as_ref().and_then(|store| store.get(&key));
        let stored = before.as_ref().and_then(|object| words::<FormationWords>(object).ok());
        let types = self.current.commands.keys();
        self.formation = match stored.filter(|_| asked.is_empty()) {
            Some(stored) => stored.processes,
            None => {
                let all = asked.get("all").copied().unwrap_or(u32::from(asked.is_empty()));
                types.map(|kind| (kind.clone(), asked.get(kind).copied().unwrap_or(all))).collect()
            }
        };
        let processes = self.formation.clone();
        // The same again changes nothing. Not over what somebody asked for in the meantime: that is taken in next.
        let when = vec![(Arc::clone(&key), before.map_or(0, |object| object.modified))];
        self.commit(when, vec![write(key, &FormationWords { processes })]).await;
    }

    fn stored_formation(&self) -> Option<BTreeMap<String, u32>> {
        let object = self.duties.above.store.as_ref()?.get(&formation_key(self.app()))?;
        words::<FormationWords>(&object).ok().map(|words| words.processes)
    }

    /// The newest release on record, if it is newer than the one that was begun last.
    fn newest(&self) -> Option<(u64, String)> {
        let store = self.duties.above.store.as_ref()?;
        let seen = numbered_key(RELEASES, self.app(), self.seen);
        let newer = store.list(&numbered_prefix(RELEASES, self.app()), Some(&seen), usize::MAX).objects;
        let last = words::<ReleaseWords>(newer.last()?).ok()?;
        Some((last.release, last.name))
    }

    /// The newest release on record that was not refused. Those that were are said.
    fn newest_good(&self) -> Option<(u64, String)> {
        let store = self.duties.above.store.as_ref()?;
        let all = store.list(&numbered_prefix(RELEASES, self.app()), None, usize::MAX).objects;
        for words in all.iter().rev().filter_map(|object| words::<ReleaseWords>(object).ok()) {
            let Some(why) = words.refused else { return Some((words.release, words.name)) };
            tracing::error!(
                release = %words.name, %why,
                "it was refused and is not begun again: the release before it is, with the files as they are now"
            );
        }
        None
    }

    /// How long a release is to serve on trial.
    pub(super) fn guard_of(&self, number: u64) -> Option<Duration> {
        let object = self.duties.above.store.as_ref()?.get(&numbered_key(RELEASES, self.app(), number))?;
        words::<ReleaseWords>(&object).ok()?.guard_ms.map(Duration::from_millis)
    }

    /// What became of the app's requests.
    pub(super) fn looked(&self) -> Looked {
        let now = self.duties.inspect.0.traffic().and_then(|mut apps| apps.remove(self.app()));
        let now = now.unwrap_or_default();
        let lately = self.samples.lately(self.app(), &now);
        let is_closed = self.duties.above.store.as_ref().is_some_and(|store| is_closed(&**store, self.app()));
        Looked { now, lately, is_closed }
    }

    /// Writes to the records why releases were refused, so that the next start knows.
    pub(super) async fn record_refused(&mut self) {
        for (number, why, superseded) in std::mem::take(&mut self.refused) {
            let key = numbered_key(RELEASES, self.app(), number);
            let object = self.duties.above.store.as_ref().and_then(|store| store.get(&key));
            let Some(object) = object else { continue };
            let Ok(before) = words::<ReleaseWords>(&object) else { continue };
            let words = ReleaseWords { refused: Some(why), superseded, ..before };
            self.commit(vec![(Arc::clone(&key), object.modified)], vec![write(key, &words)]).await;
        }
    }

    /// Writes; false when something else was faster.
    async fn commit(&self, when: Vec<(Arc<str>, Revision)>, writes: Vec<Write>) -> bool {
        let Some(store) = self.duties.above.store.clone() else { return true };
        match store.commit(Txn { when, writes }).await {
            Ok(_) => {}
            Err(StoreError::Conflict { .. }) => return false,
            Err(error) => {
                tracing::error!(%error, "what the Procfile's dynos should be could not be recorded");
            }
        }
        true
    }

    /// Records a release of what the files say now; it is rolled out when the record is seen.
    pub(super) async fn record(&mut self, by: &str) {
        let (mut number, mut name);
        let mut tries = 0..TRIES_MAX;
        loop {
            number = self.newest().map_or(self.seen, |(number, _)| number) + 1;
            name = format!("v{number}");
            let words = ReleaseWords {
                release: number,
                name: name.clone(),
                description: format!("by {by}"),
                unix_ms: unix_ms(),
                by: "procfile".to_owned(),
                guard_ms: None,
                refused: None,
                superseded: false,
            };
            let key = numbered_key(RELEASES, self.app(), number);
            // Another one of that number, which somebody recorded meanwhile, stays as it is.
            let was_first = self.commit(vec![(Arc::clone(&key), 0)], vec![write(key, &words)]).await;
            if was_first || tries.next().is_none() {
                break;
            }
        }
        if self.current.number > 0 && self.newest().is_none() {
            // Nothing can be recorded: it is a release all the same.
            self.latest = Some((number, name));
        }
    }

    /// Takes in what the store says.
    pub(super) fn look(&mut self) {
        self.latest = self.newest();
        if let Some(stored) = self.stored_formation().filter(|stored| *stored != self.formation) {
            for kind in stored.keys().filter(|kind| !self.current.commands.contains_key(*kind)) {
                tracing::warn!(%kind, "the formation has a process type that the Procfile does not");
            }
            tracing::info!(?stored, "formation");
            self.formation = stored;
        }
    }
}

/// Waits for a newer revision of the store; for ever without one. False when the store is gone.
pub(super) async fn newer(revisions: &mut Option<watch::Receiver<u64>>) -> bool {
    match revisions {
        Some(changes) => {
            let there = changes.changed().await.is_ok();
            if !there {
                *revisions = None;
            }
            there
        }
        None => std::future::pending().await,
    }
}
