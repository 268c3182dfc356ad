//! Starting and stopping control: one thread with a single-threaded runtime of its own, off the workers.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ekiden_config::doors::{Inspect, Observations, Publisher, Ticket};
use ekiden_config::model::{Address, Endpoint, Model, Process};
use ekiden_config::names::{AppName, ClusterName};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::api::{self, Api, ApiSettings, Doors, Sockets, Tokens};
use crate::clock::unix_ms;
use crate::dns::Resolve;
use crate::dns::asking::{Asking, Told};
use crate::dns::system::SystemResolve;
use crate::dynos::{self, Board, Duties, DynoCounts};
use crate::election::{Alone, Elector, Leader, begin_term, has_past};
use crate::fleet::publisher::{FleetInspect, FleetPublisher};
use crate::fleet::roster::FleetMeters;
use crate::fleet::server::{self as fleet, Link};
use crate::fleet::{Fleet, Subscriptions};
use crate::last_good::{Unsaved, write_behind};
use crate::lasting::{Lasting, Peeked, Runs};
use crate::load::Loaded;
use crate::observed::heed;
use crate::overlay::{ClusterKey, Overlay};
use crate::own::Own;
use crate::placement::discovered::Followed;
use crate::placement::discovering::Discovering;
use crate::placement::{self, Channel, LastPlaced, Placed, PlacementSource, SAID_MAX, Said};
use crate::plane::{Inlets, Outlets, Plane, ReloadReply, Turns, ViewCell, follow, rendered};
use crate::rundir::{self, RunDir, RunDirError};
use crate::settings::{Options, has_side_listener};
use crate::status::{Election, Reload, Status, StatusCell};
use crate::store::etcd::{Etcd, Places, Settings as EtcdSettings};
use crate::store::{self, Journal, Object, Record, Revision, Store};
use crate::tenure::Tenure;
use crate::watch::watch;
use crate::watchdog::{After, LOOK_EVERY, Pulse, Watchdog, looks_in, watch_over};

/// Mutations that may wait for the loop; further ones wait in their connections.
const MUTATIONS_MAX: usize = 1024;
/// Changes of apps that may wait for the loop; further ones wait in their connections.
const CHANGES_MAX: usize = 256;
/// Changes of maintenance that may wait for the loop; further ones wait in their connections.
const LOOKS_MAX: usize = 64;
/// DNS answers that may wait; the tasks that bring them wait.
const ANSWERS_MAX: usize = 256;
/// Longest time that stopping waits for the last write.
const WRITE_MAX: Duration = Duration::from_secs(1);

