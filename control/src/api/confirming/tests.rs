//! Confirmations that nobody waits for any more, and those that come too late.

use std::collections::BTreeSet;
use std::sync::Mutex;

use tokio::sync::watch;

use super::*;
use crate::api::placements::Lanes;
use crate::desired::placements::{HeldWords, PlacementsWords, placements_key};
use crate::desired::words;
use crate::placement::Heard;
use crate::store::{Committing, Compacted, Event, Journal, Object, Page};

const SOURCE: &str = "dns:web.test";

/// A store, and what the loop hears of confirmations.
struct Bench {
    store: Arc<dyn Store>,
    said: mpsc::Sender<Said>,
    heard: mpsc::Receiver<Said>,
    lanes: Lanes,
    _dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self::on(|store| Arc::new(store))
    }

    fn on(make: impl FnOnce(Journal) -> Arc<dyn Store>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = make(Journal::open(dir.path()).unwrap().0);
        let (said, heard) = mpsc::channel(1);
        Self { store, said, heard, lanes: Lanes::default(), _dir: dir }
    }

    /// Who asks, on a connection of its own.
    async fn asks(&self, source: &str) -> tokio::task::JoinHandle<Result<Vec<String>, Problem>> {
        let place = pushed_place(source);
        let confirming = Confirming {
            source: Arc::from(source),
            is_shared: place.is_none(),
            place,
            said: self.said.clone(),
            store: Some(Arc::clone(&self.store)),
        };
        let lane = self.lanes.of_source(source).await;
        tokio::spawn(async move { confirming.end(lane).await.map(|(_, gone)| gone) })
    }

    /// The loop is asked what is withheld, and says this.
    async fn withholds(&mut self, gone: &[&str]) {
        let Some(Said { word: Word::Withheld(_, reply), .. }) = self.heard.recv().await else {
            panic!("what is withheld is not asked")
        };
        let gone = texts(gone);
        reply.send(Some(Withheld { gone, at_ms: 1, until_ms: u64::MAX })).unwrap();
    }

    /// The loop is told that it may go; what was written down, and where to answer.
    async fn is_told(&mut self) -> (Option<Written>, oneshot::Sender<Heard>) {
        let Some(Said { word: Word::Confirm(_, written), reply: Some(reply) }) = self.heard.recv().await
        else {
            panic!("the loop is not told")
        };
        (written, reply)
    }

    /// A person confirms it, and it goes.
    async fn confirms(&mut self) {
        let asks = self.asks(SOURCE).await;
        self.withholds(&["a"]).await;
        self.is_told().await.1.send(became(Confirmed::Gone(texts(&["a"])))).unwrap();
        assert_eq!(asks.await.unwrap().unwrap(), ["a"]);
    }

    fn sources(&self) -> usize {
        self.store.list(CONFIRMED, None, usize::MAX).objects.len()
    }

    fn stored(&self) -> Option<ConfirmedWords> {
        self.store.get(&confirmed_key(SOURCE)).as_ref().and_then(confirmed)
    }
}

fn texts(all: &[&str]) -> Vec<String> {
    all.iter().map(|one| (*one).to_owned()).collect()
}

/// What was confirmed of a source until then.
fn until(source: &str, until_unix_ms: u64) -> Write {
    write(confirmed_key(source), &ConfirmedWords { at_unix_ms: 1, until_unix_ms, gone: BTreeSet::new() })
}

/// Somebody else writes right before the next commit.
#[derive(Debug)]
struct Raced {
    store: Journal,
    rival: Arc<Mutex<Option<Txn>>>,
}

impl Store for Raced {
    fn commit(&self, txn: Txn) -> Committing {
        let rival = self.rival.lock().unwrap().take().map(|rival| self.store.commit(rival));
        let commit = self.store.commit(txn);
        Box::pin(async move {
            if let Some(rival) = rival {
                rival.await?;
            }
            commit.await
        })
    }

    fn revision(&self) -> Revision {
        self.store.revision()
    }

    fn get(&self, key: &str) -> Option<Object> {
        self.store.get(key)
    }

    fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Page {
        self.store.list(prefix, after, limit)
    }

    fn events(&self, after: Revision, limit: usize) -> Result<Vec<Event>, Compacted> {
        self.store.events(after, limit)
    }

    fn watch(&self) -> watch::Receiver<Revision> {
        self.store.watch()
    }

    fn bytes(&self) -> u64 {
        self.store.bytes()
    }

    fn close(&self) -> bool {
        self.store.close()
    }
}

fn became(confirmed: Confirmed) -> Heard {
    Heard { ticket: Ticket::new(), kept: Kept::default(), confirmed }
}

