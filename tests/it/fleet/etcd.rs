//! Several control processes on one etcd: one leads, all know; members of etcd die, stop and forget; the leader dies, or is stopped
//! and goes on. Traffic does not care.

use std::fs;
use std::process::Command;
use std::thread;

use data_encoding::BASE64;
use ekiden_tests::{
    Authority, Background, Client, Etcd, Load, MIXED, Refused, Response, Stamped, binary, free_port, in_time,
};
use serde_json::{Value, json};

use super::{Cable, ControlHome, Node, RouterHome, app, ask, local};

const HOST: &str = "a";
/// A lease that is short for tests of its end.
const SHORT: &str = "lease = \"4s\"\n";

/// One that does not end, on however slow a machine: who leads hands over when it ends.
const LONG: &str = "lease = \"60s\"\n";

/// What a control says of who leads.
fn election(node: &Node) -> Value {
    node.get("/v1/status")["election"].clone()
}

fn leads(node: &Node) -> bool {
    election(node)["leads"] == true
}

/// Waits until one of these leads; which one.
fn leader<'n>(nodes: &[&'n Node]) -> &'n Node {
    in_time("a leader", || nodes.iter().copied().find(|node| leads(node)))
}

/// A control of this etcd, with an app `shop` of one endpoint.
fn home(etcd: &str, name: &str, endpoint: std::net::SocketAddr) -> ControlHome {
    let home = ControlHome::new().fleet(&format!("{etcd}name = \"{name}\"\n"));
    home.app("shop", &app(HOST, endpoint, ""));
    home
}

fn endpoint_path(id: &str) -> String {
    format!("/v1/apps/shop/clusters/web/endpoints/{id}")
}

fn body(address: std::net::SocketAddr) -> String {
    json!({ "address": address.to_string() }).to_string()
}

/// Puts an endpoint through whichever process leads then.
fn put(nodes: &[&Node], id: &str, address: std::net::SocketAddr) {
    in_time("a change", || {
        let answers = nodes.iter().map(|node| node.ask("PUT", &endpoint_path(id), &body(address)));
        answers.into_iter().find(|answer| matches!(answer.status, 200..=202))
    });
}

fn has(node: &Node, id: &str) -> bool {
    node.ask("GET", &endpoint_path(id), "").status == 200
}

fn wait_has(node: &Node, id: &str) {
    in_time(&format!("the endpoint {id}"), || has(node, id).then_some(()));
}

/// A refusal that is a problem document; its code.
fn problem(answer: &Response) -> (u16, Value) {
    let document = answer.json();
    assert!(document["type"].as_str().unwrap_or_default().starts_with("urn:ekiden:problem:"), "{document}");
    (answer.status, document)
}

/// Waits until no thread of a process runs any more: the signal is only on its way when it was sent.
fn wait_stopped(id: u32) {
    in_time("its threads to stop", || {
        let threads = fs::read_dir(format!("/proc/{id}/task")).ok()?;
        let stopped = |thread: fs::DirEntry| {
            let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
        };
        threads.flatten().all(stopped).then_some(())
    });
}

/// Until the router is linked to a control of a term higher than this; its term.
fn linked_above(router: &Node, term: f64) -> f64 {
    in_time("the link", || {
        let now = router.metric("ekiden_link_term");
        (router.metric("ekiden_link_connected") == 1.0 && now > term).then_some(now)
    })
}

