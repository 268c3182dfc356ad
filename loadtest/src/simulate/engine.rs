//! The simulation of one world: events in the order of time, and what requests met. The network takes no time.

use super::choice::{Picker, Routers};
use super::world::{Park, SERVICE, Server, Service, exponential};
use crate::failure::{Fallible, failure};
use hdrhistogram::Histogram;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// Simulated time.
pub(crate) type Nanos = u64;

/// Requests that take longer are errors: their clients have left.
const PATIENCE: Nanos = 10_000_000_000;

/// From a request to the answers of the endpoints that are asked for their load because of it: they serve the next one.
const PROBE_TIME: Nanos = 1_000_000;

/// One world to simulate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Plan {
    pub(crate) park: Park,
    pub(crate) picker: Picker,
    pub(crate) routers: usize,
    pub(crate) service: Service,
    /// Share of all capacity that is asked for.
    pub(crate) load: f64,
    pub(crate) seed: u64,
    /// Requests that count, after a quarter as many that do not.
    pub(crate) requests: u64,
}

/// What requests met, in units of the mean time of a request at speed 1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) mean: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    /// Share of requests that took too long.
    pub(crate) errors: f64,
    /// Time until an endpoint began to work on a request, of 95 and of 99 in a hundred: at the router and in the endpoint's line.
    pub(crate) waited: (f64, f64),
    /// Share of time that endpoints were at work: those of the highest speed, and those of the lowest.
    pub(crate) busy: (f64, f64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival,
    End {
        server: usize,
        version: u32,
    },
    Turn {
        server: usize,
    },
    /// An endpoint says how busy it is.
    Told {
        router: usize,
        server: usize,
    },
}

struct World {
    plan: Plan,
    random: fastrand::Rng,
    servers: Vec<Server>,
    routers: Routers,
    events: BinaryHeap<Reverse<(Nanos, Event)>>,
    /// Requests that wait at the router for a slot, and since when.
    line: VecDeque<(usize, Nanos)>,
    histogram: Histogram<u64>,
    waits: Histogram<u64>,
    sum: f64,
    errors: u64,
    gap: f64,
}

