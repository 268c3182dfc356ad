//! What etcd has under the prefix, kept in memory: read whole once, then change by change. Tells who leads and what the stamp is.
//!
//! A watch that falls behind, ends or was compacted away is begun anew, at another member; what cannot be told change by change is
//! read whole again.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::time::sleep;

use super::gateway::{Failure, Gateway, Places, Watching};
use super::words::{Happened, Kv, Num, Range, Watched, b64, end_of};
use super::{Known, LeaderWords, Shared};
use crate::store::entry::Entry;
use crate::store::state::State;
use crate::store::{Object, Write};

/// Objects read at once, at first; as many as this when they are small.
const PAGE_FIRST: usize = 64;
const PAGE_MAX: usize = 4_096;
/// A page of so many bytes of values is a large one.
const PAGE_BYTES: usize = 1 << 20;
/// Longest time for one page.
const PAGE_WAIT: Duration = Duration::from_secs(10);
/// Pause after what failed.
const PAUSE: Duration = Duration::from_millis(200);

/// Why a watch is over.
enum Ended {
    /// It goes on from where it is.
    Again(String),
    /// Everything must be read anew.
    Anew(String),
}

/// Follows for ever. `tell` hears that everything was read once.
pub(super) async fn follow(shared: Arc<Shared>, places: Arc<Places>, lease: Duration, tell: Sender<()>) {
    let mut gateway = Gateway::new(&places);
    let mut asking = Gateway::new(&places);
    let mut whole = false;
    loop {
        if !whole {
            match load(&shared, &mut gateway).await {
                Ok(()) => {
                    whole = true;
                    // Nobody listens any more when it took long.
                    let _ = tell.send(());
                }
                Err(error) => {
                    let text = error.text();
                    tracing::warn!(error = %text, "etcd cannot be read");
                    shared.known.send_modify(|known| known.trouble = Some(text));
                    sleep(PAUSE).await;
                    continue;
                }
            }
        }
        let ended = watch(&shared, &mut gateway, &mut asking, lease / 3).await;
        gateway.next();
        match ended {
            Ended::Again(why) => tracing::info!(%why, "following etcd goes on at another member"),
            Ended::Anew(why) => {
                tracing::warn!(%why, "what etcd has is read anew");
                whole = false;
            }
        }
        sleep(PAUSE).await;
    }
}

/// Reads everything, as of one revision.
async fn load(shared: &Shared, gateway: &mut Gateway) -> Result<(), Failure> {
    let (mut from, end) = (shared.keys.all.clone(), end_of(&shared.keys.all));
    let (mut revision, mut limit) = (0, PAGE_FIRST);
    let (mut objects, mut known) = (Vec::new(), Known { loaded: true, ..Known::default() });
    loop {
        let body = json!({
            "key": b64(&from), "range_end": b64(&end), "limit": limit.to_string(), "revision": revision.to_string(),
        });
        let page: Range = gateway.call("/v3/kv/range", &body, Instant::now() + PAGE_WAIT).await?;
        if revision == 0 {
            revision = page.header.revision.0;
        }
        let bytes: usize = page.kvs.iter().map(|kv| kv.value.0.len()).sum();
        if bytes < PAGE_BYTES {
            limit = (limit * 2).min(PAGE_MAX);
        } else {
            limit = PAGE_FIRST;
        }
        if let Some(last) = page.kvs.last() {
            from = format!("{}\0", last.key.0);
        }
        for kv in page.kvs {
            match kv.key.0.strip_prefix(&shared.keys.objects) {
                Some(key) => objects.push(object(key, &kv)),
                None => note(shared, &mut known, &kv, true),
            }
        }
        if !page.more {
            break;
        }
    }
    known.revision = revision;
    install(shared, revision, objects, known).map_err(Failure::Refused)
}

fn install(shared: &Shared, revision: u64, objects: Vec<Object>, known: Known) -> Result<(), String> {
    let mut state = State::default();
    state.replay(Entry::Snapshot(revision, objects.len()))?;
    for object in objects {
        state.replay(Entry::Object(object))?;
    }
    *shared.state() = state;
    shared.newest.send_replace(revision);
    shared.known.send_replace(known);
    Ok(())
}

fn object(key: &str, kv: &Kv) -> Object {
    Object {
        key: Arc::from(key),
        value: Arc::from(kv.value.0.as_str()),
        created: kv.create_revision.0,
        modified: kv.mod_revision.0,
    }
}

