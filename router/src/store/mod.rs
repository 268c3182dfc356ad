//! Limits that routers share: one thread for each store tells it what was taken here and brings back what may be taken.
//!
//! Nothing here is waited for by a request. Workers spend what their accounts hold (`core::policy::limit`, `SharedLimit`) and ring
//! when the store is to hear of it; the thread collects, asks once for up to [`link::KEYS_MAX`] keys, and settles. Where the
//! store does not answer, accounts go on with this router's share of the rate, which is loud: log, metric, `GET /v1/status`.
//! When it is back, it is told what each account owes, so that nobody gets a fresh allowance.

mod link;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::Wake;
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ekiden_config::doors::StoreStatus;
use ekiden_config::model::{Limit, Model, StoreSource};
use ekiden_config::names::TrustName;
use ekiden_core::policy::limit::{Bell, Due, Limiter, SharedLimit};
use ekiden_core::table::Table;

use self::link::Link;
use crate::shared::Shared;

/// Least time between two questions.
const PAUSE: Duration = Duration::from_millis(2);
/// Time between two looks where nothing rings: leases that nobody uses are given back, and the router says that it is there.
const LOOK: Duration = Duration::from_secs(1);
/// Least and most time between two tries to reach a store.
const AGAIN: Duration = Duration::from_millis(100);
const AGAIN_MAX: Duration = Duration::from_secs(2);

/// The stores of the process.
#[derive(Debug)]
pub struct Stores {
    base: PathBuf,
    running: Mutex<BTreeMap<TrustName, Arc<Store>>>,
}

/// One store, and how it is with it.
#[derive(Debug)]
pub struct Store {
    /// Its name.
    pub name: TrustName,
    source: StoreSource,
    is_over: AtomicBool,
    is_up: AtomicBool,
    routers: AtomicU32,
    /// Questions that were answered.
    pub answered: AtomicU64,
    /// Questions and connects that were not.
    pub failed: AtomicU64,
    since: Mutex<(u64, String)>,
    thread: OnceLock<Thread>,
    /// The same, for whoever waits for its end.
    handle: Mutex<Option<JoinHandle<()>>>,
}

impl Stores {
    /// None yet. `base` is the directory that relative paths go by.
    pub fn new(base: PathBuf) -> Self {
        Self { base, running: Mutex::default() }
    }

    /// Begins and ends stores as a Model names them. Called by the swapper, after the table of the Model is stored.
    pub fn apply(&self, model: &Model, shared: &Arc<Shared>) {
        let sources = &model.trust.stores;
        let mut running = self.lock();
        let mut ended = BTreeMap::new();
        running.retain(|name, store| {
            let stays = sources.get(name) == Some(&store.source);
            store.is_over.store(!stays, Relaxed);
            if !stays {
                store.thread.get().into_iter().for_each(Thread::unpark);
                ended.insert(name.clone(), store.handle());
            }
            stays
        });
        for (name, source) in sources {
            if let Some(store) = running.get(name) {
                // It looks at the limits of the new table at once.
                store.thread.get().into_iter().for_each(Thread::unpark);
                continue;
            }
            let store = Arc::new(Store::new(name.clone(), source.clone()));
            let (for_thread, base, weak) = (Arc::clone(&store), self.base.clone(), Arc::downgrade(shared));
            // Not nicer than the workers, as other threads are: what it does late, limits are wrong by.
            let before = ended.remove(name).flatten();
            let run = move || {
                // The limits are told by one thread at a time, and the newest has the last word.
                let _panicked = before.map(JoinHandle::join);
                Errand::new(for_thread, &base).run(&weak);
            };
            match std::thread::Builder::new().name(format!("ekiden-store-{name}")).spawn(run) {
                Ok(handle) => {
                    let _set_once = store.thread.set(handle.thread().clone());
                    *store.handle.lock().unwrap_or_else(PoisonError::into_inner) = Some(handle);
                    running.insert(name.clone(), store);
                }
                Err(error) => tracing::error!(store = %name, "limits cannot be shared: {error}"),
            }
        }
    }

