//! Guarded changes: an app is watched for a while after a change, and goes back to the version before by itself when its errors or
//! its p99 rise.
//!
//! One task for all of them. What is watched stands in the store and outlives this process; what has ended is known of the router
//! alone, so that after a restart the watch begins anew. Another change of the app ends the guard of the one before it, and one that is
//! guarded too goes back to what that would have gone back to. Judges by [`judge`]; knows nothing of requests.

mod judge;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ekiden_config::doors::AppTraffic;
use ekiden_config::names::AppName;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::desired::{
    AppWords, GUARDS, VERSIONS, VersionWords, app_key, guard_key, hold_key, maintenance_key, numbered_key,
    words, write,
};
use crate::dynos::InspectDoor;
use crate::election::{Elector, Role};
use crate::plane::{AppEdit, AppsChange, stopped, verdict};
use crate::status::StatusCell;
use crate::store::{Revision, Store, Txn};
use judge::{Judgement, judge};

/// Time between two looks at what is watched.
const LOOK: Duration = Duration::from_millis(500);
/// What counts as before a change is the traffic of one to two of these.
const PERIOD: Duration = Duration::from_secs(30);
/// Longest wait for all workers to take what an app went back to.
const TAKEN_MAX: Duration = Duration::from_secs(5);
/// Apps whose traffic is remembered, at most; changes of others are not judged.
const APPS_MAX: usize = 10_000;

/// How a guard is, as stored and told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum GuardState {
    /// The app is looked at.
    Watching,
    /// The change stays: it made nothing worse.
    Kept,
    /// The app went back.
    RolledBack,
    /// The change stays: too few requests came to judge it.
    NotJudged,
    /// Another change came first.
    Superseded,
    /// The app should have gone back, and could not.
    Failed,
}

/// A guarded change, as stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct GuardWords {
    /// How it is.
    pub(crate) state: GuardState,
    /// Why.
    pub(crate) reason: String,
    /// The version that is guarded.
    pub(crate) version: u64,
    /// The version that it goes back to; none deletes the app, or gives it back to its file.
    pub(crate) back_to: Option<u64>,
    /// How long it is watched, in milliseconds.
    pub(crate) guard_ms: u64,
    /// Until when.
    pub(crate) until_unix_ms: u64,
    /// What ended before the change.
    pub(crate) before: Before,
}

/// What ended of an app before a change, as stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Before {
    requests: u64,
    errors: u64,
    buckets: Vec<u64>,
}

/// Traffic of apps, looked at from time to time.
#[derive(Debug, Default)]
struct Samples {
    older: BTreeMap<AppName, AppTraffic>,
    newer: BTreeMap<AppName, AppTraffic>,
}

/// What the guard of all apps needs, and what others ask of it. Cloning shares it.
#[derive(Debug, Clone)]
pub(crate) struct Guards {
    inspect: InspectDoor,
    samples: Arc<Mutex<Samples>>,
    changed: Arc<Notify>,
}

impl Guards {
    /// Nothing is watched.
    pub(crate) fn new(inspect: InspectDoor) -> Self {
        Self { inspect, samples: Arc::default(), changed: Arc::default() }
    }

    /// Whether it is known here what becomes of requests.
    pub(crate) fn can_judge(&self) -> bool {
        self.inspect.0.traffic().is_some()
    }

    fn now(&self) -> BTreeMap<AppName, AppTraffic> {
        self.inspect.0.traffic().unwrap_or_default()
    }

    /// What ended of an app lately: asked for before a change of it.
    pub(crate) fn before(&self, app: &AppName) -> Before {
        let now = self.now().remove(app).unwrap_or_default();
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let AppTraffic { requests, errors, buckets, .. } = match samples.older.get(app) {
            Some(older) => now.since(older),
            None => now,
        };
        Before { requests, errors, buckets }
    }

    /// There may be something new to watch.
    pub(crate) fn wake(&self) {
        self.changed.notify_one();
    }

    fn sample(&self) {
        let mut now = self.now();
        while now.len() > APPS_MAX {
            now.pop_last();
        }
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let newer = std::mem::replace(&mut samples.newer, now);
        samples.older = newer;
    }
}

/// An app that is looked at.
struct Watched {
    words: GuardWords,
    /// Of the stored words.
    revision: Revision,
    /// What had ended when the watch began.
    base: AppTraffic,
    until: Instant,
    /// Its app was in maintenance or held at the last look.
    paused: bool,
    /// It should go back and cannot yet, which the log has.
    waits: bool,
}

/// The task that looks.
pub(crate) struct Watcher {
    /// What it shares with others.
    pub(crate) guards: Guards,
    /// Where guards are; without a store nothing is guarded.
    pub(crate) store: Option<Arc<dyn Store>>,
    /// To the control loop.
    pub(crate) changes: mpsc::Sender<AppsChange>,
    /// Gets counts.
    pub(crate) status: StatusCell,
    /// Says who watches, where the store is shared: who leads.
    pub(crate) elector: Option<Arc<dyn Elector>>,
}

