//! A limit whose accounts are shared by routers, through a store that is asked in the background and never by a request.
//!
//! An account here has two purses. The *lease* holds units that the store has given ahead: they are spent first. The *share*
//! is GCRA over the account's time, at the rate divided by the number of routers: what is spent of it is owed, and told to the
//! store at the next exchange. The store answers with what all routers owe together, and the account's time is set by it.
//! So a router that cannot reach the store goes on with its share of the rate, and nothing has to be switched over; and what
//! is spent before the store knows of it is paid back, since it stands in the store's account.
//!
//! Beyond the rate and one burst, all routers together let in at most what they spend between two exchanges: of a key that
//! nobody has used for a while one burst (each router its share of it, one request at least), and otherwise the rate times
//! the time between exchanges. Does not know the store: the router talks to it (`router::store`).

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::task::Waker;

use arc_swap::ArcSwapOption;
use ekiden_config::model::Limit;
use ekiden_config::names::TrustName;

use super::accounts::{Accounts, CHARGED_WINDOWS, Pace, Refused, Taken};
use super::key::Key;
use super::{Asked, LimitPlace};

/// Units of a lease at most, in times of the burst: what one router may hold of a key.
const LEASE_PARTS: u32 = 2;
/// Time of the rate that a lease may hold in any case, in nanoseconds: a burst may be smaller than what comes between two
/// exchanges.
const LEASE_NS: u64 = 20_000_000;
/// Most keys that the first request makes room for, on its worker.
const KEYS_LATE: u32 = 1 << 16;
/// Sweeps that a lease may lie unused before it is given back.
const CALM_SWEEPS: u32 = 2;

/// Wakes the thread that talks to a store. Rung by workers, once for each time that the thread looked.
#[derive(Debug)]
pub struct Bell {
    waker: Waker,
    rung: AtomicBool,
}

impl Bell {
    /// One that wakes by this.
    pub fn new(waker: Waker) -> Self {
        Self { waker, rung: AtomicBool::new(false) }
    }

    /// Wakes it, unless it has been woken and has not looked since.
    pub fn ring(&self) {
        if !self.rung.load(Relaxed) && !self.rung.swap(true, Relaxed) {
            self.waker.wake_by_ref();
        }
    }

    /// Says that the thread looks now. Called by it, before it looks.
    pub fn hear(&self) {
        self.rung.store(false, Relaxed);
    }
}

/// The shared side of one limit. Kept from table to table with its accounts.
#[derive(Debug)]
pub struct SharedLimit {
    /// The store it is shared through.
    pub store: TrustName,
    /// What it is called there: the same on every router with the same words.
    pub name: String,
    /// Units that the store gave.
    pub leased: AtomicU64,
    accounts: Arc<Accounts>,
    pace: Pace,
    routers: AtomicU32,
    is_up: AtomicBool,
    key: ArcSwapOption<Key>,
    bell: ArcSwapOption<Bell>,
    books: OnceLock<Books>,
}

#[derive(Debug)]
struct Books {
    leases: Box<[Lease]>,
    /// One bit for each account that the store is to hear of.
    due: Box<[AtomicU64]>,
}

/// What one account holds and owes beside its time.
#[derive(Debug, Default)]
struct Lease {
    held: AtomicU32,
    /// Taken from the share, and not told to the store.
    owed: AtomicU32,
    /// Asked for since the last exchange, served or not.
    wanted: AtomicU32,
    /// What it should hold. Written by the thread alone.
    target: AtomicU32,
    /// Sweeps without use. Written by the thread alone.
    calm: AtomicU32,
}

/// What the store is to hear of one account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// Its number.
    pub at: u32,
    /// Whose it is.
    pub key: u64,
    /// Units taken that the store does not know of; less than nothing gives some back.
    pub debit: i64,
    /// Units asked for since the last exchange.
    pub need: u32,
    /// Units wanted, those that are needed again and more ahead.
    pub want: u32,
    /// What it owes as far as is known here, in nanoseconds.
    pub owed_ns: u64,
}

impl SharedLimit {
    /// For a limit that is shared; none for others.
    pub(super) fn new(words: &Limit, place: &LimitPlace, accounts: &Arc<Accounts>) -> Option<Self> {
        let store = words.shared.clone()?;
        let made = Self {
            store,
            name: name(words, place),
            leased: AtomicU64::new(0),
            accounts: Arc::clone(accounts),
            pace: Pace::new(&words.rate),
            routers: AtomicU32::new(1),
            is_up: AtomicBool::new(false),
            key: ArcSwapOption::empty(),
            bell: ArcSwapOption::empty(),
            books: OnceLock::new(),
        };
        // Large ones are made with the table, and not by the first request.
        if words.keys > KEYS_LATE {
            made.books();
        }
        Some(made)
    }

