//! The control loop: the one owner of what is in force and the one user of the publisher.
//!
//! ```text
//!  watcher, SIGHUP, API reload --> build job  --+
//!  API mutations --> judge --> commit         --+--> merge touched clusters --> publish --> ticket
//!  DNS answers ---------------------------------+
//! ```
//! Files are built and the store is written on threads that may block; meanwhile the loop goes on. At most one
//! build and one commit of endpoints are under way; what arrives meanwhile waits in bounded queues and is taken together.

mod apps;
mod hold;
mod keys;
mod leading;
mod maintenance;
mod mutate;
mod placed;
mod publish;
mod reload;

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use ekiden_config::doors::{Publisher, Ticket};
use ekiden_config::model::{Endpoint, Model, Process};
use ekiden_config::names::AppName;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout_at};

pub(crate) use apps::{AppEdit, AppsChange, AppsDone, file_tag};
pub(crate) use hold::HeldApps;
pub(crate) use leading::Turns;
pub(crate) use maintenance::{ClosedApps, Look};
pub(crate) use mutate::{Change, IfMatch, Mutation, Put, not_durable, unwritten};
pub(crate) use placed::{push_name, pushed_place};
pub(crate) use publish::{View, ViewCell};
pub(crate) use publish::{follow, verdict};
pub(crate) use reload::{Reloaded, as_json, rendered};

use crate::api::ApiSettings;
use crate::clock::unix_ms;
use crate::desired::ApiApps;
use crate::desired::confirmed::Taken;
use crate::dns::asking::Asking;
use crate::dns::names::Names;
use crate::election::Elector;
use crate::fleet::Fleet;
use crate::last_good::Unsaved;
use crate::load::{Accepted, Attempt};
use crate::overlay::{ClusterKey, Dormant, Overlay};
use crate::own::Own;
use crate::placement::discovered::{Discovered, is_keys};
use crate::placement::discovering::Discovering;
use crate::placement::dues::Dues;
use crate::placement::part::Part;
use crate::placement::{Said, Word};
use crate::problem::Problem;
use crate::settings::Options;
use crate::sources::Sources;
use crate::status::StatusCell;
use crate::store::{Revision, Store};
use crate::tenure::Tenure;
use crate::watchdog::Pulse;

/// Mutations taken into one journal write and one publish.
const BATCH_MAX: usize = 1024;
/// Words of sources that are taken in together.
const WORDS_MAX: usize = 256;
/// Longest wait for the first answer of names nobody remembers, before the first publish.
const FIRST_ANSWERS: Duration = Duration::from_secs(1);

/// Who asked for a reload and waits for its end.
pub(crate) type ReloadReply = oneshot::Sender<Result<Reloaded, Problem>>;

/// What the one build under way was for.
pub(crate) enum Built {
    /// Files.
    Files(Box<Attempt>),
    /// Apps of the API.
    Apps(Box<apps::AppsBuilt>),
    /// What others wrote to the store.
    Followed(Box<leading::Followed>),
}

