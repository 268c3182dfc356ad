//! Prequal: the choice among endpoints that have said a moment ago how busy they are.
//!
//! B. Wydrowski et al., "Load is not what you should balance: Introducing Prequal" (NSDI 2024). A pool of the last reports; an
//! endpoint is hot when its requests in hand are above a quantile of what is reported. Of the others the one with the least
//! latency is taken; when all are hot, the one with the fewest requests. Reports come with responses, at no cost, and from
//! endpoints that are asked in the background, drawn by weight, so many for each pick: asking is the router's. A report may be used
//! more than once, as the paper computes it, each time with one more request in hand.
//!
//! Who is in the pool gets the requests, and who gets them reports: so that this is no closed circle, one pick of some goes by
//! `peak_ewma`, and so does one with too few reports. Weights act as in `p2c`: two members are drawn by weight, each is stood for
//! by the best report of an endpoint of the same weight, and the better of the two is taken.
//!
//! The pool is shared by all workers, in words that are read and written one by one: what two workers mix up is one pick that is
//! less good. Endpoints are checked by the caller's view like any draw.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use super::DRAWS;
use super::p2c::{Draw, below};
use super::peak_ewma::{are_alike, sooner};
use super::ready::{Member, View};
use super::silence::Silence;
use crate::cell::load::Load;

/// Reports that are kept.
const REPORTS: usize = 16;
/// Reports are used until then.
const AGE_MAX_MS: u32 = 1_000;
/// Fewer reports than this are no choice.
const REPORTS_MIN: usize = 2;
/// An endpoint is hot above this share of what is reported, in percent. Where endpoints are asked it is the paper's. Reports that come
/// with responses are of endpoints that were good enough to be picked, and busier than others: `loadtest simulate` finds this.
const HOT_PERCENT: (i64, i64) = (99, 84);
/// Parts of a request, in which the threshold is kept: fine enough for a hundredth of a step.
const PARTS: i64 = 1 << 16;
/// Longest latency that a report holds, in microseconds.
const LATENCY_MAX: f32 = 60e6;
/// Most requests that a report holds.
const REQUESTS_MAX: u64 = u16::MAX as u64;
/// One pick of so many goes by `peak_ewma` although there are reports: where reports come with responses only, and where endpoints are
/// asked, for those that do not answer.
const EXPLORES: (u32, u32) = (32, 256);
/// Latencies that differ by less than this factor are alike, and which of them is taken is drawn: routers that see the same reports
/// do not all run to the same endpoint.
const ALIKE: f32 = 1.1;
/// While fewer reports than this share tell of requests in hand, most endpoints are idle, and the one that is drawn by weight is as
/// good as the best report if it answers as quickly: whoever is in the pool would get nearly all else.
const BUSY: f32 = 0.25;
/// What makes hot endpoints dearer than all that are not.
const HOT: f32 = 1e20;
/// What the paper calls delta: how much faster reports come than go.
const SURPLUS: f32 = 1.0;
/// Most uses of one report.
const USES_MAX: f32 = 8.0;
/// Questions that are owed at most, in hundredths.
const OWED_MAX: u32 = 6_400;

/// One report: of whom and when, and what it said. The second word is zero while there is none.
#[derive(Debug, Default)]
struct Slot {
    /// Index in the table's endpoints, and milliseconds.
    from: AtomicU64,
    /// Latency as a float, requests, whether the latency is a guess, uses, weight.
    said: AtomicU64,
}

/// What a slot says, read once.
#[derive(Debug, Clone, Copy)]
struct Report {
    index: u32,
    latency: f32,
    requests: u64,
    /// The endpoint has said nothing of its latency.
    is_guess: bool,
    /// How often it was used.
    uses: u64,
    weight: u64,
    age_ms: u32,
}

impl Slot {
    fn read(&self, now_ms: u32) -> Option<Report> {
        let said = self.said.load(Relaxed);
        if said == 0 {
            return None;
        }
        let from = self.from.load(Relaxed);
        // Signed: another worker's clock was read a moment later. No clock is ahead by more.
        let age = now_ms.wrapping_sub(from as u32).cast_signed();
        if age.unsigned_abs() > AGE_MAX_MS {
            return None;
        }
        Some(Report {
            index: (from >> 32) as u32,
            latency: f32::from_bits((said >> 32) as u32),
            requests: said >> 16 & REQUESTS_MAX,
            is_guess: said >> 15 & 1 == 1,
            uses: said >> 12 & 0x7,
            weight: (said & 0xFFF).max(1),
            age_ms: age.max(0).unsigned_abs(),
        })
    }

