//! What changes while connections are kept: files, words, who may use what. Nothing of before is used after.

use ekiden_tests::{Authority, Client, Ekiden, SecureOrigin, Served, server_config, until, until_true};

use super::{ask, cluster, good, origin, refused, said, setup, write_identity};

const TLS: &str = "{ ca = \"ca.pem\", name = \"a.test\" }";

/// The body of an answer.
fn told(router: &Ekiden) -> String {
    let response = ask(router, "/web");
    assert_eq!(response.status, 200, "{}", response.text());
    response.text()
}

fn reloaded(router: &Ekiden, text: &str) {
    let generation = |router: &Ekiden| router.table()["generation"].as_u64().unwrap();
    let before = generation(router);
    router.rewrite(text);
    until_true("the new table", || generation(router) > before);
}

#[test]
fn connections_are_kept_and_sessions_resumed() {
    let ours = Authority::new();
    let origin = origin(&ours, &["a.test"]);
    let router = Ekiden::start(setup(&cluster("web", origin.address, TLS, ""), &ours));
    for _ in 0..3 {
        assert!(told(&router).starts_with("name=a.test peer=0 kind=full connection=1"));
    }
    // Without kept connections each request makes a handshake, of a session that is known.
    reloaded(&router, &router.setup().config().replace("tls =", "pool_idle = 0\ntls ="));
    until_true("a resumed session", || told(&router).contains("kind=resumed"));
    let resumed = router.metric("ekiden_cluster_tls_handshakes_total", &["result=\"resumed\""]);
    assert!(resumed > 0.5, "{resumed}");
}

/// A connection that was made under other words is not used, though the endpoint is the same.
#[test]
fn other_words_mean_other_connections() {
    let (ours, others) = (Authority::new(), Authority::new());
    let origin = origin(&ours, &["a.test", "b.test"]);
    let setup = setup(&cluster("web", origin.address, TLS, ""), &ours);
    std::fs::write(setup.dir().join("others.pem"), &others.pem).unwrap();
    let router = Ekiden::start(setup);
    let text = router.setup().config();
    assert!(told(&router).contains("connection=1"));
    reloaded(&router, &text.replace("a.test\" }", "b.test\" }"));
    assert!(
        told(&router).starts_with("name=b.test peer=0 kind=full connection=2"),
        "a session of another name"
    );
    reloaded(&router, &text.replace("ca.pem", "others.pem"));
    assert_eq!(said(&router, "/web"), refused("tls_certificate_invalid"));
    reloaded(&router, &text.replace(TLS, "{ ca = \"ca.pem\", san = \"c.test\" }"));
    assert_eq!(said(&router, "/web"), refused("tls_certificate_invalid"));
    reloaded(&router, &text);
    assert!(told(&router).contains("kind=full"), "a session of another trust");
    // What cannot be read keeps what serves, and is loud.
    let kept = told(&router);
    reloaded(&router, &text.replace("ca.pem", "nowhere.pem"));
    assert_eq!(told(&router), kept);
    router.wait_error("TLS with its endpoints goes on as before");
}

#[test]
fn files_are_watched() {
    let (ours, others, people) = (Authority::new(), Authority::new(), Authority::new());
    let origin = SecureOrigin::start(server_config(&ours.make(&["a.test"]), Some(&people), None));
    let tls = "{ ca = \"ca.pem\", name = \"a.test\", cert = \"id.pem\", key = \"id.key\" }";
    let setup = setup(&cluster("web", origin.address, tls, ""), &ours);
    write_identity(&setup, &people.make(&["router.test"]));
    let router = Ekiden::start(setup);
    let peer =
        |told: &str| told.split_whitespace().find_map(|word| word.strip_prefix("peer=")).unwrap().to_owned();
    let first = told(&router);
    assert_eq!(told(&router), first, "kept");
    // Another certificate is shown, on a new connection and in a new session.
    write_identity(router.setup(), &people.make(&["a.much.longer.name.of.the.same.router.test"]));
    let second = until("the new identity", || Some(told(&router)).filter(|now| peer(now) != peer(&first)));
    assert!(second.contains("kind=full"), "{second}");
    // One that cannot be read changes nothing, and is loud.
    router.rename_over(&router.setup().dir().join("id.key"), "nothing");
    router.wait_error("holds no private key in PEM form");
    assert_eq!(told(&router), second);
    until_true("the metric", || router.metric("ekiden_tls_identity_faulty", &["id.pem"]) > 0.5);
    // Nobody is believed any more.
    let ca = router.setup().dir().join("ca.pem");
    router.rename_over(&ca, &others.pem);
    until_true("the other authority", || said(&router, "/web") == refused("tls_certificate_invalid"));
    router.rename_over(&ca, "nothing");
    router.wait_error("it holds no authority in PEM form");
    assert_eq!(said(&router, "/web"), refused("tls_certificate_invalid"));
    router.rename_over(&ca, &ours.pem);
    until_true("the first authority", || said(&router, "/web") == good());
}

