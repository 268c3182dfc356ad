//! A table of fixed capacity from client to its open connections and its arrival time.
//!
//! Set-associative: a client's slot is one of the [`WAYS`] slots of the set that its keyed hash names, and is known by 40
//! further bits of that hash. A slot is free when nothing is open and its arrival time has passed, for then it says nothing
//! that an empty one would not. Opening a connection is one compare-and-swap that names the client and counts at once, so
//! that a slot can change hands only while nothing of its old client is open. When a set is full, the slot of a client with
//! nothing open is taken over, the one soonest free; when there is none, the clients without a slot share one, as if they
//! were one client. Both are counted.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ekiden_config::model::Rate;

use super::{Refusal, rate};

/// Slots of a set.
const WAYS: usize = 16;
/// Bits of a slot's first word that count open connections; the others name the client.
const OPEN_BITS: u32 = 24;
const OPEN_MASK: u64 = (1 << OPEN_BITS) - 1;
/// Most slots: 4 MiB.
const SLOTS_MAX: usize = 1 << 18;
const SLOTS_MIN: usize = 1 << 10;
/// Tries to find a slot while other workers take what was found; then the shared one.
const TRIES: usize = 8;
/// The place in the shared slot.
const SHARED: u32 = u32::MAX;

#[derive(Debug, Default)]
struct Slot {
    /// Who it is, above how many connections are open.
    owner: AtomicU64,
    /// When the client's next connection is due at its full rate, in nanoseconds.
    arrival: AtomicU64,
}

/// An open connection in the table. To be handed back once.
#[derive(Debug, PartialEq, Eq)]
pub struct Place(u32);

/// Open connections and arrival times by client, shared by all workers.
#[derive(Debug)]
pub struct Clients {
    seed: [u64; 2],
    slots: Box<[Slot]>,
    shared: Slot,
    taken_over: AtomicU64,
    sharing: AtomicU64,
}

impl Clients {
    /// A table for so many connections at once, four slots each within fixed bounds. The seed is random, so that nobody
    /// can choose addresses that meet in one set.
    pub fn new(connections: u64, seed: [u64; 2]) -> Self {
        let wanted = usize::try_from(connections.saturating_mul(4)).unwrap_or(SLOTS_MAX);
        let count = wanted.clamp(SLOTS_MIN, SLOTS_MAX).next_power_of_two();
        let zero = AtomicU64::default;
        Self {
            seed,
            slots: (0..count).map(|_| Slot::default()).collect(),
            shared: Slot::default(),
            taken_over: zero(),
            sharing: zero(),
        }
    }

    /// Opens a connection of a client on a listener, when it has fewer than `most` open and its rate allows one more.
    ///
    /// Two workers that meet a new client at the same moment may give it two slots: it may then have one connection per
    /// worker beyond `most`, until they end.
    ///
    /// # Errors
    /// Which bound the client is at.
    pub fn enter(
        &self,
        listener: u64,
        client: IpAddr,
        most: u32,
        rate: Option<&Rate>,
        now_ns: u64,
    ) -> Result<Place, Refusal> {
        let place = self.open(hash(self.seed, listener, client), u64::from(most).min(OPEN_MASK), now_ns)?;
        // Held open meanwhile, so that the slot cannot change hands.
        let allowed = rate.is_none_or(|rate| rate::take(&self.slot(&place).arrival, rate, now_ns));
        if allowed {
            return Ok(place);
        }
        self.leave(place);
        Err(Refusal::ClientRate)
    }

    /// A connection has ended.
    pub fn leave(&self, place: Place) {
        self.slot(&place).owner.fetch_sub(1, Relaxed);
    }

    /// Slots taken over from clients whose rate was still remembered. Called by telemetry.
    pub fn taken_over(&self) -> u64 {
        self.taken_over.load(Relaxed)
    }

    /// Connections judged in the slot that clients without one share. Called by telemetry.
    pub fn sharing(&self) -> u64 {
        self.sharing.load(Relaxed)
    }

    fn slot(&self, place: &Place) -> &Slot {
        self.slots.get(place.0 as usize).unwrap_or(&self.shared)
    }

    fn open(&self, hash: u64, most: u64, now_ns: u64) -> Result<Place, Refusal> {
        let first = hash as usize % self.slots.len() / WAYS * WAYS;
        let set = self.slots.get(first..first + WAYS).unwrap_or(&[]);
        // Never zero, which is nobody.
        let name = (hash | 1 << 63) & !OPEN_MASK;
        for _ in 0..TRIES {
            let held = set.iter().position(|slot| slot.owner.load(Relaxed) & !OPEN_MASK == name);
            let found = held.map(|at| (at, false)).or_else(|| free(set, now_ns));
            let Some((at, remembers)) = found else { break };
            let Some(slot) = set.get(at) else { break };
            let before = slot.owner.load(Relaxed);
            let (ours, open) = (before & !OPEN_MASK == name, before & OPEN_MASK);
            if ours && open >= most {
                return Err(Refusal::ClientConnections);
            }
            if !ours && (open > 0 || held.is_some()) {
                continue;
            }
            let after = if ours { before + 1 } else { name | 1 };
            if slot.owner.compare_exchange(before, after, Relaxed, Relaxed).is_err() {
                continue;
            }
            if !ours && remembers {
                slot.arrival.store(0, Relaxed);
                self.taken_over.fetch_add(1, Relaxed);
            }
            return Ok(Place((first + at) as u32));
        }
        self.sharing.fetch_add(1, Relaxed);
        let more = |open: u64| (open < most).then_some(open + 1);
        let entered = self.shared.owner.fetch_update(Relaxed, Relaxed, more);
        entered.map(|_| Place(SHARED)).map_err(|_| Refusal::ClientConnections)
    }
}

/// A keyed hash of a client and of what it is a client of: folded multiplication, as in wyhash. Rate limits tell clients apart
/// by it too.
pub(crate) fn hash(seed: [u64; 2], listener: u64, client: IpAddr) -> u64 {
    let (family, address) = match client {
        IpAddr::V4(v4) => (4, u64::from(v4.to_bits())),
        IpAddr::V6(v6) => wide(v6),
    };
    let [one, two] = seed;
    let inner = fold(one ^ listener, two ^ family);
    fold(inner ^ address ^ two, 0x9e37_79b9_7f4a_7c15 ^ one)
}

/// The free slot of a set to take, and whether it still remembers a rate; none when something is open in each.
fn free(set: &[Slot], now_ns: u64) -> Option<(usize, bool)> {
    let mut soonest = None;
    for (at, slot) in set.iter().enumerate() {
        if slot.owner.load(Relaxed) & OPEN_MASK > 0 {
            continue;
        }
        let arrival = slot.arrival.load(Relaxed);
        if arrival <= now_ns {
            return Some((at, false));
        }
        if soonest.is_none_or(|(_, least)| arrival < least) {
            soonest = Some((at, arrival));
        }
    }
    soonest.map(|(at, _)| (at, true))
}

/// Family and number of an address of IPv6. Apart, because the compiler works out whether it is mapped beforehand otherwise, for
/// those of IPv4 too.
#[inline(never)]
fn wide(address: Ipv6Addr) -> (u64, u64) {
    match address.to_ipv4_mapped() {
        Some(v4) => (4, u64::from(v4.to_bits())),
        // One network of 64 bits is one client: it costs nothing to use all of its addresses.
        None => (6, (address.to_bits() >> 64) as u64),
    }
}

/// The two halves of a product, joined.
pub(crate) fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}
