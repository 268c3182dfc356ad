//! The way of one request (DESIGN section 2): head, match, act, record.
//!
//! Does not relay (see `forward` and `relay`).

mod answers;
mod head;

use std::net::IpAddr;
use std::sync::Arc;

use ekiden_config::model::{Action, Listener};
use ekiden_core::claims::Shown;
use ekiden_core::client_cert::ClientCert;
use ekiden_core::cluster::ClusterTable;
use ekiden_core::outcome::{Cause, Phase};
use ekiden_core::policy::admission::{AdmissionSteps, Applicant};
use ekiden_core::policy::limit::{Limiters, Takes, Unheld, give_back};
use ekiden_core::table::{Facts, Fields, ListenerTable, Match, RouteEntry, Table, Target};
use ekiden_core::{path, split};

use crate::entrance::shown::ShownToken;
use crate::entrance::tokens::Issuer;
use crate::exchange::authorizer::Stop;
use crate::exchange::downstream::Downstream;
use crate::exchange::limit::{Met, enforce, enforce_paid};
use crate::exchange::request_out::{choose_request_id, client_address};
use crate::exchange::toll::{Settled, Tollgate};
use crate::exchange::{
    After, Workspace, authorizer, cors, entrance, faults, forward, grpc, hold, hops, learn, load, mirror,
    overload, secure, toll, upgrade,
};
use crate::head::Head;
use crate::tls::{Session, authority};
use crate::wire::Version;
use crate::wire::body::Framing;
use crate::wire::request::TargetForm;
use crate::worker::Worker;
use crate::worker::connection::Connection;

pub use answers::{answer_from_backend, end_answered, flush, may_keep, refuse, send_answer};
pub use head::head_rules;

use answers::act;
use head::{NoHead, read_head};

impl Fields for Head {
    fn each(&self, name: &str, visit: &mut dyn FnMut(&[u8]) -> bool) {
        for value in self.get_all(name.as_bytes()) {
            if !visit(value) {
                return;
            }
        }
    }
}

/// What a matched request calls for.
pub enum Decision {
    /// Refused before a route was known.
    Refuse(Cause, Option<String>),
    /// Refused by the route that matched: logged and counted as its request.
    RefuseOn(Arc<RouteEntry>, Cause),
    /// Answered by the router itself.
    Act(Arc<RouteEntry>),
    /// The same, once it is known that the request is let in.
    Ask(Box<Decision>),
    /// A preflight, answered for the route that it asks about.
    Preflight(Arc<RouteEntry>),
    /// Sent to `https` on this port.
    Secure(u16),
    /// Looked at again once an issuer of tokens has told its keys.
    Learn(Arc<Issuer>),
    /// Forwarded to a cluster.
    Forward(Arc<RouteEntry>, Arc<ClusterTable>),
    /// A router asks for the load of this cluster: nothing of the route's is taken for it.
    Load(Arc<ClusterTable>),
}

/// Serves one HTTP/1 request from its first byte. The record has been written when this returns.
pub async fn exchange(connection: &mut Connection, ws: &mut Workspace) -> After {
    let Some(settings) = connection.worker.with_table(|table| connection.listener.settings(table)) else {
        return After::Close;
    };
    let judged = match read_head(connection, ws, &settings.listener).await {
        Ok(()) => Ok(()),
        Err(NoHead::NotYet) => return After::Idle,
        Err(NoHead::Silent) => return After::Close,
        Err(NoHead::Refused(cause)) => Err(cause),
    };
    serve_head(connection, ws, &settings, judged).await
}

/// Serves one request whose head stands in the workspace, or ends it with what was found wrong with the head. The record
/// has been written when this returns.
///
/// A block and not an `async fn`, as `forward` is: what it captures is stored once in the task of each connection, idle ones
/// too.
pub fn serve_head<D: Downstream>(
    connection: &mut Connection<D>,
    ws: &mut Workspace,
    settings: &ListenerTable,
    judged: Result<(), Cause>,
) -> impl Future<Output = After> {
    choose_request_id(&connection.worker, ws);
    let decision = match judged {
        Ok(()) => {
            ws.trace.phase = Phase::Match;
            connection.worker.with_table(|table| decide(table, connection, ws, settings))
        }
        Err(cause) => Decision::Refuse(cause, None),
    };
    serve_decision(connection, ws, settings, decision)
}

