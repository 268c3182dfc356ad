//! From files to an accepted configuration: at start (with the last good table behind it), at reload and for
//! `ekiden check`. Blocking; starts nothing.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ekiden_config::model::{Model, Process};
use ekiden_config::names::AppName;
use ekiden_config::{Built, Diagnostic, HostOwners, Input, build};

use crate::dns::names::Names;
use crate::last_good::LastGood;
use crate::rundir;
use crate::settings::{Options, Settings, run_dir, settings};
use crate::sources::{Sources, apps_path, read_apps, read_main, with_stand_ins};
use crate::watch::{Look, look};

/// Reads that a file changing under our eyes gets before what was read last is taken.
const READS_MAX: u32 = 5;
/// Time between them.
const READ_AGAIN: Duration = Duration::from_millis(50);
/// Times the apps directory may move between two builds of one read.
const DIRS_MAX: u32 = 3;

/// A configuration in force.
#[derive(Debug, Clone)]
pub(crate) struct Accepted {
    /// The texts in force: for a refused app its last accepted one.
    pub(crate) sources: Arc<Sources>,
    /// What was built of them.
    pub(crate) built: Built,
    /// Apps whose newest text was refused.
    pub(crate) refused: BTreeSet<AppName>,
    /// Every finding, about files and about texts.
    pub(crate) diagnostics: Vec<Diagnostic>,
}

/// How one reading of the files ended.
#[derive(Debug)]
pub(crate) struct Attempt {
    /// The texts as read; none when the process file could not be read.
    pub(crate) sources: Option<Arc<Sources>>,
    /// What the disk looked like then.
    pub(crate) look: Look,
    /// What came of it. `None`: the texts are those of the attempt before.
    pub(crate) outcome: Option<Result<Accepted, Vec<Diagnostic>>>,
}

/// Reads the files and builds. `before` is what serves now, `tried` the texts of the last attempt: when they are
/// the same again nothing is built.
pub(crate) fn attempt(
    file: &Path,
    before: Option<&Accepted>,
    hosts: &HostOwners,
    tried: Option<&Sources>,
) -> Attempt {
    let mut reads = 0;
    loop {
        reads += 1;
        let guess = before.and_then(|before| before.built.apps_dir.clone());
        let first = look(file, guess.as_deref());
        let (sources, outcome) = read_and_build(file, guess, before, hosts, tried);
        let dir = match &outcome {
            Some(Ok(accepted)) => accepted.built.apps_dir.as_deref(),
            Some(Err(_)) | None => before.and_then(|before| before.built.apps_dir.as_deref()),
        };
        let guess_held = dir == before.and_then(|before| before.built.apps_dir.as_deref());
        let latest = look(file, dir);
        if reads >= READS_MAX || !guess_held || latest == first {
            return Attempt { sources, look: latest, outcome };
        }
        thread::sleep(READ_AGAIN);
    }
}

type Read = (Option<Arc<Sources>>, Option<Result<Accepted, Vec<Diagnostic>>>);

/// The directory of app files is named inside the process file: build with the one known so far, and again when
/// the file names another.
fn read_and_build(
    file: &Path,
    guess: Option<PathBuf>,
    before: Option<&Accepted>,
    hosts: &HostOwners,
    tried: Option<&Sources>,
) -> Read {
    let main = match read_main(file) {
        Ok(main) => main,
        Err(diagnostic) => return (None, Some(Err(vec![*diagnostic]))),
    };
    let mut dir = guess;
    let mut read = (None, None);
    for _ in 0..DIRS_MAX {
        let mut sources =
            Sources { main: main.clone(), apps: Vec::new(), unreadable: Vec::new(), diagnostics: Vec::new() };
        let directory = dir.as_ref().map(|dir| read_apps(&apps_path(file, dir), &mut sources));
        let sources = Arc::new(sources);
        if tried.is_some_and(|tried| *tried == *sources) && !matches!(directory, Some(Err(_))) {
            return (Some(sources), None);
        }
        let outcome = accept(Arc::clone(&sources), before, hosts);
        let next = outcome.as_ref().map_or_else(|_| dir.clone(), |accepted| accepted.built.apps_dir.clone());
        let settled = next == dir;
        read = match (directory, outcome) {
            (Some(Err(missing)), Ok(_)) if settled => (Some(sources), Some(Err(vec![*missing]))),
            (Some(Err(missing)), Err(mut all)) => {
                all.push(*missing);
                (Some(sources), Some(Err(all)))
            }
            (_, outcome) => (Some(sources), Some(outcome)),
        };
        if settled {
            break;
        }
        dir = next;
    }
    read
}

