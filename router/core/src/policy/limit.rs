//! Rate limits: the limits of a listener, an app and a route, compiled, and how a request takes from all of them.
//!
//! All must pass. They are asked in order, and a refusal gives back what was taken before, so that what one limit refuses
//! takes nothing from the others. A shadow counts like any other and never refuses. Accounts and counts outlive tables; the
//! words (shadow, cost, exceptions, fields) are the table's. Time is an argument: nanoseconds of one monotonic clock that all
//! workers read, once per turn of their loop. No lock, and no allocation but at the first request of a limit.

mod accounts;
mod cost;
mod counts;
mod groups;
mod key;
mod places;
mod shared;
mod toll;

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use ekiden_config::model::{Limit, LimitFields, LimitUnit};
use smallvec::SmallVec;

use self::accounts::{Accounts, Pace};
pub use self::counts::{LimitCounts, LimitPlace, LimitShard};
use self::key::Key;
use self::places::Places;
pub use self::shared::{Bell, Due, SharedLimit};
pub use self::toll::Toll;
use super::nets::NetSet;
use crate::client_cert::ClientCert;
use crate::table::Fields;

/// What limits may ask of a request.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// The client; none over a unix socket without a trusted proxy. Only looked at when [`Limiter::asks_client`] says so.
    pub client: Option<IpAddr>,
    /// In lower case, without port; empty when the request has none.
    pub host: &'a str,
    /// The method token, in its case.
    pub method: &'a str,
    /// In normal form.
    pub path: &'a str,
    /// Without its `?`; empty when there is none.
    pub query: &'a str,
    /// The header fields.
    pub fields: &'a dyn Fields,
    /// The id of the API key, where the route knows it.
    pub api_key: Option<&'a str>,
    /// The certificate that the client showed.
    pub client_cert: Option<&'a ClientCert>,
}

/// Where and when a request is judged.
#[derive(Debug, Clone, Copy)]
pub struct Turn {
    /// Number of the worker.
    pub worker: usize,
    /// Its reading of this turn.
    pub now_ns: u64,
}

/// What makes limiters: the process's own facts.
#[derive(Debug, Clone, Copy)]
pub struct Maker {
    /// Number of workers.
    pub workers: usize,
    /// The secret of key hashes, random.
    pub seed: [u64; 2],
}

/// One limit as a table holds it.
#[derive(Debug)]
pub struct Limiter {
    /// As validated.
    pub words: Limit,
    /// What it counted; kept from table to table by place and name.
    pub counts: Arc<LimitCounts>,
    /// What it shares with other routers; kept like the accounts.
    pub shared: Option<Arc<SharedLimit>>,
    accounts: Arc<Accounts>,
    /// In place of the accounts, where requests at a time are counted.
    places: Option<Arc<Places>>,
    pace: Pace,
    key: Key,
    except: Option<NetSet>,
    /// Nothing but the client's address is asked of a request, and nothing but the limit's own accounts: what most limits are.
    is_plain: bool,
    keeps: bool,
}

/// What a request took from one limit.
#[derive(Debug, Clone, Copy)]
pub struct Take<'t> {
    /// From which.
    pub limiter: &'t Limiter,
    key: u64,
    taken: Taken,
}

#[derive(Debug, Clone, Copy)]
enum Taken {
    Units(accounts::Taken),
    Place(places::Place),
}

/// What a request holds of a limit to its end: a place, or the account that its response is charged to. Dropping it gives a place
/// back.
#[derive(Debug)]
pub struct Hold {
    kind: HoldKind,
}

#[derive(Debug)]
enum HoldKind {
    Place { places: Arc<Places>, at: u32 },
    Account(Box<Charged>),
}

#[derive(Debug)]
struct Charged {
    header: Arc<str>,
    most: u32,
    /// Taken already.
    cost: u32,
    at: u32,
    key: u64,
    pace: Pace,
    accounts: Arc<Accounts>,
    shared: Option<Arc<SharedLimit>>,
}

impl Hold {
    /// The response header that says what the request cost, if that is what it is for; in lower case.
    pub fn header(&self) -> Option<&Arc<str>> {
        match &self.kind {
            HoldKind::Place { .. } => None,
            HoldKind::Account(charged) => Some(&charged.header),
        }
    }

