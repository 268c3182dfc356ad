//! Probes: who gets requests, who waits for the first check, what is said when nobody is ready.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::refusing;
use ekiden_tests::{Echo, InProcess, Origin, Served, Setup, until_true, web};

/// An endpoint whose check passes while the flag is set; counts requests that are no checks.
struct Checked {
    origin: Origin,
    healthy: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    checks: Arc<AtomicUsize>,
}

impl Checked {
    fn start(healthy: bool) -> Self {
        let (healthy, served, checks) = (
            Arc::new(AtomicBool::new(healthy)),
            Arc::new(AtomicUsize::new(0)),
            Arc::new(AtomicUsize::new(0)),
        );
        let (flag, count, count_checks) = (Arc::clone(&healthy), Arc::clone(&served), Arc::clone(&checks));
        let origin = Origin::start(move |conn| {
            while let Some(request) = conn.request() {
                if request.target() != "/healthz" {
                    count.fetch_add(1, Ordering::SeqCst);
                    conn.answer(&request, "ok");
                    continue;
                }
                count_checks.fetch_add(1, Ordering::SeqCst);
                let status = if flag.load(Ordering::SeqCst) { "200 OK" } else { "500 Broken" };
                conn.send(format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"));
                return;
            }
        });
        Self { origin, healthy, served, checks }
    }
}

const PROBE: &str =
    "probe = { path = \"/healthz\", interval = \"100ms\", timeout = \"500ms\", rise = 2, fall = 2 }";

#[test]
fn nothing_ready_is_503_and_says_when_to_come_again() {
    let one = Checked::start(false);
    let router = InProcess::start(Setup::new(web(&[one.origin.address, refusing()], PROBE, "")));
    router.wait_state("web", "failing");
    for request in
        ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"]
    {
        let response = router.ask(request);
        assert_eq!(
            (response.status, response.get("x-router-error")),
            (503, Some("none_ready H10")),
            "{request:?}"
        );
        assert_eq!(response.get("retry-after"), Some("5"));
    }
    assert_eq!(one.served.load(Ordering::SeqCst), 0);
}

#[test]
fn an_endpoint_gets_nothing_before_its_first_check_and_everything_after_one_success() {
    let (slow, never) = (Checked::start(true), Checked::start(false));
    let router = InProcess::start(Setup::new(web(&[slow.origin.address, never.origin.address], PROBE, "")));
    // Sent at once: the requests wait for the first check.
    let mut clients: Vec<_> = (0..10).map(|_| router.client()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    for client in &mut clients {
        assert_eq!(client.response().text(), "ok");
    }
    assert_eq!((slow.served.load(Ordering::SeqCst), never.served.load(Ordering::SeqCst)), (10, 0));
    assert!(slow.checks.load(Ordering::SeqCst) >= 1);
}

#[test]
fn a_failing_endpoint_is_set_aside_and_comes_back() {
    let (one, two) = (Checked::start(true), Checked::start(true));
    let router = InProcess::start(Setup::new(web(&[one.origin.address, two.origin.address], PROBE, "")));
    router.wait_state("web", "ready");
    let id = one.origin.address.to_string();
    let state = |router: &InProcess| {
        let mut all = router.endpoints("web");
        all.sort_by_key(|(other, _)| *other != id);
        all.into_iter().map(|(_, state)| state).collect::<Vec<_>>()
    };
    one.healthy.store(false, Ordering::SeqCst);
    until_true("one to fail", || state(&router) == ["failing", "ready"]);
    let before = one.served.load(Ordering::SeqCst);
    for _ in 0..20 {
        assert_eq!(router.get("/").text(), "ok");
    }
    assert_eq!(one.served.load(Ordering::SeqCst), before, "it fails and gets nothing");
    one.healthy.store(true, Ordering::SeqCst);
    until_true("one to rise", || state(&router) == ["ready", "ready"]);
    until_true("one to serve", || {
        router.get("/");
        one.served.load(Ordering::SeqCst) > before
    });
}

#[test]
fn the_body_and_the_status_of_a_check_count() {
    let rows: &[(&str, &str, bool)] = &[
        ("", "200 OK\r\nContent-Length: 2\r\n\r\nok", true),
        ("", "204 No Content\r\n\r\n", true),
        ("", "302 Found\r\nContent-Length: 0\r\n\r\n", false),
        ("", "503 No\r\nContent-Length: 0\r\n\r\n", false),
        ("status = \"200-399\"", "302 Found\r\nContent-Length: 0\r\n\r\n", true),
        ("body = \"fine\"", "200 OK\r\nContent-Length: 11\r\n\r\nall is fine", true),
        ("body = \"fine\"", "200 OK\r\nContent-Length: 10\r\n\r\nnot at all", false),
        ("", "garbage", false),
        ("tcp = true", "", true),
    ];
    for (keys, answer, passes) in rows {
        let origin = Origin::start(move |conn| {
            if conn.request().is_some_and(|request| request.target() == "/h") {
                conn.send(format!("HTTP/1.1 {answer}"));
            }
        });
        let kind =
            if keys.contains("tcp") { "tcp = true".to_owned() } else { format!("path = \"/h\", {keys}") };
        let probe = format!("probe = {{ {} }}", kind.trim_end_matches([',', ' ']));
        let router = InProcess::start(Setup::new(web(&[origin.address], &probe, "")));
        router.wait_state("web", if *passes { "ready" } else { "failing" });
        let _ = (keys, answer);
    }
}

/// A check that is never answered.
fn silent() -> Origin {
    Origin::start(|conn| conn.until_closed())
}

#[test]
fn waiting_for_a_first_check_is_bounded_in_number_and_time() {
    let origin = silent();
    let probe = "probe = { path = \"/healthz\", interval = \"1h\", timeout = \"1h\" }\nqueue = 2";
    let router =
        InProcess::start(Setup::new(web(&[origin.address], probe, "timeout = { connect = \"500ms\" }")));
    let began = Instant::now();
    let mut waiting: Vec<_> = (0..2).map(|_| router.client()).collect();
    for client in &mut waiting {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(client.is_quiet(Duration::from_millis(30)));
    }
    let third = router.get("/");
    assert_eq!((third.status, third.get("x-router-error")), (503, Some("queue_full H11")));
    for client in &mut waiting {
        let response = client.response();
        assert_eq!((response.status, response.get("x-router-error")), (503, Some("queue_timeout H20")));
        assert!(response.get("retry-after").is_some());
    }
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(490) && took < Duration::from_secs(3), "{took:?}");
    let records = router.records(3);
    assert!(
        records.iter().filter(|record| record["queue_ms"].as_f64() > Some(400.0)).count() == 2,
        "{records:?}"
    );
    // Places are given back.
    let mut again = router.client();
    again.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(again.is_quiet(Duration::from_millis(30)));
    assert_eq!(again.response().code(), "queue_timeout");
}

#[test]
fn a_client_that_leaves_the_queue_gives_its_place_back() {
    let origin = silent();
    let probe = "probe = { path = \"/healthz\", interval = \"1h\", timeout = \"1h\" }\nqueue = 1";
    let router =
        InProcess::start(Setup::new(web(&[origin.address], probe, "timeout = { connect = \"60s\" }")));
    let mut first = router.client();
    first.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(first.is_quiet(Duration::from_millis(50)));
    assert_eq!(router.get("/").code(), "queue_full");
    first.reset();
    until_true("the place to be free", || {
        let mut next = router.client();
        next.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        next.is_quiet(Duration::from_millis(100))
    });
}

#[test]
fn replacing_every_endpoint_at_once_makes_requests_wait_and_not_fail() {
    let echoes: Vec<Echo> = (0..6).map(|n| Echo::start(&n.to_string())).collect();
    let probe = "probe = { tcp = true }";
    let text = |pair: usize| web(&[echoes[pair * 2].address, echoes[pair * 2 + 1].address], probe, "");
    let mut router = InProcess::start(Setup::new(text(0)));
    let mut client = router.client();
    for turn in 0..30 {
        assert_eq!(client.get("a", "/").status, 200, "{turn}");
        router.publish(&text((turn + 1) % 3));
        assert_eq!(client.get("a", "/").status, 200, "right after swap {turn}");
    }
}

#[test]
fn a_draining_endpoint_gets_nothing_new_and_keeps_what_it_has() {
    let (go, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let old = Origin::start(move |conn| {
        while let Some(request) = conn.request() {
            if request.target() == "/slow" {
                gate.lock().unwrap().recv().unwrap();
            }
            conn.answer(&request, "old");
        }
    });
    let new = Origin::hello("new");
    let text = |drain: bool| {
        format!(
            "[cluster.web]\nendpoints = [{{ address = \"{}\", drain = {drain} }}{}]\n[[route]]\ncluster = \"web\"\n",
            old.address,
            if drain { format!(", {{ address = \"{}\" }}", new.address) } else { String::new() }
        )
    };
    let mut router = InProcess::start(Setup::new(text(false)));
    assert_eq!(router.get("/").text(), "old");
    let mut slow = router.client();
    slow.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    old.wait_received(1, 150);
    until_true("the slow request", || old.received(1).windows(5).any(|bytes| bytes == b"/slow"));
    router.publish(&text(true));
    for _ in 0..20 {
        assert_eq!(router.get("/").text(), "new");
    }
    go.send(()).unwrap();
    assert_eq!(slow.response().text(), "old");
    old.ended(1);
    assert_eq!(old.connections(), 1);
}