/// Runs one world to its end.
pub(crate) fn simulate(plan: Plan) -> Fallible<Seen> {
    // The seed decides about the requests; what pickers draw comes from the same source.
    let mut random = fastrand::Rng::with_seed(plan.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let routers = Routers::new(plan.picker, &plan.park, plan.routers, &mut random);
    let routers = routers.ok_or_else(|| failure("the simulated cluster has names that are none"))?;
    let park = plan.park;
    let servers = (0..park.endpoints)
        .map(|at| Server::new(park.speed(at), park.noisy && Server::is_noisy_at_first(&mut random)))
        .collect();
    let empty =
        || Histogram::new_with_bounds(1, 3_600_000_000, 3).map_err(|error| failure(error.to_string()));
    let (histogram, waits, line) = (empty()?, empty()?, VecDeque::new());
    let gap = SERVICE as f64 / (park.capacity() * plan.load);
    let events = BinaryHeap::new();
    World { plan, random, servers, routers, events, line, histogram, waits, sum: 0.0, errors: 0, gap }.run()
}

impl World {
    fn run(mut self) -> Fallible<Seen> {
        self.events.push(Reverse((0, Event::Arrival)));
        if self.plan.park.noisy {
            for (server, at) in self.servers.iter().enumerate() {
                self.events.push(Reverse((at.stay(&mut self.random), Event::Turn { server })));
            }
        }
        let warm = self.plan.requests / 4;
        let (mut arrived, mut began, mut busy) = (0, 0, vec![0; self.servers.len()]);
        while let Some(Reverse((now, event))) = self.events.pop() {
            match event {
                Event::Arrival => {
                    if arrived == warm {
                        (self.sum, self.errors, began) = (0.0, 0, now);
                        self.histogram.reset();
                        self.waits.reset();
                        busy = self.servers.iter().map(|server| server.busy).collect();
                    }
                    arrived += 1;
                    if arrived > warm + self.plan.requests {
                        return Ok(self.seen(&busy, now - began));
                    }
                    self.arrive(now)?;
                }
                Event::End { server, version } => self.end(server, version, now)?,
                Event::Turn { server } => self.turn(server, now),
                Event::Told { router, server } => {
                    if let Some(load) = self.servers.get(server).map(|server| server.load(now)) {
                        self.routers.told(router, server, load, now);
                    }
                }
            }
        }
        Err(failure("the simulation ran out of events"))
    }

    fn arrive(&mut self, now: Nanos) -> Fallible<()> {
        let next = now + (exponential(&mut self.random) * self.gap) as Nanos;
        self.events.push(Reverse((next, Event::Arrival)));
        let router = self.random.usize(..self.plan.routers);
        let chosen = self.routers.choose(router, &self.servers, now, &mut self.random);
        for server in self.routers.probes(router, &mut self.random) {
            self.events.push(Reverse((now + PROBE_TIME, Event::Told { router, server })));
        }
        match chosen {
            Some(at) => self.send(at, router, (now, now)),
            None if self.plan.picker == Picker::Slotted => {
                self.line.push_back((router, now));
                Ok(())
            }
            None => Err(failure("no endpoint was picked")),
        }
    }

    /// A request that came to the router some time ago comes to an endpoint now.
    fn send(&mut self, at: usize, router: usize, (arrived, now): (Nanos, Nanos)) -> Fallible<()> {
        let Some(server) = self.servers.get_mut(at) else { return Err(failure("no such endpoint")) };
        if server.take((arrived, now), router, self.plan.service, &mut self.random) {
            self.waits.saturating_record((now - arrived) / 1_000);
            self.announce(at);
        }
        Ok(())
    }

    fn announce(&mut self, at: usize) {
        if let Some(server) = self.servers.get(at)
            && let Some(end) = server.end()
        {
            self.events.push(Reverse((end, Event::End { server: at, version: server.version })));
        }
    }

    fn end(&mut self, at: usize, version: u32, now: Nanos) -> Fallible<()> {
        let Some(server) = self.servers.get_mut(at).filter(|server| server.version == version) else {
            return Ok(());
        };
        let Some((job, load)) = server.finish(now) else { return Ok(()) };
        let took = now - job.arrived;
        self.routers.answered(job.router, at, took, load, now);
        self.errors += u64::from(took > PATIENCE);
        self.sum += took as f64;
        self.histogram.saturating_record(took / 1_000);
        if let Some(next) = server.first() {
            self.waits.saturating_record((now - next) / 1_000);
        }
        self.announce(at);
        match self.line.pop_front() {
            Some((router, arrived)) => {
                self.routers.hand_over(router, at);
                self.send(at, router, (arrived, now))
            }
            None => Ok(()),
        }
    }

    fn turn(&mut self, at: usize, now: Nanos) {
        let Some(server) = self.servers.get_mut(at) else { return };
        server.turn(now);
        let stay = server.stay(&mut self.random);
        self.events.push(Reverse((now + stay, Event::Turn { server: at })));
        self.announce(at);
    }

    fn seen(&self, before: &[Nanos], time: Nanos) -> Seen {
        let unit = SERVICE as f64;
        let at = |quantile: f64| self.histogram.value_at_quantile(quantile) as f64 * 1_000.0 / unit;
        let waited = |quantile: f64| self.waits.value_at_quantile(quantile) as f64 * 1_000.0 / unit;
        let count = self.histogram.len().max(1) as f64;
        let park = self.plan.park;
        let speeds = || (0..park.endpoints).map(|at| park.speed(at));
        let (slowest, fastest) = (speeds().fold(f64::MAX, f64::min), speeds().fold(0.0, f64::max));
        let busy = |of: f64| {
            let those =
                || self.servers.iter().zip(before).enumerate().filter(|(at, _)| park.speed(*at) == of);
            let worked: f64 = those().map(|(_, (server, before))| (server.busy - before) as f64).sum();
            worked / (those().count().max(1) as f64 * time.max(1) as f64)
        };
        Seen {
            mean: self.sum / count / unit,
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            waited: (waited(0.95), waited(0.99)),
            errors: self.errors as f64 / count,
            busy: (busy(fastest), busy(slowest)),
        }
    }
}
