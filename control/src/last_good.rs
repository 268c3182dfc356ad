//! The last good table: the texts of the sources in force and what DNS knew, enough to build the Model again when
//! the file can no longer be read or parsed.
//!
//! A JSON file, replaced atomically, coalesced by its writer to at most one a second and never awaited. Holds no
//! API endpoints; those are the journal's. Usable only for the path it was made from.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ekiden_config::names::{AppName, ClusterName, EndpointId};
use ekiden_config::{Format, HostOwners, Source};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time;

use crate::clock::unix_ms;
use crate::desired::placements::{HeldWords, PlacementWords};
use crate::dns::Service;
use crate::dns::names::Names;
use crate::files;
use crate::load::Accepted;
use crate::overlay::ClusterKey;
use crate::placement::discovered::{Discovered, Remembered};
use crate::placement::part::Entry;
use crate::placement::removals::Rules;
use crate::sources::Sources;
use crate::status::StatusCell;
use crate::store::etcd::Values;
use crate::tenure::Tenure;

/// File name inside the run directory.
const NAME: &str = "last-good.json";
/// Version of the file's shape; another version is not read.
const VERSION: u32 = 1;
/// Shortest time between two writes.
const WRITE_EVERY: Duration = Duration::from_secs(1);
/// Time before a failed write is tried again.
const RETRY_EVERY: Duration = Duration::from_secs(10);

/// What is saved.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LastGood {
    version: u32,
    /// Absolute path of the process file it was made from.
    path: String,
    /// When, in milliseconds since the Unix epoch.
    pub(crate) saved_unix_ms: u64,
    main: Text,
    apps: BTreeMap<String, Text>,
    hosts: HostOwners,
    /// Last addresses of every DNS name.
    dns: BTreeMap<String, BTreeSet<IpAddr>>,
    /// Last targets of every service.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    services: BTreeMap<String, BTreeSet<Service>>,
    /// Addresses chosen for names with an id.
    chosen: Vec<Chosen>,
    /// Last values of keys of etcds, by what clusters call them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    keys: BTreeMap<Arc<str>, Values>,
    /// What serves of them beside that.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    beside: BTreeMap<Arc<str>, Beside>,
}