#[test]
fn two_controls_of_which_one_leads_and_the_other_takes_over() {
    let (old, new) = (Stamped::start("served"), Stamped::start("served"));
    let etcd = Etcd::start(3);
    let homes = ["one", "two"].map(|name| home(&etcd.table(SHORT), name, old.address));
    let [one, two] = [homes[0].start(), homes[1].start()];
    let first = leader(&[&one, &two]).api;
    let (first, second) = if first == one.api { (one, two) } else { (two, one) };
    let name = if first.api == homes[0].api { "one" } else { "two" };

    // What one is told both know; only one is told.
    put(&[&first], "api-1", new.address);
    wait_has(&second, "api-1");
    let refused = in_time("who leads", || {
        let answer = second.ask("PUT", &endpoint_path("api-2"), &body(new.address));
        (answer.json()["leader"]["name"] == name).then_some(answer)
    });
    let (status, document) = problem(&refused);
    assert_eq!((status, document["code"].as_str()), (503, Some("not_leading")));
    assert_eq!(document["leader"]["api"], format!("http://{}", first.api));
    assert!(!has(&first, "api-2") && !has(&second, "api-2"), "nothing was changed");
    assert_eq!(second.metric("ekiden_control_leads"), 0.0);

    // A router finds the one that leads by itself.
    let edge = RouterHome::new("edge");
    let urls = if first.api == homes[0].api {
        [homes[1].url(), homes[0].url()]
    } else {
        [homes[0].url(), homes[1].url()]
    };
    let router = edge.spawn(&[&urls[0], &urls[1]]).wait_ready();
    let term = linked_above(&router, 0.0);
    assert_eq!(first.metric("ekiden_control_term"), term);
    let load = Load::start(edge.listener, 2, MIXED, Refused::Fails);
    load.serve_more(100);

    // It dies; the other one leads, of a higher term, and knows everything.
    first.process.signal(libc::SIGKILL);
    drop(first);
    in_time("the other one", || leads(&second).then_some(()));
    let after = linked_above(&router, term);
    assert!(after > term);
    put(&[&second], "api-3", new.address);
    in_time("both endpoints", || {
        let table = router.get("/v1/table");
        let apps = table["apps"].as_array()?;
        let shop = apps.iter().find(|app| app["name"] == "shop")?;
        (shop["clusters"][0]["endpoints"].as_array()?.len() == 3).then_some(())
    });
    load.serve_more(100);

    // And back again: the one that returns follows, and knows what was told meanwhile.
    let back = if name == "one" { homes[0].start() } else { homes[1].start() };
    wait_has(&back, "api-3");
    assert!(!leads(&back) && leads(&second));
    // One that ends gives its lease back: nobody waits for its end.
    second.process.signal(libc::SIGTERM);
    let mut second = second;
    assert!(second.process.wait().success());
    in_time("the first one", || leads(&back).then_some(()));
    linked_above(&router, after);
    let tally = load.stop();
    assert_eq!(tally.failed, Vec::<String>::new(), "of {}", tally.served);
}

#[test]
fn a_leader_that_was_stopped_and_goes_on_changes_nothing() {
    let (old, new) = (Stamped::start("old"), Stamped::start("new"));
    let etcd = Etcd::start(1);
    let homes = ["one", "two"].map(|name| home(&etcd.table(SHORT), name, old.address));
    let [one, two] = [homes[0].start(), homes[1].start()];
    let first = leader(&[&one, &two]).api;
    let (first, second) = if first == one.api { (one, two) } else { (two, one) };
    let edge = RouterHome::new("edge");
    let router = edge.spawn(&[&homes[0].url(), &homes[1].url()]).wait_ready();
    let term = linked_above(&router, 0.0);
    put(&[&first], "before", old.address);
    wait_has(&second, "before");

    first.process.signal(libc::SIGSTOP);
    wait_stopped(first.process.id());
    // It is asked while it is stopped, and reads that when it goes on.
    let stopped = first.api;
    let late = thread::spawn(move || {
        let text = body(local(1));
        let mut client = Client::connect(stopped);
        client.send(format!(
            "PUT {} HTTP/1.1\r\nHost: {stopped}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{text}",
            endpoint_path("late"),
            text.len()
        ));
        client
    });
    let mut late = late.join().unwrap();
    in_time("the other one", || leads(&second).then_some(()));
    let after = linked_above(&router, term);
    put(&[&second], "after", new.address);
    first.process.signal(libc::SIGCONT);
    in_time("to follow", || (!leads(&first)).then_some(()));
    wait_has(&first, "after");
    // Refused, or cut off while it was stopped.
    if let Ok(answer) = late.read(false) {
        assert!(matches!(answer.status, 503 | 408), "{answer:?}");
    }
    for node in [&first, &second] {
        assert!(!has(node, "late"));
        assert!(has(node, "before") && has(node, "after"));
    }
    assert!(leads(&second), "its term goes on");
    assert_eq!(router.metric("ekiden_link_term"), after);
    assert_eq!(second.metric("ekiden_control_term"), after);
}