/// Builds texts and sorts out what is in force afterwards.
pub(crate) fn accept(
    sources: Arc<Sources>,
    before: Option<&Accepted>,
    hosts: &HostOwners,
) -> Result<Accepted, Vec<Diagnostic>> {
    let old = before.map(|before| &before.sources);
    let input = with_stand_ins(Sources::clone(&sources), old);
    let previous = before.map(|before| &*before.built.model);
    let built = match build(Input { main: &input.main, apps: &input.apps, previous, hosts }) {
        Ok(built) => built,
        Err(found) => return Err(sources.diagnostics.iter().cloned().chain(found).collect()),
    };
    let wrong: BTreeSet<&str> =
        built.diagnostics.iter().filter(|found| found.is_error()).map(|found| found.file.as_str()).collect();
    let refused_texts = input.apps.iter().filter(|(_, source)| wrong.contains(source.file.as_str()));
    let mut refused: BTreeSet<AppName> = refused_texts.map(|(app, _)| app.clone()).collect();
    refused.extend(sources.unreadable.iter().cloned());
    // An app file may not be named `default`; the app of that name is the process file's, and fine.
    refused.remove(&AppName::default_app());
    let in_force = input.apps.iter().filter_map(|(app, source)| {
        if !refused.contains(app) {
            return Some((app.clone(), source.clone()));
        }
        old.and_then(|old| old.apps.iter().find(|(name, _)| name == app).cloned())
    });
    let in_force = Sources {
        main: input.main.clone(),
        apps: in_force.collect(),
        unreadable: Vec::new(),
        diagnostics: Vec::new(),
    };
    let diagnostics = sources.diagnostics.iter().chain(&built.diagnostics).cloned().collect();
    Ok(Accepted { sources: Arc::new(in_force), built, refused, diagnostics })
}

/// Reads a process file and its app files and builds them, as `ekiden check` does. `Ok` may still carry errors, in
/// `Built::diagnostics`: those of single apps.
pub fn check(file: &Path) -> Result<Built, Vec<Diagnostic>> {
    match attempt(file, None, &HostOwners::default(), None).outcome {
        Some(Ok(accepted)) => Ok(Built { diagnostics: accepted.diagnostics, ..accepted.built }),
        Some(Err(diagnostics)) => Err(diagnostics),
        // Not reached: without an earlier attempt there is always an outcome.
        None => Err(Vec::new()),
    }
}

/// What a start begins with. Made by [`load`], taken by `Control::start`.
#[derive(Debug)]
pub struct Loaded {
    pub(crate) options: Options,
    pub(crate) accepted: Accepted,
    pub(crate) tried: Option<Arc<Sources>>,
    pub(crate) look: Look,
    pub(crate) names: Names,
    pub(crate) stale: Option<String>,
    pub(crate) diagnostics: Vec<Diagnostic>,
    settings: Settings,
}

impl Loaded {
    /// The directory of the process file, which the relative paths in it go by.
    pub fn base_dir(&self) -> &Path {
        self.options.file.parent().unwrap_or_else(|| Path::new(""))
    }

    /// The Model of the files: without API endpoints, DNS results and drain marks.
    pub fn model(&self) -> &Arc<Model> {
        &self.accepted.built.model
    }

    /// Settings of the process, as the file in force has them.
    pub fn process(&self) -> &Process {
        &self.accepted.built.process
    }

    /// Where telemetry and the API are served and where state is kept, after flags and defaults.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Every error and warning to print. Errors here did not stop the start: they concern single apps, or the
    /// process file when a last good table serves instead.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// Why a last good table serves and not the file; none when the file does.
    pub fn stale(&self) -> Option<&str> {
        self.stale.as_deref()
    }

