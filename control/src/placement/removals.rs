//! Judges what a source takes away: what is too much at once stays for a while, until a person confirms it.
//!
//! Pure; time is an argument. Too much at once is more than a share of what is in force, and at least two. One after the other is no way
//! around it: of all that was there within a minute no more than the share may go, once it is three or more; what was added counts
//! as there, so that a rolling replacement passes. Whoever was said to be leaving before does not count: that is how things go away.

use std::collections::BTreeSet;

/// Removals within so long count together.
const WINDOW_MS: u64 = 60_000;
/// Fewer at once are never too many: one that is replaced, or one of two.
const SUDDEN_MIN: usize = 2;
/// Fewer within a minute are never too many: one of two that moves, and moves back.
const GRADUAL_MIN: usize = 3;

/// What is too much, and how long it stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rules {
    /// Percent of what is in force that may go at once.
    pub(crate) share: u64,
    /// How long the rest is kept, in milliseconds.
    pub(crate) hold_ms: u64,
}

/// Removals that wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held<K> {
    /// What the source took away and is kept.
    pub(crate) gone: BTreeSet<K>,
    /// Since when, and until when.
    pub(crate) since_ms: u64,
    /// See [`Held::since_ms`].
    pub(crate) until_ms: u64,
}

/// What one source has taken away of one set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Removals<K> {
    window_from_ms: u64,
    /// Most that was in force since then, those that went included.
    base: usize,
    lost: usize,
    held: Option<Held<K>>,
}

impl<K> Default for Removals<K> {
    fn default() -> Self {
        Self { window_from_ms: 0, base: 0, lost: 0, held: None }
    }
}

impl<K: Ord + Clone> Removals<K> {
    /// As it was when somebody else judged: these wait, of so many that are in force with them, since the first and until the second
    /// of these times.
    pub(crate) fn holding(gone: BTreeSet<K>, in_force: usize, (since_ms, until_ms): (u64, u64)) -> Self {
        Self {
            window_from_ms: since_ms,
            base: in_force,
            lost: 0,
            held: Some(Held { gone, since_ms, until_ms }),
        }
    }

    /// What waits.
    pub(crate) fn held(&self) -> Option<&Held<K>> {
        self.held.as_ref()
    }

    /// Whether `gone`, which is all that is in force and no longer named, may leave now. `in_force` counts what is there before, and
    /// `added` what comes with the same word.
    pub(crate) fn judge(
        &mut self,
        rules: Rules,
        (in_force, added): (usize, usize),
        gone: &BTreeSet<K>,
        now_ms: u64,
    ) -> bool {
        if gone.is_empty() {
            self.held = None;
            return true;
        }
        if now_ms.saturating_sub(self.window_from_ms) >= WINDOW_MS && self.held.is_none() {
            (self.window_from_ms, self.base, self.lost) = (now_ms, in_force, 0);
        }
        self.base = self.base.max(in_force + self.lost + added);
        let is_more = |count: usize, of: usize| count as u64 * 100 > rules.share * of as u64;
        let count = self.lost + gone.len();
        let sudden = (gone.len() >= SUDDEN_MIN && is_more(gone.len(), in_force))
            || (count >= GRADUAL_MIN && is_more(count, self.base));
        let over = self.held.as_ref().is_some_and(|held| now_ms >= held.until_ms);
        if !sudden || over {
            self.let_go(in_force, gone.len(), now_ms, over);
            return true;
        }
        match &mut self.held {
            Some(held) => held.gone.clone_from(gone),
            None => {
                let until_ms = now_ms.saturating_add(rules.hold_ms);
                self.held = Some(Held { gone: gone.clone(), since_ms: now_ms, until_ms });
            }
        }
        false
    }

    /// Only these wait: there is no room for others.
    pub(crate) fn narrow(&mut self, kept: &BTreeSet<K>) {
        if let Some(held) = &mut self.held {
            held.gone.clone_from(kept);
        }
    }

    /// A person says that it is meant so: what waits may go. Answers with it.
    pub(crate) fn confirm(&mut self, in_force: usize, now_ms: u64) -> Option<BTreeSet<K>> {
        let gone = self.held.take()?.gone;
        self.let_go(in_force, gone.len(), now_ms, true);
        Some(gone)
    }

