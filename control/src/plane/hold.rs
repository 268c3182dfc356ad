//! Apps that are held: every route that forwards gets the word of it before it is published, and its requests wait in the router.
//! What is written stays as it is.
//!
//! The store has it: it outlives this process, and the newest word is read from there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ekiden_config::model::{Action, App, HoldPolicy, Route};
use ekiden_config::names::AppName;

use super::Plane;
use super::maintenance::Routes;
use crate::desired::{HOLDS, HoldWords, hold_key, words};
use crate::store::Object;

/// A held app.
#[derive(Debug)]
pub(crate) struct Held {
    policy: HoldPolicy,
    /// Its routes as written and as published, so that what did not change stays pointer-equal.
    routes: Option<(Routes, Routes)>,
}

/// Held apps, by name.
pub(crate) type HeldApps = BTreeMap<AppName, Held>;

/// Reads what is stored. What cannot be read is left out, loudly: the app serves then.
fn held(object: &Object) -> Option<Held> {
    match words::<HoldWords>(object) {
        Ok(HoldWords { max, wait_ms }) => {
            Some(Held { policy: HoldPolicy { max, wait: Duration::from_millis(wait_ms) }, routes: None })
        }
        Err(error) => {
            tracing::error!(%error, "an app's hold cannot be read");
            None
        }
    }
}

impl Plane {
    /// Reads all of it. Before the first publish.
    pub(super) fn read_holds(&mut self) {
        let Some(store) = &self.store else { return };
        let objects = store.list(HOLDS, None, usize::MAX).objects;
        let apps = objects.iter().filter_map(|object| {
            let app = AppName::new(object.key.strip_prefix(HOLDS)?).ok()?;
            Some((app, held(object)?))
        });
        self.held = apps.collect();
    }

    /// Reads it of one app.
    pub(super) fn read_hold(&mut self, app: &AppName) {
        let object = self.store.as_ref().and_then(|store| store.get(&hold_key(app)));
        match object.as_ref().and_then(held) {
            Some(new) => match self.held.get(app) {
                // The routes that are published have it already.
                Some(old) if old.policy == new.policy => {}
                Some(_) | None => drop(self.held.insert(app.clone(), new)),
            },
            None => drop(self.held.remove(app)),
        }
    }

    /// The routes of an app that serves, as they are published.
    pub(super) fn held_routes(&mut self, app: &App) -> Routes {
        let Some(held) = self.held.get_mut(&app.name) else { return Arc::clone(&app.routes) };
        if let Some((_, shown)) =
            held.routes.as_ref().filter(|(written, _)| Arc::ptr_eq(written, &app.routes))
        {
            return Arc::clone(shown);
        }
        let policy = held.policy;
        let shown = app.routes.iter().map(|route| match &route.action {
            Action::Forward(_) => {
                let mut held = Route::clone(route);
                held.hold = Some(policy);
                Arc::new(held)
            }
            Action::Redirect(_) | Action::Fixed(_) | Action::Maintenance(_) => Arc::clone(route),
        });
        let shown = Arc::new(shown.collect::<Vec<_>>());
        held.routes = Some((Arc::clone(&app.routes), Arc::clone(&shown)));
        shown
    }
}
