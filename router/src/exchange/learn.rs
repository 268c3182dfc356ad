//! A request whose route hangs on a token that is signed with a key nobody knows yet: waits a moment for the issuer's answer, and looks
//! for its route again. Asks nobody itself (see `entrance::fetch`).

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use ekiden_core::outcome::Cause;
use ekiden_core::table::ListenerTable;

use crate::entrance::tokens::Issuer;
use crate::exchange::downstream::Downstream;
use crate::exchange::{After, Workspace, run};
use crate::worker::connection::Connection;

/// Longest wait for keys of tokens, in milliseconds.
const KEY_MS: u64 = 5_000;

/// Waits for the answer, then serves the request by what is known then.
pub fn again<'a, D: Downstream>(
    connection: &'a mut Connection<D>,
    ws: &'a mut Workspace,
    settings: &'a ListenerTable,
    issuer: Arc<Issuer>,
) -> Pin<Box<dyn Future<Output = After> + 'a>> {
    Box::pin(async move {
        if let Err(cause) = keys(connection, ws, &issuer).await {
            return run::refuse(connection, ws, cause, None).await;
        }
        ws.entrance.set_learned();
        let decision = run::decide_again(connection, ws, settings);
        run::serve_decision(connection, ws, settings, decision).await
    })
}

/// Waits until an issuer has answered, or for [`KEY_MS`].
///
/// # Errors
/// The client has left.
pub async fn keys<D: Downstream>(
    connection: &mut Connection<D>,
    ws: &mut Workspace,
    issuer: &Issuer,
) -> Result<(), Cause> {
    let worker = std::rc::Rc::clone(&connection.worker);
    let over_ms = worker.now_ms() + KEY_MS;
    let mut fetched = std::pin::pin!(issuer.fetched.notified());
    let mut half_closed = false;
    // The answer may have come between the question and this.
    poll_fn(|cx| {
        if fetched.as_mut().poll(cx).is_ready()
            || !issuer.is_asking()
            || worker.is_forced()
            || worker.now_ms() >= over_ms
        {
            return Poll::Ready(Ok(()));
        }
        let client = &mut connection.stream;
        client.poll_watch(cx, &worker.buffers, &mut ws.client_in, &mut half_closed)?;
        connection.deadline.set(over_ms, cx.waker());
        Poll::Pending
    })
    .await
}
