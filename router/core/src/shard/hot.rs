//! Keys that are asked for much more than others, found in fixed memory.
//!
//! Each worker counts in a table of its own: sets of four keys, where a newcomer takes the place of the rarest with its count
//! ("Space-Saving", A. Metwally et al., 2005; the limiter's accounts do likewise). Twice a second somebody off the workers adds the
//! tables up ([`HotKeys::tick`]), says which keys are hot, and lets the counts be halved, so that they speak of the last second
//! or so. The clock is the caller's. Counts only what a count is known to be at least: no key is hot by the requests of
//! another.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use arc_swap::ArcSwap;
use ekiden_config::model::HotKeyPolicy;
use rustc_hash::FxHashMap;

use super::{Key, REPLICAS_MAX};

/// Sets of one worker's table; a power of two.
const SETS: usize = 64;
/// Keys of a set.
const WAYS: usize = 4;
/// What a request counts for, so that halves of few requests are not lost.
const UNIT: u32 = 16;
/// Requests of a cluster below which no key is hot: there is no load to be spread.
const REQUESTS_MIN: u64 = 64;
/// Requests of a key below which it is not hot: chance brings as many.
const KEY_MIN: u64 = 16;
/// Keys that are shown, and that can be hot at the same time.
pub const RANKS: usize = 16;
/// Bytes of a key's text that are shown.
const TEXT_MAX: usize = 64;

/// One key of a table. Written by its worker alone.
#[derive(Debug, Default)]
struct Entry {
    key: AtomicU64,
    count: AtomicU32,
    /// What of the count may be another key's.
    error: AtomicU32,
}

/// The table of one worker.
#[derive(Debug)]
#[repr(align(128))]
struct Counts {
    /// The tick up to which the counts were halved.
    tick: AtomicU32,
    total: AtomicU64,
    entries: [Entry; SETS * WAYS],
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            tick: AtomicU32::new(0),
            total: AtomicU64::new(0),
            entries: std::array::from_fn(|_| Entry::default()),
        }
    }
}

/// A key among those asked for most.
#[derive(Debug)]
pub struct RankedKey {
    /// Its hash.
    pub hash: u64,
    /// Its part of the cluster's requests, in millionths.
    pub share_ppm: u32,
    /// Endpoints that a cache spreads it over; none when it is not hot.
    pub spread: Option<u8>,
    /// Its text, cut, where that may be shown and a request of it came since it is hot.
    pub text: OnceLock<Box<str>>,
}

/// The keys asked for most, the first the most.
#[derive(Debug, Default)]
pub struct Ranking {
    /// At most [`RANKS`].
    pub keys: Vec<Arc<RankedKey>>,
}

/// The hot keys of one cluster. Outlives tables.
#[derive(Debug)]
pub struct HotKeys {
    policy: HotKeyPolicy,
    workers: usize,
    /// Ready endpoints; told by the cluster's table.
    ready: AtomicU32,
    tick: AtomicU32,
    any_hot: AtomicBool,
    counts: OnceLock<Box<[Counts]>>,
    ranking: ArcSwap<Ranking>,
}

impl HotKeys {
    /// Watches for a cluster with so many workers.
    pub fn new(policy: HotKeyPolicy, workers: usize) -> Self {
        Self {
            policy,
            workers: workers.max(1),
            ready: AtomicU32::new(0),
            tick: AtomicU32::new(0),
            any_hot: AtomicBool::new(false),
            counts: OnceLock::new(),
            ranking: ArcSwap::default(),
        }
    }

    /// Whether it watches by these words.
    pub(crate) fn goes_by(&self, policy: HotKeyPolicy) -> bool {
        self.policy == policy
    }

    /// Tells how many endpoints are ready. Called off the workers when that changes.
    pub(crate) fn set_ready(&self, count: usize) {
        self.ready.store(u32::try_from(count).unwrap_or(u32::MAX), Relaxed);
    }

    /// Counts a request. Called by workers, each with its own number; the first call of all allocates.
    #[inline]
    pub fn note(&self, worker: usize, hash: u64) {
        let counts = self.counts.get_or_init(|| (0..self.workers).map(|_| Counts::default()).collect());
        let Some(counts) = counts.get(worker) else { return };
        let tick = self.tick.load(Relaxed);
        if counts.tick.load(Relaxed) != tick {
            counts.age(tick);
        }
        counts.note(hash);
    }

    /// Endpoints that a cache spreads a key over while it is hot; none for other keys. Keeps its text where that may be shown.
    #[inline]
    pub fn spread(&self, key: Key<'_>) -> Option<usize> {
        if !self.any_hot.load(Relaxed) {
            return None;
        }
        self.spread_of_hot(key)
    }

    /// Endpoints that the key of this hash is spread over; none when it is not hot. Looks and notes nothing. For people.
    pub(crate) fn spread_of(&self, hash: u64) -> Option<usize> {
        let ranking = self.ranking.load();
        let found = ranking.keys.iter().find(|ranked| ranked.hash == hash)?;
        found.spread.map(usize::from)
    }

    #[inline(never)]
    fn spread_of_hot(&self, key: Key<'_>) -> Option<usize> {
        let ranking = self.ranking.load();
        let found =
            ranking.keys.iter().find(|ranked| ranked.hash == key.hash() && ranked.spread.is_some())?;
        if self.policy.show && found.text.get().is_none() {
            found.text.get_or_init(|| shown(key.text()));
        }
        found.spread.map(usize::from)
    }

    /// The keys asked for most, as of the last tick.
    pub fn ranking(&self) -> Arc<Ranking> {
        self.ranking.load_full()
    }

