//! `X-Request-Deadline`: how long a request has, what endpoints are told of it, and what ends when it is over.

use super::connects::black_hole;
use ekiden_tests::{Conn, Echo, Ekiden, InProcess, Origin, Seen, Served, Setup, web};

fn asking(milliseconds: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\nX-Request-Deadline: {milliseconds}\r\n\r\n")
}

/// What an endpoint is told.
fn told(router: &InProcess, request: &str) -> Vec<String> {
    Seen::from(router.ask(request)).all("x-request-deadline")
}

#[test]
fn endpoints_are_told_what_is_left() {
    let echo = Echo::start("one");
    let serve = |timeout: &str, listener: &str| {
        let route = format!("timeout = {{ {timeout} }}");
        InProcess::start(Setup::new(web(&[echo.address], "", &route)).listener(listener))
    };
    let plain = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let both = asking("70000").replace("\r\n\r\n", "\r\nX-Request-Deadline: 9000\r\n\r\n");
    let trust = "trust = [\"127.0.0.1\"]";
    // (timeout, listener, request, most that is left, least)
    let rows: &[(&str, &str, &str, u64, u64)] = &[
        ("deadline = true, total = \"60s\"", "", plain, 60_000, 30_000),
        ("deadline = true", "", &asking("50000"), 50_000, 25_000),
        ("deadline = true, total = \"60s\"", "", &asking("50000"), 50_000, 25_000),
        ("deadline = true, total = \"60s\"", "", &asking("500000"), 60_000, 30_000),
        ("deadline = true, total = \"60s\"", trust, &asking("500000"), 500_000, 100_000),
        ("deadline = true, total = \"60s\"", trust, &asking("soon"), 60_000, 30_000),
        ("deadline = true, total = \"60s\"", "", &both, 9_000, 1),
    ];
    for (timeout, listener, request, most, least) in rows {
        let told = told(&serve(timeout, listener), request);
        assert_eq!(told.len(), 1, "{timeout} {request:?}: {told:?}");
        let left: u64 = told[0].parse().unwrap();
        assert!((*least..=*most).contains(&left), "{timeout} {request:?}: {left}");
    }
    assert_eq!(told(&serve("deadline = true", ""), plain), Vec::<String>::new());
    assert_eq!(told(&serve("deadline = true", ""), &asking("1s")), Vec::<String>::new());
    // Where nobody takes it, it is a field like any other.
    assert_eq!(told(&serve("total = \"60s\"", ""), &asking("soon")), ["soon"]);
}

#[test]
fn what_cannot_be_done_in_time_is_refused() {
    let silent = Origin::start(Conn::until_closed);
    let router = Ekiden::start(Setup::new(web(&[silent.address], "", "timeout = { deadline = true }")));
    let response = router.ask(&asking("0"));
    assert_eq!((response.status, response.code()), (504, "deadline_exceeded"));
    assert_eq!(silent.connections(), 0, "nothing was begun");
    for _ in 0..10 {
        assert_eq!(router.ask(&asking("50")).code(), "deadline_exceeded");
    }
    // The client's haste is not the endpoint's fault.
    assert!(router.metric("ekiden_endpoint_failures_total", &[]) < 0.5);
    assert!(router.records(11).iter().all(|record| record["status"] == 504));
}

/// A client cannot have an endpoint set aside by giving it no time.
#[test]
fn a_short_deadline_is_no_evidence() {
    let holes = [black_hole(), black_hole()];
    let addresses = holes.each_ref().map(|hole| hole.2);
    let router = Ekiden::start(Setup::new(web(
        &addresses,
        "ejection = { consecutive = 1 }",
        "timeout = { deadline = true, connect = \"60s\", connect_try = \"60s\" }",
    )));
    for _ in 0..4 {
        assert_eq!(router.ask(&asking("30")).code(), "deadline_exceeded");
    }
    assert_eq!(router.metric("ekiden_cluster_ejections_total", &["connect"]), 0.0);
}

#[test]
fn a_retry_is_told_less_and_never_comes_too_late() {
    let origin = |after: u32| {
        Origin::start(move |conn| {
            while let Some(request) = conn.request() {
                if conn.number == 1 {
                    conn.send(format!(
                        "HTTP/1.1 503 Busy\r\nRetry-After: {after}\r\nConnection: close\r\n\r\n"
                    ));
                    return;
                }
                let left = request.get("x-request-deadline").unwrap_or("").to_owned();
                conn.answer(&request, &left);
            }
        })
    };
    let keys = "retry = { on = [503], backoff = \"off\" }\ntimeout = { deadline = true }";
    let serve = |origin: &Origin| InProcess::start(Setup::new(web(&[origin.address], "", keys)));
    let busy = origin(1);
    let left: u64 = serve(&busy).ask(&asking("10000")).text().parse().unwrap();
    assert!(left <= 9_000, "{left}");
    let told = String::from_utf8(busy.received(1)).unwrap();
    let first: u64 = told
        .split("X-Request-Deadline: ")
        .nth(1)
        .and_then(|rest| rest.lines().next())
        .unwrap()
        .parse()
        .unwrap();
    assert!(first > left && first <= 10_000, "{first}");
    // The second would come after the end.
    let busy = origin(10);
    assert_eq!(serve(&busy).ask(&asking("10000")).status, 503);
    assert_eq!(busy.connections(), 1);
}

/// Both deadlines of a gRPC call are written anew with each try, whatever their lengths become; the head stays a head.
#[test]
fn both_deadlines_are_written_anew() {
    use ekiden_tests::http2::{ask_with, talk};
    let tries: std::sync::Arc<std::sync::Mutex<Vec<ekiden_tests::Received>>> = std::sync::Arc::default();
    let kept = std::sync::Arc::clone(&tries);
    let origin = Origin::start(move |conn| {
        while let Some(request) = conn.request() {
            let count = {
                let mut kept = kept.lock().unwrap();
                kept.push(request);
                kept.len()
            };
            if count == 3 {
                conn.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            } else {
                // It is asked again a second later, when either deadline has a digit less.
                conn.send("HTTP/1.1 503 No\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n");
            }
        }
    });
    let route = "timeout = { deadline = true }\nretry = { on = [503], attempts = 3, backoff = \"1ms\" }";
    let router = InProcess::start(
        Setup::new(web(&[origin.address], "retry_budget = \"off\"", route)).listener("h2c = true"),
    );
    let body = b"X-Smuggled: 1\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n";
    let reply = talk(router.setup().address(), async |client| {
        let request = http::Request::put("http://a/call")
            .header("content-type", "application/grpc")
            .header("grpc-timeout", "10100m")
            .header("x-request-deadline", "10100")
            .header("content-length", body.len())
            .body(())
            .unwrap();
        ask_with(&client, request, Some(body), None).await.unwrap()
    });
    assert_eq!(reply.status, 200);
    let tries = tries.lock().unwrap();
    assert_eq!(tries.len(), 3);
    for one in tries.iter() {
        let of = |name: &str| {
            let all = one.fields.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
            all.map(|(_, value)| value.as_str()).collect::<Vec<_>>()
        };
        let deadline = of("x-request-deadline");
        assert!(
            matches!(deadline[..], [one] if one.parse::<u32>().is_ok_and(|left| left <= 10_100)),
            "{one:?}"
        );
        let timeout = of("grpc-timeout");
        let is_timeout = |text: &str| text.trim_end_matches(['u', 'm', 'S']).parse::<u32>().is_ok();
        assert!(matches!(timeout[..], [one] if is_timeout(one)), "{one:?}");
        assert_eq!((one.body.as_slice(), of("x-smuggled").len()), (&body[..], 0));
    }
}