/// `ekiden run` on this etcd: both planes in one process.
struct Both {
    dir: tempfile::TempDir,
    listener: std::net::SocketAddr,
    node: Node,
}

impl Both {
    fn start(etcd: &Etcd, name: &str, apps: &str) -> Self {
        let dir = tempfile::TempDir::new().unwrap();
        let (listener, api, telemetry) = (local(free_port()), local(free_port()), local(free_port()));
        let file = dir.path().join("ekiden.toml");
        let text = format!(
            "drain_grace = \"0s\"\n[access_log]\nto = \"off\"\n[listener.edge]\naddress = \"{listener}\"\n{apps}{}",
            etcd.table(&format!("name = \"{name}\"\n{LONG}"))
        );
        fs::write(&file, text).unwrap();
        let mut command = Command::new(binary());
        command.arg("run").arg(&file).args(["--workers", "1", "--control", &api.to_string(), "--telemetry"]);
        command.arg(telemetry.to_string()).arg("--run-dir").arg(dir.path().join("run"));
        let node = Node { process: Background::start(&mut command), api, telemetry }.wait_ready();
        Self { dir, listener, node }
    }

    /// Who answers: the texts of so many answers, or their statuses.
    fn who(&self) -> std::collections::BTreeSet<String> {
        let mut client = Client::connect(self.listener);
        let answers = (0..40).map(|_| {
            let answer = client.get(HOST, "/");
            if answer.status == 200 { answer.text() } else { answer.status.to_string() }
        });
        answers.collect()
    }

    fn wait_who(&self, wanted: &[&str]) {
        in_time(&format!("answers of {wanted:?}"), || {
            self.who().iter().map(String::as_str).eq(wanted.iter().copied()).then_some(())
        });
    }

    fn store_reads(&self) -> f64 {
        self.node.metric("ekiden_control_store_reads_total")
    }
}

