//! The limits of an app's routes, made from those before: what a name and a place had counted goes on.

use std::sync::Arc;

use ekiden_config::model::{Limit, RouteLimits};
use ekiden_config::names::{AppName, RouteName};
use rustc_hash::FxHashMap;

use super::RouteEntry;
use crate::policy::limit::{LimitPlace, Limiters, Maker, RouteLimiters};

/// Makes the limits of one version of an app.
pub(super) struct LimitMaker<'b> {
    app: &'b AppName,
    maker: Maker,
    /// Limits of the version before.
    old_app: Option<&'b Limiters>,
    old_routes: FxHashMap<&'b RouteName, &'b Limiters>,
    /// Made so far: one set for the app, one for all routes that add nothing to it.
    new_app: Option<Arc<Limiters>>,
    shared: FxHashMap<*const RouteLimits, Arc<RouteLimiters>>,
}

impl<'b> LimitMaker<'b> {
    /// For an app, with the entries of its version before.
    pub(super) fn new(app: &'b AppName, before: &'b [Arc<RouteEntry>], maker: Maker) -> Self {
        let limited = || before.iter().filter_map(|entry| Some((entry, entry.limits.as_deref()?)));
        Self {
            app,
            maker,
            old_app: limited().find_map(|(_, limits)| limits.app.as_deref()),
            old_routes: limited().map(|(entry, limits)| (&entry.route.name, &limits.route)).collect(),
            new_app: None,
            shared: FxHashMap::default(),
        }
    }

    /// The limits of a route.
    pub(super) fn make(&mut self, route: &RouteName, words: &Arc<RouteLimits>) -> Arc<RouteLimiters> {
        if let Some(made) = self.shared.get(&Arc::as_ptr(words)) {
            return made.clone();
        }
        let app = (!words.app.is_empty()).then(|| self.of_app(&words.app));
        let place =
            LimitPlace { app: Some(self.app.clone()), route: Some(route.clone()), ..LimitPlace::default() };
        let old = self.old_routes.get(route).copied();
        let made =
            Arc::new(RouteLimiters { app, route: Limiters::new(&words.route, &place, old, self.maker) });
        if words.route.is_empty() {
            self.shared.insert(Arc::as_ptr(words), made.clone());
        }
        made
    }

    /// One for all routes of the app, which have the same words.
    fn of_app(&mut self, words: &[Limit]) -> Arc<Limiters> {
        let place = LimitPlace { app: Some(self.app.clone()), ..LimitPlace::default() };
        let made = || Arc::new(Limiters::new(words, &place, self.old_app, self.maker));
        self.new_app.get_or_insert_with(made).clone()
    }
}