    fn write(&self, report: Report) {
        let Report { latency, requests, is_guess, uses, weight, .. } = report;
        let uses = u64::from(is_guess) << 3 | uses.min(0x7);
        let counts = requests.min(REQUESTS_MAX) << 16 | uses << 12 | weight.min(0xFFF);
        self.said.store(u64::from(latency.to_bits()) << 32 | counts, Relaxed);
    }
}

/// What reports are measured by, as of one pick.
#[derive(Debug, Clone, Copy)]
struct Scale {
    now_ms: u32,
    hot_above: u64,
    /// What a millisecond of age adds, as a factor.
    by_age: f32,
}

impl Report {
    /// What it costs to send a request there: the latency, once more for each time that a usual request takes since it was
    /// reported, because others run to what is good. Hot ones come after all others.
    fn cost(&self, scale: Scale) -> f32 {
        if self.requests * PARTS as u64 > scale.hot_above * self.weight {
            return HOT * (1.0 + self.requests as f32 / self.weight as f32);
        }
        self.latency * (1.0 + self.age_ms as f32 * scale.by_age)
    }

    /// Its cost beside an endpoint of another weight: as much as its requests per weight, and this one. Two idle ones of equal
    /// latency tie, whatever their weights.
    fn cost_by_weight(&self, scale: Scale, most: u64) -> f32 {
        let (requests, share) = (self.requests as f32, most as f32 / self.weight as f32);
        // Age aside: who has the greater weight is heard of more often.
        self.cost(Scale { by_age: 0.0, ..scale }) * (requests * share + 1.0) / (requests + 1.0)
    }

    fn member(&self) -> Member {
        Member { index: self.index, weight: self.weight as u32 }
    }
}

/// The last reports of a cluster's endpoints.
#[derive(Debug)]
pub struct Reports {
    slots: [Slot; REPORTS],
    /// Requests per weight above which an endpoint is hot, in parts.
    hot_above: AtomicU32,
    /// What the best reports promised of late, as a float: what an endpoint is taken to need of which nothing is known.
    usual: AtomicU32,
    /// The share of reports that tell of requests in hand, as a float.
    busy: AtomicU32,
    /// How often a report is used, on average.
    uses: f32,
    /// Endpoints to ask for each pick, in hundredths.
    per_pick: u32,
    /// Questions that picks have brought and nobody has taken, in hundredths.
    owed: AtomicU32,
}

/// Whether an endpoint is as quick as a report says of another, by what the router itself knows.
fn is_as_quick(drawn: Member, report: Report, view: View<'_>) -> bool {
    let Some(entry) = view.entry(drawn) else { return false };
    let (_, penalty) = entry.cell.expected_us(view.now_us);
    // As it was, without hope: an endpoint that fades in memory is not sent more because of that.
    let us = entry.cell.latency().map_or(report.latency, |(us, _)| us) + penalty;
    are_alike(report.latency, us * (entry.cell.in_flight() as f32 + 1.0))
}

fn ms(now_us: u64) -> u32 {
    (now_us / 1_000) as u32
}

/// How often the paper uses one report: as often as leaves a little more reports coming than going.
fn uses(endpoints: usize, per_pick: u32) -> f32 {
    if per_pick == 0 {
        return 1.0;
    }
    let new = 1.0 - REPORTS as f32 / endpoints.max(1) as f32;
    let gained = new * per_pick as f32 / 100.0 - 1.0;
    if gained * USES_MAX <= 1.0 + SURPLUS { USES_MAX } else { ((1.0 + SURPLUS) / gained).max(1.0) }
}

impl Reports {
    /// None yet, of so many endpoints, of which so many hundredths are asked for each pick.
    pub(crate) fn new(endpoints: usize, per_pick: u32) -> Self {
        Self {
            slots: Default::default(),
            hot_above: AtomicU32::default(),
            usual: AtomicU32::default(),
            busy: AtomicU32::default(),
            uses: uses(endpoints, per_pick),
            per_pick,
            owed: AtomicU32::default(),
        }
    }

