//! HTTP/1.1 over TLS: bodies of any size, pipelining, slow readers, ends of connections, what endpoints and clients are told.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ekiden_tests::{
    Authority, Client, Echo, Ekiden, Origin, Seen, Served, Setup, free_port, pattern, until_true, web,
};
use rustls::ProtocolVersion;
use rustls::pki_types::ServerName;

use super::{HELLO, hello, setup};

struct Over {
    router: Ekiden,
    authority: Authority,
}

/// A TLS listener in front of an origin.
fn over(origin: &Origin, keys: &str, route: &str) -> Over {
    let authority = Authority::new();
    let setup = setup(&web(&[origin.address], "", route), &["site"], keys);
    authority.make(&["a.test"]).write(setup.dir(), "site");
    Over { router: Ekiden::start(setup), authority }
}

impl Over {
    fn client(&self) -> Client {
        self.authority.trusting().connect(self.router.address(), "a.test").unwrap()
    }
}

#[test]
fn bodies_of_all_sizes_go_both_ways() {
    let origin = Origin::start(|conn| {
        while let Some(request) = conn.request() {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", request.body.len());
            conn.send(head);
            conn.send(&request.body);
        }
    });
    let over = over(&origin, "", "");
    for version in [ProtocolVersion::TLSv1_2, ProtocolVersion::TLSv1_3] {
        let name = ServerName::try_from("a.test").unwrap();
        let mut client =
            Client::secure(over.router.address(), name, &over.authority.trusting().only(version)).unwrap();
        for size in [0, 1, 4095, 16_384, 16_385, 65_536, 100_000, 3 << 20] {
            let body = pattern(size);
            client.send(format!("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {size}\r\n\r\n"));
            client.send(&body);
            let response = client.response();
            assert!(response.status == 200 && response.body == body, "{version:?} {size}");
        }
    }
}

#[test]
fn chunked_bodies_and_trailers() {
    let echo = Echo::start("one");
    let over = over(echo.origin(), "", "");
    let mut client = over.client();
    let mut request = b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let body = pattern(50_000);
    for piece in body.chunks(7_001) {
        request.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        request.extend_from_slice(piece);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"0\r\nX-Sum: 1\r\n\r\n");
    client.send(&request);
    assert_eq!(client.response().status, 200);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let echo = Echo::start("one");
    let over = over(echo.origin(), "", "");
    let mut client = over.client();
    let all: String = (0..200).map(|n| format!("GET /{n} HTTP/1.1\r\nHost: a.test\r\n\r\n")).collect();
    client.send(all);
    for n in 0..200 {
        assert_eq!(Seen::from(client.response()).text("line"), format!("GET /{n} HTTP/1.1"));
    }
}

/// A head in as many records as bytes.
#[test]
fn a_head_in_single_bytes() {
    let authority = Authority::new();
    let router = hello(&authority, "");
    let mut client = authority.trusting().connect(router.address(), "a.test").unwrap();
    client.send_split(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!(client.response().text(), "hello");
}

/// What an endpoint sends in pieces arrives in pieces: nothing stays behind in the encryption.
#[test]
fn a_stream_is_not_held_back() {
    let go = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&go);
    let origin = Origin::start(move |conn| {
        if conn.request().is_some() {
            conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
            until_true("the client to have read", || gate.load(Ordering::Acquire));
            conn.send("6\r\nsecond\r\n0\r\n\r\n");
            conn.until_closed();
        }
    });
    let over = over(&origin, "", "");
    let mut client = over.client();
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!(client.head().unwrap().status, 200);
    assert_eq!(client.exactly(10).unwrap(), b"5\r\nfirst\r\n");
    go.store(true, Ordering::Release);
    assert_eq!(client.exactly(16).unwrap(), b"6\r\nsecond\r\n0\r\n\r\n");
}

