//! Dynos: placements that a platform pushes. "Dyno `web.1` of release `v42` runs at this address", and in which state.
//!
//! A dyno is an endpoint of the API with a release. A ready one is served by the cluster named like its process type (or by
//! `cluster`); one that starts is not; a draining one gets no new requests; `DELETE` says that it is gone. A dyno whose
//! cluster no route goes to, such as a worker, is kept and not served. Beside those that are pushed stand the dynos of a Procfile, which only
//! its supervisor places.

use std::sync::Arc;

use ekiden_config::names::{AppName, ClusterName, EndpointId};
use serde_json::{Value, json};

use super::Api;
use super::body::dyno_put;
use super::reply::{Answer, Reply, page};
use super::request::Ask;
use super::routes::send;
use crate::desired::merge::merged;
use crate::desired::{RELEASES, ReleaseWords, numbered_key, words};
use crate::dynos::{Board, DynoView, RolloutView};
use crate::overlay::Key;
use crate::plane::{Change, IfMatch, not_durable};
use crate::problem::Problem;
use crate::store::{ENDPOINTS, Object, Store};

/// Members of a body.
const MEMBERS: [&str; 6] = ["release", "address", "state", "cluster", "weight", "zone"];

/// A stored dyno.
struct Stored {
    cluster: ClusterName,
    id: String,
    /// Members of a body.
    body: Value,
    object: Object,
}

fn store(api: &Api) -> Result<&Arc<dyn Store>, Problem> {
    api.store.as_ref().ok_or_else(not_durable)
}

/// Reads an endpoint; `None` when it is no dyno.
fn stored(prefix: &str, object: Object) -> Option<Stored> {
    let (cluster, id) = object.key.strip_prefix(prefix)?.split_once('/')?;
    let words: Value = serde_json::from_str(&object.value).ok()?;
    let release = words.get("release").filter(|release| release.is_string())?;
    let flag = |name: &str| words.get(name) == Some(&Value::Bool(true));
    let state = match (flag("starting"), flag("drain")) {
        (true, _) => "starting",
        (false, true) => "draining",
        (false, false) => "ready",
    };
    let body = json!({
        "release": release,
        "address": words.get("address"),
        "state": state,
        "cluster": cluster,
        "weight": words.get("weight"),
        "zone": words.get("zone"),
    });
    Some(Stored { cluster: ClusterName::new(cluster).ok()?, id: id.to_owned(), body, object })
}

/// The dynos of an app, in order of their names.
fn all(api: &Api, app: &AppName) -> Result<Vec<Stored>, Problem> {
    let prefix = format!("{ENDPOINTS}{app}/");
    let objects = store(api)?.list(&prefix, None, usize::MAX).objects;
    let mut dynos: Vec<Stored> = objects.into_iter().filter_map(|object| stored(&prefix, object)).collect();
    dynos.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(dynos)
}

fn find(api: &Api, app: &AppName, id: &EndpointId) -> Result<Option<Stored>, Problem> {
    let prefix = format!("{ENDPOINTS}{app}/");
    let objects = store(api)?.list(&prefix, None, usize::MAX).objects;
    let named = objects.into_iter().filter(|object| object.key.ends_with(id.as_str()));
    Ok(named.filter_map(|object| stored(&prefix, object)).find(|dyno| dyno.id == id.as_str()))
}

fn view(dyno: &Stored) -> Value {
    let mut view = dyno.body.clone();
    if let Some(members) = view.as_object_mut() {
        let kind = dyno.id.rsplit_once('.').map_or(dyno.id.as_str(), |(kind, _)| kind);
        members.insert("name".to_owned(), json!(dyno.id));
        members.insert("type".to_owned(), json!(kind));
    }
    view
}

/// The dynos of the Procfile, when it is this app's.
fn run_here(api: &Api, app: &AppName) -> Vec<DynoView> {
    let told = api.board.as_ref().map(Board::read).filter(|told| told.place.app == *app);
    told.map(|told| told.dynos.clone()).unwrap_or_default()
}

/// Two of a name may be there at once, one of each release, or one that drains beside its successor: pages go by the endpoint.
fn run_here_views(api: &Api, app: &AppName) -> Vec<(String, Value)> {
    let key =
        |dyno: &DynoView| dyno.endpoint.clone().unwrap_or_else(|| format!("{}@{}", dyno.name, dyno.release));
    run_here(api, app).into_iter().map(|dyno| (key(&dyno), json!(dyno))).collect()
}

pub(super) fn list(api: &Api, ask: &Ask) -> Answer {
    let app = ask.app()?;
    let mut views = run_here_views(api, &app);
    if api.store.is_some() || views.is_empty() {
        views.extend(all(api, &app)?.iter().map(|dyno| (dyno.id.clone(), view(dyno))));
    }
    views.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(page(ask, "dynos", views.into_iter()))
}

