//! Exit codes: what a supervisor may read from how the process ended.

use std::process::ExitCode;

/// The configuration is invalid: a restart will not help.
pub(crate) fn invalid() -> ExitCode {
    ExitCode::from(1)
}

/// What was asked for is not there.
pub(crate) fn usage() -> ExitCode {
    ExitCode::from(2)
}

/// A listener's address is taken, or not ours to bind.
pub(crate) fn address() -> ExitCode {
    ExitCode::from(3)
}

/// The run directory belongs to another process.
pub(crate) fn run_dir() -> ExitCode {
    ExitCode::from(4)
}

/// The system refused threads, descriptors or files that the start needs.
pub(crate) fn system() -> ExitCode {
    ExitCode::from(5)
}

/// The control API refused what was asked.
pub(crate) fn refused() -> ExitCode {
    ExitCode::from(6)
}

/// The control API cannot be asked.
pub(crate) fn unreachable() -> ExitCode {
    ExitCode::from(7)
}

/// `diff` found a difference.
pub(crate) fn differs() -> ExitCode {
    ExitCode::from(8)
}

/// What was asked is recorded, and not every worker has it yet.
pub(crate) fn pending() -> ExitCode {
    ExitCode::from(9)
}

/// A deployment failed; what served before serves on.
pub(crate) fn not_deployed() -> ExitCode {
    ExitCode::from(10)
}

/// A worker died.
pub(crate) const FATAL: i32 = 70;
