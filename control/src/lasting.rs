//! What outlives a runtime of control in its process, and the next runtime when one is stuck.
//!
//! ```text
//!  stuck --> its term is void: door to the workers, socket and files are closed to it
//!        --> its store is closed: what was being written is written, nothing after it
//!        --> files and store are read as at a start, what was in force fills gaps, and a fresh runtime takes the socket over
//! ```
//! The workers have their table all the while. The stuck thread cannot be ended; it is left alone, and ends by itself should it ever go
//! on. What cannot be done yet is tried again at every look of the watchdog.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ekiden_config::doors::{Inspect, Observations, Ticket};
use ekiden_config::model::Process;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};

use crate::api::Sockets;
use crate::control::{Start, State};
use crate::desired::ApiApps;
use crate::dns::Resolve;
use crate::dynos::{Above, Board};
use crate::fleet::Fleet;
use crate::fleet::server::Link;
use crate::last_good::{LastGood, Unsaved};
use crate::load::{Loaded, Memory, load_again};
use crate::overlay::Overlay;
use crate::placement::{LastPlaced, SAID_MAX};
use crate::plane::ReloadReply;
use crate::rundir::RunDir;
use crate::settings::Options;
use crate::status::StatusCell;
use crate::tenure::{Door, SharedPublisher, Tenure};
use crate::watchdog::{After, Pulse};

/// Reloads that may wait; further ones of SIGHUP are covered by those.
const RELOADS_MAX: usize = 64;
/// Stuck threads that have not ended, at most: each keeps its memory. With so many of them control is not begun anew any more.
const STUCK_MAX: usize = 8;
/// Longest wait for a runtime that was told to stop.
const END_MAX: Duration = Duration::from_secs(10);
/// Time between two looks at whether it has ended.
const LOOK: Duration = Duration::from_millis(5);

/// What each runtime of a process is started with.
pub(crate) struct Lasting {
    pub(crate) options: Options,
    /// Settings as of the start of the process: files may have changed since.
    pub(crate) started_with: Process,
    pub(crate) publisher: SharedPublisher,
    pub(crate) inspect: Arc<dyn Inspect>,
    pub(crate) observations: Observations,
    pub(crate) resolve: Arc<dyn Resolve>,
    pub(crate) status: StatusCell,
    pub(crate) sockets: Sockets,
    /// Locked as long as the process lives; none when it cannot be used.
    pub(crate) run_dir: Option<RunDir>,
    pub(crate) board: Option<Board>,
    pub(crate) last: LastPlaced,
    /// What could be read of a run directory that cannot be used; none where one is, or the store is elsewhere.
    pub(crate) peeked: Option<Peeked>,
}

/// What serves of a journal that cannot be written. Nobody changes it.
#[derive(Debug, Clone)]
pub(crate) struct Peeked {
    pub(crate) overlay: Overlay,
    pub(crate) apps: Arc<ApiApps>,
}

/// A runtime on its thread.
pub(crate) struct Run {
    tenure: Tenure,
    reloads: mpsc::Sender<Option<ReloadReply>>,
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
    pulse: Pulse,
    /// What it had in force last, for the next one: the disk may have less of it, or nothing.
    in_force: watch::Receiver<Option<Unsaved>>,
    /// What dynos have of it.
    above: Above,
}

impl Lasting {
    /// Starts a runtime, after one that had this in force. The receiver gets the ticket of its first table, once its API's address was tried.
    pub(crate) fn launch(
        &self,
        tenure: Tenure,
        (loaded, state): (Loaded, State),
        (fleet, before): (Option<(Fleet, Link)>, Option<Unsaved>),
        runtime: Runtime,
    ) -> io::Result<(Run, Receiver<Ticket>)> {
        let (stop, stopped) = watch::channel(false);
        let (reloads, reload_inlet) = mpsc::channel(RELOADS_MAX);
        let (first, opened) = sync_channel(1);
        let (placing, placed) = mpsc::channel(SAID_MAX);
        let (saving, in_force) = watch::channel(before);
        let pulse = Pulse::default();
        let above = Above { store: state.store.clone(), placing };
        let door = Door::new(Arc::clone(&self.publisher), tenure.clone(), self.status.clone());
        let start = Start {
            loaded,
            state,
            publisher: Box::new(door),
            inspect: Arc::clone(&self.inspect),
            observations: self.observations.clone(),
            fleet,
            resolve: Arc::clone(&self.resolve),
            status: self.status.of(&tenure),
            reloads: reloads.clone(),
            reload_inlet,
            stopped,
            first,
            saving,
            placed,
            placed_before: self.last.read(),
            board: self.board.clone(),
            pulse: pulse.clone(),
            tenure: tenure.clone(),
            sockets: self.sockets.clone(),
        };
        let thread = thread::Builder::new().name("control".to_owned()).spawn(move || start.run(runtime))?;
        Ok((Run { tenure, reloads, stop, thread, pulse, in_force, above }, opened))
    }

    /// The next runtime, on what the files and the store have now, and on what the one before had in force where they have less. The
    /// error says why there can be none yet.
    fn again(&self, tenure: Tenure, before: Option<Unsaved>) -> Result<Run, String> {
        let memory = Memory {
            last_good: before.as_ref().map(LastGood::new),
            apps: self.peeked.as_ref().map(|peeked| Arc::clone(&peeked.apps)),
        };
        let mut loaded = load_again(self.options.clone(), &self.started_with, &memory)
            .map_err(|refused| format!("its files cannot be used: {refused}"))?;
        let status = self.status.of(&tenure);
        let overlay = self.peeked.as_ref().map(|peeked| peeked.overlay.clone()).unwrap_or_default();
        let state = State::again(&loaded, &status, (self.run_dir.clone(), overlay))?;
        if let Some(store) = &state.store {
            loaded.refresh(&**store);
        }
        let runtime =
            Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
        let (run, _) = self
            .launch(tenure, (loaded, state), (None, before), runtime)
            .map_err(|error| error.to_string())?;
        Ok(run)
    }
}

