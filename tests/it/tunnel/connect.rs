//! Tunnels by CONNECT: only where a route allows it, only to that route's cluster, from clients of both versions.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use ekiden_tests::http2::{END, END_HEADERS, Frames, fields, kind, talk};
use ekiden_tests::{
    Client, Echo, Ekiden, InProcess, Origin, Served, Setup, cluster, finished, free_port, until, until_true,
    web,
};
use h2::Reason;
use http::header::HOST;
use http::{HeaderValue, Method, Request};

use super::{echo, record};

const ROUTE: &str = "host = \"db.test\"\nconnect = [5432, 6432]";

/// An endpoint that is no server of HTTP: it speaks first, and gives back what it gets.
fn database() -> Origin {
    Origin::start(|conn| {
        conn.send("first");
        echo(conn);
        conn.finish();
    })
}

fn serve(origin: &Origin, route: &str) -> InProcess {
    InProcess::start(Setup::new(web(&[origin.address], "", route)).listener("h2c = true"))
}

fn ask(authority: &str) -> String {
    format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n")
}

#[test]
fn a_tunnel_to_the_cluster_of_the_route() {
    let origin = database();
    let router = serve(&origin, ROUTE);
    for version in ["1.1", "1.0"] {
        let mut client = router.client();
        client.send(format!("CONNECT DB.test:5432 HTTP/{version}\r\nHost: db.test\r\n\r\nearly"));
        let head = client.head().unwrap();
        assert_eq!(head.status, 200);
        // Neither has a meaning there, and some clients would wait for a body.
        assert_eq!((head.get("content-length"), head.get("transfer-encoding")), (None, None));
        assert_eq!(client.exactly(10).unwrap(), b"firstearly");
        client.send("hello");
        assert_eq!(client.exactly(5).unwrap(), b"hello");
        // The end of one side is passed on, and the other may go on.
        client.finish();
        assert!(client.rest().is_empty());
    }
    let records = router.records(2);
    for record in records {
        let said = [&record["code"], &record["method"], &record["path"]].map(|value| value.as_str().unwrap());
        assert_eq!(said, ["complete", "CONNECT", "DB.test:5432"], "{record}");
        assert_eq!(record["status"], 200);
    }
}

#[test]
fn a_stream_of_http2_is_a_tunnel() {
    let origin = database();
    let router = serve(&origin, ROUTE);
    talk(router.address(), async |client| {
        let mut client = client.ready().await.unwrap();
        let request = Request::builder().method(Method::CONNECT).uri("db.test:6432").body(()).unwrap();
        let (response, mut send) = client.send_request(request, false).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(!response.headers().contains_key("content-length"));
        send.send_data(Bytes::from_static(b"hello"), true).unwrap();
        let (mut body, mut got) = (response.into_body(), Vec::new());
        while let Some(piece) = body.data().await {
            let piece = piece.unwrap();
            body.flow_control().release_capacity(piece.len()).unwrap();
            got.extend_from_slice(&piece);
        }
        assert_eq!(got, b"firsthello");
    });
    assert_eq!(record(&router), ("complete".to_owned(), 200));
}

/// RFC 9113 section 8.5: a reset of the endpoint's connection, and frames that a tunnel may not carry.
#[test]
fn a_stream_that_cannot_end_in_order_is_reset() {
    let origin = Origin::start(|conn| {
        conn.send("first");
        let said = conn.exactly(5).unwrap_or_default();
        if said == b"reset" {
            return conn.reset();
        }
        conn.send(said);
        echo(conn);
    });
    let router = serve(&origin, ROUTE);
    talk(router.address(), async |client| {
        for (said, reason) in [("reset", Reason::CONNECT_ERROR), ("stays", Reason::PROTOCOL_ERROR)] {
            let mut client = client.clone().ready().await.unwrap();
            let request = Request::builder().method(Method::CONNECT).uri("db.test:6432").body(()).unwrap();
            let (response, mut send) = client.send_request(request, false).unwrap();
            let mut body = response.await.unwrap().into_body();
            assert_eq!(body.data().await.unwrap().unwrap(), "first");
            send.send_data(said.into(), false).unwrap();
            if reason == Reason::PROTOCOL_ERROR {
                assert_eq!(body.data().await.unwrap().unwrap(), said);
                send.send_trailers([(HOST, HeaderValue::from_static("a"))].into_iter().collect()).unwrap();
            }
            let error = loop {
                match body.data().await {
                    Some(Ok(_)) => {}
                    end => break end.expect("no end in order").unwrap_err(),
                }
            };
            assert_eq!(error.reason(), Some(reason), "{said}");
        }
    });
    for record in router.records(2) {
        assert_ne!(record["code"], "complete", "{record}");
    }
}