/// What serves of a prefix of keys though its keys do not say so now.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Beside {
    held: HeldWords,
    /// By key: what it said before a value that is refused.
    before: BTreeMap<Arc<str>, PlacementWords>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Text {
    file: String,
    format: String,
    text: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Chosen {
    app: String,
    cluster: String,
    id: String,
    address: IpAddr,
}

/// What the writer saves next: made cheaply by the control loop, turned into texts off it.
#[derive(Debug, Clone)]
pub(crate) struct Unsaved {
    /// Absolute path of the process file.
    pub(crate) path: PathBuf,
    /// What is in force.
    pub(crate) accepted: Arc<Accepted>,
    /// What DNS knows.
    pub(crate) names: Names,
    /// What is known of keys of etcds, by what clusters call them.
    pub(crate) keys: BTreeMap<Arc<str>, Remembered>,
}

impl Beside {
    fn of(known: &Remembered) -> Self {
        let words = |entry: &Entry| PlacementWords::of(&entry.endpoint, entry.condition);
        let before = known.before.iter().map(|(key, entry)| (Arc::clone(key), words(entry)));
        Self { held: HeldWords::of(&known.held), before: before.collect() }
    }

    fn with(&self, keys: Values) -> Remembered {
        let before = self.before.iter();
        let before = before.filter_map(|(key, words)| Some((Arc::clone(key), words.entry(key).ok()?)));
        Remembered { keys, held: self.held.kept(), before: before.collect() }
    }
}

fn text_of(source: &Source) -> Text {
    let format = match source.format {
        Format::Toml => "toml",
        Format::Yaml => "yaml",
        Format::Json => "json",
    };
    Text { file: source.file.clone(), format: format.to_owned(), text: source.text.clone() }
}

fn source_of(text: &Text) -> Option<Source> {
    let format = match text.format.as_str() {
        "toml" => Format::Toml,
        "yaml" => Format::Yaml,
        "json" => Format::Json,
        _ => return None,
    };
    Some(Source { file: text.file.clone(), text: text.text.clone(), format })
}

impl LastGood {
    /// From what is in force.
    pub(crate) fn new(unsaved: &Unsaved) -> Self {
        let Unsaved { path, accepted, names, keys } = unsaved;
        let (sources, hosts) = (&accepted.sources, &accepted.built.hosts);
        let known = names.known().filter(|(_, known)| !known.addresses.is_empty());
        let services = names.known().filter(|(_, known)| !known.services.is_empty());
        let chosen = names.chosen().map(|((place, id), address)| Chosen {
            app: place.app.to_string(),
            cluster: place.cluster.to_string(),
            id: id.to_string(),
            address: *address,
        });
        let beside = keys.iter().map(|(name, known)| (Arc::clone(name), Beside::of(known)));
        Self {
            version: VERSION,
            path: path.to_string_lossy().into_owned(),
            saved_unix_ms: unix_ms(),
            main: text_of(&sources.main),
            apps: sources.apps.iter().map(|(app, source)| (app.to_string(), text_of(source))).collect(),
            hosts: hosts.clone(),
            dns: known.map(|(name, known)| (name.to_string(), known.addresses.clone())).collect(),
            services: services.map(|(name, known)| (name.to_string(), known.services.clone())).collect(),
            chosen: chosen.collect(),
            keys: keys.iter().map(|(name, known)| (Arc::clone(name), Arc::clone(&known.keys))).collect(),
            beside: beside.filter(|(_, beside)| *beside != Beside::default()).collect(),
        }
    }

    /// Reads the last good table of a run directory. `None`: there is none made from this path; the error says why
    /// one that is there cannot be used. Blocking.
    pub(crate) fn read(dir: &Path, path: &Path) -> Result<Option<Self>, String> {
        let file = dir.join(NAME);
        let bytes = match std::fs::read(&file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("{}: {error}", file.display())),
        };
        let saved: Self =
            serde_json::from_slice(&bytes).map_err(|error| format!("{}: {error}", file.display()))?;
        if saved.version != VERSION {
            return Err(format!("{} has the unknown version {}", file.display(), saved.version));
        }
        Ok((saved.path == path.to_string_lossy()).then_some(saved))
    }

    /// Writes it. Blocking.
    fn write(&self, dir: &Path) -> std::io::Result<()> {
        files::replace(&dir.join(NAME), &serde_json::to_vec(self)?)
    }

    /// The texts it was made from; `None` when they make no sense.
    pub(crate) fn sources(&self) -> Option<Sources> {
        let apps = self.apps.iter().map(|(app, text)| Some((AppName::new(app).ok()?, source_of(text)?)));
        Some(Sources {
            main: source_of(&self.main)?,
            apps: apps.collect::<Option<_>>()?,
            unreadable: Vec::new(),
            diagnostics: Vec::new(),
        })
    }

    /// Who owned which host.
    pub(crate) fn hosts(&self) -> &HostOwners {
        &self.hosts
    }

    /// What keys of etcds said, and what serves of them beside that, as of this time.
    pub(crate) fn discovered(&self, now_ms: u64) -> Discovered {
        let (mut discovered, none) = (Discovered::default(), Beside::default());
        let all = self.keys.iter().map(|(name, keys)| {
            (Arc::clone(name), self.beside.get(name).unwrap_or(&none).with(Arc::clone(keys)))
        });
        // Nothing is in force yet, so nothing is taken away.
        discovered.remember(all, (Rules { share: 100, hold_ms: 0 }, now_ms));
        discovered
    }

    /// What DNS knew.
    pub(crate) fn names(&self) -> Names {
        let known = self
            .dns
            .iter()
            .map(|(name, addresses)| (Arc::from(name.as_str()), addresses.clone(), BTreeSet::new()));
        let services = self
            .services
            .iter()
            .map(|(name, services)| (Arc::from(name.as_str()), BTreeSet::new(), services.clone()));
        let chosen = self.chosen.iter().filter_map(|chosen| {
            let app = AppName::new(&chosen.app).ok()?;
            let cluster = ClusterName::new(&chosen.cluster).ok()?;
            Some(((ClusterKey { app, cluster }, EndpointId::new(&chosen.id).ok()?), chosen.address))
        });
        let mut names = Names::default();
        names.remember(known.chain(services), chosen);
        names
    }
}

/// Writes the newest value, at most one a second; writes a last time when the sender is gone. Errors are loud in
/// log and status and tried again. A term that is void writes nothing.
pub(crate) async fn write_behind(
    dir: PathBuf,
    mut newest: watch::Receiver<Option<Unsaved>>,
    (status, tenure): (StatusCell, Tenure),
) {
    let mut failed = false;
    loop {
        let more = tokio::select! {
            changed = newest.changed() => changed.is_ok(),
            () = time::sleep(RETRY_EVERY), if failed => true,
        };
        let value = newest.borrow_and_update().clone();
        if let Some(value) = value {
            failed = !save(&dir, value, (&status, &tenure)).await;
        }
        if !more {
            return;
        }
        tokio::select! {
            () = time::sleep(WRITE_EVERY) => {}
            // Shutting down: do not wait out the second.
            () = closed(newest.clone()) => {}
        }
    }
}

