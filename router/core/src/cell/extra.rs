//! What a cell has only once it is of use: where answers are timed, load is reported or connections are counted, and after the
//! first failure. Of a million endpoints most never have it.

use std::sync::atomic::{AtomicU32, AtomicU64};

use once_cell::race::OnceBox;

use super::EndpointCell;
use super::estimate::Estimate;
use super::load::LoadBook;

/// See the file. All zero at first.
#[derive(Debug, Default)]
pub(super) struct Extra {
    /// Where the picker goes by latency.
    pub(super) estimate: Estimate,
    /// There where its load is reported.
    pub(super) load: OnceBox<LoadBook>,
    /// Requests that went well while it was watched, and requests that failed.
    pub(super) good: AtomicU64,
    /// See `good`.
    pub(super) bad: AtomicU64,
    /// Failed connects and connections lost before a response.
    pub(super) failures: AtomicU64,
    /// Connections that carry a request, where they are bounded.
    pub(super) connections: AtomicU32,
}

impl EndpointCell {
    /// Makes it where it is not there yet: once an endpoint, and without a lock, since what two threads make at once is dropped but
    /// for one.
    #[inline]
    pub(super) fn extra(&self) -> &Extra {
        self.extra.get_or_init(Box::default)
    }

    /// As it is; none while nothing was of use.
    #[inline]
    pub(super) fn extra_seen(&self) -> Option<&Extra> {
        self.extra.get()
    }
}
