//! Releases that follow one another: no request is lost, and one that does not come up takes nothing away.

use std::thread::{self, JoinHandle};

use ekiden_tests::{Background, Client, Load, Lost, Refused, Response, free_port, signal};

use super::{PATIENCE, Place, patiently};

/// As a client that makes a connection for each request.
const NEW: &[&str] = &[
    "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "GET /slow HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
];
/// As one that keeps it.
const KEPT: &[&str] = &[
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /form HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
];

fn rolls_without_a_lost_request(program: &str) {
    let place = Place::new(&format!("web: {program}\n"));
    let mut router = place.run(&["-m", "web=2"]);
    place.serves();
    place.settled(&[("web.1", "v1"), ("web.2", "v1")]);
    let kept = Load::start(place.address(), 6, KEPT, Refused::Fails);
    let new = Load::start(place.address(), 3, NEW, Refused::Fails);
    kept.serve_more(50);

    let said = place.ask(&["deploy", "--description", "the second"]);
    assert_eq!(said.code, 0, "{} {}", said.out, said.errors);
    assert!(said.out.contains("v2: done: every request of the old release was finished"), "{}", said.out);
    place.settled(&[("web.1", "v2"), ("web.2", "v2")]);
    kept.serve_more(50);
    new.serve_more(10);
    assert!(place.get("/").unwrap().ends_with(" v2"));

    // The same by a signal, with more dynos at the same time.
    place.ask(&["scale", "web=3"]);
    signal(router.id(), libc::SIGHUP);
    place.settled(&[("web.1", "v3"), ("web.2", "v3"), ("web.3", "v3")]);
    kept.serve_more(50);
    place.ask(&["scale", "web=1"]);
    place.settled(&[("web.1", "v3")]);
    kept.serve_more(20);

    for tally in [kept.stop(), new.stop()] {
        assert!(tally.failed.is_empty(), "{} served, and failed: {:?}", tally.served, tally.failed);
    }
    router.signal(libc::SIGTERM);
    assert_eq!(place.end_of(&mut router).code, 0);
}

#[test]
fn releases_of_a_python_app_follow_under_load() {
    rolls_without_a_lost_request("exec python3 app.py");
}

#[test]
fn releases_of_a_node_app_follow_under_load() {
    // Behind a shell that dies at once of SIGTERM, as most Procfiles have it.
    rolls_without_a_lost_request("node app.js; true");
}

#[test]
fn a_release_that_does_not_come_up_is_refused_and_explained() {
    let place = Place::new("web: exec python3 app.py\n");
    let _router = place.run(&["-m", "web=1", "--ready", "/up"]);
    place.serves();
    let before = place.settled(&[("web.1", "v1")]);

    // It ends at once, again and again.
    place.write("Procfile", "web: echo no; exit 3\n");
    let said = place.ask(&["deploy"]);
    assert_eq!(said.code, 10, "{} {}", said.out, said.errors);
    let wanted = "v2: failed: web.1 ended 3 times: it ended with exit status: 3";
    assert!(said.out.contains(wanted), "{}", said.out);
    assert_eq!(place.settled(&[("web.1", "v1")]), before);
    assert_eq!(place.get("/").unwrap(), "web.1 v1");

    // The file itself is wrong.
    place.write("Procfile", "web\n");
    let said = place.ask(&["deploy", "--json"]);
    assert_eq!(said.code, 10, "{} {}", said.out, said.errors);
    let document: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(document["state"], "failed");
    assert!(document["reason"].as_str().unwrap().contains("line 1: write TYPE: COMMAND"), "{document}");

    // It answers its check with a redirect: that is said while it is waited for, and the release comes up once it is mended.
    place.write("Procfile", "web: exec python3 app.py\n");
    place.write("redirect", "");
    let mut deploy = Background::start(&mut place.ekiden(&["deploy"]));
    let wanted = "v4: starting: web.1: GET /up answered 301 to https://example.com/up";
    patiently("the reason", || deploy.out().contains(wanted).then_some(()));
    assert_eq!(place.get("/").unwrap(), "web.1 v1");
    std::fs::remove_file(place.file("redirect")).unwrap();
    let said = place.end_of(&mut deploy);
    assert_eq!(said.code, 0, "{} {}", said.out, said.errors);
    assert_eq!(place.get("/").unwrap(), "web.1 v4");
}

/// Statuses of so many requests.
fn statuses(place: &Place, count: usize) -> Vec<u16> {
    let mut client = Client::connect(place.address());
    client.patience(PATIENCE);
    (0..count).map(|_| client.get("a", "/").status).collect()
}

