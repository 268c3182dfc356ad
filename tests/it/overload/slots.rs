//! Slots: how many an endpoint gets, who is next, who goes without, and what a new table changes for those who wait.

use std::time::Duration;

use super::{Patient, asking, depth, in_line, wait_depth, wait_idle};
use ekiden_tests::{Ekiden, Origin, Served, Setup, until, web};

const ENDLESS: &str = "timeout = { connect = \"10m\", first_byte = \"10m\" }";

fn queue(keys: &str) -> String {
    format!("queue = {{ target = \"off\", {keys} }}")
}

#[test]
fn an_endpoint_gets_as_many_as_it_has_slots_and_the_oldest_comes_next() {
    // With two workers the line is one all the same.
    let endpoint = Patient::start();
    let cluster = format!("slots = 2\n{}", queue("max = 100"));
    let setup = Setup::new(web(&[endpoint.origin.address], &cluster, ENDLESS)).workers(2);
    let router = Ekiden::start(setup);
    let mut clients: Vec<_> = (0..2).map(|number| asking(&router, &format!("/{number}"))).collect();
    endpoint.wait_seen(2);
    clients.extend((2..8).map(|number| in_line(&router, &format!("/{number}"), f64::from(number - 1))));
    assert_eq!(router.metric("ekiden_endpoint_in_flight", &[]), 2.0);
    assert_eq!(router.metric("ekiden_cluster_slots", &[]), 2.0);
    for number in 2..8 {
        endpoint.answer();
        wait_depth(&router, f64::from(7 - number));
        endpoint.wait_seen(number as usize + 1);
        assert!(router.metric("ekiden_endpoint_in_flight", &[]) <= 2.0);
    }
    endpoint.answer();
    endpoint.answer();
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.response().text(), format!("/{number}"));
    }
    // The first two came as they liked.
    assert_eq!(endpoint.seen()[2..], ["/2", "/3", "/4", "/5", "/6", "/7"]);
    wait_idle(&router);
    let waited = router.records(8).iter().filter(|record| record["queue_ms"].is_number()).count();
    assert_eq!(waited, 6);
    assert_eq!(router.metric("ekiden_cluster_queue_seconds_count", &[]), 6.0);
    assert!(router.table().to_string().contains("\"per_endpoint\":2"));
}

#[test]
fn the_line_is_bounded_in_number() {
    let endpoint = Patient::start();
    let cluster = format!("slots = 1\n{}", queue("max = 1"));
    let router = Ekiden::start(Setup::new(web(&[endpoint.origin.address], &cluster, ENDLESS)));
    let mut first = asking(&router, "/first");
    endpoint.wait_seen(1);
    let mut second = in_line(&router, "/second", 1.0);
    let refused = asking(&router, "/refused").response();
    assert_eq!((refused.status, refused.code(), refused.get("retry-after")), (503, "queue_full", Some("5")));
    assert_eq!(router.metric("ekiden_cluster_queue_refused_total", &[]), 1.0);
    endpoint.answer();
    endpoint.answer();
    assert_eq!(
        (first.response().text(), second.response().text()),
        ("/first".to_owned(), "/second".to_owned())
    );
}

#[test]
fn the_line_is_bounded_in_time() {
    let endpoint = Patient::start();
    let cluster = format!("slots = 1\n{}", queue("max = 10, wait = \"200ms\""));
    let router = Ekiden::start(Setup::new(web(&[endpoint.origin.address], &cluster, ENDLESS)));
    let mut first = asking(&router, "/first");
    endpoint.wait_seen(1);
    let late = asking(&router, "/late").response();
    assert_eq!((late.status, late.code()), (503, "queue_timeout"));
    assert_eq!(router.metric("ekiden_cluster_queue_timeouts_total", &[]), 1.0);
    assert_eq!(endpoint.seen(), ["/first"]);
    endpoint.answer();
    assert_eq!(first.response().status, 200);
    // The slot is free again.
    endpoint.answer();
    assert_eq!(router.get("/next").text(), "/next");
    wait_depth(&router, 0.0);
    wait_idle(&router);
}