/// Does what was decided. A block and not an `async fn`, as above.
#[expect(clippy::manual_async_fn, reason = "what it captures is stored once")]
pub fn serve_decision<D: Downstream>(
    connection: &mut Connection<D>,
    ws: &mut Workspace,
    settings: &ListenerTable,
    decision: Decision,
) -> impl Future<Output = After> {
    async move {
        let (entry, cluster) = match decision {
            Decision::Refuse(cause, allow) => return Box::pin(refuse(connection, ws, cause, allow)).await,
            Decision::RefuseOn(entry, cause) => {
                enter_route(&connection.worker, ws, &entry);
                let steps = entry.admission.as_ref().filter(|_| cause == Cause::MethodDenied);
                let allow = steps.map(|steps| steps.allow_line().to_owned());
                return Box::pin(refuse(connection, ws, cause, allow)).await;
            }
            Decision::Ask(decision) => {
                let (entry, cluster) = match Box::pin(ask(connection, ws, &settings.listener, decision)).await
                {
                    Ok(whither) => whither,
                    Err(after) => return after,
                };
                if load::is_for(ws, &cluster) {
                    return Box::pin(async move { load::tell(connection, ws, &cluster).await }).await;
                }
                (entry, cluster)
            }
            Decision::Load(cluster) => {
                return Box::pin(async move { load::tell(connection, ws, &cluster).await }).await;
            }
            Decision::Preflight(entry) => {
                enter_route(&connection.worker, ws, &entry);
                return match Box::pin(cors::answer(connection, ws)).await {
                    Ok(after) => after,
                    Err(cause) => Box::pin(refuse(connection, ws, cause, None)).await,
                };
            }
            Decision::Secure(port) => return Box::pin(secure::redirect(connection, ws, port)).await,
            Decision::Learn(issuer) => return learn::again(connection, ws, settings, issuer).await,
            Decision::Act(entry) => {
                enter_route(&connection.worker, ws, &entry);
                return Box::pin(async move { act(connection, ws, &entry).await }).await;
            }
            Decision::Forward(entry, cluster) => {
                enter_route(&connection.worker, ws, &entry);
                if hops::end_here(&mut ws.request) {
                    return Box::pin(async move { hops::answer(connection, ws, &entry).await }).await;
                }
                (entry, cluster)
            }
        };
        if ws.request.is_connect {
            let tunnel = forward::forward_connect(connection, ws, &settings.listener, entry, cluster);
            return Box::pin(tunnel).await;
        }
        // In this one place, so that it is made where it stays: it is large, and would be copied.
        forward::forward(connection, ws, &settings.listener, entry, cluster).await
    }
}

