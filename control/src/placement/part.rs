//! What one source that is somewhere else has of one cluster: what it wants, how long its word is good, and what of it is in force.
//!
//! Pure; time is an argument. Its word is good for a lease. When nobody of the source is heard any more, nothing changes: the part
//! is silent, and stays as it is. When one endpoint's lease is over and others were heard after that, the source is there
//! and the endpoint is not: it goes, as far as [`Removals`] let it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ekiden_config::model::Endpoint;
use ekiden_config::names::EndpointId;

use super::removals::{Removals, Rules};

/// The condition of an endpoint, as its source sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    /// It is not to be sent anything yet, or no longer.
    Starting,
    /// It serves.
    Ready,
    /// It is leaving: it finishes what it has.
    Draining,
}

impl Condition {
    /// All, with their words.
    pub(crate) const WORDS: [(&'static str, Self); 3] =
        [("starting", Self::Starting), ("ready", Self::Ready), ("draining", Self::Draining)];

    /// Its word.
    pub(crate) fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, one)| *one == self).map_or("", |(word, _)| word)
    }
}

/// One endpoint as its source wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The endpoint; its `drain` goes by the condition.
    pub(crate) endpoint: Arc<Endpoint>,
    /// How it is.
    pub(crate) condition: Condition,
    /// How long this word is good, when that is the endpoint's own; in milliseconds.
    pub(crate) ttl_ms: Option<u64>,
}

/// All that a source wants of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// How long the whole is good, in milliseconds; none for ever.
    pub(crate) ttl_ms: Option<u64>,
    /// By id.
    pub(crate) entries: BTreeMap<EndpointId, Entry>,
    /// What whoever judged it keeps beside; none where that is not said.
    pub(crate) kept: Option<Kept>,
}

/// What a source took away and is kept for now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Until when, in milliseconds since the Unix epoch.
    pub(crate) until_ms: u64,
    /// By id.
    pub(crate) endpoints: BTreeMap<EndpointId, Arc<Endpoint>>,
}

/// Who was heard with a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The source spoke for everything.
    Everything,
    /// It spoke for this one.
    One(EndpointId),
}

/// How a part is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum State {
    /// The source is heard.
    #[default]
    Live,
    /// All its leases are over: its part is as it was.
    Silent,
    /// It took away too much at once, which is kept.
    Held,
}

impl State {
    /// For people, the API and metrics.
    pub(crate) fn word(self) -> &'static str {
        match self {
            State::Live => "live",
            State::Silent => "silent",
            State::Held => "held",
        }
    }
}

/// The part of a cluster that a source has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Part {
    wanted: Wanted,
    /// Until when endpoints with a lease of their own are good.
    leases: BTreeMap<EndpointId, u64>,
    /// Until when the whole is good.
    until_ms: Option<u64>,
    heard_ms: u64,
    expired: BTreeSet<EndpointId>,
    in_force: BTreeMap<EndpointId, Arc<Endpoint>>,
    removals: Removals<EndpointId>,
    /// What people were told last.
    told: State,
}

impl Part {
    /// As stored, at the start of the process: all leases begin anew.
    pub(crate) fn begin(wanted: Wanted, rules: Rules, now_ms: u64) -> Self {
        let mut part = Self::default();
        part.follow(wanted, rules, now_ms);
        part
    }

    /// As stored, written by whoever led then: all leases begin anew, and what is kept beside is what was written down. Where that is
    /// not said, it is judged here. Whether what is in force differs.
    pub(crate) fn follow(&mut self, wanted: Wanted, rules: Rules, now_ms: u64) -> bool {
        let Some(kept) = wanted.kept.clone() else {
            return self.take(wanted, &Heard::Everything, rules, now_ms);
        };
        let before = std::mem::take(&mut self.in_force);
        // Nothing is in force that could be missed; what is kept joins it behind.
        self.removals = Removals::default();
        self.take(wanted, &Heard::Everything, rules, now_ms);
        let gone = kept.endpoints.into_iter().filter(|(id, _)| !self.in_force.contains_key(id));
        let gone: BTreeMap<EndpointId, Arc<Endpoint>> = gone.filter(|_| kept.until_ms > now_ms).collect();
        if !gone.is_empty() {
            let count = self.in_force.len() + gone.len();
            self.removals = Removals::holding(gone.keys().cloned().collect(), count, (now_ms, kept.until_ms));
            self.in_force.extend(gone);
        }
        self.in_force != before
    }

    /// Takes what the source wants now; whether what is in force differs.
    pub(crate) fn take(&mut self, wanted: Wanted, heard: &Heard, rules: Rules, now_ms: u64) -> bool {
        self.heard_ms = now_ms;
        let ttl_ms = |id: &EndpointId| wanted.entries.get(id)?.ttl_ms;
        match heard {
            Heard::Everything => {
                self.until_ms = wanted.ttl_ms.map(|ttl_ms| now_ms.saturating_add(ttl_ms));
                self.expired.clear();
                let leases = wanted
                    .entries
                    .keys()
                    .filter_map(|id| Some((id.clone(), now_ms.saturating_add(ttl_ms(id)?))));
                self.leases = leases.collect();
            }
            Heard::One(id) => {
                self.expired.remove(id);
                match ttl_ms(id) {
                    Some(ttl_ms) => drop(self.leases.insert(id.clone(), now_ms.saturating_add(ttl_ms))),
                    None => drop(self.leases.remove(id)),
                }
            }
        }
        self.wanted = wanted;
        self.leases.retain(|id, _| self.wanted.entries.contains_key(id));
        self.expired.retain(|id| self.wanted.entries.contains_key(id));
        let over = self.leases.iter().filter(|(_, until_ms)| **until_ms < now_ms);
        self.expired.extend(over.map(|(id, _)| id.clone()));
        self.settle(rules, now_ms)
    }

