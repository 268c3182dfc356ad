//! Dynos of a Procfile, on this machine: started, found ready, placed, drained, ended, and replaced by those of the next
//! release without a lost request.
//!
//! [`procfile`] reads texts; [`release`] makes of files what a dyno is started with; [`supervisor`] decides, [`rollout`] one
//! step of it, [`wishes`], [`placing`] and [`telling`] others; [`process`] is the life of one process, over [`exec`], [`readiness`], [`lines`], [`ledger`] and [`system`]; [`board`] is what the
//! API reads. A dyno comes before the router as an endpoint like any other, over [`crate::placement`].

mod board;
mod exec;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod guard;
mod ledger;
mod lines;
mod placing;
mod process;
mod procfile;
mod readiness;
mod release;
mod rollout;
mod supervisor;
mod system;
mod telling;
#[cfg(test)]
mod tests;
mod thread;
mod wishes;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use ekiden_config::{Diagnostic, Severity};

use crate::sources::finding;

pub(crate) use board::{Board, DynoView, RolloutView};
pub use board::{DynoCount, DynoCounts};
pub use exec::become_dyno;
pub(crate) use thread::{Above, Duties, DynoThread, Handle, InspectDoor};

/// The process type that clients reach; the others run without routes.
pub(crate) const WEB: &str = "web";
/// The configuration that is taken when it stands beside a Procfile.
const BESIDE: &str = "ekiden.toml";
/// Variables beside a Procfile.
const VARIABLES: &str = ".env";

/// How a dyno's command is started: this program with these arguments, then the id of this process, then the command. The
/// program reads one line of its standard input before it starts the command, and nothing when this process has died.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launcher {
    /// The program.
    pub program: PathBuf,
    /// Its first arguments.
    pub before: Vec<OsString>,
}

/// How many dynos of which type: `web=3,worker=1`. `all` stands for every type of the Procfile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Formation(pub(crate) BTreeMap<String, u32>);

impl FromStr for Formation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        procfile::formation(text).map(Self)
    }
}

/// A Procfile to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcfileRun {
    /// The Procfile.
    pub file: PathBuf,
    /// How many dynos, as far as the command line says so.
    pub formation: Formation,
    /// What a web dyno must answer with 2xx to be ready; none asks for a connection only.
    pub ready_path: Option<String>,
    /// How long a dyno may take to be ready.
    pub boot_timeout: Duration,
    /// How long a dyno may take to end after SIGTERM.
    pub stop_timeout: Duration,
    /// How a command is started.
    pub launcher: Launcher,
    /// Standard output is a terminal that wants colours.
    pub colour: bool,
}

impl ProcfileRun {
    fn dir(&self) -> &Path {
        match self.file.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        }
    }
}

/// Whether a path names a Procfile: `Procfile`, or `Procfile.dev` and the like.
pub fn is_procfile(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    ekiden_config::Format::of_path(path).is_none() && (name == "Procfile" || name.starts_with("Procfile."))
}

/// The configuration file of a Procfile: `ekiden.toml` beside it when there is one, else none.
pub fn configuration_beside(procfile: &Path) -> Option<PathBuf> {
    let beside = procfile.with_file_name(BESIDE);
    beside.is_file().then_some(beside)
}

/// The configuration of a Procfile without one: all that comes to `listen` goes to its web dynos.
pub fn configuration(listen: SocketAddr) -> String {
    format!(
        "[listener.{WEB}]\naddress = \"{listen}\"\n\n[access_log]\nformat = \"logfmt\"\n\n\
         [cluster.{WEB}]\nendpoints = []\n\n[[route]]\ncluster = \"{WEB}\"\n"
    )
}

/// The port that `.env` beside a Procfile asks for, as foreman takes it.
pub fn port_in_env(procfile: &Path) -> Option<u16> {
    let text = std::fs::read_to_string(procfile.with_file_name(VARIABLES)).ok()?;
    let all = procfile::variables(&text).ok()?;
    all.iter().rev().find(|(name, _)| name == "PORT")?.1.parse().ok()
}

/// Reads a Procfile and what stands beside it, so that a start is refused for what is wrong there.
pub(crate) fn check(run: &ProcfileRun) -> Result<(), Box<Diagnostic>> {
    let read = release::read(run, 0, "").map_err(|wrong| Box::new(wrong.diagnostic()))?;
    let known = |name: &String| name == "all" || read.commands.contains_key(name);
    match run.formation.0.keys().find(|name| !known(name)) {
        None => Ok(()),
        Some(name) => Err(Box::new(finding(
            Severity::Error,
            "unknown_process_type",
            &run.file,
            format!("it has no process type `{name}`"),
            "leave it out of the formation",
        ))),
    }
}
