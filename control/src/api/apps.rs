//! Apps, their routes and clusters, and whole files: from what is asked to one change of specs. The control loop judges it,
//! builds it with everything else, makes it durable and publishes it.

use std::borrow::Cow;
use std::collections::BTreeSet;

use ekiden_config::document::document;
use ekiden_config::names::AppName;
use ekiden_config::{Format, Source};
use hyper::header::{CONTENT_TYPE, LOCATION};
use serde_json::{Map, Value, json};
use tokio::sync::oneshot;

use super::operations::Part;
use super::reply::{Answer, Reply, gone};
use super::request::Ask;
use super::{Api, body, guarded, reply};
use crate::desired::changes::{as_json, omitted};
use crate::desired::merge::merged;
use crate::desired::{APPS, AppWords, VERSIONS, VersionWords, app_key, numbered_key, words};
use crate::guarded::GuardAsk;
use crate::plane::{AppEdit, AppsChange, AppsDone, View, file_tag};
use crate::problem::Problem;
use crate::store::Revision;

/// Tries of a change that others got ahead of.
const TRIES_MAX: usize = 8;
/// Keys of an app file: what of the process file is the app `default`.
const APP_KEYS: [&str; 12] = [
    "cluster",
    "route",
    "listeners",
    "timeout",
    "allow",
    "deny",
    "denied_headers",
    "body_limit",
    "head_limit",
    "fields_limit",
    "limit",
    "share_hosts_with",
];

/// What an app is now, whoever owns it.
pub(super) struct Current {
    pub(super) spec: Value,
    /// `api`, or `file:PATH`.
    pub(super) owner: String,
    pub(super) adopted: bool,
    pub(super) version: Option<u64>,
    /// Of the object; 0 when a file owns it.
    pub(super) revision: Revision,
    pub(super) tag: String,
}

/// Reads an app; `None` when nobody has it.
pub(super) fn current(api: &Api, view: &View, app: &AppName) -> Result<Option<Current>, Problem> {
    if let Some(object) = api.store.as_ref().and_then(|store| store.get(&app_key(app))) {
        let unreadable = |error| Problem::new(500, "unreadable_object", error);
        let AppWords { spec, adopted, version } = words(&object).map_err(unreadable)?;
        return Ok(Some(Current {
            spec,
            owner: "api".to_owned(),
            adopted,
            version: Some(version),
            revision: object.modified,
            tag: format!("\"{}\"", object.modified),
        }));
    }
    let default = *app == AppName::default_app();
    let source = if default { Some(Cow::Borrowed(view.texts.main())) } else { view.texts.app(app) };
    let Some(source) = source.as_deref() else { return Ok(None) };
    // A text that is refused has no document; its app may serve all the same.
    let mut spec = document(source).unwrap_or(Value::Null);
    if let Some(members) = spec.as_object_mut().filter(|_| default) {
        members.retain(|key, _| APP_KEYS.contains(&key.as_str()) || key == "caps");
    }
    Ok(Some(Current {
        spec,
        owner: format!("file:{}", source.file),
        adopted: false,
        version: None,
        revision: 0,
        tag: file_tag(source),
    }))
}

/// What a request makes of one app.
enum Edit {
    /// The app is deleted.
    Delete,
    /// It gets this spec; where a part of it stood in the body: its pointer in the spec, and in the body.
    Spec(Value, (String, String)),
}

type Make<'a> = dyn Fn(Option<&Current>) -> Result<Edit, Problem> + Send + Sync + 'a;

/// Changes one app by what is there now; again when something else was faster, unless the request has conditions.
async fn change(api: &Api, ask: &Ask, why: &str, make: &Make<'_>) -> Answer {
    let app = ask.app()?;
    for left in (0..TRIES_MAX).rev() {
        let view = api.view.read();
        let current = current(api, &view, &app)?;
        ask.conditions.check(current.as_ref().map(|current| current.tag.as_str()))?;
        let (spec, place) = match make(current.as_ref())? {
            Edit::Delete => (None, (String::new(), String::new())),
            Edit::Spec(spec, place) => (Some(spec), place),
        };
        let expected = current.as_ref().map_or(0, |current| current.revision);
        let made_from = current.as_ref().filter(|current| current.revision == 0);
        let made_from = made_from.map(|current| current.tag.clone());
        let edit = AppEdit { app: app.clone(), spec, expected, made_from, place };
        match send(api, ask, vec![edit], why, None).await {
            Err(problem) if problem.code == "conflict" && left > 0 => {
                if ask.conditions.matches.is_some() || ask.conditions.absent {
                    return Err(super::request::changed_meanwhile(None));
                }
            }
            Ok(done) => {
                let made = current.is_none() && done.revision.is_some();
                return changed(api, ask, done, made.then(|| format!("/v1/apps/{app}"))).await;
            }
            Err(problem) => return Err(problem),
        }
    }
    Err(Problem::new(409, "conflict", "others change this app all the time; nothing was changed"))
}

