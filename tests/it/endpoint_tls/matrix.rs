//! Every certificate that an endpoint can have against every way to judge it, and every one that the router can show.

use std::io::Write;

use ekiden_tests::{
    Authority, Ekiden, Kind, Life, Origin, SecureOrigin, Served, head, server_config, until, until_true,
};
use rustls::ProtocolVersion;

use super::{ask, cluster, good, origin, refused, said, setup, write_identity};

const VERSIONS: [ProtocolVersion; 2] = [ProtocolVersion::TLSv1_2, ProtocolVersion::TLSv1_3];
const INVALID: &str = "tls_certificate_invalid";

#[test]
fn who_is_believed() {
    let (ours, others) = (Authority::new(), Authority::new());
    let uri = "spiffe://example.test/shop";
    let certificates = [
        ("right", ours.make(&["a.test"])),
        ("wild", ours.make(&["*.wild.test"])),
        ("stranger", others.make(&["a.test"])),
        ("expired", ours.make_as(&["a.test"], Kind::Ecdsa, Life(-30, -1))),
        ("early", ours.make_as(&["a.test"], Kind::Ecdsa, Life(2, 30))),
        ("address", ours.make(&["127.0.0.1"])),
        ("rsa", ours.make_as(&["a.test"], Kind::Rsa, Life::default())),
        ("spiffe", ours.make(&[uri])),
    ];
    let name = "{ ca = \"ca.pem\", name = \"a.test\" }";
    let san = format!("{{ ca = \"ca.pem\", san = [\"b.test\", \"{uri}\"] }}");
    let rows = [
        ("right", name, true),
        ("right", "{ ca = \"ca.pem\", name = \"b.test\" }", false),
        // Without a name the address is what must be there.
        ("right", "{ ca = \"ca.pem\" }", false),
        ("address", "{ ca = \"ca.pem\" }", true),
        ("address", "{ ca = \"ca.pem\", name = \"127.0.0.1\" }", true),
        ("address", "{ ca = \"ca.pem\", name = \"127.0.0.2\" }", false),
        ("address", name, false),
        ("wild", "{ ca = \"ca.pem\", name = \"x.wild.test\" }", true),
        ("wild", "{ ca = \"ca.pem\", name = \"x.y.wild.test\" }", false),
        ("stranger", name, false),
        ("expired", name, false),
        ("early", name, false),
        ("rsa", name, true),
        ("spiffe", san.as_str(), true),
        ("spiffe", "{ ca = \"ca.pem\", san = \"spiffe://example.test/Shop\" }", false),
        ("spiffe", "{ ca = \"ca.pem\", san = \"spiffe://example.test/\" }", false),
        ("right", "{ ca = \"ca.pem\", san = [\"b.test\", \"A.test\"] }", true),
        ("right", san.as_str(), false),
        ("stranger", "{ ca = \"ca.pem\", san = \"a.test\" }", false),
        ("expired", "{ ca = \"ca.pem\", san = \"a.test\" }", false),
        // The one way to take anything.
        ("expired", "{ verify = \"insecure_none\" }", true),
        ("stranger", "{ verify = \"insecure_none\", name = \"b.test\" }", true),
    ];
    for version in VERSIONS {
        let origins = certificates
            .clone()
            .map(|(name, made)| (name, SecureOrigin::start(server_config(&made, None, Some(version)))));
        let text: String = rows
            .iter()
            .enumerate()
            .map(|(number, (which, tls, _))| {
                let origin = &origins.iter().find(|(name, _)| name == which).unwrap().1;
                cluster(&format!("c{number}"), origin.address, tls, "")
            })
            .collect();
        let router = Ekiden::start(setup(&text, &ours));
        for (number, (which, tls, believed)) in rows.iter().enumerate() {
            let want = if *believed { good() } else { refused(INVALID) };
            assert_eq!(said(&router, &format!("/c{number}")), want, "{version:?} {which} {tls}");
            let failures = router.metric(
                "ekiden_cluster_tls_handshake_failures_total",
                &[&format!("cluster=\"c{number}\""), "cause=\"certificate\""],
            );
            assert_eq!(failures > 0.5, !believed, "{which} {tls}: {failures}");
        }
    }
}

