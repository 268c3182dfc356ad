//! One of three endpoints is killed and started again and again, under load that may be sent twice: no client sees it,
//! and the endpoint has its share again soon.

use std::time::{Duration, Instant};

use super::{ejections, seen, serve, since, state, wait_state};
use ekiden_tests::{Flapper, Load, Refused, Served, now_ns, until_true};

const GETS: &[&str] = &["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET /page?x=1 HTTP/1.1\r\nHost: a\r\n\r\n"];

#[test]
fn a_flapping_endpoint_among_three_is_not_seen_by_clients() {
    for balance in ["p2c", "round_robin", "peak_ewma"] {
        let all = [Flapper::start(), Flapper::start(), Flapper::start()];
        let router = serve(&all.each_ref(), &format!("balance = \"{balance}\""), "");
        let load = Load::start(router.address(), 8, GETS, Refused::Fails);
        load.serve_more(300);
        for round in 1..=3u32 {
            all[0].down();
            wait_state(&router, &all[0], "ejected");
            let reason = seen(&router, &all[0])["reason"].to_string();
            assert!(reason.contains("no connection could be made"), "{reason}");
            let before = all[0].requests();
            load.serve_more(300);
            assert_eq!(all[0].requests(), before);
            all[0].up();
            let up_unix_ms = now_ns() / 1_000_000;
            wait_state(&router, &all[0], "ready");
            let took_ms = since(&router, &all[0]).saturating_sub(up_unix_ms);
            assert!(took_ms <= 2000, "{balance}: round {round}: its full share after {took_ms} ms");
            // By latency, a busy machine may make one of them look slow for a while.
            let mut share = 0.0;
            until_true("its share", || {
                let (own, others) = (all[0].requests(), all[1].requests() + all[2].requests());
                load.serve_more(600);
                let own = (all[0].requests() - own) as f64;
                share = own / (own + (all[1].requests() + all[2].requests() - others) as f64);
                balance != "peak_ewma" || (0.2..0.5).contains(&share)
            });
            assert!((0.2..0.5).contains(&share), "{balance}: round {round}: a share of {share}");
            assert_eq!(router.metric("ekiden_cluster_ejection_returns_total", &[]), f64::from(round));
        }
        let tally = load.stop();
        assert_eq!(tally.failed, Vec::<String>::new(), "{balance}: of {} requests", tally.served);
        assert!(router.metric("ekiden_cluster_ejections_total", &["connect"]) >= 3.0);
    }
}

/// It is up and says that it cannot: clients do not see that either, where the route has such answers asked for again.
#[test]
fn an_endpoint_that_answers_503_for_a_while_is_not_seen_by_clients() {
    let all = [Flapper::start(), Flapper::start(), Flapper::start()];
    let router = serve(&all.each_ref(), "", "retry = { on = [\"connect\", \"reset\", 503], attempts = 4 }");
    let load = Load::start(router.address(), 4, GETS, Refused::Fails);
    load.serve_more(300);
    for _ in 1..=3 {
        all[0].set_status(503);
        wait_state(&router, &all[0], "ejected");
        load.serve_more(300);
        all[0].set_status(200);
        // A 503 that was still on its way may have it set aside once more.
        let before = all[0].requests();
        until_true("its share", || all[0].requests() > before + 100);
    }
    let tally = load.stop();
    assert_eq!(tally.failed, Vec::<String>::new(), "of {} requests", tally.served);
    assert!(router.metric("ekiden_cluster_resends_total", &["status"]) >= 3.0);
}

/// Its connects work all the time: only requests can tell when it is well again, and those that may be sent again do.
#[test]
fn an_endpoint_that_answers_well_again_does_not_wait_for_its_hold() {
    let all = [Flapper::start(), Flapper::start(), Flapper::start()];
    // From the second ejection on it is held for an hour.
    let cluster = "balance = \"round_robin\"\nejection = { base = \"1h\", max = \"1h\" }";
    let router =
        serve(&all.each_ref(), cluster, "retry = { on = [\"connect\", \"reset\", 503], attempts = 3 }");
    let load = Load::start(router.address(), 4, GETS, Refused::Fails);
    for round in 1..=3 {
        all[0].set_status(503);
        until_true("so many ejections", || ejections(&router) >= f64::from(round));
        wait_state(&router, &all[0], "ejected");
        let tried = || router.metric("ekiden_cluster_ejection_tries_total", &["failed"]);
        let (before, served) = (tried(), all[0].requests());
        until_true("requests to try it", || round == 1 || tried() >= before + 2.0);
        let (tries, served) = (tried() - before + 1.0, all[0].requests() - served);
        assert!(round == 1 || served as f64 <= tries + 8.0, "{served} requests for {tries} tries");
        all[0].set_status(200);
        wait_state(&router, &all[0], "ready");
        let before = all[0].requests();
        load.serve_more(100);
        until_true("its share", || all[0].requests() > before + 20);
    }
    let reason = seen(&router, &all[0])["reason"].to_string();
    assert!(reason.contains("requests passed"), "{reason}");
    assert_eq!(load.stop().failed, Vec::<String>::new());
    assert!(router.metric("ekiden_cluster_ejection_tries_total", &["passed"]) >= 6.0);
}