pub(super) fn rollout(api: &Api, ask: &Ask) -> Answer {
    let app = ask.app()?;
    let Some(told) = api.board.as_ref().map(Board::read).filter(|told| told.place.app == app) else {
        let detail =
            format!("no Procfile runs dynos of the app {app} here, so a release of it is only recorded");
        return Err(Problem::new(404, "not_run_here", detail));
    };
    let asked = ask.count("release");
    let found = match asked {
        Some(release) => told.rollouts.iter().rev().find(|rollout| rollout.release == release),
        None => told.rollouts.last(),
    };
    let mut value = match (found, asked) {
        (Some(rollout), _) => json!(rollout),
        (None, Some(release)) => waiting(api, &app, release, told.rollouts.last())?,
        (None, None) => {
            return Err(Problem::new(404, "no_rollout", "nothing was rolled out since the start"));
        }
    };
    if let Some(members) = value.as_object_mut() {
        members.insert("app".to_owned(), json!(app.as_str()));
    }
    Ok(Reply::ok(value))
}

/// A release that has no rollout: one that was recorded a moment ago, or one that a newer was faster than.
fn waiting(api: &Api, app: &AppName, release: u64, last: Option<&RolloutView>) -> Result<Value, Problem> {
    let object = api.store.as_ref().and_then(|store| store.get(&numbered_key(RELEASES, app, release)));
    let recorded = object.and_then(|object| words::<ReleaseWords>(&object).ok());
    let Some(recorded) = recorded else {
        return Err(Problem::new(404, "unknown_release", format!("the app {app} has no release {release}")));
    };
    let passed = last.is_some_and(|last| last.release > release);
    // One after the other: the dynos of the one before are on their way out.
    let after = last.filter(|last| !passed && last.ended_unix_ms.is_none());
    let (state, reason) = match after {
        _ if recorded.refused.is_some() => {
            let state = if recorded.superseded { "superseded" } else { "failed" };
            (state, recorded.refused.unwrap_or_default())
        }
        _ if passed => ("superseded", "a newer release came first".to_owned()),
        Some(last) => ("waiting", format!("the rollout of {} ends first", last.name)),
        None => ("waiting", "it is not begun yet".to_owned()),
    };
    Ok(json!({
        "release": release, "name": recorded.name, "state": state, "reason": reason,
        "after": after.map(|last| last.release),
        "began_unix_ms": null, "ended_unix_ms": null, "late": [],
    }))
}

pub(super) fn one(api: &Api, ask: &Ask) -> Answer {
    let (app, (id, _)) = (ask.app()?, ask.dyno()?);
    let mut mine = run_here(api, &app).into_iter().filter(|dyno| dyno.name == id.as_str());
    if let Some(dyno) = mine.next() {
        // The one that serves, when one leaves beside it.
        let better = mine.find(|_| matches!(dyno.state, "draining" | "stopping"));
        return Ok(Reply::ok(json!(better.unwrap_or(dyno))));
    }
    let dyno = find(api, &app, &id)?.ok_or_else(|| unknown(&app, &id))?;
    let mut reply = Reply::ok(view(&dyno));
    reply.tag(&format!("\"{}\"", dyno.object.modified));
    Ok(reply)
}

fn unknown(app: &AppName, id: &EndpointId) -> Problem {
    Problem::new(404, "unknown_dyno", format!("the app {app} has no dyno {id}"))
}

pub(super) async fn put(api: &Api, ask: &Ask) -> Answer {
    let body = ask.members(&MEMBERS)?;
    place(api, ask, &body, None).await
}

pub(super) async fn patch(api: &Api, ask: &Ask) -> Answer {
    let patch = ask.members(&MEMBERS)?;
    let (app, (id, _)) = (ask.app()?, ask.dyno()?);
    let old = find(api, &app, &id)?.ok_or_else(|| unknown(&app, &id))?;
    let body = merged(old.body.clone(), &patch);
    // Made from what was there, so it holds only while that is there.
    let tag = format!("\"{}\"", old.object.modified);
    ask.conditions.check(Some(&tag))?;
    place(api, ask, &body, Some(IfMatch::Tags(vec![tag]))).await
}

async fn place(api: &Api, ask: &Ask, body: &Value, matches: Option<IfMatch>) -> Answer {
    let (app, (id, kind)) = (ask.app()?, ask.dyno()?);
    let wanted = match body.get("cluster") {
        None | Some(Value::Null) => kind.as_str(),
        Some(Value::String(cluster)) => cluster,
        Some(_) => return Err(Problem::at(422, "bad_value", "/cluster", "\"cluster\" must be a name")),
    };
    let cluster = ClusterName::new(wanted).map_err(|error| {
        Problem::at(422, "bad_name", "/cluster", format!("the cluster {wanted:?} {error}"))
    })?;
    if let Some(old) = find(api, &app, &id)?.filter(|old| old.cluster != cluster) {
        let detail = format!("the dyno {id} is in the cluster {}; delete it first", old.cluster);
        return Err(Problem::at(409, "placed_elsewhere", "/cluster", detail));
    }
    let put = dyno_put(body)?;
    let conditions = match matches {
        Some(matches) => (Some(matches), false),
        None => (ask.conditions.matches.clone(), ask.conditions.absent),
    };
    send(api, Key { app, cluster, id }, Change::Put(put), conditions).await
}

pub(super) async fn delete(api: &Api, ask: &Ask) -> Answer {
    let (app, (id, _)) = (ask.app()?, ask.dyno()?);
    let old = find(api, &app, &id)?.ok_or_else(|| unknown(&app, &id))?;
    let conditions = (ask.conditions.matches.clone(), ask.conditions.absent);
    send(api, Key { app, cluster: old.cluster, id }, Change::Delete, conditions).await
}
