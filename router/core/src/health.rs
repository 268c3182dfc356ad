//! What the active checks of one endpoint say: a pure state machine of verdicts.
//!
//! Sends nothing, waits for nothing and reads no clock: the probe runner of the router feeds it. Draining and gone
//! are not health; they are marks of the cell.

use ekiden_config::model::ProbePolicy;

/// What the checks say of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Health {
    /// Its first check has not been answered.
    Starting,
    /// It may get requests.
    Ready,
    /// Its checks fail.
    Failing,
}

impl Health {
    /// The word for people, logs and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Health::Starting => "starting",
            Health::Ready => "ready",
            Health::Failing => "failing",
        }
    }
}

/// A change of health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// Before.
    pub from: Health,
    /// After.
    pub to: Health,
    /// Why, for people.
    pub reason: String,
    /// When, in milliseconds since the Unix epoch.
    pub at_unix_ms: u64,
}

/// The state of one endpoint's checks. Owned by the probe runner, one per incarnation.
#[derive(Debug, Clone)]
pub struct ProbeState {
    health: Health,
    rise: u8,
    fall: u8,
    /// Verdicts in a row that speak against `health`.
    against: u8,
    reason: String,
    since_unix_ms: u64,
}

impl ProbeState {
    /// The state of an endpoint that was never checked: starting under a policy, ready without one.
    pub fn new(policy: Option<&ProbePolicy>, now_unix_ms: u64) -> Self {
        let (health, reason) = first(policy);
        Self::resume(policy, health, reason.to_owned(), now_unix_ms)
    }

    /// The state of an endpoint whose health is already known, as when its policy changed: live health is kept.
    pub fn resume(policy: Option<&ProbePolicy>, health: Health, reason: String, since_unix_ms: u64) -> Self {
        let (rise, fall) = thresholds(policy);
        Self { health, rise, fall, against: 0, reason, since_unix_ms }
    }

    /// Goes on under another policy: health, reason and time stay, the count towards a change starts anew.
    pub fn set_policy(&mut self, policy: Option<&ProbePolicy>) {
        (self.rise, self.fall) = thresholds(policy);
        self.against = 0;
    }

    /// Takes the answer of one check, an error being the reason it failed, and returns the change of health, if any.
    /// The first answer of all decides by itself; after that `rise` successes or `fall` failures in a row do.
    pub fn verdict(&mut self, pass: Result<(), String>, now_unix_ms: u64) -> Option<Transition> {
        let (to, needed) = match (self.health, &pass) {
            (Health::Starting, Ok(())) => (Health::Ready, 1),
            (Health::Starting, Err(_)) => (Health::Failing, 1),
            (Health::Ready, Err(_)) => (Health::Failing, self.fall),
            (Health::Failing, Ok(())) => (Health::Ready, self.rise),
            (Health::Ready, Ok(())) | (Health::Failing, Err(_)) => {
                self.against = 0;
                return None;
            }
        };
        self.against = self.against.saturating_add(1);
        if self.against < needed {
            return None;
        }
        let checks = match (self.health, needed) {
            (Health::Starting, _) => "first check".to_owned(),
            (Health::Ready | Health::Failing, 1) => "check".to_owned(),
            (Health::Ready | Health::Failing, n) => format!("{n} checks in a row"),
        };
        let reason = match pass {
            Ok(()) => format!("{checks} passed"),
            Err(why) => format!("{checks} failed: {why}"),
        };
        let transition =
            Transition { from: self.health, to, reason: reason.clone(), at_unix_ms: now_unix_ms };
        self.health = to;
        self.against = 0;
        self.reason = reason;
        self.since_unix_ms = now_unix_ms;
        Some(transition)
    }

    /// Health now.
    pub fn health(&self) -> Health {
        self.health
    }

    /// Why, for people.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Since when, in milliseconds since the Unix epoch.
    pub fn since_unix_ms(&self) -> u64 {
        self.since_unix_ms
    }
}

/// Health and reason of an endpoint before any check.
pub(crate) fn first(policy: Option<&ProbePolicy>) -> (Health, &'static str) {
    let health = if policy.is_some() { Health::Starting } else { Health::Ready };
    (health, unchecked(health))
}

/// Why an endpoint that nobody has checked has this health.
pub(crate) const fn unchecked(health: Health) -> &'static str {
    match health {
        Health::Starting => "waiting for the first check",
        Health::Ready => "no probe is configured",
        // Without a check nothing says so.
        Health::Failing => "",
    }
}

fn thresholds(policy: Option<&ProbePolicy>) -> (u8, u8) {
    policy.map_or((1, 1), |policy| (policy.rise.max(1), policy.fall.max(1)))
}

#[cfg(test)]
mod tests;
