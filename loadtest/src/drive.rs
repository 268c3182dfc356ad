//! Our load generator, in a process of its own: closed loop with an exact number of requests, or open loop at a
//! fixed rate whose latencies count from the intended start, so that a stall of the router cannot hide itself
//! (coordinated omission). Every answer is checked; it measures latency only, never CPU.

mod connection;

use crate::failure::{Fallible, failure};
use crate::turn::{self, Turn, Wake};
use connection::Connection;
use hdrhistogram::Histogram;
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

/// Requests that may wait for a free connection before the run is given up.
const BACKLOG: usize = 200_000;
/// Kinds of failure told in words.
const TOLD: usize = 5;
/// Longest wait for outstanding answers after the last request is due.
const PATIENCE: Duration = Duration::from_secs(10);

/// When requests start.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Pace {
    /// Each connection sends its next request when the answer is there, this many in all.
    Closed(u64),
    /// As `Closed`, for this long.
    ClosedFor(Duration),
    /// This many a second on a fixed schedule; those of the first duration are not recorded.
    Open(f64, Duration, Duration),
}

/// What to send and how.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Where to.
    pub(crate) to: SocketAddr,
    /// `Host` of each request.
    pub(crate) host: String,
    /// Path of each request.
    pub(crate) path: String,
    /// Bytes each body must have.
    pub(crate) body_len: usize,
    /// Keep-alive connections, 1..=10,000.
    pub(crate) connections: usize,
    /// When requests start.
    pub(crate) pace: Pace,
    /// Whether 502 and 503 are refusals, counted and not measured, and no failures.
    pub(crate) refusals: bool,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Report {
    /// Answers that were right, with those of the warm-up.
    pub(crate) verified: u64,
    /// Requests answered with 502 or 503, where that is no failure.
    pub(crate) refused: u64,
    /// Requests without a right answer.
    pub(crate) failed: u64,
    /// The first few reasons.
    pub(crate) reasons: Vec<String>,
    /// Connections that were closed between requests and opened anew.
    pub(crate) reopened: u64,
    /// Most requests that waited for a free connection.
    pub(crate) most_waiting: usize,
    /// From the first request to the last answer.
    pub(crate) elapsed: Duration,
    /// Latencies in nanoseconds from the intended start.
    pub(crate) latency: Histogram<u64>,
}

impl Report {
    /// One line of JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        let micros = |quantile: f64| self.latency.value_at_quantile(quantile) as f64 / 1_000.0;
        serde_json::json!({
            "verified": self.verified, "refused": self.refused, "failed": self.failed, "reasons": self.reasons,
            "reopened": self.reopened, "most_waiting": self.most_waiting, "recorded": self.latency.len(),
            "elapsed_s": self.elapsed.as_secs_f64(),
            "p50_us": micros(0.5), "p90_us": micros(0.9), "p99_us": micros(0.99), "p999_us": micros(0.999),
            "max_us": self.latency.max() as f64 / 1_000.0,
        })
    }
}

/// Runs the plan to its end.
pub(crate) fn run(plan: &Plan) -> Fallible<Report> {
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
    let mut drive = Drive::open(plan)?;
    drive.run()?;
    drive.report.elapsed = drive.started.elapsed();
    Ok(drive.report)
}

struct Drive<'p> {
    plan: &'p Plan,
    request: Vec<u8>,
    turn: Turn,
    connections: Vec<Connection>,
    /// Connections without a request, longest idle first, so that all are used.
    free: VecDeque<usize>,
    /// Intended starts that found no free connection.
    waiting: VecDeque<Instant>,
    started: Instant,
    sent: u64,
    outstanding: usize,
    buffer: Vec<u8>,
    report: Report,
}

impl<'p> Drive<'p> {
    fn open(plan: &'p Plan) -> Fallible<Self> {
        let turn = Turn::new()?;
        let mut connections = Vec::with_capacity(plan.connections);
        for token in 0..plan.connections {
            let stream = turn::connect(plan.to)?;
            turn.watch(&stream, token as u64)?;
            connections.push(Connection::new(stream));
        }
        let latency =
            Histogram::new_with_bounds(100, 60_000_000_000, 3).map_err(|e| failure(e.to_string()))?;
        let report = Report {
            verified: 0,
            refused: 0,
            failed: 0,
            reasons: Vec::new(),
            reopened: 0,
            most_waiting: 0,
            elapsed: Duration::ZERO,
            latency,
        };
        Ok(Self {
            plan,
            request: format!("GET {} HTTP/1.1\r\nHost: {}\r\n\r\n", plan.path, plan.host).into_bytes(),
            turn,
            free: (0..connections.len()).collect(),
            connections,
            waiting: VecDeque::new(),
            started: Instant::now(),
            sent: 0,
            outstanding: 0,
            buffer: vec![0; 256 * 1024],
            report,
        })
    }

    fn run(&mut self) -> Fallible<()> {
        let mut wakes = Vec::new();
        let mut given_up = None;
        loop {
            let limit = self.start_due()?;
            if limit.is_none() && self.outstanding == 0 {
                return Ok(());
            }
            if limit.is_none() && *given_up.get_or_insert(Instant::now() + PATIENCE) <= Instant::now() {
                let lost = self.outstanding as u64;
                self.fail(lost, "no answer within 10 s");
                return Ok(());
            }
            self.turn.wait(Some(limit.unwrap_or(Duration::from_millis(100))), &mut wakes)?;
            for wake in &wakes {
                self.wake(*wake)?;
            }
        }
    }

