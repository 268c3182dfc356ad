//! What DNS answers mean: names to endpoints, with the last records kept through every kind of failure.
//!
//! Pure: answers come in, endpoints go out. Without an id each record is an endpoint `NAME/ADDRESS`; with an id the
//! name is one endpoint that keeps its address while the answer still holds it. Records of services (SRV, RFC 2782) are endpoints with
//! ports and weights of their own, and those of each priority a group.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ekiden_config::address::SERVICE;
use ekiden_config::model::{Address, DnsEndpoint, Endpoint, EndpointTags, Owner};
use ekiden_config::names::{EndpointId, NAME_MAX};

use super::{Answer, RECORDS_MAX, ResolveError, Service};
use crate::fnv;
use crate::overlay::ClusterKey;
use crate::placement::discovered::is_keys;
use crate::placement::part::State;
use crate::placement::removals::{Removals, Rules};
use crate::status::SourceStatus;

/// Shortest wait before asking again.
const ASK_MIN: Duration = Duration::from_secs(1);
/// Longest wait before asking again after an answer.
const ASK_MAX: Duration = Duration::from_secs(300);
/// Longest wait before asking again after a failure.
const RETRY_MAX: Duration = Duration::from_secs(30);
/// Most of an endpoint's weight.
const WEIGHT_MAX: u32 = 1000;
/// The last group of a cluster.
const GROUP_MAX: u8 = 7;

/// What is known of one name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// The last addresses, sorted.
    pub(crate) addresses: BTreeSet<IpAddr>,
    /// The last services, sorted.
    pub(crate) services: BTreeSet<Service>,
    /// Failures since the last answer.
    pub(crate) failures: u32,
    /// Why the last question failed, and since when (milliseconds since the Unix epoch).
    pub(crate) failing: Option<(String, u64)>,
    removals: Removals<IpAddr>,
    services_removals: Removals<Service>,
    /// When an answer came last.
    heard_ms: Option<u64>,
}

impl Known {
    /// Nothing is known of it.
    pub(crate) fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.services.is_empty()
    }

    /// The records that are kept though the answer has them no longer.
    pub(crate) fn held(&self) -> Vec<String> {
        let addresses = self.removals.held().into_iter().flat_map(|held| &held.gone);
        let services = self.services_removals.held().into_iter().flat_map(|held| &held.gone);
        let services = services.map(|service| service.address.to_string());
        addresses.map(ToString::to_string).chain(services).collect()
    }

    /// Since when the newest of them are.
    fn held_since_ms(&self) -> Option<u64> {
        let addresses = self.removals.held().map(|held| held.since_ms);
        addresses.into_iter().chain(self.services_removals.held().map(|held| held.since_ms)).max()
    }

    fn held_until_ms(&self) -> Option<u64> {
        let addresses = self.removals.held().map(|held| held.until_ms);
        addresses.into_iter().chain(self.services_removals.held().map(|held| held.until_ms)).min()
    }

    /// For people and the API.
    pub(crate) fn status(&self) -> SourceStatus {
        let held = self.held();
        let state = match &self.failing {
            _ if !held.is_empty() => State::Held.word(),
            Some(_) => "failing",
            None => State::Live.word(),
        };
        SourceStatus {
            state,
            endpoints: self.addresses.len() + self.services.len(),
            held,
            held_until_unix_ms: self.held_until_ms(),
            expired: Vec::new(),
            error: self.failing.as_ref().map(|(why, _)| why.clone()),
            heard_unix_ms: self.heard_ms,
        }
    }
}

/// What an answer changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Absorbed {
    /// The records are others than before.
    pub(crate) changed: bool,
    /// The name began to fail, or failed again; the text says why.
    pub(crate) failed: Option<String>,
    /// The name answers again after failing.
    pub(crate) recovered: bool,
    /// Records that the answer has no longer and that are kept: so many of them, and they were not kept before.
    pub(crate) held: Option<usize>,
}

