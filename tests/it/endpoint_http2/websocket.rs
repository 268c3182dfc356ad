//! WebSocket to endpoints of HTTP/2 (RFC 8441): Python's `websockets` on both sides with HTTP/2 between two routers, and an endpoint
//! on Python's `h2` that takes it, refuses it, or does not know it.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use ekiden_tests::http2::talk;
use ekiden_tests::{
    Authority, Client, Ekiden, Response, SecureOrigin, Served, Setup, head, server_config, until, until_true,
    web,
};
use h2::ext::Protocol;
use http::{Method, Request};

use super::{Endpoint, get, router};
use crate::tunnel::websocket::{client, server, well};

const CONNECT: &str = "timeout = { connect = \"15s\", connect_try = \"15s\" }";

/// A masked frame of a client with two bytes of text, and what comes back for it.
const FRAME: &[u8] = b"\x81\x82\x01\x02\x03\x04ij";
const ECHOED: &[u8] = b"\x81\x02hh";
/// A masked Close of a client, and the answer.
const CLOSE: &[u8] = b"\x88\x82\0\0\0\0\x03\xe8";
const CLOSED: &[u8] = b"\x88\x02\x03\xe8";

fn ask(path: &str, key: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: chat\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    )
}

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

fn asked(router: &Ekiden, path: &str) -> (Client, Response) {
    let mut client = Client::connect(router.address());
    client.send(ask(path, KEY));
    let head = client.head().unwrap();
    (client, head)
}

/// The router before endpoints that speak TLS with this certificate.
fn auto(addresses: &[SocketAddr], authority: &Authority) -> Ekiden {
    let keys = "protocol = \"auto\"\ntls = { ca = \"ca.pem\", name = \"a.test\" }";
    let setup = Setup::new(web(addresses, keys, "")).top(CONNECT).listener("h2c = true");
    fs::write(setup.dir().join("ca.pem"), &authority.pem).unwrap();
    Ekiden::start(setup)
}

#[test]
fn websockets_of_python_over_a_stream_between_two_routers() {
    let server = server();
    let inner = Ekiden::start(Setup::new(web(&[server.address], "", "")).listener("h2c = true"));
    let outer = Ekiden::start(Setup::new(web(&[inner.address()], "protocol = \"h2\"", "")).top(CONNECT));
    well(client().arg(format!("ws://{}/", outer.address())));
    for record in inner.records(2) {
        assert_eq!(
            (&record["protocol"], &record["code"]),
            (&"http2.0".into(), &"complete".into()),
            "{record}"
        );
    }
}

#[test]
fn websockets_of_python_where_tls_chooses() {
    let (server, authority) = (server(), Authority::new());
    let setup = Setup::new(web(&[server.address], "", ""))
        .listener("tls = { cert = \"site.pem\", key = \"site.key\" }");
    authority.make(&["a.test"]).write(setup.dir(), "site");
    let inner = Ekiden::start(setup);
    let outer = auto(&[inner.address()], &authority);
    well(client().arg(format!("ws://{}/", outer.address())));
    for record in inner.records(2) {
        assert_eq!(record["protocol"], "http2.0", "{record}");
    }
}

