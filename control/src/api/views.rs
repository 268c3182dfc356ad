//! What is answered: the table as JSON, with live state from the router beside what control wrote.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use ekiden_config::doors::{EndpointStatus, StoreStatus};
use ekiden_config::model::{
    Action, App, Balance, Cluster, Endpoint, HostMatch, Owner, PathMatch, Role, Route,
};
use ekiden_config::names::{AppName, EndpointId};
use serde_json::{Value, json};

use super::reply::{Answer, Reply, page};
use super::request::Ask;
use super::{Api, apps, entrance, explain, limits, overload, resilience, shards};
use crate::overlay::{ClusterKey, Dormant, Key};
use crate::plane::View;
use crate::problem::Problem;
use crate::store::endpoint_key;

/// `GET /v1/table`: everything in force.
pub(super) fn table(api: &Api) -> Value {
    let view = api.view.read();
    let status = api.status.read();
    let listeners = view.live.listeners.values().map(|listener| {
        let role = match listener.role {
            Role::Edge => "edge",
            Role::Inbound => "inbound",
            Role::Outbound => "outbound",
        };
        json!({
            "name": listener.name.as_str(),
            "address": listener.address.to_string(),
            "role": role,
            "limits": limits::of_listener(listener.rate_limits.as_deref()),
        })
    });
    let listeners: Vec<Value> = listeners.collect();
    let apps: Vec<Value> = view.live.apps.values().map(|app| app_view(api, &view, app)).collect();
    let live = |place: &ClusterKey| {
        view.live.apps.get(&place.app).is_some_and(|a| a.clusters.contains_key(&place.cluster))
    };
    let orphans = view.dormant.iter().filter(|(place, _)| !live(place));
    let dormant: Vec<Value> =
        orphans.flat_map(|(place, all)| all.iter().map(|one| orphan_view(place, one))).collect();
    json!({
        "generation": api.inspect.generation().0,
        "stale": status.stale,
        "listeners": listeners,
        "apps": apps,
        "dormant": dormant,
    })
}

/// `GET /v1/status`.
pub(super) fn status(api: &Api) -> Result<Value, Problem> {
    let mut value = serde_json::to_value(&*api.status.read())
        .map_err(|error| Problem::new(503, "no_status", error.to_string()))?;
    let store = |store: StoreStatus| {
        json!({
            "name": store.name,
            "state": store.state,
            "reason": store.reason,
            "since_unix_ms": store.since_unix_ms,
            "routers": store.routers,
        })
    };
    let stores: Vec<Value> = api.inspect.stores().into_iter().map(store).collect();
    if let Some(members) = value.as_object_mut() {
        members.insert("stores".to_owned(), json!(stores));
    }
    Ok(value)
}

/// `GET /v1/apps`: names and sizes. An app that was never accepted is there too, with nothing.
pub(super) fn apps(api: &Api, ask: &Ask) -> Answer {
    let view = api.view.read();
    let status = api.status.read();
    let files = view.texts.names().into_iter();
    let names: BTreeSet<&AppName> = view.live.apps.keys().chain(view.apps.keys()).chain(files).collect();
    let views = names.into_iter().map(|name| {
        let app = view.live.apps.get(name);
        let clusters = app.into_iter().flat_map(|app| app.clusters.values()).map(|cluster| {
            let live = live_of(api, name, cluster);
            let ready = live.values().filter(|endpoint| endpoint.state == "ready").count();
            json!({ "name": cluster.name.as_str(), "endpoints": cluster.endpoints.len(), "ready": ready })
        });
        let owned = view.apps.get(name);
        let one = json!({
            "name": name.as_str(),
            "owner": if owned.is_some() { "api" } else { "file" },
            "version": owned.map(|app| app.version),
            "routes": app.map_or(0, |app| app.routes.len()),
            "clusters": clusters.collect::<Vec<_>>(),
            "refused": status.refused_apps.iter().any(|refused| refused == name.as_str()),
        });
        (name.as_str().to_owned(), one)
    });
    let mut reply = page(ask, "apps", views);
    reply.value = with_generation(api, reply.value);
    Ok(reply)
}

/// `GET /v1/apps/{app}`: what is written, and what serves.
pub(super) fn app(api: &Api, name: &AppName) -> Answer {
    let view = api.view.read();
    let Some(current) = apps::current(api, &view, name)? else {
        return Err(Problem::new(404, "unknown_app", format!("there is no app {name}")));
    };
    let mut value = match view.live.apps.get(name) {
        Some(app) => app_view(api, &view, app),
        // Written and never accepted.
        None => json!({ "name": name.as_str(), "routes": [], "clusters": [] }),
    };
    if let Some(members) = value.as_object_mut() {
        members.insert("owner".to_owned(), json!(current.owner));
        members.insert("adopted".to_owned(), json!(current.adopted));
        members.insert("version".to_owned(), json!(current.version));
        members.insert("spec".to_owned(), current.spec.clone());
    }
    let mut reply = Reply::ok(with_generation(api, value));
    reply.tag(&current.tag);
    Ok(reply)
}

