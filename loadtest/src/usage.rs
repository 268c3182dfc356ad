//! Reads what a process tree has used from `/proc`: CPU time in nanoseconds, its user and system parts, memory.
//! It starts nothing and changes nothing.

use crate::failure::{Fallible, failure};
use std::collections::BTreeMap;
use std::fs;

/// CPU time of a process tree up to now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct CpuTime {
    /// Run time of each living thread, from `schedstat`, in nanoseconds.
    threads: BTreeMap<u32, u64>,
    /// User time in clock ticks (sampled by the kernel, coarse).
    user_ticks: u64,
    /// System time in clock ticks.
    system_ticks: u64,
}

/// CPU time spent between two readings.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct CpuSpent {
    /// Nanoseconds on a core, all threads.
    pub(crate) nanos: u64,
    /// Share of it in user mode, 0 to 1, from 10 ms ticks; for reading, not for judging.
    pub(crate) user_share: f64,
}

impl CpuTime {
    /// Reads the time of `pid` and all its descendants.
    pub(crate) fn of_tree(pid: u32) -> Fallible<Self> {
        let mut time = Self::default();
        for pid in tree(pid) {
            time.add_process(pid)?;
        }
        if time.threads.is_empty() {
            return Err(failure(format!("process {pid} is gone")));
        }
        Ok(time)
    }

    fn add_process(&mut self, pid: u32) -> Fallible<()> {
        for thread in numbers_in(&format!("/proc/{pid}/task")) {
            let text = fs::read_to_string(format!("/proc/{pid}/task/{thread}/schedstat")).unwrap_or_default();
            if let Some(nanos) = text.split(' ').next().and_then(|word| word.parse().ok()) {
                self.threads.insert(thread, nanos);
            }
        }
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The command may hold blanks; the fields are counted from its closing bracket.
        let after = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        let ticks = |field: usize| after.split(' ').nth(field).and_then(|word| word.parse::<u64>().ok());
        self.user_ticks += ticks(11).unwrap_or(0);
        self.system_ticks += ticks(12).unwrap_or(0);
        Ok(())
    }

    /// What was spent from `self` to `later`. A thread that ended in between is not counted.
    pub(crate) fn until(&self, later: &Self) -> CpuSpent {
        let spent = |(thread, nanos): (&u32, &u64)| nanos - self.threads.get(thread).unwrap_or(&0).min(nanos);
        let user = later.user_ticks.saturating_sub(self.user_ticks) as f64;
        let system = later.system_ticks.saturating_sub(self.system_ticks) as f64;
        let share = if user + system > 0.0 { user / (user + system) } else { 0.0 };
        CpuSpent { nanos: later.threads.iter().map(spent).sum(), user_share: share }
    }
}

/// Resident memory of a process tree in bytes: shared pages are divided among those who share them.
pub(crate) fn resident_bytes(pid: u32) -> Fallible<u64> {
    let mut sum = 0;
    for pid in tree(pid) {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
        let kib = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
        sum += 1024 * kib.ok_or_else(|| failure(format!("no Pss line for process {pid}")))?;
    }
    Ok(sum)
}

/// Anonymous memory of one process in bytes: pages of its binary that it touches for the first time are no growth.
pub(crate) fn anonymous_bytes(pid: u32) -> Fallible<u64> {
    status_bytes(pid, "RssAnon")
}

/// All memory of one process that is resident, in bytes, also what it shares with others.
pub(crate) fn all_bytes(pid: u32) -> Fallible<u64> {
    status_bytes(pid, "VmRSS")
}

fn status_bytes(pid: u32, name: &str) -> Fallible<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
    Ok(1024 * kib.ok_or_else(|| failure(format!("no {name} line for process {pid}")))?)
}

/// Sockets of a proxy: those of its listener's port, and its side of connections to the origin's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sockets {
    /// Those that a process has: not what the kernel alone still finishes.
    pub(crate) held: u64,
    /// Bytes that wait in them. Payload only: the kernel's own structures are not in it.
    pub(crate) queued: u64,
}

/// What the kernel tells of a proxy's sockets.
pub(crate) fn sockets(listener: u16, origins: &[u16]) -> Fallible<Sockets> {
    Ok(sockets_in(&fs::read_to_string("/proc/net/tcp")?, listener, origins))
}

