//! What control and a router say to each other: one JSON document a line, version 1. Bounded in both directions.
//!
//! Down: `welcome`, then `put` and `drop` of objects, then `commit`; again and again. Up: `hello`, then `applied` for commits and
//! `seen` for endpoints. Both: `ping`, `bye`. A member that is not known is passed over, so that a later minor version may say more;
//! a line that is not known ends the link.

use std::sync::Arc;

use ekiden_config::model::{Endpoint, EndpointTags, Owner, PRIORITY_MAX};
use ekiden_config::names::{AppName, ClusterName, EndpointId};
use hyper::body::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::address::parse_address;
use crate::overlay::ClusterKey;

/// Version of what is said.
pub(super) const VERSION: u32 = 1;
/// Longest line from control, in bytes: the document of an app has at most 64 MiB.
pub(super) const DOWN_MAX: usize = 80 << 20;
/// Longest line from a router, in bytes.
pub(super) const UP_MAX: usize = 256 << 10;
/// Refusals told at most; more are counted in the last.
pub(super) const REFUSED_MAX: usize = 100;
/// Longest reason, in bytes.
const REASON_MAX: usize = 512;
/// Endpoints told of in one line.
pub(super) const SEEN_MAX: usize = 100;

/// From control to a router.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Down {
    /// The first line.
    Welcome {
        /// See [`VERSION`].
        version: u32,
        /// The term of this control process.
        term: u64,
        /// Everything follows, and what does not is gone; else what changed since the generation the router has.
        snapshot: bool,
    },
    /// An object is so from now on.
    Put(String, Value),
    /// An object is gone.
    Drop(String),
    /// What came since the last one belongs together and is this generation.
    Commit {
        /// Its number.
        generation: u64,
    },
    /// Nothing to say.
    Ping {},
    /// The link ends.
    Bye {
        /// Why.
        reason: String,
    },
}

/// From a router to control.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Up {
    /// The first line.
    Hello {
        /// See [`VERSION`].
        version: u32,
        /// Its name, which counts on a plain link only.
        router: String,
        /// Tells processes of one name apart.
        instance: String,
        /// Its software.
        software: String,
        /// The highest term it has had anything of.
        term: u64,
        /// What it has of that term.
        generation: u64,
    },
    /// Every worker has a generation, as far as it is not refused.
    Applied(Applied),
    /// Endpoints as they are.
    Seen(Vec<Seen>),
    /// Nothing to say.
    Ping {},
    /// The link ends.
    Bye {
        /// Why.
        reason: String,
    },
}

/// What became of a generation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Applied {
    /// The term it is of.
    pub(super) term: u64,
    /// Its number.
    pub(super) generation: u64,
    /// The number of the table in the router's own count.
    pub(super) table: u64,
    /// What the router did not take.
    pub(super) refused: Vec<Refused>,
}

/// A part that a router did not take.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Refused {
    /// `app:NAME`, or another part of the table.
    pub(crate) part: String,
    /// Why.
    pub(crate) reason: String,
}

impl Refused {
    /// A refusal, its reason cut to its bound.
    pub(super) fn new(part: impl Into<String>, reason: &str) -> Self {
        let end = (0..=REASON_MAX.min(reason.len())).rev().find(|end| reason.is_char_boundary(*end));
        Self { part: part.into(), reason: reason.get(..end.unwrap_or(0)).unwrap_or_default().to_owned() }
    }
}

/// An endpoint as a router sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seen {
    /// `app/cluster/id`.
    pub(super) endpoint: String,
    /// It refuses connects though it is called ready.
    pub(super) refuses_connects: bool,
    /// Why it is in its state.
    pub(super) reason: String,
    /// Since when, in milliseconds since the Unix epoch.
    pub(super) since_unix_ms: u64,
}

/// A message as its line.
pub(super) fn line<T: Serialize>(message: &T) -> Bytes {
    // These types always have a text.
    let mut text = serde_json::to_string(message).unwrap_or_default();
    text.push('\n');
    Bytes::from(text)
}

/// The line that puts an app, from its document as text.
pub(super) fn put_app(key: &str, document: &str) -> Bytes {
    let key = Value::from(key);
    Bytes::from(format!("{{\"put\":[{key},{document}]}}\n"))
}

