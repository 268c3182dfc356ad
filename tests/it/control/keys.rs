//! Endpoints that are keys of a real etcd: they come and go with it, and stay when it does not answer, is gone, or says nonsense.

use std::net::SocketAddr;

use data_encoding::BASE64;
use ekiden_tests::{Ekiden, Etcd, Load, MIXED, Refused, Run, Served, Setup, Stamped, in_time, web};
use serde_json::{Value, json};

use super::sources::{ekiden, source};
use super::{EVEN, who};
use crate::fleet::Cable;

const PREFIX: &str = "/services/web/";
const SOURCE: &str = "etcd:main/services/web/";

/// The etcd, from where endpoints are written to it.
struct Registry {
    etcd: Etcd,
}

impl Registry {
    fn start() -> Self {
        Self { etcd: Etcd::start(1) }
    }

    fn ask(&self, path: &str, body: &Value) -> Value {
        in_time("an answer of etcd", || self.etcd.ask(0, path, body))
    }

    fn put_at(&self, key: &str, value: &str, lease: Option<&str>) {
        let text = |text: &str| BASE64.encode(text.as_bytes());
        let mut body = json!({ "key": text(key), "value": text(value) });
        if let Some(lease) = lease {
            body["lease"] = json!(lease);
        }
        self.ask("/v3/kv/put", &body);
    }

    fn put(&self, name: &str, value: &str) {
        self.put_at(&format!("{PREFIX}{name}"), value, None);
    }

    fn delete(&self, name: &str) {
        self.ask(
            "/v3/kv/deleterange",
            &json!({ "key": BASE64.encode(format!("{PREFIX}{name}").as_bytes()) }),
        );
    }
}

/// A cluster of these keys, in the etcd at an address.
fn setup(etcd: SocketAddr) -> Setup {
    let discovery = format!("[discovery.main]\nendpoints = [\"http://{etcd}\"]\n");
    let cluster =
        format!("[cluster.web]\n{EVEN}\nendpoints = [\"{SOURCE}\"]\n[[route]]\ncluster = \"web\"\n");
    Setup::new(format!("{discovery}{cluster}")).top("drain_grace = \"0s\"")
}

fn wait_who(router: &Ekiden, names: &[&str]) {
    in_time(&format!("{names:?} to serve"), || (who(router, "/", 60) == names).then_some(()));
}

fn wait_state(router: &Ekiden, state: &str) -> Value {
    in_time(&format!("the source to be {state}"), || {
        Some(source(router, SOURCE)).filter(|one| one["state"] == state)
    })
}

#[test]
fn keys_come_and_go_and_what_is_wrong_with_them_is_told() {
    let registry = Registry::start();
    let [a, b, c] = ["a", "b", "c"].map(Stamped::start);
    registry.put("a", &a.address.to_string());
    registry.put("b", &json!({ "address": b.address.to_string(), "weight": 2, "zone": "z" }).to_string());
    registry.put_at("/services/web-2/x", &c.address.to_string(), None);
    let router = Ekiden::start(setup(registry.etcd.address(0)));
    assert_eq!(who(&router, "/", 60), ["a", "b"], "they are not there from the first table on");
    let seen = router.control("GET", &Ekiden::endpoint_path("web", "b"), "").json();
    assert_eq!((&seen["weight"], &seen["zone"], &seen["owner"]), (&json!(2), &json!("z"), &json!("source")));
    assert_eq!(wait_state(&router, "live")["endpoints"], 2);
    let labels = [&format!("source=\"{SOURCE}\"") as &str, "state=\"live\""];
    assert_eq!(router.metric("ekiden_source_state", &labels) as u64, 1);

    // With a lease that nobody renews: it goes with it.
    let lease = registry.ask("/v3/lease/grant", &json!({ "TTL": "3", "ID": "0" }))["ID"].clone();
    registry.put_at(&format!("{PREFIX}c"), &c.address.to_string(), lease.as_str());
    wait_who(&router, &["a", "b", "c"]);
    wait_who(&router, &["a", "b"]);

    // Not ready, and ready again.
    registry.put("b", &json!({ "address": b.address.to_string(), "ready": false }).to_string());
    wait_who(&router, &["a"]);
    registry.put("b", &b.address.to_string());
    wait_who(&router, &["a", "b"]);

    // Nonsense leaves what was there, and is told by key.
    registry.put("b", "nonsense");
    registry.put("d", "{\"adress\": 1}");
    let told = in_time("word of the nonsense", || {
        let error = source(&router, SOURCE)["error"].as_str().unwrap_or_default().to_owned();
        (error.contains("b:") && error.contains("adress")).then_some(error)
    });
    assert!(told.starts_with("values of 2 keys are refused"), "{told}");
    router.wait_error("the value of a key is refused");
    assert_eq!(who(&router, "/", 60), ["a", "b"]);
    registry.delete("d");
    registry.put("b", &b.address.to_string());
    in_time("the end of it", || source(&router, SOURCE)["error"].is_null().then_some(()));

    // All at once is too much at once.
    registry.put("c", &c.address.to_string());
    wait_who(&router, &["a", "b", "c"]);
    registry.ask(
        "/v3/kv/deleterange",
        &json!({ "key": BASE64.encode(PREFIX.as_bytes()), "range_end": BASE64.encode(b"/services/web0") }),
    );
    assert_eq!(wait_state(&router, "held")["held"], json!(["a", "b", "c"]));
    assert_eq!(who(&router, "/", 60), ["a", "b", "c"]);
    assert_eq!(ekiden(&router, &["confirm", SOURCE]).0, Some(0));
    in_time("an empty cluster", || (router.get("/").code() == "no_endpoints").then_some(()));
    registry.put("c", &c.address.to_string());
    wait_who(&router, &["c"]);
}