/// Waits for what is to be known of the request; gives where it goes on to, which is looked up again: the wait may have been
/// long.
///
/// # Errors
/// It has been answered.
async fn ask<D: Downstream>(
    connection: &mut Connection<D>,
    ws: &mut Workspace,
    listener: &Listener,
    decision: Box<Decision>,
) -> Result<(Arc<RouteEntry>, Arc<ClusterTable>), After> {
    let (entry, cluster) = match *decision {
        Decision::Act(entry) => (entry, None),
        Decision::Forward(entry, cluster) => (entry, Some(cluster)),
        Decision::Refuse(cause, allow) => return Err(refuse(connection, ws, cause, allow).await),
        Decision::RefuseOn(_, cause) => return Err(refuse(connection, ws, cause, None).await),
        Decision::Ask(_)
        | Decision::Preflight(_)
        | Decision::Secure(_)
        | Decision::Learn(_)
        | Decision::Load(_) => {
            return Err(refuse(connection, ws, Cause::ClusterGone, None).await);
        }
    };
    enter_route(&connection.worker, ws, &entry);
    match entrance::wait(connection, ws, listener, &entry).await {
        Ok(()) => {}
        Err(Stop::Cause(cause)) => return Err(refuse(connection, ws, cause, None).await),
        // A call ends with a status of gRPC: its client takes no page, and follows no redirect.
        Err(Stop::Told(_)) if grpc::kind(ws).is_some() => {
            return Err(refuse(connection, ws, Cause::AuthorizerRefused, None).await);
        }
        Err(Stop::Told(told)) => return Err(authorizer::tell(connection, ws, &told).await),
    }
    // It has waited for its own entrance, and for nothing that is made for requests.
    if let Some(cluster) = cluster.as_ref().filter(|cluster| load::is_for(ws, cluster)) {
        return Ok((entry, Arc::clone(cluster)));
    }
    if cluster.is_some() && hops::end_here(&mut ws.request) {
        return Err(hops::answer(connection, ws, &entry).await);
    }
    if entry.route.faults.is_some() {
        faults::inject(connection, ws, listener, &entry).await?;
    }
    let Some(cluster) = cluster else { return Err(act(connection, ws, &entry).await) };
    if entry.route.hold.is_some() {
        return Box::pin(held(connection, ws, listener, entry, cluster)).await;
    }
    if entry.mirror.is_some() {
        mirror::begin(&connection.worker, ws, &entry, &cluster);
    }
    let again = |table: &Table| table.cluster_named(&cluster.app, &cluster.cluster.name).map(Arc::clone);
    match connection.worker.with_table(again) {
        Some(cluster) => Ok((entry, cluster)),
        None => Err(refuse(connection, ws, Cause::ClusterGone, None).await),
    }
}

/// Waits while the app is held, and goes on where its route leads by then.
///
/// # Errors
/// It has been answered.
async fn held<D: Downstream>(
    connection: &mut Connection<D>,
    ws: &mut Workspace,
    listener: &Listener,
    entry: Arc<RouteEntry>,
    cluster: Arc<ClusterTable>,
) -> Result<(Arc<RouteEntry>, Arc<ClusterTable>), After> {
    if let Err(cause) = hold::wait(connection, ws, &entry).await {
        return Err(refuse(connection, ws, cause, None).await);
    }
    match hold::again(connection, ws, listener, &entry, &cluster) {
        Decision::Forward(entry, cluster) => {
            if entry.mirror.is_some() {
                mirror::begin(&connection.worker, ws, &entry, &cluster);
            }
            Ok((entry, cluster))
        }
        Decision::Act(entry) => Err(act(connection, ws, &entry).await),
        Decision::Refuse(cause, _) => Err(refuse(connection, ws, cause, None).await),
        _ => Err(refuse(connection, ws, Cause::ClusterGone, None).await),
    }
}

/// Counts the request in at the route that matched.
pub fn enter_route(worker: &Worker, ws: &mut Workspace, entry: &Arc<RouteEntry>) {
    entry.cell.shard(worker.id).in_flight.add(1);
    ws.trace.counted_in = true;
    ws.route = Some(Arc::clone(entry));
    if ws.request.version == Version::Http2 || entry.route.grpc_web {
        grpc::begin(ws, entry.route.grpc_web);
    }
}

/// Finds the route and, for a forward, the cluster, and takes the request from its limits. Everything here is one look at
/// one table.
fn decide<D: Downstream>(
    table: &Table,
    connection: &Connection<D>,
    ws: &mut Workspace,
    settings: &ListenerTable,
) -> Decision {
    ws.trace.generation = table.generation.0;
    let mut unheld = Unheld::default();
    let decision = find_way(table, connection, ws, settings, &mut unheld.0);
    let takes = &mut unheld.0;
    if !takes.is_empty() {
        if let Decision::Learn(_) = decision {
            // It comes again.
            give_back(takes);
            return decision;
        }
        if takes.iter().any(|take| take.limiter.keeps()) {
            ws.limits.hold(takes);
            ws.limits.show(takes, connection.worker.clock.turn_ns());
        }
        takes.clear();
    }
    decision
}

/// The same for a request that has waited before its route was known.
pub fn decide_again<D: Downstream>(
    connection: &Connection<D>,
    ws: &mut Workspace,
    settings: &ListenerTable,
) -> Decision {
    connection.worker.with_table(|table| decide(table, connection, ws, settings))
}

