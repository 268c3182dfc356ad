//! Tunnels: what is upgraded and what is not, bytes both ways, ends, drains, and WebSocket by clients and servers of others.

mod connect;
mod drain;
mod http2;
mod readme;
mod switch;
mod way;
pub(crate) mod websocket;

use ekiden_tests::{Client, Conn, InProcess, Origin, Response, Served, Setup, until, web};

/// The fields with which a client asks for WebSocket.
const ASK: &str = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
/// What an endpoint says to it.
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

fn serve(origin: &Origin, route: &str) -> InProcess {
    InProcess::start(Setup::new(web(&[origin.address], "", route)))
}

/// A request that asks for WebSocket.
fn ask(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n{ASK}\r\n")
}

/// An origin that switches and then runs a script.
fn switching(script: impl Fn(&mut Conn) + Send + Sync + 'static) -> Origin {
    Origin::start(move |conn| {
        if conn.head().is_some() {
            conn.send(SWITCH);
            script(conn);
        }
    })
}

/// Gives back every byte until the other side ends.
fn echo(conn: &mut Conn) {
    while let Some(byte) = conn.exactly(1) {
        if !conn.send(byte) {
            return;
        }
    }
}

/// A client whose tunnel is open.
fn tunnel(router: &impl Served) -> Client {
    let mut client = router.client();
    client.send(ask("/"));
    assert_eq!(switched(&mut client).status, 101);
    client
}

fn switched(client: &mut Client) -> Response {
    client.head().unwrap()
}

/// The code and status of the only record.
fn record(router: &impl Served) -> (String, u64) {
    let record = until("a record", || router.records(0).into_iter().next());
    (record["code"].as_str().unwrap().to_owned(), record["status"].as_u64().unwrap())
}
