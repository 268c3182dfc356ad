//! Knows: what runs where, and publishes Models. Reads and watches the configuration files, serves the control API,
//! asks DNS, and keeps what must survive (journal, last good table) in the run directory.
//!
//! Runs on a thread of its own; never on a worker, never on a data-path socket. Depends on `ekiden-config` only:
//! the router stands behind the doors [`Publisher`](ekiden_config::doors::Publisher) and
//! [`Inspect`](ekiden_config::doors::Inspect).
//!
//! ```text
//! load(options)            files (or the last good table) -> Loaded, or all errors
//! Control::start(loaded)   run directory, journal, first publish, then watch, API and DNS
//! Control::reload()        SIGHUP          Control::status()   telemetry          Control::stop()
//! ```

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)
)]

mod address;
mod api;
mod client;
mod clock;
mod control;
mod desired;
mod dns;
mod dynos;
mod election;
mod files;
mod fleet;
mod fnv;
#[cfg(fuzzing)]
pub mod fuzzing;
mod guarded;
mod last_good;
mod lasting;
mod load;
mod observed;
mod overlay;
mod own;
mod placement;
mod plane;
mod problem;
mod rundir;
mod settings;
mod shown;
mod sources;
mod status;
mod store;
mod tenure;
mod watch;
mod watchdog;

pub use address::AddressFlag;
pub use client::{Answer as ApiAnswer, Asking, Client, ClientError};
pub use control::{Control, FleetReader, StartError, StatusReader};
pub use dns::{Answer, Family, RECORDS_MAX, Resolve, ResolveError, Resolving, Service};
pub use dynos::{
    DynoCount, DynoCounts, Formation, Launcher, ProcfileRun, become_dyno, configuration,
    configuration_beside, is_procfile, port_in_env,
};
pub use election::Leader;
pub use fleet::dial::ControlUrl;
pub use fleet::remote::{LoadedRouter, RemoteRouter, check_router, load_router};
pub use fleet::roster::{FleetMeters, PROPAGATION_BOUNDS_US, Propagation};
pub use load::{Loaded, Refused, check, check_control, load};
pub use rundir::RunDirError;
pub use settings::{Options, Settings, control_beside};
pub use status::{
    ApiStatus, Election, GuardCounts, LinkStatus, NameStatus, Refusing, Reload, ReloadCounts, SourceStatus,
    Status,
};
