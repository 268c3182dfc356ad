//! `Expect: 100-continue` gives exactly one 100; other informational responses are passed on.

use std::time::{Duration, Instant};

use super::serve;
use ekiden_tests::{Client, Origin, Served};

const EXPECTS: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";

/// Statuses of the informational responses before the final one, and that one's.
fn statuses(client: &mut Client) -> Vec<u16> {
    let mut all = Vec::new();
    loop {
        let response = client.response();
        all.push(response.status);
        if response.status >= 200 {
            return all;
        }
    }
}

#[test]
fn the_endpoints_100_is_the_clients() {
    for times in [1, 2, 3] {
        let origin = Origin::start(move |conn| {
            let mut request = conn.head().unwrap();
            assert_eq!(request.get("expect"), Some("100-continue"));
            for _ in 0..times {
                conn.send("HTTP/1.1 100 Continue\r\n\r\n");
            }
            conn.body(&mut request);
            conn.answer(&request, "done");
            conn.until_closed();
        });
        let router = serve(&origin);
        let mut client = router.client();
        let began = Instant::now();
        client.send(EXPECTS);
        assert_eq!(client.response().status, 100, "{times}");
        assert!(began.elapsed() < Duration::from_millis(900), "it did not wait for the router's own");
        client.send("hello");
        let last = client.response();
        assert_eq!((last.status, last.text().as_str()), (200, "done"), "{times}: one 100 and no second");
        assert!(origin.received(1).ends_with(b"\r\n\r\nhello"));
    }
}

#[test]
fn an_endpoint_that_is_silent_is_stood_in_for_once() {
    let origin = Origin::start(|conn| {
        let mut request = conn.head().unwrap();
        conn.body(&mut request);
        // Late, and after the router's own.
        conn.send("HTTP/1.1 100 Continue\r\n\r\n");
        conn.answer(&request, "done");
        conn.until_closed();
    });
    let router = serve(&origin);
    let mut client = router.client();
    let began = Instant::now();
    client.send(EXPECTS);
    assert_eq!(client.response().status, 100);
    let waited = began.elapsed();
    assert!(waited >= Duration::from_millis(900) && waited < Duration::from_secs(3), "{waited:?}");
    client.send("hello");
    assert_eq!(statuses(&mut client), [200]);
}

#[test]
fn a_final_answer_instead_of_a_100() {
    let origin = Origin::start(|conn| {
        conn.head();
        conn.send("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno");
        conn.until_closed();
    });
    let router = serve(&origin);
    let mut client = router.client();
    client.send(EXPECTS);
    let response = client.response();
    assert_eq!((response.status, response.text().as_str()), (417, "no"));
    assert!(response.says_close(), "the body may or may not follow, so the connection cannot go on");
    client.finish();
    assert_eq!(client.rest(), b"");
}

#[test]
fn a_client_that_does_not_wait_gets_at_most_one() {
    let origin = Origin::start(|conn| {
        while let Some(mut request) = conn.head() {
            conn.send("HTTP/1.1 100 Continue\r\n\r\n");
            if conn.body(&mut request).is_none() {
                return;
            }
            conn.answer(&request, "done");
        }
    });
    let router = serve(&origin);
    let mut client = router.client();
    for _ in 0..3 {
        client.send(format!("{EXPECTS}hello"));
        assert_eq!(statuses(&mut client), [100, 200]);
    }
}

#[test]
fn without_an_expectation_a_100_is_dropped() {
    let origin = Origin::start(|conn| {
        while let Some(request) = conn.request() {
            conn.send("HTTP/1.1 100 Continue\r\n\r\n");
            conn.answer(&request, "done");
        }
    });
    let router = serve(&origin);
    let mut client = router.client();
    for request in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx",
        "GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
    ] {
        client.send(request);
        assert_eq!(statuses(&mut client), [200], "{request:?}");
    }
    let mut old = router.client();
    old.send("POST / HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello");
    assert_eq!(statuses(&mut old), [200], "1.0 knows no 100");
}

#[test]
fn a_refusal_by_the_router_needs_no_100() {
    let origin = Origin::hello("never");
    let router = serve(&origin);
    let mut client = router.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(statuses(&mut client), [400]);
}

#[test]
fn others_are_passed_on_with_their_fields() {
    let origin = Origin::start(|conn| {
        while let Some(request) = conn.request() {
            conn.send(
                "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: close\r\nContent-Length: 7\r\n\r\n",
            );
            conn.send("HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </b>\r\n\r\n");
            conn.answer(&request, "done");
        }
    });
    let router = serve(&origin);
    let mut client = router.client();
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let first = client.response();
        assert_eq!((first.status, first.get("link")), (103, Some("</a>")));
        assert_eq!((first.get("connection"), first.get("content-length")), (None, None), "{first:?}");
        assert_eq!(statuses(&mut client), [102, 103, 200]);
    }
    let mut old = router.client();
    old.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(statuses(&mut old), [200], "not to 1.0");
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_103_comes_before_the_final_response_is_there() {
    let (go, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let origin = Origin::start(move |conn| {
        let request = conn.request().unwrap();
        conn.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
        gate.lock().unwrap().recv().unwrap();
        conn.answer(&request, "done");
    });
    let router = serve(&origin);
    let mut client = router.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().status, 103);
    go.send(()).unwrap();
    assert_eq!(client.response().status, 200);
}

#[test]
fn a_103_before_the_100_leaves_the_100_to_come() {
    let origin = Origin::start(|conn| {
        let mut request = conn.head().unwrap();
        conn.send("HTTP/1.1 103 Early Hints\r\n\r\n");
        conn.body(&mut request);
        conn.answer(&request, "done");
        conn.until_closed();
    });
    let router = serve(&origin);
    let mut client = router.client();
    client.send(EXPECTS);
    assert_eq!(client.response().status, 103);
    assert_eq!(client.response().status, 100, "the endpoint never sends it, so the router does");
    client.send("hello");
    assert_eq!(statuses(&mut client), [200]);
}