    /// Adds the tables up, says which keys are hot, and lets the counts age. Called twice a second, off the workers, by one
    /// thread.
    pub fn tick(&self) {
        let Some(counts) = self.counts.get() else { return };
        let tick = self.tick.load(Relaxed);
        let (mut total, mut by_key) = (0u64, FxHashMap::<u64, u64>::default());
        for counts in counts {
            // What an idle worker has not halved yet is taken as if it had.
            let behind = tick.wrapping_sub(counts.tick.load(Relaxed)).min(u32::BITS - 1);
            total += counts.total.load(Relaxed) >> behind;
            for entry in &counts.entries {
                let (hash, sure) = entry.sure();
                if sure > 0 {
                    *by_key.entry(hash).or_default() += u64::from(sure) >> behind;
                }
            }
        }
        let mut ranked: Vec<(u64, u64)> = by_key.into_iter().filter(|(_, count)| *count > 0).collect();
        ranked.sort_unstable_by(|(a, most), (b, least)| least.cmp(most).then(a.cmp(b)));
        ranked.truncate(RANKS);
        self.rank(&ranked, total);
        self.tick.store(tick.wrapping_add(1), Relaxed);
    }

    fn rank(&self, ranked: &[(u64, u64)], total: u64) {
        let (before, unit) = (self.ranking.load_full(), u64::from(UNIT));
        let ready = f64::from(self.ready.load(Relaxed).max(1));
        let judged = |&(hash, count): &(u64, u64)| {
            let last = before.keys.iter().find(|key| key.hash == hash);
            let was = last.and_then(|key| key.spread);
            let share = count as f64 / total.max(1) as f64;
            let enough = total >= REQUESTS_MIN * unit && (was.is_some() || count >= KEY_MIN * unit);
            let least = f64::from(self.policy.threshold_percent) / 100.0 / ready;
            // Half of what makes a key hot keeps it hot: none goes to and fro.
            let least = if was.is_some() { least / 2.0 } else { least };
            let spread = (enough && ready > 1.0 && share >= least).then(|| kept(was, wanted(share, ready)));
            let text = last.filter(|_| spread.is_some()).and_then(|key| key.text.get().cloned());
            let text = text.map_or_else(OnceLock::new, OnceLock::from);
            Arc::new(RankedKey { hash, share_ppm: (share * 1e6) as u32, spread, text })
        };
        let keys: Vec<Arc<RankedKey>> = ranked.iter().map(judged).collect();
        let any = keys.iter().any(|key| key.spread.is_some());
        self.ranking.store(Arc::new(Ranking { keys }));
        self.any_hot.store(any, Relaxed);
    }
}

/// Endpoints over which a key of this share of all requests is spread: so many that each of them has a quarter more than the
/// mean, beside its part of all other keys.
fn wanted(share: f64, ready: f64) -> u8 {
    let most = (REPLICAS_MAX as f64).min(ready);
    (share * ready / (share + 0.25)).ceil().clamp(2.0f64.min(most), most) as u8
}

/// A spread grows at once, and shrinks only when half of it is enough.
fn kept(was: Option<u8>, wanted: u8) -> u8 {
    was.filter(|was| *was >= wanted && wanted > *was / 2).unwrap_or(wanted)
}

fn shown(text: &[u8]) -> Box<str> {
    String::from_utf8_lossy(text.get(..TEXT_MAX).unwrap_or(text)).into()
}

impl Entry {
    /// The key, and what its count is at least.
    fn sure(&self) -> (u64, u32) {
        let hash = self.key.load(Relaxed);
        let sure = self.count.load(Relaxed).saturating_sub(self.error.load(Relaxed));
        // Its worker may have given the place to another key in between.
        if self.key.load(Relaxed) == hash { (hash, sure) } else { (hash, 0) }
    }
}

impl Counts {
    #[inline]
    fn note(&self, hash: u64) {
        self.total.store(self.total.load(Relaxed) + u64::from(UNIT), Relaxed);
        let start = (hash >> 32) as usize % SETS * WAYS;
        let Some(set) = self.entries.get(start..start + WAYS) else { return };
        let mut rarest: Option<(u32, &Entry)> = None;
        for entry in set {
            let count = entry.count.load(Relaxed);
            if count > 0 && entry.key.load(Relaxed) == hash {
                entry.count.store(count.saturating_add(UNIT), Relaxed);
                return;
            }
            if rarest.is_none_or(|(least, _)| count < least) {
                rarest = Some((count, entry));
            }
        }
        if let Some((count, entry)) = rarest {
            entry.key.store(hash, Relaxed);
            entry.error.store(count, Relaxed);
            entry.count.store(count.saturating_add(UNIT), Relaxed);
        }
    }

    #[cold]
    fn age(&self, tick: u32) {
        let behind = tick.wrapping_sub(self.tick.load(Relaxed)).min(u32::BITS - 1);
        self.total.store(self.total.load(Relaxed) >> behind, Relaxed);
        for entry in &self.entries {
            entry.count.store(entry.count.load(Relaxed) >> behind, Relaxed);
            entry.error.store(entry.error.load(Relaxed) >> behind, Relaxed);
        }
        self.tick.store(tick, Relaxed);
    }
}

/// All clusters that are watched: what a ticking thread walks. Clusters leave it when the last table and request that know them
/// are gone.
#[derive(Debug, Default)]
pub struct HotBoard {
    watched: Mutex<Vec<Weak<HotKeys>>>,
}

impl HotBoard {
    /// Adds one. Called when a table is compiled.
    pub(crate) fn add(&self, keys: &Arc<HotKeys>) {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(keys));
    }

    /// Ticks them all. Called twice a second by one thread, off the workers.
    pub fn tick(&self) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.retain(|keys| {
            keys.upgrade().is_some_and(|keys| {
                keys.tick();
                true
            })
        });
    }
}

#[cfg(test)]
mod tests;
