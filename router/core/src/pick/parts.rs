//! Parts of a ready set: what share of the requests each group of endpoints gets, and the pick among them.
//!
//! Priorities as in Envoy: a group is as healthy as 1.4 times its ready part, so that it keeps all requests until less than 71.4 %
//! of it are ready; what it cannot take goes to the next ("overprovisioning factor", `arch_overview/upstream/load_balancing/priority`).
//! Zones as in Envoy too (`zone_aware`): every zone's routers bring in a share of all requests, and a zone keeps for its own
//! endpoints what these are of the cluster's ready capacity; what is more spills to the other zones in proportion to what those
//! have to spare, so that every endpoint has the same load when each router does this. All shares go by ready weight, and a warming
//! endpoint counts by its part of it: there is no step on the way back. They are computed when the set is built; a pick draws the
//! part, then picks in it as ever.

use ekiden_config::model::Balance;

use super::layout::{Group, Layout, PRIORITIES, ZoneKind};
use super::ready::{ReadySet, Shared};
use super::{Attempt, Pick};
use crate::cell::{BARRED, EndpointCell, TRIAL};
use crate::cluster::EndpointEntry;
use crate::readiness::State;

/// How much more than its part a priority group can take: Envoy's default, the field's standard.
const OVERPROVISIONING: f64 = 1.4;
/// Shares below this are none.
const LEAST: f64 = 1e-9;

/// One group's part of the requests.
#[derive(Debug)]
pub(super) struct Part {
    group: u32,
    share: f64,
    set: ReadySet,
}

/// The parts of a ready set.
#[derive(Debug)]
pub(super) struct Parts {
    parts: Box<[Part]>,
    /// Where the share of each part ends, of 2^32.
    ends: Box<[u32]>,
    /// The members of each priority, for requests for which their part has nothing; empty where all have the same.
    priorities: Box<[ReadySet]>,
}

/// The ready capacity of one group.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Capacity {
    /// Weight of all endpoints that could be ready: not those that start, drain or are gone.
    pub(super) all: f64,
    /// Weight of those that checks and evidence admit.
    pub(super) ready: f64,
    /// As `ready`, with those that are served in panic.
    pub(super) served: f64,
}

impl Parts {
    /// The parts of a set that is built from the same cells. None where nothing is ready. O(endpoints).
    pub(super) fn new(
        endpoints: &[EndpointEntry],
        layout: &Layout,
        balance: Balance,
        barred: u32,
    ) -> Option<Self> {
        let shares = shares(layout, &capacities(endpoints, layout, barred));
        let mut parts = Vec::new();
        for (group, share) in (0u32..).zip(shares) {
            if share > LEAST {
                let set = group_set(endpoints, layout, group, (balance, barred));
                parts.push(Part { group, share, set });
            }
        }
        let mut sum = 0.0;
        let mut ends: Box<[u32]> = parts
            .iter()
            .map(|part| {
                sum += part.share;
                (sum * 4_294_967_296.0).min(f64::from(u32::MAX)) as u32
            })
            .collect();
        // The last takes what rounding left.
        *ends.last_mut()? = u32::MAX;
        let priorities = priorities(endpoints, layout, (balance, barred));
        Some(Self { parts: parts.into(), ends, priorities })
    }

    /// Draws a part and picks in it. Where that has nothing for this attempt, because all in it were tried or are full, the first
    /// priority that has something takes it; none where there are no priorities.
    #[inline]
    pub(super) fn pick(
        &self,
        endpoints: &[EndpointEntry],
        attempt: Attempt<'_>,
        shared: Shared<'_>,
        random: &mut dyn FnMut() -> u64,
    ) -> Option<u32> {
        let part = self.part(random)?;
        let reports = shared.of_groups.get(part.group as usize).or(shared.reports);
        // Its own turn of round robin: a shared one would be moved on by the picks of others.
        let cursor = shared.cursors.get(part.group as usize).unwrap_or(shared.cursor);
        let shared = Shared { cursor, cursors: &[], reports, of_groups: &[], silence: shared.silence };
        if let Some(index) = pick_in(&part.set, endpoints, attempt, shared, random) {
            return Some(index);
        }
        let shared = Shared { cursor: shared.cursor, reports: None, ..shared };
        self.priorities.iter().find_map(|set| pick_in(set, endpoints, attempt, shared, random))
    }