/// The same for a connection that carries no HTTP: its request has a host at most.
pub fn decide_raw(connection: &Connection, ws: &mut Workspace, settings: &ListenerTable) -> Decision {
    connection.worker.with_table(|table| decide(table, connection, ws, settings))
}

fn find_way<'t, D: Downstream>(
    table: &'t Table,
    connection: &Connection<D>,
    ws: &mut Workspace,
    settings: &'t ListenerTable,
    takes: &mut Takes<'t>,
) -> Decision {
    let (listener, worker) = (&settings.listener, &connection.worker);
    if listener.tls.is_some()
        && let Err(cause) = authority::judge(worker, ws.session.as_deref(), &ws.request.host)
    {
        return Decision::Refuse(cause, None);
    }
    if let Some(steps) = &settings.admission
        && let Err(cause) = admit(steps, connection, ws, listener, None)
    {
        return Decision::Refuse(cause, None);
    }
    if let Some(port) = listener.redirect_https
        && let Some(decision) = secure::decide(&ws.request, port)
    {
        return decision;
    }
    if !normalize(ws, listener) {
        return Decision::Refuse(Cause::PathIllegal, None);
    }
    if let Some(limits) = &settings.limits
        && let met = Met::new(connection, listener, limits.asks_client())
        && let Err(cause) = enforce(limits, met, ws, takes)
    {
        return Decision::Refuse(cause, None);
    }
    let Some(index) = connection.listener.index(table) else {
        // The listener was removed: its clients had better come back another way.
        ws.request.keep_alive = false;
        return Decision::Refuse(Cause::NoRoute, None);
    };
    let token = table.asks_claims().then(|| {
        let (request, met) = (&ws.request, Met::new(connection, listener, true));
        let gate = Tollgate::new(met, request, &ws.path, ws.session.as_deref());
        let (keyring, verified) = (&worker.shared.keyring, &worker.shard.tokens_verified);
        ShownToken::new(keyring, &request.head, gate, verified).asking(!ws.entrance.has_learned())
    });
    let facts = Facts {
        host: &ws.request.host,
        path: &ws.path,
        loose: path::loose(&ws.path, &mut ws.loose),
        query: ws.request.query().unwrap_or(""),
        method: ws.request.method(),
        fields: &ws.request.head,
        client_cert: client_cert(ws.session.as_deref()),
        claims: token.as_ref().map_or(Shown::Nothing, |token| Shown::Token(token)),
    };
    if facts.method == "OPTIONS"
        && let Some((entry, method)) = cors::preflight(table, index, &facts, &ws.request.head)
    {
        return match let_in(entry, connection, ws, listener, takes, Some(&method)) {
            Ok(()) => Decision::Preflight(Arc::clone(entry)),
            Err(cause) => Decision::RefuseOn(Arc::clone(entry), cause),
        };
    }
    let found = table.find(index, &facts);
    let settled = token.map(ShownToken::end).and_then(|looked| toll::settle(worker, ws, looked, takes));
    if let Some(settled) = settled {
        return go_on_paid(table, found, connection, ws, (listener, takes, settled));
    }
    let entry = match rule(found, ws.request.is_connect) {
        Ok(entry) => entry,
        Err(decision) => return decision,
    };
    if let Some(decision) = load::asked(table, entry, connection, ws, (listener, takes)) {
        return decision;
    }
    if let Err(cause) = let_in(entry, connection, ws, listener, takes, None) {
        return Decision::RefuseOn(Arc::clone(entry), cause);
    }
    enter(table, entry, connection, ws, listener)
}

