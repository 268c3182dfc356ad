//! `limits`: what one rate limit on the route costs a request that it lets pass, in user instructions by callgrind; and what a check
//! takes alone (`checks`).

mod checks;

use crate::failure::Fallible;
use crate::figures::thousands;
use crate::fronts::Kind;
use crate::instructions::{Wish, compare};
use crate::machine::Machine;
use crate::results;
use checks::{CONTENDED, KEYED, Measured, Size, Times};
use serde_json::{Value, json};
use std::fmt::Write;

/// Highest allowed cost of one limit, as a share of a request's instructions.
const BAR: f64 = 0.03;

/// Counts without and with a limit, measures checks, and publishes the report.
pub(crate) fn run(wish: &Wish) -> Fallible<()> {
    let size =
        if wish.smoke { Size { rounds: 1, count: 1_000 } } else { Size { rounds: 31, count: 200_000 } };
    let measured = checks::measure(size);
    let (none, one) = compare(wish, Kind::Ekiden, Kind::EkidenLimited)?;
    let machine = Machine::look(wish.date.as_deref());
    let cost = one.worker / none.worker - 1.0;
    let mut text = format!("{}\n\n", machine.line());
    writeln!(
        text,
        "User instructions of the worker per request of `{}`, keep-alive, by callgrind.\n",
        wish.path
    )?;
    writeln!(text, "| no limit | one limit by client on the route | cost | bar |\n|---|---|---|---|")?;
    let (before, after) = (thousands(none.worker), thousands(one.worker));
    let verdict = verdict(cost <= BAR);
    writeln!(text, "| {before} | {after} | {:.1} % | <= {:.0} %: {verdict} |\n", cost * 100.0, BAR * 100.0)?;
    put_checks(&mut text, &measured)?;
    println!("\n{text}");
    let report = json!({ "machine": machine.json(), "path": wish.path, "requests": wish.requests,
        "none": none.worker, "one": one.worker, "cost": cost, "bar": BAR,
        "keyed_ns": told(measured.keyed), "contended_ns": told(measured.contended), "threads": measured.threads });
    results::publish("limits", &report, &text, wish.record)
}

fn verdict(is_met: bool) -> &'static str {
    if is_met { "met" } else { "missed" }
}

fn told(times: Times) -> Value {
    json!({ "ekiden": times.ours, "governor": times.governor, "mutex_map": times.mutex })
}

fn put_checks(text: &mut String, measured: &Measured) -> Fallible<()> {
    writeln!(
        text,
        "Nanoseconds per check, medians of rounds in turns; all checks pass. Governor alone is its keyed store for many keys, and its"
    )?;
    writeln!(text, "state of one key for one.\n")?;
    writeln!(text, "| check | ekiden | governor alone | map behind a mutex | bar |\n|---|---|---|---|---|")?;
    let keyed = (format!("{} keys, one thread", thousands(checks::keys() as f64)), measured.keyed, KEYED);
    let contended = (format!("one key, {} threads at once", measured.threads), measured.contended, CONTENDED);
    for (name, times, bar) in [keyed, contended] {
        let Times { ours, governor, mutex } = times;
        let verdict = verdict(ours <= bar);
        writeln!(text, "| {name} | {ours:.0} | {governor:.0} | {mutex:.0} | <= {bar:.0}: {verdict} |")?;
    }
    Ok(())
}
