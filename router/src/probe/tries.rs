//! Has requests of clients try an ejected endpoint whose checks pass though it answered requests with failures: only a
//! request can tell when it is well again.
//!
//! One request at a time, and such as its route sends again (`exchange::forward::trial`), so that no client sees one fail.
//! After a failure there is a pause. Endpoints that were ejected for anything but the status of their answers are not
//! tried: their requests cost time. What a row of successes means is core's `readiness`.

use std::sync::Arc;
use std::time::Duration;

use ekiden_core::cell::seat::Offer;
use ekiden_core::cell::{EndpointCell, EvidenceSeen};
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
/// A request that nothing was heard of for so long, since its client left, is not waited for any more.
const LOST_AFTER: Duration = Duration::from_secs(30);

/// The tries of one ejection. Dropping it takes back what is offered.
pub(super) struct Tries {
    shared: Arc<Shared>,
    cell: Arc<EndpointCell>,
    seen: EvidenceSeen,
    passed: u32,
    /// What is offered, and since when.
    offered: Option<(Offer, Instant)>,
    /// When the endpoint is tried again.
    from: Instant,
}

impl Tries {
    pub(super) fn new(shared: &Arc<Shared>, cell: &Arc<EndpointCell>) -> Self {
        cell.try_by_requests(true);
        let from = Instant::now() + LOOK_EVERY;
        Self {
            shared: Arc::clone(shared),
            cell: Arc::clone(cell),
            seen: cell.evidence(),
            passed: 0,
            offered: None,
            from,
        }
    }

    /// Looks at what came of the last request and offers the endpoint to the next one. Says when to look again; never, where
    /// requests are not to try it.
    pub(super) fn look(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let seen = self.cell.evidence();
        if seen.last != Evidence::Status {
            return None;
        }
        let (app, cluster) = self.cell.incarnation().place();
        let table = (self.shared.hooks.table)();
        let cluster = table.cluster_named(app, cluster)?;
        let before = std::mem::replace(&mut self.seen, seen);
        // Requests that were under way when it was ejected end as well: what goes wrong tells as much, and counts as no try.
        let was_tried = self.offered.is_some_and(|(offer, _)| cluster.cell.seat.offered() != Some(offer));
        if seen.bad > before.bad {
            self.failed(cluster, was_tried, now);
        } else if was_tried && seen.good > before.good {
            self.went_well(cluster);
        }
        if self.cell.is_ejected() && now >= self.from {
            self.offer(cluster, now);
        }
        Some((now + LOOK_EVERY).max(self.from))
    }

    /// Nobody tries it any more, until the next look.
    pub(super) fn withdraw(&mut self) {
        self.passed = 0;
        let Some((offer, _)) = self.offered.take() else { return };
        let (app, cluster) = self.cell.incarnation().place();
        if let Some(cluster) = (self.shared.hooks.table)().cluster_named(app, cluster) {
            cluster.cell.seat.take(offer);
        }
    }

    fn failed(&mut self, cluster: &ClusterTable, was_tried: bool, now: Instant) {
        if was_tried {
            cluster.cell.ejections.tried_badly.add(1);
            self.cell.on(Event::Tried(false), self.shared.clock.now().unix_ms);
        }
        self.withdraw();
        self.from = now + PAUSE;
    }

    fn went_well(&mut self, cluster: &ClusterTable) {
        cluster.cell.ejections.tried_well.add(1);
        self.offered = None;
        self.passed += 1;
        if self.passed < self.cell.trial_requests() {
            return;
        }
        if let Some(change) = self.cell.on(Event::Tried(true), self.shared.clock.now().unix_ms) {
            cluster.cell.ejections.ended.add(1);
            self.shared.changed(&self.cell, &change);
        }
    }

    /// Offers the endpoint, unless it is offered, or a request that took it is under way.
    fn offer(&mut self, cluster: &ClusterTable, now: Instant) {
        let seat = &cluster.cell.seat;
        if let Some((offer, since)) = self.offered {
            let waits = seat.offered() == Some(offer);
            if now.saturating_duration_since(since) < if waits { UNTAKEN_AFTER } else { LOST_AFTER } {
                return;
            }
            self.withdraw();
            if waits {
                // Another one may have more luck, and in another table its place may be another one.
                self.from = now + 2 * LOOK_EVERY;
                return;
            }
        }
        let place = cluster.position(self.cell.incarnation().id());
        let offer = place.map(|index| Offer::new(index, self.cell.uid()));
        self.offered = offer.filter(|offer| seat.offer(*offer)).map(|offer| (offer, now));
    }
}

impl Drop for Tries {
    fn drop(&mut self) {
        self.withdraw();
        self.cell.try_by_requests(false);
    }
}
