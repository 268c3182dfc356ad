//! Which process groups were started: kept in the run directory, so that the next process ends what a killed one left.
//!
//! A record is a process id with its start time, its group and a mark in its environment. A group is ended when its leader is
//! still the process that was recorded; when the leader has ended, when a member carries the mark, or is one that was recorded when
//! the dyno became ready, since programs may write over their environment. The number of a group is not used again
//! while it has members, so that all of them are the dyno's then. Nothing else is ever signalled.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::system::{self, End};

/// Name of the file in the run directory.
const FILE: &str = "dynos.json";
/// How long what is left gets between SIGTERM and SIGKILL.
const LEFT_ENDS: Duration = Duration::from_secs(5);
/// How long the kernel may take to end what got SIGKILL.
const KILLED_ENDS: Duration = Duration::from_secs(5);
/// Members of a group that are recorded, at most.
const MEMBERS_MAX: usize = 64;
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(10);
/// Name of the variable that marks a dyno's processes.
pub(super) const MARK: &str = "EKIDEN_DYNO";

/// A started group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// For people: `web.1`.
    pub(super) name: String,
    /// The leader, whose number is also the group's.
    pub(super) pid: u32,
    /// When the leader was started, in ticks.
    pub(super) start: u64,
    /// Value of [`MARK`] in the environment of its processes.
    pub(super) mark: String,
    /// Members of the group when the dyno became ready, each with its start.
    #[serde(default)]
    pub(super) members: Vec<(u32, u64)>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Words {
    boot: String,
    groups: Vec<Record>,
}

/// The groups that are there, and the file that says so.
#[derive(Debug)]
pub(super) struct Ledger {
    path: Option<PathBuf>,
    words: Words,
}

impl Ledger {
    /// Ends what an earlier process left, then begins anew. Without a run directory nothing is kept. Takes at most about
    /// 10 s.
    pub(super) fn open(run_dir: Option<&Path>) -> Self {
        let path = run_dir.map(|dir| dir.join(FILE));
        let boot = system::boot();
        if let Some(path) = &path {
            match fs::read(path) {
                Ok(bytes) => match serde_json::from_slice::<Words>(&bytes) {
                    Ok(words) if words.boot == boot => sweep(&words.groups),
                    Ok(_) => {}
                    Err(error) => {
                        tracing::error!(path = %path.display(), %error, "dynos of an earlier run cannot be read")
                    }
                },
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::error!(path = %path.display(), %error, "dynos of an earlier run cannot be read")
                }
            }
        }
        let ledger = Self { path, words: Words { boot, groups: Vec::new() } };
        ledger.keep();
        ledger
    }

    /// Notes a group before it runs anything.
    pub(super) fn add(&mut self, record: Record) {
        self.words.groups.push(record);
        self.keep();
    }

    /// Notes who is in a group now, each with its start.
    pub(super) fn note_members(&mut self, pid: u32) {
        let Some(record) = self.words.groups.iter_mut().find(|record| record.pid == pid) else { return };
        let members = system::members(pid).into_iter().take(MEMBERS_MAX);
        record.members = members.filter_map(|pid| Some((pid, system::stat(pid)?.start))).collect();
        self.keep();
    }

    /// Forgets a group of which nothing is left.
    pub(super) fn remove(&mut self, pid: u32) {
        self.words.groups.retain(|record| record.pid != pid);
        self.keep();
    }

    /// Need not survive the machine: then there is no process either. So nothing is synced.
    fn keep(&self) {
        let Some(path) = &self.path else { return };
        let beside = path.with_extension("json.new");
        let text = serde_json::to_vec(&self.words).unwrap_or_default();
        if let Err(error) = fs::write(&beside, text).and_then(|()| fs::rename(&beside, path)) {
            tracing::error!(path = %path.display(), %error, "a dyno's group could not be recorded");
        }
    }
}

/// What there is to end of a group.
enum Left {
    Nothing,
    /// Its leader is the recorded one, or one of its members is known: all of the group is ours.
    Group,
}

fn left(record: &Record) -> Left {
    match system::stat(record.pid) {
        Some(stat) if !stat.zombie => {
            if stat.start == record.start && stat.group == record.pid {
                Left::Group
            } else {
                Left::Nothing
            }
        }
        _ => {
            let mark = format!("{MARK}={}", record.mark);
            let recorded = |pid: u32| {
                let start = system::stat(pid).map(|stat| stat.start);
                record.members.iter().any(|(known, since)| *known == pid && Some(*since) == start)
            };
            let members = system::members(record.pid);
            let ours = members.iter().any(|pid| recorded(*pid) || system::has_variable(*pid, &mark));
            if ours { Left::Group } else { Left::Nothing }
        }
    }
}

