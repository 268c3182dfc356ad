//! Certificates of clients: who is let in, what endpoints are told, and what a revocation ends.

use std::fs;
use std::io;
use std::sync::Arc;

use ekiden_tests::{Authority, Client, Echo, Ekiden, Kind, Life, Made, Seen, Served, until_true, web};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind, ProtocolVersion};

use super::setup;

const VERSIONS: [ProtocolVersion; 2] = [ProtocolVersion::TLSv1_2, ProtocolVersion::TLSv1_3];

struct Mutual {
    router: Ekiden,
    _echo: Echo,
    servers: Authority,
    people: Authority,
    right: Made,
    revoked: Made,
}

fn mutual(mode: &str, keys: &str) -> Mutual {
    let echo = Echo::start("one");
    let (servers, people) = (Authority::new(), Authority::new());
    let keys =
        format!("client_auth = {{ mode = \"{mode}\", ca = \"people.pem\", crl = \"revoked.pem\" }}\n{keys}");
    let setup = setup(&web(&[echo.origin().address], "", ""), &["site"], &keys);
    servers.make(&["a.test"]).write(setup.dir(), "site");
    let (right, revoked) = (people.make(&["anna.test"]), people.make(&["otto.test"]));
    fs::write(setup.dir().join("people.pem"), &people.pem).unwrap();
    fs::write(setup.dir().join("revoked.pem"), people.revoke(&[&revoked])).unwrap();
    Mutual { router: Ekiden::start(setup), _echo: echo, servers, people, right, revoked }
}

impl Mutual {
    /// The fields that the endpoint saw, or how the handshake failed. TLS 1.3 clients hear of a refusal only when they read.
    fn ask(&self, config: &Arc<ClientConfig>, fields: &str) -> io::Result<(Seen, HandshakeKind)> {
        let mut client =
            Client::secure(self.router.address(), ServerName::try_from("a.test").unwrap(), config)?;
        client.send(format!("GET / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n"));
        let response = client.read(false).map_err(|lost| io::Error::other(format!("{lost:?}")))?;
        assert_eq!(response.status, 200);
        Ok((Seen::from(response), client.tls().handshake_kind().unwrap()))
    }

    fn failures(&self) -> f64 {
        self.router.metric("ekiden_tls_handshake_failures_total", &["cause=\"client_certificate\""])
    }
}

#[test]
fn who_is_let_in() {
    for mode in ["required", "optional"] {
        let mutual = mutual(mode, "");
        let stranger = Authority::new().make(&["eve.test"]);
        let expired = mutual.people.make_as(&["old.test"], Kind::Ecdsa, Life(-30, -1));
        let trusting = mutual.servers.trusting();
        let mut refused = 0.0;
        for version in VERSIONS {
            let rows = [
                ("none", trusting.only(version), mode == "optional"),
                ("wrong authority", trusting.showing(version, &stranger), false),
                ("expired", trusting.showing(version, &expired), false),
                ("revoked", trusting.showing(version, &mutual.revoked), false),
                ("right", trusting.showing(version, &mutual.right), true),
            ];
            for (who, config, welcome) in rows {
                let asked = mutual.ask(&config, "");
                assert_eq!(asked.is_ok(), welcome, "{mode} {version:?} {who}");
                refused += if welcome { 0.0 } else { 1.0 };
                // Counted when the alert is on its way: the client may know first.
                until_true(&format!("the count of {mode} {version:?} {who}"), || {
                    (mutual.failures() - refused).abs() < 0.1
                });
            }
        }
    }
}

#[test]
fn endpoints_are_told_and_clients_cannot_say_it_themselves() {
    let mutual = mutual("optional", "");
    let lies = "Client-Cert: :AAAA:\r\nClient-Cert-Chain: :AAAA:\r\nX-Forwarded-Client-Cert: Hash=1\r\n";
    let trusting = mutual.servers.trusting();
    for version in VERSIONS {
        let (seen, _) = mutual.ask(&trusting.only(version), lies).unwrap();
        for name in ["client-cert", "client-cert-chain", "x-forwarded-client-cert"] {
            assert_eq!(seen.all(name), [""; 0], "{name} without a certificate");
        }
        let (seen, _) = mutual.ask(&trusting.showing(version, &mutual.right), lies).unwrap();
        let body: String = mutual.right.cert.lines().filter(|line| !line.starts_with('-')).collect();
        assert_eq!(seen.all("client-cert"), [format!(":{body}:")], "RFC 9440: the certificate itself");
        let told = seen.all("x-forwarded-client-cert");
        assert_eq!(told.len(), 1);
        assert!(
            told[0].starts_with("Hash=")
                && told[0].contains(";Subject=\"")
                && told[0].ends_with(";DNS=\"anna.test\""),
            "{told:?}"
        );
        assert_eq!(seen.all("client-cert-chain"), [""; 0]);
    }
}

/// A session from before a revocation cannot be resumed after it, though its ticket is in time.
#[test]
fn a_revocation_ends_resumption() {
    for keys in ["", "ticket_keys = \"keys\""] {
        let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n";
        let mutual = {
            // The key file has to be there before the start.
            let mutual = mutual("required", "");
            fs::write(mutual.router.setup().dir().join("keys"), key).unwrap();
            let text = mutual
                .router
                .setup()
                .config()
                .replace("[listener.edge]\n", &format!("[listener.edge]\n{keys}\n"));
            mutual.router.rewrite(&text);
            mutual
        };
        let trusting = mutual.servers.trusting();
        for version in VERSIONS {
            let right = trusting.showing(version, &mutual.right);
            until_true("resumption", || {
                mutual.ask(&right, "").is_ok_and(|(_, kind)| kind == HandshakeKind::Resumed)
            });
            // Someone else is revoked: the files changed, the session is gone, the certificate is still good.
            let other = mutual.people.make(&["other.test"]);
            let list = mutual.people.revoke(&[&mutual.revoked, &other]);
            mutual.router.rename_over(&mutual.router.setup().dir().join("revoked.pem"), &list);
            let gone = trusting.showing(version, &other);
            until_true("the new list", || mutual.ask(&gone, "").is_err());
            let (_, kind) = mutual.ask(&right, "").unwrap();
            assert_eq!(kind, HandshakeKind::Full, "{version:?} {keys:?}");
        }
        // Now this one is revoked.
        let right = trusting.showing(ProtocolVersion::TLSv1_3, &mutual.right);
        let list = mutual.people.revoke(&[&mutual.right]);
        mutual.router.rename_over(&mutual.router.setup().dir().join("revoked.pem"), &list);
        until_true("the end of the certificate", || mutual.ask(&right, "").is_err());
    }
}

#[test]
fn authorities_are_watched_and_bad_ones_keep_those_before() {
    let mutual = mutual("required", "");
    let trusting = mutual.servers.trusting();
    let right = trusting.showing(ProtocolVersion::TLSv1_3, &mutual.right);
    let ca = mutual.router.setup().dir().join("people.pem");
    mutual.router.rename_over(&ca, "nothing");
    mutual
        .router
        .wait_error("holds no authority in PEM form; the authorities and revocation lists before it");
    assert!(mutual.ask(&right, "").is_ok());
    let others = Authority::new();
    mutual.router.rename_over(&mutual.router.setup().dir().join("revoked.pem"), &others.revoke(&[]));
    mutual.router.rename_over(&ca, &others.pem);
    let newcomer = trusting.showing(ProtocolVersion::TLSv1_3, &others.make(&["new.test"]));
    until_true("the new authority", || mutual.ask(&newcomer, "").is_ok());
    assert!(mutual.ask(&right, "").is_err());
}
