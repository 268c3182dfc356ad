//! The telemetry server: GET and HEAD over HTTP/1.1 on one address, on a thread of its own. A busy address is loud
//! and tried again; it never stops traffic.

use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use ekiden_config::model::Address;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, oneshot};

use super::{SERIES_MAX, Sources, State, collect, health};

/// Connections served at once; more wait in the backlog of the socket.
const CONNECTIONS_MAX: usize = 64;
/// Longest wait for a request head, idle time between requests included.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest life of a connection; bounds a client that does not read.
const CONNECTION_MAX: Duration = Duration::from_secs(300);
/// Pause before a busy address is tried again, and after a failed accept.
const BUSY_PAUSE: Duration = Duration::from_secs(1);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const TEXT: &str = "text/plain; charset=utf-8";
const INDEX: &str = "Ekiden telemetry\n\n/metrics  Prometheus text format\n/livez    200 while the workers run\n\
    /readyz   200 when traffic may be sent here; ?verbose lists the checks\n";

/// Holds the telemetry thread. Dropping it ends the server.
#[derive(Debug)]
pub struct Telemetry {
    bound: Arc<Mutex<Option<Address>>>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

enum Socket {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

impl Telemetry {
    /// Binds the address and serves it. Fails only when no thread can be made: when the address cannot be bound, that
    /// is said in the log, and it is tried again every second.
    pub fn start(address: Address, sources: Sources) -> io::Result<Self> {
        Self::start_with(address, sources, SERIES_MAX)
    }

    /// As [`Telemetry::start`], with another bound on the label sets of a family.
    pub fn start_with(address: Address, sources: Sources, series_max: usize) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let state = Arc::new(State::new(sources, series_max));
        let bound = Arc::new(Mutex::new(None));
        // The first try is made here, so that after start the address answers or the log says why not.
        let first = bind(&address);
        note(&bound, &address, &first);
        let (end, ended) = oneshot::channel::<()>();
        let place = bound.clone();
        let thread = std::thread::Builder::new().name("ekiden-telemetry".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = ended => {}
                    never = serve(&address, first, &place, state) => match never {},
                }
            });
            unlink(&place);
        })?;
        Ok(Self { bound, end: Some(end), thread: Some(thread) })
    }

    /// Where it listens now, with the port the system chose; none while the address is busy.
    pub fn bound(&self) -> Option<Address> {
        self.bound.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the server, cutting its connections. Called last, so that the end itself can be watched.
    pub fn stop(mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Binds without SO_REUSEPORT, so that a second process is told that the address is taken.
fn bind(address: &Address) -> io::Result<Socket> {
    match address {
        Address::Tcp(address) => {
            let listener = std::net::TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            Ok(Socket::Tcp(listener))
        }
        Address::Unix(path) => {
            let listener = match std::os::unix::net::UnixListener::bind(&**path) {
                // A socket nobody answers on was left behind by a process that is gone.
                Err(error) if error.kind() == ErrorKind::AddrInUse && is_abandoned(path) => {
                    std::fs::remove_file(&**path)?;
                    std::os::unix::net::UnixListener::bind(&**path)?
                }
                result => result?,
            };
            listener.set_nonblocking(true)?;
            Ok(Socket::Unix(listener))
        }
    }
}

fn is_abandoned(path: &str) -> bool {
    std::os::unix::net::UnixStream::connect(path)
        .is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

fn note(bound: &Mutex<Option<Address>>, asked: &Address, result: &io::Result<Socket>) {
    let at = match result {
        Ok(Socket::Tcp(listener)) => listener.local_addr().map(Address::Tcp),
        Ok(Socket::Unix(_)) => Ok(asked.clone()),
        Err(error) => {
            tracing::error!(
                address = %asked, %error,
                "the telemetry address cannot be bound: no metrics and no readiness until it can; traffic goes on"
            );
            return;
        }
    };
    if let Ok(at) = at {
        tracing::info!(address = %at, "telemetry is served");
        *bound.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
    }
}

fn unlink(bound: &Mutex<Option<Address>>) {
    if let Some(Address::Unix(path)) = &*bound.lock().unwrap_or_else(PoisonError::into_inner) {
        let _ = std::fs::remove_file(&**path);
    }
}

async fn serve(
    address: &Address,
    first: io::Result<Socket>,
    bound: &Mutex<Option<Address>>,
    state: Arc<State>,
) -> Infallible {
    let mut next = first.ok();
    let socket = loop {
        match next.take() {
            Some(socket) => break socket,
            None => {
                tokio::time::sleep(BUSY_PAUSE).await;
                next = bind(address).ok();
                if let Some(socket) = next.take() {
                    let socket = Ok(socket);
                    note(bound, address, &socket);
                    next = socket.ok();
                }
            }
        }
    };
    let listener = match socket {
        Socket::Tcp(listener) => TcpListener::from_std(listener).map(Listener::Tcp),
        Socket::Unix(listener) => UnixListener::from_std(listener).map(Listener::Unix),
    };
    match listener {
        Ok(listener) => accept(listener, state).await,
        Err(error) => {
            tracing::error!(%error, "the telemetry socket cannot be watched; telemetry is off");
            std::future::pending().await
        }
    }
}

async fn accept(listener: Listener, state: Arc<State>) -> Infallible {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return std::future::pending().await };
        let state = state.clone();
        let taken = match &listener {
            Listener::Tcp(listener) => listener.accept().await.map(|(stream, _)| {
                let connection = connection(stream, state);
                tokio::spawn(async move { (connection.await, place) })
            }),
            Listener::Unix(listener) => listener.accept().await.map(|(stream, _)| {
                let connection = connection(stream, state);
                tokio::spawn(async move { (connection.await, place) })
            }),
        };
        // No descriptors left, or a client that went away: neither is worth more than a pause.
        if taken.is_err() {
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }
}

async fn connection<S>(stream: S, state: Arc<State>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let response = respond(&state, &request);
        async move { Ok::<_, Infallible>(response) }
    });
    let serving = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(16 << 10)
        .serve_connection(TokioIo::new(stream), service);
    // An error is the client's: it went away, or spoke something else.
    let _ = tokio::time::timeout(CONNECTION_MAX, serving).await;
}

fn respond(state: &State, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = plain(405, "only GET and HEAD are answered here\n".to_owned());
        response.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let verbose = request
        .uri()
        .query()
        .is_some_and(|query| query.split('&').any(|pair| pair == "verbose" || pair.starts_with("verbose=")));
    match request.uri().path() {
        "/" => plain(200, INDEX.to_owned()),
        "/livez" => checked(health::live(state, verbose)),
        "/readyz" => checked(health::ready(state, verbose)),
        "/metrics" => match collect::text(state) {
            Ok(text) => typed(200, text, prometheus::TEXT_FORMAT),
            Err(error) => plain(500, format!("the metrics cannot be written: {error}\n")),
        },
        _ => plain(404, format!("no such page\n\n{INDEX}")),
    }
}

fn checked((status, body): (u16, String)) -> Response<Full<Bytes>> {
    plain(status, body)
}

fn plain(status: u16, body: String) -> Response<Full<Bytes>> {
    typed(status, body, TEXT)
}

fn typed(status: u16, body: String, kind: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, hyper::header::HeaderValue::from_static("no-store"));
    response
}
