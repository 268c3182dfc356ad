//! The three formats say the same, and the documented defaults are true.

use super::*;

/// Writes a JSON value as TOML: every table inline.
fn as_toml(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Object(object) => {
            let pairs: Vec<_> =
                object.iter().map(|(key, value)| format!("{key:?} = {}", as_toml(value))).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        serde_json::Value::Array(items) => {
            format!("[{}]", items.iter().map(as_toml).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// Writes a JSON value as block YAML.
fn as_yaml(value: &serde_json::Value, indent: usize, out: &mut String) {
    let pad = " ".repeat(indent);
    match value {
        serde_json::Value::Object(object) if !object.is_empty() => {
            for (key, value) in object {
                out.push_str(&format!("\n{pad}{key:?}:"));
                as_yaml(value, indent + 2, out);
            }
        }
        serde_json::Value::Array(items) if !items.is_empty() => {
            for item in items {
                out.push_str(&format!("\n{pad}-"));
                as_yaml(item, indent + 2, out);
            }
        }
        other => out.push_str(&format!(" {other}")),
    }
}

/// The tree of a TOML text as JSON.
fn as_json(node: &crate::tree::Node) -> serde_json::Value {
    use crate::tree::Value;
    match &node.value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(flag) => (*flag).into(),
        Value::Int(number) => (*number).into(),
        Value::Float(number) => (*number).into(),
        Value::Text(text) => text.as_str().into(),
        Value::List(items) => items.iter().map(as_json).collect(),
        Value::Table(entries) => entries
            .iter()
            .map(|entry| (entry.key.clone(), as_json(&entry.node)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
    }
}

#[test]
fn one_model_from_three_formats() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    for name in ["smallest", "weighted", "redirects", "ambassador", "full"] {
        let main = toml(&std::fs::read_to_string(dir.join(format!("{name}.toml"))).unwrap());
        let mut report = crate::diagnostic::Report::new(&main);
        let json = as_json(&crate::tree::read(&main, &mut report).unwrap());
        let of_toml = build_one(&main).unwrap();
        let of_json = build_one(&source("a.json", &json.to_string(), Format::Json)).unwrap();
        let mut yaml = String::new();
        as_yaml(&json, 0, &mut yaml);
        let of_yaml = build_one(&source("a.yaml", &yaml, Format::Yaml)).unwrap();
        let top: String =
            json.as_object().unwrap().iter().map(|(k, v)| format!("{k} = {}\n", as_toml(v))).collect();
        let of_inline = build_one(&toml(&top)).unwrap();
        for (other, what) in [(&of_json, "json"), (&of_yaml, "yaml"), (&of_inline, "inline toml")] {
            assert_eq!(other.model, of_toml.model, "{name} as {what}");
            assert_eq!(other.process, of_toml.process, "{name} as {what}");
        }
    }
}

/// Writes the documented default of every key of every table and expects what leaving them all out gives.
#[test]
fn documented_defaults_are_the_real_ones() {
    use crate::raw::{Raw, RawEndpoint, RawLimits, RawListener, RawProcess, RawRoute, Shape};
    let defaults = |shape: Shape| -> String {
        let Shape::Table(table) = shape else { panic!() };
        let quoted = |key: &&crate::raw::KeyShape| {
            key.default.starts_with('"') || key.default == "false" || key.default.parse::<u64>().is_ok()
        };
        table.keys.iter().filter(quoted).map(|key| format!("{} = {}\n", key.key, key.default)).collect()
    };
    let inline = |shape: Shape| defaults(shape).lines().collect::<Vec<_>>().join(", ");
    let process = defaults(RawProcess::shape(RawProcess::BOUND));
    let listener = defaults(RawListener::shape(RawListener::BOUND));
    let limits = inline(RawLimits::shape(RawLimits::BOUND));
    let endpoint = inline(RawEndpoint::shape(RawEndpoint::BOUND));
    let route = defaults(RawRoute::shape(RawRoute::BOUND));
    let cluster = defaults(crate::raw::RawCluster::shape(crate::raw::RawCluster::BOUND));
    let timeout = inline(crate::raw::RawTimeout::shape(crate::raw::RawTimeout::BOUND));
    let probe = inline(crate::raw::RawProbe::shape(crate::raw::RawProbe::BOUND));
    let ejection = inline(crate::raw::RawEjection::shape(crate::raw::RawEjection::BOUND));
    let cluster = format!("{cluster}ejection = {{ {ejection} }}\n");
    let telemetry = inline(crate::raw::RawTelemetry::shape(crate::raw::RawTelemetry::BOUND));
    let log = inline(crate::raw::RawAccessLog::shape(crate::raw::RawAccessLog::BOUND));
    let redirect = inline(crate::raw::RawRedirect::shape(crate::raw::RawRedirect::BOUND));
    let respond = inline(crate::raw::RawRespond::shape(crate::raw::RawRespond::BOUND));
    let file = |process: &str,
                listener: &str,
                cluster: &str,
                route: &str,
                [end, probe, redirect, respond]: [&str; 4]| {
        format!(
            "{process}\n[listener.e]\naddress = \"127.0.0.1:1\"\ntls = {{ cert = \"c\", key = \"k\" }}\n{listener}\n\
             [cluster.c]\nendpoints = [{{ id = \"i\", address = \"1.1.1.1:1\"{end} }}]\nprobe = {{ path = \"/\"{probe} }}\n{cluster}\n\
             [[route]]\ncluster = \"c\"\n{route}\n[[route]]\npath = \"/r\"\nredirect = {{ path = \"/a\"{redirect} }}\n\
             [[route]]\npath = \"/f\"\nrespond = {{ {respond} }}\n"
        )
    };
    let bare = build_one(&toml(&file("", "", "", "", ["", "", "", ""]))).unwrap();
    let top = format!(
        "{process}telemetry = {{ {telemetry} }}\naccess_log = {{ {log} }}\ntimeout = {{ {timeout} }}"
    );
    let and = |text: &str| format!(", {text}");
    let listener = format!("{listener}limits = {{ {limits} }}");
    let written =
        file(&top, &listener, &cluster, &route, [&and(&endpoint), &and(&probe), &and(&redirect), &respond]);
    let written = build_one(&toml(&written)).unwrap_or_else(|found| panic!("{written}\n{}", found[0]));
    assert_eq!(written.model, bare.model);
    assert_eq!(written.process, bare.process);
    for some in [&process, &listener, &route, &cluster, &timeout, &probe, &ejection] {
        assert!(!some.is_empty());
    }
}

#[test]
fn units() {
    let limits = |text: &str| {
        let built = build_one(&toml(&format!("{LISTENER}[listener.edge.limits]\n{text}"))).unwrap();
        built.model.listeners["edge"].limits
    };
    assert_eq!(limits("head = 1000").head, 1000);
    assert_eq!(limits("head = \"2 KiB\"").head, 2048);
    assert_eq!(limits("body = \"10MB\"").body, Some(10_000_000));
    assert_eq!(limits("body = \"off\"").body, None);
    assert_eq!(limits("body_idle = \"1m30s\"").body_idle.as_secs(), 90);
}

#[test]
fn deadlines_lie_over_each_other() {
    use std::time::Duration;
    let text = format!(
        "timeout = {{ total = \"60s\", connect = \"500ms\" }}\n{LISTENER}\
         [cluster.c]\nendpoints = [\"1.1.1.1:1\"]\n\
         [[route]]\ncluster = \"c\"\n[[route]]\npath = \"/a\"\ncluster = \"c\"\ntimeout = {{ total = \"off\", idle = \"1s\" }}\n"
    );
    let built = build_one(&toml(&text)).unwrap();
    let of = |index: usize| built.model.apps.get("default").unwrap().routes[index].timeouts;
    assert_eq!(of(0).total, Some(Duration::from_secs(60)));
    assert_eq!((of(0).connect, of(0).connect_try), (Duration::from_millis(500), Duration::from_millis(500)));
    assert_eq!((of(1).total, of(1).idle), (None, Duration::from_secs(1)));
    assert_eq!(of(1).connect, Duration::from_millis(500));
}

#[test]
fn yaml_scalars_are_those_of_the_core_schema() {
    let main = source("a.yaml", "[yes, on, 012, 1.5, -3, '7', ~, 0x10, TRUE, 1.2.3.4:5]", Format::Yaml);
    let mut report = crate::diagnostic::Report::new(&main);
    let json = as_json(&crate::tree::read(&main, &mut report).unwrap());
    assert_eq!(json, serde_json::json!(["yes", "on", 12, 1.5, -3, "7", null, "0x10", true, "1.2.3.4:5"]));
}
