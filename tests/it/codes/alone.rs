//! Scenarios that need a router of their own, because they change or end it.

use std::net::TcpStream;
use std::time::Duration;

use ekiden_core::outcome::{Cause, Phase};
use ekiden_tests::{Authority, Client, Conn, Ekiden, Lost, Origin, Run, Served, Setup, cluster, until, web};

use super::{Seen, check, count, sent};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// A listener with a certificate for `a.test` and one for `b.test`.
fn secure() -> (Authority, Ekiden) {
    let authority = Authority::new();
    let setup = Setup::new("[[route]]\nrespond = { body = \"closed\" }\n")
        .listener("tls = [{ cert = \"a.pem\", key = \"a.key\" }, { cert = \"b.pem\", key = \"b.key\" }]");
    for name in ["a", "b"] {
        authority.make(&[&format!("{name}.test")]).write(setup.dir(), name);
    }
    (authority, Ekiden::start(setup))
}

pub(super) fn plain_on_tls(cause: Cause, phase: Phase) {
    let (_authority, router) = secure();
    check(&router, cause, phase, &sent(router.client(), GET));
    counted_once(&router, cause);
}

/// A host of the other certificate.
pub(super) fn misdirected(cause: Cause, phase: Phase) {
    let (authority, router) = secure();
    let client = authority.trusting().connect(router.address(), "a.test").unwrap();
    check(&router, cause, phase, &sent(client, "GET / HTTP/1.1\r\nHost: b.test\r\n\r\n"));
    counted_once(&router, cause);
}

fn counted_once(router: &Ekiden, cause: Cause) {
    until(&format!("the metric of {cause:?}"), || (count(router, cause) == 1.0).then_some(()));
}

/// The cluster is taken away while a request waits for its first check.
pub(super) fn cluster_gone(cause: Cause, phase: Phase) {
    let silent = Origin::start(Conn::until_closed);
    let probe = "probe = { path = \"/healthz\", interval = \"1h\", timeout = \"1h\" }";
    let setup = Setup::new(web(&[silent.address], probe, "timeout = { connect = \"60s\" }"));
    let without = setup.config_with("[[route]]\nrespond = { body = \"closed\" }\n");
    let router = Ekiden::start(setup);
    let mut client = router.client();
    let address = client.socket().local_addr().unwrap().to_string();
    client.send(GET);
    until("a request in the queue", || {
        (router.metric("ekiden_cluster_queue_depth", &[]) == 1.0).then_some(())
    });
    router.rewrite(&without);
    let response = client.response();
    check(&router, cause, phase, &Seen { client: address, earlier: 0, response: Some(response) });
    counted_once(&router, cause);
}

/// The only endpoint answers so that it is tried again, and is set to drain while the request waits for that.
pub(super) fn status_retried(cause: Cause, phase: Phase) {
    let origin = Origin::start(|conn| {
        conn.request();
        conn.send("HTTP/1.1 503 Busy\r\nRetry-After: 25\r\nContent-Length: 0\r\n\r\n");
    });
    let text = |drain: &str| {
        let endpoint = format!("{{ address = \"{}\"{drain} }}", origin.address);
        format!(
            "[cluster.web]\nendpoints = [{endpoint}]\n[[route]]\ncluster = \"web\"\nretry = {{ on = [503] }}\n"
        )
    };
    let setup = Setup::new(text(""));
    let draining = setup.config_with(&text(", drain = true"));
    let router = Ekiden::start(setup);
    let mut client = router.client();
    let address = client.socket().local_addr().unwrap().to_string();
    client.send(GET);
    until("a request that waits", || {
        (router.metric("ekiden_cluster_resends_total", &["status"]) == 1.0).then_some(())
    });
    router.rewrite(&draining);
    let response = client.response();
    check(&router, cause, phase, &Seen { client: address, earlier: 0, response: Some(response) });
    counted_once(&router, cause);
}

/// Another request is all that the cluster may have.
pub(super) fn breaker_open(cause: Cause, phase: Phase) {
    let silent = Origin::start(Conn::until_closed);
    let router = Ekiden::start(Setup::new(web(&[silent.address], "breaker = { requests = 1 }", "")));
    let mut first = router.client();
    first.send(GET);
    silent.wait_received(1, GET.len());
    check(&router, cause, phase, &sent(router.client(), GET));
    counted_once(&router, cause);
}