    fn let_go(&mut self, in_force: usize, gone: usize, now_ms: u64, anew: bool) {
        self.held = None;
        if anew {
            // What is left is what counts from here on.
            (self.window_from_ms, self.base, self.lost) = (now_ms, in_force.saturating_sub(gone), 0);
        } else {
            self.lost += gone;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULES: Rules = Rules { share: 50, hold_ms: 300_000 };

    fn set(range: std::ops::Range<u32>) -> BTreeSet<u32> {
        range.collect()
    }

    #[test]
    fn more_than_the_share_waits_until_it_is_confirmed_named_again_or_its_time_is_over() {
        let rows: [(usize, usize, bool); 7] = [
            (10, 5, true),
            (10, 6, false),
            (3, 2, false),
            (2, 1, true),
            (1, 1, true),
            (2, 2, false),
            (100, 50, true),
        ];
        for (in_force, gone, goes) in rows {
            let mut removals = Removals::default();
            assert_eq!(
                removals.judge(RULES, (in_force, 0), &set(0..gone as u32), 70_000),
                goes,
                "{gone} of {in_force}"
            );
        }
        let mut removals = Removals::default();
        assert!(!removals.judge(RULES, (10, 0), &set(0..6), 70_000));
        assert!(!removals.judge(RULES, (10, 0), &set(0..8), 80_000), "more of it waits too");
        assert_eq!(removals.held().unwrap().until_ms, 370_000, "its time begins once");
        assert!(removals.judge(RULES, (10, 0), &set(0..2), 90_000), "little of it is named no more: it goes");
        assert!(!removals.judge(RULES, (8, 0), &set(0..8), 91_000));
        assert!(removals.judge(RULES, (8, 0), &BTreeSet::new(), 92_000) && removals.held().is_none());
        assert!(!removals.judge(RULES, (8, 0), &set(0..8), 93_000));
        assert!(!removals.judge(RULES, (8, 0), &set(0..8), 392_999));
        assert!(removals.judge(RULES, (8, 0), &set(0..8), 393_000), "its time is over");
        assert!(!removals.judge(RULES, (4, 0), &set(0..4), 500_000));
        assert_eq!(removals.confirm(4, 500_001), Some(set(0..4)));
        assert_eq!(removals.confirm(4, 500_002), None);
    }

    #[test]
    fn one_after_the_other_is_no_way_around_it() {
        let mut removals = Removals::default();
        for at in 0..5 {
            assert!(removals.judge(RULES, (10 - at, 0), &set(0..1), 70_000 + at as u64), "{at}");
        }
        assert!(!removals.judge(RULES, (5, 0), &set(0..1), 70_010), "the sixth of ten within a minute");
        // Each with another one in its place: all of them.
        let mut rolling = Removals::default();
        for at in 0..10 {
            assert!(rolling.judge(RULES, (10, 1), &set(0..1), 70_000 + at), "{at}");
        }
        assert!(
            !Removals::default().judge(RULES, (10, 10), &set(0..10), 70_000),
            "all at once are too many all the same"
        );
        // One that moves, and moves back.
        let mut moving = Removals::default();
        assert!(
            moving.judge(RULES, (2, 0), &set(0..1), 70_000)
                && moving.judge(RULES, (1, 1), &set(1..2), 70_001)
        );
        let mut slow = Removals::default();
        for at in 0..9 {
            assert!(slow.judge(RULES, (10 - at, 0), &set(0..1), 70_000 * (at as u64 + 1)), "{at}");
        }
    }

    proptest! {
        /// Whatever a source says in a minute without being confirmed: never more than the share of what was there goes.
        #[test]
        fn within_a_minute_no_more_than_the_share_goes(sizes in prop::collection::vec(1_u32..40, 1..30)) {
            let mut removals = Removals::default();
            let mut in_force = set(0..40);
            for (at, size) in sizes.iter().enumerate() {
                let gone: BTreeSet<u32> = in_force.iter().copied().take(*size as usize).collect();
                if removals.judge(RULES, (in_force.len(), 0), &gone, 100_000 + at as u64) {
                    in_force.retain(|one| !gone.contains(one));
                } else {
                    prop_assert_eq!(&removals.held().unwrap().gone, &gone);
                }
                prop_assert!(in_force.len() >= 20);
            }
        }
    }
}