#[test]
fn a_guarded_release_that_brings_errors_goes_back_to_dynos_that_never_ended() {
    let place = Place::new("web: exec python3 app.py\n");
    let router = place.run(&["-m", "web=2"]);
    // No request before that: answers that there is nothing yet would be errors of before.
    patiently("the listener", || std::net::TcpStream::connect(place.address()).ok());
    patiently("control", || (place.ask(&["get", "apps/default/dynos"]).code == 0).then_some(()));
    let before = place.settled(&[("web.1", "v1"), ("web.2", "v1")]);
    place.serves();
    assert!(statuses(&place, 120).iter().all(|status| *status == 200));

    place.write(".env", "BROKEN=1\n");
    let mut deploy = Background::start(&mut place.ekiden(&["deploy", "--guard", "1h"]));
    let wanted = "v2: guarding: the new release serves on trial";
    patiently("the trial", || deploy.out().contains(wanted).then_some(()));
    // What is wrong in it is seen by those who ask.
    patiently("the verdict", || {
        statuses(&place, 10);
        deploy.ended()
    });
    let said = place.end_of(&mut deploy);
    assert_eq!(said.code, 10, "{} {}", said.out, said.errors);
    assert!(said.out.contains("v2: failed: rolled back: errors: "), "{}", said.out);
    assert!(statuses(&place, 20).iter().all(|status| *status == 200), "the old release serves");
    assert_eq!(place.settled(&[("web.1", "v1"), ("web.2", "v1")]), before, "the very same processes");
    router.wait_error("rollout ended, the release before it serves on: rolled back: errors");

    // A good one stays; and one of which nobody asks anything is not judged.
    place.write(".env", "");
    let said = place.ask(&["deploy", "--guard", "2s"]);
    assert_eq!(said.code, 0, "{} {}", said.out, said.errors);
    assert!(said.out.contains("v3: done: not judged: "), "{}", said.out);
    place.settled(&[("web.1", "v3"), ("web.2", "v3")]);
    let said = place.ask(&["deploy", "--guard", "7"]);
    assert_ne!(said.code, 0);
    assert!(said.errors.contains("is no guard time"), "{}", said.errors);
}

#[test]
fn a_guarded_release_takes_over_and_hands_back_without_a_lost_request() {
    let place = Place::new("web: exec python3 app.py\n");
    let _router = place.run(&["-m", "web=2"]);
    place.serves();
    place.settled(&[("web.1", "v1"), ("web.2", "v1")]);
    let kept = Load::start(place.address(), 4, KEPT, Refused::Fails);
    kept.serve_more(50);
    let mut deploy = Background::start(&mut place.ekiden(&["deploy", "--guard", "1h"]));
    patiently("the trial", || deploy.out().contains("v2: guarding: ").then_some(()));
    // It alone: the old one waits.
    let is_new = || place.get("/").is_some_and(|text| text.ends_with(" v2"));
    patiently("the new release", || (0..30).all(|_| is_new()).then_some(()));
    kept.serve_more(50);
    // A newer one comes first: the old one serves again while that starts, and then that does.
    let said = place.ask(&["deploy"]);
    assert_eq!(said.code, 0, "{} {}", said.out, said.errors);
    let said = place.end_of(&mut deploy);
    assert!(said.code == 10 && said.out.contains("v2: superseded: v3 came first"), "{}", said.out);
    kept.serve_more(50);
    place.settled(&[("web.1", "v3"), ("web.2", "v3")]);
    let tally = kept.stop();
    assert!(tally.failed.is_empty(), "{} served, and failed: {:?}", tally.served, tally.failed);
}

