//! Conditions of a rule beside host, path and method: headers, query parameters, cookies, the client's certificate and claims of its
//! token.

use std::sync::Arc;

use ekiden_config::model::{Route, ValueCondition, ValueTest};
use ekiden_config::names::AppName;

use super::{Facts, Fields, RouteEntry};
use crate::{claims, client_cert, cookie, query};

/// Whether the route has any such condition; most have none and are not looked at again.
pub(super) fn any(route: &Route) -> bool {
    !(route.headers.is_empty()
        && route.query.is_empty()
        && route.cookies.is_empty()
        && route.client_cert.is_empty()
        && route.claims.is_empty())
}

/// Whether all conditions of a compiled rule hold.
pub(super) fn hold(entry: &Arc<RouteEntry>, facts: &Facts<'_>) -> bool {
    hold_of((&entry.app_name, &entry.route, Some(entry)), facts)
}

/// Whether all conditions of the route hold. No allocation, except for an encoded query value longer than 256 bytes
/// that is compared with an expression, and for claims. Claims come last: a signature costs more than all else.
pub(super) fn hold_of(
    rule @ (_, route, _): (&AppName, &Route, Option<&Arc<RouteEntry>>),
    facts: &Facts<'_>,
) -> bool {
    route.headers.iter().all(|condition| header_holds(condition, facts.fields))
        && route.query.iter().all(|condition| query_holds(condition, facts.query))
        && route.cookies.iter().all(|condition| cookie_holds(condition, facts.fields))
        && route.client_cert.iter().all(|condition| client_cert::holds(condition, facts.client_cert))
        && route.claims.iter().all(|condition| claims::holds(rule, condition, facts.claims))
}

/// Shows each condition with its kind, its name and whether it holds. Not for workers.
pub(super) fn each(
    entry: &Arc<RouteEntry>,
    facts: &Facts<'_>,
    visit: &mut dyn FnMut(&'static str, &str, &ValueTest, bool),
) {
    let route = &entry.route;
    let mut show = |of, one: &ValueCondition, holds| visit(of, &one.name, &one.test, holds);
    route.headers.iter().for_each(|one| show("header", one, header_holds(one, facts.fields)));
    route.query.iter().for_each(|one| show("query", one, query_holds(one, facts.query)));
    route.cookies.iter().for_each(|one| show("cookie", one, cookie_holds(one, facts.fields)));
    for one in &route.client_cert {
        visit("client_cert", one.field.word(), &one.test, client_cert::holds(one, facts.client_cert));
    }
    for one in &route.claims {
        let rule = (&entry.app_name, &**route, Some(entry));
        visit("claim", &one.name, &one.test, claims::holds(rule, one, facts.claims));
    }
}

fn header_holds(condition: &ValueCondition, fields: &dyn Fields) -> bool {
    let mut found = false;
    fields.each(&condition.name, &mut |value| {
        found = bytes_pass(&condition.test, value);
        !found
    });
    found != absent(&condition.test)
}

fn cookie_holds(condition: &ValueCondition, fields: &dyn Fields) -> bool {
    let mut found = false;
    fields.each("cookie", &mut |field| {
        found = cookie::values(field, &condition.name).any(|value| bytes_pass(&condition.test, value));
        !found
    });
    found != absent(&condition.test)
}

fn query_holds(condition: &ValueCondition, query: &str) -> bool {
    let found =
        query::parameters(query).filter(|(name, _)| query::is_text(name, &condition.name)).any(|(_, raw)| {
            match &condition.test {
                ValueTest::Present | ValueTest::Absent => true,
                ValueTest::Equals(text) => query::is_text(raw, text),
                ValueTest::Regex(expression) => match query::decoded(raw) {
                    Some(value) => {
                        std::str::from_utf8(&value).is_ok_and(|text| expression.regex.is_match(text))
                    }
                    None => expression.regex.is_match(raw),
                },
            }
        });
    found != absent(&condition.test)
}

/// Whether one value passes; for `Absent`, that there is one is what must not be.
fn bytes_pass(test: &ValueTest, value: &[u8]) -> bool {
    match test {
        ValueTest::Present | ValueTest::Absent => true,
        ValueTest::Equals(text) => text.as_bytes() == value,
        ValueTest::Regex(expression) => {
            std::str::from_utf8(value).is_ok_and(|text| expression.regex.is_match(text))
        }
    }
}

fn absent(test: &ValueTest) -> bool {
    matches!(test, ValueTest::Absent)
}
