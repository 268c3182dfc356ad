//! `GET /v1/watch`: changes of objects as they happen, as Server-Sent Events or as lines of JSON.
//!
//! A watch begins after a revision; without one it tells first what is there. Who comes back with the last `resume` it saw
//! (`?from=`; of Server-Sent Events the last id) misses nothing; when that is too old, the answer is 410 and it begins anew.
//! Only the end of a transaction is a place to resume from. A bookmark every 15 s tells one, and that the connection lives.
//! A watch ends when the tokens change, and when its client takes nothing for 30 s.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Response;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::request::Ask;
use super::{Api, ApiSettings, Tokens};
use crate::desired::placements::PLACEMENTS;
use crate::desired::{APPS, FORMATIONS, HOSTS, RELEASES, VERSIONS};
use crate::plane::not_durable;
use crate::problem::Problem;
use crate::store::{ENDPOINTS, Event, MARKS, Object, Revision, Store};

/// Watches at once.
const WATCHES_MAX: usize = 32;
/// Time between bookmarks.
const BOOKMARK_EVERY: Duration = Duration::from_secs(15);
/// Pieces of a stream that wait for a slow client; then its watch waits.
const PIECES_MAX: usize = 16;
/// How long a client may take nothing while changes wait for it.
const STALLED_MAX: Duration = Duration::from_secs(30);
/// Changes taken from the store at a time.
const EVENTS_MAX: usize = 256;
/// Objects told at a time at the beginning.
const OBJECTS_MAX: usize = 256;

/// The body of an answer: one piece, or pieces as they come.
#[derive(Debug)]
pub(crate) enum ApiBody {
    /// Whole.
    Whole(Option<Bytes>),
    /// As they come, until the sender is gone.
    Pieces(mpsc::Receiver<Bytes>),
}

impl ApiBody {
    pub(super) fn whole(bytes: Bytes) -> Self {
        ApiBody::Whole(Some(bytes))
    }
}

impl Body for ApiBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            ApiBody::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            ApiBody::Pieces(pieces) => {
                pieces.poll_recv(context).map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, ApiBody::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            ApiBody::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            ApiBody::Pieces(_) => SizeHint::default(),
        }
    }
}

/// How changes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Events,
    Lines,
}

/// Begins a watch.
pub(super) fn start(
    api: &Arc<Api>,
    ask: &Ask,
    settings: &watch::Receiver<ApiSettings>,
) -> Result<Response<ApiBody>, Problem> {
    let store = Arc::clone(api.store.as_ref().ok_or_else(not_durable)?);
    let accept = ask.headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let form = if accept.contains("text/event-stream") { Form::Events } else { Form::Lines };
    let last = ask.headers.get("last-event-id").and_then(|value| value.to_str().ok());
    let from = match last {
        None => ask.count("from"),
        Some(text) => Some(text.parse().map_err(|_| {
            Problem::new(400, "bad_revision", "Last-Event-ID must be a revision, as the events had it")
        })?),
    };
    if let Some(from) = from {
        let newest = store.revision();
        if from > newest {
            let detail =
                format!("the newest revision is {newest}: {from} is of another store; begin without `from`");
            return Err(too_old(detail, newest));
        }
        store.events(from, 1).map_err(|compacted| {
            let detail =
                format!("changes are kept after revision {} only; begin without `from`", compacted.oldest);
            too_old(detail, newest)
        })?;
    }
    let permit = Arc::clone(&api.watches).try_acquire_owned().map_err(|_| {
        api.status.update(|status| status.watches_refused += 1);
        Problem::new(503, "too_many_watches", format!("{WATCHES_MAX} watches are open, which is the bound"))
    })?;
    let (outlet, pieces) = mpsc::channel(PIECES_MAX);
    let watch = Watch { store, form, outlet, patience: STALLED_MAX };
    let (stop, settings) = (api.stopped.clone(), settings.clone());
    let tokens = settings.borrow().tokens.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = watch.run(from, stop) => {}
            // Whoever may still look asks again.
            () = renewed(settings, tokens) => {}
        }
        drop(permit);
    });
    let mut response = Response::new(ApiBody::Pieces(pieces));
    let kind = match form {
        Form::Events => "text/event-stream",
        Form::Lines => "application/x-ndjson",
    };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Returns when other tokens are in force.
async fn renewed(mut settings: watch::Receiver<ApiSettings>, tokens: Tokens) {
    let ended = settings.wait_for(|now| now.tokens != tokens).await.is_err();
    if ended {
        // Control ends: another flag says so.
        std::future::pending::<()>().await;
    }
}

/// Watches that may be open.
pub(super) fn permits() -> Arc<tokio::sync::Semaphore> {
    Arc::new(tokio::sync::Semaphore::new(WATCHES_MAX))
}

fn too_old(detail: String, newest: Revision) -> Problem {
    let mut problem = Problem::new(410, "revision_gone", detail);
    problem.more.insert("newest".to_owned(), json!(newest));
    problem
}