    /// Control and telemetry addresses: what the router refuses to connect to.
    pub fn own_addresses(&self) -> Vec<ekiden_config::model::Address> {
        self.settings.telemetry.iter().chain(&self.settings.control).cloned().collect()
    }
}

/// Why there is nothing to start with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// All findings.
    pub diagnostics: Vec<Diagnostic>,
    /// Why no last good table serves instead, when there might have been one.
    pub note: Option<String>,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for diagnostic in &self.diagnostics {
            writeln!(f, "{diagnostic}")?;
        }
        match &self.note {
            Some(note) => f.write_str(note),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Refused {}

/// The last good table of a start, looked for where the run directory is or was.
fn find_last_good(options: &Options, process: Option<&Process>) -> Result<Option<LastGood>, String> {
    let path = rundir::absolute(&options.file);
    let Some(dir) = run_dir(options, process) else { return Ok(None) };
    if options.run_dir.is_none()
        && process.is_none()
        && let Some(real) = rundir::pointed(&dir)
    {
        return LastGood::read(&real, &path);
    }
    LastGood::read(&dir, &path)
}

fn restore(saved: &LastGood) -> Option<Accepted> {
    accept(Arc::new(saved.sources()?), None, saved.hosts()).ok()
}

/// Reads the files for a start. A process file that is missing, empty or invalid is stood in for by the last good
/// table made from the same path, unless `strict`; an invalid app file by that app's last good version.
pub fn load(options: Options) -> Result<Loaded, Refused> {
    let mut found = find_last_good(&options, None);
    let mut first = try_with(&options, &found);
    if let Some(Ok(accepted)) = &first.outcome {
        let process = &accepted.built.process;
        if process.run_dir.is_some() && options.run_dir.is_none() {
            // Only now it is known where the state really is.
            found = find_last_good(&options, Some(process));
            first = try_with(&options, &found);
        }
    }
    if let Err(error) = &found {
        tracing::error!(%error, "the last good table cannot be read");
    }
    let saved = found.as_ref().ok().and_then(Option::as_ref);
    let names = saved.map(LastGood::names).unwrap_or_default();
    let (accepted, diagnostics, stale) = match first.outcome {
        Some(Ok(accepted)) => {
            let diagnostics = accepted.diagnostics.clone();
            (accepted, diagnostics, None)
        }
        Some(Err(diagnostics)) => {
            let restored = if options.strict { None } else { saved.and_then(restore) };
            let Some(accepted) = restored else {
                let note = note(&options, &found);
                return Err(Refused { diagnostics, note });
            };
            let age =
                crate::clock::unix_ms().saturating_sub(saved.map_or(0, |saved| saved.saved_unix_ms)) / 1000;
            let why = format!(
                "{} cannot be used; the last good table made from it, saved {age} s ago, is served",
                options.file.display()
            );
            (accepted, diagnostics, Some(why))
        }
        None => return Err(Refused { diagnostics: Vec::new(), note: None }),
    };
    let settings = settings(&options, &accepted.built.process, &accepted.built.model);
    Ok(Loaded {
        options,
        accepted,
        tried: first.sources,
        look: first.look,
        names,
        stale,
        diagnostics,
        settings,
    })
}

/// One attempt; when it refuses an app and there is a last good table, once more on top of that.
fn try_with(options: &Options, found: &Result<Option<LastGood>, String>) -> Attempt {
    let saved = found.as_ref().ok().and_then(Option::as_ref);
    let hosts = saved.map(|saved| saved.hosts().clone()).unwrap_or_default();
    let first = attempt(&options.file, None, &hosts, None);
    let refuses = matches!(&first.outcome, Some(Ok(accepted)) if !accepted.refused.is_empty());
    match saved.filter(|_| refuses && !options.strict).and_then(restore) {
        Some(before) => attempt(&options.file, Some(&before), &hosts, None),
        None => first,
    }
}

fn note(options: &Options, found: &Result<Option<LastGood>, String>) -> Option<String> {
    match found {
        Err(error) => Some(format!("the last good table cannot be read: {error}")),
        Ok(None) => None,
        Ok(Some(_)) if options.strict => {
            Some("there is a last good table, but --strict forbids it".to_owned())
        }
        Ok(Some(_)) => Some("there is a last good table, but it no longer builds".to_owned()),
    }
}
