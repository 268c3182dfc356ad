//! Subsets: which of very many endpoints one router sends to, so that each has a few connections instead of one to every router.
//!
//! Deterministic, without a word between routers. B. Beyer et al., "Site Reliability Engineering" (2016), chapter 20: routers count
//! themselves off in rounds, and each round deals out all endpoints once, so that no endpoint has two routers more than another.
//! There the deal is a shuffle, which one endpoint more makes anew. Here it is consistent hashing with bounded loads (V. Mirrokni
//! et al., 2016): each endpoint takes the first hand of its own order that has room, so that one endpoint moves few others. The
//! number of hands is a power of two: it changes, and with it all subsets, only when endpoints double or halve.
//!
//! A router without a number plays in a round and with a hand that its name draws: its subset is as stable, and what endpoints get
//! is as even as chance makes it. Knows nothing of readiness.

use crate::stable;

/// Hands of one deal at most.
const HANDS_MAX: usize = 1 << 16;

/// Who asks for a subset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seat {
    /// Routers of one kind count together.
    kind: u64,
    /// Its number among them.
    number: u64,
}

impl Seat {
    /// The seat of a router by its name: `web.7` and `edge-7` are the seventh of their kinds, and any other name draws a number.
    pub fn of(instance: &str) -> Self {
        let digits = instance.len() - instance.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        let (kind, number) = instance.split_at(instance.len() - digits);
        // Longer ones are no counts but names, such as those of containers.
        match number.parse::<u32>() {
            Ok(number) if kind.ends_with(['.', '-']) && digits <= 6 => {
                Self { kind: stable::hash(b"kind", kind.as_bytes()), number: u64::from(number) }
            }
            Ok(_) | Err(_) => Self { kind: 0, number: stable::hash(b"seat", instance.as_bytes()) },
        }
    }

    /// The seat with this number among routers without a kind.
    #[cfg(test)]
    pub(crate) fn numbered(number: u64) -> Self {
        Self { kind: 1, number }
    }
}

/// Hands that `count` endpoints are dealt out to, of at least `size` each.
fn hands(count: usize, size: usize) -> usize {
    let most = (count / size.max(1)).clamp(1, HANDS_MAX);
    if most.is_power_of_two() { most } else { most.next_power_of_two() / 2 }
}

/// One endpoint in a deal.
struct Card {
    place: usize,
    rank: u64,
    first: usize,
    step: usize,
}

