//! What the tasks of the probe thread share: a clock, room for checks, how one check is run, and how a change of state is
//! said. Decides nothing.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ekiden_config::doors::{EndpointKey, Observation};
use ekiden_core::cell::EndpointCell;
use ekiden_core::ejection::Now;
use ekiden_core::evidence::Evidence;
use ekiden_core::readiness::{Change, State};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::prober::Hooks;
use super::refresh::Stale;
use super::{Factory, Probe, Verdict, duration_words};

/// Checks under way at once; more wait, and their timeout has not begun.
pub(super) const CHECKS_MAX: usize = 1000;

/// The time of day, carried on by a clock that never goes back: a step of the system's clock lengthens no ejection.
pub(super) struct Clock {
    began: Instant,
    began_unix_ms: u64,
}

impl Clock {
    fn new() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { began: Instant::now(), began_unix_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX) }
    }

    /// Both clocks now.
    pub(super) fn now(&self) -> Now {
        let ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Now { ms, unix_ms: self.began_unix_ms.saturating_add(ms) }
    }
}

/// What all checks share.
pub(super) struct Shared {
    pub(super) hooks: Hooks,
    pub(super) seed: u64,
    permits: Semaphore,
    pub(super) stale: Arc<Stale>,
    pub(super) factory: Factory,
    pub(super) clock: Clock,
}

impl Shared {
    pub(super) fn new(hooks: Hooks, seed: u64, stale: Arc<Stale>, factory: Factory) -> Self {
        Self { hooks, seed, permits: Semaphore::new(CHECKS_MAX), stale, factory, clock: Clock::new() }
    }

    /// Room for one more check; none when the thread ends.
    pub(super) async fn permit(&self) -> Option<SemaphorePermit<'_>> {
        self.permits.acquire().await.ok()
    }

    /// One check within its time. The caller holds a permit.
    pub(super) async fn check(&self, probe: &dyn Probe, cell: &EndpointCell, timeout: Duration) -> Verdict {
        let incarnation = cell.incarnation();
        let address = incarnation.address();
        if (self.hooks.is_own)(address) {
            return Err(format!("{address} is this router's own control or telemetry address"));
        }
        let target = (self.hooks.target)(incarnation)?;
        let mut checking = probe.check(&target);
        let guarded = poll_fn(|context| {
            catch_unwind(AssertUnwindSafe(|| checking.as_mut().poll(context)))
                .unwrap_or_else(|_| Poll::Ready(Err("the probe panicked".to_owned())))
        });
        match tokio::time::timeout(timeout, guarded).await {
            Ok(verdict) => verdict,
            Err(_) => Err(format!("no answer within {}", duration_words(timeout))),
        }
    }

    /// Says what changed, and has the ready set of the cluster made anew.
    pub(super) fn changed(&self, cell: &EndpointCell, change: &Change) {
        let ((app, cluster), endpoint) = (cell.incarnation().place(), cell.incarnation().id());
        let (from, to, reason) = (change.from.word(), change.to.word(), &change.reason);
        match change.to {
            State::Failing | State::Ejected => {
                tracing::warn!(%app, %cluster, %endpoint, "endpoint {endpoint} from {from} to {to} because {reason}");
            }
            State::Starting | State::Warming | State::Ready | State::Draining | State::Gone => {
                tracing::info!(%app, %cluster, %endpoint, "endpoint {endpoint} from {from} to {to} because {reason}");
            }
        }
        self.stale.note(app, cluster);
        self.observe(cell);
    }

    /// A warming endpoint can take more than before: where groups share out the requests, their shares are other ones.
    pub(super) fn stepped(&self, cell: &EndpointCell) {
        let (app, cluster) = cell.incarnation().place();
        let is_grouped = (self.hooks.table)()
            .cluster_named(app, cluster)
            .is_some_and(|cluster| cluster.layout().is_some());
        if is_grouped {
            self.stale.note(app, cluster);
        }
    }

    /// Tells control what an endpoint is now.
    pub(super) fn observe(&self, cell: &EndpointCell) {
        let ((app, cluster), id) = (cell.incarnation().place(), cell.incarnation().id());
        let key = EndpointKey { app: app.clone(), cluster: cluster.clone(), endpoint: id.clone() };
        let status = cell.status();
        let refuses_connects = cell.standing() == State::Ejected && cell.evidence().last == Evidence::Connect;
        self.hooks.observations.note(
            key,
            Observation {
                state: status.state,
                reason: status.reason,
                since_unix_ms: status.since_unix_ms,
                refuses_connects,
            },
        );
    }
}
