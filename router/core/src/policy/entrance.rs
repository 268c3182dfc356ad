//! What a request must show before a route serves it, compiled: the steps in their order, and what is counted of them. Does
//! not verify credentials (the router does, since that takes keys and time).

use std::sync::Arc;

use ekiden_config::model::Entrance;

use super::cors::CorsSteps;
use crate::stats::Counter;

/// The steps of a route.
#[derive(Debug)]
pub struct EntranceSteps {
    /// As validated.
    pub words: Arc<Entrance>,
    /// Which origins may read.
    pub cors: Option<CorsSteps>,
}

impl EntranceSteps {
    /// Compiles the words.
    pub fn new(words: &Arc<Entrance>) -> Self {
        Self { cors: words.cors.as_deref().map(CorsSteps::new), words: Arc::clone(words) }
    }
}

/// A step that decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A preflight of CORS.
    Preflight,
}

impl Step {
    /// All, in the order of their places.
    pub const ALL: [Step; 1] = [Step::Preflight];

    /// Its word in metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Step::Preflight => "preflight",
        }
    }
}

/// What a step decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruling {
    /// The request goes on.
    Allowed,
    /// It is refused for what it is.
    Refused,
    /// It is refused, or goes on, because nobody could decide.
    Failed,
}

impl Ruling {
    /// All, in the order of their places.
    pub const ALL: [Ruling; 3] = [Ruling::Allowed, Ruling::Refused, Ruling::Failed];

    /// Its word in metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Ruling::Allowed => "allowed",
            Ruling::Refused => "refused",
            Ruling::Failed => "failed",
        }
    }
}

/// One worker's counts of what steps decided.
#[derive(Debug)]
pub struct Rulings([[Counter; Ruling::ALL.len()]; Step::ALL.len()]);

impl Rulings {
    /// All zero.
    pub(crate) const fn new() -> Self {
        Self([const { [const { Counter::new() }; Ruling::ALL.len()] }; Step::ALL.len()])
    }

    /// Counts one.
    pub fn count(&self, step: Step, ruling: Ruling) {
        if let Some(counter) = self.of(step, ruling) {
            counter.add(1);
        }
    }

    /// The counter of a step and what it decided.
    pub fn of(&self, step: Step, ruling: Ruling) -> Option<&Counter> {
        self.0.get(step as usize)?.get(ruling as usize)
    }
}