/// What cannot be sent again, or is not to be after such a status, never tries it.
#[test]
fn requests_that_a_client_would_see_fail_try_nothing() {
    const POSTS: &[&str] = &["POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"];
    for (requests, retry) in [
        (POSTS, "retry = { on = [\"connect\", \"reset\", 503], attempts = 3 }"),
        (GETS, "retry = { on = [\"connect\", \"reset\", 502], attempts = 3 }"),
        (GETS, "retry = { on = [503], attempts = 3 }"),
        (GETS, ""),
    ] {
        let all = [Flapper::start(), Flapper::start()];
        let cluster = "balance = \"round_robin\"\nejection = { base = \"1h\", max = \"1h\" }\n\
             probe = { path = \"/healthz\", interval = \"1h\" }";
        let router = serve(&all.each_ref(), cluster, retry);
        for round in 1..=2 {
            all[0].set_status(503);
            until_true("so many ejections", || {
                router.get("/");
                ejections(&router) >= f64::from(round)
            });
            all[0].set_status(200);
            // The first ejection has no hold; the second one has it for an hour.
            if round == 1 {
                wait_state(&router, &all[0], "ready");
            }
        }
        all[0].set_status(503);
        let (checks, served) = (all[0].checks(), all[0].requests());
        let load = Load::start(router.address(), 2, requests, Refused::Fails);
        until_true("checks that pass", || all[0].checks() >= checks + 3);
        load.serve_more(50);
        assert_eq!(load.stop().failed, Vec::<String>::new(), "{retry}");
        assert_eq!((all[0].requests(), state(&router, &all[0])), (served, "ejected".to_owned()), "{retry}");
    }
}

#[test]
fn one_of_two_is_ejected_and_the_other_serves_everything() {
    let all = [Flapper::start(), Flapper::start()];
    let router = serve(&all.each_ref(), "", "");
    let load = Load::start(router.address(), 4, GETS, Refused::Fails);
    load.serve_more(50);
    all[1].down();
    wait_state(&router, &all[1], "ejected");
    let attempts = router.metric("ekiden_cluster_connects_total", &["failed"]);
    load.serve_more(200);
    assert_eq!(router.metric("ekiden_cluster_connects_total", &["failed"]), attempts, "no request tries it");
    assert_eq!(state(&router, &all[0]), "ready");
    all[1].up();
    wait_state(&router, &all[1], "ready");
    assert_eq!(load.stop().failed, Vec::<String>::new());
}

#[test]
fn when_all_fail_one_is_left_and_when_they_are_back_all_serve() {
    let all = [Flapper::start(), Flapper::start(), Flapper::start()];
    let router = serve(&all.each_ref(), "ejection = { max_percent = 100 }", "");
    assert_eq!(router.get("/").status, 200);
    all.iter().for_each(Flapper::down);
    let ejected = || all.iter().filter(|endpoint| state(&router, endpoint) == "ejected").count();
    until_true("two to be ejected", || {
        assert_eq!(router.get("/").code(), "connect_refused");
        ejected() == 2
    });
    // One of three is ready: fewer than half, so that the ejected ones are tried too.
    until_true("panic", || router.metric("ekiden_cluster_panic", &[]) == 1.0);
    for _ in 0..20 {
        assert_eq!(router.get("/").code(), "connect_refused");
        assert!(ejected() <= 2);
    }
    let served = seen(&router, all.iter().find(|endpoint| state(&router, endpoint) == "ejected").unwrap());
    assert!(served["reason"].to_string().contains("served all the same"), "{served}");
    assert!(router.metric("ekiden_cluster_ejections_withheld_total", &["last"]) >= 1.0);
    all.iter().for_each(Flapper::up);
    for endpoint in &all {
        wait_state(&router, endpoint, "ready");
    }
    assert_eq!(router.get("/").status, 200);
    assert_eq!(router.metric("ekiden_cluster_panic", &[]), 0.0);
}

#[test]
fn without_ejection_every_request_tries_again() {
    let all = [Flapper::start(), Flapper::start()];
    let router = serve(&all.each_ref(), "ejection = \"off\"\nbalance = \"round_robin\"", "");
    all[1].down();
    let mut client = router.client();
    for _ in 0..100 {
        assert_eq!(client.get("a", "/").status, 200);
    }
    assert_eq!((state(&router, &all[1]).as_str(), ejections(&router)), ("ready", 0.0));
    assert!(router.metric("ekiden_cluster_connects_total", &["failed"]) >= 40.0);
}

#[test]
fn while_ejected_it_is_checked_every_quarter_of_a_second() {
    let all = [Flapper::start(), Flapper::start()];
    let probe = "probe = { path = \"/healthz\", interval = \"1h\" }";
    let router = serve(&all.each_ref(), probe, "");
    wait_state(&router, &all[1], "ready");
    all[1].set_status(503);
    all[1].set_check_status(500);
    super::ask_until(&router, &all[1], "ejected");
    let (first, began) = (all[1].checks(), Instant::now());
    until_true("eight checks", || all[1].checks() >= first + 8);
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(1700), "eight checks in {took:?}");
    assert!(took < Duration::from_secs(6), "eight checks in {took:?}");
    assert_eq!(state(&router, &all[1]), "ejected");
    all[1].set_status(200);
    all[1].set_check_status(200);
    wait_state(&router, &all[1], "ready");
    let checks = all[1].checks();
    assert!(seen(&router, &all[1])["reason"].to_string().contains("a check passed after"));
    super::ask_until(&router, &all[1], "ready");
    assert_eq!(all[1].checks(), checks, "and then by its interval again");
}
