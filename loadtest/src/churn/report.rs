//! The report of `churn`: figures, bars, what it was measured with.

use super::tables::Size;
use super::{Apart, Spread, Whole, Wish};
use crate::failure::Fallible;
use crate::figures::thousands;
use crate::machine::Machine;
use crate::results;
use serde_json::json;
use std::fmt::Write;

/// Median time until a change is acknowledged by all workers of one process, in milliseconds.
const ACK_BAR_MS: f64 = 5.0;
/// The same of a router apart, at the 99th percentile.
const APART_BAR_MS: f64 = 30.0;
/// The same of all simulated routers.
const SPREAD_BAR_MS: f64 = 200.0;
/// Seconds for a table from nothing.
const BUILD_BAR_S: f64 = 1.5;
/// Percent of a core for control.
const CONTROL_BAR: f64 = 5.0;
/// p99 while changing, of quiet.
const RATIO_BAR: f64 = 1.10;
/// Bytes in a router for each route and each endpoint.
const ROUTE_BAR: f64 = 1_000.0;
const ENDPOINT_BAR: f64 = 300.0;

/// A quantile, NaN when there is nothing.
fn at(values: &[f64], quantile: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * quantile).ceil() as usize).copied().unwrap_or(f64::NAN)
}

/// A row of the table.
struct Row {
    figure: String,
    value: String,
    bar: String,
}

fn row(figure: impl Into<String>, value: impl Into<String>, bar: impl Into<String>) -> Row {
    Row { figure: figure.into(), value: value.into(), bar: bar.into() }
}

fn judged(bar: &str, is_met: bool) -> String {
    format!("{bar}: {}", if is_met { "met" } else { "missed" })
}

fn of_one_process(whole: &Whole) -> Vec<Row> {
    let [quiet, busy, again] = &whole.windows;
    let (ratio, noise) = (busy.p99_us / quiet.p99_us, again.p99_us / quiet.p99_us);
    let inside = ratio <= RATIO_BAR.max(noise).max(1.0 / noise);
    let (acks, share) = (&busy.acks_ms, 100.0 * busy.control_share);
    let [p50, p99, longest] = [0.5, 0.99, 1.0].map(|quantile| at(acks, quantile));
    vec![
        row(
            "change acknowledged by all workers of one process, median",
            format!("{p50:.2} ms (p99 {p99:.2}, longest {longest:.1}, of {})", acks.len()),
            judged(&format!("<= {ACK_BAR_MS} ms"), p50 <= ACK_BAR_MS),
        ),
        row(
            "CPU of control, all its threads",
            format!("{share:.1} % of a core"),
            judged(&format!("<= {CONTROL_BAR} %"), share <= CONTROL_BAR),
        ),
        row(
            "p99 of traffic while changing / quiet",
            format!("{ratio:.2} (quiet {:.0} us; A against A {noise:.2})", quiet.p99_us),
            judged(&format!("<= {RATIO_BAR:.2} or inside A against A"), inside),
        ),
    ]
}

fn of_the_router_apart(apart: &Apart, size: Size) -> Vec<Row> {
    let (acks, share) = (&apart.window.acks_ms, 100.0 * apart.window.control_share);
    let [p50, p99] = [0.5, 0.99].map(|quantile| at(acks, quantile));
    let memory = apart.memory();
    let memory_bar = size.routes() as f64 * ROUTE_BAR + size.all_endpoints() as f64 * ENDPOINT_BAR;
    vec![
        row(
            "change acknowledged by a router apart, on loopback, p99",
            format!("{p99:.2} ms (median {p50:.2}, of {}; control {share:.1} % of a core)", acks.len()),
            judged(&format!("<= {APART_BAR_MS} ms"), p99 <= APART_BAR_MS),
        ),
        row(
            "memory of the router apart for the table",
            format!("{:.0} MB (the whole of control: {:.0} MB)", memory / 1e6, apart.control as f64 / 1e6),
            judged(
                &format!(
                    "<= {:.0} MB: {ROUTE_BAR} B a route, {ENDPOINT_BAR} B an endpoint",
                    memory_bar / 1e6
                ),
                memory <= memory_bar,
            ),
        ),
        row(
            "the whole table in a router apart, from its publish until the worker has it",
            format!("{:.2} s", apart.build_s),
            judged(&format!("<= {BUILD_BAR_S} s"), apart.build_s <= BUILD_BAR_S),
        ),
        row("the router apart serves it", format!("{:.1} s after control is started", apart.start_s), ""),
    ]
}

fn of_many_routers(spread: &Spread) -> Vec<Row> {
    let [p50, p99] = [0.5, 0.99].map(|quantile| at(&spread.took_ms, quantile));
    let routers = thousands(spread.routers as f64);
    vec![
        row(
            format!("change at each of {routers} routers of one control, p99"),
            format!(
                "{p99:.0} ms (median {p50:.0}; acknowledged by all {:.0}, median)",
                at(&spread.acks_ms, 0.5)
            ),
            judged(&format!("<= {SPREAD_BAR_MS} ms"), p99 <= SPREAD_BAR_MS),
        ),
        row("all of them have the first table, of 1,000 routes", format!("{:.1} s", spread.open_s), ""),
    ]
}

/// Writes the report and says it.
pub(super) fn publish(
    wish: &Wish,
    size: Size,
    whole: &Whole,
    apart: &Apart,
    spread: &Spread,
) -> Fallible<()> {
    let machine = Machine::look(wish.date.as_deref());
    let failed: u64 = whole.windows.iter().chain([&apart.window]).map(|window| window.failed).sum();
    let mut text = format!("{}\n\n", machine.line());
    writeln!(
        text,
        "{} routes, {} endpoints; {} changes a second; {} requests a second open loop; one worker. Resident: {:.0} MB in one \
         process, which is ready after {:.1} s.\n",
        thousands(size.routes() as f64),
        thousands(size.all_endpoints() as f64),
        wish.rate,
        thousands(whole.rate),
        whole.resident as f64 / 1e6,
        whole.start_s,
    )?;
    let mut rows = of_one_process(whole);
    rows.push(row("failed requests", failed.to_string(), judged("0", failed == 0)));
    rows.extend(of_the_router_apart(apart, size));
    rows.extend(of_many_routers(spread));
    writeln!(text, "| figure | | bar |\n|---|---|---|")?;
    for Row { figure, value, bar } in rows {
        writeln!(text, "| {figure} | {value} | {bar} |")?;
    }
    println!("\n{text}");
    let busy = &whole.windows[1];
    let report = json!({
        "machine": machine.json(), "routes": size.routes(), "endpoints": size.all_endpoints(), "rate": whole.rate,
        "resident": whole.resident, "start_s": whole.start_s, "failed": failed,
        "p99_us": whole.windows.iter().map(|window| window.p99_us).collect::<Vec<_>>(),
        "ack_ms": { "p50": at(&busy.acks_ms, 0.5), "p99": at(&busy.acks_ms, 0.99) },
        "control_share": busy.control_share,
        "apart": { "ack_p99_ms": at(&apart.window.acks_ms, 0.99), "router_bytes": apart.memory(),
            "control_bytes": apart.control, "start_s": apart.start_s, "build_s": apart.build_s,
            "control_share": apart.window.control_share },
        "spread": { "routers": spread.routers, "p99_ms": at(&spread.took_ms, 0.99), "open_s": spread.open_s },
    });
    results::publish("churn", &report, &text, wish.record)
}