#[tokio::test]
async fn what_is_written_down_goes_here_too_though_who_asked_went_away() {
    let mut bench = Bench::new();
    let mut newest = bench.store.watch();
    let asks = bench.asks(SOURCE).await;
    bench.withholds(&["a", "b"]).await;
    // The loop is busy: it is told only after the one who asked is gone.
    let busy = Said { word: Word::Confirm(Arc::from("dns:other.test"), None), reply: None };
    bench.said.send(busy).await.unwrap();
    newest.wait_for(|_| bench.stored().is_some()).await.unwrap();
    asks.abort();
    assert!(asks.await.unwrap_err().is_cancelled());
    drop(bench.heard.recv().await);
    // Nobody but the confirmation has anything to say any more.
    drop(std::mem::replace(&mut bench.said, mpsc::channel(1).0));
    let (written, reply) = bench.is_told().await;
    let gone = bench.stored().unwrap().gone;
    assert_eq!(written, Some(Written { revision: bench.store.revision(), gone }));
    reply.send(became(Confirmed::Gone(texts(&["a", "b"])))).unwrap();
    drop(bench.lanes.of_source(SOURCE).await);
    assert!(bench.stored().is_some());
}

#[tokio::test]
async fn what_went_of_a_push_is_kept_no_longer_though_who_asked_went_away() {
    let mut bench = Bench::new();
    let place = pushed_place("push:shop/web").unwrap();
    let key = placements_key(&place);
    let held = HeldWords { until_unix_ms: u64::MAX, ..HeldWords::default() };
    let kept = PlacementsWords { held: Some(held), ..PlacementsWords::default() };
    let writes = vec![write(Arc::clone(&key), &kept)];
    bench.store.commit(Txn { when: Vec::new(), writes }).await.unwrap();
    let asks = bench.asks("push:shop/web").await;
    let (written, reply) = bench.is_told().await;
    assert_eq!(written, None, "those that follow hear of it as of all that is pushed");
    asks.abort();
    assert!(asks.await.unwrap_err().is_cancelled());
    reply.send(became(Confirmed::Gone(texts(&["a"])))).unwrap();
    // Whoever is next in the lane finds it done.
    drop(bench.lanes.of_source("push:shop/web").await);
    let stored: PlacementsWords = words(&bench.store.get(&key).unwrap()).unwrap();
    assert_eq!(stored.held, Some(HeldWords::default()));
}

#[tokio::test]
async fn what_nobody_has_looked_at_stays_everywhere() {
    for (confirmed, status, code) in [
        (Confirmed::More, 409, "conflict"),
        (Confirmed::Gone(Vec::new()), 409, "nothing_held"),
        (Confirmed::Unknown, 404, "unknown_source"),
    ] {
        let mut bench = Bench::new();
        let asks = bench.asks(SOURCE).await;
        bench.withholds(&["a"]).await;
        let (written, reply) = bench.is_told().await;
        assert!(written.unwrap().is_about(&texts(&["a"])) && bench.stored().is_some());
        reply.send(became(confirmed)).unwrap();
        let problem = asks.await.unwrap().unwrap_err();
        assert_eq!((problem.status, problem.code), (status, code), "{problem:?}");
        assert_eq!(bench.stored(), None, "{code}: others let it go");
    }
}

#[tokio::test]
async fn what_is_confirmed_of_another_source_meanwhile_stays_written_down() {
    const OTHER: &str = "dns:other.test";
    let rival = Arc::new(Mutex::new(None));
    let mut bench = Bench::on(|store| Arc::new(Raced { store, rival: Arc::clone(&rival) }));
    bench.store.commit(Txn { when: Vec::new(), writes: vec![until(OTHER, 1)] }).await.unwrap();
    *rival.lock().unwrap() = Some(Txn { when: Vec::new(), writes: vec![until(OTHER, u64::MAX)] });
    bench.confirms().await;
    let other = bench.store.get(&confirmed_key(OTHER)).as_ref().and_then(confirmed);
    assert_eq!(other.map(|words| words.until_unix_ms), Some(u64::MAX), "those who follow never hear of it");
    assert!(bench.stored().is_some());
}

#[tokio::test]
async fn what_counts_no_longer_goes_wherever_it_stands_and_so_many_at_once() {
    let mut bench = Bench::new();
    let many = |word: &'static str, until_ms: u64| {
        (0..OLD_MAX + 1).map(move |at| until(&format!("{word}:{at}"), until_ms))
    };
    // By their keys, those that count stand before the others.
    let writes = many("a", u64::MAX).chain(many("b", 1)).collect();
    bench.store.commit(Txn { when: Vec::new(), writes }).await.unwrap();
    bench.confirms().await;
    assert_eq!(bench.sources(), OLD_MAX + 1 + 1 + 1, "as many as there may be at once");
    bench.confirms().await;
    assert_eq!(bench.sources(), OLD_MAX + 1 + 1);
}