/// Waits until what a client could read has not grown for many looks: the sockets are full, or all is there.
fn settled(client: &Client) -> usize {
    let (mut most, mut looks) = (0, 0);
    let mut space = vec![0; 16 << 20];
    until_true("full sockets", || {
        let waiting = client.socket().peek(&mut space).unwrap();
        looks = if waiting > most { 0 } else { looks + 1 };
        most = most.max(waiting);
        looks > 50
    });
    most
}

/// A response that is just larger than what the sockets take: its end has been encrypted and waits in the router when the
/// endpoint is done. It comes all the same, without another byte from either side.
#[test]
fn the_last_bytes_are_not_held_back() {
    let origin = Origin::start(|conn| {
        while let Some(request) = conn.request() {
            let size: usize = request.target()[1..].parse().unwrap();
            conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n"));
            conn.send(vec![7; size]);
        }
    });
    let over = over(&origin, "", "timeout = { idle = \"1s\" }");
    let mut client = over.client();
    client.send(format!("GET /{} HTTP/1.1\r\nHost: a.test\r\n\r\n", 64 << 20));
    // What was taken for a client that reads nothing.
    let taken = usize::try_from(over.router.records(1)[0]["bytes"].as_u64().unwrap()).unwrap();
    for less in [1, 16, 32, 48, 64] {
        let mut client = over.client();
        let size = taken - (less << 10);
        client.send(format!("GET /{size} HTTP/1.1\r\nHost: a.test\r\n\r\n"));
        settled(&client);
        let response = client.response();
        assert_eq!((response.status, response.body.len()), (200, size), "{less} KiB less than was taken");
    }
}

/// A reader that pauses gets every byte, and no more than the buffers is kept for it.
#[test]
fn a_slow_reader_gets_every_byte() {
    const SIZE: usize = 24 << 20;
    let origin = Origin::start(|conn| {
        if conn.request().is_some() {
            conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n"));
            conn.send(pattern(SIZE));
            conn.until_closed();
        }
    });
    let over = over(&origin, "", "");
    let mut client = over.client();
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    client.head().unwrap();
    let most = settled(&client);
    assert!(most < SIZE / 2, "{most} bytes wait: the router was never stopped");
    let mut body = Vec::new();
    while body.len() < SIZE {
        let piece = client.exactly((SIZE - body.len()).min(1 << 20)).unwrap();
        body.extend_from_slice(&piece);
    }
    assert!(body == pattern(SIZE));
}

/// A reader slower than the bound is cut off with a reset, never with close_notify: it cannot take the part for the whole.
#[test]
fn a_reader_that_stops_is_reset() {
    let origin = Origin::start(|conn| {
        if conn.request().is_some() {
            conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 64 << 20));
            conn.send(vec![0; 64 << 20]);
        }
    });
    let over = over(&origin, "", "timeout = { idle = \"500ms\" }");
    let mut client = over.client();
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let record = &over.router.records(1)[0];
    assert!(matches!(record["code"].as_str(), Some("client_idle" | "client_too_slow")), "{record}");
    client.rest();
    assert!(!client.ended_cleanly());
}

#[test]
fn ends_are_announced() {
    let origin = Origin::start(|conn| {
        while let Some(request) = conn.request() {
            match request.target() {
                "/until-close" => {
                    conn.send("HTTP/1.1 200 OK\r\n\r\nall of it");
                    return;
                }
                "/torn" => {
                    conn.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome");
                    conn.reset();
                    return;
                }
                _ => conn.answer(&request, "ok"),
            }
        }
    });
    let over = over(&origin, "limits = { keepalive_idle = \"200ms\" }", "");
    // A body that ends with the connection (HTTP/1.0) ends with close_notify.
    let mut client = over.client();
    client.send("GET /until-close HTTP/1.0\r\nHost: a.test\r\n\r\n");
    assert!(String::from_utf8(client.rest()).unwrap().ends_with("all of it"));
    assert!(client.ended_cleanly());
    // A torn one does not.
    let mut client = over.client();
    client.send("GET /torn HTTP/1.0\r\nHost: a.test\r\n\r\n");
    client.rest();
    assert!(!client.ended_cleanly());
    // `Connection: close`, and an idle end.
    for request in [
        "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
    ] {
        let mut client = over.client();
        assert_eq!(client.ask(request).status, 200);
        assert_eq!(client.rest(), b"");
        assert!(client.ended_cleanly(), "{request:?}");
    }
    // A client that says that it sends no more still gets its answer.
    let mut client = over.client();
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    client.finish();
    assert_eq!(client.response().text(), "ok");
    assert_eq!(client.rest(), b"");
    assert!(client.ended_cleanly());
}

