//! Connections that begin with a header of the PROXY protocol: read within a deadline, then the client is the one it names.
//!
//! The header is read to its last byte and no further, so that a handshake or a request behind it is whole. Does not parse
//! (`wire::proxy` does) and does not decide whose header is believed (the listener does).

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use ekiden_core::outcome::Cause;
use tokio::io::{AsyncRead, ReadBuf};

use crate::wire::proxy::{self, Begun, Origin};
use crate::worker::connection::Connection;

/// Bytes of one read at most.
const READ_MAX: usize = 512;
/// How long a connection that a drain finds silent may still send its header.
const SETTLE_MS: u64 = 1_000;

/// Why there is no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoHeader {
    /// Not a byte came: a check of the one in front, mostly.
    Silent,
    /// What came is refused.
    Refused(Cause),
}

/// Reads the header that a connection begins with, within `wait_ms`.
///
/// # Errors
/// There is none.
pub async fn read(connection: &mut Connection, wait_ms: u64) -> Result<Origin, NoHeader> {
    let worker = std::rc::Rc::clone(&connection.worker);
    let began_ms = worker.now_ms();
    let over_ms = began_ms.saturating_add(wait_ms);
    let mut bytes: Vec<u8> = Vec::with_capacity(proxy::LINE_MAX);
    poll_fn(|cx| {
        loop {
            let more = match proxy::read(&bytes) {
                Ok(Begun::Header(origin)) => return Poll::Ready(Ok(origin)),
                Ok(Begun::More(more)) => more.min(READ_MAX),
                Err(proxy::Malformed) => return refused(Cause::ProxyHeaderMalformed),
            };
            let mut space = [0; READ_MAX];
            let mut target = ReadBuf::new(space.get_mut(..more).unwrap_or(&mut []));
            match Pin::new(&mut connection.stream).poll_read(cx, &mut target) {
                Poll::Ready(Ok(())) if !target.filled().is_empty() => {
                    bytes.extend_from_slice(target.filled())
                }
                Poll::Ready(_) if bytes.is_empty() => return Poll::Ready(Err(NoHeader::Silent)),
                Poll::Ready(_) => return refused(Cause::ProxyHeaderMalformed),
                Poll::Pending => {
                    let now_ms = worker.now_ms();
                    let settled = worker.is_draining() && now_ms >= began_ms.saturating_add(SETTLE_MS);
                    if worker.is_forced() || (settled && bytes.is_empty()) {
                        return Poll::Ready(Err(NoHeader::Silent));
                    }
                    if now_ms >= over_ms {
                        let silent = bytes.is_empty();
                        return if silent {
                            Poll::Ready(Err(NoHeader::Silent))
                        } else {
                            refused(Cause::ProxyHeaderTimeout)
                        };
                    }
                    let settle_ms = began_ms.saturating_add(SETTLE_MS).max(now_ms + 1);
                    let wake_ms = if worker.is_draining() { over_ms.min(settle_ms) } else { over_ms };
                    connection.deadline.set(wake_ms, cx.waker());
                    return Poll::Pending;
                }
            }
        }
    })
    .await
}

fn refused(cause: Cause) -> Poll<Result<Origin, NoHeader>> {
    Poll::Ready(Err(NoHeader::Refused(cause)))
}
