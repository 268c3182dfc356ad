//! `ekiden run Procfile`: real programs in two languages as dynos, their life, and releases that follow one another under load.

mod life;
mod readme;
mod rolling;
mod stuck;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use ekiden_tests::{Background, Client, binary, free_port};
use tempfile::TempDir;

/// Longest wait for programs to start and end; nothing is expected to come near it.
const PATIENCE: Duration = Duration::from_secs(90);

/// As `until`, for what takes several programs to start.
fn patiently<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "gave up waiting for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A directory with a Procfile and programs for it, and the state of what runs from there.
struct Place {
    dir: TempDir,
    port: u16,
}

/// What a command said, and how it ended.
struct Said {
    code: i32,
    out: String,
    errors: String,
}

impl Place {
    fn new(procfile: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let this = Self { dir, port: free_port() };
        this.write("app.py", include_str!("app.py"));
        this.write("app.js", include_str!("app.js"));
        this.write("Procfile", procfile);
        this
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).unwrap();
    }

    fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.path().join(name)).ok()
    }

    /// The binary, in this directory and with its state there.
    fn ekiden(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(arguments).current_dir(self.path());
        self.with_state(&mut command);
        command
    }

    /// Keeps state here, and knows nothing of another process.
    fn with_state(&self, command: &mut Command) {
        command.env("XDG_STATE_HOME", self.path().join("state"));
        for name in ["STATE_DIRECTORY", "PORT", "EKIDEN_CONTROL"] {
            command.env_remove(name);
        }
    }

    /// `ekiden run Procfile`, not waited for.
    fn run_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Background {
        let mut command = self.ekiden(&["run", "Procfile", "--telemetry", "off", "--workers", "2"]);
        command.args(arguments).env("PORT", self.port.to_string()).envs(environment.iter().copied());
        Background::start(&mut command)
    }

    fn run(&self, arguments: &[&str]) -> Background {
        self.run_with(arguments, &[])
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// The text of an answer; none while there is nobody to answer, or not with 200.
    fn get(&self, path: &str) -> Option<String> {
        let stream = std::net::TcpStream::connect(self.address()).ok()?;
        let mut client = Client::over(stream);
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        client.read(false).ok().filter(|answer| answer.status == 200).map(|answer| answer.text())
    }

    /// Waits until requests are served.
    fn serves(&self) -> String {
        patiently("the first answer", || self.get("/"))
    }

    /// A command that asks the running process, which it finds by the directory.
    fn ask(&self, arguments: &[&str]) -> Said {
        let mut background = Background::start(&mut self.ekiden(arguments));
        self.end_of(&mut background)
    }

    fn end_of(&self, background: &mut Background) -> Said {
        let status = patiently("the end of a command", || background.ended());
        // The pipes are read by threads that see their ends soon after.
        patiently("all that a command said", || background.is_heard().then_some(()));
        Said { code: status.code().unwrap_or(-1), out: background.out(), errors: background.errors() }
    }

    /// The dynos by name: release, state, process.
    fn dynos(&self) -> Vec<Dyno> {
        let said = self.ask(&["get", "apps/default/dynos"]);
        let document: serde_json::Value =
            serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("{} {}", said.out, said.errors));
        let text = |one: &serde_json::Value, name: &str| one[name].as_str().unwrap_or("").to_owned();
        let dynos = document["dynos"].as_array().unwrap().iter();
        let dyno = |one: &serde_json::Value| Dyno {
            name: text(one, "name"),
            release: text(one, "release"),
            state: text(one, "state"),
            reason: text(one, "reason"),
            pid: one["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()),
        };
        dynos.map(dyno).collect()
    }

    /// Waits until these and no others are there, all of them ready.
    fn settled(&self, wanted: &[(&str, &str)]) -> Vec<Dyno> {
        patiently(&format!("the dynos {wanted:?}"), || {
            let dynos = self.dynos();
            let same = dynos.len() == wanted.len()
                && dynos.iter().zip(wanted).all(|(dyno, (name, release))| {
                    (dyno.name.as_str(), dyno.release.as_str(), dyno.state.as_str())
                        == (*name, *release, "ready")
                });
            same.then_some(dynos)
        })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Dyno {
    name: String,
    release: String,
    state: String,
    reason: String,
    pid: Option<u32>,
}

/// Whether a process runs; one that has ended and waits for its parent does not.
fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')')
        .is_some_and(|(_, rest)| !matches!(rest.trim().chars().next(), Some('Z' | 'X') | None))
}