#[test]
fn a_client_that_leaves_gives_its_place_to_the_next() {
    let endpoint = Patient::start();
    let cluster = format!("slots = 1\n{}", queue("max = 2"));
    let router = Ekiden::start(Setup::new(web(&[endpoint.origin.address], &cluster, ENDLESS)));
    let mut first = asking(&router, "/first");
    endpoint.wait_seen(1);
    let gone = in_line(&router, "/gone", 1.0);
    let mut next = in_line(&router, "/next", 2.0);
    gone.reset();
    wait_depth(&router, 1.0);
    endpoint.answer();
    endpoint.answer();
    assert_eq!((first.response().text(), next.response().text()), ("/first".to_owned(), "/next".to_owned()));
    assert_eq!(endpoint.seen(), ["/first", "/next"]);
}

#[test]
fn requests_share_what_several_endpoints_have() {
    let endpoints = [Patient::start(), Patient::start(), Patient::start()];
    let addresses = endpoints.each_ref().map(|endpoint| endpoint.origin.address);
    let cluster = format!("slots = 1\n{}", queue("max = 10"));
    let router = Ekiden::start(Setup::new(web(&addresses, &cluster, ENDLESS)));
    let mut clients: Vec<_> = (0..3).map(|_| asking(&router, "/")).collect();
    endpoints.iter().for_each(|endpoint| endpoint.wait_seen(1));
    clients.push(in_line(&router, "/", 1.0));
    endpoints[1].answer();
    endpoints[1].wait_seen(2);
    for (endpoint, count) in endpoints.iter().zip([1, 1, 1]) {
        (0..count).for_each(|_| endpoint.answer());
    }
    clients.iter_mut().for_each(|client| assert_eq!(client.response().status, 200));
}

/// A new table while requests wait: more slots, no slots, another endpoint, no cluster.
#[test]
fn those_who_wait_go_by_the_new_table() {
    for change in ["more slots", "no slots", "another endpoint", "no cluster"] {
        let (endpoint, other) = (Patient::start(), Origin::hello("other"));
        let cluster = |slots: &str| format!("{slots}\n{}", queue("max = 10"));
        let setup = Setup::new(web(&[endpoint.origin.address], &cluster("slots = 1"), ENDLESS));
        let text = match change {
            "more slots" => web(&[endpoint.origin.address], &cluster("slots = 3"), ENDLESS),
            "no slots" => web(&[endpoint.origin.address], "queue = 10", ENDLESS),
            "another endpoint" => web(&[other.address], &cluster("slots = 1"), ENDLESS),
            _ => "[[route]]\nrespond = { body = \"closed\" }\n".to_owned(),
        };
        let after = setup.config_with(&text);
        let router = Ekiden::start(setup);
        let mut first = asking(&router, "/first");
        endpoint.wait_seen(1);
        let mut clients = [in_line(&router, "/one", 1.0), in_line(&router, "/two", 2.0)];
        router.rewrite(&after);
        wait_depth(&router, 0.0);
        // Which of those at the endpoint is answered first is not known.
        if matches!(change, "more slots" | "no slots") {
            endpoint.wait_seen(3);
            (0..3).for_each(|_| endpoint.answer());
        }
        for client in &mut clients {
            let response = client.response();
            let want = if change == "no cluster" { "cluster_gone" } else { "" };
            assert_eq!(response.code(), want, "{change}: {response:?}");
        }
        // What was under way goes on, whatever became of its endpoint.
        if matches!(change, "another endpoint" | "no cluster") {
            endpoint.answer();
        }
        assert_eq!(first.response().text(), "/first", "{change}");
        if change != "no cluster" {
            wait_idle(&router);
        }
    }
}

