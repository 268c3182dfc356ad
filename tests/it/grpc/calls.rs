//! Calls of `grpcio` on both sides: all four kinds, metadata, cancellation, over clear text and TLS.

use std::fs;

use ekiden_tests::{Authority, Ekiden, Served, Setup, cluster, until};

use super::{Server, idle, router, talk, talk_with};

#[test]
fn all_kinds_in_clear_text() {
    let server = Server::start();
    let router = router(&server, "");
    for scenario in ["unary", "statuses", "streams", "large", "many", "deadline"] {
        // Without the router too, so that a test which asks for too much is seen.
        talk(server.address, scenario);
        talk(router.address(), scenario);
    }
    idle(&router);
    assert!(router.metric("ekiden_cluster_connections", &["web"]) < 3.5, "streams share connections");
    let records = router.records(0);
    assert!(!records.is_empty() && records.iter().all(|record| record["protocol"] == "http2.0"));
}

#[test]
fn all_kinds_over_tls_at_both_ends() {
    let setup = Setup::new("");
    let dir = setup.dir().to_owned();
    let authority = Authority::new();
    fs::write(dir.join("ca.pem"), &authority.pem).unwrap();
    let (cert, key) = authority.make(&["a.test"]).write(&dir, "site");
    let server = Server::with(&[&cert, &key]);
    let keys = "protocol = \"auto\"\ntls = { ca = \"ca.pem\", name = \"a.test\" }";
    let text = format!("{}\n[[route]]\ncluster = \"web\"\n", cluster("web", &[server.address], keys));
    let setup = setup
        .top("timeout = { connect = \"15s\", connect_try = \"15s\" }")
        .listener("tls = { cert = \"site.pem\", key = \"site.key\" }");
    fs::write(setup.file(), setup.config_with(&text)).unwrap();
    let run = ekiden_tests::Run { keep_file: true, ..ekiden_tests::Run::default() };
    let router = Ekiden::start_with(setup, run);
    talk_with(router.address(), &["secure", dir.join("ca.pem").to_str().unwrap()]);
}

/// The end of a call that its client cancels reaches the server, and the end that the server makes reaches the client as it
/// does without a router.
#[test]
fn cancelled_from_either_side() {
    let server = Server::start();
    let router = router(&server, "");
    talk(router.address(), "cancel");
    server.wait("ended", 1);
    let direct = talk(server.address, "leave");
    assert_eq!(talk(router.address(), "leave"), direct);
    idle(&router);
    let records = until("two records", || Some(router.records(0)).filter(|records| records.len() >= 2));
    assert_eq!((&records[0]["code"], &records[0]["grpc_status"]), (&"client_gone".into(), &1.into()));
}

/// A stream without an event for long is not an idle one that is cut: only the route says how long is too long.
#[test]
fn a_stream_that_lasts() {
    let server = Server::start();
    let router = router(&server, "");
    super::http2::talk(router.address(), async |mut send| {
        let (response, mut body) = send.send_request(super::request("Hold", &[]), false).unwrap();
        body.send_data(super::framed(b"").into(), true).unwrap();
        let mut stream = response.await.unwrap().into_body();
        let piece = stream.data().await.unwrap().unwrap();
        assert_eq!(piece, super::framed(b"begun"));
        // Others come and go beside it.
        for _ in 0..50 {
            let (asked, body) = (super::request("Unary", &[]), super::framed(b"x"));
            let reply = super::http2::ask_with(&send, asked, Some(&body), None).await.unwrap();
            assert_eq!(super::status(&reply), "0");
        }
        assert_eq!(router.metric("ekiden_cluster_requests_in_flight", &["web"]), 1.0);
        body.send_reset(h2::Reason::CANCEL);
    });
    server.wait("ended", 1);
}
