//! The state of an endpoint to which something has happened: the facts one by one, and what follows from them.
//!
//! The state machine itself; see the module above for its picture. Does not know endpoints to which nothing has happened.

use super::words::{Change, Event, State};
use super::{
    DISTRUST_MS, FORGET_MS, FULL_SHARE, LEVEL_MAX, RAMP_FLOOR_PERCENT, RAMP_MS, SHORTEST_MS, TRIAL_REQUESTS,
    TRIAL_REQUESTS_MAX, Terms,
};
use crate::health::Health;

/// Why an endpoint is gone.
pub(super) const REMOVED: &str = "removed from the configuration";

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

/// What is known of one endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Story {
    policy: Terms,
    now: u64,
    health: Health,
    health_reason: String,
    health_since: u64,
    /// Changes of it so far.
    transitions: u32,
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

impl Story {
    /// An endpoint with this health, for this reason and since this time.
    pub(super) fn new((health, reason, now): (Health, &str, u64), policy: Terms) -> Self {
        Self {
            policy,
            now,
            health,
            health_reason: reason.to_owned(),
            health_since: now,
            transitions: 0,
            is_gone: false,
            gone_since: now,
            draining_since: None,
            ejection: None,
            ramp: None,
            returned: None,
            level: 0,
            last: (0, 0),
        }
    }

    /// Goes by another policy from now on. What is under way ends as it began.
    pub(super) fn set_policy(&mut self, policy: Terms) {
        self.policy = policy;
    }

    /// Takes an event and returns the change of state, if any.
    pub(super) fn on(&mut self, event: Event<'_>, now: u64) -> Option<Change> {
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
        if self.policy.slow_start > 0 && self.ejection.is_none() {
            let (since, span_ms) = (self.now, u64::from(self.policy.slow_start));
            self.ramp = Some(Box::new(Ramp { since, span_ms, is_trial: false, reason: reason.to_owned() }));
        }
    }

    fn checked(&mut self, health: Health, reason: &str) {
        if health == self.health {
            return;
        }
        self.health = health;
        self.transitions = self.transitions.wrapping_add(1);
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
                let doubled = u64::from(self.policy.base).saturating_mul(1 << (level - 1).min(LEVEL_MAX));
                doubled.min(u64::from(self.policy.max)).max(SHORTEST_MS)
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
        let longest = u64::from(self.policy.max);
        let distrusted = (self.now - ejection.since).saturating_add(DISTRUST_MS).min(longest);
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

    /// Requests in a row that have to go well before [`Event::Tried`] may say that they did.
    pub(super) fn trial_requests(&self) -> u32 {
        (TRIAL_REQUESTS + u32::from(self.level)).min(TRIAL_REQUESTS_MAX)
    }

    /// The state: control's word before the checks', the checks' before evidence.
    pub(super) fn state(&self) -> State {
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
    pub(super) fn reason(&self) -> String {
        match self.state() {
            State::Gone => REMOVED.to_owned(),
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
    pub(super) fn since(&self) -> u64 {
        match self.state() {
            State::Gone => self.gone_since,
            State::Draining => self.draining_since.unwrap_or(self.now),
            State::Starting | State::Failing => self.health_since,
            State::Ejected => self.ejection.as_ref().map_or(self.now, |ejection| ejection.since),
            State::Warming => self.ramp.as_ref().map_or(self.now, |ramp| ramp.since),
            State::Ready => self.returned.as_ref().map_or(self.health_since, |returned| returned.1),
        }
    }

    /// Changes of what the checks say so far.
    pub(super) fn transitions(&self) -> u32 {
        self.transitions
    }

    /// What the checks say.
    pub(super) fn health(&self) -> Health {
        self.health
    }

    /// Why the checks say so, and since when.
    pub(super) fn health_story(&self) -> (&str, u64) {
        (&self.health_reason, self.health_since)
    }

    /// Whether it was removed.
    pub(super) fn is_gone(&self) -> bool {
        self.is_gone
    }

    /// Whether it is marked as draining.
    pub(super) fn is_draining(&self) -> bool {
        self.draining_since.is_some()
    }

    /// Whether it is set aside by evidence, whatever else is true of it.
    pub(super) fn is_ejected(&self) -> bool {
        self.ejection.is_some()
    }

    /// Whether it has less than its share for a while, whatever else is true of it.
    pub(super) fn is_warming(&self) -> bool {
        self.ramp.is_some()
    }

    /// Whether requests that cannot be sent twice had better go elsewhere: it just comes back from an ejection.
    pub(super) fn is_on_trial(&self) -> bool {
        self.ramp.as_ref().is_some_and(|ramp| ramp.is_trial)
    }

    /// The part of its share that it gets, of [`FULL_SHARE`].
    pub(super) fn ramp(&self) -> u32 {
        self.ramp.as_ref().map_or(FULL_SHARE, |ramp| {
            let percent = share_percent(ramp, self.now);
            u32::try_from(u64::from(FULL_SHARE) / 100 * percent).unwrap_or(FULL_SHARE)
        })
    }

    /// How long it has been ejected at least, in milliseconds, before a check is believed that saw nothing wrong.
    pub(super) fn hold_ms(&self) -> Option<u64> {
        self.ejection.as_ref().map(|ejection| ejection.hold_ms)
    }

    /// When its ramp began, and how long it takes.
    #[cfg(test)]
    pub(super) fn ramp_seen(&self) -> Option<(u64, u64)> {
        self.ramp.as_ref().map(|ramp| (ramp.since, ramp.span_ms))
    }
}

/// Grows in a line with time, as HAProxy's and Envoy's do by default.
fn share_percent(ramp: &Ramp, now: u64) -> u64 {
    let passed_ms = (now - ramp.since.min(now)).min(ramp.span_ms);
    (passed_ms.saturating_mul(100) / ramp.span_ms.max(1)).max(RAMP_FLOOR_PERCENT)
}