/// `GET /v1/apps/{app}/clusters/{cluster}/endpoints`.
pub(super) fn endpoints(api: &Api, place: &ClusterKey) -> Result<Value, Problem> {
    let view = api.view.read();
    let dormant = dormant_of(&view, place);
    let Some(cluster) = view.live.apps.get(&place.app).and_then(|app| app.clusters.get(&place.cluster))
    else {
        if dormant.is_empty() {
            return Err(absent(&view, place));
        }
        return Ok(with_generation(api, json!({ "endpoints": [], "dormant": dormant })));
    };
    let endpoints = endpoint_views(api, &view, &place.app, cluster);
    Ok(with_generation(api, json!({ "endpoints": endpoints, "dormant": dormant })))
}

/// `GET /v1/apps/{app}/clusters/{cluster}/endpoints/{id}`: the one that is served, else the dormant one.
pub(super) fn endpoint(api: &Api, key: &Key) -> Answer {
    let mut reply = Reply::ok(endpoint_value(api, key)?);
    if let Some(object) = api.store.as_ref().and_then(|store| store.get(&endpoint_key(key))) {
        reply.tag(&format!("\"{}\"", object.modified));
    }
    Ok(reply)
}

fn endpoint_value(api: &Api, key: &Key) -> Result<Value, Problem> {
    let view = api.view.read();
    let place = key.place();
    let cluster = view.live.apps.get(&key.app).and_then(|app| app.clusters.get(&key.cluster));
    let served = cluster.and_then(|cluster| cluster.endpoints.iter().find(|endpoint| endpoint.id == key.id));
    if let (Some(cluster), Some(endpoint)) = (cluster, served) {
        let live = live_of(api, &key.app, cluster);
        return Ok(with_generation(
            api,
            endpoint_view(endpoint, live.get(&endpoint.id), view.apps.contains_key(&key.app)),
        ));
    }
    let dormant = view.dormant.get(&place).and_then(|all| all.iter().find(|one| one.endpoint.id == key.id));
    match dormant {
        Some(dormant) => Ok(with_generation(api, dormant_view(dormant))),
        None if cluster.is_none() => Err(absent(&view, &place)),
        None => Err(Problem::new(404, "unknown_endpoint", format!("there is no endpoint {} here", key.id))),
    }
}

fn absent(view: &View, place: &ClusterKey) -> Problem {
    if view.live.apps.contains_key(&place.app) {
        let detail = format!("the app {} has no cluster {}", place.app, place.cluster);
        return Problem::new(404, "unknown_cluster", detail);
    }
    Problem::new(404, "unknown_app", format!("there is no app {}", place.app))
}

fn with_generation(api: &Api, mut value: Value) -> Value {
    if let Some(members) = value.as_object_mut() {
        members.insert("generation".to_owned(), json!(api.inspect.generation().0));
    }
    value
}

fn app_view(api: &Api, view: &View, app: &App) -> Value {
    let routes: Vec<Value> = app.routes.iter().map(|route| route_view(route)).collect();
    let clusters = app.clusters.values().map(|cluster| {
        let place = ClusterKey { app: app.name.clone(), cluster: cluster.name.clone() };
        let balance = match cluster.policy.balance {
            Balance::P2c => "p2c",
            Balance::RoundRobin => "round_robin",
            Balance::LeastRequest => "least_request",
            Balance::Random => "random",
            Balance::PeakEwma => "peak_ewma",
            Balance::Prequal => "prequal",
        };
        let names = cluster.names.iter().map(|name| {
            json!({ "id": name.id.as_ref().map(EndpointId::as_str), "name": &*name.name, "port": name.port })
        });
        json!({
            "name": cluster.name.as_str(),
            "balance": balance,
            "shard": cluster.policy.shard.as_ref().map(|words| {
                shards::view(words, api.inspect.shards(&app.name, &cluster.name).as_ref())
            }),
            "probed": cluster.policy.probe.is_some(),
            "slots": overload::slots(&cluster.policy),
            "affinity": resilience::affinity(&cluster.policy),
            "breaker": resilience::breaker(&cluster.policy),
            "retry_budget": resilience::budget(&cluster.policy),
            "subset": cluster.policy.subset,
            "adaptive_limit": resilience::adaptive(&cluster.policy),
            "groups": explain::groups(&api.inspect.groups(&app.name, &cluster.name)),
            "names": names.collect::<Vec<_>>(),
            "endpoints": endpoint_views(api, view, &app.name, cluster),
            "dormant": dormant_of(view, &place),
        })
    });
    json!({
        "name": app.name.as_str(),
        // The same on every route of an app.
        "caps": overload::caps(app.routes.iter().find_map(|route| route.caps.as_ref())),
        "hold": overload::hold(app.routes.iter().find_map(|route| route.hold.as_ref())),
        "routes": routes,
        "clusters": clusters.collect::<Vec<_>>(),
    })
}

