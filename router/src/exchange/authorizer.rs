//! Asks a service whether a request is let in: one more exchange, whose client is the router itself, by the way of all others, so that
//! picks, pools, TLS, HTTP/2 and retries are those of the cluster.
//!
//! The question is a GET without a body, a POST with the body of the request where that is asked for (see `body`), or a call (see
//! `call`). 2xx lets the request in, with fields of the answer; another answer below 500 is the client's;
//! what is no answer refuses, unless told otherwise. The question leaves no record; it counts at its cluster. Does not judge
//! credentials.

mod body;
mod call;

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use ekiden_config::model::{Authorizer, Listener};
use ekiden_core::outcome::{Cause, Phase};
use ekiden_core::policy::entrance::{EntranceSteps, Ruling, Step};
use http::HeaderMap;

use body::Shown;

use crate::buffer::{Buffer, Buffers};
use crate::exchange::answer::{Answer, write_answer};
use crate::exchange::cors::is_cors;
use crate::exchange::downstream::{Downstream, HeadKind};
use crate::exchange::out::{Out, Written, put_field};
use crate::exchange::run::{flush, may_keep};
use crate::exchange::{After, Workspace, forward, overload, trace};
use crate::head::FieldId;
use crate::tls::Session;
use crate::wire::Version;
use crate::wire::request::{RequestHead, Rules};
use crate::worker::connection::{Busy, Connection};

/// Longest body of an answer that is given to a client; what is longer is cut away whole.
const BODY_MAX: usize = 64 << 10;
/// Fields of a question at most: those of a request, and two more.
const FIELDS_MAX: usize = 1002;
/// Fields that say what the request was: only the router may.
const METHOD: &[u8] = b"x-forwarded-method";
const URI: &[u8] = b"x-forwarded-uri";
/// Field that says whether the body that goes along is only its beginning; Envoy's name for it.
const PARTIAL: &[u8] = b"x-envoy-auth-partial-body";

/// What the service told a client that it does not let in.
#[derive(Debug)]
pub struct Told {
    status: u16,
    fields: Vec<(String, String)>,
    content_type: String,
    body: String,
}

/// Why a request is not let in.
#[derive(Debug)]
pub enum Stop {
    /// The router says it.
    Cause(Cause),
    /// The service says it.
    Told(Box<Told>),
}

impl From<Cause> for Stop {
    fn from(cause: Cause) -> Self {
        Stop::Cause(cause)
    }
}

/// Asks, and gives the request what is to come back with it.
///
/// # Errors
/// Why the request is not let in.
pub async fn ask<D: Downstream>(
    connection: &mut Connection<D>,
    ws: &mut Workspace,
    listener: &Listener,
    steps: &EntranceSteps,
) -> Result<(), Stop> {
    let (Some(words), Some(question)) = (&steps.words.authorizer, &steps.question) else { return Ok(()) };
    let shown = match &words.body {
        Some(bounds) => body::read(connection, ws, listener, bounds).await?,
        None => None,
    };
    if let Some(shown) = shown.as_ref().filter(|_| ws.permit.is_some()) {
        // A call holds it twice, once as text, beside what they are made of. Until the relay begins.
        let copies = if words.grpc { 4 } else { 1 };
        overload::hold(&connection.stream, ws, shown.bytes.len() * copies);
    }
    let worker = Rc::clone(&connection.worker);
    let count = |ruling| worker.shard.rulings.count(Step::Authorizer, ruling);
    let cluster =
        worker.with_table(|table| table.cluster_named(&question.app_name, &words.cluster).map(Arc::clone));
    let asker = Asker { session: connection.stream.session().cloned(), ..Asker::default() };
    let mut asking =
        Connection::new(Rc::clone(&worker), Rc::clone(&connection.listener), asker, connection.peer);
    let mut busy = Busy::new(&asking);
    let (mut made_here, mut may_open, mut said) = (true, true, 0);
    if let (Some(cluster), Some(inner)) = (cluster, busy.workspace())
        && put_question(inner, ws, listener, (words, shown), &mut asking.stream)
    {
        inner.trace.begin(worker.clock.turn());
        inner.trace.is_question = true;
        inner.trace.phase = Phase::Match;
        inner.trace.request_id.push_str(&ws.trace.request_id);
        asking.deadline.set_busy(true);
        let question = forward::forward(&mut asking, inner, listener, Arc::clone(question), cluster);
        // A client that leaves ends the question with it.
        beside(connection, ws, question).await?;
        made_here = inner.trace.router_made;
        said = inner.response.status;
    } else {
        // The client must not choose that nothing is asked.
        may_open = false;
    }
    drop(busy);
    let mut answer = asking.stream;
    let verdict = match answer.status {
        _ if made_here => None,
        _ if words.grpc => call::verdict(&mut answer),
        200..=299 if answer.is_whole => Some(true),
        300..=499 if answer.is_whole => Some(false),
        _ => None,
    };
    match verdict {
        Some(true) => {
            count(Ruling::Allowed);
            for name in &words.returns {
                for value in answer.all(name.as_bytes()) {
                    ws.request.head.append(name.as_bytes(), value);
                }
            }
            Ok(())
        }
        Some(false) => {
            count(Ruling::Refused);
            Err(Stop::Told(Box::new(answer.told())))
        }
        None => {
            count(Ruling::Failed);
            // It has said no, though not to the end.
            let is_refusal = !words.grpc && (300..=499).contains(&said);
            if words.fail_open && may_open && !is_refusal {
                Ok(())
            } else {
                Err(Stop::Cause(Cause::AuthorizerFailed))
            }
        }
    }
}