/// Why control did not start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartError {
    /// Another process holds the run directory: always [`RunDirError::Locked`].
    InUse(RunDirError),
    /// The system gave no thread or no event queue; the text says why.
    NoThread(String),
    /// The run directory cannot be written, and control for other routers needs one; the text says why.
    RunDir(String),
    /// The link between control and routers cannot be as it is written; the text says why.
    Link(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::InUse(error) => error.fmt(f),
            StartError::NoThread(why) => write!(f, "control could not start its thread: {why}"),
            StartError::RunDir(why) | StartError::Link(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for StartError {}

/// A handle on the running control plane. Dropping it stops control; the table in force goes on serving.
#[derive(Debug)]
pub struct Control {
    first: Ticket,
    status: StatusReader,
    dynos: Option<dynos::Handle>,
    board: Option<Board>,
    runs: Arc<Runs>,
    fleet: Option<Fleet>,
    /// The looks that make a loop stuck.
    silent_max: u32,
    watchdog: Option<Watchdog>,
}

/// Where Models go.
struct Below {
    publisher: Box<dyn Publisher>,
    inspect: Arc<dyn Inspect>,
    observations: Observations,
    /// To routers elsewhere, over this link.
    fleet: Option<(Fleet, Link)>,
}

/// Reads control's status from any thread, also after control has stopped. Cheap to clone.
#[derive(Debug, Clone)]
pub struct StatusReader(StatusCell);

impl StatusReader {
    /// Of a cell.
    pub(crate) fn of(cell: StatusCell) -> Self {
        Self(cell)
    }

    /// The newest status.
    pub fn read(&self) -> Arc<Status> {
        self.0.read()
    }
}

/// Reads counts of the fleet from any thread. Cheap to clone.
#[derive(Debug, Clone)]
pub struct FleetReader(Option<Fleet>);

impl FleetReader {
    /// The newest counts; none where the data path is in this process.
    pub fn read(&self) -> Option<FleetMeters> {
        self.0.as_ref().map(Fleet::meters)
    }
}

impl Control {
    /// Starts control on what [`crate::load()`] found, and returns when the first table is handed to the publisher
    /// and the API's address was tried: at once, or at most a second later when DNS names have to be asked first. A run directory that cannot be
    /// used is loud and leaves control without durability; one that another process holds is an error.
    pub fn start(
        loaded: Loaded,
        publisher: Box<dyn Publisher>,
        inspect: Arc<dyn Inspect>,
        observations: Observations,
    ) -> Result<Self, StartError> {
        let resolve = Arc::new(SystemResolve::new(loaded.options.resolver));
        let below = Below { publisher, inspect, observations, fleet: None };
        let mut this = Self::begin(loaded, Some(below), resolve)?;
        let runs = Arc::clone(&this.runs);
        this.watch_over(move || runs.restart())?;
        Ok(this)
    }

    /// Starts control without a data path: it publishes to routers that connect to it. The run directory is needed, for the term. When
    /// control's loop is stuck, `stuck` is called on a thread of its own: whoever holds the lead and does nothing must end, so that
    /// another one may take it.
    pub fn start_alone(loaded: Loaded, stuck: impl Fn() + Send + 'static) -> Result<Self, StartError> {
        let resolve = Arc::new(SystemResolve::new(loaded.options.resolver));
        let mut this = Self::begin(loaded, None, resolve)?;
        this.watch_over(move || {
            stuck();
            After::Done
        })?;
        Ok(this)
    }

    fn watch_over(&mut self, stuck: impl FnMut() -> After + Send + 'static) -> Result<(), StartError> {
        let looks = (LOOK_EVERY, self.silent_max);
        self.watchdog = Some(watch_over(self.runs.pulse(), looks, stuck).map_err(no_thread)?);
        Ok(())
    }

    /// As [`Control::start`], with another source of DNS answers and nothing observed. For tests and embedders.
    pub fn start_with(
        loaded: Loaded,
        publisher: Box<dyn Publisher>,
        inspect: Arc<dyn Inspect>,
        resolve: Arc<dyn Resolve>,
    ) -> Result<Self, StartError> {
        let observations = Observations::default();
        Self::begin(loaded, Some(Below { publisher, inspect, observations, fleet: None }), resolve)
    }

    fn begin(loaded: Loaded, below: Option<Below>, resolve: Arc<dyn Resolve>) -> Result<Self, StartError> {
        let status = StatusCell::default();
        let mut loaded = loaded;
        for (name, places) in discoveries(&loaded) {
            places
                .check()
                .map_err(|why| StartError::Link(format!("[discovery.{name}] cannot be used: {why}")))?;
        }
        let state = State::open(&loaded, &status)?;
        if let Some(store) = &state.store {
            loaded.refresh(&**store);
        }
        let runtime = Builder::new_current_thread().enable_all().build().map_err(no_thread)?;
        let below = match below {
            Some(below) => below,
            None => runtime.block_on(towards_routers(&loaded, &state))?,
        };
        let Below { publisher, inspect, observations, fleet: link } = below;
        let fleet = link.as_ref().map(|(fleet, _)| fleet.clone());
        let place =
            || Some(ClusterKey { app: AppName::default_app(), cluster: ClusterName::new(dynos::WEB).ok()? });
        let board = loaded.options.procfile.as_ref().and_then(|_| place()).map(Board::new);
        loaded.start_dyno_thread().map_err(no_thread)?;
        let (dyno_thread, silent_max) = (loaded.dynos.take(), looks_in(loaded.process().control_stuck_after));
        let lasting = Lasting {
            options: loaded.options.clone(),
            started_with: loaded.process().clone(),
            publisher: Arc::new(Mutex::new(publisher)),
            inspect: Arc::clone(&inspect),
            observations,
            resolve,
            status: status.clone(),
            sockets: Sockets::default(),
            run_dir: state.run_dir.clone(),
            board: board.clone(),
            last: LastPlaced::default(),
            peeked: state.peeked(&loaded),
        };
        let duties = loaded.options.procfile.clone().zip(board.clone());
        let (drain_timeout, last) = (loaded.process().drain_timeout, lasting.last.clone());
        let run_dir = state.run_dir.as_ref().map(|dir| dir.path().to_owned());
        let launched = lasting.launch(Tenure::default(), (loaded, state), (link, None), runtime);
        let (run, opened) = launched.map_err(no_thread)?;
        let first =
            opened.recv().map_err(|_| StartError::NoThread("it ended at once; see the log".to_owned()))?;
        let runs = Arc::new(Runs::begin(lasting, run));
        let duties = duties.map(|(run, board)| {
            let (inspect, turns) = (dynos::InspectDoor(inspect), runs.turns());
            let above = turns.borrow().clone();
            Duties { run, run_dir, above, turns, last, inspect, board, drain_timeout }
        });
        let dynos = dyno_thread.zip(duties).map(|(thread, duties)| thread.begin(duties));
        let status = StatusReader(status);
        Ok(Self { first, status, dynos, board, runs, fleet, silent_max, watchdog: None })
    }

    /// Its runtimes.
    #[cfg(test)]
    pub(crate) fn runs(&self) -> &Runs {
        &self.runs
    }

    /// Follows the first publish.
    pub fn first(&self) -> &Ticket {
        &self.first
    }

    /// What control says about itself now.
    pub fn status(&self) -> Arc<Status> {
        self.status.read()
    }

    /// A reader of the status that can be handed to telemetry.
    pub fn status_reader(&self) -> StatusReader {
        self.status.clone()
    }

    /// Counts of the fleet, for telemetry; the reader gives none where the data path is in this process.
    pub fn fleet_reader(&self) -> FleetReader {
        FleetReader(self.fleet.clone())
    }

    /// Reads the files again, also when nothing seems to have changed, and the token file too. Returns at once; how
    /// it went is in the log and in [`Status::last_reload`]. With a Procfile this is a new release too. For SIGHUP.
    pub fn reload(&self) {
        self.runs.reload();
        if let Some(dynos) = &self.dynos {
            dynos.deploy();
        }
    }

    /// The Procfile's dynos in numbers; none when there is no Procfile. The reader can be handed to telemetry.
    pub fn dyno_counts(&self) -> impl Fn() -> DynoCounts + Send + Sync + 'static {
        let board = self.board.clone();
        move || board.as_ref().map(Board::counts).unwrap_or_default()
    }

    /// Ends the Procfile's dynos, if there are any: SIGTERM, and SIGKILL when their time is over or `now` says so. Blocking.
    pub fn end_dynos(&mut self, now: impl Fn() -> bool) {
        if let Some(dynos) = &mut self.dynos {
            dynos.end(now);
        }
    }

    /// Stops control: open API requests are answered, the last good table is written, the run directory is given
    /// back. Takes at most about 3 s.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // What ends is not stuck.
        self.watchdog = None;
        self.end_dynos(|| false);
        self.runs.end();
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.end();
    }
}