    /// Draws a part by the shares.
    #[inline]
    fn part(&self, random: &mut dyn FnMut() -> u64) -> Option<&Part> {
        match &*self.parts {
            [only] => Some(only),
            parts => {
                let drawn = (random() >> 32) as u32;
                parts.get(self.ends.partition_point(|end| *end < drawn))
            }
        }
    }

    /// One drawn by the shares, then in proportion to weight.
    pub(super) fn drawn(&self, random: &mut dyn FnMut() -> u64) -> Option<u32> {
        self.part(random)?.set.drawn(random)
    }

    /// The share of each group now; those without a part have none.
    pub(super) fn shares(&self) -> impl Iterator<Item = (u32, f64, &ReadySet)> {
        self.parts.iter().map(|part| (part.group, part.share, &part.set))
    }
}

/// Picks in one set among others.
#[inline]
fn pick_in(
    set: &ReadySet,
    endpoints: &[EndpointEntry],
    attempt: Attempt<'_>,
    shared: Shared<'_>,
    random: &mut dyn FnMut() -> u64,
) -> Option<u32> {
    let Pick::Endpoint(index) = set.pick(endpoints, attempt, shared, random) else { return None };
    // Its only one may come back from an ejection while other sets have others.
    let is_spared = !attempt.may_repeat
        && set.is_warming()
        && endpoints.get(index as usize).is_some_and(|entry| !entry.cell.takes(TRIAL, 0));
    (!is_spared).then_some(index)
}

/// The members of each priority, in their order; none where all endpoints have the same.
fn priorities(endpoints: &[EndpointEntry], layout: &Layout, how: (Balance, u32)) -> Box<[ReadySet]> {
    if !layout.has_priorities() {
        return Box::default();
    }
    let mut all: Vec<(u8, Vec<u32>)> = Vec::new();
    for (number, group) in (0u32..).zip(layout.groups()) {
        let members = layout.members(number);
        match all.last_mut().filter(|(priority, _)| *priority == group.priority) {
            Some((_, list)) => list.extend_from_slice(members),
            None => all.push((group.priority, members.to_vec())),
        }
    }
    let sets = all.into_iter().map(|(_, mut members)| {
        // A set finds its members by their order.
        members.sort_unstable();
        ReadySet::of(endpoints, how.0, how.1, members.into_iter())
    });
    sets.collect()
}

/// The members of a group: those of the subset, or all where fewer than half of the subset are ready. The few that are left
/// would get everything that this router sends, while those of other routers are idle.
fn group_set(
    endpoints: &[EndpointEntry],
    layout: &Layout,
    group: u32,
    (balance, barred): (Balance, u32),
) -> ReadySet {
    let all = || layout.members(group).iter().copied();
    let held = || all().filter(|at| layout.holds(*at));
    let set = ReadySet::of(endpoints, balance, barred, held());
    let could = held().filter(|at| endpoints.get(*at as usize).is_some_and(could_be_ready)).count();
    if set.len() * 2 < could.max(1) { ReadySet::of(endpoints, balance, barred, all()) } else { set }
}

/// Whether only checks or evidence keep it from requests, if anything does.
fn could_be_ready(entry: &EndpointEntry) -> bool {
    match entry.cell.standing() {
        State::Ready | State::Warming | State::Ejected | State::Failing => true,
        State::Starting | State::Draining | State::Gone => false,
    }
}

fn weight(entry: &EndpointEntry) -> f64 {
    f64::from(entry.endpoint.weight.max(1))
}

/// What an endpoint can take of its share: all, or the part that it has warmed up to.
fn ramped(cell: &EndpointCell) -> f64 {
    if cell.is_warming() { cell.ramp() } else { 1.0 }
}

fn capacities(endpoints: &[EndpointEntry], layout: &Layout, barred: u32) -> Vec<Capacity> {
    let mut all = vec![Capacity::default(); layout.groups().len()];
    for (at, entry) in (0u32..).zip(endpoints) {
        let Some(group) = all.get_mut(layout.group_of(at) as usize) else { continue };
        let weight = weight(entry);
        if could_be_ready(entry) {
            group.all += weight;
        }
        let can = weight * ramped(&entry.cell);
        if entry.cell.takes(BARRED, 0) {
            group.ready += can;
        }
        if entry.cell.takes(barred, 0) {
            group.served += can;
        }
    }
    all
}