/// The rest of the way of a request of which a toll is kept, wherever it ends.
#[inline(never)]
fn go_on_paid<'t, D: Downstream>(
    table: &'t Table,
    found: Match<'t>,
    connection: &Connection<D>,
    ws: &mut Workspace,
    (listener, takes, settled): (&'t Listener, &mut Takes<'t>, Settled),
) -> Decision {
    let mut toll = match settled {
        Settled::Kept(toll) => toll,
        Settled::Decided(decision) => return decision,
    };
    let mut go_on = || {
        let entry = match rule(found, ws.request.is_connect) {
            Ok(entry) => entry,
            Err(decision) => return decision,
        };
        // Nobody pays for such a question as a rule: here it is one request, and the look another.
        if let Some(decision) = load::asked(table, entry, connection, ws, (listener, &mut *takes)) {
            return decision;
        }
        let is_in = let_in_by(entry, connection, ws, listener, None, |limits, met, ws| {
            enforce_paid(limits, met, ws, takes, &mut toll)
        });
        match is_in {
            Ok(()) => enter(table, entry, connection, ws, listener),
            Err(cause) => Decision::RefuseOn(Arc::clone(entry), cause),
        }
    };
    let decision = go_on();
    if let Some(shadow) = toll.keep(connection.worker.id) {
        ws.limits.named.get_or_insert(shadow);
    }
    decision
}

/// Puts the normal form of the path into the workspace; false when it has none.
#[inline]
fn normalize(ws: &mut Workspace, listener: &Listener) -> bool {
    ws.path.clear();
    let mut scratch = std::mem::take(&mut ws.scratch);
    let raw = if ws.request.form == TargetForm::Asterisk { "/" } else { ws.request.raw_path() };
    let normal =
        path::normalize(raw, listener.merge_slashes, &mut scratch).map(|text| ws.path.push_str(text));
    ws.scratch = scratch;
    normal.is_ok()
}

/// The rule that was found, or what becomes of a request that none takes.
#[inline]
fn rule(found: Match<'_>, is_connect: bool) -> Result<&Arc<RouteEntry>, Decision> {
    Err(match found {
        Match::Route(entry) => return Ok(entry),
        // No route allows it.
        Match::NotFound | Match::MethodNotAllowed(_) if is_connect => {
            Decision::Refuse(Cause::MethodRefused, None)
        }
        Match::NotFound => Decision::Refuse(Cause::NoRoute, None),
        Match::MethodNotAllowed(allow) => Decision::Refuse(Cause::MethodNotAllowed, Some(allow.to_string())),
        Match::Ambiguous => Decision::Refuse(Cause::PathAmbiguous, None),
    })
}

/// The certificate that the client showed, of its connection's session.
#[inline]
pub fn client_cert(session: Option<&Session>) -> Option<&ClientCert> {
    session?.client.as_ref().map(|identity| &identity.cert)
}

/// What becomes of a request that its route lets in: it may have to show who it is, and ask for more than a response.
#[inline]
fn enter<D: Downstream>(
    table: &Table,
    entry: &Arc<RouteEntry>,
    connection: &Connection<D>,
    ws: &mut Workspace,
    listener: &Listener,
) -> Decision {
    if ws.request.asks_upgrade {
        let allowed = if ws.request.is_connect {
            ws.request.port.is_some_and(|port| entry.route.connect.contains(&port))
        } else {
            ws.upgrade = upgrade::choose(&ws.request, &entry.route.upgrades);
            ws.upgrade.is_some()
        };
        // A CONNECT that cannot be a tunnel cannot be anything else.
        let may_tunnel = allowed && matches!(entry.target, Target::Clusters(_));
        if ws.request.is_tunnel() && !may_tunnel {
            return Decision::RefuseOn(Arc::clone(entry), Cause::MethodRefused);
        }
    }
    let mut waits = entry.route.faults.is_some() || entry.mirror.is_some() || entry.route.hold.is_some();
    if let Some(steps) = &entry.entrance {
        match entrance::judge(&connection.worker, steps, ws, &entry.app_name) {
            Ok(must_wait) => waits |= must_wait,
            Err(cause) => return Decision::RefuseOn(Arc::clone(entry), cause),
        }
    }
    let decision = choose(table, entry, connection, ws, listener);
    if waits { Decision::Ask(Box::new(decision)) } else { decision }
}

