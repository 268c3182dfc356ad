//! What `GET /v1/table` shows of overload: slots and queues of clusters, caps of apps. Words; metrics say what is used.

use ekiden_config::model::{AppCaps, ClusterPolicy, HoldPolicy};
use serde_json::{Value, json};

/// The slots of a cluster and the line for them; null where there is no bound.
pub(super) fn slots(policy: &ClusterPolicy) -> Value {
    let Some(slots) = &policy.slots else { return Value::Null };
    let ms = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    json!({
        "per_endpoint": slots.count,
        "queue": policy.queue,
        "wait_ms": slots.wait.map(ms),
        "target_ms": slots.target.map(ms),
        "interval_ms": ms(slots.interval),
    })
}

/// The caps of a route's app; null where there are none.
pub(super) fn caps(caps: Option<&AppCaps>) -> Value {
    caps.map_or(Value::Null, |caps| {
        json!({ "in_flight": caps.in_flight, "connections": caps.connections, "buffered": caps.buffered })
    })
}

/// How an app's requests wait while it is held; null where it is not.
pub(super) fn hold(hold: Option<&HoldPolicy>) -> Value {
    hold.map_or(Value::Null, |hold| {
        json!({ "max": hold.max, "wait_ms": u64::try_from(hold.wait.as_millis()).unwrap_or(u64::MAX) })
    })
}
