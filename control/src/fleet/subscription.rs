//! Which apps a router gets: by the name of its certificate, and never by what it asks for.
//!
//! Pure. Without any subscription everybody gets everything. With some, a router gets the apps of all that name it; one that none
//! names is not let in, and serves on with what it has.

use std::collections::BTreeSet;
use std::sync::Arc;

use ekiden_config::model::Subscription;
use ekiden_config::names::AppName;

use super::wire::{APPS, ENDPOINTS, HOLDS, HOSTS, MAINTENANCE, WATCHES};

/// What a router gets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Share {
    /// Everything.
    #[default]
    All,
    /// These apps: their documents, endpoints, hosts, and what is said of them.
    Apps(Arc<BTreeSet<AppName>>),
}

impl Share {
    /// Whether an object is among it, by its key in the ledger.
    pub(super) fn has(&self, key: &str) -> bool {
        match self {
            Share::All => true,
            Share::Apps(apps) => app_of(key).is_some_and(|app| apps.contains(app)),
        }
    }

    /// Whether an app is among it.
    pub(super) fn has_app(&self, app: &AppName) -> bool {
        match self {
            Share::All => true,
            Share::Apps(apps) => apps.contains(app),
        }
    }

    /// Whether a change of these apps concerns it.
    pub(super) fn concerns(&self, touched: &BTreeSet<AppName>) -> bool {
        match self {
            Share::All => true,
            Share::Apps(apps) => touched.iter().any(|app| apps.contains(app)),
        }
    }

    /// How many apps it is of; 0 for everything.
    pub(super) fn len(&self) -> usize {
        match self {
            Share::All => 0,
            Share::Apps(apps) => apps.len(),
        }
    }

    /// The names of the apps; none for everything.
    pub(super) fn names(&self) -> Option<Vec<String>> {
        match self {
            Share::All => None,
            Share::Apps(apps) => Some(apps.iter().map(ToString::to_string).collect()),
        }
    }
}

/// The app that an object belongs to, by its key in the ledger.
pub(super) fn app_of(key: &str) -> Option<&str> {
    let of_app = [APPS, MAINTENANCE, HOLDS, WATCHES].iter().find_map(|kind| key.strip_prefix(kind));
    match of_app {
        Some(app) => Some(app),
        None => {
            let rest = key.strip_prefix(ENDPOINTS).or_else(|| key.strip_prefix(HOSTS))?;
            rest.split_once('/').map(|(app, _)| app)
        }
    }
}

/// All of them, as the process file has them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Subscriptions(Arc<[Subscription]>);

impl Subscriptions {
    /// Of a file.
    pub(crate) fn new(all: &[Subscription]) -> Self {
        Self(Arc::from(all))
    }

    /// Whether there are any.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the router of a certificate gets; the error says why it gets nothing at all.
    pub(super) fn share(&self, identity: Option<&str>) -> Result<Share, String> {
        if self.0.is_empty() {
            return Ok(Share::All);
        }
        let name = identity.ok_or("it shows no certificate, which `fleet.subscription` goes by")?;
        let named = || self.0.iter().filter(|one| one.routers.iter().any(|pattern| matches(pattern, name)));
        if named().next().is_none() {
            return Err(format!("no `fleet.subscription` names {name}"));
        }
        if named().any(|one| one.everything) {
            return Ok(Share::All);
        }
        Ok(Share::Apps(Arc::new(named().flat_map(|one| &one.apps).cloned().collect())))
    }
}

/// Whether a name is that of the pattern, or begins with what stands before its `*`.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => pattern == name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(name: &str) -> AppName {
        AppName::new(name).unwrap()
    }

    fn subscription(routers: &[&str], apps: &[&str]) -> Subscription {
        Subscription {
            routers: routers.iter().map(|one| Arc::from(*one)).collect(),
            apps: apps.iter().filter(|one| **one != "*").map(|one| app(one)).collect(),
            everything: apps.contains(&"*"),
        }
    }

    #[test]
    fn a_router_gets_the_apps_of_all_that_name_it() {
        let all = Subscriptions::new(&[
            subscription(&["x/edge-1"], &["*"]),
            subscription(&["x/pod/shop-*", "x/pod/cart"], &["shop"]),
            subscription(&["x/pod/*"], &["auth"]),
        ]);
        let names = |name: &str| all.share(Some(name)).map(|share| share.names());
        assert_eq!(names("x/edge-1"), Ok(None));
        assert_eq!(names("x/pod/shop-7"), Ok(Some(vec!["auth".to_owned(), "shop".to_owned()])));
        assert_eq!(names("x/pod/carts"), Ok(Some(vec!["auth".to_owned()])));
        assert!(names("x/edge-10").unwrap_err().contains("x/edge-10"));
        assert!(all.share(None).is_err());
        assert_eq!(Subscriptions::default().share(None), Ok(Share::All));
    }

    #[test]
    fn an_object_belongs_to_one_app() {
        let share = Share::Apps(Arc::new([app("shop")].into()));
        for (key, has) in [
            ("app/shop", true),
            ("app/shop2", false),
            ("maintenance/shop", true),
            ("hold/shop", true),
            ("hold/blog", false),
            ("watch/shop", true),
            ("watch/shop2", false),
            ("endpoint/shop/web/a", true),
            ("endpoint/shop2/web/shop", false),
            ("host/shop/b.example", true),
            ("host/blog/shop", false),
            ("new/shop", false),
        ] {
            assert_eq!((share.has(key), Share::All.has(key)), (has, true), "{key}");
        }
        let touched = |name: &str| [app(name)].into();
        assert!(share.concerns(&touched("shop")) && !share.concerns(&touched("blog")));
        assert!(Share::All.concerns(&BTreeSet::new()));
    }
}
