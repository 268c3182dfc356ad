//! What is told of dynos and rollouts: one value, replaced whole, read by the API and by telemetry from any thread.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use crate::overlay::ClusterKey;

/// Rollouts that are remembered.
pub(super) const ROLLOUTS_MAX: usize = 50;

/// A dyno for people and the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct DynoView {
    /// `web.1`.
    pub(crate) name: String,
    /// `web`.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// The cluster whose endpoint it is.
    pub(crate) cluster: String,
    /// Its id as an endpoint; none when it has no route.
    pub(crate) endpoint: Option<String>,
    /// `v42`.
    pub(crate) release: String,
    /// Where it listens, once it does.
    pub(crate) address: Option<String>,
    /// `starting`, `ready`, `draining`, `stopping` or `waiting` for its next start.
    pub(crate) state: &'static str,
    /// Why it is not ready, if that is known.
    pub(crate) reason: Option<String>,
    /// When it came into that state, milliseconds since the Unix epoch.
    pub(crate) since_unix_ms: u64,
    /// Its process, while there is one.
    pub(crate) pid: Option<u32>,
    /// How often its place was started again after an end that nobody asked for.
    pub(crate) restarts: u32,
}

/// How far a rollout is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RolloutState {
    /// Dynos of the new release start; the old ones serve.
    Starting,
    /// They are ready and placed; the router has to find them ready too.
    Shifting,
    /// The new release serves on trial; the old one gets no new requests, and waits.
    Guarding,
    /// The old ones get no new requests and finish what they have.
    Draining,
    /// Only the new release runs.
    Done,
    /// The old release serves on.
    Failed,
    /// A newer release came first.
    Superseded,
}

/// A rollout for people and the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct RolloutView {
    /// The release's number.
    pub(crate) release: u64,
    /// `v42`.
    pub(crate) name: String,
    /// How far it is.
    pub(crate) state: RolloutState,
    /// What it waits for, or why it failed.
    pub(crate) reason: String,
    /// When it began, milliseconds since the Unix epoch.
    pub(crate) began_unix_ms: u64,
    /// When it ended.
    pub(crate) ended_unix_ms: Option<u64>,
    /// Old dynos that were ended with requests in flight, because their time to drain was over.
    pub(crate) late: Vec<String>,
}

/// Dynos of a type in a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DynoCount {
    /// The process type.
    pub kind: String,
    /// `starting`, `ready`, `draining`, `stopping` or `waiting`.
    pub state: &'static str,
    /// How many.
    pub count: u64,
}

/// Dynos in numbers, for metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DynoCounts {
    /// How many there are.
    pub dynos: Vec<DynoCount>,
    /// Starts after an end that nobody asked for.
    pub restarts: u64,
    /// Rollouts that were done.
    pub rollouts_done: u64,
    /// Rollouts that failed.
    pub rollouts_failed: u64,
    /// Dynos that were ended with requests in flight.
    pub late: u64,
    /// Lines of dynos that nobody read fast enough.
    pub lines_dropped: u64,
}

/// All that is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    /// Whose dynos these are, and where those that listen stand.
    pub(crate) place: ClusterKey,
    /// In order of their ids.
    pub(crate) dynos: Vec<DynoView>,
    /// Oldest first.
    pub(crate) rollouts: Vec<RolloutView>,
    /// For metrics; the counts by state are made of `dynos`.
    pub(crate) counts: DynoCounts,
}

/// Shared place of what is told. Cloning shares it.
#[derive(Debug, Clone)]
pub(crate) struct Board(Arc<Mutex<Arc<Told>>>);

impl Board {
    /// Nothing runs yet.
    pub(crate) fn new(place: ClusterKey) -> Self {
        let told = Told { place, dynos: Vec::new(), rollouts: Vec::new(), counts: DynoCounts::default() };
        Self(Arc::new(Mutex::new(Arc::new(told))))
    }

    /// The newest value.
    pub(crate) fn read(&self) -> Arc<Told> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn replace(&self, told: Told) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(told);
    }

    /// Numbers for metrics.
    pub(crate) fn counts(&self) -> DynoCounts {
        let told = self.read();
        let mut by: BTreeMap<(&str, &'static str), u64> = BTreeMap::new();
        for dyno in &told.dynos {
            *by.entry((&dyno.kind, dyno.state)).or_default() += 1;
        }
        let dynos =
            by.into_iter().map(|((kind, state), count)| DynoCount { kind: kind.to_owned(), state, count });
        DynoCounts { dynos: dynos.collect(), ..told.counts.clone() }
    }
}
