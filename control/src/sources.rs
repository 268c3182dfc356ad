//! Configuration texts from disk: the main file and one file per app in the apps directory.
//!
//! Reads and names; does not parse. A text that cannot be read is a diagnostic like any other, so that all
//! findings of a run stand in one list. Blocking.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ekiden_config::names::AppName;
use ekiden_config::source::{Span, TEXT_MAX};
use ekiden_config::{Diagnostic, Format, Severity, Source};

use crate::fnv::Fnv;

/// Most app files read from one directory.
const APPS_MAX: usize = 100_000;

/// The texts of one look at the disk.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sources {
    /// The process file.
    pub(crate) main: Source,
    /// App files, sorted by app.
    pub(crate) apps: Vec<(AppName, Source)>,
    /// Apps that have a file which could not be taken as text; they keep their last good version.
    pub(crate) unreadable: Vec<AppName>,
    /// Findings about files as files. Errors here concern single apps.
    pub(crate) diagnostics: Vec<Diagnostic>,
}

impl Default for Sources {
    fn default() -> Self {
        let main = Source { file: String::new(), text: String::new(), format: Format::Toml };
        Self { main, apps: Vec::new(), unreadable: Vec::new(), diagnostics: Vec::new() }
    }
}

impl Sources {
    /// The file of an app.
    pub(crate) fn app(&self, name: &AppName) -> Option<&Source> {
        let at = self.apps.binary_search_by(|(app, _)| app.cmp(name)).ok()?;
        self.apps.get(at).map(|(_, source)| source)
    }

    /// Hash over all names and texts, for the status.
    pub(crate) fn hash(&self) -> String {
        let mut hash = Fnv::new();
        hash.feed(self.main.text.as_bytes());
        for (app, source) in &self.apps {
            hash.feed(app.as_str().as_bytes());
            hash.feed(source.text.as_bytes());
        }
        hash.hex()
    }
}

/// The texts in force, as people are shown them.
#[derive(Debug, Clone)]
pub(crate) enum Texts {
    /// Files.
    Files(Arc<Sources>),
    /// What a router has from control.
    Documents(Arc<Documents>),
}

/// A process file, and apps as documents of control: their texts are those that the table was made of, and not there once more.
#[derive(Debug)]
pub(crate) struct Documents {
    /// The process file.
    pub(crate) main: Source,
    /// In JSON.
    pub(crate) apps: Arc<BTreeMap<AppName, Arc<str>>>,
}

/// The name of an app's document.
pub(crate) fn document_of(app: &AppName) -> String {
    format!("control:/v1/apps/{app}")
}

impl Texts {
    /// The process file.
    pub(crate) fn main(&self) -> &Source {
        match self {
            Self::Files(sources) => &sources.main,
            Self::Documents(documents) => &documents.main,
        }
    }

    /// The text of an app.
    pub(crate) fn app(&self, name: &AppName) -> Option<Cow<'_, Source>> {
        match self {
            Self::Files(sources) => sources.app(name).map(Cow::Borrowed),
            Self::Documents(documents) => documents.apps.get(name).map(|text| {
                Cow::Owned(Source { file: document_of(name), text: text.to_string(), format: Format::Json })
            }),
        }
    }

    /// The apps that have one.
    pub(crate) fn names(&self) -> Vec<&AppName> {
        match self {
            Self::Files(sources) => sources.apps.iter().map(|(app, _)| app).collect(),
            Self::Documents(documents) => documents.apps.keys().collect(),
        }
    }
}

/// A finding about a file as a whole.
pub(crate) fn finding(
    severity: Severity,
    code: &'static str,
    file: &Path,
    message: String,
    help: &str,
) -> Diagnostic {
    Diagnostic {
        severity,
        code,
        file: file.display().to_string(),
        line: 1,
        column: 1,
        span: Span::default(),
        message,
        help: Some(help.to_owned()),
        source_line: String::new(),
        caret: 0,
        width: 1,
    }
}