fn no_thread(error: io::Error) -> StartError {
    StartError::NoThread(error.to_string())
}

/// The doors towards routers elsewhere. The term of this process is durable before anyone hears of it.
async fn towards_routers(loaded: &Loaded, state: &State) -> Result<Below, StartError> {
    let store = state.store.as_deref().ok_or_else(|| {
        let why = "control for other routers needs a run directory that can be written; use --run-dir";
        StartError::RunDir(why.to_owned())
    })?;
    let built = &loaded.accepted.built;
    let mut link = Link::new(&built.process.fleet, &built.model.trust, loaded.base_dir());
    link.check()
        .map_err(|why| StartError::Link(format!("the certificates of [fleet] cannot be used: {why}")))?;
    let subscriptions = Subscriptions::new(&built.process.fleet.subscriptions);
    let fleet = match &state.elector {
        // Nobody is let in before control's loop has taken the role on.
        Some(elector) => Fleet::new(Arc::clone(elector), subscriptions),
        None => {
            let term = begin_term(store, unix_ms()).await.map_err(|error| {
                StartError::RunDir(format!("the term of this control cannot be written down: {error}"))
            })?;
            let alone: Arc<dyn Elector> = Arc::new(Alone::new(term));
            let fleet = Fleet::new(Arc::clone(&alone), subscriptions);
            fleet.take(&alone.role().borrow(), has_past(store));
            fleet
        }
    };
    Ok(Below {
        publisher: Box::new(FleetPublisher::new(fleet.clone())),
        inspect: Arc::new(FleetInspect(fleet.clone())),
        observations: Observations::default(),
        fleet: Some((fleet, link)),
    })
}

