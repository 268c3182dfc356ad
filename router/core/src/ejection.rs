//! Judges the endpoints of one cluster by evidence: which of them is set aside.
//!
//! Two rules. *Streak*: so many failures in a row. Connects that fail speak for themselves; every other kind may be the
//! doing of the request or of what all endpoints depend on, so it ejects only an endpoint that does worse than the
//! others, who must have served something meanwhile. *Rate*: a success rate well below that of the others. Never ejected
//! is the last ready endpoint, nor more than a share of all; one always may be.
//!
//! A judge exists for a cluster while failures are fresh; it watches the cells and reads their counts. Pure but for the
//! cells: time is an argument. Does not check, and does not end an ejection (see `readiness`).

mod window;

use std::sync::Arc;
use std::time::Duration;

use ekiden_config::model::EjectionPolicy;
use rustc_hash::FxHashMap;

use crate::cell::{EndpointCell, EvidenceSeen};
use crate::cluster::{ClusterTable, EndpointEntry};
use crate::evidence::Evidence;
use crate::readiness::{Change, Event, State};
use crate::stats::EJECTION_CAUSES;
use window::{Tally, Window};

/// Standard errors by which a success rate must be below that of the others: chance alone reaches that once in a thousand
/// comparisons.
const ERRORS: f64 = 3.0;

/// Words of the places of [`crate::stats::Ejections::by_cause`].
pub const CAUSE_WORDS: [&str; EJECTION_CAUSES] = [
    Evidence::Connect.word(),
    Evidence::Reset.word(),
    Evidence::Timeout.word(),
    Evidence::Protocol.word(),
    Evidence::Status.word(),
    Evidence::Tls.word(),
    "success_rate",
];
/// The place of the comparison of success rates.
const SUCCESS_RATE: usize = EJECTION_CAUSES - 1;

/// Two clocks at one moment: one that never goes back, and the time of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since some moment of the process.
    pub ms: u64,
    /// Milliseconds since the Unix epoch.
    pub unix_ms: u64,
}

/// An ejection that was decided and done.
#[derive(Debug, Clone)]
pub struct Ejected {
    /// The endpoint.
    pub cell: Arc<EndpointCell>,
    /// What changed.
    pub change: Change,
}

/// What is known of one endpoint since the judge looks at it.
#[derive(Debug)]
struct Witness {
    cell: Arc<EndpointCell>,
    seen: EvidenceSeen,
    window: Window,
    /// A streak was long enough and has not been judged for good: the others must serve something first.
    tripped: bool,
    /// It would have been ejected if that were allowed; counted once.
    withheld: bool,
}

/// The judge of one cluster.
#[derive(Debug, Default)]
pub struct Judge {
    witnesses: FxHashMap<u64, Witness>,
}

/// Why an endpoint is to be ejected.
struct Verdict {
    cause: usize,
    reason: String,
}

impl Judge {
    /// Looks at the counts and ejects who is to be ejected; the caller refreshes the ready set when the answer is not empty.
    /// O(endpoints). Called at news of an endpoint, and once in a while (see [`bucket`]).
    pub fn judge(&mut self, cluster: &ClusterTable, now: Now) -> Vec<Ejected> {
        let Some(policy) = &cluster.cluster.policy.readiness.ejection else {
            self.rest();
            return Vec::new();
        };
        let bucket_ms = bucket(policy).as_millis().max(1) as u64;
        self.follow(&cluster.endpoints);
        let mut standings = Standings::default();
        let mut sum = Tally::default();
        let mut suspects = Vec::new();
        for entry in cluster.endpoints.iter() {
            standings.count(&entry.cell);
            let Some(witness) = self.witnesses.get_mut(&entry.cell.uid()) else { continue };
            let tally = witness.look(now.ms, bucket_ms);
            sum = sum.and(tally);
            if tally.bad > 0 && entry.cell.may_pick() {
                suspects.push((entry, tally));
            }
        }
        let mut ejected = Vec::new();
        for (entry, own) in suspects {
            let others = Tally { good: sum.good - own.good, bad: sum.bad - own.bad };
            let Some(witness) = self.witnesses.get_mut(&entry.cell.uid()) else { continue };
            let Some(verdict) = witness.verdict(policy, own, others) else { continue };
            if !standings.allow(policy) {
                if !std::mem::replace(&mut witness.withheld, true) {
                    let counts = &cluster.cell.ejections;
                    let counter =
                        if standings.ready <= 1 { &counts.withheld_last } else { &counts.withheld_max };
                    counter.add(1);
                }
                continue;
            }
            if let Some(change) = entry.cell.on(Event::Eject(&verdict.reason), now.unix_ms) {
                standings.eject();
                witness.clear();
                if let Some(counter) = cluster.cell.ejections.by_cause.get(verdict.cause) {
                    counter.add(1);
                }
                ejected.push(Ejected { cell: Arc::clone(&entry.cell), change });
            }
        }
        ejected
    }

