//! `ekiden check`: every finding, then one line of verdict.

use std::process::ExitCode;

use ekiden_config::Diagnostic;

use crate::cli::{Check, Format};
use crate::exit;

/// Checks a configuration. Findings go to standard output, so that they can be piped.
pub(crate) fn check(arguments: &Check) -> ExitCode {
    let (findings, summary) = match ekiden_control::check(&arguments.file) {
        Ok(built) => {
            let (routes, endpoints) = (built.model.route_count(), built.model.endpoint_count());
            let summary = [
                counted(built.model.listeners.len(), "listener"),
                counted(built.model.apps.len(), "app"),
                counted(routes, "route"),
                counted(endpoints, "endpoint"),
            ]
            .join(", ");
            (built.diagnostics, summary)
        }
        Err(findings) => (findings, String::new()),
    };
    let errors = findings.iter().filter(|finding| finding.is_error()).count();
    match arguments.format {
        Format::Json => {
            let all: Vec<serde_json::Value> = findings.iter().map(Diagnostic::to_json).collect();
            println!("{:#}", serde_json::Value::Array(all));
        }
        Format::Text => {
            for finding in &findings {
                println!("{finding}\n");
            }
            match errors {
                0 => println!("{}: ok ({summary})", arguments.file.display()),
                1 => println!("{}: 1 error", arguments.file.display()),
                _ => println!("{}: {errors} errors", arguments.file.display()),
            }
        }
    }
    if errors == 0 { ExitCode::SUCCESS } else { exit::invalid() }
}

/// A number and its noun: "1 route", "2 routes".
fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
