//! The store behind etcd, shared by several processes of which one leads and writes; all of them follow.
//!
//! ```text
//!  replica: range + watch --> objects in memory, who leads, the stamp
//!  lead:    lease --> leader key --> term --> role        (kept up three times in a lease)
//!  writer:  one transaction at a time: IF the leader key is mine AND the stamp is as I know it
//!                                      THEN the objects and a new stamp
//! ```
//! Keys under the prefix: `objects/KEY` (as in the journal), `leader` (held by a lease), `stamp` (changed by every transaction). The
//! stamp makes two things true: conditions may be judged in memory, since nothing was written meanwhile; and a transaction without an
//! answer is decided by the next one, since at most one of them finds the stamp as it was. A revision here is one of etcd.
//!
//! [`Prefix`] has no part in that: it follows keys that others write, on the runtime of its caller. The rest lives on a thread of its own, so that a control loop that is busy loses no lease, and one that is stuck does.

mod copy;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod gateway;
mod lead;
mod prefix;
mod replica;
#[cfg(test)]
mod tests;
mod words;
mod writer;

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ekiden_config::model::{Etcd as Words, EtcdMember};
use serde::{Deserialize, Serialize};
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot, watch};

use super::state::State;
use super::{Committing, Compacted, Event, Object, Page, Revision, Store, StoreError, Txn};
use crate::election::{Elector, Leader, Role};
pub(crate) use gateway::Places;
pub(crate) use prefix::{Prefix, Values};

/// Transactions that may wait for the writer; callers of further ones wait.
const WAITING_MAX: usize = 1024;
/// A control loop that is silent for so long is stuck: it loses its role.
const STUCK_MAX: Duration = Duration::from_secs(30);
/// Longest wait at a start for what etcd has.
const LOAD_WAIT: Duration = Duration::from_secs(3);
/// Longest wait for the thread to end, in which the lease is given back.
const ENDING_MAX: Duration = Duration::from_secs(2);

type Reply = oneshot::Sender<Result<Revision, StoreError>>;

/// How etcd is used. Made of the process file.
#[derive(Debug)]
pub(crate) struct Settings {
    places: Places,
    prefix: Arc<str>,
    lease: Duration,
    me: Leader,
}

impl Settings {
    /// As the process file says; `file` finds the path of an entry's file, `me` is this process for others.
    pub(crate) fn new(
        words: &Words,
        ca: Option<PathBuf>,
        identity: Option<(PathBuf, PathBuf)>,
        user: Option<(Arc<str>, PathBuf)>,
        me: Leader,
    ) -> Result<Self, String> {
        let members: Vec<EtcdMember> = words.members.clone();
        let places = Places { members, ca, identity, user };
        places.check()?;
        Ok(Self { places, prefix: Arc::clone(&words.prefix), lease: words.lease, me })
    }
}

/// Names of keys.
#[derive(Debug)]
struct Keys {
    all: String,
    objects: String,
    leader: String,
    stamp: String,
}

/// The leader key's value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct LeaderWords {
    /// Differs from try to try.
    id: String,
    #[serde(flatten)]
    leader: Leader,
}

/// What the replica knows beside objects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Known {
    /// All of etcd was read once.
    loaded: bool,
    /// Everything up to this revision is taken in.
    revision: u64,
    /// The stamp's revision; 0: there is none.
    stamp: u64,
    /// Who leads, and the revision that made the key.
    leader: Option<(u64, LeaderWords)>,
    /// Why etcd cannot be asked now.
    trouble: Option<String>,
}

/// A lease that makes this process lead.
#[derive(Debug)]
struct Tenure {
    /// The revision that made the leader key.
    key: u64,
    /// Milliseconds after [`Shared::epoch`] until which nobody else can lead.
    valid_ms: AtomicU64,
    /// Ends it early, with a reason.
    over: watch::Sender<Option<String>>,
}

