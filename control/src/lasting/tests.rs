//! What the next runtime of a process begins with. No stuck loop is needed for that: being replaced does not ask whether it is one.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use ekiden_config::doors::{EndpointStatus, Generation, Publisher, Verdict};
use ekiden_config::model::{Endpoint, Model, Owner};
use ekiden_config::names::{AppName, ClusterName, EndpointId};
use serde_json::json;

use super::*;
use crate::address::AddressFlag;
use crate::control::Control;
use crate::desired::{AppWords, app_key, write};
use crate::dns::{Answer, ResolveError, Resolving};
use crate::overlay::Key;

use crate::store::{Journal, Record, Standing, Store, Txn};

/// Bound of waits that end by themselves.
const IN_TIME: Duration = Duration::from_secs(60);

/// Hands on what is published.
struct Workers(Sender<Arc<Model>>);

impl Publisher for Workers {
    fn publish(&mut self, model: Arc<Model>) -> Ticket {
        let ticket = Ticket::new();
        ticket.end(Verdict::Applied { generation: Generation(1), refused: Vec::new() });
        // The test may be over.
        let _ = self.0.send(model);
        ticket
    }
}

struct Nothing;

impl Inspect for Nothing {
    fn generation(&self) -> Generation {
        Generation(1)
    }

    fn endpoints(&self, _app: &AppName, _cluster: &ClusterName) -> Option<Vec<EndpointStatus>> {
        None
    }
}

/// A name server that can go away.
#[derive(Default)]
struct Names {
    is_gone: AtomicBool,
}

impl Resolve for Names {
    fn resolve(&self, _name: Arc<str>) -> Resolving {
        let is_gone = self.is_gone.load(Ordering::Relaxed);
        Box::pin(async move {
            if is_gone {
                return Err(ResolveError::Failed("it is gone".to_owned()));
            }
            let addresses = vec!["10.1.0.1".parse().unwrap()];
            Ok(Answer { addresses, services: Vec::new(), ttl: Duration::ZERO, unknown: None })
        })
    }
}

const MAIN: &str = r#"
apps = "apps.d"
[listener.edge]
address = "127.0.0.1:18080"
[cluster.web]
endpoints = ["127.0.0.1:13000"]
[cluster.named]
endpoints = ["web.internal:80"]
[[route]]
cluster = "web"
"#;
const BLUE: &str = r#"
[cluster.main]
endpoints = ["127.0.0.1:14000"]
[[route]]
host = "blue.example"
cluster = "main"
"#;

/// A directory with files of a configuration.
fn directory() -> (tempfile::TempDir, Options) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ekiden.toml");
    fs::write(&file, MAIN).unwrap();
    fs::create_dir_all(dir.path().join("apps.d")).unwrap();
    fs::create_dir_all(dir.path().join("run")).unwrap();
    fs::write(dir.path().join("apps.d/blue.toml"), BLUE).unwrap();
    let run_dir = Some(dir.path().join("run"));
    let options = Options {
        file,
        run_dir,
        telemetry: AddressFlag::Off,
        control: AddressFlag::Off,
        ..Options::default()
    };
    (dir, options)
}

/// A journal with an endpoint and an app of the API, and a mark.
fn journal(dir: &Path) {
    let key = |id: &str| Key {
        app: AppName::new("default").unwrap(),
        cluster: ClusterName::new("web").unwrap(),
        id: EndpointId::new(id).unwrap(),
    };
    let extra = Endpoint {
        id: EndpointId::new("extra").unwrap(),
        address: crate::address::parse_address("127.0.0.1:13001").unwrap(),
        tags: None,
        weight: 1,
        priority: 0,
        drain: false,
        owner: Owner::Api,
    };
    let spec = json!({
        "cluster": { "main": { "endpoints": ["127.0.0.1:15000"] } },
        "route": [{ "host": "green.example", "cluster": "main" }],
    });
    let green = AppName::new("green").unwrap();
    let writes = vec![
        Record::Put(key("extra"), Arc::new(extra), Standing::Beside).write(),
        Record::Mark(key("127.0.0.1:13000"), true).write(),
        write(app_key(&green), &AppWords { spec, adopted: false, version: 1 }),
    ];
    let (journal, _) = Journal::open(dir).unwrap();
    let runtime = Builder::new_current_thread().build().unwrap();
    runtime.block_on(journal.commit(Txn { when: Vec::new(), writes })).unwrap();
}

