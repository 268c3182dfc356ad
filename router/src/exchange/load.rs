//! The answer of an ambassador to a router that asks for the load of the app: made here, so that the app never hears of it.
//! Leaves no record, since there may be several for each request. Does not know load (`core::cell::load`).

use std::rc::Rc;

use ekiden_config::model::LOAD_PATH;
use ekiden_core::cluster::ClusterTable;
use ekiden_core::outcome::Cause;

use crate::exchange::backend::Reply;
use crate::exchange::downstream::Downstream;
use crate::exchange::{After, Workspace, run, trace};
use crate::worker::connection::Connection;

/// Whether a request asks for the load of a cluster that tells it.
pub fn is_asked(ws: &Workspace) -> bool {
    ws.path == LOAD_PATH && matches!(ws.request.method(), "GET" | "HEAD")
}

/// Tells the load of the endpoint that would be the first to answer.
pub async fn tell<D: Downstream>(
    connection: &mut Connection<D>,
    ws: &mut Workspace,
    cluster: &ClusterTable,
) -> After {
    let worker = Rc::clone(&connection.worker);
    ws.trace.is_question = true;
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
    trace::end(&worker, ws, cause);
    match (cause, keep) {
        (Cause::Complete, true) => After::Keep,
        (Cause::Complete, false) => After::Linger,
        _ => After::Close,
    }
}
