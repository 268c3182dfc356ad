//! The committed schema and reference are current; `EKIDEN_BLESS=1` writes them anew.

use std::path::Path;

use super::*;

fn current(name: &str, want: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    if std::env::var_os("EKIDEN_BLESS").is_some() {
        std::fs::write(&path, want).unwrap();
    }
    let have = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(have == want, "{name} is not current: run the tests of ekiden-config with EKIDEN_BLESS=1");
}

#[test]
fn schema_is_current() {
    current("schema.json", &format!("{}\n", serde_json::to_string_pretty(&schema()).unwrap()));
}

#[test]
fn reference_is_current() {
    current("REFERENCE.md", &reference());
}

/// Every table and key has words, and every reference leads to a definition.
#[test]
fn schema_is_whole() {
    fn walk(value: &Value, root: &Value) {
        match value {
            Value::Object(object) => {
                if let Some(Value::String(to)) = object.get("$ref") {
                    let name = to.strip_prefix("#/$defs/").unwrap();
                    assert!(root["$defs"].get(name).is_some(), "{to}");
                }
                if let Some(Value::Object(properties)) = object.get("properties") {
                    for (key, schema) in properties {
                        let words = schema["description"].as_str().unwrap();
                        assert!(words.contains("Default: ") || words.contains("Required"), "{key}: {words}");
                    }
                }
                object.values().for_each(|value| walk(value, root));
            }
            Value::Array(items) => items.iter().for_each(|value| walk(value, root)),
            _ => {}
        }
    }
    let schema = schema();
    walk(&schema, &schema);
    assert!(schema["$defs"].get("app").is_some());
    assert_eq!(schema["required"], serde_json::json!(["listener"]));
}
