//! What the watcher does with what it is told: closed apps, stores that take nothing now, and roles. No judging by numbers (`judge`).

use std::sync::atomic::{AtomicU64, Ordering};

use ekiden_config::doors::{EndpointStatus, Generation, Inspect};
use ekiden_config::names::ClusterName;

use super::*;
use crate::desired::MaintenanceWords;
use crate::problem::Problem;
use crate::store::Journal;
use crate::store::Write;

/// An app whose every answer is an error.
#[derive(Default)]
struct Failing(AtomicU64);

impl Inspect for Failing {
    fn generation(&self) -> Generation {
        Generation(1)
    }

    fn endpoints(&self, _app: &AppName, _cluster: &ClusterName) -> Option<Vec<EndpointStatus>> {
        None
    }

    fn traffic(&self) -> Option<BTreeMap<AppName, AppTraffic>> {
        let requests = self.0.fetch_add(1_000, Ordering::Relaxed);
        let traffic = AppTraffic { requests, errors: requests, ..AppTraffic::default() };
        Some(BTreeMap::from([(app(), traffic)]))
    }
}

fn app() -> AppName {
    AppName::new("shop").unwrap()
}

async fn put(store: &dyn Store, write: Write) {
    store.commit(Txn { when: vec![], writes: vec![write] }).await.unwrap();
}

/// A guarded version 2 of an app that answered well before.
async fn watching(dir: &std::path::Path) -> (Watcher, Arc<dyn Store>, mpsc::Receiver<AppsChange>) {
    let store: Arc<dyn Store> = Arc::new(Journal::open(dir).unwrap().0);
    let words = AppWords { spec: Value::Null, adopted: false, version: 2 };
    put(&*store, write(app_key(&app()), &words)).await;
    let guard = GuardWords {
        state: GuardState::Watching,
        reason: String::new(),
        version: 2,
        back_to: None,
        guard_ms: 3_600_000,
        until_unix_ms: 0,
        before: Before { requests: 1_000, errors: 0, buckets: vec![] },
    };
    put(&*store, write(guard_key(&app()), &guard)).await;
    let (changes, inlet) = mpsc::channel(4);
    let guards = Guards::new(InspectDoor(Arc::new(Failing::default())), None);
    let status = StatusCell::default();
    (Watcher { guards, store: Some(Arc::clone(&store)), changes, status, elector: None }, store, inlet)
}

#[tokio::test]
async fn nothing_is_judged_while_an_app_is_in_maintenance_or_held() {
    let dir = tempfile::tempdir().unwrap();
    let (watcher, store, mut inlet) = watching(dir.path()).await;
    let mut watched = BTreeMap::new();
    watcher.find(&mut watched, false);
    for key in [maintenance_key(&app()), hold_key(&app())] {
        put(&*store, write(Arc::clone(&key), &MaintenanceWords::default())).await;
        watcher.look(&mut watched).await;
        watcher.look(&mut watched).await;
        put(&*store, Write { key, value: None }).await;
        // What ended meanwhile does not count behind it either.
        watcher.look(&mut watched).await;
        assert_eq!(watched.len(), 1);
    }
    assert!(inlet.try_recv().is_err());
    // Then it does again.
    tokio::join!(watcher.look(&mut watched), async {
        let _ = inlet.recv().await.unwrap().reply.send(Err(Problem::new(409, "conflict", "no")));
    });
    assert!(watched.is_empty());
}

#[tokio::test]
async fn a_rollback_that_cannot_be_written_now_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let (watcher, store, mut inlet) = watching(dir.path()).await;
    let mut watched = BTreeMap::new();
    watcher.find(&mut watched, false);
    let stored = || words::<GuardWords>(&store.get(&guard_key(&app())).unwrap()).unwrap().state;
    for (code, state) in [
        ("not_leading", GuardState::Watching),
        ("storage_unknown", GuardState::Watching),
        ("storage_full", GuardState::Watching),
        ("invalid_app", GuardState::Failed),
    ] {
        tokio::join!(watcher.look(&mut watched), async {
            let _ = inlet.recv().await.unwrap().reply.send(Err(Problem::new(503, code, "no")));
        });
        assert_eq!(stored(), state, "{code}");
        assert_eq!(watched.len(), usize::from(state == GuardState::Watching), "{code}");
    }
    assert_eq!(watcher.status.read().guards.failed, 1);
}

#[derive(Debug)]
struct Turns(watch::Sender<Role>);

impl Elector for Turns {
    fn role(&self) -> watch::Receiver<Role> {
        self.0.subscribe()
    }

    fn leads(&self) -> bool {
        false
    }

    fn beat(&self) {}
}

#[tokio::test]
async fn who_leads_watches_and_who_takes_over_goes_on_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let (mut watcher, _store, mut inlet) = watching(dir.path()).await;
    let turns = Arc::new(Turns(watch::Sender::new(Role::Following { leader: None, reason: String::new() })));
    watcher.elector = Some(Arc::clone(&turns) as Arc<dyn Elector>);
    let (guards, status) = (watcher.guards.clone(), watcher.status.clone());
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(watcher.run(stopped));
    for _ in 0..10 {
        guards.wake();
        tokio::task::yield_now().await;
    }
    assert!(inlet.try_recv().is_err());
    assert_eq!(status.read().guards.watching, 0, "it is the leader's to judge");
    turns.0.send_replace(Role::Leading { term: 2 });
    assert_eq!(inlet.recv().await.unwrap().by, "guard");
    stop.send_replace(true);
    task.await.unwrap();
}

#[test]
fn the_time_of_a_guard_does_not_pass_while_its_app_is_closed() {
    let (begun, late) = (Instant::now(), Duration::from_secs(2));
    let words = GuardWords {
        state: GuardState::Watching,
        reason: String::new(),
        version: 2,
        back_to: None,
        guard_ms: 60_000,
        until_unix_ms: 0,
        before: Before::default(),
    };
    let left = Duration::from_secs(60);
    let from = begun + late;
    let mut one = Watched {
        words,
        revision: 1,
        base: AppTraffic::default(),
        left,
        looked_at: begun,
        from,
        paused: false,
        waits: false,
    };
    let traffic = |requests| AppTraffic { requests, ..AppTraffic::default() };
    // So many seconds after the change: whether it is closed, what is left, and what had ended at the last look that counts for nothing.
    let looks = [
        (1, false, 60, 1),
        (2, false, 60, 1),
        (12, false, 50, 1),
        (20, true, 50, 20),
        (100, true, 50, 100),
        (101, false, 50, 101),
        (102, false, 50, 101),
        (112, false, 40, 101),
        (200, false, 0, 101),
    ];
    for (second, is_closed, left, base) in looks {
        one.note(is_closed, Some(&traffic(second)), (begun + Duration::from_secs(second), late));
        assert_eq!((one.left.as_secs(), one.base.requests), (left, base), "{second}");
    }
}
