//! Endpoints and drain marks as objects of the store.
//!
//! The words here are a promise to every later version: what is stored today must be read after an upgrade.

use std::sync::Arc;

use ekiden_config::model::{Endpoint, EndpointTags, Owner, PRIORITY_MAX};
use ekiden_config::names::{AppName, ClusterName, EndpointId};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Object, Write};
use crate::address::parse_address;
use crate::overlay::Key;

/// Where endpoints owned by the API are.
pub(crate) const ENDPOINTS: &str = "endpoints/";
/// Where drain marks are.
pub(crate) const MARKS: &str = "marks/";

/// How an endpoint of the API stands to the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Standing {
    /// It is served unless a file or DNS has its id.
    #[default]
    Beside,
    /// It stands in for the one of a file or of DNS, knowingly.
    Adopted,
    /// It is not served yet: a dyno that starts.
    Starting,
}

/// One change of what stands over the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record {
    /// An endpoint owned by the API was made or changed.
    Put(Key, Arc<Endpoint>, Standing),
    /// An endpoint owned by the API was deleted.
    Delete(Key),
    /// An endpoint owned by someone else was told to drain (true) or not to (false).
    Mark(Key, bool),
    /// The mark was taken away.
    Unmark(Key),
}

#[derive(Serialize, Deserialize)]
struct Words {
    address: String,
    #[serde(default = "one")]
    weight: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zone: Option<String>,
    #[serde(default, skip_serializing_if = "is_zero")]
    priority: u8,
    #[serde(default)]
    drain: bool,
    /// With a release the endpoint is a dyno.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    release: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    starting: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    adopted: bool,
}

#[derive(Deserialize)]
struct MarkWords {
    drain: bool,
}

// Called by reference, as serde does.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &u8) -> bool {
    *number == 0
}

fn one() -> u16 {
    1
}

/// The key of an endpoint.
pub(crate) fn endpoint_key(key: &Key) -> Arc<str> {
    Arc::from(format!("{ENDPOINTS}{}/{}/{}", key.app, key.cluster, key.id))
}

/// The key of a drain mark.
pub(crate) fn mark_key(key: &Key) -> Arc<str> {
    Arc::from(format!("{MARKS}{}/{}/{}", key.app, key.cluster, key.id))
}

/// Reads `app/cluster/id`; an id may hold `/` itself.
fn key_of(path: &str) -> Result<Key, String> {
    let mut parts = path.splitn(3, '/');
    let mut part = || parts.next().unwrap_or_default();
    Ok(Key {
        app: AppName::new(part()).map_err(|error| format!("app {error}"))?,
        cluster: ClusterName::new(part()).map_err(|error| format!("cluster {error}"))?,
        id: EndpointId::new(part()).map_err(|error| format!("id {error}"))?,
    })
}

impl Record {
    /// The endpoint it is about.
    pub(crate) fn key(&self) -> &Key {
        match self {
            Record::Put(key, ..) | Record::Delete(key) | Record::Mark(key, _) | Record::Unmark(key) => key,
        }
    }

    /// What a deleted key was of; none when it is neither an endpoint's nor a mark's.
    pub(crate) fn gone(key: &str) -> Option<Self> {
        match (key.strip_prefix(ENDPOINTS), key.strip_prefix(MARKS)) {
            (Some(path), _) => key_of(path).ok().map(Record::Delete),
            (None, Some(path)) => key_of(path).ok().map(Record::Unmark),
            (None, None) => None,
        }
    }

    /// What is written for it.
    pub(crate) fn write(&self) -> Write {
        match self {
            Record::Put(key, endpoint, standing) => {
                let words = json!(Words {
                    address: endpoint.address.to_string(),
                    weight: endpoint.weight,
                    zone: endpoint.zone().map(ToString::to_string),
                    priority: endpoint.priority,
                    drain: endpoint.drain,
                    release: endpoint.release().map(ToString::to_string),
                    starting: *standing == Standing::Starting,
                    adopted: *standing == Standing::Adopted,
                });
                Write { key: endpoint_key(key), value: Some(Arc::from(words.to_string())) }
            }
            Record::Delete(key) => Write { key: endpoint_key(key), value: None },
            Record::Mark(key, drain) => {
                let words = json!({ "drain": drain });
                Write { key: mark_key(key), value: Some(Arc::from(words.to_string())) }
            }
            Record::Unmark(key) => Write { key: mark_key(key), value: None },
        }
    }

    /// Reads an object back; `None` when it is neither an endpoint nor a mark. The error says what is wrong with it.
    pub(crate) fn read(object: &Object) -> Result<Option<Self>, String> {
        if let Some(path) = object.key.strip_prefix(ENDPOINTS) {
            let key = key_of(path)?;
            let words: Words = serde_json::from_str(&object.value).map_err(|error| error.to_string())?;
            let endpoint = Endpoint {
                id: key.id.clone(),
                address: parse_address(&words.address)?,
                tags: EndpointTags {
                    dns_name: None,
                    zone: words.zone.as_deref().map(Arc::from),
                    release: words.release.as_deref().map(Arc::from),
                }
                .shared(),
                weight: words.weight,
                priority: words.priority.min(PRIORITY_MAX),
                drain: words.drain,
                owner: Owner::Api,
            };
            let standing = match (words.starting, words.adopted) {
                (true, _) => Standing::Starting,
                (false, true) => Standing::Adopted,
                (false, false) => Standing::Beside,
            };
            return Ok(Some(Record::Put(key, Arc::new(endpoint), standing)));
        }
        let Some(path) = object.key.strip_prefix(MARKS) else { return Ok(None) };
        let words: MarkWords = serde_json::from_str(&object.value).map_err(|error| error.to_string())?;
        Ok(Some(Record::Mark(key_of(path)?, words.drain)))
    }
}