/// Runs what is waited for, beside a look at the client.
///
/// # Errors
/// The client has left.
async fn beside<D: Downstream, T>(
    connection: &mut Connection<D>,
    ws: &mut Workspace,
    wait: impl Future<Output = T>,
) -> Result<T, Cause> {
    let worker = Rc::clone(&connection.worker);
    let (mut wait, mut half_closed) = (std::pin::pin!(wait), false);
    poll_fn(|cx| {
        if let Poll::Ready(done) = wait.as_mut().poll(cx) {
            return Poll::Ready(Ok(done));
        }
        let client = &mut connection.stream;
        client.poll_watch(cx, &worker.buffers, &mut ws.client_in, &mut half_closed)?;
        Poll::Pending
    })
    .await
}

/// Writes the question into a workspace of its own, as a head that passes the judge of all heads.
fn put_question(
    inner: &mut Workspace,
    ws: &Workspace,
    listener: &Listener,
    (words, shown): (&Authorizer, Option<Shown>),
    asker: &mut Asker,
) -> bool {
    if words.grpc {
        let Some(body) = call::put(inner, ws, listener, (words, shown.as_ref())) else { return false };
        asker.unsent = body;
        return true;
    }
    let request = &ws.request;
    let host = authority(request);
    // Only HTTP/1.0 may lack it; the question then goes to the endpoint by its address.
    let version = if host.is_empty() { "1.0" } else { "1.1" };
    let method = if shown.is_some() { "POST" } else { "GET" };
    let mut text = format!("{method} {} HTTP/{version}\r\n", words.path).into_bytes();
    if !host.is_empty() {
        put_field(&mut text, b"Host", host);
    }
    for (id, name, value) in request.head.iter() {
        let is_body =
            matches!(id, FieldId::Host | FieldId::ContentLength | FieldId::Expect | FieldId::Trailer);
        let is_ours = is_own(name) || is_of_answer(name);
        let wanted = words.headers.as_ref().is_none_or(|names| {
            id.is_forwarding() || names.iter().any(|wanted| wanted.as_bytes().eq_ignore_ascii_case(name))
        });
        if wanted && !is_body && !is_ours && !id.is_hop_by_hop() {
            put_field(&mut text, name, value);
        }
    }
    put_field(&mut text, METHOD, request.method().as_bytes());
    // In the form that routes are found by and endpoints get: the service judges what will be served.
    let mut uri = if request.raw_path() == "*" { "*".to_owned() } else { ws.path.clone() };
    if let Some(query) = request.query() {
        uri.push('?');
        uri.push_str(query);
    }
    put_field(&mut text, URI, uri.as_bytes());
    if let Some(shown) = shown {
        put_field(&mut text, PARTIAL, shown.partial().as_bytes());
        put_field(&mut text, b"Content-Length", shown.bytes.len().to_string().as_bytes());
        asker.unsent = shown.bytes;
    }
    text.extend_from_slice(b"\r\n");
    inner.begin();
    let rules = Rules { fields: FIELDS_MAX, allow_underscore: true };
    if inner.request.parse(&text, rules).is_err() {
        return false;
    }
    // Its client takes frames: bodies come to it without a coding, and nothing is said of its connection.
    inner.request.version = Version::Http2;
    // To ask twice changes nothing.
    (inner.request.safe, inner.request.idempotent) = (true, true);
    inner.path.clear();
    inner.path.push_str(inner.request.raw_path());
    true
}

/// A field that asks for the answer in another form, or for none: it is about the answer to the client.
fn is_of_answer(name: &[u8]) -> bool {
    let begins = name.get(..3).is_some_and(|begin| begin.eq_ignore_ascii_case(b"if-"));
    begins || [&b"range"[..], b"accept-encoding"].iter().any(|other| name.eq_ignore_ascii_case(other))
}

/// Where the request goes, as the client said it: with the port for CONNECT, whose target it is and whose `Host` may lack it.
fn authority(request: &RequestHead) -> &[u8] {
    if request.is_connect && !request.is_extended {
        return request.target().as_bytes();
    }
    request.head.known(FieldId::Host).unwrap_or(request.host.as_bytes())
}

