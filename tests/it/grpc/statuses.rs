//! How calls ended, in metrics, records and the evidence against endpoints.

use ekiden_tests::{Ekiden, Served, Setup, cluster, until, until_true};

use super::{Server, ask, router, status, wait_counted};

/// In the head of a response without messages, and in the trailers of one with some.
#[test]
fn counted_and_recorded() {
    let server = Server::start();
    let router = router(&server, "");
    let calls = [
        ("Unary", "x", 0, "OK"),
        ("Status", "5", 5, "NOT_FOUND"),
        ("LateStatus", "9", 9, "FAILED_PRECONDITION"),
        ("LateStatus", "15", 15, "DATA_LOSS"),
        ("Nothing", "", 12, "UNIMPLEMENTED"),
    ];
    for (place, (method, message, number, word)) in calls.into_iter().enumerate() {
        let reply = ask(router.address(), method, message.as_bytes(), &[]);
        assert_eq!((reply.status, status(&reply)), (200, number.to_string()), "{method}");
        let record = until("a record", || router.records(0).into_iter().nth(place));
        let said = (&record["code"], &record["status"], &record["grpc_status"]);
        assert_eq!(said, (&"complete".into(), &200.into(), &number.into()), "{record}");
        wait_counted(&router, word, 1.0);
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
    assert_eq!(plain.status, 200);
    let record = until("a record", || router.records(0).into_iter().nth(5));
    assert_eq!(record.get("grpc_status"), None);
    assert_eq!((of("success"), of("failure")), (4.0, 1.0));
}

/// An endpoint whose calls fail is set aside, though each of its responses has the status 200; one whose clients ask for
/// what is not there is not.
#[test]
fn failures_speak_against_the_endpoint() {
    for method in ["Perhaps", "LatePerhaps"] {
        let (bad, good) = (Server::start(), Server::start());
        let keys = "protocol = \"h2\"\nejection = { consecutive = 3, base = \"1h\", max = \"1h\" }";
        let text = format!(
            "{}\n[[route]]\ncluster = \"web\"\n",
            cluster("web", &[bad.address, good.address], &format!("{keys}\nbalance = \"round_robin\""))
        );
        let top = "timeout = { connect = \"15s\", connect_try = \"15s\" }";
        let router = Ekiden::start(Setup::new(text).top(top).listener("h2c = true"));
        let ejections =
            |cause: &str| router.metric("ekiden_cluster_ejections_total", &[&format!("cause=\"{cause}\"")]);
        for number in ["5", "12", "8", "1", "7", "16"] {
            ask(bad.address, "SetFailing", number.as_bytes(), &[]);
            (0..12).for_each(|_| drop(ask(router.address(), method, b"x", &[])));
        }
        assert_eq!(ejections("status"), 0.0, "{method}");
        // Then it fails for good, in the same window.
        ask(bad.address, "SetFailing", b"14", &[]);
        until_true("an ejection", || {
            ask(router.address(), method, b"x", &[]);
            ejections("status") > 0.5
        });
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

/// Who calls its request a call does not make a healthy server of anything else look like a failing one of gRPC.
#[test]
fn what_is_no_server_of_grpc_is_not_judged_as_one() {
    use ekiden_tests::Origin;
    use ekiden_tests::http2::{ask as ask_plain, get_of, talk};
    let origin = Origin::hello("hi");
    let text = format!("{}\n[[route]]\ncluster = \"web\"\n", cluster("web", &[origin.address], ""));
    let router = Ekiden::start(Setup::new(text).listener("h2c = true"));
    talk(router.address(), async |client| {
        for _ in 0..5 {
            let mut request = get_of("a", "/");
            request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
            assert_eq!(ask_plain(&client, request).await.unwrap().status, 200);
        }
    });
    until_true("the calls", || router.metric("ekiden_grpc_requests_total", &[]) == 5.0);
    assert_eq!(router.metric("ekiden_endpoint_failures_total", &[]), 0.0);
}
