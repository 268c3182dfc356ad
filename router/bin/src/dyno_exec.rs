//! `ekiden dyno-exec`: what a dyno's process is before it is the app. Sees to it that it ends with its parent, waits until its
//! group is on record, gives back the limit of open files that a server raised, then becomes the shell with the command.
//!
//! A program of its own between fork and the app, so that nothing has to run in a forked process without exec.

use std::fs::File;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};

use rustix::process::{
    Resource, Rlimit, Signal, getppid, getrlimit, set_parent_process_death_signal, setrlimit,
};

use crate::cli::DynoExec;
use crate::{exit, logging};

/// Becomes the command; returns only when it cannot.
pub(crate) fn dyno_exec(arguments: &DynoExec) -> ExitCode {
    // What the parent started this process for was its thread that lives as long as it does.
    let bound = set_parent_process_death_signal(Some(Signal::TERM));
    if let Err(error) = bound {
        logging::say(format_args!("error: a dyno would outlive ekiden: {error}"));
        return exit::system();
    }
    // The parent may have died before that was so; then nobody says what comes now either.
    if getppid().map(|parent| parent.as_raw_nonzero().get()) != Some(arguments.parent) {
        return exit::system();
    }
    let mut go = [0];
    if !matches!(std::io::stdin().read(&mut go), Ok(1)) {
        return exit::system();
    }
    if let Some(soft) = arguments.descriptors {
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        // To lower it is always allowed.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(soft), maximum });
    }
    let nothing = File::open("/dev/null").map_or_else(|_| Stdio::null(), Stdio::from);
    let error = Command::new("/bin/sh").arg("-c").arg(&arguments.command).stdin(nothing).exec();
    logging::say(format_args!("error: /bin/sh cannot be started: {error}"));
    exit::system()
}
