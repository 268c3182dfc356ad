//! What requests met at an endpoint, counted by workers: how many failures in a row, and, while somebody looks, how many
//! requests went well.
//!
//! An endpoint that serves and is not looked at costs one load per request. Does not judge (see `ejection`).

use std::sync::atomic::{AtomicU32, Ordering};

use ekiden_config::model::EjectionPolicy;

use super::{EndpointCell, TRIAL};
use crate::evidence::Evidence;

/// Bit of [`Counts::run`]: the judge wants successes counted.
const WATCHED: u32 = 1 << 31;
/// Bit of [`Counts::run`]: the picker goes by latency.
const TIMED: u32 = 1 << 30;
/// Bit of [`Counts::run`]: requests of clients try it while it is ejected, and what comes of them is told.
const TRIED: u32 = 1 << 29;
/// The rest of it: failures since the last success.
const STREAK: u32 = TRIED - 1;
/// A streak is not counted beyond; far from the bit even if every worker of a machine adds one at a time.
const STREAK_MAX: u32 = 1 << 24;
/// Bit of `Extra::statuses` for those that have none of their own.
const OTHER_STATUS: u16 = 15;
/// Bits of `Extra::news`: there is something to judge; the streak was long enough.
const NEWS: u8 = 1;
const TRIPPED: u8 = 2;
/// Failures in a row that eject an endpoint which is just coming back.
const TRIAL_STREAK: u32 = 2;
/// What trips when no streak ejects; 0 when nothing does.
const NEVER: u32 = u32::MAX;

/// The count of one endpoint that is looked at while it serves; what is known of its failures is in `extra`.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// The streak, and whether the endpoint is watched or timed: the one word that a served request looks at.
    run: AtomicU32,
}

/// How many failures in a row eject an endpoint of a cluster.
#[derive(Debug)]
pub(super) struct Trip(AtomicU32);

impl Default for Trip {
    fn default() -> Self {
        Self(AtomicU32::new(trip_at(Some(&EjectionPolicy::default()))))
    }
}

fn trip_at(policy: Option<&EjectionPolicy>) -> u32 {
    policy.map_or(0, |policy| policy.consecutive.map_or(NEVER, |count| u32::from(count).max(1)))
}

/// What the judge reads of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EvidenceSeen {
    /// Requests that went well while it was watched.
    pub good: u64,
    /// Requests that failed.
    pub bad: u64,
    /// Failures since the last success.
    pub streak: u32,
    /// The kind of the last failure.
    pub last: Evidence,
}

impl EndpointCell {
    /// Counts by this policy from now on, as all endpoints of its cluster do.
    pub(super) fn count_by(&self, policy: Option<&EjectionPolicy>) {
        let trip_at = trip_at(policy);
        self.incarnation.trip().0.store(trip_at, Ordering::Relaxed);
        if trip_at == 0 {
            self.forget_evidence();
            // No judge takes it any more; left standing, none would be told after the next change of policy.
            self.extra_seen().into_iter().for_each(|extra| extra.news.store(0, Ordering::Relaxed));
        }
    }

    /// An endpoint that comes back starts without a streak.
    pub(super) fn forget_evidence(&self) {
        self.evidence.run.fetch_and(!STREAK, Ordering::Relaxed);
        if let Some(extra) = self.extra_seen() {
            extra.news.fetch_and(!TRIPPED, Ordering::Relaxed);
        }
    }

    /// Whether there is nothing to note of a request that went well. One load.
    #[inline]
    pub fn is_quiet(&self) -> bool {
        self.evidence.run.load(Ordering::Relaxed) == 0
    }

    /// Whether the latency of its answers is wanted.
    #[inline]
    pub fn is_timed(&self) -> bool {
        self.evidence.run.load(Ordering::Relaxed) & TIMED != 0
    }

    /// Wants the latency of its answers, or not any more. Called when a table is compiled.
    pub fn set_timed(&self, on: bool) {
        if on == self.is_timed() {
            return;
        }
        if on {
            self.evidence.run.fetch_or(TIMED, Ordering::Relaxed);
        } else {
            self.evidence.run.fetch_and(!TIMED, Ordering::Relaxed);
            self.forget_estimate();
        }
    }