/// What a request that is let in calls for.
#[inline]
pub(super) fn choose<D: Downstream>(
    table: &Table,
    entry: &Arc<RouteEntry>,
    connection: &Connection<D>,
    ws: &Workspace,
    listener: &Listener,
) -> Decision {
    let Target::Clusters(sides) = &entry.target else { return Decision::Act(Arc::clone(entry)) };
    let slot = match sides.as_slice() {
        [only] => Some(only.slot),
        _ => split_side(entry, connection, ws, listener),
    };
    match slot.and_then(|slot| table.cluster(entry.app, slot)) {
        Some(cluster) => Decision::Forward(Arc::clone(entry), Arc::clone(cluster)),
        None => Decision::Refuse(Cause::ClusterGone, None),
    }
}

/// What a route lets in; its limits come last, so that what is refused for another reason takes nothing from them.
pub fn let_in<'t, D: Downstream>(
    entry: &'t RouteEntry,
    connection: &Connection<D>,
    ws: &mut Workspace,
    listener: &Listener,
    takes: &mut Takes<'t>,
    asked_method: Option<&str>,
) -> Result<(), Cause> {
    let_in_by(entry, connection, ws, listener, asked_method, |limits, met, ws| {
        enforce(limits, met, ws, takes)
    })
}

/// The same; `take` takes from one list of limits.
#[inline]
fn let_in_by<'t, 'm, D: Downstream>(
    entry: &'t RouteEntry,
    connection: &'m Connection<D>,
    ws: &mut Workspace,
    listener: &'m Listener,
    asked_method: Option<&str>,
    mut take: impl FnMut(&'t Limiters, Met<'m>, &mut Workspace) -> Result<(), Cause>,
) -> Result<(), Cause> {
    if let Some(steps) = &entry.entrance {
        entrance::begin(&connection.worker, steps, ws, &entry.app_name);
    }
    if let Some(steps) = &entry.admission {
        admit(steps, connection, ws, listener, asked_method)?;
    }
    if let (Framing::Length(length), Some(limit)) = (ws.request.framing, body_limit(listener, entry))
        && length > limit
    {
        return Err(Cause::BodyTooLarge);
    }
    overload::let_in(&connection.worker, ws, entry)?;
    match &entry.limits {
        Some(limits) => {
            let met = Met::new(connection, listener, limits.asks_client());
            if let Some(app) = &limits.app {
                take(app, met, ws)?;
            }
            take(&limits.route, met, ws)
        }
        None => Ok(()),
    }
}

/// Takes the steps of a listener or a route: lets the request in, perhaps without some of its fields, or says why not.
pub(super) fn admit<D>(
    steps: &AdmissionSteps,
    connection: &Connection<D>,
    ws: &mut Workspace,
    listener: &Listener,
    asked_method: Option<&str>,
) -> Result<(), Cause> {
    let peer = || connection.peer.map(|peer| peer.ip());
    let request = &mut ws.request;
    steps.judge(&Applicant {
        client: if steps.asks_client() { client_address(listener, &request.head, peer()) } else { None },
        host: &request.host,
        method: asked_method.unwrap_or_else(|| request.method()),
        has_body: request.framing != Framing::None,
        head_bytes: ws.trace.bytes_in,
        field_count: request.field_count,
        fields: &request.head,
    })?;
    let Some(filter) = steps.fields() else { return Ok(()) };
    let mut denied = false;
    request.head.retain(|id, name| {
        let keep = id.is_kept_by_policy() || filter.takes(name);
        denied |= !keep;
        keep
    });
    if denied && filter.refuses() { Err(Cause::FieldDenied) } else { Ok(()) }
}

fn split_side<D>(
    entry: &RouteEntry,
    connection: &Connection<D>,
    ws: &Workspace,
    listener: &Listener,
) -> Option<u32> {
    let Action::Forward(forward) = &entry.route.action else { return None };
    let client: Option<IpAddr> =
        client_address(listener, &ws.request.head, connection.peer.map(|peer| peer.ip()));
    split::side(entry, split::key_hash(forward, &ws.request.head, client))
}

/// The bound on a request body of this route.
pub fn body_limit(listener: &Listener, entry: &RouteEntry) -> Option<u64> {
    entry.route.body_limit.or(listener.limits.body)
}
