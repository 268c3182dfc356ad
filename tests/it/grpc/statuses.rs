//! How calls ended, in metrics, records and the evidence against endpoints.

use ekiden_tests::{Ekiden, Served, Setup, cluster, until, until_true};

use super::{Server, ask, counted, router, status};

/// In the head of a response without messages, and in the trailers of one with some.
#[test]
fn counted_and_recorded() {
    let server = Server::start();
    let router = router(&server, "");
    for (method, message, number, word) in [
        ("Unary", "x", 0, "OK"),
        ("Status", "5", 5, "NOT_FOUND"),
        ("LateStatus", "9", 9, "FAILED_PRECONDITION"),
        ("LateStatus", "15", 15, "DATA_LOSS"),
        ("Nothing", "", 12, "UNIMPLEMENTED"),
    ] {
        let before = router.records(0).len();
        let reply = ask(router.address(), method, message.as_bytes(), &[]);
        assert_eq!((reply.status, status(&reply)), (200, number.to_string()), "{method}");
        let record = until("a record", || router.records(0).into_iter().nth(before));
        let said = (&record["code"], &record["status"], &record["grpc_status"]);
        assert_eq!(said, (&"complete".into(), &200.into(), &number.into()), "{record}");
        assert_eq!(counted(&router, word), 1.0, "{word}");
    }
    let of = |result: &str| {
        let text = router.metrics();
        let lines = text.lines().filter(|line| {
            line.starts_with("ekiden_grpc_requests_total") && line.contains(&format!("result=\"{result}\""))
        });
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum::<f64>()
    };
    assert_eq!((of("success"), of("failure")), (4.0, 1.0), "{}", router.metrics());
    // What is no call is not counted among them.
    let plain = ask(router.address(), "Unary", b"", &[("content-type", "application/json")]);
    assert_eq!(status(&plain), "");
    let record = until("a record", || router.records(0).into_iter().nth(5));
    assert_eq!(record.get("grpc_status"), None);
    assert_eq!((of("success"), of("failure")), (4.0, 1.0));
}

/// An endpoint whose calls fail is set aside, though each of its responses has the status 200; one whose clients ask for
/// what is not there is not.
#[test]
fn failures_speak_against_the_endpoint() {
    for (message, ejected) in [("14", true), ("13", true), ("5", false), ("12", false), ("8", false)] {
        for method in ["Status", "LateStatus"] {
            let (bad, good) = (Server::start(), Server::start());
            let keys = "protocol = \"h2\"\nejection = { consecutive = 3, base = \"1h\", max = \"1h\" }\n\
                        probe = { path = \"/no\", interval = \"1h\" }";
            let text = format!(
                "{}\n[[route]]\ncluster = \"web\"\n",
                cluster("web", &[bad.address, good.address], keys.split("\nprobe").next().unwrap())
            );
            let top = "timeout = { connect = \"15s\", connect_try = \"15s\" }";
            let router = Ekiden::start(Setup::new(text).top(top).listener("h2c = true"));
            let state = || {
                let text = router.metrics();
                text.lines()
                    .any(|line| line.starts_with("ekiden_cluster_ejections_total") && !line.ends_with(" 0"))
            };
            // Both fail: the first of them that has three failures in a row is set aside.
            for _ in 0..12 {
                ask(router.address(), method, message.as_bytes(), &[]);
            }
            if ejected {
                until_true("an ejection", state);
            } else {
                assert!(!state(), "{method} {message}");
            }
        }
    }
}

/// Endpoints that answer late because clients gave them little time keep their place.
#[test]
fn clients_in_a_hurry_speak_against_nobody() {
    let server = Server::start();
    let router = router(&server, "");
    for _ in 0..8 {
        let late = ask(router.address(), "Silent", b"", &[("grpc-timeout", "1m")]);
        assert_eq!(status(&late), "4");
    }
    let text = router.metrics();
    let ejections = text.lines().filter(|line| line.starts_with("ekiden_cluster_ejections"));
    assert!(ejections.clone().all(|line| line.ends_with(" 0")), "{:?}", ejections.collect::<Vec<_>>());
    assert_eq!(router.metric("ekiden_endpoint_ready", &["web"]), 1.0);
}
