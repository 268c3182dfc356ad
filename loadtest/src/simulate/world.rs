//! The simulated endpoints: each serves one request at a time, first come first served, at a speed of its own that a noisy
//! neighbour halves now and then.

use super::engine::Nanos;
use ekiden_core::cell::load::{Load, LoadBook};
use std::collections::VecDeque;

/// Mean time of a request at speed 1.
pub(crate) const SERVICE: Nanos = 20_000_000;
/// Mean time between two visits of a noisy neighbour, and how long one stays.
const QUIET: f64 = 8e9;
const NOISY: f64 = 2e9;
/// What is left of the speed beside a noisy neighbour.
const SLOWED: f64 = 0.5;

/// How service times are distributed; the mean is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    Exponential,
    Fixed,
    /// Lognormal with sigma 1.
    Lognormal,
    /// One of ten takes ten times as long as the others.
    TwoKinds,
}

impl Service {
    pub(crate) const ALL: [Self; 4] = [Self::Exponential, Self::Fixed, Self::Lognormal, Self::TwoKinds];

    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Exponential => "exponential",
            Self::Fixed => "fixed",
            Self::Lognormal => "lognormal",
            Self::TwoKinds => "two kinds",
        }
    }

    fn draw(self, random: &mut fastrand::Rng) -> f64 {
        match self {
            Self::Exponential => exponential(random),
            Self::Fixed => 1.0,
            Self::Lognormal => {
                let radius = (2.0 * exponential(random)).sqrt();
                let normal = radius * (std::f64::consts::TAU * random.f64()).cos();
                (normal - 0.5).exp()
            }
            Self::TwoKinds if random.u32(..10) == 0 => 10.0 / 1.9,
            Self::TwoKinds => 1.0 / 1.9,
        }
    }
}

/// With mean 1.
pub(crate) fn exponential(random: &mut fastrand::Rng) -> f64 {
    -(1.0 - random.f64()).ln()
}

/// What the endpoints are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Park {
    /// How many.
    pub(crate) endpoints: usize,
    /// Their speeds, in turn.
    pub(crate) speeds: &'static [f64],
    /// Whether they have noisy neighbours.
    pub(crate) noisy: bool,
}

impl Park {
    /// A hundred that differ, with neighbours.
    pub(crate) const MIXED: Self = Self { endpoints: 100, speeds: &[1.0, 1.0, 0.5, 0.25], noisy: true };

    pub(crate) fn speed(&self, at: usize) -> f64 {
        self.speeds.get(at % self.speeds.len()).copied().unwrap_or(1.0)
    }

    /// What all of them serve, in requests at a time at speed 1.
    pub(crate) fn capacity(&self) -> f64 {
        let share = if self.noisy { (QUIET + NOISY * SLOWED) / (QUIET + NOISY) } else { 1.0 };
        (0..self.endpoints).map(|at| self.speed(at)).sum::<f64>() * share
    }
}

/// A request at an endpoint.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job {
    pub(crate) router: usize,
    /// When it came to the router.
    pub(crate) arrived: Nanos,
    /// When it came to the endpoint.
    came: Nanos,
    /// Requests that were there when it came.
    pub(crate) others: u32,
    work: f64,
}

/// One endpoint, with the ambassador beside it.
#[derive(Debug)]
pub(crate) struct Server {
    speed: f64,
    is_noisy: bool,
    line: VecDeque<Job>,
    /// When the work of the first in line was looked at last.
    since: Nanos,
    /// Counts what makes an announced end void.
    pub(crate) version: u32,
    pub(crate) busy: Nanos,
    book: LoadBook,
}

impl Server {
    pub(crate) fn new(speed: f64, is_noisy: bool) -> Self {
        let (line, book) = (VecDeque::new(), LoadBook::default());
        Self { speed, is_noisy, line, since: 0, version: 0, busy: 0, book }
    }

    /// Its speed at this moment.
    pub(crate) fn speed(&self) -> f64 {
        if self.is_noisy { self.speed * SLOWED } else { self.speed }
    }

    /// When the request came to its router that it works on now.
    pub(crate) fn first(&self) -> Option<Nanos> {
        self.line.front().map(|job| job.arrived)
    }

    /// Requests it has in hand.
    pub(crate) fn len(&self) -> usize {
        self.line.len()
    }

    /// How long this state of the neighbour lasts.
    pub(crate) fn stay(&self, random: &mut fastrand::Rng) -> Nanos {
        (exponential(random) * if self.is_noisy { NOISY } else { QUIET }) as Nanos
    }

    /// The share of time beside a noisy neighbour.
    pub(crate) fn is_noisy_at_first(random: &mut fastrand::Rng) -> bool {
        random.f64() < NOISY / (QUIET + NOISY)
    }

    fn work_on(&mut self, now: Nanos) {
        let speed = self.speed();
        if let Some(first) = self.line.front_mut() {
            first.work -= (now - self.since) as f64 * speed;
            self.busy += now - self.since;
        }
        self.since = now;
    }

    /// When the first in line is done; none when nobody is there.
    pub(crate) fn end(&self) -> Option<Nanos> {
        self.line.front().map(|first| self.since + (first.work.max(0.0) / self.speed()).ceil() as Nanos)
    }

    /// Takes a request; true when it is served at once.
    pub(crate) fn take(
        &mut self,
        (arrived, now): (Nanos, Nanos),
        router: usize,
        service: Service,
        random: &mut fastrand::Rng,
    ) -> bool {
        self.work_on(now);
        let work = service.draw(random) * SERVICE as f64;
        let others = u32::try_from(self.line.len()).unwrap_or(u32::MAX);
        self.line.push_back(Job { router, arrived, came: now, others, work });
        self.line.len() == 1
    }

    /// The first in line is done: gives it with what the ambassador says.
    pub(crate) fn finish(&mut self, now: Nanos) -> Option<(Job, Load)> {
        self.work_on(now);
        let job = self.line.pop_front()?;
        let now_us = now / 1_000;
        let in_hand = u32::try_from(self.line.len() + 1).unwrap_or(u32::MAX);
        self.book.note(job.others, (now - job.came) / 1_000, in_hand, now_us);
        Some((job, self.load(now)))
    }

    /// What the ambassador says at this moment.
    pub(crate) fn load(&self, now: Nanos) -> Load {
        let requests = u32::try_from(self.line.len()).unwrap_or(u32::MAX);
        Load { requests, latency_us: self.book.expected_us(requests, now / 1_000) }
    }

    /// The neighbour comes or goes.
    pub(crate) fn turn(&mut self, now: Nanos) {
        self.work_on(now);
        self.is_noisy = !self.is_noisy;
        self.version += 1;
    }
}