/// All endpoints of a table.
fn served(model: &Model) -> Vec<String> {
    let clusters =
        model.apps.values().flat_map(|app| app.clusters.values().map(move |cluster| (app, cluster)));
    let one = |(app, cluster): (&AppName, &ClusterName), one: &Endpoint| {
        format!("{app}/{cluster} {} {}{}", one.id, one.address, if one.drain { " drain" } else { "" })
    };
    clusters
        .flat_map(|(app, cluster)| {
            cluster.endpoints.iter().map(move |end| one((&app.name, &cluster.name), end))
        })
        .collect()
}

fn start(options: Options, names: &Arc<Names>) -> (Control, Receiver<Arc<Model>>) {
    let (models, published) = channel();
    let names: Arc<dyn Resolve> = names.clone();
    let control = Control::start_with(
        crate::load(options).unwrap(),
        Box::new(Workers(models)),
        Arc::new(Nothing),
        names,
    );
    (control.unwrap(), published)
}

/// What is published once it has the address of the name.
fn named(published: &Receiver<Arc<Model>>) -> Vec<String> {
    loop {
        let all = served(&published.recv_timeout(IN_TIME).unwrap());
        if all.iter().any(|one| one.contains("10.1.0.1")) {
            return all;
        }
    }
}

#[test]
fn the_next_runtime_publishes_what_serves_though_nothing_could_be_saved() {
    let (dir, options) = directory();
    journal(&dir.path().join("run"));
    // No lock can be taken: the run directory cannot be used.
    fs::remove_file(dir.path().join("run/lock")).unwrap_or_default();
    fs::create_dir(dir.path().join("run/lock")).unwrap();
    let names = Arc::new(Names::default());
    let (control, published) = start(options, &names);
    assert!(control.status().run_dir_error.is_some());
    let before = named(&published);
    for part in ["blue/main", "green/main", "default/web extra", "127.0.0.1:13000 drain"] {
        assert!(before.iter().any(|one| one.contains(part)), "{part}: {before:?}");
    }

    names.is_gone.store(true, Ordering::Relaxed);
    fs::write(dir.path().join("apps.d/blue.toml"), "[cluster.main\n").unwrap();
    fs::remove_dir_all(dir.path().join("run")).unwrap();
    for _ in 0..2 {
        assert!(matches!(control.runs().restart(), After::Watch(_)));
        assert_eq!(served(&published.recv_timeout(IN_TIME).unwrap()), before);
    }
    // Not even a file to begin with.
    fs::write(dir.path().join("ekiden.toml"), "[listener.edge\n").unwrap();
    assert!(matches!(control.runs().restart(), After::Watch(_)));
    assert_eq!(served(&published.recv_timeout(IN_TIME).unwrap()), before);
    control.stop();
}

#[test]
fn a_reload_does_not_wait_for_a_runtime_that_is_being_begun() {
    let (_dir, options) = directory();
    let (control, published) = start(options, &Arc::default());
    named(&published);
    let begun = control.runs().now.lock().unwrap();
    control.reload();
    drop(begun);
    assert_eq!(control.status().reloads.accepted, 0, "nobody was told yet");
    assert!(matches!(control.runs().restart(), After::Watch(_)));
    let until = Instant::now() + IN_TIME;
    while control.status().reloads.accepted == 0 {
        assert!(Instant::now() < until, "the reload is lost");
        thread::sleep(LOOK);
    }
    control.stop();
}