/// Takes in what is no object.
fn note(shared: &Shared, known: &mut Known, kv: &Kv, there: bool) {
    if kv.key.0 == shared.keys.stamp {
        known.stamp = if there { kv.mod_revision.0 } else { 0 };
    } else if kv.key.0 == shared.keys.leader {
        let words = || serde_json::from_str::<LeaderWords>(&kv.value.0).unwrap_or_default();
        known.leader = there.then(|| (kv.create_revision.0, words()));
    }
}

async fn watch(shared: &Shared, gateway: &mut Gateway, asking: &mut Gateway, every: Duration) -> Ended {
    let from = shared.known.borrow().revision + 1;
    let body = json!({ "create_request": {
        "key": b64(&shared.keys.all), "range_end": b64(end_of(&shared.keys.all)), "start_revision": from.to_string(),
    } });
    let mut watching = match gateway.watch(&body).await {
        Ok(watching) => watching,
        Err(why) => {
            // Also when nobody can be asked: that is found out in the same way.
            return match probe(shared, asking, every).await {
                Ok(()) | Err(Ended::Again(_)) => Ended::Again(why),
                Err(anew) => anew,
            };
        }
    };
    tokio::select! {
        ended = hear(shared, &mut watching) => ended,
        ended = compare(shared, asking, every) => ended,
    }
}

async fn hear(shared: &Shared, watching: &mut Watching) -> Ended {
    loop {
        let watched = match watching.next().await {
            Ok(watched) => watched,
            Err(why) => return Ended::Again(why),
        };
        let Watched { canceled, compact_revision: Num(compacted), cancel_reason, events } = watched;
        if compacted > 0 {
            return Ended::Anew(format!("changes up to revision {compacted} were compacted away"));
        }
        if canceled {
            return Ended::Again(format!("etcd ended the watch: {cancel_reason}"));
        }
        take(shared, events);
    }
}

/// Takes changes in, each revision at once.
fn take(shared: &Shared, events: Vec<Happened>) {
    let mut known = shared.known.borrow().clone();
    let mut rest = events.into_iter().peekable();
    while let Some(revision) = rest.peek().map(|event| event.kv.mod_revision.0) {
        let mut writes = Vec::new();
        while let Some(event) = rest.next_if(|event| event.kv.mod_revision.0 == revision) {
            let there = event.kind != "DELETE";
            match event.kv.key.0.strip_prefix(&shared.keys.objects) {
                Some(key) => {
                    let value = there.then(|| Arc::from(event.kv.value.0.as_str()));
                    writes.push(Write { key: Arc::from(key), value });
                }
                None => note(shared, &mut known, &event.kv, there),
            }
        }
        if revision <= known.revision {
            continue;
        }
        known.revision = revision;
        if !writes.is_empty() {
            shared.state().apply(revision, writes);
            shared.newest.send_replace(revision);
        }
    }
    // Behind the objects: who waits for a revision reads them.
    shared.known.send_modify(|now| *now = Known { trouble: now.trouble.take(), ..known });
}

/// Asks now and then whether etcd can be asked, and whether the watch has kept up.
async fn compare(shared: &Shared, asking: &mut Gateway, every: Duration) -> Ended {
    loop {
        if let Err(ended) = probe(shared, asking, every).await {
            return ended;
        }
        sleep(every).await;
    }
}

/// One read that needs a majority.
async fn probe(shared: &Shared, asking: &mut Gateway, every: Duration) -> Result<(), Ended> {
    let body = json!({ "key": b64(&shared.keys.stamp) });
    let before = shared.known.borrow().clone();
    let answer: Result<Range, Failure> = asking.call("/v3/kv/range", &body, Instant::now() + every).await;
    let range = match answer {
        Err(error) => {
            let text = error.text();
            shared.known.send_if_modified(|known| {
                let new = known.trouble.as_ref() != Some(&text);
                known.trouble = Some(text);
                new
            });
            return Ok(());
        }
        Ok(range) => range,
    };
    shared.known.send_if_modified(|known| known.trouble.take().is_some());
    if range.header.revision.0 < before.revision {
        return Err(Ended::Anew("it is another etcd than before: its revision is lower".to_owned()));
    }
    let newest = range.kvs.first().map_or(0, |kv| kv.mod_revision.0);
    if newest <= shared.known.borrow().revision {
        return Ok(());
    }
    // It may be on its way.
    let mut known = shared.known.subscribe();
    let caught_up = tokio::time::timeout(every, known.wait_for(|known| known.revision >= newest)).await;
    match caught_up {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(Ended::Again("the watch fell behind".to_owned())),
    }
}
