//! Maps: golden vectors, which keys a change moves, how even shares are, and that every key has a place.

use std::sync::Arc;

use ekiden_config::model::{Address, Endpoint, ShardAlgorithm};
use proptest::prelude::*;

use super::*;
use crate::cluster::fixture::endpoint;

const ALL: [ShardAlgorithm; 4] =
    [ShardAlgorithm::Rendezvous, ShardAlgorithm::Ring, ShardAlgorithm::Maglev, ShardAlgorithm::Ketama];

fn endpoints(weights: &[u16]) -> Vec<Arc<Endpoint>> {
    weights.iter().enumerate().map(|(number, weight)| Arc::new(endpoint(number, *weight))).collect()
}

fn text(number: usize) -> String {
    format!("key-{number}")
}

/// The ids that so many keys belong to.
fn owners(map: &ShardMap, endpoints: &[Arc<Endpoint>], keys: usize) -> Vec<String> {
    let owner = |number| map.owner(Key::new(text(number).as_bytes())).unwrap();
    (0..keys).map(|number| endpoints[owner(number) as usize].id.to_string()).collect()
}

#[test]
fn golden_vectors() {
    assert_eq!(Key::new(b"").hash(), GOLDEN_KEYS[0]);
    assert_eq!(Key::new(b"user-1").hash(), GOLDEN_KEYS[1]);
    for (weights, expected) in [(&[1u16; 8][..], GOLDEN_EVEN), (&[1, 2, 3, 4, 5, 6, 7, 8], GOLDEN_WEIGHTED)] {
        let endpoints = endpoints(weights);
        for (algorithm, (digest, picture)) in ALL.into_iter().zip(expected) {
            let map = ShardMap::new(algorithm, &endpoints);
            let seen: String = (0..40)
                .map(|number| map.owner(Key::new(text(number).as_bytes())).unwrap().to_string())
                .collect();
            assert_eq!((map.digest(), seen.as_str()), (digest, picture), "{algorithm:?} {:#x}", map.digest());
        }
    }
}

// Computed apart from this code, by a script of the same definitions.
const GOLDEN_KEYS: [u64; 2] = [0x1e71_4398_b689_a0bd, 0xc91f_fb4e_e14d_bbe8];
const GOLDEN_EVEN: [(u64, &str); 4] = [
    (0x609c_9daf_f40b_73ed, "4172576401033042560013225100463217463345"),
    (0x6669_bedc_ba6f_8435, "6042427124723231563332104643532374504752"),
    (0x5b0a_4b26_a25b_9b35, "4220141174257745063502074303470341611337"),
    (0x5f92_72e5_a74e_4fcc, "7233741516036366604441326467022335210752"),
];
const GOLDEN_WEIGHTED: [(u64, &str); 4] = [
    (0xf4ab_eea0_170f_e899, "4574576401036646566034655143763217463345"),
    (0x7143_9a36_b3cf_2c09, "6476534766767273563362635652235756756777"),
    (0x8fb8_9d74_3b4e_c5d5, "4620641174557745363552774337473341671377"),
    (0x99d0_4374_e0eb_7983, "7644761673374274767641176477465364265337"),
];

/// Keys of `gone` that moved, and keys of others that did.
fn moved(algorithm: ShardAlgorithm, weights: &[u16], gone: usize, keys: usize) -> (usize, usize) {
    let all = endpoints(weights);
    let mut rest = all.clone();
    let id = rest.remove(gone).id.to_string();
    let before = owners(&ShardMap::new(algorithm, &all), &all, keys);
    let after = owners(&ShardMap::new(algorithm, &rest), &rest, keys);
    let pairs = || before.iter().zip(&after).filter(|(was, is)| was != is);
    assert!(after.iter().all(|is| *is != id));
    (pairs().filter(|(was, _)| **was == id).count(), pairs().filter(|(was, _)| **was != id).count())
}

#[test]
fn removing_any_one_shard_moves_exactly_its_keys() {
    const KEYS: usize = 1000;
    for algorithm in [ShardAlgorithm::Rendezvous, ShardAlgorithm::Ring, ShardAlgorithm::Ketama] {
        for weights in [&[1u16; 20][..], &[1, 7, 3, 1, 9, 2, 2, 5]] {
            let mut own = 0;
            for gone in 0..weights.len() {
                let (mine, others) = moved(algorithm, weights, gone, KEYS);
                assert_eq!(others, 0, "{algorithm:?} without {gone}");
                own += mine;
            }
            assert_eq!(own, KEYS, "{algorithm:?}: every key was somebody's");
        }
    }
}

