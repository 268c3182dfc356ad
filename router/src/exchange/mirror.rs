//! Mirrors on their way: keeps a copy of a request while it is served, and sends it to another cluster once the client has its whole
//! response, so that a copy can neither delay nor fail the request it is of.
//!
//! A copy is an exchange of its own, as a question to an authorizer is: its client is the router, in memory. It leaves no record, takes
//! nothing from the limits of the route and says nothing of the endpoints that serve people. In diff mode both answers are compared by
//! status and by the SHA-256 of their bodies.

use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use aws_lc_rs::digest;
use ekiden_config::model::{Carrier, Priority};
use ekiden_core::cluster::ClusterTable;
use ekiden_core::outcome::Cause;
use ekiden_core::outcome::Phase;
use ekiden_core::policy::mirror::{Held, MirrorSteps};
use ekiden_core::stats::MirrorEnd;
use ekiden_core::table::RouteEntry;
use http::HeaderMap;

use crate::buffer::{Buffer, Buffers};
use crate::exchange::downstream::{Downstream, HeadKind};
use crate::exchange::out::{Out, Written, put_decimal, put_field};
use crate::exchange::{Workspace, affinity, forward};
use crate::head::FieldId;
use crate::tls::Session;
use crate::wire::Version;
use crate::wire::body::Framing;
use crate::wire::request::{Rules, TargetForm};
use crate::worker::connection::{Busy, Connection};
use crate::worker::{ListenerRef, Worker};

/// Fields of a copy at most: those of a request, and the mark.
const FIELDS_MAX: usize = 1002;
/// What tells a copy from a request.
const MARK: &[u8] = b"X-Mirror";

/// A copy that is being made.
#[derive(Debug)]
pub struct Capture {
    /// The route that the request is of.
    entry: Arc<RouteEntry>,
    steps: Arc<MirrorSteps>,
    /// What it keeps in memory.
    held: Held,
    /// Everything of the head but what frames the body.
    head: Vec<u8>,
    has_body: bool,
    body: Vec<u8>,
    is_too_large: bool,
    /// There was no room to keep it.
    is_crowded: bool,
    digest: Option<Digest>,
}

/// Bytes seen so far, as a hash.
#[derive(Clone)]
struct Digest(digest::Context);

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Digest(..)")
    }
}

impl Digest {
    fn new() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }
}

/// Begins a copy of a request that goes to an endpoint, where it is among those that are copied.
pub fn begin(worker: &Worker, ws: &mut Workspace, entry: &Arc<RouteEntry>, cluster: &ClusterTable) {
    let Some(steps) = &entry.mirror else { return };
    // What is a stream, or becomes one, has no copy.
    if ws.request.is_tunnel() || ws.upgrade.is_some() || ws.call.is_some() || !steps.is_drawn(worker.random())
    {
        return;
    }
    // A copy of a copy would go round for ever where the other cluster leads back to such a route.
    if ws.request.head.has(FieldId::XMirror) {
        return entry.cell.shaping(worker.id).mirrored(MirrorEnd::Copy);
    }
    let words = &steps.words;
    let too_long = matches!(ws.request.framing, Framing::Length(length) if length > u64::from(words.body));
    if too_long {
        return entry.cell.shaping(worker.id).mirrored(MirrorEnd::TooLarge);
    }
    let head = head_of(ws, cluster.cluster.policy.affinity.as_ref().map(|policy| &policy.carrier));
    let Some(held) = MirrorSteps::hold(steps, head.len()) else {
        return entry.cell.shaping(worker.id).mirrored(MirrorEnd::Busy);
    };
    ws.mirror = Some(Box::new(Capture {
        entry: Arc::clone(entry),
        steps: Arc::clone(steps),
        held,
        head,
        has_body: ws.request.framing != Framing::None,
        body: Vec::new(),
        is_too_large: false,
        is_crowded: false,
        digest: words.diff.then(Digest::new),
    }));
}