    /// Counts a request that went well. Called by workers at the end of each; one load as a rule.
    #[inline]
    pub fn note_served(&self) {
        let run = self.evidence.run.load(Ordering::Relaxed);
        if run != 0 {
            self.end_streak(run);
        }
    }

    #[cold]
    fn end_streak(&self, run: u32) {
        if run & WATCHED != 0 {
            self.extra().good.fetch_add(1, Ordering::Relaxed);
        }
        if run & STREAK != 0 {
            self.evidence.run.fetch_and(!STREAK, Ordering::Relaxed);
        }
    }

    /// Counts a failure that speaks against the endpoint. True when the judge is to be told: once until it has looked.
    /// Called by workers; no lock.
    pub fn note_evidence(&self, kind: Evidence) -> bool {
        let trip_at = match self.incarnation.trip().0.load(Ordering::Relaxed) {
            0 => return false,
            trip_at if trip_at != NEVER && self.flags.load(Ordering::Acquire) & TRIAL != 0 => {
                trip_at.min(TRIAL_STREAK)
            }
            trip_at => trip_at,
        };
        let (counts, extra) = (&self.evidence, self.extra());
        extra.last.store(kind as u8, Ordering::Relaxed);
        extra.bad.fetch_add(1, Ordering::Relaxed);
        let mut streak = counts.run.load(Ordering::Relaxed) & STREAK;
        if streak < STREAK_MAX {
            streak = (counts.run.fetch_add(1, Ordering::Relaxed) & STREAK) + 1;
        }
        let news = if streak >= trip_at { NEWS | TRIPPED } else { NEWS };
        // Releases the counts above to the judge, which takes the news first.
        extra.news.fetch_or(news, Ordering::AcqRel) & NEWS == 0
    }

