//! The ready set: a dense index of the endpoints of a cluster that were ready when it was built, with their weights
//! folded into how they are drawn.
//!
//! Immutable. Rebuilt off the workers when readiness changes; loaded once per attempt.

use std::sync::atomic::AtomicU32;

use ekiden_config::model::Balance;

use super::layout::Layout;
use super::least_request;
use super::p2c::{Draw, less_loaded};
use super::parts::{self, Parts};
use super::peak_ewma;
use super::prequal::Reports;
use super::round_robin::Order;
use super::silence::Silence;
use super::{Attempt, DRAWS, Pick};
use crate::cell::{BARRED, EJECTED, TRIAL};
use crate::cluster::EndpointEntry;
use crate::readiness::State;

/// One ready endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Index in the cluster's endpoints.
    pub index: u32,
    /// Its weight, at least 1.
    pub weight: u32,
}

#[derive(Debug)]
enum Chooser {
    P2c(Draw),
    RoundRobin(Order),
    LeastRequest(Draw),
    Random(Draw),
    PeakEwma(Draw),
    Prequal(Draw),
}

/// The ready endpoints of a cluster.
#[derive(Debug)]
pub struct ReadySet {
    members: Box<[Member]>,
    chooser: Chooser,
    first_check_pending: bool,
    /// What keeps an endpoint from a request: in panic an ejection does not.
    barred: u32,
    /// Some member had less than its share when the set was built.
    is_warming: bool,
    /// Sum of the weights.
    weight: u64,
    /// How requests are shared out among groups of the members; none where these are one group.
    parts: Option<Box<Parts>>,
}

/// What picks of a cluster share from one ready set to the next.
#[derive(Debug, Clone, Copy)]
pub struct Shared<'a> {
    /// The turn of round robin.
    pub cursor: &'a AtomicU32,
    /// The same of each group, where there are groups.
    pub cursors: &'a [AtomicU32],
    /// What endpoints said of their load; none where nobody asks.
    pub reports: Option<&'a Reports>,
    /// The reports of each group, where there are groups.
    pub of_groups: &'a [Reports],
    /// Who says nothing of it; none where nobody asks.
    pub silence: Option<&'a Silence>,
}

impl<'a> From<&'a AtomicU32> for Shared<'a> {
    fn from(cursor: &'a AtomicU32) -> Self {
        Self { cursor, cursors: &[], reports: None, of_groups: &[], silence: None }
    }
}

/// What one attempt knows: the endpoints with their cells, and which were tried.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) endpoints: &'a [EndpointEntry],
    pub(super) tried: &'a [u32],
    pub(super) now_us: u64,
    barred: u32,
    /// A warming endpoint takes the attempt when this is within its share.
    grain: u32,
}

impl<'a> View<'a> {
    /// The endpoint of a member.
    #[inline]
    pub(super) fn entry(&self, member: Member) -> Option<&'a EndpointEntry> {
        self.endpoints.get(member.index as usize)
    }

    /// Whether the member may get this attempt now.
    #[inline]
    pub(super) fn eligible(&self, member: Member) -> bool {
        !self.tried.contains(&member.index)
            && self.entry(member).is_some_and(|entry| entry.cell.takes_now(self.barred, self.grain))
    }

    /// Whether the member may get requests at all, be it not this one.
    #[inline]
    pub(super) fn is_ready(&self, member: Member) -> bool {
        self.entry(member).is_some_and(|entry| entry.cell.takes(self.barred, 0))
    }

    /// Requests the member is serving now.
    #[inline]
    pub(super) fn in_flight(&self, member: Member) -> u64 {
        self.entry(member).map_or(0, |entry| u64::from(entry.cell.in_flight()))
    }
}

impl ReadySet {
    /// Builds the set from the cells as they are now. When fewer than `panic_threshold` percent of those that checks and
    /// control admit are not ejected, or none is, the ejected ones are members too. O(endpoints).
    pub fn new(endpoints: &[EndpointEntry], balance: Balance, panic_threshold: u8) -> Self {
        Self::of(endpoints, balance, barred(endpoints, panic_threshold), every(endpoints))
    }

    /// As [`ReadySet::new`], without panic: an ejected endpoint is never a member. O(endpoints).
    pub fn strict(endpoints: &[EndpointEntry], balance: Balance) -> Self {
        Self::of(endpoints, balance, BARRED, every(endpoints))
    }

