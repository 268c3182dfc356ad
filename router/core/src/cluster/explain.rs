//! Where a request would go now, and why: the endpoints of a cluster as a pick sees them. Draws nothing, counts nothing and moves no
//! cursor. For people, not for workers.

use ekiden_config::doors::{Destination, EXPLAINED_ENDPOINTS_MAX, EndpointStory, GroupStory, KeyStory};
use ekiden_config::model::{Balance, ShardKind};
use ekiden_config::names::EndpointId;

use super::{Affine, ClusterTable, EndpointEntry, Pick};
use crate::pick::Attempt;
use crate::pick::layout::Layout;
use crate::pick::ready::ReadySet;
use crate::shard::pick::{self as shard_pick, Ask};
use crate::shard::{Key, Shards};

/// What an explanation knows of the shard key of a request.
#[derive(Debug, Clone, Copy)]
pub enum Keyed<'a> {
    /// No key decides, or the request has none and goes where the balance says.
    No,
    /// It has this one.
    Key(&'a [u8]),
    /// It has none, and is refused.
    Refused,
    /// Its client carries the mark of this endpoint.
    Marked(u32),
}

impl ClusterTable {
    /// Where a request goes that no endpoint has been tried for.
    pub fn explain(&self, keyed: Keyed<'_>) -> Destination {
        let ready = self.ready.load();
        let mut endpoints: Vec<EndpointStory> =
            self.endpoints.iter().map(|entry| story(entry, ready.barred())).collect();
        match self.layout() {
            Some(layout) => share_out(&mut endpoints, layout, &ready),
            None => whole(&mut endpoints),
        }
        let (key, pick) = match (self.shards(), keyed) {
            (Some(shards), Keyed::Key(text)) => {
                let key = Key::new(text);
                (Some(key_story(shards, &self.endpoints, key)), Some(self.peek(shards, key)))
            }
            (None, _) | (_, Keyed::No | Keyed::Refused | Keyed::Marked(_)) => (None, None),
        };
        let mut open = endpoints.iter().filter(|one| one.eligible);
        let only = match (open.next(), open.next()) {
            (Some(only), None) => Some(only.id.clone()),
            _ => None,
        };
        let none = only.is_none() && !endpoints.iter().any(|one| one.eligible);
        let (endpoint, reason) = match (&pick, &key) {
            _ if matches!(keyed, Keyed::Refused) => {
                (None, "the request has no shard key, and is refused".to_owned())
            }
            (Some(peek), Some(key)) => self.by_key(*peek, key),
            _ if let Keyed::Marked(at) = keyed
                && self.affine(at, Attempt::after(&[])) == Affine::Takes =>
            {
                (
                    self.endpoint(at).map(|entry| entry.endpoint.id.clone()),
                    "its client's mark names it".to_owned(),
                )
            }
            _ if none => (None, self.why_none()),
            _ if only.is_some() => (only, "the only one that may get it".to_owned()),
            _ => {
                let words = balance_words(self.cluster.policy.balance);
                let grouped = self.layout().map_or("", |_| ", of the group that is drawn by its share");
                (None, format!("{words}{grouped}"))
            }
        };
        let endpoints_omitted = endpoints.len().saturating_sub(EXPLAINED_ENDPOINTS_MAX);
        endpoints.truncate(EXPLAINED_ENDPOINTS_MAX);
        Destination {
            cluster: self.cluster.name.clone(),
            split: None,
            picker: self.picker(&pick),
            key,
            endpoint,
            reason,
            groups: self.groups(),
            endpoints,
            endpoints_omitted,
        }
    }

    /// How requests without a key are shared out among groups of endpoints; empty where all are one group. Not for workers.
    pub fn groups(&self) -> Vec<GroupStory> {
        let Some(layout) = self.layout() else { return Vec::new() };
        let ready = self.ready.load();
        let shares = ready.shares().unwrap_or_default();
        let share = |number: u32| {
            shares.iter().find(|(group, ..)| *group == number).map_or(0.0, |(_, share, _)| *share)
        };
        let ready_of = |number: u32| {
            let open = || layout.members(number).iter().filter(|at| ready.has(**at));
            match open().filter(|at| layout.holds(**at)).count() {
                // Nothing of the subset is ready: any other will do.
                0 => open().count(),
                held => held,
            }
        };
        (0u32..)
            .zip(layout.groups())
            .map(|(number, group)| GroupStory {
                priority: group.priority,
                zone: group.zone.clone(),
                kind: group.kind.map(|kind| kind.word()),
                share: share(number),
                endpoints: layout.members(number).len(),
                ready: ready_of(number),
            })
            .collect()
    }

    /// The share of each group by its number. Not for workers.
    pub fn group_shares(&self) -> Vec<f64> {
        self.groups().iter().map(|group| group.share).collect()
    }

    /// What [`ClusterTable::pick_shard`] would say; the key is not counted as asked for. Where one of two replicas is drawn, nothing
    /// is certain.
    fn peek(&self, shards: &Shards, key: Key<'_>) -> Peek {
        let all: u64 = self.cell.shards().iter().map(|shard| shard.in_flight.value()).sum();
        let in_flight = || all;
        let ask = Ask { key, attempt: Attempt::after(&[]), worker: 0, in_flight: &in_flight };
        let mut drawn = false;
        let mut random = || {
            drawn = true;
            0
        };
        let pick = shard_pick::peek(shards, &self.endpoints, &self.ready.load(), &ask, &mut random);
        Peek { pick, drawn }
    }

