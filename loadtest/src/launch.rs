//! Starts child processes pinned to a core, and ends them: on drop, on Ctrl-C, and when this process is killed.
//! It does not know what the children are. It picks loopback ports and never listens anywhere else.
//!
//! Pinning without `unsafe`: the child is first this very program with the hidden subcommand `exec`, which asks the
//! kernel for a SIGTERM at the death of its parent, sets affinity and descriptor limit of itself, and then becomes
//! the wanted program by `execve`. Process id and settings stay.

use crate::failure::{Failure, Fallible, failure};
use rustix::process::{Pid, Resource, Rlimit, Signal};
use rustix::thread::CpuSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Core of the proxy under test.
pub(crate) const ROUTER_CORE: usize = 0;
/// Core of origin and load generator.
pub(crate) const LOAD_CORE: usize = 1;
/// Descriptors a child may hold, if the hard limit allows as many.
const DESCRIPTORS: u64 = 20_000;
/// Nice value of every child: ahead of whatever else the machine does, alike for all contestants.
const PRIORITY: i32 = -15;
/// How long a child may take to end after SIGTERM before it is killed.
const END_WITHIN: Duration = Duration::from_secs(3);

/// What to start: a program, its arguments and the cores it may use.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    /// Name in messages and of the log file.
    pub(crate) name: String,
    /// Program, by path or found in `PATH`.
    pub(crate) program: PathBuf,
    /// Its arguments.
    pub(crate) args: Vec<OsString>,
    /// Cores it may run on.
    pub(crate) cores: Vec<usize>,
}

impl Launch {
    /// A program on one core, without arguments yet.
    pub(crate) fn new(name: impl Into<String>, program: impl Into<PathBuf>, core: usize) -> Self {
        Self { name: name.into(), program: program.into(), args: Vec::new(), cores: vec![core] }
    }

    /// A subcommand of this program, in a process of its own.
    pub(crate) fn own(subcommand: &str, core: usize) -> Fallible<Self> {
        Ok(Self::new(subcommand, std::env::current_exe()?, core).arg(subcommand))
    }

    /// Adds one argument.
    pub(crate) fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds several arguments.
    pub(crate) fn args<T: Into<OsString>>(mut self, args: impl IntoIterator<Item = T>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    fn command(&self) -> Fallible<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        let cores: Vec<String> = self.cores.iter().map(ToString::to_string).collect();
        command.arg("exec").arg("--cores").arg(cores.join(",")).arg("--").arg(&self.program).args(&self.args);
        command.stdin(Stdio::null());
        Ok(command)
    }

    /// Starts it for as long as the guard lives; its output goes to `NAME.log` in `logs`.
    pub(crate) fn start(&self, logs: &Path) -> Fallible<Running> {
        self.start_with(logs, Stdio::null())
    }

    /// As [`Launch::start`], with a standard input of choice.
    pub(crate) fn start_with(&self, logs: &Path, input: Stdio) -> Fallible<Running> {
        let log = logs.join(format!("{}.log", self.name));
        let out = File::create(&log)?;
        let mut command = self.command()?;
        command.stdin(input).stdout(out.try_clone()?).stderr(out);
        let child =
            command.spawn().map_err(|error| failure(format!("cannot start {}: {error}", self.name)))?;
        Ok(Running { name: self.name.clone(), child, log })
    }

    /// Runs it to its end, at most `limit` long, and gives its standard output; a bad exit is a failure.
    pub(crate) fn output(&self, logs: &Path, limit: Duration) -> Fallible<String> {
        let mut running = self.start(logs)?;
        running.wait(limit)?;
        Ok(fs::read_to_string(&running.log)?)
    }
}

