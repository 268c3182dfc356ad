//! What becomes of the files: bad ones at the start and later, replaced ones, directories, mounted volumes, `check`.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use ekiden_tests::{
    Authority, Ekiden, Kind, Life, Made, Run, Served, Setup, Trusting, binary, finished, until, until_true,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};

use super::{HELLO, setup};

/// The certificate that a client is shown for a name.
fn shown(router: &Ekiden, clients: &Trusting, name: &str) -> Option<CertificateDer<'static>> {
    let client = clients.connect(router.address(), name).ok()?;
    client.tls().peer_certificates()?.first().map(|shown| shown.clone().into_owned())
}

fn leaf(made: &Made) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(made.cert.as_bytes()).unwrap()
}

fn wait_shown(router: &Ekiden, clients: &Trusting, name: &str, made: &Made) {
    until_true(&format!("the new certificate of {name}"), || {
        shown(router, clients, name) == Some(leaf(made))
    });
}

/// What `ekiden check` prints and whether it is content.
fn check(setup: &Setup) -> (String, bool) {
    fs::write(setup.file(), setup.config()).unwrap();
    let output = finished(Command::new(binary()).arg("check").arg(setup.file()));
    (String::from_utf8(output.stdout).unwrap(), output.status.success())
}

#[test]
fn bad_pairs_are_told_with_their_file_and_reason() {
    let authority = Authority::new();
    let good = authority.make(&["a.test"]);
    let with_key = |key: &str| Made { key: key.to_owned(), ..good.clone() };
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let no_cert = Made { cert: "nothing\n".to_owned(), ..good.clone() };
    let torn = Made { cert: good.cert.replace("MII", "AAA"), ..good.clone() };
    let expired = authority.make_as(&["a.test"], Kind::Ecdsa, Life(-30, -1));
    let early = authority.make_as(&["a.test"], Kind::Ecdsa, Life(2, 30));
    let soon = authority.make_as(&["a.test"], Kind::Ecdsa, Life(-30, 5));
    // What stands in the files, what is said, and whether it can be served.
    let rows = [
        (with_key(&authority.make(&["a.test"]).key), "the key is not the key of the certificate", false),
        (with_key("nothing\n"), "holds no private key", false),
        (with_key(encrypted), "the key is encrypted", false),
        (no_cert, "holds no certificate", false),
        (torn, "cannot be read", false),
        (expired, "the certificate has expired", true),
        (early, "the certificate is not valid yet", true),
        (soon, "the certificate expires in", true),
    ];
    for (made, words, serves) in rows {
        let setup = setup(HELLO, &["site"], "");
        made.write(setup.dir(), "site");
        let (said, content) = check(&setup);
        assert!(said.contains(words) && said.contains("site.pem"), "{words}: {said}");
        assert_eq!(content, words.contains("expires in"), "{words}: {said}");
        assert!(!said.contains("PRIVATE KEY-----\n"), "a key is shown: {said}");
        if serves {
            let router = Ekiden::start(setup);
            router.wait_error(words);
        } else {
            let mut router = Ekiden::spawn(setup, Run::default());
            assert_eq!(router.wait().code(), Some(1), "{words}");
            assert!(router.errors().contains(words), "{words}: {}", router.errors());
        }
    }
}

#[test]
fn a_missing_file_is_named() {
    let setup = setup(HELLO, &["site"], "");
    let (said, content) = check(&setup);
    assert!(!content && said.contains("site.pem: No such file"), "{said}");
    let setup = Setup::new(HELLO).listener("tls = { dir = \"nowhere\" }");
    let (said, content) = check(&setup);
    assert!(!content && said.contains("nowhere: cannot be listed"), "{said}");
}

/// One bad pair of several: the others serve, and the log and the metric say which does not.
#[test]
fn a_bad_pair_does_not_take_the_others_down() {
    let authority = Authority::new();
    let setup = setup(HELLO, &["site", "broken"], "");
    authority.make(&["a.test"]).write(setup.dir(), "site");
    fs::write(setup.dir().join("broken.pem"), "nothing").unwrap();
    let router = Ekiden::start(setup);
    router.wait_error("no certificate of this file serves");
    assert!(shown(&router, &authority.trusting(), "a.test").is_some());
    let faulty = router.metric("ekiden_tls_certificate_faulty", &["broken.pem"]);
    assert!((faulty - 1.0).abs() < 0.1);
}

