//! `retry`: what a request is sent again for, which requests are, where they go, and what they wait for.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::refusing;
use ekiden_tests::http2::{ask, ask_with, get_of, talk};
use ekiden_tests::{Conn, Echo, Ekiden, Flapper, InProcess, Origin, Seen, Served, Setup, pattern, web};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";

/// Endpoints that stay where they are, whatever they answer.
fn serve(endpoints: &[SocketAddr], route: &str) -> InProcess {
    let cluster = "balance = \"round_robin\"\nejection = \"off\"";
    InProcess::start(Setup::new(web(endpoints, cluster, route)))
}

fn keyed(request: &str) -> String {
    request.replacen("\r\n\r\n", "\r\nIdempotency-Key: k\r\n\r\n", 1)
}

/// Answers the first requests, over all its connections, with this head, and then well.
fn first_with(count: usize, head: &'static str) -> Origin {
    let asked = AtomicUsize::new(0);
    Origin::start(move |conn| {
        while let Some(request) = conn.request() {
            if asked.fetch_add(1, Ordering::AcqRel) < count {
                conn.send(head);
            } else {
                conn.answer(&request, "good");
            }
        }
    })
}

#[test]
fn a_status_sends_a_request_to_another_endpoint() {
    let (bad, good) = (Flapper::start(), Flapper::start());
    bad.set_status(503);
    for (on, retried) in [("503", true), ("\"5xx\"", true), ("\"502-504\"", true), ("502", false)] {
        let router = serve(&[bad.address, good.address], &format!("retry = {{ on = [{on}] }}"));
        let mut client = router.client();
        let before = bad.requests();
        let statuses: Vec<u16> = (0..10).map(|_| client.get("a", "/").status).collect();
        let met = (bad.requests() - before) as usize;
        assert!(met >= 5, "{on}: {met}");
        assert_eq!(
            statuses.iter().filter(|status| **status == 503).count(),
            if retried { 0 } else { met },
            "{on}"
        );
        let again: Vec<_> =
            router.records(10).into_iter().filter(|record| record["attempts"].as_u64() == Some(2)).collect();
        assert_eq!(again.len(), if retried { met } else { 0 }, "{on}");
        for record in again {
            assert_eq!(record["retry_cause"], "status_retried", "{record}");
            assert_eq!(record["dyno"], good.address.to_string(), "{record}");
        }
    }
}

#[test]
fn what_may_not_be_sent_twice_is_not() {
    // (keys, request, after a status, after a reset)
    let (plain, key, any) = ("", ", replay = \"idempotency-key\"", ", replay = \"any\"");
    let (with_key, get_with_key) = (keyed(POST), keyed(GET));
    let rows: &[(&str, &str, bool, bool)] = &[
        (plain, GET, true, true),
        (plain, POST, false, false),
        (plain, &with_key, false, false),
        (key, POST, false, false),
        (key, &with_key, false, true),
        (key, &get_with_key, true, true),
        (any, POST, true, true),
        (any, &with_key, true, true),
    ];
    for (keys, request, after_status, after_reset) in rows {
        let route = format!("retry = {{ on = [\"reset\", 503]{keys} }}");
        let busy = first_with(1, "HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy");
        let response = serve(&[busy.address], &route).ask(request);
        assert_eq!(response.status, if *after_status { 200 } else { 503 }, "{keys} {request:?}");
        assert_eq!(response.text(), if *after_status { "good" } else { "busy" }, "{keys} {request:?}");
        let dying = Origin::start(|conn: &mut Conn| {
            let Some(request) = conn.request() else { return };
            if conn.number > 1 {
                conn.answer(&request, "good");
            }
        });
        let response = serve(&[dying.address], &route).ask(request);
        assert_eq!(response.status, if *after_reset { 200 } else { 502 }, "{keys} {request:?}");
        assert_eq!(dying.connections(), if *after_reset { 2 } else { 1 }, "{keys} {request:?}");
    }
}

