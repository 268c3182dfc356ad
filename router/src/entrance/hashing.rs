//! Verifies passwords on threads of its own: a bounded line, and verdicts that are kept for a minute.
//!
//! A verdict is found by an HMAC of the reading of the file, the name and the password, under a key that the process makes at its
//! start; passwords are kept nowhere. Good verdicts and bad ones have tables of their own, so that a flood of wrong passwords pushes
//! out none of the good. Does not count clients (the exchange does).

use std::collections::HashMap;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use aws_lc_rs::{hmac, rand};
use tokio::sync::oneshot;

use super::basic::Login;
use super::users::Users;
use super::verdicts::Verdicts;
use crate::aside;

/// Threads that hash: with costs of a quarter of a second, eight passwords a second.
const THREADS: usize = 2;
/// Passwords that may wait.
pub const LINE_MAX: usize = 256;
/// How long a verdict is kept, in milliseconds.
const KEPT_MS: u64 = 60_000;
/// Requests that may wait for the verdict on one login.
const JOINED_MAX: usize = 1024;
/// Verdicts kept, good ones and bad ones each.
const VERDICTS: usize = 8192;

/// The threads and what they found out.
pub struct Hashing {
    jobs: SyncSender<Job>,
    inner: Arc<Inner>,
}

struct Inner {
    key: hmac::Key,
    good: Verdicts<()>,
    bad: Verdicts<()>,
    /// Who waits for a verdict that has been asked for, beside the one who asked. At most one entry for each place of the line and
    /// each thread.
    under_way: Mutex<HashMap<[u8; 32], Vec<oneshot::Sender<bool>>>>,
    started: Instant,
}

struct Job {
    users: Arc<Users>,
    login: Login,
    mark: [u8; 32],
    done: oneshot::Sender<bool>,
}

/// What is known of a login at once.
#[derive(Debug)]
pub enum Known {
    /// It is good, or not.
    Verdict(bool),
    /// It has to be found out; the mark is that of the question.
    Unknown([u8; 32]),
}

impl std::fmt::Debug for Hashing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hashing(..)")
    }
}

impl Hashing {
    /// Starts the threads. They end when this is dropped.
    ///
    /// # Errors
    /// No random bytes, or no thread.
    pub fn start() -> io::Result<Self> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &rand::SystemRandom::new())
            .map_err(|_| io::Error::other("no random bytes"))?;
        let inner = Arc::new(Inner {
            key,
            good: Verdicts::new(VERDICTS),
            bad: Verdicts::new(VERDICTS),
            under_way: Mutex::default(),
            started: Instant::now(),
        });
        let (jobs, line) = sync_channel(LINE_MAX);
        let line = Arc::new(Mutex::new(line));
        for number in 0..THREADS {
            let (inner, line) = (Arc::clone(&inner), Arc::clone(&line));
            std::thread::Builder::new().name(format!("ekiden-hash-{number}")).spawn(move || {
                aside::give_way();
                work(&inner, &line);
            })?;
        }
        Ok(Self { jobs, inner })
    }

    /// What is known of a login.
    pub fn ask(&self, users: &Users, login: &Login) -> Known {
        let mut context = hmac::Context::with_key(&self.inner.key);
        context.update(&users.id.to_le_bytes());
        context.update(login.whole());
        let mut mark = [0; 32];
        mark.iter_mut().zip(context.sign().as_ref()).for_each(|(to, from)| *to = *from);
        self.inner.known(&mark).map_or(Known::Unknown(mark), Known::Verdict)
    }

    /// The verdict on a login that is being found out for somebody else: many requests at once with one password are one guess.
    pub fn join(&self, mark: &[u8; 32]) -> Option<oneshot::Receiver<bool>> {
        let mut under_way = self.inner.under_way();
        let waiters = under_way.get_mut(mark).filter(|waiters| waiters.len() < JOINED_MAX)?;
        let (done, verdict) = oneshot::channel();
        waiters.push(done);
        Some(verdict)
    }

    /// Has it found out. None when too many wait already.
    pub fn submit(&self, users: Arc<Users>, login: Login, mark: [u8; 32]) -> Option<oneshot::Receiver<bool>> {
        let (done, verdict) = oneshot::channel();
        let mut under_way = self.inner.under_way();
        match self.jobs.try_send(Job { users, login, mark, done }) {
            Ok(()) => {
                under_way.entry(mark).or_default();
                Some(verdict)
            }
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => None,
        }
    }
}

impl Inner {
    fn under_way(&self) -> MutexGuard<'_, HashMap<[u8; 32], Vec<oneshot::Sender<bool>>>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody waits for it; where nobody does, nobody can join any more.
    fn is_wanted(&self, job: &Job) -> bool {
        let mut under_way = self.under_way();
        let joined =
            under_way.get(&job.mark).is_some_and(|waiters| waiters.iter().any(|one| !one.is_closed()));
        let wanted = joined || !job.done.is_closed();
        if !wanted {
            under_way.remove(&job.mark);
        }
        wanted
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn known(&self, mark: &[u8; 32]) -> Option<bool> {
        let now_ms = self.now_ms();
        let good = self.good.get(mark, now_ms).map(|()| true);
        good.or_else(|| self.bad.get(mark, now_ms).map(|()| false))
    }

    fn find_out(&self, job: &Job) -> bool {
        // A page brings many requests with one password at once: the first one answers for the others.
        if let Some(verdict) = self.known(&job.mark) {
            return verdict;
        }
        let is_right = job.users.verify(job.login.name(), job.login.password());
        let table = if is_right { &self.good } else { &self.bad };
        table.put(job.mark, (), self.now_ms() + KEPT_MS);
        is_right
    }
}

fn work(inner: &Inner, line: &Mutex<Receiver<Job>>) {
    loop {
        let next = line.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else { return };
        // Who has gone away needs no answer.
        if inner.is_wanted(&job) {
            let verdict = inner.find_out(&job);
            let joined = inner.under_way().remove(&job.mark).unwrap_or_default();
            for waiting in joined.into_iter().chain([job.done]) {
                let _gone_meanwhile = waiting.send(verdict);
            }
        }
    }
}