/// Keys of objects.
pub(super) const APPS: &str = "app/";
/// See [`APPS`].
pub(super) const HOSTS: &str = "host/";
/// See [`APPS`].
pub(super) const ENDPOINTS: &str = "endpoint/";

/// The key of an endpoint.
pub(super) fn endpoint_key(app: &AppName, cluster: &ClusterName, id: &EndpointId) -> String {
    format!("{ENDPOINTS}{app}/{cluster}/{id}")
}

/// An endpoint as an object.
pub(super) fn endpoint_value(endpoint: &Endpoint) -> Value {
    let owner = match endpoint.owner {
        Owner::File => "file",
        Owner::Api => "api",
        Owner::Source => "source",
    };
    let mut value =
        json!({ "address": endpoint.address.to_string(), "weight": endpoint.weight, "owner": owner });
    let texts =
        [("zone", endpoint.zone()), ("release", endpoint.release()), ("dns_name", endpoint.dns_name())];
    if let Some(members) = value.as_object_mut() {
        for (name, text) in texts {
            members.extend(text.map(|text| (name.to_owned(), json!(**text))));
        }
        members.extend((endpoint.priority > 0).then(|| ("priority".to_owned(), json!(endpoint.priority))));
        members.extend(endpoint.drain.then(|| ("drain".to_owned(), json!(true))));
    }
    value
}

#[derive(Deserialize)]
struct EndpointWords {
    address: String,
    weight: u16,
    #[serde(default)]
    zone: Option<Arc<str>>,
    #[serde(default)]
    release: Option<Arc<str>>,
    #[serde(default)]
    dns_name: Option<Arc<str>>,
    #[serde(default)]
    priority: u8,
    #[serde(default)]
    drain: bool,
    #[serde(default)]
    owner: String,
}

/// An object of a router's state.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Object {
    /// The document of an app.
    App(AppName, Option<Arc<str>>),
    /// Who owns a host.
    Host(Arc<str>, Option<AppName>),
    /// An endpoint.
    Endpoint(ClusterKey, EndpointId, Option<Arc<Endpoint>>),
}

/// Takes the endpoints out of an app's document: they travel one by one, and count in place of those. So a document says nothing that
/// changes with them, and a router keeps no second copy.
pub(crate) fn without_endpoints(document: &mut Map<String, Value>) {
    let clusters = document.get_mut("cluster").and_then(Value::as_object_mut);
    for cluster in clusters.into_iter().flat_map(Map::values_mut).filter_map(Value::as_object_mut) {
        cluster.remove("endpoints");
    }
}

/// Reads an object; no value says that it is gone. The error is a text for people.
pub(super) fn object(key: &str, value: Option<Value>) -> Result<Object, String> {
    if let Some(name) = key.strip_prefix(APPS) {
        let name = AppName::new(name).map_err(|error| format!("{key}: the name {error}"))?;
        return match value {
            None => Ok(Object::App(name, None)),
            Some(Value::Object(mut members)) => {
                without_endpoints(&mut members);
                let text = serde_json::to_string(&members).map_err(|error| format!("{key}: {error}"))?;
                Ok(Object::App(name, Some(Arc::from(text))))
            }
            Some(_) => Err(format!("{key}: an app is an object")),
        };
    }
    if let Some(host) = key.strip_prefix(HOSTS) {
        return match value {
            None => Ok(Object::Host(Arc::from(host), None)),
            Some(Value::String(app)) => {
                let app = AppName::new(&app).map_err(|error| format!("{key}: the owner {error}"))?;
                Ok(Object::Host(Arc::from(host), Some(app)))
            }
            Some(_) => Err(format!("{key}: an owner is a name")),
        };
    }
    let rest = key.strip_prefix(ENDPOINTS).ok_or_else(|| format!("{key}: no such kind of object"))?;
    let mut names = rest.splitn(3, '/');
    let (app, cluster, id) = (names.next(), names.next(), names.next());
    let place = app.zip(cluster).and_then(|(app, cluster)| {
        Some(ClusterKey { app: AppName::new(app).ok()?, cluster: ClusterName::new(cluster).ok()? })
    });
    let id = id.and_then(|id| EndpointId::new(id).ok());
    let (place, id) = place.zip(id).ok_or_else(|| format!("{key}: names no endpoint"))?;
    let endpoint = match value {
        None => None,
        Some(value) => Some(Arc::new(endpoint(&id, &value).map_err(|error| format!("{key}: {error}"))?)),
    };
    Ok(Object::Endpoint(place, id, endpoint))
}