    /// Takes what the response says beyond what was taken. A value that is no number says nothing.
    pub fn charge(&self, value: &[u8], now_ns: u64) {
        let HoldKind::Account(charged) = &self.kind else { return };
        let Some(said) = cost::number(value) else { return };
        let said = u32::try_from(said).unwrap_or(u32::MAX).min(charged.most);
        let more = said.saturating_sub(charged.cost);
        if more == 0 || !charged.accounts.charge(charged.at, charged.key, more, &charged.pace, now_ns) {
            return;
        }
        if let Some(shared) = &charged.shared {
            shared.charge(charged.at, more);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let HoldKind::Place { places, at } = &self.kind {
            places.leave(*at);
        }
    }
}

/// What a request took so far. Long enough for eight limits each of listener, app and route.
pub type Takes<'t> = SmallVec<[Take<'t>; 24]>;

/// A limit that refuses a request.
#[derive(Debug, Clone, Copy)]
pub struct Refusal<'t> {
    /// Which.
    pub limiter: &'t Limiter,
    refused: accounts::Refused,
}

/// How much is left of a limit for one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// Units that may be taken at once.
    pub units: u64,
    /// Time until there is one more, in nanoseconds; none when there are all.
    pub next_ns: Option<u64>,
}

impl Limiter {
    /// Compiles a limit. Accounts and counts are those of `old`, of the same place and name: the counts always, the accounts
    /// while rate, burst, key, groups and number of keys are the same. A change of these begins new accounts.
    fn new(words: &Limit, place: &LimitPlace, old: Option<&Self>, maker: Maker) -> Self {
        let same = |old: &&Self| {
            let (old, new) = (&old.words, words);
            (&old.rate, old.unit, &old.key, old.keys, &old.shared)
                == (&new.rate, new.unit, &new.key, new.keys, &new.shared)
        };
        let keys = if words.key.is_empty() { 1 } else { words.keys };
        let kept = old.filter(same);
        // Requests at a time need none of them.
        let own_keys = if words.unit == LimitUnit::AtATime { 1 } else { keys };
        let accounts = kept.map_or_else(|| Arc::new(Accounts::new(own_keys)), |old| old.accounts.clone());
        let shared = match kept {
            Some(old) => old.shared.clone(),
            None => SharedLimit::new(words, place, &accounts).map(Arc::new),
        };
        let is_at_a_time = words.unit == LimitUnit::AtATime;
        let key = Key::new(&words.key, words.missing, maker.seed);
        let is_fixed = words.cost.header.is_none() && words.cost.methods.is_empty();
        Self {
            is_plain: is_fixed
                && !is_at_a_time
                && shared.is_none()
                && words.except.is_empty()
                && key.is_of_client(),
            keeps: is_at_a_time || words.cost.response.is_some() || words.fields == LimitFields::Always,
            shared,
            places: match kept {
                Some(old) => old.places.clone(),
                None => is_at_a_time.then(|| Arc::new(Places::new(keys))),
            },
            counts: old.map_or_else(
                || Arc::new(LimitCounts::new(place.clone(), maker.workers)),
                |old| old.counts.clone(),
            ),
            accounts,
            pace: Pace::new(&words.rate),
            key,
            except: NetSet::of(words.except.iter().map(|net| (net.network(), net.broadcast()))),
            words: words.clone(),
        }
    }

    /// Whether it is taken before a token is verified to find a route: it counts requests of one client and nothing else.
    fn takes_toll(&self) -> bool {
        self.words.unit == LimitUnit::Rate && self.key.is_by_client()
    }

    /// Whether the client's address matters, so that it is looked for only then.
    pub fn asks_client(&self) -> bool {
        self.except.is_some() || self.key.asks_client()
    }

    /// Time in which an empty allowance fills, in nanoseconds.
    pub fn window_ns(&self) -> u64 {
        self.pace.window_ns()
    }

    /// Keys that owe something now. Walks all accounts: for telemetry.
    pub fn keys_in_use(&self, now_ns: u64) -> u64 {
        self.places.as_ref().map_or_else(|| self.accounts.in_use(now_ns), |places| places.in_use())
    }

    /// Takes what a request costs. `None` when it is not counted.
    #[inline]
    fn take(&self, asked: &Asked<'_>, now_ns: u64) -> Result<Option<Take<'_>>, Refusal<'_>> {
        if let Some(nets) = &self.except
            && asked.client.is_some_and(|client| nets.has(client))
        {
            return Ok(None);
        }
        if self.shared.is_some() || self.places.is_some() {
            return self.take_other(asked, now_ns);
        }
        let Some(cost) = NonZeroU32::new(cost::of(&self.words.cost, asked)) else { return Ok(None) };
        let Some(key) = self.key.hash(asked) else { return Ok(None) };
        match self.accounts.take(key, cost, &self.pace, now_ns) {
            Ok(taken) => Ok(Some(Take { limiter: self, key, taken: Taken::Units(taken) })),
            Err(refused) => Err(Refusal { limiter: self, refused }),
        }
    }

