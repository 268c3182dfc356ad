//! One rule: its conditions, its action and what goes with them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::Arc;

use super::action::{Around, action};
use super::admission::{self, Written};
use super::entrance;
use super::{
    Scope, claims, client_cert, condition, connect, faults, field, host, limit, mirror, raw as other,
    resilience, timeout, upgrade,
};
use crate::model::{
    Admission, AppCaps, Entrance, HostMatch, LoosePath, PathMatch, Priority, Role, Route, RouteLimits,
    RoutePolicy, Timeouts,
};
use crate::names::{AppName, ClusterName, ListenerName, RouteName, TrustName};
use crate::raw::RawRoute;
use crate::source::Span;

/// What the routes of an app share.
pub(super) struct Shared {
    /// Listeners of routes that name none.
    pub(super) listeners: Option<Vec<ListenerName>>,
    /// Deadlines of routes that set none.
    pub(super) timeouts: Timeouts,
    /// What routes let in that say nothing of it.
    pub(super) admission: Option<Arc<Admission>>,
    /// Largest request body of routes that set none.
    pub(super) body_limit: Option<u64>,
    /// Rates of requests of the app, as they stand on routes that have none of their own.
    pub(super) rate_limits: Option<Arc<RouteLimits>>,
    /// The app.
    pub(super) app: AppName,
    /// What requests must show, on routes that say nothing of it.
    pub(super) entrance: Option<Arc<Entrance>>,
    /// Who signs the tokens that conditions on claims look at, in the routes so far.
    pub(super) claim_issuers: BTreeSet<TrustName>,
    /// What the app may use at a time.
    pub(super) caps: Option<AppCaps>,
    /// Clusters written in the app.
    pub(super) clusters: BTreeSet<ClusterName>,
    /// Names used so far, with their places.
    pub(super) names: BTreeMap<RouteName, Span>,
    /// Policies of the last routes.
    pub(super) policies: Vec<Arc<RoutePolicy>>,
    /// Conditions seen so far, with their places.
    pub(super) seen: BTreeMap<String, Span>,
}

/// Policies of routes before that are compared with the next one's; most routes of an app have the same.
const POLICIES: usize = 4;

impl Shared {
    /// The policy, as another route has it already where there is one.
    fn policy(&mut self, policy: RoutePolicy) -> Arc<RoutePolicy> {
        if let Some(known) = self.policies.iter().find(|known| ***known == policy) {
            return Arc::clone(known);
        }
        let policy = Arc::new(policy);
        if self.policies.len() == POLICIES {
            self.policies.remove(0);
        }
        self.policies.push(Arc::clone(&policy));
        policy
    }
}

/// Reads one route. `position` counts from 1.
pub(super) fn route(
    scope: &mut Scope<'_, '_>,
    raw: &RawRoute,
    position: usize,
    shared: &mut Shared,
) -> Option<Route> {
    let before = scope.report.errors();
    let name = route_name(scope, raw, position, shared);
    let listeners = match &raw.listeners {
        Some(names) => Some(scope.listeners(names)),
        None => shared.listeners.clone(),
    };
    other::route(scope, raw, listeners.as_deref());
    let host = match &raw.host {
        Some(text) => scope.accept(text.span, host::host(&text.value)),
        None => Some(HostMatch::Any),
    };
    let path = condition::path_match(scope, raw.path.as_ref());
    let methods = condition::methods(scope, raw.methods.as_deref().unwrap_or_default());
    let headers = condition::headers(scope, raw.headers.as_ref());
    let query = condition::plain(scope, raw.query.as_ref());
    let cookies = condition::plain(scope, raw.cookies.as_ref());
    let client_cert = client_cert::conditions(scope, raw.client_cert.as_ref());
    let name = name?;
    let action = action(scope, raw, &Around { clusters: &shared.clusters, name: &name, path: path.as_ref() });
    let request_headers = field::request_edits(scope, raw.request_headers.as_ref());
    let response_headers = field::edits(scope, raw.response_headers.as_ref());
    let admission = admission::over(scope, shared.admission.as_ref(), &written(raw));
    let rate_limits = rate_limits(scope, raw, shared);
    let entrance =
        entrance::over(scope, (&shared.app, &shared.clusters), shared.entrance.as_ref(), &steps(raw));
    let claims = claims::conditions(scope, raw, entrance.as_deref(), &mut shared.claim_issuers);
    let timeouts = timeout::over(scope, shared.timeouts, raw.timeout.as_ref());
    let (upgrades, connect) = (upgrade::upgrades(scope, raw.upgrades.as_ref()), connect::ports(scope, raw));
    let retry = resilience::retry(scope, raw.retry.as_ref()).map(Arc::new);
    let faults = faults::faults(scope, raw.faults.as_ref());
    let mirror = mirror::mirror(scope, raw.mirror.as_ref(), &shared.clusters, action.as_ref());
    if !raw.clean || scope.report.errors() > before {
        return None;
    }
    let route = Route {
        name,
        host: host?,
        path: path?,
        action: action?,
        policy: shared.policy(RoutePolicy {
            listeners,
            methods,
            headers,
            query,
            cookies,
            client_cert,
            claims,
            request_headers,
            response_headers,
            timeouts,
            attempts: raw.attempts.and_then(|attempts| u8::try_from(attempts).ok()).unwrap_or(3),
            retry,
            hedge: resilience::hedge(raw.hedge.as_ref()),
            mirror,
            faults,
            loose_path: raw.loose_path.map_or(LoosePath::default(), |word| word.0),
            body_limit: raw.body_limit.map(|limit| limit.0).or(shared.body_limit),
            admission,
            entrance,
            rate_limits,
            upgrades,
            connect,
            grpc_web: raw.grpc_web.as_ref().is_some_and(|flag| flag.value),
            priority: raw.priority.map_or(Priority::default(), |word| word.0),
            caps: shared.caps,
            hold: None,
        }),
    };
    warn(scope, raw, &route, shared);
    Some(route)
}

