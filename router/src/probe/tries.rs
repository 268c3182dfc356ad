//! Has requests of clients try an ejected endpoint whose checks pass though it answered requests with failures: only a
//! request can tell when it is well again.
//!
//! One request at a time, and such as its route sends again (`exchange::forward::trial`), so that no client sees one fail.
//! After a failure there is a pause. Endpoints whose last failure was anything but the status of an answer are not
//! tried: such requests cost time. What a row of successes means is core's `readiness`.

use std::sync::Arc;
use std::time::Duration;

use ekiden_core::cell::EndpointCell;
use ekiden_core::cell::seat::{Offer, Tried};
use ekiden_core::cluster::ClusterTable;
use ekiden_core::evidence::Evidence;
use ekiden_core::readiness::Event;
use tokio::time::Instant;

use super::shared::Shared;

/// Time between two looks at what came of a request.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Time without a request after one that failed.
const PAUSE: Duration = Duration::from_millis(500);
/// An offer that no request took is taken back after so long.
const UNTAKEN_AFTER: Duration = Duration::from_secs(1);
/// A request that nothing was heard of for so long is not waited for any more.
const LOST_AFTER: Duration = Duration::from_secs(30);

/// What is offered, or was taken and is under way.
#[derive(Clone, Copy)]
struct Out {
    offer: Offer,
    since: Instant,
    /// What the seat had told by then.
    before: u64,
}

/// The tries of one ejection. Dropping it takes back what is offered.
pub(super) struct Tries {
    shared: Arc<Shared>,
    cell: Arc<EndpointCell>,
    passed: u32,
    out: Option<Out>,
    /// When the endpoint is tried again.
    from: Instant,
}

impl Tries {
    pub(super) fn new(shared: &Arc<Shared>, cell: &Arc<EndpointCell>) -> Self {
        cell.try_by_requests(true);
        let from = Instant::now() + LOOK_EVERY;
        Self { shared: Arc::clone(shared), cell: Arc::clone(cell), passed: 0, out: None, from }
    }

    /// Looks at what came of the last request and offers the endpoint to the next one. Says when to look again; never, where
    /// requests are not to try it.
    pub(super) fn look(&mut self) -> Option<Instant> {
        let now = Instant::now();
        if self.cell.evidence().last != Evidence::Status {
            self.withdraw();
            return None;
        }
        let (app, cluster) = self.cell.incarnation().place();
        let table = (self.shared.hooks.table)();
        let cluster = table.cluster_named(app, cluster)?;
        if let Some(out) = self.out
            && let Some(tried) = cluster.cell.seat.told_since(out.before, self.cell.uid())
        {
            self.out = None;
            self.heard(cluster, tried, now);
        }
        if self.cell.is_ejected() && now >= self.from {
            self.offer(cluster, now);
        }
        Some((now + LOOK_EVERY).max(self.from))
    }

    /// Nobody begins to try it any more, until the next look.
    pub(super) fn withdraw(&mut self) {
        self.passed = 0;
        let Some(out) = self.out else { return };
        let (app, cluster) = self.cell.incarnation().place();
        let table = (self.shared.hooks.table)();
        let is_back =
            table.cluster_named(app, cluster).is_none_or(|cluster| cluster.cell.seat.take(out.offer));
        if is_back {
            self.out = None;
        }
    }

    fn heard(&mut self, cluster: &ClusterTable, tried: Tried, now: Instant) {
        let now_ms = self.shared.clock.now().unix_ms;
        match tried {
            Tried::Well => {
                cluster.cell.ejections.tried_well.add(1);
                self.passed += 1;
                if self.passed >= self.cell.trial_requests()
                    && let Some(change) = self.cell.on(Event::Tried(true), now_ms)
                {
                    cluster.cell.ejections.ended.add(1);
                    self.shared.changed(&self.cell, &change);
                }
            }
            Tried::Badly => {
                cluster.cell.ejections.tried_badly.add(1);
                self.cell.on(Event::Tried(false), now_ms);
                (self.passed, self.from) = (0, now + PAUSE);
            }
            Tried::Lost => self.from = now + PAUSE,
        }
    }

    /// Offers the endpoint, unless it is offered, or a request that took it is under way.
    fn offer(&mut self, cluster: &ClusterTable, now: Instant) {
        let seat = &cluster.cell.seat;
        if let Some(out) = self.out {
            let waits = seat.offered() == Some(out.offer);
            if now.saturating_duration_since(out.since) < if waits { UNTAKEN_AFTER } else { LOST_AFTER } {
                return;
            }
            if waits {
                seat.take(out.offer);
                // Another one may have more luck, and in another table its place may be another one.
                (self.out, self.from) = (None, now + 2 * LOOK_EVERY);
                return;
            }
            self.passed = 0;
        }
        let before = seat.last_told();
        let place = cluster.position(self.cell.incarnation().id());
        let offer = place.map(|index| Offer::new(index, self.cell.uid()));
        self.out = offer.filter(|offer| seat.offer(*offer)).map(|offer| Out { offer, since: now, before });
    }
}

impl Drop for Tries {
    fn drop(&mut self) {
        self.withdraw();
        self.cell.try_by_requests(false);
    }
}
