//! Control's end of the links: accepts routers, finds out who they are, gives each its session. A busy address is loud and tried
//! again; nothing here is on the way of a request.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ekiden_config::model::{Address, Fleet as Words, San, TrustSources};
use h2::server::{self, SendResponse};
use hyper::body::Bytes;
use hyper::{Method, Request, Response, StatusCode};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};
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
/// Connections that have not said who they are; further ones wait to be accepted.
const STRANGERS_MAX: usize = 256;
/// Longest time until a router has said who it is.
pub(super) const HELLO_MAX: Duration = Duration::from_secs(10);
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
        match Listening::bind(&link.address) {
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
    let strangers = Arc::new(Semaphore::new(STRANGERS_MAX));
    loop {
        let permit = Arc::clone(&strangers).acquire_owned();
        let accepted = async {
            let permit = permit.await;
            (permit, listening.accept().await)
        };
        let (permit, stream) = tokio::select! {
            () = stopped(stop) => return,
            accepted = accepted => accepted,
        };
        let (fleet, link, stop) = (fleet.clone(), Arc::clone(link), stop.clone());
        let entry = Entry { stranger: permit.ok(), links: Arc::clone(links), stop };
        match stream {
            Ok(stream) => drop(tokio::spawn(async move {
                let from = match &stream {
                    Accepting::Tcp(stream) => {
                        stream.peer_addr().map_or_else(|_| "unknown".to_owned(), |peer| peer.to_string())
                    }
                    Accepting::Unix(_) => "unix".to_owned(),
                };
                let ended = match stream {
                    Accepting::Tcp(stream) => known(&fleet, &link, stream, &from, entry).await,
                    Accepting::Unix(stream) => known(&fleet, &link, stream, &from, entry).await,
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

/// What a connection holds until it has said who it is, and what it needs then.
pub(super) struct Entry {
    /// Given back once it is known who it is.
    pub(super) stranger: Option<OwnedSemaphorePermit>,
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
    let shaken = timeout(HELLO_MAX, TlsAcceptor::from(settings).accept(stream)).await;
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
    let connection = timeout(HELLO_MAX, async {
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