#[test]
fn the_last_answer_is_the_endpoints_own() {
    let all: Vec<Flapper> = (0..4).map(|_| Flapper::start()).collect();
    all.iter().for_each(|one| one.set_status(503));
    let addresses: Vec<SocketAddr> = all.iter().map(|one| one.address).collect();
    let router = serve(&addresses, "retry = { on = [503], attempts = 4, backoff = \"off\" }");
    let response = router.get("/");
    assert_eq!((response.status, response.text().as_str(), response.code()), (503, "ok", ""));
    assert_eq!(all.iter().map(Flapper::requests).collect::<Vec<_>>(), [1, 1, 1, 1], "none is tried twice");
    assert_eq!(router.records(1)[0]["attempts"].as_u64(), Some(4));

    let router = serve(&addresses[..1], "retry = { on = [503], attempts = 3, backoff = \"off\" }");
    assert_eq!(router.get("/").status, 503);
    assert_eq!(all[0].requests(), 4, "one that has been tried, when there is no other");
}

#[test]
fn a_body_is_sent_again_whole_or_not_at_all() {
    for (bytes, chunked, status) in
        [(500, false, 200), (500, true, 200), (4_000, false, 503), (4_000, true, 503)]
    {
        let origin = first_with(1, "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
        let router = serve(&[origin.address], "retry = { on = [503], buffer = \"2KiB\" }");
        let body = pattern(bytes);
        let head = if chunked {
            format!("Transfer-Encoding: chunked\r\n\r\n{bytes:x}\r\n")
        } else {
            format!("Content-Length: {bytes}\r\n\r\n")
        };
        let end: &[u8] = if chunked { b"\r\n0\r\n\r\n" } else { b"" };
        let request = [format!("PUT / HTTP/1.1\r\nHost: a\r\n{head}").as_bytes(), &body, end].concat();
        let response = router.client().ask(request);
        assert_eq!(response.status, status, "{bytes} bytes, chunked {chunked}");
        let received: Vec<u8> =
            (1..=origin.connections()).flat_map(|number| origin.received(number)).collect();
        let copies = received.windows(body.len()).filter(|window| *window == body).count();
        assert_eq!(copies, if status == 200 { 2 } else { 1 }, "{bytes} bytes, chunked {chunked}");
        let limit = &router.records(1)[0]["limit"];
        assert_eq!(limit == "retry_buffer", status == 503, "{limit}");
    }
}

#[test]
fn a_try_that_takes_too_long_is_given_up() {
    let (silent, echo) = (Origin::start(Conn::until_closed), Echo::start("one"));
    let keys = "retry = { per_try = \"1s\", attempts = 2 }\ntimeout = { first_byte = \"60s\" }";
    let router = serve(&[silent.address, echo.address], keys);
    let mut client = router.client();
    for _ in 0..4 {
        assert_eq!(Seen::from(client.get("a", "/")).text("origin"), "one");
    }
    let met = silent.connections();
    let again = router.records(4).into_iter().filter(|record| record["retry_cause"] == "first_byte_timeout");
    assert_eq!(again.count(), met);
    assert!(met >= 2);
    // The last try is bounded too, and what may not be sent twice has one.
    let router = serve(&[silent.address], keys);
    let response = router.get("/");
    assert_eq!((response.status, response.code()), (504, "first_byte_timeout"));
    assert_eq!(router.ask(POST).code(), "first_byte_timeout");
    let attempts: Vec<_> = router.records(2).iter().map(|record| record["attempts"].as_u64()).collect();
    assert_eq!(attempts, [Some(2), Some(1)]);
}

#[test]
fn an_endpoint_is_left_alone_as_long_as_it_asks() {
    let origin = first_with(1, "HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n");
    let router = serve(&[origin.address], "retry = { on = [503] }");
    let began = Instant::now();
    assert_eq!(router.get("/").status, 200);
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    // Another endpoint has not asked for anything.
    let busy = first_with(9, "HTTP/1.1 503 Busy\r\nRetry-After: 3000\r\nContent-Length: 0\r\n\r\n");
    let router = serve(&[busy.address, origin.address], "retry = { on = [503] }");
    let mut client = router.client();
    assert_eq!([0; 4].map(|_| client.get("a", "/").status), [200; 4]);
    // Later than there is time for: the answer is passed on.
    for keys in ["", "timeout = { total = \"10s\" }"] {
        let router = serve(&[busy.address], &format!("retry = {{ on = [503] }}\n{keys}"));
        assert_eq!(router.get("/").get("retry-after"), Some("3000"));
        assert_eq!(router.records(1)[0]["limit"], "retry_time");
    }
}

#[test]
fn connects_and_resets_are_retried_where_the_list_names_them() {
    let echo = Echo::start("one");
    let all = [refusing(), echo.address];
    let without = serve(&all, "retry = { on = [503] }");
    let mut codes: Vec<String> = (0..4).map(|_| without.get("/").code().to_owned()).collect();
    codes.sort();
    assert_eq!(codes, ["", "", "connect_refused", "connect_refused"]);
    let with = serve(&all, "retry = { on = [503, \"connect\"] }");
    assert_eq!([0; 4].map(|_| with.get("/").status), [200; 4]);
    let dying = Origin::start(|conn| {
        conn.request();
    });
    let router = serve(&[dying.address], "retry = { on = [\"connect\"] }");
    assert_eq!((router.get("/").code(), dying.connections()), ("closed_without_response", 1));
    let router = serve(&[dying.address], "retry = { on = [\"reset\"], attempts = 5 }");
    assert_eq!((router.get("/").code(), dying.connections()), ("closed_without_response", 6));
}

#[test]
fn nothing_is_sent_again_once_a_byte_of_a_response_went_out() {
    let rows: &[(&str, &str)] = &[
        (
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
            "hints",
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", "half a body"),
        ("HTTP/1.1 20", "half a head"),
    ];
    for (answer, what) in rows {
        let answer = *answer;
        let origin = Origin::start(move |conn| {
            conn.request();
            conn.send(answer);
            conn.finish();
        });
        let router = serve(&[origin.address], "retry = { on = [\"reset\", \"5xx\"], attempts = 5 }");
        let mut client = router.client();
        client.send(GET.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
        client.rest();
        assert_eq!(origin.connections(), 1, "{what}");
        assert_eq!(router.records(1)[0]["attempts"].as_u64(), Some(1), "{what}");
    }
}

/// The answer that is given up leaves nothing behind: its connection is kept when all of it is there, else closed.
#[test]
fn nothing_of_an_answer_that_is_given_up_is_left() {
    for (answer, connections) in [
        ("HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy", 1),
        ("HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbusy\r\n0\r\n\r\n", 2),
        ("HTTP/1.1 503 Busy\r\nContent-Length: 9\r\n\r\nbusy", 2),
        ("HTTP/1.1 503 Busy\r\nConnection: close\r\n\r\nbusy", 2),
    ] {
        let origin = first_with(1, answer);
        let router = serve(&[origin.address], "retry = { on = [503] }");
        let mut client = router.client();
        for _ in 0..3 {
            let response = client.get("a", "/");
            assert_eq!((response.status, response.text().as_str()), (200, "good"), "{answer:?}");
        }
        assert_eq!(origin.connections(), connections, "{answer:?}");
    }
}

#[test]
fn streams_of_http2_are_sent_again_each_by_itself() {
    let (bad, good) = (Flapper::start(), Flapper::start());
    bad.set_status(503);
    let cluster = "balance = \"round_robin\"\nejection = \"off\"";
    let setup = Setup::new(web(&[bad.address, good.address], cluster, "retry = { on = [503] }"));
    let router = InProcess::start(setup.listener("h2c = true"));
    talk(router.address(), async |client| {
        for _ in 0..10 {
            let reply = ask(&client, get_of("a", "/")).await.unwrap();
            assert_eq!((reply.status, reply.text().as_str()), (200, "ok"));
            let put = http::Request::put("http://a/").body(()).unwrap();
            assert_eq!(ask_with(&client, put, Some(b"hello"), None).await.unwrap().status, 200);
        }
        let mut statuses = Vec::new();
        for _ in 0..4 {
            let post = http::Request::post("http://a/").body(()).unwrap();
            statuses.push(ask_with(&client, post, Some(b"hello"), None).await.unwrap().status);
        }
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 200, 503, 503]);
    });
    assert!(bad.requests() >= 12, "{}", bad.requests());
}

#[test]
fn a_client_that_leaves_ends_the_wait() {
    let origin = first_with(9, "HTTP/1.1 503 Busy\r\nRetry-After: 25\r\nContent-Length: 0\r\n\r\n");
    let router = Ekiden::start(Setup::new(web(&[origin.address], "", "retry = { on = [503] }")));
    let mut client = router.client();
    client.send(GET);
    ekiden_tests::until_true("a wait", || router.metric("ekiden_cluster_resends_total", &["status"]) == 1.0);
    client.reset();
    assert_eq!(router.records(1)[0]["code"], "client_gone");
    assert_eq!(router.metric("ekiden_cluster_requests_in_flight", &[]), 0.0);
}
