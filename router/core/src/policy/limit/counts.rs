//! What a limit counted, sharded by worker: one writer each, any number of readers. Knows no accounts.

use std::sync::OnceLock;

use ekiden_config::names::{AppName, ListenerName, RouteName};

use crate::stats::Counter;

/// Whose limit it is. A listener's has the first, an app's the second, a route's the last two.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LimitPlace {
    /// The listener.
    pub listener: Option<ListenerName>,
    /// The app.
    pub app: Option<AppName>,
    /// The route.
    pub route: Option<RouteName>,
}

/// One worker's counts of one limit.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct LimitShard {
    /// Requests that it let pass, also when another limit refused them.
    pub allowed: Counter,
    /// Requests that it refused.
    pub refused: Counter,
    /// Requests that it would have refused, had it not been a shadow.
    pub shadow_refused: Counter,
    /// Requests let pass that took over an account which still owed something: there are more keys than accounts.
    pub crowded: Counter,
}

impl LimitShard {
    const fn new() -> Self {
        Self {
            allowed: Counter::new(),
            refused: Counter::new(),
            shadow_refused: Counter::new(),
            crowded: Counter::new(),
        }
    }
}

/// Where a worker number outside the range counts; nobody reads it. Only a bug of the router comes here.
static SPARE: LimitShard = LimitShard::new();

/// Counts of one limit over all tables that hold it; unused it costs no shard.
#[derive(Debug)]
pub struct LimitCounts {
    /// Whose it is.
    pub place: LimitPlace,
    workers: usize,
    shards: OnceLock<Box<[LimitShard]>>,
}

impl LimitCounts {
    pub(super) fn new(place: LimitPlace, workers: usize) -> Self {
        Self { place, workers: workers.max(1), shards: OnceLock::new() }
    }

    /// The shard that worker number `worker` writes. The first call of all allocates.
    #[inline]
    pub(super) fn shard(&self, worker: usize) -> &LimitShard {
        let shards = self.shards.get_or_init(|| (0..self.workers).map(|_| LimitShard::new()).collect());
        shards.get(worker).unwrap_or(&SPARE)
    }

    /// All shards, none while nothing was counted. Called by telemetry.
    pub fn shards(&self) -> &[LimitShard] {
        self.shards.get().map_or(&[], |shards| shards)
    }
}
