//! Headers from those in front: the client that they name counts everywhere; what is no header is refused.

use ekiden_tests::{Client, Echo, InProcess, Lost, Seen, Served, Setup, until, web};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const V1: &str = "PROXY TCP4 203.0.113.7 127.0.0.1 4000 80\r\n";

fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    bytes.extend([command, family, 0, u8::try_from(block.len()).unwrap()]);
    bytes.extend(block);
    bytes
}

/// A router that believes loopback.
fn serve(echo: &Echo, listener: &str, route: &str) -> InProcess {
    let setup = Setup::new(web(&[echo.address], "", route));
    InProcess::start(setup.listener("accept_proxy = [\"127.0.0.0/8\"]").listener(listener))
}

fn ask(client: &mut Client) -> Seen {
    Seen::from(client.ask(GET))
}

#[test]
fn the_client_is_the_one_that_the_header_names() {
    let echo = Echo::start("one");
    let router = serve(&echo, "", "");
    let v6 = [[0x20; 16].as_slice(), &[0; 16], &[0x12, 0x34, 0, 80]].concat();
    let rows: [(&str, Vec<u8>, &str, &str); 5] = [
        ("v1", V1.into(), "203.0.113.7", "203.0.113.7:4000"),
        ("v1 of IPv6", "PROXY TCP6 2001:db8::1 ::1 4000 80\r\n".into(), "2001:db8::1", "[2001:db8::1]:4000"),
        ("v2", v2(0x21, 0x11, &[203, 0, 113, 8, 127, 0, 0, 1, 0, 9, 0, 80]), "203.0.113.8", "203.0.113.8:9"),
        (
            "v2 of IPv6",
            v2(0x21, 0x21, &v6),
            "2020:2020:2020:2020:2020:2020:2020:2020",
            "[2020:2020:2020:2020:2020:2020:2020:2020]:4660",
        ),
        // Values behind the addresses are skipped.
        (
            "v2 with values",
            v2(0x21, 0x11, &[203, 0, 113, 8, 127, 0, 0, 1, 0, 9, 0, 80, 0xe0, 0, 1, 7]),
            "203.0.113.8",
            "203.0.113.8:9",
        ),
    ];
    for (number, (name, header, address, peer)) in rows.into_iter().enumerate() {
        for split in [false, true] {
            let mut client = router.client();
            let bytes = [header.as_slice(), GET.as_bytes()].concat();
            if split {
                client.send_split(&bytes)
            } else {
                client.send(&bytes)
            }
            let seen = Seen::from(client.response());
            assert_eq!(seen.field("x-forwarded-for").as_deref(), Some(address), "{name} {split}");
            // For the whole connection, not for its first request.
            assert_eq!(ask(&mut client).field("x-forwarded-for").as_deref(), Some(address), "{name} {split}");
            let count = (number * 2 + usize::from(split)) * 2;
            for record in &router.records(count + 2)[count..] {
                assert_eq!(record["client"], peer, "{name} {split}");
            }
        }
    }
    for (name, header) in [
        ("unknown", b"PROXY UNKNOWN\r\n".to_vec()),
        ("local", v2(0x20, 0x11, &[203, 0, 113, 8, 127, 0, 0, 1, 0, 9, 0, 80])),
        ("unspecified", v2(0x21, 0x00, &[])),
    ] {
        let mut client = router.client();
        client.send(&header);
        assert_eq!(ask(&mut client).field("x-forwarded-for").as_deref(), Some("127.0.0.1"), "{name}");
    }
}

#[test]
fn it_is_the_client_of_allow_lists_limits_and_trust() {
    let echo = Echo::start("one");
    let keys = "allow = { clients = [\"203.0.113.0/24\"] }\nlimit = [{ rate = \"1/h\", key = \"client\" }]";
    let router = serve(&echo, "trust = [\"203.0.113.0/24\"]", keys);
    let from = |address: &str, fields: &str| {
        let mut client = router.client();
        client.send(format!("PROXY TCP4 {address} 127.0.0.1 4000 80\r\n"));
        client.ask(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))
    };
    assert_eq!(from("198.51.100.1", "").code(), "client_denied");
    // A trusted proxy behind the balancer: its forwarding fields are believed, as they are not from loopback.
    let response = from("203.0.113.7", "X-Forwarded-For: 203.0.113.9\r\n");
    assert_eq!(response.status, 200);
    let seen = Seen::from(response);
    assert_eq!(seen.field("x-forwarded-for").as_deref(), Some("203.0.113.9, 203.0.113.7"));
    assert_eq!(from("203.0.113.9", "").code(), "rate_limited");
    assert_eq!(from("203.0.113.10", "").status, 200);
}

