//! From one release to the next without a lost request.
//!
//! ```text
//! Starting --all web dynos ready--> Shifting --the router finds them ready--> Draining --the old ones have ended--> Done
//!     |                                 |                                        ^
//!     |                                 +--with a guard--> Guarding --its time---+
//!     |                                                       |
//!     +--- too late, or it falls, or it makes things worse ---+--> Failed (the old release serves on; it was never asked to leave)
//! ```
//! New dynos are placed when all of them are ready and beside the old ones; those leave only when the router, which may have
//! checks of its own, calls the new ones ready. Only web dynos are there twice: other types may be such as must not be.

use std::rc::Rc;

use tokio::time::Instant;

use super::WEB;
use super::board::{ROLLOUTS_MAX, RolloutState, RolloutView};
use super::guard::{Guard, Word};
use super::placing::id;
use super::release::{self, Release};
use super::supervisor::{Phase, Supervisor};
use crate::clock::unix_ms;

/// Ends in a row after which a dyno of a new release speaks against it.
const FALLS_MAX: u32 = 3;

/// A rollout under way.
#[derive(Debug)]
pub(super) struct Rollout {
    pub(super) release: Rc<Release>,
    pub(super) view: RolloutView,
    /// When the release counts as one that does not come up.
    deadline: Instant,
    /// The publish that has the new dynos, while they wait for the router's word.
    publish: Option<u64>,
    /// The release serves on trial first.
    guard: Option<Guard>,
    /// How that ended.
    verdict: Option<String>,
}

impl Rollout {
    /// The old release serves, and the new one may have dynos beside it.
    pub(super) fn is_before_the_shift(&self) -> bool {
        matches!(self.view.state, RolloutState::Starting | RolloutState::Shifting | RolloutState::Guarding)
    }

    /// The new dynos are to be placed: beside the old ones, or in their stead.
    pub(super) fn is_shifting(&self) -> bool {
        matches!(self.view.state, RolloutState::Shifting | RolloutState::Guarding)
    }

    /// The old ones are not to get new requests, and stay.
    pub(super) fn is_guarding(&self) -> bool {
        self.view.state == RolloutState::Guarding
    }
}

/// What is to be done next.
enum Step {
    Wait(String),
    Shift,
    Back,
    Commit,
    Fail(String),
}

impl Supervisor {
    /// Shows the release that this process begins with as a rollout, so that whoever recorded it hears how it ends. Nothing serves
    /// beside it: its dynos are started again and again also when it has failed.
    pub(super) fn watch_first(&mut self, number: u64, name: &str, unusable: Option<String>) {
        let state = if unusable.is_some() { RolloutState::Failed } else { RolloutState::Starting };
        self.first = unusable.is_none().then(|| Instant::now() + self.duties.run.boot_timeout);
        let now = unix_ms();
        self.remember(RolloutView {
            release: number,
            name: name.to_owned(),
            state,
            reason: unusable.clone().unwrap_or_else(|| "dynos start".to_owned()),
            began_unix_ms: now,
            ended_unix_ms: unusable.map(|_| now),
            late: Vec::new(),
        });
    }

    /// Ends that when its web dynos are ready, or too late, or when they fall.
    pub(super) fn judge_first(&mut self) {
        let Some(deadline) = self.first else { return };
        let number = self.current.number;
        let wanted = if self.current.commands.contains_key(WEB) { self.wanted(WEB) } else { 0 };
        let (state, reason) = match self.unready(number, wanted) {
            Err(why) => (RolloutState::Failed, format!("{why}; no release serves beside it")),
            Ok(waits) if waits.is_empty() => {
                (RolloutState::Done, "the process began with this release".to_owned())
            }
            Ok(waits) if Instant::now() >= deadline => {
                let (seconds, waits) = (self.duties.run.boot_timeout.as_secs(), waits.join("; "));
                (RolloutState::Failed, format!("not ready within {seconds} s: {waits}"))
            }
            Ok(waits) => (RolloutState::Starting, waits.join("; ")),
        };
        let ended = state != RolloutState::Starting;
        if ended {
            self.first = None;
        }
        if let Some(view) = self.rollouts.iter_mut().find(|view| view.release == number) {
            (view.state, view.reason) = (state, reason);
            view.ended_unix_ms = ended.then(unix_ms);
        }
    }