/// Said by the same code everywhere, with its phase, and held against the endpoint.
#[test]
fn a_refusal_is_explained() {
    let (ours, others) = (Authority::new(), Authority::new());
    let origin = origin(&others, &["a.test"]);
    let text = cluster(
        "web",
        origin.address,
        "{ ca = \"ca.pem\", name = \"a.test\" }",
        "ejection = { consecutive = 3 }",
    );
    let router = Ekiden::start(setup(&text, &ours));
    let response = ask(&router, "/web");
    assert_eq!((response.status, response.code()), (502, INVALID));
    let proxy = response.get("Proxy-Status").unwrap();
    assert!(proxy.contains("error=tls_certificate_error") && proxy.contains(INVALID), "{proxy}");
    let record = until("the record", || {
        let log = std::fs::read_to_string(router.setup().log()).ok()?;
        log.lines().find(|line| line.contains(INVALID)).map(str::to_owned)
    });
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    assert_eq!(record["phase"], "connect", "{record}");
    router.wait_error("no TLS with endpoint: invalid peer certificate: ");
    // Evidence: with one endpoint no ejection follows, but its failures are counted.
    let failures = router.metric("ekiden_endpoint_failures_total", &["cluster=\"web\""]);
    assert!(failures > 0.5, "{failures}");
    assert!(router.metric("ekiden_outcomes_total", &[&format!("code=\"{INVALID}\"")]) > 0.5);
}

#[test]
fn who_is_shown() {
    let (servers, people) = (Authority::new(), Authority::new());
    let made = servers.make(&["a.test"]);
    let identities = [
        ("none", None, false),
        ("stranger", Some(Authority::new().make(&["router.test"])), false),
        ("expired", Some(people.make_as(&["router.test"], Kind::Ecdsa, Life(-30, -1))), false),
        ("right", Some(people.make(&["spiffe://example.test/edge"])), true),
        ("rsa", Some(people.make_as(&["router.test"], Kind::Rsa, Life::default())), true),
    ];
    for version in VERSIONS {
        let origin = SecureOrigin::start(server_config(&made, Some(&people), Some(version)));
        let mut text = String::new();
        for (who, identity, _) in &identities {
            let shown = if identity.is_some() { format!(", identity = \"{who}\"") } else { String::new() };
            let tls = format!("{{ ca = \"ca.pem\", name = \"a.test\"{shown} }}");
            text.push_str(&cluster(who, origin.address, &tls, ""));
            if identity.is_some() {
                text.push_str(&format!("[identity.{who}]\ncert = \"{who}.pem\"\nkey = \"{who}.key\"\n"));
            }
        }
        let setup = setup(&text, &servers);
        for (who, identity, _) in &identities {
            identity.iter().for_each(|made| drop(made.write(setup.dir(), who)));
        }
        let router = Ekiden::start(setup);
        for (who, _, welcome) in &identities {
            let want = if *welcome { good() } else { refused("tls_alert") };
            assert_eq!(said(&router, &format!("/{who}")), want, "{version:?} {who}");
        }
        let days = |file: &str| router.metric("ekiden_tls_identity_not_after_seconds", &[file]);
        assert!(days("right.pem") > days("expired.pem"), "the ends of identities are told");
    }
}

