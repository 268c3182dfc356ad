//! The families of rate limits: verdicts, keys held, and keys that found no account of their own.

use std::collections::HashSet;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use ekiden_core::policy::limit::{LimitShard, Limiter};
use ekiden_core::stats::Counter;
use ekiden_core::table::Table;

use super::family::Family;

/// A verdict by its word, and where it is counted.
type Verdict = (&'static str, fn(&LimitShard) -> &Counter);
const RESULTS: [Verdict; 3] = [
    ("allowed", |shard| &shard.allowed),
    ("refused", |shard| &shard.refused),
    ("shadow_refused", |shard| &shard.shadow_refused),
];

/// The families. `running` is the time since the process started, which limits count from.
pub(super) fn families(max: usize, table: &Table, running: Duration) -> Vec<Family> {
    let now_ns = u64::try_from(running.as_nanos()).unwrap_or(u64::MAX);
    let mut requests = Family::counters(
        max,
        "ekiden_limit_requests_total",
        "Requests that a rate limit judged, by its verdict.",
    );
    let mut keys = Family::gauges(
        max,
        "ekiden_limit_keys",
        "Keys of a rate limit that have not all of their allowance.",
    );
    let mut crowded = Family::counters(
        max,
        "ekiden_limit_crowded_total",
        "Requests whose key found no free account of a rate limit and took over another's with what it owed.",
    );
    let mut leased = Family::counters(
        max,
        "ekiden_limit_leased_total",
        "Units of a shared limit that its store gave ahead.",
    );
    for limiter in limiters(table) {
        // One that no request has met has no shard.
        let (counts, words) = (&limiter.counts, &limiter.words);
        let shards = counts.shards();
        if shards.is_empty() {
            continue;
        }
        let total = |field: fn(&LimitShard) -> &Counter| {
            shards.iter().map(|shard| field(shard).value()).fold(0, u64::wrapping_add)
        };
        let place = &counts.place;
        let (listener, app, route) = (place.listener.as_ref(), place.app.as_ref(), place.route.as_ref());
        let labels = [
            ("listener", listener.map_or("", |name| name.as_str())),
            ("app", app.map_or("", |name| name.as_str())),
            ("route", route.map_or("", |name| name.as_str())),
            ("limit", &*words.name),
        ];
        let [one, two, three, four] = labels;
        for (result, field) in RESULTS {
            requests.count(&[one, two, three, four, ("result", result)], total(field));
        }
        keys.gauge(&labels, limiter.keys_in_use(now_ns) as f64);
        crowded.count(&labels, total(|shard| &shard.crowded));
        if let Some(shared) = &limiter.shared {
            leased.count(&labels, shared.leased.load(Relaxed));
        }
    }
    vec![requests, keys, crowded, leased]
}

/// Every limit of a table once: the routes of an app share those of the app.
fn limiters(table: &Table) -> impl Iterator<Item = &Limiter> {
    let mut seen = HashSet::new();
    let of_listeners =
        table.listeners.iter().flat_map(|listener| listener.limits.iter()).flat_map(|all| all.list());
    let of_routes =
        table.routes().flat_map(|entry| entry.limits.iter()).flat_map(|all| all.lists()).flatten();
    of_listeners.chain(of_routes).filter(move |limiter| seen.insert(std::sync::Arc::as_ptr(&limiter.counts)))
}
