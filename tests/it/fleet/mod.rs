//! `ekiden control` and `ekiden router` as processes of their own, over real sockets: what reaches whom, what is left when one of
//! them is gone, who is believed.

mod changes;
mod etcd;
mod identity;
mod lost;
mod readme;
mod subscriptions;
mod words;

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use ekiden_tests::{Background, Client, Response, binary, free_port, until};
use serde_json::Value;
use tempfile::TempDir;

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// A process with an API and telemetry, on a directory that outlives it.
struct Node {
    process: Background,
    api: SocketAddr,
    telemetry: SocketAddr,
}

impl Node {
    /// `GET path` of the API.
    fn get(&self, path: &str) -> Value {
        let answer = ask(self.api, "GET", path, "");
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    /// A request to the API, with JSON when there is a body.
    fn ask(&self, method: &str, path: &str, body: &str) -> Response {
        ask(self.api, method, path, body)
    }

    /// Status and text of `/readyz`; 0 when nobody answers.
    fn readyz(&self) -> (u16, String) {
        let Ok(stream) = TcpStream::connect(self.telemetry) else { return (0, String::new()) };
        let mut client = Client::over(stream);
        client.send("GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        client.read(false).map_or((0, String::new()), |answer| (answer.status, answer.text()))
    }

    /// The value of a metric whose line begins so.
    fn metric(&self, begins: &str) -> f64 {
        let text = Client::connect(self.telemetry).get("localhost", "/metrics").text();
        let line = text.lines().find(|line| line.starts_with(begins));
        let line = line.unwrap_or_else(|| panic!("no {begins} in {text}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    fn wait_ready(self) -> Self {
        until("readiness", || (self.readyz().0 == 200).then_some(()));
        self
    }
}

fn ask(address: SocketAddr, method: &str, path: &str, body: &str) -> Response {
    let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
    let length = body.len();
    Client::connect(address).ask(format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\n{kind}Content-Length: {length}\r\n\r\n{body}"
    ))
}

/// Where a control process lives; it may be started again and again.
struct ControlHome {
    dir: TempDir,
    api: SocketAddr,
    link: SocketAddr,
    fleet: String,
}

impl ControlHome {
    fn new() -> Self {
        Self {
            dir: TempDir::new().unwrap(),
            api: local(free_port()),
            link: local(free_port()),
            fleet: String::new(),
        }
    }

    /// Keys of `[fleet]`, and further tables.
    fn fleet(mut self, keys: &str) -> Self {
        self.fleet = keys.to_owned();
        self
    }

    fn url(&self) -> String {
        format!("http://{}", self.link)
    }

    /// An app file.
    fn app(&self, name: &str, text: &str) {
        let dir = self.dir.path().join("apps");
        fs::create_dir_all(&dir).unwrap();
        let beside = self.dir.path().join("fresh");
        fs::write(&beside, text).unwrap();
        fs::rename(beside, dir.join(format!("{name}.toml"))).unwrap();
    }

    fn start(&self) -> Node {
        self.spawn().wait_ready()
    }

    /// Started, and not waited for.
    fn spawn(&self) -> Node {
        fs::create_dir_all(self.dir.path().join("apps")).unwrap();
        let file = self.dir.path().join("control.toml");
        let text = format!("apps = \"apps\"\n[fleet]\nlisten = \"{}\"\n{}\n", self.link, self.fleet);
        fs::write(&file, text).unwrap();
        let telemetry = local(free_port());
        let mut command = Command::new(binary());
        command
            .arg("control")
            .arg(file)
            .args(["--control", &self.api.to_string(), "--telemetry", &telemetry.to_string(), "--run-dir"])
            .arg(self.dir.path().join("run"));
        Node { process: Background::start(&mut command), api: self.api, telemetry }
    }
}

/// Where a router lives.
struct RouterHome {
    dir: TempDir,
    listener: SocketAddr,
    api: SocketAddr,
}

impl RouterHome {
    fn new(name: &str) -> Self {
        let this =
            Self { dir: TempDir::new().unwrap(), listener: local(free_port()), api: local(free_port()) };
        this.write(&format!("[fleet]\nname = \"{name}\"\n"));
        this
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The process file, with these tables beside the listener.
    fn write(&self, more: &str) {
        let text = format!(
            "drain_grace = \"0s\"\n[access_log]\nto = \"off\"\n[listener.edge]\naddress = \"{}\"\n{more}\n",
            self.listener
        );
        fs::write(self.path("fresh"), text).unwrap();
        fs::rename(self.path("fresh"), self.path("router.toml")).unwrap();
    }

    fn spawn(&self, urls: &[&str]) -> Node {
        let telemetry = local(free_port());
        let mut command = Command::new(binary());
        command.arg("router").arg(self.path("router.toml")).args(["--workers", "1"]);
        command.args(["--api", &self.api.to_string(), "--telemetry", &telemetry.to_string()]);
        command.arg("--run-dir").arg(self.path("run"));
        for url in urls {
            command.args(["--control", url]);
        }
        Node { process: Background::start(&mut command), api: self.api, telemetry }
    }

    fn start(&self, url: &str) -> Node {
        self.spawn(&[url]).wait_ready()
    }

    /// Who answers for a host; the status when it is not 200.
    fn says(&self, host: &str) -> String {
        let answer = Client::connect(self.listener).get(host, "/");
        if answer.status == 200 { answer.text() } else { answer.status.to_string() }
    }

    fn wait_says(&self, host: &str, text: &str) {
        until(&format!("{text:?} from {host}"), || (self.says(host) == text).then_some(()));
    }
}

/// An app with one cluster `web` and one route to it.
fn app(host: &str, endpoint: SocketAddr, cluster: &str) -> String {
    format!(
        "[cluster.web]\nendpoints = [\"{endpoint}\"]\n{cluster}\n[[route]]\nhost = \"{host}\"\ncluster = \"web\"\n"
    )
}

/// What the fleet view says of a router, once it says so.
fn wait_router(control: &Node, name: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    until(&format!("{name} to be {what}"), || {
        let view = control.get("/v1/routers");
        view["routers"].as_array().unwrap().iter().find(|one| one["name"] == name && is(one)).cloned()
    })
}

fn connected(control: &Node, name: &str) -> Value {
    wait_router(control, name, "connected and current", |one| {
        one["connected"] == true && one["generation"].is_u64()
    })
}

/// A cable between a router and control that can be cut: everything over it ends, and nobody gets through until it is mended.
#[derive(Clone)]
pub(crate) struct Cable {
    /// Its near end.
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<(bool, Vec<TcpStream>)>>,
}

impl Cable {
    pub(crate) fn to(far: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let this = Self { address: listener.local_addr().unwrap(), state: Arc::default() };
        let state = Arc::clone(&this.state);
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(far) else { continue };
                let mut held = state.lock().unwrap_or_else(PoisonError::into_inner);
                if held.0 {
                    continue;
                }
                for (from, to) in [(&near, &far), (&far, &near)] {
                    held.1.push(from.try_clone().unwrap());
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    thread::spawn(move || carry(from, to));
                }
            }
        });
        this
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn cut(&self) {
        let mut held = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        held.0 = true;
        for stream in held.1.drain(..) {
            let _gone_already = stream.shutdown(Shutdown::Both);
        }
    }

    pub(crate) fn mend(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream) {
    let mut piece = [0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut piece) {
        if to.write_all(&piece[..count]).is_err() {
            break;
        }
    }
    let _gone_already = to.shutdown(Shutdown::Both);
}

/// Writes a file as a stem's certificate.
fn write(dir: &Path, name: &str, text: &str) {
    fs::write(dir.join(name), text).unwrap();
}
