//! Maintenance of an app: on, with a page or without, and off. Durable first, then published, then answered.

use std::sync::Arc;

use ekiden_config::model::Action;
use ekiden_config::names::AppName;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::Api;
use super::records::{failed, known};
use super::reply::{Answer, Part, Reply, applied, gone};
use super::request::Ask;
use crate::desired::{MaintenanceWords, maintenance_key, words, write};
use crate::fleet::MAINTENANCE;
use crate::plane::{Look, not_durable};
use crate::problem::Problem;
use crate::store::{Txn, Write};

/// Longest page, in bytes.
const PAGE_MAX: usize = 48 << 10;

pub(super) fn one(api: &Api, ask: &Ask) -> Answer {
    let app = known(api, ask)?;
    let stored = match &api.store {
        Some(store) => {
            store.get(&maintenance_key(&app)).map(|object| words::<MaintenanceWords>(&object)).transpose()
        }
        // A router shows what control has told it.
        None => Ok(api.view.read().live.apps.get(&app).and_then(|app| {
            app.routes.iter().find_map(|route| match &route.action {
                Action::Maintenance(page) => {
                    Some(MaintenanceWords { page: page.as_deref().map(str::to_owned) })
                }
                Action::Forward(_) | Action::Redirect(_) | Action::Fixed(_) => None,
            })
        })),
    };
    let stored = stored.map_err(|error| Problem::new(500, "unreadable_object", error))?;
    let generation = api.inspect.generation().0;
    let (on, page) = (stored.is_some(), stored.and_then(|words| words.page));
    Ok(Reply::ok(json!({ "app": app.as_str(), "on": on, "page": page, "generation": generation })))
}

pub(super) async fn put(api: &Api, ask: &Ask) -> Answer {
    let page = match ask.members(&["page"])?.get("page") {
        None | Some(Value::Null) => None,
        Some(Value::String(page)) if page.len() <= PAGE_MAX => Some(page.clone()),
        Some(_) => {
            let detail = format!("\"page\" must be a text of at most {PAGE_MAX} bytes, in HTML");
            return Err(Problem::at(422, "bad_value", "/page", detail));
        }
    };
    change(api, ask, Some(MaintenanceWords { page })).await
}

pub(super) async fn delete(api: &Api, ask: &Ask) -> Answer {
    change(api, ask, None).await
}

async fn change(api: &Api, ask: &Ask, new: Option<MaintenanceWords>) -> Answer {
    let app = known(api, ask)?;
    let page = new.as_ref().and_then(|words| words.page.as_deref());
    let more = json!({ "app": app.as_str(), "on": new.is_some(), "page": page });
    let key = maintenance_key(&app);
    put_word(api, app, MAINTENANCE, (key, new.as_ref()), more).await
}

/// Writes a word that control has for an app, or takes it back, and has the loop look at it. `kind` is what routers that are elsewhere
/// know it as, and may refuse.
pub(super) async fn put_word<T: serde::Serialize>(
    api: &Api,
    app: AppName,
    kind: &str,
    (key, new): (Arc<str>, Option<&T>),
    more: Value,
) -> Answer {
    let store = api.store.as_ref().ok_or_else(not_durable)?;
    let writes = vec![match new {
        Some(words) => write(key, words),
        None => Write { key, value: None },
    }];
    let committed = store.commit(Txn { when: Vec::new(), writes }).await;
    let revision = committed.map_err(|error| {
        // Without a condition there is no conflict.
        failed(&error).unwrap_or_else(|| Problem::new(409, "conflict", "something else was faster"))
    })?;
    let (reply, ticket) = oneshot::channel();
    api.looks.send(Look { app: app.clone(), reply }).await.map_err(|_| gone())?;
    let ticket = ticket.await.map_err(|_| gone())?;
    let parts = [Part::Object(format!("{kind}{app}")), Part::App(app)];
    let mut reply = applied(api, &ticket, &parts, more).await?;
    reply.revision = Some(revision);
    Ok(reply)
}