/// Pieces of a record are no request: they do not win time.
#[test]
fn a_dripped_record_does_not_keep_a_connection_open() {
    let authority = Authority::new();
    let router = hello(&authority, "limits = { keepalive_idle = \"400ms\" }");
    let mut client = authority.trusting().connect(router.address(), "a.test").unwrap();
    assert_eq!(client.get("a.test", "/").text(), "hello");
    let begun = Instant::now();
    for byte in [0x17, 0x03, 0x03, 0x40, 0x00].into_iter().chain([0; 200]) {
        let _closed = client.socket().write(&[byte]);
        if !client.is_quiet(Duration::from_millis(50)) {
            break;
        }
    }
    assert!(begun.elapsed() < Duration::from_secs(3), "open after {:?}", begun.elapsed());
}

/// A request cut off by the end of the connection, with or without close_notify, is never passed on as whole.
#[test]
fn a_truncated_request_is_not_whole() {
    let echo = Echo::start("one");
    let over = over(echo.origin(), "", "");
    for polite in [true, false] {
        let mut client = over.client();
        client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\n12345");
        if polite {
            client.finish();
        } else {
            client.socket().shutdown(std::net::Shutdown::Write).unwrap();
        }
        client.rest();
    }
    for record in &over.router.records(2) {
        assert_eq!(record["code"], "body_truncated", "{record}");
    }
}

#[test]
fn endpoints_and_the_log_are_told() {
    let echo = Echo::start("one");
    let over = over(echo.origin(), "forwarded = true\ntrust = [\"10.0.0.0/8\"]", "");
    let mut client = over.client();
    let response = client.ask(
        "GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-Proto: http\r\nForwarded: for=1.2.3.4;proto=http\r\n\r\n",
    );
    let seen = Seen::from(response);
    assert_eq!(seen.all("x-forwarded-proto"), ["https"]);
    assert_eq!(seen.all("x-forwarded-port"), [over.router.address().port().to_string()]);
    assert_eq!(seen.all("forwarded"), ["for=127.0.0.1;host=\"a.test\";proto=https"]);
    let record = &over.router.records(1)[0];
    assert_eq!(record["tls"], true);
    assert_eq!(record["tls_version"], "TLSv1.3");
    assert!(record["tls_cipher"].as_str().unwrap().starts_with("TLS_"), "{record}");
    assert_eq!(record["sni"], "a.test");
}