/// Everything the loop owns.
pub(crate) struct Plane {
    pub(crate) options: Options,
    pub(crate) accepted: Arc<Accepted>,
    pub(crate) tried: Option<Arc<Sources>>,
    pub(crate) overlay: Overlay,
    /// Apps owned by the API.
    pub(crate) apps: Arc<ApiApps>,
    pub(crate) names: Names,
    /// What keys of etcds say of clusters that name them.
    pub(crate) discovered: Discovered,
    pub(crate) discovering: Discovering,
    /// Endpoints that the Procfile's dynos are, by cluster.
    pub(crate) placed: BTreeMap<ClusterKey, Vec<Arc<Endpoint>>>,
    /// What was pushed through the API, by cluster.
    pub(crate) pushed: BTreeMap<ClusterKey, Part>,
    /// What has gone by confirmations that were written down.
    pub(crate) taken: Taken,
    /// When sources are to be looked at again, in milliseconds since the Unix epoch.
    pub(crate) due_ms: Option<u64>,
    /// The same of each part that was pushed.
    pub(crate) dues: Dues,
    /// Apps in maintenance.
    pub(crate) closed: ClosedApps,
    /// Apps whose requests wait.
    pub(crate) held: HeldApps,
    pub(crate) asking: Asking,
    /// What is published: the files' Model with DNS, API endpoints and drain marks.
    pub(crate) live: Arc<Model>,
    /// Endpoints written but not served, by cluster.
    pub(crate) dormant: BTreeMap<ClusterKey, Arc<[Dormant]>>,
    /// Clusters that hold each DNS name.
    pub(crate) clusters_of: BTreeMap<Arc<str>, BTreeSet<ClusterKey>>,
    pub(crate) own: Own,
    pub(crate) publisher: Box<dyn Publisher>,
    /// What the publisher was told last, when it wants words.
    pub(crate) words: BTreeMap<AppName, Arc<str>>,
    /// Follows the newest publish.
    pub(crate) ticket: Ticket,
    /// None when the run directory cannot be used: then no mutation can be made durable.
    pub(crate) store: Option<Arc<dyn Store>>,
    /// Marks that lost their endpoint, and what is left of deleted apps: to be taken out of the store with the next write, each with
    /// the revision at which that was so; none where it is this process's view alone.
    pub(crate) unmark: Vec<(crate::store::Record, Option<Revision>)>,
    /// That write is to begin without waiting for a change.
    pub(crate) unmark_due: bool,
    /// Apps deleted since the write under way began.
    pub(crate) deleted: BTreeSet<AppName>,
    /// Settings as of the start; a reload that differs is reported.
    pub(crate) started_with: Process,
    pub(crate) status: StatusCell,
    pub(crate) view: ViewCell,
    pub(crate) outlets: Outlets,
    /// Says who leads, where the store is shared.
    pub(crate) elector: Option<Arc<dyn Elector>>,
    /// This process may write; always so where the store is its own.
    pub(crate) leads: bool,
    /// It was leading, and what is in force was not read anew since.
    pub(crate) led: bool,
    /// What others wrote up to this revision is in force.
    pub(crate) seen: Revision,
    /// Routers elsewhere, which hear of a role only once it is taken on.
    pub(crate) fleet: Option<Fleet>,
    /// For whoever looks whether the loop lives.
    pub(crate) pulse: Pulse,
}

/// Where the loop's results go, besides the publisher.
pub(crate) struct Outlets {
    /// To the writer of the last good table.
    pub(crate) last_good: watch::Sender<Option<Unsaved>>,
    /// To the watcher: which directory to look at.
    pub(crate) apps_dir: watch::Sender<Option<std::path::PathBuf>>,
    /// To the API server.
    pub(crate) api: watch::Sender<ApiSettings>,
    /// To the follower of tickets.
    pub(crate) tickets: watch::Sender<Ticket>,
}

/// What the loop listens to.
pub(crate) struct Inlets {
    /// From the API.
    pub(crate) mutations: mpsc::Receiver<Mutation>,
    /// From the API: changes of apps.
    pub(crate) changes: mpsc::Receiver<AppsChange>,
    /// From the API and from `Control::reload`; None waits for nothing.
    pub(crate) reloads: mpsc::Receiver<Option<ReloadReply>>,
    /// From the watcher.
    pub(crate) changed: mpsc::Receiver<()>,
    /// From the API: an app's maintenance or hold may have changed.
    pub(crate) looks: mpsc::Receiver<Look>,
    /// From sources of placements.
    pub(crate) said: mpsc::Receiver<Said>,
    /// From the shared store.
    pub(crate) turns: Turns,
    /// What the loop does counts as long as this does.
    pub(crate) tenure: Tenure,
    /// Ends the loop when true, or when the sender is gone.
    pub(crate) stop: watch::Receiver<bool>,
    /// The API's real address, once bound: part of what is our own.
    pub(crate) bound: watch::Receiver<Option<ekiden_config::model::Address>>,
}

/// Work under way outside the loop, at most one of a kind.
struct Slot<T>(Option<tokio::task::JoinHandle<T>>);

impl<T> Slot<T> {
    fn is_free(&self) -> bool {
        self.0.is_none()
    }

    /// Waits for the work and frees the slot; waits for ever when there is none. Safe to drop and call again.
    /// `None` when the work panicked or was cancelled.
    async fn done(&mut self) -> Option<T> {
        match &mut self.0 {
            Some(work) => {
                let result = work.await;
                self.0 = None;
                result.ok()
            }
            None => pending().await,
        }
    }
}

