//! The control API: HTTP/1.1 on loopback TCP or on a unix socket, for people and programs on this machine.
//!
//! Accepts, bounds and closes connections; [`operations`] is the table of what may be asked, [`guard`] and [`who`] say who may
//! ask, [`routes`] leads a request to its operation, [`views`], [`apps`], [`records`] and [`watch`] answer. A busy address is loud and tried again; it stops nothing.

mod apps;
mod audit;
mod body;
mod bounds;
mod confirming;
mod dynos;
mod entrance;
mod explain;
mod fleet;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod guard;
mod guarded;
mod hold;
mod idempotency;
mod limits;
pub(crate) mod listen;
mod maintenance;
mod openapi;
mod operations;
mod overload;
mod placements;
mod records;
mod reply;
mod request;
mod resilience;
mod routes;
mod shards;
mod views;
mod watch;
mod who;

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ekiden_config::doors::Inspect;
use ekiden_config::model::Address;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch::Receiver;
use tokio::sync::watch::Sender;
use tokio::sync::{Semaphore, mpsc};
use tokio::time;

use crate::dynos::{Board, InspectDoor};
use crate::election::Elector;
use crate::fleet::Fleet;
use crate::guarded::{Guards, Watcher};
use crate::placement::Said;
use crate::plane::{AppsChange, Look, Mutation, ReloadReply, ViewCell, stopped};
use crate::status::StatusCell;
use crate::store::Store;
use crate::tenure::Tenure;
pub(crate) use audit::Audit;
use bounds::Rates;
use guard::Reach;
use idempotency::Idempotency;
pub(crate) use listen::Sockets;
use listen::{Accepting, Listening};
pub(crate) use placements::{MEMBERS as PLACEMENT_MEMBERS, placement};
pub(crate) use who::Tokens;

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

/// What the server goes by; renewed by the control loop.
#[derive(Debug, Clone, Default)]
pub(crate) struct ApiSettings {
    /// Where to serve; none means nowhere.
    pub(crate) wanted: Option<Address>,
    /// Host names, beside loopback, under which it answers.
    pub(crate) hosts: Vec<Arc<str>>,
    /// The tokens.
    pub(crate) tokens: Tokens,
    /// There is an `inbound` or `outbound` listener: TCP then needs a token.
    pub(crate) beside_app: bool,
}

