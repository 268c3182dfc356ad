//! What differs between two documents, for people who look before they change something.
//!
//! Lists are compared by position, lists of objects with distinct names (`name`, `id`) by those. Pure; the list of changes is
//! bounded.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

/// Changes shown at most; [`omitted`] says how many more there are.
pub(crate) const CHANGES_MAX: usize = 1000;

/// One difference.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Change {
    /// JSON pointer.
    pub(crate) path: String,
    /// What was there.
    pub(crate) from: Option<Value>,
    /// What is there.
    pub(crate) to: Option<Value>,
}

impl Change {
    /// `add`, `remove` or `replace`.
    pub(crate) fn op(&self) -> &'static str {
        match (&self.from, &self.to) {
            (None, _) => "add",
            (_, None) => "remove",
            (Some(_), Some(_)) => "replace",
        }
    }
}

/// The differences, in order of their pointers, under a pointer of their own.
pub(crate) fn changes(root: &str, from: Option<&Value>, to: Option<&Value>) -> Vec<Change> {
    let mut all = Vec::new();
    walk(root, from, to, &mut all);
    all
}

/// For the API.
pub(crate) fn as_json(changes: &[Change]) -> Value {
    let shown = changes.iter().take(CHANGES_MAX).map(|change| {
        let mut one = json!({ "op": change.op(), "path": change.path });
        if let Some(members) = one.as_object_mut() {
            members.extend(change.from.iter().map(|from| ("from".to_owned(), from.clone())));
            members.extend(change.to.iter().map(|to| ("to".to_owned(), to.clone())));
        }
        one
    });
    Value::Array(shown.collect())
}

/// How many there are that are not shown.
pub(crate) fn omitted(changes: &[Change]) -> usize {
    changes.len().saturating_sub(CHANGES_MAX)
}

fn step(path: &str, name: &str) -> String {
    format!("{path}/{}", name.replace('~', "~0").replace('/', "~1"))
}

fn walk(path: &str, from: Option<&Value>, to: Option<&Value>, all: &mut Vec<Change>) {
    match (from, to) {
        (from, to) if from == to => {}
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for name in names {
                walk(&step(path, name), a.get(name), b.get(name), all);
            }
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) => walk_lists(path, a, b, all),
        (from, to) => {
            all.push(Change { path: path.to_owned(), from: from.cloned(), to: to.cloned() });
        }
    }
}

fn walk_lists(path: &str, a: &[Value], b: &[Value], all: &mut Vec<Change>) {
    let (Some(named_a), Some(named_b)) = (named(a), named(b)) else {
        for at in 0..a.len().max(b.len()) {
            walk(&step(path, &at.to_string()), a.get(at), b.get(at), all);
        }
        return;
    };
    let gone = named_a.iter().filter(|(name, _)| !named_b.contains_key(*name));
    for (name, before) in gone {
        walk(&step(path, name), Some(before), None, all);
    }
    for (name, after) in &named_b {
        walk(&step(path, name), named_a.get(name).copied(), Some(after), all);
    }
}

/// The members by their names, when all have one and no two the same.
fn named(list: &[Value]) -> Option<BTreeMap<&str, &Value>> {
    let mut all = BTreeMap::new();
    for value in list {
        let name = value.get("name").or_else(|| value.get("id"))?.as_str()?;
        if all.insert(name, value).is_some() {
            return None;
        }
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(from: Value, to: Value) -> Vec<String> {
        let all = changes("", Some(&from), Some(&to));
        all.iter().map(|change| format!("{} {}", change.op(), change.path)).collect()
    }

    #[test]
    fn members_lists_and_named_lists() {
        let rows: [(Value, Value, &[&str]); 5] = [
            (json!({"a": 1}), json!({"a": 1}), &[]),
            (
                json!({"a": 1, "b": {"c": 1}}),
                json!({"b": {"c": 2}, "d/e": 1}),
                &["remove /a", "replace /b/c", "add /d~1e"],
            ),
            (json!([1, 2]), json!([1, 3, 4]), &["replace /1", "add /2"]),
            (
                json!([{"name": "a", "x": 1}, {"name": "b"}]),
                json!([{"name": "b"}, {"name": "c"}, {"name": "a", "x": 2}]),
                &["replace /a/x", "add /c"],
            ),
            (json!({"a": []}), json!({"a": {}}), &["replace /a"]),
        ];
        for (from, to, want) in rows {
            assert_eq!(shown(from.clone(), to.clone()), want, "{from} {to}");
        }
    }
}