/// What is kept on disk, as far as it can be.
pub(crate) struct State {
    /// Held until control ends; None when it cannot be used.
    run_dir: Option<RunDir>,
    pub(crate) store: Option<Arc<dyn Store>>,
    /// Where the store is shared.
    elector: Option<Arc<dyn Elector>>,
    overlay: Overlay,
    /// The overlay, and all that is read later, has at least this of the store that is shared.
    seen: Option<Revision>,
}

impl State {
    /// For one more runtime of a process that has the run directory already. Where a start would go on without a journal this fails: what
    /// serves is more than what could be read. Without a run directory there is `overlay`, as it serves.
    pub(crate) fn again(
        loaded: &Loaded,
        status: &StatusCell,
        (run_dir, overlay): (Option<RunDir>, Overlay),
    ) -> Result<Self, String> {
        let mut state = State { run_dir: None, store: None, elector: None, overlay, seen: None };
        if let Some(run_dir) = run_dir {
            let journal = if loaded.process().etcd.is_some() { None } else { Some(journal(&run_dir)) };
            state.take(run_dir, journal.transpose().map_err(|error| error.to_string())?, status);
        }
        state.shared(loaded, status).map_err(|error| error.to_string())
    }

    /// What serves of a run directory that cannot be used.
    fn peeked(&self, loaded: &Loaded) -> Option<Peeked> {
        let is_all = self.run_dir.is_none() && loaded.process().etcd.is_none();
        is_all.then(|| Peeked { overlay: self.overlay.clone(), apps: Arc::clone(&loaded.api) })
    }

    fn open(loaded: &Loaded, status: &StatusCell) -> Result<Self, StartError> {
        let mut state =
            State { run_dir: None, store: None, elector: None, overlay: Overlay::default(), seen: None };
        let Some(path) = loaded.settings().run_dir.as_deref() else {
            let why = "neither STATE_DIRECTORY, XDG_STATE_HOME nor HOME is set; use --run-dir";
            tracing::error!("nothing is durable: {why}");
            status.update(|status| status.run_dir_error = Some(why.to_owned()));
            return state.shared(loaded, status);
        };
        let opened = RunDir::open(path).and_then(|run_dir| {
            if loaded.process().etcd.is_some() {
                return Ok((run_dir, None));
            }
            let journal = journal(&run_dir)?;
            Ok((run_dir, Some(journal)))
        });
        match opened {
            Err(error @ RunDirError::Locked { .. }) => return Err(StartError::InUse(error)),
            Err(error @ RunDirError::Unusable { .. }) => {
                tracing::error!(%error, "nothing is durable: no last good table, and the API changes nothing");
                status.update(|status| status.run_dir_error = Some(error.to_string()));
                // What it can still be read of goes on serving.
                if loaded.process().etcd.is_none() {
                    state.overlay = peeked(path, status);
                }
            }
            Ok((run_dir, journal)) => {
                leave_pointer(&loaded.options, loaded.process(), run_dir.path());
                state.take(run_dir, journal, status);
            }
        }
        state.shared(loaded, status)
    }

    fn take(&mut self, run_dir: RunDir, journal: Option<(Journal, Option<String>)>, status: &StatusCell) {
        status.update(|status| status.run_dir = Some(run_dir.path().display().to_string()));
        if let Some((journal, loud)) = journal {
            if let Some(loud) = &loud {
                tracing::error!("{loud}");
            }
            status.update(|status| {
                status.journal_bytes = journal.bytes();
                status.journal_error = loud;
            });
            self.overlay = overlay(&journal);
            self.store = Some(Arc::new(journal));
        }
        self.run_dir = Some(run_dir);
    }

