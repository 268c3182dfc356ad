//! Resumption: with tickets in both versions, across routers that share keys, and never across settings.

use std::fs;
use std::sync::Arc;

use ekiden_tests::{Authority, Client, Ekiden, Served, free_port};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind, ProtocolVersion};

use super::{HELLO, hello, setup};

/// Connects, asks once so that tickets have come, and says how the handshake was made.
fn ask(address: std::net::SocketAddr, config: &Arc<ClientConfig>) -> HandshakeKind {
    let name = ServerName::try_from("a.test").unwrap();
    let mut client = Client::secure(address, name, config).unwrap();
    assert_eq!(client.get("a.test", "/").text(), "hello");
    client.tls().handshake_kind().unwrap()
}

const VERSIONS: [(ProtocolVersion, &str); 2] =
    [(ProtocolVersion::TLSv1_2, "1.2"), (ProtocolVersion::TLSv1_3, "1.3")];

#[test]
fn a_session_is_resumed_in_both_versions() {
    let authority = Authority::new();
    let router = hello(&authority, "");
    for (version, word) in VERSIONS {
        let config = authority.trusting().only(version);
        assert_eq!(ask(router.address(), &config), HandshakeKind::Full, "{word}");
        assert_eq!(ask(router.address(), &config), HandshakeKind::Resumed, "{word}");
        for (result, count) in [("full", 1.0), ("resumed", 1.0)] {
            let words = [format!("version=\"{word}\""), format!("result=\"{result}\"")];
            let counted = router
                .metric("ekiden_tls_handshakes_total", &words.iter().map(String::as_str).collect::<Vec<_>>());
            assert!((counted - count).abs() < 0.1, "{word} {result}: {counted}");
        }
    }
}

#[test]
fn no_early_data_is_offered() {
    let authority = Authority::new();
    let router = hello(&authority, "");
    let mut config = ClientConfig::clone(&authority.trusting().only(ProtocolVersion::TLSv1_3));
    config.enable_early_data = true;
    let config = Arc::new(config);
    ask(router.address(), &config);
    let name = ServerName::try_from("a.test").unwrap();
    let mut second = rustls::ClientConnection::new(config, name).unwrap();
    assert!(second.early_data().is_none(), "a ticket allows early data");
}

/// A router with listeners `edge` and `other`, which differ in nothing but their name.
fn two_listeners(authority: &Authority, keys: &str, other_keys: &str) -> (Ekiden, std::net::SocketAddr) {
    let port = free_port();
    let other = format!(
        "[listener.other]\naddress = \"127.0.0.1:{port}\"\ntls = {{ cert = \"site.pem\", key = \"site.key\" }}\n{other_keys}\n{HELLO}"
    );
    let setup = setup(&other, &["site"], keys);
    authority.make(&["a.test"]).write(setup.dir(), "site");
    fs::write(setup.dir().join("keys"), KEYS).unwrap();
    (Ekiden::start(setup), ([127, 0, 0, 1], port).into())
}

const KEYS: &str = "# first makes tickets\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n";

#[test]
fn a_ticket_of_one_listener_is_nothing_on_another() {
    let authority = Authority::new();
    for keys in ["", "ticket_keys = \"keys\""] {
        let (router, other) = two_listeners(&authority, keys, keys);
        for (version, word) in VERSIONS {
            let config = authority.trusting().only(version);
            assert_eq!(ask(router.address(), &config), HandshakeKind::Full);
            assert_eq!(ask(other, &config), HandshakeKind::Full, "{word} with {keys:?} crossed listeners");
        }
    }
}

#[test]
fn routers_that_share_keys_resume_each_others_sessions() {
    let authority = Authority::new();
    let made = authority.make(&["a.test"]);
    let start = |text: &str| {
        let setup = setup(HELLO, &["site"], "ticket_keys = \"keys\"");
        made.write(setup.dir(), "site");
        fs::write(setup.dir().join("keys"), text).unwrap();
        Ekiden::start(setup)
    };
    let other_key = "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f\n";
    let (one, two, stranger) = (start(KEYS), start(&format!("{other_key}{KEYS}")), start(other_key));
    for (version, word) in VERSIONS {
        let config = authority.trusting().only(version);
        assert_eq!(ask(one.address(), &config), HandshakeKind::Full);
        assert_eq!(ask(two.address(), &config), HandshakeKind::Resumed, "{word}: any key of the file opens");
        // Its new ticket is sealed with the first key of its own file.
        assert_eq!(ask(stranger.address(), &config), HandshakeKind::Resumed, "{word}: the first key seals");
        assert_eq!(ask(one.address(), &config), HandshakeKind::Full, "{word}: a key it does not have");
    }
}

/// The end of a key in the file is the end of its tickets, without a restart; a file that cannot be read changes nothing.
#[test]
fn ticket_keys_are_watched() {
    let authority = Authority::new();
    let setup = setup(HELLO, &["site"], "ticket_keys = \"keys\"");
    authority.make(&["a.test"]).write(setup.dir(), "site");
    let keys = setup.dir().join("keys");
    fs::write(&keys, KEYS).unwrap();
    let router = Ekiden::start(setup);
    let config = authority.trusting().only(ProtocolVersion::TLSv1_3);
    ask(router.address(), &config);
    router.rename_over(&keys, "no key at all\n");
    router.wait_error("the ticket keys before it go on serving");
    assert!(!router.errors().contains("no key at all"), "what stands in the file is not shown");
    assert_eq!(ask(router.address(), &config), HandshakeKind::Resumed);
    router.rename_over(&keys, &KEYS.replace("AAEC", "BBEC"));
    router.wait_error("ticket keys read");
    assert_eq!(ask(router.address(), &config), HandshakeKind::Full);
}