async fn send(
    api: &Api,
    ask: &Ask,
    edits: Vec<AppEdit>,
    why: &str,
    guard: Option<GuardAsk>,
) -> Result<AppsDone, Problem> {
    let (reply, end) = oneshot::channel();
    let change = AppsChange {
        edits,
        adopt: ask.flag("adopt"),
        dry_run: ask.flag("dry_run"),
        by: ask.who.name.clone(),
        why: why.to_owned(),
        guard,
        reply,
    };
    api.changes.send(change).await.map_err(|_| gone())?;
    end.await.map_err(|_| gone())?
}

async fn changed(api: &Api, ask: &Ask, done: AppsDone, made: Option<String>) -> Answer {
    let versions = done.versions.iter().map(|(app, version)| (app.to_string(), json!(version)));
    let more = json!({
        "revision": done.revision,
        "changed": !done.changes.is_empty(),
        "changes": as_json(&done.changes),
        "changes_omitted": omitted(&done.changes),
        "summary": done.summary,
        "warnings": done.warnings,
        "versions": versions.collect::<Map<_, _>>(),
        "dry_run": ask.flag("dry_run"),
    });
    let parts: Vec<reply::Part> = done.versions.keys().cloned().map(reply::Part::App).collect();
    let mut reply = if done.revision.is_some() {
        reply::applied(api, &done.ticket, &parts, more).await?
    } else {
        let mut more = more;
        if let Some(members) = more.as_object_mut() {
            members.insert("generation".to_owned(), json!(api.inspect.generation().0));
        }
        Reply::ok(more)
    };
    if let Some(revision) = done.revision {
        if done.versions.values().any(Option::is_some) && done.versions.len() == 1 {
            reply.tag(&format!("\"{revision}\""));
        }
        reply.revision = Some(revision);
    }
    if let Some(at) = made.filter(|_| reply.status == 200) {
        reply.status = 201;
        reply.header(LOCATION, &at);
    }
    Ok(reply)
}

/// `{"spec": {...}}`, and nothing else.
fn spec_of(ask: &Ask) -> Result<Value, Problem> {
    let mut body = ask.members(&["spec"])?;
    match body.as_object_mut().and_then(|members| members.remove("spec")) {
        Some(Value::Object(spec)) => Ok(Value::Object(spec)),
        Some(_) => Err(Problem::at(422, "bad_value", "/spec", "\"spec\" must be an object")),
        None => {
            Err(Problem::at(422, "missing_spec", "/spec", "send {\"spec\": {...}}, with the words of a file"))
        }
    }
}

fn unknown_app(app: &AppName) -> Problem {
    Problem::new(404, "unknown_app", format!("there is no app {app}"))
}

fn whole(spec: Value) -> Edit {
    Edit::Spec(spec, (String::new(), "/spec".to_owned()))
}

pub(super) async fn put(api: &Api, ask: &Ask) -> Answer {
    let spec = spec_of(ask)?;
    change(api, ask, "put", &|_| Ok(whole(spec.clone()))).await
}

pub(super) async fn patch(api: &Api, ask: &Ask) -> Answer {
    let patch = spec_of(ask)?;
    let app = ask.app()?;
    change(api, ask, "patch", &|current| {
        let current = current.ok_or_else(|| unknown_app(&app))?;
        Ok(whole(merged(current.spec.clone(), &patch)))
    })
    .await
}

pub(super) async fn delete(api: &Api, ask: &Ask) -> Answer {
    change(api, ask, "delete", &|_| Ok(Edit::Delete)).await
}

/// The name of a part in the path, checked.
fn part_name(ask: &Ask, part: Part) -> Result<String, Problem> {
    Ok(match part {
        Part::Route => ask.route()?.to_string(),
        Part::Cluster => ask.cluster()?.to_string(),
    })
}

