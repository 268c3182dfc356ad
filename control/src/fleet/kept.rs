//! The last good table of a router: its process file, the objects of the highest generation, and the documents that serve in place
//! of refused ones. Enough to serve again without control.
//!
//! One file of lines, replaced atomically, written at most once a second and never awaited; its last line says that it is whole.
//! Usable only for the process file it was made with.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ekiden_config::model::Endpoint;
use ekiden_config::names::AppName;
use ekiden_config::{Format, Source};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::dial::Have;
use super::table::{Endpoints, Objects, Touched};
use super::wire::{
    APPS, HOLDS, HOSTS, MAINTENANCE, WATCHES, endpoint_key, endpoint_value, hold_value, maintenance_value,
    object,
};
use crate::clock::unix_ms;
use crate::files;
use crate::overlay::ClusterKey;
use crate::status::StatusCell;

/// File name inside the run directory.
const NAME: &str = "fleet.jsonl";
/// Version of the file's shape; another version is not read.
const VERSION: u32 = 1;
/// Bytes that are written at once.
const BUFFER: usize = 64 << 10;
/// Shortest time between two writes.
const WRITE_EVERY: Duration = Duration::from_secs(1);
/// The nice value of the thread that writes: after everything else there is to do.
const NICE: i32 = 19;
/// Longest pause between two: on a busy machine a write takes long, and what is kept should not be old.
const WRITE_AT_LEAST_EVERY: Duration = Duration::from_secs(60);
/// Time before a failed write is tried again.
const RETRY_EVERY: Duration = Duration::from_secs(10);

/// What is kept.
#[derive(Debug, Clone, Default)]
pub(super) struct Kept {
    /// The process file it served with.
    pub(super) main: Option<Source>,
    /// What control had said.
    pub(super) objects: Arc<Objects>,
    /// Documents that served in place of refused ones.
    pub(super) in_force: Arc<BTreeMap<AppName, Arc<str>>>,
    /// Endpoints of clusters that only those have.
    pub(super) held: Endpoints,
    /// Their term and generation.
    pub(super) have: Have,
    /// When control had last been heard, in milliseconds since the Unix epoch.
    pub(super) heard_unix_ms: u64,
}

#[derive(Serialize, Deserialize)]
struct Head {
    version: u32,
    path: String,
    term: u64,
    generation: u64,
    heard_unix_ms: u64,
    file: String,
    format: String,
    text: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Head(Head),
    Object(String, Value),
    InForce(String, String),
    Held(String, Value),
    End { lines: u64, crc32: u32 },
}

/// Lines on their way into a file, with their number and checksum: the whole text of a large table is never in memory.
struct Lines<W> {
    out: W,
    sum: crc32fast::Hasher,
    count: u64,
    /// The line that is being written.
    text: Vec<u8>,
}

impl<W: Write> Lines<W> {
    fn push(&mut self, line: &Line) -> io::Result<()> {
        self.text.clear();
        serde_json::to_writer(&mut self.text, line)?;
        self.text.push(b'\n');
        self.sum.update(&self.text);
        self.count += 1;
        self.out.write_all(&self.text)
    }

    /// Says that everything is there.
    fn end(mut self) -> io::Result<()> {
        let (lines, crc32) = (self.count, self.sum.clone().finalize());
        self.push(&Line::End { lines, crc32 })?;
        self.out.flush()
    }
}

/// Every endpoint with its cluster.
fn each(all: &Endpoints) -> impl Iterator<Item = (&ClusterKey, &Endpoint)> {
    all.iter().flat_map(|(place, list)| list.iter().map(move |endpoint| (place, &**endpoint)))
}

impl Kept {
    fn write(&self, path: &Path, out: impl Write) -> io::Result<()> {
        let empty = Source { file: String::new(), text: String::new(), format: Format::Toml };
        let main = self.main.as_ref().unwrap_or(&empty);
        let format = match main.format {
            Format::Toml => "toml",
            Format::Yaml => "yaml",
            Format::Json => "json",
        };
        let head = Head {
            version: VERSION,
            path: path.to_string_lossy().into_owned(),
            term: self.have.term,
            generation: self.have.generation,
            heard_unix_ms: self.heard_unix_ms,
            file: main.file.clone(),
            format: format.to_owned(),
            text: main.text.clone(),
        };
        let out = BufWriter::with_capacity(BUFFER, out);
        let mut lines = Lines { out, sum: crc32fast::Hasher::new(), count: 0, text: Vec::new() };
        lines.push(&Line::Head(head))?;
        for (name, text) in &self.objects.apps {
            lines.push(&Line::Object(format!("{APPS}{name}"), serde_json::from_str(text)?))?;
        }
        for (host, app) in &*self.objects.hosts {
            lines.push(&Line::Object(format!("{HOSTS}{host}"), Value::from(app.as_str())))?;
        }
        for (app, page) in &self.objects.maintenance {
            lines.push(&Line::Object(format!("{MAINTENANCE}{app}"), maintenance_value(page.as_deref())))?;
        }
        for (app, policy) in &self.objects.holds {
            lines.push(&Line::Object(format!("{HOLDS}{app}"), hold_value(*policy)))?;
        }
        for app in &self.objects.watched {
            lines.push(&Line::Object(format!("{WATCHES}{app}"), json!({})))?;
        }
        for (place, endpoint) in each(&self.objects.endpoints) {
            let key = endpoint_key(&place.app, &place.cluster, &endpoint.id);
            lines.push(&Line::Object(key, endpoint_value(endpoint)))?;
        }
        for (place, endpoint) in each(&self.held) {
            let key = endpoint_key(&place.app, &place.cluster, &endpoint.id);
            lines.push(&Line::Held(key, endpoint_value(endpoint)))?;
        }
        for (name, text) in &*self.in_force {
            if self.objects.apps.get(name) != Some(text) {
                lines.push(&Line::InForce(name.to_string(), text.to_string()))?;
            }
        }
        lines.end()
    }