#[derive(Debug)]
struct Shared {
    keys: Keys,
    state: Mutex<State>,
    newest: watch::Sender<Revision>,
    known: watch::Sender<Known>,
    tenure: watch::Sender<Option<Arc<Tenure>>>,
    role: watch::Sender<Role>,
    epoch: Instant,
    /// When the control loop was heard last, in milliseconds after the epoch.
    heard_ms: AtomicU64,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ms(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.epoch).as_millis()).unwrap_or(u64::MAX)
    }

    /// The tenure, if nobody else can lead yet.
    fn tenure(&self) -> Option<Arc<Tenure>> {
        let tenure = self.tenure.borrow().clone()?;
        (self.ms(Instant::now()) < tenure.valid_ms.load(Ordering::Acquire)).then_some(tenure)
    }

    fn is_stuck(&self) -> bool {
        let heard = Duration::from_millis(self.heard_ms.load(Ordering::Relaxed));
        self.epoch.elapsed().saturating_sub(heard) > STUCK_MAX
    }

    /// Why nothing can be written now.
    fn not_leading(&self) -> StoreError {
        let text = match &*self.role.borrow() {
            // The role is told behind the fact.
            Role::Leading { .. } => "its lease is over".to_owned(),
            Role::Following { reason, .. } => reason.clone(),
        };
        StoreError::NotLeading(text)
    }
}

/// A hold on the store, for those on its own thread.
#[derive(Debug, Clone)]
struct Handle {
    shared: Arc<Shared>,
    commits: mpsc::Sender<(Txn, Reply)>,
}

/// The store and the elector. Dropping it gives the lease back.
pub(crate) struct Etcd {
    handle: Handle,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
    /// Disconnected when the thread has ended.
    ended: Mutex<Receiver<()>>,
}

impl fmt::Debug for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Etcd").field("revision", &self.revision()).finish_non_exhaustive()
    }
}

impl Etcd {
    /// Starts following, and trying to lead. Returns when what etcd has is in memory; when it does not answer soon, with what a
    /// copy in `dir` has of an earlier time. Blocking.
    pub(crate) fn start(settings: Settings, dir: Option<PathBuf>) -> std::io::Result<Self> {
        let prefix = &settings.prefix;
        let keys = Keys {
            all: format!("{prefix}/"),
            objects: format!("{prefix}/objects/"),
            leader: format!("{prefix}/leader"),
            stamp: format!("{prefix}/stamp"),
        };
        let begun = Role::Following { leader: None, reason: "etcd was not asked yet".to_owned() };
        let shared = Arc::new(Shared {
            keys,
            state: Mutex::default(),
            newest: watch::Sender::new(0),
            known: watch::Sender::default(),
            tenure: watch::Sender::new(None),
            role: watch::Sender::new(begun),
            epoch: Instant::now(),
            heard_ms: AtomicU64::new(0),
        });
        let (outlet, inlet) = mpsc::channel(WAITING_MAX);
        let handle = Handle { shared: Arc::clone(&shared), commits: outlet };
        let (stop, stopped) = watch::channel(false);
        let (running, ended) = channel::<()>();
        let (tell, loaded) = channel::<()>();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let places = Arc::new(settings.places);
        let leading = lead::Lead::new(&places, handle.clone(), settings.lease, settings.me);
        let copying = dir.clone();
        let thread = thread::Builder::new().name("etcd".to_owned()).spawn(move || {
            let running = running;
            runtime.block_on(async {
                let writing = tokio::spawn(writer::write(Arc::clone(&shared), Arc::clone(&places), inlet));
                let following = tokio::spawn(replica::follow(
                    Arc::clone(&shared),
                    Arc::clone(&places),
                    settings.lease,
                    tell,
                ));
                let copying = copying.map(|dir| tokio::spawn(copy::keep(Arc::clone(&shared), dir)));
                leading.run(stopped).await;
                writing.abort();
                following.abort();
                copying.into_iter().for_each(|task| task.abort());
            });
            runtime.shutdown_timeout(Duration::from_millis(200));
            drop(running);
        })?;
        let this = Self { handle, stop, thread: Some(thread), ended: Mutex::new(ended) };
        if loaded.recv_timeout(LOAD_WAIT).is_err() {
            this.stand_in(dir);
        }
        Ok(this)
    }