#[test]
fn who_follows_takes_in_what_the_leader_is_told_one_by_one_and_holds_what_it_holds() {
    let origins = ["a", "b", "c", "d"].map(Stamped::start);
    let etcd = Etcd::start(1);
    let apps = format!("[cluster.web]\nendpoints = []\n[[route]]\nhost = \"{HOST}\"\ncluster = \"web\"\n");
    let (one, two) = (Both::start(&etcd, "one", &apps), Both::start(&etcd, "two", &apps));
    let first = leader(&[&one.node, &two.node]).api;
    let (first, second) = if first == one.node.api { (one, two) } else { (two, one) };
    let placements = "/v1/apps/default/clusters/web/placements";
    let push = |node: &Node, count: usize| {
        let all = origins.iter().zip(["a", "b", "c", "d"]).take(count);
        let all = all.map(|(origin, id)| json!({ "id": id, "address": origin.address.to_string() }));
        let body = json!({ "placements": all.collect::<Vec<_>>() }).to_string();
        let answer = node.ask("PUT", placements, &body);
        assert!(matches!(answer.status, 200 | 202), "{answer:?}");
        answer.json()
    };
    // The first of them may still be on its way when the process reads all for the first time.
    push(&first.node, 1);
    second.wait_who(&["a"]);
    let reads = second.store_reads();
    push(&first.node, 4);
    second.wait_who(&["a", "b", "c", "d"]);
    for (path, body) in [("maintenance", "{}"), ("hold", "{\"wait_ms\": 1}")] {
        let path = format!("/v1/apps/default/{path}");
        assert!(matches!(first.node.ask("PUT", &path, body).status, 200 | 202));
        second.wait_who(&["503"]);
        assert!(matches!(first.node.ask("DELETE", &path, "").status, 200 | 202));
        second.wait_who(&["a", "b", "c", "d"]);
    }
    assert_eq!(first.node.ask("POST", "/v1/apps/default/releases", "{}").status, 201);
    // What the leader holds is held there too.
    assert_eq!(push(&first.node, 1)["held"], json!(["b", "c", "d"]));
    let source = |both: &Both| both.node.get("/v1/sources")["sources"][0].clone();
    in_time("the hold", || (source(&second)["state"] == "held").then_some(()));
    assert_eq!(source(&second)["held"], source(&first)["held"]);
    assert_eq!(source(&second)["held_until_unix_ms"], source(&first)["held_until_unix_ms"]);
    second.wait_who(&["a", "b", "c", "d"]);
    assert_eq!(second.store_reads(), reads, "everything was read for it");

    // It takes over, and goes on with it; so does one that starts then.
    let mut first = first;
    first.node.process.signal(libc::SIGTERM);
    assert!(first.node.process.wait().success());
    in_time("the other one", || leads(&second.node).then_some(()));
    assert_eq!(source(&second)["held"], json!(["b", "c", "d"]));
    second.wait_who(&["a", "b", "c", "d"]);
    let third = Both::start(&etcd, "three", &apps);
    third.wait_who(&["a", "b", "c", "d"]);
    let confirm = json!({ "source": "push:default/web" }).to_string();
    let answer = second.node.ask("POST", "/v1/sources/confirm", &confirm);
    assert!(matches!(answer.status, 200 | 202), "{answer:?}");
    second.wait_who(&["a"]);
    third.wait_who(&["a"]);
    // What cannot be read takes nothing away, here `{"placements":7}` at `/ekiden/objects/placements/default/web`.
    let key = "L2VraWRlbi9vYmplY3RzL3BsYWNlbWVudHMvZGVmYXVsdC93ZWI=";
    etcd.ask(0, "/v3/kv/put", &json!({ "key": key, "value": "eyJwbGFjZW1lbnRzIjo3fQ==" })).unwrap();
    third.node.process.wait_error("placements of the store cannot be read");
    third.wait_who(&["a"]);
    drop(first.dir);
}

#[test]
fn in_a_new_term_a_change_is_pending_until_every_router_can_be_back() {
    let (old, new) = (Stamped::start("old"), Stamped::start("new"));
    let etcd = Etcd::start(1);
    let homes = ["one", "two"].map(|name| home(&etcd.table(LONG), name, old.address));
    let [one, two] = [homes[0].start(), homes[1].start()];
    let first = leader(&[&one, &two]).api;
    let (mut first, second) = if first == one.api { (one, two) } else { (two, one) };
    // A router that knows only the one that dies: it serves on, and the next leader has never heard of it.
    let url = if first.api == homes[0].api { homes[0].url() } else { homes[1].url() };
    let edge = RouterHome::new("edge");
    let _router = edge.start(&url);
    assert_eq!(edge.says(HOST), "old");
    // Before the first term of all there was nobody.
    in_time("a change", || {
        (first.ask("PUT", &endpoint_path("before"), &body(old.address)).status == 200).then_some(())
    });
    first.process.signal(libc::SIGTERM);
    assert!(first.process.wait().success());
    in_time("the other one", || leads(&second).then_some(()));
    let answer = second.ask("PUT", &endpoint_path("after"), &body(new.address));
    assert_eq!((answer.status, answer.json()["pending"].clone()), (202, json!(true)), "{answer:?}");
    assert!(!(0..20).any(|_| edge.says(HOST) == "new"), "who was not told has it not");
    // Not for ever: who is silent for so long counts as drained.
    in_time("the end of the wait", || {
        let answer = second.ask("PUT", &endpoint_path("late"), &body(new.address));
        (answer.status == 200).then_some(())
    });
}

