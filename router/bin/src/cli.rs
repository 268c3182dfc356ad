//! The command line: commands, flags, help and examples.

mod asking;
mod fleet;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ekiden_control::AddressFlag;

pub(crate) use asking::{
    Apply, Confirm, Deploy, Diff, Drain, Explain, Get, Hold, Maintenance, Releases, Rollback, Scale, Server,
    Set, Switch, Versions, What,
};
pub(crate) use fleet::{RunControl, RunRouter};

/// An L7 router and service-mesh data plane.
#[derive(Debug, Parser)]
#[command(name = "ekiden", version, about, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  ekiden demo                        three small origins and a router in front; prints the URLs to open
  ekiden check ekiden.toml           every error of a configuration, with its place
  ekiden run ekiden.toml             serve; edit the file and it is applied without a blip
  curl -s localhost:9901/metrics     what it did
  curl -s localhost:9902/v1/table    what it serves

Exit codes: 0 ended as asked, 1 invalid configuration, 2 wrong usage, 3 an address is taken,
4 the run directory is in use, 5 the system refused a resource, 6 the control API refused,
7 it cannot be asked, 8 `diff` found a difference, 9 recorded and not yet with every worker,
10 a deployment failed, 70 a worker died.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve a configuration until told to stop
    #[command(after_help = RUN_EXAMPLES)]
    Run(Run),
    /// Run control without a data path, for routers elsewhere
    #[command(after_help = fleet::CONTROL_EXAMPLES)]
    Control(RunControl),
    /// Serve what control elsewhere says
    #[command(after_help = fleet::ROUTER_EXAMPLES)]
    Router(RunRouter),
    /// Check a configuration and print every error
    #[command(after_help = CHECK_EXAMPLES)]
    Check(Check),
    /// Show how a sharded cluster shares out keys, and what moves if an endpoint leaves
    #[command(after_help = RING_EXAMPLES)]
    Ring(Ring),
    /// Say which route would take a request now, why others do not, and where it would go
    #[command(after_help = asking::EXPLAIN_EXAMPLES)]
    Explain(Explain),
    /// Apply a file of apps through the control API
    #[command(after_help = asking::APPLY_EXAMPLES)]
    Apply(Apply),
    /// Show what `apply` would change
    #[command(after_help = asking::DIFF_EXAMPLES)]
    Diff(Diff),
    /// Show what the control API has at a path
    #[command(after_help = asking::GET_EXAMPLES)]
    Get(Get),
    /// Change members of an app
    #[command(after_help = asking::SET_EXAMPLES)]
    Set(Set),
    /// Set how many dynos of which type an app should have
    #[command(after_help = asking::SCALE_EXAMPLES)]
    Scale(Scale),
    /// Start a new release of a running Procfile and wait for how it ends
    #[command(after_help = asking::DEPLOY_EXAMPLES)]
    Deploy(Deploy),
    /// List the releases of an app, or record one
    #[command(after_help = asking::RELEASES_EXAMPLES)]
    Releases(Releases),
    /// List the versions of an app
    Versions(Versions),
    /// Go back to an older version of an app
    #[command(after_help = asking::ROLLBACK_EXAMPLES)]
    Rollback(Rollback),
    /// Answer every request for an app with 503, or no more
    #[command(after_help = asking::MAINTENANCE_EXAMPLES)]
    Maintenance(Maintenance),
    /// Send no new requests to an endpoint; what is in flight is finished
    #[command(after_help = asking::DRAIN_EXAMPLES)]
    Drain(Drain),
    /// Let requests for an app wait, or go on
    #[command(after_help = asking::HOLD_EXAMPLES)]
    Hold(Hold),
    /// Let go what a source of placements took away and is held
    #[command(after_help = asking::CONFIRM_EXAMPLES)]
    Confirm(Confirm),
    /// Print the JSON Schema of the configuration
    Schema,
    /// Print the version
    Version(Version),
    /// Run three origins and a router in one process, and swap their table while you watch
    Demo(Demo),
    /// Start a dyno's command; for `run` alone
    #[command(hide = true)]
    DynoExec(DynoExec),
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  ekiden completions bash > /etc/bash_completion.d/ekiden")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