#[test]
fn what_is_no_tls() {
    let ours = Authority::new();
    // Nobody answers the handshake; somebody answers with something else; somebody hangs up.
    let silent = Origin::start(ekiden_tests::Conn::until_closed);
    let plain = Origin::start(|conn| {
        conn.send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        conn.until_closed();
    });
    let closing = Origin::start(|_| {});
    let text = [
        cluster("silent", silent.address, "{ ca = \"ca.pem\" }", ""),
        cluster("plain", plain.address, "{ ca = \"ca.pem\" }", ""),
        cluster("closing", closing.address, "{ ca = \"ca.pem\" }", ""),
        cluster("lost", plain.address, "{ ca = \"missing.pem\" }", ""),
        cluster("socket", "unix:/nowhere", "{ ca = \"ca.pem\" }", ""),
    ]
    .concat()
    .replace(
        "path = \"/silent\"\n",
        "path = \"/silent\"\ntimeout = { connect = \"500ms\", connect_try = \"500ms\" }\n",
    );
    let router = Ekiden::start(setup(&text, &ours));
    // The time for connects has the handshake in it.
    assert_eq!(said(&router, "/silent"), (503, "connect_timeout".to_owned()));
    assert_eq!(said(&router, "/plain"), refused("tls_failed"));
    assert_eq!(said(&router, "/closing"), refused("tls_failed"));
    // A cluster whose authority cannot be read is not connected to, least of all without TLS.
    assert_eq!(said(&router, "/lost"), (503, "tls_unavailable".to_owned()));
    assert_eq!(said(&router, "/socket"), (503, "tls_unavailable".to_owned()), "nothing to verify");
    router.wait_error("missing.pem");
}

/// What lasts until the close is whole only if the endpoint says so: anyone on the way can close a connection.
#[test]
fn a_close_without_a_word_is_no_end() {
    let ours = Authority::new();
    let answer = |stream: &mut ekiden_tests::SecureConn, ends: bool| {
        if head(stream).is_some() {
            let _may_be_gone = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nall of it");
            if ends {
                stream.conn.send_close_notify();
            }
            let _may_be_gone = stream.flush();
        }
    };
    let config = || server_config(&ours.make(&["127.0.0.1"]), None, None);
    let (cut, whole) = (
        SecureOrigin::with(config(), move |stream, _| answer(stream, false)),
        SecureOrigin::with(config(), move |stream, _| answer(stream, true)),
    );
    let text = [("cut", cut.address), ("whole", whole.address)]
        .map(|(name, address)| cluster(name, address, "{ ca = \"ca.pem\" }", ""))
        .concat();
    let router = Ekiden::start(setup(&text, &ours));
    assert_eq!(ask(&router, "/whole").text(), "all of it");
    let mut client = ekiden_tests::Client::connect(router.address());
    client.send("GET /cut HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.read(false).is_err(), "a body that was cut short looks whole");
    until_true("the outcome", || {
        router.metric("ekiden_outcomes_total", &["code=\"upstream_truncated\""]) > 0.5
    });
}

/// `check` and the start say it when nobody is verified.
#[test]
fn no_verification_is_loud() {
    let ours = Authority::new();
    let origin = origin(&ours, &["a.test"]);
    let text = cluster(
        "web",
        origin.address,
        "{ verify = \"insecure_none\", cert = \"id.pem\", key = \"id.key\" }",
        "",
    );
    let setup = setup(&text, &ours);
    write_identity(&setup, &ours.make(&["router.test"]));
    let router = Ekiden::start(setup);
    assert_eq!(said(&router, "/web"), good());
    router.wait_error("are not verified");
    let check = || {
        let mut command = std::process::Command::new(ekiden_tests::binary());
        let output = ekiden_tests::finished(command.arg("check").arg(router.setup().file()));
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    let (passed, out) = check();
    assert!(passed && out.contains("warning[tls_unverified]"), "{out}");
    let broken = router.setup().config().replace("id.key", "missing.key").replace("insecure_none", "full");
    std::fs::write(router.setup().file(), format!("{broken}\n[ca.x]\nfile = \"nothing.pem\"\n")).unwrap();
    let (passed, out) = check();
    assert!(
        !passed && out.contains("error[identity_unusable]") && out.contains("error[ca_unusable]"),
        "{out}"
    );
}