/// A field by which the service is told of the request: never a client's own.
fn is_own(name: &[u8]) -> bool {
    [METHOD, URI, PARTIAL].iter().any(|own| is_named(name, own))
}

/// A field of this name, with `-` or `_`.
fn is_named(name: &[u8], wanted: &[u8]) -> bool {
    let plain = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    name.iter().map(plain).eq(wanted.iter().copied())
}

/// Gives the client what the service told it. The record has been written when this returns.
pub async fn tell<D: Downstream>(connection: &mut Connection<D>, ws: &mut Workspace, told: &Told) -> After {
    let worker = Rc::clone(&connection.worker);
    let keep = may_keep(&worker, ws);
    let code = Cause::AuthorizerRefused.at(ws.trace.phase).code();
    let mut fields = vec![("X-Router-Error", code)];
    // Where the route has CORS, its own words count.
    let kept = told.fields.iter().filter(|(name, _)| !(ws.cors.is_on() && is_cors(name.as_bytes())));
    fields.extend(kept.map(|(name, value)| (name.as_str(), value.as_str())));
    let answer =
        Answer { status: told.status, fields: &fields, content_type: &told.content_type, body: &told.body };
    let written = match write_answer(connection, ws, &answer, keep) {
        Ok(()) => flush(connection, ws, true).await,
        Err(cause) => Err(cause),
    };
    trace::end(&worker, ws, written.err().unwrap_or(Cause::AuthorizerRefused));
    match (written, keep) {
        (Ok(()), true) => After::Keep,
        (Ok(()), false) => After::Linger,
        (Err(_), _) => After::Close,
    }
}

/// The router as a client: keeps an answer, sends nothing behind its head, never goes away.
#[derive(Debug, Default)]
struct Asker {
    session: Option<Arc<Session>>,
    status: u16,
    fields: Vec<(Vec<u8>, Vec<u8>)>,
    body: Vec<u8>,
    overflowed: bool,
    is_whole: bool,
    /// What is left to be sent of the question's body.
    unsent: Vec<u8>,
    trailers: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Asker {
    fn all(&self, name: &[u8]) -> impl Iterator<Item = &[u8]> {
        self.fields
            .iter()
            .filter(move |(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| &**value)
    }

    /// The answer without what belongs to its own connection. A body that is too long, or no text, is left out.
    fn told(self) -> Told {
        let content_type =
            self.all(b"content-type").next().map(|value| String::from_utf8_lossy(value).into_owned());
        let is_own = |name: &[u8]| {
            let id = FieldId::of(name);
            id.is_hop_by_hop()
                || matches!(
                    id,
                    FieldId::ContentLength
                        | FieldId::ContentType
                        | FieldId::XRouterError
                        | FieldId::XRouterLoad
                        | FieldId::ProxyStatus
                )
                || [&b"date"[..], b"server", b"content-encoding"]
                    .iter()
                    .any(|own| name.eq_ignore_ascii_case(own))
        };
        let is_packed = self.all(b"content-encoding").next().is_some();
        let kept = self.fields.iter().filter(|(name, _)| !is_own(name));
        let fields = kept.filter_map(|(name, value)| {
            Some((String::from_utf8(name.clone()).ok()?, String::from_utf8(value.clone()).ok()?))
        });
        Told {
            status: self.status,
            fields: fields.collect(),
            content_type: content_type.unwrap_or_else(|| "text/plain; charset=utf-8".to_owned()),
            body: if self.overflowed || is_packed {
                String::new()
            } else {
                String::from_utf8(self.body).unwrap_or_default()
            },
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        if self.overflowed || self.body.len() + bytes.len() > BODY_MAX {
            self.overflowed = true;
            self.body = Vec::new();
        } else {
            self.body.extend_from_slice(bytes);
        }
    }
}

impl Downstream for Asker {
    const IS_STREAM: bool = false;

    fn poll_read(&mut self, _: &mut Context<'_>, buffer: &mut Buffer) -> Poll<io::Result<usize>> {
        let count = buffer.put(&self.unsent);
        self.unsent.drain(..count);
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
        self.fields.clear();
    }

    fn field(&mut self, _: &mut Out, name: &[u8], value: &[u8]) {
        self.fields.push((name.to_vec(), value.to_vec()));
    }

    fn end_head(&mut self, _: &mut Out, _: HeadKind) -> Result<u64, Cause> {
        Ok(0)
    }

    fn trailers(
        &mut self,
        _: &mut Out,
        each: impl FnOnce(&mut dyn FnMut(&[u8], &[u8])) -> Result<(), Cause>,
    ) -> Result<(), Cause> {
        each(&mut |name, value| self.trailers.push((name.to_vec(), value.to_vec())))
    }

    fn poll_end(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn finish(&mut self) -> Result<(), Cause> {
        self.is_whole = true;
        Ok(())
    }
}