#[test]
fn an_end_of_the_process_ends_the_wait() {
    let endpoint = Patient::start();
    let cluster = format!("slots = 1\n{}", queue("max = 10"));
    let setup = Setup::new(web(&[endpoint.origin.address], &cluster, ENDLESS))
        .top("drain_grace = \"0s\"\ndrain_timeout = \"300ms\"");
    let mut router = Ekiden::start(setup);
    let _first = asking(&router, "/first");
    endpoint.wait_seen(1);
    let mut waiting = in_line(&router, "/waiting", 1.0);
    router.terminate();
    let response = waiting.response();
    assert_eq!((response.status, response.code()), (503, "drained"));
    router.wait();
}

/// Streams of one HTTP/2 connection stand in the same line.
#[test]
fn streams_wait_for_slots_too() {
    use ekiden_tests::http2::{END, Frames, get, kind};
    const END_HEADERS: u8 = 4;
    let endpoint = Patient::start();
    let cluster = format!("slots = 1\n{}", queue("max = 10"));
    let setup = Setup::new(web(&[endpoint.origin.address], &cluster, ENDLESS)).listener("h2c = true");
    let router = Ekiden::start(setup);
    let mut frames = Frames::connect(router.address());
    for stream in [1, 3, 5] {
        frames.send(kind::HEADERS, END | END_HEADERS, stream, &get(&[]));
    }
    endpoint.wait_seen(1);
    wait_depth(&router, 2.0);
    // The client gives up a stream that waits.
    frames.send(kind::RST_STREAM, 0, 3, &8u32.to_be_bytes());
    wait_depth(&router, 1.0);
    endpoint.answer();
    endpoint.answer();
    endpoint.wait_seen(2);
    wait_idle(&router);
    assert_eq!((endpoint.seen().len(), depth(&router)), (2, 0.0));
}

/// What a client sends while it waits is not lost: a body, the beginning of one, or the next request.
#[test]
fn bodies_come_through_the_wait() {
    let (go, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let endpoint = Origin::start(move |conn| {
        while let Some(request) = conn.request() {
            if request.target() == "/first" {
                gate.lock().unwrap().recv().unwrap();
            }
            let body = String::from_utf8_lossy(&request.body).into_owned();
            conn.answer(&request, &body);
        }
    });
    let cluster = format!("slots = 1\n{}", queue("max = 10"));
    let router = Ekiden::start(Setup::new(web(&[endpoint.address], &cluster, ENDLESS)));
    let mut first = asking(&router, "/first");
    until("the first at the endpoint", || {
        (router.metric("ekiden_endpoint_in_flight", &[]) == 1.0).then_some(())
    });
    let large = "x".repeat(100_000);
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let rows = [
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello".to_owned(), "", "hello".to_owned()),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe".to_owned(), "llo", "hello".to_owned()),
        (format!("{chunked}5\r\nhel"), "lo\r\n0\r\n\r\n", "hello".to_owned()),
        (format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n{large}"), "", large.clone()),
    ];
    let mut clients = Vec::new();
    for (count, (before, after, want)) in (1u8..).zip(&rows) {
        let mut client = router.client();
        client.send(before);
        wait_depth(&router, f64::from(count));
        clients.push((client, after, want));
    }
    go.send(()).unwrap();
    assert_eq!(first.response().status, 200);
    for (client, after, want) in &mut clients {
        client.send(*after);
        let response = client.response();
        assert_eq!((response.status, &response.text()), (200, *want));
    }
    wait_idle(&router);
}

/// Without `slots` nothing waits.
#[test]
fn a_cluster_without_slots_has_no_line() {
    let endpoint = Patient::start();
    let router = Ekiden::start(Setup::new(web(&[endpoint.origin.address], "", ENDLESS)));
    let mut clients: Vec<_> = (0..20).map(|number| asking(&router, &format!("/{number}"))).collect();
    until("all requests in flight", || {
        (router.metric("ekiden_endpoint_in_flight", &[]) == 20.0).then_some(())
    });
    clients.iter().for_each(|_| endpoint.answer());
    for client in &mut clients {
        client.patience(Duration::from_secs(60));
        assert_eq!(client.response().status, 200);
    }
    assert!(router.records(20).iter().all(|record| record["queue_ms"].is_null()));
}
