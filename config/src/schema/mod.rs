//! The JSON Schema of the configuration and the reference page, both made from the declarations in `raw`.
//!
//! Editors check structure with the schema; what the schema cannot say (names that resolve, hosts, paths) only
//! `ekiden check` knows.

mod reference;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde_json::{Map as Object, Value, json};

use crate::raw::{
    KeyShape, Raw, RawApp, RawProcess, Shape, TableShape, duration_words, factor_words, size_words,
};

pub use reference::reference;

/// The JSON Schema (draft 2020-12) of the process file; `$defs/app` is the schema of an app file. Called by
/// `ekiden schema`; the committed copy is `config/schema.json`.
pub fn schema() -> Value {
    let mut defs = BTreeMap::new();
    let mut root = match RawProcess::shape(RawProcess::BOUND) {
        Shape::Table(table) => table_schema(&table, &mut defs),
        other => shape_schema(&other, &mut defs),
    };
    let app = shape_schema(&RawApp::shape(RawApp::BOUND), &mut defs);
    if let Some(root) = root.as_object_mut() {
        let mut head = Object::new();
        head.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
        head.insert("title".into(), json!("Ekiden configuration"));
        head.append(root);
        head.insert("$defs".into(), json!(defs));
        *root = head;
    }
    debug_assert!(app.get("$ref").is_some());
    root
}

/// The name of a table among the definitions.
fn def_name(table: &TableShape) -> String {
    let words: Vec<&str> = table
        .title
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| {
            !word.is_empty() && !matches!(*word, "NAME" | "a" | "an" | "the" | "file" | "item" | "of")
        })
        .collect();
    words.join("_")
}

fn table_schema(table: &TableShape, defs: &mut BTreeMap<String, Value>) -> Value {
    let mut properties = Object::new();
    for key in &table.keys {
        let mut schema = shape_schema(&key.shape, defs);
        if let Some(schema) = schema.as_object_mut() {
            schema.insert("description".into(), json!(describe(key)));
        }
        properties.insert(key.key.into(), schema);
    }
    let required: Vec<_> = table.keys.iter().filter(|key| key.required()).map(|key| key.key).collect();
    let mut schema = Object::new();
    schema.insert("type".into(), json!("object"));
    schema.insert("description".into(), json!(flat(table.about)));
    schema.insert("properties".into(), Value::Object(properties));
    if !required.is_empty() {
        schema.insert("required".into(), json!(required));
    }
    schema.insert("additionalProperties".into(), json!(false));
    Value::Object(schema)
}

fn shape_schema(shape: &Shape, defs: &mut BTreeMap<String, Value>) -> Value {
    match shape {
        Shape::Text { min, max } => json!({ "type": "string", "minLength": min, "maxLength": max }),
        Shape::Flag => json!({ "type": "boolean" }),
        Shape::Count { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Shape::Duration { .. } => {
            json!({ "type": "string", "pattern": "^([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$" })
        }
        Shape::Size { min, max } => json!({ "anyOf": [
            { "type": "integer", "minimum": min, "maximum": max },
            { "type": "string", "pattern": "^[0-9]+ ?(B|kB|KB|MB|GB|KiB|MiB|GiB)?$" },
        ] }),
        Shape::Rate { .. } => json!({ "type": "string", "pattern": "^[0-9]+/[smh]$" }),
        Shape::Factor { min, max } => {
            json!({ "type": "number", "minimum": *min as f64 / 100.0, "maximum": *max as f64 / 100.0 })
        }
        Shape::Words(words) => json!({ "enum": words }),
        Shape::Status => json!({ "anyOf": [
            { "type": "integer", "minimum": 100, "maximum": 599 },
            { "type": "string", "pattern": "^[1-5][0-9][0-9](-[1-5][0-9][0-9])?$" },
            { "type": "array", "items": { "type": "integer" }, "minItems": 2, "maxItems": 2 },
        ] }),
        Shape::List { of, min, max } => {
            json!({ "type": "array", "items": shape_schema(of, defs), "minItems": min, "maxItems": max })
        }
        Shape::Map(of) => json!({ "type": "object", "additionalProperties": shape_schema(of, defs) }),
        Shape::Table(table) => {
            let name = def_name(table);
            if !defs.contains_key(&name) {
                let schema = table_schema(table, defs);
                defs.insert(name.clone(), schema);
            }
            json!({ "$ref": format!("#/$defs/{name}") })
        }
        Shape::Either(shapes) => {
            let any: Vec<_> = shapes.iter().map(|shape| shape_schema(shape, defs)).collect();
            json!({ "anyOf": any })
        }
    }
}

/// What a key does, its unit and bounds, and its default, as one text.
fn describe(key: &KeyShape) -> String {
    let mut text = flat(key.doc);
    if let Some(bounds) = bounds(&key.shape) {
        text.push_str(&format!(" Allowed: {bounds}."));
    }
    text.push_str(&if key.required() {
        " Required.".to_owned()
    } else {
        format!(" Default: {}.", key.default)
    });
    text
}

/// Bounds in words, where a shape has them.
fn bounds(shape: &Shape) -> Option<String> {
    match shape {
        Shape::Count { min, max } | Shape::Rate { min, max } => Some(format!("{min} to {max}")),
        Shape::Duration { min, max } => Some(format!("{} to {}", duration_words(*min), duration_words(*max))),
        Shape::Size { min, max } => Some(format!("{} to {}", size_words(*min), size_words(*max))),
        Shape::Factor { min, max } => Some(format!("{} to {}", factor_words(*min), factor_words(*max))),
        Shape::Text { max, .. } => Some(format!("at most {max} bytes")),
        Shape::List { max, .. } => Some(format!("at most {max}")),
        Shape::Either(shapes) => shapes.iter().find_map(bounds),
        Shape::Flag | Shape::Words(_) | Shape::Status | Shape::Map(_) | Shape::Table(_) => None,
    }
}

/// A doc comment as one line.
fn flat(doc: &str) -> String {
    doc.split_whitespace().collect::<Vec<_>>().join(" ")
}
