//! Apps in maintenance: every action of such an app is replaced by that word before it is published, and all that a route asks
//! of a request is left out. What is written stays as it is, and serves again when the maintenance ends. Routers that are elsewhere
//! are told which apps these are, and do the same.
//!
//! The store has it: it outlives this process, and the newest word is read from there.

use std::collections::BTreeMap;
use std::sync::Arc;

use ekiden_config::doors::Ticket;
use ekiden_config::model::App;
use ekiden_config::names::AppName;
use tokio::sync::oneshot;

use super::Plane;
use crate::desired::{MAINTENANCE, MaintenanceWords, maintenance_key, words};
use crate::shown::{Routes, in_maintenance};
use crate::store::Object;

/// Says that what the store has of an app's maintenance or hold may be new.
#[derive(Debug)]
pub(crate) struct Look {
    /// Which app.
    pub(crate) app: AppName,
    /// Gets the ticket of the table that goes by it.
    pub(crate) reply: oneshot::Sender<Ticket>,
}

/// An app in maintenance.
#[derive(Debug)]
pub(crate) struct Closed {
    /// What people see.
    pub(super) page: Option<Arc<str>>,
    /// Its routes as written and as published, so that what did not change stays pointer-equal.
    routes: Option<(Routes, Routes)>,
}

/// Apps in maintenance, by name.
pub(crate) type ClosedApps = BTreeMap<AppName, Closed>;

/// Reads what is stored. What cannot be read is left out, loudly: the app serves then.
fn closed(object: &Object) -> Option<Closed> {
    match words::<MaintenanceWords>(object) {
        Ok(MaintenanceWords { page }) => Some(Closed { page: page.map(Arc::from), routes: None }),
        Err(error) => {
            tracing::error!(%error, "an app's maintenance cannot be read");
            None
        }
    }
}

impl Plane {
    /// Reads all of it. Before the first publish.
    pub(super) fn read_maintenance(&mut self) {
        let Some(store) = &self.store else { return };
        let objects = store.list(MAINTENANCE, None, usize::MAX).objects;
        let apps = objects.iter().filter_map(|object| {
            let app = AppName::new(object.key.strip_prefix(MAINTENANCE)?).ok()?;
            Some((app, closed(object)?))
        });
        self.closed = apps.collect();
    }

    /// Reads it of one app.
    fn read_maintenance_of(&mut self, app: &AppName) {
        let object = self.store.as_ref().and_then(|store| store.get(&maintenance_key(app)));
        match object.as_ref().and_then(closed) {
            Some(new) => match self.closed.get_mut(app) {
                // The routes that are published have it already.
                Some(old) if old.page == new.page => {}
                Some(_) | None => drop(self.closed.insert(app.clone(), new)),
            },
            None => drop(self.closed.remove(app)),
        }
    }

    /// Reads what the store has of an app's maintenance and hold.
    pub(super) fn read_words_of(&mut self, app: &AppName) {
        self.read_maintenance_of(app);
        self.read_hold(app);
    }

    /// As [`Plane::read_words_of`], and publishes what it changes.
    pub(super) fn look_at_maintenance(&mut self, look: Look) {
        let Look { app, reply } = look;
        self.read_words_of(&app);
        self.settle_words();
        // The asker may have gone away; it is so all the same.
        let _ = reply.send(self.in_force(&[app]));
    }

    /// Publishes what maintenance and holds change.
    pub(super) fn settle_words(&mut self) {
        let reworded = self.tell_again();
        if !self.settle_all() && reworded {
            self.publish_always();
        }
    }

    /// The routes of an app as they are published.
    pub(super) fn routes_of(&mut self, app: &App) -> Routes {
        // Who is told to come back later does not wait.
        let Some(closed) = self.closed.get_mut(&app.name) else { return self.held_routes(app) };
        if let Some((_, shown)) =
            closed.routes.as_ref().filter(|(written, _)| Arc::ptr_eq(written, &app.routes))
        {
            return Arc::clone(shown);
        }
        let shown = in_maintenance(&app.routes, closed.page.as_ref());
        closed.routes = Some((Arc::clone(&app.routes), Arc::clone(&shown)));
        shown
    }
}
