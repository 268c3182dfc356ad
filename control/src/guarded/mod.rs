//! Guarded changes: an app is watched for a while after a change, and goes back to the version before by itself when its errors or
//! its p99 rise.
//!
//! What becomes of requests is asked of the router in this process, or told by those that are elsewhere, over all of them.
//! One task for all guards. What is watched stands in the store and outlives this process; what has ended is known of the router
//! alone, so that after a restart the watch begins anew. Another change of the app ends the guard of the one before it, and one that is
//! guarded too goes back to what that would have gone back to. Judges by [`judge`]; knows nothing of requests.

pub(crate) mod judge;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ekiden_config::doors::AppTraffic;
use ekiden_config::names::AppName;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::clock::unix_ms;
use crate::desired::{
    AppWords, GUARDS, VERSIONS, VersionWords, app_key, guard_key, hold_key, maintenance_key, numbered_key,
    words, write,
};
use crate::dynos::InspectDoor;
use crate::election::{Elector, Role};
use crate::fleet::{Fleet, TooManyWatched, WATCHED_MAX};
use crate::plane::{AppEdit, AppsChange, stopped, verdict};
use crate::status::StatusCell;
use crate::store::{Revision, Store, Txn};
use judge::{Judgement, judge};

/// Time between two looks at what is watched.
const LOOK: Duration = Duration::from_millis(500);
/// What counts as before a change is the traffic of one to two of these.
pub(crate) const PERIOD: Duration = Duration::from_secs(30);
/// Longest wait for all workers to take what an app went back to.
const TAKEN_MAX: Duration = Duration::from_secs(5);
/// Apps whose traffic is remembered, at most; changes of others are not judged.
const APPS_MAX: usize = 10_000;
/// How long routers that are elsewhere tell of an app that nobody asks about any more.
const WATCH_LEASE: Duration = Duration::from_secs(30);
/// Longest wait for what they tell first.
const FIRST_TOLD_MAX: Duration = Duration::from_millis(2_500);
/// They tell every second: what they tell so long after a change is of requests that ended behind it.
const TOLD_LATE: Duration = Duration::from_millis(2_500);

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

/// What is known of an app before a guarded change of it.
#[derive(Debug, Clone)]
pub(crate) struct Prior {
    /// What it goes back to; none where it was not there.
    pub(crate) version: Option<u64>,
    /// What ended of it lately.
    pub(crate) before: Before,
}

/// How the apps of a change are guarded.
#[derive(Debug, Clone)]
pub(crate) struct GuardAsk {
    /// How long they are watched.
    pub(crate) time: Duration,
    /// Until when, in milliseconds since the Unix epoch.
    pub(crate) until_unix_ms: u64,
    /// What is known of each.
    pub(crate) prior: BTreeMap<AppName, Prior>,
}

impl GuardAsk {
    /// For a change that is made now.
    pub(crate) fn new(time: Duration, late: Duration, prior: BTreeMap<AppName, Prior>) -> Self {
        let ms = u64::try_from((time + late).as_millis()).unwrap_or(u64::MAX);
        Self { time, until_unix_ms: unix_ms().saturating_add(ms), prior }
    }

    /// The guard of this version of an app, for the transaction that makes the version; none where nothing is known of the app.
    pub(crate) fn words(&self, app: &AppName, version: u64) -> Option<GuardWords> {
        let Prior { version: back_to, before } = self.prior.get(app)?.clone();
        Some(GuardWords {
            state: GuardState::Watching,
            reason: "it is looked at".to_owned(),
            version,
            back_to,
            guard_ms: u64::try_from(self.time.as_millis()).unwrap_or(u64::MAX),
            until_unix_ms: self.until_unix_ms,
            before,
        })
    }
}

/// Traffic of apps, looked at from time to time.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    older: BTreeMap<AppName, AppTraffic>,
    newer: BTreeMap<AppName, AppTraffic>,
}

impl From<AppTraffic> for Before {
    fn from(AppTraffic { requests, errors, buckets, .. }: AppTraffic) -> Self {
        Self { requests, errors, buckets }
    }
}

impl Samples {
    /// Remembers what has ended so far.
    pub(crate) fn note(&mut self, mut now: BTreeMap<AppName, AppTraffic>) {
        while now.len() > APPS_MAX {
            now.pop_last();
        }
        self.older = std::mem::replace(&mut self.newer, now);
    }

    /// What ended of an app lately: within one to two of [`PERIOD`], when [`Samples::note`] is called that often.
    pub(crate) fn lately(&self, app: &AppName, now: &AppTraffic) -> AppTraffic {
        self.older.get(app).map_or_else(|| now.clone(), |older| now.since(older))
    }
}

/// What the guard of all apps needs, and what others ask of it. Cloning shares it.
#[derive(Debug, Clone)]
pub(crate) struct Guards {
    inspect: InspectDoor,
    /// Routers that are elsewhere: then they tell.
    fleet: Option<Fleet>,
    samples: Arc<Mutex<Samples>>,
    changed: Arc<Notify>,
}

impl Guards {
    /// Nothing is watched.
    pub(crate) fn new(inspect: InspectDoor, fleet: Option<Fleet>) -> Self {
        Self { inspect, fleet, samples: Arc::default(), changed: Arc::default() }
    }

