//! What was asked through the API beside endpoints: apps with their numbered versions, releases, formations, and who owns
//! which host. The words of these objects in the store.
//!
//! Pure. The words are a promise to every later version: what is stored today must be read after an upgrade.

pub(crate) mod changes;
pub(crate) mod confirmed;
pub(crate) mod merge;
pub(crate) mod placements;

use std::collections::BTreeMap;
use std::sync::Arc;

use ekiden_config::names::AppName;
use ekiden_config::{Format, HostOwners, Source};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::store::{Object, Write};

/// Where apps are.
pub(crate) const APPS: &str = "apps/";
/// Where versions of apps are.
pub(crate) const VERSIONS: &str = "versions/";
/// Where releases are.
pub(crate) const RELEASES: &str = "releases/";
/// Where formations are.
pub(crate) const FORMATIONS: &str = "formations/";
/// Where apps in maintenance are.
pub(crate) const MAINTENANCE: &str = "maintenance/";
/// Where guarded changes are.
pub(crate) const GUARDS: &str = "guards/";
/// Where held apps are.
pub(crate) const HOLDS: &str = "holds/";
/// Where owners of hosts are.
pub(crate) const HOSTS: &str = "hosts/";
/// Most requests of a held app that may wait.
pub(crate) const HOLD_MAX: u32 = 1_000_000;
/// Longest that one of them waits, in milliseconds.
pub(crate) const HOLD_WAIT_MAX_MS: u64 = 3_600_000;
/// Most apps owned by the API.
pub(crate) const APPS_MAX: usize = 100_000;
/// Versions kept of an app.
pub(crate) const VERSIONS_MAX: usize = 100;
/// Bytes of the versions kept of an app; the newest two are kept whatever they take.
pub(crate) const VERSION_BYTES_MAX: usize = 16 << 20;

/// An app, as stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct AppWords {
    /// The words of an app file.
    pub(crate) spec: Value,
    /// A file has the app too, and the API took it from it knowingly.
    #[serde(default)]
    pub(crate) adopted: bool,
    /// Number of this version.
    pub(crate) version: u64,
}

/// One version of an app, as stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct VersionWords {
    /// Its number, from 1.
    pub(crate) version: u64,
    /// When it was made, in milliseconds since the Unix epoch.
    pub(crate) unix_ms: u64,
    /// Who made it.
    pub(crate) by: String,
    /// What for: the operation, in words.
    pub(crate) why: String,
    /// The words of an app file.
    pub(crate) spec: Value,
}

/// A release, as stored. Never changed, but for the verdict on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ReleaseWords {
    /// Its number, from 1.
    pub(crate) release: u64,
    /// What the platform calls it; `v` and the number unless told otherwise.
    pub(crate) name: String,
    /// For people.
    pub(crate) description: String,
    /// When it was made, in milliseconds since the Unix epoch.
    pub(crate) unix_ms: u64,
    /// Who made it.
    pub(crate) by: String,
    /// How long it serves on trial, in milliseconds; none: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) guard_ms: Option<u64>,
    /// Why its rollout ended without it. No process begins with such a release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) refused: Option<String>,
    /// That was because a newer release came first.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) superseded: bool,
}

/// How many dynos of which type an app should have, as stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FormationWords {
    /// By process type.
    pub(crate) processes: BTreeMap<String, u32>,
}

/// An app in maintenance, as stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MaintenanceWords {
    /// What people see instead of the router's own page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) page: Option<String>,
}

/// A held app, as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HoldWords {
    /// Requests that may wait at a time.
    pub(crate) max: u32,
    /// How long one waits at most, in milliseconds.
    pub(crate) wait_ms: u64,
}

#[derive(Serialize, Deserialize)]
struct HostWords {
    app: String,
}

/// An app owned by the API, ready to be built.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ApiApp {
    /// Its spec as a text; its name for errors is that of the object.
    pub(crate) source: Source,
    /// See [`AppWords::adopted`].
    pub(crate) adopted: bool,
    /// See [`AppWords::version`].
    pub(crate) version: u64,
}

/// Apps owned by the API, by name.
pub(crate) type ApiApps = BTreeMap<AppName, Arc<ApiApp>>;

