//! The control API: HTTP/1.1 on loopback TCP or on a unix socket, for people and programs on this machine.
//!
//! Accepts, bounds and closes connections; [`guard`] says who may ask, [`routes`] what may be asked, [`views`]
//! what is answered. A busy address is loud and tried again; it stops nothing.

mod body;
mod entrance;
mod guard;
mod limits;
mod listen;
mod overload;
mod routes;
mod shards;
mod views;

use std::convert::Infallible;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ekiden_config::doors::Inspect;
use ekiden_config::model::Address;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time;

use crate::plane::{Mutation, ReloadReply, ViewCell, stopped};
use crate::status::StatusCell;
use listen::{Accepting, Listening};

/// Most connections at once; further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 64;
/// Longest time for one head, idle time before it included.
const HEAD_MAX: Duration = Duration::from_secs(5);
/// Time between two tries to bind a busy address.
const BIND_AGAIN: Duration = Duration::from_secs(3);
/// Time that open connections get to end when the process ends.
const LINGER: Duration = Duration::from_secs(2);
/// Most head fields.
const FIELDS_MAX: usize = 64;
/// Shortest accepted token, in bytes.
const TOKEN_MIN: usize = 16;

/// The bearer token, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Token {
    /// No token file is named: no token is asked for.
    #[default]
    None,
    /// Asked for. Never shown.
    Set(Secret),
    /// A file is named and there was never a usable token in it: nobody is let in.
    Unusable,
}

/// Bytes that never reach a log.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(Vec<u8>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// What the server goes by; renewed by the control loop.
#[derive(Debug, Clone, Default)]
pub(crate) struct ApiSettings {
    /// Where to serve; none means nowhere.
    pub(crate) wanted: Option<Address>,
    /// Host names, beside loopback, under which it answers.
    pub(crate) hosts: Vec<Arc<str>>,
    /// The token.
    pub(crate) token: Token,
    /// There is an `inbound` or `outbound` listener: TCP then needs a token.
    pub(crate) beside_app: bool,
}

impl ApiSettings {
    /// Reads a token file: its text without white space around it. The error is for people and holds no token.
    pub(crate) fn read_token(config: &Path, file: Option<&Path>) -> Result<Token, String> {
        let Some(file) = file else { return Ok(Token::None) };
        let path = config.parent().unwrap_or_else(|| Path::new("")).join(file);
        let text =
            fs::read(&path).map_err(|error| format!("control.token_file {}: {error}", path.display()))?;
        let token = text.trim_ascii();
        if token.len() < TOKEN_MIN {
            let place = path.display();
            return Err(format!("control.token_file {place}: a token has at least {TOKEN_MIN} bytes"));
        }
        Ok(Token::Set(Secret(token.to_vec())))
    }

    /// Takes new settings in. A token that cannot be read leaves the one before it in force, loudly.
    pub(crate) fn renew(&mut self, wanted: Option<Address>, token: Result<Token, String>, beside_app: bool) {
        self.wanted = wanted;
        self.beside_app = beside_app;
        match token {
            Ok(token) => self.token = token,
            Err(error) => {
                let kept = matches!(self.token, Token::Set(_));
                tracing::error!(%error, kept_the_old_token = kept, "the control token cannot be read");
                if !kept {
                    self.token = Token::Unusable;
                }
            }
        }
    }
}

/// What a request handler needs.
pub(crate) struct Api {
    /// To the control loop.
    pub(crate) mutations: mpsc::Sender<Mutation>,
    /// To the control loop.
    pub(crate) reloads: mpsc::Sender<Option<ReloadReply>>,
    /// What is published.
    pub(crate) view: ViewCell,
    /// Live state.
    pub(crate) inspect: Arc<dyn Inspect>,
    /// What control says about itself.
    pub(crate) status: StatusCell,
}

/// Serves until told to stop. `bound` gets the real address.
pub(crate) async fn serve(
    api: Arc<Api>,
    mut settings: watch::Receiver<ApiSettings>,
    bound: watch::Sender<Option<Address>>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let wanted = settings.borrow_and_update().wanted.clone();
        let tell = |to: Option<&Address>, error: Option<String>| {
            api.status.update(|status| {
                status.api.wanted = wanted.as_ref().map(ToString::to_string);
                status.api.bound = to.map(ToString::to_string);
                status.api.error = error;
            });
            bound.send_replace(to.cloned());
        };
        let listening = match &wanted {
            None => Ok(None),
            Some(address) => Listening::bind(address).map(Some),
        };
        match listening {
            Ok(None) => tell(None, None),
            Err(error) => {
                let address = wanted.as_ref().map(ToString::to_string).unwrap_or_default();
                tracing::error!(%address, %error, "the control API is not served; traffic is not affected");
                tell(None, Some(error.to_string()));
            }
            Ok(Some(listening)) => {
                let address = listening.address().clone();
                tracing::info!(%address, "the control API is served");
                tell(Some(&address), None);
                accept(&api, listening, &mut settings, &mut stop).await;
                tell(None, None);
                if *stop.borrow() {
                    return;
                }
                continue;
            }
        }
        tokio::select! {
            () = stopped(&mut stop) => return,
            changed = settings.changed() => if changed.is_err() { return },
            () = time::sleep(BIND_AGAIN), if wanted.is_some() => {}
        }
    }
}

/// Accepts until told to stop or to serve elsewhere; then lets open connections end.
async fn accept(
    api: &Arc<Api>,
    mut listening: Listening,
    settings: &mut watch::Receiver<ApiSettings>,
    stop: &mut watch::Receiver<bool>,
) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let (closing, _) = watch::channel(false);
    let here = settings.borrow().wanted.clone();
    loop {
        let permit = Arc::clone(&permits).acquire_owned();
        let accepted = async {
            let permit = permit.await;
            (permit, listening.accept().await)
        };
        let (permit, stream) = tokio::select! {
            () = stopped(stop) => break,
            changed = settings.changed() => {
                if changed.is_err() || settings.borrow().wanted != here {
                    break;
                }
                continue;
            }
            accepted = accepted => accepted,
        };
        let rules = settings.clone();
        match stream {
            Ok(stream) => {
                let connection = Connection { api: Arc::clone(api), rules, tcp: stream.is_tcp() };
                let closing = closing.subscribe();
                tokio::spawn(async move {
                    match stream {
                        Accepting::Tcp(stream) => connection.run(stream, closing).await,
                        Accepting::Unix(stream) => connection.run(stream, closing).await,
                    }
                    drop(permit);
                });
            }
            // Out of descriptors, mostly: a pause lets others give some back.
            Err(error) => {
                tracing::warn!(%error, "the control API could not accept a connection");
                time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listening);
    closing.send_replace(true);
    let all = u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX);
    // Those that are not done by then are cut.
    let _ = time::timeout(LINGER, permits.acquire_many(all)).await;
}

/// One connection.
struct Connection {
    api: Arc<Api>,
    rules: watch::Receiver<ApiSettings>,
    tcp: bool,
}

impl Connection {
    async fn run(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
        mut closing: watch::Receiver<bool>,
    ) {
        let Connection { api, rules, tcp } = self;
        let service = service_fn(move |request| {
            let (api, rules) = (Arc::clone(&api), rules.borrow().clone());
            async move { Ok::<_, Infallible>(routes::answer(&api, &rules, tcp, request).await) }
        });
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_MAX)
            .max_headers(FIELDS_MAX)
            .half_close(true);
        let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            // Errors here are a client's: gone, too slow, not HTTP. hyper answered what could be answered.
            _ = connection.as_mut() => return,
            () = stopped(&mut closing) => {}
        }
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
}
