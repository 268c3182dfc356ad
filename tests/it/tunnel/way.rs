//! Bytes both ways, ends and resets, silence, and what is counted and written of a tunnel.

use std::io::{Read, Write};
use std::thread;

use ekiden_tests::{Authority, Client, Ekiden, End, Served, Setup, pattern, until, until_true, web};

use super::{SWITCH, ask, echo, record, serve, switched, switching, tunnel};

const MUCH: usize = 20 << 20;

/// Sends and reads at the same time; what came back.
fn round(client: &mut Client, bytes: &[u8]) -> Vec<u8> {
    let mut writer = client.socket().try_clone().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || writer.write_all(bytes).unwrap());
        client.exactly(bytes.len()).unwrap()
    })
}

#[test]
fn much_goes_both_ways_at_once() {
    let origin = switching(|conn| {
        // Read in small pieces first, so that the way up is full for a while.
        let all = conn.exactly(MUCH).unwrap();
        conn.send(all);
        conn.until_closed();
    });
    let router = serve(&origin, "");
    let mut client = tunnel(&router);
    let bytes = pattern(MUCH);
    assert!(round(&mut client, &bytes) == bytes);
    client.finish();
    assert!(client.rest().is_empty());
    let record = router.records(1).remove(0);
    assert!(record["bytes_in"].as_u64().unwrap() > MUCH as u64, "{record}");
    assert!(record["bytes"].as_u64().unwrap() > MUCH as u64, "{record}");
}

#[test]
fn it_works_over_tls() {
    let origin = switching(|conn| {
        let all = conn.exactly(1 << 20).unwrap();
        conn.send(all);
        conn.until_closed();
    });
    let authority = Authority::new();
    let setup = Setup::new(web(&[origin.address], "", ""))
        .listener("tls = { cert = \"site.pem\", key = \"site.key\" }");
    authority.make(&["a.test"]).write(setup.dir(), "site");
    let router = Ekiden::start(setup);
    let mut client = authority.trusting().connect(router.address(), "a.test").unwrap();
    client.send(ask("/").replace("Host: a", "Host: a.test"));
    assert_eq!(switched(&mut client).status, 101);
    let bytes = pattern(1 << 20);
    client.send(&bytes);
    assert!(client.exactly(bytes.len()).unwrap() == bytes);
    client.finish();
    assert!(client.rest().is_empty() && client.ended_cleanly());
    assert_eq!(record(&router), ("complete".to_owned(), 101));
}

#[test]
fn the_end_of_one_side_is_passed_on_and_the_other_goes_on() {
    // The client ends first.
    let origin = switching(|conn| {
        conn.until_closed();
        conn.send("after your end");
    });
    let router = serve(&origin, "");
    let mut client = tunnel(&router);
    client.send("last words");
    client.finish();
    assert_eq!(client.rest(), b"after your end");
    assert!(origin.received(1).ends_with(b"\r\n\r\nlast words") && origin.ended(1) == End::Fin);
    // The endpoint ends first.
    let origin = switching(|conn| {
        conn.finish();
        conn.until_closed();
    });
    let router = serve(&origin, "");
    let mut client = tunnel(&router);
    let mut socket = client.socket();
    assert_eq!(socket.read(&mut [0; 1]).unwrap(), 0);
    client.send("still there");
    client.finish();
    assert_eq!(origin.ended(1), End::Fin);
    assert!(origin.received(1).ends_with(b"\r\n\r\nstill there"));
    assert_eq!(record(&router), ("complete".to_owned(), 101));
}

#[test]
fn a_reset_of_one_side_resets_the_other() {
    let origin = switching(|conn| {
        conn.send("ready");
        conn.until_closed();
    });
    let router = serve(&origin, "");
    let mut client = tunnel(&router);
    assert_eq!(client.exactly(5).unwrap(), b"ready");
    client.reset();
    assert_eq!(origin.ended(1), End::Reset);
    assert_eq!(record(&router), ("client_gone".to_owned(), 101));

    let origin = switching(|conn| {
        conn.exactly(1);
        conn.reset();
    });
    let router = serve(&origin, "");
    let mut client = tunnel(&router);
    client.send("x");
    assert!(client.rest().is_empty() && client.was_reset());
    assert_eq!(record(&router), ("upstream_reset".to_owned(), 101));
}

#[test]
fn silence_ends_it() {
    let origin = switching(echo);
    // The deadlines of requests do not count in a tunnel.
    let keys = "timeout = { tunnel = \"1s\", idle = \"10ms\", total = \"500ms\" }";
    let router = serve(&origin, keys);
    let mut client = tunnel(&router);
    client.send("x");
    assert_eq!(client.exactly(1).unwrap(), b"x");
    assert!(client.rest().is_empty());
    assert_ne!(origin.ended(1), End::Reset);
    assert_eq!(record(&router), ("tunnel_idle".to_owned(), 101));
    let took_ms = router.records(1)[0]["total_ms"].as_f64().unwrap();
    assert!(took_ms >= 1_000.0, "{took_ms} ms");
}

#[test]
fn it_is_in_flight_until_it_is_closed() {
    let origin = switching(|conn| {
        conn.send("ready");
        conn.until_closed();
    });
    let router = Ekiden::start(Setup::new(web(&[origin.address], "", "")));
    let mut client = tunnel(&router);
    assert_eq!(client.exactly(5).unwrap(), b"ready");
    let gauges = || ["ekiden_tunnels", "ekiden_requests_in_flight"].map(|name| router.metric(name, &[]));
    until_true("a tunnel that is counted", || gauges() == [1.0, 1.0]);
    assert_eq!(router.records(0).len(), 0, "its record comes at its end");
    client.finish();
    client.rest();
    until_true("a tunnel that is not counted", || gauges() == [0.0, 0.0]);
    assert_eq!(router.metric("ekiden_tunnels_total", &[]), 1.0);
    let record = until("the record", || router.records(0).into_iter().next());
    // The 101 in the fields' order of the router, which are as long, and what was sent.
    assert_eq!(record["bytes"].as_u64().unwrap(), SWITCH.len() as u64 + 5, "{record}");
}
