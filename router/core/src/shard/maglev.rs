//! Maglev: a table of a prime number of slots that the shards fill in turns, each by a permutation of its own.
//!
//! D. Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer" (2016), section 3.4; weights as Envoy
//! has them: a shard of less weight lets turns pass. A lookup is one multiplication and one load. Removing a shard moves its
//! keys and a few others.

use super::Shard;
use crate::stable::mix;

/// The first primes above powers of two: the table has the first that gives each shard [`SLOTS`] slots. Between these sizes no
/// slot moves but by the shards' own turns.
const PRIMES: [u32; 8] = [65_537, 131_101, 262_147, 524_309, 1_048_583, 2_097_169, 4_194_319, 8_388_617];
/// Slots for each shard: shares then differ by one percent.
const SLOTS: usize = 100;
/// What the two numbers of a permutation are mixed with.
const OFFSET: u64 = 0x6f66_6673_6574_0001;
const SKIP: u64 = 0x736b_6970_0000_0002;
const EMPTY: u32 = u32::MAX;

/// The table; a slot holds the index of its shard.
#[derive(Debug)]
pub(super) struct Maglev {
    slots: Box<[u32]>,
}

/// One shard's way through the table.
struct Turn {
    at: u64,
    skip: u64,
    weight: u64,
    /// Credit; a shard takes a slot for each `most` of it.
    credit: u64,
}

impl Maglev {
    pub(super) fn new(shards: &[Shard]) -> Self {
        if shards.is_empty() {
            return Self { slots: Box::default() };
        }
        let wanted = shards.len().saturating_mul(SLOTS);
        let [.., largest] = PRIMES;
        let prime = PRIMES.into_iter().find(|prime| *prime as usize >= wanted).unwrap_or(largest);
        Self { slots: fill(shards, u64::from(prime)) }
    }

    /// The shard of a hash: the hash's part of the table, without division.
    #[inline]
    pub(super) fn owner(&self, hash: u64) -> Option<u32> {
        let slot = (u128::from(hash) * self.slots.len() as u128) >> 64;
        self.slots.get(slot as usize).copied()
    }
}

fn fill(shards: &[Shard], prime: u64) -> Box<[u32]> {
    let most = shards.iter().map(|shard| u64::from(shard.weight)).max().unwrap_or(1);
    let mut turns: Vec<Turn> = shards
        .iter()
        .map(|shard| Turn {
            at: mix(shard.seed ^ OFFSET) % prime,
            skip: mix(shard.seed ^ SKIP) % (prime - 1) + 1,
            weight: u64::from(shard.weight),
            credit: 0,
        })
        .collect();
    let mut slots: Box<[u32]> = vec![EMPTY; prime as usize].into();
    let mut left = prime;
    while left > 0 {
        for (owner, turn) in (0u32..).zip(&mut turns) {
            turn.credit += turn.weight;
            if turn.credit < most || left == 0 {
                continue;
            }
            turn.credit -= most;
            // The skip and the prime have no common divisor: a permutation visits every slot.
            loop {
                let slot = slots.get_mut(turn.at as usize);
                turn.at = (turn.at + turn.skip) % prime;
                if let Some(slot) = slot.filter(|slot| **slot == EMPTY) {
                    *slot = owner;
                    left -= 1;
                    break;
                }
            }
        }
    }
    slots
}

#[cfg(test)]
mod tests {
    use super::PRIMES;

    #[test]
    fn sizes_are_prime_and_grow() {
        for prime in PRIMES {
            assert!((2..).take_while(|by| by * by <= prime).all(|by| prime % by != 0), "{prime}");
        }
        assert!(PRIMES.is_sorted());
    }
}