    /// The same where only the client matters: see `is_plain`.
    #[inline]
    fn take_of_client(&self, client: Option<IpAddr>, now_ns: u64) -> Result<Option<Take<'_>>, Refusal<'_>> {
        let Some(cost) = NonZeroU32::new(self.words.cost.otherwise) else { return Ok(None) };
        let Some(key) = self.key.hash_of_client(client) else { return Ok(None) };
        match self.accounts.take(key, cost, &self.pace, now_ns) {
            Ok(taken) => Ok(Some(Take { limiter: self, key, taken: Taken::Units(taken) })),
            Err(refused) => Err(Refusal { limiter: self, refused }),
        }
    }

    /// Whether a request keeps something of it to its end, or its response says something of it.
    #[inline]
    pub fn keeps(&self) -> bool {
        self.keeps
    }

    /// The same where routers share the limit, or requests at a time are counted. Apart, so that the others stay small.
    #[inline(never)]
    fn take_other(&self, asked: &Asked<'_>, now_ns: u64) -> Result<Option<Take<'_>>, Refusal<'_>> {
        let Some(cost) = NonZeroU32::new(cost::of(&self.words.cost, asked)) else { return Ok(None) };
        if let Some(places) = &self.places {
            let Some(key) = self.key.hash(asked) else { return Ok(None) };
            let refused = accounts::Refused { wait_ns: 0, even_ns: 0, at: None };
            let place = places.enter(key, self.words.rate.burst).ok_or(Refusal { limiter: self, refused })?;
            return Ok(Some(Take { limiter: self, key, taken: Taken::Place(place) }));
        }
        let Some(shared) = &self.shared else { return Ok(None) };
        let Some(key) = shared.hash(&self.key, asked) else { return Ok(None) };
        match shared.take(key, cost, now_ns) {
            Ok(taken) => Ok(Some(Take { limiter: self, key, taken: Taken::Units(taken) })),
            Err(refused) => Err(Refusal { limiter: self, refused }),
        }
    }
}

impl Take<'_> {
    /// How much is left for the same key.
    pub fn left(&self, now_ns: u64) -> Left {
        let pace = &self.limiter.pace;
        match &self.taken {
            Taken::Units(taken) => {
                let held = self.limiter.shared.as_ref().map_or(0, |shared| shared.held(taken.at));
                let units = (pace.left(taken.even_ns, now_ns) + held).min(u64::from(pace.burst()));
                Left { units, next_ns: pace.next_ns(taken.even_ns, now_ns) }
            }
            Taken::Place(place) => Left { units: u64::from(place.left), next_ns: None },
        }
    }

    /// What the request holds of the limit to its end, if anything. Called once for each take that is not given back.
    pub fn hold(&self) -> Option<Hold> {
        let limiter = self.limiter;
        let kind = match (&self.taken, &limiter.places) {
            (Taken::Place(place), Some(places)) => HoldKind::Place { places: places.clone(), at: place.at },
            (Taken::Place(_), None) => return None,
            (Taken::Units(taken), _) => HoldKind::Account(Box::new(Charged {
                header: limiter.words.cost.response.clone()?,
                most: limiter.words.cost.most,
                cost: taken.cost,
                at: taken.at,
                key: self.key.max(1),
                pace: limiter.pace,
                accounts: limiter.accounts.clone(),
                shared: limiter.shared.clone(),
            })),
        };
        Some(Hold { kind })
    }

    fn crowded(&self) -> bool {
        match &self.taken {
            Taken::Units(taken) => taken.crowded,
            Taken::Place(place) => place.crowded,
        }
    }

    fn give_back(&self) {
        match (&self.taken, &self.limiter.shared, &self.limiter.places) {
            (Taken::Units(taken), Some(shared), _) => shared.give_back(taken),
            (Taken::Units(taken), None, _) => self.limiter.accounts.give_back(taken),
            (Taken::Place(place), _, Some(places)) => places.leave(place.at),
            (Taken::Place(_), _, None) => {}
        }
    }
}

impl Refusal<'_> {
    /// Time until the request would pass, if nothing else came, in nanoseconds.
    pub fn wait_ns(&self) -> u64 {
        self.refused.wait_ns
    }

    /// Units left for the same key: fewer than the request takes.
    pub fn left(&self, now_ns: u64) -> u64 {
        match self.limiter.places {
            Some(_) => 0,
            None => self.limiter.pace.left(self.refused.even_ns, now_ns),
        }
    }
}

