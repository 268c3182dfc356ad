//! `probe_load`: endpoints are asked for their load in the background, an ambassador answers itself, and no request waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ekiden_tests::{Ekiden, Origin, Served, Setup, until_true, web};

const PATH: &str = "/.well-known/router-load";

/// An endpoint that serves requests without a word of its load, and answers questions for it with these words, or never.
struct Asked {
    origin: Origin,
    requests: Arc<AtomicUsize>,
    questions: Arc<AtomicUsize>,
}

impl Asked {
    fn start(says: Option<&'static str>) -> Self {
        let (requests, questions) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (served, asked) = (Arc::clone(&requests), Arc::clone(&questions));
        let origin = Origin::start(move |conn| {
            while let Some(request) = conn.request() {
                if request.target() != PATH {
                    served.fetch_add(1, Ordering::AcqRel);
                    conn.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
                    continue;
                }
                asked.fetch_add(1, Ordering::AcqRel);
                match says {
                    Some(load) => {
                        conn.send(format!(
                            "HTTP/1.1 200 OK\r\nX-Router-Load: {load}\r\nContent-Length: 0\r\n\r\n"
                        ));
                    }
                    // It hears the end of the connection, when the question is given up.
                    None => {
                        conn.request();
                        return;
                    }
                }
            }
        });
        Self { origin, requests, questions }
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::Acquire)
    }

    fn questions(&self) -> usize {
        self.questions.load(Ordering::Acquire)
    }
}

fn router(endpoints: &[&Asked], probes: &str) -> Ekiden {
    let addresses: Vec<_> = endpoints.iter().map(|endpoint| endpoint.origin.address).collect();
    let keys = format!("balance = \"prequal\"\nprobe_load = {probes}");
    Ekiden::start(Setup::new(web(&addresses, &keys, "")))
}

