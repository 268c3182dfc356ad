//! The hold of an app: on, with bounds, and off. Durable first, then published, then answered.

use serde_json::{Value, json};

use super::Api;
use super::maintenance::put_word;
use super::records::known;
use super::reply::{Answer, Reply};
use super::request::Ask;
use crate::desired::{HOLD_MAX, HOLD_WAIT_MAX_MS, HoldWords, hold_key, words};
use crate::fleet::HOLDS;
use crate::problem::Problem;

/// Requests that wait unless told otherwise.
const MAX_DEFAULT: u32 = 10_000;
/// How long one waits unless told otherwise, in milliseconds.
const WAIT_DEFAULT_MS: u64 = 30_000;

fn view(app: &str, words: Option<HoldWords>, generation: Option<u64>) -> Value {
    json!({
        "app": app,
        "on": words.is_some(),
        "max": words.map(|words| words.max),
        "wait_ms": words.map(|words| words.wait_ms),
        "generation": generation,
    })
}

pub(super) fn one(api: &Api, ask: &Ask) -> Answer {
    let app = known(api, ask)?;
    let stored = match &api.store {
        Some(store) => store.get(&hold_key(&app)).map(|object| words::<HoldWords>(&object)).transpose(),
        // A router shows what control has told it.
        None => Ok(api.view.read().live.apps.get(&app).and_then(|app| {
            let policy = app.routes.iter().find_map(|route| route.hold)?;
            let wait_ms = u64::try_from(policy.wait.as_millis()).unwrap_or(u64::MAX);
            Some(HoldWords { max: policy.max, wait_ms })
        })),
    };
    let stored = stored.map_err(|error| Problem::new(500, "unreadable_object", error))?;
    Ok(Reply::ok(view(app.as_str(), stored, Some(api.inspect.generation().0))))
}

pub(super) async fn put(api: &Api, ask: &Ask) -> Answer {
    let body = ask.members(&["max", "wait_ms"])?;
    let number = |name: &str, default: u64, most: u64| match body.get(name) {
        None | Some(Value::Null) => Ok(default),
        Some(value) => value.as_u64().filter(|value| (1..=most).contains(value)).ok_or_else(|| {
            let detail = format!("{name:?} must be a whole number from 1 to {most}");
            Problem::at(422, "bad_value", &format!("/{name}"), detail)
        }),
    };
    let max = number("max", MAX_DEFAULT.into(), HOLD_MAX.into())?;
    let wait_ms = number("wait_ms", WAIT_DEFAULT_MS, HOLD_WAIT_MAX_MS)?;
    change(api, ask, Some(HoldWords { max: u32::try_from(max).unwrap_or(HOLD_MAX), wait_ms })).await
}

pub(super) async fn delete(api: &Api, ask: &Ask) -> Answer {
    change(api, ask, None).await
}

async fn change(api: &Api, ask: &Ask, new: Option<HoldWords>) -> Answer {
    let app = known(api, ask)?;
    let (key, more) = (hold_key(&app), view(app.as_str(), new, None));
    put_word(api, app, HOLDS, (key, new.as_ref()), more).await
}
