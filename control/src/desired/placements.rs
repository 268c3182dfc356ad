//! Placements that somebody else has pushed, as stored: one object for each cluster.

use std::collections::BTreeMap;
use std::sync::Arc;

use ekiden_config::model::{Endpoint, EndpointTags, Owner, PRIORITY_MAX};
use ekiden_config::names::{AppName, ClusterName, EndpointId};
use serde::{Deserialize, Serialize};

use super::words;
use crate::address::parse_address;
use crate::overlay::ClusterKey;
use crate::placement::part::{Condition, Entry, Kept, Wanted, shown};
use crate::store::Object;

/// Where they are.
pub(crate) const PLACEMENTS: &str = "placements/";
/// Most of one cluster.
pub(crate) const PLACEMENTS_MAX: usize = 10_000;
/// Most clusters that have some.
pub(crate) const PARTS_MAX: usize = 10_000;

/// All of one cluster, as stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PlacementsWords {
    /// How long the whole is good unless its source is heard, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ttl_ms: Option<u64>,
    /// By id.
    pub(crate) placements: BTreeMap<String, PlacementWords>,
    /// What is kept of what the source took away; none where nobody has said so yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) held: Option<HeldWords>,
}

/// What is kept though its source has it no longer, as stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HeldWords {
    /// Until when, in milliseconds since the Unix epoch.
    pub(crate) until_unix_ms: u64,
    /// By id.
    pub(crate) placements: BTreeMap<String, PlacementWords>,
}

impl HeldWords {
    /// As a source's wish that was judged.
    pub(crate) fn kept(&self) -> Kept {
        let endpoints = entries(&self.placements).into_iter();
        let endpoints = endpoints.map(|(id, entry)| (id, shown(&entry))).collect();
        Kept { until_ms: self.until_unix_ms, endpoints }
    }

    /// As it is written down.
    pub(crate) fn of(kept: &Kept) -> Self {
        let placements = kept.endpoints.iter().map(|(id, one)| {
            let state = if one.drain { Condition::Draining } else { Condition::Ready };
            (id.to_string(), PlacementWords::of(one, state))
        });
        Self { until_unix_ms: kept.until_ms, placements: placements.collect() }
    }
}

/// One endpoint, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PlacementWords {
    /// `IP:PORT` or `unix:/path`.
    pub(crate) address: String,
    /// Relative share.
    pub(crate) weight: u16,
    /// Failure domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) zone: Option<String>,
    /// Group of failover.
    #[serde(default)]
    pub(crate) priority: u8,
    /// What it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) release: Option<String>,
    /// `starting`, `ready` or `draining`.
    pub(crate) state: String,
    /// How long this one is good, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ttl_ms: Option<u64>,
}

/// The key of a cluster's placements.
pub(crate) fn placements_key(place: &ClusterKey) -> Arc<str> {
    Arc::from(format!("{PLACEMENTS}{}/{}", place.app, place.cluster))
}

/// The cluster of a key; none when it is of something else.
pub(crate) fn place(key: &str) -> Option<ClusterKey> {
    let (app, cluster) = key.strip_prefix(PLACEMENTS)?.split_once('/')?;
    Some(ClusterKey { app: AppName::new(app).ok()?, cluster: ClusterName::new(cluster).ok()? })
}

impl PlacementsWords {
    /// Whether the others say the same; where nobody has said what is kept, nothing is.
    pub(crate) fn says_as_much_as(&self, others: &Self) -> bool {
        let nothing = HeldWords::default();
        let held = |words: &Self| {
            words.held.as_ref().unwrap_or(&nothing) == others.held.as_ref().unwrap_or(&nothing)
        };
        self.ttl_ms == others.ttl_ms && self.placements == others.placements && held(self)
    }

    /// As a source's wish. What cannot be read is left out, loudly.
    pub(crate) fn wanted(&self) -> Wanted {
        let kept = self.held.as_ref().map(HeldWords::kept);
        Wanted { ttl_ms: self.ttl_ms, entries: entries(&self.placements), kept }
    }
}

fn entries(words: &BTreeMap<String, PlacementWords>) -> BTreeMap<EndpointId, Entry> {
    let entries = words.iter().filter_map(|(id, words)| match words.entry(id) {
        Ok(entry) => Some((entry.endpoint.id.clone(), entry)),
        Err(error) => {
            tracing::error!(%id, %error, "a placement of the store cannot be read");
            None
        }
    });
    entries.collect()
}

impl PlacementWords {
    /// As it is written down, without a time.
    pub(crate) fn of(one: &Endpoint, state: Condition) -> Self {
        Self {
            address: one.address.to_string(),
            weight: one.weight,
            zone: one.zone().map(ToString::to_string),
            priority: one.priority,
            release: one.release().map(ToString::to_string),
            state: state.word().to_owned(),
            ttl_ms: None,
        }
    }

    /// As a source's wish, under an id.
    pub(crate) fn entry(&self, id: &str) -> Result<Entry, String> {
        let condition = Condition::WORDS.iter().find(|(word, _)| *word == self.state);
        let (_, condition) = condition.ok_or_else(|| format!("{:?} is no state", self.state))?;
        let endpoint = Endpoint {
            id: EndpointId::new(id).map_err(|error| error.to_string())?,
            address: parse_address(&self.address)?,
            tags: EndpointTags {
                dns_name: None,
                zone: self.zone.as_deref().map(Arc::from),
                release: self.release.as_deref().map(Arc::from),
            }
            .shared(),
            weight: self.weight,
            priority: self.priority.min(PRIORITY_MAX),
            drain: false,
            owner: Owner::Source,
        };
        Ok(Entry { endpoint: Arc::new(endpoint), condition: *condition, ttl_ms: self.ttl_ms })
    }
}

/// What an object wants; none, loudly, when it cannot be read.
pub(crate) fn wanted(object: &Object) -> Option<Wanted> {
    match words::<PlacementsWords>(object) {
        Ok(words) => Some(words.wanted()),
        Err(error) => {
            tracing::error!(%error, "placements of the store cannot be read");
            None
        }
    }
}

/// The parts among stored objects. One that cannot be read, loudly, wants nothing that is known.
pub(crate) fn parts(objects: &[Object]) -> Vec<(ClusterKey, Option<Wanted>)> {
    objects.iter().filter_map(|object| Some((place(&object.key)?, wanted(object)))).collect()
}
