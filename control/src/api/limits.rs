//! Rate limits as `GET /v1/table` shows them: their words, not what they counted (metrics say that).

use ekiden_config::model::{KeyPart, Limit, LimitUnit, RouteLimits};
use serde_json::{Value, json};

/// Those of a listener.
pub(super) fn of_listener(limits: Option<&Vec<Limit>>) -> Vec<Value> {
    limits.into_iter().flatten().map(|limit| view("listener", limit)).collect()
}

/// Those of a route, its app's first.
pub(super) fn of_route(limits: Option<&RouteLimits>) -> Vec<Value> {
    let app = limits.into_iter().flat_map(|limits| limits.app.iter()).map(|limit| view("app", limit));
    let route = limits.into_iter().flat_map(|limits| &limits.route).map(|limit| view("route", limit));
    app.chain(route).collect()
}

fn view(of: &str, limit: &Limit) -> Value {
    let mut value = json!({
        "of": of,
        "name": &*limit.name,
        "key": limit.key.iter().map(part).collect::<Vec<_>>(),
        "keys": limit.keys,
        "shadow": limit.shadow,
    });
    let Some(members) = value.as_object_mut() else { return value };
    let mut add = |name: &str, value: Value| members.insert(name.to_owned(), value);
    match limit.unit {
        LimitUnit::AtATime => {
            add("concurrency", json!(limit.rate.count));
        }
        LimitUnit::Rate => {
            add("count", json!(limit.rate.count));
            add("per_s", json!(limit.rate.per.as_secs()));
            add("burst", json!(limit.rate.burst));
        }
    }
    if let Some(store) = &limit.shared {
        add("shared", json!(store.as_str()));
    }
    value
}

pub(super) fn part(part: &KeyPart) -> String {
    match part {
        KeyPart::Client => "client".to_owned(),
        KeyPart::Group(_) => "group".to_owned(),
        KeyPart::Header(name) => format!("header:{name}"),
        KeyPart::Cookie(name) => format!("cookie:{name}"),
        KeyPart::Query(name) => format!("query:{name}"),
        KeyPart::Path(number) => format!("path:{number}"),
        KeyPart::Host => "host".to_owned(),
        KeyPart::WholePath => "path".to_owned(),
        KeyPart::WholeQuery => "query".to_owned(),
        KeyPart::ApiKey => "api_key".to_owned(),
        KeyPart::ClientCert(field) => format!("client_cert:{}", field.word()),
    }
}