#[test]
fn a_replaced_pair_serves_and_a_bad_one_keeps_the_one_before() {
    let authority = Authority::new();
    let clients = authority.trusting();
    let setup = setup(HELLO, &["site"], "");
    let first = authority.make(&["a.test"]);
    first.write(setup.dir(), "site");
    let router = Ekiden::start(setup);
    assert_eq!(shown(&router, &clients, "a.test"), Some(leaf(&first)));
    // Renamed over, as certbot and editors do.
    let second = authority.make_as(&["a.test"], Kind::Ecdsa, Life(-1, 100));
    second.write(router.setup().dir(), "site");
    wait_shown(&router, &clients, "a.test", &second);
    let ends = router.metric("ekiden_tls_certificate_not_after_seconds", &["site.pem"]);
    let wanted = (ekiden_tests::today() + 100) * 86_400;
    assert!((ends - wanted as f64).abs() < 1.0, "{ends} {wanted}");
    // Bad in three ways: each is told, and the second goes on serving.
    let stranger = authority.make(&["a.test"]);
    let expired = authority.make_as(&["a.test"], Kind::Ecdsa, Life(-30, -1));
    for (bad, words) in [
        (Made { key: stranger.key, ..second.clone() }, "the key is not the key of the certificate"),
        (Made { cert: "torn".to_owned(), ..second.clone() }, "holds no certificate"),
        (expired, "the certificate has expired; the certificate before it goes on serving"),
    ] {
        bad.write(router.setup().dir(), "site");
        router.wait_error(words);
        assert_eq!(shown(&router, &clients, "a.test"), Some(leaf(&second)), "{words}");
        until_true("the metric", || router.metrics().contains("ekiden_tls_certificate_faulty{"));
    }
    // And a good one after them is taken.
    let third = authority.make(&["a.test", "b.test"]);
    third.write(router.setup().dir(), "site");
    wait_shown(&router, &clients, "b.test", &third);
    until_true("the metric to go", || !router.metrics().contains("ekiden_tls_certificate_faulty{"));
}

/// The files are gone, then back: the certificate serves all the while.
#[test]
fn removed_files_keep_what_serves() {
    let authority = Authority::new();
    let setup = setup(HELLO, &["site"], "");
    let made = authority.make(&["a.test"]);
    let (cert, key) = made.write(setup.dir(), "site");
    let router = Ekiden::start(setup);
    fs::remove_file(cert).unwrap();
    fs::remove_file(key).unwrap();
    router.wait_error("the certificate before it goes on serving");
    assert_eq!(shown(&router, &authority.trusting(), "a.test"), Some(leaf(&made)));
}

/// A volume as Kubernetes mounts it: `site.pem -> ..data/site.pem`, `..data -> v1`, and a swap of `..data`.
#[test]
fn a_swapped_link_is_seen() {
    let authority = Authority::new();
    let clients = authority.trusting();
    let setup = setup(HELLO, &["site"], "");
    let dir = setup.dir().to_owned();
    let first = authority.make(&["a.test"]);
    let second = authority.make(&["a.test"]);
    for (version, made) in [("v1", &first), ("v2", &second)] {
        fs::create_dir(dir.join(version)).unwrap();
        made.write(&dir.join(version), "site");
    }
    symlink("v1", dir.join("..data")).unwrap();
    for name in ["site.pem", "site.key"] {
        symlink(Path::new("..data").join(name), dir.join(name)).unwrap();
    }
    let router = Ekiden::start(setup);
    assert_eq!(shown(&router, &clients, "a.test"), Some(leaf(&first)));
    symlink("v2", dir.join("fresh")).unwrap();
    fs::rename(dir.join("fresh"), dir.join("..data")).unwrap();
    wait_shown(&router, &clients, "a.test", &second);
}