pub(super) fn route_view(route: &Route) -> Value {
    let host = match &route.host {
        HostMatch::Exact(host) => host.to_string(),
        HostMatch::Wildcard(suffix) => format!("*.{suffix}"),
        HostMatch::Any => "*".to_owned(),
    };
    let path = match &route.path {
        PathMatch::Prefix(path) => json!({ "prefix": &**path }),
        PathMatch::Exact(path) => json!({ "exact": &**path }),
        PathMatch::Regex(regex) => json!({ "regex": &*regex.text }),
    };
    let action = match &route.action {
        Action::Forward(forward) => {
            let sides = forward.clusters.iter();
            let sides = sides.map(|side| json!({ "name": side.cluster.as_str(), "weight": side.weight }));
            json!({ "clusters": sides.collect::<Vec<_>>() })
        }
        Action::Redirect(redirect) => json!({ "redirect": redirect.status }),
        Action::Fixed(fixed) => json!({ "fixed": fixed.status }),
        Action::Maintenance(_) => json!({ "maintenance": true }),
    };
    let listeners = route.listeners.as_ref();
    json!({
        "name": route.name.as_str(),
        "listeners": listeners.map(|all| all.iter().map(|name| name.as_str()).collect::<Vec<_>>()),
        "host": host,
        "path": path,
        "methods": route.methods.iter().map(|method| &**method).collect::<Vec<_>>(),
        "conditions": route.headers.len() + route.query.len() + route.cookies.len() + route.client_cert.len()
            + route.claims.len(),
        "action": action,
        "priority": route.priority.word(),
        "entrance": entrance::steps(route),
        "limits": limits::of_route(route.rate_limits.as_deref()),
        "timeouts": resilience::timeouts(route),
        "attempts": route.attempts,
        "retry": resilience::retry(route),
        "hedge": resilience::hedge(route),
        "mirror": resilience::mirror(route),
        "faults": resilience::faults(route),
    })
}

fn live_of(api: &Api, app: &AppName, cluster: &Cluster) -> HashMap<EndpointId, EndpointStatus> {
    let live = api.inspect.endpoints(app, &cluster.name).unwrap_or_default();
    live.into_iter().map(|endpoint| (endpoint.id.clone(), endpoint)).collect()
}

fn endpoint_views(api: &Api, view: &View, app: &AppName, cluster: &Cluster) -> Vec<Value> {
    let live = live_of(api, app, cluster);
    let words = view.apps.contains_key(app);
    let one = |endpoint: &Arc<Endpoint>| endpoint_view(endpoint, live.get(&endpoint.id), words);
    cluster.endpoints.iter().map(one).collect()
}

/// `in_api`: the words of its app are the API's, so what is written there is too.
fn endpoint_view(endpoint: &Endpoint, live: Option<&EndpointStatus>, in_api: bool) -> Value {
    let owner = match endpoint.owner {
        Owner::File if in_api => "app",
        Owner::File => "file",
        Owner::Api => "api",
        Owner::Source => "source",
    };
    let mut view = json!({
        "id": endpoint.id.as_str(),
        "address": endpoint.address.to_string(),
        "weight": endpoint.weight,
        "zone": endpoint.zone(),
        "priority": endpoint.priority,
        "drain": endpoint.drain,
        "owner": owner,
        // Published, and not yet seen by the router.
        "state": "unknown",
    });
    if let (Some(members), Some(live)) = (view.as_object_mut(), live) {
        members.insert("state".to_owned(), json!(live.state));
        members.insert("reason".to_owned(), json!(live.reason));
        members.insert("since_unix_ms".to_owned(), json!(live.since_unix_ms));
        members.insert("in_flight".to_owned(), json!(live.in_flight));
    }
    view
}

fn dormant_of(view: &View, place: &ClusterKey) -> Vec<Value> {
    view.dormant.get(place).into_iter().flat_map(|all| all.iter().map(dormant_view)).collect()
}

fn dormant_view(dormant: &Dormant) -> Value {
    let mut view = endpoint_view(&dormant.endpoint, None, false);
    if let Some(members) = view.as_object_mut() {
        members.insert("state".to_owned(), json!("dormant"));
        members.insert("reason".to_owned(), json!(dormant.why.words()));
    }
    view
}

fn orphan_view(place: &ClusterKey, dormant: &Dormant) -> Value {
    let mut view = dormant_view(dormant);
    if let Some(members) = view.as_object_mut() {
        members.insert("app".to_owned(), json!(place.app.as_str()));
        members.insert("cluster".to_owned(), json!(place.cluster.as_str()));
    }
    view
}
