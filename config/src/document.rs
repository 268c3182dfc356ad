//! A text as a plain JSON document, and places in it as JSON pointers (RFC 6901): what the API shows of a file and how it
//! says which member of a body is wrong.
//!
//! Knows syntax only; what the keys mean is `raw`'s and `validate`'s business.

use serde_json::{Map, Number, Value as Json};

use crate::diagnostic::{Diagnostic, Report};
use crate::raw::is_app_key;
use crate::source::{Source, Span};
use crate::tree::{self, Node, Value};

/// Reads a text of any format as a JSON document. Errors: what is wrong with its syntax.
pub fn document(source: &Source) -> Result<Json, Vec<Diagnostic>> {
    let mut report = Report::new(source);
    match tree::read(source, &mut report) {
        Some(node) => Ok(json(&node)),
        None => Err(report.into_findings()),
    }
}

/// The document of an app: of an app file all of it, of a process file what forms the app `default`. `None` for a text without a
/// syntax, which no accepted app has.
pub fn app_document(source: &Source) -> Option<Json> {
    let mut members = match document(source).ok()? {
        Json::Object(members) => members,
        _ => Map::new(),
    };
    members.retain(|key, _| is_app_key(key));
    Some(Json::Object(members))
}

fn json(node: &Node) -> Json {
    match &node.value {
        Value::Null => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Int(value) => Json::from(*value),
        // What is no JSON number is no value of any key either.
        Value::Float(value) => Number::from_f64(*value).map_or(Json::Null, Json::Number),
        Value::Text(value) => Json::from(value.as_str()),
        Value::List(nodes) => Json::Array(nodes.iter().map(json).collect()),
        Value::Table(entries) => Json::Object(
            entries.iter().map(|entry| (entry.key.clone(), json(&entry.node))).collect::<Map<_, _>>(),
        ),
    }
}

/// The pointer of the innermost member at a place of a text; empty for the whole document, and for a text without a
/// syntax.
pub fn pointer(source: &Source, span: Span) -> String {
    let mut path = String::new();
    let mut report = Report::new(source);
    let Some(root) = tree::read(source, &mut report) else { return path };
    let mut node = &root;
    if span == Span::default() {
        return path;
    }
    loop {
        let holds = |outer: Span| outer.start <= span.start && span.end <= outer.end;
        let next = match &node.value {
            Value::Table(entries) => entries
                .iter()
                .find(|entry| holds(entry.key_span) || holds(entry.node.span))
                .map(|entry| (escaped(&entry.key), &entry.node, holds(entry.key_span))),
            Value::List(nodes) => nodes
                .iter()
                .enumerate()
                .find(|(_, one)| holds(one.span))
                .map(|(at, one)| (at.to_string(), one, false)),
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text(_) => None,
        };
        let Some((step, inner, at_key)) = next else { return path };
        path.push('/');
        path.push_str(&step);
        if at_key {
            return path;
        }
        node = inner;
    }
}

/// A member's name as a step of a pointer.
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::source::Format;

    fn source(text: &str, format: Format) -> Source {
        Source { file: "test".to_owned(), text: text.to_owned(), format }
    }

    #[test]
    fn the_same_document_comes_of_all_formats() {
        let want = json!({ "route": [{ "path": "/a", "on": true, "share": 1.5 }], "n": 7 });
        let toml = "n = 7\n[[route]]\npath = \"/a\"\non = true\nshare = 1.5\n";
        let yaml = "n: 7\nroute:\n  - path: /a\n    on: true\n    share: 1.5\n";
        for (text, format) in
            [(toml, Format::Toml), (yaml, Format::Yaml), (want.to_string().as_str(), Format::Json)]
        {
            assert_eq!(document(&source(text, format)), Ok(want.clone()));
        }
        assert!(document(&source("n = ", Format::Toml)).is_err());
    }

    #[test]
    fn places_have_pointers() {
        let text = r#"{"route": [{"path": "/a"}, {"a/b": {"c~d": 5}}]}"#;
        let source = source(text, Format::Json);
        let at = |part: &str| {
            let start = text.find(part).unwrap();
            pointer(&source, Span::new(start, start + part.len()))
        };
        assert_eq!(at("\"/a\""), "/route/0/path");
        assert_eq!(at("\"path\""), "/route/0/path");
        assert_eq!(at("5"), "/route/1/a~1b/c~0d");
        assert_eq!(at("{\"path\": \"/a\"}"), "/route/0");
        assert_eq!(pointer(&source, Span::default()), "");
    }
}
