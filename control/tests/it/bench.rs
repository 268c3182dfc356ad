//! A bench: a directory with a configuration, control running on it, and a router that only writes down what it is
//! given. No sleeps: waiting is on condition variables or on [`until`], which has a deadline.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use ekiden_config::doors::{
    AppTraffic, EndpointStatus, Generation, Inspect, Publisher, Refusal, Ticket, Verdict,
};
use ekiden_config::model::{Address, Model};
use ekiden_config::names::{AppName, ClusterName};
use ekiden_control::{
    AddressFlag, Answer, Control, Loaded, Options, Refused, Resolve, ResolveError, Resolving, StartError,
    Status, load,
};
use serde_json::Value;
use tempfile::TempDir;

/// Longest wait for anything.
const DEADLINE: Duration = Duration::from_secs(20);

/// Polls until the question has an answer.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "gave up waiting for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// How the fake router ends its tickets.
#[derive(Debug, Clone, PartialEq)]
pub enum Mode {
    Apply,
    Hold,
    Reject(String),
    Refuse(Vec<Refusal>),
}

/// What the fake router was given.
#[derive(Clone)]
pub struct Router(Arc<(Mutex<Given>, Condvar)>);

/// Models in the order of their publishing, and how the next ticket ends.
type Given = (Vec<Arc<Model>>, Mode);

impl Router {
    fn new() -> Self {
        Self(Arc::new((Mutex::new((Vec::new(), Mode::Apply)), Condvar::new())))
    }

    pub fn set(&self, mode: Mode) {
        self.0.0.lock().unwrap().1 = mode;
    }

    pub fn count(&self) -> usize {
        self.0.0.lock().unwrap().0.len()
    }

    pub fn latest(&self) -> Arc<Model> {
        self.0.0.lock().unwrap().0.last().expect("something was published").clone()
    }

    /// Waits until a published Model is as wanted.
    pub fn wait(&self, what: &str, mut wanted: impl FnMut(&Model) -> bool) -> Arc<Model> {
        let (lock, condition) = &*self.0;
        let guard = lock.lock().unwrap();
        let (guard, timed_out) = condition
            .wait_timeout_while(guard, DEADLINE, |(all, _)| !all.last().is_some_and(|m| wanted(m)))
            .unwrap();
        assert!(!timed_out.timed_out(), "never published: {what}; last was {:?}", guard.0.last());
        guard.0.last().unwrap().clone()
    }
}

impl Publisher for Router {
    fn publish(&mut self, model: Arc<Model>) -> Ticket {
        let mut state = self.0.0.lock().unwrap();
        state.0.push(model);
        let generation = Generation(state.0.len() as u64);
        let ticket = Ticket::new();
        ticket.assign(generation);
        match state.1.clone() {
            Mode::Apply => ticket.end(Verdict::Applied { generation, refused: Vec::new() }),
            Mode::Hold => {}
            Mode::Reject(reason) => ticket.end(Verdict::Rejected { reason }),
            Mode::Refuse(refused) => ticket.end(Verdict::Applied { generation, refused }),
        }
        self.0.1.notify_all();
        ticket
    }
}

impl Inspect for Router {
    fn generation(&self) -> Generation {
        Generation(self.count() as u64)
    }

    fn endpoints(&self, app: &AppName, cluster: &ClusterName) -> Option<Vec<EndpointStatus>> {
        let model = self.latest();
        let cluster = model.apps.get(app)?.clusters.get(cluster)?;
        let status = cluster.endpoints.iter().map(|endpoint| EndpointStatus {
            id: endpoint.id.clone(),
            state: "ready",
            reason: "fake".to_owned(),
            since_unix_ms: 1,
            in_flight: 0,
        });
        Some(status.collect())
    }

    /// Nothing has ended yet.
    fn traffic(&self) -> Option<BTreeMap<AppName, AppTraffic>> {
        Some(BTreeMap::new())
    }
}

