//! Apps in maintenance: every action of such an app is replaced by that word before it is published, and all that a route asks
//! of a request is left out. What is written stays as it is, and serves again when the maintenance ends.
//!
//! The store has it: it outlives this process, and the newest word is read from there.

use std::collections::BTreeMap;
use std::sync::Arc;

use ekiden_config::doors::Ticket;
use ekiden_config::model::{Action, App, HeaderEdits, Route, RoutePolicy};
use ekiden_config::names::AppName;
use tokio::sync::oneshot;

use super::Plane;
use crate::desired::{MAINTENANCE, MaintenanceWords, maintenance_key, words};
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
    page: Option<Arc<str>>,
    /// Its routes as written and as published, so that what did not change stays pointer-equal.
    routes: Option<(Routes, Routes)>,
}

/// The routes of an app, as a Model has them.
#[allow(clippy::rc_buffer, reason = "the form that they have in a Model")]
pub(super) type Routes = Arc<Vec<Arc<Route>>>;

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
        if self.fleet.is_some() {
            // Apps travel to routers as documents: what an `ekiden run` of this run directory was told is nobody's business there.
            if !objects.is_empty() {
                let count = objects.len();
                tracing::warn!(
                    count,
                    "routers that are elsewhere are not told of maintenance: these apps serve"
                );
            }
            self.closed.clear();
            return;
        }
        let apps = objects.iter().filter_map(|object| {
            let app = AppName::new(object.key.strip_prefix(MAINTENANCE)?).ok()?;
            Some((app, closed(object)?))
        });
        self.closed = apps.collect();
    }

    /// Reads it of one app, and its hold, and publishes.
    pub(super) fn look_at_maintenance(&mut self, look: Look) {
        let Look { app, reply } = look;
        let object = self.store.as_ref().and_then(|store| store.get(&maintenance_key(&app)));
        let object = object.filter(|_| self.fleet.is_none());
        match object.as_ref().and_then(closed) {
            Some(new) => match self.closed.get_mut(&app) {
                // The routes that are published have it already.
                Some(old) if old.page == new.page => {}
                Some(_) | None => drop(self.closed.insert(app.clone(), new)),
            },
            None => drop(self.closed.remove(&app)),
        }
        self.read_hold(&app);
        self.settle_all();
        // The asker may have gone away; it is so all the same.
        let _ = reply.send(self.ticket.clone());
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
        let shown = app.routes.iter().map(|route| Arc::new(in_maintenance(route, closed.page.clone())));
        let shown = Arc::new(shown.collect::<Vec<_>>());
        closed.routes = Some((Arc::clone(&app.routes), Arc::clone(&shown)));
        shown
    }
}

/// The route with its conditions, and nothing that it does or asks.
fn in_maintenance(route: &Route, page: Option<Arc<str>>) -> Route {
    let policy = RoutePolicy {
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        retry: None,
        hedge: None,
        body_limit: None,
        admission: None,
        entrance: None,
        rate_limits: None,
        grpc_web: false,
        caps: None,
        hold: None,
        ..RoutePolicy::clone(&route.policy)
    };
    Route { action: Action::Maintenance(page), policy: Arc::new(policy), ..route.clone() }
}
