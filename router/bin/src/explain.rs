//! `ekiden explain`: asks the control API what would become of a request, and puts the answer into lines.
//!
//! Decides nothing: the router's word is printed as it is.

use std::fmt::Write;
use std::process::ExitCode;

use serde_json::Value;

use crate::ask::{ask, encoded, end, get_of, word};
use crate::cli::Explain;

/// `ekiden explain`.
pub(crate) fn explain(arguments: &Explain) -> ExitCode {
    let Explain { url, headers, method, client, listener, server } = arguments;
    let mut query = vec![format!("url={}", encoded(url)), format!("method={}", encoded(method))];
    query.extend(headers.iter().map(|header| format!("header={}", encoded(header))));
    query.extend(client.iter().map(|client| format!("client={client}")));
    query.extend(listener.iter().map(|listener| format!("listener={}", encoded(listener))));
    let answer = ask(server, get_of(format!("/v1/explain?{}", query.join("&"))));
    end(server, answer, |value| text(url, value))
}

/// The whole answer for people. Writing to a String does not fail.
fn text(url: &str, value: &Value) -> String {
    let request = &value["request"];
    let mut text = format!("{} {url}\n", word(request, "method"));
    let _ = writeln!(text, "  {}", verdict(&value["verdict"]));
    let listener = &value["listener"];
    let _ = writeln!(text, "  listener {}: {}", word(listener, "name"), word(listener, "reason"));
    let _ = writeln!(
        text,
        "  matched as host {}, path {}",
        or_none(word(request, "host")),
        or_none(word(request, "path"))
    );
    if let Some(loose) = value["loose_path"].as_object() {
        let path = loose.get("path").and_then(Value::as_str).unwrap_or_default();
        let route = loose.get("route").filter(|route| route.is_object());
        let route = route.map_or("no route".to_owned(), place);
        let _ = writeln!(text, "  loosely read, its path is {path}: {route}");
    }
    rules(&mut text, value);
    if let Some(policies) = value["policies"].as_object() {
        let _ = writeln!(text, "policies");
        for (name, words) in policies.iter().filter(|(name, words)| tells(name, words)) {
            let _ = writeln!(text, "  {name:18} {}", plain(words));
        }
    }
    if value["destination"].is_object() {
        destination(&mut text, &value["destination"]);
    }
    text
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "(none)" } else { text }
}

fn place(value: &Value) -> String {
    format!("{}/{}", word(value, "app"), word(value, "route"))
}

fn verdict(value: &Value) -> String {
    let words = word(value, "words");
    match (word(value, "kind"), value.get("route")) {
        ("refused", route) => {
            let by = route.map_or(String::new(), |_| format!(" by {}", place(value)));
            format!("refused{by}: {} {}: {words}", value["status"], word(value, "code"))
        }
        (_, Some(_)) => format!("{}: {words}", place(value)),
        (_, None) => words.to_owned(),
    }
}

fn rules(text: &mut String, value: &Value) {
    let rules = value["rules"].as_array().map_or(&[][..], Vec::as_slice);
    if rules.is_empty() {
        return;
    }
    let _ = writeln!(text, "routes, in the order in which they are tried");
    let wide = rules.iter().map(|rule| place(rule).chars().count()).max().unwrap_or(0);
    for rule in rules {
        let standing = word(rule, "standing");
        let mark = if standing == "taken" { '*' } else { ' ' };
        let why = match standing {
            "taken" => "takes it".to_owned(),
            "behind" => "would take it, and stands behind".to_owned(),
            _ => failing(rule),
        };
        let _ = writeln!(text, "{mark} {:wide$}  {why}", place(rule));
    }
    if let Some(more) = value["rules_omitted"].as_u64().filter(|more| *more > 0) {
        let _ = writeln!(text, "  and {more} more, not shown");
    }
}

