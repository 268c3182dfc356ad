//! Placements that another system pushes: the whole of a cluster or one endpoint, with leases; and how all sources of placements are.
//!
//! Durable first, then published, then answered. A renewal that says nothing new is not written.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use ekiden_config::model::PRIORITY_MAX;
use ekiden_config::names::EndpointId;
use serde_json::{Value, json};
use tokio::sync::{Mutex, OwnedMutexGuard, mpsc, oneshot};

use super::Api;
use super::body::pointer;
use super::records::failed;
use super::reply::{Answer, Part, Reply, applied, gone, page};
use super::request::Ask;
use crate::address::parse_address;
use crate::clock::unix_ms;
use crate::desired::placements::{
    HeldWords, PARTS_MAX, PLACEMENTS, PLACEMENTS_MAX, PlacementWords, PlacementsWords, placements_key,
};
use crate::desired::{words, write};
use crate::overlay::ClusterKey;
use crate::placement::part::{Condition, Heard as Spoken, Kept};
use crate::placement::{Heard, Said, Word};
use crate::plane::{not_durable, push_name};
use crate::problem::Problem;
use crate::status::SourceStatus;
use crate::store::{Object, Revision, Store, StoreError, Txn, Write};

/// Tries of a change that others got ahead of.
const TRIES_MAX: usize = 16;
/// Clusters that are changed at once, at most.
const LANES: usize = 32;
/// Longest lease.
const TTL_MAX: Duration = Duration::from_secs(24 * 3600);
/// Shortest lease.
const TTL_MIN: Duration = Duration::from_secs(1);
/// Longest text of a zone or a release, in bytes.
const TEXT_MAX: usize = 128;
/// Members of an endpoint.
pub(crate) const MEMBERS: [&str; 7] = ["address", "weight", "zone", "priority", "release", "state", "ttl_ms"];

/// The cluster of the path, which must be there, or have been when something was pushed for it.
fn place(api: &Api, ask: &Ask) -> Result<ClusterKey, Problem> {
    let place = ask.place()?;
    if api.store.as_ref().is_some_and(|store| store.get(&placements_key(&place)).is_some()) {
        return Ok(place);
    }
    let view = api.view.read();
    let Some(app) = view.live.apps.get(&place.app) else {
        return Err(Problem::new(404, "unknown_app", format!("there is no app {}", place.app)));
    };
    if !app.clusters.contains_key(&place.cluster) {
        let detail = format!("the app {} has no cluster {}", place.app, place.cluster);
        return Err(Problem::new(404, "unknown_cluster", detail));
    }
    Ok(place)
}

fn read(object: Option<&Object>) -> Result<PlacementsWords, Problem> {
    let read = object.map(words::<PlacementsWords>).transpose();
    Ok(read.map_err(|error| Problem::new(500, "unreadable_object", error))?.unwrap_or_default())
}

fn status_of(api: &Api, place: &ClusterKey) -> SourceStatus {
    api.status.read().sources.get(&push_name(place)).cloned().unwrap_or_default()
}

pub(super) fn one(api: &Api, ask: &Ask) -> Answer {
    let place = place(api, ask)?;
    let object = api.store.as_ref().and_then(|store| store.get(&placements_key(&place)));
    let words = read(object.as_ref())?;
    let status = status_of(api, &place);
    let views = words.placements.iter().map(|(id, words)| {
        let mut view = json!(words);
        if let Some(members) = view.as_object_mut() {
            members.insert("id".to_owned(), json!(id));
            members.insert("expired".to_owned(), json!(status.expired.contains(id)));
        }
        view
    });
    Ok(Reply::ok(json!({
        "source": push_name(&place),
        "ttl_ms": words.ttl_ms,
        "placements": views.collect::<Vec<_>>(),
        "state": if object.is_some() { status.state } else { "none" },
        "held": status.held,
        "held_until_unix_ms": status.held_until_unix_ms,
        "heard_unix_ms": status.heard_unix_ms,
    })))
}

