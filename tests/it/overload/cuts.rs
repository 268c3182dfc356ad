//! However a request ends, what it took is given back: its slot, and its place in its app's account.

use super::{Patient, asking, wait_depth, wait_idle};
use ekiden_tests::{Conn, Ekiden, Origin, Served, Setup, free_port, until, web};
use std::net::SocketAddr;

/// An endpoint that ends requests in every way there is, by their target.
fn cutting() -> Origin {
    Origin::start(|conn| {
        while let Some(request) = conn.head() {
            match request.target() {
                "/fin" => return,
                "/reset" => return conn.reset(),
                "/garbage" => {
                    conn.send("SSH-2.0-OpenSSH_9.2\r\n\r\n");
                    return conn.until_closed();
                }
                "/short" => {
                    conn.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
                    return;
                }
                "/flood" => {
                    conn.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
                    while conn.send([b'x'; 64 << 10]) {}
                    return;
                }
                "/silent" | "/total" | "/never" => return conn.until_closed(),
                _ => conn.answer(&request, "good"),
            }
        }
    })
}

/// Nothing is counted as in use: neither at the endpoint nor for the app nor in line.
fn wait_all_given_back(router: &Ekiden) {
    wait_idle(router);
    wait_depth(router, 0.0);
    until("an empty account", || {
        let used = ["ekiden_app_in_flight", "ekiden_app_upstream_connections", "ekiden_app_buffered_bytes"];
        used.iter().all(|name| router.metric(name, &[]) == 0.0).then_some(())
    });
}

#[test]
fn no_way_to_end_keeps_a_slot() {
    let endpoint = cutting();
    let timeouts = "timeout = { connect = \"60s\" }\n\
                    [[route]]\npath = \"/silent\"\ncluster = \"web\"\ntimeout = { first_byte = \"500ms\" }\n\
                    [[route]]\npath = \"/total\"\ncluster = \"web\"\ntimeout = { total = \"300ms\" }";
    // One slot, one request, one connection: anything that is kept is missed at once.
    let caps = "caps = { in_flight = 1, connections = 1, buffered = \"16MiB\" }";
    let setup = Setup::new(web(
        &[endpoint.address],
        "slots = 1\nqueue = { target = \"off\" }\nejection = \"off\"",
        timeouts,
    ))
    .top(caps);
    let router = Ekiden::start(setup);
    for path in ["/good", "/fin", "/reset", "/garbage", "/short", "/silent", "/total"] {
        let mut client = asking(&router, path);
        let _whole_or_not = client.read(false);
        wait_all_given_back(&router);
        assert_eq!(router.get("/good").status, 200, "after {path}");
        wait_all_given_back(&router);
    }
    // The client leaves: while the endpoint thinks, and inside a response.
    for path in ["/never", "/flood"] {
        let client = asking(&router, path);
        until("a request in flight", || {
            (router.metric("ekiden_app_upstream_connections", &[]) == 1.0).then_some(())
        });
        client.reset();
        wait_all_given_back(&router);
        assert_eq!(router.get("/good").status, 200, "after a client left {path}");
        wait_all_given_back(&router);
    }
}

#[test]
fn a_connect_that_fails_keeps_no_slot() {
    let refusing = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let cluster = "slots = 1\nqueue = { target = \"off\" }\nejection = \"off\"";
    let router = Ekiden::start(
        Setup::new(web(&[refusing], cluster, "")).top("caps = { in_flight = 1, connections = 1 }"),
    );
    for _ in 0..5 {
        assert_eq!(router.get("/").code(), "connect_refused");
        wait_all_given_back(&router);
    }
}

/// A replay gives its first slot back before it waits for another one.
#[test]
fn a_replay_takes_one_slot_at_a_time() {
    let endpoint = Origin::start(|conn: &mut Conn| {
        // Each connection serves once and dies at the second request.
        if let Some(request) = conn.request() {
            conn.answer(&request, "good");
            let _read_and_not_answered = conn.request();
        }
    });
    let cluster = "slots = 1\nqueue = { target = \"off\" }\nejection = \"off\"";
    let router =
        Ekiden::start(Setup::new(web(&[endpoint.address], cluster, "")).top("caps = { connections = 1 }"));
    for _ in 0..5 {
        assert_eq!(router.get("/").text(), "good");
        wait_all_given_back(&router);
    }
    assert!(router.metric("ekiden_cluster_replays_total", &[]) > 0.0);
}

/// Requests that are refused before they are forwarded leave the account of their app as it was.
#[test]
fn a_refusal_keeps_nothing() {
    let endpoint = Patient::start();
    let routes = "[[route]]\npath = \"/limited\"\ncluster = \"web\"\nlimit = [{ rate = \"1/h\" }]\n\
                  [[route]]\npath = \"/empty\"\ncluster = \"empty\"\n[cluster.empty]\n";
    let setup = Setup::new(web(&[endpoint.origin.address], "", routes)).top("caps = { in_flight = 1 }");
    let router = Ekiden::start(setup);
    endpoint.answer();
    assert_eq!(router.get("/limited").status, 200);
    for (path, code) in
        [("/limited", "rate_limited"), ("/empty", "no_endpoints"), ("/limited", "rate_limited")]
    {
        assert_eq!(router.get(path).code(), code);
        wait_all_given_back(&router);
    }
}
