//! Who a client proved to be, as routes, limits and shards see it.

use std::fs;
use std::process::Command;
use std::sync::Arc;

use ekiden_tests::{
    Authority, Client, Echo, Ekiden, Made, Response, Served, Setup, cluster, finished, until_true,
};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind, ProtocolVersion};

use super::setup;

const ANNA: &str = "spiffe://a.test/anna";
const ASKS: &str = "client_auth = { mode = \"optional\", ca = \"people.pem\" }";

struct People {
    router: Ekiden,
    servers: Authority,
    /// Anna has a URI and a name, Otto a name, Eve neither of those that routes name.
    made: [Made; 3],
}

fn fingerprint(made: &Made, setup: &Setup) -> String {
    let path = setup.dir().join("print.pem");
    fs::write(&path, &made.cert).unwrap();
    let output = finished(
        Command::new("openssl").args(["x509", "-noout", "-fingerprint", "-sha256", "-in"]).arg(path),
    );
    String::from_utf8(output.stdout).unwrap().trim().split_once('=').unwrap().1.to_owned()
}

fn people(text: impl FnOnce(&[String; 3]) -> String, keys: &str) -> People {
    let (servers, people) = (Authority::new(), Authority::new());
    let made = [
        people.make(&[ANNA, "Anna.Staff.test"]),
        people.make(&["otto.staff.test"]),
        people.make(&["eve.test"]),
    ];
    let bare = setup("", &["site"], "");
    let prints = [&made[0], &made[1], &made[2]].map(|made| fingerprint(made, &bare));
    let setup = setup(&text(&prints), &["site"], &format!("{ASKS}\n{keys}"));
    servers.make(&["a.test"]).write(setup.dir(), "site");
    fs::write(setup.dir().join("people.pem"), &people.pem).unwrap();
    People { router: Ekiden::start(setup), servers, made }
}

impl People {
    fn config(&self, version: ProtocolVersion, who: Option<usize>) -> Arc<ClientConfig> {
        let trusting = self.servers.trusting();
        who.map_or_else(|| trusting.only(version), |who| trusting.showing(version, &self.made[who]))
    }

    fn ask(&self, config: &Arc<ClientConfig>, path: &str) -> (Response, HandshakeKind) {
        let name = ServerName::try_from("a.test").unwrap();
        let mut client = Client::secure(self.router.address(), name, config).unwrap();
        let response = client.ask(format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n"));
        (response, client.tls().handshake_kind().unwrap())
    }
}

fn route(path: &str, conditions: &str, body: &str) -> String {
    format!("[[route]]\npath = \"{path}\"\n{conditions}\nrespond = {{ status = 200, body = \"{body}\" }}\n")
}

/// A rule for each part of a certificate, and the rules for those who show none.
#[test]
fn routes_by_certificate() {
    let people = people(
        |[_, otto, _]| {
            [
                route("/", "", "nobody in particular"),
                route("/uri", &format!("client_cert = {{ uri = \"{ANNA}\" }}"), "anna"),
                route("/dns", "client_cert = { dns = { regex = '.*\\.staff\\.test' } }", "staff"),
                route("/print", &format!("client_cert = {{ fingerprint = \"{otto}\" }}"), "otto"),
                route("/subject", "client_cert = { subject = { present = true } }", "somebody"),
                route("/none", "client_cert = { fingerprint = { present = false } }", "stranger"),
                route(
                    "/both",
                    &format!("client_cert = {{ uri = \"{ANNA}\", dns = \"anna.staff.test\" }}"),
                    "both",
                ),
                route("/lie", "headers = { client-cert = { present = true } }", "believed"),
            ]
            .concat()
        },
        "",
    );
    let other = "nobody in particular";
    let rows = [
        ("/uri", ["anna", other, other, other]),
        ("/dns", ["staff", "staff", other, other]),
        ("/print", [other, "otto", other, other]),
        ("/subject", ["somebody", "somebody", "somebody", other]),
        ("/none", [other, other, other, "stranger"]),
        ("/both", ["both", other, other, other]),
    ];
    for version in [ProtocolVersion::TLSv1_2, ProtocolVersion::TLSv1_3] {
        for (number, who) in [Some(0), Some(1), Some(2), None].into_iter().enumerate() {
            let config = people.config(version, who);
            // A session that is resumed knows its client as well.
            until_true("resumption", || people.ask(&config, "/").1 == HandshakeKind::Resumed);
            for (path, said) in rows {
                assert_eq!(people.ask(&config, path).0.text(), said[number], "{version:?} {who:?} {path}");
            }
        }
    }
}

#[test]
fn routes_by_certificate_over_http2() {
    let people = people(
        |_| {
            route("/", "", "other") + &route("/uri", &format!("client_cert = {{ uri = \"{ANNA}\" }}"), "anna")
        },
        "",
    );
    let dir = people.router.setup().dir();
    fs::write(dir.join("ca.pem"), &people.servers.pem).unwrap();
    let port = people.router.address().port();
    for (who, said) in [(0, "anna"), (1, "other")] {
        people.made[who].write(dir, "client");
        let mut curl = Command::new("curl");
        curl.current_dir(dir).args(["-sS", "--http2", "--cacert", "ca.pem", "--max-time", "30"]);
        curl.args(["--cert", "client.pem", "--key", "client.key", "-w", " %{http_version}"]);
        curl.args(["--connect-to", &format!("a.test:443:127.0.0.1:{port}"), "https://a.test/uri"]);
        let output = finished(&mut curl);
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{said} 2"), "{output:?}");
    }
}

/// Each client has an account of its own, and those without a certificate share one.
#[test]
fn limits_by_certificate() {
    let people =
        people(|_| route("/", "limit = [{ rate = \"1/h\", key = \"client_cert:fingerprint\" }]", "well"), "");
    for who in [Some(0), Some(1), None] {
        let config = people.config(ProtocolVersion::TLSv1_3, who);
        assert_eq!(people.ask(&config, "/").0.status, 200, "{who:?}");
        assert_eq!(people.ask(&config, "/").0.code(), "rate_limited", "{who:?}");
    }
}

/// A client's requests stay at one endpoint; one that shows nothing has no key.
#[test]
fn shards_by_certificate() {
    let echoes = ["one", "two", "three", "four"].map(Echo::start);
    let addresses = echoes.each_ref().map(|echo| echo.origin().address);
    let shard = "shard = { by = \"client_cert:fingerprint\", fallback = \"refuse\", bound = \"off\" }";
    let people = people(|_| cluster("web", &addresses, shard) + "[[route]]\ncluster = \"web\"\n", "");
    for who in [0, 1, 2] {
        let config = people.config(ProtocolVersion::TLSv1_3, Some(who));
        let place = || {
            let before = echoes.each_ref().map(Echo::requests);
            assert_eq!(people.ask(&config, "/").0.status, 200);
            let after = echoes.each_ref().map(Echo::requests);
            before.iter().zip(&after).position(|(before, after)| after > before).unwrap()
        };
        let first = place();
        for _ in 0..5 {
            assert_eq!(place(), first, "{who}");
        }
    }
    let config = people.config(ProtocolVersion::TLSv1_3, None);
    assert_eq!(people.ask(&config, "/").0.code(), "shard_key_missing");
}
