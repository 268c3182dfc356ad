//! Rate limits: names, keys, groups and costs that make sense together.

use std::sync::Arc;
use std::time::Duration;

use super::key::Keys;
use super::{Fault, Scope, condition, field, network};
use crate::fields;
use crate::model::{Cost, Group, KeyPart, KeyPiece, Limit, LimitFields, LimitUnit, MissingKey, Rate};
use crate::names::{AppName, RouteName, TrustName};
use crate::raw::{CountOr, RawCost, RawLimit, Spanned};
use crate::source::Span;

/// Networks of all groups of one limit together.
const GROUP_NETS_MAX: usize = 1000;
/// Keys of a limit that routers share, which takes more memory for each.
const SHARED_KEYS_MAX: u32 = 1 << 18;
/// Keys told apart where the limit does not say.
const KEYS: u32 = 16_384;
const HELP: &str = "write client, group, header:NAME, cookie:NAME, query:NAME, path:N, host, path, query, client_cert:PART or api_key, or several in braces: \
                    \"{client}:{header:x-user}\"";

/// Reads a list of limits. `place` begins the names of those that have none; with the app, where they are not a listener's.
pub(super) fn list(
    scope: &mut Scope<'_, '_>,
    raw: Option<&Vec<RawLimit>>,
    (place, app): (&str, Option<&AppName>),
) -> Vec<Limit> {
    let mut made: Vec<Limit> = Vec::new();
    for (index, raw) in raw.into_iter().flatten().enumerate() {
        let Some(limit) = limit(scope, raw, &format!("{place}-limit-{}", index + 1), app) else { continue };
        if made.iter().any(|other| other.name == limit.name) {
            let span = raw.name.as_ref().map_or(raw.span, |name| name.span);
            let message = format!("two limits have the name `{}`", limit.name);
            scope.report.error_help(span, "duplicate_limit", message, "name each: `name = \"...\"`");
            continue;
        }
        made.push(limit);
    }
    made
}

fn limit(
    scope: &mut Scope<'_, '_>,
    raw: &RawLimit,
    default_name: &str,
    app: Option<&AppName>,
) -> Option<Limit> {
    let before = scope.report.errors();
    let name = match &raw.name {
        // Limits are named by the rules of routes.
        Some(text) => scope.name(text, RouteName::new).map(|name| Arc::from(name.as_str())),
        None => Some(Arc::from(default_name)),
    };
    let groups: Arc<[Group]> = groups(scope, raw).into();
    let key = key(scope, raw, &groups, app.is_some());
    let except = raw
        .except
        .iter()
        .flatten()
        .filter_map(|text| scope.accept(text.span, network(&text.value)))
        .collect();
    let amount = amount(scope, raw);
    let cost = cost(scope, raw.cost.as_ref(), amount.map_or(u32::MAX, |(_, rate)| rate.burst));
    let shared = raw.shared.as_ref().and_then(|text| store(scope, raw, text, app));
    if !raw.clean || scope.report.errors() > before {
        return None;
    }
    let (unit, rate) = amount?;
    Some(Limit {
        name: name?,
        unit,
        rate,
        key,
        missing: raw.missing.map_or(MissingKey::default(), |word| word.0),
        cost,
        except,
        shadow: raw.shadow.unwrap_or(false),
        fields: raw.headers.map_or(LimitFields::default(), |word| word.0),
        keys: raw.keys.and_then(|keys| u32::try_from(keys).ok()).unwrap_or(KEYS),
        shared,
    })
}

