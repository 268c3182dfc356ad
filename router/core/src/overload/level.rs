//! How near something is to its ceiling, as a level that says which priorities are refused.
//!
//! A level is entered at its threshold and left 2 % below it, so that a value which trembles does not make it flap. Pure.

use ekiden_config::model::Priority;

/// Permille of the ceiling at which each level begins: `low`, `normal`, `high`, all.
const BEGINS: [u64; 4] = [800, 900, 950, 1_000];
/// Permille below its beginning at which a level ends.
const SLACK: u64 = 20;

/// How many priorities are refused: 0 means none, 4 means all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Level(u8);

impl Level {
    /// Nothing is refused.
    pub const NONE: Level = Level(0);
    /// Everything is refused.
    pub const ALL: Level = Level(4);

    /// The level of this number; a number beyond the last is the last.
    pub const fn new(number: u8) -> Self {
        if number > 4 { Self::ALL } else { Self(number) }
    }

    /// Its number.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Whether requests of this priority are refused.
    #[inline]
    pub fn sheds(self, priority: Priority) -> bool {
        (priority as u8) < self.0
    }

    /// The next level, given what is used of what there is and the level before. A ceiling of 0 has no level.
    pub fn next(self, used: u64, ceiling: u64) -> Self {
        if ceiling == 0 {
            return Self::NONE;
        }
        let permille = u64::try_from(u128::from(used) * 1_000 / u128::from(ceiling)).unwrap_or(u64::MAX);
        let mut number = 0;
        for (index, begins) in (0u8..).zip(BEGINS) {
            let from = if index < self.0 { begins - SLACK } else { begins };
            if permille >= from {
                number = index + 1;
            }
        }
        Self(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_begin_and_end() {
        for (before, used, after) in [
            (0, 0, 0),
            (0, 799, 0),
            (0, 800, 1),
            (0, 899, 1),
            (0, 900, 2),
            (0, 950, 3),
            (0, 999, 3),
            (0, 1_000, 4),
            (0, u64::MAX, 4),
            (1, 780, 1),
            (1, 779, 0),
            (2, 880, 2),
            (2, 879, 1),
            (4, 980, 4),
            (4, 979, 3),
            (4, 930, 3),
            (4, 929, 2),
            (4, 100, 0),
        ] {
            assert_eq!(Level::new(before).next(used, 1_000), Level::new(after), "{before} {used}");
        }
        assert_eq!(Level::ALL.next(5, 0), Level::NONE);
    }

    #[test]
    fn the_least_important_are_refused_first() {
        for (number, refused) in [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (9, 4)] {
            let level = Level::new(number);
            for (index, priority) in Priority::ALL.into_iter().enumerate() {
                assert_eq!(level.sheds(priority), index < refused, "{number} {priority:?}");
            }
        }
    }
}
