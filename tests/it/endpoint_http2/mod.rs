//! HTTP/2 to endpoints: what goes through, which connection it takes, what is sent again, what ends what.

mod connections;
mod messages;
mod servers;
mod websocket;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use ekiden_tests::{
    Background, Client, Ekiden, Response, Served, Setup, cluster, free_port, until, until_true,
};

/// A running endpoint on Python's `h2`.
struct Endpoint {
    address: SocketAddr,
    process: Background,
}

impl Endpoint {
    /// One that takes so many streams at once on a connection.
    fn start(streams: usize) -> Self {
        Self::with(streams, &[])
    }

    /// The same with more words for the script.
    fn with(streams: usize, words: &[&str]) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("it/endpoint_http2/endpoint.py");
        // Debian's python3, which has Debian's python3-h2.
        let mut command = Command::new("/usr/bin/python3");
        command.arg(script).arg(address.port().to_string()).arg(streams.to_string()).args(words);
        let process = Background::start(&mut command);
        until_true("the endpoint", || process.out().contains("ready"));
        Self { address, process }
    }

    /// The events of a kind so far, without the kind.
    fn events(&self, kind: &str) -> Vec<String> {
        let out = self.process.out();
        let faults: Vec<&str> = out.lines().filter(|line| line.starts_with("fault")).collect();
        assert!(faults.is_empty(), "the endpoint finds fault with the router: {faults:?}");
        let of_kind = out.lines().filter_map(|line| line.strip_prefix(kind)?.strip_prefix(' '));
        of_kind.map(str::to_owned).collect()
    }

    fn wait(&self, kind: &str, count: usize) -> Vec<String> {
        until(kind, || Some(self.events(kind)).filter(|events| events.len() >= count))
    }
}

/// The router before an endpoint, for clients of both versions; `keys` are those of the cluster.
fn router(endpoint: &Endpoint, keys: &str) -> Ekiden {
    let keys = format!("protocol = \"h2\"\n{keys}");
    let text = format!("{}\n[[route]]\ncluster = \"web\"\n", cluster("web", &[endpoint.address], &keys));
    let timeout = "timeout = { connect = \"15s\", connect_try = \"15s\" }";
    Ekiden::start(Setup::new(text).top(timeout).listener("h2c = true"))
}

fn get(router: &Ekiden, path: &str) -> Response {
    Client::connect(router.address()).get("a.test", path)
}
