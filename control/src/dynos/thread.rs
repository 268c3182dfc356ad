//! The one thread that forks dynos. It is started before anything else gives way to the workers, since dynos inherit its
//! niceness, and ends after the last dyno: a dyno's parent-death signal follows the thread that forked it.

use std::cell::RefCell;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ekiden_config::doors::Inspect;
use tokio::runtime::Builder;
use tokio::sync::{mpsc, watch};
use tokio::task::LocalSet;

use super::ProcfileRun;
use super::board::Board;
use super::ledger::Ledger;
use super::lines::Lines;
use super::process::Order;
use super::supervisor::Supervisor;
use crate::placement::{LastPlaced, Placed};
use crate::store::Store;

/// Requests for a new release that may wait; further ones are covered by those.
const DEPLOYS_MAX: usize = 4;
/// How long the last lines of dynos may take to be written.
const LAST_LINES: Duration = Duration::from_secs(1);
/// Time between two looks at whether all dynos have ended.
const LOOK: Duration = Duration::from_millis(10);

/// What the dynos need of control.
#[derive(Debug)]
pub(crate) struct Duties {
    /// What is to be run.
    pub(crate) run: ProcfileRun,
    /// None when it cannot be used: then a killed run leaves no record.
    pub(crate) run_dir: Option<PathBuf>,
    /// The control that they belong to now.
    pub(crate) above: Above,
    /// Follows that: control may begin anew beside its dynos.
    pub(crate) turns: watch::Receiver<Above>,
    /// What was placed last, for a control that begins anew.
    pub(crate) last: LastPlaced,
    /// What the router says of endpoints.
    pub(crate) inspect: InspectDoor,
    /// What is told.
    pub(crate) board: Board,
    /// How long an old dyno may take to finish its requests.
    pub(crate) drain_timeout: Duration,
}

/// What dynos have of control.
#[derive(Debug, Clone)]
pub(crate) struct Above {
    /// Formations and releases; none as in [`Duties::run_dir`].
    pub(crate) store: Option<Arc<dyn Store>>,
    /// To the control loop.
    pub(crate) placing: mpsc::Sender<Placed>,
}

/// The aside door, with a name for logs.
#[derive(Clone)]
pub(crate) struct InspectDoor(pub(crate) Arc<dyn Inspect>);

impl std::fmt::Debug for InspectDoor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Inspect")
    }
}

/// The thread, before it has anything to do.
#[derive(Debug)]
pub(crate) struct DynoThread {
    duties: SyncSender<Duties>,
    handle: Handle,
}

/// A hold on the running dynos. Dropping it ends them.
#[derive(Debug)]
pub(crate) struct Handle {
    orders: watch::Sender<Order>,
    deploys: mpsc::Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl DynoThread {
    /// Starts the thread; it waits for [`DynoThread::begin`].
    pub(crate) fn start() -> io::Result<Self> {
        let (duties, given) = sync_channel::<Duties>(1);
        let (orders, told) = watch::channel(Order::Run);
        let (deploys, deploy) = mpsc::channel(DEPLOYS_MAX);
        let work = move || {
            // Dropped unused: the process did not start.
            let Ok(duties) = given.recv() else { return };
            if let Err(error) = run(duties, told, deploy) {
                tracing::error!(%error, "dynos cannot be run");
            }
        };
        let thread = thread::Builder::new().name("dynos".to_owned()).spawn(work)?;
        Ok(Self { duties, handle: Handle { orders, deploys, thread: Some(thread) } })
    }

    /// Gives it its work.
    pub(crate) fn begin(self, duties: Duties) -> Handle {
        // The thread waits for just this; it can only be gone when it has panicked, which its join says.
        let _ = self.duties.send(duties);
        self.handle
    }
}

fn run(duties: Duties, orders: watch::Receiver<Order>, deploys: mpsc::Receiver<()>) -> io::Result<()> {
    // Before any dyno is started: what a killed run left still holds ports and locks.
    let ledger = Rc::new(RefCell::new(Ledger::open(duties.run_dir.as_deref())));
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let (lines, written) = Lines::start(duties.run.colour)?;
    let local = LocalSet::new();
    let supervisor = Supervisor::new(duties, ledger, lines);
    local.block_on(&runtime, supervisor.run(orders, deploys));
    // With it go all that take lines; what waits is written, unless nobody reads.
    drop(local);
    let _written_or_not = written.recv_timeout(LAST_LINES);
    Ok(())
}

impl Handle {
    /// Starts a new release of what the files say now. Returns at once.
    pub(crate) fn deploy(&self) {
        // Full: as many are waiting, and one of them will read the files as they are now.
        let _ = self.deploys.try_send(());
    }

    /// Ends all dynos: SIGTERM, and SIGKILL when their time is over or `now` says so.
    pub(crate) fn end(&mut self, now: impl Fn() -> bool) {
        self.orders.send_replace(Order::End);
        let Some(thread) = self.thread.take() else { return };
        while !thread.is_finished() {
            if now() {
                self.orders.send_replace(Order::Kill);
            }
            thread::sleep(LOOK);
        }
        if thread.join().is_err() {
            tracing::error!("the thread of dynos had panicked");
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.end(|| false);
    }
}