/// The head of a copy, up to what says how long its body is, without the mark of affinity that the request carries.
fn head_of(ws: &Workspace, carrier: Option<&Carrier>) -> Vec<u8> {
    let request = &ws.request;
    let host = request.head.known(FieldId::Host).unwrap_or(request.host.as_bytes());
    let version = if host.is_empty() { "1.0" } else { "1.1" };
    let mut text = request.method().as_bytes().to_vec();
    text.push(b' ');
    match request.form {
        TargetForm::Asterisk => text.push(b'*'),
        TargetForm::Origin => {
            text.extend_from_slice(ws.path.as_bytes());
            if let Some(query) = request.query() {
                text.push(b'?');
                text.extend_from_slice(query.as_bytes());
            }
        }
    }
    text.extend_from_slice(format!(" HTTP/{version}\r\n").as_bytes());
    if !host.is_empty() {
        put_field(&mut text, b"Host", host);
    }
    for (id, name, value) in request.head.iter() {
        let is_body =
            matches!(id, FieldId::Host | FieldId::ContentLength | FieldId::Expect | FieldId::Trailer);
        if is_body || id.is_hop_by_hop() {
            continue;
        }
        let kept = match carrier {
            Some(carrier) => affinity::field_without(carrier, name, value),
            None => Some(Cow::Borrowed(value)),
        };
        if let Some(value) = kept {
            put_field(&mut text, name, &value);
        }
    }
    put_field(&mut text, MARK, b"true");
    text
}

impl Capture {
    /// Takes a piece of the request's body.
    #[inline(never)]
    pub fn take_body(&mut self, bytes: &[u8]) {
        if self.body.len() + bytes.len() > self.steps.words.body as usize {
            (self.is_too_large, self.body) = (true, Vec::new());
            self.held.give_back();
        } else if !self.is_too_large && !self.is_crowded {
            if self.held.more(bytes.len()) {
                self.body.extend_from_slice(bytes);
            } else {
                (self.is_crowded, self.body) = (true, Vec::new());
            }
        }
    }

    /// Takes a piece of the response's body.
    #[inline(never)]
    pub fn take_answer(&mut self, bytes: &[u8]) {
        if let Some(digest) = &mut self.digest {
            digest.0.update(bytes);
        }
    }
}

/// Sends the copy of a request whose client has its whole response; `unread` says that the request was not read to its end.
#[inline(never)]
pub fn send(worker: &Rc<Worker>, ws: &mut Workspace, unread: bool) {
    let (Some(mut capture), Some(listener)) = (ws.mirror.take(), ws.listener.clone()) else { return };
    let count = |end| capture.entry.cell.shaping(worker.id).mirrored(end);
    if capture.is_too_large {
        return count(MirrorEnd::TooLarge);
    }
    if unread {
        return count(MirrorEnd::Unread);
    }
    // Who is refused for want of time or memory must not stand behind a copy.
    let is_strained = worker.strain.sheds(Priority::Low).is_some();
    let copying = MirrorSteps::begin(&capture.steps).filter(|_| !capture.is_crowded && !is_strained);
    let Some(copying) = copying else { return count(MirrorEnd::Busy) };
    let original = Original {
        status: ws.response.status,
        peer: ws.peer,
        session: ws.session.clone(),
        request_id: ws.trace.request_id.clone(),
    };
    let worker = Rc::clone(worker);
    tokio::task::spawn_local(async move {
        let end = Box::pin(copy(&worker, listener, &mut capture, original)).await;
        capture.entry.cell.shaping(worker.id).mirrored(end);
        drop(copying);
    });
}

/// What the request was.
struct Original {
    status: u16,
    peer: Option<SocketAddr>,
    session: Option<Arc<Session>>,
    request_id: String,
}

