//! From build to build: what stays pointer-equal, what a bad app file does, what needs a restart.

use std::sync::Arc;

use super::*;
use crate::diff::{diff, restart_needed, reuse, summary};

fn web(port: u16) -> String {
    format!(
        "[cluster.web]\nendpoints = [\"1.1.1.1:1\", \"1.1.1.1:{port}\"]\n[cluster.other]\nendpoints = [\"2.2.2.2:1\"]\n\
         [[route]]\nhost = \"web.com\"\ncluster = \"web\"\n[[route]]\nhost = \"other.com\"\npath = {{ regex = \"/a+\" }}\ncluster = \"other\"\n"
    )
}

#[test]
fn unchanged_parts_are_pointer_equal() {
    let apps = |port| [app("a", &web(port)), app("b", "[[route]]\nhost = \"b.com\"\nrespond = {}\n")];
    let first = build_apps(LISTENER, &apps(2), None);
    let same = build_apps(LISTENER, &apps(2), Some(&first));
    assert!(diff(&first.model, &same.model).is_empty());
    assert!(Arc::ptr_eq(same.model.apps.get("a").unwrap(), first.model.apps.get("a").unwrap()));
    assert!(Arc::ptr_eq(&same.model.listeners["edge"], &first.model.listeners["edge"]));

    let second = build_apps(LISTENER, &apps(3), Some(&first));
    let (old, new) = (first.model.apps.get("a").unwrap(), second.model.apps.get("a").unwrap());
    assert!(Arc::ptr_eq(second.model.apps.get("b").unwrap(), first.model.apps.get("b").unwrap()));
    assert!(!Arc::ptr_eq(new, old));
    assert!(Arc::ptr_eq(&new.routes, &old.routes));
    assert!(Arc::ptr_eq(&new.clusters["other"], &old.clusters["other"]));
    let (old, new) = (&old.clusters["web"], &new.clusters["web"]);
    assert!(Arc::ptr_eq(&new.policy, &old.policy));
    assert!(Arc::ptr_eq(&new.endpoints[0], &old.endpoints[0]));
    let deltas = diff(&first.model, &second.model);
    assert_eq!(summary(&first.model, &deltas), "-endpoint a/web/1.1.1.1:2, +endpoint a/web/1.1.1.1:3");
    assert_eq!(reuse(crate::model::Model::clone(&second.model), &first.model), *second.model);
}

#[test]
fn a_bad_app_keeps_its_last_good_version_and_touches_no_other() {
    let first = build_apps(LISTENER, &[app("a", &web(2)), app("b", &web(2).replace(".com", ".org"))], None);
    assert!(first.diagnostics.is_empty());
    for bad in
        ["[[", "[[route]]\n", &web(2).replace("\"web\"", "\"wbe\""), "[listener.x]\naddress = \"1.1.1.1:1\""]
    {
        let second =
            build_apps(LISTENER, &[app("a", bad), app("b", &web(3).replace(".com", ".org"))], Some(&first));
        assert!(
            Arc::ptr_eq(second.model.apps.get("a").unwrap(), first.model.apps.get("a").unwrap()),
            "{bad}"
        );
        assert_eq!(second.model.apps.get("b").unwrap().clusters["web"].endpoints[1].id.as_str(), "1.1.1.1:3");
        assert!(second.has_errors() && second.diagnostics.iter().all(|d| d.file == "apps.d/a.toml"), "{bad}");
    }
    let gone = build_apps(LISTENER, &[app("b", &web(2).replace(".com", ".org"))], Some(&first));
    assert!(!gone.model.apps.contains_key("a"));
}

#[test]
fn one_file_per_app() {
    let first = build_apps(LISTENER, &[app("a", &web(2))], None);
    let twice =
        [app("a", &web(2)), (AppName::new("a").unwrap(), source("apps.d/a.yaml", "{}", Format::Yaml))];
    let built = build_apps(LISTENER, &twice, Some(&first));
    assert_eq!(codes(&built.diagnostics), ["duplicate_app", "duplicate_app"]);
    assert!(Arc::ptr_eq(built.model.apps.get("a").unwrap(), first.model.apps.get("a").unwrap()));
    let built = build_apps(&format!("{LISTENER}{}", web(2)), &[app("default", &web(3))], None);
    assert_eq!(codes(&built.diagnostics), ["reserved_app"]);
    assert_eq!(
        built.model.apps.get("default").unwrap().clusters["web"].endpoints[1].id.as_str(),
        "1.1.1.1:2"
    );
}

#[test]
fn a_bad_process_file_is_not_taken() {
    let first = build_apps(LISTENER, &[app("a", &web(2))], None);
    let main = toml("[listener.edge]\n");
    let apps = [app("a", "[[")];
    let input = Input { main: &main, apps: &apps, previous: Some(&first.model), hosts: &first.hosts };
    let found = build(input).unwrap_err();
    assert_eq!(codes(&found), ["missing_key", "syntax"]);
}

#[test]
fn keys_that_need_a_restart_are_named() {
    let process = |text: &str| build_one(&toml(&format!("{text}\n{LISTENER}"))).unwrap().process;
    let base = process("");
    for (text, keys) in [
        ("", &[][..]),
        ("telemetry = { address = \"off\" }", &["telemetry.address"]),
        ("control = { address = \"off\" }", &["control.address"]),
        ("control = { token_file = \"t\" }", &["control.token_file"]),
        ("control = { hosts = [\"a\"] }", &["control.hosts"]),
        ("control = { stuck_after = \"5s\" }", &["control.stuck_after"]),
        ("run_dir = \"r\"\nworkers = 2", &["run_dir", "workers"]),
        ("drain_timeout = \"1s\"\ndrain_grace = \"0s\"", &["drain_timeout", "drain_grace"]),
        ("access_log = { format = \"logfmt\", to = \"./log\" }", &["access_log.format", "access_log.to"]),
        ("max_connections = 5", &["max_connections"]),
    ] {
        assert_eq!(restart_needed(&base, &process(text)), keys, "{text}");
    }
}
