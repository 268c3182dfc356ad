//! An ordered map whose copies share what they do not change: the apps of a Model, of which each change makes another one.
//!
//! Sorted pieces of up to [`PIECE_MAX`] entries behind one list: a copy costs one count for each piece, a change one piece
//! (a B+ tree of two levels, as persistent maps have it, with the root unbounded: at 100,000 apps it has 3,000 pieces). What two
//! maps share is passed over when they are compared. Not for maps that are changed far more often than copied.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// Most entries of a piece; one that grows beyond is halved.
const PIECE_MAX: usize = 64;

type Piece<K, V> = Arc<Vec<(K, V)>>;

/// The map. Keys are unique and in order, no piece is empty.
#[derive(Clone)]
pub struct SharedMap<K, V> {
    pieces: Vec<Piece<K, V>>,
    len: usize,
}

impl<K, V> Default for SharedMap<K, V> {
    fn default() -> Self {
        Self { pieces: Vec::new(), len: 0 }
    }
}

impl<K, V> SharedMap<K, V> {
    /// One without entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All entries, in the order of their keys.
    pub fn iter(&self) -> Iter<'_, K, V> {
        Iter { rest: self.pieces.iter(), piece: [].iter() }
    }

    /// All keys, in order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    /// All values, in the order of their keys.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }
}

impl<K: Ord, V> SharedMap<K, V> {
    /// The piece that has the key, or would get it, and the place in it.
    fn find<Q: Ord + ?Sized>(&self, key: &Q) -> (usize, Result<usize, usize>)
    where
        K: Borrow<Q>,
    {
        let begins_before =
            |piece: &Piece<K, V>| piece.first().is_some_and(|(first, _)| first.borrow() <= key);
        let at = self.pieces.partition_point(begins_before).saturating_sub(1);
        let found = self
            .pieces
            .get(at)
            .map_or(Err(0), |piece| piece.binary_search_by(|(known, _)| known.borrow().cmp(key)));
        (at, found)
    }

    /// The value of a key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let (at, Ok(place)) = self.find(key) else { return None };
        self.pieces.get(at)?.get(place).map(|(_, value)| value)
    }

    /// Whether there is such a key.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.find(key).1.is_ok()
    }

    /// Where two maps are not the same: each key of either whose values `same` does not take for one, with what stands for it in
    /// both, in order. Pieces that they share are passed over.
    pub fn differences<'m>(
        &'m self,
        other: &'m Self,
        same: impl Fn(&V, &V) -> bool,
    ) -> Vec<Difference<'m, V>> {
        let (mut old, mut new) = (Cursor::of(self), Cursor::of(other));
        let mut found = Vec::new();
        loop {
            while old.shares_piece(&new) {
                (old.piece, new.piece) = (old.piece + 1, new.piece + 1);
            }
            let order = match (old.get(), new.get()) {
                (None, None) => return found,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((was, _)), Some((is, _))) => was.cmp(is),
            };
            let was = if order.is_le() { old.next() } else { None };
            let is = if order.is_ge() { new.next() } else { None };
            if !matches!((was, is), (Some(was), Some(is)) if same(was, is)) {
                found.push((was, is));
            }
        }
    }
}

/// What stands for a key in one map and in another; one of the two is always there.
pub type Difference<'m, V> = (Option<&'m V>, Option<&'m V>);