/// The conditions that fail.
fn failing(rule: &Value) -> String {
    let checks = rule["checks"].as_array().into_iter().flatten();
    let failed = checks.filter(|check| check["holds"] == false);
    let words: Vec<String> =
        failed.map(|check| format!("{}: {}", word(check, "of"), word(check, "wanted"))).collect();
    format!("not so: {}", words.join("; "))
}

/// What the rule itself says is shown with the rules; what is not set says nothing.
fn tells(name: &str, words: &Value) -> bool {
    let is_rule = matches!(name, "name" | "listeners" | "host" | "path" | "methods" | "conditions");
    let is_nothing = match words {
        Value::Null => true,
        Value::Bool(set) => !set,
        Value::Array(all) => all.is_empty(),
        Value::Number(_) | Value::String(_) | Value::Object(_) => false,
    };
    !is_rule && !is_nothing
}

/// JSON without its quotes and what is null.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(all) => all.iter().map(plain).collect::<Vec<_>>().join("; "),
        Value::Object(members) => {
            let said = members.iter().filter(|(_, value)| !value.is_null());
            said.map(|(name, value)| match value {
                Value::Object(_) | Value::Array(_) => format!("{name} ({})", plain(value)),
                _ => format!("{name} {}", plain(value)),
            })
            .collect::<Vec<_>>()
            .join(", ")
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// How requests are shared out among groups of endpoints.
fn groups(text: &mut String, to: &Value) {
    for group in to["groups"].as_array().into_iter().flatten() {
        let share = group["share"].as_f64().unwrap_or(0.0) * 100.0;
        let zone = match (group["kind"].as_str(), group["zone"].as_str()) {
            (Some(kind), Some(zone)) => format!(", zone {zone} ({kind})"),
            (Some(kind), None) => format!(", no zone ({kind})"),
            (None, _) => String::new(),
        };
        let _ = writeln!(
            text,
            "  {share:5.1} % to priority {}{zone}: {} of {} endpoints",
            group["priority"], group["ready"], group["endpoints"]
        );
    }
}

fn destination(text: &mut String, to: &Value) {
    let _ = writeln!(text, "cluster {}, by {}", word(to, "cluster"), word(to, "picker"));
    if let Some(split) = to["split"].as_str() {
        let _ = writeln!(text, "  split {split}");
    }
    if let Some(key) = to["key"].as_object() {
        let get = |name: &str| key.get(name).and_then(Value::as_str).unwrap_or_default();
        let order = key.get("order").and_then(Value::as_array).into_iter().flatten();
        let order: Vec<&str> = order.filter_map(Value::as_str).collect();
        let place = key.get("position").and_then(Value::as_f64);
        let place = place.map_or(String::new(), |at| format!(", at {:.2} % of the ring", at * 100.0));
        let _ = writeln!(text, "  key {:?}, hash {}{place}", get("text"), get("hash"));
        let replicas = key.get("replicas").and_then(Value::as_u64).unwrap_or(1);
        let _ = writeln!(text, "  its order is {}; served by {replicas}", order.join(", then "));
    }
    let _ = match to["endpoint"].as_str() {
        Some(id) => writeln!(text, "  endpoint {id}: {}", word(to, "reason")),
        None => writeln!(text, "  {}", word(to, "reason")),
    };
    groups(text, to);
    let endpoints = to["endpoints"].as_array().map_or(&[][..], Vec::as_slice);
    let wide = endpoints.iter().map(|one| word(one, "id").chars().count()).max().unwrap_or(0);
    for one in endpoints {
        let mark = if one["id"] == to["endpoint"] { '*' } else { ' ' };
        let share = one["share"].as_f64().unwrap_or(0.0) * 100.0;
        let (id, state, reason) = (word(one, "id"), word(one, "state"), word(one, "reason"));
        let _ = writeln!(
            text,
            "{mark}   {id:wide$}  {share:5.1} %  weight {}, {} in flight, {state}: {reason}",
            one["weight"], one["in_flight"]
        );
    }
    if let Some(more) = to["endpoints_omitted"].as_u64().filter(|more| *more > 0) {
        let _ = writeln!(text, "    and {more} more, not shown");
    }
}
