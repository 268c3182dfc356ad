//! Starting and stopping a router that takes its apps from control elsewhere: its process file, its last good table, and the thread
//! of its link.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ekiden_config::doors::{Inspect, Observations, Publisher, Ticket};
use ekiden_config::model::{Address, ControlAddress, Model, Process};
use ekiden_config::{Built, Diagnostic, Source};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch as channel};
use tokio::time::timeout;

use super::agent::{Agent, AgentInlets, LinkState, machine};
use super::counting::Counting;
use super::dial::{ControlUrl, Dial, Have};
use super::kept::{KeeperInlet, Kept, keeper, write_behind};
use super::secure::{Files, Settings as Secure};
use super::server::base_of;
use super::table::{Made, Objects, make};
use crate::api::{self, Api, ApiSettings, Doors, Tokens};
use crate::clock::unix_ms;
use crate::control::{StartError, StatusReader};
use crate::load::{Refused, find_run_dir};
use crate::plane::{ReloadReply, ViewCell, follow, rendered};
use crate::rundir::{RunDir, RunDirError};
use crate::settings::{CONTROL_SOCKET, Options, Settings, has_side_listener, settings};
use crate::sources::read_main;
use crate::status::{LinkStatus, Reload, StatusCell};
use crate::watch::{Look, look, watch};
use crate::{address::AddressFlag, rundir};

/// Events of the link that may wait for the loop; the link waits then, and so does control.
const EVENTS_MAX: usize = 1_024;
/// Lines for control that may wait; more are dropped.
const LINES_MAX: usize = 1_024;
/// Reloads that may wait; further ones are covered by those.
const RELOADS_MAX: usize = 64;
/// How long a thread stays that has nothing to do.
const IDLE_MAX: Duration = Duration::from_secs(1);
/// Longest time that stopping waits for the last write.
const WRITE_MAX: Duration = Duration::from_secs(1);

/// What a router starts with. Made by [`load_router`], taken by [`RemoteRouter::start`].
#[derive(Debug)]
pub struct LoadedRouter {
    options: Options,
    main: Source,
    made: Made,
    kept: Option<Kept>,
    look: Look,
    settings: Settings,
    diagnostics: Vec<Diagnostic>,
    stale: Option<String>,
}

/// Reads the process file of a router and its last good table. A file that cannot be used is stood in for by the one that the last
/// good table was made with, unless `strict`.
pub fn load_router(options: Options) -> Result<LoadedRouter, Refused> {
    let file = options.file.clone();
    let seen = look(&file, None);
    let read = read_main(&file, None).map_err(|finding| vec![*finding]);
    let tried = read.and_then(|main| make(&main, &Objects::default(), None).map(|made| (main, made)));
    let process = tried.as_ref().ok().map(|(_, made)| &made.built.process);
    let dir = find_run_dir(&options, process);
    let kept = match dir.as_deref().map(|dir| Kept::read(dir, &rundir::absolute(&file))) {
        Some(Ok(kept)) => kept,
        Some(Err(error)) => {
            tracing::error!(%error, "the last good table cannot be read");
            None
        }
        None => None,
    };
    let (main, diagnostics, stale) = match tried {
        Ok((main, made)) => (main, made.built.diagnostics.clone(), None),
        Err(diagnostics) => {
            let old = if options.strict { None } else { kept.as_ref().and_then(|kept| kept.main.clone()) };
            let Some(main) = old else { return Err(Refused { diagnostics, note: None }) };
            let why = format!("{} cannot be used; the one that served last stands in for it", file.display());
            (main, diagnostics, Some(why))
        }
    };
    let refused = |diagnostics| Refused { diagnostics, note: None };
    let made = match &kept {
        None => make(&main, &Objects::default(), None).map_err(refused)?,
        Some(kept) => {
            let good = make(&main, &kept.good(), None).map_err(refused)?;
            make(&main, &kept.objects, Some(&good)).map_err(refused)?
        }
    };
    let settings = own_settings(&options, &made);
    Ok(LoadedRouter { options, main, made, kept, look: seen, settings, diagnostics, stale })
}

/// Reads the file of `ekiden router` as `ekiden check` does.
pub fn check_router(file: &Path) -> Result<Built, Vec<Diagnostic>> {
    let main = read_main(file, None).map_err(|finding| vec![*finding])?;
    make(&main, &Objects::default(), None).map(|made| Arc::unwrap_or_clone(made.built))
}

