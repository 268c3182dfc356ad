//! Reads the host that a client names, of TLS that is not ended here: nothing is taken, so that the endpoint gets it all.
//!
//! Within a deadline and one read buffer. Does not answer but with an alert, and does not choose a route.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use ekiden_core::outcome::Cause;
use rustls::server::Acceptor;

use crate::exchange::Workspace;
use crate::worker::connection::Connection;

/// How long a silent connection is waited for once a drain has begun.
const SETTLE_MS: u64 = 1_000;
/// First byte of a TLS record that holds a handshake message.
const HANDSHAKE_RECORD: u8 = 0x16;

/// Why there is no ClientHello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoHello {
    /// Not a byte came.
    Silent,
    /// What came is refused.
    Refused(Cause),
}

/// Reads the ClientHello into `client_in`, where it stays, and the host that it names into the request; within `wait_ms`.
///
/// # Errors
/// There is none.
pub async fn read_hello(
    connection: &mut Connection,
    ws: &mut Workspace,
    wait_ms: u64,
) -> Result<(), NoHello> {
    let worker = Rc::clone(&connection.worker);
    let over_ms = worker.now_ms().saturating_add(wait_ms);
    let mut settle_ms = None;
    let mut hello = Hello::default();
    poll_fn(|cx| {
        loop {
            worker.buffers.attach(&mut ws.client_in);
            match ws.client_in.poll_read(cx, &mut connection.stream) {
                Poll::Ready(Ok(count)) if count > 0 => {
                    if !ws.trace.is_open() {
                        ws.trace.begin(worker.clock.read());
                    }
                    match hello.look(ws.client_in.bytes(), &mut ws.request.host) {
                        Ok(true) => return Poll::Ready(Ok(())),
                        Ok(false) if !ws.client_in.is_full() => {}
                        Ok(false) | Err(()) => return refused(Cause::ClientHelloMalformed),
                    }
                }
                Poll::Ready(_) if ws.trace.is_open() => return refused(Cause::ClientGone),
                Poll::Ready(_) => return Poll::Ready(Err(NoHello::Silent)),
                Poll::Pending => {
                    let now_ms = worker.now_ms();
                    let silent = !ws.trace.is_open();
                    // As before a first request: who was let in a moment ago may still begin.
                    let drained = silent
                        && worker.is_draining()
                        && now_ms >= *settle_ms.get_or_insert(now_ms + SETTLE_MS);
                    if worker.is_forced() || drained || now_ms >= over_ms {
                        return if silent {
                            Poll::Ready(Err(NoHello::Silent))
                        } else {
                            refused(Cause::HeadTimeout)
                        };
                    }
                    if silent {
                        worker.buffers.detach(&mut ws.client_in);
                    }
                    connection.deadline.set(settle_ms.unwrap_or(over_ms).min(over_ms), cx.waker());
                    return Poll::Pending;
                }
            }
        }
    })
    .await
}

fn refused(cause: Cause) -> Poll<Result<(), NoHello>> {
    Poll::Ready(Err(NoHello::Refused(cause)))
}

/// A ClientHello as far as it has come.
#[derive(Default)]
pub struct Hello {
    acceptor: Acceptor,
    /// Bytes that the parser has had.
    seen: usize,
}

impl Hello {
    /// Looks at what came since the last time, of all that came; true when the ClientHello is whole, and the host that it names stands
    /// behind what `host` holds.
    ///
    /// # Errors
    /// It is none.
    #[expect(clippy::result_unit_err, reason = "there is one answer to all that is no ClientHello")]
    pub fn look(&mut self, bytes: &[u8], host: &mut String) -> Result<bool, ()> {
        if bytes.first() != Some(&HANDSHAKE_RECORD) {
            return Err(());
        }
        let mut rest = bytes.get(self.seen..).unwrap_or(&[]);
        while !rest.is_empty() {
            self.seen += self.acceptor.read_tls(&mut rest).ok().filter(|count| *count > 0).ok_or(())?;
            if let Some(accepted) = self.acceptor.accept().map_err(|_| ())? {
                host.push_str(accepted.client_hello().server_name().unwrap_or(""));
                host.make_ascii_lowercase();
                return Ok(true);
            }
        }
        Ok(false)
    }
}
