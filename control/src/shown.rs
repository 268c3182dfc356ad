//! What the routes of an app become while it is in maintenance or held. Pure, and the same wherever a table is made: in control, and
//! in a router that has its apps from control elsewhere.

use std::sync::Arc;

use ekiden_config::model::{Action, HeaderEdits, HoldPolicy, Route, RoutePolicy};

/// The routes of an app, as a Model has them.
#[allow(clippy::rc_buffer, reason = "the form that they have in a Model")]
pub(crate) type Routes = Arc<Vec<Arc<Route>>>;

/// Every route with its conditions, and nothing that it does or asks: whoever matches is told to come back later. `page` is what people
/// see; none is the router's own.
pub(crate) fn in_maintenance(routes: &Routes, page: Option<&Arc<str>>) -> Routes {
    let closed = |route: &Route| {
        let policy = RoutePolicy {
            request_headers: HeaderEdits::default(),
            response_headers: HeaderEdits::default(),
            retry: None,
            hedge: None,
            body_limit: None,
            admission: None,
            entrance: None,
            // They look at the token that the entrance asks for: who would have come in is told as well.
            claims: Vec::new(),
            rate_limits: None,
            grpc_web: false,
            caps: None,
            hold: None,
            ..RoutePolicy::clone(&route.policy)
        };
        Route { action: Action::Maintenance(page.cloned()), policy: Arc::new(policy), ..route.clone() }
    };
    Arc::new(routes.iter().map(|route| Arc::new(closed(route))).collect())
}

/// The routes with those that forward made to wait.
pub(crate) fn held(routes: &Routes, policy: HoldPolicy) -> Routes {
    let waiting = routes.iter().map(|route| match &route.action {
        Action::Forward(_) => {
            let mut waiting = Route::clone(route);
            waiting.hold = Some(policy);
            Arc::new(waiting)
        }
        Action::Redirect(_) | Action::Fixed(_) | Action::Maintenance(_) => Arc::clone(route),
    });
    Arc::new(waiting.collect())
}