    /// With the store that is shared, if the file names one.
    fn shared(mut self, loaded: &Loaded, status: &StatusCell) -> Result<Self, StartError> {
        let Some(settings) = etcd_settings(loaded).map_err(StartError::Link)? else { return Ok(self) };
        let dir = self.run_dir.as_ref().map(|dir| dir.path().to_owned());
        let etcd = Arc::new(Etcd::start(settings, dir).map_err(no_thread)?);
        let reason = Some("the start is not over yet".to_owned());
        status.update(|status| {
            let since_unix_ms = unix_ms();
            status.election = Some(Election { since_unix_ms, reason, ..Election::default() });
        });
        // Before anything is read: what is written from here on is heard of.
        self.seen = Some(etcd.revision());
        self.overlay = overlay(&*etcd);
        self.elector = Some(Arc::clone(&etcd) as Arc<dyn Elector>);
        self.store = Some(etcd);
        Ok(self)
    }
}

/// The journal of a run directory, and what a person must hear of it.
fn journal(run_dir: &RunDir) -> Result<(Journal, Option<String>), RunDirError> {
    Journal::open_held(run_dir.path(), Some(run_dir.lock())).map_err(|error| RunDirError::Unusable {
        dir: run_dir.path().to_owned(),
        reason: format!("its journal cannot be opened: {error}"),
    })
}

/// How the shared store is used, by the process file. The error says why it cannot be.
fn etcd_settings(loaded: &Loaded) -> Result<Option<EtcdSettings>, String> {
    let Some(words) = &loaded.process().etcd else { return Ok(None) };
    if loaded.has_procfile() {
        let why =
            "the dynos of a Procfile belong to one machine: leave [etcd] out, or run them by something else";
        return Err(why.to_owned());
    }
    let (base, trust) = (loaded.base_dir(), &loaded.model().trust);
    let ca = words.ca.as_ref().and_then(|name| trust.authorities.get(name));
    let identity = words.identity.as_ref().and_then(|name| trust.identities.get(name));
    let me = Leader {
        name: match &words.name {
            Some(name) => name.to_string(),
            None => format!("{}-{}", crate::fleet::machine(), std::process::id()),
        },
        api: match (&words.api, &loaded.settings().control) {
            (Some(api), _) => Some(api.to_string()),
            (None, Some(Address::Tcp(address))) => Some(format!("http://{address}")),
            (None, Some(unix @ Address::Unix(_))) => Some(unix.to_string()),
            (None, None) => None,
        },
    };
    let settings = EtcdSettings::new(
        words,
        ca.map(|ca| base.join(&ca.file)),
        identity.map(|identity| (base.join(&identity.pair.cert), base.join(&identity.pair.key))),
        words.user.as_ref().map(|(user, file)| (Arc::clone(user), base.join(file))),
        me,
    );
    settings.map(Some).map_err(|why| format!("[etcd] cannot be used: {why}"))
}

/// Etcds that hold endpoints, by name, as the process file says.
fn discoveries(loaded: &Loaded) -> BTreeMap<String, Arc<Places>> {
    let (base, trust) = (loaded.base_dir(), &loaded.model().trust);
    let all = loaded.process().discoveries.iter().map(|(name, words)| {
        let ca = words.ca.as_ref().and_then(|name| trust.authorities.get(name));
        let identity = words.identity.as_ref().and_then(|name| trust.identities.get(name));
        let places = Places {
            members: words.members.clone(),
            ca: ca.map(|ca| base.join(&ca.file)),
            identity: identity.map(|one| (base.join(&one.pair.cert), base.join(&one.pair.key))),
            user: words.user.as_ref().map(|(user, file)| (Arc::clone(user), base.join(file))),
        };
        (name.to_string(), Arc::new(places))
    });
    all.collect()
}

/// What the store has of endpoints and drain marks.
pub(crate) fn overlay(store: &dyn Store) -> Overlay {
    let mut overlay = Overlay::default();
    for prefix in [store::ENDPOINTS, store::MARKS] {
        lay(&mut overlay, &store.list(prefix, None, usize::MAX).objects);
    }
    overlay
}

