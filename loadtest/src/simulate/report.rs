//! The report of `simulate`: checks, bars, and a table for each distribution of service times and number of routers.

use super::choice::Picker;
use super::engine::{Plan, Seen};
use super::plot::{self, Line, Panel};
use super::world::Service;
use super::{Check, Wish};
use crate::failure::Fallible;
use crate::figures::{median, thousands};
use crate::machine::Machine;
use serde_json::{Value, json};
use std::fmt::Write;

/// The bar of `prequal`: its p99 against p2c and against the oracle.
const PREQUAL: (f64, f64) = (0.65, 1.25);
/// The bar of the best picker that needs no help from endpoints, against p2c.
const UNAIDED: f64 = 0.85;
/// Pickers of that kind.
const UNAIDED_PICKERS: [Picker; 4] =
    [Picker::PeakEwma, Picker::LeastRequest, Picker::RoundRobin, Picker::Random];

type World = (Plan, Seen);

/// What all seeds of one kind of world say together.
struct Figures {
    p50: f64,
    p99: f64,
    p999: f64,
    errors: f64,
    busy: (f64, f64),
}

fn of(worlds: &[World], picker: Picker, service: Service, routers: usize, load: f64) -> Option<Figures> {
    let is_one = |plan: &Plan| {
        plan.picker == picker && plan.service == service && plan.routers == routers && plan.load == load
    };
    let seen: Vec<Seen> = worlds.iter().filter(|(plan, _)| is_one(plan)).map(|(_, seen)| *seen).collect();
    if seen.is_empty() {
        return None;
    }
    let over = |of: fn(&Seen) -> f64| median(&seen.iter().map(of).collect::<Vec<_>>());
    Some(Figures {
        p50: over(|seen| seen.p50),
        p99: over(|seen| seen.p99),
        p999: over(|seen| seen.p999),
        errors: over(|seen| seen.errors),
        busy: (over(|seen| seen.busy.0), over(|seen| seen.busy.1)),
    })
}

/// The median over the seeds of the ratio of two p99s of the same seed.
fn ratio(worlds: &[World], of: Picker, to: Picker, like: (Service, usize, f64)) -> Option<f64> {
    let p99s = |picker: Picker| -> Vec<f64> {
        let is_one = |plan: &Plan| plan.picker == picker && (plan.service, plan.routers, plan.load) == like;
        worlds.iter().filter(|(plan, _)| is_one(plan)).map(|(_, seen)| seen.p99).collect()
    };
    let ratios: Vec<f64> = p99s(of).iter().zip(p99s(to)).map(|(of, to)| of / to).collect();
    (!ratios.is_empty()).then(|| median(&ratios))
}

fn verdict(found: f64, bar: f64) -> &'static str {
    if found <= bar { "met" } else { "missed" }
}

/// Both forms of the report.
pub(super) fn write(
    machine: &Machine,
    wish: &Wish,
    checks: &[Check],
    worlds: &[World],
    slotted: &[World],
) -> Fallible<(Value, String)> {
    let mut text = format!("{}\n\n", machine.line());
    writeln!(
        text,
        "100 endpoints of speeds 1, 1, 0.5 and 0.25 in turn, each serving one request at a time; a noisy neighbour halves the speed of \
         each for a fifth of the time (2 s a visit, on average). Times in units of the mean service time at speed 1 (20 ms); load is the \
         share of all capacity. {} requests a world after a quarter as many that do not count, {} seeds at load 0.8 and {} elsewhere, \
         medians over the seeds. A request of more than 10 s is an error. The network takes no time. A world lasts some 20 s: where \
         slow endpoints get more than they can serve, times go on growing after that.\n",
        wish.requests, wish.seeds.0, wish.seeds.1
    )?;
    write_checks(&mut text, wish.check_endpoints, checks)?;
    write_bars(&mut text, worlds)?;
    write_ratios(&mut text, wish, worlds)?;
    write_slotted(&mut text, slotted)?;
    for &service in &wish.services {
        for &routers in &wish.routers {
            write_table(&mut text, wish, worlds, service, routers)?;
        }
    }
    Ok((as_json(machine, wish, checks, &[worlds, slotted].concat()), text))
}