/// Which of these endpoints, told by their ids, the router has: `size` of them at least and twice as many at most, or all where there
/// are fewer. O(endpoints x log endpoints), rarely more; off the workers.
pub(crate) fn members<'a>(ids: impl Iterator<Item = &'a str>, size: usize, seat: Seat) -> Vec<bool> {
    let ids: Vec<&str> = ids.collect();
    let hands = hands(ids.len(), size);
    if hands == 1 {
        return vec![true; ids.len()];
    }
    let round = seat.number / hands as u64;
    let own = (seat.number % hands as u64) as usize;
    let seed = stable::mix(seat.kind ^ stable::mix(round));
    let mut cards: Vec<Card> = ids
        .iter()
        .enumerate()
        .map(|(place, id)| {
            let hash = stable::mix(stable::hash(b"subset", id.as_bytes()) ^ seed);
            // An odd step visits every hand of a power of two.
            let first = hash as usize & (hands - 1);
            let step = (hash >> 32) as usize & (hands - 1) | 1;
            Card { place, rank: stable::mix(hash), first, step }
        })
        .collect();
    cards.sort_unstable_by_key(|card| (card.rank, card.place));
    // So many fit exactly, as every hand but the last has been filled.
    let (room, more) = (ids.len() / hands, ids.len() % hands);
    let mut left: Vec<usize> = (0..hands).map(|hand| room + usize::from(hand < more)).collect();
    let mut is_own = vec![false; ids.len()];
    for card in cards {
        let mut order = (0..hands).map(|turn| (card.first + turn * card.step) & (hands - 1));
        let hand = order.find(|hand| left.get(*hand).is_some_and(|left| *left > 0));
        if let Some(left) = hand.and_then(|hand| left.get_mut(hand)) {
            *left -= 1;
        }
        if let Some(place) = is_own.get_mut(card.place) {
            *place = hand == Some(own);
        }
    }
    is_own
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn ids(numbers: impl Iterator<Item = usize>) -> Vec<String> {
        numbers.map(|number| format!("e{number}")).collect()
    }

    fn subset(ids: &[String], size: usize, seat: Seat) -> BTreeSet<String> {
        let own = members(ids.iter().map(String::as_str), size, seat);
        ids.iter().zip(own).filter(|(_, own)| *own).map(|(id, _)| id.clone()).collect()
    }

    fn coverage(ids: &[String], size: usize, routers: u64) -> (usize, usize) {
        let mut counts = std::collections::BTreeMap::new();
        for number in 0..routers {
            for id in subset(ids, size, Seat::numbered(number)) {
                *counts.entry(id).or_insert(0) += 1;
            }
        }
        let least = if counts.len() < ids.len() { 0 } else { *counts.values().min().unwrap() };
        (least, *counts.values().max().unwrap())
    }

    /// The stated bound: no endpoint has two routers more than another, whatever the number of routers.
    #[test]
    fn numbered_routers_cover_endpoints_evenly() {
        for (count, size) in [(1_000, 20), (100, 10), (777, 5), (33, 16), (64, 1)] {
            let ids = ids(0..count);
            for routers in [1, 7, 64, 250] {
                let (least, most) = coverage(&ids, size, routers);
                assert!(
                    most - least <= 1,
                    "{count} endpoints, {size} each, {routers} routers: {least} to {most}"
                );
            }
        }
    }

    #[test]
    fn a_subset_has_its_size() {
        for (count, size) in
            [(1_000, 20), (100, 10), (101, 10), (19, 10), (5, 10), (10, 10), (0, 3), (640, 10)]
        {
            let ids = ids(0..count);
            for number in 0..70 {
                let have = subset(&ids, size, Seat::numbered(number)).len();
                assert!(have >= size.min(count), "{count} {size}: {have}");
                assert!(have <= (2 * size).min(count), "{count} {size}: {have}");
            }
        }
    }

    /// What one endpoint more or less moves: of the subsets of all routers together far less than one member each.
    #[test]
    fn one_endpoint_moves_few() {
        let (count, size, routers) = (1_000, 20, 320);
        let all = ids(0..count);
        let (mut moved, mut worst) = (0usize, 0usize);
        for gone in [0, 13, 500, 999] {
            let rest: Vec<String> = all.iter().filter(|id| **id != format!("e{gone}")).cloned().collect();
            for number in 0..routers {
                let (before, after) =
                    (subset(&all, size, Seat::numbered(number)), subset(&rest, size, Seat::numbered(number)));
                let left = before.difference(&after).count();
                moved += left;
                worst = worst.max(left);
            }
        }
        let mean = moved as f64 / (4.0 * routers as f64);
        assert!(mean <= 0.25 && worst <= 2, "{mean} of {size} on average, {worst} at most");
    }

    #[test]
    fn names_with_a_number_count_and_others_draw() {
        assert_eq!(Seat::of("web.7").number, 7);
        assert_eq!(Seat::of("edge-12").number, 12);
        assert_eq!(Seat::of("web.7").kind, Seat::of("web.8").kind);
        assert_ne!(Seat::of("web.7").kind, Seat::of("edge-7").kind);
        for name in ["web", "web7", "", "api-5d9f7b6c4-x2k8p", "h-99999999", "ö.3x"] {
            assert!(Seat::of(name).number > 1_000, "{name}");
        }
        // Drawn numbers spread routers, if not as evenly.
        let ids = ids(0..200);
        let drawn: BTreeSet<_> = (0..40).map(|n| subset(&ids, 10, Seat::of(&format!("box{n}x")))).collect();
        assert!(drawn.len() > 35, "{}", drawn.len());
    }

    /// Routers of two releases must agree: the deal is a promise.
    #[test]
    fn the_deal_never_changes() {
        let own = subset(&ids(0..40), 5, Seat::of("web.3"));
        let again = subset(&ids(0..40), 5, Seat::of("web.3"));
        assert_eq!(own, again);
        assert_eq!(own.len(), 5);
    }
}