    /// What would be kept of what the source takes away by such a word, which is not taken yet.
    pub(crate) fn judged(&self, wanted: Wanted, heard: &Heard, rules: Rules, now_ms: u64) -> Kept {
        let mut tried = Self {
            // The word brings another.
            wanted: Wanted::default(),
            leases: self.leases.clone(),
            expired: self.expired.clone(),
            in_force: self.in_force.clone(),
            removals: self.removals.clone(),
            ..*self
        };
        tried.take(wanted, heard, rules, now_ms);
        tried.kept()
    }

    /// Brings into force what may be; whether that differs. Called too when [`Part::due_ms`] has come.
    pub(crate) fn settle(&mut self, rules: Rules, now_ms: u64) -> bool {
        let wanted = self
            .wanted
            .entries
            .iter()
            .filter(|(id, entry)| entry.condition != Condition::Starting && !self.expired.contains(*id));
        let mut next: BTreeMap<EndpointId, Arc<Endpoint>> =
            wanted.map(|(id, entry)| (id.clone(), shown(entry))).collect();
        // What was said to be leaving leaves.
        let staying = || self.in_force.iter().filter(|(_, endpoint)| !endpoint.drain);
        let gone: BTreeSet<EndpointId> =
            staying().filter(|(id, _)| !next.contains_key(*id)).map(|(id, _)| id.clone()).collect();
        let in_force = staying().count();
        let added = next.keys().filter(|id| !self.in_force.contains_key(*id)).count();
        if !self.removals.judge(rules, (in_force, added), &gone, now_ms) {
            let kept = self.in_force.iter().filter(|(id, _)| gone.contains(*id));
            next.extend(kept.map(|(id, endpoint)| (id.clone(), Arc::clone(endpoint))));
        }
        let differs = next != self.in_force;
        self.in_force = next;
        differs
    }

    /// A person says that what is missing is meant to be; whether anything waited for that.
    pub(crate) fn confirm(&mut self, now_ms: u64) -> bool {
        let in_force = self.in_force.values().filter(|endpoint| !endpoint.drain).count();
        let Some(gone) = self.removals.confirm(in_force, now_ms) else { return false };
        self.in_force.retain(|id, _| !gone.contains(id));
        true
    }

    /// What is in force.
    pub(crate) fn in_force(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.in_force.values()
    }

    /// How many are in force.
    pub(crate) fn in_force_count(&self) -> usize {
        self.in_force.len()
    }

    /// Endpoints whose own lease is over.
    pub(crate) fn expired(&self) -> &BTreeSet<EndpointId> {
        &self.expired
    }

    /// Endpoints that the source took away and that are kept.
    pub(crate) fn held(&self) -> Vec<EndpointId> {
        self.removals.held().into_iter().flat_map(|held| held.gone.iter().cloned()).collect()
    }

    /// What is kept of what it took away, to be written down.
    pub(crate) fn kept(&self) -> Kept {
        let Some(held) = self.removals.held() else { return Kept::default() };
        let endpoints =
            held.gone.iter().filter_map(|id| Some((id.clone(), Arc::clone(self.in_force.get(id)?))));
        Kept { until_ms: held.until_ms, endpoints: endpoints.collect() }
    }

    /// Since when they are.
    pub(crate) fn held_since_ms(&self) -> Option<u64> {
        self.removals.held().map(|held| held.since_ms)
    }

    /// Until when they are.
    pub(crate) fn held_until_ms(&self) -> Option<u64> {
        self.removals.held().map(|held| held.until_ms)
    }

    /// When the source was heard last.
    pub(crate) fn heard_ms(&self) -> u64 {
        self.heard_ms
    }

    /// When the last of its leases is over; none when one has no end, or there is none.
    fn silent_ms(&self) -> Option<u64> {
        let own = self.wanted.entries.keys().map(|id| self.leases.get(id).copied());
        match self.until_ms {
            Some(until_ms) => Some(self.leases.values().copied().fold(until_ms, u64::max)),
            None => own.collect::<Option<Vec<u64>>>()?.into_iter().max(),
        }
    }

    /// How it is.
    pub(crate) fn state(&self, now_ms: u64) -> State {
        if self.removals.held().is_some() {
            return State::Held;
        }
        if self.silent_ms().is_some_and(|silent_ms| now_ms >= silent_ms) {
            State::Silent
        } else {
            State::Live
        }
    }

    /// Its state before and now, where that is another one than people were told last.
    pub(crate) fn turned(&mut self, now_ms: u64) -> Option<(State, State)> {
        let now = self.state(now_ms);
        let before = std::mem::replace(&mut self.told, now);
        (before != now).then_some((before, now))
    }

    /// When it is to be looked at again, if nothing is heard.
    pub(crate) fn due_ms(&self, now_ms: u64) -> Option<u64> {
        let silent = self.silent_ms().filter(|silent_ms| *silent_ms > now_ms);
        self.held_until_ms().into_iter().chain(silent).min()
    }
}

/// The endpoint as it is in force.
pub(crate) fn shown(entry: &Entry) -> Arc<Endpoint> {
    let drain = entry.condition == Condition::Draining;
    if entry.endpoint.drain == drain {
        return Arc::clone(&entry.endpoint);
    }
    Arc::new(Endpoint { drain, ..Endpoint::clone(&entry.endpoint) })
}

#[cfg(test)]
mod tests;
