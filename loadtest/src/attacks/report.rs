//! The tables of `attacks`: medians over the rounds, and a verdict for each bar.

use super::{Held, Measured, Round, Wish};
use crate::failure::Fallible;
use crate::figures::{Spread, fixed, median, thousands};
use crate::machine::Machine;
use crate::results;
use ekiden_loadtest::hostile::{Class, requests};
use serde_json::{Value, json};
use std::fmt::Write;

/// Most that the p99 of normal traffic may grow.
const LATENCY_BAR: f64 = 2.0;
/// Most that a byte, or a connection, of an attack may cost of an honest one.
const COST_BAR: f64 = 10.0;
/// Most bytes held for each byte received and not answered, beyond the allowance.
const MEMORY_BAR: f64 = 10.0;

const WORDS: &str = "\
The p99 is of normal traffic in an open loop, with the attack aimed at a sink and at the router. CPU is the router's, of the attack alone against honest traffic of its class alone: \
heads, bodies and frames of HTTP/2 by byte sent, in the same pieces (a piece is a packet, which costs what it costs whatever it holds), responses by byte read, the others by connection with its open and close (in HTTP/2 with as many requests as the attack's). Held is \
what the process grew by and what waited in its sockets, of so many connections that it had more, when that was the most beyond the allowance: those of clients, those that wait for the client's close, those to endpoints. Unanswered is what it had been sent on the connections open at the end. The bar is on what is held \
beyond 64 KiB a connection and 4 KiB a stream.";

/// Middle of a figure over the rounds.
fn middle(rounds: &[Round], figure: impl Fn(&Round) -> f64) -> f64 {
    median(&rounds.iter().map(figure).collect::<Vec<_>>())
}

/// Bytes held for each unanswered byte beyond the allowance; 0 within it.
fn memory_ratio(held: Held, streams: usize) -> f64 {
    let beyond = held.over(streams as u64);
    if beyond <= 0 { 0.0 } else { beyond as f64 / held.unanswered as f64 }
}

fn verdict(ratio: f64, bar: f64) -> &'static str {
    if ratio <= bar { "met" } else { "missed" }
}

fn unit(class: Class) -> &'static str {
    match class {
        Class::Heads => "head byte",
        Class::Bodies => "body byte",
        Class::Responses => "byte read",
        Class::Connections => "connection",
        Class::Frames => "byte of frames",
    }
}

/// Writes the report; failures are part of it.
pub(super) fn publish(
    wish: &Wish,
    machine: &Machine,
    measured: &[Measured],
    failures: &[String],
) -> Fallible<()> {
    let mut text = format!("{}\n\n", machine.line());
    writeln!(
        text,
        "{} requests a second of normal traffic (1 KiB bodies); {} rounds, windows of {:.1} s. {WORDS}\n",
        thousands(wish.rate),
        wish.rounds,
        wish.window.as_secs_f64()
    )?;
    writeln!(
        text,
        "| attack | connections, turns/s | p99 us sink, router | ratio (min..max) | bar <= {LATENCY_BAR} | CPU ns \
         attack, honest | ratio | bar <= {COST_BAR} | held MB process, kernel of connections | unanswered MB | bar <= {MEMORY_BAR} |\n\
         |---|---|---|---|---|---|---|---|---|---|---|"
    )?;
    let mut rows = Vec::new();
    for one in measured {
        let (line, row) = row(one);
        writeln!(text, "{line}")?;
        rows.push(row);
    }
    failures.iter().try_for_each(|words| writeln!(text, "\n**Failed**: {}", words.replace('\n', " ")))?;
    println!("\n{text}");
    let report = json!({ "machine": machine.json(), "rate": wish.rate, "window_s": wish.window.as_secs_f64(),
        "attacks": rows, "failures": failures });
    results::publish("attacks", &report, &text, wish.record)
}

/// One attack, as a line of the table and for the file.
fn row(one: &Measured) -> (String, Value) {
    let (rounds, class, strength) = (&one.rounds, one.attack.class, one.strength);
    let ratios: Vec<f64> = rounds.iter().map(|round| round.router_us / round.sink_us).collect();
    let latency = Spread::of(&ratios);
    let range = latency.map_or_else(
        || "-".to_owned(),
        |spread| format!("{:.2} ({:.2}..{:.2})", spread.median, spread.min, spread.max),
    );
    let (hostile, honest) = (
        middle(rounds, |round| round.hostile.per_unit(class)),
        middle(rounds, |round| round.honest.per_unit(class)),
    );
    let cost = middle(rounds, |round| round.hostile.per_unit(class) / round.honest.per_unit(class));
    let streams = requests(&one.attack) * strength.connections;
    let memory = middle(rounds, |round| memory_ratio(round.held, streams));
    let mb = |figure: fn(&Held) -> u64| middle(rounds, |round| figure(&round.held) as f64 / 1e6);
    let [process, kernel, unanswered] =
        [mb(|held| held.process), mb(|held| held.kernel), mb(|held| held.unanswered)];
    let held_connections = middle(rounds, |round| round.held.connections as f64);
    let held_words = if memory == 0.0 { "met (within that)" } else { verdict(memory, MEMORY_BAR) };
    let line = format!(
        "| {} | {}, {} | {}, {} | {range} | {} | {}, {} a {} | {} | {} | {}, {} of {} | {} | {} {held_words} |",
        one.attack.name,
        thousands(strength.connections as f64),
        thousands(strength.rate),
        fixed(middle(rounds, |round| round.sink_us), 0),
        fixed(middle(rounds, |round| round.router_us), 0),
        verdict(latency.map_or(f64::NAN, |spread| spread.median), LATENCY_BAR),
        fixed(hostile, 2),
        fixed(honest, 2),
        unit(class),
        fixed(cost, 2),
        verdict(cost, COST_BAR),
        fixed(process, 2),
        fixed(kernel, 2),
        thousands(held_connections),
        fixed(unanswered, 3),
        fixed(memory, 1),
    );
    let each = |round: &Round| {
        json!({ "p99_sink_us": round.sink_us, "p99_router_us": round.router_us,
            "hostile_ns": round.hostile.nanos, "honest_ns": round.honest.nanos,
            "hostile": tally(round.hostile.done), "honest": tally(round.honest.done),
            "held_process": round.held.process, "held_kernel": round.held.kernel,
            "held_connections": round.held.connections,
            "unanswered": round.held.unanswered })
    };
    let row = json!({ "attack": one.attack.name, "connections": strength.connections, "rate": strength.rate,
        "p99_ratio": latency.map(|spread| spread.json()), "cpu_ratio": cost, "memory_ratio": memory,
        "rounds": rounds.iter().map(each).collect::<Vec<_>>() });
    (line, row)
}

fn tally(done: ekiden_loadtest::hostile::Tally) -> Value {
    json!({ "opened": done.opened, "cut": done.cut, "sent": done.sent, "read": done.read })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_counts_beyond_the_allowance() {
        let held = |connections| Held { process: 3 << 16, kernel: 1 << 16, connections, unanswered: 1_000 };
        assert_eq!(memory_ratio(held(4), 0), 0.0);
        assert!((memory_ratio(held(2), 0) - 131.072).abs() < 1e-9);
        assert!((memory_ratio(held(2), 8) - 98.304).abs() < 1e-9);
        assert_eq!(verdict(memory_ratio(Held { unanswered: 0, ..held(2) }, 0), MEMORY_BAR), "missed");
        assert_eq!(verdict(f64::NAN, COST_BAR), "missed");
    }
}
