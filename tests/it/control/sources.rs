//! Sources of placements: what another system pushes, services of a real name server (dnsmasq), what is held, what freezes.

use std::process::{Child, Command, Stdio};

use ekiden_tests::{Ekiden, Run, Served, Setup, Stamped, binary, finished, free_port, until, until_true};
use serde_json::{Value, json};

use super::{EVEN, problem, who};

const PUSHED: &str = "/v1/apps/default/clusters/web/placements";
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// A cluster without endpoints of its own.
fn empty() -> Setup {
    let text = format!("[cluster.web]\n{EVEN}\nendpoints = []\n[[route]]\ncluster = \"web\"\n");
    Setup::new(text).top("drain_grace = \"0s\"")
}

fn origins() -> Vec<Stamped> {
    NAMES.iter().map(|name| Stamped::start(name)).collect()
}

fn whole(origins: &[Stamped], ttl_ms: Option<u64>) -> String {
    let all = origins.iter().zip(NAMES);
    let all: Vec<Value> =
        all.map(|(origin, id)| json!({ "id": id, "address": origin.address.to_string() })).collect();
    json!({ "ttl_ms": ttl_ms, "placements": all }).to_string()
}

/// Whether a change is recorded; the workers may be late on a slow machine.
fn is_taken(answer: &ekiden_tests::Response) -> bool {
    matches!(answer.status, 200 | 202)
}

pub(super) fn source(router: &Ekiden, name: &str) -> Value {
    let all = router.control("GET", "/v1/sources", "").json();
    let found = all["sources"].as_array().unwrap().iter().find(|one| one["name"] == name);
    found.cloned().unwrap_or(Value::Null)
}

