//! What a request pays before the signature of its token is verified to find its route: the limits by client of a route whose
//! conditions look at the token, and those of its app. Who sends bad tokens runs out of them.
//!
//! It is a deposit. Where the token is good it is given back, and the route that takes the request takes from its limits as ever,
//! so that nothing is counted twice; where it is not, what the route does not take itself is kept. Limits by anything else take no
//! part: a limit for all could be emptied by strangers, and what a client may write it can write anew. Does not verify.

use std::sync::Arc;

use super::accounts::{Accounts, Taken};
use super::shared::SharedLimit;
use super::{Asked, LimitCounts, Limiter, Refusal, Turn};

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
    /// None where a shadow would have refused.
    taken: Option<Taken>,
}

impl Paid {
    fn give_back(&self) {
        match (&self.taken, &self.shared) {
            (Some(taken), Some(shared)) => shared.give_back(taken),
            (Some(taken), None) => self.accounts.give_back(taken),
            (None, _) => {}
        }
    }
}

impl Toll {
    /// Takes from those of the limits that count by client and were not paid yet.
    ///
    /// # Errors
    /// The limit that refuses. All that was paid has been given back then.
    pub fn pay<'t>(
        &mut self,
        limits: &'t [Limiter],
        asked: &Asked<'_>,
        turn: Turn,
    ) -> Result<(), Refusal<'t>> {
        for limiter in limits.iter().filter(|limiter| limiter.takes_toll()) {
            if self.paid.iter().any(|paid| Arc::ptr_eq(&paid.counts, &limiter.counts)) {
                continue;
            }
            let taken = match limiter.take(asked, turn.now_ns) {
                Ok(None) => continue,
                Ok(Some(take)) => Some(take.units()),
                Err(_) if limiter.words.shadow => None,
                Err(refusal) => {
                    limiter.counts.shard(turn.worker).refused.add(1);
                    self.give_back();
                    return Err(refusal);
                }
            };
            self.paid.push(Paid {
                name: Arc::clone(&limiter.words.name),
                counts: Arc::clone(&limiter.counts),
                accounts: Arc::clone(&limiter.accounts),
                shared: limiter.shared.clone(),
                taken: taken.flatten(),
            });
        }
        Ok(())
    }

    /// Gives all back.
    pub fn give_back(&mut self) {
        self.paid.drain(..).for_each(|paid| paid.give_back());
    }

    /// Gives back what was paid of these limits, from which the request is about to take.
    pub fn leave_to(&mut self, limits: &[Limiter]) {
        self.paid.retain(|paid| {
            let is_theirs = limits.iter().any(|limiter| Arc::ptr_eq(&limiter.counts, &paid.counts));
            if is_theirs {
                paid.give_back();
            }
            !is_theirs
        });
    }

    /// Counts the rest as taken; gives the first shadow that would have refused.
    pub fn keep(&mut self, worker: usize) -> Option<Arc<str>> {
        let mut shadow = None;
        for paid in self.paid.drain(..) {
            let shard = paid.counts.shard(worker);
            match paid.taken {
                Some(taken) => {
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