    /// What the web dynos of a release wait for; an error when one has ended too often.
    fn unready(&self, number: u64, wanted: u32) -> Result<Vec<String>, String> {
        let fallen = self.falls.iter().find(|((release, kind, _), falls)| {
            *release == number && kind == WEB && falls.count >= FALLS_MAX
        });
        if let Some(((_, kind, at), falls)) = fallen {
            return Err(format!("{kind}.{at} ended {} times: {}", falls.count, falls.why));
        }
        let mut waits = Vec::new();
        for at in 1..=wanted {
            let mine = self.dynos.iter().find(|dyno| {
                dyno.kind == WEB && dyno.number == at && dyno.release.number == number && !dyno.is_leaving()
            });
            match mine.map(|dyno| (dyno.phase, &dyno.reason)) {
                Some((Phase::Ready(_), _)) => {}
                Some((_, Some(reason))) => waits.push(format!("{WEB}.{at}: {reason}")),
                _ => {
                    let fell = self.falls.get(&(number, WEB.to_owned(), at)).map(|falls| falls.why.as_str());
                    waits.push(format!("{WEB}.{at}: {}", fell.unwrap_or("it starts")));
                }
            }
        }
        Ok(waits)
    }

    /// Begins the rollout of the newest release on record, if it has not had one.
    pub(super) fn next_rollout(&mut self) {
        let Some((number, name)) = self.latest.clone().filter(|(number, _)| *number > self.seen) else {
            return;
        };
        match &self.rollout {
            // Its old dynos are on their way out; one after the other.
            Some(rollout) if !rollout.is_before_the_shift() => return,
            Some(_) => self.end_rollout(RolloutState::Superseded, format!("{name} came first")),
            None => {}
        }
        self.roll_out(number, &name);
    }

    /// Begins a rollout of what the files say now.
    pub(super) fn roll_out(&mut self, number: u64, name: &str) {
        self.seen = number;
        if self.first.take().is_some() {
            let begun = self.current.number;
            if let Some(view) = self.rollouts.iter_mut().find(|view| view.release == begun) {
                view.state = RolloutState::Superseded;
                view.reason = format!("{name} came first");
                view.ended_unix_ms = Some(unix_ms());
            }
        }
        let mut view = RolloutView {
            release: number,
            name: name.to_owned(),
            state: RolloutState::Starting,
            reason: "dynos start".to_owned(),
            began_unix_ms: unix_ms(),
            ended_unix_ms: None,
            late: Vec::new(),
        };
        match release::read(&self.duties.run, number, name) {
            Ok(release) => {
                tracing::info!(release = %name, "rollout: dynos of the new release start");
                let deadline = Instant::now() + self.duties.run.boot_timeout;
                let guard = self.guard_of(number).map(Guard::new);
                self.rollout = Some(Rollout {
                    release: Rc::new(release),
                    view,
                    deadline,
                    publish: None,
                    guard,
                    verdict: None,
                });
            }
            Err(unusable) => {
                tracing::error!(release = %name, "rollout failed: {}", unusable.words());
                self.counts.rollouts_failed += 1;
                view.state = RolloutState::Failed;
                view.reason = unusable.words();
                self.refused.push((number, view.reason.clone(), false));
                view.ended_unix_ms = Some(unix_ms());
                self.remember(view);
            }
        }
    }

    fn remember(&mut self, view: RolloutView) {
        self.rollouts.push_back(view);
        while self.rollouts.len() > ROLLOUTS_MAX {
            self.rollouts.pop_front();
        }
    }

    fn end_rollout(&mut self, state: RolloutState, reason: String) {
        let Some(Rollout { mut view, .. }) = self.rollout.take() else { return };
        match state {
            RolloutState::Done => {
                self.counts.rollouts_done += 1;
                tracing::info!(release = %view.name, late = view.late.len(), "rollout done");
            }
            _ => {
                self.counts.rollouts_failed += u64::from(state == RolloutState::Failed);
                tracing::error!(release = %view.name, "rollout ended, the release before it serves on: {reason}");
                self.refused.push((view.release, reason.clone(), state == RolloutState::Superseded));
            }
        }
        view.state = state;
        view.reason = reason;
        view.ended_unix_ms = Some(unix_ms());
        self.remember(view);
    }