impl<K: Ord + Clone, V: Clone> SharedMap<K, V> {
    /// The value of a key, to be changed in this map alone.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let (at, Ok(place)) = self.find(key) else { return None };
        Arc::make_mut(self.pieces.get_mut(at)?).get_mut(place).map(|(_, value)| value)
    }

    /// Puts a value there; answers with the one that was.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let (at, found) = self.find(&key);
        let Some(piece) = self.pieces.get_mut(at) else {
            self.pieces.push(Arc::new(vec![(key, value)]));
            self.len += 1;
            return None;
        };
        let piece = Arc::make_mut(piece);
        match found {
            Ok(place) => piece.get_mut(place).map(|(_, known)| std::mem::replace(known, value)),
            Err(place) => {
                piece.insert(place, (key, value));
                self.len += 1;
                if piece.len() > PIECE_MAX {
                    let upper = piece.split_off(PIECE_MAX / 2);
                    self.pieces.insert(at + 1, Arc::new(upper));
                }
                None
            }
        }
    }

    /// Takes a key away; answers with its value.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let (at, Ok(place)) = self.find(key) else { return None };
        let piece = Arc::make_mut(self.pieces.get_mut(at)?);
        let (_, value) = piece.remove(place);
        self.len -= 1;
        let left = piece.len();
        if left == 0 {
            self.pieces.remove(at);
        } else if left < PIECE_MAX / 4 {
            self.join(if at == 0 { 0 } else { at - 1 });
        }
        Some(value)
    }

    /// Makes one piece of this one and the next where both are small: else removals would leave a piece for each entry.
    fn join(&mut self, at: usize) {
        let [one, next] = [at, at + 1].map(|at| self.pieces.get(at).map_or(PIECE_MAX, |piece| piece.len()));
        if one + next <= PIECE_MAX / 2 {
            let next = self.pieces.remove(at + 1);
            if let Some(piece) = self.pieces.get_mut(at) {
                Arc::make_mut(piece).extend(next.iter().cloned());
            }
        }
    }
}

/// A place in a map.
struct Cursor<'m, K, V> {
    map: &'m SharedMap<K, V>,
    piece: usize,
    place: usize,
}

impl<'m, K, V> Cursor<'m, K, V> {
    fn of(map: &'m SharedMap<K, V>) -> Self {
        Self { map, piece: 0, place: 0 }
    }

    /// Whether both are at the beginning of the same piece.
    fn shares_piece(&self, other: &Self) -> bool {
        let pieces = (self.map.pieces.get(self.piece), other.map.pieces.get(other.piece));
        self.place == 0
            && other.place == 0
            && matches!(pieces, (Some(one), Some(two)) if Arc::ptr_eq(one, two))
    }

    fn get(&self) -> Option<&'m (K, V)> {
        self.map.pieces.get(self.piece)?.get(self.place)
    }

    fn next(&mut self) -> Option<&'m V> {
        let piece = self.map.pieces.get(self.piece)?;
        let (_, value) = piece.get(self.place)?;
        self.place += 1;
        if self.place == piece.len() {
            (self.piece, self.place) = (self.piece + 1, 0);
        }
        Some(value)
    }
}

/// Entries in the order of their keys.
pub struct Iter<'m, K, V> {
    rest: std::slice::Iter<'m, Piece<K, V>>,
    piece: std::slice::Iter<'m, (K, V)>,
}

impl<'m, K, V> Iterator for Iter<'m, K, V> {
    type Item = (&'m K, &'m V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((key, value)) = self.piece.next() {
                return Some((key, value));
            }
            self.piece = self.rest.next()?.iter();
        }
    }
}

impl<'m, K, V> IntoIterator for &'m SharedMap<K, V> {
    type Item = (&'m K, &'m V);
    type IntoIter = Iter<'m, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<K: Ord + Clone, V: Clone> Extend<(K, V)> for SharedMap<K, V> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        for (key, value) in entries {
            self.insert(key, value);
        }
    }
}

impl<K: Ord + Clone, V: Clone> FromIterator<(K, V)> for SharedMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = Self::new();
        map.extend(entries);
        map
    }
}

impl<K: Ord + Clone, V: Clone, const N: usize> From<[(K, V); N]> for SharedMap<K, V> {
    fn from(entries: [(K, V); N]) -> Self {
        entries.into_iter().collect()
    }
}