/// All names of the table in force, and the addresses chosen for names with an id.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names {
    known: BTreeMap<Arc<str>, Known>,
    chosen: BTreeMap<(ClusterKey, EndpointId), IpAddr>,
}

impl Names {
    /// Starts from what an earlier process knew.
    pub(crate) fn remember(
        &mut self,
        known: impl IntoIterator<Item = (Arc<str>, BTreeSet<IpAddr>, BTreeSet<Service>)>,
        chosen: impl IntoIterator<Item = ((ClusterKey, EndpointId), IpAddr)>,
    ) {
        let fresh = known
            .into_iter()
            .map(|(name, addresses, services)| (name, Known { addresses, services, ..Known::default() }));
        self.known.extend(fresh);
        self.chosen.extend(chosen);
    }

    /// Everything known, by name.
    pub(crate) fn known(&self) -> impl Iterator<Item = (&Arc<str>, &Known)> {
        self.known.iter()
    }

    /// The addresses chosen for names with an id.
    pub(crate) fn chosen(&self) -> impl Iterator<Item = (&(ClusterKey, EndpointId), &IpAddr)> {
        self.chosen.iter()
    }

    /// Forgets names that no cluster holds any more. `has` says whether a cluster has a name with this id.
    pub(crate) fn retain(
        &mut self,
        names: &BTreeSet<Arc<str>>,
        has: impl Fn(&ClusterKey, &EndpointId) -> bool,
    ) {
        self.known.retain(|name, _| names.contains(name));
        self.chosen.retain(|(place, id), _| has(place, id));
    }

    /// Takes an answer or a failure in.
    pub(crate) fn absorb(
        &mut self,
        name: &Arc<str>,
        answer: Result<Answer, ResolveError>,
        rules: Rules,
        now_ms: u64,
    ) -> Absorbed {
        let known = self.known.entry(Arc::clone(name)).or_default();
        let answer = match answer {
            Ok(answer) if answer.addresses.is_empty() && answer.services.is_empty() => {
                Err(ResolveError::NoAddress)
            }
            other => other,
        };
        match answer {
            Ok(answer) => {
                let mut addresses: BTreeSet<IpAddr> =
                    answer.addresses.into_iter().map(|address| address.to_canonical()).collect();
                if let Some(family) = answer.unknown {
                    addresses.extend(known.addresses.iter().filter(|address| family.holds(address)));
                }
                let mut services: BTreeSet<Service> = answer.services.into_iter().collect();
                bounded(&mut addresses);
                bounded(&mut services);
                let was_held = known.held().len();
                let mut changed =
                    replace(&mut known.addresses, addresses, &mut known.removals, rules, now_ms);
                changed |=
                    replace(&mut known.services, services, &mut known.services_removals, rules, now_ms);
                let held = Some(known.held().len()).filter(|held| *held > 0 && was_held == 0);
                let recovered = known.failing.take().is_some();
                known.failures = 0;
                known.heard_ms = Some(now_ms);
                Absorbed { changed, failed: None, recovered, held }
            }
            Err(error) => {
                let why = error.to_string();
                let since = known.failing.as_ref().map_or(now_ms, |(_, since)| *since);
                known.failing = Some((why.clone(), since));
                known.failures = known.failures.saturating_add(1);
                Absorbed { changed: false, failed: Some(why), recovered: false, held: None }
            }
        }
    }

    /// Since when something of a name is held.
    pub(crate) fn held_since_ms(&self, name: &str) -> Option<u64> {
        self.known.get(name)?.held_since_ms()
    }

    /// A person says that what a name has no longer may go; whether anything waited for that.
    pub(crate) fn confirm(&mut self, name: &str, now_ms: u64) -> bool {
        let Some(known) = self.known.get_mut(name) else { return false };
        let addresses = known.removals.confirm(known.addresses.len(), now_ms);
        let services = known.services_removals.confirm(known.services.len(), now_ms);
        known.addresses.retain(|one| !addresses.as_ref().is_some_and(|gone| gone.contains(one)));
        known.services.retain(|one| !services.as_ref().is_some_and(|gone| gone.contains(one)));
        addresses.is_some() || services.is_some()
    }

