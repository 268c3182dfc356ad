//! Checks by `grpc.health.v1.Health/Check`: of the server, of a service, over TLS, and why they fail.

use std::fs;

use ekiden_tests::{Authority, Ekiden, Origin, Run, Served, Setup, cluster, until, until_true};

use super::{Server, router_with, talk_with};

const PROBE: &str = "interval = \"100ms\", timeout = \"10s\", rise = 1, fall = 1";

fn ready(router: &Ekiden) -> bool {
    router.metric("ekiden_endpoint_ready", &["web"]) > 0.5
}

/// What the log says of a failed check.
fn wait_reason(router: &Ekiden, reason: &str) {
    until(&format!("the reason {reason:?}; there is {}", router.errors()), || {
        router.errors().contains(reason).then_some(())
    });
}

#[test]
fn an_endpoint_goes_and_comes_by_its_health() {
    let server = Server::start();
    let router = router_with(&server, &format!("probe = {{ grpc = \"\", {PROBE} }}"), "", "");
    until_true("a ready endpoint", || ready(&router));
    for (state, word) in [("2", "NOT_SERVING"), ("0", "UNKNOWN"), ("3", "SERVICE_UNKNOWN")] {
        talk_with(server.address, &["health", state]);
        wait_reason(&router, &format!("the gRPC health check: answered {word}"));
        until_true("an endpoint set aside", || !ready(&router));
        talk_with(server.address, &["health", "1"]);
        until_true("a ready endpoint", || ready(&router));
    }
    // What is asked for the whole server is an empty message.
    assert!(server.process.out().lines().any(|line| line == "check "), "{}", server.process.out());
}

#[test]
fn a_service_is_asked_for_by_name() {
    let server = Server::start();
    let router = router_with(&server, &format!("probe = {{ grpc = \"shop.Cart\", {PROBE} }}"), "", "");
    until_true("a ready endpoint", || ready(&router));
    // Field 1 with nine bytes: shop.Cart.
    server.wait("check 0a0973686f702e43617274", 1);
    let router = router_with(&server, &format!("probe = {{ grpc = \"gone\", {PROBE} }}"), "", "");
    wait_reason(
        &router,
        "the gRPC health check of gone: answered NOT_FOUND (no such service); the endpoint does not know the service",
    );
    assert!(!ready(&router));
}

#[test]
fn over_tls() {
    let setup = Setup::new("");
    let dir = setup.dir().to_owned();
    let authority = Authority::new();
    fs::write(dir.join("ca.pem"), &authority.pem).unwrap();
    let (cert, key) = authority.make(&["a.test"]).write(&dir, "site");
    let server = Server::with(&[&cert, &key]);
    for (protocol, name, reason) in
        [("auto", "a.test", None), ("h2", "a.test", None), ("h2", "b.test", Some("no TLS: "))]
    {
        let keys = format!(
            "protocol = \"{protocol}\"\ntls = {{ ca = \"ca.pem\", name = \"{name}\" }}\nprobe = {{ grpc = \"\", {PROBE} }}"
        );
        let text = format!("{}\n[[route]]\ncluster = \"web\"\n", cluster("web", &[server.address], &keys));
        let setup = Setup::new("");
        fs::copy(dir.join("ca.pem"), setup.dir().join("ca.pem")).unwrap();
        fs::write(setup.file(), setup.config_with(&text)).unwrap();
        let router = Ekiden::start_with(setup, Run { keep_file: true, ..Run::default() });
        match reason {
            None => until_true("a ready endpoint", || ready(&router)),
            Some(reason) => wait_reason(&router, reason),
        }
    }
}

/// What answers and is no health service says so.
#[test]
fn reasons() {
    // Speaks HTTP/1 only.
    let old = Origin::hello("hello");
    // A server of gRPC without the service, and one that is no gRPC: both are the router itself, before others.
    let server = Server::start();
    let inner = |rest: &str| {
        let text = format!("{}\n{rest}", cluster("web", &[server.address], "protocol = \"h2\""));
        Ekiden::start(Setup::new(text).listener("h2c = true"))
    };
    let bare = inner("[[route]]\ncluster = \"web\"\npath = \"/t.Test\"\n");
    let page = inner("[[route]]\nrespond = { status = 200, body = \"hello\" }\n");
    let other = inner("[[route]]\nrespond = { status = 503, body = \"hello\" }\n");
    for (address, reason) in [
        (old.address, "no HTTP/2: "),
        (bare.address(), "the gRPC health check: answered UNIMPLEMENTED"),
        (page.address(), "the gRPC health check: the answer is not gRPC but \"text/plain; charset=utf-8\""),
        (other.address(), "the gRPC health check: answered HTTP status 503"),
    ] {
        let keys = format!("protocol = \"h2\"\nprobe = {{ grpc = \"\", {PROBE} }}");
        let text = format!("{}\n[[route]]\ncluster = \"web\"\n", cluster("web", &[address], &keys));
        let router = Ekiden::start(Setup::new(text));
        wait_reason(&router, reason);
        assert!(!ready(&router), "{reason}");
    }
}