fn steps(raw: &RawRoute) -> entrance::Written<'_> {
    entrance::Written {
        cors: raw.cors.as_ref(),
        auth: raw.auth.as_ref(),
        authorizer: raw.authorizer.as_ref(),
    }
}

fn written(raw: &RawRoute) -> Written<'_> {
    Written {
        allow: raw.allow.as_ref(),
        deny: raw.deny.as_ref(),
        denied_headers: raw.denied_headers,
        head_limit: raw.head_limit,
        fields_limit: raw.fields_limit,
    }
}

/// The app's limits with the route's own behind them.
fn rate_limits(scope: &mut Scope<'_, '_>, raw: &RawRoute, shared: &Shared) -> Option<Arc<RouteLimits>> {
    let route = limit::list(scope, raw.limit.as_ref(), ("route", Some(&shared.app)));
    if route.is_empty() {
        return shared.rate_limits.clone();
    }
    let app = shared.rate_limits.as_ref().map(|limits| limits.app.clone()).unwrap_or_default();
    Some(Arc::new(RouteLimits { app, route }))
}

fn route_name(
    scope: &mut Scope<'_, '_>,
    raw: &RawRoute,
    position: usize,
    shared: &mut Shared,
) -> Option<RouteName> {
    let (name, span) = match &raw.name {
        Some(text) => (scope.name(text, RouteName::new)?, text.span),
        None => (RouteName::new(&format!("route-{position}")).ok()?, raw.span),
    };
    if let Some(first) = shared.names.get(&name) {
        let message = format!("two routes have the name `{name}`");
        let help = format!("the first begins in line {}", scope.report.line(*first));
        scope.report.error_help(span, "duplicate_route", message, help);
        return None;
    }
    shared.names.insert(name.clone(), span);
    Some(name)
}

/// What is allowed but can hardly be meant.
fn warn(scope: &mut Scope<'_, '_>, raw: &RawRoute, route: &Route, shared: &mut Shared) {
    let world = scope.world;
    let serves =
        |(name, role): (&ListenerName, &Role)| *role == Role::Edge && !world.protocols.contains_key(name);
    if route.listeners.is_none() && !world.is_open() && !world.listeners.iter().any(serves) {
        let help = "name its listeners: `listeners = [\"...\"]`";
        let message = "the route applies to no listener: none has the role edge";
        scope.report.warning(raw.span, "no_listener", message, help);
    }
    client_cert::warn(scope, raw, route);
    let conditions = conditions(route);
    match shared.seen.get(&conditions) {
        Some(first) => {
            let help = format!("the other begins in line {}", scope.report.line(*first));
            let message = "another route with the same conditions comes first: this one is never reached";
            scope.report.warning(raw.span, "unreachable_route", message, help);
        }
        None => {
            shared.seen.insert(conditions, raw.span);
        }
    }
}

/// The conditions of a route as one text, equal for routes that match the same requests by the same words.
fn conditions(route: &Route) -> String {
    let mut text = String::new();
    let mut listeners = route.listeners.clone();
    if let Some(listeners) = &mut listeners {
        listeners.sort();
    }
    let mut methods = route.methods.clone();
    methods.sort();
    // Writing to a String does not fail.
    let _ = match &route.path {
        PathMatch::Prefix(path) => write!(text, "prefix {path:?}"),
        PathMatch::Exact(path) => write!(text, "exact {path:?}"),
        PathMatch::Regex(regex) => write!(text, "regex {:?}", regex.text),
    };
    let _ = write!(text, " {listeners:?} {:?} {methods:?}", route.host);
    let _ = write!(text, " {:?} {:?} {:?}", route.headers, route.query, route.cookies);
    let _ = write!(text, " {:?}", route.client_cert);
    let issuer = route.entrance.as_ref().and_then(|steps| claims::issuer(steps));
    let _ = write!(text, " {:?} {:?}", route.claims, issuer.filter(|_| !route.claims.is_empty()));
    text
}
