//! Every published object as the line that routers get, with the generation that changed it last: what a router lacks is what
//! was changed after the generation it has.
//!
//! Pure. Objects that are gone leave a mark, so that a router that was away hears of it; of very many marks the oldest are
//! forgotten, and who is older than those begins anew.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::Arc;

use hyper::body::Bytes;

use super::subscription::{Share, app_of};

/// Marks of objects that are gone, at most.
const GONE_MAX: usize = 100_000;
/// What passing an object over costs, in bytes of what is sent: looking at all of them takes time too.
const PASSED_OVER: usize = 64;
/// Objects that are passed over one after the other before the next one of the share is looked up.
const RUN: usize = 256;

/// Its generation and its key.
type Place = (u64, Arc<str>);

/// Where a reader stands: behind this object of this generation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    generation: u64,
    key: Option<Arc<str>>,
}

impl Cursor {
    /// Behind everything of a generation; 0 is before the first.
    pub(super) fn behind(generation: u64) -> Self {
        Self { generation, key: None }
    }
}

/// Some lines for a reader.
#[derive(Debug, Default)]
pub(super) struct Piece {
    /// Lines with their ends.
    pub(super) lines: Vec<Bytes>,
    /// The reader has everything of this generation then.
    pub(super) whole: Option<u64>,
}

/// What is published.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    generation: u64,
    /// The generation of each object, and whether it is gone.
    objects: HashMap<Arc<str>, (u64, bool)>,
    /// Lines in the order of their generations.
    lines: BTreeMap<(u64, Arc<str>), Bytes>,
    gone: BTreeSet<(u64, Arc<str>)>,
    /// Marks up to this generation may have been forgotten.
    forgotten: u64,
    /// Where the objects of each app are, for readers of shares; none where there are no shares.
    by_app: Option<HashMap<Arc<str>, BTreeSet<Place>>>,
    /// What readers have cost, for tests that bound it.
    #[cfg(test)]
    spent: std::cell::Cell<Spent>,
}

/// What readers have cost.
#[cfg(test)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Spent {
    /// Bytes that they were given.
    pub(super) bytes: u64,
    /// Objects that were looked at for that.
    pub(super) looks: u64,
}

impl Ledger {
    /// One that is read by shares.
    pub(super) fn by_app() -> Self {
        Self { by_app: Some(HashMap::new()), ..Self::default() }
    }

    fn place(&mut self, place: &Place) {
        let Some(all) = &mut self.by_app else { return };
        let Some(app) = app_of(&place.1) else { return };
        match all.get_mut(app) {
            Some(places) => drop(places.insert(place.clone())),
            None => drop(all.insert(Arc::from(app), BTreeSet::from([place.clone()]))),
        }
    }

    fn displace(&mut self, place: &Place) {
        let Some(all) = &mut self.by_app else { return };
        let Some(app) = app_of(&place.1) else { return };
        if let Some(places) = all.get_mut(app) {
            places.remove(place);
            if places.is_empty() {
                all.remove(app);
            }
        }
    }

    /// The first object of a share behind a place; none where that is not known, and none inside where there is no more.
    fn next_of(&self, share: &Share, behind: &Place) -> Option<Option<&Place>> {
        let (Share::Apps(apps), Some(all)) = (share, &self.by_app) else { return None };
        let places = apps.iter().filter_map(|app| all.get(app.as_str()));
        Some(places.filter_map(|places| places.range((Excluded(behind), Unbounded)).next()).min())
    }

    /// The newest generation.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Begins a generation; what is set from here on is of it.
    pub(super) fn advance(&mut self) -> u64 {
        self.generation += 1;
        self.generation
    }

    /// The number of objects that are there.
    pub(super) fn len(&self) -> usize {
        self.lines.len() - self.gone.len()
    }

    /// Puts an object. One that is the same already is left as it is.
    pub(super) fn put(&mut self, key: &str, line: Bytes) {
        if let Some((name, (generation, false))) = self.objects.get_key_value(key)
            && self.lines.get(&(*generation, Arc::clone(name))) == Some(&line)
        {
            return;
        }
        self.set(key, line, false);
    }

    /// Takes an object away; `line` says so. Nothing happens when there is none.
    pub(super) fn drop(&mut self, key: &str, line: Bytes) {
        if matches!(self.objects.get(key), Some((_, false))) {
            self.set(key, line, true);
        }
    }