#[test]
fn an_etcd_that_is_silent_or_gone_takes_nothing_away() {
    let mut registry = Registry::start();
    let [a, b] = ["a", "b"].map(Stamped::start);
    registry.put("a", &a.address.to_string());
    let router = Ekiden::start(setup(registry.etcd.address(0)));
    wait_who(&router, &["a"]);
    let load = Load::start(router.address(), 2, MIXED, Refused::Fails);

    // It does not answer.
    registry.etcd.signal(0, libc::SIGSTOP);
    let failing = wait_state(&router, "failing");
    assert!(failing["error"].as_str().is_some_and(|text| text.contains("does not answer")), "{failing}");
    router.wait_error("etcd cannot be asked for endpoints");
    assert_eq!(who(&router, "/", 10), ["a"]);
    registry.etcd.signal(0, libc::SIGCONT);
    wait_state(&router, "live");
    registry.put("b", &b.address.to_string());
    wait_who(&router, &["a", "b"]);
    let tally = load.stop();
    assert_eq!(tally.failed, Vec::<String>::new(), "of {}", tally.served);

    // It is gone, and this process is started anew meanwhile.
    registry.etcd.kill(0);
    wait_state(&router, "failing");
    in_time("both to be saved", || {
        let saved = std::fs::read_to_string(router.setup().dir().join("run/last-good.json")).ok()?;
        saved.contains(&b.address.to_string()).then_some(())
    });
    let router = Ekiden::start(router.stop());
    assert_eq!(who(&router, "/", 60), ["a", "b"], "a start without etcd has no endpoints");
    wait_state(&router, "failing");
    registry.etcd.begin(0);
    wait_state(&router, "live");
    registry.delete("a");
    wait_who(&router, &["b"]);
}

#[test]
fn what_was_missed_and_compacted_away_is_read_anew() {
    let registry = Registry::start();
    let [a, b] = ["a", "b"].map(Stamped::start);
    let cable = Cable::to(registry.etcd.address(0));
    registry.put("a", &a.address.to_string());
    let router = Ekiden::start(setup(cable.address));
    wait_who(&router, &["a"]);
    // Missed and still there: the watch goes on from where it was.
    cable.cut();
    wait_state(&router, "failing");
    registry.put("b", &b.address.to_string());
    cable.mend();
    wait_who(&router, &["a", "b"]);
    // Missed, and no longer there one by one.
    cable.cut();
    wait_state(&router, "failing");
    registry.delete("a");
    registry.put("c", &a.address.to_string());
    registry.delete("c");
    registry.etcd.compact(0);
    cable.mend();
    wait_who(&router, &["b"]);
    wait_state(&router, "live");
}

#[test]
fn an_app_names_an_etcd_that_it_may_use() {
    let origin = Stamped::start("fixed");
    let setup = Setup::new(web(&[origin.address], "", "")).top("apps = \"apps\"");
    let apps = setup.dir().join("apps");
    std::fs::create_dir(&apps).unwrap();
    let app = |etcd: &str| format!("[cluster.web]\nendpoints = [\"etcd:{etcd}/services/web/\"]\n");
    for (name, etcd) in [("one", "ours"), ("two", "theirs"), ("three", "nobodys")] {
        std::fs::write(apps.join(format!("{name}.toml")), app(etcd)).unwrap();
    }
    let discovery = |name: &str, apps: &str| {
        format!("[discovery.{name}]\nendpoints = [\"http://127.0.0.1:1\"]\napps = [{apps}]\n")
    };
    let text = setup.config() + &discovery("ours", "\"one\"") + &discovery("theirs", "\"three\"");
    let router = Ekiden::start_with(setup, Run { text: Some(text), ..Run::default() });
    let refused = router.control("GET", "/v1/status", "").json()["refused_apps"].clone();
    assert_eq!(refused, json!(["three", "two"]));
    router.wait_error("the app `two` may not use `[discovery.theirs]`");
    router.wait_error("there is no discovery `nobodys`");
    assert_eq!(router.get("/").text(), "fixed");
}
