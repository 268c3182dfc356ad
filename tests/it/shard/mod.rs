//! Sharded clusters over the real binary: who serves which key, what failures and changes do to that, how loads are bounded,
//! and how a hot key is spread. Placement itself (golden vectors, movement, shares) is held by the tests of core.

mod hot;
mod keys;
mod kinds;
mod nginx;
mod ring;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use ekiden_tests::{Client, Echo, Ekiden, Seen, Setup};

/// A cluster `web` of endpoints with ids, and these words of its shard.
fn text(endpoints: &[(&str, SocketAddr)], keys: &str, shard: &str) -> String {
    let list: Vec<String> = endpoints
        .iter()
        .map(|(id, address)| format!("{{ id = \"{id}\", address = \"{address}\" }}"))
        .collect();
    format!(
        "[cluster.web]\nendpoints = [{}]\n{keys}\nshard = {{ {shard} }}\n[[route]]\ncluster = \"web\"\n",
        list.join(", ")
    )
}

/// Echoes by name, as many as there are names.
fn echoes(names: &[&'static str]) -> Vec<(&'static str, Echo)> {
    names.iter().map(|name| (*name, Echo::start(name))).collect()
}

fn places<'a>(echoes: &'a [(&'a str, Echo)]) -> Vec<(&'a str, SocketAddr)> {
    echoes.iter().map(|(name, echo)| (*name, echo.address)).collect()
}

fn serve(echoes: &[(&str, Echo)], keys: &str, shard: &str) -> Ekiden {
    Ekiden::start(Setup::new(text(&places(echoes), keys, shard)).workers(2))
}

fn get(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

/// The name of the echo that serves a request.
fn who(client: &mut Client, request: &str) -> String {
    let response = client.ask(request);
    assert_eq!(response.status, 200, "{request}: {response:?}");
    Seen(response.json()).text("origin")
}

/// Who serves each of so many keys, given in a header.
fn placement(client: &mut Client, keys: usize) -> BTreeMap<usize, String> {
    (0..keys).map(|key| (key, who(client, &keyed(key)))).collect()
}

fn keyed(key: impl std::fmt::Display) -> String {
    get("/", &format!("X-Key: {key}\r\n"))
}