/// The process file decides which app uses what; one that is taken off a list is cut off at once, though its own file cannot be
/// accepted any more and its last good version goes on.
#[test]
fn an_app_that_is_not_listed_loses_its_trust() {
    let ours = Authority::new();
    let origin = origin(&ours, &["a.test"]);
    let text = "[ca.corp]\nfile = \"ca.pem\"\napps = [\"shop\"]\n";
    let setup = setup(text, &ours).top("apps = \"apps.d\"");
    let apps = setup.dir().join("apps.d");
    std::fs::create_dir(&apps).unwrap();
    let shop = cluster("shop", origin.address, "{ ca = \"corp\", name = \"a.test\" }", "");
    std::fs::write(apps.join("shop.toml"), &shop).unwrap();
    std::fs::write(apps.join("wiki.toml"), shop.replace("shop", "wiki")).unwrap();
    let router = Ekiden::start(setup);
    router.wait_error("the app `wiki` may not use the CA `corp`");
    assert_eq!((said(&router, "/shop"), ask(&router, "/wiki").status), (good(), 404));
    router.rewrite(&router.setup().config().replace("\"shop\"", "\"wiki\""));
    until_true("the end of the trust", || said(&router, "/shop") == (503, "tls_unavailable".to_owned()));
}

/// An active check goes the way of requests: with TLS, by the same trust.
#[test]
fn checks_use_the_trust_of_the_cluster() {
    let (ours, others) = (Authority::new(), Authority::new());
    let right = origin(&ours, &["a.test"]);
    let wrong = origin(&others, &["a.test"]);
    let text: String = [("path = \"/up\"", "http"), ("tcp = true", "tcp")]
        .map(|(kind, name)| {
            let keys = format!("probe = {{ {kind}, interval = \"100ms\", fall = 1 }}");
            let both = format!("{}\", \"{}", right.address, wrong.address);
            cluster(name, both, TLS, &keys)
        })
        .concat();
    let router = Ekiden::start(setup(&text, &ours));
    for name in ["http", "tcp"] {
        let reason = until("the verdict", || {
            let path = Ekiden::endpoint_path(name, &wrong.address.to_string());
            let seen = router.control("GET", &path, "").json();
            (seen["state"] == "failing").then(|| seen["reason"].to_string())
        });
        assert!(reason.contains("no TLS: invalid peer certificate: "), "{reason}");
        for _ in 0..10 {
            assert_eq!(said(&router, &format!("/{name}")), good());
        }
    }
}

/// An ejected endpoint without a probe is tried with a handshake, not with a bare connect.
#[test]
fn an_endpoint_that_cannot_be_believed_is_set_aside() {
    let (ours, others) = (Authority::new(), Authority::new());
    let (right, wrong) = (origin(&ours, &["a.test"]), origin(&others, &["a.test"]));
    let both = format!("{}\", \"{}", right.address, wrong.address);
    let keys = "balance = \"round_robin\"\nejection = { consecutive = 2 }";
    let router = Ekiden::start(setup(&cluster("web", both, TLS, keys), &ours));
    let path = Ekiden::endpoint_path("web", &wrong.address.to_string());
    let state = || router.control("GET", &path, "").json();
    until_true("the ejection", || {
        // Each failed attempt goes on to the other endpoint: clients notice nothing.
        assert_eq!(said(&router, "/web"), good());
        state()["state"] == "ejected"
    });
    assert!(state()["reason"].to_string().contains("TLS with it could not be had"), "{}", state());
    let ejections = router.metric("ekiden_cluster_ejections_total", &["cause=\"tls\""]);
    assert!(ejections > 0.5, "{ejections}");
    let tried = wrong.connections();
    until_true("trials", || wrong.connections() > tried + 2);
    assert_eq!(state()["state"], "ejected", "a connect is no proof");
    drop(Client::connect(router.address()));
}
