//! Which certificate a client gets for the name it asks for, and which hosts it may then ask for.

use std::io;
use std::process::Command;

use ekiden_tests::{Authority, Client, Ekiden, Kind, Life, Served, Trusting, finished, until_true};
use rustls::pki_types::ServerName;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use rustls::{SignatureScheme, version};

use super::{HELLO, setup};

/// Whether a client was shown this certificate.
fn shown(client: &Client, made: &ekiden_tests::Made) -> bool {
    let wanted = CertificateDer::from_pem_slice(made.cert.as_bytes()).unwrap();
    client.tls().peer_certificates().and_then(|chain| chain.first()) == Some(&wanted)
}

struct Three {
    router: Ekiden,
    clients: Trusting,
    site: ekiden_tests::Made,
    wild: ekiden_tests::Made,
    rsa: ekiden_tests::Made,
}

/// `a.test` twice (P-256 and RSA), `*.b.test`, and the first of them as the default.
fn three(keys: &str) -> Three {
    let authority = Authority::new();
    let setup = setup(HELLO, &["rsa", "site", "wild"], keys);
    let rsa = authority.make_as(&["a.test", "127.0.0.1"], Kind::Rsa, Life::default());
    let site = authority.make(&["a.test", "127.0.0.1"]);
    let wild = authority.make(&["*.b.test", "exact.b.test", "b.test"]);
    for (made, stem) in [(&rsa, "rsa"), (&site, "site"), (&wild, "wild")] {
        made.write(setup.dir(), stem);
    }
    Three { router: Ekiden::start(setup), clients: authority.trusting(), site, wild, rsa }
}

fn connect(three: &Three, name: &str) -> io::Result<Client> {
    three.clients.connect(three.router.address(), name)
}

#[test]
fn exact_then_wildcard_then_default() {
    let three = three("");
    for (name, wanted) in [
        ("a.test", &three.site),
        ("A.Test", &three.site),
        ("x.b.test", &three.wild),
        ("exact.b.test", &three.wild),
        ("b.test", &three.wild),
        // No SNI is sent for an address: the default certificate, which covers it.
        ("127.0.0.1", &three.site),
    ] {
        let client = connect(&three, name).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(shown(&client, wanted), "{name}");
    }
    // A wildcard covers one label; what nothing covers gets the default, which the client does not take for it.
    for name in ["x.y.b.test", "c.test"] {
        let error = connect(&three, name).unwrap_err().to_string();
        assert!(error.contains("not valid for name"), "{name}: {error}");
    }
}

#[test]
fn elliptic_curves_before_rsa_where_the_client_can() {
    let three = three("");
    assert!(shown(&connect(&three, "a.test").unwrap(), &three.site));
    let mut old = three.clients.clone();
    old.provider.signature_verification_algorithms.mapping = RSA_ONLY.with(|all| *all);
    let client = old.connect(three.router.address(), "a.test").unwrap();
    assert!(shown(&client, &three.rsa), "a client that knows RSA alone gets the RSA certificate");
    // A name that has no RSA certificate, for such a client: the handshake fails with an alert, not with silence.
    let error = old.connect(three.router.address(), "b.test").unwrap_err().to_string();
    assert!(error.contains("HandshakeFailure"), "{error}");
}

