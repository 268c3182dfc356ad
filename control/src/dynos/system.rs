//! What the kernel knows of processes: which group, since when, who listens where; signals to groups.
//!
//! Reads `/proc`; a machine without it tells nothing, and callers go on without. Blocking for microseconds.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};

/// Most processes that are looked through.
const PROCESSES_MAX: usize = 1 << 20;

/// A process as the kernel counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat {
    /// Its process group.
    pub(super) group: u32,
    /// When it was started, in ticks since the machine was: with the process id this names one process for ever.
    pub(super) start: u64,
    /// It has ended and waits for its parent to ask.
    pub(super) zombie: bool,
}

/// What is known of a process; none when there is none.
pub(super) fn stat(pid: u32) -> Option<Stat> {
    parsed(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Reads proc_pid_stat(5): the name in parentheses may hold anything.
fn parsed(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    Some(Stat {
        group: fields.get(2)?.parse().ok()?,
        start: fields.get(19)?.parse().ok()?,
        zombie: matches!(fields.first(), Some(&"Z" | &"X")),
    })
}

/// Names this boot of the machine: process ids and ticks of another one mean nothing.
pub(super) fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// The processes of a group.
pub(super) fn members(group: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let ids = entries.take(PROCESSES_MAX).filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    ids.filter(|pid| stat(*pid).is_some_and(|stat| stat.group == group && !stat.zombie)).collect()
}

/// Whether a process was started with this in its environment.
pub(super) fn has_variable(pid: u32, variable: &str) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|one| one == variable.as_bytes())
}

/// The two ways a dyno is told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// SIGTERM.
    Ask,
    /// SIGKILL.
    Force,
}

impl End {
    fn signal(self) -> Signal {
        match self {
            End::Ask => Signal::TERM,
            End::Force => Signal::KILL,
        }
    }
}

fn id(number: u32) -> Option<Pid> {
    i32::try_from(number).ok().filter(|number| *number > 1).and_then(Pid::from_raw)
}

/// Tells a whole group to end. One that is gone is no error.
pub(super) fn end_group(group: u32, how: End) {
    if let Some(group) = id(group) {
        let _gone_already = kill_process_group(group, how.signal());
    }
}

/// Whether a group has any process left that runs.
pub(super) fn is_group(group: u32) -> bool {
    // The first is quick, and counts also those that have ended and wait for a parent which may never ask.
    id(group).is_some_and(|group| test_kill_process_group(group).is_ok()) && !members(group).is_empty()
}

/// A port that nobody listens on now.
pub(super) fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Whether a process of the group listens on the port; none when the kernel does not say.
pub(super) fn group_listens(group: u32, port: u16) -> Option<bool> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| fs::read_to_string(table).ok());
    if tables.iter().all(Option::is_none) {
        return None;
    }
    let sockets: BTreeSet<String> = tables
        .iter()
        .flatten()
        .flat_map(|table| table.lines().filter_map(|line| listening(line, port)))
        .collect();
    let holds = |pid: u32| {
        let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten();
        let links = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        links.into_iter().any(|link| link.to_str().is_some_and(|link| sockets.contains(link)))
    };
    Some(members(group).into_iter().any(holds))
}

/// The name of the socket in a line of `/proc/net/tcp` that listens on the port.
fn listening(line: &str, port: u16) -> Option<String> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (_, local) = fields.get(1)?.rsplit_once(':')?;
    let listens = *fields.get(3)? == "0A" && u16::from_str_radix(local, 16).ok()? == port;
    listens.then(|| fields.get(9).map(|inode| format!("socket:[{inode}]"))).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_behind_its_name() {
        let line = "42 (a ) Z 1) S 1 40 40 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 9876 0 0";
        assert_eq!(parsed(line), Some(Stat { group: 40, start: 9876, zombie: false }));
        assert_eq!(parsed("42 (a) Z 1"), None);
        assert!(stat(std::process::id()).is_some_and(|stat| stat.start > 0 && !stat.zombie));
    }

    #[test]
    fn a_listener_is_found_by_its_port_and_group() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let group = stat(std::process::id()).unwrap().group;
        assert_eq!(group_listens(group, port), Some(true));
        assert_eq!(group_listens(0x7fff_fffe, port), Some(false));
        drop(listener);
        assert_eq!(group_listens(group, port), Some(false));
    }
}
