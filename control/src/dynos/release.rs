//! A release: what its dynos are started with, as the files had it when it was made.
//!
//! Reads the Procfile and `.env`. Control's own secrets and sockets are not for dynos: their variables are taken out of the environment.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ekiden_config::{Diagnostic, Severity};

use super::procfile::{self, Wrong};
use super::{ProcfileRun, VARIABLES};
use crate::sources::finding;

/// Largest Procfile or `.env`, in bytes.
const TEXT_MAX: u64 = 1 << 20;
/// Variables that are this process's own: sockets and credentials of the service manager.
const OURS: [&str; 9] = [
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "CREDENTIALS_DIRECTORY",
    "STATE_DIRECTORY",
    "PORT",
];
/// Beginning of the names of all of this program's own, such as the one of the token file.
const OURS_PREFIX: &str = "EKIDEN_";

/// What dynos of one release are started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Release {
    /// Counts releases of the app; 0 before the first is recorded.
    pub(super) number: u64,
    /// `v42`.
    pub(super) name: String,
    /// By process type.
    pub(super) commands: BTreeMap<String, String>,
    /// All but `PORT` and `DYNO`.
    pub(super) environment: Vec<(OsString, OsString)>,
}

/// A file that is of no use.
#[derive(Debug)]
pub(super) struct Unusable {
    file: PathBuf,
    wrong: Wrong,
}

impl Unusable {
    pub(super) fn words(&self) -> String {
        let (file, Wrong { line, why }) = (self.file.display(), &self.wrong);
        if *line == 0 { format!("{file}: {why}") } else { format!("{file}, line {line}: {why}") }
    }

    pub(super) fn diagnostic(&self) -> Diagnostic {
        let line = self.wrong.line.max(1);
        let help = "mend it and start again";
        let found = finding(Severity::Error, "bad_procfile", &self.file, self.wrong.why.clone(), help);
        Diagnostic { line, ..found }
    }
}

fn text(file: &Path) -> io::Result<String> {
    if fs::metadata(file)?.len() > TEXT_MAX {
        return Err(io::Error::other("it has more than 1 MiB"));
    }
    fs::read_to_string(file)
}

/// Reads the files as they are now.
pub(super) fn read(run: &ProcfileRun, number: u64, name: &str) -> Result<Release, Unusable> {
    let unusable = |file: &Path, wrong: Wrong| Unusable { file: file.to_owned(), wrong };
    let unread = |file: &Path, error: io::Error| {
        unusable(file, Wrong { line: 0, why: format!("it cannot be read: {error}") })
    };
    let words = text(&run.file).map_err(|error| unread(&run.file, error))?;
    let commands = procfile::commands(&words).map_err(|wrong| unusable(&run.file, wrong))?;
    let beside = run.dir().join(VARIABLES);
    let variables = match text(&beside) {
        Ok(words) => procfile::variables(&words).map_err(|wrong| unusable(&beside, wrong))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(unread(&beside, error)),
    };
    let environment = environment(std::env::vars_os(), variables, name);
    Ok(Release { number, name: name.to_owned(), commands, environment })
}

/// What a dyno gets: the process's environment without what is its own, then `.env`, then `RELEASE`.
fn environment(
    inherited: impl Iterator<Item = (OsString, OsString)>,
    variables: Vec<(String, String)>,
    release: &str,
) -> Vec<(OsString, OsString)> {
    let ours = |name: &OsString| {
        let name = name.to_string_lossy();
        OURS.contains(&name.as_ref()) || name.starts_with(OURS_PREFIX)
    };
    let mut all: BTreeMap<OsString, OsString> = inherited.filter(|(name, _)| !ours(name)).collect();
    all.extend(variables.into_iter().map(|(name, value)| (name.into(), value.into())));
    all.insert("RELEASE".into(), release.into());
    all.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dyno_gets_no_secret_of_control_and_the_words_of_env() {
        let inherited = [
            ("PATH", "/bin"),
            ("EKIDEN_TOKEN_FILE", "/secret"),
            ("EKIDEN_CONTROL", "unix:/x"),
            ("LISTEN_FDS", "1"),
            ("NOTIFY_SOCKET", "/n"),
            ("CREDENTIALS_DIRECTORY", "/c"),
            ("A", "old"),
        ];
        let inherited = inherited.map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let variables = vec![("A".to_owned(), "new".to_owned()), ("RELEASE".to_owned(), "mine".to_owned())];
        let all = environment(inherited.into_iter(), variables, "v7");
        let wanted = [("A", "new"), ("PATH", "/bin"), ("RELEASE", "v7")];
        assert_eq!(all, wanted.map(|(name, value)| (OsString::from(name), OsString::from(value))));
    }
}