    /// As [`ReadySet::new`], shared out among groups. No panic while the groups can take everything without the ejected ones.
    pub(crate) fn laid_out(
        endpoints: &[EndpointEntry],
        balance: Balance,
        panic_threshold: u8,
        layout: &Layout,
    ) -> Self {
        let is_enough = layout.has_priorities() && parts::absorbs(endpoints, layout);
        let barred = if is_enough { BARRED } else { barred(endpoints, panic_threshold) };
        let mut this = Self::of(endpoints, balance, barred, every(endpoints));
        this.parts = Parts::new(endpoints, layout, balance, barred).map(Box::new);
        this
    }

    /// The set of those endpoints that are named, in the order of their indexes.
    pub(super) fn of(
        endpoints: &[EndpointEntry],
        balance: Balance,
        barred: u32,
        indexes: impl Iterator<Item = u32>,
    ) -> Self {
        let (mut first_check_pending, mut is_warming) = (false, false);
        let mut members = Vec::new();
        for (index, entry) in indexes.filter_map(|index| Some((index, endpoints.get(index as usize)?))) {
            if entry.cell.takes(barred, 0) {
                members.push(Member { index, weight: u32::from(entry.endpoint.weight.max(1)) });
                is_warming |= entry.cell.is_warming();
            } else {
                first_check_pending |= entry.cell.first_check_pending();
            }
        }
        let chooser = match balance {
            Balance::P2c => Chooser::P2c(Draw::new(&members)),
            Balance::RoundRobin => Chooser::RoundRobin(Order::new(&members)),
            Balance::LeastRequest => Chooser::LeastRequest(Draw::new(&members)),
            Balance::Random => Chooser::Random(Draw::new(&members)),
            Balance::PeakEwma => Chooser::PeakEwma(Draw::new(&members)),
            Balance::Prequal => Chooser::Prequal(Draw::new(&members)),
        };
        if balance.is_timed() {
            peak_ewma::seed(&members, endpoints);
        }
        let weight = members.iter().map(|member| u64::from(member.weight)).sum();
        Self {
            weight,
            members: members.into(),
            chooser,
            first_check_pending,
            barred,
            is_warming,
            parts: None,
        }
    }

    /// The share of the requests that each group gets, by its number, with those that it is shared out among; none where there are no
    /// groups.
    pub(crate) fn shares(&self) -> Option<Vec<(u32, f64, &ReadySet)>> {
        self.parts.as_ref().map(|parts| parts.shares().collect())
    }

    /// Whether an endpoint is a member.
    pub(crate) fn has(&self, index: u32) -> bool {
        self.members.binary_search_by_key(&index, |member| member.index).is_ok()
    }

    /// What keeps an endpoint from a request.
    pub(crate) fn barred(&self) -> u32 {
        self.barred
    }

    /// Whether some member had less than its share when the set was built.
    pub(crate) fn is_warming(&self) -> bool {
        self.is_warming
    }

    /// Sum of the members' weights.
    pub(crate) fn weight(&self) -> u64 {
        self.weight
    }

    /// Whether ejected endpoints are members, because too few others are ready.
    pub fn is_panic(&self) -> bool {
        self.barred & EJECTED == 0
    }

    /// Endpoints in the set.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether a first check was outstanding when the set was built.
    pub fn first_check_pending(&self) -> bool {
        self.first_check_pending
    }

