//! What is kept beside the table: versions of apps, releases, formations, owners of hosts.

use std::sync::Arc;

use ekiden_config::names::AppName;
use hyper::header::LOCATION;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::Api;
use super::apps::{current, version_words};
use super::reply::{Answer, Reply};
use super::request::Ask;
use crate::clock::unix_ms;
use crate::desired::changes::{as_json, changes, omitted};
use crate::desired::merge::merged;
use crate::desired::{
    FormationWords, HOSTS, RELEASES, ReleaseWords, VERSIONS, VersionWords, formation_key, numbered_key,
    numbered_prefix, words, write,
};
use crate::plane::{not_durable, unwritten};
use crate::problem::Problem;
use crate::store::{Object, Store, StoreError, Txn, Write};

/// Tries of a change that others got ahead of.
const TRIES_MAX: usize = 8;
/// Releases kept of an app.
const RELEASES_MAX: usize = 500;
/// Longest description and name of a release, in bytes.
const TEXT_MAX: usize = 1024;
/// Process types of a formation.
const TYPES_MAX: usize = 100;
/// Dynos of one type.
const QUANTITY_MAX: u64 = 100_000;

fn store(api: &Api) -> Result<&Arc<dyn Store>, Problem> {
    api.store.as_ref().ok_or_else(not_durable)
}

/// An app that is there, whoever owns it.
pub(super) fn known(api: &Api, ask: &Ask) -> Result<AppName, Problem> {
    let app = ask.app()?;
    match current(api, &api.view.read(), &app)? {
        Some(_) => Ok(app),
        None => Err(Problem::new(404, "unknown_app", format!("there is no app {app}"))),
    }
}

fn read<T: DeserializeOwned>(object: &Object) -> Result<T, Problem> {
    words(object).map_err(|error| Problem::new(500, "unreadable_object", error))
}

/// A page of an app's numbered objects. The cursor is a number.
fn numbered(
    api: &Api,
    ask: &Ask,
    kind: &str,
    word: &str,
    view: impl Fn(&Object) -> Result<Value, Problem>,
) -> Answer {
    let app = known(api, ask)?;
    let (after, limit) = ask.page();
    let after = match after.map(str::parse::<u64>) {
        None => None,
        Some(Ok(number)) => Some(numbered_key(kind, &app, number)),
        Some(Err(_)) => return Err(Problem::new(400, "bad_parameter", "after: a number is wanted here")),
    };
    let page = store(api)?.list(&numbered_prefix(kind, &app), after.as_deref(), limit);
    let views = page.objects.iter().map(view).collect::<Result<Vec<_>, _>>()?;
    let last = page.objects.last().and_then(|object| object.key.rsplit('/').next()?.parse::<u64>().ok());
    let next = last.filter(|_| page.more).map(|number| number.to_string());
    Ok(Reply::ok(json!({ word: views, "next": next })))
}

pub(super) fn versions(api: &Api, ask: &Ask) -> Answer {
    numbered(api, ask, VERSIONS, "versions", |object| {
        let VersionWords { version, unix_ms, by, why, .. } = read(object)?;
        Ok(json!({ "version": version, "unix_ms": unix_ms, "by": by, "why": why }))
    })
}

pub(super) fn version(api: &Api, ask: &Ask) -> Answer {
    let VersionWords { version, unix_ms, by, why, spec } = version_words(api, &ask.app()?, ask.number()?)?;
    Ok(Reply::ok(json!({ "version": version, "unix_ms": unix_ms, "by": by, "why": why, "spec": spec })))
}

pub(super) fn version_changes(api: &Api, ask: &Ask) -> Answer {
    let (app, to) = (ask.app()?, ask.number()?);
    let new = version_words(api, &app, to)?;
    let from = ask.count("from").unwrap_or(to.saturating_sub(1));
    // Before the first there was nothing.
    let old = if from == 0 { None } else { Some(version_words(api, &app, from)?.spec) };
    let all = changes("", old.as_ref(), Some(&new.spec));
    Ok(Reply::ok(
        json!({ "from": from, "to": to, "changes": as_json(&all), "changes_omitted": omitted(&all) }),
    ))
}

fn release_view(app: &AppName, words: &ReleaseWords) -> Value {
    let ReleaseWords { release, name, description, unix_ms, by, refused, guard_ms: _, superseded: _ } = words;
    let mut view = json!({ "app": app.as_str(), "release": release, "name": name, "description": description, "unix_ms": unix_ms, "by": by });
    if let (Some(members), Some(why)) = (view.as_object_mut(), refused) {
        members.insert("refused".to_owned(), json!(why));
    }
    view
}