    /// Starts what is due; gives the time until the next start, none when no more will start.
    fn start_due(&mut self) -> Fallible<Option<Duration>> {
        match self.plan.pace {
            Pace::Closed(count) => {
                while self.sent < count && !self.free.is_empty() {
                    self.start(Instant::now())?;
                }
                Ok((self.sent < count).then_some(PATIENCE))
            }
            Pace::ClosedFor(time) => {
                let left = time.saturating_sub(self.started.elapsed());
                while !left.is_zero() && !self.free.is_empty() {
                    self.start(Instant::now())?;
                }
                Ok((!left.is_zero()).then_some(left))
            }
            Pace::Open(rate, warm_up, time) => self.start_scheduled(rate, warm_up + time),
        }
    }

    fn start_scheduled(&mut self, rate: f64, time: Duration) -> Fallible<Option<Duration>> {
        let count = (rate * time.as_secs_f64()) as u64;
        while self.sent + (self.waiting.len() as u64) < count {
            let due =
                self.started + Duration::from_secs_f64((self.sent + self.waiting.len() as u64) as f64 / rate);
            let now = Instant::now();
            if due > now {
                return Ok(Some(due - now));
            }
            self.waiting.push_back(due);
            self.send_waiting()?;
        }
        self.send_waiting()?;
        Ok((!self.waiting.is_empty()).then_some(Duration::from_millis(100)))
    }

    fn send_waiting(&mut self) -> Fallible<()> {
        while !self.free.is_empty()
            && let Some(due) = self.waiting.pop_front()
        {
            self.start(due)?;
        }
        self.report.most_waiting = self.report.most_waiting.max(self.waiting.len());
        if self.waiting.len() > BACKLOG {
            return Err(failure("the router is far slower than the asked rate: 200,000 requests wait"));
        }
        Ok(())
    }

    /// Sends one request on a free connection.
    fn start(&mut self, intent: Instant) -> Fallible<()> {
        let Some(token) = self.free.pop_front() else { return Ok(()) };
        self.sent += 1;
        self.outstanding += 1;
        self.connections[token].intent = Some(intent);
        // A request is far smaller than a socket's buffer: a short write means that the connection is broken.
        match self.connections[token].stream.write(&self.request) {
            Ok(count) if count == self.request.len() => Ok(()),
            Ok(_) => self.broken(token, "short write of a request"),
            Err(error) => self.broken(token, &format!("write: {error}")),
        }
    }

    fn wake(&mut self, wake: Wake) -> Fallible<()> {
        let token = usize::try_from(wake.token).unwrap_or(usize::MAX);
        if !wake.readable {
            return Ok(());
        }
        loop {
            match self.connections[token].stream.read(&mut self.buffer) {
                Ok(0) => return self.broken(token, "closed before the end of an answer"),
                Ok(count) => {
                    let plan = self.plan;
                    match self.connections[token].take(&self.buffer[..count], plan.body_len, plan.refusals) {
                        Ok(false) => {}
                        Ok(true) => self.answered(token)?,
                        Err(error) => return self.broken(token, &error.0),
                    }
                    if count < self.buffer.len() && !wake.ended {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return self.broken(token, &format!("read: {error}")),
            }
        }
    }

    fn answered(&mut self, token: usize) -> Fallible<()> {
        let now = Instant::now();
        self.outstanding -= 1;
        if self.connections[token].refused {
            self.report.refused += 1;
            self.connections[token].intent = None;
            if self.connections[token].close {
                return self.reopen(token);
            }
            self.free.push_back(token);
            return Ok(());
        }
        self.report.verified += 1;
        let warm_up = if let Pace::Open(_, warm_up, _) = self.plan.pace { warm_up } else { Duration::ZERO };
        if let Some(intent) = self.connections[token].intent.take()
            && intent.saturating_duration_since(self.started) >= warm_up
        {
            let nanos = u64::try_from(now.saturating_duration_since(intent).as_nanos()).unwrap_or(u64::MAX);
            self.report.latency.saturating_record(nanos);
        }
        if self.connections[token].close {
            return self.reopen(token);
        }
        self.free.push_back(token);
        Ok(())
    }

    /// A connection ended: a failure if a request was on it, else only opened anew.
    fn broken(&mut self, token: usize, why: &str) -> Fallible<()> {
        if self.connections[token].intent.take().is_some() {
            self.outstanding -= 1;
            self.fail(1, why);
        } else {
            self.free.retain(|free| *free != token);
        }
        self.reopen(token)
    }

    fn reopen(&mut self, token: usize) -> Fallible<()> {
        self.report.reopened += 1;
        let stream = turn::connect(self.plan.to)?;
        self.turn.watch(&stream, token as u64)?;
        self.connections[token] = Connection::new(stream);
        self.free.push_back(token);
        Ok(())
    }

    fn fail(&mut self, count: u64, why: &str) {
        self.report.failed += count;
        if self.report.reasons.len() < TOLD && !self.report.reasons.iter().any(|told| told == why) {
            self.report.reasons.push(why.to_owned());
        }
    }
}
