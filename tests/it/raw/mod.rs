//! Listeners that carry no HTTP: bytes to one cluster, and TLS that the endpoint ends, routed by the host that its client
//! names. The same pickers, limits, lists and records as for requests.

use std::net::SocketAddr;

use ekiden_tests::{
    Authority, Client, Conn, Echo, Ekiden, InProcess, Origin, Served, Setup, cluster, free_port, pattern,
    until, web,
};

/// Gives back every byte until the other side ends.
fn echo(conn: &mut Conn) {
    while let Some(byte) = conn.exactly(1) {
        if !conn.send(byte) {
            return;
        }
    }
}

/// A listener beside `edge`, and where it is.
fn listener(keys: &str) -> (String, SocketAddr) {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    (format!("[listener.raw]\naddress = \"{address}\"\n{keys}\n"), address)
}

fn tcp(clusters: &str, listener_keys: &str, route_keys: &str) -> (InProcess, SocketAddr) {
    let (listener, address) = listener(&format!("protocol = \"tcp\"\n{listener_keys}"));
    let route = format!("[[route]]\nlisteners = [\"raw\"]\ncluster = \"db\"\n{route_keys}\n");
    (InProcess::start(Setup::new([listener, clusters.to_owned(), route].concat())), address)
}

#[test]
fn bytes_go_both_ways_and_leave_a_record() {
    let origin = Origin::start(|conn| {
        conn.send("220 ready\r\n");
        let all = conn.exactly(3 << 20).unwrap();
        conn.send(all);
        conn.until_closed();
        conn.send("bye");
    });
    let (router, address) = tcp(&cluster("db", &[origin.address], ""), "", "name = \"sql\"");
    let mut client = Client::connect(address);
    // The server speaks first.
    assert_eq!(client.exactly(11).unwrap(), b"220 ready\r\n");
    let bytes = pattern(3 << 20);
    client.send(&bytes);
    assert!(client.exactly(bytes.len()).unwrap() == bytes);
    client.finish();
    assert_eq!(client.rest(), b"bye");
    let record = router.records(1).remove(0);
    let text = |key: &str| record[key].as_str().unwrap_or("").to_owned();
    assert_eq!(
        (text("code"), text("protocol"), text("listener")),
        ("complete".into(), "tcp".into(), "raw".into())
    );
    assert_eq!(
        (text("route"), text("cluster"), text("dyno")),
        ("sql".into(), "db".into(), origin.address.to_string())
    );
    assert_eq!(text("client"), client.socket().local_addr().unwrap().to_string());
    let number = |key: &str| record[key].as_u64().unwrap();
    assert_eq!((number("bytes_in"), number("bytes")), (3 << 20, (3 << 20) + 14), "{record}");
}

/// What is much is not copied, and arrives all the same: from both sides at once, with readers that pause, to the last byte.
#[test]
fn much_goes_through_the_kernel_alone() {
    const MUCH: usize = 24 << 20;
    let origin = Origin::start(|conn| {
        let bytes = pattern(MUCH);
        for piece in bytes.chunks(1 << 20) {
            // Reads as it writes: neither side waits for the other.
            assert!(conn.exactly(piece.len()).is_some_and(|got| got == piece));
            conn.send(piece);
        }
        conn.until_closed();
        conn.send(&bytes);
    });
    let (listener, address) = listener("protocol = \"tcp\"");
    let text = cluster("db", &[origin.address], "") + "[[route]]\nlisteners = [\"raw\"]\ncluster = \"db\"\n";
    let router = Ekiden::start(Setup::new(listener + &text));
    let mut client = Client::connect(address);
    let bytes = pattern(MUCH);
    for piece in bytes.chunks(1 << 20) {
        client.send(piece);
        assert!(client.exactly(piece.len()).unwrap() == piece);
    }
    client.finish();
    assert!(client.rest() == bytes, "the end of one side is passed on, and the other goes on");
    let record = until("a record", || router.records(0).into_iter().next());
    let number = |key: &str| record[key].as_u64().unwrap();
    assert_eq!((number("bytes_in"), number("bytes")), (MUCH as u64, 2 * MUCH as u64), "{record}");
    assert_eq!(record["code"], "complete");
    let spliced = router.metric("ekiden_tunnel_spliced_bytes_total", &[]);
    assert!(spliced > (3 * MUCH - (4 << 20)) as f64, "{spliced}");
}