#[test]
fn connections_are_counted_for_it() {
    let echo = Echo::start("one");
    let router = serve(&echo, "max_connections_per_client = 1", "");
    let mut first = router.client();
    first.send(V1);
    assert_eq!(ask(&mut first).field("x-forwarded-for").as_deref(), Some("203.0.113.7"));
    let mut second = router.client();
    second.send([V1, GET].concat());
    assert!(second.rest().is_empty() && second.was_reset(), "two connections of one client");
    let mut other = router.client();
    other.send(V1.replace(".7", ".8"));
    assert_eq!(ask(&mut other).field("x-forwarded-for").as_deref(), Some("203.0.113.8"));
    // The place is free again once the first has gone.
    drop(first);
    until("a free place", || {
        let mut again = router.client();
        again.send([V1, GET].concat());
        again.read(false).ok().filter(|response| response.status == 200)
    });
}

#[test]
fn what_is_no_header_is_refused() {
    let echo = Echo::start("one");
    let router = serve(&echo, "limits = { head_deadline = \"500ms\" }", "");
    let rows: [(&str, &[u8], &str, u16); 6] = [
        ("none", GET.as_bytes(), "proxy_header_malformed", 400),
        ("half a line", b"PROXY TCP4 203.0.113.7", "proxy_header_timeout", 408),
        ("half a signature", b"\r\n\r\n\0\r\nQ", "proxy_header_timeout", 408),
        ("another family", b"PROXY TCP5 203.0.113.7 127.0.0.1 4000 80\r\n", "proxy_header_malformed", 400),
        ("another version", b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c", "proxy_header_malformed", 400),
        ("a long one", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff", "proxy_header_malformed", 400),
    ];
    for (number, (name, bytes, code, status)) in rows.into_iter().enumerate() {
        let mut client = router.client();
        client.send(bytes);
        let response = client.response();
        assert_eq!((response.code(), response.status), (code, status), "{name}");
        assert!(response.says_close() && client.rest().is_empty(), "{name}");
        let record = router.records(number + 1).remove(number);
        assert_eq!((&record["code"], &record["status"]), (&code.into(), &status.into()), "{name}");
    }
    // A check of the balancer connects and says nothing, or leaves: neither is a request.
    let mut silent = router.client();
    assert_eq!(silent.read(false), Err(Lost::Closed));
    let mut leaving = router.client();
    leaving.finish();
    assert_eq!(leaving.read(false), Err(Lost::Closed));
    let mut cut = router.client();
    cut.send("PROXY TCP4");
    cut.finish();
    assert_eq!(cut.response().code(), "proxy_header_malformed");
    assert_eq!(router.records(7).len(), 7);
    assert_eq!(echo.connections(), 0, "nothing was passed on");
}

/// Those that are not listed are clients: a header of theirs is a malformed request, and forges nothing.
#[test]
fn others_are_not_believed() {
    let echo = Echo::start("one");
    for listed in ["accept_proxy = [\"203.0.113.0/24\", \"unix\"]", ""] {
        let setup = Setup::new(web(&[echo.address], "", "")).listener(listed);
        let router = InProcess::start(setup);
        assert_eq!(ask(&mut router.client()).field("x-forwarded-for").as_deref(), Some("127.0.0.1"));
        assert_eq!(router.ask(&[V1, GET].concat()).status, 400);
    }
}

#[test]
fn peers_of_a_unix_socket_may_be_listed() {
    use std::io::{Read, Write};
    let echo = Echo::start("one");
    let setup = Setup::new(String::new());
    let path = setup.dir().join("edge.sock");
    let text = format!(
        "[listener.local]\naddress = \"unix:{}\"\naccept_proxy = [\"unix\"]\n{}",
        path.display(),
        web(&[echo.address], "", "")
    );
    let mut router = InProcess::start(setup);
    router.publish(&text);
    let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
    stream
        .write_all([V1, &GET.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")].concat().as_bytes())
        .unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    assert!(response.contains("203.0.113.7"), "{response}");
    assert_eq!(router.records(1)[0]["client"], "203.0.113.7:4000");
}

/// HTTP/2 in clear text behind a header is told apart as ever.
#[test]
fn http2_may_follow() {
    let echo = Echo::start("one");
    let router = serve(&echo, "h2c = true", "");
    let mut client = router.client();
    client.send([V1.as_bytes(), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"].concat());
    // SETTINGS of the router come first.
    assert_eq!(client.exactly(9).unwrap()[3], 4);
    let mut plain = router.client();
    plain.send(V1);
    assert_eq!(ask(&mut plain).field("x-forwarded-for").as_deref(), Some("203.0.113.7"));
}