    fn by_key(&self, peek: Peek, key: &KeyStory) -> (Option<EndpointId>, String) {
        let id = |at: u32| self.endpoint(at).map(|entry| entry.endpoint.id.clone());
        match peek.pick {
            Pick::Endpoint(_) if peek.drawn => {
                (None, format!("the less busy of two of the key's {} replicas", key.replicas))
            }
            Pick::Endpoint(at) => {
                let id = id(at);
                let place = key.order.iter().position(|one| Some(one) == id.as_ref());
                let reason = match place {
                    Some(0) => "the owner of its key".to_owned(),
                    Some(place) => {
                        format!(
                            "number {} in the order of its key: those before may not get it now",
                            place + 1
                        )
                    }
                    None => "those before it in the order of its key may not get it now".to_owned(),
                };
                (id, reason)
            }
            Pick::NoEndpoints => (None, "the cluster has no endpoints".to_owned()),
            Pick::NoneReady | Pick::Exhausted => (None, self.why_none()),
            Pick::ShardDown => {
                (None, "no endpoint of its key may get it, and no other may stand in".to_owned())
            }
            Pick::ShardStarting => {
                (None, "it waits: an endpoint of its key awaits its first check".to_owned())
            }
        }
    }

    fn why_none(&self) -> String {
        let text = if self.endpoints.is_empty() {
            "the cluster has no endpoints"
        } else if self.first_check_pending() {
            "it waits: the first check of an endpoint is outstanding"
        } else if self.cluster.policy.slots.is_some() && self.ready_count() > 0 {
            "it waits for a slot: every one is taken"
        } else {
            "no endpoint is ready"
        };
        text.to_owned()
    }

    fn picker(&self, by_key: &Option<Peek>) -> String {
        let balance = match self.cluster.policy.balance {
            Balance::P2c => "p2c",
            Balance::RoundRobin => "round_robin",
            Balance::LeastRequest => "least_request",
            Balance::Random => "random",
            Balance::PeakEwma => "peak_ewma",
            Balance::Prequal => "prequal",
        };
        if self.marks().is_some() {
            return format!("affinity, else {balance}");
        }
        match (self.shards(), by_key) {
            (Some(shards), Some(_)) => format!("shard ({})", shards.words.algorithm.word()),
            (Some(_), None) => format!("{balance}, without a shard key"),
            (None, _) => balance.to_owned(),
        }
    }
}

/// What a pick by key gives, and whether it drew.
#[derive(Debug, Clone, Copy)]
struct Peek {
    pick: Pick,
    drawn: bool,
}

fn balance_words(balance: Balance) -> &'static str {
    match balance {
        Balance::P2c => "the less busy of two, drawn by weight",
        Balance::RoundRobin => "the next in turn, by weight",
        Balance::LeastRequest => "the least busy by weight; the first of a draw where several are",
        Balance::Random => "one drawn by weight",
        Balance::PeakEwma => "the one of two, drawn by weight, from which an answer is expected sooner",
        Balance::Prequal => "the best by the last reports of load; without two of them as peak_ewma",
    }
}

/// Shares of one group.
fn whole(endpoints: &mut [EndpointStory]) {
    let weights: f64 = endpoints.iter().map(|one| one.share).sum();
    endpoints.iter_mut().filter(|_| weights > 0.0).for_each(|one| one.share /= weights);
}

/// Shares of several: each group's own, shared out among its members.
fn share_out(endpoints: &mut [EndpointStory], layout: &Layout, ready: &ReadySet) {
    for (at, one) in (0u32..).zip(endpoints.iter_mut()) {
        one.in_subset = layout.holds(at);
    }
    let Some(parts) = ready.shares() else { return whole(endpoints) };
    let mut shares = vec![0.0; endpoints.len()];
    for (_, share, set) in parts {
        let members = || (0u32..).zip(endpoints.iter()).filter(|(at, _)| set.has(*at));
        let weights: f64 = members().map(|(_, one)| one.share).sum();
        for (at, one) in members().filter(|_| weights > 0.0) {
            if let Some(place) = shares.get_mut(at as usize) {
                *place = share * one.share / weights;
            }
        }
    }
    endpoints.iter_mut().zip(shares).for_each(|(one, share)| one.share = share);
}

fn story(entry: &EndpointEntry, barred: u32) -> EndpointStory {
    let status = entry.cell.status();
    let eligible = entry.cell.takes_now(barred, 0);
    let weight = entry.endpoint.weight.max(1);
    EndpointStory {
        id: status.id,
        address: entry.endpoint.address.to_string(),
        state: status.state,
        reason: status.reason,
        in_flight: status.in_flight,
        weight: entry.endpoint.weight,
        zone: entry.endpoint.zone().cloned(),
        priority: entry.endpoint.priority,
        in_subset: true,
        eligible,
        share: if eligible { f64::from(weight) * entry.cell.ramp() } else { 0.0 },
    }
}

/// Endpoints of a key's order that are told at least.
const ORDER_LEAST: usize = 3;

fn key_story(shards: &Shards, endpoints: &[EndpointEntry], key: Key<'_>) -> KeyStory {
    let words = &shards.words;
    let own = usize::from(words.replicas.max(1));
    let spread = match (&shards.hot, words.kind) {
        (Some(hot), ShardKind::Cache) => hot.spread_of(key.hash()).unwrap_or(own),
        (Some(_), ShardKind::Store) | (None, _) => own,
    };
    let replicas = spread.max(own);
    let order = shards.map.replicas(key, replicas.max(ORDER_LEAST));
    let ids = order.iter().filter_map(|at| Some(endpoints.get(*at as usize)?.endpoint.id.clone()));
    KeyStory {
        text: String::from_utf8_lossy(key.text()).into_owned(),
        hash: key.hash(),
        algorithm: words.algorithm.word(),
        position: shards.map.position(key),
        order: ids.collect(),
        replicas: replicas.min(endpoints.len()),
    }
}
