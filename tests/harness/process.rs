//! The real binary: `ekiden run FILE` with telemetry and control on free ports and a run directory of its own.
//!
//! Killed when dropped. Its standard error is kept and printed when the test fails.

use std::fs;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

use serde_json::Value;

use crate::{Client, Response, Served, Setup, free_port, until};

/// How to run it.
#[derive(Debug, Default)]
pub struct Run {
    /// Further arguments.
    pub arguments: Vec<String>,
    /// Environment.
    pub environment: Vec<(String, String)>,
    /// Run with this configuration text instead of the setup's; written as it is.
    pub text: Option<String>,
    /// Do not write the configuration: it is there, or is meant to be missing.
    pub keep_file: bool,
    /// A program and arguments put in front of the binary.
    pub wrapper: Vec<String>,
    /// Telemetry at this address instead of a free one.
    pub telemetry: Option<SocketAddr>,
}

/// A running `ekiden run`.
#[derive(Debug)]
pub struct Ekiden {
    child: Child,
    setup: Setup,
    /// Where `/metrics` and `/readyz` are.
    pub telemetry: SocketAddr,
    /// Where the API is.
    pub control: SocketAddr,
    errors: Arc<Mutex<String>>,
}

impl Served for Ekiden {
    fn setup(&self) -> &Setup {
        &self.setup
    }
}

/// The binary under test: `EKIDEN_BIN`, else built once beside this test.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(path) = std::env::var_os("EKIDEN_BIN") {
            return PathBuf::from(path);
        }
        // This test is TARGET/PROFILE/deps/it-HASH.
        let test = std::env::current_exe().unwrap();
        let profile = test.parent().and_then(Path::parent).unwrap();
        let target = profile.parent().unwrap();
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--quiet", "-p", "ekiden", "--target-dir"]).arg(target);
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        let built = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap();
        assert!(built.success(), "the binary cannot be built");
        profile.join("ekiden")
    })
}

impl Ekiden {
    /// Starts it and waits until it is ready.
    pub fn start(setup: Setup) -> Self {
        Self::start_with(setup, Run::default())
    }

    /// Starts it some other way and waits until it is ready.
    pub fn start_with(setup: Setup, run: Run) -> Self {
        let mut this = Self::spawn(setup, run);
        until("readiness", || {
            if let Some(status) = this.child.try_wait().unwrap() {
                panic!("ekiden ended with {status}:\n{}", this.errors());
            }
            (this.readyz().0 == 200).then_some(())
        });
        this
    }

