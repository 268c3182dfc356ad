//! The key of a request: what a limit tells requests apart by, as one keyed hash.
//!
//! Each part becomes a number that clients cannot foresee: an address by the hash that connections are counted by, a text by the
//! standard library's SipHash-1-3, begun with a secret of the process. The numbers are joined by folded multiplication with the
//! secret. So nobody can choose keys that meet in one set or pass for another's. Copies nothing and allocates nothing.

use std::hash::{DefaultHasher, Hasher};
use std::net::IpAddr;

use ekiden_config::model::{KeyPart, MissingKey};

use super::Asked;
use super::groups::GroupNets;
use crate::connection_limits::{self, fold};
use crate::policy::text;

/// Another odd word for the second factor.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
/// Stands for a part that is not there.
const ABSENT: u64 = u64::MAX;

/// The key of a limit, compiled.
#[derive(Debug)]
pub(super) struct Key {
    parts: Vec<Part>,
    missing: MissingKey,
    seed: [u64; 2],
    /// The secret, taken in already.
    begun: DefaultHasher,
}

#[derive(Debug)]
enum Part {
    Group(GroupNets),
    Plain(KeyPart),
}

impl Key {
    /// Compiles the parts. The seed is the process's, from a source of randomness.
    pub(super) fn new(parts: &[KeyPart], missing: MissingKey, seed: [u64; 2]) -> Self {
        let mut begun = DefaultHasher::new();
        seed.iter().for_each(|word| begun.write_u64(*word));
        let compiled = |part: &KeyPart| match part {
            KeyPart::Group(groups) => Part::Group(GroupNets::new(groups)),
            other => Part::Plain(other.clone()),
        };
        Self { parts: parts.iter().map(compiled).collect(), missing, seed, begun }
    }

    /// Whether the client's address matters.
    pub(super) fn asks_client(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Group(_) | Part::Plain(KeyPart::Client)))
    }

    /// Whether it is made of the client's address and of groups of addresses, and of nothing else.
    pub(super) fn is_by_client(&self) -> bool {
        let of_client = |part: &Part| matches!(part, Part::Group(_) | Part::Plain(KeyPart::Client));
        !self.parts.is_empty() && self.parts.iter().all(of_client)
    }

    /// The hash of a request's key; none when it lacks a part and is not to be counted then.
    #[inline]
    pub(super) fn hash(&self, asked: &Asked<'_>) -> Option<u64> {
        let [one, two] = self.seed;
        let mut joined = one;
        for part in &self.parts {
            let number = match self.number(part, asked) {
                Some(number) => number,
                None if self.missing == MissingKey::Skip => return None,
                None => ABSENT,
            };
            joined = fold(joined ^ number, two ^ GOLDEN);
        }
        Some(joined)
    }

    /// Whether the client's address is all that it is made of, or it is made of nothing.
    pub(super) fn is_of_client(&self) -> bool {
        matches!(self.parts.as_slice(), [] | [Part::Plain(KeyPart::Client)])
    }

    /// The same hash where [`Key::is_of_client`] says so.
    #[inline]
    pub(super) fn hash_of_client(&self, client: Option<IpAddr>) -> Option<u64> {
        let [one, two] = self.seed;
        if self.parts.is_empty() {
            return Some(one);
        }
        let number = match client {
            Some(client) => connection_limits::hash(self.seed, 0, client),
            None if self.missing == MissingKey::Skip => return None,
            None => ABSENT,
        };
        Some(fold(one ^ number, two ^ GOLDEN))
    }

    #[inline]
    fn number(&self, part: &Part, asked: &Asked<'_>) -> Option<u64> {
        match part {
            Part::Plain(KeyPart::Client) => {
                asked.client.map(|client| connection_limits::hash(self.seed, 0, client))
            }
            other => self.other_number(other, asked),
        }
    }

    /// Apart from the client, so that what most limits count by stays small.
    #[inline(never)]
    fn other_number(&self, part: &Part, asked: &Asked<'_>) -> Option<u64> {
        match part {
            Part::Group(nets) => asked.client.and_then(|client| nets.find(client)).map(u64::from),
            Part::Plain(part) => {
                let mut hasher = self.begun.clone();
                text::each_run(part, asked, &mut |run| hasher.write(run)).then(|| hasher.finish())
            }
        }
    }
}

#[cfg(test)]
mod tests;