    /// All, by name.
    pub fn all(&self) -> Vec<Arc<Store>> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<TrustName, Arc<Store>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    fn new(name: TrustName, source: StoreSource) -> Self {
        Self {
            name,
            routers: AtomicU32::new(source.routers),
            source,
            is_over: AtomicBool::new(false),
            is_up: AtomicBool::new(false),
            answered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            since: Mutex::new((unix_ms(), "it has not been asked yet".to_owned())),
            thread: OnceLock::new(),
            handle: Mutex::default(),
        }
    }

    /// Its thread, to be waited for; given once.
    fn handle(&self) -> Option<JoinHandle<()>> {
        self.handle.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether it answers.
    pub fn is_up(&self) -> bool {
        self.is_up.load(Relaxed)
    }

    /// Routers that share it, as far as is known.
    pub fn routers(&self) -> u32 {
        self.routers.load(Relaxed)
    }

    /// How it is with it, for people.
    pub fn status(&self) -> StoreStatus {
        let (since_unix_ms, reason) = self.since.lock().unwrap_or_else(PoisonError::into_inner).clone();
        StoreStatus {
            name: self.name.as_str().to_owned(),
            state: if self.is_up() { "up" } else { "degraded" },
            reason,
            since_unix_ms,
            routers: self.routers(),
        }
    }

    fn note(&self, is_up: bool, reason: &str) {
        self.is_up.store(is_up, Relaxed);
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = (unix_ms(), reason.to_owned());
    }
}

/// A thread that waits.
struct Parked(Thread);

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// What the thread of one store works on.
struct Errand {
    store: Arc<Store>,
    password: Option<PathBuf>,
    bell: Arc<Bell>,
    /// Names this router at the store.
    id: String,
    /// How keys are hashed, as all routers do; none before the store was reached.
    seed: Option<[u64; 2]>,
    link: Option<Link>,
    /// The store was away: it is told what accounts owe, not what was taken.
    was_away: bool,
    try_at: Instant,
    again: Duration,
    looked_at: Option<Instant>,
    generation: u64,
    limits: Vec<(Arc<SharedLimit>, Limit)>,
}

impl Errand {
    fn new(store: Arc<Store>, base: &Path) -> Self {
        Self {
            password: store.source.password_file.as_ref().map(|file| base.join(file)),
            store,
            bell: Arc::new(Bell::new(Arc::new(Parked(std::thread::current())).into())),
            id: format!("{:016x}", fastrand::u64(..)),
            seed: None,
            link: None,
            was_away: true,
            try_at: Instant::now(),
            again: AGAIN,
            looked_at: None,
            generation: 0,
            limits: Vec::new(),
        }
    }

    /// Works until the store is no longer named, or the router is gone.
    fn run(mut self, shared: &Weak<Shared>) {
        loop {
            let Some(router) = shared.upgrade() else { break };
            if self.store.is_over.load(Relaxed) {
                break;
            }
            self.take_limits(&router.table.load());
            let started = router.started;
            drop(router);
            let wait = if self.limits.is_empty() { LOOK } else { self.turn(started) };
            std::thread::park_timeout(wait);
        }
        self.tell_limits(false);
    }

    /// The limits of the table in force that name this store.
    fn take_limits(&mut self, table: &Table) {
        if self.generation == table.generation.0 {
            return;
        }
        self.generation = table.generation.0;
        self.limits.clear();
        for limiter in limiters(table) {
            let Some(limit) = limiter.shared.as_ref().filter(|limit| limit.store == self.store.name) else {
                continue;
            };
            if !self.limits.iter().any(|(known, _)| Arc::ptr_eq(known, limit)) {
                self.limits.push((Arc::clone(limit), limiter.words.clone()));
            }
        }
        self.join();
        self.tell_limits(self.store.is_up());
    }

    fn join(&self) {
        for (limit, words) in &self.limits {
            limit.join(words, self.seed, self.store.routers(), &self.bell);
        }
    }

    fn tell_limits(&self, is_up: bool) {
        self.limits.iter().for_each(|(limit, _)| limit.set_up(is_up));
    }

