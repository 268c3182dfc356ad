//! Headers to endpoints: one for each connection, and each connection for one client.

use ekiden_tests::{Authority, Client, Ekiden, InProcess, Origin, Received, Served, Setup, until, web};

/// An origin that reads a line of version 1 before each connection's requests and answers with it.
fn reading_lines() -> Origin {
    Origin::start(|conn| {
        let Some(line) = conn.line_of_text() else { return };
        while let Some(request) = conn.request() {
            conn.answer(&request, &line);
        }
    })
}

fn line(client: &Client) -> String {
    let (from, to) = (client.socket().local_addr().unwrap(), client.socket().peer_addr().unwrap());
    format!("PROXY TCP4 {} {} {} {}", from.ip(), to.ip(), from.port(), to.port())
}

#[test]
fn a_line_tells_of_the_client_and_its_connection_serves_nobody_else() {
    let origin = reading_lines();
    let router = InProcess::start(Setup::new(web(&[origin.address], "send_proxy = \"v1\"", "")));
    let mut clients = [router.client(), router.client()];
    for turn in 0..3 {
        for client in &mut clients {
            assert_eq!(client.get("a", "/").text(), line(client), "{turn}");
        }
    }
    let connections = origin.connections();
    for number in 1..=connections {
        let received = String::from_utf8(origin.received(number)).unwrap();
        assert_eq!(received.matches("PROXY TCP4").count(), 1, "{received}");
        let ports = clients.iter().filter(|client| received.contains(&line(client))).count();
        assert_eq!(ports, 1, "{received}");
    }
}

/// A pool from before the header was asked for is not used.
#[test]
fn connections_from_before_a_change_are_not_used() {
    let origin = Origin::start(|conn| {
        while let Some(request) = conn.head() {
            conn.answer(&request, "plain");
        }
    });
    let mut router = InProcess::start(Setup::new(web(&[origin.address], "", "")));
    let mut client = router.client();
    assert_eq!(client.get("a", "/").text(), "plain");
    router.publish(&web(&[origin.address], "send_proxy = \"v1\"", ""));
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    origin.wait_connections(2);
    origin.wait_received(2, 10);
    assert!(origin.received(2).starts_with(b"PROXY TCP4 "));
}

/// The binary header, taken apart: addresses and values.
fn parts(bytes: &[u8]) -> (Vec<u8>, Vec<(u8, Vec<u8>)>) {
    assert_eq!(bytes[..14], *b"\r\n\r\n\0\r\nQUIT\n\x21\x11");
    let length = usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    let block = &bytes[16..16 + length];
    let (addresses, mut rest) = block.split_at(12);
    let mut values = Vec::new();
    while let [kind, high, low, more @ ..] = rest {
        let (value, after) = more.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        values.push((*kind, value.to_vec()));
        rest = after;
    }
    (addresses.to_vec(), values)
}

#[test]
fn the_binary_header_tells_of_the_handshake_and_the_request() {
    let origin = Origin::start(|conn| {
        let fixed = conn.exactly(16).unwrap();
        conn.exactly(usize::from(u16::from_be_bytes([fixed[14], fixed[15]])));
        let request: Received = conn.request().unwrap();
        conn.answer(&request, request.get("x-request-id").unwrap_or(""));
    });
    let authority = Authority::new();
    let setup = Setup::new(web(&[origin.address], "send_proxy = \"v2\"", ""))
        .listener("tls = { cert = \"site.pem\", key = \"site.key\" }");
    authority.make(&["a.test"]).write(setup.dir(), "site");
    let router = Ekiden::start(setup);
    let mut config = (*authority.trusting().config(rustls::ALL_VERSIONS)).clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let name = rustls::pki_types::ServerName::try_from("a.test").unwrap();
    let mut client = Client::secure(router.address(), name, &std::sync::Arc::new(config)).unwrap();
    let id = client.get("a.test", "/").text();
    let (addresses, values) = parts(&origin.received(1));
    let (from, to) = (client.socket().local_addr().unwrap(), client.socket().peer_addr().unwrap());
    let ports = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
    assert_eq!(addresses, [&[127, 0, 0, 1, 127, 0, 0, 1], ports.as_slice()].concat());
    assert_eq!(
        values,
        [(1, b"http/1.1".to_vec()), (2, b"a.test".to_vec()), (5, id.into_bytes())],
        "ALPN, host, request id"
    );
}

/// A chain: what one router was told, it tells the next.
#[test]
fn the_client_of_a_header_is_passed_on() {
    let origin = reading_lines();
    let setup = Setup::new(web(&[origin.address], "send_proxy = \"v1\"", ""));
    let router = InProcess::start(setup.listener("accept_proxy = [\"127.0.0.1\"]"));
    let mut client = router.client();
    client.send("PROXY TCP6 2001:db8::1 ::1 4000 80\r\n");
    let text = client.get("a", "/").text();
    // The address that was connected to is the router's own, in the family of the client's.
    let port = router.address().port();
    assert_eq!(text, format!("PROXY TCP6 2001:db8::1 ::ffff:127.0.0.1 4000 {port}"));
}

#[test]
fn checks_say_that_they_are_the_routers_own() {
    for (version, header) in [("v1", &b"PROXY UNKNOWN\r\n"[..]), ("v2", b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0")] {
        let origin = Origin::start(move |conn| {
            if conn.exactly(header.len()).as_deref() == Some(header)
                && let Some(request) = conn.request()
            {
                conn.answer(&request, "well");
            }
        });
        let keys = format!("send_proxy = \"{version}\"\nprobe = {{ path = \"/healthz\" }}");
        let router = InProcess::start(Setup::new(web(&[origin.address], &keys, "")));
        router.wait_state("web", "ready");
        until("a check behind a header", || {
            origin.received(1).starts_with(&[header, b"GET /healthz"].concat()).then_some(())
        });
    }
}