impl ApiSettings {
    /// Takes new settings in. A token that cannot be read leaves the one before it in force, loudly.
    pub(crate) fn renew(
        &mut self,
        wanted: Option<Address>,
        tokens: Result<Tokens, String>,
        beside_app: bool,
    ) {
        self.wanted = wanted;
        self.beside_app = beside_app;
        match tokens {
            Ok(tokens) => self.tokens = tokens,
            Err(error) => {
                let kept = matches!(self.tokens, Tokens::Set(_));
                tracing::error!(%error, kept_the_old_token = kept, "the control token cannot be read");
                if !kept {
                    self.tokens = Tokens::Unusable;
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
    /// To the control loop: changes of apps.
    pub(crate) changes: mpsc::Sender<AppsChange>,
    /// To the control loop: changes of maintenance.
    pub(crate) looks: mpsc::Sender<Look>,
    /// To the control loop: words of sources.
    pub(crate) said: mpsc::Sender<Said>,
    /// Watches changes that are guarded.
    pub(crate) guards: Guards,
    /// None when the run directory cannot be used.
    pub(crate) store: Option<Arc<dyn Store>>,
    /// The Procfile's dynos, when there is a Procfile.
    pub(crate) board: Option<Board>,
    /// Who asked for what.
    pub(crate) audit: Audit,
    /// True when control ends.
    pub(crate) stopped: Receiver<bool>,
    /// Routers that are elsewhere; none where the data path is in this process.
    pub(crate) fleet: Option<Fleet>,
    /// Says who leads, where the store is shared.
    pub(crate) elector: Option<Arc<dyn Elector>>,
    /// Where it is served, and in which term.
    pub(crate) socket: (Sockets, Tenure),
    /// How often one may ask.
    pub(crate) rates: Rates,
    /// What was answered to requests with a key.
    pub(crate) idempotency: Idempotency,
    /// Watches that may be open.
    pub(crate) watches: Arc<Semaphore>,
    /// Changes of what is pushed, one after the other.
    pub(crate) lanes: placements::Lanes,
}

/// What the server needs of control.
pub(crate) struct Doors {
    /// To the control loop.
    pub(crate) mutations: mpsc::Sender<Mutation>,
    /// To the control loop.
    pub(crate) changes: mpsc::Sender<AppsChange>,
    /// To the control loop.
    pub(crate) looks: mpsc::Sender<Look>,
    /// To the control loop: words of sources.
    pub(crate) said: mpsc::Sender<Said>,
    /// To the control loop.
    pub(crate) reloads: mpsc::Sender<Option<ReloadReply>>,
    /// What is published.
    pub(crate) view: ViewCell,
    /// Live state.
    pub(crate) inspect: Arc<dyn Inspect>,
    /// What control says about itself.
    pub(crate) status: StatusCell,
    /// None when the run directory cannot be used.
    pub(crate) store: Option<Arc<dyn Store>>,
    /// The Procfile's dynos, when there is a Procfile.
    pub(crate) board: Option<Board>,
    /// True when control ends.
    pub(crate) stopped: Receiver<bool>,
    /// Routers that are elsewhere.
    pub(crate) fleet: Option<Fleet>,
    /// Says who leads, where the store is shared.
    pub(crate) elector: Option<Arc<dyn Elector>>,
    /// Where it is served, and in which term.
    pub(crate) socket: (Sockets, Tenure),
}

impl Api {
    /// The API over these doors; the audit log goes to the run directory.
    pub(crate) fn new(doors: Doors, run_dir: Option<&Path>) -> Self {
        let Doors {
            mutations,
            changes,
            looks,
            said,
            reloads,
            view,
            inspect,
            status,
            store,
            board,
            stopped,
            fleet,
            elector,
            socket,
        } = doors;
        Self {
            mutations,
            changes,
            looks,
            said,
            guards: Guards::new(InspectDoor(Arc::clone(&inspect)), fleet.clone()),
            reloads,
            view,
            inspect,
            status,
            store,
            board,
            stopped,
            fleet,
            elector,
            socket,
            audit: Audit::start(run_dir),
            rates: Rates::default(),
            idempotency: Idempotency::default(),
            watches: watch::permits(),
            lanes: placements::Lanes::default(),
        }
    }

    /// What watches guarded changes, for one task.
    pub(crate) fn watcher(&self) -> Watcher {
        Watcher {
            guards: self.guards.clone(),
            store: self.store.clone(),
            changes: self.changes.clone(),
            status: self.status.clone(),
            elector: self.elector.clone(),
        }
    }
}

/// Serves until told to stop. `bound` gets the real address.
pub(crate) async fn serve(
    api: Arc<Api>,
    mut settings: Receiver<ApiSettings>,
    bound: Sender<Option<Address>>,
    mut stop: Receiver<bool>,
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
            Some(address) => Listening::take(address, &api.socket.0, &api.socket.1).map(Some),
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
    settings: &mut Receiver<ApiSettings>,
    stop: &mut Receiver<bool>,
) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let (closing, _) = tokio::sync::watch::channel(false);
    let here = settings.borrow().wanted.clone();
    let reach = Reach::of(listening.address());
    loop {
        let permit = Arc::clone(&permits).acquire_owned();
        let accepted = async {
            let permit = permit.await;
            (permit, listening.accept().await)
        };
        let (permit, stream) = tokio::select! {
            // Once it is told to stop, connections are another one's.
            biased;
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
                let connection = Connection { api: Arc::clone(api), rules, reach };
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
    rules: Receiver<ApiSettings>,
    reach: Reach,
}

impl Connection {
    async fn run(self, stream: impl AsyncRead + AsyncWrite + Unpin + 'static, mut closing: Receiver<bool>) {
        let Connection { api, rules, reach } = self;
        let service = service_fn(move |request| {
            let (api, rules) = (Arc::clone(&api), rules.clone());
            async move { Ok::<_, Infallible>(routes::answer(&api, &rules, reach, request).await) }
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
