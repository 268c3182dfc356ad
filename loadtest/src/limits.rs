//! `limits`: what one rate limit on the route costs a request that it lets pass, in user instructions by callgrind. Nanoseconds
//! of a check alone are measured by `cargo bench -p ekiden-benches --bench limits`.

use crate::failure::Fallible;
use crate::figures::thousands;
use crate::fronts::Kind;
use crate::instructions::{Wish, compare};
use crate::machine::Machine;
use crate::results;
use serde_json::json;
use std::fmt::Write;

/// Highest allowed cost of one limit, as a share of a request's instructions.
const BAR: f64 = 0.03;

/// Counts without and with a limit, and publishes the report.
pub(crate) fn run(wish: &Wish) -> Fallible<()> {
    let (none, one) = compare(wish, Kind::Ekiden, Kind::EkidenLimited)?;
    let machine = Machine::look(wish.date.as_deref());
    let cost = one.worker / none.worker - 1.0;
    let verdict = if cost <= BAR { "met" } else { "missed" };
    let mut text = format!("{}\n\n", machine.line());
    writeln!(
        text,
        "User instructions of the worker per request of `{}`, keep-alive, by callgrind.\n",
        wish.path
    )?;
    writeln!(text, "| no limit | one limit by client on the route | cost | bar |\n|---|---|---|---|")?;
    let (before, after) = (thousands(none.worker), thousands(one.worker));
    writeln!(text, "| {before} | {after} | {:.1} % | <= {:.0} %: {verdict} |", cost * 100.0, BAR * 100.0)?;
    println!("\n{text}");
    let report = json!({ "machine": machine.json(), "path": wish.path, "requests": wish.requests,
        "none": none.worker, "one": one.worker, "cost": cost, "bar": BAR });
    results::publish("limits", &report, &text, wish.record)
}
