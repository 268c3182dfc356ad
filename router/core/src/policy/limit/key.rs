//! The key of a request: what a limit tells requests apart by, as one keyed hash.
//!
//! SipHash-1-3 of the standard library, begun with a secret of the process, so that nobody can choose keys that meet in one
//! set or pass for another's. Each part is followed by its length, so that no two lists of parts give the same bytes. Copies
//! nothing and allocates nothing.

use std::hash::{DefaultHasher, Hasher};
use std::net::IpAddr;

use ekiden_config::model::{KeyPart, MissingKey};

use super::Asked;
use super::groups::GroupNets;
use crate::{cookie, query};

/// What stands in the hash for a part that is not there; no part is so long.
const ABSENT: u64 = u64::MAX;

/// The key of a limit, compiled.
#[derive(Debug)]
pub(super) struct Key {
    parts: Vec<Part>,
    missing: MissingKey,
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
        Self { parts: parts.iter().map(compiled).collect(), missing, begun }
    }

    /// Whether the client's address matters.
    pub(super) fn asks_client(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Group(_) | Part::Plain(KeyPart::Client)))
    }

    /// The hash of a request's key; none when it lacks a part and is not to be counted then.
    #[inline]
    pub(super) fn hash(&self, asked: &Asked<'_>) -> Option<u64> {
        let mut hasher = self.begun.clone();
        for part in &self.parts {
            if !part.put(asked, &mut hasher) {
                if self.missing == MissingKey::Skip {
                    return None;
                }
                hasher.write_u64(ABSENT);
            }
        }
        Some(hasher.finish())
    }
}

impl Part {
    /// Adds a request's part to the hash; false when there is none, and nothing was added.
    fn put(&self, asked: &Asked<'_>, hasher: &mut DefaultHasher) -> bool {
        let mut found = false;
        let mut put = |value: &[u8]| {
            hasher.write(value);
            hasher.write_u64(value.len() as u64);
            found = true;
        };
        match self {
            Part::Group(nets) => {
                if let Some(group) = asked.client.and_then(|client| nets.find(client)) {
                    put(&group.to_ne_bytes());
                }
            }
            Part::Plain(KeyPart::Client) => put_client(asked.client, &mut put),
            Part::Plain(KeyPart::Header(name)) => asked.fields.each(name, &mut |value| {
                put(value);
                false
            }),
            Part::Plain(KeyPart::Cookie(name)) => asked.fields.each("cookie", &mut |field| {
                match cookie::values(field, name).next() {
                    Some(value) => put(value),
                    None => return true,
                }
                false
            }),
            Part::Plain(KeyPart::Query(name)) => return put_query(asked.query, name, hasher),
            Part::Plain(KeyPart::Path(number)) => {
                if let Some(segment) = segment(asked.path, *number) {
                    put(segment.as_bytes());
                }
            }
            // Compiled into the variant above.
            Part::Plain(KeyPart::Group(_)) => {}
        }
        found
    }
}

/// One network of 64 bits is one client: it costs nothing to use all of its addresses.
fn put_client(client: Option<IpAddr>, put: &mut dyn FnMut(&[u8])) {
    match client.map(|address| address.to_canonical()) {
        Some(IpAddr::V4(v4)) => put(&v4.octets()),
        Some(IpAddr::V6(v6)) => put(v6.octets().first_chunk::<8>().unwrap_or(&[0; 8])),
        None => {}
    }
}

fn put_query(text: &str, name: &str, hasher: &mut DefaultHasher) -> bool {
    let Some((_, raw)) = query::parameters(text).find(|(raw, _)| query::is_text(raw, name)) else {
        return false;
    };
    let mut length = 0_u64;
    query::each_octet_run(raw, &mut |run| {
        hasher.write(run);
        length += run.len() as u64;
    });
    hasher.write_u64(length);
    true
}

/// A segment of a path, from 1; none behind the last one.
fn segment(path: &str, number: u8) -> Option<&str> {
    path.strip_prefix('/')?
        .split('/')
        .nth(usize::from(number.checked_sub(1)?))
        .filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests;