fn write_checks(text: &mut String, endpoints: usize, checks: &[Check]) -> Fallible<()> {
    writeln!(
        text,
        "Closed forms first, {} equal endpoints and exponential service:\n",
        thousands(endpoints as f64)
    )?;
    writeln!(
        text,
        "| picker | load | closed form | mean time | simulated | off |\n|---|---|---|---|---|---|"
    )?;
    for check in checks {
        let Check { what, picker, load, expected, found } = check;
        let off = (found / expected - 1.0) * 100.0;
        writeln!(text, "| {} | {load} | {what} | {expected:.3} | {found:.3} | {off:+.1} % |", picker.word())?;
    }
    Ok(())
}

fn write_bars(text: &mut String, worlds: &[World]) -> Fallible<()> {
    let like = (Service::Exponential, 10, 0.8);
    let to_p2c = |picker| ratio(worlds, picker, Picker::P2c, like);
    let to_oracle = |picker| ratio(worlds, picker, Picker::Oracle, like);
    let unaided = UNAIDED_PICKERS.into_iter().filter_map(|picker| Some((to_p2c(picker)?, picker)));
    let Some((best, picker)) = unaided.min_by(|a, b| a.0.total_cmp(&b.0)) else { return Ok(()) };
    writeln!(
        text,
        "\nThe bars: p99 at load 0.8, 10 routers, exponential service; medians of the ratios of each seed:\n"
    )?;
    writeln!(text, "| | ratio | bar |\n|---|---|---|")?;
    let (bar_p2c, bar_oracle) = PREQUAL;
    // By reports that come with responses, and with endpoints that are asked beside them, as in the paper.
    for picker in [Picker::Prequal, Picker::Probing] {
        let word = picker.word();
        for (to, ratio, bar) in
            [("p2c", to_p2c(picker), bar_p2c), ("the oracle", to_oracle(picker), bar_oracle)]
        {
            let Some(ratio) = ratio else { continue };
            writeln!(text, "| {word}, to {to} | {ratio:.2} | <= {bar}: {} |", verdict(ratio, bar))?;
        }
    }
    let word = picker.word();
    writeln!(
        text,
        "| {word}, the best without help, to p2c | {best:.2} | <= {UNAIDED}: {} |",
        verdict(best, UNAIDED)
    )?;
    Ok(())
}

/// Each picker against the oracle at load 0.8.
fn write_ratios(text: &mut String, wish: &Wish, worlds: &[World]) -> Fallible<()> {
    writeln!(text, "\nRatio of the p99 to that of the oracle at load 0.8:\n")?;
    write!(text, "| service | routers |")?;
    for picker in Picker::ALL.into_iter().filter(|picker| *picker != Picker::Oracle) {
        write!(text, " {} |", picker.word())?;
    }
    writeln!(text, "\n|---|---|{}", "---|".repeat(Picker::ALL.len() - 1))?;
    for &service in &wish.services {
        for &routers in &wish.routers {
            write!(text, "| {} | {routers} |", service.word())?;
            for picker in Picker::ALL.into_iter().filter(|picker| *picker != Picker::Oracle) {
                match ratio(worlds, picker, Picker::Oracle, (service, routers, 0.8)) {
                    Some(ratio) => write!(text, " {ratio:.2} |")?,
                    None => write!(text, " |")?,
                }
            }
            writeln!(text)?;
        }
    }
    Ok(())
}