#[test]
fn removing_any_one_shard_of_maglev_moves_little_more() {
    const SHARDS: usize = 100;
    const KEYS: usize = 5000;
    for gone in [0, 33, 50, 99] {
        let (mine, others) = moved(ShardAlgorithm::Maglev, &[1; SHARDS], gone, KEYS);
        let part = (mine + others) as f64 / KEYS as f64;
        assert!(part <= 2.2 / SHARDS as f64, "{part} of the keys");
    }
}

#[test]
fn a_weight_that_grows_only_takes_keys() {
    for algorithm in [ShardAlgorithm::Rendezvous, ShardAlgorithm::Ring] {
        for (from, to) in [(1u16, 2u16), (2, 1), (5, 9)] {
            let mut weights = [1u16, 2, from, 4, 1, 1];
            let old = endpoints(&weights);
            weights[2] = to;
            let new = endpoints(&weights);
            let before = owners(&ShardMap::new(algorithm, &old), &old, 3000);
            let after = owners(&ShardMap::new(algorithm, &new), &new, 3000);
            let id = old[2].id.to_string();
            for (was, is) in before.iter().zip(&after).filter(|(was, is)| was != is) {
                assert_eq!(if to > from { is } else { was }, &id, "{algorithm:?}");
            }
            assert_ne!(before, after);
        }
    }
}

#[test]
fn an_address_that_changes_moves_no_key_but_with_ketama() {
    let old = endpoints(&[1; 10]);
    let moved = |one: &Arc<Endpoint>| {
        let Address::Tcp(address) = one.address else { panic!("a socket") };
        let address = Address::Tcp(([10, 0, 0, 9], address.port()).into());
        Arc::new(Endpoint { address, ..(**one).clone() })
    };
    let new: Vec<_> = old.iter().map(moved).collect();
    for algorithm in ALL {
        let (before, after) = (ShardMap::new(algorithm, &old), ShardMap::new(algorithm, &new));
        let same = owners(&before, &old, 500) == owners(&after, &new, 500);
        assert_eq!(same, algorithm != ShardAlgorithm::Ketama, "{algorithm:?}");
        assert_eq!(before.digest() == after.digest(), same, "{algorithm:?}");
    }
}

#[test]
fn digests_tell_algorithms_ids_and_weights_apart() {
    let mut seen: Vec<u64> = ALL.iter().map(|algorithm| digest(*algorithm, &endpoints(&[1, 1, 1]))).collect();
    seen.push(digest(ShardAlgorithm::Ring, &endpoints(&[1, 1])));
    seen.push(digest(ShardAlgorithm::Ring, &endpoints(&[1, 1, 2])));
    seen.push(digest(ShardAlgorithm::Ring, &endpoints(&[1, 2, 1])));
    let other = Arc::new(Endpoint { id: crate::cluster::fixture::id(9), ..endpoint(2, 1) });
    let ids: Vec<_> = endpoints(&[1, 1]).into_iter().chain([other]).collect();
    seen.push(digest(ShardAlgorithm::Ring, &ids));
    let count = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), count);
}

/// The largest part of evenly spread hashes that one of the shards has, as a factor of its fair share.
fn largest(algorithm: ShardAlgorithm, shards: usize, keys: u64) -> f64 {
    let map = ShardMap::new(algorithm, &endpoints(&vec![1; shards]));
    let mut counts = vec![0u64; shards];
    for number in 0..keys {
        let hash = stable::mix(number);
        counts[map.owner(Key::again(b"", hash)).unwrap() as usize] += 1;
    }
    *counts.iter().max().unwrap() as f64 / (keys as f64 / shards as f64)
}

#[test]
fn the_largest_of_a_hundred_shares() {
    for (algorithm, keys, most) in [
        (ShardAlgorithm::Rendezvous, 500_000, 1.05),
        (ShardAlgorithm::Ring, 300_000, 1.3),
        (ShardAlgorithm::Maglev, 2_000_000, 1.02),
    ] {
        let share = largest(algorithm, 100, keys);
        assert!(share <= most, "{algorithm:?}: {share}");
    }
}

