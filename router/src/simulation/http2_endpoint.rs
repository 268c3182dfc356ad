//! An endpoint that speaks HTTP/2, or the authorizer of gRPC: takes connections, reads requests that come at once, answers each in one
//! of many ways, and can be told to fail.
//!
//! One task polls its door, its connections and their requests, so that dropping it is its end. Frames are the codec's (`h2`): what is
//! malformed in them is not simulated.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use fastrand::Rng;
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

use super::client::size;
use super::message::{self, Message};
use super::verdicts::Verdicts;
use super::world::Fault;

type Job = Pin<Box<dyn Future<Output = ()>>>;

#[derive(Debug)]
struct State {
    /// It is asked whether requests are let in, and serves none.
    judges: bool,
    verdicts: Rc<Verdicts>,
    /// It fails of itself now and then.
    faulty: bool,
    stalled: Cell<bool>,
    /// Connections are closed as soon as they are taken.
    refuses: Cell<bool>,
    /// What one of its connections is to do.
    fault: Cell<Option<Fault>>,
    rng: RefCell<Rng>,
    wrong: RefCell<Option<String>>,
    /// Requests that it has answered whole.
    answered: Cell<u64>,
    waker: RefCell<Option<Waker>>,
}

/// An endpoint and its connections.
#[derive(Debug)]
pub(super) struct Http2Endpoint {
    path: PathBuf,
    state: Rc<State>,
    task: JoinHandle<()>,
}

impl Drop for Http2Endpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Http2Endpoint {
    /// One on a unix socket. Called inside the runtime.
    pub(super) fn start(
        path: &Path,
        rng: &mut Rng,
        (judges, faulty): (bool, bool),
        verdicts: &Rc<Verdicts>,
    ) -> Self {
        let state = Rc::new(State {
            judges,
            verdicts: Rc::clone(verdicts),
            faulty,
            stalled: Cell::default(),
            refuses: Cell::default(),
            fault: Cell::default(),
            rng: RefCell::new(Rng::with_seed(rng.u64(..))),
            wrong: RefCell::default(),
            answered: Cell::default(),
            waker: RefCell::default(),
        });
        let listener = UnixListener::bind(path).unwrap();
        let task = tokio::task::spawn_local(run(listener, Rc::clone(&state)));
        Self { path: path.to_owned(), state, task }
    }

    /// The address as a table says it.
    pub(super) fn address(&self) -> String {
        format!("unix:{}", self.path.display())
    }

    /// Has a fault of an endpoint; false where it is none.
    pub(super) fn fail(&self, fault: Fault) -> bool {
        match fault {
            Fault::EndpointLost | Fault::EndpointReset | Fault::EndpointHalfCloses => {
                self.state.fault.set(Some(fault));
            }
            Fault::EndpointStalls => self.state.stalled.set(!self.state.stalled.get()),
            Fault::EndpointRefuses => self.state.refuses.set(!self.state.refuses.get()),
            _ => return false,
        }
        self.state.waker.borrow().iter().for_each(Waker::wake_by_ref);
        true
    }

    /// Requests that it has answered whole, and whether as the authorizer.
    pub(super) fn answered(&self) -> (u64, bool) {
        (self.state.answered.get(), self.state.judges)
    }

    /// What it was sent that nobody may send.
    pub(super) fn judge(&self) -> Result<(), String> {
        self.state.wrong.borrow_mut().take().map_or(Ok(()), Err)
    }
}

async fn run(listener: UnixListener, state: Rc<State>) {
    let mut jobs: Vec<Job> = Vec::new();
    poll_fn(|cx| {
        state.waker.replace(Some(cx.waker().clone()));
        if state.stalled.get() {
            return Poll::Pending;
        }
        while let Poll::Ready(Ok((socket, _))) = listener.poll_accept(cx) {
            if !state.refuses.get() {
                jobs.push(Box::pin(serve(socket, Rc::clone(&state))));
            }
        }
        jobs.retain_mut(|job| job.as_mut().poll(cx).is_pending());
        Poll::Pending
    })
    .await
}

/// One connection, to its end.
async fn serve(socket: UnixStream, state: Rc<State>) {
    let mut settings = h2::server::Builder::new();
    {
        let mut rng = state.rng.borrow_mut();
        // Fewer streams than there may be requests, and windows that bodies do not fit in.
        settings.max_concurrent_streams(rng.u32(1..8)).initial_window_size(rng.u32(1_000..100_000));
    }
    let Ok(mut connection) = settings.handshake(socket).await else { return };
    let mut jobs: Vec<Job> = Vec::new();
    poll_fn(|cx| {
        match state.fault.take() {
            Some(Fault::EndpointLost) => return Poll::Ready(()),
            Some(Fault::EndpointReset) => connection.abrupt_shutdown(Reason::INTERNAL_ERROR),
            Some(_) => connection.graceful_shutdown(),
            None => {}
        }
        let ended = take_requests(cx, &mut connection, &mut jobs, &state);
        jobs.retain_mut(|job| job.as_mut().poll(cx).is_pending());
        // What they have written goes out by another poll of the connection.
        let ended = ended || take_requests(cx, &mut connection, &mut jobs, &state);
        if ended { Poll::Ready(()) } else { Poll::Pending }
    })
    .await
}

