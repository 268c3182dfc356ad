//! Lines of the link between control and a router: what is read is read the same when it is written again.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::wire::{Down, Object, Up, endpoint_key, endpoint_value, line, object};

pub(crate) fn link(data: &[u8]) {
    again::<Up>(data, |_| true);
    // A fraction may differ in its last bit: what is read of numbers is whole.
    let Some(down) = again::<Down>(data, |down| !matches!(down, Down::Put(_, value) if has_fraction(value)))
    else {
        return;
    };
    let read = match &down {
        Down::Put(key, value) => object(key, Some(value.clone())),
        Down::Drop(key) => object(key, None),
        Down::Welcome { .. } | Down::Commit { .. } | Down::Ping {} | Down::Bye { .. } => return,
    };
    if let Ok(Object::Endpoint(place, id, Some(endpoint))) = read {
        let key = endpoint_key(&place.app, &place.cluster, &id);
        let same = Object::Endpoint(place, id, Some(endpoint.clone()));
        assert_eq!(object(&key, Some(endpoint_value(&endpoint))), Ok(same));
    }
}

fn has_fraction(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(all) => all.iter().any(has_fraction),
        Value::Object(members) => members.values().any(has_fraction),
        Value::Null | Value::Bool(_) | Value::String(_) => false,
    }
}

fn again<T>(data: &[u8], is_exact: impl Fn(&T) -> bool) -> Option<T>
where
    T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let message: T = serde_json::from_slice(data).ok()?;
    let text = line(&message);
    assert!(text.ends_with(b"\n") && text.iter().filter(|byte| **byte == b'\n').count() == 1, "one line");
    let same: T = serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{message:?}: {error}"));
    assert!(!is_exact(&message) || same == message, "{message:?}");
    Some(message)
}
