//! Changes of apps owned by the API: judged, built with everything else, made durable, then published. A change that is
//! refused changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ekiden_config::diff::{diff, summary};
use ekiden_config::document::pointer;
use ekiden_config::doors::Ticket;
use ekiden_config::names::AppName;
use ekiden_config::{Diagnostic, Source};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_blocking};

use super::mutate::not_durable;
use super::{Built, Plane};
use crate::clock::unix_ms;
use crate::desired::changes::{Change, changes};
use crate::desired::placements::PLACEMENTS;
use crate::desired::{
    APPS_MAX, ApiApp, ApiApps, AppWords, HOSTS, RELEASES, VERSION_BYTES_MAX, VERSIONS, VERSIONS_MAX,
    VersionWords, app_key, formation_key, guard_key, hold_key, host_owners, host_writes, maintenance_key,
    numbered_key, numbered_prefix, write,
};
use crate::fnv;
use crate::guarded::GuardAsk;
use crate::load::{Accepted, Around, accept};
use crate::problem::Problem;
use crate::sources::Sources;
use crate::store::{ENDPOINTS, MARKS, Revision, Store, StoreError, Txn, Write};

/// Owners of hosts written down in one transaction.
const HOSTS_AT_ONCE: usize = 10_000;

/// A request to change apps, all or none.
#[derive(Debug)]
pub(crate) struct AppsChange {
    /// The changes, each of another app.
    pub(crate) edits: Vec<AppEdit>,
    /// Apps that files own may be taken over.
    pub(crate) adopt: bool,
    /// Only say what would happen.
    pub(crate) dry_run: bool,
    /// Who asks.
    pub(crate) by: String,
    /// What for, in words.
    pub(crate) why: String,
    /// The apps are watched behind it: written with the change itself.
    pub(crate) guard: Option<GuardAsk>,
    /// Gets the end: durable and published, or refused with nothing changed.
    pub(crate) reply: oneshot::Sender<Result<AppsDone, Problem>>,
}

/// A change of one app.
#[derive(Debug, Clone)]
pub(crate) struct AppEdit {
    /// Which.
    pub(crate) app: AppName,
    /// Its new spec; none deletes it, or gives it back to its file.
    pub(crate) spec: Option<Value>,
    /// The revision of the app it was made from; 0: none.
    pub(crate) expected: Revision,
    /// The tag of the file it was made from; none when it was not made from a file.
    pub(crate) made_from: Option<String>,
    /// Where a part of the spec stands in what the client sent: its pointer there, and the client's.
    pub(crate) place: (String, String),
}

/// A change of apps that is durable and published, or was only tried.
#[derive(Debug, Clone)]
pub(crate) struct AppsDone {
    /// Tells when every worker has it.
    pub(crate) ticket: Ticket,
    /// The revision that made it; none when nothing changed or it was only tried.
    pub(crate) revision: Option<Revision>,
    /// What differs in the specs.
    pub(crate) changes: Vec<Change>,
    /// What differs in the table, in one line.
    pub(crate) summary: String,
    /// What is probably not meant.
    pub(crate) warnings: Vec<Value>,
    /// Number of the version of each app; none when it is deleted.
    pub(crate) versions: BTreeMap<AppName, Option<u64>>,
}

type Reply = oneshot::Sender<Result<AppsDone, Problem>>;

/// The end of a build.
pub(crate) struct AppsBuilt {
    reply: Reply,
    end: Result<Good, AppsError>,
}

enum AppsError {
    Refused(Problem),
    NotStored(StoreError),
}

/// A build that nothing speaks against.
struct Good {
    done: AppsDone,
    accepted: Accepted,
    apps: Arc<ApiApps>,
    /// Apps that nobody has then.
    gone: Vec<AppName>,
}

/// What a build needs.
struct Job {
    before: Arc<Accepted>,
    /// The texts to build with the apps.
    sources: Arc<Sources>,
    apps: Arc<ApiApps>,
    edits: Vec<AppEdit>,
    old: Vec<Option<Value>>,
    ticket: Ticket,
    store: Arc<dyn Store>,
    by: String,
    why: String,
    guard: Option<GuardAsk>,
}

impl Plane {
    /// Judges a change and starts its build. What is refused or changes nothing is answered at once.
    pub(super) fn begin_apps(&mut self, change: AppsChange) -> Option<JoinHandle<Built>> {
        let AppsChange { edits, adopt, dry_run, by, why, guard, reply } = change;
        let prepared = self.prepare(edits, adopt, by, why).map(|job| Job { guard, ..job });
        let job = match prepared {
            Ok(job) => job,
            Err(problem) => {
                // The asker may have gone away.
                let _ = reply.send(Err(problem));
                return None;
            }
        };
        Some(tokio::spawn(async move {
            let end = job.run(dry_run).await;
            Built::Apps(Box::new(AppsBuilt { reply, end }))
        }))
    }