    /// Lets go what was held for its time; answers with the names.
    pub(crate) fn release(&mut self, rules: Rules, now_ms: u64) -> Vec<Arc<str>> {
        let mut released = Vec::new();
        for (name, known) in &mut self.known {
            let over = known.held_until_ms().is_some_and(|until_ms| now_ms >= until_ms);
            if over {
                let addresses = without(&known.addresses, &known.removals);
                let services = without(&known.services, &known.services_removals);
                replace(&mut known.addresses, addresses, &mut known.removals, rules, now_ms);
                replace(&mut known.services, services, &mut known.services_removals, rules, now_ms);
                released.push(Arc::clone(name));
            }
        }
        released
    }

    /// When something that is held may go.
    pub(crate) fn due_ms(&self) -> Option<u64> {
        self.known.values().filter_map(Known::held_until_ms).min()
    }

    /// The endpoints that a cluster's names in DNS stand for now; `groups` says whether it has standbys by priority. Remembers the address
    /// chosen for a name with an id.
    pub(crate) fn expand(
        &mut self,
        place: &ClusterKey,
        names: &[DnsEndpoint],
        groups: bool,
    ) -> Vec<Arc<Endpoint>> {
        let mut endpoints = Vec::new();
        let nothing = Known::default();
        for name in names {
            if is_keys(&name.name) {
                continue;
            }
            let known = self.known.get(&name.name).unwrap_or(&nothing);
            if let Some(plain) = name.name.strip_prefix(SERVICE) {
                endpoints.extend(services(plain, &known.services, name, groups));
                continue;
            }
            let addresses = &known.addresses;
            match &name.id {
                None => endpoints.extend(addresses.iter().filter_map(|address| {
                    let socket = SocketAddr::new(*address, name.port);
                    Some(endpoint(record_id(&name.name, socket)?, socket, name))
                })),
                Some(id) => {
                    let slot = (place.clone(), id.clone());
                    let kept = self.chosen.get(&slot).filter(|kept| addresses.contains(kept)).copied();
                    if let Some(address) = kept.or_else(|| addresses.first().copied()) {
                        self.chosen.insert(slot, address);
                        endpoints.push(endpoint(id.clone(), SocketAddr::new(address, name.port), name));
                    }
                }
            }
        }
        endpoints
    }
}

fn bounded<T: Ord>(records: &mut BTreeSet<T>) {
    while records.len() > RECORDS_MAX {
        records.pop_last();
    }
}

/// Puts new records in the place of old ones, as far as that may be; whether anything differs.
fn replace<T: Ord + Clone>(
    records: &mut BTreeSet<T>,
    mut new: BTreeSet<T>,
    removals: &mut Removals<T>,
    rules: Rules,
    now_ms: u64,
) -> bool {
    let gone: BTreeSet<T> = records.difference(&new).cloned().collect();
    let added = new.difference(records).count();
    let waited = removals.held().map(|held| held.gone.clone()).unwrap_or_default();
    if !removals.judge(rules, (records.len(), added), &gone, now_ms) {
        // The answer first, then what served before it; answers that rotate make no more of it.
        let (first, then): (Vec<T>, Vec<T>) = gone.into_iter().partition(|one| waited.contains(one));
        let kept: BTreeSet<T> =
            first.into_iter().chain(then).take(RECORDS_MAX.saturating_sub(new.len())).collect();
        removals.narrow(&kept);
        new.extend(kept);
    }
    let differs = *records != new;
    *records = new;
    differs
}

/// The records that are not merely kept.
fn without<T: Ord + Clone>(records: &BTreeSet<T>, removals: &Removals<T>) -> BTreeSet<T> {
    let held = removals.held();
    records.iter().filter(|one| !held.is_some_and(|held| held.gone.contains(one))).cloned().collect()
}

