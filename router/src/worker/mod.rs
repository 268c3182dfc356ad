//! A worker: one OS thread, one single-threaded runtime, one of everything hot.
//!
//! A connection lives and dies on its worker. What other threads want from a worker goes through its mailbox, which
//! is looked at when the worker is woken for it. Does not accept (see `accept`), serve (see `connection`) or publish (see
//! `swap`).

pub mod accept;
pub mod connection;
pub mod connection_limits;
pub mod mailbox;
pub mod proxied;
pub mod seats;
pub mod strain;
pub mod thread;
mod uuid;

use std::cell::{Cell, RefCell};
use std::collections::hash_map::Entry;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use ekiden_config::names::ListenerName;
use ekiden_core::stats::{ClusterCell, WorkerShard};
use ekiden_core::table::{ListenerTable, Table};
use rustc_hash::FxHashMap;

use crate::buffer::{Buffers, Spares};
use crate::clock::Clock;
use crate::exchange::Workspace;
use crate::exchange::splice::Pipes;
use crate::http2::endpoint::Http2Pool;
use crate::http2::streams::StreamWork;
use crate::memory;
use crate::pool::Pool;
use crate::record::Recorder;
use crate::shared::Shared;
use crate::wheel::Wheel;
use crate::worker::connection::Kept;
use crate::worker::connection_limits::Permit;
use crate::worker::seats::Seats;
use crate::worker::strain::WorkerStrain;

/// Workspaces kept when no connection is busy.
const WORKSPACES_KEPT: usize = 512;
/// Tasks of connections kept when none needs them.
const CONNECTION_SEATS: usize = 64;
/// Tasks of streams kept when none needs them: as many as one connection may have open.
const STREAM_SEATS: usize = 256;
/// Freed bytes from which the allocator is asked to give memory back to the system.
const TRIM_BYTES: usize = 256 << 10;

/// Everything hot of one worker.
pub struct Worker {
    /// Its number, from 0.
    pub id: usize,
    /// What all workers share.
    pub shared: Arc<Shared>,
    /// Its counts.
    pub shard: Arc<WorkerShard>,
    /// Deadlines of its connections.
    pub wheel: Rc<Wheel>,
    /// Unused read buffers.
    pub buffers: Buffers,
    /// Idle upstream connections.
    pub pool: Pool,
    /// Connections to endpoints that speak HTTP/2.
    pub http2_pool: Http2Pool,
    /// Time of day.
    pub clock: Clock,
    /// Its end of the access log.
    pub recorder: RefCell<Recorder>,
    /// Requests that wait for a first check or a slot.
    pub waiters: Waiters,
    /// Pipes for tunnels that carry much.
    pub pipes: Pipes,
    /// What it refuses for want of resources.
    pub strain: WorkerStrain,
    /// Tasks that wait for another connection.
    pub seats: Seats<Kept>,
    /// Tasks of streams that have ended, for those to come.
    pub stream_seats: Seats<StreamWork>,
    /// Most client connections it serves at once.
    pub max_connections: u64,
    table: RefCell<Arc<Table>>,
    workspaces: Spares<Box<Workspace>>,
    rng: RefCell<fastrand::Rng>,
    phase: Cell<DrainPhase>,
    accepting: Cell<usize>,
    room: RefCell<Vec<Waker>>,
}

/// How far a worker's drain has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DrainPhase {
    /// Serving.
    Serving,
    /// The end is announced: clients are told to go elsewhere after their next response, and nobody is cut off.
    Leaving,
    /// Finishing what is in flight; idle connections close.
    Draining,
    /// Out of time: everything ends now.
    Forced,
}

impl Worker {
    /// A worker that serves nothing yet. Called on its own thread.
    pub fn new(
        id: usize,
        shared: Arc<Shared>,
        shard: Arc<WorkerShard>,
        recorder: Recorder,
        max_connections: u64,
    ) -> Rc<Self> {
        let table = shared.table.load_full();
        Rc::new(Self {
            id,
            shard,
            wheel: Wheel::new(),
            buffers: Buffers::default(),
            pool: Pool::new(id),
            http2_pool: Http2Pool::new(id),
            clock: Clock::since(shared.started),
            recorder: RefCell::new(recorder),
            waiters: Waiters::default(),
            strain: WorkerStrain::new(shared.ceilings.policy()),
            seats: Seats::new(CONNECTION_SEATS),
            pipes: Pipes::default(),
            stream_seats: Seats::new(STREAM_SEATS),
            max_connections,
            table: RefCell::new(table),
            workspaces: Spares::new(WORKSPACES_KEPT),
            rng: RefCell::new(fastrand::Rng::new()),
            phase: Cell::new(DrainPhase::Serving),
            accepting: Cell::new(0),
            room: RefCell::default(),
            shared,
        })
    }