async fn copy(
    worker: &Rc<Worker>,
    listener: Rc<ListenerRef>,
    capture: &mut Capture,
    original: Original,
) -> MirrorEnd {
    let words = &capture.steps.words;
    let entry = &capture.steps.entry;
    let cluster =
        worker.with_table(|table| table.cluster_named(&entry.app_name, &words.cluster).map(Arc::clone));
    let settings = worker.with_table(|table| listener.settings(table));
    let (Some(cluster), Some(settings)) = (cluster, settings) else { return MirrorEnd::Failed };
    let client = Copier {
        session: original.session,
        body: std::mem::take(&mut capture.body),
        digest: words.diff.then(Digest::new),
        ..Copier::default()
    };
    let mut asking = Connection::new(Rc::clone(worker), listener, client, original.peer);
    let mut busy = Busy::new(&asking);
    let Some(inner) = busy.workspace() else { return MirrorEnd::Failed };
    let mut text = std::mem::take(&mut capture.head);
    if capture.has_body {
        text.extend_from_slice(b"Content-Length: ");
        put_decimal(&mut text, asking.stream.body.len() as u64);
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"\r\n");
    inner.begin();
    let rules = Rules { fields: FIELDS_MAX, allow_underscore: true };
    if inner.request.parse(&text, rules).is_err() {
        return MirrorEnd::Failed;
    }
    // Its client takes frames: answers come to it without a coding.
    inner.request.version = Version::Http2;
    inner.path.clear();
    inner.path.push_str(if inner.request.form == TargetForm::Asterisk {
        "/"
    } else {
        inner.request.raw_path()
    });
    inner.trace.begin(worker.clock.turn());
    inner.trace.is_question = true;
    inner.trace.phase = Phase::Match;
    inner.trace.request_id.push_str(&original.request_id);
    asking.deadline.set_busy(true);
    forward::forward(&mut asking, inner, &settings.listener, Arc::clone(entry), cluster).await;
    let made_here = inner.trace.router_made;
    drop(busy);
    let answer = asking.stream;
    if made_here || !answer.is_whole {
        return MirrorEnd::Failed;
    }
    if words.diff {
        let hash = |digest: Option<Digest>| digest.map(|digest| digest.0.finish().as_ref().to_vec());
        if answer.status != original.status {
            return MirrorEnd::OtherStatus;
        }
        if hash(answer.digest) != hash(capture.digest.take()) {
            return MirrorEnd::OtherBody;
        }
        return MirrorEnd::Same;
    }
    MirrorEnd::Sent
}

/// The router as the client of a copy: gives its body, keeps no answer.
#[derive(Debug, Default)]
struct Copier {
    session: Option<Arc<Session>>,
    body: Vec<u8>,
    given: usize,
    status: u16,
    digest: Option<Digest>,
    is_whole: bool,
}

impl Copier {
    fn take(&mut self, bytes: &[u8]) {
        if let Some(digest) = &mut self.digest {
            digest.0.update(bytes);
        }
    }
}

impl Downstream for Copier {
    const IS_STREAM: bool = false;

    fn poll_read(&mut self, _: &mut Context<'_>, buffer: &mut Buffer) -> Poll<io::Result<usize>> {
        let rest = self.body.get(self.given..).unwrap_or(&[]);
        let count = buffer.put(rest);
        self.given += count;
        Poll::Ready(Ok(count))
    }

    fn take_trailers(&mut self) -> Option<HeaderMap> {
        None
    }

    fn loss(&self) -> Cause {
        Cause::ClientGone
    }

    fn poll_watch(
        &mut self,
        _: &mut Context<'_>,
        _: &Buffers,
        _: &mut Buffer,
        _: &mut bool,
    ) -> Result<(), Cause> {
        Ok(())
    }

    fn poll_write(
        &mut self,
        _: &mut Context<'_>,
        out: &mut Out,
        direct: &[u8],
        _: bool,
    ) -> Poll<io::Result<Written>> {
        let pending = out.pending();
        self.take(out.unsent());
        out.note_sent(pending);
        self.take(direct);
        Poll::Ready(Ok(Written { total: pending + direct.len(), direct: direct.len() }))
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn held(&self) -> usize {
        0
    }

    fn local_address(&self) -> Option<SocketAddr> {
        None
    }

    fn session(&self) -> Option<&Arc<Session>> {
        self.session.as_ref()
    }

    fn begin_head(&mut self, _: &mut Out, status: u16, _: &[u8]) {
        self.status = status;
    }

    fn field(&mut self, _: &mut Out, _: &[u8], _: &[u8]) {}

    fn end_head(&mut self, _: &mut Out, _: HeadKind) -> Result<u64, Cause> {
        Ok(0)
    }

    fn trailers(
        &mut self,
        _: &mut Out,
        each: impl FnOnce(&mut dyn FnMut(&[u8], &[u8])) -> Result<(), Cause>,
    ) -> Result<(), Cause> {
        each(&mut |_, _| {})
    }

    fn poll_end(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn finish(&mut self) -> Result<(), Cause> {
        self.is_whole = true;
        Ok(())
    }
}
