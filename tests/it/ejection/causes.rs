//! What is evidence and what is not: statuses by cause, lost connections, timeouts, and clients that go away.

use super::{ask_until, ejections, seen, serve, state};
use ekiden_tests::{Flapper, Origin, Served, Setup, until_true, web};

#[test]
fn an_endpoint_that_answers_5xx_while_the_other_serves_is_ejected() {
    for status in [500, 503] {
        let all = [Flapper::start(), Flapper::start()];
        let router = serve(&all.each_ref(), "", "");
        all[0].set_status(status);
        let statuses = ask_until(&router, &all[0], "ejected");
        assert!(statuses.iter().all(|one| *one == status || *one == 200));
        let reason = seen(&router, &all[0])["reason"].to_string();
        assert!(reason.contains("a status from 500 on"), "{reason}");
        assert_eq!(router.metric("ekiden_cluster_ejections_total", &["cause=\"status\""]), 1.0);
        all[0].set_status(200);
        ask_until(&router, &all[0], "ready");
    }
}

#[test]
fn what_all_endpoints_answer_or_the_request_brings_about_ejects_nobody() {
    for (both, status) in [(true, 500), (true, 503), (false, 501), (false, 505), (false, 404), (false, 429)] {
        let all = [Flapper::start(), Flapper::start()];
        let router = serve(&all.each_ref(), "", "");
        all[0].set_status(status);
        if both {
            all[1].set_status(status);
        }
        let mut client = router.client();
        for _ in 0..300 {
            client.get("a", "/");
        }
        // The judge has seen it: an ejection for another reason comes after.
        assert!(all[0].requests() > 100);
        assert_eq!(ejections(&router), 0.0, "{status}");
        assert_eq!([state(&router, &all[0]), state(&router, &all[1])], ["ready", "ready"], "{status}");
    }
}

#[test]
fn an_endpoint_that_passes_checks_and_fails_requests_costs_fewer_and_fewer() {
    let all = [Flapper::start(), Flapper::start()];
    let router = serve(&all.each_ref(), "", "");
    all[0].set_status(503);
    let (mut client, mut failed, mut served) = (router.client(), 0, 0);
    // Five failures for the first ejection, two for each return after 0.25, 1 and 2 s, and what is under way. Asking for the
    // count gives the judge its turn: what it decides is held here, not how soon a busy machine lets it.
    let (mut told, mut since) = (0.0, 0);
    until_true("four ejections", || {
        for _ in 0..20 {
            match client.get("a", "/").status {
                200 => served += 1,
                _ => (failed, since) = (failed + 1, since + 1),
            }
            if since > 0 && ejections(&router) > told {
                (told, since) = (ejections(&router), 0);
            }
        }
        ejections(&router) >= 4.0
    });
    assert!(failed <= 5 + 3 * 4, "{failed} failed, {served} served");
    assert!(served > 100);
}

#[test]
fn lost_connections_and_slow_answers_are_evidence() {
    let lossy = |request: &str, origin: Origin, word: &str| {
        let good = Flapper::start();
        let text = web(&[good.address, origin.address], "", "timeout = { first_byte = \"100ms\" }");
        let router = ekiden_tests::Ekiden::start(Setup::new(text));
        let bad = ekiden_tests::Ekiden::endpoint_path("web", &origin.address.to_string());
        until_true(&format!("an ejection by {word}"), || {
            router.ask(request);
            router.control("GET", &bad, "").json()["state"] == "ejected"
                && router.metric("ekiden_cluster_ejections_total", &[word]) >= 1.0
        });
        assert_eq!(state(&router, &good), "ready");
    };
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    lossy(post, Origin::start(|conn| drop(conn.request())), "reset");
    lossy(get, Origin::start(|conn| drop(conn.request())), "reset");
    lossy(get, Origin::start(|conn| conn.until_closed()), "timeout");
    let garbage = Origin::start(|conn| {
        conn.request();
        conn.send("nonsense\r\n\r\n");
    });
    lossy(get, garbage, "protocol");
}

#[test]
fn pooled_connections_that_die_of_age_are_no_evidence() {
    // Each connection serves one request and dies at the next.
    let aged = Origin::start(|conn| {
        if let Some(request) = conn.request() {
            conn.answer(&request, "ok");
        }
        conn.request();
    });
    let good = Flapper::start();
    let keys = "ejection = { consecutive = 1 }\nbalance = \"round_robin\"";
    let router = ekiden_tests::Ekiden::start(Setup::new(web(&[good.address, aged.address], keys, "")));
    let mut client = router.client();
    for _ in 0..60 {
        assert_eq!(client.get("a", "/").status, 200);
    }
    assert!(router.metric("ekiden_cluster_replays_total", &[]) >= 10.0, "no connection died");
    // What may not be sent twice is lost with its connection, and that is no evidence either.
    let mut lost = 0;
    for _ in 0..60 {
        match client.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").status {
            502 => {
                client = router.client();
                lost += 1;
            }
            status => assert_eq!(status, 200),
        }
    }
    assert!(lost >= 5, "no POST was lost");
    assert_eq!(ejections(&router), 0.0);
}

#[test]
fn clients_that_go_away_or_are_slow_eject_nobody() {
    let all = [Flapper::start(), Flapper::start()];
    let router = serve(&all.each_ref(), "ejection = { consecutive = 1 }", "timeout = { total = \"2s\" }");
    assert_eq!(router.get("/").status, 200);
    let gone = || router.metric("ekiden_outcomes_total", &["\"client_gone\""]);
    // One that is answered before its client has gone, on a slow machine, does not count.
    until_true("enough clients to go away", || {
        let before = all[0].requests() + all[1].requests();
        let mut client = router.client();
        client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
        until_true("the request to arrive", || all[0].requests() + all[1].requests() > before);
        client.reset();
        gone() >= 25.0
    });
    // An upload that is too slow for the whole time: the endpoint has not been late with anything.
    let mut uploads: Vec<_> = (0..10).map(|_| router.client()).collect();
    for client in &mut uploads {
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf");
    }
    for client in &mut uploads {
        assert_eq!(client.response().code(), "total_timeout");
    }
    until_true("all to be ended", || router.metric("ekiden_cluster_requests_in_flight", &[]) == 0.0);
    assert_eq!(ejections(&router), 0.0);
    assert_eq!([state(&router, &all[0]), state(&router, &all[1])], ["ready", "ready"]);
}

#[test]
fn a_router_behind_says_itself_whose_fault_it_was() {
    for (code, is_evidence) in [("connect_refused H21", true), ("body_timeout H28", false)] {
        let all = [Flapper::start(), Flapper::start()];
        let router = serve(&all.each_ref(), "peer_router = true", "");
        all[0].set_fields(&format!("X-Router-Error: {code}\r\n"));
        all[0].set_status(503);
        if is_evidence {
            ask_until(&router, &all[0], "ejected");
            continue;
        }
        let mut client = router.client();
        for _ in 0..200 {
            client.get("a", "/");
        }
        assert_eq!((state(&router, &all[0]).as_str(), ejections(&router)), ("ready", 0.0));
    }
}
