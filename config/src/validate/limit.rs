//! Rate limits: names, keys, groups and costs that make sense together.

use std::sync::Arc;

use super::key::Keys;
use super::{Fault, Scope, condition, field, network};
use crate::model::{Cost, Group, KeyPart, KeyPiece, Limit, LimitFields, MissingKey, Rate};
use crate::names::RouteName;
use crate::raw::{CountOr, RawCost, RawLimit, Spanned};
use crate::source::Span;

/// Networks of all groups of one limit together.
const GROUP_NETS_MAX: usize = 1000;
/// Keys told apart where the limit does not say.
const KEYS: u32 = 16_384;
const HELP: &str = "write client, group, header:NAME, cookie:NAME, query:NAME, path:N, host, path, query, client_cert:PART or api_key, or several in braces: \
                    \"{client}:{header:x-user}\"";

/// Reads a list of limits. `place` begins the names of those that have none.
pub(super) fn list(scope: &mut Scope<'_, '_>, raw: Option<&Vec<RawLimit>>, place: &str) -> Vec<Limit> {
    let mut made: Vec<Limit> = Vec::new();
    for (index, raw) in raw.into_iter().flatten().enumerate() {
        let Some(limit) = limit(scope, raw, &format!("{place}-limit-{}", index + 1), place != "listener")
        else {
            continue;
        };
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

fn limit(scope: &mut Scope<'_, '_>, raw: &RawLimit, default_name: &str, api_key: bool) -> Option<Limit> {
    let before = scope.report.errors();
    let name = match &raw.name {
        // Limits are named by the rules of routes.
        Some(text) => scope.name(text, RouteName::new).map(|name| Arc::from(name.as_str())),
        None => Some(Arc::from(default_name)),
    };
    let groups: Arc<[Group]> = groups(scope, raw).into();
    let key = key(scope, raw, &groups, api_key);
    let except = raw
        .except
        .iter()
        .flatten()
        .filter_map(|text| scope.accept(text.span, network(&text.value)))
        .collect();
    let rate = rate(raw);
    let cost = cost(scope, raw.cost.as_ref(), rate.map_or(u32::MAX, |rate| rate.burst));
    if !raw.clean || scope.report.errors() > before {
        return None;
    }
    Some(Limit {
        name: name?,
        rate: rate?,
        key,
        missing: raw.missing.map_or(MissingKey::default(), |word| word.0),
        cost,
        except,
        shadow: raw.shadow.unwrap_or(false),
        fields: raw.headers.map_or(LimitFields::default(), |word| word.0),
        keys: raw.keys.and_then(|keys| u32::try_from(keys).ok()).unwrap_or(KEYS),
    })
}

fn rate(raw: &RawLimit) -> Option<Rate> {
    let rate = raw.rate?;
    let count = u32::try_from(rate.count).ok()?;
    let burst = raw.burst.as_ref().map_or(Some(count), |burst| u32::try_from(burst.value).ok())?;
    Some(Rate { count, per: rate.per, burst })
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
    let mut read = |value: &Option<Spanned<u64>>, into: &mut u32| {
        if let Some(value) = value {
            *into = within(scope, value, burst);
        }
    };
    read(&raw.otherwise, &mut cost.otherwise);
    read(&raw.least, &mut cost.least);
    read(&raw.most, &mut cost.most);
    bounds(scope, raw, &cost);
    cost
}

/// What a client's header can do has bounds, and bounds have a header.
fn bounds(scope: &mut Scope<'_, '_>, raw: &RawCost, cost: &Cost) {
    match (&raw.header, &raw.most) {
        (Some(header), None) => {
            let help = "add `most`: a client can write any number";
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