pub(super) async fn put_all(api: &Api, ask: &Ask) -> Answer {
    let body = ask.members(&["ttl_ms", "placements"])?;
    let ttl_ms = ttl(body.get("ttl_ms"), "/ttl_ms")?;
    let Some(all) = body.get("placements").and_then(Value::as_array) else {
        let detail = "\"placements\" must be a list of all endpoints that the source has";
        return Err(Problem::at(422, "bad_value", "/placements", detail));
    };
    let mut new = PlacementsWords { ttl_ms, ..PlacementsWords::default() };
    for (at, one) in all.iter().enumerate() {
        let at = format!("/placements/{at}");
        let wrong = |member: &str, detail: String| {
            Err(Problem::at(422, "bad_value", &format!("{at}{member}"), detail))
        };
        let Some(members) = one.as_object() else { return wrong("", "an endpoint is an object".to_owned()) };
        if let Some(other) = members.keys().find(|key| *key != "id" && !MEMBERS.contains(&key.as_str())) {
            let detail = format!("{other:?} is not known here; known: id, {}", MEMBERS.join(", "));
            return Err(Problem::at(422, "unknown_member", &format!("{at}{}", pointer(other)), detail));
        }
        let id = members.get("id").and_then(Value::as_str).map(EndpointId::new);
        let Some(Ok(id)) = id else {
            return wrong("/id", "an id is 1 to 128 visible characters without \" \\ ? # %".to_owned());
        };
        if new.placements.insert(id.to_string(), placement(one, &at)?).is_some() {
            return Err(Problem::at(
                422,
                "repeated_id",
                &format!("{at}/id"),
                format!("{id} stands there twice"),
            ));
        }
    }
    change(api, ask, Spoken::Everything, &|_| Ok(Some(new.clone()))).await
}

pub(super) async fn put_one(api: &Api, ask: &Ask) -> Answer {
    let id = ask.endpoint()?.id;
    let new = placement(&ask.members(&MEMBERS)?, "")?;
    change(api, ask, Spoken::One(id.clone()), &|mut words| {
        words.placements.insert(id.to_string(), new.clone());
        Ok(Some(words))
    })
    .await
}

pub(super) async fn delete_one(api: &Api, ask: &Ask) -> Answer {
    let id = ask.endpoint()?.id;
    change(api, ask, Spoken::One(id.clone()), &|mut words| {
        if words.placements.remove(id.as_str()).is_none() {
            return Err(Problem::new(404, "unknown_placement", format!("nobody has pushed {id} here")));
        }
        Ok(Some(words))
    })
    .await
}

pub(super) async fn delete_all(api: &Api, ask: &Ask) -> Answer {
    change(api, ask, Spoken::Everything, &|_| Ok(None)).await
}

/// Changes of what is pushed for a cluster go one after the other, since what is kept of one is judged by what came before it. Some
/// clusters share a lane, which costs them waiting.
#[derive(Debug, Default)]
pub(crate) struct Lanes([Arc<Mutex<()>>; LANES]);

impl Lanes {
    /// Waits until the lane of a cluster is free.
    pub(super) async fn of(&self, place: &ClusterKey) -> OwnedMutexGuard<()> {
        self.by((place.app.as_str(), place.cluster.as_str())).await
    }

    /// The same for a source that is no push.
    pub(super) async fn of_source(&self, source: &str) -> OwnedMutexGuard<()> {
        self.by(source).await
    }

    async fn by(&self, what: impl Hash) -> OwnedMutexGuard<()> {
        let mut hasher = DefaultHasher::new();
        what.hash(&mut hasher);
        let at = usize::try_from(hasher.finish() % LANES as u64).unwrap_or(0);
        // There is one for each number.
        self.0.get(at).cloned().unwrap_or_default().lock_owned().await
    }
}

/// Changes what is stored of a cluster, has the loop look at it, and waits until every worker has it.
async fn change(
    api: &Api,
    ask: &Ask,
    spoken: Spoken,
    make: &(dyn Fn(PlacementsWords) -> Result<Option<PlacementsWords>, Problem> + Send + Sync),
) -> Answer {
    let place = place(api, ask)?;
    let (revision, heard) = stored(api, &place, spoken, make).await?;
    let kept = &heard.kept.endpoints;
    let more = json!({
        "source": push_name(&place),
        "changed": revision.is_some(),
        "held": kept.keys().map(ToString::to_string).collect::<Vec<_>>(),
        "held_until_unix_ms": (!kept.is_empty()).then_some(heard.kept.until_ms),
    });
    let mut reply = applied(api, &heard.ticket, &[Part::Cluster(place)], more).await?;
    reply.revision = revision;
    Ok(reply)
}

