//! Whether an endpoint may get requests: one state machine per endpoint, fed by control's word, by checks, by what
//! requests met, and by time.
//!
//! ```text
//!            first check fails        a check passes
//! starting -----------------> failing <-------------+        gone, draining: control's word, stands above all
//!    | passes                    | checks pass      | checks fail
//!    v                           v                  |
//! [warming] --- time ---> ready --------------------+        failing: the checks' word, stands above ejected
//!                         |   ^
//!                evidence |   | time, at most RAMP
//!                         v   |
//!                      ejected ---- a trial passes, and the hold is over ----> warming
//! ```
//! Facts are kept apart (what control says, what checks say, an ejection, a ramp), and the state is a total function of
//! them: one history has one answer. Pure: time is an argument, in milliseconds since the Unix epoch, and never goes
//! back; an earlier one counts as none passed. Does not check, eject or count requests.
//!
//! Of a million endpoints most have the first state that they were given and go by the standard policy, so that one is a few bytes,
//! and everything else is the [`Story`] of those to which something has happened.

mod story;
mod words;

pub use words::{Change, Event, State};

use std::time::Duration;

use ekiden_config::model::{EjectionPolicy, ReadinessPolicy};

use crate::health::{self, Health};
use story::Story;

/// Time in which an endpoint that was ejected comes back to its full share, in milliseconds.
pub const RAMP_MS: u64 = 1_000;
/// Least share of a warming endpoint, in percent: without requests nothing is learned of it.
const RAMP_FLOOR_PERCENT: u64 = 10;
/// An endpoint that has served this long after its return, and as long as it was last held, is trusted anew; milliseconds.
const FORGET_MS: u64 = 10_000;
/// Time between two checks of an ejected endpoint, in milliseconds.
pub const TRIAL_EVERY_MS: u64 = 250;
/// An ejection lasts this long before a check is believed that saw nothing wrong, in milliseconds: the check that is made at
/// once is for what it may find, the next one counts.
const SHORTEST_MS: u64 = 200;
/// Checks that pass are not believed for this long after a request failed there, in milliseconds: the request knows better.
const DISTRUST_MS: u64 = 2_000;
/// Requests of clients that have to go well in a row before an ejected endpoint is let in by them; one more for each time
/// that it failed again after its return, up to so many.
const TRIAL_REQUESTS: u32 = 3;
const TRIAL_REQUESTS_MAX: u32 = 10;
/// Most doublings of the shortest ejection.
const LEVEL_MAX: u8 = 20;
/// A full share of [`Readiness::ramp`].
pub const FULL_SHARE: u32 = u32::MAX;

/// The readiness of one endpoint. Owned by its cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// There once something has happened, or where the policy is not the standard one.
    more: Option<Box<More>>,
    /// Since when it is as it was made; until then its health is `first`, and its reason that of an endpoint nobody has checked.
    since: u64,
    first: Health,
    /// Removed before anything else happened to it.
    is_gone: bool,
}

/// What most endpoints do without.
#[derive(Debug, Clone, PartialEq, Eq)]
struct More {
    policy: Terms,
    /// There once something has happened.
    story: Option<Box<Story>>,
}

/// What a policy says, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Terms {
    base: u32,
    max: u32,
    slow_start: u32,
}

impl Terms {
    /// What holds unless another policy was set.
    fn standard() -> Self {
        Self::of(&ReadinessPolicy::default())
    }

    fn of(policy: &ReadinessPolicy) -> Self {
        let ms = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        let (base, max) = policy.ejection.as_ref().map_or_else(
            || {
                let standard = EjectionPolicy::default();
                (standard.base, standard.max)
            },
            |ejection| (ejection.base, ejection.max),
        );
        Self { base: ms(base), max: ms(max), slow_start: ms(policy.slow_start) }
    }
}

impl Readiness {
    /// An endpoint with this health.
    pub fn new(health: Health, reason: &str, now: u64) -> Self {
        let mut this = Self { more: None, since: now, first: health, is_gone: false };
        if reason != health::unchecked(health) {
            let policy = Terms::standard();
            let story = Some(Box::new(Story::new((health, reason, now), policy)));
            this.more = Some(Box::new(More { policy, story }));
        }
        this
    }

    fn story(&self) -> Option<&Story> {
        self.more.as_ref()?.story.as_deref()
    }

    fn policy(&self) -> Terms {
        self.more.as_ref().map_or_else(Terms::standard, |more| more.policy)
    }