/// A tunnel that waits for the socket of its client hears that the client has gone.
#[test]
fn a_client_that_does_not_read_and_leaves_is_missed() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let origin = Origin::start(move |conn| {
        let piece = vec![b'x'; 64 << 10];
        while conn.send(&piece) {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    let router = serve(&origin, ROUTE);
    let mut client = Frames::connect(router.address());
    // Windows without an end.
    client.send(kind::SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]);
    client.send(kind::WINDOW_UPDATE, 0, 0, &0x7fff_0000_u32.to_be_bytes());
    let head = fields(&[(":method", b"CONNECT"), (":authority", b"db.test:5432")]);
    client.send(kind::HEADERS, END | END_HEADERS, 1, &head);
    // Until the endpoint cannot send any more: nobody reads, and the client has said all it has to say.
    let (mut before, mut same) = (0, 0);
    until_true("a socket that is full", || {
        let now = sent.load(Ordering::Relaxed);
        same = if now > 0 && std::mem::replace(&mut before, now) == now { same + 1 } else { 0 };
        same > 20
    });
    drop(client);
    origin.over(1);
    let (code, status) = record(&router);
    assert_eq!((code.as_str(), status), ("client_gone", 200));
}

/// By default, on other ports and hosts, and where the target is none.
#[test]
fn what_no_route_allows_is_refused() {
    let origin = database();
    let router = serve(&origin, ROUTE);
    let plain = serve(&origin, "host = \"db.test\"");
    let refused = |router: &InProcess, head: &str, status: u16, code: &str| {
        let mut client = router.client();
        // What stands behind it was meant for a tunnel, and is no request.
        client.send([head, "GET /smuggled HTTP/1.1\r\nHost: db.test\r\n\r\n"].concat());
        let response = client.response();
        assert_eq!((response.status, response.code()), (status, code), "{head}");
        assert!(client.rest().is_empty(), "{head}");
    };
    refused(&plain, &ask("db.test:5432"), 405, "method_refused");
    for authority in ["db.test:5433", "db.test:22", "other.test:5432", "127.0.0.1:5432", "db.test", "/"] {
        refused(&router, &ask(authority), 405, "method_refused");
    }
    let head = "CONNECT db.test:5432 HTTP/1.1\r\nHost: other.test:5432\r\n\r\n";
    refused(&router, head, 400, "authority_mismatch");
    for (field, code) in
        [("Content-Length: 5", "length_invalid"), ("Transfer-Encoding: chunked", "transfer_encoding_invalid")]
    {
        let head = format!("CONNECT db.test:5432 HTTP/1.1\r\nHost: db.test:5432\r\n{field}\r\n\r\n");
        refused(&router, &head, 400, code);
    }
    talk(router.address(), async |mut client| {
        for (authority, status) in [("db.test:5433", 405), ("other.test:5432", 405)] {
            client = client.ready().await.unwrap();
            let request = Request::builder().method(Method::CONNECT).uri(authority).body(()).unwrap();
            let (response, _send) = client.send_request(request, false).unwrap();
            assert_eq!(response.await.unwrap().status(), status, "{authority}");
        }
    });
    // Where all is sent to https a tunnel has no place.
    let sent_on = Setup::new(web(&[origin.address], "", ROUTE)).listener("redirect_https = true");
    refused(&InProcess::start(sent_on), &ask("db.test:5432"), 405, "method_refused");
    assert_eq!(origin.connections(), 0, "nothing of it reached an endpoint");
}

/// A name or an address that the client writes leads nowhere: it chooses the route, and the route's cluster is the other end.
#[test]
fn an_address_of_the_clients_choice_is_never_connected_to() {
    let (origin, secret) = (database(), Origin::hello("secret"));
    let port = secret.address.port();
    let router = serve(&origin, &format!("connect = [{port}]"));
    let mut client = router.client();
    client.send(ask(&secret.address.to_string()));
    assert_eq!(client.head().unwrap().status, 200);
    assert_eq!(client.exactly(5).unwrap(), b"first");
    assert_eq!((origin.connections(), secret.connections()), (1, 0));
}

#[test]
fn where_there_is_no_endpoint_the_client_is_told() {
    let gone = free_port();
    let text = cluster("web", &[([127, 0, 0, 1], gone).into()], "")
        + &format!("[[route]]\ncluster = \"web\"\n{ROUTE}\n");
    let router = InProcess::start(Setup::new(text));
    let mut client = router.client();
    client.send(ask("db.test:5432"));
    let response = client.response();
    assert_eq!((response.status, response.code()), (503, "connect_refused"));
    assert!(client.rest().is_empty());
    assert_eq!(record(&router), ("connect_refused".to_owned(), 503));
}

#[test]
fn an_idle_tunnel_ends() {
    let origin = database();
    let router = serve(&origin, &format!("{ROUTE}\ntimeout = {{ tunnel = \"300ms\" }}"));
    let mut client = router.client();
    client.send(ask("db.test:5432"));
    assert_eq!(client.head().unwrap().status, 200);
    assert_eq!(client.rest(), b"first");
    assert_eq!(record(&router), ("tunnel_idle".to_owned(), 200));
}

/// The route is a rule like any other: it may ask for credentials, bound clients and count.
#[test]
fn steps_of_the_route_come_first() {
    let origin = database();
    let router = serve(&origin, &format!("{ROUTE}\ndeny = {{ clients = [\"127.0.0.0/8\"] }}"));
    let mut client = router.client();
    client.send(ask("db.test:5432"));
    assert_eq!(client.response().code(), "client_denied");
    let router = serve(&origin, &format!("{ROUTE}\nlimit = [{{ rate = \"1/h\" }}]"));
    let mut first = router.client();
    first.send(ask("db.test:5432"));
    assert_eq!(first.head().unwrap().status, 200);
    let mut second = router.client();
    second.send(ask("db.test:5432"));
    assert_eq!(second.response().code(), "rate_limited");
}

/// As a proxy that tunnels, for the client that most people have.
#[test]
fn curl_through_a_tunnel() {
    let app = Echo::start("one");
    let text = web(&[app.origin().address], "", "host = \"app.test\"\nconnect = [8000]");
    let router = Ekiden::start(Setup::new(text));
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--max-time", "30", "--proxytunnel", "-x", &router.address().to_string()]);
    let output = finished(curl.arg("http://app.test:8000/inside"));
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("/inside"), "{output:?}");
    // The request inside is the endpoint's own: the router has one record, that of the tunnel.
    let record = until("a record", || router.records(0).into_iter().next());
    assert_eq!((&record["method"], &record["status"]), (&"CONNECT".into(), &200.into()), "{record}");
}

#[test]
fn an_open_tunnel_counts_until_it_ends() {
    let origin = database();
    let router = Ekiden::start(Setup::new(web(&[origin.address], "", ROUTE)));
    let mut client = Client::connect(router.address());
    client.send(ask("db.test:5432"));
    assert_eq!(client.head().unwrap().status, 200);
    let open = || router.metric("ekiden_requests_in_flight", &[]);
    until("the tunnel in flight", || (open() > 0.5).then_some(()));
    client.finish();
    assert_eq!(client.rest(), b"first");
    until("its end", || (open() < 0.5).then_some(()));
}