/// The parts of a spec with their names. A route without a name has that of its position.
fn parts(spec: &Value, part: Part) -> Vec<(String, Value)> {
    match part {
        Part::Route => {
            let routes = spec.get("route").and_then(Value::as_array).into_iter().flatten().enumerate();
            routes.map(|(at, route)| (route_name(at, route), route.clone())).collect()
        }
        Part::Cluster => {
            let clusters = spec.get("cluster").and_then(Value::as_object).into_iter().flatten();
            clusters.map(|(name, cluster)| (name.clone(), cluster.clone())).collect()
        }
    }
}

fn route_name(at: usize, route: &Value) -> String {
    let written = route.get("name").and_then(Value::as_str);
    written.map_or_else(|| format!("route-{}", at + 1), str::to_owned)
}

fn unknown_part(app: &AppName, part: Part, name: &str) -> Problem {
    match part {
        Part::Route => Problem::new(404, "unknown_route", format!("the app {app} has no route {name}")),
        Part::Cluster => Problem::new(404, "unknown_cluster", format!("the app {app} has no cluster {name}")),
    }
}

/// Puts a part in its place; none takes it away. Answers with its pointer in the spec.
fn replace(spec: &mut Value, part: Part, name: &str, new: Option<Value>) -> String {
    if !spec.is_object() {
        *spec = json!({});
    }
    let Some(members) = spec.as_object_mut() else { return String::new() };
    match part {
        Part::Cluster => {
            let clusters = members.entry("cluster").or_insert_with(|| json!({}));
            if let Some(clusters) = clusters.as_object_mut() {
                match new {
                    Some(new) => drop(clusters.insert(name.to_owned(), new)),
                    None => drop(clusters.remove(name)),
                }
            }
            format!("/cluster/{}", name.replace('~', "~0").replace('/', "~1"))
        }
        Part::Route => {
            let routes = members.entry("route").or_insert_with(|| json!([]));
            let Some(routes) = routes.as_array_mut() else { return "/route".to_owned() };
            let found = routes.iter().enumerate().position(|(at, route)| route_name(at, route) == name);
            let at = found.unwrap_or(routes.len());
            // Names by position must not move to other routes.
            if new.is_none() {
                for (at, route) in routes.iter_mut().enumerate() {
                    let name = route_name(at, route);
                    if let Some(route) = route.as_object_mut() {
                        route.insert("name".to_owned(), json!(name));
                    }
                }
            }
            match (new, found) {
                (Some(new), Some(at)) => {
                    routes.iter_mut().skip(at).take(1).for_each(|old| *old = new.clone())
                }
                (Some(new), None) => routes.push(new),
                (None, Some(at)) => drop(routes.remove(at)),
                (None, None) => {}
            }
            format!("/route/{at}")
        }
    }
}

/// Changes one part: `make` gets what is there and answers what is to be there.
async fn change_part(
    api: &Api,
    ask: &Ask,
    part: Part,
    make: &(dyn Fn(Option<Value>) -> Option<Value> + Send + Sync),
    must_exist: bool,
) -> Answer {
    let (app, name) = (ask.app()?, part_name(ask, part)?);
    let verb = if must_exist { "change" } else { "put" };
    let why = match part {
        Part::Route => format!("{verb} route {name}"),
        Part::Cluster => format!("{verb} cluster {name}"),
    };
    change(api, ask, &why, &|current| {
        let current = current.ok_or_else(|| unknown_app(&app))?;
        let old =
            parts(&current.spec, part).into_iter().find(|(known, _)| *known == name).map(|(_, old)| old);
        if must_exist && old.is_none() {
            return Err(unknown_part(&app, part, &name));
        }
        let mut new = make(old);
        if let (Part::Route, Some(members)) = (part, new.as_mut().and_then(Value::as_object_mut)) {
            if members.get("name").is_some_and(|written| written.as_str() != Some(&name)) {
                let detail = format!("the route is {name} by its path; leave \"name\" out");
                return Err(Problem::at(422, "bad_value", "/spec/name", detail));
            }
            members.insert("name".to_owned(), json!(name));
        }
        let mut spec = current.spec.clone();
        let place = replace(&mut spec, part, &name, new);
        Ok(Edit::Spec(spec, (place, "/spec".to_owned())))
    })
    .await
}