/// Reads the process file, or takes its text when that is made of something else. Errors: missing, unreadable, empty, too
/// large, not UTF-8, unknown extension.
pub(crate) fn read_main(file: &Path, text: Option<&str>) -> Result<Source, Box<Diagnostic>> {
    if let Some(text) = text {
        let file = file.display().to_string();
        return Ok(Source { file, text: text.to_owned(), format: Format::Toml });
    }
    let source = read(file)?;
    if source.text.trim().is_empty() {
        let help = "start with a [listener.NAME], a [cluster.NAME] and a [[route]]";
        return Err(Box::new(finding(
            Severity::Error,
            "empty_file",
            file,
            "the file is empty".to_owned(),
            help,
        )));
    }
    Ok(source)
}

fn read(file: &Path) -> Result<Source, Box<Diagnostic>> {
    let error =
        |code, message: String, help| Err(Box::new(finding(Severity::Error, code, file, message, help)));
    let Some(format) = Format::of_path(file) else {
        return error(
            "unknown_extension",
            format!("{} does not say how it is written", file.display()),
            "name it .toml, .yaml, .yml or .json",
        );
    };
    let bytes = match fs::read(file) {
        Ok(bytes) => bytes,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
            return error("missing_file", "the file does not exist".to_owned(), "check the path");
        }
        Err(cause) => {
            return error(
                "unreadable_file",
                format!("the file cannot be read: {cause}"),
                "check its permissions",
            );
        }
    };
    if bytes.len() > TEXT_MAX {
        return error(
            "file_too_large",
            format!("the file has more than {TEXT_MAX} bytes"),
            "split it into apps",
        );
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Source { file: file.display().to_string(), text, format }),
        Err(_) => error("not_utf8", "the file is not UTF-8 text".to_owned(), "save it as UTF-8"),
    }
}

/// The absolute-or-as-given place of the apps directory named in a process file.
pub(crate) fn apps_path(file: &Path, apps_dir: &Path) -> PathBuf {
    file.parent().unwrap_or_else(|| Path::new("")).join(apps_dir)
}

/// Whether a directory entry is meant as an app: editors' backups, hidden files and other extensions are not.
pub(crate) fn is_app_file(path: &Path) -> bool {
    let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    !hidden && Format::of_path(path).is_some()
}

/// Reads every app file of a directory. An error concerns the directory itself.
pub(crate) fn read_apps(dir: &Path, into: &mut Sources) -> Result<(), Box<Diagnostic>> {
    let failed = |cause: io::Error| {
        let message = format!("the apps directory cannot be read: {cause}");
        let help = "make the directory, or take `apps` out of the file";
        Box::new(finding(Severity::Error, "unreadable_apps_dir", dir, message, help))
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if is_app_file(&path) && files.len() < APPS_MAX {
            files.push(path);
        }
    }
    files.sort();
    for path in files {
        read_app(&path, into);
    }
    into.apps.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(())
}

fn read_app(path: &Path, into: &mut Sources) {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let name = match AppName::new(stem) {
        Ok(name) => name,
        Err(error) => {
            let message = format!("the file name {stem:?} is no app name: it {error}");
            let help = "use letters, digits, '-', '_' and '.' before the extension";
            into.diagnostics.push(finding(Severity::Error, "bad_app_name", path, message, help));
            return;
        }
    };
    match read(path) {
        Ok(source) => into.apps.push((name, source)),
        Err(diagnostic) => {
            into.diagnostics.push(*diagnostic);
            into.unreadable.push(name);
        }
    }
}

/// The sources to build from: apps without a readable text are stood in for by the last accepted text.
pub(crate) fn with_stand_ins(mut sources: Sources, accepted: Option<&Arc<Sources>>) -> Sources {
    for name in &sources.unreadable {
        let old = accepted.and_then(|old| old.apps.iter().find(|(app, _)| app == name));
        sources.apps.extend(old.cloned());
    }
    sources.apps.sort_by(|a, b| a.0.cmp(&b.0));
    sources
}