    /// Takes the copy for what etcd has, until it answers.
    fn stand_in(&self, dir: Option<PathBuf>) {
        let found = dir.as_deref().and_then(copy::read);
        let mut state = self.handle.shared.state();
        if self.handle.shared.known.borrow().loaded {
            return;
        }
        match found {
            Some(copied) => {
                tracing::error!(
                    revision = copied.revision(),
                    "etcd does not answer; what it had when this process heard of it last is served"
                );
                *state = copied;
                let revision = state.revision();
                drop(state);
                self.handle.shared.newest.send_replace(revision);
            }
            None => tracing::error!(
                "etcd does not answer, and there is no copy of what it has; its part follows when it does"
            ),
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // When it takes longer, the lease runs out by itself.
        let _ = self.close();
        if let Some(thread) = self.thread.take()
            && thread.is_finished()
        {
            let _ = thread.join();
        }
    }
}

impl Store for Handle {
    fn revision(&self) -> Revision {
        self.shared.state().revision()
    }

    fn get(&self, key: &str) -> Option<Object> {
        self.shared.state().get(key)
    }

    fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Page {
        self.shared.state().list(prefix, after, limit)
    }

    fn commit(&self, txn: Txn) -> Committing {
        let (shared, outlet) = (Arc::clone(&self.shared), self.commits.clone());
        Box::pin(async move {
            if shared.tenure().is_none() {
                return Err(shared.not_leading());
            }
            let gone = || StoreError::Failed("the thread of etcd has ended".to_owned());
            let (reply, end) = oneshot::channel();
            outlet.send((txn, reply)).await.map_err(|_| gone())?;
            end.await.map_err(|_| gone())?
        })
    }

    fn events(&self, after: Revision, limit: usize) -> Result<Vec<Event>, Compacted> {
        self.shared.state().events(after, limit)
    }

    fn watch(&self) -> watch::Receiver<Revision> {
        self.shared.newest.subscribe()
    }

    fn bytes(&self) -> u64 {
        self.shared.state().live_bytes()
    }

    fn writes_max(&self) -> usize {
        words::WRITES_MAX
    }

    fn close(&self) -> bool {
        // Its owner closes it.
        false
    }
}

impl Store for Etcd {
    fn revision(&self) -> Revision {
        self.handle.revision()
    }

    fn get(&self, key: &str) -> Option<Object> {
        self.handle.get(key)
    }

    fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Page {
        self.handle.list(prefix, after, limit)
    }

    fn commit(&self, txn: Txn) -> Committing {
        self.handle.commit(txn)
    }

    fn events(&self, after: Revision, limit: usize) -> Result<Vec<Event>, Compacted> {
        self.handle.events(after, limit)
    }

    fn watch(&self) -> watch::Receiver<Revision> {
        self.handle.watch()
    }

    fn bytes(&self) -> u64 {
        self.handle.bytes()
    }

    fn writes_max(&self) -> usize {
        self.handle.writes_max()
    }

    fn close(&self) -> bool {
        self.stop.send_replace(true);
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        !matches!(ended.recv_timeout(ENDING_MAX), Err(RecvTimeoutError::Timeout))
    }
}

impl Elector for Etcd {
    fn role(&self) -> watch::Receiver<Role> {
        self.handle.shared.role.subscribe()
    }

    fn leads(&self) -> bool {
        self.handle.shared.tenure().is_some()
    }

    fn beat(&self) {
        let shared = &self.handle.shared;
        shared.heard_ms.store(shared.ms(Instant::now()), Ordering::Relaxed);
    }
}