/// The endpoints of a service. Those of its most preferred priority are of the group that the name has, those of each further one of
/// the group after that; the last group takes in what is left. Without groups the most preferred ones are all there are: where keys
/// decide, no endpoint is a standby of others.
fn services(plain: &str, all: &BTreeSet<Service>, name: &DnsEndpoint, groups: bool) -> Vec<Arc<Endpoint>> {
    let priorities: BTreeSet<u16> = all.iter().map(|service| service.priority).collect();
    let priorities = priorities.into_iter().take(if groups { usize::MAX } else { 1 });
    // Two targets may have one address: that of the more preferred one counts.
    let mut by_id: BTreeMap<EndpointId, Arc<Endpoint>> = BTreeMap::new();
    for (rank, priority) in priorities.enumerate() {
        let rank = u8::try_from(rank).unwrap_or(GROUP_MAX);
        let group = name.priority.saturating_add(rank).min(GROUP_MAX);
        for one in of_priority(plain, all, priority, name) {
            by_id.entry(one.id.clone()).or_insert_with(|| Arc::new(Endpoint { priority: group, ..one }));
        }
    }
    by_id.into_values().collect()
}

/// The endpoints of one priority of a service. Weights of DNS go to 65,535, those of endpoints to 1,000, and one of 0 is a very
/// small one (RFC 2782).
fn of_priority<'a>(
    plain: &'a str,
    all: &'a BTreeSet<Service>,
    priority: u16,
    name: &'a DnsEndpoint,
) -> impl Iterator<Item = Endpoint> + 'a {
    let these = move || all.iter().filter(move |service| service.priority == priority);
    let most = these().map(|service| u32::from(service.weight)).max().unwrap_or(0);
    these().filter_map(move |service| {
        let weight = match u32::from(service.weight) {
            _ if most == 0 => 1,
            weight if most <= WEIGHT_MAX => weight.max(1),
            weight => (weight * WEIGHT_MAX / most).max(1),
        };
        let one = endpoint(record_id(plain, service.address)?, service.address, name);
        let tags = tags(&service.target, name);
        Some(Endpoint { weight: u16::try_from(weight).unwrap_or(1), tags, ..Endpoint::clone(&one) })
    })
}

fn endpoint(id: EndpointId, address: SocketAddr, name: &DnsEndpoint) -> Arc<Endpoint> {
    Arc::new(Endpoint {
        id,
        address: Address::Tcp(address),
        tags: tags(&name.name, name),
        weight: name.weight,
        priority: name.priority,
        drain: false,
        owner: Owner::Source,
    })
}

fn tags(dns_name: &Arc<str>, name: &DnsEndpoint) -> Option<Arc<EndpointTags>> {
    EndpointTags { dns_name: Some(Arc::clone(dns_name)), zone: name.zone.clone(), release: None }.shared()
}

/// `NAME/ADDRESS`; a name too long for an id is cut and marked with its hash, so that two of them stay apart.
fn record_id(name: &str, address: SocketAddr) -> Option<EndpointId> {
    let plain = format!("{name}/{address}");
    if plain.len() <= NAME_MAX {
        return EndpointId::new(&plain).ok();
    }
    let cut: String = name.chars().take(NAME_MAX / 2 - 1).collect();
    EndpointId::new(&format!("{cut}~{}/{address}", fnv::hex_of(name.as_bytes()))).ok()
}

/// How long to wait before asking again: the TTL within bounds, or a growing pause after failures.
pub(crate) fn next_ask(answer: &Result<Answer, ResolveError>, failures: u32) -> Duration {
    match answer {
        Ok(answer) if !answer.is_empty() => answer.ttl.clamp(ASK_MIN, ASK_MAX),
        Ok(_) | Err(_) => {
            let pause = ASK_MIN.saturating_mul(1 << failures.saturating_sub(1).min(8));
            pause.min(RETRY_MAX)
        }
    }
}
