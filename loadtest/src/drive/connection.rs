//! One connection of the load generator: reads answers piecewise and checks status, length and end.
//! It neither writes nor measures.

use crate::failure::{Fallible, failure};
use crate::http1;
use std::net::TcpStream;
use std::time::Instant;

/// When the request now on a connection was meant to start, and whether it counts.
pub(super) type Intent = Option<Instant>;

/// A keep-alive connection and the request that is on it.
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    /// Bytes of an answer so far; its body is counted, not kept.
    head: Vec<u8>,
    body_left: usize,
    in_body: bool,
    pub(super) intent: Intent,
    /// The other side announced the close.
    pub(super) close: bool,
    /// The answer is a 502 or 503.
    pub(super) refused: bool,
}

impl Connection {
    /// An idle one.
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            head: Vec::new(),
            body_left: 0,
            in_body: false,
            intent: None,
            close: false,
            refused: false,
        }
    }

    /// Takes bytes of an answer; true when it is whole and right. With `refusals` a 502 or 503 is right too.
    pub(super) fn take(&mut self, bytes: &[u8], body_len: usize, refusals: bool) -> Fallible<bool> {
        if self.intent.is_none() {
            return Err(failure("bytes without a request"));
        }
        let mut body = bytes;
        if !self.in_body {
            self.head.extend_from_slice(bytes);
            let Some(head) = http1::head(&self.head)? else { return Ok(false) };
            self.refused = refusals && matches!(head.status, 502 | 503);
            if head.status != 200 && !self.refused {
                return Err(failure(format!("status {}", head.status)));
            }
            let body_len = if self.refused { head.body_len.unwrap_or(body_len) } else { body_len };
            if head.body_len != Some(body_len) {
                return Err(failure(format!("Content-Length {:?} instead of {body_len}", head.body_len)));
            }
            self.close = head.close;
            self.in_body = true;
            self.body_left = body_len;
            body = &bytes[bytes.len() - (self.head.len() - head.head_len)..];
            self.head.clear();
        }
        self.body_left =
            self.body_left.checked_sub(body.len()).ok_or_else(|| failure("more bytes than one body"))?;
        self.in_body = self.body_left > 0;
        Ok(!self.in_body)
    }
}