/// Takes from each of the limits in order, and notes it in `takes`; gives the first shadow that would have refused.
///
/// # Errors
/// The limit that refuses. All that stands in `takes` has been given back then, also what other lists took before.
#[inline]
pub fn take<'t>(
    limits: &'t [Limiter],
    asked: &Asked<'_>,
    turn: Turn,
    takes: &mut Takes<'t>,
) -> Result<Option<&'t Limiter>, Refusal<'t>> {
    take_each(limits, turn, takes, |limiter| limiter.take(asked, turn.now_ns), give_back)
}

/// The same where [`Limiters::is_plain`] says that nothing but the client is asked for.
///
/// # Errors
/// As [`take`].
#[inline]
pub fn take_of_client<'t>(
    limits: &'t [Limiter],
    client: Option<IpAddr>,
    turn: Turn,
    takes: &mut Takes<'t>,
) -> Result<Option<&'t Limiter>, Refusal<'t>> {
    take_each(limits, turn, takes, |limiter| limiter.take_of_client(client, turn.now_ns), give_back)
}

#[inline]
fn take_each<'t>(
    limits: &'t [Limiter],
    turn: Turn,
    takes: &mut Takes<'t>,
    mut take_one: impl FnMut(&'t Limiter) -> Result<Option<Take<'t>>, Refusal<'t>>,
    undo: impl FnOnce(&mut Takes<'t>),
) -> Result<Option<&'t Limiter>, Refusal<'t>> {
    let mut shadow = None;
    for limiter in limits {
        let shard = || limiter.counts.shard(turn.worker);
        match take_one(limiter) {
            Ok(None) => {}
            Ok(Some(take)) => {
                shard().allowed.add(1);
                if take.crowded() {
                    shard().crowded.add(1);
                }
                takes.push(take);
            }
            Err(refusal) if limiter.words.shadow => {
                shard().shadow_refused.add(1);
                shadow = shadow.or(Some(refusal.limiter));
            }
            Err(refusal) => {
                shard().refused.add(1);
                undo(takes);
                return Err(refusal);
            }
        }
    }
    Ok(shadow)
}

/// Gives back what a request took: it turned out to be none that counts.
#[cold]
pub fn give_back(takes: &mut Takes<'_>) {
    for take in takes.drain(..) {
        take.give_back();
    }
}

/// What a request took and does not hold yet: given back where nobody comes to hold it, as when a worker's turn panics.
#[derive(Debug, Default)]
pub struct Unheld<'t>(pub Takes<'t>);

impl Drop for Unheld<'_> {
    #[inline]
    fn drop(&mut self) {
        if !self.0.is_empty() {
            give_back(&mut self.0);
        }
    }
}

/// Limits that are judged together, in the order they are written.
#[derive(Debug, Default)]
pub struct Limiters {
    list: Vec<Limiter>,
    asks_client: bool,
    is_plain: bool,
    says_cost: bool,
}

impl Limiters {
    /// Compiles a list, with the accounts and counts of an older one of the same place.
    pub fn new(words: &[Limit], place: &LimitPlace, old: Option<&Self>, maker: Maker) -> Self {
        let find = |name: &Arc<str>| old?.list.iter().find(|old| old.words.name == *name);
        let list: Vec<Limiter> =
            words.iter().map(|words| Limiter::new(words, place, find(&words.name), maker)).collect();
        Self {
            asks_client: list.iter().any(Limiter::asks_client),
            is_plain: list.iter().all(|limiter| limiter.is_plain),
            says_cost: list.iter().any(|limiter| limiter.words.cost.response.is_some()),
            list,
        }
    }

    /// The limits.
    pub fn list(&self) -> &[Limiter] {
        &self.list
    }

    /// Whether the client's address matters.
    pub fn asks_client(&self) -> bool {
        self.asks_client
    }

    /// Whether nothing but the client's address is asked of a request.
    pub fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// Whether responses may say what their request cost.
    pub fn says_cost(&self) -> bool {
        self.says_cost
    }
}

/// The limits that a route's requests meet, compiled.
#[derive(Debug)]
pub struct RouteLimiters {
    /// Those of the app, shared by its routes.
    pub app: Option<Arc<Limiters>>,
    /// Its own.
    pub route: Limiters,
}

impl RouteLimiters {
    /// All, list by list, the app's first.
    pub fn lists(&self) -> impl Iterator<Item = &[Limiter]> {
        self.app.iter().map(|app| app.list()).chain([self.route.list()])
    }

    /// Whether the client's address matters.
    pub fn asks_client(&self) -> bool {
        self.route.asks_client || self.app.as_ref().is_some_and(|app| app.asks_client)
    }
}

#[cfg(test)]
mod tests;