    /// Goes by another policy from now on. What is under way ends as it began.
    pub fn set_policy(&mut self, policy: &ReadinessPolicy) {
        let policy = Terms::of(policy);
        if let Some(story) = self.more.as_mut().and_then(|more| more.story.as_mut()) {
            story.set_policy(policy);
        } else if policy == Terms::standard() {
            self.more = None;
            return;
        }
        match &mut self.more {
            Some(more) => more.policy = policy,
            None => self.more = Some(Box::new(More { policy, story: None })),
        }
    }

    /// Takes an event and returns the change of state, if any.
    pub fn on(&mut self, event: Event<'_>, now: u64) -> Option<Change> {
        if self.story().is_none() {
            if !self.is_news(event) {
                return None;
            }
            if event == Event::Gone && now <= self.since {
                let from = self.state();
                self.is_gone = true;
                return Some(Change { from, to: State::Gone, reason: self.reason() });
            }
        }
        let (made, policy, is_gone) =
            ((self.first, health::unchecked(self.first), self.since), self.policy(), self.is_gone);
        let more = self.more.get_or_insert_with(|| Box::new(More { policy, story: None }));
        let story = more.story.get_or_insert_with(|| {
            let mut story = Box::new(Story::new(made, policy));
            if is_gone {
                story.on(Event::Gone, made.2);
            }
            story
        });
        story.on(event, now)
    }

    /// Whether an event changes anything of an endpoint to which nothing has happened.
    fn is_news(&self, event: Event<'_>) -> bool {
        match event {
            Event::Gone => !self.is_gone,
            Event::Drain(on) => on,
            Event::Joined => self.policy().slow_start > 0,
            Event::Checked(health, _) => health != self.first,
            Event::Eject(_) => self.state() == State::Ready,
            Event::Trial(_) | Event::Tried(_) | Event::Lift(_) | Event::Time => false,
        }
    }

    /// Requests in a row that have to go well before [`Event::Tried`] may say that they did: 3 to 10.
    pub fn trial_requests(&self) -> u32 {
        self.story().map_or(TRIAL_REQUESTS, |story| story.trial_requests())
    }

    /// The state: control's word before the checks', the checks' before evidence.
    pub fn state(&self) -> State {
        match (self.story(), self.is_gone, self.first) {
            (Some(story), _, _) => story.state(),
            (None, true, _) => State::Gone,
            (None, false, Health::Starting) => State::Starting,
            (None, false, Health::Failing) => State::Failing,
            (None, false, Health::Ready) => State::Ready,
        }
    }

    /// Why it is in its state.
    pub fn reason(&self) -> String {
        match self.story() {
            Some(story) => story.reason(),
            None if self.is_gone => story::REMOVED.to_owned(),
            None => health::unchecked(self.first).to_owned(),
        }
    }

    /// Since when it is in its state.
    pub fn since(&self) -> u64 {
        self.story().map_or(self.since, |story| story.since())
    }

    /// How often what the checks say has changed.
    pub fn transitions(&self) -> u32 {
        self.story().map_or(0, |story| story.transitions())
    }

    /// What the checks say.
    pub fn health(&self) -> Health {
        self.story().map_or(self.first, |story| story.health())
    }

    /// Why the checks say so, and since when.
    pub fn health_story(&self) -> (&str, u64) {
        match self.story() {
            Some(story) => story.health_story(),
            None => (health::unchecked(self.first), self.since),
        }
    }

    /// Whether it was removed.
    pub fn is_gone(&self) -> bool {
        self.story().map_or(self.is_gone, |story| story.is_gone())
    }

    /// Whether it is marked as draining.
    pub fn is_draining(&self) -> bool {
        self.story().is_some_and(|story| story.is_draining())
    }

    /// Whether it is set aside by evidence, whatever else is true of it.
    pub fn is_ejected(&self) -> bool {
        self.story().is_some_and(|story| story.is_ejected())
    }

    /// Whether it has less than its share for a while, whatever else is true of it.
    pub fn is_warming(&self) -> bool {
        self.story().is_some_and(|story| story.is_warming())
    }

    /// Whether requests that cannot be sent twice had better go elsewhere: it just comes back from an ejection.
    pub fn is_on_trial(&self) -> bool {
        self.story().is_some_and(|story| story.is_on_trial())
    }

    /// The part of its share that it gets, of [`FULL_SHARE`].
    pub fn ramp(&self) -> u32 {
        self.story().map_or(FULL_SHARE, |story| story.ramp())
    }

    /// How long it has been ejected at least, in milliseconds, before a check is believed that saw nothing wrong.
    pub fn hold_ms(&self) -> Option<u64> {
        self.story().and_then(|story| story.hold_ms())
    }
}

// One is in the cell of each endpoint.
const _: () = assert!(size_of::<Readiness>() <= 24);

#[cfg(test)]
mod tests;