pub(super) async fn put_part(api: &Api, ask: &Ask, part: Part) -> Answer {
    let spec = spec_of(ask)?;
    change_part(api, ask, part, &|_| Some(spec.clone()), false).await
}

pub(super) async fn patch_part(api: &Api, ask: &Ask, part: Part) -> Answer {
    let patch = spec_of(ask)?;
    change_part(api, ask, part, &|old| Some(merged(old.unwrap_or(Value::Null), &patch)), true).await
}

pub(super) async fn delete_part(api: &Api, ask: &Ask, part: Part) -> Answer {
    change_part(api, ask, part, &|_| None, true).await
}

fn part_view(app: &AppName, current: &Current, name: &str, spec: &Value) -> Value {
    json!({
        "app": app.as_str(),
        "name": name,
        "owner": current.owner,
        "version": current.version,
        "spec": spec,
    })
}

pub(super) fn list_parts(api: &Api, ask: &Ask, part: Part) -> Answer {
    let app = ask.app()?;
    let current = current(api, &api.view.read(), &app)?.ok_or_else(|| unknown_app(&app))?;
    let mut all = parts(&current.spec, part);
    all.sort_by(|a, b| a.0.cmp(&b.0));
    let views = all.iter().map(|(name, spec)| (name.clone(), part_view(&app, &current, name, spec)));
    let word = match part {
        Part::Route => "routes",
        Part::Cluster => "clusters",
    };
    let mut reply = reply::page(ask, word, views);
    reply.tag(&current.tag);
    Ok(reply)
}

pub(super) fn one_part(api: &Api, ask: &Ask, part: Part) -> Answer {
    let (app, name) = (ask.app()?, part_name(ask, part)?);
    let current = current(api, &api.view.read(), &app)?.ok_or_else(|| unknown_app(&app))?;
    let all = parts(&current.spec, part);
    let (name, spec) =
        all.iter().find(|(known, _)| *known == name).ok_or_else(|| unknown_part(&app, part, &name))?;
    let mut reply = Reply::ok(part_view(&app, &current, name, spec));
    reply.tag(&current.tag);
    Ok(reply)
}

pub(super) async fn rollback(api: &Api, ask: &Ask) -> Answer {
    let app = ask.app()?;
    let body = ask.members(&["version"])?;
    let Some(version) = body.get("version").and_then(Value::as_u64) else {
        let detail = "\"version\" must be the number of a version, as /versions lists them";
        return Err(Problem::at(422, "bad_value", "/version", detail));
    };
    let old = version_words(api, &app, version)?;
    change(api, ask, &format!("rollback to {version}"), &|_| Ok(whole(old.spec.clone()))).await
}

/// A version of an app.
pub(super) fn version_words(api: &Api, app: &AppName, version: u64) -> Result<VersionWords, Problem> {
    let object = api.store.as_ref().and_then(|store| store.get(&numbered_key(VERSIONS, app, version)));
    let object = object.ok_or_else(|| {
        Problem::new(
            404,
            "unknown_version",
            format!("the app {app} has no version {version}, or it is no longer kept"),
        )
    })?;
    words(&object).map_err(|error| Problem::new(500, "unreadable_object", error))
}

/// The format of a body that is a file.
fn format_of(ask: &Ask) -> Result<Format, Problem> {
    let kind = ask.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    match kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "application/toml" | "text/toml" => Ok(Format::Toml),
        "application/yaml" | "application/x-yaml" | "text/yaml" => Ok(Format::Yaml),
        "application/json" => Ok(Format::Json),
        _ => Err(Problem::new(
            415,
            "not_a_file_type",
            "send the file with Content-Type application/toml, application/yaml or application/json",
        )),
    }
}

