//! The log thread: drains the workers' rings, formats lines and writes them in batches. Never called by a worker;
//! workers do not wake it, it looks by itself every 1 to 20 ms, more often the fuller it finds the rings.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ekiden_config::model::{AccessLog, LogFormat, LogTarget};
use rtrb::Consumer;

use super::{AccessSink, FileSink, RING_BYTES, Recorder, StdoutSink, json, logfmt, ring};

/// Shortest and longest pause between two looks at the rings.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(20);
/// Lines are written when this many bytes are formatted, and at the end of each look.
const BATCH_BYTES: usize = 64 << 10;
/// Commands that may wait for the thread; more are refused, which loses nothing but a repeated request.
const COMMANDS_MAX: usize = 16;
/// Looks at the end of the process; bounds the wait for workers that still write.
const LAST_LOOKS: usize = 64;
/// Loss is reported in the process log at most this often.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// What the log thread has done and lost. Read by the telemetry server.
#[derive(Debug)]
pub struct LogMeters {
    dropped: Vec<Arc<AtomicU64>>,
    lines: AtomicU64,
    lost: AtomicU64,
    errors: AtomicU64,
}

impl LogMeters {
    /// Records dropped because a ring was full, over all workers.
    pub fn dropped(&self) -> u64 {
        self.dropped.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Lines written.
    pub fn lines(&self) -> u64 {
        self.lines.load(Ordering::Relaxed)
    }

    /// Lines lost because the sink failed.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Failed calls of the sink.
    pub fn write_errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
enum Command {
    Reopen(SyncSender<()>),
    Sync(SyncSender<()>),
    Stop,
}

/// Holds the log thread. Dropping it without [`Scribe::stop`] lets the thread drain and end by itself.
#[derive(Debug)]
pub struct Scribe {
    commands: Option<SyncSender<Command>>,
    thread: Option<JoinHandle<()>>,
    ended: Receiver<()>,
    meters: Arc<LogMeters>,
}

impl Scribe {
    /// Starts the log as configured and makes one recorder for each worker. With the log off there is no thread and
    /// the recorders forget. Fails when the file cannot be opened or the thread cannot be made.
    pub fn start(log: &AccessLog, workers: usize) -> io::Result<(Vec<Recorder>, Scribe)> {
        match &log.to {
            LogTarget::Stdout => {
                Self::start_with(Box::<StdoutSink>::default(), log.format, workers, RING_BYTES)
            }
            LogTarget::File(path) => {
                Self::start_with(Box::new(FileSink::open(path)?), log.format, workers, RING_BYTES)
            }
            LogTarget::Off => {
                let meters = LogMeters::new(Vec::new());
                let scribe = Scribe {
                    commands: None,
                    thread: None,
                    ended: sync_channel(1).1,
                    meters: Arc::new(meters),
                };
                Ok(((0..workers).map(|_| Recorder::off()).collect(), scribe))
            }
        }
    }

    /// As [`Scribe::start`], with a sink of the caller's and rings of `ring_bytes` each.
    pub fn start_with(
        sink: Box<dyn AccessSink>,
        format: LogFormat,
        workers: usize,
        ring_bytes: usize,
    ) -> io::Result<(Vec<Recorder>, Scribe)> {
        let (mut recorders, mut rings, mut dropped) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..workers {
            let (recorder, ring, drops) = ring::pair(ring_bytes);
            recorders.push(recorder);
            rings.push(ring);
            dropped.push(drops);
        }
        let meters = Arc::new(LogMeters::new(dropped));
        let (commands, orders) = sync_channel(COMMANDS_MAX);
        let (end, ended) = sync_channel(1);
        let mut desk = Desk {
            sink,
            format: match format {
                LogFormat::Json => json::push_line,
                LogFormat::Logfmt => logfmt::push_line,
            },
            rings,
            ring_bytes,
            meters: meters.clone(),
            batch: Batch { text: Vec::with_capacity(2 * BATCH_BYTES), lines: 0 },
            scratch: Vec::new(),
            broken: false,
            reported: (None, 0),
        };
        let thread = std::thread::Builder::new().name("ekiden-log".into()).spawn(move || {
            desk.run(&orders);
            let _ = end.send(());
        })?;
        Ok((recorders, Scribe { commands: Some(commands), thread: Some(thread), ended, meters }))
    }

    /// Counts of lines, drops and errors.
    pub fn meters(&self) -> Arc<LogMeters> {
        self.meters.clone()
    }

    fn ask(&self, make: impl FnOnce(SyncSender<()>) -> Command, within: Duration) -> bool {
        let Some(commands) = &self.commands else { return true };
        let (done, answer) = sync_channel(1);
        commands.try_send(make(done)).is_ok() && answer.recv_timeout(within).is_ok()
    }

    /// Opens the destination anew, for log rotation; what was recorded before goes to the old one. Waits at most
    /// `within` for the thread; returns whether it was done by then. Called on SIGHUP.
    pub fn reopen(&self, within: Duration) -> bool {
        self.ask(Command::Reopen, within)
    }

    /// Waits at most `within` until everything recorded before this call is written; returns whether it was.
    pub fn sync(&self, within: Duration) -> bool {
        self.ask(Command::Sync, within)
    }

    /// Drains all rings, writes, and ends the thread; gives up waiting after `within` (a sink may hang). Call it when
    /// the workers have ended. Returns whether everything was written.
    pub fn stop(mut self, within: Duration) -> bool {
        let Some(commands) = self.commands.take() else { return true };
        let _ = commands.try_send(Command::Stop);
        drop(commands);
        match self.ended.recv_timeout(within) {
            Ok(()) => self.thread.take().is_none_or(|thread| thread.join().is_ok()),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => false,
        }
    }
}

impl Default for LogMeters {
    /// Of a process that serves no request.
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl LogMeters {
    fn new(dropped: Vec<Arc<AtomicU64>>) -> Self {
        Self { dropped, lines: AtomicU64::new(0), lost: AtomicU64::new(0), errors: AtomicU64::new(0) }
    }
}

/// What the thread owns.
struct Desk {
    sink: Box<dyn AccessSink>,
    format: fn(&mut Vec<u8>, &super::Access<'_>),
    rings: Vec<Consumer<u8>>,
    ring_bytes: usize,
    meters: Arc<LogMeters>,
    batch: Batch,
    scratch: Vec<u8>,
    broken: bool,
    reported: (Option<Instant>, u64),
}

struct Batch {
    text: Vec<u8>,
    lines: u64,
}

impl Desk {
    fn run(&mut self, orders: &Receiver<Command>) {
        let mut pause = PAUSE_MAX;
        loop {
            let order = orders.recv_timeout(pause);
            let fullest = self.look();
            pause = if fullest > self.ring_bytes / 4 {
                (pause / 2).max(PAUSE_MIN)
            } else if fullest < self.ring_bytes / 16 {
                (pause * 2).min(PAUSE_MAX)
            } else {
                pause
            };
            match order {
                Err(RecvTimeoutError::Timeout) => self.report(),
                Ok(Command::Reopen(done)) => {
                    let result = self.sink.reopen();
                    self.judge(result);
                    let _ = done.send(());
                }
                Ok(Command::Sync(done)) => {
                    let result = self.sink.flush();
                    self.judge(result);
                    let _ = done.send(());
                }
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => {
                    let _ = (0..LAST_LOOKS).find(|_| self.look() == 0);
                    let result = self.sink.flush();
                    return self.judge(result);
                }
            }
        }
    }

    /// Drains every ring once and writes; returns the bytes found in the fullest.
    fn look(&mut self) -> usize {
        let mut fullest = 0;
        for index in 0..self.rings.len() {
            let Some(ring) = self.rings.get_mut(index) else { break };
            let (format, batch, sink, meters) = (self.format, &mut self.batch, &mut self.sink, &self.meters);
            let mut fault = None;
            let found = ring::drain(ring, &mut self.scratch, |access| {
                format(&mut batch.text, access);
                batch.lines += 1;
                if batch.text.len() >= BATCH_BYTES {
                    fault = batch.write(sink.as_mut(), meters).or(fault.take());
                }
            });
            fullest = fullest.max(found);
            if let Some(error) = fault {
                self.complain(&error);
            }
        }
        if self.batch.lines > 0 {
            match self.batch.write(self.sink.as_mut(), &self.meters) {
                Some(error) => self.complain(&error),
                None => self.broken = false,
            }
        }
        fullest
    }

    fn judge(&mut self, result: io::Result<()>) {
        if let Err(error) = result {
            self.meters.errors.fetch_add(1, Ordering::Relaxed);
            self.complain(&error);
        }
    }

    /// Says once per fault that the sink fails, not once per write.
    fn complain(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.broken, true) {
            tracing::error!(%error, "the access log cannot be written; lines are lost and counted until it can");
        }
    }

    /// Says in the process log that records were dropped, with their number.
    fn report(&mut self) {
        let (at, known) = self.reported;
        let dropped = self.meters.dropped();
        if dropped > known && at.is_none_or(|at| at.elapsed() >= REPORT_EVERY) {
            tracing::warn!(
                records = dropped - known,
                "access log records dropped: the log thread cannot keep up"
            );
            self.reported = (Some(Instant::now()), dropped);
        }
    }
}

impl Batch {
    fn write(&mut self, sink: &mut dyn AccessSink, meters: &LogMeters) -> Option<io::Error> {
        let result = sink.write(&self.text);
        match &result {
            Ok(()) => meters.lines.fetch_add(self.lines, Ordering::Relaxed),
            Err(_) => {
                meters.errors.fetch_add(1, Ordering::Relaxed);
                meters.lost.fetch_add(self.lines, Ordering::Relaxed)
            }
        };
        self.text.clear();
        self.lines = 0;
        result.err()
    }
}