#[test]
fn members_of_etcd_die_and_stop_and_changes_go_on() {
    let origin = Stamped::start("served");
    let mut etcd = Etcd::start(3);
    let home = home(&etcd.table(""), "one", origin.address);
    let control = home.start();
    leader(&[&control]);
    put(&[&control], "a", origin.address);
    let gone = etcd.leader();
    etcd.kill(gone);
    put(&[&control], "b", origin.address);
    etcd.begin(gone);
    let stopped = etcd.leader();
    // It answers nobody, and its connections stay open.
    etcd.signal(stopped, libc::SIGSTOP);
    put(&[&control], "c", origin.address);
    etcd.signal(stopped, libc::SIGCONT);
    put(&[&control], "d", origin.address);
    for id in ["a", "b", "c", "d"] {
        wait_has(&control, id);
    }
}

#[test]
fn without_a_majority_nothing_changes_and_everything_serves() {
    let origin = Stamped::start("served");
    let etcd = Etcd::start(3);
    let home = home(&etcd.table(SHORT), "one", origin.address);
    let control = home.start();
    leader(&[&control]);
    let edge = RouterHome::new("edge");
    let router = edge.start(&home.url());
    let term = linked_above(&router, 0.0);
    put(&[&control], "before", origin.address);
    let load = Load::start(edge.listener, 2, MIXED, Refused::Fails);
    load.serve_more(100);
    etcd.signal(0, libc::SIGSTOP);
    etcd.signal(1, libc::SIGSTOP);
    // The first change after that cannot know that there is no majority any more.
    let answer = in_time("a refusal", || {
        let answer = control.ask("PUT", &endpoint_path("during"), &body(origin.address));
        (answer.status == 503).then_some(answer)
    });
    let code = problem(&answer).1["code"].clone();
    assert!(code == "not_leading" || code == "storage_unknown", "{code}");
    in_time("to step down", || (!leads(&control)).then_some(()));
    let answer = control.ask("PUT", &endpoint_path("during-2"), &body(origin.address));
    let (status, document) = problem(&answer);
    assert_eq!((status, document["code"].as_str()), (503, Some("not_leading")), "{document}");
    assert!(document["detail"].as_str().unwrap().contains("etcd"), "it says why: {document}");
    assert!(has(&control, "before"), "it is read as ever");
    load.serve_more(100);
    etcd.signal(0, libc::SIGCONT);
    etcd.signal(1, libc::SIGCONT);
    // Nobody does anything.
    in_time("to lead", || leads(&control).then_some(()));
    linked_above(&router, term);
    put(&[&control], "after", origin.address);
    assert!(!has(&control, "during-2"));
    load.serve_more(100);
    let tally = load.stop();
    assert_eq!(tally.failed, Vec::<String>::new(), "of {}", tally.served);
}

/// Two controls of one etcd whose app has three endpoints there, as keys.
struct Discovering {
    etcd: Etcd,
    homes: [ControlHome; 2],
}

impl Discovering {
    const SOURCE: &str = "etcd:main/services/web/";

    fn new(lease: &str) -> Self {
        let etcd = Etcd::start(1);
        let homes = ["one", "two"].map(|name| {
            let discovery = format!(
                "[discovery.main]\nendpoints = [\"http://{}\"]\napps = [\"shop\"]\n",
                etcd.address(0)
            );
            let home =
                ControlHome::new().fleet(&format!("{}name = \"{name}\"\n{discovery}", etcd.table(lease)));
            let cluster = format!("[cluster.web]\nendpoints = [\"{}\"]\n", Self::SOURCE);
            home.app("shop", &format!("{cluster}[[route]]\nhost = \"{HOST}\"\ncluster = \"web\"\n"));
            home
        });
        let all = Self { etcd, homes };
        all.put_all();
        all
    }

