//! `prequal`: reports of endpoints decide, an ambassador makes them, and no client of the edge sees one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use ekiden_tests::{Ekiden, Origin, Served, Setup, until_true, web};

use super::Steady;

#[test]
fn what_endpoints_say_of_their_load_decides() {
    let idle = "200 OK\r\nX-Router-Load: requests=0, latency_us=1000";
    let busy = "200 OK\r\nX-Router-Load: requests=9, latency_us=900000";
    let quick = [Steady::start(Duration::ZERO, idle), Steady::start(Duration::ZERO, idle)];
    let slow = Steady::start(Duration::ZERO, busy);
    let addresses = [slow.origin.address, quick[0].origin.address, quick[1].origin.address];
    let router = Ekiden::start(Setup::new(web(&addresses, "balance = \"prequal\"", "")));
    let mut client = router.client();
    for _ in 0..300 {
        let response = client.get("a", "/");
        assert_eq!((response.status, response.get("x-router-load")), (200, None));
    }
    // All three are as quick: without reports it would get a hundred.
    assert!(slow.count() <= 40, "{}", slow.count());
}

#[test]
fn a_report_that_is_none_is_passed_over_and_never_passed_on() {
    for text in
        ["", "requests", "requests=x", "latency_us=1", "requests=1, latency_us=99999999999", "\u{e9}=1"]
    {
        let head: &'static str = Box::leak(format!("200 OK\r\nX-Router-Load: {text}").into_boxed_str());
        let endpoints = [Steady::start(Duration::ZERO, head), Steady::start(Duration::ZERO, head)];
        let addresses = endpoints.each_ref().map(|endpoint| endpoint.origin.address);
        for balance in ["prequal", "p2c"] {
            let keys = format!("balance = \"{balance}\"");
            let router = Ekiden::start(Setup::new(web(&addresses, &keys, "")));
            let mut client = router.client();
            for _ in 0..10 {
                let response = client.get("a", "/");
                assert_eq!((response.status, response.get("x-router-load")), (200, None), "{text}");
            }
        }
    }
}

#[test]
fn an_ambassador_tells_of_its_app_and_the_edge_keeps_it() {
    let app = Origin::hello("app");
    let ambassador = Ekiden::start(Setup::new(web(&[app.address], "report_load = true", "")));
    let mut direct = ambassador.client();
    // The first answer tells how long it took itself.
    let first = direct.get("a", "/");
    let report = first.get("x-router-load").unwrap_or("");
    let latency = report.strip_prefix("requests=0, latency_us=").and_then(|us| us.parse::<u32>().ok());
    assert!(latency.is_some_and(|us| us > 0), "{report}");
    let head = direct.ask("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(head.all("x-router-load").len(), 1);
    let edge = Ekiden::start(Setup::new(web(&[ambassador.address()], "balance = \"prequal\"", "")));
    let mut client = edge.client();
    for _ in 0..10 {
        let response = client.get("a", "/");
        assert_eq!((response.status, response.get("x-router-load")), (200, None));
    }
}

/// What a client is told is how busy the endpoint is beside its own request.
#[test]
fn a_report_counts_the_others() {
    let let_go = Arc::new(Barrier::new(2));
    let (gate, is_held) = (Arc::clone(&let_go), Arc::<AtomicBool>::default());
    let holds = Arc::clone(&is_held);
    let app = Origin::start(move |conn| {
        while let Some(request) = conn.request() {
            if request.target() == "/held" {
                holds.store(true, Ordering::Release);
                gate.wait();
            }
            conn.answer(&request, "ok");
        }
    });
    let router = Ekiden::start(Setup::new(web(&[app.address], "report_load = true", "")));
    let (mut waiting, mut client) = (router.client(), router.client());
    client.get("a", "/");
    waiting.send("GET /held HTTP/1.1\r\nHost: a\r\n\r\n");
    until_true("the held request", || is_held.load(Ordering::Acquire));
    let response = client.get("a", "/");
    assert!(
        response.get("x-router-load").is_some_and(|report| report.starts_with("requests=1,")),
        "{response:?}"
    );
    let_go.wait();
    let report = waiting.response();
    assert!(
        report.get("x-router-load").is_some_and(|report| report.starts_with("requests=0,")),
        "{report:?}"
    );
}
