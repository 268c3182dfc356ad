//! Prequal: the choice among endpoints that have said a moment ago how busy they are.
//!
//! B. Wydrowski et al., "Load is not what you should balance: Introducing Prequal" (NSDI 2024). A pool of the last reports; an
//! endpoint is hot when its requests in hand are above a quantile of what is reported. Of the others the one with the least
//! latency is taken; when all are hot, the one with the fewest requests. Here reports come with responses, at no cost, and each is
//! used once: an endpoint reports when it has just become less busy, and to one router only, so that routers do not run after the
//! same one. With too few reports the pick is the one of `peak_ewma`.
//!
//! The pool is shared by all workers, in words that are read and written one by one: what two workers mix up is one pick that is
//! less good. Endpoints are checked by the caller's view like any draw.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use super::DRAWS;
use super::ready::{Member, View};
use crate::cell::load::Load;

/// Reports that are kept.
const REPORTS: usize = 16;
/// Reports are used until then.
const AGE_MAX_MS: u32 = 1_000;
/// Fewer reports than this are no choice.
const REPORTS_MIN: usize = 2;
/// An endpoint is hot above this share of what is reported, in percent. The paper finds 84 for endpoints that work on many
/// requests at once; the latency of those that do not already tells of the requests before, and `loadtest simulate` finds this.
const HOT_PERCENT: i64 = 99;
/// Parts of a request, in which the threshold is kept: fine enough for a hundredth of a step.
const PARTS: i64 = 1 << 16;
/// Most requests that a report holds.
const REQUESTS_MAX: u64 = u16::MAX as u64;

/// One report: of whom and when, and what it said. The second word is zero while there is none.
#[derive(Debug, Default)]
struct Slot {
    /// Index in the table's endpoints, and milliseconds.
    from: AtomicU64,
    /// Latency as a float, requests, weight.
    said: AtomicU64,
}

/// What a slot says, read once.
#[derive(Debug, Clone, Copy)]
struct Report {
    index: u32,
    latency: f32,
    requests: u64,
    weight: u64,
}

impl Slot {
    fn read(&self, now_ms: u32) -> Option<Report> {
        let said = self.said.load(Relaxed);
        if said == 0 {
            return None;
        }
        let from = self.from.load(Relaxed);
        // Signed: another worker's clock was read a moment later. No clock is ahead by more.
        if now_ms.wrapping_sub(from as u32).cast_signed().unsigned_abs() > AGE_MAX_MS {
            return None;
        }
        Some(Report {
            index: (from >> 32) as u32,
            latency: f32::from_bits((said >> 32) as u32),
            requests: said >> 16 & REQUESTS_MAX,
            weight: (said & 0xFFFF).max(1),
        })
    }

    fn write(&self, report: Report) {
        let Report { latency, requests, weight, .. } = report;
        let said = u64::from(latency.to_bits()) << 32 | requests.min(REQUESTS_MAX) << 16 | weight.min(0xFFFF);
        self.said.store(said, Relaxed);
    }
}

/// The last reports of a cluster's endpoints.
#[derive(Debug, Default)]
pub struct Reports {
    slots: [Slot; REPORTS],
    /// Requests per weight above which an endpoint is hot, in parts.
    hot_above: AtomicU32,
}

fn ms(now_us: u64) -> u32 {
    (now_us / 1_000) as u32
}

impl Reports {
    /// Takes in a report that was made at `at_us`. A later one of the same endpoint replaces the earlier; else the oldest goes.
    /// One that is known late, with the end of a long response, replaces nothing that is newer, and says nothing after its life.
    pub(crate) fn take_in(&self, index: u32, weight: u16, load: Load, (at_us, now_us): (u64, u64)) {
        let (at, now) = (ms(at_us), ms(now_us));
        if load.latency_us == 0 || now_us.saturating_sub(at_us) > u64::from(AGE_MAX_MS) * 1_000 {
            return;
        }
        let weight = u64::from(weight.max(1));
        self.learn_threshold(i64::from(load.requests) * PARTS / weight as i64);
        let mut place = None;
        // Places that are free come first, and none that is newer than the report is taken.
        let mut oldest = -1;
        for slot in &self.slots {
            let from = slot.from.load(Relaxed);
            let is_free = slot.read(now).is_none();
            let age = if is_free { i32::MAX } else { at.wrapping_sub(from as u32).cast_signed() };
            if (from >> 32) as u32 == index && !is_free {
                place = Some(slot).filter(|_| age >= 0);
                break;
            }
            if age > oldest {
                (place, oldest) = (Some(slot), age);
            }
        }
        if let Some(slot) = place {
            slot.from.store(u64::from(index) << 32 | u64::from(at), Relaxed);
            let latency = load.latency_us as f32;
            slot.write(Report { index, latency, requests: u64::from(load.requests), weight });
        }
    }

    /// Moves the threshold towards the quantile: up in that many cases of a hundred, down in the others, as far as brings it to rest.
    fn learn_threshold(&self, parts: i64) {
        let now = i64::from(self.hot_above.load(Relaxed));
        let step = PARTS / 8 + now / 16;
        let moved = if parts > now { step * HOT_PERCENT / 100 } else { -(step * (100 - HOT_PERCENT) / 100) };
        let next = (now + moved).clamp(0, i64::from(u32::MAX));
        self.hot_above.store(next as u32, Relaxed);
    }

    /// The best of those that have reported and may get the attempt; none when too few have.
    pub(super) fn choose(&self, view: View<'_>) -> Option<Member> {
        let now = ms(view.now_us);
        for _ in 0..DRAWS {
            let (slot, report) = self.best(now)?;
            let member = Member { index: report.index, weight: report.weight as u32 };
            // One report, one pick; and one that may not get it may not for the next either.
            slot.said.store(0, Relaxed);
            if view.eligible(member) {
                return Some(member);
            }
        }
        None
    }

    fn best(&self, now: u32) -> Option<(&Slot, Report)> {
        let hot_above = u64::from(self.hot_above.load(Relaxed));
        let mut count = 0;
        let mut best: Option<(&Slot, Report, (bool, f32))> = None;
        for slot in &self.slots {
            let Some(report) = slot.read(now) else { continue };
            count += 1;
            let is_hot = report.requests * PARTS as u64 > hot_above * report.weight;
            let cost = if is_hot { report.requests as f32 } else { report.latency } / report.weight as f32;
            let rank = (is_hot, cost);
            if best.as_ref().is_none_or(|(_, _, least)| rank < *least) {
                best = Some((slot, report, rank));
            }
        }
        best.filter(|_| count >= REPORTS_MIN).map(|(slot, report, _)| (slot, report))
    }
}

#[cfg(test)]
mod tests;
