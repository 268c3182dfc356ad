//! All files together: texts in, one [`Model`] out.
//!
//! The process file must be valid; an app file that is not keeps its app's previous version. What did not change
//! is pointer-equal to the previous Model. Endpoints of the API and of sources are not known here: control lays
//! them over the result with `diff::apply` and then calls `diff::reuse`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use crate::SharedMap;
use crate::diagnostic::{Diagnostic, Report};
use crate::diff::reuse;
use crate::hosts::HostOwners;
use crate::hosts::claims::{Claimant, settle};
use crate::model::{App, Model, Process};
use crate::names::AppName;
use crate::raw::{self, Raw, RawApp, RawProcess};
use crate::source::{Source, Span};
use crate::tree::{self, Value};
use crate::validate::{self, AppParts, CheckedApp, CheckedProcess, Planes, World};

/// What a build starts from.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The process file.
    pub main: &'a Source,
    /// App files with the app each one is, in any order.
    pub apps: &'a [(AppName, Source)],
    /// The Model that serves now: parts that did not change are reused, refused apps keep its version.
    pub previous: Option<&'a Model>,
    /// Who owned which host after the last build.
    pub hosts: &'a HostOwners,
}

/// What a build makes.
#[derive(Debug, Clone, PartialEq)]
pub struct Built {
    /// The words to publish. Endpoints are those of the files only.
    pub model: Arc<Model>,
    /// Settings of the process.
    pub process: Process,
    /// Directory of app files, as written (relative to the process file).
    pub apps_dir: Option<PathBuf>,
    /// Who owns which host now; give it to the next build, also after a restart.
    pub hosts: HostOwners,
    /// Warnings of all files and errors of refused apps, by file.
    pub diagnostics: Vec<Diagnostic>,
}

/// What a build is for.
#[derive(Debug, Clone, Copy, Default)]
pub enum Purpose<'a> {
    /// A process with both planes.
    #[default]
    Whole,
    /// Control without a data path: what routers give a meaning to (listeners, authorities, identities, files of credentials) is
    /// taken as it is named.
    Control,
    /// A router whose apps come from control. The text is that of the app `default`, `{}` when control has none; `Input::apps` are
    /// the others.
    Router(&'a Source),
}

impl Purpose<'_> {
    fn planes(self) -> Planes {
        match self {
            Purpose::Whole => Planes::Both,
            Purpose::Control => Planes::Control,
            Purpose::Router(_) => Planes::Router,
        }
    }
}

impl Built {
    /// Whether an app was refused. `ekiden check` exits 1 then.
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(Diagnostic::is_error)
    }
}

/// Builds a Model from texts. Errors: all findings of all files, when the process file is invalid. Called by
/// control at start and at each change of a file, and by `ekiden check`.
pub fn build(input: Input<'_>) -> Result<Built, Vec<Diagnostic>> {
    build_for(input, Purpose::Whole)
}

/// As [`build`], for a process that has one plane only. Called by `ekiden control` and `ekiden router`.
pub fn build_for(input: Input<'_>, purpose: Purpose<'_>) -> Result<Built, Vec<Diagnostic>> {
    let mut main = Report::new(input.main);
    if let Purpose::Control = purpose {
        main.forgive("missing_listener");
    }
    let mut world = World { planes: purpose.planes(), ..World::default() };
    world.apps.insert(AppName::default_app());
    world.apps.extend(input.apps.iter().map(|(name, _)| name.clone()));
    let raw = read::<RawProcess>(&mut main, input.main);
    let process = raw.as_ref().map(|raw| validate::process(raw, &mut world, &mut main));
    let default;
    let mut far = None;
    match purpose {
        Purpose::Whole | Purpose::Control => {
            if let (Purpose::Control, Some(raw)) =
                (purpose, raw.as_ref().filter(|raw| raw.listener.is_some()))
            {
                let message = "the listeners of this file are not opened: control has no data path";
                let help = "move them to the files of its routers";
                main.warning(raw.span.first(), "listener_in_control", message, help);
            }
            default = raw
                .as_ref()
                .map(|raw| validate::app(AppName::default_app(), &AppParts::from(raw), &world, &mut main));
        }
        Purpose::Router(source) => {
            barred(&mut main, input.main);
            let mut report = Report::new(source);
            let raw = read::<RawApp>(&mut report, source);
            let parts = raw.as_ref().map(AppParts::from);
            let app = parts.map(|parts| validate::app(AppName::default_app(), &parts, &world, &mut report));
            default = app.filter(|_| !report.failed());
            far = Some(report);
        }
    }
    let main_failed = main.failed();
    let reports = std::iter::once(main).chain(far).collect();
    let mut parts = vec![Part { name: AppName::default_app(), reports, checked: default }];
    // Apps are checked even when the process file is not valid, so that one run shows everything; but without
    // any listener known each of their routes would be a finding of its own.
    if raw.is_some() {
        parts.extend(app_parts(&input, &world));
    }
    let Some(mut process) = process.filter(|_| !main_failed) else {
        return Err(findings(parts));
    };
    if let Purpose::Control = purpose {
        process.listeners.clear();
    }
    Ok(assemble(&input, &world, process, parts))
}