    fn ask(&self, path: &str, body: &Value) {
        in_time("an answer of etcd", || self.etcd.ask(0, path, body));
    }

    fn put_all(&self) {
        for name in ["a", "b", "c"] {
            let key = BASE64.encode(format!("/services/web/{name}").as_bytes());
            self.ask("/v3/kv/put", &json!({ "key": key, "value": BASE64.encode(b"127.0.0.1:9") }));
        }
    }

    fn delete_all(&self) {
        let [from, to] = ["/services/web/", "/services/web0"].map(|key| BASE64.encode(key.as_bytes()));
        self.ask("/v3/kv/deleterange", &json!({ "key": from, "range_end": to }));
    }

    fn wait(nodes: [&Node; 2], state: &str, endpoints: u64) {
        for node in nodes {
            in_time(&format!("{endpoints} endpoints, {state}"), || {
                let all = node.get("/v1/sources");
                let source =
                    all["sources"].as_array()?.iter().find(|source| source["name"] == Self::SOURCE)?;
                (source["state"] == state && source["endpoints"] == endpoints).then_some(())
            });
        }
    }

    fn confirm(node: &Node) -> Response {
        node.ask("POST", "/v1/sources/confirm", &json!({ "source": Self::SOURCE }).to_string())
    }
}

#[test]
fn what_a_person_confirms_goes_wherever_it_is_held() {
    let all = Discovering::new(LONG);
    let [one, two] = [all.homes[0].start(), all.homes[1].start()];
    let first = leader(&[&one, &two]).api;
    let (first, second) = if first == one.api { (one, two) } else { (two, one) };
    let wait = |state: &str, endpoints: u64| Discovering::wait([&first, &second], state, endpoints);
    wait("live", 3);
    all.delete_all();
    wait("held", 3);
    let (status, document) = problem(&in_time("who leads", || {
        Some(Discovering::confirm(&second)).filter(|answer| answer.json()["leader"]["api"].is_string())
    }));
    assert_eq!((status, document["code"].as_str()), (503, Some("not_leading")), "{document}");
    assert_eq!(document["leader"]["api"], format!("http://{}", first.api));
    wait("held", 3);
    let confirmed = Discovering::confirm(&first);
    assert!(matches!(confirmed.status, 200 | 202), "{confirmed:?}");
    assert_eq!(confirmed.json()["confirmed"], json!(["a", "b", "c"]));
    wait("live", 0);
    // It was said once.
    all.put_all();
    wait("live", 3);
    all.delete_all();
    wait("held", 3);
}

#[test]
fn what_was_confirmed_to_a_leader_it_holds_once_it_follows_when_it_came_back_and_goes_again() {
    let all = Discovering::new(SHORT);
    let nodes = [all.homes[0].start(), all.homes[1].start()];
    let wait = |state: &str, endpoints: u64| Discovering::wait([&nodes[0], &nodes[1]], state, endpoints);
    wait("live", 3);
    all.delete_all();
    wait("held", 3);
    // Whichever leads.
    let at = in_time("a confirmation", || {
        (0..2).find(|at| matches!(Discovering::confirm(&nodes[*at]).status, 200 | 202))
    });
    let (first, second) = (&nodes[at], &nodes[1 - at]);
    wait("live", 0);
    all.put_all();
    wait("live", 3);
    first.process.signal(libc::SIGSTOP);
    wait_stopped(first.process.id());
    in_time("the other one", || leads(second).then_some(()));
    first.process.signal(libc::SIGCONT);
    in_time("to follow", || (!leads(first)).then_some(()));
    all.delete_all();
    wait("held", 3);
}

