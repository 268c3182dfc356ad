//! A failed connect goes to another endpoint, never the same twice, whatever the method.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::refusing;
use ekiden_tests::{Echo, InProcess, Seen, Served, Setup, web};

const REQUESTS: &[&str] = &[
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    "PATCH / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
];

fn serve(endpoints: &[SocketAddr], cluster: &str, route: &str) -> InProcess {
    InProcess::start(Setup::new(web(endpoints, cluster, route)))
}

#[test]
fn a_refused_connect_goes_to_another_endpoint() {
    for balance in ["p2c", "round_robin"] {
        let echo = Echo::start("one");
        // No pool: each request connects.
        let keys = format!("balance = \"{balance}\"\npool_idle = 0");
        let router = serve(&[refusing(), echo.address, refusing()], &keys, "");
        let mut asked = 0;
        for _ in 0..10 {
            for request in REQUESTS {
                let seen = Seen::from(router.ask(request));
                asked += 1;
                let body = if request.starts_with("GET") { "" } else { "hello" };
                assert_eq!(seen.text("body"), body, "{balance} {request:?}");
            }
        }
        assert_eq!(echo.requests(), asked);
        let records = router.records(30);
        let tried_again: Vec<_> =
            records.iter().filter(|record| record["attempts"].as_u64() > Some(1)).collect();
        assert!(!tried_again.is_empty(), "{balance}: no request met a refusing endpoint");
        for record in tried_again {
            assert_eq!(
                (&record["retry_cause"], &record["code"]),
                (&"connect_refused".into(), &"complete".into()),
                "{record}"
            );
            assert!(record["attempts"].as_u64() <= Some(3), "{record}");
        }
    }
}

#[test]
fn attempts_have_a_bound_and_no_endpoint_is_tried_twice() {
    for (endpoints, keys, attempts) in
        [(1, "", 1), (2, "", 2), (3, "", 3), (5, "", 3), (5, "attempts = 1", 1), (5, "attempts = 4", 4)]
    {
        for balance in ["p2c", "round_robin"] {
            let all: Vec<SocketAddr> = (0..endpoints).map(|_| refusing()).collect();
            let router = serve(&all, &format!("balance = \"{balance}\""), keys);
            for request in REQUESTS {
                let response = router.ask(request);
                let what = format!("{endpoints} endpoints {keys} {balance} {request:?}");
                assert_eq!((response.status, response.code()), (503, "connect_refused"), "{what}");
                assert!(response.get("retry-after").is_some(), "{what}");
            }
            let records = router.records(REQUESTS.len());
            for record in records {
                assert_eq!(
                    record["attempts"].as_u64(),
                    Some(attempts),
                    "{endpoints} endpoints {keys} {balance}: {record}"
                );
            }
        }
    }
}

/// A listener whose accept queue is full: the kernel drops further connection requests. The second part keeps it so.
pub(crate) fn black_hole() -> (socket2::Socket, Vec<TcpStream>, SocketAddr) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mut kept = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
        kept.push(stream);
        assert!(kept.len() < 100, "the accept queue has no bound");
    }
    (socket, kept, address)
}

#[test]
fn a_connect_has_a_deadline_per_try_and_in_all() {
    let (_socket, _kept, hole) = black_hole();
    let echo = Echo::start("one");
    let timeout = "timeout = { connect = \"2s\", connect_try = \"150ms\" }";
    let router = serve(&[hole, echo.address], "balance = \"round_robin\"\npool_idle = 0", timeout);
    for request in REQUESTS.iter().chain(REQUESTS) {
        assert_eq!(Seen::from(router.ask(request)).text("origin"), "one");
    }
    let causes: Vec<_> = router
        .records(6)
        .iter()
        .filter_map(|record| record["retry_cause"].as_str().map(str::to_owned))
        .collect();
    assert!(!causes.is_empty() && causes.iter().all(|cause| cause == "connect_timeout"), "{causes:?}");

    let (_socket_2, _kept_2, other) = black_hole();
    let router = serve(&[hole, other], "", "timeout = { connect = \"300ms\", connect_try = \"200ms\" }");
    let began = Instant::now();
    let response = router.get("/");
    assert_eq!((response.status, response.code()), (503, "connect_timeout"));
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(290) && took < Duration::from_millis(1500), "{took:?}");
}

#[test]
fn requests_are_spread_as_the_picker_says() {
    let echoes: Vec<Echo> = (0..3).map(|n| Echo::start(&n.to_string())).collect();
    let all: Vec<SocketAddr> = echoes.iter().map(|echo| echo.address).collect();
    let router = serve(&all, "balance = \"round_robin\"", "");
    let mut client = router.client();
    for _ in 0..30 {
        client.get("a", "/");
    }
    assert_eq!(echoes.iter().map(Echo::requests).collect::<Vec<_>>(), [10, 10, 10]);

    let router = serve(&all, "balance = \"p2c\"", "");
    let mut client = router.client();
    for _ in 0..300 {
        client.get("a", "/");
    }
    for echo in &echoes {
        assert!(echo.requests() > 10 + 40, "p2c starves an endpoint: {}", echo.requests());
    }
}

#[test]
fn weights_count() {
    let (heavy, light) = (Echo::start("heavy"), Echo::start("light"));
    let text = format!(
        "[cluster.web]\nbalance = \"round_robin\"\nendpoints = [{{ id = \"h\", address = \"{}\", weight = 3 }}, {{ id = \"l\", address = \"{}\" }}]\n\
         [[route]]\ncluster = \"web\"\n",
        heavy.address, light.address
    );
    let router = InProcess::start(Setup::new(text));
    let mut client = router.client();
    for _ in 0..40 {
        client.get("a", "/");
    }
    assert_eq!((heavy.requests(), light.requests()), (30, 10));
    assert_eq!(router.records(40)[0]["dyno"].as_str().map(str::len), Some(1), "the log names the id");
}