impl Plane {
    /// Publishes the first table. Waits at most [`FIRST_ANSWERS`] for names without a remembered address.
    pub(crate) async fn open(&mut self, said: &mut mpsc::Receiver<Said>) -> Ticket {
        self.index_names();
        self.read_maintenance();
        self.read_holds();
        self.read_parts();
        let mut unknown: BTreeSet<Arc<str>> = self.clusters_of.keys().cloned().collect();
        for (name, known) in self.names.known() {
            if !known.is_empty() {
                unknown.remove(name);
            }
        }
        unknown.retain(|name| !is_keys(name) || self.discovered.is_unknown(name));
        let mut early = Vec::new();
        let deadline = Instant::now() + FIRST_ANSWERS;
        while !unknown.is_empty() {
            let Ok(Some(word)) = timeout_at(deadline, said.recv()).await else { break };
            match word {
                Said { word: Word::Records(told), .. } => {
                    unknown.remove(&told.name);
                    self.absorb(told);
                }
                Said { word: Word::Keys(followed), .. } => {
                    unknown.remove(&followed.name);
                    self.absorb_keys(followed);
                }
                other => early.push(other),
            }
        }
        // The files may have changed while nobody looked.
        self.prune_marks();
        self.tell_words();
        if !self.settle_all() {
            // An empty table is published too: the router waits for a first one.
            self.publish_always();
        }
        let touched = early.into_iter().flat_map(|word| self.hear(word)).collect();
        self.after_words(&touched);
        self.save();
        self.ticket.clone()
    }

    /// Runs until told to stop.
    pub(crate) async fn run(mut self, mut inlets: Inlets) {
        let mut building: Slot<Built> = Slot(None);
        let mut recording: Slot<()> = Slot(self.record_hosts());
        let mut waiting: Vec<ReloadReply> = Vec::new();
        let mut writing = Slot(None);
        let mut batch: Vec<Mutation> = Vec::new();
        loop {
            if !inlets.tenure.counts() {
                return;
            }
            self.beat();
            if self.unmark_due && self.leads && writing.is_free() {
                writing.0 = self.begin(Vec::new());
            }
            tokio::select! {
                () = stopped(&mut inlets.stop) => return,
                heard = inlets.turns.heard(building.is_free() && recording.is_free() && writing.is_free()) => {
                    building.0 = heard.and_then(|heard| self.take_turn(heard)).or(building.0.take());
                }
                count = inlets.mutations.recv_many(&mut batch, BATCH_MAX), if writing.is_free() => {
                    if count > 0 {
                        writing.0 = self.begin(std::mem::take(&mut batch));
                    }
                }
                written = writing.done() => self.finish(written),
                Some(first) = inlets.said.recv() => {
                    let mut touched = self.hear(first);
                    for _ in 0..WORDS_MAX {
                        let Ok(more) = inlets.said.try_recv() else { break };
                        touched.extend(self.hear(more));
                    }
                    self.after_words(&touched);
                }
                () = due(self.due_ms) => self.look_at_sources(),
                Some(look) = inlets.looks.recv() => self.look_at_maintenance(look),
                Some(()) = inlets.changed.recv(), if building.is_free() && recording.is_free() => building.0 = Some(self.build(false)),
                Some(reply) = inlets.reloads.recv(), if building.is_free() && recording.is_free() => {
                    waiting.extend(reply);
                    while let Ok(more) = inlets.reloads.try_recv() {
                        waiting.extend(more);
                    }
                    building.0 = Some(self.build(true));
                }
                Some(change) = inlets.changes.recv(), if building.is_free() && recording.is_free() => {
                    building.0 = self.begin_apps(change);
                }
                built = building.done() => match built {
                    Some(Built::Files(attempt)) => {
                        self.take(*attempt, std::mem::take(&mut waiting));
                        recording.0 = self.record_hosts();
                    }
                    Some(Built::Apps(built)) => self.finish_apps(*built),
                    Some(Built::Followed(followed)) => recording.0 = self.followed(*followed),
                    // Dropped replies are answered 503 by the API.
                    None => {
                        waiting.clear();
                        tracing::error!("building the configuration panicked; what serves goes on serving");
                    }
                },
                _ = recording.done() => {}
                Ok(()) = inlets.bound.changed() => {
                    let bound = inlets.bound.borrow_and_update().clone();
                    self.bound(bound);
                }
            }
        }
    }
}

/// Returns when the time has come; never without one.
async fn due(at_ms: Option<u64>) {
    match at_ms {
        Some(at_ms) => sleep(Duration::from_millis(at_ms.saturating_sub(unix_ms()))).await,
        None => pending().await,
    }
}

/// Returns when the value is true or nobody can set it any more.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone: stop as well.
    let _ = stop.wait_for(|stop| *stop).await;
}