/// Takes the requests that have come; tells whether the connection is over.
fn take_requests(
    cx: &mut Context<'_>,
    connection: &mut Connection<UnixStream, Bytes>,
    jobs: &mut Vec<Job>,
    state: &Rc<State>,
) -> bool {
    while let Poll::Ready(came) = connection.poll_accept(cx) {
        let Some(Ok((request, respond))) = came else { return true };
        let state = Rc::clone(state);
        jobs.push(Box::pin(async move {
            if let Err(wrong) = take(request, respond, &state).await {
                state.wrong.borrow_mut().get_or_insert(format!("at the endpoint of HTTP/2: {wrong}"));
            }
        }));
        cx.waker().wake_by_ref();
    }
    false
}

/// Reads a request, checks that it is one that a client sent, and answers it.
async fn take(
    request: http::Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    state: &State,
) -> Result<(), String> {
    let mut rng = Rng::with_seed(state.rng.borrow_mut().u64(..));
    let (head, mut body) = request.into_parts();
    if state.faulty && rng.u8(..15) == 0 {
        let reasons =
            [Reason::REFUSED_STREAM, Reason::INTERNAL_ERROR, Reason::CANCEL, Reason::ENHANCE_YOUR_CALM];
        respond.send_reset(reasons.get(rng.usize(..4)).copied().unwrap_or(Reason::CANCEL));
        return Ok(());
    }
    let mut request = message_of(&head);
    if request.field("expect").is_some() && rng.bool() {
        let _lost = respond.send_informational(Response::builder().status(100).body(()).unwrap());
    }
    // The answer may come before the request has, and the rest of it is not wanted then. A question is read first.
    let early = state.faulty && !state.judges && rng.u8(..20) == 0;
    while !early && let Some(piece) = body.data().await {
        let Ok(piece) = piece else { return Ok(()) };
        request.body.extend_from_slice(&piece);
        wait(&mut rng).await;
        let _lost = body.flow_control().release_capacity(piece.len());
    }
    if !early && body.trailers().await.is_err() {
        return Ok(());
    }
    if state.judges {
        return rule(&request, respond, rng, state).await;
    }
    state.verdicts.judge(&request)?;
    let tag = request.path().rsplit('/').next().unwrap_or("").to_owned();
    if !tag.starts_with('c') || request.field("host") != Some("sim.test") {
        return Err(format!("nobody sent {:?}", request.head));
    }
    if request.body != message::body(&tag, request.body.len()) {
        return Err(format!("the body of {tag} is of another"));
    }
    answer(&tag, head.method == http::Method::HEAD, respond, rng, state).await;
    Ok(())
}

/// A few turns of the runtime, or none.
async fn wait(rng: &mut Rng) {
    for _ in 0..rng.u8(..3) {
        tokio::task::yield_now().await;
    }
}

/// A head as text, for those who read that.
fn message_of(head: &http::request::Parts) -> Message {
    let host = head.uri.authority().map_or("", |authority| authority.as_str());
    let mut text = format!("{} {} HTTP/2\r\nhost: {host}\r\n", head.method, head.uri.path());
    for (name, value) in &head.headers {
        text.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap_or("")));
    }
    Message { head: text, body: Vec::new(), whole: true, length: 0 }
}

async fn answer(tag: &str, is_head: bool, mut respond: SendResponse<Bytes>, mut rng: Rng, state: &State) {
    let faulty = state.faulty;
    if rng.u8(..10) == 0 {
        let hints = Response::builder().status(103).header("link", "</a>").body(());
        let _lost = respond.send_informational(hints.unwrap());
    }
    let status = match rng.u8(..20) {
        0 => 204,
        1 if faulty => 503,
        2 => 404,
        _ => 200,
    };
    let body = if is_head || status == 204 { Vec::new() } else { message::body(tag, size(&mut rng)) };
    let mut head = Response::builder().status(status).header("x-tag", tag);
    if !body.is_empty() && rng.bool() {
        head = head.header("content-length", body.len());
    }
    let ends = body.is_empty() && rng.bool();
    let Ok(mut stream) = respond.send_response(head.body(()).unwrap(), ends) else { return };
    if ends {
        state.answered.set(state.answered.get() + 1);
        return;
    }
    let breaks = (faulty && rng.u8(..12) == 0).then(|| rng.usize(..=body.len()));
    if !send(&mut stream, &body, &mut rng, breaks).await {
        return;
    }
    state.answered.set(state.answered.get() + 1);
    if rng.bool() {
        let _lost = stream.send_data(Bytes::new(), true);
    } else {
        let trailers = [(HeaderName::from_static("x-end"), HeaderValue::from_static("yes"))];
        let _lost = stream.send_trailers(HeaderMap::from_iter(trailers));
    }
}