    /// Whether it can be known here what becomes of requests.
    pub(crate) fn can_judge(&self) -> bool {
        self.fleet.is_some() || self.inspect.0.traffic().is_some()
    }

    fn now(&self) -> BTreeMap<AppName, AppTraffic> {
        match &self.fleet {
            Some(fleet) => fleet.traffic(),
            None => self.inspect.0.traffic().unwrap_or_default(),
        }
    }

    /// What ended of apps lately: asked for before a change of them. Waits a moment for routers that are elsewhere; those that
    /// have not told by then do not count.
    pub(crate) async fn before(&self, apps: &[AppName]) -> Result<BTreeMap<AppName, Before>, TooManyWatched> {
        if let Some(fleet) = &self.fleet {
            fleet.watch(apps.iter(), std::time::Instant::now() + WATCH_LEASE)?;
            let _some_are_late = timeout(FIRST_TOLD_MAX, fleet.all_told(apps)).await;
            return Ok(apps.iter().map(|app| (app.clone(), fleet.before(app).into())).collect());
        }
        let mut now = self.now();
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let mut one = |app: &AppName| samples.lately(app, &now.remove(app).unwrap_or_default()).into();
        Ok(apps.iter().map(|app| (app.clone(), one(app))).collect())
    }

    /// There may be something new to watch.
    pub(crate) fn wake(&self) {
        self.changed.notify_one();
    }

    /// From when on what has ended is what ended behind a change that is made now.
    pub(crate) fn late(&self) -> Duration {
        if self.fleet.is_some() { TOLD_LATE } else { Duration::ZERO }
    }

    /// Has these apps told of for some time more.
    fn keep<'a>(&self, apps: impl Iterator<Item = &'a AppName>) {
        if let Some(fleet) = &self.fleet
            && fleet.watch(apps, std::time::Instant::now() + WATCH_LEASE).is_err()
        {
            tracing::error!("more than {WATCHED_MAX} apps are guarded at once: some are not judged");
        }
    }

    /// Whether routers are asked to tell of anything.
    fn is_told(&self) -> bool {
        self.fleet.as_ref().is_some_and(|fleet| fleet.prune_watches(std::time::Instant::now()))
    }

    fn sample(&self) {
        // Routers that are elsewhere remember by themselves.
        if self.fleet.is_none() {
            let now = self.now();
            self.samples.lock().unwrap_or_else(PoisonError::into_inner).note(now);
        }
    }
}

/// An app that is looked at.
struct Watched {
    words: GuardWords,
    /// Of the stored words.
    revision: Revision,
    /// What had ended when the watch began.
    base: AppTraffic,
    /// Time that it is to be judged for yet: while it is not judged none of it passes.
    left: Duration,
    looked_at: Instant,
    /// What ended before this may have been of the version before.
    from: Instant,
    /// Its app was in maintenance or held at the last look.
    paused: bool,
    /// It should go back and cannot yet, which the log has.
    waits: bool,
}

impl Watched {
    /// What is known at this time; what is told is so late.
    fn note(&mut self, is_closed: bool, traffic: Option<&AppTraffic>, (now, late): (Instant, Duration)) {
        if is_closed || self.paused || now < self.from {
            self.base = traffic.cloned().unwrap_or_default();
        } else {
            let since = self.looked_at.max(self.from);
            self.left = self.left.saturating_sub(now.saturating_duration_since(since));
        }
        (self.looked_at, self.paused) = (now, is_closed);
        if is_closed {
            self.from = now + late;
        }
    }
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
            let is_idle = watched.is_empty() && !self.guards.is_told();
            let next = if is_idle { sample_at } else { sample_at.min(Instant::now() + LOOK) };
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
                // Whoever made a guarded change may be gone before it could say so.
                if self.leads() {
                    self.find(&mut watched, false);
                }
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
            let (looked_at, revision) = (Instant::now(), object.modified);
            let from = looked_at + self.guards.late();
            let (left, paused, waits) = (guard, false, false);
            watched.insert(app, Watched { words, revision, base, left, looked_at, from, paused, waits });
        }
        self.guards.keep(watched.keys());
    }

    async fn look(&self, watched: &mut BTreeMap<AppName, Watched>) {
        self.guards.keep(watched.keys());
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
        one.note(is_closed(&**store, app), now, (Instant::now(), self.guards.late()));
    }

    /// How a guard ends, if it does.
    fn judged(&self, app: &AppName, one: &Watched, now: Option<&AppTraffic>) -> Option<(GuardState, String)> {
        let store = self.store.as_ref()?;
        let is_there = store.get(&guard_key(app)).is_some_and(|object| object.modified == one.revision);
        let version = store.get(&app_key(app)).and_then(|object| words::<AppWords>(&object).ok());
        if !is_there || version.is_none_or(|words| words.version != one.words.version) {
            return Some((GuardState::Superseded, "another change of the app came first".to_owned()));
        }
        if one.paused || Instant::now() < one.from {
            return None;
        }
        let after = now.map(|now| now.since(&one.base)).unwrap_or_default();
        let Before { requests, errors, buckets } = one.words.before.clone();
        let before = AppTraffic { requests, errors, buckets, bounds_us: after.bounds_us.clone() };
        let over = one.left.is_zero();
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
            guard: None,
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
pub(crate) fn is_closed(store: &dyn Store, app: &AppName) -> bool {
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
