//! Records of the journal: one change of an endpoint each, as JSON.
//!
//! The words here are a promise to every later version: a journal written today must be read after an upgrade.

use std::sync::Arc;

use ekiden_config::model::{Endpoint, Owner};
use ekiden_config::names::{AppName, ClusterName, EndpointId};
use serde::{Deserialize, Serialize};

use crate::address::parse_address;
use crate::overlay::Key;

/// One durable change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record {
    /// An endpoint owned by the API was made or changed.
    Put(Key, Arc<Endpoint>),
    /// An endpoint owned by the API was deleted.
    Delete(Key),
    /// An endpoint owned by someone else was told to drain (true) or not to (false).
    Mark(Key, bool),
    /// The mark was taken away.
    Unmark(Key),
}

impl Record {
    /// The endpoint it is about.
    pub(crate) fn key(&self) -> &Key {
        match self {
            Record::Put(key, _) | Record::Delete(key) | Record::Mark(key, _) | Record::Unmark(key) => key,
        }
    }

    /// Bytes for the journal.
    pub(super) fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        let key = self.key();
        let mut line = Line {
            op: Op::Delete,
            app: key.app.to_string(),
            cluster: key.cluster.to_string(),
            id: key.id.to_string(),
            address: None,
            weight: None,
            zone: None,
            drain: None,
        };
        match self {
            Record::Put(_, endpoint) => {
                line.op = Op::Put;
                line.address = Some(endpoint.address.to_string());
                line.weight = Some(endpoint.weight);
                line.zone = endpoint.zone.as_deref().map(str::to_owned);
                line.drain = Some(endpoint.drain);
            }
            Record::Delete(_) => {}
            Record::Mark(_, drain) => {
                line.op = Op::Mark;
                line.drain = Some(*drain);
            }
            Record::Unmark(_) => line.op = Op::Unmark,
        }
        serde_json::to_vec(&line)
    }

    /// Reads back what [`Record::encode`] wrote; the error says what is wrong with it.
    pub(super) fn decode(payload: &[u8]) -> Result<Self, String> {
        let line: Line = serde_json::from_slice(payload).map_err(|error| error.to_string())?;
        let key = Key {
            app: AppName::new(&line.app).map_err(|error| format!("app {error}"))?,
            cluster: ClusterName::new(&line.cluster).map_err(|error| format!("cluster {error}"))?,
            id: EndpointId::new(&line.id).map_err(|error| format!("id {error}"))?,
        };
        match line.op {
            Op::Put => {
                let address = parse_address(line.address.as_deref().unwrap_or_default())?;
                let endpoint = Endpoint {
                    id: key.id.clone(),
                    address,
                    weight: line.weight.unwrap_or(1),
                    zone: line.zone.as_deref().map(Arc::from),
                    drain: line.drain.unwrap_or(false),
                    dns_name: None,
                    release: None,
                    owner: Owner::Api,
                };
                Ok(Record::Put(key, Arc::new(endpoint)))
            }
            Op::Delete => Ok(Record::Delete(key)),
            Op::Mark => Ok(Record::Mark(key, line.drain.unwrap_or(true))),
            Op::Unmark => Ok(Record::Unmark(key)),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Op {
    Put,
    Delete,
    Mark,
    Unmark,
}

#[derive(Serialize, Deserialize)]
struct Line {
    op: Op,
    app: String,
    cluster: String,
    id: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    weight: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    zone: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    drain: Option<bool>,
}