/// What is counted, and how much of it.
fn amount(scope: &mut Scope<'_, '_>, raw: &RawLimit) -> Option<(LimitUnit, Rate)> {
    match (&raw.rate, &raw.concurrency) {
        (Some(rate), None) => {
            let count = u32::try_from(rate.count).ok()?;
            let burst = raw.burst.as_ref().map_or(Some(count), |burst| u32::try_from(burst.value).ok())?;
            Some((LimitUnit::Rate, Rate { count, per: rate.per, burst }))
        }
        (None, Some(most)) => {
            let others = [
                ("burst", raw.burst.as_ref().map(|burst| burst.span)),
                ("cost", raw.cost.as_ref().and_then(|cost| long_or_many(cost).then_some(raw.span))),
                ("shared", raw.shared.as_ref().map(|store| store.span)),
            ];
            for (key, span) in others {
                if let Some(span) = span {
                    let message = format!("`{key}` means nothing where requests at a time are counted");
                    scope.report.error_help(span, "no_meaning", message, "leave it out, or write `rate`");
                }
            }
            let count = u32::try_from(most.value).ok()?;
            Some((LimitUnit::AtATime, Rate { count, per: Duration::ZERO, burst: count }))
        }
        (Some(_), Some(most)) => {
            let message = "`rate` and `concurrency` in one limit";
            scope.report.error_help(most.span, "one_of", message, "write two limits: both must pass");
            None
        }
        // A rate that cannot be read was reported.
        (None, None) if !raw.clean => None,
        (None, None) => {
            let message = "a limit needs `rate` or `concurrency`";
            scope.report.error_help(raw.span, "missing_key", message, "such as `rate = \"100/s\"`");
            None
        }
    }
}

/// Whether a cost is more than whether a request is counted.
fn long_or_many(cost: &CountOr<RawCost>) -> bool {
    match cost {
        CountOr::Count(count) => count.value > 1,
        CountOr::Long(raw) => raw.header.is_some() || raw.response.is_some(),
    }
}

/// The store through which routers share a limit, which the app may use.
fn store(
    scope: &mut Scope<'_, '_>,
    raw: &RawLimit,
    text: &Spanned<String>,
    app: Option<&AppName>,
) -> Option<TrustName> {
    if raw.keys.is_some_and(|keys| keys > u64::from(SHARED_KEYS_MAX)) {
        let message = format!("a shared limit tells at most {SHARED_KEYS_MAX} keys apart on each router");
        scope.report.error(raw.span, "out_of_range", message);
    }
    let world = scope.world;
    // Listeners are the process file's own.
    let own = AppName::default_app();
    super::auth::named(scope, app.unwrap_or(&own), (text, "store", "store"), &world.stores)
}

fn groups(scope: &mut Scope<'_, '_>, raw: &RawLimit) -> Vec<Group> {
    let mut made: Vec<Group> = Vec::new();
    let mut count = 0;
    for (name, texts) in raw.groups.iter().flat_map(|map| &map.0) {
        count += texts.len();
        let mut nets = Vec::with_capacity(texts.len());
        for text in texts {
            let Some(net) = scope.accept(text.span, network(&text.value)) else { continue };
            if made.iter().any(|group| group.nets.contains(&net)) {
                let message = format!("`{net}` is in two groups");
                scope.report.error_help(text.span, "duplicate_network", message, "leave it in one of them");
            }
            nets.push(net);
        }
        made.push(Group { name: Arc::from(name.value.as_str()), nets });
    }
    if count > GROUP_NETS_MAX {
        let message = format!("the groups have {count} networks; at most {GROUP_NETS_MAX} are allowed");
        scope.report.error(raw.span, "list_too_long", message);
    }
    // The same in every format and order: accounts are kept while the groups are the same.
    made.sort_by(|a, b| a.name.cmp(&b.name));
    made
}

fn key(scope: &mut Scope<'_, '_>, raw: &RawLimit, groups: &Arc<[Group]>, api_key: bool) -> Vec<KeyPart> {
    let parts = match &raw.key {
        Some(text) => scope.accept(text.span, parts(&text.value, groups, api_key)).unwrap_or_default(),
        None => Vec::new(),
    };
    let grouped = parts.iter().any(|part| matches!(part, KeyPart::Group(_)));
    if let Some((name, _)) = raw.groups.iter().flat_map(|map| &map.0).next()
        && !grouped
        && (raw.key.is_none() || !parts.is_empty())
    {
        let help = "write `key = \"group\"`, or a template that holds `{group}`";
        scope.report.error_help(name.span, "no_meaning", "groups without the key `group` do nothing", help);
    }
    if raw.key.is_none() && raw.missing.is_some() {
        scope.report.error_help(raw.span, "no_meaning", "`missing` without a key does nothing", HELP);
    }
    parts
}

