//! What the endpoint that fails answers: a page, or 503 while it is busy.

use crate::failure::{Fallible, failure};
use crate::killable::{self, Serve};
use crate::origin;
use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};

/// What it answers while it is busy.
const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";

/// The endpoint.
pub(super) type Endpoint = killable::Endpoint<Page>;

/// Answers every request as the origin answers `/`.
#[derive(Debug)]
pub(super) struct Page {
    answer: Vec<u8>,
    busy: AtomicBool,
}

/// Starts one on a free address.
pub(super) fn start() -> Fallible<Endpoint> {
    let body = origin::body("/").ok_or_else(|| failure("the origin has no /"))?;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    let answer = [head.as_bytes(), &body[..]].concat();
    Endpoint::start(Page { answer, busy: AtomicBool::new(false) })
}

impl Page {
    /// Answers 503 from now on, or does no more.
    pub(super) fn set_busy(&self, busy: bool) {
        self.busy.store(busy, Ordering::Release);
    }
}

impl Serve for Page {
    fn answer(&self) -> (Cow<'_, [u8]>, bool) {
        let busy = self.busy.load(Ordering::Acquire);
        (Cow::Borrowed(if busy { BUSY } else { &self.answer }), !busy)
    }
}
