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
use crate::dns::Service;
use crate::dns::names::Names;
use crate::files;
use crate::load::Accepted;
use crate::overlay::ClusterKey;
use crate::placement::discovered::Discovered;
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
    /// Values of keys of etcds, by what clusters call them.
    pub(crate) keys: BTreeMap<Arc<str>, Values>,
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
    fn new(unsaved: &Unsaved) -> Self {
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
            keys: keys.clone(),
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

    /// What keys of etcds said.
    pub(crate) fn discovered(&self) -> Discovered {
        let mut discovered = Discovered::default();
        discovered.remember(self.keys.iter().map(|(name, keys)| (Arc::clone(name), Arc::clone(keys))));
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