    /// Reads the last good table of a run directory. `None`: there is none made with this process file; the error says why one that
    /// is there cannot be used. Blocking.
    pub(super) fn read(dir: &Path, path: &Path) -> Result<Option<Self>, String> {
        let file = dir.join(NAME);
        let bytes = match std::fs::read(&file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("{}: {error}", file.display())),
        };
        Self::parse(&bytes, path).map_err(|error| format!("{}: {error}", file.display()))
    }

    fn parse(bytes: &[u8], path: &Path) -> Result<Option<Self>, String> {
        let text = |error: serde_json::Error| error.to_string();
        let body = bytes.strip_suffix(b"\n").ok_or("it is torn")?;
        let last = body.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let (told, end) = body.split_at(last);
        let Line::End { lines, crc32 } = serde_json::from_slice(end).map_err(text)? else {
            return Err("it is torn".to_owned());
        };
        if crc32 != crc32fast::hash(told) {
            return Err("its checksum is wrong".to_owned());
        }
        let (mut kept, mut count, mut touched) = (Self::default(), 0, Touched::default());
        let (mut objects, mut held, mut in_force) = (Objects::default(), Objects::default(), BTreeMap::new());
        let mut ours = false;
        for line in told.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            count += 1;
            match serde_json::from_slice(line).map_err(text)? {
                Line::Head(head) => {
                    if head.version != VERSION {
                        return Err(format!("it has the unknown version {}", head.version));
                    }
                    ours = head.path == path.to_string_lossy();
                    kept.have = Have { term: head.term, generation: head.generation };
                    kept.heard_unix_ms = head.heard_unix_ms;
                    let format = match head.format.as_str() {
                        "yaml" => Format::Yaml,
                        "json" => Format::Json,
                        _ => Format::Toml,
                    };
                    kept.main = Some(Source { file: head.file, text: head.text, format });
                }
                Line::Object(key, value) => objects.take(object(&key, Some(value))?, &mut touched),
                Line::Held(key, value) => held.take(object(&key, Some(value))?, &mut touched),
                Line::InForce(name, text) => {
                    let name = AppName::new(&name).map_err(|error| error.to_string())?;
                    in_force.insert(name, Arc::from(text));
                }
                Line::End { .. } => return Err("it ends twice".to_owned()),
            }
            touched.endpoints.clear();
        }
        objects.shrink();
        if count != lines {
            return Err(format!("{count} of {lines} lines are there"));
        }
        for (name, text) in &objects.apps {
            in_force.entry(name.clone()).or_insert_with(|| Arc::clone(text));
        }
        kept.in_force = Arc::new(in_force);
        (kept.objects, kept.held) = (Arc::new(objects), held.endpoints);
        Ok(ours.then_some(kept))
    }

    /// The objects with the documents that are known to serve, and the endpoints that only these have.
    pub(super) fn good(&self) -> Objects {
        let mut all = Objects { apps: BTreeMap::clone(&self.in_force), ..Objects::clone(&self.objects) };
        all.endpoints.extend(self.held.clone());
        all
    }
}

/// Hands values to the writer when it has time for one: who holds one keeps the objects of the agent from being changed in place.
#[derive(Debug, Clone)]
pub(super) struct Keeper {
    values: mpsc::Sender<Kept>,
    is_free: Arc<AtomicBool>,
}

/// The writer's end of a [`Keeper`].
#[derive(Debug)]
pub(super) struct KeeperInlet {
    values: mpsc::Receiver<Kept>,
    is_free: Arc<AtomicBool>,
}

/// A keeper with its writer's end. Nothing is taken until the writer runs.
pub(super) fn keeper() -> (Keeper, KeeperInlet) {
    let (outlet, values) = mpsc::channel(2);
    let is_free: Arc<AtomicBool> = Arc::default();
    (Keeper { values: outlet, is_free: Arc::clone(&is_free) }, KeeperInlet { values, is_free })
}

impl Keeper {
    /// Gives a value away if the writer has time, or at the end; whether it did.
    pub(super) fn offer(&self, is_last: bool, value: impl FnOnce() -> Kept) -> bool {
        (self.is_free.swap(false, Ordering::AcqRel) || is_last) && self.values.try_send(value()).is_ok()
    }
}

