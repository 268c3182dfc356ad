//! The commands that run one plane: control for routers elsewhere, a router of a control elsewhere.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use ekiden_control::{AddressFlag, ControlUrl};

pub(super) const CONTROL_EXAMPLES: &str = "\
Examples:
  ekiden control control.toml
  ekiden get routers                     which router has what

The file holds apps, and under [fleet] where routers connect and who they must be.";

/// Arguments of `control`.
#[derive(Debug, Args)]
pub(crate) struct RunControl {
    /// The configuration: TOML, or YAML or JSON by its extension
    pub file: PathBuf,
    /// Where metrics and readiness are served: IP:PORT, unix:PATH or off [default: 127.0.0.1:9901]
    #[arg(long, value_name = "ADDRESS", default_value = None)]
    pub telemetry: Option<AddressFlag>,
    /// Where the control API is served: IP:PORT, unix:PATH or off [default: 127.0.0.1:9902]
    #[arg(long, value_name = "ADDRESS", default_value = None)]
    pub control: Option<AddressFlag>,
    /// Where state is kept [default: the state directory plus a hash of the file's path]
    #[arg(long, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    /// Never start from the last good table when the file is missing or invalid
    #[arg(long)]
    pub strict: bool,
    /// Name server to ask for DNS endpoints instead of the system's
    #[arg(long, value_name = "IP:PORT", hide_short_help = true)]
    pub resolver: Option<SocketAddr>,
}

pub(super) const ROUTER_EXAMPLES: &str = "\
Examples:
  ekiden router router.toml --control https://control.internal:9903
  ekiden router router.toml --control http://127.0.0.1:9903

The file holds what belongs to this machine: listeners, certificates, identities, secrets. Apps come from control; when
it is gone, what it said last is served, also after a restart.";

/// Arguments of `router`.
#[derive(Debug, Args)]
pub(crate) struct RunRouter {
    /// The configuration of this machine: TOML, or YAML or JSON by its extension
    pub file: PathBuf,
    /// Where control is: https://HOST:PORT, http://HOST:PORT or unix:/path; may be repeated, and is tried in turn
    #[arg(long, value_name = "URL", required = true)]
    pub control: Vec<ControlUrl>,
    /// Worker threads [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub workers: Option<u16>,
    /// Where metrics and readiness are served: IP:PORT, unix:PATH or off [default: 127.0.0.1:9901]
    #[arg(long, value_name = "ADDRESS", default_value = None)]
    pub telemetry: Option<AddressFlag>,
    /// Where the API of this router, which only shows, is served: IP:PORT, unix:PATH or off [default: a socket in the run directory]
    #[arg(long, value_name = "ADDRESS", default_value = None)]
    pub api: Option<AddressFlag>,
    /// Where state is kept [default: the state directory plus a hash of the file's path]
    #[arg(long, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    /// Never start with the process file that served last when this one is missing or invalid
    #[arg(long)]
    pub strict: bool,
}