/// The parts of a key; what stands between them tells no requests apart.
fn parts(text: &str, groups: &Arc<[Group]>, api_key: bool) -> Result<Vec<KeyPart>, Fault> {
    let keys = Keys { code: "bad_limit_key", of: "a limit", help: HELP, groups: Some(groups), api_key };
    let part = |piece| match piece {
        KeyPiece::Part(part) => Some(part),
        KeyPiece::Text(_) => None,
    };
    Ok(keys.pieces(text)?.into_iter().filter_map(part).collect())
}

fn cost(scope: &mut Scope<'_, '_>, raw: Option<&CountOr<RawCost>>, burst: u32) -> Cost {
    match raw {
        None => Cost::default(),
        Some(CountOr::Count(count)) => {
            let otherwise = within(scope, count, burst);
            Cost { otherwise, ..Cost::default() }
        }
        Some(CountOr::Long(raw)) => long_cost(scope, raw, burst),
    }
}

fn long_cost(scope: &mut Scope<'_, '_>, raw: &RawCost, burst: u32) -> Cost {
    let mut cost = Cost::default();
    for (name, count) in raw.methods.iter().flat_map(|map| &map.0) {
        let method = scope.accept(name.span, condition::method(&name.value));
        let count = within(scope, count, burst);
        cost.methods.extend(method.map(|method| (method, count)));
    }
    cost.methods.sort();
    cost.header = raw.header.as_ref().and_then(|text| scope.accept(text.span, field::name(&text.value)));
    cost.response =
        raw.response.as_ref().and_then(|text| scope.accept(text.span, response_field(&text.value)));
    let mut read = |value: &Option<Spanned<u64>>, into: &mut u32| {
        if let Some(value) = value {
            *into = within(scope, value, burst);
        }
    };
    read(&raw.otherwise, &mut cost.otherwise);
    read(&raw.least, &mut cost.least);
    match (&raw.header, &raw.most) {
        // What a response says is taken afterwards, also beyond the burst.
        (None, Some(most)) => cost.most = u32::try_from(most.value).unwrap_or(u32::MAX),
        (_, most) => read(most, &mut cost.most),
    }
    bounds(scope, raw, &cost);
    cost
}

/// What a client's header can do has bounds, and bounds have a header.
fn bounds(scope: &mut Scope<'_, '_>, raw: &RawCost, cost: &Cost) {
    match (raw.header.as_ref().or(raw.response.as_ref()), &raw.most) {
        (Some(header), None) => {
            let help = "add `most`: a client can write any number, and an endpoint err";
            scope.report.error_help(header.span, "unbounded_cost", "a cost by header needs a bound", help);
        }
        (None, _) => {
            let stray = raw.most.as_ref().or(raw.least.as_ref());
            if let Some(span) = stray.map(|stray| stray.span) {
                scope.report.error_help(
                    span,
                    "no_meaning",
                    "bounds without `header` do nothing",
                    "add `header`",
                );
            }
        }
        (Some(_), Some(most)) if cost.least > cost.most => {
            scope.report.error(most.span, "out_of_range", "`most` is less than `least`");
        }
        (Some(_), Some(_)) => {}
    }
}

/// A response field that is taken away: none of the connection, of framing or of the platform.
fn response_field(text: &str) -> Result<Arc<str>, Fault> {
    let name = field::name(text)?;
    if fields::OWN.contains(&&*name) || fields::PLATFORM.contains(&&*name) || &*name == "set-cookie" {
        let fault = Fault::new("protected_field", format!("`{text}` cannot say a cost"));
        return Err(fault.help("choose a field of your own, such as \"X-Cost\""));
    }
    Ok(name)
}

/// A cost that can ever be paid.
fn within(scope: &mut Scope<'_, '_>, count: &Spanned<u64>, burst: u32) -> u32 {
    let number = u32::try_from(count.value).unwrap_or(u32::MAX);
    if number > burst {
        too_high(scope, count.span, number, burst);
    }
    number
}

fn too_high(scope: &mut Scope<'_, '_>, span: Span, number: u32, burst: u32) {
    let message = format!("a request that takes {number} never passes: the burst is {burst}");
    scope.report.error_help(span, "cost_above_burst", message, "raise `burst`, or lower the cost");
}