    /// Begins: the key by which all routers count alike, the number of routers, and whom to wake. Called by the thread of the
    /// store whenever one of them changes.
    pub fn join(&self, limit: &Limit, seed: Option<[u64; 2]>, routers: u32, bell: &Arc<Bell>) {
        if let Some(seed) = seed {
            let key = Key::new(&limit.key, limit.missing, seed);
            self.key.store(Some(Arc::new(key)));
        }
        self.routers.store(routers.max(1), Relaxed);
        self.bell.store(Some(Arc::clone(bell)));
    }

    /// Notes whether the store answers. Called by its thread.
    pub fn set_up(&self, is_up: bool) {
        self.is_up.store(is_up, Relaxed);
    }

    /// Nanoseconds of one unit at the whole rate.
    pub fn interval_ns(&self) -> u64 {
        self.pace.interval_ns()
    }

    /// Units of the account in the store at most: the burst, or what comes in the time of an exchange where that is more.
    pub fn window_ns(&self) -> u64 {
        self.pace.window_ns().max(LEASE_NS)
    }

    /// What an account may owe at most, whatever a response says that it cost and however the clock of the store steps.
    pub fn most_ns(&self) -> u64 {
        self.window_ns().saturating_mul(CHARGED_WINDOWS)
    }

    /// The hash of a request's key, the same on every router.
    pub(super) fn hash(&self, own: &Key, asked: &Asked<'_>) -> Option<u64> {
        match &*self.key.load() {
            Some(key) => key.hash(asked),
            None => own.hash(asked),
        }
    }

    /// Takes from the lease of a key, else from this router's share of the rate.
    ///
    /// # Errors
    /// When neither has so much.
    pub(super) fn take(&self, key: u64, cost: std::num::NonZeroU32, now_ns: u64) -> Result<Taken, Refused> {
        let key = key.max(1);
        let books = self.books();
        if let Some((at, even_ns)) = self.accounts.find(key)
            && let Some(lease) = books.leases.get(at as usize)
        {
            note_wanted(lease, cost.get());
            if spend(&lease.held, cost.get()) {
                self.mark(books, at);
                return Ok(Taken::leased(at, cost.get(), even_ns));
            }
        }
        let share = self.pace.share(self.routers.load(Relaxed), cost);
        match self.accounts.take(key, cost, &share, now_ns) {
            Ok(taken) => {
                if let Some(lease) = books.leases.get(taken.at as usize) {
                    if taken.is_new {
                        lease.held.store(0, Relaxed);
                        lease.owed.store(0, Relaxed);
                        lease.wanted.store(cost.get(), Relaxed);
                        lease.target.store(0, Relaxed);
                    }
                    lease.owed.fetch_add(cost.get(), Relaxed);
                    self.mark(books, taken.at);
                }
                Ok(taken)
            }
            Err(refused) => {
                let Some(at) = refused.at else { return Err(refused) };
                self.mark(books, at);
                let wait_ns = if self.is_up.load(Relaxed) {
                    self.pace.wait_ns(refused.even_ns, cost.get(), now_ns)
                } else {
                    refused.wait_ns
                };
                Err(Refused { wait_ns, ..refused })
            }
        }
    }

    /// Gives back what was taken. Called at once, on the same worker.
    pub(super) fn give_back(&self, taken: &Taken) {
        let Some(lease) = self.books().leases.get(taken.at as usize) else { return };
        if taken.is_leased {
            lease.held.fetch_add(taken.cost, Relaxed);
        } else {
            self.accounts.give_back(taken);
            // What the thread has told the store already is lost to the key: one request's cost.
            let _lost = spend(&lease.owed, taken.cost);
        }
    }

    /// Takes afterwards, whatever is left: what a response said that it cost.
    pub(super) fn charge(&self, at: u32, units: u32) {
        let books = self.books();
        if let Some(lease) = books.leases.get(at as usize) {
            lease.owed.fetch_add(units, Relaxed);
            self.mark(books, at);
        }
    }

    /// Units that the key of an account may take here beside its time.
    pub(super) fn held(&self, at: u32) -> u64 {
        let lease = self.books.get().and_then(|books| books.leases.get(at as usize));
        lease.map_or(0, |lease| u64::from(lease.held.load(Relaxed)))
    }

    fn mark(&self, books: &Books, at: u32) {
        let Some(word) = books.due.get(at as usize / 64) else { return };
        let bit = 1 << (at % 64);
        if word.load(Relaxed) & bit == 0 {
            // The thread that looks at the bit next sees what was written before it.
            word.fetch_or(bit, std::sync::atomic::Ordering::Release);
            if let Some(bell) = &*self.bell.load() {
                bell.ring();
            }
        }
    }