#[test]
fn what_was_compacted_away_is_read_anew() {
    let origin = Stamped::start("served");
    let etcd = Etcd::start(1);
    let home_1 = home(&etcd.table(""), "one", origin.address);
    let one = home_1.start();
    leader(&[&one]);
    // The other one's way to etcd can be cut.
    let cable = Cable::to(etcd.address(0));
    let home_2 = home(&format!("[etcd]\nendpoints = [\"{}\"]\n", cable.url()), "two", origin.address);
    let two = home_2.start();
    put(&[&one], "before", origin.address);
    wait_has(&two, "before");
    cable.cut();
    put(&[&one], "during", origin.address);
    assert_eq!(one.ask("DELETE", &endpoint_path("before"), "").status, 200);
    etcd.compact(0);
    cable.mend();
    wait_has(&two, "during");
    assert!(!has(&two, "before"));
    two.process.wait_error("were compacted away");
    // And it follows on from there.
    put(&[&one], "after", origin.address);
    wait_has(&two, "after");
}

#[test]
fn as_a_user_with_a_password() {
    let origin = Stamped::start("served");
    let etcd = Etcd::start(1);
    for (path, body) in [
        ("/v3/auth/user/add", json!({ "name": "root", "password": "secret" })),
        ("/v3/auth/role/add", json!({ "name": "root" })),
        ("/v3/auth/user/grant", json!({ "user": "root", "role": "root" })),
        ("/v3/auth/enable", json!({})),
    ] {
        etcd.ask(0, path, &body).unwrap_or_else(|| panic!("{path}"));
    }
    assert!(etcd.ask(0, "/v3/kv/range", &json!({ "key": "YQ==" })).is_none(), "nobody is let in");
    let home = home(&etcd.table("user = \"root\"\npassword_file = \"password\""), "one", origin.address);
    super::write(home.dir.path(), "password", "wrong\n");
    let control = home.start();
    control.process.wait_error("the user root is not let in");
    assert!(!control.process.errors().contains("wrong"), "a password is in no log");
    let refused = control.ask("PUT", &endpoint_path("a"), &body(origin.address));
    assert_eq!(problem(&refused).0, 503);
    // A file that is mended needs no restart.
    super::write(home.dir.path(), "password", "secret\n");
    leader(&[&control]);
    put(&[&control], "a", origin.address);
}

#[test]
fn over_tls_with_the_largest_values() {
    let origin = Stamped::start("served");
    let authority = Authority::new();
    let mut etcd = Etcd::start(1);
    let keys = "name = \"one\"\nca = \"etcd\"\nidentity = \"etcd\"\n[ca.etcd]\nfile = \"ca.pem\"\n\
                [identity.etcd]\ncert = \"etcd.pem\"\nkey = \"etcd.key\"\n";
    let dir = tempfile::TempDir::new().unwrap();
    authority.make(&["localhost", "127.0.0.1"]).write(dir.path(), "etcd");
    super::write(dir.path(), "ca.pem", &authority.pem);
    etcd.kill(0);
    etcd.secure(dir.path());
    etcd.begin(0);
    let home = ControlHome::new().fleet(&etcd.table(keys));
    for name in ["ca.pem", "etcd.pem", "etcd.key"] {
        fs::copy(dir.path().join(name), home.dir.path().join(name)).unwrap();
    }
    let control = home.start();
    leader(&[&control]);
    let spec = |spec: Value| json!({ "spec": spec }).to_string();
    let web = |endpoints: Value| json!({ "web": { "endpoints": endpoints } });
    let small = spec(json!({ "cluster": web(json!([origin.address.to_string()])) }));
    let taken = control.ask("PUT", "/v1/apps/big", &small);
    assert!(matches!(taken.status, 200..=202), "{}", taken.text());
    let names: Vec<String> = (0..55_000).map(|at| format!("127.1.{}.{}:80", at / 250, at % 250)).collect();
    let large = spec(json!({ "cluster": web(json!(names)) }));
    let refused = control.ask("PUT", "/v1/apps/big", &large);
    let (status, document) = problem(&refused);
    assert_eq!((status, document["code"].as_str()), (413, Some("too_large")), "{document}");
    assert!(document["detail"].as_str().unwrap().contains("etcd"), "{document}");
    // Many small things at once are one transaction all the same.
    let routes: Vec<Value> =
        (0..1_000).map(|at| json!({ "host": format!("h{at}.example"), "cluster": "web" })).collect();
    let many = spec(json!({ "cluster": web(json!([origin.address.to_string()])), "route": routes }));
    let taken = control.ask("PUT", "/v1/apps/many", &many);
    assert!(matches!(taken.status, 200..=202), "{}", taken.text());
    let hosts = control.get("/v1/hosts?limit=1000");
    assert!(hosts["hosts"].as_array().unwrap().len() >= 1_000);
}