/// Whether the groups together can take all requests without an endpoint that is set aside.
pub(super) fn absorbs(endpoints: &[EndpointEntry], layout: &Layout) -> bool {
    let capacities = capacities(endpoints, layout, BARRED);
    healths(layout.groups(), &capacities, |one| one.ready).iter().sum::<f64>() >= 1.0
}

/// The health of each priority, 0 to 1.
fn healths(groups: &[Group], of: &[Capacity], ready: impl Fn(&Capacity) -> f64) -> [f64; PRIORITIES] {
    let mut sums = [(0.0, 0.0); PRIORITIES];
    for (group, capacity) in groups.iter().zip(of) {
        if let Some(sum) = sums.get_mut(usize::from(group.priority)) {
            *sum = (sum.0 + capacity.all, sum.1 + ready(capacity));
        }
    }
    sums.map(|(all, ready)| if all > 0.0 { (OVERPROVISIONING * ready / all).min(1.0) } else { 0.0 })
}

/// The share of the requests that each priority gets: what those before cannot take, up to its own health. Where all together cannot
/// take everything, each takes more in proportion.
fn loads(healths: [f64; PRIORITIES]) -> Option<[f64; PRIORITIES]> {
    let total: f64 = healths.iter().sum();
    if total <= LEAST {
        return None;
    }
    let scale = total.min(1.0);
    let mut left = 1.0;
    Some(healths.map(|health| {
        let load = (health / scale).min(left);
        left -= load;
        load
    }))
}

/// The share of each group.
pub(super) fn shares(layout: &Layout, capacities: &[Capacity]) -> Vec<f64> {
    let groups = layout.groups();
    let mut shares = vec![0.0; groups.len()];
    let loads = loads(healths(groups, capacities, |one| one.ready))
        .or_else(|| loads(healths(groups, capacities, |one| one.served)));
    let Some(loads) = loads else { return shares };
    for (priority, load) in (0u8..).zip(loads).filter(|(_, load)| *load > LEAST) {
        let of = |group: &Group| group.priority == priority;
        let zones: Vec<Zone> = groups
            .iter()
            .zip(capacities)
            .filter(|(group, _)| of(group))
            .map(|(group, capacity)| Zone {
                is_local: group.kind == Some(ZoneKind::Local),
                is_named: group.zone.is_some(),
                ready: capacity.served,
            })
            .collect();
        let places = shares.iter_mut().zip(groups).filter(|(_, group)| of(group));
        for ((share, _), part) in places.zip(split(&zones, layout.zone_share)) {
            *share = load * part;
        }
    }
    shares
}

/// A zone of one priority.
#[derive(Debug, Clone, Copy)]
struct Zone {
    is_local: bool,
    /// Routers stand in it as well.
    is_named: bool,
    ready: f64,
}

/// The part of a priority's requests that each of its zones gets.
fn split(zones: &[Zone], own_share: Option<f64>) -> Vec<f64> {
    let total: f64 = zones.iter().map(|zone| zone.ready).sum();
    if total <= LEAST {
        return vec![0.0; zones.len()];
    }
    if !zones.iter().any(|zone| zone.is_local) {
        return zones.iter().map(|zone| zone.ready / total).collect();
    }
    let named = zones.iter().filter(|zone| zone.is_named).count().max(1) as f64;
    let own = own_share.unwrap_or(1.0 / named);
    // What routers of each other zone bring in.
    let other = if named > 1.0 { (1.0 - own) / (named - 1.0) } else { 0.0 };
    let local: f64 = zones.iter().filter(|zone| zone.is_local).map(|zone| zone.ready / total / own).sum();
    let local = local.min(1.0);
    let spare = |zone: &Zone| {
        let brought_in = if zone.is_named { other } else { 0.0 };
        if zone.is_local { 0.0 } else { (zone.ready / total - brought_in).max(0.0) }
    };
    let spares: f64 = zones.iter().map(spare).sum();
    let away: f64 = zones.iter().filter(|zone| !zone.is_local).map(|zone| zone.ready).sum();
    // A hair of rounding is no reason to open connections to another zone.
    let local = if 1.0 - local < 1e-6 || away <= LEAST { 1.0 } else { local };
    zones
        .iter()
        .map(|zone| match zone {
            Zone { is_local: true, .. } => local,
            _ if spares > LEAST => (1.0 - local) * spare(zone) / spares,
            _ if away > LEAST => (1.0 - local) * zone.ready / away,
            _ => 0.0,
        })
        .collect()
}

#[cfg(test)]
mod tests;