    fn set(&mut self, key: &str, line: Bytes, gone: bool) {
        let name = match self.objects.remove_entry(key) {
            Some((name, (generation, was_gone))) => {
                let old = (generation, Arc::clone(&name));
                self.lines.remove(&old);
                self.displace(&old);
                if was_gone {
                    self.gone.remove(&old);
                }
                name
            }
            None => Arc::from(key),
        };
        let place = (self.generation, Arc::clone(&name));
        self.objects.insert(name, (self.generation, gone));
        if gone {
            self.gone.insert(place.clone());
        }
        self.place(&place);
        self.lines.insert(place, line);
        while self.gone.len() > GONE_MAX
            && let Some(oldest) = self.gone.pop_first()
        {
            self.lines.remove(&oldest);
            self.displace(&oldest);
            self.objects.remove(&oldest.1);
            self.forgotten = self.forgotten.max(oldest.0);
        }
    }

    /// Whether a reader that has all of a generation can go on from there.
    pub(super) fn can_resume(&self, generation: u64) -> bool {
        generation >= self.forgotten && generation <= self.generation
    }

    /// Marks up to this generation may have been forgotten.
    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    #[cfg(test)]
    fn spend(&self, bytes: usize) {
        let Spent { bytes: before, looks } = self.spent.get();
        self.spent.set(Spent { bytes: before + bytes as u64, looks: looks + 1 });
    }

    /// What readers have cost so far.
    #[cfg(test)]
    pub(super) fn spent(&self) -> Spent {
        self.spent.get()
    }