/// As [`overlay`], of a journal that can only be read.
fn peeked(dir: &Path, status: &StatusCell) -> Overlay {
    let mut overlay = Overlay::default();
    for prefix in [store::ENDPOINTS, store::MARKS] {
        match store::peek(dir, prefix) {
            Ok(objects) => lay(&mut overlay, &objects),
            Err(error) => {
                let kind = prefix.trim_end_matches('/');
                let why = format!("{kind} of the journal in {} are not served: {error}", dir.display());
                tracing::error!("{why}");
                status.update(|status| status.journal_error = Some(why));
            }
        }
    }
    overlay
}

/// Takes stored objects in. One that cannot be read is left where it is, loudly.
fn lay(overlay: &mut Overlay, objects: &[Object]) {
    for object in objects {
        match Record::read(object) {
            Ok(record) => record.iter().for_each(|record| overlay.apply(record)),
            Err(error) => tracing::error!(key = %object.key, %error, "an object of the store cannot be read"),
        }
    }
}

/// When the file names the run directory, leaves word of it where a start without a readable file looks.
pub(crate) fn leave_pointer(options: &Options, process: &Process, real: &Path) {
    if options.run_dir.is_some() || process.run_dir.is_none() {
        return;
    }
    if let Some(default) = rundir::default_run_dir(&options.file)
        && let Err(error) = rundir::point(&default, &rundir::absolute(real))
    {
        tracing::warn!(%error, dir = %default.display(), "the place of the run directory could not be noted");
    }
}

/// Everything that moves to control's thread.
pub(crate) struct Start {
    pub(crate) loaded: Loaded,
    pub(crate) state: State,
    pub(crate) publisher: Box<dyn Publisher>,
    pub(crate) inspect: Arc<dyn Inspect>,
    pub(crate) observations: Observations,
    /// Routers elsewhere, over this link.
    pub(crate) fleet: Option<(Fleet, Link)>,
    pub(crate) resolve: Arc<dyn Resolve>,
    pub(crate) status: StatusCell,
    pub(crate) reloads: mpsc::Sender<Option<ReloadReply>>,
    pub(crate) reload_inlet: mpsc::Receiver<Option<ReloadReply>>,
    pub(crate) stopped: watch::Receiver<bool>,
    pub(crate) first: SyncSender<Ticket>,
    /// Gets what is in force.
    pub(crate) saving: watch::Sender<Option<Unsaved>>,
    pub(crate) placed: mpsc::Receiver<Placed>,
    /// What dynos had placed before this runtime began.
    pub(crate) placed_before: BTreeMap<ClusterKey, Vec<Arc<Endpoint>>>,
    pub(crate) board: Option<Board>,
    pub(crate) pulse: Pulse,
    pub(crate) tenure: Tenure,
    pub(crate) sockets: Sockets,
}

/// Says in the status that control has ended, however it ended.
struct Running(StatusCell);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.update(|status| status.running = false);
    }
}

/// The receiving ends that tasks beside the loop take.
struct Tasks {
    last_good: watch::Receiver<Option<Unsaved>>,
    apps_dir: watch::Receiver<Option<std::path::PathBuf>>,
    api: watch::Receiver<ApiSettings>,
    tickets: watch::Receiver<Ticket>,
}

/// Waits for a task that may not be there; one that panicked has ended too.
async fn await_last<T>(task: Option<tokio::task::JoinHandle<T>>) {
    if let Some(task) = task {
        let _ = task.await;
    }
}

impl Start {
    /// Runs to its end, on the thread of the caller.
    pub(crate) fn run(self, runtime: Runtime) {
        self.first_status();
        runtime.block_on(self.serve());
        // A write stuck in the disk must not keep the process from ending.
        runtime.shutdown_timeout(Duration::from_millis(500));
    }

