//! The committed schema and reference are current; `EKIDEN_BLESS=1` writes them anew.

use std::path::Path;

use super::*;

/// The committed text, after writing it anew when that is asked for.
fn committed(name: &str, want: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    if std::env::var_os("EKIDEN_BLESS").is_some() {
        std::fs::write(&path, want).unwrap();
    }
    std::fs::read_to_string(&path).unwrap_or_default()
}

const ADVICE: &str = "not current: run the tests of ekiden-config with EKIDEN_BLESS=1";

/// As values: the order of keys depends on what other packages of a build ask of serde_json.
#[test]
fn schema_is_current() {
    let want = schema();
    let have = committed("schema.json", &format!("{}\n", serde_json::to_string_pretty(&want).unwrap()));
    assert!(serde_json::from_str::<Value>(&have).ok() == Some(want), "schema.json is {ADVICE}");
}

#[test]
fn reference_is_current() {
    let want = reference();
    assert!(committed("REFERENCE.md", &want) == want, "REFERENCE.md is {ADVICE}");
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
