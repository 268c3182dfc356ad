//! Waits for how the guard of a change ends, tells it, and makes an exit code of it; metrics of guards.

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use ekiden_control::GuardCounts;
use ekiden_router::telemetry::{Meter, Reading};
use serde_json::Value;

use crate::ask::{ask, encoded, fail, get_of, word};
use crate::cli::Server;
use crate::fleet::meter;
use crate::{exit, print};

/// Time between two questions.
const AGAIN: Duration = Duration::from_millis(200);

/// Follows the guards that an answer names. `ended` is how the change itself ended.
pub(crate) fn follow(server: &Server, answer: &Value, ended: ExitCode) -> ExitCode {
    let mut ended = ended;
    for app in answer["guard"]["apps"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let end = loop {
            match ask(server, get_of(format!("/v1/apps/{}/guard", encoded(app)))) {
                Err(failed) => return fail(server, failed),
                Ok(guard) if word(&guard, "state") != "watching" => break guard,
                Ok(_) => thread::sleep(AGAIN),
            }
        };
        let state = word(&end, "state");
        if server.json {
            print(&format!("{end:#}\n"));
        } else {
            print(&format!("{app}: {}: {}\n", state.replace('_', " "), word(&end, "reason")));
        }
        if matches!(state, "rolled_back" | "failed") {
            ended = exit::not_deployed();
        }
    }
    ended
}

/// Metrics of guards.
pub(crate) fn meters(counts: &GuardCounts) -> Vec<Meter> {
    let GuardCounts { watching, kept, rolled_back, not_judged, superseded, failed } = *counts;
    let watched = "Apps that are watched because their last change is guarded.";
    let mut all = vec![meter("ekiden_guards_watching", watched, Reading::Level(watching as f64))];
    let ends = [
        ("kept", kept),
        ("rolled_back", rolled_back),
        ("not_judged", not_judged),
        ("superseded", superseded),
        ("failed", failed),
    ];
    all.extend(ends.into_iter().map(|(result, count)| Meter {
        labels: vec![("result", result.to_owned())],
        ..meter("ekiden_guards_total", "Guarded changes by how they ended.", Reading::Count(count))
    }));
    all
}
