//! Matching by definition, for tests: a linear scan over all rules of a Model in the order of [`super::order`].
//!
//! Shares with the compiler only the `Ord`, the owner of a host and the evaluation of value conditions; those have named
//! tests of their own.

use std::collections::BTreeSet;

use ekiden_config::model::{App, HostMatch, Listener, LoosePath, Model, PathMatch, Route};
use ekiden_config::names::{AppName, RouteName};

use super::listeners::applies;
use super::order::{HostRank, RuleOrder, owner_of};
use super::{Facts, Match, conditions};

/// What a matcher says, in words that both can say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    Route(AppName, RouteName),
    NotFound,
    MethodNotAllowed(BTreeSet<String>),
    Ambiguous,
}

impl From<Match<'_>> for Said {
    fn from(found: Match<'_>) -> Self {
        match found {
            Match::Route(entry) => Said::Route(entry.app_name.clone(), entry.route.name.clone()),
            Match::NotFound => Said::NotFound,
            Match::MethodNotAllowed(allow) => {
                Said::MethodNotAllowed(allow.methods().map(str::to_owned).collect())
            }
            Match::Ambiguous => Said::Ambiguous,
        }
    }
}

fn host_matches(condition: &HostMatch, host: &str) -> bool {
    match condition {
        HostMatch::Any => true,
        HostMatch::Exact(name) => **name == *host,
        HostMatch::Wildcard(suffix) => host
            .strip_suffix(&**suffix)
            .and_then(|rest| rest.strip_suffix('.'))
            .is_some_and(|rest| !rest.is_empty()),
    }
}

fn path_matches(condition: &PathMatch, path: &str) -> bool {
    match condition {
        PathMatch::Exact(exact) => **exact == *path,
        PathMatch::Regex(expression) => expression.regex.is_match(path),
        PathMatch::Prefix(prefix) if **prefix == *"/" => true,
        PathMatch::Prefix(prefix) => path == &**prefix || path.starts_with(&format!("{prefix}/")),
    }
}

fn method_matches(route: &Route, method: &str) -> bool {
    let listed = |method: &str| route.methods.iter().any(|m| **m == *method);
    route.methods.is_empty() || listed(method) || (method == "HEAD" && listed("GET"))
}

/// All rules of a listener that match the host, in order, of the deciding host only.
fn rules_of_host<'m>(model: &'m Model, listener: &Listener, host: &str) -> Vec<(RuleOrder, &'m Route)> {
    let mut rules = Vec::new();
    for app in model.apps.values() {
        for (position, route) in app.routes.iter().enumerate() {
            if applies(route, listener) && host_matches(&route.host, host) {
                let claims = |other: &&App| other.routes.iter().any(|r| r.host == route.host);
                let claimants: Vec<&App> = model.apps.values().map(|other| &**other).filter(claims).collect();
                rules.push((RuleOrder::new(&app.name, position, route, owner_of(&claimants)), &**route));
            }
        }
    }
    rules.sort_by(|(a, _), (b, _)| a.cmp(b));
    let deciding: Option<HostRank> = rules.first().map(|(order, _)| order.host);
    rules.retain(|(order, _)| Some(order.host) == deciding);
    rules
}

fn select<'m>(
    rules: &[(RuleOrder, &'m Route)],
    path: &str,
    facts: &Facts<'_>,
) -> Result<(AppName, &'m Route), Said> {
    let mut allowed = BTreeSet::new();
    for (order, route) in rules {
        if !path_matches(&route.path, path) || !conditions::hold_of((&order.app, route, None), facts) {
            continue;
        }
        if method_matches(route, facts.method) {
            return Ok((order.app.clone(), route));
        }
        for method in &route.methods {
            allowed.insert(method.to_string());
            if **method == *"GET" {
                allowed.insert("HEAD".to_owned());
            }
        }
    }
    Err(if allowed.is_empty() { Said::NotFound } else { Said::MethodNotAllowed(allowed) })
}

/// What `Table::find` must say.
pub(super) fn find(model: &Model, listener: &Listener, facts: &Facts<'_>) -> Said {
    let rules = rules_of_host(model, listener, facts.host);
    let first = select(&rules, facts.path, facts);
    let Some(loose) = facts.loose else {
        return first.map_or_else(|said| said, |(app, route)| Said::Route(app, route.name.clone()));
    };
    let slashes = facts.path.replace("%2F", "/").replace("%5C", "/");
    let climbs = slashes.split('/').any(|segment| segment == ".." || segment.starts_with("..;"));
    let behind = facts.path.split('/').any(|segment| {
        let slash = segment.rfind("%2F").max(segment.rfind("%5C"));
        segment.find(';').is_some_and(|at| slash.is_some_and(|slash| slash > at))
    });
    if let Ok((_, route)) = &first
        && (climbs || behind)
        && route.loose_path == LoosePath::Refuse
    {
        return Said::Ambiguous;
    }
    match (first, select(&rules, loose, facts)) {
        (Ok((app, route)), second) => {
            let same = second.is_ok_and(|(_, other)| std::ptr::eq(route, other));
            if same || route.loose_path == LoosePath::Allow {
                Said::Route(app, route.name.clone())
            } else {
                Said::Ambiguous
            }
        }
        (Err(_), Ok(_)) => Said::Ambiguous,
        (Err(said), Err(_)) => said,
    }
}