    /// Takes a rollout one step on, if it may.
    pub(super) fn advance(&mut self) {
        let Some(rollout) = &self.rollout else { return };
        if !rollout.is_before_the_shift() {
            let old = |release: &Rc<Release>| release.number != self.current.number;
            if !self.dynos.iter().any(|dyno| old(&dyno.release)) {
                let late = rollout.view.late.len();
                let words = match late {
                    0 => "every request of the old release was finished".to_owned(),
                    _ => format!("{late} dynos of the old release were ended with requests in flight"),
                };
                let words = rollout.verdict.iter().map(|verdict| format!("{verdict}; ")).chain([words]);
                let words = words.collect();
                self.end_rollout(RolloutState::Done, words);
            }
            return;
        }
        let step = self.judged(rollout);
        let now = Instant::now();
        let late = now >= rollout.deadline;
        let next = Rc::clone(&rollout.release);
        let boot = self.duties.run.boot_timeout;
        let publish = self.publish;
        let guard = rollout.guard.as_ref().filter(|_| matches!(step, Step::Commit));
        if guard.is_some_and(|guard| !guard.is_due(now)) {
            return;
        }
        let looked = guard.map(|_| self.looked());
        let Some(rollout) = &mut self.rollout else { return };
        match step {
            Step::Fail(why) => self.end_rollout(RolloutState::Failed, why),
            Step::Wait(why) if late => {
                let why = format!("not ready within {} s: {why}", boot.as_secs());
                self.end_rollout(RolloutState::Failed, why);
            }
            Step::Wait(why) => rollout.view.reason = why,
            Step::Shift => {
                rollout.view.state = RolloutState::Shifting;
                rollout.view.reason = "the router looks at the new dynos".to_owned();
                // That of the step under way, which places them.
                rollout.publish = Some(publish + 1);
                rollout.deadline = now + boot;
            }
            Step::Back => {
                rollout.view.state = RolloutState::Starting;
                rollout.publish = None;
                rollout.guard.iter_mut().for_each(Guard::step_back);
            }
            Step::Commit => {
                let word = rollout.guard.as_mut().zip(looked).map(|(guard, looked)| guard.look(looked, now));
                rollout.verdict = match word {
                    Some(Word::Back(why)) => {
                        return self.end_rollout(RolloutState::Failed, format!("rolled back: {why}"));
                    }
                    Some(Word::Wait(how)) => {
                        rollout.view.state = RolloutState::Guarding;
                        rollout.view.reason = how;
                        // Its dynos may fall ill for a moment at any time of the trial.
                        rollout.deadline = now + boot;
                        return;
                    }
                    Some(Word::Keep(why)) => Some(why),
                    None => None,
                };
                tracing::info!(release = %next.name, "rollout: the new release serves, the old one drains");
                rollout.view.state = RolloutState::Draining;
                rollout.view.reason = "the old release finishes its requests".to_owned();
                self.current = next;
            }
        }
    }

    fn judged(&self, rollout: &Rollout) -> Step {
        let number = rollout.release.number;
        let wanted = if rollout.release.commands.contains_key(WEB) { self.wanted(WEB) } else { 0 };
        let waits = match self.unready(number, wanted) {
            Err(why) => return Step::Fail(why),
            Ok(_) if wanted == 0 => return Step::Commit,
            Ok(waits) => waits,
        };
        match (waits.is_empty(), rollout.publish) {
            (true, None) => Step::Shift,
            (true, Some(publish)) => self.router_agrees(number, publish, wanted),
            (false, Some(_)) => Step::Back,
            (false, None) => Step::Wait(waits.join("; ")),
        }
    }

    /// Whether the router would send requests to the new dynos.
    fn router_agrees(&self, number: u64, publish: u64, wanted: u32) -> Step {
        if self.published < publish {
            return Step::Wait("not every worker has the new dynos yet".to_owned());
        }
        let statuses = self.statuses();
        if statuses.is_empty() {
            // No route leads there: nobody's requests can be lost.
            return Step::Commit;
        }
        let mut waits = Vec::new();
        for at in 1..=wanted {
            let mine = self.dynos.iter().find(|dyno| {
                dyno.kind == WEB && dyno.number == at && dyno.release.number == number && !dyno.is_leaving()
            });
            let own = mine.and_then(id);
            match statuses.iter().find(|status| Some(&status.id) == own.as_ref()) {
                Some(status) if matches!(status.state, "ready" | "warming") => {}
                Some(status) => waits.push(format!("{WEB}.{at} is {}: {}", status.state, status.reason)),
                None => waits.push(format!("{WEB}.{at} is not in the table")),
            }
        }
        if waits.is_empty() { Step::Commit } else { Step::Wait(waits.join("; ")) }
    }
}
