//! Why a rule takes a request, and why the others do not: every rule of a listener with its conditions one by one.
//!
//! Asks the same indexes and the same conditions as [`Table::find`]; there is no second matcher here. For people, not for workers:
//! it walks over every rule of the table.

use std::sync::Arc;

use ekiden_config::doors::{Check, LooseReading, RULES_MAX, RuleStory, Standing};
use ekiden_config::model::{HostMatch, PathMatch, Route, ValueTest};
use rustc_hash::FxHashSet;

use super::paths::{Met, Selection};
use super::{Facts, RouteEntry, Table, conditions};

impl Table {
    /// The rules in the order in which they are tried, then those that are not tried at all; and how many more there are.
    pub fn stories(&self, listener: u32, facts: &Facts<'_>) -> (Vec<RuleStory>, usize) {
        let Some(table) = self.listeners.get(listener as usize) else { return (Vec::new(), 0) };
        let (mut stories, mut omitted) = (Vec::new(), 0);
        let mut seen: FxHashSet<*const RouteEntry> = FxHashSet::default();
        let mut tell = |story: &dyn Fn() -> RuleStory| {
            if stories.len() < RULES_MAX { stories.push(story()) } else { omitted += 1 }
        };
        let mut taken = false;
        for (rank, paths) in table.hosts.fitting(facts.host).into_iter().enumerate() {
            for met in paths.list(facts.path, facts) {
                if !seen.insert(Arc::as_ptr(met.entry)) {
                    continue;
                }
                let holds = met.path && met.method && conditions::hold(met.entry, facts);
                let standing = match (rank, holds) {
                    (0, true) if taken => Standing::Behind,
                    (0, true) => Standing::Taken,
                    (0, false) => Standing::Fails,
                    _ => Standing::OtherHost,
                };
                taken |= standing == Standing::Taken;
                tell(&|| story(&met, standing, facts));
            }
        }
        for entry in self.routes().filter(|entry| !seen.contains(&Arc::as_ptr(entry))) {
            let standing = if super::listeners::applies(&entry.route, &table.listener) {
                Standing::OtherHost
            } else {
                Standing::OtherListener
            };
            tell(&|| far_story(entry, standing));
        }
        (stories, omitted)
    }

    /// How the path reads in its loose form, and what that selects; none where it has no loose form.
    pub fn loose_reading(&self, listener: u32, facts: &Facts<'_>) -> Option<LooseReading> {
        let loose = facts.loose?;
        let paths = self.listeners.get(listener as usize).and_then(|table| table.hosts.lookup(facts.host));
        let route = paths.and_then(|paths| match paths.select(loose, facts) {
            Selection::Rule(entry) => Some((entry.app_name.clone(), entry.route.name.clone())),
            Selection::NotFound | Selection::MethodNotAllowed(_) => None,
        });
        Some(LooseReading { path: loose.to_owned(), route })
    }
}

/// A rule of a host that fits.
fn story(met: &Met<'_>, standing: Standing, facts: &Facts<'_>) -> RuleStory {
    let route = &met.entry.route;
    let mut checks = vec![
        // A wider host holds as a condition, and is not asked.
        Check { of: "host", wanted: host(&route.host), holds: standing != Standing::OtherHost },
        Check { of: "path", wanted: path(&route.path), holds: met.path },
    ];
    if !route.methods.is_empty() {
        checks.push(Check { of: "method", wanted: methods(route), holds: met.method });
    }
    conditions::each(met.entry, facts, &mut |of, name, test, holds| {
        checks.push(Check { of, wanted: value(name, test), holds });
    });
    RuleStory { app: met.entry.app_name.clone(), route: route.name.clone(), standing, checks }
}

/// A rule that is not looked at: of another host or another listener.
fn far_story(entry: &RouteEntry, standing: Standing) -> RuleStory {
    let route = &entry.route;
    let check = match standing {
        Standing::OtherListener => Check { of: "listener", wanted: listeners(route), holds: false },
        Standing::Taken | Standing::Behind | Standing::Fails | Standing::OtherHost => {
            Check { of: "host", wanted: host(&route.host), holds: false }
        }
    };
    RuleStory { app: entry.app_name.clone(), route: route.name.clone(), standing, checks: vec![check] }
}

fn host(host: &HostMatch) -> String {
    match host {
        HostMatch::Exact(name) => name.to_string(),
        HostMatch::Wildcard(suffix) => format!("*.{suffix}"),
        HostMatch::Any => "any".to_owned(),
    }
}

fn path(path: &PathMatch) -> String {
    match path {
        PathMatch::Exact(text) => format!("exactly {text}"),
        PathMatch::Prefix(text) => format!("{text} and below"),
        PathMatch::Regex(expression) => format!("matches {}", expression.text),
    }
}

fn methods(route: &Route) -> String {
    let mut names: Vec<&str> = route.methods.iter().map(|method| &**method).collect();
    if names.contains(&"GET") && !names.contains(&"HEAD") {
        names.push("HEAD");
    }
    names.join(", ")
}

fn listeners(route: &Route) -> String {
    match &route.listeners {
        Some(names) => names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", "),
        None => "HTTP listeners of role edge".to_owned(),
    }
}

fn value(name: &str, test: &ValueTest) -> String {
    match test {
        ValueTest::Present => format!("{name} is there"),
        ValueTest::Absent => format!("{name} is not there"),
        ValueTest::Equals(text) => format!("{name} is {text:?}"),
        ValueTest::Regex(expression) => format!("{name} matches {}", expression.text),
    }
}
