//! Kept connections: what is sent on them, what happens when they die, how long they are kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ekiden_tests::{Client, InProcess, Origin, Served, Setup, pattern, web};

fn serve(origin: &Origin, keys: &str) -> InProcess {
    InProcess::start(Setup::new(web(&[origin.address], keys, "")))
}

/// Time passes.
fn wait(client: &mut Client, time: Duration) {
    assert!(client.is_quiet(time));
}

/// Each connection answers so many requests, and takes the next one without a word.
fn dies_after(count: usize, reset: bool) -> Origin {
    Origin::start(move |conn| {
        for _ in 0..count {
            let Some(request) = conn.request() else { return };
            conn.answer(&request, "ok");
        }
        conn.request();
        if reset {
            conn.reset();
        }
    })
}

fn request(method: &str, body: &[u8], chunked: bool) -> Vec<u8> {
    let head = format!("{method} / HTTP/1.1\r\nHost: a\r\n");
    match (body.is_empty(), chunked) {
        (true, _) => [head.as_bytes(), b"\r\n"].concat(),
        (false, false) => {
            [head.as_bytes(), format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
        }
        (false, true) => {
            let size = format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n", body.len());
            [head.as_bytes(), size.as_bytes(), body, b"\r\n0\r\n\r\n"].concat()
        }
    }
}

#[test]
fn a_kept_connection_that_dies_is_replaced_once_where_that_is_safe() {
    let small = b"hello".to_vec();
    let large = pattern(60_000);
    let rows: &[(&str, &[u8], bool, bool)] = &[
        ("GET", b"", false, true),
        ("HEAD", b"", false, true),
        ("OPTIONS", b"", false, true),
        ("DELETE", b"", false, true),
        ("PUT", &small, false, true),
        ("PUT", &small, true, true),
        ("PUT", &large, false, true),
        ("GET", &small, false, true),
        ("POST", &small, false, false),
        ("POST", b"", false, false),
        ("PATCH", &small, true, false),
        ("MKCOL", b"", false, false),
    ];
    for reset in [false, true] {
        for (method, body, chunked, safe) in rows {
            let origin = dies_after(1, reset);
            let router = serve(&origin, "");
            let what = format!("{method} {} bytes, chunked {chunked}, reset {reset}", body.len());
            let mut client = router.client();
            assert_eq!(client.get("a", "/warm").text(), "ok", "{what}");
            let response = client.ask(request(method, body, *chunked));
            if *safe {
                assert_eq!(response.status, 200, "{what}: {response:?}");
                assert_eq!(origin.connections(), 2, "{what}");
                let record = &router.records(2)[1];
                assert_eq!(record["attempts"].as_u64(), Some(2), "{what}: {record}");
                let again = origin.received(2);
                if *chunked {
                    assert!(String::from_utf8_lossy(&again).contains("hello"), "{what}");
                } else {
                    assert!(again.ends_with(body), "{what}: the body is whole the second time");
                }
            } else {
                let codes = if reset {
                    ["upstream_reset", "closed_without_response"]
                } else {
                    ["closed_without_response"; 2]
                };
                assert!(response.status == 502 && codes.contains(&response.code()), "{what}: {response:?}");
                assert_eq!(origin.connections(), 1, "{what}: it was sent twice");
                assert!(
                    origin.received(1).ends_with(body) || *chunked,
                    "{what}: it was sent on the kept connection"
                );
            }
        }
    }
}

#[test]
fn a_body_too_large_to_hold_is_not_replayed() {
    let origin = dies_after(1, false);
    let router = serve(&origin, "");
    let mut client = router.client();
    client.get("a", "/warm");
    let response = client.ask(request("PUT", &pattern(1 << 20), false));
    assert_eq!((response.status, origin.connections()), (502, 1), "{response:?}");
}

#[test]
fn one_replay_is_made_and_no_second() {
    // Every connection dies on its second request, new ones on their first.
    let taken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&taken);
    let origin = Origin::start(move |conn| {
        if conn.number == 1 {
            let request = conn.request().unwrap();
            conn.answer(&request, "ok");
        }
        if conn.request().is_some() {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let router = serve(&origin, "");
    let mut client = router.client();
    client.get("a", "/warm");
    let response = client.get("a", "/");
    assert_eq!((response.status, response.code()), (502, "closed_without_response"));
    assert_eq!(taken.load(Ordering::SeqCst), 2, "the request was sent twice, not more");
}

#[test]
fn when_all_kept_connections_are_dead_a_new_one_serves() {
    // Four connections, warmed at the same time; each takes its next request without a word.
    let barrier = Arc::new(std::sync::Barrier::new(4));
    let origin = Origin::start(move |conn| {
        if conn.number > 4 {
            while let Some(request) = conn.request() {
                conn.answer(&request, "new");
            }
            return;
        }
        let request = conn.request().unwrap();
        barrier.wait();
        conn.answer(&request, "old");
        conn.request();
    });
    let router = serve(&origin, "");
    let mut clients: Vec<Client> = (0..4).map(|_| router.client()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    for client in &mut clients {
        assert_eq!(client.response().text(), "old");
    }
    for (n, client) in clients.iter_mut().enumerate() {
        let response = client.get("a", "/");
        assert_eq!((response.status, response.text().as_str()), (200, "new"), "{n}");
    }
}

#[test]
fn a_dead_new_connection_is_the_endpoints_fault_and_another_gets_the_replay() {
    let (bad, good) = (dies_after(0, false), Origin::hello("good"));
    let router = InProcess::start(Setup::new(web(
        &[bad.address, good.address],
        "balance = \"round_robin\"\npool_idle = 0\nejection = \"off\"",
        "",
    )));
    for _ in 0..10 {
        assert_eq!(router.get("/").text(), "good");
    }
    assert!(bad.connections() >= 3, "the bad one was hardly picked: {}", bad.connections());
    let mut lost = 0;
    for _ in 0..10 {
        let response = router.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
        match response.status {
            200 => {}
            502 => lost += 1,
            _ => panic!("{response:?}"),
        }
    }
    assert!((1..10).contains(&lost), "a POST is not sent twice: {lost} of 10 lost");
    assert_eq!(good.connections(), 20 - lost);
}

#[test]
fn a_connection_closed_while_idle_is_noticed() {
    let origin = Origin::start(|conn| {
        if let Some(request) = conn.request() {
            conn.answer(&request, "ok");
        }
    });
    let router = serve(&origin, "");
    let mut client = router.client();
    for number in 1..=5 {
        for method in ["GET", "POST"] {
            let response = client.ask(format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"));
            assert_eq!(response.status, 200, "{method} {number}");
            // The endpoint has closed, and its FIN has been seen when nothing comes for a moment.
            origin.over(origin.connections());
            wait(&mut client, Duration::from_millis(20));
        }
    }
    assert_eq!(origin.connections(), 10);
    assert!(
        router.records(10).iter().all(|record| record["attempts"] == 1),
        "no request was lost on a dead connection"
    );
}

#[test]
fn bytes_nobody_asked_for_spoil_an_idle_connection() {
    let origin = Origin::start(|conn| {
        let Some(request) = conn.request() else { return };
        conn.answer(&request, "ok");
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
        conn.until_closed();
    });
    let router = serve(&origin, "");
    let mut client = router.client();
    for n in 0..4 {
        assert_eq!(client.get("a", "/").text(), "ok", "{n}");
        wait(&mut client, Duration::from_millis(20));
    }
}

#[test]
fn unsafe_methods_use_only_connections_idle_for_less_than_a_second() {
    let origin = Origin::hello("ok");
    let router = serve(&origin, "");
    let mut client = router.client();
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
    client.get("a", "/");
    assert_eq!(client.ask(post).status, 200);
    assert_eq!(origin.connections(), 1, "a moment ago it was alive");
    wait(&mut client, Duration::from_millis(1100));
    assert_eq!(client.ask(post).status, 200);
    assert_eq!(origin.connections(), 2, "idle for more than a second");
    wait(&mut client, Duration::from_millis(1100));
    assert_eq!(client.get("a", "/").status, 200);
    assert_eq!(origin.connections(), 2, "a GET may use it");
}

#[test]
fn idle_connections_are_kept_no_longer_than_their_limits() {
    let announcing = || {
        Origin::start(|conn| {
            while conn.request().is_some() {
                conn.send("HTTP/1.1 200 OK\r\nKeep-Alive: timeout=1, max=100\r\nContent-Length: 2\r\n\r\nok");
            }
        })
    };
    for (origin, keys, at_once, later) in [
        (Origin::hello("ok"), "pool_idle_timeout = \"300ms\"", 1, 2),
        (announcing(), "", 1, 2),
        (Origin::hello("ok"), "", 1, 1),
        (Origin::hello("ok"), "pool_idle = 0", 2, 3),
    ] {
        let router = serve(&origin, keys);
        let mut client = router.client();
        client.get("a", "/");
        client.get("a", "/");
        assert_eq!(origin.connections(), at_once, "{keys}");
        wait(&mut client, Duration::from_millis(750));
        client.get("a", "/");
        assert_eq!(origin.connections(), later, "{keys}");
    }
}

#[test]
fn the_pool_has_a_bound() {
    let barrier = Arc::new(std::sync::Barrier::new(6));
    let origin = Origin::start(move |conn| {
        while let Some(request) = conn.request() {
            if request.target() == "/together" {
                barrier.wait();
            }
            conn.answer(&request, "ok");
        }
    });
    let router = serve(&origin, "pool_idle = 2");
    let mut clients: Vec<Client> = (0..6).map(|_| router.client()).collect();
    for client in &mut clients {
        client.send("GET /together HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    for client in &mut clients {
        assert_eq!(client.response().status, 200);
    }
    let closed = ekiden_tests::until("four connections to be closed", || {
        let closed = (1..=6).filter(|number| origin.is_ended(*number)).count();
        (closed == 4).then_some(closed)
    });
    assert_eq!(closed, 4);
}

#[test]
fn clients_that_leave_never_count_against_an_endpoint() {
    let origin = Origin::start(|conn| {
        while let Some(request) = conn.request() {
            if request.target() == "/slow" {
                return conn.until_closed();
            }
            conn.answer(&request, "ok");
        }
    });
    let router = serve(&origin, "");
    for n in 1..=20 {
        let mut client = router.client();
        client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
        origin.wait_received(n, 20);
        client.reset();
        origin.ended(n);
    }
    assert!(router.records(20).iter().all(|record| record["code"] == "client_gone"));
    assert_eq!(router.endpoints("web")[0].1, "ready");
    let response = router.get("/");
    assert_eq!((response.status, router.records(21)[20]["attempts"].as_u64()), (200, Some(1)));
}