    /// Whether nothing has failed for a whole window, so that nobody needs to look any more.
    pub fn is_quiet(&mut self, policy: &EjectionPolicy, now_ms: u64) -> bool {
        let bucket_ms = bucket(policy).as_millis().max(1) as u64;
        self.witnesses.values_mut().all(|witness| witness.window.total(now_ms, bucket_ms).bad == 0)
    }

    /// Lets go of every cell. Called when the judge is not needed any more.
    pub fn rest(&mut self) {
        for (_, witness) in self.witnesses.drain() {
            witness.cell.watch(false);
        }
    }

    /// Looks at the endpoints of this table; what is known of those that stay is kept.
    fn follow(&mut self, endpoints: &[EndpointEntry]) {
        let is_same = self.witnesses.len() == endpoints.len()
            && endpoints.iter().all(|entry| self.witnesses.contains_key(&entry.cell.uid()));
        if is_same {
            return;
        }
        let mut next = FxHashMap::default();
        for entry in endpoints {
            let uid = entry.cell.uid();
            let witness = self.witnesses.remove(&uid).unwrap_or_else(|| Witness::new(&entry.cell));
            next.insert(uid, witness);
        }
        self.rest();
        self.witnesses = next;
    }
}

/// Length of one bucket of the window: how often a judge should look by itself.
pub fn bucket(policy: &EjectionPolicy) -> Duration {
    (policy.window / 10).max(Duration::from_millis(1))
}

impl Witness {
    fn new(cell: &Arc<EndpointCell>) -> Self {
        cell.watch(true);
        let mut seen = cell.evidence();
        // The streak that brought the judge here is the beginning of what it knows.
        seen.bad = seen.bad.saturating_sub(u64::from(seen.streak));
        Self { cell: Arc::clone(cell), seen, window: Window::default(), tripped: false, withheld: false }
    }

    /// Takes what happened since the last look, and says what the window holds.
    fn look(&mut self, now_ms: u64, bucket_ms: u64) -> Tally {
        let tripped = self.cell.take_news();
        let seen = self.cell.evidence();
        let since = Tally {
            good: seen.good.saturating_sub(self.seen.good),
            bad: seen.bad.saturating_sub(self.seen.bad),
        };
        self.seen = seen;
        if !self.cell.may_pick() {
            self.clear();
            return Tally::default();
        }
        // A streak that has ended was one, but it is judged now or never.
        self.tripped = tripped || (self.tripped && seen.streak > 0);
        self.withheld &= self.tripped;
        self.window.add(since, now_ms, bucket_ms);
        self.window.total(now_ms, bucket_ms)
    }

    fn clear(&mut self) {
        self.window = Window::default();
        self.tripped = false;
        self.withheld = false;
    }

    fn verdict(&self, policy: &EjectionPolicy, own: Tally, others: Tally) -> Option<Verdict> {
        let EvidenceSeen { streak, last, .. } = self.seen;
        if self.tripped && (last.is_of_connects() || is_worse(policy, own, others)) {
            let failures = match streak {
                0 => "failures in a row".to_owned(),
                1 => "a failure".to_owned(),
                streak => format!("{streak} failures in a row"),
            };
            let reason = format!("{failures}, the last: {}", last.words());
            return Some(Verdict { cause: last as usize, reason });
        }
        let percent = policy.success_rate?;
        let enough = u64::from(policy.min_requests);
        if own.all() < enough || others.all() < enough || !is_worse(policy, own, others) {
            return None;
        }
        let (rate, usual) = (own.success_rate(), others.success_rate());
        let error = (usual * (1.0 - usual) / own.all() as f64).sqrt();
        (usual - rate > ERRORS * error).then(|| {
            let reason = format!(
                "{:.0} % of {} requests went well, below {percent} % of the {:.0} % of the other endpoints; the last \
                 failure: {}",
                rate * 100.0,
                own.all(),
                usual * 100.0,
                last.words()
            );
            Verdict { cause: SUCCESS_RATE, reason }
        })
    }
}

/// Whether an endpoint does worse than the others, who have served something.
fn is_worse(policy: &EjectionPolicy, own: Tally, others: Tally) -> bool {
    let part = policy.success_rate.map_or(1.0, |percent| f64::from(percent) / 100.0);
    others.good > 0 && own.success_rate() < part * others.success_rate()
}

/// How many endpoints are what.
#[derive(Debug, Default)]
struct Standings {
    ready: usize,
    ejected: usize,
    failing: usize,
}

impl Standings {
    fn count(&mut self, cell: &EndpointCell) {
        match cell.standing() {
            State::Ready | State::Warming => self.ready += 1,
            State::Ejected => self.ejected += 1,
            State::Failing => self.failing += 1,
            State::Starting | State::Draining | State::Gone => {}
        }
    }

    fn allow(&self, policy: &EjectionPolicy) -> bool {
        let all = self.ready + self.ejected + self.failing;
        let most = (all * usize::from(policy.max_percent) / 100).max(1);
        self.ready > 1 && self.ejected < most
    }

    fn eject(&mut self) {
        self.ready -= 1;
        self.ejected += 1;
    }
}

#[cfg(test)]
mod tests;
