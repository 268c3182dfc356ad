//! `grpc-timeout`: read, enforced, and given on with the time that is left.

use std::net::SocketAddr;
use std::sync::mpsc::{Sender, channel};

use ekiden_core::grpc::timeout;
use ekiden_tests::{DEADLINE, Ekiden, Served, Setup, cluster, until};

use super::{Mute, Server, ask, idle, router, status, talk};

/// The client does nothing: the router ends the call, and the server hears of it.
#[test]
fn the_deadline_of_the_client_is_enforced() {
    let endpoint = Mute::start(false);
    let router = endpoint.router("");
    let late = ask(router.address(), "Silent", b"", &[("grpc-timeout", "300m")]);
    assert_eq!((late.status, status(&late).as_str()), (200, "4"));
    assert_eq!(late.code(), "deadline_exceeded");
    assert_eq!(late.field("content-type"), "application/grpc");
    assert!(late.field("grpc-message").starts_with("deadline_exceeded H12: "), "{late:?}");
    assert!(late.body.is_empty() && late.trailers.is_none());
    endpoint.wait_cancel();
    idle(&router);
    let record = until("a record", || router.records(0).into_iter().next());
    let said = (&record["code"], &record["status"], &record["grpc_status"]);
    assert_eq!(said, (&"deadline_exceeded".into(), &504.into(), &4.into()), "{record}");
    // It speaks against no endpoint.
    assert_eq!(router.metric("ekiden_endpoint_ready", &["web"]), 1.0);
    super::wait_counted(&router, "DEADLINE_EXCEEDED", 1.0);
    assert_eq!(router.metric("ekiden_outcomes_total", &["deadline_exceeded"]), 1.0);
}

/// In the middle of a response the status comes in trailers.
#[test]
fn a_response_that_has_begun_ends_in_trailers() {
    let endpoint = Mute::start(true);
    let router = endpoint.router("");
    // Long enough that the first message comes on any machine; nothing else happens until then.
    let late = ask(router.address(), "Hold", b"", &[("grpc-timeout", "2S")]);
    assert_eq!(late.body, super::framed(b"begun"));
    let trailers = late.trailers.as_ref().expect("trailers");
    assert_eq!(trailers["grpc-status"], "4");
    assert!(trailers["grpc-message"].to_str().unwrap().starts_with("deadline_exceeded H12: "));
    endpoint.wait_cancel();
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

/// A call that is sent again has less time left: what its second endpoint is told is no more than what the first was.
#[test]
fn a_replay_has_less_time() {
    let (tell, times) = channel();
    let addresses = [refusing(tell.clone()), refusing(tell)];
    let cluster = cluster("web", &addresses, "protocol = \"h2\"");
    let text = format!("{cluster}\n[[route]]\ncluster = \"web\"\n");
    let top = "timeout = { connect = \"15s\", connect_try = \"15s\" }";
    let router = Ekiden::start(Setup::new(text).top(top).listener("h2c = true"));
    let refused = ask(router.address(), "Any", b"", &[("grpc-timeout", "50S")]);
    assert_eq!((status(&refused).as_str(), refused.code()), ("14", "upstream_reset"), "{refused:?}");
    let next = || timeout::read(times.recv_timeout(DEADLINE).unwrap().as_bytes()).unwrap();
    let (first, second) = (next(), next());
    assert!(0 < second && second < first && first <= 50_000_000, "{first} {second}");
}

/// An endpoint that refuses every stream, so that any request may be sent again, and tells which time each was left.
fn refusing(tell: Sender<String>) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    std::thread::spawn(move || {
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let tell = tell.clone();
                tokio::spawn(async move {
                    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
                    while let Some(Ok((request, mut respond))) = connection.accept().await {
                        let time = &request.headers()["grpc-timeout"];
                        let _over = tell.send(time.to_str().unwrap().to_owned());
                        respond.send_reset(h2::Reason::REFUSED_STREAM);
                    }
                });
            }
        });
    });
    address
}

/// Without a deadline on either side there is none. One that cannot be read ends the call as servers of gRPC end it, before
/// any of them sees it: `grpcio` would also end later calls of others on the connection.
#[test]
fn no_deadline_and_a_malformed_one() {
    let server = Server::start();
    let router = router(&server, "");
    let values = ["1s", "123456789S", "-1S", "+1S", "S", "1", "1.5S", "1SS", "twice"];
    for value in values {
        let mut fields = vec![("grpc-timeout", value)];
        if value == "twice" {
            fields = vec![("grpc-timeout", "1S"), ("grpc-timeout", "1S")];
        }
        let refused = ask(router.address(), "Unary", b"x", &fields);
        assert_eq!((refused.status, status(&refused).as_str()), (200, "13"), "{value}");
        assert_eq!(refused.code(), "grpc_timeout_malformed", "{value}");
        // The same connection to the server serves others.
        assert_eq!(status(&ask(router.address(), "Unary", b"x", &[("grpc-timeout", "50S")])), "0");
    }
    assert_eq!(ask(router.address(), "Left", b"", &[]).body[5..], *b"none");
    assert_eq!(router.metric("ekiden_outcomes_total", &["grpc_timeout_malformed"]), values.len() as f64);
    let record = until("a record", || router.records(0).into_iter().next());
    let said = (&record["code"], &record["status"], &record["grpc_status"]);
    assert_eq!(said, (&"grpc_timeout_malformed".into(), &400.into(), &13.into()), "{record}");
}

/// The route's own time is over: another cause, the same status.
#[test]
fn the_time_of_the_route() {
    let endpoint = Mute::start(false);
    let router = endpoint.router("timeout = { total = \"300ms\" }");
    let late = ask(router.address(), "Silent", b"", &[("grpc-timeout", "1H")]);
    assert_eq!((status(&late).as_str(), late.code()), ("4", "total_timeout"));
}
