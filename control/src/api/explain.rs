//! `GET /v1/explain`: the router's word on a request, with the words of what applies to it beside. Matches nothing itself.

use ekiden_config::doors::{
    Destination, EndpointStory, Explanation, Finding, KeyStory, Question, RuleStory, Unexplained,
};
use ekiden_config::model::Route;
use ekiden_config::names::{AppName, ClusterName, ListenerName, RouteName};
use serde_json::{Map, Value, json};

use super::reply::{Answer, Reply};
use super::request::Ask;
use super::{Api, limits, overload, resilience, views};
use crate::plane::View;
use crate::problem::Problem;

/// Fields of one question at most.
pub(super) const HEADERS_MAX: usize = 100;

/// `GET /v1/explain`.
pub(super) fn answer(api: &Api, ask: &Ask) -> Answer {
    let question = question(ask)?;
    match api.inspect.explain(&question) {
        Ok(explanation) => Ok(Reply::ok(view(&api.view.read(), &explanation))),
        Err(Unexplained::BadQuestion(why)) => Err(Problem::new(400, "bad_question", why)),
        Err(Unexplained::NoListener(why)) => Err(Problem::new(404, "unknown_listener", why)),
    }
}

fn bad(detail: String) -> Problem {
    Problem::new(400, "bad_parameter", detail)
}

fn question(ask: &Ask) -> Result<Question, Problem> {
    let url = ask.text("url").ok_or_else(|| {
        bad("url is missing: write ?url=http://HOST/PATH, percent-encoded where it holds & or #".to_owned())
    })?;
    let headers = ask.list("header");
    if headers.len() > HEADERS_MAX {
        return Err(bad(format!("{} fields; at most {HEADERS_MAX} are taken", headers.len())));
    }
    let headers = headers.iter().map(|text| field(text)).collect::<Result<_, _>>()?;
    let method = ask.text("method").unwrap_or("GET");
    if !is_token(method) {
        return Err(bad(format!("method={method:?} is no method")));
    }
    let client = ask
        .text("client")
        .map(|text| text.parse().map_err(|_| bad(format!("client={text:?} is no IP address"))));
    let listener = ask
        .text("listener")
        .map(|text| ListenerName::new(text).map_err(|error| bad(format!("listener={text:?} {error}"))));
    Ok(Question {
        url: url.to_owned(),
        method: method.to_owned(),
        headers,
        client: client.transpose()?,
        listener: listener.transpose()?,
    })
}

fn field(text: &str) -> Result<(String, String), Problem> {
    let plain = |value: &str| value.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte));
    match text.split_once(':') {
        Some((name, value)) if is_token(name) && plain(value) => {
            Ok((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()))
        }
        _ => Err(bad(format!("header={text:?}: write NAME: VALUE"))),
    }
}

fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

fn view(view: &View, told: &Explanation) -> Value {
    let place = match &told.verdict {
        Finding::Route(app, route) | Finding::Preflight(app, route) => Some((app, route)),
        Finding::Refused { route, .. } => route.as_ref().map(|(app, route)| (app, route)),
        Finding::Https(_) => None,
    };
    let loose = told.loose.as_ref().map(|loose| {
        json!({ "path": loose.path, "route": loose.route.as_ref().map(|(app, route)| pair(app, route)) })
    });
    let cluster = told.destination.as_ref().map(|destination| &destination.cluster);
    json!({
        "generation": told.generation.0,
        "listener": { "name": told.listener.as_str(), "reason": told.listener_reason },
        "request": {
            "method": told.method,
            "host": told.host,
            "path": told.path,
            "client": told.client.map(|client| client.to_string()),
        },
        "loose_path": loose,
        "verdict": verdict(&told.verdict),
        "rules": told.rules.iter().map(rule).collect::<Vec<_>>(),
        "rules_omitted": told.rules_omitted,
        "policies": place.and_then(|place| policies(view, &told.listener, place, cluster)),
        "destination": told.destination.as_ref().map(destination),
    })
}

