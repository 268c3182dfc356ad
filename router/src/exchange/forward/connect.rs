//! A tunnel by CONNECT (RFC 9110 section 9.3.6) to an endpoint of the route's cluster. The host and port that the client names choose the
//! route and nothing else: no name of a client is ever connected to.
//!
//! The client is told only once there is a connection, and gets an answer of the router's own otherwise. Does not carry the bytes
//! (`tunnel` does).

use std::rc::Rc;
use std::sync::Arc;

use ekiden_config::model::Listener;
use ekiden_core::cluster::ClusterTable;
use ekiden_core::outcome::{Cause, Phase};
use ekiden_core::table::RouteEntry;

use super::{Forward, Step};
use crate::exchange::downstream::{Downstream, HeadKind};
use crate::exchange::relay::Failure;
use crate::exchange::{After, Workspace, run, shard, trace};
use crate::worker::connection::Connection;

/// The status with which a connection becomes a tunnel.
const CONNECTED: u16 = 200;

/// Serves a CONNECT that its route lets in. The record has been written when this returns.
pub(in crate::exchange) async fn forward_connect<D: Downstream>(
    connection: &mut Connection<D>,
    ws: &mut Workspace,
    listener: &Listener,
    entry: Arc<RouteEntry>,
    cluster: Arc<ClusterTable>,
) -> After {
    let begun = shard::read(connection, ws, listener, &cluster).and_then(|()| {
        Forward::begin(Rc::clone(&connection.worker), ws, listener, entry, Arc::clone(&cluster))
    });
    let mut forward = match begun {
        Ok(forward) => forward,
        Err(cause) => return run::refuse(connection, ws, cause, None).await,
    };
    // What is pooled carries requests: as for a replay, the connection is a new one.
    forward.replayed = true;
    let first: Step = forward.step(ws);
    let acquired = forward.acquire(connection, ws, first).await;
    // Validation refuses such a cluster; a table that came meanwhile may have brought one.
    let acquired = acquired.and_then(|()| if ws.leg.is_http2() { Err(Cause::Http2Failed) } else { Ok(()) });
    if let Err(cause) = acquired {
        let failure = Failure { cause, begun: false, at_rest: false, replayable: false };
        return forward.fail(connection, ws, failure, false).await;
    }
    if let Err(cause) = tell(connection, ws).await {
        ws.leg.cut();
        forward.clear_leg(ws);
        trace::end(&forward.worker, ws, cause);
        return After::Close;
    }
    forward.tunnel(connection, ws).await
}

/// Says that what follows is the tunnel's: no length, no coding, no end.
async fn tell<D: Downstream>(connection: &mut Connection<D>, ws: &mut Workspace) -> Result<(), Cause> {
    ws.trace.phase = Phase::Relay;
    ws.trace.status = CONNECTED;
    connection.stream.begin_head(&mut ws.client_out, CONNECTED, b"Connection established");
    ws.trace.bytes_out += connection.stream.end_head(&mut ws.client_out, HeadKind::Final)?;
    run::flush(connection, ws, false).await
}
