//! `simulate`: pickers against each other, in a discrete-event simulation that drives the product's own clusters and cells.
//! Nothing is measured in wall time, so that a run gives the same figures on any machine.
//!
//! First the simulation itself is checked against closed forms; a result that they refuse is none.

mod choice;
mod engine;
mod plot;
mod report;
mod world;

use crate::failure::{Fallible, failure};
use crate::machine::Machine;
use crate::results;
use choice::Picker;
use engine::{Plan, Seen, simulate};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use world::{Park, Service};

/// What to simulate.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    /// Requests of each world.
    pub(crate) requests: u64,
    /// Worlds of each kind at load 0.8, and at the other loads.
    pub(crate) seeds: (u64, u64),
    /// Shares of capacity.
    pub(crate) loads: Vec<f64>,
    /// Numbers of routers.
    pub(crate) routers: Vec<usize>,
    /// Distributions of service times.
    pub(crate) services: Vec<Service>,
    /// Endpoints of the checks against closed forms, which hold for very many.
    pub(crate) check_endpoints: usize,
    /// Requests of those checks.
    pub(crate) check_requests: u64,
    /// How far a check may be off.
    pub(crate) check_bound: f64,
    pub(crate) date: Option<String>,
    pub(crate) record: bool,
}

impl Wish {
    /// The full matrix, or a small part of it that shows whether everything works.
    pub(crate) fn new(smoke: bool, requests: u64, date: Option<String>, record: bool) -> Self {
        if smoke {
            let (loads, routers) = (vec![0.8], vec![2]);
            let services = vec![Service::Exponential];
            return Self {
                requests: 2_000,
                seeds: (1, 1),
                loads,
                routers,
                services,
                check_endpoints: 100,
                check_requests: 200_000,
                check_bound: 0.15,
                date,
                record,
            };
        }
        Self {
            requests,
            seeds: (20, 5),
            loads: vec![0.5, 0.6, 0.7, 0.8, 0.9, 0.95],
            routers: vec![1, 10, 100],
            services: Service::ALL.to_vec(),
            check_endpoints: 4_000,
            check_requests: 8_000_000,
            check_bound: 0.02,
            date,
            record,
        }
    }

    /// Load 0.8 with exponential service, and no more.
    pub(crate) fn only_bars(&mut self) {
        (self.loads, self.services) = (vec![0.8], vec![Service::Exponential]);
    }

    fn plans(&self) -> Vec<Plan> {
        let mut plans = Vec::new();
        for &service in &self.services {
            for &routers in &self.routers {
                for &load in &self.loads {
                    let seeds = if load == 0.8 { self.seeds.0 } else { self.seeds.1 };
                    for picker in Picker::ALL {
                        plans.extend((1..=seeds).map(|seed| {
                            let (park, requests) = (Park::MIXED, self.requests);
                            Plan { park, picker, routers, service, load, seed, requests }
                        }));
                    }
                }
            }
        }
        plans
    }
}

/// A check against a closed form.
#[derive(Debug, Clone, Copy)]
struct Check {
    what: &'static str,
    picker: Picker,
    load: f64,
    /// Mean time in units of the service time.
    expected: f64,
    found: f64,
}

