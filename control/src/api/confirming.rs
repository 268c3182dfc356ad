//! A person has looked at what a source took away and is held: it may go, here and wherever else it is held.
//!
//! Written down first, then let go, then answered. Once begun it goes on to its end, whoever still waits for the answer: half of it
//! would leave the controls of one store apart. What is held, the loop knows.

use std::sync::Arc;

use ekiden_config::doors::Ticket;
use serde_json::{Value, json};
use tokio::sync::{OwnedMutexGuard, mpsc, oneshot};

use super::Api;
use super::placements::{keep, say};
use super::records::{failed, too_often};
use super::reply::{Answer, applied, gone};
use super::request::Ask;
use crate::clock::unix_ms;
use crate::desired::confirmed::{CONFIRMED, ConfirmedWords, confirmed, confirmed_key};
use crate::desired::write;
use crate::overlay::ClusterKey;
use crate::placement::part::Kept;
use crate::placement::{Confirmed, Said, Withheld, Word, Written};
use crate::plane::{not_durable, pushed_place};
use crate::problem::Problem;
use crate::store::{Revision, Store, Txn, Write};

/// Tries of a change that others got ahead of.
const TRIES_MAX: usize = 16;
/// Confirmations of long ago that are taken away at once, at most.
const OLD_MAX: usize = 100;

/// `POST /v1/sources/confirm`.
pub(super) async fn confirm(api: &Api, ask: &Ask) -> Answer {
    let body = ask.members(&["source"])?;
    let Some(source) = body.get("source").and_then(Value::as_str) else {
        let detail = "\"source\" must be the name of a source, as /v1/sources lists them";
        return Err(Problem::at(422, "bad_value", "/source", detail));
    };
    let place = pushed_place(source);
    let lane = match &place {
        Some(place) => api.lanes.of(place).await,
        None => api.lanes.of_source(source).await,
    };
    let confirming = Confirming {
        source: Arc::from(source),
        // Others hold the same, each by itself; what was pushed they have of the store.
        is_shared: place.is_none() && api.elector.is_some(),
        place,
        said: api.said.clone(),
        store: api.store.clone(),
    };
    let (ticket, confirmed) = confirming.end(lane).await?;
    applied(api, &ticket, &[], json!({ "source": source, "confirmed": confirmed })).await
}

/// One confirmation under way.
struct Confirming {
    source: Arc<str>,
    /// The cluster that it was pushed for.
    place: Option<ClusterKey>,
    /// Others are to hear of it.
    is_shared: bool,
    said: mpsc::Sender<Said>,
    store: Option<Arc<dyn Store>>,
}

impl Confirming {
    /// All of it, to its end though nobody waits any more; the lane is free after that.
    async fn end(self, lane: OwnedMutexGuard<()>) -> Result<(Ticket, Vec<String>), Problem> {
        let ended = tokio::spawn(async move {
            let ended = self.steps().await;
            drop(lane);
            ended
        });
        ended.await.map_err(|_| gone())?
    }

    async fn steps(&self) -> Result<(Ticket, Vec<String>), Problem> {
        let written = if self.is_shared { Some(self.write_down().await?) } else { None };
        let heard = say(&self.said, Word::Confirm(Arc::clone(&self.source), written.clone())).await?;
        let problem = match heard.confirmed {
            Confirmed::Gone(all) if !all.is_empty() => {
                if let (Some(place), Some(store)) = (&self.place, &self.store) {
                    keep(store, place, &Kept::default()).await;
                }
                return Ok((heard.ticket, all));
            }
            Confirmed::Gone(_) => self.nothing(),
            Confirmed::Unknown => self.unknown(),
            Confirmed::More => {
                let detail =
                    format!("more of {} is held than a moment ago; look again: nothing went", self.source);
                Problem::new(409, "conflict", detail)
            }
        };
        if let Some(written) = written {
            self.take_back(&written).await;
        }
        Err(problem)
    }

    fn nothing(&self) -> Problem {
        let detail = format!("nothing of {} waits to be confirmed", self.source);
        Problem::new(409, "nothing_held", detail)
    }

    fn unknown(&self) -> Problem {
        Problem::new(404, "unknown_source", format!("there is no source {}", self.source))
    }

    /// Says to those that follow what a person has confirmed, and takes away what was said so long ago that it counts no longer.
    async fn write_down(&self) -> Result<Written, Problem> {
        let (reply, withheld) = oneshot::channel();
        let word = Word::Withheld(Arc::clone(&self.source), reply);
        self.said.send(Said { word, reply: None }).await.map_err(|_| gone())?;
        let Withheld { gone, at_ms, until_ms } =
            withheld.await.map_err(|_| gone())?.ok_or_else(|| self.unknown())?;
        if gone.is_empty() {
            return Err(self.nothing());
        }
        let store = self.store.as_ref().ok_or_else(not_durable)?;
        let words =
            ConfirmedWords { at_unix_ms: at_ms, until_unix_ms: until_ms, gone: gone.into_iter().collect() };
        let key = confirmed_key(&self.source);
        for _ in 0..TRIES_MAX {
            let old = over(&**store, &key);
            let gone = old.iter().map(|(key, _)| Write { key: Arc::clone(key), value: None });
            let writes = gone.chain([write(Arc::clone(&key), &words)]).collect();
            match store.commit(Txn { when: old, writes }).await {
                Ok(revision) => return Ok(Written { revision, gone: words.gone }),
                Err(error) => {
                    if let Some(problem) = failed(&error) {
                        return Err(problem);
                    }
                }
            }
        }
        Err(too_often())
    }

    /// Nothing went here: others are to let nothing go either.
    async fn take_back(&self, written: &Written) {
        let Some(store) = &self.store else { return };
        let key = confirmed_key(&self.source);
        let writes = vec![Write { key: Arc::clone(&key), value: None }];
        if let Err(error) = store.commit(Txn { when: vec![(key, written.revision)], writes }).await {
            let source = &self.source;
            tracing::error!(%source, %error, "a confirmation that was not carried out stays written down: others let go what it names");
        }
    }
}

/// Confirmations beside this one that count no longer, each as of the revision at which that is so: a newer one of its source counts.
fn over(store: &dyn Store, besides: &str) -> Vec<(Arc<str>, Revision)> {
    let now_ms = unix_ms();
    let all = store.list(CONFIRMED, None, usize::MAX).objects.into_iter();
    let over = all.filter(|object| {
        *object.key != *besides && !confirmed(object).is_some_and(|words| words.counts(now_ms))
    });
    over.take(OLD_MAX).map(|object| (object.key, object.modified)).collect()
}

#[cfg(test)]
mod tests;