/// Who resets in the middle of much is passed on as a reset, and the other way round.
#[test]
fn a_reset_of_much_is_passed_on() {
    let origin = Origin::start(|conn| while conn.send([7; 64 << 10]) {});
    let (_router, address) = tcp(&cluster("db", &[origin.address], ""), "", "");
    let mut client = Client::connect(address);
    assert_eq!(client.exactly(4 << 20).unwrap().len(), 4 << 20);
    client.reset();
    origin.over(1);
}

/// Routes of HTTP do not apply there, nor its routes to HTTP.
#[test]
fn each_listener_has_its_own_routes() {
    let (db, site) = (Origin::start(echo), Origin::hello("site"));
    let clusters = [cluster("db", &[db.address], ""), web(&[site.address], "", "")].concat();
    let (router, address) = tcp(&clusters, "", "");
    assert_eq!(router.get("/").text(), "site");
    let mut client = Client::connect(address);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.exactly(27).unwrap(), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
}

#[test]
fn another_endpoint_is_tried_and_none_is_told() {
    let origin = Origin::start(echo);
    let refusing = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let clusters = cluster("db", &[refusing, origin.address], "balance = \"round_robin\"");
    let (router, address) = tcp(&clusters, "", "");
    for number in 1..=4 {
        let mut client = Client::connect(address);
        client.send("x");
        assert_eq!(client.exactly(1).unwrap(), b"x");
        drop(client);
        router.records(number);
    }
    assert!(router.records(4).iter().any(|record| record["retry_cause"] == "connect_refused"));
    let (router, address) = tcp(&cluster("db", &[refusing], ""), "", "");
    let mut client = Client::connect(address);
    assert!(client.rest().is_empty() && client.was_reset());
    assert_eq!(router.records(1)[0]["code"], "connect_refused");
}

#[test]
fn lists_and_limits_hold() {
    let origin = Origin::start(echo);
    let db = cluster("db", &[origin.address], "");
    let refused = |listener_keys: &str, route_keys: &str, code: &str, good: usize| {
        let (router, address) = tcp(&db, listener_keys, route_keys);
        for _ in 0..good {
            let mut client = Client::connect(address);
            client.send("x");
            assert_eq!(client.exactly(1).unwrap(), b"x");
        }
        let mut client = Client::connect(address);
        assert!(client.rest().is_empty());
        until(code, || router.records(0).iter().any(|record| record["code"] == code).then_some(()));
    };
    refused("deny = { clients = [\"127.0.0.0/8\"] }", "", "client_denied", 0);
    refused("", "deny = { clients = [\"127.0.0.0/8\"] }", "client_denied", 0);
    refused("limit = [{ rate = \"2/h\", key = \"client\" }]", "", "rate_limited", 2);
    refused("", "limit = [{ rate = \"1/h\" }]", "rate_limited", 1);
    refused("", "timeout = { tunnel = \"300ms\" }", "tunnel_idle", 0);
}

/// Two routers with certificates of their own, behind one that looks at the name alone.
#[test]
fn tls_is_routed_by_the_name_it_asks_for() {
    let authority = Authority::new();
    let ends = ["one", "two"].map(|name| {
        let echo = Echo::start(name);
        let setup = Setup::new(web(&[echo.address], "", ""))
            .listener("tls = { cert = \"site.pem\", key = \"site.key\" }\naccept_proxy = [\"127.0.0.1\"]");
        authority.make(&[&format!("{name}.test"), "*.many.test"]).write(setup.dir(), "site");
        (Ekiden::start(setup), echo)
    });
    let (listener, address) = listener("protocol = \"tls-passthrough\"");
    let of = |name: &str, host: &str| {
        format!("[[route]]\nlisteners = [\"raw\"]\nhost = \"{host}\"\ncluster = \"{name}\"\n")
    };
    let keys = "send_proxy = \"v2\"";
    let text = [
        listener,
        cluster("one", &[ends[0].0.address()], keys),
        cluster("two", &[ends[1].0.address()], keys),
        of("one", "one.test"),
        of("two", "two.test"),
        of("two", "*.many.test"),
    ];
    let router = Ekiden::start(Setup::new(text.concat()));
    for (host, end, number) in [("one.test", 0, 0), ("two.test", 1, 0), ("a.many.test", 1, 1)] {
        let mut client = authority.trusting().connect(address, host).unwrap();
        let local = client.socket().local_addr().unwrap().to_string();
        assert_eq!(client.get(host, "/").status, 200, "{host}");
        drop(client);
        // What the endpoint was told is the client itself.
        assert_eq!(ends[end].0.records(number + 1)[number]["client"], *local, "{host}");
        let record =
            until("its record", || router.records(0).into_iter().find(|record| record["client"] == *local));
        assert_eq!(
            (&record["host"], &record["protocol"]),
            (&host.into(), &"tls-passthrough".into()),
            "{record}"
        );
    }
    // Nobody is known by this name, and the client is told.
    let error = authority.trusting().connect(address, "other.test").map(drop).unwrap_err();
    assert!(error.to_string().contains("Unrecogni"), "{error}");
    until("its refusal", || {
        router.records(0).iter().any(|record| record["code"] == "no_route").then_some(())
    });
}

