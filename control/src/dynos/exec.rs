//! What a dyno's process is before it is the app: `ekiden dyno-exec`. Sees to it that it ends with its parent, waits until its
//! group is on record, gives back the limit of open files that a server raised, then becomes the shell with the command.
//!
//! A program of its own between fork and the app, so that nothing has to run in a forked process without exec.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::process::{
    Resource, Rlimit, Signal, getppid, getrlimit, set_parent_process_death_signal, setrlimit,
};

/// Becomes the command of a dyno that `parent` started; `descriptors` is its soft limit of open files. Returns only when it
/// cannot, and says why.
pub fn become_dyno(parent: i32, descriptors: Option<u64>, command: &OsStr) -> String {
    // The signal follows the thread that forked this process; that one lives as long as its process does.
    if let Err(error) = set_parent_process_death_signal(Some(Signal::TERM)) {
        return format!("a dyno would outlive ekiden: {error}");
    }
    let no_parent = || "the process that wanted this dyno has ended".to_owned();
    // It may have died before the signal was asked for.
    if getppid().map(|parent| parent.as_raw_nonzero().get()) != Some(parent) {
        return no_parent();
    }
    let mut go = [0];
    if !matches!(std::io::stdin().read(&mut go), Ok(1)) {
        return no_parent();
    }
    if let Some(soft) = descriptors {
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        // To lower it is always allowed.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(soft), maximum });
    }
    let nothing = File::open("/dev/null").map_or_else(|_| Stdio::null(), Stdio::from);
    let error = Command::new("/bin/sh").arg("-c").arg(command).stdin(nothing).exec();
    format!("/bin/sh cannot be started: {error}")
}
