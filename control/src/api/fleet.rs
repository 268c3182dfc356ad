//! The fleet view: which router has what, and how far a change has come.

use serde_json::{Value, json};

use super::Api;
use super::reply::{APPLY_WAIT, Answer, page};
use super::request::Ask;
use crate::problem::Problem;

/// Refusals in one answer; the fleet view has all.
const REFUSED_MAX: usize = 100;

/// `GET /v1/routers`.
pub(super) fn routers(api: &Api, ask: &Ask) -> Answer {
    let views: Vec<(String, Value)> = match &api.fleet {
        None => Vec::new(),
        Some(fleet) => {
            let members: Vec<_> = fleet.roster().members().cloned().collect();
            members
                .iter()
                .map(|member| serde_json::to_value(member).map(|value| (member.name.clone(), value)))
                .collect::<Result<_, _>>()
                .map_err(|error| Problem::new(503, "no_status", error.to_string()))?
        }
    };
    let mut reply = page(ask, "routers", views.into_iter());
    if let Some(members) = reply.value.as_object_mut() {
        let meters = api.fleet.as_ref().map(crate::fleet::Fleet::meters).unwrap_or_default();
        members.insert("generation".to_owned(), json!(meters.generation));
        members.insert(
            "term".to_owned(),
            json!(api.fleet.as_ref().and_then(crate::fleet::Fleet::term).unwrap_or(0)),
        );
        members.insert("connected".to_owned(), json!(meters.connected));
        members.insert("behind".to_owned(), json!(meters.behind));
    }
    Ok(reply)
}

/// How far a generation has come, for the answer of a change: routers that have it, of those that are connected.
pub(super) fn spread(api: &Api, generation: u64) -> Option<Value> {
    let spread = api.fleet.as_ref()?.roster().spread(generation);
    let refused = spread.refused.iter().take(REFUSED_MAX);
    let refused: Vec<Value> = refused
        .map(|(router, one)| json!({ "router": router, "part": one.part, "reason": one.reason }))
        .collect();
    let wait_ms = u64::try_from(APPLY_WAIT.as_millis()).unwrap_or(u64::MAX);
    Some(json!({ "have": spread.have, "of": spread.of, "refused": refused, "wait_ms": wait_ms }))
}