    /// Notes the status of a response that is a failure, before it is counted as one.
    pub fn note_failed_status(&self, status: u16) {
        let bit = 1 << status.saturating_sub(500).min(OTHER_STATUS);
        let statuses = &self.extra().statuses;
        if self.evidence.run.load(Ordering::Relaxed) & STREAK == 0 {
            statuses.store(bit, Ordering::Relaxed);
        } else {
            statuses.fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// Whether responses of this streak failed, all of them with statuses of which `takes` is true. Statuses from 515 on are none.
    pub fn failed_with(&self, takes: impl Fn(u16) -> bool) -> bool {
        let statuses = self.extra_seen().map_or(0, |extra| extra.statuses.load(Ordering::Relaxed));
        let all = || (0..OTHER_STATUS).filter(|bit| statuses & 1 << bit != 0);
        statuses != 0 && statuses & 1 << OTHER_STATUS == 0 && all().all(|bit| takes(500 + bit))
    }

    /// Whether requests of clients try it while it is ejected, so that it is not [`EndpointCell::is_quiet`]. Called by the probe thread.
    pub fn try_by_requests(&self, on: bool) {
        if on {
            self.evidence.run.fetch_or(TRIED, Ordering::Relaxed);
        } else {
            self.evidence.run.fetch_and(!TRIED, Ordering::Relaxed);
        }
    }

    /// The judge was not reached, or does not take the news: the next failure tells it. A streak that was long enough still is.
    pub fn keep_news(&self) {
        if let Some(extra) = self.extra_seen() {
            extra.news.fetch_and(!NEWS, Ordering::AcqRel);
        }
    }

    /// Takes the news: whether a streak was long enough since the last time. Called by the judge.
    pub fn take_news(&self) -> bool {
        self.extra_seen().is_some_and(|extra| extra.news.swap(0, Ordering::AcqRel) & TRIPPED != 0)
    }

    /// The counts as they are. Called by the judge.
    pub fn evidence(&self) -> EvidenceSeen {
        let (counts, extra) = (&self.evidence, self.extra_seen());
        EvidenceSeen {
            good: extra.map_or(0, |extra| extra.good.load(Ordering::Relaxed)),
            bad: extra.map_or(0, |extra| extra.bad.load(Ordering::Relaxed)),
            streak: counts.run.load(Ordering::Relaxed) & STREAK,
            last: extra
                .and_then(|extra| Evidence::at(extra.last.load(Ordering::Relaxed)))
                .unwrap_or(Evidence::Connect),
        }
    }

    /// Wants successes counted, or not any more. Called by the judge.
    pub fn watch(&self, on: bool) {
        if on {
            self.evidence.run.fetch_or(WATCHED, Ordering::Relaxed);
        } else {
            self.evidence.run.fetch_and(!WATCHED, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::cell;
    use super::*;
    use crate::health::Health;
    use crate::readiness::Event;

    #[test]
    fn a_streak_ends_with_a_success_and_trips_at_its_length() {
        let cell = cell(Health::Ready);
        for round in 1..=4 {
            assert_eq!(cell.note_evidence(Evidence::Reset), round == 1, "told once until taken");
        }
        assert!(!cell.take_news(), "four are not five");
        cell.note_served();
        assert_eq!((cell.evidence().streak, cell.evidence().bad), (0, 4));
        for round in 1..=5 {
            cell.note_evidence(Evidence::Status);
            assert_eq!(cell.evidence().streak, round);
        }
        assert_eq!(cell.evidence().last, Evidence::Status);
        cell.note_served();
        assert!(cell.take_news(), "a streak that has ended since is still one");
        assert!(!cell.take_news(), "and is taken once");
    }

    #[test]
    fn statuses_of_a_streak_are_known() {
        let cell = cell(Health::Ready);
        cell.try_by_requests(true);
        cell.note_served();
        assert!(!cell.is_quiet(), "what comes of a request is to be told");
        cell.try_by_requests(false);
        assert!(cell.is_quiet());
        assert!(!cell.failed_with(|_| true), "nothing failed");
        for (status, only, all) in [(503, true, true), (500, false, true), (599, false, false)] {
            cell.note_failed_status(status);
            cell.note_evidence(Evidence::Status);
            assert_eq!(
                (cell.failed_with(|known| known == 503), cell.failed_with(|_| true)),
                (only, all),
                "{status}"
            );
        }
        cell.note_served();
        cell.note_failed_status(502);
        assert!(cell.failed_with(|known| known == 502), "a streak of its own");
    }

    #[test]
    fn successes_count_only_while_somebody_looks() {
        let cell = cell(Health::Ready);
        cell.note_served();
        assert_eq!(cell.evidence().good, 0);
        cell.watch(true);
        cell.note_served();
        cell.note_evidence(Evidence::Connect);
        cell.note_served();
        assert_eq!((cell.evidence().good, cell.evidence().streak), (2, 0));
        cell.watch(false);
        cell.note_served();
        assert_eq!(cell.evidence().good, 2);
    }

    #[test]
    fn switched_off_nothing_is_counted() {
        let cell = cell(Health::Ready);
        let mut policy = ekiden_config::model::ReadinessPolicy { ejection: None, ..Default::default() };
        assert!(cell.note_evidence(Evidence::Connect), "told, and not taken");
        cell.set_policy(&policy, 1);
        assert!(!cell.note_evidence(Evidence::Connect));
        assert_eq!((cell.evidence().bad, cell.evidence().streak), (1, 0));
        cell.set_policy(&Default::default(), 1);
        assert!(cell.note_evidence(Evidence::Connect), "told anew");
        cell.set_policy(&policy, 1);
        policy.ejection = Some(EjectionPolicy { consecutive: None, ..EjectionPolicy::default() });
        cell.set_policy(&policy, 1);
        for _ in 0..2000 {
            cell.note_evidence(Evidence::Connect);
        }
        assert!(!cell.take_news(), "only the rate counts");
        assert_eq!(cell.evidence().bad, 2002);
    }

    #[test]
    fn one_that_comes_back_has_less_credit() {
        let cell = cell(Health::Ready);
        cell.on(Event::Eject("test"), 100);
        cell.note_evidence(Evidence::Connect);
        cell.on(Event::Trial(Ok(())), 400);
        assert_eq!(cell.evidence().streak, 0, "what was in flight is forgotten");
        cell.take_news();
        cell.note_evidence(Evidence::Connect);
        assert!(!cell.take_news());
        cell.note_evidence(Evidence::Connect);
        assert!(cell.take_news());
    }
}
