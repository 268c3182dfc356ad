//! What a request pays before the signature of its token is verified to find its route: the limits by client of a route whose
//! conditions look at the token, and those of its app. Who sends bad tokens runs out of them.
//!
//! It is a deposit. Where the token is good it is given back, and the route that takes the request takes from its limits as ever,
//! so that nothing is counted twice; where it is not, it is kept, whatever becomes of the request: what was paid of a limit of the
//! route stands for what the route takes from it. Limits by anything else take no part: a limit for all could be emptied by
//! strangers, and what a client may write it can write anew. Does not verify.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::accounts::{Accounts, Refused, Taken};
use super::shared::SharedLimit;
use super::{Asked, LimitCounts, Limiter, Refusal, Take, Takes, Turn, cost, give_back, take_each};

/// What one request has paid.
#[derive(Debug, Default)]
pub struct Toll {
    paid: Vec<Paid>,
}

#[derive(Debug)]
struct Paid {
    name: Arc<str>,
    /// Tells limits apart.
    counts: Arc<LimitCounts>,
    accounts: Arc<Accounts>,
    shared: Option<Arc<SharedLimit>>,
    /// Whose account, and what was taken from it; none where a shadow would have refused.
    taken: Option<(u64, Taken)>,
    /// A limit of the route has counted it.
    is_counted: bool,
}

impl Paid {
    fn give_back(&self) {
        match (&self.taken, &self.shared) {
            (Some((_, taken)), Some(shared)) => shared.give_back(taken),
            (Some((_, taken)), None) => self.accounts.give_back(taken),
            (None, _) => {}
        }
    }

    fn is_of(&self, limiter: &Limiter) -> bool {
        Arc::ptr_eq(&self.counts, &limiter.counts)
    }

    /// The same as the limit's own taking.
    fn adopt<'t>(&mut self, limiter: &'t Limiter) -> Result<Option<Take<'t>>, Refusal<'t>> {
        self.is_counted = true;
        match self.taken {
            Some((key, taken)) => Ok(Some(Take { limiter, key, taken: super::Taken::Units(taken) })),
            // It is a shadow, of which nobody asks when there is more.
            None => Err(Refusal { limiter, refused: Refused { wait_ns: 0, even_ns: 0, at: None } }),
        }
    }
}

impl Toll {
    /// Takes from those of the limits that count by client and were not paid yet.
    ///
    /// # Errors
    /// The limit that refuses. What was paid before is still there.
    pub fn pay<'t>(
        &mut self,
        limits: &'t [Limiter],
        asked: &Asked<'_>,
        turn: Turn,
    ) -> Result<(), Refusal<'t>> {
        for limiter in limits.iter().filter(|limiter| limiter.takes_toll()) {
            if self.paid.iter().any(|paid| paid.is_of(limiter)) {
                continue;
            }
            let taken = match take_toll(limiter, asked, turn.now_ns) {
                Ok(None) => continue,
                Ok(taken) => taken,
                Err(_) if limiter.words.shadow => None,
                Err(refusal) => {
                    limiter.counts.shard(turn.worker).refused.add(1);
                    return Err(refusal);
                }
            };
            self.paid.push(Paid {
                name: Arc::clone(&limiter.words.name),
                counts: Arc::clone(&limiter.counts),
                accounts: Arc::clone(&limiter.accounts),
                shared: limiter.shared.clone(),
                taken,
                is_counted: false,
            });
        }
        Ok(())
    }

    /// Gives all back.
    pub fn give_back(&mut self) {
        self.paid.drain(..).for_each(|paid| paid.give_back());
    }

    /// Takes from each of the limits as [`super::take`] does; what was paid of them stands for it.
    ///
    /// # Errors
    /// The limit that refuses. What stands in `takes` and was not paid has been given back then.
    pub fn take<'t>(
        &mut self,
        limits: &'t [Limiter],
        asked: &Asked<'_>,
        turn: Turn,
        takes: &mut Takes<'t>,
    ) -> Result<Option<&'t Limiter>, Refusal<'t>> {
        let paid = &mut self.paid;
        let found = take_each(
            limits,
            turn,
            takes,
            |limiter| match paid.iter_mut().find(|paid| paid.is_of(limiter)) {
                Some(paid) => paid.adopt(limiter),
                None => limiter.take(asked, turn.now_ns),
            },
            |_| {},
        );
        if found.is_err() {
            takes.retain(|take| !self.paid.iter().any(|paid| paid.is_of(take.limiter)));
            give_back(takes);
        }
        found
    }

    /// Keeps all: counts as taken what no limit of the route has counted, and gives the first shadow among it that would have
    /// refused.
    pub fn keep(&mut self, worker: usize) -> Option<Arc<str>> {
        let mut shadow = None;
        for paid in self.paid.drain(..).filter(|paid| !paid.is_counted) {
            let shard = paid.counts.shard(worker);
            match paid.taken {
                Some((_, taken)) => {
                    shard.allowed.add(1);
                    shard.crowded.add(u64::from(taken.crowded));
                }
                None => {
                    shard.shadow_refused.add(1);
                    shadow = shadow.or(Some(paid.name));
                }
            }
        }
        shadow
    }
}

/// Takes what the request costs, and one where it is not counted: the look costs as much whatever the request does.
fn take_toll<'t>(
    limiter: &'t Limiter,
    asked: &Asked<'_>,
    now_ns: u64,
) -> Result<Option<(u64, Taken)>, Refusal<'t>> {
    if let Some(nets) = &limiter.except
        && asked.client.is_some_and(|client| nets.has(client))
    {
        return Ok(None);
    }
    let cost = NonZeroU32::new(cost::of(&limiter.words.cost, asked)).unwrap_or(NonZeroU32::MIN);
    let key = match &limiter.shared {
        Some(shared) => shared.hash(&limiter.key, asked),
        None => limiter.key.hash(asked),
    };
    let Some(key) = key else { return Ok(None) };
    let taken = match &limiter.shared {
        Some(shared) => shared.take(key, cost, now_ns),
        None => limiter.accounts.take(key, cost, &limiter.pace, now_ns),
    };
    taken.map(|taken| Some((key, taken))).map_err(|refused| Refusal { limiter, refused })
}
