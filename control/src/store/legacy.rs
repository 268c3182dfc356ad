//! Journals of the format before this one: one endpoint or drain mark a frame, no revisions. Read once, then rewritten.

use std::collections::BTreeMap;
use std::sync::Arc;

use ekiden_config::names::{AppName, ClusterName, EndpointId};
use serde::Deserialize;
use serde_json::json;

use super::frame::Split;
use super::record::{endpoint_key, mark_key};
use crate::overlay::Key;

/// The objects its records lead to, and what is wrong with the first one that cannot be read.
pub(super) fn replay(split: &Split<'_>) -> (BTreeMap<Arc<str>, Arc<str>>, Option<String>) {
    let mut objects = BTreeMap::new();
    for (payload, start) in split.payloads.iter().zip(&split.starts) {
        let taken = serde_json::from_slice::<Line>(payload).map_err(|error| error.to_string());
        if let Err(error) = taken.and_then(|line| take(&mut objects, line)) {
            return (objects, Some(format!("not readable at byte {start}: {error}")));
        }
    }
    (objects, None)
}

fn take(objects: &mut BTreeMap<Arc<str>, Arc<str>>, line: Line) -> Result<(), String> {
    let key = Key {
        app: AppName::new(&line.app).map_err(|error| format!("app {error}"))?,
        cluster: ClusterName::new(&line.cluster).map_err(|error| format!("cluster {error}"))?,
        id: EndpointId::new(&line.id).map_err(|error| format!("id {error}"))?,
    };
    match line.op {
        Op::Put => {
            let value = json!({
                "address": line.address,
                "weight": line.weight.unwrap_or(1),
                "zone": line.zone,
                "drain": line.drain.unwrap_or(false),
            });
            objects.insert(endpoint_key(&key), Arc::from(value.to_string()));
        }
        Op::Delete => drop(objects.remove(&endpoint_key(&key))),
        Op::Mark => {
            let value = json!({ "drain": line.drain.unwrap_or(true) });
            objects.insert(mark_key(&key), Arc::from(value.to_string()));
        }
        Op::Unmark => drop(objects.remove(&mark_key(&key))),
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Op {
    Put,
    Delete,
    Mark,
    Unmark,
}

#[derive(Deserialize)]
struct Line {
    op: Op,
    app: String,
    cluster: String,
    id: String,
    address: Option<String>,
    weight: Option<u16>,
    zone: Option<String>,
    drain: Option<bool>,
}
