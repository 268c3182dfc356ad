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
use ekiden_config::{Built, Diagnostic, HostOwners, Input, Purpose, Severity, Source, build_for};

use crate::desired::{ApiApps, api_apps, host_owners};
use crate::dns::names::Names;
use crate::dynos::DynoThread;
use crate::last_good::LastGood;
use crate::placement::discovered::Discovered;
use crate::settings::{Options, Settings, run_dir, settings};
use crate::sources::{Sources, apps_path, finding, read_apps, read_main, with_stand_ins};
use crate::store::Store;
use crate::watch::{Look, look};
use crate::{desired, dynos, rundir, store};

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
    /// There is no data path in this process.
    pub(crate) alone: bool,
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

/// What is built beside the files, and on top of what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Around<'a> {
    /// What serves now.
    pub(crate) before: Option<&'a Accepted>,
    /// Who owned which host.
    pub(crate) hosts: &'a HostOwners,
    /// Apps owned by the API.
    pub(crate) api: &'a ApiApps,
    /// There is no data path in this process.
    pub(crate) alone: bool,
}

/// A process file: its path, and its text when that is not to be read from there.
pub(crate) type MainFile<'a> = (&'a Path, Option<&'a str>);

/// Reads the files and builds. `tried` are the texts of the last attempt: when they are the same again nothing is built.
pub(crate) fn attempt(main: MainFile<'_>, around: Around<'_>, tried: Option<&Sources>) -> Attempt {
    let (file, _) = main;
    let before = around.before;
    let mut reads = 0;
    loop {
        reads += 1;
        let guess = before.and_then(|before| before.built.apps_dir.clone());
        let first = look(file, guess.as_deref());
        let (sources, outcome) = read_and_build(main, guess, around, tried);
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
    (file, text): MainFile<'_>,
    guess: Option<PathBuf>,
    around: Around<'_>,
    tried: Option<&Sources>,
) -> Read {
    let main = match read_main(file, text) {
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
        let outcome = accept(Arc::clone(&sources), around);
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
pub(crate) fn accept(sources: Arc<Sources>, around: Around<'_>) -> Result<Accepted, Vec<Diagnostic>> {
    let Around { before, hosts, api, alone } = around;
    let old = before.map(|before| &before.sources);
    let mut input = with_stand_ins(Sources::clone(&sources), old);
    let shadowed: Vec<(AppName, Source)> =
        input.apps.extract_if(.., |(app, _)| api.contains_key(app)).collect();
    let mut found: Vec<Diagnostic> = sources.diagnostics.clone();
    found.extend(shadowed.iter().filter_map(|(app, source)| shadowing(app, source, api)));
    let files = input.apps.len();
    input.apps.extend(api.iter().map(|(app, object)| (app.clone(), object.source.clone())));
    let previous = before.map(|before| &*before.built.model);
    let purpose = if alone { Purpose::Control } else { Purpose::Whole };
    let built = match build_for(Input { main: &input.main, apps: &input.apps, previous, hosts }, purpose) {
        Ok(built) => built,
        Err(more) => return Err(found.into_iter().chain(more).collect()),
    };
    found.extend(built.diagnostics.iter().cloned());
    let wrong: BTreeSet<&str> =
        found.iter().filter(|found| found.is_error()).map(|found| found.file.as_str()).collect();
    let texts = input.apps.iter().chain(&shadowed);
    let refused_texts = texts.filter(|(_, source)| wrong.contains(source.file.as_str()));
    let mut refused: BTreeSet<AppName> = refused_texts.map(|(app, _)| app.clone()).collect();
    refused.extend(sources.unreadable.iter().filter(|app| !api.contains_key(*app)).cloned());
    // An app file may not be named `default`; the app of that name is the process file's, and fine.
    refused.remove(&AppName::default_app());
    input.apps.truncate(files);
    let in_force = input.apps.iter().filter_map(|(app, source)| {
        if !refused.contains(app) {
            return Some((app.clone(), source.clone()));
        }
        old.and_then(|old| old.apps.iter().find(|(name, _)| name == app).cloned())
    });
    let mut in_force: Vec<(AppName, Source)> = in_force.collect();
    // Kept for the day the API gives them back.
    in_force.extend(shadowed);
    in_force.sort_by(|a, b| a.0.cmp(&b.0));
    let in_force =
        Sources { main: input.main.clone(), apps: in_force, unreadable: Vec::new(), diagnostics: Vec::new() };
    Ok(Accepted { sources: Arc::new(in_force), built, refused, diagnostics: found, alone })
}

/// What is said of a file whose app the API owns: an error, unless the API took it from the file knowingly.
fn shadowing(app: &AppName, source: &Source, api: &ApiApps) -> Option<Diagnostic> {
    let object = api.get(app)?;
    let path = Path::new(&source.file);
    let help = format!("`DELETE /v1/apps/{app}` gives it to the file; or remove the file");
    let (severity, code, message) = if object.adopted {
        let message = format!("the API adopted the app `{app}`: this file is not in force");
        (Severity::Warning, "adopted_by_api", message)
    } else {
        (
            Severity::Error,
            "owned_by_api",
            format!("the app `{app}` belongs to the API: this file is not taken"),
        )
    };
    Some(finding(severity, code, path, message, &help))
}

/// Reads a process file and its app files and builds them, as `ekiden check` does. `Ok` may still carry errors, in
/// `Built::diagnostics`: those of single apps.
pub fn check(file: &Path) -> Result<Built, Vec<Diagnostic>> {
    check_with(file, false)
}

/// As [`check`], for the file of `ekiden control`.
pub fn check_control(file: &Path) -> Result<Built, Vec<Diagnostic>> {
    check_with(file, true)
}

fn check_with(file: &Path, alone: bool) -> Result<Built, Vec<Diagnostic>> {
    let (hosts, api) = (HostOwners::default(), ApiApps::default());
    match attempt((file, None), Around { before: None, hosts: &hosts, api: &api, alone }, None).outcome {
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
    pub(crate) discovered: Discovered,
    pub(crate) api: Arc<ApiApps>,
    pub(crate) stale: Option<String>,
    pub(crate) diagnostics: Vec<Diagnostic>,
    settings: Settings,
    /// The thread that forks dynos, once there is one.
    pub(crate) dynos: Option<DynoThread>,
}

impl Loaded {
    /// Starts the thread that forks the Procfile's dynos, if there is one to run. They inherit the niceness of the caller. Error:
    /// the system gave no thread.
    pub fn start_dyno_thread(&mut self) -> std::io::Result<()> {
        if self.options.procfile.is_some() && self.dynos.is_none() {
            self.dynos = Some(DynoThread::start()?);
        }
        Ok(())
    }

    /// Whether a Procfile's dynos are to be run.
    pub fn has_procfile(&self) -> bool {
        self.options.procfile.is_some()
    }

    /// Builds again when the store, now that it is ours, has other apps than were seen before.
    pub(crate) fn refresh(&mut self, store: &dyn Store) {
        let all = |prefix| store.list(prefix, None, usize::MAX).objects;
        let api = api_apps(&all(desired::APPS));
        if api == *self.api {
            return;
        }
        let hosts = host_owners(&all(desired::HOSTS));
        let alone = self.accepted.alone;
        let around = Around { before: Some(&self.accepted), hosts: &hosts, api: &api, alone };
        match accept(Arc::clone(&self.accepted.sources), around) {
            Ok(accepted) => {
                self.accepted = accepted;
                self.api = Arc::new(api);
            }
            Err(_) => tracing::error!("apps of the API changed during the start and cannot be built"),
        }
    }

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
    let Some(dir) = find_run_dir(options, process) else { return Ok(None) };
    LastGood::read(&dir, &rundir::absolute(&options.file))
}

/// What outlived the process before.
struct Kept {
    last_good: Result<Option<LastGood>, String>,
    /// Apps owned by the API.
    api: Arc<ApiApps>,
    hosts: HostOwners,
    /// There is no data path in this process.
    alone: bool,
}

/// What a process still knows when it begins anew beside its workers: newer than any file.
#[derive(Default)]
pub(crate) struct Memory {
    /// What was in force, if anything was.
    pub(crate) last_good: Option<LastGood>,
    /// Apps of the API, where no journal can be read for them.
    pub(crate) apps: Option<Arc<ApiApps>>,
}

impl Kept {
    fn find(options: &Options, process: Option<&Process>, memory: &Memory) -> Self {
        let last_good = match &memory.last_good {
            Some(last_good) => Ok(Some(last_good.clone())),
            None => find_last_good(options, process),
        };
        let dir = find_run_dir(options, process);
        let objects = |prefix: &str| {
            let Some(dir) = dir.as_deref() else { return Vec::new() };
            store::peek(dir, prefix).unwrap_or_else(|error| {
                // Not the same as none: whatever the API had there is missing now.
                let kind = prefix.trim_end_matches('/');
                tracing::error!(%error, dir = %dir.display(), "{kind} of the journal cannot be read");
                Vec::new()
            })
        };
        let recorded = host_owners(&objects(desired::HOSTS));
        let saved = last_good.as_ref().ok().and_then(Option::as_ref);
        let hosts = match saved {
            Some(saved) if recorded.is_empty() => saved.hosts().clone(),
            Some(_) | None => recorded,
        };
        let api = memory.apps.clone().unwrap_or_else(|| Arc::new(api_apps(&objects(desired::APPS))));
        Self { api, hosts, last_good, alone: options.alone }
    }

    fn saved(&self) -> Option<&LastGood> {
        self.last_good.as_ref().ok().and_then(Option::as_ref)
    }

    /// With nothing in force before.
    fn around(&self) -> Around<'_> {
        Around { before: None, hosts: &self.hosts, api: &self.api, alone: self.alone }
    }

    fn restore(&self) -> Option<Accepted> {
        accept(Arc::new(self.saved()?.sources()?), self.around()).ok()
    }
}

/// The run directory of a start, also when the file that names it cannot be read any more.
pub(crate) fn find_run_dir(options: &Options, process: Option<&Process>) -> Option<PathBuf> {
    let dir = run_dir(options, process)?;
    if options.run_dir.is_none()
        && process.is_none()
        && let Some(real) = rundir::pointed(&dir)
    {
        return Some(real);
    }
    Some(dir)
}

/// Reads the files for a start. A process file that is missing, empty or invalid is stood in for by the last good
/// table made from the same path, unless `strict`; an invalid app file by that app's last good version.
pub fn load(options: Options) -> Result<Loaded, Refused> {
    if let Some(run) = &options.procfile
        && let Err(found) = dynos::check(run)
    {
        return Err(Refused { diagnostics: vec![*found], note: None });
    }
    load_kept(options, &Memory::default())
}

/// As [`load`], for one more runtime of a process that was started with these settings: what needs a restart of the process stays as
/// it is, a Procfile is not looked at, and the last good table may stand in also where a start was told not to take it; what was in force is the last good one.
pub(crate) fn load_again(
    options: Options,
    started_with: &Process,
    memory: &Memory,
) -> Result<Loaded, Refused> {
    let mut loaded = load_kept(Options { strict: false, ..options }, memory)?;
    loaded.accepted.built.process = started_with.clone();
    loaded.settings = settings(&loaded.options, started_with, loaded.model());
    Ok(loaded)
}

fn load_kept(options: Options, memory: &Memory) -> Result<Loaded, Refused> {
    let mut kept = Kept::find(&options, None, memory);
    let mut first = try_with(&options, &kept);
    if let Some(Ok(accepted)) = &first.outcome {
        let process = &accepted.built.process;
        if process.run_dir.is_some() && options.run_dir.is_none() {
            // Only now it is known where the state really is.
            kept = Kept::find(&options, Some(process), memory);
            first = try_with(&options, &kept);
        }
    }
    if let Err(error) = &kept.last_good {
        tracing::error!(%error, "the last good table cannot be read");
    }
    let saved = kept.saved();
    let names = saved.map(LastGood::names).unwrap_or_default();
    let discovered = saved.map(|saved| saved.discovered(crate::clock::unix_ms())).unwrap_or_default();
    let (accepted, diagnostics, stale) = match first.outcome {
        Some(Ok(accepted)) => {
            let diagnostics = accepted.diagnostics.clone();
            (accepted, diagnostics, None)
        }
        Some(Err(diagnostics)) => {
            let restored = if options.strict { None } else { kept.restore() };
            let Some(accepted) = restored else {
                let note = note(&options, &kept.last_good);
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
        discovered,
        api: Arc::clone(&kept.api),
        stale,
        diagnostics,
        settings,
        dynos: None,
    })
}

/// One attempt; when it refuses an app and there is a last good table, once more on top of that.
fn try_with(options: &Options, kept: &Kept) -> Attempt {
    let main = (options.file.as_path(), options.text.as_deref());
    let first = attempt(main, kept.around(), None);
    let refuses = matches!(&first.outcome, Some(Ok(accepted)) if !accepted.refused.is_empty());
    let restored = if refuses && !options.strict { kept.restore() } else { None };
    match restored {
        Some(before) => attempt(main, Around { before: Some(&before), ..kept.around() }, None),
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
