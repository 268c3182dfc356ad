//! The answer of an ambassador to a router that asks for the load of the app: made here, so that the app never hears of it.
//! Leaves no record, since there may be several for each request, and takes nothing that is meant for requests: no count of the
//! route, none of its limits, no place in a line. Does not know load (`core::cell::load`).

use std::rc::Rc;
use std::sync::Arc;

use ekiden_config::model::{LOAD_PATH, Listener};
use ekiden_core::cell::load::Load;
use ekiden_core::cluster::ClusterTable;
use ekiden_core::outcome::Cause;
use ekiden_core::policy::limit::Takes;
use ekiden_core::table::{RouteEntry, Table};

use crate::exchange::backend::Reply;
use crate::exchange::downstream::Downstream;
use crate::exchange::leg::Home;
use crate::exchange::run::Decision;
use crate::exchange::{After, Workspace, entrance, evidence, run};
use crate::worker::Worker;
use crate::worker::connection::Connection;

/// Whether a request is of the form that asks for a load. One comparison of lengths for nearly all.
#[inline]
pub fn is_asked(ws: &Workspace) -> bool {
    ws.path == LOAD_PATH && matches!(ws.request.method(), "GET" | "HEAD")
}

/// Whether a request asks for the load of this cluster, and it tells.
pub fn is_for(ws: &Workspace, cluster: &ClusterTable) -> bool {
    cluster.cluster.policy.report_load && is_asked(ws)
}

/// What becomes of a request that asks for a load; none for all others.
#[inline]
pub fn asked<'t, D: Downstream>(
    table: &Table,
    entry: &'t Arc<RouteEntry>,
    connection: &Connection<D>,
    ws: &mut Workspace,
    (listener, takes): (&Listener, &mut Takes<'t>),
) -> Option<Decision> {
    if is_asked(ws) { judge(table, entry, connection, ws, (listener, takes)) } else { None }
}

/// None when the cluster that the route leads to does not tell, so that it is a request like others. It is let in as those are; a router in
/// front, which the listener trusts, beyond the bounds on how many there may be.
#[cold]
fn judge<'t, D: Downstream>(
    table: &Table,
    matched: &'t Arc<RouteEntry>,
    connection: &Connection<D>,
    ws: &mut Workspace,
    (listener, takes): (&Listener, &mut Takes<'t>),
) -> Option<Decision> {
    let Decision::Forward(entry, cluster) = run::choose(table, matched, connection, ws, listener) else {
        return None;
    };
    if !cluster.cluster.policy.report_load {
        return None;
    }
    let (worker, app) = (&connection.worker, &entry.app_name);
    // Routers in front are known by their address. Whoever else asks is let in as all others are, by every bound.
    let is_in = match connection.peer {
        Some(peer) if !listener.trusts(peer.ip()) => {
            run::let_in(matched, connection, ws, listener, takes, None)
        }
        Some(_) | None => let_in(matched, connection, ws, listener),
    };
    if let Err(cause) = is_in {
        return Some(Decision::RefuseOn(entry, cause));
    }
    let must_wait = match &entry.entrance {
        Some(steps) => entrance::judge(worker, steps, ws, app),
        None => Ok(false),
    };
    Some(match must_wait {
        Ok(false) => Decision::Load(cluster),
        Ok(true) => Decision::Ask(Box::new(Decision::Forward(entry, cluster))),
        Err(cause) => Decision::RefuseOn(entry, cause),
    })
}

/// Lets a router in, by all but limits, caps and classes.
fn let_in<D: Downstream>(
    entry: &RouteEntry,
    connection: &Connection<D>,
    ws: &mut Workspace,
    listener: &Listener,
) -> Result<(), Cause> {
    if let Some(steps) = &entry.entrance {
        entrance::begin(&connection.worker, steps, ws, &entry.app_name);
    }
    match &entry.admission {
        Some(steps) => run::admit(steps, connection, ws, listener, None),
        None => Ok(()),
    }
}

/// Tells the load of the endpoint that would be the first to answer.
pub async fn tell<D: Downstream>(
    connection: &mut Connection<D>,
    ws: &mut Workspace,
    cluster: &ClusterTable,
) -> After {
    let worker = Rc::clone(&connection.worker);
    ws.trace.is_question = true;
    // It may have been counted in while it waited for its entrance.
    if let Some(route) = ws.route.take()
        && std::mem::take(&mut ws.trace.counted_in)
    {
        route.cell.shard(worker.id).in_flight.sub(1);
    }
    cluster.cell.shard(worker.id).load_answers.add(1);
    let Some(load) = cluster.load(worker.clock.turn().us()) else {
        return run::refuse(connection, ws, Cause::NoneReady, None).await;
    };
    let keep = run::may_keep(&worker, ws);
    let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let reply = Reply {
        status: 200,
        fields: vec![field("Cache-Control", "no-store"), field("X-Router-Load", &load.to_string())],
        body: None,
    };
    let cause = run::answer_from_backend(connection, ws, reply, keep).await;
    run::end_answered(&worker, ws, cause, keep)
}

/// What a response says of the load beside its own request, where that is told: its head is there.
#[cold]
pub fn beside(worker: &Worker, ws: &Workspace) -> Option<Load> {
    let home = ws.leg.home()?;
    evidence::note_pace(ws, home);
    Some(home.cell.load((1, line_at(worker, home)), worker.clock.turn().us()))
}

/// Requests that wait for a slot of this endpoint, as far as they are its part.
fn line_at(worker: &Worker, home: &Home) -> u32 {
    if home.stats.gate.waiting() == 0 {
        return 0;
    }
    let (app, cluster) = home.cell.incarnation().place();
    worker.with_table(|table| table.cluster_named(app, cluster).map_or(0, |cluster| cluster.line_each()))
}
