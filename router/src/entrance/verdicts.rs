//! What was found out about a credential, kept for a while: a table of fixed size that all workers read without a lock.
//!
//! An entry is found by a mark of 256 bits that clients cannot foresee. Two places are looked at for each; the older one gives way.
//! Does not make marks.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

/// Something found out.
#[derive(Debug)]
struct Held<T> {
    mark: [u8; 32],
    until_ms: u64,
    value: T,
}

/// What is kept.
#[derive(Debug)]
pub struct Verdicts<T> {
    places: Box<[ArcSwapOption<Held<T>>]>,
}

impl<T: Clone> Verdicts<T> {
    /// None yet; so many places, rounded up to a power of two.
    pub fn new(places: usize) -> Self {
        let places = places.next_power_of_two().max(2);
        Self { places: (0..places).map(|_| ArcSwapOption::empty()).collect() }
    }

    fn pair(&self, mark: &[u8; 32]) -> [Option<&ArcSwapOption<Held<T>>>; 2] {
        let first = mark.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let at = usize::try_from(first & (self.places.len() as u64 - 1)).unwrap_or(0);
        [self.places.get(at), self.places.get(at ^ 1)]
    }

    /// What is known of a mark now.
    pub fn get(&self, mark: &[u8; 32], now_ms: u64) -> Option<T> {
        self.pair(mark).into_iter().flatten().find_map(|place| {
            let held = place.load();
            let held = held.as_ref()?;
            (held.until_ms > now_ms && held.mark == *mark).then(|| held.value.clone())
        })
    }

    /// Keeps a value until a time.
    pub fn put(&self, mark: [u8; 32], value: T, until_ms: u64) {
        let ends = |place: &ArcSwapOption<Held<T>>| {
            place.load().as_ref().map_or(0, |held| if held.mark == mark { 0 } else { held.until_ms })
        };
        let place = self.pair(&mark).into_iter().flatten().min_by_key(|place| ends(place));
        if let Some(place) = place {
            place.store(Some(Arc::new(Held { mark, until_ms, value })));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_for_a_while_and_never_more_than_there_are_places() {
        let verdicts = Verdicts::new(3);
        let mark = |first: u8, last: u8| {
            let mut mark = [0; 32];
            (mark[0], mark[31]) = (first, last);
            mark
        };
        verdicts.put(mark(0, 1), 'a', 100);
        verdicts.put(mark(0, 2), 'b', 200);
        assert_eq!((verdicts.get(&mark(0, 1), 99), verdicts.get(&mark(0, 1), 100)), (Some('a'), None));
        assert_eq!((verdicts.get(&mark(0, 2), 99), verdicts.get(&mark(0, 3), 99)), (Some('b'), None));
        verdicts.put(mark(0, 3), 'c', 300);
        assert_eq!((verdicts.get(&mark(0, 1), 0), verdicts.get(&mark(0, 2), 0)), (None, Some('b')));
        verdicts.put(mark(0, 3), 'd', 400);
        assert_eq!((verdicts.get(&mark(0, 3), 0), verdicts.get(&mark(0, 2), 0)), (Some('d'), Some('b')));
    }
}
