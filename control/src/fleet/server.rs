//! Control's end of the links: accepts routers, finds out who they are, gives each its session. A busy address is loud and tried
//! again; nothing here is on the way of a request.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::{Duration, Instant};

use ekiden_config::model::{Address, Fleet as Words, San, TrustSources};
use h2::server::{self, SendResponse};
use hyper::body::Bytes;
use hyper::{Method, Request, Response, StatusCode};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Mutex, Notify, Semaphore, watch};
use tokio::time::{sleep, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;

use super::Fleet;
use super::secure::{Files, Settings, identity};
use super::session::{Peer, serve as serve_router};
use crate::api::listen::{Accepting, Listening};
use crate::plane::stopped;

/// Where routers connect unless the file says otherwise.
pub(crate) const LISTEN_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9903);
/// The one path of the link.
pub(super) const PATH: &str = "/v1/link";
/// Links at once; further ones are turned away.
const LINKS_MAX: usize = 10_000;
/// Routers that wait to be accepted: after a takeover all of them come at once.
const WAITING_MAX: i32 = 10_000;
/// Connections that have not said who they are; of further ones the oldest is turned away.
const STRANGERS_MAX: usize = 2_048;
/// Longest time until a router has said who it is, from its first byte on.
const HELLO_MAX: Duration = Duration::from_secs(10);
/// Time between two tries to bind a busy address.
const BIND_AGAIN: Duration = Duration::from_secs(1);
/// Time that links get to say farewell when control ends.
const LINGER: Duration = Duration::from_millis(500);
/// What a router may send before it is read, in bytes.
const WINDOW: u32 = 1 << 20;

/// How the link is served.
#[derive(Debug)]
pub(crate) struct Link {
    address: Address,
    secure: Option<Mutex<Settings<ServerConfig>>>,
    routers: Vec<San>,
}

impl Link {
    /// As the process file says.
    pub(crate) fn new(words: &Words, trust: &TrustSources, base: &Path) -> Self {
        let address = words.listen.clone().unwrap_or(Address::Tcp(LISTEN_DEFAULT));
        let secure = Files::of(words, trust, base).map(|files| Mutex::new(Settings::new(files)));
        Self { address, secure, routers: words.routers.clone() }
    }

    /// Reads the certificates once, so that a start without them fails.
    pub(crate) fn check(&mut self) -> Result<(), String> {
        match &mut self.secure {
            Some(secure) => secure.get_mut().server().map(drop),
            None => Ok(()),
        }
    }
}

/// Serves routers until told to stop. `bound` gets the real address.
pub(crate) async fn serve(
    fleet: Fleet,
    link: Link,
    bound: watch::Sender<Option<Address>>,
    mut stop: watch::Receiver<bool>,
) {
    let link = Arc::new(link);
    let links = Arc::new(Semaphore::new(LINKS_MAX));
    loop {
        match Listening::bind_for(&link.address, WAITING_MAX) {
            Ok(listening) => {
                tracing::info!(address = %listening.address(), tls = link.secure.is_some(), "routers may connect");
                bound.send_replace(Some(listening.address().clone()));
                accept(&fleet, &link, listening, &links, &mut stop).await;
                break;
            }
            Err(error) => {
                let address = &link.address;
                tracing::error!(%address, %error, "routers cannot connect; it is tried again, and they serve on");
                bound.send_replace(None);
            }
        }
        tokio::select! {
            () = stopped(&mut stop) => break,
            () = sleep(BIND_AGAIN) => {}
        }
    }
    let all = u32::try_from(LINKS_MAX).unwrap_or(u32::MAX);
    let _ = timeout(LINGER, links.acquire_many(all)).await;
}