/// A ClientHello for `a.test`.
fn hello() -> Vec<u8> {
    let name = rustls::pki_types::ServerName::try_from("a.test").unwrap();
    let config = Authority::new().trusting().config(rustls::ALL_VERSIONS);
    let mut client = rustls::ClientConnection::new(config, name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_client_hello_is_passed_on_whole_however_it_comes() {
    let origin = Origin::start(echo);
    let (listener, address) = listener("protocol = \"tls-passthrough\"");
    let route = "[[route]]\nlisteners = [\"raw\"]\nhost = \"a.test\"\ncluster = \"db\"\n";
    let text = [listener, cluster("db", &[origin.address], ""), route.to_owned()].concat();
    let _router = InProcess::start(Setup::new(text));
    let hello = hello();
    for split in [false, true] {
        let mut client = Client::connect(address);
        if split {
            client.send_split(&hello)
        } else {
            client.send(&hello)
        }
        client.send("and more");
        let expected = [hello.as_slice(), b"and more"].concat();
        assert!(client.exactly(expected.len()).unwrap() == expected, "{split}");
    }
}

#[test]
fn what_is_no_client_hello_is_refused() {
    let origin = Origin::start(echo);
    let keys = "protocol = \"tls-passthrough\"\nlimits = { head_deadline = \"500ms\" }";
    let (listener, address) = listener(keys);
    let route = "[[route]]\nlisteners = [\"raw\"]\ncluster = \"db\"\n";
    let router = Ekiden::start(Setup::new(
        [listener, cluster("db", &[origin.address], ""), route.to_owned()].concat(),
    ));
    // A record of 16 KiB that says it goes on.
    let long = [&[0x16, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff][..], &[0; 20_000]].concat();
    let hello = hello();
    let rows: [(&str, &[u8], &str); 4] = [
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n", "client_hello_malformed"),
        ("no ClientHello", &[0x16, 3, 1, 0, 4, 2, 0, 0, 0], "client_hello_malformed"),
        ("a long one", &long, "client_hello_malformed"),
        ("half of one", &hello[..hello.len() / 2], "head_timeout"),
    ];
    for (number, (name, bytes, code)) in rows.into_iter().enumerate() {
        let mut client = Client::connect(address);
        client.send(bytes);
        assert!(client.rest().is_empty(), "{name}");
        assert_eq!(router.records(number + 1)[number]["code"], code, "{name}");
    }
    let mut silent = Client::connect(address);
    assert!(silent.rest().is_empty());
    assert_eq!((router.records(4).len(), origin.connections()), (4, 0));
    until("the metric", || {
        let count = router.metric("ekiden_outcomes_total", &["client_hello_malformed"]);
        (count == 3.0).then_some(())
    });
}

/// The header of those in front comes before the bytes, and one to the endpoint too.
#[test]
fn the_proxy_protocol_on_both_sides() {
    let origin = Origin::start(|conn| {
        let line = conn.line_of_text().unwrap();
        conn.send(line);
        echo(conn);
    });
    let (_router, address) =
        tcp(&cluster("db", &[origin.address], "send_proxy = \"v1\""), "accept_proxy = [\"127.0.0.1\"]", "");
    let mut client = Client::connect(address);
    client.send("PROXY TCP4 203.0.113.7 192.0.2.1 4000 80\r\nfirst");
    let line = format!("PROXY TCP4 203.0.113.7 127.0.0.1 4000 {}", address.port());
    assert_eq!(client.exactly(line.len() + 5).unwrap(), [line.as_bytes(), b"first"].concat());
}