/// As [`settings`], but that the API of a router is on a socket in its run directory unless told otherwise: on one machine with
/// control the port is taken.
fn own_settings(options: &Options, made: &Made) -> Settings {
    let process = &made.built.process;
    let mut all = settings(options, process, &made.model);
    if matches!((&options.control, &process.control), (AddressFlag::FromFile, ControlAddress::Default)) {
        all.control = all.run_dir.as_ref().map(|dir| {
            let socket = rundir::absolute(&dir.join(CONTROL_SOCKET));
            Address::Unix(Arc::from(socket.to_string_lossy().as_ref()))
        });
    }
    all
}

impl LoadedRouter {
    /// The directory of the process file, which the relative paths in it go by.
    pub fn base_dir(&self) -> PathBuf {
        base_of(&self.options.file)
    }

    /// The Model that is served from the start; none when control has never been heard of.
    pub fn model(&self) -> Option<&Arc<Model>> {
        self.kept.as_ref().map(|_| &self.made.model)
    }

    /// The listeners of the process file, which the first table has.
    pub fn listeners(&self) -> impl Iterator<Item = (String, String)> {
        let all = self.made.model.listeners.values();
        all.map(|listener| (listener.name.to_string(), listener.address.to_string()))
    }

    /// Settings of the process.
    pub fn process(&self) -> &Process {
        &self.made.built.process
    }

    /// Where telemetry and the API are served and where state is kept.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Every error and warning to print.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// Why the process file does not count; none when it does.
    pub fn stale(&self) -> Option<&str> {
        self.stale.as_deref()
    }

    /// What the router refuses to connect to.
    pub fn own_addresses(&self) -> Vec<Address> {
        self.settings.telemetry.iter().chain(&self.settings.control).cloned().collect()
    }
}

/// A handle on the running link. Dropping it ends the link; the table in force goes on serving.
#[derive(Debug)]
pub struct RemoteRouter {
    first: Option<Ticket>,
    status: StatusReader,
    reloads: mpsc::Sender<Option<ReloadReply>>,
    stop: channel::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

/// The runtime of the link. Threads that build and read are there for a moment now and then.
fn runtime() -> Result<Runtime, StartError> {
    let runtime = Builder::new_current_thread().enable_all().thread_keep_alive(IDLE_MAX).build();
    runtime.map_err(|error| StartError::NoThread(error.to_string()))
}

impl RemoteRouter {
    /// Starts the link to one of these controls, and returns when the last good table, if there is one, is handed to the publisher.
    pub fn start(
        loaded: LoadedRouter,
        urls: Vec<ControlUrl>,
        publisher: Box<dyn Publisher>,
        inspect: Arc<dyn Inspect>,
        observations: Observations,
    ) -> Result<Self, StartError> {
        let secure = checked(&loaded, &urls)?;
        let status = StatusCell::default();
        let run_dir = open_run_dir(&loaded, &status)?;
        let runtime = runtime()?;
        let (stop, stopped) = channel::channel(false);
        let (reloads, reload_inlet) = mpsc::channel(RELOADS_MAX);
        let (events, event_inlet) = mpsc::channel(EVENTS_MAX);
        let (lines, line_inlet) = mpsc::channel(LINES_MAX);
        first_status(&loaded, &urls, &status);
        let (words, whole) = (&loaded.made.built.process.fleet, loaded.kept.is_some());
        let kept = loaded.kept.unwrap_or_default();
        let have = channel::Sender::new(kept.have);
        let dial = Dial {
            urls,
            secure,
            server_name: words.server_name.clone(),
            name: words.name.as_ref().map_or_else(machine, ToString::to_string),
            instance: format!("{:x}-{:x}", unix_ms(), std::process::id()),
            have: have.subscribe(),
            events,
            lines: line_inlet,
            stop: stopped.clone(),
        };
        let (keep_outlet, keep_inlet) = keeper();
        let mut agent = Agent {
            file: loaded.options.file.clone(),
            main: loaded.main,
            objects: kept.objects,
            started_with: loaded.made.built.process.clone(),
            made: loaded.made,
            texts: None,
            whole,
            have: kept.have,
            publisher,
            tickets: channel::Sender::new(Ticket::new()),
            lines,
            told: have,
            keep: keep_outlet,
            unsaved: false,
            view: ViewCell::new(),
            status: status.clone(),
            pending: Default::default(),
            api: None,
            last: (0, Vec::new()),
            incoming: Default::default(),
            unread: Default::default(),
            refusing: Default::default(),
            counting: Counting::new(Arc::clone(&inspect), tokio::time::Instant::now()),
            link: LinkState::new(loaded.stale),
            // What the last good table was made of.
            tidy_at: whole.then(tokio::time::Instant::now),
        };
        let first = agent.open();
        let around = Around {
            options: loaded.options,
            look: loaded.look,
            settings: loaded.settings,
            inspect,
            observations,
            run_dir,
            reloads: reloads.clone(),
            reload_inlet,
            event_inlet,
            keep_inlet,
            stopped,
        };
        let (told, tried) = sync_channel(1);
        let thread = around.spawn(runtime, (agent, dial), told)?;
        // Whoever hears that this process serves may ask its API at once: it is bound by then, or loudly is not.
        tried.recv().map_err(|_| StartError::NoThread("it ended at once; see the log".to_owned()))?;
        let first = whole.then_some(first);
        Ok(Self { first, status: StatusReader::of(status), reloads, stop, thread: Some(thread) })
    }