/// From either version, on the connection that requests share.
#[test]
fn a_stream_is_a_tunnel() {
    let endpoint = Endpoint::with(100, &["websocket"]);
    let router = router(&endpoint, "");
    assert_eq!(get(&router, "/").get("x-connection"), Some("1"));
    let (mut client, head) = asked(&router, "/chat?x");
    assert_eq!(head.status, 101);
    assert_eq!((head.get("upgrade"), head.get("connection")), (Some("websocket"), Some("Upgrade")));
    assert_eq!(head.all("sec-websocket-accept"), ["s3pPLMBiTxaQ9kYGzzhZRbK+xOo="]);
    assert_eq!(head.get("sec-websocket-protocol"), Some("chat"));
    assert_eq!((head.get("content-length"), head.get("transfer-encoding")), (None, None));
    for _ in 0..3 {
        client.send(FRAME);
        assert_eq!(client.exactly(ECHOED.len()).unwrap(), ECHOED);
    }
    client.send(CLOSE);
    assert_eq!(client.exactly(CLOSED.len()).unwrap(), CLOSED);
    client.finish();
    assert!(client.rest().is_empty());
    talk(router.address(), async |client| {
        let mut client = client.ready().await.unwrap();
        let request = Request::builder()
            .method(Method::CONNECT)
            .uri("http://a.test/chat?x")
            .extension(Protocol::from_static("websocket"))
            .header("sec-websocket-version", "13")
            .header("sec-websocket-protocol", "chat")
            .body(())
            .unwrap();
        let (response, mut send) = client.send_request(request, false).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(!response.headers().contains_key("sec-websocket-accept"));
        send.send_data(Bytes::from_static(FRAME), false).unwrap();
        send.send_data(Bytes::from_static(CLOSE), true).unwrap();
        let (mut body, mut got) = (response.into_body(), Vec::new());
        while let Some(piece) = body.data().await {
            got.extend_from_slice(&piece.unwrap());
        }
        assert_eq!(got, [ECHOED, CLOSED].concat());
    });
    // What the endpoint saw: no key, no field of a connection, and one connection for all.
    assert_eq!(endpoint.wait("websocket", 2), ["1 chat 13 True", "1 chat 13 True"]);
    assert_eq!(endpoint.wait("stream", 3)[1..], ["1 3 CONNECT /chat?x", "1 5 CONNECT /chat?x"]);
    let records = router.records(3);
    for (record, status) in records[1..].iter().zip([101, 200]) {
        assert_eq!((&record["code"], &record["status"]), (&"complete".into(), &status.into()), "{record}");
    }
}

#[test]
fn a_client_that_leaves_resets_the_stream_and_not_the_connection() {
    let endpoint = Endpoint::with(100, &["websocket"]);
    let router = router(&endpoint, "");
    let (client, head) = asked(&router, "/chat?x");
    assert_eq!(head.status, 101);
    client.reset();
    endpoint.wait("reset", 1);
    assert_eq!(get(&router, "/").get("x-connection"), Some("1"));
}

/// A tunnel carries data and nothing else (RFC 9113 section 8.5): the client is not told that it has ended in order.
#[test]
fn trailers_are_no_end_of_a_tunnel() {
    let endpoint = Endpoint::with(100, &["websocket"]);
    let router = router(&endpoint, "");
    let (mut client, head) = asked(&router, "/trailers");
    assert_eq!(head.status, 101);
    client.send(CLOSE);
    assert!(client.rest().is_empty() && client.was_reset());
    assert_ne!(router.records(1)[0]["code"], "complete");
}

/// An answer that is no success is a response like any other.
#[test]
fn an_endpoint_that_refuses() {
    let endpoint = Endpoint::with(100, &["websocket"]);
    let router = router(&endpoint, "");
    let mut client = Client::connect(router.address());
    for _ in 0..2 {
        let response = client.ask(ask("/forbidden", KEY));
        assert_eq!((response.status, response.text().as_str()), (403, "not you"));
    }
    assert_eq!(endpoint.events("connection").len(), 1);
}

/// Never a plain GET: the endpoint of a WebSocket would take it for a request for its page.
#[test]
fn an_endpoint_that_does_not_know_it() {
    let endpoint = Endpoint::start(100);
    let router = router(&endpoint, "");
    for warm in [false, true] {
        if warm {
            assert_eq!(get(&router, "/").status, 200);
        }
        let mut client = Client::connect(router.address());
        let response = client.ask(ask("/chat?x", KEY));
        assert_eq!((response.status, response.code()), (502, "upgrade_unsupported"), "{warm}");
    }
    assert_eq!(endpoint.wait("stream", 1), ["1 1 GET /"]);
    assert_eq!(endpoint.events("connection").len(), 1);
    let records = until("three records", || Some(router.records(0)).filter(|records| records.len() == 3));
    assert_eq!((&records[0]["code"], &records[0]["status"]), (&"upgrade_unsupported".into(), &502.into()));
    let counted = || router.metric("ekiden_outcomes_total", &["code=\"upgrade_unsupported\""]);
    until_true("the count", || (counted() - 2.0).abs() < 0.1);
    // It is no fault of the endpoint.
    assert!(router.metric("ekiden_endpoint_failures_total", &[]) < 0.5);
}

/// What begins as no handshake of WebSocket cannot be one on a stream; other protocols have no meaning there.
#[test]
fn what_is_no_handshake_is_refused() {
    let endpoint = Endpoint::with(100, &["websocket"]);
    let router = router(&endpoint, "");
    for key in ["", "short", "dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="] {
        let response = Client::connect(router.address()).ask(ask("/chat?x", key));
        assert_eq!((response.status, response.code()), (400, "websocket_key_invalid"), "{key}");
    }
    assert_eq!(endpoint.events("stream").len(), 0);
}

