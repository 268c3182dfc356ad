//! What of a start comes from flags, what from the file, and what is the default.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ekiden_config::model::{Address, ControlAddress, Model, Process, Role};

use crate::address::AddressFlag;
use crate::dynos::{ProcfileRun, configuration_beside};
use crate::rundir;

/// Where the API is served unless told otherwise.
const CONTROL_DEFAULT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9902);
/// Name of the API's socket in the run directory.
pub(crate) const CONTROL_SOCKET: &str = "control.sock";

/// What the command line says.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The process file.
    pub file: PathBuf,
    /// `--telemetry`.
    pub telemetry: AddressFlag,
    /// `--control`.
    pub control: AddressFlag,
    /// `--run-dir`.
    pub run_dir: Option<PathBuf>,
    /// `--strict`: never start from a last good table.
    pub strict: bool,
    /// A name server to ask instead of the system's. For tests and unusual networks.
    pub resolver: Option<SocketAddr>,
    /// The configuration itself, in TOML, when it is made of something else; `file` then only names that.
    pub text: Option<Arc<str>>,
    /// A Procfile whose dynos run beside the configuration.
    pub procfile: Option<ProcfileRun>,
    /// Control without a data path (`ekiden control`): what routers give a meaning to is taken as it is named.
    pub alone: bool,
}

/// What applies after flags, file and defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where telemetry is served; none means off.
    pub telemetry: Option<Address>,
    /// Where the control API is served; none means off.
    pub control: Option<Address>,
    /// Where state is kept; none when the environment names no place.
    pub run_dir: Option<PathBuf>,
}

/// Whether the Model has a listener beside an app (`inbound`, `outbound`): then the API is not on TCP by default.
pub(crate) fn has_side_listener(model: &Model) -> bool {
    model.listeners.values().any(|listener| match listener.role {
        Role::Edge => false,
        Role::Inbound | Role::Outbound => true,
    })
}

/// The API's socket in a run directory.
fn control_socket(run_dir: &Path) -> Address {
    let socket = rundir::absolute(&run_dir.join(CONTROL_SOCKET));
    Address::Unix(Arc::from(socket.to_string_lossy().as_ref()))
}

/// Where the API of a process is served that runs the Procfile of a directory, unless it was told otherwise. None when there
/// is no such socket.
pub fn control_beside(dir: &Path) -> Option<Address> {
    let procfile = dir.join("Procfile");
    let file = configuration_beside(&procfile).or_else(|| procfile.is_file().then_some(procfile))?;
    let run_dir = rundir::default_run_dir(&file)?;
    run_dir.join(CONTROL_SOCKET).exists().then(|| control_socket(&run_dir))
}

/// The run directory of a start.
pub(crate) fn run_dir(options: &Options, process: Option<&Process>) -> Option<PathBuf> {
    let written = process.and_then(|process| process.run_dir.as_deref());
    let written = written.map(|dir| options.file.parent().unwrap_or_else(|| Path::new("")).join(dir));
    options.run_dir.clone().or(written).or_else(|| rundir::default_run_dir(&options.file))
}

/// Puts flags over file over defaults.
pub(crate) fn settings(options: &Options, process: &Process, model: &Model) -> Settings {
    let run_dir = run_dir(options, Some(process));
    let by_default = || match &run_dir {
        // Dynos run code of others on this machine: what may end them is not for whoever reaches a port of it.
        _ if !has_side_listener(model) && options.procfile.is_none() => Some(Address::Tcp(CONTROL_DEFAULT)),
        Some(dir) => Some(control_socket(dir)),
        None => None,
    };
    let control = match (&options.control, &process.control) {
        (AddressFlag::Off, _) | (AddressFlag::FromFile, ControlAddress::Off) => None,
        (AddressFlag::At(address), _) | (AddressFlag::FromFile, ControlAddress::At(address)) => {
            Some(address.clone())
        }
        (AddressFlag::FromFile, ControlAddress::Default) => by_default(),
    };
    let telemetry = match &options.telemetry {
        AddressFlag::FromFile => process.telemetry.clone(),
        AddressFlag::Off => None,
        AddressFlag::At(address) => Some(address.clone()),
    };
    Settings { telemetry, control, run_dir }
}
