//! What a map does to keys, by a sample of them: how they are shared out, and which move when a shard leaves. For people; not
//! for workers.

use std::sync::Arc;

use ekiden_config::model::{Endpoint, ShardAlgorithm};

use super::{Key, ShardMap};

/// Keys of a sample: shares are right to a few tenths of a percent.
const KEYS: u32 = 1 << 16;

/// Parts of all keys that move when one shard leaves.
#[derive(Debug, Clone, PartialEq)]
pub struct Moves {
    /// Those of the shard that leaves.
    pub own: f64,
    /// Those that had another shard, and have another one now.
    pub others: f64,
    /// What each of the other endpoints has more, in their order, with the one that leaves.
    pub gains: Vec<f64>,
}

/// The part of all keys that each endpoint has, in their order.
pub fn shares(map: &ShardMap) -> Vec<f64> {
    let mut shares = vec![0.0; map.len()];
    for number in 0..KEYS {
        let owner = map.owner(Key::new(&number.to_le_bytes())).and_then(|at| shares.get_mut(at as usize));
        if let Some(share) = owner {
            *share += 1.0 / f64::from(KEYS);
        }
    }
    shares
}

/// What moves when the endpoint at a place leaves; none when there is no such place.
pub fn without(algorithm: ShardAlgorithm, endpoints: &[Arc<Endpoint>], gone: usize) -> Option<Moves> {
    let mut rest = endpoints.to_vec();
    if gone >= rest.len() {
        return None;
    }
    rest.remove(gone);
    let (before, after) = (ShardMap::new(algorithm, endpoints), ShardMap::new(algorithm, &rest));
    let mut moves = Moves { own: 0.0, others: 0.0, gains: vec![0.0; endpoints.len()] };
    let part = 1.0 / f64::from(KEYS);
    for number in 0..KEYS {
        let bytes = number.to_le_bytes();
        let key = Key::new(&bytes);
        let Some(was) = before.owner(key).map(|at| at as usize) else { continue };
        // Places behind the one that left are one less.
        let is = after.owner(key).map(|at| at as usize).map(|at| at + usize::from(at >= gone));
        if is == Some(was) {
            continue;
        }
        *(if was == gone { &mut moves.own } else { &mut moves.others }) += part;
        if let Some(gain) = is.and_then(|at| moves.gains.get_mut(at)) {
            *gain += part;
        }
    }
    Some(moves)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::fixture::endpoint;

    #[test]
    fn a_survey_tells_what_the_map_does() {
        let endpoints: Vec<_> = [1, 1, 2]
            .into_iter()
            .enumerate()
            .map(|(number, weight)| Arc::new(endpoint(number, weight)))
            .collect();
        let shares = shares(&ShardMap::new(ShardAlgorithm::Rendezvous, &endpoints));
        for (share, want) in shares.iter().zip([0.25, 0.25, 0.5]) {
            assert!((share - want).abs() < 0.01, "{shares:?}");
        }
        let moves = without(ShardAlgorithm::Rendezvous, &endpoints, 1).unwrap();
        assert!((moves.own - shares[1]).abs() < 1e-9);
        assert_eq!((moves.others, moves.gains[1]), (0.0, 0.0));
        assert!((moves.gains.iter().sum::<f64>() - moves.own).abs() < 1e-9);
        assert!(moves.gains[2] > 1.8 * moves.gains[0], "by weight: {moves:?}");
        assert!(without(ShardAlgorithm::Maglev, &endpoints, 0).unwrap().others > 0.0);
        assert_eq!(without(ShardAlgorithm::Ring, &endpoints, 3), None);
    }
}
