//! The embedded store: objects in memory, each change in the journal's file before it is answered.
//!
//! One thread writes. It takes all transactions that wait, judges them in order, and makes them durable with one write
//! and one `fdatasync` (group commit); callers never wait on the disk in their own thread.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::disk::{self, Disk};
use super::state::{Draft, State};
use super::{Committing, Compacted, Event, Object, Page, Revision, Store, StoreError, Txn};
use crate::rundir::Lock;

/// Transactions that may wait for the writer; callers of further ones wait.
const WAITING_MAX: usize = 1024;
/// Longest wait for the writer to end.
const ENDING_MAX: Duration = Duration::from_secs(2);
/// Bytes of one group commit, beyond which the rest waits for the next.
const GROUP_MAX: usize = 16 << 20;

type Reply = oneshot::Sender<Result<Revision, StoreError>>;
/// None wakes the writer to look whether it is to end.
type Message = Option<(Txn, Reply)>;

/// The journal of a run directory.
pub(crate) struct Journal {
    shared: Arc<Shared>,
    /// None only while it is dropped.
    writer: Option<(mpsc::Sender<Message>, JoinHandle<()>)>,
    /// Disconnected when the writer has ended.
    ended: Mutex<Receiver<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    newest: watch::Sender<Revision>,
    bytes: AtomicU64,
    /// The writer ends after the group it is at.
    ending: AtomicBool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("revision", &self.revision()).finish_non_exhaustive()
    }
}

/// The objects in the journal of a run directory, without opening it for writing: what a start builds its first table
/// with. A damaged one answers with what is readable. Blocking.
pub(crate) fn peek(dir: &Path, prefix: &str) -> io::Result<Vec<Object>> {
    Ok(disk::read(&disk::bytes(dir)?).state.list(prefix, None, usize::MAX).objects)
}

impl Journal {
    /// As [`Journal::open_held`], in a directory that nobody else uses.
    #[cfg(test)]
    pub(crate) fn open(dir: &Path) -> io::Result<(Self, Option<String>)> {
        Self::open_held(dir, None)
    }

    /// Opens or makes the journal of a run directory. Answers also with something a person must hear, if there is: damage,
    /// and where the old file was saved. The writer holds the directory's lock as long as it may write. Blocking.
    pub(crate) fn open_held(dir: &Path, lock: Option<Lock>) -> io::Result<(Self, Option<String>)> {
        let (disk, state, loud) = Disk::open(dir)?;
        Ok((Self::start(disk, state, lock)?, loud))
    }

    fn start(disk: Disk, state: State, lock: Option<Lock>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            newest: watch::Sender::new(state.revision()),
            bytes: AtomicU64::new(disk.len()),
            ending: AtomicBool::new(false),
            state: Mutex::new(state),
        });
        let (outlet, inlet) = mpsc::channel(WAITING_MAX);
        let writer = Writer { disk, shared: Arc::clone(&shared), inlet, not_before: 0 };
        let (running, ended) = channel::<()>();
        let thread = thread::Builder::new().name("journal".to_owned()).spawn(move || {
            // In this order: whoever hears that it ended finds the lock given back.
            let held = (lock, running);
            writer.run();
            drop(held);
        })?;
        Ok(Self { shared, writer: Some((outlet, thread)), ended: Mutex::new(ended) })
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        let has_ended = self.close();
        if let Some((_, thread)) = self.writer.take() {
            if has_ended {
                drop(thread.join());
            } else {
                // Stuck in the disk. It keeps the lock: nobody writes beside it.
                tracing::error!(
                    "the journal's writer does not end; its run directory stays locked until it does"
                );
            }
        }
    }
}

impl Store for Journal {
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
        let outlet = self.writer.as_ref().map(|(outlet, _)| outlet.clone());
        Box::pin(async move {
            let gone = || StoreError::Failed("the journal's thread has ended".to_owned());
            let (reply, end) = oneshot::channel();
            outlet.ok_or_else(gone)?.send(Some((txn, reply))).await.map_err(|_| gone())?;
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
        self.shared.bytes.load(Ordering::Relaxed)
    }

    fn close(&self) -> bool {
        let Some((outlet, _)) = &self.writer else { return true };
        // Commits under way hold senders of their own and may never be polled again: only the flag ends the thread. What it
        // is writing is written; the rest is not answered.
        self.shared.ending.store(true, Ordering::Release);
        // Full: then the writer is not asleep.
        let _ = outlet.try_send(None);
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        !matches!(ended.recv_timeout(ENDING_MAX), Err(RecvTimeoutError::Timeout))
    }
}

/// What the writing thread owns.
struct Writer {
    disk: Disk,
    shared: Arc<Shared>,
    inlet: mpsc::Receiver<Message>,
    /// Size below which rewriting is not tried again, after it failed.
    not_before: u64,
}

impl Writer {
    /// Writes until the journal is dropped.
    fn run(mut self) {
        while let Some(Some(first)) = self.inlet.blocking_recv() {
            self.group(first);
            if self.shared.ending.load(Ordering::Acquire) {
                return;
            }
            if self.disk.len() >= self.not_before && self.disk.wants_rewrite(&self.shared.state()) {
                self.rewrite();
            }
            self.shared.bytes.store(self.disk.len(), Ordering::Relaxed);
        }
    }

    /// Makes what waits durable, all together, and answers.
    fn group(&mut self, first: (Txn, Reply)) {
        let mut draft = Draft::default();
        let mut judged = Vec::new();
        let mut next = Some(first);
        while let Some((txn, reply)) = next {
            judged.push((draft.judge(&self.shared.state(), &txn), reply));
            let full = draft.block.len() >= GROUP_MAX || judged.len() >= WAITING_MAX;
            next = if full { None } else { self.inlet.try_recv().ok().flatten() };
        }
        let written = self.write(draft);
        for (judged, reply) in judged {
            let end = judged.and_then(|revision| written.clone().map(|()| revision));
            // The asker may have gone away; the change stands all the same.
            let _ = reply.send(end);
        }
    }

    fn write(&mut self, draft: Draft) -> Result<(), StoreError> {
        if draft.accepted.is_empty() {
            return Ok(());
        }
        // Only this thread changes the state: a copy of it is as good as a lock, but a copy is only needed to rewrite.
        let before = if self.disk.broken { self.shared.state().clone() } else { State::default() };
        self.disk.append(&draft.block, &before)?;
        let mut state = self.shared.state();
        for (revision, writes) in draft.accepted {
            state.apply(revision, writes);
        }
        let revision = state.revision();
        drop(state);
        self.shared.newest.send_replace(revision);
        Ok(())
    }

    fn rewrite(&mut self) {
        let state = self.shared.state().clone();
        if let Err(error) = self.disk.rewrite(&state) {
            self.not_before = self.disk.len().saturating_mul(2);
            tracing::warn!(%error, "the journal could not be rewritten; it goes on growing");
        }
    }
}