/// The last descriptor is taken by clients, and a request of another one needs an upstream connection.
pub(super) fn sockets_exhausted(cause: Cause, phase: Phase) {
    const DESCRIPTORS: usize = 100;
    // What the process may have given back by then is held by requests that are not answered: one each.
    const SPARE: usize = 10;
    let origin = Origin::start(Conn::until_closed);
    let limited = format!("ulimit -n {DESCRIPTORS}; exec \"$@\"");
    let wrapper = ["sh", "-c", &limited, "sh"].map(str::to_owned).to_vec();
    let setup = Setup::new(web(&[origin.address], "", "path = \"/good\"")).top("max_connections = 1000");
    let router = Ekiden::start_with(setup, Run { wrapper, ..Run::default() });
    let mut clients: Vec<Client> = (0..SPARE).map(|_| router.client()).collect();
    for client in &mut clients {
        assert_eq!(client.get("a", "/none").code(), "no_route");
    }
    // Taken before the descriptors are.
    let mut scrape = Client::connect(router.telemetry);
    assert_eq!(scrape.get("localhost", "/livez").status, 200);
    let crowd: Vec<TcpStream> =
        (0..DESCRIPTORS).map(|_| TcpStream::connect(router.address()).unwrap()).collect();
    until("a pause", || {
        let text = scrape.get("localhost", "/metrics").text();
        let line = "ekiden_accept_pauses_total{cause=\"descriptors\"} ";
        text.lines().any(|text| text.strip_prefix(line).is_some_and(|count| count != "0")).then_some(())
    });
    let refused = clients.iter_mut().find_map(|client| {
        let before = origin.connections();
        client.patience(Duration::from_millis(10));
        client.send("GET /good HTTP/1.1\r\nHost: a\r\n\r\n");
        let response = until("a refusal, or one descriptor less", || match client.read(false) {
            Ok(response) => Some(Some(response)),
            Err(Lost::Silent) => (origin.connections() > before).then_some(None),
            Err(lost) => panic!("{lost:?}"),
        });
        Some((client.socket().local_addr().unwrap().to_string(), response?))
    });
    let (client, response) = refused.expect("a request without a descriptor");
    // The first request of each had no route.
    let seen = Seen { client, earlier: 1, response: Some(response) };
    drop((crowd, scrape));
    check(&router, cause, phase, &seen);
    counted_once(&router, cause);
}

/// The process ends, and an endpoint has not answered when the time for that is over. Nobody can ask for metrics then.
pub(super) fn drained(cause: Cause, phase: Phase) {
    let silent = Origin::start(Conn::until_closed);
    let setup = Setup::new(cluster("web", &[silent.address], "") + "[[route]]\ncluster = \"web\"\n")
        .top("drain_grace = \"0s\"\ndrain_timeout = \"300ms\"");
    let mut router = Ekiden::start(setup);
    let mut client = router.client();
    let address = client.socket().local_addr().unwrap().to_string();
    client.send(GET);
    silent.wait_received(1, GET.len());
    router.terminate();
    let response = client.response();
    router.wait();
    check(&router, cause, phase, &Seen { client: address, earlier: 0, response: Some(response) });
}

/// No process is as small as this ceiling.
pub(super) fn overloaded(cause: Cause, phase: Phase) {
    let setup =
        Setup::new("[[route]]\nrespond = { body = \"closed\" }\n").top("[overload]\nmemory = \"1MiB\"");
    let router = Ekiden::start(setup);
    // The first look at the ceiling is a moment after the start.
    let seen = until("a refusal", || {
        let seen = sent(router.client(), GET);
        seen.response.as_ref().is_some_and(|response| response.status != 200).then_some(seen)
    });
    check(&router, cause, phase, &seen);
    counted_once(&router, cause);
}

/// The app's only request at a time is under way.
/// The app is closed by the API.
pub(super) fn maintenance(cause: Cause, phase: Phase) {
    let origin = Origin::start(Conn::until_closed);
    let router = Ekiden::start(Setup::new(web(&[origin.address], "", "")));
    let put = router.control("PUT", "/v1/apps/default/maintenance", "{}");
    assert_eq!(put.status, 200, "{put:?}");
    check(&router, cause, phase, &sent(router.client(), GET));
    counted_once(&router, cause);
}

/// The app is held, and another request waits already.
pub(super) fn hold_full(cause: Cause, phase: Phase) {
    let origin = Origin::start(Conn::until_closed);
    let router = Ekiden::start(Setup::new(web(&[origin.address], "", "")));
    let put = router.control("PUT", "/v1/apps/default/hold", "{\"max\": 1, \"wait_ms\": 600000}");
    assert_eq!(put.status, 200, "{put:?}");
    let mut first = router.client();
    first.send(GET);
    until("the first to wait", || {
        (router.metric("ekiden_app_held_requests", &["app=\"default\""]) > 0.0).then_some(())
    });
    check(&router, cause, phase, &sent(router.client(), GET));
    counted_once(&router, cause);
}

/// The app is held for longer than a request may wait.
pub(super) fn hold_timeout(cause: Cause, phase: Phase) {
    let origin = Origin::start(Conn::until_closed);
    let router = Ekiden::start(Setup::new(web(&[origin.address], "", "")));
    let put = router.control("PUT", "/v1/apps/default/hold", "{\"wait_ms\": 50}");
    assert_eq!(put.status, 200, "{put:?}");
    check(&router, cause, phase, &sent(router.client(), GET));
    counted_once(&router, cause);
}

pub(super) fn app_limited(cause: Cause, phase: Phase) {
    let silent = Origin::start(Conn::until_closed);
    let router = Ekiden::start(Setup::new(web(&[silent.address], "", "")).top("caps = { in_flight = 1 }"));
    let mut first = router.client();
    first.send(GET);
    silent.wait_received(1, GET.len());
    check(&router, cause, phase, &sent(router.client(), GET));
    counted_once(&router, cause);
}
