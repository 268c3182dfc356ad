//! Real servers as endpoints: nginx, HAProxy, Node (strict and lenient parser), Python's own server, waitress.
//!
//! Each answers `METHOD TARGET`, names the router's port in `X-Peer`, and writes down every whole request it sees.
//! A missing program fails the test. Does not judge.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;

use ekiden_tests::{Background, free_port, until};
use serde_json::Value;
use tempfile::TempDir;

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Nginx,
    Haproxy,
    Node,
    NodeLenient,
    Stdlib,
    Waitress,
}

impl Kind {
    /// Whether a request whose body broke off stays out of its log.
    pub(super) fn tells_broken_bodies(self) -> bool {
        self != Kind::Haproxy
    }
}

/// A running server.
pub(super) struct Endpoint {
    pub(super) kind: Kind,
    pub(super) address: SocketAddr,
    process: Background,
    log: PathBuf,
    _dir: TempDir,
}

/// A request as an endpoint saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) body: Vec<u8>,
}

/// Finds a program, also where only root looks.
fn program(name: &str, package: &str) -> PathBuf {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/usr/local/sbin";
    let mut places = path.split(':').map(|dir| PathBuf::from(dir).join(name));
    places.find(|file| file.is_file()).unwrap_or_else(|| {
        panic!("{name} is missing, and this test is nothing without it: apt-get install {package}")
    })
}

impl Endpoint {
    /// Starts one and waits until it takes connections.
    pub(super) fn start(kind: Kind) -> Self {
        let dir = TempDir::new().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let log = dir.path().join("seen");
        fs::write(&log, "").unwrap();
        let port = address.port().to_string();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let mut command = match kind {
            Kind::Nginx => {
                let file = write("nginx.conf", &nginx(&dir, address));
                let mut command = Command::new(program("nginx", "nginx-light"));
                command.arg("-c").arg(file).arg("-p").arg(dir.path()).args(["-e", "stderr"]);
                command
            }
            Kind::Haproxy => {
                let file = write("haproxy.cfg", &haproxy(address));
                // Into a file: what does not fit into a pipe at once, HAProxy does not log.
                let mut command = Command::new("sh");
                command.args(["-c", "exec \"$0\" -db -f \"$1\" > \"$2\""]);
                command.arg(program("haproxy", "haproxy")).arg(file).arg(&log);
                command
            }
            Kind::Node | Kind::NodeLenient => {
                let file = write("node.js", include_str!("endpoints/node.js"));
                let mut command = Command::new(program("node", "nodejs"));
                let parser = if kind == Kind::Node { "strict" } else { "lenient" };
                command.arg(file).arg(&log).args([port.as_str(), parser]);
                command
            }
            Kind::Stdlib => {
                let file = write("stdlib.py", include_str!("endpoints/stdlib.py"));
                let mut command = Command::new(program("python3", "python3"));
                command.arg(file).arg(&log).arg(&port);
                command
            }
            Kind::Waitress => {
                write("waitress_app.py", include_str!("endpoints/waitress_app.py"));
                let mut command = Command::new(program("waitress-serve", "python3-waitress"));
                command.env("EKIDEN_SEEN", &log).env("PYTHONPATH", dir.path());
                command.arg(format!("--listen={address}")).arg("waitress_app:app");
                command
            }
        };
        let process = Background::start(&mut command);
        until(&format!("{kind:?}"), || TcpStream::connect(address).ok());
        Self { kind, address, process, log, _dir: dir }
    }

    /// Every whole request so far.
    pub(super) fn seen(&self) -> Vec<Seen> {
        let text = fs::read_to_string(&self.log).unwrap();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().filter_map(parse).collect()
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        // Killing nginx's master would leave its workers behind.
        self.process.signal(libc::SIGTERM);
        self.process.wait();
    }
}

/// One line; none for a request that never became whole.
fn parse(line: &str) -> Option<Seen> {
    let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
    // HAProxy writes `-` for nothing.
    let text = |key: &str| value[key].as_str().filter(|text| *text != "-").unwrap_or("").to_owned();
    // nginx: 400 and 499 are said of requests whose body broke off.
    if text("method").is_empty() || matches!(value["status"].as_u64(), Some(400 | 499)) {
        return None;
    }
    let body = match value["hex"].as_str() {
        Some(_) => text("hex")
            .as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect(),
        None => text("body").into_bytes(),
    };
    Some(Seen { method: text("method"), target: text("target"), body })
}

/// nginx reads the whole body for a second server of its own, which answers; the first one writes down what it read.
fn nginx(dir: &TempDir, address: SocketAddr) -> String {
    let root = dir.path().display();
    format!(
        "daemon off; worker_processes 1; pid {root}/pid; error_log stderr crit; user root;\n\
         events {{ worker_connections 512; }}\n\
         http {{ log_format seen escape=json '{{\"method\":\"$request_method\",\"target\":\"$request_uri\",\
           \"body\":\"$request_body\",\"status\":$status}}';\n\
           keepalive_requests 100000; keepalive_timeout 120s; underscores_in_headers on;\n\
           client_body_buffer_size 64k; client_body_in_single_buffer on;\n\
           client_body_temp_path {root}/b; proxy_temp_path {root}/p; fastcgi_temp_path {root}/f;\n\
           uwsgi_temp_path {root}/u; scgi_temp_path {root}/s;\n\
           server {{ listen {address}; access_log {root}/seen seen;\n\
             location / {{ proxy_pass http://unix:{root}/inner; add_header X-Peer $remote_port; }} }}\n\
           server {{ listen unix:{root}/inner; access_log off;\n\
             location / {{ return 200 \"$request_method $request_uri\"; }} }} }}\n"
    )
}

/// HAProxy waits for the body, then answers by itself. It is told to take what it would refuse. When the connection
/// ends first, it goes on with what it has, and its log does not tell: see [`Kind::tells_broken_bodies`].
fn haproxy(address: SocketAddr) -> String {
    format!(
        "global\n  log stdout len 16384 format raw daemon\n\
         defaults\n  mode http\n  timeout client 60s\n  timeout connect 5s\n  timeout server 60s\n\
         frontend edge\n  bind {address}\n  log global\n  option accept-invalid-http-request\n\
           http-request wait-for-body time 10s\n\
           http-request set-var(txn.method) method\n  http-request set-var(txn.target) url\n\
           http-request set-var(txn.hex) req.body,hex\n\
           log-format '{{\"method\":\"%[var(txn.method)]\",\"target\":\"%[var(txn.target)]\",\"hex\":\"%[var(txn.hex)]\"}}'\n\
           http-request return status 200 content-type text/plain hdr X-Peer %[src_port] \
             lf-string \"%[var(txn.method)] %[var(txn.target)]\"\n"
    )
}
