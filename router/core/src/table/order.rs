//! The order in which rules are tried, stated once by the `Ord` of one type.
//!
//! The compiler sorts by it and the naive matcher of the tests scans by it; nothing else knows the order.

use std::cmp::Reverse;

use ekiden_config::model::{App, HostMatch, PathMatch, Route};
use ekiden_config::names::AppName;

use crate::edit::prefix_base;

/// How specific a host condition is, the most specific first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostRank {
    /// One host.
    Exact,
    /// A wildcard, by the length of its suffix in bytes, the longest first.
    Wildcard(Reverse<usize>),
    /// Every host.
    Any,
}

/// How specific a path condition is, the most specific first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathRank {
    /// One path.
    Exact,
    /// An expression, by the length of its text in bytes, the longest first.
    Regex(Reverse<usize>),
    /// A prefix, by its number of segments, the longest first.
    Prefix(Reverse<usize>),
}

/// The place of a rule among all rules of a listener: the least is tried first. Fields are compared from top to bottom.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleOrder {
    /// The host decides first, and its rank finally: there is no falling back to a wider host.
    pub host: HostRank,
    /// Then the path.
    pub path: PathRank,
    /// Rules that list methods before rules that take all.
    pub any_method: bool,
    /// More header conditions first.
    pub headers: Reverse<usize>,
    /// More query conditions first.
    pub query: Reverse<usize>,
    /// More cookie conditions first.
    pub cookies: Reverse<usize>,
    /// More conditions on the client's certificate first.
    pub client_cert: Reverse<usize>,
    /// More conditions on claims of the token first.
    pub claims: Reverse<usize>,
    /// Rules of the host's owner before those of its guests.
    pub guest: bool,
    /// Then by app name.
    pub app: AppName,
    /// Then by position in the app's file.
    pub position: usize,
}

impl RuleOrder {
    /// The place of the route at `position` of `app`; `owner` is the app that owns the route's host.
    pub fn new(app: &AppName, position: usize, route: &Route, owner: Option<&AppName>) -> Self {
        Self {
            host: match &route.host {
                HostMatch::Exact(_) => HostRank::Exact,
                HostMatch::Wildcard(suffix) => HostRank::Wildcard(Reverse(suffix.len())),
                HostMatch::Any => HostRank::Any,
            },
            path: match &route.path {
                PathMatch::Exact(_) => PathRank::Exact,
                PathMatch::Regex(expression) => PathRank::Regex(Reverse(expression.text.len())),
                PathMatch::Prefix(prefix) => PathRank::Prefix(Reverse(
                    prefix_base(prefix).bytes().filter(|&byte| byte == b'/').count(),
                )),
            },
            any_method: route.methods.is_empty(),
            headers: Reverse(route.headers.len()),
            query: Reverse(route.query.len()),
            cookies: Reverse(route.cookies.len()),
            client_cert: Reverse(route.client_cert.len()),
            claims: Reverse(route.claims.len()),
            guest: owner != Some(app),
            app: app.clone(),
            position,
        }
    }
}

/// The owner of a host among the apps that have routes on it: the one that lists all the others in
/// `share_hosts_with`, as accepted Models have it. Where apps list each other, `default` comes first, then the
/// least name; where none lists all others (the owner has no route on this host itself), there is none.
pub fn owner_of<'a>(claimants: &[&'a App]) -> Option<&'a AppName> {
    let default = AppName::default_app();
    claimants
        .iter()
        .filter(|app| {
            claimants.iter().all(|other| other.name == app.name || app.share_hosts_with.contains(&other.name))
        })
        .map(|app| &app.name)
        .min_by_key(|name| (**name != default, *name))
}