type Mapping =
    &'static [(SignatureScheme, &'static [&'static dyn rustls::pki_types::SignatureVerificationAlgorithm])];

thread_local! {
    static RSA_ONLY: Mapping = {
        let all = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.mapping;
        let rsa: Vec<_> = all.iter().filter(|(scheme, _)| format!("{scheme:?}").starts_with("RSA")).copied().collect();
        Vec::leak(rsa)
    };
}

#[test]
fn an_unknown_name_is_refused_with_its_alert() {
    let three = three("unknown_name = \"refuse\"");
    for name in ["c.test", "x.y.b.test"] {
        let error = connect(&three, name).unwrap_err().to_string();
        assert!(error.contains("UnrecognisedName"), "{name}: {error}");
    }
    until_true("the counts", || {
        let refused = three.router.metric("ekiden_tls_handshake_failures_total", &["cause=\"unknown_name\""]);
        (refused - 2.0).abs() < 0.1
    });
    // Another stack reads the alert too.
    let at = three.router.address().to_string();
    let said = finished(Command::new("openssl").args(["s_client", "-servername", "c.test", "-connect", &at]));
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(text.contains("unrecognized name"), "{text}");
    // Without a name, and with one that is known, the handshake goes on.
    for name in ["127.0.0.1", "a.test"] {
        assert!(connect(&three, name).is_ok(), "{name}");
    }
}

/// Host asked for, on a connection that named another: what comes.
#[test]
fn a_host_of_another_certificate_is_misdirected() {
    for (keys, rows) in [
        (
            "unknown_name = \"default\"",
            [
                ("a.test", "a.test", 200),
                ("a.test", "A.TEST:8443", 200),
                ("a.test", "x.b.test", 421),
                ("x.b.test", "a.test", 421),
                ("x.b.test", "y.b.test", 200),
                ("x.b.test", "y.z.b.test", 200),
                ("a.test", "c.test", 200),
                ("127.0.0.1", "a.test", 200),
                ("127.0.0.1", "127.0.0.1", 200),
                ("127.0.0.1", "b.test", 421),
            ],
        ),
        (
            "unknown_name = \"refuse\"",
            [
                ("a.test", "a.test", 200),
                ("a.test", "127.0.0.1", 200),
                ("a.test", "x.b.test", 421),
                ("x.b.test", "a.test", 421),
                ("x.b.test", "y.b.test", 200),
                ("x.b.test", "y.z.b.test", 421),
                ("a.test", "c.test", 421),
                ("127.0.0.1", "a.test", 200),
                ("127.0.0.1", "127.0.0.1", 200),
                ("127.0.0.1", "c.test", 421),
            ],
        ),
    ] {
        let three = three(keys);
        for (name, host, status) in rows {
            let mut client = connect(&three, name).unwrap();
            let response = client.get(host, "/");
            assert_eq!(response.status, status, "{keys}: {host} on a connection for {name}");
            if status == 421 {
                assert_eq!(response.code(), "misdirected");
                // The connection is still good for what it is for.
                assert_eq!(client.get(name, "/").status, 200, "{keys}: after {host} on {name}");
            }
        }
    }
}

/// The same of streams that share a connection of HTTP/2, where browsers put hosts together.
#[test]
fn a_host_of_another_certificate_is_misdirected_over_http2() {
    let three = three("");
    let port = three.router.address().port();
    for (host, status) in [("a.test", 200), ("x.b.test", 421), ("c.test", 200)] {
        let mut curl = Command::new("curl");
        curl.args(["-sSk", "--http2", "--max-time", "30", "-o", "/dev/null"]);
        curl.args(["-w", "%{http_version} %{http_code}", "-H", &format!("Host: {host}")]);
        curl.args(["--connect-to", &format!("a.test:443:127.0.0.1:{port}"), "https://a.test/"]);
        let output = finished(&mut curl);
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("2 {status}"), "{host}: {output:?}");
    }
}

#[test]
fn a_host_of_another_listener_is_misdirected() {
    let authority = Authority::new();
    let port = ekiden_tests::free_port();
    let other = format!(
        "[listener.other]\naddress = \"127.0.0.1:{port}\"\nmin_tls_version = \"1.3\"\ntls = {{ cert = \"b.pem\", key = \"b.key\" }}\n{HELLO}"
    );
    let setup = setup(&other, &["a"], "");
    authority.make(&["a.test"]).write(setup.dir(), "a");
    authority.make(&["b.test"]).write(setup.dir(), "b");
    let router = Ekiden::start(setup);
    let mut client = authority.trusting().connect(router.address(), "a.test").unwrap();
    assert_eq!(client.get("b.test", "/").code(), "misdirected");
    assert_eq!(client.get("c.test", "/").status, 200, "a host no certificate covers goes to the routes");
}

#[test]
fn a_request_without_a_host_is_no_one_elses() {
    let three = three("");
    let mut client = connect(&three, "a.test").unwrap();
    assert_eq!(client.ask("GET / HTTP/1.0\r\n\r\n").status, 200);
}

#[test]
fn the_oldest_version_is_kept() {
    let three = three("min_tls_version = \"1.3\"");
    let name = ServerName::try_from("a.test").unwrap();
    let old = three.clients.config(&[&version::TLS12]);
    let error = Client::secure(three.router.address(), name.clone(), &old).unwrap_err().to_string();
    assert!(error.contains("ProtocolVersion"), "{error}");
    let new = three.clients.config(&[&version::TLS13]);
    assert!(Client::secure(three.router.address(), name, &new).is_ok());
}
