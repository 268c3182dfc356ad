//! `ekiden check`: every finding, then one line of verdict.

use std::path::Path;
use std::process::ExitCode;

use ekiden_config::model::Model;
use ekiden_config::{Diagnostic, Severity, Source};
use ekiden_router::tls::FileFault;

use crate::cli::{Check, Format, Serving};
use crate::exit;

/// Checks a configuration. Findings go to standard output, so that they can be piped.
pub(crate) fn check(arguments: &Check) -> ExitCode {
    let checked = match arguments.command {
        Serving::Run => ekiden_control::check(&arguments.file),
        Serving::Control => ekiden_control::check_control(&arguments.file),
        Serving::Router => ekiden_control::check_router(&arguments.file),
    };
    let (findings, summary) = match checked {
        Ok(built) => {
            let (routes, endpoints) = (built.model.route_count(), built.model.endpoint_count());
            let summary = [
                counted(built.model.listeners.len(), "listener"),
                counted(built.model.apps.len(), "app"),
                counted(routes, "route"),
                counted(endpoints, "endpoint"),
            ]
            .join(", ");
            let mut findings = built.diagnostics;
            findings.extend(certificates(&arguments.file, &built.model));
            (findings, summary)
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

/// Findings about the files of certificates and authorities, at the places that name them.
fn certificates(file: &Path, model: &Model) -> Vec<Diagnostic> {
    let faults = ekiden_router::tls::check(model, file.parent().unwrap_or_else(|| Path::new("")));
    if faults.is_empty() {
        return Vec::new();
    }
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let format = ekiden_config::Format::of_path(file).unwrap_or(ekiden_config::Format::Toml);
    let source = Source { file: file.display().to_string(), text, format };
    let about = |fault: FileFault| {
        let severity = if fault.usable { Severity::Warning } else { Severity::Error };
        let message = format!("{}: {}", fault.about, fault.reason);
        let help = if fault.usable { "renew it now" } else { "mend the file, or leave it out" };
        Diagnostic::about(&source, &fault.written, severity, fault.code, message, help)
    };
    faults.into_iter().filter_map(about).collect()
}

/// A number and its noun: "1 route", "2 routes".
fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
