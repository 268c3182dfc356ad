//! Dynos: placements that a platform pushes. "Dyno `web.1` of release `v42` runs at this address", and in which state.
//!
//! A dyno is an endpoint of the API with a release. A ready one is served by the cluster named like its process type (or by
//! `cluster`); one that starts is not; a draining one gets no new requests; `DELETE` says that it is gone. A dyno whose
//! cluster no route goes to, such as a worker, is kept and not served.

use std::sync::Arc;

use ekiden_config::names::{AppName, ClusterName, EndpointId};
use serde_json::{Value, json};

use super::Api;
use super::body::dyno_put;
use super::reply::{Answer, Reply, page};
use super::request::Ask;
use super::routes::send;
use crate::desired::merge::merged;
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

pub(super) fn list(api: &Api, ask: &Ask) -> Answer {
    let dynos = all(api, &ask.app()?)?;
    Ok(page(ask, "dynos", dynos.iter().map(|dyno| (dyno.id.clone(), view(dyno)))))
}

pub(super) fn one(api: &Api, ask: &Ask) -> Answer {
    let (app, (id, _)) = (ask.app()?, ask.dyno()?);
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
