//! What the API shows of failures and waits: deadlines, retries and hedges of routes; breakers, budgets and slots of clusters. Words;
//! metrics say what became of them.

use std::time::Duration;

use ekiden_config::model::{Carrier, ClusterPolicy, Replay, Route, StatusRange};
use serde_json::{Value, json};

use super::overload;

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The deadlines of a route.
pub(super) fn timeouts(route: &Route) -> Value {
    let timeouts = &route.timeouts;
    json!({
        "connect_ms": ms(timeouts.connect),
        "connect_try_ms": ms(timeouts.connect_try),
        "first_byte_ms": ms(timeouts.first_byte),
        "idle_ms": ms(timeouts.idle),
        "total_ms": timeouts.total.map(ms),
        "tunnel_ms": ms(timeouts.tunnel),
        "deadline": timeouts.deadline,
    })
}

/// When a route's requests are sent again; null where only the built-in rules hold.
pub(super) fn retry(route: &Route) -> Value {
    let Some(retry) = route.retry.as_deref() else { return Value::Null };
    let replay = match retry.replay {
        Replay::Idempotent => "idempotent",
        Replay::IdempotencyKey => "idempotency-key",
        Replay::Any => "any",
    };
    let status = |range: &StatusRange| {
        if range.low == range.high { range.low.to_string() } else { format!("{}-{}", range.low, range.high) }
    };
    json!({
        "attempts": retry.attempts,
        "connect": retry.connect,
        "reset": retry.reset,
        "statuses": retry.statuses.iter().map(status).collect::<Vec<_>>(),
        "per_try_ms": retry.per_try.map(ms),
        "backoff_ms": ms(retry.backoff),
        "backoff_max_ms": ms(retry.backoff_max),
        "buffer": retry.buffer,
        "replay": replay,
    })
}

/// When a route asks a second endpoint; null where it never does.
pub(super) fn hedge(route: &Route) -> Value {
    route
        .hedge
        .map_or(Value::Null, |hedge| json!({ "percentile": hedge.percentile, "min_ms": ms(hedge.min) }))
}

/// What is copied of a route's requests; null where nothing is.
pub(super) fn mirror(route: &Route) -> Value {
    let Some(mirror) = route.mirror.as_deref() else { return Value::Null };
    json!({
        "cluster": mirror.cluster.as_str(),
        "percent": f64::from(mirror.share) / 100.0,
        "body": mirror.body,
        "in_flight": mirror.in_flight,
        "timeout_ms": ms(mirror.timeout),
        "diff": mirror.diff,
    })
}

/// What is done to a share of a route's requests, for tests; null where nothing is.
pub(super) fn faults(route: &Route) -> Value {
    let Some(faults) = route.faults.as_deref() else { return Value::Null };
    let percent = |share: u32| f64::from(share) / 100.0;
    json!({
        "delay": faults.delay.map(|delay| json!({ "percent": percent(delay.share), "time_ms": ms(delay.time) })),
        "abort": faults.abort.map(|abort| json!({ "percent": percent(abort.share), "status": abort.status })),
    })
}

/// What a cluster may have in hand; null where there is no bound.
pub(super) fn breaker(policy: &ClusterPolicy) -> Value {
    policy.breaker.map_or(Value::Null, |breaker| {
        json!({
            "requests": breaker.requests,
            "pending": breaker.pending,
            "connections": breaker.connections,
            "endpoint_requests": breaker.endpoint_requests,
            "endpoint_connections": breaker.endpoint_connections,
        })
    })
}

/// How many requests of a cluster are sent again; null where there is no bound.
pub(super) fn budget(policy: &ClusterPolicy) -> Value {
    policy.retry_budget.map_or(
        Value::Null,
        |budget| json!({ "percent": budget.percent, "floor": budget.floor, "window_ms": ms(budget.window) }),
    )
}

/// How clients come back to an endpoint; null where they need not.
pub(super) fn affinity(policy: &ClusterPolicy) -> Value {
    let Some(affinity) = policy.affinity.as_deref() else { return Value::Null };
    let (cookie, header) = match &affinity.carrier {
        Carrier::Cookie(cookie) => (Some(&*cookie.name), None),
        Carrier::Header(name) => (None, Some(&**name)),
    };
    json!({
        "cookie": cookie,
        "header": header,
        "key": affinity.key.as_ref().map(|name| name.as_str()),
        "lifetime_ms": affinity.lifetime.map(ms),
    })
}

/// The bound that follows latency; null where there is none.
pub(super) fn adaptive(policy: &ClusterPolicy) -> Value {
    policy.adaptive.map_or(Value::Null, |adaptive| {
        json!({
            "min": adaptive.min,
            "max": adaptive.max,
            "tolerance": f64::from(adaptive.tolerance_percent) / 100.0,
            "look_ms": ms(adaptive.look),
        })
    })
}

/// All of a cluster.
pub(super) fn of_cluster(policy: &ClusterPolicy) -> Value {
    json!({
        "breaker": breaker(policy),
        "retry_budget": budget(policy),
        "slots": overload::slots(policy),
        "affinity": affinity(policy),
        "subset": policy.subset,
        "adaptive_limit": adaptive(policy),
        "probed": policy.probe.is_some(),
        "tls": policy.tls.is_some(),
    })
}
