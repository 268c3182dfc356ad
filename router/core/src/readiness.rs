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

mod words;

pub use words::{Change, Event, State};

use std::time::Duration;

use ekiden_config::model::ReadinessPolicy;

use crate::health::Health;

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

#[derive(Debug, Clone, PartialEq, Eq)]
struct Ejection {
    since: u64,
    reason: String,
    /// Shortest time, in milliseconds.
    hold_ms: u64,
    /// Why the last check that failed meanwhile did so. Such checks see what requests met, so their word is good.
    seen: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Ramp {
    since: u64,
    span_ms: u64,
    /// It comes back from an ejection: requests that cannot be sent twice go elsewhere.
    is_trial: bool,
    reason: String,
}

/// The readiness of one endpoint. Owned by its cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    base_ms: u64,
    max_ms: u64,
    slow_start_ms: u64,
    now: u64,
    health: Health,
    health_reason: String,
    health_since: u64,
    is_gone: bool,
    gone_since: u64,
    draining_since: Option<u64>,
    // Boxed, as most endpoints have none of them.
    ejection: Option<Box<Ejection>>,
    ramp: Option<Box<Ramp>>,
    /// How it became ready last, when that was not by its checks.
    returned: Option<Box<(String, u64)>>,
    /// Times in a row that it passed its checks and failed requests again after its return.
    level: u8,
    /// When its last ejection ended, and how long that had to last.
    last: (u64, u64),
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Readiness {
    /// An endpoint with this health.
    pub fn new(health: Health, reason: &str, now: u64) -> Self {
        let mut this = Self {
            base_ms: 0,
            max_ms: 0,
            slow_start_ms: 0,
            now,
            health,
            health_reason: reason.to_owned(),
            health_since: now,
            is_gone: false,
            gone_since: now,
            draining_since: None,
            ejection: None,
            ramp: None,
            returned: None,
            level: 0,
            last: (0, 0),
        };
        this.set_policy(&ReadinessPolicy::default());
        this
    }

    /// Goes by another policy from now on. What is under way ends as it began.
    pub fn set_policy(&mut self, policy: &ReadinessPolicy) {
        let ejection = policy.ejection.clone().unwrap_or_default();
        (self.base_ms, self.max_ms) = (ms(ejection.base), ms(ejection.max));
        self.slow_start_ms = ms(policy.slow_start);
    }

    /// Takes an event and returns the change of state, if any.
    pub fn on(&mut self, event: Event<'_>, now: u64) -> Option<Change> {
        let from = self.state();
        self.now = self.now.max(now);
        self.pass_time();
        match event {
            Event::Gone => {
                if !self.is_gone {
                    (self.is_gone, self.gone_since) = (true, self.now);
                }
            }
            Event::Drain(true) => self.draining_since = self.draining_since.or(Some(self.now)),
            Event::Drain(false) => {
                if self.draining_since.take().is_some() {
                    self.became_ready("its drain mark was taken away".to_owned());
                }
            }
            Event::Joined => self.begin_slowly("it is new in the cluster"),
            Event::Checked(health, reason) => self.checked(health, reason),
            Event::Eject(reason) => self.eject(reason),
            Event::Trial(answer) => self.trial(answer),
            Event::Tried(well) => self.tried(well),
            Event::Lift(reason) => {
                if self.ejection.take().is_some() {
                    self.became_ready(reason.to_owned());
                }
            }
            Event::Time => {}
        }
        let to = self.state();
        (from != to).then(|| Change { from, to, reason: self.reason() })
    }

    fn pass_time(&mut self) {
        if let Some(ramp) = self.ramp.take_if(|ramp| self.now - ramp.since >= ramp.span_ms) {
            self.became_ready(ramp.reason);
        }
    }

    fn became_ready(&mut self, reason: String) {
        self.returned = Some(Box::new((reason, self.now)));
    }

    fn begin_slowly(&mut self, reason: &str) {
        if self.slow_start_ms > 0 && self.ejection.is_none() {
            let (since, span_ms) = (self.now, self.slow_start_ms);
            self.ramp = Some(Box::new(Ramp { since, span_ms, is_trial: false, reason: reason.to_owned() }));
        }
    }

    fn checked(&mut self, health: Health, reason: &str) {
        if health == self.health {
            return;
        }
        self.health = health;
        reason.clone_into(&mut self.health_reason);
        self.health_since = self.now;
        self.returned = None;
        match health {
            Health::Ready => self.begin_slowly(reason),
            Health::Starting | Health::Failing => self.ramp = None,
        }
    }

    /// Only what may get requests is ejected; the rest is set aside already.
    fn eject(&mut self, reason: &str) {
        if !matches!(self.state(), State::Ready | State::Warming) {
            return;
        }
        let (ended, held_ms) = self.last;
        if self.now - ended.min(self.now) >= FORGET_MS.saturating_add(held_ms) {
            self.level = 0;
        }
        let hold_ms = match self.level {
            0 => SHORTEST_MS,
            level => {
                let doubled = self.base_ms.saturating_mul(1 << (level - 1).min(LEVEL_MAX));
                doubled.min(self.max_ms).max(SHORTEST_MS)
            }
        };
        self.ramp = None;
        let (since, reason) = (self.now, reason.to_owned());
        self.ejection = Some(Box::new(Ejection { since, reason, hold_ms, seen: None }));
    }

    /// A pass ends the ejection. One that no check of this ejection failed before proves little: requests failed while
    /// checks passed, so it must wait for the hold, and the next hold is longer.
    fn trial(&mut self, answer: Result<(), &str>) {
        let Some(ejection) = &mut self.ejection else { return };
        if let Err(why) = answer {
            ejection.seen = Some(why.to_owned());
            return;
        }
        let lasted_ms = self.now - ejection.since;
        if ejection.seen.is_none() && lasted_ms < ejection.hold_ms {
            return;
        }
        let level = if ejection.seen.is_some() { 0 } else { self.level + 1 };
        self.let_in(level, "a check");
    }

    /// Requests speak for themselves: what goes well ends the hold, which only stands in for it; what fails prolongs it.
    fn tried(&mut self, well: bool) {
        let Some(ejection) = &mut self.ejection else { return };
        if well {
            return self.let_in(self.level + 1, "requests");
        }
        let distrusted = (self.now - ejection.since).saturating_add(DISTRUST_MS).min(self.max_ms);
        ejection.hold_ms = ejection.hold_ms.max(distrusted);
    }

    fn let_in(&mut self, level: u8, by: &str) {
        let Some(ejection) = self.ejection.take() else { return };
        self.level = level.min(LEVEL_MAX);
        self.last = (self.now, ejection.hold_ms);
        let seconds = (self.now - ejection.since) as f64 / 1e3;
        let reason = format!("{by} passed after {seconds:.1} s of ejection");
        self.ramp = Some(Box::new(Ramp { since: self.now, span_ms: RAMP_MS, is_trial: true, reason }));
    }

    /// Requests in a row that have to go well before [`Event::Tried`] may say that they did: 3 to 10.
    pub fn trial_requests(&self) -> u32 {
        (TRIAL_REQUESTS + u32::from(self.level)).min(TRIAL_REQUESTS_MAX)
    }

    /// The state: control's word before the checks', the checks' before evidence.
    pub fn state(&self) -> State {
        if self.is_gone {
            return State::Gone;
        }
        if self.draining_since.is_some() {
            return State::Draining;
        }
        match (self.health, &self.ejection, &self.ramp) {
            (Health::Starting, _, _) => State::Starting,
            (Health::Failing, _, _) => State::Failing,
            (Health::Ready, Some(_), _) => State::Ejected,
            (Health::Ready, None, Some(_)) => State::Warming,
            (Health::Ready, None, None) => State::Ready,
        }
    }

    /// Why it is in its state.
    pub fn reason(&self) -> String {
        match self.state() {
            State::Gone => "removed from the configuration".to_owned(),
            State::Draining => {
                format!("marked as draining; its checks say {}: {}", self.health.word(), self.health_reason)
            }
            State::Starting | State::Failing => self.health_reason.clone(),
            State::Ejected => {
                self.ejection.as_ref().map_or_else(String::new, |ejection| match &ejection.seen {
                    Some(why) => format!("{}; the last check failed: {why}", ejection.reason),
                    None => ejection.reason.clone(),
                })
            }
            State::Warming => self.ramp.as_ref().map_or_else(String::new, |ramp| {
                format!("{}; {} % of its share", ramp.reason, share_percent(ramp, self.now))
            }),
            State::Ready => match &self.returned {
                Some(returned) => returned.0.clone(),
                None => self.health_reason.clone(),
            },
        }
    }

    /// Since when it is in its state.
    pub fn since(&self) -> u64 {
        match self.state() {
            State::Gone => self.gone_since,
            State::Draining => self.draining_since.unwrap_or(self.now),
            State::Starting | State::Failing => self.health_since,
            State::Ejected => self.ejection.as_ref().map_or(self.now, |ejection| ejection.since),
            State::Warming => self.ramp.as_ref().map_or(self.now, |ramp| ramp.since),
            State::Ready => self.returned.as_ref().map_or(self.health_since, |returned| returned.1),
        }
    }

    /// What the checks say.
    pub fn health(&self) -> Health {
        self.health
    }

    /// Why the checks say so, and since when.
    pub fn health_story(&self) -> (&str, u64) {
        (&self.health_reason, self.health_since)
    }

    /// Whether it was removed.
    pub fn is_gone(&self) -> bool {
        self.is_gone
    }

    /// Whether it is marked as draining.
    pub fn is_draining(&self) -> bool {
        self.draining_since.is_some()
    }

    /// Whether it is set aside by evidence, whatever else is true of it.
    pub fn is_ejected(&self) -> bool {
        self.ejection.is_some()
    }

    /// Whether it has less than its share for a while, whatever else is true of it.
    pub fn is_warming(&self) -> bool {
        self.ramp.is_some()
    }

    /// Whether requests that cannot be sent twice had better go elsewhere: it just comes back from an ejection.
    pub fn is_on_trial(&self) -> bool {
        self.ramp.as_ref().is_some_and(|ramp| ramp.is_trial)
    }

    /// The part of its share that it gets, of [`FULL_SHARE`].
    pub fn ramp(&self) -> u32 {
        self.ramp.as_ref().map_or(FULL_SHARE, |ramp| {
            let percent = share_percent(ramp, self.now);
            u32::try_from(u64::from(FULL_SHARE) / 100 * percent).unwrap_or(FULL_SHARE)
        })
    }

    /// How long it has been ejected at least, in milliseconds, before a check is believed that saw nothing wrong.
    pub fn hold_ms(&self) -> Option<u64> {
        self.ejection.as_ref().map(|ejection| ejection.hold_ms)
    }
}

/// Grows in a line with time, as HAProxy's and Envoy's do by default.
fn share_percent(ramp: &Ramp, now: u64) -> u64 {
    let passed_ms = (now - ramp.since.min(now)).min(ramp.span_ms);
    (passed_ms.saturating_mul(100) / ramp.span_ms.max(1)).max(RAMP_FLOOR_PERCENT)
}

#[cfg(test)]
mod tests;