pub(super) fn releases(api: &Api, ask: &Ask) -> Answer {
    let app = ask.app()?;
    numbered(api, ask, RELEASES, "releases", |object| Ok(release_view(&app, &read(object)?)))
}

pub(super) fn release(api: &Api, ask: &Ask) -> Answer {
    let (app, number) = (known(api, ask)?, ask.number()?);
    let object = store(api)?.get(&numbered_key(RELEASES, &app, number));
    let object = object.ok_or_else(|| {
        Problem::new(404, "unknown_release", format!("the app {app} has no release {number}"))
    })?;
    Ok(Reply::ok(release_view(&app, &read(&object)?)))
}

/// A short text of a body.
fn text(body: &Value, member: &str) -> Result<Option<String>, Problem> {
    match body.get(member) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.len() <= TEXT_MAX && !text.chars().any(char::is_control) => {
            Ok(Some(text.clone()))
        }
        Some(_) => {
            let detail =
                format!("{member:?} must be a text of at most {TEXT_MAX} bytes without control characters");
            Err(Problem::at(422, "bad_value", &format!("/{member}"), detail))
        }
    }
}

/// Why a commit failed. `None`: something else was faster.
pub(super) fn failed(error: &StoreError) -> Option<Problem> {
    let (status, code, text) = match error {
        StoreError::Conflict { .. } => return None,
        StoreError::Full(text) => (507, "storage_full", text),
        StoreError::TooLarge(text) => (413, "too_large", text),
        StoreError::NotLeading(_) | StoreError::Unknown(_) => return Some(unwritten(error)),
        StoreError::Failed(text) => (503, "storage_failed", text),
    };
    tracing::error!(error = %text, "a change could not be made durable; nothing was changed");
    let detail = format!("the change could not be made durable, nothing was changed: {text}");
    Some(Problem::new(status, code, detail))
}

pub(super) fn too_often() -> Problem {
    Problem::new(409, "conflict", "others change it all the time; nothing was changed")
}

/// How long a release is to serve on trial, in milliseconds.
fn guard_ms(api: &Api, app: &AppName, body: &Value) -> Result<Option<u64>, Problem> {
    let Some(guard) = text(body, "guard")? else { return Ok(None) };
    let time = super::guarded::duration(&guard);
    let time = time.map_err(|detail| Problem::at(422, "bad_value", "/guard", detail))?;
    if api.board.as_ref().is_none_or(|board| board.read().place.app != *app) {
        let detail =
            format!("no Procfile runs dynos of the app {app} here, so nobody can go back to a release of it");
        return Err(Problem::new(409, "not_run_here", detail));
    }
    Ok(u64::try_from(time.as_millis()).ok())
}

pub(super) async fn post_release(api: &Api, ask: &Ask) -> Answer {
    let app = known(api, ask)?;
    let body = ask.members(&["name", "description", "guard"])?;
    let (name, description) = (text(&body, "name")?, text(&body, "description")?);
    let guard_ms = guard_ms(api, &app, &body)?;
    let store = store(api)?;
    for _ in 0..TRIES_MAX {
        let kept = store.list(&numbered_prefix(RELEASES, &app), None, usize::MAX).objects;
        let last = kept.last().map(read::<ReleaseWords>).transpose()?.map_or(0, |words| words.release);
        let words = ReleaseWords {
            release: last + 1,
            name: name.clone().unwrap_or_else(|| format!("v{}", last + 1)),
            description: description.clone().unwrap_or_default(),
            unix_ms: unix_ms(),
            by: ask.who.name.clone(),
            guard_ms,
            refused: None,
            superseded: false,
        };
        let key = numbered_key(RELEASES, &app, words.release);
        let mut writes = vec![write(Arc::clone(&key), &words)];
        let surplus = (kept.len() + 1).saturating_sub(RELEASES_MAX);
        writes.extend(kept.iter().take(surplus).map(|old| Write { key: Arc::clone(&old.key), value: None }));
        match store.commit(Txn { when: vec![(key, 0)], writes }).await {
            Ok(revision) => {
                let mut reply = Reply { status: 201, ..Reply::ok(release_view(&app, &words)) };
                reply.header(LOCATION, &format!("/v1/apps/{app}/releases/{}", words.release));
                reply.revision = Some(revision);
                return Ok(reply);
            }
            Err(error) => match failed(&error) {
                Some(problem) => return Err(problem),
                None => continue,
            },
        }
    }
    Err(too_often())
}