/// The apps in a file, with where each stands in it.
fn apps_of(ask: &Ask) -> Result<Vec<(AppName, Value, String)>, Problem> {
    let text = std::str::from_utf8(&ask.body)
        .map_err(|_| Problem::new(400, "not_utf8", "the body is not UTF-8 text"))?;
    let source = Source { file: "body".to_owned(), text: text.to_owned(), format: format_of(ask)? };
    let mut whole = document(&source).map_err(|found| {
        let first = found.first();
        let detail = first.map_or_else(|| "the body cannot be read".to_owned(), ToString::to_string);
        let mut problem = Problem::new(400, "bad_syntax", detail);
        let errors: Vec<Value> = found.iter().map(ekiden_config::Diagnostic::to_json).collect();
        problem.more.insert("errors".to_owned(), Value::Array(errors));
        problem
    })?;
    let name = |text: &str, at: &str| {
        AppName::new(text)
            .map_err(|error| Problem::at(422, "bad_name", at, format!("the app {text:?} {error}")))
    };
    if let Some(app) = ask.text("app") {
        return Ok(vec![(name(app, "")?, whole, String::new())]);
    }
    let members = whole.as_object_mut();
    let members = members.ok_or_else(|| Problem::at(422, "bad_value", "", "the file must be a table"))?;
    let apps = members.remove("app");
    if let Some(other) = members.keys().next() {
        let detail = format!(
            "{other:?} is not known here: a file of apps has `app.NAME` only; name the one app of another file with ?app=NAME"
        );
        return Err(Problem::at(422, "unknown_member", &body::pointer(other), detail));
    }
    let Some(Value::Object(apps)) = apps else {
        return Err(Problem::at(
            422,
            "missing_apps",
            "/app",
            "the file has no `app.NAME`; name its one app with ?app=NAME",
        ));
    };
    let all = apps.into_iter().map(|(text, spec)| {
        let at = format!("/app{}", body::pointer(&text));
        Ok((name(&text, &at)?, spec, at))
    });
    all.collect()
}

pub(super) async fn apply(api: &Api, ask: &Ask) -> Answer {
    if ask.flag("prune") && ask.text("app").is_some() {
        let detail = "prune deletes the apps that a file of apps does not name: the file of one app (`app`) names no others";
        return Err(Problem::new(400, "bad_parameter", detail));
    }
    let guard = guarded::time(api, ask)?.filter(|_| !ask.flag("dry_run"));
    let wanted = apps_of(ask)?;
    if let Some((_, _, at)) = wanted.iter().find(|(_, spec, _)| !spec.is_object()) {
        return Err(Problem::at(422, "bad_value", at, "an app is a table"));
    }
    let names: Vec<AppName> = wanted.iter().map(|(app, _, _)| app.clone()).collect();
    for _ in 0..TRIES_MAX {
        let guard = match guard {
            Some(time) => Some(guarded::ask(api, time, &names).await?),
            None => None,
        };
        let mut edits = Vec::with_capacity(wanted.len());
        let stored = |app: &AppName| {
            let object = api.store.as_ref().and_then(|store| store.get(&app_key(app)));
            object.map_or(0, |object| object.modified)
        };
        for (app, spec, at) in &wanted {
            let place = (String::new(), at.clone());
            let (spec, expected) = (Some(spec.clone()), stored(app));
            edits.push(AppEdit { app: app.clone(), spec, expected, made_from: None, place });
        }
        if ask.flag("prune") {
            edits.extend(pruned(api, &wanted));
        }
        match send(api, ask, edits, "apply", guard.clone()).await {
            Err(problem) if problem.code == "conflict" => {}
            Ok(done) => {
                let guard = guard.filter(|_| done.revision.is_some());
                let versions = done.versions.clone();
                let reply = changed(api, ask, done, None).await;
                // Also where routers did not take it: the version is there, and so is its guard.
                let guarded = guard.map(|guard| guarded::begun(api, &guard, &versions));
                let mut reply = reply?;
                if let Some(members) = reply.value.as_object_mut() {
                    members.extend(guarded.map(|guarded| ("guard".to_owned(), guarded)));
                }
                return Ok(reply);
            }
            Err(problem) => return Err(problem),
        }
    }
    Err(Problem::new(409, "conflict", "others change these apps all the time; nothing was changed"))
}

/// Deletions of the API's apps that a file does not name.
fn pruned(api: &Api, wanted: &[(AppName, Value, String)]) -> Vec<AppEdit> {
    let named: BTreeSet<&str> = wanted.iter().map(|(app, _, _)| app.as_str()).collect();
    let page = api.store.as_ref().map(|store| store.list(APPS, None, usize::MAX));
    let objects = page.into_iter().flat_map(|page| page.objects);
    let gone = objects.filter_map(|object| {
        let name = object.key.strip_prefix(APPS).filter(|name| !named.contains(name))?;
        let place = (String::new(), String::new());
        let (app, expected) = (AppName::new(name).ok()?, object.modified);
        Some(AppEdit { app, spec: None, expected, made_from: None, place })
    });
    gone.collect()
}