/// Returns when the sender is gone.
async fn closed(mut newest: watch::Receiver<Option<Unsaved>>) {
    while newest.changed().await.is_ok() {}
}

async fn save(dir: &Path, value: Unsaved, (status, tenure): (&StatusCell, &Tenure)) -> bool {
    let (place, tenure) = (dir.to_owned(), tenure.clone());
    let write = move || tenure.write(|| LastGood::new(&value).write(&place)).unwrap_or(Ok(()));
    let error = match tokio::task::spawn_blocking(write).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(error) => Some(error.to_string()),
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
    use ekiden_config::model::DnsEndpoint;

    use super::*;
    use crate::placement::discovered::Followed;
    use crate::settings::Options;

    const NAME: &str = "etcd:main/web/";
    const HALF: Rules = Rules { share: 50, hold_ms: 300_000 };

    fn heard(all: &[(String, String)]) -> Followed {
        let keys = all.iter().map(|(key, value)| (Arc::from(key.as_str()), Arc::from(value.as_str())));
        Followed { name: NAME.into(), keys: Ok(Arc::new(keys.collect())) }
    }

    fn served(discovered: &Discovered) -> Vec<String> {
        let name = DnsEndpoint { id: None, name: NAME.into(), port: 0, weight: 1, zone: None, priority: 0 };
        let all = discovered.expand(&[name]);
        all.iter().map(|one| format!("{} {} {}", one.id, one.address, one.weight)).collect()
    }

    /// What a process began with that was started at this time.
    fn written_and_read(dir: &Path, discovered: &Discovered, now_ms: u64) -> Discovered {
        let file = dir.join("ekiden.toml");
        std::fs::write(&file, "[listener.edge]\naddress = \"127.0.0.1:8080\"\n").unwrap();
        let options = Options { file: file.clone(), run_dir: Some(dir.to_owned()), ..Options::default() };
        let loaded = crate::load(options).unwrap();
        let unsaved = Unsaved {
            path: file.clone(),
            accepted: Arc::new(loaded.accepted),
            names: Names::default(),
            keys: discovered.known().map(|(name, known)| (Arc::clone(name), known)).collect(),
        };
        LastGood::new(&unsaved).write(dir).unwrap();
        LastGood::read(dir, &file).unwrap().unwrap().discovered(now_ms)
    }

    #[test]
    fn what_is_held_of_a_prefix_and_what_refused_keys_said_before_outlives_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let all: Vec<(String, String)> = (0..10)
            .map(|n| (format!("k{n}"), format!(r#"{{"address":"10.0.0.{n}:80","weight":{}}}"#, n + 1)))
            .collect();
        let mut discovered = Discovered::default();
        discovered.absorb(heard(&all), HALF, 100_000);
        let before = served(&discovered);
        let mut left = vec![all[0].clone()];
        left[0].1 = "nonsense".to_owned();
        assert_eq!(discovered.absorb(heard(&left), HALF, 200_000).held, Some(9));
        assert_eq!((before.len(), served(&discovered)), (10, before.clone()));

        let mut next = written_and_read(dir.path(), &discovered, 210_000);
        assert_eq!(served(&next), before);
        let (_, status) = next.statuses().next().unwrap();
        assert_eq!((status.state, status.held.len(), status.held_until_unix_ms), ("held", 9, Some(500_000)));
        // The same is read again: nothing goes, and the time is the one it was.
        next.absorb(heard(&left), HALF, 220_000);
        assert_eq!((served(&next), next.due_ms()), (before.clone(), Some(500_000)));
        // And over one more start.
        let mut third = written_and_read(dir.path(), &next, 230_000);
        assert_eq!(served(&third), before);
        assert!(third.confirm(NAME, 240_000));
        assert_eq!(served(&third), before[..1], "what the refused key said before serves on");
        // What was let go stays gone; so does what is held no longer when the next one begins.
        assert_eq!(served(&written_and_read(dir.path(), &third, 250_000)), before[..1]);
        assert_eq!(served(&written_and_read(dir.path(), &next, 500_001)), before[..1]);
    }
}