/// Writes what `make` makes of what is stored, with what is kept of what that takes away, and has the loop hear of it; no revision when
/// that is the same.
async fn stored(
    api: &Api,
    place: &ClusterKey,
    spoken: Spoken,
    make: &(dyn Fn(PlacementsWords) -> Result<Option<PlacementsWords>, Problem> + Send + Sync),
) -> Result<(Option<Revision>, Heard), Problem> {
    let store = api.store.as_ref().ok_or_else(not_durable)?;
    let lane = Arc::new(api.lanes.of(place).await);
    let key = placements_key(place);
    for _ in 0..TRIES_MAX {
        let object = store.get(&key);
        let old = read(object.as_ref())?;
        let mut live = old.clone();
        // Whose own lease is over is not written again by what is said of others.
        let expired = status_of(api, place).expired;
        live.placements.retain(|id, _| !expired.contains(id));
        let mut new = make(live)?;
        let mut judged_ms = None;
        if let Some(new) = &mut new {
            bounded(&**store, new, object.is_some())?;
            let (reply, judged) = oneshot::channel();
            let word = Word::Wished(place.clone(), new.wanted(), spoken.clone(), reply);
            api.said.send(Said { word, reply: None }).await.map_err(|_| gone())?;
            let judged = judged.await.map_err(|_| gone())?;
            new.held = Some(HeldWords::of(&judged.kept));
            judged_ms = Some(judged.at_ms);
        }
        let write = match &new {
            Some(new) if object.is_some() && new.says_as_much_as(&old) => None,
            Some(new) => Some(write(Arc::clone(&key), new)),
            None => object.is_some().then(|| Write { key: Arc::clone(&key), value: None }),
        };
        let when = vec![(Arc::clone(&key), object.map_or(0, |object| object.modified))];
        let txn = write.map(|write| Txn { when, writes: vec![write] });
        let word = Word::Stored(place.clone(), spoken.clone(), judged_ms);
        match told(api, store, txn, word, Arc::clone(&lane)).await? {
            Ok(told) => return Ok(told),
            Err(error) => {
                if let Some(problem) = failed(&error) {
                    return Err(problem);
                }
            }
        }
    }
    Err(Problem::new(409, "conflict", "others change this cluster all the time; nothing was changed"))
}

/// Whether there is room for it.
fn bounded(store: &dyn Store, new: &PlacementsWords, is_known: bool) -> Result<(), Problem> {
    let too_many = |detail: String| Err(Problem::new(507, "too_many_placements", detail));
    if new.placements.len() > PLACEMENTS_MAX {
        return too_many(format!("a cluster has at most {PLACEMENTS_MAX} endpoints that are pushed"));
    }
    if !is_known && store.list(PLACEMENTS, None, PARTS_MAX).objects.len() >= PARTS_MAX {
        return too_many(format!(
            "endpoints are pushed for {PARTS_MAX} clusters already, which is the bound"
        ));
    }
    Ok(())
}

/// Makes a change durable and has the loop hear of it, whoever still waits for the answer: what is stored comes into force.
async fn told(
    api: &Api,
    store: &Arc<dyn Store>,
    txn: Option<Txn>,
    word: Word,
    lane: Arc<OwnedMutexGuard<()>>,
) -> Result<Result<(Option<Revision>, Heard), StoreError>, Problem> {
    let (store, said) = (Arc::clone(store), api.said.clone());
    let ended = tokio::spawn(async move {
        let revision = match txn {
            Some(txn) => match store.commit(txn).await {
                Ok(revision) => Some(revision),
                Err(error) => return Ok(Err(error)),
            },
            None => None,
        };
        let heard = say(&said, word).await;
        drop(lane);
        heard.map(|heard| Ok((revision, heard)))
    });
    ended.await.map_err(|_| gone())?
}

/// Writes down what is kept of a cluster, so that the next process keeps it too, and those that follow.
pub(super) async fn keep(store: &Arc<dyn Store>, place: &ClusterKey, kept: &Kept) {
    let key = placements_key(place);
    let Some(object) = store.get(&key) else { return };
    let Ok(mut words) = read(Some(&object)) else { return };
    let held = HeldWords::of(kept);
    if words.held.as_ref().unwrap_or(&HeldWords::default()) == &held {
        return;
    }
    words.held = Some(held);
    let writes = vec![write(Arc::clone(&key), &words)];
    match store.commit(Txn { when: vec![(key, object.modified)], writes }).await {
        // Of a conflict: whoever was faster has written down what is kept since.
        Ok(_) | Err(StoreError::Conflict { .. }) => {}
        Err(error) => {
            let source = push_name(place);
            tracing::error!(%source, %error, "what is kept of what it took away is not written down: a restart lets it go");
        }
    }
}