/// A request that the app holds until there is a file `go`; sent, and seen by the app. One that nobody may send again.
fn waiting(place: &Place) -> JoinHandle<Result<Response, Lost>> {
    let address = place.address();
    let waiting = thread::spawn(move || {
        let mut client = Client::connect(address);
        client.patience(PATIENCE);
        client.send("POST /wait HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
        client.read(false)
    });
    patiently("the request", || place.read("waiting"));
    waiting
}

#[test]
fn a_request_that_takes_long_is_finished_by_the_old_release() {
    let place = Place::new("web: exec python3 app.py\n");
    let _router = place.run(&["-m", "web=1"]);
    place.serves();
    let waiting = waiting(&place);
    let mut deploy = Background::start(&mut place.ekiden(&["deploy"]));
    patiently("the drain", || deploy.out().contains("v2: draining").then_some(()));
    // The new one serves, and the old one is still there for its request.
    patiently("the new release", || place.get("/").filter(|text| text == "web.1 v2"));
    let states: Vec<String> =
        place.dynos().into_iter().map(|dyno| format!("{} {}", dyno.release, dyno.state)).collect();
    assert_eq!(states, ["v1 draining", "v2 ready"]);
    assert!(!waiting.is_finished());
    place.write("go", "");
    assert_eq!(waiting.join().unwrap().unwrap().text(), "web.1 v1");
    let said = place.end_of(&mut deploy);
    assert_eq!(said.code, 0, "{} {}", said.out, said.errors);
    place.settled(&[("web.1", "v2")]);
}

#[test]
fn one_that_drains_does_not_stand_in_the_way_of_its_successor() {
    let place = Place::new("web: exec python3 app.py\n");
    let _router = place.run(&["-m", "web=1"]);
    place.serves();
    let waiting = waiting(&place);
    place.ask(&["scale", "web=0"]);
    let state = |wanted: &[&str]| {
        let states: Vec<String> = place.dynos().into_iter().map(|dyno| dyno.state).collect();
        (states == wanted).then_some(())
    };
    patiently("the drain", || state(&["draining"]));
    place.ask(&["scale", "web=1"]);
    // Beside the one that drains, which ends only when the test says so.
    patiently("an answer", || place.get("/").filter(|text| text == "web.1 v1"));
    patiently("both", || state(&["draining", "ready"]));
    assert!(!waiting.is_finished());
    place.write("go", "");
    assert_eq!(waiting.join().unwrap().unwrap().text(), "web.1 v1");
    place.settled(&[("web.1", "v1")]);
    place.serves();
}

#[test]
fn a_release_that_failed_is_not_what_the_next_process_begins_with() {
    let place = Place::new("web: exec python3 app.py\n");
    let mut first = place.run(&[]);
    place.serves();
    place.write("Procfile", "web: exit 3\n");
    let said = place.ask(&["deploy"]);
    assert_eq!(said.code, 10, "{} {}", said.out, said.errors);
    first.signal(libc::SIGTERM);
    assert_eq!(place.end_of(&mut first).code, 0);

    place.write("Procfile", "web: exec python3 app.py\n");
    let second = place.run(&[]);
    assert_eq!(place.serves(), "web.1 v1");
    place.settled(&[("web.1", "v1")]);
    assert!(second.errors().contains("it was refused and is not begun again"), "{}", second.errors());
    let said = place.ask(&["get", "apps/default/releases/2"]);
    assert!(said.out.contains("web.1 ended 3 times"), "{}", said.out);
    let said = place.ask(&["deploy"]);
    assert_eq!(said.code, 0, "{} {}", said.out, said.errors);
    assert!(said.out.contains("v3: done"), "{}", said.out);
}

#[test]
fn one_that_takes_too_long_is_reported() {
    // With a configuration beside it, whose checks the router makes itself.
    let place = Place::new("web: exec python3 app.py\n");
    let (web, telemetry) = (place.port, free_port());
    place.write(
        "ekiden.toml",
        &format!(
            "drain_timeout = \"1s\"\n[telemetry]\naddress = \"127.0.0.1:{telemetry}\"\n[listener.web]\naddress = \"127.0.0.1:{web}\"\n\
             [access_log]\nto = \"off\"\n[cluster.web]\nendpoints = []\nprobe = {{ path = \"/up\", interval = \"1s\" }}\n\
             [[route]]\ncluster = \"web\"\n"
        ),
    );
    let _router = Background::start(&mut place.ekiden(&["run", "Procfile"]));
    place.serves();
    let waiting = waiting(&place);
    let said = place.ask(&["deploy"]);
    assert_eq!(said.code, 0, "{} {}", said.out, said.errors);
    assert!(said.out.contains("v2: late: web.1 of v1: 1 in flight after 1 s"), "{}", said.out);
    let lost = waiting.join().unwrap();
    assert!(lost.as_ref().is_ok_and(|answer| answer.status == 502), "{lost:?}");
    assert_eq!(place.get("/").unwrap(), "web.1 v2");
    let mut client = Client::connect(([127, 0, 0, 1], telemetry).into());
    let metrics = client.get("localhost", "/metrics").text();
    for line in [
        "ekiden_dynos{type=\"web\",state=\"ready\"} 1",
        "ekiden_rollouts_total{result=\"done\"} 1",
        "ekiden_rollouts_total{result=\"failed\"} 0",
        "ekiden_dyno_late_drains_total 1",
        "ekiden_dyno_restarts_total 0",
        "ekiden_dyno_lines_dropped_total 0",
    ] {
        assert!(metrics.lines().any(|one| one == line), "no {line} in {metrics}");
    }
}
