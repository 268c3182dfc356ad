//! System calls per request, counted twice on runs of their own. `perf stat` counts kernel tracepoints at full
//! speed: that is the figure; one long run, in which accepts and closes vanish. `strace -f -c` names every call but
//! slows the proxy many times over, so that one wait returns more events than in life; two short runs with different
//! exact request counts are subtracted, which leaves out accepts and attach. Nothing else is measured meanwhile.

use crate::failure::{Fallible, failure};
use crate::fronts::Front;
use crate::launch::{self, LOAD_CORE, Launch};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// Connections of a counting run, as in the measured rounds.
const CONNECTIONS: usize = 64;
/// perf counts this many times more requests, since it does not slow them.
const PERF_TIMES: u64 = 20;
/// Calls that perf counts by name; all together are counted apart, so none is missed in the sum.
const NAMES: [&str; 18] = [
    "read",
    "write",
    "recvfrom",
    "sendto",
    "recvmsg",
    "sendmsg",
    "readv",
    "writev",
    "epoll_wait",
    "epoll_pwait",
    "epoll_pwait2",
    "epoll_ctl",
    "accept4",
    "close",
    "futex",
    "getsockopt",
    "setsockopt",
    "splice",
];

/// Calls per request by name, most frequent first; those below 0.005 are left out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Calls {
    /// All calls per request.
    pub(crate) total: f64,
    /// By name.
    pub(crate) by_name: Vec<(String, f64)>,
}

/// How calls are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counter {
    /// Tracepoints at full speed.
    Perf,
    /// Every call by name, slowly.
    Strace,
}

impl Counter {
    /// Name of the program and in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Perf => "perf",
            Self::Strace => "strace",
        }
    }
}

/// Counts the system calls of `front` for one small request, over about `requests` requests with strace.
pub(crate) fn calls_per_request(
    front: &Front,
    by: Counter,
    requests: u64,
    scratch: &Path,
) -> Fallible<Calls> {
    let (counts, requests) = match by {
        Counter::Perf => (perf(front, requests * PERF_TIMES, scratch)?, requests * PERF_TIMES),
        Counter::Strace => {
            let few = strace(front, requests / 4, scratch)?;
            let mut many = strace(front, requests / 4 + requests, scratch)?;
            for (name, count) in &mut many {
                *count = count.saturating_sub(few.get(name).copied().unwrap_or(0));
            }
            (many, requests)
        }
    };
    let per = |(name, count): (&String, &u64)| (name.clone(), *count as f64 / requests as f64);
    let mut by_name: Vec<(String, f64)> = counts.iter().map(per).collect();
    let total = by_name.iter().map(|(_, count)| count).sum();
    by_name.retain(|(_, count)| *count >= 0.005);
    by_name.sort_by(|a, b| b.1.total_cmp(&a.1));
    Ok(Calls { total, by_name })
}

fn drive(front: &Front, requests: u64) -> Fallible<Launch> {
    let launch = Launch::own("drive", LOAD_CORE)?.arg("--to").arg(front.address.to_string());
    let (connections, requests) = (CONNECTIONS.to_string(), requests.to_string());
    Ok(launch.args(["--path", "/", "--connections", &connections, "--requests", &requests]))
}

fn perf(front: &Front, requests: u64, scratch: &Path) -> Fallible<BTreeMap<String, u64>> {
    let perf = launch::find_program("perf")
        .ok_or_else(|| failure("perf is not installed (apt install linux-perf)"))?;
    let table = scratch.join("perf.csv");
    let pids: Vec<String> = crate::usage::tree(front.running.pid()).iter().map(ToString::to_string).collect();
    let mut launch =
        Launch::new("perf", perf, LOAD_CORE).args(["stat", "-x", ",", "-e", "raw_syscalls:sys_enter"]);
    for name in NAMES {
        launch = launch.arg("-e").arg(format!("syscalls:sys_enter_{name}"));
    }
    // perf counts for as long as the command it is given runs: the load.
    let load = drive(front, requests)?;
    let launch = launch
        .arg("-o")
        .arg(&table)
        .arg("-p")
        .arg(pids.join(","))
        .arg("--")
        .arg(load.program)
        .args(load.args);
    launch.output(scratch, Duration::from_secs(60))?;
    read_perf(&fs::read_to_string(&table)?)
}

