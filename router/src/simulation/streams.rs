//! A client that speaks HTTP/2, in clear text or over TLS: a few requests at once on one connection, each read and checked by itself; some are taken back.
//!
//! One task polls the connection and all of its requests, so that dropping it is the client's end.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use fastrand::Rng;
use h2::client::SendRequest;
use h2::{Reason, RecvStream};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::client::{ROUTES, size};
use super::message;
use super::secure::HOST;
use super::world::Fault;

#[derive(Debug, Default)]
struct State {
    stalled: Cell<bool>,
    /// Requests that have not come to an end.
    left: Cell<usize>,
    over: Cell<bool>,
    wrong: RefCell<Option<String>>,
}

/// A client and its requests.
#[derive(Debug)]
pub(super) struct Streams {
    state: Rc<State>,
    task: JoinHandle<()>,
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Streams {
    pub(super) fn start(
        socket: UnixStream,
        tls: Option<Arc<ClientConfig>>,
        rng: &mut Rng,
        client: usize,
    ) -> Self {
        let state = Rc::new(State::default());
        let (count, rng) = (rng.usize(1..=5), Rng::with_seed(rng.u64(..)));
        state.left.set(count);
        let held = Rc::clone(&state);
        let task = tokio::task::spawn_local(async move {
            let Some(tls) = tls else { return run(socket, rng, client, held).await };
            let name = ServerName::try_from(HOST).unwrap();
            match TlsConnector::from(tls).connect(name, socket).await {
                Ok(socket) => run(socket, rng, client, held).await,
                Err(_) => held.over.set(true),
            }
        });
        Self { state, task }
    }

    /// Has a fault of a client; false where it is none.
    pub(super) fn fail(&self, fault: Fault) -> bool {
        match fault {
            Fault::ClientGone | Fault::ClientReset => self.task.abort(),
            Fault::ClientStalls => self.state.stalled.set(!self.state.stalled.get()),
            _ => return false,
        }
        true
    }

    /// Whether every request has come to an end.
    pub(super) fn is_done(&self) -> bool {
        self.state.left.get() == 0 || self.state.over.get() || self.task.is_finished()
    }

    /// What it was given that is not its own.
    pub(super) fn judge(&self) -> Result<(), String> {
        self.state.wrong.borrow_mut().take().map_or(Ok(()), Err)
    }
}

async fn run<S>(socket: S, mut rng: Rng, client: usize, state: Rc<State>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Ok((requests, connection)) = h2::client::handshake(socket).await else {
        state.over.set(true);
        return;
    };
    let mut connection = std::pin::pin!(connection);
    let mut asked: Vec<Pin<Box<dyn Future<Output = ()>>>> = Vec::new();
    for number in 0..state.left.get() {
        let (requests, rng, state) = (requests.clone(), Rng::with_seed(rng.u64(..)), Rc::clone(&state));
        asked.push(Box::pin(async move {
            let tag = format!("c{client}r{number}");
            if let Err(wrong) = ask(requests, rng, &tag, &state).await {
                state.wrong.borrow_mut().get_or_insert(format!("{tag}: {wrong}"));
            }
            state.left.set(state.left.get() - 1);
        }));
    }
    drop(requests);
    poll_fn(|cx| {
        asked.retain_mut(|request| request.as_mut().poll(cx).is_pending());
        let ended = connection.as_mut().poll(cx).is_ready();
        if ended && !asked.is_empty() {
            // Each of them is told by its own next poll.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if ended || asked.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    state.over.set(true);
}

/// One request. What is lost is no fault; what is another's is.
async fn ask(mut requests: SendRequest<Bytes>, mut rng: Rng, tag: &str, state: &State) -> Result<(), String> {
    poll_fn(|cx| requests.poll_ready(cx)).await.ok();
    let route = ROUTES.get(rng.usize(..ROUTES.len())).copied().unwrap_or("web");
    let has_body = rng.bool();
    let method = if has_body { "POST" } else { "GET" };
    let request = http::Request::builder().method(method).uri(format!("http://sim.test/{route}/{tag}"));
    // What the authorizer says, only it may say.
    let request = request.header("x-may", "forged");
    let Ok(request) = request.body(()) else { return Err("it cannot be asked".to_owned()) };
    let Ok((response, mut body)) = requests.send_request(request, !has_body) else { return Ok(()) };
    if has_body {
        let bytes = message::body(tag, size(&mut rng).min(60_000));
        for piece in bytes.chunks(rng.usize(1..20_000)) {
            // Few turns of the runtime between two frames.
            for _ in 0..rng.u8(..4) {
                tokio::task::yield_now().await;
            }
            if body.send_data(Bytes::copy_from_slice(piece), false).is_err() {
                break;
            }
        }
        if rng.u8(..10) == 0 {
            body.send_reset(Reason::CANCEL);
            return Ok(());
        }
        // The end may come alone.
        let _lost = body.send_data(Bytes::new(), true);
    }
    let Ok(response) = response.await else { return Ok(()) };
    let (head, mut body) = response.into_parts();
    let told = head.headers.get("x-tag").map(|value| value.to_str().unwrap_or("").to_owned());
    let made_here = head.headers.contains_key("x-router-error") || head.status == 200 || route == "fixed";
    if told.as_deref().is_some_and(|told| told != tag) {
        return Err(format!("got the response of {told:?}"));
    }
    if told.is_none() && !made_here {
        return Err(format!("nobody made {head:?}"));
    }
    read(&mut body, &mut rng, told.map(|_| tag), state).await
}

async fn read(body: &mut RecvStream, rng: &mut Rng, tag: Option<&str>, state: &State) -> Result<(), String> {
    let mut got = Vec::new();
    let stops = (rng.u8(..10) == 0).then(|| rng.usize(..20_000));
    while let Some(Ok(piece)) = body.data().await {
        got.extend_from_slice(&piece);
        if stops.is_some_and(|stops| got.len() > stops) {
            return Ok(());
        }
        while state.stalled.get() {
            tokio::task::yield_now().await;
        }
        let _lost = body.flow_control().release_capacity(piece.len());
    }
    match tag {
        Some(tag) if got != message::body(tag, got.len()) => Err("the body is of another".to_owned()),
        _ => Ok(()),
    }
}