    /// Takes in a report that was made at `at_us`. A later one of the same endpoint replaces the earlier; else the oldest goes.
    /// One that is known late, with the end of a long response, replaces nothing that is newer, and says nothing after its life.
    pub(crate) fn take_in(&self, index: u32, weight: u16, load: Load, (at_us, now_us): (u64, u64)) {
        let (at, now) = (ms(at_us), ms(now_us));
        let usual = self.usual();
        let requests = u64::from(load.requests).min(REQUESTS_MAX);
        let is_guess = load.latency_us == 0;
        let latency = if is_guess { usual * (requests as f32 + 1.0) } else { load.latency_us as f32 };
        let latency = latency.min(LATENCY_MAX);
        if latency == 0.0 || now_us.saturating_sub(at_us) > u64::from(AGE_MAX_MS) * 1_000 {
            return;
        }
        let weight = u64::from(weight.max(1));
        self.learn_threshold(requests as i64 * PARTS / weight as i64);
        let busy = f32::from_bits(self.busy.load(Relaxed));
        let now_busy = if load.requests > 0 { 1.0 } else { 0.0 };
        self.busy.store((busy + (now_busy - busy) / 64.0).to_bits(), Relaxed);
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
            slot.write(Report { index, latency, requests, is_guess, uses: 0, weight, age_ms: 0 });
        }
    }

    /// Moves the threshold towards the quantile: up in that many cases of a hundred, down in the others, as far as brings it to rest.
    fn learn_threshold(&self, parts: i64) {
        let percent = if self.per_pick == 0 { HOT_PERCENT.0 } else { HOT_PERCENT.1 };
        let now = i64::from(self.hot_above.load(Relaxed));
        let step = PARTS / 8 + now / 16;
        let moved = if parts > now { step * percent / 100 } else { -(step * (100 - percent) / 100) };
        let next = (now + moved).clamp(0, i64::from(u32::MAX));
        self.hot_above.store(next as u32, Relaxed);
    }

    /// Endpoints that are to be asked now, at most so many: picks have brought them since the last call. What cannot be asked at
    /// once is not asked later, when it would say what is known.
    pub(crate) fn take_owed(&self, most: u32) -> u32 {
        let owed = self.owed.load(Relaxed);
        if owed < 100 {
            return 0;
        }
        let count = owed / 100;
        self.owed.fetch_sub(count * 100, Relaxed);
        count.min(most)
    }

    fn owe(&self) {
        if self.per_pick > 0 && self.owed.load(Relaxed) < OWED_MAX {
            self.owed.fetch_add(self.per_pick, Relaxed);
        }
    }

    /// The best of those that have reported and may get the attempt; none when too few have, and now and then. An endpoint that says
    /// nothing of itself keeps its part: where it is drawn, what the router knows decides.
    pub(super) fn choose(
        &self,
        draw: &Draw,
        members: &[Member],
        view: View<'_>,
        (silence, random): (Option<&Silence>, &mut dyn FnMut() -> u64),
    ) -> Option<Member> {
        self.owe();
        let bits = random();
        let one_of = if self.per_pick == 0 { EXPLORES.0 } else { EXPLORES.1 };
        if below(one_of as usize, (bits >> 32) as u32) == 0 {
            return None;
        }
        let Some(silence) = silence.filter(|silence| silence.is_any()) else {
            return self.by_reports(draw, members, view, (bits, random));
        };
        let drawn = *members.get(draw.place(members, random))?;
        if !silence.is_silent(drawn.index)
            && let Some(chosen) = self.by_reports(draw, members, view, (bits, random))
        {
            return Some(chosen);
        }
        let other = *members.get(draw.place(members, random))?;
        Some(sooner(drawn, other, view)).filter(|member| view.eligible(*member))
    }

    /// The best of those that have reported and may get the attempt; none when too few have.
    fn by_reports(
        &self,
        draw: &Draw,
        members: &[Member],
        view: View<'_>,
        (bits, random): (u64, &mut dyn FnMut() -> u64),
    ) -> Option<Member> {
        let scale = Scale {
            now_ms: ms(view.now_us),
            hot_above: u64::from(self.hot_above.load(Relaxed)),
            by_age: 1_000.0 / self.usual().max(1.0),
        };
        if f32::from_bits(self.busy.load(Relaxed)) < BUSY {
            let drawn = *members.get(draw.place(members, random))?;
            let (_, best) = self.best(scale, None, bits as u32, (REPORTS_MIN, 0))?;
            if self.says_no_worse(drawn, best, scale)
                && is_as_quick(drawn, best, view)
                && view.eligible(drawn)
            {
                return Some(drawn);
            }
        }
        match draw.pair(members, random) {
            None => self.best_of_all(scale, view, bits as u32),
            Some(pair) => self.better_of(pair, scale, view, bits as u32),
        }
    }

    /// Whether an endpoint has not said of itself that it is worse than another.
    fn says_no_worse(&self, drawn: Member, best: Report, scale: Scale) -> bool {
        let mut reports = self.slots.iter().filter_map(|slot| slot.read(scale.now_ms));
        let said = reports.find(|report| report.index == drawn.index);
        said.is_none_or(|said| are_alike(best.latency, said.latency))
    }

    /// Where all weights are equal.
    fn best_of_all(&self, scale: Scale, view: View<'_>, bits: u32) -> Option<Member> {
        let mut passed_over = 0;
        for _ in 0..DRAWS {
            let (at, report) = self.best(scale, None, bits, (REPORTS_MIN, passed_over))?;
            let slot = self.slots.get(at)?;
            if view.eligible(report.member()) {
                self.use_up(slot, report, bits);
                return Some(report.member());
            }
            // One that is not ready is so for all. One that was tried, warms up, or has its slots full may be the next one's.
            if !view.is_ready(report.member()) {
                slot.said.store(0, Relaxed);
            }
            passed_over |= 1 << at;
        }
        None
    }

    /// Each of two is stood for by the best report of its weight, or by itself where there is none; the better of the two, and the
    /// first where they are alike.
    fn better_of(&self, (a, b): (Member, Member), scale: Scale, view: View<'_>, bits: u32) -> Option<Member> {
        let of = |weight: u32| self.best(scale, Some(u64::from(weight)), bits, (1, 0));
        let of_a = of(a.weight);
        let of_b = if b.weight == a.weight { of_a } else { of(b.weight) };
        let standing = |of: Option<(usize, Report)>, drawn: Member| of.map_or(drawn, |one| one.1.member());
        let (for_a, for_b) = (standing(of_a, a), standing(of_b, b));
        let is_first = match (of_a, of_b) {
            (Some((_, of_a)), Some((_, of_b))) => {
                let most = u64::from(a.weight.max(b.weight));
                of_b.cost_by_weight(scale, most) * ALIKE >= of_a.cost_by_weight(scale, most)
            }
            _ => sooner(for_a, for_b, view) == for_a,
        };
        let (first, second) =
            if is_first { ((of_a, for_a), (of_b, for_b)) } else { ((of_b, for_b), (of_a, for_a)) };
        for (reported, member) in [first, second] {
            if !view.eligible(member) {
                continue;
            }
            if let Some((at, report)) = reported
                && let Some(slot) = self.slots.get(at)
            {
                self.use_up(slot, report, bits);
            }
            return Some(member);
        }
        None
    }

    fn usual(&self) -> f32 {
        f32::from_bits(self.usual.load(Relaxed))
    }

    /// One report, one pick, or some more: then with this request in hand.
    fn use_up(&self, slot: &Slot, report: Report, bits: u32) {
        // A guess comes from what is usual: taken for news it would lead that away from all that is known.
        if !report.is_guess {
            let usual = self.usual();
            let usual = if usual == 0.0 { report.latency } else { usual + (report.latency - usual) / 16.0 };
            self.usual.store(usual.to_bits(), Relaxed);
        }
        // Whole uses, and one more in as many cases as the rest says.
        let grain = (bits & 0xFFFF) as f32 / 65_536.0;
        if ((report.uses + 1) as f32) < (self.uses + grain).floor() {
            let requests = report.requests as f32;
            let latency = report.latency * (requests + 2.0) / (requests + 1.0);
            slot.write(Report { latency, requests: report.requests + 1, uses: report.uses + 1, ..report });
        } else {
            slot.said.store(0, Relaxed);
        }
    }

    /// One of the best, of this weight where one is asked for, with its place; none when there are fewer than `least`. Those whose bit
    /// is set in `passed_over` are counted and not taken.
    fn best(
        &self,
        scale: Scale,
        weight: Option<u64>,
        bits: u32,
        (least, passed_over): (usize, u32),
    ) -> Option<(usize, Report)> {
        let mut costs = [f32::INFINITY; REPORTS];
        let (mut count, mut lowest) = (0, f32::INFINITY);
        for (at, (slot, place)) in self.slots.iter().zip(&mut costs).enumerate() {
            let Some(report) = slot.read(scale.now_ms) else { continue };
            if weight.is_none_or(|weight| weight == report.weight) {
                count += 1;
                if passed_over >> at & 1 == 0 {
                    *place = report.cost(scale);
                    lowest = lowest.min(*place);
                }
            }
        }
        if count < least || lowest == f32::INFINITY {
            return None;
        }
        let most = if lowest < HOT { lowest * ALIKE } else { lowest };
        let alike = costs.iter().filter(|cost| **cost <= most).count();
        let mut skip = below(alike, bits);
        for (at, (slot, cost)) in self.slots.iter().zip(costs).enumerate() {
            if cost <= most {
                if skip == 0 {
                    return Some((at, slot.read(scale.now_ms)?));
                }
                skip -= 1;
            }
        }
        None
    }
}

#[cfg(test)]
mod shares;
#[cfg(test)]
mod tests;