    fn books(&self) -> &Books {
        self.books.get_or_init(|| {
            let count = self.accounts.count();
            Books {
                leases: (0..count).map(|_| Lease::default()).collect(),
                due: (0..count.div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
            }
        })
    }

    /// Takes what the store is to hear. Called by its thread alone, which brings the answer by [`SharedLimit::settle`] or puts
    /// everything back by [`SharedLimit::put_back`].
    pub fn collect(&self, now_ns: u64, visit: &mut dyn FnMut(Due)) {
        let Some(books) = self.books.get() else { return };
        for (number, word) in (0u32..).zip(&books.due) {
            if word.load(Relaxed) == 0 {
                continue;
            }
            let mut bits = word.swap(0, std::sync::atomic::Ordering::Acquire);
            while bits != 0 {
                let at = number * 64 + bits.trailing_zeros();
                bits &= bits - 1;
                if let Some(due) = self.due(books, at, now_ns) {
                    visit(due);
                }
            }
        }
    }

    fn due(&self, books: &Books, at: u32, now_ns: u64) -> Option<Due> {
        let lease = books.leases.get(at as usize)?;
        let (key, even_ns) = self.accounts.at(at)?;
        let (owed, wanted) = (lease.owed.swap(0, Relaxed), lease.wanted.swap(0, Relaxed));
        let most = (self.pace.burst() / LEASE_PARTS)
            .max(u32::try_from(LEASE_NS / self.pace.interval_ns()).unwrap_or(u32::MAX))
            .max(self.pace.burst().min(wanted));
        // Twice what came since the last exchange; it falls off slowly, since a key that rests for one goes on in the next.
        let before = lease.target.load(Relaxed);
        let target = wanted.saturating_mul(2).max(before - before / 4).min(most);
        lease.target.store(target, Relaxed);
        lease.calm.store(0, Relaxed);
        let want = target.saturating_sub(lease.held.load(Relaxed));
        let owed_ns = even_ns.saturating_sub(now_ns);
        Some(Due { at, key, debit: i64::from(owed), need: wanted.min(want), want, owed_ns })
    }

    /// Takes back leases that nobody has used for a while. The thread tells the store of them, or loses them.
    pub fn sweep(&self, now_ns: u64, visit: &mut dyn FnMut(Due)) {
        let Some(books) = self.books.get() else { return };
        for (at, lease) in (0u32..).zip(&books.leases) {
            if lease.held.load(Relaxed) == 0 {
                continue;
            }
            let calm = lease.calm.load(Relaxed) + 1;
            lease.calm.store(calm, Relaxed);
            if calm < CALM_SWEEPS {
                continue;
            }
            let held = lease.held.swap(0, Relaxed);
            lease.target.store(0, Relaxed);
            if let Some((key, even_ns)) = self.accounts.at(at) {
                let owed_ns = even_ns.saturating_sub(now_ns);
                visit(Due { at, key, debit: -i64::from(held), need: 0, want: 0, owed_ns });
            }
        }
    }

    /// The store's answer: units given, and what all routers owe of the key now.
    pub fn settle(&self, due: &Due, given: u32, owed_ns: u64, now_ns: u64) {
        let Some(lease) = self.books.get().and_then(|books| books.leases.get(due.at as usize)) else {
            return;
        };
        // Taken over meanwhile: what was given is lost to both keys, until the store has it back by time.
        if self.accounts.at(due.at).is_none_or(|(key, _)| key != due.key) {
            return;
        }
        lease.held.fetch_add(given, Relaxed);
        self.leased.fetch_add(u64::from(given), Relaxed);
        let since = u64::from(lease.owed.load(Relaxed)).saturating_mul(self.pace.interval_ns());
        let owed_ns = owed_ns.saturating_add(since).min(self.most_ns());
        self.accounts.set_even(due.at, now_ns.saturating_add(owed_ns));
    }

    /// What the store could not be told. When it is back, the account's time says what was taken meanwhile.
    pub fn put_back(&self, due: &Due) {
        if let (Some(books), Ok(debit)) = (self.books.get(), u32::try_from(due.debit))
            && let Some(lease) = books.leases.get(due.at as usize)
        {
            lease.owed.fetch_add(debit, Relaxed);
            if let Some(word) = books.due.get(due.at as usize / 64) {
                word.fetch_or(1 << (due.at % 64), Relaxed);
            }
        }
    }
}

fn note_wanted(lease: &Lease, cost: u32) {
    // Requests alone cannot reach the end of the number between two exchanges; where nobody exchanges, it stays where it is.
    if lease.wanted.load(Relaxed) < u32::MAX / 2 {
        lease.wanted.fetch_add(cost, Relaxed);
    }
}

/// Takes a number from a purse that has so much.
fn spend(purse: &AtomicU32, cost: u32) -> bool {
    purse.fetch_update(Relaxed, Relaxed, |held| held.checked_sub(cost)).is_ok()
}

/// All that makes two limits the same one. Names hold no `/` and no blank.
fn name(words: &Limit, place: &LimitPlace) -> String {
    let rate = &words.rate;
    let listener = place.listener.as_ref().map_or("", |name| name.as_str());
    let app = place.app.as_ref().map_or("", |name| name.as_str());
    let route = place.route.as_ref().map_or("", |name| name.as_str());
    let per_ms = rate.per.as_millis();
    format!("{listener}/{app}/{route}/{}/{}.{per_ms}.{}", words.name, rate.count, rate.burst)
}

#[cfg(test)]
mod tests;