fn endpoint(id: &EndpointId, value: &Value) -> Result<Endpoint, String> {
    let words = EndpointWords::deserialize(value).map_err(|error| error.to_string())?;
    if !(1..=1000).contains(&words.weight) {
        return Err(format!("the weight {} is not from 1 to 1000", words.weight));
    }
    if words.priority > PRIORITY_MAX {
        return Err(format!("the priority {} is not from 0 to {PRIORITY_MAX}", words.priority));
    }
    let owner = match words.owner.as_str() {
        "api" => Owner::Api,
        "source" => Owner::Source,
        _ => Owner::File,
    };
    Ok(Endpoint {
        id: id.clone(),
        address: parse_address(&words.address)?,
        tags: EndpointTags { dns_name: words.dns_name, zone: words.zone, release: words.release }.shared(),
        weight: words.weight,
        priority: words.priority,
        drain: words.drain,
        owner,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_what_they_were() {
        // A promise to the other version: never changed silently.
        let rows = [
            (
                line(&Down::Welcome { version: 1, term: 7, snapshot: true }),
                "{\"welcome\":{\"version\":1,\"term\":7,\"snapshot\":true}}\n",
            ),
            (line(&Down::Put("app/a".to_owned(), json!({}))), "{\"put\":[\"app/a\",{}]}\n"),
            (put_app("app/a", "{}"), "{\"put\":[\"app/a\",{}]}\n"),
            (line(&Down::Drop("app/a".to_owned())), "{\"drop\":\"app/a\"}\n"),
            (line(&Down::Commit { generation: 3 }), "{\"commit\":{\"generation\":3}}\n"),
            (line(&Down::Ping {}), "{\"ping\":{}}\n"),
            (
                line(&Up::Applied(Applied {
                    term: 7,
                    generation: 3,
                    table: 9,
                    refused: vec![Refused::new("app:a", "why")],
                })),
                "{\"applied\":{\"term\":7,\"generation\":3,\"table\":9,\"refused\":[{\"part\":\"app:a\",\"reason\":\"why\"}]}}\n",
            ),
        ];
        for (line, want) in rows {
            assert_eq!(line, want);
        }
    }

    #[test]
    fn endpoints_come_back_as_they_went() {
        let id = EndpointId::new("unix:/run/a/b.sock").unwrap();
        let one = Endpoint {
            id: id.clone(),
            address: parse_address("unix:/run/a/b.sock").unwrap(),
            tags: EndpointTags {
                dns_name: Some("web.internal".into()),
                zone: Some("z1".into()),
                release: Some("v3".into()),
            }
            .shared(),
            weight: 7,
            priority: 3,
            drain: true,
            owner: Owner::Source,
        };
        let (app, cluster) = (AppName::new("shop").unwrap(), ClusterName::new("web").unwrap());
        let key = endpoint_key(&app, &cluster, &id);
        let read = object(&key, Some(endpoint_value(&one))).unwrap();
        assert_eq!(read, Object::Endpoint(ClusterKey { app, cluster }, id, Some(Arc::new(one))));
    }

    #[test]
    fn what_is_no_object_is_refused_in_words() {
        let rows = [
            ("app/a b", json!({})),
            ("app/a", json!([])),
            ("host/a", json!({})),
            ("host/a", json!("a b")),
            ("endpoint/a/b", json!({})),
            ("endpoint/a/b/c", json!({ "address": "name:80", "weight": 1 })),
            ("endpoint/a/b/c", json!({ "address": "1.2.3.4:80", "weight": 0 })),
            ("endpoint/a/b/c", json!({ "address": "1.2.3.4:80", "weight": 1, "priority": 8 })),
            ("secret/a", json!({})),
        ];
        for (key, value) in rows {
            assert!(object(key, Some(value)).unwrap_err().starts_with(key), "{key}");
        }
    }

    #[test]
    fn a_reason_is_cut_between_characters() {
        assert_eq!(Refused::new("a", &"é".repeat(600)).reason.len(), REASON_MAX);
    }
}
