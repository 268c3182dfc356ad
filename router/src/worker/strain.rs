//! What a worker refuses for want of resources: the highest of the process's levels and of its own delay, kept in one cell.
//!
//! Looked at once a tick, so that a request asks one number of its own worker. Without configured ceilings that number stays 0.

use std::cell::{Cell, RefCell};

use ekiden_config::model::{OverloadPolicy, Priority};
use ekiden_core::overload::Shed;
use ekiden_core::overload::lag::Lag;
use ekiden_core::overload::level::Level;

use crate::clock::Moment;
use crate::shared::Shared;
use crate::wheel::TICK;

/// The strain of one worker.
#[derive(Debug)]
pub struct WorkerStrain {
    level: Cell<Level>,
    why: Cell<Shed>,
    is_watched: bool,
    lag_limit_us: Option<u64>,
    lag: RefCell<Lag>,
    last: Cell<Option<Moment>>,
}

impl WorkerStrain {
    /// None yet, under these ceilings.
    pub fn new(policy: OverloadPolicy) -> Self {
        Self {
            level: Cell::new(Level::NONE),
            why: Cell::new(Shed::Memory),
            is_watched: policy != OverloadPolicy::default(),
            lag_limit_us: policy.lag.map(|lag| u64::try_from(lag.as_micros()).unwrap_or(u64::MAX)),
            lag: RefCell::default(),
            last: Cell::new(None),
        }
    }

    /// Why a request of this priority is refused, if it is.
    #[inline]
    pub fn sheds(&self, priority: Priority) -> Option<Shed> {
        self.level.get().sheds(priority).then(|| self.why.get())
    }

    /// Looks at the process, and at how late this tick came. Called once a tick; gives the level of the delay.
    pub fn tick(&self, shared: &Shared, now: Moment) -> Level {
        if !self.is_watched {
            return Level::NONE;
        }
        let lag = match (self.lag_limit_us, self.last.replace(Some(now))) {
            (Some(limit_us), Some(last)) => {
                let delay_us = now.us_since(last).saturating_sub(TICK.as_micros() as u64);
                self.lag.borrow_mut().tick(now.us(), delay_us, limit_us)
            }
            (Some(_), None) | (None, _) => Level::NONE,
        };
        let ceilings = &shared.ceilings;
        let levels = [
            (lag, Shed::Lag),
            (ceilings.descriptors.level(), Shed::Descriptors),
            (ceilings.memory.level(), Shed::Memory),
        ];
        if let Some((level, why)) = levels.into_iter().max_by_key(|(level, _)| *level) {
            self.level.set(level);
            self.why.set(why);
        }
        lag
    }
}
