//! What a cell has only once it is of use: where answers are timed, load is reported or connections are counted, where there are slots,
//! while it is warming, and after the first failure. Of a million endpoints most never have it.

use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64};

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
    /// Most requests at once; 0 means no bound. Written under the lock of the cell's story.
    pub(super) slots: AtomicU32,
    /// Part of its share that it gets while it is warming, of [`crate::readiness::FULL_SHARE`]; nothing at other times.
    pub(super) ramp: AtomicU32,
    /// See `evidence`.
    pub(super) news: AtomicU8,
    /// The kind of the last failure.
    pub(super) last: AtomicU8,
    /// Statuses of responses that were failures in this streak: a bit each from 500 on, the last one for all beyond.
    pub(super) statuses: AtomicU16,
}

// One that was asked has one, where its answers are timed.
const _: () = assert!(size_of::<Extra>() <= 64);

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