    /// Follows the publish of the last good table; none when there was none.
    pub fn first(&self) -> Option<&Ticket> {
        self.first.as_ref()
    }

    /// A reader of the status that can be handed to telemetry.
    pub fn status_reader(&self) -> StatusReader {
        self.status.clone()
    }

    /// Reads the process file again. Returns at once. For SIGHUP.
    pub fn reload(&self) {
        // Full: one of those that wait will see the file as it is now.
        let _ = self.reloads.try_send(None);
    }

    /// Ends the link: the last good table is written, the run directory is given back. Takes at most about 3 s.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the link's thread had panicked");
        }
    }
}

impl Drop for RemoteRouter {
    fn drop(&mut self) {
        self.end();
    }
}

/// What the link may be like by the process file.
fn checked(
    loaded: &LoadedRouter,
    urls: &[ControlUrl],
) -> Result<Option<Secure<rustls::ClientConfig>>, StartError> {
    let built = &loaded.made.built;
    let files = Files::of(&built.process.fleet, &built.model.trust, &loaded.base_dir());
    let wrong = |text: String| Err(StartError::Link(text));
    for url in urls {
        if url.is_secure() && files.is_none() {
            return wrong(format!("{url} needs `identity` and `ca` in [fleet] of the process file"));
        }
        if !url.is_secure() && !url.is_local() && !built.process.fleet.insecure {
            return wrong(format!(
                "{url} is plain and leaves this machine: use https, or `fleet.insecure = true`"
            ));
        }
    }
    let mut secure = files.map(Secure::new);
    if let Some(settings) = &mut secure
        && let Err(error) = settings.client()
    {
        return wrong(format!("the certificates of [fleet] cannot be used: {error}"));
    }
    Ok(secure)
}

fn open_run_dir(loaded: &LoadedRouter, status: &StatusCell) -> Result<Option<RunDir>, StartError> {
    let Some(path) = loaded.settings.run_dir.as_deref() else {
        let why = "neither STATE_DIRECTORY, XDG_STATE_HOME nor HOME is set; use --run-dir";
        tracing::error!("no last good table is kept: {why}");
        status.update(|status| status.run_dir_error = Some(why.to_owned()));
        return Ok(None);
    };
    match RunDir::open(path) {
        Ok(dir) => {
            status.update(|status| status.run_dir = Some(dir.path().display().to_string()));
            crate::control::leave_pointer(&loaded.options, loaded.process(), dir.path());
            Ok(Some(dir))
        }
        Err(error @ RunDirError::Locked { .. }) => Err(StartError::InUse(error)),
        Err(error @ RunDirError::Unusable { .. }) => {
            tracing::error!(%error, "no last good table is kept");
            status.update(|status| status.run_dir_error = Some(error.to_string()));
            Ok(None)
        }
    }
}

fn first_status(loaded: &LoadedRouter, urls: &[ControlUrl], status: &StatusCell) {
    let urls: Vec<String> = urls.iter().map(ToString::to_string).collect();
    let have = loaded.kept.as_ref().map_or(Have::default(), |kept| kept.have);
    status.update(|status| {
        status.running = true;
        status.file = loaded.options.file.display().to_string();
        status.last_good_unix_ms = None;
        status.link = LinkStatus {
            remote: true,
            control: urls.join(", "),
            since_unix_ms: unix_ms(),
            heard_unix_ms: loaded.kept.as_ref().map_or(0, |kept| kept.heard_unix_ms),
            term: have.term,
            generation: have.generation,
            ..LinkStatus::default()
        };
        status.last_reload = Some(Reload {
            ok: loaded.stale.is_none(),
            unix_ms: unix_ms(),
            summary: loaded.stale.clone().unwrap_or_else(|| "first load".to_owned()),
            diagnostics: rendered(&loaded.diagnostics),
        });
    });
}

