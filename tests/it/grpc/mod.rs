//! gRPC: calls of the real `grpcio` through the router, deadlines, statuses, what the router answers itself, checks, and
//! gRPC-web.
//!
//! `tests/run` installs `grpcio`; without it these tests fail and say how to have it.

mod calls;
mod deadlines;
mod errors;
mod probes;
mod readme;
mod statuses;
mod web;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};

use ekiden_tests::{
    Background, DEADLINE, Ekiden, Origin, Setup, binary, cluster, finished, free_port, http2, until,
    until_true,
};
use http::Request;

const INSTALL: &str =
    "python3 -m venv TARGET/tools/python && TARGET/tools/python/bin/pip install grpcio==1.85.1";

/// The interpreter of the environment that `tests/run` makes.
fn python() -> PathBuf {
    let dir = std::env::var_os("EKIDEN_PYTHON").map(PathBuf::from).unwrap_or_else(|| {
        // The binary is TARGET/PROFILE/ekiden.
        let target = binary().parent().and_then(Path::parent).unwrap();
        target.join("tools/python/bin")
    });
    let path = dir.join("python");
    assert!(path.exists(), "{} is missing; {INSTALL}", path.display());
    path
}

fn script(name: &str) -> Command {
    python_script(&format!("it/grpc/{name}"))
}

/// A program that needs that environment, by its path below this package.
pub(crate) fn python_script(path: &str) -> Command {
    let mut command = Command::new(python());
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(path));
    // Proxies of the environment are not for addresses of this machine.
    command.env("GRPC_PROXY_EXP", "").env("no_proxy", "*").env("NO_GRPC_PROXY", "*");
    command
}

/// A running server of `grpcio`.
struct Server {
    address: SocketAddr,
    process: Background,
}

impl Server {
    fn start() -> Self {
        Self::with(&[])
    }

    /// One with more arguments: certificate and key.
    fn with(arguments: &[&Path]) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let process = Background::start(script("server.py").arg(address.port().to_string()).args(arguments));
        let this = Self { address, process };
        this.wait("ready", 1);
        this
    }

    /// How often a line that begins so has been told.
    fn count(&self, begin: &str) -> usize {
        self.process.out().lines().filter(|line| line.starts_with(begin)).count()
    }

    fn wait(&self, begin: &str, count: usize) {
        until(&format!("{count} of {begin:?}"), || {
            (self.count(begin) >= count).then_some(()).or_else(|| {
                assert!(!self.process.errors().contains("Traceback"), "{}", self.process.errors());
                None
            })
        });
    }
}

/// A router before a server, for clients in clear text.
fn router(server: &Server, route: &str) -> Ekiden {
    router_with(server, "", route, "")
}

fn router_with(server: &Server, keys: &str, route: &str, top: &str) -> Ekiden {
    let keys = format!("protocol = \"h2\"\n{keys}");
    let text =
        format!("{}\n[[route]]\ncluster = \"web\"\n{route}\n", cluster("web", &[server.address], &keys));
    let top = format!("timeout = {{ connect = \"15s\", connect_try = \"15s\" }}\n{top}");
    Ekiden::start(Setup::new(text).top(&top).listener("h2c = true"))
}

/// An endpoint that cares for no deadline: it answers nothing, or begins a response and leaves it at that.
struct Mute {
    origin: Origin,
    /// Frames that the router sent: type, stream, payload.
    frames: Receiver<(u8, u32, Vec<u8>)>,
}

