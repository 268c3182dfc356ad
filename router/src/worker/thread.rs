//! A worker's thread: its runtime, its mailbox loop, its ticks.
//!
//! Ends when told to stop, or when a drain has nothing left. A panic that escapes here ends the process (see
//! `router::watch`).

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ekiden_config::names::ListenerName;
use ekiden_core::stats::WorkerShard;
use tokio::runtime::{Builder, LocalOptions};

use crate::aside;
use crate::record::Recorder;
use crate::shared::Shared;
use crate::wheel::TICK;
use crate::worker::accept::{Closing, accept};
use crate::worker::mailbox::Message;
use crate::worker::{DrainPhase, ListenerRef, Worker};

/// Time between sweeps of the pool and corrections of the clock.
const SWEEP: Duration = Duration::from_secs(1);
/// Connections closed within one sweep from which the heap is given back: a crowd has left.
const CLOSED_MANY: u64 = 5_000;
/// Connections fewer than at the fullest from which the heap is given back once hardly any closes any more: the last of a
/// crowd have left.
const LEFT_MANY: u64 = 1_000;
const CLOSED_FEW: u64 = 100;

/// What a worker is started with.
#[derive(Debug)]
pub struct Start {
    /// Its number.
    pub id: usize,
    /// What all share.
    pub shared: Arc<Shared>,
    /// Its end of the access log.
    pub recorder: Recorder,
    /// Most client connections.
    pub max_connections: u64,
}

/// Runs a worker to its end on the calling thread.
///
/// # Errors
/// When the runtime cannot be made (no descriptors).
pub fn run(start: Start) -> std::io::Result<()> {
    aside::take_short_slices();
    let runtime =
        Builder::new_current_thread().enable_io().enable_time().build_local(LocalOptions::default())?;
    let Start { id, shared, recorder, max_connections } = start;
    let shard = shared
        .places
        .get(id)
        .map(|place| Arc::clone(&place.shard))
        .unwrap_or_else(|| Arc::new(WorkerShard::new()));
    let worker = Worker::new(id, shared, shard, recorder, max_connections);
    runtime.block_on(async {
        tokio::task::spawn_local(tick(Rc::clone(&worker)));
        tokio::task::spawn_local(sweep(Rc::clone(&worker)));
        obey(&worker).await;
    });
    // Tasks still there are dropped with the runtime; each leaves its record.
    drop(runtime);
    Ok(())
}

async fn tick(worker: Rc<Worker>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = worker.clock.read();
        worker.shard.lag_level.set(u64::from(worker.strain.tick(&worker.shared, now).number()));
        let mut is_more = worker.wheel.turn(now.ms());
        while is_more {
            // The runtime looks at the sockets before it goes on with a task that has yielded.
            tokio::task::yield_now().await;
            is_more = worker.wheel.wake_some();
        }
    }
}

async fn sweep(worker: Rc<Worker>) {
    let mut seconds = tokio::time::interval(SWEEP);
    seconds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut closed_before, mut fullest) = (0, 0);
    loop {
        seconds.tick().await;
        worker.clock.correct();
        worker.pool.sweep(worker.now_ms());
        worker.http2_pool.sweep(worker.now_ms());
        worker.trim();
        let closed = worker.shard.closed.value();
        let (open, closing) = (worker.open_connections(), closed.saturating_sub(closed_before));
        fullest = open.max(fullest);
        if closing >= CLOSED_MANY || (fullest - open >= LEFT_MANY && closing <= CLOSED_FEW) {
            fullest = open;
            worker.trim_heap();
        }
        closed_before = closed;
        worker.shared.beat(worker.id, worker.accepting().get());
    }
}

/// Handles the mailbox until the worker is to stop.
async fn obey(worker: &Rc<Worker>) {
    let Some(place) = worker.shared.places.get(worker.id) else { return };
    let mut listening: HashMap<ListenerName, Vec<Rc<Closing>>> = HashMap::new();
    loop {
        for message in place.mailbox.receive().await {
            match message {
                Message::Table => {
                    worker.take_table();
                    worker.waiters.wake();
                }
                Message::Readiness => worker.waiters.wake(),
                Message::Listen(name, socket) => {
                    for closing in listening.remove(&name).unwrap_or_default() {
                        closing.close();
                    }
                    let closing = Rc::new(Closing::default());
                    let listener = ListenerRef::new(name.clone());
                    tokio::task::spawn_local(accept(
                        Rc::clone(worker),
                        listener,
                        socket,
                        Rc::clone(&closing),
                    ));
                    listening.entry(name).or_default().push(closing);
                    tokio::task::yield_now().await;
                    worker.shared.beat(worker.id, worker.accepting().get());
                }
                Message::Unlisten(name) => {
                    for closing in listening.remove(&name).unwrap_or_default() {
                        closing.close();
                    }
                }
                Message::CloseListeners => {
                    for closing in listening.drain().flat_map(|(_, all)| all) {
                        closing.close();
                    }
                    // Let the accept tasks take what the kernel has queued before anyone counts connections.
                    tokio::task::yield_now().await;
                }
                Message::Leave => worker.enter_phase(DrainPhase::Leaving),
                Message::Drain => worker.enter_phase(DrainPhase::Draining),
                Message::Force => worker.enter_phase(DrainPhase::Forced),
                Message::Stop => return,
            }
        }
    }
}
