//! The guard of a release: it serves on trial, while the dynos of the release before wait beside it with their doors closed, so that
//! going back takes no start. What is asked of it is that errors and the p99 of its app do not rise (`guarded::judge`).
//!
//! Pure; times are arguments.

use std::time::Duration;

use ekiden_config::doors::AppTraffic;
use tokio::time::Instant;

use crate::guarded::judge::{Judgement, judge};

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(500);

/// The guard of a rollout.
#[derive(Debug)]
pub(super) struct Guard {
    time: Duration,
    trial: Option<Trial>,
}

/// From when on the new release serves.
#[derive(Debug)]
struct Trial {
    /// What had ended lately, before it.
    before: AppTraffic,
    /// What had ended then.
    base: AppTraffic,
    /// The time in which the app is closed does not count.
    until: Instant,
    looked_at: Instant,
    /// The app was in maintenance or held at the last look.
    paused: bool,
}

/// What became of an app's requests, as it is known now.
#[derive(Debug, Default)]
pub(super) struct Looked {
    /// What has ended since the router started.
    pub(super) now: AppTraffic,
    /// Of that, what ended lately.
    pub(super) lately: AppTraffic,
    /// The app is in maintenance or held: what ends says nothing of its release.
    pub(super) is_closed: bool,
}

/// What comes of a look.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// The trial goes on; how it stands.
    Wait(String),
    /// It is over, and the release stays; why.
    Keep(String),
    /// The release makes things worse.
    Back(String),
}

impl Guard {
    /// For so long.
    pub(super) fn new(time: Duration) -> Self {
        Self { time, trial: None }
    }

    /// Whether it is time to look.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.trial.as_ref().is_none_or(|trial| now >= trial.looked_at + LOOK)
    }

    /// The release before serves again: another trial begins anew.
    pub(super) fn step_back(&mut self) {
        self.trial = None;
    }

    /// The new release serves: called again and again, the first time before a request has come to it.
    pub(super) fn look(&mut self, looked: Looked, now: Instant) -> Word {
        let Looked { now: traffic, lately, is_closed } = looked;
        let until = now + self.time;
        let trial = self.trial.get_or_insert_with(|| Trial {
            // What the router itself answered for an app is nothing to go by.
            before: if is_closed { AppTraffic::default() } else { lately },
            base: traffic.clone(),
            until,
            looked_at: now,
            paused: is_closed,
        });
        let passed = now.saturating_duration_since(std::mem::replace(&mut trial.looked_at, now));
        if is_closed || trial.paused {
            trial.base = traffic.clone();
            trial.until += passed;
        }
        trial.paused = is_closed;
        if is_closed {
            let why = "the app is in maintenance or held: the trial of the new release waits";
            return Word::Wait(why.to_owned());
        }
        let over = now >= trial.until;
        match judge(&trial.before, &traffic.since(&trial.base)) {
            Judgement::Bad(why) => Word::Back(why),
            Judgement::Good(why) if over => Word::Keep(format!("kept: {why}")),
            Judgement::TooFew(why) if over => Word::Keep(format!("not judged: {why}")),
            Judgement::Good(_) | Judgement::TooFew(_) => {
                let seconds = self.time.as_secs();
                Word::Wait(format!("the new release serves on trial for {seconds} s; the old one waits"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traffic(requests: u64, errors: u64) -> AppTraffic {
        AppTraffic { requests, errors, buckets: vec![requests, 0], bounds_us: vec![1_000_000] }
    }

    fn looked(requests: u64, errors: u64) -> Looked {
        Looked { now: traffic(requests, errors), lately: traffic(100, 0), is_closed: false }
    }

    fn is_waiting(word: &Word) -> bool {
        matches!(word, Word::Wait(_))
    }

    #[test]
    fn a_release_is_judged_by_what_ends_while_it_serves() {
        let (time, now) = (Duration::from_secs(60), Instant::now());
        let late = now + time;
        // Errors of the release before are not its own.
        let mut guard = Guard::new(time);
        assert!(is_waiting(&guard.look(looked(1_000, 900), now)));
        assert!(is_waiting(&guard.look(looked(1_100, 900), late - Duration::from_millis(1))));
        let Word::Keep(why) = guard.look(looked(1_100, 900), late) else { panic!("it is over") };
        assert!(why.starts_with("kept: errors: 0.0 %"), "{why}");

        let mut guard = Guard::new(time);
        assert!(is_waiting(&guard.look(looked(1_000, 0), now)));
        let Word::Back(why) = guard.look(looked(1_100, 60), now) else { panic!("it is bad") };
        assert!(why.contains("60.0 % of 100 requests"), "{why}");
        // It stepped back, and comes again: what was is forgotten.
        guard.step_back();
        assert!(is_waiting(&guard.look(looked(1_100, 60), now)));

        let mut guard = Guard::new(time);
        guard.look(looked(1_000, 0), now);
        let Word::Keep(why) = guard.look(looked(1_003, 3), late) else { panic!("it is over") };
        assert!(why.starts_with("not judged: "), "{why}");
    }

    #[test]
    fn maintenance_takes_nothing_of_the_time_on_trial() {
        let (time, begun) = (Duration::from_secs(60), Instant::now());
        let at = |seconds| begun + Duration::from_secs(seconds);
        let closed = |requests| Looked { is_closed: true, ..looked(requests, 0) };
        for errors in [0, 60] {
            let mut guard = Guard::new(time);
            guard.look(looked(1_000, 0), begun);
            guard.look(looked(1_000, 0), at(10));
            for second in 11..=100 {
                assert!(is_waiting(&guard.look(closed(1_000), at(second))), "{second}");
            }
            assert!(is_waiting(&guard.look(looked(1_000, 0), at(101))));
            assert!(is_waiting(&guard.look(looked(1_010, 0), at(140))));
            let word = guard.look(looked(1_110, errors), at(151));
            assert!(
                if errors == 0 { matches!(word, Word::Keep(_)) } else { matches!(word, Word::Back(_)) },
                "{word:?}"
            );
        }
    }

    #[test]
    fn maintenance_on_trial_is_no_fault_of_the_release() {
        let (time, now) = (Duration::from_secs(60), Instant::now());
        let closed = |requests, errors| Looked { is_closed: true, ..looked(requests, errors) };
        let mut guard = Guard::new(time);
        guard.look(looked(1_000, 0), now);
        assert!(is_waiting(&guard.look(closed(1_200, 200), now)));
        assert!(is_waiting(&guard.look(looked(1_300, 300), now)), "what ended before the look behind it");
        assert!(matches!(guard.look(looked(1_400, 400), now), Word::Back(_)), "and then it counts again");
        // Begun in maintenance, there is nothing to compare with.
        let mut guard = Guard::new(time);
        guard.look(closed(1_000, 0), now);
        guard.look(looked(1_100, 0), now);
        assert!(is_waiting(&guard.look(looked(1_300, 200), now)));
    }
}