/// Says of each key of an app in the file of a router that it has no place there.
fn barred(report: &mut Report<'_>, source: &Source) {
    let mut syntax = Report::new(source);
    let Some(Value::Table(entries)) = tree::read(source, &mut syntax).map(|node| node.value) else { return };
    for entry in entries.iter().filter(|entry| entry.key == "apps" || raw::is_app_key(&entry.key)) {
        let message =
            format!("`{}` has no place in the file of a router: its apps come from control", entry.key);
        let help = "move it to the file of `ekiden control`, or serve this file with `ekiden run`";
        report.error_help(entry.key_span, "belongs_to_control", message, help);
    }
}

/// Reads a text as a raw table. A text without any key stands for an empty table.
fn read<T: Raw>(report: &mut Report<'_>, source: &Source) -> Option<T> {
    let node = tree::read(source, report)?;
    T::read(&node, T::BOUND, report)
}

/// An app with what was found in its files.
struct Part<'s> {
    name: AppName,
    reports: Vec<Report<'s>>,
    /// Set when the app is valid by itself.
    checked: Option<CheckedApp>,
}

fn app_parts<'s>(input: &Input<'s>, world: &World) -> Vec<Part<'s>> {
    let mut by_name: BTreeMap<&AppName, Vec<&'s Source>> = BTreeMap::new();
    for (name, source) in input.apps {
        by_name.entry(name).or_default().push(source);
    }
    by_name.into_iter().map(|(name, sources)| app_part(name, &sources, world)).collect()
}

fn app_part<'s>(name: &AppName, sources: &[&'s Source], world: &World) -> Part<'s> {
    let mut part = Part { name: name.clone(), reports: Vec::new(), checked: None };
    for source in sources {
        let mut report = Report::new(source);
        let raw = read::<RawApp>(&mut report, source);
        let checked = raw.map(|raw| validate::app(name.clone(), &AppParts::from(&raw), world, &mut report));
        if *name == AppName::default_app() {
            let help = "the top level of the process file is the app `default`; name the file otherwise";
            report.error_help(
                Span::default(),
                "reserved_app",
                "an app file may not be named `default`",
                help,
            );
        } else if sources.len() > 1 {
            let message = format!("{} files are the app `{name}`", sources.len());
            report.error_help(Span::default(), "duplicate_app", message, "leave one of them");
        }
        part.checked = checked.filter(|_| !report.failed());
        part.reports.push(report);
    }
    part
}

fn findings(parts: Vec<Part<'_>>) -> Vec<Diagnostic> {
    parts.into_iter().flat_map(|part| part.reports).flat_map(Report::into_findings).collect()
}

fn assemble(input: &Input<'_>, world: &World, process: CheckedProcess, parts: Vec<Part<'_>>) -> Built {
    // The file `default.toml` was reported; it must not stand beside the real one.
    let (mut parts, misnamed): (Vec<_>, Vec<_>) = {
        let mut seen = BTreeSet::new();
        parts.into_iter().partition(|part| seen.insert(part.name.clone()))
    };
    let claimants = parts.iter().map(|part| Claimant {
        name: part.name.clone(),
        wanted: part.checked.as_ref().map(|checked| &checked.app),
        previous: input.previous.and_then(|model| model.apps.get(&part.name)),
    });
    let settled = settle(input.hosts, &claimants.collect::<Vec<_>>(), &world.listeners);
    let mut apps = SharedMap::new();
    for (part, ruling) in parts.iter_mut().zip(settled.rulings) {
        let wanted = part.checked.take();
        // The last is that of the app's own text; of `default` the first may be the process file's.
        if let (Some(report), Some(checked)) = (part.reports.last_mut(), &wanted) {
            for conflict in &ruling.conflicts {
                let place = checked.places.get(conflict.route).copied().unwrap_or_default();
                report.error_help(place, "host_owned", conflict.message(), conflict.help());
            }
        }
        let kept: Option<Arc<App>> = match wanted {
            Some(checked) if ruling.accepted => Some(Arc::new(checked.app)),
            Some(_) | None => ruling.kept,
        };
        apps.extend(kept.map(|app| (part.name.clone(), app)));
    }
    let mut model = Model { listeners: process.listeners, apps, trust: Arc::new(process.trust) };
    if let Some(previous) = input.previous {
        model = reuse(model, previous);
    }
    parts.extend(misnamed);
    Built {
        model: Arc::new(model),
        process: process.process,
        apps_dir: process.apps_dir,
        hosts: settled.owners,
        diagnostics: findings(parts),
    }
}