#[test]
fn strict_transport_security() {
    let origin = Origin::start(|conn| {
        while let Some(request) = conn.request() {
            let own =
                if request.target() == "/own" { "strict-transport-security: max-age=7\r\n" } else { "" };
            conn.send(format!("HTTP/1.1 200 OK\r\n{own}Content-Length: 0\r\n\r\n"));
        }
    });
    let over = over(&origin, "hsts = \"max-age=31536000; includeSubDomains\"", "path = \"/\"");
    let mut client = over.client();
    for (path, wanted) in [("/", "max-age=31536000; includeSubDomains"), ("/own", "max-age=7")] {
        assert_eq!(client.get("a.test", path).all("Strict-Transport-Security"), [wanted], "{path}");
    }
    // On answers of the router's own too.
    let refused = client.ask("GET /%00 HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!(refused.status, 400);
    assert_eq!(refused.all("Strict-Transport-Security").len(), 1);
}

#[test]
fn plain_requests_are_sent_to_https() {
    for (key, authority) in [("true", "a.test"), ("443", "a.test"), ("8443", "a.test:8443")] {
        let router = Ekiden::start(Setup::new(HELLO).listener(&format!("redirect_https = {key}")));
        let mut client = router.client();
        let response =
            client.ask("POST /a%20b?c=d HTTP/1.1\r\nHost: A.test:8080\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(response.status, 308);
        assert_eq!(response.get("Location"), Some(format!("https://{authority}/a%20b?c=d").as_str()));
        let acme = client.get("a.test", "/.well-known/acme-challenge/token");
        assert_eq!(acme.text(), "hello", "an authority's question goes to the routes");
        let options = client.ask("OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n");
        assert_eq!(options.get("Location"), Some(format!("https://{authority}/").as_str()));
        assert_eq!(router.client().ask("GET / HTTP/1.0\r\n\r\n").code(), "host_missing");
    }
}

/// A redirect of a route keeps the scheme of the connection.
#[test]
fn a_route_redirects_to_the_scheme_of_the_connection() {
    let text = "[[route]]\nredirect = { path = \"/new\" }\n";
    let authority = Authority::new();
    let setup = setup(text, &["site"], "");
    authority.make(&["a.test"]).write(setup.dir(), "site");
    let router = Ekiden::start(setup);
    let mut client = authority.trusting().connect(router.address(), "a.test").unwrap();
    let location = client.get("a.test", "/").get("Location").unwrap_or_default().to_owned();
    assert!(location.starts_with("https://a.test") || location.starts_with('/'), "{location}");
}

/// SIGTERM: an answer in flight ends, idle connections end with close_notify, a handshake under way is served.
#[test]
fn a_drain_ends_connections_in_order() {
    let go = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&go);
    let asked = Arc::new(AtomicBool::new(false));
    let came = Arc::clone(&asked);
    let origin = Origin::start(move |conn| {
        while let Some(request) = conn.request() {
            if request.target() == "/slow" {
                came.store(true, Ordering::Release);
                until_true("the drain", || gate.load(Ordering::Acquire));
            }
            conn.answer(&request, "done");
        }
    });
    let authority = Authority::new();
    let setup = setup(&web(&[origin.address], "", ""), &["site"], "").top("drain_grace = \"0s\"");
    authority.make(&["a.test"]).write(setup.dir(), "site");
    let mut router = Ekiden::start(setup);
    let connect = || authority.trusting().connect(router.address(), "a.test").unwrap();
    let (mut idle, mut busy) = (connect(), connect());
    assert_eq!(idle.get("a.test", "/").text(), "done");
    busy.send("GET /slow HTTP/1.1\r\nHost: a.test\r\n\r\n");
    until_true("the slow request", || asked.load(Ordering::Acquire));
    router.terminate();
    assert_eq!(idle.rest(), b"");
    assert!(idle.ended_cleanly());
    go.store(true, Ordering::Release);
    assert_eq!(busy.response().text(), "done");
    assert_eq!(busy.rest(), b"");
    assert!(busy.ended_cleanly());
    assert!(router.wait().success());
}

#[test]
fn a_unix_listener_can_have_tls_too() {
    let port = free_port();
    let authority = Authority::new();
    let text = format!(
        "[listener.unix]\naddress = \"unix:/tmp/ekiden-tls-{port}.sock\"\ntls = {{ cert = \"site.pem\", key = \"site.key\" }}\n{HELLO}"
    );
    let setup = setup(&text, &["site"], "");
    authority.make(&["a.test"]).write(setup.dir(), "site");
    let router = Ekiden::start(setup);
    let mut curl = std::process::Command::new("curl");
    curl.args(["-sSk", "--unix-socket", &format!("/tmp/ekiden-tls-{port}.sock"), "https://a.test/"]);
    assert_eq!(String::from_utf8_lossy(&ekiden_tests::finished(&mut curl).stdout), "hello");
    drop(router);
}
