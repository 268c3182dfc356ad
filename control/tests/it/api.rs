//! Endpoints by API: idempotence, ownership, durability, waiting, and what happens when a cluster goes.

use ekiden_config::doors::Refusal;
use serde_json::json;

use crate::bench::{Bench, Mode, SMALL, endpoint, until, web};

#[test]
fn an_endpoint_lives_until_it_is_deleted_through_repetition_reload_and_restart() {
    let bench = Bench::new(SMALL);
    let running = bench.start();
    let body = r#"{"address":"127.0.0.1:13001","weight":5,"zone":"a"}"#;
    let put = running.put("extra", body);
    assert_eq!((put.status, &put.body), (200, &json!({ "generation": 2 })), "{put:?}");
    let again = running.put("extra", body);
    assert_eq!(
        (again.status, &again.body["generation"]),
        (200, &json!(2)),
        "nothing changed: nothing is published"
    );
    assert_eq!(running.router.count(), 2);

    let got = running.ask("GET", &endpoint("extra"), "");
    assert_eq!(got.body["owner"], "api");
    assert_eq!(got.body["state"], "ready");
    assert_eq!((&got.body["weight"], &got.body["zone"]), (&json!(5), &json!("a")));

    let reload = running.ask("POST", "/v1/reload", "");
    assert_eq!((reload.status, &reload.body["changed"]), (200, &json!(false)), "{reload:?}");
    assert_eq!(web(&running.router.latest()).len(), 2);
    running.control.stop();

    let running = bench.start();
    let both = ["127.0.0.1:13000 127.0.0.1:13000", "extra 127.0.0.1:13001"];
    assert_eq!(web(&running.router.latest()), both, "the very first table has it");
    let moved = running.put("extra", r#"{"address":"127.0.0.1:13002"}"#);
    assert_eq!(moved.status, 200);
    let gone = running.ask("DELETE", &endpoint("extra"), "");
    assert_eq!((gone.status, &gone.body), (200, &json!({ "generation": 3 })));
    assert_eq!(web(&running.router.latest()), both[..1]);
    let absent = running.ask("DELETE", &endpoint("extra"), "");
    assert_eq!((absent.status, absent.code()), (404, "unknown_endpoint"));
    running.control.stop();
    assert_eq!(web(&bench.start().router.latest()), both[..1]);
}

#[test]
fn a_file_owned_endpoint_may_only_be_drained() {
    let bench = Bench::new(SMALL);
    let running = bench.start();
    let id = "127.0.0.1:13000";
    for (method, body) in
        [("PUT", r#"{"address":"127.0.0.1:1"}"#), ("PUT", r#"{"drain":true,"weight":1}"#), ("DELETE", "")]
    {
        let refused = running.ask(method, &endpoint(id), body);
        assert_eq!((refused.status, refused.code()), (409, "owned_by_file"), "{method} {body}");
        assert!(refused.head.contains("content-type: application/problem+json"));
    }
    assert_eq!(running.put(id, r#"{"drain":true}"#).status, 200);
    assert_eq!(web(&running.router.latest()), ["127.0.0.1:13000 127.0.0.1:13000 drain"]);
    let published = running.router.count();
    assert_eq!(running.put(id, r#"{"drain":true}"#).status, 200);
    assert_eq!(running.router.count(), published);
    running.control.stop();

    let running = bench.start();
    assert_eq!(web(&running.router.latest()), ["127.0.0.1:13000 127.0.0.1:13000 drain"], "marks are durable");
    assert_eq!(running.put(id, r#"{"drain":false}"#).status, 200);
    assert_eq!(web(&running.router.latest()), ["127.0.0.1:13000 127.0.0.1:13000"]);
    assert_eq!(running.control.status().drain_marks, 0);

    // A mark ends with the endpoint: one of the same id, later, starts undrained.
    running.put(id, r#"{"drain":true}"#);
    bench.put("ekiden.toml", &SMALL.replace("127.0.0.1:13000", "127.0.0.1:13009"));
    running.router.wait("the other endpoint", |model| web(model) == ["127.0.0.1:13009 127.0.0.1:13009"]);
    bench.put("ekiden.toml", SMALL);
    running.router.wait("undrained", |model| web(model) == ["127.0.0.1:13000 127.0.0.1:13000"]);
}

#[test]
fn a_mark_ends_with_its_endpoint_also_when_nobody_looked() {
    let bench = Bench::new(SMALL);
    let (marked, other) = ("127.0.0.1:13000", SMALL.replace("13000", "13009"));
    let plain = ["127.0.0.1:13000 127.0.0.1:13000"];
    let running = bench.start();
    assert_eq!(running.put(marked, r#"{"drain":true}"#).status, 200);
    running.control.stop();
    // The endpoint goes while control is down, and comes back later.
    bench.put("ekiden.toml", &other);
    let running = bench.start();
    bench.put("ekiden.toml", SMALL);
    running.router.wait("undrained", |model| web(model) == plain);

    // It goes while control runs: that is written down without waiting for another change.
    assert_eq!(running.put(marked, r#"{"drain":true}"#).status, 200);
    bench.put("ekiden.toml", &other);
    running.router.wait("the other endpoint", |model| web(model) == ["127.0.0.1:13009 127.0.0.1:13009"]);
    until("the mark to be taken away", || {
        let bytes = std::fs::read(bench.at("run/journal")).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        text.rfind("marks/").is_some_and(|at| !text[at..].contains("\"drain\"")).then_some(())
    });
    running.control.stop();
    bench.put("ekiden.toml", SMALL);
    assert_eq!(web(&bench.start().router.latest()), plain);
}

#[test]
fn tags_are_for_what_the_api_keeps_and_to_make_means_that_nobody_has_it() {
    let bench = Bench::new(SMALL);
    let running = bench.start();
    let tagged = |reply: &crate::bench::Reply| reply.head.contains("\r\netag: ");
    let body = r#"{"address":"127.0.0.1:13001"}"#;
    let put = running.put("extra", body);
    assert!(put.status == 200 && tagged(&put), "{put:?}");
    assert!(!tagged(&running.put("extra", body)), "nothing was changed");
    let mark = running.put("127.0.0.1:13000", r#"{"drain":true}"#);
    assert!(mark.status == 200 && !tagged(&mark), "a mark is no endpoint: {mark:?}");
    for id in ["extra", "127.0.0.1:13000"] {
        let at = format!("{}?adopt=true", endpoint(id));
        let there = running.ask_with("PUT", &at, "If-None-Match: *\r\n", body);
        assert_eq!((there.status, there.code()), (412, "precondition_failed"), "{id}");
    }
}

#[test]
fn a_file_owned_endpoint_is_taken_over_only_knowingly() {
    let bench = Bench::new(SMALL);
    let running = bench.start();
    let at = endpoint("127.0.0.1:13000");
    let body = r#"{"address":"127.0.0.1:13009","weight":3}"#;
    let refused = running.ask("PUT", &at, body);
    assert_eq!((refused.status, &refused.body["owner"]), (409, &json!("file")));
    assert_eq!(running.put("127.0.0.1:13000", r#"{"drain":true}"#).status, 200);
    assert_eq!(running.ask("PUT", &format!("{at}?adopt=true"), body).status, 200);
    let taken = ["127.0.0.1:13000 127.0.0.1:13009"];
    assert_eq!(web(&running.router.latest()), taken, "and the mark was for the file's");
    assert_eq!(running.ask("GET", &at, "").body["owner"], "api");
    running.control.stop();
    let running = bench.start();
    assert_eq!(web(&running.router.latest()), taken);
    assert_eq!(
        running.ask("PUT", &at, r#"{"address":"127.0.0.1:13008"}"#).status,
        200,
        "it is the API's now"
    );
    assert_eq!(web(&running.router.latest()), ["127.0.0.1:13000 127.0.0.1:13008"]);
    assert_eq!(running.ask("DELETE", &at, "").status, 200);
    assert_eq!(web(&running.router.latest()), ["127.0.0.1:13000 127.0.0.1:13000 drain"], "given back");
}

#[test]
fn an_endpoint_whose_place_is_gone_sleeps_and_comes_back() {
    let bench = Bench::new(SMALL);
    let running = bench.start();
    assert_eq!(running.put("extra", r#"{"address":"127.0.0.1:13001"}"#).status, 200);
    let other = SMALL.replace("web", "other");
    bench.put("ekiden.toml", &other);
    running.router.wait("the other cluster", |model| web(model).is_empty());
    let asleep = running.ask("GET", &endpoint("extra"), "");
    assert_eq!((asleep.status, &asleep.body["state"]), (200, &json!("dormant")), "{asleep:?}");
    let table = running.ask("GET", "/v1/table", "");
    assert_eq!(table.body["dormant"][0]["id"], "extra");
    assert_eq!(table.body["dormant"][0]["cluster"], "web");
    let new = running.put("new", r#"{"address":"127.0.0.1:13005"}"#);
    assert_eq!((new.status, new.code()), (404, "unknown_cluster"));
    bench.put("ekiden.toml", SMALL);
    running.router.wait("it is back", |model| web(model).len() == 2);

    // A file that takes the id wins while it has it.
    let taken = SMALL.replace(r#"["127.0.0.1:13000"]"#, r#"[{ id = "extra", address = "127.0.0.1:13007" }]"#);
    bench.put("ekiden.toml", &taken);
    running.router.wait("the file's", |model| web(model) == ["extra 127.0.0.1:13007"]);
    assert_eq!(running.ask("DELETE", &endpoint("extra"), "").code(), "owned_by_file");
    let list = running.ask("GET", "/v1/apps/default/clusters/web/endpoints", "");
    assert_eq!(list.body["dormant"][0]["address"], "127.0.0.1:13001");

    bench.put("ekiden.toml", &other);
    running.router.wait("the other cluster again", |model| web(model).is_empty());
    assert_eq!(running.ask("DELETE", &endpoint("extra"), "").status, 200, "a sleeping one can be deleted");
    assert_eq!(running.control.status().api_endpoints, 0);
}

#[test]
fn an_answer_waits_for_the_workers_and_says_when_they_do_not_come() {
    let bench = Bench::new(SMALL);
    let running = bench.start();
    running.router.set(Mode::Hold);
    let pending = running.put("a", r#"{"address":"127.0.0.1:13001"}"#);
    assert_eq!((pending.status, &pending.body), (202, &json!({ "generation": 2, "pending": true })));
    // Repeating it is not done either: it waits for the same publish.
    assert_eq!(running.put("a", r#"{"address":"127.0.0.1:13001"}"#).status, 202);
    running.router.set(Mode::Reject("no".to_owned()));
    let rejected = running.put("b", r#"{"address":"127.0.0.1:13002"}"#);
    assert_eq!((rejected.status, rejected.code()), (503, "not_applied"));
    let refusal = |part: &str| Mode::Refuse(vec![Refusal { part: part.to_owned(), reason: "no".to_owned() }]);
    running.router.set(refusal("app:default"));
    assert_eq!(running.put("c", r#"{"address":"127.0.0.1:13003"}"#).code(), "not_applied");
    running.wait("the refusal in the status", |status| status.refused_parts == ["app:default: no"]);
    running.router.set(refusal("tls:default/web"));
    assert_eq!(running.put("c", r#"{"address":"127.0.0.1:13013"}"#).code(), "not_applied");
    running.router.set(refusal("tls:default/other"));
    assert_eq!(running.put("c", r#"{"address":"127.0.0.1:13023"}"#).status, 200);
    // Of a file with several apps none may be refused.
    running.router.set(refusal("app:two"));
    let route = |app: &str| json!({ "route": [{ "host": format!("{app}.example"), "cluster": "web" }], "cluster": { "web": { "endpoints": ["127.0.0.1:13030"] } } });
    let both = json!({ "app": { "one": route("one"), "two": route("two") } }).to_string();
    let applied = running.ask("POST", "/v1/apply", &both);
    assert_eq!((applied.status, applied.code()), (503, "not_applied"), "{applied:?}");
    running.router.set(refusal("app:another"));
    assert_eq!(
        running.put("d", r#"{"address":"127.0.0.1:13004"}"#).status,
        200,
        "another app's refusal is not ours"
    );
}

#[test]
fn many_at_once_are_all_durable() {
    let bench = Bench::new(SMALL);
    let running = bench.start();
    std::thread::scope(|scope| {
        for worker in 0..8 {
            let running = &running;
            scope.spawn(move || {
                for n in 0..10 {
                    let port = 20_000 + worker * 10 + n;
                    let put =
                        running.put(&format!("e{port}"), &format!(r#"{{"address":"127.0.0.1:{port}"}}"#));
                    assert_eq!(put.status, 200, "{put:?}");
                    let generation = put.body["generation"].as_u64().unwrap();
                    assert!(generation <= running.router.count() as u64);
                }
            });
        }
    });
    assert_eq!(web(&running.router.latest()).len(), 81);
    assert!(running.router.count() <= 81);
    running.control.stop();
    assert_eq!(web(&bench.start().router.latest()).len(), 81);
}

#[test]
fn one_change_leaves_all_other_parts_pointer_equal() {
    let two = format!("{SMALL}\n[cluster.other]\nendpoints = [\"127.0.0.1:13100\"]\n");
    let bench = Bench::new(&two);
    let running = bench.start();
    let before = running.router.latest();
    running.put("a", r#"{"address":"127.0.0.1:13001"}"#);
    let after = running.router.latest();
    let app = |model: &ekiden_config::model::Model| model.apps.values().next().unwrap().clone();
    let (old, new) = (app(&before), app(&after));
    assert!(std::sync::Arc::ptr_eq(&old.routes, &new.routes));
    assert!(std::sync::Arc::ptr_eq(&old.clusters["other"], &new.clusters["other"]));
    assert!(std::sync::Arc::ptr_eq(&old.clusters["web"].policy, &new.clusters["web"].policy));
    assert!(std::sync::Arc::ptr_eq(&old.clusters["web"].endpoints[0], &new.clusters["web"].endpoints[0]));
}

#[test]
fn without_a_run_directory_traffic_flows_and_changes_are_refused() {
    let mut bench = Bench::new(SMALL);
    std::fs::write(bench.at("a-file"), "").unwrap();
    bench.options.run_dir = Some(bench.at("a-file"));
    let running = bench.start();
    assert_eq!(running.router.count(), 1);
    assert!(running.control.status().run_dir_error.is_some());
    let refused = running.put("a", r#"{"address":"127.0.0.1:13001"}"#);
    assert_eq!((refused.status, refused.code()), (503, "not_durable"));
    assert_eq!(running.router.count(), 1);
}

#[test]
fn a_busy_address_is_loud_stops_nothing_and_is_tried_again() {
    let mut bench = Bench::new(SMALL);
    let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    bench.options.control = busy.local_addr().unwrap().to_string().parse().unwrap();
    let running = bench.start();
    running.wait("the error", |status| status.api.error.is_some() && status.api.bound.is_none());
    assert_eq!(running.router.count(), 1, "traffic is served");
    drop(busy);
    running.wait("the API", |status| status.api.bound.is_some() && status.api.error.is_none());
    assert_eq!(
        until("an answer", || Some(running.ask("GET", "/v1/status", "")).filter(|r| r.status == 200)).status,
        200
    );
}