/// Names answered from a map that tests change.
#[derive(Default)]
pub struct Names(Mutex<HashMap<String, Vec<&'static str>>>);

impl Names {
    pub fn set(&self, name: &str, addresses: &[&'static str]) {
        self.0.lock().unwrap().insert(name.to_owned(), addresses.to_vec());
    }

    pub fn clear(&self) {
        self.0.lock().unwrap().clear();
    }
}

impl Resolve for Names {
    fn resolve(&self, name: Arc<str>) -> Resolving {
        let found = self.0.lock().unwrap().get(&*name).cloned();
        Box::pin(async move {
            let addresses = found.ok_or(ResolveError::NoSuchName)?;
            let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
            Ok(Answer { addresses, services: Vec::new(), ttl: Duration::ZERO, unknown: None })
        })
    }
}

/// One listener, one cluster with one endpoint, one route.
pub const SMALL: &str = r#"
[listener.edge]
address = "127.0.0.1:18080"
[cluster.web]
endpoints = ["127.0.0.1:13000"]
[[route]]
cluster = "web"
"#;

/// The directory of a bench; outlives the control planes that run on it.
pub struct Bench {
    dir: TempDir,
    pub names: Arc<Names>,
    pub options: Options,
}

impl Bench {
    /// A directory with this text as `ekiden.toml`, a run directory, the API on any free port and no telemetry.
    pub fn new(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            file: dir.path().join("ekiden.toml"),
            telemetry: AddressFlag::Off,
            control: "127.0.0.1:0".parse().unwrap(),
            run_dir: Some(dir.path().join("run")),
            ..Options::default()
        };
        fs::write(&options.file, text).unwrap();
        Self { dir, names: Arc::default(), options }
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Puts a file in place as editors and tools do: a new one, renamed over the old.
    pub fn put(&self, name: &str, text: &str) {
        let (path, fresh) = (self.at(name), self.at("fresh.tmp"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&fresh, text).unwrap();
        fs::rename(fresh, path).unwrap();
    }

    pub fn load(&self) -> Result<Loaded, Refused> {
        load(self.options.clone())
    }

    pub fn try_start(&self) -> Result<Running, StartError> {
        let router = Router::new();
        let loaded = self.load().unwrap();
        let (publisher, inspect) = (Box::new(router.clone()), Arc::new(router.clone()));
        let control = Control::start_with(loaded, publisher, inspect, self.names.clone())?;
        Ok(Running { control, router })
    }

    pub fn start(&self) -> Running {
        self.try_start().unwrap()
    }
}

/// Control at work.
pub struct Running {
    pub control: Control,
    pub router: Router,
}

/// An answer of the API.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: Value,
}

impl Reply {
    pub fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or("")
    }
}

impl Running {
    /// Waits until the status is as wanted.
    pub fn wait(&self, what: &str, mut wanted: impl FnMut(&Status) -> bool) -> Arc<Status> {
        until(what, || Some(self.control.status()).filter(|status| wanted(status)))
    }

    /// Where the API is served: whoever has started control may ask it at once.
    pub fn api(&self) -> AddressFlag {
        self.control.status().api.bound.as_ref().expect("the API is bound").parse().unwrap()
    }

    /// Sends bytes to the API and reads the one answer.
    pub fn raw(&self, request: &str) -> Reply {
        let mut bytes = Vec::new();
        match self.api() {
            AddressFlag::At(Address::Tcp(address)) => {
                exchange(TcpStream::connect(address).unwrap(), request, &mut bytes);
            }
            AddressFlag::At(Address::Unix(path)) => {
                exchange(UnixStream::connect(Path::new(&*path)).unwrap(), request, &mut bytes);
            }
            other => panic!("not an address: {other:?}"),
        }
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body = serde_json::from_str(body).unwrap_or(Value::Null);
        Reply { status, head: head.to_ascii_lowercase(), body }
    }

    /// A well-formed request.
    pub fn ask(&self, method: &str, path: &str, body: &str) -> Reply {
        self.ask_with(method, path, "", body)
    }

    /// As [`Running::ask`] with more head lines, each ended by CRLF.
    pub fn ask_with(&self, method: &str, path: &str, fields: &str, body: &str) -> Reply {
        let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
        let length = body.len();
        self.raw(&format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{kind}{fields}Content-Length: {length}\r\n\r\n{body}"
        ))
    }

    /// PUT of an endpoint of `default/web`.
    pub fn put(&self, id: &str, body: &str) -> Reply {
        self.ask("PUT", &endpoint(id), body)
    }
}

/// Path of an endpoint of `default/web`.
pub fn endpoint(id: &str) -> String {
    format!("/v1/apps/default/clusters/web/endpoints/{id}")
}

fn exchange(mut stream: impl Read + Write, request: &str, into: &mut Vec<u8>) {
    // An early refusal may close the connection while the request is still being written.
    let _ = stream.write_all(request.as_bytes());
    let _ = stream.read_to_end(into);
}

/// `id address` (and ` drain`) of every endpoint of a cluster.
pub fn endpoints(model: &Model, app: &str, cluster: &str) -> Vec<String> {
    let cluster = model.apps.get(app).and_then(|app| app.clusters.get(cluster));
    let all = cluster.into_iter().flat_map(|cluster| cluster.endpoints.iter());
    all.map(|one| format!("{} {}{}", one.id, one.address, if one.drain { " drain" } else { "" })).collect()
}

/// As [`endpoints`] of `default/web`.
pub fn web(model: &Model) -> Vec<String> {
    endpoints(model, "default", "web")
}