/// Sums rows of /proc/net/tcp: `sl local remote state tx:rx timer retransmits uid timeout inode`, addresses, state and queues in
/// hexadecimal. State 0A is a listener, whose queue counts connections; inode 0 is a socket that no process has.
fn sockets_in(table: &str, listener: u16, origins: &[u16]) -> Sockets {
    let hex = |word: &str| u64::from_str_radix(word, 16).ok();
    let port = |word: &str| word.rsplit(':').next().and_then(hex);
    let row = |line: &str| -> Option<(u64, u64)> {
        let words: Vec<&str> = line.split_whitespace().take(10).collect();
        let [_, local, remote, state, queues, _, _, _, _, inode] = words[..] else { return None };
        let remote = port(remote)?;
        let ours = port(local)? == u64::from(listener) || origins.iter().any(|at| u64::from(*at) == remote);
        let (sent, received) = queues.split_once(':')?;
        (ours && state != "0A").then_some((u64::from(inode != "0"), hex(sent)? + hex(received)?))
    };
    let rows = table.lines().filter_map(row);
    rows.fold(Sockets::default(), |all, (held, queued)| Sockets {
        held: all.held + held,
        queued: all.queued + queued,
    })
}

/// CPU time of the threads of a process that carry no traffic, in nanoseconds: all but workers and the log.
pub(crate) fn control_nanos(pid: u32) -> Fallible<u64> {
    let mut nanos = 0;
    for thread in numbers_in(&format!("/proc/{pid}/task")) {
        let of =
            |name: &str| fs::read_to_string(format!("/proc/{pid}/task/{thread}/{name}")).unwrap_or_default();
        let name = of("comm");
        if !name.starts_with("ekiden-worker") && !name.starts_with("ekiden-log") {
            nanos += of("schedstat").split(' ').next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    Ok(nanos)
}

/// Threads of `pid` alone.
pub(crate) fn thread_count(pid: u32) -> usize {
    numbers_in(&format!("/proc/{pid}/task")).len()
}

/// `pid` and its descendants, `pid` first.
pub(crate) fn tree(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        for thread in numbers_in(&format!("/proc/{pid}/task")) {
            let path = format!("/proc/{pid}/task/{thread}/children");
            let text = fs::read_to_string(path).unwrap_or_default();
            found.extend(text.split_whitespace().filter_map(|word| word.parse::<u32>().ok()));
        }
        next += 1;
    }
    found
}

fn numbers_in(dir: &str) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_cpu_time_grows_with_work() {
        let pid = std::process::id();
        let before = CpuTime::of_tree(pid).unwrap();
        let mut sum = 0_u64;
        // Long enough for the scheduler to account it, whatever the machine.
        for round in 0..60_000_000_u64 {
            sum = std::hint::black_box(sum.wrapping_add(round));
        }
        let spent = before.until(&CpuTime::of_tree(pid).unwrap());
        assert!(spent.nanos > 1_000_000, "{spent:?}");
        assert!((0.0..=1.0).contains(&spent.user_share));
    }

    #[test]
    fn sockets_of_the_proxy_are_counted_and_summed() {
        let text = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:1F90 00000000:0000 0A 00000005:00000001 00:00000000 00000000 0 0 71\n\
            1: 0100007F:1F90 0300007F:C001 01 00000010:00000002 00:00000000 00000000 0 0 72\n\
            2: 0300007F:C001 0100007F:1F90 01 00000000:00001000 00:00000000 00000000 0 0 73\n\
            3: 0100007F:C002 0100007F:0BB8 01 00000001:00000100 00:00000000 00000000 0 0 74\n\
            4: 0100007F:1F90 0300007F:C003 04 00000020:00000000 00:00000000 00000000 0 0 0\n\
            5: 0100007F:0BB8 0100007F:C002 01 00100000:00000000 00:00000000 00000000 0 0 75\n";
        assert_eq!(sockets_in(text, 8080, &[3000]), Sockets { held: 2, queued: 0x32 + 0x101 });
    }

    #[test]
    fn memory_of_this_process_is_sane() {
        let bytes = resident_bytes(std::process::id()).unwrap();
        assert!((100_000..10_000_000_000).contains(&bytes), "{bytes}");
        let (anonymous, all) =
            (anonymous_bytes(std::process::id()).unwrap(), all_bytes(std::process::id()).unwrap());
        assert!(10_000 < anonymous && anonymous < all && all < 10_000_000_000, "{anonymous} of {all}");
    }
}