/// Says in the status that the loop has ended, however it ended.
struct RunningMark(StatusCell);

impl Drop for RunningMark {
    fn drop(&mut self) {
        self.0.update(|status| status.running = false);
    }
}

/// What stands around the loop.
struct Around {
    options: Options,
    look: Look,
    settings: Settings,
    inspect: Arc<dyn Inspect>,
    observations: Observations,
    run_dir: Option<RunDir>,
    reloads: mpsc::Sender<Option<ReloadReply>>,
    reload_inlet: mpsc::Receiver<Option<ReloadReply>>,
    event_inlet: mpsc::Receiver<super::dial::Event>,
    keep_inlet: KeeperInlet,
    stopped: channel::Receiver<bool>,
}

impl Around {
    fn spawn(
        self,
        runtime: Runtime,
        (agent, dial): (Agent, Dial),
        tried: SyncSender<()>,
    ) -> Result<JoinHandle<()>, StartError> {
        let thread = thread::Builder::new().name("control".to_owned());
        let thread = thread.spawn(move || {
            runtime.block_on(self.serve(agent, dial, tried));
            // A write stuck in the disk must not keep the process from ending.
            runtime.shutdown_timeout(Duration::from_millis(500));
        });
        thread.map_err(|error| StartError::NoThread(error.to_string()))
    }

    async fn serve(self, mut agent: Agent, dial: Dial, tried: SyncSender<()>) {
        let Around {
            options,
            look,
            settings,
            inspect,
            observations,
            run_dir,
            reloads,
            reload_inlet,
            event_inlet,
            keep_inlet,
            stopped,
        } = self;
        let status = agent.status.clone();
        let (changed_outlet, changed) = mpsc::channel(1);
        // Nobody listens to them: what changes something is asked of control.
        let (mutations, _) = mpsc::channel(1);
        let (changes, _) = mpsc::channel(1);
        let (looks, _) = mpsc::channel(1);
        let (said, _) = mpsc::channel(1);
        let process = &agent.started_with;
        let mut api_settings = ApiSettings { hosts: process.control_hosts.clone(), ..ApiSettings::default() };
        let token = Tokens::read(&options.file, process.control_token_file.as_deref());
        api_settings.renew(settings.control, token, has_side_listener(&agent.made.model));
        let (api_outlet, api_inlet) = channel::channel(api_settings);
        agent.api = Some(api_outlet.clone());
        let (bound, mut bound_at) = channel::channel(None);
        let doors = Doors {
            mutations,
            changes,
            looks,
            said,
            reloads,
            view: agent.view.clone(),
            inspect,
            status: status.clone(),
            store: None,
            board: None,
            stopped: stopped.clone(),
            fleet: None,
            elector: None,
            socket: Default::default(),
        };
        let api = Arc::new(Api::new(doors, run_dir.as_ref().map(RunDir::path)));
        let server = tokio::spawn(api::serve(api, api_inlet, bound, stopped.clone()));
        let _ = bound_at.changed().await;
        // The starter waits for this; if it does not any more, the stop flag is on its way.
        let _ = tried.send(());
        tokio::spawn(watch(options.file.clone(), channel::channel(None).1, look, changed_outlet));
        tokio::spawn(follow(agent.tickets.subscribe(), status.clone()));
        let writer = run_dir.as_ref().map(|dir| {
            let path = rundir::absolute(&options.file);
            tokio::spawn(write_behind(dir.path().to_owned(), path, keep_inlet, status.clone()))
        });
        let dialling = tokio::spawn(dial.run());
        let inlets =
            AgentInlets { events: event_inlet, changed, reloads: reload_inlet, observations, stop: stopped };
        let running = RunningMark(status);
        let looping = tokio::spawn(async move {
            agent.run(inlets).await;
            drop(running);
        });
        let _ = looping.await;
        let _ = timeout(Duration::from_millis(200), dialling).await;
        let _ = server.await;
        drop(api_outlet);
        if let Some(writer) = writer {
            let _ = timeout(WRITE_MAX, writer).await;
        }
        drop(run_dir);
    }
}
