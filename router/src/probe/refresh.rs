//! Turns changes of health into new ready sets: notes the clusters that changed and refreshes each once per round,
//! however many of its endpoints changed. Runs on the probe thread.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ekiden_config::names::{AppName, ClusterName};
use tokio::sync::Notify;

use super::Hooks;

/// Share of the thread that refreshing may take: after a round of t it rests 4 t. Matters for clusters of many
/// thousand endpoints at start; a usual round is far below [`ROUND_FREE`].
const REST: u32 = 4;
/// A round this short needs no rest.
const ROUND_FREE: Duration = Duration::from_micros(250);

/// Clusters whose ready set is out of date. Bounded by the number of clusters.
#[derive(Debug, Default)]
pub(super) struct Stale {
    clusters: Mutex<BTreeSet<(AppName, ClusterName)>>,
    news: Notify,
}

impl Stale {
    /// Notes a cluster. Called after a cell's health changed.
    pub(super) fn note(&self, app: &AppName, cluster: &ClusterName) {
        let mut clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        clusters.insert((app.clone(), cluster.clone()));
        self.news.notify_one();
    }

    fn take(&self) -> BTreeSet<(AppName, ClusterName)> {
        std::mem::take(&mut *self.clusters.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Refreshes what is noted, for ever.
    pub(super) async fn run(&self, hooks: &Hooks) {
        loop {
            self.news.notified().await;
            // Checks that are answered already say so first; one round then serves them all.
            tokio::task::yield_now().await;
            let began = Instant::now();
            for (app, cluster) in self.take() {
                // The table in force, not the one the check began under: see `ClusterTable::refresh_ready`.
                if let Some(table) = (hooks.table)().cluster_named(&app, &cluster) {
                    table.refresh_ready();
                }
                (hooks.on_change)(&app, &cluster);
            }
            let round = began.elapsed();
            if round > ROUND_FREE {
                tokio::time::sleep(round * REST).await;
            }
        }
    }
}