/// M/M/1 for random picks; for p2c the fluid limit of M. Mitzenmacher, the sum of load^(2^i - 1) over i from 1.
fn checks(wish: &Wish) -> Fallible<Vec<Check>> {
    let park = Park { endpoints: wish.check_endpoints, speeds: &[1.0], noisy: false };
    let asked = [
        ("M/M/1", Picker::Random, 0.8),
        ("fluid limit", Picker::P2c, 0.9),
        ("fluid limit", Picker::P2c, 0.99),
    ];
    let closed = |picker: Picker, load: f64| match picker {
        Picker::P2c => (1..=30).map(|i| load.powf(2f64.powi(i) - 1.0) / load).sum(),
        _ => 1.0 / (1.0 - load),
    };
    let plans: Vec<Plan> = asked
        .iter()
        .map(|(_, picker, load)| Plan {
            park,
            picker: *picker,
            routers: 1,
            service: Service::Exponential,
            load: *load,
            seed: 1,
            requests: wish.check_requests,
        })
        .collect();
    let seen = all("checks", &plans)?;
    let checks: Vec<Check> = asked
        .iter()
        .zip(seen)
        .map(|(&(what, picker, load), seen)| Check {
            what,
            picker,
            load,
            expected: closed(picker, load),
            found: seen.mean,
        })
        .collect();
    match checks.iter().find(|check| (check.found / check.expected - 1.0).abs() > wish.check_bound) {
        // A small run cannot come to rest at the highest load.
        Some(check) if wish.check_bound < 0.1 || check.load < 0.95 => Err(failure(format!(
            "the simulation is wrong: {} at load {} gives {:.3} where the {} says {:.3}",
            check.picker.word(),
            check.load,
            check.found,
            check.what,
            check.expected
        ))),
        Some(_) | None => Ok(checks),
    }
}

/// Endpoints that serve one request at a time, all alike, before one router: queue time is all that pickers decide.
fn single_slot(wish: &Wish) -> Fallible<Vec<(Plan, Seen)>> {
    let park = Park { endpoints: 100, speeds: &[1.0], noisy: false };
    let plan = |picker: Picker, seed: u64| {
        let (service, requests) = (Service::Exponential, wish.requests);
        Plan { park, picker, routers: 1, service, load: 0.8, seed, requests }
    };
    let pickers = [Picker::Slotted, Picker::Random, Picker::RoundRobin, Picker::P2c, Picker::PeakEwma];
    let plans: Vec<Plan> = pickers
        .into_iter()
        .flat_map(|picker| (1..=wish.seeds.0).map(move |seed| plan(picker, seed)))
        .collect();
    let seen = all("single-slot worlds", &plans)?;
    Ok(plans.into_iter().zip(seen).collect())
}

/// Simulates all worlds, on every core; says how far it is.
fn all(what: &str, plans: &[Plan]) -> Fallible<Vec<Seen>> {
    let next = AtomicUsize::new(0);
    let ended = AtomicUsize::new(0);
    let done = Mutex::new(vec![None; plans.len()]);
    let work = || {
        while let Some((at, plan)) = {
            let at = next.fetch_add(1, Ordering::Relaxed);
            plans.get(at).map(|plan| (at, *plan))
        } {
            let seen = simulate(plan);
            let count = ended.fetch_add(1, Ordering::Relaxed) + 1;
            if count.is_multiple_of(plans.len().div_ceil(50)) || count == plans.len() {
                eprintln!("{what}: {count} of {}", plans.len());
            }
            if let Ok(mut done) = done.lock()
                && let Some(place) = done.get_mut(at)
            {
                *place = Some(seen);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..crate::launch::core_count() {
            scope.spawn(work);
        }
    });
    let done = done.into_inner().map_err(|_| failure("a simulation ended early"))?;
    done.into_iter().map(|seen| seen.unwrap_or_else(|| Err(failure("a simulation ended early")))).collect()
}

/// Simulates, and publishes the report.
pub(crate) fn run(wish: &Wish) -> Fallible<()> {
    let checks = checks(wish)?;
    let plans = wish.plans();
    let seen = all("worlds", &plans)?;
    let slotted = single_slot(wish)?;
    let machine = Machine::look(wish.date.as_deref());
    let worlds: Vec<(Plan, Seen)> = plans.into_iter().zip(seen).collect();
    let (json, text) = report::write(&machine, wish, &checks, &worlds, &slotted)?;
    let svg = report::plot(&machine, wish, &worlds);
    results::write_out("simulate.svg", &svg)?;
    if wish.record {
        std::fs::write(results::package_dir().join("simulate.svg"), svg)?;
    }
    println!("\n{text}");
    results::publish("simulate", &json, &text, wish.record)
}