/// Queue times of endpoints that serve one request at a time.
fn write_slotted(text: &mut String, slotted: &[World]) -> Fallible<()> {
    writeln!(
        text,
        "\n100 equal endpoints that serve one request at a time, load 0.8, one router, exponential service: time until an endpoint \
         begins, at the router or in the endpoint's own line.\n"
    )?;
    writeln!(text, "| picker | p95 of the wait | p99 of the wait | p99 of all |\n|---|---|---|---|")?;
    let mut pickers: Vec<Picker> = Vec::new();
    for (plan, _) in slotted {
        if !pickers.contains(&plan.picker) {
            pickers.push(plan.picker);
        }
    }
    for picker in pickers {
        let over = |of: fn(&Seen) -> f64| {
            let those = slotted.iter().filter(|(plan, _)| plan.picker == picker);
            median(&those.map(|(_, seen)| of(seen)).collect::<Vec<_>>())
        };
        let (p95, p99) = (over(|seen| seen.waited.0), over(|seen| seen.waited.1));
        writeln!(text, "| {} | {p95:.2} | {p99:.2} | {:.1} |", picker.word(), over(|seen| seen.p99))?;
    }
    Ok(())
}

/// The p99 of every picker against load.
pub(super) fn plot(machine: &Machine, wish: &Wish, worlds: &[World]) -> String {
    let line = |picker: Picker, service: Service, routers: usize| Line {
        word: picker.word(),
        points: wish
            .loads
            .iter()
            .filter_map(|load| Some((*load, of(worlds, picker, service, routers, *load)?.p99)))
            .collect(),
    };
    let panels: Vec<Panel> = wish
        .services
        .iter()
        .flat_map(|service| wish.routers.iter().map(move |routers| (*service, *routers)))
        .map(|(service, routers)| Panel {
            title: format!("{}, routers: {routers}", service.word()),
            lines: Picker::ALL.into_iter().map(|picker| line(picker, service, routers)).collect(),
        })
        .collect();
    let words = format!(
        "In units of the mean service time at speed 1, against load. {}, commit {}.",
        machine.date, machine.commit
    );
    plot::draw("p99 by picker, simulated", &words, &panels)
}

fn write_table(
    text: &mut String,
    wish: &Wish,
    worlds: &[World],
    service: Service,
    routers: usize,
) -> Fallible<()> {
    writeln!(text, "\nService times: {}; routers: {routers}\n", service.word())?;
    writeln!(
        text,
        "| load | picker | p50 | p99 | p99.9 | errors | busy: speed 1, speed 0.25 |\n|---|---|---|---|---|---|---|"
    )?;
    for &load in &wish.loads {
        for picker in Picker::ALL {
            let Some(figures) = of(worlds, picker, service, routers, load) else { continue };
            let Figures { p50, p99, p999, errors, busy } = figures;
            writeln!(
                text,
                "| {load} | {} | {p50:.2} | {p99:.1} | {p999:.1} | {:.2} % | {:.0} %, {:.0} % |",
                picker.word(),
                errors * 100.0,
                busy.0 * 100.0,
                busy.1 * 100.0
            )?;
        }
    }
    Ok(())
}

fn as_json(machine: &Machine, wish: &Wish, checks: &[Check], worlds: &[World]) -> Value {
    let checks: Vec<Value> = checks
        .iter()
        .map(|check| {
            json!({ "picker": check.picker.word(), "load": check.load, "expected": check.expected, "found": check.found })
        })
        .collect();
    let worlds: Vec<Value> = worlds
        .iter()
        .map(|(plan, seen)| {
            json!({ "picker": plan.picker.word(), "service": plan.service.word(), "routers": plan.routers,
                "load": plan.load, "seed": plan.seed, "mean": seen.mean, "p50": seen.p50, "p99": seen.p99,
                "p999": seen.p999, "waited_p95": seen.waited.0, "waited_p99": seen.waited.1, "errors": seen.errors, "busy_fast": seen.busy.0, "busy_slow": seen.busy.1 })
        })
        .collect();
    json!({ "machine": machine.json(), "requests": wish.requests, "checks": checks, "worlds": worlds })
}