    fn prepare(&self, edits: Vec<AppEdit>, adopt: bool, by: String, why: String) -> Result<Job, Problem> {
        let store = self.store.clone().ok_or_else(not_durable)?;
        let mut apps = ApiApps::clone(&self.apps);
        let mut old = Vec::with_capacity(edits.len());
        let mut changed = Vec::new();
        let about: Vec<AppName> = edits.iter().map(|edit| edit.app.clone()).collect();
        for edit in edits {
            let adopted = self.may_change(&edit, adopt)?;
            let before = self.apps.get(&edit.app);
            let stored = before.and_then(|app| serde_json::from_str::<Value>(&app.source.text).ok());
            match &edit.spec {
                Some(spec) if stored.as_ref() == Some(spec) => continue,
                Some(spec) => {
                    let version = before.map_or(0, |app| app.version) + 1;
                    let words = AppWords { spec: spec.clone(), adopted, version };
                    apps.insert(edit.app.clone(), Arc::new(ApiApp::new(&edit.app, &words)));
                }
                None => drop(apps.remove(&edit.app)),
            }
            old.push(stored);
            changed.push(edit);
        }
        if apps.len() > APPS_MAX {
            let detail = format!("the API owns {APPS_MAX} apps already, which is the bound");
            return Err(Problem::new(507, "too_many_apps", detail));
        }
        // What the disk has, refused files too; unless the process file is among those.
        let sources = match &self.tried {
            Some(tried) if !self.status.read().stale => Arc::clone(tried),
            Some(_) | None => Arc::clone(&self.accepted.sources),
        };
        Ok(Job {
            before: Arc::clone(&self.accepted),
            sources,
            apps: Arc::new(apps),
            edits: changed,
            old,
            ticket: self.in_force(&about),
            store,
            by,
            why,
            guard: None,
        })
    }

    /// Who owns the app, and whether that allows the change; whether it is then adopted from a file.
    fn may_change(&self, edit: &AppEdit, adopt: bool) -> Result<bool, Problem> {
        let app = &edit.app;
        if *app == AppName::default_app() {
            let file = &self.accepted.sources.main.file;
            let detail = format!(
                "the app default is the process file {file}, which cannot be adopted: change it there"
            );
            return Err(owned_by_file(detail, file));
        }
        if let Some(owned) = self.apps.get(app) {
            return Ok(owned.adopted);
        }
        if edit.made_from.is_some() && edit.made_from != self.accepted.sources.app(app).map(file_tag) {
            let detail = format!("the file of the app {app} changed meanwhile; read it and try again");
            return Err(Problem::new(409, "conflict", detail));
        }
        let file = self.accepted.sources.app(app).or_else(|| self.tried.as_ref()?.app(app));
        match (file, &edit.spec) {
            (Some(file), None) => {
                let detail = format!("the app {app} belongs to {}: remove the file", file.file);
                Err(owned_by_file(detail, &file.file))
            }
            (Some(file), Some(_)) if !adopt => {
                let file = &file.file;
                let detail = format!(
                    "the app {app} belongs to {file}: change it there, or take it over with ?adopt=true"
                );
                Err(owned_by_file(detail, file))
            }
            (file, Some(_)) => Ok(file.is_some()),
            (None, None) => Err(Problem::new(404, "unknown_app", format!("there is no app {app}"))),
        }
    }

    /// Takes the end of a build: publishes it, or answers that nothing changed.
    pub(super) fn finish_apps(&mut self, built: AppsBuilt) {
        let AppsBuilt { reply, end } = built;
        let end = match end {
            Err(AppsError::Refused(problem)) => Err(problem),
            Err(AppsError::NotStored(error)) => Err(self.not_stored(&error)),
            Ok(Good { done, accepted, apps, gone }) => {
                let mut done = done;
                if done.revision.is_some() {
                    self.apps = apps;
                    self.forget_apps(gone);
                    let apps: Vec<AppName> = done.versions.keys().cloned().collect();
                    let changed = self.put_in_force(accepted);
                    self.save();
                    done.ticket = if changed { self.ticket.clone() } else { self.in_force(&apps) };
                    self.stored(done.versions.len() as u64);
                    let refused = self.accepted.refused.iter().map(ToString::to_string).collect();
                    self.status.update(|status| status.refused_apps = refused);
                }
                Ok(done)
            }
        };
        // The asker may have gone away; the change stands all the same.
        let _ = reply.send(end);
    }

