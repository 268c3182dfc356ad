//! Tells a client that begins with HTTP/2 (prior knowledge, RFC 9113 section 3.3) from one of HTTP/1 on the same port, by its
//! first bytes.
//!
//! Nearly all clients are told apart by one byte, and all by four. Does not consume what it has read, and does not judge the
//! rest of the preface (the codec does).

use std::future::poll_fn;
use std::task::Poll;

use crate::buffer::Buffer;
use crate::worker::connection::Connection;

/// What a client of HTTP/2 sends first.
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a client speaks, with what has been read of it.
#[derive(Debug)]
pub enum Told {
    /// HTTP/1, or nothing that can be served: its head says what.
    Http1(Buffer),
    /// HTTP/2.
    Http2(Buffer),
    /// It closed without a byte.
    Silent,
}

/// Reads until the protocol is told, or until `wait_ms` is over: then it is HTTP/1, which bounds the rest of the head.
pub async fn tell(connection: &mut Connection, wait_ms: u64) -> Told {
    let worker = std::rc::Rc::clone(&connection.worker);
    let over_ms = worker.now_ms() + wait_ms;
    let mut buffer = Buffer::default();
    let http2 = poll_fn(|cx| {
        loop {
            let told = told(buffer.bytes());
            if told.is_some() || !worker.buffers.make_room(&mut buffer) {
                return Poll::Ready(told.unwrap_or(false));
            }
            match buffer.poll_read(cx, &mut connection.stream) {
                Poll::Ready(Ok(count)) if count > 0 => {}
                Poll::Ready(_) => return Poll::Ready(false),
                Poll::Pending if worker.now_ms() >= over_ms || worker.is_forced() => {
                    return Poll::Ready(false);
                }
                Poll::Pending => {
                    connection.deadline.set(over_ms, cx.waker());
                    return Poll::Pending;
                }
            }
        }
    })
    .await;
    match (http2, buffer.is_empty()) {
        (true, _) => Told::Http2(buffer),
        (false, false) => Told::Http1(buffer),
        (false, true) => {
            worker.buffers.discard(&mut buffer);
            Told::Silent
        }
    }
}

/// Bytes of the preface that no request of HTTP/1 begins with: the method is reserved (RFC 9113 section 11.5).
const TELLING: usize = 4;

/// Whether bytes begin HTTP/2; none while they may.
fn told(bytes: &[u8]) -> Option<bool> {
    let length = bytes.len().min(TELLING);
    if bytes.get(..length) != PREFACE.get(..length) {
        return Some(false);
    }
    (length == TELLING).then_some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_that_differs_tells() {
        for (bytes, expected) in [
            (&b""[..], None),
            (b"P", None),
            (b"PR", None),
            (b"PO", Some(false)),
            (b"PROPFIND / HTTP/1.1", Some(false)),
            (b"GET", Some(false)),
            (b"PRI", None),
            (b"PRI ", Some(true)),
            (b"PRIX", Some(false)),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Some(true)),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0", Some(true)),
            (b"\x16\x03\x01", Some(false)),
        ] {
            assert_eq!(told(bytes), expected, "{bytes:?}");
        }
    }
}