/// Sends a body as its windows go, or breaks it off after so many bytes; tells whether all of it went.
async fn send(stream: &mut SendStream<Bytes>, body: &[u8], rng: &mut Rng, breaks: Option<usize>) -> bool {
    let mut sent = 0;
    while sent < breaks.unwrap_or(body.len()) {
        stream.reserve_capacity(rng.usize(1..20_000));
        let Some(Ok(room)) = poll_fn(|cx| stream.poll_capacity(cx)).await else { return false };
        let most = breaks.unwrap_or(body.len()).min(sent + room);
        let piece = Bytes::copy_from_slice(body.get(sent..most).unwrap_or(&[]));
        sent = most;
        if stream.send_data(piece, false).is_err() {
            return false;
        }
        wait(rng).await;
    }
    if breaks.is_some() {
        match rng.u8(..3) {
            0 => stream.send_reset(Reason::INTERNAL_ERROR),
            1 => stream.send_reset(Reason::NO_ERROR),
            // It says nothing more, until it is told that nobody listens.
            _ => drop(poll_fn(|cx| stream.poll_reset(cx)).await),
        }
        return false;
    }
    true
}

/// Says whether a request is let in, or fails to.
async fn rule(
    question: &Message,
    mut respond: SendResponse<Bytes>,
    mut rng: Rng,
    state: &State,
) -> Result<(), String> {
    let tag = Verdicts::call(question)?;
    let (mut status, mut stands) = ("0", true);
    let said = match rng.u8(..10) {
        0 => denied(401, &tag),
        1 => denied(403, &tag),
        // It says nothing, or less than it says that it does, or no word of the protocol.
        2 if state.faulty => Vec::new(),
        3 if state.faulty => vec![0, 0, 0, 0, 9, 0],
        4 if state.faulty => vec![0, 0, 0, 0, 1, 0xff],
        5 if state.faulty => {
            status = "14";
            Vec::new()
        }
        6 if state.faulty => {
            stands = false;
            allowed(&tag)
        }
        _ => {
            state.verdicts.allow(&tag);
            allowed(&tag)
        }
    };
    let head = Response::builder().status(200).header("content-type", "application/grpc");
    let Ok(mut stream) = respond.send_response(head.body(()).unwrap(), false) else { return Ok(()) };
    let breaks = (state.faulty && rng.u8(..8) == 0).then(|| rng.usize(..=said.len()));
    if !send(&mut stream, &said, &mut rng, breaks).await {
        return Ok(());
    }
    state.answered.set(state.answered.get() + 1);
    if stands {
        let trailers = [(HeaderName::from_static("grpc-status"), HeaderValue::from_static(status))];
        let _lost = stream.send_trailers(HeaderMap::from_iter(trailers));
    } else {
        // A call that ends without a status is none that has succeeded.
        let _lost = stream.send_data(Bytes::new(), true);
    }
    Ok(())
}

/// A field of a message that is bytes, text or a message; none here is longer than 127 bytes.
fn part(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, u8::try_from(bytes.len()).unwrap()], bytes].concat()
}

/// A `HeaderValueOption`.
fn header(name: &str, value: &str) -> Vec<u8> {
    part(1, &[part(1, name.as_bytes()), part(2, value.as_bytes())].concat())
}

fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0], &length[..], message].concat()
}

/// A `CheckResponse` that lets the request in.
fn allowed(tag: &str) -> Vec<u8> {
    framed(&[part(1, &[]), part(3, &part(2, &header("x-may", tag)))].concat())
}

/// A `CheckResponse` that does not, with a status below 512 for the client.
fn denied(status: u16, tag: &str) -> Vec<u8> {
    let number = vec![0x08, (status & 0x7f) as u8 | 0x80, (status >> 7) as u8];
    let told = [part(1, &number), part(2, &header("x-tag", tag)), part(3, &message::body(tag, 9))].concat();
    // PERMISSION_DENIED.
    framed(&[part(1, &[0x08, 7]), part(2, &told)].concat())
}
