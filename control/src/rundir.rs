//! The run directory: where a process keeps what must outlive it, and the lock that keeps a second process out.
//!
//! Holds `lock`, `journal`, `last-good.json` and, when the API is served there, `control.sock`. The default place
//! is the state directory plus a hash of the configuration file's absolute path, so that two configurations on one
//! machine never meet. Blocking; used at start.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::{files, fnv};

/// Left in the default place when the file names another `run_dir`, so that the last good table is found even when
/// the file can no longer be read.
const POINTER: &str = "run_dir";

/// Why a run directory cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunDirError {
    /// Another process holds it.
    Locked {
        /// The directory.
        dir: PathBuf,
        /// The process id the other one left, if it can be read.
        holder: Option<u32>,
    },
    /// It cannot be made or written; the text says why.
    Unusable {
        /// The directory.
        dir: PathBuf,
        /// Why.
        reason: String,
    },
}

impl fmt::Display for RunDirError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunDirError::Locked { dir, holder } => {
                write!(f, "the run directory {} is in use by another process", dir.display())?;
                if let Some(holder) = holder {
                    write!(f, " (pid {holder})")?;
                }
                f.write_str("; stop it, or give this one its own with --run-dir")
            }
            RunDirError::Unusable { dir, reason } => {
                write!(f, "the run directory {} cannot be used: {reason}", dir.display())
            }
        }
    }
}

impl std::error::Error for RunDirError {}

/// A locked run directory. The lock ends with the last clone and all [`Lock`]s (or with the process, however it ends).
#[derive(Debug, Clone)]
pub(crate) struct RunDir {
    path: PathBuf,
    lock: Lock,
}

/// Keeps a run directory locked: held by whoever may still write there.
#[derive(Debug, Clone)]
pub(crate) struct Lock(#[expect(dead_code, reason = "held for its drop")] Arc<File>);

impl RunDir {
    /// Makes the directory with mode 0700 when it is missing, and takes its lock.
    pub(crate) fn open(path: &Path) -> Result<Self, RunDirError> {
        let unusable =
            |error: io::Error| RunDirError::Unusable { dir: path.to_owned(), reason: error.to_string() };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(unusable)?;
        let name = path.join("lock");
        let mut options = OpenOptions::new();
        options.create(true).read(true).write(true).truncate(false).mode(0o600);
        let mut lock = options.open(&name).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let read = lock.read_to_string(&mut text);
                let holder = read.ok().and_then(|_| text.trim().parse().ok());
                return Err(RunDirError::Locked { dir: path.to_owned(), holder });
            }
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
        // The pid is a hint for people; a full disk must not stop the start here.
        let _ = lock
            .set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{}", std::process::id()));
        Ok(Self { path: path.to_owned(), lock: Lock(Arc::new(lock)) })
    }

    /// Another hold on the lock.
    pub(crate) fn lock(&self) -> Lock {
        self.lock.clone()
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// The absolute form of a path without following links: what a run directory is named after.
pub(crate) fn absolute(file: &Path) -> PathBuf {
    std::path::absolute(file).unwrap_or_else(|_| file.to_owned())
}

/// Where state lies unless told otherwise: `$STATE_DIRECTORY` (its first entry), else `/var/lib/ekiden` for root,
/// else `$XDG_STATE_HOME/ekiden`, else `~/.local/state/ekiden`. `None` when the environment names no place at all.
fn state_dir(var: &dyn Fn(&str) -> Option<OsString>, root: bool) -> Option<PathBuf> {
    let set = |name: &str| var(name).filter(|value| !value.is_empty());
    if let Some(listed) = set("STATE_DIRECTORY") {
        let first = listed.as_bytes().split(|byte| *byte == b':').next().unwrap_or_default();
        return Some(PathBuf::from(std::ffi::OsStr::from_bytes(first)));
    }
    if let Some(base) = set("XDG_STATE_HOME") {
        return Some(PathBuf::from(base).join("ekiden"));
    }
    if root {
        return Some(PathBuf::from("/var/lib/ekiden"));
    }
    set("HOME").map(|home| PathBuf::from(home).join(".local/state/ekiden"))
}

/// The default run directory of a configuration file.
pub(crate) fn default_run_dir(file: &Path) -> Option<PathBuf> {
    let root = fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0);
    let state = state_dir(&|name| env::var_os(name), root)?;
    Some(state.join(fnv::hex_of(absolute(file).as_os_str().as_bytes())))
}

/// Follows the pointer that [`point`] left in the default place.
pub(crate) fn pointed(default: &Path) -> Option<PathBuf> {
    let text = fs::read(default.join(POINTER)).ok()?;
    (!text.is_empty()).then(|| PathBuf::from(std::ffi::OsStr::from_bytes(&text)))
}

/// Leaves in the default place where the run directory really is. Best effort: it only helps a later start.
pub(crate) fn point(default: &Path, real: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(default)?;
    files::replace(&default.join(POINTER), real.as_os_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_state_directory_follows_the_environment() {
        type Vars = &'static [(&'static str, &'static str)];
        let rows: [(Vars, bool, Option<&str>); 6] = [
            (&[("STATE_DIRECTORY", "/s/a:/s/b"), ("HOME", "/h")], true, Some("/s/a")),
            (&[("XDG_STATE_HOME", "/x"), ("HOME", "/h")], false, Some("/x/ekiden")),
            (&[("HOME", "/h")], false, Some("/h/.local/state/ekiden")),
            (&[("HOME", "/root")], true, Some("/var/lib/ekiden")),
            (&[("XDG_STATE_HOME", ""), ("HOME", "/h")], false, Some("/h/.local/state/ekiden")),
            (&[], false, None),
        ];
        for (vars, root, want) in rows {
            let var = |name: &str| {
                vars.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
            };
            assert_eq!(state_dir(&var, root), want.map(PathBuf::from), "{vars:?}");
        }
    }

    #[test]
    fn a_second_holder_is_refused_until_the_first_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run");
        let first = RunDir::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        let refused = RunDir::open(&path).unwrap_err();
        assert_eq!(refused, RunDirError::Locked { dir: path.clone(), holder: Some(std::process::id()) });
        drop(first);
        RunDir::open(&path).unwrap();
    }
}