    /// Milliseconds on the worker's wheel now; reads the clock.
    pub fn now_ms(&self) -> u64 {
        self.clock.read().ms()
    }

    /// Milliseconds on the worker's wheel in this turn; does not read the clock.
    pub fn turn_ms(&self) -> u64 {
        self.clock.turn().ms()
    }

    /// Runs `look` with the worker's table. Nothing may wait inside.
    pub fn with_table<T>(&self, look: impl FnOnce(&Table) -> T) -> T {
        look(&self.table.borrow())
    }

    /// Whether a newer table than the worker's is in force.
    pub fn is_behind(&self) -> bool {
        self.shared.table.load().generation > self.table.borrow().generation
    }

    /// Takes the table in force, tells so, and lets go of what belongs to endpoints that have left.
    pub fn take_table(&self) {
        let table = self.shared.table.load_full();
        if table.generation <= self.table.borrow().generation {
            // A worker that started after the table was stored has had it from the beginning: say so all the same.
            self.shard.generation.set(table.generation.0);
            self.shared.taken(self.id, table.generation);
            return;
        }
        let generation = table.generation;
        let old = self.table.replace(table);
        self.shared.retire(old, &self.shard);
        self.shard.generation.set(generation.0);
        self.pool.sweep(self.now_ms());
        self.http2_pool.sweep(self.now_ms());
        self.shared.taken(self.id, generation);
    }

    /// A random number for picks.
    pub fn random(&self) -> u64 {
        self.rng.borrow_mut().u64(..)
    }

    /// Appends a random UUID (version 4).
    pub fn random_uuid(&self, out: &mut String) {
        let text = uuid::text(self.rng.borrow_mut().u128(..));
        out.push_str(std::str::from_utf8(&text).unwrap_or_default());
    }

    /// A workspace, reused when there is one.
    pub fn take_workspace(&self) -> Box<Workspace> {
        self.workspaces.take().unwrap_or_default()
    }

    /// Takes a workspace back.
    pub fn give_workspace(&self, ws: Box<Workspace>) {
        self.workspaces.give(ws);
    }

    /// Gives up what nobody has needed for a second; asks for the heap to be trimmed when that was much.
    pub fn trim(&self) {
        self.seats.trim();
        self.stream_seats.trim();
        let freed = self.buffers.trim() + self.workspaces.trim() * size_of::<Workspace>();
        if freed >= TRIM_BYTES {
            self.trim_heap();
        }
    }

    /// Gives up what this thread has freed, and asks for what is free in the process to go back to the system.
    pub fn trim_heap(&self) {
        memory::let_go();
        self.shared.trim_heap();
    }

    /// Whether new requests should be the last of their connections.
    pub fn is_leaving(&self) -> bool {
        self.phase.get() >= DrainPhase::Leaving
    }

    /// Whether idle connections should close.
    pub fn is_draining(&self) -> bool {
        self.phase.get() >= DrainPhase::Draining
    }

    /// Whether everything must end now.
    pub fn is_forced(&self) -> bool {
        self.phase.get() == DrainPhase::Forced
    }

    /// Moves the drain on and wakes every connection to see it.
    pub fn enter_phase(&self, phase: DrainPhase) {
        if phase > self.phase.get() {
            self.phase.set(phase);
            self.wheel.wake(true);
            self.waiters.wake();
            self.wake_room();
        }
    }

    /// Counts an open client connection; the count ends when the guard is dropped.
    pub fn open_connection(self: &Rc<Self>) -> OpenConnection {
        self.shard.accepted.add(1);
        self.shard.open.add(1);
        OpenConnection(Rc::clone(self), Permit::default())
    }

    /// Client connections open.
    pub fn open_connections(&self) -> u64 {
        self.shard.open.value()
    }

    /// Accept tasks that are accepting.
    pub fn accepting(&self) -> &Cell<usize> {
        &self.accepting
    }

    /// Waits for a place below the connection bound.
    pub fn await_room(&self, waker: &Waker) {
        self.room.borrow_mut().push(waker.clone());
    }

