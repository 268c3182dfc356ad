//! The report of `peers`: tables for people, JSON for machines, a chart, and each bar with met or missed.

use super::{AGAIN, Measured, Window};
use crate::chart::{self, Bar, Group};
use crate::failure::Fallible;
use crate::figures::{Spread, fixed, median, ratios, thousands};
use crate::fronts::Kind;
use crate::results;
use serde_json::{Value, json};
use std::fmt::Write;

/// The bars of the comparison: case, peer, highest allowed ratio of CPU per request.
const BARS: [(&str, &str, f64); 17] = [
    ("small", "haproxy", 0.90),
    ("small", "nginx", 0.90),
    ("small", "null", 1.50),
    ("1k", "haproxy", 0.90),
    ("1k", "nginx", 0.90),
    ("10k", "haproxy", 0.90),
    ("10k", "nginx", 0.90),
    ("1m", "haproxy", 0.90),
    ("conn", "haproxy", 0.95),
    ("tls", "haproxy", 0.80),
    ("tls-1m", "haproxy", 0.80),
    ("tls-resumed", "haproxy", 0.75),
    ("tls-full", "haproxy", 0.65),
    ("tls-full", "envoy", 1.00),
    ("h2-32", "haproxy", 0.75),
    ("h2-1", "haproxy", 0.65),
    ("grpc", "envoy", 0.50),
];
/// Highest allowed number of system calls for a small keep-alive request.
const CALLS_BAR: f64 = 4.6;

/// A ratio of CPU per request over the rounds, with its bar if it has one.
struct Ratio {
    case: &'static str,
    of: String,
    to: String,
    spread: Spread,
    bar: Option<f64>,
}

impl Ratio {
    fn verdict(&self) -> &'static str {
        match self.bar {
            None => "",
            Some(bar) if self.spread.median <= bar => "met",
            Some(_) => "missed",
        }
    }
}

/// Prints the report and writes its files.
pub(super) fn publish(measured: &Measured, record: bool) -> Fallible<()> {
    let ratios = all_ratios(measured);
    let markdown = markdown(measured, &ratios)?;
    println!("\n{markdown}");
    results::write_out("peers.svg", &drawn(measured))?;
    results::publish("peers", &json(measured, &ratios), &markdown, record)
}

/// Ratios of the first front (ours, when it takes part) to every other.
fn all_ratios(measured: &Measured) -> Vec<Ratio> {
    let mut all = Vec::new();
    for (case_index, case) in measured.cases.iter().enumerate() {
        for (index, (to, ..)) in measured.fronts.iter().enumerate().skip(1) {
            let of = &measured.fronts[0].0;
            let values = ratios(&measured.cpu(case_index, 0), &measured.cpu(case_index, index));
            let bar =
                BARS.iter().filter(|(name, peer, _)| of == "ekiden" && *name == case.name && peer == to);
            let bar = bar.map(|(.., bar)| *bar).next();
            if let Some(spread) = Spread::of(&values) {
                all.push(Ratio { case: case.name, of: of.clone(), to: to.clone(), spread, bar });
            }
        }
    }
    all
}

fn figures(windows: &[Option<Window>], of: impl Fn(&Window) -> f64) -> Vec<f64> {
    windows.iter().flatten().map(of).collect()
}

fn markdown(measured: &Measured, ratios: &[Ratio]) -> Fallible<String> {
    let mut text = format!("{}\n\n", measured.machine.line());
    for (name, _, version) in measured.fronts.iter().filter(|(name, ..)| !name.ends_with(AGAIN)) {
        writeln!(text, "* {name}: {version}")?;
    }
    writeln!(text, "\nCPU time of the proxy per verified response; medians over the rounds.\n")?;
    writeln!(text, "| case | proxy | CPU us/request (min..max) | user share | requests/s | core busy |")?;
    writeln!(text, "|---|---|---|---|---|---|")?;
    for (case_index, case) in measured.cases.iter().enumerate() {
        for (index, (name, ..)) in measured.fronts.iter().enumerate() {
            let windows = &measured.windows[case_index][index];
            // Without a round it was left out: a case of TLS, and a proxy without.
            if windows.is_empty() {
                continue;
            }
            let Some(cpu) = Spread::of(&figures(windows, |window| window.cpu_us)) else {
                writeln!(text, "| {} | {name} | failed | - | - | - |", case.name)?;
                continue;
            };
            let user = median(&figures(windows, |window| window.user_share)) * 100.0;
            let rate = thousands(median(&figures(windows, |window| window.rate)));
            let busy = median(&figures(windows, |window| window.busy)) * 100.0;
            let (middle, min, max) = (fixed(cpu.median, 2), fixed(cpu.min, 2), fixed(cpu.max, 2));
            let (name_of_case, user, busy) = (case.name, fixed(user, 0), fixed(busy, 0));
            writeln!(
                text,
                "| {name_of_case} | {name} | {middle} ({min}..{max}) | {user} % | {rate} | {busy} % |"
            )?;
        }
    }
    write_ratios(&mut text, measured, ratios)?;
    write_calls(&mut text, measured)?;
    if !measured.failures.is_empty() {
        writeln!(text, "\n**{} measurements failed** and are left out:", measured.failures.len())?;
        measured.failures.iter().try_for_each(|words| writeln!(text, "* {}", words.replace('\n', " ")))?;
    }
    Ok(text)
}

