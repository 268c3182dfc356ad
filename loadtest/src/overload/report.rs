//! The tables of `overload`: figures and bars. Measures nothing.

use super::{CONNECTIONS, Came, ENDPOINTS, QUEUE, QUIET, Round, SERVICE, SLOTS, TIMES, Wish, capacity};
use crate::failure::{Fallible, failure};
use crate::figures::{fixed, median, thousands};
use crate::machine::Machine;
use crate::results;
use serde_json::json;
use std::fmt::Write;

/// The bars for us: least part of the capacity that is served, most of quiet's p99, share of the core, and most of the p99 of
/// the quiet app alone.
const GOODPUT: f64 = 0.9;
const P99: f64 = 2.0;
const CORE: f64 = 0.7;
const BESIDE: f64 = 1.25;

/// Publishes the report. Fails when requests were lost; a missed bar is a figure.
pub(super) fn publish(all: &[Came], wish: &Wish) -> Fallible<()> {
    let machine = Machine::look(wish.date.as_deref());
    let mut text = format!("{}\n\n", machine.line());
    writeln!(
        text,
        "{ENDPOINTS} endpoints with {SLOTS} slots and a service time of {} ms: {} requests a second are their capacity. Offered is \
         half of it (quiet) and {TIMES} times as much (flooded), open loop over {CONNECTIONS} connections; {QUEUE} may wait in the \
         proxy. Medians of {} rounds.\n",
        SERVICE.as_millis(),
        thousands(capacity()),
        wish.rounds
    )?;
    let wants = "| proxy | goodput, of capacity | p99 served, of quiet | core | CPU per refusal, µs | CPU per served, µs | |";
    writeln!(text, "{wants}\n|---|---|---|---|---|---|---|")?;
    for came in all {
        writeln!(text, "{}", flooded(came))?;
    }
    writeln!(
        text,
        "\nA quiet app ({QUIET} requests a second, an endpoint of its own) alone, and beside the flooded one:\n\n\
         | proxy | p99 alone, ms | p99 beside, ms | ratio, median of rounds | |\n|---|---|---|---|---|"
    )?;
    for came in all {
        writeln!(text, "{}", beside(came))?;
    }
    println!("\n{text}");
    let rows: Vec<_> = all
        .iter()
        .map(|came| {
            let rounds = came.rounds.iter().map(|round| {
                let seen = |seen: &super::Seen| {
                    json!({ "goodput": seen.goodput, "p99_us": seen.p99_us, "served": seen.served,
                            "refused": seen.refused, "failed": seen.failed, "cpu_ns": seen.cpu_ns })
                };
                json!({ "quiet": seen(&round.quiet), "flooded": seen(&round.flooded), "alone": seen(&round.alone),
                        "beside": seen(&round.beside), "refusal_ns": round.refusal_ns() })
            });
            json!({ "name": came.name, "version": came.version, "rounds": rounds.collect::<Vec<_>>() })
        })
        .collect();
    let report = json!({ "machine": machine.json(), "capacity": capacity(), "times": TIMES, "fronts": rows });
    results::publish("overload", &report, &text, wish.record)?;
    let lost: u64 = all
        .iter()
        .filter(|came| came.name == "ekiden")
        .flat_map(|came| &came.rounds)
        .map(|round| {
            round.quiet.failed
                + round.quiet.refused
                + round.flooded.failed
                + round.alone.failed
                + round.beside.failed
        })
        .sum();
    if lost == 0 || wish.smoke { Ok(()) } else { Err(failure(format!("ekiden lost {lost} requests"))) }
}

fn over(came: &Came, of: impl Fn(&Round) -> f64) -> f64 {
    median(&came.rounds.iter().map(of).collect::<Vec<_>>())
}

fn flooded(came: &Came) -> String {
    let goodput = over(came, |round| round.flooded.goodput / capacity());
    let p99 = over(came, |round| round.flooded.p99_us / round.quiet.p99_us);
    let core = over(came, Round::core_share);
    let refusal_us = over(came, |round| round.refusal_ns() / 1e3);
    let served_us = over(came, |round| round.quiet.cpu_ns as f64 / round.quiet.served.max(1) as f64 / 1e3);
    let verdict = match (came.name.as_str(), goodput >= GOODPUT && p99 <= P99 && core <= CORE) {
        ("ekiden", true) => format!("bar {GOODPUT}, {P99}, {CORE}: met"),
        ("ekiden", false) => format!("bar {GOODPUT}, {P99}, {CORE}: missed"),
        _ => String::new(),
    };
    format!(
        "| {} ({}) | {} | {} | {} | {} | {} | {verdict} |",
        came.name,
        came.version,
        fixed(goodput, 2),
        fixed(p99, 2),
        fixed(core, 2),
        fixed(refusal_us, 1),
        fixed(served_us, 1)
    )
}

fn beside(came: &Came) -> String {
    let ratio = over(came, |round| round.beside.p99_us / round.alone.p99_us);
    let verdict = match (came.name.as_str(), ratio <= BESIDE) {
        ("ekiden", true) => format!("bar {BESIDE}: met"),
        ("ekiden", false) => format!("bar {BESIDE}: missed"),
        _ => String::new(),
    };
    let ms = |of: fn(&Round) -> f64| fixed(over(came, |round| of(round) / 1e3), 2);
    let (alone, beside) = (ms(|round| round.alone.p99_us), ms(|round| round.beside.p99_us));
    format!("| {} | {alone} | {beside} | {} | {verdict} |", came.name, fixed(ratio, 2))
}