/// Rows `count,,event,...`; what is in the sum of all calls and has no name of its own becomes `other`.
fn read_perf(text: &str) -> Fallible<BTreeMap<String, u64>> {
    let row = |line: &str| -> Option<(String, u64)> {
        let mut fields = line.split(',');
        // A call that did not occur at all is "<not counted>".
        let count = fields.next()?.parse().unwrap_or(0);
        let event = fields.nth(1)?.split_once(":sys_enter")?.1;
        Some((event.trim_start_matches('_').to_owned(), count))
    };
    let mut counts: BTreeMap<String, u64> = text.lines().filter_map(row).collect();
    let all = counts.remove("").filter(|all| *all > 0);
    let all = all.ok_or_else(|| failure("perf counted nothing; it needs root and tracepoints"))?;
    counts.insert("other".to_owned(), all.saturating_sub(counts.values().sum()));
    Ok(counts)
}

fn strace(front: &Front, requests: u64, scratch: &Path) -> Fallible<BTreeMap<String, u64>> {
    let strace = launch::find_program("strace")
        .ok_or_else(|| failure("strace is not installed (apt install strace)"))?;
    let table = scratch.join("calls.txt");
    let mut launch =
        Launch::new("strace", strace, LOAD_CORE).args(["-f", "-c", "-U", "name,calls", "-o"]).arg(&table);
    for pid in crate::usage::tree(front.running.pid()) {
        launch = launch.arg("-p").arg(pid.to_string());
    }
    let threads: usize =
        crate::usage::tree(front.running.pid()).into_iter().map(crate::usage::thread_count).sum();
    let mut strace = launch.start(scratch)?;
    let until = Instant::now() + Duration::from_secs(10);
    // It says "Process N attached" for the process and "... with M threads" for those with more.
    while !attached(&strace.printed(), threads) {
        strace.alive()?;
        if Instant::now() > until {
            return Err(failure("strace did not attach within 10 s"));
        }
        thread::sleep(Duration::from_millis(10));
    }
    let drive = drive(front, requests)?;
    let said = drive.output(scratch, Duration::from_secs(60));
    // The closes of the load's connections belong to both runs alike.
    thread::sleep(Duration::from_millis(100));
    strace.signal(Signal::INT);
    let _ = strace.ended_within(Duration::from_secs(10))?;
    said?;
    Ok(read_table(&fs::read_to_string(&table)?))
}

fn attached(said: &str, threads: usize) -> bool {
    let count = |line: &str| -> Option<usize> {
        let (_, rest) = line.split_once(" attached")?;
        match rest.trim().strip_prefix("with ") {
            Some(with) => with.split(' ').next()?.parse().ok(),
            None => Some(1),
        }
    };
    said.lines().filter_map(count).sum::<usize>() >= threads
}

/// Rows `name calls`, between rules of dashes, without the last one named `total`.
fn read_table(text: &str) -> BTreeMap<String, u64> {
    let row = |line: &str| -> Option<(String, u64)> {
        let mut words = line.split_whitespace();
        let name = words.next()?.to_owned();
        let count = words.next()?.parse().ok()?;
        (name != "total").then_some((name, count))
    };
    text.lines().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_strace_is_read() {
        let text = "syscall   calls\n---------------- ---------\nrecvfrom  1200\nepoll_wait 30\n\
                    ---------------- ---------\ntotal 1230\n";
        let expected = [("epoll_wait".to_owned(), 30), ("recvfrom".to_owned(), 1200)];
        assert_eq!(read_table(text), BTreeMap::from(expected));
    }

    #[test]
    fn a_table_of_perf_is_read() {
        let text = "# started\n\n500,,raw_syscalls:sys_enter,1,100.00,,\n200,,syscalls:sys_enter_recvfrom,1,100.00,,\n\
                    <not counted>,,syscalls:sys_enter_splice,0,100.00,,\n";
        let counts = read_perf(text).unwrap();
        assert_eq!((counts["recvfrom"], counts["splice"], counts["other"], counts.len()), (200, 0, 300, 3));
        assert!(read_perf("<not counted>,,raw_syscalls:sys_enter,0,100.00,,\n").is_err());
    }

    #[test]
    fn attachment_counts_threads() {
        let said = "strace: Process 7 attached with 3 threads\nstrace: Process 9 attached\n";
        assert!(attached(said, 4));
        assert!(!attached(said, 5));
        assert!(!attached("", 1));
    }
}
