//! `ekiden deploy`: has a release recorded, follows its rollout, and says how it ended, in words and as an exit code.
//!
//! Decides nothing: the rollout is control's, and goes on when nobody follows it.

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::ask::{Failed, ask, encoded, fail, get_of, json_of, word};
use crate::cli::Deploy;
use crate::{exit, print};

/// Time between two questions.
const AGAIN: Duration = Duration::from_millis(200);
/// Longest wait for a rollout to begin when none before it is under way. What a killed run left is ended first, in 10 s.
const BEGINS_MAX: Duration = Duration::from_secs(60);

/// Starts a release and waits for its end.
pub(crate) fn deploy(arguments: &Deploy) -> ExitCode {
    match followed(arguments) {
        Ok(ended) => {
            if arguments.server.json {
                print(&format!("{ended:#}\n"));
            }
            if word(&ended, "state") == "done" { ExitCode::SUCCESS } else { exit::not_deployed() }
        }
        Err(failed) => fail(&arguments.server, failed),
    }
}

fn followed(arguments: &Deploy) -> Result<Value, Failed> {
    let (server, app) = (&arguments.server, encoded(&arguments.app));
    // Where nothing starts dynos, there is nothing to wait for; and nothing is recorded.
    match ask(server, get_of(format!("/v1/apps/{app}/rollout"))) {
        Err(Failed::Refused(problem)) if word(&problem, "code") == "no_rollout" => {}
        Err(failed) => return Err(failed),
        Ok(_) => {}
    }
    let body =
        json!({ "name": arguments.name, "description": arguments.description, "guard": arguments.guard });
    let release = ask(server, json_of("POST", format!("/v1/apps/{app}/releases"), &body))?;
    let (number, name) = (&release["release"], word(&release, "name"));
    let mut told = String::new();
    let mut unbegun = Instant::now();
    loop {
        let at = ask(server, get_of(format!("/v1/apps/{app}/rollout?release={number}")))?;
        let (state, reason) = (word(&at, "state"), word(&at, "reason"));
        let line = format!("{name}: {state}: {reason}");
        if line != told && !server.json {
            // Nobody may be reading; the rollout goes on.
            print(&format!("{line}\n"));
        }
        told = line;
        if matches!(state, "done" | "failed" | "superseded") {
            for late in at["late"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                if !server.json {
                    print(&format!("{name}: late: {late}\n"));
                }
            }
            return Ok(at);
        }
        if state != "waiting" || !at["after"].is_null() {
            unbegun = Instant::now();
        } else if unbegun.elapsed() > BEGINS_MAX {
            let seconds = BEGINS_MAX.as_secs();
            return Err(Failed::Unreachable(format!(
                "{name} is recorded, and was not begun within {seconds} s"
            )));
        }
        thread::sleep(AGAIN);
    }
}