impl Mute {
    fn start(begins: bool) -> Self {
        let (tell, frames) = channel();
        let origin = Origin::start(move |conn| {
            conn.exactly(24);
            let mut out = http2::frame(http2::kind::SETTINGS, 0, 0, &[]);
            out.extend(http2::frame(http2::kind::SETTINGS, http2::END, 0, &[]));
            conn.send(&out);
            while let Some(head) = conn.exactly(9) {
                let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
                let stream = u32::from_be_bytes(head[5..9].try_into().unwrap());
                let Some(payload) = conn.exactly(length) else { return };
                if begins && head[3] == http2::kind::DATA && head[4] & http2::END != 0 {
                    // `:status: 200`, and `content-type` by its place in the table.
                    let fields = [&[0x88, 0x0f, 0x10, 16][..], b"application/grpc"].concat();
                    let mut out = http2::frame(http2::kind::HEADERS, http2::END_HEADERS, stream, &fields);
                    out.extend(http2::frame(http2::kind::DATA, 0, stream, &framed(b"begun")));
                    conn.send(&out);
                }
                let _over = tell.send((head[3], stream, payload));
            }
        });
        Self { origin, frames }
    }

    /// A router before it.
    fn router(&self, route: &str) -> Ekiden {
        let cluster = cluster("web", &[self.origin.address], "protocol = \"h2\"");
        let text = format!("{cluster}\n[[route]]\ncluster = \"web\"\n{route}\n");
        let top = "timeout = { connect = \"15s\", connect_try = \"15s\" }";
        Ekiden::start(Setup::new(text).top(top).listener("h2c = true"))
    }

    /// The payload of the next frame of a type.
    fn next(&self, kind: u8) -> Vec<u8> {
        loop {
            let (found, _, payload) = self.frames.recv_timeout(DEADLINE).expect("a frame");
            if found == kind {
                return payload;
            }
        }
    }

    /// Waits until the router has cancelled a stream.
    fn wait_cancel(&self) {
        assert_eq!(self.next(http2::kind::RST_STREAM), 8_u32.to_be_bytes());
    }
}

/// What a scenario of the client says, beside that all is well.
fn talk(address: SocketAddr, scenario: &str) -> String {
    talk_with(address, &[scenario])
}

fn talk_with(address: SocketAddr, arguments: &[&str]) -> String {
    // The name, so that nothing depends on how a library writes an address.
    let output = finished(script("client.py").arg(format!("127.0.0.1:{}", address.port())).args(arguments));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.ends_with("well\n"), "{arguments:?}: {output:?}");
    said.trim_end_matches("well\n").to_owned()
}

/// One call by a client that shows every field: the message goes and comes with its prefix.
fn ask(address: SocketAddr, method: &str, message: &[u8], fields: &[(&str, &str)]) -> http2::Reply {
    http2::talk(address, async |send| {
        http2::ask_with(&send, request(method, fields), Some(&framed(message)), None).await.unwrap()
    })
}

fn request(method: &str, fields: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::post(format!("http://a/t.Test/{method}")).header("te", "trailers");
    if !fields.iter().any(|(name, _)| *name == "content-type") {
        request = request.header("content-type", "application/grpc");
    }
    fields.iter().fold(request, |request, (name, value)| request.header(*name, *value)).body(()).unwrap()
}

/// A message with its prefix.
fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0][..], &length, message].concat()
}

/// The status of a call, wherever it stands.
fn status(reply: &http2::Reply) -> String {
    let trailers = reply.trailers.as_ref();
    let value = trailers.and_then(|trailers| trailers.get("grpc-status")).or(reply.fields.get("grpc-status"));
    value.map_or(String::new(), |value| value.to_str().unwrap().to_owned())
}

/// Waits until so many calls were counted with a status: a client has its answer a moment before.
fn wait_counted(router: &Ekiden, status: &str, count: f64) {
    let label = format!("grpc_status=\"{status}\"");
    until_true(&format!("{count} calls that ended in {status}"), || {
        router.metrics().contains(&label) && router.metric("ekiden_grpc_requests_total", &[&label]) == count
    });
}

/// Waits until nothing is in flight at the cluster.
fn idle(router: &Ekiden) {
    until_true("an idle cluster", || router.metric("ekiden_cluster_requests_in_flight", &["web"]) < 0.5);
}