    /// The next lines behind a cursor, which moves behind them; about `bytes` of them, without those that are not of the share.
    pub(super) fn after(&self, cursor: &mut Cursor, bytes: usize, share: &Share) -> Piece {
        let from = match &cursor.key {
            Some(key) => (cursor.generation, Arc::clone(key)),
            // No key is behind this one: keys are plain ASCII.
            None => (cursor.generation, Arc::from("\u{10ffff}")),
        };
        // Of a share of very many apps looking up takes longer than passing over.
        let run = RUN.max(share.len());
        let (mut piece, mut size, mut passed) = (Piece::default(), 0, 0);
        let mut lines = self.lines.range((Excluded(from), Unbounded));
        while let Some((place, line)) = lines.next() {
            if size >= bytes {
                return piece;
            }
            #[cfg(test)]
            self.spend(if share.has(&place.1) { line.len() } else { 0 });
            if share.has(&place.1) {
                size += line.len();
                piece.lines.push(line.clone());
                passed = 0;
            } else {
                size += PASSED_OVER;
                passed += 1;
            }
            *cursor = Cursor { generation: place.0, key: Some(Arc::clone(&place.1)) };
            if passed >= run
                && let Some(next) = self.next_of(share, place)
            {
                let Some(next) = next else { break };
                lines = self.lines.range((Included(next.clone()), Unbounded));
                passed = 0;
            }
        }
        *cursor = Cursor::behind(self.generation);
        piece.whole = Some(self.generation);
        piece
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(key: usize, value: u64) -> Bytes {
        Bytes::from(format!("put {key} {value}\n"))
    }

    fn gone(key: usize) -> Bytes {
        Bytes::from(format!("drop {key}\n"))
    }

    /// What a reader holds after these lines.
    fn read(held: &mut BTreeMap<usize, u64>, lines: &[Bytes]) {
        for line in lines {
            let text = std::str::from_utf8(line).unwrap();
            let words: Vec<&str> = text.split_whitespace().collect();
            let key = words[1].parse().unwrap();
            match words[0] {
                "put" => drop(held.insert(key, words[2].parse().unwrap())),
                _ => drop(held.remove(&key)),
            }
        }
    }

    proptest! {
        /// A reader that comes late, reads in pieces and is cut off again and again ends with what is published.
        #[test]
        fn readers_end_with_what_is_published(steps in proptest::collection::vec((0..12usize, 0..4u64, 0..4u8), 1..120)) {
            let mut ledger = Ledger::default();
            let (mut truth, mut held) = (BTreeMap::new(), BTreeMap::new());
            let (mut cursor, mut has) = (Cursor::default(), 0);
            for (key, value, what) in steps {
                ledger.advance();
                if value == 0 {
                    truth.remove(&key);
                    ledger.drop(&key.to_string(), gone(key));
                } else {
                    truth.insert(key, value);
                    ledger.put(&key.to_string(), line(key, value));
                }
                match what {
                    0 => cursor = Cursor::behind(has),
                    1 | 2 => {
                        let piece = ledger.after(&mut cursor, 20, &Share::All);
                        read(&mut held, &piece.lines);
                        has = piece.whole.unwrap_or(has);
                        if piece.whole.is_some() {
                            prop_assert_eq!(&held, &truth);
                        }
                    }
                    _ => {}
                }
                prop_assert_eq!(ledger.len(), truth.len());
            }
            prop_assert!(ledger.can_resume(has));
            loop {
                let piece = ledger.after(&mut cursor, 20, &Share::All);
                read(&mut held, &piece.lines);
                if piece.whole.is_some() {
                    break;
                }
            }
            prop_assert_eq!(held, truth);
        }
    }

    #[test]
    fn marks_are_bounded_and_who_is_older_begins_anew() {
        let mut ledger = Ledger::default();
        for key in 0..GONE_MAX + 3 {
            ledger.advance();
            ledger.put(&key.to_string(), line(key, 1));
        }
        let has = ledger.generation();
        for key in 0..GONE_MAX + 3 {
            ledger.advance();
            ledger.drop(&key.to_string(), gone(key));
        }
        assert_eq!((ledger.len(), ledger.forgotten()), (0, has + 3));
        assert!(!ledger.can_resume(has) && ledger.can_resume(has + 3));
        assert!(!ledger.can_resume(ledger.generation() + 1), "a reader from the future has another past");
    }

    #[test]
    fn who_has_a_share_reads_that_alone_and_comes_to_the_end_all_the_same() {
        let mut ledger = Ledger::default();
        ledger.advance();
        for number in 0..100 {
            ledger.put(&format!("endpoint/a/web/{number}"), line(number, 1));
        }
        ledger.put("app/b", line(200, 1));
        ledger.put("host/b/b.example", line(201, 1));
        ledger.advance();
        ledger.drop("host/b/b.example", gone(201));
        ledger.drop("endpoint/a/web/7", gone(7));
        let share = Share::Apps(Arc::new([ekiden_config::names::AppName::new("b").unwrap()].into()));
        let (mut cursor, mut lines, mut pieces) = (Cursor::behind(0), Vec::new(), 0);
        let whole = loop {
            let piece = ledger.after(&mut cursor, 1_000, &share);
            lines.extend(piece.lines);
            pieces += 1;
            if let Some(whole) = piece.whole {
                break whole;
            }
        };
        assert_eq!((lines, whole), (vec![line(200, 1), gone(201)], 2));
        assert!(pieces > 3, "it holds the lock for as long as it takes");
    }

    proptest! {
        /// Looking the next object of a share up finds the same as passing all others over.
        #[test]
        fn a_share_is_looked_up_as_it_is_read(
            steps in proptest::collection::vec((0..3usize, 0..2_000usize, 0..5u8, 1..900usize), 1..40),
        ) {
            let (mut plain, mut looked) = (Ledger::default(), Ledger::by_app());
            let share = Share::Apps(Arc::new(["a", "b"].map(|app| ekiden_config::names::AppName::new(app).unwrap()).into()));
            for (app, first, what, many) in steps {
                for ledger in [&mut plain, &mut looked] {
                    ledger.advance();
                    for number in first..first + if app == 2 { many } else { many / 300 } {
                        let key = format!("endpoint/{}/web/{number}", ["a", "b", "c"][app]);
                        match what {
                            0 => ledger.drop(&key, gone(number)),
                            value => ledger.put(&key, line(number, value.into())),
                        }
                    }
                }
            }
            let read = |ledger: &Ledger| {
                let (mut cursor, mut lines, mut pieces) = (Cursor::behind(0), Vec::new(), 0);
                loop {
                    let piece = ledger.after(&mut cursor, 20_000, &share);
                    lines.extend(piece.lines);
                    pieces += 1;
                    if piece.whole.is_some() {
                        return (lines, cursor, pieces);
                    }
                }
            };
            let (passed, found) = (read(&plain), read(&looked));
            prop_assert_eq!((&found.0, &found.1), (&passed.0, &passed.1));
            prop_assert!(found.2 <= passed.2);
        }
    }

    #[test]
    fn who_has_a_small_share_of_very_much_finds_it_at_once() {
        let mut ledger = Ledger::by_app();
        ledger.advance();
        ledger.put("app/b", line(1, 1));
        for number in 0..50_000 {
            ledger.put(&format!("endpoint/a/web/{number}"), line(number, 1));
        }
        ledger.advance();
        ledger.put("host/b/b.example", line(2, 1));
        let share = Share::Apps(Arc::new([ekiden_config::names::AppName::new("b").unwrap()].into()));
        let piece = ledger.after(&mut Cursor::behind(0), 64 << 10, &share);
        assert_eq!((piece.lines, piece.whole), (vec![line(1, 1), line(2, 1)], Some(2)), "in one piece");
    }

    #[test]
    fn what_is_the_same_is_not_sent_again() {
        let mut ledger = Ledger::default();
        ledger.advance();
        ledger.put("1", line(1, 7));
        let has = ledger.advance();
        ledger.put("1", line(1, 7));
        ledger.drop("2", gone(2));
        let piece = ledger.after(&mut Cursor::behind(has - 1), 1000, &Share::All);
        assert!(piece.lines.is_empty());
        assert_eq!(piece.whole, Some(has));
    }
}
