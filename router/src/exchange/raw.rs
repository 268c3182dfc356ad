//! A connection that carries no HTTP: one exchange from its first byte to its last, by the same routes, limits, pickers and
//! records as a request.
//!
//! There is nothing to answer with: what is refused is closed. Does not carry the bytes (`tunnel` does) and does not connect
//! (`forward` does).

use ekiden_config::model::ListenerProtocol;
use ekiden_core::outcome::{Cause, Phase};
use ekiden_core::table::ListenerTable;

use crate::exchange::request_out::choose_request_id;
use crate::exchange::run::{self, Decision};
use crate::exchange::{After, Workspace, forward, hold, trace};
use crate::record::Protocol;
use crate::tls::handshake;
use crate::tls::passthrough::{self, NoHello};
use crate::wire::request::TargetForm;
use crate::worker::connection::Connection;

/// Serves a connection to its end. The record has been written when this returns.
pub async fn serve(connection: &mut Connection, ws: &mut Workspace, settings: &ListenerTable) -> After {
    let listener = &settings.listener;
    let is_tls = listener.protocol == ListenerProtocol::TlsPassthrough;
    ws.begin();
    if is_tls {
        let wait_ms = u64::try_from(listener.limits.head_deadline.as_millis()).unwrap_or(u64::MAX);
        match passthrough::read_hello(connection, ws, wait_ms).await {
            Ok(()) => {}
            Err(NoHello::Silent) => return After::Close,
            Err(NoHello::Refused(cause)) => return end(connection, ws, is_tls, cause),
        }
    } else {
        ws.trace.begin(connection.worker.clock.read());
    }
    // There is no path: every route that may stand on such a listener takes the root.
    ws.request.form = TargetForm::Asterisk;
    ws.trace.phase = Phase::Match;
    match run::decide_raw(connection, ws, settings) {
        Decision::Forward(entry, cluster) => {
            note(connection, ws, is_tls);
            run::enter_route(&connection.worker, ws, &entry);
            forward::forward_raw(connection, ws, listener, entry, cluster).await
        }
        Decision::Ask(held) => match *held {
            Decision::Forward(entry, cluster) => {
                note(connection, ws, is_tls);
                run::enter_route(&connection.worker, ws, &entry);
                let again = match Box::pin(hold::wait(connection, ws, &entry)).await {
                    Ok(()) => hold::again(connection, ws, listener, &entry, &cluster),
                    Err(cause) => Decision::Refuse(cause, None),
                };
                match again {
                    Decision::Forward(entry, cluster) => {
                        forward::forward_raw(connection, ws, listener, entry, cluster).await
                    }
                    other => {
                        let cause = match other {
                            Decision::Refuse(cause, _) => cause,
                            // Its app is in maintenance: there is no page here.
                            _ => Cause::Maintenance,
                        };
                        connection.worker.buffers.discard(&mut ws.client_in);
                        end(connection, ws, is_tls, cause)
                    }
                }
            }
            // What waits for anything else lets no route stand here.
            _ => end(connection, ws, is_tls, Cause::NoRoute),
        },
        Decision::Refuse(cause, _) => {
            if is_tls && cause == Cause::NoRoute {
                handshake::refuse_name(&mut connection.stream);
                end(connection, ws, is_tls, cause);
                return After::Linger;
            }
            end(connection, ws, is_tls, cause)
        }
        Decision::RefuseOn(entry, cause) => {
            run::enter_route(&connection.worker, ws, &entry);
            end(connection, ws, is_tls, cause)
        }
        // Validation lets no such route stand here.
        Decision::Act(_)
        | Decision::Preflight(_)
        | Decision::Secure(_)
        | Decision::Learn(_)
        | Decision::Load(_) => end(connection, ws, is_tls, Cause::NoRoute),
    }
}

/// What the record says whatever becomes of the connection.
fn note(connection: &Connection, ws: &mut Workspace, is_tls: bool) {
    ws.trace.protocol = Some(if is_tls { Protocol::TlsPassthrough } else { Protocol::Tcp });
    choose_request_id(&connection.worker, ws);
}

fn end(connection: &Connection, ws: &mut Workspace, is_tls: bool, cause: Cause) -> After {
    note(connection, ws, is_tls);
    trace::end(&connection.worker, ws, cause);
    After::Abort
}