/// The runtimes of a process: the one that counts, and those that are stuck.
pub(crate) struct Runs {
    lasting: Lasting,
    now: Mutex<Now>,
    /// A reload was asked for, and no runtime has been told yet.
    reload_due: AtomicBool,
    /// Tells dynos which control is theirs.
    turns: watch::Sender<Above>,
}

struct Now {
    run: Option<Run>,
    stuck: Vec<JoinHandle<()>>,
    ending: bool,
    /// Why the next one cannot begin, as it was said last.
    said: Option<String>,
}

impl std::fmt::Debug for Runs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Runs")
    }
}

impl Runs {
    /// The first one runs.
    pub(crate) fn begin(lasting: Lasting, run: Run) -> Self {
        let turns = watch::Sender::new(run.above.clone());
        let now = Now { run: Some(run), stuck: Vec::new(), ending: false, said: None };
        Self { lasting, now: Mutex::new(now), reload_due: AtomicBool::new(false), turns }
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The control that dynos belong to.
    pub(crate) fn turns(&self) -> watch::Receiver<Above> {
        self.turns.subscribe()
    }

    /// The pulse of the one that runs.
    pub(crate) fn pulse(&self) -> Pulse {
        self.now().run.as_ref().map(|run| run.pulse.clone()).unwrap_or_default()
    }

    /// Asks for a reload. Returns at once: while a fresh runtime is being begun, which a disk may hold up, that one is told when it runs.
    pub(crate) fn reload(&self) {
        self.reload_due.store(true, Ordering::SeqCst);
        let now = match self.now.try_lock() {
            Ok(now) => now,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        if self.reload_due.swap(false, Ordering::SeqCst)
            && let Some(run) = &now.run
        {
            // Full: as many reloads are waiting already, and one of them will see the files as they are now.
            let _ = run.reloads.try_send(None);
        }
    }

    /// Puts a fresh runtime in the place of one that is stuck, as far as that can be done now.
    pub(crate) fn restart(&self) -> After {
        let after = self.restart_now();
        // Whoever found the door closed has left word before it was opened again.
        if matches!(after, After::Watch(_)) && self.reload_due.load(Ordering::SeqCst) {
            self.reload();
        }
        after
    }

    fn restart_now(&self) -> After {
        let mut now = self.now();
        let now = &mut *now;
        let Some(run) = now.run.as_mut().filter(|_| !now.ending) else { return After::Done };
        if run.tenure.counts() {
            let term = run.tenure.number();
            run.tenure.end();
            run.stop.send_replace(true);
            self.lasting.status.update(|status| status.running = false);
            tracing::error!(
                term,
                "control's loop is stuck: its term is void, and a fresh control runtime takes its place; the workers serve on"
            );
        }
        match self.replace(run, &mut now.stuck) {
            Ok(pulse) => {
                now.said = None;
                self.turns.send_replace(run.above.clone());
                self.lasting.status.update(|status| status.control_restarts += 1);
                tracing::warn!(term = run.tenure.number(), "a fresh control runtime runs");
                After::Watch(pulse)
            }
            Err(why) => {
                if now.said.as_ref() != Some(&why) {
                    tracing::error!(%why, "control cannot begin anew yet; it is tried every second, and the workers serve on");
                    now.said = Some(why);
                }
                After::Again
            }
        }
    }

    fn replace(&self, run: &mut Run, stuck: &mut Vec<JoinHandle<()>>) -> Result<Pulse, String> {
        stuck.retain(|thread| !thread.is_finished());
        if stuck.len() >= STUCK_MAX {
            return Err(format!(
                "{STUCK_MAX} threads of control are stuck; restart the process when it suits"
            ));
        }
        if let Some(store) = &run.above.store
            && !store.close()
        {
            return Err("what it was writing is not written yet".to_owned());
        }
        let next = self.lasting.again(run.tenure.newest(), run.in_force.borrow().clone())?;
        let pulse = next.pulse.clone();
        stuck.push(std::mem::replace(run, next).thread);
        Ok(pulse)
    }

    /// Ends the one that runs. One that does not end in time is left to the end of the process.
    pub(crate) fn end(&self) {
        let until = Instant::now() + END_MAX;
        let mut now = loop {
            match self.now.try_lock() {
                Ok(now) => break now,
                Err(TryLockError::Poisoned(poisoned)) => break poisoned.into_inner(),
                // A fresh one is being begun, which a disk may hold up.
                Err(TryLockError::WouldBlock) if Instant::now() < until => thread::sleep(LOOK),
                Err(TryLockError::WouldBlock) => return,
            }
        };
        now.ending = true;
        let Some(run) = now.run.take() else { return };
        run.stop.send_replace(true);
        while !run.thread.is_finished() && Instant::now() < until {
            thread::sleep(LOOK);
        }
        if !run.thread.is_finished() {
            tracing::error!("control's thread does not end");
        } else if run.thread.join().is_err() {
            tracing::error!("control's thread had panicked");
        }
    }
}

#[cfg(test)]
mod tests;