pub(super) fn ekiden(router: &Ekiden, arguments: &[&str]) -> (Option<i32>, String) {
    let control = router.control.to_string();
    let output = finished(Command::new(binary()).args(arguments).args(["--control", &control]));
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn what_is_pushed_serves_and_what_disappears_at_once_is_held_until_it_is_confirmed() {
    let origins = origins();
    let router = Ekiden::start(empty());
    let answer = router.control("PUT", PUSHED, &whole(&origins, None));
    assert_eq!((answer.status, answer.json()["changed"].as_bool()), (200, Some(true)), "{answer:?}");
    assert_eq!(who(&router, "/", 60), NAMES);
    let again = router.control("PUT", PUSHED, &whole(&origins, None)).json();
    assert_eq!(again["changed"], false, "a renewal is written: {again}");

    // Three of four are gone at once.
    let lost = router.control("PUT", PUSHED, &whole(&origins[..1], None)).json();
    assert_eq!(lost["held"], json!(["b", "c", "d"]), "{lost}");
    assert_eq!(who(&router, "/", 60), NAMES, "what is held does not serve");
    assert_eq!(source(&router, "push:default/web")["state"], "held");
    let labels = ["source=\"push:default/web\""];
    assert_eq!(router.metric("ekiden_source_held_endpoints", &labels) as u64, 3);
    router.wait_error("takes away too many endpoints at once");
    let (_, listed) = ekiden(&router, &["get", "sources"]);
    assert!(listed.contains("push:default/web") && listed.contains("held"), "{listed}");

    let (code, said) = ekiden(&router, &["confirm", "push:default/web"]);
    assert_eq!((code, said.as_str()), (Some(0), "b is gone\nc is gone\nd is gone\n"));
    assert_eq!(who(&router, "/", 20), ["a"]);
    assert_eq!(ekiden(&router, &["confirm", "push:default/web"]).0, Some(6), "there is nothing to confirm");

    // One by one, draining first: as many as there are.
    assert_eq!(router.control("PUT", PUSHED, &whole(&origins, None)).status, 200);
    for (origin, id) in origins.iter().zip(NAMES).skip(1) {
        let leaving = json!({ "address": origin.address.to_string(), "state": "draining" }).to_string();
        assert_eq!(router.control("PUT", &format!("{PUSHED}/{id}"), &leaving).status, 200);
    }
    assert_eq!(who(&router, "/", 20), ["a"]);
    let gone = router.control("PUT", PUSHED, &whole(&origins[..1], None)).json();
    assert_eq!(gone["held"], json!([]), "what was said to leave is held: {gone}");

    // It outlives a crash, and belongs to its source.
    let mark = router.control("PUT", &Ekiden::endpoint_path("web", "a"), "{\"address\":\"127.0.0.1:1\"}");
    assert_eq!(problem(&mark), (409, "owned_by_source".to_owned()));
    let router = Ekiden::start_with(router.kill(), Run { keep_file: true, ..Run::default() });
    assert_eq!(who(&router, "/", 20), ["a"]);
    assert_eq!(router.control("DELETE", PUSHED, "").status, 200);
    assert_eq!(router.get("/").code(), "no_endpoints");
}

#[test]
fn what_is_held_is_held_by_the_next_process_too_and_what_was_confirmed_is_gone_there() {
    let origins = origins();
    let router = Ekiden::start(empty());
    assert!(is_taken(&router.control("PUT", PUSHED, &whole(&origins, None))));
    let lost = router.control("PUT", PUSHED, &whole(&origins[..1], None)).json();
    assert_eq!(lost["held"], json!(["b", "c", "d"]), "{lost}");
    let until = source(&router, "push:default/web")["held_until_unix_ms"].clone();
    assert_eq!(lost["held_until_unix_ms"], until);
    let router = Ekiden::start_with(router.kill(), Run { keep_file: true, ..Run::default() });
    assert_eq!(who(&router, "/", 60), NAMES, "a restart takes away what was held");
    let held = source(&router, "push:default/web");
    assert_eq!((&held["state"], &held["held_until_unix_ms"]), (&json!("held"), &until), "{held}");
    // It says so again; they are held on, also over another restart.
    let again = router.control("PUT", PUSHED, &whole(&origins[..1], None)).json();
    assert_eq!((&again["held"], &again["changed"]), (&json!(["b", "c", "d"]), &json!(false)), "{again}");
    let router = Ekiden::start_with(router.kill(), Run { keep_file: true, ..Run::default() });
    assert_eq!(ekiden(&router, &["confirm", "push:default/web"]).1, "b is gone\nc is gone\nd is gone\n");
    until_true("them to be gone", || who(&router, "/", 20) == ["a"]);
    let router = Ekiden::start_with(router.kill(), Run { keep_file: true, ..Run::default() });
    assert_eq!(who(&router, "/", 20), ["a"], "what was confirmed comes back");
    // Named again, they are there again.
    assert_eq!(router.control("PUT", PUSHED, &whole(&origins, None)).json()["held"], json!([]));
    until_true("them to be back", || who(&router, "/", 60) == NAMES);
}

#[test]
fn what_is_held_in_the_last_of_many_clusters_can_be_confirmed() {
    const CLUSTERS: usize = 1_002;
    let origin = Stamped::start("served");
    let mut text = String::from("[[route]]\ncluster = \"c0000\"\n");
    (0..CLUSTERS).for_each(|at| text.push_str(&format!("[cluster.c{at:04}]\nendpoints = []\n")));
    let router = Ekiden::start(Setup::new(text));
    let path = |at: usize| format!("/v1/apps/default/clusters/c{at:04}/placements");
    let all = |count: usize| {
        let one = |id: usize| json!({ "id": id.to_string(), "address": origin.address.to_string() });
        json!({ "placements": (0..count).map(one).collect::<Vec<_>>() }).to_string()
    };
    (0..CLUSTERS).for_each(|at| assert!(is_taken(&router.control("PUT", &path(at), &all(4)))));
    let last = format!("push:default/c{:04}", CLUSTERS - 1);
    let lost = router.control("PUT", &path(CLUSTERS - 1), &all(1)).json();
    assert_eq!(lost["held"], json!(["1", "2", "3"]), "{lost}");
    let one = router.control("GET", &path(CLUSTERS - 1), "").json();
    assert_eq!((&one["state"], &one["held"]), (&json!("held"), &json!(["1", "2", "3"])), "{one}");
    assert_eq!(ekiden(&router, &["confirm", &last]).1, "1 is gone\n2 is gone\n3 is gone\n");
}

#[test]
fn a_source_that_is_not_heard_any_more_freezes_its_part_and_says_so() {
    let origins = origins();
    let router = Ekiden::start(empty());
    assert_eq!(router.control("PUT", PUSHED, &whole(&origins, Some(1_000))).status, 200);
    until_true("the lease to be over", || source(&router, "push:default/web")["state"] == "silent");
    assert_eq!(who(&router, "/", 60), NAMES, "a silent source takes its endpoints away");
    let labels = ["source=\"push:default/web\"", "state=\"silent\""];
    until_true("the metric", || router.metric("ekiden_source_state", &labels) as u64 == 1);
    router.wait_error("is not heard any more");
    assert_eq!(router.control("PUT", PUSHED, &whole(&origins, None)).status, 200);
    assert_eq!(source(&router, "push:default/web")["state"], "live");

    // Leases of single endpoints: who is not heard while others are goes.
    let put = |id: &str, at: usize, ttl_ms: Option<u64>| {
        let body = json!({ "address": origins[at].address.to_string(), "ttl_ms": ttl_ms }).to_string();
        let answer = router.control("PUT", &format!("{PUSHED}/{id}"), &body);
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    put("a", 0, Some(1_000));
    until("the one that is silent to go", || {
        put("b", 1, None);
        (who(&router, "/", 60) == ["b", "c", "d"]).then_some(())
    });
    assert_eq!(source(&router, "push:default/web")["expired"], json!(["a"]));
    put("a", 0, None);
    assert_eq!(who(&router, "/", 60), NAMES);
}

#[test]
fn what_cannot_be_pushed_is_refused_with_a_place() {
    let router = Ekiden::start(empty());
    let rows = [
        ("{\"placements\": 7}", "/placements"),
        ("{\"placements\": [7]}", "/placements/0"),
        ("{\"placements\": [{\"id\": \"a\"}]}", "/placements/0/address"),
        ("{\"placements\": [{\"id\": \"a\", \"address\": \"web:80\"}]}", "/placements/0/address"),
        ("{\"placements\": [{\"id\": \"a b\", \"address\": \"127.0.0.1:1\"}]}", "/placements/0/id"),
        (
            "{\"placements\": [{\"id\": \"a\", \"address\": \"127.0.0.1:1\", \"state\": \"up\"}]}",
            "/placements/0/state",
        ),
        (
            "{\"placements\": [{\"id\": \"a\", \"address\": \"127.0.0.1:1\", \"weight\": 0}]}",
            "/placements/0/weight",
        ),
        (
            "{\"placements\": [{\"id\": \"a\", \"address\": \"127.0.0.1:1\", \"wait\": 1}]}",
            "/placements/0/wait",
        ),
        ("{\"placements\": [], \"ttl_ms\": 1}", "/ttl_ms"),
        (
            "{\"placements\": [{\"id\": \"a\", \"address\": \"127.0.0.1:1\"}, {\"id\": \"a\", \"address\": \"127.0.0.1:1\"}]}",
            "/placements/1/id",
        ),
    ];
    for (body, pointer) in rows {
        let answer = router.control("PUT", PUSHED, body);
        assert_eq!((problem(&answer).0, answer.json()["pointer"].as_str()), (422, Some(pointer)), "{body}");
    }
    let at = |path: &str| problem(&router.control("PUT", path, "{\"placements\": []}"));
    assert_eq!(at("/v1/apps/nobody/clusters/web/placements"), (404, "unknown_app".to_owned()));
    assert_eq!(at("/v1/apps/default/clusters/nobody/placements"), (404, "unknown_cluster".to_owned()));
    assert_eq!(
        problem(&router.control("DELETE", &format!("{PUSHED}/a"), "")),
        (404, "unknown_placement".to_owned())
    );
    let confirm = |source: &str| {
        problem(&router.control("POST", "/v1/sources/confirm", &json!({ "source": source }).to_string()))
    };
    assert_eq!(confirm("dns:nobody.test"), (404, "unknown_source".to_owned()));
}

/// dnsmasq with these options on a port; ended with the value.
struct Dnsmasq(Child);

impl Dnsmasq {
    fn start(port: u16, options: &[String]) -> Self {
        let fixed = [
            "--keep-in-foreground",
            "--no-resolv",
            "--no-hosts",
            "--bind-interfaces",
            "--listen-address=127.0.0.1",
            "--conf-file=/dev/null",
            "--pid-file=",
            "--user=",
            "--local-ttl=1",
            "--local=/test/",
        ];
        let child = Command::new("dnsmasq")
            .args(fixed)
            .arg(format!("--port={port}"))
            .args(options)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.unwrap_or_else(|error| panic!("dnsmasq (package dnsmasq-base): {error}")))
    }

    /// A service with these targets, each at an address of its own.
    fn service(port: u16, targets: &[(&str, u16, u16, u16)]) -> Self {
        let mut options = Vec::new();
        for (at, (target, target_port, priority, weight)) in targets.iter().enumerate() {
            options
                .push(format!("--srv-host=_http._tcp.web.test,{target},{target_port},{priority},{weight}"));
            options.push(format!("--host-record={target},127.0.0.{}", at + 1));
        }
        Self::start(port, &options)
    }
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_service_of_a_real_name_server_says_ports_weights_and_priorities() {
    let port = free_port();
    let ports: Vec<u16> = (0..4).map(|_| free_port()).collect();
    let origins: Vec<Stamped> = ports
        .iter()
        .zip(NAMES)
        .enumerate()
        .map(|(at, (port, name))| Stamped::on(&format!("127.0.0.{}:{port}", at + 1), name))
        .collect();
    let all = [
        ("a.test", ports[0], 10, 50),
        ("b.test", ports[1], 10, 10),
        ("c.test", ports[2], 10, 10),
        ("d.test", ports[3], 20, 10),
    ];
    let names = Dnsmasq::service(port, &all);
    let text = format!(
        "[cluster.web]\n{EVEN}\nendpoints = [\"srv:_http._tcp.web.test\"]\n[[route]]\ncluster = \"web\"\n"
    );
    let arguments = vec!["--resolver".to_owned(), format!("127.0.0.1:{port}")];
    let setup = Setup::new(text).top("drain_grace = \"0s\"");
    let router = Ekiden::start_with(setup, Run { arguments, ..Run::default() });
    until_true("the service", || who(&router, "/", 60) == ["a", "b", "c"]);
    let id = format!("_http._tcp.web.test%2F127.0.0.1:{}", ports[0]);
    let seen = router.control("GET", &Ekiden::endpoint_path("web", &id), "").json();
    assert_eq!((&seen["weight"], &seen["owner"]), (&json!(50), &json!("source")), "{seen}");

    // Those of the next priority are a group of their own: they get what the first one cannot take.
    let standby = Ekiden::endpoint_path("web", &format!("_http._tcp.web.test%2F127.0.0.4:{}", ports[3]));
    let priority = |path: &str| router.control("GET", path, "").json()["priority"].clone();
    assert_eq!((priority(&standby), seen["priority"].clone()), (json!(1), json!(0)));
    let mark = |at: usize, drain: bool| {
        let id = format!("_http._tcp.web.test%2F127.0.0.{}:{}", at + 1, ports[at]);
        let body = json!({ "drain": drain }).to_string();
        let answer = router.control("PUT", &Ekiden::endpoint_path("web", &id), &body);
        assert!(answer.status < 300, "{answer:?}");
    };
    (0..3).for_each(|at| mark(at, true));
    until_true("the standby", || who(&router, "/", 20) == ["d"]);
    (0..3).for_each(|at| mark(at, false));
    until_true("the first group", || who(&router, "/", 60) == ["a", "b", "c"]);

    // The server is gone: everything stays.
    let name = "dns:srv:_http._tcp.web.test";
    drop(names);
    until_true("the failure to be told", || source(&router, name)["state"] == "failing");
    assert_eq!(who(&router, "/", 60), ["a", "b", "c"]);
    let labels = [&format!("source=\"{name}\"") as &str, "state=\"failing\""];
    assert_eq!(router.metric("ekiden_source_state", &labels) as u64, 1);

    // It comes back and knows little: that is held, until somebody confirms it.
    let few = Dnsmasq::service(port, &all[..1]);
    until_true("what is gone to be held", || source(&router, name)["state"] == "held");
    assert_eq!(who(&router, "/", 60), ["a", "b", "c"]);
    assert_eq!(ekiden(&router, &["confirm", name]).0, Some(0));
    assert_eq!(who(&router, "/", 20), ["a"]);

    // The most preferred ones are gone from DNS altogether: the next ones serve.
    drop(few);
    let mut options = vec![format!("--srv-host=_http._tcp.web.test,d.test,{},20,10", ports[3])];
    options.push("--host-record=d.test,127.0.0.4".to_owned());
    let _last = Dnsmasq::start(port, &options);
    until_true("the next priority", || who(&router, "/", 20) == ["d"]);
    drop(origins);
}