impl<K: PartialEq, V: PartialEq> PartialEq for SharedMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for SharedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Put(u16, u8),
        Change(u16, u8),
        Remove(u16),
        Copy,
    }

    fn step() -> impl Strategy<Value = Step> {
        // Few enough keys that many are met again, enough for several pieces.
        let key = 0_u16..400;
        prop_oneof![
            6 => (key.clone(), any::<u8>()).prop_map(|(key, value)| Step::Put(key, value)),
            1 => (key.clone(), any::<u8>()).prop_map(|(key, value)| Step::Change(key, value)),
            3 => key.prop_map(Step::Remove),
            1 => Just(Step::Copy),
        ]
    }

    fn check(map: &SharedMap<u16, u8>, model: &BTreeMap<u16, u8>) {
        assert!(
            map.iter().eq(model.iter()) && map.len() == model.len() && map.is_empty() == model.is_empty()
        );
        assert!(map.keys().eq(model.keys()) && map.values().eq(model.values()));
        assert!((0..400).all(|key| map.get(&key) == model.get(&key)));
        assert!(map.pieces.iter().all(|piece| !piece.is_empty() && piece.len() <= PIECE_MAX));
    }

    proptest! {
        /// Whatever is done to it, it is what an ordinary map is, and so is every copy that was made on the way.
        #[test]
        fn it_is_as_an_ordinary_map(steps in prop::collection::vec(step(), 1..1_000)) {
            let (mut map, mut model) = (SharedMap::new(), BTreeMap::new());
            let mut copies = Vec::new();
            for step in steps {
                match step {
                    Step::Put(key, value) => prop_assert_eq!(map.insert(key, value), model.insert(key, value)),
                    Step::Change(key, value) => {
                        let (one, two) = (map.get_mut(&key), model.get_mut(&key));
                        prop_assert_eq!(&one, &two);
                        if let (Some(one), Some(two)) = (one, two) {
                            (*one, *two) = (value, value);
                        }
                    }
                    Step::Remove(key) => prop_assert_eq!(map.remove(&key), model.remove(&key)),
                    Step::Copy => copies.push((map.clone(), model.clone())),
                }
            }
            check(&map, &model);
            for (copy, then) in &copies {
                check(copy, then);
                let both: std::collections::BTreeSet<_> = then.keys().chain(model.keys()).collect();
                let expected: Vec<_> = both
                    .into_iter()
                    .map(|key| (then.get(key), model.get(key)))
                    .filter(|(was, is)| was != is)
                    .collect();
                prop_assert_eq!(copy.differences(&map, |was, is| was == is), expected);
                prop_assert_eq!(copy == &map, then == &model);
            }
        }
    }

    #[test]
    fn few_that_are_left_are_in_few_pieces() {
        let mut map: SharedMap<u32, u32> = (0..10_000).map(|key| (key, key)).collect();
        for key in (0..10_000).filter(|key| key % 100 > 0) {
            assert_eq!(map.remove(&key), Some(key));
        }
        assert!(map.keys().copied().eq((0..10_000).step_by(100)));
        assert!(map.pieces.len() <= 100 / 4, "{} pieces of 100 entries", map.pieces.len());
    }

    #[test]
    fn a_change_of_a_copy_costs_one_piece_and_is_found_in_one() {
        let map: SharedMap<u32, u32> = (0..100_000).map(|key| (key, key)).collect();
        let mut other = map.clone();
        *other.get_mut(&50_000).unwrap() = 1;
        let shared = map.pieces.iter().zip(&other.pieces).filter(|(one, two)| Arc::ptr_eq(one, two)).count();
        assert_eq!(shared, map.pieces.len() - 1);
        let looks = std::cell::Cell::new(0);
        let found = map.differences(&other, |was, is| {
            looks.set(looks.get() + 1);
            was == is
        });
        assert_eq!(found, [(Some(&50_000), Some(&1))]);
        assert!(looks.get() <= PIECE_MAX);
    }
}