fn write_ratios(text: &mut String, measured: &Measured, ratios: &[Ratio]) -> std::fmt::Result {
    let rounds = measured.windows.first().and_then(|case| case.first()).map_or(0, Vec::len);
    writeln!(
        text,
        "\nRatios of CPU per request: median of {rounds} per-round ratios. A row `{AGAIN}` is A against A.\n"
    )?;
    writeln!(text, "| case | ratio | median | min..max | 95 % interval | bar | |")?;
    writeln!(text, "|---|---|---|---|---|---|---|")?;
    for ratio in ratios {
        let Spread { median, min, max, low, high } = ratio.spread;
        writeln!(
            text,
            "| {} | {} / {} | {median:.3} | {min:.3}..{max:.3} | {low:.3}..{high:.3} | {} | {} |",
            ratio.case,
            ratio.of,
            ratio.to,
            ratio.bar.map_or_else(String::new, |bar| format!("<= {bar:.2}")),
            ratio.verdict(),
        )?;
    }
    Ok(())
}

fn write_calls(text: &mut String, measured: &Measured) -> std::fmt::Result {
    if measured.calls.iter().all(Vec::is_empty) {
        return Ok(());
    }
    writeln!(
        text,
        "\nSystem calls per small keep-alive request. perf counts tracepoints at full speed; strace slows the proxy, \
         which makes its waits fuller than in life.\n"
    )?;
    writeln!(text, "| proxy | counted by | all | by name |\n|---|---|---|---|")?;
    for ((name, ..), ways) in measured.fronts.iter().zip(&measured.calls) {
        for (by, calls) in ways {
            let by_name = calls.by_name.iter().map(|(name, count)| format!("{name} {count:.2}"));
            let by_name = by_name.collect::<Vec<_>>().join(", ");
            let verdict = match (name.as_str(), calls.total <= CALLS_BAR) {
                ("ekiden", true) => " (bar 4.6: met)",
                ("ekiden", false) => " (bar 4.6: missed)",
                _ => "",
            };
            writeln!(text, "| {name} | {} | {:.2}{verdict} | {by_name} |", by.name(), calls.total)?;
        }
    }
    Ok(())
}

fn calls_json(measured: &Measured) -> Vec<Value> {
    let mut rows = Vec::new();
    for ((name, ..), ways) in measured.fronts.iter().zip(&measured.calls) {
        for (by, calls) in ways {
            let by_name: serde_json::Map<String, Value> =
                calls.by_name.iter().map(|(name, count)| (name.clone(), json!(count))).collect();
            rows.push(
                json!({ "name": name, "by": by.name(), "per_request": calls.total, "by_name": by_name }),
            );
        }
    }
    rows
}

fn json(measured: &Measured, ratios: &[Ratio]) -> Value {
    let window = |window: &Option<Window>| {
        window.map(|window| {
            json!({ "requests": window.requests, "rate": window.rate, "cpu_us": window.cpu_us,
                    "user_share": window.user_share, "busy": window.busy })
        })
    };
    let cases = measured.cases.iter().zip(&measured.windows).map(|(case, fronts)| {
        let fronts = fronts.iter().zip(&measured.fronts).map(|(windows, (name, ..))| {
            let cpu = Spread::of(&figures(windows, |window| window.cpu_us)).map(|spread| spread.json());
            json!({ "name": name, "cpu_us": cpu, "rounds": windows.iter().map(window).collect::<Vec<_>>() })
        });
        json!({ "name": case.name, "path": case.path, "fronts": fronts.collect::<Vec<Value>>() })
    });
    let ratio = |ratio: &Ratio| {
        json!({ "case": ratio.case, "of": ratio.of, "to": ratio.to, "ratio": ratio.spread.json(),
                "bar": ratio.bar, "verdict": ratio.verdict() })
    };
    json!({
        "machine": measured.machine.json(),
        "versions": measured.fronts.iter().map(|(name, _, version)| json!({ "name": name, "version": version }))
            .collect::<Vec<_>>(),
        "cases": cases.collect::<Vec<Value>>(),
        "ratios": ratios.iter().map(ratio).collect::<Vec<_>>(),
        "system_calls": calls_json(measured),
        "failures": measured.failures,
    })
}

fn drawn(measured: &Measured) -> String {
    let groups: Vec<Group> = measured
        .cases
        .iter()
        .enumerate()
        .map(|(case_index, case)| {
            let took_part = |index: usize, name: &str| {
                !name.ends_with(AGAIN) && !measured.windows[case_index][index].is_empty()
            };
            let shown =
                measured.fronts.iter().enumerate().filter(move |(index, (name, ..))| took_part(*index, name));
            let bars = shown.map(|(index, (name, kind, _))| {
                let windows = &measured.windows[case_index][index];
                let rate = median(&figures(windows, |window| window.rate));
                let note =
                    if rate.is_finite() { format!("{} req/s", thousands(rate)) } else { String::new() };
                let value = median(&figures(windows, |window| window.cpu_us));
                Bar { label: name.clone(), value, note, ours: kind.is_ours() }
            });
            Group { title: case.title.to_owned(), bars: bars.collect() }
        })
        .collect();
    let versions: Vec<String> = measured
        .fronts
        .iter()
        .filter(|(name, kind, _)| !name.ends_with(AGAIN) && !matches!(kind, Kind::Null | Kind::EkidenLogged))
        .map(|(name, _, version)| format!("{name}: {version}"))
        .collect();
    let machine = &measured.machine;
    let words = vec![
        "One worker on one core, 64 connections, medians of interleaved rounds; shorter is better."
            .to_owned(),
        format!(
            "{}, Linux {}, {}, commit {}",
            machine.processor, machine.kernel, machine.date, machine.commit
        ),
        versions.join("; "),
    ];
    chart::draw("CPU time of the proxy per request", &words, "us", &groups)
}