    /// Chooses a member; see [`crate::cluster::ClusterTable::pick`].
    pub fn pick<'a>(
        &self,
        endpoints: &[EndpointEntry],
        attempt: Attempt<'_>,
        shared: impl Into<Shared<'a>>,
        random: &mut dyn FnMut() -> u64,
    ) -> Pick {
        let Attempt { tried, now_us, .. } = attempt;
        let view = View { endpoints, tried, now_us, barred: self.barred, grain: 0 };
        if self.members.is_empty() {
            return Pick::NoneReady;
        }
        // One ready endpoint is by far the most common cluster of an ambassador: no randomness, no shared cursor.
        if let [only] = *self.members {
            return if view.eligible(only) { Pick::Endpoint(only.index) } else { self.none(view) };
        }
        let mut shared = shared.into();
        if let Some(parts) = &self.parts {
            if let Some(index) = parts.pick(endpoints, attempt, shared, random) {
                return Pick::Endpoint(index);
            }
            // Those of the groups are the ones that are filled.
            shared.reports = None;
        }
        if self.is_warming
            && let Some(index) = self.spare_the_warming(view, attempt.may_repeat, shared, random)
        {
            return Pick::Endpoint(index);
        }
        let chosen = self.draw(view, shared, random).or_else(|| self.scan(view, random));
        chosen.map_or_else(|| self.none(view), Pick::Endpoint)
    }

    /// As any draw, but an endpoint that is warming is passed over in proportion to what it lacks, and one that comes back
    /// from an ejection by every request that may not be sent twice.
    #[cold]
    fn spare_the_warming(
        &self,
        view: View<'_>,
        may_repeat: bool,
        shared: Shared<'_>,
        random: &mut dyn FnMut() -> u64,
    ) -> Option<u32> {
        let barred = if may_repeat { self.barred } else { self.barred | TRIAL };
        let grain = (random() >> 32) as u32;
        let drawn = self.draw(View { barred, grain, ..view }, shared, random);
        // No scan for a grain: where all are warming it would pass all of them over, at the cost of each.
        drawn.or_else(|| if may_repeat { None } else { self.scan(View { barred, ..view }, random) })
    }

    /// Draws a few times.
    fn draw(&self, view: View<'_>, shared: Shared<'_>, random: &mut dyn FnMut() -> u64) -> Option<u32> {
        for _ in 0..DRAWS {
            let drawn = match &self.chooser {
                Chooser::P2c(draw) => draw.choose(&self.members, view, random, less_loaded),
                Chooser::RoundRobin(order) => order.choose(&self.members, view, shared.cursor),
                Chooser::LeastRequest(draw) => least_request::choose(draw, &self.members, view, random),
                Chooser::Random(draw) => {
                    let drawn = self.members.get(draw.place(&self.members, random)).copied();
                    drawn.filter(|member| view.eligible(*member))
                }
                Chooser::PeakEwma(draw) => peak_ewma::choose(draw, &self.members, view, random),
                Chooser::Prequal(draw) => {
                    let known = shared.reports.and_then(|reports| {
                        reports.choose(draw, &self.members, view, (shared.silence, random))
                    });
                    known.or_else(|| peak_ewma::choose(draw, &self.members, view, random))
                }
            };
            if let Some(member) = drawn {
                return Some(member.index);
            }
        }
        None
    }

    /// One drawn in proportion to weight, and where there are groups in proportion to their shares; none when the set is empty.
    pub(crate) fn drawn(&self, random: &mut dyn FnMut() -> u64) -> Option<u32> {
        if let Some(parts) = &self.parts {
            return parts.drawn(random);
        }
        let place = match &self.chooser {
            Chooser::P2c(draw)
            | Chooser::LeastRequest(draw)
            | Chooser::Random(draw)
            | Chooser::PeakEwma(draw)
            | Chooser::Prequal(draw) => draw.place(&self.members, random),
            Chooser::RoundRobin(_) => super::p2c::below(self.members.len(), (random() >> 32) as u32),
        };
        self.members.get(place).map(|member| member.index)
    }

    /// Walks the whole set (not empty) once from a random place and takes the less loaded of the first two that are eligible.
    fn scan(&self, view: View<'_>, random: &mut dyn FnMut() -> u64) -> Option<u32> {
        let start = super::p2c::below(self.members.len(), (random() >> 32) as u32);
        let (head, tail) = self.members.split_at_checked(start).unwrap_or((&[], &self.members));
        let mut eligible = tail.iter().chain(head).copied().filter(|member| view.eligible(*member));
        match (eligible.next(), eligible.next()) {
            (Some(a), Some(b)) => Some(less_loaded(a, b, view).index),
            (Some(only), None) => Some(only.index),
            (None, _) => None,
        }
    }

    /// Nothing is left: either what was tried is all that is ready, or nothing is.
    fn none(&self, view: View<'_>) -> Pick {
        let all = View { tried: &[], ..view };
        if self.members.iter().any(|member| all.eligible(*member)) {
            Pick::Exhausted
        } else {
            Pick::NoneReady
        }
    }
}

fn every(endpoints: &[EndpointEntry]) -> impl Iterator<Item = u32> {
    (0u32..).zip(endpoints).map(|(index, _)| index)
}

/// What keeps an endpoint from the set. Endpoints that fail their checks count as not ready; those that start, drain or are
/// gone do not count.
fn barred(endpoints: &[EndpointEntry], panic_threshold: u8) -> u32 {
    let (mut ready, mut ejected, mut failing) = (0usize, 0, 0);
    for entry in endpoints {
        match entry.cell.standing() {
            State::Ready | State::Warming => ready += 1,
            State::Ejected => ejected += 1,
            State::Failing => failing += 1,
            State::Starting | State::Draining | State::Gone => {}
        }
    }
    let all = ready + ejected + failing;
    let is_panic = ejected > 0 && (ready == 0 || ready * 100 < all * usize::from(panic_threshold));
    if is_panic { BARRED & !EJECTED } else { BARRED }
}

#[cfg(test)]
mod tests;
