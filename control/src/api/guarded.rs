//! Guarded changes of apps as they are asked for and told; `crate::guarded` watches them.

use std::collections::BTreeMap;
use std::time::Duration;

use ekiden_config::names::AppName;
use serde_json::{Value, json};

use super::Api;
use super::records::{failed, known};
use super::reply::{Answer, Reply};
use super::request::Ask;
use crate::clock::unix_ms;
use crate::desired::{AppWords, app_key, guard_key, words, write};
use crate::guarded::{Before, GuardState, GuardWords};
use crate::plane::not_durable;
use crate::problem::Problem;
use crate::store::Txn;

/// Longest guard time.
const GUARD_MAX: Duration = Duration::from_secs(3600);

/// What is known of an app before it is changed.
pub(super) struct Prior {
    version: Option<u64>,
    before: Before,
}

/// How long the apps of a request are to be guarded; none when it does not ask for that.
pub(super) fn time(api: &Api, ask: &Ask) -> Result<Option<Duration>, Problem> {
    let Some(text) = ask.text("guard") else { return Ok(None) };
    let units = [('s', 1), ('m', 60), ('h', 3600)];
    let split = units.iter().find_map(|(unit, seconds)| Some((text.strip_suffix(*unit)?, *seconds)));
    let (number, unit) = split.unwrap_or(("", 0));
    let digits = !number.is_empty() && number.len() <= 4 && number.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = number.parse::<u64>().ok().filter(|_| digits).map(|number| number * unit);
    let time = seconds.map(Duration::from_secs).filter(|time| !time.is_zero() && *time <= GUARD_MAX);
    let time = time.ok_or_else(|| {
        let detail = format!(
            "guard={text:?} is no guard time: write seconds or minutes up to an hour, such as 60s or 5m"
        );
        Problem::new(400, "bad_parameter", detail)
    })?;
    if !api.guards.can_judge() {
        let detail =
            "what becomes of requests is not known here but in the routers, so that nothing can be guarded";
        return Err(Problem::new(409, "not_for_fleets", detail));
    }
    Ok(Some(time))
}

/// What is known of apps before they are changed.
pub(super) fn prior<'a>(api: &Api, apps: impl Iterator<Item = &'a AppName>) -> BTreeMap<AppName, Prior> {
    let store = api.store.as_ref();
    let one = |app: &AppName| {
        let current = store.and_then(|store| store.get(&app_key(app)));
        let version = current.and_then(|object| words::<AppWords>(&object).ok()).map(|words| words.version);
        let guard = store.and_then(|store| store.get(&guard_key(app)));
        let guard = guard.and_then(|object| words::<GuardWords>(&object).ok());
        match guard.filter(|guard| guard.state == GuardState::Watching && Some(guard.version) == version) {
            // What is there now has not been found good: it is not what the app goes back to.
            Some(guard) => Prior { version: guard.back_to, before: guard.before },
            None => Prior { version, before: api.guards.before(app) },
        }
    };
    apps.map(|app| (app.clone(), one(app))).collect()
}

/// Begins to watch the new versions of apps.
pub(super) async fn begin(
    api: &Api,
    time: Duration,
    mut prior: BTreeMap<AppName, Prior>,
    versions: &BTreeMap<AppName, Option<u64>>,
) -> Result<Value, Problem> {
    let store = api.store.as_ref().ok_or_else(not_durable)?;
    let guard_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let until_unix_ms = unix_ms().saturating_add(guard_ms);
    let mut writes = Vec::new();
    let mut guarded = Vec::new();
    for (app, version) in versions {
        let (Some(version), Some(Prior { version: back_to, before })) = (version, prior.remove(app)) else {
            continue;
        };
        let guard = GuardWords {
            state: GuardState::Watching,
            reason: "it is looked at".to_owned(),
            version: *version,
            back_to,
            guard_ms,
            until_unix_ms,
            before,
        };
        writes.push(write(guard_key(app), &guard));
        guarded.push(app.to_string());
    }
    if !writes.is_empty() {
        let committed = store.commit(Txn { when: Vec::new(), writes }).await;
        committed.map_err(|error| {
            let why = failed(&error).map_or_else(|| error.to_string(), |problem| problem.detail);
            Problem::new(503, "not_guarded", format!("the change is in force, and is not guarded: {why}"))
        })?;
        api.guards.wake();
    }
    Ok(json!({ "apps": guarded, "until_unix_ms": until_unix_ms }))
}

/// `GET /v1/apps/{app}/guard`.
pub(super) fn one(api: &Api, ask: &Ask) -> Answer {
    let app = known(api, ask)?;
    let object = api.store.as_ref().and_then(|store| store.get(&guard_key(&app)));
    let Some(object) = object else {
        let none = json!({
            "app": app.as_str(), "state": "none", "reason": "no change of it was guarded", "version": null,
            "back_to": null, "until_unix_ms": null,
        });
        return Ok(Reply::ok(none));
    };
    let guard =
        words::<GuardWords>(&object).map_err(|error| Problem::new(500, "unreadable_object", error))?;
    Ok(Reply::ok(json!({
        "app": app.as_str(),
        "state": guard.state,
        "reason": guard.reason,
        "version": guard.version,
        "back_to": guard.back_to,
        "until_unix_ms": guard.until_unix_ms,
    })))
}
