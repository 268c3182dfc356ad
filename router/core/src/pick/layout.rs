//! How the endpoints of a cluster are told apart before one is picked: by priority, by zone, and by what this router's subset holds.
//!
//! Made with the table, and none where all endpoints are alike to this router; knows nothing of readiness, which decides what share
//! of requests a group gets (see [`super::parts`]).

use std::collections::BTreeSet;
use std::sync::Arc;

use ekiden_config::model::{Cluster, Endpoint, PRIORITY_MAX};

use super::subset::{self, Seat};

/// Priority groups at most.
pub const PRIORITIES: usize = PRIORITY_MAX as usize + 1;

/// Where this router stands.
#[derive(Debug, Clone)]
pub struct Stand {
    /// Its zone.
    pub zone: Option<Arc<str>>,
    /// Requests of all routers that come in by those of its zone, 0 to 1; none means as many as by those of any other.
    pub zone_share: Option<f64>,
    /// Its seat among routers like it.
    pub seat: Seat,
}

impl Default for Stand {
    fn default() -> Self {
        Self { zone: None, zone_share: None, seat: Seat::of("") }
    }
}

/// Whether a zone is this router's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ZoneKind {
    /// It is.
    Local,
    /// It is not, or is not known.
    Spilled,
}

impl ZoneKind {
    /// Both.
    pub const ALL: [ZoneKind; 2] = [ZoneKind::Local, ZoneKind::Spilled];

    /// The word in metrics.
    pub const fn word(self) -> &'static str {
        match self {
            ZoneKind::Local => "local",
            ZoneKind::Spilled => "spilled",
        }
    }
}

/// Endpoints among which the picker chooses freely.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its priority.
    pub priority: u8,
    /// Its zone, where zones count in its priority.
    pub zone: Option<Arc<str>>,
    /// Whether it is this router's own; none where zones do not count.
    pub kind: Option<ZoneKind>,
}

/// The groups of a cluster.
#[derive(Debug)]
pub struct Layout {
    /// Sorted by priority, then by zone.
    groups: Box<[Group]>,
    /// The group of each endpoint.
    of: Box<[u32]>,
    /// The endpoints of each group, by their indexes.
    members: Box<[Vec<u32>]>,
    /// Whether it is in the subset; empty where all are.
    held: Box<[bool]>,
    /// Requests that come in by routers of this zone, where that is written.
    pub(super) zone_share: Option<f64>,
}

impl Layout {
    /// The groups of a cluster; none where this router makes no difference between endpoints. O(endpoints), and with a subset the
    /// cost of that.
    pub fn new(cluster: &Cluster, stand: &Stand) -> Option<Self> {
        let endpoints = &cluster.endpoints;
        let first = endpoints.first()?;
        let is_zoned = stand.zone.is_some()
            && endpoints.iter().any(|endpoint| endpoint.zone() == stand.zone.as_ref())
            && endpoints.iter().any(|endpoint| endpoint.zone() != stand.zone.as_ref());
        let is_split = endpoints.iter().any(|endpoint| endpoint.priority != first.priority);
        let subset = cluster.policy.subset.filter(|size| (*size as usize) < endpoints.len());
        if !is_zoned && !is_split && subset.is_none() {
            return None;
        }
        let zoned: BTreeSet<u8> = if is_zoned { zoned(endpoints, stand) } else { BTreeSet::new() };
        let place = |endpoint: &Endpoint| {
            let zone = zoned.contains(&endpoint.priority).then(|| endpoint.zone().cloned());
            (endpoint.priority, zone)
        };
        let places: BTreeSet<_> = endpoints.iter().map(|endpoint| place(endpoint)).collect();
        let places: Vec<_> = places.into_iter().collect();
        let of = endpoints.iter().map(|endpoint| {
            let at = places.binary_search(&place(endpoint)).unwrap_or(0);
            u32::try_from(at).unwrap_or(0)
        });
        let of: Box<[u32]> = of.collect();
        let groups = places.into_iter().map(|(priority, zone)| Group {
            priority,
            kind: zone
                .as_ref()
                .map(|zone| if *zone == stand.zone { ZoneKind::Local } else { ZoneKind::Spilled }),
            zone: zone.flatten(),
        });
        let groups: Box<[Group]> = groups.collect();
        let mut members = vec![Vec::new(); groups.len()];
        for (endpoint, group) in (0u32..).zip(&of) {
            if let Some(list) = members.get_mut(*group as usize) {
                list.push(endpoint);
            }
        }
        let held = subset.map_or_else(Box::default, |size| held(endpoints, &members, size, stand.seat));
        Some(Self { groups, of, members: members.into(), held, zone_share: stand.zone_share })
    }

    /// The groups, sorted by priority.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The number of an endpoint's group.
    #[inline]
    pub fn group_of(&self, endpoint: u32) -> u32 {
        self.of.get(endpoint as usize).copied().unwrap_or(0)
    }

    /// The endpoints of a group, in the order of their indexes.
    pub fn members(&self, group: u32) -> &[u32] {
        self.members.get(group as usize).map_or(&[], Vec::as_slice)
    }

    /// Whether an endpoint is in this router's subset. Without one all are.
    #[inline]
    pub fn holds(&self, endpoint: u32) -> bool {
        self.held.get(endpoint as usize).copied().unwrap_or(true)
    }

    /// Endpoints of the subset; none where there is none.
    pub fn subset_len(&self) -> Option<usize> {
        (!self.held.is_empty()).then(|| self.held.iter().filter(|held| **held).count())
    }

    /// Whether endpoints have priorities.
    pub fn has_priorities(&self) -> bool {
        self.groups.first().map(|group| group.priority) != self.groups.last().map(|group| group.priority)
    }

    /// Whether zones count.
    pub fn has_zones(&self) -> bool {
        self.groups.iter().any(|group| group.kind.is_some())
    }
}

/// Priorities in which there is an endpoint of this router's zone and one that is not: elsewhere zones make no difference.
fn zoned(endpoints: &[Arc<Endpoint>], stand: &Stand) -> BTreeSet<u8> {
    let of = |own: bool| -> BTreeSet<u8> {
        let found = endpoints.iter().filter(|endpoint| (endpoint.zone() == stand.zone.as_ref()) == own);
        found.map(|endpoint| endpoint.priority).collect()
    };
    of(true).intersection(&of(false)).copied().collect()
}

/// A subset of each group, so that what spills finds one too.
fn held(endpoints: &[Arc<Endpoint>], groups: &[Vec<u32>], size: u32, seat: Seat) -> Box<[bool]> {
    let mut held = vec![false; endpoints.len()];
    for members in groups {
        let places = || members.iter().map(|at| *at as usize);
        let ids = places().filter_map(|at| endpoints.get(at)).map(|endpoint| endpoint.id.as_str());
        for (at, own) in places().zip(subset::members(ids, size as usize, seat)) {
            if let Some(place) = held.get_mut(at) {
                *place = own;
            }
        }
    }
    held.into()
}