#[test]
fn a_process_with_both_planes_shares_it_and_starts_without_it() {
    let origin = Stamped::start("served");
    let mut etcd = Etcd::start(1);
    let home = home(&etcd.table(""), "one", origin.address);
    let control = home.start();
    leader(&[&control]);
    // `ekiden run` beside it: its own data path serves what the leader is told.
    let dir = tempfile::TempDir::new().unwrap();
    let (listener, api, telemetry) = (local(free_port()), local(free_port()), local(free_port()));
    let file = dir.path().join("ekiden.toml");
    let text = format!(
        "drain_grace = \"0s\"\n[access_log]\nto = \"off\"\n[listener.edge]\naddress = \"{listener}\"\n{}",
        etcd.table("name = \"two\"")
    );
    fs::write(&file, text).unwrap();
    let start = || {
        let mut command = Command::new(binary());
        command.arg("run").arg(&file).args(["--workers", "1", "--control", &api.to_string(), "--telemetry"]);
        command.arg(telemetry.to_string()).arg("--run-dir").arg(dir.path().join("run"));
        Node { process: Background::start(&mut command), api, telemetry }
    };
    let says = |host: &str| {
        let answer = Client::connect(listener).get(host, "/");
        if answer.status == 200 { answer.text() } else { answer.status.to_string() }
    };
    let run = start().wait_ready();
    let spec = json!({ "cluster": { "web": { "endpoints": [origin.address.to_string()] } }, "route": [{ "host": "b", "cluster": "web" }] });
    let taken = control.ask("PUT", "/v1/apps/blog", &json!({ "spec": spec }).to_string());
    assert!(matches!(taken.status, 200..=202), "{}", taken.text());
    in_time("the app", || (says("b") == "served").then_some(()));
    assert!(!leads(&run));
    let answer = ask(api, "DELETE", "/v1/apps/blog", "");
    assert_eq!(problem(&answer).0, 503);
    // It keeps a copy, for a start while etcd is away.
    let copy = dir.path().join("run/etcd-copy");
    in_time("the copy", || {
        fs::read(&copy).ok().filter(|text| String::from_utf8_lossy(text).contains("apps/blog"))
    });
    drop(run);
    etcd.kill(0);
    let run = start();
    run.process.wait_error("what it had when this process heard of it last is served");
    let run = run.wait_ready();
    in_time("the app again", || {
        std::net::TcpStream::connect(listener).ok()?;
        (says("b") == "served").then_some(())
    });
    assert_eq!(problem(&ask(api, "DELETE", "/v1/apps/blog", "")).0, 503);
    // etcd is back: whoever leads then may delete the app, and both hear of it.
    etcd.begin(0);
    in_time("the end of the app", || {
        let ended = [&control, &run].map(|node| node.ask("DELETE", "/v1/apps/blog", "").status);
        ended.into_iter().any(|status| matches!(status, 200..=204)).then_some(())
    });
    in_time("nothing of it", || (says("b") == "404").then_some(()));
    in_time("nothing of it there", || (control.ask("GET", "/v1/apps/blog", "").status == 404).then_some(()));
}