#[test]
fn a_directory_gives_and_takes_certificates() {
    let authority = Authority::new();
    let clients = authority.trusting();
    let setup = Setup::new(HELLO).listener("tls = { dir = \"certificates\" }\nunknown_name = \"default\"");
    let dir = setup.dir().join("certificates");
    fs::create_dir(&dir).unwrap();
    let (first, second, named) =
        (authority.make(&["a.test"]), authority.make(&["b.test"]), authority.make(&["127.0.0.1", "d.test"]));
    first.write(&dir, "a");
    named.write(&dir, "default");
    fs::write(dir.join("README"), "not a certificate").unwrap();
    fs::write(dir.join(".hidden.pem"), "not one either").unwrap();
    let router = Ekiden::start(setup);
    assert_eq!(shown(&router, &clients, "a.test"), Some(leaf(&first)));
    assert_eq!(shown(&router, &clients, "127.0.0.1"), Some(leaf(&named)), "`default` is the default");
    assert!(shown(&router, &clients, "b.test").is_none());
    second.write(&dir, "b");
    wait_shown(&router, &clients, "b.test", &second);
    fs::remove_file(dir.join("b.pem")).unwrap();
    until_true("b.test to go", || shown(&router, &clients, "b.test").is_none());
    // The last ones stay though they are taken away.
    for stem in ["a", "default"] {
        fs::remove_file(dir.join(format!("{stem}.pem"))).unwrap();
    }
    router.wait_error("no certificate is left");
    assert_eq!(shown(&router, &clients, "a.test"), Some(leaf(&first)));
    second.write(&dir, "b");
    wait_shown(&router, &clients, "b.test", &second);
    assert!(shown(&router, &clients, "a.test").is_none(), "those that were kept go when there is another");
}

/// A key that only becomes readable later is read at SIGHUP at the latest, and the process file is read again with it.
#[test]
fn a_hangup_reads_everything_again() {
    let authority = Authority::new();
    let setup = setup(HELLO, &["site"], "");
    authority.make(&["a.test"]).write(setup.dir(), "site");
    let router = Ekiden::start(setup);
    let before = router.errors().matches("expires").count();
    let soon = authority.make_as(&["a.test"], Kind::Ecdsa, Life(-1, 3));
    soon.write(router.setup().dir(), "site");
    router.signal(libc::SIGHUP);
    wait_shown(&router, &authority.trusting(), "a.test", &soon);
    until_true("a word of its end", || router.errors().matches("expires").count() > before);
    fs::set_permissions(router.setup().dir().join("site.key"), fs::Permissions::from_mode(0o600)).unwrap();
    assert!(shown(&router, &authority.trusting(), "a.test").is_some());
}

/// TLS added to a plain listener, and taken from it, without a restart.
#[test]
fn tls_comes_and_goes_with_the_configuration() {
    let authority = Authority::new();
    let setup = Setup::new(HELLO);
    let made = authority.make(&["a.test"]);
    made.write(setup.dir(), "site");
    let secure = setup
        .config()
        .replace("[listener.edge]\n", "[listener.edge]\ntls = { cert = \"site.pem\", key = \"site.key\" }\n");
    let plain = setup.config();
    let router = Ekiden::start(setup);
    assert_eq!(router.get("/").text(), "hello");
    router.rewrite(&secure);
    wait_shown(&router, &authority.trusting(), "a.test", &made);
    assert_eq!(router.get("/").code(), "plain_on_tls");
    router.rewrite(&plain);
    until_true("the plain listener", || router.get("/").status == 200);
}

/// Two hundred handshakes a second while the certificate is replaced again and again: not one fails.
#[test]
fn certificates_are_replaced_under_handshakes() {
    let authority = Authority::new();
    let clients = authority.trusting();
    let setup = setup(HELLO, &["site"], "").workers(2);
    authority.make(&["a.test"]).write(setup.dir(), "site");
    let router = Ekiden::start(setup);
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut seen = 0;
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let mut client = clients.connect(router.address(), "a.test").unwrap_or_else(|error| {
                        panic!("handshake {}: {error}", done.load(Ordering::Relaxed))
                    });
                    assert_eq!(client.get("a.test", "/").text(), "hello");
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for _ in 0..5 {
            let next = authority.make(&["a.test"]);
            next.write(router.setup().dir(), "site");
            wait_shown(&router, &clients, "a.test", &next);
            seen += 1;
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(seen, 5);
    let made = done.load(Ordering::Relaxed);
    assert!(made > 200, "{made} handshakes");
    assert!((router.metric("ekiden_tls_handshake_failures_total", &["cause=\"invalid\""])).abs() < 0.1);
    until("the counts", || {
        let full = router.metric("ekiden_tls_handshakes_total", &["version=\"1.3\"", "result=\"full\""]);
        (full >= made as f64).then_some(())
    });
}