    /// Asks once; gives how long to wait unless the bell rings.
    fn turn(&mut self, started: Instant) -> Duration {
        let now = Instant::now();
        if self.link.is_none() && now < self.try_at {
            return self.try_at - now;
        }
        match self.ask(started) {
            Ok(()) => {
                // What rang meanwhile has left its mark on the thread: the next wait is none.
                std::thread::sleep(PAUSE);
                LOOK
            }
            Err(reason) => {
                self.lose(&reason);
                self.again
            }
        }
    }

    fn ask(&mut self, started: Instant) -> Result<(), String> {
        let mut link = match self.link.take() {
            Some(link) => link,
            None => Link::open(&self.store.source, self.password.as_deref())?,
        };
        let looks = self.looked_at.is_none_or(|at| at.elapsed() >= LOOK);
        if looks || self.was_away {
            self.present(&mut link)?;
            self.looked_at = Some(Instant::now());
        }
        // Before the look: who rings from here on is seen, or wakes the thread again.
        self.bell.hear();
        let mut dues = Vec::new();
        for (limit, _) in &self.limits {
            let now_ns = elapsed_ns(started);
            limit.collect(now_ns, &mut |due| dues.push(due));
            if looks {
                limit.sweep(now_ns, &mut |due| dues.push(due));
            }
            let told = tell(&mut link, limit, &dues, self.was_away, started, &self.store);
            dues.clear();
            told?;
        }
        self.link = Some(link);
        if self.was_away {
            self.was_away = false;
            self.again = AGAIN;
            self.tell_limits(true);
            self.store.note(true, "it answers");
            let routers = self.store.routers();
            tracing::info!(store = %self.store.name, routers, "limits are shared");
        }
        Ok(())
    }

    /// Says that this router is there; learns how many are, and how they hash keys.
    fn present(&mut self, link: &mut Link) -> Result<(), String> {
        let own = self.seed.unwrap_or_else(|| [fastrand::u64(..), fastrand::u64(..)]);
        let (seed, routers) = link.present(own, &self.id)?;
        self.store.answered.fetch_add(1, Relaxed);
        if (self.seed, self.store.routers()) != (Some(seed), routers) {
            self.seed = Some(seed);
            self.store.routers.store(routers, Relaxed);
            self.join();
        }
        Ok(())
    }

    fn lose(&mut self, reason: &str) {
        self.link = None;
        self.store.failed.fetch_add(1, Relaxed);
        self.try_at = Instant::now() + self.again;
        self.again = (self.again * 2).min(AGAIN_MAX);
        self.tell_limits(false);
        // Loud once, not at each try.
        if !self.was_away || self.looked_at.is_none() {
            let share = self.store.routers();
            tracing::warn!(store = %self.store.name, "the store does not answer: {reason}; limits go on with 1/{share} of their rates");
            self.looked_at = Some(Instant::now());
        }
        self.was_away = true;
        self.store.note(false, reason);
    }
}

/// Tells the store, and settles what it answers. What it could not be told is put back.
fn tell(
    link: &mut Link,
    limit: &SharedLimit,
    dues: &[Due],
    was_away: bool,
    started: Instant,
    store: &Store,
) -> Result<(), String> {
    for (number, part) in dues.chunks(link::KEYS_MAX).enumerate() {
        match link.tell(limit, part, was_away) {
            Ok(answers) => {
                store.answered.fetch_add(1, Relaxed);
                let now_ns = elapsed_ns(started);
                for (due, (given, owed_ns)) in part.iter().zip(answers) {
                    limit.settle(due, given, owed_ns, now_ns);
                }
            }
            Err(reason) => {
                dues.iter().skip(number * link::KEYS_MAX).for_each(|due| limit.put_back(due));
                return Err(reason);
            }
        }
    }
    Ok(())
}

/// Every limit of a table; those of an app once for each of its routes.
fn limiters(table: &Table) -> impl Iterator<Item = &Limiter> {
    let of_listeners =
        table.listeners.iter().flat_map(|listener| listener.limits.iter()).flat_map(|all| all.list());
    let of_routes =
        table.routes().flat_map(|entry| entry.limits.iter()).flat_map(|all| all.lists()).flatten();
    of_listeners.chain(of_routes)
}

fn elapsed_ns(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}
