//! `grpc-timeout`: read, enforced, and given on with the time that is left.

use ekiden_tests::{Served, until};

use super::{Server, ask, idle, router, status, talk};

/// The client does nothing: the router ends the call, and the server hears of it.
#[test]
fn the_deadline_of_the_client_is_enforced() {
    let server = Server::start();
    let router = router(&server, "");
    let late = ask(router.address(), "Silent", b"", &[("grpc-timeout", "300m")]);
    assert_eq!((late.status, status(&late).as_str()), (200, "4"));
    assert_eq!(late.code(), "deadline_exceeded");
    assert_eq!(late.field("content-type"), "application/grpc");
    assert!(late.field("grpc-message").starts_with("deadline_exceeded H12: "), "{late:?}");
    assert!(late.body.is_empty() && late.trailers.is_none());
    server.wait("ended", 1);
    idle(&router);
    let record = until("a record", || router.records(0).into_iter().next());
    let said = (&record["code"], &record["status"], &record["grpc_status"]);
    assert_eq!(said, (&"deadline_exceeded".into(), &504.into(), &4.into()), "{record}");
    // It speaks against no endpoint.
    assert_eq!(router.metric("ekiden_endpoint_ready", &["web"]), 1.0);
    assert_eq!(super::counted(&router, "DEADLINE_EXCEEDED"), 1.0);
    assert_eq!(router.metric("ekiden_outcomes_total", &["deadline_exceeded"]), 1.0);
}

/// In the middle of a response the status comes in trailers.
#[test]
fn a_response_that_has_begun_ends_in_trailers() {
    let server = Server::start();
    let router = router(&server, "");
    // Long enough that the first message comes on any machine; nothing else happens until then.
    let late = ask(router.address(), "Hold", b"", &[("grpc-timeout", "2S")]);
    assert_eq!(late.body, super::framed(b"begun"));
    let trailers = late.trailers.as_ref().expect("trailers");
    assert_eq!(trailers["grpc-status"], "4");
    assert!(trailers["grpc-message"].to_str().unwrap().starts_with("deadline_exceeded H12: "));
    server.wait("ended", 1);
}

#[test]
fn no_time_left_sends_nothing() {
    let server = Server::start();
    let router = router(&server, "");
    for value in ["0n", "0S", "00000000H"] {
        let late = ask(router.address(), "Silent", b"", &[("grpc-timeout", value)]);
        assert_eq!((status(&late).as_str(), late.code()), ("4", "deadline_exceeded"), "{value}");
    }
    assert_eq!(server.count("called"), 0);
}

/// What the server is told is never more than what is left of the route's time or of the client's.
#[test]
fn the_time_that_is_left_goes_on() {
    let server = Server::start();
    let router = router(&server, "timeout = { total = \"20s\" }");
    let said = talk(router.address(), "left");
    let left: Vec<f64> = said.lines().map(|line| line.parse().unwrap()).collect();
    assert!(left.iter().all(|left| (0.001..=20.0).contains(left)), "{left:?}");
    // The client's own is less.
    let reply = ask(router.address(), "Left", b"", &[("grpc-timeout", "10S")]);
    let left: f64 = String::from_utf8_lossy(&reply.body[5..]).parse().unwrap();
    assert!((0.001..=10.0).contains(&left), "{left}");
}

/// Without a deadline on either side there is none, and what cannot be read is the server's to judge.
#[test]
fn no_deadline_and_a_malformed_one() {
    let server = Server::start();
    let router = router(&server, "");
    assert_eq!(ask(router.address(), "Left", b"", &[]).body[5..], *b"none");
    for value in ["1s", "123456789S", "-1S", "S"] {
        let through = ask(router.address(), "Left", b"", &[("grpc-timeout", value)]);
        let direct = ask(server.address, "Left", b"", &[("grpc-timeout", value)]);
        assert_eq!(
            (through.status, status(&through), through.body),
            (direct.status, status(&direct), direct.body),
            "{value}"
        );
    }
}

/// The route's own time is over: another cause, the same status.
#[test]
fn the_time_of_the_route() {
    let server = Server::start();
    let router = router(&server, "timeout = { total = \"300ms\" }");
    let late = ask(router.address(), "Silent", b"", &[("grpc-timeout", "1H")]);
    assert_eq!((status(&late).as_str(), late.code()), ("4", "total_timeout"));
}
