//! Every shipped example loads, without a warning, and the README's smallest file means what it says.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::model::*;
use crate::names::*;

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
}

fn load(path: &Path) -> Source {
    let format = Format::of_path(path).unwrap_or_else(|| panic!("{}", path.display()));
    let file = path.file_name().unwrap().to_str().unwrap().to_owned();
    Source { file, text: std::fs::read_to_string(path).unwrap(), format }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.is_file());
    files.sort();
    files
}

fn build_example(path: &Path) -> Built {
    let main = load(path);
    let first = build_one(&main).unwrap_or_else(|found| panic!("{}: {}", path.display(), join(&found)));
    let Some(dir) = &first.apps_dir else { return first };
    let apps: Vec<_> = files(&examples().join(dir))
        .iter()
        .map(|path| (AppName::new(path.file_stem().unwrap().to_str().unwrap()).unwrap(), load(path)))
        .collect();
    assert!(!apps.is_empty(), "{} names an empty directory", path.display());
    build(Input { main: &main, apps: &apps, previous: None, hosts: &HostOwners::default() }).unwrap()
}

fn join(found: &[Diagnostic]) -> String {
    found.iter().map(|d| format!("\n{d}\n")).collect()
}

#[test]
fn every_example_loads_without_a_warning() {
    let files = files(&examples());
    assert!(files.len() >= 8, "{files:?}");
    for path in files {
        let built = build_example(&path);
        assert!(built.diagnostics.is_empty(), "{}: {}", path.display(), join(&built.diagnostics));
        assert!(built.model.route_count() > 0, "{}", path.display());
    }
}

#[test]
fn the_same_example_in_three_formats() {
    let of = |name: &str| build_example(&examples().join(name));
    assert_eq!(of("weighted.toml").model, of("weighted.yaml").model);
    assert_eq!(of("smallest.toml").model, of("smallest.json").model);
}

#[test]
fn smallest() {
    let built = build_example(&examples().join("smallest.toml"));
    let model = &built.model;
    let listener = &model.listeners["edge"];
    assert_eq!(listener.address, Address::Tcp("127.0.0.1:8080".parse().unwrap()));
    assert_eq!((listener.role, listener.limits), (Role::Edge, HttpLimits::default()));
    assert!(listener.trust.is_empty());
    let app = model.apps.get("default").unwrap();
    let cluster = &app.clusters["web"];
    let ids: Vec<_> = cluster.endpoints.iter().map(|endpoint| endpoint.id.as_str()).collect();
    assert_eq!(ids, ["127.0.0.1:3000", "127.0.0.1:3001"]);
    assert_eq!(
        cluster.policy.probe,
        Some(ProbePolicy {
            kind: ProbeKind::Http {
                path: "/healthz".into(),
                host: None,
                status: (200, 299),
                body: None,
                send_proxy: None
            },
            interval: Duration::from_secs(2),
            timeout: Duration::from_secs(1),
            rise: 2,
            fall: 3,
        })
    );
    let route = &app.routes[0];
    assert_eq!(route.name, RouteName::new("route-1").unwrap());
    assert_eq!(route.host, HostMatch::Exact("example.com".into()));
    assert_eq!(route.path, PathMatch::Prefix("/".into()));
    assert_eq!((route.timeouts, route.attempts), (Timeouts::default(), 3));
    let Action::Forward(forward) = &route.action else { panic!("{:?}", route.action) };
    assert_eq!(forward.clusters[0].cluster, ClusterName::new("web").unwrap());
    assert_eq!(
        built.process,
        Process {
            telemetry: Some(Address::Tcp("127.0.0.1:9901".parse().unwrap())),
            control: ControlAddress::Default,
            control_token_file: None,
            control_hosts: vec![],
            removals: Default::default(),
            control_stuck_after: Duration::from_secs(30),
            run_dir: None,
            workers: None,
            drain_timeout: Duration::from_secs(30),
            drain_grace: Duration::from_secs(1),
            access_log: AccessLog { format: LogFormat::Json, to: LogTarget::Stdout },
            max_connections: None,
            overload: Default::default(),
            fleet: Default::default(),
            place: Default::default(),
            etcd: None,
            discoveries: Default::default(),
        }
    );
}

/// `full.toml` writes every key that has one; the defaults it writes are those of the reference.
#[test]
fn the_full_example_names_every_key() {
    let text = std::fs::read_to_string(examples().join("full.toml")).unwrap();
    let schema = crate::schema();
    let tables = std::iter::once(&schema).chain(schema["$defs"].as_object().unwrap().values());
    for key in tables.flat_map(|table| table["properties"].as_object().unwrap().keys()) {
        let found = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|word| word == key);
        assert!(found, "full.toml does not show the key `{key}`");
    }
}