    async fn serve(self) {
        // The other fields are taken where they are used.
        let Start { loaded, state, status, stopped, tenure, .. } = self;
        let State { run_dir, store, elector, overlay, seen } = state;
        let (told_outlet, told) = mpsc::channel::<Told>(ANSWERS_MAX);
        let (keys_outlet, keys) = mpsc::channel::<Followed>(ANSWERS_MAX);
        let (push_outlet, mut said) = follow_sources(told, keys, self.placed);
        let (mutation_outlet, mutations) = mpsc::channel(MUTATIONS_MAX);
        let (change_outlet, changes) = mpsc::channel(CHANGES_MAX);
        let (look_outlet, looks) = mpsc::channel(LOOKS_MAX);
        let (changed_outlet, changed) = mpsc::channel(1);
        let (bound_outlet, bound) = watch::channel(None);
        let view = ViewCell::new();
        let (look, file) = (loaded.look.clone(), loaded.options.file.clone());
        let (fleet, link) = self.fleet.unzip();
        let (outlets, tasks) = outlets(&loaded, self.saving);
        let asking = Asking::new(self.resolve, told_outlet);
        let discovering = Discovering::new(discoveries(&loaded), keys_outlet);
        let api_store = store.clone();
        let who = (asking, discovering);
        let mut plane = plane(loaded, store, (overlay, seen), self.publisher, who, outlets, (&status, &view));
        plane.placed = self.placed_before;
        let turns = go_by(&mut plane, elector.clone(), fleet.clone(), self.pulse);
        let ticket = plane.open(&mut said).await;
        let mut tried = bound.clone();
        let doors = Doors {
            mutations: mutation_outlet,
            changes: change_outlet,
            looks: look_outlet,
            said: push_outlet,
            reloads: self.reloads,
            view,
            inspect: self.inspect,
            status: status.clone(),
            store: api_store,
            board: self.board,
            stopped: stopped.clone(),
            fleet: fleet.clone(),
            elector,
            socket: (self.sockets, tenure.clone()),
        };
        let api = Arc::new(Api::new(doors, run_dir.as_ref().map(RunDir::path)));
        tokio::spawn(watch(file, tasks.apps_dir, look, changed_outlet));
        tokio::spawn(follow(tasks.tickets, status.clone()));
        tokio::spawn(heed(self.observations, status.clone(), stopped.clone()));
        tokio::spawn(api.watcher().run(stopped.clone()));
        let server = tokio::spawn(api::serve(api, tasks.api, bound_outlet, stopped.clone()));
        // Whoever hears that this process serves may ask the API at once: it is bound by then, or loudly is not.
        let _ = tried.changed().await;
        let links = open_links(fleet.zip(link), &stopped).await;
        // The starter waits for this; if it does not any more, the stop flag is on its way.
        let _ = self.first.send(ticket);
        let writer = run_dir.as_ref().map(|run_dir| {
            let by = (status.clone(), tenure.clone());
            tokio::spawn(write_behind(run_dir.path().to_owned(), tasks.last_good, by))
        });
        let (stop_loop, stop) = watch::channel(false);
        let reloads = self.reload_inlet;
        let inlets = Inlets { mutations, changes, reloads, looks, said, changed, turns, tenure, stop, bound };
        let looping = tokio::spawn(looped(plane, inlets, Running(status)));
        // The loop goes on while the server answers its last requests. Panics of tasks end those tasks only.
        let _ = server.await;
        await_last(links).await;
        stop_loop.send_replace(true);
        let _ = looping.await;
        let _ = timeout(WRITE_MAX, await_last(writer)).await;
    }

    fn first_status(&self) {
        let Loaded { accepted, stale, diagnostics, .. } = &self.loaded;
        self.status.update(|status| {
            status.running = true;
            status.file = self.loaded.options.file.display().to_string();
            status.stale = stale.is_some();
            status.stale_reason.clone_from(stale);
            status.source_hash = accepted.sources.hash();
            status.refused_apps = accepted.refused.iter().map(ToString::to_string).collect();
            status.last_reload = Some(Reload {
                ok: stale.is_none(),
                unix_ms: unix_ms(),
                summary: stale.clone().unwrap_or_else(|| "first load".to_owned()),
                diagnostics: rendered(diagnostics),
            });
        });
        if let Some(stale) = stale {
            tracing::error!("{stale}");
        }
    }
}