pub(super) async fn say(said: &mpsc::Sender<Said>, word: Word) -> Result<Heard, Problem> {
    let (reply, heard) = oneshot::channel();
    said.send(Said { word, reply: Some(reply) }).await.map_err(|_| gone())?;
    heard.await.map_err(|_| gone())
}

/// `GET /v1/sources`.
pub(super) fn sources(api: &Api, ask: &Ask) -> Answer {
    let status = api.status.read();
    let now_ms = unix_ms();
    let views = status.sources.iter().map(|(name, source)| {
        let mut view = json!(source);
        if let Some(members) = view.as_object_mut() {
            members.insert("name".to_owned(), json!(name));
            let silent_ms = source.heard_unix_ms.map(|heard_ms| now_ms.saturating_sub(heard_ms));
            members.insert("heard_ms_ago".to_owned(), json!(silent_ms));
        }
        (name.clone(), view)
    });
    Ok(page(ask, "sources", views))
}

fn ttl(value: Option<&Value>, at: &str) -> Result<Option<u64>, Problem> {
    let bounds = (TTL_MIN.as_millis(), TTL_MAX.as_millis());
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64() {
            Some(ms) if (bounds.0..=bounds.1).contains(&u128::from(ms)) => Ok(Some(ms)),
            Some(_) | None => {
                let detail = format!("a lease is a number of milliseconds from {} to {}", bounds.0, bounds.1);
                Err(Problem::at(422, "bad_value", at, detail))
            }
        },
    }
}

/// One endpoint of a body that stands at `at`. Its members are known.
pub(crate) fn placement(value: &Value, at: &str) -> Result<PlacementWords, Problem> {
    let wrong =
        |member: &str, detail: String| Problem::at(422, "bad_value", &format!("{at}/{member}"), detail);
    let get = |member: &str| value.get(member).filter(|value| !value.is_null());
    let text = |member: &str| match get(member) {
        None => Ok(None),
        Some(Value::String(text)) if text.len() <= TEXT_MAX && !text.chars().any(char::is_control) => {
            Ok(Some(text.clone()))
        }
        Some(_) => {
            let detail =
                format!("{member:?} must be a text of at most {TEXT_MAX} bytes without control characters");
            Err(wrong(member, detail))
        }
    };
    let address = get("address").and_then(Value::as_str);
    let address = address.ok_or_else(|| wrong("address", "an endpoint needs an \"address\"".to_owned()))?;
    let address = parse_address(address).map_err(|error| wrong("address", error))?;
    let weight =
        match get("weight").map(|weight| weight.as_u64().and_then(|weight| u16::try_from(weight).ok())) {
            None => 1,
            Some(Some(weight @ 1..=1000)) => weight,
            Some(_) => {
                return Err(wrong("weight", "\"weight\" must be a whole number from 1 to 1000".to_owned()));
            }
        };
    let priority =
        match get("priority").map(|group| group.as_u64().and_then(|group| u8::try_from(group).ok())) {
            None => 0,
            Some(Some(group @ 0..=PRIORITY_MAX)) => group,
            Some(_) => {
                let detail = format!("\"priority\" must be a whole number from 0 to {PRIORITY_MAX}");
                return Err(wrong("priority", detail));
            }
        };
    let state = match get("state") {
        None => Condition::Ready.word(),
        Some(state) => {
            let known = Condition::WORDS.iter().find(|(word, _)| state.as_str() == Some(word));
            let known = known.map(|(word, _)| *word);
            known.ok_or_else(|| wrong("state", "\"state\" must be starting, ready or draining".to_owned()))?
        }
    };
    Ok(PlacementWords {
        address: address.to_string(),
        weight,
        zone: text("zone")?,
        priority,
        release: text("release")?,
        state: state.to_owned(),
        ttl_ms: ttl(get("ttl_ms"), &format!("{at}/ttl_ms"))?,
    })
}