    fn wake_room(&self) {
        for waker in self.room.borrow_mut().drain(..) {
            waker.wake();
        }
    }
}

/// An open client connection, counted while this lives.
pub struct OpenConnection(Rc<Worker>, Permit);

impl OpenConnection {
    /// Holds what the connection was let in with.
    pub fn with(mut self, permit: Permit) -> Self {
        self.hold(permit);
        self
    }

    /// The same, once the client is known. Called once at most.
    pub fn hold(&mut self, permit: Permit) {
        self.1 = permit;
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.shard.closed.add(1);
        self.0.shard.open.sub(1);
        self.1.release(&self.0.shared);
        self.0.wake_room();
    }
}

/// Tasks that wait for a change of readiness.
#[derive(Debug, Default)]
pub struct Waiters {
    changes: Cell<u64>,
    wakers: RefCell<Vec<Waker>>,
    /// Clusters in whose lines requests of this worker stand, with how many.
    lines: RefCell<FxHashMap<*const ClusterCell, (Arc<ClusterCell>, usize)>>,
}

/// A request of this worker in the line of a cluster.
#[derive(Debug)]
pub struct Standing<'a> {
    waiters: &'a Waiters,
    cell: *const ClusterCell,
}

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        if let Entry::Occupied(mut line) = self.waiters.lines.borrow_mut().entry(self.cell) {
            line.get_mut().1 -= 1;
            if line.get().1 == 0 {
                line.remove();
            }
        }
    }
}

impl Waiters {
    /// Number of changes so far; a waiter is done when it has grown.
    pub fn changes(&self) -> u64 {
        self.changes.get()
    }

    /// Wakes the task at the next change.
    pub fn register(&self, waker: &Waker) {
        let mut wakers = self.wakers.borrow_mut();
        if !wakers.iter().any(|held| held.will_wake(waker)) {
            wakers.push(waker.clone());
        }
    }

    /// Has the line of a cluster woken at the next change, as long as this lives. What is in a line wakes by itself
    /// otherwise, so that nothing has to be kept for each request.
    pub fn stand(&self, cell: &Arc<ClusterCell>) -> Standing<'_> {
        let mut lines = self.lines.borrow_mut();
        lines.entry(Arc::as_ptr(cell)).or_insert_with(|| (Arc::clone(cell), 0)).1 += 1;
        Standing { waiters: self, cell: Arc::as_ptr(cell) }
    }

    /// A change of readiness, of the table or of the drain.
    pub fn wake(&self) {
        self.changes.set(self.changes.get() + 1);
        for waker in self.wakers.take() {
            waker.wake();
        }
        for (cell, _) in self.lines.borrow().values() {
            cell.gate.wake_all();
        }
    }
}

/// The listener that accepted a connection, by name; its place in the table is looked up once a generation.
#[derive(Debug)]
pub struct ListenerRef {
    /// Its name.
    pub name: ListenerName,
    place: Cell<Option<(u64, u32)>>,
    last: RefCell<Option<Arc<ListenerTable>>>,
    told_ms: Cell<Option<u64>>,
}

/// Least time between two log lines of a worker about clients of one listener.
const TELL_MS: u64 = 1_000;

impl ListenerRef {
    /// A reference to a listener.
    pub fn new(name: ListenerName) -> Rc<Self> {
        Rc::new(Self { name, place: Cell::new(None), last: RefCell::new(None), told_ms: Cell::new(None) })
    }

    /// Whether a log line about a client is due; if so, the next is not for a while.
    pub fn may_tell(&self, now_ms: u64) -> bool {
        let due = self.told_ms.get().is_none_or(|told_ms| now_ms.saturating_sub(told_ms) >= TELL_MS);
        if due {
            self.told_ms.set(Some(now_ms));
        }
        due
    }

    /// Its index in the table; `None` when the table no longer has it.
    pub fn index(&self, table: &Table) -> Option<u32> {
        match self.place.get() {
            Some((generation, index)) if generation == table.generation.0 => Some(index),
            _ => {
                let index = table.listener(&self.name)?;
                self.place.set(Some((table.generation.0, index)));
                self.last.replace(table.listeners.get(index as usize).cloned());
                Some(index)
            }
        }
    }

    /// The listener's settings in the table, or the last known ones.
    pub fn settings(&self, table: &Table) -> Option<Arc<ListenerTable>> {
        self.index(table);
        self.last.borrow().clone()
    }
}