impl ApiApp {
    /// From what is stored.
    pub(crate) fn new(app: &AppName, words: &AppWords) -> Self {
        let text = format!("{:#}", words.spec);
        let source = Source { file: file_of(app), text, format: Format::Json };
        Self { source, adopted: words.adopted, version: words.version }
    }
}

/// The name of an app of the API in errors.
pub(crate) fn file_of(app: &AppName) -> String {
    format!("api:/v1/apps/{app}")
}

/// The key of an app.
pub(crate) fn app_key(app: &AppName) -> Arc<str> {
    Arc::from(format!("{APPS}{app}"))
}

/// Where the numbered objects of an app are, of one kind.
pub(crate) fn numbered_prefix(kind: &str, app: &AppName) -> String {
    format!("{kind}{app}/")
}

/// The key of a numbered object; their order is that of the numbers.
pub(crate) fn numbered_key(kind: &str, app: &AppName, number: u64) -> Arc<str> {
    Arc::from(format!("{kind}{app}/{number:020}"))
}

/// The key of a formation.
pub(crate) fn formation_key(app: &AppName) -> Arc<str> {
    Arc::from(format!("{FORMATIONS}{app}"))
}

/// The key of an app's maintenance.
pub(crate) fn maintenance_key(app: &AppName) -> Arc<str> {
    Arc::from(format!("{MAINTENANCE}{app}"))
}

/// The key of an app's guard.
pub(crate) fn guard_key(app: &AppName) -> Arc<str> {
    Arc::from(format!("{GUARDS}{app}"))
}

/// The key of an app's hold.
pub(crate) fn hold_key(app: &AppName) -> Arc<str> {
    Arc::from(format!("{HOLDS}{app}"))
}

/// Reads an object's words; the error says what is wrong with them.
pub(crate) fn words<T: DeserializeOwned>(object: &Object) -> Result<T, String> {
    serde_json::from_str(&object.value).map_err(|error| format!("{}: {error}", object.key))
}

/// Writes words. They are of types that always have a text.
pub(crate) fn write<T: Serialize>(key: Arc<str>, words: &T) -> Write {
    let text = serde_json::to_string(words).unwrap_or_else(|_| "null".to_owned());
    Write { key, value: Some(Arc::from(text)) }
}

/// The apps among stored objects. One that cannot be read is left out, loudly.
pub(crate) fn api_apps(objects: &[Object]) -> ApiApps {
    let mut apps = ApiApps::new();
    for object in objects {
        let name = object.key.strip_prefix(APPS).unwrap_or_default();
        let read = AppName::new(name).map_err(|error| error.to_string()).and_then(|name| {
            let words = words::<AppWords>(object)?;
            Ok((name.clone(), Arc::new(ApiApp::new(&name, &words))))
        });
        match read {
            Ok((name, app)) => drop(apps.insert(name, app)),
            Err(error) => tracing::error!(key = %object.key, %error, "an app of the store cannot be read"),
        }
    }
    apps
}

/// The owners of hosts among stored objects.
pub(crate) fn host_owners(objects: &[Object]) -> HostOwners {
    let map = objects.iter().filter_map(|object| {
        let words = words::<HostWords>(object).ok()?;
        AppName::new(&words.app).ok()?;
        Some((object.key.strip_prefix(HOSTS)?.to_owned(), words.app))
    });
    HostOwners::try_from(map.collect::<BTreeMap<String, String>>()).unwrap_or_default()
}

/// What has to be written so that the stored owners are `now`.
pub(crate) fn host_writes(stored: &HostOwners, now: &HostOwners) -> Vec<Write> {
    let before: BTreeMap<&str, &AppName> = stored.iter().collect();
    let after: BTreeMap<&str, &AppName> = now.iter().collect();
    let key = |host: &str| Arc::from(format!("{HOSTS}{host}"));
    let gone = before.keys().filter(|host| !after.contains_key(*host));
    let gone = gone.map(|host| Write { key: key(host), value: None });
    let new = after.iter().filter(|(host, app)| before.get(*host) != Some(app));
    let new = new.map(|(host, app)| write(key(host), &HostWords { app: app.to_string() }));
    gone.chain(new).collect()
}
