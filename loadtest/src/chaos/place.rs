//! Where a scene plays: an ekiden on its files, with what is done to it from outside.

use crate::failure::{Fallible, failure};
use crate::fronts;
use crate::http1;
use crate::launch::{self, LOAD_CORE, Launch, ROUTER_CORE, Running};
use rustix::process::{Pid, Resource, Rlimit, Signal};
use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// How long a process may take until it serves, or until it is gone.
const READY_WITHIN: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(20);

/// A process that can be killed and started again.
#[derive(Debug)]
pub(super) struct Place {
    launch: Launch,
    dir: PathBuf,
    /// What is asked until it answers.
    ready: (SocketAddr, &'static str),
    running: Option<Running>,
}

impl Place {
    /// Starts it and waits until it answers `ready`.
    pub(super) fn start(launch: Launch, dir: &Path, ready: (SocketAddr, &'static str)) -> Fallible<Self> {
        let mut place = Self { launch, dir: dir.to_owned(), ready, running: None };
        place.again()?;
        Ok(place)
    }

    /// The same on a new launch line.
    pub(super) fn set_launch(&mut self, launch: Launch) {
        self.launch = launch;
    }

    /// Starts it, and waits until it answers.
    pub(super) fn again(&mut self) -> Fallible<()> {
        let mut running = self.launch.start(&self.dir)?;
        let until = Instant::now() + READY_WITHIN;
        loop {
            running.alive()?;
            let (to, path) = self.ready;
            match http1::exchange(to, "GET", path, None, Duration::from_secs(5)) {
                Ok(answer) if answer.status == 200 => break,
                _ if Instant::now() > until => {
                    let words = running.last_words();
                    return Err(failure(format!("{} is not ready\n  {words}", self.launch.name)));
                }
                _ => thread::sleep(LOOK),
            }
        }
        self.running = Some(running);
        Ok(())
    }

    /// Ends it as the kernel does.
    pub(super) fn kill(&mut self) -> Fallible<()> {
        let Some(mut running) = self.running.take() else { return Ok(()) };
        running.signal(Signal::KILL);
        match running.ended_within(READY_WITHIN)? {
            Some(_) => Ok(()),
            None => Err(failure(format!("{} cannot be killed", self.launch.name))),
        }
    }

    /// Sends it a signal.
    pub(super) fn signal(&self, signal: Signal) {
        if let Some(running) = &self.running {
            running.signal(signal);
        }
    }

    /// Fails when it has ended.
    pub(super) fn alive(&mut self) -> Fallible<()> {
        self.running.as_mut().map_or(Ok(()), Running::alive)
    }

    /// Lowers a limit of the running process, or with none takes the bound away as far as it may.
    pub(super) fn limit(&self, resource: Resource, most: Option<u64>) -> Fallible<()> {
        let pid = self.pid()?;
        let now = rustix::process::prlimit(Some(pid), resource, Rlimit { current: most, maximum: None });
        // Who may not raise the hard limit leaves it.
        if now.is_err() {
            let hard = rustix::process::getrlimit(resource).maximum;
            let most = most.or(hard);
            rustix::process::prlimit(Some(pid), resource, Rlimit { current: most, maximum: hard })?;
        }
        Ok(())
    }

    /// Descriptors that it has open.
    pub(super) fn descriptors(&self) -> Fallible<u64> {
        let pid = self.pid()?.as_raw_nonzero();
        Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64)
    }

    fn pid(&self) -> Fallible<Pid> {
        let running = self.running.as_ref().ok_or_else(|| failure("it does not run"))?;
        let pid = i32::try_from(running.pid()).ok().and_then(Pid::from_raw);
        pid.ok_or_else(|| failure("a process id out of range"))
    }
}

/// An origin: answers `/`.
pub(super) fn origin(name: &str, address: SocketAddr, dir: &Path) -> Fallible<Place> {
    let mut launch = Launch::own("origin", LOAD_CORE)?.arg("--listen").arg(address.to_string());
    launch.name = name.to_owned();
    Place::start(launch, dir, (address, "/"))
}

/// The addresses of an ekiden.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ports {
    /// Where clients come.
    pub(super) edge: SocketAddr,
    /// Its API.
    pub(super) api: SocketAddr,
    /// Its metrics.
    pub(super) telemetry: SocketAddr,
}

impl Ports {
    pub(super) fn free() -> Fallible<Self> {
        Ok(Self {
            edge: launch::free_address()?,
            api: launch::free_address()?,
            telemetry: launch::free_address()?,
        })
    }

    /// The sum of a metric over all its labels that hold `with`.
    pub(super) fn metric(&self, name: &str, with: &str) -> Fallible<u64> {
        let answer = http1::exchange(self.telemetry, "GET", "/metrics", None, Duration::from_secs(10))?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(with));
        let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        Ok(values.sum::<f64>() as u64)
    }

    /// Lines of the access log that were not written, for want of room in the queue or on the disk.
    pub(super) fn lost_lines(&self) -> Fallible<u64> {
        Ok(self.metric("ekiden_log_lost_total", "")? + self.metric("ekiden_log_dropped_total", "")?)
    }

    /// Requests that have ended.
    pub(super) fn outcomes(&self) -> Fallible<u64> {
        self.metric("ekiden_outcomes_total", "")
    }
}

/// Words before an ekiden: a limit on the size of files is an error to it and not its end.
const IGNORING: &str = "trap '' XFSZ; exec \"$@\"";

/// The launch of one `command` of ekiden (`run`, `control`, `router`) on a file, with these words before the program.
pub(super) fn ekiden(
    command: &str,
    file: &Path,
    ports: Ports,
    dir: &Path,
    before: &[OsString],
) -> Fallible<Launch> {
    let mut launch = Launch::new(format!("ekiden-{command}"), "/bin/sh", ROUTER_CORE);
    launch = launch.args(["-c", IGNORING, "sh"]).args(before.iter().cloned());
    launch = launch.arg(fronts::ekiden_program()?).arg(command).arg(file);
    launch = launch.args(["--telemetry", &ports.telemetry.to_string()]);
    launch = launch.arg(if command == "router" { "--api" } else { "--control" }).arg(ports.api.to_string());
    if command != "control" {
        launch = launch.args(["--workers", "1"]);
    }
    Ok(launch.arg("--run-dir").arg(dir.join(format!("run-{command}"))))
}