#[test]
fn shares_follow_weights() {
    let weights = [10u16, 1, 4, 5];
    for algorithm in ALL {
        let all = endpoints(&weights);
        let map = ShardMap::new(algorithm, &all);
        let mut counts = [0usize; 4];
        for number in 0..20_000 {
            counts[map.owner(Key::new(text(number).as_bytes())).unwrap() as usize] += 1;
        }
        for (count, weight) in counts.iter().zip(weights) {
            let (got, want) = (*count as f64 / 20_000.0, f64::from(weight) / 20.0);
            assert!((got - want).abs() < want * 0.25, "{algorithm:?}: {counts:?}");
        }
    }
}

#[test]
fn rings_stay_within_their_points() {
    for weights in [vec![1000u16; 200], vec![1; 20_000]] {
        let endpoints = endpoints(&weights);
        let shards: Vec<Shard> = endpoints
            .iter()
            .map(|one| Shard {
                seed: stable::hash(b"shard", one.id.as_str().as_bytes()),
                weight: u32::from(one.weight),
            })
            .collect();
        assert!(Ring::new(&shards).from(0).count() as u64 <= POINTS_MAX);
    }
    assert_eq!(
        Ring::new(&[Shard { seed: 1, weight: 3 }]).from(5).count(),
        480,
        "160 for each unit of weight"
    );
}

#[test]
fn endpoints_that_share_an_address_and_those_without_one() {
    let mut all = endpoints(&[1, 1, 1]);
    all[1] = Arc::new(Endpoint { address: all[0].address.clone(), ..(*all[1]).clone() });
    all[2] = Arc::new(Endpoint { address: Address::Unix("/run/a".into()), ..(*all[2]).clone() });
    let map = ShardMap::new(ShardAlgorithm::Ketama, &all);
    assert!((0..100).all(|number| map.owner(Key::new(text(number).as_bytes())) == Some(0)));
    // Nothing of nginx's is lost when nobody on the ring may be picked: the others are asked.
    assert_eq!(map.first(Key::new(b"a"), &mut |at| at == 2), Some(2));
}

fn any_algorithm() -> impl Strategy<Value = ShardAlgorithm> {
    prop::sample::select(&ALL[..])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Every key has a place, its order is of distinct shards that begins with its owner, and who is not accepted is passed
    /// over for the next of that order.
    #[test]
    fn orders(
        algorithm in any_algorithm(),
        weights in prop::collection::vec(1u16..=20, 1..30),
        closed in prop::collection::vec(any::<bool>(), 30),
        keys in prop::collection::vec(".{0,12}", 1..20),
        count in 1usize..80,
    ) {
        let map = ShardMap::new(algorithm, &endpoints(&weights));
        for text in &keys {
            let key = Key::new(text.as_bytes());
            let order = map.replicas(key, count);
            prop_assert_eq!(order.len(), count.min(weights.len()));
            prop_assert!(order.iter().all(|at| (*at as usize) < weights.len()));
            let mut distinct = order.to_vec();
            distinct.sort_unstable();
            distinct.dedup();
            prop_assert_eq!(distinct.len(), order.len());
            prop_assert_eq!(map.owner(key), order.first().copied());
            let open = |at: u32| !closed[at as usize];
            let found = map.first(key, &mut |at| open(at));
            prop_assert_eq!(found.is_some(), (0..weights.len() as u32).any(open));
            if let Some(wanted) = order.iter().copied().find(|at| open(*at)) {
                prop_assert_eq!(found, Some(wanted), "{:?} {:?}", algorithm, order);
            }
        }
    }

    /// Where a key goes when its shard is not ready is where it goes when the shard is removed (a ring's next, too).
    #[test]
    fn failure_and_removal_agree(
        algorithm in prop::sample::select(vec![ShardAlgorithm::Rendezvous, ShardAlgorithm::Ring]),
        count in 2usize..20,
        number in 0usize..1000,
    ) {
        let all = endpoints(&vec![1; count]);
        let (map, text) = (ShardMap::new(algorithm, &all), text(number));
        let key = Key::new(text.as_bytes());
        let owner = map.owner(key).unwrap();
        let next = map.first(key, &mut |at| at != owner).unwrap();
        let mut rest = all.clone();
        rest.remove(owner as usize);
        let moved = ShardMap::new(algorithm, &rest).owner(key).unwrap();
        prop_assert_eq!(&rest[moved as usize].id, &all[next as usize].id);
    }
}