/// Ends what is left of these groups: SIGTERM, then SIGKILL. Blocking.
fn sweep(records: &[Record]) {
    let tell = |how: End| {
        let mut any = false;
        for record in records {
            match left(record) {
                Left::Nothing => continue,
                Left::Group => system::end_group(record.pid, how),
            }
            tracing::warn!(dyno = %record.name, pid = record.pid, ?how, "ending what an earlier run left");
            any = true;
        }
        any
    };
    for (how, time) in [(End::Ask, LEFT_ENDS), (End::Force, KILLED_ENDS)] {
        if !tell(how) {
            return;
        }
        let end = Instant::now() + time;
        while Instant::now() < end && records.iter().any(|record| !matches!(left(record), Left::Nothing)) {
            thread::sleep(LOOK);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command};

    use super::*;

    fn sleeper(mark: &str) -> Child {
        // In a group of its own, as dynos are.
        Command::new("sleep").arg("600").env(MARK, mark).process_group(0).spawn().unwrap()
    }

    fn record(child: &Child, mark: &str) -> Record {
        let start = system::stat(child.id()).unwrap().start;
        Record {
            name: "web.1".to_owned(),
            pid: child.id(),
            start,
            mark: mark.to_owned(),
            members: Vec::new(),
        }
    }

    #[test]
    fn what_an_earlier_run_left_is_ended_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (mut ours, mut others) = (sleeper("m1"), sleeper("m2"));
        let mut ledger = Ledger::open(Some(dir.path()));
        ledger.add(record(&ours, "m1"));
        // The same number as in a record, and another process: as after many have come and gone.
        let start = record(&others, "m2").start + 1;
        ledger.add(Record { start, ..record(&others, "m2") });
        drop(ledger);
        // A zombie until it is waited for: nobody else asks for it here.
        let waiter = thread::spawn(move || ours.wait().unwrap());
        drop(Ledger::open(Some(dir.path())));
        assert!(!waiter.join().unwrap().success());
        assert!(others.try_wait().unwrap().is_none(), "a process that was not recorded was ended");
        others.kill().unwrap();
        others.wait().unwrap();
    }

    #[test]
    fn members_that_wrote_over_their_environment_are_known_by_their_start() {
        let dir = tempfile::tempdir().unwrap();
        let mut leader = Command::new("sh")
            .args(["-c", "env -i sleep 600 >/dev/null 2>&1 & echo $!; read x"])
            .env(MARK, "m4")
            .process_group(0)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut ledger = Ledger::open(Some(dir.path()));
        ledger.add(record(&leader, "m4"));
        let mut out = std::io::BufReader::new(leader.stdout.take().unwrap());
        let mut line = String::new();
        std::io::BufRead::read_line(&mut out, &mut line).unwrap();
        let child: u32 = line.trim().parse().unwrap();
        let end = Instant::now() + Duration::from_secs(20);
        while system::has_variable(child, &format!("{MARK}=m4")) {
            assert!(Instant::now() < end, "it keeps its environment: the test says nothing");
            thread::sleep(LOOK);
        }
        ledger.note_members(leader.id());
        drop(leader.stdin.take());
        leader.wait().unwrap();
        drop(ledger);
        drop(Ledger::open(Some(dir.path())));
        assert!(system::stat(child).is_none_or(|stat| stat.zombie));
    }

    #[test]
    fn members_are_ended_when_their_leader_has_gone() {
        let dir = tempfile::tempdir().unwrap();
        // The leader says the id of a child, then ends.
        let mut leader = Command::new("sh")
            .args(["-c", "sleep 600 >/dev/null 2>&1 & echo $!; read x"])
            .env(MARK, "m3")
            .process_group(0)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut ledger = Ledger::open(Some(dir.path()));
        ledger.add(record(&leader, "m3"));
        let mut out = std::io::BufReader::new(leader.stdout.take().unwrap());
        let mut line = String::new();
        std::io::BufRead::read_line(&mut out, &mut line).unwrap();
        let child: u32 = line.trim().parse().unwrap();
        drop(leader.stdin.take());
        leader.wait().unwrap();
        assert!(system::stat(child).is_some_and(|stat| !stat.zombie));
        drop(ledger);
        drop(Ledger::open(Some(dir.path())));
        assert!(system::stat(child).is_none_or(|stat| stat.zombie));
    }
}