impl Watcher {
    /// Looks until told to stop.
    pub(crate) async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut watched: BTreeMap<AppName, Watched> = BTreeMap::new();
        let mut sample_at = Instant::now() + PERIOD;
        let mut role = self.elector.as_ref().map(|elector| elector.role());
        if self.leads() {
            self.find(&mut watched, true);
        }
        loop {
            let next = if watched.is_empty() { sample_at } else { sample_at.min(Instant::now() + LOOK) };
            tokio::select! {
                () = stopped(&mut stop) => return,
                () = self.guards.changed.notified() => {
                    if self.leads() {
                        self.find(&mut watched, false);
                    }
                }
                () = turned(&mut role) => {
                    // What another process watched is watched by nobody now, and the other way round.
                    watched.clear();
                    if self.leads() {
                        self.find(&mut watched, true);
                    }
                }
                () = sleep_until(next) => {}
            }
            if Instant::now() >= sample_at {
                self.guards.sample();
                sample_at = Instant::now() + PERIOD;
            }
            if !watched.is_empty() && self.leads() {
                self.look(&mut watched).await;
            }
            let count = watched.len();
            self.status.update(|status| status.guards.watching = count);
        }
    }

    /// Whether what is watched is for this process to judge, as it was told last.
    fn leads(&self) -> bool {
        let leads = |elector: &Arc<dyn Elector>| matches!(*elector.role().borrow(), Role::Leading { .. });
        self.elector.as_ref().is_none_or(leads)
    }

    /// Takes up what the store says is watched.
    fn find(&self, watched: &mut BTreeMap<AppName, Watched>, at_start: bool) {
        let Some(store) = &self.store else { return };
        let now = self.guards.now();
        for object in store.list(GUARDS, None, usize::MAX).objects {
            let app = object.key.strip_prefix(GUARDS).and_then(|app| AppName::new(app).ok());
            let (Some(app), Ok(words)) = (app, words::<GuardWords>(&object)) else {
                tracing::error!(key = %object.key, "a guard of the store cannot be read");
                continue;
            };
            let is_known = watched.get(&app).is_some_and(|one| one.revision == object.modified);
            if words.state != GuardState::Watching || is_known {
                continue;
            }
            let guard = Duration::from_millis(words.guard_ms);
            if at_start {
                tracing::warn!(%app, version = words.version, "this process began within the guard time of a change: it begins anew");
            }
            let base = now.get(&app).cloned().unwrap_or_default();
            let until = Instant::now() + guard;
            watched.insert(
                app,
                Watched { words, revision: object.modified, base, until, paused: false, waits: false },
            );
        }
    }

    async fn look(&self, watched: &mut BTreeMap<AppName, Watched>) {
        let now = self.guards.now();
        let mut ended = Vec::new();
        for (app, one) in watched.iter_mut() {
            self.pause(app, one, now.get(app));
            if let Some((state, reason)) = self.judged(app, one, now.get(app)) {
                ended.push((app.clone(), state, reason));
            }
        }
        for (app, state, reason) in ended {
            let Some(one) = watched.remove(&app) else { continue };
            if let Some(one) = self.end(&app, one, state, reason).await {
                watched.insert(app, one);
            }
        }
    }

    /// What ends while an app is in maintenance or held says nothing of its version: what is judged begins anew behind it.
    fn pause(&self, app: &AppName, one: &mut Watched, now: Option<&AppTraffic>) {
        let Some(store) = &self.store else { return };
        let paused = is_closed(&**store, app);
        if paused || one.paused {
            one.base = now.cloned().unwrap_or_default();
        }
        one.paused = paused;
    }

    /// How a guard ends, if it does.
    fn judged(&self, app: &AppName, one: &Watched, now: Option<&AppTraffic>) -> Option<(GuardState, String)> {
        let store = self.store.as_ref()?;
        let is_there = store.get(&guard_key(app)).is_some_and(|object| object.modified == one.revision);
        let version = store.get(&app_key(app)).and_then(|object| words::<AppWords>(&object).ok());
        if !is_there || version.is_none_or(|words| words.version != one.words.version) {
            return Some((GuardState::Superseded, "another change of the app came first".to_owned()));
        }
        if one.paused {
            return None;
        }
        let after = now.map(|now| now.since(&one.base)).unwrap_or_default();
        let Before { requests, errors, buckets } = one.words.before.clone();
        let before = AppTraffic { requests, errors, buckets, bounds_us: after.bounds_us.clone() };
        let over = Instant::now() >= one.until;
        match judge(&before, &after) {
            Judgement::Bad(why) => Some((GuardState::RolledBack, why)),
            Judgement::Good(why) if over => Some((GuardState::Kept, why)),
            Judgement::TooFew(why) if over => Some((GuardState::NotJudged, why)),
            Judgement::Good(_) | Judgement::TooFew(_) => None,
        }
    }

    /// Ends a guard. One that cannot end now is given back: it is looked at again.
    async fn end(
        &self,
        app: &AppName,
        mut one: Watched,
        state: GuardState,
        reason: String,
    ) -> Option<Watched> {
        let (mut state, mut reason) = (state, reason);
        let version = one.words.version;
        if state == GuardState::RolledBack {
            match self.go_back(app, &one.words, &reason).await {
                Ok(()) => {
                    tracing::error!(%app, version, back_to = one.words.back_to, "the guarded change is rolled back: {reason}");
                }
                Err(why) if why.is_conflict => {
                    (state, reason) =
                        (GuardState::Superseded, "another change of the app came first".to_owned());
                }
                Err(why) if why.passes => {
                    if !std::mem::replace(&mut one.waits, true) {
                        tracing::error!(%app, version, "the guarded change should be rolled back ({reason}), which is tried until it can be: {}", why.words);
                    }
                    return Some(one);
                }
                Err(why) => {
                    tracing::error!(%app, version, "the guarded change should be rolled back ({reason}), and could not: {}", why.words);
                    (state, reason) =
                        (GuardState::Failed, format!("{reason}; it could not be rolled back: {}", why.words));
                }
            }
        } else {
            tracing::info!(%app, version, ?state, "the guard of a change has ended: {reason}");
        }
        let counts = |status: &mut crate::status::Status| {
            let count = match state {
                GuardState::Watching | GuardState::Superseded => &mut status.guards.superseded,
                GuardState::Kept => &mut status.guards.kept,
                GuardState::RolledBack => &mut status.guards.rolled_back,
                GuardState::NotJudged => &mut status.guards.not_judged,
                GuardState::Failed => &mut status.guards.failed,
            };
            *count += 1;
        };
        self.status.update(counts);
        let store = self.store.as_ref()?;
        let ended = GuardWords { state, reason, ..one.words };
        let key = guard_key(app);
        let txn = Txn { when: vec![(Arc::clone(&key), one.revision)], writes: vec![write(key, &ended)] };
        // A conflict: a newer guard stands there, or the app is deleted.
        if let Err(error) = store.commit(txn).await {
            tracing::debug!(%app, %error, "how a guard ended is not written down");
        }
        None
    }

    /// Makes the version before the newest again, unless something else did meanwhile.
    async fn go_back(&self, app: &AppName, words: &GuardWords, why: &str) -> Result<(), NotBack> {
        let store = self.store.as_ref().ok_or_else(|| NotBack::new("there is no store"))?;
        let current = store.get(&app_key(app)).ok_or_else(NotBack::conflict)?;
        let spec = match words.back_to {
            None => None,
            Some(version) => Some(spec_of(&**store, app, version)?),
        };
        let edit = AppEdit {
            app: app.clone(),
            spec,
            expected: current.modified,
            made_from: None,
            place: (String::new(), String::new()),
        };
        let (reply, end) = oneshot::channel();
        let change = AppsChange {
            edits: vec![edit],
            adopt: false,
            dry_run: false,
            by: "guard".to_owned(),
            why: format!("guard of version {}: {why}", words.version),
            reply,
        };
        self.changes.send(change).await.map_err(|_| NotBack::new("control is stopping"))?;
        match end.await {
            Ok(Ok(done)) => {
                // Who hears that it went back may look at once.
                let _late_workers_are_named = timeout(TAKEN_MAX, verdict(&done.ticket)).await;
                Ok(())
            }
            Ok(Err(problem)) if problem.code == "conflict" => Err(NotBack::conflict()),
            Ok(Err(problem)) => {
                // Nobody can write now; somebody can later.
                let passes = matches!(problem.code, "not_leading" | "storage_unknown" | "storage_full");
                Err(NotBack { passes, ..NotBack::new(&problem.detail) })
            }
            Err(_) => Err(NotBack::new("control is stopping")),
        }
    }
}

/// Waits for another role; never ends where nobody has one.
async fn turned(role: &mut Option<watch::Receiver<Role>>) {
    if let Some(told) = role
        && told.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// Whether an app is in maintenance or held: its requests are answered here, or wait here.
fn is_closed(store: &dyn Store, app: &AppName) -> bool {
    store.get(&maintenance_key(app)).is_some() || store.get(&hold_key(app)).is_some()
}

fn spec_of(store: &dyn Store, app: &AppName, version: u64) -> Result<Value, NotBack> {
    let object = store.get(&numbered_key(VERSIONS, app, version));
    let object = object.ok_or_else(|| NotBack::new(&format!("version {version} is no longer kept")))?;
    words::<VersionWords>(&object).map(|words| words.spec).map_err(|error| NotBack::new(&error))
}

/// Why an app did not go back.
struct NotBack {
    is_conflict: bool,
    /// The same may be done at another time.
    passes: bool,
    words: String,
}

impl NotBack {
    fn new(words: &str) -> Self {
        Self { is_conflict: false, passes: false, words: words.to_owned() }
    }

    fn conflict() -> Self {
        Self { is_conflict: true, passes: false, words: String::new() }
    }
}

#[cfg(test)]
mod tests;
