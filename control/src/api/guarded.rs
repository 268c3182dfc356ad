//! Guarded changes of apps as they are asked for and told; `crate::guarded` watches them.

use std::collections::BTreeMap;
use std::time::Duration;

use ekiden_config::names::AppName;
use serde_json::{Value, json};

use super::Api;
use super::records::known;
use super::reply::{Answer, Reply};
use super::request::Ask;
use crate::desired::{AppWords, app_key, guard_key, words};
use crate::fleet::{TooManyWatched, WATCHED_MAX};
use crate::guarded::{Before, GuardAsk, GuardState, GuardWords, Prior, is_closed};
use crate::problem::Problem;

/// Longest guard time.
const GUARD_MAX: Duration = Duration::from_secs(3600);

/// How long the apps of a request are to be guarded; none when it does not ask for that.
pub(super) fn time(api: &Api, ask: &Ask) -> Result<Option<Duration>, Problem> {
    let Some(text) = ask.text("guard") else { return Ok(None) };
    let time = duration(text).map_err(|detail| Problem::new(400, "bad_parameter", detail))?;
    if !api.guards.can_judge() {
        let detail =
            "what becomes of requests is not known here, so that nothing can be guarded: ask control";
        return Err(Problem::new(409, "asks_control", detail));
    }
    Ok(Some(time))
}

/// A guard time as it is written. The error is a text for people.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let units = [('s', 1), ('m', 60), ('h', 3600)];
    let split = units.iter().find_map(|(unit, seconds)| Some((text.strip_suffix(*unit)?, *seconds)));
    let (number, unit) = split.unwrap_or(("", 0));
    let digits = !number.is_empty() && number.len() <= 4 && number.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = number.parse::<u64>().ok().filter(|_| digits).map(|number| number * unit);
    let time = seconds.map(Duration::from_secs).filter(|time| !time.is_zero() && *time <= GUARD_MAX);
    time.ok_or_else(|| {
        format!("guard={text:?} is no guard time: write seconds or minutes up to an hour, such as 60s or 5m")
    })
}

/// How apps are guarded that are to be changed now: what is known of them before.
pub(super) async fn ask(api: &Api, time: Duration, apps: &[AppName]) -> Result<GuardAsk, Problem> {
    let before = api.guards.before(apps).await;
    let before = before.map_err(|TooManyWatched| {
        let detail = format!("more than {WATCHED_MAX} apps would be guarded at once, which is the bound");
        Problem::new(409, "too_many_guarded", detail)
    })?;
    let prior = before.into_iter().map(|(app, before)| (app.clone(), prior(api, &app, before))).collect();
    Ok(GuardAsk::new(time, api.guards.late(), prior))
}

fn prior(api: &Api, app: &AppName, before: Before) -> Prior {
    let store = api.store.as_ref();
    let current = store.and_then(|store| store.get(&app_key(app)));
    let version = current.and_then(|object| words::<AppWords>(&object).ok()).map(|words| words.version);
    let guard = store.and_then(|store| store.get(&guard_key(app)));
    let guard = guard.and_then(|object| words::<GuardWords>(&object).ok());
    match guard.filter(|guard| guard.state == GuardState::Watching && Some(guard.version) == version) {
        // What is there now has not been found good: it is not what the app goes back to.
        Some(guard) => Prior { version: guard.back_to, before: guard.before },
        // What the router itself answers for an app says nothing of its version.
        None if store.is_some_and(|store| is_closed(&**store, app)) => {
            Prior { version, before: Before::default() }
        }
        None => Prior { version, before },
    }
}

/// Has new versions of apps watched, and says which.
pub(super) fn begun(api: &Api, ask: &GuardAsk, versions: &BTreeMap<AppName, Option<u64>>) -> Value {
    api.guards.wake();
    let guarded = versions.iter().filter(|(app, version)| version.is_some() && ask.prior.contains_key(*app));
    let apps: Vec<&str> = guarded.map(|(app, _)| app.as_str()).collect();
    json!({ "apps": apps, "until_unix_ms": ask.until_unix_ms })
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