const RUN_EXAMPLES: &str = "\
Examples:
  ekiden run ekiden.toml
  ekiden run ekiden.toml --workers 2 --telemetry 0.0.0.0:9901
  ekiden run ekiden.toml --control unix:/run/ekiden/control.sock --run-dir /run/ekiden
  ekiden run Procfile -m web=3,worker=1

Signals: SIGHUP reloads the configuration, reopens the access log and makes a new release of a Procfile; SIGTERM and SIGINT finish what
is in flight and end (a second one ends now).";

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The configuration: TOML, or YAML or JSON by its extension; or a Procfile
    pub file: PathBuf,
    #[command(flatten)]
    pub procfile: OfProcfile,
    /// Worker threads [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub workers: Option<u16>,
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
    pub resolver: Option<std::net::SocketAddr>,
}

/// What only a Procfile is run with.
#[derive(Debug, Args)]
#[command(next_help_heading = "With a Procfile")]
pub(crate) struct OfProcfile {
    /// Dynos of each type; `all` is every type [default: what `ekiden scale` said last, else all=1]
    #[arg(short = 'm', long, value_name = "TYPE=COUNT,...")]
    pub formation: Option<ekiden_control::Formation>,
    /// Where clients come in, without an ekiden.toml beside [default: 127.0.0.1 and $PORT, else 5000]
    #[arg(long, value_name = "IP:PORT")]
    pub listen: Option<std::net::SocketAddr>,
    /// What a web dyno must answer with 2xx to be ready [default: it accepts connections]
    #[arg(long, value_name = "PATH", value_parser = path)]
    pub ready: Option<String>,
    /// Seconds a dyno may take to be ready
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u16).range(1..=3600))]
    pub boot_timeout: u16,
    /// Seconds from SIGTERM to SIGKILL
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=3600))]
    pub stop_timeout: u16,
}

/// A path of a request.
fn path(text: &str) -> Result<String, String> {
    let plain = text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic());
    if plain { Ok(text.to_owned()) } else { Err("write a path, such as /up".to_owned()) }
}

/// Arguments of `dyno-exec`.
#[derive(Debug, Args)]
pub(crate) struct DynoExec {
    /// Soft limit of open files
    #[arg(long, value_name = "N")]
    pub descriptors: Option<u64>,
    /// The process that started this one
    pub parent: i32,
    /// What the shell is given
    pub command: std::ffi::OsString,
}

const CHECK_EXAMPLES: &str = "\
Examples:
  ekiden check ekiden.toml
  ekiden check ekiden.toml --format json | jq .
  ekiden check control.toml --for control

Exits with 0 when the configuration can be served, with 1 when not.";

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The configuration
    pub file: PathBuf,
    /// How findings are printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// The command that the file is for
    #[arg(long = "for", value_name = "COMMAND", value_enum, default_value_t = Serving::Run)]
    pub command: Serving,
}

/// A command that serves a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Serving {
    /// Both planes
    Run,
    /// Control for routers elsewhere
    Control,
    /// A router of a control elsewhere
    Router,
}

const RING_EXAMPLES: &str = "\
Examples:
  ekiden ring ekiden.toml cache
  ekiden ring ekiden.toml shop/cache --without cache-2
  ekiden ring ekiden.toml users --key ann --key bob

Counts a sample of 65,536 keys over the endpoints of the file; those of DNS and of the API are not in it.";

#[derive(Debug, Args)]
pub(crate) struct Ring {
    /// The configuration
    pub file: PathBuf,
    /// The cluster; APP/CLUSTER for one of another app than `default`
    pub cluster: String,
    /// Also show what moves if this endpoint leaves
    #[arg(long, value_name = "ID")]
    pub without: Option<String>,
    /// Also show which endpoints serve this key, in its order; may be repeated
    #[arg(long, value_name = "TEXT")]
    pub key: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// One JSON array
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct Version {
    /// Print a JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Port of the router; telemetry and control take the next two [default: 8080]
    #[arg(long, default_value_t = 8080)]
    pub port: u16,
    /// End by itself after this many seconds [default: run until Ctrl-C]
    #[arg(long, value_name = "N")]
    pub seconds: Option<u64>,
}

/// The text of `ekiden version`.
pub(crate) fn version(arguments: &Version) -> String {
    let version = env!("CARGO_PKG_VERSION");
    if arguments.json {
        let object = serde_json::json!({ "name": "ekiden", "version": version });
        return format!("{object}\n");
    }
    format!("ekiden {version}\n")
}
