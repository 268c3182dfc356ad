//! Files that change: taken when they are good, refused loudly when they are not.

use std::fs;
use std::os::unix::fs::symlink;

use crate::bench::{Bench, SMALL, endpoints, web};

fn with_port(port: u16) -> String {
    SMALL.replace("13000", &port.to_string())
}

#[test]
fn a_bad_edit_leaves_the_old_table_serving_and_is_loud() {
    let bench = Bench::new(SMALL);
    let running = bench.start();
    let first = running.control.status();
    assert!(first.running && !first.stale && first.last_reload.as_ref().unwrap().ok);
    bench.put("ekiden.toml", "[listener.edge\n");
    let status = running.wait("the refusal", |status| status.reloads.refused == 1);
    assert!(status.stale);
    let reload = status.last_reload.clone().unwrap();
    assert!(!reload.ok && !reload.diagnostics.is_empty(), "{reload:?}");
    assert_eq!(running.router.count(), 1, "nothing is published");
    let asked = running.ask("POST", "/v1/reload", "");
    assert_eq!((asked.status, asked.code()), (422, "invalid_configuration"));
    assert_eq!(asked.body["errors"][0]["severity"], "error");
    assert_eq!(running.ask("GET", "/v1/table", "").body["stale"], true);
    // API changes go on meanwhile.
    assert_eq!(running.put("extra", r#"{"address":"127.0.0.1:13001"}"#).status, 200);
    bench.put("ekiden.toml", SMALL);
    running.wait("the good one", |status| !status.stale && status.reloads.accepted == 1);
    assert_eq!(web(&running.router.latest()).len(), 2);
    // Removing the file keeps serving.
    fs::remove_file(bench.at("ekiden.toml")).unwrap();
    let status = running.wait("the missing file", |status| status.stale);
    assert!(status.last_reload.as_ref().unwrap().diagnostics[0].contains("missing_file"));
    assert_eq!(web(&running.router.latest()).len(), 2);
}

#[test]
fn renames_link_swaps_and_writes_in_place_are_seen() {
    let mut bench = Bench::new(SMALL);
    // As a mounted ConfigMap: the file is a link through `..data`.
    for (dir, port) in [("v1", 13000), ("v2", 13001), ("v3", 13002)] {
        bench.put(&format!("{dir}/ekiden.toml"), &with_port(port));
    }
    symlink("v1", bench.at("..data")).unwrap();
    symlink("..data/ekiden.toml", bench.at("linked.toml")).unwrap();
    bench.options.file = bench.at("linked.toml");
    let running = bench.start();
    symlink("v2", bench.at("swap")).unwrap();
    fs::rename(bench.at("swap"), bench.at("..data")).unwrap();
    running.router.wait("the swap", |model| web(model) == ["127.0.0.1:13001 127.0.0.1:13001"]);
    fs::write(bench.at("v2/ekiden.toml"), with_port(13002)).unwrap();
    running.router.wait("the write in place", |model| web(model) == ["127.0.0.1:13002 127.0.0.1:13002"]);
    bench.put("v2/ekiden.toml", &with_port(13003));
    running.router.wait("the rename", |model| web(model) == ["127.0.0.1:13003 127.0.0.1:13003"]);
    let status = running.wait("the last report", |status| status.reloads.accepted == 3);
    let summary = &status.last_reload.as_ref().unwrap().summary;
    assert!(summary.contains("+endpoint default/web/127.0.0.1:13003"), "{summary}");
    // Touching without changing builds nothing.
    fs::write(bench.at("v2/ekiden.toml"), with_port(13003)).unwrap();
    running.control.reload();
    running.wait("the asked reload", |status| status.reloads.accepted == 4);
    assert_eq!(running.router.count(), 4);
}

fn app(port: u16) -> String {
    format!(
        "[cluster.main]\nendpoints = [\"127.0.0.1:{port}\"]\n[[route]]\nhost = \"h{port}.test\"\ncluster = \"main\"\n"
    )
}

#[test]
fn a_bad_app_file_affects_only_its_app() {
    let bench = Bench::new(&format!("apps = \"apps.d\"\n{SMALL}"));
    bench.put("apps.d/blue.toml", &app(14000));
    bench.put("apps.d/green.toml", &app(15000));
    let running = bench.start();
    let main = |model: &ekiden_config::model::Model, app: &str| endpoints(model, app, "main").join(",");
    assert_eq!(main(&running.router.latest(), "blue"), "127.0.0.1:14000 127.0.0.1:14000");
    bench.put("apps.d/blue.toml", "[cluster.main\n");
    let status = running.wait("the refusal", |status| status.refused_apps == ["blue"]);
    assert!(!status.stale && status.reloads.partial == 1);
    bench.put("apps.d/green.toml", &app(15001));
    let model = running.router.wait("green", |model| main(model, "green").contains("15001"));
    assert_eq!(main(&model, "blue"), "127.0.0.1:14000 127.0.0.1:14000", "its last good version");
    // Not even text.
    fs::write(bench.at("apps.d/green.toml"), [0xff, 0xfe]).unwrap();
    running.wait("both refused", |status| status.refused_apps == ["blue", "green"]);
    bench.put("apps.d/red.json", r#"{"cluster":{"main":{"endpoints":["127.0.0.1:16000"]}}}"#);
    let model = running.router.wait("red", |model| !main(model, "red").is_empty());
    assert!(main(&model, "green").contains("15001") && main(&model, "blue").contains("14000"));
    running.control.stop();

    // At a start they come from the last good table.
    let running = bench.start();
    let model = running.router.latest();
    assert!(main(&model, "green").contains("15001") && main(&model, "blue").contains("14000"));
    assert_eq!(running.control.status().refused_apps, ["blue", "green"]);
    fs::remove_file(bench.at("apps.d/blue.toml")).unwrap();
    bench.put("apps.d/green.toml", &app(15002));
    let model = running.router.wait("green again", |model| main(model, "green").contains("15002"));
    assert!(!model.apps.contains_key("blue"));
    running.wait("none refused", |status| status.refused_apps.is_empty());
}

#[test]
fn keys_that_need_a_restart_are_reported() {
    let bench = Bench::new(SMALL);
    let running = bench.start();
    bench.put("ekiden.toml", &format!("drain_timeout = \"7s\"\n{SMALL}"));
    let status = running.wait("the report", |status| !status.restart_needed.is_empty());
    assert_eq!(status.restart_needed, ["drain_timeout"]);
    assert_eq!(running.router.count(), 1, "the table did not change");
}