async fn accept(
    fleet: &Fleet,
    link: &Arc<Link>,
    mut listening: Listening,
    links: &Arc<Semaphore>,
    stop: &mut watch::Receiver<bool>,
) {
    let strangers = Strangers::default();
    loop {
        let stream = tokio::select! {
            () = stopped(stop) => return,
            accepted = listening.accept() => accepted,
        };
        let (fleet, link, stop) = (fleet.clone(), Arc::clone(link), stop.clone());
        let (stranger, pushed_out) = strangers.enter();
        let until = tokio::time::Instant::now() + HELLO_MAX;
        let entry = Entry { stranger, until, links: Arc::clone(links), stop };
        match stream {
            Ok(stream) => drop(tokio::spawn(async move {
                let from = match &stream {
                    Accepting::Tcp(stream) => {
                        stream.peer_addr().map_or_else(|_| "unknown".to_owned(), |peer| peer.to_string())
                    }
                    Accepting::Unix(_) => "unix".to_owned(),
                };
                let served = async {
                    match stream {
                        Accepting::Tcp(stream) => known(&fleet, &link, stream, &from, entry).await,
                        Accepting::Unix(stream) => known(&fleet, &link, stream, &from, entry).await,
                    }
                };
                let ended = tokio::select! {
                    ended = served => ended,
                    () = pushed_out.notified() => Err("others came before it had said who it is".to_owned()),
                };
                if let Err(why) = ended
                    && fleet.roster().turned_away(Instant::now())
                {
                    tracing::warn!(%from, %why, "a router was turned away");
                }
            })),
            Err(error) => {
                tracing::warn!(%error, "a router could not be accepted");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Connections that have not said who they are, in order of their coming. Nobody waits for a place among them: who opens many and
/// says nothing turns his own away.
#[derive(Debug, Clone, Default)]
struct Strangers(Arc<StdMutex<Held>>);

#[derive(Debug, Default)]
struct Held {
    /// How many came so far.
    count: u64,
    /// Who is still there, by number, and what tells him to leave.
    there: BTreeMap<u64, Arc<Notify>>,
}

/// One of them; it is none any more once this is dropped.
pub(super) struct Stranger(Strangers, u64);

impl Strangers {
    /// One more, and what tells it that it must leave.
    fn enter(&self) -> (Stranger, Arc<Notify>) {
        let pushed_out = Arc::new(Notify::new());
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.count += 1;
        let number = held.count;
        held.there.insert(number, Arc::clone(&pushed_out));
        if held.there.len() > STRANGERS_MAX
            && let Some((_, oldest)) = held.there.pop_first()
        {
            oldest.notify_one();
        }
        drop(held);
        (Stranger(self.clone(), number), pushed_out)
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).there.remove(&self.1);
    }
}

/// What a connection holds until it has said who it is, and what it needs then.
pub(super) struct Entry {
    /// Dropped once it is known who it is.
    pub(super) stranger: Stranger,
    /// When it must have said that.
    pub(super) until: tokio::time::Instant,
    /// Each link has one.
    pub(super) links: Arc<Semaphore>,
    /// Ends everything.
    pub(super) stop: watch::Receiver<bool>,
}

/// Finds out who it is.
async fn known(
    fleet: &Fleet,
    link: &Link,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    from: &str,
    entry: Entry,
) -> Result<(), String> {
    let Some(secure) = &link.secure else {
        return speak(fleet, stream, Peer { from: from.to_owned(), identity: None }, entry).await;
    };
    let settings = secure.lock().await.server()?;
    let shaken = timeout_at(entry.until, TlsAcceptor::from(settings).accept(stream)).await;
    let stream = shaken.map_err(|_| "its handshake took too long")?.map_err(|error| error.to_string())?;
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let certificate = certificates.first().ok_or("it shows no certificate")?;
    let name = identity(certificate, &link.routers)?;
    speak(fleet, stream, Peer { from: from.to_owned(), identity: Some(name) }, entry).await
}

/// One connection, which carries one stream.
async fn speak(
    fleet: &Fleet,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    entry: Entry,
) -> Result<(), String> {
    let mut builder = server::Builder::new();
    builder
        .max_concurrent_streams(1)
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_header_list_size(16 << 10);
    let connection = timeout_at(entry.until, async {
        let mut connection = builder.handshake::<_, Bytes>(stream).await?;
        let first = connection.accept().await;
        Ok::<_, h2::Error>((connection, first))
    });
    let (mut connection, first) =
        connection.await.map_err(|_| "it asked for nothing")?.map_err(|error| error.to_string())?;
    let Some(first) = first else { return Err("it left".to_owned()) };
    let (request, respond) = first.map_err(|error| error.to_string())?;
    let respond = opened(&request, respond)?;
    let mut session = std::pin::pin!(serve_router(fleet, request.into_body(), respond, peer, entry));
    let ended = loop {
        tokio::select! {
            ended = session.as_mut() => break ended,
            // Drives the stream; a second one is refused.
            next = connection.accept() => match next {
                Some(Ok((_, mut respond))) => respond.send_reset(h2::Reason::REFUSED_STREAM),
                // The stream says it too; the session ends by that.
                Some(Err(_)) | None => break session.as_mut().await,
            },
        }
    };
    connection.graceful_shutdown();
    // The farewell gets its time, unless the other side does not read.
    let _ = timeout(LINGER, async { while connection.accept().await.is_some() {} }).await;
    ended
}

fn opened(
    request: &Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
) -> Result<h2::SendStream<Bytes>, String> {
    let mut head = Response::new(());
    if request.uri().path() != PATH || request.method() != Method::POST {
        *head.status_mut() = StatusCode::NOT_FOUND;
        // It may be gone already.
        let _ = respond.send_response(head, true);
        return Err(format!("it asked for {} {}", request.method(), request.uri().path()));
    }
    respond.send_response(head, false).map_err(|error| error.to_string())
}

/// The directory that relative paths of a process file go by.
pub(crate) fn base_of(file: &Path) -> PathBuf {
    file.parent().unwrap_or_else(|| Path::new("")).to_owned()
}

#[cfg(test)]
mod storm;
#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn of_too_many_strangers_the_oldest_leaves_and_who_is_known_stays() {
        let strangers = Strangers::default();
        let (known, told) = strangers.enter();
        drop(known);
        let mut all: Vec<_> = (0..STRANGERS_MAX).map(|_| strangers.enter()).collect();
        let left = |told: &Notify| futures_now(told.notified());
        assert!(!all.iter().any(|(_, told)| left(told)), "there is a place for each");
        all.push(strangers.enter());
        assert!(left(&all[0].1) && !all[1..].iter().any(|(_, told)| left(told)));
        assert!(!left(&told), "it is no stranger any more");
        drop(all);
        assert!(strangers.0.lock().unwrap().there.is_empty());
    }

    /// Whether a future is ready at once.
    fn futures_now(future: impl Future<Output = ()>) -> bool {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        std::pin::pin!(future).poll(&mut context).is_ready()
    }
}
