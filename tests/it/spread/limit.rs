//! The limit that follows latency: it counts, refuses with its code, learns, and lets tunnels be.

use ekiden_tests::{Client, Conn, Ekiden, Origin, Served, Setup, until_true, web};

use super::{ask, cluster, flappers};

fn used(router: &Ekiden) -> f64 {
    router.metric("ekiden_cluster_adaptive_used", &[])
}

fn asking(router: &Ekiden) -> Client {
    let mut client = router.client();
    client.send("GET /held HTTP/1.1\r\nHost: a\r\n\r\n");
    client
}

#[test]
fn what_is_more_is_refused_and_what_ends_makes_room() {
    let silent = Origin::start(Conn::until_closed);
    let keys = "adaptive_limit = { min = 2, max = 2 }";
    let router = Ekiden::start(Setup::new(web(&[silent.address], keys, "")).workers(2));
    let (first, second) = (asking(&router), asking(&router));
    until_true("two to be in", || used(&router) == 2.0);
    let refused = router.get("/more");
    assert_eq!((refused.status, refused.code()), (503, "adaptive_limit"));
    assert_eq!(refused.get("retry-after"), Some("1"));
    assert_eq!(router.metric("ekiden_cluster_adaptive_refused_total", &[]), 1.0);
    assert_eq!(router.metric("ekiden_cluster_adaptive_limit", &[]), 2.0);
    first.reset();
    until_true("one to be out", || used(&router) == 1.0);
    let _third = asking(&router);
    until_true("another to be in", || used(&router) == 2.0);
    drop(second);
}

/// Streams whose head is there take no place: however many are open, the next request is let in.
#[test]
fn open_streams_take_no_place() {
    let streams = Origin::start(|conn| {
        while conn.head().is_some() {
            conn.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n:\n\r\n");
        }
    });
    let keys = "adaptive_limit = { min = 2, max = 2 }";
    let router = Ekiden::start(Setup::new(web(&[streams.address], keys, "")).workers(2));
    let open: Vec<Client> = (0..8)
        .map(|number| {
            let mut client = asking(&router);
            assert_eq!(client.head().unwrap().status, 200, "stream {number}");
            client
        })
        .collect();
    assert_eq!(open.len(), 8);
    until_true("all to be out", || used(&router) == 0.0);
    assert_eq!(router.metric("ekiden_cluster_adaptive_refused_total", &[]), 0.0);
}

/// Who waits for a slot is no load of an endpoint: however many stand in line, the limit refuses none of them.
#[test]
fn who_waits_for_a_slot_takes_no_place() {
    let silent = Origin::start(Conn::until_closed);
    let keys = "adaptive_limit = { min = 2, max = 2 }\nslots = 1\nqueue = { target = \"off\", max = 100 }";
    let router = Ekiden::start(Setup::new(web(&[silent.address], keys, "")).workers(2));
    let _first = asking(&router);
    until_true("the first to be in", || used(&router) == 1.0);
    let line: Vec<Client> = (0..6).map(|_| asking(&router)).collect();
    until_true("the others to wait", || router.metric("ekiden_cluster_queue_depth", &[]) == 6.0);
    assert_eq!((line.len(), used(&router)), (6, 1.0));
    assert_eq!(router.metric("ekiden_cluster_adaptive_refused_total", &[]), 0.0);
}

#[test]
fn it_learns_how_fast_the_cluster_is() {
    let all = flappers(2);
    let endpoints: Vec<_> = all.iter().map(|one| (one, String::new())).collect();
    let router = Ekiden::start(Setup::new(cluster(&endpoints, "adaptive_limit = true")).workers(2));
    ask(&router, &all, 1);
    assert_eq!(router.metric("ekiden_cluster_adaptive_base_seconds", &[]), 0.0);
    until_true("a window to end", || {
        ask(&router, &all, 10);
        router.metric("ekiden_cluster_adaptive_base_seconds", &[]) > 0.0
    });
    // One request at a time uses nothing of it: it stays where it began.
    assert_eq!(router.metric("ekiden_cluster_adaptive_refused_total", &[]), 0.0);
    until_true("all to be out", || used(&router) == 0.0);
    let table = router.table();
    let told = table["apps"][0]["clusters"][0]["adaptive_limit"].clone();
    assert_eq!((&told["min"], &told["max"]), (&8.into(), &1000.into()), "{told}");
}