/// The kind of an object and its name in the API's words.
fn named(key: &str) -> (&'static str, String) {
    const KINDS: [(&str, &str); 8] = [
        (APPS, "app"),
        (VERSIONS, "version"),
        (RELEASES, "release"),
        (FORMATIONS, "formation"),
        (HOSTS, "host"),
        (ENDPOINTS, "endpoint"),
        (MARKS, "drain_mark"),
        (PLACEMENTS, "placements"),
    ];
    let found = KINDS.iter().find_map(|(prefix, kind)| Some((*kind, key.strip_prefix(prefix)?)));
    let (kind, name) = found.unwrap_or(("object", key));
    // Numbers have zeros before them so that keys keep their order.
    let plain = match name.rsplit_once('/') {
        Some((app, number)) if matches!(kind, "version" | "release") => {
            format!("{app}/{}", number.trim_start_matches('0'))
        }
        Some(_) | None => name.to_owned(),
    };
    (kind, plain)
}

fn put_view(object: &Object) -> Value {
    let (kind, name) = named(&object.key);
    let value: Value = serde_json::from_str(&object.value).unwrap_or(Value::Null);
    json!({ "type": "put", "revision": object.modified, "kind": kind, "name": name, "value": value })
}

fn event_view(event: &Event) -> Value {
    match &event.object {
        Some(object) => put_view(object),
        None => {
            let (kind, name) = named(&event.key);
            json!({ "type": "delete", "revision": event.revision, "kind": kind, "name": name })
        }
    }
}

struct Watch {
    store: Arc<dyn Store>,
    form: Form,
    outlet: mpsc::Sender<Bytes>,
    /// How long a piece may wait for the client.
    patience: Duration,
}

/// The client is gone, or takes nothing.
#[derive(Debug)]
struct Gone;

impl Watch {
    async fn run(mut self, from: Option<Revision>, stop: watch::Receiver<bool>) {
        // The client being gone ends it, and so does the process: the body then ends.
        let mut newest = self.store.watch();
        let mut stop = stop;
        tokio::select! {
            () = crate::plane::stopped(&mut stop) => {}
            _ = self.tell_all(from, &mut newest) => {}
        }
    }

    async fn tell_all(
        &mut self,
        from: Option<Revision>,
        newest: &mut watch::Receiver<Revision>,
    ) -> Result<(), Gone> {
        let mut at = match from {
            Some(from) => from,
            None => self.tell_objects().await?,
        };
        loop {
            newest.borrow_and_update();
            match self.store.events(at, EVENTS_MAX) {
                Err(compacted) => {
                    // Too slow by far: it has to begin anew.
                    let gone = json!({ "type": "gone", "revision": at, "oldest": compacted.oldest });
                    self.tell(gone, None, at).await?;
                    return Ok(());
                }
                Ok(events) if events.is_empty() => {
                    let waited = timeout(BOOKMARK_EVERY, newest.changed()).await;
                    match waited {
                        Ok(Ok(())) => {}
                        Ok(Err(_)) => return Ok(()),
                        Err(_) => self.bookmark(at).await?,
                    }
                }
                Ok(events) => {
                    for (index, event) in events.iter().enumerate() {
                        // Only the end of a transaction is a place to begin from again.
                        let whole = events.get(index + 1).is_none_or(|next| next.revision != event.revision);
                        let id = if whole { event.revision } else { at };
                        self.tell(event_view(event), whole.then_some(id), id).await?;
                        if whole {
                            at = event.revision;
                        }
                    }
                }
            }
        }
    }

    /// Tells what is there; answers with the revision from which changes have to be told. An object that changes meanwhile
    /// may be told twice, which is harmless: it is told whole.
    async fn tell_objects(&mut self) -> Result<Revision, Gone> {
        let from = self.store.revision();
        let mut after: Option<Arc<str>> = None;
        loop {
            let page = self.store.list("", after.as_deref(), OBJECTS_MAX);
            for object in &page.objects {
                // Not a place to begin from again: what comes behind it in the list has not been told.
                self.tell(put_view(object), None, 0).await?;
            }
            after = page.objects.last().map(|object| Arc::clone(&object.key));
            if !page.more {
                break;
            }
        }
        self.bookmark(from).await?;
        Ok(from)
    }

    async fn bookmark(&mut self, at: Revision) -> Result<(), Gone> {
        self.tell(json!({ "type": "bookmark", "revision": at }), Some(at), at).await
    }

    /// `resume` is the place to resume from, when this is one. `id` is what a client of Server-Sent Events comes back with by
    /// itself; 0 tells none.
    async fn tell(&mut self, mut value: Value, resume: Option<Revision>, id: Revision) -> Result<(), Gone> {
        if let (Some(members), Some(resume)) = (value.as_object_mut(), resume) {
            members.insert("resume".to_owned(), json!(resume));
        }
        let text = match self.form {
            Form::Lines => format!("{value}\n"),
            Form::Events => {
                let kind = value.get("type").and_then(Value::as_str).unwrap_or("put");
                let id = if id > 0 { format!("id: {id}\n") } else { String::new() };
                format!("{id}event: {kind}\ndata: {value}\n\n")
            }
        };
        match timeout(self.patience, self.outlet.send(Bytes::from(text))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Gone),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Journal;

    #[test]
    fn a_client_that_takes_nothing_ends_its_watch() {
        let dir = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(Journal::open(dir.path()).unwrap().0);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        // Nobody reads, and nobody closes.
        let (outlet, _pieces) = mpsc::channel(1);
        let mut watch = Watch { store, form: Form::Lines, outlet, patience: Duration::from_millis(1) };
        runtime.block_on(async {
            watch.bookmark(1).await.unwrap();
            watch.bookmark(1).await.unwrap_err();
        });
    }
}