/// Follows all sources of placements: where what is pushed is said, and where the loop hears them.
fn follow_sources(
    told: mpsc::Receiver<Told>,
    keys: mpsc::Receiver<Followed>,
    placed: mpsc::Receiver<Placed>,
) -> (mpsc::Sender<Said>, mpsc::Receiver<Said>) {
    let (outlet, said) = mpsc::channel::<Said>(SAID_MAX);
    let (push_outlet, pushed) = mpsc::channel::<Said>(SAID_MAX);
    let sources: [Box<dyn PlacementSource>; 4] = [
        Box::new(Channel::new(told, Told::said)),
        Box::new(Channel::new(keys, Followed::said)),
        Box::new(Channel::new(placed, Placed::said)),
        Box::new(Channel::new(pushed, |said| said)),
    ];
    for source in sources {
        placement::follow(source, outlet.clone());
    }
    (push_outlet, said)
}

/// Runs the loop to its end, and says in the status that it has ended.
async fn looped(plane: Plane, inlets: Inlets, running: Running) {
    plane.run(inlets).await;
    drop(running);
}

/// Tells the loop who leads, where the store is shared; what it hears of that is answered.
fn go_by(plane: &mut Plane, elector: Option<Arc<dyn Elector>>, fleet: Option<Fleet>, pulse: Pulse) -> Turns {
    let turns = Turns::new(elector.as_ref(), plane.store.as_ref());
    plane.leads = elector.is_none();
    (plane.elector, plane.fleet, plane.pulse) = (elector, fleet, pulse);
    turns
}

/// Serves routers elsewhere, if there is a link for them; returns once its address was tried.
async fn open_links(
    link: Option<(Fleet, Link)>,
    stopped: &watch::Receiver<bool>,
) -> Option<tokio::task::JoinHandle<()>> {
    let (fleet, link) = link?;
    let (outlet, mut bound) = watch::channel(None);
    let serving = tokio::spawn(fleet::serve(fleet, link, outlet, stopped.clone()));
    let _ = bound.changed().await;
    Some(serving)
}

fn outlets(loaded: &Loaded, saving: watch::Sender<Option<Unsaved>>) -> (Outlets, Tasks) {
    let process = loaded.process();
    let mut settings = ApiSettings { hosts: process.control_hosts.clone(), ..ApiSettings::default() };
    let token = Tokens::read(&loaded.options.file, process.control_token_file.as_deref());
    settings.renew(loaded.settings().control.clone(), token, has_side_listener(loaded.model()));
    let last_good = saving.subscribe();
    let (apps_dir_outlet, apps_dir) = watch::channel(loaded.accepted.built.apps_dir.clone());
    let (api_outlet, api) = watch::channel(settings);
    let (tickets_outlet, tickets) = watch::channel(Ticket::new());
    let outlets =
        Outlets { last_good: saving, apps_dir: apps_dir_outlet, api: api_outlet, tickets: tickets_outlet };
    (outlets, Tasks { last_good, apps_dir, api, tickets })
}

fn plane(
    loaded: Loaded,
    store: Option<Arc<dyn Store>>,
    (overlay, seen): (Overlay, Option<Revision>),
    publisher: Box<dyn Publisher>,
    (asking, discovering): (Asking, Discovering),
    outlets: Outlets,
    (status, view): (&StatusCell, &ViewCell),
) -> Plane {
    let own = Own(loaded.own_addresses());
    let seen = seen.or_else(|| store.as_ref().map(|store| store.revision())).unwrap_or(0);
    let started_with = loaded.process().clone();
    let Loaded { options, accepted, tried, names, discovered, api, .. } = loaded;
    Plane {
        options,
        accepted: Arc::new(accepted),
        tried,
        overlay,
        apps: api,
        names,
        discovered,
        discovering,
        placed: Default::default(),
        pushed: Default::default(),
        taken: Default::default(),
        held: Default::default(),
        dues: Default::default(),
        due_ms: None,
        closed: Default::default(),
        asking,
        live: Arc::new(Model::empty()),
        dormant: Default::default(),
        clusters_of: Default::default(),
        own,
        publisher,
        words: Default::default(),
        ticket: Ticket::new(),
        store,
        unmark: Vec::new(),
        unmark_due: false,
        deleted: Default::default(),
        started_with,
        status: status.clone(),
        view: view.clone(),
        outlets,
        elector: None,
        leads: true,
        led: false,
        seen,
        fleet: None,
        pulse: Pulse::default(),
    }
}