    /// Starts it and waits for nothing.
    pub fn spawn(setup: Setup, run: Run) -> Self {
        let telemetry = run.telemetry.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], free_port())));
        let control = SocketAddr::from(([127, 0, 0, 1], free_port()));
        if !run.keep_file {
            fs::write(setup.file(), run.text.unwrap_or_else(|| setup.config())).unwrap();
        }
        let mut command = match run.wrapper.split_first() {
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(binary());
                command
            }
            None => Command::new(binary()),
        };
        command
            .arg("run")
            .arg(setup.file())
            .args(["--workers", &setup.worker_count().to_string()])
            .args(["--telemetry", &telemetry.to_string(), "--control", &control.to_string(), "--run-dir"])
            .arg(setup.dir().join("run"))
            .args(&run.arguments)
            .envs(run.environment)
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let errors = Arc::new(Mutex::new(String::new()));
        let (kept, mut pipe) = (Arc::clone(&errors), child.stderr.take().unwrap());
        thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = pipe.read(&mut piece) {
                kept.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push_str(&String::from_utf8_lossy(&piece[..count]));
            }
        });
        Self { child, setup, telemetry, control, errors }
    }

    /// What it has written to standard error.
    pub fn errors(&self) -> String {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until standard error holds this text.
    pub fn wait_error(&self, text: &str) {
        until(&format!("{text:?} on standard error"), || self.errors().contains(text).then_some(()));
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    #[expect(unsafe_code, reason = "kill has no safe form in std")]
    pub fn signal(&self, signal: i32) {
        let id = i32::try_from(self.child.id()).unwrap();
        // SAFETY: kill takes plain numbers; the child has not been waited for, so its id is still its own.
        let failed = unsafe { libc::kill(id, signal) };
        assert_eq!(failed, 0, "kill {id}");
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        self.signal(libc::SIGTERM);
    }

    /// Whether it has ended, and how.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        until("the end of the process", || self.child.try_wait().unwrap())
    }

    /// Ends it and gives its setup back, for another start on the same directory.
    pub fn stop(mut self) -> Setup {
        self.terminate();
        self.wait();
        std::mem::replace(&mut self.setup, Setup::new(""))
    }

    /// Kills it as the kernel does and gives its setup back, for another start on the same directory.
    pub fn kill(mut self) -> Setup {
        self.signal(libc::SIGKILL);
        self.wait();
        std::mem::replace(&mut self.setup, Setup::new(""))
    }

    /// Writes the process file anew, as an editor does: beside it, then renamed.
    pub fn rewrite(&self, text: &str) {
        self.rename_over(&self.setup.file(), text);
    }

    /// Writes a file beside its place, then renames it there.
    pub fn rename_over(&self, path: &Path, text: &str) {
        let beside = path.with_extension("new");
        fs::write(&beside, text).unwrap();
        fs::rename(beside, path).unwrap();
    }

    /// A request to the API; the body is sent as JSON when there is one.
    pub fn control(&self, method: &str, path: &str, body: &str) -> Response {
        self.control_with(method, path, "", body)
    }

    /// The same with further field lines, each ended by CRLF.
    pub fn control_with(&self, method: &str, path: &str, fields: &str, body: &str) -> Response {
        let address = self.control;
        let host = if fields.contains("Host:") { String::new() } else { format!("Host: {address}\r\n") };
        let typed = if body.is_empty() || fields.contains("Content-Type:") {
            ""
        } else {
            "Content-Type: application/json\r\n"
        };
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\n{host}{fields}{typed}Content-Length: {length}\r\n\r\n{body}"
        );
        Client::connect(address).ask(head)
    }

    /// The path of an endpoint of the app `default` in the API.
    pub fn endpoint_path(cluster: &str, id: &str) -> String {
        format!("/v1/apps/default/clusters/{cluster}/endpoints/{id}")
    }

    /// Puts an endpoint; must be applied.
    pub fn put(&self, cluster: &str, id: &str, address: SocketAddr) {
        let body = format!("{{\"address\":\"{address}\"}}");
        let answer = self.control("PUT", &Self::endpoint_path(cluster, id), &body);
        assert_eq!(answer.status, 200, "PUT {id}: {answer:?}");
    }

    /// Deletes an endpoint; must be applied.
    pub fn delete(&self, cluster: &str, id: &str) {
        let answer = self.control("DELETE", &Self::endpoint_path(cluster, id), "");
        assert_eq!(answer.status, 200, "DELETE {id}: {answer:?}");
    }

    /// Status and text of `/readyz`; 0 when telemetry does not answer.
    pub fn readyz(&self) -> (u16, String) {
        match TcpStream::connect(self.telemetry) {
            Ok(stream) => {
                let mut client = Client::over(stream);
                client.send("GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n");
                client.read(false).map_or((0, String::new()), |response| (response.status, response.text()))
            }
            Err(_) => (0, String::new()),
        }
    }

    /// The text of `/metrics`.
    pub fn metrics(&self) -> String {
        Client::connect(self.telemetry).get("localhost", "/metrics").text()
    }

    /// The sum of the samples of a metric whose line holds every one of the words.
    pub fn metric(&self, name: &str, words: &[&str]) -> f64 {
        self.metrics()
            .lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
            .filter(|line| words.iter().all(|word| line.contains(word)))
            .filter_map(|line| line.rsplit(' ').next().and_then(|number| number.parse::<f64>().ok()))
            .sum()
    }

    /// `GET /v1/table`.
    pub fn table(&self) -> Value {
        self.control("GET", "/v1/table", "").json()
    }
}

impl Drop for Ekiden {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _reaped = self.child.wait();
        if thread::panicking() {
            eprintln!("--- standard error of ekiden ---\n{}", self.errors());
        }
    }
}
