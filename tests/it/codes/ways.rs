//! One row for each cause, without a catch-all arm: the phase it strikes in, and how it is brought about.

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use ekiden_core::outcome::{Cause, Phase};
use ekiden_tests::{Client, Lost, Served, until};

use super::Way::{self, Alone, Elsewhere, Run, Sent};
use super::alone;
use super::world::World;
use super::{Seen, sent};

/// `GET target` with these field lines, each ended by CRLF.
fn get(phase: Phase, target: &str, fields: &str) -> Way {
    Sent(phase, format!("GET {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))
}

/// `POST /` with these field lines, and what follows the head.
fn post(phase: Phase, target: &str, fields: &str, body: &str) -> Way {
    Sent(phase, format!("POST {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}"))
}

const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";

/// How a cause is brought about.
#[expect(clippy::too_many_lines, reason = "one row for each cause")]
pub(super) fn of(cause: Cause) -> Way {
    use Phase::{Connect, Head, Match, Queue, Relay, Send, Wait};
    match cause {
        Cause::Complete => get(Relay, "/good", ""),
        Cause::FramingConflict => post(Head, "/", &format!("{CHUNKED}Content-Length: 3\r\n"), ""),
        Cause::LengthRepeated => post(Head, "/", "Content-Length: 3\r\nContent-Length: 3\r\n", ""),
        Cause::LengthInvalid => post(Head, "/", "Content-Length: +3\r\n", ""),
        Cause::TransferEncodingInvalid => post(Head, "/", "Transfer-Encoding: chunked, chunked\r\n", ""),
        Cause::TransferEncodingUnsupported => post(Head, "/", "Transfer-Encoding: gzip\r\n", ""),
        Cause::TransferEncodingInOldVersion => {
            Sent(Head, format!("POST / HTTP/1.0\r\nHost: a\r\n{CHUNKED}\r\n"))
        }
        Cause::ChunkMalformed => post(Send, "/", CHUNKED, "x\r\n"),
        Cause::TrailerMalformed => post(Send, "/", CHUNKED, "0\r\nContent-Length: 3\r\n\r\n"),
        Cause::LineEndingMalformed => get(Head, "/", "A: b\n"),
        Cause::FieldFolded => get(Head, "/", "A: b\r\n c\r\n"),
        Cause::FieldMalformed => get(Head, "/", "A : b\r\n"),
        Cause::FieldValueIllegal => get(Head, "/", "A: \x01\r\n"),
        Cause::HostMissing => Sent(Head, "GET / HTTP/1.1\r\n\r\n".to_owned()),
        Cause::HostRepeated => get(Head, "/", "Host: a\r\n"),
        Cause::HostIllegal => Sent(Head, "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".to_owned()),
        Cause::AuthorityMismatch => get(Head, "http://b/", ""),
        Cause::SchemeUnsupported => get(Head, "ftp://a/", ""),
        Cause::TargetMalformed => get(Head, "a", ""),
        Cause::RequestLineMalformed => get(Head, " /", ""),
        Cause::VersionUnsupported => Sent(Head, "GET / HTTP/1.2\r\nHost: a\r\n\r\n".to_owned()),
        Cause::MethodMalformed => Sent(Head, "G(T / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
        Cause::MethodRefused => Sent(Head, "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
        Cause::ExpectUnknown => get(Head, "/", "Expect: 200-ok\r\n"),
        Cause::Http2Preface => Sent(Head, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
        Cause::ConnectionNomination => get(Head, "/", "Connection: Host\r\n"),
        Cause::UnderscoreField => get(Head, "/", "X_Forwarded_For: 1.2.3.4\r\n"),
        Cause::RequestLineTooLong => get(Head, &format!("/{}", "x".repeat(9_000)), ""),
        Cause::FieldTooLarge => get(Head, "/", &format!("A: {}\r\n", "x".repeat(17_000))),
        Cause::HeadTooLarge => get(Head, "/", &format!("A: {}\r\n", "x".repeat(15_000)).repeat(5)),
        Cause::TooManyFields => get(Head, "/", &"A: b\r\n".repeat(101)),
        Cause::HeadTimeout => Sent(Head, "GET / HTTP/1.1\r\nHost: a\r\n".to_owned()),
        Cause::BodyTimeout => post(Send, "/", "Content-Length: 3\r\n", "x"),
        Cause::BodyTooLarge => post(Send, "/limited", CHUNKED, "b\r\n01234567890\r\n0\r\n\r\n"),
        Cause::BodyTruncated => Run(Send, truncated_body),
        Cause::BodyTooSlow => Run(Send, slow_body),
        Cause::GrpcTimeoutMalformed => {
            Elsewhere("its response is one of gRPC; tests/it/grpc/deadlines holds it with record and metric")
        }
        Cause::GrpcWebMalformed => {
            Elsewhere("its response is one of gRPC; tests/it/grpc/web holds it with record and metric")
        }
        Cause::PathIllegal => get(Match, "/%00", ""),
        Cause::PathAmbiguous => get(Match, "//closed", ""),
        Cause::ClientDenied => get(Match, "/clients", ""),
        Cause::HostDenied => get(Match, "/hosts", ""),
        Cause::MethodDenied => post(Match, "/methods", "Content-Length: 0\r\n", ""),
        Cause::ContentTypeDenied => post(Match, "/types", "Content-Length: 1\r\n", "x"),
        Cause::FieldDenied => get(Match, "/fields", "X-Debug: 1\r\n"),
        Cause::RateLimited => Run(Match, one_too_many),
        Cause::CorsDenied => Sent(
            Match,
            "OPTIONS /cors HTTP/1.1\r\nHost: a\r\nOrigin: http://b\r\nAccess-Control-Request-Method: GET\r\n\r\n".to_owned(),
        ),
        Cause::CredentialsMissing => get(Match, "/staff", ""),
        Cause::CredentialsRefused => get(Match, "/staff", "Authorization: Basic !\r\n"),
        Cause::AuthorizerFailed => get(Match, "/asked", ""),
        Cause::AuthorizerRefused => {
            Elsewhere("the status is that of the authorizer; tests/it/auth/authorizer.rs holds it")
        }
        Cause::FaultInjected => {
            Elsewhere("the status is that of the route; tests/it/faults.rs holds it")
        }
        Cause::TokenExpired | Cause::ClaimRefused => {
            Elsewhere("a token has to be signed for it; tests/it/auth/tokens.rs holds both")
        }
        Cause::CredentialsThrottled => {
            Elsewhere("a client must guess many passwords; tests/it/auth/passwords.rs holds it")
        }
        Cause::CredentialsBusy => {
            Elsewhere("a line of 256 passwords must fill; tests/it/auth/passwords.rs holds it")
        }
        Cause::CredentialsUnavailable => get(Match, "/lost", "Authorization: Basic YTpi\r\n"),
        Cause::PlainOnTls => Alone(Match, alone::plain_on_tls),
        Cause::Misdirected => Alone(Match, alone::misdirected),
        Cause::ClientHelloMalformed => {
            Elsewhere("what is no TLS gets no answer; tests/it/raw holds record and metric")
        }
        Cause::ProxyHeaderMalformed => {
            Run(Head, |world| sent(world.proxied(), "GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
        }
        Cause::ProxyHeaderTimeout => Run(Head, |world| sent(world.proxied(), "PROXY TCP4 ")),
        Cause::ShardKeyMissing => get(Match, "/keyed", ""),
        Cause::NoRoute => Sent(Match, "GET / HTTP/1.1\r\nHost: nowhere\r\n\r\n".to_owned()),
        Cause::MethodNotAllowed => Sent(Match, "GET / HTTP/1.1\r\nHost: post\r\n\r\n".to_owned()),
        Cause::NoEndpoints => get(Connect, "/empty", ""),
        Cause::NoneReady => get(Connect, "/sick", ""),
        Cause::ClusterGone => Alone(Connect, alone::cluster_gone),
        Cause::EndpointGone => Elsewhere(
            "a mark must fall between a connect and the head behind it, in microseconds, with no other endpoint to try; \
             tests/it/swap holds that no head goes to a marked one",
        ),
        Cause::ShardUnavailable => get(Connect, "/store", "X-Key: a\r\n"),
        Cause::QueueFull => Run(Queue, full_queue),
        Cause::QueueTimeout => get(Queue, "/waiting", ""),
        Cause::ConnectRefused => get(Connect, "/refusing", ""),
        Cause::ConnectTimeout => get(Connect, "/hole", ""),
        Cause::ConnectFailed => get(Connect, "/nowhere", ""),
        Cause::SocketsExhausted => Alone(Connect, alone::sockets_exhausted),
        Cause::BreakerOpen => Alone(Connect, alone::breaker_open),
        Cause::AppLimited => Alone(Match, alone::app_limited),
        Cause::Maintenance => Alone(Match, alone::maintenance),
        Cause::HoldFull => Alone(Queue, alone::hold_full),
        Cause::HoldTimeout => Alone(Queue, alone::hold_timeout),
        Cause::SelfAddress => Elsewhere(
            "every source of endpoints refuses such an address before, so that the look at connect is a second one; \
             control/tests/it/guard.rs and tests/it/control/dns.rs hold the first",
        ),
        Cause::TlsFailed => get(Connect, "/tls/garbage", ""),
        Cause::TlsCertificateInvalid => get(Connect, "/tls/stranger", ""),
        Cause::TlsAlert => get(Connect, "/tls/closed", ""),
        Cause::Http2Failed => get(Connect, "/http2", ""),
        Cause::TlsUnavailable => get(Connect, "/tls/lost", ""),
        Cause::WebsocketKeyInvalid =>  Elsewhere("an endpoint of HTTP/2 is needed; tests/it/endpoint_http2/websocket.rs holds it"),
        Cause::UpgradeUnsupported => Elsewhere(
            "an endpoint of HTTP/2 is needed; tests/it/endpoint_http2/websocket.rs holds response, record and metric",
        ),
        Cause::SendTimeout => Run(Send, mute_endpoint),
        Cause::FirstByteTimeout => get(Wait, "/silent", ""),
        Cause::ClosedWithoutResponse => post(Wait, "/fin", "Content-Length: 0\r\n", ""),
        Cause::StatusRetried => Alone(Connect, alone::status_retried),
        Cause::ResponseMalformed => get(Wait, "/garbage", ""),
        Cause::ResponseTooLarge => get(Wait, "/large", ""),
        Cause::UpstreamReset => post(Wait, "/reset", "Content-Length: 0\r\n", ""),
        Cause::UpstreamTruncated => Run(Relay, short_response),
        Cause::UpstreamIdle => Run(Relay, paused_response),
        Cause::TotalTimeout => get(Wait, "/total", ""),
        Cause::DeadlineExceeded => get(Connect, "/deadline", "X-Request-Deadline: 0\r\n"),
        Cause::Drained => Alone(Wait, alone::drained),
        Cause::Overloaded => Alone(Match, alone::overloaded),
        Cause::RewriteTooLarge => Run(Match, rewritten),
        Cause::BackendFailed => Elsewhere(
            "no plug-in of the binary can fail; tests/it/backend and tests/it/seams hold one that does",
        ),
        Cause::Panicked => Elsewhere(
            "a fault of our own, which no input is known to reach; the tests of router/src/worker/connection.rs hold it",
        ),
        Cause::TunnelIdle => Run(Relay, silent_tunnel),
        Cause::Http2OverBudget => Elsewhere(
            "the client must flood in frames of HTTP/2, and gets no response; tests/it/http2/budgets.rs holds record and metric",
        ),
        Cause::ClientGone => Run(Wait, gone_client),
        Cause::ClientIdle => Run(Relay, unread_response),
        Cause::ClientTooSlow => Run(Relay, slow_reader),
        Cause::Dropped => Elsewhere(
            "an exchange is dropped at the end of the process only; the tests of router/src/worker/connection.rs hold it",
        ),
    }
}

fn address(client: &Client) -> String {
    client.socket().local_addr().unwrap().to_string()
}

/// The response is cut: a client that was promised more is not told anything else.
fn cut(world: &World, target: &str) -> Seen {
    let mut client = world.router.client();
    let address = address(&client);
    client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
    let lost = client.read(false);
    assert!(matches!(lost, Err(Lost::Truncated(_))), "{lost:?}");
    Seen { client: address, earlier: 0, response: None }
}

fn short_response(world: &World) -> Seen {
    cut(world, "/short")
}

fn paused_response(world: &World) -> Seen {
    cut(world, "/pause")
}

fn one_too_many(world: &World) -> Seen {
    const GET: &str = "GET /rate HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut client = world.router.client();
    assert_eq!(client.ask(GET).status, 200);
    Seen { earlier: 1, ..sent(client, GET) }
}

/// Whole within the listener's bound, and beyond it with what the route adds.
fn rewritten(world: &World) -> Seen {
    sent(world.demanding(), &format!("GET /rewrite/{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(62_000)))
}

fn truncated_body(world: &World) -> Seen {
    let mut client = world.router.client();
    let address = address(&client);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nx");
    client.finish();
    Seen { client: address, earlier: 0, response: Some(client.response()) }
}

/// Bytes all the time, and too few.
fn slow_body(world: &World) -> Seen {
    let mut client = world.demanding();
    let address = address(&client);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n");
    let mut socket = client.socket().try_clone().unwrap();
    client.patience(Duration::from_millis(10));
    let response = until("the end of a slow body", || {
        let _cut_already = socket.write(b"x");
        match client.read(false) {
            Ok(response) => Some(response),
            Err(Lost::Silent) => None,
            Err(lost) => panic!("{lost:?}"),
        }
    });
    Seen { client: address, earlier: 0, response: Some(response) }
}

/// The only place is taken by another request.
fn full_queue(world: &World) -> Seen {
    let depth = || world.router.metric("ekiden_cluster_queue_depth", &["cluster=\"waiting\""]);
    let mut first = world.router.client();
    first.send("GET /waiting/long HTTP/1.1\r\nHost: a\r\n\r\n");
    until("a request in the queue", || (depth() == 1.0).then_some(()));
    let seen = sent(world.router.client(), "GET /waiting/long HTTP/1.1\r\nHost: a\r\n\r\n");
    first.reset();
    until("the queue to be empty", || (depth() == 0.0).then_some(()));
    seen
}

/// The endpoint reads the head and nothing else.
fn mute_endpoint(world: &World) -> Seen {
    let mut client = world.router.client();
    let address = address(&client);
    client.send("POST /mute HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n");
    let mut socket = client.socket().try_clone().unwrap();
    let feeder = std::thread::spawn(move || {
        let piece = vec![b'x'; 1 << 20];
        while socket.write_all(&piece).is_ok() {}
    });
    let response = client.response();
    drop(client);
    feeder.join().unwrap();
    Seen { client: address, earlier: 0, response: Some(response) }
}

/// The client goes away while the endpoint thinks.
fn gone_client(world: &World) -> Seen {
    let mut client = world.router.client();
    let address = address(&client);
    client.send("GET /total HTTP/1.1\r\nHost: a\r\n\r\n");
    let in_flight = || world.router.metric("ekiden_requests_in_flight", &[]);
    until("the request in flight", || (in_flight() == 1.0).then_some(()));
    client.reset();
    Seen { client: address, earlier: 0, response: None }
}

fn unread_response(world: &World) -> Seen {
    let mut client = world.router.client();
    client.send("GET /flood HTTP/1.1\r\nHost: a\r\n\r\n");
    let address = address(&client);
    until("the end of an unread response", || {
        let told = world.router.records(0).iter().any(|record| record["client"] == *address);
        told.then_some(())
    });
    Seen { client: address, earlier: 0, response: None }
}

/// Protocols are switched, and nothing comes.
fn silent_tunnel(world: &World) -> Seen {
    let mut client = world.router.client();
    let address = address(&client);
    client.send("GET /tunnel HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(client.head().unwrap().status, 101);
    assert!(client.rest().is_empty());
    Seen { client: address, earlier: 0, response: None }
}

/// Reads all the time, and too little.
fn slow_reader(world: &World) -> Seen {
    let mut client = world.demanding();
    client.send("GET /flood/slowly HTTP/1.1\r\nHost: a\r\n\r\n");
    let address = address(&client);
    let mut socket = client.socket();
    let mut piece = [0; 64 << 10];
    until("the end of a slow reader", || match socket.read(&mut piece) {
        Ok(0) => Some(()),
        Ok(_) => None,
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(_) => Some(()),
    });
    Seen { client: address, earlier: 0, response: None }
}
