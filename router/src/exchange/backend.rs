//! The `Backend` door: a plug-in that answers an exchange itself, by streaming. The embedded one is the fixed response.
//!
//! Contract: `start` is called on a worker and returns at once; the reply's body is polled in the connection's task,
//! never blocks, appends at most a bounded piece per poll and may be dropped at any point (cancel). A panic ends the
//! connection like any panic on a worker. Caches, queues and scatter come in through here later.

use std::task::{Context, Poll};

use ekiden_config::model::FixedResponse;

use crate::wire::request::RequestHead;

/// A backend gave up in the middle of a reply; the client's response is truncated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackendError;

/// Answers exchanges.
pub trait Backend {
    /// Begins a reply. The request's body is not read; the connection closes after the reply if there is one.
    fn start(&self, request: &RequestHead) -> Reply;
}

/// A reply under way.
pub struct Reply {
    /// Status, 200..=599.
    pub status: u16,
    /// Fields beside framing and `Date`.
    pub fields: Vec<(String, String)>,
    /// The body; none means an empty one.
    pub body: Option<Box<dyn ReplyBody>>,
}

/// The body of a reply.
pub trait ReplyBody {
    /// Length in bytes when known before the first byte.
    fn length(&self) -> Option<u64>;

    /// Appends the next piece. `Ready(Ok(false))` is the end.
    fn poll_piece(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<Result<bool, BackendError>>;
}

/// Answers with a fixed response.
#[derive(Debug)]
pub struct Fixed<'a>(pub &'a FixedResponse);

struct Whole(Option<std::sync::Arc<str>>);

impl ReplyBody for Whole {
    fn length(&self) -> Option<u64> {
        Some(self.0.as_ref().map_or(0, |text| text.len() as u64))
    }

    fn poll_piece(&mut self, _: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<Result<bool, BackendError>> {
        let piece = self.0.take();
        out.extend_from_slice(piece.as_deref().unwrap_or("").as_bytes());
        Poll::Ready(Ok(piece.is_some()))
    }
}

impl Backend for Fixed<'_> {
    fn start(&self, _: &RequestHead) -> Reply {
        let FixedResponse { status, content_type, body } = self.0;
        Reply {
            status: *status,
            fields: vec![("Content-Type".to_owned(), content_type.to_string())],
            body: Some(Box::new(Whole(Some(std::sync::Arc::clone(body))))),
        }
    }
}
