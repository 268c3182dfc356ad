//! Hears of endpoints that evidence speaks against and has their clusters judged; sends who is ejected to be tried.
//!
//! A cluster is looked at when a worker reports, and once per bucket of its window while failures are fresh; the others
//! cost nothing. Runs on the probe thread. How it is judged is core's `ejection`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ekiden_config::names::{AppName, ClusterName};
use ekiden_core::cell::EndpointCell;
use ekiden_core::ejection::{Judge, bucket};
use tokio::time::Instant;

use super::shared::Shared;
use super::suspects::SUSPECTS_MAX;
use super::trial;

/// Share of the thread that judging may take: after a round of t it rests 4 t. Matters for clusters of many thousand
/// endpoints of which many fail.
const REST: u32 = 4;
/// Shortest rest: failures that come meanwhile are judged together, and a storm of them costs a thousand rounds a second.
const SHORTEST_REST: Duration = Duration::from_millis(1);

type Key = (AppName, ClusterName);

/// One cluster under judgement.
struct Docket {
    judge: Judge,
    /// When it is looked at without being asked.
    next: Instant,
}

/// Judges for ever. Returns at once when somebody else hears the reports.
pub(super) async fn run(shared: Arc<Shared>) {
    let Some(mut arrivals) = shared.hooks.suspects.arrivals() else { return };
    let mut dockets: BTreeMap<Key, Docket> = BTreeMap::new();
    let mut heard = Vec::new();
    loop {
        let next = dockets.values().map(|docket| docket.next).min();
        let due = async {
            match next {
                Some(next) => tokio::time::sleep_until(next).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            count = arrivals.recv_many(&mut heard, SUSPECTS_MAX) => {
                if count == 0 {
                    return;
                }
            }
            () = due => {}
        }
        let began = Instant::now();
        let mut clusters: BTreeSet<Key> =
            dockets.iter().filter(|(_, docket)| docket.next <= began).map(|(key, _)| key.clone()).collect();
        clusters.extend(heard.drain(..).map(|cell| place_of(&cell)));
        for key in clusters {
            look(&shared, &mut dockets, key);
        }
        tokio::time::sleep((began.elapsed() * REST).max(SHORTEST_REST)).await;
    }
}

/// Where an endpoint that was heard of is. It may tell again from now on: the table in force may not know it yet, or not that it is to
/// be judged, and then nobody takes its news.
fn place_of(cell: &EndpointCell) -> Key {
    cell.keep_news();
    let (app, cluster) = cell.incarnation().place();
    (app.clone(), cluster.clone())
}

/// Looks at one cluster; closes its docket when nothing has failed for a while.
fn look(shared: &Arc<Shared>, dockets: &mut BTreeMap<Key, Docket>, key: Key) {
    let docket = dockets
        .entry(key.clone())
        .or_insert_with(|| Docket { judge: Judge::default(), next: Instant::now() });
    // The table in force, not the one the report came from: a cluster that is gone needs no judge.
    let table = (shared.hooks.table)();
    let cluster = table.cluster_named(&key.0, &key.1);
    let policy = cluster.and_then(|cluster| cluster.cluster.policy.readiness.ejection.as_ref());
    let (Some(cluster), Some(policy)) = (cluster, policy) else {
        docket.judge.rest();
        dockets.remove(&key);
        return;
    };
    let now = shared.clock.now();
    for ejected in docket.judge.judge(cluster, now) {
        shared.changed(&ejected.cell, &ejected.change);
        tokio::spawn(trial::run(Arc::clone(shared), ejected.cell));
    }
    docket.next = Instant::now() + bucket(policy);
    if docket.judge.is_quiet(policy, now.ms) {
        docket.judge.rest();
        dockets.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use ekiden_config::model::{Address, Endpoint, Owner};
    use ekiden_config::names::EndpointId;
    use ekiden_core::cell::{ClusterPlace, Incarnation};
    use ekiden_core::evidence::Evidence;
    use ekiden_core::health::Health;

    use super::*;

    /// Who was heard of before the table in force has a policy for its cluster, is heard of again.
    #[test]
    fn who_is_not_looked_at_may_tell_again() {
        let (app, cluster) = (AppName::default_app(), ClusterName::new("web").unwrap());
        let endpoint = Endpoint {
            id: EndpointId::new("one").unwrap(),
            address: Address::Unix(Arc::from("/one")),
            tags: None,
            weight: 1,
            priority: 0,
            drain: false,
            owner: Owner::File,
        };
        let place = Arc::new(ClusterPlace::new(app.clone(), cluster.clone()));
        let cell = EndpointCell::new(Incarnation::new(place, Arc::new(endpoint)), Health::Ready, "", 0);
        for round in 1..=5 {
            assert_eq!(cell.note_evidence(Evidence::Connect), round == 1, "told once until it is heard of");
        }
        assert_eq!(place_of(&cell), (app, cluster));
        assert!(cell.note_evidence(Evidence::Connect), "and once more");
        assert!(cell.take_news(), "a streak that was long enough is not forgotten");
    }
}