#[test]
fn an_ambassador_answers_for_its_app() {
    let seen = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&seen);
    let app = Origin::start(move |conn| {
        while let Some(request) = conn.request() {
            counted.fetch_add(1, Ordering::AcqRel);
            conn.answer(&request, "ok");
        }
    });
    let ambassador = Ekiden::start(Setup::new(web(&[app.address], "report_load = true", "")));
    let mut client = ambassador.client();
    client.get("a", "/");
    client.get("a", "/");
    let report = client.get("a", PATH);
    let load = report.get("x-router-load").unwrap_or("");
    let latency = load.strip_prefix("requests=0, latency_us=").and_then(|us| us.parse::<u32>().ok());
    assert!(latency.is_some_and(|us| us > 0), "{report:?}");
    assert_eq!((report.status, report.text()), (200, String::new()));
    let head = client.ask(format!("HEAD {PATH} HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert_eq!((head.status, head.all("x-router-load").len()), (200, 1));
    assert_eq!(seen.load(Ordering::Acquire), 2, "the app hears of no question");
    // Other methods are the app's, and so is the path of a router that tells nothing.
    client.ask(format!("DELETE {PATH} HTTP/1.1\r\nHost: a\r\n\r\n"));
    let silent = Ekiden::start(Setup::new(web(&[app.address], "", "")));
    assert_eq!(silent.client().get("a", PATH).get("x-router-load"), None);
    assert_eq!(seen.load(Ordering::Acquire), 4);
}

/// Responses say nothing of load here: all that is known comes from the questions.
#[test]
fn what_endpoints_answer_decides() {
    let quick = [
        Asked::start(Some("requests=0, latency_us=1000")),
        Asked::start(Some("requests=0, latency_us=1000")),
    ];
    let slow = Asked::start(Some("requests=9, latency_us=900000"));
    let router = router(&[&slow, &quick[0], &quick[1]], "true");
    let mut client = router.client();
    // Some requests first bring the questions. On a slow machine the answers may come late, and then others bring them again.
    until_true("a share by the answers", || {
        let (before, all) = (slow.requests(), slow.requests() + quick[0].requests() + quick[1].requests());
        for _ in 0..60 {
            assert_eq!(client.get("a", "/").status, 200);
        }
        assert_eq!(slow.requests() + quick[0].requests() + quick[1].requests() - all, 60);
        // By latency alone it would get its third.
        slow.requests() - before <= 8
    });
    assert!(slow.questions() > 0 && quick[0].questions() > 0 && quick[1].questions() > 0);
    let answered = || router.metric("ekiden_cluster_load_probes_total", &["result=\"answered\""]);
    until_true("the count", || answered() > 0.0);
}

/// An endpoint that never answers a question serves requests as before.
#[test]
fn no_request_waits_for_an_answer() {
    let endpoints = [Asked::start(None), Asked::start(None)];
    let router = router(&[&endpoints[0], &endpoints[1]], "{ per_request = 16, at_once = 2 }");
    let mut client = router.client();
    until_true("a question", || {
        assert_eq!(client.get("a", "/").status, 200);
        endpoints[0].questions() + endpoints[1].questions() > 0
    });
    for _ in 0..50 {
        assert_eq!(client.get("a", "/").status, 200);
    }
    let failed = || router.metric("ekiden_cluster_load_probes_total", &["result=\"failed\""]);
    until_true("questions that are given up", || {
        assert_eq!(client.get("a", "/").status, 200);
        failed() > 2.0
    });
}

#[test]
fn without_the_key_nobody_is_asked() {
    let endpoints =
        [Asked::start(Some("requests=0, latency_us=1")), Asked::start(Some("requests=0, latency_us=1"))];
    let asking = router(&[&endpoints[0], &endpoints[1]], "true");
    let mut client = asking.client();
    until_true("a question of a router that asks", || {
        client.get("a", "/");
        endpoints[0].questions() > 0 && endpoints[1].questions() > 0
    });
    drop((client, asking));
    let before = endpoints[0].questions() + endpoints[1].questions();
    let silent = router(&[&endpoints[0], &endpoints[1]], "false");
    let mut client = silent.client();
    (0..200).for_each(|_| assert_eq!(client.get("a", "/").status, 200));
    assert_eq!(silent.metric("ekiden_cluster_load_probes_total", &["result=\"answered\""]), 0.0);
    assert!(endpoints[0].questions() + endpoints[1].questions() <= before + 8, "those under way at the most");
}

/// The whole way: an edge that asks ambassadors, over HTTP/2 between them too, and with the PROXY protocol.
#[test]
fn an_edge_asks_its_ambassadors() {
    for (listener, cluster) in [
        ("", ""),
        ("h2c = true", "protocol = \"h2\""),
        ("accept_proxy = [\"127.0.0.1\"]", "send_proxy = \"v2\""),
    ] {
        let app = Origin::hello("app");
        let ambassador =
            || Ekiden::start(Setup::new(web(&[app.address], "report_load = true", "")).listener(listener));
        let ambassadors = [ambassador(), ambassador()];
        let addresses = ambassadors.each_ref().map(|one| one.address());
        let keys = format!("balance = \"prequal\"\nprobe_load = {{ host = \"a\" }}\n{cluster}");
        let edge = Ekiden::start(Setup::new(web(&addresses, &keys, "")));
        let mut client = edge.client();
        until_true("an answer", || {
            assert_eq!(client.get("a", "/").status, 200);
            edge.metric("ekiden_cluster_load_probes_total", &["result=\"answered\""]) > 4.0
        });
    }
}

/// An app with one slot and a line before it is no idle one.
#[test]
fn who_waits_for_a_slot_is_told() {
    let held = Origin::start(ekiden_tests::Conn::until_closed);
    let keys = "report_load = true\nslots = 1\nqueue = { target = \"off\", max = 100 }";
    let ambassador = Ekiden::start(Setup::new(web(&[held.address], keys, "")));
    let asking = || {
        let mut client = ambassador.client();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        client
    };
    let mut clients = vec![asking()];
    until_true("one to be served", || ambassador.metric("ekiden_endpoint_in_flight", &[]) == 1.0);
    clients.extend((0..5).map(|_| asking()));
    until_true("the others to wait", || ambassador.metric("ekiden_cluster_queue_depth", &[]) == 5.0);
    let told = ambassador.client().get("a", PATH);
    assert!(told.get("x-router-load").is_some_and(|load| load.starts_with("requests=6,")), "{told:?}");
    drop(clients);
}

/// Questions come beside the requests, some for each: what is meant for requests is neither taken for them nor counts them.
#[test]
fn questions_take_nothing_from_requests() {
    let app = Origin::hello("app");
    let route = "name = \"all\"\nlimit = [{ rate = \"2/h\", burst = 2 }]\n\
                 faults = { abort = { percent = 100, status = 599 } }";
    let keys = "report_load = true\nadaptive_limit = { min = 1, max = 1 }";
    let trust = "trust = [\"127.0.0.0/8\"]";
    let ambassador = Ekiden::start(Setup::new(web(&[app.address], keys, route)).listener(trust));
    let mut client = ambassador.client();
    for _ in 0..20 {
        let told = client.get("a", PATH);
        assert_eq!((told.status, told.all("x-router-load").len()), (200, 1), "{told:?}");
    }
    let of_route = |name: &str| ambassador.metric(name, &["route=\"all\""]);
    until_true("the count", || ambassador.metric("ekiden_cluster_load_answers_total", &[]) == 20.0);
    assert_eq!((of_route("ekiden_requests_total"), of_route("ekiden_requests_in_flight")), (0.0, 0.0));
    assert_eq!(of_route("ekiden_request_duration_seconds_count"), 0.0);
    // Requests have what is theirs, of the limit and of the faults.
    assert_eq!([client.get("a", "/").status, client.get("a", "/").status], [599, 599]);
    assert_eq!(client.get("a", "/").code(), "rate_limited");
    until_true("the count", || of_route("ekiden_requests_total") == 3.0);
    assert_eq!(client.get("a", PATH).status, 200);
}

/// A client that is no router asks by the same bounds as for anything else.
#[test]
fn questions_of_strangers_are_requests() {
    let app = Origin::hello("app");
    let limit = "limit = [{ rate = \"2/h\", burst = 2 }]";
    let ambassador = Ekiden::start(Setup::new(web(&[app.address], "report_load = true", limit)));
    let mut client = ambassador.client();
    for status in [200, 200, 429, 429] {
        let told = client.get("a", PATH);
        assert_eq!((told.status, told.get("x-router-load").is_some()), (status, status == 200), "{told:?}");
    }
}

/// Whoever may not come in is told nothing.
#[test]
fn questions_are_let_in_as_requests_are() {
    let app = Origin::hello("app");
    let route = "deny = { clients = [\"127.0.0.0/8\"] }";
    let closed = Ekiden::start(Setup::new(web(&[app.address], "report_load = true", route)));
    let refused = closed.client().get("a", PATH);
    assert_eq!((refused.status, refused.get("x-router-load")), (403, None), "{refused:?}");
}

/// One endpoint of three does not answer questions: it is left alone soon, and has its part of the requests all the same.
#[test]
fn one_that_does_not_answer_is_asked_seldom_and_served() {
    let silent = Asked::start(None);
    let says = Some("requests=3, latency_us=1000");
    let others = [Asked::start(says), Asked::start(says)];
    let router = router(&[&silent, &others[0], &others[1]], "true");
    let mut client = router.client();
    let failed = || router.metric("ekiden_cluster_load_probes_total", &["result=\"failed\""]);
    until_true("questions that are given up", || {
        assert_eq!(client.get("a", "/").status, 200);
        failed() >= 3.0
    });
    // Those that were under way then, and what comes after a rest of 10 s on a slow machine.
    let (asked, before) = (silent.questions(), silent.requests());
    let others_asked = || others[0].questions() + others[1].questions();
    until_true("its part, and questions to the others", || {
        (0..100).for_each(|_| assert_eq!(client.get("a", "/").status, 200));
        silent.requests() > before + 50 && others_asked() > 100
    });
    let more = silent.questions() - asked;
    assert!(more <= 20, "{more} beside {}", others_asked());
}