    /// Starts writing down who owns which host, if that changed. It is derived again from the files until it is written.
    pub(super) fn record_hosts(&self) -> Option<JoinHandle<()>> {
        // Who follows writes nothing; who leads does it for all.
        let store = self.store.clone().filter(|_| self.leads)?;
        let accepted = Arc::clone(&self.accepted);
        Some(tokio::spawn(async move {
            let reading = Arc::clone(&store);
            let writes =
                spawn_blocking(move || hosts_to_write(&*reading, &accepted)).await.unwrap_or_default();
            // A first start may have very many; each is true by itself.
            for some in writes.chunks(HOSTS_AT_ONCE.min(store.writes_max()).max(1)) {
                let txn = Txn { when: Vec::new(), writes: some.to_vec() };
                if let Err(error) = store.commit(txn).await {
                    tracing::error!(%error, "owners of hosts could not be written down; the next change tries again");
                    return;
                }
            }
        }))
    }
}

/// The entity tag of an app that a file owns.
pub(crate) fn file_tag(source: &Source) -> String {
    format!("\"f{}\"", fnv::hex_of(source.text.as_bytes()))
}

fn hosts_to_write(store: &dyn Store, accepted: &Accepted) -> Vec<Write> {
    let stored = host_owners(&store.list(HOSTS, None, usize::MAX).objects);
    host_writes(&stored, &accepted.built.hosts)
}

fn owned_by_file(detail: String, file: &str) -> Problem {
    let mut problem = Problem::new(409, "owned_by_file", detail);
    problem.more.insert("owner".to_owned(), json!(format!("file:{file}")));
    problem
}

impl Job {
    async fn run(self, dry_run: bool) -> Result<Good, AppsError> {
        let store = Arc::clone(&self.store);
        let built = spawn_blocking(move || {
            let good = self.build()?;
            let txn = if dry_run { None } else { self.txn(&good.accepted) };
            Ok((good, txn))
        });
        let (mut good, txn) = match built.await {
            Ok(built) => built.map_err(AppsError::Refused)?,
            Err(error) => {
                tracing::error!(%error, "building a change of the API panicked");
                let detail = "the change could not be built; nothing was changed; see the log";
                return Err(AppsError::Refused(Problem::new(500, "build_failed", detail)));
            }
        };
        if let Some(txn) = txn {
            good.done.revision = Some(store.commit(txn).await.map_err(AppsError::NotStored)?);
        }
        Ok(good)
    }

    fn build(&self) -> Result<Good, Problem> {
        let Job { before, apps, .. } = self;
        let alone = before.alone;
        let around = Around { before: Some(before), hosts: &before.built.hosts, api: apps, alone };
        // What the disk has may have become unusable as a whole since: then what is in force counts.
        let accepted = accept(Arc::clone(&self.sources), around)
            .or_else(|_| accept(Arc::clone(&before.sources), around))
            .map_err(|found| invalid(found.iter().map(|one| finding(one, None, apps)).collect()))?;
        let errors: Vec<Value> =
            self.edits.iter().flat_map(|edit| self.findings(edit, &accepted, true)).collect();
        if !errors.is_empty() {
            return Err(invalid(errors));
        }
        let mut warnings: Vec<Value> =
            self.edits.iter().flat_map(|edit| self.findings(edit, &accepted, false)).collect();
        let touched: BTreeSet<&AppName> = self.edits.iter().map(|edit| &edit.app).collect();
        let newly = accepted.refused.difference(&before.refused).filter(|app| !touched.contains(app));
        warnings.extend(newly.map(|app| {
            json!({ "code": "app_refused", "message": format!("the app {app} is refused then, its last good version serves") })
        }));
        let mut all = Vec::new();
        let mut versions = BTreeMap::new();
        for (edit, old) in self.edits.iter().zip(&self.old) {
            all.extend(changes(&format!("/apps/{}", edit.app), old.as_ref(), edit.spec.as_ref()));
            versions.insert(edit.app.clone(), apps.get(&edit.app).map(|app| app.version));
        }
        let (model, next) = (&before.built.model, &accepted.built.model);
        let done = AppsDone {
            ticket: self.ticket.clone(),
            revision: None,
            changes: all,
            summary: summary(model, &diff(model, next)),
            warnings,
            versions,
        };
        let gone = self.edits.iter().filter(|edit| self.leaves_nothing(edit));
        let gone = gone.map(|edit| edit.app.clone()).collect();
        Ok(Good { done, accepted, apps: Arc::clone(apps), gone })
    }

    /// What was found in an edited app.
    fn findings(&self, edit: &AppEdit, accepted: &Accepted, errors: bool) -> Vec<Value> {
        let Some(app) = self.apps.get(&edit.app) else { return Vec::new() };
        let found = accepted.diagnostics.iter().filter(|found| found.is_error() == errors);
        let found = found.filter(|found| found.file == app.source.file);
        found.map(|found| finding(found, Some(edit), &self.apps)).collect()
    }