/// A cluster of `auto` whose endpoint chose HTTP/2 and takes no extended CONNECT has HTTP/1 for WebSocket, and HTTP/2 for the rest.
#[test]
fn auto_has_http1_for_it() {
    let (server, authority) = (server(), Authority::new());
    let dir = tempfile::TempDir::new().unwrap();
    authority.make(&["a.test"]).write(dir.path(), "site");
    let nginx = super::servers::websocket_over_tls(dir.path(), server.address);
    let outer = auto(&[nginx.1], &authority);
    let page = get(&outer, "/page");
    assert_eq!(page.text(), "HTTP/2.0");
    well(client().arg(format!("ws://{}/", outer.address())));
    assert_eq!(get(&outer, "/page").text(), "HTTP/2.0");
}

/// Requests of a burst.
const REQUESTS: usize = 40;

fn burst(router: &Ekiden) -> Vec<Client> {
    let mut clients: Vec<Client> = (0..REQUESTS).map(|_| Client::connect(router.address())).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    }
    clients
}

fn all_well(clients: Vec<Client>) {
    for mut client in clients {
        assert_eq!(client.response().status, 200);
    }
}

/// A burst on an endpoint of `auto` that chooses HTTP/2 shares what is opened.
#[test]
fn a_burst_where_tls_chooses_http2() {
    let authority = Authority::new();
    let setup = Setup::new("[[route]]\nrespond = { status = 200, body = \"well\" }\n")
        .listener("tls = { cert = \"site.pem\", key = \"site.key\" }");
    authority.make(&["a.test"]).write(setup.dir(), "site");
    let inner = Ekiden::start(setup);
    let outer = auto(&[inner.address()], &authority);
    all_well(burst(&outer));
    let opened = inner.metric("ekiden_http2_connections_total", &[]);
    assert!((opened - 1.0).abs() < 0.1, "{opened} connections for {REQUESTS} requests");
}

/// One that chooses HTTP/1 is not waited for in a line: once it is known, all who waited open theirs together.
#[test]
fn a_burst_where_tls_chooses_http1() {
    let authority = Authority::new();
    let (together, go) = (Barrier::new(REQUESTS - 1), Arc::new(AtomicBool::new(false)));
    let may_go = Arc::clone(&go);
    let origin =
        SecureOrigin::with(server_config(&authority.make(&["a.test"]), None, None), move |stream, number| {
            if number == 1 {
                until("all requests", || may_go.load(Ordering::Acquire).then_some(()));
            } else if number <= REQUESTS {
                // No handshake goes on before all others have begun.
                together.wait();
            }
            while head(stream).is_some() {
                let _lost = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            }
        });
    let outer = auto(&[origin.address], &authority);
    let clients = burst(&outer);
    until_true("all requests", || outer.metric("ekiden_requests_in_flight", &[]) as usize == REQUESTS);
    // A request is in flight before its connection has been accepted.
    until_true("the first connection", || origin.connections() > 0);
    assert_eq!(origin.connections(), 1, "the others wait for what it chooses");
    go.store(true, Ordering::Release);
    all_well(clients);
    assert_eq!(origin.connections(), REQUESTS);
    // It is remembered.
    all_well(burst(&outer));
}

/// Who waited for what the endpoint chooses has a whole try of its own afterwards.
#[test]
fn who_waited_in_a_burst_has_the_whole_time_of_a_try() {
    const TRY: Duration = Duration::from_secs(5);
    let authority = Authority::new();
    let origin =
        SecureOrigin::with(server_config(&authority.make(&["a.test"]), None, None), move |stream, _| {
            // Each handshake takes more than half of the time.
            thread::sleep(TRY * 3 / 5);
            while head(stream).is_some() {
                let _lost = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            }
        });
    let keys = "protocol = \"auto\"\ntls = { ca = \"ca.pem\", name = \"a.test\" }";
    let top = "timeout = { connect = \"60s\", connect_try = \"5s\" }";
    let setup = Setup::new(web(&[origin.address], keys, "")).top(top);
    fs::write(setup.dir().join("ca.pem"), &authority.pem).unwrap();
    let outer = Ekiden::start(setup.workers(1));
    let mut clients: Vec<Client> = (0..3).map(|_| Client::connect(outer.address())).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    }
    all_well(clients);
    assert_eq!(origin.connections(), 3);
}
