//! Sources of placements: metrics of how they are, `ekiden confirm`, and the list for people.

use std::collections::BTreeMap;
use std::process::ExitCode;

use ekiden_control::SourceStatus;
use ekiden_router::telemetry::{Meter, Reading};
use serde_json::{Value, json};

use crate::ask::{ask, end, json_of, table, word};
use crate::cli::Confirm;
use crate::fleet::meter;

/// States of a source, as a metric has them.
const STATES: [&str; 4] = ["live", "silent", "failing", "held"];

/// Sources that have metrics, at most; the others are in the API.
const METERED_MAX: usize = 1_000;

/// Metrics of sources. Names are those of the configuration, and bounded.
pub(crate) fn meters(sources: &BTreeMap<String, SourceStatus>) -> Vec<Meter> {
    let mut all = Vec::new();
    let level = |name, help, value: usize| meter(name, help, Reading::Level(value as f64));
    for (name, source) in sources.iter().take(METERED_MAX) {
        let labelled = |meter: Meter| Meter { labels: vec![("source", name.clone())], ..meter };
        let endpoints = "Endpoints or records of a source of placements that are in force.";
        all.push(labelled(level("ekiden_source_endpoints", endpoints, source.endpoints)));
        let held = "Endpoints that a source took away, too many at once, and that are kept.";
        all.push(labelled(level("ekiden_source_held_endpoints", held, source.held.len())));
        for state in STATES {
            let help = "1 for the state that a source of placements is in: silent and failing ones leave their part as it is.";
            let mut state_meter = level("ekiden_source_state", help, usize::from(state == source.state));
            state_meter.labels = vec![("source", name.clone()), ("state", state.to_owned())];
            all.push(state_meter);
        }
    }
    all
}

/// `ekiden confirm`.
pub(crate) fn confirm(arguments: &Confirm) -> ExitCode {
    let body = json!({ "source": arguments.source });
    let answer = ask(&arguments.server, json_of("POST", "/v1/sources/confirm".to_owned(), &body));
    end(&arguments.server, answer, |value| {
        let gone = value["confirmed"].as_array().into_iter().flatten().filter_map(Value::as_str);
        gone.map(|id| format!("{id} is gone\n")).collect()
    })
}

/// `ekiden get sources`.
pub(crate) fn text(view: &Value) -> String {
    let mut lines = vec![["SOURCE", "STATE", "ENDPOINTS", "HELD", "WHY"].map(str::to_owned)];
    for source in view["sources"].as_array().into_iter().flatten() {
        let held = source["held"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let held = held.collect::<Vec<_>>().join(" ");
        lines.push([
            word(source, "name").to_owned(),
            word(source, "state").to_owned(),
            source["endpoints"].to_string(),
            if held.is_empty() { "-".to_owned() } else { held },
            word(source, "error").to_owned(),
        ]);
    }
    table(&lines)
}