    /// What is written for the change; none when there is nothing to change.
    fn txn(&self, accepted: &Accepted) -> Option<Txn> {
        if self.edits.is_empty() {
            return None;
        }
        let mut txn = Txn::default();
        for edit in &self.edits {
            txn.when.push((app_key(&edit.app), edit.expected));
            match self.apps.get(&edit.app).zip(edit.spec.as_ref()) {
                Some((app, spec)) => self.put(edit, app, spec, &mut txn.writes),
                None => self.delete(edit, &mut txn.writes),
            }
        }
        txn.writes.extend(hosts_to_write(&*self.store, accepted));
        Some(txn)
    }

    fn put(&self, edit: &AppEdit, app: &ApiApp, spec: &Value, writes: &mut Vec<Write>) {
        let (adopted, version) = (app.adopted, app.version);
        writes.push(write(app_key(&edit.app), &AppWords { spec: spec.clone(), adopted, version }));
        let (by, why) = (self.by.clone(), self.why.clone());
        let words = VersionWords { version, unix_ms: unix_ms(), by, why, spec: spec.clone() };
        let new = write(numbered_key(VERSIONS, &edit.app, version), &words);
        let guard = self.guard.as_ref().and_then(|guard| guard.words(&edit.app, version));
        writes.extend(guard.map(|words| write(guard_key(&edit.app), &words)));
        let kept = self.store.list(&numbered_prefix(VERSIONS, &edit.app), None, usize::MAX).objects;
        let (mut count, mut bytes) = (1, new.value.as_ref().map_or(0, |value| value.len()));
        writes.push(new);
        for object in kept.iter().rev() {
            count += 1;
            bytes += object.value.len();
            if count > 2 && (count > VERSIONS_MAX || bytes > VERSION_BYTES_MAX) {
                writes.push(Write { key: Arc::clone(&object.key), value: None });
            }
        }
    }

    /// The app is deleted, and no file gets it back.
    fn leaves_nothing(&self, edit: &AppEdit) -> bool {
        edit.spec.is_none() && self.before.sources.app(&edit.app).is_none()
    }

    fn delete(&self, edit: &AppEdit, writes: &mut Vec<Write>) {
        let gone = |key: &Arc<str>| Write { key: Arc::clone(key), value: None };
        writes.push(gone(&app_key(&edit.app)));
        let back = !self.leaves_nothing(edit);
        // What stood over it must not come alive under the next app of that name.
        let kinds: &[&str] =
            if back { &[VERSIONS] } else { &[VERSIONS, RELEASES, ENDPOINTS, MARKS, PLACEMENTS] };
        for kind in kinds {
            let all = self.store.list(&numbered_prefix(kind, &edit.app), None, usize::MAX).objects;
            writes.extend(all.iter().map(|object| gone(&object.key)));
        }
        let alone =
            [formation_key(&edit.app), maintenance_key(&edit.app), hold_key(&edit.app), guard_key(&edit.app)];
        for key in alone.iter().filter(|key| !back && self.store.get(key).is_some()) {
            writes.push(gone(key));
        }
    }
}

/// One finding for the client: in its own words' place when it is in what it sent.
fn finding(found: &Diagnostic, edit: Option<&AppEdit>, apps: &ApiApps) -> Value {
    let mut one = json!({ "code": found.code, "message": found.message, "help": found.help });
    let app = edit.and_then(|edit| Some((edit, apps.get(&edit.app)?)));
    if let (Some(members), Some((edit, app))) = (one.as_object_mut(), app) {
        let inside = pointer(&app.source, found.span);
        let (part, place) = &edit.place;
        if let Some(rest) =
            inside.strip_prefix(part.as_str()).filter(|rest| rest.is_empty() || rest.starts_with('/'))
        {
            members.insert("pointer".to_owned(), json!(format!("{place}{rest}")));
        }
        members.insert("app".to_owned(), json!(edit.app.as_str()));
        members.insert("spec_pointer".to_owned(), json!(inside));
    }
    one
}

fn invalid(errors: Vec<Value>) -> Problem {
    let text = |name: &str| {
        errors.first().and_then(|first| first.get(name)).and_then(Value::as_str).map(str::to_owned)
    };
    let first = text("message").unwrap_or_else(|| "the configuration is not valid".to_owned());
    let help = text("help").map(|help| format!("; {help}")).unwrap_or_default();
    let more = match errors.len() {
        0 | 1 => String::new(),
        count => format!(" (and {} more)", count - 1),
    };
    let mut problem = Problem::new(422, "invalid_app", format!("{first}{help}{more}; nothing was changed"));
    problem.pointer = text("pointer");
    problem.more.insert("errors".to_owned(), Value::Array(errors));
    problem
}