/// The formation of an app and its tag; an app without one has an empty one.
fn stored_formation(api: &Api, app: &AppName) -> Result<(FormationWords, u64), Problem> {
    match store(api)?.get(&formation_key(app)) {
        Some(object) => Ok((read(&object)?, object.modified)),
        None => Ok((FormationWords::default(), 0)),
    }
}

fn formation_reply(app: &AppName, words: &FormationWords, modified: u64) -> Reply {
    let mut reply = Reply::ok(json!({ "app": app.as_str(), "processes": words.processes }));
    reply.tag(&format!("\"{modified}\""));
    reply
}

pub(super) fn formation(api: &Api, ask: &Ask) -> Answer {
    let app = known(api, ask)?;
    let (words, modified) = stored_formation(api, &app)?;
    Ok(formation_reply(&app, &words, modified))
}

/// Checks a formation member by member.
fn formation_of(value: &Value) -> Result<FormationWords, Problem> {
    let wrong = |at: &str, detail: &str| Problem::at(422, "bad_value", at, detail);
    let processes = value.get("processes").unwrap_or(&Value::Null);
    let Some(members) = processes.as_object() else {
        return Err(wrong("/processes", "\"processes\" must be an object such as {\"web\": 3}"));
    };
    if members.len() > TYPES_MAX {
        return Err(wrong("/processes", "a formation has at most 100 process types"));
    }
    let mut words = FormationWords::default();
    for (name, quantity) in members {
        let at = format!("/processes{}", super::body::pointer(name));
        let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        if name.is_empty() || name.len() > 64 || !plain {
            return Err(wrong(&at, "a process type has 1 to 64 letters, digits, '-' and '_'"));
        }
        let count = quantity
            .as_u64()
            .filter(|count| *count <= QUANTITY_MAX)
            .and_then(|count| u32::try_from(count).ok());
        let count =
            count.ok_or_else(|| wrong(&at, "a number of dynos is a whole number from 0 to 100000"))?;
        words.processes.insert(name.clone(), count);
    }
    Ok(words)
}

async fn change_formation(
    api: &Api,
    ask: &Ask,
    make: impl Fn(&FormationWords) -> Result<FormationWords, Problem>,
) -> Answer {
    let app = known(api, ask)?;
    let store = store(api)?;
    for _ in 0..TRIES_MAX {
        let (old, modified) = stored_formation(api, &app)?;
        let tag = format!("\"{modified}\"");
        ask.conditions.check(
            Some(&tag).filter(|_| modified > 0 || ask.conditions.matches.is_some()).map(String::as_str),
        )?;
        let new = make(&old)?;
        if new == old && modified > 0 {
            return Ok(formation_reply(&app, &new, modified));
        }
        let key = formation_key(&app);
        let txn = Txn { when: vec![(Arc::clone(&key), modified)], writes: vec![write(key, &new)] };
        match store.commit(txn).await {
            Ok(revision) => {
                let mut reply = formation_reply(&app, &new, revision);
                reply.revision = Some(revision);
                return Ok(reply);
            }
            Err(error) => match failed(&error) {
                Some(problem) => return Err(problem),
                None if ask.conditions.matches.is_some() => {
                    return Err(super::request::changed_meanwhile(None));
                }
                None => continue,
            },
        }
    }
    Err(too_often())
}

pub(super) async fn put_formation(api: &Api, ask: &Ask) -> Answer {
    let new = formation_of(&ask.members(&["processes"])?)?;
    change_formation(api, ask, |_| Ok(new.clone())).await
}

pub(super) async fn patch_formation(api: &Api, ask: &Ask) -> Answer {
    let patch = ask.members(&["processes"])?;
    change_formation(api, ask, |old| formation_of(&merged(json!({ "processes": old.processes }), &patch)))
        .await
}

pub(super) fn hosts(api: &Api, ask: &Ask) -> Answer {
    let (after, limit) = ask.page();
    let after = after.map(|host| format!("{HOSTS}{host}"));
    let page = store(api)?.list(HOSTS, after.as_deref(), limit);
    let host = |object: &Object| object.key.strip_prefix(HOSTS).unwrap_or_default().to_owned();
    let mut views = Vec::with_capacity(page.objects.len());
    for object in &page.objects {
        let words: Value = read(object)?;
        views.push(json!({ "host": host(object), "app": words.get("app") }));
    }
    let next = page.objects.last().filter(|_| page.more).map(host);
    Ok(Reply::ok(json!({ "hosts": views, "next": next })))
}
