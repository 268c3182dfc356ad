//! Reload: files are read and built off the loop; what comes of it is taken in, or refused loudly.

use std::sync::Arc;

use ekiden_config::diff::{diff, restart_needed, summary};
use ekiden_config::doors::Ticket;
use ekiden_config::{Diagnostic, Severity};
use serde_json::Value;
use tokio::task::{JoinHandle, spawn_blocking};

use super::{Built, Plane, ReloadReply};
use crate::clock::unix_ms;
use crate::load::{Accepted, Around, Attempt, attempt};
use crate::problem::Problem;
use crate::status::Reload;

/// Most findings kept in the status.
const FINDINGS_MAX: usize = 100;

/// A reload that was taken.
#[derive(Debug, Clone)]
pub(crate) struct Reloaded {
    /// Tells when every worker has it.
    pub(crate) ticket: Ticket,
    /// What changed, in one line.
    pub(crate) summary: String,
    /// Whether anything was published.
    pub(crate) changed: bool,
    /// Apps whose newest text was refused.
    pub(crate) refused_apps: Vec<String>,
    /// Warnings, and errors of single apps.
    pub(crate) diagnostics: Vec<Diagnostic>,
}

impl Plane {
    /// Starts reading and building. Unless `forced`, texts equal to the last attempt's are not built again.
    pub(super) fn build(&self, forced: bool) -> JoinHandle<Built> {
        let (file, text) = (self.options.file.clone(), self.options.text.clone());
        let before = Arc::clone(&self.accepted);
        let api = Arc::clone(&self.apps);
        let tried = if forced { None } else { self.tried.clone() };
        spawn_blocking(move || {
            let alone = before.alone;
            let around = Around { before: Some(&before), hosts: &before.built.hosts, api: &api, alone };
            Built::Files(Box::new(attempt((&file, text.as_deref()), around, tried.as_deref())))
        })
    }

    /// Takes the end of an attempt and answers those who wait for it.
    pub(super) fn take(&mut self, attempt: Attempt, waiting: Vec<ReloadReply>) {
        self.tried = attempt.sources;
        let end = match attempt.outcome {
            None => return,
            Some(Ok(accepted)) => Ok(self.accept(accepted)),
            Some(Err(diagnostics)) => Err(self.refuse(&diagnostics)),
        };
        for reply in waiting {
            // The asker may have gone away.
            let _ = reply.send(end.clone());
        }
    }

    fn accept(&mut self, accepted: Accepted) -> Reloaded {
        let before = Arc::clone(&self.live);
        let changed = self.put_in_force(accepted);
        self.tell_api();
        self.outlets.apps_dir.send_replace(self.accepted.built.apps_dir.clone());
        if !changed && !self.status.read().refused_parts.is_empty() {
            // A listener that could not be bound: asking again is how an operator says that the port is free now.
            self.publish_always();
        }
        self.save();
        let accepted = Arc::clone(&self.accepted);
        let deltas = if changed { diff(&before, &self.live) } else { Vec::new() };
        let reloaded = Reloaded {
            ticket: if changed { self.ticket.clone() } else { self.in_force(&[]) },
            summary: summary(&before, &deltas),
            changed,
            refused_apps: accepted.refused.iter().map(ToString::to_string).collect(),
            diagnostics: accepted.diagnostics.clone(),
        };
        let restart = restart_needed(&self.started_with, &accepted.built.process);
        report(&reloaded, &restart);
        let hash = accepted.sources.hash();
        self.status.update(|status| {
            status.stale = false;
            status.stale_reason = None;
            status.source_hash = hash;
            status.refused_apps.clone_from(&reloaded.refused_apps);
            status.reloads.accepted += 1;
            status.reloads.partial += u64::from(!reloaded.refused_apps.is_empty());
            status.restart_needed = restart.iter().map(|key| (*key).to_owned()).collect();
            status.last_reload = Some(Reload {
                ok: true,
                unix_ms: unix_ms(),
                summary: reloaded.summary.clone(),
                diagnostics: rendered(&reloaded.diagnostics),
            });
        });
        reloaded
    }

    /// Publishes what was built; whether anything differs.
    pub(super) fn put_in_force(&mut self, accepted: Accepted) -> bool {
        self.accepted = Arc::new(accepted);
        self.index_names();
        self.prune_marks();
        let rewritten = self.tell_words();
        let changed = self.settle_all();
        if rewritten && !changed {
            self.publish_always();
        }
        changed || rewritten
    }

    /// The process file is not taken: what serves goes on, loudly.
    fn refuse(&mut self, diagnostics: &[Diagnostic]) -> Problem {
        // The token may have been renewed all the same.
        self.tell_api();
        log(diagnostics);
        let file = self.options.file.display().to_string();
        let errors = diagnostics.iter().filter(|found| found.is_error()).count();
        let words = format!("{file} is not taken ({errors} errors); the table before it goes on serving");
        tracing::error!(%file, errors, "{words}");
        self.status.update(|status| {
            status.stale = true;
            status.stale_reason = Some(words.clone());
            status.reloads.refused += 1;
            status.last_reload = Some(Reload {
                ok: false,
                unix_ms: unix_ms(),
                summary: words.clone(),
                diagnostics: rendered(diagnostics),
            });
        });
        let mut problem = Problem::new(422, "invalid_configuration", words);
        problem.more.insert("errors".to_owned(), as_json(diagnostics));
        problem
    }
}

/// Findings for machines.
pub(crate) fn as_json(diagnostics: &[Diagnostic]) -> Value {
    Value::Array(diagnostics.iter().map(Diagnostic::to_json).collect())
}

/// Findings for people.
pub(crate) fn rendered(diagnostics: &[Diagnostic]) -> Vec<String> {
    diagnostics.iter().take(FINDINGS_MAX).map(ToString::to_string).collect()
}

/// Writes each finding to the log.
fn log(diagnostics: &[Diagnostic]) {
    for found in diagnostics {
        let Diagnostic { file, line, column, code, message, .. } = found;
        let help = found.help.as_deref();
        match found.severity {
            Severity::Error => tracing::error!(%file, line, column, code, help, "{message}"),
            Severity::Warning => tracing::warn!(%file, line, column, code, help, "{message}"),
        }
    }
}

fn report(reloaded: &Reloaded, restart: &[&str]) {
    log(&reloaded.diagnostics);
    for app in &reloaded.refused_apps {
        tracing::error!(%app, "the app's newest file is refused; its last good version serves, if it had one");
    }
    if !restart.is_empty() {
        tracing::warn!(keys = restart.join(", "), "these keys changed and take effect only after a restart");
    }
    tracing::info!(summary = %reloaded.summary, changed = reloaded.changed, "configuration reloaded");
}