fn pair(app: &AppName, route: &RouteName) -> Value {
    json!({ "app": app.as_str(), "route": route.as_str() })
}

fn verdict(finding: &Finding) -> Value {
    let (mut value, route) = match finding {
        Finding::Route(app, route) => {
            (json!({ "kind": "route", "words": "the route takes it" }), Some((app, route)))
        }
        Finding::Preflight(app, route) => {
            let words = "a preflight, answered for the route that it asks about";
            (json!({ "kind": "preflight", "words": words }), Some((app, route)))
        }
        Finding::Https(port) => {
            (json!({ "kind": "https", "words": format!("sent to https on port {port}") }), None)
        }
        Finding::Refused { route, code, status, words } => (
            json!({ "kind": "refused", "words": words, "code": code, "status": status }),
            route.as_ref().map(|(app, route)| (app, route)),
        ),
    };
    if let (Some(members), Some((app, route))) = (value.as_object_mut(), route) {
        members.insert("app".to_owned(), json!(app.as_str()));
        members.insert("route".to_owned(), json!(route.as_str()));
    }
    value
}

fn rule(story: &RuleStory) -> Value {
    let checks = story
        .checks
        .iter()
        .map(|check| json!({ "of": check.of, "wanted": check.wanted, "holds": check.holds }));
    json!({
        "app": story.app.as_str(),
        "route": story.route.as_str(),
        "standing": story.standing.word(),
        "checks": checks.collect::<Vec<_>>(),
    })
}

/// What applies to the requests of a route, as words; null where control has no such route any more.
fn policies(
    view: &View,
    listener: &ListenerName,
    (app, route): (&AppName, &RouteName),
    cluster: Option<&ClusterName>,
) -> Option<Value> {
    let app = view.live.apps.get(app)?;
    let route: &Route = app.routes.iter().find(|one| one.name == *route)?;
    let listener = view.live.listeners.get(listener);
    let mut all = Map::new();
    let mut add = |name: &str, value: Value| drop(all.insert(name.to_owned(), value));
    add("listener_limits", json!(limits::of_listener(listener.and_then(|one| one.rate_limits.as_deref()))));
    add("listener_admission", json!(listener.is_some_and(|one| one.admission.is_some())));
    if let Value::Object(words) = views::route_view(route) {
        words.into_iter().for_each(|(name, value)| add(&name, value));
    }
    add("caps", overload::caps(route.caps.as_ref()));
    add("hold", overload::hold(route.hold.as_ref()));
    add("body_limit", json!(route.body_limit.or_else(|| listener.and_then(|one| one.limits.body))));
    if let Some(cluster) = cluster.and_then(|name| app.clusters.get(name)) {
        add("cluster", resilience::of_cluster(&cluster.policy));
    }
    Some(Value::Object(all))
}

fn destination(to: &Destination) -> Value {
    json!({
        "cluster": to.cluster.as_str(),
        "split": to.split,
        "picker": to.picker,
        "key": to.key.as_ref().map(key),
        "endpoint": to.endpoint.as_ref().map(|id| id.as_str()),
        "reason": to.reason,
        "endpoints": to.endpoints.iter().map(endpoint).collect::<Vec<_>>(),
        "endpoints_omitted": to.endpoints_omitted,
    })
}

fn key(key: &KeyStory) -> Value {
    json!({
        "text": key.text,
        "hash": format!("{:016x}", key.hash),
        "algorithm": key.algorithm,
        "position": key.position,
        "order": key.order.iter().map(|id| id.as_str()).collect::<Vec<_>>(),
        "replicas": key.replicas,
    })
}

fn endpoint(one: &EndpointStory) -> Value {
    json!({
        "id": one.id.as_str(),
        "address": one.address,
        "state": one.state,
        "reason": one.reason,
        "in_flight": one.in_flight,
        "weight": one.weight,
        "eligible": one.eligible,
        "share": one.share,
    })
}
