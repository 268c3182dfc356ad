//! What a request must show before a route serves it, compiled: the steps in their order, and what is counted of them. Does
//! not verify credentials (the router does, since that takes keys and time).

use std::sync::Arc;

use ekiden_config::model::Entrance;

use super::cors::CorsSteps;
use crate::stats::Counter;
use crate::table::RouteEntry;

/// The steps of a route.
#[derive(Debug)]
pub struct EntranceSteps {
    /// As validated.
    pub words: Arc<Entrance>,
    /// Which origins may read.
    pub cors: Option<CorsSteps>,
    /// The question to the authorizer, as a route of its own.
    pub question: Option<Arc<RouteEntry>>,
    /// Names of request fields that the steps may set, in lower case, with `-` for `_`.
    sets: Vec<Box<str>>,
}

impl EntranceSteps {
    /// Compiles the words.
    pub fn new(words: &Arc<Entrance>, question: Option<Arc<RouteEntry>>) -> Self {
        let sets = words.set_fields().map(|name| name.to_ascii_lowercase().replace('_', "-").into());
        Self {
            cors: words.cors.as_deref().map(CorsSteps::new),
            question,
            sets: sets.collect(),
            words: Arc::clone(words),
        }
    }

    /// Whether a field of this name, with `-` or `_` in any case of letters, is one that the steps may set: a client's own must
    /// not pass, in the head or behind the body.
    pub fn sets(&self, name: &[u8]) -> bool {
        let plain = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
        let is = |own: &str| own.len() == name.len() && own.bytes().eq(name.iter().map(|byte| plain(*byte)));
        self.sets.iter().any(|own| is(own))
    }

    /// Whether there are any such fields.
    pub fn sets_any(&self) -> bool {
        !self.sets.is_empty()
    }
}

/// A step that decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A preflight of CORS.
    Preflight,
    /// The key of a program.
    ApiKey,
    /// A name and a password.
    Password,
    /// A signed token.
    Token,
    /// The answer of a service.
    Authorizer,
}

impl Step {
    /// All, in the order of their places.
    pub const ALL: [Step; 5] = [Step::Preflight, Step::ApiKey, Step::Password, Step::Token, Step::Authorizer];

    /// Its word in metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Step::Preflight => "preflight",
            Step::ApiKey => "api_key",
            Step::Password => "password",
            Step::Token => "token",
            Step::Authorizer => "authorizer",
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
