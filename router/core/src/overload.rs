//! What decides when there is more work than can be done: the line for slots, the levels of pressure, the caps of apps.
//!
//! Pure but for the lock of a line, which is taken only while requests wait. Does not answer, measure or wait.

pub mod caps;
pub mod hold;
pub mod lag;
pub mod level;
pub mod line;
pub mod slots;

use ekiden_config::model::Priority;

use crate::stats::Counter;

/// Why a request is refused though nothing is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Shed {
    /// It had waited too long in a queue that does not empty.
    QueueTime,
    /// It made room in a full queue for one that is more important, or newer.
    Displaced,
    /// The process is near its ceiling of memory.
    Memory,
    /// The process is near its ceiling of open files.
    Descriptors,
    /// The worker is behind.
    Lag,
}

impl Shed {
    /// Every reason; the place of each is its number.
    pub const ALL: [Shed; 5] = [Shed::QueueTime, Shed::Displaced, Shed::Memory, Shed::Descriptors, Shed::Lag];

    /// The word in logs and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Shed::QueueTime => "queue_time",
            Shed::Displaced => "displaced",
            Shed::Memory => "memory",
            Shed::Descriptors => "descriptors",
            Shed::Lag => "lag",
        }
    }
}

/// One worker's counts of requests that were shed, by priority and reason.
#[derive(Debug, Default)]
pub struct ShedCounts([[Counter; Shed::ALL.len()]; Priority::ALL.len()]);

impl ShedCounts {
    /// All zero.
    pub const fn new() -> Self {
        Self([const { [const { Counter::new() }; Shed::ALL.len()] }; Priority::ALL.len()])
    }

    /// The count of one pair. One writer: the worker.
    pub fn of(&self, priority: Priority, why: Shed) -> Option<&Counter> {
        self.0.get(priority as usize)?.get(why as usize)
    }
}