/// Writes values, at most one a second; ends when the keeper is gone. Errors are loud in log and status and tried again.
pub(super) async fn write_behind(dir: PathBuf, path: PathBuf, mut inlet: KeeperInlet, status: StatusCell) {
    let mut next: Option<Kept> = None;
    loop {
        inlet.is_free.store(next.is_none(), Ordering::Release);
        let value = match next.take() {
            Some(value) => value,
            None => match inlet.values.recv().await {
                Some(value) => value,
                None => return,
            },
        };
        let begun = Instant::now();
        let failed = !save(&dir, &path, value.clone(), &status).await;
        let kept = failed.then_some(value);
        // Of a large table no more than a twentieth of the time goes into writing.
        let rest = (begun.elapsed() * 20).min(WRITE_AT_LEAST_EVERY);
        let pause = if failed { RETRY_EVERY } else { WRITE_EVERY.max(rest) };
        tokio::select! {
            () = sleep(pause) => next = kept,
            newer = inlet.values.recv() => match newer {
                Some(newer) => next = Some(newer),
                None => return,
            },
        }
    }
}

async fn save(dir: &Path, path: &Path, value: Kept, status: &StatusCell) -> bool {
    let (file, path) = (dir.join(NAME), path.to_owned());
    let (outlet, written) = tokio::sync::oneshot::channel();
    let started = std::thread::Builder::new().name("keep".to_owned()).spawn(move || {
        // The writing of a large table takes a core for seconds, and nobody waits for it. Where the priority cannot be had it
        // does without.
        let _ = rustix::process::setpriority_process(None, NICE);
        // Whoever asked may be gone.
        let _ = outlet.send(files::replace_with(&file, |out| value.write(&path, out)));
    });
    let error = match (started, written.await) {
        (Ok(_), Ok(Ok(()))) => None,
        (Err(error), _) | (_, Ok(Err(error))) => Some(error.to_string()),
        (Ok(_), Err(_)) => Some("the thread that writes it panicked".to_owned()),
    };
    if let Some(error) = &error {
        tracing::error!(%error, dir = %dir.display(), "the last good table could not be saved");
    }
    let saved = error.is_none();
    status.update(|status| {
        if saved {
            status.last_good_unix_ms = Some(unix_ms());
        }
        status.last_good_error = error;
    });
    saved
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> Kept {
        let (mut objects, mut touched) = (Objects::default(), Touched::default());
        for (key, value) in [
            ("app/shop", json!({ "route": [] })),
            ("app/blog", json!({ "cluster": {} })),
            ("host/a.example", json!("shop")),
            ("endpoint/shop/web/x", json!({ "address": "127.0.0.1:1", "weight": 3, "owner": "api" })),
            ("maintenance/shop", json!({ "page": "later" })),
            ("maintenance/blog", json!({})),
            ("hold/shop", json!({ "max": 3, "wait_ms": 4 })),
            ("watch/shop", json!({})),
        ] {
            objects.take(object(key, Some(value)).unwrap(), &mut touched);
        }
        let mut held = Objects::default();
        let value = json!({ "address": "127.0.0.1:2", "weight": 1, "owner": "file" });
        held.take(object("endpoint/blog/old/y", Some(value)).unwrap(), &mut touched);
        let mut in_force = objects.apps.clone();
        in_force.insert(AppName::new("blog").unwrap(), Arc::from("{\"before\":1}"));
        Kept {
            main: Some(Source { file: "r.yaml".to_owned(), text: "a: 1\n".to_owned(), format: Format::Yaml }),
            objects: Arc::new(objects),
            in_force: Arc::new(in_force),
            held: held.endpoints,
            have: Have { term: 7, generation: 9 },
            heard_unix_ms: 5,
        }
    }

    fn bytes(kept: &Kept, path: &Path) -> Vec<u8> {
        let mut bytes = Vec::new();
        kept.write(path, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn what_is_kept_comes_back() {
        let (kept, path) = (kept(), Path::new("/etc/r.yaml"));
        let bytes = bytes(&kept, path);
        let back = Kept::parse(&bytes, path).unwrap().unwrap();
        assert_eq!((&back.objects, &back.in_force), (&kept.objects, &kept.in_force));
        assert_eq!(back.held, kept.held);
        assert_eq!((back.have, back.heard_unix_ms, back.main), (kept.have, 5, kept.main));
        assert!(Kept::parse(&bytes, Path::new("/etc/other.yaml")).unwrap().is_none());
    }

    #[test]
    fn a_damaged_file_is_not_read() {
        let path = Path::new("/etc/r.yaml");
        let bytes = bytes(&kept(), path);
        for cut in 0..bytes.len() {
            assert!(Kept::parse(&bytes[..cut], path).is_err(), "cut at {cut}");
        }
        for at in (0..bytes.len()).step_by(7) {
            let mut torn = bytes.clone();
            torn[at] ^= 1;
            assert!(Kept::parse(&torn, path).is_err(), "flipped at {at}");
        }
    }
}