/// A started child. Dropping it sends SIGTERM and, after a while, SIGKILL.
#[derive(Debug)]
pub(crate) struct Running {
    /// Name in messages.
    pub(crate) name: String,
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it printed so far.
    pub(crate) fn printed(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The last lines it printed, for messages.
    pub(crate) fn last_words(&self) -> String {
        let text = self.printed();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n  ")
    }

    /// Fails when the child has ended.
    pub(crate) fn alive(&mut self) -> Fallible<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(failure(format!("{} ended: {status}\n  {}", self.name, self.last_words()))),
        }
    }

    /// Waits for the end; killed and a failure after `limit`; a bad exit status is a failure.
    pub(crate) fn wait(&mut self, limit: Duration) -> Fallible<()> {
        match self.ended_within(limit)? {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(failure(format!("{}: {status}\n  {}", self.name, self.last_words()))),
            None => Err(failure(format!("{} did not end within {limit:?}", self.name))),
        }
    }

    /// Waits until it has printed this line.
    pub(crate) fn await_line(&mut self, line: &str, limit: Duration) -> Fallible<()> {
        let until = Instant::now() + limit;
        while !self.printed().lines().any(|printed| printed == line) {
            self.alive()?;
            if Instant::now() > until {
                return Err(failure(format!("{} did not say {line:?} within {limit:?}", self.name)));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Closes its standard input, if it has one.
    pub(crate) fn close_input(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Sends a signal; a child that has ended already is no error.
    pub(crate) fn signal(&self, signal: Signal) {
        let _ = rustix::process::kill_process(Pid::from_child(&self.child), signal);
    }

    /// Waits at most `limit` for the end.
    pub(crate) fn ended_within(&mut self, limit: Duration) -> Fallible<Option<std::process::ExitStatus>> {
        let until = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            if Instant::now() >= until {
                return Ok(None);
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        self.signal(Signal::TERM);
        if !matches!(self.ended_within(END_WITHIN), Ok(Some(_))) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The hidden subcommand `exec`: limits and pins this process, then becomes `command`. Returns only on failure.
pub(crate) fn become_pinned(cores: &[usize], command: &[OsString]) -> Failure {
    if let Err(error) = settle(cores) {
        return error.during("pinning a child process");
    }
    let Some((program, args)) = command.split_first() else {
        return failure("exec: no program named");
    };
    let error = Command::new(program).args(args).exec();
    failure(format!("cannot run {}: {error}", program.to_string_lossy()))
}

/// Keeps the calling thread on the load's core, when there is more than one.
pub(crate) fn stay_on_load_core() -> Fallible<()> {
    if core_count() > LOAD_CORE {
        let mut set = CpuSet::new();
        set.set(LOAD_CORE);
        rustix::thread::sched_setaffinity(None, &set)?;
    }
    Ok(())
}

fn settle(cores: &[usize]) -> Fallible<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
    // Without the right to it (root) everything runs at the usual priority; all children are alike either way.
    let _ = rustix::process::setpriority_process(None, PRIORITY);
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(DESCRIPTORS, |hard| hard.min(DESCRIPTORS));
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum })?;
    if core_count() > LOAD_CORE {
        let mut set = CpuSet::new();
        cores.iter().for_each(|core| set.set(*core));
        rustix::thread::sched_setaffinity(None, &set)?;
    }
    Ok(())
}

/// Cores this machine lets us use; below two nothing is pinned, and the report says so.
pub(crate) fn core_count() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// A loopback address that was free a moment ago. Taken below the range from which the kernel gives ports to
/// outgoing connections (32768 and up), so that load cannot take it before the child binds it.
pub(crate) fn free_address() -> Fallible<SocketAddr> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 21_000;
    const COUNT: u16 = 11_000;
    let start = u16::try_from(std::process::id() % u32::from(COUNT)).unwrap_or(0);
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (start.wrapping_add(step)) % COUNT;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err(failure("no free loopback port between 21000 and 32000"))
}

/// Finds a program in `PATH` and in the places where Debian keeps servers.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/usr/bin", "/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).map(|dir| dir.join(name)).find(|file| file.is_file())
}
