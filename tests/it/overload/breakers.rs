//! Breakers: what is more than a cluster or an endpoint may have in hand is refused at once, or goes to another endpoint.

use super::{Patient, asking};
use ekiden_tests::{Conn, Ekiden, Origin, Served, Setup, until, until_true, web};

fn used(router: &Ekiden, bound: &str) -> f64 {
    router.metric("ekiden_cluster_breaker_used", &[&format!("bound=\"{bound}\"")])
}

fn refused(router: &Ekiden, bound: &str) -> f64 {
    router.metric("ekiden_cluster_breaker_refused_total", &[&format!("bound=\"{bound}\"")])
}

fn wait_used(router: &Ekiden, bound: &str, count: f64) {
    until_true(&format!("{count} {bound} in use"), || used(router, bound) == count);
}

/// Refused with the code, and the log names the bound.
fn assert_open(router: &Ekiden, bound: &str) {
    let response = router.get("/refused");
    assert_eq!((response.status, response.code()), (503, "breaker_open"), "{bound}");
    assert_eq!(response.get("retry-after"), Some("1"));
    let record =
        until("the record", || router.records(0).into_iter().find(|record| record["path"] == "/refused"));
    assert_eq!(record["limit"], format!("breaker_{bound}"), "{record}");
    assert!(refused(router, bound) >= 1.0, "{bound}");
}

#[test]
fn a_cluster_has_so_many_requests_over_all_workers() {
    let endpoint = Patient::start();
    let keys = "breaker = { requests = 3 }";
    let router = Ekiden::start(Setup::new(web(&[endpoint.origin.address], keys, "")).workers(2));
    let mut clients = ["/1", "/2", "/3"].map(|path| asking(&router, path));
    wait_used(&router, "requests", 3.0);
    assert_open(&router, "requests");
    // One that ends and one that leaves make room.
    endpoint.answer();
    until_true("an answer", || used(&router, "requests") == 2.0);
    let last = asking(&router, "/4");
    wait_used(&router, "requests", 3.0);
    last.reset();
    wait_used(&router, "requests", 2.0);
    (0..3).for_each(|_| endpoint.answer());
    clients.iter_mut().for_each(|client| assert_eq!(client.response().status, 200));
    wait_used(&router, "requests", 0.0);
}

#[test]
fn so_many_wait_for_a_connection() {
    let silent = Origin::start(Conn::until_closed);
    let keys =
        "breaker = { pending = 2 }\nprobe = { path = \"/healthz\", interval = \"1h\", timeout = \"1h\" }";
    let timeout = "timeout = { connect = \"60s\" }";
    let router = Ekiden::start(Setup::new(web(&[silent.address], keys, timeout)).workers(2));
    let clients = ["/1", "/2"].map(|path| asking(&router, path));
    wait_used(&router, "pending", 2.0);
    assert_open(&router, "pending");
    clients.into_iter().for_each(ekiden_tests::Client::reset);
    wait_used(&router, "pending", 0.0);
}

#[test]
fn connections_that_are_idle_are_not_counted() {
    let endpoint = Patient::start();
    let keys = "breaker = { connections = 1 }";
    let router = Ekiden::start(Setup::new(web(&[endpoint.origin.address], keys, "")).workers(2));
    for _ in 0..4 {
        let mut client = asking(&router, "/idle");
        wait_used(&router, "connections", 1.0);
        endpoint.answer();
        assert_eq!(client.response().status, 200);
        wait_used(&router, "connections", 0.0);
    }
    let mut client = asking(&router, "/busy");
    wait_used(&router, "connections", 1.0);
    assert_open(&router, "connections");
    endpoint.answer();
    assert_eq!(client.response().status, 200);
}

#[test]
fn an_endpoint_at_its_bound_is_gone_past() {
    for bound in ["endpoint_requests", "endpoint_connections"] {
        let endpoints = [Patient::start(), Patient::start()];
        let addresses = endpoints.each_ref().map(|endpoint| endpoint.origin.address);
        for balance in ["p2c", "round_robin", "least_request", "random"] {
            let keys = format!("breaker = {{ {bound} = 1 }}\nbalance = \"{balance}\"");
            let router = Ekiden::start(Setup::new(web(&addresses, &keys, "")).workers(2));
            let before = endpoints.each_ref().map(|endpoint| endpoint.seen().len());
            let mut clients = ["/1", "/2"].map(|path| asking(&router, path));
            for (endpoint, before) in endpoints.iter().zip(before) {
                endpoint.wait_seen(before + 1);
            }
            assert_open(&router, bound);
            endpoints.iter().for_each(Patient::answer);
            for client in &mut clients {
                assert_eq!(client.response().status, 200, "{bound} {balance}");
            }
        }
    }
}

#[test]
fn the_key_of_a_store_goes_to_no_other_endpoint() {
    let endpoints = [Patient::start(), Patient::start()];
    let addresses = endpoints.each_ref().map(|endpoint| endpoint.origin.address);
    for (kind, status) in [("store", 503), ("cache", 200)] {
        let keys = format!(
            "breaker = {{ endpoint_requests = 1 }}\nshard = {{ by = \"query:k\", kind = \"{kind}\" }}"
        );
        let router = Ekiden::start(Setup::new(web(&addresses, &keys, "")));
        let before: usize = endpoints.iter().map(|endpoint| endpoint.seen().len()).sum();
        let seen = || endpoints.iter().map(|endpoint| endpoint.seen().len()).sum::<usize>();
        let mut one = asking(&router, "/1?k=a");
        until_true("the first", || seen() > before);
        let mut other = asking(&router, "/2?k=a");
        if status == 200 {
            until_true("the second", || seen() > before + 1);
        } else {
            assert_eq!(other.response().code(), "breaker_open");
        }
        // Each answers one, or keeps the word for the next.
        endpoints.iter().filter(|endpoint| !endpoint.seen().is_empty()).for_each(Patient::answer);
        if status == 200 {
            assert_eq!(other.response().status, 200);
        }
        assert_eq!(one.response().status, 200, "{kind}");
    }
}
